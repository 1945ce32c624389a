# %% [markdown]
# # 05 · Transfer learning on dogs-vs-cats
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/@SLUG@/blob/@REF@/notebooks/05_transfer_learning.ipynb)
# [![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://github.com/@SLUG@/blob/@REF@/notebooks/05_transfer_learning.ipynb)
#
# **To keep what you write:** on Colab choose *File > Save a copy in Drive*, on Kaggle *Copy & Edit*, before you begin.
#
# **Question:** You have 200 labelled pictures. How far do they take a network of your own, and how far a network that
# has learned to see elsewhere?
#
# **You will be able to**
# - recognise overfitting in two curves, and say what the layer after the convolutions has to do with it,
# - turn pictures into points with a pretrained network, and see what it knows before any training,
# - train a classifier on frozen features, fine-tune the whole network, and choose between the two.
#
# **Time:** it runs in @TIME@ on two CPU cores; with all sections, the exercises and the lab, about four hours.
# **Before this:** notebook 00: a training loop, convolution and pooling.

# %% [markdown] slideshow={"slide_type": "notes"}
# **A plan for 75 minutes**
#
# - **Core:** sections 1, 2, 3, 4, 5 and 6: 200 pictures, a network of our own and why it overfits, pictures as points, frozen features, fine-tuning,
#   all side by side.
# - **Optional:** in section 3 the words, the explorer and the map; 7 (gentler ways), 8 before 9 (what each part sees, when to do what), 10 (input), 11
#   (other networks).
# - **Where to stop:** after the figure of section 6 with 20 to thousands of pictures. If you are late, stop at its first figure, all ways side by side.

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
import tempfile
import time
from collections import Counter
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from matplotlib.ticker import PercentFormatter
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from tqdm.auto import tqdm

from utils import datasets, models
from utils.critters import draw_lesion
from utils.exercises import transfer_learning as exercises
from utils.figures import curves, explore, image_grid, show
from utils.lessons import claim, measured, summary
from utils.models import count_macs, num_parameters
from utils.training import evaluate, fit, predict

# %% slideshow={"slide_type": "skip"}
course_seed = torch.initial_seed()  # as utils.start() has set it

# %% [markdown]
# ## 1. Two hundred pictures (5 min)
#
# Labels cost. Somebody has to look at every picture, and for medical images that somebody is a doctor. So the usual
# data set is small, and the usual task is not one that anybody has solved before. Here is how much the famous ones have:

# %%
# extra code: examples in well-known data sets, and parameters of a network that was trained on them
famous = [  # name, examples, of what, a network, its parameters
    ("WMT'14, English-French", 36_000_000, "36 million pairs of sentences", "Transformer (big)", 213_000_000),
    ("ImageNet (ILSVRC-2012)", 1_281_167, "1,281,167 photos", "AlexNet", 61_100_840),
    ("Sports-1M", 1_000_000, "a million videos", None, None),
    ("COCO", 328_000, "328,000 photos", None, None),
    ("dogs-vs-cats (Kaggle)", 25_000, "25,000 photos with labels", None, None),
    ("PASCAL VOC 2012", 11_530, "11,530 photos", None, None),
    ("BUSI (breast lesions)", 780, "780 ultrasound images", None, None),
    ("ours, to learn from", 200, "200 pictures", None, None),
]


def famous_figure():
    fig, ax = plt.subplots(figsize=(10, 5))
    for row, (_, examples, text, network, parameters) in enumerate(famous):
        colour = "C1" if row == len(famous) - 1 else "C0"
        ax.plot(examples, row, "o", color=colour, markersize=12)
        place = dict(textcoords="offset points", va="center")
        side = (-12, "right") if network else (12, "left")
        ax.annotate(text, (examples, row), xytext=(side[0], 0), ha=side[1], color=colour, **place)
        if network:
            ax.plot(parameters, row, "D", color="C2", fillstyle="none", markersize=10, markeredgewidth=2)
            ax.annotate(f"{network}:\n{parameters / 1e6:.0f} M parameters", (parameters, row), xytext=(13, 0), color="C2", **place)
    ax.set(xscale="log", xlim=(50, 2e11), ylim=(len(famous) - 0.5, -0.6), xlabel="number of examples, or of parameters")
    ax.set(yticks=range(len(famous)), yticklabels=[row[0] for row in famous])
    ax.set_title("Famous networks grew up on millions; our task has hundreds", loc="left")
    ax.grid(axis="y", visible=False)
    return fig


show(famous_figure(), "Sizes of well-known data sets on a logarithmic axis, from 36 million pairs of sentences over 1.3 million photos of ImageNet down to "
     "our 200 pictures; two networks, as diamonds, have far more parameters than the examples that they were trained on.")  # fmt: skip

# %% [markdown]
# Larger is not simply better for *you*: such data are too large to store on a laptop, took years to label, and answer another question than
# yours. (References to each are at the end.) But networks trained on them can be had. This notebook is about using them.
#
# Our task is the classic one, cat or dog. We take 200 labelled pictures to learn from (**training**), 200 others to
# watch how it goes (**validation**), and the rest, which no network sees before the end, to measure (**test**).
#
# The pictures are **drawings** that this course makes by itself, unless photos of the Kaggle competition are at hand:
# then they are **photos**, and larger. The line that the set-up cell printed says which.

# %%
pool, val_set, test_set = datasets.dogs_vs_cats(num_train=600, num_val=200)
train_set = pool.subset(200)
noun = train_set.noun
print(f"training:   {train_set}\nvalidation: {val_set}\ntest:       {test_set}")

# %% [markdown]
# **Question to the class.** Cats or dogs? Vote on each. What do you look at: colour, ears, nose, the whole?


# %%
# extra code: drawings have 64 pixels a side and are shown pixel by pixel (which keeps the file small)
def crisp(fig):
    for ax in fig.axes:
        for image in ax.images:
            image.set_interpolation("nearest" if train_set.source == "critters" else "antialiased")
    return fig


show(crisp(image_grid(train_set.images[:12], columns=6, size=1.3)), f"Twelve of our 200 {noun}s of cats and dogs: many poses, colours and places.")

# %%
names = [train_set.classes[label] for label in train_set.targets["label"]]
print("first row: ", *names[:6], "\nsecond row:", *names[6:12])

# %% [markdown]
# <details><summary>What do you look at?</summary>
#
# Colour and pose are of little use: both kinds have nearly all of them. It is the ears, the muzzle, the nose, the whiskers:
# small parts, at any place in the picture. A network has to find that out by itself, from 200 examples.
#
# </details>

# %% [markdown] slideshow={"slide_type": "notes"}
# The full Kaggle competition has 25,000 photos to train on and 12,500 to test (one of the lecture slides says 15,000).
# Asirra, where they come from, was a test to tell people from programs (Elson et al. 2007): cat or dog was thought to be
# hard for a computer. Let the class vote on a doubtful picture before you show the labels.

# %% [markdown]
# ## 2. A network of our own (20 min)
#
# Four blocks of convolution, batch normalisation (it keeps the numbers of each channel in a good range), ReLU and
# pooling. Each block halves the picture's side (a drawing's goes $64 \to 32 \to 16 \to 8 \to 4$), while the channels
# grow: $3 \to 16 \to 32 \to 64 \to 64$.


# %% tags=["measure"]
def block(in_channels, out_channels):
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )


# %% [markdown]
# What comes after the convolutions and turns their channels into an answer is called the **head**.


# %% tags=["measure"]
def own_network(head):
    """Four blocks, then the layers of `head`."""
    return nn.Sequential(block(3, 16), block(16, 32), block(32, 64), block(64, 64), *head)


# %% [markdown]
# The blocks end in 64 channels of a few pixels a side. Two numbers are wanted, one a class, the **logits**: the larger one
# is the answer. The classic head **flattens** the channels into one long vector, and puts dense layers behind:


# %% tags=["measure"]
def flatten_head(side):
    return [nn.Flatten(), nn.Linear(64 * side * side, 64), nn.ReLU(), nn.Linear(64, 2)]


# %% [markdown]
# Pictures are stored as bytes, 0 to 255. A network wants small numbers around zero. This is the whole preparation:

# %% tags=["measure"]
scale = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean=[0.5] * 3, std=[0.25] * 3)])

# %%
image, label = train_set.with_transform(scale)[0]
print(f"{tuple(image.shape)}, from {image.min():.1f} to {image.max():.1f}; label {label}: {train_set.classes[label]}")

# %% [markdown]
# The training loop is the same for every network of this notebook, so we write it once. `lr` is the largest learning rate:
# `OneCycleLR` lets it climb there from a small one, and fall again, once in the whole training. (`groups` has its turn in section 7.)


# %% tags=["measure"]
def train(model, train_set, val_set=None, lr=3e-3, num_epochs=30, batch_size=32, groups=None):
    loader = DataLoader(train_set, batch_size=batch_size, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=100) if val_set else None
    optimizer = torch.optim.AdamW(groups or model.parameters(), lr=lr)
    rates = [group["lr"] for group in optimizer.param_groups]
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=num_epochs * len(loader))
    return fit(model, loader, val_loader, num_epochs=num_epochs, optimizer=optimizer, scheduler=scheduler)


def accuracy(model, dataset):
    return evaluate(model, DataLoader(dataset, batch_size=100))["accuracy"]


# %% [markdown]
# **Before you run it:** 200 pictures, and a network with over a hundred thousand weights. What will its accuracy be on
# the pictures that it was trained on? And on others?
#
# <details><summary>Answer</summary>
#
# On its own pictures: close to 100 %. It has far more weights than there are pictures, and can learn each by heart. On
# others it is somewhere between guessing and good. Run the cell to see where.
#
# </details>
#
# (If a line says "bf16 is on": the machine computes faster with numbers of 16 bits, and the training uses that.)

# %%
side = train_set.images.shape[-1] // 16
flat = own_network(flatten_head(side)).to(device)
history = train(flat, train_set.with_transform(scale), val_set.with_transform(scale))

# %%
fig, ax = plt.subplots()
lines = {"training": history["train_accuracy"], "validation": history["val_accuracy"]}
curves(ax, lines, xlabel="epoch", ylabel="accuracy", title="It learns its pictures by heart")
ax.set_ylim(0.4, 1.03)
ax.yaxis.set_major_formatter(PercentFormatter(1))
show(fig, f"Accuracy against epoch: it climbs to {lines['training'][-1]:.0%} on the {noun}s it is trained on, and ends at "
     f"{lines['validation'][-1]:.0%} on those of the validation set. The gap between the two lines is overfitting.")  # fmt: skip

# %%
flat_known = accuracy(flat, train_set.with_transform(scale))
flat_new = accuracy(flat, test_set.with_transform(scale))
claim(
    "A network of our own learns its 200 pictures by heart and does far worse on new ones",
    flat_known > 0.97 and flat_known - flat_new > 0.15,
    f"{flat_known:.0%} on the pictures it knows, {flat_new:.0%} on the {len(test_set)} of the test set",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Draw the gap on the board. Two things close it: more data, and fewer ways to memorise. More data is what we do not have.
# Notebook 06 makes data go further (augmentation). Here we look at where the weights are.

# %% [markdown]
# ### Where are the weights?
#
# Count them, for pictures of 64 x 64. The dense layer after `Flatten` has a weight for every channel **at every place**.
# It can learn that a dog's ear sits at the top left. That is nothing worth learning: the next dog sits elsewhere.
#
# **Global average pooling** (Lin et al. 2013) asks only how strongly each channel answers *anywhere*: it averages each
# channel over its pixels. The head is the only thing that changes.


# %% tags=["measure"]
def pool_head():
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 2)]


# %%
# NBVAL_CHECK_OUTPUT
print(f"blocks {num_parameters(own_network([])):,}")
flatten, pooling = nn.Sequential(*flatten_head(side=4)), nn.Sequential(*pool_head())
print(f"flatten head {num_parameters(flatten):,}")
print(f"pooling head {num_parameters(pooling):,}")

# %%
claim(
    "At 64 x 64 pixels, the head with global average pooling has less than a five-hundredth of the flatten head's weights",
    num_parameters(pooling) * 500 < num_parameters(flatten),
    f"{num_parameters(pooling)} against {num_parameters(flatten):,}",
)

# %% [markdown]
# **Before you run it:** does the smaller network do worse, as well, or better on new pictures?
#
# <details><summary>Answer</summary>
#
# Better. It can no longer remember places, and that is a good thing to be unable to do. It still knows its training pictures by heart, or
# nearly all: pooling narrows the gap and does not close it.
#
# </details>
#
# One run proves little: another start, other pictures, another result. So from here on we do everything on **three seeds**: three
# draws of 200 pictures from a pool of 600, three starts.

# %%
seeds = [10 * course_seed + k for k in range(3)]  # so that runs of the notebook with other seeds share none
train_sets = [pool.subset(200, seed=seed) for seed in seeds]


def train_on_each_seed(head):
    """Our own network with this head: its accuracy on known and on new pictures, a pair of numbers a seed, and the networks."""
    pairs, networks = [], []
    for seed, pictures in zip(seeds, train_sets, strict=True):
        torch.manual_seed(seed)
        model = own_network(head()).to(device)
        train(model, pictures.with_transform(scale))
        pairs.append((accuracy(model, pictures.with_transform(scale)), accuracy(model, test_set.with_transform(scale))))
        networks.append(model)
    return pairs, networks


# %%
flat_pairs, flat_networks = train_on_each_seed(lambda: flatten_head(side))

# %%
pool_pairs, pool_networks = train_on_each_seed(pool_head)

# %%
results = {"own, flatten": [new for _, new in flat_pairs], "own, pooling": [new for _, new in pool_pairs]}
gaps = [sum(known - new for known, new in pairs) / 3 for pairs in (flat_pairs, pool_pairs)]
for name, pairs in {"flatten": flat_pairs, "pooling": pool_pairs}.items():
    print(name, *[f"   {known:.0%} known, {new:.0%} new" for known, new in pairs])
claim(
    "Global average pooling instead of flatten narrows the gap between known and new pictures",
    gaps[1] < gaps[0] - 0.03,
    f"{100 * gaps[1]:.0f} points instead of {100 * gaps[0]:.0f}, means of three seeds",
)

# %% [markdown]
# The network with pooling is our baseline from now on.

# %% [markdown]
# ## 3. Pictures as points (15 min)
#
# Somebody else has trained a network on a large data set, for another task. Its head is of no use to us: it names other things. But
# what it computes just *before* its head is a description of the picture in some hundred numbers or more, its **features**. Cut off the head, and
# the network turns every picture into a **point**. This is an **embedding**.

# %%
pretrained, prepare = models.pretrained(train_set.source)
print(f"{type(pretrained).__name__}, {num_parameters(pretrained):,} weights. Its parts: `features`, and `classifier`, the head:")
print(pretrained.classifier)

# %% [markdown]
# What has it seen before?
# - For **drawings**: a small residual network, trained by this course on drawings of other animals, real and imaginary ones. Cats and dogs
#   were kept from it. To be fair: the same program drew them, with the same backgrounds, light and noise. That is kinder than life.
# - For **photos**: MobileNetV2 (Sandler et al. 2018), trained on the 1.2 million photos of ImageNet. That is no stranger to our task: of
#   ImageNet's 1,000 classes 118 are breeds of dogs and 5 are house cats. It has never been asked "cat or dog?", though.
#
# A pretrained network comes with the **preparation** that it was trained with, here `prepare`: the two belong together. (One thing differs:
# MobileNetV2 was trained on photos of 224 pixels a side. Ours have 128, for speed.)
#
# We cut off the head by putting `nn.Identity()`, the layer that does nothing, in its place.

# %%
encoder = copy.deepcopy(pretrained).to(device)
encoder.classifier = nn.Identity()


# %% tags=["measure"]
def through(network, dataset, name):
    """What the network makes of a whole data set, in its order, and the labels."""
    return predict(network, DataLoader(dataset.with_transform(prepare), batch_size=100), progress=name)


# %%
pool_points, pool_labels = through(encoder, pool, "embedding the pool")
test_points, test_labels = through(encoder, test_set, "embedding the test set")
print(f"{len(pool_points)} pictures, now points of {pool_points.shape[1]:,} numbers")

# %% [markdown]
# Two pictures are alike when their points lie in the same direction: their **cosine similarity** is large,
# $\cos(a, b) = \dfrac{a \cdot b}{\lVert a \rVert \lVert b \rVert}$. With all points brought to length 1, one matrix product
# gives all similarities at once.


# %%
def neighbours(points, others):
    """For each point, the places of the others, the most similar first: (N, M)."""
    similarity = F.normalize(points, dim=1) @ F.normalize(others, dim=1).T
    return similarity.argsort(dim=1, descending=True)


# %%
known = train_sets[0]  # 200 labelled pictures, and their points
known_points, known_labels = pool_points[known.indices], pool_labels[known.indices]
nearest = neighbours(test_points, known_points)
pixel_nearest = neighbours(test_set.images.flatten(1).float() - 128, known.images.flatten(1).float() - 128)

# %% [markdown]
# No training for our task has happened yet. **Before you run it:** take the label of the nearest of our 200 pictures as your answer.
# How often is it right? And if you compare raw pixels instead of points?
#
# <details><summary>Answer</summary>
#
# With the embedding, very often. With pixels, little better than tossing a coin: pixels are close when background, light and pose are
# alike, and these say nothing about cat or dog.
#
# </details>

# %%
by_points = (known_labels[nearest[:, 0]] == test_labels).float().mean().item()
by_pixels = (known_labels[pixel_nearest[:, 0]] == test_labels).float().mean().item()
claim(
    "Before any training for our task, the nearest neighbour in the embedding is far more often of the same kind than in pixels",
    by_points > by_pixels + 0.15,
    f"{by_points:.0%} against {by_pixels:.0%} with raw pixels",
)


# %%
# extra code: one row for each query, the query first, then its neighbours, marked by whether the label agrees
def neighbour_figure(queries, nearest, num=6):
    images, titles, colours = [], [], []
    for query in queries:
        images += [test_set.images[query], *known.images[nearest[query, :num]]]
        right = [(known_labels[i] == test_labels[query]).item() for i in nearest[query, :num]]
        found = [known.classes[known_labels[i]] for i in nearest[query, :num]]
        titles += [f"new: {known.classes[test_labels[query]]}"]
        titles += [f"{'✓' if ok else '✗'} {name}" for ok, name in zip(right, found, strict=True)]
        colours += ["black"] + ["tab:green" if ok else "tab:red" for ok in right]
    return crisp(image_grid(images, titles=titles, columns=num + 1, colours=colours, size=1.2))


# %%
mistakes = (known_labels[nearest[:, 0]] != test_labels).nonzero().flatten()
fig = neighbour_figure([0, 1, mistakes[0]], nearest)
show(fig, f"Three new {noun}s (framed in black) and their six nearest neighbours in the embedding; a tick says the same kind, a cross "
     "the other. The last row is one of the mistakes: its nearest neighbour is of the other kind.")  # fmt: skip

# %% [markdown] slideshow={"slide_type": "notes"}
# Ask what the neighbours of a row have in common besides the kind: coat, ears, pose. Then the mistake: what did the network see in it? With
# photos it is often a person, a cage or the background that is alike.

# %% [markdown]
# ### Explore
#
# Choose a new picture, and where to look for its neighbours.


# %%
def draw_neighbours(picture=4, space="embedding"):
    found = nearest if space == "embedding" else pixel_nearest
    right = int((known_labels[found[picture, :6]] == test_labels[picture]).sum())
    kind = known.classes[test_labels[picture]]
    return neighbour_figure([picture], found), f"A new {kind} and its six nearest in the {space}: {right} of 6 are of its kind."


explore(draw_neighbours, picture=range(4, 24), space=["embedding", "pixels"])

# %% [markdown]
# ### A map
#
# Hundreds of dimensions cannot be looked at, two can. **t-SNE** (van der Maaten and Hinton 2008) lays the points out in a plane so that
# neighbours stay neighbours. It never sees a label; the colours are ours. Distances between far groups mean nothing on such a
# map; who sits beside whom does.

# %%
from sklearn.manifold import TSNE

num_on_map = 400
tsne = TSNE(metric="cosine", init="pca", random_state=0)
places = tsne.fit_transform(F.normalize(pool_points[:num_on_map], dim=1).numpy())
places = places[:, places.std(0).argsort()[::-1]]  # lay the map down: the long side is the horizontal one


# %%
# extra code: the map, with thumbnails where they do not cover each other
def map_figure():
    fig, ax = plt.subplots(figsize=(8, 5.8))
    colours = ["tab:blue", "tab:orange"]
    for label, (name, colour) in enumerate(zip(pool.classes, colours, strict=True)):
        ax.scatter(*places[pool_labels[:num_on_map] == label].T, s=50, color=colour, label=name)
    half, drawn = (places.max() - places.min()) / 32, []
    for i, (x, y) in enumerate(places):
        if all(max(abs(x - a), abs(y - b)) > 2.2 * half for a, b in drawn):
            box = (x - half, x + half, y - half, y + half)
            ax.imshow(pool.images[i].permute(1, 2, 0), extent=box, zorder=3)
            ax.add_patch(plt.Rectangle(box[::2], 2 * half, 2 * half, fill=False, lw=3, ec=colours[pool_labels[i]], zorder=4))
            drawn.append((x, y))
    ax.set(title="Neighbours on the map are mostly of one kind", aspect="equal")
    ax.autoscale()
    ax.axis("off")
    ax.legend(markerscale=2, fontsize=16, loc="best")
    return fig


# %%
show(map_figure(), f"A map of {num_on_map} {noun}s: cats in blue, dogs in orange, some as pictures. Before any training for our task, the "
     "two kinds already lie mostly in regions of their own, with some strays.")  # fmt: skip

# %% [markdown] slideshow={"slide_type": "notes"}
# Walk along the border between the colours and read the thumbnails there: those are the pictures that look like the other kind. Ask what else the
# map has sorted by (coat, pose, close-up or far away).

# %% [markdown]
# ### Words as points (10 min, optional)
#
# The idea is older than pretrained networks for pictures. **A word is known by the company it keeps** (Firth 1957). So count, in some text, which words
# stand together in a sentence, and words become points too, without any labels. Here is a text, of a page:


# %%
# extra code: a text of ours, and the words that say little by themselves
text = """
the cat drinks milk. the dog drinks water. the cat sleeps on the sofa. the dog sleeps on the rug. the cat eats fish and the dog
eats meat. the cat chases the mouse. the dog chases the ball. a small cat purrs. a small dog barks. the cat has soft fur and a
long tail. the dog has soft fur and a short tail. she strokes the cat and he strokes the dog. the hungry cat eats. the hungry
dog eats. the old dog sleeps all day. the old cat sleeps all day. the horse eats grass in the field. the cow eats grass in the
field. the sheep eats grass in the field. the horse sleeps in the stable and the cow sleeps in the stable. the hungry horse eats
hay. the hungry cow eats hay. the cow gives milk. the sheep gives wool. the farmer feeds the horse, the cow and the sheep. the
mouse eats cheese. the hungry mouse eats bread. the mouse sleeps in its hole. the rabbit eats grass and the hungry rabbit eats a
carrot. the rabbit has soft fur and a short tail. the rabbit sleeps in its hole. the horse drinks water. the sheep drinks water.
the farmer strokes the horse. the car drives on the road. the bus drives on the road. the truck drives on the road. the car
needs fuel. the bus needs fuel. the truck needs fuel. the red car stops at the light. the red bus stops at the light. the fast
car turns left. the fast train goes to the city. the bus goes to the city. the truck carries stones and the train carries
stones. the bus carries people. the train carries people. the car has four wheels. the truck has six wheels. the driver parks
the car. the driver parks the bus. the driver parks the truck. she takes the train to the city. he takes the bus to the city.
the engine of the car is loud. the engine of the truck is loud. the boat carries people over the water. the boat needs fuel. the
driver starts the engine. the train stops. the cook bakes bread in the oven. the cook bakes a cake in the oven. we eat bread
with butter. we eat cake with cream. we eat cheese with bread. the sweet cake tastes good. the sweet apple tastes good. the warm
soup tastes good. the warm bread tastes good. she cuts the bread with a knife. he cuts the cake with a knife. she cuts the apple
with a knife. the cook makes soup in a pot. we eat soup with a spoon. she buys bread, cheese and an apple at the shop. he buys a
cake at the shop. the cheese tastes good. an apple grows on the tree. he cuts the cheese with a knife. for lunch we eat soup,
bread and cheese. the wooden table stands in the room. the wooden chair stands in the room. the wooden bed stands in the room. a
lamp stands on the table. she sits on the chair. he sits on the sofa. the sofa stands in the room by the window. he paints the
table white. she paints the chair white. he paints the bed white. the chair has four legs. the table has four legs. we carry the
bed upstairs. we carry the table upstairs. she sits on the bed. he cleans the table, the chair and the lamp.
"""
little_words = set("the a an and in on of to at by with its is has for all over".split())
sentences = [[word for word in sentence.replace(",", "").split() if word not in little_words] for sentence in text.split(".")]
words = sorted(word for word, times in Counter(word for sentence in sentences for word in sentence).items() if times > 1)
print(f"{len(sentences) - 1} sentences, {len(words)} words that come more than once")

# %% [markdown]
# $C_{ij}$ counts how often the words $i$ and $j$ stand in the same sentence. Frequent words stand with everything. So we ask how much *more often* than
# by chance, the **positive pointwise mutual information**, $\text{PPMI}_{ij} = \max\left(0, \log \dfrac{p_{ij}}{p_i \, p_j}\right)$, with $p = C / \sum C$.


# %%
def ppmi(sentences):
    place = {word: i for i, word in enumerate(words)}
    counts = torch.zeros(len(words), len(words))
    for sentence in sentences:
        known = [place[word] for word in sentence if word in place]
        for i in known:
            for j in known:
                counts[i, j] += i != j
    p = counts / counts.sum()
    return (p / (p.sum(0) * p.sum(1)[:, None])).nan_to_num(0).clamp(min=1).log()


# %% [markdown]
# A word is now a row of as many numbers as there are words. The **singular value decomposition** $\text{PPMI} = U S V^\top$ finds the few directions
# that matter most. We keep twelve: every word is a point of 12 numbers.


# %%
def word_points(sentences):
    U, S, _ = torch.linalg.svd(ppmi(sentences))
    return U[:, :12] * S[:12]


# %% [markdown]
# **Before you run it:** which word is nearest to *cat*? To *bus*? And how often is the nearest of these 21 words one of its own kind, if nobody has
# ever told the machine what an animal is?
#
# <details><summary>Answer</summary>
#
# *Dog* and *cat* do the same things in our text: they drink, sleep, have fur, are stroked. So they are neighbours, although they hardly ever
# stand in one sentence. It works for nearly all words. With the same words in shuffled order nothing of it is left: the meaning was in the company.
#
# </details>

# %%
kinds = {
    "animals": ["cat", "dog", "horse", "cow", "sheep", "mouse", "rabbit"],
    "vehicles": ["car", "bus", "truck", "train", "boat"],
    "food": ["bread", "cake", "cheese", "apple", "soup"],
    "furniture": ["table", "chair", "bed", "sofa"],
}
nouns = [noun for group in kinds.values() for noun in group]
kind_of = torch.tensor([k for k, group in enumerate(kinds.values()) for _ in group])


def noun_neighbours(sentences):
    points = word_points(sentences)[[words.index(noun) for noun in nouns]]
    return neighbours(points, points)[:, 1]  # place 0 is the word itself


# %%
shuffled = [word for sentence in sentences for word in sentence]
shuffled = [shuffled[i] for i in torch.randperm(len(shuffled))]
shuffled = [shuffled[i : i + 4] for i in range(0, len(shuffled), 4)]  # sentences of four words
right, right_shuffled = [(kind_of[noun_neighbours(text)] == kind_of).float().mean().item() for text in (sentences, shuffled)]
nearest_noun = noun_neighbours(sentences)
print(*[f"{noun} → {nouns[i]}" for noun, i in zip(nouns, nearest_noun, strict=True)], sep=", ")
claim(
    "Words become points too: the nearest noun is of the same kind, though no kinds were ever given; in a shuffled text it is not",
    right > 0.85 and right > right_shuffled + 0.25,
    f"{right:.0%} of {len(nouns)} words, {right_shuffled:.0%} with the same words shuffled",
)


# %%
# extra code: how alike the words are, two by two
def word_figure():
    points = F.normalize(word_points(sentences)[[words.index(noun) for noun in nouns]], dim=1)
    fig, ax = plt.subplots(figsize=(8.5, 6.8))
    image = ax.imshow(points @ points.T, cmap="Blues", vmin=0, vmax=1)
    ax.set(xticks=range(len(nouns)), yticks=range(len(nouns)), yticklabels=nouns, title="Words of one kind are alike")
    ax.set_xticklabels(nouns, rotation=90)
    ax.grid(visible=False)
    for edge in [(kind_of == k).nonzero().max().item() + 0.5 for k in range(3)]:
        ax.axhline(edge, color="black", linewidth=1), ax.axvline(edge, color="black", linewidth=1)
    fig.colorbar(image, label="cosine similarity")
    return fig


show(word_figure(), "Cosine similarity of the 21 nouns, two by two. Four dark blocks lie on the diagonal: animals, vehicles, food, furniture. Within a kind words are alike, between "
     "kinds hardly, though the machine has only counted which words share a sentence.")  # fmt: skip

# %% [markdown] slideshow={"slide_type": "notes"}
# word2vec (Mikolov et al. 2013) predicts a word's neighbours instead of counting them; Levy and Goldberg (2014) showed that it does nearly the same sum. And the step
# to pictures: both times a task for which labels are free or plentiful gives points that serve a task for which they are not.

# %% [markdown]
# ## 4. Freeze, and train a linear classifier (10 min)
#
# If the two kinds already lie in regions of their own, a straight cut may do: $\text{logits} = W x + b$ on the points $x$. The network
# itself stays **frozen**: none of its weights change. (In PyTorch, a weight whose `requires_grad` is `False` gets no gradient.)
#
# Frozen means more than "not trained". It means that the point of a picture never changes. So we compute it **once**. From then on, an
# epoch costs one small matrix product.
#
# **Before you run it:** our own network has seen the same 200 pictures. Who wins, and by how much?
#
# <details><summary>Answer</summary>
#
# The linear classifier, clearly. It trains a few hundred numbers, or a few thousand; all the rest was learned elsewhere, from far more pictures.
#
# </details>



# %% tags=["measure"]
def linear_on(points, labels, seed):
    torch.manual_seed(seed)
    linear = nn.Linear(points.shape[1], 2)
    train(linear, TensorDataset(points, labels), lr=1e-2, num_epochs=100, batch_size=200)
    return linear


# %%
test_dataset = TensorDataset(test_points, test_labels)
start = time.perf_counter()
heads = [linear_on(pool_points[s.indices], pool_labels[s.indices], seed) for seed, s in zip(seeds, train_sets, strict=True)]
results["frozen + linear"] = [accuracy(head, test_dataset) for head in heads]
epoch_seconds = (time.perf_counter() - start) / 300  # three times a hundred epochs
print(*[f"{value:.1%}" for value in results["frozen + linear"]])

# %%
worst, best_own = min(results["frozen + linear"]), max(results["own, pooling"])
claim(
    "A linear classifier on frozen features beats our own network, the worst of its seeds the best of ours",
    worst > best_own + 0.05,
    f"worst {worst:.1%}, our own network at best {best_own:.1%}",
)

# %% [markdown]
# What has caching saved? The common recipe sends all 200 pictures through the frozen network in every epoch. We sent them once, and then
# trained for a hundred epochs.

# %%
start = time.perf_counter()
through(encoder, train_set, "one epoch through the network")
through_seconds = time.perf_counter() - start
print(f"an epoch on cached features is {through_seconds / epoch_seconds:.0f} times as fast as one through the network")

# %% [markdown]
# The cut-off network and the linear layer together are an ordinary network again. Put the trained layer where the old head was, send the
# pictures through the whole, and the answers are those that we had from cached features:

# %%
frozen = copy.deepcopy(encoder)
frozen.classifier = copy.deepcopy(heads[0]).to(device)
logits, _ = through(frozen, test_set, "the whole network")
same = (logits.argmax(1) == heads[0](test_points).argmax(1)).float().mean().item()
claim(
    "The whole network gives the same answers as the linear layer on cached features (up to rounding)",
    same > 0.99,
    f"{same:.1%} of {len(test_set)} test pictures",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Old slides write `pretrained=True`; torchvision has replaced it by `weights=...`, which also says how pictures must be prepared. One slide
# has "ImageNet classes: 1280": there are 1,000 classes; 1,280 is the width of MobileNet's features, the length of our points on photos.

# %% [markdown]
# ## 5. Fine-tune the whole network (15 min)
#
# Now let go: train **all** weights, starting from the pretrained ones. What we do, and why:
#
# 1. **Start with the trained head** of section 4. A fresh one can only guess, and its large gradients would change features
#    that were good (Kumar et al. 2022).
# 2. **Keep batch normalisation in evaluation mode.** It scales with averages over the pictures it was trained on. A batch of ours would give
#    rough ones.
# 3. **Choose the learning rate.** This one we test.


# %% tags=["measure"]
def with_head(head, hold=True):
    """The pretrained network with this head, its batch normalisation held in evaluation mode (or not)."""
    model = copy.deepcopy(encoder)
    model.classifier = copy.deepcopy(head).to(device)
    if hold:
        models.hold_batch_norm(model)
    return model


def fine_tune(seed, pictures, head, lr, num_epochs=6):
    torch.manual_seed(seed)
    model = with_head(head)
    train(model, pictures.with_transform(prepare), lr=lr, num_epochs=num_epochs)
    return model


# %%
tuned = [fine_tune(seed, s, head, lr=1e-4) for seed, s, head in zip(seeds, train_sets, heads, strict=True)]
results["fine-tuned"] = [accuracy(model, test_set.with_transform(prepare)) for model in tuned]
print(*[f"{value:.1%}" for value in results["fine-tuned"]])

# %%
worst = min(results["fine-tuned"])
claim(
    "Fine-tuning with a small learning rate beats our own network, the worst of its seeds the best of ours",
    worst > best_own + 0.05,
    f"worst {worst:.1%}, our own network at best {best_own:.1%}",
)

# %% [markdown]
# **Before you run it:** the same, with a learning rate three hundred times as large, 0.03 instead of 0.0001. (Our own network was trained with
# 0.003.) Better, worse, the same?
#
# <details><summary>Answer</summary>
#
# Much worse. Large steps throw the weights far from where they were, and what took a large data set to learn is gone. Two hundred pictures cannot
# bring it back. And it is not only the head: train a new linear classifier on the features that are left, and it does not recover either.
#
# </details>

# %%
ruined = fine_tune(seeds[0], train_sets[0], heads[0], lr=3e-2)
ruined_accuracy = accuracy(ruined, test_set.with_transform(prepare))
results["the same, lr × 300"] = [ruined_accuracy]
claim(
    "A learning rate three hundred times as large destroys what the network knew",
    ruined_accuracy < results["fine-tuned"][0] - 0.1,
    f"{ruined_accuracy:.0%} instead of {results['fine-tuned'][0]:.0%}",
)

# %%
ruined.classifier = nn.Identity()
points, _ = through(ruined, known, "embedding with what is left")
new_points, _ = through(ruined, test_set, "embedding the test set")
ruined_linear = accuracy(linear_on(points, known_labels, seeds[0]), TensorDataset(new_points, test_labels))
claim(
    "The features are ruined too: a linear classifier on what is left does far worse than on the frozen features",
    ruined_linear < results["frozen + linear"][0] - 0.1,
    f"{ruined_linear:.0%} instead of {results['frozen + linear'][0]:.0%}",
)

# %% [markdown]
# ## 6. Side by side, and with other numbers of pictures (10 min)


# %%
# extra code: a row for each approach, one dot per seed, the mean written beside
def results_figure(results):
    fig, ax = plt.subplots(figsize=(9, 4.3))
    for row, values in enumerate(results.values()):
        ax.plot(values, [row] * len(values), "o", markersize=13, alpha=0.8)
        mean = f"{'mean ' if len(values) > 1 else ''}{sum(values) / len(values):.0%}"
        ax.annotate(mean, (max(values), row), xytext=(14, 0), textcoords="offset points", va="center")
    ax.axvline(0.5, color="gray", linestyle=":")
    ax.annotate("guessing", (0.5, -0.45), xytext=(5, 0), textcoords="offset points", color="gray", va="center")
    ax.set(yticks=range(len(results)), yticklabels=results, xlim=(0.48, 1.09), ylim=(len(results) - 0.4, -0.7))
    ax.set(xlabel="accuracy on the test set (one dot per seed)", title=f"200 {noun}s: what was learned elsewhere counts most")
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    return fig


# %%
means = ", ".join(f"{name} {sum(values) / len(values):.0%}" for name, values in results.items())
show(results_figure(results), f"Test accuracy with 200 {noun}s each, on three seeds (the last: on one); means: {means}.")

# %% [markdown]
# **Which is better, frozen or fine-tuned?** Here is the difference, seed by seed:

# %%
pairs = zip(results["frozen + linear"], results["fine-tuned"], strict=True)
print("fine-tuned minus frozen, in points:", *[f"{100 * (tuned - frozen):+.1f}" for frozen, tuned in pairs])

# %% [markdown]
# A few points either way, beside the gap to our own network. It changes with the number of pictures, and it depends on the network. So we
# measured more.
#
# ### With 20 pictures, and with thousands
#
# **Before you run it:** take only **twenty** pictures, ten cats and ten dogs. Which way gets how far now? Can twenty with a pretrained network beat two
# hundred without?
#
# <details><summary>Answer</summary>
#
# Yes. Our own network has nothing to go by but the twenty, and is not far from guessing. What the pretrained network needs from us is
# only a direction in the space of its features, and twenty points give a fair one.
#
# </details>


# %% tags=["measure"]
def scratch(seed, pictures):
    """Our own network with pooling. Few pictures need more epochs: they make few steps each."""
    torch.manual_seed(seed)
    model = own_network(pool_head()).to(device)
    train(model, pictures.with_transform(scale), num_epochs=max(10, min(100, 6000 // len(pictures))))
    return model


def tune_epochs(pictures):
    return max(3, min(30, 1200 // len(pictures)))


# %%
twenties = [pool.subset(20, seed=seed) for seed in seeds]
heads_of_20 = [linear_on(pool_points[s.indices], pool_labels[s.indices], seed) for seed, s in zip(seeds, twenties, strict=True)]
few = {"own, pooling": [accuracy(scratch(seeds[0], twenties[0]), test_set.with_transform(scale))]}
few["frozen + linear"] = [accuracy(head, test_dataset) for head in heads_of_20]
tuned_of_20 = fine_tune(seeds[0], twenties[0], heads_of_20[0], lr=1e-4, num_epochs=tune_epochs(twenties[0]))
few["fine-tuned"] = [accuracy(tuned_of_20, test_set.with_transform(prepare))]
few_means = {name: sum(values) / len(values) for name, values in few.items()}
print({name: f"{value:.0%}" for name, value in few_means.items()})

# %%
own_200 = sum(results["own, pooling"]) / 3
claim(
    "Twenty pictures with frozen features beat two hundred with a network of our own",
    few_means["frozen + linear"] > own_200 + 0.02,
    f"{few_means['frozen + linear']:.0%} with 20, our own network {own_200:.0%} with 200; means of three seeds",
)

# %% [markdown]
# The same on more seeds and for more numbers of pictures takes too long for a lecture. It was **measured earlier, by** `make measure TABLE=transfer_curves`:
# the bands go from the worst to the best of the seeds, and the line is their median. The black rings are the means of *this* run.


# %%
# extra code: rows of a measured table that suit, and their accuracies as (seeds, values of one setting)
def runs_here(rows, **settings):
    settings |= {"source": train_set.source}
    return [row for row in rows if all(row[name] == value for name, value in settings.items())]


def by_seed(rows, setting):
    found = {(row["seed"], row[setting]): row["accuracy"] for row in rows}
    tried = [sorted({row[name] for row in rows}) for name in ("seed", setting)]
    return np.array([[found[seed, value] for value in tried[1]] for seed in tried[0]])


# %%
rows = measured("transfer_curves")


# %%
# extra code: the measured table as curves, with this run's means on top
def growth_figure():
    fig, ax = plt.subplots(figsize=(10, 5))
    ax.set(xscale="log", ylim=(0.47, 1.01))
    lines = {"own, pooling": "own", "frozen + linear": "frozen", "fine-tuned": "tuned"}
    lines = {name: by_seed(runs_here(rows, approach=short), "num") for name, short in lines.items()}
    labels = dict(xlabel=f"training {noun}s (logarithmic)", ylabel="accuracy on the test set")
    curves(ax, lines, x=nums, title="With few pictures, a pretrained network is worth most", **labels)
    for name in lines:
        ax.plot([20, 200], [few_means[name], sum(results[name]) / 3], "o", color="black", fillstyle="none", markersize=11)
    ax.set_xticks(nums, labels=[f"{num:,}" for num in nums])
    ax.minorticks_off()
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    return fig, {name: np.median(line, axis=0) for name, line in lines.items()}


# %%
nums = sorted({row["num"] for row in runs_here(rows)})
fig, medians = growth_figure()
ends = "; ".join(f"{name} from {line[0]:.0%} to {line[-1]:.0%}" for name, line in medians.items())
show(fig, f"Accuracy against the number of training {noun}s, three bands over seeds, measured earlier by make measure. Medians: {ends}. Black rings: this run.")

# %%
difference = 100 * (medians["fine-tuned"] - medians["frozen + linear"])
print("fine-tuned minus frozen, in points of the medians:", *[f"{num:,} pictures {value:+.1f}" for num, value in zip(nums, difference, strict=True)], sep="\n  ")

# %% [markdown]
# So start with frozen features: they are computed once, and they are good from twenty pictures on. Fine-tune when you have more pictures, and keep it only
# where *your* validation set says that it gains.

# %% [markdown] slideshow={"slide_type": "notes"}
# The class will ask for a rule. A fair one: the more data there are, and the more the task differs from the one that the network was trained on, the more
# fine-tuning can gain. The table of the last cell shows where it begins to gain here, and whether it does at all. Section 9 measures the second half of the rule.

# %% [markdown]
# ### Explore: one picture, four answers
#
# Choose a new picture. Above: its nearest among the 200. Below: how sure each of the four networks is of its answer.

# %%
as_scaled = DataLoader(test_set.with_transform(scale), batch_size=100)
as_prepared = DataLoader(test_set.with_transform(prepare), batch_size=100)
answers = {"own, flatten": predict(flat_networks[0], as_scaled)[0], "own, pooling": predict(pool_networks[0], as_scaled)[0]}
answers |= {"frozen + linear": predict(heads[0], [(test_points, test_labels)])[0], "fine-tuned": predict(tuned[0], as_prepared)[0]}
dog = {name: logits.softmax(1)[:, 1] for name, logits in answers.items()}


# %%
# extra code: the picture and its neighbours above, the four answers as bars from "cat" to "dog" below
def draw_answers(picture):
    fig, axes = plt.subplot_mosaic([list("0123456"), ["bars"] * 7], figsize=(10.5, 5.2), height_ratios=[1, 1.6])
    kind = known.classes[test_labels[picture]]
    for k, place in enumerate([None, *nearest[picture, :6]]):
        ax, name = axes[str(k)], kind if place is None else known.classes[known_labels[place]]
        image = test_set.images[picture] if place is None else known.images[place]
        ax.imshow(image.permute(1, 2, 0))
        ax.set_title(f"new: {name}" if place is None else name, fontsize=13, loc="center")
        ax.axis("off")
    for row, shares in enumerate(dog.values()):
        share = shares[picture].item()
        right = (share > 0.5) == (kind == "dog")
        axes["bars"].barh(row, share - 0.5, left=0.5, color=f"C{row}", height=0.7)
        axes["bars"].annotate("✓" if right else "✗ wrong", (1.02, row), va="center", color="tab:green" if right else "tab:red")
    axes["bars"].set(yticks=range(4), yticklabels=dog, xlim=(0, 1.15), ylim=(3.6, -0.6), xticks=[0, 0.25, 0.5, 0.75, 1])
    axes["bars"].set_xticklabels(["sure: cat", "", "undecided", "", "sure: dog"])
    axes["bars"].axvline(0.5, color="gray")
    wrong = [name for name, shares in dog.items() if (shares[picture].item() > 0.5) != (kind == "dog")]
    return crisp(fig), f"A new {kind}, its six nearest, and four answers; wrong: {', '.join(wrong) or 'none'}."


doubtful = ((dog["own, pooling"] > 0.5) != (test_labels == 1)).nonzero().flatten()[:10].tolist()  # our own network is wrong here
explore(draw_answers, picture=list(dict.fromkeys([*doubtful, *range(10)])))

# %% [markdown]
# ## 7. Gentler ways to fine-tune (20 min, optional)
#
# Early layers see edges and colours, which every task needs. Late layers see what their own task needs. So they should not all change alike. We cut
# the network into five **parts**, from the picture to the features.


# %% tags=["measure"]
STARTS = {"SmallResNet": [0, 3, 4, 5, 6, 7], "MobileNetV2": [0, 2, 4, 7, 14, 19]}  # the layers at which the parts begin, and the end


def parts(model):
    starts = STARTS[type(model).__name__]
    return [model.features[start:end] for start, end in pairwise(starts)]


# %%
for number, part in enumerate(parts(encoder), start=1):
    print(f"part {number}: {len(part):2} layers, {num_parameters(part):9,} weights")

# %% [markdown]
# ### A learning rate for each part
#
# **Discriminative learning rates** (Howard and Ruder 2018): the head gets the full rate $\eta$, and each part a tenth of the rate of the one behind it, so the
# first gets $\eta / 10^5$. PyTorch's optimizers take a list of **parameter groups**, each with its own rate.


# %% tags=["measure"]
def rate_by_part(model, lr, factor=10):
    from_behind = [model.classifier, *reversed(parts(model))]
    return [{"params": part.parameters(), "lr": lr / factor**steps} for steps, part in enumerate(from_behind)]


# %% [markdown]
# **Before you run it:** in section 5 a learning rate of 0.03 destroyed the network, and 0.01 does as well, as a rule. We take 0.01, once for all weights, and once for the
# head, with less and less for the parts before it. What happens?
#
# <details><summary>Answer</summary>
#
# The network survives. The head can stand a large rate: it is one linear layer, and it has just been trained. The early parts cannot, and they no longer get one. (It
# may still end some points below the small rate.)
#
# </details>

# %%
def tune_with(groups_of, lr=1e-2):
    torch.manual_seed(seeds[0])
    model = with_head(heads[0])
    train(model, known.with_transform(prepare), lr=lr, num_epochs=6, groups=groups_of(model, lr))
    return accuracy(model, test_set.with_transform(prepare))


one_rate = tune_with(lambda model, lr: None)
by_part = tune_with(rate_by_part)
claim(
    "A learning rate a hundred times the small one does far less harm when earlier parts get less and less of it",
    by_part > one_rate + 0.1,
    f"{by_part:.0%} with a rate for each part; one rate for all: {one_rate:.0%} at 0.01, {ruined_accuracy:.0%} at 0.03, {results['fine-tuned'][0]:.0%} at 0.0001",
)

# %% [markdown]
# ### Unfreezing part by part
#
# Another way: begin with a *fresh* head and all parts frozen. After each epoch let go of one part more, the last first (**gradual unfreezing**, the same paper).
# The large gradients of a head that knows nothing yet then never reach the early parts.


# %% tags=["measure"]
RATES = {"critters": 3e-3, "photos": 3e-4}  # ours bears a larger rate than MobileNetV2, which has 53 layers


# %%
def train_fresh(gradually, lr, num_epochs=6):
    torch.manual_seed(seeds[0])
    model = with_head(nn.Linear(pool_points.shape[1], 2))
    loader = DataLoader(known.with_transform(prepare), batch_size=32, shuffle=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=num_epochs * len(loader))
    waiting = parts(model) if gradually else []
    for part in waiting:
        part.requires_grad_(False)
    for epoch in range(num_epochs):
        if waiting and epoch > 0:
            waiting.pop().requires_grad_(True)  # the last of those that wait
        fit(model, loader, num_epochs=1, optimizer=optimizer, scheduler=scheduler, progress=None)
    return model


# %% [markdown]
# We measure how far the weights of each part have gone, relative to their size: $\lVert W - W_0 \rVert / \lVert W_0 \rVert$.


# %%
def movement(model):
    lengths = []
    for part, before in zip(parts(model), parts(encoder), strict=True):
        W, W_0 = (torch.cat([p.detach().flatten() for p in layers.parameters()]) for layers in (part, before))
        lengths.append(((W - W_0).norm() / W_0.norm()).item())
    return lengths


# %%
rate = RATES[train_set.source]
by_name = {"all at once": train_fresh(False, rate), "part by part": train_fresh(True, rate)}
moved = {name: movement(model) for name, model in by_name.items()}
fresh_accuracy = {name: accuracy(model, test_set.with_transform(prepare)) for name, model in by_name.items()}

# %%
fig, ax = plt.subplots(figsize=(9, 4))
ax.set_yscale("log")
curves(ax, moved, xlabel="part of the network (1 sees the picture)", ylabel="relative movement", title="Unfrozen part by part, early parts hardly move")
ax.set_xticks(range(1, 6))
show(fig, f"Relative movement of the weights in the five parts, logarithmic. All at once: the first part moves by {moved['all at once'][0]:.1%}; "
     f"part by part: by {moved['part by part'][0]:.2%}. In the last part the two are close.")  # fmt: skip

# %%
claim(
    "Unfrozen part by part, the first part moves less than a third as far as when all train from the start",
    moved["part by part"][0] < moved["all at once"][0] / 3,
    f"{moved['part by part'][0]:.2%} against {moved['all at once'][0]:.2%}",
)
print("on the test set:", *[f"{name} {value:.1%}" for name, value in fresh_accuracy.items()])

# %% [markdown]
# Whether that is *better* is another matter: the line above is one seed, and on our data the winner changes from seed to seed. A head trained beforehand on cached
# features (section 4) protects the early parts as well, and costs less.
#
# ### Batch normalisation in the wrong mode
#
# In training mode, batch normalisation uses the average and the spread of **the batch at hand**. `model.train()` switches it on, `model.eval()` off. Forget the
# second, and the answer about one picture depends on which others happen to be in its batch.


# %%
def ask_in_training_mode(model, dataset, batch_size):
    model = copy.deepcopy(model).train()  # a copy: in this mode even asking changes the averages
    right = 0
    with torch.no_grad():
        for images, labels in DataLoader(dataset, batch_size=batch_size, shuffle=True):
            right += (model(images.to(device)).argmax(1).cpu() == labels).sum().item()
    return right / len(dataset)


# %% [markdown]
# **Before you run it:** the frozen network with its linear head of section 4, asked in training mode, in batches of four. Not a weight is changed. What is left
# of its accuracy?
#
# <details><summary>Answer</summary>
#
# Clearly less. Four pictures give a poor average, and each part works on what the one before it has distorted. If all four are cats, what cats have in common is even
# subtracted.
#
# </details>

# %%
in_fours = ask_in_training_mode(frozen, test_set.with_transform(prepare), batch_size=4)
claim(
    "Asked in training mode in batches of four, the same network with the same weights answers worse",
    in_fours < results["frozen + linear"][0] - 0.03,
    f"{in_fours:.0%} instead of {results['frozen + linear'][0]:.0%}",
)

# %% [markdown]
# That is a mistake. While *training* on few pictures it is a choice, and most recipes make it without saying so: `model.train()` puts the pretrained batch normalisation into
# training mode, and its averages, from millions of pictures, are overwritten by those of yours. `models.hold_batch_norm` (section 5) leaves them alone. What it costs
# with 40 pictures, measured earlier by `make measure TABLE=transfer_batch_norm`:


# %%
rows = measured("transfer_batch_norm")


# %%
# extra code: the measured table, a dot a seed
def batch_norm_figure():
    medians = {}
    fig, axes = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True)
    titles = {"head": "only the head is trained", "all": "all is trained"}
    for ax, (trained, title) in zip(axes, titles.items(), strict=True):
        for place, hold in enumerate([1, 0]):
            for shift, size in ((-0.12, 4), (0.12, 32)):
                values = [row["accuracy"] for row in runs_here(rows, trained=trained, hold=hold, batch_size=size)]
                medians[trained, size, hold] = np.median(values)
                ax.plot([place + shift] * len(values), values, "o" if size == 4 else "s", color=f"C{place}", alpha=0.7, markersize=9)
        ax.set_title(title, fontsize=14)
        ax.set(xticks=[0, 1], xticklabels=["held", "in training\nmode"], xlim=(-0.5, 1.5))
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    fig.suptitle("Overwritten averages cost points", x=0.01, ha="left", fontweight="bold", fontsize=15)
    axes[0].set_ylabel("accuracy on the test set")
    axes[0].plot([], [], "o", color="gray", label="batches of 4")
    axes[0].plot([], [], "s", color="gray", label="batches of 32")
    axes[0].legend(fontsize=12, loc="lower left")
    return fig, medians


# %%
fig, medians = batch_norm_figure()
words_for = {"head": "only the head trained", "all": "all trained"}
told = [f"{words_for[what]}, batches of {size}: {medians[what, size, 1]:.1%} held, {medians[what, size, 0]:.1%} not" for what in words_for for size in (4, 32)]
show(fig, f"Test accuracy with 40 {noun}s, batch normalisation held or in training mode, measured earlier by make measure, a dot a seed; medians: {'; '.join(told)}.")

# %% [markdown]
# ### How many parts to freeze?
#
# Between "frozen" and "fine-tuned" lies a scale. Freeze the first $k$ parts and train what is behind them.


# %% tags=["measure"]
def fine_tune_behind(k, seed, pictures, head, lr):
    """Fine-tune with the first k parts frozen; k = 5 trains only the head."""
    torch.manual_seed(seed)
    model = with_head(head)
    for part in parts(model)[:k]:
        part.requires_grad_(False)
    train(model, pictures.with_transform(prepare), lr=lr, num_epochs=tune_epochs(pictures))
    return model


# %%
live = {}
for k in (0, 4):
    model = fine_tune_behind(k, seeds[0], twenties[0], heads_of_20[0], lr=RATES[train_set.source])
    live[k] = accuracy(model, test_set.with_transform(prepare))
    print(f"20 {noun}s, the first {k} of 5 parts frozen: {live[k]:.1%}")


# %%
# extra code: accuracy against the number of frozen parts, from the measured table
def depth_figure():
    fig, ax = plt.subplots(figsize=(9, 4.8))
    groups = {f"{num:,} {noun}s": by_seed(runs_here(rows, num=num), "frozen_parts") for num in sorted({row["num"] for row in runs_here(rows)})}
    curves(ax, groups, x=range(6), xlabel="frozen parts, of 5", ylabel="accuracy on the test set", title="With few pictures, freezing protects what was learned")
    ax.set_xticks(range(6), labels=["0: train all", *"1234", "5: head only"])
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return fig, {name: np.median(line, axis=0) for name, line in groups.items()}


# %% [markdown]
# More seeds and more pictures, measured earlier by `make measure TABLE=transfer_depth` (bands from the worst to the best seed; on photos a single seed so far, so no band):

# %%
rows = measured("transfer_depth")
fig, medians = depth_figure()
told = "; ".join(f"with {name} {line[0]:.1%} when all is trained, {line[-1]:.1%} when only the head is" for name, line in medians.items())
show(fig, f"Test accuracy against the number of frozen parts, measured earlier by make measure, a band over seeds for each number of {noun}s. Medians: {told}.")

# %% [markdown] slideshow={"slide_type": "notes"}
# The rate is the same for all points of the figure, and larger than that of section 5, so that there is something to protect. With few pictures what moves can only move towards the
# few; with more it costs less to move. Yosinski et al. (2014) measured
# the same scale on ImageNet, and found a second effect: layers that were trained together are hard to separate in the middle.

# %% [markdown]
# ## 8. What each part sees (20 min, optional)
#
# ### The first layer
#
# Its filters act on the picture itself, so they can be drawn as small pictures. Beside them, the filters as they are before any training.


# %%
# extra code: which first layer to look at
def first_filters():
    """Filters (N, 3, k, k) of a pretrained first layer, and its name. MobileNetV2's have 3 x 3 pixels, too few to see; SqueezeNet's have 7 x 7."""
    if train_set.source == "critters":
        return pretrained.features[0].weight.detach(), "our small residual network"
    state = models.imagenet_state(torchvision.models.SqueezeNet1_0_Weights.IMAGENET1K_V1)
    return state["features.0.weight"], "SqueezeNet (trained on ImageNet)"


filters, owner = first_filters()
fresh = torch.empty_like(filters)
nn.init.kaiming_uniform_(fresh, a=5**0.5)  # as nn.Conv2d does
print(f"the first layer of {owner}: {len(filters)} filters of {tuple(filters.shape[1:])}")


# %%
# extra code: filters as pictures, each scaled to its own range
def filter_figure():
    fig, axes = plt.subplots(1, 2, figsize=(10, 4.4))
    num, side = (24, 6) if len(filters) < 64 else (64, 8)
    order = filters.flatten(1).std(1).argsort(descending=True)[:num]  # the strongest; some of a network's filters stay near zero
    for ax, (title, weights) in zip(axes, {"before training": fresh[:num], "trained": filters[order]}.items(), strict=True):
        low, high = weights.amin((1, 2, 3), keepdim=True), weights.amax((1, 2, 3), keepdim=True)
        grid = torchvision.utils.make_grid((weights - low) / (high - low), nrow=side, padding=1, pad_value=1)
        ax.imshow(grid.permute(1, 2, 0))
        ax.set_title(title, fontsize=15)
        ax.axis("off")
    return fig


show(filter_figure(), f"Filters of the first layer of {owner}, 7 x 7 pixels: noise before training; after it, edges in many directions, stripes and "
     "blobs of colour.")  # fmt: skip

# %% [markdown]
# Edges, stripes, blobs of colour: nothing in them says cat, dog or any other class. Networks trained on quite different tasks have such filters, and
# cells in the first area of the visual cortex answer to such patterns too (**Gabor** functions describe both well). That is why the first layers transfer to nearly every task.
#
# A number for "not noise": the correlation of each weight with the one to its right.


# %%
def alikeness(weights):
    """Correlation of neighbouring weights (left and right), over all filters."""
    centred = weights - weights.mean((2, 3), keepdim=True)
    left, right = centred[..., :-1].flatten(), centred[..., 1:].flatten()
    return ((left * right).mean() / (left.std() * right.std())).item()


claim(
    "Trained filters have a shape: weights side by side are alike, those of a fresh layer are not",
    alikeness(filters) > alikeness(fresh) + 0.2,
    f"correlation {alikeness(filters):.2f} trained, {alikeness(fresh):+.2f} fresh",
)

# %% [markdown]
# ### Deeper parts
#
# A filter of a deeper layer acts on channels, not on colours, and cannot be drawn. But we can ask which places in our pictures it answers to **most strongly**. This module
# gives, after each part, every channel's mean over the picture, its largest value, and where that was.


# %% tags=["measure"]
class EachPart(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.parts = nn.ModuleList(parts(model))

    def forward(self, images):
        means, largest, where = [], [], []
        for part in self.parts:
            images = part(images)
            values, places = images.flatten(2).max(2)
            means.append(images.mean((2, 3))), largest.append(values), where.append(places)
        return tuple(means), tuple(largest), tuple(where)


# %%
each_part = EachPart(encoder).eval()
(pool_means, largest, where), _ = through(each_part, pool, "every part, the pool")
(test_means, _, _), _ = through(each_part, test_set, "every part, the test set")


# %%
# extra code: for the most selective channels of a part, the places in the pool with the largest answers
def strongest_places(part, num_channels, num=6):
    values, size = largest[part], pool.images.shape[-1]
    top = values.topk(num, dim=0)
    contrast = (top.values.mean(0) - values.mean(0)) / (values.std(0) + 1e-6)
    side = [size // 5, size // 4, size * 3 // 8, size * 5 // 8, size][part]  # about what a channel of this part looks at
    cells = {"SmallResNet": [32, 32, 16, 8, 4], "MobileNetV2": [size // 2, size // 4, size // 8, size // 16, size // 32]}[type(encoder).__name__][part]
    rows = {}
    for channel in contrast.argsort(descending=True)[:num_channels].tolist():
        crops = []
        for i in top.indices[:, channel].tolist():
            place = where[part][i, channel].item()
            y, x = ((c + 0.5) * size / cells - side / 2 for c in divmod(place, cells))
            y, x = (int(min(max(c, 0), size - side)) for c in (y, x))
            crops.append(pool.images[i, :, y : y + side, x : x + side])
        rows[f"part {part + 1}\nchannel {channel}"] = crops
    return rows


# %%
# extra code: one row a channel
def crops_figure():
    rows = {name: crops for part in (0, 2, 3, 4) for name, crops in strongest_places(part, num_channels=2).items()}
    fig, axes = plt.subplots(len(rows), 6, figsize=(6, 7.2))
    for line, (name, crops) in zip(axes, rows.items(), strict=True):
        for ax, crop in zip(line, crops, strict=True):
            ax.imshow(crop.permute(1, 2, 0))
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=12)
    return fig


show(crisp(crops_figure()), f"Two channels of each of four parts, and for each the six places in 600 {noun}s to which it answers most strongly. Early: edges and colours; later: "
     "textures and small shapes; at the end: whole pictures that have something in common.")  # fmt: skip

# %% [markdown] slideshow={"slide_type": "notes"}
# Let the class name what the rows have in common, and then ask how they would check their name. That channels have names at all is our reading; many have none. (Zeiler and
# Fergus 2014 made such pictures first; Olah et al. 2017 show hundreds.)

# %% [markdown]
# ### How much each part knows of our task
#
# A linear classifier can stand behind any part. To compare the parts fairly, each number is brought to mean 0 and spread 1 over the training pictures (a **probe**; Alain and Bengio 2016).


# %% tags=["measure"]
def probe(points, labels, new_points, new_labels, seed):
    """Accuracy on new points of a linear classifier on standardised points."""
    mean, std = points.mean(0), points.std(0) + 1e-6
    linear = linear_on((points - mean) / std, labels, seed)
    return accuracy(linear, TensorDataset((new_points - mean) / std, new_labels))


# %%
forty = pool.subset(40, seed=seeds[0])
similar = [probe(a[forty.indices], forty.targets["label"], b, test_labels, seeds[0]) for a, b in zip(pool_means, test_means, strict=True)]
print("cat or dog, from 40 pictures:", *[f"part {k}: {value:.0%}" for k, value in enumerate(similar, start=1)], sep="\n  ")

# %%
claim(
    "What the last part computes tells cats from dogs far better than what the first part computes",
    similar[-1] > similar[0] + 0.15,
    f"{similar[-1]:.0%} behind the last part, {similar[0]:.0%} behind the first",
)

# %% [markdown]
# ## 9. When to do what (15 min, optional)
#
# The textbook rule asks two questions: how many pictures have you, and how **similar** is your task to the one that the network was trained on?
#
# | | similar task | different task |
# |---|---|---|
# | **few pictures** | linear classifier on the last features | linear classifier on *earlier* features |
# | **many pictures** | fine-tune | fine-tune, or train from scratch |
#
# We do not quote it, we measure it. The similar task is ours. The **different** one: breast lesions in ultrasound, *benign or malignant*. Where the images of BUSI are not at hand,
# the course draws a stand-in: dark blobs in grey speckle, round or with spikes. It looks like nothing that the network was trained on. (Neither is for any medical use.)


# %% tags=["measure"]
# extra code: all lesions that are there, in one data set
def lesion_set():
    classes = ["benign", "malignant"]
    try:
        splits = datasets.lesions()
    except FileNotFoundError:  # photos are asked for, and those of lesions cannot be fetched: drawings stand in
        drawn = [torch.from_numpy(draw_lesion(malignant=i % 2 == 1, seed=i, size=128)[0]) for i in range(1000)]
        images = torch.stack(drawn)[:, None].repeat(1, 3, 1, 1)
        return datasets.ImageDataset(images, {"label": torch.arange(1000) % 2}, classes, "drawing", "critters")
    images, labels = torch.cat([s.images for s in splits]), torch.cat([s.targets["label"] for s in splits])
    return datasets.ImageDataset(images, {"label": labels}, classes, splits.train.noun, splits.train.source)


# %%
lesions = lesion_set()
lesion_labels = lesions.targets["label"]
print(lesions)
examples = [lesions.images[lesion_labels == k][:6] for k in (0, 1)]
titles = [name for name in lesions.classes for _ in range(6)]
fig = crisp(image_grid(torch.cat(examples), titles=titles, columns=6, size=1.2))
show(fig, f"The different task: {lesions.noun}s of lesions, six benign above, six malignant below.")

# %% [markdown]
# **Before you run it:** forty lesions to train on. The network has learned animals, or the things of ImageNet. A linear classifier behind which part will be best?
#
# <details><summary>Answer</summary>
#
# For cats and dogs the last part is best, as section 8 has shown. For lesions it is not: what the late parts have learned to see, and to ignore, was chosen for
# another task. The grain and the outline of a blob are seen by the early ones.
#
# </details>

# %%
(lesion_means, _, _), _ = through(each_part, lesions, "every part, the lesions")
chosen = lesions.subset(40, seed=seeds[0]).indices
others = torch.ones(len(lesions), dtype=torch.bool).index_fill(0, chosen, False)
different = [probe(a[chosen], lesion_labels[chosen], a[others], lesion_labels[others], seeds[0]) for a in lesion_means]
print("benign or malignant, from 40:", *[f"part {k}: {value:.0%}" for k, value in enumerate(different, start=1)], sep="\n  ")

# %%
fig, ax = plt.subplots(figsize=(9, 4.5))
curves(ax, {"cat or dog": similar, "lesions": different}, xlabel="part behind which the linear classifier stands", ylabel="accuracy on others", title="What depth adds for cats and dogs, it does not add for lesions")
ax.set(xticks=range(1, 6), ylim=(0.45, 1.01))
ax.yaxis.set_major_formatter(PercentFormatter(1))
show(fig, f"Accuracy of a linear classifier on 40 pictures behind each of the five parts. Cat or dog: from {similar[0]:.0%} behind the first part to {similar[-1]:.0%} behind the last. "
     f"Lesions: from {different[0]:.0%} to {different[-1]:.0%}.")  # fmt: skip

# %%
gains = similar[-1] - similar[0], different[-1] - different[0]
claim(
    "Going from the first part to the last helps the similar task far more than the different one",
    gains[0] > gains[1] + 0.15,
    f"{100 * gains[0]:+.0f} points for cat or dog, {100 * gains[1]:+.0f} for lesions",
)

# %% [markdown]
# ### The whole grid
#
# Four ways, two tasks, few and many pictures: measured earlier by `make measure TABLE=transfer_grid`. "Earlier" is the linear classifier behind the best of the
# parts 1 to 3, *chosen on the test pictures*, so it is a little flattered.


# %%
# extra code: the grid, one panel a corner, a dot a seed
def grid_figure():
    fig, axes = plt.subplots(2, 2, figsize=(11, 6.6), sharex=True, sharey=True)
    names = {"scratch": "from scratch", "early": "earlier features", "last": "last features", "tuned": "fine-tuned"}
    best = {}
    for column, task in enumerate(["similar", "different"]):
        for row, size in enumerate(["few", "many"]):
            ax, corner = axes[row, column], runs_here(rows, task=task, size=size)
            values = {way: [run["accuracy"] for run in corner if run["way"] == way] for way in names}
            first = max(names, key=lambda way: np.median(values[way]))
            best[f"{task}, {size}"] = names[first]
            for line, way in enumerate(names):
                ax.plot(values[way], [line] * len(values[way]), "o", color=f"C{line}", alpha=0.7, markersize=9)
                weight = "bold" if way == first else "normal"
                ax.annotate(f"{np.median(values[way]):.0%}", (1.03, line), va="center", fontweight=weight, annotation_clip=False)
            ax.set_title(f"{task} task, {corner[0]['num']:,} to learn from", fontsize=14)
            ax.set(yticks=range(4), yticklabels=names.values(), ylim=(3.6, -0.6), xlim=(0.4, 1.02))
            ax.xaxis.set_major_formatter(PercentFormatter(1))
    for ax in axes[1]:
        ax.set_xlabel("accuracy (dots: seeds; right: median)")
    return fig, best


# %%
rows = measured("transfer_grid")
fig, best = grid_figure()
show(fig, f"The grid as measured earlier by make measure: accuracy of four ways in each corner, the best median in bold. Best: {'; '.join(f'{corner}: {way}' for corner, way in best.items())}.")

# %% [markdown]
# Read the bold numbers against the rule above.
#
# - For the **similar** task it holds. The last features and fine-tuning are close together and ahead, from scratch is far behind with few pictures.
# - For the **different** task the last features have lost their lead. On drawn lesions the earlier ones beat them by far. On ultrasound images (a photo run shows their grid) the
#   ways lie within a few points of each other with few images, and fine-tuning leads with many; only some sixty to a hundred and forty images are left to test on, so read it with care.
# - One corner contradicts the rule: on *drawn* lesions a small network from scratch beats everything. A blob with or without spikes is an easy thing to learn, and where
#   the task is easy nothing needs to be transferred.
# - Fine-tuning had the small rate of section 5 everywhere. A different task may want larger steps. Try it.
#
# The lectures' example of a different task is **glaucoma**, seen in photos of the retina. A study of that kind (Christopher et al. 2018) had 14,822 of them, so "many", and compared several
# architectures, each from scratch and fine-tuned from ImageNet. In all cases transfer was more accurate and took less training; the best reached an area under the ROC curve of 0.91 (1 is perfect, 0.5 is guessing). Raghu et al.
# (2019) looked closer, on two larger medical tasks: pretraining gave little accuracy, small networks from scratch came close, and what did transfer sat in the lowest layers.

# %% [markdown]
# ## 10. What a pretrained network expects (5 min, optional)
#
# A pretrained network is used to pictures of a certain **size**, and to numbers of a certain **normalisation**. `prepare` gives it the second. What if you forget?
#
# **Before you run it:** the head is the one trained on right features. The test pictures are prepared wrongly, each in its own way. Which mistake costs most?
#
# <details><summary>Answer</summary>
#
# Forgetting to normalise can cost nearly everything, and no error message tells you. Which of the two ways to forget it is worse depends on the network. Half the size costs much too: the
# filters look for shapes of the size that they were trained on. Twice the size is bad where it leads away from that size, as for the drawings. (MobileNetV2 was trained at
# 224, so on photos of 128 it does no harm.) Red and blue exchanged, as OpenCV reads pictures, costs little.
#
# </details>

# %%
side = test_set.images.shape[-1]
ways = {
    "as it should be": prepare,
    "red and blue exchanged": v2.Compose([v2.Lambda(lambda image: image.flip(-3), tv_tensors.Image), prepare]),
    "0 to 1, not normalised": v2.ToDtype(torch.float32, scale=True),
    "0 to 255, not normalised": v2.ToDtype(torch.float32),
    "half the size": v2.Compose([v2.Resize(side // 2), prepare]),
    "twice the size": v2.Compose([v2.Resize(side * 2), prepare]),
}


# %%
def with_preparation(way):
    points, _ = predict(encoder, DataLoader(test_set.with_transform(way), batch_size=100))
    return accuracy(heads[0], TensorDataset(points, test_labels))


wrong_ways = {name: with_preparation(way) for name, way in ways.items()}

# %%
fig, ax = plt.subplots(figsize=(9, 4))
ax.barh(list(wrong_ways), wrong_ways.values(), color=["C0", *["C1"] * 5])
ax.bar_label(ax.containers[0], [f"{value:.0%}" for value in wrong_ways.values()], padding=6)
ax.axvline(0.5, color="gray", linestyle=":")
ax.set(xlim=(0, 1.1), xlabel="accuracy on the test set", title="A wrong preparation costs accuracy, and no error says so")
ax.invert_yaxis()
ax.xaxis.set_major_formatter(PercentFormatter(1))
show(fig, f"Test accuracy for six ways to prepare the pictures: {', '.join(f'{name} {value:.0%}' for name, value in wrong_ways.items())}. The dotted line is guessing.")

# %%
forgotten = min(wrong_ways["0 to 1, not normalised"], wrong_ways["0 to 255, not normalised"])
claim(
    "Forgotten normalisation costs many points, and nothing warns you (the worse of the two ways)",
    forgotten < wrong_ways["as it should be"] - 0.1,
    f"{forgotten:.0%} instead of {wrong_ways['as it should be']:.0%}",
)
claim(
    "So do pictures of half the size",
    wrong_ways["half the size"] < wrong_ways["as it should be"] - 0.07,
    f"{wrong_ways['half the size']:.0%} instead of {wrong_ways['as it should be']:.0%}",
)

# %% [markdown]
# Old slides have `BatchNorm2D` (it is `BatchNorm2d`) and pin torch.hub to `v0.5.0`; take the version that is installed.

# %% [markdown]
# ## 11. Other pretrained networks (15 min, optional)
#
# Torchvision has many more. All end in a layer for ImageNet's 1,000 classes, each under its own name. This dictionary says where it is, and how large the pictures are.

# %%
zoo = {  # name: the place of the last layer, size of the pictures
    "alexnet": ("classifier.6", 224),
    "vgg19": ("classifier.6", 224),
    "resnet18": ("fc", 224),
    "resnet50": ("fc", 224),
    "inception_v3": ("fc", 299),
    "mobilenet_v2": ("classifier.1", 224),
    "mobilenet_v3_large": ("classifier.3", 224),
    "mobilenet_v3_small": ("classifier.3", 224),
}


# %% [markdown]
# To count and to replace we need no weights. On the device `"meta"` (notebook 02), tensors have shapes and no numbers: even VGG-19 takes no memory.


# %%
def skeleton(name):
    """The network on the meta device, in evaluation mode."""
    options = {"init_weights": False} if name == "inception_v3" else {}
    with torch.device("meta"):
        return torchvision.models.get_model(name, weights=None, **options).eval()


def replace_last(model, place, num_classes):
    *path, name = place.split(".")
    parent = model.get_submodule(".".join(path))
    last = getattr(parent, name)
    setattr(parent, name, nn.Linear(last.in_features, num_classes, device="meta"))
    return last.in_features


# %%
# NBVAL_CHECK_OUTPUT
shapes = {}
for name, (place, size) in zoo.items():
    model = skeleton(name)
    width = replace_last(model, place, num_classes=2)
    shapes[name] = tuple(model(torch.empty(1, 3, size, size, device="meta")).shape)
    print(f"{name:20} {place:13} {width:5,} features, outputs {shapes[name]}")

# %%
claim("With its last layer replaced, every network gives two outputs", all(shape == (1, 2) for shape in shapes.values()), f"{len(shapes)} networks")

# %% [markdown]
# Two notes. Inception v3 has a second, auxiliary head for training (`AuxLogits.fc`), which must be replaced as well. And a slide has "ImageNet classes: 1280" beside MobileNet: it
# is the 1,280 of this table, the width of the features.
#
# What does each cost? **Parameters**, and **multiply-accumulates** (MACs) for one picture. PyTorch's counter counts a multiplication and an addition as two. The
# **accuracy on ImageNet** is what torchvision publishes with the weights; we only read it.


# %%
def costs(name, size):
    model, weights = skeleton(name), torchvision.models.get_model_weights(name).DEFAULT
    gmacs = count_macs(model, 1, 3, size, size) / 1e9
    published = weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    row = {"parameters": num_parameters(model), "GMACs": gmacs, "published GMACs": weights.meta["_ops"]}
    return row | {"published parameters": weights.meta["num_params"], "ImageNet top-1, %": published}


table = {name: costs(name, size) for name, (_, size) in zoo.items()}
for name, row in table.items():
    print(f"{name:20} {row['parameters']:12,} parameters {row['GMACs']:7.2f} GMACs   ImageNet top-1 {row['ImageNet top-1, %']:.1f} %")

# %%
furthest = max(abs(row["GMACs"] / row["published GMACs"] - 1) for row in table.values())
claim(
    "Counted here, parameters and multiply-accumulates are those that torchvision publishes",
    all(row["parameters"] == row["published parameters"] for row in table.values()) and furthest < 0.03,
    f"{len(table)} networks; multiply-accumulates within {furthest:.1%}",
)

# %%
fig, ax = plt.subplots(figsize=(10, 5))
ax.set(xscale="log", xlim=(0.025, 60), ylim=(50, 88), xlabel="multiply-accumulates for one picture, in thousand millions (GMACs)", ylabel="ImageNet top-1 accuracy, %")
for name, row in table.items():
    ax.scatter(row["GMACs"], row["ImageNet top-1, %"], s=9 * row["parameters"] / 1e6 + 30, alpha=0.6)
    shift = 14 if name in ("resnet50", "mobilenet_v3_large") else -42  # above or below the dot
    label = f"{name}\n{row['parameters'] / 1e6:.1f} M parameters"
    ax.annotate(label, (row["GMACs"], row["ImageNet top-1, %"]), xytext=(0, shift), textcoords="offset points", ha="center", fontsize=12)
ax.set_title("More parameters do not mean more accuracy")
show(fig, "Published ImageNet accuracy against multiply-accumulates, the area of a dot being the number of parameters. AlexNet and VGG-19 have the most parameters and not the most "
     "accuracy; the MobileNets reach theirs with a small share of the work.")  # fmt: skip

# %% [markdown]
# A count is not a clock. **Before you run it:** by the count, VGG-19 takes about 65 times as long as MobileNetV2. By the clock?
#
# <details><summary>Answer</summary>
#
# It is slower, but by a smaller factor: depthwise convolutions move much memory for little arithmetic, and machines are better at arithmetic. (Weights are all zero here: the time does not depend on them.)
#
# </details>


# %%
@torch.no_grad()
def seconds_a_picture(name, size, batch_size):
    model = skeleton(name).to_empty(device=device)
    for tensor in [*model.parameters(), *model.buffers()]:
        tensor.zero_()
    images = torch.zeros(batch_size, 3, size, size, device=device)
    model(images).cpu()  # the first time is slower
    start = time.perf_counter()
    model(images).cpu()
    return (time.perf_counter() - start) / batch_size


# %%
batch_size = 4 if device.type == "cpu" else 64
clock = {name: seconds_a_picture(name, size, batch_size) for name, (_, size) in tqdm(zoo.items())}
for name in zoo:
    print(f"{name:20} {clock['vgg19'] / clock[name]:5.1f} times as fast as VGG-19; by the count {table['vgg19']['GMACs'] / table[name]['GMACs']:6.1f} times")

# %%
claim(
    "MobileNetV2 answers several times as fast as VGG-19 (but not as many times as the counts say)",
    clock["vgg19"] / clock["mobilenet_v2"] > 3,
    f"{clock['vgg19'] / clock['mobilenet_v2']:.0f} times by the clock, {table['vgg19']['GMACs'] / table['mobilenet_v2']['GMACs']:.0f} by the count",
)

# %% [markdown]
# ### torch.hub
#
# A network need not come from torchvision. `torch.hub` loads it from any repository that has a file `hubconf.py`. Online, one line fetches code and weights:
#
# ```python
# model = torch.hub.load("pytorch/vision", "mobilenet_v2", weights="IMAGENET1K_V2")  # a tag of the repository can be named: "pytorch/vision:v0.25.0"
# ```
#
# (It runs that repository's code on your machine, so look at it first.) Here is the same without a network, from a folder of our own:

# %%
with tempfile.TemporaryDirectory() as folder:
    lines = ['dependencies = ["torch", "torchvision"]', "from torchvision.models import mobilenet_v3_small"]
    (Path(folder) / "hubconf.py").write_text("\n".join(lines))
    from_hub = torch.hub.load(folder, "mobilenet_v3_small", source="local", num_classes=2)

# %%
expected = skeleton("mobilenet_v3_small")
replace_last(expected, "classifier.3", num_classes=2)
shapes_hub, shapes_expected = ({name: tuple(t.shape) for name, t in model.state_dict().items()} for model in (from_hub, expected))
claim(
    "torch.hub gives the same network: every weight has the same name and shape",
    shapes_hub == shapes_expected,
    f"{len(shapes_hub)} tensors; the new layer's weights have the shape {shapes_hub['classifier.3.weight']}",
)

# %% [markdown]
# ## 12. Exercises (45 min)
#
# Write your answer in place of the dots and run the cell: the check tells you what it expected and what came. Stuck? Take away the `#` in
# the cell below it.
#
# **Exercise 1: replace the head.** Torchvision's MobileNetV2 ends in `classifier[1]`, a linear layer with 1,280 inputs and 1,000 classes.
# Our small network has one too, of another width. Put a new layer there that gives `num_classes` outputs, for both. Return the model.


# %%
def replace_head(model, num_classes):
    ...


exercises.replace_head.check(replace_head)

# %% slideshow={"slide_type": "skip"}
# exercises.replace_head.hint()
# exercises.replace_head.solution()

# %% [markdown]
# **Exercise 2: freeze.** Turn off training (`requires_grad`) for all parameters of `model.features`, and for no others. Return how many
# numbers are left to train, an integer.


# %%
def freeze(model):
    ...


exercises.freeze.check(freeze)

# %% slideshow={"slide_type": "skip"}
# exercises.freeze.hint()
# exercises.freeze.solution()

# %% [markdown]
# **Exercise 3: a classifier without training.** Give each of `points` (N, D) the label of the most similar of `known_points` (M, D), by
# cosine similarity. Return the labels, a tensor (N,).


# %%
def nearest_label(points, known_points, known_labels):
    ...


exercises.nearest_label.check(nearest_label)

# %% slideshow={"slide_type": "skip"}
# exercises.nearest_label.hint()
# exercises.nearest_label.solution()

# %% [markdown]
# **Exercise 4: cache the features yourself.** Without `predict`: run `encoder` over every picture of `dataset`, whose items are (image, label),
# and return all features in order, a tensor (N, D). In evaluation mode, and without gradients. Here all is on the CPU.


# %%
def cache_features(encoder, dataset):
    ...


exercises.cache_features.check(cache_features)

# %% slideshow={"slide_type": "skip"}
# exercises.cache_features.hint()
# exercises.cache_features.solution()

# %% [markdown]
# **Exercise 5: parameter groups.** Write the list of groups for an optimizer: the head (`model.classifier`) at `lr`, the second half of the layers in `model.features` at a
# tenth of it, the first half at a hundredth. With an odd number of layers, the first half is the smaller one.


# %%
def parameter_groups(model, lr):
    ...


exercises.parameter_groups.check(parameter_groups)

# %% slideshow={"slide_type": "skip"}
# exercises.parameter_groups.hint()
# exercises.parameter_groups.solution()

# %% [markdown]
# **Exercise 6: an unfreezing schedule.** In epoch number `epoch`, from 0, the classifier and the last `epoch` layers of `model.features` are trained, and all others are frozen.
# Set `requires_grad` accordingly and return the model.


# %%
def unfreeze(model, epoch):
    ...


exercises.unfreeze.check(unfreeze)

# %% slideshow={"slide_type": "skip"}
# exercises.unfreeze.hint()
# exercises.unfreeze.solution()

# %% [markdown]
# **Exercise 7: normalise by hand.** `images` are bytes (N, 3, H, W), `mean` and `std` lists of three numbers, one a channel, for values between 0 and 1. Return what the network expects,
# float32, without `v2`.


# %%
def normalise(images, mean, std):
    ...


exercises.normalise.check(normalise)

# %% slideshow={"slide_type": "skip"}
# exercises.normalise.hint()
# exercises.normalise.solution()

# %% [markdown]
# ## 13. Lab: forty pictures (30 min and more)
#
# Now you have only **40** labelled pictures, `pool.subset(40)`. Build the best classifier that you can, in any way: features,
# neighbours, fine-tuning, flipped copies, a vote of several networks. You may look at `val_set`, but not train on it, and not touch
# `test_set`.
#
# `classify` gets pictures as bytes, a uint8 tensor (N, 3, S, S) on the CPU, and returns their labels, (N,), 0 for cat and 1 for dog. So the
# preparation (`scale`, `prepare` or your own) belongs in it. The check scores it on the test set. 90 % is good.


# %%
def classify(images):
    ...


exercises.lab.check(classify)

# %% slideshow={"slide_type": "skip"}
# exercises.lab.hint()
# exercises.lab.solution()

# %% [markdown]
# ## Summary
#
# - A network of our own learns its 200 pictures by heart. Global average pooling narrows the gap to new pictures, and does not close it.
# - A pretrained network turns pictures into points. Neighbours are alike before any training for our task. Counting turns words into points.
# - Frozen features, computed once, and a linear classifier beat our own network: twenty pictures with them beat two hundred without.
# - So does fine-tuning with a small learning rate. A large one destroys what the network knew, unless early parts get less of it.
# - When you ask a network, its batch normalisation must be in evaluation mode, and the pictures prepared in its way. No error tells you that either is wrong.
# - First layers see edges and colours. What late parts add helps a task like the one that they learned, and not a different one.
# - What a network costs is counted without running it. The clock says something else.
#
# The claims of this run, with their figures:

# %%
summary()

# %% [markdown]
# ### Lecture topics
#
# | topic | section | lectures |
# |---|---|---|
# | T1 small data, and how much the famous ones have | 1 | A, B, C, E |
# | T2 a network of our own, overfitting, global average pooling | 2 | E |
# | T3 embeddings of images and of words | 3 | A, B |
# | T4 first-layer filters, what deeper parts respond to | 8 | D |
# | T5 frozen features and a linear classifier | 4 | A, B, C, D, E |
# | T6 fine-tuning with a small learning rate | 5 | A, B, D |
# | T7 discriminative learning rates | 7 | A, B |
# | T8 gradual unfreezing | 7 | B |
# | T9 how many parts to freeze | 7 | C |
# | T10 when and how, measured | 9 | C, D |
# | T11 other pretrained networks and torch.hub | 11 | C, E |
# | T12 input size and normalisation | 10 | D, E |
#
# ### Further reading
# - M. Lin, Q. Chen, S. Yan. *Network in Network*. 2013. https://arxiv.org/abs/1312.4400 (global average pooling)
# - J. Donahue et al. *DeCAF: A Deep Convolutional Activation Feature for Generic Visual Recognition*. ICML 2014. https://arxiv.org/abs/1310.1531
# - J. Yosinski, J. Clune, Y. Bengio, H. Lipson. *How transferable are features in deep neural networks?* NeurIPS 2014. https://arxiv.org/abs/1411.1792
# - S. Kornblith, J. Shlens, Q. V. Le. *Do Better ImageNet Models Transfer Better?* CVPR 2019. https://arxiv.org/abs/1805.08974
# - A. Kumar et al. *Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution*. ICLR 2022. https://arxiv.org/abs/2202.10054
# - M. Sandler et al. *MobileNetV2: Inverted Residuals and Linear Bottlenecks*. CVPR 2018. https://arxiv.org/abs/1801.04381
# - L. van der Maaten, G. Hinton. *Visualizing Data using t-SNE*. JMLR 2008. https://jmlr.org/papers/v9/vandermaaten08a.html
# - J. Howard, S. Ruder. *Universal Language Model Fine-tuning for Text Classification*. ACL 2018. https://arxiv.org/abs/1801.06146 (discriminative rates, gradual unfreezing)
# - G. Alain, Y. Bengio. *Understanding intermediate layers using linear classifier probes*. 2016. https://arxiv.org/abs/1610.01644
# - M. D. Zeiler, R. Fergus. *Visualizing and Understanding Convolutional Networks*. ECCV 2014. https://arxiv.org/abs/1311.2901
# - C. Olah, A. Mordvintsev, L. Schubert. *Feature Visualization*. Distill 2017. https://distill.pub/2017/feature-visualization
# - M. Christopher et al. *Performance of Deep Learning Architectures and Transfer Learning for Detecting Glaucomatous Optic Neuropathy in Fundus Photographs*. Scientific Reports 2018
# - M. Raghu, C. Zhang, J. Kleinberg, S. Bengio. *Transfusion: Understanding Transfer Learning for Medical Imaging*. NeurIPS 2019. https://arxiv.org/abs/1902.07208
# - O. Levy, Y. Goldberg. *Neural Word Embedding as Implicit Matrix Factorization*. NeurIPS 2014
# - T. Mikolov, K. Chen, G. Corrado, J. Dean. *Efficient Estimation of Word Representations in Vector Space*. 2013. https://arxiv.org/abs/1301.3781
# - J. R. Firth. *A Synopsis of Linguistic Theory, 1930-1955*. In: Studies in Linguistic Analysis, 1957
#
# The data sets and networks of section 1:
# - O. Russakovsky et al. *ImageNet Large Scale Visual Recognition Challenge*. IJCV 2015. https://arxiv.org/abs/1409.0575
# - A. Krizhevsky, I. Sutskever, G. Hinton. *ImageNet Classification with Deep Convolutional Neural Networks*. NeurIPS 2012 (AlexNet; parameters counted in torchvision's)
# - A. Karpathy et al. *Large-scale Video Classification with Convolutional Neural Networks*. CVPR 2014 (Sports-1M)
# - O. Bojar et al. *Findings of the 2014 Workshop on Statistical Machine Translation*. WMT 2014
# - A. Vaswani et al. *Attention Is All You Need*. NeurIPS 2017. https://arxiv.org/abs/1706.03762 (the Transformer, and the 36 million pairs)
# - T.-Y. Lin et al. *Microsoft COCO: Common Objects in Context*. ECCV 2014. https://arxiv.org/abs/1405.0312
# - M. Everingham et al. *The PASCAL Visual Object Classes Challenge: A Retrospective*. IJCV 2015
# - W. Al-Dhabyani et al. *Dataset of breast ultrasound images*. Data in Brief 2020 (BUSI)
# - J. Elson, J. R. Douceur, J. Howell, J. Saul. *Asirra: A CAPTCHA that Exploits Interest-Aligned Manual Image Categorization*. CCS 2007 (dogs-vs-cats)
#
# ### Next notebook
# 06 · Augmentation and regularisation: the same small data set, made to go further.
