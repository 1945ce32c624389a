# %% [markdown]
# # 10 · State of computer vision: winning tricks and what comes next
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/@SLUG@/blob/@REF@/notebooks/10_winning_tricks.ipynb)
# [![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://github.com/@SLUG@/blob/@REF@/notebooks/10_winning_tricks.ipynb)
#
# **To keep what you write:** on Colab choose *File > Save a copy in Drive*, on Kaggle *Copy & Edit*, before you begin.
#
# **Question:** What do people do who win benchmarks, what does each trick cost, and what can a network say about a picture beyond its name?
#
# **You will be able to**
# - average networks, views and weights, measure what that does to accuracy and to honesty, and pay for it in multiplications,
# - read an open implementation, reuse its weights without silent mistakes, and take your own folder of pictures to a tested classifier,
# - build a small detector from a classifier, and tell what capsules and recurrent networks do with a picture.
#
# **Time:** it runs in @TIME@ on two CPU cores; with all sections, the exercises and the lab, nearly five hours.
# Where there is a GPU, only the pretrained network of section 1 runs on it; all else computes on the CPU.
# **Before this:** notebook 05; for section 7 also notebook 03, section 8.

# %% [markdown] slideshow={"slide_type": "notes"}
# **A plan for 75 minutes**
#
# - **Core:** sections 1, 2, 4 and 5: two sources of knowledge, ensembles, test-time augmentation, open-source implementations: the slides on winning,
#   in their order.
# - **Optional:** 3 (what to average), 6 (your own folder), 7 before 8 (boxes, detectors), 9 (capsules), 10 (a recurrent network): each a lesson of its
#   own.
# - **Where to stop:** after the claims of section 5. If you are late, stop after those of section 4, and tell section 5 in five minutes.

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
# What this notebook imports. Everything that is not PyTorch or torchvision is in the folder utils/.
import copy
import hashlib
import inspect
import random
import shutil
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
import torchvision
from matplotlib.ticker import PercentFormatter
from PIL import Image, ImageDraw
from torch import nn
from torchvision.models import detection
from torchvision.ops import box_iou, masks_to_boxes, nms
from torchvision.transforms import v2
from tqdm.auto import tqdm

from utils import datasets, models
from utils.exercises import winning_tricks as exercises
from utils.figures import curves, explore, image_grid, show, to_picture
from utils.lessons import claim, measured, summary
from utils.models import count_macs, num_parameters
from utils.training import predict

# %% slideshow={"slide_type": "skip"}
course_seed = torch.initial_seed()  # as utils.start() has set it
seeds = [10 * course_seed + k for k in range(3)]  # so that runs of the notebook with other seeds share none

# %% [markdown]
# ## 1. Two sources of knowledge (20 min)
#
# What a classifier knows comes from two sources: from **labelled data**, and from **people who built their knowledge into it**. The fewer labels there are, the more engineering is worth, says an old rule. We test it.
#
# First on **digits**, 8 x 8 pixels, so small that everything about them is computed in a second on any machine.

# %% tags=["measure"]
pool, _, test_set = datasets.digits()


def as_input(dataset):
    return dataset.images / 127.5 - 1, dataset.targets["label"]


images, labels = as_input(pool)
test_images, test_labels = as_input(test_set)

# %%
print(f"{len(images):,} digits to learn from, {len(test_images)} to test on, {tuple(images.shape[1:])} each, from {images.min():.0f} to {images.max():.0f}")

# %% [markdown]
# ### Knowledge by hand: histograms of oriented gradients
#
# Before networks learned features, people designed them. **HOG** (Dalal and Triggs 2005) was the best of its day, for finding people on the street. Its idea: a shape is where edges are, and which way they run.
#
# 1. At each pixel: the **gradient**, its strength and its angle. An angle and its opposite count as one, so $0$ to $180°$, in 9 bins.
# 2. In each **cell** of some pixels: a histogram of the angles, weighted by strength; each pixel votes for the two bins beside its angle.
# 3. Each **block** of 2 x 2 cells is scaled to length 1, so that light and contrast do not matter.


# %% tags=["measure"]
def histograms(images, cell):
    """Angles of the gradients in each cell: float (N, C, H, W) -> (N, 9, H / cell, W / cell)."""
    grey = F.pad(images.mean(dim=1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    dx = grey[:, :, 1:-1, 2:] - grey[:, :, 1:-1, :-2]
    dy = grey[:, :, 2:, 1:-1] - grey[:, :, :-2, 1:-1]
    strength, angle = (dx**2 + dy**2).sqrt(), torch.atan2(dy, dx) % torch.pi / torch.pi * 9  # 0 to 9
    below, share = angle.long() % 9, angle.frac()  # each pixel votes for the two bins beside its angle
    votes = images.new_zeros(len(images), 9, *images.shape[2:]).scatter_add_(1, below, (1 - share) * strength)
    votes.scatter_add_(1, (below + 1) % 9, share * strength)
    return F.avg_pool2d(votes, cell)


def hog(images, cell):
    """Histograms of oriented gradients: float (N, C, H, W) -> features (N, D)."""
    blocks = F.unfold(histograms(images, cell), kernel_size=2).transpose(1, 2)
    return F.normalize(blocks, dim=2).flatten(1)


# %%
# NBVAL_CHECK_OUTPUT
print(tuple(hog(images[:5], cell=2).shape), "= 3 x 3 blocks of 4 cells with 9 bins each")

# %% [markdown]
# ### Explore: what HOG sees
#
# Each cell shows its histogram as strokes, along the edges. Change the picture and the size of the cells. Larger cells forget more: where, exactly, was that edge?

# %%
animals, animals_val, animals_test = datasets.dogs_vs_cats(num_train=600, num_val=200)
noun, side = animals.noun, animals.images.shape[-1]


# %%
# extra code: strokes along the edges, one for each cell and bin, darker where the bin is fuller
def draw_hog(picture=0, cell=8):
    image, size = animals.images[picture], cell * side // 64
    cells = histograms(image[None] / 255, size)[0].permute(1, 2, 0)
    cells = (1.4 * cells / cells.max()).clamp(max=1)
    fig, axes = plt.subplots(1, 2, figsize=(9, 4.6))
    axes[0].imshow(to_picture(image))
    axes[1].set(xlim=(0, side), ylim=(side, 0), aspect="equal", facecolor="white")
    angles = (torch.arange(9) + 0.5) * torch.pi / 9 + torch.pi / 2  # an edge runs across its gradient
    for row, column, k in (cells > 0.25).nonzero().tolist():
        x, y = (column + 0.5) * size, (row + 0.5) * size
        dx, dy = 0.5 * size * torch.cos(angles[k]), 0.5 * size * torch.sin(angles[k])
        axes[1].plot([x - dx, x + dx], [y - dy, y + dy], color="black", alpha=cells[row, column, k].item(), linewidth=2.5)
    for ax, title in zip(axes, (f"a {noun}", f"its edges, in cells of {size} pixels"), strict=True):
        ax.set(xticks=[], yticks=[], title=title)
        ax.grid(False)
    kind = animals.classes[animals.targets["label"][picture]]
    return fig, f"Left a {noun} of a {kind}, right its histograms of oriented gradients: strokes along the edges that each cell of {size} pixels holds."


explore(draw_hog, picture=range(12), cell=[8, 4, 16])

# %% [markdown]
# ### Knowledge from data: a small network
#
# The training loop of notebook 00, short, for tensors in memory. Everything small in this notebook is trained with it.


# %% tags=["measure"]
def train(model, images, labels, num_epochs=20, lr=1e-2, batch_size=32, weight_decay=0.0, loss_fn=F.cross_entropy):
    steps = num_epochs * -(-len(images) // batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    model.train()
    for _ in range(num_epochs):
        for rows in torch.randperm(len(images)).split(batch_size):
            loss = loss_fn(model(images[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
    return model.eval()


# %% tags=["measure"]
def small_net(width=16):
    """A network for digits, without batch normalisation: section 3 will average weights."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * width, 10),
    )  # fmt: skip


def linear_on(features, labels, seed):
    """A linear classifier on fixed features."""
    torch.manual_seed(seed)
    linear = nn.Linear(features.shape[1], int(labels.max()) + 1)
    return train(linear, features, labels, num_epochs=100, batch_size=200, weight_decay=0.1)


@torch.no_grad()
def accuracy(model, inputs, labels):
    return (model(inputs).argmax(dim=1) == labels).float().mean().item()


# %% [markdown]
# The same linear classifier twice, once on the 64 pixels, once on HOG; and the network, which finds its own features.
#
# **Before you run it:** with 50 labelled digits, five of each: which of the three wins? And with 1,200?
#
# <details><summary>Answer</summary>
#
# With 50, HOG beats the pixels: the knowledge that edges matter is a gift that no label had to pay for. The network beats pixels too, as convolution and pooling are hand engineering as well: somebody knew that neighbours
# belong together. HOG and the network are close; in most draws the network is a little ahead. With 1,200 digits all are good, and little is left between them.
#
# </details>


# %% tags=["measure"]
def digits_with(features, num, seed):
    """Test accuracy from `num` labelled digits: a linear classifier on pixels or HOG, or the network."""
    rows = pool.subset(num, seed=seed).indices
    if features == "network":
        torch.manual_seed(seed)
        model = train(small_net(), images[rows], labels[rows], num_epochs=max(10, 3000 // num), lr=3e-3)
        return accuracy(model, test_images, test_labels)
    describe = {"pixels": lambda pictures: pictures.flatten(1), "HOG": lambda pictures: hog(pictures, cell=2)}[features]
    model = linear_on(describe(images[rows]), labels[rows], seed)
    return accuracy(model, describe(test_images), test_labels)


# %%
few = {features: [digits_with(features, 50, seed) for seed in range(10 * course_seed, 10 * course_seed + 5)] for features in ("pixels", "HOG", "network")}
for features, values in few.items():
    print(f"{features:8}", *[f"{value:.1%}" for value in values])

# %%
gain = (sum(few["HOG"]) - sum(few["pixels"])) / 5
claim(
    "From 50 digits, the same linear classifier is more often right on hand-made features (HOG) than on pixels",
    gain > 0.003,
    f"{100 * gain:+.1f} points, mean of five draws",
)

# %% [markdown]
# ### A third source
#
# Now cats and dogs, where the difference is in small parts at any place. Here there is a third source: **data that somebody else has labelled**, in a pretrained network (notebook 05).
#
# **Before you run it:** HOG and a linear classifier get all 600 labelled pictures. A linear classifier on features of the pretrained network gets twenty. Who wins?
#
# <details><summary>Answer</summary>
#
# The borrowed features, by far. HOG was designed for upright people at one size. Nobody knows how to write down "whiskers, at any place". So on most tasks the second source, hand engineering, has moved from features to
# something else: to architectures, to losses, to augmentation, to the choice of what to pretrain on.
#
# </details>

# %%
encoder, prepare = models.pretrained(animals.source)
encoder.classifier = nn.Identity()
encoder.to(device)


def embed(pictures, progress="embedding"):
    """Features of the pretrained network for uint8 pictures (N, 3, S, S)."""
    return predict(encoder, [(prepare(part), part) for part in pictures.split(100)], progress=progress)[0]


# %%
judged = animals_test.subset(400)
animal_labels, judged_labels = animals.targets["label"], judged.targets["label"]
learned, learned_judged = embed(animals.images), embed(judged.images)
cell = side // 8
hand_made, hand_made_judged = hog(animals.images / 255, cell), hog(judged.images / 255, cell)

# %%
def with_borrowed(num, seed):
    rows = animals.subset(num, seed=seed).indices
    return linear_on(learned[rows], animal_labels[rows], seed)


borrowed = [accuracy(with_borrowed(20, seed), learned_judged, judged_labels) for seed in seeds]
by_hand = accuracy(linear_on(hand_made, animal_labels, seeds[0]), hand_made_judged, judged_labels)
claim(
    f"Twenty labelled {noun}s on features learned elsewhere beat 600 on features made by hand",
    min(borrowed) > by_hand + 0.05,
    f"{min(borrowed):.0%} or more against {by_hand:.0%}",
)

# %%
rows = measured("winning_sources")
learned_rows = measured("transfer_curves")  # notebook 05's: a network of our own, and frozen features, on the same pictures


# %%
# extra code: accuracy against the number of labelled pictures, for digits and for animals
def source_lines(rows, key, **settings):
    rows = [row for row in rows if all(row[name] == value for name, value in settings.items())]
    names = list(dict.fromkeys(row[key] for row in rows))
    nums = sorted({row["num"] for row in rows})
    return nums, {name: [[r["accuracy"] for r in rows if r[key] == name and r["seed"] == s and r["num"] <= 2000] for s in sorted({r["seed"] for r in rows})] for name in names}


def sources_figure(source):
    fig, axes = plt.subplots(1, 2, figsize=(12, 5))
    axes[0].set(xscale="log", ylim=(0.55, 1)), axes[1].set(xscale="log", ylim=(0.45, 1))
    nums, lines = source_lines(rows, "features", task="digits")
    axes[0].set_xticks(nums, nums), axes[0].set_xticks([], minor=True)
    curves(axes[0], {name: lines[name] for name in ("pixels", "network", "HOG")}, "labelled digits", "test accuracy", "digits: little between them", x=nums)
    nums, lines = source_lines([row for row in learned_rows if row["approach"] != "tuned"], "approach", source=source)
    by_hand_nums, by_hand_lines = source_lines(rows, "features", task="animals", source=source)
    names = {"frozen": "borrowed", "own": "network"}
    axes[1].set_xticks(nums, nums), axes[1].set_xticks([], minor=True)
    curves(axes[1], {names[name]: values for name, values in lines.items()}, "labelled pictures", "", "cats and dogs: borrow", x=nums)
    curves(axes[1], by_hand_lines, "labelled pictures", "", "cats and dogs: borrow", x=by_hand_nums)
    for ax in axes:
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return fig


show(sources_figure(animals.source), "Test accuracy against the number of labelled pictures. Left, digits: pixels, HOG and a small network; HOG leads pixels while labels are few, and all are good in the end. Right, cats and "
     f"dogs ({noun}s): borrowed features lead from the first twenty pictures on, HOG stays low.")  # fmt: skip

# %% [markdown] slideshow={"slide_type": "notes"}
# The lecture has a line from "little data" to "lots of data", with more hand engineering at the left. Ask the class where on it their own task stands. The honest reading of the right panel: what
# replaced hand engineering where labels are few is not fewer labels, but other people's labels.

# %% [markdown]
# ## 2. Ensembles: ask several networks (25 min)
#
# From 2012 to 2017, every winner of ImageNet's yearly competition in classification was an **ensemble**: several networks, trained alike, whose answers are averaged. Why should that help, if all learned from the same pictures?
#
# Because they make different mistakes. Each starts from other random numbers and ends elsewhere. Where they are right, they agree; where one guesses, the others guess differently.
#
# Clean digits are too easy to show it. So we add noise to each picture, and learn from 400.


# %% tags=["measure"]
def noisy_task(seed, num=400, noise=0.6):
    """(images, labels) of `num` digits to learn from, and of all others, with fixed noise."""
    generator = torch.Generator().manual_seed(seed)
    everything, answers = torch.cat([images, test_images]), torch.cat([labels, test_labels])
    everything = everything + noise * torch.randn(everything.shape, generator=generator)
    known = torch.zeros(len(answers), dtype=torch.bool)
    known[pool.subset(num, seed=seed).indices] = True
    return (everything[known], answers[known]), (everything[~known], answers[~known])


# %%
known, new = noisy_task(seeds[0])
show(image_grid([((image + 2.5) / 5).clamp(0, 1) for image in new[0][:10]], titles=[str(k.item()) for k in new[1][:10]], columns=10, size=1),
     "Ten digits of 8 x 8 pixels with noise, and what they are.")  # fmt: skip


# %% tags=["measure"]
def member(task, seed, width=16, num_epochs=20):
    torch.manual_seed(seed)
    return train(small_net(width), *task, num_epochs=num_epochs)


@torch.no_grad()
def probabilities(model, images):
    return model(images).softmax(dim=1)


# %%
members = [member(known, 100 * seeds[0] + k) for k in tqdm(range(8))]
answers = torch.stack([probabilities(model, new[0]) for model in members])
print(f"answers: {tuple(answers.shape)} = members, digits, classes")

# %% [markdown]
# ### Three scores
#
# With probabilities $p_{ic}$ for picture $i$ and class $c$, and true labels $y_i$:
#
# - **Accuracy**: how often is the largest $p_{ic}$ the right one?
# - **Negative log-likelihood** (NLL), $-\frac{1}{N} \sum_i \log p_{i y_i}$: how surprised is it by the truth? Sure and wrong costs most.
# - **Expected calibration error** (ECE): does it know how sure it may be? Sort the answers by confidence into 10 bins $B$. In each, compare mean confidence with the share of right answers, and
# average: $\sum_B \frac{|B|}{N} \, |\text{conf}(B) - \text{acc}(B)|$. Of the answers given with 90 % confidence, 90 % should be right (Guo et al. 2017).


# %% tags=["measure"]
def calibration(p, labels, bins=10):
    """For each bin of confidence that is not empty: its share of the answers, mean confidence, accuracy."""
    confidence, answer = p.max(dim=1)
    place = (confidence * bins).long().clamp(max=bins - 1)
    right = (answer == labels).float()
    return [((place == b).float().mean().item(), confidence[place == b].mean().item(), right[place == b].mean().item()) for b in place.unique()]


def scores(p, labels):
    ece = sum(share * abs(confidence - right) for share, confidence, right in calibration(p, labels))
    return {"accuracy": (p.argmax(dim=1) == labels).float().mean().item(), "nll": F.nll_loss(p.clamp_min(1e-9).log(), labels).item(), "ece": ece}


# %% [markdown]
# **Before you run it:** how many points of accuracy do eight networks bring over one? And which of the three scores gains most?
#
# <details><summary>Answer</summary>
#
# A few points of accuracy. The two scores that look at probabilities gain far more. A network that has learned its pictures by heart is too sure of itself. Members that disagree make the average modest
# where it should be.
#
# </details>

# %%
single = [scores(p, new[1]) for p in answers]
single = {name: sum(row[name] for row in single) / len(single) for name in single[0]}
for num in (1, 2, 4, 8):
    row = scores(answers[:num].mean(dim=0), new[1]) if num > 1 else single
    print(f"{num} {'networks' if num > 1 else 'network '}  accuracy {row['accuracy']:.1%}   NLL {row['nll']:.3f}   ECE {row['ece']:.3f}")
eight = row

# %%
claim(
    "Eight networks averaged are right more often than their members are on average",
    eight["accuracy"] > single["accuracy"],
    f"{eight['accuracy']:.1%} against {single['accuracy']:.1%}",
)

# %%
claim(
    "They are also better calibrated: the calibration error of the average is clearly below its members'",
    eight["ece"] < 0.85 * single["ece"],
    f"ECE {eight['ece']:.3f} against {single['ece']:.3f}",
)

# %% [markdown]
# One of the gains is no experience but a theorem. The logarithm is concave, so by Jensen's inequality $-\log \frac{1}{M} \sum_m p_m \le -\frac{1}{M} \sum_m \log p_m$, for each picture: the average is never more surprised
# than its members are on average.

# %%
surprise = -answers[:, torch.arange(len(new[1])), new[1]].clamp_min(1e-30).log()
surprise_of_mean = -answers.mean(dim=0)[torch.arange(len(new[1])), new[1]].clamp_min(1e-30).log()
claim(
    "For every single picture the average is at most as surprised as its members are on average (Jensen)",
    bool((surprise_of_mean <= surprise.mean(dim=0) + 1e-4).all()),
    f"{len(new[1]):,} pictures; in the mean {surprise_of_mean.mean():.3f} against {surprise.mean():.3f}",
)

# %% [markdown]
# ### Explore: the reliability diagram
#
# Each bar is a bin of confidence: how many of its answers are right? On the dashed line, confidence is honest. A bar below it is too sure of itself. The bar's strength is the number of answers in it.


# %%
# extra code: the reliability diagram of the first so many members
def draw_reliability(members=1):
    p = answers[:members].mean(dim=0)
    fig, ax = plt.subplots(figsize=(7.5, 5))
    for share, confidence, right in calibration(p, new[1]):
        left = int(min(confidence, 0.9999) * 10) / 10
        ax.bar(left + 0.05, right, width=0.092, color="C0", alpha=0.25 + 0.75 * min(1, 2 * share))
        ax.plot([left + 0.05] * 2, [right, confidence], color="C1", linewidth=5)
    ax.plot([0, 1], [0, 1], "--", color="black", linewidth=1.5)
    row = scores(p, new[1])
    who = f"{members} networks" if members > 1 else "1 network"
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share of right answers", title=f"{who}: calibration error {row['ece']:.3f}")
    return fig, f"Share of right answers against confidence for {who}, accuracy {row['accuracy']:.1%}; in orange the distance between confidence and truth."


explore(draw_reliability, members=[1, 2, 4, 8])

# %% [markdown]
# ### How many?
#
# Measured earlier, over more seeds and up to 16 members. Beside the networks of this section, trained **long** (20 epochs), stand others, trained **briefly** (3 epochs).

# %%
ensemble_rows = measured("winning_ensembles")


# %%
# extra code: the three scores against the number of members
def ensembles_figure():
    fig, axes = plt.subplots(1, 3, figsize=(13, 4.4))
    nums = sorted({row["members"] for row in ensemble_rows})
    for ax, (key, name) in zip(axes, {"accuracy": "accuracy", "nll": "negative log-likelihood", "ece": "calibration error"}.items(), strict=True):
        ax.set(xscale="log", xticks=nums, xlim=(0.9, 40))
        ax.set_xticks([], minor=True), ax.set_xticklabels(nums)
        lines = {task: [[r[key] for r in ensemble_rows if r["training"] == task and r["seed"] == s] for s in sorted({r["seed"] for r in ensemble_rows})] for task in ("long", "brief")}
        curves(ax, lines, "networks", "", name, x=nums)
    axes[0].yaxis.set_major_formatter(PercentFormatter(1))
    return fig


show(ensembles_figure(), "Accuracy, negative log-likelihood and calibration error against the number of averaged networks, 1 to 16, trained for 20 epochs and for 3, with the range over the seeds. Most of the gain comes with "
     "the first four networks.")  # fmt: skip


# %%
def mean_score(key, **settings):
    values = [row[key] for row in ensemble_rows if all(row[name] == value for name, value in settings.items())]
    return sum(values) / len(values)


accuracy_by_number = {num: mean_score("accuracy", training="long", members=num) for num in (1, 4, 16)}
gain_of_4, gain_of_16 = (accuracy_by_number[num] - accuracy_by_number[1] for num in (4, 16))
print(f"trained long: four networks bring {100 * gain_of_4:.1f} points, sixteen bring {100 * gain_of_16:.1f}")
for training in ("long", "brief"):
    print(f"trained {training}: calibration error", *[f"{mean_score('ece', training=training, members=num):.3f} with {num}," for num in (1, 4, 16)])

# %% [markdown]
# Two things to learn here. The first few members bring most, while the price grows with each: 16 networks cost 16 times the multiplications. And "ensembles are better calibrated" is no law. Networks that
# were trained briefly are not too sure of themselves to begin with, rather too modest. Averaging makes answers more modest in any case, so it mends the one and spoils the other (right panel).

# %% [markdown]
# ## 3. What to average: answers, logits or weights? (20 min)
#
# Averaging probabilities costs one pass a member. One could average the **logits** and then apply softmax. And why not average the **weights** once, and pay for a single network ever after?
#
# **Before you run it:** eight good networks. Average each weight over the eight. What is the accuracy of that network?
#
# <details><summary>Answer</summary>
#
# It is far worse than any of the eight, and the more networks go in, the less is left. A hidden channel has no fixed job: what channel 3 does in one network, channel 11 does in another. The average of the two does neither.
#
# </details>


# %% tags=["measure"]
def average_weights(networks):
    average = copy.deepcopy(networks[0])
    states = [network.state_dict() for network in networks]
    average.load_state_dict({name: sum(state[name] for state in states) / len(states) for name in states[0]})
    return average


def averaged(networks, task):
    """Accuracy of the members (their mean), and of their averaged probabilities, logits and weights."""
    pictures, labels = task
    p = torch.stack([probabilities(network, pictures) for network in networks])
    three = {"probabilities": p.mean(dim=0), "logits": p.clamp_min(1e-30).log().mean(dim=0), "weights": probabilities(average_weights(networks), pictures)}
    hits = {name: (answer.argmax(dim=1) == labels).float().mean().item() for name, answer in three.items()}
    return {"members": sum(scores(one, labels)["accuracy"] for one in p) / len(p)} | hits


# %%
independent = averaged(members, new)
print("averaged weights of", *[f"{num}: {averaged(members[:num], new)['weights']:.0%} " for num in (2, 3, 5, 8)])
claim(
    "Averaging the weights of networks that were trained independently leaves little: far worse than any of them",
    independent["weights"] < independent["members"] - 0.2 and independent["probabilities"] > independent["members"],
    f"{independent['weights']:.0%} with averaged weights, {independent['members']:.0%} a single network, {independent['probabilities']:.0%} with averaged probabilities; guessing gives 10 %",
)

# %% [markdown]
# The reason, in an experiment. Take **one** network, and shuffle its hidden channels, 16 and then 32; the next layer's inputs are shuffled in the same way. It computes the very same function. Make eight such twins, and average their
# weights.


# %%
def shuffled(network):
    twin, first, second, last = copy.deepcopy(network), network[0], network[2], network[6]
    a, b = torch.randperm(16), torch.randperm(32)
    twin[0].weight.data, twin[0].bias.data = first.weight.data[a], first.bias.data[a]
    twin[2].weight.data, twin[2].bias.data = second.weight.data[b][:, a], second.bias.data[b]
    twin[6].weight.data = last.weight.data.view(10, 32, 16)[:, b].flatten(1)  # 32 channels of 16 places each
    return twin


torch.manual_seed(seeds[0])
twins = [shuffled(members[0]) for _ in range(8)]
difference = max((probabilities(twin, new[0]) - probabilities(members[0], new[0])).abs().max().item() for twin in twins)
of_twins = averaged(twins, new)

# %%
claim(
    "Eight twins of one network, their hidden channels shuffled, are the same function eight times; the average of their weights is another, and far worse",
    difference < 1e-4 and of_twins["weights"] < of_twins["members"] - 0.1,
    f"answers differ by {difference:.0e}; {of_twins['members']:.0%} each, {of_twins['weights']:.0%} with averaged weights",
)

# %% [markdown]
# So weights can be averaged where the channels have kept their jobs: in networks with a **common past**.
#
# - **Along one run** (stochastic weight averaging; Izmailov et al. 2018): train on with a constant learning rate, keep the weights of the last epochs, and average those.
# - **From one pretrained start** (model soups; Wortsman et al. 2022): fine-tune the same network several times, with various learning rates, and average the results.


# %% tags=["measure"]
def steps(network, task, lr, num_epochs, seed):
    """Train on, with a constant learning rate; returns the network as it was after each epoch."""
    torch.manual_seed(seed)
    (pictures, labels), kept = task, []
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr)
    for _ in range(num_epochs):
        for rows in torch.randperm(len(pictures)).split(32):
            loss = F.cross_entropy(network(pictures[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        kept.append(copy.deepcopy(network))
    return kept


def along_one_run(task, seed):
    torch.manual_seed(seed)
    return steps(small_net(), task, lr=3e-3, num_epochs=15, seed=seed)[5:]


# %% [markdown]
# For the soup we need a pretrained network. This one has learned to tell **which way up** a digit stands, from digits without labels: 0, 90, 180 or 270 degrees (Gidaris et al. 2018). Then it gets a head for ten
# digits, and is trained for one epoch. From there, five members go on, each with a learning rate and an order of pictures of its own.


# %% tags=["measure"]
def pretrained_start(task, unlabelled, seed):
    torch.manual_seed(seed)
    turned = torch.cat([unlabelled.rot90(k, (2, 3)) for k in range(4)])
    start = train(small_net(), turned, torch.arange(4).repeat_interleave(len(unlabelled)), num_epochs=5, lr=3e-3, batch_size=64)
    start[-1] = nn.Linear(512, 10)
    nn.init.zeros_(start[-1].weight)
    return steps(start, task, lr=3e-3, num_epochs=1, seed=seed)[-1]


def soup_members(start, task, seed, rates=(5e-3, 3e-3, 5e-3, 3e-3, 5e-3)):
    return [steps(copy.deepcopy(start), task, lr, 8, seed + k)[-1] for k, lr in enumerate(rates)]


# %%
run = averaged(along_one_run(known, seeds[0]), new)
start = pretrained_start(known, new[0][:800], seeds[0])
soup = averaged(soup_members(start, known, 100 * seeds[0]), new)
for name, row in {"independent": independent, "one run": run, "one start": soup}.items():
    print(f"{name:12}", *[f"{key} {value:.1%}  " for key, value in row.items()])

# %%
claim(
    "Weights with a common past can be averaged: along one run, and from one pretrained start, the average beats its members' mean",
    run["weights"] > run["members"] and soup["weights"] > soup["members"],
    f"one run: members {run['members']:.1%}, averaged weights {run['weights']:.1%}; one start: {soup['members']:.1%}, {soup['weights']:.1%}",
)

# %%
averaging_rows = measured("winning_averaging")


# %%
# extra code: accuracy of members and of the three averages, for networks of three origins
def averaging_figure():
    fig, ax = plt.subplots(figsize=(10, 4.6))
    origins = {"independent": "trained\nindependently", "run": "along\none run", "soup": "from one\npretrained start"}
    for k, what in enumerate(("members", "probabilities", "logits", "weights")):
        for place, origin in enumerate(origins):
            values = [row[what] for row in averaging_rows if row["origin"] == origin]
            x = place + 0.2 * (k - 1.5)
            ax.plot([x] * len(values), values, "o", color=f"C{k}", alpha=0.5, markersize=8)
            ax.plot([x - 0.07, x + 0.07], [sum(values) / len(values)] * 2, color=f"C{k}", linewidth=4)
            if place == 0:
                below = what == "weights"
                ax.text(x, min(values) - 0.05 if below else max(values) + 0.03 + 0.06 * (k == 1), what, color=f"C{k}", ha="center", va="top" if below else "bottom", fontweight="bold")
    ax.set(xticks=range(3), xticklabels=origins.values(), ylim=(0, 1.08), ylabel="accuracy on new digits", title="Weights can be averaged where networks have a common past")
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    return fig


show(averaging_figure(), "Accuracy of single networks, and of their averaged probabilities, logits and weights; a dot a seed. For independent networks averaged weights fall far below a single one; along one run and from one pretrained "
     "start they do as well as averaged probabilities.")  # fmt: skip

# %% [markdown]
# Between probabilities and logits there is little to choose. Averaged weights answer at the price of **one** network. But look at the gain, too: independent networks gain most from being asked together. Those with a common
# past share much, mistakes included.

# %% [markdown] slideshow={"slide_type": "notes"}
# Nets with batch normalisation: averaged weights have no fitting running statistics, so these must be computed anew by a pass over the training pictures (torch.optim.swa_utils.update_bn). Frankle et al. (2020) measured
# from which moment of training on two branches of a run can be averaged.

# %% [markdown]
# ## 4. Ask one network several times (15 min)
#
# **Test-time augmentation**: one network, several **views** of the picture, the answers averaged. Flip it; cut out **crops** (AlexNet in 2012: the corners and the middle, each with its mirror image, ten in all). No further
# training, no further memory. Only the price: $V$ views cost $V$ times the multiplications.
#
# On our cats and dogs: the classifier on borrowed features, from 40 pictures, and four ways to ask it.

# %%
corners = dict(enumerate(v2.functional.five_crop(judged.images, side * 7 // 8)))
pictures = {"plain": judged.images, "mirrored": judged.images.flip(3)} | corners | {f"{k} mirrored": crop.flip(3) for k, crop in corners.items()}
views = {"plain": ["plain"], "flip": ["plain", "mirrored"], "five crops": [*corners], "ten crops": [name for name in pictures if name not in ("plain", "mirrored")]}
show(image_grid([pictures[name][0] for name in views["ten crops"]], columns=10, size=1.1), f"The ten crops of one {noun}: corners and middle, and their mirror images.")

# %% [markdown]
# **Before you run it:** which of the four is worth its price?
#
# <details><summary>Answer</summary>
#
# The mirror image is the best buy: it lowers the surprise (NLL) nearly for nothing. Crops cut the animal's ears off as often as they help, and cost five times as much. On the benchmarks of 2012, where a network saw a small
# square of a large photo, crops brought more.
#
# </details>

# %%
points, seconds, macs = {}, {}, {}
embed(judged.images[:100], None)  # the first time is slower
for name, view in tqdm(pictures.items()):
    start = time.perf_counter()
    points[name] = embed(view, None)
    seconds[name], macs[name] = time.perf_counter() - start, count_macs(encoder, 1, *view.shape[1:])

# %%
heads = [with_borrowed(40, seed) for seed in seeds]


def ask(names):
    """Accuracy, NLL and ECE of the probabilities averaged over views, means over the three classifiers."""
    rows = [scores(sum(probabilities(head, points[name]) for name in names) / len(names), judged_labels) for head in heads]
    return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}


asked = {way: ask(names) for way, names in views.items()}
price, clock = ({way: sum(cost[name] for name in names) / cost["plain"] for way, names in views.items()} for cost in (macs, seconds))
for way, row in asked.items():
    print(f"{way:10}  accuracy {row['accuracy']:.1%}  NLL {row['nll']:.3f}  multiplications x {price[way]:.1f}  time x {clock[way]:.1f}")

# %%
claim(
    "Asking for the mirror image too lowers the negative log-likelihood, at exactly twice the multiplications",
    asked["flip"]["nll"] < asked["plain"]["nll"] and price["flip"] == 2,
    f"NLL {asked['flip']['nll']:.3f} against {asked['plain']['nll']:.3f}, mean of three classifiers",
)

# %% [markdown]
# ### Views that the network knows
#
# **Before you run it:** a digit moved by one pixel is the same digit. So we ask a network for five views: as it is, and moved up, down, left, right. It has seen 400 noisy digits in training, none moved. Does that help?
#
# <details><summary>Answer</summary>
#
# It hurts. To this network, a moved digit of 8 x 8 pixels is a stranger: alone, each moved view is right far less often, and averaging mixes these bad answers in. Trained with moved digits, it gains by being asked with them.
# Test-time augmentation belongs to training-time augmentation.
#
# </details>


# %%
def moved(images):
    """Five views: as it is, and moved by one pixel in each direction."""
    wide = F.pad(images, (1, 1, 1, 1), value=-1)
    return [wide[:, :, 1 + dy : 9 + dy, 1 + dx : 9 + dx] for dy, dx in ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))]


torch.manual_seed(seeds[0])
knows_moved = train(small_net(), torch.cat(moved(known[0])), known[1].repeat(5), num_epochs=4)

# %%
by_views = {}
for name, network in {"trained as they are": members[0], "trained moved": knows_moved}.items():
    p = torch.stack([probabilities(network, view) for view in moved(new[0])])
    by_views[name] = scores(p[0], new[1])["accuracy"], scores(p.mean(dim=0), new[1])["accuracy"]
    print(f"{name:20} one view {by_views[name][0]:.1%}, five views {by_views[name][1]:.1%}")

# %%
stranger, friend = by_views["trained as they are"], by_views["trained moved"]
claim(
    "Views that a network has not learned make it worse; they do no such harm to one that was trained with them",
    stranger[1] < stranger[0] - 0.005 and friend[1] - friend[0] > stranger[1] - stranger[0] + 0.01,
    f"trained without moved digits {100 * (stranger[1] - stranger[0]):+.1f} points from five views, with them {100 * (friend[1] - friend[0]):+.1f}",
)

# %% [markdown]
# ## 5. Use open-source implementations (15 min)
#
# The lecture's advice for practice: do not start from the paper, start from somebody's code, best the authors'. A good part of a paper's result is in details that its text leaves out. Two skills: **read** an implementation, and
# **reuse its weights**.
#
# ### Read one
#
# The last ImageNet competition (2017) was won by *squeeze and excitation* (Hu et al. 2018). Torchvision has it, and Python shows you any source:

# %%
source = inspect.getsource(torchvision.ops.SqueezeExcitation)
print(source[source.index("    def __init__") :])

# %% [markdown]
# How to read it: **the shapes first**. `scale` pools each channel to one number, $C \times H \times W \to C \times 1 \times 1$. Two 1 x 1 convolutions, that is two linear layers, squeeze $C$ numbers to fewer and stretch them
# again. A sigmoid brings them between 0 and 1. `forward` multiplies: each channel is turned up or down, according to what is in the whole picture. In our own words, and checked against the original:

# %%
def squeeze_excitation(x, fc1, fc2):
    scale = x.mean(dim=(2, 3), keepdim=True)
    return x * torch.sigmoid(fc2(torch.relu(fc1(scale))))


torch.manual_seed(seeds[0])
theirs, x = torchvision.ops.SqueezeExcitation(32, 8), torch.randn(4, 32, 10, 12)
difference = (squeeze_excitation(x, theirs.fc1, theirs.fc2) - theirs(x)).abs().max().item()
claim("Read and rewritten in two lines, squeeze and excitation gives torchvision's output", difference < 1e-5, f"largest difference {difference:.0e}")

# %% [markdown]
# ### Reuse its weights
#
# Weights come as a **state dict**: names and tensors. Ours is for other classes, so the head does not fit, and we leave it out. `strict=False` loads what fits **by name**, and returns what was missing. Read what it returns.

# %%
pretrained, _ = models.pretrained(animals.source)
state = pretrained.state_dict()
fresh = models.SmallResNet(num_classes=2) if animals.source == "critters" else torchvision.models.mobilenet_v2(num_classes=2)
body = {name: tensor for name, tensor in state.items() if not name.startswith("classifier")}
print(fresh.load_state_dict(body, strict=False))

# %% [markdown]
# **Before you run it:** many weights on the net were saved from a network wrapped for several GPUs. Then every name begins with `module.`. What does `load_state_dict(..., strict=False)` do with those?
#
# <details><summary>Answer</summary>
#
# Nothing, and without an error. No name fits, so nothing is loaded, and you fine-tune random numbers. The returned lists say so, if somebody reads them.
#
# </details>

# %%
untouched = models.SmallResNet(num_classes=2) if animals.source == "critters" else torchvision.models.mobilenet_v2(num_classes=2)
before = copy.deepcopy(untouched.state_dict())
result = untouched.load_state_dict({f"module.{name}": tensor for name, tensor in body.items()}, strict=False)
changed = sum(not torch.equal(tensor, before[name]) for name, tensor in untouched.state_dict().items())
claim(
    "With strict=False and a prefix in the names nothing is loaded, and no error says so",
    changed == 0 and len(result.unexpected_keys) == len(body),
    f"{changed} of {len(body)} tensors changed, {len(result.unexpected_keys)} unexpected names",
)

# %% [markdown]
# Before you build on somebody's code: the **licence** (of the code, and of the weights, which may have another); the **version** or commit, written down; the **preparation** of pictures that belongs to the weights (notebook 05, section
# 10); and a **known answer**, one picture with the output that it should have, as a test. That last one finds nearly everything.

# %% [markdown]
# ## 6. Your own folder of images (25 min)
#
# The lecture's lab was "detect emotions": a folder of pictures, one sub-folder for each class, and nothing else. Yours will look the same, with other classes. We draw the faces ourselves, so that everybody has them. (They are
# drawings. A network that tells these faces apart knows nothing about people, and what a photo of a face says about feelings is disputed.)


# %%
# extra code: a drawn face with a feeling, 64 x 64 pixels
def face(feeling, rng, background=None):
    def colour(low, high):
        return tuple(rng.randint(low, high) for _ in range(3))

    picture = Image.new("RGB", (192, 192), background or colour(60, 255))
    pen, r = ImageDraw.Draw(picture), rng.uniform(56, 80)
    x, y, skin = rng.uniform(84, 108), rng.uniform(84, 108), colour(140, 250)
    pen.ellipse((x - r, y - r, x + r, y + r), fill=skin, outline="black", width=3)
    for eye in (-0.4, 0.4):
        size = r * (0.2 if feeling == "surprised" else 0.12) * rng.uniform(0.7, 1.3)
        pen.ellipse((x + eye * r - size, y - 0.25 * r - size, x + eye * r + size, y - 0.25 * r + size), fill="black")
    w, h, width = r * rng.uniform(0.3, 0.5), r * rng.uniform(0.15, 0.35), rng.randint(4, 8)
    mouth = (x - w, y + 0.4 * r - h, x + w, y + 0.4 * r + h)
    if feeling == "surprised":
        pen.ellipse((x - h, y + 0.2 * r, x + h, y + 0.2 * r + 2.4 * h), fill="black")
    else:
        pen.arc(mouth, *((15, 165) if feeling == "happy" else (195, 345)), fill="black", width=width)
    return picture.rotate(rng.uniform(-25, 25), fillcolor=picture.getpixel((0, 0))).resize((64, 64), Image.Resampling.BILINEAR)


# %%
def draw_folder(path, seed, num=80, backgrounds=None):
    """Writes path/happy/0.png and so on: what your own folder should look like."""
    rng = random.Random(seed)
    for feeling in ("happy", "sad", "surprised"):
        (path / feeling).mkdir(parents=True, exist_ok=True)
        for k in range(num):
            face(feeling, rng, (backgrounds or {}).get(feeling)).save(path / feeling / f"{k}.png")


scratch = tempfile.TemporaryDirectory()  # gone when the notebook is closed
workplace = Path(scratch.name)
mine = workplace / "faces"
draw_folder(mine, seed=seeds[0])
print(*sorted(f"{entry.name}/ ({len(list(entry.iterdir()))} files)" for entry in mine.iterdir()))

# %% [markdown]
# ### From folder to tested classifier, in ten lines
#
# For your own, change the first line. `datasets.folder` reads pictures of any size, leaves out what cannot be decoded, says so, and divides 70/15/15 into training, validation and test. With photos, take
# `models.pretrained(faces.source)`: MobileNetV2 with ImageNet weights.

# %%
faces, faces_val, faces_test = datasets.folder(mine, size=side)
network, prepare_faces = models.pretrained(animals.source)
network.classifier = nn.Identity()


@torch.no_grad()
def features_of(pictures):
    return torch.cat([network(prepare_faces(part)) for part in pictures.split(50)])


head = linear_on(features_of(faces.images), faces.targets["label"], seeds[0])
answers_faces = head(features_of(faces_test.images)).argmax(dim=1)
faces_right = (answers_faces == faces_test.targets["label"]).float().mean().item()
print(f"{faces_right:.0%} of {len(faces_test)} held-out faces are right")

# %%
hits = (answers_faces == faces_test.targets["label"])[:12].tolist()
titles = [f"{'✓' if ok else '✗'} {faces.classes[k]}" for ok, k in zip(hits, answers_faces[:12], strict=True)]
colours = ["tab:green" if ok else "tab:red" for ok in hits]
show(image_grid(faces_test.images[:12], titles=titles, colours=colours, columns=6, size=1.4),
     f"Twelve held-out drawn faces and what the classifier says; a tick where it is right, a cross where not. Right on {faces_right:.0%} of all.")  # fmt: skip

# %%
claim(
    "From a folder of pictures to a classifier that is right on most held-out pictures, in ten lines",
    faces_right > 0.6,
    f"{faces_right:.0%} of {len(faces_test)} held-out drawn faces; guessing gives 33 %",
)

# %% [markdown]
# ### What a bad folder looks like
#
# Most failures of such labs are not in the network. They are in the folder. So look before you train. Each check here is a few lines, and returns sentences; no sentence is good news.


# %%
def unreadable(path):
    for file in sorted(path.rglob("*.*")):
        try:
            Image.open(file).convert("RGB")
        except OSError:
            yield f"{file.relative_to(path)} cannot be decoded"


def too_few(path, least=20):
    counts = {entry.name: len(list(entry.glob("*.*"))) for entry in path.iterdir() if entry.is_dir()}
    if len(counts) < 2:
        yield f"only {len(counts)} class"
    for name, count in counts.items():
        if count < max(least, max(counts.values()) / 5):
            yield f"{name} has only {count} pictures"


# %% [markdown]
# **Duplicates.** The same picture twice, under two names: if one copy lands in training and one in test, the test is no test. Under two classes, one label is wrong. Equal pixels have equal **hashes**.


# %%
def duplicates(path):
    seen = {}
    for file in sorted(path.rglob("*.png")):
        try:
            digest = hashlib.sha256(Image.open(file).convert("RGB").tobytes()).hexdigest()
        except OSError:
            continue  # the first check has named it
        if digest in seen:
            yield f"{file.relative_to(path)} is the same picture as {seen[digest].relative_to(path)}"
        seen[digest] = file


# %% [markdown]
# **Shortcuts** (not those of notebook 02). All happy faces were photographed on Monday, against the blue wall, all sad ones on Tuesday, against the grey one. A network takes the easiest way, and the wall is easier than the mouth. The check: can a classifier that sees next to nothing, only **the colour of the
# picture's rim**, tell the classes apart? Then so will your network.


# %%
def shortcut(path):
    train_set, _, test_set = datasets.folder(path, size=16)

    def rim(pictures):
        edge = torch.cat([pictures[:, :, 0], pictures[:, :, -1], pictures[:, :, :, 0], pictures[:, :, :, -1]], dim=2)
        return edge.float().mean(dim=2) / 64 - 2

    found = linear_on(rim(train_set.images), train_set.targets["label"], seeds[0])
    share = accuracy(found, rim(test_set.images), test_set.targets["label"])
    if share > 0.8:
        yield f"the colour of the rim alone tells the class of {share:.0%}"


# %% [markdown]
# Now break the folder, in five ways, and see whether each is found.


# %%
def broken(name):
    path = workplace / name
    shutil.copytree(mine, path, dirs_exist_ok=True)
    return path


cut_off = broken("cut off")
(cut_off / "sad/7.png").write_bytes((mine / "sad/7.png").read_bytes()[:300])
one_class = broken("one class")
shutil.rmtree(one_class / "sad"), shutil.rmtree(one_class / "surprised")
twice = broken("twice")
shutil.copy(mine / "happy/3.png", twice / "sad/another.png")
few_of_one = broken("few of one")
for file in sorted((few_of_one / "sad").iterdir())[5:]:
    file.unlink(missing_ok=True)
blue, grey, green = (60, 90, 220), (150, 150, 150), (70, 180, 90)
walls = workplace / "three walls"
draw_folder(walls, seed=seeds[0] + 1, backgrounds={"happy": blue, "sad": grey, "surprised": green})

# %%
def report(path):
    sentences = [*unreadable(path), *too_few(path), *duplicates(path)]
    return sentences if "only 1 class" in sentences else sentences + list(shortcut(path))


for path in (mine, cut_off, one_class, twice, few_of_one, walls):
    print(f"{path.name + ':':12}", *(report(path) or ["nothing to report"]), sep="  ")

# %%
found = {path.name: " ".join(report(path)) for path in (cut_off, one_class, twice, few_of_one, walls)}
expected = {"cut off": "cannot be decoded", "one class": "only 1 class", "twice": "is the same picture as", "few of one": "has only", "three walls": "colour of the rim"}
claim(
    "Each of five ways to break the folder is found, and the good folder has nothing to report",
    all(piece in found[name] for name, piece in expected.items()) and not report(mine),
    f"{len(expected)} broken folders",
)

# %% [markdown]
# **Before you run it:** we train on the folder with the three walls. Its own held-out pictures have the same walls. How well does it do on them? On our first folder, with
# walls of any colour? And where the three walls are exchanged, so that the happy faces have the grey one?
#
# <details><summary>Answer</summary>
#
# Its own test is brilliant: all of them, or nearly. On the first folder it falls, and where the walls are exchanged it falls deep: it believes the wall. A test set that shares the training set's shortcut cannot find it.
#
# </details>

# %%
walled, _, walled_test = datasets.folder(walls, size=side)
wall_head = linear_on(features_of(walled.images), walled.targets["label"], seeds[0])
exchanged = workplace / "walls exchanged"
draw_folder(exchanged, seed=seeds[0] + 2, backgrounds={"happy": grey, "sad": green, "surprised": blue})
parts = {"own test": walled_test, "walls of any colour": faces, "walls exchanged": datasets.folder(exchanged, size=side).train}
right_on = {name: accuracy(wall_head, features_of(part.images), part.targets["label"]) for name, part in parts.items()}
print({name: f"{value:.0%}" for name, value in right_on.items()})

# %%
claim(
    "A shortcut makes the folder's own test brilliant, and fails where the shortcut leads elsewhere",
    right_on["own test"] > 0.85 and right_on["walls exchanged"] < right_on["own test"] - 0.3,
    f"{right_on['own test']:.0%} on its own held-out pictures, {right_on['walls exchanged']:.0%} where the walls are exchanged",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# True stories: Zech et al. (2018) found a pneumonia network that had learned which hospital an X-ray came from. Geirhos et al. (2020) collect many such cases. Ask the class what the shortcut of their own data could be: the
# camera, the date, the rulers beside lesions, the size of the file.

# %% [markdown]
# ## 7. What comes next: where is it? (30 min)
#
# From here on tastes, each small enough to run, each the door to a field. The first: **detection**. Which things are in the picture, and where, as boxes?
#
# Notebook 03 made a classifier fully convolutional: one pass, an answer at every place. That is half a detector. Two things are missing: one box for each thing instead of a cloud of answers, and boxes that **fit**.
#
# Our scenes: digits of 9 to 16 pixels on a noisy ground. Our window: 16 x 16 pixels.


# %%
def stamp(scene, digit, top, left, side):
    """Adds the digit, enlarged to `side` pixels, to a scene; returns its box (x1, y1, x2, y2)."""
    large = F.interpolate(digit[None] / 2 + 0.5, size=(side, side), mode="bilinear", antialias=True)[0, 0]
    scene[0, top : top + side, left : left + side] += 1.5 * large
    return [left, top, left + side, top + side]


def windows(num):
    """Pictures 16 x 16; labels, 10 for "nothing"; boxes relative to the window."""
    pictures, answers, boxes = 0.3 * torch.randn(num, 1, 48, 48), torch.full((num,), 10), torch.zeros(num, 4)
    for k in range(num):
        pick, side, reach = torch.randint(len(images), ()).item(), torch.randint(9, 17, ()).item(), 2 if k % 2 else 14
        top, left = (24 - side / 2 + torch.randint(-reach, reach + 1, (2,))).long().tolist()
        boxes[k] = torch.tensor(stamp(pictures[k], images[pick], top, left, side)) - 16.0
        off = (boxes[k].view(2, 2).mean(dim=0) - 8).abs().max()
        answers[k] = labels[pick] if off < 2.6 else 10 if off > 4 else -100  # in between: no answer is wanted
    return pictures[:, :, 16:32, 16:32].contiguous(), answers, boxes


# %%
torch.manual_seed(seeds[0])
window_pictures, window_answers, window_boxes = windows(3000)
names = [*map(str, range(10)), "none"]
show(image_grid([(picture / 2 + 0.3).clamp(0, 1) for picture in window_pictures[:12]], titles=[names[a] if a >= 0 else "?" for a in window_answers[:12].tolist()], columns=12, size=0.95),
     "Twelve windows of 16 x 16 pixels: a digit near the middle has its name; a window with nothing near its middle is none; those in between have a question mark and are not trained on.")  # fmt: skip

# %% [markdown]
# The network has no padding, so that it can be slid. Its last layer gives 15 numbers: 11 logits, and **four numbers for the box**, the distances of its sides from the window's middle. This is the whole difference between a classifier
# and a detector: a few more outputs, and another term in the loss,
#
# $$\text{loss} = \text{cross-entropy}(\text{class}) + \lambda \cdot \text{smooth L1}(\text{box}), \quad \text{the box only where there is a digit.}$$


# %%
def detector_net():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.BatchNorm2d(32), nn.ReLU(),
        nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 15, 4),
    )  # fmt: skip


def detector_loss(outputs, targets):
    answers, boxes = targets[:, 0].long(), targets[:, 1:]
    outputs, there = outputs.flatten(1), (answers >= 0) & (answers < 10)
    box_loss = F.smooth_l1_loss(outputs[there, 11:], (boxes[there] - 8) / 8)
    return F.cross_entropy(outputs[:, :11], answers, ignore_index=-100) + 5 * box_loss


# %%
targets = torch.cat([window_answers[:, None].float(), window_boxes], dim=1)
detector = train(detector_net(), window_pictures, targets, num_epochs=8, batch_size=64, loss_fn=detector_loss)
print(tuple(detector(window_pictures[:1]).shape), "for a window,", tuple(detector(torch.zeros(1, 1, 64, 112)).shape), "for a scene of 64 x 112: an answer every 2 pixels")

# %% [markdown]
# So one pass over a whole scene gives a **heat map**: at each place, how sure is the network that a digit has its middle there?


# %%
def make_scene(num_digits=6, height=64, width=112):
    scene, boxes, names = 0.3 * torch.randn(1, height, width), [], []
    while len(boxes) < num_digits:
        pick, side = random.randrange(len(test_images)), random.randint(9, 16)
        top, left = random.randrange(2, height - side - 2), random.randrange(2, width - side - 2)
        if all(abs(left + side / 2 - (x1 + x2) / 2) > 17 or abs(top + side / 2 - (y1 + y2) / 2) > 17 for x1, y1, x2, y2 in boxes):
            boxes.append(stamp(scene, test_images[pick], top, left, side))
            names.append(test_labels[pick].item())
    return scene, torch.tensor(boxes).float(), torch.tensor(names)


random.seed(seeds[0])
torch.manual_seed(seeds[0] + 1)
scenes = [make_scene() for _ in range(40)]


# %%
@torch.no_grad()
def answers_everywhere(scene):
    """What the detector says of the window around every second pixel: log-probabilities (11, rows, columns), sides (4, rows, columns)."""
    outputs = detector(F.pad(scene[None], (8, 8, 8, 8)))[0]
    return outputs[:11].log_softmax(dim=0), outputs[11:]


# %%
# extra code: a scene, and how sure the network is of a digit at each place
fig, axes = plt.subplots(1, 2, figsize=(12, 3.9))
scene, heat = scenes[0][0], 1 - answers_everywhere(scenes[0][0])[0][10].exp()
axes[0].imshow(scene[0], cmap="gray", vmin=-0.8, vmax=1.9)
axes[1].imshow(heat, cmap="inferno", vmin=0, vmax=1)
for ax, title in zip(axes, ("a scene", "its heat map: is there a digit?"), strict=True):
    ax.set(xticks=[], yticks=[], title=title)
    ax.grid(False)
show(fig, "Left a scene of six digits on a noisy ground. Right its heat map from one pass of the network: bright spots, several pixels wide, where it sees the middle of a digit.")

# %% [markdown]
# Every answer that says "digit" with some confidence becomes a box. Neighbouring windows see the same digit, so there are far too many. **Non-maximum suppression** (NMS): take the surest box; remove all that overlap it much; take the surest
# of the rest; and so on. "Overlap" is the **intersection over union** of notebook 04, now of boxes: $\text{IoU}(A, B) = |A \cap B| \,/\, |A \cup B|$.


# %%
def detect(scene, confidence=0.6, overlap=0.3, fitted=True):
    """Boxes (K, 4), names (K,) and confidences (K,) after non-maximum suppression."""
    log_p, sides = answers_everywhere(scene)
    sure, name = log_p[:10].exp().max(dim=0)
    rows, columns = (sure > confidence).nonzero().unbind(dim=1)
    middle = 2 * torch.stack([columns, rows, columns, rows], dim=1)
    size = 8 * sides[:, rows, columns].T if fitted else torch.tensor([-6.25, -6.25, 6.25, 6.25])
    boxes, sure, name = (middle + size).float(), sure[rows, columns], name[rows, columns]
    kept = nms(boxes, sure, overlap)
    return boxes[kept], name[kept], sure[kept]


# %% [markdown]
# ### Explore
#
# Change the overlap from which a box is removed (1: none is), the confidence that is asked for, and whether boxes are fitted by the network or all have the mean size.


# %%
# extra code: a scene with the boxes that the detector gives
def draw_detections(overlap=0.3, confidence=0.6, boxes="fitted", scene=0):
    picture, truth, _ = scenes[scene]
    found, name, sure = detect(picture, confidence, overlap, boxes == "fitted")
    fig, ax = plt.subplots(figsize=(10, 5.8))
    ax.imshow(picture[0], cmap="gray", vmin=-0.8, vmax=1.9)
    for (x1, y1, x2, y2), digit in zip((found - 0.5).tolist(), name.tolist(), strict=True):
        ax.add_patch(plt.Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor="C1", linewidth=2.5))
        ax.text(x1, y1, digit, color="white", fontweight="bold", va="bottom", bbox={"facecolor": "C1", "edgecolor": "C1", "pad": 1})
    ax.set(xticks=[], yticks=[], title=f"{len(found)} boxes for {len(truth)} digits")
    ax.grid(False)
    return fig, f"A scene with {len(truth)} digits on a noisy ground, and the {len(found)} boxes that are left by non-maximum suppression at an overlap of {overlap}, each with its digit."


explore(draw_detections, overlap=[0.3, 0.1, 0.5, 0.7, 1.0], confidence=[0.6, 0.3, 0.9], boxes=["fitted", "mean size"], scene=range(5))

# %% [markdown]
# **Before you run it:** how many boxes are there for six digits without NMS? And what do fitted boxes gain, when digits have 9 to 16 pixels and the mean size is 12.5?
#
# <details><summary>Answer</summary>
#
# Several for each digit without NMS, about one with it. A box of mean size covers much of every digit and fits none: its IoU is middling, and that of fitted boxes is clearly higher.
#
# </details>


# %%
def score_detector(**settings):
    """Boxes a digit; share of digits found (IoU above 0.5, right name); share of boxes that are right; mean best IoU."""
    boxes, found, right, best = 0, 0, 0, []
    for scene, truth, names in scenes:
        guess, name, _ = detect(scene, **settings)
        iou = box_iou(truth, guess) if len(guess) else torch.zeros(len(truth), 1)
        hit = (iou > 0.5) & (name == names[:, None] if len(guess) else False)
        boxes, found, right = boxes + len(guess), found + hit.any(dim=1).sum().item(), right + hit.any(dim=0).sum().item()
        best += iou.max(dim=1).values.tolist()
    return {"boxes a digit": boxes / len(best), "recall": found / len(best), "precision": right / max(1, boxes), "IoU": sum(best) / len(best)}


cloud, fitted, fixed = score_detector(overlap=1.0), score_detector(), score_detector(fitted=False)
for name, row in {"no suppression": cloud, "fitted boxes": fitted, "mean size": fixed}.items():
    print(f"{name:15}", *[f"{key} {value:.2f}  " for key, value in row.items()])

# %%
claim(
    "Non-maximum suppression leaves about one box for each digit, out of several",
    cloud["boxes a digit"] > 3 and 0.8 < fitted["boxes a digit"] < 1.4,
    f"{cloud['boxes a digit']:.1f} boxes a digit before, {fitted['boxes a digit']:.2f} after",
)

# %%
claim(
    "Boxes that are fitted (regressed) lie on the digits more closely than boxes of the mean size",
    fitted["IoU"] > fixed["IoU"] + 0.05,
    f"mean IoU {fitted['IoU']:.2f} against {fixed['IoU']:.2f}; right name and IoU above 0.5: {fitted['recall']:.0%} of the digits against {fixed['recall']:.0%}",
)

# %% [markdown]
# This is a detector of one scale, for one shape of box, on an easy ground. The next section has those that are used.

# %% [markdown]
# ## 8. The detectors of the field (15 min)
#
# | | year | idea | reference |
# |---|---|---|---|
# | R-CNN | 2014 | propose 2,000 regions by hand-made means, classify each with a CNN | Girshick et al., CVPR 2014 |
# | Fast R-CNN | 2015 | one pass for the whole picture, regions cut out of the features | Girshick, ICCV 2015 |
# | Faster R-CNN | 2015 | a small network proposes the regions, on the same features | Ren et al., NeurIPS 2015 |
# | YOLO | 2016 | no proposals: class and box for each cell of a grid, in one pass | Redmon et al., CVPR 2016 |
# | SSD | 2016 | one pass, boxes of several shapes at several scales of features | Liu et al., ECCV 2016 |
# | R-FCN | 2016 | position-sensitive score maps: nothing to compute for each region | Dai et al., NeurIPS 2016 |
# | Mask R-CNN | 2017 | Faster R-CNN with one more head, a mask for each box | He et al., ICCV 2017 |
# | RetinaNet | 2017 | one pass, and a focal loss, in which easy examples count little, so that background does not drown the rest | Lin et al., ICCV 2017 |
# | Detectron2 | 2019 | no network but a library: most of the above in PyTorch, with weights | Wu et al., 2019, github.com/facebookresearch/detectron2 |
#
# Torchvision has four of these families. They share the outline: a **backbone** computes features, **heads** turn them into boxes. All four begin with
# **anchors** (SSD says *default boxes*): boxes of a few sizes and shapes at every place, which the head moves and scales. So we give all four the *same* small backbone, and see that the head is the line that changes.


# %%
def backbone():
    layers = [nn.Sequential(nn.Conv2d(c_in, c_out, 3, stride=2, padding=1), nn.BatchNorm2d(c_out), nn.ReLU()) for c_in, c_out in ((3, 16), (16, 32), (32, 64))]
    network = nn.Sequential(*layers)
    network.out_channels = 64
    return network


# %%
# extra code: small heads for the families with proposals (torchvision's own have a thousand units)
def anchors():
    return detection.anchor_utils.AnchorGenerator(sizes=((12, 24, 40),), aspect_ratios=((0.5, 1.0, 2.0),))


def box_head():
    head, predictor = detection.faster_rcnn.TwoMLPHead(64 * 49, 64), detection.faster_rcnn.FastRCNNPredictor(64, num_classes=3)
    pool = torchvision.ops.MultiScaleRoIAlign(["0"], output_size=7, sampling_ratio=2)
    few = {"rpn_pre_nms_top_n_train": 100, "rpn_post_nms_top_n_train": 50, "rpn_pre_nms_top_n_test": 100, "rpn_post_nms_top_n_test": 20}
    return {"rpn_anchor_generator": anchors(), "box_roi_pool": pool, "box_head": head, "box_predictor": predictor} | few | size


def mask_head():
    pool = torchvision.ops.MultiScaleRoIAlign(["0"], output_size=14, sampling_ratio=2)
    heads, predictor = detection.mask_rcnn.MaskRCNNHeads(64, (32,), 1), detection.mask_rcnn.MaskRCNNPredictor(32, 32, num_classes=3)
    return {"mask_roi_pool": pool, "mask_head": heads, "mask_predictor": predictor}


def for_ssd(network):
    network.out_channels = [64]  # SSD takes features of several scales: a list
    return network


# %%
size = {"min_size": 64, "max_size": 64}
families = {
    "Faster R-CNN": lambda: detection.FasterRCNN(backbone(), **box_head()),
    "Mask R-CNN": lambda: detection.MaskRCNN(backbone(), **box_head(), **mask_head()),
    "RetinaNet": lambda: detection.RetinaNet(backbone(), num_classes=3, anchor_generator=anchors(), **size),
    "SSD": lambda: detection.ssd.SSD(for_ssd(backbone()), detection.anchor_utils.DefaultBoxGenerator([[2]], scales=[0.4, 0.7]), (64, 64), num_classes=3),
}

# %% [markdown]
# Eight drawings (always drawings here, as they come with masks), with the box around each animal. All four take the same: a list of pictures, a list of dicts with `boxes`, `labels` (0 is the background) and, for Mask R-CNN, `masks`. In
# training mode they return **losses**, in evaluation mode **detections**.

# %%
drawn = datasets.critters(["owl", "frog"], num_train=8, num_val=0, num_test=0).train
pictures = list(drawn.images.float() / 255)
masks = drawn.targets["mask"]
wanted = [{"boxes": box[None], "labels": label[None] + 1, "masks": mask[None].byte()} for box, label, mask in zip(masks_to_boxes(masks), drawn.targets["label"], masks, strict=True)]

# %%
torch.manual_seed(seeds[0])
losses, detections = {}, {}
for name, make in tqdm(families.items()):
    family = make()
    losses[name] = {key: value.item() for key, value in family(pictures, wanted).items()}
    with torch.no_grad():
        detections[name] = family.eval()(pictures[:1])[0]
    print(f"{name:13}{num_parameters(family):8,} weights; losses: {', '.join(losses[name])}; gives {', '.join(detections[name])}")

# %%
claim(
    "One backbone, four families: each gives its own losses in training, and boxes, labels and scores otherwise; only Mask R-CNN has masks",
    all({"boxes", "labels", "scores"} <= set(found) for found in detections.values()) and [n for n in families if "masks" in detections[n]] == ["Mask R-CNN"],
    f"two terms for RetinaNet and SSD, {len(losses['Faster R-CNN'])} for Faster R-CNN, {len(losses['Mask R-CNN'])} for Mask R-CNN",
)

# %% [markdown]
# The families with proposals have two stages, so twice two losses: "is there something, and roughly where", then "what is it, and where exactly". Does one learn? We let SSD learn these eight drawings by heart.
#
# **Before you run it:** forty steps on the same eight pictures. Which of its two losses falls?
#
# <details><summary>Answer</summary>
#
# Both, so their sum falls clearly. That is no result about detection. It is the first test of any implementation: can it overfit a handful? If not, something is broken.
#
# </details>

# %%
torch.manual_seed(seeds[0])
ssd, sums = families["SSD"](), []
optimizer = torch.optim.AdamW(ssd.parameters(), lr=3e-3)
for _ in tqdm(range(40)):
    loss = sum(ssd(pictures, wanted).values())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    sums.append(loss.item())
claim("A small SSD can learn eight drawings by heart: its loss falls to less than half", sums[-1] < 0.5 * sums[0], f"from {sums[0]:.1f} to {sums[-1]:.2f} in 40 steps")

# %% [markdown]
# ### One that has learned
#
# SSDlite on MobileNetV3, 13 MB, has learned the 80 kinds of things of COCO. (Its published score is the **mAP**: a mean over the classes of how well precision is kept up while recall grows.) It runs where its weights lie on this machine. To fetch them once, run `models.imagenet_state(weights)` (with internet).

# %%
weights = detection.SSDLite320_MobileNet_V3_Large_Weights.COCO_V1
file = Path(weights.url).name
present = any((place / file).exists() for place in (datasets.data_dir() / "weights", Path(torch.hub.get_dir()) / "checkpoints"))
print(f"{file}: {'here' if present else 'not on this machine, so this part is skipped'}; published box mAP on COCO {weights.meta['_metrics']['COCO-val2017']['box_map']} %")


# %%
# extra code: what it finds in three pictures
def with_weights_figure(num=3):
    trained = detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
    trained.load_state_dict(models.imagenet_state(weights))
    chosen = [judged.images[i] for i in range(num)]
    with torch.no_grad():
        found = trained.eval()([picture.float() / 255 for picture in chosen])
    fig, axes = plt.subplots(1, num, figsize=(4 * num, 4.3))
    for ax, picture, row in zip(axes, chosen, found, strict=True):
        ax.imshow(to_picture(picture))
        for (x1, y1, x2, y2), label, score in zip(row["boxes"].tolist(), row["labels"].tolist(), row["scores"].tolist(), strict=True):
            if score > 0.4:
                ax.add_patch(plt.Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor="C1", linewidth=3))
                ax.text(x1, y1, f"{weights.meta['categories'][label]} {score:.0%}", color="white", bbox={"facecolor": "C1", "edgecolor": "C1", "pad": 1})
        ax.axis("off")
    return fig


if present:
    show(with_weights_figure(), f"Three {noun}s of cats and dogs, with the boxes that SSDlite gives with a score above 40 %, and the name that it has for each.")

# %% [markdown] slideshow={"slide_type": "notes"}
# After this table came detectors without anchors and without NMS, such as DETR (Carion et al. 2020), which treat boxes as a set to be predicted by a transformer. The words of this section, backbone, head, IoU, NMS, mAP, are still those of
# the field.

# %% [markdown]
# ## 9. Capsules (15 min)
#
# A channel says *how strongly* something is there. Sabour, Frosst and Hinton (2017) wanted it to say *in which pose*, too. A **capsule** is a vector: its length says whether the thing is there, its direction how it looks.
#
# A length that stands for a probability must lie below 1. So each capsule is **squashed**: same direction, length between 0 and 1,
#
# $$\text{squash}(s) = \frac{\lVert s \rVert^2}{1 + \lVert s \rVert^2} \; \frac{s}{\lVert s \rVert}.$$


# %%
def squash(s):
    squared = (s**2).sum(dim=-1, keepdim=True)
    return squared / (1 + squared) * s / (squared + 1e-9).sqrt()


torch.manual_seed(seeds[0])
s = torch.randn(1000, 8) * torch.logspace(-2, 2, 1000)[:, None]
length, same_way = squash(s).norm(dim=1), F.cosine_similarity(squash(s), s)
claim(
    "Squashing keeps the direction, keeps the order of lengths, and brings all lengths below 1",
    bool((length < 1).all()) and same_way.min().item() > 0.999 and torch.equal(s.norm(dim=1).argsort()[::100], length.argsort()[::100]),
    f"1,000 vectors of length {s.norm(dim=1).min():.2f} to {s.norm(dim=1).max():.0f}; after it at most {length.max():.6f}",
)

# %% [markdown]
# ### Routing by agreement
#
# Each small capsule $i$ predicts each digit capsule $j$ with a matrix of its own, $\hat u_{ij} = W_{ij} u_i$: a **vote**. It has one unit of trust $c_{ij}$ to give away, at first in equal parts ($b_{ij} = 0$). Then, three times: the digit capsule is the
# squashed sum of the trusted votes, $v_j = \text{squash}(\sum_i c_{ij} \hat u_{ij})$; and votes that agree with it get more trust, $b_{ij} \leftarrow b_{ij} + \hat u_{ij} \cdot v_j$, $c_i = \text{softmax}(b_i)$.


# %%
def route(votes, rounds=3):
    """votes (N, capsules, digits, D) -> digit capsules (N, digits, D), and the trust of each round (N, capsules, digits)."""
    b, history = torch.zeros_like(votes[..., 0]), []
    for _ in range(rounds):
        c = b.softmax(dim=2)
        v = squash((c[..., None] * votes).sum(dim=1))
        b = b + (votes * v[:, None]).sum(dim=3)
        history.append(c)
    return v, history


# %%
class CapsuleNet(nn.Module):
    """Two convolutions, 64 capsules of 8 numbers (4 kinds at 4 x 4 places), routed to ten digit capsules of 8 numbers."""

    def __init__(self):
        super().__init__()
        self.convolutions = nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3))
        self.W = nn.Parameter(0.1 * torch.randn(64, 10, 8, 8))

    def votes(self, images):
        capsules = self.convolutions(images).unflatten(1, (4, 8)).flatten(3).transpose(2, 3).flatten(1, 2)
        return torch.einsum("nid,ijde->nije", squash(capsules), self.W)

    def forward(self, images):
        return route(self.votes(images))[0].norm(dim=2)  # ten lengths


# %% [markdown]
# The **margin loss** wants the right capsule longer than 0.9 and the others shorter than 0.1.


# %%
def margin_loss(lengths, labels):
    right = F.one_hot(labels, 10)
    return (right * F.relu(0.9 - lengths) ** 2 + 0.5 * (1 - right) * F.relu(lengths - 0.1) ** 2).sum(dim=1).mean()


torch.manual_seed(seeds[0])
capsule_net = train(CapsuleNet(), images, labels, num_epochs=6, lr=5e-3, batch_size=50, loss_fn=margin_loss)
capsule_accuracy = accuracy(capsule_net, test_images, test_labels)
torch.manual_seed(seeds[0])
plain_accuracy = accuracy(train(small_net(), images, labels, num_epochs=6, lr=5e-3, batch_size=50), test_images, test_labels)
print(f"capsules {capsule_accuracy:.1%}, the small network of section 1 {plain_accuracy:.1%}, both after 6 epochs")

# %% [markdown]
# **Before you run it:** at first each capsule gives each digit a tenth of its trust. How much does the right digit get after two rounds of agreement?
#
# <details><summary>Answer</summary>
#
# More than a tenth, and more after each round. But not much more: with so few rounds, routing only nudges. The matrices $W$, which are trained in the usual way, do most of the work.
#
# </details>

# %%
with torch.no_grad():
    _, history = route(capsule_net.votes(test_images))
to_right = [c[torch.arange(len(test_labels)), :, test_labels].mean().item() for c in history]
claim(
    "The capsule network learns the digits, and with each round of routing the right one gets more trust",
    capsule_accuracy > 0.9 and to_right[0] < to_right[1] < to_right[2],
    f"{capsule_accuracy:.1%} right; trust in the right digit {to_right[0]:.3f}, {to_right[1]:.3f}, {to_right[2]:.3f}",
)

# %% [markdown]
# Capsules are a fine idea that has not prevailed. Routing is slow, and on larger pictures plain networks with augmentation have stayed ahead. The question behind it, how parts agree on a whole, lives on in *attention*: there each part of the
# input weighs what all other parts have to say.

# %% [markdown]
# ## 10. A recurrent network reads a picture (10 min)
#
# Recurrent networks are made for sequences. A picture can be read as one: row by row, from the top. After each row the network updates its memory $h_t$, here by a **GRU** (Cho et al. 2014), a cell with gates that decide what to keep
# (the highway network of notebook 02 has such gates, too).


# %%
class RowReader(nn.Module):
    def __init__(self, memory=48):
        super().__init__()
        self.gru, self.answer = nn.GRU(8, memory, batch_first=True), nn.Linear(memory, 10)

    def forward(self, images):
        states, _ = self.gru(images[:, 0])  # (N, 8 rows, memory)
        return self.answer(states).transpose(1, 2)  # (N, 10, 8 rows): an answer after each row


# %% [markdown]
# We train it twice: once on its **last** answer alone, once on the answer **after each row**.
#
# **Before you run it:** how many of the eight rows does a reader need to be right most of the time? And what does the one that is trained on its last answer say half-way?
#
# <details><summary>Answer</summary>
#
# Trained on every row, it needs by far not all: the lower part of a digit is often no surprise. Trained on the last answer only, it says nothing useful half-way. Its memory holds what it will need, in a code that the answer layer
# cannot read yet. What a network says where nobody asked it in training means nothing.
#
# </details>


# %%
def last(logits, labels):
    return F.cross_entropy(logits[:, :, -1], labels)


def every(logits, labels):
    return F.cross_entropy(logits, labels[:, None].expand(-1, 8))


# %%
by_row = {}
for name, loss_fn in {"trained on the last row": last, "trained on every row": every}.items():
    torch.manual_seed(seeds[0])
    reader = train(RowReader(), images, labels, num_epochs=15, batch_size=50, loss_fn=loss_fn)
    with torch.no_grad():
        by_row[name] = (reader(test_images).argmax(dim=1) == test_labels[:, None]).float().mean(dim=0)

# %%
fig, ax = plt.subplots(figsize=(9.5, 4.6))
curves(ax, {name: values.numpy() for name, values in by_row.items()}, "rows read", "right answers", "Asked after every row, it knows before the end")
ax.set_ylim(0, 1.05)
ax.yaxis.set_major_formatter(PercentFormatter(1))
show(fig, f"Share of right answers against the number of rows read, of 8. Trained on every row the curve climbs from the first row on and is at {by_row['trained on every row'][4]:.0%} after five. "
     f"Trained on the last row only it guesses for most of the way and jumps up at the end, to {by_row['trained on the last row'][-1]:.0%}.")  # fmt: skip

# %%
on_every, on_last = by_row["trained on every row"], by_row["trained on the last row"]
claim(
    "A recurrent network can read a picture row by row; trained on every row, it is right before the end, trained on the last one, it is not",
    on_every[4].item() > 0.8 and on_last[-1].item() > 0.9 and on_last[4].item() < on_every[4].item() - 0.3,
    f"after five of eight rows {on_every[4]:.0%} against {on_last[4]:.0%}; at the end {on_every[-1]:.0%} and {on_last[-1]:.0%}",
)

# %% [markdown]
# Nobody classifies pictures like this today. Where pictures are sequences, as in films and in text that describes a picture, recurrent networks had their time, and *transformers*, networks made of attention, have taken over. Those, too, read a picture
# as a sequence, of patches (Dosovitskiy et al. 2021).

# %% [markdown]
# ## 11. Exercises (50 min)
#
# Write your answer in place of the dots and run the cell: the check tells you what it expected and what came. Stuck? Take away the `#` in the cell below it.
#
# **Exercise 1: average the views.** Ask `model` (logits out) for `images` (N, C, H, W) and for their mirror images, left and right exchanged. Return the mean of the two **probabilities**, (N, classes).


# %%
def ask_twice(model, images):
    ...


exercises.ask_twice.check(ask_twice)

# %% slideshow={"slide_type": "skip"}
# exercises.ask_twice.hint()
# exercises.ask_twice.solution()

# %% [markdown]
# **Exercise 2: squash.** For vectors `s` (..., D), shorten each to the length $\lVert s \rVert^2 / (1 + \lVert s \rVert^2)$ and keep its direction. The zero vector stays zero.


# %%
def squash_by_hand(s):
    ...


exercises.squash_by_hand.check(squash_by_hand)

# %% slideshow={"slide_type": "skip"}
# exercises.squash_by_hand.hint()
# exercises.squash_by_hand.solution()

# %% [markdown]
# **Exercise 3: intersection over union.** `a` is (N, 4), `b` is (M, 4), boxes as $(x_1, y_1, x_2, y_2)$. Return all IoUs, (N, M), without torchvision.


# %%
def iou(a, b):
    ...


exercises.iou.check(iou)

# %% slideshow={"slide_type": "skip"}
# exercises.iou.hint()
# exercises.iou.solution()

# %% [markdown]
# **Exercise 4: non-maximum suppression.** Write it: return the list of the places of the boxes that stay, the surest first. A box is removed when it overlaps a surer one *that stays* by **more** than `overlap`. `box_iou` of torchvision is
# allowed, `nms` is not.


# %%
def suppress(boxes, scores, overlap):
    ...


exercises.suppress.check(suppress)

# %% slideshow={"slide_type": "skip"}
# exercises.suppress.hint()
# exercises.suppress.solution()

# %% [markdown]
# **Exercise 5: calibration error.** From probabilities `p` (N, classes) and `labels` (N,): the expected calibration error with ten bins of equal width, a number (float). A confidence of exactly 1 belongs in the last bin.


# %%
def calibration_error(p, labels):
    ...


exercises.calibration_error.check(calibration_error)

# %% slideshow={"slide_type": "skip"}
# exercises.calibration_error.hint()
# exercises.calibration_error.solution()

# %% [markdown]
# **Exercise 6: a greedy soup.** Wortsman et al. do not average all. They go through the networks, the best first, and keep one in the average only if the average does not get worse by it. `networks` come sorted, the best first;
# `score(network)` gives the accuracy of a network on validation data. Return the averaged network. (`average_weights` of section 3 is yours to copy.)


# %%
def greedy_soup(networks, score):
    ...


exercises.greedy_soup.check(greedy_soup)

# %% slideshow={"slide_type": "skip"}
# exercises.greedy_soup.hint()
# exercises.greedy_soup.solution()

# %% [markdown]
# ## 12. Lab: an ensemble under a budget (45 min and more)
#
# You have **400 noisy digits**, as in section 2, and **a million multiplications** for each picture that you are asked about. Spend them as you like: one wide network, several narrow ones, several views. Training is free.
#
# `build_ensemble(images, labels)` gets pictures, float (400, 1, 8, 8), and their labels, and returns an `nn.Module` that turns pictures into **probabilities**, (N, 10). The check gives it digits with noise that nobody has seen, turns the
# result into a graph of operations, counts the multiplications in it, and scores it on the digits that are left, with new noise and in random order. (So train on what you are given, not on `images` of this notebook.)
#
# The score is the **negative log-likelihood**, which asks for accuracy and honesty at once. What is good? Here is the budget spent in three simple ways, measured earlier, with networks as in section 2:

# %%
budget_rows = measured("winning_budget")
for width, number in dict.fromkeys((row["width"], row["networks"]) for row in budget_rows):
    values = [(row["nll"], row["accuracy"]) for row in budget_rows if row["width"] == width]
    mean_nll, mean_accuracy = (sum(column) / len(values) for column in zip(*values, strict=True))
    print(f"{number:2} of width {width:2}: {number * count_macs(small_net(width), 1, 1, 8, 8):9,} multiplications, NLL {mean_nll:.2f}, accuracy {mean_accuracy:.1%}")
print(f"good: NLL of at most {exercises.LAB_GOOD}; very good: at most {exercises.LAB_VERY_GOOD}")


# %%
def build_ensemble(images, labels):
    ...


exercises.lab.check(build_ensemble)

# %% slideshow={"slide_type": "skip"}
# exercises.lab.hint()
# exercises.lab.solution()

# %% [markdown]
# ## Summary
#
# - Knowledge comes from labels, from engineering, and from other people's labels. Hand-made features help where labels are few; borrowed ones help far more where there are any.
# - An ensemble is right more often than its members, and less surprised. The first few members bring most. Better calibrated it is where its members were too sure.
# - Weights can be averaged where networks have a common past, not otherwise.
# - Views cost as many passes, and help only if the network has learned to see them.
# - Read implementations, shapes first. Read what `load_state_dict` returns.
# - Most failures of a small project are in its folder of pictures. Look for broken files, duplicates and shortcuts before you train.
# - A detector is a classifier that slides, with four numbers more, and a rule that leaves one box for each thing.
# - Capsules and recurrent networks can read pictures, too. That something runs does not make it the future.
#
# The claims of this run, with their figures:

# %%
summary()

# %% [markdown]
# ### Lecture topics
#
# | topic | section | lectures |
# |---|---|---|
# | S1 labelled data and hand engineering | 1 | C |
# | S2 ensembles, averaged outputs and weights | 2, 3 | C |
# | S3 test-time augmentation and multi-crop | 4 | C |
# | S4 open-source implementations: read one, reuse its weights | 5 | C |
# | S5 your own folder of images | 6 | C |
# | S6 detectors, capsules, recurrent networks | 7, 8, 9, 10 | E |
#
# ### Further reading
# - N. Dalal, B. Triggs. *Histograms of Oriented Gradients for Human Detection*. CVPR 2005
# - B. Lakshminarayanan, A. Pritzel, C. Blundell. *Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles*. NeurIPS 2017. https://arxiv.org/abs/1612.01474
# - C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger. *On Calibration of Modern Neural Networks*. ICML 2017. https://arxiv.org/abs/1706.04599
# - P. Izmailov et al. *Averaging Weights Leads to Wider Optima and Better Generalization*. UAI 2018. https://arxiv.org/abs/1803.05407
# - M. Wortsman et al. *Model soups: averaging weights of multiple fine-tuned models improves accuracy without increasing inference time*. ICML 2022. https://arxiv.org/abs/2203.05482
# - J. Frankle, G. K. Dziugaite, D. M. Roy, M. Carbin. *Linear Mode Connectivity and the Lottery Ticket Hypothesis*. ICML 2020. https://arxiv.org/abs/1912.05671
# - S. Gidaris, P. Singh, N. Komodakis. *Unsupervised Representation Learning by Predicting Image Rotations*. ICLR 2018. https://arxiv.org/abs/1803.07728
# - J. Hu, L. Shen, G. Sun. *Squeeze-and-Excitation Networks*. CVPR 2018. https://arxiv.org/abs/1709.01507
# - R. Geirhos et al. *Shortcut Learning in Deep Neural Networks*. Nature Machine Intelligence 2020. https://arxiv.org/abs/2004.07780
# - J. R. Zech et al. *Variable generalization performance of a deep learning model to detect pneumonia in chest radiographs*. PLOS Medicine 2018
# - S. Sabour, N. Frosst, G. E. Hinton. *Dynamic Routing Between Capsules*. NeurIPS 2017. https://arxiv.org/abs/1710.09829
# - K. Cho et al. *Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation*. EMNLP 2014. https://arxiv.org/abs/1406.1078 (the GRU)
#
# Detectors, in the order of the table:
# - R. Girshick, J. Donahue, T. Darrell, J. Malik. *Rich feature hierarchies for accurate object detection and semantic segmentation*. CVPR 2014. https://arxiv.org/abs/1311.2524
# - R. Girshick. *Fast R-CNN*. ICCV 2015. https://arxiv.org/abs/1504.08083
# - S. Ren, K. He, R. Girshick, J. Sun. *Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks*. NeurIPS 2015. https://arxiv.org/abs/1506.01497
# - J. Redmon, S. Divvala, R. Girshick, A. Farhadi. *You Only Look Once: Unified, Real-Time Object Detection*. CVPR 2016. https://arxiv.org/abs/1506.02640
# - W. Liu et al. *SSD: Single Shot MultiBox Detector*. ECCV 2016. https://arxiv.org/abs/1512.02325
# - J. Dai, Y. Li, K. He, J. Sun. *R-FCN: Object Detection via Region-based Fully Convolutional Networks*. NeurIPS 2016. https://arxiv.org/abs/1605.06409
# - K. He, G. Gkioxari, P. Dollár, R. Girshick. *Mask R-CNN*. ICCV 2017. https://arxiv.org/abs/1703.06870
# - T.-Y. Lin, P. Goyal, R. Girshick, K. He, P. Dollár. *Focal Loss for Dense Object Detection*. ICCV 2017. https://arxiv.org/abs/1708.02002 (RetinaNet)
# - Y. Wu, A. Kirillov, F. Massa, W.-Y. Lo, R. Girshick. *Detectron2*. 2019. https://github.com/facebookresearch/detectron2
#
# And beyond them: N. Carion et al. *End-to-End Object Detection with Transformers*. ECCV 2020. https://arxiv.org/abs/2005.12872; A. Dosovitskiy et al. *An Image is Worth 16x16 Words*. ICLR 2021. https://arxiv.org/abs/2010.11929
#
# ### Next notebook
# This is the last one. Take your own folder of pictures, and begin at notebook 05.
