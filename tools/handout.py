"""A notebook to hand out, in handout/: without outputs, hints and solutions; as plain Python; and to print. And the
answers, for those who teach: each exercise with its solution, its hints, and the usual wrong answers.

    python -m tools.handout 05

COURSE_HINTS=0, which the notebook sets, switches hints and solutions off; who looks for them finds them in the course's
files. PDF needs Chromium on the path.
"""

import argparse
import html
import importlib
import inspect
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from copy import deepcopy
from importlib.metadata import files
from pathlib import Path

import jupytext
import nbformat
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from tools.build import NOTES, ROOT, built, code_cells
from utils.lessons import Exercise

HANDOUT = ROOT / "handout"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ASKED = re.compile(r"^#? ?exercises\.\w+\.(hint|solution)\(\)\n?", re.M)
(MATHJAX,) = (file.locate() for file in files("sphinx-mathjax-offline") if file.name == "tex-svg-full.js")
PRINT = (  # for what prints; nbconvert's own is an older one, in the network
    "<style>pre { white-space: pre-wrap !important }</style>"
    "<script>MathJax = {tex: {inlineMath: [['$', '$']]}}</script>"
    f'<script src="{Path(MATHJAX).as_uri()}"></script>'
)
OFF = """# @title Hints and solutions are switched off.
import os

os.environ["COURSE_HINTS"] = "0\""""


def handed_out(notebook: NotebookNode) -> NotebookNode:
    """A notebook without outputs, notes for the instructor, hints and solutions."""
    notebook = deepcopy(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.metadata.pop("execution", None)
            cell.source = ASKED.sub("", cell.source).rstrip()
    notebook.cells = [cell for cell in notebook.cells if cell.source and not cell.source.startswith(NOTES[0])]
    off = new_code_cell(OFF, metadata=dict(code_cells(notebook)[0].metadata))
    notebook.cells.insert(notebook.cells.index(code_cells(notebook)[0]), off)
    return notebook


def printed(notebook: NotebookNode, target: Path) -> None:
    """A notebook as PDF, by Chromium."""
    with tempfile.TemporaryDirectory() as work:
        page = Path(work) / "page.html"
        text, _ = HTMLExporter(mathjax_url="none").from_notebook_node(notebook)
        page.write_text(text.replace("</head>", PRINT + "</head>", 1), encoding="utf-8")
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
        command += ["--virtual-time-budget=20000", f"--print-to-pdf={target}", page.as_uri()]
        subprocess.run(command, check=True, capture_output=True)


def answers(notebook: NotebookNode, title: str) -> str:
    """The page of answers: each exercise's task, solution, hints, and wrong answers with what their check says."""
    code = "\n".join(cell.source for cell in code_cells(notebook))
    topic = re.search(r"from utils.exercises import (\w+) as exercises", code)[1]
    exercises = importlib.import_module(f"utils.exercises.{topic}")
    wrong = importlib.import_module(f"tests.wrong_answers.{topic}").WRONG
    parts = [f"<!doctype html><meta charset='utf-8'><title>{html.escape(title)}: answers</title>"]
    parts.append("<style>body{font-family:sans-serif;max-width:60rem;margin:auto;line-height:1.5}pre{background:#f4f4f4;"
                 "padding:.6em;overflow-x:auto}</style>")  # fmt: skip
    parts.append(f"<h1>{html.escape(title)}: answers</h1>")
    for name, exercise in vars(exercises).items():
        if not isinstance(exercise, Exercise):
            continue
        solution = textwrap.dedent(inspect.getsource(exercise.reference)).strip()
        hints = "".join(f"<li>{html.escape(hint)}</li>" for hint in exercise.hints)
        parts.append(f"<h2>{html.escape(exercise.title)}</h2><pre>{html.escape(solution)}</pre><ol>{hints}</ol>")
        told = "".join(f"<li>{said(exercise, answer)}</li>" for which, answer, _ in wrong if which == name)
        parts.append(f"<p>Usual wrong answers, and what the check says:</p><ul>{told}</ul>" if told else "")
    return "\n".join(parts)


def said(exercise: Exercise, answer) -> str:
    """A wrong answer, as far as it can be shown, and the sentence of its check."""
    try:
        sentence = exercise.verdict(answer)[1]
    except Exception as error:  # an answer may fail in any way
        sentence = f"{type(error).__name__}: {error}"
    if inspect.isroutine(answer) or inspect.isclass(answer):
        try:
            shown = textwrap.dedent(inspect.getsource(answer)).strip()
        except OSError:
            shown = getattr(answer, "__name__", repr(answer))
    else:
        shown = repr(answer)
    return f"<pre>{html.escape(shown[:600])}</pre>{html.escape(sentence)}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="beginnings of names, such as 05; default all")
    asked = parser.parse_args().names
    try:
        paths = built(asked)
    except SystemExit as unknown:
        print(unknown, file=sys.stderr)
        return 2
    HANDOUT.mkdir(exist_ok=True)
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        plain = handed_out(notebook)
        nbformat.write(plain, HANDOUT / path.name)
        jupytext.write(plain, HANDOUT / f"{path.stem}.py", fmt="py:percent")
        if CHROMIUM:
            printed(plain, HANDOUT / f"{path.stem}.pdf")
        (HANDOUT / f"{path.stem}-answers.html").write_text(answers(notebook, path.stem), encoding="utf-8")
        print(f"{HANDOUT / path.stem}: .ipynb, .py{', .pdf' if CHROMIUM else ' (no .pdf: no Chromium)'}, -answers.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
