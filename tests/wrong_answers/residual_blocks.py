"""Wrong answers to the exercises of notebook 02: (exercise, answer, a piece of the message that fits the mistake)."""

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from utils.exercises import residual_blocks as right


def counting_all(inputs, weighted):
    return len(weighted)


def way_along(choose, every=False):
    """The depth along one input of each layer, or with every layer counted."""

    def longest_way(inputs, weighted):
        depth = {}
        for layer, before in inputs.items():
            depth[layer] = (choose(depth[other] for other in before) if before else 0) + (every or layer in weighted)
        return depth[layer]

    return longest_way


def kernel(change):
    def identity_kernel(channels):
        weight = torch.zeros(channels, channels, 3, 3)
        change(weight, torch.eye(channels))
        return weight

    return identity_kernel


def fill(weight, eye, row=slice(None), column=slice(None), every=False, scale=1):
    values = torch.ones_like(eye) * scale if every else eye
    weight[:, :, row, column] = values[:, :, None, None] if row == slice(None) else values


def by_dirac(channels):
    return nn.init.dirac_(torch.empty(channels, channels, 3, 3))


def zeroed(*names, freeze=False):
    def begin_as_identity(block):
        for name in names:
            nn.init.zeros_(block.get_parameter(name)).requires_grad_(not freeze)
        return block

    return begin_as_identity


def changing_x(x, bn1, conv1, bn2, conv2):
    x += f_before(x, bn1, conv1, bn2, conv2)
    return x


def f_before(x, bn1, conv1, bn2, conv2):
    return conv2(F.relu(bn2(conv1(F.relu(bn1(x))))))


def late_shortcut(x, bn1, conv1, bn2, conv2):
    x = F.relu(bn1(x))
    return x + conv2(F.relu(bn2(conv1(x))))


def post_activation(x, bn1, conv1, bn2, conv2):
    return F.relu(x + bn2(conv2(F.relu(bn1(conv1(x))))))


def highway(function):
    return lambda x, f, gate: function(x, f(x), torch.sigmoid(gate(x)))


def gate_of_f(x, f, gate):
    fx = f(x)
    t = torch.sigmoid(gate(fx))
    return t * fx + (1 - t) * x


def twice(x, f, gate):
    return torch.sigmoid(gate(x)) * f(x) + x - torch.sigmoid(gate(x)) * x + 0 * f(x)


def count(bias=0, scale=2, projection="needed", middle=9, projection_scale=None):
    def count_bottleneck(n, width):
        out = 4 * width
        total = n * width + middle * width**2 + width * out + (bias + scale) * (2 * width + out)
        if projection == "always" or (projection == "needed" and n != out):
            total += n * out + (bias + (scale if projection_scale is None else projection_scale)) * out
        return total

    return count_bottleneck


def count_by_torch(n, width):
    block = nn.Sequential(nn.Conv2d(n, width, 1), nn.Conv2d(width, width, 3), nn.Conv2d(width, 4 * width, 1))
    return sum(weight.numel() for weight in block.parameters())


class Two(nn.Module):
    """A residual block with a mistake of choice."""

    def __init__(self, n, m, stride, shortcut="B", bias=False, norm=True, late_stride=False, order="sum first", side=1):
        super().__init__()
        first, second = (1, stride) if late_stride else (stride, 1)
        self.conv1 = nn.Conv2d(n, m, 3, first, padding=1, bias=bias)
        self.conv2 = nn.Conv2d(m, m, 3, second, padding=1, bias=bias)
        self.bn1, self.bn2, self.order = nn.BatchNorm2d(m), nn.BatchNorm2d(m), order
        self.shortcut = nn.Identity()
        if shortcut == "C" or (shortcut == "B" and (stride != 1 or n != m)):
            layers = [nn.Conv2d(n, m, side, stride, padding=side // 2, bias=False)] + [nn.BatchNorm2d(m)] * norm
            self.shortcut = nn.Sequential(*layers)
        elif shortcut == "A" and (stride != 1 or n != m):
            self.shortcut = right_padding(m - n, stride)

    def forward(self, x):
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.order == "plain":
            return F.relu(out)
        if self.order == "no last ReLU":
            return self.shortcut(x) + out
        if self.order == "ReLU first":
            return F.relu(self.shortcut(x) + out.relu())
        return self.shortcut(x).relu() + out.relu() if self.order == "two ReLUs" else F.relu(self.shortcut(x) + out)


def right_padding(missing, stride):
    class Padded(nn.Module):
        def forward(self, x):
            return F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, 0, missing))

    return Padded()


def block(**mistake):
    return lambda n, m, stride: Two(n, m, stride, **mistake)


class Dense(nn.Module):
    """A dense block with a mistake of choice."""

    def __init__(self, n, growth, num_layers, mistake):
        super().__init__()
        self.mistake, self.n = mistake, n
        layers = []
        for number in range(num_layers):
            seen = n if mistake == "input only" else n + number * growth
            norm, conv = nn.BatchNorm2d(seen), nn.Conv2d(seen, growth, 3, padding=1, bias=False)
            if mistake == "order":
                layers.append(nn.Sequential(nn.ReLU(), norm, conv))
            elif mistake == "norm last":
                layers.append(nn.Sequential(conv, nn.BatchNorm2d(growth), nn.ReLU()))
            else:
                layers.append(nn.Sequential(norm, nn.ReLU(), conv))
        self.layers = layers if mistake == "list" else nn.ModuleList(layers)

    def forward(self, x):
        start = x
        for layer in self.layers:
            new = layer(start if self.mistake == "input only" else x)
            x = torch.cat([new, x] if self.mistake == "in front" else [x, new], dim=1)
        return x[:, self.n :] if self.mistake == "new only" else x


def dense(mistake):
    return lambda n, growth, num_layers: Dense(n, growth, num_layers, mistake)


def stack(num_blocks, trained=False, dead=0):
    """A residual network; `dead` of its blocks do nothing, and never will."""

    def train_deepest():
        blocks = [Two(16, 16, 1) for _ in range(num_blocks)]
        for block in blocks[:dead]:
            nn.init.zeros_(block.bn2.weight).requires_grad_(False)
        stem = [nn.Conv2d(1, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
        model = nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
        return quickly_trained(model) if trained else model

    return train_deepest


def quickly_trained(model, lr=5e-3):
    x, y = right.normalised_digits("train")
    optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=lr)
    for _ in range(8):
        for batch in torch.randperm(len(x)).split(64):
            loss = F.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def side_by_side():
    """120 convolutions that all see the same pixels: depth 1."""

    class Beside(nn.Module):
        def __init__(self):
            super().__init__()
            self.convs = nn.ModuleList(nn.Conv2d(1, 2, 3, padding=1, bias=False) for _ in range(120))
            self.last = nn.Linear(2 * 120 * 16, 10)

        def forward(self, x):
            maps = torch.cat([conv(x) for conv in self.convs], dim=1)
            return self.last(F.max_pool2d(F.relu(maps), 2).flatten(1))

    return quickly_trained(Beside(), lr=1e-3)


def dense_layers_only():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


class Printing(Two):
    def forward(self, x):
        print(super().forward(x).shape)


class OneNormTwice(Two):
    def forward(self, x):
        out = self.bn1(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


class Backwards(nn.Module):
    """A dense block whose layers are registered in the other order."""

    def __init__(self, n, growth, num_layers, kernel=3, bias=False):
        super().__init__()
        sizes = [n + number * growth for number in reversed(range(num_layers))]
        self.norms = nn.ModuleList(nn.BatchNorm2d(size) for size in sizes)
        self.convs = nn.ModuleList(nn.Conv2d(size, growth, kernel, padding="same", bias=bias) for size in sizes)

    def forward(self, x):
        found = [x]
        for norm, conv in zip(self.norms[::-1], self.convs[::-1], strict=True):
            found.append(conv(norm(torch.cat(found, dim=1)).relu()))
        return torch.cat(found, dim=1)


class Pair(Backwards):
    def forward(self, x):
        y = super().forward(x)
        return y[:, : x.shape[1]], y[:, x.shape[1] :]


aliased = nn.init.dirac_


def by_aliased_dirac(channels):
    return aliased(torch.empty(channels, channels, 3, 3))


def nearly_zero(block):
    nn.init.constant_(block.bn2.weight, 1e-9)
    return block


def forward_replaced(block):
    block.forward = lambda x: x
    return block


bottleneck = torchvision.models.resnet.Bottleneck


def count_by_alias(in_channels, width):
    return sum(parameter.numel() for parameter in bottleneck(in_channels, width).parameters())


WRONG = [
    ("longest_way", lambda inputs, weighted: ["conv1"], "Expected a whole number; a list came"),
    ("longest_way", lambda inputs, weighted: True, "Expected a whole number; True, a bool, came"),
    ("identity_kernel", by_aliased_dirac, "uses dirac_"),
    ("begin_as_identity", nearly_zero, "lost in rounding"),
    ("begin_as_identity", forward_replaced, "Leave its forward as it is"),
    ("begin_as_identity", lambda block: nn.Identity(), "This is another module"),
    ("resnet_depth", lambda blocks, convolutions: "ResNet-50", "Expected a whole number; 'ResNet-50', a str, came"),
    ("count_bottleneck", count_by_alias, "uses Bottleneck"),
    ("make_block", Printing, "forward gave None"),
    ("make_block", OneNormTwice, "bn2.weight has no part in the output"),
    ("make_dense_block", lambda n, growth, num: Backwards(n, growth, num, kernel=1), "expected convolutions of 3 x 3"),
    ("make_dense_block", lambda n, growth, num: Backwards(n, growth, num, bias=True), "a convolution has a bias"),
    ("make_dense_block", Pair, "forward gave a tuple"),
    ("lab", lambda: nn.Sequential(nn.Conv2d(1, 10, 3)), "ten numbers a digit"),
    ("longest_way", counting_all, "the number of all layers with weights"),
    ("longest_way", way_along(max, every=True), "layers counted that have no weights"),
    ("longest_way", way_along(min), "along one of the short ways"),
    ("longest_way", way_along(sum), "four branches: expected 4"),
    ("longest_way", lambda inputs, weighted: "4", "Expected a whole number"),
    ("identity_kernel", kernel(lambda weight, eye: None), "All weights are zero"),
    (
        "identity_kernel",
        kernel(lambda weight, eye: fill(weight, eye, 1, 1, every=True)),
        "the sum of all input channels",
    ),
    (
        "identity_kernel",
        kernel(lambda weight, eye: fill(weight, eye, 1, 1, every=True, scale=1 / len(eye))),
        "the mean of all input channels",
    ),
    ("identity_kernel", kernel(lambda weight, eye: fill(weight, eye, 0, 0)), "not in the middle of the kernel"),
    ("identity_kernel", kernel(lambda weight, eye: fill(weight, eye)), "sees its neighbours too"),
    ("identity_kernel", kernel(lambda weight, eye: fill(weight, 2 * eye, 1, 1)), "The output is not the input"),
    ("identity_kernel", lambda channels: torch.eye(channels), "Expected weights of shape"),
    ("identity_kernel", by_dirac, "uses dirac_"),
    ("begin_as_identity", lambda block: block, "still changes its input"),
    ("begin_as_identity", zeroed("bn1.weight", "bn2.weight"), "stays it"),
    ("begin_as_identity", zeroed("bn1.weight"), "stays it"),
    ("begin_as_identity", zeroed("conv1.weight"), "stays it"),
    ("begin_as_identity", zeroed("bn2.weight", freeze=True), "bn2.weight is frozen"),
    ("begin_as_identity", zeroed("bn2.bias"), "which scale has the last word"),
    ("begin_as_identity", lambda block: 1, "returned a int"),
    ("preactivation_forward", f_before, "The shortcut is missing"),
    ("preactivation_forward", lambda x, *layers: F.relu(x + f_before(x, *layers)), "a ReLU after the sum"),
    ("preactivation_forward", post_activation, "the block in the middle of the drawing"),
    ("preactivation_forward", late_shortcut, "starts at x itself"),
    ("preactivation_forward", lambda x, b1, c1, b2, c2: x + c2(b2(c1(F.relu(b1(x))))), "A ReLU is missing"),
    ("preactivation_forward", lambda x, b1, c1, b2, c2: x + c2(F.relu(b2(c1(b1(x))))), "A ReLU is missing"),
    ("preactivation_forward", lambda x, b1, c1, b2, c2: x + c2(F.relu(c1(F.relu(x)))), "normalisations are missing"),
    ("preactivation_forward", lambda x, b1, c1, b2, c2: x + c2(b2(F.relu(c1(b1(F.relu(x)))))), "BN comes before ReLU"),
    ("preactivation_forward", lambda x, *layers: x + F.relu(f_before(x, *layers)), "can only add"),
    ("preactivation_forward", lambda x, *layers: x - f_before(x, *layers), "The order of f is bn1"),
    ("preactivation_forward", lambda x, *layers: torch.cat([x, x], 1), "Expected an output of the shape of x"),
    ("preactivation_forward", changing_x, "x itself was changed"),
    ("resnet_depth", lambda blocks, convolutions: convolutions * sum(blocks), "at the end are missing"),
    ("resnet_depth", lambda blocks, convolutions: convolutions * sum(blocks) + 1, "One of the two ends"),
    ("resnet_depth", lambda blocks, convolutions: convolutions * sum(blocks) + 6, "The projections stand"),
    ("resnet_depth", lambda blocks, convolutions: sum(blocks) + 2, "These are blocks"),
    ("resnet_depth", lambda blocks, convolutions: convolutions * len(blocks) + 2, "These are stages"),
    ("resnet_depth", lambda blocks, convolutions: 3 * sum(blocks) + 4, "expected 50, 52 came"),
    ("resnet_depth", lambda blocks, convolutions: 18.0, "Expected a whole number"),
    ("highway_forward", lambda x, f, gate: gate(x) * f(x) + (1 - gate(x)) * x, "is a logit"),
    ("highway_forward", highway(lambda x, fx, t: (1 - t) * fx + t * x), "The other way round"),
    ("highway_forward", highway(lambda x, fx, t: t * fx + x), "always adds all of x"),
    ("highway_forward", highway(lambda x, fx, t: t * fx), "The way past f is missing"),
    ("highway_forward", highway(lambda x, fx, t: x + fx), "Where is the gate"),
    ("highway_forward", gate_of_f, "The gate looks at x"),
    ("highway_forward", twice, "f was computed 2 times"),
    ("count_bottleneck", count(projection="never"), "the projection is missing"),
    ("count_bottleneck", count(projection="always"), "the shortcut is the identity"),
    ("count_bottleneck", count(scale=0), "the batch normalisations are missing"),
    ("count_bottleneck", count(bias=1), "The convolutions have no bias"),
    ("count_bottleneck", count(scale=1), "two numbers a channel"),
    ("count_bottleneck", count(scale=4), "running mean and variance are no parameters"),
    ("count_bottleneck", count(middle=1), "the middle convolution is 3 x 3"),
    ("count_bottleneck", count(projection_scale=0), "the projection has a batch normalisation too"),
    ("count_bottleneck", count_by_torch, "nn and torch"),
    ("count_bottleneck", lambda n, width: 1.0, "Expected a whole number"),
    ("count_bottleneck", lambda n, width: 1, "expected 70,400, 1 came"),
    ("make_block", block(shortcut="C"), "He and others call that option C"),
    ("make_block", block(shortcut="A"), "there is no 1 x 1 convolution"),
    ("make_block", block(bias=True), "a convolution has a bias"),
    ("make_block", block(norm=False), "2 batch normalisations; expected 3"),
    ("make_block", block(late_stride=True), "the stride belongs in the first"),
    ("make_block", block(order="no last ReLU"), "there are negative outputs"),
    ("make_block", block(order="ReLU first"), "there is a ReLU before the sum"),
    ("make_block", block(order="two ReLUs"), "there is a ReLU before the sum"),
    ("make_block", block(order="plain"), "but it is not added"),
    ("make_block", lambda n, m, stride: Two(n, m, 1), "Are stride and channels used"),
    ("make_block", lambda n, m, stride: 3, "returned a int"),
    ("make_dense_block", dense("list"), "invisible to PyTorch"),
    ("make_dense_block", dense("new only"), "new channels only"),
    ("make_dense_block", dense("input only"), "the layers see 6, 6, 6"),
    ("make_dense_block", dense("in front"), "untouched and in front"),
    ("make_dense_block", dense("order"), "The order is BN, ReLU, convolution"),
    ("make_dense_block", dense("norm last"), "each layer begins with a batch normalisation"),
    ("make_dense_block", lambda n, growth, num_layers: nn.Conv2d(n, n + growth, 3, padding=1), "expected one a layer"),
    ("lab", lambda: 100, "returned a int"),
    ("lab", dense_layers_only, "passes no convolution"),
    ("lab", stack(30), "guessing gives 10 %"),
    ("lab", stack(2, trained=True), "Go deeper"),
    ("lab", stack(3, trained=True, dead=1), "get no gradient"),
    ("lab", side_by_side, "those side by side count once"),
]


class SecondFirst(Two):
    """A right block that has its second convolution and its shortcut registered before the first."""

    def __init__(self, n, m, stride):
        super().__init__(n, m, stride)
        parts = dict(self._modules)
        self._modules.clear()
        for name in ("shortcut", "bn2", "conv2", "bn1", "conv1"):
            self._modules[name] = parts[name]


class InOneSequential(nn.Module):
    def __init__(self, n, m, stride):
        super().__init__()
        right = Two(n, m, stride)
        self.f = nn.Sequential(right.conv1, right.bn1, nn.ReLU(), right.conv2, right.bn2)
        self.way, self.last = right.shortcut, nn.ReLU(inplace=True)

    def forward(self, x):
        return self.last(self.f(x) + self.way(x))


class Recursive:
    def __call__(self, inputs, weighted):
        def depth(layer):
            return (layer in weighted) + max(map(depth, inputs[layer]), default=0)

        return max(map(depth, inputs))


def by_eye(channels):
    weight = torch.zeros(channels, channels, 3, 3)
    weight[:, :, 1, 1] = torch.eye(channels)
    return nn.Parameter(weight)


def by_no_grad(block):
    with torch.no_grad():
        block.bn2.weight.mul_(0)
    return block


def step_by_step(x, bn1, conv1, bn2, conv2):
    identity = x
    out = conv1(torch.relu(bn1(x)))
    out = conv2(torch.relu(bn2(out)))
    out += identity
    return out


def by_lerp(x, f, gate):
    return torch.lerp(x, f(x), gate(x).sigmoid())


RIGHT = [
    ("longest_way", lambda inputs, weighted: torch.tensor(Recursive()(inputs, weighted))),
    ("identity_kernel", lambda channels: F.pad(torch.eye(channels).double()[..., None, None], (1, 1, 1, 1))),
    ("resnet_depth", lambda blocks, convolutions: np.sum(blocks) * convolutions + 2),
    ("highway_forward", by_lerp),
    ("make_block", lambda n, m, stride: SecondFirst(n, m, stride).eval()),
    ("make_dense_block", Backwards),
    ("longest_way", Recursive().__call__),
    ("identity_kernel", by_eye),
    ("begin_as_identity", by_no_grad),
    ("begin_as_identity", zeroed("conv2.weight")),
    ("preactivation_forward", step_by_step),
    ("resnet_depth", lambda blocks, convolutions: 2 + sum(convolutions * number for number in blocks)),
    ("make_block", SecondFirst),
    ("make_block", InOneSequential),
]
