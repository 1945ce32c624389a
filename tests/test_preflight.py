"""The look at a machine before a lecture: each finding says what was found and, where it will not do, what to do."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools import preflight


def written(folder, source):
    notebook = new_notebook(cells=[new_markdown_cell("# 03 · A small one"), new_code_cell(source)])
    nbformat.write(notebook, folder / "03_small.ipynb")
    return folder / "03_small.ipynb"


def test_this_environment_is_good():
    assert preflight.environment().good


@pytest.mark.parametrize(
    ("line", "found"), [("nosuchpackage>=1", "nosuchpackage is missing"), ("torch>=99", ">=99 is needed")]
)
def test_a_package_that_will_not_do_is_named(line, found, tmp_path, monkeypatch):
    (tmp_path / "requirements.txt").write_text(f"# a comment\n\n{line}\n")
    monkeypatch.setattr(preflight, "ROOT", tmp_path)
    finding = preflight.environment()
    assert not finding.good
    assert found in str(finding) and "pip install" in str(finding)


def test_too_little_room_is_no_go(monkeypatch):
    monkeypatch.setattr(preflight, "FREE_GB", {"disk": 1e9, "memory": 0})
    disk, memory = preflight.room()
    assert not disk.good and memory.good
    assert "COURSE_DATA_DIR" in str(disk)


def test_drawings_are_there_without_a_network(monkeypatch):
    monkeypatch.setenv("COURSE_DATA", "critters")
    assert [(finding.good, finding.found) for finding in preflight.data(["pets"])] == [(True, "drawings")]


def test_photos_that_are_not_there_are_no_go(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_DATA", "photos")
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path))
    (finding,) = preflight.data(["lesions"])
    assert not finding.good and "COURSE_DATA=critters" in str(finding)


def test_a_notebook_is_run_and_timed(tmp_path):
    drawings = preflight.rehearsal(written(tmp_path, "print('data: drawings (COURSE_DATA=photos for photos)')"))
    assert drawings.good and "of 240" in drawings.found
    photos = preflight.rehearsal(written(tmp_path, "print('data: photos')"))
    assert photos.good and "of 480" in photos.found


def test_a_cell_that_fails_is_no_go(tmp_path):
    finding = preflight.rehearsal(written(tmp_path, "raise ValueError('the reason')"))
    assert not finding.good and "ValueError: the reason" in str(finding)


def test_a_slow_cell_is_no_go(tmp_path, monkeypatch):
    monkeypatch.setattr(preflight, "CELL_SECONDS", 0.2)
    finding = preflight.rehearsal(written(tmp_path, "import time; time.sleep(0.5)"))
    assert not finding.good and "Close other programs" in str(finding)


@pytest.mark.parametrize(
    ("failure", "found"),
    [
        (preflight.DeadKernelError("Kernel died"), "the kernel died"),
        (preflight.CellTimeoutError("timed out"), "10 minutes"),
    ],
)
def test_a_kernel_that_dies_or_hangs_is_no_go(failure, found, tmp_path, monkeypatch):
    def fails(*_):
        raise failure

    monkeypatch.setattr(preflight, "execute", fails)
    finding = preflight.rehearsal(written(tmp_path, "1"))
    assert not finding.good and found in str(finding) and finding.advice
