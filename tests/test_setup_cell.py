"""The set-up cell of all notebooks, run as a student meets it: in the checkout, in a bare folder, on Kaggle, offline.

The real `utils` takes seconds to import (torch), so that most cases run on a stand-in of the same layout.
"""

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from tools.build import ROOT, code_cells, load, tokens

CELL = code_cells(load(ROOT / "tools/notebook_template.py"))[0].source

# After the cell: where `utils` and its parts came from, and what is first on sys.path.
REPORT = """
import json, sys, utils, utils.lessons
print("REPORT" + json.dumps({"utils": utils.__file__, "first": sys.path[0], "lessons": utils.lessons.__file__}))
"""


STAND_IN = "from utils import lessons\ndef start(): print('device: none')\n"


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """What a notebook needs of the working tree, as a git repository with the branch or tag that the cell clones."""
    folder = tmp_path_factory.mktemp("remote") / "course"
    shutil.copytree(ROOT / "utils", folder / "utils", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "data").mkdir()
    for file in (ROOT / "data").glob("backbone.*"):
        shutil.copy(file, folder / "data")
    git = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.org"]
    subprocess.run([*git, "init", "-q", "-b", tokens()["@REF@"]], cwd=folder, check=True)
    subprocess.run([*git, "add", "-A"], cwd=folder, check=True)
    subprocess.run([*git, "commit", "-q", "-m", "copy"], cwd=folder, check=True)
    return folder


@pytest.fixture
def small_repository(checkout) -> Path:
    """The stand-in as a git repository with the branch or tag that the cell clones."""
    (checkout / "notebooks").rmdir()
    git = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q", "-b", tokens()["@REF@"]], ["add", "-A"], ["commit", "-q", "-m", "copy"]):
        subprocess.run([*git, *command], cwd=checkout, check=True)
    return checkout


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A stand-in of the checkout."""
    folder = tmp_path / "checkout"
    (folder / "utils").mkdir(parents=True)
    (folder / "utils/__init__.py").write_text(STAND_IN)
    (folder / "utils/lessons.py").write_text("")
    (folder / "notebooks").mkdir()
    return folder


def run(folder: Path, code: str, **settings: str) -> subprocess.CompletedProcess:
    """Run code in a fresh Python whose working directory is `folder`, with nothing but the standard sys.path."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "JPY_SESSION_NAME")}
    environment |= {"OMP_NUM_THREADS": "1"} | settings
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def report(result: subprocess.CompletedProcess) -> dict:
    assert result.returncode == 0, result.stderr
    assert "device:" in result.stdout  # the line of utils.start()
    return json.loads(result.stdout.rsplit("REPORT", 1)[1])


def aimed_at(address: str) -> str:
    """The cell with another address to clone from."""
    assert tokens()["@REPO@"] in CELL
    return CELL.replace(tokens()["@REPO@"], address)


def clone_in(folder: Path) -> Path:
    return folder / f"deep-learning-for-images-{tokens()['@REF@']}"


def test_cell_is_short_says_what_it_does_and_installs_nothing():
    lines = [line for line in aimed_at("@REPO@").splitlines() if line.strip()]  # an address may be long
    assert len(lines) <= 15 and max(map(len, lines)) <= 120
    assert lines[0].startswith("# @title Set-up: ")
    assert lines[-1] == "device = utils.start()"
    assert "pip" not in CELL and "except:" not in CELL


def test_in_the_checkout_and_without_slow_imports():
    """... and without listening on any address."""
    hook = (
        "import sys\nheard = []\nsys.addaudithook(lambda event, args: event == 'socket.bind' and heard.append(args))\n"
    )
    after = "\nassert 'sklearn' not in sys.modules and not heard\n"
    found = report(run(ROOT / "notebooks", hook + CELL + after + REPORT))
    assert found == {
        "utils": str(ROOT / "utils/__init__.py"),
        "first": str(ROOT),
        "lessons": str(ROOT / "utils/lessons.py"),
    }


def test_in_the_checkouts_top_folder(checkout):
    assert report(run(checkout, CELL + REPORT))["utils"] == str(checkout / "utils/__init__.py")


def test_bare_folder_clones_once_and_the_clone_is_used_again(tmp_path, repository):
    folder = tmp_path / "a folder with spaces"
    folder.mkdir()
    cell = aimed_at(repository.as_uri())
    # twice in one process: the second time must find the clone, not fetch it, and keep what it loaded
    twice = f"{cell}\nfirst = utils\n{cell}\nassert utils is first\n"
    found = report(run(folder, twice + REPORT))
    assert found["utils"] == str(clone_in(folder) / "utils/__init__.py")
    # and in a new process, where cloning again would fail (from here on with the stand-in, which is quick)
    (clone_in(folder) / "utils/__init__.py").write_text(STAND_IN)
    (clone_in(folder) / "utils/lessons.py").write_text("")
    result = run(folder, aimed_at("file:///nowhere") + REPORT)
    assert report(result)["first"] == str(clone_in(folder))


@contextmanager
def server(status):
    """An address that answers all with one status, as GitHub answers with 401 for what is private or not there."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("WWW-Authenticate", 'Basic realm="GitHub"')
            self.end_headers()

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}/course"
        httpd.shutdown()


@pytest.mark.parametrize("status, words", [(None, "127.0.0.1"), (401, "Username"), (404, "not found")])
def test_no_network_or_a_private_or_wrong_address_gets_a_sentence_and_gits_own_words(tmp_path, status, words):
    with server(status) if status else nullcontext("http://127.0.0.1:9/course") as address:
        result = run(tmp_path, aimed_at(address) + REPORT)
    assert result.returncode != 0 and not result.stdout
    sentence, *git = result.stderr.strip().splitlines()
    assert sentence == "No network (Kaggle: Settings)? Or a private address?"
    assert git[-1].startswith("fatal:") and words in git[-1]
    assert not clone_in(tmp_path).exists()


def test_a_machine_without_git_is_told_so(tmp_path):
    result = run(tmp_path, CELL, PATH=str(tmp_path))
    assert result.stderr.strip() == "Install git: it fetches the course."


@pytest.mark.parametrize(
    "name", ["price $5 off", "a $(touch PWNED) b", 'say "hi"', "tick `touch PWNED` tock", "Kurs ü; #1"]
)
def test_no_shell_reads_the_folders_name(tmp_path, small_repository, name):
    folder = tmp_path / name
    folder.mkdir()
    report(run(folder, aimed_at(small_repository.as_uri()) + REPORT))
    assert list(folder.iterdir()) == [clone_in(folder)]


def test_a_folder_that_may_not_be_entered_is_passed_by(tmp_path):
    """... as a private `utils` above a student's folder on a shared server. Up to Python 3.13 is_file() raises there.

    Root may enter every folder, so that the refusal is played.
    """
    private, student = tmp_path / "utils", tmp_path / "student"
    student.mkdir()
    refuse = f"""
import os
real = os.stat
def stat(path, *args, **keywords):
    if str(path).startswith({str(private)!r}):
        raise PermissionError(13, "Permission denied", str(path))
    return real(path, *args, **keywords)
os.stat = stat
"""
    result = run(student, refuse + aimed_at("file:///nowhere"))
    assert "'/nowhere' does not appear to be a git repository" in result.stderr  # it went on to fetch the course


@pytest.mark.parametrize("how", ["JPY_SESSION_NAME", "__vsc_ipynb_file__"])
def test_a_kernel_that_starts_elsewhere_looks_beside_the_notebook(tmp_path, checkout, how):
    """JupyterLab names the notebook in the environment, VS Code in a variable of the kernel."""
    notebook = str(checkout / "notebooks/05_topic.ipynb")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    cell = aimed_at("file:///nowhere")
    if how == "JPY_SESSION_NAME":
        result = run(elsewhere, cell + REPORT, JPY_SESSION_NAME=notebook)
    else:
        result = run(elsewhere, f"{how} = {notebook!r}\n" + cell + REPORT)
    assert report(result)["first"] == str(checkout)
    # where they say something else, as a kernel on another machine does, the course is still found upward
    result = run(checkout / "notebooks", cell + REPORT, JPY_SESSION_NAME="fileId=nowhere-jvsc-1.ipynb")
    assert report(result)["first"] == str(checkout)


def test_run_again_it_keeps_our_modules_whatever_is_in_the_path(tmp_path, checkout):
    """On Windows the backslashes of a path are doubled in a module's repr."""
    (folder := tmp_path / "C:\\Users\\me").mkdir()
    shutil.copytree(checkout, folder / "course")
    twice = f"{CELL}\nfirst, part = utils, utils.lessons\n{CELL}\nimport utils.lessons\n"
    report(run(folder / "course", twice + "assert utils is first and utils.lessons is part\n" + REPORT))


def test_a_version_that_is_not_there_is_named(tmp_path, repository):
    other = tmp_path / "deep-learning-for-images-v0.0.1/utils"  # another version, fetched by another notebook: not used
    other.mkdir(parents=True)
    (other / "lessons.py").write_text("")
    result = run(tmp_path, aimed_at(repository.as_uri()).replace(tokens()["@REF@"], "v9.9.9"))
    assert result.returncode != 0 and "Remote branch v9.9.9 not found" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["deep-learning-for-images-v0.0.1"]


def test_broken_clone_is_named_so_that_it_can_be_removed(tmp_path):
    (clone_in(tmp_path) / "utils").mkdir(parents=True)
    result = run(tmp_path, aimed_at("file:///nowhere"))
    assert result.returncode != 0
    assert str(clone_in(tmp_path)) in result.stderr and "already exists" in result.stderr


@pytest.mark.parametrize("kind", ["package", "module", "folder without __init__"])
def test_foreign_utils_makes_way(tmp_path, checkout, kind):
    if kind == "module":
        (tmp_path / "utils.py").write_text("mine = True\n")
        foreign = "import utils"
    else:
        (tmp_path / "utils").mkdir()
        (tmp_path / "utils/other.py").write_text("mine = True\n")
        if kind == "package":
            (tmp_path / "utils/__init__.py").write_text("")
        foreign = "import utils.other"
    setup = f"import os, sys\nsys.path.insert(0, {str(tmp_path)!r})\n{foreign}\n"
    found = report(run(checkout / "notebooks", setup + CELL + "\nassert 'utils.other' not in sys.modules\n" + REPORT))
    assert found["utils"] == str(checkout / "utils/__init__.py")
    assert found["lessons"] == str(checkout / "utils/lessons.py")


@pytest.mark.parametrize("place", ["course", "datasets/someone/course", "datasets/someone/course/deep-learning-main"])
def test_attached_read_only_data_set_on_kaggle(tmp_path, checkout, place):
    attached, working = tmp_path / "input" / place, tmp_path / "working"
    shutil.copytree(checkout, attached)
    working.mkdir()
    folders = [folder for folder in [attached, *attached.rglob("*")] if folder.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    cell = aimed_at("file:///nowhere").replace("/kaggle/input", str(tmp_path / "input"))
    found = report(run(working, cell + REPORT))
    for folder in folders:
        folder.chmod(0o755)  # so that pytest can remove them
    assert found["utils"] == str(attached / "utils/__init__.py")
    assert not list(working.iterdir())
