"""Test accuracy with a 1x1 bottleneck of 1 to 16 channels before the 5x5 middle layer, and with none (width 0), on
drawings of six animals; ten seeds."""

NOTEBOOK = "03"
RUNS = [{"width": width, "seed": seed} for seed in range(10) for width in (0, 1, 2, 4, 8, 16)]
TOLERANCE = {"accuracy": 0.1}  # a share of 1; one run differs by less than that between machines


def run(lesson, width: int, seed: int) -> dict[str, float]:
    make_middle = (lambda: lesson.bottleneck(width)) if width else lesson.direct
    return {"accuracy": lesson.trained_accuracy(make_middle, seed)}
