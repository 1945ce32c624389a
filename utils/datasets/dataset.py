"""Pictures in memory with their targets, as a standard `Dataset`."""

import copy
import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch.utils.data import Dataset
from torchvision import tv_tensors


class ImageDataset(Dataset):
    """Small pictures, all in memory as uint8, with one or several targets each.

    images: uint8 (N, C, S, S). targets: "label" int64 (N,), and where there are: "mask" bool (N, S, S), "box" float32
    (N, 4) XYXY in pixels of the S x S picture (NaN where not annotated), "breed" int64 (N,), "parts" uint8 (N, S, S), a
    class for each pixel. classes: the names of the labels. noun: what one picture honestly is ("drawing", "photo",
    "digit", "ultrasound image"). source: "critters", "photos", "digits" or "folder". indices: int64 (N,), which rows of
    the whole data set these are; None = all.

    `ds[i]` gives (image, target): image a tv_tensors.Image (C, S, S) uint8; target an int64 scalar, a tv_tensors.Mask
    (S, S) or a tv_tensors.BoundingBoxes (1, 4), with several `target_types` a dict of them. As in torchvision,
    `transform` (of transforms.v2) gets both, so that masks and boxes move with the picture; one that takes the picture
    alone, such as `weights.transforms()`, gets it alone. Name a function rather than write a lambda: workers that are
    spawned (Windows, macOS) can be sent the one and not the other.
    """

    def __init__(self, images: torch.Tensor, targets: dict[str, torch.Tensor], classes: Sequence[str], noun: str,
                 source: str, target_types: str | Sequence[str] = ("label",), transform: Callable | None = None,
                 indices: torch.Tensor | None = None):  # fmt: skip
        target_types = (target_types,) if isinstance(target_types, str) else tuple(target_types)
        if not target_types or not set(target_types) <= set(targets):
            raise ValueError(f"target_types={target_types}: expected one or more of {', '.join(targets)}.")
        self._alone = transform is not None and not _takes_target(transform)
        if moving := self._alone and {"mask", "box", "parts"} & set(target_types):
            raise ValueError(f"{transform!r} takes the image alone: the {min(moving)} would not move with it.")
        self.classes, self.noun, self.source = list(classes), noun, source
        self.target_types, self.transform = target_types, transform
        self._images, self._targets, self.indices = images, targets, indices  # shared by all subsets; None = all

    @property
    def images(self) -> torch.Tensor:
        return self._images if self.indices is None else self._images[self.indices]

    @property
    def targets(self) -> dict[str, torch.Tensor]:
        return {name: t if self.indices is None else t[self.indices] for name, t in self._targets.items()}

    def __len__(self) -> int:
        return len(self._images if self.indices is None else self.indices)

    def __getitem__(self, index: int):
        row = index if self.indices is None else self.indices[index]
        # Copies: a transform that works in place must not reach the memory that all share.
        image = tv_tensors.Image(self._images[row].clone())
        values = {name: self._wrap(name, self._targets[name][row].clone()) for name in self.target_types}
        target = values if len(values) > 1 else values[self.target_types[0]]
        if self.transform is None:
            return image, target
        return (self.transform(image), target) if self._alone else self.transform(image, target)

    def _wrap(self, name: str, value: torch.Tensor) -> torch.Tensor:
        if name in ("mask", "parts"):
            return tv_tensors.Mask(value)
        if name == "box":
            size = tuple(self._images.shape[-2:])
            return tv_tensors.BoundingBoxes(value[None], format="XYXY", canvas_size=size)
        return value

    def subset(self, num: int | Sequence[int] | torch.Tensor, seed: int = 0) -> "ImageDataset":
        """Some of the pictures, sharing the memory.

        num: how many, drawn at random with the classes in equal shares (as far as they last), the first k of a seed
        being among its first k + 1; or their positions; or a mask of N truth values. Raises ValueError for a number
        that does not fit, IndexError for a position outside or a mask of another length.
        """
        rows = torch.as_tensor(num)
        if rows.ndim == 0:
            if not 0 <= num <= len(self):
                raise ValueError(f"subset({num}): expected 0 to {len(self)}, the {self.noun}s that are there.")
            order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
            rows = order[balanced(self.targets["label"][order].tolist(), num)]
        part = copy.copy(self)
        everything = torch.arange(len(self)) if self.indices is None else self.indices
        part.indices = everything[rows if rows.numel() else rows.long()]
        return part

    def with_transform(self, transform: Callable | None, target_types: Sequence[str] | None = None) -> "ImageDataset":
        """The same pictures with another transform (and other target types), sharing the memory."""
        return ImageDataset(self._images, self._targets, self.classes, self.noun, self.source,
                            target_types or self.target_types, transform, self.indices)  # fmt: skip

    def counts(self) -> dict[str, int]:
        """How many pictures each class has."""
        return {name: int((self.targets["label"] == label).sum()) for label, name in enumerate(self.classes)}

    def __repr__(self) -> str:
        names = ", ".join(self.classes) if len(self.classes) <= 4 else f"{len(self.classes)} classes"
        height, width = self._images.shape[-2:]
        return f"{len(self):,} {self.noun}s of {names}, {height} x {width}, ({', '.join(self.target_types)})"


def _takes_target(transform: Callable) -> bool:
    parameters = inspect.signature(getattr(transform, "forward", transform)).parameters.values()
    return any(p.kind == p.VAR_POSITIONAL for p in parameters) or sum(p.kind != p.KEYWORD_ONLY for p in parameters) > 1


def balanced(labels: Iterable[int], num: int | None = None) -> list[int]:
    """Positions of `num` labels (None = all), one of each class by turns, as far as they last: the first k are always
    among the first k + 1."""
    seen, turns = Counter(), []
    for position, label in enumerate(labels):
        turns.append((seen[label], label, position))
        seen[label] += 1
    return [position for *_, position in sorted(turns)][:num]


class Splits(NamedTuple):
    """No picture is in two of them."""

    train: ImageDataset
    val: ImageDataset
    test: ImageDataset
