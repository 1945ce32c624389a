"""Cross-entropy, the Dice loss and their sum on 100 masks of lesions: ten seeds of drawings, three of ultrasound images; three seeds also at a longer budget."""

NOTEBOOK = "04"
SEEDS = {"critters": range(10), "photos": range(3)}
LOSSES = ("cross-entropy", "Dice", "both")
RUNS = [
    {"source": source, "loss": loss, "seen": 800, "seed": seed}
    for source in ("critters", "photos")
    for seed in SEEDS[source]
    for loss in LOSSES
]
RUNS += [{"source": "critters", "loss": loss, "seen": 3200, "seed": seed} for seed in range(3) for loss in LOSSES]
TOLERANCE = {"accuracy": 0.05, "IoU": 0.15, "boundary IoU": 0.2, "recall": 0.2, "precision": 0.2}


def run(lesson, source, loss, seen, seed):
    train_set, test_set = lesson.lesion_sets(seed)
    masks = test_set.targets["mask"]
    model = lesson.trained_unet(seed, train_set, loss_fn=lesson.LOSSES[loss], num_seen=seen, progress=None)
    logits = lesson.logits_of(model, test_set)
    found = lesson.scores(logits, masks) | lesson.recall_and_precision(logits, masks)
    return {name: found[name] for name in TOLERANCE}
