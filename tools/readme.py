"""What is generated in README.md and docs/: the clone line, and the tables of notebooks, topics, plans for a lecture,
runs and measured tables.

    python -m tools.readme

A page says where, between the marks <!-- name --> and <!-- /name -->. All are read off the built notebooks,
data/runs.csv (which `python -m tools.check_claims NN` writes) and data/measured/.
"""

import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools import fingerprint, measure_tables
from tools.build import NOTEBOOKS, ROOT, TO_SET, built, has_address, markdown, opened, run_time, tokens

README, DOCS, RUNS = ROOT / "README.md", ROOT / "docs", ROOT / "data/runs.csv"


def headed(notebook: NotebookNode, name: str) -> tuple[str, str]:
    """A notebook's title without its number, and its question. Raises SystemExit where its first cell lacks one."""
    text = notebook.cells[0].source
    title = re.search(r"^# (?:\d\d\W+)?(.+)", text, re.M)
    question = re.search(r"^\*\*Question[:.]?\*\*:? *(.+?)(?:\n\n|\Z)", text, re.M | re.S)
    if not (title and question):
        raise SystemExit(f"{name}: the first cell needs a title (# 05 · ...) and a line **Question:** ...")
    return title[1].strip(), " ".join(question[1].split())


def table(folder: Path = NOTEBOOKS) -> str:
    """The table of the notebooks that are built, below a line on where else they open."""
    public = has_address()
    kaggle = "Each also opens on Kaggle (*Settings > Internet* must be on). There and on Colab it fetches the course."
    rows = [kaggle if public else TO_SET, "", "| | notebook | question | | time |", "|---|---|---|---|---|"]
    for path in built([], folder):
        notebook = nbformat.read(path, as_version=4)
        title, question = headed(notebook, path.name)
        colab = f"[Colab]({opened(path.stem)['Colab']})" if public else ""
        link = f"[{title}](notebooks/{path.name})"
        rows.append(f"| {path.stem[:2]} | {link} | {question} | {colab} | {run_time(notebook)} |")
    return "\n".join(rows)


def lecture_topics(notebook: NotebookNode) -> list[list[str]]:
    """The rows of the table under a notebook's heading "Lecture topics": topic, section or sections, lectures."""
    part = re.search(r"^##+ Lecture topics\n(.*?)(?=^##|\Z)", markdown(notebook), re.M | re.S)
    lines = re.findall(r"^\| *(.+?) *\|$", part[1], re.M) if part else []
    return [re.split(r" *\| *", line) for line in lines[2:]]


def topics(folder: Path = NOTEBOOKS) -> str:
    """The table of the lecture topics that are taught so far."""
    rows = ["| topic | notebook | section | lectures |", "|---|---|---|---|"]
    for path in built([], folder):
        for topic, section, lectures in lecture_topics(nbformat.read(path, as_version=4)):
            rows.append(f"| {topic} | [{path.stem[:2]}](../notebooks/{path.name}) | {section} | {lectures} |")
    return "\n".join(rows)


def minutes(notebook: NotebookNode) -> dict[str, int]:
    """How long each numbered section takes in class, as its heading says: {"1": 10, ...}."""
    return {number: int(time) for number, time in re.findall(r"^## (\d+)\. .*\((\d+) min", markdown(notebook), re.M)}


def plan(notebook: NotebookNode) -> dict[str, str]:
    """A notebook's plan for 75 minutes: what stands behind "Core", "Optional" and "Where to stop" in its notes."""
    return {
        name: " ".join(text.split())
        for name, text in re.findall(
            r"^- \*\*(Core|Optional|Where to stop):\*\* (.*?)(?=^- |\n\n|\Z)", markdown(notebook), re.M | re.S
        )
    }


def plan_minutes(notebook: NotebookNode) -> int:
    """The minutes of the sections that a plan's first words name as core: "sections 1, 3 and 4: ..."."""
    core = re.findall(r"\d+", plan(notebook).get("Core", "").split(":")[0])
    return sum(time for number, time in minutes(notebook).items() if number in core)


def plans(folder: Path = NOTEBOOKS) -> str:
    """The plans for a lecture, one row a notebook."""
    rows = ["| | core | optional | where to stop |", "|---|---|---|---|"]
    for path in built([], folder):
        notebook = nbformat.read(path, as_version=4)
        core, optional, stop = (plan(notebook).get(part, "") for part in ("Core", "Optional", "Where to stop"))
        link = f"[{path.stem[:2]}](../notebooks/{path.name})"
        rows.append(f"| {link} | {core} {plan_minutes(notebook)} minutes. | {optional} | {stop} |")
    return "\n".join(rows)


def spans(numbers: list[int]) -> str:
    """Numbers in words: [0, 1, 2, 5] is "0 to 2, 5"."""
    numbers, parts = sorted(set(numbers)), []
    for first in (n for n in numbers if n - 1 not in numbers):
        last = next(n for n in range(first, first + len(numbers)) if n + 1 not in numbers)
        parts.append(f"{first} to {last}" if last > first else f"{first}")
    return ", ".join(parts)


def seeds(runs: list[dict]) -> str:
    """The seeds of some runs in words: those on which all claims held, and those on which not."""
    held, fell = (spans([int(run["seed"]) for run in runs if (run["fell"] == "0") == good]) for good in (True, False))
    return f"{held} (not: {fell})".strip() if fell else held


def recorded(file: Path = RUNS) -> list[dict]:
    """The runs that data/runs.csv holds, each with "where" it ran, in words."""
    where = "{data}, {device}, torch {torch}, Python {python}"
    return [run | {"where": where.format_map(run)} for run in measure_tables.read(file)]


def runs(folder: Path = NOTEBOOKS, file: Path = RUNS) -> str:
    """The table of what ran where: for each notebook the seeds on which all its claims held.

    A run in which something fell is named, and so is one of older code.
    """
    done = recorded(file)
    places = list(dict.fromkeys(run["where"] for run in done))
    rows = ["| " + " | ".join(["", *places]) + " |", "|---" * (1 + len(places)) + "|"]
    for path in built([], folder):
        now = fingerprint.of_notebook(nbformat.read(path, as_version=4))
        cells = [f"[{path.stem[:2]}](../notebooks/{path.name})"]
        for place in places:
            mine = [run for run in done if (run["notebook"], run["where"]) == (path.stem, place)]
            new, old = (seeds([run for run in mine if (run["code"] == now) == same]) for same in (True, False))
            cells.append("; ".join([new] * bool(new) + [f"older code: {old}"] * bool(old)) or "–")
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def measured() -> str:
    """A sentence on the tables of data/measured/: which of their rows were made by older code."""
    counts, older = {}, {}
    for name in measure_tables.names():
        rows, now = measure_tables.read(measure_tables.MEASURED / f"{name}.csv"), measure_tables.code(name)
        counts[name], older[name] = len(rows), sum(row["code"] != now for row in rows)
    some = ", ".join(f"{number} of {counts[name]} in `{name}`" for name, number in older.items() if number)
    which = "all" if older == counts else some or "none"
    return f"{len(counts)} tables of {sum(counts.values()):,} runs. Made by older code: {which}."


def clone() -> str:
    """The lines that fetch the course."""
    if not has_address():
        return "Open a terminal in the folder that holds this file."
    repo = tokens()["@REPO@"]
    return f"```bash\ngit clone --depth 1 {repo}\ncd {repo.split('/')[-1]}\n```"


PARTS = {
    README: {"clone": clone, "notebooks": table},
    DOCS / "topics.md": {"topics": topics},
    DOCS / "teaching.md": {"plans": plans},
    DOCS / "evidence.md": {"runs": runs, "measured": measured},
}


def page(path: Path) -> str:
    """A page with its generated parts written anew."""
    text = path.read_text(encoding="utf-8")
    for name, make in PARTS[path].items():
        text = between(text, name, make(), path.name)
    return text


def between(text: str, name: str, content: str, page: str) -> str:
    """A page with what stands between the marks <!-- name --> and <!-- /name --> replaced. Raises SystemExit where they
    are missing."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if start not in text or end not in text:
        raise SystemExit(f"{page} has lost its marks {start} ... {end}: its tables are written between them.")
    return text.split(start)[0] + f"{start}\n{content}\n{end}" + text.split(end, 1)[1]


def main() -> None:
    for path in PARTS:
        path.write_text(page(path), encoding="utf-8")


if __name__ == "__main__":
    main()
