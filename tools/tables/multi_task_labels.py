"""Class accuracy against the number of class labels, with and without masks and boxes beside them; 80 also with those of other pictures. Drawings, 300 steps."""

from tools.tables.multi_task_balance import data

NOTEBOOK = "07"
WAYS = [(way, num) for num in (20, 40, 200, 600) for way in ("alone", "together")] + [("shuffled", 80)]
RUNS = [{"way": way, "num": num, "seed": seed} for seed in range(3) for way, num in WAYS]  # 80: multi_task_balance
TOLERANCE = {"label": 0.08}


def run(lesson, way: str, num: int, seed: int) -> dict[str, float]:
    pool, test = data(lesson)
    pictures = lesson.few_labels(pool, num, lesson.NUM_PICTURES, seed)
    if way == "alone":
        network = lesson.learn(["label"], pictures, lesson.Fixed(label=1), seed, num_others=0)
    else:
        pictures = lesson.shuffle(pictures, seed) if way == "shuffled" else pictures
        tasks = ["label", "box", "mask"]
        network = lesson.learn(tasks, pictures, lesson.Uncertainty(tasks), seed)
    return {"label": lesson.scores(network, test)["label"]}
