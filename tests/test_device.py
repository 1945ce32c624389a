"""Picking a device and reporting on it, with the GPUs of other people's machines played by stand-ins."""

import os
import subprocess
from types import SimpleNamespace

import psutil
import pytest
import torch

from utils import device

SMI = "nvidia-smi"


@pytest.fixture
def machine(monkeypatch):
    """Build a pretended machine: cards = list of (uuid, used MiB, busy %), fails = numbers whose first operation fails."""

    def build(cards, fails=(), driver=True):
        def run(command, **_):
            if not driver:
                raise FileNotFoundError(SMI)
            lines = [f"{i}, GPU-{uuid}, Card, {used}, 16000, {busy}, 40" for i, (uuid, used, busy) in enumerate(cards)]
            return SimpleNamespace(stdout="\n".join(lines) + "\n")

        def ones(*shape, device):
            if device.index in fails:
                raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore")
            return torch.full(shape, 1.0)

        def properties(number):
            if cards[number][0] == "broken":
                raise RuntimeError("CUDA error: unknown error")
            return SimpleNamespace(uuid=cards[number][0])

        chosen = []
        monkeypatch.setattr(subprocess, "run", run)
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(cards))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(cards))
        monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda d: f"Card {d.index}")
        monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
        monkeypatch.setattr(torch, "ones", ones)
        return chosen

    return build


def test_the_idlest_gpu_is_taken_and_only_that_one(machine):
    chosen = machine([("a", 9000, 95), ("b", 12, 0), ("c", 300, 60)])
    picked, why = device.pick()
    assert picked == torch.device("cuda", 1) and chosen == [torch.device("cuda", 1)]
    assert why == "Card 1, the idlest of 3"


@pytest.mark.parametrize("uuid", ["a", "broken"])
def test_a_gpu_that_fails_its_first_operation_is_passed_over(machine, uuid):
    machine([(uuid, 0, 0), ("b", 500, 0)], fails=[0])
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
    answer = SimpleNamespace(stdout="0, MIG-1, A100 MIG 1g, [N/A], 5000, [Not Supported], [N/A]\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
    (gpu,) = device.gpus()
    assert gpu["uuid"] == "MIG-1" and gpu["name"] == "A100 MIG 1g" and gpu["memory.total"] == 5000
    assert gpu["memory.used"] == "[N/A]" and gpu["utilization.gpu"] == "[Not Supported]"


# ---- the report ------------------------------------------------------------------------------------------------------

TWO = "0, GPU-a, Tesla T4, 9000, 15360, 95, 71\n1, GPU-b, Tesla T4, 630, 15360, 0, 41\n"


@pytest.fixture
def driver(monkeypatch):
    """Build a pretended driver: what it answers on GPUs and on processes, whose these are, and the GPU that is ours."""

    def build(cards, processes="", owners=(), ours=None):
        owners = {os.getpid(): "me"} | dict(owners)

        def run(command, **_):
            return SimpleNamespace(stdout=cards if "--query-gpu" in command[1] else processes)

        def process(pid=None):
            pid = pid or os.getpid()
            if pid not in owners:
                raise psutil.NoSuchProcess(pid)
            return SimpleNamespace(username=lambda: owners[pid])

        monkeypatch.setattr(subprocess, "run", run)
        monkeypatch.setattr(psutil, "Process", process)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: ours is not None)
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: ours is not None)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: SimpleNamespace(uuid=ours))
        return device.report()

    return build


def test_the_report_names_gpus_processes_owners_and_the_gpu_that_is_ours(driver):
    text = driver(
        TWO,
        f"GPU-a, 71, 8100\nGPU-b, {os.getpid()}, 300\nGPU-b, 72, 320\n",
        owners={71: "a colleague", 72: "me"},
        ours="b",
    )
    assert text.splitlines() == [
        "GPU 0, Tesla T4: 9,000 of 15,360 MiB in use, 95 % busy, 71 °C.",
        "    a colleague, process 71: 8,100 MiB",
        "GPU 1, Tesla T4: 630 of 15,360 MiB in use, 0 % busy, 41 °C. <- taken by this notebook",
        f"    this notebook, process {os.getpid()}: 300 MiB",
        "    you, process 72: 320 MiB",
    ]


def test_the_report_in_a_container_says_what_cannot_be_seen(driver):
    lines = driver(TWO, "GPU-b, 71, 500\n", ours="b").splitlines()
    assert lines[1:3] == [
        "    no process is shown on it",
        "    9,000 MiB belong to processes that cannot be seen from here, as is usual in a container",
    ]
    assert lines[-1] == "    somebody, process 71: 500 MiB"


def test_the_report_leaves_out_what_the_driver_does_not_tell(driver):
    slice_ = "0, MIG-1, A100 MIG 1g, [N/A], 5000, [Not Supported], [N/A]\n"
    lines = driver(slice_, "MIG-1, [N/A], [N/A]\n", ours="other").splitlines()
    assert lines == [
        "GPU 0, A100 MIG 1g: the driver gives no figures.",
        "    somebody, process [N/A]: memory of unknown size",
    ]
    assert "12 °C." in driver("0, GPU-a, Card, [N/A], [N/A], [N/A], 12\n", ours="other")


def test_the_report_says_that_torch_cannot_use_the_gpus(driver):
    assert driver(TWO).endswith("This notebook runs on the CPU: its torch cannot use what the driver shows.")


@pytest.mark.parametrize("error", [FileNotFoundError(SMI), PermissionError(SMI), subprocess.TimeoutExpired(SMI, 20)])
def test_the_report_without_a_driver(monkeypatch, error):
    def run(*_, **__):
        raise error

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no GPU is to be seen from here" in device.report() and "CPU" in device.report()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Card")
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 3 * 2**20)
    assert "(Card), and this notebook holds 3 MiB" in device.report()
