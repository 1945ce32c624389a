"""Trains the generators that notebook 09 draws from: python -m tools.gans heads outlines  (about 20 minutes, one core)

They are the notebook's own: networks, losses and the game come from its cells that are tagged "measure". Each is
written to data/gan_NAME.pt (float16, averaged weights), with its record data/gan_NAME.json. A training of heads that is
stopped goes on from checkpoints/gan_heads.pt, and ends as one that was not.
"""

import argparse
import hashlib
import inspect
import json
import platform
import time
from datetime import date
from pathlib import Path

import torch

from tools import fingerprint, measure_tables
from tools.build import ROOT
from utils.exercises import gans as exercises

CHECKPOINT = ROOT / "checkpoints/gan_heads.pt"
PARTS = "generator", "discriminator", "average", "g_optimizer", "d_optimizer"
EVERY = 500  # steps from one checkpoint to the next


def code() -> str:
    """The fingerprint of the code that decides the results."""
    texts = [cell.source for cell in measure_tables.taught("09")]
    texts += [inspect.getsource(exercises.any_generator.reference), Path(__file__).read_text(encoding="utf-8")]
    essences = [fingerprint.essence(text) for text in texts]
    return hashlib.sha256("\n".join([*essences, *fingerprint.shared()]).encode()).hexdigest()[:8]


def train_heads(lesson) -> tuple[dict, float]:
    """({name: average generator}, seconds): the heads of drawn animals."""
    stored = torch.load(CHECKPOINT, weights_only=True) if CHECKPOINT.exists() else {"step": 0, "seconds": 0.0}
    step, seconds = stored["step"], stored["seconds"]
    heads = lesson.training_heads() if step < lesson.HEADS_STEPS else None
    torch.manual_seed(0)
    gan = lesson.large_gan()
    for network in (gan.generator, gan.discriminator, gan.average):
        network.to(memory_format=torch.channels_last)  # faster
    if step:
        for name in PARTS:
            getattr(gan, name).load_state_dict(stored[name])
        torch.set_rng_state(stored["random"])
    CHECKPOINT.parent.mkdir(exist_ok=True)
    while step < lesson.HEADS_STEPS:
        start = time.perf_counter()
        losses = lesson.play(gan, EVERY, [heads], progress=None)
        step, seconds = step + EVERY, seconds + time.perf_counter() - start
        states = {name: getattr(gan, name).state_dict() for name in PARTS}
        states |= {"random": torch.get_rng_state(), "step": step, "seconds": seconds}
        torch.save(states, scratch := CHECKPOINT.with_suffix(".tmp"))
        scratch.replace(CHECKPOINT)
        print(f"step {step:,}: losses {losses.mean(dim=1).tolist()}, {seconds:.0f} s", flush=True)
    return {"heads": gan.average.module}, seconds


def train_outlines(lesson) -> tuple[dict, float]:
    """({name: average generator}, seconds): outlines to animals, with the discriminator and without."""
    start = time.perf_counter()
    pairs, weights = lesson.draw_pairs(lesson.NUM_PAIRS), {"with D": 1.0, "L1 alone": 0.0}
    found = {name: lesson.train_pix2pix(pairs, weight, seed=0).average.module for name, weight in weights.items()}
    return found, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", choices=["heads", "outlines"])
    torch.set_num_threads(1)
    for name in parser.parse_args().names:
        lesson = measure_tables.lesson("09")
        generators, seconds = {"heads": train_heads, "outlines": train_outlines}[name](lesson)
        out = ROOT / f"data/gan_{name}.pt"
        torch.save({key: each.half().state_dict() for key, each in generators.items()}, out)
        record = {
            "command": f"python -m tools.gans {name}",
            "date": f"{date.today()}",
            "parameters": {key: lesson.num_parameters(each) for key, each in generators.items()},
            "seconds": round(seconds),
            "versions": {"python": platform.python_version(), "torch": torch.__version__.split("+")[0]},
            "code": code(),
            "sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
        }
        out.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
