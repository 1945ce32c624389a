"""Wrong answers to the exercises of notebook 03: (exercise, answer, a piece of the message that fits the mistake)."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from utils.exercises import convolutions as right


def conv(c_in, c_out, kernel, padding=None, bias=True):
    layer = nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2 if padding is None else padding, bias=bias)
    return nn.Sequential(layer, nn.ReLU())


def inception(
    third=None,
    pool_stride=1,
    join=1,
    order=(0, 1, 2, 3),
    second_padding=None,
    last=None,
    bend=nn.ReLU,
    pool=nn.MaxPool2d,
    pool_last=False,
):
    """make_inception with one thing changed. bend: what stands between the convolutions of a branch."""

    class Module(nn.Module):
        def __init__(self, c_in, c1, r3, c3, r5, c5, cp):
            super().__init__()
            self.branches = nn.ModuleList(
                [
                    conv(c_in, c1, 1),
                    nn.Sequential(nn.Conv2d(c_in, r3, 1), bend(), conv(r3, c3, 3, second_padding)),
                    third(c_in, r5, c5)
                    if third
                    else nn.Sequential(conv(c_in, r5, 1), conv(r5, c5, 3), conv(c5, c5, 3)),
                    nn.Sequential(*[pool(3, pool_stride, 1), (last or conv)(c_in, cp, 1)][:: -1 if pool_last else 1]),
                ]
            )

        def forward(self, x):
            return torch.cat([self.branches[i](x) for i in order], dim=join)

    return Module


class Pair(nn.Module):
    def forward(self, x):
        return x, x


def five(c_in, r5, c5):
    return nn.Sequential(conv(c_in, r5, 1), conv(r5, c5, 5))


def single(c_in, r5, c5):
    return nn.Sequential(conv(c_in, r5, 1), conv(r5, c5, 3))


def narrow(c_in, r5, c5):
    return nn.Sequential(conv(c_in, r5, 1), conv(r5, r5, 3), conv(r5, c5, 3))


def bare(i, o, k):
    return nn.Conv2d(i, o, k, padding=k // 2)


def unbent(c_in, r5, c5):
    return nn.Sequential(bare(c_in, r5, 1), bare(r5, c5, 3), conv(c5, c5, 3))


def half_bent(c_in, r5, c5):
    return nn.Sequential(conv(c_in, r5, 1), bare(r5, c5, 3), conv(c5, c5, 3))


class Functional(nn.Module):
    """A right Inception in another style: layers in another order, one ReLU for all, written out in forward."""

    def __init__(self, c_in, c1, r3, c3, r5, c5, cp):
        super().__init__()
        self.after_pool, self.c = nn.Conv2d(c_in, cp, 1), nn.Conv2d(c5, c5, 3, padding="same")
        self.a, self.b = bare(c_in, r5, 1), bare(r5, c5, 3)
        self.reduce, self.three = bare(c_in, r3, 1), bare(r3, c3, 3)
        self.one = bare(c_in, c1, 1)

    def forward(self, x):
        third = F.relu(self.b(F.relu(self.a(x))))
        pooled = F.max_pool2d(x, 3, 1, 1)
        parts = self.one(x), self.three(F.relu(self.reduce(x))), self.c(third), self.after_pool(pooled)
        return F.relu(torch.cat(parts, 1))


def with_norm(c_in, r5, c5):
    return nn.Sequential(conv(c_in, r5, 1), conv(r5, c5, 3), conv(c5, c5, 3), nn.BatchNorm2d(c5))


def pixels_as_rows(x, weight, bias):
    return (x.permute(0, 2, 3, 1) @ weight.T + bias).permute(0, 3, 1, 2)


def flattened(x, weight, bias):
    return (weight @ x.flatten(2) + bias[:, None]).unflatten(2, x.shape[2:])


def by_conv2d(x, weight, bias):
    return F.conv2d(x, weight[:, :, None, None], bias)


def by_layer(x, weight, bias):
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
    layer.load_state_dict({"weight": weight[:, :, None, None], "bias": bias})
    return layer(x)


def summed(x, weight, bias):
    return torch.einsum("oc,nchw->nohw", weight, x)


def turned_weight(x, weight, bias):
    weight = weight.T if weight.shape[0] == weight.shape[1] else weight
    return summed(x, weight, bias) + bias[:, None, None]


def width(cost, whole=lambda c_in, c_out, k: c_out * k * k * c_in):
    """widest_bottleneck with another cost of each channel."""
    return lambda c_in, c_out, k, share: int(share * whole(c_in, c_out, k) / cost(c_in, c_out, k))


def by_trying(c_in, c_out, k, share):
    return max(b for b in range(2000) if b * c_in + c_out * k * k * b <= share * c_out * k * k * c_in)


def missing_pixels(n, kernel, stride, padding):
    small = (n + 2 * padding - kernel) // stride + 1
    return n - ((small - 1) * stride - 2 * padding + kernel)


def by_pytorch(x, weight, stride, padding):
    return F.conv_transpose2d(x[None], weight, stride=stride, padding=padding)[0]


def by_pytorch_layer(x, weight, stride, padding):
    layer = nn.ConvTranspose2d(*weight.shape[:3], stride, padding, bias=False)
    layer.weight.data = weight
    return layer(x[None])[0]


def with_zeros(x, weight, stride, padding):
    """A right answer: the way with the zeros."""
    k = weight.shape[-1]
    spread = x.new_zeros(len(x), *((side - 1) * stride + 1 for side in x.shape[1:]))
    spread[:, ::stride, ::stride] = x
    result = F.conv2d(spread[None], weight.flip(2, 3).transpose(0, 1), padding=k - 1)[0]
    return result[:, padding : result.shape[1] - padding, padding : result.shape[2] - padding]


def stamped(x, weight, stride, padding):
    result = right._stamped_over(x, weight, stride)
    return result[:, padding : result.shape[1] - padding, padding : result.shape[2] - padding]


def turned(x, weight, stride, padding):
    return with_zeros(x, weight.flip(2, 3), stride, padding)


def uncut(x, weight, stride, padding):
    return with_zeros(x, weight, stride, 0)


def one_channel(x, weight, stride, padding):
    return with_zeros(x, weight, stride, padding).sum(0)


def cut_once(x, weight, stride, padding):
    return uncut(x, weight, stride, padding)[:, padding:, padding:]


def convolution(weight=None, bias="copy", **options):
    """dense_to_convolution with other weights or another bias."""

    def dense_to_convolution(linear, channels, side):
        layer = nn.Conv2d(channels, linear.out_features, side, bias=bias is not None, **options)
        shape = (linear.out_features, channels, side, side)
        layer.weight.data = weight(linear.weight.data, channels, side) if weight else linear.weight.data.reshape(shape)
        if bias == "copy":
            layer.bias.data = linear.bias.data
        return layer

    return dense_to_convolution


def channels_last(weight, channels, side):
    return weight.reshape(-1, side, side, channels).permute(0, 3, 1, 2)


def by_scatter(n, kernel, stride):
    places = (torch.arange(n)[:, None] * stride + torch.arange(kernel)).flatten()
    return torch.bincount(places, minlength=(n - 1) * stride + kernel)


def each_once(n, kernel, stride):
    counts = np.zeros((n - 1) * stride + kernel, dtype=int)
    for i in range(n):
        counts[i * stride : i * stride + kernel] = 1
    return counts


def sliced_by_padding(x, weight, stride, padding):
    return uncut(x, weight, stride, 0)[:, padding:-padding, padding:-padding]


class Net(nn.Module):
    """Pictures as bytes in, logits out; `layers` decides what it costs."""

    def __init__(self, *layers, before=lambda x: x):
        super().__init__()
        self.layers, self.before = nn.Sequential(*layers), before

    def forward(self, images):
        return self.layers(self.before(images.float() / 255))


def head(channels, classes=6):
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)


def spectrum(x):
    return torch.fft.fft2(x).abs()


KERNEL = torch.rand(1, 400, 3, 1, 1)


def products(x):
    """A 1x1 convolution written as products and sums, which PyTorch's counter does not see."""
    return (x[:, None] * KERNEL).sum(2)


another_name = F.conv2d


def by_another_name(x, weight, bias):
    return another_name(x, weight[:, :, None, None], bias)


def by_lazy_layer(x, weight, bias):
    layer = nn.LazyConv2d(len(bias), 1)
    layer(x)
    layer.load_state_dict({"weight": weight[:, :, None, None], "bias": bias})
    return layer(x)


def by_getattr(x, weight, stride, padding):
    return getattr(F, "conv_transpose2d")(x[None], weight, stride=stride, padding=padding)[0]  # noqa: B009


def by_transposed(x, weight, stride, padding):
    return torch.convolution(x[None], weight, None, [stride] * 2, [padding] * 2, [1, 1], True, [0, 0], 1)[0]


def by_slices(x, weight, stride, padding):
    """One strided slice for each number of the kernel, with NumPy and in double precision."""
    (height, width), k = x.shape[1:], weight.shape[-1]
    result = np.zeros((weight.shape[1], (height - 1) * stride + k, (width - 1) * stride + k))
    for i in range(k):
        for j in range(k):
            place = result[:, i : i + (height - 1) * stride + 1 : stride, j : j + (width - 1) * stride + 1 : stride]
            place += np.einsum("cij,co->oij", x.numpy(), weight[:, :, i, j].numpy())
    _, height, width = result.shape
    return torch.from_numpy(result[:, padding : height - padding, padding : width - padding])


def by_fold(x, weight, stride, padding):
    stamps = torch.einsum("cij,cokl->oklij", x, weight)
    sides = [(side - 1) * stride + weight.shape[-1] - 2 * padding for side in x.shape[1:]]
    return F.fold(stamps.flatten(0, 2).flatten(1), sides, weight.shape[-1], padding=padding, stride=stride)


def in_double(x, weight, bias):
    return (weight.double() @ x.double().flatten(2) + bias[:, None]).unflatten(2, x.shape[2:])


def lazily(linear, channels, side):
    layer = nn.LazyConv2d(linear.out_features, side)
    layer(torch.zeros(1, channels, side, side))
    layer.weight.data = linear.weight.data.unflatten(1, (channels, side, side))
    layer.bias = linear.bias
    return layer


WRONG = [
    ("same_padding", lambda kernel, dilation: [dilation * (kernel - 1) // 2] * 2, "Expected an integer; a list came"),
    ("pointwise", by_another_name, "uses conv2d"),
    ("pointwise", by_lazy_layer, "uses LazyConv2d"),
    ("pointwise", lambda x, weight, bias: F.conv1d(x.flatten(2), weight[:, :, None], bias), "uses conv1d"),
    ("widest_bottleneck", lambda i, o, k, share: str(by_trying(i, o, k, share)), "Expected a whole number of channels"),
    ("output_padding", lambda n, k, s, p: (n + 2 * p - k) % s > 0, "Expected a whole number; True, a bool, came"),
    ("transposed_convolution", by_getattr, "uses conv_transpose2d"),
    ("transposed_convolution", by_transposed, "uses convolution"),
    ("dense_to_convolution", lambda linear, c, side: convolution()(linear, c, side).double(), "It says: "),
    ("lab", lambda: Net(nn.Conv2d(3, 8, 3, stride=4), *head(8), Pair()), "expected one tensor of logits"),
    ("lab", lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 6)), "must have the same dtype"),
    ("same_padding", lambda kernel, dilation: (kernel - 1) // 2, "Does your formula use the dilation"),
    ("same_padding", lambda kernel, dilation: dilation * (kernel - 1), "What is lost at both rims"),
    ("same_padding", lambda kernel, dilation: dilation * (kernel - 1) / 2, "Expected an integer"),
    ("same_padding", lambda kernel, dilation: "same", "Expected an integer"),
    ("make_inception", lambda *numbers: 5, "Expected an nn.Module"),
    ("make_inception", inception(third=five), "still a 5 x 5"),
    ("make_inception", inception(third=single), "Missing: 3 x 3 from 7 to 7"),
    ("make_inception", inception(third=narrow), "Missing: 3 x 3 from 7 to 7. Not asked for: 3 x 3 from 3 to 3"),
    ("make_inception", inception(third=with_norm), "no batch normalisation"),
    ("make_inception", inception(order=(1, 0, 2, 3)), "Is the order 1x1, 3x3"),
    ("make_inception", inception(order=(0, 1, 2)), "The result has 17 channels; expected"),
    ("make_inception", inception(last=bare), "Some results of the pooling branch are negative"),
    ("make_inception", inception(last=lambda i, o, k: conv(i, o, k, bias=False)), "have a bias"),
    ("make_inception", inception(bend=nn.Identity), "between the convolutions of the 3x3 branch"),
    ("make_inception", inception(third=unbent), "between the convolutions of the third branch"),
    ("make_inception", inception(third=half_bent), "(The second ReLU.)"),
    ("make_inception", inception(third=unbent, bend=nn.Identity), "of the 3x3 and of the third branch"),
    ("make_inception", inception(pool=nn.AvgPool2d), "is an average pooling"),
    ("make_inception", inception(pool_last=True), "comes after its 1x1"),
    ("make_inception", inception(pool=lambda *numbers: nn.Identity()), "The pooling is missing"),
    ("make_inception", inception(bend=nn.Tanh), "A ReLU belongs after every convolution"),
    ("transposed_convolution", stamped, "+=, not ="),
    ("transposed_convolution", turned, "turned by 180 degrees"),
    ("transposed_convolution", uncut, "Cut 1 pixel(s) off each rim"),
    ("transposed_convolution", one_channel, "Expected (c_out, H', W')"),
    ("transposed_convolution", cut_once, "The side is (n - 1)s + k - 2p"),
    ("transposed_convolution", lambda *arguments: [], "a list came"),
    ("transposed_convolution", by_pytorch, "uses conv_transpose2d"),
    ("transposed_convolution", by_pytorch_layer, "uses ConvTranspose2d"),
    ("pointwise", by_conv2d, "uses conv2d"),
    ("pointwise", by_layer, "uses Conv2d"),
    ("pointwise", summed, "the bias is missing"),
    ("pointwise", lambda x, weight, bias: summed(x, weight, bias) + bias, "added along the width"),
    ("pointwise", turned_weight, "The weight is transposed"),
    ("pointwise", lambda x, weight, bias: x.permute(0, 2, 3, 1) @ weight.T + bias, "the channels in second place"),
    ("pointwise", lambda x, weight, bias: pixels_as_rows(x, weight.abs(), bias), "At each pixel: the sum"),
    ("pointwise", lambda x, weight, bias: 1, "a int came"),
    ("widest_bottleneck", width(lambda i, o, k: k * k * o), "The 1 x 1 convolution costs, too"),
    ("widest_bottleneck", width(lambda i, o, k: i), "behind the bottleneck is missing"),
    ("widest_bottleneck", width(lambda i, o, k: i + o, lambda i, o, k: i * o), "Where is the kernel?"),
    ("widest_bottleneck", width(lambda i, o, k: i + k * o), "k * k numbers, not k"),
    ("widest_bottleneck", lambda i, o, k, share: int(o * k * k * i / (i + k * k * o)), "Only the given share"),
    ("widest_bottleneck", lambda i, o, k, share: share * o * k * k * i / (i + k * k * o), "Round down"),
    ("widest_bottleneck", lambda i, o, k, share: 1 + by_trying(i, o, k, share), "Expected the most that stay within"),
    ("output_padding", lambda n, kernel, stride, padding: 1, "not 7"),
    ("output_padding", lambda n, kernel, stride, padding: 0, "they become 7, not 8"),
    ("output_padding", lambda n, kernel, stride, padding: stride - 1, "It depends on n"),
    ("output_padding", lambda n, kernel, stride, padding: (n - kernel) / stride, "Expected a whole number"),
    ("stamps_in_a_row", each_once, "+=, not ="),
    ("stamps_in_a_row", lambda n, kernel, stride: by_scatter(n, kernel, stride)[:-1], "The last stamp begins at"),
    ("stamps_in_a_row", lambda n, kernel, stride: 2 * by_scatter(n, kernel, stride), "expected [1, 1, 2"),
    ("stamps_in_a_row", lambda n, kernel, stride: n * kernel, "one number came"),
    ("transposed_convolution", sliced_by_padding, "A slice such as [0:-0] is empty"),
    ("dense_to_convolution", lambda linear, channels, side: linear, "Expected an nn.Conv2d"),
    ("dense_to_convolution", convolution(bias=None), "the bias, which is missing"),
    ("dense_to_convolution", convolution(bias="new"), "random one of a new layer"),
    ("dense_to_convolution", convolution(weight=channels_last), "Flatten writes channel by channel"),
    ("dense_to_convolution", convolution(padding=1), "Without padding"),
    (
        "dense_to_convolution",
        lambda linear, c, side: nn.Conv2d(c, linear.out_features, 1 + side),
        "The weights have the",
    ),
    ("lab", lambda: 0.9, "returned a float"),
    ("lab", lambda: Net(nn.Conv2d(3, 8, 3, stride=4), *head(8)), "guessing gives 17 %"),
    ("lab", lambda: Net(nn.Conv2d(3, 64, 5, padding=2), *head(64)), "at most 561,590 are allowed"),
    ("lab", lambda: Net(*head(400), before=products), "at most 561,590 are allowed"),
    ("lab", lambda: Net(*head(3), before=spectrum), "in which multiplications could hide"),
    ("lab", lambda: Net(nn.Conv2d(3, 8, 3, stride=4), *head(8, classes=2)), "six logits a picture"),
]

RIGHT = [
    ("stamps_in_a_row", by_scatter),
    (
        "stamps_in_a_row",
        lambda n, kernel, stride: F.conv_transpose1d(torch.ones(1, 1, n), torch.ones(1, 1, kernel), stride=stride)[
            0, 0
        ],
    ),
    ("same_padding", lambda kernel, dilation: np.int64(kernel // 2 * dilation)),
    ("pointwise", in_double),
    ("widest_bottleneck", lambda i, o, k, share: np.int64(by_trying(i, o, k, share))),
    ("output_padding", lambda n, kernel, stride, padding: np.mod(n + 2 * padding - kernel, stride)),
    ("transposed_convolution", by_slices),
    ("transposed_convolution", by_fold),
    ("dense_to_convolution", lazily),
    ("same_padding", lambda kernel, dilation: (dilation * (kernel - 1) + 1) // 2),
    ("pointwise", pixels_as_rows),
    ("pointwise", flattened),
    ("pointwise", lambda x, weight, bias: F.linear(x.movedim(1, -1), weight, bias).movedim(-1, 1)),
    ("widest_bottleneck", by_trying),
    ("output_padding", missing_pixels),
    ("make_inception", Functional),
    ("transposed_convolution", with_zeros),
    ("dense_to_convolution", convolution()),
]
