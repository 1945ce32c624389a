"""Few or many pictures, a similar or a different task: four ways to learn it, in each corner."""

from functools import cache

from tools.tables.transfer_curves import frozen_head, place

NOTEBOOK = "05"
NUMS = {("critters", "few"): 40, ("critters", "many"): 600, ("photos", "few"): 40, ("photos", "many"): 120}
SEEDS = {"critters": range(3), "photos": range(2)}
RUNS = [
    {"source": source, "task": task, "size": size, "num": NUMS[source, size], "way": way, "seed": seed}
    for source in ("critters", "photos")
    for seed in SEEDS[source]
    for task in ("similar", "different")
    for size in ("few", "many")
    for way in ("early", "last", "tuned", "scratch")
]
TOLERANCE = {"accuracy": 0.12}  # few lesions are left to test on photos


@cache
def lesions(lesson, source):
    return lesson.lesion_set()


def run(lesson, source, task, size, num, way, seed):
    pool, test_set, _ = place(lesson, source)
    if task == "different":
        pool = lesions(lesson, source)
        pictures = pool.subset(num, seed=seed)
        others = lesson.torch.ones(len(pool), dtype=lesson.torch.bool).index_fill(0, pictures.indices, False)
        test_set = pool.subset(others)
    else:
        pictures = pool.subset(num, seed=seed)
    if way == "scratch":
        return {"accuracy": lesson.accuracy(lesson.scratch(seed, pictures), test_set.with_transform(lesson.scale))}
    if way == "tuned":
        head = frozen_head(lesson, pictures, seed)
        model = lesson.fine_tune(seed, pictures, head, lr=1e-4, num_epochs=lesson.tune_epochs(pictures))
        return {"accuracy": lesson.accuracy(model, test_set.with_transform(lesson.prepare))}
    each_part = lesson.EachPart(lesson.encoder)
    (known, _, _), labels = lesson.through(each_part, pictures, None)
    (new, _, _), new_labels = lesson.through(each_part, test_set, None)
    chosen = (4,) if way == "last" else range(3)
    return {"accuracy": max(lesson.probe(known[k], labels, new[k], new_labels, seed) for k in chosen)}
