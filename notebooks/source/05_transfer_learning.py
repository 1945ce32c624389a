# %% [markdown]
# # 05 · Transfer learning on dogs-vs-cats
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/@SLUG@/blob/@REF@/notebooks/05_transfer_learning.ipynb)
# [![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://github.com/@SLUG@/blob/@REF@/notebooks/05_transfer_learning.ipynb)
#
# **Question:** You have 200 labelled pictures. How far do they take a network of your own, and how far a network that
# has learned to see elsewhere?
#
# **You will be able to**
# - recognise overfitting in two curves, and say what the layer after the convolutions has to do with it,
# - turn pictures into points with a pretrained network, and see what it knows before any training,
# - train a classifier on frozen features, and fine-tune the whole network.
#
# **Time:** it runs in @TIME@ on two CPU cores; with the exercises and the lab, two hours and a half.
# **Before this:** a training loop in PyTorch, convolution and pooling.
# **For a 75-minute lecture:** sections 1 to 6 (70 minutes). The explorer and the map in section 3 can be left out, the exercises come after.

# %% slideshow={"slide_type": "skip"}
# Set-up, the same in every notebook: finds the course's files here, in Kaggle's data sets or on the net. Just run it.
import subprocess, sys
from pathlib import Path

cwd, ours = Path.cwd(), "utils/lessons.py"
kaggle = [path.parents[1] for depth in range(1, 5) for path in Path("/kaggle/input").glob("*/" * depth + ours)]
course = next((f for f in [cwd, *cwd.parents, *kaggle] if (f / ours).is_file()), cwd / "deep-learning-for-images-@REF@")
if not (course / ours).is_file():
    failed, git = subprocess.getstatusoutput(f'git clone -q --depth 1 --branch @REF@ @REPO@ "{course}"')
    if failed:
        sys.exit(f"No network? Switch it on (Kaggle: Settings > Internet), or attach the course as a data set.\n{git}")
sys.path.insert(0, str(course))
for name in [n for n, m in sys.modules.items() if n.split(".")[0] == "utils" and str(course / "utils") not in str(m)]:
    del sys.modules[name]  # another package of that name
import utils

device = utils.start()

# %% slideshow={"slide_type": "skip"}
# What this notebook imports. Everything that is not PyTorch or torchvision is in the folder utils/.
import copy
import time

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from matplotlib.ticker import PercentFormatter
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

from utils import datasets, models
from utils.exercises import transfer_learning as exercises
from utils.figures import curves, explore, image_grid, show
from utils.lessons import claim, summary
from utils.training import evaluate, fit, predict

course_seed = torch.initial_seed()  # as utils.start() has set it

# %% [markdown]
# ## 1. Two hundred pictures (5 min)
#
# Labels cost. Somebody has to look at every picture, and for medical images that somebody is a doctor. So the usual
# data set is small, and the usual task is not one that anybody has solved before.
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
show(image_grid(train_set.images[:12], columns=6), f"Twelve of our 200 {noun}s of cats and dogs: many poses, colours and places.")

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


# %%
def block(in_channels, out_channels):
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )


# %% [markdown]
# What comes after the convolutions and turns their channels into an answer is called the **head**.


# %%
def own_network(head):
    """Four blocks, then the layers of `head`."""
    return nn.Sequential(block(3, 16), block(16, 32), block(32, 64), block(64, 64), *head)


# %% [markdown]
# The blocks end in 64 channels of a few pixels a side. Two numbers are wanted, one a class, the **logits**: the larger one
# is the answer. The classic head **flattens** the channels into one long vector, and puts dense layers behind:


# %%
def flatten_head(side):
    return [nn.Flatten(), nn.Linear(64 * side * side, 64), nn.ReLU(), nn.Linear(64, 2)]


# %% [markdown]
# Pictures are stored as bytes, 0 to 255. A network wants small numbers around zero. This is the whole preparation:

# %%
scale = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean=[0.5] * 3, std=[0.25] * 3)])
image, label = train_set.with_transform(scale)[0]
print(f"{tuple(image.shape)}, from {image.min():.1f} to {image.max():.1f}; label {label}: {train_set.classes[label]}")

# %% [markdown]
# The training loop is the same for every network of this notebook, so we write it once. `lr` is the largest learning rate:
# `OneCycleLR` lets it climb there from a small one, and fall again, once in the whole training.


# %%
def train(model, train_set, val_set=None, lr=3e-3, num_epochs=30, batch_size=32):
    loader = DataLoader(train_set, batch_size=batch_size, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=100) if val_set else None
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=num_epochs * len(loader))
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


# %%
def pool_head():
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 2)]


# %%
# NBVAL_CHECK_OUTPUT
def num_parameters(layers):
    return sum(parameter.numel() for parameter in nn.Sequential(*layers).parameters())


print(f"blocks {num_parameters([own_network([])]):,}")
print(f"flatten head {num_parameters(flatten_head(side=4)):,}")
print(f"pooling head {num_parameters(pool_head()):,}")

# %%
claim(
    "At 64 x 64 pixels, the head with global average pooling has less than a five-hundredth of the flatten head's weights",
    num_parameters(pool_head()) * 500 < num_parameters(flatten_head(side=4)),
    f"{num_parameters(pool_head())} against {num_parameters(flatten_head(side=4)):,}",
)

# %% [markdown]
# **Before you run it:** does the smaller network do worse, as well, or better on new pictures?
#
# <details><summary>Answer</summary>
#
# Better. It can no longer remember places, and that is a good thing to be unable to do. On the drawings it gains a lot, on photos a few
# points. It still knows its training pictures by heart, or nearly all: pooling narrows the gap and does not close it.
#
# </details>
#
# One run proves little: another start, other pictures, another result. So from here on we do everything on **three seeds**: three
# draws of 200 pictures from a pool of 600, three starts.

# %%
seeds = [10 * course_seed + k for k in range(3)]  # so that runs of the notebook with other seeds share none
train_sets = [pool.subset(200, seed=seed) for seed in seeds]


def train_on_each_seed(head):
    """Accuracy of our own network with this head, on known and on new pictures: a pair of numbers a seed."""
    pairs = []
    for seed, pictures in zip(seeds, train_sets, strict=True):
        torch.manual_seed(seed)
        model = own_network(head()).to(device)
        train(model, pictures.with_transform(scale))
        pairs.append((accuracy(model, pictures.with_transform(scale)), accuracy(model, test_set.with_transform(scale))))
    return pairs


# %%
flat_pairs = train_on_each_seed(lambda: flatten_head(side))

# %%
pool_pairs = train_on_each_seed(pool_head)

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
# what it computes just *before* its head is a description of the picture in some hundred numbers, its **features**. Cut off the head, and
# the network turns every picture into a **point**. This is an **embedding**.

# %%
pretrained, prepare = models.pretrained(train_set.source)
print(f"{type(pretrained).__name__}, {num_parameters([pretrained]):,} weights. Its parts: `features`, and `classifier`, the head:")
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
    return image_grid(images, titles=titles, columns=num + 1, colours=colours, size=1.6)


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
    fig, ax = plt.subplots(figsize=(9, 6.5))
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

# %%
results["frozen + linear"] = []
heads = []
start = time.perf_counter()
for seed, pictures in zip(seeds, train_sets, strict=True):
    torch.manual_seed(seed)
    linear = nn.Linear(pool_points.shape[1], 2)
    points = TensorDataset(pool_points[pictures.indices], pool_labels[pictures.indices])
    train(linear, points, lr=1e-2, num_epochs=100, batch_size=200)
    results["frozen + linear"].append(accuracy(linear, TensorDataset(test_points, test_labels)))
    heads.append(linear)
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
# 1. **Start with the trained head** of section 4. A fresh one is wrong about everything, and its large gradients would change features
#    that were good (Kumar et al. 2022).
# 2. **Keep batch normalisation in evaluation mode.** It scales with averages over the pictures it was trained on. A batch of ours would give
#    rough ones.
# 3. **Choose the learning rate.** This one we test.


# %%
def fine_tune(seed, pictures, head, lr):
    torch.manual_seed(seed)
    model = copy.deepcopy(encoder)
    model.classifier = copy.deepcopy(head).to(device)
    models.hold_batch_norm(model)
    train(model, pictures.with_transform(prepare), lr=lr, num_epochs=6)
    return model


# %%
results["fine-tuned"] = []
for seed, pictures, head in zip(seeds, train_sets, heads, strict=True):
    tuned = fine_tune(seed, pictures, head, lr=1e-4)
    results["fine-tuned"].append(accuracy(tuned, test_set.with_transform(prepare)))
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
linear = nn.Linear(points.shape[1], 2)
train(linear, TensorDataset(points, known_labels), lr=1e-2, num_epochs=100, batch_size=200)
ruined_linear = accuracy(linear, TensorDataset(new_points, test_labels))
claim(
    "The features are ruined too: a linear classifier on what is left does far worse than on the frozen features",
    ruined_linear < results["frozen + linear"][0] - 0.1,
    f"{ruined_linear:.0%} instead of {results['frozen + linear'][0]:.0%}",
)

# %% [markdown]
# ## 6. Side by side (5 min)


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
# A few points at most, beside the gap to our own network. On the drawings fine-tuning usually leads by a little; with 200 photos it has more often
# lost a little. So we do not claim it. Start with frozen features, as they are computed once; fine-tune when they are not enough, or when you have
# more data.

# %% [markdown] slideshow={"slide_type": "notes"}
# The class will ask for a rule. A fair one: the more data there are, and the more the task differs from the one that the network was trained on, the more
# fine-tuning can gain. Let them guess what happens with 20 and with 600 pictures; they can try it by changing one number in the cell that draws the three training sets.

# %% [markdown]
# ## 7. Exercises (30 min)
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
# ## 8. Lab: forty pictures (30 min and more)
#
# Now you have only **40** labelled pictures, `pool.subset(40)`. Build the best classifier that you can, in any way: features,
# neighbours, fine-tuning, flipped copies, a vote of several networks. You may look at `val_set`, but not train on it, and not touch
# `test_set`.
#
# `classify` gets pictures as bytes, a uint8 tensor (N, 3, S, S) on the CPU, and returns their labels, (N,), 0 for cat and 1 for dog. So the
# preparation (`scale`, `prepare` or your own) belongs into it. The check scores it on the test set. 90 % is good.


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
# - A pretrained network turns pictures into points. Neighbours are alike before any training for our task.
# - Frozen features, computed once, and a linear classifier beat our own network.
# - So does fine-tuning with a small learning rate. A large one destroys what the network knew.
#
# The claims of this run, with their figures:

# %%
summary()

# %% [markdown]
# ### Lecture topics
# T2 a network of our own, overfitting, global average pooling · T3 embeddings of images (nearest neighbours, a map; word embeddings are
# still to come) · T5 frozen features and a linear classifier · T6 fine-tuning with a small learning rate
#
# ### Further reading
# - M. Lin, Q. Chen, S. Yan. *Network in Network*. 2013. https://arxiv.org/abs/1312.4400 (global average pooling)
# - J. Donahue et al. *DeCAF: A Deep Convolutional Activation Feature for Generic Visual Recognition*. ICML 2014. https://arxiv.org/abs/1310.1531
# - J. Yosinski, J. Clune, Y. Bengio, H. Lipson. *How transferable are features in deep neural networks?* NeurIPS 2014. https://arxiv.org/abs/1411.1792
# - S. Kornblith, J. Shlens, Q. V. Le. *Do Better ImageNet Models Transfer Better?* CVPR 2019. https://arxiv.org/abs/1805.08974
# - A. Kumar et al. *Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution*. ICLR 2022. https://arxiv.org/abs/2202.10054
# - M. Sandler et al. *MobileNetV2: Inverted Residuals and Linear Bottlenecks*. CVPR 2018. https://arxiv.org/abs/1801.04381
# - L. van der Maaten, G. Hinton. *Visualizing Data using t-SNE*. JMLR 2008. https://jmlr.org/papers/v9/vandermaaten08a.html
# - J. Elson, J. R. Douceur, J. Howell, J. Saul. *Asirra: A CAPTCHA that Exploits Interest-Aligned Manual Image Categorization*. CCS 2007 (the photos)
#
# ### Next notebook
# 06 · Augmentation and regularisation: the same small data set, made to go further (planned).
