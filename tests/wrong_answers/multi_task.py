"""Wrong answers to the exercises of notebook 07, each with a piece of the message that fits it."""

import copy

import numpy as np
import torch
from torch import nn
from torchvision.transforms import v2


def columns(function):
    """Mirrors boxes by putting together the four columns that `function` gives."""
    return lambda boxes, width: torch.stack(function(*boxes.unbind(dim=1), width), dim=1)


def asks(function):
    """Answers `ask` by what `function` gives for the network and the features, a task at a time."""
    return lambda network, images, tasks: {task: function(network, images, task) for task in tasks}


def known(targets):
    return targets.flatten(1).isfinite().all(1)


def where_after(loss_fn, outputs, targets):
    rows = known(targets)
    each = torch.stack([loss_fn(outputs[[i]], targets[[i]]) for i in range(len(rows))])
    return torch.where(rows, each, 0).sum() / rows.sum().clamp(min=1)


def filled(loss_fn, outputs, targets):
    rows = known(targets).reshape(-1, *[1] * (targets.ndim - 1))
    return loss_fn(torch.where(rows, outputs, 0), torch.where(rows, targets, 0))


def filled_and_scaled(loss_fn, outputs, targets):
    """Right, in another style: both filled with zeros before the loss, and the mean put right."""
    rows = known(targets)
    if not rows.any():
        return outputs.sum() * 0
    return filled(loss_fn, outputs, targets) * len(rows) / rows.sum()


def by_row(loss_fn, outputs, targets):
    """Right, in another style: a loop over the rows."""
    each = [loss_fn(o, t) for o, t in zip(outputs, targets, strict=True) if not torch.isnan(t).any()]
    return sum(each) / len(each) if each else (outputs * 0).sum()


def numbers_only(loss_fn, outputs, targets):
    rows = targets.isfinite()
    return loss_fn(outputs[rows], targets[rows]) if rows.any() else 0 * outputs.sum()


def rows_only(loss_fn, outputs, targets, rows=known):
    return loss_fn(outputs[rows(targets)], targets[rows(targets)])


def twice(turn_label=lambda x: x.flip(3), back=lambda m: m.flip(2), divide=2):
    def ask_twice(network, images):
        first, second = network(images), network(turn_label(images))
        return {
            "label": (first["label"] + second["label"]) / divide,
            "mask": (first["mask"] + back(second["mask"])) / divide,
        }

    return ask_twice


def all_at_once(network, images):
    """Right, in another style: pictures and mirror images as one batch."""
    both = network(torch.cat([images, images.flip(-1)]))
    label, mask = both["label"].view(2, len(images), -1), both["mask"].view(2, *images.shape[:1], *images.shape[2:])
    return dict(label=label.mean(0), mask=torch.stack([mask[0], mask[1].flip(-1)]).mean(0))


def pull(of_gradients, graph=True):
    """The quotient of what `of_gradients` makes of the gradients of each loss."""

    def equal_pull(loss_a, loss_b, shared):
        a, b = (torch.autograd.grad(loss, shared, retain_graph=graph) for loss in (loss_a, loss_b))
        return of_gradients(a) / of_gradients(b)

    return equal_pull


def whole(gradients):
    return torch.cat([gradient.flatten() for gradient in gradients]).norm()


def pull_by_backward(loss_a, loss_b, shared):
    found = []
    for loss in (loss_a, loss_b):
        loss.backward(retain_graph=True)
        found.append(whole([parameter.grad for parameter in shared]))
    return found[0] / found[1]


def squares(gradients):
    return sum((gradient**2).sum() for gradient in gradients)


def gain(deviation):
    return lambda ours, theirs: ((ours - theirs).mean(), deviation(ours, theirs))


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
    ("mirror_boxes", lambda boxes, width: v2.functional.horizontal_flip(boxes), "write that yourself"),
    ("ask", lambda network, images, tasks: network(images), "was not asked for"),
    (
        "ask",
        lambda network, images, tasks: {t: network(images)[t] for t in tasks},
        "call network.encoder and the heads",
    ),
    ("ask", asks(lambda n, images, t: n.heads[t](n.encoder(images))), "The encoder ran 2 times"),
    ("ask", lambda n, images, tasks: [n.heads[t](n.encoder(images)) for t in tasks], "a list came"),
    ("ask", lambda n, images, tasks: dict.fromkeys(tasks, n.encoder(images)), "is not what its head gives"),
    ("masked_loss", lambda loss_fn, outputs, targets: loss_fn(outputs, targets), "The loss is NaN"),
    ("masked_loss", where_after, "0 x NaN is NaN"),
    ("masked_loss", filled, "divided by the number of all rows"),
    ("masked_loss", lambda f, o, t: f(o[known(t)], t[known(t)]) * known(t).sum() / len(t), "number of all rows"),
    ("masked_loss", numbers_only, "only if all of it is there"),
    ("masked_loss", rows_only, "Where no row is known"),
    ("masked_loss", lambda f, o, t: rows_only(f, o.detach(), t), "lost its graph"),
    ("masked_loss", lambda f, o, t: rows_only(f, o, t).item(), "a float"),
    ("masked_loss", lambda f, o, t: (o - t)[known(t)].square().mean(), "the mean over the three rows"),
    ("ask_twice", twice(back=lambda m: m), "mirror it back"),
    ("ask_twice", twice(back=lambda m: m.flip(1)), "second mask upside down"),
    ("ask_twice", twice(turn_label=lambda x: x.flip(2)), "turned the pictures upside down"),
    ("ask_twice", twice(divide=1), "Divide by 2"),
    ("ask_twice", lambda network, images: network(images), "first answer alone"),
    ("ask_twice", lambda network, images: network(images)["label"], "shape (4, 2) came"),
    ("equal_pull", pull_by_backward, ".grad has changed"),
    ("equal_pull", pull(lambda gradients: sum(g.norm() for g in gradients)), "added the lengths of the parts"),
    ("equal_pull", pull(squares), "squared lengths"),
    ("equal_pull", pull(lambda gradients: gradients[0].norm()), "one of the shared tensors"),
    ("equal_pull", lambda a, b, shared: pull(whole)(b, a, shared), "The other way round"),
    ("equal_pull", lambda a, b, shared: (a / b).item(), "makes the losses equal"),
    ("equal_pull", lambda a, b, shared: [1.0, 2.0], "a list came"),
    ("paired_gain", gain(lambda a, b: (a - b).std()), "Divided by n"),
    ("paired_gain", gain(lambda a, b: np.hypot(a.std(ddof=1), b.std(ddof=1))), "seed by seed"),
    ("paired_gain", gain(lambda a, b: a.std(ddof=1)), "how far the seeds lie apart"),
    ("paired_gain", gain(lambda a, b: (a - b).std(ddof=1) / len(a) ** 0.5), "the standard error"),
    ("paired_gain", lambda a, b: ((b - a).mean(), (b - a).std(ddof=1)), "The sign"),
    ("paired_gain", lambda a, b: (a - b).mean(), "Expected two numbers"),
    ("uncertainty_loss", lambda losses, s: (torch.exp(-s) * losses).sum(), "s / 2 is missing"),
    ("uncertainty_loss", lambda losses, s: (torch.exp(s) * losses + s / 2).sum(), "The sign"),
    ("uncertainty_loss", lambda losses, s: (torch.exp(-s) * losses + s).sum(), "half of s"),
    ("uncertainty_loss", lambda losses, s: (losses / s + s / 2).sum(), "the variance itself is exp(s)"),
    ("uncertainty_loss", lambda losses, s: torch.exp(-s) * losses + s / 2, "Is the sum over the tasks taken"),
    ("uncertainty_loss", lambda losses, s: (torch.exp(-s) * losses + s / 2).mean(), "the sum of exp(-s) L + s / 2"),
    ("uncertainty_loss", lambda losses, s: (torch.exp(-s) * losses + s / 2).sum().detach(), "get no gradient"),
    ("shared_network", careless(again=True), "The encoder ran 4 times"),
    ("shared_network", careless(hidden=True), "nn.ModuleDict shows them"),
    ("shared_network", careless(as_list=True), "a list came"),
    ("shared_network", Headless, "is not head(encoder(images))"),
    ("shared_network", lambda encoder, heads: Careless, "Return an object, not its class"),
    ("lab", lambda images: torch.zeros(len(images), dtype=torch.long), "always the same answer gives"),
    ("lab", lambda images: torch.arange(len(images)) % 2, "always the same answer gives"),
    ("lab", lambda images: torch.zeros(len(images), 2), "expected one label each"),
]


class Copied(Careless):
    """Right, in another style: it keeps a copy of the encoder."""

    def __init__(self, encoder, heads):
        super().__init__(copy.deepcopy(encoder), heads)


RIGHT = [
    ("mirror_boxes", lambda boxes, width: (boxes[:, [2, 1, 0, 3]] - torch.tensor([width, 0, width, 0])).abs()),
    ("ask", lambda n, images, tasks: (lambda x: {t: n.heads[t](x) for t in tasks})(n.encoder(images))),
    ("masked_loss", by_row),
    ("masked_loss", filled_and_scaled),
    ("ask_twice", all_at_once),
    ("equal_pull", lambda a, b, shared: pull(lambda g: squares(g).sqrt())(a, b, shared).item()),
    ("paired_gain", lambda a, b: [np.mean(a - b), torch.tensor(a - b).std()]),
    ("shared_network", Copied),
]


def by_forward(network, images, tasks):
    features = network.encoder.forward(images)
    return {task: network.heads[task].forward(features) for task in tasks}


def last_axis(loss_fn, outputs, targets):
    rows = ~targets.isnan().any(dim=-1)
    return loss_fn(outputs[rows], targets[rows]) if rows.any() else 0 * outputs.sum()


def in_eval(network, images):
    network.eval()
    with torch.no_grad():
        return twice()(network, images)


def grads_set_to_none(loss_a, loss_b, shared):
    lengths = []
    for loss in (loss_a, loss_b):
        for parameter in shared:
            parameter.grad = None
        loss.backward(retain_graph=True)
        lengths.append(whole([parameter.grad for parameter in shared]))
    for parameter in shared:
        parameter.grad = None
    return lengths[0] / lengths[1]


class Detached(Careless):
    def forward(self, images):
        features = self.encoder(images).detach()
        return {task: head(features) for task, head in self.heads.items()}


WRONG += [
    ("mirror_boxes", columns(lambda a, b, c, d, w: [w - c, b, 64 - a, d]), "Use width"),
    ("masked_loss", last_axis, "only if all of it is there"),
    ("equal_pull", grads_set_to_none, ".grad has changed"),
    ("paired_gain", gain(lambda a, b: (((a - b) - (a - b).mean()) ** 2).sum() ** 0.5 / 2), "a 5 or a 4"),
    ("paired_gain", lambda a, b: (a - b, (a - b).std(ddof=1)), "Expected one number each"),
    ("uncertainty_loss", lambda losses, s: (torch.exp(-s.detach()) * losses + s / 2).sum(), "cut off on the way"),
    ("uncertainty_loss", lambda losses, s: (torch.exp(-s) * losses.detach() + s / 2).sum(), "gradient of the losses"),
    ("shared_network", Detached, "No gradient comes back"),
    ("shared_network", lambda encoder, heads: nn.ModuleDict({"encoder": encoder, **heads}), "has no forward"),
]
RIGHT += [
    ("ask", by_forward),
    ("ask_twice", in_eval),
    ("mirror_boxes", lambda boxes, width: columns(lambda a, b, c, d, w: [w - c, b, w - a, d])(boxes.double(), width)),
    ("paired_gain", lambda a, b: np.array([(a - b).mean(), (a - b).std(ddof=1)])),
    ("uncertainty_loss", lambda losses, s: torch.exp(-s)[None] @ losses[:, None] + s.sum() / 2),
]
