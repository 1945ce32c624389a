"""Where the work is done: one idle GPU that has proven that it works, else the CPU, with the reason."""

import gc
import os
import subprocess

import psutil
import torch

__all__ = ["free_memory", "gpus", "pick", "report"]

_BUSY_MIB = 1000  # a GPU on which others hold more than this is in use (an idle one shows a few MiB of driver)


def _ask(what: str, fields: str) -> list[list[str]]:
    """The rows of one `nvidia-smi --query-...`, as texts. Empty where no driver answers (torch's own word decides then)."""
    try:
        answer = subprocess.run(
            ["nvidia-smi", f"--query-{what}={fields}", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
    except (FileNotFoundError, subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return []
    return [[part.strip() for part in line.split(",")] for line in answer.stdout.strip().splitlines()]


def gpus() -> list[dict]:
    """Every GPU that the driver shows: uuid, name, used_mib, total_mib, busy_percent. Empty without an NVIDIA driver.

    Asked of ``nvidia-smi`` rather than of torch, which would take a few hundred MiB on every GPU that it looks at.
    """
    found = []
    for uuid, name, *figures in _ask("gpu", "uuid,name,memory.used,memory.total,utilization.gpu"):
        numbers = [int(part) if part.isdigit() else 0 for part in figures]  # "[N/A]" on shared slices
        found.append(
            {"uuid": uuid, "name": name, "used_mib": numbers[0], "total_mib": numbers[1], "busy_percent": numbers[2]}
        )
    return found


def _by_idleness() -> list[int]:
    """torch's GPU numbers, the idlest first. CUDA_VISIBLE_DEVICES may hide or reorder GPUs, so they are told by uuid."""
    state = {gpu["uuid"].removeprefix("GPU-"): gpu for gpu in gpus()}

    def load(number: int) -> tuple:
        gpu = state.get(str(getattr(torch.cuda.get_device_properties(number), "uuid", "")))
        return (
            (gpu["used_mib"] > _BUSY_MIB, gpu["busy_percent"] > 10, gpu["used_mib"], number)
            if gpu
            else (False, False, 0, number)
        )

    return sorted(range(torch.cuda.device_count()), key=load)


def pick() -> tuple[torch.device, str]:
    """(device, why): one idle GPU and only one, else the CPU.

    ``torch.cuda.is_available()`` is not enough: a P100 says yes and then has no kernels in today's builds, a full GPU says
    yes and then has no memory. So one tiny operation must succeed first.
    """
    if not torch.cuda.is_available():
        if torch.version.cuda is None:
            return torch.device("cpu"), "this torch is a build without GPU support"
        return torch.device(
            "cpu"
        ), "no GPU found" if not gpus() else "a GPU is there, but its driver does not suit this torch"
    order = _by_idleness()
    reason = ""
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
    rows = _ask("gpu", "index,uuid,name,memory.used,memory.total,utilization.gpu,temperature.gpu")
    if not rows:
        return _report_without_driver()
    processes, ours, lines = _ask("compute-apps", "gpu_uuid,pid,used_memory"), _our_gpu(), []
    for index, uuid, name, used, total, busy, temperature in rows:
        known = [f"{int(used):,} of {int(total):,} MiB in use"] if used.isdigit() and total.isdigit() else []
        known += [f"{busy} % busy"] if busy.isdigit() else []
        known += [f"{temperature} °C"] if temperature.isdigit() else []
        taken = " <- taken by this notebook" if ours and ours == uuid.removeprefix("GPU-") else ""
        lines.append(f"GPU {index}, {name}: {', '.join(known) or 'the driver gives no figures'}.{taken}")
        here = [(pid, mib) for gpu, pid, mib in processes if gpu == uuid]
        for pid, mib in here:
            held = f"{int(mib):,} MiB" if mib.isdigit() else "memory of unknown size"
            lines.append(f"    {_owner(pid)}, process {pid}: {held}")
        seen = sum(int(mib) for _, mib in here if mib.isdigit())
        if not here:
            lines.append("    no process is shown on it")
        if used.isdigit() and int(used) - seen > _BUSY_MIB and all(mib.isdigit() for _, mib in here):
            lines.append(
                f"    {int(used) - seen:,} MiB belong to processes that cannot be seen from here, as is usual in a container"
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


def _owner(pid: str) -> str:
    if pid == str(os.getpid()):
        return "this notebook"
    try:
        owner = psutil.Process(int(pid)).username()
        return "you" if owner == psutil.Process().username() else owner
    except (psutil.Error, ValueError):  # a process that cannot be seen from here, a number that is "[N/A]"
        return "somebody"
