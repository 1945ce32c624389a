"""One animal as a list of coloured polygons: what is chosen for this drawing, then body, head and face.

Everything is in the animal's own units (see species.py); drawing.py places it in the picture and paints it.
"""

import math
import random
from typing import NamedTuple

import numpy as np

from .shapes import ellipse, from_hsv, mixed, polygon, scaled, to_hsv, tube, tuft
from .species import BLACK, CREAM, Colour, Ear, Species

POSES = ("sit", "stand", "lie", "portrait")
_POSE_SHARES = (0.34, 0.28, 0.20, 0.18)

# Rough outline x0, y0, x1, y1 of the whole animal: it decides how large a unit is drawn.
EXTENTS = {
    "four-legged": {
        "sit": (-1.7, -1.7, 2.0, 3.1),
        "stand": (-1.4, -1.6, 4.0, 3.0),
        "lie": (-1.4, -1.6, 3.6, 2.2),
        "portrait": (-1.5, -1.7, 1.5, 2.3),
    },
    "bird": {
        "sit": (-1.5, -1.5, 1.5, 3.2),
        "stand": (-1.9, -1.5, 1.9, 3.3),
        "lie": (-1.6, -1.5, 1.6, 2.5),
        "portrait": (-1.5, -1.6, 1.5, 2.3),
    },
    "frog": {
        "sit": (-1.8, -1.5, 1.8, 2.8),
        "stand": (-1.5, -1.5, 3.3, 2.5),
        "lie": (-1.5, -1.5, 3.6, 1.9),
        "portrait": (-1.5, -1.5, 1.5, 2.3),
    },
}

NEAR_BLACK, IVORY, EYE_LINE = (45, 38, 40), (248, 244, 236), (35, 28, 28)
BIRD_FOOT, TONGUE = (232, 160, 60), (230, 105, 115)


class Part(NamedTuple):
    points: np.ndarray  # (n, 2) in the units of its frame
    fill: Colour
    outline: Colour | None
    frame: str  # "body" or "head": the head is turned on its own
    layer: str  # "coat": has fur and makes the silhouette; "mark": painted
    # inside the silhouette; "face": on top, may stand out of it


class Animal:
    """The choices of one drawing, and its parts from back to front."""

    def __init__(self, species: Species, rng: random.Random, pose: str):
        self.species, self.rng, self.pose = species, rng, pose
        self.parts: list[Part] = []
        self.whiskers: list[tuple[np.ndarray, Colour]] = []
        hue, saturation, value = to_hsv(rng.choice(species.coats))
        self.coat = from_hsv(
            hue + rng.uniform(-0.02, 0.02),
            saturation * rng.uniform(0.75, 1.2),
            max(0.18, value * rng.uniform(0.98, 1.3)),
        )
        self.line = scaled(self.coat, 0.45)
        self.light = mixed(self.coat, (255, 250, 240), rng.uniform(0.45, 0.75))
        self.dark = scaled(self.coat, 0.62)
        self.limb = species.limb_colour or self.coat
        self.pattern = rng.choices(tuple(species.patterns), tuple(species.patterns.values()))[0]
        self.ear = rng.choice(species.ears)
        self.tail = rng.choice(species.tails)
        self.fatness = rng.uniform(0.85, 1.15) * (1.2 if self.has("heavy") else 1)
        self.leg_width = rng.uniform(0.2, 0.3) * (1.3 if self.has("heavy") else 1)
        self.yaw = rng.uniform(-0.6, 0.6)  # how far the face looks to one side
        self.face_x = 0.30 * self.yaw
        self.face_width = 1 - 0.25 * abs(self.yaw)

    def has(self, feature: str) -> bool:
        return feature in self.species.features

    def body(self, points, fill, outline=True):
        self._add(points, fill, outline, "body", "coat")

    def head(self, points, fill, outline=True):
        self._add(points, fill, outline, "head", "coat")

    def mark(self, points, fill):
        self._add(points, fill, None, "head", "mark")

    def face(self, points, fill, outline=None):
        self._add(points, fill, outline, "head", "face")

    def _add(self, points, fill, outline, frame, layer):
        self.parts.append(Part(points, fill, self.line if outline is True else outline or None, frame, layer))


def make_animal(species: Species, rng: random.Random, pose: str | None = None) -> Animal:
    pose_at_random = rng.choices(POSES, _POSE_SHARES)[0]  # drawn always: the rest then is the same animal
    animal = Animal(species, rng, pose or pose_at_random)
    _tail(animal)
    _BODIES[species.build](animal)
    _head(animal)
    _markings(animal)
    _muzzle(animal)
    _eyes(animal)
    _nose_and_mouth(animal)
    _whiskers(animal)
    return animal


# ------------------------------------------------------------------------------------------------------------- the body

_TAILS = {  # length, half width at root and tip, how much it bends
    "long": (1.6, 0.16, 0.12, 1.0),
    "mid": (1.1, 0.20, 0.10, 0.6),
    "bushy": (1.2, 0.22, 0.36, 0.6),
    "curl": (1.0, 0.22, 0.20, 1.8),
    "pom": (0.25, 0.35, 0.35, 0),
    "stub": (0.3, 0.20, 0.20, 0),
    "brush": (1.5, 0.20, 0.42, 0.6),
    "thin": (1.7, 0.09, 0.05, 0.9),
    "curly": (0.7, 0.10, 0.08, 1.8),
    "tuft": (1.4, 0.10, 0.08, 0.3),
    "spiral": (1.5, 0.12, 0.10, 1.8),
    "ringed": (1.4, 0.26, 0.26, 0.6),
    "plume": (1.9, 0.30, 0.55, 1.5),
}
_TAIL_ROOTS = {"sit": (0.75, 2.65, -0.35), "stand": (3.15, 1.0, -0.5), "lie": (2.6, 1.3, -0.2)}  # x, y, direction


def _tail(animal: Animal):
    if animal.pose == "portrait" or animal.tail == "none":
        return
    x, y, direction = _TAIL_ROOTS[animal.pose]
    length, root_width, tip_width, bend = _TAILS[animal.tail]
    length *= animal.rng.uniform(0.85, 1.15)
    bend *= animal.rng.uniform(0.5, 1.1)
    tip = (x + length * math.cos(direction) * (1 - 0.35 * bend), y + length * (math.sin(direction) - 0.55 * bend))
    middle = (x + 0.75 * length, y + 0.1)
    animal.body(tube((x, y), middle, tip, root_width, tip_width), animal.light if animal.tail == "pom" else animal.coat)
    if animal.tail == "tuft":
        animal.body(tuft(*tip, 0.22, 0.22, 6, 0.3), animal.dark)
    elif animal.tail == "brush":
        animal.body(tuft(*tip, 0.36, 0.36, 7, 0.2), (245, 240, 230))
    elif animal.tail == "ringed":
        for t in (0.35, 0.60, 0.85):
            weights = (1 - t) ** 2, 2 * t * (1 - t), t * t
            animal.body(ellipse(*(weights @ np.array([(x, y), middle, tip])), 0.2, 0.28, 0.6), BLACK, outline=False)


def _trunk(animal: Animal, x, y, half_width, half_height, num_spikes=12):
    """The middle of the body: smooth, or woolly."""
    if animal.has("wool"):
        animal.body(tuft(x, y, 1.06 * half_width, 1.06 * half_height, num_spikes, 0.12), animal.coat)
    else:
        animal.body(ellipse(x, y, half_width, half_height), animal.coat)


def _leg(animal: Animal, x, top, bottom, colour):
    width = animal.leg_width
    animal.body(
        polygon((x - width, top), (x + width, top), (x + 0.9 * width, bottom), (x - 0.9 * width, bottom)), colour
    )
    animal.body(ellipse(x - 0.06, bottom, 1.3 * width, 0.8 * width), colour)


def _four_legged(animal: Animal):
    fat, limb = animal.fatness, animal.limb
    if animal.pose == "sit":
        for side in (-1, 1):
            animal.body(ellipse(side * 0.72 * fat, 2.5, 0.42, 0.42), limb)
        _trunk(animal, 0, 1.75, 0.9 * fat, 1.1)
        if animal.pattern == "bib":
            animal.body(ellipse(0, 1.6, 0.5 * fat, 0.8), animal.light, outline=False)
        for side in (-1, 1):
            _leg(animal, side * 0.34, 1.9, 2.8, limb)
    elif animal.pose == "stand":
        for x in (1.0, 2.75):
            _leg(animal, x, 1.5, 2.65, scaled(limb, 0.75))
        _trunk(animal, 1.75, 1.3, 1.55, 0.75 * fat)
        animal.body(ellipse(0.45, 0.75, 0.6, 0.7), limb, outline=False)  # the neck
        for x in (0.65, 2.4):
            _leg(animal, x, 1.6, 2.75, limb)
    elif animal.pose == "lie":
        _trunk(animal, 1.0, 1.25, 1.75, 0.72 * fat)
        animal.body(ellipse(2.1, 1.45, 0.65, 0.5), limb)
        animal.body(ellipse(-0.5, 1.8, 0.5, 0.24), limb)
        animal.body(ellipse(0.45, 1.88, 0.5, 0.24), limb)
    else:
        _shoulders(animal)


def _shoulders(animal: Animal):
    colour = animal.limb
    if animal.has("wool"):
        animal.body(tuft(0, 2.2, 1.3, 1.35, 11, 0.1), colour)
    else:
        animal.body(ellipse(0, 2.2, 1.15 * animal.fatness, 1.4), colour)
    if animal.pattern == "bib" or animal.species.build == "frog":
        animal.body(ellipse(0, 2.0, 0.55 * animal.fatness, 0.9), animal.light, outline=False)


def _bird(animal: Animal):
    fat, pose = animal.fatness, animal.pose
    if pose == "portrait":
        _shoulders(animal)
        for side in (-1, 1):
            animal.body(ellipse(side * 1.05 * fat, 2.3, 0.35, 1.0, -0.15 * side), animal.dark)
        return
    y, half_width, half_height = {"sit": (1.7, 0.92, 1.15), "stand": (1.5, 0.82, 1.05), "lie": (1.45, 1.2, 0.9)}[pose]
    bottom = y + half_height
    if pose != "lie":  # lying down, a bird hides its feet
        foot = bottom + (0.55 if pose == "stand" else 0.1)
        for side in (-1, 1):
            _bird_foot(animal, side * 0.38, bottom - 0.3, foot)
    animal.body(ellipse(0, y, half_width * fat, half_height), animal.coat)
    animal.body(ellipse(0, y + 0.1, 0.6 * half_width * fat, 0.75 * half_height), animal.light, outline=False)
    shoulder, tip = y - 0.6 * half_height, y + 0.75 * half_height
    half_width *= fat
    for side in (-1, 1):
        if pose == "stand":  # standing, the wings are held a little open
            wing = tube(
                (0.7 * side * half_width, shoulder),
                (side * (half_width + 0.5), y - 0.1),
                (side * (half_width + 0.45), y + 0.6 * half_height),
                0.3,
                0.1,
            )
        else:
            wing = tube(
                (0.7 * side * half_width, shoulder),
                (side * (half_width + 0.35), y),
                (0.7 * side * half_width, tip),
                0.3,
                0.1,
            )
        animal.body(wing, animal.dark)


def _bird_foot(animal: Animal, x, top, bottom):
    animal.body(
        polygon((x - 0.09, top), (x + 0.09, top), (x + 0.09, bottom), (x - 0.09, bottom)), BIRD_FOOT, outline=False
    )
    animal.body(
        polygon(
            (x, bottom - 0.15),
            (x + 0.36, bottom + 0.1),
            (x + 0.14, bottom + 0.02),
            (x, bottom + 0.16),
            (x - 0.14, bottom + 0.02),
            (x - 0.36, bottom + 0.1),
        ),
        BIRD_FOOT,
        outline=(150, 95, 40),
    )


def _frog(animal: Animal):
    fat, limb, pose = animal.fatness, animal.limb, animal.pose
    if pose == "sit":
        for side in (-1, 1):  # folded hind legs to the left and right
            animal.body(ellipse(side * 1.1, 2.52, 0.55, 0.16), limb)
            animal.body(ellipse(side * 0.95, 1.95, 0.42, 0.72, -0.5 * side), limb)
        animal.body(ellipse(0, 1.5, 0.9 * fat, 1.05), animal.coat)
        animal.body(ellipse(0, 1.6, 0.6 * fat, 0.8), animal.light, outline=False)
        for side in (-1, 1):
            animal.body(tube((side * 0.45, 1.3), (side * 0.62, 1.9), (side * 0.4, 2.5), 0.17, 0.12), limb)
            _webbed_foot(animal, side * 0.4, 2.5)
    elif pose == "stand":  # crouched, ready to leap
        animal.body(tube((2.75, 1.6), (1.9, 2.0), (2.5, 2.25), 0.2, 0.13), scaled(limb, 0.8))
        animal.body(tube((0.3, 0.8), (1.6, 0.2), (2.9, 1.6), 0.75 * fat, 0.45), animal.coat)
        animal.body(tube((0.4, 1.1), (1.4, 1.9), (2.7, 1.7), 0.3, 0.25), animal.light, outline=False)
        animal.body(ellipse(2.35, 1.5, 0.72, 0.42, -0.5), limb)
        animal.body(ellipse(2.55, 2.2, 0.62, 0.15), limb)
        animal.body(tube((0.55, 1.2), (0.35, 1.7), (0.5, 2.15), 0.18, 0.12), limb)
        _webbed_foot(animal, 0.5, 2.15)
    elif pose == "lie":  # flat, one hind leg stretched out
        animal.body(tube((2.0, 1.35), (2.6, 1.75), (3.2, 1.45), 0.2, 0.12), limb)
        _webbed_foot(animal, 3.2, 1.45)
        animal.body(tube((0.2, 0.85), (1.2, 0.6), (2.3, 1.3), 0.65 * fat, 0.4), animal.coat)
        animal.body(ellipse(1.95, 1.3, 0.6, 0.36, 0.2), limb)
        animal.body(tube((0.4, 1.2), (-0.1, 1.35), (-0.55, 1.5), 0.17, 0.12), limb)
        _webbed_foot(animal, -0.55, 1.5)
    else:
        _shoulders(animal)


def _webbed_foot(animal: Animal, x, y):
    animal.body(
        polygon(
            (x, y - 0.12),
            (x + 0.3, y + 0.12),
            (x + 0.12, y + 0.1),
            (x, y + 0.2),
            (x - 0.12, y + 0.1),
            (x - 0.3, y + 0.12),
        ),
        animal.limb,
    )


_BODIES = {"four-legged": _four_legged, "bird": _bird, "frog": _frog}


# ------------------------------------------------------------------------------------------------------------- the head

HORN, HORN_LINE, ANTLER, ANTLER_LINE = (235, 225, 200), (120, 110, 90), (165, 120, 80), (90, 60, 40)


def _head(animal: Animal):
    rng, species = animal.rng, animal.species
    width, height = species.head[0] * rng.uniform(0.94, 1.06), species.head[1] * rng.uniform(0.94, 1.06)
    animal.head_width, animal.head_height = width, height
    animal.ear = Ear(
        animal.ear.kind,
        animal.ear.width * rng.uniform(0.88, 1.14),
        animal.ear.length * rng.uniform(0.82, 1.15),
        math.radians(animal.ear.angle + rng.uniform(-6, 6)),
    )
    darker_ears = animal.pattern == "spot" and rng.random() < 0.5
    ear_colour = species.ear_colour or (animal.dark if darker_ears else animal.coat)
    for side in (-1, 1):
        if animal.ear.kind not in ("hanging", "eye bump"):
            _ear(animal, side, ear_colour)
    _headgear(animal)
    if animal.has("wool"):
        animal.head(tuft(0, -0.55, 1.05 * width, 0.6, 8, 0.2, rng.uniform(0, 1)), animal.coat)
        animal.skin = rng.choice([(70, 62, 62), CREAM, scaled(animal.coat, 0.8)])
    else:
        animal.skin = animal.coat
    fluffy = rng.random() < species.fluffy
    outline = tuft(0, 0.06, 1.02 * width, height, 11, 0.12, 0.14) if fluffy else ellipse(0, 0, width, height)
    animal.head(outline, animal.skin)
    for side in (-1, 1):  # these lie over the head
        if animal.ear.kind in ("hanging", "eye bump"):
            _ear(animal, side, ear_colour)
    if animal.has("forelock"):
        animal.head(tuft(0, -0.9 * height, 0.3, 0.35, 6, 0.3), animal.dark)
    if animal.has("beard"):
        x = animal.face_x
        animal.head(polygon((x - 0.2, 0.92 * height), (x + 0.2, 0.92 * height), (x, 1.45 * height)), animal.light)


def _ear_root(animal: Animal, side: int) -> tuple[float, float]:
    x = side * animal.head_width * math.sin(animal.ear.angle) * 0.92 + 0.3 * animal.face_x
    return x, -0.92 * animal.head_height * math.cos(animal.ear.angle)


def _ear(animal: Animal, side: int, colour: Colour):
    ear = animal.ear
    x, y = _ear_root(animal, side)
    width, length = ear.width * (1 - 0.2 * animal.yaw * side), ear.length
    up = np.array([side * math.sin(0.6 * ear.angle), -math.cos(0.6 * ear.angle)])
    lean = side * animal.rng.uniform(-0.12, 0.12)
    inside = (190, 130, 130) if colour == BLACK else mixed(animal.coat, (240, 160, 160), 0.55)
    if ear.kind == "pointed":
        root, across = np.array([x, y]), width * np.array([-up[1], up[0]])
        corners = np.array([root + across, root + up * length + (lean, 0), root - across])
        animal.head(np.concatenate([corners, [(0.6 * x, 0.6 * y)]]), colour)
        centre = corners.mean(0)
        animal.head(0.75 * centre + 0.05 * corners[1] + 0.2 * root + 0.58 * (corners - centre), inside, outline=False)
    elif ear.kind == "round":
        animal.head(ellipse(x, y, width, length), colour)
        inside = inside if colour == animal.coat else scaled(colour, 1.5)
        animal.head(ellipse(x, y, 0.6 * width, 0.6 * length), inside, outline=False)
    elif ear.kind == "long":
        bend = (x + 0.5 * length * up[0], y + 0.6 * length * up[1])
        tip = (x + length * up[0] + 2 * lean, y + length * up[1])
        animal.head(tube((0.8 * x, 0.8 * y), bend, tip, 0.8 * width, 0.75 * width), colour)
        tip = (x + 0.9 * length * up[0] + 2 * lean, y + 0.92 * length * up[1])
        animal.head(tube((0.9 * x, y), bend, tip, 0.4 * width, 0.4 * width), inside, outline=False)
    elif ear.kind == "hanging":
        bend, end = (1.25 * x + 0.25 * side, 0.6 * y), (1.18 * x + 0.12 * side + lean, 0.5 * y + length)
        animal.head(tube((0.85 * x, 0.95 * y), bend, end, 0.75 * width, width), scaled(colour, 0.82))
    elif ear.kind == "sideways":
        x, y, turn = side * (animal.head_width + 0.6 * length), -0.45 + side * lean, 0.25 * side
        animal.head(ellipse(x, y, length, width, turn), colour)
        animal.head(ellipse(x, y, 0.6 * length, 0.55 * width, turn), inside, outline=False)
    elif ear.kind == "fan":
        x = side * (animal.head_width + 0.55 * width)
        animal.head(ellipse(x, -0.05, width, length, 0.2 * side), colour)
        animal.head(ellipse(x, -0.05, 0.7 * width, 0.7 * length, 0.2 * side), inside, outline=False)
    elif ear.kind == "eye bump":
        animal.head(ellipse(x, y, width, length), animal.coat)


def _headgear(animal: Animal):
    """What stands behind or around the head: horns, antlers, spines, a mane."""
    rng, width, height = animal.rng, animal.head_width, animal.head_height
    horns, antlers = animal.has("horns") and rng.random() < 0.9, animal.has("antlers") and rng.random() < 0.6
    for side in (-1, 1):
        if horns:
            horn = tube(
                (0.4 * side, -0.85 * height), (0.75 * side, -1.1 * height), (0.7 * side, -1.5 * height), 0.16, 0.05
            )
            animal.head(horn, HORN, HORN_LINE)
        if antlers:
            beam = tube(
                (0.3 * side, -0.85 * height), (0.7 * side, -1.2 * height), (0.85 * side, -1.75 * height), 0.1, 0.05
            )
            tine = tube(
                (0.55 * side, -1.2 * height), (0.45 * side, -1.4 * height), (0.4 * side, -1.6 * height), 0.07, 0.04
            )
            animal.head(beam, ANTLER, ANTLER_LINE)
            animal.head(tine, ANTLER, ANTLER_LINE)
    if animal.has("spines"):
        colour = rng.choice([(110, 80, 60), (80, 62, 55), (140, 110, 85)])
        animal.head(tuft(0, -0.1, 1.25 * width, 1.3 * height, 15, 0.3, rng.uniform(0, 1)), colour, (50, 38, 30))
    if animal.has("mane"):
        colour = rng.choice([(150, 85, 35), (120, 65, 35), (95, 60, 40), (190, 120, 50)])
        animal.head(tuft(0, 0.08, 1.3 * width, 1.32 * height, 13, 0.18, rng.uniform(0, 1)), colour, scaled(colour, 0.5))
        if animal.ear.kind == "round":  # small ears would vanish behind the mane
            for side in (-1, 1):
                animal.head(
                    ellipse(0.8 * side * width, -0.8 * height, animal.ear.width, animal.ear.length), animal.coat
                )


# ------------------------------------------------------------------------------------------------------------- the face

PALE_FUR, MASK_FUR, STRIPE = (225, 220, 215), (45, 42, 45), (45, 35, 30)


def _markings(animal: Animal):
    x, width, head = animal.face_x, animal.face_width, animal.head_width
    if animal.has("white cheeks"):
        for side in (-1, 1):
            cheek = polygon((0.5 * x, 0.15), (side * head, 0.05), (0.55 * side * head, 0.75), (0.5 * x, 0.85))
            animal.mark(cheek, IVORY)
    if animal.has("light face"):
        for side in (-1, 1):
            animal.mark(ellipse(x + 0.28 * side, -0.15, 0.36, 0.4), animal.light)
    if animal.has("bandit mask"):
        animal.mark(ellipse(x, 0.05, 0.22, 0.8), PALE_FUR)
        for side in (-1, 1):
            animal.mark(ellipse(x + 0.45 * side * width, 0, 0.36, 0.24, 0.35 * side), MASK_FUR)
            animal.mark(ellipse(x + 0.50 * side * width, -0.36, 0.36, 0.12, 0.3 * side), PALE_FUR)
    if animal.has("eye patches"):
        for side in (-1, 1):
            animal.mark(ellipse(x + 0.43 * side * width, -0.02, 0.27, 0.34, 0.5 * side), BLACK)
    if animal.has("brow stripes"):
        for k in (-0.25, 0, 0.25):
            animal.mark(tube((x + 0.6 * k, -0.85), (x + k, -0.65), (x + k, -0.45), 0.07, 0.02), STRIPE)
        for side in (-1, 1):
            for y in (0.15, 0.42):
                edge = side * head
                animal.mark(tube((0.98 * edge, y), (0.8 * edge, y + 0.02), (0.65 * edge, y), 0.07, 0.02), STRIPE)
    if animal.has("blaze") and animal.pattern == "bib" and animal.rng.random() < 0.6:
        animal.mark(tube((0.7 * x, -0.85), (x, -0.3), (x, 0.4), 0.12, 0.2), animal.light)
    if animal.has("rosy cheeks"):
        for side in (-1, 1):
            animal.mark(ellipse(x + 0.72 * side, 0.35, 0.3, 0.26), mixed(animal.coat, (255, 170, 160), 0.5))


def _muzzle(animal: Animal):
    rng = animal.rng
    scale, pale = rng.uniform(0.9, 1.15), rng.random() < 0.75
    animal.nose_x, animal.nose_y = 1.3 * animal.face_x, 0.2
    if animal.species.muzzle is None:
        return
    width, height, y = animal.species.muzzle
    animal.muzzle_height, animal.muzzle_y = height * scale, y
    animal.nose_y = y - 0.45 * animal.muzzle_height
    colour = animal.light if pale else mixed(animal.skin, (255, 250, 240), 0.2)
    if animal.has("pink muzzle"):
        colour = (235, 180, 175)
    if animal.has("split muzzle"):
        for side in (-1, 1):
            animal.face(ellipse(animal.nose_x + 0.2 * side, y, 0.27 * scale, height * scale), colour)
    else:
        animal.face(ellipse(animal.nose_x, y, width * scale, height * scale), colour)


def _eyes(animal: Animal):
    rng, species = animal.rng, animal.species
    radius, spacing, y = species.eyes
    radius *= rng.uniform(0.85, 1.15)
    iris, look, closed = rng.choice(species.irises), rng.uniform(-0.25, 0.25) * radius, rng.random() < 0.06
    slit = rng.random() < species.slit_pupils
    for side in (-1, 1):
        x = animal.face_x + side * spacing * animal.face_width
        if animal.ear.kind == "eye bump":
            x, y = _ear_root(animal, side)
        if closed:
            animal.face(tube((x - radius, y), (x, y + 0.7 * radius), (x + radius, y), 0.05, 0.05), EYE_LINE)
            continue
        pupil = radius  # small eyes are all pupil, large ones have a white
        if radius > 0.17:
            pupil = radius * (0.32 if slit else 0.62)
            white = radius >= 0.3
            animal.face(ellipse(x, y, radius, radius), (250, 245, 230) if white else iris, EYE_LINE)
            if white:
                animal.mark(ellipse(x, y, 0.72 * radius, 0.72 * radius), iris)
        animal.mark(ellipse(x + look, y, pupil, 0.85 * radius if slit and radius > 0.17 else pupil), (22, 18, 20))
        animal.mark(ellipse(x + look - 0.25 * radius, y - 0.3 * radius, 0.25 * radius, 0.25 * radius), (255, 255, 255))


def _nose_and_mouth(animal: Animal):
    rng, x, y = animal.rng, animal.nose_x, animal.nose_y
    kind, size = animal.species.nose
    size *= rng.uniform(0.88, 1.12)
    pinkish = [NEAR_BLACK, NEAR_BLACK, (90, 60, 55), (215, 130, 130)]
    colour = rng.choice(pinkish if animal.has("pink nose") else [(40, 34, 36), (60, 45, 42)])
    if kind == "triangle":
        animal.face(polygon((x - size, y - 0.5 * size), (x + size, y - 0.5 * size), (x, y + 0.8 * size)), colour)
    elif kind in ("oval", "flat"):
        animal.face(ellipse(x, y, size, size * (0.7 if kind == "oval" else 0.4)), colour)
    elif kind == "beak":
        animal.face(polygon((x - 0.16, 0.12), (x + 0.16, 0.12), (x, 0.55)), (240, 170, 60), (120, 80, 30))
    elif kind == "snout":
        animal.face(ellipse(x, 0.35, size, 0.72 * size), mixed(animal.coat, (250, 140, 150), 0.45), animal.line)
        for side in (-1, 1):
            animal.mark(ellipse(x + 0.15 * side, 0.35, 0.08, 0.13), scaled(animal.coat, 0.4))
    elif kind == "nostrils":
        for side in (-1, 1):
            animal.mark(ellipse(x + side * size, animal.muzzle_y - 0.05, 0.1, 0.08), (110, 60, 60))
    elif kind == "wide mouth":
        animal.face(
            tube((animal.face_x - size, 0.15), (animal.face_x, 0.6), (animal.face_x + size, 0.15), 0.04, 0.04),
            scaled(animal.coat, 0.35),
        )
    elif kind == "tall":
        animal.face(ellipse(x, 0.18, 0.8 * size, 1.5 * size), (50, 44, 48))
    elif kind == "trunk":
        bend = rng.uniform(-0.6, 0.6)
        trunk = tube((x, 0.1), (x, 1.0), (x + bend, 1.5 + 0.2 * abs(bend)), 0.3, 0.17)
        animal.face(trunk, scaled(animal.coat, 0.95), animal.line)
        for side in (-1, 1):
            tusk = tube((x + 0.38 * side, 0.5), (x + 0.5 * side, 0.8), (x + 0.65 * side, 0.95), 0.09, 0.03)
            animal.face(tusk, (250, 245, 230))
    if animal.species.muzzle and kind != "nostrils":
        _mouth(animal, x, y + 0.6 * size)


def _mouth(animal: Animal, x, y):
    low = animal.muzzle_y + 0.6 * animal.muzzle_height
    if animal.rng.random() < animal.species.tongue:
        animal.face(ellipse(x, animal.muzzle_y + 0.85 * animal.muzzle_height, 0.17, 0.28), TONGUE, (150, 60, 70))
    for side in (-1, 1):
        corner = (x + 0.26 * side, animal.muzzle_y + 0.35 * animal.muzzle_height)
        animal.mark(tube((x, y), (x + 0.05 * side, low), corner, 0.035, 0.03), (50, 38, 38))
    if animal.has("teeth"):
        top, bottom = animal.muzzle_y + 0.12, animal.muzzle_y + 0.34
        teeth = polygon((x - 0.1, top), (x + 0.1, top), (x + 0.09, bottom), (x - 0.09, bottom))
        animal.face(teeth, (255, 255, 250), (120, 110, 110))


def _whiskers(animal: Animal):
    if animal.rng.random() >= animal.species.whiskers:
        return
    x, y = animal.nose_x, animal.nose_y if animal.species.muzzle is None else animal.muzzle_y
    colour = (245, 245, 245) if sum(animal.coat) < 420 else (90, 80, 80)
    for side in (-1, 1):
        for k in (-0.12, 0.05, 0.2):
            reach = side * (1.15 + animal.rng.uniform(0, 0.15))
            animal.whiskers.append((polygon((x + 0.3 * side, y + 0.4 * k), (x + reach, y + 1.6 * k)), colour))
