"""Fine-tuning with the first parts frozen: test accuracy by how many, by the rate and the number of pictures."""

from tools.tables.transfer_curves import frozen_head, place

NOTEBOOK = "05"
NUMS = {"critters": (20, 200, 600), "photos": (20, 200)}
RATES = {"critters": (1e-4, 3e-3), "photos": (1e-4, 3e-4)}  # that of section 5, and a larger one
PARTS = {"critters": range(6), "photos": (0, 2, 4, 5)}
RUNS = [
    {"source": source, "lr": lr, "frozen_parts": frozen_parts, "num": num, "seed": seed}
    for source in ("critters", "photos")
    for seed in range(3)
    for num in NUMS[source]
    for lr in RATES[source]
    for frozen_parts in PARTS[source]
]
TOLERANCE = {"accuracy": 0.08}


def run(lesson, source, lr, frozen_parts, num, seed):
    pool, test_set, _ = place(lesson, source)
    pictures = pool.subset(num, seed=seed)
    head = frozen_head(lesson, pictures, seed)
    model = lesson.fine_tune_behind(frozen_parts, seed, pictures, head, lr=lr)
    return {"accuracy": lesson.accuracy(model, test_set.with_transform(lesson.prepare))}
