"""Exercises of notebook 04, U-Net."""

import secrets
from collections.abc import Iterator
from numbers import Real

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from utils import critters, datasets, models
from utils.exercises import came, tensor, whole
from utils.lessons import Exercise


def _came(value) -> str:
    """What came, for a message: a tensor's shape, else the type."""
    return f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"


# ---- 1. Dice ---------------------------------------------------------------------------------------------------------


def dice(answers, masks):
    intersection = (answers & masks).sum(dim=(1, 2))
    total = answers.sum(dim=(1, 2)) + masks.sum(dim=(1, 2))
    return torch.where(total > 0, 2 * intersection / total, 1.0)


def _check_dice(dice):
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(5, 6, 8, generator=generator) < torch.tensor([0.1, 0.3, 0.5, 0.8, 0.0])[:, None, None]
    answers = masks ^ (torch.rand(5, 6, 8, generator=generator) < 0.2)
    answers[4] = False
    result, expected = dice(answers.clone(), masks.clone()), _dice(answers, masks)
    result = tensor(result, "one number for each picture, a tensor")
    assert result.shape == (5,), f"5 pictures came; expected 5 numbers, one for each; {_came(result)} came."
    result = result.float()
    assert not torch.isnan(result).any(), (
        "One number is NaN: in one picture there is nothing and nothing was found, and 0 / 0 came out. It counts as 1."
    )
    assert torch.isclose(result[4], torch.tensor(1.0)), (
        f"Nothing there and nothing found counts as 1; {result[4]:.2f} came."
    )
    mistakes = {
        "This is the IoU. Dice is 2 |A and M| / (|A| + |M|).": expected / (2 - expected),
        "Half of what it should be: where is the 2?": expected / 2,
        "This is the pixel accuracy.": (answers == masks).float().mean(dim=(1, 2)),
        "Divided by |A| alone, this is the precision. The denominator is |A| + |M|.": _part(answers, masks, answers),
        "Divided by |M| alone, this is the recall. The denominator is |A| + |M|.": _part(answers, masks, masks),
    }
    for message, mistake in mistakes.items():
        assert not torch.allclose(result[:4], mistake[:4], atol=1e-4), message
    assert torch.allclose(result, expected, atol=1e-4), (
        f"Expected {_rounded(expected)}; {_rounded(result)} came. Sum over the pixels of each picture, dim=(1, 2)."
    )
    return "Also called the F1 score: the harmonic mean of precision and recall."


def _part(answers, masks, of):
    return (answers & masks).sum(dim=(1, 2)) / of.sum(dim=(1, 2))


def _rounded(values) -> list[float]:
    return [round(value, 3) for value in values.tolist()]


_dice = dice
dice = Exercise(
    "Dice",
    test=_check_dice,
    hints=(
        "answers & masks is true where both are. Its sum over dim=(1, 2) is one number for each picture.",
        "torch.where(total > 0, 2 * intersection / total, 1.0) takes care of the empty pictures.",
    ),
    reference=dice,
)

# ---- 2. the way up ---------------------------------------------------------------------------------------------------


def way_up(x, skip, up, convolutions):
    x = up(x)
    x = F.pad(x, (0, skip.shape[3] - x.shape[3], 0, skip.shape[2] - x.shape[2]))
    return convolutions(torch.cat([skip, x], dim=1))


def _check_way_up(way_up):
    torch.manual_seed(0)
    up = nn.ConvTranspose2d(4, 3, kernel_size=2, stride=2)
    seen = []

    def convolutions(x):
        assert isinstance(x, torch.Tensor), f"The convolutions got {came(x)}; they take one tensor: torch.cat."
        seen.append(x)
        return 2 * x

    for height, width in ((10, 12), (11, 12), (10, 13), (11, 13)):  # even sides, then odd ones
        x, skip = torch.randn(2, 4, height // 2, width // 2), torch.randn(2, 3, height, width)
        with torch.no_grad():
            result, risen = way_up(x.clone(), skip.clone(), up, convolutions), up(x)
        assert seen, "The convolutions were not used. They come last, on both maps together."
        assert not seen[-1].shape[1] == 3, (
            "The convolutions got 3 channels. Skip and map are put one behind the other, not added: "
            "torch.cat(..., dim=1) gives 6."
        )
        assert seen[-1].shape == (2, 6, height, width), (
            f"With a skip of {height} x {width}, the convolutions got the shape {tuple(seen[-1].shape)}; "
            f"expected {(2, 6, height, width)}. "
            "Where a side is odd, the map that comes up is filled up to the skip's size, and the skip stays whole."
        )
        assert isinstance(result, torch.Tensor) and torch.equal(result, 2 * seen[-1]), (
            "Return what the convolutions give for both maps."
        )
        first, second = seen[-1][:, :3], seen[-1][:, 3:]
        assert not torch.equal(second, skip), "The other way round: the skip comes first, then what comes up."
        assert torch.equal(first, skip), "The first channels are not the skip as it came."
        there = second[:, :, : risen.shape[2], : risen.shape[3]]
        assert torch.allclose(there, risen, atol=1e-5), (
            "What comes up is not at its place. Fill up at the end (right and below), with zeros: "
            "F.pad(x, (0, right, 0, below)), not by stretching."
        )
        rest = second.sum() - there.sum()
        assert abs(rest.item()) < 1e-4, "Fill up with zeros."
    return "This is a decoder stage, whole."


way_up = Exercise(
    "The way up",
    test=_check_way_up,
    hints=(
        "Four steps: up, fill up to the size of the skip, concatenate along the channels "
        "(the skip first), convolutions.",
        "F.pad(x, (left, right, above, below)): here left and above are 0, and right is skip.shape[3] - x.shape[3].",
        "return convolutions(torch.cat([skip, x], dim=1))",
    ),
    reference=way_up,
)

# ---- 3. choose the threshold -----------------------------------------------------------------------------------------


def best_threshold(probabilities, masks, levels):
    def mean_iou(level):
        answers = probabilities > level
        return ((answers & masks).sum((1, 2)) / (answers | masks).sum((1, 2))).mean()

    return max(levels, key=mean_iou)


def _check_best_threshold(best_threshold):
    levels = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    found = []
    for seed, shift in (
        (0, -0.9),
        (1, 0.6),
        (2, -0.1),
    ):  # a network that is too careful, one that is too bold, and one in between
        generator = torch.Generator().manual_seed(seed)
        y, x = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
        radius = torch.linspace(3, 9, 12)[:, None, None]
        distance = radius - ((y - 12) ** 2 + (x - 12) ** 2).sqrt()
        masks = distance > 0
        noise = torch.randn(masks.shape, generator=generator)
        timid = 1.0 * (
            radius < 5
        )  # of small things the network is less sure, which a measure over all pixels hardly notices
        probabilities = torch.sigmoid(0.9 * distance + noise + 2.5 * shift - timid)
        best = _best_threshold(probabilities, masks, levels)
        level = best_threshold(probabilities.clone(), masks.clone(), list(levels))
        found.append((level, best, probabilities, masks))
    for level, best, probabilities, masks in found:
        level = level.item() if isinstance(level, np.ndarray) and level.size == 1 else level
        assert isinstance(level, Real) or (isinstance(level, torch.Tensor) and level.numel() == 1), (
            f"Expected one of the levels, a number; {_came(level)} came."
        )
        ious = [_mean_iou(probabilities > value, masks) for value in levels]
        close = [abs(float(level) - value) < 1e-6 for value in levels]
        assert any(close) or float(level) not in range(len(levels)), (
            f"{level} is the place of a level in the list. Return the level itself."
        )
        assert any(close) or not abs(float(level) - max(ious)) <= 1e-3, (
            f"{float(level):.3f} is the IoU at the best threshold. Return the threshold."
        )
        assert any(close), f"{float(level):.3f} came, which is none of the levels."
        assert abs(float(level) - best) < 1e-6, (
            f"{float(level):g} came, with a mean IoU of {ious[close.index(True)]:.3f}; "
            f"at {best:g} it is {max(ious):.3f}. "
            "Take the level whose mean IoU over the pictures is highest (not the accuracy, and not always 0.5)."
        )
    return "Chosen on validation pictures, it costs nothing and can be worth more than another epoch."


def _mean_iou(answers, masks):
    return ((answers & masks).sum((1, 2)) / (answers | masks).sum((1, 2))).mean().item()


_best_threshold = best_threshold
best_threshold = Exercise(
    "Choose the threshold",
    test=_check_best_threshold,
    hints=(
        "For each level: answers = probabilities > level, the IoU of every picture, and their mean. "
        "The notebook's iou does most of it.",
        "Keep the level with the highest mean. max(levels, key=function) does that in one line.",
    ),
    reference=best_threshold,
)

# ---- 4. outside and inside apart -------------------------------------------------------------------------------------


def wrong_outside_and_inside(answers, masks):
    wrong = answers != masks
    return wrong[~masks].float().mean(), wrong[masks].float().mean()


def _check_wrong_outside_and_inside(function):
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(4, 9, 9, generator=generator) < torch.tensor([0.1, 0.2, 0.3, 0.4])[:, None, None]
    chance = torch.tensor([0.1, 0.3])[masks.long()] + torch.tensor([0.0, 0.1, 0.2, 0.3])[:, None, None]
    answers = masks ^ (torch.rand(4, 9, 9, generator=generator) < chance)
    result = function(answers.clone(), masks.clone())
    result = list(result) if isinstance(result, tuple | list | Iterator) else [result]
    numbers = [tensor(value, "two shares, (outside, inside)").double() for value in result]
    numbers = numbers[0].unbind() if len(numbers) == 1 and numbers[0].ndim else numbers
    assert [number.numel() for number in numbers] == [1, 1], (
        "Expected two shares, (outside, inside), each one number over all pictures together; "
        f"shapes {[tuple(number.shape) for number in numbers]} came."
    )
    found = torch.stack([number.squeeze() for number in numbers])
    wrong = answers != masks
    outside, inside = (answers & ~masks).sum(), (masks & ~answers).sum()
    expected = torch.stack([outside / (~masks).sum(), inside / masks.sum()]).double()
    pairs = list(zip(wrong.double(), masks, strict=True))
    by_picture = torch.tensor([[w[side ^ m].mean() for w, m in pairs] for side in (True, False)])
    mistakes = {
        "The other way round: first outside the masks, then inside.": expected.flip(0),
        "These are the shares that are right. How many are wrong?": 1 - expected,
        "Both are divided by the number of all pixels. Divide each by the pixels of its own side.": torch.stack(
            [outside, inside]
        ).double()
        / masks.numel(),
        "You take the mean over pictures. Here all pixels of all pictures are counted together.": by_picture.mean(
            1
        ).double(),
        "You divide by what was *answered*. The sides are those of the masks.": torch.stack(
            [inside / (~answers).sum(), outside / answers.sum()]
        ).double(),
    }
    for message, mistake in mistakes.items():
        assert not torch.allclose(found, mistake, atol=1e-4), message
    assert torch.allclose(found, expected, atol=1e-4), (
        f"Expected {_rounded(expected)}; {_rounded(found)} came. wrong[~masks] holds the pixels outside."
    )
    return "One mean over both would hide that they differ: there are more pixels outside."


wrong_outside_and_inside = Exercise(
    "Outside and inside apart",
    test=_check_wrong_outside_and_inside,
    hints=(
        "answers != masks is true where a pixel is wrong. Indexing with a mask, wrong[masks], gives the pixels inside.",
        "(answers != masks)[~masks].float().mean() is the first of the two.",
    ),
    reference=wrong_outside_and_inside,
)

# ---- 5. Dice for several classes -------------------------------------------------------------------------------------


def dice_by_class(answers, labels, num_classes):
    result = torch.ones(num_classes)
    for k in range(num_classes):
        a, m = answers == k, labels == k
        if a.any() or m.any():
            result[k] = 2 * (a & m).sum() / (a.sum() + m.sum())
    return result


def _check_dice_by_class(dice_by_class):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (4, 9, 9), generator=generator)
    labels[labels == 2] *= (torch.rand(labels[labels == 2].shape, generator=generator) < 0.3).long()  # class 2 is rare
    answers = torch.where(torch.rand(4, 9, 9, generator=generator) < 0.7, labels, labels.roll(1, 2))
    result, expected = dice_by_class(answers.clone(), labels.clone(), 4), _dice_by_class(answers, labels, 4)
    assert isinstance(result, torch.Tensor) and result.shape == (4,), (
        f"Expected one number a class, a tensor of shape (4,); {_came(result)} came."
    )
    result = result.float()
    assert not torch.isnan(result).any(), (
        "A number is NaN: no pixel has class 3, neither in the answers nor in the labels, and 0 / 0 came out. "
        "Nothing there and nothing found counts as 1."
    )
    assert result[3] == 1, (
        f"Class 3 is nowhere and nobody said so: that is right, and counts as 1; {result[3]:.2f} came."
    )
    overlap = expected[:3] / (2 - expected[:3])
    assert not torch.allclose(result[:3], overlap, atol=1e-4), (
        "This is the IoU of each class. Dice is 2 |A and M| / (|A| + |M|)."
    )
    assert not torch.allclose(result[:3], expected[:3] / 2, atol=1e-4), (
        "Every number is half of what it should be: where is the 2?"
    )
    recall = torch.stack([(answers[labels == k] == k).float().mean() for k in range(3)])
    assert not torch.allclose(result[:3], recall, atol=1e-4), (
        "This is the share of each class's pixels that is found, its recall. "
        "Dice also punishes pixels that were called so and are not."
    )
    accuracy = torch.stack([((answers == k) == (labels == k)).float().mean() for k in range(3)])
    assert not torch.allclose(result[:3], accuracy, atol=1e-4), (
        "This is the pixel accuracy of each class against all others."
    )
    by_picture = torch.stack([_dice_by_class(a[None], m[None], 3) for a, m in zip(answers, labels, strict=True)]).mean(
        0
    )
    assert not torch.allclose(result[:3], by_picture, atol=1e-4), (
        "You take the mean over pictures. Here all pictures are counted together: sum over them first, then divide."
    )
    assert torch.allclose(result, expected, atol=1e-4), (
        f"Expected {_rounded(expected)}; {_rounded(result)} came. For class k, A is answers == k, and M is labels == k."
    )
    missing = torch.zeros(2, 3, 5, dtype=torch.long)
    found = missing.clone()
    found[0, 0] = 1
    result, right = dice_by_class(found.clone(), missing.clone(), 2), _dice_by_class(found, missing, 2)
    assert isinstance(result, torch.Tensor) and result.shape == (2,), (
        f"Right for 4 classes. For 2, expected a tensor of shape (2,); {_came(result)} came. Is num_classes used?"
    )
    assert torch.allclose(result.float(), right, atol=1e-4), (
        f"A class that is in the answers and not in the labels: expected {_rounded(right)}; {_rounded(result)} came. "
        "Only one that is in neither counts as 1."
    )
    return "Its mean over the classes is a fair number even where one class has hardly any pixels."


_dice_by_class = dice_by_class
dice_by_class = Exercise(
    "Dice for several classes",
    test=_check_dice_by_class,
    hints=(
        "For class k there are two masks: answers == k and labels == k. From there on it is section 1.",
        "2 * (a & m).sum() / (a.sum() + m.sum()), over all pictures at once.",
        "Start from torch.ones(num_classes), and write only into the classes that occur.",
    ),
    reference=dice_by_class,
)

# ---- 6. how wide a margin --------------------------------------------------------------------------------------------


def tile_margin(levels):
    grid = 2 ** (levels - 1)
    reach = 4 * sum(2**k for k in range(levels - 1)) + 2 * grid + grid - 1
    return -(-reach // grid) * grid


def _check_tile_margin(tile_margin):
    for levels in (4, 2, 3, 5):
        margin, grid = whole(tile_margin(levels), "an integer", "// divides without a remainder."), 2 ** (levels - 1)
        right, one_way = _tile_margin(levels), 2 * (grid - 1) + 2 * grid + grid - 1
        reach = 4 * (grid - 1) + 2 * grid + grid - 1
        case = f"For {levels} stages"
        assert margin != reach or margin == right, (
            f"{case} {reach} is the reach. The margin is a multiple of {grid}, so that tiles lie on the grid: round up."
        )
        assert margin != reach // grid * grid or margin == right, (
            f"{case} {margin} is rounded down, and less than the reach of {reach}. Round up."
        )
        assert margin not in (one_way, -(-one_way // grid) * grid), (
            f"{case} {margin} counts the convolutions of one way only. The decoder reaches as far as the encoder."
        )
        assert margin != -(-reach // 8) * 8 or margin == right, (
            f"{case} the maps are halved {levels - 1} times, so the grid is {grid}, not 8."
        )
        assert margin >= reach, (
            f"{case} {margin} is less than the network's reach of {reach}: "
            f"two convolutions a stage, down and up, and whole blocks of {grid}."
        )
        assert margin % grid == 0, f"{case} {margin} is no multiple of {grid}, so tiles would lie off the grid."
        assert margin == right, f"{case} {margin} is enough, and more than is needed: {right}."
    return "It nearly doubles with each stage. Seeing the whole costs that much."


_tile_margin = tile_margin
tile_margin = Exercise(
    "How wide a margin",
    test=_check_tile_margin,
    hints=(
        "Section 8 counts for 4 stages: stages 0 to 2 down, the bottleneck (stage 3), stages 2 to 0 up, "
        "and blocks of 8.",
        "With L stages the bottleneck is stage L - 1, a pixel there is a block of 2**(L - 1), "
        "and reading whole blocks adds 2**(L - 1) - 1.",
        "Rounding up to a multiple of grid: -(-reach // grid) * grid.",
    ),
    reference=tile_margin,
)

# ---- 7. build it yourself --------------------------------------------------------------------------------------------


def two_stage_unet(width):
    def convolutions(in_channels, out_channels):
        layers = []
        for channels in (in_channels, out_channels):
            layers += [
                nn.Conv2d(channels, out_channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(),
            ]
        return nn.Sequential(*layers)

    class TwoStages(nn.Module):
        def __init__(self):
            super().__init__()
            self.top, self.bottom = convolutions(1, width), convolutions(width, 2 * width)
            self.up = nn.ConvTranspose2d(2 * width, width, kernel_size=2, stride=2)
            self.last, self.head = convolutions(2 * width, width), nn.Conv2d(width, 3, kernel_size=1)

        def forward(self, images):
            skip = self.top(images)
            x = self.up(self.bottom(F.max_pool2d(skip, 2)))
            return self.head(self.last(torch.cat([skip, x], dim=1)))

    return TwoStages()


def _look_inside(model, images, width):
    """Raises AssertionError unless each stage gets what it should: both maps joined, and no number below zero where a
    ReLU has been."""
    inputs, risen, hooks = [], [], []
    for part in model.modules():
        if type(part) in (nn.Conv2d, nn.ConvTranspose2d):
            hooks.append(part.register_forward_pre_hook(lambda part, given: inputs.append((part, given[0].clone()))))
        if type(part) is nn.ConvTranspose2d:
            hooks.append(part.register_forward_hook(lambda part, given, result: risen.append(result.clone())))
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    joined = [x for part, x in inputs if type(part) is nn.Conv2d and x.shape[1:] == (2 * width, *images.shape[2:])]
    assert len(joined) == 1 and len(risen) == 1, "The last stage reads the skip and what comes up, at the full size."
    halves = joined[0].split(width, dim=1)
    up = [any(torch.allclose(half, r, atol=1e-6) for r in (risen[0], F.relu(risen[0]))) for half in halves]
    assert any(up), (
        "What the transposed convolution gives does not reach the last stage: "
        "concatenate the skip and what comes up from the bottom."
    )
    assert not all(up), "The last stage gets what comes up twice, and no skip. torch.cat([skip, x], dim=1)."
    skip = halves[up.index(False)]
    assert skip.any(), "In place of the skip there are zeros. It is what the first stage gives, before the pooling."
    blocks = [part for side in (2, 3) for part in skip.unflatten(side, (-1, 2)).split(1, side + 1)]
    assert not all(torch.equal(a, b) for a, b in (blocks[:2], blocks[2:])), (
        "The skip is in blocks of 2 x 2 equal pixels: it has been pooled and enlarged again. It is what the first "
        "stage gives, before the pooling."
    )
    pooled = [F.max_pool2d(skip, 2), F.max_pool2d(F.relu(skip), 2)]
    bottom = [x for part, x in inputs if x.shape[1:] == (width, images.shape[2] // 2, images.shape[3] // 2)]
    assert any(torch.allclose(x, p, atol=1e-6) for x in bottom for p in pooled), (
        "The bottom does not get the skip, made half as large by F.max_pool2d(skip, 2): "
        "the skip is what the first stage gives, before the pooling."
    )
    signed = [part for part, x in inputs if (x < 0).any() and x.shape[1] != 1 and x is not joined[0]]
    assert not signed and not (skip < 0).any(), (
        f"{len(signed) or 'One'} of the layers read numbers below zero: is a ReLU missing? "
        "Behind each 3 x 3 convolution come batch normalisation and ReLU."
    )


def _check_two_stage_unet(two_stage_unet):
    torch.manual_seed(0)
    for width in (4, 6):
        model = two_stage_unet(width)
        assert isinstance(model, nn.Module), f"Expected a network, an nn.Module; {_came(model)} came."
        images = torch.randn(2, 1, 24, 32)
        logits = model(images)
        assert isinstance(logits, torch.Tensor) and logits.shape == (2, 3, 24, 32), (
            f"Grey pictures of shape (2, 1, 24, 32) gave {_came(logits)}; expected (2, 3, 24, 32): "
            "three classes, and the full size."
        )
        kinds = [type(module) for module in model.modules()]
        assert nn.ConvTranspose2d in kinds, "The way up is a transposed convolution, nn.ConvTranspose2d."
        num_convolutions = sum(kind is nn.Conv2d for kind in kinds)
        assert num_convolutions == 7, (
            f"{num_convolutions} convolutions were found; expected 7: three times two, and the head of 1 x 1."
        )
        assert kinds.count(nn.BatchNorm2d) == 6, (
            f"{kinds.count(nn.BatchNorm2d)} batch normalisations were found; "
            "each 3 x 3 convolution has one behind it, so 6."
        )
        count = models.num_parameters(model)
        right = models.num_parameters(models.UNet(3, width, levels=2, in_channels=1))
        without = right - 9 * width * width
        assert count != without, (
            f"{count:,} parameters: as many as without the skip. Is it concatenated? "
            "The last stage reads twice the channels."
        )
        assert count == right, (
            f"{count:,} parameters came; expected {right:,} for width {width}: "
            f"stages of {width} and {2 * width} channels, 3 x 3 convolutions without bias."
        )
        assert not (logits >= 0).all(), (
            "No logit is below zero. The head is the last thing, with no ReLU behind it, and no softmax."
        )
        sums = logits.exp().sum(dim=1)
        assert not torch.allclose(sums, torch.ones_like(sums), atol=1e-4), (
            "The outputs have been through log_softmax. The head is the last thing: the loss does the rest."
        )
        _look_inside(model, images, width)
    return "With more stages in between, written as a loop, it is the network of section 2."


two_stage_unet = Exercise(
    "Build it yourself",
    test=_check_two_stage_unet,
    hints=(
        "Five parts: two convolutions (1 to width), two (width to 2 width), up (2 width to width), "
        "two (2 width to width), head (width to 3).",
        "In forward: skip = self.top(images); x = self.bottom(F.max_pool2d(skip, 2)); x = self.up(x).",
        "Then self.head(self.last(torch.cat([skip, x], dim=1))). The notebook's two_convolutions gives the pairs.",
    ),
    reference=two_stage_unet,
)

# ---- lab -------------------------------------------------------------------------------------------------------------

LAB_GOOD = {"critters": 0.48, "photos": 0.27}  # the mean boundary IoU that counts as good
LAB_VERY_GOOD = {"critters": 0.56, "photos": 0.33}


def train_on_50(few):
    encoder, prepare = models.pretrained(few.source)

    @torch.no_grad()
    def maps(images):  # what the frozen encoder gives before each halving, from the picture itself to the deepest
        found = [prepare(images)]
        x = found[0]
        for layer in encoder.features:
            x = layer(x)
            found = [*found[:-1], x] if x.shape[-1] == found[-1].shape[-1] else [*found, x]
        return found

    class Decoder(nn.Module):
        def __init__(self, widths):
            super().__init__()
            layers = [
                (nn.LazyConv2d(w, 3, padding=1, bias=False), nn.BatchNorm2d(w), nn.ReLU())
                for w in widths
                for _ in range(2)
            ]
            self.stages = nn.ModuleList(
                nn.Sequential(*first, *second) for first, second in zip(layers[::2], layers[1::2], strict=True)
            )
            self.head = nn.LazyConv2d(1, 1)

        def forward(self, maps):
            x = maps[-1]
            for stage, skip in zip(self.stages, maps[-2::-1], strict=True):
                x = stage(torch.cat([skip, F.interpolate(x, size=skip.shape[2:], mode="bilinear")], dim=1))
            return self.head(x)[:, 0]

    masks = few.targets["mask"]
    known = maps(
        torch.cat([few.images, few.images.flip(3)])
    )  # computed once, for the pictures and for their mirror images
    truth = torch.cat([masks, masks.flip(2)]).float()
    decoder = Decoder([64, 48, 32, 24, 16][1 - len(known) :])
    decoder([part[:2] for part in known])  # the lazy layers learn their number of channels
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=4e-3, weight_decay=0.05)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=150)
    for _ in range(150):
        batch = torch.randperm(len(truth))[:16]
        loss = F.binary_cross_entropy_with_logits(decoder([part[batch] for part in known]), truth[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    decoder.eval()

    @torch.no_grad()
    def segment(images):
        return decoder(maps(images)) > 0

    return segment


def _held_out(source: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures to score on, uint8 (N, 3, 64, 64), and their masks: new drawings of which nobody knows the seed, or the
    test photos in another order, each mirrored or not by chance."""
    if source == "critters":
        images, _, masks, _ = critters.draw_many(["cat", "dog"], 200, seed=secrets.randbits(60), size=64)
        return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(masks)
    test_set = datasets.pets(num_train=600, num_val=100, num_test=300, size=64).test
    generator = torch.Generator().manual_seed(secrets.randbits(60))
    order = torch.randperm(len(test_set), generator=generator)
    images, masks = test_set.images[order], test_set.targets["mask"][order]
    mirrored = torch.rand(len(order), generator=generator) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(3), images), torch.where(
        mirrored[:, None, None], masks.flip(2), masks
    )


def _boundary_iou(answers: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    def band(m):
        others = F.pad((~m).float()[:, None], [2] * 4, value=1.0)
        return m & (F.max_pool2d(others, 5, stride=1)[:, 0] > 0)

    a, m = band(answers), band(masks)
    union = (a | m).sum((1, 2))
    return torch.where(union > 0, (a & m).sum((1, 2)) / union, 1.0)


def _check_lab(train_on_50):
    pool = datasets.pets(num_train=600, num_val=100, num_test=300, size=64).train
    few = pool.subset(50)
    few = datasets.ImageDataset(few.images, few.targets, few.classes, few.noun, few.source)  # these 50 and no others
    segment = train_on_50(few)
    assert callable(segment), (
        f"train_on_50 returned {_came(segment)}; expected a function that gets pictures and returns masks."
    )
    images, masks = _held_out(few.source)
    answers = torch.cat([_as_masks(segment(part.clone()), len(part)) for part in images.split(50)])
    score = _boundary_iou(answers, masks).mean().item()
    good, very_good = LAB_GOOD[few.source], LAB_VERY_GOOD[few.source]
    text = f"boundary IoU {score:.3f} on {len(images)} held-out {few.noun}s"
    alone = torch.cat([_as_masks(segment(image[None].clone()), 1) for image in images[:3]])
    changed = (alone != answers[:3]).float().mean().item()
    assert changed < 0.01, (
        f"{text}, but alone a picture gets another answer than among 50 ({changed:.0%} of the pixels differ). "
        "Is the network in training mode? Call model.eval() first."
    )
    assert score >= good, (
        f"{text}; {good:.2f} counts as good. What has the pretrained encoder of section 9? "
        "And is there more to be had by mirroring, longer training, another loss?"
    )
    return f"{text}; {good:.2f} is good, {very_good:.2f} very good."


def _as_masks(answers, num: int) -> torch.Tensor:
    assert isinstance(answers, torch.Tensor) and answers.shape == (num, 64, 64), (
        f"{num} pictures gave {_came(answers)}; expected ({num}, 64, 64), one mask a picture."
    )
    assert answers.dtype == torch.bool, (
        f"The answers are {answers.dtype}; expected bool, True where the animal is. "
        "Cut logits at 0 (logits > 0), probabilities at 0.5."
    )
    return answers.detach().cpu()


lab = Exercise(
    "Lab: the best boundary IoU with 50 masks",
    test=_check_lab,
    hints=(
        "net, _ = trained_pretrained(0, few, num_seen=4800) of section 9 is most of it. "
        "segment then prepares the bytes (prepare), runs the network in evaluation mode, and cuts at 0.",
        "Unfreeze the encoder, with a small learning rate: an optimizer takes parameters in groups, each with its lr.",
        "The mean of the answers for a picture and for its mirror image, mirrored back, is better than either. "
        "So is the mean of several networks.",
    ),
    reference=train_on_50,
)
