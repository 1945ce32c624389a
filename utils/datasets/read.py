"""Divides photos by a hash of their names, and reads them as squares of one size, with their masks and boxes."""

import hashlib
import os
import unicodedata
import warnings
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import torch
from PIL import Image, ImageOps
from tqdm.contrib.concurrent import thread_map

from utils.datasets.cache import cached
from utils.datasets.dataset import balanced


class Photo(NamedTuple):
    file: Path
    label: int
    masks: tuple[Path, ...] = ()  # merged by OR
    box: Path | None = None  # an xml file, where there is one
    breed: int | None = None  # of a pet; its mask is a trimap


class Found(NamedTuple):
    pools: dict[str, list[Photo]]  # as they lie: "train" alone, or with "val", "test" or both
    classes: Sequence[str]
    left_out: Counter = Counter()  # what else lies there, by its kind


def divided(pools: dict[str, list], classes: Sequence[str]) -> dict[str, list]:
    """train, val and test out of the splits that are on disk: lists of `Photo`s, one of each class by turns as far as
    they last, those of a class in the order of a hash of their names.

    Three are taken as they are; of two, the other one is the test set and a fifth of train is val; one is divided
    70/15/15. The hash decides, so a photo that is added moves no other, on any system. (Only where a part would have
    none of a class, it gets one.) Raises ValueError where a class has fewer photos than there are parts.
    """
    numbers = {split: _by_hash(photos) for split, photos in pools.items()}
    parts = {split: list(photos) for split, photos in numbers.items()}
    bounds = {1: {"test": 0.15, "val": 0.3}, 2: {"val": 0.2}, 3: {}}[len(pools)]
    if len(pools) == 2:
        parts["test"] = parts.get("test") or parts["val"]
    parts |= {split: [] for split in (*bounds, "train")}
    for label, name in enumerate(classes):
        group, start = [photo for photo in numbers["train"] if photo.label == label], 0
        if len(group) <= len(bounds):
            raise ValueError(f"the class {name!r} has only {len(group)} pictures: too few for {len(bounds) + 1} parts.")
        for i, (split, bound) in enumerate(bounds.items()):
            end = sum(numbers["train"][photo] < bound for photo in group)
            end = min(max(end, start + 1), len(group) - len(bounds) + i)  # one at least for this and each later part
            parts[split] += group[start:end]
            start = end
        parts["train"] += group[start:]
    return {split: [photos[i] for i in balanced(photo.label for photo in photos)] for split, photos in parts.items()}


def _by_hash(photos: list) -> dict:
    """The photos in the order of a number from 0 to 1, which the name of each, below their common folder, decides."""
    root, numbers = os.path.commonpath([photo.file.parent for photo in photos]), {}
    for photo in photos:
        name = unicodedata.normalize("NFC", photo.file.relative_to(root).as_posix())
        numbers[photo] = int(hashlib.sha256(os.fsencode(name)).hexdigest()[:12], 16) / 16**12
    return dict(sorted(numbers.items(), key=lambda item: item[1]))


def load(name: str, found: Found, size: int, numbers: dict[str, int | None]) -> dict[str, dict[str, torch.Tensor]]:
    """For each split its columns ("images", "label" and so on), read or from the cache; what was left out is said.

    size: pixels a side. numbers: how many of each split, classes in equal shares; None = all. Left out are files that
    cannot be decoded, and pictures that another split has too (equal in every byte once read); others take their
    place. Raises ValueError where a class has nothing left.
    """
    splits = divided(found.pools, found.classes)
    # Size and date are looked up only of photos that are likely to be read: on a network drive it takes long.
    likely = [photo for split in splits for photo in splits[split][: numbers[split]]]
    files = [file for photo in likely for file in (photo.file, *photo.masks, photo.box) if file and file.exists()]
    key = (size, numbers, splits, [(file.stat().st_size, file.stat().st_mtime_ns) for file in files])
    data, left_out = cached(name, key, lambda: _read_all(name, splits, found.classes, size, numbers))
    left_out += [f"{num:,} {kind}" for kind, num in sorted(found.left_out.items())]
    if left_out:
        print(f"{name}: left out: {', '.join(left_out)}.")
    for split, num in numbers.items():
        if num and num > (there := len(data[split]["label"])):
            print(f"{name}: {num:,} were asked for in {split}, and all {there:,} that are there are used.")
    return data


def _read_all(name: str, splits: dict, classes: Sequence[str], size: int, numbers: dict) -> tuple[dict, list[str]]:
    data, owner, unreadable, twice = {}, {}, [], 0
    for split in ("test", "val", "train"):  # what two have stays in the first of these
        photos, rows = splits[split], []
        num = len(photos) if numbers[split] is None else max(1, numbers[split])  # one at least, for its shape
        while photos and len(rows) < num:
            new, photos = photos[: num - len(rows)], photos[num - len(rows) :]
            options = {"desc": f"reading {name}, {split}", "unit": "photo", "delay": 2, "max_workers": 8}
            with warnings.catch_warnings(action="ignore"):  # about metadata that nobody needs
                attempts = thread_map(partial(_attempt, size=size), new, **options)
            for photo, row in zip(new, attempts, strict=True):
                if isinstance(row, Exception):
                    unreadable.append(f"{photo.file.name}: {type(row).__name__}, {row}")
                elif owner.setdefault(hashlib.blake2b(row["images"].tobytes()).digest(), split) != split:
                    twice += 1
                else:
                    rows.append(row)
        left_out = [f"{len(unreadable)} unreadable (first: {unreadable[0]})"] if unreadable else []
        left_out += [f"{twice} that another split has as well"] if twice else []
        missing = {photo.label for photo in splits[split]} - {int(row["label"]) for row in rows}
        if missing and num >= len(classes) or not rows:
            raise ValueError(f"{name}: no {classes[min(missing)]!r} is left in {split}: {', '.join(left_out)}.")
        data[split] = {key: torch.from_numpy(np.stack([row[key] for row in rows]))[: numbers[split]] for key in rows[0]}
    return data, left_out


def _attempt(photo: Photo, size: int) -> dict[str, np.ndarray] | Exception:
    """What `read` gives, or its error: decoders raise whatever they like, and none of it shall end the whole."""
    try:
        return read(photo, size)
    except Exception as error:
        return error


def read(photo: Photo, size: int) -> dict[str, np.ndarray]:
    """images (3, size, size) uint8, label int64 and, where the data set has them, mask (size, size) bool, breed int64
    and box (4,) float32: XYXY pixels, NaN where there is none.

    The middle square of the photo, on white where it is transparent, resized with antialiasing (bilinear; masks:
    nearest). It is turned as the camera was held (EXIF), but where mask or box were drawn on it as it lies. Of two
    values in a mask the brighter one is the object. A box is cut at the edge of the square, and NaN where nothing of it
    is inside.
    """
    with Image.open(photo.file) as picture:
        if picture.mode.startswith(("I", "F")):  # Pillow would cut them off at 255: nearly all white
            raise ValueError("more than 8 bits a channel; save it with 8")
        full = picture.size
        picture.draft("RGB", (2 * size, 2 * size))  # a JPEG is decoded at 1/2, 1/4 or 1/8 where that is enough
        picture.load()
        turned = picture if photo.masks or photo.box else ImageOps.exif_transpose(picture)
    image = ImageOps.fit(_opaque(turned, "white").convert("RGB"), (size, size), Image.Resampling.BILINEAR)
    columns = {"images": np.asarray(image).transpose(2, 0, 1), "label": np.int64(photo.label)}
    if photo.masks:
        columns["mask"] = np.any([_mask(file, full, size, photo.breed is not None) for file in photo.masks], 0)
    if photo.box or photo.breed is not None:
        columns["box"] = _box(photo.box, full, size)
    if photo.breed is not None:
        columns["breed"] = np.int64(photo.breed)
    return columns


def _opaque(picture: Image.Image, ground: str) -> Image.Image:
    """A picture on a ground of one colour, which shows where it is transparent."""
    if not picture.has_transparency_data:
        return picture
    return Image.alpha_composite(Image.new("RGBA", picture.size, ground), picture.convert("RGBA"))


def _mask(file: Path, full: tuple[int, int], size: int, trimap: bool) -> np.ndarray:
    with Image.open(file) as drawn:
        if drawn.size != full:
            raise ValueError(f"its mask is of {drawn.size} pixels, and the picture of {full}")
        # A trimap in mode "P" has the numbers themselves, not the colours that a palette gives them.
        if not (trimap and drawn.mode == "P"):
            drawn = _opaque(drawn, "black").convert("L")
        values = np.unique(np.asarray(drawn))
        drawn = np.asarray(ImageOps.fit(drawn, (size, size), Image.Resampling.NEAREST))
    # A trimap has 1 (pet), 2 (background) and 3 (a band along the outline, undecided). The band counts as pet: thin
    # ears, legs and tails lie in it altogether.
    if trimap and set(values) <= {1, 2, 3}:
        return drawn != 2
    if len(values) > 2:
        raise ValueError(f"its mask has {len(values)} values: expected two, background and object")
    return (drawn == values[-1]) & (drawn > 0)


def _box(xml: Path | None, full: tuple[int, int], size: int) -> np.ndarray:
    nothing = np.full(4, np.nan, np.float32)
    if not xml:
        return nothing
    root, side = ElementTree.fromstring(xml.read_bytes()), min(full)
    corners = [float(root.findtext(f"object/bndbox/{key}", "nan")) for key in ("xmin", "ymin", "xmax", "ymax")]
    if min(corners) < -1 or max(corners[0::2]) > full[0] + 1 or max(corners[1::2]) > full[1] + 1:  # one for rounding
        raise ValueError(f"its box {corners} leads out of the picture of {full} pixels")
    box = (np.array(corners) - [(full[0] - side) / 2, (full[1] - side) / 2] * 2) * size / side
    box = np.clip(box, 0, size).astype(np.float32)
    return box if box[0] < box[2] and box[1] < box[3] else nothing
