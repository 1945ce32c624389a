"""The exercises, one file a notebook: 05_transfer_learning.ipynb has transfer_learning.py. Here is what several use."""

import inspect
from collections.abc import Callable
from contextlib import contextmanager
from types import CodeType

import torch

from utils import datasets


@contextmanager
def one_thread():
    """Layers this small run faster on one core than on two that wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def not_used(answer: Callable, *names: str) -> None:
    """Raises AssertionError where a function's code uses one of these names: what the exercise's text forbids."""

    def used(code: CodeType) -> set[str]:
        return set(code.co_names).union(*(used(part) for part in code.co_consts if isinstance(part, CodeType)))

    function = inspect.unwrap(answer)
    assert inspect.isfunction(function), "Write a function of your own, with def."
    found = used(function.__code__) & set(names)
    assert not found, f"Your answer uses {' and '.join(sorted(found))}; the point is to write that yourself."


def digits(*parts: str) -> tuple[torch.Tensor, torch.Tensor]:
    """x (N, 1, 8, 8) from -1 to 1, y (N,): these parts of the digits ("train", "val", "test") together."""
    chosen = [getattr(datasets.digits(), part) for part in parts]
    x = torch.cat([part.images for part in chosen]).float() / 127.5 - 1
    return x, torch.cat([part.targets["label"] for part in chosen])


def normalised_digits(part: str) -> tuple[torch.Tensor, torch.Tensor]:
    """x (N, 1, 8, 8), y (N,) of a part of the digits, by mean and standard deviation of the training pixels."""
    splits = datasets.digits()
    chosen, pixels = getattr(splits, part), splits.train.images.float()
    return (chosen.images.float() - pixels.mean()) / pixels.std(), chosen.targets["label"]


def share_right(classify: Callable, test_set: datasets.ImageDataset) -> tuple[float, str]:
    """The share of a test set that `classify` (uint8 (N, 3, H, W) -> labels (N,)) gets right, and a clause on it.

    Raises AssertionError, with a sentence for the student, where the answers are not one a picture.
    """
    order = torch.randperm(len(test_set))  # drawings come by turns, cat, dog, cat, dog: the order must not tell
    images, labels = test_set.images[order], test_set.targets["label"][order]
    answers = torch.cat([torch.as_tensor(classify(part)).cpu() for part in images.split(100)])
    assert answers.shape == labels.shape, (
        f"{len(labels)} pictures came; expected one label each, and not an answer of shape {tuple(answers.shape)}."
    )
    share = (answers == labels).float().mean().item()
    return share, f"{share:.1%} of {len(labels)} held-out {test_set.noun}s are right"
