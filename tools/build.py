"""Build the notebooks: notebooks/source/NN_topic.py (what people edit) -> notebooks/NN_topic.ipynb (what people open).

    python -m tools.build             run all, on the embedded data, with seed 0
    python -m tools.build 05          run those whose name begins so
    python -m tools.build --no-run    write texts, address and version, keep the outputs (refused where code changed)
    python -m tools.build --frames F  draw all pictures of the explorers into F/NN_topic for the site, write no notebook

Tokens in a source: @REPO@ (address), @SLUG@ (OWNER/NAME), @REF@ (tag of a release, else main), all from pyproject.toml;
@BADGES@ (links to Colab and Kaggle); @TIME@ (how long the stored run took). `python -m tools.readme` then brings the
tables of README and docs/ up to date.
"""

import argparse
import ast
import base64
import hashlib
import io
import os
import re
import shutil
import sys
import tomllib
from collections import Counter
from datetime import datetime
from pathlib import Path

import jupytext
import nbformat
import numpy as np
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from PIL import Image, ImageChops, ImageFilter
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
SOURCES, NOTEBOOKS = ROOT / "notebooks/source", ROOT / "notebooks"
# A stored run is the same wherever it is made: drawn data, seed 0, a false claim is an error, two threads and no GPU.
SETTINGS = {
    "COURSE_DATA": "critters",
    "COURSE_SEED": "0",
    "COURSE_STRICT": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "CUDA_PATH": "",  # where a toolkit lies without a GPU, torch.utils.benchmark would name it on stderr
    "OMP_NUM_THREADS": "2",
}
METADATA = {  # no versions: those of the machine that builds say nothing to those who open the notebook
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {
        "name": "python",
        "file_extension": ".py",  # without it `nbconvert --to script` writes a .txt
        "mimetype": "text/x-python",
        "nbconvert_exporter": "python",
        "pygments_lexer": "ipython3",
        "codemirror_mode": {"name": "ipython", "version": 3},
    },
}
PLUMBING = "# Set-up", "# What this notebook imports", "# extra code: "  # so begin cells that are folded
TITLE = "# @title "  # Colab shows the rest of such a first line instead of a folded cell's code
FOLD = {  # in JupyterLab and Notebook, on Colab, on Kaggle
    "jupyter": {"source_hidden": True},
    "cellView": "form",
    "_kg_hide-input": True,
}
HIDDEN = "hide-input"  # the tag for the site and the slides
NOTES = "<details><summary>For the instructor</summary>\n\n", "\n\n</details>"
PLACEHOLDER = "/OWNER/"  # in an address that is still to be set
TO_SET = "*The address of the course is still to be set (`make address`). Until then no link leads to Colab or Kaggle.*"
PROGRESS_BAR = re.compile(r"\d+%\|.*\d+/\d+ \[|\d+it \[")  # as tqdm writes it


def tokens() -> dict[str, str]:
    """Address and version, as pyproject.toml sets them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    repo, version = project["urls"]["Repository"].rstrip("/"), project["version"]
    ref = "main" if ".dev" in version else f"v{version}"
    return {"@REPO@": repo, "@SLUG@": "/".join(repo.split("/")[-2:]), "@REF@": ref}


def has_address() -> bool:
    """False where `make address` has still to set it."""
    return PLACEHOLDER not in tokens()["@REPO@"]


def opened(name: str) -> dict[str, str]:
    """The addresses at which a notebook opens: {"Colab": ..., "Kaggle": ...}."""
    page = substitute(f"github.com/@SLUG@/blob/@REF@/notebooks/{name}.ipynb", tokens())
    return {
        "Colab": f"https://colab.research.google.com/{page.replace('github.com', 'github', 1)}",
        "Kaggle": f"https://kaggle.com/kernels/welcome?src=https://{page}",
    }


def badges(name: str) -> str:
    """The Colab and Kaggle badges of a notebook, as markdown; without an address, a sentence that says so."""
    places = opened(name)
    return (
        f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({places['Colab']})\n"
        f"[![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)]({places['Kaggle']})"
        if has_address()
        else TO_SET
    )


def sources(names: list[str], folder: Path = SOURCES) -> list[Path]:
    """The sources whose names begin with one of `names`; all where none is given."""
    found = [path for path in sorted(folder.glob("*.py")) if re.fullmatch(r"\d\d_\w+", path.stem)]
    found = [path for path in found if path.stem.startswith(tuple(names) or "")]
    if not found:
        raise SystemExit(f"No source named {' or '.join(names) or 'NN_topic.py'} in notebooks/source/.")
    return found


def built(names: list[str], folder: Path = NOTEBOOKS) -> list[Path]:
    """The built notebooks whose names begin with one of `names`; all where none is given.

    Others, such as copies, have no source: they are named and left out.
    """
    ours = {path.stem for path in sources([], folder / "source")}
    there = sorted(folder.glob("*.ipynb"))
    if others := [path.name for path in there if path.stem not in ours]:
        print(f"Left out, without a source in notebooks/source/: {', '.join(others)}", file=sys.stderr)
    found = [path for path in there if path.stem in ours and path.stem.startswith(tuple(names) or "")]
    if not found:
        raise SystemExit(f"No notebook named {' or '.join(names) or 'NN_topic.ipynb'} in notebooks/.")
    return found


def load(source: Path) -> NotebookNode:
    """A source as a notebook without outputs: ids, slide types and folds set, address and version written in.

    A cell's id is the hash of its text in the source: a rebuild changes few lines, and a fork keeps all ids.
    """
    notebook = jupytext.read(source, fmt="py:percent")
    notebook.metadata = METADATA
    values, seen = tokens() | {"@BADGES@": badges(source.stem)}, Counter()
    for cell in notebook.cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
        seen[digest] += 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
        tags = {"tags": cell.metadata["tags"]} if "tags" in cell.metadata else {}
        cell.metadata = {"slideshow": {"slide_type": slide_type(cell)}} | tags
        fold(cell)
        cell.source = substitute(cell.source, values)
    return notebook


def fold(cell: NotebookNode) -> None:
    """Close what the reader need not see: the code of set-up, imports and extra code, and the speaker's notes."""
    if cell.cell_type == "code" and cell.source.startswith(PLUMBING):
        cell.source = f"{TITLE}{cell.source[2].upper()}{cell.source[3:]}"
        cell.metadata |= FOLD | {"tags": [*cell.metadata.get("tags", []), HIDDEN]}
    elif cell.metadata["slideshow"]["slide_type"] == "notes":
        cell.source = cell.source.join(NOTES)


def is_folded(cell: NotebookNode) -> bool:
    return HIDDEN in cell.metadata.get("tags", [])


def slide_type(cell: NotebookNode) -> str:
    """The slide type that the source gives; else headings open a slide or sub-slide, and other cells are fragments."""
    if given := cell.metadata.get("slideshow", {}).get("slide_type"):
        return given
    heading = re.match(r"(#+) ", cell.source) if cell.cell_type == "markdown" else None
    if not heading:
        return "fragment"
    return "slide" if len(heading[1]) <= 2 else "subslide"


def substitute(text: str, values: dict[str, str]) -> str:
    for token, value in values.items():
        text = text.replace(token, value)
    return text


def seconds(cell: NotebookNode) -> float:
    """How long a code cell took in the stored run; 0 where that was not recorded."""
    times = cell.metadata.get("execution", {})
    start, end = times.get("iopub.execute_input"), times.get("shell.execute_reply")
    if not (start and end):
        return 0.0
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def run_time(notebook: NotebookNode) -> str:
    """The time of the whole stored run in words, rounded up: "20 s", "1.5 minutes", "3 minutes"."""
    total = sum(seconds(cell) for cell in notebook.cells)
    if total <= 55:
        return f"{max(5, 5 * -(-total // 5)):.0f} s"
    halves = -(-total // 30)
    return "1 minute" if halves == 2 else f"{halves / 2:g} minutes"


def is_set_up(cell: NotebookNode) -> bool:
    """Whether a code cell is the set-up cell, which decides no result."""
    return bool(re.search(r"^(\w+ = )?utils\.start\(", cell.source, re.M))


def code(notebook: NotebookNode) -> list[str]:
    """What Python reads in a notebook's cells, but for the set-up cell: comments and line breaks make no difference."""
    return ["set-up" if is_set_up(cell) else ast.dump(ast.parse(cell.source)) for cell in code_cells(notebook)]


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def markdown(notebook: NotebookNode) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def execute(notebook: NotebookNode, name: str, settings: dict[str, str], folder: Path = NOTEBOOKS) -> None:
    """Run all cells in a fresh kernel in `folder`; the notebook then holds outputs and times."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COURSE_")} | settings
    with tqdm(total=len(code_cells(notebook)), desc=name, unit="cell") as bar:
        NotebookClient(
            notebook,
            kernel_name="python3",
            timeout=600,
            extra_arguments=[
                "--log-level=ERROR"
            ],  # else every kernel warns that it speaks TCP, which alarms the reader
            resources={"metadata": {"path": str(folder)}},
            store_widget_state=False,
            coalesce_streams=True,
            on_cell_complete=lambda cell, cell_index: bar.update(),
        ).execute(env=environment)


def strip(notebook: NotebookNode) -> None:
    """Remove what means nothing without a kernel: widgets (tqdm's bars among them), bars written as text, versions;
    and of the pictures what nobody sees."""
    notebook.metadata = METADATA
    for cell in code_cells(notebook):
        for output in cell.outputs:
            if output.output_type == "stream" and output.name == "stderr":
                pieces = [piece for piece in re.split(r"[\r\n]", output.text) if piece.strip()]
                output.text = "\n".join(piece for piece in pieces if not PROGRESS_BAR.search(piece))
        cell.outputs = [
            output
            for output in cell.outputs
            if "application/vnd.jupyter.widget-view+json" not in output.get("data", {}) and output.get("text") != ""
        ]
        for data in (output["data"] for output in cell.outputs if "image/png" in output.get("data", {})):
            data["image/png"] = base64.b64encode(quantised(base64.b64decode(data["image/png"]))).decode()


def quantised(png: bytes) -> bytes:
    """The picture with a palette of 256 colours where the eye sees no difference, else as it is, in fewer bytes.

    No difference: of the 255 steps of a colour, 3 in the mean at most and 24 at the worst place of the picture, blurred
    over 3 x 3 pixels (as the eye blurs a single pixel of another colour).
    """
    picture = Image.open(io.BytesIO(png))
    if picture.convert("RGBA").getextrema()[3] != (255, 255):  # a palette has no half-transparent pixels
        return png
    picture = picture.convert("RGB")
    small = picture.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1)
    mean, largest = difference(picture, small.convert("RGB"))
    file = io.BytesIO()
    (small if mean <= 3 and largest <= 24 else picture).save(file, "PNG", optimize=True)
    return min(png, file.getvalue(), key=len)


def difference(one: Image.Image, other: Image.Image) -> tuple[float, int]:
    """How far (of 255) the colours of two pictures are apart: in the mean; at most, after a blur over 3 x 3 pixels."""
    blurred = [picture.filter(ImageFilter.BoxBlur(1)) for picture in (one, other)]
    mean = np.asarray(ImageChops.difference(one, other)).mean()
    return float(mean), int(np.asarray(ImageChops.difference(*blurred)).max())


def keep_outputs(notebook: NotebookNode, built: NotebookNode, name: str) -> None:
    """Give the built notebook's outputs and times to the new one. Raises SystemExit where the code is not the same."""
    if code(built) != code(notebook):
        raise SystemExit(f"{name}: its code has changed since the stored run. Run it: make notebooks NOTEBOOK={name}")
    for before, after in zip(code_cells(built), code_cells(notebook), strict=True):
        after.outputs, after.execution_count = before.outputs, before.execution_count
        after.metadata["execution"] = before.metadata.get("execution", {})


def build(source: Path, target: Path, run: bool = True) -> None:
    """Write one notebook. `run=False` keeps the outputs of the built one."""
    notebook = load(source)
    if run:
        execute(notebook, source.stem, SETTINGS, target.parent)
        strip(notebook)
    elif target.exists():
        keep_outputs(notebook, nbformat.read(target, as_version=4), source.stem)
    else:
        raise SystemExit(f"{target.name} was never run. Run it: make notebooks NOTEBOOK={source.stem}")
    for cell in notebook.cells:
        cell.source = cell.source.replace("@TIME@", run_time(notebook))
    nbformat.write(notebook, target)


def draw_frames(source: Path, folder: Path) -> None:
    """All pictures of a notebook's explorers, as tools/frames.py describes them, in folder/NN_topic, emptied before."""
    target = folder.resolve() / source.stem
    shutil.rmtree(target, ignore_errors=True)
    notebook, cells = load(source), []
    draw = nbformat.v4.new_code_cell(f"from tools import frames\nframes.write({str(target)!r})")
    for cell in notebook.cells:  # at once, as later cells give other values to the names that an explorer draws
        cells += [cell, draw] if cell.cell_type == "code" and "explore(" in cell.source else [cell]
    notebook.cells = cells
    execute(notebook, source.stem, SETTINGS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="beginnings of names, such as 05; default all")
    parser.add_argument("--no-run", action="store_true", help="keep the stored outputs")
    parser.add_argument("--frames", type=Path, help="draw the explorers' pictures into this folder, write no notebook")
    arguments = parser.parse_args()
    for source in sources(arguments.names):
        try:
            if arguments.frames:
                draw_frames(source, arguments.frames)
            else:
                build(source, NOTEBOOKS / f"{source.stem}.ipynb", run=not arguments.no_run)
        except CellExecutionError as error:
            # Its text holds the cell and the cell's traceback, which is what helps.
            raise SystemExit(f"{source.name} was not built, a cell failed:\n{error}") from None


if __name__ == "__main__":
    main()
