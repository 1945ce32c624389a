"""Exercises of notebook 01, vanishing gradients."""

import copy
import math
from collections import Counter

import torch
import torch.nn.functional as F
from torch import nn

from utils.exercises import normalised_digits, one_thread
from utils.lessons import Exercise

# ---- 1. the chain rule by hand ---------------------------------------------------------------------------------------


def chain_gradient(x, a1, a2, a3):
    f3 = torch.tanh(a3 * x)
    f2 = torch.tanh(a2 * f3)
    f1 = torch.tanh(a1 * f2)
    return (1 - f1**2) * a1 * (1 - f2**2) * f3


def _check_chain_gradient(chain_gradient):
    x, *a = torch.tensor([0.7, 1.3, -0.8, 1.9], dtype=torch.float64)
    a = [value.clone().requires_grad_() for value in a]
    f3 = torch.tanh(a[2] * x)
    f2 = torch.tanh(a[1] * f3)
    f1 = torch.tanh(a[0] * f2)
    expected = dict(zip(("a1", "a2", "a3"), torch.autograd.grad(f1, a), strict=True))
    f1, f2, f3 = f1.detach(), f2.detach(), f3.detach()
    result = torch.as_tensor(chain_gradient(x, *(value.detach() for value in a)))
    assert result.numel() == 1, f"Expected one number; a result of shape {tuple(result.shape)} came."

    def is_(value):
        return torch.isclose(result.double(), value, rtol=1e-4).all()

    assert not is_(f1), "This is F itself. The derivative is the product of the factors on the way from F to a2."
    for other in ("a1", "a3"):
        assert not is_(expected[other]), (
            f"This is the derivative by {other}. Go along the chain as far as a2, no farther."
        )
    assert not is_(expected["a2"] / f3), "The last factor is missing: a2 is multiplied by f3 inside the tanh."
    assert not is_(expected["a2"] / a[0].detach()), (
        "A factor a1 is missing: f2 is multiplied by a1 inside the outer tanh."
    )
    assert not is_(a[0].detach() * f3), "The derivative of each tanh is missing: 1 - tanh(z)**2."
    assert is_(expected["a2"]), (
        f"Expected {expected['a2']:.5f} at x = 0.7, a = (1.3, -0.8, 1.9); {result.item():.5f} came. "
        "Compute f3, f2 and f1 first, then multiply the factors from the outside in."
    )
    return "The same product that autograd computes."


chain_gradient = Exercise(
    "The chain rule by hand",
    test=_check_chain_gradient,
    hints=(
        "Write the three values first: f3 = tanh(a3 x), f2 = tanh(a2 f3), f1 = tanh(a1 f2).",
        "Two factors: the derivative of f1 by f2, which is (1 - f1²) a1, and the derivative of f2 by a2.",
        "The derivative of f2 by a2 is (1 - f2²) f3. Return the product of the two.",
    ),
    reference=chain_gradient,
)

# ---- 2. clip ---------------------------------------------------------------------------------------------------------


def clip(parameters, max_norm):
    gradients = [parameter.grad for parameter in parameters]
    norm = torch.sqrt(sum(gradient.square().sum() for gradient in gradients))
    if norm > max_norm:
        for gradient in gradients:
            gradient.mul_(max_norm / norm)
    return norm


def _check_clip(clip):
    generator = torch.Generator().manual_seed(0)
    grads = [
        torch.randn(shape, generator=generator) * size for shape, size in (((4, 3), 5.0), ((4,), 0.2), ((2, 4), 1.0))
    ]
    joint = torch.cat([grad.flatten() for grad in grads]).norm()

    def after(max_norm):
        parameters = [nn.Parameter(torch.zeros_like(grad)) for grad in grads]
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = grad.clone()
        norm = clip(parameters, max_norm)
        assert all(parameter.grad is not None for parameter in parameters), (
            "Gradients have become None. Scale them in place."
        )
        return norm, [parameter.grad for parameter in parameters]

    norm, clipped = after(1.0)
    assert not all(torch.equal(grad, before) for grad, before in zip(clipped, grads, strict=True)), (
        "The gradients are as they were. Change them in place, such as parameter.grad.mul_(factor)."
    )
    values = [grad.clamp(-1, 1) for grad in grads]
    assert not all(torch.allclose(a, b) for a, b in zip(clipped, values, strict=True)), (
        "Each number was clipped by itself, which turns the gradient into another direction. Scale all by one factor."
    )
    each = [grad / grad.norm() if grad.norm() > 1 else grad for grad in grads]
    assert not all(torch.allclose(a, b, atol=1e-4) for a, b in zip(clipped, each, strict=True)), (
        "Each parameter was clipped by its own norm. The norm is that of all gradients together, as one long vector."
    )
    came = torch.cat([grad.flatten() for grad in clipped])
    before = torch.cat([grad.flatten() for grad in grads])
    cosine = F.cosine_similarity(came, before, dim=0)
    assert cosine > 0.9999, (
        f"The gradient points elsewhere (cosine {cosine:.3f} with the old one). Scale all by one factor."
    )
    assert torch.isclose(came.norm(), torch.tensor(1.0), rtol=1e-3), (
        f"The joint norm was {joint:.2f}; with max_norm = 1 it should be 1 afterwards, and it is {came.norm():.3f}."
    )
    norm_value = torch.as_tensor(norm).float()
    assert torch.isclose(norm_value, joint, rtol=1e-3), (
        f"Expected the joint norm from before, {joint:.2f}; {norm_value.item():.2f} came. The root of the sum of all squares, taken before scaling."
    )
    _, untouched = after(1000.0)
    assert all(torch.allclose(a, b) for a, b in zip(untouched, grads, strict=True)), (
        "Gradients shorter than max_norm were changed too. They stay as they are: clipping never makes a gradient longer."
    )
    return "Direction kept, length limited: what nn.utils.clip_grad_norm_ does."


clip = Exercise(
    "Clip the gradient",
    test=_check_clip,
    hints=(
        "The joint norm is the root of the sum of the squares of all numbers in all gradients.",
        "Only where it is above max_norm: multiply every parameter.grad in place by max_norm / norm.",
        "parameter.grad.mul_(max_norm / norm) for each; return the norm that you computed first.",
    ),
    reference=clip,
)

# ---- 3. He's initialisation ------------------------------------------------------------------------------------------


def initialise(model):
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=math.sqrt(2 / layer.in_features))
            nn.init.zeros_(layer.bias)
    return model


def _check_initialise(initialise):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(100, 400), nn.ReLU(), nn.Sequential(nn.Linear(400, 200), nn.ReLU()), nn.Linear(200, 50)
    )
    old = copy.deepcopy(model)
    model = initialise(model)
    assert isinstance(model, nn.Module), (
        f"Your function returned a {type(model).__name__}; expected the model. Return it."
    )
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    same = [torch.equal(new.weight, before.weight) for new, before in
            zip(layers, (m for m in old.modules() if isinstance(m, nn.Linear)), strict=True)]  # fmt: skip
    assert not any(same), (
        f"{sum(same)} of 3 linear layers still have their old weights. model.modules() finds the nested ones too."
    )
    stds = [layer.weight.std().item() for layer in layers]
    came = ", ".join(f"{std:.4f}" for std in stds)

    def close(rule):
        wanted = [rule(layer.in_features, layer.out_features) for layer in layers]
        return all(abs(std / value - 1) < 0.05 for std, value in zip(stds, wanted, strict=True))

    assert not close(lambda n, m: math.sqrt(2 / (n + m))), (
        "This is Xavier's rule. For ReLU, He's variance is 2 / n with n the number of inputs."
    )
    assert not close(lambda n, m: math.sqrt(2 / m)), (
        "n is the number of inputs (in_features), and here it is the outputs."
    )
    assert not close(lambda n, m: 2 / n), "The variance is 2 / n; std = 2 / n forgets the square root."
    assert not close(lambda n, m: math.sqrt(1 / n)), "The 2 is missing: ReLU throws half of the mean square away."
    expected = ", ".join(f"{math.sqrt(2 / layer.in_features):.4f}" for layer in layers)
    assert close(lambda n, m: math.sqrt(2 / n)), (
        f"Expected weights with standard deviations {expected}; {came} came. He's variance is 2 / in_features."
    )
    assert all(abs(layer.weight.mean()) < 0.2 * std for layer, std in zip(layers, stds, strict=True)), (
        "The weights should have mean 0."
    )
    assert all((layer.bias == 0).all() for layer in layers), "The biases are not zero: nn.init.zeros_(layer.bias)."
    return f"Standard deviations {came}: each layer by its own number of inputs."


initialise = Exercise(
    "He's initialisation",
    test=_check_initialise,
    hints=(
        "Loop over model.modules() and take those that are nn.Linear: this finds nested ones too.",
        "layer.in_features is n, and the standard deviation is the square root of 2 / n.",
        "nn.init.normal_(layer.weight, std=math.sqrt(2 / layer.in_features)), and zeros for the bias.",
    ),
    reference=initialise,
)

# ---- 4. group normalisation ------------------------------------------------------------------------------------------


def group_norm(x, num_groups):
    groups = x.unflatten(1, (num_groups, -1))  # (N, G, C / G, H, W)
    mean = groups.mean(dim=(2, 3, 4), keepdim=True)
    variance = groups.var(dim=(2, 3, 4), keepdim=True, unbiased=False)
    return ((groups - mean) / torch.sqrt(variance + 1e-5)).flatten(1, 2)


def _check_group_norm(group_norm):
    generator = torch.Generator().manual_seed(0)
    x = (
        torch.randn(4, 6, 3, 5, generator=generator) * torch.arange(1, 7)[:, None, None]
        + torch.arange(4)[:, None, None, None]
    )
    result = group_norm(x.clone(), 2)
    came = tuple(result.shape) if isinstance(result, torch.Tensor) else type(result).__name__
    assert came == tuple(x.shape), (
        f"Expected a result of the shape of x, {tuple(x.shape)}; {came} came. Undo the grouping."
    )

    def is_(value):
        return torch.allclose(result, value, atol=1e-3)

    def by(axes, unbiased=False):
        return (x - x.mean(axes, keepdim=True)) / torch.sqrt(x.var(axes, keepdim=True, unbiased=unbiased) + 1e-5)

    assert not is_(by((1, 2, 3))), (
        "This is layer normalisation: all channels together. Split them into num_groups groups."
    )
    assert not is_(by((2, 3))), (
        "This is instance normalisation: each channel alone. A group has several neighbouring ones."
    )
    assert not is_(by((0, 2, 3))), "This is batch normalisation. Nothing is averaged over the images here."
    interleaved = x.unflatten(1, (3, 2)).transpose(1, 2)
    interleaved = F.group_norm(interleaved.flatten(1, 2), 2).unflatten(1, (2, 3)).transpose(1, 2).flatten(1, 2)
    assert not is_(interleaved), (
        "Your groups take every second channel. A group is of neighbours: channels 0, 1, 2 and 3, 4, 5."
    )
    grouped = x.unflatten(1, (2, 3))
    unbiased = (grouped - grouped.mean((2, 3, 4), keepdim=True)) / grouped.std((2, 3, 4), keepdim=True)
    assert not is_(unbiased.flatten(1, 2)), (
        "Nearly: the variance divides by the number of values, not by one less (unbiased=False)."
    )
    expected = F.group_norm(x, 2)
    assert is_(expected), (
        f"The largest difference from nn.GroupNorm(2, 6) is {(result - expected).abs().max():.2f}. Mean and variance are taken over the "
        "channels of a group and all its pixels, for each image by itself."
    )
    for num_groups in (1, 3, 6):
        gap = (group_norm(x.clone(), num_groups) - F.group_norm(x, num_groups)).abs().max()
        assert gap < 1e-3, f"Right with 2 groups, but not with {num_groups} (difference {gap:.2f}). Is num_groups used?"
    return "With 1 group it is layer normalisation, with as many groups as channels instance normalisation."


group_norm = Exercise(
    "Group normalisation",
    test=_check_group_norm,
    hints=(
        "Give the groups an axis of their own: x.unflatten(1, (num_groups, -1)) is (N, G, C / G, H, W).",
        "Now mean and variance go over the axes (2, 3, 4), with keepdim=True and unbiased=False.",
        "Subtract, divide by the root of variance + 1e-5, and bring the channels together again: .flatten(1, 2).",
    ),
    reference=group_norm,
)

# ---- 5. a block that begins as nothing -------------------------------------------------------------------------------


def make_block(width):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.f = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
            nn.init.zeros_(self.f[2].weight)
            nn.init.zeros_(self.f[2].bias)

        def forward(self, x):
            return x + self.f(x)

    return Block()


def _check_make_block(make_block):
    torch.manual_seed(0)
    block = make_block(16)
    assert isinstance(block, nn.Module), (
        f"Your function returned a {type(block).__name__}; expected a module (a Block())."
    )
    linears = [module for module in block.modules() if isinstance(module, nn.Linear)]
    assert len(linears) == 2, f"The block has {len(linears)} linear layers; expected 2 in f, with a ReLU between them."
    x = torch.randn(32, 16)
    y = block(x)
    assert isinstance(y, torch.Tensor) and y.shape == x.shape, (
        f"Inputs of shape (32, 16) gave {tuple(y.shape) if isinstance(y, torch.Tensor) else y}; expected the same shape. Does forward return x + f(x)?"
    )
    assert not (y == 0).all(), "At the start the block gives zeros: f is zero, and the x of x + f(x) is missing."
    assert torch.equal(y, x), (
        f"At the start the block should return x exactly; the largest difference is {(y - x).abs().max():.2f}. f(x) must be zero: "
        "which layer of f has the last word?"
    )
    target = torch.randn(32, 16)
    optimizer = torch.optim.SGD(block.parameters(), lr=0.1)
    before = [linear.weight.detach().clone() for linear in linears]
    for _ in range(5):
        optimizer.zero_grad()
        F.mse_loss(block(x), target).backward()
        optimizer.step()
    moved = [not torch.equal(linear.weight, old) for linear, old in zip(linears, before, strict=True)]
    assert any(moved), (
        "After five steps of training both layers' weights are as they were. With both layers at zero every gradient is zero too: "
        "set only the last one to zero."
    )
    assert all(moved), (
        "After five steps one of the layers has not moved. Are the weights of both trainable, and both used in f?"
    )
    return "The last layer is zero, so f is; the first is not, so the last one gets a gradient and wakes the first."


make_block = Exercise(
    "A block that begins as nothing",
    test=_check_make_block,
    hints=(
        "f(x) = W2 relu(W1 x + b1) + b2. What has to be zero so that f(x) is zero for every x?",
        "The gradient of W2 is proportional to relu(W1 x + b1). So W1 must not be zero, if W2 is.",
        "In __init__: nn.init.zeros_ on weight and bias of the last linear layer only. In forward: return x + self.f(x).",
    ),
    reference=make_block,
)

# ---- lab -------------------------------------------------------------------------------------------------------------

LAB_GOOD, LAB_VERY_GOOD = 0.90, 0.96  # shares of right answers


def train_deep():
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.activation = nn.Linear(64, 64), nn.Sigmoid()

        def forward(self, x):
            return x + self.activation(self.linear(x))  # the skip connection does it

    x_train, y_train = _digits("train")
    model = nn.Sequential(*[Layer() for _ in range(49)], nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(20):
        for batch in torch.randperm(len(x_train)).split(64):
            loss = F.cross_entropy(model(x_train[batch]), y_train[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def _digits(part: str) -> tuple[torch.Tensor, torch.Tensor]:
    """x (N, 64), y (N,) of the digits' "train" or "test", the pixels normalised as in the notebook."""
    x, y = normalised_digits(part)
    return x.flatten(1), y


def _check_lab(train_deep):
    with one_thread():
        model = train_deep()
        assert isinstance(model, nn.Module), (
            f"train_deep returned a {type(model).__name__}; expected the trained network. Return it."
        )
        x, y = _digits("test")
        calls = _calls(model.cpu(), x[:2])
        bends = {type(m).__name__ for m in model.modules() if type(m).__module__ == "torch.nn.modules.activation"} - {
            "Sigmoid"
        }
        assert not bends, f"The network has {' and '.join(sorted(bends))}; the sigmoid is to stay the only activation."
        assert calls["Linear"] == 50, f"A digit passes {calls['Linear']} linear layers; the depth is to stay 50."
        assert calls["Sigmoid"] == 49, (
            f"A digit passes {calls['Sigmoid']} sigmoids; expected 49, one after each linear layer but the last (as modules, nn.Sigmoid())."
        )
        with torch.no_grad():
            share = (model(x).argmax(dim=1) == y).float().mean().item()
    score = f"{share:.1%} of {len(y)} held-out digits are right"
    assert share >= LAB_GOOD, (
        f"{score}; guessing gives 10 %, and {LAB_GOOD:.0%} counts as good. Look at the gradient profile of your network: is it level?"
    )
    return f"{score}; {LAB_GOOD:.0%} is good, {LAB_VERY_GOOD:.0%} is very good."


@torch.no_grad()
def _calls(model: nn.Module, x: torch.Tensor) -> Counter:
    """How often x passes each kind of layer on its way through the network."""
    calls: Counter[str] = Counter()

    def count(module, *_):
        calls[type(module).__name__] += 1

    hooks = [module.register_forward_hook(count) for module in model.modules()]
    try:
        model.eval()(x)
    finally:
        for hook in hooks:
            hook.remove()
    return calls


lab = Exercise(
    "Lab: fifty layers of sigmoid",
    test=_check_lab,
    hints=(
        "Section 9 shows two remedies that carry 50 layers of sigmoid. Look at their gradient profiles.",
        "network(50, skip=True), trained as in the notebook, is good. A little more learning rate and a few more epochs make it better.",
        "Skip connections and batch normalisation can be combined.",
    ),
    reference=train_deep,
)
