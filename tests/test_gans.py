"""The generators that are stored in data/ are small and safe to load, fit their records and the notebook, and draw."""

import hashlib
import json

import pytest
import torch
from torch import nn

from tools import measure_tables
from tools.build import ROOT
from utils.models import UNet


@pytest.fixture(scope="module")
def lesson():
    return measure_tables.lesson("09")


@pytest.mark.parametrize("name", ["heads", "outlines"])
def test_a_stored_generator_is_the_one_of_its_record(name):
    file = ROOT / f"data/gan_{name}.pt"
    record = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    assert file.stat().st_size < 1_000_000
    assert hashlib.sha256(file.read_bytes()).hexdigest() == record["sha256"]
    assert torch.load(file, weights_only=True).keys() == record["parameters"].keys()


def test_the_stored_generator_draws_heads_that_differ_as_real_ones_do(lesson):
    generator = lesson.large_gan().average.module
    generator.load_state_dict(torch.load(ROOT / "data/gan_heads.pt", weights_only=True)["heads"])
    torch.manual_seed(0)
    drawn, real = lesson.sample(generator, torch.randn(200, 64)), lesson.draw_heads(200, seed=100)
    apart = [nn.functional.pdist(pictures.flatten(1)).mean() for pictures in (drawn, real)]
    assert drawn.shape == real.shape == (200, 3, 32, 32) and 0.8 < apart[0] / apart[1] < 1.2
    assert (drawn.mean(dim=(0, 2, 3)) - real.mean(dim=(0, 2, 3))).abs().max() < 0.15


def test_the_stored_generators_paint_outlines(lesson):
    pairs = lesson.draw_pairs(120, seed=100)
    for state in torch.load(ROOT / "data/gan_outlines.pt", weights_only=True).values():
        generator = nn.Sequential(UNet(3, in_channels=1), nn.Tanh())
        generator.load_state_dict(state)
        error = lesson.compared(generator, pairs)["error"]
        grey = (pairs[0] - pairs[0].mean()).abs().mean()
        assert error < grey
