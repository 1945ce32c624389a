"""Runs that are spread over processes, or over machines by Dask."""

import argparse
import sys
from types import SimpleNamespace

import pytest

from tools import spread


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_order_with_what_they_are_of(jobs):
    assert list(spread.spread(abs, range(-2, 1), jobs)) == [(-2, 2), (-1, 1), (0, 0)]


def asked(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    spread.add_arguments(parser)
    return parser.parse_args(arguments)


def test_a_dask_scheduler_is_asked_for_its_workers(monkeypatch):
    assert spread.workers(asked()) == 1 and spread.workers(asked("--jobs", "3")) == 3
    told = []
    client = SimpleNamespace(ncores=lambda: {"one": 1, "two": 1})
    monkeypatch.setitem(sys.modules, "dask", SimpleNamespace())
    monkeypatch.setitem(
        sys.modules, "dask.distributed", SimpleNamespace(Client=lambda address: told.append(address) or client)
    )
    monkeypatch.setattr(spread, "parallel_config", lambda backend: told.append(backend))
    assert spread.workers(asked("--dask", "tcp://there:8786")) == 2
    assert told == ["tcp://there:8786", "dask"]
