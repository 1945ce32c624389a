"""Exercises of notebook 03, convolutions."""

import secrets
from collections import Counter

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from utils import critters, datasets
from utils.exercises import came, names_in, not_used, tensor, whole
from utils.lessons import Exercise
from utils.models import num_parameters

# ---- 1. keep the size ------------------------------------------------------------------------------------------------


def same_padding(kernel, dilation):
    return dilation * (kernel - 1) // 2


def _check_same_padding(same_padding):
    for kernel, dilation in ((1, 1), (3, 1), (5, 1), (7, 1), (3, 2), (3, 4), (5, 3), (1, 2)):
        padding = whole(same_padding(kernel, dilation), "an integer", "// divides without a remainder.")
        image, weight = torch.zeros(1, 1, 32, 32), torch.zeros(1, 1, kernel, kernel)
        side = F.conv2d(image, weight, padding=max(0, padding), dilation=dilation).shape[-1]
        assert padding >= 0 and side == 32, (
            f"Kernel {kernel}, dilation {dilation}: with padding {padding} a side of 32 becomes {side}. "
            + ("Does your formula use the dilation?" if dilation > 1 else "What is lost at both rims together?")
        )
    return "Half of what the kernel reaches beyond its middle, on each side."


same_padding = Exercise(
    "Keep the size",
    test=_check_same_padding,
    hints=(
        "With stride 1 the result has the side n + 2p - d(k - 1). When is that n?",
        "2p = d(k - 1). For an odd kernel, k - 1 is even.",
    ),
    reference=same_padding,
)

# ---- 2. a 1 x 1 convolution ------------------------------------------------------------------------------------------


def pointwise(x, weight, bias):
    return torch.einsum("oc,nchw->nohw", weight, x) + bias[:, None, None]


def _check_pointwise(pointwise):
    not_used(pointwise, *names_in(torch, F, nn, like="conv"))
    generator = torch.Generator().manual_seed(0)
    for c_in, c_out in ((4, 4), (5, 3)):  # as many channels out as in, and pixels in a row: mistakes run, and are told
        x = torch.randn(2, c_in, 6, c_out, generator=generator)
        weight, bias = torch.randn(c_out, c_in, generator=generator), torch.randn(c_out, generator=generator)
        result = pointwise(x.clone(), weight.clone(), bias.clone())
        assert isinstance(result, torch.Tensor), f"Expected a tensor; a {type(result).__name__} came."
        right = F.conv2d(x, weight[:, :, None, None], bias)
        assert result.shape == right.shape, (
            f"{tuple(x.shape)} with {c_out} channels out became {tuple(result.shape)}; expected {tuple(right.shape)}: "
            "the channels in second place, height and width as they were."
        )

        result = result.to(right.dtype)  # a result in double precision is as right

        def is_(other, result=result):
            return torch.allclose(result, other, atol=1e-4)

        without = right - bias[:, None, None]
        assert not is_(without), "The sum is right; the bias is missing. Each output channel has one."
        assert not is_(without + bias), (
            "The bias is added along the width. It belongs to the channels: bias[:, None, None]."
        )
        if c_in == c_out:
            turned = F.conv2d(x, weight.T[:, :, None, None], bias)
            assert not is_(turned), "The weight is transposed: weight[o, c] leads from channel c to channel o."
        assert is_(right), (
            f"The numbers differ from a 1 x 1 convolution by up to {(result - right).abs().max():.2f}. "
            "At each pixel: the sum over c of weight[o, c] * x[n, c, i, j], plus bias[o]."
        )
    return "A linear layer at every pixel."


pointwise = Exercise(
    "A 1 x 1 convolution",
    test=_check_pointwise,
    hints=(
        "It is a linear layer on the channels. Either put the channels last, x.permute(0, 2, 3, 1), multiply and put "
        "them back, or write the sum over channels with torch.einsum.",
        'torch.einsum("oc,nchw->nohw", weight, x) is the sum. The bias must match the channels: bias[:, None, None].',
    ),
    reference=pointwise,
)

# ---- 3. how wide a bottleneck may be ---------------------------------------------------------------------------------


def widest_bottleneck(c_in, c_out, kernel, share):
    direct = c_out * kernel**2 * c_in
    for_each_channel = c_in + kernel**2 * c_out
    return int(share * direct / for_each_channel)


def _check_widest_bottleneck(widest_bottleneck):
    for c_in, c_out, kernel, share in ((192, 32, 5, 0.1), (64, 48, 5, 0.5), (256, 256, 3, 0.25), (64, 48, 3, 1.0)):
        width = widest_bottleneck(c_in, c_out, kernel, share)
        width = whole(width, "a whole number of channels", "Round down: int(...).")
        direct, each = c_out * kernel**2 * c_in, c_in + kernel**2 * c_out
        right = int(share * direct / each)
        case = f"From {c_in} to {c_out} channels with {kernel} x {kernel}, a share of {share:g}"
        for wrong, message in {
            int(share * direct / (kernel**2 * c_out)): "The 1 x 1 convolution costs, too: c_in for each channel.",
            int(share * direct / c_in): "The k x k convolution behind the bottleneck is missing in the cost.",
            int(share * c_out * c_in / (c_in + c_out)): "Where is the kernel? The larger convolution has k * k weights "
            "for each pair of channels.",
            int(share * direct / (c_in + kernel * c_out)): "The kernel has k * k numbers, not k.",
            int(direct / each): "This costs as much as the direct layer. Only the given share of it may be spent.",
        }.items():
            assert width == right or width != wrong, f"{case}: {width} came. {message}"
        assert width == right, (
            f"{case}: {width} channels cost {width * each / direct:.1%} of the direct layer, "
            f"{width + 1} would cost {(width + 1) * each / direct:.1%}. Expected the most that stay within the share."
        )
    return "The picture's size cancels: both layers work on the same pixels."


widest_bottleneck = Exercise(
    "How wide may the bottleneck be?",
    test=_check_widest_bottleneck,
    hints=(
        "For each pixel: direct, c_out * k² * c_in multiplications; through b channels, b * c_in + c_out * k² * b.",
        "Solve b * (c_in + k² * c_out) = share * c_out * k² * c_in for b, and round down.",
    ),
    reference=widest_bottleneck,
)

# ---- 4. output padding -----------------------------------------------------------------------------------------------


def output_padding(n, kernel, stride, padding):
    return (n + 2 * padding - kernel) % stride


def _check_output_padding(output_padding):
    cases = ((8, 3, 2, 1), (7, 3, 2, 1), (11, 3, 3, 0), (10, 4, 2, 1), (28, 5, 3, 2), (9, 2, 2, 0), (13, 3, 1, 1))
    for n, kernel, stride, padding in cases:
        answer = whole(output_padding(n, kernel, stride, padding))
        small = (n + 2 * padding - kernel) // stride + 1
        back = (small - 1) * stride - 2 * padding + kernel
        assert answer == n - back, (
            f"n = {n}, kernel {kernel}, stride {stride}, padding {padding}: the convolution gives {small} pixels, and "
            f"with output padding {answer} they become {back + answer}, not {n}. "
            + ("It depends on n: what does the rounding down throw away?" if answer in (0, 1) else "")
        )
    return "It is the remainder that the rounding down has thrown away."


output_padding = Exercise(
    "Output padding",
    test=_check_output_padding,
    hints=(
        "First the small side: (n + 2p - k) // s + 1. Then the large side that comes back without output padding.",
        "The small side m gives (m - 1) s - 2p + k. How much is missing to reach n?",
        "Shorter: it is the remainder of the division, (n + 2p - k) % s.",
    ),
    reference=output_padding,
)

# ---- 5. stamps in a row ----------------------------------------------------------------------------------------------


def stamps_in_a_row(n, kernel, stride):
    counts = [0] * ((n - 1) * stride + kernel)
    for i in range(n):
        for k in range(kernel):
            counts[i * stride + k] += 1
    return counts


def _check_stamps_in_a_row(stamps_in_a_row):
    for n, kernel, stride in ((4, 3, 2), (4, 4, 2), (5, 3, 1), (3, 5, 3), (3, 2, 3)):
        case = f"n = {n}, kernel {kernel}, stride {stride}"
        result = tensor(stamps_in_a_row(n, kernel, stride), "a list of integers").tolist()
        right = _stamps_in_a_row(n, kernel, stride)
        assert isinstance(result, list), f"{case}: expected a list of integers; one number came."
        assert len(result) == len(right), (
            f"{case}: {len(result)} pixels came, expected {len(right)}. The last stamp begins at (n - 1) * stride, "
            "and it is as wide as the kernel."
        )
        assert result == right or max(right) == 1 or any(count not in (0, 1) for count in result), (
            f"{case}: no pixel has more than one stamp, but stamps overlap. Add: +=, not =."
        )
        assert result == right, f"{case}: expected {right}; {result} came."
    return "Away from the rims the counts are even exactly when the kernel size is divisible by the stride."


_stamps_in_a_row = stamps_in_a_row
stamps_in_a_row = Exercise(
    "Stamps in a row",
    test=_check_stamps_in_a_row,
    hints=(
        "Begin with zeros, (n - 1) * stride + kernel of them.",
        "Pixel i writes on the places from i * stride to i * stride + kernel - 1. Add 1 to each.",
    ),
    reference=stamps_in_a_row,
)

# ---- 6. an Inception module without 5 x 5 ----------------------------------------------------------------------------


def make_inception(c_in, c1, c3_reduced, c3, c5_reduced, c5, c_pool):
    def conv(c_in, c_out, kernel):
        return nn.Sequential(nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2), nn.ReLU())

    class Inception(nn.Module):
        def __init__(self):
            super().__init__()
            self.branches = nn.ModuleList(
                [
                    conv(c_in, c1, 1),
                    nn.Sequential(conv(c_in, c3_reduced, 1), conv(c3_reduced, c3, 3)),
                    nn.Sequential(conv(c_in, c5_reduced, 1), conv(c5_reduced, c5, 3), conv(c5, c5, 3)),
                    nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), conv(c_in, c_pool, 1)),
                ]
            )

        def forward(self, x):
            return torch.cat([branch(x) for branch in self.branches], dim=1)

    return Inception()


def _convolutions(module):
    """{(c_in, c_out, kernel): the layer} of a module's convolutions, and how often each occurs."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    shapes = [(layer.in_channels, layer.out_channels, layer.kernel_size[0]) for layer in layers]
    return dict(zip(shapes, layers, strict=True)), Counter(shapes)


def _named(shapes):
    return ", ".join(f"{kernel} x {kernel} from {i} to {o}" for i, o, kernel in shapes)


def _check_make_inception(make_inception):
    torch.manual_seed(0)
    c_in, c1, c3_reduced, c3, c5_reduced, c5, c_pool = numbers = (12, 4, 5, 6, 3, 7, 2)
    module = make_inception(*numbers)
    assert isinstance(module, nn.Module), f"Expected an nn.Module; a {type(module).__name__} came."
    x = torch.randn(2, c_in, 11, 11)  # of both signs, so that a pooling's padding shows
    y = module(x)
    total = c1 + c3 + c5 + c_pool
    assert isinstance(y, torch.Tensor), (
        f"The module returned a {type(y).__name__}; expected one tensor. torch.cat joins the branches."
    )
    assert y.shape[-2:] == (11, 11), (
        f"11 x 11 pixels became {y.shape[-2]} x {y.shape[-1]}. "
        "Each branch keeps the size: a padding of half the kernel, and stride 1, "
        "in the pooling too."
    )
    assert y.shape[1] == total, (
        f"The result has {y.shape[1]} channels; expected {c1} + {c3} + {c5} + {c_pool} = {total}, "
        "concatenated along dim=1."
    )
    reference = _reference_inception(*numbers)
    (layers, have), (right_layers, want) = _convolutions(module), _convolutions(reference)
    assert not any(kernel >= 5 for *_, kernel in have), (
        "There is still a 5 x 5 convolution. Put two of 3 x 3 in its place."
    )
    assert have == want, (
        "The convolutions are not those that were asked for."
        + (f" Missing: {_named(want - have)}." if want - have else "")
        + (f" Not asked for: {_named(have - want)}." if have - want else "")
    )
    assert all(layer.bias is not None for layer in layers.values()), "All convolutions should have a bias."
    assert num_parameters(module) == num_parameters(reference), (
        f"The module has {num_parameters(module):,} weights, its convolutions {num_parameters(reference):,}. "
        "Nothing else should have any: no batch normalisation here."
    )
    for shape, layer in right_layers.items():  # no two have the same shape
        layer.load_state_dict(layers[shape].state_dict())
    for seed in range(2):
        torch.manual_seed(seed)
        x = torch.randn(2, c_in, 11, 11)
        with torch.no_grad():
            y, right = module(x), reference(x)
            wrong = _likely_mistakes(right_layers, x)
        for message, branches in wrong.items():
            parts = [branches.get(name, part) for name, part in _branches(right_layers, x).items()]
            assert not torch.allclose(y, torch.cat(parts, dim=1), atol=1e-5), message
        bounds = dict(zip(("1x1", "3x3", "third", "pooling"), right.split((c1, c3, c5, c_pool), dim=1), strict=True))
        start = 0
        for name, part in bounds.items():
            count = part.shape[1]
            assert torch.allclose(y[:, start : start + count], part, atol=1e-5), (
                f"With the same weights, channels {start} to {start + count - 1} are not those of the {name} branch. "
                "Is the order 1x1, 3x3, third, pool? A ReLU belongs after every convolution, and the pooling is "
                "max pooling, before its 1x1."
            )
            start += count
    whole, saved = num_parameters(_reference_inception(192, 64, 96, 128, 16, 32, 32)), 12_800
    return (
        f"As module 3a it has {whole:,} weights. Two 3 x 3 have 18 weights for a channel pair, "
        f"one 5 x 5 has 25 ({saved:,} in 3a)."
    )


def _reference_inception(*numbers):
    return make_inception.reference(*numbers)


def _branches(layers, x):
    """The four results, by name, from convolutions in the order of the reference solution."""
    one, reduce3, three, reduce5, first, second, after_pool = layers.values()
    pooled = F.max_pool2d(x, 3, stride=1, padding=1)
    return {
        "1x1": one(x).relu(),
        "3x3": three(reduce3(x).relu()).relu(),
        "third": second(first(reduce5(x).relu()).relu()).relu(),
        "pool": after_pool(pooled).relu(),
    }


def _likely_mistakes(layers, x):
    """{message: the branches that this mistake changes}."""
    one, reduce3, three, reduce5, first, second, after_pool = layers.values()
    pooled = F.max_pool2d(x, 3, stride=1, padding=1)
    bare = second(first(reduce5(x)))
    no_last = {
        "1x1": one(x),
        "3x3": three(reduce3(x).relu()),
        "third": second(first(reduce5(x).relu()).relu()),
        "pool": after_pool(pooled),
    }
    between = "A ReLU is missing between the convolutions of the {} branch: one belongs after every convolution."
    two, both = {"3x3": three(reduce3(x)).relu()}, between.format("3x3 and of the third")
    third = {
        name: {"third": branch.relu()}
        for name, branch in {
            "all": bare,
            "first": second(first(reduce5(x)).relu()),
            "second": second(first(reduce5(x).relu())),
        }.items()
    }
    average = "The pooling is an average pooling; Inception takes the maximum."
    after = "The pooling comes after its 1x1 convolution; it belongs before it."
    return {
        both: two | third["all"],
        between.format("3x3"): two,
        between.format("third"): third["all"],
        between.format("third") + " (The first ReLU.)": third["first"],
        between.format("third") + " (The second ReLU.)": third["second"],
        average: {"pool": after_pool(F.avg_pool2d(x, 3, stride=1, padding=1)).relu()},
        average + " (It counts no padding.)": {
            "pool": after_pool(F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)).relu()
        },
        after: {"pool": F.max_pool2d(after_pool(x).relu(), 3, stride=1, padding=1)},
        "The pooling is missing in the last branch.": {"pool": after_pool(x).relu()},
        "Some results are negative: a ReLU belongs after every convolution, the last ones too.": no_last,
        "Some results of the pooling branch are negative: a ReLU belongs after its convolution, too.": {
            "pool": no_last["pool"]
        },
    }


make_inception = Exercise(
    "An Inception module without 5 x 5",
    test=_check_make_inception,
    hints=(
        "Copy the class Inception of section 5 and change the third branch.",
        "The third branch: conv_relu(c_in, c5_reduced, 1), conv_relu(c5_reduced, c5, 3), conv_relu(c5, c5, 3).",
    ),
    reference=make_inception,
)

# ---- 7. transposed convolution by hand -------------------------------------------------------------------------------


def transposed_convolution(x, weight, stride, padding):
    k = weight.shape[-1]
    height, width = ((side - 1) * stride + k for side in x.shape[1:])
    result = torch.zeros(weight.shape[1], height, width)
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            stamp = torch.einsum("c,cokl->okl", x[:, i, j], weight)
            result[:, i * stride : i * stride + k, j * stride : j * stride + k] += stamp
    return result[:, padding : height - padding, padding : width - padding]


def _check_transposed_convolution(transposed_convolution):
    transposed = [name for like in ("conv_transpose", "convtranspose") for name in names_in(torch, F, nn, like=like)]
    not_used(transposed_convolution, *transposed, *names_in(torch, like="convolution"))
    generator = torch.Generator().manual_seed(0)
    for stride, padding, k in ((1, 0, 3), (2, 0, 3), (2, 1, 4), (3, 1, 3)):
        x, weight = torch.randn(2, 4, 5, generator=generator), torch.randn(2, 3, k, k, generator=generator)
        result = transposed_convolution(x.clone(), weight.clone(), stride, padding)
        assert isinstance(result, torch.Tensor), f"Expected a tensor; a {type(result).__name__} came."
        right = F.conv_transpose2d(x[None], weight, stride=stride, padding=padding)[0]
        without = F.conv_transpose2d(x[None], weight, stride=stride)[0]
        case = f"stride {stride}, padding {padding}, kernel {k}"
        assert result.ndim == 3 and result.shape[0] == 3, (
            f"Expected (c_out, H', W') with c_out = 3; {tuple(result.shape)} came. "
            "weight is (c_in, c_out, k, k): c_in is summed over."
        )
        assert not (padding and result.shape == without.shape), (
            f"With {case} the shape {tuple(result.shape)} is that without padding. "
            f"Cut {padding} pixel(s) off each rim at the end."
        )
        assert result.shape == right.shape, (
            f"With {case}, (2, 4, 5) became {tuple(result.shape)}; expected {tuple(right.shape)}. "
            "The side is (n - 1)s + k - 2p." + (" (A slice such as [0:-0] is empty.)" if not result.numel() else "")
        )
        result = result.to(right.dtype)  # a result in double precision is as right
        if torch.allclose(result, right, atol=1e-4):
            continue
        turned = F.conv_transpose2d(x[None], weight.flip(2, 3), stride=stride, padding=padding)[0]
        assert not torch.allclose(result, turned, atol=1e-4), (
            "The kernel is turned by 180 degrees. It is turned only in the way with the zeros "
            "(insert zeros, then convolve); a stamp is not turned."
        )
        last = _stamped_over(x, weight, stride)[
            :, padding : without.shape[1] - padding, padding : without.shape[2] - padding
        ]
        assert not torch.allclose(result, last, atol=1e-4), (
            "Where stamps overlap, the later one has wiped out the earlier. Add: +=, not =."
        )
        raise AssertionError(
            f"With {case} the numbers differ from F.conv_transpose2d by up to {(result - right).abs().max():.2f}. "
            "The stamp of a pixel is the sum over c_in of x[c, i, j] * weight[c], "
            "and it begins at (i * stride, j * stride)."
        )
    return "Equal to F.conv_transpose2d, for four strides, kernels and paddings."


def _stamped_over(x, weight, stride):
    """What comes out where stamps are written instead of added: a common mistake."""
    k = weight.shape[-1]
    result = torch.zeros(weight.shape[1], *((side - 1) * stride + k for side in x.shape[1:]))
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            stamp = torch.einsum("c,cokl->okl", x[:, i, j], weight)
            result[:, i * stride : i * stride + k, j * stride : j * stride + k] = stamp
    return result


transposed_convolution = Exercise(
    "Transposed convolution by hand",
    test=_check_transposed_convolution,
    hints=(
        "Begin with by_stamping of section 7. The result has c_out channels, "
        "and its sides without padding are (n - 1)s + k.",
        'The stamp of a pixel: torch.einsum("c,cokl->okl", x[:, i, j], weight), or a sum over the input channels.',
        "At the end cut off the rims: result[:, padding : height - padding, padding : width - padding].",
    ),
    reference=transposed_convolution,
)

# ---- 8. a dense head as a convolution --------------------------------------------------------------------------------


def dense_to_convolution(linear, channels, side):
    conv = nn.Conv2d(channels, linear.out_features, kernel_size=side)
    weight = linear.weight.reshape(linear.out_features, channels, side, side)
    conv.load_state_dict({"weight": weight, "bias": linear.bias})
    return conv


def _check_dense_to_convolution(dense_to_convolution):
    torch.manual_seed(0)
    for channels, side, classes in ((4, 3, 5), (3, 1, 2)):
        linear = nn.Linear(channels * side * side, classes)
        conv = dense_to_convolution(linear, channels, side)
        assert isinstance(conv, nn.Conv2d), f"Expected an nn.Conv2d; a {type(conv).__name__} came."
        assert tuple(conv.weight.shape) == (classes, channels, side, side), (
            f"The weights have the shape {tuple(conv.weight.shape)}; expected {(classes, channels, side, side)}: "
            f"one kernel of {side} x {side} a class, over all channels."
        )
        x = torch.randn(6, channels, side, side)
        want, have = linear(x.flatten(1)), conv(x)
        assert have.shape == (6, classes, 1, 1), (
            f"Maps of {side} x {side} gave {tuple(have.shape)}; expected (6, {classes}, 1, 1). "
            "Without padding, and with stride 1."
        )
        shift = (have.flatten(1) - want).detach()
        off = linear.bias.detach()
        assert not torch.allclose(shift, -off.expand_as(shift), atol=1e-5), (
            "Everything is right but the bias, which is missing."
        )
        assert not torch.allclose(shift, shift[:1].expand_as(shift), atol=1e-5) or shift.abs().max() < 1e-5, (
            "The answers are off by a constant: the bias is still the random one of a new layer. Copy linear.bias."
        )
        assert torch.allclose(have.flatten(1), want, atol=1e-5), (
            f"The answers differ by up to {shift.abs().max():.2f} from those of the linear layer. "
            "Flatten writes channel by channel, then row by row: "
            "reshape the weights to (classes, channels, side, side)."
        )
        assert conv(torch.randn(1, channels, side + 4, side + 2)).shape == (1, classes, 5, 3), (
            "On larger maps there should be an answer at every place."
        )
    return "The same answers, and now at every place of a larger picture."


dense_to_convolution = Exercise(
    "A dense head as a convolution",
    test=_check_dense_to_convolution,
    hints=(
        "A kernel as large as the map fits at exactly one place: "
        "it multiplies all numbers with all weights, as a dense layer does.",
        "nn.Conv2d(channels, linear.out_features, kernel_size=side), without padding.",
        "Its weights: linear.weight reshaped to (out_features, channels, side, side). And the bias.",
    ),
    reference=dense_to_convolution,
)

# ---- lab -------------------------------------------------------------------------------------------------------------

LAB_SPECIES = ["fox", "panda", "tiger", "owl", "rabbit", "frog"]
LAB_BUDGET = 561_590  # a tenth of the multiplications of the direct network of the notebook, which prints them
LAB_GOOD, LAB_VERY_GOOD = 0.78, 0.85
# Operations that multiply nothing, or (the last line) are counted; by the names that torch.export gives them.
_ALLOWED = set(
    """relu relu_ relu6 relu6_ hardtanh hardtanh_ clamp clamp_ leaky_relu leaky_relu_ elu elu_ gelu silu silu_ sigmoid
    sigmoid_ tanh hardswish hardswish_ hardsigmoid hardsigmoid_ softmax log_softmax batch_norm
    _native_batch_norm_legit_no_training dropout dropout_ feature_dropout max_pool2d avg_pool2d adaptive_avg_pool2d
    adaptive_max_pool2d mean sum amax upsample_nearest2d upsample_bilinear2d pad constant_pad_nd flatten view reshape
    permute transpose squeeze unsqueeze expand cat chunk split split_with_sizes slice select channel_shuffle
    pixel_unshuffle to _to_copy type_as float contiguous clone detach detach_ alias lift_fresh_copy
    _assert_tensor_metadata add add_ sub sub_ rsub mul mul_ div div_ conv2d convolution linear addmm mm matmul stack
    flip roll""".split()
)


class _SmallNet(nn.Module):
    """The reference answer's network: stride early, then depthwise separable convolutions."""

    def __init__(self):
        super().__init__()

        def conv(c_in, c_out, kernel, stride=1, groups=1):
            layer = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
            return nn.Sequential(layer, nn.BatchNorm2d(c_out), nn.ReLU())

        def separable(c_in, c_out, stride):
            return nn.Sequential(conv(c_in, c_in, 3, stride, groups=c_in), conv(c_in, c_out, 1))

        self.layers = nn.Sequential(
            conv(3, 16, 3, stride=2),
            separable(16, 48, 2),
            separable(48, 64, 1),
            separable(64, 96, 2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(96, 6),
        )

    def forward(self, images):
        return self.layers((images.float() / 255 - 0.5) / 0.25)


def train_small():
    train_set = datasets.critters(LAB_SPECIES, num_train=1200, num_val=0, num_test=900, size=32).train
    images, labels = train_set.images, train_set.targets["label"]
    images, labels = torch.cat([images, images.flip(3)]), labels.repeat(2)  # mirrored, an animal is the same animal
    model, num_epochs = _SmallNet(), 15
    optimizer = torch.optim.AdamW(model.parameters(), lr=8e-3, weight_decay=0.05)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 8e-3, total_steps=num_epochs * -(-len(images) // 64))
    for _ in range(num_epochs):
        for batch in torch.randperm(len(images)).split(64):
            shift = torch.randint(-3, 4, (2,)).tolist()  # and moved by some pixels it is the same animal, too
            loss = F.cross_entropy(model(images[batch].roll(shift, (2, 3))), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
    return model


def _new_drawings(num: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Drawings that nobody has seen, as nobody knows the seed; images uint8 (num, 3, 32, 32), labels."""
    images, labels, _, _ = critters.draw_many(LAB_SPECIES, num, seed=secrets.randbits(60), size=32)
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels)


def _export(model: nn.Module, images: torch.Tensor) -> tuple[nn.Module, int]:
    """The network as a graph of operations, and how many multiplications of tensors with tensors its graph has for each
    picture (convolutions and matrix products not among them).

    From the graph alone the answers are then computed, so whatever is not in it has no part in them.
    """
    program = torch.export.export(model, (images,), strict=False)
    products = 0
    for node in program.graph.nodes:
        if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
            assert node.op != "call_function" or "getitem" in str(node.target), (
                f"The network uses {node.target}, which cannot be counted. Use layers, and no torch.no_grad in forward."
            )
            continue
        name = node.target._overloadpacket.__name__
        assert name in _ALLOWED, (
            f"The network uses the operation {name}, in which multiplications could hide. "
            "Convolutions, linear layers, pooling, activations, "
            "batch norm, sums and products are counted."
        )
        if name.rstrip("_") in ("mul", "div"):
            factors = [a for a in node.args if isinstance(a, torch.fx.Node) and a.meta["val"].numel() > 1]
            products += node.meta["val"].numel() if len(factors) > 1 else 0
    return program.module(), products // len(images)


def _check_lab(train_small):
    model = train_small()
    assert isinstance(model, nn.Module), (
        f"train_small returned a {type(model).__name__}; expected the trained network. Return it."
    )
    images, labels = _new_drawings(900)
    graph, products = _export(model.cpu().eval(), images[:100])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        parts = [graph(part) for part in images.split(100)]
        assert isinstance(parts[0], torch.Tensor), f"The network gave {came(parts[0])}; expected one tensor of logits."
        logits = torch.cat(parts)
    assert logits.shape == (len(images), 6), (
        f"{len(images)} pictures gave outputs of shape {tuple(logits.shape)}; "
        f"expected ({len(images)}, 6), six logits a picture."
    )
    macs = counter.get_total_flops() // 2 // len(images) + products
    share = (logits.argmax(dim=1) == labels).float().mean().item()
    score = f"{share:.1%} of {len(labels)} new drawings are right, with {macs:,} multiplications a picture"
    assert macs <= LAB_BUDGET, (
        f"{score}; at most {LAB_BUDGET:,} are allowed, a tenth of the direct network's. Where does yours spend them? "
        "Count layer by layer."
    )
    assert share >= LAB_GOOD, (
        f"{score}; guessing gives 17 %, and {LAB_GOOD:.0%} counts as good. "
        "What you have saved in multiplications can be spent on epochs, and on mirrored pictures."
    )
    return (
        f"{score} ({macs / (10 * LAB_BUDGET):.1%} of the direct network's); "
        f"{LAB_GOOD:.0%} is good, {LAB_VERY_GOOD:.0%} very good."
    )


lab = Exercise(
    "Lab: as accurate with a tenth of the multiplications",
    test=_check_lab,
    hints=(
        "Where are the direct network's multiplications? Nearly all in the 5 x 5 layer, "
        "then in the 3 x 3 layer from 16 to 64 channels. Count each.",
        "Depthwise separable convolutions (section 6), stride early, "
        "and more channels only where the picture is small.",
        "A small network can afford more epochs. Mirrored pictures double the data, images.flip(3), "
        "and moving a batch by some pixels helps even more: images.roll((2, -1), (2, 3)).",
    ),
    reference=train_small,
)
