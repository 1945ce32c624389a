"""The training loop of the course: `fit`, `evaluate`, checkpoints that resume.

It is the loop that notebook 00 writes out, with what a long run needs around it: a progress bar, a history, early stopping,
a checkpoint after every epoch, and a stop button that leaves everything whole.
"""

import copy
import pickle
import random
import signal
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from IPython import get_ipython
from torch import nn
from torch.utils._pytree import tree_map, tree_map_only
from tqdm.auto import tqdm

from utils.files import is_whole, save_whole

__all__ = ["Diverged", "accuracy", "bf16_gains", "evaluate", "fit", "predict"]


class Diverged(RuntimeError):
    """The loss or the weights became NaN or infinite. The model has the last good weights."""


def accuracy(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Share of right answers, 0 to 1. outputs: logits (N, classes, ...); labels: class numbers (N, ...), as cross_entropy has
    them. Raises ValueError for other shapes: one output with a threshold needs a metric of its own."""
    if outputs.ndim < 2 or outputs.shape[1] < 2 or outputs.shape[:1] + outputs.shape[2:] != labels.shape:
        raise ValueError(
            f"accuracy: outputs of shape {tuple(outputs.shape)} and labels of shape {tuple(labels.shape)} came; expected (N, classes, ...) "
            "with two classes or more, and (N, ...). Give your own metrics={...}, or metrics={} for none."
        )
    return (outputs.argmax(dim=1) == labels).float().mean()


# ---- one pass over the data ------------------------------------------------------------------------------------------


def _move(batch, device: torch.device):
    """Tensors to the device, whatever tuples, lists and dicts hold them."""
    return tree_map_only(torch.Tensor, lambda tensor: tensor.to(device, non_blocking=True), batch)


def _device_of(model: nn.Module) -> torch.device:
    return next(model.parameters(), torch.empty(0)).device


def _to_channels_last(model: nn.Module) -> None:
    """The memory order of 4-D weights that most machines compute convolutions fastest in; the values stay the same, and pictures follow.

    Not `model.to(memory_format=...)`: that refuses a model with a Conv3d in it.
    """
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def _forward(model: nn.Module, images, bf16: bool):
    """Outputs in float32 in any case, so that losses and softmax are computed exactly."""
    with torch.autocast(_device_of(model).type, dtype=torch.bfloat16, enabled=bf16):
        return tree_map_only(torch.Tensor, lambda x: x.float() if x.is_floating_point() else x, model(images))


_gains: dict[tuple, bool] = {}  # what was found for a network on pictures of a size, so that one session decides once


@torch.no_grad()
def bf16_gains(model: nn.Module, images: torch.Tensor) -> bool:
    """Whether 16-bit brain floats (bf16 autocast) make this network faster on this machine: timed, and said where so.

    model, images: on the device where they are to run; the model is left as it was. Networks that take next to no time
    stay in float32: nothing to gain, and every run repeats to the bit. A GPU must have bf16 natively (a T4 only emulates it).
    """
    device = images.device
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return False
    name, size = type(model).__name__, sum(p.numel() for p in model.parameters())
    key = (name, size, tuple(images.shape[1:]), str(device), torch.get_num_threads())
    if key not in _gains:
        batch_size, images = len(images), images[:16]  # enough to tell

        def seconds(bf16: bool) -> float:
            start = time.perf_counter()
            _forward(model, images, bf16)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            return time.perf_counter() - start

        with _evaluation_mode(model):
            exact = seconds(False)  # the first pass sets things up, so it is not the one that counts
            exact, gain = min(exact, seconds(False)), 1.0
            if exact * batch_size / len(images) > (0.003 if device.type == "cuda" else 0.03):
                seconds(True)
                # by turns, as a busy machine changes its speed
                pairs = [(seconds(False), seconds(True)) for _ in range(3)]
                gain = min(exact for exact, _ in pairs) / min(fast for _, fast in pairs)
        _gains[key] = gain > 1.3
        if _gains[key]:
            print(f"bf16 is on for {name}: {gain:.1f} times as fast as float32 here (bf16=False turns it off).")
    return _gains[key]


class _Means:
    """Means over the pictures of an epoch, of batches that need not be equally large."""

    def __init__(self):
        self.sums, self.count = {}, 0

    def add(self, values: dict, count: int) -> None:
        self.count += count
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value) * count

    def result(self) -> dict[str, float]:
        return {name: total / max(1, self.count) for name, total in self.sums.items()}


@torch.no_grad()
def evaluate(
    model: nn.Module,
    loader: Iterable,
    loss_fn: Callable = F.cross_entropy,
    metrics: dict[str, Callable] | None = None,
    bf16: bool | None = None,
) -> dict[str, float]:
    """Means over a loader, in evaluation mode: {"loss": ..., "accuracy": ...}. The model's mode is put back afterwards.

    model: on the device where it is to run. loader: gives (images, targets). loss_fn, metrics: called with (outputs,
    targets), give a mean over the batch; metrics default {"accuracy": accuracy}. bf16: True, False, or None = where it gains.
    Masks of an ImageDataset are bool: a loss wants `.float()` or `.long()`. Raises ValueError where the loader is empty.
    """
    metrics = {"accuracy": accuracy} if metrics is None else metrics
    device, means = _device_of(model), _Means()
    with _evaluation_mode(model):
        for images, targets in loader:
            images, targets = _move(images, device), _move(targets, device)
            with _enough_memory(images):
                bf16 = bf16_gains(model, images) if bf16 is None else bf16
                outputs = _forward(model, images, bf16)
            values = {"loss": loss_fn(outputs, targets)}
            values |= {name: metric(outputs, targets) for name, metric in metrics.items()}
            means.add(values, len(images))
    if not means.count:
        raise ValueError("evaluate: the loader gave no batch; is the data set empty?")
    return means.result()


@torch.no_grad()
def predict(
    model: nn.Module, loader: Iterable, progress: str | None = None, bf16: bool | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(outputs, targets) of a whole loader, in evaluation mode, on the CPU. Raises ValueError where that is empty.

    outputs: (N, ...) float32: logits, or features where the head is `nn.Identity()`. targets: (N, ...), as the loader
    gives them; both dicts or tuples of such where the model or the loader gives those. progress: the name of a
    progress bar, or None for none. bf16: as for `evaluate`. The weights are put in channels-last order.
    """
    device, outputs, targets = _device_of(model), [], []
    _to_channels_last(model)
    with _evaluation_mode(model):
        for images, batch_targets in tqdm(loader, desc=progress, disable=progress is None, leave=False):
            images = _move(images, device)
            with _enough_memory(images):
                bf16 = bf16_gains(model, images) if bf16 is None else bf16
                outputs.append(_move(_forward(model, images, bf16), torch.device("cpu")))
            targets.append(batch_targets)
    if not outputs:
        raise ValueError("predict: the loader gave no batch; is the data set empty?")
    return tuple(tree_map(lambda *parts: torch.cat(parts), *batches) for batches in (outputs, targets))


# ---- many passes: fit ------------------------------------------------------------------------------------------------


def fit(
    model: nn.Module,
    train_loader: Iterable,
    val_loader: Iterable | None = None,
    *,
    num_epochs: int,
    optimizer: torch.optim.Optimizer,
    scheduler=None,
    loss_fn: Callable = F.cross_entropy,
    metrics: dict[str, Callable] | None = None,
    patience: int | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    channels_last: bool = True,
    bf16: bool | None = None,
    progress: str | None = "training",
) -> dict[str, list[float]]:
    """Train a model in place; return the history, one number an epoch: {"train_loss": [...], "val_accuracy": [...], ...}.

    model: on its device already; batches follow it there. train_loader, val_loader: give (images, targets).
    scheduler: stepped after every batch, as OneCycleLR wants it. loss_fn, metrics: called with (outputs, targets), give a
    mean over the batch; metrics default {"accuracy": accuracy}. Training figures are means while the epoch goes on.
    patience: early stopping: stop after that many epochs without a lower val_loss, and take the best epoch's weights.
    checkpoint: a file written (whole or not at all) before the first epoch and after each. resume: go on from that file; the
    broken epoch is replayed, so the result equals that of an unbroken run (bit for bit on a CPU with as many threads).
    channels_last: memory order of 4-D weights (pictures follow), the fast one on most machines. bf16: True, False, or
    None = where it gains (said when on). progress: the name of the progress bar, or None for none.

    The stop button (SIGINT) ends training after the current step and returns the history of the whole epochs; a second press
    interrupts at once, also where the same cell has begun another fit by then. Raises Diverged where the loss or the weights are NaN or infinite (model and checkpoint keep the last
    good weights); torch.OutOfMemoryError, which says what to halve; ValueError for arguments that do not go together, and for
    a checkpoint that is damaged, or of another model or version.
    """
    if patience is not None and val_loader is None:
        raise ValueError("fit: patience watches val_loss, so it needs a val_loader.")
    if resume and checkpoint is None:
        raise ValueError("fit: resume=True needs to know from where: give checkpoint=FILE.")
    if not len(train_loader):
        raise ValueError("fit: train_loader gives no batch; is the data set empty, or too small for drop_last=True?")
    metrics = {"accuracy": accuracy} if metrics is None else metrics
    device = _device_of(model)
    if channels_last:
        _to_channels_last(model)
    # Everything that a checkpoint must hold besides model, optimizer and scheduler.
    run = {"epoch": 0, "history": {}, "bf16": bf16, "best": None, "best_epoch": 0}
    if resume and Path(checkpoint).exists():
        run = _load(checkpoint, model, optimizer, scheduler, train_loader)
        print(f"Resumed from {checkpoint}: {run['epoch']} of {num_epochs} epochs were done.")
    elif checkpoint is not None:
        _save(checkpoint, model, optimizer, scheduler, train_loader, run)

    history, steps = run["history"], len(train_loader)
    bar = tqdm(total=num_epochs * steps, initial=run["epoch"] * steps, desc=progress, disable=progress is None)
    with bar, _stop_button() as stop:
        for epoch in range(run["epoch"], num_epochs):
            if stop.is_set() or patience is not None and epoch - run["best_epoch"] >= patience:
                break
            start, means, good = time.perf_counter(), _Means(), copy.deepcopy(model.state_dict())
            model.train()
            for step, (images, targets) in enumerate(train_loader):
                images, targets = _move(images, device), _move(targets, device)
                if run["bf16"] is None:
                    run["bf16"] = bf16_gains(model, images)
                with _enough_memory(images):
                    outputs = _forward(model, images, run["bf16"])
                    loss = loss_fn(outputs, targets)
                    if not torch.isfinite(loss):
                        raise _diverged(
                            f"The loss is {loss.item()} at step {step + 1} of epoch {epoch + 1}", model, good
                        )
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                if scheduler is not None:
                    scheduler.step()
                with torch.no_grad():
                    values = {"loss": loss} | {name: metric(outputs, targets) for name, metric in metrics.items()}
                    means.add(values, len(images))
                bar.update()
                if stop.is_set():
                    break
            if not _finite(model):  # a gradient was not, in the last step; in any other one the loss has told already
                raise _diverged(f"The weights are NaN or infinite after epoch {epoch + 1}", model, good)
            if stop.is_set():
                break
            results = {f"train_{name}": value for name, value in means.result().items()}
            if val_loader is not None:
                val = evaluate(model, val_loader, loss_fn, metrics, run["bf16"])
                results |= {f"val_{name}": value for name, value in val.items()}
            for name, value in (results | {"seconds": time.perf_counter() - start}).items():
                history.setdefault(name, []).append(value)
            bar.set_postfix({name: f"{value:.3f}" for name, value in results.items()}, refresh=False)
            run["epoch"] = epoch + 1
            if patience is not None and results["val_loss"] <= min(history["val_loss"]):
                run["best"], run["best_epoch"] = copy.deepcopy(model.state_dict()), epoch + 1
            if checkpoint is not None:
                _save(checkpoint, model, optimizer, scheduler, train_loader, run)
        else:
            stop.clear()  # pressed in the last epoch's validation or checkpoint: all is done
    if stop.is_set():
        advice = f"resume=True goes on from {checkpoint}." if checkpoint else "The model keeps what it has learned."
        print(f"Stopped in epoch {epoch + 1} of {num_epochs}; the history holds the {epoch} whole ones. {advice}")
        if _stopped_cell is not None:
            print("What else is in this cell goes on; press stop again to end that, too.")
    elif run["best"] is not None:
        model.load_state_dict(run["best"])
    return history


def _finite(model: nn.Module) -> bool:
    weights = all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters())
    return weights and not any(bool(torch.isnan(buffer).any()) for buffer in model.buffers())  # a mask may be infinite


def _diverged(what: str, model: nn.Module, good: dict) -> Diverged:
    """The error to raise; the model is given the good weights where its own are spoilt (a gradient was not finite)."""
    since = "before this step"
    if not _finite(model):
        model.load_state_dict(good)
        since = "of this epoch's beginning"
    return Diverged(
        f"{what}; the weights are those {since}. A smaller learning rate or clipped gradients usually help."
    )


@contextmanager
def _enough_memory(images):
    """Where the GPU's memory does not do, the error says what to halve."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        shape = f" of {' x '.join(map(str, images.shape[1:]))}" if isinstance(images, torch.Tensor) else ""
        raise torch.OutOfMemoryError(
            f"The GPU's memory does not do for a batch of {len(images)}{shape}: halve the batch_size (or the pictures' size), and "
            f"utils.device.report() says who else is on the GPU. torch says: {error}"
        ) from error


@contextmanager
def _evaluation_mode(model: nn.Module):
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


_stopped_cell: int | None = None  # the notebook's cell in which the stop button was pressed last


@contextmanager
def _stop_button():
    """An event that the stop button (or Ctrl-C) sets, so that a step is finished rather than torn in two.

    A second press interrupts as usual, and in a notebook so does one in a later fit of the same cell: a cell that trains
    ten networks would need ten presses. Outside the main thread Python gives no signals, and nothing is changed.
    """
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed
        return

    cell = getattr(get_ipython(), "execution_count", None)  # of each run of a cell another

    def press(number, frame):
        global _stopped_cell
        if pressed.is_set() or cell is not None and cell == _stopped_cell:
            raise KeyboardInterrupt
        _stopped_cell = cell
        pressed.set()

    before = signal.signal(signal.SIGINT, press)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before or signal.default_int_handler)


# ---- checkpoints -----------------------------------------------------------------------------------------------------

_VERSION = 2


def _random_state(loader) -> dict:
    """All random states as tensors, tuples and numbers: `torch.load(weights_only=True)` refuses NumPy's own arrays."""
    name, keys, *rest = np.random.get_state()
    generator = getattr(loader, "generator", None)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": (name, keys.tolist(), *rest),
        "python": random.getstate(),
        "loader": generator.get_state() if generator is not None else None,
    }


def _set_random_state(state: dict, loader) -> None:
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    np.random.set_state(state["numpy"])
    random.setstate(state["python"])
    if state["loader"] is not None and getattr(loader, "generator", None) is not None:
        loader.generator.set_state(state["loader"])


def _save(path, model, optimizer, scheduler, loader, run: dict) -> None:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = run | {
        "version": _VERSION,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict() if scheduler is not None else None,
        "random": _random_state(loader),
    }
    save_whole(state, path)


def _load(path, model, optimizer, scheduler, loader) -> dict:
    """Put model, optimizer, scheduler and all random numbers back; return the run. Nothing is changed where it does not fit."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True) if is_whole(Path(path)) else None
    except (pickle.UnpicklingError, RuntimeError):  # it holds code, or objects, which are not made; another kind of zip
        state = None
    if not isinstance(state, dict):
        advice = "it was not used. Delete it, then train again."
        raise ValueError(f"{path} is damaged, or no checkpoint of this course: {advice}")
    if state.get("version") != _VERSION:
        raise ValueError(
            f"{path} is a checkpoint of version {state.get('version')}; this course reads version {_VERSION}. Train again."
        )
    have = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    came = {name: tuple(value.shape) for name, value in state["model"].items()}
    if have != came:
        name = next(name for name in have | came if have.get(name) != came.get(name))
        raise ValueError(
            f"{path} is a checkpoint of another model: {name} is {came.get(name, 'missing')} there and {have.get(name, 'missing')} "
            "in this model. Give the model that was trained, or another checkpoint file."
        )
    # The settings of a group tell the kinds of optimizer and scheduler. (A newer torch may have more for the same kind.)
    then, now = (set().union(*groups) for groups in (state["optimizer"]["param_groups"], optimizer.param_groups))
    if then - now or (scheduler is None) != (state["scheduler"] is None):
        raise ValueError(f"{path} is of a run with another optimizer or scheduler: give those, or train again.")
    optimizer.load_state_dict(state["optimizer"])  # raises, and changes nothing, where its groups do not fit
    model.load_state_dict(state["model"])
    if scheduler is not None:
        scheduler.load_state_dict(state["scheduler"])
    _set_random_state(state["random"], loader)
    return {name: state[name] for name in ("epoch", "history", "bf16", "best", "best_epoch")}
