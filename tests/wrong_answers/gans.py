"""Wrong answers to the exercises of notebook 09: (exercise, answer, a piece of the message that fits the mistake)."""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from utils.exercises import gans as right

softplus, bce = F.softplus, F.binary_cross_entropy_with_logits


def smoothed(both=False):
    def loss(real, fake, smooth=0.0):
        fake_target = torch.full_like(fake, smooth if both else 0.0)
        return bce(real, torch.full_like(real, 1 - smooth)) + bce(fake, fake_target)

    return loss


def effective(function):
    def effective_classes(logits):
        shares = logits.argmax(dim=1).bincount(minlength=logits.shape[1]) / len(logits)
        return function(shares[shares > 0])

    return effective_classes


def entropy(shares):
    return torch.special.entr(shares).sum()


def averaging(parameter, buffers=True, grad=False):
    """In place, parameter(mean, new, decay) for each parameter."""

    def update_average(average, model, decay=0.99):
        with torch.set_grad_enabled(grad):
            for mean, new in zip(average.parameters(), model.parameters(), strict=True):
                mean.copy_(parameter(mean, new, decay))
            if buffers:
                for mean, new in zip(average.buffers(), model.buffers(), strict=True):
                    mean.copy_(new)
        return average

    return update_average


def replacing(average, model, decay=0.99):
    for mean, new in zip(average.parameters(), model.parameters(), strict=True):
        mean.data = decay * mean.data + (1 - decay) * new.data
    return average


def moving_the_model(average, model, decay=0.99):
    right.update_average.reference(model, average, decay)
    return average


def batch_std(number):
    return lambda x: torch.cat([x, number(x).expand(len(x), 1, *x.shape[2:])], dim=1)


def critic(loss, clip="after", zero=True, value=lambda loss: loss.item()):
    """A step of a critic with loss(scores of reals, scores of fakes) and a clipping of choice."""

    def critic_step(critic, optimizer, real, fake, c=0.01):
        def clipped():
            for name, parameter in critic.named_parameters():
                if clip != "weights" or name.endswith("weight"):
                    parameter.data.clamp_(-c, c)

        if clip == "before":
            clipped()
        found = loss(critic(real), critic(fake))
        if zero:
            optimizer.zero_grad()
        found.backward()
        optimizer.step()
        if clip in ("after", "weights"):
            clipped()
        return value(found)

    return critic_step


def difference(real, fake):
    return fake.mean() - real.mean()


def generator(change):
    """The right generator's layers, changed."""

    def any_generator(z_dim, side, channels, width):
        return nn.Sequential(*change(list(right.any_generator.reference(z_dim, side, channels, width)), z_dim, side))

    return any_generator


def with_bias(layers, *_):
    return [
        nn.ConvTranspose2d(a.in_channels, a.out_channels, a.kernel_size, a.stride, a.padding)
        if isinstance(a, nn.ConvTranspose2d)
        else a
        for a in layers
    ]


def relu_first(layers, *_):
    for place in [place for place, layer in enumerate(layers) if isinstance(layer, nn.BatchNorm2d)]:
        layers[place : place + 2] = reversed(layers[place : place + 2])
    return layers


def kernel_of_two(layers, *_):
    return [
        nn.ConvTranspose2d(a.in_channels, a.out_channels, 2, 2, bias=a.bias is not None)
        if isinstance(a, nn.ConvTranspose2d) and a.stride == (2, 2)
        else a
        for a in layers
    ]


def no_last_bias(layers, *_):
    last = layers[-2]
    return [*layers[:-2], nn.ConvTranspose2d(last.in_channels, last.out_channels, 4, 2, 1, bias=False), layers[-1]]


class Functional(nn.Module):
    """A right generator, with one ReLU object or none, and tanh as a function."""

    def __init__(self, z_dim, side, channels, width, relu=torch.relu):
        super().__init__()
        layers = right.any_generator.reference(z_dim, side, channels, width)
        self.layers = nn.ModuleList(a for a in layers if not isinstance(a, (nn.ReLU, nn.Tanh)))
        self.relu = relu

    def forward(self, z):
        for layer in self.layers:
            z = self.relu(layer(z)) if isinstance(layer, nn.BatchNorm2d) else layer(z)
        return z.tanh()


class Copies(nn.Module):
    """An artist that copies training digits, with a little noise."""

    def __init__(self, images, noise=0.02):
        super().__init__()
        self.images, self.noise = images, noise

    def forward(self, z):
        pictures = self.images[torch.randint(len(self.images), (len(z),))]
        return pictures + self.noise * torch.randn_like(pictures)


class Mixture(nn.Module):
    """Gaussians: `count` for each of the digits, or for all together where labels is None."""

    def __init__(self, images, labels, count, reg=0.01, digits=range(10)):
        super().__init__()
        parts = [images] if labels is None else [images[labels == digit] for digit in digits]
        with threadpool_limits(1):
            self.parts = [
                GaussianMixture(count, reg_covar=reg, random_state=0).fit(x.flatten(1).double().numpy()) for x in parts
            ]

    def forward(self, z):
        drawn = [part.sample(len(z) // len(self.parts) + 1)[0] for part in self.parts]
        pictures = torch.as_tensor(np.concatenate(drawn)).float().clamp(-1, 1)
        return pictures[torch.randperm(len(pictures))[: len(z)]].reshape(-1, 1, 8, 8)


class Cleaned(Mixture):
    """Dark pixels made black, and as many grey levels as the digits have."""

    def forward(self, z):
        pictures = super().forward(z)
        return torch.where(pictures < -0.8, -1.0, ((pictures + 1) * 8).round() / 8 - 1)


class HalfCopies(nn.Module):
    """Half copies, half drawn from 30 Gaussians."""

    def __init__(self, images, labels):
        super().__init__()
        self.copies, self.mixture = Copies(images), Mixture(images, None, 30)

    def forward(self, z):
        pictures = torch.cat([self.copies(z[::2]), self.mixture(z[1::2])])
        return pictures[torch.randperm(len(pictures))]


def one_gaussian(images, labels):
    """A linear generator of only 32 of the 64 directions."""
    x = images.flatten(1)
    u, s, v = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    linear = nn.Linear(32, 64)
    with torch.no_grad():
        linear.weight.copy_(v[:32].T * s[:32] / len(x) ** 0.5)
        linear.bias.copy_(x.mean(0))
    return nn.Sequential(linear, nn.Unflatten(1, (1, 8, 8)))


def drawn_or_next(labels, num_classes=10):
    """A random label, and where it is the right one, the next."""
    drawn = torch.randint(num_classes, labels.shape)
    return torch.where(drawn == labels, (labels + 1) % num_classes, drawn)


def drawn_from_the_rest(labels, num_classes=10):
    drawn = torch.randint(num_classes - 1, labels.shape)
    return drawn + (drawn >= labels)


WRONG = [
    (
        "smooth_discriminator_loss",
        lambda real, fake, smooth=0: softplus(real).mean() + softplus(-fake).mean(),
        "targets are swapped",
    ),
    (
        "smooth_discriminator_loss",
        lambda real, fake, smooth=0: (softplus(-real).mean() + softplus(fake).mean()) / 2,
        "half of it",
    ),
    (
        "smooth_discriminator_loss",
        lambda real, fake, smooth=0: torch.cat([softplus(-real), softplus(fake)]).mean(),
        "one mean over",
    ),
    (
        "smooth_discriminator_loss",
        lambda real, fake, smooth=0: softplus(-real).sum() + softplus(fake).sum(),
        "These are sums",
    ),
    ("smooth_discriminator_loss", lambda real, fake, smooth=0: softplus(-real).mean(), "Only one half"),
    ("smooth_discriminator_loss", lambda real, fake, smooth=0: softplus(-real), "Is the mean missing"),
    (
        "smooth_discriminator_loss",
        lambda real, fake, smooth=0: smoothed()(real.sigmoid(), fake.sigmoid()),
        "A sigmoid too many",
    ),
    (
        "smooth_discriminator_loss",
        lambda real, fake, smooth=0: bce(torch.ones_like(real), real) + bce(torch.zeros_like(fake), fake),
        "logits come first",
    ),
    ("smooth_discriminator_loss", lambda real, fake, smooth=0: smoothed()(real, fake), "changes nothing"),
    ("smooth_discriminator_loss", smoothed(both=True), "One-sided"),
    (
        "smooth_discriminator_loss",
        lambda real, fake, smooth=0: (1 - smooth) * softplus(-real).mean() + softplus(fake).mean(),
        "The target itself becomes 0.9",
    ),
    (
        "smooth_discriminator_loss",
        lambda real, fake, smooth=0: bce(real, torch.full_like(real, smooth or 1.0)) + softplus(fake).mean(),
        "should be 1 - smooth",
    ),
    ("effective_classes", effective(entropy), "This is the entropy"),
    ("effective_classes", effective(lambda shares: (-entropy(shares)).exp()), "A sign is missing"),
    ("effective_classes", effective(len), "counts the classes that occur"),
    ("effective_classes", effective(lambda shares: (-(shares * shares.log2()).sum()).exp()), "base 2"),
    ("effective_classes", lambda logits: entropy(logits.softmax(1).mean(0)).exp(), "You average probabilities"),
    (
        "effective_classes",
        lambda logits: torch.special.entr(logits.softmax(1)).sum(1).mean().exp(),
        "how unsure the judge is",
    ),
    ("effective_classes", lambda logits: torch.tensor(float("nan")), "nan came"),
    ("effective_classes", lambda logits: logits.argmax(1), "as one number"),
    ("update_average", lambda average, model, decay=0.99: decay, "Return the average itself"),
    ("update_average", moving_the_model, "The model has changed"),
    ("update_average", lambda average, model, decay=0.99: average, "has not changed"),
    ("update_average", averaging(lambda mean, new, decay: new), "The average became the model"),
    ("update_average", averaging(lambda mean, new, decay: (1 - decay) * mean + decay * new), "The other way round"),
    ("update_average", averaging(lambda mean, new, decay: 0.99 * mean + 0.01 * new), "decay is an argument"),
    (
        "update_average",
        averaging(lambda mean, new, decay: decay * mean + (1 - decay) * new, buffers=False),
        "The buffer 1.running_mean",
    ),
    ("update_average", replacing, "replaced by new tensors"),
    ("with_batch_std", lambda x: x.std(dim=0), "Expected a tensor"),
    ("with_batch_std", lambda x: x, "one channel more"),
    ("with_batch_std", lambda x: right.with_batch_std.reference(x).roll(1, dims=1), "with the new one after them"),
    ("with_batch_std", batch_std(lambda x: x.std(unbiased=False)), "one standard deviation of everything"),
    ("with_batch_std", batch_std(lambda x: x.std(dim=0).mean()), "unbiased=False"),
    ("with_batch_std", batch_std(lambda x: x.var(dim=0, unbiased=False).mean()), "This is the variance"),
    ("with_batch_std", batch_std(lambda x: x.std(dim=(1, 2, 3), unbiased=False, keepdim=True)), "within each picture"),
    ("with_batch_std", batch_std(lambda x: x.std(dim=0, unbiased=False).mean(dim=0)), "the same number everywhere"),
    ("critic_step", lambda critic, optimizer, real, fake, c=0.01: 0.0, "has not changed"),
    ("critic_step", critic(lambda real, fake: 0 * difference(real, fake)), "clipped and not trained"),
    ("critic_step", critic(difference, clip="never"), "the clipping is missing"),
    ("critic_step", critic(difference, zero=False), "Gradients of an earlier step"),
    ("critic_step", critic(lambda real, fake: -difference(real, fake)), "The wrong sign"),
    (
        "critic_step",
        critic(lambda real, fake: softplus(-real).mean() + softplus(fake).mean()),
        "This is the cross-entropy",
    ),
    ("critic_step", critic(difference, clip="weights"), "biases too"),
    ("critic_step", critic(difference, clip="before"), "after the optimizer's step"),
    ("critic_step", critic(difference), "fake.detach()"),
    ("critic_step", critic(difference, value=lambda loss: 0.0), "Return the loss"),
    ("critic_step", critic(difference, value=lambda loss: torch.ones(3)), "as one number"),
    ("any_generator", lambda z_dim, side, channels, width: 3, "Return the network"),
    (
        "any_generator",
        lambda z_dim, side, channels, width: right.any_generator.reference(z_dim, 2 * side, channels, width),
        "one for each doubling",
    ),
    (
        "any_generator",
        lambda z_dim, side, channels, width: right.any_generator.reference(z_dim, side, 2, width),
        "expected pictures",
    ),
    (
        "any_generator",
        lambda z_dim, side, channels, width: right.any_generator.reference(z_dim, side, channels, 2 * width),
        "expected the channels",
    ),
    ("any_generator", generator(with_bias), "has a bias"),
    (
        "any_generator",
        generator(lambda layers, *_: [a for a in layers if not isinstance(a, nn.BatchNorm2d)]),
        "one after each transposed convolution but the last",
    ),
    ("any_generator", generator(lambda layers, *_: [*layers[:-1], nn.Threshold(99.0, 2.0)]), "Values beyond -1 and 1"),
    (
        "any_generator",
        generator(lambda layers, *_: [nn.LeakyReLU() if isinstance(a, nn.ReLU) else a for a in layers]),
        "something else than a ReLU",
    ),
    ("any_generator", generator(relu_first), "ReLU comes before the batch normalisation"),
    ("any_generator", generator(kernel_of_two), "Each doubling has kernel 4"),
    ("any_generator", generator(no_last_bias), "The last transposed convolution has no bias"),
    ("any_generator", generator(lambda layers, *_: [a for a in layers if not isinstance(a, nn.ReLU)]), "is missing"),
    ("any_generator", generator(lambda layers, *_: [*layers, nn.Tanh()]), "not the Tanh of the last"),
    ("slopes", lambda a: a, "Return two tensors"),
    ("slopes", lambda a: (a.sigmoid(), (-a).sigmoid()), "The signs are missing"),
    ("slopes", lambda a: (-(-a).sigmoid(), -a.sigmoid()), "The two are swapped"),
    ("slopes", lambda a: (-softplus(a), softplus(-a)), "the losses themselves"),
    ("slopes", lambda a: (-a.sigmoid() / len(a), -(-a).sigmoid() / len(a)), "without the mean"),
    ("slopes", lambda a: (-a.sigmoid(), -torch.ones_like(a)), "Of the non-saturating loss"),
    ("slopes", lambda a: (-a.sigmoid().mean(), -(-a).sigmoid().mean()), "One slope for each logit"),
    ("density_ratio", torch.sigmoid, "the share of reals"),
    ("density_ratio", lambda a: (-a).sigmoid(), "the share of fakes"),
    ("density_ratio", lambda a: (-a).exp(), "This is q / p"),
    ("density_ratio", lambda a: a, "the logarithm of the ratio"),
    ("density_ratio", lambda a: a.exp().mean(), "One ratio for each logit"),
    ("wrong_labels", lambda labels, num_classes=10: torch.randint(num_classes, labels.shape), "have kept their label"),
    ("wrong_labels", lambda labels, num_classes=10: labels[torch.randperm(len(labels))], "have kept their label"),
    ("wrong_labels", lambda labels, num_classes=10: (labels + 1) % num_classes, "never occur"),
    ("wrong_labels", lambda labels, num_classes=10: labels + 1, "labels go from 0 to 9"),
    ("wrong_labels", lambda labels, num_classes=10: right.wrong_labels.reference(labels, 10), "labels go from 0 to 3"),
    (
        "wrong_labels",
        lambda labels, num_classes=10: right.wrong_labels.reference(labels, num_classes)[0],
        "One label for each",
    ),
    ("wrong_labels", drawn_or_next, "more often than others"),
    ("lab", lambda images, labels: images, "expected the generator"),
    ("lab", lambda images, labels: nn.Linear(32, 64), "expected pictures (2000, 1, 8, 8)"),
    ("lab", lambda images, labels: Copies(images), "are copies"),
    ("lab", HalfCopies, "are copies"),
    ("lab", lambda images, labels: Mixture(images, labels, 30), "are copies"),
    ("lab", lambda images, labels: Mixture(images, None, 30), "the best mixture of Gaussians"),
    ("lab", lambda images, labels: Cleaned(images, labels, 5, reg=0.003), "the best mixture of Gaussians"),
    ("lab", lambda images, labels: Cleaned(images, labels, 6, reg=0.003), "the best mixture of Gaussians"),
    ("lab", one_gaussian, "Which digits are missing"),
    ("lab", lambda images, labels: Mixture(images, labels, 1, digits=range(7)), "Which digits are missing"),
]

RIGHT = [
    ("any_generator", Functional),
    ("density_ratio", lambda a: a.sigmoid() / (1 - a.sigmoid())),
    ("density_ratio", lambda a: a.exp().numpy()),
    ("wrong_labels", drawn_from_the_rest),
    ("any_generator", lambda *sizes: Functional(*sizes, relu=nn.ReLU(inplace=True))),
    ("slopes", lambda a: [-1 / (1 + (-a).exp()), a.sigmoid() - 1]),
    ("slopes", lambda a: (-a.sigmoid().numpy(), (a.sigmoid() - 1).numpy())),
    (
        "effective_classes",
        lambda logits: torch.special.entr(logits.argmax(1).bincount(minlength=9) / len(logits)).sum().exp(),
    ),
    ("effective_classes", lambda logits: right.effective_classes.reference(logits) * np.float32(1)),
    ("effective_classes", lambda logits: np.array(right.effective_classes.reference(logits))),
]


def by_utils(average, model, decay=0.99):
    get_ema_multi_avg_fn(decay)(list(average.parameters()), list(model.parameters()), 0)
    for mean, new in zip(average.buffers(), model.buffers(), strict=True):
        mean.copy_(new)
    return average


WRONG += [
    ("smooth_discriminator_loss", lambda real, fake, smooth=0: smoothed()(real, fake, smooth).item(), "no gradient"),
    ("smooth_discriminator_loss", lambda real, fake, smooth=0: smoothed()(real, fake.detach(), smooth), "no gradient"),
    ("with_batch_std", batch_std(lambda x: x.var(dim=0, unbiased=False).mean().sqrt()), "root of the mean variance"),
    ("slopes", lambda a: (-a.requires_grad_().sigmoid(), -(a.sigmoid() ** 2)), "Of the non-saturating loss"),
    ("slopes", lambda a: (-a.sigmoid(), None), "One slope for each logit"),
    ("update_average", by_utils, "Your answer uses get_ema_multi_avg_fn"),
]
RIGHT += [
    ("with_batch_std", lambda x: right.with_batch_std.reference(x.double())),
    ("slopes", lambda a: torch.stack(right.slopes.reference(a))),
]
