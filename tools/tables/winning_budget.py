"""A million multiplications for a noisy digit, spent on one wide network, three, or twelve narrow ones; three seeds."""

NOTEBOOK = "10"
RUNS = [
    {"width": width, "networks": networks, "seed": seed}
    for seed in range(3)
    for width, networks in ((29, 1), (16, 3), (8, 12))
]
TOLERANCE = {"accuracy": 0.05, "nll": 0.25}


def run(lesson, width: int, networks: int, seed: int) -> dict[str, float]:
    known, (images, labels) = lesson.noisy_task(seed)
    members = [lesson.member(known, 100 * seed + k, width) for k in range(networks)]
    p = lesson.torch.stack([lesson.probabilities(model, images) for model in members]).mean(dim=0)
    row = lesson.scores(p, labels)
    return {"accuracy": row["accuracy"], "nll": row["nll"]}
