"""The rooms of utils import downwards only, and neither notebooks nor tools."""

import ast
from pathlib import Path

import pytest

UTILS = Path(__file__).parents[1] / "utils"
# What each room may import of the others; __init__ may import all.
BELOW = {
    "exercises": {"models", "datasets", "critters", "training", "figures", "device", "lessons"},
    "models": {"datasets"},
    "datasets": {"critters", "device", "files"},
    "training": {"checkpoints", "files"},
    "checkpoints": {"files"},
    "files": set(),
    "figures": set(),
    "critters": set(),
    "device": set(),
    "lessons": set(),
}
FILES = {path: path.relative_to(UTILS).parts[0].removesuffix(".py") for path in UTILS.rglob("*.py")}


def imported(path: Path) -> set[str]:
    """Full names of what a file imports; `from utils import datasets` gives utils.datasets."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_every_room_is_known():
    assert set(FILES.values()) == {"__init__", *BELOW}, (
        "say in BELOW what the new room may import, and in CONTRIBUTING.md what it is for"
    )


def test_the_map_names_every_room_and_tool():
    text = (UTILS.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rooms = [f"`utils/{room}" for room in BELOW if room != "exercises"]
    tools = [f"`tools/{path.name}`" for path in UTILS.parent.glob("tools/*.py")]
    assert not [name for name in [*rooms, *tools] if name not in text], "say in CONTRIBUTING.md what it is for"


@pytest.mark.parametrize(
    "path", [path for path, room in FILES.items() if room != "__init__"], ids=lambda path: str(path.relative_to(UTILS))
)
def test_imports_go_down(path):
    room = FILES[path]
    for name in imported(path):
        assert not name.startswith(("tools", "notebooks", "tests")), f"utils/{room} imports {name}"
        if name.startswith("utils."):
            assert name.split(".")[1] in BELOW[room] | {room}, f"utils/{room} imports {name}, which is not below it"
