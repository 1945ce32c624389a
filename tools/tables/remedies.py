"""Each remedy against vanishing gradients at depths of 5 to 50 layers, a linear classifier and one hidden layer beside
them: learning rate and epochs chosen on validation digits."""

NOTEBOOK = "01"
SHALLOW = {"linear classifier": 1, "one hidden layer": 2}
COMPARED = (*SHALLOW, "sigmoid, skip", "ReLU, skip", "all four")  # on ten seeds
OTHERS = (
    "sigmoid",
    "ReLU",
    "ReLU, He",
    "tanh, Xavier",
    "sigmoid, batch norm",
    "sigmoid, layer norm",
    "ReLU, layer norm",
    "ReLU, group norm",
)
RUNS = [
    {"remedy": remedy, "depth": SHALLOW.get(remedy, 20), "seed": seed}
    for remedy in COMPARED + OTHERS
    for seed in range(10, 20 if remedy in COMPARED else 13)
]
RUNS += [
    {"remedy": remedy, "depth": depth, "seed": seed}
    for depth, seeds in ((5, 3), (10, 3), (50, 1))
    for seed in range(10, 10 + seeds)
    for remedy in COMPARED[2:] + OTHERS
]
TOLERANCE = {
    "val": 15.0,
    "test": 15.0,
    "lr": 0.01,
    "epochs": 30,
}  # in per cent; where training hardly succeeds, chance has its say


def run(lesson, remedy: str, depth: int, seed: int) -> dict[str, float]:
    relu = {"activation": lesson.nn.ReLU}
    changes = {
        "linear classifier": {},
        "one hidden layer": relu | {"init": lesson.he},
        "sigmoid": {},
        "ReLU": relu,
        "ReLU, He": relu | {"init": lesson.he},
        "tanh, Xavier": {"activation": lesson.nn.Tanh, "init": lesson.xavier},
        "sigmoid, batch norm": {"norm": lesson.nn.BatchNorm1d},
        "sigmoid, layer norm": {"norm": lesson.nn.LayerNorm},
        "ReLU, layer norm": relu | {"norm": lesson.nn.LayerNorm},
        "ReLU, group norm": relu | {"norm": lambda width: lesson.nn.GroupNorm(8, width)},
        "sigmoid, skip": {"skip": True},
        "ReLU, skip": relu | {"skip": True},
        "all four": relu | {"init": lesson.he, "norm": lesson.nn.BatchNorm1d, "skip": True},
    }[remedy]
    lesson.torch.manual_seed(seed)
    best = lesson.tuned(depth, **changes)
    return {"val": 100 * best["val"], "test": 100 * best["test"], "lr": best["lr"], "epochs": best["epochs"]}
