"""Networks trained on drawings, on photos, on both together, or on drawings first and photos afterwards: accuracy on
photos, at the steps of 120 epochs of 200."""

from functools import cache

from tools.tables.augment_alone import data

NOTEBOOK = "06"
RUNS = [
    {"source": "photos", "learned": learned, "steps": 840, "seed": seed}
    for seed in range(3)
    for learned in ("drawings", "photos", "both", "drawings, then photos")
]
TOLERANCE = {"accuracy": 0.1}


@cache
def drawings(lesson):
    found = lesson.datasets.critters(["cat", "dog"], num_train=2000, num_val=2, num_test=2, size=lesson.SIZE)
    return found.train


def run(lesson, source: str, learned: str, steps: int, seed: int) -> dict[str, float]:
    pool, new_photos = data(lesson, source)
    photos, drawn = pool.subset(200, seed=seed), drawings(lesson)
    stages = {
        "drawings": [drawn],
        "photos": [photos],
        "both": [lesson.together(photos, drawn)],
        "drawings, then photos": [drawn, photos],
    }
    return lesson.scores_drawn(stages[learned], seed, steps, new_photos)
