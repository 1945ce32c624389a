"""Fetches and unpacks archives: one notebook at a time, and a folder is whole or not there."""

import os
import socket
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from torchvision.datasets.utils import download_and_extract_archive, extract_archive

from utils.device import platform
from utils.files import fill_whole

tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)  # refuses what leads out, as Python 3.14 does


_FILTERED = ("https://storage.googleapis.com/mledu-datasets/", "https://download.mlcc.google.com/mledu-datasets/")
_PETS = ("https://www.robots.ox.ac.uk/~vgg/data/pets/data/", "https://thor.robots.ox.ac.uk/datasets/pets/")
_PETS_MD5 = {
    "annotations.tar.gz": "95a8c909bbe2e81eed6a22bccdf3f68f",
    "images.tar.gz": "5c4f3ee8e5d25df40f4fd59a7f44e54c",
}
ARCHIVES = {  # the folder that they become, MB, each file with its MD5 (where one is published), mirrors
    "dogs_vs_cats": ("cats_and_dogs_filtered", 69, {"cats_and_dogs_filtered.zip": None}, _FILTERED),
    "pets": ("oxford-iiit-pet", 811, _PETS_MD5, _PETS),
}
STALL_SECONDS = 30  # without one byte, when connecting and later


@contextmanager
def patience() -> Iterator[None]:
    """A server that stalls is given up: torch and torchvision set no limit."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def fetch(name: str, root: Path) -> None:
    """The archives of a data set become its folder in `root`, after a line that says so. Raises OSError."""
    if not os.path.isdir(root.parent):  # nothing is made where a drive may be mounted later
        raise OSError(f"{root.parent} does not exist, so {root} cannot be made: mount the drive or make it.")
    folder, size, files, sites = ARCHIVES[name]
    print(f"Fetching photos for {name}, once: {size} MB, {size / 600:.1f} minutes at 10 MB/s, to {root}.")
    fill_whole(root / folder, lambda work: [_fetch(file, md5, sites, work) for file, md5 in files.items()])


def unpack(file: Path, folder: Path) -> None:
    """An archive that is on disk becomes a folder, after a line that says so. Raises OSError."""
    print(f"Unpacking {file}, once, to {folder}.")
    fill_whole(folder, lambda work: extract_archive(file, work))


def _fetch(file: str, md5: str | None, sites: tuple[str, ...], work: Path) -> None:
    failures = []
    for site in sites:
        try:
            (work / file).unlink(missing_ok=True)  # what another site gave
            with patience():
                return download_and_extract_archive(site + file, work, md5=md5, remove_finished=True)
        except Exception as error:  # a refusal, a stall, a login page, another checksum, a full disk
            reason, *_ = str(error).split("\n")
            failures.append(f"{urlsplit(site).netloc}: {reason}")
    advice = f"Look at the network and try again, or put the file into {work.parent} yourself."
    if platform() == "kaggle":
        advice = "On Kaggle, switch the Internet on (Settings > Internet), or attach the data set to the notebook."
    raise OSError(f"{file} could not be fetched ({'; '.join(failures)}). {advice} COURSE_DATA=critters does without.")
