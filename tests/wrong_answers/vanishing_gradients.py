"""Wrong answers to the exercises of notebook 01: (exercise, answer, a piece of the message that fits the mistake)."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def chain(derivative):
    def chain_gradient(x, a1, a2, a3):
        f3 = torch.tanh(a3 * x)
        f2 = torch.tanh(a2 * f3)
        f1 = torch.tanh(a1 * f2)
        return derivative(x, a1, a2, a3, f1, f2, f3)

    return chain_gradient


def by_autograd(x, a1, a2, a3):
    a2 = a2.clone().requires_grad_()
    torch.tanh(a1 * torch.tanh(a2 * torch.tanh(a3 * x))).backward()
    return a2.grad


def shares(of):
    """A function of tanh's activations whose answer is the mean of `of(activations)`."""
    return lambda a: of(a).float().mean()


def joint_norm(parameters):
    return torch.cat([p.grad.flatten() for p in parameters]).norm()


def clipped(change, norm=joint_norm):
    def clip(parameters, max_norm):
        parameters = list(parameters)
        before = norm(parameters)
        change(parameters, max_norm, joint_norm(parameters))
        return before

    return clip


def each_by_value(parameters, max_norm, norm):
    for p in parameters:
        p.grad.clamp_(-max_norm, max_norm)


def each_by_its_norm(parameters, max_norm, norm):
    for p in parameters:
        p.grad.mul_(min(1, max_norm / p.grad.norm()))


def copies(parameters, max_norm, norm):
    [p.grad * max_norm / norm for p in parameters]


def always(parameters, max_norm, norm):
    for p in parameters:
        p.grad.mul_(max_norm / norm)


def two_loops(parameters, max_norm):
    norm = torch.sqrt(sum(p.grad.square().sum() for p in parameters))
    for p in parameters:
        p.grad.mul_(min(1, max_norm / norm))
    return norm


def by_pytorch(parameters, max_norm):
    return nn.utils.clip_grad_norm_(parameters, max_norm)


def half(parameters, max_norm, norm):
    for p in parameters:
        p.grad.mul_(min(1, 0.5 * max_norm / norm))


def only_first(parameters, max_norm, norm):
    parameters[0].grad.mul_(max_norm / norm)


def right(parameters, max_norm, norm):
    for p in parameters:
        p.grad.mul_(min(1, max_norm / norm))


def drawn(std, bias=0.0, top=False, back=True):
    def initialise(model):
        for layer in model.children() if top else model.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=std(layer.in_features, layer.out_features))
                nn.init.constant_(layer.bias, bias)
        return model if back else 1

    return initialise


def kaiming(model):
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
    return model


def he(n, m):
    return math.sqrt(2 / n)


def normalised(axes):
    def group_norm(x, num_groups):
        return (x - x.mean(axes, keepdim=True)) / torch.sqrt(x.var(axes, keepdim=True, unbiased=False) + 1e-5)

    return group_norm


def every_second(x, num_groups):
    groups = x.unflatten(1, (-1, num_groups))
    variance = groups.var((1, 3, 4), keepdim=True, unbiased=False)
    return ((groups - groups.mean((1, 3, 4), keepdim=True)) / torch.sqrt(variance + 1e-5)).flatten(1, 2)


def one_less(x, num_groups):
    groups = x.unflatten(1, (num_groups, -1))
    return ((groups - groups.mean((2, 3, 4), keepdim=True)) / groups.std((2, 3, 4), keepdim=True)).flatten(1, 2)


def two_groups(x, num_groups):
    groups = x.unflatten(1, (2, -1))
    variance = groups.var((2, 3, 4), keepdim=True, unbiased=False)
    return ((groups - groups.mean((2, 3, 4), keepdim=True)) / torch.sqrt(variance + 1e-5)).flatten(1, 2)


class Block(nn.Module):
    def __init__(self, width, zeros=(2,), skip=True, num_linear=2, frozen=(), bend=nn.ReLU, after=nn.Identity):
        super().__init__()
        self.f = nn.Sequential(nn.Linear(width, width), bend(), *[nn.Linear(width, width)] * (num_linear - 1), after())
        self.skip = skip
        for i in zeros:
            nn.init.zeros_(self.f[i].weight)
            nn.init.zeros_(self.f[i].bias)
        for i in frozen:
            self.f[i].requires_grad_(False)

    def forward(self, x):
        return x + self.f(x) if self.skip else self.f(x)


def block(**changes):
    return lambda width: Block(width, **changes)


def first_is_zero(width):
    made = Block(width, zeros=(0,))
    nn.init.zeros_(made.f[2].bias)
    return made


def by_func(x, a1, a2, a3):
    return torch.func.jacrev(lambda a: torch.tanh(a1 * torch.tanh(a * torch.tanh(a3 * x))))(a2)


def by_math(x, a1, a2, a3):
    """With Python's own numbers, and cosh in place of 1 - tanh²."""
    x, a1, a2, a3 = map(float, (x, a1, a2, a3))
    f3 = math.tanh(a3 * x)
    f2 = math.tanh(a2 * f3)
    return a1 / math.cosh(a1 * f2) ** 2 * f3 / math.cosh(a2 * f3) ** 2


def he_by_apply(model):
    def draw(layer):
        if type(layer) is nn.Linear:
            layer.weight.data = torch.randn_like(layer.weight) * (2 / layer.weight.shape[1]) ** 0.5
            layer.bias.data.zero_()

    return model.apply(draw)


aliased = nn.init.kaiming_normal_


def he_by_alias(model):
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            aliased(layer.weight)
            nn.init.zeros_(layer.bias)
    return model


def he_by_helper(model):
    return kaiming(model)


def another_network(model):
    return drawn(he)(nn.Sequential(nn.Linear(100, 400), nn.ReLU(), nn.Linear(400, 200), nn.ReLU(), nn.Linear(200, 50)))


def without_bias(model):
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=math.sqrt(2 / layer.in_features))
            layer.bias = None
    return model


def by_chunks(x, num_groups):
    """Each group by itself, in double precision."""
    parts = x.double().chunk(num_groups, dim=1)
    return torch.cat([F.layer_norm(part, part.shape[1:]) for part in parts], dim=1)


def to_one(parameters, max_norm, norm):
    for p in parameters:
        p.grad.div_(norm if norm > max_norm else 1)


def first_only(model):
    return drawn(he)(model)[0]


class Wide(nn.Module):
    """A right block: f is wider inside, its last layer has no bias, and its layers are made in the other order."""

    def __init__(self, width):
        super().__init__()
        self.last, self.first = nn.Linear(3 * width, width, bias=False), nn.Linear(width, 3 * width)
        self.last.weight.data.zero_()

    def forward(self, x):
        return torch.add(x, self.last(self.first(x).clamp(min=0)))


class Cut(Block):
    def forward(self, x):
        return x + self.f(x).detach()


class Labels(nn.Sequential):
    def forward(self, x):
        return super().forward(x).argmax(dim=1)


def tiny_block(width):
    made = Block(width)
    nn.init.normal_(made.f[2].weight, std=1e-12)
    return made


def deep(depth=50, activation=nn.Sigmoid):
    def train_deep():
        layers = [part for _ in range(depth - 1) for part in (nn.Linear(64, 64), activation())]
        return nn.Sequential(*layers, nn.Linear(64, 10))

    return train_deep


class Skip(nn.Module):
    def __init__(self, share):
        super().__init__()
        self.linear, self.activation, self.share = nn.Linear(64, 64), nn.Sigmoid(), share

    def forward(self, x):
        return x + self.share * self.activation(self.linear(x))


def skipping(share):
    """With share=0 a linear classifier that only looks deep."""
    return lambda: nn.Sequential(*[Skip(share) for _ in range(49)], nn.Linear(64, 10))


RIGHT = [
    ("chain_gradient", by_math),
    ("saturated_share", lambda a: np.mean(1 - a.numpy() ** 2 < 0.01)),
    ("saturated_share", lambda a: (a.abs() > math.sqrt(0.99)).double().mean(dim=(0, 1), keepdim=True)),
    ("sigmoid_std", np.float64(0.5)),
    ("dead_units", lambda activations: len([1 for unit in activations.T if not unit.any()])),
    ("conv_std", torch.tensor(2 / 144).sqrt()),
    ("chain_with_skips", lambda slopes: math.prod(1 + slope for slope in slopes.tolist())),
    ("initialise", he_by_apply),
    ("group_norm", by_chunks),
    ("make_block", Wide),
]

WRONG = [
    ("chain_gradient", by_func, "uses jacrev"),
    ("chain_gradient", lambda x, a1, a2, a3: "f'", 'Expected one number; "f\'", a str, came'),
    ("saturated_share", shares(lambda a: 1 - a < 0.01), "Units near -1 are saturated too"),
    ("saturated_share", lambda a: 100 * (1 - a**2 < 0.01).float().mean(), "in per cent"),
    ("saturated_share", lambda a: (1 - a**2).mean() < 0.01, "0 came, so no unit counts"),
    ("saturated_share", lambda a: 1 / 3, "Right for 12 activations"),
    ("sigmoid_std", "half", "Expected one number; 'half', a str, came"),
    ("sigmoid_std", [0.5, 1], "Expected one number; a list came"),
    ("dead_units", lambda a: 2, "Right for 5 units"),
    ("dead_units", lambda a: (a < 0.1).all(dim=0).sum(), "A small activation is not zero"),
    ("dead_units", lambda a: "two", "Expected one number"),
    ("conv_std", "0.118", "Expected one number; '0.118', a str, came"),
    ("chain_with_skips", lambda s: (1 + s[0]) * (1 + s[1]) * (1 + s[2]) * (1 + s[3]), "Right for 4 layers"),
    ("chain_with_skips", lambda s: {"product": (1 + s).prod()}, "Expected one number, the product; a dict came"),
    ("clip", clipped(to_one), "With max_norm = 5"),
    (
        "clip",
        clipped(right, norm=lambda parameters: (joint_norm(parameters), 1)),
        "Expected one number, the joint norm",
    ),
    ("initialise", he_by_alias, "uses kaiming_normal_"),
    ("initialise", he_by_helper, "uses kaiming_normal_"),
    ("initialise", another_network, "This is another network"),
    ("initialise", first_only, "This is another network"),
    ("initialise", without_bias, "A bias is gone"),
    ("make_block", Cut, "is there a detach"),
    ("make_block", tiny_block, "lost in rounding"),
    ("make_block", lambda width: Block(16), "not for width 7"),
    ("lab", lambda: Labels(*deep()()), "ten numbers a digit"),
    ("chain_gradient", chain(lambda x, a1, a2, a3, f1, f2, f3: f1), "This is F itself"),
    ("chain_gradient", chain(lambda x, a1, a2, a3, f1, f2, f3: (1 - f1**2) * f2), "derivative by a1"),
    (
        "chain_gradient",
        chain(lambda x, a1, a2, a3, f1, f2, f3: (1 - f1**2) * a1 * (1 - f2**2) * a2 * (1 - f3**2) * x),
        "derivative by a3",
    ),
    (
        "chain_gradient",
        chain(lambda x, a1, a2, a3, f1, f2, f3: (1 - f1**2) * a1 * (1 - f2**2)),
        "last factor is missing",
    ),
    ("chain_gradient", chain(lambda x, a1, a2, a3, f1, f2, f3: (1 - f1**2) * (1 - f2**2) * f3), "factor a1 is missing"),
    ("chain_gradient", chain(lambda x, a1, a2, a3, f1, f2, f3: a1 * f3), "derivative of each tanh is missing"),
    ("chain_gradient", chain(lambda x, a1, a2, a3, f1, f2, f3: f1 * f2 * f3 * a1), "Expected"),
    ("chain_gradient", by_autograd, "uses backward and grad"),
    ("saturated_share", lambda a: (1 - a**2 < 0.01).sum(), "number of saturated units"),
    ("saturated_share", shares(lambda a: 1 - a**2 >= 0.01), "share of the others"),
    ("saturated_share", shares(lambda a: a * (1 - a) < 0.01), "sigmoid's derivative"),
    ("saturated_share", shares(lambda a: 1 - torch.tanh(a) ** 2 < 0.01), "no second tanh"),
    ("saturated_share", shares(lambda a: a > 0.9), "Expected"),
    ("saturated_share", lambda a: 1 - a**2 < 0.01, "Expected one number"),
    ("sigmoid_std", 0.25, "This is the variance"),
    ("sigmoid_std", 4, "The 64 inputs are missing"),
    ("sigmoid_std", 1 / 8, "1/4 is still there"),
    ("sigmoid_std", math.sqrt(3) / 2, "bound of a uniform"),
    ("sigmoid_std", 1 / 16, "stands under a root"),
    ("sigmoid_std", 1.0, "should be 1"),
    ("dead_units", lambda a: (a == 0).all(dim=1).sum(), "counted the digits"),
    ("dead_units", lambda a: (a == 0).any(dim=0).sum(), "for *some* digit"),
    ("dead_units", lambda a: (a == 0).sum(), "You counted zeros"),
    ("dead_units", lambda a: (a == 0).all(dim=0).float().mean(), "share of dead units"),
    ("dead_units", lambda a: (a == 0).all(dim=0), "Expected one number"),
    ("dead_units", lambda a: 7, "7 came"),
    ("conv_std", math.sqrt(2 / 16), "The kernel is missing"),
    ("conv_std", math.sqrt(2 / 48), "3 x 3 pixels, not 3"),
    ("conv_std", math.sqrt(2 / 9), "The channels are missing"),
    ("conv_std", math.sqrt(2 / 576), "16 channels, not 64"),
    ("conv_std", 2 / 144, "This is the variance"),
    ("conv_std", 1 / 12, "The 2 is missing"),
    ("conv_std", 1.0, "Expected the root of 2 / n"),
    ("chain_with_skips", lambda slopes: slopes.prod(), "without skip connections"),
    ("chain_with_skips", lambda slopes: 1 + slopes.prod(), "around the whole chain"),
    ("chain_with_skips", lambda slopes: 1 + slopes.sum(), "multiplied, not added"),
    ("chain_with_skips", lambda slopes: (1 + slopes).sum(), "right factors, added up"),
    ("chain_with_skips", lambda slopes: (1 - slopes).prod(), "Expected"),
    ("chain_with_skips", lambda slopes: 1 + slopes, "Expected one number"),
    ("clip", clipped(copies), "as they were"),
    ("clip", two_loops, "Begin with parameters = list(parameters)"),
    ("clip", by_pytorch, "uses clip_grad_norm_"),
    ("clip", clipped(each_by_value), "Each number was clipped by itself"),
    ("clip", clipped(each_by_its_norm), "by its own norm"),
    ("clip", clipped(only_first), "points elsewhere"),
    ("clip", clipped(half), "should be 1 afterwards"),
    (
        "clip",
        clipped(right, norm=lambda parameters: sum(p.grad.norm() for p in parameters)),
        "root of the sum of all squares",
    ),
    ("clip", clipped(always), "never makes a gradient longer"),
    ("initialise", kaiming, "uses kaiming_normal_"),
    ("initialise", drawn(he, back=False), "returned a int"),
    ("initialise", drawn(he, top=True), "1 of 3 linear layers still have their old weights"),
    ("initialise", drawn(lambda n, m: math.sqrt(2 / (n + m))), "Xavier"),
    ("initialise", drawn(lambda n, m: math.sqrt(2 / m)), "here it is the outputs"),
    ("initialise", drawn(lambda n, m: 2 / n), "forgets the square root"),
    ("initialise", drawn(lambda n, m: math.sqrt(1 / n)), "The 2 is missing"),
    ("initialise", drawn(lambda n, m: 1.0), "Expected weights with standard deviations 0.1414"),
    ("initialise", drawn(he, bias=0.1), "biases are not zero"),
    ("group_norm", lambda x, num_groups: x.unflatten(1, (num_groups, -1)), "Undo the grouping"),
    ("group_norm", normalised((1, 2, 3)), "layer normalisation"),
    ("group_norm", normalised((2, 3)), "instance normalisation"),
    ("group_norm", normalised((0, 2, 3)), "batch normalisation"),
    ("group_norm", every_second, "every second channel"),
    ("group_norm", one_less, "unbiased=False"),
    ("group_norm", lambda x, num_groups: x, "largest difference from nn.GroupNorm"),
    ("group_norm", two_groups, "not with 1"),
    ("group_norm", lambda x, num_groups: F.group_norm(x, num_groups), "uses group_norm"),
    ("group_norm", lambda x, num_groups: nn.GroupNorm(num_groups, x.shape[1])(x), "uses GroupNorm"),
    ("make_block", lambda width: 1, "returned a int"),
    ("make_block", lambda width: nn.Identity(), "has 0 linear layers"),
    ("make_block", block(num_linear=1, zeros=()), "has 1 linear layers"),
    ("make_block", block(skip=False), "the x of x + f(x) is missing"),
    ("make_block", block(zeros=()), "should return x exactly"),
    ("make_block", block(zeros=(0, 2)), "set only the last one to zero"),
    ("make_block", block(zeros=(0,)), "should return x exactly"),  # its last layer has a bias
    ("make_block", first_is_zero, "Set the last layer to zero, not the first"),
    ("make_block", block(bend=nn.Identity), "There is no ReLU"),
    ("make_block", block(bend=nn.Identity, after=nn.ReLU), "The ReLU comes after the last layer"),
    ("make_block", block(bend=nn.Tanh), "is not x + W2 relu(W1 x + b1) + b2"),
    ("make_block", block(frozen=(0,)), "1 of the two layers has not moved"),
    ("lab", lambda: "done", "returned a str"),
    ("lab", deep(), "linear layers get no gradient"),
    ("lab", skipping(0), "49 of the 50 linear layers get no gradient"),
    ("lab", skipping(1), "held-out digits are right; a linear classifier alone"),
    ("lab", deep(depth=20), "passes 20 linear layers"),
    ("lab", deep(activation=nn.ReLU), "the sigmoid is to stay the only activation"),
    ("lab", deep(activation=nn.Identity), "passes 0 sigmoids"),
]
