"""Downloads against a server on this machine that misbehaves as asked."""

import errno
import hashlib
import io
import itertools
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from utils import datasets
from utils.datasets import download, photos
from utils.datasets.download import Archive, DownloadError, fetch


class Site(ThreadingHTTPServer):
    """Serves `files`; `faults` says, for each path, what goes wrong with the first requests, in order."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[str]] = defaultdict(list)
        self.requests: list[str] = []
        self.seconds = 0.0

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        site: Site = self.server
        site.requests.append(self.path)
        fault = site.faults[self.path].pop(0) if site.faults[self.path] else ""
        body = site.files.get(self.path)
        time.sleep(site.seconds)
        if fault.isdigit() or body is None:
            return self.send_error(int(fault or 404))
        if fault in ("ftp", "circle"):
            self.send_response(302)
            self.send_header("Location", "ftp://127.0.0.1/a.zip" if fault == "ftp" else self.path)
            return self.end_headers()
        if fault == "login page":
            body = b"<html>Please log in</html>"
        if fault == "garbage":
            body = bytes(len(body))
        if fault == "damaged":
            body = body.replace(b"JFIF", b"JFIX", 1)
        self.send_response(200)
        if fault != "endless":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for piece in {"slow": ([byte] for byte in body), "endless": itertools.repeat(body)}.get(fault, ()):
            try:
                self.wfile.write(bytes(piece))
            except OSError:  # who fetches has lost patience, or has had enough
                return
            time.sleep(0.02 if fault == "slow" else 0)
        self.wfile.write(body[: len(body) // 2] if fault in ("truncated", "stalled") else body)
        if fault == "stalled":
            time.sleep(1)

    def log_message(self, *_):
        pass


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0)
    with Site() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def jpeg(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((40, 40), 50 + number).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


def zipped(extra: tuple[str, ...] = (), num: int = 6, link: bool = False) -> bytes:
    """A small cats_and_dogs_filtered.zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for split in ("train", "validation"):
            for animal in ("cat", "dog"):
                for i in range(num):
                    archive.writestr(f"cats_and_dogs_filtered/{split}/{animal}s/{animal}.{i}.jpg", jpeg(i))
        for name in extra:
            archive.writestr(name, b"evil")
        if link:
            info = zipfile.ZipInfo("cats_and_dogs_filtered/link")
            info.external_attr = 0o120777 << 16
            archive.writestr(info, "/etc")
    return buffer.getvalue()


def tarred(*members: tarfile.TarInfo) -> bytes:
    """A small images.tar.gz."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for i in range(3):
            info = tarfile.TarInfo(f"images/{i}.jpg")
            content = jpeg(i)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for member in members:
            archive.addfile(member)
    return buffer.getvalue()


def offer(site: Site, content: bytes, *paths: str, num_pictures: int = 24) -> Archive:
    site.files |= dict.fromkeys(paths, content)
    return Archive(tuple(site.url(path) for path in paths), len(content), "", "cats_and_dogs_filtered", num_pictures)


def offer_tar(site: Site, content: bytes) -> Archive:
    site.files["/images.tar.gz"] = content
    return Archive((site.url("/images.tar.gz"),), len(content), hashlib.md5(content).hexdigest(), "pets/images", 3)


def names(folder: Path) -> list[str]:
    """What lies in a folder, but for lock files."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_fetches_once_and_unpacks(site, tmp_path):
    archive = offer(site, zipped(), "/a.zip")
    fetch(archive, tmp_path)
    fetch(archive, tmp_path)
    assert site.requests == ["/a.zip"]
    assert names(tmp_path) == ["cats_and_dogs_filtered"]
    assert len(photos.find_dogs_vs_cats(tmp_path)["test"]) == 12


def test_tar_with_checksum(site, tmp_path):
    fetch(offer_tar(site, tarred()), tmp_path)
    assert names(tmp_path / "pets") == ["images"] and names(tmp_path / "pets/images") == ["0.jpg", "1.jpg", "2.jpg"]


@pytest.mark.parametrize(
    "fault", ["truncated", "endless", "403", "404", "500", "garbage", "damaged", "login page", "ftp"]
)
def test_a_mirror_takes_over(site, tmp_path, fault):
    archive = offer(site, zipped(), "/a.zip", "/mirror/a.zip")
    site.faults["/a.zip"] = [fault]
    fetch(archive, tmp_path)
    assert site.requests == ["/a.zip", "/mirror/a.zip"]
    assert names(tmp_path) == ["cats_and_dogs_filtered"]


@pytest.mark.parametrize("fault, reason", [
    ("truncated", "bytes came instead of"), ("endless", "bytes came instead of"), ("403", "answers 403 Forbidden"), ("404", "answers 404 Not Found"),
    ("500", "answers 500 Internal Server Error"), ("circle", "answers 302 .* lead to an infinite loop"), ("garbage", "no whole zip"),
    ("damaged", r"cat.0.jpg in it is damaged"), ("login page", "it offers 26 bytes.*login page"), ("ftp", "unknown url type: ftp"),
])  # fmt: skip
def test_says_why_in_one_sentence_and_leaves_nothing(site, tmp_path, fault, reason):
    archive = offer(site, zipped(), "/a.zip")
    site.faults["/a.zip"] = [fault] * 40
    with pytest.raises(DownloadError, match=f"a.zip could not be fetched .127.0.0.1: .*{reason}") as caught:
        fetch(archive, tmp_path)
    assert str(caught.value).count("127.0.0.1") == 1  # the same reason is not said twice
    assert len(site.requests) == download.ROUNDS * (5 if fault == "circle" else 1) and "\n" not in str(caught.value)
    assert names(tmp_path) == []
    site.faults.clear()
    fetch(archive, tmp_path)
    assert names(tmp_path) == ["cats_and_dogs_filtered"]


def test_wrong_checksum(site, tmp_path):
    archive = offer_tar(site, tarred())
    with pytest.raises(DownloadError, match="wrong checksum"):
        fetch(archive._replace(md5="0" * 32), tmp_path)
    assert names(tmp_path / "pets") == []


def test_a_stall_is_a_failure(site, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "STALL_SECONDS", 0.2)
    archive = offer(site, zipped(), "/a.zip", "/mirror/a.zip")
    site.faults["/a.zip"] = ["stalled"]
    fetch(archive, tmp_path)
    site.faults |= {"/a.zip": ["stalled"] * 2, "/mirror/a.zip": ["stalled"] * 2}
    with pytest.raises(DownloadError, match="nothing came for 0.2 seconds"):
        fetch(archive, tmp_path / "other")


def test_a_trickle_is_a_failure(site, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "STALL_SECONDS", 0.5)
    archive = offer(site, zipped(), "/a.zip")
    site.faults["/a.zip"] = ["slow"] * 2
    with pytest.raises(DownloadError, match=r"only \d+ bytes came in \d seconds"):
        fetch(archive, tmp_path)
    fetch(archive, tmp_path)  # as quick as can be: the time-out is of the rate, not of the whole
    assert names(tmp_path) == ["cats_and_dogs_filtered"]


def test_no_network(site, tmp_path, monkeypatch):
    def unresolved(*_, **__):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    archive = offer(site, zipped(), "/a.zip")._replace(urls=("http://photos.invalid/a.zip",))
    monkeypatch.setattr(socket, "getaddrinfo", unresolved)
    with pytest.raises(DownloadError, match="seems to be no network.*put the file into .* yourself"):
        fetch(archive, tmp_path)
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    with pytest.raises(DownloadError, match="On Kaggle, switch the Internet on"):
        fetch(archive, tmp_path)


def test_nobody_listens(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        archive = Archive((f"http://127.0.0.1:{unused.getsockname()[1]}/a.zip",), 10, "", "x", 1)
        with pytest.raises(DownloadError, match="refused"):
            fetch(archive, tmp_path)


def test_only_web_addresses(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"0123456789")
    with pytest.raises(ValueError, match="expected an address that begins with https"):
        fetch(Archive((f"file://{tmp_path}/a.zip",), 10, "", "x", 1), tmp_path / "other")


def test_two_at_once_fetch_once(site, tmp_path, capsys):
    archive = offer(site, zipped(), "/a.zip")
    site.seconds = 0.6
    threads = [threading.Thread(target=fetch, args=(archive, tmp_path)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert site.requests == ["/a.zip"]
    assert names(tmp_path) == ["cats_and_dogs_filtered"]
    assert "Another notebook is fetching a.zip: waiting for it." in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_killed_half_way_while_another_notebook_waits(site, tmp_path):
    """Two processes; the first is killed in the middle of the file, the second takes over and gets all of it."""
    archive = offer(site, zipped(), "/a.zip")
    site.faults["/a.zip"] = ["slow"]
    code = (
        "import runpy, sys\n"  # the module on its own: importing torch would take seconds
        "from pathlib import Path\n"
        f"room = runpy.run_path({download.__file__!r})\n"
        f"room['fetch'](room['Archive'](*{tuple(archive)!r}), Path({str(tmp_path)!r}))\n"
    )
    first = subprocess.Popen([sys.executable, "-u", "-c", code], stderr=subprocess.DEVNULL)
    while not site.requests:
        time.sleep(0.01)
    time.sleep(0.1)
    second = subprocess.Popen(
        [sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert second.stdout.readline() == "Another notebook is fetching a.zip: waiting for it.\n"
    assert first.poll() is None
    first.kill()
    assert first.wait() == -signal.SIGKILL and second.wait() == 0
    second.stdout.close()
    assert site.requests == ["/a.zip"] * 2 and names(tmp_path) == ["cats_and_dogs_filtered"]


def test_interrupted_and_started_again(site, tmp_path, monkeypatch):
    archive = offer(site, zipped(), "/a.zip")

    def stopped(url, num_bytes):
        yield b"some bytes"
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(download, "_chunks", stopped)
        with pytest.raises(KeyboardInterrupt):
            fetch(archive, tmp_path)
    assert names(tmp_path) == []
    # ... and where the machine went off: halves of a file and of a folder are left.
    (tmp_path / "a.zip.part").write_bytes(b"half")
    (tmp_path / ".cats_and_dogs_filtered.unpack/train").mkdir(parents=True)
    fetch(archive, tmp_path)
    assert names(tmp_path) == ["cats_and_dogs_filtered"]


def test_a_full_disk(site, tmp_path, monkeypatch):
    archive = offer(site, zipped(), "/a.zip")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 1000))
        with pytest.raises(DownloadError, match="has 0 MB free.*COURSE_DATA_DIR"):
            fetch(archive, tmp_path)
    assert site.requests == []

    def fills_up(url, num_bytes):  # others write at the same time
        raise OSError(errno.ENOSPC, "No space left on device")
        yield

    sentence = "a.zip could not be written to .* .No space left on device.: make room there, or name another folder"
    with monkeypatch.context() as patch:
        patch.setattr(download, "_chunks", fills_up)
        with pytest.raises(DownloadError, match=sentence):  # and no mirror is tried in vain
            fetch(archive, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", lambda *_: next(fills_up("", 0)))  # as the pictures are unpacked
        with pytest.raises(DownloadError, match=sentence):
            fetch(archive, tmp_path)
    assert names(tmp_path) == ["a.zip"]
    fetch(archive, tmp_path)
    assert site.requests == ["/a.zip"] and names(tmp_path) == ["cats_and_dogs_filtered"]


def test_a_folder_that_cannot_be_made(site, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match="a.zip could not be written to .*file .File exists"):
        fetch(offer(site, zipped(), "/a.zip"), tmp_path / "file")
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "file/photos"))
    with pytest.raises(DownloadError, match="COURSE_DATA_DIR=.*cannot be written to"):
        datasets._download_dir()


def test_an_archive_brought_by_hand(site, tmp_path):
    archive = offer(site, zipped(), "/a.zip")
    (tmp_path / "a.zip").write_bytes(site.files["/a.zip"])
    fetch(archive, tmp_path)
    assert site.requests == [] and names(tmp_path) == ["cats_and_dogs_filtered"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other/a.zip").write_bytes(site.files["/a.zip"][:-100])  # copied in part
    fetch(archive, tmp_path / "other")
    assert site.requests == ["/a.zip"] and names(tmp_path / "other") == ["cats_and_dogs_filtered"]


@pytest.mark.parametrize("content", [
    zipped(extra=("../evil.txt",)), zipped(extra=("/tmp/evil.txt",)), zipped(extra=("a\\..\\..\\evil.txt",)),
    zipped(link=True),
])  # fmt: skip
def test_what_climbs_out_of_a_zip_is_left_out(site, tmp_path, content):
    before = sorted(Path("/tmp").glob("evil*"))
    fetch(offer(site, content, "/a.zip"), tmp_path / "data")
    assert names(tmp_path) == ["data"] and names(tmp_path / "data") == ["cats_and_dogs_filtered"]
    assert sorted(Path("/tmp").glob("evil*")) == before
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


@pytest.mark.parametrize("kind", ["climbs", "link"])
def test_tars_that_climb_are_refused(site, tmp_path, kind):
    member = tarfile.TarInfo("../evil.txt" if kind == "climbs" else "images/link")
    if kind == "link":
        member.type, member.linkname = tarfile.SYMTYPE, "/etc"
    with pytest.raises(DownloadError, match="leads out of it"):
        fetch(offer_tar(site, tarred(member)), tmp_path)
    assert names(tmp_path) == ["pets"] and names(tmp_path / "pets") == ["images.tar.gz"]


def test_archive_bombs_are_refused(site, tmp_path):
    zeros = io.BytesIO()
    with zipfile.ZipFile(zeros, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("cats_and_dogs_filtered/train/cats/0.jpg", bytes(1 << 20))
    with pytest.raises(DownloadError, match="a.zip could not be fetched .*would unpack to more than 10 times its size"):
        fetch(offer(site, zeros.getvalue(), "/a.zip"), tmp_path)
    zeros = io.BytesIO()
    with tarfile.open(fileobj=zeros, mode="w:gz") as bomb:
        for i in range(10):
            info = tarfile.TarInfo(f"images/{i}.jpg")
            info.size = 1 << 20
            bomb.addfile(info, io.BytesIO(bytes(1 << 20)))
    with pytest.raises(DownloadError, match="images.tar.gz would unpack to more than 10 times its size: not unpacked"):
        fetch(offer_tar(site, zeros.getvalue()), tmp_path)
    assert names(tmp_path) == ["pets"] and names(tmp_path / "pets") == ["images.tar.gz"]


def test_too_few_pictures(site, tmp_path):
    with pytest.raises(DownloadError, match="has 8 pictures in cats_and_dogs_filtered/ instead of 24"):
        fetch(offer(site, zipped(num=2), "/a.zip"), tmp_path)


# ---- as the data sets use it -----------------------------------------------------------------------------------------


@pytest.fixture
def checkout(empty_checkout, monkeypatch, site):
    """A checkout without photos, and a small dogs-vs-cats to fetch."""
    monkeypatch.setattr(download, "ARCHIVES", {"dogs_vs_cats": (offer(site, zipped(), "/a.zip"),)})
    return empty_checkout


def test_photos_are_fetched_where_asked_for(checkout, site, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_DATA", "photos")
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "new folder"))  # is made
    splits = datasets.dogs_vs_cats(size=32)
    assert "Fetching photos for dogs_vs_cats, once: 0 MB" in capsys.readouterr().out
    assert [len(split) for split in splits] == [10, 2, 12] and splits.train.source == "photos"
    datasets.dogs_vs_cats(size=32)
    assert site.requests == ["/a.zip"]
    assert names(tmp_path / "new folder") == ["cats_and_dogs_filtered"]  # the cache is not among the photos


def test_auto_fetches_only_on_a_lent_gpu(checkout, site, monkeypatch):
    assert datasets.dogs_vs_cats(2, 2, 2, size=32).train.source == "critters" and site.requests == []
    monkeypatch.setattr(datasets, "_on_a_lent_gpu", lambda: True)
    assert "dogs_vs_cats (69 MB, fetched when needed)" in datasets.source_line()
    assert datasets.pets(2, 2, 2, size=32).train.source == "critters" and site.requests == []
    assert datasets.dogs_vs_cats(2, 2, 2, size=32).train.source == "photos" and site.requests == ["/a.zip"]
    assert datasets.source_line().startswith("data: photos of dogs_vs_cats, else drawings (COURSE_DATA=critters")


def test_auto_falls_back_and_photos_does_not(checkout, site, monkeypatch, capsys):
    site.faults["/a.zip"] = ["404"] * 10
    monkeypatch.setattr(datasets, "_on_a_lent_gpu", lambda: True)
    assert datasets.dogs_vs_cats(2, 2, 2, size=32).train.noun == "drawing"
    assert "404 Not Found" in (out := capsys.readouterr().out) and "Drawings are used instead." in out
    monkeypatch.setenv("COURSE_DATA", "photos")
    with pytest.raises(DownloadError, match="404 Not Found"):
        datasets.dogs_vs_cats(2, 2, 2, size=32)


def test_a_read_only_checkout_fetches_to_the_temporary_folder(checkout, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(datasets.cache, "writable", lambda folder: not folder.is_relative_to(checkout))
    monkeypatch.setenv("COURSE_DATA", "photos")
    for _ in range(2):
        assert datasets.dogs_vs_cats(size=32).train.source == "photos"
    assert names(checkout / "data") == [] and len(names(tmp_path / "temporary")) == 2
    monkeypatch.setenv("COURSE_DATA_DIR", str(checkout / "data"))
    with pytest.raises(DownloadError, match="COURSE_DATA_DIR=.*cannot be written to"):
        datasets.dogs_vs_cats(size=32)


def test_a_folder_without_its_photos(checkout, monkeypatch):
    (checkout / "data/cats_and_dogs_filtered/train").mkdir(parents=True)
    monkeypatch.setenv("COURSE_DATA", "photos")
    with pytest.raises(
        DownloadError, match="is there but lacks photos, .* in train/cats, .*: complete it or remove it"
    ):
        datasets.dogs_vs_cats()


def test_the_table_of_archives():
    for archives in download.ARCHIVES.values():
        for archive in archives:
            assert len(archive.urls) == 2 and all(url.startswith("https://") for url in archive.urls)
            assert len(archive.md5) in (0, 32) and archive.num_bytes > 1e7
