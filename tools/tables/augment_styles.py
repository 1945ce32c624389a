"""Networks trained on drawings in six ways, style transfer among them, tested on drawings in five styles; 200 training
drawings, 40 epochs."""

from functools import cache

NOTEBOOK = "06"
RUNS = [{"way": "none", "epochs": 10, "seed": 0}]  # a quick one, which a test runs again
RUNS += [
    {"way": way, "epochs": 40, "seed": seed}
    for seed in range(5)
    for way in ("none", "flip", "moderate", "colour jitter", "style transfer", "true posters")
]
TOLERANCE = {"as_drawn": 0.1, "pencil": 0.15, "poster": 0.15, "negative": 0.15, "night": 0.15}


@cache
def data(lesson):
    pool, _, test_set = lesson.load()
    return pool, test_set


def run(lesson, way: str, epochs: int, seed: int) -> dict[str, float]:
    return lesson.scores_trained(way, seed, epochs, *data(lesson))
