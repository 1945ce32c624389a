"""The moderate recipe online, and offline with 1, 4 and 16 stored copies of each of 200 drawings, at the same number of
steps; accuracy on test drawings."""

from functools import cache

NOTEBOOK = "06"
COPIES = {"1 stored copy": 1, "4 stored copies": 4, "16 stored copies": 16}
RUNS = [
    {"way": way, "epochs": epochs, "seed": seed}
    for epochs, seeds in ((16, range(1)), (80, range(4)))  # 16: quick rows, which a test runs again
    for seed in seeds
    for way in ("none", *COPIES, "online")
]
TOLERANCE = {"accuracy": 0.1}


@cache
def data(lesson):
    pool, _, test_set = lesson.load()
    return pool, test_set


def run(lesson, way: str, epochs: int, seed: int) -> dict[str, float]:
    pool, test_set = data(lesson)
    scale, recipe = lesson.scale, lesson.RECIPES["moderate"]
    if way not in COPIES:
        model = lesson.train_with(recipe if way == "online" else None, seed, pool, epochs, progress=None)
        return {"accuracy": lesson.accuracy(model, test_set)}
    lesson.torch.manual_seed(seed)
    stored = lesson.stored_copies(pool.subset(lesson.NUM_TRAIN, seed=seed), recipe, COPIES[way])
    images, labels = stored.tensors
    model = lesson.own_network()
    prepared = lesson.TensorDataset(scale(images), labels)
    lesson.train(model, prepared, round(epochs / COPIES[way]), progress=None)
    return {"accuracy": lesson.accuracy(model, test_set)}
