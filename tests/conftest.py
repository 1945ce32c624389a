"""Tests see no COURSE_* setting of whoever runs them, except those that are marked `photos`, which need real ones.

Those and the ones that are marked `live`, which take many minutes, are skipped unless they are asked for; those that
are marked `gpu` run wherever an NVIDIA GPU is seen."""

import os
from pathlib import Path

import pytest

import utils  # noqa: F401 -- before torch, as in a notebook: threads then spin as they do there

ON_PHOTOS = os.environ.get("COURSE_DATA") == "photos"  # as `make test-photos` sets it


def pytest_collection_modifyitems(config, items):
    import torch  # not above, where it would come before utils

    # The quick tests first, then the slow ones, then notebooks.
    items.sort(key=lambda item: (item.path.suffix == ".ipynb", bool(item.get_closest_marker("slow"))))
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))
        if item.get_closest_marker("live") and config.option.markexpr != "live":
            item.add_marker(pytest.mark.skip(reason="runs whole notebooks for many minutes: make live"))
        if item.get_closest_marker("site") and config.option.markexpr != "site":
            item.add_marker(pytest.mark.skip(reason="drives the built site in a browser: make test-site"))
        if item.get_closest_marker("photos") and not ON_PHOTOS:
            item.add_marker(pytest.mark.skip(reason="needs real photos: make test-photos"))


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """The tests' networks are so small that two threads would wait for each other, the longer the busier it is."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def clean_environment(request, monkeypatch):
    if not request.node.get_closest_marker("photos"):
        for name in [name for name in os.environ if name.startswith("COURSE_")]:
            monkeypatch.delenv(name)


@pytest.fixture
def empty_checkout(tmp_path, monkeypatch) -> Path:
    """A checkout with an empty data/ and nothing attached: no photos are found, and no test writes to the real one."""
    (tmp_path / "checkout/data").mkdir(parents=True)
    monkeypatch.setattr("utils.datasets.cache.CHECKOUT", tmp_path / "checkout")
    monkeypatch.setattr("utils.datasets.photos.KAGGLE_INPUT", tmp_path / "kaggle")
    return tmp_path / "checkout"
