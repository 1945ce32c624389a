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
    if len(pools) == 1:
        return _divided(pools["train"], {"test": 0.15, "val": 0.15}, classes)
    if len(pools) == 2:
        test = pools.get("test") or pools["val"]
        return _divided(pools["train"], {"val": 0.2}, classes) | {"test": list(_by_hash(test))}
    return {split: list(_by_hash(photos)) for split, photos in pools.items()}


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


def _divided(photos: list, shares: dict[str, float], classes: Sequence[str]) -> dict[str, list]:
    """Shares of each class, and what is left as "train"."""
    numbers = _by_hash(photos)
    parts: dict[str, list] = {split: [] for split in (*shares, "train")}
    for label in sorted({photo.label for photo in photos}):
        group = [photo for photo in numbers if photo.label == label]
        if len(group) < len(parts):
            raise ValueError(f"the class {classes[label]!r} has only {len(group)} of the {len(parts)} or more pictures "
                             "that are needed to divide it for training and testing.")  # fmt: skip
        end, bound = 0, 0.0
        for num_later, split in zip(range(len(shares), 0, -1), shares, strict=True):
            start, bound = end, bound + shares[split]
            end = sum(numbers[photo] < bound for photo in group)
            end = min(max(end, start + 1), len(group) - num_later)  # one at least for this part and each later one
            parts[split] += group[start:end]
        parts["train"] += group[end:]
    return parts


def _by_hash(photos: list) -> dict:
    """The photos in the order of a number from 0 to 1, which the name of each, below their common folder, decides."""
    root, numbers = os.path.commonpath([photo.file.parent for photo in photos]), {}
    for photo in photos:
        name = unicodedata.normalize("NFC", photo.file.relative_to(root).as_posix())
        numbers[photo] = int(hashlib.sha256(os.fsencode(name)).hexdigest()[:12], 16) / 16**12
    return dict(sorted(numbers.items(), key=lambda item: item[1]))
