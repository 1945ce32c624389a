"""A cell that is run twice, or after a later one, must not stumble over what its first run has taken away or left."""

import ast

import pytest

from tools.build import code_cells, load, sources

NEEDS = {
    "unlink": "missing_ok=True",
    "rmtree": "ignore_errors=True",
    "mkdir": "exist_ok=True",
    "copytree": "dirs_exist_ok=True",
}


def stumbles(code: str) -> list[str]:
    """What fails, or may fail, in the second run of a cell."""
    tree, found = ast.parse(code), []
    own = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Delete):
            names = {target.id for target in node.targets if isinstance(target, ast.Name)}
            found += [f"del {name}: it is of another cell; write {name} = None" for name in sorted(names - own)]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in NEEDS:
            wanted = NEEDS[node.func.attr]
            given = {f"{word.arg}={ast.unparse(word.value)}" for word in node.keywords}
            on = node.args[0] if node.func.attr == "rmtree" else node.func.value
            if wanted not in given and (node.func.attr == "copytree" or isinstance(on, ast.Name) and on.id not in own):
                found.append(f"{ast.unparse(node)}: add {wanted}")
    return found


@pytest.mark.parametrize("path", sources([]), ids=lambda path: path.stem)
def test_no_cell_stumbles_when_it_is_run_twice(path):
    assert not [
        (cell.source.strip().splitlines()[0], s) for cell in code_cells(load(path)) if (s := stumbles(cell.source))
    ]


def test_the_rule_finds_what_it_should():
    assert stumbles("del model") == ["del model: it is of another cell; write model = None"]
    assert stumbles("file.unlink()") == ["file.unlink(): add missing_ok=True"]
    assert stumbles("shutil.copytree(a, b)") and stumbles("shutil.rmtree(folder)") and stumbles("folder.mkdir()")
    assert not stumbles("a = 1\ndel a\nfile.unlink(missing_ok=True)\nfolder = new()\nfolder.mkdir()")
