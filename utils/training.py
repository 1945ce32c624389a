"""The training loop of the course: `fit`, `evaluate`, checkpoints that resume.

It is the loop that notebook 00 writes out, with what a long run needs around it: a progress bar, a history, early
stopping, a checkpoint after every epoch, and a stop button that leaves everything whole.
"""

import functools
import math
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from operator import length_hint
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only
from tqdm.auto import tqdm

from utils.checkpoints import Run
from utils.files import save_whole

__all__ = ["Diverged", "accuracy", "evaluate", "fit", "predict"]


class Diverged(RuntimeError):
    """The loss or the weights became NaN or infinite. Model, optimizer and scheduler are as when that epoch began."""


def accuracy(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Share of right answers, 0 to 1.

    outputs: logits (N, classes, ...); labels: class numbers (N, ...), as cross_entropy has them. Raises ValueError for
    other shapes: one output with a threshold needs a metric of its own.
    """
    if outputs.ndim < 2 or outputs.shape[1] < 2 or outputs.shape[:1] + outputs.shape[2:] != labels.shape:
        raise ValueError(
            f"accuracy: outputs of shape {tuple(outputs.shape)} and labels of shape {tuple(labels.shape)} came; "
            "expected (N, classes, ...) with two classes or more, and (N, ...). Give your own metrics={...}, or "
            "metrics={} for none."
        )
    return (outputs.argmax(dim=1) == labels).float().mean()


# ---- one pass over the data ------------------------------------------------------------------------------------------


def _move(batch, device: torch.device):
    """Tensors to the device, whatever tuples, lists and dicts hold them. What goes to the CPU has arrived on return."""
    non_blocking = device.type != "cpu"
    return tree_map_only(torch.Tensor, lambda tensor: tensor.to(device, non_blocking=non_blocking), batch)


def _tensors(batch) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(batch) if isinstance(leaf, torch.Tensor)]


def _device_of(model: nn.Module) -> torch.device:
    return next(model.parameters(), torch.empty(0)).device


def _batches(loader: Iterable, device: torch.device):
    """(images, targets, number of pictures) of each batch, on the device.

    Jupyter and a terminal send the stop button's signal to the workers, too. They are started with it blocked, so that
    only this process answers it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if hasattr(signal, "pthread_sigmask") else None
    try:
        batches = iter(loader)
    finally:
        if before is not None:  # Windows has no masks
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    for images, targets in batches:
        yield _move(images, device), _move(targets, device), len((_tensors(images) or [images])[0])


def _to_channels_last(model: nn.Module) -> None:
    """The memory order of 4-D weights that most machines compute convolutions fastest in; the values stay the same, and
    pictures follow. Not `model.to(memory_format=...)`: that refuses a model with a Conv3d in it."""
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def _has_bf16(device: torch.device) -> bool:
    """False for a GPU that only emulates 16-bit brain floats, slowly (a T4)."""
    return device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


def _explained(compute: Callable):
    """The same function of (model, images, ...), with a sentence that says what to do where torch's own does not."""

    @functools.wraps(compute)
    def call(model, images, *args):
        try:
            return compute(model, images, *args)
        except torch.OutOfMemoryError as error:
            # The traceback would hold what the failed batch has computed so far, and half of it would not fit either.
            traceback.clear_frames(error.__traceback__)
            shapes = " and ".join(" x ".join(map(str, leaf.shape)) for leaf in _tensors(images))
            raise torch.OutOfMemoryError(
                f"The GPU's memory does not do for a batch of {shapes}: halve the batch_size (or the pictures' size); "
                f"utils.device.report() says who else is on the GPU. torch says: {error}"
            ) from None
        except RuntimeError as error:
            if all(leaf.dtype != torch.uint8 for leaf in _tensors(images)):
                raise
            raise ValueError(
                "Pictures of bytes (uint8) came, and the network computes with floats: give the data set a transform "
                f"that ends with v2.ToDtype(torch.float32, scale=True). torch says: {error}"
            ) from error

    return call


@_explained
def _forward(model: nn.Module, images, bf16: bool):
    """Outputs in float32 in any case, so that losses and softmax are computed exactly."""
    device = _device_of(model)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16 and _has_bf16(device)):
        outputs = model(images)
    return tree_map_only(torch.Tensor, lambda x: x.float() if x.is_floating_point() else x, outputs)


def _mean(seen: list[tuple[dict, int]]) -> dict[str, float]:
    """Means over the pictures of batches that may differ in size. Here the CPU waits for the device, and in no step."""
    count = sum(size for _, size in seen)
    names = seen[0][0] if seen else ()
    return {name: sum(float(values[name]) * size for values, size in seen) / count for name in names}


@torch.no_grad()
def evaluate(
    model: nn.Module,
    loader: Iterable,
    loss_fn: Callable = F.cross_entropy,
    metrics: dict[str, Callable] | None = None,
    bf16: bool = False,
) -> dict[str, float]:
    """Means over a loader, in evaluation mode: {"loss": ..., "accuracy": ...}. Then every module's mode is put back.

    model: on the device where it is to run. loader: gives (images, targets). loss_fn, metrics: called with (outputs,
    targets), give a mean over the batch; metrics default {"accuracy": accuracy}. bf16: as for `fit`.
    Masks of an ImageDataset are bool: a loss wants `.float()` or `.long()`. Raises ValueError for an empty loader.
    """
    metrics = {"accuracy": accuracy} if metrics is None else metrics
    seen = []
    with _evaluation_mode(model):
        for images, targets, size in _batches(loader, _device_of(model)):
            outputs = _forward(model, images, bf16)
            seen.append((_values(loss_fn(outputs, targets), outputs, targets, metrics), size))
    if not seen:
        raise ValueError("evaluate: the loader gave no batch; is the data set empty?")
    return _mean(seen)


@torch.no_grad()
def predict(
    model: nn.Module, loader: Iterable, progress: str | None = None, bf16: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """(outputs, targets) of a whole loader, in evaluation mode, on the CPU. Raises ValueError where that is empty.

    outputs: (N, ...) float32: logits, or features where the head is `nn.Identity()`. targets: (N, ...), as the loader
    gives them; both dicts or tuples of such where the model or the loader gives those. progress: the name of a
    progress bar, or None for none. bf16: as for `fit`. The weights are put in channels-last order.
    """
    cpu, outputs, targets = torch.device("cpu"), [], []
    _to_channels_last(model)
    with _evaluation_mode(model):
        batches = _batches(loader, _device_of(model))
        bar = tqdm(batches, total=length_hint(loader) or None, desc=progress, disable=progress is None, leave=False)
        for images, batch_targets, _ in bar:
            outputs.append(_move(_forward(model, images, bf16), cpu))
            targets.append(_move(batch_targets, cpu))
    if not outputs:
        raise ValueError("predict: the loader gave no batch; is the data set empty?")
    return tuple(tree_map(lambda *parts: torch.cat(parts), *batches) for batches in (outputs, targets))


def _values(loss: torch.Tensor, outputs, targets, metrics: dict[str, Callable]) -> dict:
    return {"loss": loss.detach()} | {name: metric(outputs, targets) for name, metric in metrics.items()}


@contextmanager
def _evaluation_mode(model: nn.Module):
    before = [(module, module.training) for module in model.modules()]  # one may have been set by hand
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


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
    bf16: bool = False,
    progress: str | None = "training",
) -> dict[str, list[float]]:
    """Train a model in place; return the history, a number an epoch: {"train_loss": [...], "val_accuracy": [...], ...}

    model: on its device already; batches follow it there. train_loader, val_loader: give (images, targets).
    scheduler: stepped after every batch, as OneCycleLR wants it; ReduceLROnPlateau after every epoch, with val_loss.
    loss_fn, metrics: called with (outputs, targets), give a mean over the batch; metrics default {"accuracy":
    accuracy}. Training figures are means while the epoch goes on.
    patience: early stopping: stop after that many epochs without a lower val_loss. However training ends, the model
    has the best epoch's weights then.
    checkpoint: a file written (whole or not at all) before the first epoch and after each. resume: go on from that
    file; the broken epoch is replayed, so the result equals that of an unbroken run (bit for bit on a CPU with as many
    threads); where something of it cannot be replayed, a line says so.
    channels_last: memory order of 4-D weights (pictures follow), the fast one on most machines. bf16: compute in 16-bit
    brain floats; a GPU that would only emulate them stays in float32. progress: the name of the progress bar, or None.

    The stop button (SIGINT) ends training after the current step and returns the history of the whole epochs. A second
    press, or one within two seconds, interrupts the cell at once. Raises Diverged where the loss or the weights became
    NaN or infinite, and puts model, optimizer and scheduler back to the beginning of that epoch;
    torch.OutOfMemoryError, which says what to halve; ValueError for arguments that do not go together, and for a
    checkpoint that is damaged or of another run.
    """
    by_epoch = isinstance(scheduler, ReduceLROnPlateau)
    if val_loader is None and (patience is not None or by_epoch):
        raise ValueError(f"fit: {'ReduceLROnPlateau' if by_epoch else 'patience'} watches val_loss: give a val_loader.")
    if resume and checkpoint is None:
        raise ValueError("fit: resume=True needs to know from where: give checkpoint=FILE.")
    metrics = {"accuracy": accuracy} if metrics is None else metrics
    if channels_last:
        _to_channels_last(model)
    run, steps = Run(model, optimizer, scheduler, (train_loader, val_loader), bf16), length_hint(train_loader)
    resumed = resume and Path(checkpoint).exists()
    if resumed:
        note = run.load(checkpoint)
        print(f"Resumed from {checkpoint}: {run.epoch} of {num_epochs} epochs were done.{note}")
    left = getattr(scheduler, "total_steps", math.inf) - getattr(scheduler, "last_epoch", 0)
    if (num_epochs - run.epoch) * steps > left:
        raise ValueError(
            f"fit: {type(scheduler).__name__} has {left} of its total_steps left, too few for {num_epochs - run.epoch} "
            f"epochs of {steps} steps. Ask for fewer epochs, or begin anew with more."
        )
    start = run.state()
    if checkpoint is not None and not resumed:
        save_whole(start, Path(checkpoint))

    counts = {"total": num_epochs * steps or None, "initial": run.epoch * steps}  # None of an IterableDataset
    bar = tqdm(**counts, desc=progress, disable=progress is None, mininterval=0.5)
    with bar, _stop_button() as stop:
        while run.epoch < num_epochs and not stop.is_set():
            if patience is not None and run.epoch - run.best_epoch >= patience:
                break
            began = time.perf_counter()
            try:
                results = _train(run, train_loader, loss_fn, metrics, bf16, bar, stop)
                if stop.is_set():
                    break
                if val_loader is not None:
                    val = evaluate(model, val_loader, loss_fn, metrics, bf16)
                    results |= {f"val_{name}": value for name, value in val.items()}
            except RuntimeError as error:  # of whatever moment of a step: nothing of the broken epoch is left
                run.restore(start)
                if stop.is_set() and "DataLoader worker" in str(error):  # one that the button has ended
                    break
                raise
            run.add(results | {"seconds": time.perf_counter() - began}, patience)
            bar.set_postfix({name: f"{value:.3f}" for name, value in results.items()}, refresh=False)
            start = run.state()
            if checkpoint is not None:
                save_whole(start, Path(checkpoint))
    if run.epoch < num_epochs and stop.is_set():
        kept = "what it has learned" if run.best is None else f"the weights of epoch {run.best_epoch}"
        advice = f"resume=True goes on from {checkpoint}." if checkpoint else f"The model keeps {kept}."
        print(
            f"Stopped in epoch {run.epoch + 1} of {num_epochs}; the history holds the {run.epoch} whole ones. {advice}"
        )
    if run.best is not None:
        model.load_state_dict(run.best)
    return run.history


def _train(run: Run, loader, loss_fn, metrics, bf16, bar: tqdm, stop: threading.Event) -> dict[str, float]:
    """One epoch, or its part up to the stop button: {"train_loss": ..., "train_accuracy": ...}."""
    model, scheduler, seen = run.model, run.scheduler, []
    model.train()
    for images, targets, size in _batches(loader, _device_of(model)):
        outputs, loss = _step(model, images, targets, loss_fn, run.optimizer, bf16)
        if scheduler is not None and not isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step()
        with torch.no_grad():
            seen.append((_values(loss, outputs, targets, metrics), size))
        drawn = bar.update()  # a few times a second at most: then one may look at the loss
        if stop.is_set() or drawn and not math.isfinite(loss):
            break
    if not seen and not stop.is_set():
        raise ValueError("fit: train_loader gave no batch; is the data set empty, or too small for drop_last=True?")
    results = _mean(seen)
    if not math.isfinite(results.get("loss", 0)) or not _finite(model):
        raise Diverged(
            f"The loss or the weights became NaN or infinite in epoch {run.epoch + 1}; model, optimizer and scheduler "
            "are as it began. A smaller learning rate or clipped gradients usually help."
        )
    return {f"train_{name}": value for name, value in results.items()}


@_explained
def _step(model: nn.Module, images, targets, loss_fn: Callable, optimizer, bf16: bool) -> tuple:
    """(outputs, loss) of one training step, without what is needed only for the gradients."""
    outputs = _forward(model, images, bf16)
    loss = loss_fn(outputs, targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return tree_map_only(torch.Tensor, torch.Tensor.detach, (outputs, loss))


def _finite(model: nn.Module) -> bool:
    bad = [~torch.isfinite(parameter).all() for parameter in model.parameters()]
    bad += [torch.isnan(buffer).any() for buffer in model.buffers()]  # a mask may be infinite
    return not (bad and torch.stack(bad).any())


_last_press = -math.inf  # on time.monotonic()'s clock


@contextmanager
def _stop_button():
    """An event that the stop button (or Ctrl-C) sets, so that a step is finished rather than torn in two.

    A second press interrupts as usual, and so does one within two seconds, if the cell has begun another fit by then.
    """
    pressed = threading.Event()

    def press(number, frame):
        global _last_press
        before, _last_press = _last_press, time.monotonic()
        if pressed.is_set() or _last_press - before < 2:
            raise KeyboardInterrupt
        pressed.set()

    in_main = threading.current_thread() is threading.main_thread()  # Python gives signals to no other
    before = signal.signal(signal.SIGINT, press) if in_main else None
    try:
        yield pressed
    finally:
        if in_main:
            signal.signal(signal.SIGINT, before or signal.default_int_handler)
