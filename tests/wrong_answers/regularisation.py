"""Wrong answers to the exercises of notebook 08: (exercise, answer, a piece of the message that fits the mistake)."""

import math

import torch
import torch.nn.functional as F
from torch import nn


def repeated(answers, labels, truth):
    return (answers == labels)[labels != truth]


def dropped(kept, factor=lambda p: 1 / (1 - p), in_use=lambda x, p: x):
    """Dropout that keeps where kept(x, p) is true."""
    return lambda x, p, training: x * kept(x, p) * factor(p) if training else in_use(x, p)


def coins(x, p):
    return torch.rand_like(x) >= p


def dropped_in_place(x, p, training):
    if training:
        x *= coins(x, p) / (1 - p)
    return x


def multiplied_mask(x, p, training):
    mask = torch.empty_like(x).bernoulli_(1 - p)
    return mask.mul(x).div(1 - p) if training else x


def penalty(weights, l1=lambda w: w.abs().sum(), l2=lambda w: w.square().sum()):
    return lambda model, a, b: sum(a * l1(w) + b * l2(w) for w in weights(model))


def of_layers(model):
    return [layer.weight for layer in model.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]


def without_biases(model):
    return [p for name, p in model.named_parameters() if "bias" not in name]


def from_zeros(model, l1, l2):
    total = torch.zeros(1)
    for w in model.parameters():
        if w.ndim > 1:
            total = total + l1 * w.abs().sum() + l2 * (w**2).sum()
    return total


def step(velocity=lambda w, g, v, m, d: m * v + g, weights=lambda w, g, v, lr, d: (1 - lr * d) * w - lr * v):
    def decay_step(w, gradient, v, lr, momentum, decay):
        v = velocity(w, gradient, v, momentum, decay)
        return weights(w, gradient, v, lr, decay), v

    return decay_step


def old_velocity(w, gradient, velocity, lr, momentum, decay):
    return (1 - lr * decay) * w - lr * velocity, momentum * velocity + gradient


def in_place(w, gradient, velocity, lr, momentum, decay):
    velocity.mul_(momentum).add_(gradient)
    return w.mul_(1 - lr * decay).sub_(lr * velocity), velocity


def interval(half, sign=1):
    return lambda way, none: (sign * (way - none).mean(), half(way, none))


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


def counted(losses, patience):
    lowest, best, bad = math.inf, 0, 0
    for epoch, loss in enumerate(losses):
        lowest, best, bad = (loss, epoch, 0) if loss < lowest else (lowest, best, bad + 1)
        if bad == patience:
            break
    return [best, epoch]


WRONG = [
    ("by_heart", lambda *three: repeated(*three).sum(), "their number"),
    ("by_heart", lambda answers, labels, truth: (answers == labels).float().mean(), "share of *all* labels"),
    ("by_heart", lambda *three: repeated(*three).sum() / len(three[0]), "you divide by all pictures"),
    ("by_heart", lambda a, labels, t: (a == t)[labels != t].float().mean(), "knows better"),
    ("by_heart", lambda *three: 1 - repeated(*three).float().mean(), "does *not* repeat"),
    ("by_heart", lambda *three: repeated(*three).float(), "Expected one number"),
    ("dropout_by_hand", dropped(coins, factor=lambda p: 1), "the mean has fallen"),
    ("dropout_by_hand", dropped(lambda x, p: torch.rand_like(x) < p), "turned OFF"),
    ("dropout_by_hand", dropped(coins, factor=lambda p: 1 - p), "You multiply by 1 - p"),
    ("dropout_by_hand", dropped(coins, in_use=lambda x, p: x * (1 - p)), "no factor either"),
    ("dropout_by_hand", dropped(lambda x, p: torch.rand(x.shape[1:]) >= p), "Along dimension 0"),
    ("dropout_by_hand", dropped(lambda x, p: torch.rand(len(x), 1, 1, 1) >= p), "Along dimension 1"),
    ("dropout_by_hand", dropped(lambda x, p: torch.rand(*x.shape[:2], 1, 1) >= p), "Along dimension 2"),
    ("dropout_by_hand", dropped(coins, factor=lambda p: 1 / p), "You divide by p"),
    ("dropout_by_hand", dropped(coins, factor=lambda p: 1.25), "Is p used?"),
    ("dropout_by_hand", dropped_in_place, "changes the tensor"),
    ("dropout_by_hand", lambda x, p, training: F.dropout(x, p, training), "write that yourself"),
    ("elastic_net", penalty(lambda model: model.parameters()), "You penalise all parameters"),
    ("elastic_net", penalty(without_biases), "scales of batch norm"),
    ("elastic_net", lambda model, a, b: penalty(of_layers)(model, b, a), "changed places"),
    ("elastic_net", penalty(of_layers, l2=lambda w: w.norm()), "sum the squares"),
    ("elastic_net", penalty(of_layers, l2=lambda w: w.square().sum() / 2), "no 1/2"),
    ("elastic_net", lambda model, a, b: penalty(of_layers)(model, a, b).item(), "cut it off from backward"),
    ("elastic_net", penalty(of_layers, l1=lambda w: w.sum()), "Without abs()"),
    ("decay_step", step(velocity=lambda w, g, v, m, d: m * v + g + d * w, weights=lambda w, g, v, lr, d: w - lr * v),
     "The decay is in the velocity"),
    ("decay_step", step(velocity=lambda w, g, v, m, d: m * v + (1 - m) * g), "no factor 1 - momentum"),
    ("decay_step", step(weights=lambda w, g, v, lr, d: (1 - d) * w - lr * v), "It is lr * decay"),
    ("decay_step", step(weights=lambda w, g, v, lr, d: (1 - lr * d) * (w - lr * v)), "shrinks the step, too"),
    ("decay_step", step(weights=lambda w, g, v, lr, d: w - lr * v), "do not decay"),
    ("decay_step", step(weights=lambda w, g, v, lr, d: (1 - lr * d) * w - lr * g), "with the gradient"),
    ("decay_step", old_velocity, "with the old velocity"),
    ("decay_step", lambda *args: step()(*args)[0], "Expected two tensors"),
    ("best_and_last", (8, 8), "nobody ever sees it"),
    ("best_and_last", (5, 8), "numbered from 0"),
    ("best_and_last", (2, 5), "starts the count anew"),
    ("best_and_last", (2, 3), "A rise alone"),
    ("best_and_last", (4, 8), "is not trained"),
    ("best_and_last", 4, "Expected two epochs"),
    ("lead", interval(lambda a, b: 2.26 * (a - b).std() / 10**0.5, sign=-1), "The sign"),
    ("lead", interval(lambda a, b: 2.26 * (a.var() + b.var()).sqrt() / 10**0.5), "ten *differences*"),
    ("lead", interval(lambda a, b: (a - b).std()), "standard deviation of a difference"),
    ("lead", interval(lambda a, b: 2.26 * (a - b).std()), "Divide by the root of the number"),
    ("lead", interval(lambda a, b: 2.26 * (a - b).std(correction=0) / 10**0.5), "divides by N - 1"),
    ("shrink", lambda w, amount: w - amount * w.sign(), "must not go past zero"),
    ("shrink", lambda w, amount: torch.where(w.abs() > amount, w, 0), "the large ones are as they were"),
    ("shrink", lambda w, amount: torch.where(w.abs() < amount, 0, w), "the large ones are as they were"),
    ("shrink", lambda w, amount: (w - amount).clamp(min=0), "Negative weights have become zero"),
    ("shrink", lambda w, amount: (1 - amount) * w, "that is decay"),
    ("shrink", lambda w, amount: F.softshrink(w, amount), "write that yourself"),
    ("early_stopping", lambda losses, patience: (losses.index(min(losses)), len(losses) - 1), "nobody ever sees it"),
    ("early_stopping", stop_at_first_rise, "You stop too early"),
    ("early_stopping", lambda losses, patience: stop(losses, patience, wait=1), "one epoch too long"),
    ("early_stopping", lambda losses, patience: stop(losses, patience, first=1), "count from 0"),
    ("lab", lambda features: torch.zeros(len(features), dtype=torch.long), "guessing gives 50 %"),
    ("lab", lambda features: torch.zeros(len(features), 2), "expected one label each"),
]  # fmt: skip

RIGHT = [
    ("by_heart", lambda a, labels, t: ((a == labels) & (labels != t)).sum().item() / (labels != t).sum().item()),
    ("dropout_by_hand", multiplied_mask),
    ("elastic_net", from_zeros),
    ("decay_step", in_place),
    ("best_and_last", [4, 7]),
    ("best_and_last", torch.tensor([4, 7]).tolist()),
    ("lead", lambda a, b: [float((a - b).mean()), 2.26 * float((a - b).std()) / math.sqrt(10)]),
    ("shrink", lambda w, amount: w - w.clamp(-amount, amount)),
    ("early_stopping", counted),
]


drop = F.dropout  # an alias


def by_helper(x, p, training):
    return helper(x, p) if training else x


def helper(x, p):
    return F.dropout(x, p)


def never_reset(losses, patience):
    best, bad = 0, 0
    for epoch, loss in enumerate(losses):
        best, bad = (epoch, bad) if loss < losses[best] else (best, bad + (epoch > 0))
        if bad >= patience:
            break
    return best, epoch


def of_children(model):
    return [layer.weight for layer in model.children() if isinstance(layer, (nn.Linear, nn.Conv2d))]


WRONG += [
    ("by_heart", lambda answers, labels, truth: 0.6, "2 of 2 wrong labels"),
    ("dropout_by_hand", lambda x, p, training: drop(x, p, training), "Your answer uses dropout"),
    ("dropout_by_hand", by_helper, "Your answer uses dropout"),
    ("elastic_net", penalty(of_children), "The convolution is missing"),
    ("elastic_net", lambda *args: torch.tensor(penalty(of_layers)(*args).item(), requires_grad=True), "cut off"),
    ("shrink", lambda w, amount: w.sign() * (w.abs() - 0.05).clamp(min=0), "Is amount used?"),
    ("best_and_last", (4.5, 7.9), "Expected numbers of epochs"),
    ("best_and_last", ("four", "seven"), "whole numbers"),
    ("lead", lambda way, none: ((way - none).mean(), None), "one number each"),
    ("early_stopping", never_reset, "stop too early"),
]
RIGHT += [
    ("by_heart", lambda a, labels, t: (a == labels)[labels != t].float().mean(0, keepdim=True)),
    ("dropout_by_hand", lambda x, p, training: x.double() * coins(x, p) / (1 - p) if training else x),
    ("elastic_net", lambda model, a, b: penalty(lambda m: [w.double() for w in of_layers(m)])(model, a, b)),
    ("best_and_last", torch.tensor([4, 7])),
    ("lead", lambda a, b: torch.stack([(a - b).mean(), 2.26 * (a - b).std() / math.sqrt(10)])),
    ("early_stopping", lambda losses, patience: torch.tensor(counted(losses, patience))),
]
