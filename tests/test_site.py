"""The site: how its pages are made; and, marked `site`, that each of the built ones holds in a browser."""

import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tools import site

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

GLOSSARY = """# Glossary

## A

- **anchor** (default box): A box. [10](../notebooks/10_x.ipynb) §8

## B

- **batch** (mini-batch): Some examples.
- **batch normalisation** (batch norm): By the batch.
"""


# ---- texts -----------------------------------------------------------------------------------------------------------


def test_the_glossary_becomes_sphinx_terms_and_its_other_names_lead_there():
    text, words = site.glossary(GLOSSARY)
    assert "```{glossary}\nanchor\n  (default box) A box. [10](../notebooks/10_x.ipynb) §8\n```" in text
    assert words == {
        "anchor": "anchor",
        "default box": "anchor",
        "batch": "batch",
        "mini-batch": "batch",
        "batch normalisation": "batch normalisation",
        "batch norm": "batch normalisation",
    }


def test_a_word_is_linked_where_it_first_comes_and_nowhere_in_code_formulas_links_and_headings():
    words = site.glossary(GLOSSARY)[1]
    texts = ["# The batch\n`batch` $batch$ [batch](x) <b>", "A Mini-batch and batch norm; batches, a batch.", "batch"]
    assert site.words_linked(texts, words) == [
        texts[0],
        "A {term}`Mini-batch <batch>` and {term}`batch norm <batch normalisation>`; batches, a batch.",
        "batch",
    ]


def test_sections_get_names_to_which_topics_and_glossary_lead():
    assert site.anchored("## 3. A title (5 min)\ntext", "07_x") == "(nb07-s3)=\n## 3. A title (5 min)\ntext"
    assert site.sections_linked("[07](../notebooks/07_x.ipynb) §3") == "[07 §3](#nb07-s3)"
    row = "| T1 one | [07](../notebooks/07_x.ipynb) | 3, 4 | A |"
    assert site.sections_linked(row) == "| T1 one | [07](../notebooks/07_x.ipynb) | [3](#nb07-s3), [4](#nb07-s4) | A |"


def test_links_to_files_that_are_no_pages_lead_to_the_repository_and_badges_go(tmp_path, monkeypatch):
    monkeypatch.setattr(site, "tokens", lambda: {"@REPO@": "https://example.org/me/fork", "@REF@": "main"})
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/glossary.md").touch()
    text = "[![Open in Colab](https://a/b.svg)](https://c)\n[data](../data/README.md#x) [words](glossary.md)"
    right = "[data](https://example.org/me/fork/blob/main/data/README.md#x) [words](glossary.md)"
    assert site.addressed(text, "docs", tmp_path) == right
    monkeypatch.setattr(site, "tokens", lambda: {"@REPO@": "https://github.com/OWNER/x", "@REF@": "main"})
    text = f"{site.TO_SET}[data](../data/README.md#x) [words](glossary.md)"
    assert site.addressed(text, "docs", tmp_path) == "data [words](glossary.md)"


def test_a_folded_cell_says_what_is_inside():
    folded = new_code_cell("# @title Extra code: a figure\nx = 1", metadata={"tags": ["hide-input"]})
    notebook = new_notebook(cells=[folded, new_code_cell("y = 2")])
    site.name_folds(notebook)
    assert folded.metadata["mystnb"] == {"code_prompt_show": "Extra code: a figure"}
    assert "mystnb" not in notebook.cells[1].metadata


# ---- explorers -------------------------------------------------------------------------------------------------------


def explorer_folder(folder: Path) -> Path:
    controls = [
        {"name": "depth", "kind": "SelectionSlider", "values": ["2", "10"], "first": 1},
        {"name": "kind", "kind": "Dropdown", "values": ["a <b>", "c"], "first": 0},
    ]
    pictures = [{"file": f"1-{i:03d}.webp", "alt": f"picture {i} </script>"} for i in range(4)]
    pictures[3]["file"] = None
    folder.mkdir()
    (folder / "1.json").write_text(json.dumps({"controls": controls, "pictures": pictures}))
    for picture in pictures[:3]:
        (folder / picture["file"]).write_bytes(b"x")
    return folder


def test_an_explorer_shows_its_first_choice_and_has_labelled_controls(tmp_path):
    cell = new_code_cell("explore(draw)", outputs=[new_output("stream", text="seen\n"), new_output("display_data")])
    notebook = new_notebook(cells=[cell])
    site.with_explorers(notebook, "01_x", explorer_folder(tmp_path / "frames"), tmp_path / "static")
    page = notebook.cells[0].outputs[1].data["text/html"]
    assert notebook.cells[0].outputs[0].text == "seen\n"
    assert 'src="../_static/frames/01_x/1-002.webp" alt="picture 2 &lt;/script&gt;"' in page
    assert '<label for="explorer-01-1-0">depth</label><input id="explorer-01-1-0" type="range" min="0" max="1"' in page
    assert '<option value="0" selected>a &lt;b&gt;</option>' in page and page.count("</script>") == 1
    assert len(list((tmp_path / "static/frames/01_x").glob("*.webp"))) == 3


def test_explorers_without_their_pictures_are_told(tmp_path):
    with pytest.raises(SystemExit, match="01_x: 0 explorers, but frames/01_x has 1. Delete that folder"):
        site.with_explorers(new_notebook(), "01_x", explorer_folder(tmp_path / "frames"), tmp_path)


# ---- evidence and map ------------------------------------------------------------------------------------------------


def test_claims_are_read_off_a_stored_run():
    text = "✓ holds: It works  [90% against [10%]]  [The same for all: 3 seeds]"
    cells = [new_code_cell("", outputs=[new_output("display_data", {"text/plain": text})])]
    (claim,) = site.claims(new_notebook(cells=cells))
    assert claim == {
        "kind": "claim",
        "text": "It works",
        "figures": "90% against [10%]",
        "same": "3 seeds",
        "section": "",
    }


def test_the_map_and_the_evidence_name_every_notebook():
    page, evidence = site.course_map(), site.evidence()
    for path in site.built([]):
        assert f"notebooks/{path.stem}.html" in page and f"## {path.stem[:2]} · " in evidence


# ---- the built site in a browser (make test-site) --------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    if not CHROMIUM:
        pytest.skip("needs Chromium on the path")
    if not (site.SITE / "index.html").exists():
        pytest.skip("needs the site: make site")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


PAGES = sorted(
    p.relative_to(site.SITE).as_posix() for p in site.SITE.rglob("*.html") if not {"slides", "_static"} & set(p.parts)
)
# The contrast of each text that is seen with what lies behind it, where both are plain colours.
CONTRAST = """() => {
  const read = c => (c.match(/[\\d.]+/g) || []).map(Number);
  const light = c => c.slice(0, 3).map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = e => { for (; e; e = e.parentElement) { const c = read(getComputedStyle(e).backgroundColor);
    if (c.length == 3 || c[3] > 0.99) return c; } return [255, 255, 255]; };
  const low = [];
  const walk = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement, text = walk.currentNode.textContent.trim();
    if (!text || !e.checkVisibility({visibilityProperty: true, opacityProperty: true})) continue;
    if (e.closest("script, mjx-container, .headerlink, pre")) continue;
    const [a, b] = [light(read(getComputedStyle(e).color)), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push(`${ratio.toFixed(1)}: ${text.slice(0, 40)}`);
  }
  return low;
}"""


@pytest.mark.site
@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_page_is_whole_without_a_network(browser, name, theme):
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme=theme, offline=True)
    page = context.new_page()
    asked, failed = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("requestfailed", lambda request: failed.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.goto((site.SITE / name).as_uri())
    page.wait_for_function("!window.MathJax || !MathJax.startup || MathJax.startup.promise.then(() => true)")
    page.wait_for_timeout(300)
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert failed == []
    untold = page.eval_on_selector_all("main img", "all => all.filter(i => !i.alt.trim()).map(i => i.src)")
    assert untold == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate(CONTRAST) == []
    context.close()


@pytest.mark.site
def test_links_inside_the_site_are_whole():
    ids = {name: set(re.findall(r'\bid="([^"]+)"', (site.SITE / name).read_text("utf-8"))) for name in PAGES}
    broken = []
    for name in PAGES:
        for href in re.findall(r'<a [^>]*href="([^"]+)"', (site.SITE / name).read_text("utf-8")):
            address = urlsplit(href)
            if address.scheme or not (address.path or address.fragment):
                continue
            target = (site.SITE / name).parent / unquote(address.path) if address.path else site.SITE / name
            there = target.resolve().relative_to(site.SITE.resolve()).as_posix()
            anchor = unquote(address.fragment)
            if not target.exists() or anchor and there in ids and anchor not in ids[there]:
                broken.append(f"{name}: {href}")
    assert broken == []


@pytest.mark.site
@pytest.mark.parametrize("query, page", [("checkerboard", "03_"), ("U-Net skip", "04_")])
def test_search_finds(browser, query, page):
    tab = browser.new_page()
    tab.goto(f"{(site.SITE / 'search.html').as_uri()}?q={query}")
    tab.locator("#search-results li a").first.wait_for()
    assert any(page in link for link in tab.eval_on_selector_all("#search-results a", "all => all.map(a => a.href)"))
    tab.close()


@pytest.mark.site
@pytest.mark.parametrize("name", [name for name in PAGES if name.startswith("notebooks/")])
def test_every_explorer_changes_its_picture_by_mouse_and_by_keyboard(browser, name):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto((site.SITE / name).as_uri())
    for figure in page.locator("figure.explorer").all():
        image = figure.locator("img")

        def seen(image=image):
            return image.get_attribute("src"), image.get_attribute("alt")

        for control in figure.locator("input, select").all():
            before = seen()
            if control.evaluate("e => e.type") == "range":
                place = int(control.input_value())
                control.press("ArrowRight" if place < int(control.get_attribute("max")) else "ArrowLeft")
                by_key = seen()
                assert by_key != before
                box = control.bounding_box()
                page.mouse.click(box["x"] + (2 if int(control.input_value()) else box["width"] - 2), box["y"] + 10)
                assert seen() != by_key
            else:
                control.select_option(index=1 if control.input_value() == "0" else 0)
                assert seen() != before
        assert image.evaluate("i => i.hidden || i.decode().then(() => i.naturalWidth > 0)")
    page.close()
