"""Finds the photos of a data set, and those in a folder of one's own.

One rule for both: what torchvision's ImageFolder would take is taken, and all else is counted by its kind.
"""

import os
import re
import unicodedata
import zipfile
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS

from utils.datasets import cache
from utils.datasets.download import unpack
from utils.datasets.read import Found, Photo, read  # noqa: F401

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
    a folder is named like it and has something else in it, OSError where an archive cannot be unpacked."""
    fault = None
    for place in _places(name):
        try:
            return {"dogs_vs_cats": _dogs_vs_cats, "pets": _pets, "lesions": _lesions}[name](place)
        except ValueError as error:
            if place != data_dir() and re.search(_LOOKS[name], place.name):
                fault = fault or error
    if packed := archives(name):
        for file, target in packed.items():
            unpack(file, target)
        return find(name)  # there may be an archive in the archive
    if fault:
        raise fault


def archives(name: str) -> dict[Path, Path]:
    """Archives of a data set that are not unpacked yet, each with the folder that it becomes."""
    found = {}
    for file in (file for place in _places(name) for file in sorted(place.glob("*"))):
        home = file.parent if os.access(file.parent, os.W_OK) else data_dir()  # Kaggle attaches them read-only
        target = home / file.name.partition(".")[0]
        if file.suffix in (".zip", ".tar", ".gz", ".tgz") and not target.exists():
            members = [file.parent.name]  # of a tar, or what is cut short, the names must do
            if zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as archive:
                    members = archive.namelist()
            if any(re.search(_LOOKS[name], f"{file.name}/{member}") for member in members):
                found[file] = target
    return found


def _places(name: str) -> list[Path]:
    """COURSE_DATA_DIR, what is attached on Kaggle, and the folders in them that are named like a data set."""
    attached = {path for pattern in ("*", "competitions/*", "datasets/*/*") for path in KAGGLE_INPUT.glob(pattern)}
    places = []
    for root in (data_dir(), *sorted(attached)):
        inside = sorted((*root.glob("*"), *root.glob("*/*")))  # archive.zip is what Kaggle's button gives
        places += [root, *(path for path in inside if re.search(f"{_LOOKS[name]}|^archive", path.name))]
    return sorted(filter(os.path.isdir, places), key=lambda path: path.name != "cats_and_dogs_filtered")


def _dogs_vs_cats(place: Path) -> Found:
    """Label 0 cat, 1 dog: folders of that name, in splits or not, or Kaggle's train/cat.0.jpg."""
    files = (*place.glob("train/*"), *place.glob("train/train/*"))
    photos = [Photo(file, _CATS.index(file.name[:3])) for file in files if _is_picture(file) and file.name[:3] in _CATS]
    return Found({"train": photos}, _CATS) if len({photo.label for photo in photos}) == 2 else in_folders(place, _CATS)


def _lesions(place: Path) -> Found:
    """BUSI: label 0 benign, 1 malignant; masks are NAME_mask.png, NAME_mask_1.png and so on."""
    found = in_folders(place, _LESIONS)
    for split, photos in found.pools.items():
        masks = defaultdict(list)
        for file in sorted(photo.file for photo in photos if "_mask" in photo.file.stem):
            masks[file.with_name(file.stem.split("_mask")[0])].append(file)
        stems = {photo.file.with_suffix(""): photo for photo in photos if "_mask" not in photo.file.stem}
        found.pools[split] = [
            photo._replace(masks=tuple(masks[stem] or [Path(f"{stem}_mask.png")])) for stem, photo in stems.items()
        ]
    return found


def _pets(place: Path) -> Found:
    """Oxford-IIIT Pet in torchvision's layout, or nested once more: label 0 cat, 1 dog; breed 0 to 36."""
    parts = (place / "images", place / "annotations")
    images, notes = (part / part.name if (part / part.name).is_dir() else part for part in parts)
    lists = {"train": notes / "trainval.txt", "test": notes / "test.txt"}
    if not all(file.is_file() for file in lists.values()) or not any(map(_is_picture, _files(images))):
        raise ValueError(f"{place} has not images/ with pictures and annotations/ with trainval.txt and test.txt.")
    has_trimaps, boxed = (notes / "trimaps").is_dir(), {file.stem for file in (notes / "xmls").glob("*.xml")}
    pools, left_out = {"train": [], "test": []}, Counter()
    for split, file in lists.items():
        for line in map(str.strip, file.read_text(encoding="utf-8-sig", errors="replace").splitlines()):
            if fields := re.fullmatch(r"(\S+) (\d+) ([12]) \d+", line):
                name, breed, species = fields.groups()
                masks = (notes / f"trimaps/{name}.png",) * has_trimaps
                box = notes / f"xmls/{name}.xml" if name in boxed else None
                pools[split].append(Photo(images / f"{name}.jpg", int(species) - 1, masks, box, int(breed) - 1))
            elif line and not line.startswith("#"):
                left_out[f"lines of {file.name} that make no sense"] += 1
        if {photo.label for photo in pools[split]} != {0, 1}:
            raise ValueError(f"{file} names no cats or no dogs: expected both. Copy the file anew.")
    return Found(pools, _CATS, left_out)


def in_folders(path: Path, wanted: Collection[str] = ()) -> Found:
    """Photos in ImageFolder layout, in folders for training, validation and testing or not.

    wanted: the classes, whose folders may be in the plural and the rest is nobody's business; () = all folders.
    Raises what `datasets.folder` says.
    """
    splits, pools, left_out, taken = _splits(path), {}, Counter(), []
    classes = list(wanted or _subfolders(splits["train"]))
    if len(classes) < 2:
        raise ValueError(f"{splits['train']} has the sub-folders {classes}: expected two or more, one for each class.")
    for split, root in splits.items():
        folders, pools[split] = _subfolders(root), []
        if wanted:
            singular = {name.lower().removesuffix("s"): folder for name, folder in folders.items()}
            folders = {name: folder for name, folder in singular.items() if name in wanted}
        if unlike := sorted(set(classes) ^ set(folders)):
            raise ValueError(f"{root} has not the folders for {', '.join(classes)}: look at {unlike[0]!r}.")
        for label, name in enumerate(classes):
            files = list(_files(folders[name]))
            others = Counter(_kind(file) for file in files if not _is_picture(file))
            if others.total() == len(files):
                raise ValueError(
                    f"the class {name!r} has no pictures in {folders[name]}, but {dict(others) or 'nothing'}."
                )
            pools[split] += [Photo(file, label) for file in files if _is_picture(file)]
            left_out += others
            taken.append(folders[name])
    if not wanted:
        left_out.update(_kind(file, path) for file in _files(path, taken))
        inside = {tuple(_subfolders(folder)) for folder in taken}
        if len(splits) == 1 and (any(map(_split_of, classes)) or len(inside) == 1 and len(*inside) > 1):
            print(
                f"{', '.join(classes)} are taken for the classes. Are they splits? Then name them train, val and test."
            )
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
    inner = list(_subfolders(path).values())
    return _unwrapped(inner[0]) if len(inner) == 1 and _subfolders(inner[0]) else path


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
    return file.name.lower().endswith((*IMG_EXTENSIONS, ".gif"))


def _kind(file: Path, root: Path | None = None) -> str:
    """What is left out, in words that go with a number."""
    if root and _is_picture(file):
        first, *rest = file.relative_to(root).parts
        return f"pictures in {first}/, which is no class" if rest else "pictures beside the classes' folders"
    return "folders that may not be read" if file.is_dir() else file.suffix.lower() or "files without a suffix"
