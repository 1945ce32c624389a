"""Changed copies by the moderate recipe, stored beside 200 original drawings, at the steps of 120 epochs; accuracy on
400 validation drawings. (None and online, for the same seeds: augment_alone.)"""

from tools.tables.augment_alone import data

NOTEBOOK = "06"
RUNS = [{"copies": copies, "epochs": 120, "seed": seed} for seed in range(3) for copies in (1, 3, 16)]
TOLERANCE = {"accuracy": 0.1}


def run(lesson, copies: int, epochs: int, seed: int) -> dict[str, float]:
    return lesson.scores_stored(copies, seed, epochs, *data(lesson, "critters"))
