"""The form of the notebooks: each equals its source, ran from top to bottom, and keeps the rules of the course.

A rule takes a built notebook and its name, and returns sentences that say what is wrong: none where all is well.
"""

import ast
import importlib
import json
import re
import statistics

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import build, readme
from tools.build import (
    FOLD,
    NOTES,
    PROGRESS_BAR,
    ROOT,
    SOURCES,
    TITLE,
    badges,
    built,
    code_cells,
    fold,
    is_folded,
    load,
    markdown,
    run_time,
    seconds,
    sources,
)
from tools.readme import PARTS, lecture_topics, minutes, page, plan, plan_minutes
from utils.lessons import Exercise

# Written before the rules of FORM below. Who rewrites one takes it off: the test of one that keeps them all fails here.
OLD = []
SLIDE_TYPES = {"slide", "subslide", "fragment", "skip", "notes", "-"}
UNTIMED = ("Summary", "Lecture topics", "Further reading", "Next notebook")  # sections that need no minutes
MACHINE_PATH = re.compile(r"(?<![\w.~])/(?:tmp|work|root|home|Users|content|kaggle|usr|opt)/[\w.]|[A-Z]:\\\\?Users")


def headline(cell) -> str:
    """How a cell is named in a sentence: its number and its first line."""
    first = next((line for line in cell.source.splitlines() if line.strip()), "(empty)")
    return f"cell {cell.id} ({first[:60]!r})"


def outputs(notebook):
    return [(cell, output) for cell in code_cells(notebook) for output in cell.outputs]


def ran_from_top_to_bottom(notebook, name):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"the cells were not run in order without gaps (their numbers: {counts}); build it: make notebooks"


def has_no_errors_or_warnings(notebook, name):
    for cell, output in outputs(notebook):
        if output.output_type == "error":
            yield f"{headline(cell)} stores an error: {output.ename}: {output.evalue}"
        if output.output_type == "stream" and output.name == "stderr":
            yield f"{headline(cell)} stores text on stderr: {output.text.strip()[:100]}"


def has_no_bars_or_widgets(notebook, name):
    if "widgets" in notebook.metadata:
        yield "its metadata hold the state of widgets, which mean nothing without a kernel"
    for cell, output in outputs(notebook):
        if "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
            yield f"{headline(cell)} stores a widget, which vanishes without a kernel"
        text = output.get("text", "") + str(output.get("data", {}).get("text/plain", ""))
        if PROGRESS_BAR.search(text):
            yield f"{headline(cell)} stores a progress bar"


def has_no_paths_of_a_machine(notebook, name):
    for cell, output in outputs(notebook):
        texts = {kind: data for kind, data in output.get("data", {}).items() if not kind.startswith("image/png")}
        if found := MACHINE_PATH.search(output.get("text", "") + json.dumps(texts)):
            yield f"{headline(cell)} stores a path of the machine that it was built on: {found[0]}"


def is_plumbing(cell):
    """Whether a code cell's first line says that its code is not the lesson."""
    first = cell.source.lstrip().lower()
    return first.startswith(("# extra code", "# set-up", "# what this notebook imports", "# @title", "#@title"))


def lesson_cells(notebook):
    """The code cells that teach: not set-up, imports and extra code."""
    return [cell for cell in code_cells(notebook) if not is_plumbing(cell)]


def cells_are_short(notebook, name):
    lengths = []
    for cell in code_cells(notebook):
        length = sum(bool(line.strip()) for line in cell.source.splitlines())
        if length == 0:
            yield f"{headline(cell)} is an empty code cell"
        if is_plumbing(cell):
            continue
        lengths.append(length)
        if length > 40:
            yield f"{headline(cell)} has {length} lines; 40 is the most: split it, or move what others need to utils/"
    if (median := statistics.median(lengths)) > 8:
        yield f"half of the lesson's cells have more than {median:g} lines; the median should be 8 or fewer"
    if (short := sum(length <= 20 for length in lengths) / len(lengths)) < 0.9:
        yield f"only {short:.0%} of the lesson's cells have 20 lines or fewer; nine in ten should"


def plumbing_is_folded(notebook, name):
    for cell in code_cells(notebook):
        keys = {key: cell.metadata.get(key) for key in FOLD}
        if is_plumbing(cell) and not (keys == FOLD and is_folded(cell) and cell.source.startswith(TITLE)):
            yield f"{headline(cell)} is not folded; build it: make address"
        if cell.source.startswith(TITLE) and not re.match(
            r"[^\W\d_][^#{}]{5,}$", cell.source.splitlines()[0][len(TITLE) :]
        ):
            yield f"{headline(cell)}: the title of a folded cell says in words, without # and braces, what is inside"


def notes_are_folded(notebook, name):
    for cell in notebook.cells:
        is_notes = cell.metadata.get("slideshow", {}).get("slide_type") == "notes"
        if is_notes and not (cell.source.startswith(NOTES[0]) and cell.source.endswith(NOTES[1])):
            yield f"{headline(cell)} holds speaker's notes that are not folded; build it: make address"


def folded_texts_are_set(notebook, name):
    """Between blank lines, Markdown in <details> is set; a heading there would open a section that ends outside."""
    for cell in notebook.cells:
        texts = re.findall(r"<details><summary>[^\n]+</summary>\n\n(.+?)\n\n</details>", cell.source, re.S)
        if cell.cell_type == "markdown" and cell.source.count("<details") != len(texts):
            yield f"{headline(cell)}: <details> needs a blank line after </summary> and one before </details>"
        for heading in re.findall(r"^#+ .*", "\n".join(texts), re.M):
            yield f"{headline(cell)} has the heading {heading!r} in <details>: write it in bold"


def cells_that_show_a_figure_have_a_picture(notebook, name):
    for cell in code_cells(notebook):
        kinds = {kind for output in cell.outputs for kind in output.get("data", {})}
        if re.search(r"^(figures\.)?(show|explore)\(", cell.source, re.M) and not any(
            k.startswith("image/") for k in kinds
        ):
            yield f"{headline(cell)} shows a figure and stores no picture; build it: make notebooks"


def file_is_small(notebook, name):
    if (size := len(nbformat.writes(notebook).encode())) >= 1_500_000:
        yield f"the file has {size / 1e6:.1f} MB; under 1.5 MB, so fewer or smaller figures"


def pictures_have_alt_text(notebook, name):
    for cell, output in outputs(notebook):
        for kind in output.get("data", {}):
            if kind.startswith("image/") and not output.metadata.get(kind, {}).get("alt", "").strip():
                yield f"{headline(cell)} shows a picture without alternative text; show it with figures.show(fig, alt)"
    for image in re.findall(r"!\[\s*\]\([^)]*\)", markdown(notebook)):
        yield f"a text cell shows a picture without alternative text: {image}"


def checked_outputs_are_stored(notebook, name):
    for cell in code_cells(notebook):
        if "NBVAL_CHECK_OUTPUT" in cell.source and not cell.outputs:
            yield f"{headline(cell)} asks nbval to compare its output, and none is stored: it would pass in silence"


def every_cell_has_a_slide_type(notebook, name):
    for cell in notebook.cells:
        if (kind := cell.metadata.get("slideshow", {}).get("slide_type")) not in SLIDE_TYPES:
            yield f"{headline(cell)} has the slide type {kind!r}; expected one of {sorted(SLIDE_TYPES)}"


def sections_say_their_minutes(notebook, name):
    for heading in re.findall(r"^## (.+)", markdown(notebook), re.M):
        if not heading.startswith(UNTIMED) and not re.search(r"\(\d+ min[^)]*\)$", heading.strip()):
            yield f"the section {heading!r} does not say its minutes, as in '## 2. The experiment (15 min)'"


def predictions_end_in_claims(notebook, name):
    """Each question to the class has its answer folded away below it, and a claim after the experiment that follows."""
    questions, open_question = 0, None
    for cell in notebook.cells:
        if cell.cell_type == "code" and re.search(r"\b(claim|fact)\(", cell.source):
            open_question = None
        if cell.cell_type == "markdown" and re.search(r"before you run it|^## ", cell.source, re.I | re.M):
            if open_question:
                yield f"{headline(open_question)} asks the class to predict, and no claim(...) or fact(...) follows"
            asks = "before you run it" in cell.source.lower()
            if asks and "<details>" not in cell.source:
                yield f"{headline(cell)} asks the class to predict and has no answer folded away in <details>"
            questions, open_question = questions + asks, cell if asks else None
    if questions < 3:
        yield f"only {questions} times is the class asked to predict ('Before you run it: ...'); three or more"


def there_is_something_to_explore(notebook, name):
    if not any(re.search(r"\bexplore\(", cell.source) for cell in code_cells(notebook)):
        yield "there is no explore(...): one figure at least should answer to controls"


def exercises_of(topic) -> set[str]:
    """The names of the exercises in utils/exercises/<topic>.py."""
    if not (ROOT / f"utils/exercises/{topic}.py").exists():
        return set()
    module = importlib.import_module(f"utils.exercises.{topic}")
    return {name for name, value in vars(module).items() if isinstance(value, Exercise)}


def exercises_are_whole(notebook, name):
    code = "\n".join(cell.source for cell in code_cells(notebook))
    topic = name.split("_", 1)[1]
    defined = exercises_of(topic)
    checked = set(re.findall(r"(\w+)\.check\(", code))
    if len(checked) < 3:
        yield f"only {len(checked)} exercises are checked; three or more, from fill-in to build-it-yourself"
    for exercise in sorted(checked - defined):
        yield f"it checks {exercise}, which is no exercise of utils/exercises/{topic}.py"
    for exercise in sorted(defined - checked):
        yield f"the exercise {exercise} of utils/exercises/{topic}.py is never checked in the notebook"
    for exercise in sorted(checked):
        for help_ in ("hint", "solution"):
            if f"{exercise}.{help_}(" not in code:
                yield f"the exercise {exercise} offers no .{help_}() (commented out is right)"


def exercises_are_left_to_the_reader(notebook, name):
    for cell, output in outputs(notebook):
        if re.search(r"^\w*\.?\w+\.check\(", cell.source, re.M) and "not attempted" not in output.get("data", {}).get(
            "text/plain", ""
        ):
            yield f"{headline(cell)} stores the verdict on an answer; leave the stub as the reader is to find it"


def badges_open_this_notebook(notebook, name):
    if notebook.cells and badges(name) not in notebook.cells[0].source:
        yield "the first cell needs the links to Colab and Kaggle: a line @BADGES@"


def parts_are_in_order(notebook, name):
    text, position = markdown(notebook), -1
    parts = {
        "a title, '# NN · ...'": rf"^# {name[:2]}\b",
        "the question, '**Question:** ...'": r"^\*\*Question",
        "a section '## Exercises'": r"^## .*[Ee]xercise",
        "a section '## Lab'": r"^## .*\bLab\b",
        "a section '## Summary'": r"^## Summary",
        "a part 'Lecture topics'": r"^##+ Lecture topics",
        "a part 'Further reading'": r"^##+ Further reading",
        "a part 'Next notebook'": r"^##+ Next notebook",
    }
    for part, pattern in parts.items():
        found = re.search(pattern, text, re.M)
        if not found:
            yield f"it lacks {part}"
        elif found.start() < position:
            yield f"{part} comes too early; the order is {'; '.join(parts)}"
        else:
            position = found.start()


def lecture_topics_name_their_sections(notebook, name):
    rows = lecture_topics(notebook)
    if not rows:
        yield "no table of lecture topics: | topic | section | lectures |"
    for row in rows:
        topic, section, lectures = row if len(row) == 3 else ("", "", "")
        if not re.match(r"[A-Z]\d+\b", topic):
            yield f"its lecture topic {' | '.join(row)!r} is not an id such as T5 with its name, section and lectures"
        elif missing := set(section.split(", ")) - set(minutes(notebook)):
            yield f"its lecture topic {topic!r} names a section {', '.join(missing)} that is not there"
        elif not re.fullmatch(r"([A-E], )*([A-E]|beyond)", lectures):
            yield f"its lecture topic {topic!r} names the lectures {lectures!r}, not letters from A to E or 'beyond'"


def has_a_plan_for_75_minutes(notebook, name):
    if list(plan(notebook)) != ["Core", "Optional", "Where to stop"]:
        yield "no plan for 75 minutes (Core, Optional, Where to stop): copy its cell from tools/notebook_template.py"
    elif not 65 <= plan_minutes(notebook) <= 75:
        yield f"its plan for 75 minutes takes {plan_minutes(notebook)} by the minutes of its sections"
    told = {
        int(number)
        for line in re.findall(r"^Run the cells .*", markdown(notebook), re.M)
        for number in re.findall(r"\d+", line)
    }
    for name, (section, skipped) in needed_of_skipped(notebook).items():
        if skipped not in told:
            yield (
                f"section {section}, core of its plan, needs {name!r} of section {skipped}, which is not: "
                f"its plan must say 'Run the cells of section {skipped}'"
            )


def needed_of_skipped(notebook):
    """{name: (core section that uses it, section outside of the plan's core that alone has defined it)}."""
    core = {int(number) for number in re.findall(r"\d+", plan(notebook).get("Core", "").split(":")[0])}
    section, defined, needed = 0, {}, {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (heading := re.match(r"## (\d+)\.", cell.source)):
            section = int(heading[1])
        elif cell.cell_type == "code":
            statements = ast.parse(cell.source).body
            used = names(statements, ast.Load) - names(statements, ast.Store)
            for name in used & defined.keys() if section in core else ():
                if not defined[name] & (core | {0}):
                    needed[name] = section, min(defined[name])
            for statement in statements:
                own = {statement.name} if isinstance(statement, DEFINITIONS) else names([statement], ast.Store)
                for name in own:
                    defined.setdefault(name, set()).add(section)
    return needed


DEFINITIONS = ast.FunctionDef, ast.ClassDef


def names(statements, context):
    """The names that are read (ast.Load) in statements, or that get a value there (ast.Store), arguments among them."""
    nodes = [node for statement in statements for node in ast.walk(statement)]
    found = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, context)}
    if context is ast.Store:
        found |= {node.arg for node in nodes if isinstance(node, ast.arg)}
        found |= {node.name for node in nodes if isinstance(node, DEFINITIONS)}
    return found


def no_token_is_left(notebook, name):
    for cell in notebook.cells:
        if found := re.search(r"@[A-Z]+@", cell.source):
            yield f"{headline(cell)} still holds the token {found[0]}"


def runs_in_time(notebook, name):
    for cell in code_cells(notebook):
        if not cell.metadata.get("execution"):
            yield f"{headline(cell)} has no recorded time; build it: make notebooks"
        if seconds(cell) > 60:
            yield f"{headline(cell)} took {seconds(cell):.0f} s; 60 s is the most on two CPU cores"
    if (total := sum(map(seconds, notebook.cells))) > 240:
        yield f"the whole run took {total:.0f} s; 240 s is the most on two CPU cores"


# What a notebook keeps besides once it is written in the form of CONTRIBUTING.md: one reads and writes in it.


def lines_are_narrow(notebook, name):
    for cell in lesson_cells(notebook):
        for line in cell.source.splitlines():
            if len(line) > 88:
                yield f"{headline(cell)} has a line of {len(line)} characters; 88 is the most: {line.strip()[:50]!r}"


def titles_of_folded_cells_fit(notebook, name):
    for cell in code_cells(notebook):
        if is_folded(cell) and len(title := cell.source.splitlines()[0]) > 100:
            yield f"{headline(cell)} is folded, its first line has {len(title)} characters; JupyterLab cuts it at 100"


def lesson_is_most_of_what_one_sees(notebook, name):
    lesson = sum(len(line) for cell in lesson_cells(notebook) for line in cell.source.splitlines())
    seen = sum(len(cell.source) for cell in code_cells(notebook) if not is_folded(cell))
    if (share := lesson / seen) < 0.7:
        yield f"only {share:.0%} of the code that one sees is the lesson; 70 % should be: fold the rest as extra code"


def is_task(cell):
    """Whether a cell checks an answer of the reader."""
    return cell.cell_type == "code" and bool(re.search(r"^[^#\n]*\.check\(", cell.source, re.M))


def the_first_task_comes_early(notebook, name):
    first = next((i for i, cell in enumerate(notebook.cells) if is_task(cell)), len(notebook.cells))
    if first > len(notebook.cells) / 3:
        yield f"the first exercise is cell {first} of {len(notebook.cells)}; it should be within the first third"


def core_sections(notebook):
    """The numbers of the sections that the plan for a lecture names as its core."""
    return set(re.findall(r"\d+", plan(notebook).get("Core", "").split(":")[0]))


def sections(notebook):
    """{number: cells of that section}, for the numbered ones."""
    found, number = {}, None
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (heading := re.search(r"^## (?:(\d+)\.)?", cell.source, re.M)):
            number = heading[1]
        if number:
            found.setdefault(number, []).append(cell)
    return found


def core_sections_end_with_a_task(notebook, name):
    """... of three minutes at most, as the text before it says. Hints and solutions, commented out, follow it."""
    for number, cells in sections(notebook).items():
        if number not in core_sections(notebook):
            continue
        work = [i for i, c in enumerate(cells) if c.cell_type == "code" and re.search(r"^[^#\n]", c.source, re.M)]
        if not work or not is_task(cells[work[-1]]):
            yield f"section {number}, core of its plan, does not end with an exercise that is checked"
            continue
        text = next(cell.source for cell in reversed(cells[: work[-1]]) if cell.cell_type == "markdown")
        times = re.findall(r"^\*\*Exercise .*\((\d+) min\)", text, re.M)
        if not times or int(times[-1]) > 3:
            yield f"section {number}: the text of its last exercise does not begin '**Exercise 2** (3 min)', 3 at most"


def core_takes_70_minutes(notebook, name):
    if (took := plan_minutes(notebook)) > 70:
        yield f"the core of its plan takes {took} minutes, exercises included; 65 to 70 should be"


def pictures_are_prepared_by_prepare(notebook, name):
    for cell in code_cells(notebook):
        for other in names(ast.parse(cell.source).body, ast.Store) - {"prepare"}:
            if other.startswith(("prepar", "preproc")):
                yield f"{headline(cell)} names {other}: the preparation of pictures is called prepare in all notebooks"


FORM = [
    file_is_small,
    lines_are_narrow,
    titles_of_folded_cells_fit,
    lesson_is_most_of_what_one_sees,
    the_first_task_comes_early,
    core_sections_end_with_a_task,
    core_takes_70_minutes,
    pictures_are_prepared_by_prepare,
]
RULES = [
    ran_from_top_to_bottom,
    has_no_errors_or_warnings,
    has_no_bars_or_widgets,
    has_no_paths_of_a_machine,
    cells_are_short,
    plumbing_is_folded,
    notes_are_folded,
    folded_texts_are_set,
    cells_that_show_a_figure_have_a_picture,
    pictures_have_alt_text,
    checked_outputs_are_stored,
    every_cell_has_a_slide_type,
    sections_say_their_minutes,
    predictions_end_in_claims,
    there_is_something_to_explore,
    exercises_are_whole,
    exercises_are_left_to_the_reader,
    badges_open_this_notebook,
    parts_are_in_order,
    lecture_topics_name_their_sections,
    has_a_plan_for_75_minutes,
    no_token_is_left,
    runs_in_time,
]
BUILT = built([])


def read(path):
    return nbformat.read(path, as_version=4)


def by_name(value):
    return getattr(value, "stem", None) or getattr(value, "__name__", None)


def test_each_source_has_its_notebook_and_each_notebook_its_source():
    assert [path.stem for path in BUILT] == [path.stem for path in sources([])]
    assert sources([]) == sorted(SOURCES.glob("*.py")), "a source is named NN_topic.py"


@pytest.mark.parametrize("path", BUILT, ids=by_name)
@pytest.mark.parametrize("rule", RULES, ids=by_name)
def test_rule(path, rule):
    wrong = list(rule(read(path), path.stem))
    assert not wrong, "\n".join(f"{path.name}: {sentence}" for sentence in wrong)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(
            path, marks=[pytest.mark.xfail(reason="of before the new form", strict=True)] if path.stem in OLD else []
        )
        for path in BUILT
    ],
    ids=by_name,
)
def test_form(path):
    wrong = [sentence for rule in FORM for sentence in rule(read(path), path.stem)]
    assert not wrong, "\n".join(f"{path.name}: {sentence}" for sentence in wrong)


@pytest.mark.parametrize("path", BUILT, ids=by_name)
def test_notebook_equals_its_source(path):
    built, source = read(path), load(SOURCES / f"{path.stem}.py")
    for cell in source.cells:
        cell.source = cell.source.replace("@TIME@", run_time(built))

    def essence(notebook):
        slides = [cell.metadata.get("slideshow") for cell in notebook.cells]
        return [(c.id, c.cell_type, c.source, s) for c, s in zip(notebook.cells, slides, strict=True)]

    assert essence(built) == essence(source), f"{path.name} is not what its source says; build it: make notebooks"


@pytest.mark.parametrize("path", BUILT, ids=by_name)
def test_set_up_cell_is_the_one_of_the_template(path):
    template = code_cells(load(ROOT / "tools/notebook_template.py"))[0]
    assert code_cells(read(path))[0].source == template.source, "copy the set-up cell from tools/notebook_template.py"


def test_template_shows_the_form():
    template = load(ROOT / "tools/notebook_template.py")
    rules = [
        *FORM,
        cells_are_short,
        plumbing_is_folded,
        notes_are_folded,
        folded_texts_are_set,
        sections_say_their_minutes,
        parts_are_in_order,
        lecture_topics_name_their_sections,
        has_a_plan_for_75_minutes,
    ]
    assert [sentence for rule in rules for sentence in rule(template, "04_the_topic")] == []
    assert list(badges_open_this_notebook(template, "notebook_template")) == []


@pytest.mark.parametrize("path", PARTS, ids=lambda path: path.stem)
def test_pages_show_the_notebooks_as_they_are(path):
    assert page(path) == path.read_text(encoding="utf-8"), f"{path.name}: its generated parts are old: make address"


def test_the_readme_is_short_with_an_address_too(monkeypatch):
    words = {"@REPO@": "https://github.com/fifteen-letters/deep-learning-for-images", "@REF@": "main"}
    words["@SLUG@"] = words["@REPO@"].removeprefix("https://github.com/")
    for module in (build, readme):
        monkeypatch.setattr(module, "tokens", lambda: words)
    assert len(page(readme.README).encode()) < 8192


# The rules themselves: a small notebook that keeps them all, and what each says of a broken one.


def timed(seconds=1):
    start = "2026-01-01T00:00:00.000000+00:00"
    end = f"2026-01-01T00:{seconds // 60:02}:{seconds % 60:02}.000000+00:00"
    return {"iopub.execute_input": start, "shell.execute_reply": end}


PLAN = "- **Core:** sections 1, 2 and 3: all.\n- **Optional:** nothing.\n- **Where to stop:** after\n  section 3."


@pytest.fixture
def good(monkeypatch):
    """A notebook 05_topic that keeps all rules; its exercises are a, b and c."""
    monkeypatch.setitem(globals(), "exercises_of", lambda topic: set("abc"))
    experiment = (
        "## {}. One (23 min)\n\n**Before you run it:** which?\n\n"
        "<details><summary>Answer</summary>\n\nThis.\n\n</details>"
    )
    picture = new_output("display_data", {"image/png": "aGVsbG8="}, metadata={"image/png": {"alt": "A rising line."}})
    left = new_output("display_data", {"text/plain": "○ not attempted"})
    cells = [
        new_markdown_cell(f"# 05 · Title\n\n{badges('05_topic')}\n\n**Question:** why?"),
        new_code_cell("x = 1\n# NBVAL_CHECK_OUTPUT\nx", outputs=[new_output("execute_result", {"text/plain": "1"})]),
    ]
    for number, exercise in zip((1, 2, 3), "abc", strict=True):
        cells += [
            new_markdown_cell(experiment.format(number)),
            new_code_cell("explore(draw, depth=[1, 2])", outputs=[picture]),
            new_code_cell("claim('text', x == 1)"),
            new_markdown_cell(f"**Exercise {number}** (3 min): do it."),
            new_code_cell(f"{exercise}.check(...)", outputs=[left]),
            new_code_cell(f"# {exercise}.hint()\n# {exercise}.solution()"),
        ]
    cells += [
        new_markdown_cell("## Exercises (20 min)"),
        new_code_cell("# extra code: a helper\ndef helper():\n    return 1"),
        new_markdown_cell("## Lab (30 min)"),
        new_markdown_cell(PLAN, metadata={"slideshow": {"slide_type": "notes"}}),
    ]
    topics = "| topic | section | lectures |\n|---|---|---|\n| T5 one topic | 2, 3 | A, beyond |"
    end = f"## Summary\n\n### Lecture topics\n\n{topics}\n\n### Further reading\n\n### Next notebook\n06"
    cells.append(new_markdown_cell(end))
    notebook = new_notebook(cells=cells)
    for cell in notebook.cells:
        cell.metadata.setdefault("slideshow", {"slide_type": "slide"})
        fold(cell)
    for count, cell in enumerate(code_cells(notebook), start=1):
        cell.execution_count = count
        cell.metadata["execution"] = timed()
    return notebook


def sentences(notebook) -> list[str]:
    return [sentence for rule in [*RULES, *FORM] for sentence in rule(notebook, "05_topic")]


def test_good_notebook_keeps_all_rules(good):
    assert sentences(good) == []


def set_source(text, cell=1):
    return lambda notebook: notebook.cells[cell].__setitem__("source", text)


def replace(old, new):
    def change(notebook):
        for cell in notebook.cells:
            cell.source = cell.source.replace(old, new)

    return change


def add_output(*args, **kwargs):
    return lambda notebook: notebook.cells[1].outputs.append(new_output(*args, **kwargs))


HELPER, PLAN_CELL = 21, 23  # their places in the good notebook
WIDGET = {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "0%"}
BROKEN = {
    "were not run in order": lambda notebook: notebook.cells[1].update(execution_count=7),
    "stores an error: ValueError: no": add_output("error", ename="ValueError", evalue="no", traceback=[]),
    "text on stderr: careful": add_output("stream", name="stderr", text="careful"),
    "stores a widget": add_output("display_data", WIDGET),
    "stores a progress bar": add_output("stream", text="training:  50%|#####     | 5/10 [00:01<00:01, 5.0it/s]"),
    "state of widgets": lambda notebook: notebook.metadata.update(widgets={}),
    "path of the machine that it was built on": add_output("stream", text="saved to /home/x/model.pt"),
    "is an empty code cell": set_source(""),
    "has 41 lines": set_source("x = 1\n" * 41),
    "the median should be 8 or fewer": lambda n: [c.update(source=c.source + "\nx = 1" * 8) for c in code_cells(n)],
    "nine in ten should": replace("claim('text', x == 1)", "claim('text', x == 1)" + "\nx = 1" * 20),
    "Extra code: a helper') is not folded": lambda notebook: notebook.cells[HELPER].metadata.pop("cellView"),
    "Set-up, of the reader') is not folded": set_source("# Set-up, of the reader"),
    "says in words, without # and braces": set_source("# @title #1", cell=HELPER),
    "notes that are not folded": set_source(PLAN, cell=PLAN_CELL),
    "needs a blank line after </summary>": replace("\n\nThis.", "This."),
    "has the heading '### More' in <details>": replace("This.", "### More\n\nThis."),
    "shows a figure and stores no picture": lambda notebook: notebook.cells[3].outputs.clear(),
    "the file has 1.5 MB": add_output("stream", text="x" * 1_500_000),
    "its first line has 101 characters": set_source(TITLE + "x" * (101 - len(TITLE)), cell=HELPER),
    "has a line of 89 characters": set_source("x" * 89),
    "only 46% of the code that one sees": lambda n: (
        n.cells[HELPER].metadata.pop("tags"),
        n.cells[HELPER].update(source=n.cells[HELPER].source + "\nx = 1" * 44),
    ),
    "the first exercise is cell 12 of 25": replace("a.check(", "print("),
    "section 2, core of its plan, does not end with": lambda notebook: notebook.cells.insert(
        14, new_code_cell("x = 2")
    ),
    "section 3: the text of its last exercise": replace("**Exercise 3** (3 min)", "**Exercise 3** (4 min)"),
    "takes 72 minutes, exercises included": replace("(23 min)", "(24 min)"),
    "names prepare_images: the preparation of pictures is called prepare": set_source("prepare_images = 1"),
    "a picture without alternative text; show": add_output("display_data", {"image/png": "aGVsbG8="}),
    "text cell shows a picture without alternative text": set_source("![](a.png)", cell=2),
    "would pass in silence": lambda notebook: notebook.cells[1].outputs.clear(),
    "has the slide type None": lambda notebook: notebook.cells[0].metadata.pop("slideshow"),
    "'Lab' does not say its minutes": replace("## Lab (30 min)", "## Lab"),
    "no claim(...) or fact(...) follows": replace("claim(", "print("),
    "no answer folded away": replace("<details>", ""),
    "only 0 times is the class asked": replace("Before you run it", "Now run it"),
    "no explore(...)": replace("explore(", "print("),
    "only 2 exercises are checked": replace("c.check(", "print("),
    "checks other, which is no exercise": replace("c.check(", "other.check("),
    "c of utils/exercises/topic.py is never checked": replace("c.check(", "other.check("),
    "offers no .hint()": replace("# a.hint()", ""),
    "stores the verdict on an answer": lambda n: n.cells[6].outputs.append(
        new_output("display_data", {"text/plain": "✓ correct: c"})
    ),
    "needs the links to Colab and Kaggle": replace(badges("05_topic"), badges("05_topic")[1:]),
    "lacks the question": replace("**Question:**", "Hello:"),
    "lacks a title": replace("# 05", "# 06"),
    "a section '## Lab' comes too early": lambda notebook: notebook.cells.insert(2, notebook.cells.pop(-3)),
    "is not an id such as T5": replace("T5", "transfer"),
    "names a section 9 that is not there": replace("| 2, 3 |", "| 2, 9 |"),
    "not letters from A to E": replace("| A, beyond |", "| A, F |"),
    "no table of lecture topics": replace("| T5 one topic | 2, 3 | A, beyond |", ""),
    "no plan for 75 minutes": replace("**Where to stop:**", "Stop"),
    "takes 46 by the minutes": replace("sections 1, 2 and 3:", "sections 1 and 2:"),
    "needs 'y' of section 2": lambda n: (
        replace("sections 1, 2 and 3:", "sections 1 and 3:")(n),
        n.cells[9].update(source="y = 1"),
        n.cells[16].update(source="claim('text', y == 1)"),
    ),
    "still holds the token @REPO@": set_source("'@REPO@'"),
    "took 61 s": lambda notebook: notebook.cells[1].metadata.update(execution=timed(61)),
    "no recorded time": lambda notebook: notebook.cells[1].metadata.pop("execution"),
    "the whole run took 840 s": lambda n: [c.metadata.update(execution=timed(60)) for c in code_cells(n)],
}


@pytest.mark.parametrize("sentence", BROKEN)
def test_rules_name_what_is_wrong(good, sentence):
    BROKEN[sentence](good)
    assert any(sentence in found for found in sentences(good)), sentences(good)
