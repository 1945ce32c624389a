"""The build of notebooks from sources, and the run of one source on several seeds."""

import base64
import io
import shutil
import subprocess
import sys

import nbformat
import numpy as np
import pytest
from jupyterlab import NeverCheckForUpdate
from jupyterlab.labapp import LabApp
from nbconvert.exporters import ScriptExporter
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

from tools import build, check_claims, fingerprint, readme

SOURCE = """\
# %% [markdown]
# # 03 · A small one
#
# **Question:** what does a build
# write?
#
# It runs in @TIME@ and comes from @REPO@, @SLUG@, @REF@.
#
# ### Lecture topics
#
# | topic | section | lectures |
# |---|---|---|
# | T1 one topic | 1 | A |
# | T2 another | 1, 2 | A, beyond |
#
# ## 1. First (10 min)
#
# ## 2. Second (15 min and more)
#
# - **Core:** sections 1 and 2: all
#   of it.
# - **Optional:** none.
# - **Where to stop:** at the end.

# %%
import os, sys
from tqdm import tqdm
from tqdm.auto import tqdm as widget_bar

for _ in [*tqdm(range(3), file=sys.stderr), *widget_bar(range(3))]:
    pass
sorted(name for name in os.environ if name.startswith("COURSE_"))

# %% slideshow={"slide_type": "skip"} tags=["extra"]
sum(range(int(os.environ["COURSE_SEED"]) + 5))

# %%
claims = os.environ.get("COURSE_CLAIMS", os.devnull)
with open(claims, "a") as file:
    seed = int(os.environ["COURSE_SEED"])
    file.write('{"kind": "claim", "text": "even", "held": %s, "figures": "%d"}\\n' % (str(seed % 2 == 0).lower(), seed))
    file.write('{"kind": "claim", "text": "even", "held": true, "figures": "again"}\\n')
    file.write('{"kind": "fact", "text": "two", "held": %s, "figures": ""}\\n' % str(seed < 5).lower())

# %%
if seed == 3:
    raise ValueError("seed 3 breaks")
"""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source/03_small.py"
    path.parent.mkdir()
    path.write_text(SOURCE)
    return path


@pytest.fixture
def built(source, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA_DIR", "/somewhere")  # must not reach the stored run
    build.build(source, tmp_path / "03_small.ipynb")
    return tmp_path / "03_small.ipynb"


def read(path):
    return nbformat.read(path, as_version=4)


def test_build_runs_strips_and_fills_in_and_no_run_keeps(source, built, monkeypatch):
    notebook = read(built)
    text, first, second, *_ = notebook.cells
    assert f"It runs in 5 s and comes from {build.tokens()['@REPO@']}, " in text.source and "@" not in text.source
    # run on the settings of a stored run; of two progress bars, one a widget and one text, nothing is left
    (output,) = first.outputs
    assert output.data["text/plain"] == "['COURSE_DATA', 'COURSE_SEED', 'COURSE_STRICT']"
    assert second.outputs[0].data["text/plain"] == "10"
    assert [cell.execution_count for cell in build.code_cells(notebook)] == [1, 2, 3, 4]
    assert all(build.seconds(cell) > 0 for cell in build.code_cells(notebook))
    assert notebook.metadata == build.METADATA
    # slide types: given or by the kind of cell
    assert [c.metadata.slideshow.slide_type for c in notebook.cells[:3]] == ["slide", "fragment", "skip"]
    assert second.metadata.tags == ["extra"]
    # a changed text keeps the outputs and the ids of all other cells
    source.write_text(SOURCE.replace("write?", "keep?"))
    build.build(source, built, run=False)
    again = read(built)
    assert "keep?" in again.cells[0].source
    assert again.cells[1:] == notebook.cells[1:]
    # and so does another address, in code too
    fork = {"@REPO@": "https://example.org/me/fork", "@SLUG@": "me/fork", "@REF@": "v1.0"}
    monkeypatch.setattr(build, "tokens", lambda: fork)
    build.build(source, built, run=False)
    assert "comes from https://example.org/me/fork, me/fork, v1.0." in read(built).cells[0].source
    # the rows in the README
    row = "| 03 | [A small one](notebooks/03_small.ipynb) | what does a build keep? | [Colab]("
    assert row in readme.table(built.parent)
    link = "[03](../notebooks/03_small.ipynb)"
    assert f"| T1 one topic | {link} | 1 | A |\n| T2 another | {link} | 1, 2 | A, beyond |" in readme.topics(
        built.parent
    )
    assert f"| {link} | sections 1 and 2: all of it. 25 minutes. | none. | at the end. |" in readme.plans(built.parent)
    # changed code is refused, and nothing is written
    before = built.read_bytes()
    source.write_text(SOURCE.replace("+ 5", "+ 6"))
    with pytest.raises(SystemExit, match="03_small: its code has changed .* make notebooks NOTEBOOK=03_small"):
        build.build(source, built, run=False)
    assert built.read_bytes() == before


def test_the_set_up_cell_may_change_without_a_run(source, tmp_path):
    """It finds the course and decides no result: a new one has the stored output of the old one."""
    set_up = "# %%\n# Set-up: {}\nimport unittest.mock\nutils = unittest.mock.Mock()\nutils.start()\nprint('cpu')\n"
    source.write_text(set_up.format("the old one") + "\n# %%\n1 + 1\n")
    build.build(source, tmp_path / "03_small.ipynb")
    before = read(tmp_path / "03_small.ipynb")
    source.write_text(set_up.format("the new one") + "\n# %%\n1 + 1\n")
    build.build(source, tmp_path / "03_small.ipynb", run=False)
    after = read(tmp_path / "03_small.ipynb")
    assert "the new one" in after.cells[0].source and before.cells[0].outputs == after.cells[0].outputs != []
    assert before.cells[1] == after.cells[1] and fingerprint.of_notebook(before) == fingerprint.of_notebook(after)


def test_copies_beside_the_notebooks_are_named_and_left_out(built, capsys):
    for name in ("03_small-Copy1.ipynb", "03_small copy.ipynb", "Untitled.ipynb"):
        (built.parent / name).write_bytes(built.read_bytes())
    (built.parent / "source/03_small-Copy1.py").write_text(SOURCE)
    assert build.built([], built.parent) == build.built(["03"], built.parent) == [built]
    assert build.sources([], built.parent / "source") == [built.parent / "source/03_small.py"]
    assert (
        "Left out, without a source in notebooks/source/: 03_small copy.ipynb, 03_small-Copy1.ipynb, Untitled.ipynb"
        in (capsys.readouterr().err)
    )
    assert "opy" not in readme.table(built.parent)


def test_nbval_leaves_copies_alone(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source/03_small.py").write_text("1")
    shutil.copy(build.NOTEBOOKS / "conftest.py", tmp_path)
    for name in ("03_small.ipynb", "03_small-Copy1.ipynb"):
        nbformat.write(new_notebook(cells=[new_code_cell("1")]), tmp_path / name)
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "--collect-only", "-q"]
    collected = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout
    assert "03_small.ipynb::" in collected and "Copy1" not in collected


FOLDED = """\
# %%
# Set-up, the same in every notebook

# %% tags=["measure"]
# What this notebook imports.

# %%
# extra code: a figure
1 + 1

# %%
2 + 2  # extra code: is not the beginning of the cell

# %% [markdown] slideshow={"slide_type": "notes"}
# Let the class argue about $x$.

# %% [markdown]
# For all.
"""


def test_what_a_reader_need_not_see_is_folded(source):
    source.write_text(FOLDED)
    notebook = build.load(source)
    nbformat.validate(notebook)
    set_up, imports, extra, lesson, notes, text = notebook.cells
    assert set_up.source == "# @title Set-up, the same in every notebook"
    assert (
        extra.source == "# @title Extra code: a figure\n1 + 1"
        and imports.source == "# @title What this notebook imports."
    )
    for cell in (set_up, imports, extra):
        assert cell.metadata["jupyter"] == {"source_hidden": True} and cell.metadata["_kg_hide-input"] is True
        assert cell.metadata["cellView"] == "form"
        assert cell.metadata.tags[-1] == "hide-input"
    assert imports.metadata.tags == ["measure", "hide-input"]
    assert lesson.source.startswith("2 + 2") and list(lesson.metadata) == ["slideshow"]
    assert notes.source == (
        "<details><summary>For the instructor</summary>\n\nLet the class argue about $x$.\n\n</details>"
    )
    assert text.source == "For all."


def test_nbconvert_makes_a_python_script_of_a_notebook(built):
    assert ScriptExporter().from_notebook_node(read(built))[1]["output_extension"] == ".py"


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def test_pictures_are_quantised_where_the_eye_sees_no_difference():
    """A soft picture gets a palette; noise of all colours keeps every bit; half-transparent pictures are left."""
    grain, ramp = np.random.default_rng(0).integers(0, 5, (200, 200, 1)), np.linspace(90, 160, 200)
    soft = (np.stack(np.broadcast_arrays(ramp, ramp[::-1], ramp[:, None]), axis=-1) + grain).astype(np.uint8)
    small = build.quantised(png(soft))
    assert Image.open(io.BytesIO(small)).mode == "P" and len(small) < 0.6 * len(png(soft))
    mean, largest = build.difference(Image.fromarray(soft), Image.open(io.BytesIO(small)).convert("RGB"))
    assert 0 < mean <= 3 and 0 < largest <= 24

    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    opaque = png(np.dstack([noise, np.full((100, 100), 255, np.uint8)]))  # as matplotlib writes it
    kept = build.quantised(opaque)
    assert (np.asarray(Image.open(io.BytesIO(kept))) == noise).all() and len(kept) < len(opaque)

    glass = png(np.full((20, 20, 4), 128, np.uint8))
    assert build.quantised(glass) == glass


def test_the_worst_place_of_a_picture_decides_too():
    """A small patch of another colour is nothing in the mean, and seen at once."""
    white, patched = np.full((2, 200, 200, 3), 255, np.uint8)
    patched[:4, :4] = 200
    assert build.difference(*map(Image.fromarray, (white, patched))) == (pytest.approx(55 * 16 / 40_000), 55)
    patched[:4, :4] = 255
    patched[100, 100] = 255 - 27  # a single pixel is blurred
    assert build.difference(*map(Image.fromarray, (white, patched)))[1] == 3


def test_a_build_stores_quantised_pictures_and_draws_an_explorers_frames(tmp_path, monkeypatch, capsys):
    source = tmp_path / "source/04_figures.py"
    source.parent.mkdir()
    source.write_text(FIGURES.format(root=str(build.ROOT)))
    monkeypatch.setenv("MPLBACKEND", "agg")  # as a container sets it
    build.build(source, tmp_path / "04_figures.ipynb")
    outputs = read(tmp_path / "04_figures.ipynb").cells[0].outputs
    (picture,) = [output.data["image/png"] for output in outputs if "image/png" in output.data]
    assert Image.open(io.BytesIO(base64.b64decode(picture))).mode == "P"
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["source"]
    (tmp_path / "frames/04_figures").mkdir(parents=True)
    (tmp_path / "frames/04_figures/1.json").write_text("of an older build")
    monkeypatch.setattr(build, "NOTEBOOKS", tmp_path)
    build.draw_frames(source, tmp_path / "frames")
    found = sorted(path.name for path in (tmp_path / "frames/04_figures").iterdir())
    assert found == ["1-000.webp", "1-001.webp", "1.json"]


FIGURES = """\
# %%
import sys
sys.path.insert(0, {root!r})
from utils import figures
figures.set_style()
def draw(depth):
    fig, ax = figures.plt.subplots()
    ax.plot([0, depth])
    return fig, f"A line to {{depth}}."
figures.explore(draw, depth=[1, 2])
"""


def test_no_run_needs_a_run_before(source, tmp_path):
    with pytest.raises(SystemExit, match="03_small.ipynb was never run"):
        build.build(source, tmp_path / "03_small.ipynb", run=False)


def test_ids_are_stable_and_unique(source):
    source.write_text("# %%\nx = 1\n\n# %%\nx = 1\n\n# %%\nx = 2\n")
    ids = [cell.id for cell in build.load(source).cells]
    assert len(set(ids)) == 3 and ids[1] == f"{ids[0]}-2"
    source.write_text("# %%\nnew = 0\n\n# %%\nx = 1\n\n# %%\nx = 1\n\n# %%\nx = 2\n")
    assert [cell.id for cell in build.load(source).cells][1:] == ids


def test_code_is_not_changed_by_the_round_through_jupytext(source):
    source.write_text("# %%\n# %matplotlib inline\ndef f():\n    return 1\n\n\nf()\n")
    assert build.load(source).cells[0].source == "%matplotlib inline\ndef f():\n    return 1\n\n\nf()"


def test_strip_keeps_other_words_on_stderr():
    bar = "training:  50%|#####     | 5/10 [00:01<00:01,  5.0it/s]\r"
    outputs = [new_output("stream", name="stderr", text=bar + "careful\n" + bar), new_output("stream", text="fine")]
    notebook = new_notebook(cells=[new_code_cell("x", outputs=outputs)])
    build.strip(notebook)
    assert [output.text for output in notebook.cells[0].outputs] == ["careful", "fine"]


@pytest.mark.parametrize("version, ref", [("0.1.0.dev0", "main"), ("0.1.0", "v0.1.0")])
def test_address_and_version_come_from_pyproject(tmp_path, monkeypatch, version, ref):
    monkeypatch.setattr(build, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").write_text(
        f'[project]\nversion = "{version}"\n[project.urls]\nRepository = "https://github.com/me/fork/"\n'
    )
    assert build.tokens() == {"@REPO@": "https://github.com/me/fork", "@SLUG@": "me/fork", "@REF@": ref}
    assert f"https://colab.research.google.com/github/me/fork/blob/{ref}/notebooks/05_x.ipynb" in build.badges("05_x")
    assert f"welcome?src=https://github.com/me/fork/blob/{ref}/notebooks/05_x.ipynb" in build.badges("05_x")


def test_without_an_address_a_sentence_stands_where_links_would_lead_nowhere(built, monkeypatch):
    words = {"@REPO@": "https://github.com/OWNER/x", "@SLUG@": "OWNER/x", "@REF@": "main"}
    for module in (build, readme):
        monkeypatch.setattr(module, "tokens", lambda: words)
    assert build.badges("05_x") == build.TO_SET
    for part in (readme.table(built.parent), readme.clone()):
        assert "OWNER" not in part and "](http" not in part
    assert readme.table(built.parent).startswith(build.TO_SET)
    words["@REPO@"], words["@SLUG@"] = "https://github.com/me/x", "me/x"
    assert "[Colab](https://colab.research.google.com/github/me/x/" in readme.table(built.parent)
    assert "git clone --depth 1 https://github.com/me/x\ncd x" in readme.clone()


@pytest.mark.parametrize(
    "total, words",
    [(1, "5 s"), (41, "45 s"), (55, "55 s"), (56, "1 minute"), (61, "1.5 minutes"), (130, "2.5 minutes")],
)
def test_run_time_in_words(total, words):
    cell = new_code_cell("x")
    start, end = "2026-01-01T00:00:00.000000Z", f"2026-01-01T00:{total // 60:02}:{total % 60:02}.000000Z"
    cell.metadata["execution"] = {"iopub.execute_input": start, "shell.execute_reply": end}
    assert build.run_time(new_notebook(cells=[cell])) == words


def test_unknown_name_and_lost_marks_are_told():
    with pytest.raises(SystemExit, match="No source named 77"):
        build.sources(["77"])
    with pytest.raises(SystemExit, match="README.md has lost its marks <!-- clone -->"):
        readme.between("# Title", "clone", "", "README.md")


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> dict[int, dict]:
    """What came of the source on three seeds."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "03_small.py").write_text(SOURCE)
    return {seed: check_claims.run(folder / "03_small.py", seed, folder) for seed in range(3)}


def test_seeds_collects_claims_and_counts(source, tmp_path, done):
    runs = {seed: done[seed]["claims"] for seed in (0, 1)}
    assert [(claim["text"], claim["held"]) for claim in runs[1]] == [("even", False), ("even", True), ("two", True)]
    text = check_claims.report(runs)
    assert text.endswith("2 of 2 held: two (a fact)")  # and no line a seed
    runs[6] = [runs[1][2] | {"held": False}]
    assert "2 of 3 held: two (a fact)" in (broken := check_claims.report(runs)) and "seed   6  FAILED" in broken
    assert "1 of 2 held: even\n    seed   0  held      0\n    seed   1  FAILED    1" in text
    assert "2 of 2 held: even (2)" in text
    with pytest.raises(check_claims.CellExecutionError, match="seed 3 breaks"):
        check_claims.run(source, 3, tmp_path)


def test_seeds_reports_a_broken_seed_and_fails(source, tmp_path, monkeypatch, capsys):
    def run(source, seed):
        if seed == 1:
            raise check_claims.CellExecutionError("traceback", "ValueError", "no")
        return {"claims": [{"kind": "claim", "text": "text", "held": True, "figures": "0.9"}], "changed": []}

    monkeypatch.setattr(check_claims, "sources", lambda names: [source])
    monkeypatch.setattr(check_claims, "run", run)
    monkeypatch.setattr(check_claims, "record", lambda *run: None)
    monkeypatch.setattr("sys.argv", ["check_claims", "03", "--seeds", "2", "--csv", str(tmp_path / "rows.csv")])
    assert check_claims.main() == 1
    printed = capsys.readouterr().out
    assert "1 of 2 held: text" in printed and "seed   1  not made" in printed and "seed 1 broke off" in printed
    assert (tmp_path / "rows.csv").read_text().splitlines() == ["claim,seed,held,figures,kind", "text,0,True,0.9,claim"]


def test_a_kernel_that_dies_costs_its_own_seed_only(monkeypatch):
    def run(source, seed):
        raise check_claims.DeadKernelError("Kernel died")

    monkeypatch.setattr(check_claims, "run", run)
    assert check_claims.attempt("03_small.py", 1) == "Kernel died"


def test_what_ran_where_is_kept_and_shown(built, tmp_path, monkeypatch, done):
    file = tmp_path / "runs.csv"
    monkeypatch.setattr(check_claims, "RUNS", file)
    for seed in (0, 2, 1, 2):  # the second run with seed 2 takes the place of the first
        check_claims.record("03_small", seed, done[seed])
    assert len(lines := file.read_text().splitlines()) == 4
    assert lines[1].startswith("03_small,0,2,0,")  # two claims: the fact is not among them
    assert lines[0].endswith(",what") and [line.split(",")[-1] for line in lines[1:]] == ["", "even", ""]
    assert readme.runs(tmp_path, file).endswith("| [03](../notebooks/03_small.ipynb) | 0, 2 (not: 1) |")
    notebook = read(built)  # a run of older code is shown as older, until it is made again
    notebook.cells.insert(1, new_code_cell("1"))
    nbformat.write(notebook, built)
    assert readme.runs(tmp_path, file).endswith("| older code: 0, 2 (not: 1) |")
    check_claims.record("03_small", 0, done[0] | {"code": fingerprint.of_notebook(notebook)})
    assert readme.runs(tmp_path, file).endswith("| 0; older code: 2 (not: 1) |")


def test_a_marked_output_that_changes_is_named(source, built):
    source.write_text(source.read_text() + "\n# %%\n# NBVAL_CHECK_OUTPUT\nint(os.environ['COURSE_SEED'])\n")
    build.build(source, built)
    assert check_claims.run(source, 0, built.parent)["changed"] == []
    assert check_claims.run(source, 1, built.parent)["changed"] == ["int(os.environ['COURSE_SEED'])"]


def test_spans():
    assert readme.spans([2, 0, 1, 5, 5]) == "0 to 2, 5" and readme.spans([]) == ""


def test_template_is_a_notebook():
    nbformat.validate(build.load(build.ROOT / "tools/notebook_template.py"))


@pytest.fixture
def environment(tmp_path):
    """What make takes for an environment that has all."""
    (tmp_path / "bin").mkdir()
    for name in ("pip", "jupyter-lab", "torchrun", "jupytext", "pytest", "ruff"):
        (tmp_path / "bin" / name).touch(mode=0o755)
    (tmp_path / ".requirements").touch()
    return tmp_path


def make_lab(environment) -> str:
    command = ["make", "-n", "lab", "NOTEBOOK=05", f"VENV={environment}"]
    return subprocess.run(command, cwd=build.ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("lost", [None, "jupyter-lab", "torchrun"])
def test_make_notices_an_environment_that_has_lost_its_packages(environment, lost):
    if lost:  # as `uv sync` and `pip uninstall` take a package's scripts away, and leave the stamp of make
        (environment / "bin" / lost).unlink()
    assert ("pip install" in make_lab(environment)) == bool(lost)


def test_make_lab_opens_without_a_question_about_news(environment):
    flags = [word for word in make_lab(environment).split() if word.startswith("--LabApp")]
    app = LabApp()
    app.parse_command_line(flags)
    app.update_config(app.cli_config)
    assert app.news_url is None and app.check_for_updates_class is NeverCheckForUpdate
    assert app.default_url == "/lab/tree/notebooks/05_transfer_learning.ipynb"


def test_make_finds_the_photo_notebooks():
    """A dry run: which notebooks `make test-photos` would run is read off their sources."""

    def would_run(name):
        command = ["make", "-n", "test-photos", f"NOTEBOOK={name}", f"VENV={sys.prefix}"]
        return subprocess.run(command, cwd=build.ROOT, capture_output=True, text=True, check=True).stdout

    assert "notebooks/05_transfer_learning.ipynb" in would_run("05")
    assert "notebooks/05_transfer_learning.ipynb" in (every := would_run(""))
    assert "notebooks/00" not in every and "notebooks/01" not in every
