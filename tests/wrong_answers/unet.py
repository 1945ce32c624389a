"""Wrong answers to the exercises of notebook 04: (exercise, answer, a piece of the message that fits the mistake)."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from utils import models


def stage(join=lambda skip, x: torch.cat([skip, x], dim=1), fill=lambda x, skip: F.pad(x, right_and_below(x, skip))):
    def way_up(x, skip, up, convolutions):
        return convolutions(join(skip, fill(up(x), skip)))

    return way_up


def right_and_below(x, skip):
    return 0, skip.shape[3] - x.shape[3], 0, skip.shape[2] - x.shape[2]


def left_and_above(x, skip):
    _, right, _, below = right_and_below(x, skip)
    return right, 0, below, 0


def only_labels(answers, labels, num_classes):
    """A class that is not in the labels counts as 1, whatever was answered."""
    found = torch.ones(num_classes)
    for k in labels.unique():
        found[k] = dice(answers == k, labels == k)
    return found


def pooled_skip(skip, x):
    return torch.cat([F.interpolate(F.max_pool2d(skip, 2), scale_factor=2), x], dim=1)


def log_probabilities(width):
    return nn.Sequential(Built(width), nn.LogSoftmax(dim=1))


def by_one_hot(answers, labels, num_classes):
    a, m = (F.one_hot(part, num_classes).flatten(0, 2).double() for part in (answers, labels))
    return (2 * (a * m).sum(0) / (a.sum(0) + m.sum(0))).nan_to_num(1.0)


def by_new_zeros(x, skip, up, convolutions):
    x = up(x)
    filled = x.new_zeros(*x.shape[:2], *skip.shape[2:])
    filled[:, :, : x.shape[2], : x.shape[3]] = x
    return convolutions(torch.concat((skip, filled), dim=-3))


def cropped(skip, x):
    return torch.cat([skip[:, :, : x.shape[2], : x.shape[3]], x], dim=1)


def by_class(function, empty=1.0):
    """Each class's number from its two masks; `empty` where there is no such pixel."""

    def dice_by_class(answers, labels, num_classes):
        pairs = [(answers == k, labels == k) for k in range(num_classes)]
        return torch.stack([function(a, m) if (a | m).any() else torch.tensor(empty) for a, m in pairs])

    return dice_by_class


def dice(a, m):
    return 2 * (a & m).sum() / (a.sum() + m.sum())


def mean_over_pictures(a, m):
    parts = [dice(x, y) if (x | y).any() else torch.tensor(1.0) for x, y in zip(a, m, strict=True)]
    return torch.stack(parts).mean()


def by_score(score, result=lambda levels, scores: levels[scores.argmax()]):
    def best_threshold(probabilities, masks, levels):
        return result(levels, torch.tensor([float(score(probabilities > level, masks)) for level in levels]))

    return best_threshold


def mean_iou(a, m):
    return ((a & m).sum((1, 2)) / (a | m).sum((1, 2))).mean()


def reach(levels):
    return 4 * (2 ** (levels - 1) - 1) + 3 * 2 ** (levels - 1) - 1


def up_to(number, grid):
    return -(-number // grid) * grid


class Built(nn.Module):
    """The exercise's network with one thing changed; `join` puts the skip and what comes up together."""

    def __init__(
        self, width, skip=True, bias=False, classes=3, norm=True, relu=False, up=True, inside=nn.ReLU, join=None
    ):
        super().__init__()
        self.join = join or (lambda skip, x: torch.cat([skip, x], dim=1))

        def pair(i, o):
            layers = []
            for c in (i, o):
                layers += [nn.Conv2d(c, o, 3, padding=1, bias=bias), *[nn.BatchNorm2d(o)] * norm, inside()]
            return nn.Sequential(*layers)

        self.skip, self.relu = skip, relu
        self.top, self.bottom = pair(1, width), pair(width, 2 * width)
        smooth = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(2 * width, width, 1))
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2) if up else smooth
        self.last, self.head = pair(2 * width if skip else width, width), nn.Conv2d(width, classes, 1)

    def forward(self, images):
        skip = self.top(images)
        x = self.up(self.bottom(F.max_pool2d(skip, 2)))
        x = self.head(self.last(self.join(skip, x) if self.skip else x))
        return F.relu(x) if self.relu else x


class InForward(nn.Module):
    """Another right one: single layers, F.relu, lazy convolutions, and what comes up first among the channels."""

    def __init__(self, width):
        super().__init__()
        channels = [width, width, 2 * width, 2 * width, width, width]
        self.convolutions = nn.ModuleList(nn.LazyConv2d(c, 3, padding=1, bias=False) for c in channels)
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) for c in channels)
        self.up, self.head = nn.ConvTranspose2d(2 * width, width, 2, stride=2), nn.Conv2d(width, 3, 1)

    def forward(self, x):
        for k, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            if k == 2:
                skip, x = x, F.max_pool2d(x, 2)
            if k == 4:
                x = torch.cat([self.up(x), skip], dim=1)
            x = F.relu(norm(convolution(x)))
        return self.head(x)


def pooled_first(answers, masks):
    """Dice of all pictures together, for each."""
    return (2 * (answers & masks).sum() / (answers.sum() + masks.sum())).expand(len(masks))


def shares(of_outside, of_inside):
    def wrong_outside_and_inside(answers, masks):
        wrong = answers != masks
        return of_outside(wrong, answers, masks), of_inside(wrong, answers, masks)

    return wrong_outside_and_inside


def mean_of_pictures(wrong, masks):
    return torch.stack([w[m].float().mean() for w, m in zip(wrong, masks, strict=True)]).mean()


def always(answer):
    """A lab that learns nothing: the same answer to every picture."""

    def train_on_50(few):
        return lambda images: answer(images, few.targets["mask"])

    return train_on_50


def brightness(images, masks):
    return images.float().mean(1) > images.float().mean((1, 2, 3))[:, None, None]


def left_in_training_mode(few):
    torch.manual_seed(0)
    model = models.UNet()

    @torch.no_grad()
    def segment(images):
        return model(images.float())[:, 0] > 0

    return segment


WRONG = [
    ("dice", lambda a, m: "0.5", "Expected one number for each picture"),
    ("dice", lambda a, m: {0: 1.0}, "Expected one number for each picture, a tensor; a dict came"),
    ("way_up", lambda x, skip, up, convolutions: convolutions([skip, up(x)]), "The convolutions got a list"),
    ("way_up", lambda x, skip, up, convolutions: torch.cat([skip, convolutions(up(x))], dim=1), "got 3 channels"),
    ("best_threshold", lambda p, m, levels: float("nan"), "none of the levels"),
    ("best_threshold", by_score(lambda a, m: (a & m).sum() / (a | m).sum()), "mean IoU over the pictures"),
    ("wrong_outside_and_inside", lambda a, m: {"outside": 0.1, "inside": 0.2}, "Expected two shares"),
    ("dice_by_class", lambda a, m, k: by_class(dice)(a, m, 4), "Is num_classes used"),
    ("dice_by_class", lambda a, m, k: only_labels(a, m, k), "Only one that is in neither counts as 1"),
    ("tile_margin", lambda levels: [56], "Expected an integer; a list came"),
    ("two_stage_unet", lambda width: Built(width, join=pooled_skip), "blocks of 2 x 2"),
    ("two_stage_unet", log_probabilities, "through log_softmax"),
    ("dice", lambda a, m: (a & m).sum((1, 2)) / (a | m).sum((1, 2)).clamp(min=1), "counts as 1; 0.00 came"),
    ("dice", lambda a, m: 2 * (a & m).sum((1, 2)) / (a.sum((1, 2)) + m.sum((1, 2))), "One number is NaN"),
    ("dice", lambda a, m: ((a & m).sum((1, 2)) / (a | m).sum((1, 2))).nan_to_num(1.0), "This is the IoU"),
    ("dice", lambda a, m: (a == m).float().mean((1, 2)), "This is the pixel accuracy"),
    ("dice", lambda a, m: 2 * (a & m).sum() / (a.sum() + m.sum()), "expected 5 numbers"),
    ("dice", lambda a, m: (a & m).sum((1, 2)) / (a.sum((1, 2)) + m.sum((1, 2))).clamp(min=1), "counts as 1; 0.00 came"),
    ("dice", pooled_first, "counts as 1"),
    (
        "wrong_outside_and_inside",
        shares(lambda w, a, m: w[m].float().mean(), lambda w, a, m: w[~m].float().mean()),
        "other way round",
    ),
    (
        "wrong_outside_and_inside",
        shares(lambda w, a, m: (w & ~m).float().mean(), lambda w, a, m: (w & m).float().mean()),
        "number of all pixels",
    ),
    (
        "wrong_outside_and_inside",
        shares(lambda w, a, m: mean_of_pictures(w, ~m), lambda w, a, m: mean_of_pictures(w, m)),
        "mean over pictures",
    ),
    (
        "wrong_outside_and_inside",
        shares(lambda w, a, m: (~w)[~m].float().mean(), lambda w, a, m: (~w)[m].float().mean()),
        "that are right",
    ),
    (
        "wrong_outside_and_inside",
        shares(lambda w, a, m: w[~a].float().mean(), lambda w, a, m: w[a].float().mean()),
        "what was *answered*",
    ),
    ("wrong_outside_and_inside", lambda a, m: (a != m).float().mean(), "Expected two shares"),
    ("way_up", stage(join=lambda skip, x: skip + x), "not added"),
    ("way_up", stage(join=lambda skip, x: torch.cat([x, skip], dim=1)), "The other way round"),
    ("way_up", stage(join=cropped, fill=lambda x, skip: x), "the skip stays whole"),
    ("way_up", stage(fill=lambda x, skip: F.pad(x, left_and_above(x, skip))), "is not at its place"),
    ("way_up", stage(fill=lambda x, skip: F.interpolate(x, skip.shape[2:])), "not by stretching"),
    ("way_up", stage(fill=lambda x, skip: F.pad(x, right_and_below(x, skip), value=1.0)), "Fill up with zeros"),
    ("way_up", lambda x, skip, up, convolutions: torch.cat([skip, skip], dim=1), "convolutions were not used"),
    ("dice_by_class", by_class(lambda a, m: (a & m).sum() / (a | m).sum()), "IoU of each class"),
    ("dice_by_class", by_class(lambda a, m: dice(a, m) / 2), "where is the 2"),
    ("dice_by_class", by_class(dice, empty=0.0), "counts as 1; 0.00 came"),
    ("dice_by_class", by_class(dice, empty=float("nan")), "A number is NaN"),
    ("dice_by_class", by_class(lambda a, m: (a & m).sum() / m.sum()), "its recall"),
    ("dice_by_class", by_class(lambda a, m: (a == m).float().mean()), "pixel accuracy of each class"),
    ("dice_by_class", by_class(mean_over_pictures), "the mean over pictures"),
    ("dice_by_class", lambda a, m, k: dice(a == m, m == m), "Expected one number a class"),
    ("best_threshold", lambda p, m, levels: 0.5, "not always 0.5"),
    ("best_threshold", by_score(lambda a, m: (a == m).float().mean()), "not the accuracy"),
    ("best_threshold", by_score(mean_iou, lambda levels, s: int(s.argmax())), "Return the level itself"),
    ("best_threshold", by_score(mean_iou, lambda levels, s: s.max().item()), "Return the threshold"),
    ("best_threshold", by_score(mean_iou, lambda levels, s: s), "shape (9,) came"),
    ("best_threshold", by_score(mean_iou, lambda levels, s: levels[s.argmin()]), "Take the level whose mean IoU"),
    ("tile_margin", reach, "51 is the reach"),
    ("tile_margin", lambda levels: reach(levels) // 2 ** (levels - 1) * 2 ** (levels - 1), "rounded down"),
    ("tile_margin", lambda levels: 5 * 2 ** (levels - 1), "one way only"),
    ("tile_margin", lambda levels: up_to(reach(levels), 8), "the grid is 2, not 8"),
    ("tile_margin", lambda levels: 56, "more than is needed"),
    ("tile_margin", lambda levels: 51 / 8, "Expected an integer"),
    ("tile_margin", lambda levels: 8, "less than the network's reach"),
    ("two_stage_unet", lambda width: Built(width, skip=False), "as many as without the skip"),
    ("two_stage_unet", lambda width: Built(width, bias=True), "without bias"),
    ("two_stage_unet", lambda width: Built(width, classes=1), "three classes"),
    ("two_stage_unet", lambda width: Built(width, norm=False), "0 batch normalisations"),
    ("two_stage_unet", lambda width: Built(width, relu=True), "no ReLU behind it"),
    ("two_stage_unet", lambda width: Built(width, up=False), "nn.ConvTranspose2d"),
    ("two_stage_unet", lambda width: models.UNet(3, width, levels=3, in_channels=1), "expected 7"),
    ("two_stage_unet", lambda width: width, "Expected a network"),
    ("two_stage_unet", lambda width: Built(width, inside=nn.Identity), "is a ReLU missing"),
    ("two_stage_unet", lambda width: Built(width, inside=nn.LeakyReLU), "is a ReLU missing"),
    ("two_stage_unet", lambda width: Built(width, join=lambda skip, x: torch.cat([x, x], dim=1)), "twice, and no skip"),
    (
        "two_stage_unet",
        lambda width: Built(width, join=lambda skip, x: torch.cat([skip, skip], dim=1)),
        "does not reach",
    ),
    (
        "two_stage_unet",
        lambda width: Built(width, join=lambda skip, x: torch.cat([0 * skip, x], dim=1)),
        "there are zeros",
    ),
    (
        "two_stage_unet",
        lambda width: Built(width, join=lambda skip, x: torch.cat([skip.flip(3), x], dim=1)),
        "does not get the skip",
    ),
    ("lab", always(lambda images, masks: torch.zeros(len(images), 64, 64, dtype=torch.bool)), "counts as good"),
    ("lab", always(lambda images, masks: torch.ones(len(images), 64, 64, dtype=torch.bool)), "counts as good"),
    ("lab", always(lambda images, masks: (masks.float().mean(0) > 0.4).expand(len(images), 64, 64)), "counts as good"),
    ("lab", always(lambda images, masks: masks[:1].expand(len(images), 64, 64)), "counts as good"),
    ("lab", always(brightness), "counts as good"),
    ("lab", always(lambda images, masks: images[:, 0] > 0.5), "counts as good"),
    ("lab", always(lambda images, masks: images[:, 0].float()), "expected bool"),
    ("lab", always(lambda images, masks: images > 100), "one mask a picture"),
    ("lab", left_in_training_mode, "Call model.eval() first"),
    ("lab", lambda few: few, "expected a function"),
]

RIGHT = [
    ("dice", lambda a, m: [dice(x, y) if (x | y).any() else 1.0 for x, y in zip(a, m, strict=True)]),
    ("dice", lambda a, m: 1 - (a ^ m).sum((1, 2)) / (a.sum((1, 2)) + m.sum((1, 2))).clamp(min=1)),
    ("way_up", by_new_zeros),
    ("best_threshold", by_score(mean_iou, lambda levels, s: np.array(levels[s.argmax()]))),
    ("wrong_outside_and_inside", lambda a, m: (part.float().mean() for part in ((a != m)[~m], (a != m)[m]))),
    ("dice_by_class", by_one_hot),
    ("tile_margin", lambda levels: torch.tensor(up_to(reach(levels), 2 ** (levels - 1)))),
    ("dice", lambda a, m: torch.nan_to_num(2 * (a * m).sum((1, 2)) / (a.sum((1, 2)) + m.sum((1, 2))), nan=1.0)),
    (
        "dice",
        lambda a, m: torch.stack(
            [dice(x, y) if (x | y).any() else torch.tensor(1.0) for x, y in zip(a, m, strict=True)]
        ),
    ),
    ("best_threshold", by_score(mean_iou, lambda levels, s: np.float32(levels[s.argmax()]))),
    ("best_threshold", by_score(mean_iou, lambda levels, s: torch.tensor(levels)[s.argmax()])),
    ("wrong_outside_and_inside", lambda a, m: [(a & ~m).sum() / (~m).sum(), (m & ~a).sum() / m.sum()]),
    ("wrong_outside_and_inside", lambda a, m: ((a & ~m).sum().item() / (~m).sum().item(), 1 - a[m].float().mean())),
    ("tile_margin", lambda levels: np.int64(up_to(reach(levels), 2 ** (levels - 1)))),
    ("two_stage_unet", Built),
    ("two_stage_unet", InForward),
    ("two_stage_unet", lambda width: Built(width, inside=lambda: nn.ReLU(inplace=True))),
]
