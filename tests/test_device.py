"""Picking a device, with the GPUs of other people's machines played by stand-ins."""

import subprocess
from types import SimpleNamespace

import pytest
import torch

import utils
from utils import device

SMI = "nvidia-smi"


@pytest.fixture
def machine(monkeypatch):
    """Build a pretended machine: cards = list of (uuid, used MiB, busy %), fails = numbers whose first operation fails."""

    def build(cards, fails=(), driver=True):
        def run(command, **_):
            if not driver:
                raise FileNotFoundError(SMI)
            lines = [f"GPU-{uuid}, Card {i}, {used}, 16000, {busy}" for i, (uuid, used, busy) in enumerate(cards)]
            return SimpleNamespace(stdout="\n".join(lines) + "\n")

        def ones(*shape, device):
            if device.index in fails:
                raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore")
            return torch.full(shape, 1.0)

        chosen = []
        monkeypatch.setattr(subprocess, "run", run)
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(cards))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(cards))
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: SimpleNamespace(uuid=cards[i][0]))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda d: f"Card {d.index}")
        monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
        monkeypatch.setattr(device, "torch", _Torch(ones))
        return chosen

    return build


class _Torch:
    """torch, but for `ones`."""

    def __init__(self, ones):
        self.ones = ones

    def __getattr__(self, name):
        return getattr(torch, name)


def test_the_idlest_gpu_is_taken_and_only_that_one(machine):
    chosen = machine([("a", 9000, 95), ("b", 12, 0), ("c", 300, 60)])
    picked, why = device.pick()
    assert picked == torch.device("cuda", 1) and chosen == [torch.device("cuda", 1)]
    assert why == "Card 1, the idlest of 3"


def test_a_gpu_that_fails_its_first_operation_is_passed_over(machine):
    machine([("a", 0, 0), ("b", 500, 0)], fails=[0])
    assert device.pick()[0] == torch.device("cuda", 1)


def test_where_every_gpu_fails_the_cpu_is_taken_and_the_reason_said(machine):
    chosen = machine([("p100", 0, 0)], fails=[0])
    picked, why = device.pick()
    assert picked.type == "cpu" and not chosen
    assert (
        why == "the GPU failed a tiny operation: CUDA error: no kernel image is available for execution on the device"
    )


def test_without_nvidia_smi_torch_alone_decides(machine):
    machine([("a", 0, 0), ("b", 0, 0)], driver=False)
    assert device.pick()[0] == torch.device("cuda", 0)


def test_no_gpu(machine, monkeypatch):
    machine([])
    assert device.pick() == (torch.device("cpu"), "no GPU found")
    monkeypatch.setattr(torch.version, "cuda", None)
    assert device.pick() == (torch.device("cpu"), "this torch is a build without GPU support")


def test_a_gpu_whose_driver_does_not_suit(machine, monkeypatch):
    machine([("a", 0, 0)])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device.pick() == (torch.device("cpu"), "a GPU is there, but its driver does not suit this torch")


def test_an_answer_without_figures_is_read(monkeypatch):
    answer = SimpleNamespace(stdout="MIG-1, A100 MIG 1g, [N/A], 5000, [Not Supported]\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
    assert device.gpus() == [
        {"uuid": "MIG-1", "name": "A100 MIG 1g", "used_mib": 0, "total_mib": 5000, "busy_percent": 0}
    ]


def test_start_prints_one_line_and_seeds(monkeypatch, capsys):
    monkeypatch.setenv("COURSE_SEED", "7")
    picked = utils.start()
    first = torch.rand(1)
    line = capsys.readouterr().out
    assert line.count("\n") == 1 and "seed 7" in line and "data:" in line and picked.type.upper() in line
    utils.start(7)
    assert torch.equal(torch.rand(1), first)


@pytest.mark.parametrize("seed", ["x", "-1", "1.5"])
def test_an_unusable_seed_gets_a_sentence(monkeypatch, seed):
    monkeypatch.setenv("COURSE_SEED", seed)
    with pytest.raises(ValueError, match="expected a whole number"):
        utils.start()
