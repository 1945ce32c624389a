"""The table of drawn species, and imaginary ones made by combining its parts at random.

Lengths are in head radii: the head is about 1 high and 1 wide on either side of the origin, and y points down.
"""

import random
from dataclasses import dataclass

Colour = tuple[int, int, int]

ORANGE, GREY, BROWN, WHITE = (214, 130, 60), (140, 140, 148), (120, 80, 50), (236, 232, 225)
BLACK, TAN, CREAM = (58, 54, 58), (190, 150, 105), (228, 205, 165)
DARK_EYE, BROWN_EYE, AMBER_EYE, GOLD_EYE = (45, 32, 28), (60, 40, 35), (200, 150, 55), (225, 185, 60)
GREEN_EYE, BLUE_EYE, RED_EYE = (150, 190, 70), (115, 165, 195), (160, 60, 65)

BUILDS = ("four-legged", "bird", "frog")


@dataclass(frozen=True)
class Ear:
    """kind: pointed, round, long, hanging, sideways, fan, eye bump or none; angle: degrees from straight up."""

    kind: str
    width: float
    length: float
    angle: float


@dataclass(frozen=True)
class Species:
    """What all animals of one kind share; the rest (pose, colours, size, ...) is chosen drawing by drawing.

    Where a field holds several values (ears, coats, irises, tails), each drawing takes one of them.
    """

    name: str
    ears: tuple[Ear, ...]
    head: tuple[float, float]  # half width, half height
    coats: tuple[Colour, ...]
    patterns: dict[str, float]  # solid, stripe, spot, bib -> how often; sums to 1
    muzzle: tuple[float, float, float] | None  # half width, half height, y of its centre
    nose: tuple[str, float]  # kind (triangle, oval, ...), half width
    eyes: tuple[float, float, float]  # radius, distance from the middle, y
    irises: tuple[Colour, ...]
    tails: tuple[str, ...]
    build: str = "four-legged"  # one of BUILDS
    fluffy: float = 0.0  # the last four are chances, 0 to 1
    slit_pupils: float = 0.0
    whiskers: float = 0.0
    tongue: float = 0.0
    features: frozenset[str] = frozenset()  # mane, horns, wool, ...: see animal.py
    limb_colour: Colour | None = None  # None: as the coat
    ear_colour: Colour | None = None


def _species(name, *, ears, coats, irises, tails, features=(), **rest) -> Species:
    return Species(
        name,
        ears=tuple(Ear(*ear) for ear in ears),
        coats=tuple(coats),
        irises=tuple(irises),
        tails=tuple(tails.split()),
        features=frozenset(features),
        **rest,
    )


_TABLE = (
    _species(
        "cat",
        ears=[("pointed", 0.50, 0.95, 36), ("pointed", 0.42, 0.80, 42), ("pointed", 0.58, 0.75, 32)],
        head=(1.08, 0.92),
        fluffy=0.35,
        coats=[ORANGE, GREY, BROWN, WHITE, BLACK, TAN, CREAM],
        patterns=dict(solid=0.30, stripe=0.35, spot=0.15, bib=0.20),
        muzzle=(0.40, 0.26, 0.42),
        nose=("triangle", 0.13),
        eyes=(0.25, 0.45, -0.04),
        irises=[GREEN_EYE, GOLD_EYE, BLUE_EYE, AMBER_EYE],
        slit_pupils=0.6,
        whiskers=0.7,
        tongue=0.05,
        tails="long long mid",
        features=["split muzzle", "pink nose", "blaze"],
    ),
    _species(
        "dog",
        ears=[
            ("hanging", 0.36, 1.15, 62),
            ("hanging", 0.42, 0.85, 55),
            ("pointed", 0.42, 0.75, 34),
            ("pointed", 0.46, 0.85, 38),
            ("hanging", 0.30, 0.75, 48),
        ],
        head=(0.96, 1.0),
        fluffy=0.25,
        coats=[BROWN, TAN, BLACK, WHITE, CREAM, GREY, ORANGE],
        patterns=dict(solid=0.35, stripe=0.20, spot=0.20, bib=0.25),
        muzzle=(0.50, 0.42, 0.42),
        nose=("oval", 0.21),
        eyes=(0.19, 0.40, -0.16),
        irises=[(110, 70, 40), BROWN_EYE, BLUE_EYE],
        whiskers=0.15,
        tongue=0.35,
        tails="mid bushy curl long",
        features=["blaze"],
    ),
    _species(
        "rabbit",
        ears=[("long", 0.26, 1.7, 14), ("long", 0.24, 1.5, 24), ("hanging", 0.27, 1.5, 50)],
        head=(0.9, 0.95),
        fluffy=0.2,
        coats=[WHITE, GREY, BROWN, TAN, CREAM],
        patterns=dict(solid=0.6, spot=0.2, bib=0.2),
        muzzle=(0.36, 0.24, 0.42),
        nose=("triangle", 0.11),
        eyes=(0.22, 0.48, -0.05),
        irises=[(90, 50, 40), RED_EYE],
        whiskers=0.5,
        tails="pom",
        features=["teeth", "pink nose", "blaze"],
    ),
    _species(
        "bear",
        ears=[("round", 0.34, 0.34, 45)],
        head=(1.05, 0.95),
        fluffy=0.2,
        coats=[BROWN, BLACK, (90, 62, 45), TAN, WHITE],
        patterns=dict(solid=0.8, bib=0.2),
        muzzle=(0.46, 0.36, 0.38),
        nose=("oval", 0.19),
        eyes=(0.13, 0.38, -0.12),
        irises=[DARK_EYE],
        tails="stub",
    ),
    _species(
        "fox",
        ears=[("pointed", 0.50, 1.1, 32)],
        head=(1.05, 0.88),
        fluffy=1,
        coats=[(222, 110, 40), (200, 90, 45), (230, 235, 238), (130, 125, 130)],
        patterns=dict(bib=1),
        muzzle=(0.34, 0.50, 0.45),
        nose=("oval", 0.14),
        eyes=(0.18, 0.42, -0.08),
        irises=[AMBER_EYE, (120, 80, 40)],
        slit_pupils=0.5,
        whiskers=0.1,
        tails="brush",
        features=["white cheeks"],
    ),
    _species(
        "owl",
        ears=[("pointed", 0.30, 0.50, 48), ("none", 0, 0, 0)],
        head=(1.1, 0.95),
        fluffy=0.3,
        coats=[BROWN, GREY, TAN, WHITE, (150, 100, 60)],
        patterns=dict(stripe=0.5, spot=0.5),
        muzzle=None,
        nose=("beak", 0.2),
        eyes=(0.38, 0.44, -0.08),
        irises=[(240, 190, 40), (235, 140, 40)],
        tails="none",
        build="bird",
    ),
    _species(
        "mouse",
        ears=[("round", 0.62, 0.62, 48)],
        head=(0.85, 0.9),
        coats=[GREY, WHITE, BROWN, TAN],
        patterns=dict(solid=1),
        muzzle=(0.30, 0.30, 0.45),
        nose=("oval", 0.12),
        eyes=(0.15, 0.36, -0.05),
        irises=[DARK_EYE],
        whiskers=0.7,
        tails="thin",
        features=["pink nose"],
    ),
    _species(
        "pig",
        ears=[("pointed", 0.38, 0.55, 46), ("hanging", 0.32, 0.6, 40)],
        head=(1.05, 0.95),
        coats=[(238, 170, 170), (225, 150, 150), (200, 140, 130), (90, 75, 80)],
        patterns=dict(solid=0.75, spot=0.25),
        muzzle=None,
        nose=("snout", 0.4),
        eyes=(0.13, 0.46, -0.2),
        irises=[DARK_EYE],
        tails="curly",
    ),
    _species(
        "cow",
        ears=[("sideways", 0.28, 0.6, 80)],
        head=(0.85, 1.1),
        coats=[WHITE, BROWN, BLACK, TAN],
        patterns=dict(spot=0.8, solid=0.2),
        muzzle=(0.62, 0.36, 0.62),
        nose=("nostrils", 0.3),
        eyes=(0.15, 0.42, -0.25),
        irises=[BROWN_EYE],
        tails="tuft",
        features=["horns", "pink muzzle"],
    ),
    _species(
        "frog",
        ears=[("eye bump", 0.4, 0.4, 36)],
        head=(1.2, 0.75),
        coats=[(100, 175, 70), (70, 150, 90), (150, 180, 60), (60, 130, 150)],
        patterns=dict(solid=0.6, spot=0.4),
        muzzle=None,
        nose=("wide mouth", 0.7),
        eyes=(0.26, 0.5, -0.6),
        irises=[(230, 190, 60)],
        tails="none",
        build="frog",
    ),
    _species(
        "panda",
        ears=[("round", 0.34, 0.34, 46)],
        head=(1.1, 0.95),
        fluffy=0.2,
        coats=[WHITE],
        patterns=dict(solid=1),
        muzzle=(0.38, 0.28, 0.40),
        nose=("oval", 0.16),
        eyes=(0.13, 0.42, -0.05),
        irises=[DARK_EYE],
        tails="stub",
        features=["eye patches"],
        limb_colour=BLACK,
        ear_colour=BLACK,
    ),
    _species(
        "koala",
        ears=[("round", 0.55, 0.5, 62)],
        head=(1.08, 0.92),
        fluffy=0.3,
        coats=[GREY, (165, 160, 165), (120, 115, 120)],
        patterns=dict(solid=0.6, bib=0.4),
        muzzle=None,
        nose=("tall", 0.26),
        eyes=(0.13, 0.45, -0.1),
        irises=[DARK_EYE],
        tails="none",
    ),
    _species(
        "lion",
        ears=[("round", 0.3, 0.3, 45)],
        head=(0.92, 0.95),
        coats=[(222, 170, 90), TAN, CREAM],
        patterns=dict(solid=1),
        muzzle=(0.44, 0.32, 0.42),
        nose=("triangle", 0.2),
        eyes=(0.16, 0.40, -0.08),
        irises=[AMBER_EYE, (130, 90, 40)],
        whiskers=0.4,
        tails="tuft",
        features=["mane", "pink nose"],
    ),
    _species(
        "monkey",
        ears=[("round", 0.36, 0.40, 85)],
        head=(0.92, 0.95),
        fluffy=0.1,
        coats=[BROWN, (150, 105, 65), BLACK, (170, 120, 70)],
        patterns=dict(solid=1),
        muzzle=(0.56, 0.42, 0.42),
        nose=("flat", 0.14),
        eyes=(0.16, 0.30, -0.12),
        irises=[(90, 60, 40)],
        tails="spiral",
        features=["light face"],
    ),
    _species(
        "tiger",
        ears=[("round", 0.3, 0.32, 44)],
        head=(1.08, 0.95),
        fluffy=0.8,
        coats=[(230, 140, 50), (235, 235, 235), (215, 120, 50)],
        patterns=dict(stripe=1),
        muzzle=(0.44, 0.30, 0.42),
        nose=("triangle", 0.17),
        eyes=(0.18, 0.44, -0.06),
        irises=[AMBER_EYE, BLUE_EYE],
        whiskers=0.5,
        tails="long",
        features=["brow stripes", "pink nose"],
    ),
    _species(
        "raccoon",
        ears=[("pointed", 0.42, 0.6, 44), ("round", 0.3, 0.32, 42)],
        head=(1.12, 0.85),
        fluffy=0.9,
        coats=[GREY, (120, 112, 105), (150, 140, 130)],
        patterns=dict(solid=1),
        muzzle=(0.32, 0.30, 0.42),
        nose=("oval", 0.14),
        eyes=(0.15, 0.42, -0.06),
        irises=[DARK_EYE],
        whiskers=0.4,
        tails="ringed",
        features=["bandit mask"],
    ),
    _species(
        "sheep",
        ears=[("sideways", 0.22, 0.55, 98)],
        head=(0.72, 0.95),
        coats=[WHITE, CREAM, (180, 170, 160), BLACK],
        patterns=dict(solid=1),
        muzzle=(0.38, 0.32, 0.45),
        nose=("triangle", 0.14),
        eyes=(0.16, 0.36, -0.1),
        irises=[AMBER_EYE, BROWN_EYE],
        tails="pom",
        features=["wool", "pink nose"],
    ),
    _species(
        "elephant",
        ears=[("fan", 0.75, 0.95, 85)],
        head=(0.85, 0.95),
        coats=[GREY, (125, 130, 145), (150, 140, 140)],
        patterns=dict(solid=1),
        muzzle=None,
        nose=("trunk", 0.2),
        eyes=(0.12, 0.42, -0.2),
        irises=[DARK_EYE],
        tails="thin",
        features=["heavy"],
    ),
    _species(
        "squirrel",
        ears=[("pointed", 0.26, 0.6, 30)],
        head=(0.9, 0.9),
        fluffy=0.3,
        coats=[(190, 95, 45), BROWN, GREY, BLACK],
        patterns=dict(bib=0.8, solid=0.2),
        muzzle=(0.34, 0.26, 0.42),
        nose=("oval", 0.1),
        eyes=(0.2, 0.46, -0.1),
        irises=[DARK_EYE],
        whiskers=0.4,
        tails="plume",
        features=["teeth"],
    ),
    _species(
        "hamster",
        ears=[("round", 0.24, 0.26, 50)],
        head=(1.2, 0.92),
        coats=[TAN, ORANGE, CREAM, WHITE, GREY],
        patterns=dict(solid=0.3, spot=0.3, bib=0.4),
        muzzle=(0.42, 0.28, 0.36),
        nose=("triangle", 0.1),
        eyes=(0.19, 0.5, -0.1),
        irises=[DARK_EYE, RED_EYE],
        whiskers=0.6,
        tails="none",
        features=["rosy cheeks", "pink nose"],
    ),
    _species(
        "goat",
        ears=[("sideways", 0.2, 0.6, 95), ("hanging", 0.24, 0.9, 70)],
        head=(0.74, 1.1),
        fluffy=0.1,
        coats=[WHITE, BROWN, BLACK, TAN, GREY],
        patterns=dict(solid=0.5, spot=0.3, bib=0.2),
        muzzle=(0.42, 0.38, 0.5),
        nose=("triangle", 0.16),
        eyes=(0.17, 0.38, -0.18),
        irises=[AMBER_EYE, BLUE_EYE],
        slit_pupils=0.6,
        tails="stub",
        features=["horns", "beard", "pink nose"],
    ),
    _species(
        "donkey",
        ears=[("long", 0.24, 1.15, 26)],
        head=(0.76, 1.15),
        coats=[GREY, BROWN, (110, 100, 100), TAN],
        patterns=dict(solid=1),
        muzzle=(0.5, 0.4, 0.62),
        nose=("nostrils", 0.22),
        eyes=(0.17, 0.38, -0.2),
        irises=[BROWN_EYE],
        tails="tuft",
        features=["forelock"],
    ),
    _species(
        "hedgehog",
        ears=[("round", 0.24, 0.24, 48)],
        head=(0.82, 0.8),
        coats=[CREAM, TAN, (205, 170, 130)],
        patterns=dict(solid=1),
        muzzle=(0.26, 0.40, 0.42),
        nose=("oval", 0.17),
        eyes=(0.14, 0.36, -0.05),
        irises=[DARK_EYE],
        tails="none",
        features=["spines"],
    ),
    _species(
        "deer",
        ears=[("sideways", 0.26, 0.62, 62)],
        head=(0.78, 1.08),
        coats=[(180, 115, 65), BROWN, TAN, (160, 110, 80)],
        patterns=dict(spot=0.3, bib=0.5, solid=0.2),
        muzzle=(0.36, 0.36, 0.52),
        nose=("oval", 0.16),
        eyes=(0.2, 0.42, -0.12),
        irises=[DARK_EYE],
        tails="pom",
        features=["antlers"],
    ),
)

TABLE: dict[str, Species] = {species.name: species for species in _TABLE}
SPECIES: tuple[str, ...] = tuple(TABLE)  # 'cat' and 'dog' come first


def find_species(species: str | Species) -> Species:
    """The species of that name, or the Species itself. Raises ValueError for a name that is not in the table."""
    if isinstance(species, Species):
        return species
    if species not in TABLE:
        raise ValueError(f"unknown species {species!r}: expected a Species or one of {', '.join(SPECIES)}")
    return TABLE[species]


# ---------------------------------------------------------------------------------------------------------------------
# Imaginary species: variety for pretraining. A network that has seen 22 kinds learns those; one that has seen 60 learns
# ears, noses and eyes as parts, which is what transfers to cats and dogs.

_EAR_RANGES = {  # kind -> width, length, angle
    "round": ((0.26, 0.62), (0.26, 0.62), (40, 85)),
    "long": ((0.20, 0.30), (1.1, 1.7), (12, 30)),
    "sideways": ((0.18, 0.32), (0.45, 0.70), (60, 100)),
    "fan": ((0.5, 0.8), (0.7, 1.0), (80, 95)),
    "none": ((0, 0), (0, 0), (0, 0)),
}
_NOSE_RANGES = {
    "triangle": (0.10, 0.20),
    "oval": (0.10, 0.24),
    "flat": (0.12, 0.16),
    "tall": (0.20, 0.28),
    "nostrils": (0.20, 0.30),
    "snout": (0.34, 0.44),
    "beak": (0.18, 0.22),
}
_PATTERN_MIXES = (
    dict(solid=0.40, stripe=0.30, spot=0.15, bib=0.15),
    dict(solid=0.5, spot=0.3, bib=0.2),
    dict(solid=0.6, bib=0.4),
    dict(stripe=0.5, solid=0.5),
    dict(solid=1),
)
_COATS = (ORANGE, GREY, BROWN, WHITE, BLACK, TAN, CREAM, (100, 150, 170), (170, 110, 130), (150, 170, 110))
_IRISES = (GREEN_EYE, GOLD_EYE, BLUE_EYE, (110, 70, 40), DARK_EYE, RED_EYE, AMBER_EYE)
_TAILS = ("long", "mid", "bushy", "curl", "pom", "stub", "brush", "thin", "tuft", "spiral", "plume", "none")
_FEATURE_CHANCES = {
    "mane": 0.06,
    "wool": 0.06,
    "horns": 0.10,
    "antlers": 0.06,
    "spines": 0.05,
    "bandit mask": 0.06,
    "eye patches": 0.06,
    "white cheeks": 0.08,
    "beard": 0.08,
    "forelock": 0.08,
    "rosy cheeks": 0.10,
    "brow stripes": 0.06,
    "light face": 0.06,
    "teeth": 0.15,
    "pink nose": 0.30,
    "blaze": 0.20,
}


def looks_like_cat_or_dog(species: Species) -> bool:
    """The rule that keeps imaginary species apart from what the lessons test: one that has an ear of a kind that cats
    or dogs have (pointed, hanging) looks like them. The nose alone does not do it: seen small, a pig's or an owl's face
    between a cat's ears is still a cat.
    """
    pet_ears = {ear.kind for pet in ("cat", "dog") for ear in TABLE[pet].ears}
    return any(ear.kind in pet_ears for ear in species.ears)


def imaginary_species(num: int, seed: int) -> list[Species]:
    """`num` species put together from random parts, none of which looks like a cat or a dog.

    The same seed gives the same list, and a longer list begins with the shorter one. They are there to pretrain on.
    None has the pointed or hanging ears of cats and dogs, so that no near copy of either is in a pretraining set.
    """
    rng = random.Random(seed)
    return [_combine_parts(rng, f"imaginary-{i:02d}") for i in range(num)]


def _combine_parts(rng: random.Random, name: str) -> Species:
    between = rng.uniform
    ear_kind = rng.choice(("round", "round", "long", "sideways", "fan", "none"))
    nose_kind = rng.choice(tuple(_NOSE_RANGES))
    has_muzzle = nose_kind in ("nostrils", "flat") or (nose_kind not in ("snout", "beak") and rng.random() < 0.85)
    width, length, angle = (between(low, high) for low, high in _EAR_RANGES[ear_kind])
    if ear_kind == "round":
        length = width * between(0.85, 1.15)  # a narrow one would look pointed
    return Species(
        name=name,
        ears=(Ear(ear_kind, width, length, angle),),
        head=(between(0.75, 1.2), between(0.8, 1.1)),
        coats=tuple(rng.sample(_COATS, 5)),
        patterns=rng.choice(_PATTERN_MIXES),
        muzzle=(between(0.30, 0.62), between(0.22, 0.50), between(0.36, 0.60)) if has_muzzle else None,
        nose=(nose_kind, between(*_NOSE_RANGES[nose_kind])),
        eyes=(between(0.13, 0.34), between(0.30, 0.52), between(-0.25, 0)),
        irises=tuple(rng.sample(_IRISES, 3)),
        tails=tuple(rng.sample(_TAILS, rng.choice((1, 2)))),
        fluffy=rng.choice((0, 0.2, 0.5, 1)),
        slit_pupils=rng.choice((0, 0, 0.6)),
        whiskers=rng.choice((0, 0.1, 0.5, 0.7)),
        tongue=rng.choice((0, 0, 0.35)),
        features=frozenset(name for name, chance in _FEATURE_CHANCES.items() if rng.random() < chance),
    )
