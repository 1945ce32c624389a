"""Exercises of notebook 01, vanishing gradients."""

import copy
import math
from collections import Counter

import torch
import torch.nn.functional as F
from torch import nn

from utils.exercises import names_in, normalised_digits, not_used, number, one_thread, tensor
from utils.lessons import Exercise

# ---- 1. the chain rule by hand ---------------------------------------------------------------------------------------


def chain_gradient(x, a1, a2, a3):
    f3 = torch.tanh(a3 * x)
    f2 = torch.tanh(a2 * f3)
    f1 = torch.tanh(a1 * f2)
    return (1 - f1**2) * a1 * (1 - f2**2) * f3


def _check_chain_gradient(chain_gradient):
    not_used(chain_gradient, "grad", "backward", "jacobian", *names_in(torch.func, like=""))
    x, *a = torch.tensor([0.7, 1.3, -0.8, 1.9], dtype=torch.float64)
    a = [value.clone().requires_grad_() for value in a]
    f3 = torch.tanh(a[2] * x)
    f2 = torch.tanh(a[1] * f3)
    f1 = torch.tanh(a[0] * f2)
    expected = dict(zip(("a1", "a2", "a3"), torch.autograd.grad(f1, a), strict=True))
    f1, f2, f3 = f1.detach(), f2.detach(), f3.detach()
    result = tensor(chain_gradient(x, *(value.detach() for value in a)), "one number")
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

# ---- 2. saturated units ----------------------------------------------------------------------------------------------


def saturated_share(a):
    return (1 - a**2 < 0.01).float().mean()


def _check_saturated_share(saturated_share):
    a = torch.tanh(torch.tensor([[-4.0, -2.6, -1.0, 0.2], [-3.5, 1.5, 2.0, 5.0], [0.4, 0.8, 2.9, 8.0]]))
    answer = tensor(saturated_share(a.clone()), "one number, the share of all units")
    assert answer.numel() == 1, (
        f"Expected one number, the share of all units; {tuple(answer.shape)} came. Average them."
    )
    answer = answer.double()

    def is_(share):
        return torch.isclose(answer, share.double(), atol=1e-3)

    expected = (1 - a**2 < 0.01).float()
    assert not is_(expected.sum()), "This is the number of saturated units. Divide by how many there are."
    assert not is_(1 - expected.mean()), "This is the share of the others: saturated is a derivative *below* 0.01."
    assert not is_((a * (1 - a) < 0.01).float().mean()), "This is the sigmoid's derivative. The one of tanh is 1 - a²."
    assert not is_(torch.tensor(0.0)), (
        "0 came, so no unit counts as saturated. (If there is a tanh in your function: a has been through tanh "
        "already, no second tanh.)"
    )
    assert not is_((1 - a < 0.01).float().mean()), (
        "This counts a above 0.99. Units near -1 are saturated too: the derivative is 1 - a²."
    )
    assert not is_(100 * expected.mean()), "A share lies between 0 and 1; this is in per cent."
    assert is_(expected.mean()), f"Expected {expected.mean():.3f} for twelve activations; {answer.item():.3f} came."
    other = torch.tanh(torch.linspace(-4, 6, 35).reshape(7, 5))
    share = number(saturated_share(other.clone()))
    right = (1 - other**2 < 0.01).float().mean().item()
    assert abs(share - right) < 1e-3, f"Right for 12 activations; for 35 others expected {right:.3f}, {share:.3f} came."
    return "Beyond ±2.99, where tanh is above 0.995."


saturated_share = Exercise(
    "Saturated units",
    test=_check_saturated_share,
    hints=(
        "The derivative of tanh at z is 1 - tanh(z)², and a is tanh(z).",
        "1 - a**2 < 0.01 is True for each saturated unit. Take .float() and the mean: that is their share.",
    ),
    reference=saturated_share,
)

# ---- 3. weights for the sigmoid --------------------------------------------------------------------------------------


def sigmoid_std():
    return 4 / math.sqrt(64)  # 1/4 · sqrt(64 · std²) = 1


def _check_sigmoid_std(std):
    std = number(std)
    mistakes = {
        0.25: "This is the variance. Its root is the standard deviation.",
        4.0: "The 64 inputs are missing: the weights' part of the factor is the root of 64 · std².",
        0.125: "With this one the weights' part is 1. The sigmoid's 1/4 is still there.",
        math.sqrt(3) / 2: "This is the bound of a uniform distribution. Its standard deviation was asked for.",
        1 / 16: "64 · std² stands under a root: 1/4 · sqrt(64 · std²) = 1.",
    }
    for value, message in mistakes.items():
        assert abs(std / value - 1) > 0.01, message
    assert abs(std / 0.5 - 1) < 0.01, f"1/4 · sqrt(64 · std²) should be 1; with std = {std:.3g} it is {2 * std:.3g}."
    return "Four times as large as for a factor of 1/4. Section 6 looks at what becomes of the units with such weights."


sigmoid_std = Exercise(
    "Weights that make up for the sigmoid",
    test=_check_sigmoid_std,
    hints=("Var(w) is std². Solve 1/4 · sqrt(64 · std²) = 1 for std.", "sqrt(64 · std²) is 8 · std."),
    reference=sigmoid_std,
    computed=True,
)

# ---- 5. dead units ---------------------------------------------------------------------------------------------------


def dead_units(activations):
    return (activations == 0).all(dim=0).sum()


def _check_dead_units(dead_units):
    rows = [[0, 2.0, 0, 0, 1e-4], [0, 0, 0, 0, 0], [0, 0.5, 0, 3.0, 0], [0, 0, 0, 0, 2e-4]]  # 4 digits, 5 units
    activations = torch.tensor(rows)
    answer = tensor(dead_units(activations.clone()), "one number, how many units are dead")
    assert answer.numel() == 1, (
        f"Expected one number; a result of shape {tuple(answer.shape)} came. Count the dead ones."
    )
    count = answer.item()
    zero = activations == 0
    assert count != zero.all(dim=1).sum(), "You counted the digits for which every unit is zero. A unit is a column."
    assert count != zero.any(dim=0).sum(), (
        "You counted units that are zero for *some* digit. Dead is zero for all of them."
    )
    assert count != zero.sum(), "You counted zeros. Count the columns that hold nothing else."
    assert count != zero.all(dim=0).float().mean(), "This is the share of dead units. Their number was asked for."
    assert count != (activations < 1e-3).all(dim=0).sum(), "A small activation is not zero, and not dead."
    assert count == 2, f"For 4 digits and 5 units, of which 2 are zero for every digit, {count:g} came."
    others = activations.repeat(3, 4)[:, :13] * (torch.arange(13) != 8)
    count, right = number(dead_units(others.clone())), (others == 0).all(dim=0).sum().item()
    assert count == right, f"Right for 5 units; for 13 others, of which {right} are dead, {count:g} came."
    return (
        "A unit that is zero for every digit passes no gradient to its weights. With the data as it is, it stays dead."
    )


dead_units = Exercise(
    "Dead units",
    test=_check_dead_units,
    hints=(
        "A unit is a column of activations, and dim=0 runs over the digits.",
        "(activations == 0).all(dim=0) is True for each dead unit. Count with .sum().",
    ),
    reference=dead_units,
)

# ---- 6. He's rule for a convolution ----------------------------------------------------------------------------------


def conv_std():
    return math.sqrt(2 / (16 * 3 * 3))


def _check_conv_std(std):
    std, n = number(std), 16 * 3 * 3
    mistakes = {
        math.sqrt(2 / 16): "The kernel is missing: each output is a sum over 16 channels and 3 x 3 pixels.",
        math.sqrt(2 / 9): "The channels are missing: each output is a sum over 16 channels and 3 x 3 pixels.",
        math.sqrt(2 / (64 * 9)): "n counts the inputs of one output: 16 channels, not 64.",
        2 / n: "This is the variance. Its root is the standard deviation.",
        math.sqrt(2 / (16 * 3)): "The kernel has 3 x 3 pixels, not 3. (Or is it the bound of a uniform distribution? "
        "Its standard deviation was asked for.)",
        math.sqrt(1 / n): "The 2 is missing: ReLU throws half of the mean square away.",
    }
    for value, message in mistakes.items():
        assert abs(std / value - 1) > 0.01, message
    assert abs(std / math.sqrt(2 / n) - 1) < 0.01, (
        f"Expected the root of 2 / n, n the inputs of one output; {std:.4g} came."
    )
    return "Each output of the convolution is a sum of 16 · 3 · 3 = 144 products: n = 144."


conv_std = Exercise(
    "He's rule for a convolution",
    test=_check_conv_std,
    hints=(
        "n is the number of products that are added up for one output.",
        "One output of the convolution sees 3 x 3 pixels in each of 16 channels.",
        "The square root of 2 / (16 · 3 · 3).",
    ),
    reference=conv_std,
    computed=True,
)

# ---- 8. a chain with shortcuts ---------------------------------------------------------------------------------------


def chain_with_skips(slopes):
    return (1 + slopes).prod()


def _check_chain_with_skips(chain_with_skips):
    slopes = torch.tensor([0.5, -0.3, 0.2, 0.1])
    answer = tensor(chain_with_skips(slopes.clone()), "one number, the product")
    assert answer.numel() == 1, f"Expected one number, the product; a result of shape {tuple(answer.shape)} came."
    answer = answer.double()

    def is_(value):
        return torch.isclose(answer, value.double(), rtol=1e-4)

    assert not is_(slopes.prod()), (
        "This is the chain without skip connections. With one, each layer's factor is 1 + f'."
    )
    assert not is_(1 + slopes.prod()), "This is one skip connection around the whole chain. Each layer has its own."
    assert not is_(1 + slopes.sum()), "Nearly, while the slopes are small. But the factors are multiplied, not added."
    assert not is_((1 + slopes).sum()), "These are the right factors, added up. The chain rule multiplies them."
    expected = (1 + slopes).prod()
    assert is_(expected), f"Expected {expected:.3f} for f' = 0.5, -0.3, 0.2, 0.1; {answer.item():.3f} came."
    longer = torch.linspace(-0.4, 0.6, 9)
    came, right = number(chain_with_skips(longer.clone())), (1 + longer).prod().item()
    assert abs(came - right) < 1e-3, f"Right for 4 layers; for 9 others expected {right:.3f}, {came:.3f} came."
    return f"{expected:.2f}; the same chain without skip connections has {slopes.prod():.3f}."


chain_with_skips = Exercise(
    "A chain with skip connections",
    test=_check_chain_with_skips,
    hints=(
        "One layer with a skip connection has the factor 1 + f'.",
        "(1 + slopes) are all factors. Multiply: .prod()",
    ),
    reference=chain_with_skips,
)

# ---- clip ------------------------------------------------------------------------------------------------------------


def clip(parameters, max_norm):
    gradients = [parameter.grad for parameter in parameters]
    norm = torch.sqrt(sum(gradient.square().sum() for gradient in gradients))
    if norm > max_norm:
        for gradient in gradients:
            gradient.mul_(max_norm / norm)
    return norm


def _check_clip(clip):
    not_used(clip, "clip_grad_norm_", "clip_grad_norm", "clip_grads_with_norm_")
    generator = torch.Generator().manual_seed(0)
    grads = [
        torch.randn(shape, generator=generator) * size for shape, size in (((4, 3), 5.0), ((4,), 0.2), ((2, 4), 1.0))
    ]
    joint = torch.cat([grad.flatten() for grad in grads]).norm()

    def after(max_norm, give=iter):  # as model.parameters() does, iter(...) gives each parameter once
        parameters = [nn.Parameter(torch.zeros_like(grad)) for grad in grads]
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = grad.clone()
        norm = clip(give(parameters), max_norm)
        assert all(parameter.grad is not None for parameter in parameters), (
            "Gradients have become None. Scale them in place."
        )
        return norm, [parameter.grad for parameter in parameters]

    def untouched(came):
        return all(torch.equal(grad, before) for grad, before in zip(came, grads, strict=True))

    norm, clipped = after(1.0)
    assert not untouched(clipped) or untouched(after(1.0, give=list)[1]), (
        "With a list of parameters it clips, with model.parameters() nothing is clipped: that is a generator, empty "
        "after one loop. Begin with parameters = list(parameters)."
    )
    assert not untouched(clipped), (
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
        f"The joint norm was {joint:.2f}; with max_norm = 1 it should be 1 afterwards, and it is {came.norm():.3f}. "
        "The joint norm is the root of the sum of all squares, not the sum of the norms."
    )
    norm_value = torch.tensor(number(norm, "one number, the joint norm from before"))
    assert torch.isclose(norm_value, joint, rtol=1e-3), (
        f"Expected the joint norm from before, {joint:.2f}; {norm_value.item():.2f} came. The root of the sum of all "
        "squares, taken before scaling."
    )
    _, half = after(5.0)
    came = torch.cat([grad.flatten() for grad in half]).norm()
    assert torch.isclose(came, torch.tensor(5.0), rtol=1e-3), (
        f"Right for max_norm = 1. With max_norm = 5 the joint norm should be 5 afterwards, and it is {came:.3f}."
    )
    _, short = after(1000.0)
    assert all(torch.allclose(a, b) for a, b in zip(short, grads, strict=True)), (
        "Gradients shorter than max_norm were changed too. They stay as they are: clipping never makes a gradient "
        "longer."
    )
    return "Direction kept, length limited: what nn.utils.clip_grad_norm_ does."


clip = Exercise(
    "Clip the gradient",
    test=_check_clip,
    hints=(
        "The joint norm is the root of the sum of the squares of all numbers in all gradients. (Begin with a list: a "
        "generator is empty after one loop.)",
        "Only if it is above max_norm: multiply every parameter.grad in place by max_norm / norm.",
        "parameter.grad.mul_(max_norm / norm) for each; return the norm that you computed first.",
    ),
    reference=clip,
)

# ---- He's initialisation ---------------------------------------------------------------------------------------------


def initialise(model):
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=math.sqrt(2 / layer.in_features))
            nn.init.zeros_(layer.bias)
    return model


def _check_initialise(initialise):
    not_used(initialise, "kaiming_normal_", "kaiming_uniform_", "kaiming_normal", "kaiming_uniform")
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
    assert [type(module) for module in model.modules()] == [type(module) for module in old.modules()], (
        "This is another network. Change the layers of `model` in place, and return it."
    )
    assert all(isinstance(layer.bias, torch.Tensor) for layer in layers), "A bias is gone. Set it to zero."
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

# ---- group normalisation ---------------------------------------------------------------------------------------------


def group_norm(x, num_groups):
    groups = x.unflatten(1, (num_groups, -1))  # (N, G, C / G, H, W)
    mean = groups.mean(dim=(2, 3, 4), keepdim=True)
    variance = groups.var(dim=(2, 3, 4), keepdim=True, unbiased=False)
    return ((groups - mean) / torch.sqrt(variance + 1e-5)).flatten(1, 2)


def _check_group_norm(group_norm):
    not_used(group_norm, "GroupNorm", "group_norm", "native_group_norm")
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

    result = result.to(x.dtype)  # a result in double precision is as right

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
        f"The largest difference from nn.GroupNorm(2, 6) is {(result - expected).abs().max():.2f}. Mean and variance "
        "are taken over the "
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
        "Subtract, divide by the root of variance + 1e-5, and join the channels again: .flatten(1, 2).",
    ),
    reference=group_norm,
)

# ---- a block that begins as nothing ----------------------------------------------------------------------------------


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
    assert len(linears) == 2, (
        f"The block has {len(linears)} linear layers; expected 2 in f (nn.Linear, not hidden in a Python list), "
        "with a ReLU between them."
    )
    x = torch.randn(32, 16)
    y = block(x)
    assert isinstance(y, torch.Tensor) and y.shape == x.shape, (
        f"Inputs of shape (32, 16) gave {tuple(y.shape) if isinstance(y, torch.Tensor) else type(y).__name__}; "
        "expected the same shape. Does forward return x + f(x)?"
    )
    assert not (y == 0).all(), "At the start the block gives zeros: f is zero, and the x of x + f(x) is missing."
    assert torch.equal(y, x), (
        f"At the start the block should return x exactly; the largest difference is {(y - x).abs().max():.2f}. f(x) "
        "must be zero: "
        "which layer of f has the last word?"
    )
    assert y.requires_grad, "No gradient comes back through the block: is there a detach or a no_grad in forward?"
    other = _with_random_weights(block)
    first, last = _in_order(other, x)
    with torch.no_grad():
        hidden, f = first(x), other(x) - x
        assert not torch.allclose(f, last(hidden), atol=1e-4), "There is no ReLU between the two linear layers of f."
        assert not torch.allclose(f, F.relu(last(hidden)), atol=1e-4), (
            "The ReLU comes after the last layer of f. It belongs between the two linear layers."
        )
        assert torch.allclose(f, last(F.relu(hidden)), atol=1e-4), (
            "With other weights, y is not x + W2 relu(W1 x + b1) + b2. Expected two linear layers, one ReLU between "
            "them, and x added at "
            "the end."
        )
    zero = [bool((linear.weight == 0).all()) for linear in linears]
    assert any(zero), (
        "The block returns x only because f(x) is lost in rounding: it must be exactly zero. nn.init.zeros_ on the "
        "last linear layer."
    )
    target = torch.randn(32, 16)
    optimizer = torch.optim.SGD(block.parameters(), lr=0.1)
    before = [linear.weight.detach().clone() for linear in linears]
    for _ in range(5):
        optimizer.zero_grad()
        F.mse_loss(block(x), target).backward()
        optimizer.step()
    moved = [not torch.equal(linear.weight, old) for linear, old in zip(linears, before, strict=True)]
    assert any(moved) or not all(zero), (
        "After five steps of training both layers' weights are as they were. With both layers at zero every gradient "
        "is zero too: "
        "set only the last one to zero."
    )
    assert any(moved) or not any(zero), (
        "After five steps of training both layers' weights are as they were. The first layer is zero, so the ReLU "
        "gives zero, "
        "and passes no gradient back. Set the last layer to zero, not the first."
    )
    assert all(moved), (
        f"After five steps {2 - sum(moved)} of the two layers has not moved. Are the weights of both trainable, and "
        "both used in f?"
    )
    widths = {layer.in_features for layer in make_block(7).modules() if isinstance(layer, nn.Linear)}
    assert 7 in widths, "Right for width 16, but not for width 7. Is `width` used?"
    return "The last layer is zero, so f is; the first is not, so the last one gets a gradient and wakes the first."


def _with_random_weights(block: nn.Module) -> nn.Module:
    """A copy with all weights drawn anew: what the block computes, however it begins."""
    other = copy.deepcopy(block)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.copy_(torch.randn(parameter.shape) / 4)
    return other


def _in_order(block: nn.Module, x: torch.Tensor) -> list[nn.Linear]:
    """The linear layers of a block in the order in which x passes them, which may not be that of their making."""
    passed: list[nn.Linear] = []
    linears = [module for module in block.modules() if isinstance(module, nn.Linear)]
    hooks = [linear.register_forward_hook(lambda module, *_: passed.append(module)) for linear in linears]
    try:
        block(x)
    finally:
        for hook in hooks:
            hook.remove()
    assert len(passed) == 2, f"x passes {len(passed)} linear layers on its way; expected both of f, each once."
    return passed


make_block = Exercise(
    "A block that begins as nothing",
    test=_check_make_block,
    hints=(
        "f(x) = W2 relu(W1 x + b1) + b2. What has to be zero so that f(x) is zero for every x?",
        "The gradient of W2 is proportional to relu(W1 x + b1). So W1 must not be zero, if W2 is.",
        "In __init__: nn.init.zeros_ on weight and bias of the last linear layer only. In forward: return x + "
        "self.f(x).",
    ),
    reference=make_block,
)

# ---- lab -------------------------------------------------------------------------------------------------------------

LAB_GOOD, LAB_VERY_GOOD = (
    0.975,
    0.985,
)  # shares of right answers; a linear classifier alone has 0.960 to 0.972 on ten seeds


def train_deep():
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.activation = nn.Linear(64, 64), nn.Sigmoid()

        def forward(self, x):
            return x + self.activation(self.linear(x)) - 0.5  # the skip connection; a sigmoid is 0.5 in the middle

    x_train, y_train = _digits("train")
    model = nn.Sequential(*[Layer() for _ in range(49)], nn.Linear(64, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, fused=True)
    num_epochs, steps = 30, math.ceil(len(x_train) / 64)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=num_epochs * steps)
    for _ in range(num_epochs):
        for batch in torch.randperm(len(x_train)).split(64):
            loss = F.cross_entropy(model(x_train[batch]), y_train[batch], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
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
            f"A digit passes {calls['Sigmoid']} sigmoids; expected 49, one after each linear layer but the last (as "
            "modules, nn.Sigmoid())."
        )
        outputs = model(x)
        shape = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
        assert shape == (len(x), 10) and outputs.requires_grad, (
            f"{len(x)} digits gave {shape}; expected ({len(x)}, 10), ten numbers a digit, and no argmax or no_grad in "
            "forward."
        )
        idle = _without_gradient(model, F.cross_entropy(outputs, y))
        assert not idle, (
            f"{len(idle)} of the 50 linear layers get no gradient (the first of them is layer {idle[0]}), so they take "
            "no part. "
            "Look at the gradient profile of your network. (A skip connection past layers that count for nothing is a "
            "linear classifier.)"
        )
        share = (outputs.argmax(dim=1) == y).float().mean().item()
    score = f"{share:.1%} of {len(y)} held-out digits are right"
    assert share >= LAB_GOOD, (
        f"{score}; a linear classifier alone has about 96.5 %, and {LAB_GOOD:.1%} counts as good. Is the profile "
        "level? Then it is the "
        "training: learning rate, schedule, epochs, label smoothing."
    )
    return f"{score}; {LAB_GOOD:.1%} is good, {LAB_VERY_GOOD:.1%} is very good."


def _without_gradient(model: nn.Module, loss: torch.Tensor) -> list[int]:
    """The numbers, from 1, of the linear layers whose gradient is nothing beside the largest one."""
    weights = [module.weight.requires_grad_() for module in model.modules() if isinstance(module, nn.Linear)]
    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    norms = [gradient.norm().item() if gradient is not None else 0.0 for gradient in gradients]
    return [number for number, norm in enumerate(norms, start=1) if norm <= 1e-6 * max(norms)]


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
        "Section 9 shows which remedies make 50 layers of sigmoid trainable. Look at the gradient profile.",
        "Each sigmoid adds about 0.5 to the skip path, 49 times. Subtract it: x + sigmoid(...) - 0.5.",
        "Then train well: AdamW and OneCycleLR with max_lr=3e-3 for 30 epochs, and label_smoothing=0.1 in the loss.",
    ),
    reference=train_deep,
)
