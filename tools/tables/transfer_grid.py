"""Few or many pictures, a similar or a different task: the ways to learn it, in each corner.

"tuned": fine-tuned at the rate of section 5; "faster": at ten times that. "early": behind the one of the first three
parts that cross-validation on the training pictures chooses. Of the ultrasound images there are 180, so "many" are 120.
Lesions get ten epochs of fine-tuning at least: as many as the network from scratch has with 600, at the rate 0.003.
"""

from functools import cache

from tools.tables.transfer_curves import frozen_head, place

NOTEBOOK = "05"
RUNS = [
    {"source": source, "task": task, "size": size, "num": num, "way": way, "seed": seed}
    for source in ("critters", "photos")
    for seed in range(3)
    for task in ("similar", "different")
    for size, num in (("few", 40), ("many", 120 if (source, task) == ("photos", "different") else 600))
    for way in ("early", "last", "tuned", "faster", "scratch")
]
TOLERANCE = {"accuracy": 0.12}  # few lesions are left to test on photos
# A rate that destroys the network leads elsewhere where another CPU rounds otherwise.
ROUGH = [({"source": "photos", "way": "faster"}, {"accuracy": 0.4})]


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
        model = lesson.scratch(seed, pictures, lr=3e-3 if task == "different" else None)
        return {"accuracy": lesson.accuracy(model, test_set.with_transform(lesson.scale))}
    if way in ("tuned", "faster"):
        head, lr = frozen_head(lesson, pictures, seed), {"tuned": 1e-4, "faster": 1e-3}[way]
        num_epochs = max(lesson.tune_epochs(pictures), 10 if task == "different" else 3)
        model = lesson.fine_tune(seed, pictures, head, lr=lr, num_epochs=num_epochs)
        return {"accuracy": lesson.accuracy(model, test_set.with_transform(lesson.prepare))}
    each_part = lesson.EachPart(lesson.encoder)
    (known, _, _), labels = lesson.through(each_part, pictures, None)
    (new, _, _), new_labels = lesson.through(each_part, test_set, None)
    part = 4 if way == "last" else lesson.best_early_part(known, labels, seed)
    return {"accuracy": lesson.probe(known[part], labels, new[part], new_labels, seed)}
