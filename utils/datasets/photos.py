"""Finds the photos of a data set, and those in a folder of one's own.

One rule for both: what torchvision's ImageFolder would take is taken, and all else is counted by its kind.
"""

import os
import re
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from torchvision.datasets.folder import IMG_EXTENSIONS

from utils.datasets import cache
from utils.datasets.download import unpack
from utils.datasets.read import Photo, read  # noqa: F401

SUFFIXES = (*IMG_EXTENSIONS, ".gif")
KAGGLE_INPUT = Path("/kaggle/input")
_OF_SYSTEMS = (".", "__", "@", "$")  # .ipynb_checkpoints, __MACOSX, @eaDir, $RECYCLE.BIN: no folders of the user
_SPLITS = {"train": "train(ing|val)?", "val": "val(id|idation)?|dev", "test": "test(ing)?|eval(uation)?"}
_CATS, _LESIONS = ("cat", "dog"), ("benign", "malignant")
_LOOKS = {  # for each data set how its folders and archives are named, and what is in such an archive
    "dogs_vs_cats": (r"^(?!.*(oxford|breed)).*(cats?.*dogs?|dogs?.*cats?|petimages)",
                     r"/(cats?|dogs?)/|/(cat|dog)\.\d+\.|(cat.*dog|dog.*cat).*/train\.zip$"),
    "pets": (r"oxford|/(images|annotations)\.tar", r"/trainval\.txt$"),
    "lesions": (r"busi|breast", r"/(benign|malignant)/"),
}  # fmt: skip


class Found(NamedTuple):
    pools: dict[str, list[Photo]]  # as they lie: "train" alone, or with "val", "test" or both
    classes: Sequence[str]
    left_out: Counter = Counter()  # what else lies there, by its kind


def data_dir() -> Path:
    """COURSE_DATA_DIR (a relative one begins at the checkout), or the checkout's data/; it need not exist.

    Raises NotADirectoryError where it is a file.
    """
    text = os.environ.get("COURSE_DATA_DIR")
    path = cache.CHECKOUT / os.path.expanduser(text or "data")
    if os.path.isfile(path):
        raise NotADirectoryError(f"COURSE_DATA_DIR={text!r} is a file: expected the folder in which the photos lie.")
    return path


def find(name: str) -> Found | None:
    """The photos of a data set, unpacked where they lie in archives; None where there are none.

    Raises ValueError where a folder is named like the data set and has something else in it, DownloadError where an
    archive cannot be unpacked.
    """
    faults = []
    for place in _places(name):
        try:
            if found := {"dogs_vs_cats": _dogs_vs_cats, "pets": _pets, "lesions": _lesions}[name](place):
                return found
        except ValueError as error:
            if place != data_dir() and _is_named_like(place, name):
                faults.append(error)
    if packed := archives(name):
        for file, target in packed.items():
            print(f"Unpacking {file}, once, to {target}.")
            unpack([file], target)
        return find(name)  # there may be an archive in the archive
    if faults:
        raise faults[0]
    return None


def _places(name: str) -> list[Path]:
    """COURSE_DATA_DIR, what is attached on Kaggle, and the folders in them that are named like a data set."""
    roots = [data_dir()]
    if roots[0].is_dir() and not cache.writable(roots[0]):
        roots.append(cache.scratch("data"))  # where fetched and unpacked photos go then
    for pattern in ("*", "competitions/*", "datasets/*/*"):
        roots += sorted(KAGGLE_INPUT.glob(pattern))
    places = []
    for root in filter(os.path.isdir, roots):
        inside = (*root.glob("*"), *root.glob("*/*"))  # archive.zip is what Kaggle's button gives
        named = sorted(path for path in inside if _is_named_like(path, name) or path.name.startswith("archive"))
        places += [root, *filter(os.path.isdir, named)]
    return sorted(dict.fromkeys(places), key=lambda path: path.name != "cats_and_dogs_filtered")  # that one first


def _is_named_like(path: Path, name: str) -> bool:
    return bool(re.search(_LOOKS[name][0], f"/{path.name}", re.I))


def archives(name: str) -> dict[Path, Path]:
    """Archives of a data set that are not unpacked yet, each with the folder that it becomes."""
    found = {}
    for place in _places(name):
        for file in sorted(path for path in place.glob("*") if path.suffix.lower() in (".zip", ".tar", ".gz", ".tgz")):
            home = place if cache.writable(place) else cache.scratch("data") / place.name
            target = home / re.sub(r"(\.tar)?\.\w+$", "", file.name)
            if not target.exists() and _holds(file, name):
                found[file] = target
    return found


def _holds(file: Path, name: str) -> bool:
    if not zipfile.is_zipfile(file):  # a tar, or cut short: its name must do
        return _is_named_like(file, name) or _is_named_like(file.parent, name)
    with zipfile.ZipFile(file) as archive:
        return any(re.search(_LOOKS[name][1], f"/{file.name}/{member}", re.I) for member in archive.namelist())


# ---- the data sets --------------------------------------------------------------------------------------------------


def _dogs_vs_cats(place: Path) -> Found:
    """Label 0 cat, 1 dog: folders of that name, in splits or not, or Kaggle's train/cat.0.jpg."""
    for folder in filter(os.path.isdir, (place / "train", place / "train/train")):
        files = [file for file in folder.iterdir() if file.name[:3] in _CATS and _is_picture(file)]
        if {file.name[:3] for file in files} == set(_CATS):
            return Found({"train": [Photo(file, _CATS.index(file.name[:3])) for file in files]}, _CATS)
    return in_folders(place, {"cat": "cat", "cats": "cat", "dog": "dog", "dogs": "dog"})


def _lesions(place: Path) -> Found:
    """BUSI: label 0 benign, 1 malignant; masks are NAME_mask.png, NAME_mask_1.png and so on."""
    found = in_folders(place, dict(zip(_LESIONS, _LESIONS, strict=True)))
    for split, photos in found.pools.items():
        masks: dict[Path, tuple[Path, ...]] = {}
        for file in (photo.file for photo in photos if "_mask" in photo.file.stem):
            owner = file.with_name(file.name.split("_mask")[0] + file.suffix)
            masks[owner] = (*masks.get(owner, ()), file)
        found.pools[split] = [
            photo._replace(masks=masks.get(photo.file, (photo.file.with_name(f"{photo.file.stem}_mask.png"),)))
            for photo in photos if "_mask" not in photo.file.stem
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
        for line in file.read_text(encoding="utf-8-sig", errors="replace").splitlines():
            if line.strip() and not line.startswith("#"):
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


# ---- folders of classes ---------------------------------------------------------------------------------------------


def in_folders(path: Path, wanted: dict[str, str] | None = None) -> Found:
    """Photos in ImageFolder layout, in folders for training, validation and testing or not.

    wanted: names of folders and the classes that they are; None = all, under their own names.
    Raises what `datasets.folder` says.
    """
    if not os.path.isdir(path):
        if os.path.isfile(path):
            raise NotADirectoryError(f"{path} is a file: expected a folder (unpack an archive first).")
        raise FileNotFoundError(f"{path} does not exist: expected a folder with a sub-folder for each class.")
    splits, pools, left_out = _splits(path), {}, Counter()
    folders = {split: _subfolders(folder) for split, folder in splits.items()}
    if wanted:
        folders = {split: {wanted[name.lower()]: folder for name, folder in inner.items() if name.lower() in wanted}
                   for split, inner in folders.items()}  # fmt: skip
    classes = list(dict.fromkeys(wanted.values() if wanted else folders["train"]))
    if len(classes) < 2:
        found = f"only the class {classes[0]!r}" if classes else "no sub-folders"
        num = sum(map(_is_picture, _files(path)))
        raise ValueError(f"{splits['train']} has {found}, and {num} pictures ({', '.join(SUFFIXES)}) lie there: "
                         "expected at least two sub-folders with pictures, such as cat/ and dog/.")  # fmt: skip
    for split, inner in folders.items():
        if unlike := sorted(set(classes) ^ set(inner)):
            raise ValueError(f"{splits[split]} has not the folders for {', '.join(classes)}: look at {unlike[0]!r}.")
        pools[split] = []
        for label, folder in enumerate(inner[name] for name in classes):
            others = Counter(_kind(file) for file in _files(folder) if not _is_picture(file))
            photos = [Photo(file, label) for file in _files(folder) if _is_picture(file)]
            if not photos:
                there = listed(others) or "nothing"
                raise ValueError(f"the class {classes[label]!r} has no pictures ({', '.join(SUFFIXES)}) in {folder}, "
                                 f"but {there}: convert what is there, or remove the folder.")  # fmt: skip
            pools[split] += photos
            left_out += others
    if not wanted:
        taken = {folder for inner in folders.values() for folder in inner.values()}
        left_out.update(_kind(file, path) for file in _files(path, taken))
        if len(splits) == 1:
            _doubt(path, folders["train"])
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
    name = re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower()
    is_named = r"(?<![a-z])({})( ?(set|data|images?|photos|pictures))?(?![a-z])".format
    return next((split for split, words in _SPLITS.items() if re.search(is_named(words), name)), "")


def _unwrapped(path: Path) -> Path:
    """The folder in a folder, in a folder: Kaggle's archives hold theirs once more (train/train/cat)."""
    for _ in range(3):
        inner = list(_subfolders(path).values())
        if len(inner) == 1 and _subfolders(inner[0]):
            path = inner[0]
    return path


def _doubt(path: Path, classes: dict[str, Path]) -> None:
    """Say what may be a misunderstanding."""
    inside = [frozenset(_subfolders(folder)) for folder in classes.values()]
    root = next(iter(classes.values())).parent
    if any(map(_split_of, classes)) or len(set(inside)) == 1 and len(inside[0]) > 1:
        print(f"{', '.join(classes)} are taken for the classes; if they are for training and testing, name them train, "
              "val and test, with a folder for each class in each.")  # fmt: skip
    elif root != path and not _split_of(root.name):
        print(f"The folders in {root} are taken for the classes.")


# ---- files ----------------------------------------------------------------------------------------------------------


def _subfolders(folder: Path) -> dict[str, Path]:
    """The folders in a folder by their names, in whichever way these are composed (NFC), without those of systems."""
    names = sorted(name for name in os.listdir(folder) if not name.startswith(_OF_SYSTEMS))
    return {unicodedata.normalize("NFC", name): folder / name for name in names if os.path.isdir(folder / name)}


def _files(folder: Path, but: set[Path] = frozenset()) -> Iterator[Path]:
    """All files in a folder and the folders in it, sorted, but for those of systems and in `but`.

    Links are followed unless they lead back; a folder that may not be read stands for itself.
    """
    seen, closed = set(), []
    walk = os.walk(folder, onerror=lambda error: closed.append(Path(error.filename)), followlinks=True)
    for here, folders, files in walk:
        real = Path(here).resolve()
        if real in seen or Path(here) in but:
            folders.clear()
            continue
        seen |= {real, *real.parents}
        folders[:] = sorted(name for name in folders if not name.startswith(_OF_SYSTEMS))
        yield from (Path(here, name) for name in sorted(files) if not name.startswith("."))
    yield from closed


def _is_picture(file: Path) -> bool:
    return file.name.lower().endswith(SUFFIXES)


def _kind(file: Path, root: Path | None = None) -> str:
    """What is left out, in words that go with a number."""
    if root and _is_picture(file):
        first, *rest = file.relative_to(root).parts
        return f"pictures in {first}/, which is no class" if rest else "pictures beside the classes' folders"
    return "folders that may not be read" if file.is_dir() else file.suffix.lower() or "files without a suffix"


def listed(left_out: Counter) -> str:
    return ", ".join(f"{num:,} {kind}" for kind, num in sorted(left_out.items()))
