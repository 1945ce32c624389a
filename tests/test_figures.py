"""Figures: shown with their sentence, redrawn by their controls, readable."""

import json
import os
import textwrap
from pathlib import Path

import ipywidgets
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image

from tools import frames
from utils import figures

matplotlib.use("Agg")
ROOT = Path(__file__).parents[1]


@pytest.fixture
def shown(monkeypatch):
    """What is displayed, as (object, keywords); handles note what they are updated with."""
    record = []
    figures.explorers.clear()

    class Handle:
        def update(self, thing, **keywords):
            record.append((thing, keywords | {"updated": True}))

    def display(*things, **keywords):
        record.extend((thing, keywords) for thing in things)
        return Handle() if keywords.get("display_id") else None

    monkeypatch.setattr(figures, "display", display)
    yield record
    plt.close("all")


def draw(depth=1, kind="plain"):
    fig, ax = plt.subplots()
    ax.plot([0, depth])
    return fig, f"A line to {depth}, {kind}."


def test_show_stores_alternative_text_and_says_it_below(shown):
    fig, _ = draw()
    figures.show(fig, "A line <rising>.")
    assert shown[0] == (fig, {"metadata": {"image/png": {"alt": "A line <rising>."}}})
    assert "A line &lt;rising&gt;." in shown[1][0].data
    assert not plt.get_fignums()


@pytest.mark.parametrize("alt", ["", "  ", None])
def test_a_figure_without_a_sentence_is_refused(alt):
    with pytest.raises(ValueError, match="expected one sentence"):
        figures.show(draw()[0], alt)
    plt.close("all")


def test_explore_draws_at_once_and_its_controls_redraw(shown):
    figures.explore(draw, depth=[10, 2, 30], kind=["plain", "residual"])
    assert shown[0][1]["metadata"]["image/png"]["alt"] == "A line to 10, plain."  # the first of each choice
    controls = shown[-1][0].children
    assert [type(control) for control in controls] == [ipywidgets.SelectionSlider, ipywidgets.Dropdown]
    assert [label for label, _ in controls[0].options] == ["2", "10", "30"]
    count = len(shown)
    controls[1].value = "residual"
    controls[0].value = 30
    alts = [keywords["metadata"]["image/png"]["alt"] for _, keywords in shown[count:] if "metadata" in keywords]
    assert alts == ["A line to 10, residual.", "A line to 30, residual."]
    assert all(keywords["updated"] for _, keywords in shown[count:])
    assert not plt.get_fignums()


def test_explore_has_a_slider_for_numpys_numbers_too(shown):
    figures.explore(draw, depth=np.array([10, 2, 30]))
    assert isinstance(shown[-1][0].children[0], ipywidgets.SelectionSlider)
    assert [label for label, _ in shown[-1][0].children[0].options] == ["2", "10", "30"]


def test_explore_says_what_cannot_be_drawn(shown):
    def refuse(depth):
        if depth == 2:
            raise ValueError("two is too few")
        return draw(depth, "plain")

    figures.explore(refuse, depth=[10, 2])
    with pytest.raises(ValueError):
        shown[-1][0].children[0].value = 2
    assert "This choice cannot be drawn, ValueError: two is too few" in shown[-1][0].data


def test_a_draw_that_fails_leaves_no_figure_behind(shown):
    """... and says so, whether the figure or its sentence is missing."""

    def refuse(depth):
        fig, _ = draw(depth)
        if depth == 2:
            raise ValueError("two is too few")
        return fig, "" if depth == 3 else "A line."

    mine = plt.figure()
    figures.explore(refuse, depth=[10, 2, 3])
    control = shown[-1][0].children[0]
    for depth, sentence in ((2, "two is too few"), (3, "expected one sentence")):
        with pytest.raises(ValueError):
            control.value = depth
        assert sentence in shown[-1][0].data
        assert plt.get_fignums() == [mine.number]  # a figure of somebody else stays
    with pytest.raises(ValueError):
        figures.explore(refuse, depth=[2, 10])
    assert plt.get_fignums() == [mine.number]


def test_explorers_draw_all_their_pictures_where_asked(shown, tmp_path):
    def sometimes(depth, kind):
        if (depth, kind) == (30, "plain"):
            raise ValueError("too deep")
        return draw(depth, kind)

    figures.explore(sometimes, depth=[10, 2, 30, 40], kind=["plain", "residual"], site={"depth": [30, 10]})
    figures.explore(draw, depth=range(2))
    assert not list(tmp_path.iterdir())
    frames.write(tmp_path / "frames")
    table = json.loads((tmp_path / "frames/1.json").read_text(encoding="utf-8"))
    assert table["controls"] == [
        {"name": "depth", "kind": "SelectionSlider", "values": ["10", "30"], "first": 0},
        {"name": "kind", "kind": "Dropdown", "values": ["plain", "residual"], "first": 0},
    ]
    assert [picture["alt"] for picture in table["pictures"]] == [
        "A line to 10, plain.",
        "A line to 10, residual.",
        "This choice cannot be drawn, ValueError: too deep",
        "A line to 30, residual.",
    ]
    files = [picture["file"] for picture in table["pictures"]]
    assert files == ["1-000.webp", "1-001.webp", None, "1-003.webp"]
    assert Image.open(tmp_path / "frames" / files[0]).format == "WEBP"
    assert {path.name for path in (tmp_path / "frames").iterdir()} == {
        *filter(None, files), "1.json", "2.json", "2-000.webp", "2-001.webp"
    }  # fmt: skip
    assert not plt.get_fignums()


def test_too_many_pictures_for_the_site_are_refused(shown, tmp_path):
    figures.explore(draw, depth=range(61), kind=["plain", "residual"])
    with pytest.raises(ValueError, match=r"122 pictures for the site \(61 depth x 2 kind\), 120 at most"):
        frames.write(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("site", [{"depth": [4]}, {"depth": []}, {"width": [10]}])
def test_what_the_site_offers_is_among_the_choices(site):
    with pytest.raises(ValueError, match="site has .* expected some of"):
        figures.explore(draw, depth=[10, 2], site=site)


def test_explore_refuses_what_leaves_no_choice():
    with pytest.raises(ValueError, match="no choices"):
        figures.explore(draw)
    with pytest.raises(ValueError, match="nothing to choose"):
        figures.explore(draw, depth=[1])


def pictures_of_a_kernel(tmp_path, before, settings):
    """What a fresh kernel shows of one figure, drawn in the course's style."""
    code = [
        before,
        "from utils import figures\nfigures.set_style()",
        "fig, ax = figures.plt.subplots()\nax.plot([1, 2])\nax.set_title('$x^2$')\nfigures.show(fig, 'A line.')",
        "figures.plt.plot([1, 2])",  # shown by the inline backend alone
    ]
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in code])
    client = NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}})
    client.execute(env=os.environ | settings)
    outputs = [output for cell in notebook.cells for output in cell.outputs if "data" in output]
    return [output.data["image/png"] for output in outputs if "image/png" in output.data]


def test_nobodys_settings_change_a_figure(tmp_path):
    """matplotlibrc, MPLBACKEND, a style (as VS Code sets one), other formats than PNG."""
    plain = pictures_of_a_kernel(tmp_path, "", {})
    assert len(plain) == 2
    (tmp_path / "matplotlibrc").write_text("font.size: 5\naxes.facecolor: red\nlines.marker: o\nfigure.dpi: 30\n")
    theirs = """
        import matplotlib.pyplot as plt, matplotlib_inline
        plt.style.use(["dark_background", "ggplot"])
        matplotlib_inline.backend_inline.set_matplotlib_formats("svg")
    """
    settings = {"MATPLOTLIBRC": str(tmp_path), "MPLBACKEND": "agg"}
    assert pictures_of_a_kernel(tmp_path, textwrap.dedent(theirs), settings) == plain


def test_image_grid_draws_colour_and_grey():
    figures.set_style()
    fig = figures.image_grid(
        [torch.zeros(3, 8, 8, dtype=torch.uint8), torch.rand(8, 8) > 0.5],
        titles=["a", "b"],
        colours=["green", "red"],
        columns=3,
    )
    assert fig.axes[0].spines["left"].get_edgecolor() == matplotlib.colors.to_rgba("green")
    titles = [ax.get_title() for ax in fig.axes]
    assert titles == ["a", "b", ""]
    plt.close(fig)
    with pytest.raises(ValueError, match=r"expected \(3, H, W\)"):
        figures.image_grid([torch.zeros(2, 8, 8)])


def test_curves_writes_names_at_the_ends_without_overlap():
    figures.set_style()
    fig, ax = plt.subplots()
    figures.curves(
        ax, {"a": [[0, 1, 2.0], [0, 1, 3.0]], "b": [0, 1, 2.5], "c": [0, 1, 2.51]}, "epoch", "accuracy", "Title"
    )
    fig.canvas.draw()
    assert sorted(text.get_text() for text in ax.texts) == ["a", "b", "c"]
    boxes = sorted((text.get_window_extent() for text in ax.texts), key=lambda box: box.y0)
    assert all(above.y0 >= below.y1 - 1 for below, above in zip(boxes, boxes[1:], strict=False))
    assert len(ax.collections) == 1  # the band of the two runs
    plt.close(fig)


def test_a_band_goes_from_the_lowest_run_to_the_highest_with_the_median_inside():
    fig, ax = plt.subplots()
    figures.curves(ax, {"three runs": [[1, 5], [2, 3], [9, 4]]}, "epoch", "loss", "Title")
    assert ax.lines[0].get_ydata().tolist() == [2, 4]
    (band,) = ax.collections
    corners = {tuple(point) for point in band.get_paths()[0].vertices.tolist()}
    assert corners == {(1, 1), (1, 9), (2, 3), (2, 5)}
    plt.close(fig)


def test_curves_of_runs_that_diverged_have_their_names_where_they_end():
    nan, inf = float("nan"), float("inf")
    lines = {"whole": [3, 2, 1], "diverged": [3, 5, nan], "ran off": [3, inf, inf], "one of two": [[1, 0], [1, nan]]}
    ends = {"whole": (3, 1), "diverged": (2, 5), "ran off": (1, 3), "one of two": (1, 1)}
    for name, end in ends.items():
        fig, ax = plt.subplots()
        figures.curves(
            ax, {"nothing": [nan] * len(np.transpose(lines[name])), name: lines[name]}, "epoch", "loss", "Title"
        )
        fig.canvas.draw()
        assert [(text.get_text(), text.xy) for text in ax.texts] == [(name, end)]
        plt.close(fig)


def test_curves_labels_sit_at_their_lines_on_a_log_axis():
    fig, ax = plt.subplots()
    ax.set_yscale("log")
    lines = {"none": [1, 1e-3, 0], "small": [1, 1e-3, 2e-6], "large": [1, 2, 3]}
    figures.curves(ax, lines, "layer", "gradient norm", "Title")
    fig.canvas.draw()
    bottom = ax.get_ylim()[0]
    for text, y in zip(ax.texts, (bottom, 2e-6, 3), strict=True):
        box = text.get_window_extent()
        assert box.y0 < ax.transData.transform((0, y))[1] < box.y1
    plt.close(fig)
