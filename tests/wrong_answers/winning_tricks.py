"""Wrong answers to the exercises of notebook 10: (exercise, answer, a piece of the message that fits the mistake)."""

import copy

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import box_iou


def views(*flips, divide=None, softmax=True):
    """The mean over the views, each flipped along these axes."""

    def ask_twice(model, images):
        answers = [model(images.flip(axes) if axes else images) for axes in flips]
        answers = [answer.softmax(dim=1) for answer in answers] if softmax else answers
        return sum(answers) / (divide or len(flips))

    return ask_twice


def softmax_last(model, images):
    return ((model(images) + model(images.flip(3))) / 2).softmax(dim=1)


def boxes_iou(clamp=True, union=lambda a, b, both: a + b - both):
    def iou(a, b):
        sides = torch.minimum(a[:, None, 2:], b[None, :, 2:]) - torch.maximum(a[:, None, :2], b[None, :, :2])
        both = (sides.clamp(min=0) if clamp else sides).prod(dim=2)
        area_a, area_b = ((boxes[:, 2:] - boxes[:, :2]).prod(dim=1) for boxes in (a, b))
        return both / union(area_a[:, None], area_b[None], both)

    return iou


def suppression(descending=True, removed_too=False, limit=None):
    def suppress(boxes, scores, overlap):
        kept, seen = [], []
        for place in scores.argsort(descending=descending).tolist():
            rivals = seen if removed_too else kept
            if not rivals or box_iou(boxes[[place]], boxes[rivals]).max() <= (limit or overlap):
                kept.append(place)
            seen.append(place)
        return kept

    return suppress


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


WRONG = [
    ("ask_twice", views((), (3,), softmax=False), "These are logits"),
    ("ask_twice", softmax_last, "softmax first"),
    ("ask_twice", views(()), "mirror images are to be asked"),
    ("ask_twice", views((), (2,)), "upside down"),
    ("ask_twice", views((), (2, 3)), "You flip both axes"),
    ("ask_twice", views((), (3,), divide=1), "divide by the number of views"),
    ("ask_twice", lambda model, images: model(images).argmax(dim=1), "shape (7,) came"),
    (
        "squash_by_hand",
        lambda s: (s**2).sum(-1, keepdim=True) / (1 + (s**2).sum(-1, keepdim=True)) * s / s.norm(dim=-1, keepdim=True),
        "0 / 0",
    ),
    (
        "squash_by_hand",
        lambda s: (s**2).sum(-1, keepdim=True) / (1 + (s**2).sum(-1, keepdim=True)) * s,
        "You scale s itself",
    ),
    ("squash_by_hand", lambda s: F.normalize(s, dim=-1), "All vectors have length 1"),
    ("squash_by_hand", torch.tanh, "Vectors of length 5 and 1"),
    ("squash_by_hand", lambda s: s.norm(dim=-1), "one vector for each vector"),
    (
        "squash_by_hand",
        lambda s: s.norm(dim=1, keepdim=True) / (1 + s.norm(dim=1, keepdim=True) ** 2) * s,
        "along the last one",
    ),
    ("iou", boxes_iou(clamp=False), "clamp(min=0)"),
    ("iou", boxes_iou(union=lambda a, b, both: a + b), "subtract it once"),
    ("iou", boxes_iou(union=lambda a, b, both: a + 0 * b), "area of one box"),
    ("iou", lambda a, b: box_iou(a, b).diag(), "shape (2,) came"),
    ("suppress", suppression(descending=False), "should come first"),
    ("suppress", suppression(removed_too=True), "only boxes that stay remove others"),
    ("suppress", suppression(limit=0.9), "should go"),
    ("suppress", suppression(limit=0.3), "Is `overlap` used?"),
    ("suppress", lambda boxes, scores, overlap: boxes[[1, 3, 4]], "Expected the places of the boxes"),
    ("suppress", lambda boxes, scores, overlap: [1], "Box 4 overlaps none"),
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
    ("lab", lambda images, labels: Answers("logits"), "no probabilities"),
    ("lab", lambda images, labels: Answers("pair"), "ten probabilities a picture"),
    ("lab", lambda images, labels: Answers(width=1000), "at most 1,000,000 are allowed"),
]
