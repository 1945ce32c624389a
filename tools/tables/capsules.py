"""Capsules with three rounds of routing and with one, a convolutional network of the same size and an autoencoder on
digits, trained for 12 epochs, on two seeds also for 36: accuracy, error of the drawing, and how much of a digit's pose
the best single number tells."""

NOTEBOOK = "12"
RATES = (3e-3, 1e-2)
RUNS = [{"epochs": 12, "seed": seed} for seed in range(10, 15)] + [{"epochs": 36, "seed": seed} for seed in (10, 11)]
TOLERANCE = {
    "capsules": 3.0, "one_round": 3.0, "cnn": 3.0,
    "error_capsules": 0.006, "error_autoencoder": 0.006,
    "pose_capsules": 0.12, "pose_autoencoder": 0.12,
}  # fmt: skip


def run(lesson, epochs: int, seed: int) -> dict[str, float]:
    parts = lesson.datasets.digits()
    train, val, test = ((part.images / 255, part.targets["label"]) for part in parts)

    def trained(make, loss_fn):
        """The network, trained at each of two rates."""
        models = []
        for lr in RATES:
            lesson.torch.manual_seed(seed)
            models.append(lesson.train(make(), train, epochs, lr, loss_fn))
        return models

    def right(model, images, digits):
        return lesson.accuracy(lesson.read_digits(model), images, digits)

    def error(model, images, digits):
        drawn = lesson.draw_from(model.draw, lesson.own_numbers(model, images, digits), digits)
        return lesson.F.mse_loss(drawn, images.flatten(1)).item()

    def told(model, images, digits):
        return lesson.told_by_one(lesson.own_numbers(model, images, digits), lesson.pose(images), digits)

    # The rate is chosen on validation digits: by the accuracy where a network reads, by the error where it draws.
    capsules = trained(lesson.CapsuleNet, lesson.capsule_loss)
    reads = max(capsules, key=lambda model: right(model, *val))
    one_round = trained(lambda: lesson.CapsuleNet(rounds=1), lesson.capsule_loss)
    one_round = max(one_round, key=lambda model: right(model, *val))
    cnn = max(trained(lesson.plain_cnn, lesson.class_loss), key=lambda model: lesson.accuracy(model, *val))
    draws = min(capsules, key=lambda model: error(model, *val))
    autoencoder = min(trained(lesson.Autoencoder, lesson.drawing_loss), key=lambda model: error(model, *val))
    return {
        "capsules": 100 * right(reads, *test),
        "one_round": 100 * right(one_round, *test),
        "cnn": 100 * lesson.accuracy(cnn, *test),
        "error_capsules": error(draws, *test),
        "error_autoencoder": error(autoencoder, *test),
        "pose_capsules": told(draws, *test),
        "pose_autoencoder": told(autoencoder, *test),
    }
