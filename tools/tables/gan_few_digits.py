"""What a classifier with few real digits gains from a conditional GAN's samples, and from moved copies; five draws of
the digits. (The cheat: a GAN that saw all 1,200 labels.)"""

from functools import cache

NOTEBOOK = "09"
NUMS = (50, 100, 200, 400)
WAYS = ("real only", "with samples", "with moved copies", "the cheat")
RUNS = [{"way": way, "num": num, "seed": seed} for seed in range(5) for way in WAYS for num in NUMS]
TOLERANCE = {"accuracy": 0.05}


@cache
def gan_of_all(lesson, seed: int):
    return lesson.gan_of_few(seed, lesson.images, lesson.labels, num_steps=1000, progress=None)


def run(lesson, way: str, num: int, seed: int) -> dict[str, float]:
    chosen = lesson.few_digits(num, seed)
    few, few_labels = lesson.images[chosen], lesson.labels[chosen]
    if way == "real only":
        more = lesson.no_more
    elif way == "with moved copies":
        more = lesson.moved_copies
    elif way == "with samples":
        more = lesson.samples_of(lesson.gan_of_few(seed, few, few_labels, progress=None))
    else:
        more = lesson.samples_of(gan_of_all(lesson, seed))
    readers = [lesson.train_reader(10 * seed + k, few, few_labels, more) for k in range(3)]
    return {"accuracy": sum(readers) / len(readers)}
