"""Masks of cats and dogs with skips by concatenation, by sum and with none, and with both ways to make maps larger:
drawings and photos, trained with several budgets."""

from functools import cache

from utils import datasets

NOTEBOOK = "04"
SEEDS = {
    ("critters", "concat", "transposed", 9600): range(10, 15),
    ("critters", "none", "transposed", 9600): range(10, 15),
    ("photos", "concat", "transposed", 9600): range(10, 13),
    ("photos", "none", "transposed", 9600): range(10, 13),
    ("critters", "sum", "transposed", 9600): range(10, 13),
    ("critters", "concat", "bilinear", 9600): range(10, 13),
    ("critters", "concat", "transposed", 2400): range(10, 13),
    ("critters", "none", "transposed", 2400): range(10, 13),
    ("critters", "concat", "transposed", 19200): range(10, 12),
    ("critters", "none", "transposed", 19200): range(10, 12),
}
RUNS = [
    {"source": source, "skip": skip, "up": up, "seen": seen, "seed": seed}
    for (source, skip, up, seen), seeds in SEEDS.items()
    for seed in seeds
]
TOLERANCE = {"accuracy": 0.02, "IoU": 0.04, "boundary IoU": 0.08, "near outside": 0.05, "near inside": 0.05,
             "far outside": 0.01, "far inside": 0.03}  # fmt: skip


@cache
def data(source: str):
    """(pool to draw training pictures from, test set); COURSE_DATA is `source` already."""
    pool, _, test_set = datasets.pets(num_train=600, num_val=100, num_test=300, size=64)
    return pool, test_set


def run(lesson, source, skip, up, seen, seed):
    pool, test_set = data(source)
    train_set, masks = pool.subset(min(400, len(pool)), seed=seed), test_set.targets["mask"]
    model, _ = lesson.trained_unet(seed, train_set, skip=skip, up=up, num_seen=seen, progress=None)
    logits = lesson.logits_of(model, test_set)
    return lesson.scores(logits, masks) | lesson.by_place(logits, masks)
