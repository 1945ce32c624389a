"""Class accuracy against the number of class labels, with and without masks and boxes beside them; also with masks of
other pictures, and longer alone. Drawings, 300 steps."""

from tools.tables.multi_task_balance import data

NOTEBOOK = "07"
WAYS = [(way, num) for num in (20, 40, 200, 600) for way in ("alone", "together")]
WAYS += [("shuffled", 80), ("alone, 1200 steps", 80), ("alone, 1200 steps", 600)]
RUNS = [{"way": way, "num": num, "seed": seed} for seed in range(3) for way, num in WAYS]  # 80: multi_task_balance
TOLERANCE = {"label": 0.08}


def run(lesson, way: str, num: int, seed: int) -> dict[str, float]:
    pool, test = data(lesson)
    pictures = lesson.few_labels(pool, num, lesson.NUM_PICTURES, seed)
    if way.startswith("alone"):
        steps = 1200 if "1200" in way else 300
        network = lesson.learn(["label"], pictures, lesson.Fixed(label=1), seed, num_others=0, steps=steps)
    else:
        pictures = lesson.shuffle(pictures, seed) if way == "shuffled" else pictures
        tasks = ["label", "box", "mask"]
        network = lesson.learn(tasks, pictures, lesson.Uncertainty(tasks), seed)
    return {"label": lesson.scores(network, test)["label"]}
