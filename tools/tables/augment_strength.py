"""Accuracy on test drawings by recipe, from none to heavy, and by the number of epochs; 200 training drawings."""

from functools import cache

NOTEBOOK = "06"
NAMES = ("none", "flip", "mild", "moderate", "heavy")
RUNS = [{"way": way, "epochs": epochs, "seed": seed} for seed in range(4) for epochs in (20, 40, 120) for way in NAMES]
TOLERANCE = {"accuracy": 0.1, "known": 0.12}


@cache
def data(lesson):
    pool, _, test_set = lesson.load()
    return pool, test_set


def run(lesson, way: str, epochs: int, seed: int) -> dict[str, float]:
    pool, test_set = data(lesson)
    model = lesson.train_with(lesson.RECIPES[way], seed, pool, epochs, progress=None)
    pictures = pool.subset(lesson.NUM_TRAIN, seed=seed)
    return {
        "accuracy": lesson.accuracy(model, test_set),
        "known": lesson.accuracy(model, pictures),
    }
