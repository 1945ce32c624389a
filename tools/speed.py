"""What the course's way of doing things saves against the recipe that is copied most: side by side, in one run, on this
machine.

    python -m tools.speed [PART ...]

PART: frozen, tuning, figure, notebook; one or several only print. All, the default, also write docs/speed.md's table
(about 20 minutes).

The recipe is that of most tutorials: `ImageFolder` decodes every photo in every epoch, `RandomResizedCrop(224)`, a
`DataLoader` with two workers, NCHW float32, and the whole frozen network forward in every epoch. The photos are those
of COURSE_DATA_DIR in the layout of the filtered dogs-vs-cats, the network MobileNetV2. Where there are none, drawings
in that layout and the course's small network stand in, and the table says so.
"""

import argparse
import copy
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from unittest import mock

import nbformat
import torch
from PIL import Image
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18
from torchvision.transforms import v2
from tqdm import tqdm

from tools.build import ROOT, code_cells, execute, load, sources
from tools.readme import between
from utils import critters, datasets, models
from utils.training import evaluate, fit, predict

NUM_EPOCHS = 10  # of the recipe
TENSOR = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
Row = tuple[str, str, str, bool]  # measure, reach, what was measured, whether that reaches it


class Clocked:
    """A loader that adds up how long its user has waited for batches."""

    def __init__(self, loader: DataLoader):
        self.loader, self.waited = loader, 0.0

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator:
        batches, end = iter(self.loader), object()
        while True:
            start = time.perf_counter()
            batch = next(batches, end)
            self.waited += time.perf_counter() - start
            if batch is end:
                return
            yield batch


def photos(scratch: Path) -> tuple[Path, str, int]:
    """(folder with train/ and validation/, source, side of the recipe's pictures): photos, else drawings as files."""
    folder = datasets.data_dir() / "cats_and_dogs_filtered"
    if folder.is_dir():
        return folder, "photos", 224
    images, labels, *_ = critters.draw_many(critters.SPECIES[:2], 1500, seed=0)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = scratch / "drawings" / ("train" if i < 1000 else "validation") / ("cats", "dogs")[label] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return scratch / "drawings", "critters", 64


def recipe_loaders(folder: Path, side: int, normalisation: v2.Normalize) -> tuple[DataLoader, DataLoader]:
    random = v2.Compose([v2.RandomResizedCrop(side), v2.RandomHorizontalFlip(), *TENSOR, normalisation])
    centre = v2.Compose([v2.Resize(side * 8 // 7), v2.CenterCrop(side), *TENSOR, normalisation])
    train_set, val_set = ImageFolder(folder / "train", random), ImageFolder(folder / "validation", centre)
    return DataLoader(train_set, 32, shuffle=True, num_workers=2), DataLoader(val_set, 32, num_workers=2)


def recipe_epoch(model: nn.Module, loader: DataLoader, optimizer: torch.optim.Optimizer) -> None:
    model.train()
    for images, labels in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()


def frozen(folder: Path, source: str, side: int) -> list[Row]:
    """Time to the accuracy that the recipe has after its last epoch, with a frozen network."""
    torch.manual_seed(0)
    model, prepare = models.pretrained(source)
    model.requires_grad_(False)
    encoder = copy.deepcopy(model)
    encoder.classifier = nn.Identity()
    model.classifier[1] = nn.Linear(model.classifier[1].in_features, 2)
    train_loader, val_loader = recipe_loaders(folder, side, prepare.transforms[-1])
    optimizer = torch.optim.Adam(model.classifier.parameters(), lr=1e-3)
    start, accuracies = time.perf_counter(), []
    for _ in tqdm(range(NUM_EPOCHS), desc="the recipe"):
        recipe_epoch(model, train_loader, optimizer)
        accuracies.append(evaluate(model, val_loader)["accuracy"])
    recipe_seconds = time.perf_counter() - start

    start = time.perf_counter()  # decode once, compute the features once, train on them
    splits = datasets.folder(folder, size=side)
    train_set = ConcatDataset([part.with_transform(prepare) for part in splits[:2]])  # the recipe trains on both
    val_set = splits.test.with_transform(prepare)
    train_points, val_points = (
        TensorDataset(*predict(encoder, DataLoader(part, 100), progress="features", bf16=native_bf16()))
        for part in (train_set, val_set)
    )
    cached = time.perf_counter()
    head = nn.Linear(train_points[0][0].shape[0], 2)
    optimizer, best = torch.optim.AdamW(head.parameters(), lr=3e-3), 0.0
    loader = DataLoader(train_points, 100, shuffle=True)
    while best < accuracies[-1] and time.perf_counter() - start < recipe_seconds:
        fit(head, loader, num_epochs=1, optimizer=optimizer, progress=None)
        best = evaluate(head, DataLoader(val_points, 500))["accuracy"]
    end = time.perf_counter()
    first, second = recipe_seconds / (end - start), recipe_seconds / (end - cached)
    reached = best >= accuracies[-1]
    figures = f"recipe {accuracies[-1]:.1%} in {recipe_seconds:.0f} s; ours {best:.1%}"
    name = f"time to the accuracy that the recipe has after {NUM_EPOCHS} epochs, frozen network, nothing cached"
    return [
        (name, "15 x less", f"{first:.1f} x less ({figures})", reached and first >= 15),
        (
            "the same the second time (features in memory)",
            "200 x less",
            f"{second:.0f} x less",
            reached and second >= 200,
        ),
    ]


def tuning(folder: Path, source: str, side: int) -> list[Row]:
    """Pictures a second that ResNet-18 trains on, at 128 x 128, and the share of that time spent waiting for data."""
    torch.manual_seed(0)
    normalisation = v2.Normalize([0.5] * 3, [0.25] * 3)
    model = resnet18(num_classes=2)
    loader, _ = recipe_loaders(folder, 128, normalisation)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    recipe_epoch(model, [(torch.rand(32, 3, 128, 128), torch.zeros(32, dtype=torch.long))] * 2, optimizer)  # to warm up
    start = time.perf_counter()
    recipe_epoch(model, tqdm(loader, desc="the recipe"), optimizer)
    recipe_seconds = time.perf_counter() - start

    splits = datasets.folder(folder, size=128)
    transform = v2.Compose([v2.RandomHorizontalFlip(), *TENSOR, normalisation])
    parts = [part.with_transform(transform) for part in splits[:2]]
    ratios, shares = {}, {}
    for bf16 in (False, True) if native_bf16() else (False,):
        model = resnet18(num_classes=2)
        how = {"num_epochs": 1, "optimizer": torch.optim.AdamW(model.parameters(), lr=1e-4), "bf16": bf16}
        fit(model, DataLoader(parts[1].subset(64), 32), **how)  # to warm up
        clocked = Clocked(DataLoader(ConcatDataset(parts), 32, shuffle=True))
        start = time.perf_counter()
        fit(model, clocked, progress="fit", **how)
        seconds = time.perf_counter() - start
        name = "bf16" if bf16 else "float32"
        ratios[name], shares[name] = recipe_seconds / seconds, clocked.waited / seconds
    name = f"fine-tuning throughput, ResNet-18 at 128 x 128 ({os.cpu_count()} cores)"
    speeds = ", ".join(f"{ratio:.1f} x in {kind}" for kind, ratio in ratios.items())
    waited = ", ".join(f"{share:.1%} in {kind}" for kind, share in shares.items())
    return [
        (name, "2.5 x", speeds, max(ratios.values()) >= 2.5),
        ("share of a fine-tuning step spent waiting for data", "under 10 %", waited, max(shares.values()) < 0.1),
    ]


def native_bf16() -> bool:
    """Whether the CPU has instructions for bf16 (Linux says so; elsewhere we say no)."""
    cpu = Path("/proc/cpuinfo")
    return cpu.exists() and any(flag in cpu.read_text() for flag in ("avx512_bf16", "amx_bf16", " bf16"))


# A kernel has IPython and nothing else; torch and torchvision are what every lesson must wait for.
KERNEL = """
import json, sys, tempfile, time
from pathlib import Path
from unittest import mock
import torch, torchvision
from IPython.core.interactiveshell import InteractiveShell

shell, folder = InteractiveShell.instance(), Path(tempfile.mkdtemp(dir=sys.argv[1]))
start = time.perf_counter()
with mock.patch("utils.datasets.cache._folder", lambda: folder):
    for code in json.load(sys.stdin):
        shell.run_cell(code).raise_error()
print(time.perf_counter() - start)
"""


def figure(folder: Path, source: str, side: int) -> list[Row]:
    """From a fresh kernel to the first figure of notebook 05, with drawings not yet drawn."""
    cells = [cell.source for cell in code_cells(load(*sources(["05"])))]
    first = next(i for i, code in enumerate(cells) if "show(" in code or "explore(" in code)
    with tempfile.TemporaryDirectory() as scratch:
        output = subprocess.run(
            [sys.executable, "-c", KERNEL, scratch],
            input=json.dumps(cells[: first + 1]),
            cwd=ROOT,
            env=os.environ | {"COURSE_DATA": "critters", "MPLBACKEND": "agg"},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
    seconds = float(output.split()[-1])
    name = "from a fresh kernel to the first figure of notebook 05, above `import torch, torchvision`"
    return [(name, "under 2 s", f"{seconds:.1f} s", seconds < 2)]


def notebook(folder: Path, source: str, side: int) -> list[Row]:
    """Notebook 05 from top to bottom: time and memory."""
    rows = []
    for data, minutes, gigabytes in (("critters", 4, 3), ("photos", 8, 4)):
        if data == "photos" and source != "photos":
            continue
        run = load(*sources(["05"]))
        peak = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        run.cells.append(nbformat.v4.new_code_cell(peak))
        settings = {"COURSE_DATA": data, "COURSE_DATA_DIR": str(datasets.data_dir()), "COURSE_STRICT": "1"}
        start = time.perf_counter()
        execute(run, f"05 on {data}", settings | {"CUDA_VISIBLE_DEVICES": ""})
        taken, used = (time.perf_counter() - start) / 60, int(run.cells[-1].outputs[0].text) / 1e6
        name = f"notebook 05 from top to bottom, {'drawings' if data == 'critters' else 'photos'}"
        reach, ok = f"{minutes} min, {gigabytes} GB", taken < minutes and used < gigabytes
        rows.append((name, f"under {reach}", f"{taken:.1f} min, {used:.1f} GB", ok))
    return rows


PARTS = {part.__name__: part for part in (frozen, tuning, figure, notebook)}


def table(rows: list[Row], source: str) -> str:
    lines = ["| measure | reach | measured | reached |", "|---|---|---|---|"]
    lines += [f"| {name} | {reach} | {value} | {'yes' if ok else '**no**'} |" for name, reach, value, ok in rows]
    data = "1,000 + 500 photos of dogs-vs-cats, MobileNetV2" if source == "photos" else "drawings, no photos were there"
    version = torch.__version__.split("+")[0]
    cores = f"{os.cpu_count()} cores ({platform.machine()}), torch {version}, threads {torch.get_num_threads()}"
    return "\n".join(lines) + f"\n\nMeasured by `make bench` on {date.today()}: {cores}; {data}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    arguments = parser.parse_args()
    if unknown := [part for part in arguments.parts if part not in PARTS]:
        parser.error(f"{unknown[0]} is no part; there are {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory() as scratch:
        data = photos(Path(scratch))
        with mock.patch("utils.datasets.cache._folder", lambda: Path(scratch)):  # nothing is cached yet
            rows = [row for part in arguments.parts or PARTS for row in PARTS[part](*data)]
    text = table(rows, data[1])
    print(text)
    if not arguments.parts:
        page = ROOT / "docs/speed.md"
        page.write_text(between(page.read_text(encoding="utf-8"), "speed", text, page.name), encoding="utf-8")


if __name__ == "__main__":
    main()
