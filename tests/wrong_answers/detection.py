"""Wrong answers to the exercises of notebook 11: (exercise, answer, a piece of the message that fits the mistake)."""

import numpy as np
import torch
from torchvision.ops import box_iou, nms

from utils.critters.scenes import draw_scenes
from utils.exercises import detection


def iou_by(clamp=True, union=lambda a, b, both: a + b - both):
    def iou(a, b):
        (x1, y1, x2, y2), (u1, v1, u2, v2) = (map(float, box) for box in (a, b))
        width, height = min(x2, u2) - max(x1, u1), min(y2, v2) - max(y1, v1)
        both = max(width, 0) * max(height, 0) if clamp else width * height
        return both / union((x2 - x1) * (y2 - y1), (u2 - u1) * (v2 - v1), both)

    return iou


def iou_of_squares(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / ((a[2] - a[0]) ** 2 + (b[2] - b[0]) ** 2 - both)


def iou_with_tensors(a, b):
    low, high = torch.maximum(a[:2], b[:2]), torch.minimum(a[2:], b[2:])
    both = (high - low).clamp(min=0).prod()
    return both / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - both)


def iou_with_numpy(a, b):
    a, b = np.asarray(a), np.asarray(b)
    both = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    return np.float32(both / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - both))


def orphans_by_max(overlaps):
    return overlaps.max(dim=0).values < 0.5


def threshold_by_loop(thresholds, precision, recall, at_least):
    best = None
    for t, p, r in zip(thresholds.tolist(), precision.tolist(), recall.tolist(), strict=True):
        if p >= at_least - 1e-6 and (best is None or r > best[0]):
            best = r, t
    return np.float64(best[1])


def suppression(descending=True, removed_too=False, limit=None, or_equal=False, give=list):
    def suppress(boxes, scores, overlap):
        kept, seen = [], []
        for place in scores.argsort(descending=descending):
            rivals, most = seen if removed_too else kept, limit or overlap
            worst = box_iou(boxes[place][None], boxes[torch.stack(rivals)]).max() if rivals else -1.0
            if worst < most or (worst == most and not or_equal):
                kept.append(place)
            seen.append(place)
        return give(kept)

    return suppress


def by_torchvision(boxes, scores, overlap):
    return nms(boxes, scores, overlap)


def integers(kept):
    return [np.int64(place) for place in kept]


def grid_of_boxes():
    """The trivial entry of the lab: the same boxes for each scene, of every kind."""
    corners = torch.tensor([[x, y, x + 32, y + 32] for x in range(0, 97, 16) for y in range(0, 97, 16)]).float()
    boxes, labels = corners.repeat(3, 1), torch.arange(3).repeat_interleave(len(corners))
    found = {"boxes": boxes, "labels": labels, "scores": torch.ones(len(boxes))}
    return lambda scenes: [found] * len(scenes)


def nothing_found():
    found = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long(), "scores": torch.zeros(0)}
    return lambda scenes: [found] * len(scenes)


def labels_from_one():
    found = {"boxes": torch.ones(1, 4), "labels": torch.tensor([3]), "scores": torch.ones(1)}
    return lambda scenes: [found] * len(scenes)


PLACES = 80**2 + 40**2 + 20**2 + 10**2 + 5**2
WRONG = [
    ("iou", iou_by(clamp=False), "at least 0 for each"),
    ("iou", iou_by(union=lambda a, b, both: a + b), "subtract it once"),
    ("iou", iou_by(union=lambda a, b, both: a), "area of one box"),
    ("iou", iou_of_squares, "Is x taken for y"),
    ("iou", lambda a, b: box_iou(a[None], b[None]), "Your answer uses box_iou"),
    ("iou", lambda a, b: a, "shape (4,) came"),
    ("orphans", lambda overlaps: (overlaps < 0.5).all(dim=1), "dim=0 are the anchors"),
    ("orphans", lambda overlaps: (overlaps >= 0.5).any(dim=0), "The other way round"),
    ("orphans", lambda overlaps: (overlaps < 0.5).any(dim=0), "as soon as *one* anchor"),
    ("orphans", lambda overlaps: (overlaps <= 0.5).all(dim=0), "exactly 0.5"),
    ("orphans", lambda overlaps: overlaps.max(dim=0).values, "True or False"),
    ("num_outputs", PLACES * 84, "nine anchors"),
    ("num_outputs", PLACES * 9, "number of anchors"),
    ("num_outputs", PLACES * 9 * 80, "boxes are missing"),
    ("num_outputs", PLACES * 9 * 85, "no class for the background"),
    ("num_outputs", 155 * 9 * 84, "square them"),
    ("best_threshold", lambda t, p, r, a: t[r.argmax()], "only 0.55"),
    ("best_threshold", lambda t, p, r, a: t[p.argmax()], "finds only 40 %"),
    ("best_threshold", lambda t, p, r, a: r[p >= a].max(), "This is the recall"),
    ("best_threshold", lambda t, p, r, a: t[p < a].max() + 0.1, "precise enough, too"),
    ("best_threshold", lambda t, p, r, a: t[p > a][0], "exactly 0.93"),
    ("speed_up", 423 / 30840, "Upside down"),
    ("speed_up", 30840 / 183, "dense layers"),
    ("speed_up", 30600 / 423, "as well"),
    ("speed_up", 2000, "at one crop"),
    ("suppress", suppression(descending=False), "should come first"),
    ("suppress", suppression(removed_too=True), "only boxes that stay remove others"),
    ("suppress", suppression(limit=0.9), "should go"),
    ("suppress", suppression(limit=0.3), "Is `overlap` used?"),
    ("suppress", suppression(or_equal=True), "exactly `overlap`"),
    ("suppress", by_torchvision, "Your answer uses nms"),
    ("suppress", lambda boxes, scores, overlap: boxes[[1, 3, 4]], "Expected the places of the boxes"),
    ("suppress", lambda boxes, scores, overlap: [1], "Box 4 overlaps none"),
    ("lab", grid_of_boxes, "is good"),
    ("lab", nothing_found, "Not one detection"),
    ("lab", labels_from_one, "expected 0, 1 and 2"),
]
RIGHT = [
    ("iou", iou_with_tensors),
    ("iou", iou_with_numpy),
    ("iou", iou_by()),
    ("orphans", orphans_by_max),
    ("orphans", lambda overlaps: orphans_by_max(overlaps).numpy()),
    ("orphans", lambda overlaps: orphans_by_max(overlaps).tolist()),
    ("num_outputs", 6444900.0),
    ("num_outputs", np.int64(6444900)),
    ("num_outputs", torch.tensor(6444900)),
    ("best_threshold", threshold_by_loop),
    ("speed_up", 72.9),
    ("speed_up", np.float32(72.908)),
    ("suppress", suppression()),
    ("suppress", suppression(give=torch.stack)),
    ("suppress", suppression(give=integers)),
    ("suppress", suppression(give=lambda kept: torch.stack(kept).numpy())),
    ("suppress", detection.suppress.reference),
]


def by_pixels(a, b):
    covered = torch.zeros(2, 60, 60, dtype=torch.bool)
    for k, box in enumerate((a, b)):
        x1, y1, x2, y2 = (box + 10).long()
        covered[k, y1:y2, x1:x2] = True
    return covered.all(dim=0).sum() / covered.any(dim=0).sum()


def draws_the_check():
    images, truths = draw_scenes(150, seed="lab")
    known = {image.numpy().tobytes(): truth for image, truth in zip(images, truths, strict=True)}
    none = {"boxes": torch.zeros(1, 4), "labels": torch.zeros(1).long()}

    def detect(scenes):
        found = [known.get(scene.numpy().tobytes(), none) for scene in scenes]
        return [one | {"scores": torch.ones(len(one["labels"]))} for one in found]

    return detect


suppressed = nms  # an alias
WRONG += [
    ("iou", by_pixels, "need not be whole numbers"),
    ("iou", lambda a, b: getattr(detection, "box_iou")(a[None], b[None]), "Your answer uses box_iou"),  # noqa: B009
    ("orphans", lambda overlaps: torch.stack([(overlaps[:, k] < 0.5).all() for k in range(4)]), "each of 8 boxes"),
    ("num_outputs", (6, 444, 900), "is a tuple in Python"),
    ("num_outputs", "6,444,900", "Expected one number"),
    ("speed_up", (72, 9), "a decimal number has a point"),
    ("suppress", lambda boxes, scores, overlap: suppressed(boxes, scores, overlap), "Your answer uses nms"),
    ("lab", draws_the_check, "is good"),
    ("lab", lambda: lambda scenes: [{"boxes": [], "labels": [], "scores": []}] * len(scenes), "Expected tensors"),
]
RIGHT += [("orphans", lambda overlaps: [(column < 0.5).all() for column in overlaps.T])]
