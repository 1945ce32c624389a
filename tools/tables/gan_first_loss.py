"""How many of eight heaps in the plane a GAN finds with the minimax and with the non-saturating loss, the generator's
optimizer Adam or SGD, three rates each, with and without a head start of the discriminator; five seeds."""

NOTEBOOK = "09"
RATES = {"Adam": (5e-4, 2e-3, 8e-3), "SGD": (0.01, 0.03, 0.1)}
RUNS = [
    {"loss": loss, "optimizer": optimizer, "head_start": head_start, "lr": lr, "seed": seed}
    for seed in range(5)
    for head_start in (0, 300)
    for optimizer, rates in RATES.items()
    for lr in rates
    for loss in ("minimax", "non-saturating")
]
TOLERANCE = {"heaps": 3, "near": 0.25}
# A rate that is too high sends the fakes from heap to heap, or away from all, and rounding decides when and where.
ROUGH = [({"optimizer": "SGD"}, {"heaps": 8, "near": 1.0})]


def run(lesson, loss: str, optimizer: str, head_start: int, lr: float, seed: int) -> dict[str, float]:
    losses = {"minimax": lesson.minimax, "non-saturating": lesson.non_saturating}
    heaps, near = lesson.after_head_start(losses[loss], optimizer, lr, head_start, seed)
    return {"heaps": heaps, "near": near}
