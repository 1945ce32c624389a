"""SmallResNet and the backbone that is stored in data/: it loads safely, fits its record, and still transfers."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from utils.critters import SPECIES, draw_many
from utils.models import SmallResNet

BACKBONE = Path(__file__).parent.parent / "data" / "backbone.pt"


@pytest.fixture(scope="module")
def stored():
    return torch.load(BACKBONE, weights_only=True)


@pytest.fixture(scope="module")
def backbone(stored):
    model = SmallResNet(len(stored["classes"]), stored["width"], stored["stem_kernel"])
    model.load_state_dict(stored["state_dict"])
    return model.eval()


@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("stem_kernel", [3, 7])
def test_small_resnet_shapes(size, stem_kernel):
    model = SmallResNet(num_classes=5, width=8, stem_kernel=stem_kernel).eval()
    images = torch.zeros(2, 3, size, size)
    assert model(images).shape == (2, 5)
    assert model.features(images).shape == (2, 64, size // 16, size // 16)
    assert isinstance(model.classifier[0], nn.Dropout) and model.classifier[1].in_features == 64


def test_backbone_is_small_and_has_never_seen_a_cat_or_a_dog(stored, backbone):
    assert BACKBONE.stat().st_size < 2_000_000
    assert set(stored["classes"]).isdisjoint({"cat", "dog"})
    assert set(SPECIES[2:]) < set(stored["classes"])
    assert stored["mean"] == [0.5] * 3 and stored["std"] == [0.25] * 3
    record = json.loads(BACKBONE.with_suffix(".json").read_text())
    assert record["parameters"] == sum(parameter.numel() for parameter in backbone.parameters())
    assert record["pretraining_species"] == len(stored["classes"])
    assert min(record["cats_against_dogs"]["linear_probe"]["each"]) >= 93


def test_backbone_transfers_to_cats_and_dogs(stored, backbone):
    """200 drawings and a linear layer on frozen features: chance is 50 %."""

    def features(num, seed):
        images, labels, *_ = draw_many(["cat", "dog"], num, seed)
        images = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
        images = (images - torch.tensor(stored["mean"])[:, None, None]) / torch.tensor(stored["std"])[:, None, None]
        with torch.no_grad():
            return backbone.features(images).mean((2, 3)), torch.from_numpy(labels)

    (train, labels), (test, test_labels) = features(200, seed=1), features(400, seed=2)
    mean, std = train.mean(0), train.std(0) + 1e-3
    torch.manual_seed(0)
    linear = nn.Linear(train.shape[1], 2)
    optimizer = torch.optim.AdamW(linear.parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(100):
        loss = nn.functional.cross_entropy(linear((train - mean) / std), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    accuracy = (linear((test - mean) / std).argmax(1) == test_labels).float().mean()
    assert accuracy >= 0.93
