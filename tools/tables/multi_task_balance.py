"""Class accuracy, box and mask IoU of networks with one task and with three, by how the losses are balanced; 80 labels,
drawings, 300 steps each. (0: not learned.)"""

from functools import cache

NOTEBOOK = "07"
WAYS = (
    "class only",
    "box only",
    "mask only",
    "mask, then class",
    "sum, pixels",
    "fixed weights",
    "uncertainty weights",
    "uncertainty weights, pixels",
    "GradNorm weights, pixels",
)
SEEDS = {"box only": 4, "mask only": 4, "mask, then class": 4}  # how many; 8 of the others
RUNS = [{"way": way, "seed": seed} for seed in range(8) for way in WAYS if seed < SEEDS.get(way, 8)]
TOLERANCE = {"label": 0.08, "box": 0.08, "mask": 0.06}


@cache
def data(lesson):
    pool, _, test_set = lesson.load_pets()
    return pool, lesson.tensors(test_set)


@cache
def on_masks(lesson, seed: int):
    """The network that two ways share: masks only."""
    pictures = lesson.few_labels(data(lesson)[0], lesson.NUM_LABELS, lesson.NUM_PICTURES, seed)
    return lesson.learn(["mask"], pictures, lesson.Fixed(mask=1), seed)


def run(lesson, way: str, seed: int) -> dict[str, float]:
    pool, test = data(lesson)
    pictures = lesson.few_labels(pool, lesson.NUM_LABELS, lesson.NUM_PICTURES, seed)
    found = lesson.scores(network(lesson, way, seed, pictures), test)
    return {task: found.get(task, 0.0) for task in TOLERANCE}


def network(lesson, way: str, seed: int, pictures):
    tasks, pixels = ["label", "box", "mask"], lesson.LOSSES | {"box": lesson.pixel_loss}
    ones = lesson.Fixed(label=1, box=1, mask=1)
    if way == "class only":
        return lesson.learn(["label"], pictures, ones, seed, num_others=0)
    if way == "box only":
        return lesson.learn(["box"], pictures, ones, seed)
    if way == "mask only":
        return on_masks(lesson, seed)
    if way == "mask, then class":
        first = on_masks(lesson, seed)
        return lesson.learn(["label"], pictures, ones, seed, encoder=first.encoder, num_others=0)
    weighting = {
        "sum, pixels": lambda: ones,
        "fixed weights": lambda: lesson.Fixed(label=1, box=0.5, mask=3),
        "uncertainty weights": lambda: lesson.Uncertainty(tasks),
        "uncertainty weights, pixels": lambda: lesson.Uncertainty(tasks, from_first_loss=True),
        "GradNorm weights, pixels": lambda: lesson.GradNorm(tasks),
    }[way]()
    return lesson.learn(tasks, pictures, weighting, seed, losses=pixels if "pixels" in way else lesson.LOSSES)
