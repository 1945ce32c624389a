"""Slides: all beside the file, nothing from the web, nothing cut off (the last where a Chromium is installed)."""

import html
import json
import re
import shutil
import subprocess

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import slides
from tools.build import built, fold

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ASSETS = slides.SLIDES / "assets"
# Goes through all slides as a lecturer would, and leaves in the page what reaches beyond the screen.
LOOK = """
<script>
  window.addEventListener("load", () => MathJax.Hub.Queue(() => Reveal.on("ready", () => {
    const cut = [];
    for (const slide of Reveal.getSlides()) {
      const { h, v } = Reveal.getIndices(slide);
      Reveal.slide(h, v, 999);
      for (const part of slide.children) {
        const { right, bottom } = part.getBoundingClientRect();
        const beyond = right > innerWidth + 1 || bottom > innerHeight + 1;
        if (!part.matches("aside") && beyond) cut.push([h, v, right, bottom]);
      }
    }
    const count = (what) => document.querySelectorAll(what).length;
    document.body.dataset.looked = JSON.stringify({ slides: Reveal.getTotalSlides(), notes: count("aside"),
      where: count(".where"), cut });
  })));
</script>"""


def cell(make, source, slide_type, **more):
    """A cell as the build makes it."""
    made = make(source, metadata={"slideshow": {"slide_type": slide_type}}, **more)
    fold(made)
    return made


def page(cells):
    return slides.html(new_notebook(cells=cells), "03_a_small_one")


TITLE = cell(
    new_markdown_cell,
    "# 03 · A small one\n\n[![Open in Colab](https://web/badge.svg)](https://web/03)\n\nA text.",
    "slide",
)


def test_nothing_is_loaded_from_the_web():
    text = page([TITLE, cell(new_markdown_cell, "$x^2$, [a paper](https://arxiv.org/abs/1)", "fragment")])
    assert not re.findall(r'<(?:script|link|img|iframe)[^>]*"https?:', text)
    assert "A text." in text and "https://arxiv.org/abs/1" in text


def test_plumbing_shows_only_what_it_gives():
    given = new_output("stream", name="stdout", text="what it gives")
    text = page(
        [
            TITLE,
            cell(new_code_cell, "# extra code: a helper\nhidden_one = 1", "fragment"),
            cell(new_code_cell, "# extra code: a picture\nhidden_two = 2", "fragment", outputs=[given]),
            cell(new_code_cell, "shown = 3", "fragment"),
        ]
    )
    assert "hidden_one" not in text and "hidden_two" not in text and "@title" not in text
    assert "what it gives" in text and "shown" in text


def test_the_speakers_notes_are_open_in_the_speakers_view():
    text = page([TITLE, cell(new_markdown_cell, "Let the **class** argue.", "notes")])
    (notes,) = re.findall(r"<aside class=\"notes\">(.*?)</aside>", text, flags=re.DOTALL)
    assert "Let the <strong>class</strong> argue." in notes and "<details" not in notes


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("# NBVAL_CHECK_OUTPUT\nx = 1  # fmt: skip\nprint(x)", "x = 1\nprint(x)"),
        ('x = 1\nclaim(\n    "One is one",\n    x == 1,\n    "1",\n)', "x = 1"),
        ('x = 1\nfact("One is one", x == 1)', "x = 1"),
        ("y = f(x)\nfig, ax = f()\nax.plot(y)\nfor a in b:\n    a.set()\nshow(fig, '')\nz = y", "y = f(x)\nz = y"),
        ("def draw(step=1):\n    return fig, ''\n\n\nexplore(draw, step=[1, 2])", ""),
        ("if gpu:\n    x = f()\n    claim('One is one', x == 1, '1')\nelse:\n    print('no GPU')", ""),
        ("figures = 3\nshown = show_all(figures)", "figures = 3\nshown = show_all(figures)"),
    ],
)
def test_a_class_sees_the_code_that_is_taught(source, shown):
    assert slides.told(source) == shown


def test_a_heading_within_a_text_opens_a_slide():
    text = page([TITLE, cell(new_markdown_cell, "The end of one.\n\n### Another\n\nIts text.", "fragment")])
    assert re.search(r"The end of one\..*<section>.*Another", text, flags=re.DOTALL)


needs_chromium = pytest.mark.skipif(
    not CHROMIUM or not ASSETS.exists(), reason="needs Chromium, and `make slides` once"
)


@needs_chromium
def test_what_is_too_tall_goes_on_on_the_next_slide(tmp_path):
    long_table = "<table>" + "".join(f"<tr><td>row {i}</td></tr>" for i in range(60)) + "</table>"
    tall = cell(
        new_code_cell,
        "\n".join(f"line_{i} = {i}" for i in range(30)),
        "fragment",
        outputs=[new_output("stream", name="stdout", text="\n".join(f"printed {i}" for i in range(30)))],
    )
    cells = [
        TITLE,
        *[cell(new_markdown_cell, f"A text with $x^{i}$. " * 30, "fragment") for i in range(12)],
        tall,
        cell(new_markdown_cell, "A note for the speaker.", "notes"),
        cell(new_markdown_cell, "## A table (5 min)", "slide"),
        cell(new_code_cell, "table", "fragment", outputs=[new_output("display_data", {"text/html": long_table})]),
        cell(new_code_cell, f"long_line = '{'x' * 400}'", "subslide"),
    ]
    found = look(page(cells), tmp_path)
    assert found["cut"] == []
    assert found["slides"] >= 6
    assert found["where"] >= found["slides"] - 3, "a slide that opens no section says in which it is"
    assert found["notes"] > 1, "each part of a slide that was divided has its notes"


@needs_chromium
@pytest.mark.parametrize("notebook", built([]), ids=lambda path: path.stem[:2])
def test_no_slide_of_the_course_is_cut_off(notebook, tmp_path):
    text = slides.html(nbformat.read(notebook, as_version=4), notebook.stem)
    found = look(text, tmp_path)
    assert found["cut"] == []
    assert found["slides"] > 20


def look(text: str, folder) -> dict:
    """What LOOK leaves in a page of slides, opened in a Chromium of 1280 x 720."""
    (folder / "assets").symlink_to(ASSETS)
    path = folder / "page.html"
    path.write_text(text.replace("</html>", LOOK + "</html>"), encoding="utf-8")
    width, height = slides.SIZE
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--no-first-run",
        f"--user-data-dir={folder / 'browser'}",
        f"--window-size={width},{height}",
        "--virtual-time-budget=60000",
        "--allow-file-access-from-files",
        "--dump-dom",
        path.as_uri(),
    ]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=300).stdout
    found = re.search(r"data-looked=\"([^\"]*)\"", dom)
    assert found, "the slides did not start"
    return json.loads(html.unescape(found[1]))
