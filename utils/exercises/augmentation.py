"""Exercises of notebook 06, augmentation and regularisation."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from utils import datasets
from utils.exercises import share_right
from utils.lessons import Exercise
from utils.training import fit

# ---- 1. a coin for each ----------------------------------------------------------------------------------------------


def random_flip(images, p):
    chosen = torch.rand(len(images)) < p
    return torch.where(chosen[:, None, None, None], images.flip(-1), images)


def _check_random_flip(random_flip):
    images = torch.arange(2000 * 3 * 2 * 5.0).view(2000, 3, 2, 5)
    before = images.clone()
    result = random_flip(images, 0.3)
    assert torch.equal(images, before), (
        "Your function changes the batch that it was given. Make a new one (torch.where, or clone first)."
    )
    assert isinstance(result, torch.Tensor) and result.shape == images.shape, (
        f"Expected a batch of the same shape, {tuple(images.shape)}; "
        f"{tuple(result.shape) if isinstance(result, torch.Tensor) else type(result).__name__} came."
    )
    same = (result == images).flatten(1).all(1)
    flipped = (result == images.flip(-1)).flatten(1).all(1)
    upside_down = (result == images.flip(-2)).flatten(1).all(1)
    assert not upside_down.any(), (
        "Some pictures are upside down. Left and right are the last dimension, the width: flip(-1)."
    )
    assert (same | flipped).all(), (
        f"{int((~(same | flipped)).sum())} of 2,000 pictures are neither as they were nor flipped as a whole. "
        "One coin for a picture: "
        "shape the coins as (N, 1, 1, 1), so that they meet the pictures and not their pixels."
    )
    share = flipped.float().mean().item()
    assert 0 < share < 1, (
        f"With p = 0.3 {'all' if share else 'none'} of the pictures were flipped: that is one coin for the batch. "
        "Toss len(images) coins."
    )
    assert abs(share - 0.3) < 0.06, (
        f"With p = 0.3 you flipped {share:.0%} of 2,000 pictures. torch.rand gives numbers below p with probability p."
    )
    assert torch.equal(random_flip(images[:50], 0.0), images[:50]), "With p = 0 no picture may be flipped."
    assert torch.equal(random_flip(images[:50], 1.0), images[:50].flip(-1)), "With p = 1 every picture must be flipped."
    return f"{share:.0%} of 2,000 pictures, each by its own coin, and no loop."


random_flip = Exercise(
    "A coin for each picture",
    test=_check_random_flip,
    hints=(
        "torch.rand(len(images)) < p tosses all coins at once.",
        "images.flip(-1) is the whole batch flipped. torch.where(condition, a, b) takes from a where the condition is "
        "true, else from b.",
        "The condition must meet the pictures: chosen[:, None, None, None] has the shape (N, 1, 1, 1).",
    ),
    reference=random_flip,
)

# ---- 2. the box moves along ------------------------------------------------------------------------------------------


def flip_all(image, mask, box):
    width = image.shape[-1]
    x1, y1, x2, y2 = box
    return image.flip(-1), mask.flip(-1), torch.stack([width - x2, y1, width - x1, y2])


def _check_flip_all(flip_all):
    image = torch.arange(3 * 6 * 10.0).view(3, 6, 10)
    mask = torch.zeros(6, 10, dtype=torch.bool)
    mask[1:3, 2:5] = True
    box = torch.tensor([2.0, 1.0, 5.0, 3.0])
    result = flip_all(image.clone(), mask.clone(), box.clone())
    assert isinstance(result, (tuple, list)) and len(result) == 3, (
        f"Expected three things, picture, mask and box; {type(result).__name__} came."
    )
    new_image, new_mask, new_box = result
    assert not torch.equal(new_image, image.flip(-2)), (
        "The picture is upside down. Left and right are the last dimension."
    )
    assert torch.equal(new_image, image.flip(-1)), "The picture is not flipped left to right: image.flip(-1)."
    assert not torch.equal(new_mask, mask), "The mask stayed behind. It must be flipped just as the picture."
    assert torch.equal(new_mask, mask.flip(-1)), "The mask is not flipped left to right: mask.flip(-1)."
    new_box = torch.as_tensor(new_box, dtype=torch.float32)
    assert new_box.shape == (4,), f"Expected a box of four numbers; the shape {tuple(new_box.shape)} came."
    found, wanted = new_box.tolist(), [5.0, 1.0, 8.0, 3.0]
    about = f"The box {box.tolist()} of a picture 10 pixels wide became {found}; expected {wanted}."
    assert found != box.tolist(), f"{about} It stayed behind."
    assert found != [8.0, 1.0, 5.0, 3.0], (
        f"{about} Its left edge is right of its right edge: x1 and x2 change places too."
    )
    assert found != [4.0, 1.0, 7.0, 3.0], f"{about} Edges lie between pixels: x goes to W - x, not to W - 1 - x."
    assert found[1::2] == [1.0, 3.0], f"{about} A flip left to right leaves y as it is."
    assert found == wanted, f"{about} The new left edge is W minus the old right edge."
    return "Picture, mask and box agree again."


flip_all = Exercise(
    "The box moves along",
    test=_check_flip_all,
    hints=(
        "Draw it: a box from 2 to 5 in a picture 10 pixels wide. Where are its edges after the flip?",
        "x goes to W - x. What was the left edge is the right one afterwards.",
        "torch.stack([width - x2, y1, width - x1, y2])",
    ),
    reference=flip_all,
)

# ---- 3. MixUp --------------------------------------------------------------------------------------------------------


def mix_up(images, labels, order, share, num_classes):
    targets = F.one_hot(labels, num_classes).float()
    return share * images + (1 - share) * images[order], share * targets + (1 - share) * targets[order]


def _check_mix_up(mix_up):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(6, 3, 4, 4, generator=generator)
    labels, order, share = torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([1, 2, 3, 4, 5, 0]), 0.7
    result = mix_up(images.clone(), labels.clone(), order.clone(), share, 4)
    assert isinstance(result, (tuple, list)) and len(result) == 2, (
        f"Expected pictures and labels; {type(result).__name__} came."
    )
    mixed, targets = result
    assert mixed.shape == images.shape, f"Expected pictures of shape {tuple(images.shape)}; {tuple(mixed.shape)} came."
    assert targets.shape == (6, 4), (
        f"Expected labels as probabilities, (6, 4); {tuple(targets.shape)} came. "
        "F.one_hot(labels, num_classes) makes them of class numbers."
    )

    def pictures(first, partner):
        return torch.allclose(mixed, first * images + partner * images[order], atol=1e-5)

    assert not pictures(0.3, 0.7), "share is what remains of the first picture; you gave it to the partner."
    assert not pictures(0.7, 0.7) and not pictures(1, 0.3), "The two shares must sum to 1: share and 1 - share."
    back = order.argsort()
    assert not torch.allclose(mixed, 0.7 * images + 0.3 * images[back], atol=1e-5), (
        "The partners are the wrong way round: the partner of picture i is images[order][i]."
    )
    assert pictures(0.7, 0.3), "The pictures are not share * images + (1 - share) * images[order]."
    one_hot = F.one_hot(labels, 4).float()
    assert not torch.allclose(targets.float(), one_hot), "The pictures are mixed and the labels are not."
    assert torch.allclose(targets.float().sum(1), torch.ones(6), atol=1e-5), (
        f"The probabilities of a label must sum to 1; yours sum to {targets.float().sum(1)[0]:.2f}."
    )
    assert torch.allclose(targets.float(), 0.7 * one_hot + 0.3 * one_hot[order], atol=1e-5), (
        "The labels are not mixed in the same shares, with the same partners, as the pictures."
    )
    return "Pictures and labels are mixed alike; F.cross_entropy takes such labels as they are."


mix_up = Exercise(
    "MixUp",
    test=_check_mix_up,
    hints=(
        "images[order] is the batch of partners.",
        "Make the class numbers into rows of 0 and 1 first: F.one_hot(labels, num_classes).float().",
        "Then both are mixed by the same formula: share * a + (1 - share) * a[order].",
    ),
    reference=mix_up,
)

# ---- 4. dropout ------------------------------------------------------------------------------------------------------


def dropout_by_hand(x, p, training):
    if not training:
        return x
    kept = torch.rand_like(x) >= p
    return x * kept / (1 - p)


def _check_dropout(dropout):
    x = torch.rand(400, 100, generator=torch.Generator().manual_seed(0)) + 1
    before = x.clone()
    in_use = dropout(x, 0.2, False)
    assert torch.equal(in_use, before), (
        "When not training, all numbers stay as they are: no zeros, "
        "and no factor either (the factor is applied in training)."
    )
    result = dropout(x, 0.2, True)
    assert torch.equal(x, before), "Your function changes the tensor that it was given. Make a new one."
    assert result.shape == x.shape, f"Expected the shape {tuple(x.shape)}; {tuple(result.shape)} came."
    off = result == 0
    share = off.float().mean().item()
    assert share > 0, "In training no number was turned off."
    assert not (abs(share - 0.8) < 0.02), "With p = 0.2 you turned off 80 %: p is the probability of being turned OFF."
    assert not (off.all(0) | (~off).all(0)).all(), (
        "Whole columns are on or off together. Every number has its own coin: torch.rand_like(x)."
    )
    assert abs(share - 0.2) < 0.02, f"With p = 0.2 you turned off {share:.0%} of the numbers."
    factor = (result[~off] / x[~off]).mean().item()
    assert abs(factor - 1) > 1e-3, (
        "The numbers that stay on are as they were, so the mean has fallen by a fifth. Multiply them by 1 / (1 - p)."
    )
    assert abs(factor - 5) > 1e-3, "You divide by p. Divide by the share that stays on, 1 - p."
    assert abs(factor - 0.8) > 1e-3, "You multiply by 1 - p. Divide by it: fewer numbers have to make the same sum."
    assert torch.allclose(result[~off], x[~off] / 0.8), (
        f"What stays on is multiplied by {factor:.3f}; expected 1 / (1 - p) = 1.25."
    )
    assert not torch.equal(off, dropout(x, 0.2, True) == 0), (
        "Two calls turned off the same numbers. Draw anew each time."
    )
    return f"{share:.0%} are off, and the mean is {result.mean() / x.mean():.2f} of what it was."


dropout_by_hand = Exercise(
    "Dropout by hand",
    test=_check_dropout,
    hints=(
        "torch.rand_like(x) >= p is true with probability 1 - p, for each number by itself.",
        "Multiply x by that, and divide by what keeps the mean.",
        "x * kept / (1 - p) in training, x otherwise.",
    ),
    reference=dropout_by_hand,
)

# ---- 5. the elastic net ----------------------------------------------------------------------------------------------


def elastic_net(model, l1, l2):
    layers = [layer for layer in model.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    return sum(l1 * layer.weight.abs().sum() + l2 * layer.weight.square().sum() for layer in layers)


def _check_elastic_net(elastic_net):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))
    weights = [model[0].weight, model[3].weight]
    absolute, squares = sum(w.abs().sum() for w in weights), sum(w.square().sum() for w in weights)
    price = elastic_net(model, 0.5, 2.0)
    assert isinstance(price, torch.Tensor) and price.ndim == 0, (
        "Expected one number as a tensor; "
        f"{f'shape {tuple(price.shape)}' if isinstance(price, torch.Tensor) else type(price).__name__} came. "
        "(.item() and float() cut it off from backward.)"
    )
    assert price.requires_grad, "The price has no gradient, so it cannot change the weights. No detach, no no_grad."

    def is_(value):
        return torch.isclose(price, torch.as_tensor(value).detach(), rtol=1e-4)

    everything = list(model.parameters())
    assert not is_(sum(0.5 * w.abs().sum() + 2 * w.square().sum() for w in everything)), (
        "You price all parameters. Biases and the scales of batch norm go free."
    )
    no_bias = [p for name, p in model.named_parameters() if "bias" not in name]
    assert not is_(sum(0.5 * w.abs().sum() + 2 * w.square().sum() for w in no_bias)), (
        "The scales of batch norm are called `weight` too, and go free: "
        "look at the kind of layer, or at the number of dimensions."
    )
    assert not is_(0.5 * squares + 2 * absolute), (
        "l1 and l2 have changed places: l1 is the price of |w|, l2 of its square."
    )
    assert not is_(0.5 * absolute + 2 * sum(w.norm() for w in weights)), (
        "For L2 sum the squares; norm() is the root of that."
    )
    assert not is_(0.5 * sum(w.abs().mean() for w in weights) + 2 * sum(w.square().mean() for w in weights)), (
        "Expected sums over all weights, not means."
    )
    assert not is_(0.5 * sum(w.sum() for w in weights) + 2 * squares), (
        "Without abs(), negative weights would be paid for."
    )
    assert is_(0.5 * absolute + 2 * squares), (
        f"The price is {price.item():.3f}; expected {(0.5 * absolute + 2 * squares).item():.3f}."
    )
    return "With l2 = 0 it is L1 (lasso), with l1 = 0 it is L2 (ridge)."


elastic_net = Exercise(
    "The elastic net",
    test=_check_elastic_net,
    hints=(
        "model.modules() gives every layer; isinstance(layer, (nn.Linear, nn.Conv2d)) tells those whose "
        "weights have a price.",
        "For one weight tensor: l1 * weight.abs().sum() + l2 * weight.square().sum(). Sum over all layers.",
    ),
    reference=elastic_net,
)

# ---- 6. early stopping -----------------------------------------------------------------------------------------------


def early_stopping(losses, patience):
    best = 0
    for epoch, loss in enumerate(losses):
        if loss < losses[best]:
            best = epoch
        if epoch - best >= patience:
            return best, epoch
    return best, len(losses) - 1


def _check_early_stopping(early_stopping):
    cases = (  # losses, patience, best, last
        ([5.0, 4.0, 3.0, 3.5, 3.2, 3.1, 3.3, 1.0], 3, 2, 5),
        ([5.0, 4.0, 4.5, 3.0, 3.5, 2.0, 2.5], 3, 5, 6),
        ([3.0, 4.0, 5.0, 2.0], 2, 0, 2),
        ([3.0, 2.0, 1.0], 5, 2, 2),
        ([2.0, 2.0, 2.0, 1.0], 2, 0, 2),
    )
    for losses, patience, best, last in cases:
        result = early_stopping(list(losses), patience)
        assert isinstance(result, (tuple, list)) and len(result) == 2, (
            f"Expected two numbers, the best epoch and the last one; {result!r} came."
        )
        found = tuple(result)
        about = f"With the losses {losses} and patience {patience}: expected {(best, last)}, {found} came."
        whole = losses.index(min(losses))
        assert found[0] == best or found[0] != whole, (
            f"{about} Epoch {whole} has the lowest loss of all, but training has stopped before it: "
            "nobody ever sees it."
        )
        assert found != (best + 1, last + 1), f"{about} Epochs count from 0."
        assert not (found[0] == best and found[1] == last + 1), (
            f"{about} You wait one epoch too long: stop when `patience` epochs in a row brought nothing."
        )
        assert not (found[0] == best and found[1] < last), (
            f"{about} You stop too early. A new lowest loss starts the count anew; a rise alone does not end it."
        )
        assert found == (best, last), f"{about} Keep the best epoch so far, and compare each loss with its loss."
    return "This is what fit(patience=...) does, and then it takes the weights of the best epoch."


early_stopping = Exercise(
    "Early stopping",
    test=_check_early_stopping,
    hints=(
        "Keep one number: the best epoch so far.",
        "In each epoch: a lower loss makes it the best; then look at how long ago the best one was.",
        "if epoch - best >= patience: return best, epoch. After the loop, the last epoch is len(losses) - 1.",
    ),
    reference=early_stopping,
)

# ---- lab -------------------------------------------------------------------------------------------------------------

LAB_PASSES, LAB_GOOD = 0.84, 0.88  # shares of right answers


@cache
def make_classifier():
    train_set = datasets.critters(["cat", "dog"], num_train=600, num_val=200, num_test=1000).train.subset(200)
    scale = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean=[0.5] * 3, std=[0.25] * 3)])

    def block(i, o):
        return nn.Sequential(nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(), nn.MaxPool2d(2))

    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 2)]
    model = nn.Sequential(block(3, 16), block(16, 32), block(32, 64), block(64, 64), *head)
    shifted = v2.RandomCrop(64, padding=6, padding_mode="reflect")
    varied = train_set.with_transform(v2.Compose([v2.RandomHorizontalFlip(), shifted, scale]))
    loader, epochs = DataLoader(varied, batch_size=32, shuffle=True), 60
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=epochs * len(loader))
    fit(model, loader, num_epochs=epochs, optimizer=optimizer, scheduler=scheduler, bf16=False)

    @torch.no_grad()
    def classify(images):
        images = scale(images)
        return (model.eval()(images) + model(images.flip(-1))).argmax(dim=1)

    return classify


def _check_lab(classify):
    test_set = datasets.critters(["cat", "dog"], num_train=600, num_val=200, num_test=1000).test
    share, score = share_right(classify, test_set)
    assert share >= LAB_PASSES, (
        f"{score}; guessing gives 50 %, no augmentation some 80 %, and {LAB_PASSES:.0%} passes. "
        "Flip first; then vary more, and train longer."
    )
    verdict = "good" if share >= LAB_GOOD else f"a pass; {LAB_GOOD:.0%} is good"
    return f"{score}: {verdict}."


lab = Exercise(
    "Lab: best accuracy from 200 pictures",
    test=_check_lab,
    hints=(
        "The moderate recipe with two or three times the epochs; "
        "look at the training accuracy to see which of the two is missing.",
        "Pictures of half the side train four times as fast. Is the accuracy the same? "
        "Then use the time for more epochs.",
        "In classify, average the outputs for a picture and for its mirror image.",
    ),
    reference=make_classifier,
    computed=True,
)
