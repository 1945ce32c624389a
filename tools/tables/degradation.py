"""Training and test error of plain and residual networks of 8 to 56 layers on digits, at one budget, ten seeds; plain
ones of 32 layers also at a longer budget."""

NOTEBOOK = "02"
DEPTHS = (8, 20, 32, 44, 56)
RUNS = [
    {"kind": kind, "depth": depth, "epochs": 12, "seed": seed}
    for seed in range(10)
    for kind in ("plain", "residual")
    for depth in DEPTHS
]
RUNS += [{"kind": "plain", "depth": 32, "epochs": 40, "seed": seed} for seed in range(5)]
TOLERANCE = {"training_error": 2.0, "test_error": 4.0}  # in per cent; the quickest rows are those of 8 layers


def run(lesson, kind: str, depth: int, epochs: int, seed: int) -> dict[str, float]:
    lesson.torch.manual_seed(seed)
    model = lesson.network(depth, skip=kind == "residual")
    lesson.train(model, num_epochs=epochs, progress=None)
    return {
        "training_error": lesson.error(model, lesson.train_data),
        "test_error": lesson.error(model, lesson.test_data),
    }
