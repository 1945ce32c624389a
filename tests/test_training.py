"""fit, evaluate and checkpoints: the promises of utils.training, each with its test."""

import math
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import weakref
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import lr_scheduler
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, WeightedRandomSampler

from tests.test_security import Malicious
from utils import seed_all, training
from utils.checkpoints import Run
from utils.training import Diverged, evaluate, fit, predict

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")  # these promises hold on either


@pytest.fixture(autouse=True)
def stop_button():
    """As in a notebook: a shell that starts the tests in the background has switched SIGINT off."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    training._last_press = -math.inf  # in the test before this one
    yield
    signal.signal(signal.SIGINT, before)


def task(num=96, size=8):
    """A tiny picture task with a rule to learn: is the left half brighter than the right one?"""
    images = torch.randn(num, 3, size, size, generator=torch.Generator().manual_seed(1))
    labels = (images[..., : size // 2].mean((1, 2, 3)) > images[..., size // 2 :].mean((1, 2, 3))).long()
    return TensorDataset(images, labels)


def network():
    """With batch norm and dropout, so that running statistics and random numbers matter to an exact resume."""
    layers = (
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(512, 2),
    )
    return nn.Sequential(*layers).to(DEVICE)


def setup(seed=0, **loader):
    seed_all(seed)
    model = network()
    train_loader = DataLoader(task(), batch_size=16, shuffle=True, **loader)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=6 * len(train_loader))
    return model, train_loader, {"optimizer": optimizer, "scheduler": scheduler, "num_epochs": 6, "progress": None}


def same_weights(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


class StopAfter:
    """A loader that presses the stop button (sends SIGINT) when a batch of an epoch is handed out."""

    def __init__(self, loader, epoch, step, presses=1):
        self.loader, self.epoch, self.step, self.presses, self.epochs = loader, epoch, step, presses, 0
        self.generator = loader.generator

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        self.epochs += 1
        for step, batch in enumerate(self.loader):
            if (self.epochs, step) == (self.epoch, self.step):
                for _ in range(self.presses):
                    os.kill(os.getpid(), signal.SIGINT)
            yield batch


def test_fit_is_the_loop_that_one_would_write():
    model, loader, options = setup()
    fit(model, loader, channels_last=False, **options)
    mine, loader, options = setup()
    for _ in range(options["num_epochs"]):
        mine.train()
        for images, labels in loader:
            loss = F.cross_entropy(mine(images.to(DEVICE)), labels.to(DEVICE))
            options["optimizer"].zero_grad()
            loss.backward()
            options["optimizer"].step()
            options["scheduler"].step()
    assert same_weights(model, mine)


def test_it_learns_and_keeps_a_history():
    model, loader, options = setup()
    history = fit(model, loader, DataLoader(task(), batch_size=40), **options)
    assert set(history) == {"train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds"}
    assert all(len(values) == 6 for values in history.values())
    assert history["val_accuracy"][-1] > 0.9
    result = evaluate(
        model, DataLoader(task(), batch_size=7)
    )  # batches that do not divide the data: a true mean all the same
    logits, labels = predict(model, DataLoader(task(), batch_size=50))
    assert result["accuracy"] == pytest.approx((logits.argmax(1) == labels).float().mean().item(), abs=1e-6)
    assert result["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), abs=1e-5)


def test_evaluate_and_predict_want_data():
    pixels, _ = predict(nn.Flatten(), DataLoader(task(), batch_size=32))  # a model without weights has no device
    assert torch.equal(pixels, task()[:][0].flatten(1))
    with pytest.raises(ValueError, match="no batch"):
        evaluate(network(), [])
    with pytest.raises(ValueError, match="no batch"):
        predict(network(), [])


@pytest.mark.parametrize("use", [evaluate, predict])
def test_every_modules_mode_is_put_back_also_one_set_by_hand(use):
    model = network().train()
    model[1].eval()
    use(model, DataLoader(task(), batch_size=32))
    assert model.training and model[4].training and not model[1].training
    before = model[1].running_mean.clone()
    model(task()[:8][0].to(DEVICE))
    assert torch.equal(model[1].running_mean, before)


class Log(TorchDispatchMode):
    """The names of the operations, in order. With `_local_scalar_dense` the CPU asks a device for a number."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.__name__)
        return func(*args, **(kwargs or {}))


def test_no_step_waits_for_the_device():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with Log() as log:
        fit(model, DataLoader(task(), batch_size=16), num_epochs=1, optimizer=optimizer, progress=None)
    steps = [i for i, name in enumerate(log.names) if name.startswith("convolution_backward")]
    waits = [i for i, name in enumerate(log.names) if name.startswith("_local_scalar_dense")]
    # (Before the first step the loader draws a seed for its shuffling, on the CPU.)
    assert len(steps) == 6 and max(waits) > max(steps) and not any(min(steps) < i < max(steps) for i in waits)


def test_what_goes_to_the_cpu_is_waited_for(monkeypatch):
    """Else a GPU's results are read before they have come (`predict` gave NaN)."""
    plain, asked = torch.Tensor.to, []

    def to(self, device, **options):
        asked.append((torch.device(device).type, options["non_blocking"]))
        return plain(self, device, **options)

    monkeypatch.setattr(torch.Tensor, "to", to)
    training._move({"a": torch.ones(2)}, torch.device("cpu"))
    training._move((torch.ones(2),), torch.device("meta"))
    assert asked == [("cpu", False), ("meta", True)]


@pytest.mark.skipif(DEVICE.type == "cpu", reason="needs a GPU")
def test_predict_reads_what_the_gpu_has_computed():
    model, loader = network(), DataLoader(task(), batch_size=25)
    outputs, _ = predict(model, loader)
    with torch.no_grad():
        expected = model.eval()(task()[:][0].to(DEVICE)).cpu()
    assert torch.allclose(outputs, expected, atol=1e-4)


class Jitter(torch.utils.data.Dataset):
    """Augments with NumPy's and Python's random numbers, which a resumed run must draw again as they were."""

    def __len__(self):
        return len(task())

    def __getitem__(self, i):
        image, label = task()[i]
        return image + np.random.rand() + random.random(), label


def test_resume_replays_every_kind_of_random_number(tmp_path):
    def run(seed, stop=None, **more):
        model, _, options = setup(seed)
        loader = DataLoader(Jitter(), batch_size=16, shuffle=True)
        fit(model, StopAfter(loader, *stop) if stop else loader, checkpoint=tmp_path / "run.pt", **options | more)
        return model

    unbroken = run(0)
    run(0, stop=(3, 1))
    assert same_weights(run(99, resume=True), unbroken)


def test_a_checkpoint_of_another_version_is_refused(tmp_path):
    model, loader, options = setup()
    fit(model, loader, checkpoint=tmp_path / "run.pt", **options)
    state = torch.load(tmp_path / "run.pt", weights_only=True)
    torch.save(state | {"settings": state["settings"] | {"version": 0}}, tmp_path / "run.pt")
    with pytest.raises(ValueError, match="a run with another version: 0 there, 4 here. Give that, or train again"):
        fit(model, loader, checkpoint=tmp_path / "run.pt", resume=True, **options)


def test_channels_last_is_the_default_and_can_be_turned_off():
    for wanted in (True, False):
        model, loader, options = setup()
        fit(model, loader, channels_last=wanted, **options | {"num_epochs": 1})
        assert model[0].weight.is_contiguous(memory_format=torch.channels_last) is wanted


def test_channels_last_leaves_models_alone_that_it_does_not_suit():
    clip = nn.Sequential(nn.Conv3d(1, 2, 3), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    loader = DataLoader(TensorDataset(torch.rand(4, 1, 5, 5, 5), torch.tensor([0, 1, 0, 1])), batch_size=2)
    fit(clip, loader, num_epochs=1, optimizer=torch.optim.SGD(clip.parameters(), lr=0.1), progress=None)
    outputs, _ = predict(clip, loader)
    assert outputs.shape == (4, 2)


def test_predict_takes_the_fast_order_and_gives_the_same():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    images = torch.rand(6, 3, 8, 8)
    expected = model(images).detach()
    outputs, _ = predict(model, DataLoader(TensorDataset(images, torch.zeros(6)), batch_size=3))
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(outputs, expected, atol=1e-5)


def test_accuracy_of_labels_and_of_pixels():
    outputs = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0], [0.0, 5.0]])
    assert training.accuracy(outputs, torch.tensor([0, 1, 1, 1])) == 0.75
    assert training.accuracy(outputs[..., None, None].expand(4, 2, 3, 3), torch.zeros(4, 3, 3)) == 0.5
    for wrong in (
        torch.zeros(4, 1, 3, 3),
        torch.zeros(4),
    ):  # one output with a threshold: every pixel would count as class 0
        with pytest.raises(ValueError, match="Give your own metrics"):
            training.accuracy(wrong, torch.zeros(4, 3, 3))


@pytest.mark.parametrize("with_generator", [False, True])
@pytest.mark.parametrize(("epoch", "step"), [(1, 0), (1, 3), (3, 5), (6, 2)])
def test_resumed_equals_unbroken(tmp_path, epoch, step, with_generator):
    def loader_options():
        return {"generator": torch.Generator().manual_seed(3)} if with_generator else {}

    unbroken, loader, options = setup(**loader_options())
    whole = fit(unbroken, loader, **options)

    model, loader, options = setup(**loader_options())
    part = fit(model, StopAfter(loader, epoch, step), checkpoint=tmp_path / "run.pt", **options)
    assert len(part.get("train_loss", [])) == epoch - 1

    model, loader, options = setup(seed=99, **loader_options())  # a new process: other weights, other random numbers
    history = fit(model, loader, checkpoint=tmp_path / "run.pt", resume=True, **options)
    assert same_weights(model, unbroken)
    assert history["train_loss"] == whole["train_loss"]


def test_resume_without_a_file_starts_at_the_beginning(tmp_path):
    unbroken, loader, options = setup()
    fit(unbroken, loader, **options)
    model, loader, options = setup()
    fit(model, loader, checkpoint=tmp_path / "new" / "run.pt", resume=True, **options)
    assert same_weights(model, unbroken)


def test_stop_button_leaves_everything_whole(tmp_path, capsys):
    model, loader, options = setup()
    history = fit(model, StopAfter(loader, 3, 2), DataLoader(task(), 32), checkpoint=tmp_path / "run.pt", **options)
    assert {len(values) for values in history.values()} == {2}
    assert "Stopped in epoch 3 of 6" in capsys.readouterr().out
    state = torch.load(tmp_path / "run.pt", weights_only=True)
    assert state["epoch"] == 2 and state["history"]["val_loss"] == history["val_loss"]
    assert torch.isfinite(next(model.parameters())).all()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler  # the button works as before afterwards


def test_a_second_press_interrupts_at_once():
    model, loader, options = setup()
    with pytest.raises(KeyboardInterrupt):
        fit(model, StopAfter(loader, 1, 1, presses=2), **options)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_quick_second_press_ends_the_cell_also_in_its_next_fit(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(training.time, "monotonic", lambda: now[0])

    def fit_and_press():
        model, loader, options = setup()
        return fit(model, StopAfter(loader, 2, 1), **options)

    assert len(fit_and_press()["train_loss"]) == 1
    now[0] += 1.9
    with pytest.raises(KeyboardInterrupt):
        fit_and_press()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    now[0] += 2.1
    assert len(fit_and_press()["train_loss"]) == 1


def test_fit_runs_outside_the_main_thread():
    model, loader, options = setup()
    thread = threading.Thread(target=fit, args=(model, loader), kwargs=options)
    thread.start()
    thread.join()
    assert options["scheduler"].last_epoch == 6 * len(loader)


def test_a_diverged_run_is_put_back_to_the_beginning_of_its_epoch(tmp_path):
    """Model, buffers, optimizer and scheduler, however far the epoch got: then a smaller rate trains on."""
    model, loader, options = setup()
    scheduler, optimizer = options["scheduler"], options["optimizer"]
    fit(model, loader, **options | {"num_epochs": 2})
    run = Run(model, optimizer, scheduler, (), False)
    before, calls = run.state(), []

    def loss_fn(outputs, labels):
        calls.append(None)
        return F.cross_entropy(outputs, labels) * (1e18 if len(calls) == 3 else float("nan") if len(calls) == 6 else 1)

    rates = {"lr": 1e30}
    optimizer.param_groups[0].update(rates)
    before["optimizer"]["param_groups"][0].update(rates)
    with pytest.raises(Diverged, match="in epoch 1; model, optimizer and scheduler are as it began"):
        fit(model, loader, loss_fn=loss_fn, **options | {"num_epochs": 1})
    after = run.state()
    for part in ("model", "optimizer"):
        torch.testing.assert_close(after[part], before[part], rtol=0, atol=0)
    assert after["scheduler"] == before["scheduler"]
    optimizer.param_groups[0]["lr"] = 1e-3
    history = fit(model, loader, **options | {"num_epochs": 2, "scheduler": None})
    assert all(math.isfinite(loss) for loss in history["train_loss"])


def test_a_loss_that_is_not_finite_is_seen_in_the_epoch_where_a_bar_is_drawn(monkeypatch):
    class Bar(training.tqdm):
        def update(self, n=1):
            return True  # drawn at each step

    monkeypatch.setattr(training, "tqdm", Bar)
    model, loader, options = setup()
    losses = []

    def loss_fn(outputs, labels):
        losses.append(None)
        return outputs.sum() * float("inf")

    with pytest.raises(Diverged):
        fit(model, loader, loss_fn=loss_fn, **options | {"progress": "training"})
    assert len(losses) == 1


class Spoil(torch.autograd.Function):
    """Lets the loss through, and makes its gradient NaN."""

    @staticmethod
    def forward(ctx, loss):
        return loss.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("nan")


@pytest.mark.parametrize("kind", ["gradient", "gradient of the last step", "picture"])
def test_after_nan_the_model_and_the_checkpoint_have_the_last_good_weights(tmp_path, kind):
    good, loader, options = setup()
    fit(good, loader, **options | {"num_epochs": 2})
    model, loader, options = setup()
    calls = []

    def loss_fn(outputs, labels):
        calls.append(None)
        loss = F.cross_entropy(outputs, labels)
        return Spoil.apply(loss) if len(calls) == (18 if "last" in kind else 14) and kind != "picture" else loss

    def batches():
        for images, labels in loader:
            yield images * (float("nan") if kind == "picture" and len(calls) == 13 else 1), labels

    class Loader:
        __len__, __iter__ = (lambda self: len(loader)), (lambda self: batches())

    with pytest.raises(Diverged, match="in epoch 3; model, optimizer and scheduler are as it began"):
        fit(model, Loader(), loss_fn=loss_fn, checkpoint=tmp_path / "run.pt", **options)
    assert same_weights(model, good)
    saved = torch.load(tmp_path / "run.pt", weights_only=True)
    assert saved["epoch"] == 2 and all(torch.equal(saved["model"][k], v.cpu()) for k, v in good.state_dict().items())


def test_a_full_gpu_says_what_to_halve_and_lets_the_batch_go():
    kept = []

    class Computed(torch.Tensor):
        """As large as what a batch computes, and one can see whether it is still there."""

    def full(outputs, labels):
        computed = outputs.as_subclass(Computed)
        kept.append(weakref.ref(computed))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    model, loader, options = setup()
    sentence = "does not do for a batch of 16 x 3 x 8 x 8: halve the batch_size .*torch says: CUDA out of memory"
    with pytest.raises(torch.OutOfMemoryError, match=sentence) as caught:
        fit(model, loader, loss_fn=full, **options)
    assert kept[0]() is None, "the error's traceback holds what the failed batch computed"
    assert caught.value.__suppress_context__
    model[0].forward = lambda images: full(model[5].weight * 2, None)
    for use in (evaluate, predict):
        with pytest.raises(torch.OutOfMemoryError, match="batch of 40 x 3 x 8 x 8: halve"):
            use(model, [(torch.zeros(40, 3, 8, 8), torch.zeros(40))])


@pytest.mark.parametrize("use", ["fit", "evaluate", "predict"])
def test_pictures_of_bytes_get_a_sentence(use):
    images, labels = torch.randint(0, 255, (8, 3, 8, 8), dtype=torch.uint8), torch.zeros(8, dtype=torch.long)
    loader, model = DataLoader(TensorDataset(images, labels), batch_size=4), network()
    calls = {
        "fit": lambda model: fit(
            model, loader, num_epochs=1, optimizer=torch.optim.SGD(model.parameters()), progress=None
        ),
        "evaluate": lambda model: evaluate(model, loader),
        "predict": lambda model: predict(model, loader),
    }
    with pytest.raises(ValueError, match=r"bytes \(uint8\) came.*v2.ToDtype\(torch.float32, scale=True\)"):
        calls[use](model)

    class Float(nn.Module):
        def forward(self, images):
            return images / 255

    calls[use](nn.Sequential(Float(), network()))  # a network that takes bytes is none of our business


@pytest.mark.parametrize("point", ["loss", "metric", "scheduler", "validation", "checkpoint"])
@pytest.mark.parametrize("number", [2, 31])
def test_the_stop_button_at_any_point(tmp_path, monkeypatch, point, number):
    """Pressed at the second call of a part, or at about the last: nothing is torn, and a resumed run is whole."""
    val_loader = DataLoader(task(), batch_size=48)
    unbroken, loader, options = setup()
    whole = fit(unbroken, loader, val_loader, **options)
    model, loader, options = setup()
    number = number if point in ("loss", "metric", "scheduler") else min(number, 6)
    calls = dict.fromkeys(("loss", "metric", "scheduler", "validation", "checkpoint"), 0)

    def pressing(name, function):
        def call(*args, **kwargs):
            calls[name] += 1
            if name == point and calls[name] == number:
                os.kill(os.getpid(), signal.SIGINT)
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(training, "evaluate", pressing("validation", training.evaluate))
    monkeypatch.setattr(training, "save_whole", pressing("checkpoint", training.save_whole))
    scheduler = type(options["scheduler"])
    monkeypatch.setattr(scheduler, "step", pressing("scheduler", scheduler.step))
    losses = {
        "loss_fn": pressing("loss", F.cross_entropy),
        "metrics": {"accuracy": pressing("metric", training.accuracy)},
    }
    history = fit(model, loader, val_loader, checkpoint=tmp_path / "run.pt", **losses, **options)
    assert {len(values) for values in history.values()} <= {torch.load(tmp_path / "run.pt", weights_only=True)["epoch"]}
    assert calls[point] >= number and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    model, loader, options = setup(seed=99)
    history = fit(model, loader, val_loader, checkpoint=tmp_path / "run.pt", resume=True, **options)
    assert same_weights(model, unbroken) and history["val_loss"] == whole["val_loss"]


def test_stopped_in_the_last_validation_all_is_done_and_the_best_weights_are_taken(monkeypatch, capsys):
    model, loader, options = setup()
    plain, losses = training.evaluate, iter([0.5, 0.9])

    def last(*args):
        value = next(losses)
        if value == 0.9:
            os.kill(os.getpid(), signal.SIGINT)
        else:
            best.append(model[0].weight.detach().clone())
        return plain(*args) | {"loss": value}

    best = []
    monkeypatch.setattr(training, "evaluate", last)
    history = fit(model, loader, DataLoader(task(), 48), patience=5, **options | {"num_epochs": 2})
    assert history["val_loss"] == [0.5, 0.9] and "Stopped" not in capsys.readouterr().out
    assert torch.equal(model[0].weight, best[0])


def test_numbers_of_epochs_may_be_numpys(tmp_path):
    for epochs in np.arange(1, 3):
        model, loader, options = setup()
        options |= {"num_epochs": epochs, "patience": epochs, "checkpoint": tmp_path / "run.pt"}
        assert len(fit(model, loader, DataLoader(task(), 48), resume=True, **options)["train_loss"]) == epochs


def test_a_cell_with_fit_run_twice(tmp_path):
    """With resume=True the second run of the cell trains no further; without, it begins again and gives the same."""
    for more in ({"resume": True}, {}):
        runs = []
        for _ in range(2):
            model, loader, options = setup()
            runs.append((fit(model, loader, checkpoint=tmp_path / "run.pt", **more, **options), model))
        (first, model), (second, again) = runs
        assert first["train_loss"] == second["train_loss"] and same_weights(model, again)


@pytest.mark.parametrize(
    ("val_losses", "patience", "epochs", "best"),
    [
        ([0.9, 0.5, 0.7, 0.6, 0.1, 0.1], 2, 4, 2),
        ([0.5, 0.5, 0.5, 0.5, 0.5, 0.5], 2, 3, 1),  # no epoch has a lower one
        ([math.nan, 0.5, 0.4, 0.6, math.nan, 0.1], 2, 5, 3),  # NaN is no best, and in the way of none
        ([math.nan] * 6, 3, 3, 3),  # none is best: the last weights stay
    ],
)
def test_early_stopping_takes_the_best_epoch(val_losses, patience, epochs, best):
    model, loader, options = setup()
    told, snapshots = iter(val_losses), []

    def loss_fn(outputs, labels):
        if model.training:
            return F.cross_entropy(outputs, labels)
        snapshots.append(model[0].weight.detach().clone())
        return torch.tensor(next(told))

    history = fit(model, loader, DataLoader(task(), batch_size=96), loss_fn=loss_fn, patience=patience, **options)
    assert len(history["val_loss"]) == epochs
    assert torch.equal(model[0].weight, snapshots[best - 1])


def test_the_stop_button_takes_the_best_weights_too(capsys):
    model, loader, options = setup()
    losses, snapshots = iter([0.5, 0.9]), []

    def loss_fn(outputs, labels):
        if model.training:
            return F.cross_entropy(outputs, labels)
        snapshots.append(model[0].weight.detach().clone())
        return torch.tensor(next(losses))

    stopped = StopAfter(loader, 3, 2)
    history = fit(model, stopped, DataLoader(task(), batch_size=96), loss_fn=loss_fn, patience=5, **options)
    assert history["val_loss"] == pytest.approx([0.5, 0.9]) and torch.equal(model[0].weight, snapshots[0])
    assert "The model keeps the weights of epoch 1." in capsys.readouterr().out


def test_early_stopping_survives_a_resume(tmp_path):
    def run(model, loader, options, **more):
        return fit(model, loader, DataLoader(task(), 32), patience=2, **options, **more)

    unbroken, loader, options = setup()
    whole = run(unbroken, loader, options)
    model, loader, options = setup()
    run(model, StopAfter(loader, 2, 1), options, checkpoint=tmp_path / "run.pt")
    model, loader, options = setup(seed=5)
    history = run(model, loader, options, checkpoint=tmp_path / "run.pt", resume=True)
    assert history["val_loss"] == whole["val_loss"]
    assert same_weights(model, unbroken)


def test_a_checkpoint_of_another_model_changes_nothing(tmp_path):
    model, loader, options = setup()
    fit(model, loader, checkpoint=tmp_path / "run.pt", **options)
    other, loader, options = setup(seed=1)
    other[5] = nn.Linear(512, 3)
    before = other[0].weight.clone()
    drawn = torch.get_rng_state()
    with pytest.raises(ValueError, match=r"(?s)another model or optimizer: .*5.weight: .*\[2, 512\].*\[3, 512\]"):
        fit(other, loader, checkpoint=tmp_path / "run.pt", resume=True, **options)
    assert torch.equal(other[0].weight, before) and torch.equal(torch.get_rng_state(), drawn)


def test_a_checkpoint_of_another_run_changes_nothing(tmp_path):
    model, loader, options = setup()
    fit(model, loader, checkpoint=tmp_path / "run.pt", **options)
    other, loader, options = setup(seed=1)
    before, unlike = other[0].weight.clone(), {}
    for kind in (torch.optim.SGD, torch.optim.Adam):  # Adam and AdamW have the same settings, and mean other things
        unlike[f"another optimizer: AdamW there, {kind.__name__} here"] = {
            "optimizer": kind(other.parameters(), lr=0.1)
        }
    cosine = lr_scheduler.CosineAnnealingLR(options["optimizer"], 36)
    unlike |= {
        "another scheduler: OneCycleLR there, CosineAnnealingLR here": {"scheduler": cosine},
        "another scheduler: OneCycleLR there, NoneType here": {"scheduler": None},
        "another bf16: False there, True here": {"bf16": True},
    }
    for sentence, change in unlike.items():
        with pytest.raises(ValueError, match=f"run.pt is of a run with {sentence}. Give that, or train again"):
            fit(other, loader, checkpoint=tmp_path / "run.pt", resume=True, **options | change)
    assert torch.equal(other[0].weight, before)


SCHEDULERS = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda step: 0.9**step),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda step: 0.95),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 4, 0.5),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [3, 9, 14]),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.3, 8),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.1, total_iters=12),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 20),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 18),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 5),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 1e-3, 1e-2, 4, cycle_momentum=False),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 1e-2, total_steps=18),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.1, total_iters=5), lr_scheduler.CosineAnnealingLR(o, 13)], [5]
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.3, 5), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0, threshold=0.5),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_resumes_as_if_nothing_had_happened(tmp_path, name):
    assert set(lr_scheduler.__all__) - {"LRScheduler"} <= set(SCHEDULERS), "torch has a scheduler that this test lacks"

    def run(stop=None, seed=0, **more):
        model, loader, _ = setup(seed)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        options = {"optimizer": optimizer, "scheduler": SCHEDULERS[name](optimizer), "num_epochs": 3, "progress": None}
        fit(model, StopAfter(loader, *stop) if stop else loader, DataLoader(task(), 48), **options | more)
        return model, optimizer.param_groups[0]["lr"]

    (unbroken, rate), file = run(), tmp_path / "run.pt"
    run(stop=(2, 2), checkpoint=file)
    resumed, resumed_rate = run(seed=9, checkpoint=file, resume=True)
    assert same_weights(resumed, unbroken) and resumed_rate == rate


def test_reduce_on_plateau_steps_by_epoch_and_wants_validation():
    model, loader, options = setup()
    options["scheduler"] = lr_scheduler.ReduceLROnPlateau(options["optimizer"], factor=0.1, patience=0, threshold=10.0)
    with pytest.raises(ValueError, match="ReduceLROnPlateau watches val_loss: give a val_loader"):
        fit(model, loader, **options)
    fit(model, loader, DataLoader(task(), 48), **options | {"num_epochs": 3})
    assert (
        options["optimizer"].param_groups[0]["lr"] < 1e-3
    )  # lowered after an epoch or two, not after each of 18 steps
    assert options["scheduler"].last_epoch == 3


def test_a_schedule_that_is_too_short_is_said_before_anything_is_written(tmp_path):
    model, loader, options = setup()
    fit(model, loader, checkpoint=tmp_path / "run.pt", **options)
    sentence = "OneCycleLR has 0 of its total_steps left, too few for 2 epochs of 6 steps"
    with pytest.raises(ValueError, match=sentence):  # a finished run that is resumed for more
        fit(model, loader, checkpoint=tmp_path / "run.pt", resume=True, **options | {"num_epochs": 8})
    model, loader, options = setup()
    before = (tmp_path / "run.pt").read_bytes()
    with pytest.raises(ValueError, match="has 36 of its total_steps left, too few for 7 epochs"):
        fit(model, loader, checkpoint=tmp_path / "run.pt", **options | {"num_epochs": 7})
    assert (tmp_path / "run.pt").read_bytes() == before


@pytest.mark.parametrize("kind", ["sampler", "validation", "workers"])
def test_loaders_with_random_numbers_of_their_own_are_replayed(tmp_path, kind):
    def run(stop=None, seed=0, **more):
        model, loader, options = setup(seed)
        val_loader = None
        if kind == "sampler":
            sampler = WeightedRandomSampler([1.0] * 96, 96, generator=torch.Generator().manual_seed(5))
            loader = DataLoader(task(), batch_size=16, sampler=sampler)
            loader.stop = stop
        elif kind == "validation":
            generator = torch.Generator().manual_seed(5)
            val_loader = DataLoader(Jitter(), batch_size=30, shuffle=True, generator=generator)
        else:
            loader = DataLoader(Jitter(), batch_size=16, shuffle=True, num_workers=1, multiprocessing_context="fork")
        press = pressing_at(stop)
        history = fit(model, loader, val_loader, loss_fn=press, **options | more | {"num_epochs": 3})
        return model, history

    (unbroken, whole), file = run(), tmp_path / "run.pt"
    run(stop=9, checkpoint=file)
    resumed, history = run(seed=9, checkpoint=file, resume=True)
    assert same_weights(resumed, unbroken) and history.get("val_loss") == whole.get("val_loss")


def pressing_at(call: int | None):
    """A loss that presses the stop button at a training step."""
    calls = []

    def loss_fn(outputs, labels):
        calls.append(outputs.requires_grad)
        if outputs.requires_grad and sum(calls) == call:
            os.kill(os.getpid(), signal.SIGINT)
        return F.cross_entropy(outputs, labels)

    return loss_fn


def test_what_cannot_be_replayed_is_said(tmp_path, capsys):
    for more, word in (
        ({"generator": torch.Generator()}, "loader's generator 0"),
        ({"persistent_workers": True}, "workers"),
    ):
        model, loader, options = setup()
        fit(model, loader, checkpoint=tmp_path / "run.pt", **options | {"num_epochs": 1})
        assert "anew" not in capsys.readouterr().out
        workers = {"num_workers": 1, "multiprocessing_context": "fork"} if "persistent_workers" in more else {}
        model, loader, options = setup(**more, **workers)
        fit(model, loader, checkpoint=tmp_path / "run.pt", resume=True, **options | {"num_epochs": 2})
        assert f"{word} begin anew: the rest is not quite" in capsys.readouterr().out


def test_a_checkpoint_of_the_cpu_asks_no_gpu():
    assert set(Run(nn.Linear(1, 1), None, None, (None,), False).random()) == {"torch", "NumPy", "Python"}


class Endless(IterableDataset):
    """Pictures of which nobody says how many there are."""

    def __iter__(self):
        return iter(task(64))


def test_a_loader_without_a_length_trains_stops_and_resumes(tmp_path, capsys):
    def run(stop=None, **more):
        model, _, options = setup()
        options["scheduler"] = None
        loader = DataLoader(Endless(), batch_size=16)
        history = fit(model, loader, loader, loss_fn=pressing_at(stop), **options | {"num_epochs": 3} | more)
        return model, history

    (unbroken, whole), file = run(progress="training"), tmp_path / "run.pt"
    assert len(whole["val_loss"]) == 3
    run(stop=6, checkpoint=file)
    resumed, history = run(checkpoint=file, resume=True)
    assert same_weights(resumed, unbroken) and history["val_loss"] == whole["val_loss"]
    assert predict(unbroken, DataLoader(Endless(), batch_size=16), progress="predicting")[0].shape == (64, 2)


def test_pictures_need_be_no_tensors():
    class Words(nn.Module):
        def forward(self, words):
            return torch.tensor([[len(word), 3.0] for word in words])

    batches = [(["a", "four"], torch.tensor([1, 0])), (["of"], torch.tensor([1]))]
    assert evaluate(Words(), batches)["accuracy"] == 1
    with pytest.raises(RuntimeError, match="shape|size|stack|dim"):  # torch's own words, as nothing better is known
        evaluate(nn.Sequential(Words(), nn.Linear(5, 2)), batches)


def test_pictures_may_be_dicts_and_count_by_their_number():
    class First(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network()

        def forward(self, images):
            return self.net(images["left"] + images["right"])

    images, labels = task()[:]
    batches = [({"left": images[part], "right": images[part], "other": images[part]}, labels[part])
               for part in (slice(0, 80), slice(80, 96))]  # fmt: skip
    model = First()
    logits, targets = predict(model, batches)
    result = evaluate(model, batches)
    assert result["loss"] == pytest.approx(F.cross_entropy(logits, targets).item(), abs=1e-5)
    fit(model, batches, num_epochs=1, optimizer=torch.optim.SGD(model.parameters()), progress=None)


@pytest.mark.parametrize("damage", ["cut short", "empty", "text", "flipped", "no dictionary", "zip", "pickled code"])
def test_a_damaged_checkpoint_is_told_and_changes_nothing(tmp_path, damage):
    model, loader, options = setup()
    file = tmp_path / "run.pt"
    fit(model, loader, checkpoint=file, **options)
    content = bytearray(file.read_bytes())
    if damage == "no dictionary":
        torch.save(torch.zeros(3), file)
    elif damage == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("photo.jpg", b"no checkpoint")
    elif damage == "pickled code":
        torch.save({"settings": {"version": 4}, "model": Malicious(tmp_path / "ran")}, file)
    else:
        record = model[5].weight.detach().cpu().numpy().tobytes()
        content[content.index(record) + 5] ^= 255
        file.write_bytes({"cut short": content[:-300], "empty": b"", "text": b"no file", "flipped": content}[damage])
    before = model[0].weight.clone()
    with pytest.raises(
        ValueError, match="run.pt is damaged, or no checkpoint of this course: .* Delete it, then train"
    ):
        fit(model, loader, checkpoint=file, resume=True, **options)
    assert torch.equal(model[0].weight, before) and not (tmp_path / "ran").exists()


def test_a_folder_that_vanishes_is_made_again(tmp_path):
    model, loader, options = setup()

    def vanish(outputs, labels):
        shutil.rmtree(tmp_path / "checkpoints", ignore_errors=True)
        return training.accuracy(outputs, labels)

    fit(model, loader, checkpoint=tmp_path / "checkpoints/run.pt", metrics={"accuracy": vanish}, **options)
    assert torch.load(tmp_path / "checkpoints/run.pt", weights_only=True)["epoch"] == 6


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    model, loader, options = setup()
    fit(model, loader, checkpoint=tmp_path / "run.pt", **options)
    before = (tmp_path / "run.pt").read_bytes()

    def half(state, file):
        file.write(b"half a checkpoint")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.save", half)
    model, loader, options = setup()
    with pytest.raises(OSError, match="No space left"):
        fit(model, loader, checkpoint=tmp_path / "run.pt", **options)
    assert (tmp_path / "run.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


def test_unusable_arguments_get_a_sentence():
    model, loader, options = setup()
    with pytest.raises(ValueError, match="patience watches val_loss: give a val_loader"):
        fit(model, loader, patience=2, **options)
    with pytest.raises(ValueError, match="checkpoint=FILE"):
        fit(model, loader, resume=True, **options)
    with pytest.raises(ValueError, match="no batch; .* too small for drop_last=True"):
        fit(model, DataLoader(task(8), batch_size=16, drop_last=True), **options)


def test_targets_may_be_dicts_and_losses_their_own():
    images, labels = task()[:]
    loader = [
        (images[:32], {"label": labels[:32], "weight": torch.ones(32)}),
        (images[32:], {"label": labels[32:], "weight": torch.ones(64)}),
    ]
    model = network()

    def loss_fn(outputs, targets):
        return (F.cross_entropy(outputs, targets["label"], reduction="none") * targets["weight"]).mean()

    history = fit(
        model,
        loader,
        loader,
        num_epochs=2,
        optimizer=torch.optim.AdamW(model.parameters()),
        loss_fn=loss_fn,
        metrics={},
        progress=None,
    )
    assert set(history) == {"train_loss", "val_loss", "seconds"}


def test_outputs_may_be_dicts_or_tuples():
    class Heads(nn.Module):
        def __init__(self, pack):
            super().__init__()
            self.body, self.pack = network(), pack

        def forward(self, images):
            return self.pack(self.body(images))

    loader = DataLoader(task(), batch_size=40)
    for pack, pick in ((lambda x: {"class": x}, lambda x: x["class"]), (lambda x: (x, x + 1), lambda x: x[0])):
        model = Heads(pack)
        optimizer = torch.optim.AdamW(model.parameters())

        def loss_fn(outputs, labels, pick=pick):
            return F.cross_entropy(pick(outputs), labels)

        fit(
            model,
            loader,
            loader,
            num_epochs=1,
            optimizer=optimizer,
            loss_fn=loss_fn,
            metrics={},
            bf16=True,
            progress=None,
        )
        outputs, labels = predict(model, loader)
        assert pick(outputs).shape == (96, 2) and pick(outputs).dtype == torch.float32 and labels.shape == (96,)


def test_bf16_is_off_unless_asked_for_and_losses_are_computed_exactly():
    inside, outside = [], []
    model, loader, options = setup()
    model[0].register_forward_hook(lambda module, inputs, output: inside.append(output.dtype))

    def loss_fn(outputs, labels):
        outside.append(outputs.dtype)
        return F.cross_entropy(outputs, labels)

    options |= {"num_epochs": 1, "loss_fn": loss_fn}
    bf16 = torch.bfloat16 if training._has_bf16(DEVICE) else torch.float32
    for asked, expected in (({}, torch.float32), ({"bf16": False}, torch.float32), ({"bf16": True}, bf16)):
        inside.clear()
        model, loader, options = setup()
        model[0].register_forward_hook(lambda module, inputs, output: inside.append(output.dtype))
        fit(model, loader, loss_fn=loss_fn, **options | asked | {"num_epochs": 1})
        evaluate(model, loader, loss_fn, **asked)
        outputs, _ = predict(model, loader, **asked)
        assert set(inside) == {expected} and outputs.dtype == torch.float32
    assert set(outside) == {torch.float32}


def test_a_gpu_that_only_emulates_bf16_stays_in_float32(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    assert not training._has_bf16(torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert training._has_bf16(torch.device("cuda")) and training._has_bf16(torch.device("cpu"))


# ---- the stop button and workers -------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="this system has no process groups")
@pytest.mark.parametrize(
    "method",
    [
        "fork",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("spawn", "forkserver", "forkserver from before")),
    ],
)
def test_the_stop_button_reaches_no_worker(tmp_path, method):
    """Jupyter sends it to the whole process group, so the script below does, which runs in a group of its own."""
    command = [sys.executable, __file__, method, str(tmp_path)]
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, start_new_session=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr


def stop_with_workers(method: str, folder: Path) -> None:
    def run(loss_fn, workers=0, **more):
        model, _, options = setup()
        context = {"num_workers": workers, "multiprocessing_context": method.split()[0]} if workers else {}
        loader = DataLoader(task(), batch_size=16, shuffle=True, **context)
        history = fit(model, loader, DataLoader(task(), 48), loss_fn=loss_fn, **options | {"num_epochs": 2} | more)
        return model, history

    calls = []

    def press(outputs, labels):
        calls.append(outputs.requires_grad)
        if outputs.requires_grad and sum(calls) == 9:
            os.killpg(0, signal.SIGINT)
        return F.cross_entropy(outputs, labels)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    if method.endswith("before"):  # as one looks at a batch: the server runs then, and was started without our care
        next(iter(DataLoader(task(), batch_size=16, num_workers=1, multiprocessing_context="forkserver")))
    unbroken, whole = run(F.cross_entropy)
    model, history = run(press, workers=2, checkpoint=folder / "run.pt")
    assert {len(values) for values in history.values()} == {1}
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    model, history = run(F.cross_entropy, checkpoint=folder / "run.pt", resume=True)
    assert same_weights(model, unbroken) and history["val_loss"] == whole["val_loss"]

    training._last_press = -math.inf  # and once while workers are starting
    before = signal.signal(signal.SIGINT, lambda *_: None)
    threading.Timer(0.3, os.killpg, (0, signal.SIGINT)).start()
    model, history = run(F.cross_entropy, workers=2, num_epochs=1)
    signal.signal(signal.SIGINT, before)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


if __name__ == "__main__":
    stop_with_workers(sys.argv[1], Path(sys.argv[2]))
