"""utils.start(): one line, seeds, the style of figures."""

import importlib
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


def test_a_copy_of_main_says_how_old_it_is(monkeypatch, capsys, tmp_path):
    """One that was fetched a month ago may lack what a new notebook imports. A release never grows old."""
    for name, told in (("deep-learning-for-images-main", True), ("deep-learning-for-images-v1.0", False)):
        (tmp_path / name / ".git").mkdir(parents=True)
        (tmp_path / name / ".git/HEAD").touch()
        os.utime(tmp_path / name / ".git/HEAD", (0, 86_400 * 365))
        monkeypatch.setattr("utils.datasets.cache.CHECKOUT", tmp_path / name)
        utils.start()
        said = f"The course's files were fetched on 1971-01-01. For newer ones rename the folder {tmp_path / name}."
        assert (said in capsys.readouterr().out) is told


@pytest.mark.parametrize("seed", ["x", "-1", "1.5", "²", "9" * 30])
def test_an_unusable_seed_gets_a_sentence(monkeypatch, seed):
    monkeypatch.setenv("COURSE_SEED", seed)
    with pytest.raises(ValueError, match="expected a whole number"):
        utils.start()


@pytest.fixture(scope="module")
def fresh() -> subprocess.CompletedProcess:
    """The set-up cell in a fresh process, in which a GPU is then played, and nothing is set of what OpenMP reads."""
    code = (
        code_cells(load(ROOT / "tools/notebook_template.py"))[0].source
        + """
import torch
torch.accelerator.is_available = lambda: True
utils.seed_all(0)
print(torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory)"""
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    environment["OMP_DISPLAY_ENV"] = "verbose"  # libgomp says what it has read, as it is loaded
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)


def test_a_gpu_is_asked_for_algorithms_that_repeat_and_not_to_fill_what_is_overwritten(fresh):
    assert fresh.stdout.splitlines()[-1] == "True False"


@pytest.mark.skipif(sys.platform != "linux", reason="torch's OpenMP is libgomp on Linux only")
def test_the_set_up_cell_says_how_long_threads_spin_before_torch_reads_it(fresh):
    assert "GOMP_SPINCOUNT = '3000'" in fresh.stderr, fresh.stderr


@pytest.mark.parametrize("name, value", [("GOMP_SPINCOUNT", "77"), ("OMP_WAIT_POLICY", "PASSIVE")])
def test_what_the_user_says_on_spinning_stays(monkeypatch, name, value):
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv(name, value)
    importlib.reload(utils)
    assert os.environ[name] == value and len({"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & set(os.environ)) == 1
