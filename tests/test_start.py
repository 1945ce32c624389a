"""utils.start(): one line, seeds, the style of figures."""

import random

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

import utils


def test_start_prints_one_line_and_seeds(monkeypatch, capsys):
    monkeypatch.setenv("COURSE_SEED", "7")
    picked = utils.start()
    first = torch.rand(1)
    line = capsys.readouterr().out
    assert line.count("\n") == 1 and "seed 7" in line and "data:" in line and picked.type.upper() in line
    drawn = random.random(), np.random.rand()
    plt.rcParams["font.size"] = 4
    utils.start(7)
    assert torch.equal(torch.rand(1), first) and (random.random(), np.random.rand()) == drawn
    assert plt.rcParams["font.size"] >= 12
    assert plt.rcParams["axes.prop_cycle"].by_key()["color"][0] == "#3f90da"  # of petroff10


@pytest.mark.parametrize("seed", ["x", "-1", "1.5", "²", "9" * 30])
def test_an_unusable_seed_gets_a_sentence(monkeypatch, seed):
    monkeypatch.setenv("COURSE_SEED", seed)
    with pytest.raises(ValueError, match="expected a whole number"):
        utils.start()
