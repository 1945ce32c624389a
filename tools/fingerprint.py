"""Which code made a result? Eight characters that change when code does that decides it.

A result is decided by the notebook's own cells (all but the set-up cell), by the networks, training, data and drawings
of utils, by the pretrained backbone and, in a measured table, by the table's program. It is not decided by exercises,
figures and the words of a lesson; nor by comments, docstrings and line breaks: what is compared is the code as Python
reads it, the same in all its versions.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache

from nbformat import NotebookNode

from tools.build import ROOT, code_cells, is_set_up

ROOMS = ("models", "training", "datasets", "critters")
# What a table's program says of which runs are asked for: each row has its own settings, and no say in the others.
ASKED = {"NOTEBOOK", "RUNS", "SEEDS", "TOLERANCE", "ROUGH"}
DOCUMENTED = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef


def of_notebook(notebook: NotebookNode) -> str:
    """The fingerprint of a notebook's run."""
    return _digest(*_lessons(code_cells(notebook)), *shared())


def of_table(name: str, cells: Iterable[NotebookNode]) -> str:
    """The fingerprint of a row of data/measured/NAME.csv. cells: those of its notebook that are tagged "measure"."""
    return _digest(*_lessons(cells), *_program(name), *shared())


def essence(code: str) -> str:
    """What Python reads in some code, without docstrings: as text that is the same in all versions of Python."""
    return _essence(ast.parse(code))


def _essence(part) -> str:
    if isinstance(part, list):
        return f"[{' '.join(map(_essence, part))}]"
    if not isinstance(part, ast.AST):
        return repr(part)
    if isinstance(part, DOCUMENTED) and ast.get_docstring(part, clean=False) is not None:
        part.body = part.body[1:]
    # Fields that are empty are left out: a newer Python may have more of them.
    fields = [f"{name}={_essence(value)}" for name, value in ast.iter_fields(part) if value not in (None, [])]
    return f"{type(part).__name__}({' '.join(fields)})"


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:8]


def _lessons(cells: Iterable[NotebookNode]) -> list[str]:
    return [essence(cell.source) for cell in cells if not is_set_up(cell)]


def _program(name: str) -> list[str]:
    """A table's program, and those from which it imports."""
    tree = ast.parse((ROOT / f"tools/tables/{name}.py").read_text(encoding="utf-8"))
    imported = [node.module for node in tree.body if isinstance(node, ast.ImportFrom) and node.module]
    others = [module.split(".")[-1] for module in imported if module.startswith("tools.tables.")]
    tree.body = [statement for statement in tree.body if not _assigned(statement) & ASKED]
    return [_essence(tree), *(text for other in others for text in _program(other))]


def _assigned(statement: ast.stmt) -> set[str]:
    if not isinstance(statement, ast.Assign | ast.AugAssign):
        return set()
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


@cache
def shared() -> list[str]:
    """The rooms of utils that compute, and the backbone."""
    utils = ROOT / "utils"
    files = [path for room in ROOMS for path in sorted([*utils.glob(f"{room}.py"), *utils.glob(f"{room}/**/*.py")])]
    backbone = hashlib.sha256((ROOT / "data/backbone.pt").read_bytes()).hexdigest()
    return [backbone, *(essence(path.read_text(encoding="utf-8")) for path in files)]
