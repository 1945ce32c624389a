"""The last line of a test run, and README's own line for the notebooks: a claim that does not hold fails it."""

import errno
import os
import shlex
import shutil
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook, new_output
from nbval.plugin import NbCellError

from tools.verdict import CLAIM, MACHINE, OTHER, line, of_cell, of_test, pytest_unconfigure

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("error", "kind", "what"),
    [
        (MemoryError(), MACHINE, "out of memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), MACHINE, "out of memory"),
        (torch.OutOfMemoryError("halve the batch_size"), MACHINE, "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), MACHINE, "out of memory"),
        (OSError(errno.ENOSPC, "No space left on device"), MACHINE, "disk full"),
        (subprocess.TimeoutExpired("python", 300), MACHINE, "no answer in time"),
        (TimeoutError(), MACHINE, "no answer in time"),
        (BrokenProcessPool(), MACHINE, "a process was killed"),
        (OSError(errno.ENOENT, "No such file"), OTHER, "FileNotFoundError"),
        (AssertionError("28 is not 29"), OTHER, "AssertionError"),
    ],
)
def test_of_a_test(error, kind, what):
    item = SimpleNamespace(name="test_x")
    assert of_test(item, error) == (kind, "test_x", what)
    wrapped = RuntimeError("it could not be written")
    wrapped.__cause__ = error
    assert of_test(item, wrapped) == (kind, "test_x", what if kind == MACHINE else "RuntimeError")


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("ClaimFailed", "deeper is worse  [3% against 2%]", (CLAIM, "deeper is worse  [3% against 2%]")),
        ("NameError", "name 'x' is not defined", (OTHER, "Cell 4: NameError")),
        ("OSError", "[Errno 28] No space left on device: 'a.pt'", (MACHINE, "Cell 4: disk full")),
        ("OutOfMemoryError", "halve the batch_size", (MACHINE, "Cell 4: out of memory")),
        ("RuntimeError", "[enforce fail] DefaultCPUAllocator: not enough memory", (MACHINE, "Cell 4: out of memory")),
    ],
)
def test_of_a_cell(kind, text, expected):
    outputs = [new_output("stream", text="said before"), new_output("error", ename=kind, evalue=text)]
    item = SimpleNamespace(
        name="Cell 4", path=Path("04_unet.ipynb"), parent=SimpleNamespace(timed_out=False), test_outputs=outputs
    )
    error = NbCellError(4, "Cell execution caused an exception", "source")
    assert of_cell(item, error) == (expected[0], "04_unet", expected[1])
    assert of_cell(item, RuntimeError("Kernel dead on test start"))[0] == MACHINE
    item.test_outputs = outputs[:1]
    assert of_cell(item, error) == (OTHER, "04_unet", "Cell 4 put out something else than what is stored")
    item.parent.timed_out = True
    assert of_cell(item, error) == (MACHINE, "04_unet", "Cell 4 gave no answer in time")


def test_the_line_tells_them_apart():
    assert line([]) == "nothing failed"
    causes = [(CLAIM, "02", "deeper is worse  [3% against 2%]"), (CLAIM, "02", "skips help")]
    causes += [(OTHER, "02", "Cell 9: NameError")]
    causes += [(MACHINE, "06", "the kernel died or did not start")] * 3 + [(OTHER, "test_x", "AssertionError")]
    assert line(causes) == (
        "2 claims fell (02: deeper is worse  [3% against 2%]; skips help), "
        "3 failures of the machine (06: the kernel died or did not start and 2 more), "
        "2 other failures (02: Cell 9: NameError | test_x: AssertionError)"
    )


def run(command: str, folder: Path, **settings) -> subprocess.CompletedProcess:
    """A line as README gives it, in a folder."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COURSE_")}
    environment |= {"PYTHONPATH": str(ROOT), **settings}
    words = [sys.executable, "-m", *shlex.split(command)]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture
def course(tmp_path) -> Path:
    """The settings of this course's tests, with one test of its own and no notebook yet."""
    (tmp_path / "notebooks/source").mkdir(parents=True)
    for name in ("pyproject.toml", "conftest.py", "notebooks/conftest.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def notebook(folder: Path, name: str, *cells: str) -> None:
    ran = [new_code_cell(cell, execution_count=number) for number, cell in enumerate(cells, start=1)]
    nbformat.write(new_notebook(cells=ran), folder / f"notebooks/{name}.ipynb")
    (folder / f"notebooks/source/{name}.py").touch()


TELL = "from utils.lessons import claim\nimport os\n"


@pytest.mark.slow
def test_a_false_claim_fails_readmes_line(course):
    (command,) = [line for line in (ROOT / "README.md").read_text("utf-8").splitlines() if "pytest --nbval" in line]
    seen = "assert [os.environ[f'COURSE_{x}'] for x in ('DATA', 'SEED', 'STRICT')] == ['critters', '0', '1']\n"
    notebook(course, "01_true", TELL + seen + "claim('it holds', True)")
    done = run(command, course)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "In all: nothing failed.", done.stdout
    notebook(course, "02_false", TELL + "claim('it falls', 1 > 2, '1 against 2')")
    done = run(command, course)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "In all: 1 claim fell (02_false: it falls  [1 against 2])."


@pytest.mark.slow
def test_a_dead_kernel_and_a_full_disk_are_failures_of_the_machine(course):
    notebook(course, "01_dies", "import os; os._exit(1)", "1")
    (course / "test_disk.py").write_text("def test_full():\n    raise OSError(28, 'No space left on device')\n")
    done = run("pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=10 test_disk.py notebooks", course)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == (
        "In all: 2 failures of the machine (test_full: disk full | 01_dies: Cell 0 gave no answer in time)."
    )


def test_a_process_of_xdist_says_nothing():
    pytest_unconfigure(SimpleNamespace(pluginmanager=SimpleNamespace(get_plugin=lambda name: None)))
