"""Exercises of notebook 02, residual blocks."""

import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models.resnet import Bottleneck

from utils.exercises import normalised_digits, one_thread
from utils.lessons import Exercise
from utils.models import num_parameters
from utils.training import fit

# ---- 1. the residual block -------------------------------------------------------------------------------------------


def residual_forward(x, conv1, bn1, conv2, bn2):
    out = F.relu(bn1(conv1(x)))
    out = bn2(conv2(out))
    return F.relu(x + out)


def _check_residual_forward(residual_forward):
    torch.manual_seed(0)
    conv1, conv2 = (nn.Conv2d(6, 6, 3, padding=1, bias=False) for _ in range(2))
    bn1, bn2 = nn.BatchNorm2d(6).eval(), nn.BatchNorm2d(6).eval()
    for bn in (bn1, bn2):
        nn.init.uniform_(bn.weight, 0.5, 2)
        nn.init.normal_(bn.bias)
    x = torch.randn(3, 6, 5, 5)
    given = x.clone()
    with torch.no_grad():
        y = residual_forward(given, conv1, bn1, conv2, bn2)
        assert isinstance(y, torch.Tensor) and y.shape == x.shape, (
            f"Expected an output of the shape of x, {tuple(x.shape)}; "
            f"{tuple(y.shape) if isinstance(y, torch.Tensor) else type(y).__name__} came."
        )
        assert torch.equal(given, x), (
            "x itself was changed: out += x is fine, x += out is not, and F.relu must not be in place on x."
        )
        inner = bn1(conv1(x))
        f = bn2(conv2(F.relu(inner)))

        def is_(value):
            return torch.allclose(y, value, atol=1e-5)

        assert not is_(F.relu(f)), "This is a plain block: the shortcut is missing. Add x before the last ReLU."
        assert not is_(x + f), "The ReLU after the sum is missing."
        assert not is_(x + F.relu(f)) and not is_(F.relu(x + F.relu(f))), (
            "There is a ReLU between the last batch normalisation and the sum, so the block can only add. "
            "It comes after the sum."
        )
        assert not is_(F.relu(x + bn2(conv2(inner)))), "The ReLU after the first batch normalisation is missing."
        assert not is_(F.relu(inner + f)), "The shortcut starts at x, not at the output of the first convolution."
        assert not is_(F.relu(x + conv2(F.relu(conv1(x))))), "The two batch normalisations are missing."
        assert not is_(F.relu(torch.maximum(x, f))) and not is_(F.relu(x * f)), "Shortcut and f(x) are added: x + out."
        assert is_(F.relu(x + f)), (
            f"The largest difference from relu(x + f(x)) is {(y - F.relu(x + f)).abs().max():.2f}. "
            "The order is conv1, bn1, ReLU, conv2, bn2, sum, ReLU."
        )
    return "Take the x away and it is a plain block: one plus sign is the whole difference."


residual_forward = Exercise(
    "The residual block",
    test=_check_residual_forward,
    hints=(
        "Section 5 goes through the block line by line. Keep x: you need it again at the end.",
        "f(x) is conv1, bn1, ReLU, conv2, bn2. No ReLU after bn2.",
        "return F.relu(x + bn2(conv2(F.relu(bn1(conv1(x))))))",
    ),
    reference=residual_forward,
)

# ---- 2. the highway gate ---------------------------------------------------------------------------------------------


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
        "t weighs f(x), and what is left of 1 weighs x.",
        "return t * f(x) + (1 - t) * x",
    ),
    reference=highway_forward,
)

# ---- 3. count a bottleneck -------------------------------------------------------------------------------------------


def count_bottleneck(in_channels, width):
    out_channels = 4 * width
    convolutions = in_channels * width + 9 * width * width + width * out_channels
    normalisations = 2 * (width + width + out_channels)  # a scale and a shift for each channel
    projection = 0 if in_channels == out_channels else in_channels * out_channels + 2 * out_channels
    return convolutions + normalisations + projection


def _check_count_bottleneck(count_bottleneck):
    for in_channels, width in ((256, 64), (64, 64), (1024, 512)):
        out, fits = 4 * width, in_channels == 4 * width
        shortcut = None if fits else nn.Sequential(nn.Conv2d(in_channels, out, 1, bias=False), nn.BatchNorm2d(out))
        with torch.device("meta"):
            block = Bottleneck(in_channels, width)
        right = num_parameters(block)
        right += 0 if fits else num_parameters(shortcut)
        came = count_bottleneck(in_channels, width)
        assert isinstance(came, int), f"Expected a whole number; a {type(came).__name__} came."
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
        "A batch normalisation has 2 parameters a channel: here 2 · width, 2 · width and 2 · 4 · width.",
        "The projection: in_channels · 4 · width weights and 2 · 4 · width for its batch normalisation, "
        "if in_channels != 4 * width.",
    ),
    reference=count_bottleneck,
)

# ---- 4. the projection shortcut --------------------------------------------------------------------------------------


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
        y, want = block(x), (4, out_channels, 8 // stride, 8 // stride)
        assert tuple(y.shape) == want, (
            f"{case}: expected an output of shape {want}, {tuple(y.shape)} came. Are stride and channels used?"
        )
        convs = [layer for layer in block.modules() if isinstance(layer, nn.Conv2d)]
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
        gap = (y - F.relu(shortcut + f)).abs().max()
        assert gap < 1e-3, (
            f"{case}: shapes and layers are right, values differ by {gap:.2f} from relu(shortcut(x) + f(x)). "
            "The order in f is conv1, bn1, ReLU, "
            "conv2, bn2, and the shortcut takes x itself."
        )
    return "Shortcut B of section 6: torchvision's BasicBlock."


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

# ---- 5. the dense block ----------------------------------------------------------------------------------------------


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
        y, total = block(x.clone()), in_channels + growth * num_layers
        case = f"{in_channels} channels, growth {growth}, {num_layers} layers"
        convs = [layer for layer in block.modules() if isinstance(layer, nn.Conv2d)]
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
        assert torch.equal(y[:, :in_channels], x), (
            f"{case}: the first {in_channels} channels of the output should be the input, untouched and in front."
        )
        norms = [layer for layer in block.modules() if isinstance(layer, nn.BatchNorm2d)]
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
        "Layer number l (from 0) sees in_channels + l · growth channels and makes growth new ones.",
        "Keep the layers in an nn.ModuleList, each nn.Sequential(BatchNorm2d, ReLU, Conv2d with "
        "padding=1, bias=False).",
        "forward: for layer in self.layers: x = torch.cat([x, layer(x)], dim=1).",
    ),
    reference=make_dense_block,
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
    """The convolutions of 3 x 3 or larger that x passes, in order; one that is passed twice stands twice."""
    passed: list[nn.Conv2d] = []
    convs = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d) and min(layer.kernel_size) >= 3]
    hooks = [layer.register_forward_hook(lambda layer, *_: passed.append(layer)) for layer in convs]
    try:
        with torch.no_grad():
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return passed


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
        convs = _passed(model, x[:2])
        depth = len(convs)
        assert depth, "A digit passes no convolution of 3 x 3 or larger; those are what is counted."
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        dead = sum(conv.weight.grad is None or not conv.weight.grad.any() for conv in convs)
        with torch.no_grad():
            share = (model(x).argmax(dim=1) == y).float().mean().item()
    score = f"{depth} convolutions, {share:.1%} of {len(y)} held-out digits right, {seconds:.0f} s"
    assert seconds <= LAB_SECONDS, (
        f"{score}: {LAB_SECONDS} s is the limit. What makes a layer cheap? Smaller maps, fewer channels, fewer epochs."
    )
    assert share >= LAB_ACCURACY, (
        f"{score}; guessing gives 10 %, and {LAB_ACCURACY:.0%} is asked for. Does it train at all? "
        "Compare with a network of 8 layers."
    )
    assert not dead, (
        f"{score}; but {dead} of the {depth} convolutions get no gradient: "
        "they do nothing, as in a block whose last scale is still zero. Dead blocks do not count."
    )
    assert depth >= LAB_GOOD, (
        f"{score}; {LAB_GOOD} convolutions count as good, {LAB_VERY_GOOD} as very good. Go deeper."
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
