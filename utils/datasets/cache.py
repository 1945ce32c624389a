"""One file for each data set: pictures are decoded or drawn once, and mapped into memory from then on."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

from utils.files import is_whole, save_whole

_KEPT = 20
CHECKOUT = Path(__file__).resolve().parents[2]


def cached(name: str, key: object, make: Callable[[], dict], sources: Path) -> dict:
    """What `make()` gives (a dict of tensors), from `data/cache/NAME-KEY.pt` where that is there and whole.

    key: all that the result depends on; its `repr` must say it. sources: the Python file or package that makes the
    result, so that it is made again after a change of the code.
    """
    code = sorted(sources.glob("*.py")) if sources.is_dir() else [sources]
    digest = hashlib.sha256(repr(key).encode() + b"".join(path.read_bytes() for path in code)).hexdigest()[:16]
    path = _folder() / f"{name}-{digest}.pt"
    if is_whole(path):
        with suppress(OSError):  # another user's file
            os.utime(path)  # used last now
    else:
        if path.exists():
            print(f"{path} is damaged and is made again.")
        data = make()
        try:
            save_whole(data, path)
        except (OSError, RuntimeError) as error:  # torch makes a RuntimeError of a full disk
            reason = str(error).splitlines()[0]
            print(f"{path} could not be written ({reason}): make room, or all is made again next time.")
            return data
        _forget_oldest(name, path.parent)
    return torch.load(path, mmap=True, weights_only=True)


def _forget_oldest(name: str, folder: Path) -> None:
    """Of each name the files used last are kept: a folder that grows, or code that changes, leaves one each time."""
    with suppress(FileNotFoundError):  # another notebook was quicker
        for path in sorted(folder.glob(f"{name}-*.pt"), key=os.path.getmtime)[:-_KEPT]:
            with suppress(OSError):  # Windows keeps what another notebook has mapped
                path.unlink()


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
