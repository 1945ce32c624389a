"""Places an animal in a picture and paints it: background, fur, something in front, light and noise.

Everything is drawn at twice the size and averaged down, which smooths the edges.
"""

import math
import operator
import random
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from .animal import EXTENTS, POSES, Animal, make_animal
from .shapes import ellipse, from_hsv, mixed, polygon, scaled, tube
from .species import BLACK, BROWN, CREAM, GREY, ORANGE, TAN, WHITE, Species, find_species

MIN_SIZE, MAX_SIZE = 32, 128
PARTS = ("background", "floor", "occluder", "animal", "head")  # what the numbers in `Drawing.parts` stand for


class Drawing(NamedTuple):
    image: np.ndarray  # (size, size, 3) uint8, RGB
    mask: np.ndarray  # (size, size) bool, True where the animal is visible
    box: np.ndarray  # (4,) float32, the head with ears: x0, y0, x1, y1 in pixels
    species: str
    parts: np.ndarray  # (size, size) uint8, what is visible at each pixel: a position in PARTS


def draw(species: str | Species, seed: int, size: int = 64, *, pose: str | None = None) -> Drawing:
    """One cartoon animal, `size` x `size` pixels. The same arguments always give the same drawing.

    species: a name in SPECIES, or a Species; pose: one of POSES, or None for a random one.
    The mask leaves out whiskers and whatever is hidden behind an object. The box is the whole head (ears, horns,
    trunk), hidden parts included, cut at the edge of the picture. Of the parts, "animal" is the body; body and head
    together are the mask. An occluder hides some of the animal; shapes that only lie about are background.
    Raises ValueError for an unknown species or pose and for a size outside 32 to 128.
    """
    species = find_species(species)
    _check_size(size)
    if pose is not None and pose not in POSES:
        raise ValueError(f"unknown pose {pose!r}: expected None or one of {', '.join(POSES)}")
    rng = random.Random(operator.index(seed))
    animal = make_animal(species, rng, pose)
    canvas = 2 * size
    points, whiskers, head = _place(animal, rng, canvas)
    coat, silhouette = _paint_animal(animal, points, rng, canvas)
    picture, floor = _background(rng, canvas)
    picture.paste(coat, (0, 0), silhouette)
    pen = ImageDraw.Draw(picture)
    for line, (_, colour) in zip(whiskers, animal.whiskers, strict=True):
        pen.line(line, fill=colour, width=max(1, canvas // 128))
    whole = _halved(silhouette)
    occluder = _halved(_something_in_front(picture, silhouette, head, rng, canvas))
    image = _light(picture.reduce(2), rng, size)
    mask = _halved(silhouette)
    parts = np.zeros((size, size), np.uint8)
    parts[_halved(floor)] = PARTS.index("floor")
    parts[occluder] = PARTS.index("occluder" if (whole & ~mask).any() else "background")
    parts[mask] = PARTS.index("animal")
    parts[mask & _halved(_head_alone(animal, points, canvas))] = PARTS.index("head")
    return Drawing(image, mask, np.clip(head / 2, 0, size).astype(np.float32), species.name, parts)


def draw_many(species: Sequence[str | Species], num: int, seed: int, size: int = 64):
    """`num` drawings, the species in equal shares (one more or less) and in random order.

    Returns images (num, size, size, 3) uint8, labels (num,) int64 that index into `species`, masks (num, size, size)
    bool and boxes (num, 4) float32 in pixels. Raises ValueError as `draw` does, and for no species or a negative num.
    """
    if isinstance(species, str) or not len(species):
        raise ValueError(f"species is {species!r}: expected a list of species, such as ['cat', 'dog']")
    if num < 0:
        raise ValueError(f"num is {num}: expected the number of drawings, 0 or more")
    _check_size(size)
    kinds = [find_species(kind) for kind in species]
    rng = random.Random(operator.index(seed))
    labels = [i % len(kinds) for i in range(num)]
    rng.shuffle(labels)
    images, masks = np.empty((num, size, size, 3), np.uint8), np.empty((num, size, size), bool)
    boxes = np.empty((num, 4), np.float32)
    for i, label in enumerate(labels):  # 62 random bits each: sets of other seeds share no drawing
        images[i], masks[i], boxes[i], *_ = draw(kinds[label], rng.getrandbits(62), size)
    return images, np.array(labels, np.int64), masks, boxes


def _check_size(size: int):
    if not MIN_SIZE <= operator.index(size) <= MAX_SIZE:
        raise ValueError(f"size is {size}: drawings have {MIN_SIZE} to {MAX_SIZE} pixels a side")


# ------------------------------------------------------------------------------------------------- place in the picture


def _place(animal: Animal, rng: random.Random, canvas: int):
    """Turns, scales and shifts the animal at random. Returns the points of its parts and whiskers as flat lists in
    canvas pixels, and the head's box, a float array."""
    x0, y0, x1, y1 = EXTENTS[animal.species.build][animal.pose]
    scale = canvas * rng.uniform(0.5, 0.95) / max(x1 - x0, y1 - y0)
    body = _turn(math.radians(rng.uniform(-22, 22))) * scale
    body = np.array([[rng.uniform(0.9, 1.1) * rng.choice((-1, 1)), 0], [0, 1]]) @ body.T
    head = rng.uniform(0.92, 1.15) * _turn(math.radians(rng.uniform(-16, 16))) @ body
    room = max(0, canvas - 0.9 * scale * max(x1 - x0, y1 - y0)) / 2
    middle = canvas / 2 + np.array([rng.uniform(-room, room), rng.uniform(-room, room)])
    if animal.pose == "portrait":  # the lower edge of the picture cuts the body, as in a portrait
        middle[1] = canvas - 0.45 * scale * (y1 - y0)
    shift = middle - np.array([(x0 + x1) / 2, (y0 + y1) / 2]) @ body

    outlines = [part.points for part in animal.parts] + [points for points, _ in animal.whiskers]
    lengths = [len(points) for points in outlines]
    in_head = np.repeat([part.frame == "head" for part in animal.parts] + [True] * len(animal.whiskers), lengths)
    of_box = np.repeat(
        [part.frame == "head" and part.layer != "mark" for part in animal.parts] + [False] * len(animal.whiskers),
        lengths,
    )
    points = np.concatenate(outlines)  # all at once: many small products would take half of the time
    placed = np.where(in_head[:, None], points @ head, points @ body) + shift

    corners = placed[of_box]
    low, high = corners.min(0), corners.max(0)
    inwards = np.maximum(-low, 0) - np.maximum(high - canvas, 0)  # a head at the edge is pulled into the picture
    flat, ends = (placed + inwards).ravel().tolist(), 2 * np.cumsum(lengths)
    lines = [flat[end - 2 * length : end] for end, length in zip(ends.tolist(), lengths, strict=True)]
    return lines[: len(animal.parts)], lines[len(animal.parts) :], np.concatenate([low + inwards, high + inwards])


def _turn(angle: float) -> np.ndarray:
    return np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])


# ------------------------------------------------------------------------------------------------------------- painting


def _paint_animal(animal: Animal, points, rng: random.Random, canvas: int):
    """The animal on black, and its silhouette (an 'L' image: 255 inside)."""
    textures = _textures(canvas)
    coat, silhouette = Image.new("RGB", (canvas, canvas)), Image.new("L", (canvas, canvas))
    coat_pen, silhouette_pen = ImageDraw.Draw(coat), ImageDraw.Draw(silhouette)
    for outline, part in zip(points, animal.parts, strict=True):
        if part.layer == "coat":
            coat_pen.polygon(outline, fill=part.fill, outline=part.outline)
            silhouette_pen.polygon(outline, fill=255, outline=255)
    if animal.pattern == "spot":
        colour = rng.choice([WHITE, BLACK, scaled(animal.coat, 0.5)])
        coat.paste(colour, (0, 0), rng.choice(textures["spot"]))
    coat = ImageChops.multiply(coat, rng.choice(textures["stripe" if animal.pattern == "stripe" else "fur"]))
    coat_pen = ImageDraw.Draw(coat)
    for outline, part in zip(points, animal.parts, strict=True):
        if part.layer != "coat":
            coat_pen.polygon(outline, fill=part.fill, outline=part.outline)
        if part.layer == "face":
            silhouette_pen.polygon(outline, fill=255, outline=255)
    return coat, silhouette


def _head_alone(animal: Animal, points, canvas: int) -> Image.Image:
    """The head's silhouette. Nothing of the body lies before it."""
    head = Image.new("L", (canvas, canvas))
    pen = ImageDraw.Draw(head)
    for outline, part in zip(points, animal.parts, strict=True):
        if part.frame == "head" and part.layer != "mark":
            pen.polygon(outline, fill=255, outline=255)
    return head


def _halved(silhouette: Image.Image) -> np.ndarray:
    """(size, size) bool: where at least half of a pixel's four is inside."""
    return np.asarray(silhouette.reduce(2)) > 127


@lru_cache(maxsize=4)
def _textures(canvas: int, num: int = 24) -> dict[str, list]:
    """Fur, stripes, spots and pixel noise, made once for each size because making them is slow."""
    rng = np.random.RandomState(7)  # its stream, unlike default_rng's, is frozen for good

    def smooth(rows, columns):
        noise = Image.fromarray(rng.randint(0, 256, (rows, columns)).astype(np.uint8))
        return np.asarray(noise.resize((canvas, canvas), Image.Resampling.BICUBIC), np.float32) / 127.5 - 1

    def grey(brightness):
        return Image.fromarray(np.clip(220 * brightness, 0, 255).astype(np.uint8)).convert("RGB")

    textures = {"fur": [], "stripe": [], "spot": [], "noise": []}
    y, x = np.mgrid[0:canvas, 0:canvas] / canvas
    for i in range(num):
        fine = smooth(42, 16) if i % 2 else smooth(32, 32)
        fur = 0.5 * smooth(6, 6) + 0.5 * fine
        angle, frequency = rng.uniform(-0.5, 0.5), rng.uniform(5, 9)
        wave = np.sin(2 * np.pi * frequency * (x * np.sin(angle) + y * np.cos(angle)) + 2.5 * smooth(5, 5))
        textures["fur"].append(grey(1 + 0.16 * fur))
        textures["stripe"].append(grey((1 - 0.45 * (wave > 0.45)) * (1 + 0.08 * fur)))
        textures["spot"].append(Image.fromarray(((smooth(5, 5) > 0.25) * 210).astype(np.uint8)))
        textures["noise"].append(rng.standard_normal((canvas // 2, canvas // 2, 3)).astype(np.float32))
    return textures


# Backdrop and ground as (hue, saturation, value). None: any hue, or no ground.
_SCENES = (
    ((0.56, 0.35, 0.92), (0.27, 0.45, 0.66)),  # sky over a meadow
    ((0.55, 0.25, 0.95), (0.11, 0.38, 0.86)),  # sky over sand
    ((0.09, 0.35, 0.95), (0.20, 0.40, 0.52)),  # evening over dry grass
    ((0.60, 0.10, 0.86), (0.58, 0.06, 0.95)),  # an overcast sky over snow
    ((0.34, 0.38, 0.50), (0.08, 0.42, 0.48)),  # a forest
    ((0.52, 0.45, 0.60), (0.45, 0.30, 0.62)),  # by the water
    ((0.12, 0.16, 0.90), (0.07, 0.48, 0.60)),  # a light wall over a wooden floor
    ((None, 0.28, 0.80), (0.08, 0.38, 0.56)),  # a painted wall over a floor
    ((None, 0.25, 0.78), (None, 0.25, 0.62)),  # a room of any colours
    ((None, 0.40, 0.62), None),  # a plain backdrop
)
_COATS = (ORANGE, GREY, BROWN, WHITE, BLACK, TAN, CREAM)


def _background(rng: random.Random, canvas: int) -> tuple[Image.Image, Image.Image]:
    """Two to four soft patches a side, mostly a ground, and a few shapes, half of them in the colours of fur.

    Returns the picture and the silhouette of what can be seen of the ground.
    """
    backdrop, ground = rng.choice(_SCENES)
    hue = rng.random() if backdrop[0] is None else backdrop[0]
    patches = rng.randint(2, 4)
    dim = rng.uniform(-0.25, 0.08)
    soft = bytes(
        channel
        for _ in range(patches**2)
        for channel in from_hsv(
            hue + rng.uniform(-0.07, 0.07),
            backdrop[1] + rng.uniform(-0.2, 0.2),
            backdrop[2] + dim + rng.uniform(-0.22, 0.15),
        )
    )
    picture = Image.frombytes("RGB", (patches, patches), soft).resize((canvas, canvas), Image.Resampling.BILINEAR)
    floor = Image.new("L", (canvas, canvas))
    pen, floor_pen = ImageDraw.Draw(picture), ImageDraw.Draw(floor)
    if ground and rng.random() < 0.75:
        hue = rng.random() if ground[0] is None else ground[0]
        colour = from_hsv(
            hue + rng.uniform(-0.04, 0.04),
            ground[1] + rng.uniform(-0.15, 0.15),
            ground[2] + dim + rng.uniform(-0.15, 0.15),
        )
        left, right = (canvas * (rng.uniform(0.5, 0.85) + rng.uniform(-0.06, 0.06)) for _ in range(2))
        outline = [0, left, canvas, (left + right) / 2, canvas, canvas, 0, canvas]
        pen.polygon(outline, fill=colour)
        floor_pen.polygon(outline, fill=255)
    for _ in range(rng.randint(1, 7)):
        colour = rng.choice(_COATS) if rng.random() < 0.5 else _any_colour(rng)
        outline = _clutter(rng, canvas).ravel().tolist()
        pen.polygon(outline, fill=colour, outline=scaled(colour, 0.6))
        floor_pen.polygon(outline, fill=0, outline=0)
    return picture, floor


def _any_colour(rng: random.Random):
    return from_hsv(rng.random(), rng.uniform(0.1, 0.6), rng.uniform(0.3, 0.95))


def _clutter(rng: random.Random, canvas: int) -> np.ndarray:
    """An ellipse, a box or a triangle somewhere: ears, heads and legs are not the only such shapes in the picture."""
    x, y, radius = rng.uniform(0, canvas), rng.uniform(0, canvas), canvas * rng.uniform(0.05, 0.2)
    kind, squeeze = rng.random(), rng.uniform(0.3, 1.1)
    if kind < 0.4:
        return ellipse(x, y, radius, radius * squeeze, rng.uniform(0, 3))
    if kind < 0.7:
        return polygon(
            (x - radius, y - squeeze * radius),
            (x + radius, y - squeeze * radius),
            (x + radius * rng.uniform(0.5, 1), y + radius),
            (x - radius, y + radius),
        )
    half_width = radius * rng.uniform(0.3, 1)
    return polygon(
        (x - half_width, y + radius),
        (x + half_width, y + radius),
        (x + radius * rng.uniform(-0.4, 0.4), y - radius * rng.uniform(0.6, 1.6)),
    )


def _something_in_front(picture, silhouette, head: np.ndarray, rng: random.Random, canvas: int) -> Image.Image:
    """In three pictures of eight a ball, a box or a blade of grass hides a part of the animal, never the whole head.

    Returns its silhouette.
    """
    occluder = Image.new("L", (canvas, canvas))
    if rng.random() > 0.375:
        return occluder
    colour, kind = from_hsv(rng.random(), rng.uniform(0.2, 0.7), rng.uniform(0.35, 0.95)), rng.random()
    x, y, radius = rng.uniform(0.1, 0.9) * canvas, rng.uniform(0.55, 1) * canvas, canvas * rng.uniform(0.08, 0.18)
    if kind < 0.7:
        if head[0] - radius < x < head[2] + radius:  # slides down until it leaves the upper part of the head free
            y = max(y, 0.35 * head[1] + 0.65 * head[3] + radius)
        square = polygon(
            (x - radius, y - 0.8 * radius),
            (x + radius, y - 0.8 * radius),
            (x + radius, y + radius),
            (x - radius, y + radius),
        )
        shape = ellipse(x, y, radius, radius) if kind < 0.4 else square
    else:
        sway, unit = x + rng.uniform(-0.16, 0.16) * canvas, canvas / 128
        tip = (x + rng.uniform(-0.23, 0.23) * canvas, canvas * rng.uniform(0.3, 0.6))
        shape = tube((x, canvas), (sway, 0.7 * canvas), tip, 5 * unit, 2 * unit)
        colour = mixed(colour, (60, 130, 50), 0.7)
    outline = shape.ravel().tolist()
    ImageDraw.Draw(picture).polygon(outline, fill=colour, outline=scaled(colour, 0.5))
    ImageDraw.Draw(silhouette).polygon(outline, fill=0, outline=0)
    ImageDraw.Draw(occluder).polygon(outline, fill=255, outline=255)
    return occluder


def _light(picture: Image.Image, rng: random.Random, size: int) -> np.ndarray:
    """A gradient of light, a tint and pixel noise. Returns (size, size, 3) uint8."""
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    light = rng.uniform(0.82, 1.08) + rng.uniform(-0.3, 0.3) * ramp + (rng.uniform(-0.3, 0.3) * ramp)[:, None]
    tint = np.array([rng.uniform(0.92, 1.08), 1, rng.uniform(0.90, 1.10)], np.float32)
    image = np.asarray(picture, np.float32) * (light[..., None].astype(np.float32) * tint)
    image += rng.choice(_textures(2 * size)["noise"]) * np.float32(rng.uniform(2.5, 7.5))
    return np.clip(image, 0, 255).astype(np.uint8)
