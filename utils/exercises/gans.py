"""Exercises of notebook 09, generative adversarial networks."""

import copy
import time
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from utils.exercises import came as _came
from utils.exercises import digits, not_used, one_thread, pair, tensor
from utils.lessons import Exercise


def _number(value, what: str) -> torch.Tensor:
    """One number, Python's, NumPy's or torch's, as a tensor; AssertionError with a sentence for something else."""
    size = getattr(value, "shape", None)
    assert isinstance(value, (int, float)) or size is not None and np.prod(size) == 1, (
        f"Expected {what} as one number; "
        f"{type(value).__name__ if size is None else f'a tensor of shape {tuple(size)}'} came. Is the mean missing?"
    )
    return torch.as_tensor(value, dtype=torch.float32).reshape(())


# ---- 1. the discriminator's loss, smoothed ---------------------------------------------------------------------------


def smooth_discriminator_loss(real_logits, fake_logits, smooth=0.0):
    real_targets = torch.full_like(real_logits, 1 - smooth)
    fake_targets = torch.zeros_like(fake_logits)
    real_loss = F.binary_cross_entropy_with_logits(real_logits, real_targets)
    return real_loss + F.binary_cross_entropy_with_logits(fake_logits, fake_targets)


def _check_smooth_discriminator_loss(loss):
    generator = torch.Generator().manual_seed(0)
    real, fake = 2 * torch.randn(40, 1, generator=generator) + 1, 2 * torch.randn(24, 1, generator=generator) - 0.5
    inputs = real.clone().requires_grad_(), fake.clone().requires_grad_()
    result = loss(*inputs)
    came = _number(result, "the loss").detach()
    real_loss, fake_loss = F.softplus(-real), F.softplus(fake)
    right = real_loss.mean() + fake_loss.mean()

    def is_(value):
        return torch.isclose(came, value, atol=1e-4)

    assert not is_(F.softplus(real).mean() + F.softplus(-fake).mean()), (
        "The targets are swapped: this rewards calling reals fake. Ones for the reals, zeros for the fakes."
    )
    assert not is_(right / 2), "This is half of it: the two means are added, and not averaged."
    assert not is_(torch.cat([real_loss, fake_loss]).mean()), (
        "This is one mean over reals and fakes together. Each kind has a mean of its own, and they are added."
    )
    assert not is_(real_loss.sum() + fake_loss.sum()), "These are sums; take the means."
    assert not is_(real_loss.mean()) and not is_(fake_loss.mean()), (
        "Only one half is there: reals and fakes both count."
    )
    twice = [
        F.binary_cross_entropy_with_logits(torch.sigmoid(x), torch.full_like(x, target))
        for x, target in ((real, 1.0), (fake, 0.0))
    ]
    assert not is_(sum(twice)), (
        "A sigmoid too many: binary_cross_entropy_with_logits takes the logits as they are, and applies it itself."
    )
    swapped = [
        F.binary_cross_entropy_with_logits(torch.full_like(x, target), x) for x, target in ((real, 1.0), (fake, 0.0))
    ]
    assert not is_(sum(swapped)), "The arguments are swapped: the logits come first, and the targets second."
    assert is_(right), f"Without smoothing, expected {right:.4f} (that of discriminator_loss); {came:.4f} came."
    graph = isinstance(result, torch.Tensor) and result.requires_grad
    gradients = torch.autograd.grad(result.sum(), inputs, allow_unused=True) if graph else [None]
    assert all(gradient is not None and gradient.ne(0).any() for gradient in gradients), (
        "The number is right, and no gradient comes back to both logits, so D cannot learn: "
        "no .item(), detach() or no_grad."
    )
    came = _number(loss(real.clone(), fake.clone(), smooth=0.1), "the loss")
    smoothed = real_loss.mean() + 0.1 * real.mean()  # (1 - s) softplus(-a) + s softplus(a)
    assert not is_(right), "smooth = 0.1 changes nothing: the targets of the reals should be 0.9."
    assert not is_(smoothed + fake_loss.mean() - 0.1 * fake.mean()), (
        "One-sided: only the reals' targets are smoothed. Fakes stay at 0, or D would reward them where they are."
    )
    assert not is_(0.9 * real_loss.mean() + fake_loss.mean()), (
        "You weigh the reals' loss with 0.9. The target itself becomes 0.9: what is missing to 1 counts as fake."
    )
    assert not is_(real_loss.mean() + 0.9 * real.mean() + fake_loss.mean()), (
        "The targets are smooth; they should be 1 - smooth."
    )
    assert is_(smoothed + fake_loss.mean()), (
        f"With smooth = 0.1, expected {smoothed + fake_loss.mean():.4f}; {came:.4f} came."
    )
    return "With targets of 0.9 the best D says at most 0.9, so its logits stay small, and G keeps a gradient."


smooth_discriminator_loss = Exercise(
    "The discriminator's loss, smoothed",
    test=_check_smooth_discriminator_loss,
    hints=(
        "F.binary_cross_entropy_with_logits(logits, targets) wants targets of the same shape, "
        "and takes the mean by itself.",
        "torch.full_like(real_logits, 1 - smooth) and torch.zeros_like(fake_logits) are the targets.",
        "Add the loss of the reals and that of the fakes.",
    ),
    reference=smooth_discriminator_loss,
)

# ---- 3. both slopes --------------------------------------------------------------------------------------------------


def slopes(a):
    return -torch.sigmoid(a), -torch.sigmoid(-a)


def _short(values: torch.Tensor) -> list:
    return [round(value, 3) for value in values.tolist()]


def _check_slopes(slopes):
    a = torch.tensor([-6.0, -1.0, 0.0, 2.0, 5.0])
    came = slopes(a.clone())
    assert isinstance(came, (tuple, list, torch.Tensor)) and len(came) == 2, (
        f"Return two tensors, that of minimax first; {_came(came)} came."
    )
    told = "two tensors. One slope for each logit: each"
    came = [tensor(value, told, a.shape).detach().float() for value in pair(came, told)]
    right = -torch.sigmoid(a), -torch.sigmoid(-a)

    def is_(*values):
        return all(torch.allclose(x, y, atol=1e-5) for x, y in zip(came, values, strict=True))

    assert not is_(-right[0], -right[1]), (
        "The signs are missing: both losses fall as the logit grows, so both slopes are negative."
    )
    assert not is_(right[1], right[0]), "The two are swapped: minimax comes first, and its slope is -sigmoid(a)."
    losses = [value.detach() for value in (-F.softplus(a), F.softplus(-a))]
    assert not is_(*losses), "These are the losses themselves. Asked for are their slopes."
    assert not is_(right[0] / len(a), right[1] / len(a)), (
        "These are divided by the number of logits: the slope of each, without the mean."
    )
    for name, value, expected in zip(("minimax", "the non-saturating loss"), came, right, strict=True):
        assert torch.allclose(value, expected, atol=1e-5), (
            f"Of {name}, at the logits {a.tolist()}: expected {_short(expected)}; {_short(value)} came."
        )
    return "At a logit of -6, where D is sure of a fake, the slope of minimax is -0.002, the other one nearly -1."


slopes = Exercise(
    "Both slopes",
    test=_check_slopes,
    hints=(
        "You need only torch.sigmoid(a), twice.",
        "The table has both: -sigmoid(a) for minimax, -(1 - sigmoid(a)) for the other. Return them in this order.",
    ),
    reference=slopes,
)

# ---- 5. how many classes ---------------------------------------------------------------------------------------------


def effective_classes(logits):
    answers = logits.argmax(dim=1)
    shares = answers.bincount(minlength=logits.shape[1]) / len(answers)
    shares = shares[shares > 0]
    return (-(shares * shares.log()).sum()).exp().item()


def _effective(shares: torch.Tensor) -> float:
    return torch.special.entr(shares).sum().exp().item()


def _check_effective_classes(effective_classes):
    few = F.one_hot(torch.tensor([0] * 6 + [2] * 3 + [3] * 1), 5).float() * 4 - torch.rand(
        10, 5, generator=torch.Generator().manual_seed(0)
    )
    shares = torch.tensor([0.6, 0.3, 0.1])
    right = _effective(shares)
    came = _number(effective_classes(few.clone()), "the effective number").item()

    def is_(value):
        return abs(came - value) < 0.01

    assert came == came, "nan came: 0 log 0 is 0, but the computer says nan. Leave out the classes that never occur."
    assert not is_(torch.special.entr(shares).sum().item()), (
        "This is the entropy. Its exponential is the number of classes."
    )
    assert not is_(1 / right), "A sign is missing: the entropy is minus the sum of shares times their logarithms."
    assert not is_(3), "This counts the classes that occur. A class with one picture in a thousand should hardly count."
    assert not is_(torch.special.entr(shares).sum().div(torch.tensor(2.0).log()).exp().item()), (
        "The logarithm to base 2 and the exponential to base e do not go together. Use log() and exp()."
    )
    probabilities = few.softmax(dim=1)
    assert not is_(_effective(probabilities.mean(dim=0))), (
        "You average probabilities. Asked for are the shares of the answers: argmax first, then count."
    )
    assert not is_(torch.special.entr(probabilities).sum(dim=1).mean().exp().item()), (
        "This is how unsure the judge is of a picture. Asked for is how its answers are spread over the classes."
    )
    assert is_(right), f"Answers with the shares 0.6, 0, 0.3, 0.1, 0: expected {right:.3f}; {came:.3f} came."
    all_same = _number(effective_classes(torch.eye(5)[[1] * 20]), "the effective number").item()
    assert abs(all_same - 1) < 1e-3, f"Twenty times the same answer is 1 class; {all_same:.3f} came."
    even = _number(effective_classes(torch.eye(4).repeat(8, 1)), "the effective number").item()
    assert abs(even - 4) < 1e-3, f"Four classes, equally frequent: expected 4; {even:.3f} came."
    return "60, 30 and 10 per cent are worth about two and a half classes."


effective_classes = Exercise(
    "How many classes?",
    test=_check_effective_classes,
    hints=(
        "logits.argmax(dim=1) are the answers; answers.bincount(minlength=C) counts them.",
        "The entropy is -(shares * shares.log()).sum(), over the shares that are not 0.",
        "return the exponential of the entropy: entropy.exp().item()",
    ),
    reference=effective_classes,
)

# ---- 4. the average, by hand -----------------------------------------------------------------------------------------


@torch.no_grad()
def update_average(average, model, decay=0.99):
    for mean, new in zip(average.parameters(), model.parameters(), strict=True):
        mean.mul_(decay).add_(new, alpha=1 - decay)
    for mean, new in zip(average.buffers(), model.buffers(), strict=True):
        mean.copy_(new)
    return average


def _check_update_average(update_average):
    not_used(update_average, "AveragedModel", "get_ema_multi_avg_fn", "get_ema_avg_fn", "ema_update")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    average = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    model(torch.randn(8, 1, 5, 5))  # new statistics of batch normalisation
    before, given = copy.deepcopy(average), copy.deepcopy(model.state_dict())
    places = [parameter.data_ptr() for parameter in average.parameters()]
    result = update_average(average, model, 0.9)
    assert isinstance(result, nn.Module), f"Return the average itself; a {type(result).__name__} came."
    assert all(torch.equal(model.state_dict()[name], value) for name, value in given.items()), (
        "The model has changed. It is only read; the average moves towards it."
    )
    for mean, old, new in zip(result.parameters(), before.parameters(), model.parameters(), strict=True):
        assert not torch.allclose(mean, old), (
            "A parameter of the average has not changed. Loop over all parameters, and change them in place."
        )
        assert not torch.allclose(mean, new), (
            "The average became the model. Only a small part of it, 1 - decay, is added."
        )
        assert not torch.allclose(mean, 0.1 * old + 0.9 * new, atol=1e-5), (
            "The other way round: decay, here 0.9, weighs the average, and 1 - decay the model."
        )
        assert not torch.allclose(mean, 0.99 * old + 0.01 * new, atol=1e-5), (
            "decay is an argument: 0.9 came, and 0.99 was used."
        )
        assert torch.allclose(mean, 0.9 * old + 0.1 * new, atol=1e-5), (
            "A parameter is not decay * average + (1 - decay) * model."
        )
    assert [parameter.data_ptr() for parameter in result.parameters()] == places, (
        "The parameters were replaced by new tensors. Change them in place: mul_, add_, lerp_ or copy_."
    )
    assert all(parameter.is_leaf and parameter.requires_grad for parameter in result.parameters()), (
        "The average carries a graph along, which would grow with every step: decorate with @torch.no_grad()."
    )
    for (name, mean), new in zip(result.named_buffers(), model.buffers(), strict=True):
        assert torch.equal(mean, new), (
            f"The buffer {name} is not the model's: batch normalisation's statistics are copied as they are."
        )
    return "With decay 0.99, the last 69 steps have half of the weight: 0.99 to the power of 69 is about a half."


update_average = Exercise(
    "The average, by hand",
    test=_check_update_average,
    hints=(
        "zip(average.parameters(), model.parameters()) gives pairs. Work under torch.no_grad(), in place.",
        "mean.mul_(decay).add_(new, alpha=1 - decay) is one parameter. (mean.lerp_(new, 1 - decay) is the same.)",
        "Then the buffers: for mean, new in zip(average.buffers(), model.buffers()): mean.copy_(new)",
    ),
    reference=update_average,
)

# ---- 2. a discriminator that sees batches ----------------------------------------------------------------------------


def with_batch_std(x):
    spread = x.std(dim=0, unbiased=False).mean()
    return torch.cat([x, spread.expand(len(x), 1, *x.shape[2:])], dim=1)


def _check_with_batch_std(with_batch_std):
    x = (
        torch.randn(6, 3, 4, 5, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1.0, 2.0, 3.0])[:, None, None]
    )
    x = x + torch.arange(3)[:, None, None]
    result = with_batch_std(x.clone())
    assert isinstance(result, torch.Tensor) and result.ndim == 4, (
        f"Expected a tensor (N, C + 1, H, W); {_came(result)} came."
    )
    assert result.shape == (6, 4, 4, 5), (
        f"x has the shape (6, 3, 4, 5); expected (6, 4, 4, 5), one channel more; {tuple(result.shape)} came."
    )
    result = result.float()
    assert torch.equal(result[:, :3], x), (
        "The first channels should be x itself, unchanged, with the new one after them."
    )
    extra, right = result[:, 3], x.std(dim=0, unbiased=False).mean()

    def is_(value):
        return torch.allclose(extra, torch.as_tensor(value).expand_as(extra), atol=1e-4)

    assert not is_(x.std(unbiased=False)), (
        "This is one standard deviation of everything. Over the batch: dim=0, at each channel and place, then the mean."
    )
    assert not is_(x.std(dim=0).mean()), "Nearly: with unbiased=False (dividing by N, not by N - 1)."
    assert not is_(x.var(dim=0, unbiased=False).mean().sqrt()), (
        "This is the root of the mean variance; asked for is the mean of the standard deviations."
    )
    assert not is_(x.var(dim=0, unbiased=False).mean()), "This is the variance; take the standard deviation."
    assert not is_(x.std(dim=(1, 2, 3), unbiased=False)[:, None, None]), (
        "This is the spread within each picture. Asked for is the spread between the pictures of the batch: dim=0."
    )
    assert extra.unique().numel() == 1, (
        "The new channel should hold the same number everywhere: take the mean over channels and places."
    )
    assert is_(right), f"Expected {right:.4f} in the new channel; {extra.flatten()[0]:.4f} came."
    alike = with_batch_std(torch.ones(8, 5, 6, 6))
    assert isinstance(alike, torch.Tensor) and alike.shape == (8, 6, 6, 6) and (alike[:, 5] == 0).all(), (
        "Eight pictures of 5 channels that are all alike should get a sixth channel of zeros."
    )
    return "A collapsed batch gives itself away: its new channel is nearly 0, and D needs one weight to notice."


with_batch_std = Exercise(
    "A discriminator that sees batches",
    test=_check_with_batch_std,
    hints=(
        "x.std(dim=0, unbiased=False) has the shape (C, H, W). One number is wanted of it.",
        "number.expand(len(x), 1, *x.shape[2:]) makes a channel of one number.",
        "torch.cat([x, channel], dim=1)",
    ),
    reference=with_batch_std,
)

# ---- 6. the ratio of two densities -----------------------------------------------------------------------------------


def density_ratio(logits):
    return logits.exp()


def _check_density_ratio(density_ratio):
    logits = torch.tensor([[-3.0, -1.0, 0.0], [0.5, 2.0, 4.0]])
    came = density_ratio(logits.clone())
    size = tuple(getattr(came, "shape", ()))
    assert size == (2, 3), f"One ratio for each logit: expected the shape (2, 3); {size or type(came).__name__} came."
    came, right = torch.as_tensor(came, dtype=torch.float32), logits.exp()

    def is_(value):
        return torch.allclose(came, value, rtol=1e-3)

    assert not is_(logits.sigmoid()), "This is p / (p + q), the share of reals. Asked for is p / q."
    assert not is_(1 - logits.sigmoid()), "This is q / (p + q), the share of fakes. Asked for is p / q."
    assert not is_(1 / right), "This is q / p. Where the logit is high, reals are the more frequent ones."
    assert not is_(logits), "The logit is the logarithm of the ratio: log p - log q."
    assert is_(right), (
        f"At the logits {logits.flatten().tolist()}: expected {right.flatten().numpy().round(3).tolist()}; "
        f"{came.flatten().numpy().round(3).tolist()} came."
    )
    return "The logit itself is log p - log q: G, which raises it, moves to where reals are frequent and fakes are not."


density_ratio = Exercise(
    "The ratio of two densities",
    test=_check_density_ratio,
    hints=(
        "With s = p / (p + q), the share of fakes is 1 - s = q / (p + q). What is s / (1 - s)?",
        "It is p / q. And with s = 1 / (1 + exp(-a)) it becomes very short.",
        "return logits.exp()",
    ),
    reference=density_ratio,
)

# ---- 7. real pictures, wrong labels ----------------------------------------------------------------------------------


def wrong_labels(labels, num_classes=10):
    return (labels + torch.randint(1, num_classes, labels.shape, device=labels.device)) % num_classes


def _check_wrong_labels(wrong_labels):
    torch.manual_seed(0)
    for num_classes in (10, 4):
        labels = torch.arange(num_classes).repeat(400)
        given = labels.clone()
        came = wrong_labels(given, num_classes)
        size = tuple(getattr(came, "shape", ()))
        assert size == tuple(labels.shape), (
            f"One label for each: expected the shape {tuple(labels.shape)}; {size or type(came).__name__} came."
        )
        assert isinstance(came, torch.Tensor) and not came.is_floating_point(), (
            "Labels are whole numbers: return a tensor of integers."
        )
        assert torch.equal(given, labels), "The labels that came in have changed. Make new ones."
        assert came.min() >= 0 and came.max() < num_classes, (
            f"With num_classes = {num_classes}, labels go from 0 to {num_classes - 1}; "
            f"{int(came.min())} to {int(came.max())} came."
        )
        kept = (came == labels).float().mean().item()
        assert kept == 0, (
            f"{kept:.1%} have kept their label: one drawn at random, or a shuffled one, may be the right one."
        )
        counts = ((came - labels) % num_classes).bincount(minlength=num_classes)[1:]
        assert counts.min() > 0, "Some pairs never occur: each of the other classes should be drawn."
        shares = counts / counts.sum() * (num_classes - 1)
        assert shares.max() < 1.3 and shares.min() > 0.7, (
            "Some of the other classes are drawn more often than others: each should be equally likely."
        )
    return "D now has to look at the label as well: a real picture alone no longer makes a real pair."


wrong_labels = Exercise(
    "Real pictures, wrong labels",
    test=_check_wrong_labels,
    hints=(
        "A random label is the right one in a tenth of all cases. Add something to the label instead.",
        "Add a random number from 1 to num_classes - 1, and go on with 0 after the last class: % num_classes.",
        "torch.randint(1, num_classes, labels.shape, device=labels.device) draws these numbers.",
    ),
    reference=wrong_labels,
)

# ---- 9. a step of a critic ------------------------------------------------------------------------------------------


def critic_step(critic, optimizer, real, fake, c=0.01):
    loss = critic(fake.detach()).mean() - critic(real).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.clamp_(-c, c)
    return loss.item()


def _critic_after(critic, loss, c: float | None = 0.1, kept: bool = False) -> torch.Tensor:
    """All parameters after one step of SGD on loss(critic) from the gradients that are there (kept) or from none,
    clipped to c."""
    critic = copy.deepcopy(critic)
    for parameter in critic.parameters():
        parameter.grad = torch.full_like(parameter, 0.5) if kept else None
    loss(critic).backward()
    step = [parameter.detach() - 0.1 * parameter.grad for parameter in critic.parameters()]
    return torch.cat([value.flatten() if c is None else value.clamp(-c, c).flatten() for value in step])


def _check_critic_step(critic_step):
    torch.manual_seed(0)
    critic, generator = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)), nn.Linear(3, 4)
    real, fake = torch.randn(40, 4) + 1, generator(torch.randn(24, 3))
    before = copy.deepcopy(critic)
    for parameter in critic.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)  # left over from an earlier step
    optimizer = torch.optim.SGD(critic.parameters(), lr=0.1)
    came = _number(critic_step(critic, optimizer, real, fake, 0.1), "the loss, as it was before the step,")
    after = torch.cat([parameter.detach().flatten() for parameter in critic.parameters()])
    old = torch.cat([parameter.detach().flatten() for parameter in before.parameters()])

    def right(critic):
        return critic(fake.detach()).mean() - critic(real).mean()

    def is_(value):
        return torch.allclose(after, value, atol=1e-5)

    def cross_entropy(critic):
        return F.softplus(-critic(real)).mean() + F.softplus(critic(fake.detach())).mean()

    assert not is_(old), "The critic has not changed: backward(), optimizer.step(), then the clipping, in place."
    assert not is_(old.clamp(-0.1, 0.1)), (
        "The weights were clipped and not trained: loss.backward() and optimizer.step() come before."
    )
    assert not is_(_critic_after(before, right, c=None)), (
        "The step is right, the clipping is missing, or not in place: parameter.clamp_(-c, c), with the underscore."
    )
    assert not is_(_critic_after(before, right, kept=True)), (
        "Gradients of an earlier step were added: optimizer.zero_grad()."
    )
    assert not is_(_critic_after(before, lambda critic: -right(critic))), (
        "The wrong sign: the loss is made small, so it must fall when reals score higher than fakes."
    )
    assert not is_(_critic_after(before, cross_entropy)), (
        "This is the cross-entropy. A critic's numbers are not logits: only their two means count."
    )
    assert after.abs().max() <= 0.1 + 1e-6, (
        f"A parameter is {after.abs().max():.2f} after the step with c = 0.1: "
        "clip all of them, biases too, and after the optimizer's step."
    )
    assert is_(_critic_after(before, right)), (
        "The parameters are not those after one step on mean of fakes minus mean of reals, "
        "cut to [-c, c] where they are beyond."
    )
    assert torch.isclose(came, right(before), atol=1e-4), f"Return the loss, {right(before):.4f}; {came:.4f} came."
    assert fake.grad_fn is not None, (
        "detach_() has cut `fake` itself off from the generator, which cannot learn from it any more. "
        "fake.detach(), without the underscore."
    )
    assert generator.weight.grad is None, "The generator got gradients, but it is not its turn. Use fake.detach()."
    return (
        "Clipping keeps the critic's slope bounded. Gulrajani et al. 2017 do it better, with a penalty on the gradient."
    )


critic_step = Exercise(
    "A step of a critic",
    test=_check_critic_step,
    hints=(
        "No sigmoid, no logarithm: loss = critic(fake.detach()).mean() - critic(real).mean().",
        "Then as always: zero_grad, backward, step. The clipping comes last.",
        "with torch.no_grad(): for parameter in critic.parameters(): parameter.clamp_(-c, c)",
    ),
    reference=critic_step,
)

# ---- 8. a generator for any size -------------------------------------------------------------------------------------


def any_generator(z_dim, side, channels, width):
    doublings = side.bit_length() - 3  # from 4 pixels to side
    widths = [width * 2**k for k in reversed(range(doublings))]
    layers = [nn.Unflatten(1, (z_dim, 1, 1)), nn.ConvTranspose2d(z_dim, widths[0], 4, bias=False)]
    for before, after in zip(widths, [*widths[1:], None], strict=True):
        layers += [nn.BatchNorm2d(before), nn.ReLU()]
        layers += [nn.ConvTranspose2d(before, after or channels, 4, stride=2, padding=1, bias=after is None)]
    return nn.Sequential(*layers, nn.Tanh())


class _Call(NamedTuple):
    layer: nn.Module
    input: torch.Tensor
    output: torch.Tensor


def _calls(network: nn.Module, z: torch.Tensor) -> tuple[list[_Call], torch.Tensor]:
    """What went into each transposed convolution and each normalisation, and what came out, in order; the result."""
    seen, hooks = [], []
    for layer in network.modules():
        if isinstance(layer, (nn.ConvTranspose2d, nn.BatchNorm2d)):
            # Copies: a ReLU may work in place.
            hooks.append(
                layer.register_forward_hook(
                    lambda *call: seen.append(_Call(call[0], call[1][0].clone(), call[2].clone()))
                )
            )
    with torch.no_grad():
        result = network(z)
    for hook in hooks:
        hook.remove()
    return seen, result


def _check_any_generator(any_generator):
    torch.manual_seed(0)
    for z_dim, side, channels, width in ((20, 8, 1, 6), (16, 32, 3, 4)):
        asked = f"z_dim = {z_dim}, side = {side}, channels = {channels}, width = {width}"
        network = any_generator(z_dim, side, channels, width)
        assert isinstance(network, nn.Module), f"Return the network, an nn.Module; a {type(network).__name__} came."
        ups = [layer for layer in network.modules() if isinstance(layer, nn.ConvTranspose2d)]
        num = side.bit_length() - 2
        if any(isinstance(layer, LazyModuleMixin) for layer in ups):
            network(torch.randn(5, z_dim))  # lazy layers learn their sizes
        assert len(ups) == num, (
            f"{asked}: expected {num} transposed convolutions, one to 4 x 4 and then one for each doubling; "
            f"{len(ups)} came."
        )
        seen, pictures = _calls(network, torch.randn(5, z_dim))
        assert pictures.shape == (5, channels, side, side), (
            f"{asked}: expected pictures (5, {channels}, {side}, {side}); {tuple(pictures.shape)} came."
        )
        ups = [call for call in seen if isinstance(call.layer, nn.ConvTranspose2d)]
        assert len(ups) == num, f"{asked}: each transposed convolution works once; {len(ups)} calls came."
        widths = [call.layer.out_channels for call in ups[:-1]]
        right = [width * 2**k for k in reversed(range(num - 1))]
        assert widths == right, f"{asked}: expected the channels {right} before the last layer; {widths} came."
        for call in ups[1:]:
            form = call.layer.kernel_size, call.layer.stride, call.layer.padding
            assert form == ((4, 4), (2, 2), (1, 1)), (
                "Each doubling has kernel 4, stride 2, padding 1; "
                f"kernel {form[0][0]}, stride {form[1][0]}, padding {form[2][0]} came."
            )
        assert all(call.layer.bias is None for call in ups[:-1]), (
            "A transposed convolution before a batch normalisation has a bias, "
            "which the normalisation takes away again: bias=False."
        )
        assert ups[-1].layer.bias is not None, (
            "The last transposed convolution has no bias. No normalisation follows it, so it keeps its own."
        )
        norms = [call for call in seen if isinstance(call.layer, nn.BatchNorm2d)]
        assert len(norms) == num - 1, (
            f"{asked}: expected {num - 1} batch normalisations, one after each transposed convolution but the last; "
            f"{len(norms)} came."
        )
        for up, norm, following in zip(ups, norms, ups[1:], strict=False):
            assert not torch.equal(norm.input, up.output.relu()), (
                "ReLU comes before the batch normalisation; first normalise, then ReLU."
            )
            assert torch.equal(norm.input, up.output), (
                "A batch normalisation does not follow its transposed convolution directly."
            )
            assert not torch.equal(following.input, norm.output), "After a batch normalisation the ReLU is missing."
            assert torch.equal(following.input, norm.output.relu()), (
                "After a batch normalisation comes something else than a ReLU."
            )
        assert pictures.abs().max() <= 1, "Values beyond -1 and 1 came: Tanh comes last."
        assert torch.allclose(pictures, ups[-1].output.tanh(), atol=1e-5), (
            "The pictures are not the Tanh of the last transposed convolution; nothing else comes after it."
        )
    return "With side = 64 this is the generator of Radford et al. 2016, except for the width."


any_generator = Exercise(
    "A generator for any size",
    test=_check_any_generator,
    hints=(
        "From 4 pixels to side it takes log2(side / 4) doublings: side.bit_length() - 3.",
        "The first layer is nn.ConvTranspose2d(z_dim, ..., kernel_size=4), on z as (N, z_dim, 1, 1): "
        "nn.Unflatten(1, (z_dim, 1, 1)).",
        "Collect the layers in a list, in a loop over widths such as [4 * width, 2 * width, width], "
        "then nn.Sequential(*layers).",
    ),
    reference=any_generator,
)

# ---- lab -------------------------------------------------------------------------------------------------------------

LAB_SECONDS, LAB_GOOD, LAB_VERY_GOOD = 60, 0.38, 0.44  # of the processor; the share of wrong answers
LAB_NEW, LAB_COVERED = 0.95, 0.4  # no copying, no digit left out


def train_artist(images, labels, num_steps=3000):
    generator = nn.Sequential(
        nn.Unflatten(1, (32, 1, 1)),
        nn.ConvTranspose2d(32, 64, 2, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.ConvTranspose2d(64, 32, 4, 2, 1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 1, 4, 2, 1),
        nn.Tanh(),
    )
    discriminator = nn.Sequential(
        nn.Conv2d(1, 32, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 4, 2, 1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.Conv2d(64, 1, 2),
        nn.Flatten(),
    )
    g_optimizer = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.999))
    d_optimizer = torch.optim.Adam(discriminator.parameters(), lr=1e-3, betas=(0.5, 0.999))
    average = AveragedModel(generator, multi_avg_fn=get_ema_multi_avg_fn(0.99))
    for _ in tqdm(range(num_steps), desc="lab"):
        real, fake = images[torch.randint(len(images), (64,))], generator(torch.randn(64, 32))
        d_loss = F.softplus(-discriminator(real)).mean() + F.softplus(discriminator(fake.detach())).mean()
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()
        g_loss = F.softplus(-discriminator(fake)).mean()
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
        average.update_parameters(generator)
    return average.module


def coverage(pictures: torch.Tensor) -> tuple[torch.Tensor, float]:
    """(share of held-out digits covered, one number a class (10,); how new the pictures are).

    Covered: a picture is closer than the digit's 5th nearest neighbour among the training digits (Naeem, Oh, Uh, Choi,
    Yoo, Reliable Fidelity and Diversity Metrics for Generative Models, ICML 2020). New: the distance to the nearest
    training digit of the 5 % that are nearest, divided by that of the held-out digits.
    """
    (known, _), (held_out, labels) = digits("train"), digits("val", "test")
    known, held_out, pictures = known.flatten(1), held_out.flatten(1), pictures.flatten(1)
    to_known = torch.cdist(held_out, known)
    covered = torch.cdist(held_out, pictures).min(dim=1).values < to_known.kthvalue(5, dim=1).values
    nearest = [distances.min(dim=1).values.quantile(0.05) for distances in (torch.cdist(pictures, known), to_known)]
    shares = torch.stack([covered[labels == digit].float().mean() for digit in range(10)])
    return shares, (nearest[0] / nearest[1]).item()


def fooled(pictures: torch.Tensor) -> float:
    """Share of wrong answers of a detective that learned from half of the pictures and the training digits, on the
    other half and the held-out digits; the mean of three. The seed of whoever calls is left as it is."""
    (known, _), (held_out, _) = digits("train"), digits("val", "test")
    wrong = []
    with torch.random.fork_rng():
        for seed in range(3):
            torch.manual_seed(seed)
            learn, others = pictures[torch.randperm(len(pictures))].chunk(2)
            layers = nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()
            detective = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 16, 1))
            optimizer = torch.optim.Adam(detective.parameters(), lr=1e-3)
            for _ in range(300):
                real, fake = (part[torch.randint(len(part), (64,))] for part in (known, learn))
                loss = F.softplus(-detective(real)).mean() + F.softplus(detective(fake)).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            with torch.no_grad():
                wrong += [(detective(held_out) < 0).float().mean(), (detective(others) > 0).float().mean()]
    return torch.stack(wrong).mean().item()


def _check_lab(train_artist):
    with one_thread():
        start = time.process_time()
        generator = train_artist(*digits("train"))
        seconds = time.process_time() - start
        assert isinstance(generator, nn.Module), (
            f"train_artist returned a {type(generator).__name__}; expected the generator, an nn.Module. Return it."
        )
        with torch.no_grad():
            pictures = generator.cpu().eval()(torch.randn(2000, 32))
        assert isinstance(pictures, torch.Tensor) and pictures.shape == (2000, 1, 8, 8), (
            "2,000 random vectors of 32 numbers went in; expected pictures (2000, 1, 8, 8), "
            f"and not {getattr(pictures, 'shape', type(pictures).__name__)}."
        )
        pictures = pictures.clamp(-1, 1)
        shares, new = coverage(pictures)
        wrong = fooled(pictures)
    worst = int(shares.argmin())
    score = (
        f"the detective is wrong in {wrong:.0%} of its answers; the pictures are {new:.2f} times as new as real ones; "
        f"{shares[worst]:.0%} of the held-out digits {worst}, the worst class, are covered; {seconds:.0f} s"
    )
    assert seconds <= LAB_SECONDS, f"{score}: {LAB_SECONDS} s is the limit."
    assert new >= LAB_NEW, f"{score}: the nearest of them are copies; at least {LAB_NEW} is asked for."
    assert shares[worst] >= LAB_COVERED, (
        f"{score}; at least {LAB_COVERED:.0%} should be. Which digits are missing? "
        "Draw many and look at what the judge of section 5 says."
    )
    assert wrong >= LAB_GOOD, (
        f"{score}; {LAB_GOOD:.0%} counts as good, and the best mixture of Gaussians that we found comes to 36 %. "
        "Train longer, or average the weights."
    )
    return f"{score}. {'Very good' if wrong >= LAB_VERY_GOOD else 'Good'}."


lab = Exercise(
    "Lab: fool the detective",
    test=_check_lab,
    hints=(
        "Begin with the GAN of section 4, and return the averaged generator, gan.average.module: "
        "section 5 shows how much more often it fools the detective than the last one.",
        "You have 60 seconds: more steps help. So does a plain ReLU in the discriminator (section 7).",
    ),
    reference=train_artist,
)
