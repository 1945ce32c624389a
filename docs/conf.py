"""How Sphinx builds the site; tools/site.py calls it. docs/_static/ holds what is ours of style and script."""

import datetime
import sys
import tomllib
from pathlib import Path

import torch
from myst_nb.core.render import NbElementRenderer

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tools.build import TO_SET, has_address, opened, tokens  # noqa: E402

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
REPO, REF = tokens()["@REPO@"], tokens()["@REF@"]

project = html_title = "Deep learning for images"
author = "the authors"
copyright = (  # the footer: what was run, and when
    f"{VERSION}, built on {datetime.date.today()} with torch {torch.__version__.split('+')[0]}. "
    "Text and figures: CC BY 4.0, code: MIT"
)
extensions = ["myst_nb"]
html_css_files = ["site.css"]
html_js_files = ["explorer.js"]
html_copy_source = False
html_show_sphinx = False
html_theme = "sphinx_book_theme"
html_theme_options = {
    "repository_url": REPO,
    "repository_branch": REF,
    "path_to_docs": "",
    "use_repository_button": has_address(),
    "use_issues_button": has_address(),
    "use_edit_page_button": has_address(),
    "use_download_button": False,
    "launch_buttons": {"colab_url": "https://colab.research.google.com"} if has_address() else {},
    "announcement": "" if has_address() else TO_SET.strip("*").replace("`", ""),
    "show_toc_level": 2,
    "navbar_persistent": [],  # the sidebar has a search already
}
mathjax_path = "tex-svg-full.js"  # one file with all in it
myst_enable_extensions = ["dollarmath", "amsmath", "linkify"]
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_render_markdown_format = "myst"
nb_render_image_options = {"classes": "dark-light"}
nb_merge_streams = True
suppress_warnings = ["mystnb.unknown_mime_type", "misc.highlighting_failure"]

# myst-nb leaves a picture's alternative text behind.
_render_image = NbElementRenderer.render_image


def _render_image_with_its_text(self, data):
    nodes = _render_image(self, data)
    if alt := data.output_metadata.get(data.mime_type, {}).get("alt"):
        nodes[0]["alt"] = alt
    return nodes


NbElementRenderer.render_image = _render_image_with_its_text


def _buttons(app, page, template, context, doctree):
    """Kaggle beside Colab, and "suggest an edit" leads to what is edited: a notebook's source."""
    name = page.split("/")[-1]
    for group in context.get("header_buttons", []):
        for button in group.get("buttons", []):
            if button.get("label") == "source-edit-button":
                button["url"] = (
                    f"{REPO}/edit/{REF}/"
                    + {
                        True: f"notebooks/source/{name}.py",
                        False: "docs/index.md" if page == "index" else f"{page}.md",
                    }[page.startswith("notebooks/")]
                )
        if group.get("label") == "launch-buttons" and page.startswith("notebooks/"):
            look = {"type": "link", "text": "Kaggle", "tooltip": "Open in Kaggle", "icon": "_static/kaggle.svg"}
            group["buttons"].append(look | {"url": opened(name)["Kaggle"]})


def setup(app):
    app.connect("html-page-context", _buttons, priority=900)
