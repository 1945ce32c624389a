"""The cells of a notebook run from the last to the first: each ends in a result or a NameError, and no file is lost.

Every cell then lacks what the cells above it make, and finds what those below have left. The first two, the set-up and
the imports, have been run. A cell that takes long is stopped, as the stop button does. This file is also the script
that does it, apart from other tests.
"""

import ast
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tools.build import code_cells, load, sources

ROOT = Path(__file__).parents[1]
SOURCES = sources([])
OF_OTHERS = ("checkpoints/of_yesterday.pt", "checkpoints/start_here.pt", "data/cats/my_cat.jpg", "notes.txt")
SECONDS = 1  # of computing: how busy the machine is changes nothing


def thrown_away(cells: list[str]) -> set[str]:
    """The names that a notebook sets to None, to show that they are gone or to free their memory."""
    assigned = [node for cell in cells for node in ast.parse(cell).body if isinstance(node, ast.Assign)]
    empty = [node for node in assigned if isinstance(node.value, ast.Constant) and node.value.value is None]
    return {target.id for node in empty for target in node.targets if isinstance(target, ast.Name)}


def asked(cell: str, attribute: str) -> set[str]:
    """The names whose attribute a cell asks for: model, where it has model.eval."""
    found = [node for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.Attribute) and node.attr == attribute]
    return {node.value.id for node in found if isinstance(node.value, ast.Name)}


def backwards(cells: list[str], names: dict) -> list[str]:
    """Run the cells from the last to the first; return what ended in anything but a result or a NameError.

    A cell that asks for an attribute of what another has thrown away on purpose may find None there.
    """
    gone, wrong = thrown_away(cells), []
    for cell in reversed(cells):
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
        try:
            exec(compile(cell, "cell", "exec"), names)
        except (NameError, KeyboardInterrupt):
            pass
        except Exception as error:
            if not (isinstance(error, AttributeError) and error.obj is None and asked(cell, error.name) & gone):
                wrong.append(f"{cell.strip().splitlines()[0]}: {type(error).__name__}: {error}")
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return wrong


def main(folder: Path) -> None:
    import matplotlib.pyplot as plt
    import torch

    import utils
    from utils import datasets, models  # noqa: F401 -- models now, while it looks for the backbone where that lies

    signal.signal(signal.SIGVTALRM, signal.default_int_handler)
    datasets.cache.CHECKOUT, wrong = folder, {}
    for path in SOURCES:
        _, imports, *cells = [cell.source for cell in code_cells(load(path))]
        names = {"__name__": "__main__", "utils": utils, "device": torch.device("cpu")}
        exec(imports, names)
        wrong[path.stem] = backwards(cells, names)
        plt.close("all")
    print("\n" + json.dumps(wrong))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timer that stops a cell")
def test_cells_run_backwards_end_in_a_result_or_a_name_error_and_lose_nothing(tmp_path):
    for name in OF_OTHERS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    settings = {"PYTHONPATH": str(ROOT), "COURSE_DATA": "critters", "MPLBACKEND": "agg", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, __file__, str(tmp_path)]
    done = subprocess.run(command, env=os.environ | settings, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    wrong = json.loads(done.stdout.splitlines()[-1])
    assert list(wrong) == [path.stem for path in SOURCES] and not any(wrong.values()), wrong
    assert all((tmp_path / name).read_text() == name for name in OF_OTHERS)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
