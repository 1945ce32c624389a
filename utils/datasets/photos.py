"""Finds the photos of a data set in folders and zip archives, and reads them as squares of one size."""

import hashlib
import os
import random
import re
import struct
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from numbers import Integral
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import torch
from PIL import Image, ImageOps
from tqdm.auto import tqdm

from utils.datasets.cache import cached

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
KAGGLE_INPUT = Path("/kaggle/input")

# The ways in which Pillow, zipfile and the XML reader say that a file is not what its name promises.
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile,
               Image.DecompressionBombError)  # fmt: skip


class Photo(NamedTuple):
    file: Path | zipfile.Path
    label: int
    masks: tuple[Path, ...] = ()  # merged by OR
    box: Path | None = None  # an xml file, where there is one
    breed: int | None = None


Pools = dict[str, list[Photo]]  # "train", "val", "test"; {} where a data set is not found


# ---- finding ---------------------------------------------------------------------------------------------------------


def places(data_dir: Path, name: str) -> list[Path]:
    """Folders in which a data set may lie: `name` in COURSE_DATA_DIR or in what is attached to a Kaggle notebook, or
    those folders themselves."""
    mounts = [sorted(KAGGLE_INPUT.glob(pattern)) for pattern in ("*", "competitions/*", "datasets/*/*")]
    return [path for root in (data_dir, *sum(mounts, [])) for path in (root / name, root) if path.is_dir()]


def pictures(folder: Path, deep: bool = False) -> list[Path]:
    """The files with a picture's suffix, sorted. Hidden ones are none (macOS leaves ._cat.jpg beside each cat.jpg)."""
    files = (folder.rglob("*") if deep else folder.iterdir()) if folder.is_dir() else ()
    return sorted(file for file in files if file.suffix.lower() in SUFFIXES and not file.name.startswith("."))


def find_dogs_vs_cats(data_dir: Path) -> Pools:
    """Label 0 cat, 1 dog: the filtered subset, Microsoft's archive, or Kaggle's train folder or train.zip."""
    for root in places(data_dir, "cats_and_dogs_filtered"):
        train, test = (_labelled(root / split, ("cats", "dogs")) for split in ("train", "validation"))
        if _has_both(train) and _has_both(test):
            train, val = divide(train, (0.8, 0.2))
            return {"train": train, "val": val, "test": test}
    for root in places(data_dir, "PetImages"):
        if _has_both(photos := _labelled(root, ("Cat", "Dog"))):
            return _three_parts(photos)
    for root in places(data_dir, "dogs-vs-cats"):
        for place in (root / "train", root / "train/train", root / "train.zip"):
            files = _members(place) if place.suffix else pictures(place)
            if _has_both(photos := [Photo(f, int(f.name[:3] == "dog")) for f in files if f.name[:3] in ("cat", "dog")]):
                return _three_parts(photos)
    return {}


def find_pets(data_dir: Path) -> Pools:
    """Oxford-IIIT Pet in torchvision's layout: label 0 cat, 1 dog; breed 0 to 36."""
    for root in places(data_dir, "oxford-iiit-pet"):
        lists = [root / "annotations" / name for name in ("trainval.txt", "test.txt")]
        if all(file.is_file() for file in lists) and pictures(root / "images"):
            trainval, test = (_pets(root, file) for file in lists)
            for file, photos in zip(lists, (trainval, test), strict=True):
                if not _has_both(photos):
                    raise ValueError(f"{file} names no cats or no dogs: expected both. Copy the file anew.")
            train, val = divide(trainval, (0.8, 0.2))
            return {"train": train, "val": val, "test": test}
    return {}


def _pets(root: Path, split_file: Path) -> list[Photo]:
    photos, trimaps, xmls = [], root / "annotations/trimaps", root / "annotations/xmls"
    has_trimaps, boxed = trimaps.is_dir(), {file.stem for file in xmls.glob("*.xml")}
    for line in split_file.read_text(errors="replace").splitlines():
        if line.strip() and not line.startswith("#"):
            if not (fields := re.fullmatch(r"(\S+) (\d+) ([12]) \d+", line.strip())):
                raise ValueError(f"{split_file} has the line {line!r}: expected NAME BREED SPECIES NUMBER, such as "
                                 "'Abyssinian_1 1 1 1'. Copy the file anew.")  # fmt: skip
            name, breed, species = fields.groups()
            masks, box = (trimaps / f"{name}.png",) * has_trimaps, xmls / f"{name}.xml" if name in boxed else None
            photos.append(Photo(root / "images" / f"{name}.jpg", int(species) - 1, masks, box, int(breed) - 1))
    return photos


def find_lesions(data_dir: Path) -> Pools:
    """BUSI: label 0 benign, 1 malignant; masks are NAME_mask.png, NAME_mask_1.png and so on."""
    for root in places(data_dir, "Dataset_BUSI_with_GT"):
        files = _labelled(root, ("benign", "malignant"))
        masks: dict[Path, tuple[Path, ...]] = {}
        for file in (photo.file for photo in files if "_mask" in photo.file.stem):
            owner = file.with_name(file.name.split("_mask")[0] + file.suffix)
            masks[owner] = (*masks.get(owner, ()), file)
        photos = [
            photo._replace(masks=masks.get(photo.file, (photo.file.with_name(f"{photo.file.stem}_mask.png"),)))
            for photo in files if "_mask" not in photo.file.stem
        ]  # fmt: skip
        if _has_both(photos):
            return _three_parts(photos)
    return {}


_EXPECTED = {
    "dogs_vs_cats": {
        "cats_and_dogs_filtered": ("train/cats", "train/dogs", "validation/cats", "validation/dogs"),
        "PetImages": ("Cat", "Dog"),
    },
    "pets": {"oxford-iiit-pet": ("images", "annotations/trainval.txt", "annotations/test.txt")},
    "lesions": {"Dataset_BUSI_with_GT": ("benign", "malignant")},
}


def lacking(data_dir: Path, name: str) -> str:
    """A sentence on a data set's folder in which a part is missing, misspelt or empty; "" where there is no such folder."""
    for folder, parts in _EXPECTED[name].items():
        folder = data_dir / folder
        lacks = [part for part in parts if not pictures(folder / part) and not (folder / part).is_file()]
        if folder.is_dir() and lacks:
            return f"{folder} is there but lacks photos, or lists of them, in {', '.join(lacks)}: complete it or remove it."
    return ""


def find_folder(path: Path) -> tuple[Pools, list[str]]:
    """Photos in ImageFolder layout, and the names of the classes. Raises what `datasets.folder` says."""
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: expected a folder with a sub-folder for each class.")
    if not path.is_dir():
        raise NotADirectoryError(f"{path} is a file: expected a folder (unpack an archive first).")
    train, test = path / "train", path / "test"
    val = next((path / name for name in ("val", "validation", "valid") if (path / name).is_dir()), path / "val")
    parts = {"train": train, "val": val, "test": test} if train.is_dir() else {"train": path}
    parts = {split: folder for split, folder in parts.items() if folder.is_dir()}
    classes = _classes(parts["train"])
    if len(classes) < 2:
        found = f"only the class {classes[0]!r}" if classes else "no sub-folders with pictures"
        raise ValueError(f"{parts['train']} has {found} ({', '.join(SUFFIXES)}), and {len(pictures(parts['train']))} "
                         "pictures beside: expected at least two sub-folders, such as cat/ and dog/.")  # fmt: skip
    for folder in parts.values():
        if unlike := set(classes) ^ set(_classes(folder)):
            raise ValueError(f"{folder} and {parts['train']} differ in classes: look at {sorted(unlike)[0]!r}.")
    pools = {split: _labelled(folder, classes, deep=True) for split, folder in parts.items()}
    if len(pools) == 1:
        return _three_parts(pools["train"]), classes
    if len(pools) == 2:  # the other one is for testing, and validation comes out of training
        train, val = divide(pools["train"], (0.8, 0.2))
        return {"train": train, "val": val, "test": pools.get("test") or pools["val"]}, classes
    return pools, classes


def _classes(folder: Path) -> list[str]:
    folders = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith((".", "__"))]
    return [entry.name for entry in folders if pictures(entry, deep=True)]


def _labelled(root: Path, classes: Sequence[str], deep: bool = False) -> list[Photo]:
    return [Photo(file, label) for label, name in enumerate(classes) for file in pictures(root / name, deep)]


def _has_both(photos: list[Photo]) -> bool:
    return {photo.label for photo in photos} == {0, 1}


def _members(path: Path) -> list[zipfile.Path]:
    """The photos in a zip archive: 25,000 are read where they are, without unpacking them to a small disk."""
    if not path.is_file():
        return []
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is no whole zip archive: copy it anew, or remove it.") from error
    names = [name for name in sorted(archive.namelist()) if name.lower().endswith(SUFFIXES)]
    return [zipfile.Path(archive, name) for name in names]


# ---- dividing --------------------------------------------------------------------------------------------------------


def divide(photos: Sequence[Photo], shares: tuple[float, ...]) -> list[list[Photo]]:
    """Shares of every class at random (seed 0), each at least one photo; the same folder always gives the same parts.

    Raises ValueError where a class has fewer photos than there are shares.
    """
    parts: list[list[Photo]] = [[] for _ in shares]
    rng = random.Random(0)
    for label in sorted({photo.label for photo in photos}):
        group = [photo for photo in photos if photo.label == label]
        if len(group) < len(shares):
            raise ValueError(f"the class of {group[0].file} has only {len(group)} of the {len(shares)} or more "
                             "pictures that are needed to divide it for training and testing.")  # fmt: skip
        rng.shuffle(group)
        counts = [max(1, round(share * len(group))) for share in shares[1:]]
        for part, count in zip(parts[1:], counts, strict=True):
            part += group[:count]
            group = group[count:]
        parts[0] += group
    return parts


def _three_parts(photos: list[Photo]) -> Pools:
    return dict(zip(("train", "val", "test"), divide(photos, (0.7, 0.15, 0.15)), strict=True))


def is_whole_number(value: object) -> bool:
    """An int or one of NumPy's whole numbers; True and False count as none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def by_turns(labels: Iterable[int]) -> list[int]:
    """Positions in an order that takes one of each class by turns: all its beginnings are as balanced as can be."""
    seen, turns = Counter(), []
    for position, label in enumerate(labels):
        turns.append((seen[label], label, position))
        seen[label] += 1
    return [position for *_, position in sorted(turns)]


# ---- reading ---------------------------------------------------------------------------------------------------------


def load(name: str, pools: Pools, size: int, numbers: dict[str, int | None]) -> dict[str, dict[str, torch.Tensor]]:
    """Read the photos, or take them from the cache. Returns the columns of each split: "images", "label" and so on.

    size: pixels a side. numbers: how many of each split, classes in equal shares; None = all. Left out and counted in
    one printed line are files that cannot be decoded, and pictures that a smaller split has too (equal in every byte
    once read); others take their place. Raises ValueError for an unusable size and where a class has nothing left.
    """
    if not is_whole_number(size) or size < 8:
        raise ValueError(f"size={size!r}: expected a whole number of pixels, 8 or more.")
    size = int(size)  # the cache's key is its text, and NumPy's numbers have another
    names = {split: [(str(photo.file), *photo[1:]) for photo in photos] for split, photos in pools.items()}
    # Size and date are looked up only of photos that are likely to be read: on a network drive it takes long.
    likely = [pools[split][i] for split in pools for i in _first(pools[split], numbers.get(split))]
    stamps = [_stamp(file) for photo in likely for file in (photo.file, *photo.masks, photo.box) if file]
    return cached(name, (size, numbers, names, stamps), lambda: _read_all(name, pools, size, numbers), Path(__file__))


def _first(photos: Sequence[Photo], num: int | None) -> list[int]:
    return by_turns(photo.label for photo in photos)[:num]


def _stamp(file: Path | zipfile.Path) -> tuple[int, int]:
    if isinstance(file, zipfile.Path):
        info = file.root.getinfo(file.at)
        return info.file_size, info.CRC
    if not file.exists():  # in a list of the data set and not there: reading it will say so
        return -1, -1
    return file.stat().st_size, file.stat().st_mtime_ns


def _read_all(name: str, pools: Pools, size: int, numbers: dict[str, int | None]) -> dict[str, dict[str, torch.Tensor]]:
    photos = [photo for pool in pools.values() for photo in pool]
    columns = {"images": (torch.uint8, (3, size, size))}
    columns |= {"mask": (torch.bool, (size, size))} if any(photo.masks for photo in photos) else {}
    columns |= {"box": (torch.float32, (4,))} if any(photo.box for photo in photos) else {}
    data, owner, unreadable, twice = {}, {}, [], 0
    for split in sorted(pools, key=lambda split: len(pools[split])):  # the smallest first: it keeps what two have
        left, kept = pools[split], {}
        while new := [photo for i in _first(left, numbers.get(split)) if (photo := left[i]) not in kept]:
            rejected = set()
            for photo, read in zip(new, _read_many(new, size, f"reading {name}, {split}"), strict=True):
                if isinstance(read, Exception):
                    reason = getattr(read, "strerror", None) or str(read).split(" <_io.")[0]
                    unreadable.append(f"{photo.file.name}: {reason}")
                    rejected.add(photo)
                elif owner.setdefault(hashlib.blake2b(read["images"].tobytes()).digest(), split) != split:
                    twice += 1
                    rejected.add(photo)
                else:
                    kept[photo] = read
            left = [photo for photo in left if photo not in rejected]
        if missing := {photo.label for photo in pools[split]} - {photo.label for photo in left}:
            reason = f"{len(unreadable)} are unreadable ({'; '.join(unreadable[:1])}), {twice} are in another split"
            raise ValueError(f"{name}: no photo of class number {min(missing)} is left in {split}: {reason}.")
        chosen = [left[i] for i in _first(left, numbers.get(split))]
        data[split] = {name: torch.empty(len(chosen), *shape, dtype=kind) for name, (kind, shape) in columns.items()}
        for row, photo in enumerate(chosen):
            read = kept.pop(photo)  # given back one by one, so that they are in memory only once
            for column in columns:
                data[split][column][row] = torch.from_numpy(read[column])
        data[split]["label"] = torch.tensor([photo.label for photo in chosen], dtype=torch.int64)
        if photos[0].breed is not None:
            data[split]["breed"] = torch.tensor([photo.breed for photo in chosen], dtype=torch.int64)
    notes = [f"{len(unreadable)} unreadable (first: {unreadable[0]})"] if unreadable else []
    notes += [f"{twice} that another split has as well"] if twice else []
    if notes:
        print(f"{name}: photos left out: {', '.join(notes)}.")
    return data


def _read_many(photos: Sequence[Photo], size: int, title: str) -> Iterator[dict[str, np.ndarray] | Exception]:
    """What `read` gives for each photo, or the error that says why it cannot be read; a bar where it takes long."""

    def attempt(photo: Photo):
        try:
            return read(photo, size)
        except _UNREADABLE as error:
            return error

    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))  # Pillow decodes outside Python's global lock
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="PIL")  # about metadata that nobody needs
            yield from tqdm(pool.map(attempt, photos), total=len(photos), desc=title, unit="photo", delay=2)
    finally:
        pool.shutdown(cancel_futures=True)  # a cell that is stopped stops at once


def read(photo: Photo, size: int) -> dict[str, np.ndarray]:
    """images (3, size, size) uint8, mask (size, size) bool, box (4,) float32: XYXY pixels, NaN where there is none.

    The middle square of the photo, turned as the camera was held (EXIF), resized with antialiasing (bilinear; masks:
    nearest); mask and box move with it. A box is cut at the edge of the square, and NaN where nothing of it is inside.
    """
    with Image.open(BytesIO(photo.file.read_bytes())) as picture:
        if picture.mode.startswith(("I", "F")):  # Pillow would cut them off at 255: nearly all white
            raise ValueError("more than 8 bits a channel; save it with 8")
        full, turn = picture.size, picture.getexif().get(0x0112)
        picture.draft("RGB", (2 * size, 2 * size))  # a JPEG is decoded at 1/2, 1/4 or 1/8 where that is enough
        image = np.asarray(ImageOps.fit(picture.convert("RGB"), (size, size), Image.Resampling.BILINEAR))
    mask = np.zeros((size, size), bool)
    for file in photo.masks:
        with Image.open(file) as drawn:
            if drawn.size != full:
                raise ValueError(f"its mask is of {drawn.size} pixels, and the picture of {full}")
            # Mode "P": the numbers themselves, not the colours that a palette gives them.
            numbers = drawn if drawn.mode == "P" else drawn.convert("L")
            values = np.asarray(ImageOps.fit(numbers, (size, size), Image.Resampling.NEAREST))
        # A trimap has 1 (pet), 2 (background) and 3 (a band along the outline, undecided). The band counts as pet:
        # thin ears, legs and tails lie in it altogether. Other masks have 0 and 255.
        mask |= (values == 1) | (values == 3) if values.max() <= 3 else values > 127
    box = _box(photo.box, full, size) if photo.box else np.full(4, np.nan)
    # The ways to hold a camera, as flips of the square that we have by now.
    if turn in (5, 6, 7, 8):
        image, mask, box = image.swapaxes(0, 1), mask.T, box[[1, 0, 3, 2]]
    if turn in (2, 3, 6, 7):
        image, mask, box[[0, 2]] = image[:, ::-1], mask[:, ::-1], size - box[[2, 0]]
    if turn in (3, 4, 7, 8):
        image, mask, box[[1, 3]] = image[::-1], mask[::-1], size - box[[3, 1]]
    image, mask = np.ascontiguousarray(image.transpose(2, 0, 1)), np.ascontiguousarray(mask)
    return {"images": image, "mask": mask, "box": box.astype(np.float32)}


def _box(xml: Path, full: tuple[int, int], size: int) -> np.ndarray:
    root, side = ElementTree.fromstring(xml.read_bytes()), min(full)
    corners = [float(root.findtext(f"object/bndbox/{key}", "nan")) for key in ("xmin", "ymin", "xmax", "ymax")]
    if min(corners) < -1 or max(corners[0::2]) > full[0] + 1 or max(corners[1::2]) > full[1] + 1:  # one for rounding
        raise ValueError(f"its box {corners} leads out of the picture of {full} pixels")
    box = np.array(corners) - [(full[0] - side) / 2, (full[1] - side) / 2] * 2
    box = np.clip(box * size / side, 0, size)
    return box if box[0] < box[2] and box[1] < box[3] else np.full(4, np.nan)
