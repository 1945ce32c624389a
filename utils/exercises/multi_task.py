"""Exercises of notebook 07, multi-task learning."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import nn

from utils import datasets
from utils.lessons import Exercise

# ---- 1. mirror boxes -------------------------------------------------------------------------------------------------


def mirror_boxes(boxes, width):
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    return torch.stack([width - x2, y1, width - x1, y2], dim=1)


def _check_mirror_boxes(mirror_boxes):
    boxes = torch.tensor([[10.0, 5.0, 30.0, 25.0], [0.0, 40.0, 64.0, 60.0], [50.0, 1.0, 60.0, 9.0]])
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    result = mirror_boxes(boxes.clone(), 64)
    assert isinstance(result, torch.Tensor) and result.shape == (3, 4), (
        f"Expected a tensor of 3 boxes, (3, 4); {f'shape {tuple(result.shape)}' if isinstance(result, torch.Tensor) else type(result).__name__} came. "
        "torch.stack(columns, dim=1) puts columns side by side."
    )
    assert not torch.equal(result, boxes), "The boxes have not moved."
    assert not torch.equal(result, torch.stack([64 - x1, y1, 64 - x2, y2], dim=1)), (
        "Your boxes have their right side on the left: x1 must stay the smaller one. What was the right side is the left side now."
    )
    assert not torch.equal(result, torch.stack([x1, 64 - y2, x2, 64 - y1], dim=1)), (
        "You have turned the pictures upside down. Mirror left and right: x changes, y stays."
    )
    assert torch.equal(result, torch.stack([64 - x2, y1, 64 - x1, y2], dim=1)), (
        f"The box {boxes[0].tolist()} in a picture 64 pixels wide becomes [34, 5, 54, 25]; {result[0].tolist()} came."
    )
    wide = mirror_boxes(boxes.clone(), 100)
    assert torch.allclose(wide[:, 0], 100 - x2), "A picture 100 pixels wide is mirrored like one of 64. Use width."
    return "Mirrored twice, a box is where it was."


mirror_boxes = Exercise(
    "Mirror boxes",
    test=_check_mirror_boxes,
    hints=(
        "A point at x comes to lie at width - x. Draw a box on paper and mirror it: which corner is at the left now?",
        "The new x1 comes from the old x2: width - x2. And the new x2 from the old x1.",
        "x1, y1, x2, y2 = boxes.unbind(dim=1), and then torch.stack([...], dim=1) of the four new columns.",
    ),
    reference=mirror_boxes,
)

# ---- 2. a masked mean ------------------------------------------------------------------------------------------------


def masked_mean(losses, known):
    return losses[known].sum() / known.sum().clamp(min=1)


def _check_masked_mean(masked_mean):
    losses = torch.tensor([1.0, torch.nan, 3.0, 8.0, torch.nan], requires_grad=True)
    known = torch.tensor([True, False, True, True, False])
    result = masked_mean(losses, known)
    assert isinstance(result, torch.Tensor) and result.shape == (), (
        f"Expected one number, a tensor of shape (); {f'shape {tuple(result.shape)}' if isinstance(result, torch.Tensor) else type(result).__name__} came."
    )
    assert not result.isnan(), (
        "The result is NaN. Multiplying by known does not help: 0 x NaN is NaN. Take the known rows: losses[known]."
    )
    assert abs(result.item() - 12 / 5) > 1e-4, (
        "You have divided by the number of all pictures. Divide by the number of known ones."
    )
    assert abs(result.item() - 4) < 1e-5, f"The mean of 1, 3 and 8 is 4; {result.item():.3g} came."
    assert result.requires_grad, (
        "The result has lost its graph, so nothing can be learned from it. No .item() and no torch.tensor(...)."
    )
    (gradient,) = torch.autograd.grad(result, losses)
    assert gradient[~known].eq(0).all() and torch.allclose(gradient[known], torch.tensor(1 / 3)), (
        f"The gradient is {gradient.tolist()}; expected 1/3 for the three known pictures and 0 for the others."
    )
    half = torch.tensor([True, False, False, False, False])
    assert abs(masked_mean(losses, half).item() - 1) < 1e-5, (
        "Only the first of five pictures was known, with a loss of 1, and that is the mean too. Is `known` used, or only whether a number is NaN?"
    )
    none = masked_mean(losses, torch.zeros(5, dtype=torch.bool))
    assert none.item() == 0, (
        f"Where nobody's answer is known, the loss should be 0; {none.item()} came. Divide by known.sum().clamp(min=1)."
    )
    return "Right, also for the batch in which nobody's answer is known."


masked_mean = Exercise(
    "A masked mean",
    test=_check_masked_mean,
    hints=(
        "losses[known] are the losses of the known pictures. Sum them, and divide by how many there are.",
        "How many: known.sum(). What if that is 0?",
        "losses[known].sum() / known.sum().clamp(min=1)",
    ),
    reference=masked_mean,
)

# ---- 3. uncertainty weights ------------------------------------------------------------------------------------------


def uncertainty_loss(losses, log_variances):
    return (torch.exp(-log_variances) * losses + log_variances / 2).sum()


def _check_uncertainty_loss(uncertainty_loss):
    losses, s = torch.tensor([0.7, 0.2, 300.0]), torch.tensor([0.3, -1.0, 5.0], requires_grad=True)
    result = uncertainty_loss(losses, s)
    assert isinstance(result, torch.Tensor) and result.shape == (), (
        f"Expected the total, one number; {f'shape {tuple(result.shape)}' if isinstance(result, torch.Tensor) else type(result).__name__} came. Is the sum over the tasks taken?"
    )

    def like(other):
        return torch.allclose(result, other, rtol=1e-4)

    weighted = torch.exp(-s) * losses
    assert not like(weighted.sum()), (
        "The part s / 2 is missing. Without it the best s is infinite: all weights go to zero, and the network learns nothing."
    )
    assert not like((torch.exp(s) * losses + s / 2).sum()), (
        "The sign: a large variance must make the weight small, exp(-s)."
    )
    assert not like((weighted + s).sum()), (
        "The second part is half of s, since s is the logarithm of the variance: log(sigma) = s / 2."
    )
    assert not like((losses / s + s / 2).sum()), "s is the logarithm of the variance; the variance itself is exp(s)."
    assert like((weighted + s / 2).sum()), (
        f"Expected {(weighted + s / 2).sum().item():.3f}, the sum of exp(-s) L + s / 2 over the tasks; {result.item():.3f} came."
    )
    assert result.requires_grad, (
        "The log-variances get no gradient, so they cannot be learned. No .item(), .detach() or no_grad."
    )
    return "At its best s, every term is as large as the others, whatever the unit of its loss."


uncertainty_loss = Exercise(
    "Uncertainty weights",
    test=_check_uncertainty_loss,
    hints=(
        "For each task: its loss times exp(-s), plus s / 2. Both arguments are tensors with a number for each task.",
        "(torch.exp(-log_variances) * losses + ...).sum()",
    ),
    reference=uncertainty_loss,
)

# ---- 4. lengths of gradients -----------------------------------------------------------------------------------------


def gradient_lengths(losses, shared):
    lengths = []
    for loss in losses:
        gradients = torch.autograd.grad(loss, shared, retain_graph=True)
        lengths.append(torch.cat([gradient.flatten() for gradient in gradients]).norm())
    return torch.stack(lengths)


def _check_gradient_lengths(gradient_lengths):
    torch.manual_seed(0)
    encoder, heads = nn.Sequential(nn.Linear(6, 5), nn.Tanh()), [nn.Linear(5, 2), nn.Linear(5, 3)]
    shared = list(encoder.parameters())
    features = encoder(torch.randn(8, 6))
    losses = [scale * head(features).square().mean() for scale, head in zip((1.0, 50.0), heads, strict=True)]
    gradients = [torch.autograd.grad(loss, shared, retain_graph=True) for loss in losses]
    expected = torch.stack([torch.cat([g.flatten() for g in of_task]).norm() for of_task in gradients])
    result = gradient_lengths(losses, shared)
    assert isinstance(result, torch.Tensor) and result.shape == (2,), (
        f"Expected one length for each of 2 losses, a tensor (2,); {f'shape {tuple(result.shape)}' if isinstance(result, torch.Tensor) else type(result).__name__} came."
    )
    assert all(parameter.grad is None for parameter in shared), (
        "The parameters' .grad has changed: backward() adds to it, and the next training step would use it. Use torch.autograd.grad(loss, shared, retain_graph=True)."
    )
    of_parts = torch.stack([sum(g.norm() for g in of_task) for of_task in gradients])
    assert not torch.allclose(result, of_parts, rtol=1e-4), (
        "You have added the lengths of the parts. The length of the whole: put all parts into one long vector (flatten, torch.cat), then .norm()."
    )
    assert not torch.allclose(result, expected.square(), rtol=1e-4), "These are squared lengths: the root is missing."
    last = torch.stack([of_task[-1].norm() for of_task in gradients])
    first = torch.stack([of_task[0].norm() for of_task in gradients])
    assert not (torch.allclose(result, last, rtol=1e-4) or torch.allclose(result, first, rtol=1e-4)), (
        "This is the length for one of the shared tensors. Take all of `shared`: weights and biases."
    )
    assert torch.allclose(result, expected, rtol=1e-4), (
        f"Expected {[round(x, 4) for x in expected.tolist()]}, {[round(x, 4) for x in result.tolist()]} came. Is it the gradient in the shared parameters, for each loss by itself?"
    )
    return f"The second loss pulls {(expected[1] / expected[0]).item():.0f} times as hard as the first."


gradient_lengths = Exercise(
    "Lengths of gradients",
    test=_check_gradient_lengths,
    hints=(
        "torch.autograd.grad(loss, shared) gives a tensor for each shared parameter, and leaves .grad alone.",
        "The second loss needs the graph too: retain_graph=True.",
        "torch.cat([gradient.flatten() for gradient in gradients]).norm() is the length of the whole; torch.stack the two lengths.",
    ),
    reference=gradient_lengths,
)

# ---- 5. one encoder, many heads --------------------------------------------------------------------------------------


def shared_network(encoder, heads):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.heads = encoder, nn.ModuleDict(heads)

        def forward(self, images):
            features = self.encoder(images)
            return {task: head(features) for task, head in self.heads.items()}

    return Shared()


def _check_shared_network(shared_network):
    torch.manual_seed(0)
    encoder, heads = nn.Linear(6, 5), {"age": nn.Linear(5, 1), "mood": nn.Linear(5, 4), "size": nn.Linear(5, 2)}
    network = shared_network(encoder, dict(heads))
    assert isinstance(network, nn.Module), (
        f"Expected an nn.Module; a {type(network).__name__} came. (Return an object, not its class.)"
    )
    calls, images = [], torch.randn(3, 6)
    hook = encoder.register_forward_hook(lambda *_: calls.append(1))
    outputs = network(images)
    hook.remove()
    assert isinstance(outputs, dict) and set(outputs) == set(heads), (
        f"Expected a dict with an answer to each of age, mood and size; "
        f"{f'the keys {sorted(outputs)}' if isinstance(outputs, dict) else f'a {type(outputs).__name__}'} came."
    )
    assert len(calls) == 1, (
        f"The encoder ran {len(calls)} times for one call. Run it once, before the loop over the heads: that is what sharing saves."
    )
    for task, head in heads.items():
        assert torch.allclose(outputs[task], head(encoder(images))), (
            f"The answer to {task!r} is not head(encoder(images))."
        )
    named = sum(parameter.numel() for parameter in network.parameters())
    wanted = sum(p.numel() for module in (encoder, *heads.values()) for p in module.parameters())
    assert named == wanted, (
        f"network.parameters() gives {named} numbers, and encoder and heads have {wanted}: an optimizer would miss the rest. A plain dict hides its modules; nn.ModuleDict shows them."
    )
    return "The encoder runs once, however many tasks there are."


shared_network = Exercise(
    "One encoder, many heads",
    test=_check_shared_network,
    hints=(
        "Write a class in the function, class Shared(nn.Module), with __init__ and forward, and return Shared().",
        "self.heads = nn.ModuleDict(heads), so that parameters() finds them.",
        "forward: features = self.encoder(images), once; then a dict with head(features) for each head.",
    ),
    reference=shared_network,
)

# ---- lab -------------------------------------------------------------------------------------------------------------

# The share of right answers that counts as good. Of photos few are left to learn from and to test.
LAB_GOOD = {"critters": 0.57, "photos": 0.6}


class _Shared(nn.Module):
    """An encoder of four stages, a class head on the last, and a mask head that gets all of them."""

    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList(
            [
                _block(3, 16, 2),
                *[nn.Sequential(_block(i, o), nn.MaxPool2d(2)) for i, o in ((16, 32), (32, 64), (64, 64))],
            ]
        )
        self.ups = nn.ModuleList([_block(128, 32), _block(64, 16), _block(32, 16)])
        self.mask, self.label = nn.Conv2d(16, 1, 1), nn.Linear(64, 2)

    def forward(self, images):
        features = [self.stages[0](images)]
        for stage in self.stages[1:]:
            features.append(stage(features[-1]))
        *skips, x = features
        for up, skip in zip(self.ups, reversed(skips), strict=True):
            x = up(torch.cat([F.interpolate(x, scale_factor=2.0), skip], dim=1))
        masks = F.interpolate(self.mask(x), scale_factor=2.0, mode="bilinear")
        return self.label(features[-1].mean(dim=(2, 3))), masks


def _block(in_channels, out_channels, stride=1):
    convolution = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU())


@cache
def make_classifier():
    torch.manual_seed(0)
    pool = datasets.pets(num_train=1200, num_val=200, num_test=1000, size=64).train
    pictures = pool.subset(min(600, len(pool)))
    images, masks = pictures.images.float() / 64 - 2, pictures.targets["mask"][:, None].float()
    labels, network, s = pictures.targets["label"][:60], _Shared(), nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-3)
    weight_optimizer = torch.optim.Adam([s], lr=0.05)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=300)
    for _ in range(300):
        labelled = torch.randint(len(labels), (16,))
        rows = torch.cat([labelled, torch.randint(len(images), (32,))])
        mirror = (torch.rand(len(rows)) < 0.5)[:, None, None, None]
        batch, truth = (torch.where(mirror, x[rows].flip(3), x[rows]) for x in (images, masks))
        logits, found = network(batch)
        losses = torch.stack(
            [F.cross_entropy(logits[:16], labels[labelled]), F.binary_cross_entropy_with_logits(found, truth)]
        )
        optimizer.zero_grad(), weight_optimizer.zero_grad()
        (torch.exp(-s) * losses + s / 2).sum().backward()
        optimizer.step(), weight_optimizer.step()
        scheduler.step()
    network.eval()

    @torch.no_grad()
    def classify(images):
        return network(images.float() / 64 - 2)[0].argmax(dim=1)

    return classify


def _check_lab(classify):
    test_set = datasets.pets(num_train=1200, num_val=200, num_test=1000, size=64).test
    order = torch.randperm(len(test_set))  # drawings come by turns, cat, dog, cat, dog: the order must not tell
    images, labels = test_set.images[order], test_set.targets["label"][order]
    answers = torch.cat([torch.as_tensor(classify(part)).cpu() for part in images.split(100)])
    assert answers.shape == labels.shape, (
        f"{len(labels)} pictures came; expected one label each, and not an answer of shape {tuple(answers.shape)}."
    )
    share, good = (answers == labels).float().mean().item(), LAB_GOOD[test_set.source]
    always = labels.bincount().max().item() / len(labels)
    score = f"{share:.1%} of {len(labels)} held-out {test_set.noun}s are right"
    assert share >= good, (
        f"{score}; always the same answer gives {always:.0%}, and {good:.0%} counts as good. What do the masks teach the encoder?"
    )
    return f"{score}; {good:.0%} counts as good."


lab = Exercise(
    "Lab: the best classifier from 60 labels and 600 masks",
    test=_check_lab,
    hints=(
        "Begin with Network(['label', 'mask']), Uncertainty weights and lab_data. What does it score on val_set?",
        "60 labels are learned by heart soon. What gives the class more variety: crops, colours, a vote of networks with other seeds?",
        "Boxes are there too, and of no cost to you: a third task.",
    ),
    reference=make_classifier,
    computed=True,
)
