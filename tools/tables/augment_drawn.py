"""Networks trained on drawings, on photos, and on both: accuracy on photos, at the steps of 120 epochs of 200."""

from functools import cache

from tools.tables.augment_alone import data

NOTEBOOK = "06"
NUMBERS = {"drawings": (0, 2000), "photos": (200, 0), "both": (200, 2000)}  # photos, drawings
RUNS = [
    {"source": "photos", "learned": learned, "steps": 840, "seed": seed} for seed in range(1) for learned in NUMBERS
]
TOLERANCE = {"accuracy": 0.1}


@cache
def drawings(lesson):
    found = lesson.datasets.critters(["cat", "dog"], num_train=2000, num_val=2, num_test=2, size=lesson.SIZE)
    return found.train


def run(lesson, source: str, learned: str, steps: int, seed: int) -> dict[str, float]:
    photos, new_photos = data(lesson, source)
    parts = [
        part.subset(num, seed=seed)
        for part, num in zip((photos, drawings(lesson)), NUMBERS[learned], strict=True)
        if num
    ]
    return lesson.scores_drawn(lesson.together(*parts), seed, steps, new_photos)
