"""Processes killed (SIGKILL) at random moments: while a checkpoint is written, and in the middle of training.

This file is also the script that is killed: run by itself it imports torch once and forks; fifty imports take minutes.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from utils import seed_all, training
from utils.checkpoints import Run
from utils.files import save_whole

ROOT = Path(__file__).parents[1]


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    if not hasattr(os, "fork"):
        pytest.skip("this system cannot fork")
    command = [sys.executable, __file__, str(tmp_path_factory.mktemp("killed"))]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_killed_at_fifty_random_moments_of_writing(found):
    """Each time the newest whole checkpoint is there, at least the last one that was said to be written."""
    assert len(found["writing"]) == 50
    for said, read, _ in found["writing"]:
        assert said <= read <= said + 1
    assert any(half for *_, half in found["writing"])  # some were killed in the middle of a file
    assert found["left"] == ["run.pt"]  # halves of files are tidied up


def test_killed_at_random_steps_and_resumed_equals_the_unbroken_run(found):
    assert len(found["training"]) == 10 and sum(kills for kills, _ in found["training"]) >= 20
    assert all(equal for _, equal in found["training"])


# ---- the script ------------------------------------------------------------------------------------------------------


def setup(seed: int) -> tuple:
    """A tiny training run with batch norm, dropout and shuffling, all of which depend on saved state."""
    seed_all(seed)
    layers = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(288, 2)
    model = nn.Sequential(*layers)
    images = torch.randn(96, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    loader = DataLoader(TensorDataset(images, (images.mean((1, 2, 3)) > 0).long()), batch_size=16, shuffle=True)
    return model, loader, torch.optim.AdamW(model.parameters(), lr=1e-2)


def run_of(seed: int) -> Run:
    model, loader, optimizer = setup(seed)
    return Run(model, optimizer, None, (loader,), bf16=False)


def in_a_fork(work) -> int:
    """The process id of a child that does the work and ends."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    finally:
        os._exit(0)


def kill_while_writing(path: Path, rng: random.Random) -> tuple[int, int, bool]:
    """(the last checkpoint that the child said to be written, the one that is found, whether half of one is there)."""
    told, tell = os.pipe()

    def write_many():
        run = run_of(0)
        for number in range(10_000):
            run.epoch = number
            save_whole(run.state(), path)
            os.write(tell, b".")

    child = in_a_fork(write_many)
    os.close(tell)
    said = -1
    for _ in range(rng.randrange(2, 4)):
        start = time.perf_counter()
        said += len(os.read(told, 1))
    time.sleep(rng.uniform(0, time.perf_counter() - start))  # about as long as one takes
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while more := os.read(told, 1000):
        said += len(more)
    os.close(told)
    half = any(path.parent.glob("*.part"))
    found = run_of(1)
    found.load(path)
    return said, found.epoch, half


class KilledAt:
    """A loader in whose k-th batch the process dies."""

    def __init__(self, loader, k: int):
        self.loader, self.left = loader, k

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        for batch in self.loader:
            if not self.left:
                os.kill(os.getpid(), signal.SIGKILL)
            self.left -= 1
            yield batch


def kill_while_training(path: Path, rng: random.Random, unbroken: dict) -> tuple[int, bool]:
    """(how often it was killed, whether the weights are those of the unbroken run)."""

    def train(k):
        model, loader, optimizer = setup(rng.randrange(100) if path.exists() else 0)
        training.fit(
            model, KilledAt(loader, k), num_epochs=6, optimizer=optimizer, checkpoint=path, resume=True, progress=None
        )
        torch.save(model.state_dict(), path.with_suffix(".done"))

    kills = 0
    while not path.with_suffix(".done").exists():
        k = rng.randrange(6, 20)  # at least an epoch, so that each child gets on
        kills += os.waitpid(in_a_fork(lambda k=k: train(k)), 0)[1] == signal.SIGKILL
    weights = torch.load(path.with_suffix(".done"), weights_only=True)
    return kills, all(torch.equal(unbroken[name], value) for name, value in weights.items())


def main(folder: Path) -> None:
    rng, path, result = random.Random(0), folder / "writing/run.pt", {"writing": [], "training": []}
    for _ in range(50):
        result["writing"].append(kill_while_writing(path, rng))
    save_whole(run_of(0).state(), path)
    result["left"] = [file.name for file in path.parent.iterdir()]

    def train_unbroken():  # in a child too: whoever has computed gradients may not fork any more
        model, loader, optimizer = setup(0)
        training.fit(model, loader, num_epochs=6, optimizer=optimizer, progress=None)
        torch.save(model.state_dict(), folder / "unbroken.pt")

    os.waitpid(in_a_fork(train_unbroken), 0)
    unbroken = torch.load(folder / "unbroken.pt", weights_only=True)
    for number in range(10):
        result["training"].append(kill_while_training(folder / f"training{number}.pt", rng, unbroken))
    print(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
