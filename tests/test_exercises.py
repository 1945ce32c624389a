"""Every checker on its reference solution, on the untouched stub, and on wrong answers: each gets a message that fits.

The wrong answers of notebook NN_topic are in tests/wrong_answers/topic.py.
"""

import importlib.util
import pkgutil
from functools import cache

import pytest
import torch

import utils.exercises
from utils.lessons import Exercise

TOPICS = [module.name for module in pkgutil.iter_modules(utils.exercises.__path__)]


def exercises(topic: str) -> dict[str, Exercise]:
    module = importlib.import_module(f"utils.exercises.{topic}")
    return {name: value for name, value in vars(module).items() if isinstance(value, Exercise)}


def wrong_answers(topic: str) -> list:
    if not importlib.util.find_spec(f"tests.wrong_answers.{topic}"):
        return []  # test_every_exercise_has_two_wrong_answers_at_least says so
    return importlib.import_module(f"tests.wrong_answers.{topic}").WRONG


def slow(name: str) -> list:
    """A lab trains a network, for up to a minute."""
    return [pytest.mark.slow] * name.endswith("lab")


EVERY = {f"{topic}.{name}": exercise for topic in TOPICS for name, exercise in exercises(topic).items()}
ALL = [pytest.param(exercise, id=name) for name, exercise in EVERY.items()]
SOLVED = [pytest.param(name, marks=slow(name)) for name in EVERY]
WRONG = [
    pytest.param(exercises(topic).get(name), answer, message, id=f"{topic}.{name}: {message}", marks=slow(name))
    for topic in TOPICS
    for name, answer, message in wrong_answers(topic)
]

RIGHT = [
    pytest.param(exercises(topic)[name], answer, id=f"{topic}.{name}-{number}")
    for topic in TOPICS
    if importlib.util.find_spec(f"tests.wrong_answers.{topic}")
    for number, (name, answer) in enumerate(
        getattr(importlib.import_module(f"tests.wrong_answers.{topic}"), "RIGHT", [])
    )
]


@cache
def reference(name: str):
    """The right answer to an exercise, computed once where it is the result of a function."""
    exercise = EVERY[name]
    return exercise.reference() if exercise.computed else exercise.reference


@pytest.mark.parametrize("name", SOLVED)
def test_the_reference_solution_passes(name):
    verdict, sentence = EVERY[name].verdict(reference(name))
    assert verdict == "correct", sentence


@pytest.mark.parametrize("exercise", ALL)
@pytest.mark.parametrize("blank", [None, ...], ids=["None", "dots"])
def test_an_untouched_stub_is_not_attempted(exercise, blank):
    assert exercise.verdict(blank)[0] == "not attempted"


@pytest.mark.parametrize("name", SOLVED)
@pytest.mark.parametrize("blank", [None, ...], ids=["None", "dots"])
def test_an_untouched_function_is_not_attempted(name, blank):
    if not callable(reference(name)):
        pytest.skip("its answer is no function")
    assert EVERY[name].verdict(lambda *args: blank)[0] == "not attempted"


@pytest.mark.parametrize("exercise", ALL)
def test_hints_go_from_a_nudge_to_nearly_everything(exercise):
    assert len(exercise.hints) >= 2 and all(hint.strip() for hint in exercise.hints)


@pytest.mark.parametrize(("exercise", "answer", "message"), WRONG)
def test_wrong_answers_get_the_message_that_fits(exercise, answer, message):
    assert exercise, "tests/wrong_answers/ names an exercise that is not there"
    torch.manual_seed(0)
    verdict, sentence = exercise.verdict(answer)
    assert (verdict, message in sentence) == ("not yet", True), f"{verdict}: {sentence}"


@pytest.mark.parametrize(("exercise", "answer"), RIGHT)
def test_right_answers_that_are_not_the_reference_pass(exercise, answer):
    torch.manual_seed(0)
    verdict, sentence = exercise.verdict(answer)
    assert verdict == "correct", sentence


@pytest.mark.parametrize("topic", TOPICS)
def test_every_exercise_has_two_wrong_answers_at_least(topic):
    names = [name for name, *_ in wrong_answers(topic)]
    lacking = [name for name in exercises(topic) if names.count(name) < 2]
    assert not lacking, f"tests/wrong_answers/{topic}.py: WRONG needs two wrong answers or more to {', '.join(lacking)}"
