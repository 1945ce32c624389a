"""utils.start(): one line, seeds, the style of figures."""

import os
import random
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

import utils
from tools.build import ROOT, code_cells, load


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


def test_a_gpu_is_asked_for_algorithms_that_repeat_and_not_to_fill_what_is_overwritten():
    code = """
import torch, utils
torch.accelerator.is_available = lambda: True
utils.seed_all(0)
print(torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory)"""
    assert fresh(code).stdout == "True False\n"


# ---- how long threads that wait for each other spin -------------------------------------------------------------------

SETUP = code_cells(load(ROOT / "tools/template.py"))[0].source


def fresh(code: str, **settings: str) -> subprocess.CompletedProcess:
    """A fresh process in the checkout, in which nothing is set but `settings` of what OpenMP reads."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment | settings, capture_output=True, text=True, check=True
    )


@pytest.mark.skipif(sys.platform != "linux", reason="GOMP_SPINCOUNT is for libgomp, which torch uses on Linux")
@pytest.mark.parametrize(
    "settings, spins",
    [({}, "10000"), ({"GOMP_SPINCOUNT": "77"}, "77"), ({"OMP_WAIT_POLICY": "PASSIVE"}, "0")],
)
def test_the_set_up_cell_sets_it_before_torch_reads_it_unless_the_user_has(settings, spins):
    said = fresh(SETUP, OMP_DISPLAY_ENV="verbose", **settings).stderr  # libgomp says what it has read, as it is loaded
    assert f"GOMP_SPINCOUNT = '{spins}'" in said, said
