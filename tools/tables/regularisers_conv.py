"""Regularisers of a convolutional network from scratch on 200 drawings of 48 x 48 pixels: strength chosen on a third of
them, then trained on all."""

from functools import cache

NOTEBOOK = "08"
WAYS = (
    "none",
    "flip",
    "Dropout2d in each block",
    "dropout at the end",
    "no batch norm",
    "early stopping",
    "weight decay",
)
RUNS = [{"way": way, "seed": seed} for way in WAYS for seed in range(10, 13)]
# Which strength is chosen hangs on one label or two, and so on rounding.
TOLERANCE = {"chosen": 2, "first": 0.15, "test": 0.15}


@cache
def pictures(lesson):
    return lesson.pixels_data()


def run(lesson, way: str, seed: int) -> dict[str, float]:
    task = {"num": 200, "wrong": 0.0}
    found = lesson.judged(pictures(lesson), task, lesson.CONV_WAYS[way], seed, lesson.trained_conv)
    return {name: found[name] for name in TOLERANCE}
