"""Outlines (points, shape (n, 2)) and colours that the drawings are made of."""

import colorsys
import math

import numpy as np

from .species import Colour

_ANGLES = np.linspace(0, 2 * np.pi, 20, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], 1)


def ellipse(x: float, y: float, half_width: float, half_height: float, turn: float = 0.0) -> np.ndarray:
    """An ellipse around (x, y), turned by `turn` radians."""
    if not turn:
        return _CIRCLE * (half_width, half_height) + (x, y)
    c, s = math.cos(turn), math.sin(turn)
    return _CIRCLE @ np.array([[half_width * c, half_width * s], [-half_height * s, half_height * c]]) + (x, y)


# Points of a quadratic Bezier curve and its derivative are linear in its three control points: one small matrix each.
_T = np.linspace(0, 1, 8)
_BEZIER = np.concatenate(
    [np.stack([(1 - _T) ** 2, 2 * _T * (1 - _T), _T**2], 1), 2 * np.stack([_T - 1, 1 - 2 * _T, _T], 1)]
)


def tube(start, bend, end, start_width: float, end_width: float) -> np.ndarray:
    """A band along a quadratic Bezier curve whose half width goes from `start_width` to `end_width`."""
    curve = _BEZIER @ np.array((start, bend, end))
    points, directions = curve[:8], curve[8:]
    directions /= np.sqrt((directions * directions).sum(1, keepdims=True)) + 1e-6
    normals = directions[:, ::-1] * (-1, 1) * (start_width + (end_width - start_width) * _T)[:, None]
    tip = points[-1:] + directions[-1:] * (0.7 * end_width)
    return np.concatenate([points + normals, tip, (points - normals)[::-1]])


def tuft(
    x: float, y: float, half_width: float, half_height: float, num_spikes: int, depth: float, turn: float = 0.0
) -> np.ndarray:
    """An ellipse whose edge is fur: `num_spikes` spikes that stand out by the share `depth`."""
    angles = np.arange(2 * num_spikes) * (np.pi / num_spikes) + turn
    radii = 1 + depth * (np.arange(2 * num_spikes) % 2)
    return np.stack([x + half_width * radii * np.cos(angles), y + half_height * radii * np.sin(angles)], 1)


def polygon(*points) -> np.ndarray:
    return np.array(points, dtype=float)


def scaled(colour: Colour, factor: float) -> Colour:
    return tuple(max(0, min(255, int(channel * factor))) for channel in colour)


def mixed(a: Colour, b: Colour, share_of_b: float) -> Colour:
    return tuple(int(p * (1 - share_of_b) + q * share_of_b) for p, q in zip(a, b, strict=True))


def from_hsv(hue: float, saturation: float, value: float) -> Colour:
    """Hue in turns (any real number), saturation and value clipped to 0..1."""
    channels = colorsys.hsv_to_rgb(hue % 1, min(1, max(0, saturation)), min(1, max(0, value)))
    return tuple(int(255 * channel) for channel in channels)


def to_hsv(colour: Colour) -> tuple[float, float, float]:
    return colorsys.rgb_to_hsv(*(channel / 255 for channel in colour))
