"""What comes from outside is data: nothing in it is executed. And nothing of ours listens where others can reach it."""

import ast
import hashlib
import pickle
import re
from pathlib import Path

import pytest
import torch
from torchvision.models import MobileNet_V2_Weights

import utils
from utils import lessons, models

ROOT = Path(__file__).parents[1]
SOURCES = [*ROOT.glob("utils/**/*.py"), *ROOT.glob("tools/**/*.py"), *ROOT.glob("notebooks/source/*.py")]
UNSAFE = {
    "eval",
    "exec",
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "pandas.read_pickle",
    "marshal.load",
    "marshal.loads",
    "shelve.open",
    "joblib.load",
    "dill.load",
    "dill.loads",
    "torch.jit.load",
    "os.system",
    "runpy.run_path",
}
OURS = {("tools/measure_tables.py", "exec")}  # cells of our own notebooks


SERVERS = (
    r"http\.server|HTTPServer|TCPServer|serve_forever|start_server|--post[= ]serve|0\.0\.0\.0"
    r"|--ip\b(?![= ]127\.0\.0\.1)"
)


def calls(path: Path) -> list[tuple[str, ast.Call]]:
    """The calls in a source, by their full names: `load` is torch.load after `from torch import load`."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    full = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            full |= {alias.asname: alias.name for alias in node.names if alias.asname}
        if isinstance(node, ast.ImportFrom):
            full |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    names = ((ast.unparse(node.func).split("."), node) for node in nodes if isinstance(node, ast.Call))
    return [(".".join([full.get(first, first), *rest]), node) for (first, *rest), node in names]


def options(call: ast.Call) -> dict:
    return {word.arg: ast.unparse(word.value) for word in call.keywords}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_is_read_can_run_code(path):
    for name, call in calls(path):
        if name == "torch.load":
            assert options(call).get("weights_only") == "True", (
                f"line {call.lineno}: torch.load needs weights_only=True"
            )
        if name == "torch.hub.load":
            assert options(call).get("source") == "'local'", f"line {call.lineno}: torch.hub.load runs what it fetches"
        if name.endswith((".get_state_dict", ".load_state_dict_from_url")):  # torchvision's and torch.hub's downloads
            given = options(call).get("weights_only"), options(call).get("check_hash")
            assert given == ("True", "True"), f"line {call.lineno}: {name} needs weights_only=True and check_hash=True"
        assert options(call).get("shell", "False") == "False", f"line {call.lineno}: a shell runs what it reads"
        assert options(call).get("allow_pickle", "False") == "False", f"line {call.lineno}: allow_pickle"
        if name in UNSAFE:
            assert (str(path.relative_to(ROOT)), name) in OURS, f"line {call.lineno}: {name} can run what it reads"


def test_nothing_listens_beyond_the_loopback_address():
    for path in SOURCES:
        for name, call in calls(path):
            assert name.rsplit(".")[-1] not in ("bind", "listen", "serve_forever", "create_server"), (
                f"{path}:{call.lineno}"
            )
        assert not (found := re.search(SERVERS, path.read_text("utf-8"))), f"{path}: {found[0]}"
    for line in re.sub(r"\\\n", " ", (ROOT / "Makefile").read_text()).splitlines():
        assert "-m jupyterlab" not in line or "--ip 127.0.0.1" in line, line
        assert not re.search(SERVERS, line), line


class Malicious:
    """Whoever unpickles it without care runs code."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("place", ["weights", "hub/checkpoints"])  # of the data folder, and torch's own downloads
def test_malicious_weights_do_not_run(tmp_path, monkeypatch, place):
    pickle.loads(pickle.dumps(Malicious(tmp_path / "proof")))
    assert (tmp_path / "proof").exists()  # it would run where nobody takes care
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / place).mkdir(parents=True)
    torch.save({"features": Malicious(tmp_path / "ran")}, tmp_path / "made.pth")
    digest = hashlib.sha256((tmp_path / "made.pth").read_bytes()).hexdigest()[:8]
    name = f"mobilenet_v2-{digest}.pth" if place == "weights" else Path(MobileNet_V2_Weights.IMAGENET1K_V1.url).name
    (tmp_path / "made.pth").rename(tmp_path / place / name)
    with pytest.raises((pickle.UnpicklingError, RuntimeError)) as caught:
        models.pretrained("photos")
    assert not (tmp_path / "ran").exists() and caught.type is pickle.UnpicklingError


SETTINGS = {
    "COURSE_DATA": "photo",
    "COURSE_DATA_DIR": __file__,
    "COURSE_DEVICE": "gpu",
    "COURSE_SEED": "seven",
    "COURSE_STRICT": "yes",
    "COURSE_HINTS": "off",
    "COURSE_CLAIMS": None,  # a file that `make seeds` names: any name will do
    "COURSE_VERDICTS": None,  # likewise
}


def test_every_setting_has_an_unknown_value_here():
    found = {
        name for path in ROOT.glob("utils/**/*.py") for name in re.findall(r"COURSE_[A-Z_]+", path.read_text("utf-8"))
    }
    assert found == set(SETTINGS)


@pytest.mark.parametrize("name, value", [item for item in SETTINGS.items() if item[1]])
def test_an_unknown_value_of_a_setting_is_told_in_a_sentence(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises((ValueError, NotADirectoryError), match=f"^{name}='.*{re.escape(value)}'.*: expected .*"):
        utils.start()
        lessons.claim("a claim that holds", True)
