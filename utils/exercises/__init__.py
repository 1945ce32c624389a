"""The exercises, one file a notebook: 05_transfer_learning.ipynb has transfer_learning.py. Here is what several use."""

import dis
import inspect
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Integral, Number
from types import CodeType

import numpy as np
import torch
from torchvision.transforms import v2

from utils import critters, datasets


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
    """Raises AssertionError where a function uses one of these names: what the exercise's text forbids.

    An alias is looked through (import ... as, f = ..., a default argument), getattr with a name that is written out,
    and functions and classes of the student's own that the answer calls.
    """
    seen: set[int] = set()

    def used(function: Callable) -> set[str]:
        """Every name that the function writes, and what the things behind these names are called themselves."""
        function = inspect.unwrap(function)
        seen.add(id(function))
        found, globals_ = _written(function.__code__), _loaded(function.__code__)
        values = [function.__globals__[name] for name in globals_ if name in function.__globals__]
        values += inspect.getclosurevars(function).nonlocals.values()
        values += [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        for value in values:
            found |= _own_names(value)
            for part in list(vars(value).values()) if inspect.isclass(value) else [value]:
                own = inspect.isfunction(part) and part.__module__ == function.__module__
                if own and id(inspect.unwrap(part)) not in seen:
                    found |= used(part)
        return found

    assert inspect.isfunction(inspect.unwrap(answer)), "Write a function of your own, with def."
    found = used(answer) & set(names)
    assert not found, f"Your answer uses {' and '.join(sorted(found))}; the point is to write that yourself."


def _written(code: CodeType) -> set[str]:
    """The names in a function's code: what it calls and looks up, also by getattr(room, "name")."""
    parts = [_written(part) for part in code.co_consts if isinstance(part, CodeType)]
    return {*code.co_names, *(part for part in code.co_consts if isinstance(part, str))}.union(*parts)


def _loaded(code: CodeType) -> set[str]:
    """The global names in a function's code."""
    parts = [_loaded(part) for part in code.co_consts if isinstance(part, CodeType)]
    loads = {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return loads.union(*parts)


def _own_names(value) -> set[str]:
    """What a thing is called where it comes from, whatever it is called here."""
    if inspect.ismodule(value):
        return set(value.__name__.split("."))
    if isinstance(value, torch.nn.Module):
        return {type(value).__name__}
    return {getattr(value, "__name__", "")}


def names_in(*rooms, like: str) -> list[str]:
    """The names in these modules that hold a piece, small or large: all convolutions of torch and nn, say."""
    return sorted({name for room in rooms for name in dir(room) if like in name.lower()})


def tensor(answer, expected: str, shape: tuple | None = None) -> torch.Tensor:
    """An answer as a tensor: from an array, a number, a list or generator of them. Raises AssertionError for others,
    and for another shape where one is given."""
    if shape is not None:
        result = tensor(answer, expected)
        assert tuple(result.shape) == tuple(shape), (
            f"Expected {expected}, of shape {tuple(shape)}; {came(answer)} came."
        )
        return result
    if isinstance(answer, torch.Tensor):
        return answer.detach()
    values = list(answer) if isinstance(answer, Iterator | set | frozenset | tuple | range) else answer
    try:
        if isinstance(values, list) and any(isinstance(value, torch.Tensor) for value in values):
            return torch.stack([torch.as_tensor(value) for value in values]).detach()
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        raise AssertionError(f"Expected {expected}; {came(answer)} came.") from None


def number(answer, expected: str = "one number") -> float:
    """An answer as a number: of Python, NumPy or torch. Raises AssertionError where it is none, or several."""
    value = tensor(answer, expected)
    assert value.numel() == 1 and not value.is_complex(), f"Expected {expected}; {came(answer)} came."
    return value.item()


def pair(answer, expected: str) -> tuple:
    """Two things: of a tuple, a list, a tensor or an array. Raises AssertionError for all else."""
    several = isinstance(answer, tuple | list) or isinstance(answer, torch.Tensor | np.ndarray) and answer.ndim > 0
    assert several, f"Expected {expected}; {came(answer)} came."
    assert len(answer) == 2, f"Expected {expected}; {len(answer)} came."
    return tuple(answer)


def whole(answer, expected: str = "a whole number", hint: str = "") -> int:
    """An answer as an integer: of Python, NumPy or torch. Raises AssertionError for all else, also for 3.0 and True."""
    plain = answer.item() if isinstance(answer, torch.Tensor | np.ndarray) and not answer.shape else answer
    right = isinstance(plain, Integral) and not isinstance(plain, bool)
    assert right, f"Expected {expected}; {came(answer)} came. {hint}".rstrip()
    return int(plain)


def came(answer) -> str:
    """What came, for a message: a short value as it is, the shape of a tensor or array, else the type."""
    kind = type(answer).__name__
    if answer is None:
        return "None"
    if isinstance(answer, torch.Tensor | np.ndarray) and answer.shape:
        return f"a {kind} of shape {tuple(answer.shape)}"
    short = isinstance(answer, Number | str | torch.Tensor | np.ndarray) and len(repr(answer)) < 40
    return f"{answer!r}, a {kind}," if short else f"a {kind}"


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


def unseen(test_set: datasets.ImageDataset, num: int = 1000) -> datasets.ImageDataset:
    """Pictures of cats and dogs that nobody has seen: `num` new drawings of which nobody knows the seed, or the test
    photos, each cut a little smaller and mirrored or not by chance."""
    seed, size = secrets.randbits(60), test_set.images.shape[-1]
    if test_set.source == "critters":
        images, labels, *_ = critters.draw_many(["cat", "dog"], num, seed=seed, size=size)
        images, labels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels).long()
    else:
        images, labels = test_set.images.clone(), test_set.targets["label"]
        random = torch.Generator().manual_seed(seed)
        for k, (y, x, mirrored) in enumerate(torch.randint(0, 3, (len(images), 3), generator=random).tolist()):
            part = v2.functional.resized_crop(images[k], y, x, size - 3, size - 3, [size, size])
            images[k] = part.flip(2) if mirrored else part
    return datasets.ImageDataset(images, {"label": labels}, test_set.classes, test_set.noun, test_set.source)


def share_right(classify: Callable, test_set: datasets.ImageDataset) -> tuple[float, str]:
    """The share of a test set that `classify` (uint8 (N, 3, H, W) -> labels (N,)) gets right, and a clause on it.

    Raises AssertionError, with a sentence for the student, where the answers are not one a picture.
    """
    order = torch.randperm(len(test_set))  # drawings come by turns, cat, dog, cat, dog: the order must not tell
    images, labels = test_set.images[order], test_set.targets["label"][order]
    parts = [tensor(classify(part), f"{len(part)} labels, one a picture").cpu() for part in images.split(100)]
    assert parts[0].ndim, f"{len(labels)} pictures came; expected one label each, and not one number for all."
    answers = torch.cat(parts)
    assert answers.shape == labels.shape, (
        f"{len(labels)} pictures came; expected one label each, and not an answer of shape {tuple(answers.shape)}."
    )
    share = (answers == labels).float().mean().item()
    return share, f"{share:.1%} of {len(labels)} held-out {test_set.noun}s are right"
