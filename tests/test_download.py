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
from utils.datasets.download import fetch, unpack


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


def offer(monkeypatch, site: Site, files: dict[str, bytes], *folders: str) -> None:
    """Archives of "dogs_vs_cats", in one or more folders of the site."""
    site.files |= {f"{folder}{name}": content for folder in folders for name, content in files.items()}
    md5 = {name: None if name.endswith(".zip") else hashlib.md5(content).hexdigest() for name, content in files.items()}
    sites = tuple(site.url(folder) for folder in folders)
    monkeypatch.setitem(download.ARCHIVES, "dogs_vs_cats", ("photos", 1, md5, sites))


def names(folder: Path) -> list[str]:
    """What lies in a folder, but for lock files."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_fetches_once_and_unpacks(monkeypatch, site, tmp_path):
    offer(monkeypatch, site, {"a.zip": zipped()}, "/")
    for _ in range(2):
        fetch("dogs_vs_cats", tmp_path)
    assert set(site.requests) == {"/a.zip"} and len(site.requests) == 2  # torchvision asks twice: for redirections
    assert names(tmp_path) == ["photos"]
    assert len(photos._dogs_vs_cats(tmp_path / "photos").pools["val"]) == 12


def test_two_archives_make_one_folder_or_none(monkeypatch, site, tmp_path):
    offer(monkeypatch, site, {f"{name}.tar.gz": tarred(folder=name) for name in ("annotations", "images")}, "/")
    site.faults["/images.tar.gz"] = ["404"]
    with pytest.raises(OSError, match="images.tar.gz could not be fetched"):
        fetch("dogs_vs_cats", tmp_path)
    assert names(tmp_path) == []
    fetch("dogs_vs_cats", tmp_path)
    assert names(tmp_path) == ["photos"] and names(tmp_path / "photos") == ["annotations", "images"]


@pytest.mark.parametrize("fault", ["truncated", "403", "404", "500", "garbage", "damaged", "login page", "ftp"])
def test_a_mirror_takes_over(monkeypatch, site, tmp_path, fault):
    offer(monkeypatch, site, {"a.zip": zipped()}, "/", "/mirror/")
    site.faults["/a.zip"] = [fault] * 2
    fetch("dogs_vs_cats", tmp_path)
    assert "/mirror/a.zip" in site.requests
    assert names(tmp_path) == ["photos"] and names(tmp_path / "photos") == ["train", "validation"]


@pytest.mark.parametrize("fault, reason", [
    ("truncated", "not a zip file"), ("403", "Error 403: Forbidden"), ("404", "Error 404: Not Found"),
    ("500", "Error 500: Internal Server Error"), ("circle", "Error 302: .* lead to an infinite loop"),
    ("garbage", "not a zip file"), ("damaged", "Bad CRC-32 for file .*cat.0.jpg"), ("login page", "not a zip file"),
    ("ftp", "urlopen error"),
])  # fmt: skip
def test_says_why_in_one_sentence_and_leaves_nothing(monkeypatch, site, tmp_path, fault, reason):
    offer(monkeypatch, site, {"a.zip": zipped()}, "/")
    site.faults["/a.zip"] = [fault] * 40
    with pytest.raises(OSError, match=f"a.zip could not be fetched .127.0.0.1:.*{reason}") as caught:
        fetch("dogs_vs_cats", tmp_path)
    assert "\n" not in str(caught.value) and names(tmp_path) == []
    site.faults.clear()
    fetch("dogs_vs_cats", tmp_path)
    assert names(tmp_path) == ["photos"]


def test_wrong_checksum(monkeypatch, site, tmp_path):
    offer(monkeypatch, site, {"images.tar.gz": tarred()}, "/")
    fetch("dogs_vs_cats", tmp_path)
    assert names(tmp_path / "photos") == ["0.jpg", "1.jpg", "2.jpg"]
    site.files["/images.tar.gz"] = tarred(folder="others")
    (tmp_path / "again").mkdir()
    with pytest.raises(OSError, match="images.tar.gz could not be fetched .*corrupted"):
        fetch("dogs_vs_cats", tmp_path / "again")
    assert names(tmp_path / "again") == []


def test_a_stall_is_a_failure(monkeypatch, site, tmp_path):
    monkeypatch.setattr(download, "STALL_SECONDS", 0.2)
    offer(monkeypatch, site, {"a.zip": zipped()}, "/")
    site.faults["/a.zip"] = ["stalled"] * 2
    with pytest.raises(OSError, match="timed out"):
        fetch("dogs_vs_cats", tmp_path)
    assert socket.getdefaulttimeout() is None  # as it was


def test_no_network(monkeypatch, site, tmp_path):
    def unresolved(*_, **__):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    offer(monkeypatch, site, {"a.zip": zipped()}, "/")
    monkeypatch.setattr(socket, "getaddrinfo", unresolved)
    with pytest.raises(OSError, match="name resolution.*Look at the network .*put the file into .* yourself"):
        fetch("dogs_vs_cats", tmp_path)
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    with pytest.raises(OSError, match="On Kaggle, switch the Internet on"):
        fetch("dogs_vs_cats", tmp_path)


def test_nobody_listens(monkeypatch, tmp_path):
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        site = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        monkeypatch.setitem(download.ARCHIVES, "dogs_vs_cats", ("photos", 1, {"a.zip": None}, (site,)))
        with pytest.raises(OSError, match="refused"):
            fetch("dogs_vs_cats", tmp_path)


def test_two_at_once_fetch_once(monkeypatch, site, tmp_path):
    offer(monkeypatch, site, {"a.zip": zipped()}, "/")
    site.seconds = 0.3
    threads = [threading.Thread(target=fetch, args=("dogs_vs_cats", tmp_path)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(site.requests) == 2 and names(tmp_path) == ["photos"]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_killed_half_way_while_another_notebook_waits(monkeypatch, site, tmp_path):
    """Two processes; the first is killed in the middle of the file, the second takes over and gets all of it."""
    offer(monkeypatch, site, {"a.zip": zipped()}, "/")
    site.faults["/a.zip"] = ["", "slow"]
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        "from pathlib import Path\nfrom utils.datasets import download\n"
        f"download.ARCHIVES['dogs_vs_cats'] = {download.ARCHIVES['dogs_vs_cats']!r}\n"
        f"download.fetch('dogs_vs_cats', Path({str(tmp_path)!r}))\n"
    )
    first = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(site.requests) < 2:
        time.sleep(0.01)
    second = subprocess.Popen(
        [sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert second.stdout.readline().startswith("Fetching photos")  # and waits
    time.sleep(0.2)
    assert first.poll() is None
    first.kill()
    assert first.wait() == -signal.SIGKILL and second.wait() == 0
    second.stdout.close()
    assert site.requests == ["/a.zip"] * 4 and names(tmp_path) == ["photos"]


def test_interrupted_and_started_again(monkeypatch, site, tmp_path):
    offer(monkeypatch, site, {"a.zip": zipped()}, "/")

    def stopped(url, folder, **_):
        (Path(folder) / "a.zip").write_bytes(b"some bytes")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(download, "download_and_extract_archive", stopped)
        with pytest.raises(KeyboardInterrupt):
            fetch("dogs_vs_cats", tmp_path)
    assert names(tmp_path) == []
    (tmp_path / ".photos.unpack/train").mkdir(parents=True)  # ... and where the machine went off: half a folder is left
    fetch("dogs_vs_cats", tmp_path)
    assert names(tmp_path) == ["photos"] and names(tmp_path / "photos") == ["train", "validation"]


def test_a_full_disk(monkeypatch, site, tmp_path):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    offer(monkeypatch, site, {"a.zip": zipped()}, "/")
    for what in ("_urlretrieve", "extract_archive"):  # as they come, and as they are unpacked
        with monkeypatch.context() as patch:
            patch.setattr(f"torchvision.datasets.utils.{what}", full)
            with pytest.raises(OSError, match="photos could not be made: .*No space left on device"):
                fetch("dogs_vs_cats", tmp_path)
        assert names(tmp_path) == []
    fetch("dogs_vs_cats", tmp_path)
    assert names(tmp_path) == ["photos"]


def test_a_folder_that_cannot_be_made(monkeypatch, site, tmp_path):
    offer(monkeypatch, site, {"a.zip": zipped()}, "/")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file/photos could not be made: .*File exists"):
        fetch("dogs_vs_cats", tmp_path / "file")


def test_an_archive_brought_by_hand(checkout, site, capsys):
    (checkout / "data/cats_and_dogs_filtered (1).zip").write_bytes(site.files["/a.zip"])
    assert "dogs_vs_cats" in datasets.source_line()
    for _ in range(2):
        assert datasets.dogs_vs_cats(size=32).train.source == "photos"
    assert capsys.readouterr().out.count("Unpacking ") == 1 and site.requests == []
    left = ["cache", "cats_and_dogs_filtered (1)", "cats_and_dogs_filtered (1).zip"]
    assert names(checkout / "data") == left  # what is yours stays


@pytest.mark.parametrize("content", [
    zipped(extra=("../evil.txt",)), zipped(extra=("/tmp/evil.txt",)), zipped(extra=("a\\..\\..\\evil.txt",)),
    zipped(link=True),
])  # fmt: skip
def test_what_climbs_out_of_a_zip_is_left_out(tmp_path, content):
    before = sorted(Path("/tmp").glob("evil*"))
    (tmp_path / "a.zip").write_bytes(content)
    unpack(tmp_path / "a.zip", tmp_path / "data/photos")
    assert names(tmp_path) == ["a.zip", "data"] and names(tmp_path / "data") == ["photos"]
    assert sorted(Path("/tmp").glob("evil*")) == before
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


@pytest.mark.parametrize("kind", ["climbs", "link"])
def test_tars_that_climb_are_refused(tmp_path, kind):
    member = tarfile.TarInfo("../evil.txt" if kind == "climbs" else "images/link")
    if kind == "link":
        member.type, member.linkname = tarfile.SYMTYPE, "/etc"
    (tmp_path / "images.tar.gz").write_bytes(tarred(member))
    with pytest.raises(OSError, match="photos could not be made: .*(outside|absolute path)"):
        unpack(tmp_path / "images.tar.gz", tmp_path / "photos")
    assert names(tmp_path) == ["images.tar.gz"]


# ---- as the data sets use it -----------------------------------------------------------------------------------------


@pytest.fixture
def checkout(empty_checkout, monkeypatch, site):
    """A checkout without photos, and a small dogs-vs-cats to fetch."""
    offer(monkeypatch, site, {"a.zip": zipped()}, "/")
    offered = ("cats_and_dogs_filtered", *download.ARCHIVES["dogs_vs_cats"][1:])
    monkeypatch.setattr(download, "ARCHIVES", {"dogs_vs_cats": offered})
    return empty_checkout


def test_photos_are_fetched_where_asked_for(checkout, site, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_DATA", "photos")
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "cats and dogs"))  # is made
    splits = datasets.dogs_vs_cats(size=32)
    assert "Fetching photos for dogs_vs_cats, once: 1 MB" in capsys.readouterr().out
    assert len(splits.train) + len(splits.val) == len(splits.test) == 12 and splits.train.source == "photos"
    datasets.dogs_vs_cats(size=32)
    assert len(site.requests) == 2  # for redirections, and for the file
    assert names(tmp_path / "cats and dogs") == ["cats_and_dogs_filtered"]  # the cache is not among the photos


def test_auto_fetches_only_on_a_lent_gpu(checkout, site, monkeypatch):
    assert datasets.dogs_vs_cats(2, 2, 2, size=32).train.source == "critters" and site.requests == []
    monkeypatch.setattr(datasets, "_on_a_lent_gpu", lambda: True)
    assert datasets.source_line().startswith("data: photos of dogs_vs_cats, else drawings")
    assert datasets.pets(2, 2, 2, size=32).train.source == "critters" and site.requests == []
    assert datasets.dogs_vs_cats(2, 2, 2, size=32).train.source == "photos" and len(site.requests) == 2


def test_auto_falls_back_and_photos_does_not(checkout, site, monkeypatch, capsys):
    site.faults["/a.zip"] = ["404"] * 10
    monkeypatch.setattr(datasets, "_on_a_lent_gpu", lambda: True)
    assert datasets.dogs_vs_cats(2, 2, 2, size=32).train.noun == "drawing"
    assert "404: Not Found" in (out := capsys.readouterr().out) and "Drawings are used instead." in out
    monkeypatch.setenv("COURSE_DATA", "photos")
    with pytest.raises(OSError, match="404: Not Found"):
        datasets.dogs_vs_cats(2, 2, 2, size=32)


def test_archives_that_are_attached_read_only_are_unpacked_into_the_data_folder(checkout, tmp_path, monkeypatch):
    attached = tmp_path / "kaggle/competitions/mine"
    attached.mkdir(parents=True)
    with zipfile.ZipFile(attached / "train.zip", "w") as archive:
        for i in range(6):
            archive.writestr(f"train/cat.{i}.jpg", jpeg(i))
            archive.writestr(f"train/dog.{i}.jpg", jpeg(10 + i))
    monkeypatch.setattr("os.access", lambda path, mode: Path(path).is_relative_to(checkout))
    for _ in range(2):
        assert datasets.dogs_vs_cats(size=32).train.source == "photos"
    assert names(attached) == ["train.zip"] and names(checkout / "data") == ["cache", "train"]


def test_a_data_folder_that_is_read_only_is_said(checkout, monkeypatch):
    def refused(self, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setenv("COURSE_DATA", "photos")
    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(OSError, match="could not be made: .*Permission denied"):
        datasets.dogs_vs_cats(size=32)


@pytest.mark.parametrize("folder", ["drive/MyDrive", "drive/MyDrive/course"])
def test_nothing_is_made_where_a_drive_may_be_mounted_later(checkout, site, tmp_path, monkeypatch, folder):
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / folder))
    assert datasets.source_line().startswith("data: drawings")
    monkeypatch.setenv("COURSE_DATA", "photos")
    with pytest.raises(OSError, match="drive.* does not exist, so .* cannot be made: mount the drive or make it"):
        datasets.dogs_vs_cats(2, 2, 2, 32)
    assert not (tmp_path / "drive").exists() and site.requests == []


def test_a_folder_without_its_photos(checkout, site, monkeypatch):
    (checkout / "data/cats_and_dogs_filtered/train/cats").mkdir(parents=True)
    monkeypatch.setenv("COURSE_DATA", "photos")
    with pytest.raises(ValueError, match="cats_and_dogs_filtered.* has not the folders for cat, dog: look at"):
        datasets.dogs_vs_cats()
    assert site.requests == []


def test_the_table_of_archives():
    for *_, sites in download.ARCHIVES.values():
        assert len(sites) == 2 and all(url.startswith("https://") and url.endswith("/") for url in sites)
    _, _, files, sites = download.ARCHIVES["pets"]
    ours = {f"{site}{name}": md5 for site in sites for name, md5 in files.items()}
    assert ours.items() >= dict(OxfordIIITPet._RESOURCES).items()  # torchvision's
