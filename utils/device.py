"""Where the work is done: one idle GPU that has proven that it works, else the CPU, with the reason."""

import gc
import os
import subprocess

import psutil
import torch

__all__ = ["free_memory", "gpus", "pick", "report"]

_FIGURES = ("memory.used", "memory.total", "utilization.gpu", "temperature.gpu")  # as nvidia-smi names them
_BUSY_MIB = 1000  # a GPU on which others hold more than this is in use (an idle one shows a few MiB of driver)


def _ask(what: str, fields: str) -> list[dict]:
    """The rows of one `nvidia-smi --query-...`, whole numbers as such. [] where no driver answers (torch's own word decides then)."""
    command = ["nvidia-smi", f"--query-{what}={fields}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):  # not there, may not be run, fails, takes too long
        return []
    rows = ([part.strip() for part in line.split(",")] for line in answer.strip().splitlines())
    return [dict(zip(fields.split(","), (int(x) if x.isdigit() else x for x in row), strict=False)) for row in rows]


def gpus() -> list[dict]:
    """Every GPU that the driver shows, with nvidia-smi's names: index, uuid, name, "memory.used" and "memory.total" (MiB),
    "utilization.gpu" (%), "temperature.gpu" (°C). A figure that the driver does not tell stays its text, "[N/A]".

    Asked of ``nvidia-smi`` rather than of torch, which would take a few hundred MiB on every GPU that it looks at.
    """
    return _ask("gpu", ",".join(("index", "uuid", "name", *_FIGURES)))


def _number(value) -> int:
    return value if isinstance(value, int) else 0  # "[N/A]", on shared slices


def _by_idleness() -> list[int]:
    """torch's GPU numbers, the idlest first. CUDA_VISIBLE_DEVICES may hide or reorder GPUs, so they are told by uuid."""
    state = {gpu["uuid"].removeprefix("GPU-"): gpu for gpu in gpus()}

    def load(number: int) -> tuple:
        try:
            gpu = state.get(str(getattr(torch.cuda.get_device_properties(number), "uuid", "")), {})
        except RuntimeError:  # broken: its first operation will say how
            gpu = {}
        used, busy = _number(gpu.get("memory.used")), _number(gpu.get("utilization.gpu"))
        return used > _BUSY_MIB, busy > 10, used, number

    return sorted(range(torch.cuda.device_count()), key=load)


def pick() -> tuple[torch.device, str]:
    """(device, why): one idle GPU and only one, else the CPU.

    ``torch.cuda.is_available()`` is not enough: a P100 says yes and then has no kernels in today's builds, a full GPU says
    yes and then has no memory. So one tiny operation must succeed first.
    """
    if not torch.cuda.is_available():
        reason = "a GPU is there, but its driver does not suit this torch" if gpus() else "no GPU found"
        return torch.device("cpu"), reason if torch.version.cuda else "this torch is a build without GPU support"
    order, reason = _by_idleness(), ""
    for number in order:
        device = torch.device("cuda", number)
        try:
            worked = (torch.ones(8, 8, device=device) @ torch.ones(8, 8, device=device)).sum().item() == 512
        except RuntimeError as error:  # torch.OutOfMemoryError is one too
            worked, reason = False, str(error).splitlines()[0]
        if worked:
            torch.cuda.set_device(device)
            others = f", the idlest of {len(order)}" if len(order) > 1 else ""
            return device, f"{torch.cuda.get_device_name(device)}{others}"
    return torch.device("cpu"), f"the GPU failed a tiny operation: {reason or 'wrong result'}"


def free_memory() -> None:
    """Give back the GPU memory that nothing uses any more (delete your models first)."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def report() -> str:
    """Who is using what, live: each GPU with its memory, load and temperature, and the processes on it with their owners.

    In plain sentences, a line each. What the driver does not tell ("[N/A]") is left out or said to be unknown; where there
    is no driver, the sentences say what is known all the same. Needs no GPU and takes no memory on one.
    """
    if not (cards := gpus()):
        return _report_without_driver()
    processes, ours, lines = _ask("compute-apps", "gpu_uuid,pid,used_memory"), _our_gpu(), []
    for card in cards:
        used, total, busy, warm = (card[name] for name in _FIGURES)
        known = [f"{used:,} of {total:,} MiB in use"] if isinstance(used, int) and isinstance(total, int) else []
        known += [f"{busy} % busy"] if isinstance(busy, int) else []
        known += [f"{warm} °C"] if isinstance(warm, int) else []
        taken = " <- taken by this notebook" if ours and ours == card["uuid"].removeprefix("GPU-") else ""
        lines.append(
            f"GPU {card['index']}, {card['name']}: {', '.join(known) or 'the driver gives no figures'}.{taken}"
        )
        here = [
            (process["pid"], process["used_memory"]) for process in processes if process["gpu_uuid"] == card["uuid"]
        ]
        for pid, mib in here:
            size = f"{mib:,} MiB" if isinstance(mib, int) else "memory of unknown size"
            lines.append(f"    {_owner(pid)}, process {pid}: {size}")
        if not here:
            lines.append("    no process is shown on it")
        unseen = _number(used) - sum(_number(mib) for _, mib in here)
        if unseen > _BUSY_MIB and all(isinstance(mib, int) for _, mib in here):
            lines.append(
                f"    {unseen:,} MiB belong to processes that cannot be seen from here, as is usual in a container"
            )
    if not torch.cuda.is_available():
        lines.append("This notebook runs on the CPU: its torch cannot use what the driver shows.")
    return "\n".join(lines)


def _report_without_driver() -> str:
    if torch.cuda.is_available():
        name, held = torch.cuda.get_device_name(), torch.cuda.memory_reserved() / 2**20
        return (
            f"torch can use a GPU ({name}), and this notebook holds {held:,.0f} MiB of it. nvidia-smi does not answer, so of "
            "other people's processes nothing is known from here: ask before you take much."
        )
    return (
        "No NVIDIA driver answers: no GPU is to be seen from here, so there is none to share. "
        f"This notebook computes on the CPU, with {torch.get_num_threads()} threads, and takes nothing from anybody's GPU."
    )


def _our_gpu() -> str:
    """The uuid of the GPU on which this process works, "" where it works on none (asking must not take one)."""
    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):
        return ""
    return str(getattr(torch.cuda.get_device_properties(torch.cuda.current_device()), "uuid", ""))


def _owner(pid: int | str) -> str:
    if pid == os.getpid():
        return "this notebook"
    try:
        owner = psutil.Process(int(pid)).username()
        return "you" if owner == psutil.Process().username() else owner
    except (psutil.Error, ValueError):  # a process that cannot be seen from here, a number that is "[N/A]"
        return "somebody"
