"""The built notebooks as slides with speaker notes, in slides/, which needs no network and can be carried on a stick.

    python -m tools.slides        all
    python -m tools.slides 05     those whose name begins so

Open slides/NN_topic.html in a browser; S opens the speaker's view. reveal.js and MathJax are taken from the packages in
PACKAGES, which are fetched once and not installed.
"""

import argparse
import ast
import re
import shutil
import subprocess
import sys
import tempfile
from copy import deepcopy
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter
from nbformat import NotebookNode
from traitlets.config import Config

from tools.build import HIDDEN, NOTES, ROOT, TO_SET, built, is_folded

SLIDES = ROOT / "slides"
SIZE = 1280, 720
TOLD = {"claim", "explore", "fact", "show", "summary"}  # calls of which a class needs what they give, not how
FOR_TOOLS = re.compile(r"  # fmt: skip$", flags=re.MULTILINE)
PACKAGES = {  # package -> (the folder in it, its name in slides/assets)
    "sphinx-revealjs==3.2.1": ("sphinx_revealjs/_static/revealjs", "reveal"),
    "nbclassic==1.3.3": ("nbclassic/static/components/MathJax", "mathjax"),
}


def fetch_assets() -> None:
    """reveal.js and MathJax into slides/assets, where they are not there yet.

    Raises SystemExit where the registry is out of reach.
    """
    for package, (folder, name) in PACKAGES.items():
        target = SLIDES / "assets" / name
        if target.exists():
            continue
        with tempfile.TemporaryDirectory() as unpacked:
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", unpacked, package]
            if subprocess.run(command).returncode:
                raise SystemExit(
                    f"{package} could not be fetched: connect to the internet once, then `make slides` works without."
                )
            partial = target.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(Path(unpacked) / folder, partial)
            partial.rename(target)


def is_told(statement: ast.stmt) -> bool:
    """Of a claim and its like a class needs what they give; so too where a machine or a data set decides on a claim."""
    if isinstance(statement, ast.If):
        return any(getattr(node, "id", "") in ("claim", "fact") for node in ast.walk(statement))
    return bool(re.match(rf"({'|'.join(TOLD)})\(", ast.unparse(statement)))


def told(source: str) -> str:
    """What of a cell's code a class has to see: no figure's lines, no claim's, no explorer, no comment for a tool."""
    if re.search(r"^explore\(", source, flags=re.MULTILINE):
        return ""
    lines, plotting = source.splitlines(), False
    for statement in ast.parse(source).body:
        plotting = plotting or bool(re.match(r"fig\b.* = ", ast.unparse(statement)))
        ends = is_told(statement)
        if plotting or ends:
            lines[statement.lineno - 1 : statement.end_lineno] = [None] * (statement.end_lineno - statement.lineno + 1)
        plotting = plotting and not ends
    text = "\n".join(line for line in lines if line is not None and not line.startswith("# NBVAL"))
    return re.sub(r"\n{3,}", "\n\n\n", FOR_TOOLS.sub("", text)).strip("\n")


def at_headings(cells: list[NotebookNode]) -> list[NotebookNode]:
    """Cells of which none goes from one heading's text into the next heading: that opens a slide of its own."""
    found = []
    for cell in cells:
        before, heading, after = cell.source.partition("\n\n### ")
        found.append(cell)
        if cell.cell_type == "markdown" and heading and not before.startswith("#"):
            rest = deepcopy(cell)
            cell.source, rest.source = before, "### " + after
            rest.id, rest.metadata.slideshow.slide_type = f"{cell.id}-rest", "subslide"
            found.append(rest)
    return found


def html(notebook: NotebookNode, title: str) -> str:
    """A built notebook as one page of slides that loads only what lies in assets/ beside it."""
    exporter = SlidesExporter(
        template_name="slides_template",
        extra_template_basedirs=[str(ROOT / "tools")],
        reveal_url_prefix="assets/reveal",
        mathjax_url="assets/mathjax/MathJax.js?config=TeX-AMS-MML_HTMLorMML-full",
        reveal_width=str(SIZE[0]),
        reveal_height=str(SIZE[1]),
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        reveal_theme="white",  # whose fonts lie beside it; others load them from the web
        config=Config(TagRemovePreprocessor={"enabled": True, "remove_input_tags": {HIDDEN}}),
    )
    notebook.metadata.title = title
    first = notebook.cells[0]
    # badges are pictures of the web, and nobody writes on a slide
    first.source = re.sub(r"^(\[!\[Open|\*\*To keep).*\n?", "", first.source.replace(TO_SET, ""), flags=re.MULTILINE)
    notebook.cells = at_headings(notebook.cells)
    for cell in notebook.cells:
        if cell.metadata.slideshow.slide_type == "notes":
            cell.source = cell.source.removeprefix(NOTES[0]).removesuffix(
                NOTES[1]
            )  # the speaker's view shows them open
        elif cell.cell_type == "code" and cell.get("outputs") and not is_folded(cell):
            cell.source = told(cell.source)
            if not cell.source:
                cell.metadata.tags = [HIDDEN]
        cell.source = FOR_TOOLS.sub("", cell.source)
        if (is_folded(cell) or cell.source.startswith("### Lecture topics")) and not cell.get("outputs"):
            cell.metadata.slideshow.slide_type = "skip"
    return exporter.from_notebook_node(notebook)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="beginnings of names, such as 05; default: all")
    notebooks = built(parser.parse_args().names)
    fetch_assets()
    for path in notebooks:
        page = SLIDES / f"{path.stem}.html"
        page.write_text(html(nbformat.read(path, as_version=4), path.stem), encoding="utf-8")
        print(page.relative_to(ROOT))


if __name__ == "__main__":
    main()
