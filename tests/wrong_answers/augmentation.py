"""Wrong answers to the exercises of notebook 06: (exercise, answer, a piece of the message that fits the mistake)."""

import torch
import torch.nn.functional as F
from torch import nn


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


def dropped(kept, factor=lambda p: 1 / (1 - p), in_use=lambda x, p: x):
    """Dropout that keeps where kept(x, p) is true."""
    return lambda x, p, training: x * kept(x, p) * factor(p) if training else in_use(x, p)


def coins(x, p):
    return torch.rand_like(x) >= p


def price(weights, l1=lambda w: w.abs().sum(), l2=lambda w: w.square().sum()):
    return lambda model, a, b: sum(a * l1(w) + b * l2(w) for w in weights(model))


def of_layers(model):
    return [layer.weight for layer in model.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]


def without_biases(model):
    return [p for name, p in model.named_parameters() if "bias" not in name]


def stop_at_first_rise(losses, patience):
    for epoch in range(1, len(losses)):
        if losses[epoch] > losses[epoch - 1]:
            return losses.index(min(losses[:epoch])), epoch
    return losses.index(min(losses)), len(losses) - 1


def stop(losses, patience, wait=0, first=0):
    best = 0
    for epoch, loss in enumerate(losses):
        if loss < losses[best]:
            best = epoch
        if epoch - best >= patience + wait:
            return best + first, epoch + first
    return best + first, len(losses) - 1 + first


WRONG = [
    ("random_flip", lambda images, p: images.flip(-1) if torch.rand(()) < p else images, "one coin for the batch"),
    ("random_flip", flip(one_each, dim=-2), "upside down"),
    ("random_flip", flip(lambda x, p: torch.rand(x.shape) < p), "One coin for a picture"),
    ("random_flip", flip(lambda x, p: (torch.rand(len(x)) > p)[:, None, None, None]), "numbers below p"),
    ("random_flip", flip_in_place, "changes the batch that it was given"),
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
    ("dropout_by_hand", dropped(coins, factor=lambda p: 1), "the mean has fallen"),
    ("dropout_by_hand", dropped(lambda x, p: torch.rand_like(x) < p), "turned OFF"),
    ("dropout_by_hand", dropped(coins, factor=lambda p: 1 - p), "You multiply by 1 - p"),
    ("dropout_by_hand", dropped(coins, in_use=lambda x, p: x * (1 - p)), "no factor either"),
    ("dropout_by_hand", dropped(lambda x, p: torch.rand(x.shape[1]) >= p), "its own coin"),
    ("dropout_by_hand", dropped(coins, factor=lambda p: 1 / p), "You divide by p"),
    ("elastic_net", price(lambda model: model.parameters()), "You price all parameters"),
    ("elastic_net", price(without_biases), "scales of batch norm"),
    ("elastic_net", lambda model, a, b: price(of_layers)(model, b, a), "changed places"),
    ("elastic_net", price(of_layers, l2=lambda w: w.norm()), "sum the squares"),
    ("elastic_net", lambda model, a, b: price(of_layers)(model, a, b).item(), "cut it off from backward"),
    ("elastic_net", price(of_layers, l1=lambda w: w.sum()), "Without abs()"),
    ("early_stopping", lambda losses, patience: (losses.index(min(losses)), len(losses) - 1), "nobody ever sees it"),
    ("early_stopping", stop_at_first_rise, "You stop too early"),
    ("early_stopping", lambda losses, patience: stop(losses, patience, wait=1), "one epoch too long"),
    ("early_stopping", lambda losses, patience: stop(losses, patience, first=1), "count from 0"),
    ("lab", lambda images: torch.zeros(len(images), dtype=torch.long), "guessing gives 50 %"),
    ("lab", lambda images: torch.zeros(len(images), 2), "expected one label each"),
]
