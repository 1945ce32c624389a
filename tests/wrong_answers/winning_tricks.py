"""Wrong answers to the exercises of notebook 10: (exercise, answer, a piece of the message that fits the mistake)."""

import copy

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


def views(*flips, divide=None, softmax=True):
    """The mean over the views, each flipped along these axes."""

    def ask_twice(model, images):
        answers = [model(images.flip(axes) if axes else images) for axes in flips]
        answers = [answer.softmax(dim=1) for answer in answers] if softmax else answers
        return sum(answers) / (divide or len(flips))

    return ask_twice


def softmax_last(model, images):
    return ((model(images) + model(images.flip(3))) / 2).softmax(dim=1)


def calibration(weigh=lambda share: share, gap=lambda c, r: abs((c.mean() - r.mean()).item()), last=9):
    def calibration_error(p, labels):
        confidence, answer = p.max(dim=1)
        right, place = (answer == labels).float(), (confidence * 10).long().clamp(max=last)
        total = 0.0
        for b in range(10):
            inside = place == b
            if inside.any():
                total += weigh(inside.float().mean().item()) * gap(confidence[inside], right[inside])
        return abs(total)

    return calibration_error


def with_empty_bins(p, labels):
    confidence, answer = p.max(dim=1)
    right, place = (answer == labels).float(), (confidence * 10).long().clamp(max=9)
    bins = [place == b for b in range(10)]
    return sum(inside.float().mean() * (confidence[inside].mean() - right[inside].mean()).abs() for inside in bins)


def mean_of(networks):
    result = copy.deepcopy(networks[0])
    result.weight.data = sum(network.weight.data for network in networks) / len(networks)
    return result


def stop_early(networks, score):
    chosen = networks[:1]
    for network in networks[1:]:
        if score(mean_of([*chosen, network])) < score(mean_of(chosen)):
            break
        chosen = [*chosen, network]
    return mean_of(chosen)


def running_mean(networks, score):
    soup = networks[0]
    for network in networks[1:]:
        if score(mean_of([soup, network])) >= score(soup):
            soup = mean_of([soup, network])
    return soup


def in_place(networks, score):
    networks[0].weight.data.fill_(1.0)
    return networks[0]


class Answers(nn.Module):
    """The same answer to every picture, or one network's logits."""

    def __init__(self, output="guess", width=4):
        super().__init__()
        self.output, self.width = output, width
        self.body = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64 * width, 10))

    def forward(self, images):
        logits = self.body(images)
        return {"guess": (0 * logits).softmax(dim=1), "logits": logits, "pair": logits[:, :2].softmax(dim=1)}[
            self.output
        ]


def popped(state):
    return {name.removeprefix("module."): state.pop(name) for name in list(state)}


WRONG = [
    ("bin_of", lambda angles: (angles / 20).long(), "only bins 0 to 8"),
    ("bin_of", lambda angles: angles % 180 / 20, "whole number"),
    ("bin_of", lambda angles: (angles % 180 / 20).round().clamp(max=8), "Cut off"),
    ("bin_of", lambda angles: (angles.abs().clamp(max=179) / 20).long(), "opposite"),
    ("bin_of", lambda angles: 3, "one bin for each angle"),
    ("errors_left", lambda before, after: after / before, "right answers"),
    ("errors_left", lambda before, after: after - before, "gain in points"),
    ("errors_left", lambda before, after: (1 - before) / (1 - after), "other way round"),
    ("errors_left", lambda before, after: (after - before) / (1 - before), "are gone"),
    ("errors_left", lambda before, after: 100 * (1 - after) / (1 - before), "not a percentage"),
    ("errors_left", lambda before, after: 1 - after, "4 of 10"),
    ("errors_left", lambda before, after: 0.4, "expected 1"),
    ("disagreement", lambda p, q: (p.argmax(1) == q.argmax(1)).float().mean(), "on which the two agree"),
    ("disagreement", lambda p, q: (p.argmax(1) != q.argmax(1)).sum(), "Divide it by how many"),
    ("disagreement", lambda p, q: (p != q).any(1).float().mean(), "You compare probabilities"),
    ("disagreement", lambda p, q: (p.argmax(0) != q.argmax(0)).float().mean(), "along dim=1"),
    ("disagreement", lambda p, q: p.argmax(1) != q.argmax(1), "Expected one number"),
    ("ask_twice", views((), (3,), softmax=False), "These are logits"),
    ("ask_twice", softmax_last, "softmax first"),
    ("ask_twice", views(()), "mirror images are to be asked"),
    ("ask_twice", views((), (2,)), "upside down"),
    ("ask_twice", views((), (2, 3)), "You flip both axes"),
    ("ask_twice", views((), (3,), divide=1), "divide by the number of views"),
    ("ask_twice", lambda model, images: model(images).argmax(dim=1), "shape (7,) came"),
    ("without_prefix", lambda state: state, "Still with the prefix"),
    (
        "without_prefix",
        lambda state: {k.replace("module.", ""): v for k, v in state.items()},
        "removeprefix, not replace",
    ),
    ("without_prefix", lambda state: {k.lstrip("module."): v for k, v in state.items()}, "take away letters"),
    ("without_prefix", lambda state: {k[7:]: v for k, v in state.items()}, "should stay as they are"),
    (
        "without_prefix",
        lambda state: {k.removeprefix("module."): 0 * v for k, v in state.items()},
        "tensors have changed",
    ),
    ("without_prefix", lambda state: [k.removeprefix("module.") for k in state], "Expected a dict"),
    ("without_prefix", popped, "has changed"),
    ("calibration_error", with_empty_bins, "Leave empty bins out"),
    ("calibration_error", calibration(weigh=lambda share: 1), "not the plain sum"),
    ("calibration_error", calibration(weigh=lambda share: 0.1), "divide by the number of bins"),
    ("calibration_error", calibration(gap=lambda c, r: (c.mean() - r.mean()).item()), "cancel out"),
    ("calibration_error", calibration(gap=lambda c, r: (c - r).abs().mean().item()), "expected 0.25"),
    ("calibration_error", calibration(last=10), "exactly 1"),
    ("calibration_error", lambda p, labels: p.max(dim=1).values, "Expected one number"),
    ("greedy_soup", lambda networks, score: mean_of(networks), "average of all"),
    ("greedy_soup", lambda networks, score: networks[0], "best network alone"),
    ("greedy_soup", stop_early, "stop at the first network"),
    ("greedy_soup", running_mean, "counts as much as all before"),
    ("greedy_soup", in_place, "have changed"),
    ("greedy_soup", lambda networks, score: 1.0, "Expected a network"),
    ("lab", lambda images, labels: [Answers()], "expected an nn.Module"),
    ("lab", lambda images, labels: Answers(), "guessing has 2.30"),
    ("lab", lambda images, labels: Answers("logits"), "not probabilities"),
    ("lab", lambda images, labels: Answers("pair"), "ten probabilities a picture"),
    ("lab", lambda images, labels: Answers(width=1000), "at most 1,000,000 are allowed"),
]


def by_loop(p, labels):
    """The same in NumPy, one answer after another: its result is an np.float32."""
    total = np.float32(0)
    confidence, answer = p.max(dim=1)
    for low in range(10):
        rows = [i for i, c in enumerate(confidence.tolist()) if min(int(c * 10), 9) == low]
        if rows:
            gap = np.mean([confidence[i].item() - (answer[i] == labels[i]).item() for i in rows])
            total += np.float32(len(rows) / len(labels) * abs(gap))
    return np.float32(total)


RIGHT = [
    ("calibration_error", by_loop),
    ("disagreement", lambda p, q: np.float32((p.argmax(1) != q.argmax(1)).float().mean())),
    ("disagreement", lambda p, q: (p.max(1).indices != q.max(1).indices).double().mean()),
    ("bin_of", lambda angles: torch.floor(torch.remainder(angles, 180) / 20)),
    ("without_prefix", lambda state: {k[7:] if k.startswith("module.") else k: v for k, v in state.items()}),
]


def binned(p, labels, bins, confidence=None):
    confidence, answer = p.max(dim=1)
    place = (confidence * bins).long().clamp(max=bins - 1)
    return torch.zeros(bins).index_add(0, place, confidence - (answer == labels).float()).abs().sum() / len(p)


def of_class_one(p, labels):
    return binned(torch.stack([1 - p[:, 1], p[:, 1]], dim=1), (labels == 1).long(), 10)


def greedy(average, better=lambda found, best: found >= best):
    def greedy_soup(networks, score):
        chosen, best = networks[:1], score(networks[0])
        for network in networks[1:]:
            found = score(average([*chosen, network]))
            if better(found, best):
                chosen, best = [*chosen, network], found
        return average(chosen)

    return greedy_soup


def averaged(networks):
    result = AveragedModel(networks[0])
    for network in networks:
        result.update_parameters(network)
    return result


class Together(nn.Module):
    def __init__(self, networks):
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x):
        return sum(network(x) for network in self.networks) / len(self.networks)


WRONG += [
    ("disagreement", lambda p, q: (p.argmax(1) != q.argmax(1)).sum() / 5, "Of eight pictures"),
    ("ask_twice", lambda model, x: (model(x).softmax(0) + model(x.flip(3)).softmax(0)) / 2, "runs over the pictures"),
    (
        "without_prefix",
        lambda state: {k.removeprefix("module."): v.numpy() for k, v in state.items()},
        "expected tensors",
    ),
    ("calibration_error", of_class_one, "expected"),
    ("calibration_error", lambda p, labels: binned(p, labels, 5), "ten bins of equal width"),
    ("greedy_soup", greedy(mean_of, lambda found, best: found > best), ">= and not >"),
    ("greedy_soup", greedy(Together), "Average the weights"),
]
RIGHT += [
    ("bin_of", lambda angles: [int(angle % 180 // 20) for angle in angles.tolist()]),
    ("ask_twice", lambda model, x: views((), (3,))(model, x).double()),
    ("without_prefix", lambda state: {k.removeprefix("module."): state[k] for k in sorted(state)}),
    ("calibration_error", lambda p, labels: binned(p, labels, 10)),
    ("greedy_soup", greedy(averaged)),
]
