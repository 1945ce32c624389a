# %% [markdown]
# # 09 · Generative adversarial networks
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/@SLUG@/blob/@REF@/notebooks/09_gans.ipynb)
# [![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://github.com/@SLUG@/blob/@REF@/notebooks/09_gans.ipynb)
#
# **To keep what you write:** on Colab choose *File > Save a copy in Drive*, on Kaggle *Copy & Edit*, before you begin.
#
# **Question:** Nobody tells a network what a digit is. It only sees 1,200 of them. Can it draw new ones, and how do we know that they are good?
#
# **You will be able to**
# - explain what a generator and a discriminator want, write down both losses, and say why the first one that you would try does not work,
# - train a DCGAN, and judge it by a measure that tells the story, which its losses do not,
# - provoke mode collapse and recognise it, walk through the latent space, and ask a conditional GAN for the digit that you want.
#
# **Time:** it runs in @TIME@ on two CPU cores; with all sections, the exercises and the lab, three hours and a quarter.
# **Before this:** convolution, transposed convolution and batch normalisation (notebooks 01 and 03), a training loop (notebook 00).

# %% [markdown] slideshow={"slide_type": "notes"}
# **A plan for 75 minutes**
#
# - **Core:** sections 1, 2, 3, 4, 5, 6 and 8: what generative modelling is, a judge, the game of two networks, a DCGAN live, what its losses tell, and
#   mode collapse.
# - **Optional:** 7 (the tricks removed), 9 (a walk in latent space), 10 before 11 (digits to order, and whether they help a classifier): each a lesson of its
#   own.
# - **Where to stop:** after the claims of section 8. If you are late, stop after those of section 6, and tell mode collapse with its two figures in five
#   minutes.

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
# What this notebook imports. Everything that is not PyTorch, torchvision or scikit-learn is in the folder utils/.
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.colors import PowerNorm
from matplotlib.ticker import PercentFormatter
from sklearn.mixture import GaussianMixture
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset
from tqdm.auto import tqdm

from utils import datasets
from utils.exercises import gans as exercises
from utils.figures import curves, explore, show
from utils.lessons import claim, measured, summary
from utils.training import fit

# %% slideshow={"slide_type": "skip"}
torch.set_num_threads(1)  # layers this small run faster on one core than on two that wait for each other
course_seed = torch.initial_seed()  # as utils.start() has set it
MAIN_STEPS, SHORT_STEPS, FEW_STEPS = 2000, 600, 600  # how long the trainings are
PATIENCE, COLLAPSE_STEPS = 100, 60  # of the discriminator, in sections 4 and 8


def set_seed(k):  # each experiment has a seed of its own: it comes out the same, whatever ran before it
    torch.manual_seed(10 * course_seed + k)


# %% [markdown]
# ## 1. Learning without labels (12 min)
#
# So far every picture had a label, and the network learned to guess it. That is **supervised** learning. Now we put the labels away.
#
# What is there to learn? How pictures **are distributed**: which occur often, which hardly ever, which never. Whoever knows that can draw new ones. This is **generative modelling**,
# a kind of **unsupervised** learning.
#
# Our pictures are scikit-learn's digits again, 8 x 8 pixels. We scale them from -1 (black) to 1 (white).


# %% tags=["measure"]
def scaled(split):
    """Digits, float (N, 1, 8, 8) from -1 to 1, and their labels (N,)."""
    return split.images.float().to(device) / 127.5 - 1, split.targets["label"].to(device)


splits = datasets.digits()
images, labels = scaled(splits.train)
test_images, test_labels = scaled(splits.test)

# %% [markdown]
# **The simplest case first: one number a picture.** Its **ink** is the mean of its pixels. 1,200 digits give 1,200 numbers. How are they distributed? The simplest guess with a formula is a
# Gaussian. It has two numbers to learn:
#
# $$p(\text{ink}) = \frac{1}{\sqrt{2\pi}\,\sigma}\,\exp\!\left(-\frac{(\text{ink} - \mu)^2}{2\sigma^2}\right)$$
#
# The $\mu$ and $\sigma$ under which our 1,200 numbers are most likely are their mean and their standard deviation. This is **maximum likelihood**. And to draw new numbers is one line:

# %%
ink = images.mean(dim=(1, 2, 3))
mu, sigma = ink.mean(), ink.std()
set_seed(0)
new_ink = mu + sigma * torch.randn(1200, device=device)

# %%
fig, ax = plt.subplots()
bins = np.linspace(-0.65, -0.1, 34)
ax.hist(ink.cpu(), bins, density=True, alpha=0.5, label="1,200 digits")
ax.hist(new_ink.cpu(), bins, density=True, histtype="step", linewidth=2, color="C1", label="1,200 new numbers")
curve = torch.distributions.Normal(mu.cpu(), sigma.cpu()).log_prob(torch.tensor(bins)).exp()
ax.plot(bins, curve, color="C2", label="the density p(ink)")
ax.set(xlabel="ink: mean of a picture's pixels (-1 black, 1 white)", ylabel="density", title="A density is learned from examples, and new ones are drawn from it")
ax.legend()
show(fig, "Histogram of the ink of 1,200 digits, the Gaussian that fits it, and a histogram of 1,200 numbers drawn from it: "
     "they agree in place and width, but the real digits begin with a steeper edge at the left.")  # fmt: skip

# %% [markdown]
# That is all of generative modelling, for one number. (The Gaussian is a guess, and not quite right: digits with hardly any ink do not exist, so the real numbers begin with a steep edge. A model can only learn what its formula can
# express.) A digit has 64 numbers. Three attempts to do the same for all pixels:
#
# - **each pixel alone**: 64 Gaussians, one for each pixel, as if pixels knew nothing of each other;
# - **one Gaussian for all 64**: a mean of 64 numbers, and a covariance of $64 \times 64$, which says which pixels go together;
# - **30 Gaussians**: a mixture, $p(\mathbf{x}) = \sum_k \pi_k\, \mathcal{N}(\mathbf{x};\, \boldsymbol\mu_k, \boldsymbol\Sigma_k)$. To draw, choose one of the 30, then draw from it.


# %%
def pictures_of(vectors):
    return vectors.clamp(-1, 1).reshape(-1, 1, 8, 8)


pixels = images.flatten(1)
mean, std = pixels.mean(dim=0), pixels.std(dim=0)
root = torch.linalg.cholesky(torch.cov(pixels.T) + 1e-4 * torch.eye(64, device=device))  # covariance = root times its transpose

# %%
set_seed(1)
mixture = GaussianMixture(30, reg_covar=0.01, random_state=10 * course_seed).fit(pixels.cpu().double().numpy())
drawn = {
    "each pixel alone": pictures_of(mean + std * torch.randn(1000, 64, device=device)),
    "one Gaussian": pictures_of(mean + torch.randn(1000, 64, device=device) @ root.T),
    "30 Gaussians": pictures_of(torch.tensor(mixture.sample(1000)[0], dtype=torch.float32, device=device)),
}
for name in ("each pixel alone", "one Gaussian", "30 Gaussians"):  # the mixture gives its samples sorted
    drawn[name] = drawn[name][torch.randperm(1000, device=device)]


# %%
# extra code: a wall of pictures, one row for each name
def wall(rows, title, num=16):
    lines = [torch.cat([F.pad(picture[0], (0, 1, 0, 1), value=1) for picture in pictures[:num].cpu()], dim=1) for pictures in rows.values()]
    fig, ax = plt.subplots(figsize=(12, 0.6 * len(lines) + 0.4))
    ax.imshow(torch.cat(lines), cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
    ax.set(xticks=[], yticks=[9 * row + 3.5 for row in range(len(lines))], yticklabels=list(rows), title=title)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return fig


# %%
show(wall({"real digits": images} | drawn, "What goes together must be learned, too"),
     "Rows of 8 x 8 pictures. Pixels drawn each alone give noise with a bright middle; one Gaussian gives smeared strokes; the mixture of 30 gives digits.")  # fmt: skip

# %% [markdown]
# The third row of drawings looks good. (Remember it: it is the baseline that a network has to beat, and it took a fraction of a second.) So why anything else? Because it needs a **formula for the density**, and because each of the
# 30 covariances has 2,080 numbers to learn. For 64 pixels that goes well. For a photo of $224 \times 224 \times 3$ one covariance would have eleven thousand million.
#
# Goodfellow and others (2014) found a way round: **learn to draw without ever writing down a density.** Before we go there, we need somebody who can tell good drawings from bad.

# %% [markdown]
# ## 2. A judge (8 min)
#
# A classifier, trained on the **real** digits with their labels, will judge what others draw. (Only the judge sees labels. Whoever draws does not.) A little noise on its input while it learns, so that it does not
# depend on single pixels.


# %% tags=["measure"]
class Noise(nn.Module):
    def forward(self, x):
        return x + 0.1 * torch.randn_like(x) if self.training else x


def train_judge(seed):
    torch.manual_seed(seed)
    layers = nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)
    judge = nn.Sequential(Noise(), nn.Flatten(), *layers).to(device)
    loader = DataLoader(TensorDataset(images, labels), batch_size=64, shuffle=True)
    optimizer = torch.optim.Adam(judge.parameters(), lr=1e-3)
    fit(judge, loader, num_epochs=30, optimizer=optimizer, bf16=False, progress=None)
    return judge.eval()


# %%
judge = train_judge(10 * course_seed)
read = (judge(test_images).argmax(dim=1) == test_labels).float().mean().item()
claim("The judge reads more than 94 % of digits that it has never seen", read > 0.94, f"{read:.1%} of {len(test_labels)}")

# %% [markdown]
# What do we ask it? Two things.
#
# - **Recognised** (quality): the share of the pictures for which it is more than 90 % sure, of whatever digit.
# - **Classes** (coverage): does it see all ten digits, or always the same one? If $s_c$ is the share of class $c$ in its answers, then
#   $\exp\!\left(-\sum_c s_c \log s_c\right)$ is the **effective number of classes**: 10 where all ten are equally frequent, 1 where there is only one.
#
# The well-known **inception score** (Salimans et al. 2016) makes one number of both. With $p(c \mid \mathbf{x})$ the judge's probabilities for a picture and $\bar p(c)$ their mean over all pictures,
#
# $$\text{score} = \exp\!\left(\text{entropy of } \bar p - \text{mean entropy of } p(\cdot \mid \mathbf{x})\right)$$
#
# It is large, at most 10 here, where the judge is sure of each picture and all classes occur. (There the judge is the network Inception v3. Ours is smaller, so its scores compare only with each other.)


# %% tags=["measure"]
def entropy(probabilities):
    return torch.special.entr(probabilities).sum(dim=-1)


@torch.no_grad()
def verdict(pictures):
    probabilities = judge(pictures).softmax(dim=1)
    confidence, answers = probabilities.max(dim=1)
    share = answers.bincount(minlength=10) / len(answers)
    return {
        "recognised": (confidence > 0.9).float().mean().item(),
        "classes": entropy(share).exp().item(),
        "score": (entropy(probabilities.mean(dim=0)) - entropy(probabilities).mean()).exp().item(),
    }


# %% [markdown]
# **Before you run it:** what will the judge say to the real digits of the test set, and to each of the three rows above? Will it be unsure of noise?
#
# <details><summary>Answer</summary>
#
# It recognises most of the real digits, and nearly as many of the mixture's. One Gaussian does much worse, and single pixels worse still, but not 0: of some noise the judge is quite
# sure. It has to choose one of ten, and nobody ever told it that there is anything else. A judge of this kind compares; it does not certify.
#
# </details>

# %%
verdicts = {name: verdict(pictures) for name, pictures in ({"real, unseen": test_images} | drawn).items()}
for name, said in verdicts.items():
    print(f"{name:18} recognised {said['recognised']:4.0%}   classes {said['classes']:4.1f}   score {said['score']:.1f}")

# %%
real, alone, one = (verdicts[name]["recognised"] for name in ("real, unseen", "each pixel alone", "one Gaussian"))
claim(
    "The judge recognises real digits far more often than pictures drawn from one Gaussian, or pixel by pixel",
    real - max(one, alone) > 0.3,
    f"{real:.0%} against {one:.0%} and {alone:.0%}",
)

# %% [markdown]
# ### A forger with a copying machine
#
# The judge can be cheated. Whoever hands it the training digits themselves, with a little noise, gets full marks for quality and for coverage, and has learned nothing but to copy. So we ask a third question, which needs no judge.
#
# - **New**: how far is each picture from the most similar training digit? (Euclidean distance over 64 pixels; the median over all pictures, divided by that of real digits which are not among the training digits.) 1 is as new as real digits are.


# %% tags=["measure"]
def distance(pictures):
    """(N,) from each picture to the most similar training digit, and (N,) which one that is."""
    return torch.cdist(pictures.flatten(1), images.flatten(1)).min(dim=1)


def newness(pictures):
    return (distance(pictures).values.median() / distance(test_images).values.median()).item()


# %%
set_seed(2)
copies = images[torch.randint(len(images), (1000,), device=device)]
copies = copies + 0.05 * torch.randn_like(copies)
copied = verdict(copies) | {"new": newness(copies)}
claim(
    "Copied training digits satisfy the judge like real ones, and only the distance to the training digits gives them away",
    copied["recognised"] > real - 0.05 and copied["classes"] > 9.5 and copied["new"] < 0.5,
    f"copies: recognised {copied['recognised']:.0%}, classes {copied['classes']:.1f}, new {copied['new']:.2f}; real: {real:.0%}",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Remind the class of the memoriser of notebook 00: empirical risk zero, and useless. Here it is again, as a painter. Ask for other measures: the Fréchet distance (Heusel et al. 2017) compares
# mean and covariance of features of real and drawn pictures; precision and recall for samples (Kynkäänniemi et al. 2019) take quality and coverage apart as we do.

# %% [markdown]
# ## 3. Two networks play a game (12 min)
#
# A forger and a detective. The **generator** $G$ gets random numbers $\mathbf{z}$ (32 of them, from a Gaussian) and makes a picture of them. The **discriminator** $D$ gets a picture, real or fake, and says how likely it
# thinks that it is real.
#
# - $D$ learns to tell them apart. That is supervised learning, with labels that cost nothing: we know which pictures are real.
# - $G$ never sees a real picture. All it learns comes through $D$: in which direction a pixel should change for $D$ to be less sure.
#
# $D$ gives a logit $a = D(\mathbf{x})$, and $\sigma(a)$ is the probability "real". Its loss is the usual cross-entropy of two classes. With $\text{softplus}(a) = \log(1 + e^a)$, so that $-\log\sigma(a) = \text{softplus}(-a)$ and
# $-\log(1 - \sigma(a)) = \text{softplus}(a)$:
#
# $$\mathrm{d\_loss} = \underbrace{\text{mean}\;\text{softplus}(-D(\mathbf{x}))}_{\text{real ones should be called real}} + \underbrace{\text{mean}\;\text{softplus}(D(G(\mathbf{z})))}_{\text{fakes should be called fake}}$$

# %% tags=["measure"]
def discriminator_loss(real_logits, fake_logits):
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


# %% [markdown]
# **What does the best possible $D$ know?** Where reals have the density $p$ and fakes the density $q$, among all pictures at $\mathbf{x}$ the share $\frac{p(\mathbf{x})}{p(\mathbf{x}) + q(\mathbf{x})}$ is real. No $D$ can do better than to say just
# that (Goodfellow et al. 2014, proposition 1). So a trained $D$ **contains the ratio of two densities**, though neither was ever written down. And where $p = q$, it can only say ½.
#
# **Before you run it:** one number a picture again. Reals come from $\mathcal{N}(0, 1)$, fakes from $\mathcal{N}(1.5, 0.7^2)$. A small network learns to tell them apart. What does it say at 0.75, half-way? And far to the left, at -3?
#
# <details><summary>Answer</summary>
#
# At -3 there are only reals: near 1. Half-way both densities are about equally high: near ½. (Beyond 5 it should turn again, as the wider density wins out there. But no example says so, and the network cannot know.)
#
# </details>

# %%
p, q = torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(1.5, 0.7)
set_seed(3)
small = nn.Sequential(nn.Linear(1, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.Adam(small.parameters(), lr=5e-3)
for _ in range(600):
    loss = discriminator_loss(small(p.sample((512, 1))), small(q.sample((512, 1))))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# %%
x = torch.linspace(-3, 3, 121)
density_p, density_q = p.log_prob(x).exp(), q.log_prob(x).exp()
best = density_p / (density_p + density_q)
found = torch.sigmoid(small(x[:, None])).detach()[:, 0]
fig, ax = plt.subplots()
curves(ax, {"best possible": best, "learned": found}, "x", "probability of being real", "A trained discriminator knows the ratio of two densities", x=x)
ax.fill_between(x, density_p, alpha=0.25, color="C2")
ax.fill_between(x, density_q, alpha=0.25, color="dimgray")
ax.text(-1.2, 0.27, "p: real", color="C2", ha="right")
ax.text(2.3, 0.4, "q: fake", color="dimgray")
show(fig, "Probability of being real against x. The learned curve follows the best possible one, p divided by p plus q, from 1 at the left, where only reals "
     "occur, over one half in the middle to nearly 0 at the right, where fakes are far more frequent.")  # fmt: skip

# %%
common = (density_p + density_q) > 0.05  # where there are examples to learn from
gap = (found - best).abs()[common].mean().item()
claim(
    "Where there are examples, the discriminator's probability is p / (p + q), to a few hundredths",
    gap < 0.05,
    f"mean difference {gap:.3f} over {int(common.sum())} places",
)

# %% [markdown]
# ## 4. What the generator wants (9 min)
#
# $G$ wants the opposite of $D$. The first idea is to take $D$'s own loss with the other sign. Only the second half of it depends on $G$. This is the **minimax** game:
#
# $$\min_G \max_D\; \mathbb{E}_{\mathbf{x}} \log \sigma(D(\mathbf{x})) + \mathbb{E}_{\mathbf{z}} \log\left(1 - \sigma(D(G(\mathbf{z})))\right)$$
#
# The second idea is to let $G$ call its fakes real. Same goal, another road: the **non-saturating** loss. With the logit $a = D(G(\mathbf{z}))$:
#
# | | loss of $G$ | its slope with respect to $a$ |
# |---|---|---|
# | minimax | $\log(1 - \sigma(a)) = -\text{softplus}(a)$ | $-\sigma(a)$ |
# | non-saturating | $-\log\sigma(a) = \text{softplus}(-a)$ | $-(1 - \sigma(a))$ |


# %% tags=["measure"]
def minimax(fake_logits):
    return -F.softplus(fake_logits).mean()


def non_saturating(fake_logits):
    return F.softplus(-fake_logits).mean()


# %% [markdown]
# At the start $G$ draws noise, and $D$ soon sees through it: $\sigma(a) \approx 0$. Put that into the table.
#
# Now the two networks, as Radford and others (2016) build them, so small that they suit 8 x 8 pixels. A **DCGAN** has convolutions only. $G$ grows the picture with transposed convolutions, $1 \to 2 \to 4 \to 8$ pixels a side. (Kernel 4 with stride 2 is divisible, so no checkerboard is built in: notebook 03, section 7.) $D$ is the same backwards, with **leaky ReLU**, which lets a fifth of a negative input through.


# %% tags=["measure"]
Z = 32  # how many random numbers make a picture


def make_generator(inputs=Z, width=32, norm=nn.BatchNorm2d):
    return nn.Sequential(
        nn.Unflatten(1, (inputs, 1, 1)),
        nn.ConvTranspose2d(inputs, 2 * width, kernel_size=2, bias=False), norm(2 * width), nn.ReLU(),
        nn.ConvTranspose2d(2 * width, width, kernel_size=4, stride=2, padding=1, bias=False), norm(width), nn.ReLU(),
        nn.ConvTranspose2d(width, 1, kernel_size=4, stride=2, padding=1), nn.Tanh(),
    )  # fmt: skip


def make_discriminator(channels=1, width=32, norm=nn.BatchNorm2d, activation=lambda: nn.LeakyReLU(0.2)):
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel_size=4, stride=2, padding=1), activation(),
        nn.Conv2d(width, 2 * width, kernel_size=4, stride=2, padding=1, bias=False), norm(2 * width), activation(),
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

# %% [markdown]
# **Before you run it:** $G$ is fresh and stays so, a poor start. $D$ learns, step by step, to see through it. After each step we look at the gradient that $G$ would get, from either loss. Which one is
# larger, and how do they change?
#
# <details><summary>Answer</summary>
#
# The better $D$ becomes, the smaller $\sigma(a)$, and with it the gradient of minimax: it saturates just when $G$ has the most to learn. The slope of the non-saturating loss goes to -1 instead. What $G$ gets from it
# passes through $D$, so it depends on $D$ too, but it does not die.
#
# </details>


# %%
def gradient_norm(generator, discriminator, loss):
    z = torch.randn(256, Z, device=device)
    gradients = torch.autograd.grad(loss(discriminator(generator(z))), list(generator.parameters()))
    return torch.cat([gradient.flatten() for gradient in gradients]).norm().item()


# %%
set_seed(4)
fresh, discriminator = small_weights(make_generator()), small_weights(make_discriminator())
optimizer = torch.optim.Adam(discriminator.parameters(), lr=1e-3, betas=(0.5, 0.999))
norms = {"minimax": [], "non-saturating": []}
for step in tqdm(range(PATIENCE + 1), desc="only D learns"):
    if step % 5 == 0:
        for name, loss in (("minimax", minimax), ("non-saturating", non_saturating)):
            norms[name].append(gradient_norm(fresh, discriminator, loss))
    real, z = images[torch.randint(len(images), (64,), device=device)], torch.randn(64, Z, device=device)
    loss = discriminator_loss(discriminator(real), discriminator(fresh(z).detach()))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# %%
fig, ax = plt.subplots()
ax.set_yscale("log")
curves(ax, norms, "steps that the discriminator has learned", "gradient norm of the generator", "Minimax leaves a poor generator without a gradient", x=range(0, PATIENCE + 1, 5))
show(fig, f"Gradient norm of a fresh generator, on a logarithmic axis, while only the discriminator learns. With the minimax loss it falls to {norms['minimax'][-1]:.1g}; "
     f"with the non-saturating loss it ends at {norms['non-saturating'][-1]:.1g}.")  # fmt: skip

# %%
ratio = norms["non-saturating"][-1] / norms["minimax"][-1]
claim(
    "Against a discriminator that sees through it, a poor generator gets a gradient over ten times as large from the non-saturating loss",
    ratio > 10,
    f"{ratio:.0f} times",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# The minimax loss is not useless: where both networks learn by turns, D is never so far ahead, and with batch normalisation it trains too (section 7 measures that). The experiment shows what happens when D gets ahead.
# Goodfellow et al. 2014 propose the second loss in the same paper, section 3.

# %% [markdown]
# ## 5. A DCGAN, live (12 min)
#
# All parts together. A GAN is two networks, two losses, two optimizers.
#
# - `.detach()` in $D$'s loss: $D$ learns from the fakes, and $G$ is left in peace.
# - `beta1 = 0.5` instead of Adam's usual 0.9: less inertia, as the opponent keeps moving (Radford et al. 2016).
# - `average`: a second generator, whose weights are a running mean of the first one's. It is not trained. Section 6 says what it is good for.


# %% tags=["measure"]
class GAN:
    def __init__(self, generator, discriminator, loss=non_saturating, lr=1e-3, beta1=0.5):
        self.generator, self.discriminator, self.loss = generator, discriminator, loss
        networks = generator, discriminator
        self.g_optimizer, self.d_optimizer = (torch.optim.Adam(network.parameters(), lr=lr, betas=(beta1, 0.999)) for network in networks)
        self.average = AveragedModel(generator, multi_avg_fn=get_ema_multi_avg_fn(0.99))

    def fake(self, num):
        return self.generator(torch.randn(num, Z, device=device))

    def d_loss(self, real):
        fake = self.fake(len(real)).detach()
        return discriminator_loss(self.discriminator(real), self.discriminator(fake))

    def g_loss(self, num):
        return self.loss(self.discriminator(self.fake(num)))


# %% [markdown]
# One step of each. They differ in a loss and an optimizer.


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
# And the game: by turns.


# %% tags=["measure"]
def play(gan, num_steps, data, batch_size=64, generator_steps=1, watch=None, every=100, progress="GAN"):
    """Both losses, (2, num_steps). data: tensors of equal length, the pictures first. watch(step) is called every so many steps."""
    losses = []
    for step in tqdm(range(1, num_steps + 1), desc=progress, disable=progress is None):
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


# %%
# extra code: what we look at while a GAN is trained; always with the same z
class Watch:
    def __init__(self, gan, shown="averaged"):
        self.gan, self.shown, self.z = gan, shown, torch.randn(1000, Z, device=device)
        self.steps, self.pictures, self.shares, self.verdicts = [], {}, [], {"last": [], "averaged": []}
        self(0)

    def __call__(self, step):
        self.steps.append(step)
        for name, generator in (("last", self.gan.generator), ("averaged", self.gan.average)):
            pictures = sample(generator, self.z)
            self.verdicts[name].append(verdict(pictures))
            if name == self.shown:
                self.pictures[step] = pictures[:16]
                self.shares.append(judge(pictures).argmax(dim=1).bincount(minlength=10).cpu() / len(pictures))

    def line(self, what, name=None):
        return [said[what] for said in self.verdicts[name or self.shown]]


# %% [markdown]
# **Before you run it:** the same 16 random vectors, drawn by the generator at step 0, 100, 200, and so on. When will you recognise the first digit? Will a vector that makes a 3 at step 500 still make a 3 at the end?
#
# <details><summary>Answer</summary>
#
# Strokes come within the first hundreds of steps, digits soon after. And a vector need not keep its digit: nothing says which $\mathbf{z}$ is to be which digit, and early on they wander.
#
# </details>

# %%
set_seed(5)
gan = GAN(small_weights(make_generator()), small_weights(make_discriminator()))
watch = Watch(gan)
d_losses, g_losses = play(gan, MAIN_STEPS, [images], watch=watch, every=50, progress="DCGAN")

# %%
snapshots = [step for step in (0, 100, 200, 500, 1000, MAIN_STEPS) if step in watch.pictures]
rows = {f"step {step:,}": watch.pictures[step] for step in snapshots} | {"real digits": images[:16]}
show(wall(rows, "From noise to digits, without a single label"),
     f"The same 16 random vectors in each row, drawn by the generator at steps {', '.join(map(str, snapshots))}: grey, then blots, then strokes, then digits. "
     "The last row shows real digits.")  # fmt: skip

# %%
recognised, classes = watch.line("recognised"), watch.line("classes")
claim(
    "Without labels the generator has learned to draw: its pictures are recognised more often than one Gaussian's, and all ten digits occur",
    recognised[-1] > one + 0.1 and classes[-1] > 9,
    f"recognised {recognised[-1]:.0%} (one Gaussian: {one:.0%}), effective number of classes {classes[-1]:.1f}",
)

# %% [markdown]
# ## 6. What the losses tell, and what not (12 min)
#
# For a classifier we watch the loss: it falls, good. Here are the two losses of the run above, and beside them what the judge said meanwhile.
#
# **Before you run it:** the pictures became better all the time. What do you expect of the generator's loss?
#
# <details><summary>Answer</summary>
#
# It falls at the very start, and then it rather rises. It is measured by the discriminator, which learns as well: the yardstick grows with what it measures. A low loss of $G$ may as well mean that $D$ is bad.
#
# </details>


# %%
def smooth(losses, width=50):
    return losses.unfold(0, width, width).mean(dim=1)


fig, axes = plt.subplots(1, 2, figsize=(13, 4.5))
middle = 25 + 50 * np.arange(len(smooth(d_losses)))
curves(axes[0], {"D": smooth(d_losses), "G": smooth(g_losses)}, "step", "loss (means of 50 steps)", "The losses: is this good?", x=middle)
axes[1].set_ylim(0, 1.05)
lines = {"recognised": recognised, "classes / 10": np.array(classes) / 10}
curves(axes[1], lines, "step", "share", "The judge: it is", x=watch.steps)
axes[1].yaxis.set_major_formatter(PercentFormatter(1))
show(fig, f"Left: both losses against the step; neither falls to zero, and the generator's ends at {smooth(g_losses)[-1]:.1f}. Right: the share of pictures that the judge "
     f"recognises climbs to {recognised[-1]:.0%}, and the classes to nearly all ten.")  # fmt: skip

# %%
quarter = watch.steps.index(MAIN_STEPS // 4)
g_early = g_losses[MAIN_STEPS // 5 : 3 * MAIN_STEPS // 10].mean().item()
g_late = g_losses[-MAIN_STEPS // 10 :].mean().item()
claim(
    "From a quarter of the training on the generator's loss grows, and yet its pictures become better",
    g_late > g_early and recognised[-1] - recognised[quarter] > 0.05,
    f"loss {g_early:.2f}, then {g_late:.2f}; recognised {recognised[quarter]:.0%}, then {recognised[-1]:.0%}",
)

# %% [markdown]
# At the theory's end point, where $p = q$, $D$ can only say ½: then $\mathrm{d\_loss} = 2 \log 2 \approx 1.39$ and $\mathrm{g\_loss} = \log 2 \approx 0.69$. Ours do not arrive there. They do not need to.
#
# ### The averaged generator
#
# The two never come to rest: what $G$ does well today, $D$ has learned to see through tomorrow. So the generator wobbles around a good place. The remedy is a running mean of its weights,
#
# $$\text{average} \leftarrow 0.99\;\text{average} + 0.01\;\text{generator}$$
#
# which costs next to nothing and is used in most large GANs (Yazıcı et al. 2019). Here are both, judged by the inception score, that is quality and coverage in one.

# %%
fig, ax = plt.subplots()
scores = {"averaged": watch.line("score"), "last": watch.line("score", "last")}
curves(ax, scores, "step", "score (10 is perfect)", "Averaged weights draw better than the last ones", x=watch.steps)
show(fig, "Inception score with our judge against the step, for the generator with averaged weights and for the one with the last weights: after the first steps the averaged one is mostly the higher, and the smoother of the two.")

# %%
late = len(watch.steps) // 2
means = {name: np.mean(values[late:]) for name, values in scores.items()}
claim(
    "Over the second half of the training the averaged generator has the higher score",
    bool(means["averaged"] > means["last"]),
    f"{means['averaged']:.2f} against {means['last']:.2f}",
)

# %% [markdown]
# ### Has it learned by heart?
#
# Below each of 16 drawings stands the training digit that is most similar to it.

# %%
set_seed(6)
made = sample(gan.average, torch.randn(1000, Z, device=device))
nearest = images[distance(made[:16]).indices]
show(wall({"drawn": made, "most similar": nearest}, "Related to training digits, not copied from them"),
     "Sixteen drawings of the generator, and below each the most similar training digit: often the same digit, never the same picture.")  # fmt: skip

# %%
claim(
    "The generator does not copy: its pictures are at least as far from the training digits as real new digits are",
    newness(made) > 0.95,
    f"{newness(made):.2f} times as far; the copying machine: {copied['new']:.2f} times",
)

# %% [markdown]
# And now the honest comparison. All that has drawn so far, on one list:

# %%
everybody = {"real, unseen": test_images} | drawn | {"DCGAN": made, "copying machine": copies}
for name, pictures in everybody.items():
    said = verdict(pictures)
    print(f"{name:18} recognised {said['recognised']:4.0%}   classes {said['classes']:4.1f}   score {said['score']:.1f}   new {newness(pictures):.2f}")

# %% [markdown]
# On 64 pixels the mixture of Gaussians wins, and in a fraction of a second. That is not a mistake of this notebook. A GAN is for pictures whose density nobody can write down; small digits are what we can train during a lesson. **Always
# compare with the simplest thing that could work.** (More than 1 in the last column is no merit: noise has most of it.)

# %%
claim(
    "On 8 x 8 digits a mixture of 30 Gaussians is recognised more often than our DCGAN",
    verdict(drawn["30 Gaussians"])["recognised"] > verdict(made)["recognised"],
    f"{verdict(drawn['30 Gaussians'])['recognised']:.0%} against {verdict(made)['recognised']:.0%}",
)

# %% [markdown]
# ## 7. The tricks, removed one at a time (15 min)
#
# GANs came with a bag of tricks. Each has its reason. Does each matter here? We remove them one at a time, everything else stays. Batch normalisation goes first, live. (Without it the small weights of
# the paper would let every signal die out, so these two networks start with PyTorch's own.)


# %% tags=["measure"]
def no_norm(channels):
    return nn.Identity()


def without_batch_norm():
    return GAN(make_generator(norm=no_norm).to(device), make_discriminator(norm=no_norm).to(device))


# %% [markdown]
# **Before you run it:** which of the two networks will be ahead of the other? What will the pictures look like?
#
# <details><summary>Answer</summary>
#
# The discriminator: its loss falls, the generator's rises. The pictures are poor, and they resemble one another: few of the ten digits occur. Batch normalisation in $G$ also sees to it that the pictures of a batch differ.
#
# </details>

# %%
set_seed(7)
bare = without_batch_norm()
bare_watch = Watch(bare)
bare_losses = play(bare, SHORT_STEPS, [images], watch=bare_watch, progress="no batch norm")

# %%
same = watch.steps.index(SHORT_STEPS)
rows = {"with batch norm": watch.pictures[SHORT_STEPS], "without": bare_watch.pictures[SHORT_STEPS]}
show(wall(rows, f"After {SHORT_STEPS} steps, with batch normalisation and without"),
     f"Sixteen drawings after {SHORT_STEPS} steps of the GAN with batch normalisation, and of the one without: those without are crude and resemble one another.")  # fmt: skip

# %%
with_it, without_it = watch.verdicts["averaged"][same], bare_watch.verdicts["averaged"][-1]
claim(
    "Without batch normalisation the same GAN draws worse, and fewer of the ten digits",
    with_it["score"] > without_it["score"] + 1 and with_it["classes"] > without_it["classes"] + 1,
    f"after {SHORT_STEPS} steps: score {with_it['score']:.1f} against {without_it['score']:.1f}, classes {with_it['classes']:.1f} against {without_it['classes']:.1f}; "
    f"without it the losses end at {bare_losses[0][-50:].mean():.1f} for D and {bare_losses[1][-50:].mean():.1f} for G",
)

# %% [markdown]
# The others, measured earlier: 1,000 steps each, five seeds.
#
# | removed | instead | why it is said to matter |
# |---|---|---|
# | batch normalisation | none (and PyTorch's weights) | keeps signals and gradients in range; pictures of a batch differ |
# | small weights | PyTorch's own | the paper's starting point |
# | `beta1 = 0.5` | Adam's usual 0.9 | inertia towards where the opponent was |
# | non-saturating loss | minimax | gradient at a poor start (section 4) |
# | leaky ReLU in $D$ | ReLU | a gradient for $G$ through every unit |
# | separate batches, real and fake | $D$ learns from one batch of both | each batch is normalised by its own kind alone |
# | separate batches, for G too | the same, and $G$'s fakes too meet $D$ in a batch with reals | |
# | averaged weights | the last ones | wobble (section 6) |


# %% tags=["measure"]
class OneBatch(GAN):
    def d_loss(self, real):
        logits = self.discriminator(torch.cat([real, self.fake(len(real)).detach()]))
        return discriminator_loss(*logits.chunk(2))


class OneBatchForBoth(OneBatch):
    def g_loss(self, num):
        real = images[torch.randint(len(images), (num,), device=device)]
        logits = self.discriminator(torch.cat([real, self.fake(num)]))
        return self.loss(logits[num:])


def gan_without(trick):
    """A DCGAN with all tricks but this one."""
    init = (lambda network: network.to(device)) if trick == "small weights" else small_weights
    activation = nn.ReLU if trick == "leaky ReLU" else lambda: nn.LeakyReLU(0.2)
    networks = init(make_generator()), init(make_discriminator(activation=activation))
    if trick == "batch normalisation":
        return without_batch_norm()
    if "separate batches" in trick:
        return (OneBatch if trick == "separate batches" else OneBatchForBoth)(*networks)
    changes = {"beta1 = 0.5": {"beta1": 0.9}, "non-saturating loss": {"loss": minimax}}
    return GAN(*networks, **changes.get(trick, {}))


# %%
tricks = measured("gan_tricks")


# %%
# extra code: a dot a seed, worst at the bottom
def tricks_figure():
    rows = [row for row in tricks if row["steps"] == 1000]
    ways = sorted({row["removed"] for row in rows}, key=lambda way: np.median([row["score"] for row in rows if row["removed"] == way]))
    fig, axes = plt.subplots(1, 2, figsize=(13, 5.5), sharey=True)
    for ax, what, label in zip(axes, ("recognised", "classes"), ("recognised by the judge", "effective number of classes"), strict=True):
        for place, way in enumerate(ways):
            values = [row[what] for row in rows if row["removed"] == way]
            ax.plot(values, [place] * len(values), "o", markersize=9, alpha=0.7, color="C1" if way == "nothing" else "C0")
        ax.set_xlabel(label + ", a dot a seed")
    axes[0].set(yticks=range(len(ways)), yticklabels=[f"without {way}" if way != "nothing" else "with all tricks" for way in ways], xlim=(-0.03, 1.03))
    axes[0].xaxis.set_major_formatter(PercentFormatter(1))
    axes[1].set_xlim(-0.3, 10.3)
    fig.suptitle("Not every trick is missed", fontweight="bold", fontsize=17, x=0.01, ha="left")
    return fig, ways


fig, ways = tricks_figure()
show(fig, f"Share of recognised pictures and effective number of classes after 1,000 steps with one trick removed, five seeds each. The worst is without {ways[0]}, "
     f"the best {'with all tricks' if ways[-1] == 'nothing' else 'without ' + ways[-1]}.")  # fmt: skip

# %% [markdown]
# Minimax, plain ReLU, PyTorch's own weights, the last weights: on digits this small they do no harm, or hardly any, and two of them are even a little better. Adam's usual inertia does harm, so does missing batch normalisation, and nothing is as bad as one batch of both.
#
# **Why is one batch of both so bad?** Not because of the batch. $D$ learns where reals and fakes are normalised together. But when $G$ asks, it sees fakes alone, normalised by other numbers, and its answer means nothing. Where $G$'s fakes
# meet $D$ among reals too, all is nearly well again. So the advice has a reason that goes beyond GANs: **ask a network with batch normalisation only about the kind of batches that it has learned from.**

# %% [markdown] slideshow={"slide_type": "notes"}
# Let the class rank the tricks before the figure. The lesson is not that the tricks are wrong. They were found on larger pictures and deeper networks. It is that one measures on one's own problem which of them carry the weight.

# %% [markdown]
# ## 8. Mode collapse (10 min)
#
# What should $G$ do if $D$ stands still? Look for the one picture that $D$ believes most, and draw it always:
#
# $$\min_G\; \mathbb{E}_{\mathbf{z}}\,\text{softplus}(-D(G(\mathbf{z}))) \quad\text{is solved by}\quad G(\mathbf{z}) = \arg\max_{\mathbf{x}} D(\mathbf{x}) \;\text{ for every } \mathbf{z}$$
#
# Nothing in this loss asks for variety. Only $D$'s **answer** does: it learns that this one picture is fake, and $G$ must move on. If $G$ is much faster than $D$, it runs from one favourite to the next. This is **mode collapse**. It did not happen
# in section 5. We provoke it, and change one number: **ten steps of $G$ for each of $D$**.
#
# **Before you run it:** what will the judge say of quality? Of coverage?
#
# <details><summary>Answer</summary>
#
# Coverage breaks down to a few classes at a time, often to one. Quality jumps about: what the judge thinks of one picture it thinks of many, as they are nearly the same. At some looks it recognises hardly any, at others many of them. Whoever
# asks for quality only, and asks at the right time, calls this a success.
#
# </details>

# %%
set_seed(8)
greedy = GAN(small_weights(make_generator()), small_weights(make_discriminator()))
greedy_watch = Watch(greedy, shown="last")
greedy_losses = play(greedy, COLLAPSE_STEPS, [images], generator_steps=10, watch=greedy_watch, every=COLLAPSE_STEPS // 10, progress="collapse")

# %%
rows = {f"step {step}": greedy_watch.pictures[step] for step in greedy_watch.steps[1:]}
show(wall(rows, "One or a few pictures for all random numbers, and then others"),
     f"Sixteen different random vectors in each row, a row after every {COLLAPSE_STEPS // 10} steps of the discriminator: a row repeats one picture or a few, and they change together from row to row.")  # fmt: skip


# %%
# extra code: which digits are drawn, and when
def shares_figure():
    fig, axes = plt.subplots(1, 2, figsize=(13, 4.3), sharey=True)
    for ax, seen, title in zip(axes, (watch, greedy_watch), ("healthy: all ten", "collapsed: a few at a time"), strict=True):
        shares = torch.stack(seen.shares[1:]).T
        picture = ax.imshow(shares, aspect="auto", cmap="viridis", norm=PowerNorm(0.5, 0, 1), origin="lower", extent=(0.5, len(seen.steps) - 0.5, -0.5, 9.5))
        ax.set(title=title, xlabel="look at the generator, from first to last", yticks=range(10), xticks=range(1, len(seen.steps), 1 if len(seen.steps) < 12 else 3))
        ax.grid(False)
    axes[0].set_ylabel("digit, says the judge")
    fig.colorbar(picture, ax=axes, label="share of the pictures")
    return fig


show(shares_figure(), "Share of each digit among the drawings, over the training. Left, the DCGAN of section 5: about a tenth each. Right, with ten generator steps for one of the discriminator: "
     "at each time a few digits have nearly everything, and then others.")  # fmt: skip

# %%
greedy_classes, best_look = np.array(greedy_watch.line("classes")[3:]), max(greedy_watch.line("recognised"))
claim(
    "With ten generator steps for one of the discriminator, fewer than 4 of the ten classes remain",
    bool(np.median(greedy_classes) < 4),
    f"median {np.median(greedy_classes):.1f} of 10; the best look had {best_look:.0%} recognised",
)

# %% [markdown]
# Could you have told it from the losses? Here are the last of both games. (And those of the theory's end point, of section 6: $2 \log 2$ and $\log 2$.)
#
# **Before you run it:** which of the two games will be closer to the theory?
#
# <details><summary>Answer</summary>
#
# The collapsed one. Its $D$ says about ½ to everything: it is too far behind to tell real from fake. In the losses that looks the same as if there were nothing to tell.
#
# </details>

# %%
ends = {name: [loss[-30:].mean().item() for loss in losses] for name, losses in {"healthy": (d_losses, g_losses), "collapsed": greedy_losses}.items()}
for name, (d, g) in (ends | {"in theory": (2 * np.log(2), np.log(2))}).items():
    print(f"{name:10} D {d:.2f}   G {g:.2f}")

# %%
claim(
    "The losses of the collapsed game are those of the theory's end point, where all is learned",
    abs(ends["collapsed"][0] - 2 * np.log(2)) < 0.05 and abs(ends["collapsed"][1] - np.log(2)) < 0.05,
    f"D {ends['collapsed'][0]:.2f}, G {ends['collapsed'][1]:.2f}; healthy: D {ends['healthy'][0]:.2f}, G {ends['healthy'][1]:.2f}",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Cover the names and let the class guess which game is the healthy one. Then go back to the two pictures: coverage is what shows it.

# %% [markdown]
# How fast is too fast? And what if batch normalisation is missing as well, which keeps the pictures of a batch apart? Measured earlier, on five seeds, 600 steps of the generator each:

# %%
collapse = measured("gan_collapse")


# %%
# extra code: classes against generator steps, one line with batch normalisation and one without
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
# Each of the two takes digits away: a generator that is too fast, and a missing normalisation. Together they leave hardly more than one.
#
# Remedies go for the cause. $D$ may look at whole batches, and see that they lack variety (minibatch discrimination, Salimans et al. 2016; one extra channel with the standard deviation over the batch, Karras et al. 2018). Or $G$ gets a loss that does not
# saturate even against a $D$ that is trained to its end (Wasserstein GAN, Arjovsky et al. 2017).

# %% [markdown]
# ## 9. A walk in latent space (10 min)
#
# Each $\mathbf{z}$ is a picture, and the space of all $\mathbf{z}$ is called the **latent space**. What lies **between** two of them? If $G$ had learned 1,200 pictures by heart, there would be nothing sensible in between.
#
# Two roads lead from $\mathbf{z}_0$ to $\mathbf{z}_1$. The straight one (lerp), $(1-t)\,\mathbf{z}_0 + t\,\mathbf{z}_1$, and the arc (slerp, White 2016):
#
# $$\text{slerp}(\mathbf{z}_0, \mathbf{z}_1, t) = \frac{\sin((1-t)\,\omega)}{\sin\omega}\,\mathbf{z}_0 + \frac{\sin(t\,\omega)}{\sin\omega}\,\mathbf{z}_1, \qquad \omega = \text{angle between them}$$


# %%
def lerp(z0, z1, t):
    return (1 - t) * z0 + t * z1


def slerp(z0, z1, t):
    omega = torch.acos(F.cosine_similarity(z0, z1, dim=-1)).unsqueeze(-1)
    return (torch.sin((1 - t) * omega) * z0 + torch.sin(t * omega) * z1) / torch.sin(omega)


# %% [markdown]
# Why an arc? In 32 dimensions nearly all Gaussian vectors have about the same length, $\sqrt{32} \approx 5.7$: they lie on a shell. The straight road cuts through the inside, where $G$ has hardly ever been asked for anything. The middle
# of two independent vectors has only $1/\sqrt{2} \approx 0.71$ of the length.

# %%
set_seed(9)
z0, z1 = torch.randn(2, 1000, Z, device=device)
lengths = {road.__name__: (road(z0, z1, 0.5).norm(dim=1).mean() / z0.norm(dim=1).mean()).item() for road in (lerp, slerp)}
claim(
    "Half-way on the straight road, latent vectors are three tenths shorter; on the arc they keep their length",
    abs(lengths["lerp"] - 0.5**0.5) < 0.05 and abs(lengths["slerp"] - 1) < 0.05,
    f"{lengths['lerp']:.2f} and {lengths['slerp']:.2f} of the length",
)


# %%
# extra code: the two ends are drawings that the judge takes for different digits and is sure of
def ends_of_a_walk():
    z = torch.randn(2000, Z, device=device)
    confidence, digit = judge(sample(gan.average, z)).softmax(dim=1).max(dim=1)
    start = confidence.argmax()
    others = torch.where(digit != digit[start], confidence, 0)
    return z[start], z[others.argmax()]


def walk(road, ts):
    if road == "pixels":  # no latent space at all: one picture fades into the other
        first, last = sample(gan.average, torch.stack([start, end]))
        return torch.stack([lerp(first, last, t) for t in ts])
    return sample(gan.average, torch.stack([{"slerp": slerp, "lerp": lerp}[road](start, end, t) for t in ts]))


set_seed(10)
start, end = ends_of_a_walk()


# %%
def draw_walk(road, t):
    ts = [step / 10 for step in range(11)]
    pictures, here = walk(road, ts), ts.index(t)
    confidence, digit = judge(pictures[here : here + 1]).softmax(dim=1).max(dim=1)
    fig, axes = plt.subplots(1, 11, figsize=(12, 2.3))
    for ax, picture, when in zip(axes, pictures, ts, strict=True):
        ax.imshow(picture[0].cpu(), cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
        ax.set_title(f"{when:g}", loc="center", fontsize=13, color="C1" if when == t else "black")
        ax.axis("off")
    fig.supxlabel(f"t = {t:g}: the judge says {digit.item()}, {confidence.item():.0%} sure", fontsize=15)
    fig.suptitle(f"{road}: from one digit to another", fontweight="bold", x=0.01, ha="left")
    return fig, f"Eleven pictures on the way ({road}) from one drawn digit to another; at t = {t:g} the judge says {digit.item()} and is {confidence.item():.0%} sure."


explore(draw_walk, road=["slerp", "lerp", "pixels"], t=[0.5] + [step / 10 for step in range(11) if step != 5])

# %% [markdown]
# **Before you run it:** a thousand pairs, and the picture half-way. On which road does the judge recognise it most often: on the arc, on the straight road, or where two pictures simply fade into each other?
#
# <details><summary>Answer</summary>
#
# Fading is worst: two digits on top of each other are not a digit. Both roads through the latent space do much better: half-way there is again a digit, or nearly. Between lerp and slerp the difference is small here.
#
# </details>

# %%
first, last = sample(gan.average, z0), sample(gan.average, z1)
halfway = {"slerp": sample(gan.average, slerp(z0, z1, 0.5)), "lerp": sample(gan.average, lerp(z0, z1, 0.5)), "pixels": (first + last) / 2}
halfway = {road: verdict(pictures)["recognised"] for road, pictures in halfway.items()}
claim(
    "Half-way through the latent space there is a digit far more often than half-way between two pictures",
    halfway["slerp"] - halfway["pixels"] > 0.1,
    ", ".join(f"{road} {share:.0%}" for road, share in halfway.items()) + f"; at the ends {verdict(first)['recognised']:.0%}",
)

# %% [markdown]
# ## 10. Tell it what to draw (12 min)
#
# So far $G$ draws what it likes. Now we use the labels: a **conditional GAN** (Mirza & Osindero 2014). Both networks are told the digit. $G$ should draw it. $D$ asks: is this a real **picture of a 3**? A fine 7 is then a fake.
#
# How does one tell a network? The label becomes ten numbers, one of them 1 (**one-hot**). $G$ gets them as ten more random numbers that are not random. $D$ gets them as ten more channels, each all 0 or all 1. The same function does both:


# %% tags=["measure"]
def with_label(x, labels):
    """x (N, C, ...) with ten more channels: ones in that of the label, zeros in the others."""
    one_hot = F.one_hot(labels, 10).float().reshape(len(x), 10, *[1] * (x.ndim - 2))
    return torch.cat([x, one_hot.expand(-1, -1, *x.shape[2:])], dim=1)


# %%
# NBVAL_CHECK_OUTPUT
print(tuple(with_label(torch.zeros(5, Z), torch.arange(5)).shape), tuple(with_label(torch.zeros(5, 1, 8, 8), torch.arange(5)).shape))

# %% [markdown]
# The rest is the GAN of section 5 with the label handed through. Networks: the same, with ten more inputs.


# %% tags=["measure"]
class ConditionalGAN(GAN):
    def __init__(self):
        super().__init__(small_weights(make_generator(inputs=Z + 10)), small_weights(make_discriminator(channels=1 + 10)))

    def fake(self, labels):
        return self.generator(with_label(torch.randn(len(labels), Z, device=device), labels))

    def d_loss(self, real, labels):
        fake = self.fake(labels).detach()
        return discriminator_loss(self.discriminator(with_label(real, labels)), self.discriminator(with_label(fake, labels)))

    def g_loss(self, num):
        labels = torch.randint(10, (num,), device=device)
        return self.loss(self.discriminator(with_label(self.fake(labels), labels)))


def sample_digits(gan, labels):
    z = torch.randn(len(labels), Z, device=device)
    return sample(gan.average, with_label(z, labels))


# %% [markdown]
# **Before you run it:** we will ask for 100 of each digit, and the judge, which does not know what was asked, says what it sees. How often will they agree?
#
# <details><summary>Answer</summary>
#
# In nearly all cases, and with far fewer steps than the GAN of section 5 was given: labels make the task easier, for each class is simpler than all ten together.
#
# </details>

# %%
set_seed(11)
conditional = ConditionalGAN()
conditional_losses = play(conditional, SHORT_STEPS, [images, labels], progress="conditional")

# %%
asked = torch.arange(10, device=device).repeat_interleave(100)
answered = sample_digits(conditional, asked)
rows = {f"asked: {digit}": answered[asked == digit] for digit in range(10)}
show(wall(rows, "Digits to order"),
     "Ten rows of sixteen drawings; in each row one digit was asked for, from 0 to 9, and most drawings in it show that digit, in different handwritings.")  # fmt: skip

# %%
agree = (judge(answered).argmax(dim=1) == asked).float().mean().item()
claim("A conditional GAN draws the digit that it is asked for", agree > 0.9, f"the judge agrees on {agree:.0%} of {len(asked):,}")

# %% [markdown]
# ## 11. Do such digits help a classifier? (12 min)
#
# A tempting thought: real labelled pictures are few, so let a GAN draw more. Slides and papers promise it for small data sets. We measure it, fairly: the GAN gets **the same few** digits as the classifier, and no others.
#
# Three classifiers of the same form, all trained for as many steps and tested on the same real digits:
#
# - **real only**: the few digits;
# - **with samples**: half of each batch real, half drawn by a conditional GAN that was trained on the few;
# - **with moved copies**: half of each batch real, half the same digits, turned and shifted a little (augmentation, notebook 06).


# %% tags=["measure"]
def moved(pictures):
    """Each picture turned by up to 15 degrees and shifted by up to 0.6 pixels, at random."""
    angle = (torch.rand(len(pictures), device=device) - 0.5) * 2 * np.pi / 12
    theta = torch.stack([torch.cos(angle), -torch.sin(angle), torch.sin(angle), torch.cos(angle)], dim=1).reshape(-1, 2, 2)
    shift = (torch.rand(len(pictures), 2, 1, device=device) - 0.5) * 0.3
    grid = F.affine_grid(torch.cat([theta, shift], dim=2), list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures + 1, grid, align_corners=False) - 1  # outside it is black, -1


def no_more(chosen, few, few_labels):
    return few[chosen], few_labels[chosen]


# %% tags=["measure"]
def train_reader(seed, few, few_labels, more, num_steps=400):
    """Share of the test digits that a classifier reads. more(chosen, few, few_labels) gives the second half of each batch."""
    torch.manual_seed(seed)
    reader = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)).to(device)
    optimizer = torch.optim.Adam(reader.parameters(), lr=1e-3)
    for _ in range(num_steps):
        chosen, others = torch.randint(len(few), (2, 32), device=device)
        more_pictures, more_labels = more(others, few, few_labels)
        loss = F.cross_entropy(reader(torch.cat([few[chosen], more_pictures])), torch.cat([few_labels[chosen], more_labels]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (reader(test_images).argmax(dim=1) == test_labels).float().mean().item()


# %% tags=["measure"]
def few_digits(num, seed):
    """The places of num training digits, as many of each class."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).to(device)
    return torch.cat([order[labels[order] == digit][: num // 10] for digit in range(10)])


def gan_of_few(seed, few, few_labels, num_steps=600, progress="GAN of few"):
    torch.manual_seed(seed)
    gan = ConditionalGAN()
    play(gan, num_steps, [few, few_labels], progress=progress)
    return gan


def samples_of(gan):
    drawn_labels = torch.randint(10, (2000,), device=device)
    drawn_pictures = sample_digits(gan, drawn_labels)
    return lambda chosen, *few: no_more(torch.randint(2000, chosen.shape, device=device), drawn_pictures, drawn_labels)


def moved_copies(chosen, few, few_labels):
    return moved(few[chosen]), few_labels[chosen]


# %% [markdown]
# **Before you run it:** 100 real digits, ten of each. Which of the three reads new digits best?
#
# <details><summary>Answer</summary>
#
# A GAN of 100 digits knows nothing that is not in the 100 digits; what it draws is at best as good as they are, and some of it is wrong. Moved copies do know something more: that a digit, turned a little, stays the same digit. That we
# told them. Now see what comes out.
#
# </details>

# %%
chosen = few_digits(100, seed=10 * course_seed)
few, few_labels = images[chosen], labels[chosen]
few_gan = gan_of_few(10 * course_seed, few, few_labels, num_steps=FEW_STEPS)
ways = {"real only": no_more, "with samples": samples_of(few_gan), "with moved copies": moved_copies}
right = {name: [train_reader(10 * course_seed + k, few, few_labels, more) for k in range(3)] for name, more in ways.items()}
for name, shares in right.items():
    print(f"{name:18} " + ", ".join(f"{share:.1%}" for share in shares) + " of new digits right")

# %%
claim(
    "From 100 real digits, samples of a GAN that has seen no others add less than 2 points to what a classifier reads",
    np.mean(right["with samples"]) - np.mean(right["real only"]) < 0.02,
    ", ".join(f"{name} {np.mean(shares):.1%}" for name, shares in right.items()) + " (means of three classifiers)",
)

# %% [markdown]
# One draw of 100 digits proves little. Measured earlier: 50 to 400 digits, five draws of each. The fourth way is a **cheat**, and shows what to beware of in reports: its GAN was trained on all 1,200 labelled digits, of which the
# classifier is said to have only a few.

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
    curves(ax, lines, "real labelled digits, fewer and fewer", "right on new digits", "What more pictures are worth depends on where they come from", x=nums)
    ax.set_xticks(nums, labels=nums)
    ax.minorticks_off()
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return fig, lines


fig, lines = few_figure()
gains = {way: np.median(np.array(values) - np.array(lines["real only"]), axis=0) for way, values in lines.items()}
show(fig, "Accuracy on new digits against the number of real labelled digits, medians and ranges of five draws. Median gain over real only, from the most digits to the fewest: "
     + "; ".join(f"{way} {', '.join(f'{100 * gain:+.1f}' for gain in values)} points" for way, values in gains.items() if way != "real only") + ".")  # fmt: skip

# %% [markdown]
# Samples of a GAN that saw only the few digits are worth nothing here, and with 400 digits they cost a little. Moved copies help a little where digits are fewest. The cheat helps most, and the more the fewer digits the classifier is said to
# have: what helps are the labels of the others.

# %% [markdown] slideshow={"slide_type": "notes"}
# Where synthetic pictures do help: where the generator brings knowledge from elsewhere (trained on many unlabelled pictures, or a large text-to-image model), or where privacy forbids to hand on the real ones. The cheat is the first of these in disguise.

# %% [markdown]
# ## 12. Exercises (45 min)
#
# Write your answer in place of the dots and run the cell: the check tells you what it expected and what came. Stuck? Take away the `#` in the cell below it.
#
# **Exercise 1: the discriminator's loss, as libraries write it.** The same loss as `discriminator_loss`, with `F.binary_cross_entropy_with_logits` and targets of ones and zeros: mean over the reals plus mean over the fakes. Then, with
# `smooth = 0.1`, the targets of the **reals** become $1 - \text{smooth}$, and those of the fakes stay 0 (one-sided label smoothing, Salimans et al. 2016).


# %%
def smooth_discriminator_loss(real_logits, fake_logits, smooth=0.0):
    ...


exercises.smooth_discriminator_loss.check(smooth_discriminator_loss)

# %% slideshow={"slide_type": "skip"}
# exercises.smooth_discriminator_loss.hint()
# exercises.smooth_discriminator_loss.solution()

# %% [markdown]
# **Exercise 2: how many classes?** From the judge's `logits` (N, C) for N pictures, the effective number of classes: turn them into answers, count, and take the exponential of the entropy of the shares. A class that never occurs counts as
# $0 \log 0 = 0$. Return a number (float).


# %%
def effective_classes(logits):
    ...


exercises.effective_classes.check(effective_classes)

# %% slideshow={"slide_type": "skip"}
# exercises.effective_classes.hint()
# exercises.effective_classes.solution()

# %% [markdown]
# **Exercise 3: the average, by hand.** Without `AveragedModel`: after each step, every parameter of `average` becomes $\text{decay} \cdot \text{average} + (1 - \text{decay}) \cdot \text{model}$, in place. Its buffers (batch normalisation's statistics) are
# copied as they are. Return `average`.


# %%
def update_average(average, model, decay=0.99):
    ...


exercises.update_average.check(update_average)

# %% slideshow={"slide_type": "skip"}
# exercises.update_average.hint()
# exercises.update_average.solution()

# %% [markdown]
# **Exercise 4: a discriminator that sees batches.** Against collapse: append one channel to `x` (N, C, H, W) that holds everywhere the same number, the standard deviation over the batch, `unbiased=False`, averaged over all channels and places (Karras et al. 2018). Where all
# pictures are alike it is 0. Return (N, C + 1, H, W).


# %%
def with_batch_std(x):
    ...


exercises.with_batch_std.check(with_batch_std)

# %% slideshow={"slide_type": "skip"}
# exercises.with_batch_std.hint()
# exercises.with_batch_std.solution()

# %% [markdown]
# **Exercise 5: a step of a critic.** In a Wasserstein GAN (Arjovsky et al. 2017) $D$ is a **critic**: it gives any number, high for reals and low for fakes. Its loss is the mean of the fakes' numbers minus the mean of the reals'. After the optimizer's step, all
# its parameters are clipped to $[-c, c]$, in place. Write one whole step, which leaves the generator in peace, and return the loss (float).


# %%
def critic_step(critic, optimizer, real, fake, c=0.01):
    ...


exercises.critic_step.check(critic_step)

# %% slideshow={"slide_type": "skip"}
# exercises.critic_step.hint()
# exercises.critic_step.solution()

# %% [markdown]
# **Exercise 6: a generator for any size.** Build a DCGAN generator for pictures of `side` pixels, a power of two from 8 on: input (N, `z_dim`), output (N, `channels`, `side`, `side`) between -1 and 1. A first transposed convolution makes $4 \times 4$ pixels,
# then each doubles the side (kernel 4, stride 2, padding 1). Channels: the last but one has `width`, each before it twice as many. Batch normalisation and ReLU after each, but not after the last, which has `Tanh`. No bias before a batch
# normalisation.


# %%
def any_generator(z_dim, side, channels, width):
    ...


exercises.any_generator.check(any_generator)

# %% slideshow={"slide_type": "skip"}
# exercises.any_generator.hint()
# exercises.any_generator.solution()

# %% [markdown]
# ## 13. Lab: coverage of all ten digits (30 min and more)
#
# Quality is half of the job. Write `train_artist(images, labels)`. It gets the 1,200 training digits as they are here, (N, 1, 8, 8) from -1 to 1, on the CPU. It trains whatever you like, for at most **60 seconds on one core**, and
# returns a **generator**: an `nn.Module` that makes of `z` (N, 32), from a standard Gaussian, N pictures (N, 1, 8, 8).
#
# The check draws 2,000 `z`, and scores the pictures on digits that no network has seen. A held-out digit is **covered** if one of your pictures is closer to it than its 5th nearest neighbour among the training digits is (Naeem et al. 2020). Your score is the
# share covered **in the worst of the ten classes**. Two rules:
#
# - **no copying**: your pictures must be about as far from the training digits as new real digits are (at least 0.9 times);
# - **no rubbish**: a judge (not the one of section 2) must recognise at least half of them.
#
# **40 % is good, 75 % is very good.** (One Gaussian leaves whole digits out.) The averaged generator of section 5 is a start. You have the labels, and may use them.


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
# - Generative modelling learns how data are distributed, without labels. One Gaussian for 64 pixels smears; a mixture of 30 draws digits, and on so small pictures it is hard to beat.
# - A generator needs no density. It learns from a discriminator, and that one learns the ratio of two densities.
# - At a poor start the minimax loss gives hardly any gradient. The non-saturating loss does.
# - The losses of a GAN do not say how good it is: both sides move. A judge does, if it is asked for quality, coverage and newness. Each alone can be cheated.
# - The mean of the weights of many steps draws better than the weights of the last.
# - Not every trick is missed everywhere. Here batch normalisation is, and batches that $D$ knows.
# - A generator that runs ahead of its discriminator collapses: a few pictures for all random numbers. The losses do not show it.
# - Between two latent vectors there are digits; between two pictures there are not.
# - A conditional GAN draws what it is asked for. What it has learned from few pictures is in those few pictures.
#
# The claims of this run, with their figures:

# %%
summary()

# %% [markdown]
# ### Lecture topics
#
# | topic | section | lectures |
# |---|---|---|
# | N1 generative modelling, generator and discriminator, a DCGAN live | 1, 3, 4, 5, 6 | C |
# | N2 the tricks removed one at a time, mode collapse | 7, 8 | C |
# | N3 latent walk, conditional GAN, its samples for a classifier with few data | 9, 10, 11 | C, A, E |
#
# ### Further reading
# - I. Goodfellow et al. *Generative Adversarial Nets*. NeurIPS 2014. https://arxiv.org/abs/1406.2661
# - M. Mirza, S. Osindero. *Conditional Generative Adversarial Nets*. 2014. https://arxiv.org/abs/1411.1784
# - A. Radford, L. Metz, S. Chintala. *Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks*. ICLR 2016. https://arxiv.org/abs/1511.06434
# - T. Salimans et al. *Improved Techniques for Training GANs*. NeurIPS 2016. https://arxiv.org/abs/1606.03498 (inception score, minibatch discrimination, label smoothing)
# - T. White. *Sampling Generative Networks*. 2016. https://arxiv.org/abs/1609.04468 (slerp)
# - M. Arjovsky, S. Chintala, L. Bottou. *Wasserstein GAN*. ICML 2017. https://arxiv.org/abs/1701.07875
# - M. Heusel et al. *GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium*. NeurIPS 2017. https://arxiv.org/abs/1706.08500 (Fréchet inception distance)
# - I. Gulrajani et al. *Improved Training of Wasserstein GANs*. NeurIPS 2017. https://arxiv.org/abs/1704.00028
# - T. Karras, T. Aila, S. Laine, J. Lehtinen. *Progressive Growing of GANs for Improved Quality, Stability, and Variation*. ICLR 2018. https://arxiv.org/abs/1710.10196 (standard deviation over the batch)
# - Y. Yazıcı et al. *The Unusual Effectiveness of Averaging in GAN Training*. ICLR 2019. https://arxiv.org/abs/1806.04498
# - T. Kynkäänniemi et al. *Improved Precision and Recall Metric for Assessing Generative Models*. NeurIPS 2019. https://arxiv.org/abs/1904.06991
# - M. F. Naeem et al. *Reliable Fidelity and Diversity Metrics for Generative Models*. ICML 2020. https://arxiv.org/abs/2002.09797 (coverage, as in the lab)
# - S. Chintala et al. *How to Train a GAN? Tips and tricks to make GANs work*. 2016. https://github.com/soumith/ganhacks
#
# ### Next notebook
# 10 · State of computer vision: winning tricks and what comes next.
