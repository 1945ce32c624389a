"""The course as a website, in site/: the built notebooks and docs/, to read, search and play with without a kernel.

    python -m tools.site

Needs no network, and the pages ask no other address. Explorers move by pictures drawn earlier, in frames/: those of a
notebook that are not there, or that older code drew, are drawn now by running it. FRAMES=0 leaves stills.

Sphinx, with docs/conf.py, builds the pages from a copy in which each part below has put what a repository lacks.
"""

import html
import itertools
import json
import os
import re
import shutil
import sys
import tempfile
from importlib.metadata import files
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_output
from sphinx.cmd.build import main as sphinx

from tools import fingerprint, measure_tables, readme
from tools.build import (
    NOTEBOOKS,
    PLACEHOLDER,
    ROOT,
    TITLE,
    TO_SET,
    built,
    code_cells,
    draw_frames,
    is_folded,
    sources,
    substitute,
    tokens,
)

SITE, FRAMES, SLIDES, DOCS = ROOT / "site", ROOT / "frames", ROOT / "slides", ROOT / "docs"
OUTSIDE = re.compile(r"(`+).*?\1|\$\$?[^$]+\$\$?|!?\[[^\]]*\]\([^)]*\)|<[^>]+>|^#.*?$|\{[^}]*\}`", re.M | re.S)


# ---- explorers -------------------------------------------------------------------------------------------------------


def drawn(name: str) -> Path | None:
    """The folder with the pictures of a notebook's explorers, drawn now where it must be. None for stills."""
    folder, (source,) = FRAMES / name, sources([name])
    code = fingerprint.of_notebook(nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4))
    made_by = folder / "code"
    if made_by.exists() and made_by.read_text() == code:
        return folder
    if os.environ.get("FRAMES") == "0":
        return None
    draw_frames(source, FRAMES)
    folder.mkdir(parents=True, exist_ok=True)
    made_by.write_text(code)
    return folder


def explorer(table: dict, folder: str, number: str) -> str:
    """An explorer as HTML: its first picture and the controls. docs/_static/explorer.js changes the picture."""
    controls, pictures = table["controls"], table["pictures"]
    sizes = [len(control["values"]) for control in controls]
    places = list(itertools.product(*map(range, sizes)))
    first = pictures[places.index(tuple(control["first"] for control in controls))]
    rows = []
    for i, control in enumerate(controls):
        name, values, place = control["name"], control["values"], control["first"]
        label = f'<label for="{number}-{i}">{html.escape(name)}</label>'
        if control["kind"] == "Dropdown":
            options = "".join(
                f'<option value="{k}"{" selected" * (k == place)}>{html.escape(value)}</option>'
                for k, value in enumerate(values)
            )
            rows.append(f'{label}<select id="{number}-{i}">{options}</select><span></span>')
        else:
            rows.append(
                f'{label}<input id="{number}-{i}" type="range" min="0" max="{len(values) - 1}" value="{place}" '
                f'aria-valuetext="{html.escape(values[place])}"><output>{html.escape(values[place])}</output>'
            )
    data = {"folder": folder, "values": [control["values"] for control in controls], "pictures": pictures}
    data = json.dumps(data).replace("</", "<\\/")  # a text may not end the script
    alt = html.escape(first["alt"])
    return (
        f'<figure class="explorer" id="{number}"><img src="{folder}/{first["file"]}" alt="{alt}">'
        f'<div class="controls">{"".join(rows)}</div><figcaption>{alt}</figcaption>'
        f'<script type="application/json">{data}</script></figure>'
    )


def with_explorers(notebook: NotebookNode, name: str, folder: Path, static: Path) -> None:
    """Put each explorer's controls in place of its still picture, and its pictures into the site's static files."""
    cells = [cell for cell in code_cells(notebook) if re.search(r"^explore\(", cell.source, re.M)]
    tables = sorted(folder.glob("*.json"), key=lambda path: int(path.stem))
    if len(cells) != len(tables):
        raise SystemExit(f"{name}: {len(cells)} explorers, but frames/{name} has {len(tables)}. Delete that folder.")
    for cell, path in zip(cells, tables, strict=True):
        target = static / "frames" / name
        target.mkdir(parents=True, exist_ok=True)
        for picture in folder.glob(f"{path.stem}-*.webp"):
            shutil.copy(picture, target)
        number = f"explorer-{name[:2]}-{path.stem}"
        page = explorer(json.loads(path.read_text("utf-8")), f"../_static/frames/{name}", number)
        kept = [out for out in cell.outputs if out.output_type == "stream"]
        cell.outputs = [*kept, new_output("display_data", {"text/html": page})]


# ---- texts -----------------------------------------------------------------------------------------------------------


def addressed(text: str, folder: str, source: Path) -> str:
    """Links to files that are no pages lead to the repository, or are text where its address is still to be set. What
    leads to Colab and Kaggle goes: each page has buttons, or says above that the address is missing."""
    text = re.sub(r"\[!\[Open in \w+\]\([^)]*\)\]\([^)]*\)\n?", "", text).replace(TO_SET, "")
    repository = substitute("@REPO@/blob/@REF@", tokens())

    def link(found: re.Match) -> str:
        words, target, anchor = found.groups()
        inside = os.path.normpath(os.path.join(folder, target))
        if (source / inside).is_file() and not inside.endswith(".py") or not (ROOT / inside).exists():
            return found[0]
        return words if PLACEHOLDER in repository else f"[{words}]({repository}/{inside}{anchor or ''})"

    return re.sub(r"\[([^][]*)\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)", link, text)


def anchored(text: str, name: str) -> str:
    """A name for each section of a notebook, to which other pages link."""
    return re.sub(r"^(## (\d+)\. )", rf"(nb{name[:2]}-s\2)=\n\1", text, flags=re.M)


def sections_linked(text: str) -> str:
    """Links to a notebook followed by § and a number, and the rows of the table of topics, lead to the section."""
    text = re.sub(r"\[(\d\d)\]\([^)]*\.ipynb\) §(\d+)", r"[\1 §\2](#nb\1-s\2)", text)

    def row(found: re.Match) -> str:
        number, link, which = found.groups()
        return f"| {link} | " + ", ".join(f"[{s}](#nb{number}-s{s})" for s in which.split(", ")) + " |"

    return re.sub(r"\| (?=\[(\d\d)\])(\[\d\d\]\([^)]*\)) \| ([\d, ]+) \|", row, text)


def glossary(text: str) -> tuple[str, dict[str, str]]:
    """The glossary for Sphinx, which links its words, and for each way to write a word its entry."""
    words: dict[str, str] = {}

    def entry(found: re.Match) -> str:
        word, others, meaning = found.groups()
        names = [word, *(others or "").split(", ")]
        words.update({name: word for name in names if name and name not in words})
        shown = f"({others}) " if others else ""
        return f"{word}\n  {shown}{meaning}\n"

    body = re.sub(r"^- \*\*(.+?)\*\*(?: \(([^)]*)\))?: (.+)$", entry, text, flags=re.M)
    parts = re.split(r"(^## \w+$)", body, flags=re.M)
    for i in range(2, len(parts), 2):
        parts[i] = f"\n\n```{{glossary}}\n{parts[i].strip()}\n```\n\n"
    return "".join(parts), words


def words_linked(texts: list[str], words: dict[str, str]) -> list[str]:
    """Each word of the glossary, where it first comes in a notebook, leads to its line there."""
    left = dict(words)
    names = sorted(left, key=len, reverse=True)
    one = re.compile(r"(?<![\w-])(" + "|".join(re.escape(name) for name in names) + r")(?![\w-])", re.I)
    exact = {name.lower(): name for name in names}

    def linked(text: str) -> str:
        def term(found: re.Match) -> str:
            name = exact[found[0].lower()]
            if name not in left:
                return found[0]
            entry = left[name]
            for other in [other for other, its in left.items() if its == entry]:
                del left[other]
            return f"{{term}}`{found[0]} <{entry}>`"

        pieces, end = [], 0
        for skip in OUTSIDE.finditer(text):
            pieces += [one.sub(term, text[end : skip.start()]), skip[0]]
            end = skip.end()
        return "".join([*pieces, one.sub(term, text[end:])])

    return [linked(text) for text in texts]


# ---- the map, and the evidence ---------------------------------------------------------------------------------------


def course_map() -> str:
    """The notebooks as a map: a box each, below those that its line "Before this" names."""
    depth: dict[str, int] = {}
    levels: dict[int, list[str]] = {}
    for path in built([]):
        notebook, number = nbformat.read(path, as_version=4), path.stem[:2]
        line = re.search(r"\*\*Before this:\*\* (.*)", notebook.cells[0].source)[1]
        before = sorted(set(re.findall(r"\b\d\d\b", line)) & depth.keys())
        depth[number] = 1 + max((depth[n] for n in before), default=-1)
        title, _ = readme.headed(notebook, path.name)
        after = f"after {', '.join(before)}" if before else "begin here"
        levels.setdefault(depth[number], []).append(
            f'<a class="box" href="notebooks/{path.stem}.html"><b>{number}</b> {html.escape(title)}<br>'
            f"<small>{after} · runs in {html.escape(readme.run_time(notebook))}</small></a>"
        )
    rows = "".join(f'<div class="level">{"".join(boxes)}</div>' for _, boxes in sorted(levels.items()))
    return f'<nav class="course-map" aria-label="The course as a map">{rows}</nav>'


def slides() -> str:
    """Links to the notebooks as slides, where `make slides` has made them."""
    links = [f'<a href="../slides/{path.name}">{path.stem[:2]}</a>' for path in sorted(SLIDES.glob("*.html"))]
    return f"```{{raw}} html\n<p>The slides: {' · '.join(links)}.</p>\n```" if links else ""


def claims(notebook: NotebookNode) -> list[dict[str, str]]:
    """What a stored run claims, in order: {"kind", "text", "figures", "same", "section"}."""
    found, section = [], ""
    shape = r"^(✓ holds|✗ does not hold|= exact): (.*?)(?:  \[(.*?)\])?(?:  \[The same for all: (.*?)\])?$"
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            if heads := re.findall(r"^## (\d+)\. ", cell.source, re.M):
                section = heads[-1]
            continue
        for output in cell.get("outputs", []):
            if m := re.match(shape, output.get("data", {}).get("text/plain", ""), re.S):
                claim = {"kind": "fact" if "exact" in m[1] else "claim", "section": section}
                found.append(claim | {"text": m[2], "figures": m[3] or "", "same": m[4] or ""})
    return found


def evidence() -> str:
    """Every claim: what was measured, what was the same, on which seeds it held; and those that compare nothing."""
    done, parts, alone = readme.recorded(), [], []
    for path in built([]):
        notebook, number = nbformat.read(path, as_version=4), path.stem[:2]
        code = fingerprint.of_notebook(notebook)
        mine = [run for run in done if run["notebook"] == path.stem and run["code"] == code]
        where: dict[str, list[dict]] = {}
        for run in mine:
            where.setdefault(run["where"], []).append(run)
        ran = "; ".join(f"{place}: seeds {readme.seeds(runs)}" for place, runs in where.items())
        parts.append(f"## {number} · {readme.headed(notebook, path.name)[0]}\n")
        parts.append(f"All held on the stored run (drawings, seed 0). Runs of the same code: {ran or 'none yet'}.\n")
        tables = [name for name in measure_tables.names() if measure_tables.load_table(name).NOTEBOOK == number]
        if tables:
            names = ", ".join(f"[{name}](../data/measured/{name}.csv)" for name in tables)
            parts.append(f"Measured earlier: {names}.\n")
        for claim in claims(notebook):
            link = f"[§{claim['section']}](#nb{number}-s{claim['section']})" if claim["section"] else ""
            lines = [f"- **{claim['text']}** {link}"]
            lines += [f"  *{claim['figures']}*"] if claim["figures"] else []
            lines += [f"  The same for all: {claim['same']}."] if claim["same"] else []
            fell = [r for r in mine if claim["text"] in r.get("what", "").split(" | ")]
            lines += [f"  Fell on: {readme.spans([int(r['seed']) for r in fell])}."] if fell else []
            parts.append("\\\n".join(lines) + ("\\\n  Exact." if claim["kind"] == "fact" else ""))
            if claim["kind"] == "claim" and not claim["same"]:
                alone.append(f"- {number}: {claim['text']}")
        parts.append("")
    parts.append("## Claims that say of nothing that it was the same\n")
    parts.append("They compare nothing, or leave it open what else differs.\n")
    parts += alone
    return "\n".join(parts)


# ---- all together ----------------------------------------------------------------------------------------------------


def name_folds(notebook: NotebookNode) -> None:
    """On a folded cell stands its title, which says what is inside."""
    for cell in filter(is_folded, code_cells(notebook)):
        cell.metadata["mystnb"] = {"code_prompt_show": cell.source.splitlines()[0].removeprefix(TITLE)}


def stage(source: Path) -> None:
    """The pages as Sphinx is to read them, in a folder of their own."""
    static = source / "_static"
    shutil.copytree(DOCS / "_static", static)
    (mathjax,) = (file for file in files("sphinx-mathjax-offline") if file.name == "tex-svg-full.js")
    shutil.copy(mathjax.locate(), static)
    for folder in ("notebooks", "docs"):
        (source / folder).mkdir()
    pages = {path: Path("docs") / path.name for path in DOCS.glob("*.md")}
    pages |= {DOCS / "index.md": Path("index.md"), ROOT / "CONTRIBUTING.md": Path("CONTRIBUTING.md")}
    for path in built([]):  # so that a link can be told to lead to a page
        (source / "notebooks" / path.name).touch()
    for page in pages.values():
        (source / page).touch()
    for name in ("overview.png", "two_processes.py"):
        shutil.copy(DOCS / name, source / "docs")

    listed, words = glossary((DOCS / "glossary.md").read_text("utf-8"))
    for path, page in pages.items():
        text = listed if path.name == "glossary.md" else path.read_text("utf-8")
        text = text.replace("<!-- map -->", f"```{{raw}} html\n{course_map()}\n```" if "<!-- map -->" in text else "")
        text = text.replace("<!-- claims -->", evidence() if "<!-- claims -->" in text else "")
        text = text.replace("<!-- slides -->", slides())
        text = addressed(sections_linked(text), str(page.parent), source)
        (source / page).write_text(text, encoding="utf-8")
    for path in built([]):
        notebook = nbformat.read(path, as_version=4)
        texts = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
        sources_ = [addressed(cell.source, "notebooks", source) for cell in texts]
        for cell, text in zip(texts, words_linked(sources_, words), strict=True):
            cell.source = anchored(text, path.stem)
        name_folds(notebook)
        if folder := drawn(path.stem):
            with_explorers(notebook, path.stem, folder, static)
        nbformat.write(notebook, source / "notebooks" / path.name)


def main() -> None:
    with tempfile.TemporaryDirectory() as work:
        source, target = Path(work) / "source", Path(work) / "site"
        source.mkdir()
        stage(source)
        settings = ["-c", str(DOCS), "-D", f"html_static_path={source / '_static'}"]
        if sphinx(["-q", "-b", "html", "-W", "--keep-going", *settings, str(source), str(target)]):
            sys.exit("The site was not built: Sphinx says above what it could not read.")
        for useless in (*target.rglob("*.map"), target / ".buildinfo", target / "objects.inv"):
            useless.unlink(missing_ok=True)
        for useless in (".doctrees", "_sources"):
            shutil.rmtree(target / useless, ignore_errors=True)
        if SLIDES.is_dir():
            shutil.copytree(SLIDES, target / "slides")
        shutil.rmtree(SITE, ignore_errors=True)
        shutil.move(target, SITE)
    size = sum(file.stat().st_size for file in SITE.rglob("*") if file.is_file())
    print(f"{SITE / 'index.html'}: open it in a browser. {size / 1e6:.0f} MB.")


if __name__ == "__main__":
    main()
