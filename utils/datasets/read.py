"""Reads photos as squares of one size, with their masks and boxes."""

import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from tqdm.auto import tqdm

from utils.datasets import choose
from utils.datasets.cache import cached


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


_TURN = ExifTags.Base.Orientation  # how the camera was held: one of eight ways


def load(name: str, found: Found, size: int, numbers: dict[str, int | None]) -> tuple[dict[str, dict], list[str]]:
    """For each split its columns ("images", "label" and so on: tensors), read or from the cache, and what was left out.

    size: pixels a side. numbers: how many of each split, classes in equal shares; None = all. Left out are files that
    cannot be decoded, and pictures that another split has too (equal in every byte once read); others take their
    place. Raises ValueError for an unusable size and where a class has nothing left.
    """
    if not choose.is_whole_number(size) or size < 8:
        raise ValueError(f"size={size!r}: expected a whole number of pixels, 8 or more.")
    splits = choose.splits(found.pools, found.classes)
    # Size and date are looked up only of photos that are likely to be read: on a network drive it takes long.
    likely = [photo for split in splits for photo in _first(splits[split], numbers[split])]
    files = [file for photo in likely for file in (photo.file, *photo.masks, photo.box) if file and file.exists()]
    key = (size, numbers, splits, [(file.stat().st_size, file.stat().st_mtime_ns) for file in files])
    data, left_out = cached(name, key, lambda: _read_all(name, splits, found.classes, size, numbers))
    return data, left_out + listed(found.left_out)


def listed(left_out: Counter) -> list[str]:
    return [f"{num:,} {kind}" for kind, num in sorted(left_out.items())]


def _first(photos: Iterable[Photo], num: int | None) -> list[Photo]:
    photos = list(photos)
    return [photos[i] for i in choose.balanced((photo.label for photo in photos), num)]


def _read_all(name: str, splits: dict, classes: Sequence[str], size: int, numbers: dict) -> tuple[dict, list[str]]:
    data, owner, unreadable, twice = {}, {}, [], 0
    for split in ("test", "val", "train"):  # what two have stays in the first of these
        left, kept = dict.fromkeys(splits[split]), {}
        num = 1 if numbers[split] == 0 else numbers[split]  # one at least, for its shape
        while new := [photo for photo in _first(left, num) if photo not in kept]:
            for photo, row in zip(new, _read_many(new, size, f"reading {name}, {split}"), strict=True):
                if isinstance(row, Exception):
                    reason = getattr(row, "strerror", None) or str(row).split(" <_io.")[0] or type(row).__name__
                    unreadable.append(f"{photo.file.name}: {reason}")
                elif owner.setdefault(hashlib.blake2b(row["images"].tobytes()).digest(), split) != split:
                    twice += 1
                else:
                    kept[photo] = row
                    continue
                del left[photo]
        left_out = [f"{len(unreadable)} unreadable (first: {unreadable[0]})"] if unreadable else []
        left_out += [f"{twice} that another split has as well"] if twice else []
        if missing := {photo.label for photo in splits[split]} - {photo.label for photo in left}:
            reason = ", ".join(left_out)
            raise ValueError(f"{name}: no photo of the class {classes[min(missing)]!r} is left in {split}: {reason}.")
        rows = [kept[photo] for photo in _first(left, num)]
        data[split] = {key: torch.from_numpy(np.stack([row[key] for row in rows]))[: numbers[split]] for key in rows[0]}
    return data, left_out


def _read_many(photos: Sequence[Photo], size: int, title: str) -> Iterator[dict[str, np.ndarray] | Exception]:
    """What `read` gives for each photo, or the error that says why it cannot be read; a bar where it takes long."""
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))  # Pillow decodes outside Python's global lock
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="PIL")  # about metadata that nobody needs
            futures = [pool.submit(read, photo, size) for photo in photos]
            for future in tqdm(futures, desc=title, unit="photo", delay=2):
                error = future.exception()  # decoders raise whatever they like; none of it shall end the whole
                yield error if isinstance(error, Exception) else future.result()
    finally:
        pool.shutdown(cancel_futures=True)  # a cell that is stopped stops at once


def read(photo: Photo, size: int) -> dict[str, np.ndarray]:
    """images (3, size, size) uint8, label int64 and, where the data set has them, mask (size, size) bool, breed int64
    and box (4,) float32: XYXY pixels, NaN where there is none.

    The middle square of the photo, turned as the camera was held (EXIF), on white where it is transparent, resized with
    antialiasing (bilinear; masks: nearest); mask and box move with it. Of two values in a mask the brighter one is the
    object. A box is cut at the edge of the square, and NaN where nothing of it is inside.
    """
    try:
        picture = Image.open(BytesIO(photo.file.read_bytes()))
    except Image.DecompressionBombError as error:
        raise ValueError(f"more than {2 * Image.MAX_IMAGE_PIXELS / 1e6:.0f} megapixels; save it smaller") from error
    if picture.mode.startswith(("I", "F")):  # Pillow would cut them off at 255: nearly all white
        raise ValueError("more than 8 bits a channel; save it with 8")
    full, turn = picture.size, picture.getexif().get(_TURN, 1)
    picture.draft("RGB", (2 * size, 2 * size))  # a JPEG is decoded at 1/2, 1/4 or 1/8 where that is enough
    picture.load()
    left = picture.getexif().get(_TURN, 1)  # a TIFF is turned by now
    image = _square(_opaque(picture, "white").convert("RGB"), size, left, Image.Resampling.BILINEAR)
    columns = {"images": image.transpose(2, 0, 1), "label": np.int64(photo.label)}
    if photo.masks:
        columns["mask"] = np.any([_mask(file, full, size, turn, photo.breed is not None) for file in photo.masks], 0)
    if photo.box or photo.breed is not None:
        columns["box"] = _box(photo.box, full, size, turn)
    if photo.breed is not None:
        columns["breed"] = np.int64(photo.breed)
    return columns


def _opaque(picture: Image.Image, ground: str) -> Image.Image:
    """A picture on a ground of one colour, which shows where it is transparent."""
    if not picture.has_transparency_data:
        return picture
    return Image.alpha_composite(Image.new("RGBA", picture.size, ground), picture.convert("RGBA"))


def _square(picture: Image.Image, size: int, turn: int, how: Image.Resampling) -> np.ndarray:
    square = Image.fromarray(np.asarray(ImageOps.fit(picture, (size, size), how)))  # without metadata
    square.getexif()[_TURN] = turn
    return np.asarray(ImageOps.exif_transpose(square))


def _mask(file: Path, full: tuple[int, int], size: int, turn: int, trimap: bool) -> np.ndarray:
    with Image.open(file) as drawn:
        if drawn.size != full:
            raise ValueError(f"its mask is of {drawn.size} pixels, and the picture of {full}")
        # A trimap in mode "P" has the numbers themselves, not the colours that a palette gives them.
        if not (trimap and drawn.mode == "P"):
            drawn = _opaque(drawn, "black").convert("L")
        values = np.unique(np.asarray(drawn))
        drawn = _square(drawn, size, turn, Image.Resampling.NEAREST)
    # A trimap has 1 (pet), 2 (background) and 3 (a band along the outline, undecided). The band counts as pet: thin
    # ears, legs and tails lie in it altogether.
    if trimap and set(values) <= {1, 2, 3}:
        return drawn != 2
    if len(values) > 2:
        raise ValueError(f"its mask has {len(values)} values: expected two, background and object")
    return (drawn == values[-1]) & (drawn > 0)


def _box(xml: Path | None, full: tuple[int, int], size: int, turn: int) -> np.ndarray:
    nothing = np.full(4, np.nan, np.float32)
    if not xml:
        return nothing
    root, side = ElementTree.fromstring(xml.read_bytes()), min(full)
    corners = [float(root.findtext(f"object/bndbox/{key}", "nan")) for key in ("xmin", "ymin", "xmax", "ymax")]
    if min(corners) < -1 or max(corners[0::2]) > full[0] + 1 or max(corners[1::2]) > full[1] + 1:  # one for rounding
        raise ValueError(f"its box {corners} leads out of the picture of {full} pixels")
    box = (np.array(corners) - [(full[0] - side) / 2, (full[1] - side) / 2] * 2) * size / side
    box = np.clip(box, 0, size)
    if turn in (5, 6, 7, 8):
        box = box[[1, 0, 3, 2]]
    if turn in (2, 3, 6, 7):
        box[[0, 2]] = size - box[[2, 0]]
    if turn in (3, 4, 7, 8):
        box[[1, 3]] = size - box[[3, 1]]
    return box.astype(np.float32) if box[0] < box[2] and box[1] < box[3] else nothing
