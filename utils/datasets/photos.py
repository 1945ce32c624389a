"""Finds the photos of a data set, and those in a folder of one's own.

One rule for both: what torchvision's ImageFolder would take is taken, and all else is counted by its kind.
"""

import os
import re
import unicodedata
import zipfile
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from itertools import chain
from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS

from utils.datasets import cache
from utils.datasets.download import unpack
from utils.datasets.read import Found, Photo, listed, read  # noqa: F401

SUFFIXES = (*IMG_EXTENSIONS, ".gif")
KAGGLE_INPUT = Path("/kaggle/input")
_OF_SYSTEMS = (".", "__", "@", "$")  # .ipynb_checkpoints, __MACOSX, @eaDir, $RECYCLE.BIN: no folders of the user
_SPLITS = {  # words in the names of folders
    "train": {"train", "training", "trainset", "trainval"},
    "val": {"val", "valset", "valid", "validation", "dev"},
    "test": {"test", "testing", "testset", "eval", "evaluation"},
}
_CATS, _LESIONS = ("cat", "dog"), ("benign", "malignant")
_LOOKS = {  # how the folders and archives of each data set, and what is in these, are named
    "dogs_vs_cats": r"(?i)^(?!.*(oxford|breed)).*(cats?.{0,5}dogs?|dogs?.{0,5}cats?|petimages|/(cat|dog)(s?/|\.\d))",
    "pets": r"(?i)oxford[^/]*(iiit|pet|data)|^(images|annotations)\.tar|/trainval\.txt",
    "lesions": r"(?i)(?<![a-z])busi(?![a-z])|breast|/malignant/",
}


def data_dir() -> Path:
    """COURSE_DATA_DIR (a relative one begins at the checkout), or the checkout's data/; it need not exist. Raises
    NotADirectoryError where it is a file."""
    text = os.environ.get("COURSE_DATA_DIR")
    path = cache.CHECKOUT / os.path.expanduser(text or "data")
    if os.path.isfile(path):
        raise NotADirectoryError(f"COURSE_DATA_DIR={text!r} is a file: expected the folder in which the photos lie.")
    return path


def find(name: str) -> Found | None:
    """The photos of a data set, unpacked where they lie in archives; None where there are none. Raises ValueError where
    a folder is named like it and has something else in it, DownloadError where an archive cannot be unpacked."""
    fault = None
    for place in _places(name):
        try:
            return {"dogs_vs_cats": _dogs_vs_cats, "pets": _pets, "lesions": _lesions}[name](place)
        except ValueError as error:
            if place != data_dir() and re.search(_LOOKS[name], place.name):
                fault = fault or error
    if packed := archives(name):
        for file, target in packed.items():
            print(f"Unpacking {file}, once, to {target}.")
            unpack([file], target)
        return find(name)  # there may be an archive in the archive
    if fault:
        raise fault
    return None


def _places(name: str) -> list[Path]:
    """COURSE_DATA_DIR, what is attached on Kaggle, and the folders in them that are named like a data set."""
    places = []
    attached = (KAGGLE_INPUT.glob(pattern) for pattern in ("*", "competitions/*", "datasets/*/*"))
    for root in (data_dir(), *sorted(chain(*attached))):
        inside = sorted((*root.glob("*"), *root.glob("*/*")))  # archive.zip is what Kaggle's button gives
        places += [root, *(path for path in inside if re.search(f"{_LOOKS[name]}|^archive", path.name))]
    return sorted(filter(os.path.isdir, places), key=lambda path: path.name != "cats_and_dogs_filtered")


def archives(name: str) -> dict[Path, Path]:
    """Archives of a data set that are not unpacked yet, each with the folder that it becomes."""
    found = {}
    for place in _places(name):
        home = place if cache.writable(place) else data_dir() / place.name  # Kaggle attaches them read-only
        for file in sorted(place.glob("*")):
            target = home / re.sub(r"(\.tar)?\.\w+$", "", file.name)
            if re.search(r"\.(zip|tar|gz|tgz)$", file.name, re.I) and not target.exists() and _holds(file, name):
                found[file] = target
    return found


def _holds(file: Path, name: str) -> bool:
    members = [file.parent.name]  # of a tar, or what is cut short, the names must do
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            members = archive.namelist()
    return any(re.search(_LOOKS[name], f"{file.name}/{member}") for member in members)


def _dogs_vs_cats(place: Path) -> Found:
    """Label 0 cat, 1 dog: folders of that name, in splits or not, or Kaggle's train/cat.0.jpg."""
    files = chain(place.glob("train/*"), place.glob("train/train/*"))
    files = [file for file in files if file.name[:3] in _CATS and _is_picture(file)]
    if {file.name[:3] for file in files} == set(_CATS):
        return Found({"train": [Photo(file, _CATS.index(file.name[:3])) for file in files]}, _CATS)
    return in_folders(place, _CATS)


def _lesions(place: Path) -> Found:
    """BUSI: label 0 benign, 1 malignant; masks are NAME_mask.png, NAME_mask_1.png and so on."""
    found = in_folders(place, _LESIONS)
    for split, photos in found.pools.items():
        masks = defaultdict(list)
        for file in sorted(photo.file for photo in photos if "_mask" in photo.file.stem):
            masks[file.with_name(file.stem.split("_mask")[0])].append(file)
        found.pools[split] = [
            photo._replace(masks=tuple(masks[stem]) or (stem.with_name(f"{stem.name}_mask.png"),))
            for photo in photos if (stem := photo.file.with_suffix("")) and "_mask" not in stem.name
        ]  # fmt: skip
    return found


def _pets(place: Path) -> Found:
    """Oxford-IIIT Pet in torchvision's layout, or nested once more: label 0 cat, 1 dog; breed 0 to 36."""
    images, notes = (place / part / part if (place / part / part).is_dir() else place / part
                     for part in ("images", "annotations"))  # fmt: skip
    lists = {"train": notes / "trainval.txt", "test": notes / "test.txt"}
    if not all(file.is_file() for file in lists.values()) or not any(map(_is_picture, _files(images))):
        raise ValueError(f"{place} has not images/ with pictures and annotations/ with trainval.txt and test.txt.")
    has_trimaps, boxed = (notes / "trimaps").is_dir(), {file.stem for file in (notes / "xmls").glob("*.xml")}
    pools: dict[str, list[Photo]] = {"train": [], "test": []}
    for split, file in lists.items():
        for line in re.findall(r"^\s*([^#\s].*)", file.read_text(encoding="utf-8-sig", errors="replace"), re.M):
            if not (fields := re.fullmatch(r"(\S+) (\d+) ([12]) \d+", line.strip())):
                raise ValueError(f"{file} has the line {line!r}: expected NAME BREED SPECIES NUMBER, such as "
                                 "'Abyssinian_1 1 1 1'. Copy the file anew.")  # fmt: skip
            name, breed, species = fields.groups()
            masks = (notes / f"trimaps/{name}.png",) * has_trimaps
            box = notes / f"xmls/{name}.xml" if name in boxed else None
            pools[split].append(Photo(images / f"{name}.jpg", int(species) - 1, masks, box, int(breed) - 1))
        if {photo.label for photo in pools[split]} != {0, 1}:
            raise ValueError(f"{file} names no cats or no dogs: expected both. Copy the file anew.")
    return Found(pools, _CATS)


def in_folders(path: Path, wanted: Collection[str] = ()) -> Found:
    """Photos in ImageFolder layout, in folders for training, validation and testing or not.

    wanted: the classes, whose folders may be in the plural and the rest is nobody's business; () = all folders.
    Raises what `datasets.folder` says.
    """
    if not os.path.isdir(path):
        if os.path.isfile(path):
            raise NotADirectoryError(f"{path} is a file: expected a folder (unpack an archive first).")
        raise FileNotFoundError(f"{path} does not exist: expected a folder with a sub-folder for each class.")
    splits, pools, left_out, taken = _splits(path), {}, Counter(), []
    classes = list(wanted or _subfolders(splits["train"]))
    if len(classes) < 2:
        found = f"only the class {classes[0]!r}" if classes else "no sub-folders"
        num = sum(map(_is_picture, _files(path)))
        raise ValueError(f"{splits['train']} has {found}, and {num} pictures lie there: expected at least two "
                         "sub-folders with pictures, such as cat/ and dog/.")  # fmt: skip
    for split, root in splits.items():
        folders, pools[split] = _subfolders(root), []
        if wanted:
            folders = {name.lower().removesuffix("s"): folder for name, folder in folders.items()}
            folders = {name: folder for name, folder in folders.items() if name in wanted}
        if unlike := sorted(set(classes) ^ set(folders)):
            raise ValueError(f"{root} has not the folders for {', '.join(classes)}: look at {unlike[0]!r}.")
        for label, name in enumerate(classes):
            others = Counter(_kind(file) for file in _files(folders[name]) if not _is_picture(file))
            photos = [Photo(file, label) for file in _files(folders[name]) if _is_picture(file)]
            if not photos:
                there = ", ".join(listed(others)) or "nothing"
                raise ValueError(f"the class {name!r} has no pictures in {folders[name]}, but {there}: convert what is "
                                 "there, or remove the folder.")  # fmt: skip
            pools[split] += photos
            left_out += others
            taken.append(folders[name])
    if not wanted:
        left_out.update(_kind(file, path) for file in _files(path, taken))
        inside = {tuple(_subfolders(folder)) for folder in taken}
        if len(splits) == 1 and (any(map(_split_of, classes)) or len(inside) == 1 and len(*inside) > 1):
            print(f"{', '.join(classes)} are taken for the classes; if they are for training and testing, name them "
                  "train, val and test, with a folder for each class in each.")  # fmt: skip
    return Found(pools, classes, left_out)


def _splits(path: Path) -> dict[str, Path]:
    """The folders for training, validation and testing in a folder; where none is for training, itself as "train"."""
    root, named = _unwrapped(path), {}
    for name, folder in _subfolders(root).items():
        if (split := _split_of(name)) and _subfolders(inner := _unwrapped(folder)):
            named.setdefault(split, inner)
    return named if "train" in named else {"train": root}


def _split_of(name: str) -> str:
    """ "train", "val" or "test" for the name of such a folder (Training, seg_test, trainA, val2017), else ""."""
    words = re.findall("[a-z]+", re.sub("([a-z])([A-Z])", r"\1 \2", name).lower())
    return next((split for split in _SPLITS if _SPLITS[split] & set(words)), "")


def _unwrapped(path: Path) -> Path:
    """The folder in a folder, in a folder: Kaggle's archives hold theirs once more (train/train/cat)."""
    for _ in range(3):
        inner = list(_subfolders(path).values())
        if len(inner) == 1 and _subfolders(inner[0]):
            path = inner[0]
    return path


def _subfolders(folder: Path) -> dict[str, Path]:
    """The folders in a folder by their names, in whichever way these are composed (NFC), without those of systems."""
    names = sorted(name for name in os.listdir(folder) if not name.startswith(_OF_SYSTEMS))
    return {unicodedata.normalize("NFC", name): folder / name for name in names if os.path.isdir(folder / name)}


def _files(folder: Path, but: Collection[Path] = ()) -> Iterator[Path]:
    """All files in a folder and the folders in it, but for those of systems and in `but`.

    Links are followed unless they lead back; a folder that may not be read stands for itself.
    """
    seen, closed = {path.resolve() for path in but}, []
    for here, folders, files in os.walk(folder, onerror=closed.append, followlinks=True):
        real = Path(here).resolve()
        if real in seen:
            folders.clear()
            continue
        seen |= {real, *real.parents}
        folders[:] = sorted(name for name in folders if not name.startswith(_OF_SYSTEMS))
        yield from (Path(here, name) for name in files if not name.startswith("."))
    yield from (Path(error.filename) for error in closed)


def _is_picture(file: Path) -> bool:
    return file.name.lower().endswith(SUFFIXES)


def _kind(file: Path, root: Path | None = None) -> str:
    """What is left out, in words that go with a number."""
    if root and _is_picture(file):
        first, *rest = file.relative_to(root).parts
        return f"pictures in {first}/, which is no class" if rest else "pictures beside the classes' folders"
    return "folders that may not be read" if file.is_dir() else file.suffix.lower() or "files without a suffix"
