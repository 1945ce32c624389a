"""Trains the backbone that the course brings along: python tools/pretrain.py  (about 10 minutes on a laptop)

The pretraining set is drawn: the 22 species that are neither cat nor dog, and imaginary ones for variety. Writes
data/backbone.pt (float16) and data/backbone.json, the record with the accuracies on cat against dog.
"""

import argparse
import copy
import json
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that it runs from any folder without being installed

from tools.speed import native_bf16  # noqa: E402
from utils.critters import SPECIES, draw_many, imaginary_species  # noqa: E402
from utils.models import SmallResNet  # noqa: E402

PETS = ["cat", "dog"]
MEAN, STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def draw_set(species, num: int, seed: int):
    """uint8 images (num, 3, 64, 64) and labels (num,), drawn in parallel from chunk to chunk."""
    chunks = 8  # the same drawings whatever the number of processes
    with ProcessPoolExecutor() as pool:
        drawn = list(
            pool.map(draw_many, [species] * chunks, [num // chunks] * chunks, range(seed * chunks, (seed + 1) * chunks))
        )
    images, labels = (np.concatenate([part[i] for part in drawn]) for i in range(2))
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(DEVICE), torch.from_numpy(labels).to(DEVICE)


def normalised(images):
    images = (images.float() / 255 - MEAN[0]) / STD[0]  # mean and std are the same in each channel
    return images.contiguous(memory_format=torch.channels_last)


def augmented(images):
    """Flip, shift by up to a tenth, and change contrast, brightness and tint, each picture by itself."""

    def uniform(*shape):
        return 2 * torch.rand(len(images), *shape, device=images.device) - 1

    move = torch.zeros(len(images), 2, 3, device=images.device)
    move[:, 0, 0], move[:, 1, 1] = torch.where(uniform() < 0, -1.0, 1.0), 1
    move[:, :, 2] = 0.1 * uniform(2)
    grid = F.affine_grid(move, images.shape, align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    mean = images.mean((1, 2, 3), keepdim=True)
    images = (images - mean) * (1 + 0.2 * uniform(1, 1, 1)) + mean + 0.16 * uniform(1, 1, 1) + 0.1 * uniform(3, 1, 1)
    return images.contiguous(memory_format=torch.channels_last)


def train(model, images, labels, num_epochs, lr, batch_size, weight_decay, label_smoothing=0.0, augment=augmented):
    optimizer = torch.optim.AdamW(model.parameters(), lr, weight_decay=weight_decay)
    steps = len(images) // batch_size
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=num_epochs * steps, pct_start=0.2)
    bf16 = native_bf16() if DEVICE == "cpu" else torch.cuda.is_bf16_supported(including_emulation=False)
    for epoch in range(num_epochs):
        model.train()
        total, start = 0.0, time.time()
        for batch in torch.randperm(len(images), device=images.device)[: steps * batch_size].split(batch_size):
            with torch.autocast(DEVICE, dtype=torch.bfloat16, enabled=bf16):
                logits = model(augment(normalised(images[batch])))
            loss = F.cross_entropy(logits.float(), labels[batch], label_smoothing=label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item()
        if steps > 100:
            seconds = time.time() - start
            print(f"epoch {epoch + 1} of {num_epochs}: loss {total / steps:.3f}, {seconds:.0f} s", flush=True)
    return model.eval()


@torch.no_grad()
def forward(model, images):
    return torch.cat([model.eval()(normalised(part)).float() for part in images.split(250)])


def accuracy(logits, labels) -> float:
    return round(100 * (logits.argmax(1) == labels).float().mean().item(), 2)


def probe_accuracy(features, labels, test_features, test_labels, l2=0.1) -> float:
    """Logistic regression on frozen features."""
    mean, std = features.mean(0), features.std(0) + 1e-3
    linear = nn.Linear(features.shape[1], 2, device=features.device)
    nn.init.zeros_(linear.weight)
    optimizer = torch.optim.LBFGS(linear.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = F.cross_entropy(linear((features - mean) / std), labels) + l2 * linear.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return accuracy(linear((test_features - mean) / std), test_labels)


def flipped(images):
    return torch.where(torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5, images.flip(3), images)


def fine_tune_accuracy(backbone, images, labels, test_images, test_labels) -> float:
    model = copy.deepcopy(backbone)
    model.classifier[1] = nn.Linear(model.classifier[1].in_features, 2).to(DEVICE)
    train(model, images, labels, num_epochs=15, lr=1e-3, batch_size=32, weight_decay=1e-4, augment=flipped)
    return accuracy(forward(model, test_images), test_labels)


def cats_against_dogs(backbone) -> dict:
    """From 200 drawings, tested on 1,000 others, for several seeds."""
    headless = copy.deepcopy(backbone)
    headless.classifier = nn.Identity()
    test_images, test_labels = draw_set(PETS, 1_000, seed=10_000)
    test_features = forward(headless, test_images)
    found = {"linear_probe": [], "fine_tuned": []}
    for seed in range(10):
        torch.manual_seed(seed)
        images, labels = draw_set(PETS, 200, seed=20_000 + seed)
        features = forward(headless, images)
        found["linear_probe"].append(probe_accuracy(features, labels, test_features, test_labels))
        if seed < 3:
            found["fine_tuned"].append(fine_tune_accuracy(backbone, images, labels, test_images, test_labels))
    return {
        name: {"min": min(each), "median": round(float(np.median(each)), 2), "max": max(each), "each": each}
        for name, each in found.items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", type=int, default=48_000, help="drawings in the pretraining set")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--imaginary", type=int, default=42, help="imaginary species besides the 22 real ones")
    parser.add_argument("--width", type=int, default=24)
    parser.add_argument("--stem-kernel", type=int, default=7)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="for training; drawing uses all cores")
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "backbone.pt")
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    start = time.time()

    species = [name for name in SPECIES if name not in PETS] + imaginary_species(settings.imaginary, settings.seed)
    classes = [getattr(kind, "name", kind) for kind in species]
    images, labels = draw_set(species, settings.num, settings.seed + 1)
    print(f"{len(images):,} drawings of {len(species)} species in {time.time() - start:.0f} s", flush=True)

    model = SmallResNet(len(classes), settings.width, settings.stem_kernel)
    nn.init.normal_(model.features[0].weight, std=0.02)  # small, so that the filters show what was learnt and no noise
    model.to(DEVICE, memory_format=torch.channels_last)
    train(model, images, labels, settings.epochs, settings.lr, batch_size=64, weight_decay=0.05, label_smoothing=0.05)
    state = {
        name: value.half() if value.is_floating_point() else value for name, value in model.cpu().state_dict().items()
    }
    torch.save(
        {
            "width": settings.width,
            "stem_kernel": settings.stem_kernel,
            "classes": classes,
            "mean": MEAN,
            "std": STD,
            "state_dict": state,
        },
        settings.out,
    )

    model.load_state_dict(state)  # what is measured is what was written
    model.to(DEVICE)
    held_out = draw_set(species, 3_200, settings.seed + 2)
    record = {
        "command": "python " + " ".join(["tools/pretrain.py", *sys.argv[1:]]),
        "date": date.today().isoformat(),
        "settings": {name: value for name, value in vars(settings).items() if name != "out"},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "pretraining_species": len(classes),
        "held_out_accuracy": accuracy(forward(model, held_out[0]), held_out[1]),
        "cats_against_dogs": cats_against_dogs(model),
        "device": torch.cuda.get_device_name() if DEVICE == "cuda" else f"CPU, {settings.threads} thread(s)",
        "seconds": round(time.time() - start),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        },
    }
    settings.out.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
