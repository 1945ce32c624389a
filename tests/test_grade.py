"""Students' notebooks: which one each is, what it answers, and that none ends the others."""

import csv
import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tools import grade
from tools.build import built

COURSE = new_notebook(
    cells=[
        new_code_cell("from utils.exercises import start_here as exercises"),
        new_code_cell("a = 1"),
        new_code_cell("b = 2"),
        new_code_cell("steps_in_all = ...\nexercises.steps_in_all.check(steps_in_all)"),
    ]
)


def handed_in(*cells: str):
    return new_notebook(cells=[*COURSE.cells[:3], *map(new_code_cell, cells)])


def test_a_notebook_is_told_by_its_cells():
    course = {"00_a": COURSE, "01_b": new_notebook(cells=[new_code_cell(f"c = {i}") for i in range(5)])}
    assert grade.which(handed_in("x"), course) == "00_a"
    assert grade.which(new_notebook(cells=[new_code_cell("a = 1")]), course) is None


def test_what_is_handed_to_each_exercise():
    cells = "exercises.clip.check(my_clip)", "this is no Python", "exercises.lab.check(train(1))", "check(2)"
    assert grade.calls(handed_in(*cells)) == {"clip": "my_clip", "lab": "train(1)"}


@pytest.mark.parametrize("cell", ["exercises = 3", "exercises.clip = mine", "from mine import exercises"])
def test_who_redefines_the_exercises_is_found(cell):
    assert grade.redefined(handed_in(cell), COURSE) and not grade.redefined(handed_in("x = 1"), COURSE)


def test_every_exercise_of_the_course_has_its_title():
    for path in built([]):
        course = nbformat.read(path, as_version=4)
        titles = grade.titles_of(grade.exercises_of(course))
        assert grade.calls(course).keys() <= titles.keys()


def graded(tmp_path, notebook, minutes=1.0):
    nbformat.write(notebook, tmp_path / "x.ipynb")
    return grade.graded(tmp_path / "x.ipynb", {"00_start_here": COURSE}, minutes, 8, [])


@pytest.mark.slow
def test_an_answer_is_checked_again_whatever_the_notebook_says(tmp_path):
    fake = "class exercises: pass\nexercises = exercises()\nsteps_in_all = 24"
    (row,) = graded(tmp_path, handed_in(fake))
    assert row["verdict"] == "not yet" and "of one epoch" in row["sentence"] and "redefines" in row["note"]


@pytest.mark.slow
def test_a_cell_that_fails_costs_its_own_exercise_only(tmp_path):
    (row,) = graded(tmp_path, handed_in("1 / 0", "steps_in_all = 240\nexercises.steps_in_all.check(steps_in_all)"))
    assert row["verdict"] in ("correct", "not yet")
    assert row["note"] == "Code cell 4 ended with ZeroDivisionError: division by zero"


@pytest.mark.slow
def test_a_kernel_that_dies_leaves_what_was_said_before(tmp_path):
    told = "exercises.steps_in_all.check(24)", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    (row,) = graded(tmp_path, handed_in(*told))
    assert row["verdict"] == "not yet" and row["sentence"].startswith("As the notebook itself said: ")
    assert "The kernel died" in row["note"]


@pytest.mark.slow
def test_a_cell_that_hangs_is_stopped(tmp_path):
    (row,) = graded(tmp_path, handed_in("while True: pass", "steps_in_all = 24"), minutes=0.3)
    assert row["verdict"] == "not yet" and "of one epoch" in row["sentence"]  # the others run on
    assert row["note"] == "Code cell 4 took longer than 0.3 minutes and was stopped."


def run(monkeypatch, *asked):
    monkeypatch.setattr("sys.argv", ["grade", *map(str, asked)])
    return grade.main()


def test_files_that_are_no_notebook_of_the_course_get_a_row(tmp_path, monkeypatch, capsys):
    (tmp_path / "in/deep").mkdir(parents=True)
    (tmp_path / "in/a.ipynb").write_text("not json")
    (tmp_path / "in/deep/b.ipynb").write_text(json.dumps(new_notebook()))
    assert run(monkeypatch, tmp_path / "in", "--out", tmp_path / "out") == 0
    rows = list(csv.DictReader((tmp_path / "out/grades.csv").open()))
    assert [row["file"] for row in rows] == ["a.ipynb", "b.ipynb"]
    assert rows[0]["note"].startswith("This is no notebook: ") and "hardly a cell" in rows[1]["note"]
    assert "a.ipynb" in (tmp_path / "out/grades.html").read_text()


def test_a_folder_that_is_missing_or_empty_is_one_sentence(tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, tmp_path / "no", "--out", tmp_path / "out") == 2
    assert run(monkeypatch, tmp_path, "--out", tmp_path / "out") == 2
    assert not (tmp_path / "out").exists()
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("no: expected a folder with notebooks: make grade SUBMISSIONS=folder")
    assert second.endswith("no .ipynb file is in it.")
