"""Files and folders that are whole or not there: nobody takes for one what a killed notebook or a full disk leaves."""

import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
from filelock import FileLock

__all__ = ["fill_whole", "is_whole", "load_whole", "save_whole"]


def save_whole(data: object, path: Path) -> None:
    """`torch.save` to a temporary name beside it, then rename: the file is the old or the new one, never half of one.

    Halves left by killed processes are tidied up. Raises what torch.save does (OSError, RuntimeError on a full disk).
    """
    for left in path.parent.glob(f"{path.name}.*.part"):
        process = left.suffixes[-2][1:]
        if process.isdigit() and not psutil.pid_exists(int(process)):
            left.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")  # a name of its own: two notebooks may write at once
    try:
        with open(part, "wb") as file:
            torch.save(data, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def is_whole(path: Path) -> bool:
    """Whether a file of torch.save is there and undamaged. It is a zip; torch.load does not look at its checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (FileNotFoundError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError):
        return False  # not there, or one of the ways in which nonsense fails


def load_whole(path: Path) -> dict:
    """What `save_whole` wrote, with its tensors on the CPU. Raises ValueError where the file is damaged or holds
    anything but a dict of tensors, numbers and strings (what else it holds is not made: no code of a stranger runs)."""
    try:
        data = torch.load(path, map_location="cpu", weights_only=True) if is_whole(path) else None
    except (pickle.UnpicklingError, RuntimeError):  # it holds objects; another kind of zip
        data = None
    if not isinstance(data, dict):
        message = "is damaged, or no checkpoint of this course: it was not used. Delete it, then train again."
        raise ValueError(f"{path} {message}")
    return data


def fill_whole(folder: Path, fill: Callable[[Path], object]) -> None:
    """Make a folder of what `fill` puts into the one that it is given; where that is one folder, of what is in that.

    Of several notebooks one does it, the others wait. Raises OSError with the reason, whatever `fill` ends in.
    """
    work = folder.with_name(f".{folder.name}.unpack")
    try:
        folder.parent.mkdir(exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):  # the system frees it however its holder ends
            if folder.is_dir():  # another notebook was quicker
                return
            shutil.rmtree(work, ignore_errors=True)  # of a run that was killed here
            work.mkdir()
            try:
                fill(work)
                inside = [path for path in work.iterdir() if not path.name.startswith((".", "__MACOSX"))]
                (inside[0] if len(inside) == 1 and inside[0].is_dir() else work).replace(folder)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    except Exception as error:  # a full disk, a folder that is read-only, whatever a damaged archive ends in
        raise OSError(f"{folder} could not be made: {error}") from error
