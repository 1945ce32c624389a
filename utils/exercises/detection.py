"""Exercises of notebook 11, detection."""

import secrets

import numpy as np
import torch
from torch import nn
from torchvision.ops import box_iou

from utils.critters.scenes import CLASSES, SIDE, draw_scenes
from utils.exercises import came, not_used, number, one_thread, tensor
from utils.lessons import Exercise

# ---- 1. intersection over union --------------------------------------------------------------------------------------


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    area_a, area_b = ((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return both / (area_a + area_b - both)


def _check_iou(iou):
    not_used(iou, "box_iou", "generalized_box_iou", "distance_box_iou", "complete_box_iou", "_box_inter_union")

    def of(a, b):
        return number(iou(torch.tensor(a), torch.tensor(b)), "one number for two boxes")

    square = [0.0, 0, 10, 10]
    itself, half = of(square, square), of(square, [5.0, 0, 15, 10])
    assert not (abs(itself - 0.5) < 1e-4 and abs(half - 0.25) < 1e-4), (
        "You divide by the sum of the areas: a box and itself have 0.5. "
        "The intersection is in both areas, so it counts twice: subtract it once."
    )
    assert abs(itself - 1) < 1e-4, f"A box and itself have the IoU {itself:.3f}; expected 1."
    assert abs(half - 0.5) > 1e-4, "You divide the intersection by the area of one box. Divide it by that of the union."
    apart, corner = of(square, [20.0, 0, 30, 10]), of(square, [20.0, 30, 32, 40])
    assert abs(apart) < 1e-6 and abs(corner) < 1e-6, (
        f"Two boxes that do not touch have the IoU {apart:.3f} side by side and {corner:.3f} cornerwise; expected 0. "
        "Where there is no overlap, width and height of the intersection come out negative: take at least 0 for each "
        "of them, before you multiply."
    )
    assert abs(half - 1 / 3) < 1e-4, (
        f"Boxes (0, 0, 10, 10) and (5, 0, 15, 10) have the IoU {half:.3f}; expected 50 / 150 = 0.333."
    )
    odd = of([0.0, 0, 4, 1], [1.0, -2, 3, 5])
    assert abs(odd - 2 / 16) < 1e-4, (
        f"(0, 0, 4, 1) and (1, -2, 3, 5) have 2 pixels in common, of 16; {odd:.3f} came. Is x taken for y somewhere?"
    )
    parts = of([0.0, 0, 0.5, 1], [0.0, 0, 1, 1])
    assert abs(parts - 0.5) < 1e-4, (
        f"(0, 0, 0.5, 1) and (0, 0, 1, 1) have an area of 0.5 in common, of 1; {parts:.3f} came. The corners "
        "need not be whole numbers."
    )
    return "torchvision.ops.box_iou does it for all pairs of two lists."


iou = Exercise(
    "Intersection over union",
    test=_check_iou,
    hints=(
        "The left side of the intersection is the larger of the two left sides, its right side the smaller of the "
        "two right sides. The same is true for top and bottom.",
        "Its width is max(0, right - left), its height max(0, bottom - top).",
        "The union: area of a + area of b - intersection.",
    ),
    reference=iou,
)

# ---- 2. boxes that no anchor learns ----------------------------------------------------------------------------------


def orphans(overlaps):
    return (overlaps < 0.5).all(dim=0)


def _check_orphans(orphans):
    overlaps = torch.tensor(
        [[0.8, 0.1, 0.0, 0.5], [0.6, 0.45, 0.0, 0.1], [0.2, 0.49, 0.3, 0.0], [0.0, 0.1, 0.2, 0.4], [0.0, 0.7, 0.1, 0.2]]
    )
    result = orphans(overlaps.clone())
    if isinstance(result, list | tuple) and all(isinstance(one, torch.Tensor) and one.numel() == 1 for one in result):
        result = torch.stack([one.reshape(()) for one in result])
    result = tensor(result, "True or False for each of 4 boxes")
    assert tuple(result.shape) == (4,), (
        f"A result of shape {tuple(result.shape)} came; expected (4,), one for each of 4 boxes."
        + " You looked along the boxes: dim=0 are the anchors." * (tuple(result.shape) == (5,))
    )
    assert result.dtype == torch.bool, f"Expected True or False for each box; numbers of type {result.dtype} came."
    result = result.tolist()
    assert result != [True, True, False, True], "The other way round: True is for a box that *no* anchor learns."
    assert result != [True] * 4, "A box is learned as soon as *one* anchor reaches 0.5, not only if all do."
    assert result != [False, False, True, True], "The last box has an anchor at exactly 0.5, and 0.5 or more is enough."
    assert result == [False, False, True, False], (
        f"{result} came; expected only box 2 to be without an anchor, as its best IoU is 0.3."
    )
    more = tensor(orphans(overlaps.repeat(1, 2)), "True or False for each of 8 boxes", (8,)).tolist()
    assert more == result * 2, f"Of twice as many boxes, {more} came. Is the number of boxes written in your code?"
    return "The remedy: the best anchor of each box always learns it."


orphans = Exercise(
    "Boxes that no anchor learns",
    test=_check_orphans,
    hints=(
        "A column belongs to a box, and dim=0 runs over the anchors.",
        "overlaps.max(dim=0).values is the best IoU of each box. Compare it with 0.5.",
    ),
    reference=orphans,
)

# ---- 3. the outputs of a large detector ------------------------------------------------------------------------------


def num_outputs():
    places = sum((640 // stride) ** 2 for stride in (8, 16, 32, 64, 128))
    return places * 9 * (80 + 4)


def _check_num_outputs(count):
    assert not isinstance(count, tuple), f"{count} is a tuple in Python: write a number without commas."
    count, places = number(count, "one number, such as 1000 or 2 * 500"), 80**2 + 40**2 + 20**2 + 10**2 + 5**2
    mistakes = {
        places * 84: "Each place has nine anchors.",
        places * 9: "This is the number of anchors. Each has 80 scores and 4 numbers for its box.",
        places * 9 * 80: "The boxes are missing: 4 numbers for each anchor.",
        places * 9 * 85: "Sigmoids need no class for the background: nothing is where all 80 scores are low.",
        places * (9 * 80 + 4): "Each of the nine anchors has a box of its own.",
        80**2 * 9 * 84: "This is the finest grid only. There are five.",
        (80 + 40 + 20 + 10 + 5) * 9 * 84: "A grid has as many rows as columns: square them.",
    }
    for value, message in mistakes.items():
        assert count != value, message
    assert count == places * 9 * 84, (
        f"{count:,.0f} came. Add up the places of five grids, of 80 x 80 to 5 x 5; times anchors, times numbers each."
    )
    return "76,725 anchors with 84 numbers each: 6.4 million outputs, to find a handful of objects."


num_outputs = Exercise(
    "How many outputs?",
    test=_check_num_outputs,
    hints=(
        "A stride of 8 on 640 pixels gives a grid of 80 x 80 positions. The others have 40, 20, 10 and 5 per side.",
        "There are 8,525 positions, with 9 anchors each. "
        "An anchor has a score for each of 80 classes, and 4 numbers for its box.",
    ),
    reference=num_outputs,
    computed=True,
)

# ---- 4. a threshold for few false alarms -----------------------------------------------------------------------------


def best_threshold(thresholds, precision, recall, at_least):
    allowed = precision >= at_least
    return thresholds[allowed][recall[allowed].argmax()]


def _check_best_threshold(best_threshold):
    thresholds = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    precision = torch.tensor([0.55, 0.70, 0.91, 0.89, 0.93, 0.97, 1.00])  # not rising everywhere, as in practice
    recall = torch.tensor([0.99, 0.97, 0.94, 0.90, 0.85, 0.70, 0.40])

    def of(at_least):
        result = best_threshold(thresholds.clone(), precision.clone(), recall.clone(), at_least)
        return round(number(result, "one threshold"), 4)

    result = of(0.9)
    assert result != 0.94, "This is the recall. The threshold that has it was asked for."
    assert result != 2, "This is a place in the list. Return the threshold that stands there."
    assert result != 0.1, "This has the highest recall of all, and a precision of only 0.55. Look among those with 0.9."
    assert result != 0.7, (
        "This has the highest precision, and finds only 40 %. Among those precise enough, take the most recall."
    )
    assert result != 0.5, "0.3 is precise enough, too (0.91), and finds more. Precision need not rise everywhere."
    assert abs(result - 0.3) < 1e-6, (
        f"{result} came; expected 0.3: of the thresholds with precision 0.9 or more it finds most."
    )
    assert abs(of(0.93) - 0.5) < 1e-6, f"With at_least=0.93 it is 0.5 (precision exactly 0.93); {of(0.93)} came."
    return "Chosen on the validation scenes, of course."


best_threshold = Exercise(
    "A threshold for few false alarms",
    test=_check_best_threshold,
    hints=(
        "allowed = precision >= at_least says which thresholds are precise enough.",
        "recall[allowed].argmax() is the index of the best among them: thresholds[allowed][...].",
    ),
    reference=best_threshold,
)

# ---- 5. R-CNN against Fast R-CNN -------------------------------------------------------------------------------------


def speed_up():
    r_cnn = 2000 * (15.3 + 0.12)
    fast = 183 + 2000 * 0.12
    return r_cnn / fast


def _check_speed_up(ratio):
    assert not isinstance(ratio, tuple), f"{ratio} is a tuple in Python: a decimal number has a point, as 3.5."
    ratio = number(ratio, "one number, such as 3.5 or 7 / 2")
    assert ratio == ratio, "nan came, which is no number."
    slow, fast = 2000 * 15.42, 183 + 2000 * 0.12
    mistakes = {
        fast / slow: "Upside down: how many times *more* does R-CNN multiply?",
        slow / 183: "Fast R-CNN has its dense layers to compute for each region, too.",
        2000 * 15.3 / fast: "R-CNN computes the dense layers for each region, as well.",
        2000.0: "This would be right if Fast R-CNN looked at one crop. It looks at the picture, then at the regions.",
        slow / (15.3 + 2000 * 0.12): "Fast R-CNN's one pass is over the whole picture: 183 billion.",
        slow / (183.12): "Fast R-CNN computes the dense layers for each of the 2,000 regions.",
    }
    for value, message in mistakes.items():
        assert abs(ratio / value - 1) > 0.001, message
    assert abs(ratio / (slow / fast) - 1) < 0.02, (
        f"{ratio:.4g} came. R-CNN: everything 2,000 times. Fast R-CNN: convolutions once, dense layers 2,000 times."
    )
    return f"{slow:,.0f} against {fast:,.0f} billion. What is left to compute for each region is now more than half."


speed_up = Exercise(
    "R-CNN against Fast R-CNN",
    test=_check_speed_up,
    hints=(
        "R-CNN runs convolutions and dense layers on each of 2,000 crops: 2000 * (15.3 + 0.12).",
        "Fast R-CNN runs the convolutions once, and the dense layers for each region: 183 + 2000 * 0.12.",
    ),
    reference=speed_up,
    computed=True,
)

# ---- 6. non-maximum suppression --------------------------------------------------------------------------------------


def suppress(boxes, scores, overlap):
    kept = []
    for place in scores.argsort(descending=True).tolist():
        if not kept or box_iou(boxes[[place]], boxes[kept]).max() <= overlap:
            kept.append(place)
    return kept


def _check_suppress(suppress):
    not_used(suppress, "nms", "batched_nms", "_batched_nms_coordinate_trick", "_batched_nms_vanilla")

    def of(boxes, scores, overlap):
        result = suppress(boxes.clone(), scores.clone(), overlap)
        if isinstance(result, torch.Tensor | np.ndarray):
            result = result.tolist()
        assert isinstance(result, list | tuple), f"Expected a list of places, such as [1, 3, 4]; {came(result)} came."
        places = [number(place, "the places of the boxes that stay, such as [1, 3, 4]") for place in result]
        wanted = f"Expected the places of the boxes that stay, such as [1, 3, 4]; {result} came."
        assert all(isinstance(place, int) and not isinstance(place, bool) for place in places), wanted
        return places

    # In a row, each overlapping the next by half (IoU 1/3); the second is the surest, and the last stands alone.
    boxes = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [15, 0, 25, 10], [60, 0, 70, 10]])
    scores = torch.tensor([0.6, 0.9, 0.7, 0.65, 0.3])
    result = of(boxes, scores, 0.3)
    assert result[:1] == [1], f"The surest box, number 1, should come first; {result} came. Sort by score, descending."
    assert 4 in result, f"Box 4 overlaps none and should stay; {result} came."
    assert result != [1, 4], (
        "Box 3 is missing. It overlaps only box 2, and box 2 is removed itself (by box 1): "
        "only boxes that stay remove others."
    )
    assert 0 not in result and 2 not in result, (
        f"{result} came. Boxes 0 and 2 overlap the surest by an IoU of 1/3, more than 0.3, and should go."
    )
    assert sorted(result) == [1, 3, 4], f"{result} came; expected [1, 3, 4]."
    assert result == [1, 3, 4], f"{result} came; expected the surest first, [1, 3, 4]."
    everything = of(boxes, scores, 0.6)
    assert sorted(everything) == [0, 1, 2, 3, 4], (
        f"With overlap=0.6 no box should go, as none overlaps by more than 1/3; {everything} stay. Is `overlap` used?"
    )
    halves = torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 4]])  # an IoU of exactly 0.5
    assert of(halves, torch.tensor([0.9, 0.8]), 0.5) == [0, 1], (
        "Two boxes with an IoU of exactly `overlap` both stay: a box goes where it overlaps by *more*."
    )
    return "torchvision.ops.nms does the same, faster."


suppress = Exercise(
    "Non-maximum suppression",
    test=_check_suppress,
    hints=(
        "Go through the boxes, highest score first: scores.argsort(descending=True).tolist(). "
        "Keep a list of the indices of those that stay.",
        "A box stays if it overlaps none of those kept so far: box_iou(boxes[[place]], boxes[kept]).max() <= overlap. "
        "The first box always stays.",
    ),
    reference=suppress,
)

# ---- lab -------------------------------------------------------------------------------------------------------------

LAB_GOOD, LAB_VERY_GOOD = 0.5, 0.6  # mAP as COCO has it


def make_detector():
    from torchvision.models.detection import ssd
    from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
    from torchvision.ops import Conv2dNormActivation as Layer

    class Backbone(nn.Module):
        def __init__(self):
            super().__init__()
            widths = [(3, 16), (16, 32), (32, 64)]
            self.fine = nn.Sequential(*[Layer(i, o, stride=2) for i, o in widths], Layer(64, 64), Layer(64, 64))
            self.coarse = nn.Sequential(Layer(64, 96, stride=2), Layer(96, 96))
            self.out_channels = [64, 96]

        def forward(self, images):
            fine = self.fine(images)
            return {"fine": fine, "coarse": self.coarse(fine)}

    boxes = DefaultBoxGenerator([[1.5], [1.5]], scales=[0.17, 0.33, 0.45], steps=[8, 16])
    network = ssd.SSD(
        Backbone(), boxes, (SIDE, SIDE), num_classes=len(CLASSES) + 1, image_mean=[0.5] * 3, image_std=[0.25] * 3
    )
    network.to(memory_format=torch.channels_last)  # twice as fast on a CPU
    images, truths = draw_scenes(1500, seed=1)
    steps, batch_size, lr = 1300, 16, 4e-3
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    for _ in range(steps):
        batch, targets = [], []
        for k in torch.randint(len(images), (batch_size,)).tolist():
            image, found = images[k] / 255, truths[k]["boxes"].clone()
            if torch.rand(()) < 0.5:
                image, found[:, [0, 2]] = image.flip(2), SIDE - found[:, [2, 0]]
            batch.append(image)
            targets.append({"boxes": found, "labels": truths[k]["labels"] + 1})  # SSD's 0 is the background
        loss = sum(network(batch, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()

    @torch.no_grad()
    def detect(scenes):
        network.eval()
        found = network(list(scenes / 255))
        return [one | {"labels": one["labels"] - 1} for one in found]

    return detect


def _mean_ap(found, truths):
    """COCO's: the mean over kinds and over ten IoU thresholds of the average precision."""
    values = []
    for label in range(len(CLASSES)):
        scores, rights, num_animals = [], [], 0
        for one, truth in zip(found, truths, strict=True):
            mine = (one["labels"] == label).nonzero()[:, 0]
            mine = mine[one["scores"][mine].argsort(descending=True)]
            overlaps = box_iou(one["boxes"][mine].float(), truth["boxes"][truth["labels"] == label])
            num_animals += overlaps.shape[1]
            scores.append(one["scores"][mine])
            rights.append(torch.stack([_right(overlaps.clone(), k / 100) for k in range(50, 100, 5)]))
        right = torch.cat(rights, dim=1)[:, torch.cat(scores).argsort(descending=True)].float().cumsum(dim=1)
        recall = torch.cat([torch.zeros(10, 1), right / num_animals], dim=1)
        precision = right / torch.arange(1, right.shape[1] + 1)
        ironed = precision.flip(1).cummax(dim=1).values.flip(1) if right.shape[1] else precision
        values.append((recall.diff(dim=1) * ironed).sum(dim=1).mean().item())
    return sum(values) / len(values)


def _right(overlaps, at):
    """For each detection, the surest first: does it find an animal that none before has found?"""
    right = torch.zeros(len(overlaps), dtype=torch.bool)
    for k, row in enumerate(overlaps):
        if len(row) and row.max() >= at:
            right[k] = True
            overlaps[:, row.argmax()] = 0
    return right


def _check_lab(make_detector):
    images, truths = draw_scenes(150, seed=f"lab {secrets.randbits(60)}")
    with one_thread():
        detect = make_detector()
        assert callable(detect), f"make_detector returned a {type(detect).__name__}; expected a function of scenes."
        found = []
        for part in images.split(50):
            answers = detect(part)
            assert isinstance(answers, list | tuple), (
                f"detect gave {came(answers)}; expected a list with a dict for each of {len(part)} scenes."
            )
            found += answers
    wanted = {"boxes": (4,), "labels": (), "scores": ()}
    assert len(found) == len(images), f"{len(images)} scenes came; expected one dict each, and not {len(found)}."
    for one in found:
        assert isinstance(one, dict) and set(wanted) <= set(one), "Expected a dict of boxes, labels and scores each."
        assert all(isinstance(one[name], torch.Tensor) for name in wanted), (
            "Expected tensors in each dict; "
            + ", ".join(f"for {name!r} {came(one[name])}" for name in wanted)
            + " came."
        )
        shapes = {name: tuple(one[name].shape) for name in wanted}
        assert all(shapes[name] == (len(one["scores"]), *shape) for name, shape in wanted.items()), (
            f"Shapes {shapes} came; expected boxes (K, 4), labels (K,) and scores (K,)."
        )
    labels = torch.cat([one["labels"] for one in found])
    assert len(labels), "Not one detection in all scenes. Is the score that you ask for too high?"
    assert ((labels >= 0) & (labels < len(CLASSES))).all(), (
        f"Labels from {labels.min()} to {labels.max()} came; expected 0, 1 and 2. (Torchvision's detectors begin at 1.)"
    )
    found = [{name: one[name].detach().cpu() for name in wanted} for one in found]
    value = _mean_ap(found, truths)
    score = f"COCO's mAP on {len(images)} scenes that nobody has seen is {value:.1%}"
    assert value >= LAB_GOOD, (
        f"{score}; the detector of section 3 has about 45 %, and {LAB_GOOD:.0%} is good. Draw some "
        "detections: are they missing, doubled, or badly placed?"
    )
    return f"{score}; {LAB_GOOD:.0%} is good, {LAB_VERY_GOOD:.0%} is very good."


lab = Exercise(
    "Lab: a better detector",
    test=_check_lab,
    hints=(
        "More scenes cost little: draw_scenes(1500, ...) and their mirror images, and more steps.",
        "COCO's mAP asks for boxes that fit: more anchors, another layer for the fine grid, a larger weight for "
        "the box loss.",
        "Torchvision's ssd.SSD takes a backbone that gives a dict of maps, and a DefaultBoxGenerator for its anchors. "
        "Its loss looks for the hardest background boxes. The solution has 40 lines.",
    ),
    reference=make_detector,
)
