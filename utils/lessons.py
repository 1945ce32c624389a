"""What makes a lesson an executed one: claims and facts that can fail, and exercises that answer back.

    claim("the deeper plain network trains worse", plain > residual, f"error {plain:.1%} against {residual:.1%}",
          same=f"{len(train)} pictures, {steps} steps")
    fact("ResNet-18 has 11,689,512 parameters", num_parameters(model) == 11_689_512)

What does not hold is shown in red and the lecture goes on; with ``COURSE_STRICT=1`` (tests set it) it raises.
"""

import csv
import functools
import html
import inspect
import json
import os
import sys
import textwrap
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from IPython.display import display

__all__ = ["ClaimFailed", "Exercise", "begin", "claim", "fact", "measured", "summary"]

# One colour and one mark for each verdict. The mark carries the meaning too, so nothing depends on seeing colours.
_LOOKS = {
    "holds": ("✓", "#1a7f37"),
    "does not hold": ("✗", "#cf222e"),
    "exact": ("=", "#6639ba"),
    "not exact": ("≠", "#cf222e"),
    "correct": ("✓", "#1a7f37"),
    "not yet": ("✗", "#bc4c00"),
    "not attempted": ("○", "#57606a"),
    "hint": ("?", "#0969da"),
    "solution": ("→", "#0969da"),
}
_VERDICTS = {"claim": ("does not hold", "holds"), "fact": ("not exact", "exact")}  # false, true

_claims: dict[str, tuple[str, str]] = {}  # claims and facts of this run, in the order made: text -> (verdict, figures)
_exercises: dict[str, str] = {}  # those checked in this run: title -> verdict


class ClaimFailed(AssertionError):
    """A claim or a fact of the lesson did not hold, and COURSE_STRICT=1 asked for an error."""


def _on(setting: str, default: str) -> bool:
    value = os.environ.get(setting) or default
    if value not in ("0", "1"):
        raise ValueError(f"{setting}={value!r}: expected 1 (on) or 0 (off).")
    return value == "1"


def begin() -> None:
    """Forget the claims, facts and exercises of another notebook in this kernel, or of an earlier run of this one."""
    _on("COURSE_HINTS", "1")  # an unknown value is said now, not at the first hint
    _claims.clear()
    _exercises.clear()


class _Card:
    """A verdict as a coloured card in a notebook, and as one line of plain text elsewhere (terminals, tests)."""

    def __init__(self, verdict: str, text: str, *details: str, code: str = ""):
        self.verdict, self.text, self.details, self.code = verdict, text, [d for d in details if d], code

    def __repr__(self) -> str:
        mark, _ = _LOOKS[self.verdict]
        line = "  ".join([f"{mark} {self.verdict}: {self.text}", *(f"[{detail}]" for detail in self.details)])
        return line + (f"\n{textwrap.indent(self.code, '    ')}" if self.code else "")

    def _repr_html_(self) -> str:
        mark, colour = _LOOKS[self.verdict]
        details = "".join(f"<br>{html.escape(detail)}" for detail in self.details)
        code = f'<pre style="margin:.4em 0 0">{html.escape(self.code)}</pre>' if self.code else ""
        chip = f"background:{colour};color:#ffffff;padding:.1em .5em;border-radius:.3em"  # to be read on any theme
        return (
            f'<div style="border-left:.4em solid {colour};padding:.3em .8em;margin:.3em 0;font-size:110%">'
            f'<b style="{chip}">{mark} {self.verdict}</b> &nbsp;{html.escape(self.text)}{details}{code}</div>'
        )


def claim(text: str, condition, figures: str = "", same: str = "", kind: str = "claim") -> None:
    """State what the experiment above has shown, and check it.

    text: the lesson, one sentence. condition: one truth value (bool, or a NumPy/torch boolean of one element).
    figures: the measured numbers to show beside it. same: what was the same for all that is compared. kind: see `fact`.

    Raises ValueError for an unknown COURSE_STRICT, TypeError where the condition is not one truth value (a number would
    be true unless zero, so a claim on it could hardly fail), ClaimFailed where it is false and COURSE_STRICT=1.
    """
    strict = _on("COURSE_STRICT", "0")
    value = condition.tolist() if hasattr(condition, "tolist") else condition  # NumPy's and torch's booleans
    if not isinstance(value, bool):
        raise TypeError(
            f"{kind}({text!r}): the condition is {value!r} ({type(value).__name__}); expected True or False. "
            "Write the comparison itself, such as a > b, with .all() where it compares many numbers."
        )
    verdict = _VERDICTS[kind][value]
    display(_Card(verdict, text, figures, same and f"The same for all: {same}"))
    _claims.pop(text, None)  # a cell run again moves its claim to the end instead of standing twice
    _claims[text] = verdict, figures
    _append("COURSE_CLAIMS", {"kind": kind, "text": text, "held": value, "figures": figures, "same": same})
    if strict and not value:
        raise ClaimFailed(f"{text}  [{figures}]" if figures else text)


def fact(text: str, condition, figures: str = "") -> None:
    """State what is exact, such as a number of parameters, and check it. Raises as `claim` does."""
    claim(text, condition, figures, kind="fact")


def _append(variable: str, line: dict) -> None:
    """Add a line of JSON to the file that the environment variable names, if any: so runs and answers are collected."""
    if path := os.environ.get(variable):
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class _Summary:
    def __init__(self):
        said = [verdict for verdict, _ in _claims.values()]
        counts = {f"{kind}s hold": [v == yes for v in said if v in (no, yes)] for kind, (no, yes) in _VERDICTS.items()}
        counts["exercises are done"] = [verdict == "correct" for verdict in _exercises.values()]
        self.title = "In this run " + ", ".join(f"{sum(of)} of {len(of)} {what}" for what, of in counts.items() if of)
        self.rows = [(_LOOKS[verdict][0], text, figures) for text, (verdict, figures) in _claims.items()]

    def __repr__(self) -> str:
        return "\n".join([self.title, *(f"  {mark} {text}  [{figures}]" for mark, text, figures in self.rows)])

    def _repr_html_(self) -> str:
        cell = "<td style='text-align:left'>{}</td>".format
        rows = "".join(f"<tr>{''.join(cell(html.escape(text)) for text in row)}</tr>" for row in self.rows)
        return f"<b>{self.title}</b><table style='font-size:105%'>{rows}</table>"


def summary() -> None:
    """Show every claim and fact of this notebook in this run with its figures, and how many exercises are done."""
    display(_Summary())


def measured(name: str) -> list[dict]:
    """The rows of data/measured/NAME.csv, one a run: settings, results, "seconds", "torch", "date"; numbers as numbers.

    For what takes too long for a lesson. Prints when it was measured, and the command that measures it again. Raises
    FileNotFoundError where there is no such table.
    """
    path = Path(__file__).resolve().parents[1] / "data/measured" / f"{name}.csv"
    with open(path, newline="", encoding="utf-8") as file:
        rows = [{key: _number(text) for key, text in row.items()} for row in csv.DictReader(file)]
    dates = sorted({row["date"] for row in rows})
    when = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    print(f"{len(rows)} runs, measured earlier ({when}, torch {rows[0]['torch']}). Again: make measure TABLE={name}")
    return rows


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def _blank(answer) -> bool:
    """True for what an exercise's untouched stub gives: None or the ellipsis."""
    return answer is None or answer is Ellipsis


class _NotAttempted(Exception):
    pass


def _of_the_student(error: Exception) -> bool:
    """True where the error came up in code that belongs neither to this course's utils nor to a library."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    rooms = {frame.f_globals.get("__name__", "").split(".")[0]: frame.f_code.co_filename for frame in frames}
    libraries = {*sys.stdlib_module_names, "utils", ""}  # torch runs code of its own making, which has no name
    return any(room not in libraries and "-packages" not in file for room, file in rooms.items())


@dataclass
class Exercise:
    """One exercise of a notebook: ``.check(answer)``, ``.hint()``, ``.solution()``.

    title: shown on every card.
    test: called with the answer (a function, a module, a tensor, a number ...). It raises AssertionError with a
        sentence that says what was expected, what came and the likely cause; it returns praise, or None.
    hints: from a nudge to nearly everything.
    reference: the reference solution. Its source is what ``.solution()`` prints and what the tests check, so that the
        two cannot drift apart. Where the answer is a function, it is that function; where it is a value, a function
        without arguments that computes it, and ``computed`` is True.
    """

    title: str
    test: Callable
    hints: tuple[str, ...]
    reference: Callable
    computed: bool = False
    _hints_given: int = field(default=0, repr=False)

    def verdict(self, answer) -> tuple[str, str]:
        """("correct" | "not yet" | "not attempted", one sentence), without showing anything.

        Errors raised in the answer's own code are not caught: the traceback is what its author needs to see. One raised
        by what it gave, in the check or in a layer of torch, becomes a sentence.
        """
        if _blank(answer):
            return "not attempted", "Replace the dots with your answer, then run this cell again."
        try:
            praise = self.test(self._watched(answer) if inspect.isroutine(answer) else answer)
        except _NotAttempted:
            return "not attempted", "Your function returns nothing yet. (If you have written it: is a return missing?)"
        except AssertionError as reason:
            return "not yet", str(reason)
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            if _of_the_student(error) or "memory" in str(error):
                raise
            what = textwrap.shorten(str(error).split("\n")[0], 160)
            return "not yet", f"The check cannot use what came. It says: {what} ({type(error).__name__})"
        return "correct", praise or ""

    def check(self, answer=None) -> None:
        """Check an answer and show the verdict. An untouched stub is told so; the notebook runs on."""
        verdict, sentence = self.verdict(answer)
        _exercises[self.title] = verdict
        _append("COURSE_VERDICTS", {"exercise": self.title, "verdict": verdict, "sentence": sentence})
        display(_Card(verdict, self.title, sentence))

    def hint(self) -> None:
        """Show the next hint; after the last one, start again. With COURSE_HINTS=0 neither hints nor solutions."""
        if not _on("COURSE_HINTS", "1"):
            return display(_Card("hint", self.title, "Hints and solutions are switched off here."))
        number = self._hints_given % len(self.hints)
        self._hints_given += 1
        display(_Card("hint", f"{self.title} ({number + 1} of {len(self.hints)})", self.hints[number]))

    def solution(self) -> None:
        """Show the reference solution: the very code that the tests of this course check."""
        if not _on("COURSE_HINTS", "1"):
            return self.hint()
        display(_Card("solution", self.title, code=textwrap.dedent(inspect.getsource(self.reference)).strip()))

    @staticmethod
    def _watched(function: Callable) -> Callable:
        """The same function, except that an empty result stops the test: the stub was not filled in."""

        @functools.wraps(function)
        def call(*args, **kwargs):
            result = function(*args, **kwargs)
            if _blank(result):
                raise _NotAttempted
            return result

        return call
