# %% [markdown]
# # 01 · Vanishing gradients
#
# @BADGES@
#
# **To keep what you write:** on Colab choose *File > Save a copy in Drive*, on Kaggle *Copy & Edit*, before you begin.
#
# **Question:** A network of 5 layers learns. The same kind of network with 20 layers learns nothing. What goes wrong on the way back through the layers, and what fixes it?
#
# **You will be able to**
# - explain with a product why gradients vanish or explode, and predict by hand how fast,
# - choose a remedy (ReLU, initialisation, normalisation, skip connections, clipping) and say what it does *not* fix,
# - write clipping, He initialisation, group normalisation and a residual block yourself.
#
# **Time:** it runs in @TIME@ on two CPU cores, and uses no GPU; with all sections, the exercises and the lab, about three hours.
# **Before this:** notebook 00, section 6 (a training loop in PyTorch); the chain rule.

# %% [markdown] slideshow={"slide_type": "notes"}
# **A plan for 75 minutes** (the core takes 70, with its exercises)
#
# - **Core:** sections 1, 2, 3, 5, 6 and 8: the product, saturation, the profile through depth, and three remedies: ReLU, initialisation, skip
#   connections.
# - **Optional:** 4 (explosion), 7 (normalisation: twenty minutes, and notebook 02 uses it), 9 (all remedies, and the linear classifier beside them).
# - **Where to stop:** after the claims of section 8. Show section 9's first figure as the last slide if five minutes are left.

# %% slideshow={"slide_type": "skip"}
# Set-up: finds the course's files here, on Kaggle or on the net. Just run it.
import os, shutil, subprocess, sys; from pathlib import Path

repo, clone = "@REPO@", Path("deep-learning-for-images-@REF@").absolute()
book = globals().get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME", "")
near = [*clone.parents, *Path(book).absolute().parents, *Path("/kaggle/input").glob("**/"), clone]
course = next((folder for folder in near if os.path.isfile(folder / "utils/lessons.py")), None)
if not course:
    git = shutil.which("git") or sys.exit("Install git: it fetches the course.")
    got = subprocess.run([git, "clone", "--depth=1", "-b@REF@", repo, course := clone], stderr=-1, errors="replace")
    got.returncode and sys.exit(f"No network (Kaggle: Settings)? Or a private address?\n{got.stderr}")
sys.path.insert(0, str(course))
if getattr(sys.modules.get("utils"), "__path__", None) != [str(course / "utils")]:
    [sys.modules.pop(name) for name in [*sys.modules] if name.split(".")[0] == "utils"]
import utils

device = utils.start()

# %% tags=["measure"] slideshow={"slide_type": "skip"}
# What this notebook imports. Everything that is not PyTorch is in the folder utils/.
import copy
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
from utils.lessons import claim, fact, measured, summary

# %% [markdown]
# ## 1. A chain of three functions (9 min)
#
# A network is a chain of functions. Three of them are enough to see the problem:
#
# $$F = f_1(a_1, f_2(a_2, f_3(a_3)))$$
#
# How does $F$ change when $a_3$, the parameter at the far end, changes? The chain rule gives a **product**, with one factor for each function on the way:
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
# First by hand. The sigmoid has a convenient derivative, $\sigma'(z) = \sigma(z)\,(1 - \sigma(z))$. So each factor needs only numbers that the chain has already computed.

# %%
factors = [f1 * (1 - f1) * a1, f2 * (1 - f2) * a2, f3 * (1 - f3) * x]
by_hand = factors[0] * factors[1] * factors[2]
print(" · ".join(f"({factor:.3f})" for factor in factors), f"= {by_hand:.5f}")

# %% [markdown]
# Then by autograd. PyTorch multiplies the same factors, from left to right. This is **backpropagation**.

# %%
a = torch.tensor(a3, requires_grad=True)
output = torch.sigmoid(a1 * torch.sigmoid(a2 * torch.sigmoid(a * x)))
output.backward()
fact(
    "Autograd gives the product of the three factors",
    torch.isclose(a.grad, by_hand, rtol=1e-5),
    f"{a.grad:.6f} by autograd, {by_hand:.6f} by hand",
)

# %% [markdown]
# Each factor was smaller than 1, ignoring signs, and the product is far smaller than each of them. Suppose that all factors are the same: 0.1, or 1, or 2.

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
# The first is exactly zero, and the second is infinite. The smallest positive number in float32 is about $10^{-45}$, the largest $3 \cdot 10^{38}$.
#
# </details>

# %%
vanished = torch.full((50,), 0.1).prod()
exploded = torch.full((130,), 2.0).prod()
fact(
    "In float32, fifty factors of 0.1 give exactly zero, and 130 of 2 give infinity",
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
    ax.set_xlim(1 - depth / 40, depth * 1.14)
    ax.xaxis.set_major_locator(plt.MaxNLocator(integer=True))
    return fig, f"A straight line on a logarithmic axis: the product against the number of factors, each {factor:g}; other factors in grey."


explore(draw_chain, factor=[0.1, 1.0, 2.0], depth=[20, 3, 10, 30, 50])

# %% [markdown] slideshow={"slide_type": "notes"}
# Let the class say "vanishes", "stays", "explodes" for 0.1, 1, 2. Then ask which factor they would like to have. Nearly all remedies of this notebook do one thing: they keep the
# factors close to 1.

# %% [markdown]
# **Exercise 1** (3 min): the chain rule by hand. Take the same chain with tanh: $F = \tanh(a_1 \tanh(a_2 \tanh(a_3 x)))$. Return $\partial F / \partial a_2$, for tensors, without
# autograd. (The derivative of tanh is $1 - \tanh^2$.)
#
# Write your answer in place of the dots and run the cell: the check says what it expected and what it got. Stuck? Remove a `#` in the cell below.

# %%
def chain_gradient(x, a1, a2, a3):
    ...


exercises.chain_gradient.check(chain_gradient)

# %% slideshow={"slide_type": "skip"}
# exercises.chain_gradient.hint()
# exercises.chain_gradient.solution()

# %% [markdown]
# ## 2. Saturation (9 min)
#
# Which factors does a network have? One part of each is the derivative of the **activation**. The two classic activations are the sigmoid and the hyperbolic tangent (tanh). We let
# autograd compute their derivatives.

# %%
z = torch.linspace(-8, 8, 1001, requires_grad=True)
slopes = {}
for name, function in {"sigmoid": torch.sigmoid, "tanh": torch.tanh}.items():
    (slopes[name],) = torch.autograd.grad(function(z).sum(), z)


# %%
# extra code: both functions, and both derivatives
def saturation_figure():
    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 4))
    with torch.no_grad():
        left.plot(z, torch.sigmoid(z), z, torch.tanh(z))
    for i, (name, slope) in enumerate(slopes.items()):
        right.plot(z.detach(), slope)
        where = {"sigmoid": (2.2, 0.2), "tanh": (1.2, 0.75)}[name]
        right.annotate(f"{name}'\nat most {slope.max():.2g}", where, color=f"C{i}", fontweight="bold")
    left.annotate("sigmoid", (-7.8, 0.14), color="C0", fontweight="bold")
    left.annotate("tanh", (-7.8, -0.88), color="C1", fontweight="bold")
    left.set(xlabel="input z", ylabel="activation", title="Flat on both sides ...")
    right.set(xlabel="input z", ylabel="derivative", title="... and so without a gradient")
    return fig


show(saturation_figure(), "Left: sigmoid and tanh against their input, from -8 to 8. Right: their derivatives, each a bell around zero; beyond plus or minus "
     "five both are nearly zero.")  # fmt: skip

# %%
fact(
    "The derivative of the sigmoid is never above 1/4, that of tanh never above 1",
    0.2499 < slopes["sigmoid"].max() <= 0.25 and 0.999 < slopes["tanh"].max() <= 1,
    f"largest: {slopes['sigmoid'].max():.4f} and {slopes['tanh'].max():.4f}, at z = 0",
)

# %% [markdown]
# So every sigmoid layer multiplies the gradient by 1/4 *at best*, and by almost zero where it is **saturated**. So its inputs should not be too large. That begins with the data.
#
# ### Our data
#
# We use scikit-learn's handwritten digits, 8 x 8 pixels. They are real, and so small that a network trains in a second.

# %%
# extra code: sixteen digits with their labels
train_set, val_set, test_set = datasets.digits()
sixteen = image_grid(train_set.images[:16], titles=[str(label.item()) for label in train_set.targets["label"][:16]], size=1.1)
show(sixteen, f"Sixteen of the {len(train_set):,} digits to train on. There are {len(val_set)} others to choose settings by, and {len(test_set)} to test.")

# %% tags=["measure"]
train_set, val_set, test_set = datasets.digits()
pixels = train_set.images.float()  # from 0 to 255
mean, std = pixels.mean(), pixels.std()


def prepare(images):
    """Bytes (N, 1, 8, 8) to floats (N, 64) of mean 0 and standard deviation 1."""
    return (images.flatten(1).float() - mean) / std


# %% tags=["measure"]
x_train, y_train = prepare(train_set.images), train_set.targets["label"]
x_val, y_val = prepare(val_set.images), val_set.targets["label"]
x_test, y_test = prepare(test_set.images), test_set.targets["label"]

# %% [markdown]
# **Before you run it:** we send the digits through *one* untrained layer of 64 sigmoids: as bytes from 0 to 255, divided by 255, and prepared as above. What share of its outputs
# (its **units**) is saturated, with a derivative below 0.01?
#
# <details><summary>Answer</summary>
#
# With bytes, most of them: a sum over 64 numbers of that size is far from zero. With the other two, almost none: the size of the numbers matters.
#
# </details>

# %%
layer = nn.Linear(64, 64)
raw = pixels.flatten(1)
inputs = {"bytes": raw, "bytes / 255": raw / 255, "prepared": x_train}
saturated = {}
for name, digits in inputs.items():
    s = torch.sigmoid(layer(digits))
    saturated[name] = (s * (1 - s) < 0.01).float().mean().item()
claim(
    "Raw bytes saturate most units of the first layer, smaller numbers almost none",
    saturated["bytes"] > 0.6
    and max(saturated["bytes / 255"], saturated["prepared"]) < 0.05,
    ", ".join(f"{share:.0%} with {name}" for name, share in saturated.items()),
    same=f"{len(x_train):,} digits, the same {layer.out_features} units",
)

# %% [markdown]
# From here on, all pixels are prepared. That fixes the first layer. It does nothing for the second.
#
# **Exercise 2** (2 min): saturated units. `a` contains the activations of a tanh layer. Return the share of them whose derivative is below 0.01.


# %%
def saturated_share(a):
    ...


exercises.saturated_share.check(saturated_share)

# %% slideshow={"slide_type": "skip"}
# exercises.saturated_share.hint()
# exercises.saturated_share.solution()

# %% [markdown]
# ## 3. The gradient through depth (19 min)
#
# Our network is a stack of equal layers, 64 units wide, because a digit has 64 pixels. Everything that this notebook will change is an argument: `activation`, `init`, `norm`,
# `skip`. The rest stays the same.


# %% tags=["measure"]
class Layer(nn.Module):
    def __init__(self, activation, norm=None, skip=False, width=64):
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.norm = norm(width) if norm else nn.Identity()
        self.activation, self.skip = activation(), skip

    def forward(self, x):
        out = self.activation(self.norm(self.linear(x)))
        return x + out if self.skip else out


# %% tags=["measure"]
def network(depth, activation=nn.Sigmoid, init=None, norm=None, skip=False):
    hidden = [Layer(activation, norm, skip) for _ in range(depth - 1)]
    for layer in hidden:
        if init:
            init(layer.linear.weight)
            nn.init.zeros_(layer.linear.bias)
    return nn.Sequential(*hidden, nn.Linear(64, 10))


# %% [markdown]
# (`init` is for the hidden layers. The last layer always keeps PyTorch's default.)
#
# We measure the norm of the gradient, layer by layer. We call the result the network's **gradient profile**. (We compute it in float64: a norm squares its numbers, and the square
# of $10^{-25}$ is zero in float32.)


# %%
def gradient_profile(model, loss_fn=F.cross_entropy):
    """Norm of the gradient of each layer's weights for 256 digits: (depth,)."""
    model.zero_grad()
    loss_fn(model(x_train[:256]), y_train[:256]).backward()
    gradients = [layer.weight.grad.double() for layer in linears(model)]
    return np.array([gradient.norm().item() for gradient in gradients])


def linears(model):
    """The linear layers, from the first to the last: `depth` of them."""
    return [module for module in model.modules() if isinstance(module, nn.Linear)]


# %% [markdown]
# ### Predict it by hand
#
# On its way back through one layer, the gradient is multiplied
#
# - by the derivative of the sigmoid: at most 1/4,
# - by the weights: each unit adds up 64 products of a weight $w$ and a gradient from the next layer. Such a random sum is about $\sqrt{64 \cdot \mathrm{Var}(w)}$ times as large as
#   one of these gradients.
#
# PyTorch draws $w$ uniformly between $-1/8$ and $1/8$. Such numbers between $-b$ and $b$ have the variance $b^2/3$, so $\mathrm{Var}(w) = 1/192$.

# %%
predicted = 1 / 4 * math.sqrt(64 * 1 / 192)
print(f"Predicted: each layer multiplies the gradient by {predicted:.3f}")

# %% [markdown]
# **Before you run it:** we plot the profiles of untrained sigmoid networks of 2 to 50 layers on a logarithmic y-axis. What shape will they have? With 20 layers, how large is the
# gradient of the first layer, if that of the last one is about 1?
#
# <details><summary>Answer</summary>
#
# They are straight lines: the gradient decays exponentially. There are 19 factors between the last gradient and the first, and $0.144^{19} \approx 10^{-16}$.
#
# </details>

# %%
profiles = {depth: gradient_profile(network(depth)) for depth in (2, 5, 10, 20, 30, 50)}


# %%
# extra code: how profiles are drawn, and the figure of the six depths
def plot_profiles(ax, profiles, at=None, floor=1e-46):
    """profiles: name -> (depth,), a line each, its name above it at layer `at` (one, or one each), or at the end. Open circles: zeros."""
    places = at if isinstance(at, list) else [at] * len(profiles)
    for i, ((name, values), at) in enumerate(zip(profiles.items(), places, strict=True)):
        layers, drawn = np.arange(1, len(values) + 1), np.maximum(values, floor)
        ax.semilogy(layers, drawn, color=f"C{i}", marker="." if len(values) < 31 else None)
        if (values == 0).any():
            ax.plot(layers[values == 0], drawn[values == 0], "o", mfc="white", color=f"C{i}")
        layer = (at or len(values)) - 1
        rise = np.log10(drawn[layer] / drawn[max(0, layer - 3)]) if at else 0
        ha = "right" if rise > 0.7 else "left" if rise < -0.7 else "center"  # beside a steep line, above a level one
        ax.annotate(name, (layer + 1, drawn[layer]), xytext=(0, 8), textcoords="offset points", ha=ha, color=f"C{i}", fontweight="bold")
    ax.set(xlabel="layer (1 is the one next to the pixels)", ylabel="gradient norm")


def depth_figure():
    fig, ax = plt.subplots(figsize=(9, 5))
    plot_profiles(ax, {str(depth): values for depth, values in profiles.items()})
    layers = np.arange(1, 31)
    ax.semilogy(layers, profiles[30][-2] * predicted ** (29.0 - layers), ":", color="black", linewidth=2)
    ax.annotate("predicted", (13, profiles[30][-2] * predicted**16.0), xytext=(8, -12), textcoords="offset points")
    ax.set(xlim=(0, 52), xticks=[1, 10, 20, 30, 40, 50], ylim=(1e-46, 1e4))
    ax.set_title(f"Each sigmoid layer leaves {measured_factor:.0%} of the gradient")
    return fig


# %%
values, layers = profiles[20][1:-1], np.arange(2, 20)  # between equal layers
slope, _ = np.polyfit(layers, np.log10(values), deg=1)
measured_factor = 10**-slope
straight = np.corrcoef(layers, np.log10(values))[0, 1] ** 2

# %%
# extra code: the figure
show(depth_figure(), "Gradient norm of each layer, on a logarithmic axis, for sigmoid networks of 2, 5, 10, 20, 30 and 50 layers before training. The dotted line has the "
     "predicted slope.")  # fmt: skip

# %%
claim(
    "The gradient decays exponentially with depth, by the factor predicted by hand",
    abs(measured_factor / predicted - 1) < 0.1 and straight > 0.99,
    f"predicted {predicted:.3f}, measured {measured_factor:.3f};"
    f" a straight line fits with R² = {straight:.4f}",
    same=f"20 layers of 64 sigmoids, {len(x_train[:256])} digits, before any training",
)

# %% [markdown]
# (The sigmoid's derivative is 1/4 only at $z = 0$. Here $z$ has a standard deviation of 0.3, so the derivative is 0.245 on average, and the prediction becomes 0.141. The rest is
# chance.)
#
# ### During training
#
# This is the **vanishing gradient**. Is it only a bad start, which training would correct? We train a network of 5 layers and one of 20, and look at the profile after every ten
# epochs.


# %% tags=["measure"]
def adam(model, lr=1e-3):
    return torch.optim.Adam(model.parameters(), lr=lr, fused=True)  # faster


def train(model, num_epochs=15, optimizer=None, max_norm=None):
    """The training loop of this notebook; returns the loss of each step."""
    optimizer = optimizer or adam(model)
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


# %% tags=["measure"]
@torch.no_grad()
def accuracy(model, x, y):
    model.eval()
    return (model(x).argmax(dim=1) == y).float().mean().item()


# %% [markdown]
# Products of 64 x 64 matrices are too small to share among cores: these would spend their time waiting for each other. So we use one core. (A GPU would be no faster.)

# %%
torch.set_num_threads(1)
first_seed = torch.initial_seed()
seeds = [first_seed, first_seed + 1, first_seed + 2]

# %%
during = {}
for depth in (5, 20):
    model = network(depth)
    optimizer = adam(model, lr=3e-3)
    during[depth] = {"start": gradient_profile(model)}
    for epoch in (10, 20, 30):
        train(model, num_epochs=10, optimizer=optimizer)
        during[depth][f"epoch {epoch}"] = gradient_profile(model)
    during[depth]["right"] = accuracy(model, x_test, y_test)


# %%
# extra code: one panel a depth, one line a moment of training
def training_figure():
    fig, axes = plt.subplots(2, 1, figsize=(8, 7.5))
    for ax, (depth, moments) in zip(axes, during.items(), strict=True):
        profiles = [(name, values) for name, values in moments.items() if name != "right"]
        for i, (name, values) in enumerate(profiles):
            ax.semilogy(range(1, depth + 1), values, color=plt.cm.viridis_r(0.15 + i / 4), marker="o", label=name)
        ax.set_ylabel("gradient norm")
        ax.set_title(f"{depth} layers: {moments['right']:.0%} of new digits right after 30 epochs")
        ax.set_xticks([1, 2, 3, 4, 5] if depth == 5 else [1, 5, 10, 15, 20])
    axes[0].legend(loc="lower right", ncols=2)
    axes[1].set_xlabel("layer (1 is the one next to the pixels)")
    return fig


show(training_figure(), "Gradient profiles at the start and after 10, 20 and 30 epochs, of 5 layers (above) and 20 (below). Above, the lines rise, most of all in the first layers. "
     "Below, all four coincide.")  # fmt: skip

# %%
growth = {
    depth: moments["epoch 30"][0] / moments["start"][0]
    for depth, moments in during.items()
}
claim(
    "With 5 layers the first gradient grows and the network learns; not so with 20",
    growth[5] > 10 > growth[20]
    and during[5]["right"] > 0.7 > 0.2 > during[20]["right"],
    f"gradient times {growth[5]:.0f} and {growth[20]:.1f},"
    f" {during[5]['right']:.0%} and {during[20]['right']:.0%} right",
    same=f"{epoch} epochs with Adam, learning rate {optimizer.defaults['lr']}",
)

# %% [markdown]
# ### The first layers learn slowest
#
# When a network learns, its weights move. We measure how far they move in one epoch, relative to their size: $\lVert W - W_0 \rVert / \lVert W_0 \rVert$. With plain gradient
# descent (SGD) a step is the learning rate times the gradient. Adam divides the gradient by its own recent size, and a constant $\varepsilon = 10^{-8}$ prevents division by zero:
# $m / (\sqrt v + \varepsilon)$, with running means $m$ of the gradient and $v$ of its square.
#
# **Before you run it:** which layers move least with SGD? Does Adam fix that?
#
# <details><summary>Answer</summary>
#
# With SGD the first layers hardly move; in the network of 20 layers they do not move at all. Adam compensates for much of this, as long as the gradient is well above
# $\varepsilon$. Below it, $\varepsilon$ dominates the denominator, and the steps become small, too. And moving is not learning: such a small gradient says almost nothing about the
# digits.
#
# </details>


# %%
def movement(depth, make_optimizer):
    """Relative movement of each layer's weights in one epoch: (depth,)."""
    torch.manual_seed(first_seed)
    model = network(depth)
    before = [layer.weight.detach().double().clone() for layer in linears(model)]
    train(model, num_epochs=1, optimizer=make_optimizer(model))
    after = [layer.weight.detach().double() for layer in linears(model)]
    pairs = zip(before, after, strict=True)
    return np.array([((new - old).norm() / old.norm()).item() for old, new in pairs])


# %%
def sgd(model, lr=0.1):
    return torch.optim.SGD(model.parameters(), lr=lr)


optimizers = {"SGD": sgd, "Adam": adam}
moved = {
    depth: {name: movement(depth, make) for name, make in optimizers.items()}
    for depth in (10, 20)
}


# %%
# extra code: relative movement of each layer, one panel a depth
def movement_figure():
    fig, axes = plt.subplots(2, 1, figsize=(8, 7.5))
    for ax, (depth, profiles) in zip(axes, moved.items(), strict=True):
        plot_profiles(ax, profiles, floor=1e-14, at=4 * depth // 5)
        still = int((profiles["SGD"] == 0).sum())
        ax.set(xlabel=None, xticks=[1, depth // 2, depth], ylabel="relative movement", ylim=(3e-15, 30))
        ax.set_title(f"{depth} layers: under SGD " + (f"{still} of them do not move at all" if still else "the first moves least"))
    axes[1].annotate("open circles: exactly 0", (9, 1e-14), xytext=(14, 0), textcoords="offset points", va="center", color="gray")
    axes[1].set_xlabel("layer (1 is the one next to the pixels)")
    return fig


show(movement_figure(), "Relative movement of each layer's weights in one epoch, on a logarithmic axis, with SGD and with Adam, for 10 layers (above) and 20 (below). "
     "Adam's line is level wherever gradients are large enough.")  # fmt: skip

# %%
by_sgd = moved[10]["SGD"]
claim(
    "Under SGD, layer 1 of 10 moves less than a ten-thousandth as far as layer 9",
    by_sgd[0] < 1e-4 * by_sgd[8],
    f"{by_sgd[0]:.0e} against {by_sgd[8]:.0e} of their size",
    same="one epoch, learning rate 0.1, layers of one size",
)

# %%
claim(
    "With 20 layers, an epoch of SGD does not change a single bit of the first layer",
    moved[20]["SGD"][0] == 0,
    f"{(moved[20]['SGD'] == 0).sum()} of 20 layers do not move",
    same="one epoch, learning rate 0.1",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# The last layers do move: they try to learn from the random features that the motionless first layers give them, but after many sigmoids these look nearly the same for all digits.
# From section 5 on everything is trained with Adam, the more forgiving of the two: here, what failed with Adam failed with SGD too, where we tried.

# %% [markdown]
# **Exercise 3** (2 min): weights that compensate for the sigmoid. The factor that we predicted was $1/4 \cdot \sqrt{64 \cdot \mathrm{Var}(w)}$. With which standard deviation of
# the weights would it be 1?

# %%
sigmoid_std = ...
exercises.sigmoid_std.check(sigmoid_std)

# %% slideshow={"slide_type": "skip"}
# exercises.sigmoid_std.hint()
# exercises.sigmoid_std.solution()

# %% [markdown]
# ## 4. Explosion, and clipping (12 min)
#
# Factors above 1 are no better. We get them with larger weights, in a ReLU network of 10 layers whose weights have $g$ times the standard deviation that suits it (section 6 says
# which one that is). The multiplier $g$ is called the **gain**.


# %%
def gain(g):
    def init(weight):
        nn.init.normal_(weight, std=g * math.sqrt(2 / weight.shape[1]))

    return init


gains = (0.5, 1, 1.5, 3)
exploding = {g: gradient_profile(network(10, nn.ReLU, init=gain(g))) for g in gains}

# %%
# extra code: a profile for each gain
fig, ax = plt.subplots()
plot_profiles(ax, {f"gain {g:g}": values for g, values in exploding.items()}, at=5)
ax.set(xlim=(0.5, 10.5), xticks=range(1, 11), title="The gain sets the height of the profile, not its slope")
ax.set_ylim(top=300 * exploding[3].max())
show(fig, "Gradient profiles of ReLU networks of 10 layers with gains of 0.5, 1, 1.5 and 3: nearly level lines, orders of magnitude apart.")

# %% [markdown]
# Why are the profiles level, although the factors are not 1? The gradient of a layer's weights is a product of two things: the activations that come *forward* from the layers
# before, and the gradient that comes *back* through the layers after. Wherever the layer is, all other layers contribute to this product. Only its own weights do not.
#
# **Before you run it:** nine layers have the gain $g$; the tenth, the last one, has PyTorch's default. Which power of $g$ is in the gradient of each layer?
#
# <details><summary>Answer</summary>
#
# $g^8$ in layers 1 to 9, which have eight others with a gain; $g^9$ in layer 10, which has nine. (The loss would add a small effect of its own, so we use the gradient of the sum
# of the outputs.)
#
# </details>

# %%
def output_sum(outputs, labels):
    return outputs.sum()


model = network(10, nn.ReLU, init=gain(1))
before = gradient_profile(model, output_sum)
with torch.no_grad():
    for layer in linears(model)[:-1]:
        layer.weight *= 2
exponents = np.log2(gradient_profile(model, output_sum) / before)
fact(
    "Twice the gain makes gradients 2⁸ times larger in layers 1 to 9, 2⁹ in layer 10",
    np.allclose(exponents, [8] * 9 + [9], atol=1e-6),
    "exponents: " + ", ".join(f"{exponent:.2f}" for exponent in exponents),
)

# %% [markdown]
# **Clipping** (Pascanu et al. 2013) keeps the direction of the gradient and limits its length. If $\nabla$ is the gradient of *all* weights as one long vector,
#
# $$\nabla \leftarrow \nabla \cdot \min\!\left(1, \frac{c}{\lVert \nabla \rVert}\right)$$
#
# In PyTorch this is one line between `backward` and `step`; it is in our training loop:
# `nn.utils.clip_grad_norm_(model.parameters(), max_norm)`.
#
# **Before you run it:** we train with gain 1.5 and SGD with learning rate 0.1, on three seeds. What happens without this line, and with it? And with a tenth of the learning rate
# instead?
#
# <details><summary>Answer</summary>
#
# Without it the first steps are far too long, the loss jumps up, the next gradient is even larger, and after a few steps everything is NaN. With it, no step is longer than the
# learning rate times $c$, and the network learns. With a tenth of the rate, the network survives without clipping, but learns less in the same number of steps.
#
# </details>

# %%
ways = {"lr 0.1": (0.1, None), "lr 0.1, clipped": (0.1, 5.0), "lr 0.01": (0.01, None)}
clipping = {name: [] for name in ways}  # the losses, and the accuracy, of each seed
for seed in tqdm(seeds, desc="three seeds", leave=False):
    for name, (lr, max_norm) in ways.items():
        torch.manual_seed(seed)
        model = network(10, nn.ReLU, init=gain(1.5))
        losses = train(model, optimizer=sgd(model, lr), max_norm=max_norm)
        clipping[name].append((losses, accuracy(model, x_test, y_test)))


# %%
# extra code: the loss of each step
def clipping_figure():
    fig, ax = plt.subplots(figsize=(9, 4.8))
    for i, runs in enumerate(clipping.values()):
        colour = ("C1", "C0", "C2")[i]
        for losses, _ in runs:
            whole = [value for value in losses if math.isfinite(value)]
            steps = np.arange(1, len(whole) + 1)
            ax.loglog(steps, whole, color=colour, alpha=0.85, linewidth=3 if i == 0 else 1.5)
    ax.annotate(f"lr 0.1: off the scale, NaN after {steps_to_nan()} steps at most", (2.4, 2e4), color="C1", fontweight="bold", va="center")
    for name, colour in (("lr 0.1, clipped", "C0"), ("lr 0.01", "C2")):
        end = np.median([np.mean(losses[-40:]) for losses, _ in clipping[name]])
        ax.annotate(name, (len(losses), end), xytext=(10, 0), textcoords="offset points", color=colour, fontweight="bold", va="center")
    ax.set(xlabel="training step (logarithmic)", ylabel="loss", xlim=(0.9, 2500), ylim=(1e-4, 1e5), title="With clipping, the large learning rate works best")
    return fig


def steps_to_nan():
    """The step after which the last unclipped run is lost."""
    return max(sum(map(math.isfinite, losses)) for losses, _ in clipping["lr 0.1"])


show(clipping_figure(), "Loss against training step, both axes logarithmic, a line per seed: SGD with learning rate 0.1, with clipped gradients, and with learning rate 0.01.")

# %%
clipped = np.array([right for _, right in clipping["lr 0.1, clipped"]])
slow = np.array([right for _, right in clipping["lr 0.01"]])
claim(
    "Clipped, a rate that otherwise ends in NaN beats a tenth of it without clipping",
    all(math.isnan(losses[-1]) for losses, _ in clipping["lr 0.1"])
    and (clipped > slow).all() and (clipped - slow).mean() > 0.04,
    f"NaN after {steps_to_nan()} steps at most; clipped {clipped.mean():.0%} right,"
    f" with lr 0.01 {slow.mean():.0%}",
    same=f"gain 1.5, {len(losses)} steps of SGD, {len(seeds)} seeds",
)

# %% [markdown]
# Clipping cannot help if the gradient is no longer finite. An example has 60 layers with weights drawn from $N(0, 1)$:

# %%
model = network(60, nn.ReLU, init=nn.init.normal_)
profile = gradient_profile(model)
nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
lost = linears(model)[0].weight.grad
fact(
    "Clipping cannot fix a gradient that is infinite or NaN already",
    not np.isfinite(profile).all() and not torch.isfinite(lost).any(),
    f"the first layer's norm was {profile[0]}; clipped, each number is {lost[0, 0]}",
)

# %% [markdown]
# **Exercise 4**: clip. Scale the gradients of all `parameters` in place, all by the same factor, so that their joint norm is at most `max_norm`. Return their joint norm before the
# scaling. `parameters` is what `model.parameters()` gives: one can go through it only once, so make a list of it first. Do not use `clip_grad_norm_`.


# %%
def clip(parameters, max_norm):
    ...


exercises.clip.check(clip)

# %% slideshow={"slide_type": "skip"}
# exercises.clip.hint()
# exercises.clip.solution()

# %% [markdown]
# ## 5. First remedy: ReLU (8 min)
#
# The rectified linear unit, $\max(0, z)$, has the derivative 1 for every positive input, however large. There is no upper limit of 1/4, and no saturation on the right (Glorot et
# al. 2011).
#
# We try every remedy in the same way: `attempt` trains `network(20, ...)` with three seeds, and only the named arguments change.

# %%
results = {}  # name -> accuracy on each seed, 20 layers


def trained_accuracies(depth, **changes):
    found = []
    for seed in tqdm(seeds, desc=f"training {depth} layers", leave=False):
        torch.manual_seed(seed)
        model = network(depth, **changes)
        train(model)
        found.append(accuracy(model, x_test, y_test))
    return found


# %%
def attempt(name, **changes):
    results[name] = trained_accuracies(20, **changes)
    shares = ", ".join(f"{right:.0%}" for right in results[name])
    print(f"{name}, 20 layers, accuracy on new digits: {shares}")


# %%
attempt("sigmoid")

# %% [markdown]
# That is guessing: there are ten digits.
#
# **Before you run it:** we use ReLU instead of the sigmoid. Will 8 layers train? And 20?
#
# <details><summary>Answer</summary>
#
# With 8 layers it trains, while the sigmoid does little better than guessing. With 20 layers it hardly learns: we have fixed the derivative, but not the weights.
#
# </details>

# %%
attempt("ReLU", activation=nn.ReLU)

# %%
sigmoid_8 = trained_accuracies(8)
relu_8 = trained_accuracies(8, activation=nn.ReLU)
claim(
    "In 15 epochs, 8 layers train with ReLU, but not with the sigmoid",
    min(relu_8) > 0.7 and max(sigmoid_8) < 0.4,
    f"worst ReLU {min(relu_8):.0%}, best sigmoid {max(sigmoid_8):.0%}",
    same=f"{len(seeds)} seeds, Adam, learning rate 0.001",
)

# %% [markdown]
# We compare the profiles of 20 layers with the sigmoid and with ReLU. To see the effect of the weights alone, we also take the same ReLU network with all *biases* set to zero.

# %%
model = network(20, nn.ReLU)
relu = {"sigmoid": gradient_profile(network(20)), "ReLU": gradient_profile(model)}
for layer in linears(model):
    nn.init.zeros_(layer.bias)
relu["ReLU, biases zero"] = gradient_profile(model)

# %%
# extra code: the three profiles
fig, ax = plt.subplots()
plot_profiles(ax, relu, at=[8, 12, 17])
ax.set(xlim=(0.5, 20.5), xticks=[1, 5, 10, 15, 20], title="ReLU: far better, but the gradient still vanishes")
show(fig, "Gradient profiles of 20 layers: the sigmoid's is the steepest, ReLU's falls more slowly, and without biases it is level and low.")

# %%
with_biases, without = relu["ReLU"][:-1], relu["ReLU, biases zero"][:-1]
tilt = with_biases.max() / with_biases.min()
rest = without.max() / without.min()
claim(
    "ReLU's profile slopes because of the biases; without them it is level and low",
    tilt > 1000 and rest < 30 and without.max() < 1e-4,
    f"largest over smallest of 19: {tilt:.0e}, without biases {rest:.1f},"
    f" all near {np.median(without):.0e}",
    same="the weights and the digits",
)

# %% [markdown]
# Both parts of a gradient shrink from layer to layer: the activations on the way forward, the gradient on the way back. Without biases, their product is equally small in every
# layer. Biases do not shrink. Once the activations are small, the later layers see almost nothing but the biases of the layer before. So the profile is high at the last layers,
# but they hardly see the digits.
#
# **Exercise 5** (2 min): dead units. ReLU has its own danger: a unit that is zero for every digit is **dead**, because it gets no gradient. `activations` contains the activations
# of a layer, (digits, units). Return the number of dead units.


# %%
def dead_units(activations):
    ...


exercises.dead_units.check(dead_units)

# %% slideshow={"slide_type": "skip"}
# exercises.dead_units.hint()
# exercises.dead_units.solution()

# %% [markdown]
# ## 6. Second remedy: initialisation (15 min)
#
# The derivative of ReLU is 1 or 0. The other part of each factor is the **weights**. How large should they be?
#
# One unit computes $z = \sum_{i=1}^{n} w_i x_i$ from $n$ inputs. With independent weights of mean 0,
#
# $$\mathrm{E}[z^2] = n \cdot \mathrm{Var}(w) \cdot \mathrm{E}[x^2]$$
#
# To keep $\mathrm{E}[z^2]$ constant through depth we need $n \cdot \mathrm{Var}(w) = 1$. ReLU sets half of the numbers to zero, so there we need $n \cdot \mathrm{Var}(w) = 2$.
# These are three common rules:


# %% tags=["measure"]
def pytorch_default(weight):
    bound = 1 / math.sqrt(weight.shape[1])
    nn.init.uniform_(weight, -bound, bound)  # Var(w) = 1 / 3n


def xavier(weight):  # Glorot and Bengio 2010: forward and backward alike
    n_out, n_in = weight.shape
    nn.init.normal_(weight, std=math.sqrt(2 / (n_in + n_out)))


def he(weight):  # He et al. 2015: for ReLU
    nn.init.normal_(weight, std=math.sqrt(2 / weight.shape[1]))


# %% [markdown]
# **Before you run it:** with ReLU, by which factor does each of the three rules change $\mathrm{E}[z^2]$ from layer to layer?
#
# <details><summary>Answer</summary>
#
# He by 1. Xavier by 1/2, because of ReLU. PyTorch's default by 1/6, because it has a sixth of He's variance.
#
# </details>


# %%
@torch.no_grad()
def mean_squares(init, depth=20, width=512):
    """E[z²] of each layer of ReLU without biases; wide, so that the law stands out."""
    x, found = x_train[:256], []
    for _ in range(depth):
        weight = torch.empty(width, x.shape[1])
        init(weight)
        z = x @ weight.T
        found.append(z.square().mean().item())
        x = F.relu(z)
    return np.array(found)


rules = {"He": he, "Xavier": xavier, "PyTorch's default": pytorch_default}
sizes = {name: mean_squares(init) for name, init in rules.items()}

# %%
# extra code: the mean squares against the layer
fig, ax = plt.subplots(figsize=(9, 4.6))
plot_profiles(ax, sizes, at=12)
ax.set(xlim=(0.5, 20.5), xticks=[1, 5, 10, 15, 20], xlabel="layer", ylabel="E[z²]", ylim=(None, 1e3))
ax.set_title("Only He keeps the size through 20 layers of ReLU")
show(fig, "Mean square of the inputs of each layer's activation, on a logarithmic axis, for three rules of initialisation: one level line, two that fall.")

# %%
factors = {name: (values[-1] / values[0]) ** (1 / 19) for name, values in sizes.items()}
by_hand = {"He": 1, "Xavier": 1 / 2, "PyTorch's default": 1 / 6}
claim(
    "Each rule changes the mean square by the factor that we computed, layer by layer",
    all(abs(factors[name] / by_hand[name] - 1) < 0.1 for name in rules),
    ", ".join(f"{name} {factors[name]:.3f} ({by_hand[name]:.3f})" for name in rules),
    same="20 layers of 512 units, 256 digits, no biases",
)

# %% [markdown]
# Does such a network train? Two things are new in He's network: the size of the weights, and biases of zero. So we also try zero biases alone. And tanh is close to the identity
# around zero: it needs no factor of 2, so Xavier suits it.

# %%
attempt("ReLU, He", activation=nn.ReLU, init=he)

# %%
biases_zero = trained_accuracies(20, activation=nn.ReLU, init=pytorch_default)
print("only the biases zero: " + ", ".join(f"{right:.0%}" for right in biases_zero))

# %%
attempt("tanh, Xavier", activation=nn.Tanh, init=xavier)

# %%
best = np.maximum(results["ReLU"], biases_zero)  # of the two rivals, on each seed
claim(
    "In 15 epochs, 20 layers of ReLU read far more with He's weights than by default",
    min(results["ReLU, He"]) > 0.8 and (results["ReLU, He"] - best).min() > 0.15,
    f"worst with He {min(results['ReLU, He']):.0%}, best with the default"
    f" {max(results['ReLU']):.0%}, its biases zero {max(biases_zero):.0%}",
    same=f"{len(seeds)} seeds, Adam, learning rate 0.001",
)

# %% [markdown]
# With a rate chosen for each of the two, the gap is smaller, but it stays (section 9).
#
# ### Look inside
#
# A norm is one number per layer. Now we look at *all* activations of a layer, and at their gradients.


# %%
def look_inside(model):
    """Activations (256, 64) of each hidden layer, and their gradients."""
    x, inside = x_train[:256], []
    for layer in model:
        x = layer(x)
        x.retain_grad()
        inside.append(x)
    F.cross_entropy(x, y_train[:256]).backward()
    return [(x.detach(), x.grad) for x in inside[:-1]]


# %%
networks = {
    "sigmoid": {},
    "sigmoid, N(0, 1)": {"init": nn.init.normal_},
    "ReLU": {"activation": nn.ReLU},
    "ReLU, He": {"activation": nn.ReLU, "init": he},
}
inside = {name: [] for name in networks}
for name, changes in networks.items():
    torch.manual_seed(first_seed)
    model = network(20, **changes)
    for epochs in (0, 1, 14):  # look at the start, after 1 epoch, after 15
        train(model, num_epochs=epochs)
        inside[name].append(look_inside(model))


# %%
# extra code: histograms seen from above, a column for each layer
MOMENTS = ["start", "1 epoch", "15 epochs"]


def bin_shares(values, edges):
    """values: (layers, numbers) -> the share of a layer's numbers in each bin: (bins, layers)."""
    counts = np.stack([np.histogram(np.clip(v, edges[0], edges[-1]), edges)[0] for v in values], axis=1)
    return counts / counts.sum(axis=0)


def draw_histograms(axes, name, moment):
    pairs = inside[name][moment]
    activations = np.stack([a.numpy().ravel() for a, _ in pairs])
    gradients = np.stack([np.log10(np.abs(g.numpy().ravel().astype(float)) + 1e-30) for _, g in pairs])
    top = 1 if "sigmoid" in name else max(0.1, np.quantile(activations, 0.99))
    for ax, values, edges in ((axes[0], activations, np.linspace(0, top, 31)), (axes[1], gradients, np.linspace(-20, 0, 41))):
        ax.pcolormesh(np.arange(0.5, 20), edges, bin_shares(values, edges), cmap="Blues", vmin=0, vmax=0.2)
        ax.set(xlabel="layer", xticks=[1, 10, 19])
        ax.grid(False)
    axes[1].set_yticks([-20, -10, 0], ["$10^{-20}$", "$10^{-10}$", "1"])


def inside_figure():
    fig, axes = plt.subplots(2, 4, figsize=(9, 6.4))
    for column, name in enumerate(networks):
        draw_histograms(axes[:, column], name, moment=0)
        axes[0, column].set_title(name, fontsize=13)
        axes[0, column].set_xlabel(None)
    axes[0, 0].set_ylabel("activation")
    axes[1, 0].set_ylabel("size of its gradient")
    fig.suptitle("With small weights the gradient vanishes, with larger ones it stays level", x=0.01, ha="left", fontweight="bold", fontsize=15)
    return fig


show(inside_figure(), "Four networks of 20 layers before training. Histograms seen from above: a column for each layer, darker where more of its numbers lie. Above the "
     "activations, below the size of their gradients on a logarithmic axis.")  # fmt: skip

# %% [markdown]
# Each column is a histogram, seen from above. A healthy network has a broad band above and a level one below, in every layer. Three things to see:

# %%
start = {name: moments[0][-1][0] for name, moments in inside.items()}  # layer 19
def relative_spread(activations):
    """How much a unit varies from digit to digit, compared with its size."""
    return (activations.std(dim=0).mean() / activations.abs().mean()).item()


spread = {name: relative_spread(activations) for name, activations in start.items()}
alike = F.cosine_similarity(*start["ReLU, He"].split(128)).mean()
shares = ", ".join(f"{value:.0e} ({name})" for name, value in spread.items())
claim(
    "With PyTorch's default, all digits look alike in layer 19; with He's they do not",
    max(spread["sigmoid"], spread["ReLU"]) < 1e-5 and spread["ReLU, He"] > 0.1,
    f"they differ by {shares} of their size;"
    f" two digits have a cosine of {alike:.2f} with He's",
    same="20 layers before training, 256 digits",
)

# %%
saturated = {
    name: (start[name] * (1 - start[name]) < 0.01).float().mean().item()
    for name in ("sigmoid", "sigmoid, N(0, 1)")
}
claim(
    "PyTorch's default saturates no sigmoids, weights from N(0, 1) saturate some",
    saturated["sigmoid"] < 0.01 and saturated["sigmoid, N(0, 1)"] > 0.2,
    ", ".join(f"{share:.0%} ({name})" for name, share in saturated.items()),
    same="layer 19 of 20 before training, 256 digits",
)

# %%
def dead_share(activations):
    return (activations == 0).all(dim=0).float().mean().item()


dead = [dead_share(activations) for activations, _ in inside["ReLU"][0]]
with_he = dead_share(start["ReLU, He"])
claim(
    "With the default, over a quarter of layer 19's ReLUs are dead; with He's, some",
    dead[18] > 0.25 and dead[0] < 0.1 and with_he > 0.05,
    f"{dead[18]:.0%}; in layer 1 {dead[0]:.0%};"
    f" with He's weights {with_he:.0%} in layer 19",
    same="20 layers before training, 256 digits",
)

# %%
# extra code: one network during training, with its numbers
def inside_numbers(name, moment):
    """Of the last hidden layer: spread over the digits, share of saturated (sigmoid) or dead (ReLU) units."""
    a, _ = inside[name][moment][-1]
    closed = (a * (1 - a) < 0.01).float().mean() if "sigmoid" in name else (a == 0).all(dim=0).float().mean()
    return relative_spread(a), closed.item()


def draw_inside(network="ReLU, He", after="15 epochs"):
    moment = MOMENTS.index(after)
    fig, axes = plt.subplots(1, 2, figsize=(9, 4.8))
    draw_histograms(axes, network, moment)
    axes[0].set_ylabel("activation")
    axes[1].set_ylabel("size of its gradient")
    spread, closed = inside_numbers(network, moment)
    kind = "saturated" if "sigmoid" in network else "dead"
    when = "at the start" if moment == 0 else f"after {after}"
    fig.suptitle(f"{network}, {when}. In layer 19, digits differ by {spread:.2g} of their size,\n{closed:.0%} of the units are {kind}", x=0.01, ha="left", fontweight="bold", fontsize=15)
    return fig, f"Histograms of the 19 hidden layers of {network} {when}, as above: left the activations, right the size of their gradients."


explore(draw_inside, network=["ReLU, He", "ReLU", "sigmoid", "sigmoid, N(0, 1)"], after=["15 epochs", "start", "1 epoch"])

# %% [markdown]
# So the sigmoid's gradient vanishes without any saturation: its 1/4 and small weights are enough. Larger weights (exercise 3) help the product, but saturate units. And if all
# digits look alike, a ReLU is either on for all of them or dead, and distinguishes nothing. Dead units alone do not decide: He's network has them too, and it trains. Training
# revives some: choose another moment with `after` in the controls above.
#
# **Exercise 6** (2 min): He's rule for a convolution. Which standard deviation should the weights of `nn.Conv2d(16, 64, kernel_size=3)` have if a ReLU follows?


# %%
conv_std = ...
exercises.conv_std.check(conv_std)

# %% slideshow={"slide_type": "skip"}
# exercises.conv_std.hint()
# exercises.conv_std.solution()

# %% [markdown] slideshow={"slide_type": "notes"}
# Why is PyTorch's default so small? It is an old rule (LeCun et al. 1998 argue for a variance near 1/n, and the uniform distribution with bound 1/sqrt(n) has a third of that),
# kept so that old code gives the same results. For a few layers it does not matter. Ask: what would He's rule do to a sigmoid network? (Its gradient still vanishes: try it in the
# explorer of section 9.)

# %% [markdown]
# ## 7. Third remedy: normalisation (20 min)
#
# A good initialisation makes the sizes right **once**. Normalisation makes them right **in every pass**: subtract the mean, divide by the standard deviation, then let the network
# learn a scale ($\gamma$) and a shift ($\beta$):
#
# $$y = \gamma\,\frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}} + \beta$$
#
# There are four kinds. They differ only in the **axes over which** $\mu$ and $\sigma$ are computed. To show this we need a tensor with several axes: $N$ images, $C$ channels,
# $H \times W$ pixels, the output of one convolution on real digits.

# %%
images = train_set.images[:6].float() / 255
features = nn.Conv2d(1, 8, kernel_size=3, padding=1)(images).detach()
features.shape  # N, C, H, W


# %%
def normalise(x, axes):
    mean = x.mean(axes, keepdim=True)
    variance = x.var(axes, keepdim=True, unbiased=False)
    return (x - mean) / torch.sqrt(variance + 1e-5)


# %%
groups = features.unflatten(1, (2, 4))  # 2 groups of 4 channels: N, 2, 4, H, W
ours = {
    "batch": normalise(features, axes=(0, 2, 3)),
    "layer": normalise(features, axes=(1, 2, 3)),
    "instance": normalise(features, axes=(2, 3)),
    "group": normalise(groups, axes=(2, 3, 4)).flatten(1, 2),
}

# %%
pytorch = {
    "batch": nn.BatchNorm2d(8),
    "layer": nn.LayerNorm([8, 8, 8]),
    "instance": nn.InstanceNorm2d(8),
    "group": nn.GroupNorm(2, 8),
}
gaps = [(layer(features) - ours[name]).abs().max() for name, layer in pytorch.items()]
fact(
    "One formula with four choices of axes gives batch, layer, instance and group norm",
    max(gaps) < 1e-4,
    f"largest difference from PyTorch's layers {max(gaps):.0e}",
)


# %%
# extra code: a grid of maps, in orange those that share one mean
def axes_figure():
    share = {"batch: over (N, H, W)": lambda n, c: c == 2, "layer: over (C, H, W)": lambda n, c: n == 1,
             "instance: over (H, W)": lambda n, c: (n, c) == (1, 2), "group: over (C/2, H, W)": lambda n, c: n == 1 and c < 4}  # fmt: skip
    fig, axes = plt.subplots(2, 2, figsize=(9, 7.6))
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


show(axes_figure(), "Eight channels of six digits after one convolution, four times. The orange maps share one mean and one standard deviation: one channel of all "
     "images; all channels of one image; one channel of one image; half of the channels of one image.")  # fmt: skip

# %% [markdown] slideshow={"slide_type": "notes"}
# Ask the class for each panel: what happens with a batch of one image? Batch normalisation has no other images to compare with (at test time, in eval mode, it uses running
# averages instead). The other three never look at another image. A slide writes `BatchNorm2D`; the class is `BatchNorm2d`.

# %% [markdown]
# ### Each where it makes sense
#
# Our stack of layers has no pixels, only units. There batch and layer normalisation make sense, and group normalisation with the units
# in groups.
#
# **Before you run it:** we take the sigmoid network of 20 layers again and change only `norm`. Does batch normalisation help? Does layer normalisation?
#
# <details><summary>Answer</summary>
#
# Batch normalisation does, layer normalisation does not. After some sigmoids, all digits give nearly the same activations: every unit has its own mean, and the digits differ only
# slightly around it. Batch normalisation subtracts each unit's mean over the digits and divides by their small spread. So the small differences become large again, and the
# gradient with them. Layer normalisation looks at one digit at a time: there the differences between the units dominate, and those between the digits stay tiny.
#
# </details>

# %%
attempt("sigmoid, batch norm", norm=nn.BatchNorm1d)

# %%
attempt("sigmoid, layer norm", norm=nn.LayerNorm)

# %%
worst, best = min(results["sigmoid, batch norm"]), max(results["sigmoid, layer norm"])
claim(
    "Batch norm makes 20 layers of sigmoid trainable in 15 epochs; layer norm does not",
    worst > 0.8 and best < 0.25,
    f"worst with batch norm {worst:.0%}, best with layer norm {best:.0%}",
    same=f"{len(seeds)} seeds, Adam, learning rate 0.001, PyTorch's initialisation",
)

# %% [markdown]
# With ReLU, layer normalisation does help. For group normalisation we make no claim: look at its three seeds. (At half the rate it reads 90 %: section 9.)

# %%
attempt("ReLU, layer norm", activation=nn.ReLU, norm=nn.LayerNorm)

# %%
def group_norm_8(width):
    return nn.GroupNorm(8, width)


attempt("ReLU, group norm", activation=nn.ReLU, norm=group_norm_8)

# %%
worst, best = min(results["ReLU, layer norm"]), max(results["ReLU"])
claim(
    "With ReLU, layer normalisation makes 20 layers trainable in 15 epochs",
    worst > best + 0.2,
    f"worst {worst:.0%}, best without it {best:.0%}",
    same=f"{len(seeds)} seeds, Adam, learning rate 0.001, PyTorch's initialisation",
)

# %% [markdown]
# ### Instance normalisation wants pixels
#
# Instance normalisation averages over the pixels of one channel. A unit of our stack has no pixels, only one number, and the mean of one number is the number itself. So what does
# `nn.InstanceNorm1d` do with a batch of 64 digits of 64 units?

# %%
batch = x_train[:64]
trap = nn.InstanceNorm1d(64)(batch)
gap = (trap - F.layer_norm(batch, (64,))).abs().max()
fact(
    "Without pixels, InstanceNorm1d computes layer normalisation, and does not warn",
    gap < 1e-4,
    f"largest difference {gap:.0e}",
)

# %% [markdown]
# It took the batch of shape (64, 64) for *one* sample of 64 channels with 64 positions. There is no error, but it computes something else. (With other batch sizes it warns.)
# **Look at the shapes that a layer expects.**
#
# So we try it where it belongs, in a small convolutional network, on a task that suits it. We train on normal digits and test on paler ones, with a quarter of the contrast.


# %%
def conv_network(norm):
    blocks = []
    for in_channels in (1, 16, 16):
        convolution = nn.Conv2d(in_channels, 16, kernel_size=3, padding=1)
        blocks += [convolution, norm(16), nn.ReLU()]
    head = [nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 10)]
    return nn.Sequential(nn.Unflatten(1, (1, 8, 8)), *blocks, *head)


norms = {
    "none": lambda channels: nn.Identity(),
    "batch": nn.BatchNorm2d,
    "layer": lambda channels: nn.GroupNorm(1, channels),  # one group: the whole image
    "group": lambda channels: nn.GroupNorm(4, channels),
    "instance": lambda channels: nn.InstanceNorm2d(channels, affine=True),
}

# %% [markdown]
# **Before you run it:** which of the five still reads the pale digits?
#
# <details><summary>Answer</summary>
#
# Instance normalisation. Lower contrast changes all numbers of a channel in the same way: by a factor and a shift. Instance normalisation removes both, channel by channel, before
# the next layer sees them. Layer and group normalisation average over channels with different shifts. Batch normalisation uses the averages of the training digits, which do not
# fit pale digits. (None of this would be needed here if each picture were normalised first: see the last row.)
#
# </details>

# %%
pale = prepare(0.25 * test_set.images)


def contender(name):
    if name in norms:
        return conv_network(norms[name])
    first = nn.LayerNorm(64, elementwise_affine=False)
    return nn.Sequential(first, conv_network(norms["none"]))


contrast = {}  # one network alone may be lucky or not: the mean of three
for name in tqdm([*norms, "each picture first"], leave=False):
    runs = []
    for _ in range(3):
        train(model := contender(name), num_epochs=10)
        runs.append((accuracy(model, x_test, y_test), accuracy(model, pale, y_test)))
    contrast[name] = np.mean(runs, axis=0)


# %%
# extra code: a pair of bars for each normalisation
def contrast_figure():
    fig, ax = plt.subplots(figsize=(9, 4.6))
    for row, (name, (normal, weak)) in enumerate(contrast.items()):
        for shift, value, colour in ((-0.2, normal, "lightgray"), (0.2, weak, "C1" if name == "instance" else "C0")):
            ax.barh(row + shift, value, height=0.38, color=colour)
            ax.annotate(f"{value:.0%}", (value, row + shift), xytext=(6, 0), textcoords="offset points", va="center")
    ax.set(yticks=range(len(contrast)), yticklabels=contrast, xlim=(0, 1.1), xlabel="accuracy on new digits (grey: as they are; coloured: pale)")
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.set_title("Instance norm reads pale digits,\nand so does a network with each picture normalised")
    return fig


show(contrast_figure(), "Accuracy of a small convolutional network with each normalisation, on the test digits as they are and with a quarter of their contrast.")

# %%
weak = {name: values[1] for name, values in contrast.items()}
rivals = [weak[name] for name in ("none", "batch", "layer", "group")]
claim(
    "Of five, instance norm reads pale digits best; normalised pictures do as well",
    weak["instance"] > max(0.75, max(rivals) + 0.05)
    and weak["each picture first"] > weak["instance"] - 0.03,
    ", ".join(f"{name} {value:.0%}" for name, value in weak.items()),
    same="three convolutions, mean of three networks, 10 epochs with Adam, rate 0.001",
)

# %% [markdown]
# **Exercise 7**: group normalisation. Normalise `x` (N, C, H, W) in `num_groups` groups of neighbouring channels, without scale and shift, $\varepsilon =
# 10^{-5}$. Do not use `nn.GroupNorm`. With which `num_groups` is it layer normalisation, and with which instance normalisation?


# %%
def group_norm(x, num_groups):
    ...


exercises.group_norm.check(group_norm)

# %% slideshow={"slide_type": "skip"}
# exercises.group_norm.hint()
# exercises.group_norm.solution()

# %% [markdown]
# ### What normalisation does not fix
#
# Normalisation keeps the *activations* in a good range. This is not enough for the gradient on its way back. We look at fifty layers:

# %%
deep = {
    "ReLU, batch norm": network(50, nn.ReLU, norm=nn.BatchNorm1d),
    "ReLU, layer norm": network(50, nn.ReLU, norm=nn.LayerNorm),
    "sigmoid, layer norm": network(50, norm=nn.LayerNorm),
}
deep = {name: gradient_profile(model) for name, model in deep.items()}

# %%
# extra code: their profiles
fig, ax = plt.subplots(figsize=(9, 4.6))
plot_profiles(ax, deep, at=[13, 8, 25])
ax.set(xlim=(0, 51), xticks=[1, 10, 20, 30, 40, 50], title="Normalised activations, yet gradients explode or vanish")
ax.set_ylim(top=1e3 * deep["ReLU, batch norm"].max())
show(fig, "Gradient profiles of 50 normalised layers. Towards the first layer one line rises (ReLU, batch normalisation), one stays about level (ReLU, layer "
     "normalisation), one falls (sigmoid, layer normalisation).")  # fmt: skip

# %%
explosion = deep["ReLU, batch norm"][0] / deep["ReLU, batch norm"][-2]
calm = deep["ReLU, layer norm"][0] / deep["ReLU, layer norm"][-2]
claim(
    "Batch norm makes the gradient of deep ReLU networks explode; layer norm does not",
    explosion > 1000 > 100 > calm,
    f"layer 1's gradient is {explosion:,.0f} and {calm:.2f} times that of layer 49",
    same="50 layers of ReLU before training, PyTorch's initialisation",
)

# %% [markdown]
# This is known, and can be derived: at initialisation, batch normalisation with ReLU multiplies the gradient by $\sqrt{\pi / (\pi - 1)} = 1.21$ in each layer (Yang et al. 2019), so in
# 48 layers by about 10,000. How then can networks of a hundred layers be trained with it? With the next remedy.

# %% [markdown]
# ## 8. Fourth remedy: skip connections (10 min)
#
# Let each layer *add* to what is there: $y = x + f(x)$. Then the factor of the layer is
#
# $$\frac{\partial y}{\partial x} = 1 + f'(x)$$
#
# However small $f'$ is, there is always the 1: **the gradient of earlier parameters depends more directly on the output.** If we multiply out 50 such factors, one of the terms is
# $1 \cdot 1 \cdots 1$, the path past all layers.

# %%
nothing = network(50, nn.ReLU, init=nn.init.zeros_, skip=True)[:-1]  # 49 times f = 0
x = x_train[:1].clone().requires_grad_()
nothing(x).sum().backward()
fact(
    "Skip connections pass a gradient unchanged through 49 layers that do nothing",
    (x.grad == 1).all(),
    f"each of its numbers is {x.grad.min():g}, as it was above the 49 layers",
)

# %% [markdown]
# **Before you run it:** we take the sigmoid network of 20 layers with PyTorch's default initialisation, the worst that we have. Only `skip=True` is new. Will it train?
#
# <details><summary>Answer</summary>
#
# It trains. The sigmoids still multiply by at most 1/4, but only inside the layers. The way past them is free.
#
# </details>

# %%
attempt("sigmoid, skip", skip=True)

# %%
attempt("ReLU, skip", activation=nn.ReLU, skip=True)

# %% [markdown]
# But the skip connections also carry the *pixels* to the last layer, and a linear layer on pixels can read digits, too. Do the 19 hidden layers do anything? We replace what each
# of them adds, $f(x)$, with its mean over the training digits, and measure again.


# %%
@torch.no_grad()
def without_layers(model):
    """Accuracy on new digits when each f(x) is only its mean over x_train."""
    model.eval()
    h, x = x_train, x_test
    for layer in model[:-1]:
        f = layer.activation(layer.norm(layer.linear(h)))
        h, x = h + f, x + f.mean(dim=0)
    return (model[-1](x).argmax(dim=1) == y_test).float().mean().item()


# %%
torch.manual_seed(first_seed)
model = network(20, skip=True)
train(model)
whole, emptied = accuracy(model, x_test, y_test), without_layers(model)

# %%
worst = min(results["sigmoid, skip"])
claim(
    "Skips alone make 20 sigmoid layers trainable, and answers pass through the layers",
    worst > 0.8 and max(results["sigmoid"]) < 0.25 and emptied < whole - 0.4,
    f"worst {worst:.0%}, best without them {max(results['sigmoid']):.0%};"
    f" {whole:.0%} falls to {emptied:.0%} with each layer a constant",
    same=f"{len(seeds)} seeds (constants: one), 15 epochs with Adam, rate 0.001",
)

# %% [markdown]
# So the answers pass through the layers. Whether the layers are *needed* is another question: a linear layer on the pixels reads as many digits (section 9).

# %%
with_skip = {"with skip connections": gradient_profile(network(50, skip=True))}
with_skip["without"] = gradient_profile(network(50))

# %%
# extra code: both profiles
fig, ax = plt.subplots(figsize=(9, 4.6))
plot_profiles(ax, with_skip, at=25)
ax.set(xlim=(0, 51), xticks=[1, 10, 20, 30, 40, 50], title="50 sigmoid layers: with skip connections, the first gets a gradient")
ax.set_ylim(top=1e6)
show(fig, "Gradient profiles of 50 sigmoid layers before training, with skip connections and without.")

# %%
values = with_skip["with skip connections"]
claim(
    "With skip connections, 50 sigmoid layers have gradients within a factor of 1,000",
    values.max() < 1000 * values.min(),
    f"from {values.min():.2g} to {values.max():.2g}; without, the first is"
    f" {with_skip['without'][0]:.0e}",
    same="50 layers of sigmoid before training, 256 digits",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# This is the residual network of He, Zhang, Ren and Sun. A slide dates it 2005; it appeared in December 2015. Notebook 02 builds it with convolutions and shows the other half of
# the story: that it also makes deeper networks *better*, not only trainable.
# %% [markdown]
# **Exercise 8** (2 min): a chain with skip connections. In a chain, each layer computes $y = x + f(x)$. `slopes` contains $f'$ of each layer, as a tensor (depth,). Return the
# derivative of the chain's output with respect to its input.

# %%
def chain_with_skips(slopes):
    ...


exercises.chain_with_skips.check(chain_with_skips)

# %% slideshow={"slide_type": "skip"}
# exercises.chain_with_skips.hint()
# exercises.chain_with_skips.solution()

# %% [markdown]
# ## 9. All remedies against depth (15 min)
#
# The remedies are not rivals. ReLU, He, batch normalisation and skip connections *together* are a ResNet:

# %%
everything = {"activation": nn.ReLU, "init": he, "norm": nn.BatchNorm1d, "skip": True}
attempt("all four", **everything)

# %% [markdown]
# Is that our best network for digits? Two things are missing for a fair answer. All networks had *one* learning rate and 15 epochs, which may suit one better than another. And we
# have not tried networks without depth: `network(1)` is a single `nn.Linear(64, 10)`, a **linear classifier**, and `network(2)` has one hidden layer.
#
# So each network gets three learning rates and up to 30 epochs, and we choose on the validation digits.


# %% tags=["measure"]
def tuned(depth, **changes):
    """Three rates, up to 30 epochs: the model that is best on x_val."""
    best = {"val": 0.0}
    for lr in (5e-4, 2e-3, 8e-3):
        model = network(depth, **changes)
        optimizer = adam(model, lr)
        for epochs in range(5, 31, 5):
            train(model, num_epochs=5, optimizer=optimizer)
            val = accuracy(model, x_val, y_val)
            if val > best["val"]:
                best = {"val": val, "lr": lr, "epochs": epochs}
                best["model"] = copy.deepcopy(model)
    return best | {"test": accuracy(best["model"], x_test, y_test)}


# %% [markdown]
# **Before you run it:** how far behind the best networks of 20 layers is the linear classifier? And one hidden layer?
#
# <details><summary>Answer</summary>
#
# About a point, and less than half a point. These digits are small and centred, and planes nearly separate them: there is little left for depth to gain.
#
# </details>

# %%
shallow = {"linear classifier": [], "one hidden layer": []}
for seed in tqdm(seeds, desc="shallow networks", leave=False):
    torch.manual_seed(seed)
    shallow["linear classifier"].append(tuned(depth=1)["test"])
    one = tuned(depth=2, activation=nn.ReLU, init=he)
    shallow["one hidden layer"].append(one["test"])
for name, found in shallow.items():
    print(f"{name}: " + ", ".join(f"{right:.1%}" for right in found))

# %% [markdown]
# For 20 layers the same takes minutes. So it was measured beforehand, with the same code.

# %%
rows = measured("remedies")


def chosen(remedy, depth):
    """Accuracy on new digits for each seed of the table."""
    return np.array([
        row["test"] / 100 for row in rows
        if row["remedy"] == remedy and row["depth"] == depth
    ])  # fmt: skip


# %%
# extra code: a row for each remedy, pale dots of this run
def remedies_figure():
    fig, ax = plt.subplots(figsize=(9, 7.4))
    line = chosen("linear classifier", 1)
    ax.axvline(np.median(line), color="C1", linewidth=2)
    depths = {name: 20 for name in results} | {"one hidden layer": 2, "linear classifier": 1}
    for row, (name, depth) in enumerate(depths.items()):
        values, colour = chosen(name, depth), "C0" if depth == 20 else "C1"
        ax.plot([values.min(), values.max()], [row - 0.13] * 2, color=colour, alpha=0.35, linewidth=8, solid_capstyle="round")
        ax.plot(values, [row - 0.13] * len(values), "o", color=colour, markersize=8)
        ax.plot(results.get(name, []), [row + 0.17] * len(results.get(name, [])), "o", color=colour, alpha=0.3, markersize=8)
        ax.annotate(f"{values.mean():.1%}", (1.01, row), va="center", fontweight="bold", color=colour)
    ax.axhline(len(results) - 0.5, color="gray", linewidth=1)
    ax.axvline(0.1, color="gray", linestyle=":")
    ax.annotate("guessing", (0.1, -0.6), xytext=(6, 0), textcoords="offset points", color="gray", va="center")
    ax.set(yticks=range(len(depths)), yticklabels=depths, xlim=(0, 1.14), ylim=(len(depths) - 0.5, -0.95), xlabel="accuracy on new digits")
    ax.set_xticks(np.arange(0, 1.1, 0.2), [f"{share:.0%}" for share in np.arange(0, 1.1, 0.2)])
    ax.set_title("The best networks of 20 layers are a point above a linear classifier", x=-0.26)
    return fig


show(remedies_figure(), "A row for each remedy, 20 layers; below them one hidden layer and the linear classifier. Pale dots: this run, 15 epochs at one learning rate. Dark dots: rate and "
     f"epochs chosen on validation digits, measured earlier, {len(chosen('all four', 20))} seeds in the last five rows and {len(chosen('sigmoid', 20))} in the others; at the right their mean.")  # fmt: skip

# %%
def interval(lead):
    """The mean of ten differences, and half the width of its 95 % interval."""
    return lead.mean(), 2.26 * lead.std(ddof=1) / math.sqrt(len(lead))


deep = chosen("all four", 20)
over_linear, width_linear = interval(deep - chosen("linear classifier", 1))
over_hidden, width_hidden = interval(deep - chosen("one hidden layer", 2))
claim(
    "20 layers with all remedies train, but stay within a point of one hidden layer",
    abs(over_hidden) + width_hidden < 0.01 and over_linear - width_linear > 0
    and abs(np.mean(results["all four"]) - np.mean(shallow["one hidden layer"])) < 0.03,
    f"all four: {over_hidden:.1%} ± {width_hidden:.1%} ahead of one hidden layer,"
    f" {over_linear:.1%} ± {width_linear:.1%} of the linear classifier",
    same=f"{len(x_train):,} digits, three rates, up to 30 epochs,"
    f" chosen on {len(x_val)} others; {len(deep)} seeds",
)

# %% [markdown]
# Compare pale and dark dots, too. With PyTorch's initialisation, ReLU gains about 50 points from a rate of its own, and so does ReLU with group normalisation: part of what failed in
# sections 5 and 7 was due to the learning rate. He's weights stay ahead of the default:

# %%
ahead = chosen("ReLU, He", 20) - chosen("ReLU", 20)  # seed by seed
now_ahead = np.subtract(results["ReLU, He"], results["ReLU"])  # in this run
claim(
    "With rates chosen too, 20 layers of ReLU read more with He's weights",
    ahead.min() > 0.1 and now_ahead.min() > 0.1,
    f"{chosen('ReLU, He', 20).mean():.0%}, PyTorch's default"
    f" {chosen('ReLU', 20).mean():.0%}; at least {100 * ahead.min():.0f} points more",
    same=f"three rates, up to 30 epochs; {len(ahead)} seeds; 15 epochs live",
)

# %% [markdown]
# The remedies make depth *possible*. Whether it *pays* depends on the data, on the kind of layers (notebook 02), and on the recipe: ours has a constant learning rate. The lab
# shows what a better recipe can do.
#
# **Before you run it:** now we take fifty layers, again with rate and epochs chosen. Which remedies still work?
#
# <details><summary>Answer</summary>
#
# Skip connections; the sigmoid with batch normalisation; and, at the smallest of the three rates, a good initialisation (He, Xavier). Layer and group normalisation do not, at these
# rates. (One seed each.)
#
# </details>

# %%
fifty = {"sigmoid": {}, "sigmoid, skip": {"skip": True}, "all four": everything}
right = {}
for name, changes in tqdm(fifty.items(), desc="50 layers", leave=False):
    model = network(50, **changes)
    train(model)
    right[name] = accuracy(model, x_test, y_test)


# %%
# extra code: a table of remedies and depths
def closing_figure():
    depths, below = [5, 10, 20, 50], {"one hidden layer": 2, "linear classifier": 1}
    table = np.array([[chosen(name, depth).mean() for depth in depths] for name in results])
    shallow = np.array([chosen(name, depth).mean() for name, depth in below.items()])
    fig, ax = plt.subplots(figsize=(8.5, 7.4))
    ax.imshow(np.vstack([table, np.tile(shallow[:, None], 4)]), cmap="Blues", vmin=0, vmax=1.25, aspect="auto")
    for (row, column), value in np.ndenumerate(table):
        ax.text(column, row, f"{value:.0%}", ha="center", va="center", fontsize=15, color="white" if value > 0.8 else "black",
                fontweight="bold" if value > 0.8 else None)  # fmt: skip
    for row, value in enumerate(shallow, start=len(table)):
        ax.text(1.5, row, f"{value:.0%}", ha="center", va="center", fontsize=15, color="white", fontweight="bold")
    ax.axhline(len(table) - 0.5, color="white", linewidth=6)
    ax.grid(False)
    ax.set_xticks(range(4), [f"{depth} layers" for depth in depths])
    ax.set_yticks(range(len(table) + 2), [*results, *below])
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    few, many = (table[:, [0, 3]] > 0.8).sum(axis=0)
    ax.set_title(f"{few} of {len(table)} train (above 80 %) with 5 layers, {many} with 50", pad=34, x=-0.3)
    return fig


show(closing_figure(), f"Accuracy on new digits for each remedy (rows) with 5, 10, 20 and 50 layers (columns), rate and epochs chosen, measured earlier: means of {len(chosen('ReLU', 5))} seeds or more, with 50 layers of "
     f"{len(chosen('ReLU', 50))}; bold on dark: above 80 %. The two lines below have no columns: one hidden layer and none.")  # fmt: skip

# %%
claim(
    "Fifty layers train with skip connections; without any remedy they guess",
    min(right["sigmoid, skip"], right["all four"]) > 0.8
    and max(right["sigmoid"], chosen("sigmoid", 50).max()) < 0.25,
    ", ".join(f"{name} {share:.0%}" for name, share in right.items())
    + f"; sigmoid with its rate chosen {chosen('sigmoid', 50).max():.0%}",
    same="50 layers, 15 epochs with Adam, learning rate 0.001",
)

# %% [markdown]
# A level profile alone is not enough. ReLU with layer normalisation has one at 50 layers (section 7); look at its row. Part of the reason is the rate: at 0.0001, a fifth of the smallest
# that was tried, it begins to learn (60 % after 20 epochs, one seed). It may also be that the gradient points nowhere useful: without skip connections, those of neighbouring inputs
# resemble noise (Balduzzi et al. 2017).
#
# ### Explore
#
# Choose any combination and look at the profile of the untrained network: a level one is healthy. (Open circles at the bottom are exactly zero. Infinite values and NaN cannot be
# drawn; the title mentions them.)

# %%
# extra code: the profile of every combination
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
    fig, ax = plt.subplots(figsize=(9, 4.6))
    whole = values[np.isfinite(values)]
    plot_profiles(ax, {"": np.where(np.isfinite(values), values, np.nan)})
    low, high = max(1e-46, whole.min(initial=1e-4) / 3), whole.max(initial=1e2) * 3
    ax.set(ylim=(low, high), xlim=(0.5, depth + 0.5), title=verdict(values))
    ax.xaxis.set_major_locator(plt.MaxNLocator(integer=True))
    ax.minorticks_off()
    return fig, (f"Gradient profile of {depth} layers with {activation}, {initialisation} initialisation, normalisation {normalisation}, "
                 f"skip connections {skip}.")  # fmt: skip


explore(
    draw_profile,
    depth=[20, 2, 5, 10, 30, 50],
    activation=list(activations),
    initialisation=list(inits),
    normalisation=list(norm_layers),
    skip=["no", "yes"],
    site={"depth": [20, 5, 50], "activation": ["sigmoid", "ReLU"], "initialisation": ["PyTorch's default", "He"], "normalisation": ["none", "batch", "layer"]},
)

# %% [markdown]
# ## 10. Exercises (30 min)
#
# **Exercise 9**: He's initialisation. Draw the weights of every `nn.Linear` of `model` by He's rule, set the biases to zero, and return the model. The layers have different
# widths. Do not use `kaiming_normal_`.


# %%
def initialise(model):
    ...


exercises.initialise.check(initialise)

# %% slideshow={"slide_type": "skip"}
# exercises.initialise.hint()
# exercises.initialise.solution()

# %% [markdown]
# **Exercise 10**: a block that begins as the identity. Return a module for inputs (N, `width`): $y = x + f(x)$, where $f$ is two linear layers with a ReLU between them. At the
# start it must be *exactly* the identity, and yet be able to learn. Which weights may be zero?


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
# **Make the 50-layer sigmoid network learn, without touching depth or activation.** It has 50 linear layers in a row, `nn.Sigmoid()` after each but the last, and no other
# non-linearity. Everything else is up to you: initialisation, normalisation, skip connections, optimizer, learning rate, epochs.
#
# Train on `x_train` and `y_train`, choose on `x_val`, and leave `x_test` alone. `train_deep` has no arguments and returns the trained network. The check counts its layers, makes
# sure that every one of them gets a gradient, and tests it on the held-out test digits. You compete with section 9: the linear classifier reaches 96 to 97 %, one hidden
# layer 97 to 98 %. **97.5 % is good, 98.5 % is very good.**


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
# - **Predict, then measure.** A layer's factor is its activation's derivative times $\sqrt{n \cdot \mathrm{Var}(w)}$. This one line shows whether the gradient can get through 20
#   layers.
# - **Look inside** the network before you change settings: at the gradient profile, the histograms, the dead units.
# - **Where to begin today:** use ReLU, He's initialisation, batch normalisation and skip connections together, and clipping where a large rate is worth it.
# - **Compare with something simple.** A deep network that trains well may still not be needed.

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
# | V9 all remedies against depth, and the linear classifier | 9 | beyond |
# | V10 inside: histograms of activations and gradients, saturated and dead units; the slope predicted | 3, 6 | D, beyond |
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
# 02 · Residual blocks: why deeper plain networks train *worse*, and how a shortcut fixes it.
