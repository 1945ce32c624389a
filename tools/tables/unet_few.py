"""Forty masks: a pretrained encoder under the U-Net, the same network from random weights, and the notebook's U-Net
from scratch, each with several training budgets; drawings and photos."""

from tools.tables.unet_skips import data

NOTEBOOK = "04"
SEEDS = {
    ("critters", "frozen"): (1200, 4800, 9600),
    ("critters", "scratch"): (1200, 4800, 9600),
    ("photos", "frozen"): (1200, 4800, 9600),
    ("photos", "scratch"): (1200, 4800, 9600),
    ("critters", "random"): (4800,),
    ("photos", "random"): (4800,),
}
RUNS = [
    {"source": source, "approach": approach, "seen": seen, "seed": seed}
    for (source, approach), budgets in SEEDS.items()
    for seen in budgets
    for seed in range(10, 13)
]
TOLERANCE = {"IoU": 0.06, "boundary IoU": 0.08}


def run(lesson, source, approach, seen, seed):
    pool, test_set = data(source)
    few, how = pool.subset(40, seed=seed), {"num_seen": seen, "progress": None}
    if approach == "scratch":
        model, _ = lesson.trained_unet(seed, few, **how)
    else:
        model, _ = lesson.trained_pretrained(seed, few, frozen=approach == "frozen", **how)
    found = lesson.scores(lesson.logits_of(model, test_set), test_set.targets["mask"])
    return {name: found[name] for name in TOLERANCE}
