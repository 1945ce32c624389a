"""Accuracy without augmentation and with shifts, by the number of training drawings, at the same number of steps."""

from functools import cache

NOTEBOOK = "06"
WAYS = ("none", "translation")
RUNS = [{"way": "none", "pictures": 400, "steps": 140, "seed": 0}]  # a quick one, which a test runs again
RUNS += [
    {"way": way, "pictures": pictures, "steps": 280, "seed": seed}
    for seed in range(5)
    for pictures in (50, 100, 200, 400, 800)
    for way in WAYS
]
TOLERANCE = {"accuracy": 0.1, "known": 0.12}


@cache
def data(lesson):
    return lesson.many()


def run(lesson, way: str, pictures: int, steps: int, seed: int) -> dict[str, float]:
    return lesson.scores_by_number(way, seed, pictures, steps, *data(lesson))
