"""The small shared module of the course: every notebook begins with ``device = utils.start()``.
CONTRIBUTING.md has the map: which room holds what."""

import os

# Threads that wait for each other spin, and on a busy machine take the time of those that they wait for. So they spin
# less, unless the environment says how long (libgomp's default is 300,000 turns). Read when torch is loaded, so before.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")

import random
import warnings
from datetime import date

import numpy as np
import torch
import torchvision

from utils import datasets, figures, lessons
from utils.device import pick

__all__ = ["seed_all", "start"]


def start(seed: int | None = None) -> torch.device:
    """Seed everything, pick the device, set the figures' style, count claims anew; print one line on what was chosen.

    seed: default the environment's COURSE_SEED, else 0. Raises ValueError for an unusable COURSE_SEED, COURSE_DATA or
    COURSE_DEVICE, RuntimeError where the device that COURSE_DEVICE names cannot be used.
    """
    if seed is None:
        text = os.environ.get("COURSE_SEED") or "0"
        if not text.isdecimal() or len(text) > 9:  # torch and NumPy have limits of their own
            raise ValueError(f"COURSE_SEED={text!r}: expected a whole number such as 0 or 7, of nine digits at most.")
        seed = int(text)
    seed_all(seed)
    device, reason = pick()
    figures.set_style()
    lessons.begin()
    versions = f"torch {torch.__version__.split('+')[0]}, torchvision {torchvision.__version__.split('+')[0]}"
    head = (copy := datasets.cache.CHECKOUT) / ".git/HEAD"
    if copy.name.endswith("-main") and head.exists():  # the set-up cell's
        fetched = date.fromtimestamp(head.stat().st_mtime)
        print(f"The course's files were fetched on {fetched}. For newer ones rename the folder {copy}.")
    print(f"device: {str(device).upper()} ({reason}) · {datasets.source_line()} · seed {seed} · {versions}")
    return device


def seed_all(seed: int) -> None:
    """Seed Python's, NumPy's and torch's random numbers, and ask a GPU for repeatable algorithms. Opens no GPU."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    if torch.accelerator.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read by cuBLAS at its first use
        torch.backends.cudnn.benchmark = False
        # What has no repeatable version (a few backward passes) runs all the same, and its warning would only frighten.
        torch.use_deterministic_algorithms(True, warn_only=True)
        warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation")
        torch.utils.deterministic.fill_uninitialized_memory = False  # NaN where results are written at once: time lost
