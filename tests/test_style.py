"""The rules of style that pyproject.toml sets, as ruff checks them."""

import subprocess
import sys
from pathlib import Path


def test_ruff_finds_nothing():
    command = [sys.executable, "-m", "ruff", "check", "--output-format=concise", "."]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
