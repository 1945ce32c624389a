# %% [markdown]
# # 05 · Transfer learning on dogs-vs-cats
#
# @BADGES@
#
# **To keep what you write:** on Colab choose *File > Save a copy in Drive*, on Kaggle *Copy & Edit*, before you begin.
#
# **Question:** You have 200 labelled pictures. How good can a network of your own become with them, and how good one that was already trained on other pictures?
#
# **You will be able to**
# - recognise overfitting from two curves, and say what the layer after the convolutions has to do with it,
# - turn pictures into points with a pretrained network, and train a classifier on frozen features,
# - fine-tune the whole network, choose every setting on validation pictures, and look at the remaining mistakes.
#
# **Time:** it runs in @TIME@ on two CPU cores; with all sections, the exercises and the lab, about four hours.
# **Before this:** notebook 00: a training loop, convolution and pooling.

# %% [markdown] slideshow={"slide_type": "notes"}
# **A plan for 75 minutes** (the core takes 70, with its exercises)
#
# - **Core:** sections 1, 2, 3, 4, 5 and 6: 200 pictures, a network of our own and why it overfits, pictures as points, frozen features, fine-tuning,
#   and then the test.
# - **Optional:** in section 3 the map and the words, in section 4 exercise 4; 7 (mistakes, and a picture of your own), 8 (gentler ways), 9 before 10 (what each part sees,
#   when to do what), 11 (input), 12 (other networks).
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
# What this notebook imports. The course's own code is in the folder utils/.
import copy
import io
import math
import sys
import tempfile
import time
from collections import Counter
from itertools import pairwise

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from IPython.display import display
from matplotlib.ticker import PercentFormatter
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from tqdm.auto import tqdm

from utils import critters, datasets, models
from utils.exercises import transfer_learning as exercises
from utils.figures import curves, explore, image_grid, show
from utils.lessons import claim, fact, measured, summary
from utils.models import count_macs, num_parameters
from utils.training import evaluate, fit, predict


# %% slideshow={"slide_type": "skip"}
course_seed = torch.initial_seed()  # as utils.start() has set it

# %% [markdown]
# ## 1. Two hundred pictures (8 min)
#
# Labels are expensive. Somebody has to look at every picture, and for medical images that somebody is a doctor. So most data sets are small, and most tasks are new. For
# comparison, here are the sizes of some famous data sets:

# %%
# extra code: well-known data sets, and parameters of networks trained on them
famous = [  # name, examples, of what, a network, its parameters
    ("WMT'14, English-German", 4_500_000, "4.5 M pairs of sentences", "Transformer (big)", 213_000_000),
    ("ImageNet (ILSVRC-2012)", 1_281_167, "1.28 M photos", "VGG-19", 143_667_240),
    ("Sports-1M", 1_000_000, "a million videos", "DeepVideo, about", 100_000_000),
    ("COCO", 328_000, "328,000 photos", None, None),
    ("dogs-vs-cats (Kaggle)", 25_000, "25,000 photos with labels", None, None),
    ("PASCAL VOC 2012", 11_530, "11,530 photos", None, None),
    ("BUSI (breast lesions)", 780, "780 ultrasound images", None, None),
    ("ours, for training", 200, "200 pictures", None, None),
]


def famous_figure():
    fig, ax = plt.subplots(figsize=(10, 5))
    for row, (_, examples, text, network, parameters) in enumerate(famous):
        colour = "C1" if row == len(famous) - 1 else "C0"
        ax.plot(examples, row, "o", color=colour, markersize=12)
        place = dict(textcoords="offset points", va="center")
        shift, align = (-12, "right") if network else (12, "left")
        ax.annotate(text, (examples, row), xytext=(shift, 0), ha=align, color=colour, **place)
        if network:
            ax.plot(parameters, row, "D", color="C2", fillstyle="none", markersize=10, markeredgewidth=2)
            ax.annotate(f"{network}\n{parameters / 1e6:.0f} M parameters", (parameters, row), xytext=(13, 0), color="C2", **place)
    ax.set(xscale="log", xlim=(50, 3e11), ylim=(len(famous) - 0.5, -0.6), xlabel="number of examples, or of parameters (logarithmic)")
    ax.set(yticks=range(len(famous)), yticklabels=[row[0] for row in famous])
    ax.set_title("Famous networks were trained on millions of examples; our task has hundreds", loc="left")
    ax.grid(axis="y", visible=False)
    return fig


show(famous_figure(), "Sizes of well-known data sets on a logarithmic axis, from 4.5 million pairs of sentences down to our 200 pictures, with ImageNet's 1.28 "
     "million photos between them; three networks, as diamonds, have far more parameters than training examples.")  # fmt: skip

# %% [markdown]
# You cannot simply use one of these. They do not fit on a laptop, took years to label, and answer a different question from yours. But networks that were trained on them are
# available. This notebook is about using them.
#
# Our task is the classic one, cat or dog. We take 200 labelled pictures to learn from (**training**) and 200 others to choose
# everything by (**validation**). The rest is the **test set**. No network sees it before section 6, and nothing is ever chosen by it.
#
# The pictures are **drawings** made by this course. If the photos of the Kaggle competition are available, they are **photos** instead, and larger. The line printed by the set-up
# cell says which.

# %%
pool, val_set, test_set = datasets.dogs_vs_cats(num_train=600, num_val=200)
train_set = pool.subset(200)
noun = train_set.noun
print(f"training:   {train_set}\nvalidation: {val_set}\ntest:       {test_set}")

# %% [markdown]
# **Question to the class.** Cats or dogs? Vote on each. What do you look at: colour, ears, nose, the whole animal?


# %%
# extra code: twelve pictures; drawings are shown pixel by pixel
def crisp(fig):
    for ax in fig.axes:
        for image in ax.images:
            image.set_interpolation("nearest" if train_set.source == "critters" else "antialiased")
    return fig


vote = torch.randperm(len(train_set))[:12].tolist()
show(crisp(image_grid(train_set.images[vote], columns=6, size=1.1)), f"Twelve of our 200 {noun}s of cats and dogs: many poses, colours and places.")

# %%
names = [train_set.classes[train_set.targets["label"][i]] for i in vote]
print("first row: ", *names[:6], "\nsecond row:", *names[6:])

# %% [markdown]
# <details><summary>What do you look at?</summary>
#
# Colour and pose are of little use: both kinds come in nearly all of them. What helps are the ears, the muzzle, the nose and the whiskers: small parts, anywhere in the picture. A
# network has to find that out by itself, from 200 examples.
#
# </details>

# %% [markdown] slideshow={"slide_type": "notes"}
# One slide of lecture E has a table of data and parameters: VGG 140 M, DeepVideo about 100 M, GNMT 380 M. The figure above has the same message, with these corrections: Sports-1M
# has 487 categories, not 47 (Karpathy et al. 2014); WMT'14 has 36 million pairs of sentences for English-French and 4.5 million for English-German (Vaswani et al. 2017), not 6
# million; and for VGG and the Transformer we give the exact networks. The full Kaggle competition has 12,500 test photos, not 15,000. They come from Asirra, a test to tell people
# from programs (Elson et al. 2007): telling cats from dogs was thought to be hard for a computer. Let the class vote on a doubtful picture before you show the labels.

# %% [markdown]
# Pictures are stored as bytes, 0 to 255. A network works best with small numbers around zero. This is the whole preparation:

# %% tags=["measure"]
scale = v2.Compose([
    v2.ToDtype(torch.float32, scale=True),
    v2.Normalize(mean=[0.5] * 3, std=[0.25] * 3),
])  # fmt: skip

# %%
image, label = train_set.with_transform(scale)[0]
print(f"{tuple(image.shape)}, from {image.min():.1f} to {image.max():.1f}")

# %% [markdown]
# **Exercise 1** (3 min): normalise by hand. `images` are bytes (N, 3, H, W); `mean` and `std` are lists of three numbers, one for each channel, for
# values between 0 and 1. Return what the network expects, float32, without `v2`.
#
# Write your answer in place of the dots and run the cell: the check says what it expected and what it got. Stuck? Remove a `#` in the cell below.


# %%
def normalise(images, mean, std):
    ...


exercises.normalise.check(normalise)

# %% slideshow={"slide_type": "skip"}
# exercises.normalise.hint()
# exercises.normalise.solution()

# %% [markdown]
# ## 2. A network of our own (16 min)
#
# Our network has four blocks of convolution, batch normalisation (which keeps the numbers of each channel in a good range), ReLU and pooling. Each block halves the picture's side
# (a drawing's goes $64 \to 32 \to 16 \to 8 \to 4$), while the channels grow: $3 \to 16 \to 32 \to 64 \to 64$.


# %% tags=["measure"]
def block(in_channels, out_channels):
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )


# %% [markdown]
# The part after the convolutions, which turns their channels into an answer, is called the **head**.


# %% tags=["measure"]
def own_network(head):
    """Four blocks, then the layers of `head`."""
    blocks = [block(3, 16), block(16, 32), block(32, 64), block(64, 64)]
    return nn.Sequential(*blocks, *head)


# %% [markdown]
# The blocks end in 64 channels of a few pixels a side. We want two numbers, one for each class, the **logits**: the class with the larger one is the answer. The classic head
# **flattens** the channels into one long vector and adds dense layers:


# %% tags=["measure"]
def flatten_head(last_side):
    places = last_side * last_side
    return [nn.Flatten(), nn.Linear(64 * places, 64), nn.ReLU(), nn.Linear(64, 2)]


# %% [markdown]
# The training loop is the same for every network of this notebook, so we write it once. AdamW is Adam with weight decay (notebook 08). `lr` is the largest learning rate: over the whole training, `OneCycleLR` raises the rate
# once from a small value to `lr` and then lowers it again.


# %% tags=["measure"]
def train(model, train_set, val_set=None, lr=3e-3, num_epochs=30, batch_size=32):
    loader = DataLoader(train_set, batch_size=batch_size, shuffle=True)
    val_loader = None if val_set is None else DataLoader(val_set, batch_size=100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=lr, total_steps=num_epochs * len(loader)
    )
    return fit(model, loader, val_loader, num_epochs=num_epochs,
               optimizer=optimizer, scheduler=scheduler)  # fmt: skip


def accuracy(model, dataset):
    return evaluate(model, DataLoader(dataset, batch_size=100))["accuracy"]


# %% [markdown]
# **Before you run it:** 200 pictures, and a network with over a hundred thousand weights. What will its accuracy be on
# the pictures that it was trained on? And on others?
#
# <details><summary>Answer</summary>
#
# On its own pictures, close to 100 %. It has far more weights than there are pictures, and can memorise each of them. On others it is somewhere between guessing and good. Run the
# cell to see where.
#
# </details>

# %%
last_side = train_set.images.shape[-1] // 16


def own_on(seed, pictures, head, lr, num_epochs=30, watched=None):
    """Our own network with this head, trained; and its history."""
    torch.manual_seed(seed)
    model, known = own_network(head()).to(device), pictures.with_transform(scale)
    return model, train(model, known, watched, lr=lr, num_epochs=num_epochs)


# %%
seeds = [10 * course_seed + k for k in range(3)]  # other for every course seed
train_sets = [pool.subset(200, seed=seed) for seed in seeds]
own_heads = {"own, flatten": lambda: flatten_head(last_side)}
val_scaled = val_set.with_transform(scale)
flat, history = own_on(
    seeds[0], train_sets[0], own_heads["own, flatten"], lr=3e-3, watched=val_scaled
)


# %%
# extra code: accuracy on known and new pictures against the epoch
def history_figure():
    fig, ax = plt.subplots()
    lines = {"training": history["train_accuracy"], "validation": history["val_accuracy"]}
    curves(ax, lines, xlabel="epoch", ylabel="accuracy", title="It memorises its training pictures")
    ax.set_ylim(0.4, 1.03)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    return fig, lines


fig, lines = history_figure()
show(fig, f"Accuracy against epoch: it climbs to {lines['training'][-1]:.0%} on its training {noun}s, and ends at "
     f"{lines['validation'][-1]:.0%} on those of the validation set. The gap between the two lines is overfitting.")  # fmt: skip

# %%
flat_known = accuracy(flat, train_sets[0].with_transform(scale))
flat_new = history["val_accuracy"][-1]
claim(
    "Our own network memorises its pictures and does far worse on new ones",
    flat_known > 0.97 and flat_known - flat_new > 0.15,
    f"{flat_known:.0%} on its {len(train_set)} pictures, {flat_new:.0%} on validation",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Draw the gap on the board. Two things narrow it: more data, and fewer ways to memorise. We do not have more data, but notebook 06 makes the data go further (augmentation). Here
# we look at where the weights are.

# %% [markdown]
# ### Where are the weights?
#
# We count them, for pictures of 64 x 64. The dense layer after `Flatten` has a weight for every channel **at every place**. It can learn that a dog's ear is at the top left. That
# is not worth learning: the next dog sits somewhere else.
#
# **Global average pooling** (Lin et al. 2013) averages each channel over its pixels. So it keeps how strongly a channel responds, and forgets where. We change only the head.


# %% tags=["measure"]
def pool_head():
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 2)]


# %%
# NBVAL_CHECK_OUTPUT
print(f"blocks {num_parameters(own_network([])):,}")
print(f"flatten head {num_parameters(nn.Sequential(*flatten_head(last_side=4))):,}")
print(f"pooling head {num_parameters(nn.Sequential(*pool_head())):,}")

# %% [markdown]
# **Before you run it:** does the smaller network do worse, equally well, or better on new pictures?
#
# <details><summary>Answer</summary>
#
# Better. It can no longer memorise where things were. It still memorises all or nearly all of its training pictures: pooling narrows the gap but does not close it.
#
# </details>
#
# To be fair, each head gets its own learning rate, chosen on validation; where two are level, we take the smaller. (At 0.1 one of three runs with pooling learned nothing.) Then we repeat everything with **three seeds**: three draws of 200 pictures, three sets of starting
# weights. One run proves little. (`own_tried` keeps the networks by head and rate, `own` the three of the chosen rate.)

# %%
own_heads["own, pooling"] = pool_head
own_tried = {("own, flatten", 3e-3): flat}  # this one is trained already
own_val, own_rates = {}, (3e-3, 1e-2, 3e-2)
for name, head in own_heads.items():
    for lr in own_rates:
        if (name, lr) not in own_tried:
            own_tried[name, lr], _ = own_on(seeds[0], train_sets[0], head, lr)
        own_val[name, lr] = accuracy(own_tried[name, lr], val_scaled)
        print(f"{name}, lr {lr}: {own_val[name, lr]:.1%} on validation")


# %%
def chosen_rate(name):
    """The smallest of the rates within a point of the best."""
    best = max(own_val[name, lr] for lr in own_rates)
    return next(lr for lr in own_rates if own_val[name, lr] > best - 0.011)


own = {name: [own_tried[name, chosen_rate(name)]] for name in own_heads}
for name, head in own_heads.items():
    for seed, pictures in zip(seeds[1:], train_sets[1:], strict=True):
        own[name].append(own_on(seed, pictures, head, chosen_rate(name))[0])

# %%
def on_validation(networks, how):
    return [accuracy(model, val_set.with_transform(how)) for model in networks]


val = {name: on_validation(networks, scale) for name, networks in own.items()}
gaps = {}
for name, networks in own.items():
    by_heart = [
        accuracy(model, pictures.with_transform(scale))
        for model, pictures in zip(networks, train_sets, strict=True)
    ]
    gaps[name] = np.mean(by_heart) - np.mean(val[name])
    print(f"{name}: {np.mean(by_heart):.0%} on training pictures", end=", ")
    print(f"{np.mean(val[name]):.0%} on validation pictures")

# %%
claim(
    "Global average pooling instead of flatten narrows the gap to new pictures",
    gaps["own, pooling"] < gaps["own, flatten"] - 0.03,
    f"{100 * gaps['own, pooling']:.0f} points instead of "
    f"{100 * gaps['own, flatten']:.0f}, means of three seeds",
    same=f"blocks, pictures, epochs; rate chosen on {len(val_set)} validation pictures",
)

# %% [markdown]
# Would more training help? We train the network with pooling again, for twice as many epochs:

# %%
twice, _ = own_on(seeds[0], train_sets[0], pool_head, chosen_rate("own, pooling"), 60)
print(f"30 epochs {val['own, pooling'][0]:.1%}, 60 epochs", end=" ")
print(f"{accuracy(twice, val_scaled):.1%} on validation")

# %% [markdown]
# The network with pooling and 30 epochs is our baseline from now on.
#
# **Exercise 2** (2 min): pool by hand. `maps` are the channels that the blocks return, (N, C, H, W). Return the result of global average pooling, (N, C), without `nn` and `F`.


# %%
def average_pool(maps):
    ...


exercises.average_pool.check(average_pool)

# %% slideshow={"slide_type": "skip"}
# exercises.average_pool.hint()
# exercises.average_pool.solution()

# %% [markdown]
# ## 3. Pictures as points (12 min)
#
# Somebody else has trained a network on a large data set, for another task. Its head is of no use to us: it names other things. But what the network computes just *before* the
# head is a description of the picture in a hundred numbers or more, its **features**. Cut off the head, and the network turns every picture into a **point**. This is called an
# **embedding**.

# %%
pretrained, prepare = models.pretrained(train_set.source)
print(f"{type(pretrained).__name__}, {num_parameters(pretrained):,} weights")
print(f"Its head: {pretrained.classifier}")

# %% [markdown]
# What has it seen before?
# - For **drawings**: a small residual network, trained for this course on drawings of other animals, real and imaginary ones. It never saw cats or dogs. But the same program drew
#   all the animals, with the same backgrounds, light and noise. In real life the two tasks are rarely so similar.
# - For **photos**: MobileNetV2 (Sandler et al. 2018), trained on the 1.28 million photos of ImageNet. Our task is not new to it: of ImageNet's 1,000 classes, 118 are breeds of dog
#   and 5 are house cats. But it was never trained to answer "cat or dog?".
#
# A pretrained network needs the same **preparation** of its pictures as in its training. Here `prepare` does that. (One thing differs: MobileNetV2 was trained on photos of 224
# pixels a side. Ours have 128, for speed.)
#
# We cut off the head by putting `nn.Identity()`, the layer that does nothing, in its place. `predict` gives the outputs for a whole loader, and the labels.

# %%
encoder = copy.deepcopy(pretrained).to(device)
encoder.classifier = nn.Identity()


# %% tags=["measure"]
def through(network, dataset, name):
    """What the network makes of a whole data set, in its order, and the labels."""
    loader = DataLoader(dataset.with_transform(prepare), batch_size=100)
    return predict(network, loader, progress=name)


# %%
pool_points, pool_labels = through(encoder, pool, "embedding the pool")
val_points, val_labels = through(encoder, val_set, "embedding the validation set")
print(f"{len(pool_points)} pictures, now points of {pool_points.shape[1]:,} numbers")

# %% [markdown]
# Two pictures count as similar when their points lie in the same direction, that is, when their **cosine similarity** is large: $\cos(a, b) = \dfrac{a \cdot b}{\lVert a \rVert
# \lVert b \rVert}$. If all points are scaled to length 1, one matrix product gives all similarities at once.


# %%
def neighbours(points, others):
    """For each point, the places of the others, the most similar first: (N, M)."""
    similarity = F.normalize(points, dim=1) @ F.normalize(others, dim=1).T
    return similarity.argsort(dim=1, descending=True)


# %%
known = train_sets[0]  # 200 labelled pictures, and their points
known_points, known_labels = pool_points[known.indices], pool_labels[known.indices]
nearest = neighbours(val_points, known_points)


def raw(pictures):
    return pictures.images.flatten(1).float() - 128


pixel_nearest = neighbours(raw(val_set), raw(known))

# %% [markdown]
# We have not trained anything for our task yet. **Before you run it:** let the nearest of our 200 pictures vote: the nearest one, the nearest 5, or 15. How often are they right?
# And if you compare raw pixels instead of points?
#
# <details><summary>Answer</summary>
#
# With the embedding, very often. With pixels, little better than tossing a coin: pixels are close when background, light and pose are alike, and these say nothing about cat or
# dog.
#
# </details>


# %%
def vote_right(nearest, labels, k):
    """The share of right answers when the k nearest known pictures vote."""
    votes = known_labels[nearest[:, :k]].float().mean(dim=1)
    return ((votes > 0.5) == (labels == 1)).float().mean().item()


by_points = {k: vote_right(nearest, val_labels, k) for k in (1, 5, 15)}
by_pixels = {k: vote_right(pixel_nearest, val_labels, k) for k in (1, 5, 15)}
best_k = max(by_points, key=by_points.get)
claim(
    "Before any training for our task, neighbours in the embedding are far more often "
    "of the same kind than neighbours in pixels",
    max(by_points.values()) > max(by_pixels.values()) + 0.15,
    ", ".join(
        f"{k} vote: {by_points[k]:.0%} against {by_pixels[k]:.0%}" for k in by_points
    ),
    same=f"{len(known)} labelled pictures; number of voters chosen on validation",
)


# %%
# extra code: a picture and its neighbours, marked by whether the label agrees
def neighbour_figure(queries, nearest, num=6):
    images, titles, colours = [], [], []
    for query in queries:
        images += [val_set.images[query], *known.images[nearest[query, :num]]]
        right = [(known_labels[i] == val_labels[query]).item() for i in nearest[query, :num]]
        found = [known.classes[known_labels[i]] for i in nearest[query, :num]]
        titles += [f"new: {known.classes[val_labels[query]]}"]
        titles += [f"{'✓' if ok else '✗'} {name}" for ok, name in zip(right, found, strict=True)]
        colours += ["black"] + ["tab:green" if ok else "tab:red" for ok in right]
    return crisp(image_grid(images, titles=titles, columns=num + 1, colours=colours, size=1.2))


def draw_neighbours(picture=0, space="embedding"):
    found = nearest if space == "embedding" else pixel_nearest
    right = int((known_labels[found[picture, :6]] == val_labels[picture]).sum())
    kind = known.classes[val_labels[picture]]
    return neighbour_figure([picture], found), f"A new {kind} and its six nearest neighbours in the {space}: {right} of 6 are of the same kind."


# %% [markdown]
# ### Explore
#
# Choose a new picture, and whether to look for its neighbours in the embedding or in pixels. The first pictures in the list are mistakes of the nearest neighbour.

# %%
first_wrong = known_labels[nearest[:, 0]] != val_labels
mistakes = first_wrong.nonzero().flatten()[:4].tolist()
others = [i for i in range(20) if i not in mistakes]
explore(draw_neighbours, picture=[*mistakes, *others], space=["embedding", "pixels"])

# %% [markdown] slideshow={"slide_type": "notes"}
# Ask what the neighbours in a row have in common besides the kind: coat, ears, pose. Then look at a mistake: what did the network see in it? In photos, what they share is often a
# person, a cage or the background.

# %% [markdown]
# ### A map (optional)
#
# We cannot look at hundreds of dimensions, but we can look at two. **t-SNE** (van der Maaten and Hinton 2008) arranges the points in a plane so that neighbours stay neighbours. It
# never sees a label; we add the colours. On such a map, only neighbourhoods mean something; distances between far groups do not.

# %%
from sklearn.manifold import TSNE

num_on_map = 400
tsne = TSNE(metric="cosine", init="pca", random_state=0)
places = tsne.fit_transform(F.normalize(pool_points[:num_on_map], dim=1).numpy())
places = places[:, places.std(0).argsort()[::-1]]  # the long side is the horizontal one


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


show(map_figure(), f"A map of {num_on_map} {noun}s: cats in blue, dogs in orange, some as pictures. Before any training for our task, the "
     "two kinds already lie mostly in separate regions, with some exceptions.")  # fmt: skip

# %% [markdown] slideshow={"slide_type": "notes"}
# Walk along the border between the colours and look at the thumbnails there: those pictures look like the other kind. Ask what else sorts the map (coat, pose, close-up or far
# away).

# %% [markdown]
# ### Words as points (10 min, optional)
#
# The idea is older than pretrained networks for pictures. **A word is known by the company it keeps** (Firth 1957). So we count, in some text, which words occur together in a
# sentence, and words become points too, without any labels. We use a text of one page:


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
print(f"{len(sentences) - 1} sentences, {len(words)} words that occur more than once")


# %% [markdown]
# $C_{ij}$ counts how often the words $i$ and $j$ occur in the same sentence. Frequent words occur with everything. So we measure how much *more often* they occur together than by
# chance, with the **positive pointwise mutual information**, $\text{PPMI}_{ij} = \max\left(0, \log \dfrac{p_{ij}}{p_i \, p_j}\right)$, with $p = C / \sum C$.


# %%
def ppmi(sentences):
    place = {word: i for i, word in enumerate(words)}
    counts = torch.zeros(len(words), len(words))
    for sentence in sentences:
        listed = [place[word] for word in sentence if word in place]
        for i in listed:
            for j in listed:
                counts[i, j] += i != j
    p = counts / counts.sum()
    return (p / (p.sum(0) * p.sum(1)[:, None])).nan_to_num(0).clamp(min=1).log()


# %% [markdown]
# A word is now a row with one number for every word. The **singular value decomposition** $\text{PPMI} = U S V^\top$ finds the few directions that matter most. We keep twelve, so
# every word is a point of 12 numbers.


# %%
def word_points(sentences):
    U, S, _ = torch.linalg.svd(ppmi(sentences))
    return U[:, :12] * S[:12]


# %% [markdown]
# **Before you run it:** which word is nearest to *cat*? To *bus*? And for how many of the 21 nouns in the next cell is the nearest other noun of the same kind, although nobody has
# told the machine what an animal is?
#
# <details><summary>Answer</summary>
#
# *Dog* and *cat* do the same things in our text: they drink, sleep, have fur, are stroked. So they are neighbours, although they hardly ever occur in the same sentence. It works
# for nearly all words. (We wrote it so that they do.) With the same words in shuffled order little of this is left. By chance, 22 % would be right.
#
# </details>

# %%
kinds = {
    "animals": ["cat", "dog", "horse", "cow", "sheep", "mouse", "rabbit"],
    "vehicles": ["car", "bus", "truck", "train", "boat"],
    "food": ["bread", "cake", "cheese", "apple", "soup"],
    "furniture": ["table", "chair", "bed", "sofa"],
}
nouns = [word for group in kinds.values() for word in group]
kind_of = torch.tensor([k for k, group in enumerate(kinds.values()) for _ in group])


def noun_neighbours(sentences):
    points = word_points(sentences)[[words.index(word) for word in nouns]]
    return neighbours(points, points)[:, 1]  # place 0 is the word itself


# %%
shuffled = [word for sentence in sentences for word in sentence]
shuffled = [shuffled[i] for i in torch.randperm(len(shuffled))]
shuffled = [shuffled[i : i + 4] for i in range(0, len(shuffled), 4)]  # of four words
nearest_noun = noun_neighbours(sentences)
pairs = zip(nouns, nearest_noun, strict=True)
print(*[f"{word} → {nouns[i]}" for word, i in pairs], sep=", ")

# %%
right, right_shuffled = (
    (kind_of[noun_neighbours(text)] == kind_of).float().mean().item()
    for text in (sentences, shuffled)
)
claim(
    "Words become points too: the nearest noun is mostly of the same kind, though no "
    "kinds were given; in a shuffled text far less often",
    right > 0.85 and right > right_shuffled + 0.25,
    f"{right:.0%} of {len(nouns)} words; {right_shuffled:.0%} in the shuffled text",
    same=f"{len(words)} words, each equally often",
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


show(word_figure(), "Cosine similarity of each pair of the 21 nouns. Four dark blocks lie on the diagonal: animals, vehicles, food, furniture. Words of one kind are similar, words of "
     "different kinds hardly, although we only counted which words share a sentence.")  # fmt: skip


# %% [markdown] slideshow={"slide_type": "notes"}
# word2vec (Mikolov et al. 2013) predicts a word's neighbours instead of counting them; Levy and Goldberg (2014) showed that the computation is nearly the same. The parallel with
# pictures: in both cases a task with free or plentiful labels gives points that help with a task where labels are scarce.

# %% [markdown]
# **Exercise 3** (3 min): a classifier without training. Give each of `points` (N, D) the label of the most similar one of `known_points` (M, D), by cosine similarity. Return the
# labels, a tensor (N,).


# %%
def nearest_label(points, known_points, known_labels):
    ...


exercises.nearest_label.check(nearest_label)

# %% slideshow={"slide_type": "skip"}
# exercises.nearest_label.hint()
# exercises.nearest_label.solution()

# %% [markdown]
# ## 4. Freeze, and train a linear classifier (10 min)
#
# If the two kinds already lie in separate regions, a straight cut may be enough: $\text{logits} = W x + b$ on the points $x$. The network itself stays **frozen**: none of its
# weights change. (In PyTorch, a weight whose `requires_grad` is `False` gets no gradient.)
#
# In a frozen network, the point of a picture never changes. So we compute it **once**. From then on, an epoch costs only one small matrix product.
#
# **Before you run it:** our own network was trained on the same 200 pictures. Which wins, and by how much?
#
# <details><summary>Answer</summary>
#
# The linear classifier, clearly. It trains only a few hundred or a few thousand numbers; everything else was learned elsewhere, from far more pictures.
#
# </details>


# %% tags=["measure"]
def linear_on(points, labels, seed, lr=1e-2, num_epochs=100):
    torch.manual_seed(seed)
    linear = nn.Linear(points.shape[1], 2)
    known = TensorDataset(points, labels)
    train(linear, known, lr=lr, num_epochs=num_epochs, batch_size=200)
    return linear


# %% [markdown]
# We choose the learning rate and the number of epochs on validation, once, with the first seed:

# %%
val_points_set = TensorDataset(val_points, val_labels)
points_of = [(pool_points[s.indices], pool_labels[s.indices]) for s in train_sets]
tried = {}
for lr in (1e-2, 1e-3, 1e-1):
    for num_epochs in (100, 300):
        linear = linear_on(*points_of[0], seeds[0], lr, num_epochs)
        tried[lr, num_epochs] = accuracy(linear, val_points_set)
        print(f"lr {lr}, {num_epochs} epochs: {tried[lr, num_epochs]:.1%}")
recipe = max(tried, key=tried.get)

# %%
start = time.perf_counter()
heads = [
    linear_on(*points, seed, *recipe)
    for points, seed in zip(points_of, seeds, strict=True)
]
epoch_seconds = (time.perf_counter() - start) / (3 * recipe[1])
val["frozen + linear"] = [accuracy(head, val_points_set) for head in heads]
print(*[f"{value:.1%}" for value in val["frozen + linear"]], "on validation")

# %%
on_frozen, on_own = np.mean(val["frozen + linear"]), np.mean(val["own, pooling"])
claim(
    "A linear classifier on frozen features beats our own network, on average",
    on_frozen > on_own,
    f"{on_frozen:.1%} against {on_own:.1%}, means on validation",
    same=f"{len(train_set)} pictures, three seeds; rates chosen on validation",
)

# %% [markdown]
# How much time did caching save? The common recipe sends all 200 pictures through the frozen network in every epoch. We sent them through once, and then trained on 200 points.

# %%
start = time.perf_counter()
through(encoder, train_set, "one epoch through the network")
through_seconds = time.perf_counter() - start
print("One epoch through the network takes as long as", end=" ")
print(f"{through_seconds / epoch_seconds:.0f} epochs on points")

# %% [markdown]
# **Exercise 4** (5 min, optional): cache the features yourself. Without `predict`: run `encoder` over every picture of `dataset`, whose items are (image, label),
# and return all features in order, a tensor (N, D). Use evaluation mode (`encoder.eval()`; section 5 says why) and no gradients. Everything is on the CPU here.


# %%
def cache_features(encoder, dataset):
    ...


exercises.cache_features.check(cache_features)

# %% slideshow={"slide_type": "skip"}
# exercises.cache_features.hint()
# exercises.cache_features.solution()

# %% [markdown]
# The headless network and the linear layer together are an ordinary network again. If we put the trained layer where the old head was and send the pictures through the whole
# network, we get the same answers as from the cached features:

# %%
frozen = copy.deepcopy(encoder)
frozen.classifier = copy.deepcopy(heads[0]).to(device)
logits, _ = through(frozen, val_set, "the whole network")
cached_logits, _ = predict(heads[0], DataLoader(val_points_set, batch_size=100))
fact(
    "The whole network gives the logits of the linear layer on cached features",
    torch.allclose(logits, cached_logits, rtol=1e-3, atol=1e-2),
    f"largest difference {(logits - cached_logits).abs().max():.0e}",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Old slides write `pretrained=True`; torchvision has replaced it with `weights=...`, which also says how pictures must be prepared. One slide has "ImageNet classes: 1280": there
# are 1,000 classes; 1,280 is the width of MobileNet's features, the length of our points on photos.

# %% [markdown]
# **Exercise 5** (2 min): freeze. Turn off training (`requires_grad`) for all parameters of `model.features`, and for no others. Return how many numbers are still trained, an
# integer.


# %%
def freeze(model):
    ...


exercises.freeze.check(freeze)

# %% slideshow={"slide_type": "skip"}
# exercises.freeze.hint()
# exercises.freeze.solution()

# %% [markdown]
# ## 5. Fine-tune the whole network (15 min)
#
# Now we train **all** weights, starting from the pretrained ones. What we do, and why:
#
# 1. **Start with the trained head** of section 4. A fresh head can only guess, and its gradients can damage the layers before it (Kumar et al. 2022). Section 8 tries both.
# 2. **Keep batch normalisation in evaluation mode** ("held"): there it scales with the averages of the pictures that the network was trained on. In **training mode** it takes
#    those of the batch at hand, and 32 pictures give rough ones. `models.hold_batch_norm` does it.
# 3. **Choose learning rate and epochs on validation.**


# %% tags=["measure"]
def with_head(head, hold=True):
    """The pretrained network with this head; batch normalisation held, or not."""
    model = copy.deepcopy(encoder)
    model.classifier = copy.deepcopy(head).to(device)
    if hold:
        models.hold_batch_norm(model)
    return model


def fine_tune(seed, pictures, head, lr, num_epochs=6, hold=True):
    torch.manual_seed(seed)
    model = with_head(head, hold)
    train(model, pictures.with_transform(prepare), lr=lr, num_epochs=num_epochs)
    return model


# %%
candidates, tuned_val, as_prepared = {}, {}, val_set.with_transform(prepare)


def try_recipe(*recipe):  # learning rate and number of epochs
    candidates[recipe] = fine_tune(seeds[0], train_sets[0], heads[0], *recipe)
    tuned_val[recipe] = accuracy(candidates[recipe], as_prepared)
    print("lr {:g}, {} epochs:".format(*recipe), end=" ")
    print(f"{tuned_val[recipe]:.1%} on validation")


for lr in (1e-4, 1e-5, 1e-3):
    try_recipe(lr, 6)
try_recipe(max(tuned_val, key=tuned_val.get)[0], 12)

# %%
best = max(tuned_val, key=tuned_val.get)
tuned = [candidates[best]]
for seed, pictures, head in zip(seeds[1:], train_sets[1:], heads[1:], strict=True):
    tuned.append(fine_tune(seed, pictures, head, *best))
val["fine-tuned"] = on_validation(tuned, prepare)
print(*[f"{value:.1%}" for value in val["fine-tuned"]], "on validation")

# %% [markdown]
# **Before you run it:** we fine-tune with a rate that is too large, twice: once with batch normalisation held in evaluation mode, once left in training mode. Too large means 0.01
# for our small network, and 0.001 for MobileNetV2, which has 53 layers. What happens in the two cases?
#
# <details><summary>Answer</summary>
#
# With batch normalisation held, the network is destroyed: it usually only guesses. In training mode much of it survives. Large steps blow up the numbers that flow from layer to
# layer. In training mode, batch normalisation scales them back in every batch; held, it keeps dividing by the old values.
#
# </details>


# %%
def features_left(model):
    """What a new linear classifier makes of the features of a network."""
    model = copy.deepcopy(model)
    model.classifier = nn.Identity()
    points, labels = through(model, train_sets[0], "embedding with what is left")
    new = TensorDataset(*through(model, val_set, "embedding the validation set"))
    return accuracy(linear_on(points, labels, seeds[0]), new)


# %%
large_lr = {"critters": 1e-2, "photos": 1e-3}[train_set.source]
large, left = {}, {}
for mode, hold in {"held": True, "in training mode": False}.items():
    model = fine_tune(seeds[0], train_sets[0], heads[0], lr=large_lr, hold=hold)
    large[mode], left[mode] = accuracy(model, as_prepared), features_left(model)
    print(f"{mode}: {large[mode]:.1%}, with a new linear classifier {left[mode]:.1%}")

# %% [markdown]
# Not only the head is destroyed: a new linear classifier on the remaining features does not restore the accuracy. That was one seed. More seeds and more rates, on validation, were
# measured beforehand:


# %%
# extra code: rows of a measured table, and their accuracies by seed
def runs_here(rows, **settings):
    settings |= {"source": train_set.source}
    return [row for row in rows if all(row[name] == value for name, value in settings.items())]


def by_seed(rows, setting, result="accuracy"):
    found = {(row["seed"], row[setting]): row[result] for row in rows}
    tried = [sorted({row[name] for row in rows}) for name in ("seed", setting)]
    return np.array([[found[seed, value] for value in tried[1]] for seed in tried[0]])


# %%
rate_rows = measured("transfer_rates")


# %%
# extra code: accuracy on validation against the learning rate, held and in training mode
def rates_figure():
    fig, ax = plt.subplots(figsize=(10, 4.8))
    rates = sorted({row["lr"] for row in runs_here(rate_rows)})
    lines = {name: by_seed(runs_here(rate_rows, hold=hold), "lr", "val") for name, hold in {"held": 1, "in training mode": 0}.items()}
    ax.set(xscale="log", ylim=(0.42, 1.02), xlim=(rates[0] * 0.7, rates[-1] * 1.4))
    curves(ax, lines, x=rates, xlabel="largest learning rate (logarithmic)", ylabel="accuracy on validation", title="Batch normalisation in training mode partly forgives a large rate")
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set_xticks(rates, [f"{rate:g}" for rate in rates])
    ax.minorticks_off()
    return fig, rates, {name: np.median(line, axis=0) for name, line in lines.items()}


fig, rates, medians = rates_figure()
told = "; ".join(f"{name}: " + ", ".join(f"{value:.0%} at {rate:g}" for rate, value in zip(rates, line, strict=True)) for name, line in medians.items())
show(fig, f"Accuracy on validation after fine-tuning on 200 {noun}s against the learning rate, two bands over seeds, measured earlier by make measure. Medians: {told}.")

# %%
def at_large_rate(hold):
    rows = runs_here(rate_rows, hold=hold, lr=large_lr)
    return np.median([row["val"] for row in rows])


claim(
    "A rate that is too large destroys the network if batch normalisation is held; "
    "in training mode much of it survives",
    at_large_rate(hold=1) < 0.6
    and at_large_rate(hold=0) > at_large_rate(hold=1) + 0.2
    and large["held"] < val["fine-tuned"][0] - 0.1
    and large["held"] < large["in training mode"],
    f"here {large['held']:.0%} held, {large['in training mode']:.0%} in training mode; "
    f"medians {at_large_rate(hold=1):.0%} and {at_large_rate(hold=0):.0%}",
    same=f"{len(train_set)} pictures, six epochs, start, learning rate {large_lr:g}",
)

# %% [markdown]
# At the smallest rate, holding is better, by one or two points on drawings and by five on photos: the stored averages come from far more pictures than ours. At 0.01 (on photos
# 0.001) training mode saves much. At the next larger rate it saves little (on photos half as much). So "a large rate destroys what the network knew" is true with batch normalisation held, and less so in training mode. Which rate is large depends on
# the network: the best rate for our small one costs MobileNetV2 six points.
#
# ### 16 bits
#
# Some machines compute faster with 16-bit numbers, **bf16**; `fit` accepts `bf16=True`. Does it help on this machine? We train on 96 pictures both ways, in turn.


# %%
def epoch_seconds_with(bf16):
    few = DataLoader(train_set.subset(96).with_transform(prepare), batch_size=32)
    model = with_head(heads[0])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    start = time.perf_counter()
    fit(model, few, num_epochs=1, optimizer=optimizer, bf16=bf16, progress=None)
    return time.perf_counter() - start


turns = [(epoch_seconds_with(False), epoch_seconds_with(True)) for _ in range(3)]
ratio = min(first for first, _ in turns) / min(second for _, second in turns)
print(f"with bf16 training is {ratio:.1f} times as fast as with float32")

# %% [markdown]
# The result depends on the machine. On one core of ours, the small network became less than one and a half times as fast and MobileNetV2 no faster; on two cores that other
# programs also used, 16 bits were several times slower. So this notebook stays with float32. On a recent GPU, try it.
#
# **Exercise 6** (3 min): replace the head. Torchvision's MobileNetV2 ends in `classifier[1]`, a linear layer with 1,280 inputs and 1,000 classes.
# Our small network also ends in `classifier[1]`, with a different width. Replace this layer (or the whole `classifier`) with a new one that has `num_classes` outputs; your code must work for both. Return the
# model.


# %%
def replace_head(model, num_classes):
    ...


exercises.replace_head.check(replace_head)

# %% slideshow={"slide_type": "skip"}
# exercises.replace_head.hint()
# exercises.replace_head.solution()

# %% [markdown]
# ## 6. The test (9 min)
#
# Everything is chosen: the heads, the rates, the epochs, the number of neighbours. Now we use the test set, once, for all approaches. **Before you run it:** will the numbers be
# better or worse than on validation?
#
# <details><summary>Answer</summary>
#
# One would expect a little worse where much was tried: the best of many tries is partly lucky. On drawings all are *better*: these 200 validation pictures happen to
# be harder than the 1,000 of the test set. Frozen features and fine-tuning stay far ahead of our own networks.
#
# </details>

# %%
test_points, test_labels = through(encoder, test_set, "embedding the test set")
test_points_set = TensorDataset(test_points, test_labels)
test_nearest = neighbours(test_points, known_points)


def on_test(networks, how):
    return [accuracy(model, test_set.with_transform(how)) for model in networks]


results = {name: on_test(networks, scale) for name, networks in own.items()}
results[f"{best_k} nearest"] = [vote_right(test_nearest, test_labels, best_k)]
results["frozen + linear"] = [accuracy(head, test_points_set) for head in heads]
results["fine-tuned"] = on_test(tuned, prepare)


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


means = ", ".join(f"{name} {sum(values) / len(values):.0%}" for name, values in results.items())
show(results_figure(results), f"Test accuracy with 200 {noun}s each, one dot for each of three seeds (the neighbours: one); means: {means}.")

# %%
worst = min(results["frozen + linear"] + results["fine-tuned"])
best_own = max(results["own, pooling"] + results["own, flatten"])
claim(
    "Frozen features and fine-tuning beat our own networks: their worst run beats our "
    "best",
    worst > best_own,
    f"worst {worst:.1%}, our own at best {best_own:.1%}",
    same=f"{len(train_set)} pictures, three seeds; all chosen on validation, "
    f"tested once on {len(test_set)}",
)

# %% [markdown]
# **Which is better, frozen or fine-tuned?** Here is the difference for each seed:

# %%
ahead = 100 * (np.array(results["fine-tuned"]) - results["frozen + linear"])
print("fine-tuned minus frozen, in points:", *[f"{points:+.1f}" for points in ahead])

# %% [markdown]
# It is small compared with the gap to our own network. It changes with the number of pictures, and it depends on the network. So we measured more.
#
# ### With 20 pictures, and with thousands
#
# **Before you run it:** take only **twenty** pictures, ten cats and ten dogs. Can twenty pictures with a pretrained network beat two hundred without one?
#
# <details><summary>Answer</summary>
#
# Yes. The pretrained network needs from us only a direction in the space of its features, and twenty points give a fairly good one.
#
# </details>


# %%
twenties = [pool.subset(20, seed=seed) for seed in seeds]
of_20 = [
    linear_on(pool_points[s.indices], pool_labels[s.indices], seed, *recipe)
    for s, seed in zip(twenties, seeds, strict=True)
]
frozen_20 = [accuracy(head, test_points_set) for head in of_20]
claim(
    "Twenty pictures with frozen features beat two hundred with our own network, on "
    "average",
    np.mean(frozen_20) > np.mean(results["own, pooling"]),
    f"{np.mean(frozen_20):.0%} with 20, our own network "
    f"{np.mean(results['own, pooling']):.0%} with 200; means of three seeds",
    same=f"{len(test_set)} test pictures; recipes chosen on validation with 200",
)

# %% [markdown]
# Doing the same for many numbers of pictures takes too long for a lecture, so it was measured beforehand. The bands go from the worst to the best of three seeds, and the line is
# their median. The black rings are the means of *this* run, with the rates that it chose. In the table the recipe is the same for all numbers of pictures: rate 0.01 for our own network (on photos 0.003), 0.0001 for fine-tuning, and more
# epochs where there are fewer pictures.


# %% tags=["measure"]
def scratch(seed, pictures, lr=None):
    """Our own network with pooling. Fewer pictures get more epochs."""
    lr = lr or {"critters": 1e-2, "photos": 3e-3}[pictures.source]
    torch.manual_seed(seed)
    model = own_network(pool_head()).to(device)
    num_epochs = max(10, min(100, 6000 // len(pictures)))
    train(model, pictures.with_transform(scale), lr=lr, num_epochs=num_epochs)
    return model


def tune_epochs(pictures):
    return max(3, min(30, 1200 // len(pictures)))


# %%
growth_rows = measured("transfer_curves")


# %%
# extra code: the measured table as curves, with the means of this run on top
def growth_figure():
    fig, ax = plt.subplots(figsize=(10, 5))
    ax.set(xscale="log", ylim=(0.47, 1.01))
    lines = {"own, pooling": "own", "frozen + linear": "frozen", "fine-tuned": "tuned"}
    lines = {name: by_seed(runs_here(growth_rows, approach=short), "num") for name, short in lines.items()}
    labels = dict(xlabel=f"training {noun}s (logarithmic)", ylabel="accuracy on the test set")
    curves(ax, lines, x=nums, title="With few pictures, a pretrained network is worth most", **labels)
    ax.plot(20, np.mean(frozen_20), "o", color="black", fillstyle="none", markersize=11)
    ax.plot([200] * len(lines), [np.mean(results[name]) for name in lines], "o", color="black", fillstyle="none", markersize=11)
    ax.set_xticks(nums, labels=[f"{num:,}" for num in nums])
    ax.minorticks_off()
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    return fig, {name: np.median(line, axis=0) for name, line in lines.items()}


nums = sorted({row["num"] for row in runs_here(growth_rows)})
fig, medians = growth_figure()
ends = "; ".join(f"{name} from {line[0]:.0%} to {line[-1]:.0%}" for name, line in medians.items())
show(fig, f"Accuracy against the number of training {noun}s, three bands over seeds, measured earlier by make measure. Medians: {ends}. Black rings: this run.")

# %%
difference = 100 * (medians["fine-tuned"] - medians["frozen + linear"])
print("fine-tuned minus frozen, points of the medians:")
for num, value in zip(nums, difference, strict=True):
    print(f"  {num:,} pictures {value:+.1f}")

# %% [markdown]
# On drawings, fine-tuning and frozen features are within one and a half points of each other, from 20 to 2,000 pictures; with 2,000 our own network has caught up, too. (At rate 0.03 it gains some four points more with 200.) On photos **frozen
# features win**: with 200 photos, fine-tuning at this rate ends six points behind them. With fewer and with 600 the two are level, and our own network is still at 71 %. The rate
# is part of the reason. The best rate for MobileNetV2 is 0.00001 (section 5), and with it fine-tuning is level with frozen features at 200 photos, too. None of our rates puts it
# ahead there.
#
# So start with frozen features. Fine-tune when you have more pictures, choose the rate for *your* network, and keep the result only if it is better on *your* validation set.

# %% [markdown] slideshow={"slide_type": "notes"}
# The class will ask for a rule. A fair one: the more data there are, and the more the task differs from the one that the network was trained on, the more fine-tuning *can* gain.
# Section 10 measures the second half of this rule. The network for photos has never seen pictures of 128 pixels, but 118 of its classes are dogs, and its features separate cats
# from dogs as well as our few labels can tell; there is little left to gain.

# %% [markdown]
# **Exercise 7** (3 min): choose, then test. `val` and `test` hold the accuracies of several ways, one number for each seed:
# `{"a": [0.91, 0.93], "b": [0.95, 0.92], ...}`. Choose a way by the rules of this notebook. Return its name and the number that you may report, its mean on the test set:
# `(name, mean)`.


# %%
def choose(val, test):
    ...


exercises.choose.check(choose)

# %% slideshow={"slide_type": "skip"}
# exercises.choose.hint()
# exercises.choose.solution()

# %% [markdown]
# ## 7. Mistakes, and a picture of your own (20 min, optional)
#
# An accuracy says how often a network is wrong, but not when. The **confusion matrix** counts each kind of mistake. We take the approach that did best on validation, and the
# pictures of the test set.

# %%
pretrained_ways = ["frozen + linear", "fine-tuned"]
finalist = max(pretrained_ways, key=lambda name: np.mean(val[name]))
final = {"frozen + linear": frozen, "fine-tuned": tuned[0]}[finalist]
test_logits, _ = through(final, test_set, "the test set")
answers = test_logits.argmax(dim=1)
confusion = torch.zeros(2, 2, dtype=torch.int64)
for truth, answer in zip(test_labels, answers, strict=True):
    confusion[truth, answer] += 1
confusion


# %%
# extra code: the confusion matrix as a picture
def confusion_figure():
    fig, ax = plt.subplots(figsize=(5.5, 4.2))
    ax.imshow(confusion, cmap="Blues", vmax=confusion.max() * 1.5)
    for (row, column), count in np.ndenumerate(confusion.numpy()):
        ax.text(column, row, f"{count:,}", ha="center", va="center", fontsize=22, fontweight="bold")
    ax.set(xticks=[0, 1], yticks=[0, 1], xlabel="answer", ylabel="truth", title=f"{finalist}: {int(confusion[0, 1] + confusion[1, 0])} mistakes")
    ax.set_xticklabels(test_set.classes), ax.set_yticklabels(test_set.classes)
    ax.grid(visible=False)
    return fig


show(confusion_figure(), f"Confusion matrix of the test set. Of {int(confusion[0].sum())} cats {int(confusion[0, 1])} were called dogs; of {int(confusion[1].sum())} dogs, {int(confusion[1, 0])} were called cats.")

# %% [markdown]
# The **worst mistakes** are those where the network is most certain. To see what its answer rests on, we cover one place of the picture after another with a grey square, and watch
# how the answer changes (Zeiler and Fergus 2014).


# %%
def covered(image, num=8):
    """Copies of a picture (3, S, S), each with a grey square at another place."""
    size, width = image.shape[-1], image.shape[-1] // 4
    copies = image.repeat(num * num, 1, 1, 1)
    for k in range(num * num):
        y, x = (place * (size - width) // (num - 1) for place in divmod(k, num))
        copies[k, :, y : y + width, x : x + width] = 128
    return copies


# %%
@torch.no_grad()
def dog_share(model, images):
    """How sure the network is of a dog, from 0 to 1, for bytes (N, 3, S, S)."""
    return model.eval()(prepare(images).to(device)).softmax(dim=1)[:, 1].cpu()


def what_matters(model, image):
    """The change of the dog's share when each place is covered: (8, 8)."""
    change = dog_share(model, covered(image)) - dog_share(model, image[None])
    return change.unflatten(0, (8, 8))


# %%
# extra code: a picture, what its answer rests on, and its neighbours
@torch.no_grad()
def report_figure(image, title):
    fig, axes = plt.subplot_mosaic([list("aabb0123"), list("aabb4567")], figsize=(10, 3.1), width_ratios=[0.9] * 4 + [1] * 4)
    share, change = dog_share(final, image[None]).item(), what_matters(final, image)
    size, reach = image.shape[-1], max(0.02, float(change.abs().max()))
    axes["a"].imshow(image.permute(1, 2, 0))
    axes["a"].set_title(title, fontsize=13)
    axes["b"].imshow(image.float().mean(0), cmap="gray", vmin=-150, vmax=350)
    near = size / 8 - size / 14  # the middles of the squares lie between here and as far from the other side
    extent = (near, size - near, size - near, near)
    heat = axes["b"].imshow(change, cmap="PuOr_r", vmin=-reach, vmax=reach, alpha=0.8 * (change.abs() / reach).numpy(), extent=extent)
    axes["b"].set(xlim=(0, size), ylim=(size, 0))
    axes["b"].set_title("what it rests on", fontsize=13)
    axes["b"].text(0, size * 1.04, "covered here: more dog", color="#b35806", fontsize=12, va="top")
    axes["b"].text(0, size * 1.15, "covered here: more cat", color="#542788", fontsize=12, va="top")
    point, _ = predict(encoder, [(prepare(image[None]), torch.zeros(1))])
    alike = neighbours(point, known_points)[0, :8]
    for k, place in enumerate(alike):
        axes[str(k)].imshow(known.images[place].permute(1, 2, 0))
        axes[str(k)].set_title(known.classes[known_labels[place]], fontsize=12, loc="center", fontweight="normal")
    for ax in axes.values():
        ax.axis("off")
    crisp(fig)
    heat.set_interpolation("bilinear")
    dogs = int((known_labels[alike] == 1).sum())
    words = f"The answer: {test_set.classes[share > 0.5]}, with {max(share, 1 - share):.0%} certainty. Covering a place changes the dog's share by {change.min():+.0%} to {change.max():+.0%}."
    return fig, f"{words} Right: its eight nearest neighbours among the 200 pictures, {dogs} of them dogs."


# %%
sure = test_logits.softmax(dim=1).max(dim=1).values
wrong = (answers != test_labels).nonzero().flatten()
worst_mistakes = wrong[sure[wrong].argsort(descending=True)][:6].tolist()


def draw_mistake(mistake=1):
    picture = worst_mistakes[mistake - 1]
    kind = test_set.classes[test_labels[picture]]
    fig, words = report_figure(test_set.images[picture], f"mistake {mistake}: a {kind}")
    return fig, f"A {kind} taken for the other kind. {words}"


explore(draw_mistake, mistake=range(1, len(worst_mistakes) + 1))

# %% [markdown] slideshow={"slide_type": "notes"}
# For each mistake ask: would you have known, and how? Then look at the map. An answer that rests on the coat or the background is a warning, and the neighbours often show why: a
# striped dog among striped cats. In photos look for wrong labels, too; the Kaggle set has some.

# %% [markdown]
# ### A picture of your own
#
# You can use any picture that you like: its middle square is cut out and resized to the size of our pictures.
#
# - **JupyterLab, Kaggle, VS Code:** run the next two cells. Below the second, closed one a button appears: choose a file. Then run the cells **below** it (not that one again: it
#   would make a new, empty button).
# - **Colab:** write `own_file = "upload"` and run the cells; Colab asks for the file.
# - **Anywhere:** write the name of a file, such as `own_file = "rex.jpg"`.
#
# Without a file, the cells use a new drawing. (If the first line says "data: drawings", the network has never seen a photo. Try one anyway: the network will answer, and may even
# be certain. For an honest answer set `COURSE_DATA=photos`, or see notebook 10, section 6.)

# %%
own_file = ""

# %%
# extra code: a button for a file (on Colab a question), and the bytes that were uploaded
button = ipywidgets.FileUpload(accept="image/*", multiple=False)


def uploaded(value):
    """The bytes of the files that a FileUpload holds: a tuple of dicts, and a dict of dicts before ipywidgets 8."""
    files = value.values() if isinstance(value, dict) else value
    return [bytes(file["content"]) for file in files]


if own_file == "upload":
    from google.colab import files

    asked = list(files.upload().values())
else:
    asked = []
    display(button)


# %%
def as_square(file):
    """The middle square of a picture file, as bytes of our size: (3, S, S)."""
    try:
        opened = Image.open(file)
    except UnidentifiedImageError:
        sys.exit("Cannot be read (an iPhone's .heic?). Save it as JPEG, PNG or WebP.")
    image = ImageOps.exif_transpose(opened).convert("RGB")
    image = ImageOps.fit(image, test_set.images.shape[-2:])
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


# %%
sent = asked or uploaded(button.value)
if sent:
    mine = as_square(io.BytesIO(sent[-1]))
elif own_file:
    mine = as_square(own_file)
else:
    size = test_set.images.shape[-1]
    drawing = critters.draw("cat", seed=5000 + course_seed, size=size).image
    mine = torch.from_numpy(drawing).permute(2, 0, 1)
fig, words = report_figure(mine, "my picture")
show(fig, words)

# %% [markdown]
# Ask three questions about your picture. Is the answer right? Are its neighbours similar in the animal, or only in the background? Does the answer rest on the animal?

# %% [markdown]
# ## 8. Gentler ways to fine-tune (35 min, optional)
#
# The usual advice is this: early layers see what every task needs, late layers what their own task needs, so early layers should change less. Is that true, and does it pay? We cut
# the network into five **parts**, from the picture to the features.


# %% tags=["measure"]
STARTS = {  # the layers at which the parts begin, and the end
    "SmallResNet": [0, 3, 4, 5, 6, 7],
    "MobileNetV2": [0, 2, 4, 7, 14, 19],
}


def parts(model):
    starts = STARTS[type(model).__name__]
    return [model.features[start:end] for start, end in pairwise(starts)]


# %%
for number, part in enumerate(parts(encoder), start=1):
    print(f"part {number}: {len(part):2} layers, {num_parameters(part):9,} weights")

# %% [markdown]
# ### Rates that fall, and parts that thaw
#
# We try two ideas of Howard and Ruder (2018), who used them for texts:
#
# - **Discriminative learning rates**: the head gets the full rate $\eta$, and each layer gets the rate of the next layer divided by 2.6. We divide from part to part.
# - **Gradual unfreezing**: begin with a fresh head and all parts frozen. After each epoch unfreeze one more part, the last one first. So the early parts never get the gradients of
#   an untrained head.
#
# PyTorch's optimizers take a list of **parameter groups**, each with its own rate. One function covers both ideas. From the epoch in which a part thaws, its rate rises and falls
# once: each part has its own schedule.


# %% tags=["measure"]
def bell(start, steps):
    """A schedule: nothing until step `start`, then the rate climbs and falls again."""
    def share(step):
        done = (step - start + 0.5) / (steps - start)
        return max(0.0, math.sin(math.pi * done)) if done > 0 else 0.0

    return share


# %% tags=["measure"]
def tune_gently(seed, pictures, head, lr, shares=(1,) * 6, starts=(0,) * 6):
    """Ten epochs. The head, then the parts from the last to the first: each gets its
    share of the rate, from an epoch of its own on."""
    torch.manual_seed(seed)
    model = with_head(head)
    layers = [model.classifier, *reversed(parts(model))]
    loader = DataLoader(pictures.with_transform(prepare), batch_size=32, shuffle=True)
    optimizer = torch.optim.AdamW(
        {"params": part.parameters(), "lr": lr * share}
        for part, share in zip(layers, shares, strict=True)
    )
    steps = 10 * len(loader)
    bells = [bell(start * len(loader), steps) for start in starts]
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, bells)
    fit(model, loader, num_epochs=10, optimizer=optimizer, scheduler=scheduler)
    return model


# %% [markdown]
# These are the ways that we compare. The last one is a rival of falling rates: all parts get the *same* small rate, that of the middle part.


# %% tags=["measure"]
FALLING = [2.6**-k for k in range(6)]  # the head's share, that of the last part, ...
WAYS = {
    "all at once": {},
    "part by part": {"starts": (0, 1, 2, 3, 4, 5)},
    "falling rates": {"shares": FALLING},
    "one small rate": {"shares": [1, *[FALLING[3]] * 5]},  # as large in the middle
}


# %% [markdown]
# **Before you run it:** the large rate of section 5 destroyed the network. Now only the head gets it, and the parts get less and less. What happens? And with the one small rate?
#
# <details><summary>Answer</summary>
#
# The network survives both ways. The head can take a large rate: it is one linear layer. The parts cannot, and now they have smaller rates. But it does not matter whether the
# rates *fall* from part to part.
#
# </details>

# %%
def gently(way):
    torch.manual_seed(seeds[0])
    fresh_head = nn.Linear(pool_points.shape[1], 2)
    return tune_gently(seeds[0], train_sets[0], fresh_head, large_lr, **WAYS[way])


at_large = {}
for way in ("all at once", "falling rates", "one small rate"):
    at_large[way] = accuracy(gently(way), as_prepared)
    print(f"{way}: {at_large[way]:.1%} on validation")

# %% [markdown]
# That was one seed, and surviving is not winning. The fair question is this: if we choose the best rate for each way on validation, which way is best on the test set? Here are all
# ways at four rates on three seeds, measured beforehand on drawings; "trained head" is the way of section 5. A ring marks the rate chosen for each seed.

# %%
gentle_rows = measured("transfer_gentle")
best_of = {}  # (way, seed): the row of the rate that validation chooses
for row in gentle_rows:
    key = row["way"], row["seed"]
    if row["val"] > best_of.get(key, {"val": 0})["val"]:
        best_of[key] = row

# %%
at_001 = {way: [] for way in [*WAYS, "trained head"]}
for row in gentle_rows:
    if row["lr"] == 0.01:
        at_001[row["way"]].append(row["accuracy"])
spared = ["falling rates", "one small rate"]
claim(
    "With a large rate for the head, parts with smaller rates survive, whether these "
    "fall or not; with the same large rate they mostly do not",
    min(min(at_001[way]) for way in spared) > 0.9
    and np.median(at_001["all at once"]) < 0.6
    and min(at_large[way] for way in spared) > 0.8,
    ", ".join(f"{way} {value:.0%}" for way, value in at_large.items())
    + f"; drawings at 0.01: {min(at_001['falling rates']):.0%} or more,"
    f" {min(at_001['one small rate']):.0%} or more,"
    f" {np.median(at_001['all at once']):.0%} (median)",
    same="200 pictures, ten epochs, a fresh head and its rate",
)


# %%
# extra code: test accuracy of each way at each rate, a ring where validation has chosen
def gentle_figure():
    ways, rates = list(dict.fromkeys(row["way"] for row in gentle_rows)), sorted({row["lr"] for row in gentle_rows})
    fig, axes = plt.subplots(1, len(ways), figsize=(12, 4.4), sharey=True)
    means = {}
    for ax, way in zip(axes, ways, strict=True):
        for seed in range(3):
            line = [row for row in gentle_rows if row["way"] == way and row["seed"] == seed]
            ax.plot([rates.index(row["lr"]) for row in line], [row["accuracy"] for row in line], "o-", color=f"C{seed}", alpha=0.7)
            row = best_of[way, seed]
            ax.plot(rates.index(row["lr"]), row["accuracy"], "o", color="black", fillstyle="none", markersize=15, clip_on=False)
        means[way] = np.mean([best_of[way, seed]["accuracy"] for seed in range(3)])
        ax.set_title(f"{way}\nchosen: {means[way]:.1%}", fontsize=13)
        ax.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates], rotation=45, fontsize=12)
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes[0].set_ylabel("accuracy on the test set")
    fig.supxlabel("largest learning rate", fontsize=14)
    fig.suptitle("At the right rate all ways are equal; small shares move that rate upwards", x=0.01, ha="left", fontweight="bold", fontsize=15)
    return fig, means


fig, gentle_means = gentle_figure()
told = ", ".join(f"{way} {value:.1%}" for way, value in gentle_means.items())
show(fig, f"Test accuracy after fine-tuning on 200 drawings in five ways, at four rates, one line for each seed; a ring where validation chooses. Means at the chosen rates: {told}.")

# %% [markdown]
# With the rate chosen, all ways end within a point of each other, and three seeds cannot tell them apart. We found **no gain** from falling rates or from unfreezing over plain
# fine-tuning; Howard and Ruder found some, on texts. What differs is the right rate. The axis shows the head's rate, and some parts get only a fraction of it: in the middle
# 0.0006 where the head has 0.01. So at 0.01, the falling rates and the one small rate work on every seed, and all other ways mostly fail. At 0.0003, the one small rate is too small
# and comes last on every seed. Unfreezing part by part does not protect the network: in the end every part gets the full rate. And a head that was trained beforehand on cached
# features costs almost nothing and does as well as any.

# %% [markdown]
# **Exercise 8** (5 min): parameter groups. Write the list of groups for an optimizer: the head (`model.classifier`) at `lr`, the second half of the layers in `model.features` at a
# tenth of it, the first half at a hundredth. With an odd number of layers, the first half is the smaller one.


# %%
def parameter_groups(model, lr):
    ...


exercises.parameter_groups.check(parameter_groups)

# %% slideshow={"slide_type": "skip"}
# exercises.parameter_groups.hint()
# exercises.parameter_groups.solution()

# %% [markdown]
# **Exercise 9** (5 min): an unfreezing schedule. In epoch number `epoch`, counted from 0, the classifier and the last `epoch` layers of `model.features` are trained, and all others are
# frozen. Set `requires_grad` accordingly and return the model.


# %%
def unfreeze(model, epoch):
    ...


exercises.unfreeze.check(unfreeze)

# %% slideshow={"slide_type": "skip"}
# exercises.unfreeze.hint()
# exercises.unfreeze.solution()

# %% [markdown]
# ### Batch normalisation in the wrong mode
#
# In training mode, batch normalisation uses the average and the spread of **the current batch**. `model.train()` switches to this mode; `model.eval()` switches to **evaluation
# mode**. If you forget the second, the answer for one picture depends on which others happen to be in its batch.


# %%
@torch.no_grad()
def ask_in_training_mode(model, dataset, batch_size):
    model = copy.deepcopy(model).train()  # a copy: even asking changes its averages
    right = 0
    for images, labels in DataLoader(dataset, batch_size=batch_size, shuffle=True):
        right += (model(images.to(device)).argmax(1).cpu() == labels).sum().item()
    return right / len(dataset)


# %% [markdown]
# **Before you run it:** we evaluate the frozen network with its linear head of section 4 in training mode, in batches of four. No weight changes. What is left of its accuracy?
#
# <details><summary>Answer</summary>
#
# Clearly less. Four pictures give a poor average, and each part gets numbers that the part before has already distorted. If all four are cats, even what cats have in common is
# subtracted.
#
# </details>

# %%
in_fours = ask_in_training_mode(frozen, test_set.with_transform(prepare), batch_size=4)
claim(
    "Evaluated in training mode in batches of four, the same network with the same "
    "weights is less accurate",
    in_fours < results["frozen + linear"][0] - 0.03,
    f"{in_fours:.0%} instead of {results['frozen + linear'][0]:.0%}",
    same=f"all weights, {len(test_set)} test pictures",
)

# %% [markdown]
# When evaluating, this is a mistake. When *training* on few pictures it is a choice, and most recipes make it without saying so: `model.train()` puts the pretrained batch
# normalisation into training mode, and its averages, from millions of pictures, are overwritten by those of your pictures. `models.hold_batch_norm` (section 5) keeps them. The
# figure shows what overwriting costs at the rate 0.0001 with 40 pictures, measured beforehand. (On photos this rate is large for the network, and with everything trained in batches
# of 32 overwriting costs nothing.)


# %%
norm_rows = measured("transfer_batch_norm")


# %%
# extra code: the measured table, one dot per seed
def batch_norm_figure():
    medians = {}
    fig, axes = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True)
    titles = {"head": "only the head is trained", "all": "everything is trained"}
    for ax, (trained, title) in zip(axes, titles.items(), strict=True):
        for place, hold in enumerate([1, 0]):
            for shift, size in ((-0.12, 4), (0.12, 32)):
                values = [row["accuracy"] for row in runs_here(norm_rows, trained=trained, hold=hold, batch_size=size)]
                medians[trained, size, hold] = np.median(values)
                ax.plot([place + shift] * len(values), values, "o" if size == 4 else "s", color=f"C{place}", alpha=0.7, markersize=9)
        ax.set_title(title, fontsize=14)
        ax.set(xticks=[0, 1], xticklabels=["held", "in training\nmode"], xlim=(-0.5, 1.5))
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    fig.suptitle("Overwritten averages cost points, most with small batches", x=0.01, ha="left", fontweight="bold", fontsize=15)
    axes[0].set_ylabel("accuracy on the test set")
    axes[0].plot([], [], "o", color="gray", label="batches of 4")
    axes[0].plot([], [], "s", color="gray", label="batches of 32")
    axes[0].legend(fontsize=12, loc="lower left")
    return fig, medians


fig, medians = batch_norm_figure()
words_for = {"head": "only the head trained", "all": "everything trained"}
told = [f"{words_for[what]}, batches of {size}: {medians[what, size, 1]:.1%} held, {medians[what, size, 0]:.1%} not" for what in words_for for size in (4, 32)]
show(fig, f"Test accuracy with 40 {noun}s, batch normalisation held or in training mode, measured earlier by make measure, one dot per seed; medians: {'; '.join(told)}.")

# %% [markdown]
# ### How many parts to freeze?
#
# There are steps between "frozen" and "fine-tuned": we can freeze the first $k$ parts and train the rest.


# %% tags=["measure"]
def fine_tune_behind(k, seed, pictures, head, lr):
    """Fine-tune with the first k parts frozen; k = 5 trains only the head."""
    torch.manual_seed(seed)
    model = with_head(head)
    for part in parts(model)[:k]:
        part.requires_grad_(False)
    num_epochs = tune_epochs(pictures)
    train(model, pictures.with_transform(prepare), lr=lr, num_epochs=num_epochs)
    return model


# %% [markdown]
# "With few pictures, freeze more" is the usual rule. Whether it is true depends on the learning rate. The figure shows two rates. On drawings they are the small one of section 5 and a
# larger one; on photos both are larger than the 0.00001 of section 5. It was measured beforehand; the bands go from the worst to the best of three seeds:

# %%
depth_rows = measured("transfer_depth")


# %%
# extra code: accuracy against the number of frozen parts, a panel for each rate
def depth_figure():
    here = runs_here(depth_rows)
    rates, frozen_parts = sorted({row["lr"] for row in here}), sorted({row["frozen_parts"] for row in here})
    fig, axes = plt.subplots(1, 2, figsize=(12, 4.8), sharey=True)
    found = {}
    for ax, rate in zip(axes, rates, strict=True):
        groups = {f"{num:,} {noun}s": by_seed(runs_here(depth_rows, num=num, lr=rate), "frozen_parts") for num in sorted({row["num"] for row in here})}
        curves(ax, groups, x=frozen_parts, xlabel="frozen parts, of 5", ylabel="", title=f"learning rate {rate:g}")
        ax.set_xticks(frozen_parts, labels=[{0: "0\ntrain all", 5: "5\nhead only"}.get(k, str(k)) for k in frozen_parts])
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        found[rate] = {name: np.median(line, axis=0) for name, line in groups.items()}
    axes[0].set_ylabel("accuracy on the test set")
    fig.suptitle("How much freezing protects depends on the learning rate", x=0.01, ha="left", fontweight="bold", fontsize=15)
    return fig, found


fig, found = depth_figure()
told = "; ".join(f"rate {rate:g}, {name}: {line[0]:.1%} when everything is trained, {line[-1]:.1%} when only the head is" for rate, lines in found.items() for name, line in lines.items())
show(fig, f"Test accuracy against the number of frozen parts, measured earlier by make measure, a panel for each rate, a band over seeds for each number of {noun}s. Medians: {told}.")

# %% [markdown]
# At the small rate there is hardly anything to protect. On drawings, freezing none, some or all parts makes no difference that three seeds could show, with 20 pictures or with
# 600. At the larger rate, freezing helps with 20 drawings: training everything ends one to seven points below training only the head. With 200 or 600 drawings the difference is no
# longer clear. With 200 photos, training only the head is three to nine points ahead of training everything, at both rates. At 0.00001, which is not in this figure, the two
# are level (section 6). So the rule is about rates that are too large: freeze, or take a smaller rate.

# %% [markdown] slideshow={"slide_type": "notes"}
# Yosinski et al. (2014) made the same comparison on ImageNet, and found a second effect: neighbouring layers in the middle were trained together, and separating them costs
# accuracy.

# %% [markdown]
# ## 9. What each part sees (20 min, optional)
#
# ### The first layer
#
# The filters of the first layer act on the picture itself, so they can be shown as small pictures. We compare them with filters before any training.


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


seen = {"critters": "blobs of colour, and dark spots with a bright rim", "photos": "edges in many directions, stripes and blobs of colour"}[train_set.source]
show(filter_figure(), f"Filters of the first layer of {owner}, 7 x 7 pixels: noise before training; after it, {seen}.")


# %% [markdown]
# On drawings, we see blobs of colour, and dark spots with a bright rim, like eyes, but few edges. On photos, we see edges in many directions, stripes and blobs of colour, as in
# every network that was trained on photos. Cells in the first area of the visual cortex respond to such patterns too (**Gabor** functions describe both well). No filter in either
# set belongs to cats, dogs or any other class. That is why first layers transfer to nearly every task.
#
# To put "not noise" into a number, we compute the correlation of each weight with the one to its right.


# %%
def alikeness(weights):
    """Correlation of neighbouring weights (left and right), over all filters."""
    centred = weights - weights.mean((2, 3), keepdim=True)
    left, right = centred[..., :-1].flatten(), centred[..., 1:].flatten()
    return ((left * right).mean() / (left.std() * right.std())).item()


claim(
    "Trained filters have structure: neighbouring weights are similar; in a fresh "
    "layer they are not",
    alikeness(filters) > alikeness(fresh) + 0.2,
    f"correlation {alikeness(filters):.2f} trained, {alikeness(fresh):+.2f} fresh",
    same=f"{len(filters)} filters of {filters.shape[-1]} x {filters.shape[-1]}",
)

# %% [markdown]
# ### Deeper parts
#
# A filter of a deeper layer acts on channels, not on colours, and cannot be shown as a picture. But we can ask to which places in our pictures it responds **most strongly**. After
# each part, this module returns every channel's mean over the picture, its largest value, and where that was.


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
            means.append(images.mean((2, 3)))
            largest.append(values)
            where.append(places)
        return tuple(means), tuple(largest), tuple(where)


# %%
each_part = EachPart(encoder).eval()
(pool_means, largest, where), _ = through(each_part, pool, "every part, the pool")
(test_means, _, _), _ = through(each_part, test_set, "every part, the test set")


# %%
# extra code: for the most selective channels, the places with the largest answers
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


seen = {"critters": " Part 1: eyes and dark spots; part 3: faces and ears; part 4: coats and heads; part 5: whole animals, mostly of one kind.", "photos": ""}[train_set.source]
show(crisp(crops_figure()), f"Two channels of each of four parts, and for each the six places in 600 {noun}s to which it answers most strongly.{seen}")

# %% [markdown] slideshow={"slide_type": "notes"}
# Let the class name what the pictures in a row have in common, and then ask how they would check it. Such names are our interpretation, and for many channels there is none.
# (Zeiler and Fergus 2014 made such pictures first; Olah et al. 2017 show hundreds.)

# %% [markdown]
# ### How much each part knows of our task
#
# We can train a linear classifier on the output of any part. This is called a **probe** (Alain and Bengio 2016). To compare the parts fairly, we scale each number to mean 0 and
# spread 1 over the training pictures.


# %% tags=["measure"]
def probe(points, labels, new_points, new_labels, seed):
    """Accuracy on new points of a linear classifier on standardised points."""
    mean, std = points.mean(0), points.std(0) + 1e-6
    linear = linear_on((points - mean) / std, labels, seed)
    return accuracy(linear, TensorDataset((new_points - mean) / std, new_labels))


# %%
forty = pool.subset(40, seed=seeds[0])
forty_labels = forty.targets["label"]
similar = [
    probe(known_means[forty.indices], forty_labels, new_means, test_labels, seeds[0])
    for known_means, new_means in zip(pool_means, test_means, strict=True)
]
print("cat or dog, from 40 pictures:", *[f"{value:.0%}" for value in similar])

# %%
claim(
    "The features of the last part tell cats from dogs far better than those of the "
    "first part",
    similar[-1] > similar[0] + 0.15,
    f"{similar[-1]:.0%} behind the last part, {similar[0]:.0%} behind the first",
    same=f"{len(forty)} pictures, the same classifier on standardised numbers",
)

# %% [markdown]
# ## 10. When to do what (15 min, optional)
#
# The textbook rule asks two questions: how many pictures do you have, and how **similar** is your task to the one that the network was trained on?
#
# | | similar task | different task |
# |---|---|---|
# | **few pictures** | linear classifier on the last features | linear classifier on *earlier* features |
# | **many pictures** | fine-tune | fine-tune, or train from scratch |
#
# We test this rule by measuring. The similar task is ours. The **different** one is breast lesions in ultrasound, *benign or malignant*. If the images of BUSI are not available,
# the course draws substitutes: dark blobs in grey speckle, either smooth ovals or with spikes and lobes, and otherwise alike. They look like nothing that the network was trained
# on. (Neither is for any medical use.)


# %% tags=["measure"]
# extra code: all lesions that are there, in one data set
def lesion_set():
    classes = ["benign", "malignant"]
    try:
        splits = datasets.lesions()
    except FileNotFoundError:  # photos are asked for, and those of lesions cannot be fetched: drawings stand in
        drawn = [torch.from_numpy(critters.draw_lesion(malignant=i % 2 == 1, seed=i, size=128)[0]) for i in range(1000)]
        images = torch.stack(drawn)[:, None].repeat(1, 3, 1, 1)
        return datasets.ImageDataset(images, {"label": torch.arange(1000) % 2}, classes, "drawing", "critters")
    images, labels = torch.cat([s.images for s in splits]), torch.cat([s.targets["label"] for s in splits])
    return datasets.ImageDataset(images, {"label": labels}, classes, splits.train.noun, splits.train.source)


# %%
lesions = lesion_set()
lesion_labels = lesions.targets["label"]
print(lesions)


# %%
# extra code: six lesions of each kind
examples = torch.cat([lesions.images[lesion_labels == k][:6] for k in (0, 1)])
titles = [name for name in lesions.classes for _ in range(6)]
fig = crisp(image_grid(examples, titles=titles, columns=6, size=1.2))
show(fig, f"The different task: {lesions.noun}s of lesions, six benign above, six malignant below.")

# %% [markdown]
# **Before you run it:** we have forty lesions to train on. The network has learned animals, or the classes of ImageNet. Behind which part will a linear classifier do best?
#
# <details><summary>Answer</summary>
#
# For cats and dogs the last part is best, as section 9 showed. For drawn lesions the first part is near chance: an outline is more than an edge. The parts in the middle do
# best, some ten points better. The last part loses about half of that again: it learned what to see, and what to ignore, for another task.
#
# </details>

# %%
(lesion_means, _, _), _ = through(each_part, lesions, "every part, the lesions")
different = []
for seed in seeds:
    chosen = lesions.subset(40, seed=seed).indices
    rest = torch.ones(len(lesions), dtype=torch.bool).index_fill(0, chosen, False)
    different.append([
        probe(a[chosen], lesion_labels[chosen], a[rest], lesion_labels[rest], seed)
        for a in lesion_means
    ])  # fmt: skip
different = np.array(different)
print("benign or malignant, from 40:", *[f"{v:.0%}" for v in different.mean(axis=0)])


# %%
# extra code: both tasks against depth
def by_depth_figure():
    fig, ax = plt.subplots(figsize=(9, 4.5))
    curves(ax, {"cat or dog": similar, "lesions": different}, xlabel="part behind which the linear classifier stands", ylabel="accuracy on others", title="Cats and dogs gain up to the last part, lesions do not")
    ax.set(xticks=range(1, 6), ylim=(0.45, 1.01))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    return fig


middle = different.mean(axis=0)
show(by_depth_figure(), f"Accuracy of a linear classifier on 40 pictures behind each of the five parts. Cat or dog, one draw of 40: from {similar[0]:.0%} behind the first part to {similar[-1]:.0%} behind the last. "
     f"Lesions, a band over three draws of 40: {', '.join(f'{value:.0%}' for value in middle)}.")  # fmt: skip

# %%
gains = similar[-1] - similar[0], middle[-1] - middle[0]
claim(
    "Going from the first part to the last helps the similar task far more than the "
    "different one",
    gains[0] > gains[1] + 0.15,
    f"{100 * gains[0]:+.0f} points for cat or dog, {100 * gains[1]:+.0f} for lesions",
    same="the network, 40 pictures, the same classifier",
)

# %% [markdown]
# ### The whole grid
#
# We measured five ways beforehand, on two tasks, with few and with many pictures, on three seeds. "Earlier features" means a linear classifier behind one of the parts 1 to 3.
# Which part is chosen without the test pictures, by **cross-validation**: each fifth of the training pictures is used to test a classifier that was trained on the other four
# fifths.


# %% tags=["measure"]
def best_early_part(means, labels, seed):
    """0, 1 or 2: which of the first three parts does best in cross-validation."""
    generator = torch.Generator().manual_seed(seed)
    fifth = torch.randperm(len(labels), generator=generator) % 5

    def score(points):
        folds = [(fifth != k, fifth == k) for k in range(5)]
        return sum(
            probe(points[a], labels[a], points[b], labels[b], seed) for a, b in folds
        )

    scores = [score(points) for points in means[:3]]
    return scores.index(max(scores))


# %%
grid_rows = measured("transfer_grid")


# %%
# extra code: the grid, a panel for each corner, one dot per seed
def grid_figure():
    fig, axes = plt.subplots(2, 2, figsize=(11, 7.4), sharex=True, sharey=True)
    names = {"scratch": "from scratch", "early": "earlier features", "last": "last features", "tuned": "fine-tuned", "faster": "fine-tuned, rate × 10"}
    best = {}
    for column, task in enumerate(["similar", "different"]):
        for row, size in enumerate(["few", "many"]):
            ax, corner = axes[row, column], runs_here(grid_rows, task=task, size=size)
            values = {way: [run["accuracy"] for run in corner if run["way"] == way] for way in names}
            first = max(names, key=lambda way: np.median(values[way]))
            best[f"{task}, {size}"] = names[first]
            for line, way in enumerate(names):
                ax.plot(values[way], [line] * len(values[way]), "o", color=f"C{line}", alpha=0.7, markersize=9)
                weight = "bold" if way == first else "normal"
                ax.annotate(f"{np.median(values[way]):.0%}", (1.03, line), va="center", fontweight=weight, annotation_clip=False)
            ax.set_title(f"{task} task, {corner[0]['num']:,} to learn from", fontsize=14)
            ax.set(yticks=range(5), yticklabels=names.values(), ylim=(4.6, -0.6), xlim=(0.3, 1.02))
            ax.xaxis.set_major_formatter(PercentFormatter(1))
    for ax in axes[1]:
        ax.set_xlabel("accuracy (dots: seeds; right: median)")
    return fig, best


fig, best = grid_figure()
show(fig, f"The grid as measured earlier by make measure: accuracy of five ways in each corner, the best median in bold. Best: {'; '.join(f'{corner}: {way}' for corner, way in best.items())}.")

# %% [markdown]
# Compare the bold numbers with the rule above.
#
# - For the **similar** task the rule is right: the last features and fine-tuning at 0.0001 are ahead and lie within two points of each other, with few and with many pictures.
#   Training from scratch is far behind, and with 600 drawings still by about six points. Ten times the rate does no harm to our small network but destroys MobileNetV2.
# - For the **different** task with **few** pictures nothing does well. The rule says "earlier features". With 40 lesions these are hardly ahead of the last features, on drawings
#   or on ultrasound: forty pictures are too few even to tell which part is best. A small network from scratch has the best median on both.
# - With **many** drawn lesions the earlier features are ahead of the last ones, by nine points. Fine-tuning at ten times the rate (94 %) and a small network from scratch (96 %) are far
#   better, and within about two points of each other. Both had ten epochs: with only three, fine-tuning stays ten points behind. We did not train the same network from random weights, so we cannot say what
#   its knowledge of animals is worth here.
# - Our copy has 180 **ultrasound images**. With 120 of them for training, fine-tuning at the small rate has the best median. But only 60 are left for testing, the seeds of one way
#   differ by ten points and more, and calling all 60 benign is already right for two in three. These are not enough pictures to tell.
#
# The lectures' example of a different task is **glaucoma**, seen in photos of the retina. One such study (Christopher et al. 2018) had 14,822 photos, so "many", and compared
# several architectures, each trained from scratch and fine-tuned from ImageNet. Transfer was more accurate in all cases and took less training; the best reached an area under the
# ROC curve of 0.91 (1 is perfect, 0.5 is guessing). Raghu et al. (2019) looked more closely, on two larger medical tasks: pretraining added little accuracy, small networks from
# scratch came close, and what did transfer was in the lowest layers.

# %% [markdown]
# ## 11. What a pretrained network expects (5 min, optional)
#
# A pretrained network expects pictures of a certain **size** and a certain **normalisation**. `prepare` takes care of the normalisation. What happens if you forget it?
#
# **Before you run it:** the head was trained on correctly prepared pictures. Now the test pictures are prepared wrongly, in five different ways. Which mistake costs most?
#
# <details><summary>Answer</summary>
#
# Forgetting to normalise can cost nearly everything, and no error message tells you. Which of the two ways of forgetting it is worse depends on the network. Half the size is
# costly too: the filters look for shapes of the size that they were trained on. Twice the size is bad if it leads away from the size in training, as for the drawings. (MobileNetV2
# was trained at 224 pixels, so for photos of 128 it does no harm.) Exchanging red and blue, as happens with OpenCV, costs little.
#
# </details>

# %%
size = test_set.images.shape[-1]
swap = v2.Lambda(lambda image: image.flip(-3), tv_tensors.Image)
ways = {
    "as it should be": prepare,
    "red and blue exchanged": v2.Compose([swap, prepare]),
    "0 to 1, not normalised": v2.ToDtype(torch.float32, scale=True),
    "0 to 255, not normalised": v2.ToDtype(torch.float32),
    "half the size": v2.Compose([v2.Resize(size // 2), prepare]),
    "twice the size": v2.Compose([v2.Resize(size * 2), prepare]),
}


# %%
def with_preparation(way):
    loader = DataLoader(test_set.with_transform(way), batch_size=100)
    points, _ = predict(encoder, loader)
    return accuracy(heads[0], TensorDataset(points, test_labels))


wrong_ways = {name: with_preparation(way) for name, way in ways.items()}


# %%
# extra code: a bar for each way to prepare the pictures
def ways_figure():
    fig, ax = plt.subplots(figsize=(9, 4))
    ax.barh(list(wrong_ways), wrong_ways.values(), color=["C0", *["C1"] * 5])
    ax.bar_label(ax.containers[0], [f"{value:.0%}" for value in wrong_ways.values()], padding=6)
    ax.axvline(0.5, color="gray", linestyle=":")
    ax.set(xlim=(0, 1.1), xlabel="accuracy on the test set", title="A wrong preparation costs accuracy, and no error says so")
    ax.invert_yaxis()
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    return fig


show(ways_figure(), f"Test accuracy for six ways to prepare the pictures: {', '.join(f'{name} {value:.0%}' for name, value in wrong_ways.items())}. The dotted line is guessing.")

# %%
forgotten = [wrong_ways[name] for name in ways if "not normalised" in name]
right_way, half = wrong_ways["as it should be"], wrong_ways["half the size"]
claim(
    "Forgetting to normalise (the worse of the two ways) costs many points without any "
    "warning, and so does half the picture size",
    min(forgotten) < right_way - 0.1 and half < right_way - 0.07,
    f"{min(forgotten):.0%} and {half:.0%} instead of {right_way:.0%}",
    same=f"network, head, {len(test_set)} test pictures",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Old slides have `BatchNorm2D` (it is `BatchNorm2d`) and pin torch.hub to `v0.5.0`; take the version that is installed.

# %% [markdown]
# ## 12. Other pretrained networks (15 min, optional)
#
# Torchvision has many more. All end in a layer for ImageNet's 1,000 classes, but its name differs. This dictionary says where the layer is, and how large the pictures are.

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
# We need no weights to count parameters or to replace a layer. On the device `"meta"` (notebook 02), tensors have shapes but no numbers: even VGG-19 takes no memory.


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
    images = torch.empty(1, 3, size, size, device="meta")
    shapes[name] = tuple(model(images).shape)
    print(f"{name:20} {place:13} {width:5,} features, outputs {shapes[name]}")

# %% [markdown]
# Two notes. Inception v3 has a second, auxiliary head for training (`AuxLogits.fc`), which must be replaced as well. And the "ImageNet classes: 1280" that a slide gives for
# MobileNet is the 1,280 of this table, the width of the features.
#
# What does each network cost? We count **parameters**, and **multiply-accumulates** (MACs) for one picture. (PyTorch's counter counts a multiplication and an addition as two
# operations.) The **accuracy on ImageNet** is published by torchvision with the weights; we only read it. Weights come in versions. `V1` is the recipe from the time of each
# network, `V2` a newer one (longer training, more augmentation). `DEFAULT` is the newest available, V2 for some networks and V1 for others. To compare networks we take V1
# throughout.


# %%
def costs(name, size):
    model = skeleton(name)
    published = torchvision.models.get_model_weights(name).IMAGENET1K_V1.meta
    return {
        "parameters": num_parameters(model),
        "GMACs": count_macs(model, 1, 3, size, size) / 1e9,
        "published parameters": published["num_params"],
        "published GMACs": published["_ops"],
        "top-1": published["_metrics"]["ImageNet-1K"]["acc@1"],
    }


# %%
table = {name: costs(name, size) for name, (_, size) in zoo.items()}
for name, row in table.items():
    print(f"{name:20} {row['parameters']:12,} parameters", end="")
    print(f" {row['GMACs']:7.2f} GMACs   top-1 {row['top-1']:.1f} %")

# %%
furthest = max(abs(row["GMACs"] / row["published GMACs"] - 1) for row in table.values())
fact(
    "Our counts of parameters equal those that torchvision publishes; "
    "multiply-accumulates nearly do",
    all(row["parameters"] == row["published parameters"] for row in table.values())
    and furthest < 0.03,
    f"{len(table)} networks; multiply-accumulates within {furthest:.1%}",
)

# %% [markdown]
# Does the accuracy come from the network or from the recipe? Where both versions exist, the network is the same:

# %%
newer = {}
for name in zoo:
    versions = torchvision.models.get_model_weights(name)
    if hasattr(versions, "IMAGENET1K_V2"):
        metrics = versions.IMAGENET1K_V2.meta["_metrics"]["ImageNet-1K"]
        newer[name] = metrics["acc@1"]
        print(f"{name}: V1 {table[name]['top-1']:.1f} %, V2 {newer[name]:.1f} %")


# %%
# extra code: published accuracy against work, and what the newer recipe adds
def zoo_figure():
    fig, ax = plt.subplots(figsize=(10, 5.4))
    ax.set(xscale="log", xlim=(0.025, 60), ylim=(50, 86), xlabel="multiply-accumulates for one picture, in billions (GMACs, logarithmic)", ylabel="ImageNet top-1 accuracy, %")
    for k, (name, row) in enumerate(table.items()):
        ax.scatter(row["GMACs"], row["top-1"], s=9 * row["parameters"] / 1e6 + 30, alpha=0.6, color=f"C{k}")
        above = name in ("mobilenet_v3_large", "inception_v3")
        shift = {"inception_v3": (62, 8), "resnet50": (-72, 8), "mobilenet_v2": (8, -38), "vgg19": (0, -54)}.get(name, (0, 14 if above else -42))
        label = f"{name}\n{row['parameters'] / 1e6:.1f} M parameters"
        ax.annotate(label, (row["GMACs"], row["top-1"]), xytext=shift, textcoords="offset points", ha="center", fontsize=12)
        if name in newer:
            ax.annotate("", (row["GMACs"], newer[name]), (row["GMACs"], row["top-1"]), arrowprops={"arrowstyle": "->", "color": f"C{k}", "lw": 2.5})
    ax.set_title("More parameters do not mean higher accuracy; arrows: a newer recipe")
    return fig


show(zoo_figure(), "Published ImageNet accuracy of the V1 weights against multiply-accumulates, the area of a dot being the number of parameters. AlexNet and VGG-19 have the most parameters but not the highest "
     f"accuracy; the MobileNets need only a small fraction of the work. Arrows go up to the V2 weights of {' and '.join(newer)}.")  # fmt: skip

# %% [markdown]
# A count is not a time. **Before you run it:** by the count, VGG-19 should take about 65 times as long as MobileNetV2. How much longer does it really take?
#
# <details><summary>Answer</summary>
#
# It is slower, but by a smaller factor: depthwise convolutions move a lot of data for little arithmetic, and machines are better at arithmetic. (All weights are zero here: the
# time does not depend on them.)
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
bar = tqdm(zoo.items())
clock = {name: seconds_a_picture(name, size, batch_size) for name, (_, size) in bar}
for name in zoo:
    by_count = table["vgg19"]["GMACs"] / table[name]["GMACs"]
    by_clock = clock["vgg19"] / clock[name]
    print(f"{name:20} {by_clock:5.1f} times as fast as VGG-19;", end="")
    print(f" by the count {by_count:6.1f} times")

# %%
times = clock["vgg19"] / clock["mobilenet_v2"]
by_count = table["vgg19"]["GMACs"] / table["mobilenet_v2"]["GMACs"]
claim(
    "MobileNetV2 is several times as fast as VGG-19, but by a smaller factor than the "
    "counts suggest",
    3 < times < by_count,
    f"{times:.0f} times by the clock, {by_count:.0f} by the count",
    same=f"{batch_size} pictures of 224 x 224, this machine",
)

# %% [markdown]
# ### torch.hub
#
# A network need not come from torchvision. `torch.hub` loads networks from any repository that has a file `hubconf.py`. Online, one line fetches code and weights:
#
# ```python
# model = torch.hub.load("pytorch/vision", "mobilenet_v2", weights="IMAGENET1K_V2")  # a tag of the repository can be named: "pytorch/vision:v0.25.0"
# ```
#
# (It runs that repository's code on your machine, so look at it first.) Here is the same offline, from a local folder:

# %%
code = """dependencies = ["torch", "torchvision"]
from torchvision.models import mobilenet_v3_small
"""
with tempfile.TemporaryDirectory() as folder:
    (Path(folder) / "hubconf.py").write_text(code)
    from_hub = torch.hub.load(
        folder, "mobilenet_v3_small", source="local", num_classes=2
    )


# %%
def shapes_of(model):
    return {name: tuple(t.shape) for name, t in model.state_dict().items()}


expected = skeleton("mobilenet_v3_small")
replace_last(expected, "classifier.3", num_classes=2)
fact(
    "torch.hub gives the same network: every weight has the same name and shape",
    shapes_of(from_hub) == shapes_of(expected),
    f"{len(shapes_of(from_hub))} tensors",
)

# %% [markdown]
# ## 13. The last exercise: Lab, forty pictures (30 min and more)
#
# Now you have only **40** labelled pictures, `pool.subset(40)`. Build the best classifier that you can, in any way: features,
# neighbours, fine-tuning, flipped copies, a vote of several networks. You may look at `val_set`, but not train on it.
#
# `classify` gets pictures as bytes, a uint8 tensor (N, 3, S, S) on the CPU, and returns their labels, (N,), 0 for cat and 1 for dog. So the
# preparation (`scale`, `prepare` or your own) belongs in it. Each check makes new pictures: drawings with an unknown seed, or the test photos randomly cropped and mirrored. The
# code of section 4 reaches about 94 % on drawings, where **95 % is good, 97 % very good**, and 92 % on photos, where **93 % is good, 95 % very good**.


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
# - **With 200 pictures, what was learned elsewhere counts most**: with photos, frozen features reach 96 % and our own network 69 %; with drawings about 96 and 86 %, where one program
#   drew the pictures of both tasks. Start with frozen features: they are computed only once, and they are good from twenty pictures on.
# - **Fine-tune with a small rate**, and keep the result only if it is better on *your* validation set.
# - **Choose on validation, test once.** Rate, epochs, which part to cut at: all of these are choices.
# - **Use a network as it was trained:** the same normalisation and size of pictures, and the right mode of batch normalisation. No error message tells you that something is wrong.
# - **Test rules of thumb, too.** Smaller rates for the early parts, or freezing them, make a large rate bearable. Over a well-chosen rate we found no clear gain; falling rates and unfreezing we
#   tried on drawings only.

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
# | T4 first-layer filters, what deeper parts respond to | 9 | D |
# | T5 frozen features and a linear classifier | 4 | A, B, C, D, E |
# | T6 fine-tuning with a small learning rate | 5 | A, B, D |
# | T7 discriminative learning rates | 8 | A, B |
# | T8 gradual unfreezing | 8 | B |
# | T9 how many parts to freeze | 8 | C |
# | T10 when and how, measured | 10 | C, D |
# | T11 other pretrained networks and torch.hub | 12 | C, E |
# | T12 input size and normalisation | 11 | D, E |
# | T13 choosing on validation, testing once; mistakes, and a picture of your own | 6, 7 | beyond |
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
# - A. Karpathy et al. *Large-scale Video Classification with Convolutional Neural Networks*. CVPR 2014 (Sports-1M: 487 categories, not 47 as on a slide of lecture E)
# - O. Bojar et al. *Findings of the 2014 Workshop on Statistical Machine Translation*. WMT 2014
# - A. Vaswani et al. *Attention Is All You Need*. NeurIPS 2017. https://arxiv.org/abs/1706.03762 (the Transformer; 4.5 million pairs of sentences for English-German, 36 million for English-French, not 6 million as on that slide)
# - T.-Y. Lin et al. *Microsoft COCO: Common Objects in Context*. ECCV 2014. https://arxiv.org/abs/1405.0312
# - M. Everingham et al. *The PASCAL Visual Object Classes Challenge: A Retrospective*. IJCV 2015
# - W. Al-Dhabyani et al. *Dataset of breast ultrasound images*. Data in Brief 2020 (BUSI)
# - J. Elson, J. R. Douceur, J. Howell, J. Saul. *Asirra: A CAPTCHA that Exploits Interest-Aligned Manual Image Categorization*. CCS 2007 (dogs-vs-cats)
#
# ### Next notebook
# 06 · Augmentation: the same small data set, made to go further.
