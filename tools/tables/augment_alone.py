"""Each transform, preparation and recipe of the lesson alone, at two budgets, on drawings and on photos: accuracy on
400 validation pictures, and on the 200 training pictures as they are."""

from functools import cache

NOTEBOOK = "06"
WAYS = (
    "none",
    "flip",
    "rotation",
    "translation",
    "zoom",
    "crop",
    "perspective",
    "erasing",
    "colour jitter",
    "noise",
    "MixUp",
    "CutMix",
    "equalisation",
    "standardisation",
    "ZCA",
    "mild",
    "moderate",
    "heavy",
    "RandAugment",
    "TrivialAugment",
)
SEEDS = 3
RUNS = [
    {"source": source, "way": way, "epochs": epochs, "seed": seed}
    for seed in range(SEEDS)
    for source, first in (("critters", WAYS), ("photos", (*WAYS[:10], "moderate", "TrivialAugment")))
    for way in (("none", "flip", "translation", "crop", "moderate") if seed else first)
    for epochs in (40, 120)
]
TOLERANCE = {"accuracy": 0.1, "known": 0.15}


@cache
def data(lesson, source: str):
    """(pool, validation); COURSE_DATA is `source` already."""
    return lesson.load(lesson.SIZE)[:2]


def run(lesson, source: str, way: str, epochs: int, seed: int) -> dict[str, float]:
    return lesson.scores(way, seed, epochs, *data(lesson, source))
