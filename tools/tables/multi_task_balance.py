"""Class accuracy, box and mask IoU by how the losses of three tasks are added up, and of box and mask alone; drawings,
200 of 600 with a label. (0: not learned. The plain sum, box in twentieths, is in multi_task_labels.)"""

from tools.tables.multi_task_labels import SEEDS, data, first

NOTEBOOK = "07"
WAYS = (
    "box only",
    "mask only",
    "plain sum, pixels",
    "uncertainty, pixels",
    "equal lengths, pixels",
    "uncertainty",
)
RUNS = [{"way": way, "seed": seed} for seed in SEEDS[:3] for way in WAYS]
TOLERANCE = {"label": 0.06, "box": 0.06, "mask": 0.06}


def run(lesson, way: str, seed: int) -> dict[str, float]:
    pool, test = data(lesson)
    if "only" in way:
        network = first(lesson, way.split()[0], seed)
    else:
        weighting = {
            "plain sum, pixels": lambda: lesson.PLAIN_SUM,
            "uncertainty, pixels": lesson.Uncertainty,
            "equal lengths, pixels": lesson.EqualLengths,
            "uncertainty": lambda: lesson.Uncertainty(dict.fromkeys(lesson.START, 0.0)),
        }[way]()
        pictures = lesson.few_labels(pool, lesson.NUM_LABELS, lesson.NUM_PICTURES, seed)
        losses = lesson.IN_PIXELS if "pixels" in way else lesson.LOSSES
        network = lesson.learn(["label", "box", "mask"], pictures, seed, weighting, losses=losses)
    found = lesson.scores(network, test)
    return {task: found.get(task, 0.0) for task in TOLERANCE}
