"""Three transforms and four recipes of the lesson alone, at two budgets, on drawings and on photos: accuracy on 400
validation pictures, and on the 200 training pictures as they are."""

from functools import cache

NOTEBOOK = "06"
WAYS = "none", "flip", "translation", "crop", "mild", "moderate", "heavy", "TrivialAugment"
RUNS = [
    {"source": source, "way": way, "epochs": epochs, "seed": seed}
    for source in ("critters", "photos")
    for seed in range(3)
    for way in WAYS
    for epochs in (40, 120)
]
TOLERANCE = {"accuracy": 0.1, "known": 0.15}


@cache
def data(lesson, source: str):
    """(pool, validation); COURSE_DATA is `source` already."""
    return lesson.load(lesson.SIZE)[:2]


def run(lesson, source: str, way: str, epochs: int, seed: int) -> dict[str, float]:
    return lesson.scores(way, seed, epochs, *data(lesson, source))
