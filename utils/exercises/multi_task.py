"""Exercises of notebook 07, multi-task learning."""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import roi_align

from utils import datasets
from utils.exercises import came as _came
from utils.exercises import not_used, number, pair, share_right, unseen
from utils.lessons import Exercise
from utils.models import num_parameters


class _Counted(nn.Linear):
    """A linear layer that writes its name into a list whenever it runs, by a call or by forward()."""

    runs, name = None, ""

    def counting(self, runs: list, name: str):
        self.runs, self.name = _Runs(runs), name
        return self

    def forward(self, x):
        self.runs.list.append(self.name)
        return super().forward(x)


class _Runs:
    """Keeps one list for a layer and its copies."""

    def __init__(self, runs: list):
        self.list = runs

    def __deepcopy__(self, memo):
        return self


# ---- 1. mirror boxes -------------------------------------------------------------------------------------------------


def mirror_boxes(boxes, width):
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    return torch.stack([width - x2, y1, width - x1, y2], dim=1)


def _check_mirror_boxes(mirror_boxes):
    not_used(
        mirror_boxes, "v2", "transforms", "horizontal_flip", "horizontal_flip_bounding_boxes", "RandomHorizontalFlip"
    )
    boxes = torch.tensor([[10.0, 5.0, 30.0, 25.0], [0.0, 40.0, 64.0, 60.0], [50.0, 1.0, 60.0, 9.0]])
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    result = mirror_boxes(boxes.clone(), 64)
    assert isinstance(result, torch.Tensor) and result.shape == (3, 4), (
        "Expected a tensor of 3 boxes, (3, 4); "
        f"{_came(result)} came. "
        "torch.stack(columns, dim=1) puts columns side by side."
    )
    result = result.to(boxes.dtype)
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
    wide = mirror_boxes(boxes.repeat(2, 1), 100)
    assert wide.shape == (6, 4), f"With six boxes instead of three, expected (6, 4); {_came(wide)} came."
    assert torch.allclose(wide.to(boxes.dtype), torch.stack([100 - x2, y1, 100 - x1, y2], dim=1).repeat(2, 1)), (
        "A picture 100 pixels wide is mirrored like one of 64. Use width."
    )
    return "Mirrored twice, a box is where it was."


mirror_boxes = Exercise(
    "Mirror boxes",
    test=_check_mirror_boxes,
    hints=(
        "A point at x moves to width - x. Draw a box on paper and mirror it: which corner is on the left now?",
        "The new x1 comes from the old x2: width - x2. And the new x2 from the old x1.",
        "x1, y1, x2, y2 = boxes.unbind(dim=1), and then torch.stack([...], dim=1) of the four new columns.",
    ),
    reference=mirror_boxes,
)

# ---- 2. only what is asked -------------------------------------------------------------------------------------------


def ask(network, images, tasks):
    features = network.encoder(images)
    return {task: network.heads[task](features) for task in tasks}


class _Tiny(nn.Module):
    """An encoder and heads that count how often they run."""

    def __init__(self, heads):
        super().__init__()
        self.encoder, self.heads, self.runs = _Counted(6, 5), nn.ModuleDict(heads), []
        for name, part in [("encoder", self.encoder), *self.heads.items()]:
            part.counting(self.runs, name)

    def forward(self, images):
        features = self.encoder(images)
        return {task: head(features) for task, head in self.heads.items()}


def _check_ask(ask):
    torch.manual_seed(0)
    network = _Tiny({"age": _Counted(5, 1), "mood": _Counted(5, 4), "size": _Counted(5, 2)})
    images = torch.randn(3, 6)
    for tasks in (["mood", "age"], ["size"]):
        expected = network(images)
        network.runs.clear()
        outputs, runs = ask(network, images, list(tasks)), list(network.runs)
        assert isinstance(outputs, dict), f"Expected a dict, task: answer; {_came(outputs)} came."
        assert not (more := set(runs) - {"encoder", *tasks}), (
            f"{' and '.join(sorted(more))} was not asked for, and its head ran all the same. "
            "network(images) runs every head: call network.encoder and the heads yourself."
        )
        assert set(outputs) == set(tasks), f"Asked for {tasks}; the dict has {sorted(outputs)}."
        assert runs.count("encoder") == 1, (
            f"The encoder ran {runs.count('encoder')} times for one call. Run it once, before the loop over the tasks."
        )
        for task in tasks:
            same_shape = isinstance(outputs[task], torch.Tensor) and outputs[task].shape == expected[task].shape
            assert same_shape and torch.allclose(outputs[task], expected[task]), (
                f"The answer to {task!r} is not what its head gives for the encoder's features."
            )
    return "The encoder's work is shared, and only what is asked for is done."


ask = Exercise(
    "Only what is asked",
    test=_check_ask,
    hints=(
        "features = network.encoder(images), once. Then a loop over the tasks that were asked for.",
        "network.heads[task](features) is one answer.",
        "return {task: network.heads[task](features) for task in tasks}",
    ),
    reference=ask,
)

# ---- 3. a masked loss ------------------------------------------------------------------------------------------------


def masked_loss(loss_fn, outputs, targets):
    known = targets.flatten(start_dim=1).isfinite().all(dim=1)
    return loss_fn(outputs[known], targets[known]) if known.any() else 0 * outputs.sum()


def _check_masked_loss(masked_loss):
    x = torch.tensor([[1.0, 0.5], [2.0, -1.0], [0.0, 1.0], [3.0, 2.0], [1.0, 1.0]])
    nan = torch.nan
    targets = torch.tensor([[1.0, 2.0, 0.0], [nan, nan, nan], [0.0, -1.0, 2.0], [2.0, nan, 1.0], [1.0, 0.0, 1.0]])
    known = torch.tensor([True, False, True, False, True])

    def run(loss_fn, targets, x=x):
        """(loss, gradient of a weight) with this answer; a small network stands before the loss."""
        weight = torch.tensor([[0.3, -0.2, 0.5], [0.1, 0.4, -0.3]], requires_grad=True)
        outputs = (x @ weight).reshape(targets.shape)
        loss = masked_loss(loss_fn, outputs, targets.clone())
        one = isinstance(loss, torch.Tensor) and loss.numel() == 1
        assert one, f"Expected one number, a tensor of shape (); {_came(loss)} came."
        loss = loss.reshape(())
        assert loss.requires_grad, (
            "The loss has lost its graph, so nothing can be learned from it. No .item() and no torch.tensor(...)."
        )
        (gradient,) = torch.autograd.grad(loss, weight, allow_unused=True)
        return loss.detach(), torch.zeros(2, 3) if gradient is None else gradient

    for loss_fn in (F.mse_loss, F.smooth_l1_loss):
        loss, gradient = run(loss_fn, targets)
        wanted, right = _by_hand(loss_fn, x, targets, known)
        assert not loss.isnan(), "The loss is NaN: rows with NaN in them have reached the loss."
        assert not gradient.isnan().any(), (
            f"The loss is {loss:.3f}, and the gradient of the weight is NaN: it went through loss_fn with the NaN in "
            "it, and 0 x NaN is NaN. Take the known rows of outputs and targets before the loss."
        )
        assert not torch.isclose(loss, wanted * 3 / 5), (
            "You have divided by the number of all rows. Where rows were filled in rather than left out, they count "
            "in the mean."
        )
        assert torch.isclose(loss, wanted, atol=1e-5), (
            f"The loss is {loss:.4f}; {wanted:.4f} is the mean over the three rows without any NaN. "
            "A row counts as known only if all of it is there."
        )
        assert torch.allclose(gradient, right, atol=1e-5), "The loss is right, but not the gradient of the weight."
    loss, gradient = run(F.mse_loss, torch.full((5, 3), nan))
    assert loss == 0 and gradient.eq(0).all(), (
        f"Where no row is known, expected the loss 0 and a gradient of 0; {loss} came. The mean of nothing is NaN: "
        "0 * outputs.sum() is 0, and keeps the graph."
    )
    pictures = targets[:, None].repeat(1, 2, 1)  # (N, 2, 3), as masks have it; of rows 1 and 3 one half is known
    pictures[[1, 3], 1] = 7.0
    loss, _ = run(F.mse_loss, pictures, x=x.repeat_interleave(2, dim=0))
    assert torch.isclose(loss, _by_hand(F.mse_loss, x, targets, known)[0], atol=1e-5), (
        f"With targets (N, 2, 3), as masks have them, the loss is {loss:.4f}. A picture counts as known only if all of "
        "it is there: look along all dimensions but the first, flatten(start_dim=1)."
    )
    return "Loss and gradient are right, also for a batch in which nothing is known."


def _by_hand(loss_fn: Callable, x, targets, known):
    weight = torch.tensor([[0.3, -0.2, 0.5], [0.1, 0.4, -0.3]], requires_grad=True)
    loss = loss_fn((x @ weight)[known], targets[known])
    return loss.detach(), torch.autograd.grad(loss, weight)[0]


masked_loss = Exercise(
    "A masked loss",
    test=_check_masked_loss,
    hints=(
        "Which rows are known? targets.flatten(start_dim=1).isfinite().all(dim=1) says it, (N,).",
        "loss_fn(outputs[known], targets[known]): what was left out before the loss has no gradient.",
        "And if known.any() is false: return 0 * outputs.sum().",
    ),
    reference=masked_loss,
)

# ---- 4. ask twice ----------------------------------------------------------------------------------------------------


def ask_twice(network, images):
    first, second = network(images), network(images.flip(3))
    return {
        "label": (first["label"] + second["label"]) / 2,
        "mask": (first["mask"] + second["mask"].flip(2)) / 2,
    }


class _LabelAndMask(nn.Module):
    def __init__(self):
        super().__init__()
        self.pixels, self.classes = nn.Conv2d(3, 1, 3, padding=1), nn.Linear(3 * 6 * 8, 2)

    def forward(self, images):
        return {"label": self.classes(images.flatten(1)), "mask": self.pixels(images)[:, 0]}


def _check_ask_twice(ask_twice):
    torch.manual_seed(0)
    network, images = _LabelAndMask(), torch.randn(4, 3, 6, 8)
    with torch.no_grad():
        outputs, first, second = ask_twice(network, images.clone()), network(images), network(images.flip(3))
        assert isinstance(outputs, dict) and set(outputs) >= {"label", "mask"}, (
            "Expected a dict with 'label' and 'mask'; "
            f"{f'the keys {sorted(outputs)}' if isinstance(outputs, dict) else _came(outputs)} came."
        )
        label, mask = outputs["label"], outputs["mask"]
        assert isinstance(label, torch.Tensor) and isinstance(mask, torch.Tensor), (
            f"Expected a tensor for 'label' and for 'mask'; {_came(label)} and {_came(mask)} came."
        )
        label, mask = label.float(), mask.float()
        assert label.shape == (4, 2) and mask.shape == (4, 6, 8), (
            f"Expected the shapes (4, 2) and (4, 6, 8); {tuple(label.shape)} and {tuple(mask.shape)} came."
        )
        assert not torch.allclose(label, first["label"]), "The label is that of the first answer alone."
        assert not torch.allclose(label, first["label"] + second["label"]), "A sum came. Divide by 2: a mean is asked."
        upside = (first["label"] + network(images.flip(2))["label"]) / 2
        assert not torch.allclose(label, upside), (
            "You have turned the pictures upside down. images are (N, C, H, W): left and right is the last axis, 3."
        )
        assert torch.allclose(label, (first["label"] + second["label"]) / 2, atol=1e-5), (
            "The label is not the mean of the logits of images and of images.flip(3)."
        )
        assert not torch.allclose(mask, (first["mask"] + second["mask"]) / 2), (
            "The second mask is that of the mirror image: mirror it back before you take the mean. It is (N, H, W)."
        )
        assert not torch.allclose(mask, (first["mask"] + second["mask"].flip(1)) / 2), (
            "You have turned the second mask upside down. It is (N, H, W): left and right is axis 2."
        )
        assert torch.allclose(mask, (first["mask"] + second["mask"].flip(2)) / 2, atol=1e-5), (
            "The mask is not the mean of the first mask and the second one, mirrored back."
        )
    return "It costs a second pass, but no training."


ask_twice = Exercise(
    "Ask twice",
    test=_check_ask_twice,
    hints=(
        "images.flip(3) are the mirror images. Ask the network about both.",
        "The second mask is where the mirrored animal is. Mirror it back: .flip(2), since a mask is (N, H, W).",
        "The label has no position, so its logits can be averaged as they are.",
    ),
    reference=ask_twice,
)

# ---- 5. equal pull ---------------------------------------------------------------------------------------------------


def equal_pull(loss_a, loss_b, shared):
    def length(loss):
        gradients = torch.autograd.grad(loss, shared, retain_graph=True)
        return torch.cat([gradient.flatten() for gradient in gradients]).norm()

    return length(loss_a) / length(loss_b)


def _check_equal_pull(equal_pull):
    torch.manual_seed(0)
    encoder, heads = nn.Sequential(nn.Linear(6, 5), nn.Tanh()), [nn.Linear(5, 2), nn.Linear(5, 3)]
    shared, features = list(encoder.parameters()), encoder(torch.randn(8, 6))
    loss_a, loss_b = heads[0](features).square().mean(), 30 * heads[1](features)[:2].sum(dim=1).square().mean()
    gradients = [torch.autograd.grad(loss, shared, retain_graph=True) for loss in (loss_a, loss_b)]
    a, b = (torch.cat([g.flatten() for g in of_loss]).norm().item() for of_loss in gradients)
    parameters = [*shared, *(parameter for head in heads for parameter in head.parameters())]
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 0.5)  # of the step before
    w = number(equal_pull(loss_a, loss_b, shared))
    untouched = [parameter.grad is not None and parameter.grad.eq(0.5).all() for parameter in parameters]
    assert all(untouched), (
        "A .grad has changed, of the shared parameters or of the heads: backward() adds to it. "
        "Use torch.autograd.grad(loss, shared, retain_graph=True)."
    )
    parts = [[g.norm().item() for g in of_loss] for of_loss in gradients]

    def close(other):
        return abs(w - other) < 1e-3 * abs(other)

    assert not close(b / a), "The other way round: it is loss_b that is multiplied by w."
    assert not close(loss_a.item() / loss_b.item()), (
        "This makes the losses equal, not the lengths of their gradients in the shared parameters."
    )
    assert not close(sum(parts[0]) / sum(parts[1])), (
        "You have added the lengths of the parts. The length of the whole: "
        "put all parts into one long vector (flatten, torch.cat), then .norm()."
    )
    assert not close((a / b) ** 2), "These are squared lengths: the root is missing."
    assert not any(close(x / y) for x, y in zip(*parts, strict=True)), (
        "This is right for one of the shared tensors. Take all of `shared`: weights and biases."
    )
    assert close(a / b), f"The lengths are {a:.4f} and {b:.4f}, so w is {a / b:.5f}; {w:.5f} came."
    return f"Unweighted, the second loss pulls {b / a:.0f} times as hard as the first."


equal_pull = Exercise(
    "Equal pull",
    test=_check_equal_pull,
    hints=(
        "The gradient of w times a loss is w times its gradient, and so is its length.",
        "So w is one length divided by the other. gradient_length(loss, shared) gives a length.",
        "return gradient_length(loss_a, shared) / gradient_length(loss_b, shared)",
    ),
    reference=equal_pull,
)

# ---- 6. a gain, seed by seed -----------------------------------------------------------------------------------------


def paired_gain(ours, theirs):
    gains = ours - theirs
    return gains.mean(), gains.std(ddof=1)


def _check_paired_gain(paired_gain):
    theirs = np.array([0.61, 0.74, 0.69, 0.80, 0.66])
    ours = theirs + np.array([0.03, 0.02, 0.04, 0.03, 0.01])
    gains = ours - theirs

    def run(ours, theirs):
        result = pair(paired_gain(ours.copy(), theirs.copy()), "two numbers, the mean gain and its standard deviation")
        return [number(value, "one number each") for value in result]

    mean, deviation = run(ours, theirs)
    assert abs(mean + gains.mean()) > 1e-6, "The sign: a gain is ours minus theirs."
    assert abs(mean - gains.mean()) < 1e-6, f"The mean gain is {gains.mean():.4f}; {mean:.4f} came."
    a, b = ours.std(ddof=1), theirs.std(ddof=1)
    seeds_in = {np.hypot(a, b), a + b, abs(a - b), a, b, ours.std(), theirs.std(), np.hypot(ours.std(), theirs.std())}
    assert not any(abs(deviation - other) < 1e-6 for other in seeds_in), (
        f"{deviation:.4f} is made of how far the seeds lie apart. Both ways share each seed: "
        "take the differences first, seed by seed, and then their standard deviation."
    )
    assert abs(deviation - gains.std()) > 1e-6, "Divided by n. Of a sample one divides by n - 1: .std(ddof=1)."
    assert abs(deviation - gains.std(ddof=1) / 5**0.5) > 1e-6, (
        "This is the standard error of the mean, the deviation divided by the root of 5. Return the deviation."
    )
    assert abs(deviation - gains.std(ddof=1)) < 1e-6, (
        f"The standard deviation of the gains is {gains.std(ddof=1):.4f}; {deviation:.4f} came."
    )
    three = run(ours[:3], theirs[:3])
    assert np.allclose(three, [gains[:3].mean(), gains[:3].std(ddof=1)], atol=1e-6), (
        "Right for five seeds, and not for three. Is a 5 or a 4 written in your code?"
    )
    return f"Between seeds, accuracy differs by {b:.3f}, but the gain by only {deviation:.3f}."


paired_gain = Exercise(
    "A gain, seed by seed",
    test=_check_paired_gain,
    hints=(
        "Some seeds are hard for both ways. What is left when you subtract seed by seed?",
        "gains = ours - theirs; then its mean and its standard deviation.",
        "return gains.mean(), gains.std(ddof=1)",
    ),
    reference=paired_gain,
)

# ---- 7. uncertainty weights ------------------------------------------------------------------------------------------


def uncertainty_loss(losses, log_variances):
    return (torch.exp(-log_variances) * losses + log_variances / 2).sum()


def _check_uncertainty_loss(uncertainty_loss):
    losses = torch.tensor([0.7, 0.2, 300.0], requires_grad=True)
    s = torch.tensor([0.3, -1.0, 5.0], requires_grad=True)
    result = uncertainty_loss(losses, s)
    assert isinstance(result, torch.Tensor) and result.numel() == 1, (
        "Expected the total, one number; "
        f"{f'shape {tuple(result.shape)}' if isinstance(result, torch.Tensor) else type(result).__name__} came. "
        "Is the sum over the tasks taken?"
    )

    result = result.float().reshape(())

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
    found = torch.autograd.grad(result, (losses, s), allow_unused=True)
    wanted = torch.autograd.grad((weighted + s / 2).sum(), (losses, s))
    for what, gradient, right in zip(("losses", "log-variances"), found, wanted, strict=True):
        assert gradient is not None and torch.allclose(gradient, right, rtol=1e-4), (
            f"The total is right, and the gradient of the {what} is not: it was cut off on the way. "
            "No .item(), .detach() or torch.tensor(...)."
        )
    six = uncertainty_loss(losses.repeat(2), s.repeat(2))
    assert torch.isclose(six.float(), 2 * (weighted + s / 2).sum(), rtol=1e-4).all(), (
        "Right for three tasks, and not for six: work with the whole tensors, not with their elements one by one."
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

# ---- 8. one encoder, many heads --------------------------------------------------------------------------------------


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
    calls, images = [], torch.randn(3, 6)
    encoder = _Counted(6, 5).counting(calls, "encoder")
    heads = {"age": nn.Linear(5, 1), "mood": nn.Linear(5, 4), "size": nn.Linear(5, 2)}
    network = shared_network(encoder, dict(heads))
    assert isinstance(network, nn.Module), (
        f"Expected an nn.Module; a {type(network).__name__} came. (Return an object, not its class.)"
    )
    assert type(network).forward is not nn.Module.forward or "forward" in vars(network), (
        f"A {type(network).__name__} has no forward. Write a class with one."
    )
    calls.clear()
    outputs = network(images)
    num_calls = len(calls)
    assert isinstance(outputs, dict) and set(outputs) == set(heads), (
        f"Expected a dict with an answer to each of age, mood and size; "
        f"{f'the keys {sorted(outputs)}' if isinstance(outputs, dict) else f'a {type(outputs).__name__}'} came."
    )
    assert num_calls == 1, (
        f"The encoder ran {num_calls} times for one call. Run it once, before the loop over the heads: "
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
    total = sum(output.sum() for output in outputs.values())
    gradients = (
        torch.autograd.grad(total, list(network.parameters()), allow_unused=True) if total.requires_grad else [None]
    )
    assert all(gradient is not None for gradient in gradients), (
        "No gradient comes back to all parameters, so they cannot learn: no detach() and no no_grad in forward."
    )
    other = shared_network(_Counted(6, 5).counting(calls, "encoder"), {"breed": nn.Linear(5, 7)})(images)
    assert isinstance(other, dict) and set(other) == {"breed"}, (
        "With one head, breed, instead of three, its answer was expected. Loop over `heads`, whatever their names."
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

# The share of right answers that counts as good: more than three tasks at once reach, and less than the reference.
# Of photos few are left to learn from and to test.
LAB_GOOD = {"critters": 0.75, "photos": 0.6}


def _encoder():
    channels, layers = [3, 16, 32, 64, 64], []
    for layer in range(4):
        convolution = nn.Conv2d(channels[layer], channels[layer + 1], 3, 2 if layer == 0 else 1, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(channels[layer + 1]), nn.ReLU()] + [nn.MaxPool2d(2)] * (layer > 0)
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
    (share, score), good = share_right(classify, unseen(test_set)), LAB_GOOD[test_set.source]
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
        "Begin with learn(['label', 'box'], lab_data, seed). What does it score on val_set?",
        "Is it better to learn box and mask first, and then the class from that encoder? And for how many steps?",
        "Where on the animal do you look, to tell a cat from a dog? "
        "A network with 600 boxes to learn from can find that place. Cut it out "
        "(torchvision.ops.roi_align), and let a second network learn the 60 labels from it.",
    ),
    reference=make_classifier,
    computed=True,
)
