"""Drawn breast-ultrasound pictures: an open stand-in for the BUSI data set, made without any patient.

The outline alone tells the classes apart. It follows the textbook (BI-RADS, American College of Radiology): benign
lesions are smooth ovals, malignant ones have spicules, lobes or angles. All else is drawn alike for both: place, size,
wider or taller, how dark, and whether a shadow or a bright band lies below. Both occur below benign and malignant
lesions in patients, too, but not equally often; here they do, so that no network can go by them.
"""

import math
import operator

import numpy as np
from PIL import Image, ImageDraw

from .drawing import _check_size

_ANGLES = np.linspace(0, 2 * math.pi, 180, endpoint=False)


def draw_lesion(malignant: bool, seed: int, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """A drawing of a breast lesion in ultrasound. The same arguments always give the same drawing.

    Returns image (size, size) uint8, grey, and mask (size, size) bool, True inside the lesion. Not for any medical use.
    The benign and the malignant lesion of one seed are the same picture with another outline.
    Raises ValueError for a size outside 32 to 128.
    """
    _check_size(size)
    rng = np.random.RandomState(operator.index(seed) % 2**32)  # its stream is frozen for good
    y, x = np.mgrid[0:size, 0:size] / size
    tissue = _tissue(rng, x, y, size)
    centre = rng.uniform(0.35, 0.65), rng.uniform(0.38, 0.58)
    radius, stretch = rng.uniform(0.13, 0.23), rng.uniform(0.9, 1.3)  # mostly wider than tall
    radii = radius * stretch, radius / stretch
    under = np.clip((radii[0] - np.abs(x - centre[0])) / (0.5 * radii[0]), 0, 1) * np.clip((y - centre[1]) / 0.1, 0, 1)
    tissue *= 1 + rng.uniform(-0.6, 0.5) * under  # a shadow, or a bright band
    inside = np.clip(rng.uniform(0.08, 0.25) + rng.uniform(0, 0.1) * _smooth(rng, 8, size), 0.05, 1)
    gain = rng.uniform(0.6, 1.2) * (1 - rng.uniform(0, 0.35) * y)  # of the scanner; it falls with the depth
    turn = rng.uniform(-0.35, 0.35)
    outlines = _smooth_oval(rng), _irregular(rng)  # both, so that all else is the same with either
    lesion = _filled(_placed(outlines[bool(malignant)], centre, radii, turn), size)
    speckle = rng.rayleigh(0.8, (3, size, size)).mean(0)  # multiplicative, as in ultrasound; three looks, averaged
    grain = (speckle + np.roll(speckle, 1, 0) + np.roll(speckle, 1, 1)) / 3
    echo = tissue * (1 - lesion) + inside * lesion
    image = 255 * np.clip(echo * grain * gain, 0, 1) ** 0.8
    return image.astype(np.uint8), lesion > 0.5


def _smooth_oval(rng) -> np.ndarray:
    """The distance of the outline from its centre at each of the angles; about 1."""
    return 1 + sum(rng.uniform(0, 0.06) * np.sin(k * _ANGLES + rng.uniform(0, 6)) for k in (2, 3))


def _irregular(rng) -> np.ndarray:
    first, second, third = rng.uniform(0, 2 * math.pi, 3)
    kind, num, height = rng.randint(3), rng.randint(6, 10), rng.uniform(0.7, 1) * (1 + 0.4 * np.sin(_ANGLES + first))
    wave = np.abs(np.sin(num / 2 * (_ANGLES + 0.4 * np.sin(_ANGLES + second)) + third))  # `num` hills, unevenly spaced
    if kind == 0:  # spicules
        return 1 + height * wave**4
    if kind == 1:  # lobes
        return 1 + 0.6 * height * wave**0.7
    corners = np.tile([0.65, 1.35], num // 2 + 1) + rng.uniform(-0.25, 0.25, num // 2 * 2 + 2)  # angles
    places = np.arange(len(corners)) * (2 * math.pi / len(corners))
    return np.interp(_ANGLES + first, places, corners, period=2 * math.pi)


def _placed(distance: np.ndarray, centre, radii, turn: float) -> np.ndarray:
    """The points (n, 2) of an outline, about as large as an ellipse of these radii.

    Half by how far its tips reach and half by how far all of it does: by its tips alone a spiculated one would have a
    smaller area than a smooth one, by its area alone it would be wider and taller.
    """
    points = distance[:, None] * np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], 1)
    points -= points.mean(0)
    points *= np.array(radii) / np.sqrt(points.std(0) * math.sqrt(2) * np.ptp(points, 0) / 2)
    c, s = math.cos(turn), math.sin(turn)
    return points @ np.array([[c, s], [-s, c]]) + centre


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
