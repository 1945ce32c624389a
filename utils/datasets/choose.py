"""Which photos: splits that a hash of the name decides, and balanced sets of any number."""

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from numbers import Integral


def splits(pools: dict[str, list], classes: Sequence[str]) -> dict[str, list]:
    """train, val and test out of the splits that are on disk: lists of `Photo`s in the order of a hash of their names.

    Three are taken as they are; of two, the other one is the test set and a fifth of train is val; one is divided
    70/15/15. The hash decides, so a photo that is added moves no other, on any system. (Only where a part would have
    none of a class, it gets one.) Raises ValueError where a class has fewer photos than there are parts.
    """
    numbers = {split: _by_hash(photos) for split, photos in pools.items()}
    parts = {split: list(photos) for split, photos in numbers.items()}
    if len(parts) == 3:
        return parts
    if len(parts) == 2:
        parts["test"] = parts.get("test") or parts["val"]
    bounds = {"test": 0.15, "val": 0.3} if len(pools) == 1 else {"val": 0.2}
    parts |= {split: [] for split in (*bounds, "train")}
    for label, name in enumerate(classes):
        group, start = [photo for photo in numbers["train"] if photo.label == label], 0
        if len(group) <= len(bounds):
            raise ValueError(f"the class {name!r} has only {len(group)} of the {len(bounds) + 1} or more pictures that "
                             "are needed to divide it for training and testing.")  # fmt: skip
        for i, (split, bound) in enumerate(bounds.items()):
            end = sum(numbers["train"][photo] < bound for photo in group)
            end = min(max(end, start + 1), len(group) - len(bounds) + i)  # one at least for this and each later part
            parts[split] += group[start:end]
            start = end
        parts["train"] += group[start:]
    return parts


def balanced(labels: Iterable[int], num: int | None = None) -> list[int]:
    """Positions of `num` labels (None = all), one of each class by turns, as far as they last: the first k are always
    among the first k + 1."""
    seen, turns = Counter(), []
    for position, label in enumerate(labels):
        turns.append((seen[label], label, position))
        seen[label] += 1
    return [position for *_, position in sorted(turns)][:num]


def is_whole_number(value: object) -> bool:
    """An int or one of NumPy's whole numbers; True and False count as none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def _by_hash(photos: list) -> dict:
    """The photos in the order of a number from 0 to 1, which the name of each, below their common folder, decides."""
    root, numbers = os.path.commonpath([photo.file.parent for photo in photos]), {}
    for photo in photos:
        name = unicodedata.normalize("NFC", photo.file.relative_to(root).as_posix())
        numbers[photo] = int(hashlib.sha256(os.fsencode(name)).hexdigest()[:12], 16) / 16**12
    return dict(sorted(numbers.items(), key=lambda item: item[1]))
