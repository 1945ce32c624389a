"""One file for each data set: pictures are decoded or drawn once, and mapped into memory from then on."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import PIL
import torch

from utils.files import is_whole, save_whole

CHECKOUT = Path(__file__).resolve().parents[2]
CODE = (Path(__file__).parent, Path(__file__).parents[1] / "critters")  # what is cached depends on it
MAX_GB = 5  # of all files together; `datasets.cache.MAX_GB = 20` allows more


def cached(name: str, key: object, make: Callable[[], object]) -> object:
    """What `make()` gives (tensors and texts in dicts and lists), from `data/cache/NAME-KEY.pt` where that is whole.

    key: all that the result depends on, but for the code and the version of Pillow; its `repr` must say it. Where the
    folder grows over MAX_GB, the files that were used last stay.
    """
    code = [file.read_bytes() for folder in CODE for file in sorted(folder.glob("*.py"))]
    digest = hashlib.sha256(repr((key, PIL.__version__)).encode(errors="surrogateescape") + b"".join(code)).hexdigest()
    path = _folder() / f"{name}-{digest[:16]}.pt"
    if is_whole(path):
        with suppress(OSError):  # another user's file
            os.utime(path)  # used last now
    else:
        made = make()
        try:
            save_whole(made, path)
        except (OSError, RuntimeError) as error:  # torch makes a RuntimeError of a full disk
            reason, *_ = str(error).splitlines()
            print(f"{path} could not be written ({reason}): make room, or all is made again next time.")
            return made
        _make_room(path)
    return torch.load(path, mmap=True, weights_only=True)


def _folder() -> Path:
    """In the checkout, and where that is read-only in the temporary folder; COURSE_DATA_DIR may be shared."""
    data = CHECKOUT / "data"
    return data / "cache" if os.access(data, os.W_OK) else Path(tempfile.gettempdir()) / "course-cache"


def _make_room(newest: Path) -> None:
    room = MAX_GB * 1e9
    for path in sorted(newest.parent.iterdir(), key=os.path.getmtime, reverse=True):
        with suppress(OSError):  # another notebook was quicker; Windows keeps what another has mapped
            room -= path.stat().st_size
            if room < 0 and path != newest:
                path.unlink()
