"""Picking a device and reporting on it, with the GPUs of other people's machines played by stand-ins."""

import os
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest
import torch

from tools.build import ROOT
from utils import device

SMI = "nvidia-smi"


@pytest.fixture
def machine(monkeypatch):
    """Build a pretended machine: cards = list of (uuid, used MiB, busy %), fails = numbers whose first operation fails,
    kind = what torch's accelerator is, None for a build without any. Returns the list of what opening CUDA will do."""

    def build(cards, fails=(), driver=True, kind="cuda", torch_sees=True):
        def run(command, **_):
            if command[0] == sys.executable:  # the process in which the GPU proves itself
                proving.append(command)
                try:
                    return SimpleNamespace(returncode=0, stdout="\n".join(device._prove(command[-1])), stderr="")
                except SystemExit as error:
                    return SimpleNamespace(returncode=1, stdout="", stderr=f"{error}\n")
                finally:
                    proving.pop()
            if not driver:
                raise FileNotFoundError(SMI)
            lines = [f"{i}, GPU-{uuid}, Card, {used}, 16000, {busy}, 40" for i, (uuid, used, busy) in enumerate(cards)]
            return SimpleNamespace(stdout="\n".join(lines) + "\n")

        def ones(*shape, device):
            assert proving, "the GPU was opened in this process"
            if torch.device(device).index in fails:
                raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore")
            return torch.full(shape, 1.0)

        def properties(number):
            if cards[number][0] == "broken":
                raise RuntimeError("CUDA error: unknown error")
            return SimpleNamespace(uuid=cards[number][0])

        def accelerator(check_available=False):
            return torch.device(kind) if kind and (torch_sees or not check_available) else None

        at_opening, proving = [], []
        monkeypatch.setattr(subprocess, "run", run)
        monkeypatch.setattr(torch.accelerator, "current_accelerator", accelerator)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(cards))
        monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda name: f"Card {name}")
        monkeypatch.setattr(torch.cuda, "_lazy_call", at_opening.append)
        monkeypatch.setattr(torch, "ones", ones)
        return at_opening

    device._proven.cache_clear()
    yield build
    device._proven.cache_clear()


def test_the_idlest_gpu_is_taken_and_only_that_one(machine, monkeypatch):
    at_opening, chosen = machine([("a", 9000, 95), ("b", 12, 0), ("c", 300, 60)]), []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert device.pick() == (torch.device("cuda", 1), "Card cuda:1, the idlest of 3")
    (opening,) = at_opening
    opening()
    assert chosen == ["cuda:1"]


@pytest.mark.parametrize(
    "cards, idlest",
    [([("a", 12, 95), ("b", 300, 0)], 1), ([("a", 1200, 0), ("b", 900, 50)], 1), ([("a", 300, 2), ("b", 200, 9)], 1)],
)
def test_idle_is_first_what_is_not_full_then_what_does_not_compute_then_what_is_emptier(machine, cards, idlest):
    machine(cards)
    assert device.pick()[0] == torch.device("cuda", idlest)


def test_a_gpu_that_was_picked_stays_picked(machine):
    machine([("a", 0, 0), ("b", 500, 0)])
    assert device.pick()[0] == torch.device("cuda", 0)
    machine([("a", 8000, 90), ("b", 500, 0)])  # busy by now: with this notebook's own work
    assert device.pick()[0] == torch.device("cuda", 0)


@pytest.mark.parametrize("uuid", ["a", "broken"])
def test_a_gpu_that_fails_its_first_operation_is_passed_over(machine, uuid):
    machine([(uuid, 0, 0), ("b", 500, 0)], fails=[0])
    assert device.pick()[0] == torch.device("cuda", 1)


def test_where_every_gpu_fails_the_cpu_is_taken_and_the_reason_said(machine):
    at_opening = machine([("p100", 0, 0)], fails=[0])
    picked, why = device.pick()
    assert picked.type == "cpu" and not at_opening
    assert (
        why == "the GPU failed a tiny operation: CUDA error: no kernel image is available for execution on the device"
    )
    machine([("p100", 0, 0)])  # after a failure it is tried again
    assert device.pick()[0].type == "cuda"


def test_a_gpu_that_takes_its_process_along_does_not_take_this_one(machine, monkeypatch):
    machine([("a", 0, 0)])
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=-6, stdout="", stderr=""))
    assert device.pick() == (torch.device("cpu"), "the GPU failed a tiny operation: it ended the process")


def test_without_nvidia_smi_torch_alone_decides(machine):
    machine([("a", 0, 0), ("b", 0, 0)], driver=False)
    assert device.pick()[0] == torch.device("cuda", 0)


@pytest.mark.parametrize("kind", [None, "cuda"])
def test_no_gpu(machine, kind):
    machine([], kind=kind, torch_sees=False)
    assert device.pick() == (torch.device("cpu"), "no GPU found")


@pytest.mark.parametrize("kind", [None, "cuda"])  # a build for the CPU, a driver that is too old
def test_a_gpu_whose_driver_does_not_suit(machine, kind):
    machine([("a", 0, 0)], kind=kind, torch_sees=False)
    sentence = f"torch {torch.__version__} does not suit the GPU's driver"
    assert device.pick() == (torch.device("cpu"), sentence)


# ---- COURSE_DEVICE ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mps", "xpu"])
def test_a_gpu_that_the_course_is_not_tested_on_is_told_and_can_be_tried(machine, monkeypatch, kind):
    at_opening = machine([], kind=kind, driver=False)
    sentence = f"a GPU was seen, but the course is tested on the CPU; COURSE_DEVICE={kind} tries it"
    assert device.pick() == (torch.device("cpu"), sentence)
    monkeypatch.setenv("COURSE_DEVICE", kind)
    assert device.pick() == (torch.device(kind), f"COURSE_DEVICE={kind}")
    assert not at_opening


def test_course_device_chooses(machine, monkeypatch):
    machine([("a", 0, 0)])
    for value, expected in {"": "cuda", "auto": "cuda", "cuda": "cuda", "cpu": "cpu"}.items():
        monkeypatch.setenv("COURSE_DEVICE", value)
        assert device.pick()[0].type == expected
    assert device.pick()[1] == "COURSE_DEVICE=cpu"


@pytest.mark.parametrize("value", ["gpu", "CUDA", "cuda:1"])
def test_an_unknown_device_is_told_in_a_sentence(monkeypatch, value):
    monkeypatch.setenv("COURSE_DEVICE", value)
    with pytest.raises(ValueError, match=f"COURSE_DEVICE='{value}': expected auto, cpu, cuda, mps or xpu."):
        device.pick()


@pytest.mark.parametrize(
    "value, cards, kind, reason",
    [
        ("cuda", [], "cuda", "no GPU found"),
        ("cuda", [("p100", 0, 0)], "cuda", "the GPU failed a tiny operation: CUDA error: no kernel image"),
        (
            "mps",
            [("a", 0, 0)],
            "cuda",
            "a GPU was seen, but the course is tested on the CPU; COURSE_DEVICE=cuda tries it",
        ),
        ("xpu", [], "mps", "a GPU was seen, but the course is tested on the CPU; COURSE_DEVICE=mps tries it"),
    ],
)
def test_a_device_that_cannot_be_used_is_told_in_a_sentence(machine, monkeypatch, value, cards, kind, reason):
    machine(cards, fails=[0], kind=kind, torch_sees=bool(cards) or kind != "cuda")
    monkeypatch.setenv("COURSE_DEVICE", value)
    with pytest.raises(RuntimeError, match=f"^COURSE_DEVICE={value} cannot be used here: {reason}"):
        device.pick()


@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu"])
def test_memory_is_freed_on_the_gpu_that_torch_has(machine, monkeypatch, kind):
    machine([], kind=kind)
    freed = []
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch, "get_device_module", lambda: getattr(torch, kind))
    monkeypatch.setattr(getattr(torch, kind), "empty_cache", lambda: freed.append(kind))
    device.free_memory()
    assert freed == [kind]


def test_an_optimizer_on_the_cpu_asks_no_gpu(monkeypatch):
    def opened(*_):
        raise AssertionError("the GPU was opened")

    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.ones(2)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "current_stream", opened)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    torch.optim.Adam([weight]).step()
    assert weight[0] < 1


# ---- on a GPU, real or pretended -------------------------------------------------------------------------------------


def answers(code: str, **settings: str) -> list[str]:
    """What a fresh process prints."""
    environment = os.environ | {"COURSE_DATA": "critters"} | settings
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.gpu
def test_start_opens_no_gpu_before_its_first_use():
    code = """
import torch, utils
from utils.device import free_memory, report
device = utils.start()
utils.seed_all(3)
report(), free_memory()
weight = torch.nn.Parameter(torch.ones(2))
weight.sum().backward()
torch.optim.Adam([weight]).step()
print(torch.cuda.is_initialized(), torch.cuda.memory_reserved(device))
torch.ones(2, device=device)
print(torch.cuda.is_initialized(), torch.cuda.memory_reserved(device) > 0)"""
    banner, before, after = answers(code)
    assert banner.startswith("device: CUDA:") and before == "False 0" and after == "True True"


@pytest.mark.gpu
def test_cuda_without_a_number_is_the_gpu_that_was_picked_and_no_other_is_opened():
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    code = """
import torch, utils
from utils import device
device._proven = lambda kind: ("cuda:1", "played")
picked = utils.start()
torch.cuda.synchronize()
print(torch.ones(2, device="cuda").device, torch.cuda.current_device())
print([torch.cuda.memory_reserved(number) > 0 for number in range(2)])"""
    assert answers(code)[1:] == ["cuda:1 1", "[False, True]"]


@pytest.mark.gpu
def test_course_device_cpu_leaves_the_gpu_alone():
    code = "import torch, utils; print(utils.start().type, torch.cuda.is_initialized())"
    assert answers(code, COURSE_DEVICE="cpu")[-1] == "cpu False"


# ---- the report ------------------------------------------------------------------------------------------------------

TWO = "0, GPU-a, Tesla T4, 9000, 15360, 95, 71\n1, GPU-b, Tesla T4, 630, 15360, 0, 41\n"
IDLE = "0, GPU-a, Tesla T4, 12, 15360, 0, 30\n"


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
        "GPU 0, Tesla T4: 9000 of 15360 MiB, 95 % busy, 71 °C",
        "    a colleague, process 71: 8100 MiB",
        "GPU 1, Tesla T4: 630 of 15360 MiB, 0 % busy, 41 °C <- taken by this notebook",
        f"    you, process {os.getpid()}: 300 MiB",
        "    you, process 72: 320 MiB",
    ]


def test_the_report_in_a_container_says_what_cannot_be_seen(driver):
    lines = driver(TWO, "GPU-b, 71, 500\n", ours="b").splitlines()
    assert lines[1] == "    whose that memory is cannot be seen from here, as is usual in a container"
    assert lines[-1] == "    somebody, process 71: 500 MiB"
    assert driver(IDLE, ours="a") == "GPU 0, Tesla T4: 12 of 15360 MiB, 0 % busy, 30 °C <- taken by this notebook"


def test_the_report_leaves_what_the_driver_does_not_tell_in_its_words(driver):
    slice_ = "0, MIG-1, A100 MIG 1g, [N/A], 5000, [Not Supported], [N/A]\n"
    assert driver(slice_, "MIG-1, [N/A], [N/A]\n", ours="other").splitlines() == [
        "GPU 0, A100 MIG 1g: [N/A] of 5000 MiB, [Not Supported] % busy, [N/A] °C",
        "    somebody, process [N/A]: [N/A] MiB",
    ]


def test_the_report_says_that_this_notebook_holds_none(driver):
    assert driver(TWO).endswith("This notebook holds none of them: a GPU is opened when the first tensor is put there.")


@pytest.mark.parametrize("error", [FileNotFoundError(SMI), PermissionError(SMI), subprocess.TimeoutExpired(SMI, 20)])
def test_the_report_without_a_driver(monkeypatch, error):
    def run(*_, **__):
        raise error

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert device.report() == "No NVIDIA driver answers: no GPU is to be seen from here."
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    assert device.report() == "No NVIDIA driver answers: torch sees a GPU, and who uses it cannot be seen from here."
