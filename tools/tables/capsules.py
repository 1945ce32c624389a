"""Capsules with three rounds of routing and with one, a convolutional network of the same size and an autoencoder on
digits: accuracy, error of the drawing, and how much of a digit's pose the best single number tells."""

NOTEBOOK = "12"
RATES = (3e-3, 1e-2)
EPOCHS = 12
RUNS = [{"seed": seed} for seed in range(10, 15)]
TOLERANCE = {
    "capsules": 3.0, "one_round": 3.0, "cnn": 3.0,
    "error_capsules": 0.006, "error_autoencoder": 0.006,
    "pose_capsules": 0.12, "pose_autoencoder": 0.12,
}  # fmt: skip


def run(lesson, seed: int) -> dict[str, float]:
    parts = lesson.datasets.digits()
    train, val, test = ((part.images / 255, part.targets["label"]) for part in parts)

    def best(make, loss_fn, score):
        """The network of the better of two rates, by `score` on the validation digits."""
        found = []
        for lr in RATES:
            lesson.torch.manual_seed(seed)
            model = lesson.train(make(), train, EPOCHS, lr, loss_fn)
            found.append((score(model, *val), model))
        return max(found, key=lambda pair: pair[0])[1]

    def right(model, images, digits):
        return lesson.accuracy(lesson.read_digits(model), images, digits)

    def error(model, images, digits):
        drawn = lesson.draw_from(model.draw, lesson.own_numbers(model, images, digits), digits)
        return lesson.F.mse_loss(drawn, images.flatten(1)).item()

    def told(model, images, digits):
        return lesson.told_by_one(lesson.own_numbers(model, images, digits), lesson.pose(images), digits)

    capsules = best(lesson.CapsuleNet, lesson.capsule_loss, right)
    one_round = best(lambda: lesson.CapsuleNet(rounds=1), lesson.capsule_loss, right)
    cnn = best(lesson.plain_cnn, lesson.class_loss, lesson.accuracy)
    autoencoder = best(lesson.Autoencoder, lesson.drawing_loss, lambda *args: -error(*args))
    return {
        "capsules": 100 * right(capsules, *test),
        "one_round": 100 * right(one_round, *test),
        "cnn": 100 * lesson.accuracy(cnn, *test),
        "error_capsules": error(capsules, *test),
        "error_autoencoder": error(autoencoder, *test),
        "pose_capsules": told(capsules, *test),
        "pose_autoencoder": told(autoencoder, *test),
    }
