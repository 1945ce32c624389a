"""PSNR and checkerboard of networks that enlarge drawings with four up-samplers, and of one transposed convolution
alone, at two budgets; learning rate chosen on validation drawings."""

NOTEBOOK = "03"
RATES = (5e-3, 2e-2)
NETWORKS = ("transposed, kernel 3", "transposed, kernel 4", "resize-convolution", "fixed: bilinear")
ALONE = {"alone, kernel 4": 4, "alone, kernel 6": 6}
RUNS = [
    {"way": way, "epochs": epochs, "seed": seed}
    for seed in range(10, 15)
    for epochs in (12, 48)
    for way in (*NETWORKS, *ALONE)
]
TOLERANCE = {"val": 0.5, "test": 0.5, "pattern": 1.0, "lr": 0.02}  # in dB; in grey levels


def run(lesson, way: str, epochs: int, seed: int) -> dict[str, float]:
    best = {"val": 0.0}
    for lr in RATES:
        lesson.torch.manual_seed(seed)
        if way in ALONE:
            model = lesson.transposed(ALONE[way], c_in=3, bias=False)
        else:
            model = lesson.Enlarger(way)
        lesson.train_enlarger(model, epochs, lr)
        val, test = (
            lesson.psnr(lesson.enlarged(model, small), large)
            for small, large in ((lesson.halved_val, lesson.large_val), (lesson.halved_new, lesson.large_new))
        )
        if val > best["val"]:
            best = {"val": val, "test": test, "pattern": lesson.pattern(model), "lr": lr}
    return best
