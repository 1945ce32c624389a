"""The data of the course: each function gives train, val and test as `ImageDataset`s.

>>> train, val, test = datasets.dogs_vs_cats(num_train=200)

COURSE_DATA chooses between drawings and photos: "auto" (default) takes photos where they are on disk or mounted,
"critters" always drawings, "photos" always photos. COURSE_DATA_DIR is where photos lie or go (default: data/).
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from numbers import Integral
from pathlib import Path

import numpy as np
import torch
from torch.utils._pytree import tree_map

from utils import critters as drawings
from utils import device
from utils.datasets import cache, download, photos, read
from utils.datasets.dataset import ImageDataset, Splits
from utils.datasets.photos import data_dir
from utils.device import platform

__all__ = ["ImageDataset", "Splits", "critters", "data_dir", "digits", "dogs_vs_cats", "folder", "lesions", "pets",
           "platform", "source", "source_line"]  # fmt: skip

Count = int | None  # None = the default
_CLASSES = {"dogs_vs_cats": ["cat", "dog"], "pets": ["cat", "dog"], "lesions": ["benign", "malignant"]}
_DRAWN = {"train": 200, "val": 200, "test": 1000}  # drawings that stand in where no numbers are asked for


def source() -> str:
    """COURSE_DATA: "auto", "critters" or "photos". Raises ValueError for anything else."""
    value = os.environ.get("COURSE_DATA") or "auto"
    if value not in ("auto", "critters", "photos"):
        raise ValueError(f"COURSE_DATA={value!r}: expected auto, critters (drawings) or photos.")
    return value


def source_line() -> str:
    """Half a sentence for `utils.start()`: which data the notebook gets, and how to change that."""
    if source() == "photos":
        return "data: photos (COURSE_DATA=critters for drawings)"
    data_dir()  # that it is a file is an error, whoever asks
    names = []
    for name in _CLASSES if source() == "auto" else ():
        with suppress(ValueError, OSError):  # unusable photos, a drive that is gone: said when they are asked for
            if photos.archives(name) or photos.find(name) or name == "dogs_vs_cats" and _on_a_lent_gpu():
                names.append(name)
    if names:
        return f"data: photos of {', '.join(names)}, else drawings (COURSE_DATA=critters for drawings only)"
    return "data: drawings (COURSE_DATA=photos for photos)"


def _on_a_lent_gpu() -> bool:
    """Colab or Kaggle with a GPU that works: only there a small download is worth it without being asked for."""
    return platform() != "other" and device.pick()[0].type == "cuda"


def _photos(name: str) -> photos.Found | None:
    """The photos of a data set, unpacked or fetched where that is due; None where drawings are to stand in."""
    root = data_dir()  # that it is a file is an error, too, and no reason for drawings
    try:
        if found := photos.find(name):
            return found
        if name in download.ARCHIVES and (source() == "photos" or name == "dogs_vs_cats" and _on_a_lent_gpu()):
            download.fetch(name, root)
            return photos.find(name)
        if source() == "photos" or os.environ.get("COURSE_DATA_DIR"):
            raise FileNotFoundError(f"{name}: no photos are in {root}; data/README.md says what goes there.")
    except (ValueError, OSError) as error:
        if source() == "photos":
            raise
        print(f"{error}\nDrawings are used instead.")


def dogs_vs_cats(num_train: Count = None, num_val: Count = None, num_test: Count = None, size: Count = None) -> Splits:
    """Cats (label 0) and dogs (1): photos of Kaggle's dogs-vs-cats, or drawings, with the targets of `critters` too.

    num_*: how many, classes in equal shares; default: all photos, or 200, 200 and 1,000 drawings. size: pixels a side;
    default 128 for photos, 64 for drawings, which show their animal as well at half the side.
    Photos in two splits, as the filtered subset's: one is the test set, a fifth of the other val; else 70/15/15. Raises
    ValueError for unusable numbers, sizes, lists and folders, OSError where COURSE_DATA=photos and there are none.
    Source: Elson, Douceur, Howell and Saul, Asirra, CCS 2007; Kaggle, Dogs vs. Cats, 2013.
    """
    return _photos_or_drawings("dogs_vs_cats", size, train=num_train, val=num_val, test=num_test)


def pets(num_train: Count = None, num_val: Count = None, num_test: Count = None, size: Count = None) -> Splits:
    """Cats (label 0) and dogs (1) with "mask" (the animal), "box" (its head; NaN in many) and "breed" (0 to 36).

    Photos: Oxford-IIIT Pet; val is a fifth of its `trainval`. The mask is the trimap's pet and the undecided band along
    its outline; a folder without trimaps gives no "mask". Drawings have "parts", no "breed".
    Arguments and errors as for `dogs_vs_cats`. Source: Parkhi, Vedaldi, Zisserman, Jawahar, Cats and Dogs, CVPR 2012.
    """
    return _photos_or_drawings("pets", size, train=num_train, val=num_val, test=num_test)


def lesions(num_train: Count = None, num_val: Count = None, num_test: Count = None, size: Count = None) -> Splits:
    """Breast lesions in ultrasound, benign (label 0) or malignant (1), with "mask". Not for any medical use.

    Photos: BUSI where you have it; else drawings. Three equal channels. Arguments and errors as for `dogs_vs_cats`.
    Source: Al-Dhabyani, Gomaa, Khaled and Fahmy, Dataset of breast ultrasound images, Data in Brief 28 (2020) 104863.
    """
    return _photos_or_drawings("lesions", size, train=num_train, val=num_val, test=num_test)


def critters(
    species: Sequence = drawings.SPECIES, num_train: int = 1200, num_val: int = 240, num_test: int = 480,
    size: int = 64, seed: int = 0,
) -> Splits:  # fmt: skip
    """Drawn animals, always, with "mask", "box" (the head) and "parts" (what each pixel shows: a position in
    `utils.critters.PARTS`). Labels count the species, as they are given.

    size: 32 to 128 pixels. Other seeds give other drawings. Raises ValueError for an unknown species or an unusable
    size or number.
    """
    numbers = {"train": num_train, "val": num_val, "test": num_test}
    _check(**numbers)
    return _draw(list(species), numbers, size, seed)


def digits() -> Splits:
    """scikit-learn's 1,797 handwritten digits, (1, 8, 8), divided 1,200 / 200 / 397 at random (seed 0, stratified).

    The grey levels 0 to 16 become 0 to 255. Source: Alpaydin and Kaynak, UCI machine learning repository, 1998.
    """
    from sklearn.datasets import load_digits  # here, as it takes a second to import
    from sklearn.model_selection import train_test_split

    found = load_digits()
    images = torch.from_numpy(np.round(found.images * (255 / 16)).astype(np.uint8))[:, None]
    labels = torch.from_numpy(found.target).long()
    rest, test = train_test_split(np.arange(1797), test_size=397, stratify=labels, random_state=0)
    train, val = train_test_split(rest, test_size=200, stratify=labels[rest], random_state=0)
    parts = {"train": train, "val": val, "test": test}
    data = {split: {"images": images[rows], "label": labels[rows]} for split, rows in parts.items()}
    return _splits(data, [str(digit) for digit in range(10)], "digit", "digits")


def folder(path: str | Path, size: int = 64) -> Splits:
    """Your own pictures: one sub-folder for each class, as torchvision's ImageFolder has it.

    Folders for training, validation and testing, however spelled, are taken as they are; with train and one more, that
    one is the test set and a fifth of train is val; else all is divided 70/15/15 by a hash of each picture's name. What
    is left out is counted in one line. Transparent parts are white. Raises FileNotFoundError, NotADirectoryError, or
    ValueError for one class only, a class without pictures, too few of a class, or splits that differ in classes.
    """
    found = photos.in_folders(Path(path).expanduser().absolute())
    return _splits(read.load("folder", found, size, dict.fromkeys(_DRAWN)), found.classes, "photo", "folder")


def _photos_or_drawings(name: str, size: Count, **numbers: Count) -> Splits:
    _check(size=size, **numbers)
    if source() != "critters" and (found := _photos(name)):
        data = read.load(name, found, 128 if size is None else size, numbers)
        splits = _splits(data, found.classes, "ultrasound image" if name == "lesions" else "photo", "photos")
    else:
        splits = _draw(_CLASSES[name], numbers, 64 if size is None else size, seed=0)
    if size is None:  # as it differs
        side = splits.train.images.shape[-1]
        print(f"{name}: {splits.train.noun}s of {side} x {side} pixels; size=... gives others.")
    return splits


def _check(**numbers: Count) -> None:
    for name, number in numbers.items():
        if number is not None and (not isinstance(number, Integral) or number < 0):
            raise ValueError(f"{name}={number!r}: expected a whole number of 0 or more, or None.")


def _draw(kinds: list, numbers: dict[str, Count], size: int, seed: int) -> Splits:
    """Drawings of the kinds (species, or benign and malignant) by turns: the first of more are the fewer of a seed."""
    key = kinds, {split: _DRAWN[split] if num is None else int(num) for split, num in numbers.items()}, size, seed
    data = cache.cached("drawings", key, lambda: tree_map(torch.from_numpy, drawings.draw_sets(*key)))
    return _splits(data, [getattr(kind, "name", kind) for kind in kinds], "drawing", "critters")


def _splits(data: dict[str, dict[str, torch.Tensor]], classes: Sequence[str], noun: str, source: str) -> Splits:
    sets = {split: ImageDataset(part.pop("images"), part, classes, noun, source) for split, part in data.items()}
    return Splits(**sets)
