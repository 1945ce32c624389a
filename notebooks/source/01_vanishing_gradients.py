# %% [markdown]
# # 01 · Vanishing gradients
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/@SLUG@/blob/@REF@/notebooks/01_vanishing_gradients.ipynb)
# [![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://github.com/@SLUG@/blob/@REF@/notebooks/01_vanishing_gradients.ipynb)
#
# **To keep what you write:** on Colab choose *File > Save a copy in Drive*, on Kaggle *Copy & Edit*, before you begin.
#
# **Question:** A network of 5 layers learns, the same kind of network with 20 layers learns nothing. What happens on the way down,
# and what mends it?
#
# **You will be able to**
# - explain with one product why gradients vanish or explode, and see it in a gradient profile,
# - choose a remedy (ReLU, initialisation, normalisation, skip connections, clipping) and say what it does *not* mend,
# - write clipping, He initialisation, group normalisation and a residual block yourself.
#
# **Time:** it runs in @TIME@ on two CPU cores; with all sections, the exercises and the lab, about three hours.
# **Before this:** notebook 00, section 6 (a training loop in PyTorch); the chain rule.

# %% [markdown] slideshow={"slide_type": "notes"}
# **A plan for 75 minutes**
#
# - **Core:** sections 1, 2, 3, 5, 6 and 8: the product, saturation, the profile through depth, and three remedies: ReLU, initialisation, skip
#   connections.
# - **Optional:** 4 (explosion), 7 (normalisation: twenty minutes, and notebook 02 uses it), 9 (all remedies in one figure).
# - **Where to stop:** after the claims of section 8. Show section 9's figure as the last slide if five minutes are left.
#
# Run the cells of section 4 too, also where you do not show them: section 5 uses its seeds.

# %% slideshow={"slide_type": "skip"}
# Set-up: finds the course's files here, on Kaggle or on the net. Just run it.
import os, subprocess, sys
from pathlib import Path

repo, ref = "@REPO@", "@REF@"
clone = Path(f"deep-learning-for-images-{ref}").absolute()
book = globals().get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME", "")
near = [*clone.parents, *Path(book).absolute().parents, clone]
near += [f for n in (1, 2, 3, 4) for f in Path("/kaggle/input").glob("*/" * n)]
course = next((f for f in near if os.path.isfile(f / "utils/lessons.py")), None)
if not course:
    get = ["git", "clone", "-q", "--depth=1", "--branch", ref, repo, course := clone]
    try:
        subprocess.run(get, check=True, capture_output=True, errors="replace")
    except FileNotFoundError:
        sys.exit("Install git: it fetches the course, which is not here.")
    except subprocess.CalledProcessError as e:
        sys.exit(f"No network (Kaggle: Settings)? Or a private address?\n{e.stderr}")
elif course == clone:
    print(f"The copy fetched before is used. For the newest, rename {clone.name}.")
sys.path.insert(0, str(course))
other = getattr(sys.modules.get("utils"), "__path__", 0) != [str(course / "utils")]
[sys.modules.pop(n) for n in list(sys.modules) if n.split(".")[0] == "utils" and other]
import utils

device = utils.start()

# %% slideshow={"slide_type": "skip"}
# What this notebook imports. Everything that is not PyTorch is in the folder utils/.
import math

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm.auto import tqdm

from utils import datasets
from utils.exercises import vanishing_gradients as exercises
from utils.figures import explore, image_grid, show
from utils.lessons import claim, summary

# %% [markdown]
# ## 1. A chain of three functions (10 min)
#
# A network is a chain of functions. Three of them are enough to see everything:
#
# $$F = f_1(a_1, f_2(a_2, f_3(a_3)))$$
#
# How does $F$ change when $a_3$, the parameter at the far end, changes? The chain rule answers with a **product**, one
# factor for each function on the way:
#
# $$\frac{\partial F}{\partial a_3} = \frac{\partial f_1}{\partial f_2} \cdot \frac{\partial f_2}{\partial f_3} \cdot \frac{\partial f_3}{\partial a_3}$$
#
# We take $f(a, u) = \sigma(a\,u)$ three times, with the sigmoid $\sigma(z) = 1 / (1 + e^{-z})$ and an input $x$ at the end of the chain.

# %%
x, a1, a2, a3 = 0.5, 1.5, -2.0, 1.0
f3 = torch.sigmoid(torch.tensor(a3 * x))
f2 = torch.sigmoid(a2 * f3)
f1 = torch.sigmoid(a1 * f2)
print(f"F = {f1:.4f}")

# %% [markdown]
# By hand. The sigmoid has a handy derivative, $\sigma'(z) = \sigma(z)\,(1 - \sigma(z))$. So each factor needs only what the chain
# has computed already.

# %%
factors = [f1 * (1 - f1) * a1, f2 * (1 - f2) * a2, f3 * (1 - f3) * x]
by_hand = factors[0] * factors[1] * factors[2]
print(" · ".join(f"({factor:.3f})" for factor in factors), f"= {by_hand:.5f}")

# %% [markdown]
# By autograd. PyTorch multiplies the same factors, from the left to the right: **backpropagation**.

# %%
a = torch.tensor(a3, requires_grad=True)
output = torch.sigmoid(a1 * torch.sigmoid(a2 * torch.sigmoid(a * x)))
output.backward()
claim(
    "Autograd gives the product of the three factors",
    torch.isclose(a.grad, by_hand, rtol=1e-5),
    f"{a.grad:.6f} by autograd, {by_hand:.6f} by hand",
)

# %% [markdown]
# Each factor is below 1 in size, and the product is far below each of them. Suppose that every factor is the same:
# 0.1, or 1, or 2.

# %%
# NBVAL_CHECK_OUTPUT
for factor in (0.1, 1, 2):
    print(f"{factor} · {factor} · {factor} = {factor**3:g}")

# %% [markdown]
# **Before you run it:** now fifty functions instead of three. What is $0.1^{50}$ in float32, the numbers that networks use?
# And $2^{130}$?
#
# <details><summary>Answer</summary>
#
# Zero, and infinity. Not nearly: exactly. Float32 ends at about $10^{-45}$ below and $3 \cdot 10^{38}$ above.
#
# </details>

# %%
vanished, exploded = torch.full((50,), 0.1).prod(), torch.full((130,), 2.0).prod()
claim(
    "In float32, fifty factors of 0.1 give exactly zero, and 130 factors of 2 give infinity",
    vanished == 0 and torch.isinf(exploded),
    f"{vanished:g} and {exploded:g}",
)


# %%
# extra code: the product against the number of factors, the chosen factor in colour
def draw_chain(factor=0.1, depth=20):
    fig, ax = plt.subplots()
    steps = np.arange(1, depth + 1)
    for other in (0.1, 1.0, 2.0):
        chosen = other == factor
        ax.semilogy(steps, other**steps, color="C0" if chosen else "lightgray", zorder=2 + chosen, marker="o")
        ax.annotate(f"{other:g} each", (depth, other**depth), xytext=(10, 0), textcoords="offset points", va="center",
                    color="C0" if chosen else "gray", fontweight="bold" if chosen else None)  # fmt: skip
    ax.axhline(1.4e-45, color="C1", linestyle=":", zorder=1)
    ax.annotate("below this line float32 is zero", (1, 1.4e-45), xytext=(0, 6), textcoords="offset points", color="C1")
    ax.set(ylim=(1e-52, 1e17), xlabel="functions in the chain", ylabel="product of the factors")
    ax.set_title(f"{depth} factors of {factor:g}: a gradient of {factor**depth:.0e}")
    ax.set_xlim(1 - depth / 40, depth * 1.12)
    ax.xaxis.set_major_locator(plt.MaxNLocator(integer=True))
    return fig, f"The product of {depth} factors of {factor:g} is {factor**depth:.1e}; in grey, other factors."


explore(draw_chain, factor=[0.1, 1.0, 2.0], depth=[20, 3, 10, 30, 50])

# %% [markdown] slideshow={"slide_type": "notes"}
# Let the class say "vanishes", "stays", "explodes" for 0.1, 1, 2. Then ask which factor they would like to have: close to 1. All remedies of
# this notebook do nothing else: they keep the factors close to 1.

# %% [markdown]
# ## 2. Saturation (8 min)
#
# Which factors does a network have? One part of each is the derivative of the activation. The two classics are the sigmoid and
# the hyperbolic tangent. We let autograd draw their derivatives.

# %%
z = torch.linspace(-8, 8, 1001, requires_grad=True)
slopes = {}
for name, function in {"sigmoid": torch.sigmoid, "tanh": torch.tanh}.items():
    (slopes[name],) = torch.autograd.grad(function(z).sum(), z)


# %%
# extra code: both functions, and both derivatives
def saturation_figure():
    fig, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5))
    with torch.no_grad():
        left.plot(z, torch.sigmoid(z), z, torch.tanh(z))
    for i, (name, slope) in enumerate(slopes.items()):
        right.plot(z.detach(), slope)
        where = {"sigmoid": (2.4, 0.14), "tanh": (0.9, 0.75)}[name]
        right.annotate(f"{name}'\nat most {slope.max():.2g}", where, color=f"C{i}", fontweight="bold")
    left.annotate("sigmoid", (-7.8, 0.12), color="C0", fontweight="bold")
    left.annotate("tanh", (-7.8, -0.9), color="C1", fontweight="bold")
    left.set(xlabel="input z", ylabel="activation", title="Flat on both sides: saturated")
    right.set(xlabel="input z", ylabel="derivative", title="Away from zero, no gradient")
    return fig


# %%
show(saturation_figure(), "Left: sigmoid and tanh are flat for large positive and negative inputs. Right: the derivative of the sigmoid is 0.25 at "
     "most, that of tanh 1 at most, and both are nearly zero beyond plus or minus five.")  # fmt: skip

# %%
claim(
    "The derivative of the sigmoid is never above 1/4, that of tanh never above 1",
    0.2499 < slopes["sigmoid"].max() <= 0.25 and 0.999 < slopes["tanh"].max() <= 1,
    f"largest: {slopes['sigmoid'].max():.4f} and {slopes['tanh'].max():.4f}, both at z = 0",
)

# %% [markdown]
# So every sigmoid layer multiplies the gradient by 1/4 *at best*. And where the inputs are large, by nearly nothing. **Keep the inputs
# in the good range.** It begins with the data.
#
# ### Our data
#
# Scikit-learn's handwritten digits, 8 x 8 pixels. They are real, and so small that a network trains in a second.

# %%
train_set, val_set, test_set = datasets.digits()
fig = image_grid(train_set.images[:16], titles=[str(label.item()) for label in train_set.targets["label"][:16]])
show(fig, f"Sixteen of the {len(train_set):,} digits to train on, with their labels; {len(test_set)} others are there to test.")

# %%
pixels = train_set.images.flatten(1).float()  # 64 numbers a digit, from 0 to 255
mean, std = pixels.mean(), pixels.std()
x_train, y_train = (pixels - mean) / std, train_set.targets["label"]
x_test, y_test = (test_set.images.flatten(1).float() - mean) / std, test_set.targets["label"]

# %% [markdown]
# **Before you run it:** we send the digits through *one* fresh sigmoid layer, once as bytes from 0 to 255, once normalised to mean 0 and
# standard deviation 1. How many of its 64 outputs (its **units**) are saturated, with a derivative below 0.01?
#
# <details><summary>Answer</summary>
#
# Most of them with raw bytes: sums over 64 pixels of that size are far from zero. None to speak of after normalisation.
#
# </details>

# %%
layer = nn.Linear(64, 64)
with torch.no_grad():
    outputs = {"raw bytes": torch.sigmoid(layer(pixels)), "normalised": torch.sigmoid(layer(x_train))}
saturated = {name: (s * (1 - s) < 0.01).float().mean().item() for name, s in outputs.items()}
claim(
    "Raw pixels saturate most units of the first layer, normalised pixels next to none",
    saturated["raw bytes"] > 0.6 and saturated["normalised"] < 0.05,
    ", ".join(f"{share:.0%} with {name}" for name, share in saturated.items()),
)

# %% [markdown]
# From here on, all pixels are normalised. That mends the first layer. It does nothing for the second.

# %% [markdown]
# ## 3. The gradient through depth (20 min)
#
# Our network is a stack of equal layers, 64 units wide, because a digit has 64 pixels. Everything that this notebook will change is an
# argument: `activation`, `init`, `norm`, `skip`. All else stays.


# %%
class Layer(nn.Module):
    def __init__(self, activation, norm=None, skip=False, width=64):
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.norm = norm(width) if norm else nn.Identity()
        self.activation, self.skip = activation(), skip

    def forward(self, x):
        out = self.activation(self.norm(self.linear(x)))
        return x + out if self.skip else out


# %%
def network(depth, activation=nn.Sigmoid, init=None, norm=None, skip=False):
    model = nn.Sequential(*[Layer(activation, norm, skip) for _ in range(depth - 1)], nn.Linear(64, 10))
    for layer in linears(model)[:-1] if init else []:
        init(layer.weight)
        nn.init.zeros_(layer.bias)
    return model


def linears(model):
    """The linear layers, from the first to the last: `depth` of them."""
    return [module for module in model.modules() if isinstance(module, nn.Linear)]


# %% [markdown]
# The measuring device: the norm of the gradient, layer by layer. We call the result the network's **gradient profile**. (In float64: a norm
# squares its numbers, and the square of $10^{-25}$ is zero in float32.)


# %%
def gradient_profile(model):
    """Norm of the gradient of each layer's weights, from the first to the last, for the first 256 digits: (depth,)."""
    model.zero_grad()
    F.cross_entropy(model(x_train[:256]), y_train[:256]).backward()
    return np.array([layer.weight.grad.double().norm().item() for layer in linears(model)])


# %% [markdown]
# **Before you run it:** sigmoid networks of 2 to 50 layers, freshly made. The y-axis of the figure is logarithmic. What shape will the
# profiles have?
#
# <details><summary>Answer</summary>
#
# Straight lines. Each layer multiplies by about the same factor, so the gradient decays exponentially on its way from the last layer down
# to the first; on a logarithmic axis this is a line.
#
# </details>

# %%
profiles = {depth: gradient_profile(network(depth)) for depth in (2, 5, 10, 20, 30, 50)}


# %%
# extra code: one line a depth, named at its first layer
def plot_profiles(ax, profiles, floor=1e-46, at="left"):
    """profiles: name -> (depth,). Zeros are drawn as open circles at the floor. at: where the names stand, "left", "right"
    or above a layer."""
    dx, dy, ha = {"left": (-10, 0, "right"), "right": (10, 0, "left")}.get(at, (-6, 14, "right"))
    for i, (name, values) in enumerate(profiles.items()):
        layers, drawn = np.arange(1, len(values) + 1), np.maximum(values, floor)
        ax.semilogy(layers, drawn, color=f"C{i}", marker="." if len(values) < 31 else None)
        if (values == 0).any():
            ax.plot(layers[values == 0], drawn[values == 0], "o", mfc="white", color=f"C{i}")
        layer = {"left": 1, "right": len(values)}.get(at, at)
        ax.annotate(name, (layer, drawn[layer - 1]), xytext=(dx, dy), textcoords="offset points", ha=ha, va="center",
                    color=f"C{i}", fontweight="bold")  # fmt: skip
    ax.set(xlabel="layer (1 is the one next to the pixels)", ylabel="gradient norm")


# %%
fig, ax = plt.subplots(figsize=(10, 5))
plot_profiles(ax, {f"{depth} layers": values for depth, values in profiles.items()})
ax.set(xlim=(-9, 51), xticks=[1, 10, 20, 30, 40, 50], title="Sigmoid: the gradient decays exponentially on its way down")
show(fig, "Gradient norm of each layer on a logarithmic axis, for sigmoid networks of 2 to 50 layers: nearly straight lines that fall from the "
     f"last layer to the first, with 50 layers down to {profiles[50][0]:.0e}.")  # fmt: skip

# %%
values = profiles[20]
claim(
    "In a sigmoid network of 20 layers, the first layer's gradient is less than 10⁻¹² of the last one's",
    values[0] < 1e-12 * values[-1],
    f"{values[0]:.0e} against {values[-1]:.1f}",
)

# %%
layers, logs = np.arange(1, 20), np.log10(values[:-1])
slope = np.polyfit(layers, logs, deg=1)[0]
straight = np.corrcoef(layers, logs)[0, 1] ** 2
claim(
    "The decay is exponential: on a logarithmic axis a straight line fits the 19 equal layers",
    straight > 0.98 and slope > 0.6,
    f"each layer multiplies by {10**-slope:.2f}; R² = {straight:.3f}",
)

# %% [markdown]
# A factor below 1/4 a layer: 1/4 at best from the sigmoid, and the rest from the weights. With 64 inputs, PyTorch draws them between $-1/8$
# and $1/8$, which is small. This is the **vanishing gradient**.

# %% [markdown]
# ### During training
#
# Is this only a bad start, that training would mend? We train a network of 5 layers and one of 20, and look at the profile after every five
# epochs.


# %%
def train(model, num_epochs=15, optimizer=None, max_norm=None):
    """The training loop of this notebook; returns the loss of each step."""
    optimizer = optimizer or torch.optim.Adam(model.parameters(), lr=1e-3)
    model.train()
    losses = []
    for _ in range(num_epochs):
        for batch in torch.randperm(len(x_train)).split(64):
            loss = F.cross_entropy(model(x_train[batch]), y_train[batch])
            optimizer.zero_grad()
            loss.backward()
            if max_norm:
                nn.utils.clip_grad_norm_(model.parameters(), max_norm)  # section 4
            optimizer.step()
            losses.append(loss.item())
    return losses


# %%
@torch.no_grad()
def accuracy(model, x=x_test):
    model.eval()
    return (model(x).argmax(dim=1) == y_test).float().mean().item()


# %% [markdown]
# One line on speed. Products of 64 x 64 are too small to share among cores: the cores would spend their time waiting for each other. (A GPU
# would too.)

# %%
torch.set_num_threads(1)

# %%
during = {}
for depth in (5, 20):
    model = network(depth)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    during[depth] = {"start": gradient_profile(model)}
    for epoch in (5, 10, 15):
        train(model, num_epochs=5, optimizer=optimizer)
        during[depth][f"epoch {epoch}"] = gradient_profile(model)
    during[depth]["accuracy"] = accuracy(model)


# %%
# extra code: one panel a depth, one line a moment of training
def training_figure():
    fig, axes = plt.subplots(1, 2, figsize=(13, 5))
    for ax, (depth, moments) in zip(axes, during.items(), strict=True):
        profiles = [(name, values) for name, values in moments.items() if name != "accuracy"]
        for i, (name, values) in enumerate(profiles):
            ax.semilogy(range(1, depth + 1), values, color=plt.cm.viridis_r(0.15 + i / 4), marker="o", label=name)
        ax.set(xlabel="layer (1 is the one next to the pixels)", ylabel="gradient norm")
        ax.set_title(f"{depth} layers: {moments['accuracy']:.0%} right after 15 epochs")
        ax.legend(loc="lower right")
    axes[0].set_xticks(range(1, 6))
    axes[1].set_xticks([1, 5, 10, 15, 20])
    return fig


# %%
show(training_figure(), "Gradient profiles at the start and after 5, 10 and 15 epochs. With 5 layers the first layers' gradients grow while the network "
     "wakes up. With 20 layers all four lines lie on each other: nothing happens.")  # fmt: skip

# %%
first = {depth: moments["epoch 15"][0] / moments["start"][0] for depth, moments in during.items()}
claim(
    "With 5 layers the first gradient grows in training; with 20 it stays vanished, and the network guesses",
    first[5] > 3 and during[20]["epoch 15"][0] < 1e-13 and during[20]["accuracy"] < 0.2,
    f"5 layers: times {first[5]:.0f}; 20 layers: still {during[20]['epoch 15'][0]:.0e}, {during[20]['accuracy']:.0%} right",
)

# %% [markdown]
# ### The first layers learn slowest
#
# Learning is movement of the weights. We measure it relative to their size, $\lVert W - W_0 \rVert / \lVert W_0 \rVert$, after one epoch. With
# plain gradient descent (SGD) a step is the learning rate times the gradient. Adam divides the gradient by its own recent size, and a
# constant $\varepsilon = 10^{-8}$ guards against division by zero: $m / (\sqrt v + \varepsilon)$, with running means $m$ of the gradient and $v$ of its square.
#
# **Before you run it:** which layers move least with SGD? Does Adam cure that?
#
# <details><summary>Answer</summary>
#
# With SGD the first layers hardly move; in the network of 20 layers, not at all. Adam makes up for much of it, as long as the gradient is
# well above $\varepsilon$. Below it, there is nothing left to divide by. And moving is not learning: a gradient that small says next to
# nothing about the digits.
#
# </details>


# %%
def movement(depth, make_optimizer):
    """Relative movement of each layer's weights in one epoch: (depth,)."""
    model = network(depth)
    before = [layer.weight.detach().double().clone() for layer in linears(model)]
    train(model, num_epochs=1, optimizer=make_optimizer(model.parameters()))
    after = [layer.weight.detach().double() for layer in linears(model)]
    return np.array([((new - old).norm() / old.norm()).item() for old, new in zip(before, after, strict=True)])


# %%
optimizers = {"SGD": lambda p: torch.optim.SGD(p, lr=0.1), "Adam": lambda p: torch.optim.Adam(p, lr=1e-3)}
moved = {depth: {name: movement(depth, make) for name, make in optimizers.items()} for depth in (10, 20)}


# %%
# extra code: relative movement of each layer, one panel a depth
def movement_figure():
    fig, axes = plt.subplots(1, 2, figsize=(13, 5), sharey=True)
    for ax, (depth, profiles) in zip(axes, moved.items(), strict=True):
        plot_profiles(ax, profiles, floor=1e-14, at=3 * depth // 5)
        still = int((profiles["SGD"] == 0).sum())
        ax.set(xlim=(0.3, depth + 0.7), xticks=[1, depth // 2, depth], ylabel="relative movement in one epoch" if depth == 10 else None)
        ax.set_title(f"{depth} layers: " + (f"{still} of them do not move at all under SGD" if still else "the first move least under SGD"))
    axes[0].set_ylim(top=10)
    axes[1].annotate("open circles: exactly 0", (9, 1e-14), xytext=(14, 0), textcoords="offset points", va="center", color="gray")
    return fig


# %%
show(movement_figure(), "Relative movement of each layer's weights in one epoch, on a logarithmic axis, with SGD and Adam, for 10 and 20 layers. Under SGD it "
     "falls by orders of magnitude towards the first layer; open circles are layers that have not moved at all. Adam evens it out while gradients are "
     "large enough.")  # fmt: skip

# %%
sgd = moved[10]["SGD"]
claim(
    "The first layers learn slowest: under SGD, the first of 10 layers moves less than a ten-thousandth as far as the ninth",
    sgd[0] < 1e-4 * sgd[8],
    f"{sgd[0]:.0e} against {sgd[8]:.0e} of their size",
)

# %%
claim(
    "With 20 layers, an epoch of SGD does not change a single bit of the first layer's weights",
    moved[20]["SGD"][0] == 0,
    f"{(moved[20]['SGD'] == 0).sum()} of 20 layers stand still",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# The last layers do move: they learn to tell apart the random features that the frozen first layers give them, and those look all alike
# after many sigmoids. So even the part that learns has nothing to learn from. From here on everything is trained with Adam, the kinder of the two:
# what fails with Adam fails with SGD as well.

# %% [markdown]
# ## 4. Explosion, and clipping (10 min)
#
# Factors above 1 are no better. We make them with larger weights: a ReLU network of 10 layers whose weights have $g$ times the standard
# deviation that is right for it (section 6 says which one is right). The multiplier $g$ is called the **gain**.


# %%
def gain(g):
    return lambda weight: nn.init.normal_(weight, std=g * math.sqrt(2 / weight.shape[1]))


exploding = {f"gain {g:g}": gradient_profile(network(10, nn.ReLU, init=gain(g))) for g in (0.5, 1, 1.5, 3)}

# %%
fig, ax = plt.subplots()
plot_profiles(ax, exploding, at="right")
ax.set(xlim=(0.5, 12), xticks=range(1, 11), title="The gain decides: vanishing, healthy, exploding")
show(fig, "Gradient profiles of a ReLU network of 10 layers for gains of 0.5 to 3: the larger the gain, the larger the gradients, by orders "
     "of magnitude.")  # fmt: skip

# %% [markdown]
# Each profile is level, and it is its height that tells. A layer's gradient is a product of what comes forward, the activations, and what comes
# back. With a gain above 1 the first grow on the way up and the second on the way down: in the product every layer has all ten factors.
#
# **Clipping** (Pascanu et al. 2013) keeps the direction of the gradient and limits its length: with $\nabla$ the gradient of *all* weights as one
# long vector,
#
# $$\nabla \leftarrow \nabla \cdot \min\!\left(1, \frac{c}{\lVert \nabla \rVert}\right)$$
#
# In PyTorch this is one line between `backward` and `step`; it is in our training loop:
# `nn.utils.clip_grad_norm_(model.parameters(), max_norm)`.
#
# **Before you run it:** gain 1.5, SGD with learning rate 0.1, three seeds. What happens without the line, and with it?
#
# <details><summary>Answer</summary>
#
# Without it the first steps are far too long, the loss jumps up, the next gradient is larger still, and after a few steps all is NaN. With it,
# no step is longer than learning rate times $c$, and the network learns.
#
# </details>

# %%
first_seed = torch.initial_seed()
seeds = [first_seed, first_seed + 1, first_seed + 2]
clipping = {"not clipped": [], "clipped": []}  # the losses, and the accuracy, of each seed
for seed in tqdm(seeds, desc="three seeds", leave=False):
    for name, max_norm in {"not clipped": None, "clipped": 5.0}.items():
        torch.manual_seed(seed)
        model = network(10, nn.ReLU, init=gain(1.5))
        losses = train(model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), max_norm=max_norm)
        clipping[name].append((losses, accuracy(model)))


# %%
# extra code: the loss of each step; a run that becomes NaN ends in a cross
def clipping_figure():
    fig, ax = plt.subplots(figsize=(10, 4.8))
    for i, runs in enumerate(clipping.values()):
        for losses, _ in runs:
            whole = [value for value in losses if math.isfinite(value)]
            steps = np.arange(1, len(whole) + 1)
            ax.loglog(steps, whole, color=f"C{1 - i}", alpha=0.85, linewidth=3 if i == 0 else 1.5)
            if len(whole) < len(losses):
                ax.plot(steps[-1:], whole[-1:], "X", color="C1", markersize=15)
    ax.annotate("not clipped: then NaN", (steps_to_nan(), 1e6), xytext=(20, 0), textcoords="offset points", color="C1", fontweight="bold")
    ax.annotate("clipped", (30, 10), color="C0", fontweight="bold")
    ax.set(xlabel="training step (logarithmic)", ylabel="loss", ylim=(1e-4, None), title="The same start: one line keeps it from exploding")
    return fig


def steps_to_nan():
    """The step after which the last unclipped run is lost."""
    return max(sum(map(math.isfinite, losses)) for losses, _ in clipping["not clipped"])


# %%
show(clipping_figure(), f"Loss against training step, both axes logarithmic, three seeds. Without clipping the loss jumps up and is NaN after {steps_to_nan()} "
     "steps at most; with clipping it falls.")  # fmt: skip

# %%
worst = min(right for _, right in clipping["clipped"])
claim(
    "At a gain of 1.5, training without clipping ends in NaN on every seed, and with clipping it learns on every seed",
    all(math.isnan(losses[-1]) for losses, _ in clipping["not clipped"]) and worst > 0.6,
    f"NaN after {steps_to_nan()} steps at most; clipped, the worst of three has {worst:.0%} right",
)

# %% [markdown]
# Two limits. A smaller learning rate would also have kept this network alive; clipping allows the large one, which is faster. And clipping
# comes too late once there is nothing finite left to scale. Weights drawn from $N(0, 1)$ and 60 layers:

# %%
model = network(60, nn.ReLU, init=nn.init.normal_)
profile = gradient_profile(model)
nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
clipped = linears(model)[0].weight.grad
claim(
    "Clipping cannot mend a gradient that is infinite or NaN already",
    not np.isfinite(profile).all() and not torch.isfinite(clipped).any(),
    f"before clipping the first layer's norm is {profile[0]}, after it every gradient is {clipped[0, 0]}",
)

# %% [markdown]
# ## 5. First remedy: ReLU (8 min)
#
# The rectified linear unit, $\max(0, z)$, has the derivative 1 for every positive input, however large. No ceiling of 1/4, no saturation on the right
# (Glorot et al. 2011).
#
# We try every remedy in the same way: `attempt` trains `network(20, ...)` on three seeds, with one argument changed.

# %%
remedies, results = {}, {}  # name -> arguments of network(...); name -> depth -> accuracy on each seed


def trained_accuracies(depth, seeds, **changes):
    found = []
    for seed in tqdm(seeds, desc=f"training {depth} layers", leave=False):
        torch.manual_seed(seed)
        model = network(depth, **changes)
        train(model)
        found.append(accuracy(model))
    return found


# %%
def attempt(name, **changes):
    remedies[name] = changes
    results[name] = {20: trained_accuracies(20, seeds, **changes)}
    print(f"{name}, 20 layers, right on new digits: " + ", ".join(f"{right:.0%}" for right in results[name][20]))


# %%
attempt("sigmoid")

# %% [markdown]
# That is guessing: there are ten digits.
#
# **Before you run it:** ReLU instead of the sigmoid. At 8 layers, and at 20?
#
# <details><summary>Answer</summary>
#
# At 8 layers it trains, where the sigmoid does little better than guess. At 20 layers it hardly gets anywhere: the derivative is mended, the
# weights are not.
#
# </details>

# %%
attempt("ReLU", activation=nn.ReLU)

# %%
sigmoid_8, relu_8 = trained_accuracies(8, seeds), trained_accuracies(8, seeds, activation=nn.ReLU)
claim(
    "At 8 layers ReLU trains, and the sigmoid does not",
    min(relu_8) > 0.7 and max(sigmoid_8) < 0.4,
    f"worst ReLU {min(relu_8):.0%}, best sigmoid {max(sigmoid_8):.0%}",
)

# %%
fig, ax = plt.subplots()
pair = {"sigmoid": gradient_profile(network(20)), "ReLU": gradient_profile(network(20, nn.ReLU))}
plot_profiles(ax, pair)
ax.set(xlim=(-3, 20.5), xticks=[1, 5, 10, 15, 20], title="ReLU: far better, and still it vanishes")
show(fig, f"Gradient profiles of 20 layers. The sigmoid's falls towards the first layer to {pair['sigmoid'][0]:.0e}, that of ReLU to "
     f"{pair['ReLU'][0]:.0e}.")  # fmt: skip

# %% [markdown]
# ## 6. Second remedy: initialisation (12 min)
#
# The derivative of ReLU is 1 or 0. The other part of each factor is the **weights**. How large should they be?
#
# One unit computes $z = \sum_{i=1}^{n} w_i x_i$ from $n$ inputs. With independent weights of mean 0,
#
# $$\mathrm{E}[z^2] = n \cdot \mathrm{Var}(w) \cdot \mathrm{E}[x^2]$$
#
# To keep $\mathrm{E}[z^2]$ through depth we need $n \cdot \mathrm{Var}(w) = 1$. ReLU throws half of it away, so there we need a 2. Three rules,
# one line each:


# %%
def pytorch_default(weight):
    n = weight.shape[1]
    nn.init.uniform_(weight, -1 / math.sqrt(n), 1 / math.sqrt(n))  # Var(w) = 1 / 3n


def xavier(weight):
    n_out, n_in = weight.shape
    nn.init.normal_(weight, std=math.sqrt(2 / (n_in + n_out)))  # Glorot and Bengio 2010: forward and backward alike


def he(weight):
    nn.init.normal_(weight, std=math.sqrt(2 / weight.shape[1]))  # He et al. 2015: for ReLU


# %% [markdown]
# **Before you run it:** which of the three keeps the size of the activations through 20 layers of ReLU? What do the others do?
#
# <details><summary>Answer</summary>
#
# He keeps it. Xavier halves $\mathrm{E}[z^2]$ in each layer, because ReLU does. PyTorch's default has a sixth of He's variance, and so divides
# $\mathrm{E}[z^2]$ by 6 in each layer.
#
# </details>


# %%
@torch.no_grad()
def mean_squares(init, depth=20, width=512):
    """E[z²] of each layer of a ReLU network without biases; wide, so that the law stands out from chance."""
    x, found = x_train[:256], []
    for _ in range(depth):
        weight = torch.empty(width, x.shape[1])
        init(weight)
        z = x @ weight.T
        found.append(z.square().mean().item())
        x = F.relu(z)
    return np.array(found)


sizes = {"He": mean_squares(he), "Xavier": mean_squares(xavier), "PyTorch's default": mean_squares(pytorch_default)}

# %%
fig, ax = plt.subplots(figsize=(10, 4.8))
plot_profiles(ax, sizes, at="right")
ax.set(xlim=(0.5, 26.5), xticks=[1, 5, 10, 15, 20], xlabel="layer", ylabel="E[z²]: size of the inputs")
ax.set_title("Only He keeps the size through 20 layers of ReLU")
show(fig, "Mean square of the inputs of each layer's activation, on a logarithmic axis: level with He's initialisation, falling with Xavier's, falling more than "
     "twice as steeply with PyTorch's default.")  # fmt: skip

# %%
change = {name: values[-1] / values[0] for name, values in sizes.items()}
claim(
    "Through 20 layers of ReLU, He's initialisation keeps the mean square within a factor of 10; PyTorch's default loses it",
    0.1 < change["He"] < 10 and change["PyTorch's default"] < 1e-10,
    ", ".join(f"{name} times {value:.1e}" for name, value in change.items()),
)

# %%
attempt("ReLU, He", activation=nn.ReLU, init=he)

# %%
worst, best = min(results["ReLU, He"][20]), max(results["ReLU"][20])
claim(
    "PyTorch's default initialisation is not enough for 20 layers of ReLU, and He's is",
    worst > best + 0.2,
    f"worst with He {worst:.0%}, best with the default {best:.0%}",
)

# %% [markdown]
# Around zero tanh is the identity: it wants no 2, so Xavier suits it.

# %%
attempt("tanh, Xavier", activation=nn.Tanh, init=xavier)

# %% [markdown] slideshow={"slide_type": "notes"}
# Why is PyTorch's default so small? It is an old rule (LeCun et al. 1998 argue for a variance near 1/n, and the uniform with bound 1/sqrt(n) has a third of
# it), kept so that old code keeps its results. For a few layers it does not matter. Ask: what would He's rule do to a sigmoid network? (Its gradient still vanishes: try it in the explorer of section 9.)

# %% [markdown]
# ## 7. Third remedy: normalisation (20 min)
#
# A good initialisation sets the sizes right **once**. Normalisation sets them right **in every pass**: subtract the mean, divide by the standard
# deviation, then let the network scale ($\gamma$) and shift ($\beta$) as it likes:
#
# $$y = \gamma\,\frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}} + \beta$$
#
# There are four kinds. They differ in one thing only: **over which axes** $\mu$ and $\sigma$ are taken. To see axes we need a tensor that has
# some: $N$ images, $C$ channels, $H \times W$ pixels, out of one convolution over real digits.

# %%
images = (train_set.images[:6].float() / 255)
features = nn.Conv2d(1, 8, kernel_size=3, padding=1)(images).detach()
features.shape  # N, C, H, W


# %%
def normalise(x, axes):
    mean = x.mean(axes, keepdim=True)
    variance = x.var(axes, keepdim=True, unbiased=False)
    return (x - mean) / torch.sqrt(variance + 1e-5)


# %%
ours = {
    "batch": normalise(features, axes=(0, 2, 3)),
    "layer": normalise(features, axes=(1, 2, 3)),
    "instance": normalise(features, axes=(2, 3)),
    "group": normalise(features.unflatten(1, (2, 4)), axes=(2, 3, 4)).flatten(1, 2),  # 2 groups of 4 channels
}

# %%
pytorch = {"batch": nn.BatchNorm2d(8), "layer": nn.LayerNorm([8, 8, 8]), "instance": nn.InstanceNorm2d(8), "group": nn.GroupNorm(2, 8)}
gaps = {name: (layer(features) - ours[name]).abs().max().item() for name, layer in pytorch.items()}
claim(
    "One formula with four choices of axes gives PyTorch's batch, layer, instance and group normalisation",
    max(gaps.values()) < 1e-4,
    f"largest difference {max(gaps.values()):.0e}",
)


# %%
# extra code: the real tensor as a grid of maps; what shares one mean and one standard deviation is orange
def axes_figure():
    share = {"batch, over (N, H, W)": lambda n, c: c == 2, "layer, over (C, H, W)": lambda n, c: n == 1,
             "instance, over (H, W)": lambda n, c: (n, c) == (1, 2), "group, over (C/2, H, W)": lambda n, c: n == 1 and c < 4}  # fmt: skip
    fig, axes = plt.subplots(2, 2, figsize=(11.5, 9.2))
    low, high = features.amin((0, 2, 3), keepdim=True), features.amax((0, 2, 3), keepdim=True)
    shade = ((features - low) / (high - low)).numpy()
    for ax, (title, chosen) in zip(axes.flat, share.items(), strict=True):
        picture = np.ones((6 * 9 + 1, 8 * 9 + 1, 4))
        for n, c in np.ndindex(6, 8):
            colours = plt.cm.Oranges(0.25 + 0.6 * shade[n, c]) if chosen(n, c) else plt.cm.Greys(0.1 + 0.5 * shade[n, c])
            picture[n * 9 + 1 : n * 9 + 9, c * 9 + 1 : c * 9 + 9] = colours
        ax.imshow(picture)
        ax.grid(False)
        ax.set(xticks=np.arange(8) * 9 + 4.5, xticklabels=range(8), yticks=np.arange(6) * 9 + 4.5, yticklabels=range(6))
        ax.set(xlabel="channel (C)", ylabel="image (N)", title=title)
        ax.spines[["left", "bottom"]].set_visible(False)
        ax.tick_params(length=0)
    return fig


# %%
show(axes_figure(), "Eight channels of six digits after one convolution. The orange maps share one mean and one standard deviation. Batch: one channel of all images. "
     "Layer: all channels of one image. Instance: one channel of one image. Group: half of the channels of one image.")  # fmt: skip

# %% [markdown] slideshow={"slide_type": "notes"}
# Ask the class for each panel: what happens with a batch of one image? Batch normalisation has no other images to compare with (and at test time it uses
# running averages instead: eval mode). The other three never look at another image. A slide writes `BatchNorm2D`; the class is `BatchNorm2d`.

# %% [markdown]
# ### Each where it makes sense
#
# Our stack of layers has no pixels, only units. There batch and layer normalisation make sense, and group normalisation with the units
# in groups.
#
# **Before you run it:** the sigmoid network of 20 layers again. Only `norm` changes. Does batch normalisation help? Does layer normalisation?
#
# <details><summary>Answer</summary>
#
# Batch normalisation does, layer normalisation does not. After some sigmoids, all digits give nearly the same activations: every unit has
# a mean of its own, and the digits differ by a tiny bit around it. Batch normalisation subtracts each unit's mean over the digits,
# divides by the tiny bit, and so makes it large again, and the gradient with it. Layer normalisation looks at one digit: there the differences
# between the units dominate, the tiny bit stays tiny.
#
# </details>

# %%
attempt("sigmoid, batch norm", norm=nn.BatchNorm1d)

# %%
attempt("sigmoid, layer norm", norm=nn.LayerNorm)

# %%
worst, best = min(results["sigmoid, batch norm"][20]), max(results["sigmoid, layer norm"][20])
claim(
    "Batch normalisation makes the sigmoid network of 20 layers trainable; layer normalisation does not",
    worst > 0.8 and best < 0.25,
    f"worst with batch norm {worst:.0%}, best with layer norm {best:.0%}",
)

# %% [markdown]
# With ReLU, layer normalisation does help. Group normalisation we show as it is: look at its three seeds.

# %%
attempt("ReLU, layer norm", activation=nn.ReLU, norm=nn.LayerNorm)

# %%
attempt("ReLU, group norm", activation=nn.ReLU, norm=lambda width: nn.GroupNorm(8, width))

# %%
worst, best = min(results["ReLU, layer norm"][20]), max(results["ReLU"][20])
claim(
    "With ReLU, layer normalisation makes 20 layers trainable",
    worst > best + 0.2,
    f"worst {worst:.0%}, best without it {best:.0%}",
)

# %% [markdown]
# ### Instance normalisation wants pixels
#
# Instance normalisation averages over the pixels of one channel. A unit of our stack has no pixels: one number, whose mean is itself. So
# what does `nn.InstanceNorm1d` do with a batch of 64 digits of 64 units?

# %%
batch = x_train[:64]
trap = nn.InstanceNorm1d(64)(batch)
claim(
    "On a batch without pixels, InstanceNorm1d computes layer normalisation, and says nothing",
    torch.allclose(trap, F.layer_norm(batch, (64,)), atol=1e-4),
    f"largest difference {(trap - F.layer_norm(batch, (64,))).abs().max():.0e}",
)

# %% [markdown]
# It took the batch of shape (64, 64) for *one* sample of 64 channels with 64 positions. No error, another layer. (With other batch sizes it
# warns.) **Look at the shapes that a layer expects.**
#
# So we try it where it belongs, on a small convolutional network, and ask for something that it is good at. Train on digits as they are;
# test on digits that are paler, with a quarter of the contrast.


# %%
def conv_network(norm):
    blocks = []
    for in_channels in (1, 16, 16):
        blocks += [nn.Conv2d(in_channels, 16, kernel_size=3, padding=1), norm(16), nn.ReLU()]
    return nn.Sequential(nn.Unflatten(1, (1, 8, 8)), *blocks, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 10))


norms = {
    "none": lambda channels: nn.Identity(),
    "batch": nn.BatchNorm2d,
    "layer": lambda channels: nn.GroupNorm(1, channels),  # one group: all channels and pixels of an image
    "group": lambda channels: nn.GroupNorm(4, channels),
    "instance": nn.InstanceNorm2d,
}

# %% [markdown]
# **Before you run it:** which of the five still reads the pale digits?
#
# <details><summary>Answer</summary>
#
# Instance normalisation. It divides each channel of each image by its own standard deviation, so the contrast of the image is gone
# before the next layer sees it. Layer and group normalisation do something similar with several channels at once; what our small networks
# make of that differs from run to run. Batch normalisation uses the averages of the training digits, and pale digits do not fit them.
#
# </details>

# %%
pale = (0.25 * test_set.images.flatten(1).float() - mean) / std
contrast = {}
for name, norm in tqdm(norms.items(), desc="five networks", leave=False):
    torch.manual_seed(first_seed)
    model = conv_network(norm)
    train(model, num_epochs=10)
    contrast[name] = accuracy(model), accuracy(model, pale)


# %%
# extra code: a pair of bars for each normalisation
def contrast_figure():
    fig, ax = plt.subplots(figsize=(10, 4.6))
    for row, (name, (normal, weak)) in enumerate(contrast.items()):
        for shift, value, colour in ((-0.2, normal, "lightgray"), (0.2, weak, "C1" if name == "instance" else "C0")):
            ax.barh(row + shift, value, height=0.38, color=colour)
            ax.annotate(f"{value:.0%}", (value, row + shift), xytext=(6, 0), textcoords="offset points", va="center")
    ax.set(yticks=range(len(contrast)), yticklabels=contrast, xlim=(0, 1.1), xlabel="right on new digits (grey: as they are; coloured: pale)")
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.set_title("Instance normalisation reads the pale digits best")
    return fig


# %%
show(contrast_figure(), "Accuracy of a small convolutional network with each normalisation, on digits as they are and on pale ones: "
     + ", ".join(f"{name} {normal:.0%} and {weak:.0%}" for name, (normal, weak) in contrast.items()) + ".")  # fmt: skip

# %%
weak = {name: values[1] for name, values in contrast.items()}
claim(
    "Digits of a quarter of the contrast are still read with instance normalisation, and better than with any of the others",
    weak["instance"] > 0.75 and weak["instance"] == max(weak.values()) > sorted(weak.values())[-2],
    ", ".join(f"{name} {value:.0%}" for name, value in weak.items()),
)

# %% [markdown]
# ### What normalisation does not mend
#
# It keeps the *activations* in the good range. The gradient on its way back is another matter. Fifty layers:

# %%
deep = {
    "ReLU, batch norm": gradient_profile(network(50, nn.ReLU, norm=nn.BatchNorm1d)),
    "ReLU, layer norm": gradient_profile(network(50, nn.ReLU, norm=nn.LayerNorm)),
    "sigmoid, layer norm": gradient_profile(network(50, norm=nn.LayerNorm)),
}
fig, ax = plt.subplots(figsize=(10, 4.8))
plot_profiles(ax, deep)
ax.set(xlim=(-26, 51), xticks=[1, 10, 20, 30, 40, 50], title="Normalised activations, and gradients that explode or vanish")
show(fig, "Gradient profiles of 50 normalised layers. With ReLU and batch normalisation the gradient grows towards the first layer by orders of "
     "magnitude, with the sigmoid and layer normalisation it vanishes.")  # fmt: skip

# %%
ratio = deep["ReLU, batch norm"][0] / deep["ReLU, batch norm"][-2]
claim(
    "With batch normalisation the gradient of a deep ReLU network explodes: over a thousandfold in 50 layers",
    ratio > 1000,
    f"the first layer's gradient is {ratio:,.0f} times that of the last layer but one",
)

# %% [markdown]
# Known, and derived: batch normalisation multiplies the gradient of such a network by a factor above 1 in each layer (Yang et al. 2019).
# Why then are networks of a hundred layers trained with it? Because of the next remedy.

# %% [markdown]
# ## 8. Fourth remedy: skip connections (10 min)
#
# Let each layer *add* to what is there: $y = x + f(x)$. Then the factor of the layer is
#
# $$\frac{\partial y}{\partial x} = 1 + f'(x)$$
#
# However small $f'$ is, there is a 1: **the gradient of earlier parameters depends more directly on the output.** Multiply 50 such factors out: one of
# the terms is $1 \cdot 1 \cdots 1$, the path that runs past all layers.

# %%
shortcut = network(50, nn.ReLU, init=nn.init.zeros_, skip=True)[:-1]  # 49 layers with f = 0, without the last one
x = x_train[:1].clone().requires_grad_()
shortcut(x).sum().backward()
claim(
    "With skip connections a gradient passes 49 layers that do nothing, unchanged: exactly 1",
    (x.grad == 1).all(),
    f"from {x.grad.min():g} to {x.grad.max():g}",
)

# %% [markdown]
# **Before you run it:** the sigmoid network of 20 layers with PyTorch's default initialisation, the worst that we have. Only `skip=True` is new.
#
# <details><summary>Answer</summary>
#
# It trains. The sigmoids still saturate and still multiply by less than 1/4, on the side road. The main road is free.
#
# </details>

# %%
attempt("sigmoid, skip", skip=True)

# %%
attempt("ReLU, skip", activation=nn.ReLU, skip=True)

# %%
worst = min(results["sigmoid, skip"][20])
claim(
    "A skip connection alone makes the sigmoid network of 20 layers trainable",
    worst > 0.8 and max(results["sigmoid"][20]) < 0.25,
    f"worst {worst:.0%}, best without it {max(results['sigmoid'][20]):.0%}",
)

# %%
with_skip = {"with skip connections": gradient_profile(network(50, skip=True)), "without": gradient_profile(network(50))}
fig, ax = plt.subplots(figsize=(10, 4.8))
plot_profiles(ax, with_skip, at=25)
ax.set(xlim=(0, 51), xticks=[1, 10, 20, 30, 40, 50], title="50 layers of sigmoid: with skip connections the profile is level")
ax.set_ylim(top=1e6)
show(fig, "Gradient profiles of 50 sigmoid layers. With skip connections the line is nearly level; without, it falls to "
     f"{with_skip['without'][0]:.0e} at the first layer.")  # fmt: skip

# %%
values = with_skip["with skip connections"]
claim(
    "With skip connections, the gradients of 50 sigmoid layers stay within a factor of 1,000 of each other",
    values.max() < 1000 * values.min(),
    f"from {values.min():.2g} to {values.max():.2g}; without skip the first is {with_skip['without'][0]:.0e}",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# This is the residual network of He, Zhang, Ren and Sun. A slide dates it 2005; it is of December 2015. Notebook 02 builds it with convolutions and
# shows the other half of the story: that it also makes deeper networks *better*, not only trainable.

# %% [markdown]
# ## 9. All remedies against depth (10 min)
#
# Twenty layers first, all three seeds. Each remedy is one argument, or two, of the same `network`.


# %%
# extra code: a row for each remedy, a dot for each seed, the median written beside
def seeds_figure():
    fig, ax = plt.subplots(figsize=(10, 5.6))
    for row, by_depth in enumerate(results.values()):
        values = by_depth[20]
        ax.plot([min(values), max(values)], [row, row], color="C0", alpha=0.35, linewidth=9, solid_capstyle="round")
        ax.plot(values, [row] * len(values), "o", color="C0", markersize=10)
        ax.annotate(f"{np.median(values):.0%}", (max(values), row), xytext=(14, 0), textcoords="offset points", va="center")
    ax.axvline(0.1, color="gray", linestyle=":")
    ax.annotate("guessing", (0.1, -0.6), xytext=(6, 0), textcoords="offset points", color="gray", va="center")
    ax.set(yticks=range(len(results)), yticklabels=results, xlim=(0, 1.12), ylim=(len(results) - 0.5, -1))
    ax.set(xlabel="right on new digits (a dot a seed, their range as a band)", title="20 layers: a guess without a remedy")
    return fig


# %%
show(seeds_figure(), "Accuracy of 20 layers on three seeds, medians: "
     + ", ".join(f"{name} {np.median(by_depth[20]):.0%}" for name, by_depth in results.items()) + ".")  # fmt: skip

# %% [markdown]
# Now 5, 10 and 50 layers, one seed each.

# %%
jobs = [(name, depth) for depth in (5, 10) for name in remedies]
for name, depth in tqdm(jobs, desc="5 and 10 layers", leave=False):
    results[name][depth] = trained_accuracies(depth, seeds[:1], **remedies[name])

# %% [markdown]
# **Before you run it:** fifty layers. Which remedies survive?
#
# <details><summary>Answer</summary>
#
# Skip connections. The sigmoid with batch normalisation comes near. A good start alone, or normalisation with ReLU, is not enough any more in 15
# epochs.
#
# </details>

# %%
for name in tqdm(remedies, desc="50 layers", leave=False):
    results[name][50] = trained_accuracies(50, seeds[:1], **remedies[name])


# %%
# extra code: a table of remedies and depths, coloured by accuracy
def closing_figure():
    depths = [5, 10, 20, 50]
    table = np.array([[np.median(results[name][depth]) for depth in depths] for name in results])
    fig, ax = plt.subplots(figsize=(9.5, 6.4))
    ax.imshow(table, cmap="Blues", vmin=0, vmax=1.25, aspect="auto")
    for (row, column), value in np.ndenumerate(table):
        ax.text(column, row, f"{value:.0%}", ha="center", va="center", fontsize=15, color="white" if value > 0.8 else "black",
                fontweight="bold" if value > 0.8 else None)  # fmt: skip
    ax.grid(False)
    ax.set(xticks=range(4), xticklabels=[f"{depth} layers" for depth in depths], yticks=range(len(results)), yticklabels=results)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    shallow, deep = (table[:, [0, 3]] > 0.8).sum(axis=0)
    ax.set_title(f"{shallow} of {len(table)} train (above 80 %) with 5 layers, {deep} with 50", pad=34, loc="right")
    return fig, table


# %%
fig, table = closing_figure()
show(fig, "Accuracy on new digits for each remedy (rows) with 5, 10, 20 and 50 layers (columns); bold on dark: above 80 %. With depth fewer and fewer remedies "
     "train; the rows with skip connections stay dark.")  # fmt: skip

# %%
claim(
    "At 50 layers the sigmoid network with skip connections still trains; without a remedy it guesses from 10 layers on",
    results["sigmoid, skip"][50][0] > 0.8 and max(results["sigmoid"][depth][0] for depth in (10, 20, 50)) < 0.25,
    f"with skip {results['sigmoid, skip'][50][0]:.0%} at 50 layers, without a remedy {results['sigmoid'][10][0]:.0%} at 10",
)

# %% [markdown]
# Read the table with care. It says what trains **in 15 epochs with Adam at one learning rate**, a budget of seconds. More epochs, another learning
# rate or a learning rate that begins small (a *warm-up*) move the borders. What does not move: the deeper, the fewer.
#
# And a level profile is needed, but not enough. ReLU with layer normalisation has a level profile at 50 layers (section 7); look at its row. The norm of a
# gradient says that something arrives, not that it points somewhere useful: in deep networks without skip connections, gradients come to resemble noise
# (Balduzzi et al. 2017).
#
# In practice the remedies are combined. ReLU, He, batch normalisation and skip connections *together* are a ResNet.

# %% [markdown]
# ### Explore
#
# Every combination, freshly initialised. Watch the profile: level is healthy. (Open circles on the floor are exactly zero. What is infinite or NaN
# cannot be drawn, and the title says so.)

# %%
# extra code: the choices of the explorer
activations = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "ReLU": nn.ReLU}
inits = {"PyTorch's default": None, "Xavier": xavier, "He": he, "N(0, 1)": nn.init.normal_}
norm_layers = {"none": None, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm, "group": lambda width: nn.GroupNorm(8, width)}


def verdict(values):
    if not np.isfinite(values).all():
        return "Exploded: gradients are infinite or NaN"
    ratio = values[0] / values[-1]
    word = "Vanishes" if ratio < 1e-3 else "Explodes" if max(ratio, values.max()) > 1e3 else "Level"
    return f"{word}: the first layer's gradient is {ratio:.1e} times the last one's"


def draw_profile(depth=20, activation="sigmoid", initialisation="PyTorch's default", normalisation="none", skip="no"):
    torch.manual_seed(first_seed)
    model = network(depth, activations[activation], inits[initialisation], norm_layers[normalisation], skip == "yes")
    values = gradient_profile(model)
    fig, ax = plt.subplots(figsize=(10, 4.6))
    whole = values[np.isfinite(values)]
    plot_profiles(ax, {"": np.where(np.isfinite(values), values, np.nan)})
    low, high = max(1e-46, whole.min(initial=1e-4) / 3), whole.max(initial=1e2) * 3
    ax.set(ylim=(low, high), xlim=(0.5, depth + 0.5), title=(finding := verdict(values)))
    ax.xaxis.set_major_locator(plt.MaxNLocator(integer=True))
    ax.minorticks_off()
    return fig, (f"Gradient profile of {depth} layers with {activation}, {initialisation} initialisation, normalisation {normalisation}, "
                 f"skip connections {skip}: {finding}.")  # fmt: skip


# %%
explore(draw_profile, depth=[20, 2, 5, 10, 30, 50], activation=list(activations), initialisation=list(inits),
        normalisation=list(norm_layers), skip=["no", "yes"])  # fmt: skip

# %% [markdown]
# ## 10. Exercises (40 min)
#
# Write your answer in place of the dots and run the cell: the check tells you what it expected and what came. Stuck? Take away the `#` in
# the cell below it.
#
# **Exercise 1: the chain rule by hand.** The chain of section 1, with tanh: $F = \tanh(a_1 \tanh(a_2 \tanh(a_3 x)))$. Return
# $\partial F / \partial a_2$, for tensors, without autograd. (The derivative of tanh is $1 - \tanh^2$.)


# %%
def chain_gradient(x, a1, a2, a3):
    ...


exercises.chain_gradient.check(chain_gradient)

# %% slideshow={"slide_type": "skip"}
# exercises.chain_gradient.hint()
# exercises.chain_gradient.solution()

# %% [markdown]
# **Exercise 2: clip.** Scale the gradients of all `parameters` in place, all by the same factor, so that their joint norm is `max_norm` at
# most. Return the joint norm from before. No `clip_grad_norm_`.


# %%
def clip(parameters, max_norm):
    ...


exercises.clip.check(clip)

# %% slideshow={"slide_type": "skip"}
# exercises.clip.hint()
# exercises.clip.solution()

# %% [markdown]
# **Exercise 3: He's initialisation.** Draw the weights of every `nn.Linear` of `model` as He et al. would, set the biases to zero, and return the
# model. The layers have different widths. No `kaiming_normal_`.


# %%
def initialise(model):
    ...


exercises.initialise.check(initialise)

# %% slideshow={"slide_type": "skip"}
# exercises.initialise.hint()
# exercises.initialise.solution()

# %% [markdown]
# **Exercise 4: group normalisation.** Normalise `x` (N, C, H, W) in `num_groups` groups of neighbouring channels, without scale and shift, $\varepsilon =
# 10^{-5}$. No `nn.GroupNorm`. With which `num_groups` is it layer normalisation, with which instance normalisation?


# %%
def group_norm(x, num_groups):
    ...


exercises.group_norm.check(group_norm)

# %% slideshow={"slide_type": "skip"}
# exercises.group_norm.hint()
# exercises.group_norm.solution()

# %% [markdown]
# **Exercise 5: a block that begins as nothing.** Return a module for inputs (N, `width`): $y = x + f(x)$, with $f$ two linear layers and a ReLU
# between them. At the start it must be *exactly* the identity, and yet be able to learn. Which weights may be zero?


# %%
def make_block(width):
    ...


exercises.make_block.check(make_block)

# %% slideshow={"slide_type": "skip"}
# exercises.make_block.hint()
# exercises.make_block.solution()

# %% [markdown]
# ## 11. Lab: fifty layers of sigmoid (30 min and more)
#
# **Make the 50-layer sigmoid network learn, without touching depth or activation.** 50 linear layers one after the other, `nn.Sigmoid()` after each but the
# last, nothing else that bends. All else is yours: initialisation, normalisation, skip connections, optimizer, learning rate, epochs.
#
# Train on `x_train` and `y_train`, watch on `val_set` if you like, and leave `x_test` alone. `train_deep` takes nothing and returns the trained network. The
# check counts its layers and scores it on the held-out test digits. Guessing gives 10 %, **90 % is good, 96 % is very good.**


# %%
def train_deep():
    ...


exercises.lab.check(train_deep)

# %% slideshow={"slide_type": "skip"}
# exercises.lab.hint()
# exercises.lab.solution()

# %% [markdown]
# ## Summary
#
# - The gradient of an early layer is a product with a factor for each later layer. Below 1 it vanishes, above 1 it explodes, both exponentially.
# - Sigmoid and tanh saturate; the sigmoid's derivative is 1/4 at most. ReLU has a 1 for all that is positive.
# - The weights are the other half of each factor: He for ReLU, Xavier for tanh. PyTorch's default is made for few layers.
# - Clipping rescues a training whose gradients are too large, as long as they are finite.
# - Normalisation keeps activations in range. The four kinds differ in their axes, and none of them is a promise about gradients.
# - A skip connection puts a 1 into every factor. It alone carries 50 layers of sigmoid.
#
# The claims of this run, with their figures:

# %%
summary()

# %% [markdown]
# ### Lecture topics
#
# | topic | section | lectures |
# |---|---|---|
# | V1 the chain rule as a product of factors | 1 | A |
# | V2 saturation of sigmoid and tanh | 2 | D |
# | V3 gradient norm of each layer against depth, first layers learn slowest | 3 | A, D |
# | V4 exploding gradients and clipping | 4 | A |
# | V5 ReLU | 5 | D |
# | V6 initialisation: Xavier, He | 6 | D |
# | V7 batch, layer, group and instance normalisation | 7 | A, D, E |
# | V8 skip connections | 8 | A, D, E |
# | V9 all remedies against depth | 9 | beyond |
#
# ### Further reading
# - Y. Bengio, P. Simard, P. Frasconi. *Learning long-term dependencies with gradient descent is difficult*. IEEE Transactions on Neural Networks 5(2), 1994
# - X. Glorot, Y. Bengio. *Understanding the difficulty of training deep feedforward neural networks*. AISTATS 2010. https://proceedings.mlr.press/v9/glorot10a.html
# - X. Glorot, A. Bordes, Y. Bengio. *Deep Sparse Rectifier Neural Networks*. AISTATS 2011. https://proceedings.mlr.press/v15/glorot11a.html
# - R. Pascanu, T. Mikolov, Y. Bengio. *On the difficulty of training recurrent neural networks*. ICML 2013. https://arxiv.org/abs/1211.5063
# - D. P. Kingma, J. Ba. *Adam: A Method for Stochastic Optimization*. ICLR 2015. https://arxiv.org/abs/1412.6980
# - K. He, X. Zhang, S. Ren, J. Sun. *Delving Deep into Rectifiers*. ICCV 2015. https://arxiv.org/abs/1502.01852 (initialisation)
# - S. Ioffe, C. Szegedy. *Batch Normalization*. ICML 2015. https://arxiv.org/abs/1502.03167
# - K. He, X. Zhang, S. Ren, J. Sun. *Deep Residual Learning for Image Recognition*. CVPR 2016. https://arxiv.org/abs/1512.03385
# - J. L. Ba, J. R. Kiros, G. E. Hinton. *Layer Normalization*. 2016. https://arxiv.org/abs/1607.06450
# - D. Ulyanov, A. Vedaldi, V. Lempitsky. *Instance Normalization: The Missing Ingredient for Fast Stylization*. 2016. https://arxiv.org/abs/1607.08022
# - D. Balduzzi et al. *The Shattered Gradients Problem: If resnets are the answer, then what is the question?* ICML 2017. https://arxiv.org/abs/1702.08591
# - Y. Wu, K. He. *Group Normalization*. ECCV 2018. https://arxiv.org/abs/1803.08494
# - G. Yang, J. Pennington, V. Rao, J. Sohl-Dickstein, S. S. Schoenholz. *A Mean Field Theory of Batch Normalization*. ICLR 2019. https://arxiv.org/abs/1902.08129
#
# ### Next notebook
# 02 · Residual blocks: why deeper plain networks train *worse*, and how a shortcut mends it.
