"""Data sets of drawings: the same pictures for the same seed, and no two splits or seeds share one."""

import random
from collections.abc import Sequence

import numpy as np
from tqdm.auto import tqdm

from .drawing import draw
from .lesions import draw_lesion


def draw_sets(kinds: Sequence, numbers: dict[str, int], size: int, seed: int) -> dict[str, dict[str, np.ndarray]]:
    """For each split the columns "images" (N, 3, size, size) uint8, "label" int64 (N,) and the targets of `draw`.

    kinds: species, or "benign" and "malignant", which come by turns: the first of more are the fewer of a seed.
    """
    if not kinds:
        raise ValueError("species is empty: expected one or more.")
    data, draw_one = {}, _lesion if list(kinds) == ["benign", "malignant"] else _animal
    for part, (split, num) in enumerate(numbers.items()):
        rng = random.Random(f"{seed} {part}")  # 62 random bits a drawing
        bar = tqdm(range(max(1, num)), desc=f"drawing {split}", unit="drawing", delay=2)  # one at least, for its shape
        rows = [draw_one(kinds[i % len(kinds)], rng.getrandbits(62), size) for i in bar]
        columns = {name: np.stack([row[name] for row in rows])[:num] for name in rows[0]}
        data[split] = {"images": columns.pop("images"), "label": np.arange(num) % len(kinds), **columns}
    return data


def _animal(species, seed: int, size: int) -> dict[str, np.ndarray]:
    image, mask, box, _, parts = draw(species, seed, size)
    return {"images": image.transpose(2, 0, 1), "mask": mask, "box": box, "parts": parts}


def _lesion(kind: str, seed: int, size: int) -> dict[str, np.ndarray]:
    image, mask = draw_lesion(kind == "malignant", seed, size)
    return {"images": np.stack([image] * 3), "mask": mask}
