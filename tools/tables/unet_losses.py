"""Cross-entropy, the Dice loss and their sum on 100 masks of lesions: ten seeds of drawings, three of ultrasound
images, and three of drawings at other budgets."""

NOTEBOOK = "04"
SEEDS = {
    ("critters", 800): range(3),
    ("critters", 1600): range(10),
    ("critters", 3200): range(3),
    ("photos", 1600): range(3),
}
RUNS = [
    {"source": source, "loss": loss, "seen": seen, "seed": seed}
    for source, seen in SEEDS
    for seed in SEEDS[source, seen]
    for loss in ("cross-entropy", "Dice", "both")
]
TOLERANCE = {"accuracy": 0.05, "IoU": 0.15, "boundary IoU": 0.2, "recall": 0.2, "precision": 0.2}


def run(lesson, source, loss, seen, seed):
    train_set, test_set = lesson.lesion_sets(seed)
    masks = test_set.targets["mask"]
    model = lesson.trained_unet(seed, train_set, loss_fn=lesson.LOSSES[loss], num_seen=seen, progress=None)
    logits = lesson.logits_of(model, test_set)
    found = lesson.scores(logits, masks) | lesson.recall_and_precision(logits, masks)
    return {name: found[name] for name in TOLERANCE}
