"""Exercises of notebook 07, multi-task learning."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import roi_align

from utils import datasets
from utils.exercises import share_right
from utils.lessons import Exercise
from utils.models import num_parameters

# ---- 1. mirror boxes -------------------------------------------------------------------------------------------------


def mirror_boxes(boxes, width):
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    return torch.stack([width - x2, y1, width - x1, y2], dim=1)


def _check_mirror_boxes(mirror_boxes):
    boxes = torch.tensor([[10.0, 5.0, 30.0, 25.0], [0.0, 40.0, 64.0, 60.0], [50.0, 1.0, 60.0, 9.0]])
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    result = mirror_boxes(boxes.clone(), 64)
    assert isinstance(result, torch.Tensor) and result.shape == (3, 4), (
        "Expected a tensor of 3 boxes, (3, 4); "
        f"{f'shape {tuple(result.shape)}' if isinstance(result, torch.Tensor) else type(result).__name__} came. "
        "torch.stack(columns, dim=1) puts columns side by side."
    )
    assert not torch.equal(result, boxes), "The boxes have not moved."
    assert not torch.equal(result, torch.stack([64 - x1, y1, 64 - x2, y2], dim=1)), (
        "Your boxes have their right side on the left: x1 must stay the smaller one. "
        "What was the right side is the left side now."
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
        "Expected one number, a tensor of shape (); "
        f"{f'shape {tuple(result.shape)}' if isinstance(result, torch.Tensor) else type(result).__name__} came."
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
        "Only the first of five pictures was known, with a loss of 1, and that is the mean too. "
        "Is `known` used, or only whether a number is NaN?"
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
        "Expected the total, one number; "
        f"{f'shape {tuple(result.shape)}' if isinstance(result, torch.Tensor) else type(result).__name__} came. "
        "Is the sum over the tasks taken?"
    )

    def like(other):
        return torch.allclose(result, other, rtol=1e-4)

    weighted = torch.exp(-s) * losses
    assert not like(weighted.sum()), (
        "The part s / 2 is missing. Without it the best s is infinite: "
        "all weights go to zero, and the network learns nothing."
    )
    assert not like((torch.exp(s) * losses + s / 2).sum()), (
        "The sign: a large variance must make the weight small, exp(-s)."
    )
    assert not like((weighted + s).sum()), (
        "The second part is half of s, since s is the logarithm of the variance: log(sigma) = s / 2."
    )
    assert not like((losses / s + s / 2).sum()), "s is the logarithm of the variance; the variance itself is exp(s)."
    assert like((weighted + s / 2).sum()), (
        f"Expected {(weighted + s / 2).sum().item():.3f}, the sum of exp(-s) L + s / 2 over the tasks; "
        f"{result.item():.3f} came."
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
        "Expected one length for each of 2 losses, a tensor (2,); "
        f"{f'shape {tuple(result.shape)}' if isinstance(result, torch.Tensor) else type(result).__name__} came."
    )
    assert all(parameter.grad is None for parameter in shared), (
        "The parameters' .grad has changed: backward() adds to it, and the next training step would use it. "
        "Use torch.autograd.grad(loss, shared, retain_graph=True)."
    )
    of_parts = torch.stack([sum(g.norm() for g in of_task) for of_task in gradients])
    assert not torch.allclose(result, of_parts, rtol=1e-4), (
        "You have added the lengths of the parts. The length of the whole: "
        "put all parts into one long vector (flatten, torch.cat), then .norm()."
    )
    assert not torch.allclose(result, expected.square(), rtol=1e-4), "These are squared lengths: the root is missing."
    last = torch.stack([of_task[-1].norm() for of_task in gradients])
    first = torch.stack([of_task[0].norm() for of_task in gradients])
    assert not (torch.allclose(result, last, rtol=1e-4) or torch.allclose(result, first, rtol=1e-4)), (
        "This is the length for one of the shared tensors. Take all of `shared`: weights and biases."
    )
    assert torch.allclose(result, expected, rtol=1e-4), (
        f"Expected {[round(x, 4) for x in expected.tolist()]}, {[round(x, 4) for x in result.tolist()]} came. "
        "Is it the gradient in the shared parameters, for each loss by itself?"
    )
    return f"The second loss pulls {(expected[1] / expected[0]).item():.0f} times as hard as the first."


gradient_lengths = Exercise(
    "Lengths of gradients",
    test=_check_gradient_lengths,
    hints=(
        "torch.autograd.grad(loss, shared) gives a tensor for each shared parameter, and leaves .grad alone.",
        "The second loss needs the graph too: retain_graph=True.",
        "torch.cat([gradient.flatten() for gradient in gradients]).norm() is the length of the whole; "
        "torch.stack the two lengths.",
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
        f"The encoder ran {len(calls)} times for one call. Run it once, before the loop over the heads: "
        "that is what sharing saves."
    )
    for task, head in heads.items():
        assert torch.allclose(outputs[task], head(encoder(images))), (
            f"The answer to {task!r} is not head(encoder(images))."
        )
    named = num_parameters(network)
    wanted = sum(map(num_parameters, (encoder, *heads.values())))
    assert named == wanted, (
        f"network.parameters() gives {named} numbers, and encoder and heads have {wanted}: "
        "an optimizer would miss the rest. A plain dict hides its modules; nn.ModuleDict shows them."
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

# The share of right answers that counts as good: more than section 7's three tasks reach, and less than the reference.
# Of photos few are left to learn from and to test.
LAB_GOOD = {"critters": 0.75, "photos": 0.6}


def _encoder():
    channels, layers = [3, 16, 32, 64, 64], []
    for number in range(4):
        convolution = nn.Conv2d(
            channels[number], channels[number + 1], 3, 2 if number == 0 else 1, padding=1, bias=False
        )
        layers += [convolution, nn.BatchNorm2d(channels[number + 1]), nn.ReLU()] + [nn.MaxPool2d(2)] * (number > 0)
    return nn.Sequential(*layers)


def _train(network, loss_of_batch, steps):
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of_batch(network).backward()
        optimizer.step()
        scheduler.step()
    return network.eval()


def _heads(images, boxes, jitter=0.0):
    """The square around each box (shares of the side), 1.3 times its size, as a picture of 32 x 32."""
    boxes = 64 * boxes
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, 0.65 * (boxes[:, 2:] - boxes[:, :2]).amax(dim=1, keepdim=True)
    centre = centre + jitter * half * (2 * torch.rand_like(centre) - 1)
    half = half * (1 + jitter * (2 * torch.rand_like(half) - 1))
    squares = torch.cat([centre - half, centre + half], dim=1)
    return roi_align(images, list(squares[:, None]), output_size=32, aligned=True)


@cache
def make_classifier():
    """Where many labels are, learn where the head is; look at the head only, and 60 labels go further."""
    torch.manual_seed(0)
    pool = datasets.pets(num_train=1200, num_val=200, num_test=1000, size=64).train
    pictures = pool.subset(min(600, len(pool)))
    images, boxes, labels = (
        pictures.images.float() / 64 - 2,
        pictures.targets["box"] / 64,
        pictures.targets["label"][:60],
    )
    boxed, both = boxes.isfinite().all(dim=1).nonzero()[:, 0], boxes[:60].isfinite().all(dim=1).nonzero()[:, 0]

    def box_loss(network):
        rows = boxed[torch.randint(len(boxed), (32,))]
        mirror = torch.rand(32) < 0.5
        batch = torch.where(mirror[:, None, None, None], images[rows].flip(3), images[rows])
        x1, y1, x2, y2 = boxes[rows].unbind(dim=1)
        truth = torch.where(mirror[:, None], torch.stack([1 - x2, y1, 1 - x1, y2], dim=1), boxes[rows])
        return F.smooth_l1_loss(20 * network(batch), 20 * truth)

    def label_loss(network):
        rows = both[torch.randint(len(both), (16,))]
        batch = _heads(images[rows], boxes[rows], jitter=0.2)
        mirror = (torch.rand(16) < 0.5)[:, None, None, None]
        return F.cross_entropy(network(torch.where(mirror, batch.flip(3), batch)), labels[rows])

    finder = nn.Sequential(_encoder(), nn.Flatten(), nn.Linear(1024, 64), nn.ReLU(), nn.Linear(64, 4), nn.Sigmoid())
    finder = _train(finder, box_loss, steps=300)
    voters = [nn.Sequential(_encoder(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 2)) for _ in range(3)]
    voters = [_train(voter, label_loss, steps=300) for voter in voters]

    @torch.no_grad()
    def classify(images):
        images = images.float() / 64 - 2
        heads = _heads(images, finder(images))
        return sum(voter(heads).softmax(dim=1) for voter in voters).argmax(dim=1)

    return classify


def _check_lab(classify):
    test_set = datasets.pets(num_train=1200, num_val=200, num_test=1000, size=64).test
    (share, score), good = share_right(classify, test_set), LAB_GOOD[test_set.source]
    always = max(test_set.counts().values()) / len(test_set)
    assert share >= good, (
        f"{score}; always the same answer gives {always:.0%}, and {good:.0%} counts as good. "
        "What else do masks and boxes tell you?"
    )
    return f"{score}; {good:.0%} counts as good."


lab = Exercise(
    "Lab: the best classifier from 60 labels and 600 masks",
    test=_check_lab,
    hints=(
        "Begin with Network(['label', 'mask']), Uncertainty weights and lab_data. What does it score on val_set?",
        "Boxes are there too, and of no cost to you: a third task.",
        "Where on the animal do you look, to tell a cat from a dog? "
        "A network with 600 boxes to learn from can find that place. Cut it out "
        "(torchvision.ops.roi_align), and let a second network learn the 60 labels from it.",
    ),
    reference=make_classifier,
    computed=True,
)
