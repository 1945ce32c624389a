"""Downloads against a server on this machine that misbehaves as asked."""

import errno
import hashlib
import io
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
from torchvision.datasets import OxfordIIITPet

from utils import datasets
from utils.datasets import download, photos
from utils.datasets.download import Archive, DownloadError, unpack


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
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for byte in body if fault == "slow" else ():
            try:
                self.wfile.write(bytes([byte]))
            except OSError:  # who fetches was killed
                return
            time.sleep(0.02)
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


def tarred(*members: tarfile.TarInfo, folder: str = "images") -> bytes:
    """A small images.tar.gz."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for i in range(3):
            info = tarfile.TarInfo(f"{folder}/{i}.jpg")
            content = jpeg(i)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for member in members:
            archive.addfile(member)
    return buffer.getvalue()


def offer(site: Site, content: bytes, *paths: str) -> Archive:
    site.files |= dict.fromkeys(paths, content)
    md5 = None if content.startswith(b"PK") else hashlib.md5(content).hexdigest()
    return Archive(tuple(site.url(path) for path in paths), 1, md5)


def names(folder: Path) -> list[str]:
    """What lies in a folder, but for lock files."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_fetches_once_and_unpacks(site, tmp_path):
    archive = offer(site, zipped(), "/a.zip")
    for _ in range(2):
        unpack([archive], tmp_path / "cats_and_dogs_filtered")
    assert site.requests == ["/a.zip"]
    assert names(tmp_path) == ["cats_and_dogs_filtered"]
    assert len(photos._dogs_vs_cats(tmp_path / "cats_and_dogs_filtered").pools["val"]) == 12


def test_two_archives_make_one_folder_or_none(site, tmp_path):
    archives = [offer(site, tarred(folder=name), f"/{name}.tar.gz") for name in ("annotations", "images")]
    site.faults["/images.tar.gz"] = ["404"] * 2
    with pytest.raises(DownloadError, match="images.tar.gz could not be fetched"):
        unpack(archives, tmp_path / "pets")
    assert names(tmp_path) == []
    unpack(archives, tmp_path / "pets")
    assert names(tmp_path) == ["pets"] and names(tmp_path / "pets") == ["annotations", "images"]


@pytest.mark.parametrize("fault", ["truncated", "403", "404", "500", "garbage", "damaged", "login page", "ftp"])
def test_a_mirror_takes_over(site, tmp_path, fault):
    archive = offer(site, zipped(), "/a.zip", "/mirror/a.zip")
    site.faults["/a.zip"] = [fault]
    unpack([archive], tmp_path / "photos")
    assert site.requests == ["/a.zip", "/mirror/a.zip"]
    assert names(tmp_path) == ["photos"] and names(tmp_path / "photos") == ["train", "validation"]


@pytest.mark.parametrize("fault, reason", [
    ("truncated", "no whole archive"), ("403", "Error 403: Forbidden"), ("404", "Error 404: Not Found"),
    ("500", "Error 500: Internal Server Error"), ("circle", "Error 302: .* lead to an infinite loop"), ("garbage", "no whole archive"),
    ("damaged", r"cat.0.jpg in it is damaged"), ("login page", "no whole archive .a login page"), ("ftp", "urlopen error"),
])  # fmt: skip
def test_says_why_in_one_sentence_and_leaves_nothing(site, tmp_path, fault, reason):
    archive = offer(site, zipped(), "/a.zip")
    site.faults["/a.zip"] = [fault] * 40
    with pytest.raises(DownloadError, match=f"a.zip could not be fetched .127.0.0.1:.*{reason}") as caught:
        unpack([archive], tmp_path / "photos")
    assert str(caught.value).count("127.0.0.1:") == 1  # the same reason is not said twice
    assert len(site.requests) == download.ROUNDS * (5 if fault == "circle" else 1) and "\n" not in str(caught.value)
    assert names(tmp_path) == []
    site.faults.clear()
    unpack([archive], tmp_path / "photos")
    assert names(tmp_path) == ["photos"]


def test_wrong_checksum(site, tmp_path):
    archive = offer(site, tarred(), "/images.tar.gz")
    unpack([archive], tmp_path / "right")
    assert names(tmp_path / "right") == ["0.jpg", "1.jpg", "2.jpg"]
    with pytest.raises(DownloadError, match="wrong checksum"):
        unpack([archive._replace(md5="0" * 32)], tmp_path / "wrong")
    assert names(tmp_path) == ["right"]


def test_a_stall_is_a_failure(site, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "STALL_SECONDS", 0.2)
    archive = offer(site, zipped(), "/a.zip", "/mirror/a.zip")
    site.faults["/a.zip"] = ["stalled"]
    unpack([archive], tmp_path / "photos")
    site.faults |= {"/a.zip": ["stalled"] * 2, "/mirror/a.zip": ["stalled"] * 2}
    with pytest.raises(DownloadError, match="timed out"):
        unpack([archive], tmp_path / "other")
    assert socket.getdefaulttimeout() is None  # as it was


def test_no_network(site, tmp_path, monkeypatch):
    def unresolved(*_, **__):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    archive = offer(site, zipped(), "/a.zip")._replace(urls=("http://photos.invalid/a.zip",))
    monkeypatch.setattr(socket, "getaddrinfo", unresolved)
    with pytest.raises(DownloadError, match="name resolution.*Look at the network .*put the file into .* yourself"):
        unpack([archive], tmp_path / "photos")
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    with pytest.raises(DownloadError, match="On Kaggle, switch the Internet on"):
        unpack([archive], tmp_path / "photos")


def test_nobody_listens(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        archive = Archive((f"http://127.0.0.1:{unused.getsockname()[1]}/a.zip",), 10)
        with pytest.raises(DownloadError, match="refused"):
            unpack([archive], tmp_path / "photos")


def test_two_at_once_fetch_once(site, tmp_path, capsys):
    archive = offer(site, zipped(), "/a.zip")
    site.seconds = 0.6
    threads = [threading.Thread(target=unpack, args=([archive], tmp_path / "photos")) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert site.requests == ["/a.zip"]
    assert names(tmp_path) == ["photos"]
    assert f"Another notebook is making {tmp_path / 'photos'}: waiting for it." in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_killed_half_way_while_another_notebook_waits(site, tmp_path):
    """Two processes; the first is killed in the middle of the file, the second takes over and gets all of it."""
    archive = offer(site, zipped(), "/a.zip")
    site.faults["/a.zip"] = ["slow"]
    code = (
        "import runpy\n"  # the module on its own
        "from pathlib import Path\n"
        f"room = runpy.run_path({download.__file__!r})\n"
        f"room['unpack']([room['Archive'](*{tuple(archive)!r})], Path({str(tmp_path / 'photos')!r}))\n"
    )
    first = subprocess.Popen([sys.executable, "-u", "-c", code], stderr=subprocess.DEVNULL)
    while not site.requests:
        time.sleep(0.01)
    time.sleep(0.1)
    second = subprocess.Popen(
        [sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert second.stdout.readline() == f"Another notebook is making {tmp_path / 'photos'}: waiting for it.\n"
    assert first.poll() is None
    first.kill()
    assert first.wait() == -signal.SIGKILL and second.wait() == 0
    second.stdout.close()
    assert site.requests == ["/a.zip"] * 2 and names(tmp_path) == ["photos"]


def test_interrupted_and_started_again(site, tmp_path, monkeypatch):
    archive = offer(site, zipped(), "/a.zip")

    def stopped(url, file):
        Path(file).write_bytes(b"some bytes")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(download, "download_url_to_file", stopped)
        with pytest.raises(KeyboardInterrupt):
            unpack([archive], tmp_path / "photos")
    assert names(tmp_path) == []
    (tmp_path / ".photos.unpack/train").mkdir(parents=True)  # ... and where the machine went off: half of a folder is left
    unpack([archive], tmp_path / "photos")
    assert names(tmp_path) == ["photos"] and names(tmp_path / "photos") == ["train", "validation"]


def test_a_full_disk(site, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    archive = offer(site, zipped(), "/a.zip")
    for what in ("download_url_to_file", "zipfile.ZipFile.extract"):  # as they come, and as they are unpacked
        with monkeypatch.context() as patch:
            patch.setattr(f"utils.datasets.download.{what}", full)
            with pytest.raises(DownloadError, match="photos could not be written .No space left on device.: make room"):
                unpack([archive], tmp_path / "photos")
        assert names(tmp_path) == [] and len(site.requests) == (what != "download_url_to_file")  # no mirror in vain
    unpack([archive], tmp_path / "photos")
    assert names(tmp_path) == ["photos"]


def test_a_folder_that_cannot_be_made(site, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match="file/photos could not be written .File exists"):
        unpack([offer(site, zipped(), "/a.zip")], tmp_path / "file/photos")


def test_an_archive_brought_by_hand(checkout, site, capsys):
    (checkout / "data/cats_and_dogs_filtered (1).zip").write_bytes(site.files["/a.zip"])
    assert "dogs_vs_cats (unpacked when needed)" in datasets.source_line()
    for _ in range(2):
        assert datasets.dogs_vs_cats(size=32).train.source == "photos"
    assert capsys.readouterr().out.count("Unpacking ") == 1 and site.requests == []
    left = ["cache", "cats_and_dogs_filtered (1)", "cats_and_dogs_filtered (1).zip"]
    assert names(checkout / "data") == left  # what is yours stays


@pytest.mark.parametrize("content", [
    zipped(extra=("../evil.txt",)), zipped(extra=("/tmp/evil.txt",)), zipped(extra=("a\\..\\..\\evil.txt",)),
    zipped(link=True),
])  # fmt: skip
def test_what_climbs_out_of_a_zip_is_left_out(site, tmp_path, content):
    before = sorted(Path("/tmp").glob("evil*"))
    unpack([offer(site, content, "/a.zip")], tmp_path / "data/photos")
    assert names(tmp_path) == ["data"] and names(tmp_path / "data") == ["photos"]
    assert sorted(Path("/tmp").glob("evil*")) == before
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


@pytest.mark.parametrize("kind", ["climbs", "link"])
def test_tars_that_climb_are_refused(site, tmp_path, kind):
    member = tarfile.TarInfo("../evil.txt" if kind == "climbs" else "images/link")
    if kind == "link":
        member.type, member.linkname = tarfile.SYMTYPE, "/etc"
    (tmp_path / "images.tar.gz").write_bytes(tarred(member))
    with pytest.raises(DownloadError, match="images.tar.gz cannot be unpacked .*(outside|absolute path)"):
        unpack([tmp_path / "images.tar.gz"], tmp_path / "photos")
    assert names(tmp_path) == ["images.tar.gz"]


# ---- as the data sets use it -----------------------------------------------------------------------------------------


@pytest.fixture
def checkout(empty_checkout, monkeypatch, site):
    """A checkout without photos, and a small dogs-vs-cats to fetch."""
    archives = (offer(site, zipped(), "/a.zip"),)
    monkeypatch.setattr(download, "ARCHIVES", {"dogs_vs_cats": ("cats_and_dogs_filtered", archives)})
    return empty_checkout


def test_photos_are_fetched_where_asked_for(checkout, site, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_DATA", "photos")
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "new folder"))  # is made
    splits = datasets.dogs_vs_cats(size=32)
    assert "Fetching photos for dogs_vs_cats, once: 1 MB" in capsys.readouterr().out
    assert len(splits.train) + len(splits.val) == len(splits.test) == 12 and splits.train.source == "photos"
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
    assert "404: Not Found" in (out := capsys.readouterr().out) and "Drawings are used instead." in out
    monkeypatch.setenv("COURSE_DATA", "photos")
    with pytest.raises(DownloadError, match="404: Not Found"):
        datasets.dogs_vs_cats(2, 2, 2, size=32)


def test_archives_that_are_attached_read_only_are_unpacked_into_the_data_folder(checkout, tmp_path, site, monkeypatch):
    attached = tmp_path / "kaggle/cats-and-dogs"
    attached.mkdir(parents=True)
    (attached / "train.zip").write_bytes(site.files["/a.zip"])
    monkeypatch.setattr(datasets.cache, "writable", lambda folder: folder.is_relative_to(checkout))
    for _ in range(2):
        assert datasets.dogs_vs_cats(size=32).train.source == "photos"
    assert names(attached) == ["train.zip"] and names(checkout / "data/cats-and-dogs") == ["train"]


def test_a_data_folder_that_is_read_only_is_said(checkout, monkeypatch):
    def refused(self, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setenv("COURSE_DATA", "photos")
    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(DownloadError, match="could not be written .Permission denied.: .*another folder with COURSE_DATA_DIR"):
        datasets.dogs_vs_cats(size=32)


@pytest.mark.parametrize("folder", ["drive/MyDrive", "drive/MyDrive/course"])
def test_nothing_is_made_where_a_drive_may_be_mounted_later(checkout, site, tmp_path, monkeypatch, folder):
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / folder))
    assert datasets.source_line() == f"data: drawings (no photos are in {tmp_path / folder})"
    monkeypatch.setenv("COURSE_DATA", "photos")
    with pytest.raises(DownloadError, match="drive.* does not exist, so .* cannot be made: mount the drive or make it"):
        datasets.dogs_vs_cats(2, 2, 2, 32)
    assert not (tmp_path / "drive").exists() and site.requests == []


def test_a_folder_without_its_photos(checkout, site, monkeypatch):
    (checkout / "data/cats_and_dogs_filtered/train/cats").mkdir(parents=True)
    monkeypatch.setenv("COURSE_DATA", "photos")
    with pytest.raises(ValueError, match="cats_and_dogs_filtered.* has not the folders for cat, dog: look at"):
        datasets.dogs_vs_cats()
    assert site.requests == []


def test_the_table_of_archives():
    for _, archives in download.ARCHIVES.values():
        for archive in archives:
            assert len(archive.urls) == 2 and all(url.startswith("https://") for url in archive.urls)
            assert archive.md5 is None or len(archive.md5) == 32
    pets = {url: md5 for urls, _, md5 in download.ARCHIVES["pets"][1] for url in urls}
    assert pets.items() >= dict(OxfordIIITPet._RESOURCES).items()  # torchvision's
