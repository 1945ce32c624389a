"""Figures that two or more notebooks use, and how a figure is shown: with a sentence for those who cannot see it."""

import html
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from numbers import Real

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython import get_ipython
from IPython.display import HTML, display
from matplotlib.figure import Figure
from matplotlib_inline.backend_inline import set_matplotlib_formats

__all__ = ["curves", "explore", "image_grid", "set_style", "show", "to_picture"]

NOT_DRAWN = "This choice cannot be drawn, {0.__class__.__name__}: {0}"
explorers = []  # (draw, controls, site) of each one of this kernel: tools/frames.py draws them for the site


def set_style() -> None:
    """Fonts for the back row of a lecture hall and colours that the colour-blind can tell apart (petroff10).

    Everything else is as matplotlib has it from the start, whatever a style or a matplotlibrc says. In a notebook
    figures are shown in it, as PNG, whatever MPLBACKEND says.
    """
    shell = get_ipython()
    if hasattr(shell, "kernel"):
        shell.enable_matplotlib("inline")
        set_matplotlib_formats("png")
    plt.rcdefaults()
    plt.style.use("petroff10")
    plt.rcParams.update(
        {
            "font.size": 14,
            "axes.titlesize": 15,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.3,
            "lines.linewidth": 2.5,
            "figure.figsize": (9, 4.5),
            "figure.constrained_layout.use": True,
            "legend.frameon": False,
        }
    )


def _with_alt(alt: str) -> dict:
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError(f"alt is {alt!r}: expected one sentence that says what the figure shows.")
    return {"image/png": {"alt": alt}}


def _caption(alt: str) -> HTML:
    return HTML(f'<div style="font-size:105%;font-style:italic;max-width:60em">{html.escape(alt)}</div>')


def show(fig: Figure, alt: str) -> None:
    """Show a figure with its alternative text, and the same sentence below it.

    alt: one sentence that says what is to be seen (JupyterLab hides alternative text, so it also stands as text).
    Raises ValueError without one.
    """
    display(fig, metadata=_with_alt(alt))
    display(_caption(alt))
    plt.close(fig)  # otherwise the inline backend would show it a second time at the end of the cell


def explore(draw: Callable[..., tuple[Figure, str]], *, site: dict[str, Sequence] | None = None, **choices) -> None:
    """A figure with controls that redraw it.

    draw: called with one keyword argument for each choice; returns (figure, alt).
    choices: name = the values to choose from. A slider where they are numbers, else a drop-down list; the first value
        is drawn at once.
    site: name = those of its values that the course's site offers, where not all: it shows at most 120 pictures.

    The first figure is a normal output, so that it is there on GitHub, in a slide and in a test, where no kernel runs;
    the controls change that same output (``interact`` would leave nothing without a kernel). Raises ValueError for
    choices that leave nothing to choose, and a `site` that is not among them.
    """
    import ipywidgets  # here, because only explorers need it and it takes a moment to import

    if not choices:
        raise ValueError("explore(draw) has no choices: give at least one, such as depth=[2, 10, 20].")
    controls = {}
    for name, values in choices.items():
        values, widget = list(values), ipywidgets.Dropdown
        if len(values) < 2:
            raise ValueError(f"explore: {name} = {values!r} leaves nothing to choose; give two values or more.")
        look = {"description": name.replace("_", " "), "style": {"description_width": "initial"}, "value": values[0]}
        if all(isinstance(value, Real) and not isinstance(value, bool) for value in values):
            values, widget = sorted(values), ipywidgets.SelectionSlider
            look["continuous_update"] = False  # redraws when it is let go, not at every step on the way
        controls[name] = widget(options=[(str(value), value) for value in values], **look)
    for name, some in (site or {}).items():
        there = [value for _, value in controls[name].options] if name in controls else list(controls)
        if not len(some) or any(value not in there for value in some):
            raise ValueError(f"explore: site has {name} = {some!r}; expected some of {there!r}.")

    with no_figure_left():
        fig, alt = draw(**{name: control.value for name, control in controls.items()})
        picture = display(fig, display_id=True, metadata=_with_alt(alt))
    caption = display(_caption(alt), display_id=True)

    def redraw(_change) -> None:
        try:
            with no_figure_left():
                fig, alt = draw(**{name: control.value for name, control in controls.items()})
                picture.update(fig, metadata=_with_alt(alt))
        except Exception as error:  # raised in a control it would only stand in the kernel's log
            caption.update(_caption(NOT_DRAWN.format(error)))
            raise
        caption.update(_caption(alt))

    for control in controls.values():
        control.observe(redraw, names="value")
    display(ipywidgets.HBox(list(controls.values()), layout={"flex_flow": "row wrap"}))
    explorers.append((draw, controls, site or {}))


@contextmanager
def no_figure_left():
    """Close what was opened inside, also where that ended in an error."""
    before = set(plt.get_fignums())
    try:
        yield
    finally:
        for number in set(plt.get_fignums()) - before:
            plt.close(number)


def to_picture(image: torch.Tensor) -> np.ndarray:
    """An image tensor (C, H, W), uint8 or float in 0..1, or a mask (H, W), as the array that matplotlib draws:
    (H, W, C), or (H, W) for grey. Raises ValueError for another shape."""
    image = image[None] if image.ndim == 2 else image
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ValueError(f"an image of shape {tuple(image.shape)} came; expected (3, H, W), (1, H, W) or (H, W).")
    picture = image.detach().cpu().permute(1, 2, 0).numpy()
    return picture[..., 0] if picture.shape[-1] == 1 else picture


def image_grid(
    images: Sequence[torch.Tensor],
    titles: Sequence[str] | None = None,
    columns: int = 8,
    colours: Sequence[str] | None = None,
    size: float = 1.5,
) -> Figure:
    """Images (C, H, W) side by side. titles, colours: one an image (the colour is that of the title and of the frame).
    size: inches of one image's side."""
    rows = -(-len(images) // columns)
    height = size + (0.35 if titles is not None else 0.05)
    fig, axes = plt.subplots(rows, columns, figsize=(columns * size, rows * height), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for i, (ax, image) in enumerate(zip(axes.flat, images, strict=False)):
        picture = to_picture(image)
        ax.imshow(picture, cmap="gray" if picture.ndim == 2 else None)
        if titles is not None:
            colour = {"color": colours[i]} if colours else {}
            ax.set_title(titles[i], fontsize=12, loc="center", fontweight="normal", **colour)
        if colours:
            ax.axis("on")
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set(visible=True, color=colours[i], linewidth=3)
    return fig


def curves(ax, lines: dict[str, Sequence], xlabel: str, ylabel: str, title: str, x: Sequence | None = None) -> None:
    """Lines with their names written at their ends. Set a scale or limits of the axes before.

    lines: name -> values (points,), or a table (runs, points), drawn as the band from its lowest to its highest run
    with the median inside. x: (points,), default 1, 2, 3 ... (epochs). A line that becomes NaN or infinite, as a run
    that diverges does, has its name at its last finite point; one without any such point has none.
    """
    ends = []
    for name, values in lines.items():
        values = np.atleast_2d(np.asarray(values, dtype=float))
        steps = np.arange(1, values.shape[1] + 1) if x is None else np.asarray(x)
        middle = np.median(values, axis=0)
        (line,) = ax.plot(steps, middle, marker="o" if len(steps) < 12 else None)
        if len(values) > 1:
            ax.fill_between(steps, values.min(0), values.max(0), color=line.get_color(), alpha=0.2, linewidth=0)
        finite = np.isfinite(middle)
        if finite.any():
            ends.append((float(middle[finite][-1]), steps[finite][-1], name, line.get_color()))
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    _label_ends(ax, ends)


def _label_ends(ax, ends: list[tuple[float, float, str, str]]) -> None:
    """Write each line's name at its right end, pushed up where two would overlap; in pixels, so on a log axis too."""
    ax.get_xlim(), ax.get_ylim()  # asking for the limits sets them, and with them the places in pixels
    pixels_a_point = ax.figure.dpi / 72
    gap, previous = 1.3 * plt.rcParams["font.size"] * pixels_a_point, -np.inf
    for y, x, name, colour in sorted(ends):
        y = min(ax.get_ylim()) if ax.get_yscale() == "log" and y <= 0 else y  # 0 lies endlessly far below
        place = ax.transData.transform((x, y))[1]
        previous = max(place, previous + gap)
        offset = (10, (previous - place) / pixels_a_point)
        look = {"color": colour, "fontweight": "bold", "va": "center", "annotation_clip": False}
        ax.annotate(name, (x, y), xytext=offset, textcoords="offset points", **look)
