"""Batch normalisation held in evaluation mode or left in training mode, while training on 40 pictures."""

from tools.tables.transfer_curves import frozen_head, place

NOTEBOOK = "05"
SEEDS = {"critters": range(5), "photos": range(3)}
RUNS = [
    {"source": source, "trained": trained, "hold": hold, "batch_size": batch_size, "seed": seed}
    for source in ("critters", "photos")
    for seed in SEEDS[source]
    for trained in ("head", "all")
    for hold in (1, 0)
    for batch_size in (4, 32)
]
TOLERANCE = {"accuracy": 0.08}


def run(lesson, source, trained, hold, batch_size, seed):
    pool, test_set, _ = place(lesson, source)
    pictures = pool.subset(40, seed=seed)
    model = lesson.with_head(frozen_head(lesson, pictures, seed), hold=bool(hold))
    model.features.requires_grad_(trained == "all")
    lesson.torch.manual_seed(seed)
    lesson.train(model, pictures.with_transform(lesson.prepare), lr=1e-4, num_epochs=6, batch_size=batch_size)
    return {"accuracy": lesson.accuracy(model, test_set.with_transform(lesson.prepare))}
