"""Four ways to fine-tune from a fresh head on 200 drawings, and one from the trained head, each at several rates."""

from tools.tables.transfer_curves import data, frozen_head, place

NOTEBOOK = "05"
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
WAYS = ("all at once", "trained head", "part by part", "falling rates", "one small rate")
RUNS = [
    {"source": source, "way": way, "lr": lr, "seed": seed}
    for source in ("critters",)
    for seed in range(3)
    for way in WAYS
    for lr in RATES
]
TOLERANCE = {"val": 0.08, "accuracy": 0.08}
# A large step from the same place leads elsewhere where another CPU rounds otherwise.
ROUGH = [({"lr": lr}, {"val": 0.4, "accuracy": 0.4}) for lr in (3e-3, 1e-2)]


def run(lesson, source, way, lr, seed):
    pool, test_set, _ = place(lesson, source)
    val_set, pictures = data(source)[1], pool.subset(200, seed=seed)
    head = frozen_head(lesson, pictures, seed)
    if way != "trained head":
        lesson.torch.manual_seed(seed)
        head = lesson.nn.Linear(head.in_features, head.out_features)
    model = lesson.tune_gently(seed, pictures, head, lr, **lesson.WAYS.get(way, {}))
    shares = [lesson.accuracy(model, part.with_transform(lesson.prepare)) for part in (val_set, test_set)]
    return dict(zip(TOLERANCE, shares, strict=True))
