"""The measured tables are complete, belong to their notebooks and come out the same again, other rows each day."""

import importlib
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import get_context
from types import SimpleNamespace

import pytest
import torch

from tools import measure_tables
from tools.build import load, sources
from utils.training import fit

TABLES = {name: importlib.import_module(f"tools.tables.{name}") for name in measure_tables.names()}
FACTS = {"seconds", "torch", "date", "code"}
DAYS = 30
# COURSE_DAY chooses the rows of another day, from 0 to 29.
DAY = int(os.environ.get("COURSE_DAY") or date.today().toordinal()) % DAYS


@pytest.mark.parametrize("name", TABLES)
def test_table_is_complete(name):
    table, rows = TABLES[name], measure_tables.read(measure_tables.MEASURED / f"{name}.csv")
    asked = [measure_tables.key(settings, settings) for settings in table.RUNS]
    assert [measure_tables.key(row, table.RUNS[0]) for row in rows] == asked, f"measure it: make measure TABLE={name}"
    assert set(rows[0]) == {*table.RUNS[0], *table.TOLERANCE, *FACTS}, "each result needs a tolerance"


@pytest.mark.parametrize("name", TABLES)
def test_the_notebook_uses_the_table(name):
    (source,) = sources([TABLES[name].NOTEBOOK])
    assert f'measured("{name}")' in source.read_text(encoding="utf-8"), "the notebook does not draw the table"


def test_no_table_without_its_program():
    assert {path.stem for path in measure_tables.MEASURED.glob("*.csv")} == set(TABLES)


def of_day(rows: list, day: int) -> list:
    """The rows of a table that are run again on a day: each on one of 30, and one at least on every day."""
    return rows[day::DAYS] or [rows[day % len(rows)]]


def chosen(name: str, photos: bool) -> list[tuple[dict, dict]]:
    """(stored row, settings) of a table's rows that are run again today, those on drawings or those on photos."""
    pairs = zip(measure_tables.read(measure_tables.MEASURED / f"{name}.csv"), TABLES[name].RUNS, strict=True)
    return of_day([(row, run) for row, run in pairs if (run.get("source") == "photos") == photos], DAY)


def differences(name: str, run: dict, stored: dict, again: dict) -> list[str]:
    """What of a row did not come out the same."""
    tolerance = dict(TABLES[name].TOLERANCE)
    for settings, rough in getattr(TABLES[name], "ROUGH", []):
        if settings.items() <= run.items():
            tolerance |= rough
    return [
        f"{result} was {stored[result]} and is now {again[result]:.6g}"
        for result in tolerance
        if abs(again[result] - float(stored[result])) > tolerance[result]
    ]


@pytest.fixture(scope="module")
def again(request):
    """Today's rows of the tables asked for, run again, two tables at a time: {name: the future of their results}."""
    tests = [item for item in request.session.items if "again" in getattr(item, "fixturenames", ())]
    names = [item.callspec.params["name"] for item in tests]
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        yield {n: pool.submit(measure_tables.rerun, n, [run for _, run in chosen(n, photos=False)]) for n in names}
        pool.shutdown(cancel_futures=True)


def compare(name: str, photos: bool, results: list[dict]) -> None:
    now, wrong = measure_tables.code(name), []
    for (stored, run), result in zip(chosen(name, photos), results, strict=True):
        older = "" if stored["code"] == now else " (older code made it: measure it again, with --again)"
        wrong += [f"{run}: {difference}{older}" for difference in differences(name, run, stored, result)]
    assert not wrong, f"{name}, the rows that COURSE_DAY={DAY} chooses:\n" + "\n".join(wrong)


def tables(photos: bool) -> list:
    there = [n for n, t in TABLES.items() if any((run.get("source") == "photos") == photos for run in t.RUNS)]
    return [pytest.param(name, id=f"{name}, day {DAY}") for name in there]


@pytest.mark.slow
@pytest.mark.parametrize("name", tables(photos=False))
def test_rows_come_out_the_same(name, again):
    compare(name, False, again[name].result())


@pytest.mark.photos
@pytest.mark.parametrize("name", tables(photos=True))
def test_rows_on_photos_come_out_the_same(name):
    compare(name, True, measure_tables.rerun(name, [run for _, run in chosen(name, photos=True)]))


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A table of three runs, of which the second breaks as long as `broken` holds its seed."""
    table = SimpleNamespace(NOTEBOOK="00", RUNS=[{"seed": seed} for seed in range(3)], TOLERANCE={"double": 0}, ran=[])

    def run(lesson, seed):
        table.ran.append(seed)
        if seed in table.broken:
            raise RuntimeError("stopped")
        return {"double": 2 * seed}

    table.run, table.broken, table.code = run, {1}, "first"
    monkeypatch.setattr(measure_tables.importlib, "import_module", lambda name: table)
    monkeypatch.setattr(measure_tables, "MEASURED", tmp_path)
    monkeypatch.setattr(measure_tables, "lesson", lambda notebook: None)
    monkeypatch.setattr(measure_tables, "code", lambda name: table.code)
    return table


def test_a_stopped_measurement_is_continued(small, tmp_path):
    with pytest.raises(RuntimeError, match="stopped"):
        measure_tables.measure("small")
    small.broken = set()
    measure_tables.measure("small")
    assert small.ran == [0, 1, 1, 2]
    assert [float(row["double"]) for row in measure_tables.read(tmp_path / "small.csv")] == [0, 2, 4]
    small.RUNS = small.RUNS[1:]
    measure_tables.measure("small")
    assert small.ran == [0, 1, 1, 2]
    assert [row["seed"] for row in measure_tables.read(tmp_path / "small.csv")] == ["1", "2"]


def test_what_older_code_made_is_told_and_measured_again_when_asked_for(small, tmp_path, capsys):
    def codes():
        return [row["code"] for row in measure_tables.read(tmp_path / "small.csv")]

    small.broken = set()
    measure_tables.measure("small")
    assert codes() == ["first"] * 3 and "older" not in capsys.readouterr().out
    small.code, small.ran = "second", []
    measure_tables.measure("small")
    assert small.ran == [] and codes() == ["first"] * 3
    assert "3 of 3 rows were made by older code; --again" in capsys.readouterr().out
    small.broken = {1}
    with pytest.raises(RuntimeError, match="stopped"):
        measure_tables.measure("small", again=True)
    assert codes() == ["second", "first", "first"]  # what is not yet measured again is still there
    small.broken = set()
    measure_tables.measure("small", again=True)
    assert small.ran == [0, 1, 1, 2] and codes() == ["second"] * 3


@pytest.mark.parametrize("count", [1, 9, 29, 30, 31, 105])
def test_within_thirty_days_every_row_is_run_again(count):
    days = [of_day(list(range(count)), day) for day in range(DAYS)]
    assert {row for rows in days for row in rows} == set(range(count))
    assert all(1 <= len(rows) <= -(-count // DAYS) for rows in days)


def test_rows_that_are_wrong_are_found_on_their_days(small, monkeypatch):
    """A table of 105 rows, of which ten hold what nobody measured."""
    monkeypatch.setitem(TABLES, "small", small)
    small.RUNS, small.broken, wrong = [{"seed": seed} for seed in range(105)], set(), set(range(4, 105, 11))
    stored = [{"double": "1" if run["seed"] in wrong else str(2 * run["seed"])} for run in small.RUNS]
    found = []
    for day in range(DAYS):
        rows = of_day(list(zip(stored, small.RUNS, strict=True)), day)
        for (row, run), again in zip(rows, measure_tables.rerun("small", [run for _, run in rows]), strict=True):
            found += [run["seed"]] if differences("small", run, row, again) else []
    assert len(wrong) == 10 and sorted(found) == sorted(wrong)


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
            measure_tables.measure("small")
    finally:
        signal.signal(signal.SIGINT, before)
    assert not measure_tables.read(tmp_path / "small.csv")


@pytest.mark.slow
def test_a_row_comes_out_the_same_however_many_are_run_at_once(tmp_path, monkeypatch):
    table = TABLES["shortcuts"]
    monkeypatch.setattr(table, "RUNS", table.RUNS[:3])
    results = []
    for jobs in (1, 2):
        monkeypatch.setattr(measure_tables, "MEASURED", tmp_path / str(jobs))
        (tmp_path / str(jobs)).mkdir()
        measure_tables.measure("shortcuts", jobs=jobs)
        rows = measure_tables.read(tmp_path / str(jobs) / "shortcuts.csv")
        results.append([{name: row[name] for name in row if name not in ("seconds", "date")} for row in rows])
    assert len(results[0]) == 3 and results[0] == results[1]


def test_lesson_holds_what_the_tagged_cells_define(tmp_path, monkeypatch):
    source = tmp_path / "99_small.py"
    source.write_text(
        '# %% tags=["measure"]\ndef double(x):\n    return factor * x\n\n\n# %%\nraise SystemExit("not to be run")\n'
        '\n# %% tags=["measure"]\nfactor = 2\n'
    )
    monkeypatch.setattr(measure_tables, "sources", lambda names: [source])
    taught = measure_tables.lesson("99")
    assert taught.double(4) == 8
    taught.factor = 3
    assert taught.double(4) == 12
    assert str(taught.device) == "cpu"
    assert [cell.metadata["tags"] for cell in load(source).cells if "tags" in cell.metadata] == [["measure"]] * 2


def test_a_rough_run_has_its_own_tolerance(monkeypatch):
    table = SimpleNamespace(TOLERANCE={"error": 1, "size": 0}, ROUGH=[({"kind": "deep"}, {"error": 20})])
    monkeypatch.setitem(TABLES, "small", table)
    stored, again = {"error": "30", "size": "5"}, {"error": 40, "size": 5}
    assert differences("small", {"kind": "deep", "seed": 0}, stored, again) == []
    assert differences("small", {"kind": "flat", "seed": 0}, stored, again) == ["error was 30 and is now 40"]
    assert differences("small", {"kind": "deep", "seed": 0}, stored, again | {"size": 6}) == ["size was 5 and is now 6"]
