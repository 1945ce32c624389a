"""Exercises of notebook 06, augmentation."""

from contextlib import suppress
from functools import cache

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from utils import datasets
from utils.exercises import came as _came
from utils.exercises import not_used, number, pair, share_right, tensor, unseen
from utils.lessons import Exercise
from utils.training import fit

# ---- 1. erase --------------------------------------------------------------------------------------------------------


def erase(image, top, left, side):
    copy = image.clone()
    copy[:, top : top + side, left : left + side] = 127
    return copy


def _check_erase(erase):
    not_used(erase, "v2", "TF", "torchvision", "transforms", "erase", "RandomErasing")
    image = torch.randint(128, 256, (3, 8, 10), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    before = image.clone()
    result = erase(image, 1, 4, 3)
    assert torch.equal(image, before), "Your function changes the picture that it was given. Begin with image.clone()."
    assert isinstance(result, torch.Tensor) and result.shape == image.shape, (
        f"Expected a picture of the same shape, a tensor (3, 8, 10); {_came(result)} came."
    )
    assert result.dtype == image.dtype, f"The picture was of bytes, torch.uint8, and now it is of {result.dtype}."
    changed = result != image
    assert changed.any(), "Nothing is erased. Set the square to 127."
    assert not torch.equal(result, _erased(image, 4, 1, 3)), (
        "Rows and columns have changed places: a picture is (C, H, W), so the row comes first."
    )
    assert not (result[changed] == 0).all(), "The square is black. Grey is 127."
    assert changed.any(1).any(1).all(), (
        "Only some of the three channels are erased. A grey square is grey in all three."
    )
    assert not torch.equal(result, _erased(image, 1, 4, 4)), (
        "The square is a row and a column too large: to top + side."
    )
    assert not torch.equal(result, _erased(image, 1, 4, 2)), (
        "The square is a row and a column too small: a slice does not reach its end, so to top + side."
    )
    grey = result[changed].unique().tolist()
    assert grey == [127], f"The square should be grey, 127 everywhere; {grey} came."
    assert torch.equal(result, _erased(image, 1, 4, 3)), (
        f"Erase rows 1 to 3 and columns 4 to 6; yours changes {int(changed[0].sum())} pixels, and not those 9."
    )
    assert torch.equal(erase(image, 6, 8, 5), _erased(image, 6, 8, 5)), (
        "A square that reaches over the edge is not cut off there."
    )
    return "With a random place and side this is random erasing."


def _erased(image, top, left, side):
    rows, columns = (torch.arange(size) for size in image.shape[1:])
    inside = ((rows >= top) & (rows < top + side))[:, None] & (columns >= left) & (columns < left + side)
    return torch.where(inside, 127, image).to(image.dtype)


erase = Exercise(
    "Erase",
    test=_check_erase,
    hints=(
        "Copy the picture first: image.clone(). Then set a part of the copy.",
        "The part is a slice of rows and a slice of columns, in all channels: copy[:, rows, columns] = 127.",
        "Rows are top : top + side. A slice that extends beyond the edge is cut off automatically.",
    ),
    reference=erase,
)

# ---- 2. a coin for each ----------------------------------------------------------------------------------------------


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
        f"Expected a batch of the same shape, {tuple(images.shape)}; {_came(result)} came."
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
    again = [(random_flip(images, 0.3) != images).flatten(1).any(1) for _ in range(4)]
    assert not all(torch.equal(flipped, other) for other in again), (
        "Two calls flipped the same pictures. Draw anew each time."
    )
    pairs = sum((coins[1:] == coins[:-1]).float().mean().item() for coins in (flipped, *again)) / 5
    assert abs(pairs - 0.58) < 0.06, (  # 0.3 x 0.3 + 0.7 x 0.7 of neighbours are treated alike
        f"{pairs:.0%} of the pictures were treated like their neighbour; with a coin for each it would be 58 %."
    )
    assert len({int(other.sum()) for other in (flipped, *again)}) > 1, (
        f"Five calls flipped exactly {int(flipped.sum())} of 2,000 pictures each. With a coin for each picture the "
        "number varies: compare len(images) random numbers with p."
    )
    assert torch.equal(random_flip(images[:50], 0.0), images[:50]), "With p = 0 no picture may be flipped."
    assert torch.equal(random_flip(images[:50], 1.0), images[:50].flip(-1)), "With p = 1 every picture must be flipped."
    return f"{share:.0%} of 2,000 pictures, each by a coin of its own."


random_flip = Exercise(
    "A coin for each picture",
    test=_check_random_flip,
    hints=(
        "torch.rand(len(images)) < p tosses all coins at once.",
        "images.flip(-1) is the whole batch flipped. torch.where(condition, a, b) takes from a where the condition is "
        "true, else from b.",
        "The condition must line up with the pictures: chosen[:, None, None, None] has the shape (N, 1, 1, 1).",
    ),
    reference=random_flip,
)

# ---- 3. the same number of steps -------------------------------------------------------------------------------------


def epochs_for(num_pictures, num_steps, batch_size):
    batches = -(-num_pictures // batch_size)
    return max(1, round(num_steps / batches))


def _check_epochs_for(epochs_for):
    cases = ((200, 280, 32), (800, 280, 32), (64, 20, 32), (65, 20, 32), (100, 10, 100), (3200, 20, 32), (320, 57, 32))
    for num_pictures, num_steps, batch_size in cases:
        found = epochs_for(num_pictures, num_steps, batch_size)
        with suppress(AssertionError):
            found = number(found)
        batches = -(-num_pictures // batch_size)
        wanted = max(1, round(num_steps / batches))
        about = (
            f"{num_pictures:,} pictures, {num_steps} steps, batches of {batch_size}: {found!r} came. "
            f"An epoch has {batches} batches"
        )
        assert isinstance(found, int | float) and float(found).is_integer(), (
            f"{about}; expected a whole number of epochs."
        )
        assert found != num_steps * batch_size or found == wanted, f"{about}; that is a number of pictures."
        assert found >= 1, f"{about}; one epoch at least."
        floor = max(1, round(num_steps / max(1, num_pictures // batch_size)))
        assert found == wanted or found != floor, f"{about}: the last, smaller one is a step, too. Round up."
        assert found == wanted or found != num_steps // batches, f"{about}; {wanted} epochs come closer to {num_steps}."
        assert found == wanted, f"{about}, so {wanted} epochs make {wanted * batches} steps."
    return "Now ways with different numbers of pictures can be compared."


epochs_for = Exercise(
    "The same number of steps",
    test=_check_epochs_for,
    hints=(
        "How many batches does an epoch have? The last one may be smaller, and is a step like the others: round up.",
        "Then divide the steps by the batches of an epoch, and round to the nearest whole number.",
        "-(-a // b) rounds a / b up. max(1, ...) gives at least one epoch.",
    ),
    reference=epochs_for,
)

# ---- 4. RandAugment --------------------------------------------------------------------------------------------------


def rand_augment(image, transforms, num):
    for k in torch.randperm(len(transforms))[:num]:
        image = transforms[k](image)
    return image


def _check_rand_augment(rand_augment):
    transforms = [lambda image, k=k: 8 * image + k + 1 for k in range(6)]  # each leaves its number behind
    picture = torch.zeros(3, 4, 4, dtype=torch.long)

    def call(num):
        """The numbers of the transforms that were applied, the first of them first."""
        given = list(transforms)
        result = rand_augment(picture.clone(), given, num)
        assert isinstance(result, torch.Tensor) and result.shape == picture.shape, (
            f"Expected what the transforms make of the picture, one after the other; {_came(result)} came. "
            "The result of one is the picture of the next."
        )
        assert len(given) == 6, "The list of transforms has changed. The next picture is to choose among all of them."
        return tuple(int(digit) - 1 for digit in f"{int(result[0, 0, 0]):o}" if digit != "0")

    calls = [call(3) for _ in range(300)]
    assert all(len(call) == 3 for call in calls), (
        f"With num = 3, {min(map(len, calls))} to {max(map(len, calls))} transforms were applied one after the other; "
        "expected 3."
    )
    assert all(len(set(call)) == 3 for call in calls), (
        "The same transform was applied twice to one picture. Choose different ones: torch.randperm, random.sample."
    )
    assert len(set(calls)) > 1, "Each call chose the same transforms. Draw anew each time."
    chosen = [sum(k in call for call in calls) for k in range(6)]
    assert min(chosen) > 0, f"Transform number {chosen.index(0)} is never chosen. All of them should have a chance."
    assert max(chosen) < 2.2 * min(chosen), f"They are not equally likely: in 300 calls they came {chosen} times."
    assert call(0) == (), "With num = 0 the picture stays as it is."
    assert len(call(6)) == 6, "With num = 6 all six are applied."
    return "torchvision's has fourteen transforms, and one strength for all."


rand_augment = Exercise(
    "RandAugment in two lines",
    test=_check_rand_augment,
    hints=(
        "torch.randperm(len(transforms)) is a random order of their numbers.",
        "Take the first num of it. Apply the transforms in a loop: image = transform(image).",
    ),
    reference=rand_augment,
)

# ---- 5. divide, then augment -----------------------------------------------------------------------------------------


def divide_and_augment(images, num_val, num_copies, augment):
    known, validation = images[: len(images) - num_val], images[len(images) - num_val :]
    return known + [augment(image) for _ in range(num_copies) for image in known], validation


def _check_divide(divide):
    images, num_copies = [torch.full((3, 4, 4), 100.0 * (k + 1)) for k in range(10)], 0

    def augment(image):
        nonlocal num_copies
        num_copies += 1
        return image + num_copies  # the picture's number in front, the copy's behind

    def run(num_val, num):
        """What came, as (number of the picture, number of the copy or 0)."""
        result = pair(divide(list(images), num_val, num, augment), "two lists, for training and for validation")
        for part in result:
            told = f"Expected two lists of pictures; {_came(part)} came."
            assert isinstance(part, list | tuple | torch.Tensor), told
            assert all(isinstance(picture, torch.Tensor) and picture.shape == (3, 4, 4) for picture in part), (
                "Expected two lists of pictures; in one of them lies something else, such as a list."
            )
        return [[divmod(int(picture.flatten()[0]) - 100, 100) for picture in part] for part in result]

    training, validation = run(3, 2)
    originals = [(k, 0) for k in range(10)]
    copies = [k for k, copy in training if copy]
    assert not any(copy for _, copy in validation), (
        "Changed copies are in the validation list. Validation gets pictures as they are"
        + ", and comes second: training, validation." * (sorted(training) == originals[7:])
        + "." * (sorted(training) != originals[7:])
    )
    assert not {k for k, _ in training} & {k for k, _ in validation}, (
        "A picture of the validation list is in the training list too, itself or as a copy. Divide first."
    )
    assert sorted(validation) == originals[7:], (
        "Expected the last 3 of 10 pictures for validation, numbers 7, 8 and 9; "
        f"{sorted(k for k, _ in validation)} came."
    )
    assert training[:7] == originals[:7], "The training list begins with its pictures as they are: the originals stay."
    assert len(copies) == 14, f"Expected 2 copies of each of 7 pictures, 14; {len(copies)} are there."
    assert len(set(training)) == 21, "Two copies are the same. Call augment anew for each copy."
    assert all(copies.count(k) == 2 for k in range(7)), "Not each of the 7 pictures has its 2 copies."
    training, validation = run(0, 1)
    assert validation == [] and len(training) == 20, (
        "With num_val = 0 nothing is for validation. images[:-0] is empty: count from the front."
    )
    return "No copy of a validation picture is in training, and validation is as it came."


divide_and_augment = Exercise(
    "Divide, then augment",
    test=_check_divide,
    hints=(
        "First two slices of images: all but the last num_val, and the last num_val.",
        "The training list is the first slice and then [augment(image) for each copy and each of its pictures].",
        "With num_val = 0, images[:-num_val] is empty. Use len(images) - num_val.",
    ),
    reference=divide_and_augment,
)

# ---- 6. the box moves along ------------------------------------------------------------------------------------------


def flip_all(image, mask, box):
    width = image.shape[-1]
    x1, y1, x2, y2 = box
    return image.flip(-1), mask.flip(-1), torch.stack([width - x2, y1, width - x1, y2])


def _check_flip_all(flip_all):
    not_used(flip_all, "v2", "horizontal_flip", "horizontal_flip_bounding_boxes", "RandomHorizontalFlip")
    image = torch.arange(3 * 6 * 10.0).view(3, 6, 10)
    mask = torch.zeros(6, 10, dtype=torch.bool)
    mask[1:3, 2:5] = True
    box = torch.tensor([2.0, 1.0, 5.0, 3.0])

    def run(image, mask):
        result = flip_all(image.clone(), mask.clone(), box.clone())
        assert isinstance(result, (tuple, list)) and len(result) == 3, (
            f"Expected three things, picture, mask and box; {_came(result)} came."
        )
        for name, old, new in zip(("picture", "mask"), (image, mask), result, strict=False):
            assert isinstance(new, torch.Tensor) and new.shape == old.shape, (
                f"Expected a {name} of the same shape, a tensor {tuple(old.shape)}; {_came(new)} came."
            )
        return result[0], result[1].to(mask.dtype), tensor(result[2], "a box of four numbers", (4,)).float()

    new_image, new_mask, new_box = run(image, mask)
    assert not torch.equal(new_image, image.flip(-2)), (
        "The picture is upside down. Left and right are the last dimension."
    )
    assert torch.equal(new_image, image.flip(-1)), "The picture is not flipped left to right: image.flip(-1)."
    assert not torch.equal(new_mask, mask), "The mask stayed behind. It must be flipped just as the picture."
    assert torch.equal(new_mask, mask.flip(-1)), "The mask is not flipped left to right: mask.flip(-1)."
    found, wanted = new_box.tolist(), [5.0, 1.0, 8.0, 3.0]
    about = f"The box {box.tolist()} of a picture 10 pixels wide became {found}; expected {wanted}."
    assert found != box.tolist(), f"{about} It stayed behind."
    assert found != [8.0, 1.0, 5.0, 3.0], (
        f"{about} Its left edge is right of its right edge: x1 and x2 change places too."
    )
    assert found != [4.0, 1.0, 7.0, 3.0], f"{about} Edges lie between pixels: x goes to W - x, not to W - 1 - x."
    assert found[1::2] == [1.0, 3.0], f"{about} A flip left to right leaves y as it is."
    assert found == wanted, f"{about} The new left edge is W minus the old right edge."
    wider = run(F.pad(image, (0, 6)), F.pad(mask, (0, 6)))[2].tolist()
    assert wider == [11.0, 1.0, 14.0, 3.0], (
        f"In a picture 16 pixels wide the same box becomes [11.0, 1.0, 14.0, 3.0]; {wider} came. Take the width from "
        "image.shape."
    )
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

# ---- 7. MixUp --------------------------------------------------------------------------------------------------------


def mix_up(images, labels, order, share, num_classes):
    targets = F.one_hot(labels, num_classes).float()
    return share * images + (1 - share) * images[order], share * targets + (1 - share) * targets[order]


def _check_mix_up(mix_up):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(6, 3, 4, 4, generator=generator)
    # Pictures 2 and 4 have the labels of their partners: there the shares add up to 1.
    labels, order, share = torch.tensor([0, 1, 2, 2, 1, 1]), torch.tensor([1, 2, 3, 4, 5, 0]), 0.7
    result = mix_up(images.clone(), labels.clone(), order.clone(), share, 4)
    assert isinstance(result, (tuple, list)) and len(result) == 2, "Expected two things, pictures and labels; " + (
        f"{len(result)} came." if isinstance(result, (tuple, list)) else f"{_came(result)} came."
    )
    mixed, targets = result
    assert isinstance(mixed, torch.Tensor) and mixed.shape == images.shape, (
        f"Expected pictures, a tensor of shape {tuple(images.shape)}; {_came(mixed)} came."
    )
    assert isinstance(targets, torch.Tensor) and targets.shape == (6, 4), (
        f"Expected labels as probabilities, a tensor (6, 4); {_came(targets)} came. "
        "F.one_hot(labels, num_classes) makes them of class numbers."
    )
    mixed = mixed.float()

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
    assert not torch.allclose(targets.float()[[2, 4]].sum(1), torch.tensor(0.3), atol=1e-5), (
        "Where a picture and its partner have the same label, its probability is 1: add the two shares. "
        "Yours overwrites the first with the second."
    )
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
        "First turn the class numbers into rows of 0 and 1: F.one_hot(labels, num_classes).float().",
        "Then both are mixed by the same formula: share * a + (1 - share) * a[order].",
    ),
    reference=mix_up,
)

# ---- lab -------------------------------------------------------------------------------------------------------------

# Shares of right answers.
LAB_GOOD, LAB_VERY_GOOD = {"critters": 0.86, "photos": 0.67}, {"critters": 0.90, "photos": 0.72}
SIZE = 48


def _pictures() -> datasets.Splits:
    return datasets.dogs_vs_cats(num_train=760, num_val=0, num_test=500, size=SIZE)


@cache
def make_classifier():
    train_set = _pictures().train.subset(range(360)).subset(200)
    scale = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean=[0.5] * 3, std=[0.25] * 3)])

    def block(i, o):
        return nn.Sequential(nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(), nn.MaxPool2d(2))

    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 2)]
    model = nn.Sequential(block(3, 16), block(16, 32), block(32, 64), block(64, 64), *head)
    moved = v2.RandomAffine(10, (0.06, 0.06), (0.9, 1.1), interpolation=v2.InterpolationMode.BILINEAR)
    room, middle = v2.Pad(12, padding_mode="reflect"), v2.CenterCrop(SIZE)
    varied = train_set.with_transform(v2.Compose([v2.RandomHorizontalFlip(), room, moved, middle, scale]))
    loader, epochs = DataLoader(varied, batch_size=32, shuffle=True), 120
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-2)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-2, total_steps=epochs * len(loader))
    fit(model, loader, num_epochs=epochs, optimizer=optimizer, scheduler=scheduler, bf16=False)

    @torch.no_grad()
    def classify(images):
        images = scale(images)
        return (model.eval()(images) + model(images.flip(-1))).argmax(dim=1)

    return classify


def _check_lab(classify):
    classify(_pictures().train.images[:2])  # before any time goes into drawing
    held_out = unseen(_pictures().test)
    share, score = share_right(classify, held_out)
    good, very_good = LAB_GOOD[held_out.source], LAB_VERY_GOOD[held_out.source]
    assert share >= good, (
        f"{score}; guessing gives 50 %, and {good:.0%} counts as good. Flip first; then vary more, and train longer."
    )
    return f"{score}; {good:.0%} is good, {very_good:.0%} very good."


lab = Exercise(
    "Lab: best accuracy from 200 pictures",
    test=_check_lab,
    hints=(
        "The mild recipe with 120 epochs or more; "
        "look at the training accuracy to see whether time or variety is missing.",
        "The network of section 3 is quick rather than good: with its first convolution at every pixel it sees more.",
        "In classify, average the outputs for a picture and for its mirror image.",
    ),
    reference=make_classifier,
    computed=True,
)
