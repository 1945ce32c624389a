"""Fetches and unpacks archives: checked, one notebook at a time, and a folder is whole or not there."""

import http.client
import os
import shutil
import socket
import sys
import tarfile
import time
import urllib.error
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout
from torch.hub import download_url_to_file
from torchvision.datasets.utils import check_integrity
from tqdm.auto import tqdm


class Archive(NamedTuple):
    urls: tuple[str, ...]  # mirrors, in the order in which they are tried
    megabytes: int
    md5: str | None = None  # where none is published every file is held to the checksum that the zip has of it


_PETS = ("https://www.robots.ox.ac.uk/~vgg/data/pets/data/", "https://thor.robots.ox.ac.uk/datasets/pets/")
_FILTERED = "mledu-datasets/cats_and_dogs_filtered.zip"
ARCHIVES = {  # the folder that each data set becomes, and what it is made of
    "dogs_vs_cats": ("cats_and_dogs_filtered", (
        Archive((f"https://storage.googleapis.com/{_FILTERED}", f"https://download.mlcc.google.com/{_FILTERED}"), 69),
    )),
    "pets": ("oxford-iiit-pet", (
        Archive(tuple(f"{site}annotations.tar.gz" for site in _PETS), 19, "95a8c909bbe2e81eed6a22bccdf3f68f"),
        Archive(tuple(f"{site}images.tar.gz" for site in _PETS), 792, "5c4f3ee8e5d25df40f4fd59a7f44e54c"),
    )),
}  # fmt: skip
STALL_SECONDS = 30  # without one byte, when connecting and later
ROUNDS, PAUSE_SECONDS = 2, 2  # through all mirrors, and between the rounds

_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError)


class DownloadError(RuntimeError):
    """Something could not be fetched or unpacked; the message says what happened and what to do."""


def platform() -> str:
    """ "kaggle", "colab" or "other". Kaggle first: it sets Colab's variables too."""
    if os.environ.get("KAGGLE_KERNEL_RUN_TYPE"):
        return "kaggle"
    ipython = sys.modules.get("IPython")  # a notebook has imported it
    return "colab" if ipython and "google.colab" in type(ipython.get_ipython()).__module__ else "other"


@contextmanager
def patience() -> Iterator[None]:
    """A server that stalls is given up: torch.hub sets no limit."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def fetch(name: str, root: Path) -> None:
    """The archives of a data set become its folder in `root`, after a line that says so. Raises DownloadError."""
    if not os.path.isdir(root.parent):  # nothing is made where a drive may be mounted later
        raise DownloadError(f"{root.parent} does not exist, so {root} cannot be made: mount the drive or make it.")
    folder, archives = ARCHIVES[name]
    size = sum(archive.megabytes for archive in archives)
    print(f"Fetching photos for {name}, once: {size} MB, {size / 600:.1f} minutes at 10 MB/s, to {root}.")
    unpack(archives, root / folder)


def unpack(archives: Sequence[Archive | Path], target: Path) -> None:
    """Make `target` a whole folder with what is in some archives, fetched where need be. Raises DownloadError."""
    lock = FileLock(target.with_name(f".{target.name}.lock"))  # the system frees it however its holder ends
    work = target.with_name(f".{target.name}.unpack")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0.2)
        except Timeout:
            print(f"Another notebook is making {target}: waiting for it.")
            lock.acquire()
        if target.is_dir():  # it gets its name only when it is whole
            return
        shutil.rmtree(work, ignore_errors=True)  # of a run that was stopped here
        work.mkdir()
        for archive in archives:
            _fetch(archive, work) if isinstance(archive, Archive) else _extract(archive, work)
        inside = [path for path in work.iterdir() if not path.name.startswith((".", "__MACOSX"))]
        (inside[0] if len(inside) == 1 and inside[0].is_dir() else work).replace(target)
    except _DAMAGED as error:
        raise DownloadError(f"{archive} cannot be unpacked ({error}): copy it anew, or remove it.") from error
    except OSError as error:
        raise DownloadError(f"{target} could not be written ({error.strerror or error}): make room there, or name "
                            "another folder with COURSE_DATA_DIR.") from error  # fmt: skip
    finally:
        if lock.is_locked:
            shutil.rmtree(work, ignore_errors=True)
        lock.release()


def _extract(file: Path, folder: Path) -> list[str]:
    """Names of files that are damaged in an archive; where their pictures are read, they will be left out."""
    damaged = []
    if not zipfile.is_zipfile(file):
        with tarfile.open(file) if tarfile.is_tarfile(file) else nullcontext() as tar:
            if not tar or not tar.next():  # no tar, or nothing but zeros
                raise tarfile.ReadError("it is no whole archive (a login page? another version?)")
            tar.extractall(folder, filter="data")  # refuses paths and links that lead out, devices and the like
        return damaged
    with zipfile.ZipFile(file) as archive:
        for member in tqdm(archive.namelist(), desc=f"unpacking {file.name}", unit="file", delay=2):
            try:
                archive.extract(member, folder)  # makes no links, and leaves out what of a path would lead out
            except (*_DAMAGED, NotImplementedError, RuntimeError):  # of another kind, or locked
                damaged.append(member)
    return damaged


def _fetch(archive: Archive, folder: Path) -> None:
    file, failures = folder / archive.urls[0].rpartition("/")[2], {}
    for attempt, url in enumerate(archive.urls * ROUNDS):
        time.sleep(PAUSE_SECONDS if attempt == len(archive.urls) else 0)
        try:
            with patience():
                download_url_to_file(url, str(file))
            if archive.md5 and not check_integrity(file, archive.md5):
                raise zipfile.BadZipFile("it has the wrong checksum")
            if damaged := _extract(file, folder):
                raise zipfile.BadZipFile(f"{damaged[0]} in it is damaged")
            return file.unlink()
        except (*_DAMAGED, urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            failures[f"{url.split('/')[2]}: {str(error).splitlines()[0]}"] = None  # the same is not said twice
    advice = f"Look at the network and try again, or put the file into {folder.parent} yourself."
    if platform() == "kaggle":
        advice = ("On Kaggle, switch the Internet on (Settings > Internet; the phone number must be verified first), "
                  "or attach the data set to the notebook.")  # fmt: skip
    raise DownloadError(f"{file.name} could not be fetched ({'; '.join(failures)}). {advice} "
                        "COURSE_DATA=critters does without.")  # fmt: skip
