"""Accuracy against the number of labelled pictures: pixels, HOG and a small network on digits (five seeds); HOG on cats
and dogs (three)."""

from functools import cache

from utils import datasets

NOTEBOOK = "10"
NUMS = (20, 50, 100, 300, 1200)
RUNS = [
    {"source": "critters", "task": "digits", "features": features, "num": num, "seed": seed}
    for seed in range(5)
    for features in ("pixels", "HOG", "network")
    for num in NUMS
]
RUNS += [
    {"source": source, "task": "animals", "features": "HOG", "num": num, "seed": seed}
    for source in ("critters", "photos")
    for seed in range(3)
    for num in (20, 50, 200, 600)
]
TOLERANCE = {"accuracy": 0.08}


@cache
def animals(lesson, source: str):
    """The pool, its HOG features, and features and labels of the test set; COURSE_DATA is `source` already."""
    pool, _, test_set = datasets.dogs_vs_cats(num_train=600, num_val=200)
    cell = pool.images.shape[-1] // 8
    features, test_features = (lesson.hog(part.images / 255, cell) for part in (pool, test_set))
    return pool, features, test_features, test_set.targets["label"]


def run(lesson, source, task, features, num, seed):
    if task == "digits":
        return {"accuracy": lesson.digits_with(features, num, seed)}
    pool, points, test_points, test_labels = animals(lesson, source)
    rows = pool.subset(num, seed=seed).indices
    model = lesson.linear_on(points[rows], pool.targets["label"][rows], seed)
    return {"accuracy": lesson.accuracy(model, test_points, test_labels)}
