"""Where the work is done: one idle GPU that has proven that it works, else the CPU, with the reason."""

import functools
import gc
import os
import subprocess
import sys

import psutil
import torch

__all__ = ["free_memory", "gpus", "pick", "platform", "report"]

_FIGURES = ("memory.used", "memory.total", "utilization.gpu", "temperature.gpu")  # as nvidia-smi names them
_BUSY_MIB = 1000  # a GPU on which others hold more than this is in use (an idle one shows a few MiB of driver)

# In torch 2.14 Adam asks the GPU whether it records a graph, also where it trains on the CPU, and so would open it.
_asks = getattr(torch.optim.Optimizer, "_accelerator_graph_capture_health_check", lambda optimizer: None)
torch.optim.Optimizer._accelerator_graph_capture_health_check = lambda o: torch.cuda.is_initialized() and _asks(o)


def platform() -> str:
    """ "kaggle", "colab" or "other". Kaggle first: it has Colab's modules too."""
    on_kaggle, on_colab = os.environ.get("KAGGLE_KERNEL_RUN_TYPE"), "google.colab" in sys.modules
    return "kaggle" if on_kaggle else "colab" if on_colab else "other"


def _ask(what: str, fields: str) -> list[dict]:
    """The rows of one `nvidia-smi --query-...`, whole numbers as such. [] where no driver answers."""
    command = ["nvidia-smi", f"--query-{what}={fields}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):  # not there, may not be run, fails, takes too long
        return []
    rows = ([part.strip() for part in line.split(",")] for line in answer.strip().splitlines())
    return [dict(zip(fields.split(","), (int(x) if x.isdigit() else x for x in row), strict=False)) for row in rows]


def gpus() -> list[dict]:
    """Every GPU that the driver shows, by nvidia-smi's names, in MiB, % and °C. What it does not tell stays "[N/A]"."""
    return _ask("gpu", ",".join(("index", "uuid", "name", *_FIGURES)))


def pick() -> tuple[torch.device, str]:
    """(device, why), as COURSE_DEVICE asks: cpu, cuda, mps, xpu; auto, the default: one idle NVIDIA GPU, else the CPU.

    A GPU proves itself in another process: none is opened here early. From then on "cuda" means the one picked, only.
    Raises ValueError for another COURSE_DEVICE, RuntimeError where the device that it names cannot be used.
    """
    asked = os.environ.get("COURSE_DEVICE") or "auto"
    if asked not in ("auto", "cpu", "cuda", "mps", "xpu"):
        raise ValueError(f"COURSE_DEVICE={asked!r}: expected auto, cpu, cuda, mps or xpu.")
    if asked == "cpu":
        return torch.device("cpu"), "COURSE_DEVICE=cpu"
    try:
        device, why = _proven("cuda" if asked == "auto" else asked)
    except RuntimeError as error:
        if asked == "auto":
            return torch.device("cpu"), str(error)
        raise RuntimeError(f"COURSE_DEVICE={asked} cannot be used here: {error}.") from None
    if device.startswith("cuda"):
        torch.cuda._lazy_call(functools.partial(torch.cuda.set_device, device))  # done when CUDA is opened
    return torch.device(device), why


@functools.cache  # the GPU that was picked stays picked; of an error nothing is kept
def _proven(kind: str) -> tuple[str, str]:
    """What `_prove` finds in a process of its own. Raises RuntimeError with the reason where no GPU works."""
    seen = torch.accelerator.current_accelerator(check_available=True)
    if seen is None:
        raise RuntimeError(f"torch {torch.__version__} does not suit the GPU's driver" if gpus() else "no GPU found")
    if seen.type != kind:
        raise RuntimeError(f"a GPU was seen, but the course is tested on the CPU; COURSE_DEVICE={seen.type} tries it")
    tried = subprocess.run([sys.executable, "-P", __file__, kind], capture_output=True, text=True)
    if tried.returncode:
        reason = (tried.stderr.strip() or "it ended the process").splitlines()[-1]
        raise RuntimeError(f"the GPU failed a tiny operation: {reason}")
    return tuple(tried.stdout.splitlines()[-2:])


def _prove(kind: str) -> tuple[str, str]:
    """(device, why): the idlest GPU on which one tiny operation succeeds. Exits with the reason where none does.
    torch's word is not enough: a P100 is "available" and has no kernels in today's builds, a full GPU has no memory."""
    order, reason = _by_idleness() if kind == "cuda" else [kind], "wrong result"
    for device in order:
        try:
            if (torch.ones(8, 8, device=device) @ torch.ones(8, 8, device=device)).sum().item() == 512:
                name = torch.cuda.get_device_name(device) if kind == "cuda" else f"COURSE_DEVICE={kind}"
                return device, name + (f", the idlest of {len(order)}" if len(order) > 1 else "")
        except RuntimeError as error:  # torch.OutOfMemoryError is one too
            reason = str(error).splitlines()[0]
    sys.exit(reason)


def _by_idleness() -> list[str]:
    """torch's GPUs, the idlest first. CUDA_VISIBLE_DEVICES may hide or reorder GPUs, so they are told by uuid."""
    state = {gpu["uuid"].removeprefix("GPU-"): gpu for gpu in gpus()}

    def load(number: int) -> tuple:  # what is not told, "[N/A]" on shared slices, counts as 0
        try:
            gpu = state.get(str(getattr(torch.cuda.get_device_properties(number), "uuid", "")), {})
        except RuntimeError:  # broken: its first operation will say how
            gpu = {}
        used, busy = (v if isinstance(v := gpu.get(key), int) else 0 for key in ("memory.used", "utilization.gpu"))
        return used > _BUSY_MIB, busy > 10, used, number

    return [f"cuda:{number}" for number in sorted(range(torch.cuda.device_count()), key=load)]


def free_memory() -> None:
    """Give back the GPU memory that nothing uses any more (delete your models first)."""
    gc.collect()
    if torch.accelerator.is_available():
        torch.get_device_module().empty_cache()  # torch.accelerator.empty_cache() fails on Macs (pytorch #186430)


def report() -> str:
    """Who is using what, live: each GPU with its memory, load and temperature, and the processes on it with their
    owners, a line each. Where no driver answers, a sentence says what is known all the same. Opens no GPU."""
    if not (cards := gpus()):
        seen = "torch sees a GPU, and who uses it cannot be" if torch.accelerator.is_available() else "no GPU is to be"
        return f"No NVIDIA driver answers: {seen} seen from here."
    processes, ours, lines = _ask("compute-apps", "gpu_uuid,pid,used_memory"), "none", []
    if torch.cuda.is_initialized():  # asking must not open a GPU
        ours = str(getattr(torch.cuda.get_device_properties(torch.cuda.current_device()), "uuid", ""))
    for card in cards:
        used, total, busy, warm = (card[name] for name in _FIGURES)
        taken = " <- taken by this notebook" if ours == card["uuid"].removeprefix("GPU-") else ""
        lines.append(f"GPU {card['index']}, {card['name']}: {used} of {total} MiB, {busy} % busy, {warm} °C{taken}")
        here = [process for process in processes if process["gpu_uuid"] == card["uuid"]]
        lines += [f"    {_owner(p['pid'])}, process {p['pid']}: {p['used_memory']} MiB" for p in here]
        if not here and isinstance(used, int) and used > _BUSY_MIB:
            lines.append("    whose that memory is cannot be seen from here, as is usual in a container")
    if ours == "none":
        lines.append("This notebook holds none of them: a GPU is opened when the first tensor is put there.")
    return "\n".join(lines)


def _owner(pid: int | str) -> str:
    try:
        owner = psutil.Process(int(pid)).username()
        return "you" if owner == psutil.Process().username() else owner
    except (psutil.Error, ValueError):  # a process that cannot be seen from here, a number that is "[N/A]"
        return "somebody"


if __name__ == "__main__":  # the process in which a GPU proves itself
    print(*_prove(sys.argv[1]), sep="\n")
