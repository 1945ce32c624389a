"""SmallResNet and the backbone that is stored in data/: it loads safely, fits its record, and still transfers."""

import copy
import hashlib
import json
import re
import socket
import types
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest
import torch
from torch import nn
from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

from tools import measure_tables
from tools.build import code_cells, load, sources
from utils import datasets, models
from utils.critters import SPECIES, draw_many
from utils.models import SmallResNet

BACKBONE = Path(__file__).parent.parent / "data" / "backbone.pt"


@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("stem_kernel", [3, 7])
def test_small_resnet_shapes(size, stem_kernel):
    model = SmallResNet(num_classes=5, width=8, stem_kernel=stem_kernel).eval()
    images = torch.zeros(2, 3, size, size)
    assert model(images).shape == (2, 5)
    assert model.features(images).shape == (2, 64, size // 16, size // 16)
    assert isinstance(model.classifier[0], nn.Dropout) and model.classifier[1].in_features == 64


def test_backbone_is_small_and_has_never_seen_a_cat_or_a_dog():
    stored, (backbone, _) = torch.load(BACKBONE, weights_only=True), models.pretrained("critters")
    assert BACKBONE.stat().st_size < 2_000_000
    assert set(stored["classes"]).isdisjoint({"cat", "dog"})
    assert set(SPECIES[2:]) < set(stored["classes"])
    assert stored["mean"] == [0.5] * 3 and stored["std"] == [0.25] * 3
    record = json.loads(BACKBONE.with_suffix(".json").read_text())
    assert record["parameters"] == sum(parameter.numel() for parameter in backbone.parameters())
    assert record["pretraining_species"] == len(stored["classes"])
    assert min(record["cats_against_dogs"]["linear_probe"]["each"]) >= 93


def test_backbone_transfers_to_cats_and_dogs():
    """200 drawings and a linear layer on frozen features: chance is 50 %."""
    backbone, prepare = models.pretrained("critters")

    def features(num, seed):
        images, labels, *_ = draw_many(["cat", "dog"], num, seed)
        with torch.no_grad():
            images = prepare(torch.from_numpy(images).permute(0, 3, 1, 2))
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


def test_pretrained_suits_the_source():
    model, prepare = models.pretrained("critters")
    pictures = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    prepared = prepare(pictures)
    assert prepared.dtype == torch.float32 and torch.allclose(prepared, (pictures / 255 - 0.5) / 0.25, atol=1e-6)
    assert not model.training and model(prepared).shape == (2, model.classifier[1].out_features)
    with pytest.raises(ValueError, match="No pretrained network suits 'digits'"):
        models.pretrained("digits")


def put_weights(folder, weights, name=None):
    """A file as torchvision's server has it: the first eight digits of its SHA-256 stand in its name."""
    folder.mkdir()
    torch.save(weights, folder / "made.pth")
    digest = hashlib.sha256((folder / "made.pth").read_bytes()).hexdigest()[:8]
    (folder / "made.pth").rename(folder / (name or f"mobilenet_v2-{digest}.pth"))


def test_weights_of_the_data_folder_are_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path))
    saved = mobilenet_v2().state_dict()
    put_weights(tmp_path / "weights", saved)
    model, prepare = models.pretrained("photos")
    assert torch.equal(model.features[0][0].weight, saved["features.0.0.weight"])
    assert list(prepare.transforms[1].mean) == [0.485, 0.456, 0.406]


def no_network(*_, **__):
    raise URLError("Could not resolve host")


@pytest.mark.parametrize("name", ["{} (1)", "{} - Copy", "{}"])
def test_weights_under_the_name_that_a_browser_gives_are_taken_and_told(tmp_path, monkeypatch, capsys, name):
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path))
    put_weights(tmp_path / "weights", {"a": torch.ones(3)})
    [file] = (tmp_path / "weights").iterdir()
    file.rename(file.with_stem(name.format(file.stem)))
    assert models.imagenet_state(MobileNet_V2_Weights.IMAGENET1K_V1)["a"].sum() == 3
    assert "is taken, though it is not torchvision's mobilenet_v2-b0353104.pth." in capsys.readouterr().out


@pytest.mark.parametrize(
    "name", ["mobilenet_v2-my_pets", "mobilenet_v2", "mobilenet_v2-20261105", "mobilenet_v2_pets",
             "mobilenet_v2-b0353104", "mobilenet_v2-b0353104 (1)"],
)  # fmt: skip
def test_weights_that_are_damaged_or_of_ones_own_are_left_alone_and_named(tmp_path, monkeypatch, name):
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("torch.hub.urlopen", no_network)
    put_weights(tmp_path / "weights", {}, f"{name}.pth")
    sentence = f"could not be fetched .*{re.escape(name)}.pth was not taken: it is not named after its SHA-256"
    with pytest.raises(RuntimeError, match=sentence):
        models.imagenet_state(MobileNet_V2_Weights.IMAGENET1K_V1)


def test_weights_of_another_version_are_not_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("torch.hub.urlopen", no_network)
    put_weights(tmp_path / "weights", {"a": torch.ones(3)})
    [file] = (tmp_path / "weights").iterdir()
    second = types.SimpleNamespace(url=f"https://x/{file.name}")
    monkeypatch.setattr(models, "get_model_weights", lambda _: [second])
    with pytest.raises(RuntimeError, match=f"could not be fetched .*{file.name} was not taken: it is namespace"):
        models.imagenet_state(MobileNet_V2_Weights.IMAGENET1K_V1)


@pytest.mark.parametrize(
    "error",
    [
        URLError("Could not resolve host"),
        HTTPError("https://x", 403, "Forbidden", {}, None),
        TimeoutError("timed out"),
        ConnectionResetError("Connection reset by peer"),
        OSError(28, "No space left on device"),
    ],
)
def test_weights_that_cannot_be_fetched_get_a_sentence(tmp_path, monkeypatch, error):
    def no_network(*_, **__):
        assert socket.getdefaulttimeout() == 30
        raise error

    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", no_network)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    with pytest.raises(RuntimeError, match="weights mobilenet_v2-.* are not on this machine .* COURSE_DATA=critters"):
        models.pretrained("photos")


def test_held_batch_norm_stays_as_it_is():
    model, _ = models.pretrained("critters")
    copied = copy.deepcopy(model)
    models.hold_batch_norm(copied)
    before = {name: value.clone() for name, value in copied.named_buffers()}
    copied.train()
    copied.classifier.eval()  # its dropout would make the outputs differ
    images = torch.randn(4, 3, 64, 64)
    assert torch.allclose(copied(images), model(images), atol=1e-5)
    assert all(torch.equal(before[name], value) for name, value in copied.named_buffers())
    assert copied.features[1].weight.requires_grad and copied.state_dict().keys() == model.state_dict().keys()


@pytest.mark.photos
def test_imagenet_weights_know_cats_from_dogs():
    model, prepare = models.pretrained("photos")
    test = datasets.dogs_vs_cats(num_test=100).test
    with torch.no_grad():
        shares = model(prepare(test.images)).softmax(dim=1)
    dogs = shares[:, 151:269].sum(1) > shares[:, 281:286].sum(1)  # ImageNet's 118 breeds of dogs, and its 5 cats
    assert (dogs == test.targets["label"].bool()).float().mean() > 0.75


# ---- counting --------------------------------------------------------------------------------------------------------


def test_counts():
    layer = nn.Conv2d(3, 16, 3, padding=1)
    assert models.num_parameters(layer) == 16 * 3 * 3 * 3 + 16
    assert models.count_macs(layer, 2, 3, 10, 10) == 2 * 10 * 10 * 16 * 3 * 3 * 3
    with torch.device("meta"):
        huge = nn.Linear(10**6, 10**6)
    assert models.count_macs(huge, 1, 10**6) == 10**12
    taught, (source,) = measure_tables.lesson("03"), sources(["03"])
    (cell,) = (cell for cell in code_cells(load(source)) if "def count_macs" in cell.source)
    exec(cell.source, taught.__dict__)
    assert taught.count_macs(layer, 2, 3, 10, 10) == models.count_macs(layer, 2, 3, 10, 10)
