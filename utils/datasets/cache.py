"""One file for each data set: pictures are decoded or drawn once, and mapped into memory from then on."""

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

CHECKOUT = Path(__file__).resolve().parents[2]


def cached(name: str, key: object, make: Callable[[], dict], sources: Path) -> dict:
    """What `make()` gives (a dict of tensors), from `data/cache/NAME-KEY.pt` where that is there and whole.

    key: all that the result depends on; its `repr` must say it. sources: the Python file or package that makes the
    result, so that it is made again after a change of the code.
    """
    code = sorted(sources.glob("*.py")) if sources.is_dir() else [sources]
    digest = hashlib.sha256(repr(key).encode() + b"".join(path.read_bytes() for path in code)).hexdigest()[:16]
    path = _folder() / f"{name}-{digest}.pt"
    whole = _whole(path)
    if path.exists() and not whole:
        print(f"{path} is damaged and is made again.")
    if not whole:
        data = make()
        try:
            _write(data, path)
        except (OSError, RuntimeError) as error:  # torch makes a RuntimeError of a full disk
            reason = str(error).splitlines()[0]
            print(f"{path} could not be written ({reason}): make room, or all is made again next time.")
            return data
    return torch.load(path, mmap=True, weights_only=True)


def writable(folder: Path) -> bool:
    """Whether files can be made there; false on read-only mounts such as Kaggle's, for root too."""
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def scratch(name: str) -> Path:
    """A folder of ours in the system's temporary one, for a checkout that cannot be written to."""
    user = os.getuid() if hasattr(os, "getuid") else "me"  # a shared computer has one for each of its users
    folder = Path(tempfile.gettempdir()) / f"course-{name}-{user}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _folder() -> Path:
    # Never in COURSE_DATA_DIR: that may be shared and read-only, and what is ours should not lie among the photos.
    if not writable(CHECKOUT / "data"):
        return scratch("cache")
    (CHECKOUT / "data/cache").mkdir(exist_ok=True)
    return CHECKOUT / "data/cache"


def _whole(path: Path) -> bool:
    """torch's files are zip archives: their own checksums tell whether a crash or a full disk has damaged one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (FileNotFoundError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError):
        return False  # not there, or one of the ways in which nonsense fails


def _write(data: dict, path: Path) -> None:
    part = path.with_suffix(f".{os.getpid()}.tmp")  # another notebook, or one stopped here, never sees half a file
    try:
        torch.save(data, part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
