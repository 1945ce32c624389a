"""Cross-entropy, the Dice loss and their sum on 100 masks of lesions, small and large, with two training budgets, the
threshold chosen on validation pictures; drawings and ultrasound images."""

NOTEBOOK = "04"
SEEDS = {
    ("critters", "small", 1600): range(10, 13),
    ("critters", "small", 4800): range(10, 13),
    ("critters", "large", 1600): range(10, 13),
    ("critters", "large", 4800): range(10, 13),
    ("photos", "large", 1600): range(10, 13),
    ("photos", "large", 4800): range(10, 13),
}
RUNS = [
    {"source": source, "lesions": size, "loss": loss, "seen": seen, "seed": seed}
    for (source, size, seen), seeds in SEEDS.items()
    for seed in seeds
    for loss in ("cross-entropy", "Dice", "both")
]
TOLERANCE = {"IoU at 0.5": 0.1, "threshold": 1.0, "IoU": 0.06, "recall": 0.15, "precision": 0.15}


def run(lesson, source, lesions, loss, seen, seed):
    train_set, val_set, test_set = getattr(lesson, f"{lesions}_lesions")(seed)
    how = {"loss_fn": lesson.LOSSES[loss], "num_seen": seen, "progress": None}
    model, _ = lesson.trained_unet(seed, train_set, **how)
    return lesson.lesion_scores(model, val_set, test_set)
