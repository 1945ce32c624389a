"""Draws the data that the course brings along: cartoon animals with label, masks and head box, and drawn lesions.

>>> image, mask, box, name, parts = draw("cat", seed=0)
"""

from .animal import POSES
from .drawing import PARTS, Drawing, draw, draw_many
from .lesions import draw_lesion
from .sets import draw_sets
from .species import SPECIES, Species, imaginary_species, looks_like_cat_or_dog

__all__ = [
    "PARTS",
    "POSES",
    "SPECIES",
    "Drawing",
    "Species",
    "draw",
    "draw_lesion",
    "draw_many",
    "draw_sets",
    "imaginary_species",
    "looks_like_cat_or_dog",
]
