"""Each transform and preparation of the lesson alone: accuracy on test drawings, untouched and noisy, and on the 200
training drawings."""

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
    "equalisation",
    "standardisation",
    "ZCA",
    "MixUp",
    "CutMix",
)
RUNS = [{"way": "none", "epochs": 10, "seed": seed} for seed in range(2)]  # quick ones, which a test runs again
RUNS += [{"way": way, "epochs": 40, "seed": seed} for seed in range(5) for way in WAYS]
TOLERANCE = {"accuracy": 0.1, "noisy": 0.15, "known": 0.15}


@cache
def data(lesson):
    pool, _, test_set = lesson.load()
    return pool, test_set


def run(lesson, way: str, epochs: int, seed: int) -> dict[str, float]:
    return lesson.scores_alone(way, seed, epochs, *data(lesson))
