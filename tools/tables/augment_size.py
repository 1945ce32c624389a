"""Accuracy on test drawings against the number of training drawings, with three recipes, at the same number of steps."""

from functools import cache

NOTEBOOK = "06"
RUNS = [{"way": "none", "num": 25, "steps": 100, "seed": 0}]  # a quick one, which a test runs again
RUNS += [
    {"way": way, "num": num, "steps": 840, "seed": seed}  # as 120 epochs of 200 drawings
    for seed in range(3)
    for num in (25, 50, 100, 200, 600)
    for way in ("none", "flip", "moderate")
]
TOLERANCE = {"accuracy": 0.1}


@cache
def data(lesson):
    pool, _, test_set = lesson.load()
    return pool, test_set


def run(lesson, way: str, num: int, steps: int, seed: int) -> dict[str, float]:
    pool, test_set = data(lesson)
    pictures, recipe, scale = pool.subset(num, seed=seed), lesson.RECIPES[way], lesson.scale
    lesson.torch.manual_seed(seed)
    model = lesson.own_network()
    epochs = round(steps / -(-num // 32))
    augment = lesson.v2.Compose([recipe, scale]) if recipe else scale
    lesson.train(model, pictures.with_transform(augment), epochs, progress=None)
    return {"accuracy": lesson.accuracy(model, test_set.with_transform(scale))}
