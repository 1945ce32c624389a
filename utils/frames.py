"""All pictures of an explorer, for a page on which no kernel runs."""

import itertools
import json
import math
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib.pyplot as plt

MOST = 120  # pictures of one explorer
NOT_DRAWN = "This choice cannot be drawn, {0.__class__.__name__}: {0}"


@contextmanager
def no_figure_left():
    """Close what was opened inside, also where that ended in an error."""
    before = set(plt.get_fignums())
    try:
        yield
    finally:
        for number in set(plt.get_fignums()) - before:
            plt.close(number)


def offered(controls: dict, site: dict[str, Sequence]) -> dict[str, list]:
    """The values of each control that the site offers. Raises ValueError where `site` asks for others."""
    values = {name: [value for _, value in control.options] for name, control in controls.items()}
    for name, some in site.items():
        if not len(some) or any(value not in values.get(name, []) for value in some):
            raise ValueError(
                f"explore: site has {name} = {some!r}; expected some of {values.get(name, list(values))!r}."
            )
    return {name: [value for value in all_ if value in site.get(name, all_)] for name, all_ in values.items()}


def write(draw: Callable, frames: dict[str, list], controls: dict, folder: str) -> None:
    """N.json and N-000.webp, N-001.webp ... in `folder`; N is 1 for a notebook's first explorer.

    The table holds the controls, and the pictures in the order of itertools.product of the controls' values: the name
    of the file (null where `draw` failed) and the alternative text. Raises ValueError for more than 120 pictures.
    """
    if (count := math.prod(map(len, frames.values()))) > MOST:
        sizes = " x ".join(f"{len(values)} {name}" for name, values in frames.items())
        raise ValueError(
            f"explore: {count} pictures for the site ({sizes}), {MOST} at most; choose some: site={{...}}."
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    number, pictures, look = 1 + len(list(folder.glob("*.json"))), [], []
    for name, control in controls.items():
        first = frames[name].index(control.value) if control.value in frames[name] else 0
        kind, labels = type(control).__name__, [str(value) for value in frames[name]]
        look.append({"name": control.description, "kind": kind, "values": labels, "first": first})
    for values in itertools.product(*frames.values()):
        file = f"{number}-{len(pictures):03d}.webp"
        try:
            with no_figure_left():
                fig, alt = draw(**dict(zip(frames, values, strict=True)))
                dpi = 800 / fig.get_figwidth()
                fig.savefig(folder / file, dpi=dpi, bbox_inches="tight", pil_kwargs={"quality": 80, "method": 6})
        except Exception as error:
            file, alt = None, NOT_DRAWN.format(error)
        pictures.append({"file": file, "alt": alt})
    table = json.dumps({"controls": look, "pictures": pictures}, ensure_ascii=False, indent=1)
    (folder / f"{number}.json").write_text(table, encoding="utf-8")
