"""Quality and coverage of a DCGAN on digits after 1,000 steps, with one of its tricks removed, five seeds; with all of
them also after fewer steps."""

NOTEBOOK = "09"
REMOVED = (
    "nothing",
    "batch normalisation",
    "small weights",
    "beta1 = 0.5",
    "non-saturating loss",
    "leaky ReLU",
    "separate batches",
    "separate batches, for G too",
    "averaged weights",
)
RUNS = [{"removed": removed, "steps": 1000, "seed": seed} for seed in range(5) for removed in REMOVED]
RUNS += [{"removed": "nothing", "steps": steps, "seed": seed} for seed in range(5) for steps in (250, 500)]
TOLERANCE = {"recognised": 0.15, "classes": 1.0, "score": 1.2, "new": 0.25}
# Its one kind of picture is a digit or it is none, and a rounding error decides which.
ROUGH = [({"removed": "separate batches"}, {"recognised": 1.0, "new": 0.75})]


def run(lesson, removed: str, steps: int, seed: int) -> dict[str, float]:
    lesson.judge = lesson.train_judge(0)  # the same for all
    lesson.torch.manual_seed(seed)
    gan = lesson.gan_without(removed)
    lesson.play(gan, steps, [lesson.images], progress=None)
    z = lesson.torch.randn(2000, lesson.Z)
    pictures = lesson.sample(gan.generator if removed == "averaged weights" else gan.average, z)
    return lesson.verdict(pictures) | {"new": lesson.newness(pictures, quantile=0.5)}
