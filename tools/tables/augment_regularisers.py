"""Regularisers on the four-block network: accuracy on test drawings and on the 200 training drawings, 40 epochs."""

from functools import cache

NOTEBOOK = "06"
WAYS = (
    "none",
    "no batch norm",
    "batch norm after ReLU",
    "dropout at the end",
    "Dropout2d in every block",
    "L1",
    "L2",
    "elastic net",
    "weight decay",
    "early stopping",
    "flip",
)
RUNS = [{"way": "none", "epochs": 10, "seed": 0}]  # a quick one, which a test runs again
RUNS += [{"way": way, "epochs": 40, "seed": seed} for seed in range(5) for way in WAYS]
TOLERANCE = {"accuracy": 0.12, "known": 0.15}
# When it stops hangs on the order of nearly equal losses, and so on rounding.
ROUGH = [({"way": "early stopping"}, {"accuracy": 0.4, "known": 0.5})]


@cache
def data(lesson):
    return lesson.load()


def run(lesson, way: str, epochs: int, seed: int) -> dict[str, float]:
    return lesson.scores_regularised(way, seed, epochs, *data(lesson))
