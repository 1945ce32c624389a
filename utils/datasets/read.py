"""Reads photos as squares of one size, with their masks and boxes."""

import hashlib
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import torch
from PIL import Image, ImageOps
from tqdm.auto import tqdm

from utils.datasets.cache import cached
from utils.datasets.choose import balanced, is_whole_number


class Photo(NamedTuple):
    file: Path
    label: int
    masks: tuple[Path, ...] = ()  # merged by OR
    box: Path | None = None  # an xml file, where there is one
    breed: int | None = None  # of a pet; its mask is a trimap


_ORIENTATION = 0x0112  # EXIF's tag: how the camera was held
Columns = dict[str, torch.Tensor]  # "images", "label" and so on, a row for each picture


def load(
    name: str, splits: dict[str, list[Photo]], classes: Sequence[str], size: int, numbers: dict[str, int | None]
) -> tuple[dict[str, Columns], list[str]]:
    """The columns of each split, read or from the cache, and what was left out.

    size: pixels a side. numbers: how many of each split, classes in equal shares; None = all. Left out are files that
    cannot be decoded, and pictures that another split has too (equal in every byte once read); others take their
    place. Raises ValueError for an unusable size and where a class has nothing left.
    """
    if not is_whole_number(size) or size < 8:
        raise ValueError(f"size={size!r}: expected a whole number of pixels, 8 or more.")
    size = int(size)  # the cache's key is its text, and NumPy's numbers have another
    # Size and date are looked up only of photos that are likely to be read: on a network drive it takes long.
    likely = [photo for split in splits for photo in _first(splits[split], numbers[split])]
    files = [file for photo in likely for file in (photo.file, *photo.masks, photo.box) if file and file.exists()]
    stamps = [(file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    key = (size, numbers, splits, stamps)
    return cached(name, key, lambda: _read_all(name, splits, classes, size, numbers))


def _first(photos: Sequence[Photo], num: int | None) -> list[Photo]:
    return [photos[i] for i in balanced((photo.label for photo in photos), num)]


def _read_all(
    name: str, splits: dict[str, list[Photo]], classes: Sequence[str], size: int, numbers: dict[str, int | None]
) -> tuple[dict[str, Columns], list[str]]:
    data, owner, unreadable, twice = {}, {}, [], 0
    for split in ("test", "val", "train"):  # what two have stays in the first of these
        left, kept, num = splits[split], {}, numbers[split]
        while new := [photo for photo in _first(left, num if num is None else max(1, num)) if photo not in kept]:
            rejected = set()
            for photo, row in zip(new, _read_many(new, size, f"reading {name}, {split}"), strict=True):
                if isinstance(row, Exception):
                    reason = getattr(row, "strerror", None) or str(row).split(" <_io.")[0] or type(row).__name__
                    unreadable.append(f"{photo.file.name}: {reason}")
                    rejected.add(photo)
                elif owner.setdefault(hashlib.blake2b(row["images"].tobytes()).digest(), split) != split:
                    twice += 1
                    rejected.add(photo)
                else:
                    kept[photo] = row
            left = [photo for photo in left if photo not in rejected]
        left_out = [f"{len(unreadable)} unreadable (first: {unreadable[0]})"] if unreadable else []
        left_out += [f"{twice} that another split has as well"] if twice else []
        if missing := {photo.label for photo in splits[split]} - {photo.label for photo in left}:
            reason = ", ".join(left_out)
            raise ValueError(f"{name}: no photo of the class {classes[min(missing)]!r} is left in {split}: {reason}.")
        rows = [kept.pop(photo) for photo in _first(left, num)] or list(kept.values())  # one at least, for its shape
        data[split] = {column: torch.from_numpy(np.stack([row[column] for row in rows])[:num]) for column in rows[0]}
    return data, left_out


def _read_many(photos: Sequence[Photo], size: int, title: str) -> Iterator[dict[str, np.ndarray] | Exception]:
    """What `read` gives for each photo, or the error that says why it cannot be read; a bar where it takes long."""

    def attempt(photo: Photo):
        try:
            return read(photo, size)
        except Exception as error:  # decoders raise whatever they like; none of it shall end the whole
            return error

    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))  # Pillow decodes outside Python's global lock
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="PIL")  # about metadata that nobody needs
            yield from tqdm(pool.map(attempt, photos), total=len(photos), desc=title, unit="photo", delay=2)
    finally:
        pool.shutdown(cancel_futures=True)  # a cell that is stopped stops at once


def read(photo: Photo, size: int) -> dict[str, np.ndarray]:
    """images (3, size, size) uint8, label int64 and, where the data set has them, mask (size, size) bool, breed int64
    and box (4,) float32: XYXY pixels, NaN where there is none.

    The middle square of the photo, turned as the camera was held (EXIF), on white where it is transparent, resized with
    antialiasing (bilinear; masks: nearest); mask and box move with it. Of two values in a mask the brighter one is the
    object. A box is cut at the edge of the square, and NaN where nothing of it is inside.
    """
    if not photo.file.is_file():
        raise FileNotFoundError("not there, or no file")
    try:
        picture = Image.open(BytesIO(photo.file.read_bytes()))
    except Image.DecompressionBombError as error:
        raise ValueError(f"more than {2 * Image.MAX_IMAGE_PIXELS / 1e6:.0f} megapixels; save it smaller") from error
    if picture.mode.startswith(("I", "F")):  # Pillow would cut them off at 255: nearly all white
        raise ValueError("more than 8 bits a channel; save it with 8")
    full, turn = picture.size, picture.getexif().get(_ORIENTATION, 1)
    picture.draft("RGB", (2 * size, 2 * size))  # a JPEG is decoded at 1/2, 1/4 or 1/8 where that is enough
    picture.load()
    turned = picture.getexif().get(_ORIENTATION, 1) != turn  # by Pillow, which does so with TIFF
    picture = _opaque(picture, "white").convert("RGB")
    image = np.asarray(ImageOps.fit(picture, (size, size), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    columns = {"images": image if turned else _turned(image, turn), "label": np.int64(photo.label)}
    if photo.masks:
        masks = [_mask(file, full, size, trimap=photo.breed is not None) for file in photo.masks]
        columns["mask"] = _turned(np.any(masks, axis=0), turn)
    if photo.breed is not None or photo.box:
        box = _box(photo.box, full, size) if photo.box else np.full(4, np.nan)
        if turn in (5, 6, 7, 8):
            box = box[[1, 0, 3, 2]]
        if turn in (2, 3, 6, 7):
            box[[0, 2]] = size - box[[2, 0]]
        if turn in (3, 4, 7, 8):
            box[[1, 3]] = size - box[[3, 1]]
        columns["box"] = box.astype(np.float32)
    return columns | ({} if photo.breed is None else {"breed": np.int64(photo.breed)})


def _opaque(picture: Image.Image, ground: str) -> Image.Image:
    """A picture on a ground of one colour, which shows where it is transparent."""
    if picture.mode not in ("LA", "La", "PA", "RGBA", "RGBa") and "transparency" not in picture.info:
        return picture
    return Image.alpha_composite(Image.new("RGBA", picture.size, ground), picture.convert("RGBA"))


def _turned(square: np.ndarray, turn: int) -> np.ndarray:
    """A square, (..., H, W), as the camera was held: EXIF's eight ways as flips."""
    if turn in (5, 6, 7, 8):
        square = square.swapaxes(-2, -1)
    if turn in (2, 3, 6, 7):
        square = square[..., ::-1]
    return square[..., ::-1, :] if turn in (3, 4, 7, 8) else square


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
    if trimap and set(values.tolist()) <= {1, 2, 3}:
        return drawn != 2
    if len(values) > 2:
        raise ValueError(f"its mask has {len(values)} values: expected two, background and object")
    return drawn == values[-1] if values[-1] else drawn > 0


def _box(xml: Path, full: tuple[int, int], size: int) -> np.ndarray:
    root, side = ElementTree.fromstring(xml.read_bytes()), min(full)
    corners = [float(root.findtext(f"object/bndbox/{key}", "nan")) for key in ("xmin", "ymin", "xmax", "ymax")]
    if min(corners) < -1 or max(corners[0::2]) > full[0] + 1 or max(corners[1::2]) > full[1] + 1:  # one for rounding
        raise ValueError(f"its box {corners} leads out of the picture of {full} pixels")
    box = np.array(corners) - [(full[0] - side) / 2, (full[1] - side) / 2] * 2
    box = np.clip(box * size / side, 0, size)
    return box if box[0] < box[2] and box[1] < box[3] else np.full(4, np.nan)
