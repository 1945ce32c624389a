"""Claims and facts that can fail, and exercises that answer back."""

import json
import re

import numpy as np
import pytest
import torch

import utils
from utils import lessons
from utils.lessons import ClaimFailed, Exercise, claim, fact


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(lessons, "_claims", {})
    monkeypatch.setattr(lessons, "_exercises", {})


@pytest.mark.parametrize("true", [True, np.bool_(True), torch.tensor(True), (torch.ones(3) > 0).all()])
def test_a_true_claim_is_shown(true, capsys):
    claim("deeper is worse", true, "58 % against 0 %")
    assert "✓ holds: deeper is worse  [58 % against 0 %]" in capsys.readouterr().out


def test_a_false_claim_is_shown_and_the_lecture_goes_on(capsys):
    claim("deeper is worse", False, "0 % against 58 %")
    assert "✗ does not hold: deeper is worse" in capsys.readouterr().out


def test_a_false_claim_raises_when_strict(monkeypatch, capsys):
    monkeypatch.setenv("COURSE_STRICT", "1")
    claim("this one holds", True)
    with pytest.raises(ClaimFailed, match=r"deeper is worse  \[0 % against 58 %\]"):
        claim("deeper is worse", np.bool_(False), "0 % against 58 %")
    assert "✗ does not hold" in capsys.readouterr().out  # shown first, so that the notebook's output says which


@pytest.mark.parametrize("condition", [1, 0.7, "yes", None, torch.tensor(3.0), torch.ones(2) > 0, np.array([True]), []])
def test_a_condition_that_is_not_one_truth_value_is_refused(condition):
    with pytest.raises(TypeError, match="expected True or False"):
        claim("could hardly fail", condition)


def test_an_unknown_value_of_the_switch_is_refused(monkeypatch):
    monkeypatch.setenv("COURSE_STRICT", "yes")
    for value in (True, False):  # at the first claim already, not only at the first that fails
        with pytest.raises(ValueError, match="COURSE_STRICT='yes': expected 1"):
            claim("a claim", value)


def test_a_card_says_what_was_the_same(capsys):
    claim("deeper is worse", True, "58 % against 0 %", same="1,000 pictures & 50 steps")
    assert "[58 % against 0 %]  [The same for all: 1,000 pictures & 50 steps]" in capsys.readouterr().out
    card = lessons._Card("holds", "deeper is worse", "", "The same for all: 1,000 pictures & 50 steps")
    assert "<br>The same for all: 1,000 pictures &amp; 50 steps" in card._repr_html_()


def test_a_fact_has_a_mark_of_its_own_and_fails_as_a_claim_does(monkeypatch, capsys):
    fact("two and two are four", 2 + 2 == 4)
    fact("two and two are five", 2 + 2 == 5, "4")
    out = capsys.readouterr().out
    assert "= exact: two and two are four" in out and "≠ not exact: two and two are five  [4]" in out
    with pytest.raises(TypeError, match="^fact.*expected True or False"):
        fact("could hardly fail", 1)
    monkeypatch.setenv("COURSE_STRICT", "1")
    with pytest.raises(ClaimFailed, match=r"five  \[4\]"):
        fact("two and two are five", 2 + 2 == 5, "4")


def test_summary_lists_each_claim_once_with_its_latest_figures(capsys):
    claim("first", True, "a")
    claim("second", False, "b")
    claim("first", True, "<c>")
    fact("third", True)
    capsys.readouterr()
    lessons.summary()
    text = capsys.readouterr().out
    assert "In this run 1 of 2 claims hold, 1 of 1 facts hold\n" in text
    assert text.index("second") < text.index("first") < text.index("third") and text.count("first") == 1
    assert "✗ second" in text and "= third" in text
    assert "&lt;c&gt;" in lessons._Summary()._repr_html_()


def test_summary_says_how_many_exercises_are_done():
    EXERCISE.check(lambda x: x + 1)
    EXERCISE.check(double)
    Exercise("Another", test=check_double, hints=(), reference=double).check(...)
    assert lessons._Summary().title == "In this run 1 of 2 exercises are done"


def test_a_notebook_that_begins_leaves_out_what_was_claimed_before():
    """... by another one in the same kernel, or by an earlier run."""
    claim("of another notebook", True)
    EXERCISE.check(double)
    utils.start()
    claim("of this one", True)
    assert repr(lessons._Summary()) == "In this run 1 of 1 claims hold\n  ✓ of this one  []"


def test_claims_are_collected_where_asked(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_CLAIMS", str(tmp_path / "claims.jsonl"))
    claim("one", True, "1 > 0", same="one step")
    fact("two", False)
    lines = [json.loads(line) for line in (tmp_path / "claims.jsonl").read_text().splitlines()]
    assert lines == [
        {"kind": "claim", "text": "one", "held": True, "figures": "1 > 0", "same": "one step"},
        {"kind": "fact", "text": "two", "held": False, "figures": "", "same": ""},
    ]


def test_verdicts_are_collected_where_asked(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_VERDICTS", str(tmp_path / "verdicts.jsonl"))
    EXERCISE.check(double)
    EXERCISE.check(...)
    right, stub = [json.loads(line) for line in (tmp_path / "verdicts.jsonl").read_text().splitlines()]
    assert right == {"exercise": "Double it", "verdict": "correct", "sentence": "Any number will do."}
    assert (stub["verdict"], stub["sentence"][:16]) == ("not attempted", "Replace the dots")


# JupyterLab light and dark, VS Code dark, Colab dark
THEMES = ["#ffffff", "#111111", "#1f1f1f", "#383838"]


def luminance(colour):
    """Relative luminance of "#rrggbb", as WCAG 2.1 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("verdict", lessons._LOOKS)
def test_a_card_can_be_read_on_every_theme(verdict, theme):
    """Where a card sets a colour of its own, it stands out; all other words have the theme's."""
    card = lessons._Card(verdict, "text", "detail", code="x = 1")._repr_html_()
    styles = [style for style in re.findall(r'style="([^"]*)"', card) if re.search(r"(?<![-\w])color:", style)]
    assert len(styles) == 1 and "opacity" not in card
    ink = re.search(r"(?<![-\w])color:(#\w{6})", styles[0])[1]
    ground = re.search(r"background:(#\w{6})", styles[0])
    assert contrast(ink, ground[1] if ground else theme) >= 4.5


def double(x):
    return 2 * x


def check_double(double):
    result = double(3)
    assert result == 6, f"double(3) gave {result}; expected 6. Do you multiply by 2?"
    return "Any number will do."


EXERCISE = Exercise("Double it", test=check_double, hints=("Think.", "Multiply."), reference=double)


def stub(x): ...


@pytest.mark.parametrize("blank", [None, ..., stub])
def test_an_untouched_stub_is_told_so(blank):
    assert EXERCISE.verdict(blank)[0] == "not attempted"


def test_right_and_wrong_answers():
    assert EXERCISE.verdict(double) == ("correct", "Any number will do.")
    verdict, sentence = EXERCISE.verdict(lambda x: x + 1)
    assert verdict == "not yet" and sentence.startswith("double(3) gave 4; expected 6. Do you multiply by 2?")


def test_an_error_in_the_answer_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        EXERCISE.verdict(lambda x: 1 / 0)


def test_an_error_in_the_check_becomes_a_sentence():
    number = Exercise("A number", test=float, hints=("Think.", "Count."), reference=double)
    verdict, sentence = number.verdict(["a", "list"])
    assert verdict == "not yet" and sentence.startswith("The check cannot use what came. It says: float() argument")


def test_cards(capsys):
    EXERCISE.check(...)
    EXERCISE.check(double)
    for _ in range(3):
        EXERCISE.hint()
    EXERCISE.solution()
    out = capsys.readouterr().out
    assert "○ not attempted: Double it" in out and "✓ correct: Double it" in out
    assert "(1 of 2)  [Think.]" in out and "(2 of 2)  [Multiply.]" in out and out.count("Think.") == 2
    assert "def double(x):\n        return 2 * x" in out


def test_a_measured_table_is_read_and_says_where_it_comes_from(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lessons, "__file__", str(tmp_path / "utils/lessons.py"))
    (tmp_path / "data/measured").mkdir(parents=True)
    (tmp_path / "data/measured/errors.csv").write_text(
        "kind,depth,error,seconds,torch,date\nplain,8,0.5,1.0,2.15.0,2026-11-21\nplain,56,1e-3,9.5,2.15.0,2026-11-22\n"
    )
    first, second = lessons.measured("errors")
    assert (first["kind"], first["depth"], first["error"]) == ("plain", 8, 0.5)
    assert isinstance(first["depth"], int)
    assert second["error"] == 0.001
    assert capsys.readouterr().out == (
        "2 runs, measured earlier (2026-11-21 to 2026-11-22, torch 2.15.0). Again: make measure TABLE=errors\n"
    )


def test_hints_and_solutions_can_be_switched_off(monkeypatch, capsys):
    monkeypatch.setenv("COURSE_HINTS", "0")
    exercise = Exercise("Double", lambda answer: None, ("Add it to itself.",), lambda x: x + x)
    exercise.hint()
    exercise.solution()
    said = capsys.readouterr().out
    assert said.count("Hints and solutions are switched off here.") == 2
    assert "itself" not in said and "x + x" not in said
