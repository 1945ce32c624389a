"""Averaged probabilities, logits and weights of networks trained independently, along one run, and from one pretrained
start, all scored on digits that pretraining has not seen; six seeds."""

NOTEBOOK = "10"
RUNS = [{"origin": origin, "seed": seed} for seed in range(6) for origin in ("independent", "run", "soup")]
# Averaged independent weights are noise.
TOLERANCE = {"members": 0.05, "probabilities": 0.05, "logits": 0.05, "weights": 0.25}


def run(lesson, origin: str, seed: int) -> dict[str, float]:
    known, new = lesson.noisy_task(seed)
    unlabelled, scored = lesson.unseen(new)
    if origin == "independent":
        networks = [lesson.member(known, 100 * seed + k) for k in range(8)]
    elif origin == "run":
        networks = lesson.along_one_run(known, seed)
    else:
        networks = lesson.soup_members(lesson.pretrained_start(known, unlabelled, seed), known, 100 * seed)
    return lesson.averaged(networks, scored)
