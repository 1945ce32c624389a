"""fit, evaluate and checkpoints: the promises of utils.training, each with its test."""

import os
import random
import shutil
import signal
import threading
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tests.test_security import Malicious
from utils import seed_all, training
from utils.training import Diverged, evaluate, fit, predict


@pytest.fixture(autouse=True)
def stop_button():
    """As in a notebook: a shell that starts the tests in the background has switched SIGINT off."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def task(num=96, size=8):
    """A tiny picture task with a rule to learn: is the left half brighter than the right one?"""
    images = torch.randn(num, 3, size, size, generator=torch.Generator().manual_seed(1))
    labels = (images[..., : size // 2].mean((1, 2, 3)) > images[..., size // 2 :].mean((1, 2, 3))).long()
    return TensorDataset(images, labels)


def network():
    """With batch norm and dropout, so that running statistics and random numbers matter to an exact resume."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(512, 2)
    )


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
            loss = F.cross_entropy(mine(images), labels)
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


def test_evaluate_puts_the_mode_back_and_wants_data():
    model = network().train()
    evaluate(model, DataLoader(task(), batch_size=32))
    assert model.training
    pixels, _ = predict(nn.Flatten(), DataLoader(task(), batch_size=32))  # a model without weights has no device
    assert torch.equal(pixels, task()[:][0].flatten(1))
    with pytest.raises(ValueError, match="no batch"):
        evaluate(model, [])
    with pytest.raises(ValueError, match="no batch"):
        predict(model, [])


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
    torch.save(torch.load(tmp_path / "run.pt", weights_only=True) | {"version": 0}, tmp_path / "run.pt")
    with pytest.raises(ValueError, match="checkpoint of version 0; this course reads version 2"):
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


def test_a_second_press_ends_the_cell_also_in_its_next_fit(monkeypatch, capsys):
    shell = SimpleNamespace(execution_count=7)
    monkeypatch.setattr(training, "get_ipython", lambda: shell)

    def fit_and_press():
        model, loader, options = setup()
        return fit(model, StopAfter(loader, 2, 1), **options)

    assert len(fit_and_press()["train_loss"]) == 1
    assert "What else is in this cell goes on; press stop again to end that, too." in capsys.readouterr().out
    with pytest.raises(KeyboardInterrupt):
        fit_and_press()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    shell.execution_count += 1  # another cell, or the same one run again
    assert len(fit_and_press()["train_loss"]) == 1


def test_fit_runs_outside_the_main_thread():
    model, loader, options = setup()
    thread = threading.Thread(target=fit, args=(model, loader), kwargs=options)
    thread.start()
    thread.join()
    assert options["scheduler"].last_epoch == 6 * len(loader)


def test_nan_stops_before_it_spoils_the_weights():
    model, loader, options = setup()
    before = {name: value.clone() for name, value in model.named_parameters()}
    with pytest.raises(Diverged, match="step 1 of epoch 1"):
        fit(model, loader, loss_fn=lambda outputs, labels: outputs.sum() * float("nan"), **options)
    assert all(torch.equal(before[name], value) for name, value in model.named_parameters())


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

    place = "after epoch 3" if "last" in kind else "epoch 3; .* of this epoch's beginning"
    with pytest.raises(Diverged, match=place):
        fit(model, Loader(), loss_fn=loss_fn, checkpoint=tmp_path / "run.pt", **options)
    assert same_weights(model, good)
    saved = torch.load(tmp_path / "run.pt", weights_only=True)
    assert saved["epoch"] == 2 and all(torch.equal(saved["model"][k], v) for k, v in good.state_dict().items())


def test_a_full_gpu_says_what_to_halve():
    def full(outputs, labels):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    model, loader, options = setup()
    sentence = "does not do for a batch of 16 of 3 x 8 x 8: halve the batch_size .*torch says: CUDA out of memory"
    with pytest.raises(torch.OutOfMemoryError, match=sentence):
        fit(model, loader, loss_fn=full, **options)
    model[0].forward = lambda images: full(images, None)
    for use in (evaluate, predict):
        with pytest.raises(torch.OutOfMemoryError, match="batch of 40 of 3 x 8 x 8: halve"):
            use(model, [(torch.zeros(40, 3, 8, 8), torch.zeros(40))], bf16=False)


@pytest.mark.parametrize("point", ["loss", "metric", "scheduler", "validation", "checkpoint"])
@pytest.mark.parametrize("number", [2, 31])
def test_the_stop_button_at_any_point(tmp_path, monkeypatch, point, number):
    """Pressed at the second call of a part, or at about the last one: nothing is torn, and resuming gives the unbroken run."""
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
    monkeypatch.setattr(training, "_save", pressing("checkpoint", training._save))
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


def test_early_stopping_takes_the_best_epoch():
    model, loader, options = setup()
    val_losses = iter([0.9, 0.5, 0.7, 0.6, 0.1, 0.1])
    snapshots = []

    def loss_fn(outputs, labels):
        if model.training:
            return F.cross_entropy(outputs, labels)
        snapshots.append(model[0].weight.detach().clone())
        return torch.tensor(next(val_losses))

    history = fit(model, loader, DataLoader(task(), batch_size=96), loss_fn=loss_fn, patience=2, **options)
    assert history["val_loss"] == pytest.approx([0.9, 0.5, 0.7, 0.6])
    assert torch.equal(model[0].weight, snapshots[1])


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
    with pytest.raises(ValueError, match=r"another model: 5.weight is \(2, 512\) there and \(3, 512\)"):
        fit(other, loader, checkpoint=tmp_path / "run.pt", resume=True, **options)
    assert torch.equal(other[0].weight, before)


def test_a_checkpoint_of_another_optimizer_or_scheduler_changes_nothing(tmp_path):
    model, loader, options = setup()
    fit(model, loader, checkpoint=tmp_path / "run.pt", **options)
    other, loader, options = setup(seed=1)
    before, sgd = other[0].weight.clone(), torch.optim.SGD(other.parameters(), lr=0.1)
    for unlike in ({"scheduler": None}, {"optimizer": sgd}, {"optimizer": sgd, "scheduler": None}):
        with pytest.raises(ValueError, match="run.pt is of a run with another optimizer or scheduler"):
            fit(other, loader, checkpoint=tmp_path / "run.pt", resume=True, **options | unlike)
    assert torch.equal(other[0].weight, before)


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
        torch.save({"version": 2, "model": Malicious(tmp_path / "ran")}, file)
    else:
        content[len(content) // 3] ^= 255
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

    monkeypatch.setattr(training.torch, "save", half)
    with pytest.raises(OSError, match="No space left"):
        fit(model, loader, checkpoint=tmp_path / "run.pt", **options)
    assert (tmp_path / "run.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


def test_unusable_arguments_get_a_sentence():
    model, loader, options = setup()
    with pytest.raises(ValueError, match="needs a val_loader"):
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


def test_bf16_is_used_where_asked_and_can_be_turned_off():
    dtypes = []
    model, loader, options = setup()
    model[0].register_forward_hook(lambda module, inputs, output: dtypes.append(output.dtype))
    fit(model, loader, bf16=True, **options | {"num_epochs": 1})
    assert set(dtypes) == {torch.bfloat16}
    dtypes.clear()
    fit(model, loader, bf16=False, **options | {"num_epochs": 1})
    assert set(dtypes) == {torch.float32}


def test_bf16_is_decided_by_timing_once_and_said(monkeypatch, capsys):
    clock = iter(
        [0, 9.0, 0, 0.2, 0, 9.0] + [0, 0.2, 0, 0.08] * 3
    )  # set-up, float32, set-up, then float32 and bf16 by turns
    monkeypatch.setattr(training, "_gains", {})
    monkeypatch.setattr(training.time, "perf_counter", lambda: next(clock))
    model = network()
    assert training.bf16_gains(model, torch.zeros(4, 3, 8, 8))
    assert "2.5 times as fast" in capsys.readouterr().out
    assert training.bf16_gains(model, torch.zeros(4, 3, 8, 8))  # remembered: the clock has run out
    assert model.training


def test_a_tiny_network_stays_in_float32(monkeypatch):
    monkeypatch.setattr(training, "_gains", {})
    assert not training.bf16_gains(network(), torch.zeros(4, 3, 8, 8))
