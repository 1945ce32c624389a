"""The README's picture, docs/overview.png: drawn animals, and below them a figure of notebook 05.

    python -m tools.overview
"""

import base64
import io

import nbformat
from PIL import Image

from tools.build import ROOT, built, code_cells
from utils.critters import SPECIES, draw

WIDTH, COLUMNS, ROWS = 1200, 12, 2


def animals() -> Image.Image:
    """A sheet with one animal of each species."""
    side = WIDTH // COLUMNS
    sheet = Image.new("RGB", (WIDTH, side * ROWS), "white")
    for place, species in enumerate(SPECIES[: COLUMNS * ROWS]):
        drawing = draw(species, seed=place + 7, size=128, pose="sit").image
        picture = Image.fromarray(drawing).resize((side - 6, side - 6))
        sheet.paste(picture, (place % COLUMNS * side + 3, place // COLUMNS * side + 3))
    return sheet


def figure(name: str, function: str) -> Image.Image:
    """The figure that a built notebook stores of the cell that shows what `function` has drawn."""
    notebook = nbformat.read(built([name])[0], as_version=4)
    cell = next(cell for cell in code_cells(notebook) if f"show({function}(" in cell.source)
    picture = next(output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {}))
    return Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")


def main() -> None:
    above, below = animals(), figure("05", "results_figure")
    page = Image.new("RGB", (WIDTH, above.height + below.height + 20), "white")
    page.paste(above, (0, 0))
    page.paste(below, ((WIDTH - below.width) // 2, above.height + 20))
    (ROOT / "docs").mkdir(exist_ok=True)
    page.save(ROOT / "docs/overview.png", optimize=True)


if __name__ == "__main__":
    main()
