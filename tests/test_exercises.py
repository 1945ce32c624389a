"""Every checker on its reference solution, on the untouched stub, and on wrong answers: each gets the message that fits it."""

import importlib
import pkgutil

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

import utils.exercises
from utils.exercises import transfer_learning
from utils.lessons import Exercise

MODULES = [importlib.import_module(f"utils.exercises.{module.name}") for module in pkgutil.iter_modules(utils.exercises.__path__)]
ALL = [
    pytest.param(exercise, id=f"{module.__name__.split('.')[-1]}.{name}")
    for module in MODULES
    for name, exercise in vars(module).items()
    if isinstance(exercise, Exercise)
]


@pytest.mark.parametrize("exercise", ALL)
def test_the_reference_solution_passes(exercise):
    verdict, sentence = exercise.verdict(exercise.reference() if exercise.computed else exercise.reference)
    assert verdict == "correct", sentence


@pytest.mark.parametrize("exercise", ALL)
@pytest.mark.parametrize("blank", [None, ..., lambda *args: None, lambda *args: ...], ids=["None", "dots", "returns None", "returns dots"])
def test_a_stub_is_not_attempted(exercise, blank):
    assert exercise.verdict(blank)[0] == "not attempted"


@pytest.mark.parametrize("exercise", ALL)
def test_hints_go_from_a_nudge_to_nearly_everything(exercise):
    assert len(exercise.hints) >= 2 and all(hint.strip() for hint in exercise.hints)


# ---- 05 transfer learning: wrong answers, and a piece of the message that fits ----------------------------------------


def head(change):
    def replace_head(model, num_classes):
        change(model, num_classes)
        return model

    return replace_head


def set_last(make):
    def change(model, num_classes):
        model.classifier[1] = make(model.classifier[1], num_classes)

    return change


def forget_features(model, num_classes):
    model.classifier[1] = nn.Linear(model.classifier[1].in_features, num_classes)
    for parameter in model.features.parameters():
        nn.init.normal_(parameter)


def frozen(change, count=lambda model: sum(p.numel() for p in model.parameters() if p.requires_grad)):
    def freeze(model):
        change(model)
        return count(model)

    return freeze


def freeze_features(model):
    model.features.requires_grad_(False)


def neighbour(function):
    return lambda points, known, labels: function(F.normalize(points, dim=1), F.normalize(known, dim=1), labels)


def cache(mode="eval", grad=False, shuffle=False, drop_last=False):
    def cache_features(encoder, dataset):
        getattr(encoder, mode)()
        with torch.set_grad_enabled(grad):
            return torch.cat([encoder(x) for x, _ in DataLoader(dataset, 32, shuffle=shuffle, drop_last=drop_last)])

    return cache_features


WRONG = [
    ("replace_head", lambda model, num_classes: nn.Linear(1280, 3), "expects 1280 features"),
    ("replace_head", lambda model, num_classes: 3, "returned a int; expected the model"),
    ("replace_head", head(set_last(lambda old, n: nn.Linear(1280, n))), "expects 1280 features; its features are 64"),
    ("replace_head", head(set_last(lambda old, n: nn.Linear(old.in_features, 2))), "asked for 3 classes and gives 2"),
    ("replace_head", head(lambda model, n: nn.Linear(model.classifier[1].in_features, n)), "asked for 3 classes and gives"),
    ("replace_head", head(forget_features), "features of SmallResNet have changed"),
    ("freeze", frozen(lambda model: model.features.eval()), "Every weight of model.features is still trained"),
    ("freeze", frozen(lambda model: model.requires_grad_(False)), "classifier is frozen too"),
    ("freeze", frozen(lambda model: model.features[0].requires_grad_(False)), "are still trained. Loop over all"),
    ("freeze", frozen(freeze_features, lambda model: len(list(model.classifier.parameters()))), "Count with p.numel"),
    ("freeze", frozen(freeze_features, lambda model: sum(p.numel() for p in model.parameters())), "Count with p.numel"),
    ("nearest_label", neighbour(lambda p, k, labels: (p @ k.T).argmax(1)), "places of the nearest"),
    ("nearest_label", neighbour(lambda p, k, labels: labels[(p @ k.T).argmin(1)]), "farthest"),
    ("nearest_label", lambda p, k, labels: labels[(p @ k.T).argmax(1)], "Long vectors win"),
    ("nearest_label", lambda p, k, labels: labels[torch.cdist(p, k).argmin(1)], "not those of the nearest neighbour"),
    ("nearest_label", neighbour(lambda p, k, labels: (p @ k.T).max()), "one label for each of the 30"),
    ("nearest_label", neighbour(lambda p, k, labels: [1] * 30), "list came"),
    ("cache_features", cache(mode="train"), "call encoder.eval"),
    ("cache_features", cache(grad=True), "torch.no_grad"),
    ("cache_features", cache(shuffle=True), "Do not shuffle"),
    ("cache_features", cache(drop_last=True), "the last one too"),
    ("cache_features", lambda encoder, dataset: [encoder(x) for x, _ in DataLoader(dataset, 32)], "a list came"),
    ("lab", lambda images: torch.zeros(len(images), dtype=torch.long), "guessing gives 50 %"),
    ("lab", lambda images: torch.zeros(len(images), 2), "expected as many labels"),
]


@pytest.mark.parametrize(("name", "answer", "message"), WRONG)
def test_wrong_answers_get_the_message_that_fits(name, answer, message):
    torch.manual_seed(0)
    exercise = getattr(transfer_learning, name)
    with torch.no_grad() if name != "cache_features" else torch.enable_grad():
        verdict, sentence = exercise.verdict(answer)
    assert verdict == "not yet"
    assert message in sentence


def test_every_exercise_of_05_has_wrong_answers():
    assert {name for name, *_ in WRONG} == {name for name, value in vars(transfer_learning).items() if isinstance(value, Exercise)}
