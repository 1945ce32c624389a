# %% [markdown]
# # 10 · State of computer vision: winning tricks
#
# @BADGES@
#
# **To keep what you write:** on Colab choose *File > Save a copy in Drive*, on Kaggle *Copy & Edit*, before you begin.
#
# **Question:** What do the winners of benchmarks do, and is it worth more than one network that costs the same?
#
# **You will be able to**
# - say what hand-made features, other people's labels and your own labels are each worth on a task,
# - average networks, views and weights, and compare each with *one* network at the same cost,
# - read an open implementation, reuse its weights without silent mistakes, and take your own folder of pictures to a tested classifier.
#
# **Time:** it runs in @TIME@ on two CPU cores; with all sections, the exercises and the lab, about three hours.
# If there is a GPU, only the pretrained network of section 1 uses it; everything else runs on the CPU.
# **Before this:** notebook 05.

# %% [markdown] slideshow={"slide_type": "notes"}
# **A plan for 75 minutes** (the core takes 68, with its exercises)
#
# - **Core:** sections 1, 2, 4 and 5: sources of knowledge, ensembles, test-time augmentation, open-source implementations, in the order of
#   the slides on winning.
# - **Optional:** 3 (averaging weights), 6 (your own folder, with the emotion lab).
# - **Where to stop:** after the facts of section 5. If you are late, stop after the claims of section 4, and summarise section 5 in five minutes.

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
# What this notebook imports. Everything that is not PyTorch is in the folder utils/.
import copy
import hashlib
import inspect
import random
import shutil
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
import torchvision
from matplotlib.ticker import PercentFormatter
from PIL import Image, ImageDraw
from torch import nn
from torchvision.transforms import v2
from tqdm.auto import tqdm

from utils import datasets, models
from utils.exercises import winning_tricks as exercises
from utils.figures import curves, explore, image_grid, show, to_picture
from utils.lessons import claim, fact, measured, summary
from utils.models import count_macs
from utils.training import predict

# %% slideshow={"slide_type": "skip"}
torch.set_num_threads(1)  # for networks this small, more cores only mean more waiting
course_seed = torch.initial_seed()  # as utils.start() has set it
seeds = [10 * course_seed + k for k in range(5)]  # no two course seeds share one

# %% [markdown]
# ## 1. Where knowledge comes from (20 min)
#
# What a classifier knows comes from two sources: from **labelled data**, and from **people who built their knowledge into it**. An old rule says that hand engineering is worth more when
# there are fewer labels.
#
# We test it on **digits** of 8 x 8 pixels, which are so small that everything about them is computed in a second.

# %% tags=["measure"]
pool, _, test_set = datasets.digits()


def as_input(dataset):
    return dataset.images / 127.5 - 1, dataset.targets["label"]


images, labels = as_input(pool)
test_images, test_labels = as_input(test_set)

# %%
print(f"{len(images):,} digits to learn from, {len(test_images)} to test on")

# %% [markdown]
# ### Knowledge by hand: histograms of oriented gradients
#
# Before networks learned features, people designed them. **HOG** (Dalal and Triggs 2005) was the best method of its day for finding people in the street. Its idea: a shape is described by
# where its edges are, and which way they run.
#
# 1. At each pixel: the **gradient**, its strength and its angle. An angle and its opposite count as the same, so angles run from $0$ to $180°$, in 9 bins.
# 2. In each **cell** of some pixels: a histogram of the angles, weighted by strength; each pixel votes for the two bins beside its angle.
# 3. Each **block** of 2 x 2 cells is scaled to length 1, so that light and contrast do not matter.


# %% tags=["measure"]
def histograms(images, cell):
    """Angles of gradients in each cell: (N, C, H, W) -> (N, 9, H / cell, W / cell)."""
    grey = F.pad(images.mean(dim=1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    dx = grey[:, :, 1:-1, 2:] - grey[:, :, 1:-1, :-2]
    dy = grey[:, :, 2:, 1:-1] - grey[:, :, :-2, 1:-1]
    strength = (dx**2 + dy**2).sqrt()
    angle = torch.atan2(dy, dx) % torch.pi / torch.pi * 9  # 0 to 9
    below, share = angle.long() % 9, angle.frac()  # votes for the two bins beside it
    votes = images.new_zeros(len(images), 9, *images.shape[2:])
    votes.scatter_add_(1, below, (1 - share) * strength)
    votes.scatter_add_(1, (below + 1) % 9, share * strength)
    return F.avg_pool2d(votes, cell)


# %% tags=["measure"]
def hog(images, cell):
    """Histograms of oriented gradients: float (N, C, H, W) -> features (N, D)."""
    blocks = F.unfold(histograms(images, cell), kernel_size=2).transpose(1, 2)
    return F.normalize(blocks, dim=2).flatten(1)


# %%
# NBVAL_CHECK_OUTPUT
print(tuple(hog(images[:5], cell=2).shape), "= 3 x 3 blocks, 4 cells each, 9 bins")

# %% [markdown]
# ### Explore: what HOG sees
#
# Each cell shows its histogram as strokes along the edges. The larger the cell, the less it says about where exactly an edge was.

# %%
animals, _, animals_test = datasets.dogs_vs_cats(num_train=600, num_val=200)
noun, side = animals.noun, animals.images.shape[-1]


# %%
# extra code: strokes along the edges, one for each cell and bin
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
    kind = animals.classes[animals.targets["label"][picture]]
    for ax, title in zip(axes, (f"a {kind}", f"what is left of it: edges in {len(cells)} x {len(cells)} cells"), strict=True):
        ax.set(xticks=[], yticks=[], title=title)
        ax.grid(False)
    return fig, f"Left a {noun} of a {kind}, right its histograms of oriented gradients: strokes along the edges that each cell of {size} pixels holds."


explore(draw_hog, picture=range(12), cell=[8, 4, 16])

# %% [markdown]
# **Exercise 1** (3 min): which bin? `angles` are in degrees, from -180 to 360. Return the bin, 0 to 8, of each angle. There are 9 bins of 20 degrees, and an angle counts as the same as its
# opposite, so 185 degrees is 5 degrees.
#
# Write your answer in place of the dots and run the cell: the check says what it expected and what it got. Stuck? Take away the `#` in
# the cell below it.


# %%
def bin_of(angles):
    ...


exercises.bin_of.check(bin_of)

# %% slideshow={"slide_type": "skip"}
# exercises.bin_of.hint()
# exercises.bin_of.solution()

# %% [markdown]
# ### Knowledge from data
#
# This is the training loop of notebook 00, for tensors in memory. It trains all small models in this notebook: linear classifiers, and a small network.


# %% tags=["measure"]
def train(
    model, images, labels, num_epochs=20, lr=1e-2, batch_size=32, weight_decay=0.0
):
    steps = num_epochs * -(-len(images) // batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    model.train()
    for _ in range(num_epochs):
        for rows in torch.randperm(len(images)).split(batch_size):
            loss = F.cross_entropy(model(images[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
    return model.eval()


# %% tags=["measure"]
def small_net(width=16):
    """For digits, without batch normalisation: section 3 will average weights."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * width, 10),
    )  # fmt: skip


# %% tags=["measure"]
def linear_on(features, labels, seed):
    """A linear classifier on fixed features."""
    torch.manual_seed(seed)
    linear = nn.Linear(features.shape[1], int(labels.max()) + 1)
    setting = {"num_epochs": 100, "batch_size": 200, "weight_decay": 0.1}
    return train(linear, features, labels, **setting)


@torch.no_grad()
def accuracy(model, inputs, labels):
    return (model(inputs).argmax(dim=1) == labels).float().mean().item()


# %% [markdown]
# We train the same linear classifier on the 64 pixels and on HOG's 324 numbers. But does the engineering help, or only the larger number of features? So there is a control: 324 **random**
# features, each a random weighted sum of the pixels, followed by a ReLU.
#
# **Before you run it:** how much is HOG worth over pixels with 50 labelled digits, five of each? And with 1,200?
#
# <details><summary>Answer</summary>
#
# Two to three points with 50, and about as much with 1,200, where that is half of the remaining errors. The gain is flat, and we do not see the old rule here. Nor is it the engineering: the
# same number of random features gains nearly as much. On this task, more features help the linear classifier.
#
# </details>


# %% tags=["measure"]
def random_features(pictures, number=324):
    generator = torch.Generator().manual_seed(number)
    weights = torch.randn(64, number, generator=generator) / 8
    bias = torch.rand(number, generator=generator) - 0.5
    return torch.relu(pictures.flatten(1) @ weights + bias)


describe = {
    "pixels": lambda pictures: pictures.flatten(1),
    "random": random_features,
    "HOG": lambda pictures: hog(pictures, cell=2),
}


# %% tags=["measure"]
def digits_with(features, num, seed):
    """Test accuracy from `num` labelled digits: linear on features, or the network."""
    rows, inputs = pool.subset(num, seed=seed).indices, describe.get(features)
    if features == "network":
        torch.manual_seed(seed)
        epochs = max(10, 3000 // num)
        model = train(small_net(), images[rows], labels[rows], epochs, lr=3e-3)
        return accuracy(model, test_images, test_labels)
    model = linear_on(inputs(images[rows]), labels[rows], seed)
    return accuracy(model, inputs(test_images), test_labels)


# %%
live = {}
for num in (50, 1200):
    for name in describe:
        draws = [digits_with(name, num, seed) for seed in seeds]
        live[name, num] = sum(draws) / len(draws)
        print(f"{num:5} labels, {name:7} {live[name, num]:.1%}")

# %%
gain = {
    (name, num): 100 * (live[name, num] - live["pixels", num])
    for name in ("HOG", "random") for num in (50, 1200)
}
claim(
    "HOG beats pixels with 1,200 labels too; as many random features do nearly as well",
    gain["HOG", 1200] > 1 and gain["random", 1200] > 0.5 * gain["HOG", 1200],
    f"points over pixels, with 50 labels: HOG {gain['HOG', 50]:+.1f}, random"
    f" {gain['random', 50]:+.1f}; with 1,200: {gain['HOG', 1200]:+.1f} and"
    f" {gain['random', 1200]:+.1f}",
    same=f"a linear classifier of 100 epochs, means of {len(seeds)} draws",
)  # fmt: skip
# %% [markdown]
# ### From little data to lots of data
#
# The lecture places tasks on a line: detection with little data and much hand engineering at one end, speech recognition with lots of data and little engineering at the other. The figure
# shows this line, with the size of a well-known data set for each task, and below it what we measured on our digits.

# %%
rows = measured("winning_sources")


# %%
# extra code: the lecture's line, and the gain of HOG over pixels on digits
def line_figure():
    fig, (line, gain) = plt.subplots(2, 1, figsize=(10, 7.4), height_ratios=[1, 1.25])
    known = {"detection\nPASCAL VOC 2007": 5_011, "detection\nCOCO": 118_287, "recognition\nImageNet": 1_281_167, "speech\nDeep Speech 2": 8_000_000}
    line.set(xscale="log", xlim=(1e3, 5e7), ylim=(-1.7, 1.7), yticks=[], xlabel="labelled pictures, or utterances")
    line.set_title("The lecture's line: more data, less engineering")
    line.axhline(0, color="gray", linewidth=2, zorder=1)
    for i, (name, number) in enumerate(known.items()):
        line.plot(number, 0, "o", color="C0", markersize=11)
        line.annotate(f"{name}\n{number:,}", (number, 0), xytext=(0, 10 if i % 2 else -10), textcoords="offset points", ha="center",
                      va="bottom" if i % 2 else "top", fontsize=12)  # fmt: skip
    line.text(1.1e3, 1.2, "← engineered by hand", fontsize=13, color="C1", fontweight="bold")
    line.text(4.6e7, -1.5, "learned end to end →", fontsize=13, color="C1", fontweight="bold", ha="right")
    digits = {(r["features"], r["num"], r["seed"]): r["accuracy"] for r in rows if r["task"] == "digits"}
    nums = sorted({num for _, num, _ in digits})
    means = {}
    for colour, name in {"C0": "HOG", "C1": "network"}.items():
        ahead = [[100 * (digits[name, num, seed] - digits["pixels", num, seed]) for num in nums] for seed in range(5)]
        for one in ahead:
            gain.plot(nums, one, "o", color=colour, alpha=0.4)
        means[name] = [sum(column) / 5 for column in zip(*ahead, strict=True)]
        gain.plot(nums, means[name], color=colour, linewidth=3)
    gain.axhline(0, color="gray", linewidth=1.5)
    gain.set(xscale="log", ylim=(-4, 12), xlabel="labelled digits", ylabel="ahead of pixels, points", title="On digits, HOG gains the same with few labels and with many")
    gain.set_xticks(nums, nums)
    gain.set_xticks([], minor=True)
    gain.text(0.02, 0.95, "blue: HOG, then linear", color="C0", fontweight="bold", transform=gain.transAxes, va="top")
    gain.text(0.02, 0.85, "orange: a small network that learns everything", color="C1", fontweight="bold", transform=gain.transAxes, va="top")
    fig.get_layout_engine().set(hspace=0.08)
    return fig, means


line_drawn, gains = line_figure()
show(line_drawn, "Above, a line of data sets by their size: detection at the left with 5,011 and 118,287 pictures, recognition with 1.3 million, speech with 8 million utterances at the right. Below, points of accuracy "
     f"ahead of a linear classifier on pixels against the number of labelled digits, one dot per seed. Means from 20 labels to 1,200: HOG {min(gains['HOG']):.1f} to {max(gains['HOG']):.1f}, a small network {min(gains['network']):.1f} to {max(gains['network']):.1f}.")  # fmt: skip

# %% [markdown]
# A small network that learns its features keeps up with HOG from 20 labels on. So on this task there is no number of labels at which the engineering pays.

# %% [markdown] slideshow={"slide_type": "notes"}
# Ask the class where on the line their own task is. Over five seeds the mean gain of HOG is 1.7 to 2.9 points at each of the five numbers of labels, and one seed at 20 labels lost 3. One small task
# does not disprove a rule, but it is a reason to measure before you believe the rule.

# %% [markdown]
# ### A third source: other people's labels
#
# Now we take cats and dogs, which differ in small parts that can be anywhere. We also use data that **somebody else has labelled**, in the form of a pretrained network (notebook 05). For
# the drawings, it was trained on other species, drawn by the same program. That is as close to our task as ImageNet is to photos of cats and dogs.
#
# **Before you run it:** a linear classifier on HOG gets all 600 labelled pictures. A linear classifier on the features of the pretrained network gets twenty. Which wins?
#
# <details><summary>Answer</summary>
#
# The borrowed features, by far. HOG was designed for standing people of one size. Nobody knows how to write down "whiskers, anywhere". So on most tasks hand engineering has moved from
# features to architectures, losses,
# augmentation, and the choice of what to pretrain on.
#
# </details>

# %%
encoder, prepare = models.pretrained(animals.source)
encoder.classifier = nn.Identity()
encoder.to(device)


def embed(pictures, encoder=encoder, prepare=prepare):
    """Features of the pretrained network for uint8 pictures (N, 3, S, S)."""
    # predict() wants pairs, as a loader gives them; it does not use the second
    parts = [(prepare(part), part) for part in pictures.split(100)]
    return predict(encoder, parts, progress=None)[0]


# %%
judged = animals_test.subset(400)
animal_labels, judged_labels = animals.targets["label"], judged.targets["label"]
learned, learned_judged = embed(animals.images), embed(judged.images)
cell = side // 8
hand_made = hog(animals.images / 255, cell)
hand_made_judged = hog(judged.images / 255, cell)


# %%
def with_borrowed(num, seed):
    rows = animals.subset(num, seed=seed).indices
    return linear_on(learned[rows], animal_labels[rows], seed)


borrowed = [
    accuracy(with_borrowed(20, seed), learned_judged, judged_labels) for seed in seeds
]
by_hand = accuracy(
    linear_on(hand_made, animal_labels, seeds[0]), hand_made_judged, judged_labels
)
claim(
    f"Twenty labelled {noun}s on borrowed features beat 600 on hand-made features",
    min(borrowed) > by_hand + 0.1,
    f"{min(borrowed):.0%} or more against {by_hand:.0%}; guessing gives 50 %",
    same=f"a linear classifier of 100 epochs, {len(judged)} test {noun}s",
)

# %%
learned_rows = measured("transfer_curves")  # notebook 05's, on the same pictures


# %%
# extra code: accuracy on the animals against the number of labels, in three ways
def animals_figure(source):
    fig, ax = plt.subplots(figsize=(10, 5.4))
    ax.set(xscale="log", ylim=(0.45, 1))
    table = [r | {"way": "HOG, then linear"} for r in rows if r["task"] == "animals"]
    names = {"frozen": "borrowed, then linear", "own": "a network of our own"}
    table += [r | {"way": names[r["approach"]]} for r in learned_rows if r["approach"] in names and r["num"] <= 2000]
    table = [r for r in table if r["source"] == source]
    for i, way in enumerate(("HOG, then linear", names["own"], names["frozen"])):
        nums = sorted({r["num"] for r in table if r["way"] == way})
        values = {num: [r["accuracy"] for r in table if r["way"] == way and r["num"] == num] for num in nums}
        mean = [sum(values[num]) / len(values[num]) for num in nums]
        ax.plot(nums, mean, marker="o", color=f"C{i}")
        ax.fill_between(nums, [min(values[num]) for num in nums], [max(values[num]) for num in nums], color=f"C{i}", alpha=0.2, linewidth=0)
        at = nums.index(200) if way == names["own"] else -1  # where no other line is near
        ax.annotate(way, (nums[at], mean[at]), xytext=(10, -6 if at > 0 else 0), textcoords="offset points", va="center", color=f"C{i}", fontweight="bold")
    ax.set_xticks([20, 50, 200, 600, 2000], [20, 50, 200, 600, "2,000"])
    ax.set_xticks([], minor=True)
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.set(xlim=(18, 12000), xlabel="labelled pictures", ylabel="test accuracy", title="Borrowed features lead; our own network needs far more labels")
    return fig


show(animals_figure(animals.source), f"Test accuracy on {noun}s of cats and dogs against the number of labels, with the range over seeds. Borrowed features lead from the first twenty on.")  # fmt: skip

# %% [markdown]
# **Exercise 2** (2 min): the errors that are left. From 95.5 % to 97.7 % sounds like little. Given two accuracies between 0 and 1, return the number of errors that remain, as a share of those before.


# %%
def errors_left(before, after):
    ...


exercises.errors_left.check(errors_left)

# %% slideshow={"slide_type": "skip"}
# exercises.errors_left.hint()
# exercises.errors_left.solution()

# %% [markdown]
# ## 2. Ensembles: ask several networks (19 min)
#
# From 2012 to 2017, every winner of ImageNet's yearly classification competition was an **ensemble**: several networks, whose answers are averaged. Why does that
# help, if all learned from the same pictures?
#
# Because they make different mistakes. Each starts from different random numbers and ends at different weights. Where they are right, they agree; where one guesses, the others guess differently.
#
# Clean digits are too easy to show this. So we add noise to each picture, and learn from 400 pictures.


# %% tags=["measure"]
def noisy_task(seed, num=400, noise=0.6):
    """(images, labels) of `num` digits to learn from, and of all others, with noise."""
    generator = torch.Generator().manual_seed(seed)
    everything = torch.cat([images, test_images])
    answers = torch.cat([labels, test_labels])
    everything = everything + noise * torch.randn(everything.shape, generator=generator)
    known = torch.zeros(len(answers), dtype=torch.bool)
    known[pool.subset(num, seed=seed).indices] = True
    return (everything[known], answers[known]), (everything[~known], answers[~known])


# %%
known, new = noisy_task(seeds[0])

# %%
# extra code: ten of the noisy digits
ten = image_grid([((image + 2.5) / 5).clamp(0, 1) for image in new[0][:10]], titles=[str(k.item()) for k in new[1][:10]], columns=5, size=1.2)
show(ten, "Ten digits of 8 x 8 pixels with noise, and what they are.")


# %% tags=["measure"]
def member(task, seed, width=16, num_epochs=20, lr=1e-2):
    torch.manual_seed(seed)
    return train(small_net(width), *task, num_epochs=num_epochs, lr=lr)


@torch.no_grad()
def probabilities(model, images):
    return model(images).softmax(dim=1)


# %%
member_seeds = [100 * seeds[0] + k for k in range(8)]
members = [member(known, seed) for seed in tqdm(member_seeds)]
answers = torch.stack([probabilities(model, new[0]) for model in members])
print(f"answers: {tuple(answers.shape)} = members, digits, classes")

# %% [markdown]
# ### Three scores
#
# With probabilities $p_{ic}$ for picture $i$ and class $c$, and true labels $y_i$:
#
# - **Accuracy**: how often is the largest $p_{ic}$ the right one?
# - **Negative log-likelihood** (NLL), $-\frac{1}{N} \sum_i \log p_{i y_i}$: how surprised is the network by the truth? A confident wrong answer costs the most.
# - **Expected calibration error** (ECE): is its confidence justified? Sort the answers by confidence into 10 bins $B$. In each bin, compare the mean confidence with the share of right answers, and
# average: $\sum_B \frac{|B|}{N} \, |\text{conf}(B) - \text{acc}(B)|$. Of the answers given with 90 % confidence, 90 % should be right (Guo et al. 2017).


# %% tags=["measure"]
def calibration(p, labels, bins=10):
    """For each bin that is not empty: its share of answers, confidence, accuracy."""
    confidence, answer = p.max(dim=1)
    place = (confidence * bins).long().clamp(max=bins - 1)
    right = (answer == labels).float()
    inside = [place == b for b in place.unique()]
    return [
        tuple(x.mean().item() for x in (rows.float(), confidence[rows], right[rows]))
        for rows in inside
    ]


# %% tags=["measure"]
def scores(p, labels):
    bins = calibration(p, labels)
    return {
        "accuracy": (p.argmax(dim=1) == labels).float().mean().item(),
        "nll": F.nll_loss(p.clamp_min(1e-9).log(), labels).item(),
        "ece": sum(share * abs(conf - right) for share, conf, right in bins),
    }


# %%
def mean_of(rows):
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


single = mean_of([scores(p, new[1]) for p in answers])
eight = scores(answers.mean(dim=0), new[1])
for who, row in {"one network": single, "eight networks": eight}.items():
    print(f"{who:14}", *[f"  {name} {value:.3f}" for name, value in row.items()])

# %%
claim(
    "Eight networks are right more often than one of them, and better calibrated",
    eight["accuracy"] > single["accuracy"] + 0.01
    and eight["ece"] < 0.85 * single["ece"],
    f"accuracy {eight['accuracy']:.1%} against {single['accuracy']:.1%}, ECE"
    f" {eight['ece']:.3f} against {single['ece']:.3f}, at eight times the cost",
    same=f"{len(new[1]):,} noisy test digits",
)

# %% [markdown]
# ### One network at the same cost
#
# Eight networks cost eight times the multiplications. We spend them on **one** network instead, with 46 channels instead of 16. So that the learning rate does not decide, each way
# chooses its rate from three, on 400 of the new digits; the others are the test. So does one narrow network, at an eighth of the cost.

# %%
cost = {width: count_macs(small_net(width), 1, 1, 8, 8) for width in (16, 46)}
print(f"multiplications: {8 * cost[16]:,} for eight, {cost[46]:,} for one of width 46")

# %% [markdown]
# **Before you run it:** which is better, eight narrow networks or the wide one? Think of accuracy, and of NLL, the score that looks at probabilities.
#
# <details><summary>Answer</summary>
#
# In NLL the two are close, once each has its best rate. In accuracy the eight are ahead. The narrow network comes a long way, too, by a smaller rate alone: at the rate 0.01 of the cells
# above it is overconfident, and a good part of what the eight correct is that.
#
# </details>

# %%
at_rate = {"narrow": {}, "eight": {}, "wide": {}}
for lr in tqdm((1e-3, 3e-3, 1e-2)):
    narrow = members if lr == 1e-2 else [member(known, s, lr=lr) for s in member_seeds]
    p = torch.stack([probabilities(model, new[0]) for model in narrow])
    at_rate["narrow"][lr] = p  # eight answers, scored one by one
    at_rate["eight"][lr] = p.mean(dim=0, keepdim=True)
    wide = member(known, seeds[0], width=46, lr=lr)
    at_rate["wide"][lr] = probabilities(wide, new[0])[None]


# %%
def scored_on(answers, rows):
    return mean_of([scores(p[rows], new[1][rows]) for p in answers])


val_rows, test_rows = slice(400), slice(400, None)
best = {"narrow, rate 0.01": scored_on(at_rate["narrow"][1e-2], test_rows)}
for who, by_rate in at_rate.items():
    nll = {lr: scored_on(p, val_rows)["nll"] for lr, p in by_rate.items()}
    lr = min(nll, key=nll.get)
    best[who] = scored_on(by_rate[lr], test_rows)
    print(
        f"{who:6} chooses {lr:g} by", {lr: round(value, 3) for lr, value in nll.items()}
    )

# %%
# extra code: accuracy and NLL of each
for who, row in best.items():
    print(f"{who:18}  accuracy {row['accuracy']:.1%}  NLL {row['nll']:.3f}")

# %%
first = best["narrow, rate 0.01"]["nll"]
gain = {who: first - best[who]["nll"] for who in ("narrow", "eight", "wide")}
share = {who: gain[who] / gain["eight"] for who in ("narrow", "wide")}
claim(
    "Of the gain in NLL, a chosen rate alone gives over a third, one wide network half",
    gain["eight"] > 0.05 and share["narrow"] > 1 / 3 and share["wide"] > 0.5,
    f"a narrow one {share['narrow']:.0%} of it, a wide one {share['wide']:.0%};"
    f" accuracy: narrow {best['narrow']['accuracy']:.1%},"
    f" wide {best['wide']['accuracy']:.1%}, eight {best['eight']['accuracy']:.1%}",
    same=f"{len(known[1])} digits, 20 epochs, three rates; the gain of eight networks"
    " over one at the rate 0.01",
)
# %% [markdown]
# A theorem guarantees one of these gains. The logarithm is concave, so by Jensen's inequality $-\log \frac{1}{M} \sum_m p_m \le -\frac{1}{M} \sum_m \log p_m$ for each
# picture: the average is never more surprised than its members are on average.

# %%
truth = torch.arange(len(new[1])), new[1]
surprise = -answers[:, *truth].clamp_min(1e-30).log()
surprise_of_mean = -answers.mean(dim=0)[truth].clamp_min(1e-30).log()
fact(
    "The average is never more surprised by a picture than its members on average",
    (surprise_of_mean <= surprise.mean(dim=0) + 1e-4).all(),
    f"{len(new[1]):,} pictures;"
    f" on average {surprise_of_mean.mean():.3f} against {surprise.mean():.3f}",
)

# %% [markdown]
# ### Explore: the reliability diagram
#
# Each bar is a bin of confidence, and its height is the share of its answers that are right. On the dashed line, confidence is justified. A bar below it is overconfident. The darker a bar,
# the more answers are in it.


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
    return fig, f"Share of right answers against confidence for {who}, accuracy {row['accuracy']:.1%}; in orange the gap between confidence and accuracy."


explore(draw_reliability, members=[1, 2, 4, 8])

# %% [markdown]
# ### How many?
#
# Measured earlier, over four seeds and up to 16 members, for networks trained **long** (20 epochs), as in this section, and networks trained **briefly** (3 epochs).

# %%
ensemble_rows = measured("winning_ensembles")


# %%
# extra code: the three scores against the number of members
def ensembles_figure():
    fig, axes = plt.subplots(1, 3, figsize=(13, 4.4))
    nums = sorted({row["members"] for row in ensemble_rows})
    titles = {"accuracy": "accuracy: four give most of it", "nll": "surprise (NLL): keeps falling", "ece": "calibration error: falls or rises"}
    for ax, (key, name) in zip(axes, titles.items(), strict=True):
        ax.set(xscale="log", xticks=nums, xlim=(0.9, 40))
        ax.set_xticks([], minor=True)
        ax.set_xticklabels(nums)
        lines = {task: [[r[key] for r in ensemble_rows if r["training"] == task and r["seed"] == s] for s in sorted({r["seed"] for r in ensemble_rows})] for task in ("long", "brief")}
        curves(ax, lines, "networks", "", name, x=nums)
    axes[0].yaxis.set_major_formatter(PercentFormatter(1))
    return fig


show(ensembles_figure(), "Accuracy, negative log-likelihood and calibration error against the number of averaged networks, 1 to 16, trained for 20 epochs and for 3, with the range over the seeds. The calibration error falls for those trained long and "
     "rises for those trained briefly.")  # fmt: skip

# %% [markdown]
# "Ensembles are better calibrated" is not always true. Networks that were trained briefly are underconfident from the start. Averaging always lowers confidence, so it helps networks that
# are overconfident, and harms those that are not.
#
# Here is the same comparison for a smaller budget, a million multiplications: one network of width 29, three of width 16, or twelve of width 8. All were trained at the
# rate 0.01, which suits the narrow ones; the comparison above shows that a wide network wants a smaller one.

# %%
# extra code: the table of the budget spent in three ways
budget_rows = measured("winning_budget")
for width, number in dict.fromkeys((row["width"], row["networks"]) for row in budget_rows):
    values = [(row["nll"], row["accuracy"]) for row in budget_rows if row["width"] == width]
    mean_nll, mean_accuracy = (sum(column) / len(values) for column in zip(*values, strict=True))
    print(f"{number:2} of width {width:2}: {number * count_macs(small_net(width), 1, 1, 8, 8):9,} multiplications, NLL {mean_nll:.2f}, accuracy {mean_accuracy:.1%}, mean of {len(values)} seeds")

# %% [markdown]
# **Exercise 3** (3 min): disagreement. `p` and `q` are the probabilities, (N, classes), that two networks give to the same N pictures. Return the share of the pictures on which their answers differ.


# %%
def disagreement(p, q):
    ...


exercises.disagreement.check(disagreement)

# %% slideshow={"slide_type": "skip"}
# exercises.disagreement.hint()
# exercises.disagreement.solution()

# %% [markdown]
# ## 3. What to average: answers, logits or weights? (20 min)
#
# Averaging probabilities costs one pass per member. We could also average the **logits** and then apply softmax. And why not average the **weights** once, and pay for only a single network afterwards?
#
# **Before you run it:** take eight good networks, and average each weight over the eight. What is the accuracy of the resulting network?
#
# <details><summary>Answer</summary>
#
# It is far worse than any of the eight, and the more networks are averaged, the worse it gets. A hidden channel has no fixed job: what channel 3 does in one network, channel 11 does in
# another. The average of the two channels does neither.
#
# </details>


# %% tags=["measure"]
def average_weights(networks):
    average = copy.deepcopy(networks[0])
    states = [network.state_dict() for network in networks]
    average.load_state_dict(
        {name: sum(state[name] for state in states) / len(states) for name in states[0]}
    )
    return average


# %% tags=["measure"]
def averaged(networks, task):
    """Accuracy: mean of the members, and averaged probabilities, logits, weights."""
    pictures, labels = task
    p = torch.stack([probabilities(network, pictures) for network in networks])
    three = {
        "probabilities": p.mean(dim=0),
        "logits": p.clamp_min(1e-30).log().mean(dim=0),
        "weights": probabilities(average_weights(networks), pictures),
    }
    hits = {name: scores(q, labels)["accuracy"] for name, q in three.items()}
    return {"members": sum(scores(q, labels)["accuracy"] for q in p) / len(p)} | hits


# %% [markdown]
# Later in this section, some networks are pretrained on 800 of the other digits, without labels. No score uses pictures seen in pretraining, so this whole section is scored on the rest.

# %% tags=["measure"]
def unseen(new):
    """(images without labels, to pretrain on), ((images, labels), to be scored on)."""
    pictures, labels = new
    return pictures[:800], (pictures[800:], labels[800:])


# %%
unlabelled, scored = unseen(new)
independent = averaged(members, scored)
for num in (2, 3, 5, 8):
    left = averaged(members[:num], scored)["weights"]
    print(f"averaged weights of {num}: {left:.0%}")

# %%
claim(
    "Averaging the weights of independently trained networks destroys most of it",
    independent["weights"] < independent["members"] - 0.2,
    f"{independent['weights']:.0%} with averaged weights,"
    f" {independent['members']:.0%} a single network; guessing gives 10 %",
    same=f"eight networks, {len(scored[1])} digits",
)

# %% [markdown]
# An experiment shows the reason. Take **one** network, and shuffle its hidden channels, first 16 and then 32, and the inputs of the next layer in the same way. It computes exactly the same
# function. Make eight such twins, and average their weights.


# %%
@torch.no_grad()
def shuffled(network):
    twin, a, b = copy.deepcopy(network), torch.randperm(16), torch.randperm(32)
    first, second, last = network[0], network[2], network[6]
    twin[0].weight.copy_(first.weight[a])
    twin[0].bias.copy_(first.bias[a])
    twin[2].weight.copy_(second.weight[b][:, a])
    twin[2].bias.copy_(second.bias[b])
    places = last.weight.view(10, 32, 16)  # 32 channels of 16 places each
    twin[6].weight.copy_(places[:, b].flatten(1))
    return twin


# %%
torch.manual_seed(seeds[0])
twins = [shuffled(members[0]) for _ in range(8)]
expected = probabilities(members[0], new[0])
their_answers = torch.stack([probabilities(twin, new[0]) for twin in twins])
difference = (their_answers - expected).abs().max().item()
fact(
    "A network and its shuffled twins are the same function",
    difference < 1e-4,
    f"their answers differ by {difference:.0e} at most",
)

# %%
of_twins = averaged(twins, scored)
claim(
    "The average of the twins' weights is a different function, and far worse",
    of_twins["weights"] < of_twins["members"] - 0.1,
    f"{of_twins['members']:.0%} each, {of_twins['weights']:.0%} with averaged weights",
)

# %% [markdown]
# So weights can be averaged if the channels keep their jobs: in networks with a **common past**.
#
# - **Along one run** (stochastic weight averaging; Izmailov et al. 2018): train on with a constant learning rate, keep the weights of the last epochs, and average those.
# - **From one pretrained start** (model soups; Wortsman et al. 2022): fine-tune the same network several times, with various learning rates, and average the results.


# %% tags=["measure"]
def steps(network, task, lr, num_epochs, seed):
    """Train on, at a constant learning rate; the network as it was after each epoch."""
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


# %% tags=["measure"]
def along_one_run(task, seed):
    torch.manual_seed(seed)
    return steps(small_net(), task, lr=3e-3, num_epochs=15, seed=seed)[5:]


# %% [markdown]
# For the soup we need a pretrained network. This one has learned to tell **which way up** a digit is, from digits without labels: 0, 90, 180 or 270 degrees (Gidaris et al. 2018). Then it
# gets a head for ten digits, and is trained for one epoch. From there, five members are trained further, each with its own learning rate and order of pictures.


# %% tags=["measure"]
def pretrained_start(task, unlabelled, seed):
    torch.manual_seed(seed)
    turned = torch.cat([unlabelled.rot90(k, (2, 3)) for k in range(4)])
    angles = torch.arange(4).repeat_interleave(len(unlabelled))
    start = train(small_net(), turned, angles, num_epochs=5, lr=3e-3, batch_size=64)
    start[-1] = nn.Linear(512, 10)
    nn.init.zeros_(start[-1].weight)
    return steps(start, task, lr=3e-3, num_epochs=1, seed=seed)[-1]


# %% tags=["measure"]
def soup_members(start, task, seed, rates=(5e-3, 3e-3, 5e-3, 3e-3, 5e-3)):
    return [
        steps(copy.deepcopy(start), task, lr, 8, seed + k)[-1]
        for k, lr in enumerate(rates)
    ]


# %%
runs = []
for seed in seeds:
    digits, others = noisy_task(seed)
    runs.append(averaged(along_one_run(digits, seed), unseen(others)[1]))

# %%
start = pretrained_start(known, unlabelled, seeds[0])
soup = averaged(soup_members(start, known, 100 * seeds[0]), scored)
for name, row in {"independent": independent, "run": runs[0], "soup": soup}.items():
    print(f"{name:12}", *[f"{key} {value:.1%}  " for key, value in row.items()])

# %%
claim(
    "Along one run the averaged weights are better than the networks they come from",
    mean_of(runs)["weights"] > mean_of(runs)["members"],
    f"{mean_of(runs)['weights']:.1%} against {mean_of(runs)['members']:.1%}",
    same=f"means of {len(runs)} runs of 15 epochs, the last 10 of each",
)
# %% [markdown]
# Averaged weights cost only **one** network when asked. So the rival is one ordinary network: trained for 20 epochs with a rate that falls to zero, as in section 2.

# %%
averaging_rows = measured("winning_averaging")


# %%
# extra code: each way against one ordinary network on the same digits, one dot per seed
def averaging_figure():
    fig, ax = plt.subplots(figsize=(10, 5.2))
    table = {(r["origin"], r["seed"]): r for r in averaging_rows}
    ways = {"answers of eight": ("independent", "probabilities"), "run: its last epochs": ("run", "members"), "run: their weights": ("run", "weights"),
            "soup: its members": ("soup", "members"), "soup: their weights": ("soup", "weights")}  # fmt: skip
    means = {}
    for place, (name, (origin, what)) in enumerate(ways.items()):
        points = [100 * (table[origin, s][what] - table["independent", s]["members"]) for s in sorted({s for _, s in table})]
        means[name] = sum(points) / len(points)
        colour = "C1" if what == "members" else "C0"
        ax.plot([place] * len(points), points, "o", color=colour, alpha=0.5, markersize=8)
        ax.plot([place - 0.2, place + 0.2], [means[name]] * 2, color=colour, linewidth=4)
        ax.annotate(f"{means[name]:+.1f}", (place + 0.24, means[name]), va="center", color=colour, fontweight="bold")
    ax.axhline(0, color="gray", linewidth=1.5)
    ax.text(0.45, 0.1, "one ordinary network", color="gray", ha="left", va="bottom", fontsize=12)
    ax.set(xlim=(-0.5, 4.8), xticks=range(5), xticklabels=[name.replace(" ", "\n", 1).replace(": ", ":\n") for name in ways], ylabel="points of accuracy",
           title="Averaged weights beat their members, not an ordinary network")  # fmt: skip
    return fig, means


averaging_drawn, averaging_means = averaging_figure()
show(averaging_drawn, "Points of accuracy above or below one ordinary network on the same digits, one dot per seed and a bar for the mean: "
     + ", ".join(f"{name} {value:+.1f}" for name, value in averaging_means.items()) + ".")  # fmt: skip

# %% [markdown]
# Averaged weights make up for a constant learning rate: they are about a point better than the networks that they come from. That brings them near an ordinary run, whose rate falls to zero
# and which costs no more: on some seeds they are above it, on others below. The averaged answers of eight networks gain two points over an ordinary run, at eight times the cost. The papers
# report gains from soups of large networks that start from a strong common network; here we see none.

# %% [markdown] slideshow={"slide_type": "notes"}
# In networks with batch normalisation, the running statistics do not fit averaged weights, so they must be computed again by a pass over the training pictures
# (torch.optim.swa_utils.update_bn). Frankle et al. (2020) measured how early in training a run can branch so that the two branches can still be averaged.
# %% [markdown]
# ## 4. Ask one network several times (15 min)
#
# **Test-time augmentation** shows one network several **views** of the picture, and averages the answers. Flip the picture; cut out **crops** (multi-crop: AlexNet in 2012 took the corners
# and the middle, each with its mirror image, ten in all). This needs no more training and no more memory. But $V$ views cost $V$ times the multiplications.
#
# We take our cats and dogs, the classifier on borrowed features, trained on 40 pictures, and four ways to ask it.

# %%
corners = dict(enumerate(v2.functional.five_crop(judged.images, side * 7 // 8)))
mirrored = {f"{k} mirrored": crop.flip(3) for k, crop in corners.items()}
pictures = {"plain": judged.images, "flipped": judged.images.flip(3)}
pictures |= corners | mirrored
views = {
    "plain": ["plain"], "flip": ["plain", "flipped"],
    "five crops": [*corners], "ten crops": [*corners, *mirrored],
}  # fmt: skip

# %%
# extra code: the ten crops of one picture
ten_crops = image_grid([pictures[name][0] for name in views["ten crops"]], columns=5, size=1.4)
show(ten_crops, f"The ten crops of one {noun}: corners and middle, and below their mirror images.")

# %% [markdown]
# What else could we buy for twice the multiplications? A picture with twice the pixels, asked once. There is also a control that costs nothing at test time: **train** the classifier with
# the mirror images, too.
#
# **Before you run it:** which of the ways is worth its cost?
#
# <details><summary>Answer</summary>
#
# The mirror image: it lowers the surprise (NLL) by about a tenth, at twice the cost. Larger pictures at the same cost do harm, because the network was not trained for their size. Five crops
# cut ears off and gain nothing; ten gain less than one mirror image. Training with mirror images costs nothing at test time, and sometimes gains as much.
#
# </details>

# %%
larger = v2.Resize(int(side * 2**0.5), antialias=True)
learned_larger = embed(larger(animals.images))
learned_flipped = embed(animals.images.flip(3))
pictures["larger"] = larger(judged.images)
points, seconds, macs = {}, {}, {}
for name, view in tqdm(pictures.items()):
    begin = time.perf_counter()
    points[name] = embed(view)
    seconds[name] = time.perf_counter() - begin
    macs[name] = count_macs(encoder, 1, *view.shape[1:])


# %%
def ask(heads, names):
    """Scores of the probabilities averaged over views, means over the classifiers."""
    rows = []
    for head in heads:
        p = sum(probabilities(head, points[name]) for name in names) / len(names)
        rows.append(scores(p, judged_labels))
    return mean_of(rows)


def heads_on(*features, num=40):
    """A classifier for each seed, from `num` pictures, each in all these versions."""
    chosen = [(animals.subset(num, seed=seed).indices, seed) for seed in seeds]
    return [
        linear_on(
            torch.cat([version[rows] for version in features]),
            animal_labels[rows].repeat(len(features)), seed,
        )
        for rows, seed in chosen
    ]  # fmt: skip


# %%
heads = heads_on(learned)
asked = {way: ask(heads, names) for way, names in views.items()}
asked["larger"] = ask(heads_on(learned_larger), ["larger"])
knowing = heads_on(learned, learned_flipped)
asked["trained with flips"] = ask(knowing, ["plain"])
asked["both"] = ask(knowing, ["plain", "flipped"])
views |= {"larger": ["larger"], "trained with flips": ["plain"], "both": views["flip"]}
price = {w: sum(macs[n] for n in names) / macs["plain"] for w, names in views.items()}

# %%
for way, row in asked.items():
    clock = sum(seconds[name] for name in views[way]) / seconds["plain"]
    print(f"{way:18}  accuracy {row['accuracy']:.1%}  NLL {row['nll']:.3f}"
          f"  multiplications x {price[way]:.1f}  time x {clock:.1f}")  # fmt: skip

# %%
claim(
    "The mirror image lowers the NLL; larger pictures at the same cost do not",
    asked["flip"]["nll"] < min(asked["plain"]["nll"], asked["larger"]["nll"]),
    ", ".join(f"{way} {row['nll']:.3f}" for way, row in asked.items()),
    same=f"40 labelled {noun}s, means of {len(seeds)} classifiers; NLL",
)
fact("A mirror image costs exactly one more pass", price["flip"] == 2)
# %% [markdown]
# ### Views that the network knows
#
# **Before you run it:** a digit moved by one pixel is the same digit. So we ask a network about five views: the digit as it is, and moved up, down, left and right. In training it saw 400
# noisy digits, none of them moved. Do five views help? And if it was trained with moved digits, are its five views better than one wider network, trained on the same digits, that costs as
# much?
#
# <details><summary>Answer</summary>
#
# They hurt the network that has not seen moved digits: to it, a digit of 8 x 8 pixels that is moved by one looks unfamiliar, and averaging mixes bad answers in. The network that was trained
# with moved digits is right a little more often
# with five views. But one wider network at the same cost is less surprised still, if each has its best rate.
#
# </details>


# %%
def moved(images):
    """Five views: as it is, and moved by one pixel in each direction."""
    wide = F.pad(images, (1, 1, 1, 1), value=-1)
    ways = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))
    return [wide[:, :, 1 + dy : 9 + dy, 1 + dx : 9 + dx] for dy, dx in ways]


def trained_moved(width, lr):
    torch.manual_seed(seeds[0])
    digits = torch.cat(moved(known[0])), known[1].repeat(5)
    return train(small_net(width), *digits, num_epochs=4, lr=lr)


# %%
def one_and_five(model):
    """The scores of one view and of five averaged, on 400 digits and on the others."""
    p = torch.stack([probabilities(model, view) for view in moved(new[0])])
    return [
        (scores(p[0, rows], new[1][rows]), scores(p[:, rows].mean(dim=0), new[1][rows]))
        for rows in (slice(400), slice(400, None))
    ]


def at_best_rate(by_rate, views):
    """The scores at the rate with the lower NLL on the 400 digits."""
    lr = min(by_rate, key=lambda lr: by_rate[lr][0][views]["nll"])
    return by_rate[lr][1][views]


_, stranger = one_and_five(members[0])
rates = 3e-3, 1e-2
friend = {lr: one_and_five(trained_moved(16, lr)) for lr in rates}
wider = {lr: one_and_five(trained_moved(36, lr)) for lr in rates}

# %%
# extra code: scores of one view, five views, and one view of the wider network
five_cost, wide_cost = 5 * cost[16], count_macs(small_net(36), 1, 1, 8, 8)
print(f"multiplications: five views {five_cost:,}, one of the wider network {wide_cost:,}")
table = {"never moved, one view": stranger[0], "never moved, five views": stranger[1]}
table |= {"moved, one view": at_best_rate(friend, 0), "moved, five views": at_best_rate(friend, 1), "moved, wider": at_best_rate(wider, 0)}
for name, row in table.items():
    print(f"{name:28} accuracy {row['accuracy']:.1%}  NLL {row['nll']:.3f}")

# %%
claim(
    "Views that a network was not trained on make it worse",
    stranger[1]["accuracy"] < stranger[0]["accuracy"] - 0.01,
    f"{stranger[0]['accuracy']:.1%}, with five views {stranger[1]['accuracy']:.1%}",
    same=f"one network, {len(new[1]) - 400:,} digits",
)

# %%
five_nll = at_best_rate(friend, 1)["nll"]
wide_nll = at_best_rate(wider, 0)["nll"]
claim(
    "One wider network is less surprised than five views at the same cost",
    wide_nll < five_nll - 0.01,
    f"NLL {wide_nll:.3f} against {five_nll:.3f}, the better of two rates by 400 digits",
    same=f"{5 * len(known[1]):,} moved digits, 4 epochs,"
    f" {wide_cost / 1e6:.1f} M multiplications",
)
# %% [markdown]
# **Exercise 4** (3 min): average the views. Ask `model` (it returns logits) about `images` (N, C, H, W) and about their mirror images, with left and right exchanged. Return the mean of the
# two **probabilities**, (N, classes).


# %%
def ask_twice(model, images):
    ...


exercises.ask_twice.check(ask_twice)

# %% slideshow={"slide_type": "skip"}
# exercises.ask_twice.hint()
# exercises.ask_twice.solution()

# %% [markdown]
# ## 5. Use open-source implementations (14 min)
#
# The lecture's practical advice: do not start from the paper, start from somebody's code, ideally that of the authors. A good part of a paper's result depends on details that its text
# leaves out. This takes two skills: **reading** an implementation, and **reusing its weights**.
#
# ### Read one
#
# The last ImageNet competition (2017) was won by *squeeze and excitation* (Hu et al. 2018). Torchvision has it, and Python can show you the source:

# %%
source = inspect.getsource(torchvision.ops.SqueezeExcitation)
print(source[source.index("    def __init__") :])

# %% [markdown]
# Read **the shapes first**. `_scale` pools each channel to one number, $C \times H \times W \to C \times 1 \times 1$. Two 1 x 1 convolutions, which here are two linear layers, reduce $C$
# numbers to fewer and expand them again. A sigmoid brings them between 0 and 1. `forward` multiplies: each channel is turned up or down, depending on what is in the whole picture. Here it
# is in our own code, checked against the original:

# %%
def squeeze_excitation(x, fc1, fc2):
    scale = x.mean(dim=(2, 3), keepdim=True)
    return x * torch.sigmoid(fc2(torch.relu(fc1(scale))))


torch.manual_seed(seeds[0])
theirs, x = torchvision.ops.SqueezeExcitation(32, 8), torch.randn(4, 32, 10, 12)
ours = squeeze_excitation(x, theirs.fc1, theirs.fc2)
difference = (ours - theirs(x)).abs().max().item()
fact(
    "Rewritten in two lines, squeeze and excitation gives torchvision's output",
    difference < 1e-5,
    f"largest difference {difference:.0e}",
)

# %% [markdown]
# ### Reuse its weights
#
# Weights come as a **state dict**: names and tensors. Ours was trained for other classes, so the head does not fit, and we leave it out. With `strict=False`, PyTorch loads what fits **by
# name**, and returns what was missing. Read what it returns.


# %%
def fresh_network():
    """The network that the weights are for, with a head for cats and dogs."""
    if animals.source == "critters":
        return models.SmallResNet(num_classes=2)
    return torchvision.models.mobilenet_v2(num_classes=2)


state = models.pretrained(animals.source)[0].state_dict()
body = {name: t for name, t in state.items() if not name.startswith("classifier")}
print(fresh_network().load_state_dict(body, strict=False))

# %% [markdown]
# **Before you run it:** many weights on the internet were saved from a network wrapped for several GPUs. Then every name begins with `module.`. What does `load_state_dict(...,
# strict=False)` do with these names?
#
# <details><summary>Answer</summary>
#
# Nothing, and it raises no error. No name fits, so nothing is loaded, and you fine-tune random weights. The returned lists say so, if you read them.
#
# </details>

# %%
untouched = fresh_network()
before = copy.deepcopy(untouched.state_dict())
wrapped = {f"module.{name}": tensor for name, tensor in body.items()}
result = untouched.load_state_dict(wrapped, strict=False)
after = untouched.state_dict()
changed = sum(not torch.equal(after[name], before[name]) for name in before)
fact(
    "With strict=False and a prefix in the names,"
    " nothing is loaded, and no error raised",
    changed == 0 and len(result.unexpected_keys) == len(body),
    f"{changed} of {len(body)} tensors changed,"
    f" {len(result.unexpected_keys)} unexpected names",
)

# %% [markdown]
# Before you build on somebody's code, check the **licence** (of the code, and of the weights, which may have a different one); write down the **version** or commit; find the **preparation**
# of pictures that belongs to the weights (notebook 05, section 11); and test with a **known answer**, one picture with the output that it should have. This test finds nearly every mistake.
#
# **Exercise 5** (3 min): names with a prefix. `state` is a state dict in which names may begin with `module.`. Return a new one, with the same tensors, in which none does. Change nothing
# else in the names.


# %%
def without_prefix(state):
    ...


exercises.without_prefix.check(without_prefix)

# %% slideshow={"slide_type": "skip"}
# exercises.without_prefix.hint()
# exercises.without_prefix.solution()

# %% [markdown]
# ## 6. Your own folder of images (25 min)
#
# The lecture's lab was "detect emotions": a folder of pictures, with one sub-folder for each class, and nothing else. Your folder will look the same, with other classes. We draw the faces
# ourselves, so that everybody has them. (They are drawings. A network that tells these faces apart knows nothing about people, and what a photo of a face says about feelings is disputed.
# FER-2013, on Kaggle, is the usual set of photos; it has this layout.)


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
def draw_folder(path, seed, num=120, backgrounds=None):
    """Writes path/happy/0.jpg and so on: what your own folder should look like."""
    rng = random.Random(seed)
    for feeling in ("happy", "sad", "surprised"):
        (path / feeling).mkdir(parents=True, exist_ok=True)
        for k in range(num):
            picture = face(feeling, rng, (backgrounds or {}).get(feeling))
            picture.save(path / feeling / f"{k}.jpg", quality=95)


scratch = tempfile.TemporaryDirectory()  # gone when the notebook is closed
workplace = Path(scratch.name)
mine = workplace / "faces"
draw_folder(mine, seed=seeds[0])

# %% [markdown]
# ### From folder to tested classifier
#
# `datasets.folder` reads pictures of any size, leaves out those that cannot be decoded and says so, and splits the rest 70/15/15 into training, validation and test.

# %%
faces, faces_val, faces_test = datasets.folder(mine, size=side)
feelings = faces.targets["label"]
head = linear_on(embed(faces.images), feelings, seeds[0])
says = head(embed(faces_test.images)).argmax(dim=1)
frozen_right = (says == faces_test.targets["label"]).float().mean().item()
print(f"{len(faces)} faces to learn from; {len(faces_test)} are held out")

# %% [markdown]
# We compare it with a small network that is trained on these faces alone, from scratch, at 32 x 32 pixels. Its number of epochs is chosen on the validation faces.
#
# **Before you run it:** with a few hundred faces, does it come near the frozen features?
#
# <details><summary>Answer</summary>
#
# Yes: the two are a few faces apart, and fifty test faces are not enough to tell which is better. For cats and dogs it was different (section 1). A mouth that bends up or down is easy to
# learn. So try the small network first; it costs you ten seconds.
#
# </details>


# %%
def face_net(widths=(3, 16, 32, 64)):
    blocks = [
        nn.Sequential(
            nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(), nn.MaxPool2d(2)
        )
        for i, o in pairwise(widths)
    ]
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 3)
    return nn.Sequential(*blocks, *head)


# %%
small, small_val, small_test = datasets.folder(mine, size=32)  # the same division
trained = {}
for num_epochs in tqdm((10, 30)):
    torch.manual_seed(seeds[0])
    trained[num_epochs] = train(
        face_net(), *as_input(small), num_epochs=num_epochs, batch_size=32
    )
on_val = {n: accuracy(net, *as_input(small_val)) for n, net in trained.items()}
best = max(on_val, key=on_val.get)
own_right = accuracy(trained[best], *as_input(small_test))
print(f"validation: {on_val}, so {best} epochs")

# %%
# extra code: twelve held-out faces with the answers of the frozen features' classifier
hits = (says == faces_test.targets["label"])[:12].tolist()
titles = [f"{'✓' if ok else '✗'} {faces.classes[k]}" for ok, k in zip(hits, says[:12], strict=True)]
colours = ["tab:green" if ok else "tab:red" for ok in hits]
show(image_grid(faces_test.images[:12], titles=titles, colours=colours, columns=4, size=1.6),
     f"Twelve held-out drawn faces and what the classifier on frozen features says; a tick where it is right, a cross where not. Right on {frozen_right:.0%} of all.")  # fmt: skip

# %%
claim(
    "A small network trained on the faces alone reads most of the held-out ones",
    own_right > 0.85,
    f"frozen features {frozen_right:.0%}, small network {own_right:.0%};"
    " guessing gives 33 %",
    same=f"{len(faces)} drawn faces to learn from, {len(faces_test)} to test on",
)
# %% [markdown]
# ### What a bad folder looks like
#
# Most failures of such labs are in the folder, not in the network. So look before you train. Each check here takes a few lines, and returns messages; no message is good news.
#
# They all use one helper, `in_folders`, which lists what `datasets.folder` reads: pictures with any suffix, in splits or not, without hidden system files. `read` reads one picture in the
# same way. (Each check imports what it needs, so you can copy it alone.)


# %%
def unreadable(path):
    from utils.datasets.photos import in_folders, read

    for photo in sum(in_folders(path).pools.values(), []):
        try:
            read(photo, size=64)
        except Exception as error:  # decoders raise whatever they like
            yield f"{photo.file.name} cannot be read ({type(error).__name__})"


def too_few(path, least=20):
    from utils.datasets.photos import in_folders

    found = in_folders(path)
    labels = [photo.label for photo in sum(found.pools.values(), [])]
    counts = [labels.count(label) for label in range(len(found.classes))]
    for name, count in zip(found.classes, counts, strict=True):
        if count < max(least, max(counts) / 5):
            yield f"{name} has only {count} pictures"


# %% [markdown]
# **Duplicates.** The same picture may occur twice, under two names. If one copy is in the training set and the other in the test set, the test proves nothing. If the copies are in two
# classes, one label is wrong. Equal pixels have equal **hashes**. (`datasets.folder` drops copies across its own splits, but cannot know which of two labels is right.)


# %%
def duplicates(path):
    from utils.datasets.photos import in_folders, read

    seen = {}
    for photo in sum(in_folders(path).pools.values(), []):
        try:
            pixels = read(photo, size=64)["images"]
        except Exception:
            continue  # unreadable() names it
        name = f"{photo.file.parent.name}/{photo.file.name}"
        first = seen.setdefault(hashlib.sha256(pixels.tobytes()).digest(), name)
        if first != name:
            yield f"{name} is the same picture as {first}"


# %% [markdown]
# **Shortcuts** (not those of notebook 02). Suppose that all happy faces were photographed on Monday in front of a blue wall, and all sad faces on Tuesday in front of a grey wall. A network
# learns what is easiest, and the wall is easier than the mouth. The check: can a classifier that sees next to nothing, only **the colour of the picture's rim**, tell the classes apart? If
# it can, so can your network.


# %%
def rim(pictures):
    top, bottom = pictures[:, :, 0], pictures[:, :, -1]
    left, right = pictures[:, :, :, 0], pictures[:, :, :, -1]
    return torch.cat([top, bottom, left, right], dim=2).float().mean(dim=2) / 64 - 2


def shortcut(path):
    known, _, held_out = datasets.folder(path, size=16)
    found = linear_on(rim(known.images), known.targets["label"], seeds[0])
    share = accuracy(found, rim(held_out.images), held_out.targets["label"])
    if share > 0.8:
        yield f"the colour of the rim alone gives the class of {share:.0%}"


# %%
def report(path):
    try:
        sentences = [*unreadable(path), *too_few(path), *duplicates(path)]
        return sentences + [*shortcut(path)]
    except ValueError as error:  # no two classes with pictures
        return [str(error).replace(str(path), path.name)]


# %% [markdown]
# Now we break the folder in six ways, and see whether each problem is found.

# %%
# extra code: six broken folders
def broken(name):
    path = workplace / name
    shutil.copytree(mine, path, dirs_exist_ok=True)
    return path


cut_off = broken("cut off")
(cut_off / "sad/7.jpg").write_bytes((mine / "sad/7.jpg").read_bytes()[:300])
one_class = broken("one class")
for feeling in ("sad", "surprised"):
    shutil.rmtree(one_class / feeling)
twice = broken("twice")
shutil.copy(mine / "happy/3.jpg", twice / "sad/another.jpg")
odd_file = broken("odd file")
Image.new("I;16", (64, 64)).save(odd_file / "happy/scan.png")  # 16 bits a pixel
few_of_one = broken("few of one")
for file in sorted((few_of_one / "sad").iterdir())[15:]:
    file.unlink(missing_ok=True)
blue, grey, green = (60, 90, 220), (150, 150, 150), (70, 180, 90)
walls = workplace / "three walls"
draw_folder(walls, seed=seeds[0] + 1, backgrounds={"happy": blue, "sad": grey, "surprised": green})

# %%
expected = {
    cut_off: "7.jpg cannot be read",
    odd_file: "scan.png cannot be read",
    one_class: "expected two or more",
    twice: "is the same picture as",
    few_of_one: "has only",
    walls: "colour of the rim",
}
found = {path: report(path) for path in (mine, *expected)}

# %%
# extra code: what each folder's report says
for path, sentences in found.items():
    print(f"{path.name + ':':12}", *(sentences or ["nothing to report"]), sep="  ")

# %%
claim(
    "The checks find the problem in each of six broken folders,"
    " and none in the good one",
    all(piece in " ".join(found[path]) for path, piece in expected.items())
    and not found[mine],
    f"{sum(map(len, found.values()))} messages",
)

# %% [markdown]
# **Before you run it:** we train on the folder with the three walls. Its own held-out pictures have the same walls. How good is the classifier on them? And how good is it where the three
# walls are exchanged, so that the happy faces have the grey wall?
#
# <details><summary>Answer</summary>
#
# On its own test it gets all pictures right, or nearly all. Where the walls are exchanged, accuracy drops sharply, far below what the same features reach without a shortcut: the classifier
# has learned the wall beside the mouth, and where they disagree the wall often wins. A test set that shares the shortcut of the training set cannot reveal it.
#
# </details>

# %%
walled, _, walled_test = datasets.folder(walls, size=side)
wall_head = linear_on(embed(walled.images), walled.targets["label"], seeds[0])
exchanged = workplace / "walls exchanged"
new_walls = {"happy": grey, "sad": green, "surprised": blue}
draw_folder(exchanged, seed=seeds[0] + 2, backgrounds=new_walls)
elsewhere = datasets.folder(exchanged, size=side).train
tests = {"own": walled_test, "any wall": faces_test, "exchanged": elsewhere}
right_on = {
    name: accuracy(wall_head, embed(part.images), part.targets["label"])
    for name, part in tests.items()
}

# %%
claim(
    "A shortcut gives a very good result on the folder's own test, a bad one elsewhere",
    right_on["own"] > 0.9 and right_on["exchanged"] < frozen_right - 0.1,
    ", ".join(f"{value:.0%} on {name}" for name, value in right_on.items())
    + f"; without the shortcut {frozen_right:.0%}",
    same=f"frozen features, {len(walled)} faces to learn from",
)

# %% [markdown]
# ### Your own folder
#
# Write the path of your folder between the quotation marks, and run the two cells. First come the checks, then a classifier on the features of a network that knows photos
# (MobileNetV2 with ImageNet weights, 14 MB, fetched once). It reads JPEG, PNG, WebP and what else Pillow reads; export a phone's HEIC as JPEG first. With fewer than about fifty
# pictures in each class, the held-out part is too small to tell you much.

# %%
own_folder = ""  # such as "/content/drive/MyDrive/flowers"


# %%
def own_classifier(path, size=128):
    network, prepare = models.pretrained("folder")
    network.classifier = nn.Identity()
    network.to(device)
    own, _, held_out = datasets.folder(path, size=size)
    features = embed(own.images, network, prepare)
    head = linear_on(features, own.targets["label"], seeds[0])
    features = embed(held_out.images, network, prepare)
    return accuracy(head, features, held_out.targets["label"]), len(held_out)


if own_folder:
    print(*report(Path(own_folder)) or ["The checks have nothing to report."], sep="\n")
    right, number = own_classifier(own_folder)
    print(f"{right:.0%} of {number} held-out pictures are right")

# %% [markdown]
# ## 7. Exercises (30 min)
#
# **Exercise 6: calibration error.** From probabilities `p` (N, classes) and `labels` (N,), compute the expected calibration error with ten bins of equal width, as a number. A confidence of
# exactly 1 belongs in the last bin.


# %%
def calibration_error(p, labels):
    ...


exercises.calibration_error.check(calibration_error)

# %% slideshow={"slide_type": "skip"}
# exercises.calibration_error.hint()
# exercises.calibration_error.solution()

# %% [markdown]
# **Exercise 7: a greedy soup.** Wortsman et al. do not average all networks. They go through them, the best first, and keep a network in the average only if it does not make the average
# worse. `networks` are sorted, the best first; `score(network)` gives the accuracy of a network on validation data. Return the averaged network. (You may copy `average_weights` from section 3.)


# %%
def greedy_soup(networks, score):
    ...


exercises.greedy_soup.check(greedy_soup)

# %% slideshow={"slide_type": "skip"}
# exercises.greedy_soup.hint()
# exercises.greedy_soup.solution()

# %% [markdown]
# ## 8. Lab: an ensemble under a budget (45 min and more)
#
# You have **400 noisy digits**, as in section 2, and **a million multiplications** for each picture that you are asked about. Spend them as you like: one wide network, several narrow ones, several views. Training is free.
#
# `build_ensemble(images, labels)` gets pictures, float (400, 1, 8, 8), and their labels, and returns an `nn.Module` that turns pictures into **probabilities**, (N, 10). The check gives it
# 400 such digits, turns the result into a graph of operations, counts its multiplications, and scores it on the digits that are left, with new noise and in random order. So train on
# what you are given, not on this notebook's `images`.
#
# These operations can be counted, and so are allowed in `forward`: convolutions and linear layers, batch normalisation, pooling, dropout, ReLU and its relatives (not PReLU), sigmoid, tanh,
# softmax, sums and products, `cat`, `stack`, `reshape`, slices, padding, `flip`,
# `roll`. Group normalisation, `exp` and indexing by lists of integers are not.
#
# The score is the **negative log-likelihood**, which rewards both accuracy and calibration. The entries to beat are the three ways of spending the budget at the end of section 2.

# %%
print(f"good: NLL of at most {exercises.LAB_GOOD};"
      f" very good: at most {exercises.LAB_VERY_GOOD}")  # fmt: skip


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
# - Knowledge comes from labels, from engineering, and from other people's labels. On digits, hand-made features are worth the same with few labels and with many, and the same number of
#   random features is worth nearly as much. Borrowed features are worth far more, if somebody has labelled pictures for a similar task.
# - An ensemble is right more often and less surprised than its members. Choose the learning rate first: that alone gives a good part of the gain in NLL, and one wide network at the
#   same cost gives most of it. In accuracy the ensemble is usually ahead.
# - If networks have a common past, their averaged weights are better than the networks themselves, but here no better than one ordinary network.
# - Each view costs one more pass, and views help only a network that was trained to see them. One mirror image is worth asking for; if the network itself can be made wider, that gains more.
# - Read implementations, with the shapes first. Read what `load_state_dict` returns.
# - Most failures of a small project are in its folder of pictures. Look for broken files, duplicates and shortcuts before you train.
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
# | S7 from little data to lots of data, as a figure | 1 | C |
#
# ### Further reading
# - M. Elgendy. *Deep Learning for Vision Systems*. Manning 2020; and CS231n, *Deep Learning for Computer Vision*, https://cs231n.github.io (the lecture's sources)
# - N. Dalal, B. Triggs. *Histograms of Oriented Gradients for Human Detection*. CVPR 2005
# - D. Amodei et al. *Deep Speech 2: End-to-End Speech Recognition in English and Mandarin*. ICML 2016. https://arxiv.org/abs/1512.02595 (11,940 hours, 8 million utterances)
# - B. Lakshminarayanan, A. Pritzel, C. Blundell. *Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles*. NeurIPS 2017. https://arxiv.org/abs/1612.01474
# - C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger. *On Calibration of Modern Neural Networks*. ICML 2017. https://arxiv.org/abs/1706.04599
# - P. Izmailov et al. *Averaging Weights Leads to Wider Optima and Better Generalization*. UAI 2018. https://arxiv.org/abs/1803.05407
# - M. Wortsman et al. *Model soups: averaging weights of multiple fine-tuned models improves accuracy without increasing inference time*. ICML 2022. https://arxiv.org/abs/2203.05482
# - J. Frankle, G. K. Dziugaite, D. M. Roy, M. Carbin. *Linear Mode Connectivity and the Lottery Ticket Hypothesis*. ICML 2020. https://arxiv.org/abs/1912.05671
# - S. Gidaris, P. Singh, N. Komodakis. *Unsupervised Representation Learning by Predicting Image Rotations*. ICLR 2018. https://arxiv.org/abs/1803.07728
# - J. Hu, L. Shen, G. Sun. *Squeeze-and-Excitation Networks*. CVPR 2018. https://arxiv.org/abs/1709.01507
# - R. Geirhos et al. *Shortcut Learning in Deep Neural Networks*. Nature Machine Intelligence 2020. https://arxiv.org/abs/2004.07780
# - J. R. Zech et al. *Variable generalization performance of a deep learning model to detect pneumonia in chest radiographs*. PLOS Medicine 2018
# - I. J. Goodfellow et al. *Challenges in Representation Learning: A Report on Three Machine Learning Contests*. ICONIP 2013. https://arxiv.org/abs/1307.0414 (FER-2013)
#
# ### Next notebook
# 11 · Detection: many things in one picture, and where they are.
