"""Fine-tuning with the first parts frozen: test accuracy by how many, and by the number of training pictures."""

from tools.tables.transfer_curves import frozen_head, place

NOTEBOOK = "05"
NUMS = {"critters": (20, 200, 600), "photos": (20, 200)}
SEEDS = {"critters": range(3), "photos": range(1)}
RUNS = [
    {"source": source, "frozen_parts": frozen_parts, "num": num, "seed": seed}
    for source in ("critters", "photos")
    for seed in SEEDS[source]
    for num in NUMS[source]
    for frozen_parts in range(6)
]
TOLERANCE = {"accuracy": 0.08}


def run(lesson, source, frozen_parts, num, seed):
    pool, test_set, _ = place(lesson, source)
    pictures = pool.subset(num, seed=seed)
    head = frozen_head(lesson, pictures, seed)
    model = lesson.fine_tune_behind(frozen_parts, seed, pictures, head, lr=lesson.RATES[source])
    return {"accuracy": lesson.accuracy(model, test_set.with_transform(lesson.prepare))}
