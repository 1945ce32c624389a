"""Wrong answers to the exercises of notebook 06: (exercise, answer, a piece of the message that fits the mistake)."""

import math
import random

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from utils import datasets


def flip(coins, dim=-1):
    """Flips along a dimension where coins(images, p) is true."""
    return lambda images, p: torch.where(coins(images, p), images.flip(dim), images)


def one_each(images, p):
    return (torch.rand(len(images)) < p)[:, None, None, None]


def flip_in_place(images, p):
    chosen = torch.rand(len(images)) < p
    images[chosen] = images[chosen].flip(-1)
    return images


def moved(box, mask=lambda mask: mask.flip(-1), dim=-1):
    """A flip whose new box is box(width, x1, y1, x2, y2)."""
    return lambda image, mask_, box_: (
        image.flip(dim),
        mask(mask_),
        torch.stack([torch.as_tensor(value) for value in box(image.shape[-1], *box_)]),
    )


def right_box(width, x1, y1, x2, y2):
    return width - x2, y1, width - x1, y2


def mixed(pictures, targets):
    """pictures(a, b, share) and targets(a, b, share) mix a batch with its partners."""

    def mix_up(images, labels, order, share, num_classes):
        rows = F.one_hot(labels, num_classes).float()
        return pictures(images, images[order], share), targets(rows, rows[order], share)

    return mix_up


def mix(a, b, share):
    return share * a + (1 - share) * b


def mix_backwards(images, labels, order, share, num_classes):
    rows, back = F.one_hot(labels, num_classes).float(), order.argsort()
    return mix(images, images[back], share), mix(rows, rows[back], share)


def class_numbers(images, labels, order, share, num_classes):
    return mix(images, images[order], share), mix(labels, labels[order], share)


def set_both(images, labels, order, share, num_classes):
    targets, rows = torch.zeros(len(labels), num_classes), torch.arange(len(labels))
    targets[rows, labels] = share
    targets[rows, labels[order]] = 1 - share
    return mix(images, images[order], share), targets


def square(rows, columns, value=127, channels=slice(None)):
    """Erases where rows(top, left, side) and columns(top, left, side) say."""

    def erase(image, top, left, side):
        copy = image.clone()
        copy[channels, slice(*rows(top, left, side)), slice(*columns(top, left, side))] = value
        return copy

    return erase


def down(top, left, side):
    return top, top + side


def across(top, left, side):
    return left, left + side


def erase_in_place(image, top, left, side):
    image[:, top : top + side, left : left + side] = 127
    return image


def erase_pixel_by_pixel(image, top, left, side):
    copy = image.clone()
    for y in range(top, min(top + side, image.shape[1])):
        for x in range(left, min(left + side, image.shape[2])):
            copy[:, y, x] = 127
    return copy


def flip_in_a_loop(images, p):
    return torch.stack([image.flip(-1) if random.random() < p else image for image in images])


def flip_exactly(images, p):
    chosen = torch.randperm(len(images))[: round(p * len(images))]
    result = images.clone()
    result[chosen] = images[chosen].flip(-1)
    return result


def flip_the_same(images, p):
    coins = torch.rand(len(images), generator=torch.Generator().manual_seed(0)) < p
    return torch.where(coins[:, None, None, None], images.flip(-1), images)


def apply(image, transforms):
    for transform in transforms:
        image = transform(image)
    return image


def of_all(image, transforms, num):
    return apply(image, random.sample(transforms, num))


def mostly_the_first(image, transforms, num):
    order = [*range(len(transforms))]
    return apply(image, [transforms[k] for k in (order if random.random() < 0.5 else random.sample(order, 6))[:num]])


def divided(training, validation):
    """training(known, copies(pictures)) and validation(held_out, all), of ten pictures as the exercise has them."""

    def divide(images, num_val, num_copies, augment):
        cut = len(images) - num_val
        known, held_out = images[:cut], images[cut:]
        return (
            training(known, lambda pictures: [augment(image) for _ in range(num_copies) for image in pictures]),
            validation(held_out, augment, images),
        )

    return divide


def held_out_as_it_is(held_out, augment, images):
    return held_out


def augment_then_divide(images, num_val, num_copies, augment):
    everything = images + [augment(image) for _ in range(num_copies) for image in images]
    return everything[num_val:], everything[:num_val]


def one_copy_repeated(images, num_val, num_copies, augment):
    known = images[: len(images) - num_val]
    return known + num_copies * [augment(image) for image in known], images[len(images) - num_val :]


def cut_from_behind(images, num_val, num_copies, augment):
    known = images[:-num_val]
    return known + [augment(image) for image in known for _ in range(num_copies)], images[-num_val:]


def remembers(images):
    """Knows the labels of all pictures of the notebook by heart."""
    splits = datasets.dogs_vs_cats(num_train=760, num_val=0, num_test=500, size=48)
    known = {
        image.numpy().tobytes(): label
        for part in (splits.train, splits.test)
        for image, label in zip(part.images, part.targets["label"], strict=True)
    }
    return torch.stack([known.get(image.numpy().tobytes(), torch.tensor(0)) for image in images])


WRONG = [
    ("erase", erase_in_place, "Begin with image.clone()"),
    ("erase", square(across, down), "Rows and columns have changed places"),
    ("erase", square(down, across, value=0), "Grey is 127"),
    ("erase", square(down, across, channels=slice(1)), "Only some of the three channels"),
    ("erase", square(lambda t, le, s: (t, t + s + 1), lambda t, le, s: (le, le + s + 1)), "too large"),
    ("erase", square(lambda t, le, s: (t, t + s - 1), lambda t, le, s: (le, le + s - 1)), "too small"),
    ("erase", square(lambda t, le, s: (t, s), lambda t, le, s: (le, s)), "Nothing is erased"),
    ("erase", lambda image, top, left, side: image[:, top : top + side, left : left + side], "same shape"),
    ("random_flip", lambda images, p: images.flip(-1) if torch.rand(()) < p else images, "one coin for the batch"),
    ("random_flip", flip(one_each, dim=-2), "upside down"),
    ("random_flip", flip(lambda x, p: torch.rand(x.shape) < p), "One coin for a picture"),
    ("random_flip", flip(lambda x, p: (torch.rand(len(x)) > p)[:, None, None, None]), "numbers below p"),
    ("random_flip", flip_in_place, "changes the batch that it was given"),
    ("random_flip", flip_exactly, "Five calls flipped exactly 600"),
    ("random_flip", flip_the_same, "Draw anew each time"),
    ("epochs_for", lambda num, steps, size: round(steps / (num / size)), "epochs make"),
    ("epochs_for", lambda num, steps, size: max(1, steps // -(-num // size)), "come closer"),
    ("epochs_for", lambda num, steps, size: round(steps / max(1, num // size)), "Round up"),
    ("epochs_for", lambda num, steps, size: round(steps / -(-num // size)), "one epoch at least"),
    ("epochs_for", lambda num, steps, size: steps / -(-num // size), "a whole number"),
    ("rand_augment", lambda image, transforms, num: apply(image, transforms[:num]), "the same transforms"),
    ("rand_augment", lambda image, t, num: apply(image, random.choices(t, k=num)), "applied twice"),
    ("rand_augment", lambda image, t, num: [f(image) for f in random.sample(t, num)], "one after the other"),
    ("rand_augment", lambda image, t, num: apply(image, random.sample(t, len(t))), "expected 3"),
    ("rand_augment", lambda image, t, num: apply(image, random.sample(t[1:], num)), "is never chosen"),
    ("rand_augment", mostly_the_first, "not equally likely"),
    ("divide_and_augment", augment_then_divide, "Divide first"),
    ("divide_and_augment", divided(lambda k, copies: k + copies(k), lambda h, f, _: [f(x) for x in h]), "as they are"),
    ("divide_and_augment", divided(lambda k, copies: copies(k), held_out_as_it_is), "the originals stay"),
    ("divide_and_augment", divided(lambda k, copies: k + copies(k), lambda h, f, a: a[:3]), "is in the training list"),
    ("divide_and_augment", one_copy_repeated, "Call augment anew"),
    ("divide_and_augment", cut_from_behind, "count from the front"),
    ("divide_and_augment", divided(lambda k, copies: k, held_out_as_it_is), "Expected 2 copies of each"),
    ("flip_all", moved(lambda width, *box: box), "stayed behind"),
    ("flip_all", moved(lambda width, x1, y1, x2, y2: (width - x1, y1, width - x2, y2)), "change places too"),
    ("flip_all", moved(lambda width, x1, y1, x2, y2: (width - 1 - x2, y1, width - 1 - x1, y2)), "between pixels"),
    ("flip_all", moved(right_box, mask=lambda mask: mask), "The mask stayed behind"),
    ("flip_all", moved(right_box, dim=-2), "upside down"),
    ("mix_up", mixed(lambda a, b, s: mix(b, a, s), mix), "gave it to the partner"),
    ("mix_up", mixed(mix, lambda a, b, s: a), "the labels are not"),
    ("mix_up", mixed(lambda a, b, s: s * (a + b), mix), "must sum to 1"),
    ("mix_up", mix_backwards, "wrong way round"),
    ("mix_up", class_numbers, "Expected labels as probabilities"),
    ("mix_up", mixed(mix, lambda a, b, s: s * a), "must sum to 1; yours"),
    ("mix_up", set_both, "add the two shares"),
    ("lab", lambda images: torch.zeros(len(images), dtype=torch.long), "guessing gives 50 %"),
    ("lab", remembers, "counts as good"),
    ("lab", lambda images: torch.zeros(len(images), 2), "expected one label each"),
]

RIGHT = [
    ("erase", erase_pixel_by_pixel),
    ("random_flip", flip_in_a_loop),
    ("epochs_for", lambda num, steps, size: float(max(1, round(steps / math.ceil(num / size))))),
    ("epochs_for", lambda num, steps, size: np.int64(max(1, round(steps / math.ceil(num / size))))),
    ("rand_augment", of_all),
    ("divide_and_augment", divided(lambda k, copies: k + copies(k), held_out_as_it_is)),
    ("mix_up", lambda x, y, o, s, n: (torch.lerp(x[o], x, s), s * torch.eye(n)[y] + (1 - s) * torch.eye(n)[y[o]])),
]


def cloned_first(image, transforms, num):
    out = image.clone()
    for k in torch.randperm(len(transforms))[:num].tolist():
        out = transforms[k](out)
    return out


def taken_out(image, transforms, num):
    for _ in range(num):
        image = transforms.pop(random.randrange(len(transforms)))(image)
    return image


def copies_of_clones(images, num_val, num_copies, augment):
    rest = list(images)
    validation = [rest.pop() for _ in range(num_val)]
    return rest + [augment(image.clone()) for image in rest for _ in range(num_copies)], validation


def pairs_of_coins(images, p):
    coins = (torch.rand((len(images) + 1) // 2) < p).repeat_interleave(2)[: len(images)]
    return torch.where(coins[:, None, None, None], images.flip(-1), images)


def in_doubles(images, labels, order, share, num_classes):
    rows, images = F.one_hot(labels, num_classes).double(), images.double()
    return mix(images, images[order], share), mix(rows, rows[order], share)


def another_alias(image, mask, box):
    return functional.hflip(image), functional.hflip(mask), right_box(image.shape[-1], *box)


WRONG += [
    (
        "erase",
        lambda image, *where: functional.erase(image, *where, where[-1], torch.tensor(127)),
        "write that yourself",
    ),
    ("erase", square(down, across, value=128), "should be grey, 127 everywhere"),
    ("erase", lambda image, *where: square(down, across)(image.float(), *where), "of torch.float32"),
    ("random_flip", pairs_of_coins, "treated like their neighbour"),
    ("rand_augment", taken_out, "The list of transforms has changed"),
    ("divide_and_augment", lambda images, *others: (7, 3), "Expected two lists of pictures"),
    ("flip_all", another_alias, "Your answer uses"),
    ("flip_all", moved(lambda width, x1, y1, x2, y2: (10 - x2, y1, 10 - x1, y2)), "Take the width from"),
    ("flip_all", lambda image, mask, box: (image.flip(-1), mask.flip(-1), None), "a box of four numbers"),
    ("mix_up", lambda x, y, o, s, n: (mix(x, x[o], s), [y, y[o], s]), "a list came"),
]
RIGHT += [
    ("epochs_for", lambda num, steps, size: torch.tensor(steps / math.ceil(num / size)).round().clamp(min=1)),
    ("rand_augment", cloned_first),
    ("rand_augment", lambda image, transforms, num: v2.Compose(random.sample(transforms, num) or [lambda x: x])(image)),
    ("divide_and_augment", copies_of_clones),
    ("mix_up", in_doubles),
]
