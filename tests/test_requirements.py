"""Each package that the course imports stands in requirements.txt, also where another one brings it along."""

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
OURS = {"utils", "tools", "tests"}
WHERE_THERE = {"dask", "google", "skimage"}  # used where they are installed (google: on Colab)


def imported(tree: ast.AST) -> set[str]:
    nodes = list(ast.walk(tree))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    return {name.split(".")[0] for name in names}


def normal(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


def test_what_is_imported_is_required():
    files = [path for folder in ("utils", "tools", "tests", "notebooks") for path in (ROOT / folder).rglob("*.py")]
    used = set().union(*(imported(ast.parse(path.read_text("utf-8"))) for path in files))
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    required = {normal(re.match(r"[\w.-]+", line)[0]) for line in lines if line and not line.startswith("#")}
    packages = packages_distributions()
    others = used - sys.stdlib_module_names - OURS - WHERE_THERE
    missing = {name for name in others if not {normal(package) for package in packages.get(name, [name])} & required}
    assert len(others) > 15 and not missing
