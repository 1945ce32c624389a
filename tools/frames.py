"""All pictures of an explorer, for a page on which no kernel runs.

`tools.build` runs `write` in a notebook's own kernel, after each cell with an explorer.
"""

import itertools
import json
import math
from pathlib import Path

from utils import figures

MOST = 120  # pictures of one explorer


def write(folder: str) -> None:
    """N.json and N-000.webp, N-001.webp ... in `folder` for each new explorer; N is 1 for a notebook's first.

    The table holds the controls, and the pictures in the order of itertools.product of the controls' values: the name
    of the file (null where `draw` failed) and the alternative text. Raises ValueError for more than 120 pictures.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    while figures.explorers:
        _write(*figures.explorers.pop(0), Path(folder))


def _write(draw, controls: dict, site: dict, folder: Path) -> None:
    frames = {}
    for name, control in controls.items():
        frames[name] = [value for _, value in control.options if value in site.get(name, [value])]
    if (count := math.prod(map(len, frames.values()))) > MOST:
        sizes = " x ".join(f"{len(values)} {name}" for name, values in frames.items())
        raise ValueError(
            f"explore: {count} pictures for the site ({sizes}), {MOST} at most: choose some, site={{...}}."
        )
    number, pictures, look = 1 + len(list(folder.glob("*.json"))), [], []
    for name, control in controls.items():
        first = frames[name].index(control.value) if control.value in frames[name] else 0
        kind, labels = type(control).__name__, [str(value) for value in frames[name]]
        look.append({"name": control.description, "kind": kind, "values": labels, "first": first})
    for values in itertools.product(*frames.values()):
        file = f"{number}-{len(pictures):03d}.webp"
        try:
            with figures.no_figure_left():
                fig, alt = draw(**dict(zip(frames, values, strict=True)))
                dpi = 800 / fig.get_figwidth()
                fig.savefig(folder / file, dpi=dpi, bbox_inches="tight", pil_kwargs={"quality": 80, "method": 6})
        except Exception as error:
            file, alt = None, figures.NOT_DRAWN.format(error)
        pictures.append({"file": file, "alt": alt})
    table = json.dumps({"controls": look, "pictures": pictures}, ensure_ascii=False, indent=1)
    (folder / f"{number}.json").write_text(table, encoding="utf-8")
