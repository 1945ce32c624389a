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
    head: tuple[float, float]                            # half width, half height
    coats: tuple[Colour, ...]
    patterns: dict[str, float]                           # solid, stripe, spot, bib -> how often; sums to 1
    muzzle: tuple[float, float, float] | None            # half width, half height, y of its centre
    nose: tuple[str, float]                              # kind (triangle, oval, ...), half width
    eyes: tuple[float, float, float]                     # radius, distance from the middle, y
    irises: tuple[Colour, ...]
    tails: tuple[str, ...]
    build: str = "four-legged"                           # one of BUILDS
    fluffy: float = 0.0                                  # the last four are chances, 0 to 1
    slit_pupils: float = 0.0
    whiskers: float = 0.0
    tongue: float = 0.0
    features: frozenset[str] = frozenset()               # mane, horns, wool, ...: see animal.py
    limb_colour: Colour | None = None                    # None: as the coat
    ear_colour: Colour | None = None


def _species(name, *, ears, coats, irises, tails, features=(), **rest) -> Species:
    return Species(name, ears=tuple(Ear(*ear) for ear in ears), coats=tuple(coats), irises=tuple(irises),
                   tails=tuple(tails.split()), features=frozenset(features), **rest)


_TABLE = (
    _species("cat", ears=[("pointed", .50, .95, 36), ("pointed", .42, .80, 42), ("pointed", .58, .75, 32)],
             head=(1.08, .92), fluffy=.35, coats=[ORANGE, GREY, BROWN, WHITE, BLACK, TAN, CREAM],
             patterns=dict(solid=.30, stripe=.35, spot=.15, bib=.20), muzzle=(.40, .26, .42), nose=("triangle", .13),
             eyes=(.25, .45, -.04), irises=[GREEN_EYE, GOLD_EYE, BLUE_EYE, AMBER_EYE], slit_pupils=.6, whiskers=.7,
             tongue=.05, tails="long long mid", features=["split muzzle", "pink nose", "blaze"]),
    _species("dog", ears=[("hanging", .36, 1.15, 62), ("hanging", .42, .85, 55), ("pointed", .42, .75, 34),
                          ("pointed", .46, .85, 38), ("hanging", .30, .75, 48)],
             head=(.96, 1.0), fluffy=.25, coats=[BROWN, TAN, BLACK, WHITE, CREAM, GREY, ORANGE],
             patterns=dict(solid=.35, stripe=.20, spot=.20, bib=.25), muzzle=(.50, .42, .42), nose=("oval", .21),
             eyes=(.19, .40, -.16), irises=[(110, 70, 40), BROWN_EYE, BLUE_EYE], whiskers=.15, tongue=.35,
             tails="mid bushy curl long", features=["blaze"]),
    _species("rabbit", ears=[("long", .26, 1.7, 14), ("long", .24, 1.5, 24), ("hanging", .27, 1.5, 50)],
             head=(.9, .95), fluffy=.2, coats=[WHITE, GREY, BROWN, TAN, CREAM],
             patterns=dict(solid=.6, spot=.2, bib=.2), muzzle=(.36, .24, .42), nose=("triangle", .11),
             eyes=(.22, .48, -.05), irises=[(90, 50, 40), RED_EYE], whiskers=.5, tails="pom",
             features=["teeth", "pink nose", "blaze"]),
    _species("bear", ears=[("round", .34, .34, 45)], head=(1.05, .95), fluffy=.2,
             coats=[BROWN, BLACK, (90, 62, 45), TAN, WHITE], patterns=dict(solid=.8, bib=.2), muzzle=(.46, .36, .38),
             nose=("oval", .19), eyes=(.13, .38, -.12), irises=[DARK_EYE], tails="stub"),
    _species("fox", ears=[("pointed", .50, 1.1, 32)], head=(1.05, .88), fluffy=1,
             coats=[(222, 110, 40), (200, 90, 45), (230, 235, 238), (130, 125, 130)], patterns=dict(bib=1),
             muzzle=(.34, .50, .45), nose=("oval", .14), eyes=(.18, .42, -.08), irises=[AMBER_EYE, (120, 80, 40)],
             slit_pupils=.5, whiskers=.1, tails="brush", features=["white cheeks"]),
    _species("owl", ears=[("pointed", .30, .50, 48), ("none", 0, 0, 0)], head=(1.1, .95), fluffy=.3,
             coats=[BROWN, GREY, TAN, WHITE, (150, 100, 60)], patterns=dict(stripe=.5, spot=.5), muzzle=None,
             nose=("beak", .2), eyes=(.38, .44, -.08), irises=[(240, 190, 40), (235, 140, 40)], tails="none",
             build="bird"),
    _species("mouse", ears=[("round", .62, .62, 48)], head=(.85, .9), coats=[GREY, WHITE, BROWN, TAN],
             patterns=dict(solid=1), muzzle=(.30, .30, .45), nose=("oval", .12), eyes=(.15, .36, -.05),
             irises=[DARK_EYE], whiskers=.7, tails="thin", features=["pink nose"]),
    _species("pig", ears=[("pointed", .38, .55, 46), ("hanging", .32, .6, 40)], head=(1.05, .95),
             coats=[(238, 170, 170), (225, 150, 150), (200, 140, 130), (90, 75, 80)],
             patterns=dict(solid=.75, spot=.25), muzzle=None, nose=("snout", .4), eyes=(.13, .46, -.2),
             irises=[DARK_EYE], tails="curly"),
    _species("cow", ears=[("sideways", .28, .6, 80)], head=(.85, 1.1), coats=[WHITE, BROWN, BLACK, TAN],
             patterns=dict(spot=.8, solid=.2), muzzle=(.62, .36, .62), nose=("nostrils", .3), eyes=(.15, .42, -.25),
             irises=[BROWN_EYE], tails="tuft", features=["horns", "pink muzzle"]),
    _species("frog", ears=[("eye bump", .4, .4, 36)], head=(1.2, .75),
             coats=[(100, 175, 70), (70, 150, 90), (150, 180, 60), (60, 130, 150)],
             patterns=dict(solid=.6, spot=.4), muzzle=None, nose=("wide mouth", .7), eyes=(.26, .5, -.6),
             irises=[(230, 190, 60)], tails="none", build="frog"),
    _species("panda", ears=[("round", .34, .34, 46)], head=(1.1, .95), fluffy=.2, coats=[WHITE],
             patterns=dict(solid=1), muzzle=(.38, .28, .40), nose=("oval", .16), eyes=(.13, .42, -.05),
             irises=[DARK_EYE], tails="stub", features=["eye patches"], limb_colour=BLACK, ear_colour=BLACK),
    _species("koala", ears=[("round", .55, .5, 62)], head=(1.08, .92), fluffy=.3,
             coats=[GREY, (165, 160, 165), (120, 115, 120)], patterns=dict(solid=.6, bib=.4), muzzle=None,
             nose=("tall", .26), eyes=(.13, .45, -.1), irises=[DARK_EYE], tails="none"),
    _species("lion", ears=[("round", .3, .3, 45)], head=(.92, .95), coats=[(222, 170, 90), TAN, CREAM],
             patterns=dict(solid=1), muzzle=(.44, .32, .42), nose=("triangle", .2), eyes=(.16, .40, -.08),
             irises=[AMBER_EYE, (130, 90, 40)], whiskers=.4, tails="tuft", features=["mane", "pink nose"]),
    _species("monkey", ears=[("round", .36, .40, 85)], head=(.92, .95), fluffy=.1,
             coats=[BROWN, (150, 105, 65), BLACK, (170, 120, 70)], patterns=dict(solid=1), muzzle=(.56, .42, .42),
             nose=("flat", .14), eyes=(.16, .30, -.12), irises=[(90, 60, 40)], tails="spiral",
             features=["light face"]),
    _species("tiger", ears=[("round", .3, .32, 44)], head=(1.08, .95), fluffy=.8,
             coats=[(230, 140, 50), (235, 235, 235), (215, 120, 50)], patterns=dict(stripe=1),
             muzzle=(.44, .30, .42), nose=("triangle", .17), eyes=(.18, .44, -.06), irises=[AMBER_EYE, BLUE_EYE],
             whiskers=.5, tails="long", features=["brow stripes", "pink nose"]),
    _species("raccoon", ears=[("pointed", .42, .6, 44), ("round", .3, .32, 42)], head=(1.12, .85), fluffy=.9,
             coats=[GREY, (120, 112, 105), (150, 140, 130)], patterns=dict(solid=1), muzzle=(.32, .30, .42),
             nose=("oval", .14), eyes=(.15, .42, -.06), irises=[DARK_EYE], whiskers=.4, tails="ringed",
             features=["bandit mask"]),
    _species("sheep", ears=[("sideways", .22, .55, 98)], head=(.72, .95), coats=[WHITE, CREAM, (180, 170, 160), BLACK],
             patterns=dict(solid=1), muzzle=(.38, .32, .45), nose=("triangle", .14), eyes=(.16, .36, -.1),
             irises=[AMBER_EYE, BROWN_EYE], tails="pom", features=["wool", "pink nose"]),
    _species("elephant", ears=[("fan", .75, .95, 85)], head=(.85, .95), coats=[GREY, (125, 130, 145), (150, 140, 140)],
             patterns=dict(solid=1), muzzle=None, nose=("trunk", .2), eyes=(.12, .42, -.2), irises=[DARK_EYE],
             tails="thin", features=["heavy"]),
    _species("squirrel", ears=[("pointed", .26, .6, 30)], head=(.9, .9), fluffy=.3,
             coats=[(190, 95, 45), BROWN, GREY, BLACK], patterns=dict(bib=.8, solid=.2), muzzle=(.34, .26, .42),
             nose=("oval", .1), eyes=(.2, .46, -.1), irises=[DARK_EYE], whiskers=.4, tails="plume",
             features=["teeth"]),
    _species("hamster", ears=[("round", .24, .26, 50)], head=(1.2, .92), coats=[TAN, ORANGE, CREAM, WHITE, GREY],
             patterns=dict(solid=.3, spot=.3, bib=.4), muzzle=(.42, .28, .36), nose=("triangle", .1),
             eyes=(.19, .5, -.1), irises=[DARK_EYE, RED_EYE], whiskers=.6, tails="none",
             features=["rosy cheeks", "pink nose"]),
    _species("goat", ears=[("sideways", .2, .6, 95), ("hanging", .24, .9, 70)], head=(.74, 1.1), fluffy=.1,
             coats=[WHITE, BROWN, BLACK, TAN, GREY], patterns=dict(solid=.5, spot=.3, bib=.2),
             muzzle=(.42, .38, .5), nose=("triangle", .16), eyes=(.17, .38, -.18), irises=[AMBER_EYE, BLUE_EYE],
             slit_pupils=.6, tails="stub", features=["horns", "beard", "pink nose"]),
    _species("donkey", ears=[("long", .24, 1.15, 26)], head=(.76, 1.15), coats=[GREY, BROWN, (110, 100, 100), TAN],
             patterns=dict(solid=1), muzzle=(.5, .4, .62), nose=("nostrils", .22), eyes=(.17, .38, -.2),
             irises=[BROWN_EYE], tails="tuft", features=["forelock"]),
    _species("hedgehog", ears=[("round", .24, .24, 48)], head=(.82, .8), coats=[CREAM, TAN, (205, 170, 130)],
             patterns=dict(solid=1), muzzle=(.26, .40, .42), nose=("oval", .17), eyes=(.14, .36, -.05),
             irises=[DARK_EYE], tails="none", features=["spines"]),
    _species("deer", ears=[("sideways", .26, .62, 62)], head=(.78, 1.08),
             coats=[(180, 115, 65), BROWN, TAN, (160, 110, 80)], patterns=dict(spot=.3, bib=.5, solid=.2),
             muzzle=(.36, .36, .52), nose=("oval", .16), eyes=(.2, .42, -.12), irises=[DARK_EYE], tails="pom",
             features=["antlers"]),
)

TABLE: dict[str, Species] = {species.name: species for species in _TABLE}
SPECIES: tuple[str, ...] = tuple(TABLE)                  # 'cat' and 'dog' come first


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

_EAR_RANGES = {                                          # kind -> width, length, angle
    "round": ((.26, .62), (.26, .62), (40, 85)), "long": ((.20, .30), (1.1, 1.7), (12, 30)),
    "sideways": ((.18, .32), (.45, .70), (60, 100)), "fan": ((.5, .8), (.7, 1.0), (80, 95)),
    "none": ((0, 0), (0, 0), (0, 0))}
_NOSE_RANGES = {"triangle": (.10, .20), "oval": (.10, .24), "flat": (.12, .16), "tall": (.20, .28),
                "nostrils": (.20, .30), "snout": (.34, .44), "beak": (.18, .22)}
_PATTERN_MIXES = (dict(solid=.40, stripe=.30, spot=.15, bib=.15), dict(solid=.5, spot=.3, bib=.2),
                  dict(solid=.6, bib=.4), dict(stripe=.5, solid=.5), dict(solid=1))
_COATS = (ORANGE, GREY, BROWN, WHITE, BLACK, TAN, CREAM, (100, 150, 170), (170, 110, 130), (150, 170, 110))
_IRISES = (GREEN_EYE, GOLD_EYE, BLUE_EYE, (110, 70, 40), DARK_EYE, RED_EYE, AMBER_EYE)
_TAILS = ("long", "mid", "bushy", "curl", "pom", "stub", "brush", "thin", "tuft", "spiral", "plume", "none")
_FEATURE_CHANCES = {"mane": .06, "wool": .06, "horns": .10, "antlers": .06, "spines": .05, "bandit mask": .06,
                    "eye patches": .06, "white cheeks": .08, "beard": .08, "forelock": .08, "rosy cheeks": .10,
                    "brow stripes": .06, "light face": .06, "teeth": .15, "pink nose": .30, "blaze": .20}


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
    has_muzzle = nose_kind in ("nostrils", "flat") or (nose_kind not in ("snout", "beak") and rng.random() < .85)
    width, length, angle = (between(low, high) for low, high in _EAR_RANGES[ear_kind])
    if ear_kind == "round":
        length = width * between(.85, 1.15)              # a narrow one would look pointed
    return Species(
        name=name,
        ears=(Ear(ear_kind, width, length, angle),),
        head=(between(.75, 1.2), between(.8, 1.1)),
        coats=tuple(rng.sample(_COATS, 5)),
        patterns=rng.choice(_PATTERN_MIXES),
        muzzle=(between(.30, .62), between(.22, .50), between(.36, .60)) if has_muzzle else None,
        nose=(nose_kind, between(*_NOSE_RANGES[nose_kind])),
        eyes=(between(.13, .34), between(.30, .52), between(-.25, 0)),
        irises=tuple(rng.sample(_IRISES, 3)),
        tails=tuple(rng.sample(_TAILS, rng.choice((1, 2)))),
        fluffy=rng.choice((0, .2, .5, 1)),
        slit_pupils=rng.choice((0, 0, .6)),
        whiskers=rng.choice((0, .1, .5, .7)),
        tongue=rng.choice((0, 0, .35)),
        features=frozenset(name for name, chance in _FEATURE_CHANCES.items() if rng.random() < chance),
    )
