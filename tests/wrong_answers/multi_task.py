"""Wrong answers to the exercises of notebook 07, each with a piece of the message that fits it."""

import torch
from torch import nn


def columns(function):
    """Mirrors boxes by putting together the four columns that `function` gives."""
    return lambda boxes, width: torch.stack(function(*boxes.unbind(dim=1), width), dim=1)


def lengths(of_gradients, graph=True):
    def gradient_lengths(losses, shared):
        found = [torch.autograd.grad(loss, shared, retain_graph=graph) for loss in losses]
        return torch.stack([of_gradients(gradients) for gradients in found])

    return gradient_lengths


def whole(gradients):
    return torch.cat([gradient.flatten() for gradient in gradients]).norm()


def by_backward(losses, shared):
    found = []
    for loss in losses:
        loss.backward(retain_graph=True)
        found.append(whole([parameter.grad for parameter in shared]))
    return torch.stack(found)


class Careless(nn.Module):
    """One network of many: runs the encoder for each head, hides the heads in a plain dict, or gives no dict."""

    def __init__(self, encoder, heads, again=False, hidden=False, as_list=False):
        super().__init__()
        self.encoder, self.heads = encoder, dict(heads) if hidden else nn.ModuleDict(heads)
        self.again, self.as_list = again, as_list

    def forward(self, images):
        features = self.encoder(images)
        found = {task: head(self.encoder(images) if self.again else features) for task, head in self.heads.items()}
        return list(found.values()) if self.as_list else found


class Headless(Careless):
    def forward(self, images):
        return dict.fromkeys(self.heads, self.encoder(images))


def careless(**flaws):
    return lambda encoder, heads: Careless(encoder, heads, **flaws)


WRONG = [
    ("mirror_boxes", lambda boxes, width: boxes, "have not moved"),
    ("mirror_boxes", columns(lambda a, b, c, d, w: [w - a, b, w - c, d]), "right side on the left"),
    ("mirror_boxes", columns(lambda a, b, c, d, w: [a, w - d, c, w - b]), "upside down"),
    ("mirror_boxes", columns(lambda a, b, c, d, w: [64 - c, b, 64 - a, d]), "Use width"),
    ("mirror_boxes", columns(lambda a, b, c, d, w: [w - c - 1, b, w - a - 1, d]), "becomes [34, 5, 54, 25]"),
    ("mirror_boxes", lambda boxes, width: width - boxes[:, 0], "shape (3,)"),
    ("masked_mean", lambda losses, known: losses.mean(), "The result is NaN"),
    ("masked_mean", lambda losses, known: (losses * known).sum() / known.sum(), "0 x NaN is NaN"),
    ("masked_mean", lambda losses, known: losses[known].sum() / len(losses), "divided by the number of all"),
    ("masked_mean", lambda losses, known: losses[known].sum(), "The mean of 1, 3 and 8 is 4; 12 came"),
    ("masked_mean", lambda losses, known: losses[known].mean(), "Where nobody's answer is known"),
    ("masked_mean", lambda losses, known: losses[known].mean().detach(), "lost its graph"),
    ("masked_mean", lambda losses, known: losses[~losses.isnan()].sum() / 3, "Is `known` used"),
    ("masked_mean", lambda losses, known: losses[known], "shape (3,)"),
    ("uncertainty_loss", lambda losses, s: (torch.exp(-s) * losses).sum(), "s / 2 is missing"),
    ("uncertainty_loss", lambda losses, s: (torch.exp(s) * losses + s / 2).sum(), "The sign"),
    ("uncertainty_loss", lambda losses, s: (torch.exp(-s) * losses + s).sum(), "half of s"),
    ("uncertainty_loss", lambda losses, s: (losses / s + s / 2).sum(), "the variance itself is exp(s)"),
    ("uncertainty_loss", lambda losses, s: torch.exp(-s) * losses + s / 2, "Is the sum over the tasks taken"),
    ("uncertainty_loss", lambda losses, s: (torch.exp(-s) * losses + s / 2).mean(), "the sum of exp(-s) L + s / 2"),
    ("uncertainty_loss", lambda losses, s: (torch.exp(-s) * losses + s / 2).sum().detach(), "get no gradient"),
    ("gradient_lengths", by_backward, ".grad has changed"),
    ("gradient_lengths", lengths(lambda gradients: sum(g.norm() for g in gradients)), "added the lengths of the parts"),
    ("gradient_lengths", lengths(lambda gradients: whole(gradients).square()), "squared lengths"),
    ("gradient_lengths", lengths(lambda gradients: gradients[0].norm()), "one of the shared tensors"),
    ("gradient_lengths", lengths(lambda gradients: max(g.abs().max() for g in gradients)), "for each loss by itself"),
    ("gradient_lengths", lambda losses, shared: [1.0, 2.0], "list came"),
    ("shared_network", careless(again=True), "The encoder ran 4 times"),
    ("shared_network", careless(hidden=True), "nn.ModuleDict shows them"),
    ("shared_network", careless(as_list=True), "a list came"),
    ("shared_network", Headless, "is not head(encoder(images))"),
    ("shared_network", lambda encoder, heads: Careless, "Return an object, not its class"),
    ("lab", lambda images: torch.zeros(len(images), dtype=torch.long), "always the same answer gives"),
    ("lab", lambda images: torch.arange(len(images)) % 2, "always the same answer gives"),
    ("lab", lambda images: torch.zeros(len(images), 2), "expected one label each"),
]
