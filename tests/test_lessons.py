"""Claims that can fail, and exercises that answer back."""

import json

import numpy as np
import pytest
import torch

from utils import lessons
from utils.lessons import ClaimFailed, Exercise, claim


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(lessons, "_claims", {})


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


def test_summary_lists_each_claim_once_with_its_latest_figures(capsys):
    claim("first", True, "a")
    claim("second", False, "b")
    claim("first", True, "<c>")
    capsys.readouterr()
    lessons.summary()
    text = capsys.readouterr().out
    assert "1 of 2 claims hold" in text
    assert text.index("second") < text.index("first") and text.count("first") == 1
    assert "&lt;c&gt;" in lessons._Summary()._repr_html_()


def test_claims_are_collected_where_asked(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_CLAIMS", str(tmp_path / "claims.jsonl"))
    claim("one", True, "1 > 0")
    claim("two", False)
    lines = [json.loads(line) for line in (tmp_path / "claims.jsonl").read_text().splitlines()]
    assert lines == [{"text": "one", "held": True, "figures": "1 > 0"}, {"text": "two", "held": False, "figures": ""}]


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
