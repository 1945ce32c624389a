"""Where the work is done: one idle GPU that has proven that it works, else the CPU, with the reason."""

import gc
import subprocess

import torch

__all__ = ["free_memory", "gpus", "pick"]

_BUSY_MIB = 1000  # a GPU on which others hold more than this is in use (an idle one shows a few MiB of driver)


def gpus() -> list[dict]:
    """Every GPU that the driver shows: uuid, name, used_mib, total_mib, busy_percent. Empty without an NVIDIA driver.

    Asked of ``nvidia-smi`` rather than of torch, which would take a few hundred MiB on every GPU that it looks at.
    """
    query = "uuid,name,memory.used,memory.total,utilization.gpu"
    try:
        answer = subprocess.run(
            ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
    except (FileNotFoundError, subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return []  # no driver, or one that does not answer: torch's own word decides in pick()
    found = []
    for line in answer.stdout.strip().splitlines():
        uuid, name, used, total, busy = (part.strip() for part in line.split(","))
        numbers = [int(part) if part.isdigit() else 0 for part in (used, total, busy)]  # "[N/A]" on shared slices
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
