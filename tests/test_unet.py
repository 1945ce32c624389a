"""The U-Net of utils.models: its shapes, its skips, its parts, and the network of notebook 04 that it equals."""

import pytest
import torch
import torch.nn.functional as F

from tools import measure_tables
from utils.models import UNet


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (65, 71), (8, 15)])
@pytest.mark.parametrize("num_classes", [1, 3])
def test_output_is_as_large_as_the_picture(size, num_classes):
    model = UNet(num_classes=num_classes, width=2).eval()
    assert model(torch.rand(2, 3, *size)).shape == (2, num_classes, *size)


def test_features_go_from_shallow_to_deep():
    model = UNet(width=4, levels=3, in_channels=1).eval()
    features = model.encode(torch.rand(2, 1, 36, 20))
    assert [tuple(f.shape) for f in features] == [(2, 4, 36, 20), (2, 8, 18, 10), (2, 16, 9, 5)]


def test_forward_is_decode_after_encode():
    model, images = UNet(width=2).eval(), torch.rand(2, 3, 40, 40)
    torch.testing.assert_close(model(images), model.decode(model.encode(images)))


def test_every_stage_reaches_the_output():
    torch.manual_seed(0)
    model = UNet(width=4)  # in training mode batch norm keeps the signal of every stage in range
    features = [f.detach().requires_grad_() for f in model.encode(torch.rand(2, 3, 32, 32))]
    logits = model.decode(features)
    gradients = torch.autograd.grad(logits.square().sum(), features)
    assert [float(gradient.abs().max()) > 1e-4 for gradient in gradients] == [True] * 4


def test_every_parameter_is_trained_and_none_is_idle():
    torch.manual_seed(0)
    model = UNet(width=4)
    F.binary_cross_entropy_with_logits(model(torch.rand(2, 3, 32, 32)), torch.rand(2, 1, 32, 32).round()).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())


@pytest.mark.parametrize("size", [(64, 64), (33, 50)])
def test_notebook_04_teaches_the_same_network(size):
    torch.manual_seed(0)
    taught, ours, images = measure_tables.lesson("04").UNet().eval(), UNet().eval(), torch.rand(2, 3, *size)
    ours.load_state_dict(taught.state_dict())
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in taught.parameters())
    torch.testing.assert_close(ours(images), taught(images), rtol=0, atol=0)
