"""Regularisers of a convolutional network from scratch on 200 drawings of 48 x 48 pixels: strength chosen on a third of
them, then trained on all."""

from functools import cache

NOTEBOOK = "08"
WAYS = (
    "none",
    "dropout at the end",
    "Dropout2d in each block",
    "weight decay",
    "early stopping",
    "no batch norm",
    "flip",
)
RUNS = [{"way": way, "seed": seed} for seed in range(10, 13) for way in WAYS]
# Which strength is chosen hangs on one label or two, and so on rounding.
TOLERANCE = {"chosen": 2, "first": 0.15, "test": 0.15}


@cache
def pictures(lesson):
    return lesson.pixels_data()


def run(lesson, way: str, seed: int) -> dict[str, float]:
    task = {"num": 200, "wrong": 0.0}
    found = lesson.judged(pictures(lesson), task, lesson.CONV_WAYS[way], seed, lesson.trained_conv)
    return {name: found[name] for name in TOLERANCE}
