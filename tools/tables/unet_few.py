"""A pretrained encoder under the U-Net against a U-Net from scratch, by the number of masks to train on; three seeds of
drawings, two of photos."""

from tools.tables.unet_skips import data

NOTEBOOK = "04"
NUMS = {"critters": (20, 40, 100, 400), "photos": (20, 40, 100, 180)}
SEEDS = {"critters": range(3), "photos": range(2)}
RUNS = [
    {"source": source, "approach": approach, "num": num, "seed": seed}
    for source in ("critters", "photos")
    for seed in SEEDS[source]
    for approach in ("frozen", "scratch")
    for num in NUMS[source]
]
TOLERANCE = {"IoU": 0.08, "boundary IoU": 0.1}


def run(lesson, source, approach, num, seed):
    pool, test_set = data(source)
    few, how = pool.subset(num, seed=seed), {"num_seen": max(lesson.FEW_SEEN, 6 * num), "progress": None}
    if approach == "scratch":
        logits = lesson.logits_of(lesson.trained_unet(seed, few, **how), test_set)
    else:
        _, prepare = lesson.models.pretrained(source)
        logits = lesson.logits_of(lesson.trained_pretrained(seed, few, **how), test_set, prepare)
    found = lesson.scores(logits, test_set.targets["mask"])
    return {name: found[name] for name in TOLERANCE}
