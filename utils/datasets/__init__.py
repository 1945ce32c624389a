"""The data of the course: each function gives train, val and test as `ImageDataset`s.

>>> train, val, test = datasets.dogs_vs_cats(num_train=200)

COURSE_DATA chooses between drawings and photos: "auto" (default) takes photos where they are on disk or mounted,
"critters" always drawings, "photos" always photos. COURSE_DATA_DIR is where photos lie or go (default: data/).
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch.utils._pytree import tree_map

from utils import critters as drawings
from utils import device
from utils.datasets import cache, download, photos, read
from utils.datasets.choose import is_whole_number
from utils.datasets.dataset import ImageDataset, Splits
from utils.datasets.download import DownloadError, platform
from utils.datasets.photos import data_dir

__all__ = ["DownloadError", "ImageDataset", "Splits", "critters", "data_dir", "digits", "dogs_vs_cats", "folder",
           "lesions", "pets", "platform", "source", "source_line"]  # fmt: skip

Number = int | None  # None = the default
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
    if source() == "critters":
        return "data: drawings (COURSE_DATA=photos for photos)"
    names = []
    for name in _CLASSES:
        with suppress(ValueError, OSError):  # unusable photos, a drive that is gone: said when they are asked for
            if photos.archives(name):
                names.append(f"{name} (unpacked when needed)")
            elif photos.find(name):
                names.append(name)
            elif name == "dogs_vs_cats" and _on_a_lent_gpu():
                names.append("dogs_vs_cats (69 MB, fetched when needed)")
    if names:
        return f"data: photos of {', '.join(names)}, else drawings (COURSE_DATA=critters for drawings only)"
    there = f"no photos are in {data_dir()}" if os.environ.get("COURSE_DATA_DIR") else "COURSE_DATA=photos for photos"
    return f"data: drawings ({there})"


def _on_a_lent_gpu() -> bool:
    """Colab or Kaggle with a GPU that works: only there a small download is worth it without being asked for."""
    return platform() != "other" and device.pick()[0].type == "cuda"


def _photos(name: str) -> photos.Found | None:
    """The photos of a data set, unpacked or fetched where that is due; None where drawings are to stand in."""
    if source() == "critters":
        return None
    root = data_dir()  # that it is a file is an error, too, and no reason for drawings
    there = f"{root}{'' if os.path.isdir(root) else ' (which does not exist)'}"
    try:
        if found := photos.find(name):
            return found
        if source() == "photos" and name not in download.ARCHIVES:
            raise FileNotFoundError(f"The BUSI ultrasound images are not in {there}, and they cannot be fetched: put "
                                    "Dataset_BUSI_with_GT/ there, or set COURSE_DATA=critters.")  # fmt: skip
        if source() == "photos" or name == "dogs_vs_cats" and _on_a_lent_gpu():
            download.fetch(name, root)
            return photos.find(name)
        if os.environ.get("COURSE_DATA_DIR"):
            raise FileNotFoundError(f"{name}: no photos in {there}.")
    except (DownloadError, ValueError, OSError) as error:
        if source() == "photos":
            raise
        print(f"{error}\nDrawings are used instead.")
    return None


def dogs_vs_cats(
    num_train: Number = None, num_val: Number = None, num_test: Number = None, size: Number = None
) -> Splits:
    """Cats (label 0) and dogs (1): photos of Kaggle's dogs-vs-cats, or drawings, with the targets of `critters` too.

    num_*: how many, classes in equal shares; default: all photos, or 200, 200 and 1,000 drawings. size: pixels a side;
    default 128 for photos, 64 for drawings, which show their animal as well at half the side.
    Photos in two splits, as the filtered subset's: one is the test set, a fifth of the other val; else 70/15/15. Raises
    ValueError for unusable numbers, sizes, lists and folders, and where COURSE_DATA=photos and there are none
    DownloadError (or FileNotFoundError where no download is offered).
    Source: Elson, Douceur, Howell and Saul, Asirra, CCS 2007; Kaggle, Dogs vs. Cats, 2013.
    """
    return _photos_or_drawings("dogs_vs_cats", size, train=num_train, val=num_val, test=num_test)


def pets(num_train: Number = None, num_val: Number = None, num_test: Number = None, size: Number = None) -> Splits:
    """Cats (label 0) and dogs (1) with "mask" (the animal), "box" (its head; NaN in many) and "breed" (0 to 36).

    Photos: Oxford-IIIT Pet; val is a fifth of its `trainval`. The mask is the trimap's pet and the undecided band along
    its outline; a folder without trimaps gives no "mask". Drawings have "parts", no "breed".
    Arguments and errors as for `dogs_vs_cats`. Source: Parkhi, Vedaldi, Zisserman, Jawahar, Cats and Dogs, CVPR 2012.
    """
    return _photos_or_drawings("pets", size, train=num_train, val=num_val, test=num_test)


def lesions(num_train: Number = None, num_val: Number = None, num_test: Number = None, size: Number = None) -> Splits:
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
    if not species:
        raise ValueError("species is empty: expected one or more.")
    return _draw(list(species), {"train": num_train, "val": num_val, "test": num_test}, size, seed)


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
    return _read("folder", found, "folder", size, dict.fromkeys(_DRAWN))


def _photos_or_drawings(name: str, size: Number, **numbers: Number) -> Splits:
    _check(numbers)
    if found := _photos(name):
        splits = _read(name, found, "photos", 128 if size is None else size, numbers)
    else:
        splits = _draw(_CLASSES[name], numbers, 64 if size is None else size, seed=0)
    if size is None:  # as it differs
        side = splits.train.images.shape[-1]
        print(f"{name}: {splits.train.noun}s of {side} x {side} pixels; size=... gives others.")
    return splits


def _check(numbers: dict[str, Number]) -> None:
    for number in numbers.values():
        if number is not None and (not is_whole_number(number) or number < 0):
            raise ValueError(f"{number!r} pictures were asked for: expected a whole number of 0 or more, or None.")


def _read(name: str, found: photos.Found, source: str, size: int, numbers: dict[str, Number]) -> Splits:
    noun = "ultrasound image" if name == "lesions" else "photo"
    data, left_out = read.load(name, found, size, numbers)
    if left_out:
        print(f"{name}: left out: {', '.join(left_out)}.")
    for split, num in numbers.items():
        if num and num > (there := len(data[split]["label"])):
            print(f"{name}: {num:,} {noun}s were asked for in {split}, and all {there:,} that are there are used.")
    return _splits(data, found.classes, noun, source)


def _draw(kinds: list, numbers: dict[str, Number], size: int, seed: int) -> Splits:
    """Drawings of the kinds (species, or benign and malignant) by turns: the first of more are the fewer of a seed."""
    _check(numbers)
    key = kinds, {split: _DRAWN[split] if num is None else int(num) for split, num in numbers.items()}, size, seed
    data = cache.cached("drawings", key, lambda: tree_map(torch.from_numpy, drawings.draw_sets(*key)))
    return _splits(data, [getattr(kind, "name", kind) for kind in kinds], "drawing", "critters")


def _splits(data: dict[str, dict[str, torch.Tensor]], classes: Sequence[str], noun: str, source: str) -> Splits:
    def split(images: torch.Tensor, label: torch.Tensor, **others: torch.Tensor) -> ImageDataset:
        return ImageDataset(images, {"label": label, **others}, classes, noun, source)

    return Splits(**{name: split(**columns) for name, columns in data.items()})
