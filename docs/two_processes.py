"""Is one step on two processes the step on the doubled batch?

    torchrun --nproc-per-node 2 docs/two_processes.py

Each process computes half of a batch, on the CPU, with the backend gloo; DistributedDataParallel (DDP) averages the
gradients. Then each takes the same step alone on the whole batch, and the first prints how far the weights are apart.
With batch normalisation they are not the same: each process normalises by its own half. SyncBatchNorm, which asks all
processes for their sums, works on GPUs only.
"""

import os

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def network(norm: bool) -> nn.Module:
    torch.manual_seed(0)  # every process begins with the same weights
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8) if norm else nn.Identity(), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))


def step(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    F.cross_entropy(model(images), labels).backward()
    optimizer.step()


def difference(norm: bool, images: torch.Tensor, labels: torch.Tensor) -> float:
    """The largest difference of a weight between the step on two processes and the step on the whole batch."""
    rank, world = dist.get_rank(), dist.get_world_size()
    together = network(norm)
    step(DistributedDataParallel(together), images[rank::world], labels[rank::world])
    alone = network(norm)
    step(alone, images, labels)
    pairs = zip(together.parameters(), alone.parameters(), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


def main() -> None:
    dist.init_process_group("gloo")  # torchrun says in environment variables who is who
    torch.manual_seed(1)
    images, labels = torch.randn(16, 3, 12, 12), torch.arange(16) % 2
    for name, norm in {"without batch normalisation": False, "with batch normalisation": True}.items():
        apart = difference(norm, images, labels)
        if dist.get_rank() == 0:
            print(f"{name}: weights differ by at most {apart:.1e}")
    dist.destroy_process_group()


if __name__ == "__main__":
    if "RANK" not in os.environ:
        raise SystemExit("Start it as: torchrun --nproc-per-node 2 docs/two_processes.py")
    main()
