"""The table of faults in docs/promises.md: each test that it names is there, and each row names one."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_test_that_the_table_of_faults_names_is_there():
    lines = (ROOT / "docs/promises.md").read_text("utf-8").splitlines()
    rows = [row for row in lines if row.startswith("| ") and not row.startswith("| **")][1:]
    named = [re.findall(r"`(test_\w+)`", row) for row in rows]
    assert len(rows) > 40 and all(named), "a row without a test"
    trees = (ast.parse(path.read_text("utf-8")) for path in ROOT.glob("tests/test_*.py"))
    there = {node.name for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert not (missing := set(sum(named, [])) - there), f"no such tests: {sorted(missing)}"
