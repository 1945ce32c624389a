"""Wrong answers to the exercises of notebook 02: (exercise, answer, a piece of the message that fits the mistake)."""

import torch
import torch.nn.functional as F
from torch import nn

from utils.exercises import residual_blocks as right


def changing_x(x, conv1, bn1, conv2, bn2):
    x += bn2(conv2(F.relu(bn1(conv1(x)))))
    return F.relu(x)


def f_of(x, conv1, bn1, conv2, bn2):
    return bn2(conv2(F.relu(bn1(conv1(x)))))


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


def quickly_trained(model):
    x, y = right.normalised_digits("train")
    optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=5e-3)
    for _ in range(8):
        for batch in torch.randperm(len(x)).split(64):
            loss = F.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def dense_layers_only():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


WRONG = [
    ("residual_forward", lambda x, *layers: F.relu(f_of(x, *layers)), "This is a plain block"),
    ("residual_forward", lambda x, *layers: x + f_of(x, *layers), "The ReLU after the sum is missing"),
    ("residual_forward", lambda x, *layers: F.relu(x + F.relu(f_of(x, *layers))), "can only add"),
    ("residual_forward", lambda x, *layers: x + F.relu(f_of(x, *layers)), "can only add"),
    ("residual_forward", changing_x, "x itself was changed"),
    ("residual_forward", lambda x, c1, b1, c2, b2: F.relu(x + b2(c2(b1(c1(x))))), "ReLU after the first batch"),
    ("residual_forward", lambda x, c1, b1, c2, b2: F.relu(x + c2(F.relu(c1(x)))), "batch normalisations are missing"),
    (
        "residual_forward",
        lambda x, *layers: torch.cat([x, f_of(x, *layers)], 1),
        "Expected an output of the shape of x",
    ),
    ("residual_forward", lambda x, *layers: F.relu(x - f_of(x, *layers)), "The order is conv1"),
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
]
