"""The state of a training run: copied, put back, and kept in a file from which `fit` goes on."""

import copy
import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils._pytree import tree_map_only

from utils.files import load_whole

__all__ = ["Run"]

_VERSION = 4


class Run:
    """What is trained and how far it has come: all that a checkpoint holds."""

    def __init__(self, model: nn.Module, optimizer, scheduler, loaders: tuple, bf16: bool):
        self.model, self.optimizer, self.scheduler, self.loaders, self.bf16 = model, optimizer, scheduler, loaders, bf16
        self.epoch, self.history, self.best, self.best_epoch = 0, {}, None, 0

    def add(self, results: dict[str, float], patience: int | None) -> None:
        """An epoch is over."""
        self.epoch += 1
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(results["val_loss"])
        best_loss = self.history["val_loss"][self.best_epoch - 1] if self.best_epoch else math.inf
        if patience is not None and results["val_loss"] < best_loss:  # NaN is never lower
            self.best, self.best_epoch = _copy(self.model.state_dict()), self.epoch
        for name, value in results.items():
            self.history.setdefault(name, []).append(value)

    def state(self) -> dict:
        """A copy of everything, made of tensors on the CPU, numbers and strings: `weights_only=True` loads no more."""
        parts = {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler}
        kinds = {name: type(parts[name]).__name__ for name in ("optimizer", "scheduler")}
        return {
            **{name: None if part is None else _copy(part.state_dict()) for name, part in parts.items()},
            "settings": {"version": _VERSION, **kinds, "bf16": self.bf16},
            "random": {name: get() for name, (get, _) in self.random().items()},
            "history": _copy(self.history),
            **{name: getattr(self, name) for name in ("epoch", "best", "best_epoch")},
        }

    def restore(self, state: dict) -> None:
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self.model.load_state_dict(state["model"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(copy.deepcopy(state["scheduler"]))
        for name, (_, put) in self.random().items():
            if name in state["random"]:
                put(state["random"][name])
        for name in ("epoch", "history", "best", "best_epoch"):
            setattr(self, name, state[name])

    def load(self, path: str | Path) -> str:
        """Go on from a file; nothing is changed where it does not fit. Returns what is to be said about it, or ""."""
        state, now = load_whole(Path(path)), self.state()
        for name, here in now["settings"].items():
            if (there := state.get("settings", {}).get(name)) != here:
                raise ValueError(
                    f"{path} is of a run with another {name}: {there} there, {here} here. Give that, or train again."
                )
        try:
            self.restore(state)
        except (RuntimeError, ValueError) as error:  # torch says what does not fit
            self.restore(now)
            raise ValueError(f"{path} is a checkpoint of another model or optimizer: {error}") from error
        anew = sorted(state["random"].keys() ^ now["random"].keys())
        anew += ["persistent workers" for loader in self.loaders if getattr(loader, "persistent_workers", False)]
        names = " and ".join(dict.fromkeys(anew))
        return f" The random numbers of {names} begin anew: the rest is not quite an unbroken run's." if anew else ""

    def random(self) -> dict[str, tuple[Callable, Callable]]:
        """How to get and to set the state of each generator of random numbers that a run draws from.

        A device that the model is not on is left alone: asking would take memory there.
        """
        states = {
            "torch": (torch.get_rng_state, torch.set_rng_state),
            "NumPy": (_numpy_state, np.random.set_state),
            "Python": (random.getstate, random.setstate),
        }
        if (device := next(self.model.parameters(), torch.empty(0)).device).type != "cpu":
            module, which = torch.get_device_module(device), () if device.type == "mps" else (device,)
            states[device.type] = (
                lambda: module.get_rng_state(*which),
                lambda state: module.set_rng_state(state, *which),
            )
        generators = {}
        for loader in self.loaders:
            sampler = getattr(loader, "batch_sampler", None)
            for owner in (loader, getattr(loader, "sampler", None), sampler, getattr(sampler, "sampler", None)):
                if isinstance(generator := getattr(owner, "generator", None), torch.Generator):
                    generators[id(generator)] = generator  # loader and sampler often share one
        for number, generator in enumerate(generators.values()):
            states[f"loader's generator {number}"] = (generator.get_state, generator.set_state)
        return states


def _copy(state: dict) -> dict:
    return tree_map_only(torch.Tensor, lambda tensor: tensor.detach().to("cpu", copy=True), state)


def _numpy_state() -> tuple:
    name, keys, *rest = np.random.get_state()
    return name, keys.tolist(), *rest  # `weights_only=True` refuses NumPy's own arrays
