"""Wrong answers to the exercises of notebook 03: (exercise, answer, a piece of the message that fits the mistake)."""

import torch
import torch.nn.functional as F
from torch import nn

from utils.exercises import convolutions as right


def conv(c_in, c_out, kernel, padding=None, bias=True):
    layer = nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2 if padding is None else padding, bias=bias)
    return nn.Sequential(layer, nn.ReLU())


def inception(third=None, pool_stride=1, join=1, order=(0, 1, 2, 3), second_padding=None, last=None):
    """make_inception with one thing changed."""

    class Module(nn.Module):
        def __init__(self, c_in, c1, r3, c3, r5, c5, cp):
            super().__init__()
            self.branches = nn.ModuleList(
                [
                    conv(c_in, c1, 1),
                    nn.Sequential(conv(c_in, r3, 1), conv(r3, c3, 3, second_padding)),
                    third(c_in, r5, c5)
                    if third
                    else nn.Sequential(conv(c_in, r5, 1), conv(r5, c5, 3), conv(c5, c5, 3)),
                    nn.Sequential(nn.MaxPool2d(3, pool_stride, 1), (last or conv)(c_in, cp, 1)),
                ]
            )

        def forward(self, x):
            return torch.cat([self.branches[i](x) for i in order], dim=join)

    return Module


def five(c_in, r5, c5):
    return nn.Sequential(conv(c_in, r5, 1), conv(r5, c5, 5))


def single(c_in, r5, c5):
    return nn.Sequential(conv(c_in, r5, 1), conv(r5, c5, 3))


def narrow(c_in, r5, c5):
    return nn.Sequential(conv(c_in, r5, 1), conv(r5, r5, 3), conv(r5, c5, 3))


def stamped(x, weight, stride, padding):
    result = right._stamped_over(x, weight, stride)
    return result[:, padding : result.shape[1] - padding, padding : result.shape[2] - padding]


def turned(x, weight, stride, padding):
    return F.conv_transpose2d(x[None], weight.flip(2, 3), stride=stride, padding=padding)[0]


def uncut(x, weight, stride, padding):
    return F.conv_transpose2d(x[None], weight, stride=stride)[0]


def one_channel(x, weight, stride, padding):
    return F.conv_transpose2d(x[None], weight, stride=stride, padding=padding)[0].sum(0)


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


WRONG = [
    ("same_padding", lambda kernel, dilation: (kernel - 1) // 2, "Does your formula use the dilation"),
    ("same_padding", lambda kernel, dilation: dilation * (kernel - 1), "What is lost at both rims"),
    ("same_padding", lambda kernel, dilation: dilation * (kernel - 1) / 2, "Expected an integer"),
    ("same_padding", lambda kernel, dilation: "same", "Expected an integer"),
    ("make_inception", lambda *numbers: 5, "Expected an nn.Module"),
    ("make_inception", inception(third=five), "still a 5 x 5"),
    ("make_inception", inception(third=single), "should be the third branch and see 5 x 5 pixels; they see 3 x 3"),
    ("make_inception", inception(third=narrow), "go from 3 to 7"),
    ("make_inception", inception(order=(1, 0, 2, 3)), "Is the order 1x1, 3x3"),
    ("make_inception", inception(order=(0, 1, 2)), "The result has 17 channels; expected"),
    ("make_inception", inception(last=lambda i, o, k: nn.Conv2d(i, o, k)), "a ReLU belongs after every"),
    ("make_inception", inception(last=lambda i, o, k: conv(i, o, k, bias=False)), "have a bias"),
    ("transposed_convolution", stamped, "+=, not ="),
    ("transposed_convolution", turned, "turned by 180 degrees"),
    ("transposed_convolution", uncut, "Cut 1 pixel(s) off each rim"),
    ("transposed_convolution", one_channel, "Expected (c_out, H', W')"),
    ("transposed_convolution", cut_once, "The side is (n - 1)s + k - 2p"),
    ("transposed_convolution", lambda *arguments: [], "a list came"),
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
