"""Exercises of notebook 02, residual blocks."""

import math
import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models.resnet import Bottleneck

from utils.exercises import came as what_came
from utils.exercises import normalised_digits, not_used, one_thread, whole
from utils.lessons import Exercise
from utils.models import num_parameters
from utils.training import fit

# ---- 1. the longest way ----------------------------------------------------------------------------------------------


def longest_way(inputs, weighted):
    depth = {}
    for layer, before in inputs.items():
        depth[layer] = max((depth[other] for other in before), default=0) + (layer in weighted)
    return max(depth.values())


BRANCHES = {
    "stem": [],
    "left": ["stem"],
    "right": ["stem"],
    "right 2": ["right"],
    "pool": ["stem"],
    "after pool": ["pool"],
    "fourth": ["stem"],
    "sum": ["left", "right 2", "after pool", "fourth"],
    "relu": ["sum"],
    "head": ["relu"],
}
RESIDUAL = {
    "stem": [],
    "conv1": ["stem"],
    "conv2": ["conv1"],
    "sum": ["stem", "conv2"],
    "conv3": ["sum"],
    "conv4": ["conv3"],
    "sum 2": ["sum", "conv4"],
    "head": ["sum 2"],
}


def _check_longest_way(longest_way):
    for name, inputs in {
        "four branches": BRANCHES,
        "two residual blocks": RESIDUAL,
        "a chain": {"a": [], "b": ["a"]},
    }.items():
        weighted = set(inputs) - {"pool", "sum", "relu", "sum 2"}
        given = {layer: list(before) for layer, before in inputs.items()}, set(weighted)
        came = whole(longest_way(*given))
        right = {"four branches": 4, "two residual blocks": 6, "a chain": 2}[name]
        assert came == right or came != len(weighted), (
            f"{name}: {came} came, the number of all layers with weights. Those side by side lie on different ways: "
            f"expected {right}."
        )
        assert came == right or came != {"four branches": 6, "two residual blocks": 8}.get(name), (
            f"{name}: {came} came, with layers counted that have no weights, such as a sum. Expected {right}."
        )
        assert came == right or came != {"four branches": 3, "two residual blocks": 2}.get(name), (
            f"{name}: {came} came, along one of the short ways. Where ways meet, the deepest input counts: "
            f"expected {right}."
        )
        assert came == right, (
            f"{name}: expected {right}, {came} came. A layer is as deep as its deepest input, and one deeper if it has "
            "weights."
        )
    return "What torch.fx needs a graph for, you have done with a dictionary."


longest_way = Exercise(
    "The longest way",
    test=_check_longest_way,
    hints=(
        "Go through the layers in order and keep the depth of each in a dictionary.",
        "A layer's depth is the largest depth of its inputs (0 where there are none), plus one if it is in `weighted`.",
        "max((depth[other] for other in before), default=0) + (layer in weighted)",
    ),
    reference=longest_way,
)

# ---- 2. kernels that do nothing --------------------------------------------------------------------------------------


def identity_kernel(channels):
    weight = torch.zeros(channels, channels, 3, 3)
    for channel in range(channels):
        weight[channel, channel, 1, 1] = 1
    return weight


def _check_identity_kernel(identity_kernel):
    not_used(identity_kernel, "dirac_", "dirac")
    for channels in (3, 5):
        weight = identity_kernel(channels)
        assert isinstance(weight, torch.Tensor), f"Expected a tensor of weights; a {type(weight).__name__} came."
        shape = (channels, channels, 3, 3)
        assert weight.shape == shape, f"Expected weights of shape {shape}; {tuple(weight.shape)} came."
        assert weight.is_floating_point(), f"A convolution needs weights in floating point; {weight.dtype} came."
        x = torch.randn(2, channels, 6, 6, generator=torch.Generator().manual_seed(0))
        weight = weight.detach().float()

        assert weight.any(), "All weights are zero: the output is zero, whatever comes in."
        y, total = F.conv2d(x, weight, padding=1), x.sum(dim=1, keepdim=True).expand_as(x)
        assert not torch.allclose(y, total, atol=1e-5), (
            "Each output channel is the sum of all input channels. Output c should see input c only."
        )
        assert not torch.allclose(y, total / channels, atol=1e-5), (
            "Each output channel is the mean of all input channels. Output c should see input c only."
        )
        middle = weight[:, :, 1, 1]
        assert torch.equal(middle, torch.eye(channels)) or not torch.allclose(
            weight.sum(dim=(2, 3)), torch.eye(channels)
        ), "The 1 is not in the middle of the kernel, so the picture is shifted. The middle of 3 x 3 is [1, 1]."
        assert not (torch.equal(middle, torch.eye(channels)) and not torch.allclose(y, x, atol=1e-5)), (
            "The middle is right, but other weights are not zero: each output pixel sees its neighbours too."
        )
        assert torch.allclose(y, x, atol=1e-5), (
            "The output is not the input. One weight of 1 for each channel is enough; where does it stand?"
        )
    return f"{channels} ones and {weight.numel() - channels} zeros: a plain block has to find all of them."


identity_kernel = Exercise(
    "Kernels that do nothing",
    test=_check_identity_kernel,
    hints=(
        "weight[o, i] is the kernel that leads from input channel i to output channel o.",
        "Where o = i the kernel has a 1 in the middle, [1, 1], and 0 elsewhere. All other kernels are zero.",
        "weight = torch.zeros(channels, channels, 3, 3); weight[c, c, 1, 1] = 1 for each channel c.",
    ),
    reference=identity_kernel,
)

# ---- 3. begin as nothing ---------------------------------------------------------------------------------------------


def begin_as_identity(block):
    nn.init.zeros_(block.bn2.weight)
    return block


class _Block(nn.Module):
    """The notebook's residual block."""

    def __init__(self, channels=6):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(2))
        self.bn1, self.bn2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)

    def forward(self, x):
        return F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


def _check_begin_as_identity(begin_as_identity):
    torch.manual_seed(0)
    block = begin_as_identity(_Block())
    assert isinstance(block, nn.Module), (
        f"begin_as_identity returned a {type(block).__name__}; expected the block. Return it."
    )
    assert isinstance(block, _Block), "This is another module. Change the block that you are given, and return it."
    x = torch.rand(8, 6, 5, 5)
    y = block.train()(x)
    assert y.requires_grad, "No gradient comes back through the block. Leave its forward as it is."
    gap = (y - x).abs().max().item()
    assert gap < 1e-6, (
        f"The block still changes its input, by up to {gap:.2g}. y = relu(x + f(x)) is x where f(x) is exactly zero: "
        "which scale has the last word?"
    )
    with torch.no_grad():
        f = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x)))))
    assert not f.any(), "The block returns x only because f(x) is lost in rounding: it must be exactly zero."
    weights = {name: parameter.detach().clone() for name, parameter in block.named_parameters()}
    frozen = [name for name, parameter in block.named_parameters() if not parameter.requires_grad]
    assert not frozen, (
        f"{frozen[0]} is frozen (requires_grad is False), so it stays as it is. It should begin at zero and learn."
    )
    optimizer = torch.optim.SGD(block.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        F.mse_loss(block(x), torch.rand(8, 6, 5, 5)).backward()
        optimizer.step()
    still = [
        name for name, parameter in block.named_parameters() if torch.equal(parameter, weights[name]) and "conv" in name
    ]
    assert not still, (
        f"It begins as the identity and stays it: after five steps of training {' and '.join(still)} have not moved. "
        "Where the inside of the block is zero as well, no gradient comes through. Set only the last scale to zero."
    )
    return "One step moves the last scale away from zero, and from the next on everything inside learns."


begin_as_identity = Exercise(
    "Begin as nothing",
    test=_check_begin_as_identity,
    hints=(
        "f(x) must be zero. Its last step is bn2: scale · normalised + shift, and the shift begins at zero.",
        "The scale of a batch normalisation is its .weight. Leave bn1 and the convolutions as they are.",
        "nn.init.zeros_(block.bn2.weight), then return block.",
    ),
    reference=begin_as_identity,
)

# ---- 4. pre-activation -----------------------------------------------------------------------------------------------


def preactivation_forward(x, bn1, conv1, bn2, conv2):
    out = conv1(F.relu(bn1(x)))
    out = conv2(F.relu(bn2(out)))
    return x + out


def _check_preactivation_forward(preactivation_forward):
    torch.manual_seed(0)
    conv1, conv2 = (nn.Conv2d(6, 6, 3, padding=1, bias=False) for _ in range(2))
    bn1, bn2 = nn.BatchNorm2d(6).eval(), nn.BatchNorm2d(6).eval()
    for bn in (bn1, bn2):
        nn.init.uniform_(bn.weight, 0.5, 2)
        nn.init.normal_(bn.bias)
    x = torch.randn(3, 6, 5, 5)
    given = x.clone()
    with torch.no_grad():
        y = preactivation_forward(given, bn1, conv1, bn2, conv2)
        assert isinstance(y, torch.Tensor) and y.shape == x.shape, (
            f"Expected an output of the shape of x, {tuple(x.shape)}; "
            f"{tuple(y.shape) if isinstance(y, torch.Tensor) else type(y).__name__} came."
        )
        assert torch.equal(given, x), (
            "x itself was changed: out += x is fine, x += out is not, and F.relu must not be in place on x."
        )
        first = F.relu(bn1(x))
        f = conv2(F.relu(bn2(conv1(first))))
        post = bn2(conv2(F.relu(bn1(conv1(x)))))

        def is_(value):
            return torch.allclose(y, value, atol=1e-5)

        assert not is_(f) and not is_(F.relu(f)), "The shortcut is missing: add x at the end."
        assert not is_(F.relu(x + f)), (
            "There is a ReLU after the sum. In the drawing at the right nothing stands behind it."
        )
        assert not is_(F.relu(x + post)) and not is_(x + post), (
            "This is the block in the middle of the drawing: its convolutions come first. "
            "Here BN and ReLU stand before each convolution."
        )
        assert not is_(first + f), (
            "The shortcut starts at x itself, before bn1 and ReLU. Keep x, and call what you compute out."
        )
        assert not is_(x + conv2(bn2(conv1(first)))) and not is_(x + conv2(F.relu(bn2(conv1(bn1(x)))))), (
            "A ReLU is missing: one stands before each of the two convolutions."
        )
        assert not is_(x + conv2(F.relu(conv1(F.relu(x))))), "The batch normalisations are missing."
        assert not is_(x + conv2(bn2(F.relu(conv1(bn1(F.relu(x))))))), "BN comes before ReLU, not after it."
        assert not is_(x + F.relu(f)), (
            "There is a ReLU between the last convolution and the sum, so the block can only add."
        )
        assert is_(x + f), (
            f"The largest difference from x + f(x) is {(y - x - f).abs().max():.2f}. "
            "The order of f is bn1, ReLU, conv1, bn2, ReLU, conv2."
        )
    return "Nothing stands on the shortcut's way: what comes in goes out, plus f(x)."


preactivation_forward = Exercise(
    "From the drawing to the code",
    test=_check_preactivation_forward,
    hints=(
        "Follow the drawing from top to bottom. Keep x: you need it again at the sum.",
        "f(x) is bn1, ReLU, conv1, bn2, ReLU, conv2. Then the sum, and nothing after it.",
        "return x + conv2(F.relu(bn2(conv1(F.relu(bn1(x))))))",
    ),
    reference=preactivation_forward,
)

# ---- 5. the projection shortcut --------------------------------------------------------------------------------------


def make_block(in_channels, out_channels, stride):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
            self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
            self.bn1, self.bn2 = nn.BatchNorm2d(out_channels), nn.BatchNorm2d(out_channels)
            self.shortcut = nn.Identity()
            if stride != 1 or in_channels != out_channels:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
                )

        def forward(self, x):
            out = F.relu(self.bn1(self.conv1(x)))
            return F.relu(self.shortcut(x) + self.bn2(self.conv2(out)))

    return Block()


def _check_make_block(make_block):
    torch.manual_seed(0)
    for in_channels, out_channels, stride in ((8, 16, 2), (8, 16, 1), (8, 8, 2), (8, 8, 1)):
        case = f"({in_channels}, {out_channels}, stride {stride})"
        block = make_block(in_channels, out_channels, stride)
        assert isinstance(block, nn.Module), f"make_block returned a {type(block).__name__}; expected a module."
        x = torch.randn(4, in_channels, 8, 8)
        y, want = block.train()(x), (4, out_channels, 8 // stride, 8 // stride)
        assert isinstance(y, torch.Tensor), f"{case}: forward gave {what_came(y)}; expected one tensor."
        assert tuple(y.shape) == want, (
            f"{case}: expected an output of shape {want}, {tuple(y.shape)} came. Are stride and channels used?"
        )
        passed = _passed(block, x)
        convs = [layer for layer in block.modules() if isinstance(layer, nn.Conv2d)]
        order = {conv: place for place, conv in enumerate(passed)}
        convs.sort(key=lambda conv, order=order: order.get(conv, len(order)))
        large, small = ([c for c in convs if (c.kernel_size == (3, 3)) == wide] for wide in (True, False))
        assert len(large) == 2, f"{case}: the block has {len(large)} convolutions of 3 x 3; expected 2."
        needed = stride != 1 or in_channels != out_channels
        assert needed or not small, (
            f"{case}: shapes match, so the shortcut is the identity; yours has a projection. "
            "He and others call that option C."
        )
        assert not needed or small, f"{case}: shapes differ, and there is no 1 x 1 convolution to project the shortcut."
        assert all(c.kernel_size == (1, 1) for c in small), (
            f"{case}: the projection is a convolution of 1 x 1; yours is {small[0].kernel_size}."
        )
        assert all(c.bias is None for c in convs), (
            f"{case}: a convolution has a bias, which the batch normalisation behind it subtracts again: bias=False."
        )
        norms = sum(isinstance(layer, nn.BatchNorm2d) for layer in block.modules())
        assert norms == 2 + needed, (
            f"{case}: {norms} batch normalisations; expected {2 + needed}, "
            f"one after each convolution{', the projection too' if needed else ''}."
        )
        assert large[0].stride == (stride, stride) and large[1].stride == (1, 1), (
            f"{case}: the stride belongs in the first 3 x 3 convolution."
        )
        assert (y >= 0).all(), f"{case}: there are negative outputs. The last step is a ReLU, after the sum."
        for norm in (layer for layer in block.modules() if isinstance(layer, nn.BatchNorm2d)):
            nn.init.ones_(norm.weight)
            nn.init.zeros_(norm.bias)
        shortcut = _normalised(F.conv2d(x, small[0].weight, stride=stride)) if needed else x
        f = _normalised(large[1](F.relu(_normalised(large[0](x)))))
        y = block(x)
        assert not torch.allclose(y, F.relu(f), atol=1e-4), f"{case}: the shortcut is there, but it is not added."
        early = (F.relu(way + F.relu(f)) for way in (shortcut, F.relu(shortcut)))
        assert not any(torch.allclose(y, value, atol=1e-4) for value in early), (
            f"{case}: there is a ReLU before the sum. The one ReLU at the end comes after it."
        )
        idle = _idle(block, y)
        assert not idle, f"{case}: {idle[0]} has no part in the output: x does not pass it, or no gradient comes back."
        gap = (y - F.relu(shortcut + f)).abs().max()
        assert gap < 1e-3, (
            f"{case}: shapes and layers are right, values differ by {gap:.2f} from relu(shortcut(x) + f(x)). "
            "The order in f is conv1, bn1, ReLU, "
            "conv2, bn2, and the shortcut takes x itself."
        )
    return "Shortcut B of section 6: torchvision's BasicBlock."


def _idle(block: nn.Module, y: torch.Tensor) -> list[str]:
    """The parameters that get no gradient from the output: those of layers that x does not pass."""
    names, parameters = zip(*block.named_parameters(), strict=True)
    gradients = torch.autograd.grad(y.square().sum(), parameters, allow_unused=True) if y.requires_grad else [None]
    return [name for name, gradient in zip(names, gradients, strict=False) if gradient is None]


def _normalised(x: torch.Tensor) -> torch.Tensor:
    """What a fresh batch normalisation in training mode gives."""
    return F.batch_norm(x, None, None, training=True)


make_block = Exercise(
    "The projection shortcut",
    test=_check_make_block,
    hints=(
        "Write a class with __init__ and forward inside make_block, and return an instance.",
        "The shortcut is nn.Identity() if stride == 1 and in_channels == out_channels, "
        "else nn.Sequential(1 x 1 convolution with the stride, batch normalisation).",
        "forward: out = F.relu(self.bn1(self.conv1(x))), then F.relu(self.shortcut(x) + self.bn2(self.conv2(out))).",
    ),
    reference=make_block,
)

# ---- 6. the highway gate ---------------------------------------------------------------------------------------------


def highway_forward(x, f, gate):
    t = torch.sigmoid(gate(x))
    return t * f(x) + (1 - t) * x


def _check_highway_forward(highway_forward):
    torch.manual_seed(0)
    f, gate = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))
    calls = []
    f.register_forward_hook(lambda *_: calls.append("f"))
    x = torch.randn(3, 4, 5, 5)
    with torch.no_grad():
        y = highway_forward(x.clone(), f, gate)
        num_calls = len(calls)
        assert isinstance(y, torch.Tensor) and y.shape == x.shape, (
            f"Expected an output of the shape of x, {tuple(x.shape)}; "
            f"{tuple(y.shape) if isinstance(y, torch.Tensor) else type(y).__name__} came."
        )
        fx, logit = f(x), gate(x)
        t = torch.sigmoid(logit)

        def is_(value):
            return torch.allclose(y, value, atol=1e-5)

        assert not is_(logit * fx + (1 - logit) * x), "The gate's output is a logit. Its sigmoid lies between 0 and 1."
        assert not is_((1 - t) * fx + t * x), "The other way round: t = 1 is a plain layer, t = 0 hands on x."
        assert not is_(t * fx + x), (
            "This always adds all of x. In a highway layer the rest of the gate, 1 - t, weighs x."
        )
        assert not is_(t * fx), "The way past f is missing: + (1 - t) * x."
        assert not is_(fx + x), "This is a residual layer. Where is the gate?"
        t_fx = torch.sigmoid(gate(fx))
        assert not is_(t_fx * fx + (1 - t_fx) * x), "The gate looks at x, not at f(x)."
        assert is_(t * fx + (1 - t) * x), (
            f"The largest difference from t f(x) + (1 - t) x is {(y - t * fx - (1 - t) * x).abs().max():.2f}, "
            "with t the sigmoid of gate(x)."
        )
    assert num_calls == 1, f"Right, but f was computed {num_calls} times; once is enough."
    return "With t = 0 it is the identity, with t = 1 a plain layer, and the network decides for each number."


highway_forward = Exercise(
    "The highway gate",
    test=_check_highway_forward,
    hints=(
        "t = torch.sigmoid(gate(x)) has one number for every number of x.",
        "t is the weight of f(x), and 1 - t is the weight of x.",
        "return t * f(x) + (1 - t) * x",
    ),
    reference=highway_forward,
)

# ---- 7. the dense block ----------------------------------------------------------------------------------------------


def make_dense_block(in_channels, growth, num_layers):
    class DenseBlock(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList()
            for number in range(num_layers):
                channels = in_channels + number * growth
                convolution = nn.Conv2d(channels, growth, kernel_size=3, padding=1, bias=False)
                self.layers.append(nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), convolution))

        def forward(self, x):
            for layer in self.layers:
                x = torch.cat([x, layer(x)], dim=1)
            return x

    return DenseBlock()


def _check_make_dense_block(make_dense_block):
    torch.manual_seed(0)
    for in_channels, growth, num_layers in ((6, 4, 3), (8, 8, 2)):
        block = make_dense_block(in_channels, growth, num_layers)
        assert isinstance(block, nn.Module), f"make_dense_block returned a {type(block).__name__}; expected a module."
        x = torch.randn(4, in_channels, 5, 5)
        y, total = block.train()(x.clone()), in_channels + growth * num_layers
        case = f"{in_channels} channels, growth {growth}, {num_layers} layers"
        assert isinstance(y, torch.Tensor), f"{case}: forward gave {what_came(y)}; expected one tensor."
        convs = sorted((m for m in block.modules() if isinstance(m, nn.Conv2d)), key=lambda conv: conv.in_channels)
        assert convs, (
            f"{case}: no convolution is to be found. Layers in a Python list are invisible to PyTorch: "
            "use nn.ModuleList."
        )
        assert len(convs) == num_layers, f"{case}: {len(convs)} convolutions; expected one a layer, {num_layers}."
        assert y.shape[1] != growth * num_layers or in_channels == 0, (
            f"{case}: the output has the {growth * num_layers} new channels only. "
            f"The input's come first, {total} in all."
        )
        assert tuple(y.shape) == (4, total, 5, 5), (
            f"{case}: expected an output of shape {(4, total, 5, 5)}, {tuple(y.shape)} came: "
            "concatenate along dim=1, and pad the convolutions."
        )
        seen = [conv.in_channels for conv in convs]
        wanted = [in_channels + growth * number for number in range(num_layers)]
        assert seen == wanted, (
            f"{case}: the layers see {', '.join(map(str, seen))} channels; expected {', '.join(map(str, wanted))}: "
            "all that is there so far."
        )
        assert all(conv.kernel_size == (3, 3) for conv in convs), (
            f"{case}: a kernel is {convs[0].kernel_size}; expected convolutions of 3 x 3."
        )
        assert all(conv.bias is None for conv in convs), f"{case}: a convolution has a bias; expected bias=False."
        assert torch.equal(y[:, :in_channels], x), (
            f"{case}: the first {in_channels} channels of the output should be the input, untouched and in front."
        )
        norms = sorted(
            (m for m in block.modules() if isinstance(m, nn.BatchNorm2d)), key=lambda norm: norm.num_features
        )
        assert [norm.num_features for norm in norms] == wanted, (
            f"{case}: each layer begins with a batch normalisation of all the channels that it sees: "
            "BN, ReLU, convolution."
        )
        expected = x
        for norm, conv in zip(norms, convs, strict=True):
            scaled = F.relu(F.batch_norm(expected, None, None, norm.weight, norm.bias, training=True))
            expected = torch.cat([expected, conv(scaled)], dim=1)
        gap = (block(x.clone()) - expected).abs().max()
        assert gap < 1e-4, (
            f"{case}: shapes are right, values differ by {gap:.2f}. "
            "The order is BN, ReLU, convolution, and new channels go behind."
        )
    return "Every layer reads what all others have written."


make_dense_block = Exercise(
    "A dense block",
    test=_check_make_dense_block,
    hints=(
        "Layer number l (from 0) gets in_channels + l · growth channels and makes growth new ones.",
        "Keep the layers in an nn.ModuleList, each nn.Sequential(BatchNorm2d, ReLU, Conv2d with "
        "padding=1, bias=False).",
        "forward: for layer in self.layers: x = torch.cat([x, layer(x)], dim=1).",
    ),
    reference=make_dense_block,
)

# ---- 8. the number in the name ---------------------------------------------------------------------------------------


def resnet_depth(blocks, convolutions):
    return 1 + convolutions * sum(blocks) + 1  # the stem, the blocks, the linear layer


def _check_resnet_depth(resnet_depth):
    for blocks, convolutions in (([3, 4, 6, 3], 3), ([2, 2, 2, 2], 2), ([3, 8, 36, 3], 3)):
        came, case = whole(resnet_depth(list(blocks), convolutions)), f"{blocks} with {convolutions}"
        inside = convolutions * sum(blocks)
        assert came != inside, (
            f"{case}: {came} came. The stem's convolution and the linear layer at the end are missing."
        )
        assert came != inside + 1, (
            f"{case}: {came} came. One of the two ends is missing: the stem's convolution or the linear layer."
        )
        assert came not in (inside + 5, inside + 6), (
            f"{case}: {came} came. The projections stand beside the convolutions, and not on the longest way."
        )
        assert came != sum(blocks) + 2, (
            f"{case}: {came} came. These are blocks; each has {convolutions} convolutions in a row."
        )
        assert came != convolutions * len(blocks) + 2, (
            f"{case}: {came} came. These are stages; each has several blocks: add them up."
        )
        assert came == inside + 2, f"{case}: expected {inside + 2}, {came} came: stem, blocks, linear layer."
    return "ResNet-18, ResNet-50 and ResNet-152; [3, 4, 6, 3] with 2 is ResNet-34."


resnet_depth = Exercise(
    "The number in the name",
    test=_check_resnet_depth,
    hints=(
        "How many blocks are there in all? How many convolutions in a row does each have?",
        "1 + convolutions * sum(blocks) + 1",
    ),
    reference=resnet_depth,
)

# ---- 9. count a bottleneck -------------------------------------------------------------------------------------------


def count_bottleneck(in_channels, width):
    out_channels = 4 * width
    convolutions = in_channels * width + 9 * width * width + width * out_channels
    normalisations = 2 * (width + width + out_channels)  # a scale and a shift for each channel
    projection = 0 if in_channels == out_channels else in_channels * out_channels + 2 * out_channels
    return convolutions + normalisations + projection


def _check_count_bottleneck(count_bottleneck):
    not_used(count_bottleneck, "torch", "nn", "zoo", "Bottleneck", "Conv2d", "num_parameters")
    for in_channels, width in ((256, 64), (64, 64), (1024, 512)):
        out, fits = 4 * width, in_channels == 4 * width
        shortcut = None if fits else nn.Sequential(nn.Conv2d(in_channels, out, 1, bias=False), nn.BatchNorm2d(out))
        with torch.device("meta"):
            block = Bottleneck(in_channels, width)
        right = num_parameters(block)
        right += 0 if fits else num_parameters(shortcut)
        came = whole(count_bottleneck(in_channels, width))
        case = f"in_channels = {in_channels}, width = {width}"
        scales = 2 * (2 * width + out)
        projection = 0 if fits else in_channels * out + 2 * out
        assert fits or came != right - projection, (
            f"{case}: the projection is missing. {in_channels} channels come in and {out} go out, "
            "so the shortcut needs one."
        )
        assert not fits or came != right + in_channels * out + 2 * out, (
            f"{case}: {in_channels} channels come in and {out} go out, "
            "so the shortcut is the identity and has no parameters."
        )
        assert came not in (right - scales, right - scales - (0 if fits else 2 * out)), (
            f"{case}: the batch normalisations are missing. Each has a scale and a shift for every channel."
        )
        assert fits or came != right - 2 * out, f"{case}: the projection has a batch normalisation too."
        biases = 2 * width + out
        assert came not in (right + biases, right + biases + (0 if fits else out)), (
            f"{case}: {came - right} too many: as many as the convolutions would have biases, "
            "or half a batch normalisation. The convolutions have no bias."
        )
        assert came not in (right - biases, right - biases - (0 if fits else out)), (
            f"{case}: {right - came} too few: a batch normalisation has two numbers a channel, scale and shift."
        )
        assert came not in (right + scales, right + scales + (0 if fits else 2 * out)), (
            f"{case}: running mean and variance are no parameters: no gradient trains them."
        )
        assert came != right - 8 * width * width, (
            f"{case}: the middle convolution is 3 x 3: 9 weights for a pair of channels."
        )
        assert came == right, f"{case}: expected {right:,}, {came:,} came. A convolution has in · out · side² weights."
    return "Sixteen of these, a stem and a linear layer are ResNet-50."


count_bottleneck = Exercise(
    "Count a bottleneck",
    test=_check_count_bottleneck,
    hints=(
        "A convolution without bias has in_channels · out_channels · side² weights. "
        "There are three, and perhaps a projection.",
        "A batch normalisation has 2 parameters per channel: here 2 · width, 2 · width and 2 · 4 · width.",
        "The projection: in_channels · 4 · width weights and 2 · 4 · width for its batch normalisation, "
        "if in_channels != 4 * width.",
    ),
    reference=count_bottleneck,
)

# ---- lab -------------------------------------------------------------------------------------------------------------

LAB_SECONDS, LAB_ACCURACY, LAB_GOOD, LAB_VERY_GOOD = 60, 0.90, 50, 100


def train_deepest():
    class Block(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(2))
            self.bn1, self.bn2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
            nn.init.zeros_(self.bn2.weight)  # each block begins as the identity

        def forward(self, x):
            return F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))

    stem = [
        nn.Conv2d(1, 16, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
    ]  # 4 x 4: a quarter of the work
    model = nn.Sequential(
        *stem, *[Block(16) for _ in range(50)], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)
    )
    loader, num_epochs = DataLoader(TensorDataset(*normalised_digits("train")), batch_size=64, shuffle=True), 6
    optimizer = torch.optim.Adam(model.parameters())
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=num_epochs * len(loader))
    fit(model, loader, num_epochs=num_epochs, optimizer=optimizer, scheduler=scheduler, bf16=False, progress="training")
    return model


def _passed(model: nn.Module, x: torch.Tensor) -> list[nn.Conv2d]:
    """The convolutions that x passes, in that order, which need not be the one in which they were made."""
    passed: list[nn.Conv2d] = []
    convs = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    hooks = [layer.register_forward_hook(lambda layer, *_: passed.append(layer)) for layer in convs]
    try:
        with torch.no_grad():
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return passed


def _depth(x: torch.Tensor, outputs: torch.Tensor) -> int:
    """Convolutions of 3 x 3 or larger on the longest way from x to outputs, through the graph that autograd keeps."""
    depth: dict = {}
    stack = [outputs.grad_fn]
    while stack:
        node = stack[-1]
        before = [other for other, _ in node.next_functions if other is not None]
        if waiting := [other for other in before if other not in depth]:
            stack += waiting
            continue
        large = node.name() == "ConvolutionBackward0" and min(node._saved_weight.shape[2:]) >= 3
        own = 0 if getattr(node, "variable", None) is x else -math.inf
        depth[node] = max([depth[other] for other in before], default=own) + large
        stack.pop()
    return int(max(0, depth[outputs.grad_fn]))


def _check_lab(train_deepest):
    with one_thread():
        start = time.perf_counter()
        model = train_deepest()
        seconds = time.perf_counter() - start
        assert isinstance(model, nn.Module), (
            f"train_deepest returned a {type(model).__name__}; expected the trained network. Return it."
        )
        x, y = normalised_digits("test")
        model = model.cpu().eval().requires_grad_(True)
        convs = [conv for conv in _passed(model, x[:2]) if min(conv.kernel_size) >= 3]
        outputs = model(x.requires_grad_())
        shape = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
        assert shape == (len(x), 10), f"{len(x)} digits gave {shape}; expected ({len(x)}, 10), ten numbers a digit."
        assert outputs.grad_fn is not None, "No gradient comes back through the network: no torch.no_grad in forward."
        depth = _depth(x, outputs)
        assert depth and convs, (
            "A digit passes no convolution (nn.Conv2d) of 3 x 3 or larger; those are what is counted."
        )
        weights = [conv.weight for conv in convs]
        gradients = torch.autograd.grad(F.cross_entropy(outputs, y), weights, allow_unused=True)
        norms = [0.0 if gradient is None else gradient.norm().item() for gradient in gradients]
        dead = sum(norm <= 1e-6 * max(norms) for norm in norms)
        with torch.no_grad():
            share = (model(x).argmax(dim=1) == y).float().mean().item()
    score = f"{depth} convolutions on the longest way, {share:.1%} of {len(y)} held-out digits right, {seconds:.0f} s"
    assert seconds <= LAB_SECONDS, (
        f"{score}: {LAB_SECONDS} s is the limit. What makes a layer cheap? Smaller maps, fewer channels, fewer epochs."
    )
    assert share >= LAB_ACCURACY, (
        f"{score}; guessing gives 10 %, and {LAB_ACCURACY:.0%} is asked for. Does it train at all? "
        "Compare with a network of 8 layers."
    )
    assert not dead, (
        f"{score}; but {dead} of the {len(convs)} convolutions get no gradient: "
        "they do nothing, as in a block whose last scale is still zero. Dead blocks do not count."
    )
    assert depth >= LAB_GOOD, (
        f"{score}; {LAB_GOOD} convolutions count as good, {LAB_VERY_GOOD} as very good. Go deeper. "
        f"(A digit passes {len(convs)} in all; those side by side count once.)"
    )
    return f"{score}. {LAB_GOOD} convolutions are good, {LAB_VERY_GOOD} are very good."


lab = Exercise(
    "Lab: the deepest network that still trains in 60 seconds",
    test=_check_lab,
    hints=(
        "Residual blocks, of course. Then make a layer cheap: "
        "on maps of 4 x 4 a convolution has a quarter of the work.",
        "Deep networks like a start as the identity: nn.init.zeros_ on the last scale of each block. "
        "Training wakes them up.",
        "A stem with stride 2, 50 blocks of 16 channels, Adam with OneCycleLR up to 5e-3, 6 epochs: seconds. "
        "Now go deeper.",
    ),
    reference=train_deepest,
)
