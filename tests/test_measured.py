"""The measured tables are complete, belong to their notebooks, and one row of each comes out the same again."""

import importlib
import signal
from types import SimpleNamespace

import pytest
import torch

from tools import measure
from tools.build import load, sources
from utils.training import fit

TABLES = {name: importlib.import_module(f"tools.tables.{name}") for name in measure.names()}
FACTS = {"seconds", "torch", "date"}


@pytest.mark.parametrize("name", TABLES)
def test_table_is_complete(name):
    table, rows = TABLES[name], measure.read(measure.MEASURED / f"{name}.csv")
    asked = [measure.key(settings, settings) for settings in table.RUNS]
    assert [measure.key(row, table.RUNS[0]) for row in rows] == asked, f"measure it: make measure TABLE={name}"
    assert set(rows[0]) == {*table.RUNS[0], *table.TOLERANCE, *FACTS}, "each result needs a tolerance"


@pytest.mark.parametrize("name", TABLES)
def test_the_notebook_uses_the_table(name):
    (source,) = sources([TABLES[name].NOTEBOOK])
    assert f'measured("{name}")' in source.read_text(encoding="utf-8"), "the notebook does not draw the table"


def test_no_table_without_its_program():
    assert {path.stem for path in measure.MEASURED.glob("*.csv")} == set(TABLES)


def rerun_quickest(name: str, photos: bool) -> None:
    table = TABLES[name]
    rows = measure.read(measure.MEASURED / f"{name}.csv")
    alike = getattr(table, "AGAIN", {}).items()
    runs = [(row, run) for row, run in zip(rows, table.RUNS, strict=True)
            if (run.get("source") == "photos") == photos and alike <= run.items()]  # fmt: skip
    stored, settings = min(runs, key=lambda pair: float(pair[0]["seconds"]))
    again = measure.measured(table, measure.lesson(table.NOTEBOOK), settings)
    for result, tolerance in table.TOLERANCE.items():
        assert abs(again[result] - float(stored[result])) <= tolerance, (
            f"{name}, {settings}: {result} was {stored[result]} and is now {again[result]:.6g}"
        )


@pytest.mark.parametrize("name", [n for n, t in TABLES.items() if any(r.get("source") != "photos" for r in t.RUNS)])
def test_a_row_comes_out_the_same(name):
    rerun_quickest(name, photos=False)


@pytest.mark.photos
@pytest.mark.parametrize("name", [n for n, t in TABLES.items() if any(r.get("source") == "photos" for r in t.RUNS)])
def test_a_row_on_photos_comes_out_the_same(name):
    rerun_quickest(name, photos=True)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A table of three runs, of which the second breaks as long as `broken` holds its seed."""
    table = SimpleNamespace(NOTEBOOK="00", RUNS=[{"seed": seed} for seed in range(3)], TOLERANCE={"double": 0}, ran=[])

    def run(lesson, seed):
        table.ran.append(seed)
        if seed in table.broken:
            raise RuntimeError("stopped")
        return {"double": 2 * seed}

    table.run, table.broken = run, {1}
    monkeypatch.setattr(measure.importlib, "import_module", lambda name: table)
    monkeypatch.setattr(measure, "MEASURED", tmp_path)
    monkeypatch.setattr(measure, "lesson", lambda notebook: None)
    return table


def test_a_stopped_measurement_is_continued(small, tmp_path):
    with pytest.raises(RuntimeError, match="stopped"):
        measure.measure("small")
    small.broken = set()
    measure.measure("small")
    assert small.ran == [0, 1, 1, 2]
    assert [float(row["double"]) for row in measure.read(tmp_path / "small.csv")] == [0, 2, 4]
    small.RUNS = small.RUNS[1:]
    measure.measure("small")
    assert small.ran == [0, 1, 1, 2]
    assert [row["seed"] for row in measure.read(tmp_path / "small.csv")] == ["1", "2"]
    measure.measure("small", again=True)
    assert small.ran == [0, 1, 1, 2, 1, 2]


def test_ctrl_c_while_a_network_is_trained_stores_no_row(small, tmp_path):
    def loss(outputs, labels):
        signal.raise_signal(signal.SIGINT)
        return outputs.sum()

    def run(lesson, seed):
        model, loader = torch.nn.Linear(2, 2), [(torch.zeros(1, 2), torch.zeros(1))]
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        fit(model, loader, num_epochs=1, optimizer=optimizer, loss_fn=loss, metrics={}, progress=None)
        return {"double": 2 * seed}

    small.run = run
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background switches it off
    try:
        with pytest.raises(KeyboardInterrupt):
            measure.measure("small")
    finally:
        signal.signal(signal.SIGINT, before)
    assert not measure.read(tmp_path / "small.csv")


def test_lesson_holds_what_the_tagged_cells_define(tmp_path, monkeypatch):
    source = tmp_path / "99_small.py"
    source.write_text(
        '# %% tags=["measure"]\ndef double(x):\n    return factor * x\n\n\n# %%\nraise SystemExit("not to be run")\n'
        '\n# %% tags=["measure"]\nfactor = 2\n'
    )
    monkeypatch.setattr(measure, "sources", lambda names: [source])
    taught = measure.lesson("99")
    assert taught.double(4) == 8
    taught.factor = 3
    assert taught.double(4) == 12
    assert str(taught.device) == "cpu"
    assert [cell.metadata["tags"] for cell in load(source).cells if "tags" in cell.metadata] == [["measure"]] * 2
