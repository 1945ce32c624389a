"""Own network, frozen features and fine-tuning against the number of training pictures."""

import copy
from functools import cache

from utils import datasets

NOTEBOOK = "05"
NUMS = {"critters": (20, 50, 100, 200, 600, 2000), "photos": (20, 50, 200, 600)}
SEEDS = {"critters": range(3), "photos": range(3)}
RUNS = [
    {"source": source, "approach": approach, "num": num, "seed": seed}
    for source in ("critters", "photos")
    for seed in SEEDS[source]
    for approach in ("frozen", "tuned", "own")
    for num in NUMS[source]
]
TOLERANCE = {"accuracy": 0.08}


@cache
def data(source: str):
    """(pool to draw training pictures from, validation set, test set); COURSE_DATA is `source` already."""
    return datasets.dogs_vs_cats(num_train=max(NUMS[source]), num_val=200)


def place(lesson, source: str):
    """Give the lesson its pretrained network and preparation; (pool, test set, the test set's points and labels)."""
    pool, _, test_set = data(source)
    if getattr(lesson, "source", None) != source:
        model, lesson.prepare = lesson.models.pretrained(source)
        lesson.encoder, lesson.source = copy.deepcopy(model), source
        lesson.encoder.classifier = lesson.nn.Identity()
        lesson.test_points = lesson.through(lesson.encoder, test_set, None)
    return pool, test_set, lesson.test_points


def frozen_head(lesson, pictures, seed: int, encoder=None):
    points, labels = lesson.through(encoder or lesson.encoder, pictures, None)
    return lesson.linear_on(points, labels, seed)


def run(lesson, source, approach, num, seed):
    pool, test_set, test_points = place(lesson, source)
    pictures = pool.subset(num, seed=seed)
    if approach == "own":
        model, test = lesson.scratch(seed, pictures), test_set.with_transform(lesson.scale)
        return {"accuracy": lesson.accuracy(model, test)}
    head = frozen_head(lesson, pictures, seed)
    if approach == "frozen":
        return {"accuracy": lesson.evaluate(head, [test_points])["accuracy"]}
    model = lesson.fine_tune(seed, pictures, head, lr=1e-4, num_epochs=lesson.tune_epochs(pictures))
    return {"accuracy": lesson.accuracy(model, test_set.with_transform(lesson.prepare))}
