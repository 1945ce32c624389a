# %% [markdown]
# # 09 · Generative adversarial networks
#
# @BADGES@
#
# **To keep what you write:** on Colab choose *File > Save a copy in Drive*, on Kaggle *Copy & Edit*, before you begin.
#
# **Question:** Nobody tells a network what a digit is. It only sees 1,200 of them. Can it draw new ones, and how do we know that they are good?
#
# **You will be able to**
# - explain what a generator and a discriminator want, write down their losses, and say when the most obvious loss fails,
# - train a DCGAN, and judge it by quality, coverage and newness, none of which its losses show,
# - recognise mode collapse, walk through the latent space, and ask a conditional GAN for the picture that you want.
#
# **Time:** it runs in @TIME@ on two CPU cores; with all sections, the exercises and the lab, three hours.
# **Before this:** convolution, transposed convolution and batch normalisation (notebooks 01 and 03), a training loop (notebook 00).

# %% [markdown] slideshow={"slide_type": "notes"}
# **A plan for 75 minutes** (the core takes 69, with its exercises)
#
# - **Core:** sections 1, 2, 3, 4 and 5: the game of two networks, seen in the plane; its two losses; a DCGAN live; and how to judge what it draws.
# - **Optional:** 6 (what the losses tell, and collapse on digits), 7 (the tricks removed), 8 (a walk in latent space), 9 (digits to order), 10 (in colour),
#   11 (pictures from outlines): each a lesson of its own.
# - **Where to stop:** after the list of section 5. If two minutes are left, show the animal heads of section 10.

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

# %% slideshow={"slide_type": "skip"} tags=["measure"]
# What this notebook imports. What is the course's own is in the folder utils/.
import base64
import io
import json
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from IPython.display import HTML
from matplotlib.colors import PowerNorm
from matplotlib.ticker import PercentFormatter
from PIL import Image
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.ops import roi_align
from tqdm.auto import tqdm

from utils import datasets
from utils.exercises import gans as exercises
from utils.figures import curves, explore, show
from utils.lessons import claim, measured, summary
from utils.models import UNet, num_parameters
from utils.training import fit

# %% slideshow={"slide_type": "skip"}
torch.set_num_threads(1)  # layers this small run fastest on one core
course_seed = torch.initial_seed()  # as utils.start() has set it


def set_seed(k):  # each experiment has its own: the order of the sections is free
    torch.manual_seed(10 * course_seed + k)


# %% [markdown]
# ## 1. Two networks play a game (10 min)
#
# So far every picture had a label, and the network learned to guess it. Now we put the labels away. What is left to learn is how pictures **are distributed**: which
# occur often, which hardly ever, which never. If you know that, you can draw new ones. This is **generative modelling**, a kind of **unsupervised** learning.
#
# A photo of $224 \times 224$ pixels has 150,528 numbers, and nobody can write down the density of photos. Goodfellow and others (2014) do without one: they let two networks play against each other.

# %%
# extra code: the two networks, and who learns from whom
def game_figure():
    fig, ax = plt.subplots(figsize=(11, 5))
    box = {"boxstyle": "round,pad=0.5", "edgecolor": "black", "linewidth": 1.5}
    text = {"ha": "center", "va": "center", "fontsize": 15}
    ax.text(0.4, 1, "z\nrandom\nnumbers", **text)
    ax.text(2.7, 1, "G\ngenerator", bbox=box | {"facecolor": "#fde0c5"}, **text | {"fontsize": 17})
    ax.text(5.0, 1, "fake", bbox=box | {"facecolor": "#eeeeee"}, **text)
    ax.text(5.0, 3.1, "real", bbox=box | {"facecolor": "#eeeeee"}, **text)
    ax.text(7.5, 2.05, "D\ndiscriminator", bbox=box | {"facecolor": "#cfe3f5"}, **text | {"fontsize": 17})
    ax.text(10.15, 2.05, "how likely\nit is real", **text)

    def arrow(start, end, colour="black", **look):
        ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 2.5, "mutation_scale": 20} | look)

    arrow((1.0, 1), (1.85, 1))
    arrow((3.55, 1), (4.5, 1))
    arrow((5.5, 1.1), (6.5, 1.75))
    arrow((5.5, 3.0), (6.5, 2.4))
    arrow((8.55, 2.05), (9.4, 2.05))
    arrow((10.1, 2.6), (7.6, 2.75), "C0", linestyle="--", connectionstyle="arc3,rad=0.5")
    ax.text(9.1, 3.75, "d_loss: D learns to tell them apart", color="C0", fontweight="bold", **text)
    arrow((10.1, 1.5), (2.75, 0.4), "C1", linestyle="--", connectionstyle="arc3,rad=-0.3")
    ax.text(6.6, -0.8, "g_loss: G learns, through D, to be called real", color="C1", fontweight="bold", **text)
    ax.set(xlim=(-0.3, 11.2), ylim=(-1.05, 4.1))
    ax.axis("off")
    return fig


show(game_figure(), "Random numbers z go into the generator G, which makes a fake. Fakes and real pictures go into the discriminator D, which says how likely each is real. "
     "A dashed blue arrow leads from the answer back to D; a dashed orange one from the answer back through D to G: all that G learns comes that way.")  # fmt: skip

# %% [markdown]
# - The **generator** $G$ is a forger. It makes pictures from random numbers $\mathbf{z}$, and never sees a real picture.
# - The **discriminator** $D$ is a detective. It learns to tell real from fake. That is supervised learning, with labels that cost nothing: we know which pictures are real.
#
# $D$ returns a logit $a$, and $\sigma(a)$ is the probability "real". Its loss is the cross-entropy of two classes. We write $\text{softplus}(a) = \log(1 + e^a)$. Then
# $-\log\sigma(a) = \text{softplus}(-a)$ and $-\log(1 - \sigma(a)) = \text{softplus}(a)$, and the loss is
#
# $$\mathrm{d\_loss} = \underbrace{\text{mean}\;\text{softplus}(-D(\mathbf{x}))}_{\text{call the real ones real}} + \underbrace{\text{mean}\;\text{softplus}(D(G(\mathbf{z})))}_{\text{call the fakes fake}}$$

# %% tags=["measure"]
def discriminator_loss(real_logits, fake_logits):
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


# %% [markdown]
# $G$ wants its fakes to be called real: $\mathrm{g\_loss} = \text{mean}\;\text{softplus}(-D(G(\mathbf{z})))$. (Section 3 says why it is called *non-saturating*.)

# %% tags=["measure"]
def non_saturating(fake_logits):
    return F.softplus(-fake_logits).mean()


# %% [markdown]
# **Exercise 1** (3 min): the discriminator's loss, as libraries write it. `F.binary_cross_entropy_with_logits(logits, targets)` is the mean of $\text{softplus}(-a)$ where the targets are 1,
# and that of $\text{softplus}(a)$ where they are 0. So two calls give the same loss: one for the reals, one for the fakes. With `smooth = 0.1`, the targets of the **reals** become
# $1 - \text{smooth}$ = 0.9, and those of the fakes stay 0 (one-sided label smoothing, Salimans et al. 2016).
#
# Write your answer in place of the dots and run the cell: the check says what it expected and what it got. Stuck? Take away the `#` in the cell below it.


# %%
def smooth_discriminator_loss(real_logits, fake_logits, smooth=0.0):
    ...


exercises.smooth_discriminator_loss.check(smooth_discriminator_loss)

# %% slideshow={"slide_type": "skip"}
# exercises.smooth_discriminator_loss.hint()
# exercises.smooth_discriminator_loss.solution()

# %% [markdown]
# ## 2. See it in the plane (18 min)
#
# A picture has too many numbers for us to see how it moves. So we begin with "pictures" of two numbers: points. The real ones lie in eight heaps on a circle.


# %% tags=["measure"]
ANGLES = torch.arange(8) * 2 * np.pi / 8
CENTRES = 2 * torch.stack([ANGLES.cos(), ANGLES.sin()], dim=1)


def ring(num):
    """num points around the eight centres: (num, 2)."""
    return CENTRES[torch.randint(8, (num,))] + 0.15 * torch.randn(num, 2)


# %% [markdown]
# Both networks are small stacks of dense layers. $G$ makes a point from two random numbers, $D$ a logit from a point.


# %% tags=["measure"]
def dense(inputs, outputs, width=64):
    return nn.Sequential(
        nn.Linear(inputs, width), nn.ReLU(),
        nn.Linear(width, width), nn.ReLU(),
        nn.Linear(width, outputs),
    )  # fmt: skip


# %% [markdown]
# **A GAN is two networks, two losses, two optimizers.** This class serves the whole notebook; only the networks will change.
#
# - `.detach()` in $D$'s loss: $D$ learns from the fakes, and no gradient reaches $G$.
# - `beta1`, the share of the old direction that Adam keeps, is 0.5 in place of 0.9: less momentum, because the opponent keeps moving (Radford et al. 2016).
# - `average`: a second generator, whose weights are a running mean of the first one's. It is not trained. Leave it aside until section 4.


# %% tags=["measure"]
Z = 32  # how many random numbers make a picture


class GAN:
    def __init__(self, generator, discriminator, loss=non_saturating,
                 lr=1e-3, beta1=0.5, inputs=Z, decay=0.99):  # fmt: skip
        self.generator, self.discriminator = generator, discriminator
        self.loss, self.inputs, betas = loss, inputs, (beta1, 0.999)
        self.g_optimizer = torch.optim.Adam(generator.parameters(), lr, betas)
        self.d_optimizer = torch.optim.Adam(discriminator.parameters(), lr, betas)
        mean_of_weights = get_ema_multi_avg_fn(decay)
        self.average = AveragedModel(generator, multi_avg_fn=mean_of_weights)

    def fake(self, num):
        return self.generator(torch.randn(num, self.inputs, device=device))

    def d_loss(self, real):
        fake = self.fake(len(real)).detach()
        return discriminator_loss(self.discriminator(real), self.discriminator(fake))

    def g_loss(self, num):
        return self.loss(self.discriminator(self.fake(num)))


# %% [markdown]
# One training step for each network. They differ in the loss and the optimizer. (`*real` is one tensor here; in section 9 the labels come along.)


# %% tags=["measure"]
def discriminator_step(gan, *real):
    loss = gan.d_loss(*real)
    gan.d_optimizer.zero_grad()
    loss.backward()
    gan.d_optimizer.step()
    return loss.item()


def generator_step(gan, num):
    loss = gan.g_loss(num)
    gan.g_optimizer.zero_grad()
    loss.backward()
    gan.g_optimizer.step()
    gan.average.update_parameters(gan.generator)
    return loss.item()


# %% [markdown]
# Now the game itself, in which the two take turns.


# %% tags=["measure"]
def play(gan, num_steps, data, batch_size=64, generator_steps=1,
         watch=None, every=100, progress="GAN"):  # fmt: skip
    """Both losses, (2, num_steps). data: tensors of equal length, pictures first."""
    losses = []
    steps = range(1, num_steps + 1)
    for step in tqdm(steps, desc=progress, disable=progress is None):
        chosen = torch.randint(len(data[0]), (batch_size,), device=device)
        d_loss = discriminator_step(gan, *[tensor[chosen] for tensor in data])
        for _ in range(generator_steps):
            g_loss = generator_step(gan, batch_size)
        losses.append((d_loss, g_loss))
        if watch and step % every == 0:
            watch(step)
    return torch.tensor(losses).T


@torch.no_grad()
def sample(generator, z):
    generator.eval()
    pictures = generator(z)
    generator.train()
    return pictures


# %% [markdown]
# $D$'s **field** shows what $G$ learns from it. It is the gradient $\nabla_{\mathbf{x}} D(\mathbf{x})$: the direction in which a point has to move to look more real to $D$.
# Every 60 steps we record the field and the fakes.


# %% tags=["measure"]
def plane_game(seed, loss=non_saturating, lr=2e-3):
    torch.manual_seed(seed)
    networks = dense(2, 2).to(device), dense(2, 1).to(device)
    gan = GAN(*networks, loss=loss, lr=lr, inputs=2)
    return gan, ring(2000).to(device)


def field(discriminator, places):
    """(N, 2): where D's logit grows fastest, at each of the places."""
    places = places.clone().requires_grad_()
    return torch.autograd.grad(discriminator(places).sum(), places)[0]


# %% tags=["measure"]
def heaps_found(points):
    """How many of the 8 heaps have 2 % of the points near them; the share near any."""
    distance, heap = torch.cdist(points.cpu(), CENTRES).min(dim=1)
    near = distance < 0.5
    counts = heap[near].bincount(minlength=8)
    return int((counts > 0.02 * len(points)).sum()), near.float().mean().item()


# %%
# extra code: what we note while a game in the plane goes on
GRID = torch.cartesian_prod(torch.linspace(-2.8, 2.8, 13), torch.linspace(-2.8, 2.8, 13)).to(device)


class Film:
    def __init__(self, gan):
        self.gan, self.z, self.frames = gan, torch.randn(250, 2, device=device), {}
        self(0)

    def __call__(self, step):
        self.frames[step] = sample(self.gan.generator, self.z).cpu(), field(self.gan.discriminator, GRID).cpu()


# %% [markdown]
# Now two games. In the first the detective is faster: the networks take turns, and $D$'s learning rate is **twice** $G$'s (two rates: Heusel et al. 2017). In the second the forger is faster: the rates are
# equal, and it makes **five steps** for each step of the detective.
#
# **Before you run it:** what will a forger do if it has five tries before the detective learns anything? How many of the eight heaps will the fakes find in each game?
#
# <details><summary>Answer</summary>
#
# It moves all its points to the one place that $D$ finds most real: nothing in its loss asks for variety. Then $D$ learns that this place is fake, and all points move on to the next.
# The heaps where there are none at the moment are called **dropped modes**.
#
# </details>

# %%
GAMES = {"D is faster": (2, 1), "G is faster": (1, 5)}  # D's rate / G's; steps of G
PLANE_STEPS, films = 600, {}
for name, (ratio, generator_steps) in GAMES.items():
    gan, points = plane_game(10 * course_seed)
    gan.d_optimizer.param_groups[0]["lr"] *= ratio
    films[name] = Film(gan)
    play(gan, PLANE_STEPS, [points], batch_size=256, generator_steps=generator_steps,
         watch=films[name], every=60, progress=name)  # fmt: skip


# %%
# extra code: one moment of a game, and both games at some moments
def draw_moment(ax, film, step):
    fakes, arrows = film.frames[step]
    ax.scatter(*points[:400].cpu().T, s=6, color="silver", linewidths=0)
    ax.quiver(*GRID.cpu().T, *F.normalize(arrows, dim=1).T, color="C0", alpha=0.6, scale=18, width=0.008)
    ax.scatter(*fakes.T, s=9, color="C1", linewidths=0)
    ax.set(xlim=(-3.3, 3.3), ylim=(-3.3, 3.3), xticks=[], yticks=[], aspect="equal")
    ax.grid(False)


def stills_figure(steps):
    fig, axes = plt.subplots(2, len(steps), figsize=(2.75 * len(steps), 6.2))
    for row, (name, film) in zip(axes, films.items(), strict=True):
        row[0].set_ylabel(name)
        for ax, step in zip(row, steps, strict=True):
            draw_moment(ax, film, step)
            ax.set_title(f"step {step}", fontsize=13, loc="center", fontweight="normal")
    ends = [heaps_found(film.frames[PLANE_STEPS][0])[0] for film in films.values()]
    fig.suptitle(f"At the end, fakes in {ends[0]} of 8 heaps; with a generator that is too fast, in {ends[1]}", fontweight="bold", x=0.01, ha="left")
    return fig, ends


stills = (0, 60, 180, 300, PLANE_STEPS)
fig, ends = stills_figure(stills)
show(fig, f"Grey: real points in eight heaps. Orange: fakes. Blue arrows: the discriminator's field. At steps {', '.join(map(str, stills))} of both games. Above, where D is faster, the fakes are in {ends[0]} "
     f"heaps at the end; below, where G makes five steps for one of D, in {ends[1]}.")  # fmt: skip

# %% [markdown]
# The same as a film. It needs no kernel: press play, or move the slider.

# %%
# extra code: the film of both games, with a few lines of script
def frame(step):
    fig, axes = plt.subplots(1, 2, figsize=(7.4, 4.1), dpi=72)
    for ax, (name, seen) in zip(axes, films.items(), strict=True):
        draw_moment(ax, seen, step)
        ax.set_title(f"{name}: step {step}", fontsize=13, loc="center")
    file, small = io.BytesIO(), io.BytesIO()
    fig.savefig(file)
    plt.close(fig)
    Image.open(file).convert("RGB").quantize(16).save(small, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(small.getvalue()).decode()


def film():
    alt = f"Both games side by side, frame by frame. At the end, the fakes on the left are in {ends[0]} of the eight heaps, those on the right in {ends[1]}."
    frames = [frame(step) for step in films["D is faster"].frames]
    return HTML(f"""<div class="film"><img src="{frames[-1]}" alt="{alt}" style="max-width:100%"><br>
<button>play</button> <input type="range" min="0" max="{len(frames) - 1}" value="{len(frames) - 1}" style="width:60%" aria-label="frame"></div>
<script>document.querySelectorAll("div.film").forEach(box => {{
  const frames = {json.dumps(frames)}, [img, slider] = ["img", "input"].map(name => box.querySelector(name));
  let timer;
  slider.oninput = () => img.src = frames[slider.value];
  box.querySelector("button").onclick = () => {{
    clearInterval(timer); slider.value = 0; slider.oninput();
    timer = setInterval(() => {{ if (+slider.value >= frames.length - 1) clearInterval(timer); else {{ slider.value++; slider.oninput(); }} }}, 500);
  }};
}});</script>""")


film()

# %% [markdown]
# One run proves little. Here are three of each game, stopped after the same number of steps **of the discriminator**. (The fast generator has learned five times as often.)

# %%
EQUAL_STEPS = 400
heaps, near = {name: [] for name in GAMES}, {name: [] for name in GAMES}
for k in range(3):
    for name, (ratio, generator_steps) in GAMES.items():
        gan, points = plane_game(10 * course_seed + k)
        gan.d_optimizer.param_groups[0]["lr"] *= ratio
        play(gan, EQUAL_STEPS, [points], 256, generator_steps, progress=None)
        fakes = sample(gan.generator, torch.randn(1000, 2, device=device))
        found, share = heaps_found(fakes)
        heaps[name].append(found)
        near[name].append(f"{share:.0%}")

# %%
claim(
    "With D's rate twice G's, the fakes find at least seven of the eight heaps; with"
    " equal rates and five steps of G for each of D, two at most",
    min(heaps["D is faster"]) >= 7 and max(heaps["G is faster"]) <= 2,
    "; ".join(
        f"{name}: {heaps[name]} heaps, {', '.join(near[name])} of the fakes near one"
        for name in GAMES
    ),
    same=f"{len(points):,} points, networks, G's rate;"
    f" {EQUAL_STEPS} steps of D; three seeds",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Let the film run twice: once for the orange points, once for the arrows. Ask where the arrows point when the lump sits in a heap: away from it, to the next. That is all there is to
# mode collapse. "Mode" is the statistician's word for a peak of a density.

# %% [markdown]
# This is **mode collapse**. (A lump between two heaps is near none.) It also comes unprovoked: with equal rates, in turns, 3 of 30 games had found half of the heaps at most after 600 steps. Much depends
# on which of the two learns faster; the rest is chance. One remedy is to let $D$ look at whole batches, so that it notices when they lack variety:
#
# **Exercise 2** (3 min): a discriminator that sees batches. Append one channel to `x` (N, C, H, W) that has the same number everywhere: the standard deviation over the batch
# (`unbiased=False`), averaged over all channels and positions (Karras et al. 2018). If all pictures are alike, it is 0. Return (N, C + 1, H, W).


# %%
def with_batch_std(x):
    ...


exercises.with_batch_std.check(with_batch_std)

# %% slideshow={"slide_type": "skip"}
# exercises.with_batch_std.hint()
# exercises.with_batch_std.solution()

# %% [markdown]
# ## 3. Which loss for the generator? (10 min)
#
# $G$ wants the opposite of $D$. The most obvious loss is $D$'s own with the opposite sign. Only its second half depends on $G$. This is the **minimax** game:
#
# $$\min_G \max_D\; \mathbb{E}_{\mathbf{x}} \log \sigma(D(\mathbf{x})) + \mathbb{E}_{\mathbf{z}} \log\left(1 - \sigma(D(G(\mathbf{z})))\right)$$
#
# The second loss rewards $G$ when its fakes are called real: the same goal, but a different gradient. With the logit $a = D(G(\mathbf{z}))$:
#
# | | loss of $G$ | its slope with respect to $a$ |
# |---|---|---|
# | minimax | $\log(1 - \sigma(a)) = -\text{softplus}(a)$ | $-\sigma(a)$ |
# | non-saturating | $-\log\sigma(a) = \text{softplus}(-a)$ | $-(1 - \sigma(a))$ |


# %% tags=["measure"]
def minimax(fake_logits):
    return -F.softplus(fake_logits).mean()


# %% [markdown]
# **Before you run it:** we are in the plane again. $G$ is untrained and stays so; only $D$ learns. Every ten steps we look at the gradient that $G$ would get from each loss. How will the two
# gradients change?
#
# <details><summary>Answer</summary>
#
# The better $D$ becomes, the smaller $\sigma(a)$ becomes, and with it the gradient of minimax: this loss **saturates** just when $G$ has the most to learn. The other slope goes to -1.
#
# </details>


# %%
def gradient_norm(gan, loss):
    losses = loss(gan.discriminator(gan.fake(256)))
    gradients = torch.autograd.grad(losses, list(gan.generator.parameters()))
    return torch.cat([gradient.flatten() for gradient in gradients]).norm().item()


# %%
HEAD_START = 300
gan, points = plane_game(10 * course_seed)
norms = {"minimax": [], "non-saturating": []}
for step in range(HEAD_START + 1):
    if step % 10 == 0:
        norms["minimax"].append(gradient_norm(gan, minimax))
        norms["non-saturating"].append(gradient_norm(gan, non_saturating))
    discriminator_step(gan, points[torch.randint(len(points), (256,))])

# %%
# extra code: the figure
fig, ax = plt.subplots()
ax.set_yscale("log")
steps = range(0, HEAD_START + 1, 10)
title = "A discriminator that is ahead leaves minimax without a gradient"
curves(ax, norms, "steps of D alone", "gradient norm of G", title, x=steps)
show(fig, f"Gradient norm of a fresh generator, on a logarithmic axis, while only the discriminator learns. With minimax it falls to {norms['minimax'][-1]:.1g}; "
     f"with the non-saturating loss it ends at {norms['non-saturating'][-1]:.1g}.")  # fmt: skip

# %%
ratio = norms["non-saturating"][-1] / norms["minimax"][-1]
claim(
    "Against a discriminator that is ahead, a fresh generator gets a gradient"
    " over a hundred times as large from the non-saturating loss",
    ratio > 100,
    f"{ratio:,.0f} times after {HEAD_START} steps",
    same="both networks; G has made no step",
)

# %% [markdown]
# So minimax does not work? **Not so fast.** A small gradient is not yet a failed training. Measured earlier: both losses, with Adam or plain gradient descent (SGD) as $G$'s optimizer, three
# rates for each, five seeds, and the same $D$ in all. Either both networks begin together, or $D$ has a head start of 300 steps.


# %% tags=["measure"]
def after_head_start(loss, optimizer, lr, head_start, seed, num_steps=600):
    """(heaps found, share of the fakes near one) of a game that D begins alone."""
    gan, points = plane_game(seed, loss)
    kinds = {"SGD": torch.optim.SGD, "Adam": torch.optim.Adam}
    betas = {"betas": (0.5, 0.999)} if optimizer == "Adam" else {}
    gan.g_optimizer = kinds[optimizer](gan.generator.parameters(), lr, **betas)
    for _ in range(head_start):
        discriminator_step(gan, points[torch.randint(len(points), (256,))])
    play(gan, num_steps, [points], batch_size=256, progress=None)
    return heaps_found(sample(gan.generator, torch.randn(1000, 2, device=device)))


# %%
first_loss = measured("gan_first_loss")


# %%
# extra code: for each loss and optimizer the best of three rates
def best_rates(rows):
    """{(loss, optimizer, head start): (rate, heaps of each seed)}, the rate that finds most; then, that has most fakes near one."""
    best = {}
    for key in sorted({(row["loss"], row["optimizer"], row["head_start"]) for row in rows}):
        some = [row for row in rows if (row["loss"], row["optimizer"], row["head_start"]) == key]
        means = {lr: [np.mean([row[what] for row in some if row["lr"] == lr]) for what in ("heaps", "near")] for lr in {row["lr"] for row in some}}
        lr = max(means, key=means.get)
        best[key] = lr, [row["heaps"] for row in some if row["lr"] == lr]
    return best


def first_loss_figure():
    best = best_rates(first_loss)
    fig, axes = plt.subplots(1, 2, figsize=(11, 4), sharey=True)
    for ax, head_start, title in zip(axes, (0, 300), ("both begin together", "D is 300 steps ahead"), strict=True):
        rows = [("Adam", "minimax"), ("Adam", "non-saturating"), ("SGD", "minimax"), ("SGD", "non-saturating")]
        for place, (optimizer, loss) in enumerate(reversed(rows)):
            lr, heaps = best[loss, optimizer, head_start]
            ax.plot(heaps, place + np.linspace(-0.2, 0.2, len(heaps)), "o", markersize=9, alpha=0.8, color="C0" if loss == "minimax" else "C1")
        ax.set(title=title, xlabel="heaps found, one dot per seed", xlim=(-0.5, 8.5), ylim=(-0.6, 3.6))
        ax.set_yticks(range(4), [f"{optimizer}, {loss}" for optimizer, loss in reversed(rows)])
    return fig, best


# %%
# extra code: the figure
fig, best_runs = first_loss_figure()
fig.suptitle("At the best rate: with Adam either loss works; with SGD and D ahead, minimax mostly stands still", fontweight="bold", x=0.01, ha="left")
show(fig, "Heaps found of eight, one dot per seed, for each loss and optimizer of the generator at its best rate. Left, both networks begin together: nearly all find eight. Right, with a head start "
     "of the discriminator: all with Adam find eight; with SGD the non-saturating loss finds five to eight, minimax none in three of five runs.")  # fmt: skip

# %%
live = {
    loss.__name__: after_head_start(loss, "Adam", 2e-3, HEAD_START, 10 * course_seed)[0]
    for loss in (minimax, non_saturating)
}
names = "minimax", "non-saturating"
sgd = {loss: np.mean(best_runs[loss, "SGD", 300][1]) for loss in names}
claim(
    "Behind by 300 steps, a generator with Adam finds nearly all heaps with either"
    " loss; with SGD minimax finds at least two fewer on average",
    bool(min(live.values()) >= 6 and sgd["non-saturating"] - sgd["minimax"] >= 2),
    f"with Adam, live: {live}; with SGD, five seeds each at its best of three rates:"
    f" {sgd['minimax']:.1f} and {sgd['non-saturating']:.1f} of 8",
    same=f"D, points, {HEAD_START} steps of head start and 600 steps in turns",
)

# %% [markdown]
# The reason is the optimizer. **Adam divides each gradient by its own recent size**, so a gradient a thousand times smaller gives nearly the same step. Plain gradient descent does not, and when
# $D$ is ahead, minimax mostly leaves $G$ where it is. So "minimax does not work" is a statement about a loss **and** an optimizer. The non-saturating loss is the safer choice, and
# Goodfellow and others propose it in the same paper.
#
# (Each rate was chosen on the same runs that the figure shows. That flatters both losses equally. Rates beyond the three do not help: on five seeds with
# SGD and $D$ ahead, minimax found no heap at 0.2, 0.3 and 1, and the other loss two on average at 0.003.)

# %% [markdown]
# **Exercise 3** (2 min): both slopes. For logits `a` return two tensors: the slope of the minimax loss and that of the non-saturating loss, with respect to each logit (without the mean).
# Use the formulas of the table.


# %%
def slopes(a):
    ...


exercises.slopes.check(slopes)

# %% slideshow={"slide_type": "skip"}
# exercises.slopes.hint()
# exercises.slopes.solution()

# %% [markdown]
# ## 4. Digits, live (15 min)
#
# Now pictures: scikit-learn's digits, 8 x 8 pixels, scaled from -1 (black) to 1 (white).


# %% tags=["measure"]
def prepare(split):
    """Digits, float (N, 1, 8, 8) from -1 to 1, and their labels (N,)."""
    pixels = split.images.float().to(device) / 127.5 - 1
    return pixels, split.targets["label"].to(device)


splits = datasets.digits()
images, labels = prepare(splits.train)
test_images, test_labels = prepare(splits.test)

# %% [markdown]
# The two networks are those of Radford and others (2016), made small enough for 8 x 8 pixels. A **DCGAN** has convolutions only. $G$ grows the picture with transposed convolutions,
# $1 \to 2 \to 4 \to 8$ pixels a side. (Kernel 4 is divisible by stride 2, so no checkerboard is built in: notebook 03, section 7.)


# %% tags=["measure"]
def make_generator(inputs=Z, width=32, norm=nn.BatchNorm2d):
    return nn.Sequential(
        nn.Unflatten(1, (inputs, 1, 1)),
        nn.ConvTranspose2d(inputs, 2 * width, kernel_size=2, bias=False),
        norm(2 * width), nn.ReLU(),
        nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, bias=False),
        norm(width), nn.ReLU(),
        nn.ConvTranspose2d(width, 1, 4, stride=2, padding=1), nn.Tanh(),
    )  # fmt: skip


# %% [markdown]
# $D$ is the same network backwards, with **leaky ReLU**, which lets a fifth of a negative input through.


# %% tags=["measure"]
def leaky():
    return nn.LeakyReLU(0.2)


def make_discriminator(channels=1, width=32, norm=nn.BatchNorm2d, activation=leaky):
    return nn.Sequential(
        nn.Conv2d(channels, width, 4, stride=2, padding=1), activation(),
        nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False),
        norm(2 * width), activation(),
        nn.Conv2d(2 * width, 1, kernel_size=2), nn.Flatten(),
    )  # fmt: skip


# %% tags=["measure"]
def small_weights(network):
    """As in the paper: weights from a Gaussian of standard deviation 0.02."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(layer.weight, 0, 0.02)
    return network.to(device)


# %%
# NBVAL_CHECK_OUTPUT
x = torch.zeros(5, Z)
for layer in make_generator():
    x = layer(x)
    print(f"{type(layer).__name__:16}", tuple(x.shape))
print("the discriminator says", tuple(make_discriminator()(x).shape))


# %%
# extra code: what we note while a GAN learns; and a wall of pictures
class Watch:
    def __init__(self, gan):
        self.gan, self.z, self.steps = gan, torch.randn(1000, Z, device=device), []
        self.drawn = {"last": [], "averaged": []}
        self(0)

    def __call__(self, step):
        self.steps.append(step)
        for name, generator in (("last", self.gan.generator), ("averaged", self.gan.average)):
            self.drawn[name].append(sample(generator, self.z))

    def at(self, step, name="averaged"):
        return self.drawn[name][self.steps.index(step)]


def wall(rows, title, num=8):
    lines = [torch.cat([F.pad(picture[0], (0, 1, 0, 1), value=1) for picture in pictures[:num].cpu()], dim=1) for pictures in rows.values()]
    fig, ax = plt.subplots(figsize=(8.4, 0.78 * len(lines) + 0.5))
    ax.imshow(torch.cat(lines), cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
    ax.set(xticks=[], yticks=[9 * row + 3.5 for row in range(len(lines))], yticklabels=list(rows))
    fig.suptitle(title, fontweight="bold", x=0.01, ha="left")
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return fig


# %% [markdown]
# **Before you run it:** the same eight random vectors, drawn at step 0, 100, 200, and so on. When will you recognise the first digit? Will a vector that makes a 3 at step 500 still
# make a 3 at the end?
#
# <details><summary>Answer</summary>
#
# Strokes appear within the first few hundred steps, digits soon after. A vector need not keep its digit: nothing says which $\mathbf{z}$ should be which digit, and early on the digits change.
#
# </details>
#
# (`watch.at(step)` gives the pictures of that step: 1,000, drawn by the averaged weights, or with `"last"` by the last ones.)

# %%
MAIN_STEPS = 2000
set_seed(5)
networks = small_weights(make_generator()), small_weights(make_discriminator())
dcgan = GAN(*networks)
watch = Watch(dcgan)
d_losses, g_losses = play(
    dcgan, MAIN_STEPS, [images], watch=watch, every=50, progress="DCGAN"
)

# %%
snapshots = (0, 100, 200, 500, 1000, MAIN_STEPS)
rows = {f"step {step:,}": watch.at(step) for step in snapshots}

# %%
# extra code: the figure
show(wall(rows | {"real digits": images}, "From noise to digits, without a single label"),
     f"The same eight random vectors in each row, drawn by the generator at steps {', '.join(map(str, snapshots))}: grey, then blots, then strokes, then digits. "
     "The last row shows real digits.")  # fmt: skip

# %% [markdown]
# ### The averaged generator
#
# Whatever fools $D$ now, $D$ soon learns to recognise, so the two never settle. The pictures above are drawn with a **running mean** of $G$'s weights. It fluctuates less, and most large
# GANs use one (Yazıcı et al. 2019):
#
# $$\text{average} \leftarrow 0.99\;\text{average} + 0.01\;\text{generator}$$

# %%
def movement(name):
    """How far the pictures of the same z move from one look to the next, on average."""
    pairs = pairwise(watch.drawn[name][20:])
    return np.mean([(later - before).abs().mean().item() for before, later in pairs])


# %%
calm, restless = movement("averaged"), movement("last")
claim(
    "In the second half of the training, the pictures of the averaged generator change"
    " less than two thirds as much from look to look",
    calm < 2 / 3 * restless,
    f"a pixel changes by {calm:.3f} and by {restless:.3f} in 50 steps",
    same=f"{len(watch.z):,} random vectors, the same training",
)

# %% [markdown]
# **Exercise 4** (3 min): the average, by hand. Without `AveragedModel`: after each step, every parameter of `average` becomes $\text{decay} \cdot \text{average} + (1 - \text{decay}) \cdot
# \text{model}$, in place. Copy its buffers (batch normalisation's statistics) as they are. Return `average`.


# %%
def update_average(average, model, decay=0.99):
    ...


exercises.update_average.check(update_average)

# %% slideshow={"slide_type": "skip"}
# exercises.update_average.hint()
# exercises.update_average.solution()

# %% [markdown]
# ## 5. Are they good? (16 min)
#
# We need a judge. We train a classifier on the **real** digits with their labels. A little noise on its input during training keeps it from
# depending on single pixels.


# %% tags=["measure"]
class Noise(nn.Module):
    def forward(self, x):
        return x + 0.1 * torch.randn_like(x) if self.training else x


def train_judge(seed):
    torch.manual_seed(seed)
    hidden = nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU()
    judge = nn.Sequential(Noise(), nn.Flatten(), *hidden, nn.Linear(64, 10)).to(device)
    dataset = TensorDataset(images, labels)
    loader = DataLoader(dataset, batch_size=64, shuffle=True)
    optimizer = torch.optim.Adam(judge.parameters(), lr=1e-3)
    fit(judge, loader, num_epochs=30, optimizer=optimizer, bf16=False, progress=None)
    return judge.eval()


# %% [markdown]
# We ask it two things.
#
# - **Recognised** (quality): the share of the pictures for which it is more than 90 % sure of some digit.
# - **Classes** (coverage): if $s_c$ is the share of class $c$ in its answers, then $\exp\!\left(-\sum_c s_c \log s_c\right)$ is the **effective number of classes**: 10 where all ten are
#   equally frequent, 1 where there is only one.
#
# The **inception score** (Salimans et al. 2016) combines both in one number. With $p(c \mid \mathbf{x})$ the judge's probabilities for a picture and $\bar p(c)$ their mean over all pictures,
#
# $$\text{score} = \exp\!\left(\text{entropy of } \bar p - \text{mean entropy of } p(\cdot \mid \mathbf{x})\right)$$
#
# (In the paper the judge is the network Inception v3. Ours is smaller, so its scores can only be compared with each other.)


# %% tags=["measure"]
def entropy(probabilities):
    return torch.special.entr(probabilities).sum(dim=-1)


@torch.no_grad()
def verdict(pictures):
    probabilities = judge(pictures).softmax(dim=1)
    confidence, answers = probabilities.max(dim=1)
    share = answers.bincount(minlength=10) / len(answers)
    unsure = entropy(probabilities).mean()
    return {
        "recognised": (confidence > 0.9).float().mean().item(),
        "classes": entropy(share).exp().item(),
        "score": (entropy(probabilities.mean(dim=0)) - unsure).exp().item(),
    }


# %%
judge = train_judge(10 * course_seed)
read = (judge(test_images).argmax(dim=1) == test_labels).float().mean().item()
print(f"The judge reads {read:.1%} of {len(test_labels)} digits that are new to it.")

# %% [markdown]
# ### The simplest thing that could work
#
# For 64 pixels we *can* write down a density. Here are three. Each is easy to fit to the 1,200 digits, and easy to draw from:
#
# - **each pixel alone**: 64 Gaussians, as if pixels had nothing to do with each other;
# - **one Gaussian**: a mean of 64 numbers, and a **covariance** of $64 \times 64$, which says which pixels go together;
# - **30 Gaussians**: a **mixture**, $p(\mathbf{x}) = \sum_k \pi_k\, \mathcal{N}(\mathbf{x};\, \boldsymbol\mu_k, \boldsymbol\Sigma_k)$. To draw, choose one of the 30, then draw from it.


# %%
def pictures_of(vectors):
    vectors = torch.as_tensor(vectors, dtype=torch.float32, device=device)
    return vectors.clamp(-1, 1).reshape(-1, 1, 8, 8)


def draw_mixture(num, count=30):
    with threadpool_limits(1):
        mixture = GaussianMixture(count, reg_covar=0.01, random_state=10 * course_seed)
        mixture.fit(images.flatten(1).cpu().double().numpy())
    drawn = pictures_of(mixture.sample(num)[0])  # one Gaussian after the other
    return drawn[torch.randperm(num, device=device)]


# %%
set_seed(1)
pixels = images.flatten(1)
mean, std = pixels.mean(dim=0), pixels.std(dim=0)
covariance = torch.cov(pixels.T) + 1e-4 * torch.eye(64, device=device)
one = torch.distributions.MultivariateNormal(mean, covariance)
drawn = {
    "each pixel alone": pictures_of(mean + std * torch.randn(1000, 64, device=device)),
    "one Gaussian": pictures_of(one.sample((1000,))),
    "30 Gaussians": draw_mixture(1000),
    "DCGAN": watch.at(MAIN_STEPS),
}

# %%
# extra code: the figure
show(wall({"real digits": images} | drawn, "A model must also learn which pixels go together"),
     "Rows of 8 x 8 pictures. Pixels drawn each alone give noise with a bright middle; one Gaussian gives smeared strokes; the mixture of 30 and the DCGAN give digits.")  # fmt: skip

# %% [markdown]
# ### A forger with a copying machine
#
# This judge can be cheated. The training digits themselves, with a little noise, get full marks for quality and coverage. So we ask a third question, which needs no judge.
#
# - **New**: how far is each picture from the most similar training digit? We look at the **5 % of the pictures that are nearest**, and divide their distance by that of real digits that are not in the
#   training set. 1 means as new as real digits are.
#
# **Before you run it:** why the nearest 5 %, and not the median? Think of a forger who copies every third picture.
#
# <details><summary>Answer</summary>
#
# The median looks at the picture in the middle. As long as fewer than half are copies, that one is not a copy.
#
# </details>


# %% tags=["measure"]
def distance(pictures):
    """(N,) to the most similar training digit, and (N,) which one that is."""
    return torch.cdist(pictures.flatten(1), images.flatten(1)).min(dim=1)


def newness(pictures, quantile=0.05):
    ours, real = distance(pictures).values, distance(test_images).values
    return (ours.quantile(quantile) / real.quantile(quantile)).item()


# %%
set_seed(2)
copies = images[torch.randperm(len(images), device=device)[:1000]]
copies = copies + 0.05 * torch.randn_like(copies)
third = torch.cat([copies[:333], drawn["30 Gaussians"][:667]])
by_median, by_nearest = newness(third, quantile=0.5), newness(third)
real, third_said = verdict(test_images)["recognised"], verdict(third)["recognised"]
claim(
    "When every third picture is a copy, the judge and the median hardly notice;"
    " the nearest 5 % do",
    third_said > real - 0.1 and by_median > 0.8 and by_nearest < 0.4,
    f"recognised {third_said:.0%} (real {real:.0%});"
    f" new by the median {by_median:.2f}, by the nearest 5 % {by_nearest:.2f}",
)

# %% [markdown]
# Has our generator copied? Below each of its drawings is the most similar training digit.

# %%
made = drawn["DCGAN"]
nearest = images[distance(made[:8]).indices]

# %%
# extra code: the figure
show(wall({"drawn": made, "most similar": nearest}, "Related to training digits, not copied from them"),
     "Eight drawings of the generator, and below each the most similar training digit.")  # fmt: skip

# %% [markdown]
# ### A detective of its own
#
# The fourth question needs no knowledge of digits. A **fresh** discriminator, a small convolutional network, learns to tell a method's pictures from real digits. Then it is tested on
# pictures and digits that it has not seen. This is a **two-sample test** (Lopez-Paz & Oquab 2017).
#
# - **Fooled**: the share of its answers that are wrong. Half is the best that a forger can do without copying.


# %% tags=["measure"]
def detective():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * 16, 1),
    ).to(device)  # fmt: skip


def fooled(pictures, seed=0, num_steps=300):
    """Share of wrong answers of a detective that learned from half of the pictures."""
    torch.manual_seed(seed)
    learn, held = pictures[torch.randperm(len(pictures), device=device)].chunk(2)
    network = detective()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(num_steps):
        real = images[torch.randint(len(images), (64,), device=device)]
        fake = learn[torch.randint(len(learn), (64,), device=device)]
        loss = discriminator_loss(network(real), network(fake))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        wrong = network(test_images) < 0, network(held) > 0
    return sum(answers.float().mean().item() for answers in wrong) / 2


# %% [markdown]
# Here are all methods so far, in one list. The mixture is in it twice, because noise in a dark corner would give it away too easily. **Cleaned** means that nearly black pixels are
# made black, and greys are rounded to the 17 levels that the digits have.
#
# | | asks | best |
# |---|---|---|
# | recognised | is it clearly a digit? | as often as real ones |
# | classes | are all ten there? | 10 |
# | score | both at once | 10 |
# | new | is it a copy? | 1 |
# | fooled | can a fresh network tell it from real digits? | 50 % |


# %%
def cleaned(pictures):
    rounded = ((pictures + 1) * 8).round() / 8 - 1
    return torch.where(pictures < -0.8, -1.0, rounded)


# %% [markdown]
# **Before you run it:** which will be recognised most often, and which will fool the detective most often? Is it the same one?
#
# <details><summary>Answer</summary>
#
# No. The judge recognises the mixture's pictures nearly as often as real digits. The detective is fooled most by the DCGAN (and by copies): it recognises the mixture by the grain of its noise.
#
# </details>

# %%
everybody = drawn | {
    "30, cleaned": cleaned(drawn["30 Gaussians"]),
    "DCGAN, last weights": watch.at(MAIN_STEPS, "last"),
    "copies": copies,
}
table = {}
for name, pictures in everybody.items():
    more = {"new": newness(pictures), "fooled": fooled(pictures)}
    table[name] = said = verdict(pictures) | more
    print(f"{name:20} recognised {said['recognised']:4.0%}   "
          f"classes {said['classes']:4.1f}   score {said['score']:.1f}   "
          f"new {said['new']:.2f}   fooled {said['fooled']:4.0%}")  # fmt: skip

# %%
dcgan_said, mixtures = table["DCGAN"], ("30 Gaussians", "30, cleaned")
claim(
    "Judge and detective disagree: the mixture's pictures are recognised more often,"
    " the DCGAN's fool a fresh detective more often",
    min(table[name]["recognised"] for name in mixtures) > dcgan_said["recognised"] + 0.1
    and dcgan_said["fooled"] > max(table[name]["fooled"] for name in mixtures) + 0.05,
    "; ".join(
        f"{name}: {table[name]['recognised']:.0%} recognised,"
        f" {table[name]['fooled']:.0%} fooled"
        for name in ("DCGAN", *mixtures)
    ),
    same="1,000 pictures each, the same detective",
)

# %%
last_said = table["DCGAN, last weights"]
claim(
    "The averaged generator fools the detective at least ten points more often than"
    " the last one",
    dcgan_said["fooled"] - last_said["fooled"] > 0.1,
    f"{dcgan_said['fooled']:.0%} against {last_said['fooled']:.0%}",
    same=f"one training of {MAIN_STEPS:,} steps, the same random vectors",
)

# %% [markdown]
# Which is better, the mixture or the DCGAN? It depends on what the pictures are for. A judge that reads digits forgives noise; a detective does not. **Say which question was asked, and compare with the
# simplest thing that could work.** For 64 pixels that is a mixture of Gaussians, fitted in a fraction of a second. For a photo of $224 \times 224 \times 3$ each of its covariances would
# have eleven billion numbers. (Copies fool the detective in more than half of its answers, because it has learned that these very digits are real.)
#
# And is the average the only way? No. A learning rate that falls to zero over the last 500 steps made the last weights nearly as good: 39 and 37 % on two seeds, against 38 and 39 %.

# %% [markdown] slideshow={"slide_type": "notes"}
# Other measures to name: the Fréchet distance (Heusel et al. 2017) compares mean and covariance of features of real and drawn pictures; precision and recall for samples (Kynkäänniemi et
# al. 2019) separate quality from coverage, as we do. A value above 1 in the column "new" is no merit: noise scores highest there.

# %% [markdown]
# **Exercise 5** (3 min): how many classes? From the judge's `logits` (N, C) for N pictures, the effective number of classes: turn them into answers, count, and take the exponential of
# the entropy of the shares. A class that never occurs counts as $0 \log 0 = 0$. Return one number.


# %%
def effective_classes(logits):
    ...


exercises.effective_classes.check(effective_classes)

# %% slideshow={"slide_type": "skip"}
# exercises.effective_classes.hint()
# exercises.effective_classes.solution()

# %% [markdown]
# ## 6. What the losses tell, and what not (17 min)
#
# With a classifier we watch the loss, and when it falls, that is good. Here are the two losses of section 4, and beside them what the judge said at the same steps.
#
# **Before you run it:** the pictures became better all the time. What do you expect of the generator's loss?
#
# <details><summary>Answer</summary>
#
# It falls at the very start, and then it tends to rise. It is measured by the discriminator, which learns as well: the yardstick itself changes.
#
# </details>


# %%
def smooth(losses, width=50):
    return losses.unfold(0, width, width).mean(dim=1)


said = [verdict(pictures) for pictures in watch.drawn["averaged"]]
recognised = [each["recognised"] for each in said]
classes = [each["classes"] for each in said]

# %%
# extra code: both losses, and the judge's two answers
fig, axes = plt.subplots(1, 2, figsize=(13, 4.5))
middle = 25 + 50 * np.arange(len(smooth(d_losses)))
curves(axes[0], {"D": smooth(d_losses), "G": smooth(g_losses)}, "step", "loss (means of 50 steps)", "G's loss rises ...", x=middle)
axes[1].set_ylim(0, 1.05)
lines = {"recognised": recognised, "classes / 10": np.array(classes) / 10}
curves(axes[1], lines, "step", "share", "... while its pictures become better", x=watch.steps)
axes[1].yaxis.set_major_formatter(PercentFormatter(1))
show(fig, f"Left: both losses against the step; neither falls to zero, and the generator's ends at {smooth(g_losses)[-1]:.1f}. Right: the share of pictures that the judge "
     f"recognises climbs to {recognised[-1]:.0%}, and the classes to nearly all ten.")  # fmt: skip

# %%
quarter = watch.steps.index(MAIN_STEPS // 4)
g_early = g_losses[MAIN_STEPS // 5 : 3 * MAIN_STEPS // 10].mean().item()
g_late = g_losses[-MAIN_STEPS // 10 :].mean().item()
claim(
    "After the first quarter of the training, the generator's loss grows although its"
    " pictures become better",
    g_late - g_early > 0.1 and recognised[-1] - recognised[quarter] > 0.05,
    f"loss {g_early:.2f}, then {g_late:.2f};"
    f" recognised {recognised[quarter]:.0%}, then {recognised[-1]:.0%}",
    same=f"one training of {MAIN_STEPS:,} steps",
)

# %% [markdown]
# ### What the best possible discriminator knows
#
# Let reals have the density $p$ and fakes the density $q$. Then, of all pictures at $\mathbf{x}$, the share $\frac{p(\mathbf{x})}{p(\mathbf{x}) + q(\mathbf{x})}$ is real. No $D$ can do better than to say
# exactly that (Goodfellow et al. 2014, proposition 1). So a trained $D$ **contains the ratio of two densities**, though neither was ever written down.
#
# **Before you run it:** now each picture is one number. Reals come from $\mathcal{N}(0, 1)$, fakes from $\mathcal{N}(1.5, 0.7^2)$. A small network learns to tell them apart. What does it
# say at 0.75, half-way between the two means? And at -3?
#
# <details><summary>Answer</summary>
#
# At -3 there are only reals: near 1. Half-way both densities are about equally high: near ½.
#
# </details>

# %%
p, q = torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(1.5, 0.7)
set_seed(3)
small = dense(1, 1, width=32)
optimizer = torch.optim.Adam(small.parameters(), lr=5e-3)
for _ in range(600):
    loss = discriminator_loss(small(p.sample((512, 1))), small(q.sample((512, 1))))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# %%
# extra code: the learned probability beside the best possible one
x = torch.linspace(-3, 3, 121)
density_p, density_q = p.log_prob(x).exp(), q.log_prob(x).exp()
best = density_p / (density_p + density_q)
learned = torch.sigmoid(small(x[:, None])).detach()[:, 0]
fig, ax = plt.subplots()
curves(ax, {"best possible": best, "learned": learned}, "x", "probability of being real", "A trained discriminator knows the ratio of two densities", x=x)
ax.fill_between(x, density_p, alpha=0.25, color="C2")
ax.fill_between(x, density_q, alpha=0.25, color="dimgray")
ax.text(-1.2, 0.27, "p: real", color="C2", ha="right")
ax.text(2.3, 0.4, "q: fake", color="dimgray")
show(fig, "Probability of being real against x. The learned curve follows the best possible one, p divided by p plus q, from 1 at the left, where only reals "
     "occur, over one half in the middle to nearly 0 at the right, where fakes are far more frequent.")  # fmt: skip

# %%
common = (density_p + density_q) > 0.05  # where there are examples to learn from
gap = (learned - best).abs()[common].mean().item()
claim(
    "Where there are examples, the discriminator's probability is p / (p + q),"
    " to a few hundredths",
    gap < 0.05,
    f"mean difference {gap:.3f} over {int(common.sum())} places",
)

# %% [markdown]
# Where $p = q$ it can only say ½. That is the game's end point in theory: $\mathrm{d\_loss} = 2 \log 2 \approx 1.39$ and $\mathrm{g\_loss} = \log 2 \approx 0.69$.
#
# ### Collapse on digits
#
# We provoke collapse as in the plane: **ten steps of $G$ for each of $D$**, at equal rates.
#
# **Before you run it:** which game will have losses closer to those of the theory, the healthy one or the collapsed one?
#
# <details><summary>Answer</summary>
#
# The collapsed one. Its $D$ says about ½ to everything: it is too far behind to tell real from fake. In the losses, this looks the same as if fakes and reals were alike.
#
# </details>

# %%
COLLAPSE_STEPS = 60
set_seed(8)
networks = small_weights(make_generator()), small_weights(make_discriminator())
greedy = GAN(*networks)
greedy_watch = Watch(greedy)
greedy_losses = play(greedy, COLLAPSE_STEPS, [images], generator_steps=10,
                     watch=greedy_watch, every=6, progress="collapse")  # fmt: skip

# %%
looks = greedy_watch.steps[2::2]
rows = {f"step {step}": greedy_watch.at(step, "last") for step in looks}

# %%
# extra code: the figure
each_row = [verdict(pictures)["classes"] for pictures in rows.values()]
show(wall(rows, "All random numbers give one picture or a few, and later others"),
     f"Eight different random vectors in each row, a row after every 12 steps of the discriminator. Effective number of classes, row by row: {', '.join(f'{num:.1f}' for num in each_row)}.")  # fmt: skip


# %%
# extra code: which digits are drawn, and when
def shares_figure():
    fig, axes = plt.subplots(1, 2, figsize=(13, 4.3), sharey=True)
    games = (watch.drawn["averaged"], "healthy: all ten digits"), (greedy_watch.drawn["last"], "collapsed: a few at a time")
    for ax, (looks, title) in zip(axes, games, strict=True):
        shares = torch.stack([judge(pictures).argmax(dim=1).bincount(minlength=10).cpu() / len(pictures) for pictures in looks[1:]]).T
        picture = ax.imshow(shares, aspect="auto", cmap="viridis", norm=PowerNorm(0.5, 0, 1), origin="lower", extent=(0.5, len(looks) - 0.5, -0.5, 9.5))
        ax.set(title=title, xlabel="look at the generator, 1 = the first", yticks=range(10), xticks=range(1, len(looks), 1 if len(looks) < 12 else 5))
        ax.grid(False)
    axes[0].set_ylabel("digit, says the judge")
    fig.colorbar(picture, ax=axes, label="share of the pictures")
    return fig


show(shares_figure(), "Share of each digit among the drawings, over the training. Left, the DCGAN of section 4: about a tenth each. Right, with ten generator steps for one of the discriminator: "
     "at each time a few digits have nearly everything, and then others.")  # fmt: skip

# %%
seen = [verdict(pictures) for pictures in greedy_watch.drawn["last"][3:]]
collapsed = np.median([look["classes"] for look in seen])
best_look = max(look["recognised"] for look in seen)
same_steps = verdict(watch.at(COLLAPSE_STEPS * 10, "last"))["classes"]
claim(
    "With ten generator steps for one of the discriminator, fewer than 4 of the ten"
    " classes remain",
    bool(collapsed < 4) and same_steps > 7,
    f"median {collapsed:.1f} classes, {same_steps:.1f} in turns;"
    f" the best look has {best_look:.0%} recognised",
    same=f"{10 * COLLAPSE_STEPS} steps of the generator",
)

# %%
games = {"healthy": (d_losses, g_losses), "collapsed": greedy_losses}
theory = 2 * np.log(2), np.log(2)
ends = {"in theory": theory}
for name, game in games.items():
    ends[name] = [loss[-30:].mean().item() for loss in game]
for name, (d, g) in ends.items():
    print(f"{name:10} D {d:.2f}   G {g:.2f}")

# %%
off = {name: np.abs(np.subtract(end, theory)).sum() for name, end in ends.items()}
claim(
    "The losses of the collapsed game are close to the theory's end point,"
    " where all is learned; those of the healthy game are not",
    bool(off["collapsed"] < 0.1 and off["healthy"] > 0.5),
    f"distance from it: {off['collapsed']:.2f} collapsed, {off['healthy']:.2f} healthy",
)

# %% [markdown]
# How fast is too fast? And what if we also remove batch normalisation, which keeps the pictures of a batch apart? Measured earlier, on five seeds, 600 steps of the generator each:

# %%
collapse = measured("gan_collapse")


# %%
# extra code: classes against generator steps, with batch normalisation and without
def collapse_figure():
    steps = sorted({row["generator_steps"] for row in collapse})
    seeds = sorted({row["seed"] for row in collapse})
    fig, ax = plt.subplots()
    ax.set(ylim=(0.5, 10.5), xscale="log", xticks=steps, xticklabels=steps)
    found = {(row["batch_norm"], row["generator_steps"], row["seed"]): row["classes"] for row in collapse}
    lines = {name: [[found[norm, k, seed] for k in steps] for seed in seeds] for name, norm in (("batch norm", "yes"), ("without", "no"))}
    curves(ax, lines, "steps of the generator for one of the discriminator", "effective number of classes", "The faster the generator, the fewer digits it draws", x=steps)
    ax.minorticks_off()
    return fig


show(collapse_figure(), "Effective number of classes against the generator's steps for one of the discriminator, with batch normalisation and without; bands from the lowest to the highest of five seeds.")

# %% [markdown]
# **Exercise 6** (2 min): the ratio of two densities. For a picture, $D$ returns the logit $a$, and $\sigma(a) = p / (p + q)$. What is $p / q$? Return it for all `logits`, whatever their
# shape: how many times as frequent such a picture is among the reals.


# %%
def density_ratio(logits):
    ...


exercises.density_ratio.check(density_ratio)

# %% slideshow={"slide_type": "skip"}
# exercises.density_ratio.hint()
# exercises.density_ratio.solution()

# %% [markdown]
# ## 7. The tricks, removed one at a time (12 min)
#
# GANs came with a bag of tricks, and each has its reason. Does each matter here? We remove them one at a time; everything else stays. Measured earlier: 1,000 steps each, five seeds.
#
# | removed | instead | why it is said to matter |
# |---|---|---|
# | batch normalisation | none (and PyTorch's weights) | keeps signals and gradients in range; pictures of a batch differ |
# | small weights | PyTorch's own | the paper's starting point |
# | `beta1 = 0.5` | Adam's usual 0.9 | less momentum towards where the opponent was |
# | non-saturating loss | minimax | gradient at a poor start (section 3) |
# | leaky ReLU in $D$ | ReLU | a gradient for $G$ through every unit |
# | separate batches, real and fake | $D$ learns from one batch of both | each batch is normalised by its own kind alone |
# | separate batches, for G too | the same, and $G$'s fakes too meet $D$ in a batch with reals | |
# | averaged weights | the last ones | they fluctuate less (section 4) |


# %% tags=["measure"]
def no_norm(channels):
    return nn.Identity()


def without_batch_norm():
    """PyTorch's own weights: with the paper's small ones every signal would die out."""
    generator = make_generator(norm=no_norm).to(device)
    return GAN(generator, make_discriminator(norm=no_norm).to(device))


class OneBatch(GAN):
    def d_loss(self, real):
        fake = self.fake(len(real)).detach()
        logits = self.discriminator(torch.cat([real, fake]))
        return discriminator_loss(*logits.chunk(2))


class OneBatchForBoth(OneBatch):
    def g_loss(self, num):
        real = images[torch.randint(len(images), (num,), device=device)]
        logits = self.discriminator(torch.cat([real, self.fake(num)]))
        return self.loss(logits[num:])


# %% tags=["measure"]
def gan_without(trick):
    """A DCGAN with all tricks but this one."""
    own = trick == "small weights"
    init = (lambda network: network.to(device)) if own else small_weights
    activation = nn.ReLU if trick == "leaky ReLU" else leaky
    networks = init(make_generator()), init(make_discriminator(activation=activation))
    if trick == "batch normalisation":
        return without_batch_norm()
    if "separate batches" in trick:
        return (OneBatch if trick == "separate batches" else OneBatchForBoth)(*networks)
    changes = {"beta1 = 0.5": {"beta1": 0.9}, "non-saturating loss": {"loss": minimax}}
    return GAN(*networks, **changes.get(trick, {}))


# %% [markdown]
# One of them live: batch normalisation is removed, for 600 steps.

# %%
set_seed(7)
bare = without_batch_norm()
FEW_STEPS = 600
play(bare, FEW_STEPS, [images], progress="no batch norm")
one_trick = {"with": watch.at(FEW_STEPS), "without": sample(bare.average, watch.z)}

# %%
# extra code: the figure
show(wall(one_trick, "After 600 steps, with batch normalisation and without"),
     "Eight drawings after 600 steps of the GAN with batch normalisation, and of the one without: those without are crude and resemble one another.")  # fmt: skip

# %% [markdown]
# **Before you run it:** rank the tricks. Which one will be missed most?
#
# <details><summary>Answer</summary>
#
# Separate batches, by far. Then batch normalisation and the low momentum. The others hardly matter, and two of them even cost a little.
#
# </details>

# %%
tricks = measured("gan_tricks")


# %%
# extra code: one dot per seed, worst at the bottom
def tricks_figure():
    rows = [row for row in tricks if row["steps"] == 1000]
    ways = sorted({row["removed"] for row in rows}, key=lambda way: np.median([row["score"] for row in rows if row["removed"] == way]))
    fig, axes = plt.subplots(1, 2, figsize=(13, 5.5), sharey=True)
    for ax, what, label in zip(axes, ("recognised", "classes"), ("recognised by the judge", "effective number of classes"), strict=True):
        for place, way in enumerate(ways):
            values = [row[what] for row in rows if row["removed"] == way]
            ax.plot(values, [place] * len(values), "o", markersize=9, alpha=0.7, color="C1" if way == "nothing" else "C0")
        ax.set_xlabel(label + ", one dot per seed")
    axes[0].set(yticks=range(len(ways)), yticklabels=[f"without {way}" if way != "nothing" else "with all tricks" for way in ways], xlim=(-0.03, 1.03))
    axes[0].xaxis.set_major_formatter(PercentFormatter(1))
    axes[1].set_xlim(-0.3, 10.3)
    fig.suptitle("Three tricks matter here; the others can be removed without harm", fontweight="bold", fontsize=17, x=0.01, ha="left")
    return fig, ways


fig, ways = tricks_figure()
show(fig, f"Share of recognised pictures and effective number of classes after 1,000 steps with one trick removed, five seeds each. The worst is without {ways[0]}, "
     f"the best {'with all tricks' if ways[-1] == 'nothing' else 'without ' + ways[-1]}.")  # fmt: skip


# %%
def scores(removed):
    """Of the seeds, after 1,000 steps."""
    rows = [row for row in tricks if row["steps"] == 1000]
    return np.array([row["score"] for row in rows if row["removed"] == removed])


tried = sorted({row["removed"] for row in tricks} - {"nothing"})
lost = {trick: (scores("nothing") - scores(trick)).mean() for trick in tried}
for trick in sorted(lost, key=lost.get, reverse=True):
    print(f"{trick:28} {-lost[trick]:+.2f}")

# %%
live = {name: verdict(pictures)["score"] for name, pictures in one_trick.items()}
missed = "separate batches", "batch normalisation", "beta1 = 0.5"
claim(
    "At one learning rate, separate batches, batch normalisation and the low momentum"
    " are each worth more than a point of the score, and no other trick half a point",
    live["with"] - live["without"] > 0.5
    and min(lost[trick] for trick in missed) > 1
    and max(lost[trick] for trick in set(lost) - set(missed)) < 0.5,
    f"live, after {FEW_STEPS} steps: {live['with']:.1f} with batch normalisation,"
    f" {live['without']:.1f} without; the others as printed above",
    same="1,000 steps in the table, five seeds, rate 1e-3",
)

# %% [markdown]
# By the score, averaged weights are worth less than a tenth of a point here. (The detective of section 5 sees a much larger difference.) Two tricks even cost a little: without leaky ReLU,
# and with PyTorch's own weights, the score is about a quarter of a point higher, on each of the five seeds. All rows have the rate 1e-3, which suits the complete recipe. Part of what low
# momentum does, a small rate does too: with `beta1 = 0.9` and a quarter of the rate, two seeds reached 6.2, about a point more than at 1e-3. Without batch normalisation, smaller rates made it worse.
#
# **Why is one batch of both so bad?** The batch itself is not to blame. $D$ learns from batches in which reals and fakes are normalised together. But when $G$ learns, $D$ sees fakes alone,
# normalised by other numbers, and its answer means nothing. If $D$ sees $G$'s fakes among reals in this step as well, nearly all is well again. The reason goes beyond GANs: **use a network with
# batch normalisation only on the kind of batches that it has learned from.**
#
# These tricks were found on larger pictures and deeper networks. Measure which of them matter in your problem.

# %% [markdown]
# ## 8. A walk in latent space (10 min)
#
# Each $\mathbf{z}$ gives a picture, and the space of all $\mathbf{z}$ is called the **latent space**. What lies **between** two of them? If $G$ had learned 1,200 pictures by heart, there would be
# nothing sensible in between.
#
# Two roads lead from $\mathbf{z}_0$ to $\mathbf{z}_1$: the straight one (**lerp**), $(1-t)\,\mathbf{z}_0 + t\,\mathbf{z}_1$, and the arc (**slerp**, White 2016):
#
# $$\text{slerp}(\mathbf{z}_0, \mathbf{z}_1, t) = \frac{\sin((1-t)\,\omega)}{\sin\omega}\,\mathbf{z}_0 + \frac{\sin(t\,\omega)}{\sin\omega}\,\mathbf{z}_1, \qquad \omega = \text{angle between them}$$


# %%
def lerp(z0, z1, t):
    return (1 - t) * z0 + t * z1


def slerp(z0, z1, t):
    omega = torch.acos(F.cosine_similarity(z0, z1, dim=-1)).unsqueeze(-1)
    return (((1 - t) * omega).sin() * z0 + (t * omega).sin() * z1) / omega.sin()


# %% [markdown]
# Why an arc? In 32 dimensions nearly all Gaussian vectors have about the same length, $\sqrt{32} \approx 5.7$: they lie on a shell. The straight road cuts through the inside: the midpoint
# of two independent vectors has only $1/\sqrt{2} \approx 0.71$ of that length.


# %%
# extra code: the ends are drawings that the judge takes for different digits
def ends_of_a_walk():
    z = torch.randn(2000, Z, device=device)
    confidence, digit = judge(sample(dcgan.average, z)).softmax(dim=1).max(dim=1)
    start = confidence.argmax()
    others = torch.where(digit != digit[start], confidence, 0)
    return z[start], z[others.argmax()]


def walk(road, ts):
    if road == "pixels":  # no latent space at all: one picture fades into the other
        first, last = sample(dcgan.average, torch.stack([start, end]))
        return torch.stack([lerp(first, last, t) for t in ts])
    return sample(dcgan.average, torch.stack([{"slerp": slerp, "lerp": lerp}[road](start, end, t) for t in ts]))


def draw_walk(road, t):
    ts = [step / 8 for step in range(9)]
    pictures, here = walk(road, ts), ts.index(t)
    confidence, digit = judge(pictures[here : here + 1]).softmax(dim=1).max(dim=1)
    fig, axes = plt.subplots(1, 9, figsize=(9.5, 2.3))
    for ax, picture, when in zip(axes, pictures, ts, strict=True):
        ax.imshow(picture[0].cpu(), cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
        ax.set_title(f"{when:g}", loc="center", fontsize=13, color="C1" if when == t else "black")
        ax.axis("off")
    fig.suptitle(f"{road}, t = {t:g}: the judge says {digit.item()}, {confidence.item():.0%} sure", fontweight="bold", x=0.01, ha="left")
    return fig, f"Nine pictures on the way ({road}) from one drawn digit to another; at t = {t:g} the judge says {digit.item()} and is {confidence.item():.0%} sure."


dcgan.average.eval()
set_seed(10)
start, end = ends_of_a_walk()

# %%
ways = [0.5, *(k / 8 for k in range(9) if k != 4)]
explore(draw_walk, road=["slerp", "lerp", "pixels"], t=ways)

# %% [markdown]
# **Before you run it:** we take a thousand pairs, and look at the picture half-way. On which road does the judge recognise it most often: on the arc, on the straight road, or where two
# pictures simply fade
# into each other?
#
# <details><summary>Answer</summary>
#
# Fading is worst: two digits on top of each other are not a digit. Both roads through the latent space do much better. Between lerp and slerp the difference is small here.
#
# </details>

# %%
set_seed(9)
z0, z1 = torch.randn(2, 1000, Z, device=device)
first, last = sample(dcgan.average, z0), sample(dcgan.average, z1)
halfway = {
    "slerp": sample(dcgan.average, slerp(z0, z1, 0.5)),
    "lerp": sample(dcgan.average, lerp(z0, z1, 0.5)),
    "pixels": (first + last) / 2,
}
clear = {road: verdict(pictures)["recognised"] for road, pictures in halfway.items()}
claim(
    "Half-way through the latent space there is a digit far more often than half-way"
    " between two pictures",
    min(clear["slerp"], clear["lerp"]) - clear["pixels"] > 0.1,
    ", ".join(f"{road} {share:.0%}" for road, share in clear.items())
    + f"; at the ends {verdict(first)['recognised']:.0%}",
    same="1,000 pairs of random vectors",
)

# %% [markdown]
# ## 9. Digits to order (21 min)
#
# Now we use the labels: a **conditional GAN** (Mirza & Osindero 2014). Both networks are told the digit. $G$ should draw it. $D$ asks: is this a real **picture of a 3**? If a 3 was asked
# for, even a perfect 7 is a fake.
#
# The label becomes ten numbers, of which one is 1 and the others are 0 (**one-hot**). $G$ gets them after its random numbers. $D$ gets them as ten more channels, each all 0 or all 1. The same
# function does both:


# %% tags=["measure"]
def with_label(x, labels):
    """x (N, C, ...) with ten more channels: ones in the label's, else zeros."""
    one_hot = F.one_hot(labels, 10).float().reshape(len(x), 10, *[1] * (x.ndim - 2))
    return torch.cat([x, one_hot.expand(-1, -1, *x.shape[2:])], dim=1)


# %%
# NBVAL_CHECK_OUTPUT
print(tuple(with_label(torch.zeros(5, Z), torch.arange(5)).shape))
print(tuple(with_label(torch.zeros(5, 1, 8, 8), torch.arange(5)).shape))

# %% [markdown]
# The rest is the GAN of section 4, with the label passed on.


# %% tags=["measure"]
class ConditionalGAN(GAN):
    def __init__(self):
        generator = small_weights(make_generator(inputs=Z + 10))
        super().__init__(generator, small_weights(make_discriminator(channels=1 + 10)))

    def fake(self, labels):
        z = torch.randn(len(labels), Z, device=device)
        return self.generator(with_label(z, labels))

    def d_loss(self, real, labels):
        fake = with_label(self.fake(labels).detach(), labels)
        real = with_label(real, labels)
        return discriminator_loss(self.discriminator(real), self.discriminator(fake))

    def g_loss(self, num):
        labels = torch.randint(10, (num,), device=device)
        return self.loss(self.discriminator(with_label(self.fake(labels), labels)))


def sample_digits(gan, labels):
    z = torch.randn(len(labels), Z, device=device)
    return sample(gan.average, with_label(z, labels))


# %% [markdown]
# **Exercise 7** (3 min): real pictures, wrong labels. Here only fakes teach $D$ that a label can be wrong. Reed et al. (2016) also show it real pictures with a wrong label, as
# another kind of fake. Make these labels: for each of `labels` (N,) another class, each of the others equally likely.


# %%
def wrong_labels(labels, num_classes=10):
    ...


exercises.wrong_labels.check(wrong_labels)

# %% slideshow={"slide_type": "skip"}
# exercises.wrong_labels.hint()
# exercises.wrong_labels.solution()

# %% [markdown]
# **Before you run it:** we will ask for 100 of each digit, and the judge, which does not know what was asked, says what it sees. How often will they agree?
#
# <details><summary>Answer</summary>
#
# In nearly all cases, and after far fewer steps than the GAN of section 4 had: each class is simpler than all ten together.
#
# </details>

# %%
SHORT_STEPS = 600
set_seed(11)
conditional = ConditionalGAN()
play(conditional, SHORT_STEPS, [images, labels], progress="conditional")
asked = torch.arange(10, device=device).repeat_interleave(100)
answered = sample_digits(conditional, asked)

# %%
# extra code: the figure
rows = {f"asked: {digit}": answered[asked == digit] for digit in range(10)}
show(wall(rows, "One digit per row, as asked for"),
     "Ten rows of eight drawings; in each row one digit was asked for, from 0 to 9, and most drawings in it show that digit, in different handwritings.")  # fmt: skip

# %%
agree = (judge(answered).argmax(dim=1) == asked).float().mean().item()
claim(
    "A conditional GAN draws the digit that it is asked for",
    agree > 0.9,
    f"the judge agrees on {agree:.0%} of {len(asked):,}; by chance 10 %",
)

# %% [markdown]
# ### Do such digits help a classifier?
#
# Real labelled pictures are few: can a GAN draw more? For a fair test, it gets **the same few** digits as the classifier, and no others. All classifiers have the same layers and the same number of steps. Half of each batch is real, and the other half is one of these:
#
# - **real only**: more of the same few digits;
# - **with samples**: drawn by a conditional GAN that was trained on the few;
# - **with moved copies**: the same few, turned and shifted a little (augmentation, notebook 06).


# %% tags=["measure"]
def moved(pictures):
    """Each turned by up to 15 degrees and shifted by up to 0.6 pixels, at random."""
    angle = (torch.rand(len(pictures), device=device) - 0.5) * 2 * np.pi / 12
    turn = [torch.cos(angle), -torch.sin(angle), torch.sin(angle), torch.cos(angle)]
    shift = (torch.rand(len(pictures), 2, 1, device=device) - 0.5) * 0.3
    theta = torch.cat([torch.stack(turn, dim=1).reshape(-1, 2, 2), shift], dim=2)
    grid = F.affine_grid(theta, list(pictures.shape), align_corners=False)
    moved = F.grid_sample(pictures + 1, grid, align_corners=False)
    return moved - 1  # outside it is black, -1


# %% tags=["measure"]
def no_more(chosen, few, few_labels):
    return few[chosen], few_labels[chosen]


def moved_copies(chosen, few, few_labels):
    return moved(few[chosen]), few_labels[chosen]


def samples_of(gan):
    asked = torch.randint(10, (2000,), device=device)
    pictures = sample_digits(gan, asked)

    def samples(chosen, few, few_labels):
        drawn = torch.randint(2000, chosen.shape, device=device)
        return pictures[drawn], asked[drawn]

    return samples


# %% tags=["measure"]
def train_reader(seed, few, few_labels, more, num_steps=400):
    """Share of the test digits that a classifier reads. more: one of the above."""
    torch.manual_seed(seed)
    layers = nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)
    reader = nn.Sequential(*layers).to(device)
    optimizer = torch.optim.Adam(reader.parameters(), lr=1e-3)
    for _ in range(num_steps):
        chosen, others = torch.randint(len(few), (2, 32), device=device)
        pictures, their_labels = more(others, few, few_labels)
        logits = reader(torch.cat([few[chosen], pictures]))
        loss = F.cross_entropy(logits, torch.cat([few_labels[chosen], their_labels]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    answers = reader(test_images).argmax(dim=1)
    return (answers == test_labels).float().mean().item()


# %% tags=["measure"]
def few_digits(num, seed):
    """The places of num training digits, as many of each class."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator).to(device)
    each = [order[labels[order] == digit][: num // 10] for digit in range(10)]
    return torch.cat(each)


def gan_of_few(seed, few, few_labels, num_steps=600, progress="GAN of few"):
    torch.manual_seed(seed)
    gan = ConditionalGAN()
    play(gan, num_steps, [few, few_labels], progress=progress)
    return gan


# %% [markdown]
# **Before you run it:** 100 real digits, ten of each. Which of the three reads new digits best?
#
# <details><summary>Answer</summary>
#
# A GAN trained on 100 digits knows nothing beyond those 100 digits. What it draws is at best as good as they are, and some of it is wrong. Moved copies add something that we know: a digit
# turned a little is still the same digit.
#
# </details>

# %%
chosen = few_digits(100, seed=10 * course_seed)
few = images[chosen], labels[chosen]
few_gan = gan_of_few(10 * course_seed, *few)
ways = {
    "real only": no_more,
    "with samples": samples_of(few_gan),
    "with moved copies": moved_copies,
}
right = {}
for name, more in ways.items():
    seeds = range(10 * course_seed, 10 * course_seed + 3)
    right[name] = np.mean([train_reader(seed, *few, more) for seed in seeds])

# %%
claim(
    "With 100 real digits, samples from a GAN that has seen no others add less than"
    " 2 points to a classifier's accuracy",
    right["with samples"] - right["real only"] < 0.02,
    ", ".join(f"{name} {share:.1%}" for name, share in right.items()),
    same="100 real digits; 600 steps of the GAN; three classifiers of 400 steps each",
)

# %% [markdown]
# One draw of 100 digits proves little. Measured earlier: 50 to 400 digits, five draws of each; 600 steps for a GAN of the few. The fourth way is a **cheat**, and shows what to beware of in reports: its GAN was trained on all
# 1,200 labelled digits, while the classifier is said to have only a few of them.

# %%
few_rows = measured("gan_few_digits")


# %%
# extra code: accuracy against the number of real digits
def few_figure():
    nums, seeds = sorted({row["num"] for row in few_rows}, reverse=True), sorted({row["seed"] for row in few_rows})
    found = {(row["way"], row["num"], row["seed"]): row["accuracy"] for row in few_rows}
    fig, ax = plt.subplots(figsize=(10, 5))
    ax.set_xscale("log")
    ax.invert_xaxis()
    lines = {way: [[found[way, num, seed] for num in nums] for seed in seeds] for way in dict.fromkeys(row["way"] for row in few_rows)}
    curves(ax, lines, "number of real labelled digits", "right on new digits", "Samples help only where their GAN has seen more digits", x=nums)
    ax.set_xticks(nums, labels=nums)
    ax.minorticks_off()
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return fig, lines


fig, lines = few_figure()
gains = {way: np.median(np.array(values) - np.array(lines["real only"]), axis=0) for way, values in lines.items()}
show(fig, "Accuracy on new digits against the number of real labelled digits, medians and ranges of five draws. Median gain over real only, from the most digits to the fewest: "
     + "; ".join(f"{way} {', '.join(f'{100 * gain:+.1f}' for gain in values)} points" for way, values in gains.items() if way != "real only") + ".")  # fmt: skip

# %% [markdown]
# With 400 digits, the samples cost a little accuracy. Moved copies help a little where digits are fewest. The cheat helps most, and it helps more the fewer digits the classifier is said to
# have: what helps is the labels of the others.

# %% [markdown] slideshow={"slide_type": "notes"}
# Where synthetic pictures do help: where the generator brings knowledge from elsewhere (trained on many unlabelled pictures, or a large text-to-image model), or where privacy forbids
# passing on the real ones. The cheat is the first of these in disguise.

# %% [markdown]
# ## 10. In colour, 32 x 32 (22 min)
#
# The same game draws colour pictures of 32 x 32 pixels. The data: the heads of our drawn animals, 24 species, cut out by their boxes,
# as in the well-known collections of faces.


# %% tags=["measure"]
def draw_heads(num, seed=0, side=32):
    """Heads of drawn animals, (num, 3, side, side) from -1 to 1."""
    animals = datasets.critters(num_train=num, size=96, seed=seed).train
    boxes = animals.targets["box"]
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1, keepdim=True) / 2
    squares = torch.cat([torch.arange(num)[:, None], middle - half, middle + half], 1)
    return roi_align(animals.images.float(), squares, side, aligned=True) / 127.5 - 1


# %% [markdown]
# **Exercise 8** (10 min): a generator for any size. Build a DCGAN generator for pictures of `side` pixels, a power of two from 8 on: input (N, `z_dim`), output (N, `channels`, `side`, `side`)
# between -1 and 1. A first transposed convolution makes $4 \times 4$ pixels, then each doubles the side (kernel 4, stride 2, padding 1). For `side` = 32: 4 x 4 with 4·`width` channels, 8 x 8
# with 2·`width`, 16 x 16 with `width`, 32 x 32 with `channels`. Each is followed by batch normalisation and ReLU, except the last, which has only tanh. Layers before a batch normalisation have no bias;
# the last layer has one.


# %%
def any_generator(z_dim, side, channels, width):
    ...


exercises.any_generator.check(any_generator)

# %% slideshow={"slide_type": "skip"}
# exercises.any_generator.hint()
# exercises.any_generator.solution()

# %% [markdown]
# The generator below is the solution of exercise 8. Its discriminator is the same network backwards:


# %% tags=["measure"]
def any_discriminator(side, channels, width):
    widths = [width * 2**k for k in range(side.bit_length() - 3)]
    layers = [nn.Conv2d(channels, width, 4, stride=2, padding=1), leaky()]
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(after), leaky()]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, kernel_size=4), nn.Flatten())


def large_gan(side=32, channels=3, width=32, inputs=64):
    generator = exercises.any_generator.reference(inputs, side, channels, width)
    discriminator = any_discriminator(side, channels, width)
    networks = small_weights(generator), small_weights(discriminator)
    return GAN(*networks, lr=2e-4, inputs=inputs, decay=0.999)


HEADS_STEPS = 5_000


def training_heads():
    """6,000 heads and their mirror images."""
    heads = torch.cat([draw_heads(3000, seed) for seed in range(2)]).to(device)
    return torch.cat([heads, heads.flip(3)])


# %% [markdown]
# **One line makes it large.** On a GPU, this GAN is trained here and now. On a CPU that would take ten minutes, so we load weights that were trained earlier
# (`python -m tools.gans heads` trains them again). `course` is the course's folder.

# %%
heads_gan = large_gan(side=32, channels=3)

# %%
if device.type == "cpu":
    stored = torch.load(course / "data/gan_heads.pt", weights_only=True)
    heads_gan.average.module.load_state_dict(stored["heads"])
else:
    play(heads_gan, HEADS_STEPS, [training_heads()], progress="heads")
print(f"{num_parameters(heads_gan.generator):,} parameters in the generator")

# %%
set_seed(12)
z = torch.randn(400, 64, device=device)
new_heads = sample(heads_gan.average, z).cpu()
real_heads = draw_heads(480, seed=100 + course_seed)


# %%
# extra code: real heads and drawn ones, eight in a row
def heads_figure(rows, names, title):
    grid = torch.cat([torch.cat(list(part), dim=2) for part in rows.split(8)], dim=1)
    fig, ax = plt.subplots(figsize=(7, 6.4 * grid.shape[1] / grid.shape[2] + 0.5))
    ax.imshow(((grid.permute(1, 2, 0) + 1) / 2).clamp(0, 1), interpolation="nearest")
    ax.set_yticks([32 * k + 16 for k in range(len(names))], names)
    ax.set_xticks([])
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    ax.set_title(title)
    return fig


show(heads_figure(torch.cat([real_heads[:16], new_heads[:32]]), ["real"] * 2 + ["drawn"] * 4, "The same game, in colour: heads that nobody has drawn"),
     "Above, two rows of real heads of drawn animals. Below, four rows that the generator has made: round heads have eyes and noses in place; heads with long ears or horns are smeared.")  # fmt: skip

# %% [markdown]
# After 5,000 steps, ten minutes on one core, it draws well the round heads that many species share, but not the rare shapes. Larger GANs have more parameters and train for longer; the game is the
# same.

# %%
def spread(pictures):
    """Mean distance of two pictures of a set, after each 8 x 8 pixels became one."""
    coarse = F.avg_pool2d(pictures[:400], 8)  # little noise is left
    return F.pdist(coarse.flatten(1)).mean().item()


noisy = new_heads[:1] + 0.41 * torch.randn(400, 3, 32, 32)  # one head, 400 times
apart, real_apart, noise_apart = map(spread, (new_heads, real_heads, noisy))

# %%
claim(
    "With the noise averaged away, the drawn heads differ from each other about as much"
    " as real ones do; copies of one head do not",
    0.85 < apart / real_apart < 1.15 and noise_apart < 0.3 * real_apart,
    f"mean distance {apart:.1f}, of real heads {real_apart:.1f},"
    f" of copies with noise {noise_apart:.1f}",
    same="400 pictures, means of 8 x 8 pixels",
)

# %% [markdown]
# This rules out one head, not a few: eight heads, fifty times each, come to about 80 %. How many of the 24 species there are was not measured.

# %%
corners = torch.randn(2, 2, 64, device=device)
between = [slerp(*corners, k / 7) for k in range(8)]
strips = sample(heads_gan.average, torch.stack(between, dim=1).flatten(0, 1)).cpu()

# %%
# extra code: the figure
show(heads_figure(strips, [""] * 2, "From one head to another"),
     "Two rows of eight drawn pictures. In each, the left one changes step by step into the right one, without a jump.")  # fmt: skip
# %% [markdown]
# ## 11. From picture to picture (15 min)
#
# We can tell a GAN a label. We can also give it a whole picture: an outline, a map, a sketch.

# %%
# extra code: pix2pix and CycleGAN as drawings
def translation_figure():
    fig, axes = plt.subplots(2, 1, figsize=(10.5, 6.6))
    box = {"boxstyle": "round,pad=0.4", "edgecolor": "black", "linewidth": 1.5}
    text = {"ha": "center", "va": "center", "fontsize": 14}
    colours = {"G": "#fde0c5", "D": "#cfe3f5", "p": "#eeeeee"}

    def put(ax, x, y, words, kind):
        ax.text(x, y, words, bbox=box | {"facecolor": colours[kind]}, **text)

    def arrow(ax, start, end, colour="black", words="", **look):
        ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 2.2, "mutation_scale": 18} | look)
        ax.text((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + 0.2, words, color=colour, fontweight="bold", **text)

    top, bottom = axes
    for x, y, words, kind in ((0.7, 1, "outline", "p"), (2.9, 1, "G: U-Net", "G"), (5.2, 1, "drawn", "p"), (5.2, 0, "its original", "p"), (8.2, 1, "D: a real pair?", "D")):
        put(top, x, y, words, kind)
    arrow(top, (1.4, 1), (2.1, 1))
    arrow(top, (3.75, 1), (4.65, 1))
    arrow(top, (5.8, 1), (7.0, 1))
    arrow(top, (0.8, 1.3), (7.6, 1.3), linestyle="--", connectionstyle="arc3,rad=-0.16")
    arrow(top, (5.2, 0.7), (5.2, 0.3), "C1", arrowstyle="<|-|>")
    top.text(5.5, 0.5, "L1: pixel by pixel", color="C1", fontweight="bold", **text | {"ha": "left"})
    top.set_title("pix2pix: pairs are known", loc="left")
    for x, y, words, kind in ((0.7, 1, "a horse", "p"), (2.6, 1, "G", "G"), (4.6, 1, "as a zebra", "p"), (6.6, 1, "F", "G"), (8.6, 1, "as a horse\nagain", "p"), (4.6, 0, "D: a real zebra?", "D")):
        put(bottom, x, y, words, kind)
    arrow(bottom, (1.4, 1), (2.25, 1))
    arrow(bottom, (2.95, 1), (3.75, 1))
    arrow(bottom, (5.45, 1), (6.25, 1))
    arrow(bottom, (6.95, 1), (7.8, 1))
    arrow(bottom, (4.6, 0.7), (4.6, 0.3))
    arrow(bottom, (0.8, 1.3), (8.4, 1.42), "C1", arrowstyle="<|-|>", connectionstyle="arc3,rad=-0.18")
    bottom.text(4.6, 2.05, "cycle loss: back where it began", color="C1", fontweight="bold", **text)
    bottom.set_title("CycleGAN: two collections, no pairs; the same once more from zebra to horse", loc="left")
    for ax in axes:
        ax.set(xlim=(-0.3, 10), ylim=(-0.35, 2.25))
        ax.axis("off")
    return fig


show(translation_figure(), "Above, pix2pix: an outline goes into a U-Net G, which draws; the discriminator sees outline and drawing together and says whether they are a real pair; an L1 loss compares with the original. "
     "Below, CycleGAN: G turns a horse into a zebra, F turns it back, the cycle loss compares the two horses, and a discriminator says whether the zebra is a real one.")  # fmt: skip

# %% [markdown]
# - **pix2pix** (Isola et al. 2017) learns from **pairs**. $G$ is a U-Net (notebook 04), $D$ sees input and output **together**, and says for each patch whether it is part of a real pair: (N, 1, 8, 8).
#   An L1 loss, the mean difference of pixels, keeps the output near its original.
# - **CycleGAN** (Zhu et al. 2017) has **no pairs**, only two collections. Two generators, $G: X \to Y$ and $F: Y \to X$, and two discriminators. The **cycle loss** makes the zebra match its
#   horse: $F(G(\mathbf{x}))$ should be $\mathbf{x}$ again. (Both have been used to change the style of training pictures, as augmentation: notebook 06.)
#
# ### Outlines to animals
#
# This is a small pix2pix. The outlines are the borders between the parts of a drawn animal, 32 x 32 pixels; the pictures are the animals, cut out. An outline does not say what colour the coat is.


# %% tags=["measure"]
def draw_pairs(num, seed=0):
    """Animals on white, (num, 3, 32, 32) from -1 to 1; outlines, (num, 1, 32, 32)."""
    animals = datasets.critters(num_train=num, size=32, seed=seed).train
    mask, parts = animals.targets["mask"][:, None], animals.targets["parts"][:, None]
    pictures = torch.where(mask, animals.images / 127.5 - 1, 1.0)
    parts, outlines = parts * mask, torch.zeros(len(mask), 1, 32, 32)
    outlines[:, :, 1:] += parts[:, :, 1:] != parts[:, :, :-1]
    outlines[..., 1:] += parts[..., 1:] != parts[..., :-1]
    return pictures.to(device), outlines.clamp(max=1).to(device)


# %% tags=["measure"]
def patch_discriminator(width=32):
    """One logit for each of 8 x 8 patches of a picture and its outline."""
    return nn.Sequential(
        nn.Conv2d(3 + 1, width, 4, stride=2, padding=1), leaky(),
        nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(2 * width), leaky(),
        nn.Conv2d(2 * width, 1, 3, padding=1),
    )  # fmt: skip


class Pix2Pix(GAN):
    def __init__(self, pairs, adversarial=1.0):
        self.pairs, self.adversarial = pairs, adversarial
        generator = nn.Sequential(UNet(3, in_channels=1), nn.Tanh())
        super().__init__(generator.to(device), patch_discriminator().to(device))

    def d_loss(self, real, outlines):
        fake = self.generator(outlines).detach()
        pairs = torch.cat([real, outlines], 1), torch.cat([fake, outlines], 1)
        return discriminator_loss(*[self.discriminator(pair) for pair in pairs])

    def g_loss(self, num):
        chosen = torch.randint(len(self.pairs[0]), (num,), device=device)
        real, outlines = (tensor[chosen] for tensor in self.pairs)
        fake = self.generator(outlines)
        logits = self.discriminator(torch.cat([fake, outlines], 1))
        return self.adversarial * self.loss(logits) + 100 * F.l1_loss(fake, real)


# %% tags=["measure"]
NUM_PAIRS, PAIR_STEPS = 3000, 800


def train_pix2pix(pairs, adversarial, seed, num_steps=PAIR_STEPS):
    torch.manual_seed(seed)
    gan = Pix2Pix(pairs, adversarial)
    play(gan, num_steps, pairs, batch_size=16, progress=None)
    return gan


# %% [markdown]
# How much does $D$ add? We compare two generators that differ in one number: with $D$ (`adversarial=1`), and with the **L1 loss alone** (`adversarial=0`). On outlines that neither has seen,
# we measure two things inside the animal: the **error**, the mean difference from the original (at most 2), and the **detail**, the mean difference between neighbouring pixels, as a share
# of the original's.


# %% tags=["measure"]
def detail(pictures, animals):
    change = (pictures[..., 1:] - pictures[..., :-1]).abs().mean(dim=1)
    return change[animals[..., 1:] & animals[..., :-1]].mean().item()


def compared(generator, pairs):
    real, outlines = pairs
    drawn, animals = sample(generator, outlines), (real != 1).any(dim=1)
    error = (drawn - real).abs().mean(dim=1)[animals].mean().item()
    return {"error": error, "detail": detail(drawn, animals) / detail(real, animals)}


# %% [markdown]
# **Before you run it:** which of the two has the smaller error? And which draws more detail?
#
# <details><summary>Answer</summary>
#
# The L1 loss alone has the smaller error. Where the outline leaves open what the coat looks like, the safest answer, pixel by pixel, is the one in the middle of all coats: smooth and brownish. $D$ sees at once
# that no real coat is like that.
#
# </details>

# %%
stored = torch.load(course / "data/gan_outlines.pt", weights_only=True)
real, outlines = held_out = draw_pairs(240, seed=200 + course_seed)
painted, measures = {}, {}
for name, state in stored.items():
    generator = nn.Sequential(UNet(3, in_channels=1), nn.Tanh()).to(device)
    generator.load_state_dict(state)
    painted[name] = sample(generator, outlines)
    measures[name] = compared(generator, held_out)

# %%
# extra code: outlines, what the two make of them, and the originals
def outlines_figure(num=8):
    rows = {"outline": 1 - 2 * outlines.expand(-1, 3, -1, -1)} | painted | {"original": real}
    grid = torch.cat([torch.cat(list(pictures[:num]), dim=2) for pictures in rows.values()], dim=1).cpu()
    fig, ax = plt.subplots(figsize=(9.5, 5.2))
    ax.imshow(((grid.permute(1, 2, 0) + 1) / 2).clamp(0, 1), interpolation="nearest")
    ax.set_yticks([32 * k + 16 for k in range(len(rows))], list(rows))
    ax.set_xticks([])
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    ax.set_title("L1 alone paints something between all coats; D asks for a real one")
    return fig


show(outlines_figure(), "Four rows of eight pictures: outlines of animals, what the generator with the discriminator makes of them, what the one with the L1 loss alone makes of them, and the originals. Those with the discriminator have patches, some a fox's orange or a frog's green; those of the L1 loss alone are evenly brown.")

# %%
l1, with_d = measures["L1 alone"], measures["with D"]
claim(
    "Of these two generators, the one with the L1 loss alone has the smaller error and"
    " draws far less detail",
    l1["error"] < with_d["error"] and l1["detail"] < 0.6 * with_d["detail"],
    "; ".join(
        f"{name}: error {of['error']:.3f}, detail {of['detail']:.0%} of the original's"
        for name, of in measures.items()
    ),
    same=f"{NUM_PAIRS:,} pairs, {PAIR_STEPS:,} steps of 16, one U-Net, one seed;"
    f" {len(real)} new outlines",
)

# %% [markdown]
# Neither comes close to the originals: 3,000 pairs and 800 steps are not much. But the difference is the one that the paper shows. $D$ rewards a coat that could be real; where the generator
# chooses the wrong one, its error grows. (Detail alone proves little, since noise has it too. The pictures show which kind it is.)
#
# **One training of each is not enough to tell how reliable this is.** With another seed, the generator with $D$ ended evenly coloured, with 4 % of the detail: this small game can fail, too.

# %% [markdown]
# ## 12. Exercises (12 min)
#
# **Exercise 9** (10 min): a step of a critic. In a Wasserstein GAN (Arjovsky et al. 2017) $D$ is a **critic**: it gives any number, high for reals and low for fakes. Its loss is the mean of the fakes' numbers
# minus the mean of the reals'. After the optimizer's step, all its parameters are clipped to $[-c, c]$, in place. Write one whole step, in which no gradient reaches the generator, and
# return the loss (float).


# %%
def critic_step(critic, optimizer, real, fake, c=0.01):
    ...


exercises.critic_step.check(critic_step)

# %% slideshow={"slide_type": "skip"}
# exercises.critic_step.hint()
# exercises.critic_step.solution()

# %% [markdown]
# ## 13. Lab: fool the detective (30 min and more)
#
# Write `train_artist(images, labels)`. It gets the 1,200 training digits as they are here, (N, 1, 8, 8) from -1 to 1, on the CPU. It trains whatever you like, for at most **60 seconds of one core**, and
# returns a **generator**: an `nn.Module` that turns `z` (N, 32), from a standard Gaussian, into N pictures (N, 1, 8, 8).
#
# The check draws 2,000 `z` and trains three detectives (section 5) on half of the pictures and the training digits. Your score is **how often they are wrong** on the other half and on
# digits that no network has seen: 50 % is the maximum. There are two rules:
#
# - **no copying**: the 5 % of your pictures that are nearest to the training digits must be at least 0.95 times as far away as the nearest 5 % of new real digits (this finds copies);
# - **no digit left out**: at least 40 % of the real digits of each class must be **covered**. A digit is covered if one of your pictures is closer to it than its 5th nearest neighbour among the
#   training digits is (Naeem et al. 2020).
#
# **The baselines to beat:** the 30 Gaussians of section 5 score 16 %. Thirty for each digit score more, but they copy. The best mixture that we found, six for each digit, cleaned, scores 36
# %. **38 % is good, 44 %
# is very good.** The averaged generator of section 4 is a good start.


# %%
def train_artist(images, labels):
    ...


exercises.lab.check(train_artist)

# %% slideshow={"slide_type": "skip"}
# exercises.lab.hint()
# exercises.lab.solution()

# %% [markdown]
# ## Summary
#
# - A generator needs no density. It learns from a discriminator, through its gradient alone.
# - Nothing in its loss asks for variety: a generator that learns too fast for its discriminator drops modes, in the plane and on digits.
# - Against a discriminator that is ahead, the minimax loss gives hardly any gradient. Adam makes up for it, plain gradient descent does not. The non-saturating loss needs no such help.
# - The losses of a GAN do not say how good it is. Ask for quality, coverage and newness: each can be cheated on its own, and a median does not notice that every third picture is a copy.
# - Whose pictures are better depends on who is asked: a classifier prefers a mixture of Gaussians, a fresh discriminator is fooled more often by the DCGAN, and by its averaged weights far more often than by the last.
# - Separate batches, batch normalisation and low momentum matter here; the other tricks hardly do, and two even cost a little.
# - Between two latent vectors there are digits; between two pictures there are not.
# - A conditional GAN draws what it is asked for. From a few pictures it learns only what is in those few.
# - pix2pix learns from pairs, CycleGAN without.
#
# The claims of this run, with their figures:

# %%
summary()

# %% [markdown]
# ### Lecture topics
#
# | topic | section | lectures |
# |---|---|---|
# | N1 generative modelling, generator and discriminator, a DCGAN live | 1, 4, 5, 6 | C |
# | N2 the tricks removed one at a time, mode collapse | 2, 6, 7 | C |
# | N3 latent walk, conditional GAN, its samples for a classifier with few data | 8, 9 | C, A, E |
# | N4 points in the plane: the discriminator's field, dropped modes, and who learns from whom | 1, 2, 3 | beyond |
# | N5 pix2pix and CycleGAN; outlines to animals | 11 | E |
# | N6 32 x 32 pixels in colour | 10 | C |
#
# ### Further reading
# - I. Goodfellow et al. *Generative Adversarial Nets*. NeurIPS 2014. https://arxiv.org/abs/1406.2661
# - M. Mirza, S. Osindero. *Conditional Generative Adversarial Nets*. 2014. https://arxiv.org/abs/1411.1784
# - A. Radford, L. Metz, S. Chintala. *Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks*. ICLR 2016. https://arxiv.org/abs/1511.06434
# - S. Reed et al. *Generative Adversarial Text to Image Synthesis*. ICML 2016. https://arxiv.org/abs/1605.05396 (real pictures with wrong labels)
# - T. Salimans et al. *Improved Techniques for Training GANs*. NeurIPS 2016. https://arxiv.org/abs/1606.03498 (inception score, minibatch discrimination, label smoothing)
# - T. White. *Sampling Generative Networks*. 2016. https://arxiv.org/abs/1609.04468 (slerp)
# - P. Isola, J.-Y. Zhu, T. Zhou, A. A. Efros. *Image-to-Image Translation with Conditional Adversarial Networks*. CVPR 2017. https://arxiv.org/abs/1611.07004 (pix2pix)
# - J.-Y. Zhu, T. Park, P. Isola, A. A. Efros. *Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks*. ICCV 2017. https://arxiv.org/abs/1703.10593 (CycleGAN)
# - D. Lopez-Paz, M. Oquab. *Revisiting Classifier Two-Sample Tests*. ICLR 2017. https://arxiv.org/abs/1610.06545 (the detective of section 5)
# - M. Arjovsky, S. Chintala, L. Bottou. *Wasserstein GAN*. ICML 2017. https://arxiv.org/abs/1701.07875
# - M. Heusel et al. *GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium*. NeurIPS 2017. https://arxiv.org/abs/1706.08500 (two rates; Fréchet inception distance)
# - I. Gulrajani et al. *Improved Training of Wasserstein GANs*. NeurIPS 2017. https://arxiv.org/abs/1704.00028
# - T. Karras, T. Aila, S. Laine, J. Lehtinen. *Progressive Growing of GANs for Improved Quality, Stability, and Variation*. ICLR 2018. https://arxiv.org/abs/1710.10196 (standard deviation over the batch)
# - Y. Yazıcı et al. *The Unusual Effectiveness of Averaging in GAN Training*. ICLR 2019. https://arxiv.org/abs/1806.04498
# - T. Kynkäänniemi et al. *Improved Precision and Recall Metric for Assessing Generative Models*. NeurIPS 2019. https://arxiv.org/abs/1904.06991
# - M. F. Naeem et al. *Reliable Fidelity and Diversity Metrics for Generative Models*. ICML 2020. https://arxiv.org/abs/2002.09797 (coverage, as in the lab)
# - S. Chintala et al. *How to Train a GAN? Tips and tricks to make GANs work*. 2016. https://github.com/soumith/ganhacks
#
# ### Next notebook
# 10 · State of computer vision: winning tricks.
