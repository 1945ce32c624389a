"""Three transforms and one recipe of the lesson alone, at two budgets: accuracy on 400 validation drawings, and on the
200 training drawings as they are."""

from functools import cache

NOTEBOOK = "06"
RUNS = [
    {"source": "critters", "way": way, "epochs": epochs, "seed": seed}
    for seed in range(3)
    for way in ("none", "flip", "translation", "crop", "moderate")
    for epochs in (40, 120)
]
TOLERANCE = {"accuracy": 0.1, "known": 0.15}


@cache
def data(lesson, source: str):
    """(pool, validation); COURSE_DATA is `source` already."""
    return lesson.load(lesson.SIZE)[:2]


def run(lesson, source: str, way: str, epochs: int, seed: int) -> dict[str, float]:
    return lesson.scores(way, seed, epochs, *data(lesson, source))
