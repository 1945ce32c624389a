"""Skips by concatenation, by sum and none, and both ways to make maps larger, on masks of cats and dogs: ten seeds of
drawings, three of photos."""

from functools import cache

from utils import datasets

NOTEBOOK = "04"
SEEDS = {"critters": range(10), "photos": range(3)}
KINDS = (("concat", "transposed"), ("sum", "transposed"), ("none", "transposed"), ("concat", "bilinear"))
RUNS = [
    {"source": source, "skip": skip, "up": up, "seed": seed}
    for source in ("critters", "photos")
    for seed in SEEDS[source]
    for skip, up in KINDS
]
TOLERANCE = {"accuracy": 0.03, "IoU": 0.08, "Dice": 0.08, "boundary IoU": 0.1, "thin parts": 0.2}


@cache
def data(source: str):
    """(pool to draw training pictures from, test set); COURSE_DATA is `source` already."""
    pool, _, test_set = datasets.pets(num_train=600, num_val=100, num_test=300, size=64)
    return pool, test_set


def run(lesson, source, skip, up, seed):
    pool, test_set = data(source)
    train_set = pool.subset(min(400, len(pool)), seed=seed)
    model = lesson.trained_unet(seed, train_set, skip=skip, up=up, progress=None)
    return lesson.scores(lesson.logits_of(model, test_set), test_set.targets["mask"])
