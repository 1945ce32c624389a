"""Validation and test error of networks of 20 layers in three stages, with each of He and others' three shortcuts where
shapes do not match, and with none; ten seeds."""

NOTEBOOK = "02"
RUNS = [{"option": option, "seed": seed} for seed in range(10, 20) for option in ("none", "A", "B", "C")]
TOLERANCE = {"val_error": 4.0, "test_error": 4.0}  # in per cent
# Rounding decides how far it gets in six epochs.
ROUGH = [({"option": "none"}, {"val_error": 20.0, "test_error": 20.0})]


def run(lesson, option: str, seed: int) -> dict[str, float]:
    lesson.torch.manual_seed(seed)
    model = lesson.staged_network(option)
    lesson.train(model, num_epochs=6, progress=None)
    return {
        "val_error": lesson.error(model, lesson.val_data),
        "test_error": lesson.error(model, lesson.test_data),
    }
