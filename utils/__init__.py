"""The small shared module of the course. CONTRIBUTING.md has the map: which room holds what.

Every notebook begins with ``device = utils.start()``.
"""

import os
import random
import warnings

import numpy as np
import torch
import torchvision

from utils import datasets, figures, lessons
from utils.device import pick

__all__ = ["seed_all", "start"]


def start(seed: int | None = None) -> torch.device:
    """Seed everything, pick the device, set the figures' style, count claims anew; print one line that says what was chosen.

    seed: default the environment's COURSE_SEED, else 0. Raises ValueError for an unusable COURSE_SEED or COURSE_DATA.
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
    print(f"device: {str(device).upper()} ({reason}) · {datasets.source_line()} · seed {seed} · {versions}")
    return device


def seed_all(seed: int) -> None:
    """Seed Python's, NumPy's and torch's random numbers, and ask CUDA for repeatable algorithms."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    if torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read by cuBLAS at its first use
        torch.backends.cudnn.benchmark = False
        # A few backward passes (adaptive pooling, bilinear) have no repeatable version on CUDA: they run all the same,
        # and a warning at each would only frighten.
        torch.use_deterministic_algorithms(True, warn_only=True)
        warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation")
