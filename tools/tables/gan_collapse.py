"""Which digits a GAN draws when its generator makes 1, 3 or 10 steps for one of the discriminator, with batch
normalisation and without; 600 generator steps, five seeds."""

NOTEBOOK = "09"
RUNS = [
    {"batch_norm": batch_norm, "generator_steps": generator_steps, "seed": seed}
    for seed in range(5)
    for batch_norm in ("yes", "no")
    for generator_steps in (1, 3, 10)
]
LOOKS = 6  # at the last generator, in the second half of the training: the means are stored
TOLERANCE = {"classes": 1, "recognised": 0.1, "best": 0.1}  # about four times as far as the five seeds lie apart
# A collapsed generator flits from digit to digit, and rounding decides when (seen with a CPU's other instructions).
ROUGH = [
    ({"batch_norm": "no"}, {"classes": 2, "recognised": 0.4, "best": 0.45}),
    ({"batch_norm": "yes", "generator_steps": 3}, {"classes": 3, "recognised": 0.3, "best": 0.3}),
    ({"batch_norm": "yes", "generator_steps": 10}, {"classes": 2, "recognised": 0.5, "best": 0.3}),
]


def run(lesson, batch_norm: str, generator_steps: int, seed: int) -> dict[str, float]:
    lesson.judge = lesson.train_judge(0)  # the same for all
    lesson.torch.manual_seed(seed)
    gan = lesson.gan_without("nothing" if batch_norm == "yes" else "batch normalisation")
    steps, z, looks = 600 // generator_steps, lesson.torch.randn(1000, lesson.Z), []
    lesson.play(
        gan,
        steps,
        [lesson.images],
        generator_steps=generator_steps,
        watch=lambda step: looks.append(lesson.verdict(lesson.sample(gan.generator, z))),
        every=steps // (2 * LOOKS),
        progress=None,
    )
    late = looks[-LOOKS:]
    means = {what: sum(look[what] for look in late) / len(late) for what in ("classes", "recognised")}
    return means | {"best": max(look["recognised"] for look in looks)}
