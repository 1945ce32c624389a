"""Fetches an archive: checked, one notebook at a time, and unpacked whole or not at all."""

import hashlib
import http.client
import os
import shutil
import socket
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from filelock import FileLock, Timeout
from tqdm.auto import tqdm


class Archive(NamedTuple):
    urls: tuple[str, ...]  # mirrors, in the order in which they are tried
    num_bytes: int
    md5: str  # "" where none is published: then every file is held to the checksum that the zip has of it
    folder: str  # what it becomes, below COURSE_DATA_DIR
    num_pictures: int  # that lie in its folder of that name, at the least


_PETS = ("https://www.robots.ox.ac.uk/~vgg/data/pets/data/", "https://thor.robots.ox.ac.uk/datasets/pets/")
_FILTERED = "mledu-datasets/cats_and_dogs_filtered.zip"
ARCHIVES = {
    "dogs_vs_cats": (
        Archive((f"https://storage.googleapis.com/{_FILTERED}", f"https://download.mlcc.google.com/{_FILTERED}"),
                68_606_236, "", "cats_and_dogs_filtered", 3_000),
    ),
    "pets": (
        Archive(tuple(f"{site}annotations.tar.gz" for site in _PETS),
                19_173_078, "95a8c909bbe2e81eed6a22bccdf3f68f", "oxford-iiit-pet/annotations", 7_349),
        Archive(tuple(f"{site}images.tar.gz" for site in _PETS),
                791_918_971, "5c4f3ee8e5d25df40f4fd59a7f44e54c", "oxford-iiit-pet/images", 7_349),
    ),
}  # fmt: skip

STALL_SECONDS = 30  # without one byte, when connecting and later
SLOWEST = 10_000  # bytes a second over such a time: with less the photos would take hours
ROUNDS, PAUSE_SECONDS = 2, 2  # through all mirrors, and between the rounds
BOMB = 10  # an archive of photos unpacks to little more than itself, never to so many times its size
_TOO_LARGE = f"would unpack to more than {BOMB} times its size"
_CHUNK = 1 << 20


class DownloadError(RuntimeError):
    """Something could not be fetched; the message says what happened and what to do."""


class _Failed(Exception):
    """One attempt at one address failed; another may not."""


def platform() -> str:
    """ "kaggle", "colab" or "other". Kaggle first: it sets Colab's variables too."""
    if os.environ.get("KAGGLE_KERNEL_RUN_TYPE"):
        return "kaggle"
    ipython = sys.modules.get("IPython")  # a notebook has imported it
    return "colab" if ipython and "google.colab" in type(ipython.get_ipython()).__module__ else "other"


def fetch(archive: Archive, root: Path) -> None:
    """Make sure that the folder `root / archive.folder` is there and complete: fetch and unpack it where it is not.

    The archive itself is used where it lies beside that folder already and is whole (for a hall without network).
    Raises DownloadError.
    """
    target = root / archive.folder
    file = target.parent / Path(urlsplit(archive.urls[0]).path).name
    lock = FileLock(target.parent / f".{file.name}.lock")  # the system frees it when its holder ends, however that ends
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0.2)
        except Timeout:
            print(f"Another notebook is fetching {file.name}: waiting for it.")
            lock.acquire()
        if not target.is_dir():  # it gets its name only when it is complete
            if not file.is_file() or _fault(file, archive):
                _download(archive, file)
            _unpack(archive, file, target)
            file.unlink()
    except OSError as error:
        raise DownloadError(f"{file.name} could not be written to {target.parent} ({error.strerror or error}): make room "
                            "there, or name another folder with COURSE_DATA_DIR.") from error  # fmt: skip
    finally:
        lock.release()


def _download(archive: Archive, file: Path) -> None:
    free, needed = shutil.disk_usage(file.parent).free, 2.2 * archive.num_bytes  # archive and files, with some air
    if free < needed:
        raise DownloadError(f"{file.parent} has {free / 1e6:,.0f} MB free, {needed / 1e6:,.0f} MB are needed: "
                            "make room, or name another folder with COURSE_DATA_DIR.")  # fmt: skip
    part, failures = file.with_name(f"{file.name}.part"), []
    try:
        for attempt, url in enumerate(archive.urls * ROUNDS):
            if attempt == len(archive.urls):
                time.sleep(PAUSE_SECONDS)
            try:
                with (
                    open(part, "wb") as out,
                    tqdm(total=archive.num_bytes, unit="B", unit_scale=True, desc=file.name, leave=False) as bar,
                ):
                    for chunk in _chunks(url, archive.num_bytes):
                        out.write(chunk)
                        bar.update(len(chunk))
                        if out.tell() > archive.num_bytes:  # who tells no length may never end
                            break
                if fault := _fault(part, archive):
                    raise _Failed(fault)
                part.replace(file)
                return
            except _Failed as failure:
                failures.append(f"{urlsplit(url).hostname}: {failure}")
    finally:
        part.unlink(missing_ok=True)
    advice = f"Look at the network and try again, or put the file into {file.parent} yourself."
    if platform() == "kaggle":
        advice = ("On Kaggle, switch the Internet on (Settings > Internet; the phone number must be verified first), "
                  "or attach the data set to the notebook.")  # fmt: skip
    reasons = "; ".join(dict.fromkeys(failures))
    raise DownloadError(f"{file.name} could not be fetched ({reasons}). {advice} COURSE_DATA=critters does without.")


def _chunks(url: str, num_bytes: int) -> Iterator[bytes]:
    """The bytes of a file on the net. Raises _Failed; errors of whoever uses the bytes are not caught here."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"{url}: expected an address that begins with https:// or http://.")
    web = urllib.request.OpenerDirector()  # the usual one follows a redirection to ftp://, too
    for handler in ("ProxyHandler", "HTTPHandler", "HTTPSHandler", "HTTPRedirectHandler", "HTTPDefaultErrorHandler",
                    "HTTPErrorProcessor", "UnknownHandler"):  # fmt: skip
        web.add_handler(getattr(urllib.request, handler)())
    request = urllib.request.Request(url, headers={"User-Agent": "deep-learning-for-images"})
    try:
        with web.open(request, timeout=STALL_SECONDS) as response:
            size = int(response.headers.get("Content-Length", num_bytes))
            start, came = time.monotonic(), 0
            while size == num_bytes and (chunk := response.read1(_CHUNK)):
                yield chunk
                came += len(chunk)
                if (seconds := time.monotonic() - start) > STALL_SECONDS:
                    if came < SLOWEST * seconds:
                        raise _Failed(f"only {came:,} bytes came in {seconds:.0f} seconds")
                    start, came = time.monotonic(), 0
            if size != num_bytes:
                raise _Failed(f"it offers {size:,} bytes instead of {num_bytes:,} (a login page? another version?)")
    except urllib.error.HTTPError as error:
        first_line = str(error.reason).partition("\n")[0]  # redirections in a circle give more
        raise _Failed(f"it answers {error.code} {first_line}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)  # urllib wraps what goes wrong while connecting
        if isinstance(reason, socket.gaierror):
            reason = "its name is not found, so there seems to be no network"
        elif isinstance(reason, TimeoutError):
            reason = f"nothing came for {STALL_SECONDS} seconds"
        raise _Failed(str(reason)) from error


def _fault(file: Path, archive: Archive) -> str:
    """What is wrong with a fetched file: "" where it is as it should be."""
    if (size := file.stat().st_size) != archive.num_bytes:
        return f"{size:,} bytes came instead of {archive.num_bytes:,}"
    if archive.md5:
        with open(file, "rb") as opened:
            digest = hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False))
        return "" if digest.hexdigest() == archive.md5 else "what came has the wrong checksum"
    try:
        with zipfile.ZipFile(file) as zipped:
            if sum(info.file_size for info in zipped.infolist()) > BOMB * archive.num_bytes:
                return _TOO_LARGE
            return f"{damaged} in it is damaged" if (damaged := zipped.testzip()) else ""
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError):
        return "what came is no whole zip archive"


def _unpack(archive: Archive, file: Path, target: Path) -> None:
    """Unpack to a temporary folder beside the target, look, and only then give it its name."""
    unpacked = target.with_name(f".{target.name}.unpack")
    shutil.rmtree(unpacked, ignore_errors=True)  # of a run that was stopped here
    unpacked.mkdir()
    room = BOMB * archive.num_bytes

    def checked(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
        nonlocal room
        if (room := room - member.size) < 0:
            raise DownloadError(f"{file} {_TOO_LARGE}: not unpacked. Remove it.")
        return tarfile.data_filter(member, folder)  # refuses paths and links that lead out, devices and the like

    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as zipped:
                zipped.extractall(unpacked)  # makes no links, and leaves out what of a path would lead out
        else:
            with tarfile.open(file) as tar:
                tar.extractall(unpacked, filter=checked)
        inside = unpacked / target.name
        found = sum(path.suffix.lower() in (".jpg", ".png") for path in inside.rglob("[!.]*"))
        if found < archive.num_pictures:
            raise DownloadError(f"{file} has {found:,} pictures in {target.name}/ instead of {archive.num_pictures:,}: "
                                "not used. Remove it to have it fetched again.")  # fmt: skip
        inside.replace(target)
    except tarfile.FilterError as error:
        raise DownloadError(f"{file} holds a path or link that leads out of it ({error}): not unpacked.") from error
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
