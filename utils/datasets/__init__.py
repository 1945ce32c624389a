"""The data of the course: each function gives train, val and test as `ImageDataset`s.

>>> train, val, test = datasets.dogs_vs_cats(num_train=200)

COURSE_DATA chooses between drawings and photos: "auto" (default) takes photos where they are on disk or mounted,
"critters" always drawings, "photos" always photos. COURSE_DATA_DIR is where photos lie or go (default: data/).
"""

import os
import random
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import __version__ as pillow_version
from tqdm.auto import tqdm

from utils import critters as drawings
from utils import device
from utils.datasets import cache, download, photos
from utils.datasets.dataset import ImageDataset, Splits
from utils.datasets.download import DownloadError, platform

__all__ = ["DownloadError", "ImageDataset", "Splits", "critters", "data_dir", "digits", "dogs_vs_cats", "folder",
           "lesions", "pets", "platform", "source", "source_line"]  # fmt: skip

_FINDERS = {"dogs_vs_cats": photos.find_dogs_vs_cats, "pets": photos.find_pets, "lesions": photos.find_lesions}
_CLASSES = {"dogs_vs_cats": ["cat", "dog"], "pets": ["cat", "dog"], "lesions": ["benign", "malignant"]}
_SPLITS = ("train", "val", "test")
_DRAWN = (200, 200, 1000)  # drawings that stand in where no numbers are asked for


# ---- which source ----------------------------------------------------------------------------------------------------


def source() -> str:
    """COURSE_DATA: "auto", "critters" or "photos". Raises ValueError for anything else."""
    value = os.environ.get("COURSE_DATA") or "auto"
    if value not in ("auto", "critters", "photos"):
        raise ValueError(f"COURSE_DATA={value!r}: expected auto, critters (drawings) or photos.")
    return value


def data_dir() -> Path:
    """COURSE_DATA_DIR, or the checkout's data/; it need not exist. Raises NotADirectoryError where it is a file."""
    text = os.environ.get("COURSE_DATA_DIR")
    path = Path(text).expanduser().absolute() if text else cache.CHECKOUT / "data"
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"COURSE_DATA_DIR={text!r} is a file: expected the folder in which the photos lie.")
    return path


def source_line() -> str:
    """Half a sentence for `utils.start()`: which data the notebook gets, and how to change that."""
    if source() == "photos":
        return "data: photos (COURSE_DATA=critters for drawings)"
    names = []
    if source() == "auto":
        data_dir()  # that it is a file is an error at once
    for name in _FINDERS if source() == "auto" else ():
        with suppress(ValueError, OSError):  # unusable photos, a drive that is gone: said when they are asked for
            if _find(name):
                names.append(name)
            elif name == "dogs_vs_cats" and _on_a_lent_gpu():
                names.append("dogs_vs_cats (69 MB, fetched when needed)")
    if not names:
        return "data: drawings (COURSE_DATA=photos for photos)"
    return f"data: photos of {', '.join(names)}, else drawings (COURSE_DATA=critters for drawings only)"


def _on_a_lent_gpu() -> bool:
    """Colab or Kaggle with a GPU that works: only there a small download is worth it without being asked for."""
    return platform() != "other" and device.pick()[0].type == "cuda"


def _download_dir() -> Path:
    """Where fetched photos go: `data_dir()`, or a temporary folder where that is data/ of a read-only checkout."""
    path = data_dir()
    if os.environ.get("COURSE_DATA_DIR"):
        with suppress(OSError):
            path.mkdir(parents=True, exist_ok=True)
        if not cache.writable(path):
            raise DownloadError(f"COURSE_DATA_DIR={str(path)!r} cannot be written to: name a folder that can.")
        return path
    return path if cache.writable(path) else cache.scratch("data")


def _find(name: str) -> photos.Pools:
    find, ours = _FINDERS[name], not os.environ.get("COURSE_DATA_DIR") and not cache.writable(data_dir())
    return find(data_dir()) or (find(cache.scratch("data")) if ours else {})  # there, what was fetched earlier


def _photos(name: str) -> photos.Pools:
    """The photos of a data set, fetched where that is due; {} where drawings are to stand in.

    Raises DownloadError, FileNotFoundError or ValueError where COURSE_DATA=photos and there are none, or unusable ones.
    """
    if source() == "critters":
        return {}
    data_dir()  # that it is a file is an error, too, and no reason for drawings
    try:
        if found := _find(name):
            return found
        if source() == "photos" or name == "dogs_vs_cats" and _on_a_lent_gpu():
            return _fetched(name)
        if sentence := photos.lacking(data_dir(), name):
            raise ValueError(sentence)
    except (DownloadError, ValueError, OSError) as error:
        if source() == "photos":
            raise
        print(f"{error}\nDrawings are used instead.")
    return {}


def _fetched(name: str) -> photos.Pools:
    if name not in download.ARCHIVES:
        there = "" if data_dir().is_dir() else " (which does not exist)"
        raise FileNotFoundError(
            f"COURSE_DATA=photos, but the BUSI ultrasound images are not in {data_dir()}{there}, and they cannot be "
            "fetched: put Dataset_BUSI_with_GT/ (with benign/ and malignant/) there, or set COURSE_DATA=critters."
        )
    root, archives = _download_dir(), download.ARCHIVES[name]
    size = sum(archive.num_bytes for archive in archives) / 1e6
    print(f"Fetching photos for {name}, once: {size:.0f} MB, {size / 600:.1f} minutes at 10 MB/s, to {root}.")
    for archive in archives:
        download.fetch(archive, root)
    if not (found := _find(name)):
        raise DownloadError(photos.lacking(root, name))
    return found


# ---- the data sets ---------------------------------------------------------------------------------------------------


def dogs_vs_cats(
    num_train: int | None = None, num_val: int | None = None, num_test: int | None = None, size: int | None = None
) -> Splits:
    """Cats (label 0) and dogs (1): photos of Kaggle's dogs-vs-cats, or drawings, with the targets of `critters` too.

    num_*: how many, classes in equal shares; default: all photos, or 200, 200 and 1,000 drawings. size: pixels a side;
    default 128 for photos, 64 for drawings, which show their animal as well at half the side.
    The filtered subset's `validation` is the test set, and a fifth of its `train` is val; other layouts are divided
    70/15/15 at random (seed 0). Raises ValueError for unusable numbers, sizes and lists, and where COURSE_DATA=photos and
    there are none DownloadError (or FileNotFoundError where no download is offered).
    Source: Elson, Douceur, Howell and Saul, Asirra, CCS 2007; Kaggle, Dogs vs. Cats, 2013.
    """
    return _photos_or_drawings("dogs_vs_cats", "photo", (num_train, num_val, num_test), size)


def pets(
    num_train: int | None = None, num_val: int | None = None, num_test: int | None = None, size: int | None = None
) -> Splits:
    """Cats (label 0) and dogs (1) with "mask" (the animal), "box" (its head; NaN in many) and "breed" (0 to 36).

    Photos: Oxford-IIIT Pet, whose `trainval` is divided 80/20 into train and val. The mask is the trimap's pet and the
    undecided band along its outline; a folder without trimaps gives no "mask". Drawings have "parts", no "breed".
    Arguments and errors as for `dogs_vs_cats`. Source: Parkhi, Vedaldi, Zisserman, Jawahar, Cats and Dogs, CVPR 2012.
    """
    return _photos_or_drawings("pets", "photo", (num_train, num_val, num_test), size)


def lesions(
    num_train: int | None = None, num_val: int | None = None, num_test: int | None = None, size: int | None = None
) -> Splits:
    """Breast lesions in ultrasound, benign (label 0) or malignant (1), with "mask". Not for any medical use.

    Photos: BUSI where you have it, divided 70/15/15; else drawings. Three equal channels.
    Arguments and errors as for `dogs_vs_cats`.
    Source: Al-Dhabyani, Gomaa, Khaled and Fahmy, Dataset of breast ultrasound images, Data in Brief 28 (2020) 104863.
    """
    return _photos_or_drawings("lesions", "ultrasound image", (num_train, num_val, num_test), size)


def critters(
    species: Sequence = drawings.SPECIES, num_train: int = 1200, num_val: int = 240, num_test: int = 480,
    size: int = 64, seed: int = 0,
) -> Splits:  # fmt: skip
    """Drawn animals, always, with "mask", "box" (the head) and "parts" (what each pixel shows: a position in
    `utils.critters.PARTS`). Labels count the species, as they are given.

    size: 32 to 128 pixels. Other seeds give other drawings. Raises ValueError for an unknown species or an unusable
    size or number.
    """
    names = [getattr(kind, "name", kind) for kind in species]
    return _draw(list(species), names, (num_train, num_val, num_test), size, seed)


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
    parts = zip(_SPLITS, (train, val, test), strict=True)
    data = {split: {"images": images[rows], "label": labels[rows]} for split, rows in parts}
    return _splits(data, [str(digit) for digit in range(10)], "digit", "digits")


def folder(path: str | Path, size: int = 64) -> Splits:
    """Your own pictures: one sub-folder for each class, as torchvision's ImageFolder has it.

    Sub-folders train, val (or validation, valid) and test are taken as they are; with train and one more, that one is
    the test set and a fifth of train is val; without them all is divided 70/15/15 at random (seed 0).
    Raises FileNotFoundError, NotADirectoryError, or ValueError for no pictures, one class only or too few of a class.
    """
    pools, classes = photos.find_folder(Path(path).expanduser().absolute())
    return _splits(photos.load("folder", pools, size, {}), classes, "photo", "folder")


def _splits(data: dict[str, dict[str, torch.Tensor]], classes: Sequence[str], noun: str, source: str) -> Splits:
    def split(images: torch.Tensor, label: torch.Tensor, **others: torch.Tensor) -> ImageDataset:
        return ImageDataset(images, {"label": label, **others}, classes, noun, source)

    return Splits(*(split(**data[name]) for name in _SPLITS))


def _numbers(numbers: Sequence[int | None], default: Sequence[int | None]) -> dict[str, int | None]:
    """How many of each split: plain ints, as the cache's key is their text."""
    for number in numbers:
        if number is not None and (not photos.is_whole_number(number) or number < 0):
            raise ValueError(f"{number!r} pictures were asked for: expected a whole number of 0 or more, or None.")
    wanted = (other if num is None else int(num) for num, other in zip(numbers, default, strict=True))
    return dict(zip(_SPLITS, wanted, strict=True))


def _photos_or_drawings(name: str, noun: str, numbers: Sequence[int | None], size: int | None) -> Splits:
    wanted = _numbers(numbers, (None, None, None))
    if not (pools := _photos(name)):
        return _draw(_CLASSES[name], _CLASSES[name], numbers, 64 if size is None else size, seed=0)
    data = photos.load(name, pools, 128 if size is None else size, wanted)
    for split, num in wanted.items():
        if num and num > (there := len(data[split]["images"])):
            print(f"{name}: {num:,} {noun}s were asked for in {split}, and all {there:,} that are there are used.")
    return _splits(data, _CLASSES[name], noun, "photos")


def _draw(kinds: list, names: list[str], numbers: Sequence[int | None], size: int, seed: int) -> Splits:
    """Drawings of the kinds (species, or benign and malignant) by turns: the first of more are the fewer of a seed."""
    if not kinds:
        raise ValueError("species is empty: expected one or more.")
    wanted = _numbers(numbers, _DRAWN)
    key = (kinds, wanted, size, seed, pillow_version)  # Pillow's versions differ in single pixels
    data = cache.cached("drawings", key, lambda: _draw_all(kinds, wanted, size, seed), Path(drawings.__file__).parent)
    return _splits(data, names, "drawing", "critters")


def _draw_all(kinds: list, numbers: dict[str, int], size: int, seed: int) -> dict[str, dict[str, torch.Tensor]]:
    data, draw = {}, _lesion if kinds == _CLASSES["lesions"] else _animal
    for part, (split, num) in enumerate(numbers.items()):
        rng = random.Random(f"{seed} {part}")  # 62 random bits a drawing: no two splits or seeds share one
        bar = tqdm(range(max(1, num)), desc=f"drawing {split}", unit="drawing", delay=2)  # one at least, for its shape
        rows = [draw(kinds[i % len(kinds)], rng.getrandbits(62), size) for i in bar]
        data[split] = {name: torch.from_numpy(np.stack([row[name] for row in rows])[:num]) for name in rows[0]}
        data[split]["label"] = torch.arange(num) % len(kinds)
    return data


def _animal(species, seed: int, size: int) -> dict[str, np.ndarray]:
    image, mask, box, _, parts = drawings.draw(species, seed, size)
    return {"images": image.transpose(2, 0, 1), "mask": mask, "box": box, "parts": parts}


def _lesion(kind: str, seed: int, size: int) -> dict[str, np.ndarray]:
    image, mask = drawings.draw_lesion(kind == "malignant", seed, size)
    return {"images": np.stack([image] * 3), "mask": mask}
