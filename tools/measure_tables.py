"""Measure what takes too long for a lesson: many seeds, many settings. Writes data/measured/NAME.csv, a row a run.

    python -m tools.measure_tables [NAME ...] [--again]

Each table has a file tools/tables/NAME.py with
    a docstring: in one line, what is measured
    NOTEBOOK: the notebook that it belongs to, such as "02"
    RUNS: a list of dicts, the settings of each run; "source" ("critters" or "photos") among them where that matters
    TOLERANCE: for each result, how far a run on another machine may lie from the stored one
    ROUGH, where some runs come out less alike, as a rounding error decides: a list of (settings, their own tolerance)
    run(lesson, **settings) -> dict: the results of one run, as numbers
`lesson` holds what the notebook itself defines, in its cells tagged "measure": the network that is measured is the one
that is taught.

A row is kept once it is there, so the command can be stopped and continued. Each says which code made it
(tools/fingerprint.py): --again measures those again that older code has made.
"""

import argparse
import csv
import importlib
import os
import threading
import time
from contextlib import nullcontext
from datetime import date
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from unittest import mock

import torch
from nbformat import NotebookNode
from tqdm import tqdm

from tools import fingerprint
from tools.build import ROOT, code_cells, load, sources
from tools.spread import add_arguments, spread, workers
from utils import training

TABLES, MEASURED = ROOT / "tools/tables", ROOT / "data/measured"


def names() -> list[str]:
    """The names of all tables."""
    return sorted(path.stem for path in TABLES.glob("*.py"))


@cache
def taught(notebook: str) -> list[NotebookNode]:
    """The cells of a notebook's source that are tagged "measure"."""
    (source,) = sources([notebook])
    return [cell for cell in code_cells(load(source)) if "measure" in cell.metadata.get("tags", [])]


def lesson(notebook: str) -> ModuleType:
    """What the cells of a notebook that are tagged "measure" define, as a module; its `device` is the CPU."""
    module = ModuleType(f"notebook_{notebook}")
    module.device = torch.device("cpu")
    for cell in taught(notebook):
        exec(cell.source, module.__dict__)
    return module


def code(name: str) -> str:
    """The fingerprint of the code that decides a table's rows, as it stands."""
    return fingerprint.of_table(name, taught(load_table(name).NOTEBOOK))


def load_table(name: str) -> ModuleType:
    return importlib.import_module(f"tools.tables.{name}")


def measured(table: ModuleType, lesson: ModuleType, settings: dict) -> dict:
    """A row: settings, results, seconds, version, date. One thread, so that a machine gives the same result again."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    start = time.perf_counter()
    try:
        with (
            mock.patch.dict(os.environ, COURSE_DATA=settings.get("source", "critters")),
            # Ctrl-C has to end the run: where fit only returned early, a half-trained network would be stored.
            mock.patch.object(training, "_stop_button", lambda: nullcontext(threading.Event())),
        ):
            results = table.run(lesson, **settings)
    finally:
        torch.set_num_threads(threads)
    seconds = time.perf_counter() - start
    rounded = {name: float(f"{value:.6g}") for name, value in results.items()}
    facts = {"seconds": round(seconds, 1), "torch": torch.__version__.split("+")[0], "date": f"{date.today()}"}
    return settings | rounded | facts


def rerun(name: str, runs: list[dict]) -> list[dict]:
    """The rows of some runs of a table, made again."""
    table = load_table(name)
    cells = lesson(table.NOTEBOOK)
    return [measured(table, cells, settings) for settings in runs]


@cache
def _cells(notebook: str) -> ModuleType:
    """A lesson, made once in each process that measures."""
    return lesson(notebook)


def _row(name: str, settings: dict) -> dict:
    table = load_table(name)
    return measured(table, _cells(table.NOTEBOOK), settings)


def key(row: dict, settings: dict) -> tuple[str, ...]:
    """What tells a row from the others: its settings, as the file holds them."""
    return tuple(str(row.get(name)) for name in settings)


def read(path: Path) -> list[dict]:
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[dict]) -> None:
    scratch = path.with_suffix(".tmp")
    with open(scratch, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    scratch.replace(path)  # a run that is stopped here leaves the old file whole


def measure(name: str, again: bool = False, jobs: int = 1) -> None:
    """Run what is missing of a table, with `again` also what older code has made, and write each row as it comes.

    `jobs` rows are run at once, each in a process of its own; a row comes out the same. Rows of runs that are no longer
    asked for are dropped.
    """
    _cells.cache_clear()
    table, now, path = load_table(name), code(name), MEASURED / f"{name}.csv"
    stored = {key(row, table.RUNS[0]): row for row in read(path)}

    def write_down() -> None:
        write(path, [stored[place] for run in table.RUNS if (place := key(run, run)) in stored])

    old = (lambda row: row["code"] != now) if again else (lambda row: False)
    missing = [run for run in table.RUNS if (place := key(run, run)) not in stored or old(stored[place])]
    for run, row in tqdm(spread(partial(_row, name), missing, jobs), desc=name, total=len(missing)):
        stored[key(run, run)] = row | {"code": now}
        write_down()
    write_down()
    if older := sum(row["code"] != now for row in stored.values()):
        print(f"{name}: {older} of {len(table.RUNS)} rows were made by older code; --again measures them again.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"default all: {', '.join(names())}")
    add_arguments(parser)
    parser.add_argument("--again", action="store_true", help="measure also what older code has made")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in names()]:
        raise SystemExit(f"There is no table {unknown[0]}. There are: {', '.join(names())}.")
    jobs = workers(arguments)
    for name in arguments.names or names():
        measure(name, arguments.again, jobs)


if __name__ == "__main__":
    from tools import measure_tables as by_name  # other processes find its functions there, and not in "__main__"

    by_name.main()
