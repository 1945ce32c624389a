"""Drawn breast-ultrasound pictures: an open stand-in for the BUSI data set, made without any patient.

What is drawn follows the textbook signs (BI-RADS, American College of Radiology): benign lesions are smooth ellipses,
wider than tall, with a brighter band below; malignant ones are irregular, spiculated, taller, and cast a shadow.
"""

import math
import operator

import numpy as np
from PIL import Image, ImageDraw

from .drawing import _check_size


def draw_lesion(malignant: bool, seed: int, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """A drawing of a breast lesion in ultrasound. The same arguments always give the same drawing.

    Returns image (size, size) uint8, grey, and mask (size, size) bool, True inside the lesion. Not for any medical use.
    Raises ValueError for a size outside 32 to 128.
    """
    _check_size(size)
    rng = np.random.RandomState(operator.index(seed) % 2**32)  # its stream is frozen for good
    outline, centre, radii = _lesion_outline(malignant, rng)
    lesion = _filled(outline, size)
    y, x = np.mgrid[0:size, 0:size] / size
    tissue = _tissue(rng, x, y, size)
    under = np.clip((radii[0] - np.abs(x - centre[0])) / (0.5 * radii[0]), 0, 1) * np.clip((y - centre[1]) / 0.1, 0, 1)
    tissue *= 1 - rng.uniform(0.35, 0.7) * under if malignant else 1 + rng.uniform(0.15, 0.5) * under
    inside = rng.uniform(0.10, 0.28) + (0.10 * _smooth(rng, 8, size) if malignant else 0)
    echo = tissue * (1 - lesion) + np.clip(inside, 0.05, 1) * lesion
    speckle = rng.rayleigh(0.8, (size, size))  # the grain of coherent ultrasound is multiplicative
    grain = (speckle + np.roll(speckle, 1, 0) + np.roll(speckle, 1, 1)) / 3
    depth = 1 - rng.uniform(0, 0.35) * y
    image = 255 * np.clip(echo * grain * depth, 0, 1) ** 0.8
    return image.astype(np.uint8), lesion > 0.5


def _lesion_outline(malignant: bool, rng):
    """Points in 0..1, the centre and the half width and height."""
    centre = rng.uniform(0.35, 0.65), rng.uniform(0.35, 0.6)
    angles = np.linspace(0, 2 * math.pi, 72, endpoint=False)
    if malignant:
        radii = rng.uniform(0.12, 0.20), rng.uniform(0.15, 0.22)
        wobble = sum(rng.uniform(0.03, 0.12) * np.sin(k * angles + rng.uniform(0, 6)) for k in (2, 3, 5, 7))
        spikes = rng.uniform(0.15, 0.4) * np.maximum(0, np.sin(rng.randint(7, 12) * angles + rng.uniform(0, 6))) ** 3
        shape, turn = 1 + wobble + spikes, rng.uniform(-0.3, 0.3)
    else:
        radii = rng.uniform(0.14, 0.28), rng.uniform(0.08, 0.16)
        shape, turn = 1 + rng.uniform(0, 0.05) * np.sin(2 * angles + rng.uniform(0, 6)), rng.uniform(-0.35, 0.35)
    x, y = radii[0] * shape * np.cos(angles), radii[1] * shape * np.sin(angles)
    c, s = math.cos(turn), math.sin(turn)
    return np.stack([centre[0] + c * x - s * y, centre[1] + s * x + c * y], 1), centre, radii


def _filled(outline: np.ndarray, size: int) -> np.ndarray:
    """(size, size) float, 1 inside the outline, smooth at its edge."""
    image = Image.new("L", (4 * size, 4 * size))
    ImageDraw.Draw(image).polygon((4 * size * outline).ravel().tolist(), fill=255)
    return np.asarray(image.reduce(4), np.float32) / 255


def _smooth(rng, cells: int, size: int) -> np.ndarray:
    noise = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
    return np.asarray(noise.resize((size, size), Image.Resampling.BICUBIC))


def _tissue(rng, x, y, size: int) -> np.ndarray:
    """Bright skin, darker fat, and streaky gland below: the brightness without the lesion."""
    wavy = y + 0.03 * _smooth(rng, 4, size)
    skin, fat = rng.uniform(0.05, 0.09), rng.uniform(0.18, 0.32)
    streaks = np.asarray(
        Image.fromarray(rng.uniform(-1, 1, (24, 6)).astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC)
    )
    gland = rng.uniform(0.42, 0.6) + 0.14 * streaks + 0.1 * _smooth(rng, 5, size)
    layers = np.where(wavy < skin, 0.75, np.where(wavy < fat, rng.uniform(0.25, 0.38) + 0.08 * streaks, gland))
    return np.clip(layers, 0.05, 1)
