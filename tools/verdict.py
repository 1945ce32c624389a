"""The last line of a test run, for pytest: which claims fell, where the machine failed, and what else did.

A claim that fell says something of the lesson; a cell that ran out of time, memory or disk says nothing of it. The line
is read off the exceptions themselves, and off what a notebook's cell put out.
"""

import errno
import subprocess
from collections import defaultdict
from concurrent.futures.process import BrokenProcessPool

import pytest
from nbval.plugin import NbCellError

CLAIM, MACHINE, OTHER = "claims fell", "failures of the machine", "other failures"
SINGULAR = {CLAIM: "claim fell", MACHINE: "failure of the machine", OTHER: "other failure"}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        cause = of_cell if item.path.suffix == ".ipynb" else of_test
        report.cause = cause(item, call.excinfo.value)
    return report


def of_test(item: pytest.Item, error: BaseException) -> tuple[str, str, str]:
    """(kind of failure, where, what) of a test that failed."""
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    faults = [fault for error in chain if (fault := machine(type(error).__name__, error))]
    return (MACHINE, item.name, faults[0]) if faults else (OTHER, item.name, type(error).__name__)


def of_cell(item: pytest.Item, error: BaseException) -> tuple[str, str, str]:
    """The same of a notebook's cell. nbval keeps what the cell put out, of which the last may be an error."""
    where = item.path.stem
    if item.parent.timed_out:
        return MACHINE, where, f"{item.name} gave no answer in time"
    if not isinstance(error, NbCellError):
        return MACHINE, where, "the kernel died or did not start"
    if not item.test_outputs or item.test_outputs[-1].output_type != "error":
        return OTHER, where, f"{item.name} put out something else than what is stored"
    kind, text = item.test_outputs[-1].ename, item.test_outputs[-1].evalue
    if kind == "ClaimFailed":
        return CLAIM, where, text
    fault = machine(kind, text)
    return (MACHINE, where, f"{item.name}: {fault}") if fault else (OTHER, where, f"{item.name}: {kind}")


def machine(kind: str, error: BaseException | str) -> str:
    """What the machine lacked, by an error's class and itself (or its text): "" where it is no fault of the machine."""
    number = getattr(error, "errno", None)
    # Python's and torch's classes; of the CPU's memory torch says it in the text alone.
    if kind in ("MemoryError", "OutOfMemoryError") or number == errno.ENOMEM or "DefaultCPUAllocator" in str(error):
        return "out of memory"
    if number == errno.ENOSPC or str(error).startswith(f"[Errno {errno.ENOSPC}]"):
        return "disk full"
    if isinstance(error, BrokenProcessPool):
        return "a process was killed"
    return "no answer in time" if isinstance(error, TimeoutError | subprocess.TimeoutExpired) else ""


def line(causes: list[tuple[str, str, str]]) -> str:
    """All failures in one line. What failed in a notebook after a first fault is told as a number."""
    found: dict[str, dict[str, list[str]]] = {kind: defaultdict(list) for kind in SINGULAR}
    for kind, where, what in causes:
        found[kind][where].append(what)
    parts = []
    for kind, places in found.items():
        number, told = sum(map(len, places.values())), []
        for where, texts in places.items():
            more = f" and {len(texts) - 1} more" if len(texts) > 1 else ""
            told.append(f"{where}: {'; '.join(texts) if kind == CLAIM else texts[0] + more}")
        if number:
            parts.append(f"{number} {SINGULAR[kind] if number == 1 else kind} ({' | '.join(told)})")
    return ", ".join(parts) or "nothing failed"


def pytest_unconfigure(config):
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:  # in a process that pytest-xdist has started
        return
    reports = [report for kind in ("failed", "error") for report in reporter.stats.get(kind, [])]
    if reports or "passed" in reporter.stats:
        causes = [getattr(report, "cause", (OTHER, report.nodeid, "not collected")) for report in reports]
        reporter.write_line(f"In all: {line(causes)}.")
