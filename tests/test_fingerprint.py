"""The fingerprint of the code that made a result: what changes it and what does not."""

import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tools import fingerprint

FILES = {
    "utils/models.py": "WIDTH = 8",
    "utils/training.py": "def fit(): return 1",
    "utils/datasets/__init__.py": "SIZE = 64",
    "utils/datasets/photos.py": "def read(): return 2",
    "utils/critters/animal.py": "EARS = 2",
    "utils/figures.py": "COLOUR = 'red'",
    "utils/lessons.py": "def claim(): ...",
    "utils/exercises/gans.py": "HINT = 'Think.'",
    "data/backbone.pt": "weights",
    "tools/tables/first.py": "from functools import cache\ndef data(lesson): return lesson.load()\nRUNS = []",
    "tools/tables/second.py": (
        '"""What it measures."""\nfrom tools.tables.first import data\nNOTEBOOK = "08"\n'
        "NUMS = (20, 50)\nSEEDS = range(3)\n"
        "RUNS = [{'num': num, 'seed': seed} for seed in SEEDS for num in NUMS]\nRUNS += [{'num': 80, 'seed': 0}]\n"
        "TOLERANCE = {'accuracy': 0.1}\ndef run(lesson, num, seed): return data(lesson)[num] / max(NUMS)\n"
    ),
}
CELLS = [new_code_cell("import sys\ndevice = utils.start()"), new_code_cell("def double(x):\n    return 2 * x")]


@pytest.fixture
def write(tmp_path, monkeypatch):
    """A small course; call it with a file and its new text."""
    monkeypatch.setattr(fingerprint, "ROOT", tmp_path)

    def write(name, text):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        fingerprint.shared.cache_clear()

    for name, text in FILES.items():
        write(name, text)
    yield write
    fingerprint.shared.cache_clear()


def both() -> tuple[str, str]:
    return fingerprint.of_notebook(new_notebook(cells=CELLS)), fingerprint.of_table("second", CELLS)


@pytest.mark.parametrize(
    "name", ["models.py", "training.py", "datasets/__init__.py", "datasets/photos.py", "critters/animal.py"]
)
def test_what_computes_changes_it(write, name):
    before = both()
    write(f"utils/{name}", FILES[f"utils/{name}"].replace("2", "1") + "\nMORE = 1")
    assert not set(before) & set(both())


def test_another_backbone_changes_it(write):
    before = both()
    write("data/backbone.pt", "other weights")
    assert not set(before) & set(both())


@pytest.mark.parametrize("name", ["utils/figures.py", "utils/lessons.py", "utils/exercises/gans.py"])
def test_figures_lessons_and_exercises_do_not(write, name):
    before = both()
    write(name, "OTHER = 1")
    assert both() == before


def test_comments_docstrings_and_line_breaks_do_not(write):
    before = both()
    write("utils/training.py", '"""A room."""\ndef fit():  # the loop\n    """Fit."""\n    return (\n        1\n    )')
    assert both() == before
    assert fingerprint.essence("x = 'a' 'b'") == fingerprint.essence('x = "ab"')
    assert fingerprint.essence("f'{x:.1%}'") != fingerprint.essence("f'{x:.2%}'")


def test_cells_change_it_but_not_the_set_up_cell(write):
    before = both()
    set_up, cell = CELLS
    other = [new_code_cell(set_up.source.replace("sys", "sys, os")), new_code_cell(f"{cell.source}  # twice")]
    assert fingerprint.of_notebook(new_notebook(cells=other)) == before[0]
    other[1].source = "def double(x):\n    return 3 * x"
    assert fingerprint.of_notebook(new_notebook(cells=other)) != before[0]
    assert fingerprint.of_table("second", other) != before[1]


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("range(3)", "range(5)", True),  # more rows leave those that are there
        ("80", "90", True),
        ("0.1", "0.2", True),
        ('"08"', '"09"', True),
        ("What it measures", "How", True),
        ("(20, 50)", "(20, 60)", False),
        ("max(NUMS)", "min(NUMS)", False),
    ],
)
def test_of_a_tables_program_counts_what_a_run_does(write, old, new, same):
    before = both()
    write("tools/tables/second.py", FILES["tools/tables/second.py"].replace(old, new))
    assert (both() == before) == same


def test_a_table_that_imports_from_another_depends_on_it(write):
    before = both()
    write("tools/tables/first.py", FILES["tools/tables/first.py"].replace("load", "load_more"))
    now = both()
    assert now[0] == before[0] and now[1] != before[1]
