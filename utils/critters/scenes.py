"""Scenes with several animals, for detection: where each is stands in a box."""

import random

import numpy as np
import torch
from PIL import Image, ImageDraw
from torchvision.ops import box_iou

from .drawing import draw

__all__ = ["CLASSES", "SIDE", "draw_scenes"]

CLASSES, SIDE = ["cat", "owl", "frog"], 128


def _cut_out(species, rng):
    """A drawn animal and its silhouette, both cut to its box."""
    drawing = draw(species, rng.getrandbits(62))
    silhouette = Image.fromarray(drawing.mask).convert("L")
    return Image.fromarray(drawing.image).crop(box := silhouette.getbbox()), silhouette.crop(box)


def _piece_of_fur(furs, rng):
    """A triangle, a box or an ellipse of the same fur, as large as an animal."""
    fur = rng.choice(furs).resize((64, rng.randint(40, 90)), Image.Resampling.BICUBIC)
    (w, h), silhouette = fur.size, Image.new("L", fur.size)
    outlines = [(0, h, w, h, rng.uniform(0, w), 0), (0, 0, w, 0, w, h, 0, h)]
    pen, kind = ImageDraw.Draw(silhouette), rng.randrange(3)
    pen.ellipse((0, 0, w, h), fill=255) if kind == 2 else pen.polygon(outlines[kind], fill=255)
    return fur, silhouette


def _place(thing, rng, boxes, beside=None):
    """A box for a thing of 16 to 52 pixels, apart from all boxes; or one that overlaps the box `beside`."""
    for _ in range(100):
        side = 16 * 3.25 ** rng.random()
        x, y = rng.uniform(0, SIDE), rng.uniform(0, SIDE)
        if beside:
            left, top, right, bottom = beside
            side = max(right - left, bottom - top) * rng.uniform(0.9, 1.1)
            x, y = left + rng.uniform(-0.6, 0.6) * (right - left), top + rng.uniform(-0.2, 0.2) * (bottom - top)
        w, h = (max(6, round(side * length / max(thing.size))) for length in thing.size)
        box = round(x), round(y), round(x) + w, round(y) + h
        overlaps = box_iou(torch.tensor([box]), torch.tensor(boxes).reshape(-1, 4))[0].tolist()
        inside = min(box) >= 0 and max(box) <= SIDE
        if inside and (0.3 < max(overlaps) < 0.5 if beside else max(overlaps, default=0) < 0.05):
            return box
    return None


def _draw_scene(rng, num, crowded, furs):
    colours = rng.choices(range(90, 180), k=3)
    soft = [min(255, max(0, colour + rng.randint(-45, 45))) for _ in range(16) for colour in colours]
    picture = Image.frombytes("RGB", (4, 4), bytes(soft)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    boxes, labels = [], []

    def paste(thing, silhouette, box):
        size = box[2] - box[0], box[3] - box[1]
        picture.paste(thing.resize(size, reducing_gap=2), box, silhouette.resize(size))

    for _ in range(rng.randint(3, 6)):
        thing, silhouette = _piece_of_fur(furs, rng)
        paste(thing, silhouette, _place(thing, rng, []))
    for k in range(num):
        second = crowded and k % 2 and len(boxes) == k
        label = labels[-1] if second else rng.randrange(len(CLASSES))
        thing, silhouette = _cut_out(CLASSES[label], rng)
        if box := _place(thing, rng, boxes, boxes[-1] if second else None):
            paste(thing, silhouette, box)
            boxes.append(box)
            labels.append(label)
    noise = np.random.RandomState(rng.getrandbits(31)).normal(0, 5, (SIDE, SIDE, 1))
    return np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8), boxes, labels


def draw_scenes(num, seed, animals=None, crowded=False):
    """Scenes (num, 3, 128, 128), uint8, and for each a dict of "boxes" (K, 4), in pixels, and "labels" (K,).

    In each lie animals of the kinds in CLASSES, 16 to 52 pixels long, and triangles, boxes and ellipses of their fur.
    seed: a number or a text. animals: how many are in each, default 0 to 4. crowded: they come in pairs that overlap.
    """
    rng = random.Random(f"{seed} {animals} {crowded}")
    furs = [_cut_out(rng.choice(CLASSES), rng)[0] for _ in range(60)]
    furs = [
        fur.crop([int(k * side) for k, side in zip((0.4, 0.5, 0.6, 0.7), 2 * fur.size, strict=True)]) for fur in furs
    ]
    rows = [_draw_scene(rng, rng.randint(0, 4) if animals is None else animals, crowded, furs) for _ in range(num)]
    images = torch.from_numpy(np.stack([image for image, *_ in rows])).permute(0, 3, 1, 2).contiguous()
    return images, [
        {"boxes": torch.tensor(boxes).float().reshape(-1, 4), "labels": torch.tensor(labels).long()}
        for _, boxes, labels in rows
    ]
