"""Accuracy on drawings of six animals with a 1x1 bottleneck of 1 to 64 channels before the 5x5 middle layer, and with
none (width 0), at two budgets; learning rate chosen on validation drawings."""

NOTEBOOK = "03"
RATES = (8e-3, 2.4e-2)
RUNS = [
    {"width": width, "epochs": epochs, "seed": seed}
    for seed in range(10, 15)
    for epochs, widths in ((10, (0, 64, 16, 8, 4, 2, 1)), (40, (0, 64, 8)))
    for width in widths
]
TOLERANCE = {"val": 10.0, "test": 10.0, "lr": 0.02}  # in per cent; one run differs by less than that between machines


def run(lesson, width: int, epochs: int, seed: int) -> dict[str, float]:
    def make_middle():
        return lesson.bottleneck(width) if width else lesson.direct()

    found = {lr: lesson.trained_accuracy(make_middle, seed, lr, epochs) for lr in RATES}
    lr = max(found, key=lambda lr: found[lr][0])
    return {"val": 100 * found[lr][0], "test": 100 * found[lr][1], "lr": lr}
