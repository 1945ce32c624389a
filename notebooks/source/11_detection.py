# %% [markdown]
# # 11 · Detection: what is where
#
# @BADGES@
#
# **To keep what you write:** on Colab choose *File > Save a copy in Drive*, on Kaggle *Copy & Edit*, before you begin.
#
# **Question:** A classifier has one name for a whole picture. How does a network find *several* things, name each, and put a box around it?
#
# **You will be able to**
# - say how well two boxes agree, place anchors, and decide which anchor learns which box,
# - build and train a small detector, choose its thresholds, and score it by recall, precision and average precision,
# - tell the well-known detectors apart by what each computes once and what it computes for each region.
#
# **Time:** it runs in @TIME@ on two CPU cores, and takes no GPU; with all sections, the exercises and the lab, about two and a half hours.
# **Before this:** notebook 03, section 8 (a classifier that slides); notebook 04, section 1 (IoU of masks).

# %% [markdown] slideshow={"slide_type": "notes"}
# **A plan for 75 minutes** (the core takes 69, with its exercises)
#
# - **Core:** sections 1, 2, 3, 4 and 5: boxes, anchors, a detector trained in class, its thresholds and its score, and the family tree.
# - **Optional:** 6 (focal loss against cross-entropy, measured), 7 (torchvision's detectors: counted, run and timed).
# - **Where to stop:** after the family tree of section 5. If you are late, stop after the claims of section 4, and show the tree as the last slide.

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
# What this notebook imports. All that is not PyTorch or torchvision is in the folder utils/.
import math
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torchvision.models import detection
from torchvision.ops import Conv2dNormActivation, batched_nms, box_convert, box_iou
from tqdm.auto import tqdm

from utils import datasets, models
from utils.critters.scenes import CLASSES, SIDE, draw_scenes
from utils.exercises import detection as exercises
from utils.figures import curves, explore, show, to_picture
from utils.lessons import claim, fact, measured, summary
from utils.models import count_macs, num_parameters

# %% slideshow={"slide_type": "skip"}
torch.set_num_threads(1)  # for a network this small, more cores only mean more waiting
course_seed = torch.initial_seed()  # as utils.start() has set it
first_seed = 10 * course_seed  # so that runs with other seeds share none

# %% [markdown]
# ## 1. Boxes (10 min)
#
# Our scenes have 128 x 128 pixels. Each has up to four animals, 16 to 52 pixels long: cats, owls and frogs. Between them are triangles, rectangles and
# ellipses of the same fur, so that neither colour nor a sharp edge gives an animal away.

# %%
# extra code: how boxes are drawn
COLOURS = ["C0", "C1", "C2"]  # of the three kinds


def draw_boxes(ax, image, boxes, labels=None, scores=None, title="", **look):
    """A picture with boxes in the colours of their kinds (without labels: grey) and, where there are scores, name and score."""
    ax.imshow(to_picture(image))
    for k, (x1, y1, x2, y2) in enumerate((boxes - 0.5).tolist()):  # matplotlib's pixel 0 begins at -0.5
        colour = "white" if labels is None else COLOURS[labels[k]]
        ax.add_patch(plt.Rectangle((x1, y1), x2 - x1, y2 - y1, **({"fill": False, "edgecolor": colour, "linewidth": 2.5} | look)))
        if scores is not None:
            ax.text(x1, max(y1, 6), f"{CLASSES[labels[k]]} {scores[k]:.0%}", color="white", fontsize=12, va="bottom", bbox={"facecolor": colour, "edgecolor": colour, "pad": 1})
    ax.set_title(title, fontsize=14)
    ax.axis("off")

# %%
train_images, train_truth = draw_scenes(1200, seed=first_seed)
val_images, val_truth = draw_scenes(200, seed=first_seed + 1)
test_images, test_truth = draw_scenes(300, seed=first_seed + 2)

# %%
# extra code: four scenes with their boxes
busy = [k for k, truth in enumerate(train_truth) if len(truth["boxes"]) > 2][:4]
fig, axes = plt.subplots(1, 4, figsize=(13, 3.5))
for ax, k in zip(axes, busy, strict=True):
    draw_boxes(ax, train_images[k], **train_truth[k], title=f"{len(train_truth[k]['boxes'])} animals")
for kind, colour in zip(CLASSES, COLOURS, strict=True):
    axes[0].plot([], [], color=colour, label=kind)
fig.legend(loc="outside right center")
show(fig, f"Four of {len(train_images)} scenes to train on, each animal in its box. The pieces of fur between them are not animals and have no box.")

# %% [markdown]
# A box is four numbers, in one of three formats. Ours are **corners**, $(x_1, y_1, x_2, y_2)$, with $y$ pointing down. The data set COCO uses corner and size,
# $(x, y, w, h)$. YOLO uses **centre and size**, $(c_x, c_y, w, h)$, as shares of the picture.

# %%
box = train_truth[busy[0]]["boxes"][:1]
for name in ("xyxy", "xywh", "cxcywh"):
    print(f"{name:7}", box_convert(box, "xyxy", name)[0].tolist())

# %% [markdown]
# Four numbers do not say which format they are in. A program that reads the wrong format raises no error; it learns nonsense. So draw some boxes before you train.
#
# ### How well do two boxes agree?
#
# We measure it by their **intersection over union**, as for masks in notebook 04:
#
# $$\text{IoU}(A, B) = \frac{|A \cap B|}{|A \cup B|}$$
#
# **Before you run it:** a detector finds a box of 40 x 40 pixels, but places it 10 pixels (a quarter of its side) too far to the right and 10 too low. What is the IoU? And what is it for a box of
# 20 x 20 with the same error?
#
# <details><summary>Answer</summary>
#
# It is lower than you might think. The boxes share $30 \cdot 30 = 900$ pixels, and their union has $1600 + 1600 - 900 = 2300$: 0.39. The small boxes share $10 \cdot 10$ of
# $400 + 400 - 100$: 0.14. The same error in pixels costs a small object more.
#
# </details>

# %%
large, small = torch.tensor([[0, 0, 40, 40]]), torch.tensor([[0, 0, 20, 20]])
of_large, of_small = (box_iou(box, box + 10).item() for box in (large, small))
fact(
    "Ten pixels off: an IoU of 0.39 for a box of 40 x 40, of 0.14 for one of 20 x 20",
    round(of_large, 2) == 0.39 and round(of_small, 2) == 0.14,
    f"{of_large:.4f} and {of_small:.4f}",
)

# %% [markdown]
# By convention, an object counts as found if a box has an IoU of **0.5** or more with it.

# %%
# extra code: one box shifted further and further
fig, axes = plt.subplots(1, 4, figsize=(13, 3.6))
image, truth = train_images[busy[0]], train_truth[busy[0]]["boxes"][:1]
side = (truth[0, 2:] - truth[0, :2]).repeat(2)
for ax, shift in zip(axes, (0.05, 0.15, 0.25, 0.5), strict=True):
    shifted = truth + shift * side
    draw_boxes(ax, image, torch.cat([truth, shifted]), torch.tensor([0, 1]), title=f"IoU {box_iou(truth, shifted).item():.2f}")
    ax.set(xlim=(truth[0, 0] - 25, truth[0, 2] + 35), ylim=(truth[0, 3] + 35, truth[0, 1] - 25))
show(fig, "A true box (blue) and the same box shifted to the right and down by 5, 15, 25 and 50 % of its sides (orange). A shift of 15 % already costs half of the IoU.")

# %% [markdown]
# **Exercise 1** (3 min): intersection over union. `a` and `b` are two boxes, four numbers each: $x_1, y_1, x_2, y_2$. Return their IoU, without `box_iou`. What if they do not overlap?
#
# Write your answer in place of the dots and run the cell: the check says what it expected and what it got. Stuck? Take away the `#` in
# the cell below it.


# %%
def iou(a, b):
    ...


exercises.iou.check(iou)

# %% slideshow={"slide_type": "skip"}
# exercises.iou.hint()
# exercises.iou.solution()

# %% [markdown]
# ## 2. Anchors (13 min)
#
# A network has a fixed number of outputs, but a scene may have none, one or four animals. So we turn the question round. At *every* position of a grid we ask the same: is
# there an object here, **of about this size and shape?** Such a reference box is an **anchor**.
#
# We take two grids. The fine one has a position every 8 pixels, with anchors 22 pixels long, for small animals. The coarse one has a position every 16 pixels, with anchors of 42.
# At each position there are three shapes of equal area: tall, square and wide.

# %% tags=["measure"]
strides, sides = (8, 16), (22, 42)  # pixels: between the places; of an anchor
shapes = (0.7, 1.0, 1.4)  # width / height


def make_anchors(stride, side):
    """All anchors of one grid, as corners: (places * shapes, 4)."""
    middle = torch.arange(stride / 2, SIDE, stride)
    y, x = torch.meshgrid(middle, middle, indexing="ij")
    centre = torch.stack([x, y], dim=-1).reshape(-1, 1, 2)
    half = side / 2 * torch.tensor([[shape**0.5, shape**-0.5] for shape in shapes])
    return torch.cat([centre - half, centre + half], dim=-1).reshape(-1, 4)


# %% tags=["measure"]
anchors = torch.cat([make_anchors(*grid) for grid in zip(strides, sides, strict=True)])

# %%
fact(
    "Two grids with three anchors at each position ask 960 questions about one scene",
    len(anchors) == 3 * (16 * 16 + 8 * 8) == 960,
    f"{len(anchors)} anchors",
)

# %%
# extra code: both grids, and the anchors of one position of each
def anchors_figure():
    fig, axes = plt.subplots(1, 2, figsize=(11, 5.4))
    first = 0
    for ax, stride, place in zip(axes, strides, (8 * 16 + 7, 4 * 8 + 3), strict=True):
        num = 3 * (SIDE // stride) ** 2
        here = anchors[first : first + num]
        draw_boxes(ax, train_images[busy[1]], here[3 * place : 3 * place + 3], torch.tensor([0, 1, 2]), title=f"every {stride} pixels: {num} anchors", linewidth=3)
        middle = (here[::3, :2] + here[::3, 2:]) / 2 - 0.5
        ax.plot(*middle.T, ".", color="white", markeredgecolor="black", markersize=7)
        ax.set(xlim=(-0.5, SIDE - 0.5), ylim=(SIDE - 0.5, -0.5))
        first += num
    return fig


show(anchors_figure(), "One scene twice, with the positions of the fine grid and of the coarse one as dots. At one position of each the three anchors are drawn: tall, square and wide. All other positions have the same three.")

# %% [markdown]
# ### Which anchor learns which box?
#
# The anchors that overlap it well. An anchor with an IoU of 0.5 or more learns the kind of that animal, and where its box is. An anchor below 0.4 learns *nothing here*. Those in between learn
# nothing at all, because either answer would be half wrong. And so that no animal is forgotten, its best anchor always learns it.

# %% tags=["measure"]
BACKGROUND, IGNORED = -1, -2


def assign(truth):
    """The kind that each anchor learns (960,), and the number of its box (960,)."""
    kind = torch.full((len(anchors),), BACKGROUND)
    if not len(truth["boxes"]):
        return kind, torch.zeros_like(kind)
    overlaps = box_iou(anchors, truth["boxes"])  # (anchors, boxes)
    best, which = overlaps.max(dim=1)
    of_each_box = overlaps.argmax(dim=0)
    which[of_each_box] = torch.arange(len(of_each_box))
    best[of_each_box] = 1.0
    kind[best >= 0.4] = IGNORED
    kind[best >= 0.5] = truth["labels"][which[best >= 0.5]]
    return kind, which


# %%
# extra code: the anchors that have something to learn in a scene
kind, which = assign(train_truth[busy[1]])
fig, axes = plt.subplots(1, 2, figsize=(11, 5.4))
draw_boxes(axes[0], train_images[busy[1]], anchors[kind >= 0], kind[kind >= 0], title=f"{(kind >= 0).sum()} of {len(anchors)} anchors learn an animal", linewidth=1.5)
draw_boxes(axes[1], train_images[busy[1]], anchors[kind == IGNORED], title=f"{(kind == IGNORED).sum()} are left out", linewidth=1)
show(fig, f"The same scene. Left the anchors that learn an animal, in the colours of their kinds. Right those in between. All others, {(kind == BACKGROUND).float().mean():.0%}, learn that nothing is there.")

# %% [markdown]
# **Before you run it:** over all scenes, what share of the anchors learns "nothing here"?
#
# <details><summary>Answer</summary>
#
# Nearly all: only a handful of the 960 anchors learn an animal, and in an empty scene none do. Section 6 asks what that does to the training.
#
# </details>

# %%
kinds, whiches = map(torch.stack, zip(*map(assign, train_truth), strict=True))
animals = sum(len(truth["boxes"]) for truth in train_truth)
nothing = (kinds == BACKGROUND).float().mean().item()
each = (kinds >= 0).sum().item() / animals
claim(
    "Over 97 % of the anchors are background; several anchors learn each animal",
    nothing > 0.97 and 2 < each < 12,
    f"{nothing:.1%} background; {each:.1f} anchors for each of {animals:,} animals",
)

# %% [markdown]
# ### Where exactly?
#
# An anchor with an animal also learns four numbers: how far to move its centre, in units of its own sides, and how much to stretch, as a logarithm. If $w_a, h_a$ are the sides of the anchor and
# $(x_a, y_a)$ is its centre,
#
# $$t = \left(\frac{x - x_a}{w_a},\; \frac{y - y_a}{h_a},\; \log \frac{w}{w_a},\; \log \frac{h}{h_a}\right)$$
#
# All four are near zero for an anchor that fits, whether it is large or small. So one layer can serve all positions. (Below, `kind` and `which` are what `assign` gave for the scene above.)


# %% tags=["measure"]
def encode(boxes, anchors):
    """Corners to offsets from the anchors."""
    x, a = (box_convert(b, "xyxy", "cxcywh") for b in (boxes, anchors))
    moved = (x[:, :2] - a[:, :2]) / a[:, 2:]
    return torch.cat([moved, (x[:, 2:] / a[:, 2:]).log()], dim=1)


def decode(offsets, anchors):
    """Offsets from the anchors back to corners."""
    a = box_convert(anchors, "xyxy", "cxcywh")
    centre = a[:, :2] + offsets[:, :2] * a[:, 2:]
    size = a[:, 2:] * offsets[:, 2:].clamp(max=2).exp()
    return box_convert(torch.cat([centre, size], dim=1), "cxcywh", "xyxy")


# %%
of_scene = train_truth[busy[1]]["boxes"][which[kind >= 0]]
there = anchors[kind >= 0]
back = decode(encode(of_scene, there), there)
fact(
    "Decoding undoes encoding",
    torch.allclose(back, of_scene, atol=1e-3),
    f"{len(there)} anchors, to {(back - of_scene).abs().max():.0e} pixels",
)

# %% [markdown]
# **Exercise 2** (3 min): boxes that no anchor learns. `overlaps` (anchors, boxes) is the IoU of each anchor with each box. Without the last rule, that the best anchor
# always learns its box, some boxes would have no anchor at 0.5 or more. Return True for those and False for the others: (boxes,).


# %%
def orphans(overlaps):
    ...


exercises.orphans.check(orphans)

# %% slideshow={"slide_type": "skip"}
# exercises.orphans.hint()
# exercises.orphans.solution()

# %% [markdown]
# ## 3. A detector of one stage (15 min)
#
# A **backbone** computes features: convolutions down to the fine grid, and two more down to the coarse one. **Heads**, of one convolution each, turn the features of a position
# into numbers for its three anchors: a score for each kind of animal, and four offsets. That is all. After one pass over the picture, every anchor has its answer. (`heads` and `answers`, in the next cell, make these last layers, and put
# their numbers into the anchors' order.)


# %% tags=["measure"]
class Detector(nn.Module):
    def __init__(self, prior=0.01):
        super().__init__()
        layer = Conv2dNormActivation  # convolution, batch normalisation, ReLU
        widths = [(3, 16), (16, 32), (32, 64)]
        down = [layer(i, o, stride=2) for i, o in widths]
        self.fine = nn.Sequential(*down, layer(64, 64))
        self.coarse = nn.Sequential(layer(64, 64, stride=2), layer(64, 64))
        self.scores, self.offsets = heads(len(CLASSES)), heads(4)
        for head in self.scores:  # a small score for everything to begin with
            nn.init.constant_(head.bias, math.log(prior / (1 - prior)))

    def forward(self, images):
        fine = self.fine(images)
        grids = fine, self.coarse(fine)
        return answers(self.scores, grids), answers(self.offsets, grids)


# %% tags=["measure"]
def heads(numbers):
    """One convolution per grid, which gives this many numbers for each anchor."""
    made = [nn.Conv2d(64, len(shapes) * numbers, 3, padding=1) for _ in strides]
    for head in made:
        nn.init.normal_(head.weight, std=0.01)
        nn.init.zeros_(head.bias)
    return nn.ModuleList(made)


def answers(heads, grids):
    """(N, anchors, numbers), in the order of the anchors."""
    pairs = zip(heads, grids, strict=True)
    maps = [head(grid).permute(0, 2, 3, 1) for head, grid in pairs]
    numbers = heads[0].out_channels // len(shapes)
    return torch.cat([m.reshape(len(m), -1, numbers) for m in maps], dim=1)


def prepare(images):
    """From -1 to 1; in the order in memory that CPUs convolve twice as fast."""
    return (images.float() / 127.5 - 1).to(memory_format=torch.channels_last)


# %%
torch.manual_seed(first_seed)
model = Detector()
scores, offsets = model(prepare(train_images[:2]))
fact(
    "Each of 960 anchors gets three scores and four offsets",
    scores.shape == (2, 960, 3) and offsets.shape == (2, 960, 4),
    f"{tuple(scores.shape)}, {tuple(offsets.shape)}; {num_parameters(model):,} weights",
)

# %% [markdown]
# ### The loss
#
# Each score answers a yes-or-no question (binary cross-entropy), which we ask of every anchor that is not left out. For 99 of 100 anchors the answer is no. To keep these from drowning the
# rest, the **focal loss** (Lin et al. 2017) weights each answer by how wrong it is. With $p$ the probability given to the right answer,
#
# $$\text{focal} = -(1 - p)^{\gamma} \log p$$
#
# With $\gamma = 2$, a background anchor that is right with $p = 0.99$ counts 10,000 times less: $\gamma$ says how strongly. $\gamma = 0$ is cross-entropy. Section 6 measures what the focal loss is worth here. Offsets
# are trained with the smooth L1 loss (squared near zero, linear beyond), only where there is an animal. `targets` is `assign` and `encode` of section 2, for all scenes.


# %% tags=["measure"]
def score_loss(logits, wanted, gamma=2.0):
    plain = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return (wanted - logits.sigmoid()).abs() ** gamma * plain


def detector_loss(outputs, kinds, offsets, gamma):
    """The sum over the anchors, divided by the number of those with an animal."""
    scores, moved = outputs
    there, asked = kinds >= 0, kinds != IGNORED
    wanted = F.one_hot(kinds.clamp(min=0), len(CLASSES)) * there[..., None]
    of_scores = score_loss(scores, wanted.float(), gamma)[asked].sum()
    of_boxes = F.smooth_l1_loss(moved[there], offsets[there], reduction="sum", beta=0.1)
    return (of_scores + of_boxes) / there.sum().clamp(min=1)


# %% tags=["measure"]
def targets(truths):
    """What the anchors of all scenes learn: kinds (N, 960), offsets (N, 960, 4)."""
    kinds, whiches = map(torch.stack, zip(*map(assign, truths), strict=True))
    offsets = torch.zeros(*kinds.shape, 4)
    for k, truth in enumerate(truths):
        there = kinds[k] >= 0
        offsets[k, there] = encode(truth["boxes"][whiches[k, there]], anchors[there])
    return kinds, offsets


def mirrored(images, truths):
    """The scenes and, behind them, their mirror images."""
    flipped = [truth | {"boxes": mirror(truth["boxes"])} for truth in truths]
    return torch.cat([images, images.flip(3)]), truths + flipped


def mirror(boxes):
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    return torch.stack([SIDE - x2, y1, SIDE - x1, y2], dim=1)


# %% tags=["measure"]
def train(model, images, truths, steps, lr=4e-3, gamma=2.0, batch_size=16):
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    kinds, offsets = targets(truths)
    batches, losses = [], []
    model.train()
    for _ in tqdm(range(steps), desc="training", leave=False):
        batches = batches or list(torch.randperm(len(images)).split(batch_size))
        batch = batches.pop()
        outputs = model(prepare(images[batch]))
        loss = detector_loss(outputs, kinds[batch], offsets[batch], gamma)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=10)
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return losses


# %% [markdown]
# ### First test: a handful by heart
#
# In a detector there are many ways to make a mistake: formats, anchors, targets, signs. So before the long training we run a test that every implementation should pass. Can it learn eight
# scenes by heart? (`candidates` gives all answers above a score. An anchor with two scores above it gives two.)


# %% tags=["measure"]
@torch.no_grad()
def candidates(model, images, score=0.05):
    """For each scene all answers above a score: {"boxes", "labels", "scores"}."""
    model.eval()
    found = []
    for part in images.split(50):
        for scores, moved in zip(*model(prepare(part)), strict=True):
            anchor, label = (scores.sigmoid() > score).nonzero().unbind(dim=1)
            boxes = decode(moved[anchor], anchors[anchor]).clamp(0, SIDE)
            sure = scores.sigmoid()[anchor, label]
            found.append({"boxes": boxes, "labels": label, "scores": sure})
    return found


def best_iou(found, truth):
    """For each animal the best IoU of a box that has its kind, (K,)."""
    same_kind = truth["labels"][:, None] == found["labels"]
    overlaps = box_iou(truth["boxes"], found["boxes"]) * same_kind
    return F.pad(overlaps, (1, 0)).max(dim=1).values  # 0 where there is no box


# %%
few = [k for k, truth in enumerate(train_truth) if len(truth["boxes"])][:8]
eight = train_images[few], [train_truth[k] for k in few]
torch.manual_seed(first_seed)
model = Detector()
losses = train(model, *eight, steps=150, batch_size=8)
by_heart = candidates(model, eight[0], score=0.5)
overlaps = torch.cat(list(map(best_iou, by_heart, eight[1])))

# %%
claim(
    "The detector can learn eight scenes by heart: it finds all their animals",
    overlaps.min() > 0.8 and losses[-1] < 0.05,
    f"{len(overlaps)} animals, the worst with an IoU of {overlaps.min():.2f};"
    f" the loss fell from {losses[0]:.1f} to {losses[-1]:.3f}",
)

# %% [markdown]
# This says nothing about new scenes. It says that formats, anchors, targets and loss fit together.
#
# ### Now in earnest
#
# We train on the scenes and their mirror images, which cost nothing: a mirrored scene has mirrored boxes.

# %%
torch.manual_seed(first_seed)
model = Detector()
scenes = mirrored(train_images, train_truth)
losses = train(model, *scenes, steps=1000, lr=6e-3)
first, last = np.mean(losses[:10]), np.mean(losses[-10:])
print(f"loss of the first ten steps {first:.1f}, of the last {last:.2f}")

# %%
# extra code: all answers above 30 % for one new scene
new = next(k for k, truth in enumerate(test_truth) if len(truth["boxes"]) == 3)
cloud = candidates(model, test_images[new : new + 1], score=0.3)[0]
fig, axes = plt.subplots(1, 2, figsize=(11, 5.4))
draw_boxes(axes[0], test_images[new], **test_truth[new], title=f"a new scene: {len(test_truth[new]['boxes'])} animals")
draw_boxes(axes[1], test_images[new], cloud["boxes"], cloud["labels"], title=f"{len(cloud['boxes'])} answers above 30 %", linewidth=1.5)
show(fig, "Left a scene that the network has not seen, with its true boxes. Right all boxes to which it gives more than 30 %: several anchors have found the same animal.")

# %% [markdown]
# Neighbouring anchors have learned the same animal, so they also find the same animal. The next section keeps one box for each.
#
# **Exercise 3** (3 min): how many outputs? RetinaNet (Lin et al. 2017) takes a picture of, say, 640 x 640 pixels. It has five grids, with strides of 8, 16, 32, 64 and 128, and nine
# anchors at each position. It knows the 80 classes of COCO, with a sigmoid for each, as we do. How many numbers does it compute for the picture? Write a number, or a formula in Python.

# %%
number = ...
exercises.num_outputs.check(number)

# %% slideshow={"slide_type": "skip"}
# exercises.num_outputs.hint()
# exercises.num_outputs.solution()

# %% [markdown]
# ## 4. From answers to detections (20 min)
#
# ### One box for each animal
#
# **Non-maximum suppression** (NMS): take the box with the highest score; remove all boxes of its kind that overlap it by more than a threshold; take the best of the rest; and so on.
# `batched_nms` does that for each kind separately.


# %% tags=["measure"]
def suppressed(found, overlap=0.5):
    places = found["boxes"], found["scores"], found["labels"]
    kept = batched_nms(*places, overlap)
    return {name: values[kept] for name, values in found.items()}


def detect(model, images, score=0.05, overlap=0.5):
    return [suppressed(found, overlap) for found in candidates(model, images, score)]


# %% [markdown]
# What does NMS cost? It cannot know whether two boxes belong to one animal or to two. So we also draw **crowded** scenes, in which animals of one kind come in overlapping pairs.
# A box between two animals must not count for both: each box counts for the one animal that it fits best.

# %%
crowd = {"animals": 4, "crowded": True}
crowded_images, crowded_truth = draw_scenes(150, first_seed + 3, **crowd)
empty_images, _ = draw_scenes(200, first_seed + 4, animals=0)

# %%
# extra code: four crowded scenes with their boxes
fig, axes = plt.subplots(1, 4, figsize=(12, 3.3))
for ax, image, truth in zip(axes, crowded_images, crowded_truth, strict=False):
    draw_boxes(ax, image, **truth, title=f"{len(truth['boxes'])} animals", linewidth=2)
show(fig, "Four crowded scenes, each with two pairs of one kind. The boxes of a pair have an IoU of 0.3 to 0.5.")

# %% [markdown]
# **Before you run it:** which animals lose their box through NMS, in ordinary scenes and in crowded ones? And is the box with the highest score the one that fits best?
#
# <details><summary>Answer</summary>
#
# In crowded scenes, the animal of a pair with the lower score, if the two boxes overlap by more than the threshold. The box with the highest score fits better than
# a random one, but it is not always the one that fits best.
#
# </details>

# %%
truths = {"ordinary": test_truth, "crowded": crowded_truth}
clouds = {
    "ordinary": candidates(model, test_images, score=0.3),
    "crowded": candidates(model, crowded_images, score=0.3),
}


def own_box(found, truth):
    """For each animal (K,): does a box fit it, and no other animal better?"""
    same_kind = truth["labels"][:, None] == found["labels"]
    overlaps = box_iou(truth["boxes"], found["boxes"]) * same_kind
    overlaps = F.pad(overlaps, (1, 0, 1, 0))  # for scenes without animals or boxes
    best = overlaps == overlaps.amax(dim=0)
    return (best & (overlaps >= 0.5)).any(dim=1)[1:]


# %%
overlap_choices = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)  # 1.0: none is removed


def after_nms(name, overlap):
    """Share of animals with a box of their own, boxes for each animal."""
    kept = [suppressed(found, overlap) for found in clouds[name]]
    found_it = torch.cat(list(map(own_box, kept, truths[name])))
    boxes = sum(len(found["boxes"]) for found in kept) / len(found_it)
    return found_it.float().mean().item(), boxes


# %%
cost = {name: {o: after_nms(name, o) for o in overlap_choices} for name in truths}
for name, row in cost.items():
    for o in (1.0, 0.5, 0.3):
        found, boxes = row[o]
        print(f"{name}, NMS at {o}: {found:.1%} found, {boxes:.2f} boxes per animal")

# %%
# extra code: animals found and boxes for each animal, against the threshold of NMS
def cost_figure():
    fig, axes = plt.subplots(1, 2, figsize=(11, 4.4))
    for ax, part, ylabel in zip(axes, (0, 1), ("animals found", "boxes for each animal"), strict=True):
        lines = {name: [row[o][part] for o in overlap_choices] for name, row in cost.items()}
        curves(ax, lines, "overlap above which NMS removes a box", ylabel, "", x=overlap_choices)
    axes[0].yaxis.set_major_formatter(plt.matplotlib.ticker.PercentFormatter(1, decimals=0))
    axes[0].set_title("In a crowd NMS removes animals")
    axes[1].set_title("Without NMS, each animal has several boxes")
    axes[1].set_ylim(0)
    return fig


show(cost_figure(), "Left the share of animals that are found, right the number of boxes for each animal, against the threshold of NMS; at 1 nothing is removed. Ordinary and crowded scenes, score above 30 %.")

# %%
lost = {name: row[1.0][0] - row[0.3][0] for name, row in cost.items()}
same = f"one network, {len(test_images)} + {len(crowded_images)} scenes, score of 0.3"
claim(
    "NMS at 0.3 removes real animals, too, and far more of them in crowds",
    lost["crowded"] > 0.15 and lost["crowded"] > 3 * lost["ordinary"],
    f"{lost['ordinary']:.1%} of the animals in ordinary scenes,"
    f" {lost['crowded']:.1%} in crowded ones",
    same=same + "; a box counts for one animal",
)


# %%
def three_fits(found, truth):
    """IoU with each animal: of its best box, of the one NMS keeps, the mean of all."""
    same_kind = truth["labels"][:, None] == found["labels"]
    overlaps = box_iou(truth["boxes"], found["boxes"]) * same_kind
    there = overlaps >= 0.5
    mean = (overlaps * there).sum(dim=1) / there.sum(dim=1).clamp(min=1)
    kept = best_iou(suppressed(found), truth)
    return torch.stack([best_iou(found, truth), kept, mean], dim=1)[kept >= 0.5]


# %%
fits = torch.cat(list(map(three_fits, clouds["ordinary"], test_truth)))
best_box, kept_box, any_box = fits.mean(dim=0).tolist()
claim(
    "NMS keeps a box that fits better than a random one, though not the best one",
    any_box + 0.01 < kept_box < best_box - 0.01,
    f"mean IoU {any_box:.3f} of all boxes, {kept_box:.3f} of those NMS keeps,"
    f" {best_box:.3f} of the best",
    same=f"{len(fits)} animals in {len(test_images)} ordinary scenes; NMS at 0.5",
)

# %% [markdown]
# ### Right or wrong?
#
# Go through the detections of a scene, highest score first. A detection is **right** if it overlaps an animal of its kind by 0.5 or more, and no earlier one has found that animal. All
# others are **false alarms**. Then
#
# $$\text{recall} = \frac{\text{right ones}}{\text{animals}}, \qquad \text{precision} = \frac{\text{right ones}}{\text{detections}}.$$


# %% tags=["measure"]
def judge(found, truth, at=0.5):
    """Right (True) or a false alarm, for each detection; the surest come first."""
    same_kind = found["labels"][:, None] == truth["labels"]
    overlaps = box_iou(found["boxes"], truth["boxes"]) * same_kind
    right = torch.zeros(len(overlaps), dtype=torch.bool)
    for k, row in enumerate(overlaps):
        if len(row) and row.max() >= at:
            right[k] = True
            overlaps[:, row.argmax()] = 0  # this animal is taken
    return right


# %%
def recall_and_precision(found, truths):
    right = sum(judge(*pair).sum().item() for pair in zip(found, truths, strict=True))
    detections = sum(len(one["boxes"]) for one in found)
    animals = sum(len(truth["boxes"]) for truth in truths)
    return right / animals, right / max(1, detections)


# %% [markdown]
# Both depend on the score that we ask for. We choose this threshold on the **validation scenes**, where the F1 score, the harmonic mean of recall and precision, is highest.

# %%
def above(found, score):
    return [{k: v[one["scores"] > score] for k, v in one.items()} for one in found]


thresholds = torch.arange(0.1, 0.95, 0.05)
val_found = detect(model, val_images)
val = torch.tensor([
    recall_and_precision(above(val_found, score), val_truth)
    for score in thresholds.tolist()
])  # fmt: skip
f1 = 2 * val.prod(dim=1) / val.sum(dim=1)
threshold = thresholds[f1.argmax()].item()

# %%
# extra code: recall and precision against the threshold
fig, ax = plt.subplots(figsize=(9, 4.4))
curves(ax, {"recall": val[:, 0], "precision": val[:, 1], "F1": f1}, "score threshold", "", f"Best threshold on the validation scenes: {threshold:.2f}", x=thresholds)
ax.axvline(threshold, color="gray", linestyle=":")
ax.yaxis.set_major_formatter(plt.matplotlib.ticker.PercentFormatter(1))
show(fig, f"Recall, precision and F1 of {len(val_images)} validation scenes against the score threshold. A higher threshold gives fewer false alarms and misses more animals.")

# %% [markdown]
# Now we use the test scenes, once, and scenes with only pieces of fur.

# %%
test_found = detect(model, test_images)
recall, precision = recall_and_precision(above(test_found, threshold), test_truth)
alarms = [len(found["boxes"]) for found in detect(model, empty_images, threshold)]
quiet = np.mean([number == 0 for number in alarms])
claim(
    "The detector finds over 70 % of the animals, over 70 % of its boxes are right, and"
    " over 90 % of the scenes without an animal stay without a box",
    recall > 0.7 and precision > 0.7 and quiet > 0.9,
    f"recall {recall:.1%}, precision {precision:.1%};"
    f" no false alarm in {quiet:.0%} of {len(empty_images)} empty scenes",
)

# %% [markdown]
# ### Explore
#
# Choose two thresholds and a scene: the first three are ordinary, the next three crowded. Watch a pair when the overlap gets small, and the pieces of fur when the score gets small.

# %%
# extra code: a scene with what is left at a score and an overlap
shown = [(test_images[k], test_truth[k]) for k in range(len(test_truth)) if len(test_truth[k]["boxes"]) > 2][:3]
shown += list(zip(crowded_images[:3], crowded_truth[:3], strict=True))


def draw_detections(score=0.4, overlap=0.5, scene=1):
    image, truth = shown[scene - 1]
    found = detect(model, image[None], score, overlap)[0]
    right = judge(found, truth)
    fig, ax = plt.subplots(figsize=(7.4, 7.4))
    missed, false = len(truth["boxes"]) - right.sum().item(), (~right).sum().item()
    draw_boxes(ax, image, **found, title=f"{right.sum()} of {len(truth['boxes'])} animals found, {false} false alarm{'s' * (false != 1)}")
    for x1, y1, x2, y2 in (truth["boxes"] - 0.5).tolist():
        ax.add_patch(plt.Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor="white", linestyle=":", linewidth=2))
    return fig, f"Scene {scene} at a score of {score} and an overlap of {overlap}: {right.sum()} of {len(truth['boxes'])} animals found, {missed} missed, {false} false alarms. Dotted: the true boxes."


explore(draw_detections, score=[0.4, 0.1, 0.2, 0.3, 0.5, 0.6, 0.8], overlap=[0.5, 0.2, 0.3, 0.7, 1.0], scene=range(1, 7),
        site={"score": [0.4, 0.1, 0.2, 0.6], "overlap": [0.5, 0.2, 0.3, 1.0], "scene": range(1, 7)})  # fmt: skip

# %% [markdown]
# ### One number: average precision
#
# To compare detectors without choosing a threshold, let it fall from 1 to 0. Recall grows, and precision mostly falls. The area under the curve of precision against recall is the **average
# precision** (AP). The curve is a zigzag (figure below), which is smoothed first: at each recall we take the best precision at this recall or a higher one.


# %% tags=["measure"]
def average_precision(right, num_animals):
    """right (K,): the detections of all scenes, the surest first."""
    hits = right.float().cumsum(dim=0)
    recall, precision = hits / num_animals, hits / torch.arange(1, len(hits) + 1)
    ironed = precision.flip(0).cummax(dim=0).values.flip(0)
    return (recall.diff(prepend=torch.zeros(1)) * ironed).sum().item()


# %% tags=["measure"]
def of_kind(found, label):
    return [{k: v[one["labels"] == label] for k, v in one.items()} for one in found]


def mean_ap(found, truths, at=0.5):
    """The mean over the kinds of their average precision."""
    each = []
    for label in range(len(CLASSES)):
        guesses, wanted = of_kind(found, label), of_kind(truths, label)
        pairs = zip(guesses, wanted, strict=True)
        right = torch.cat([judge(*pair, at) for pair in pairs])
        order = torch.cat([one["scores"] for one in guesses]).argsort(descending=True)
        num_animals = sum(len(truth["boxes"]) for truth in wanted)
        each.append(average_precision(right[order], num_animals))
    return sum(each) / len(each)


# %% [markdown]
# The mean over the classes is the **mAP**. An older contest, Pascal VOC, asked for an IoU of 0.5. COCO also takes the mean over ten IoU thresholds, 0.50, 0.55 ... 0.95, so a box has to *fit*. (Do not
# compare our numbers with those of COCO itself: its pictures are photos with 80 kinds of objects, ours are drawings with three.)
#
# **Before you run it:** will COCO's number be a little lower than the one at 0.5, or a lot?
#
# <details><summary>Answer</summary>
#
# A lot: about half. At 0.9, a box of 30 pixels may be off by only about one pixel, and the fine grid of this detector has only one position every 8 pixels.
#
# </details>

# %%
levels = [k / 100 for k in range(50, 100, 5)]
at_level = [mean_ap(test_found, test_truth, at) for at in levels]
coco = sum(at_level) / len(at_level)
claim(
    "COCO's mAP is far below the mAP at 0.5: it asks how well the boxes fit",
    coco < 0.75 * at_level[0] and at_level[-1] < 0.2,
    f"{at_level[0]:.1%} at an IoU of 0.5, {at_level[5]:.1%} at 0.75,"
    f" {at_level[-1]:.1%} at 0.95; mean {coco:.1%}",
)

# %%
# extra code: precision against recall for the three kinds, and mAP against the IoU threshold
def ap_figure():
    fig, axes = plt.subplots(1, 2, figsize=(11, 4.6))
    for label, kind in enumerate(CLASSES):
        guesses, wanted = of_kind(test_found, label), of_kind(test_truth, label)
        right = torch.cat(list(map(judge, guesses, wanted)))
        right = right[torch.cat([one["scores"] for one in guesses]).argsort(descending=True)].float().cumsum(0)
        num = sum(len(truth["boxes"]) for truth in wanted)
        axes[0].plot(right / num, right / torch.arange(1, len(right) + 1), color=COLOURS[label], label=kind)
    axes[0].legend(loc="lower left")
    axes[0].set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.04), title=f"mAP at 0.5 is {at_level[0]:.0%} ...")
    curves(axes[1], {"": at_level}, "IoU threshold", "mAP", f"... COCO's mean is {coco:.0%}", x=levels)
    axes[1].axhline(coco, color="gray", linestyle=":")
    axes[1].set_ylim(0, 1.04)
    return fig


show(ap_figure(), "Left: precision against recall for cats, owls and frogs in the test scenes, while the score threshold falls. Right: the mean of the three areas against the IoU threshold; dotted: the mean of the ten.")

# %% [markdown] slideshow={"slide_type": "notes"}
# There are two small differences from COCO's own program: it reads the curve at 101 values of recall, and it allows 100 detections per picture. Both move the number by less than a point
# here. Precision at a
# recall that is never reached counts as zero, so mAP can never exceed the recall at the lowest score.

# %% [markdown]
# **Exercise 4** (3 min): a threshold for few false alarms. A farm has a camera, and every false alarm costs a walk. `thresholds`, `precision` and `recall` are tensors (K,), measured on
# validation pictures. Among the thresholds whose precision is `at_least` or more, return the one with the highest recall.


# %%
def best_threshold(thresholds, precision, recall, at_least):
    ...


exercises.best_threshold.check(best_threshold)

# %% slideshow={"slide_type": "skip"}
# exercises.best_threshold.hint()
# exercises.best_threshold.solution()

# %% [markdown]
# ## 5. The family (11 min)
#
# Our detector has **one stage**. The detectors that first worked well had **two**: first *where could something be?* (**region proposals**), then, for each region, *what is it, and where exactly?* Their
# history follows one question: **what can be computed once for the whole picture, and what has to be computed again for each region?**

# %%
# extra code: the family tree, with what each computes once and what for each region
FAMILY = [  # name, year, generations from its root, once for the picture, how often, for each region, seconds a picture
    ("R-CNN", 2014, 0, ["regions by rules"], "2,000 x", ["crop", "convolutions", "dense layers"], "47"),
    ("Fast R-CNN", 2015, 1, ["regions by rules", "convolutions"], "2,000 x", ["RoI pooling", "dense layers"], "0.3 + rules 2"),
    ("Faster R-CNN", 2015, 2, ["convolutions", "regions by a network"], "300 x", ["RoI pooling", "dense layers"], "0.2"),
    ("R-FCN", 2016, 3, ["convolutions", "regions by a network", "score maps"], "300 x", ["pool", "vote"], "0.17"),
    ("Mask R-CNN", 2017, 3, ["convolutions", "regions by a network"], "1,000 x", ["RoIAlign", "dense layers", "mask"], "0.2"),
    ("YOLO", 2016, 0, ["convolutions", "7 x 7 cells, no anchors"], "", [], "0.02"),
    ("YOLOv2", 2017, 1, ["convolutions", "13 x 13 cells, 5 anchors"], "", [], "0.015"),
    ("YOLOv3", 2018, 2, ["convolutions", "path up", "3 grids, 3 anchors"], "", [], "0.02 to 0.05"),
    ("SSD", 2016, 0, ["convolutions", "6 grids, 4 or 6 anchors"], "", [], "0.02"),
    ("RetinaNet", 2017, 1, ["convolutions", "path up", "5 grids, 9 anchors"], "", [], "0.1 to 0.2"),
]
PARENTS = {1: 0, 2: 1, 3: 2, 4: 2, 6: 5, 7: 6, 9: 8}


def chips(ax, x, y, texts, colour):
    """Boxes with words, one behind the other."""
    for text in texts:
        width = 0.135 * len(text) + 0.3
        ax.add_patch(plt.Rectangle((x, y - 0.34), width, 0.68, facecolor=colour, alpha=0.6 if text == "convolutions" else 0.25, edgecolor="none"))
        ax.text(x + width / 2, y, text, ha="center", va="center", fontsize=12.5)
        x += width + 0.12


def family_figure():
    fig, ax = plt.subplots(figsize=(16, 8))
    rows = [0, 1, 2, 3, 4, 5.7, 6.7, 7.7, 8.7, 9.7]
    for k, (name, year, level, once, times, each, seconds) in enumerate(FAMILY):
        ax.text(0.4 * level, rows[k], name, fontweight="bold", va="center")
        ax.text(3.2, rows[k], year, va="center", fontsize=13)
        chips(ax, 4.1, rows[k], once, "C0")
        ax.text(11.3, rows[k], times, va="center", fontsize=13, fontweight="bold", color="C1")
        chips(ax, 12.4, rows[k], each, "C1")
        ax.text(18.1, rows[k], seconds, va="center", fontsize=12.5)
        if k in PARENTS:
            x, top = 0.4 * level - 0.25, rows[PARENTS[k]] + 0.32
            ax.plot([x, x, x + 0.18], [top, rows[k], rows[k]], color="gray", linewidth=1.5)
    for x, text, colour in ((0, "two stages", "gray"), (4.1, "once for the picture", "C0"), (11.3, "again for each region", "C1"), (18.1, "seconds", "black")):
        ax.text(x, -0.9, text, fontweight="bold", color=colour)
    ax.text(0, 4.85, "one stage", fontweight="bold", color="gray")
    ax.text(11.3, 7.7, "nothing", color="C1", va="center")
    ax.text(0, 11, "Detectron2", fontweight="bold", va="center")
    ax.text(3.2, 11, 2019, va="center", fontsize=13)
    ax.text(4.1, 11, "not a detector but a library: Faster and Mask R-CNN, RetinaNet and others in PyTorch, with weights", va="center", fontsize=13)
    ax.set(xlim=(-0.1, 20.4), ylim=(11.5, -1.3), title="Detectors: from 2,000 computations per picture to one")
    ax.axis("off")
    return fig


show(family_figure(), "Ten detectors as a family tree, those with two stages above those with one. Blue: what each computes once for the picture. Orange: what it computes again for each region. At the right the seconds for a picture "
     "as the papers give them, each on a GPU of its time: compare the powers of ten only.")  # fmt: skip

# %% [markdown]
# - **R-CNN** (Girshick et al. 2014): 2,000 regions by hand-made rules (selective search), each warped to a fixed size and sent through a whole network.
# - **Fast R-CNN** (Girshick 2015): the convolutions see the picture once. **RoI pooling** cuts each region out of their *features*, at 7 x 7 positions.
# - **Faster R-CNN** (Ren et al. 2015): the regions come from a small network on the same features, the **region proposal network**. It is our detector with one kind, *something*. This paper
#   introduced anchors.
# - **R-FCN** (Dai et al. 2016): even the last layers run once. They give maps such as "upper left corner of a cat". For each region, its nine parts are pooled from their own maps, and then they vote.
# - **Mask R-CNN** (He et al. 2017): Faster R-CNN with a mask for each box, and **RoIAlign**, which cuts regions out without rounding to whole positions.
# - **YOLO** (Redmon et al. 2016): one pass, 7 x 7 cells, no anchors. Version 2 adopted anchors, version 3 several grids.
# - **SSD** (Liu et al. 2016): one pass, and anchors on six grids of a shrinking backbone. **RetinaNet** (Lin et al. 2017) adds a path back up, so that fine grids know the context, and the
#   focal loss. Our detector belongs to this branch.
# - **Detectron2** (Wu et al. 2019) is the code library of the lab that Mask R-CNN and RetinaNet come from.
#
# ### Once, on our own network
#
# The features of the test scene above are computed once. Each region, whatever its size, is then cut out of them at 7 x 7 positions.

# %%
regions = test_truth[new]["boxes"]
with torch.no_grad():
    features = model.fine(prepare(test_images[new : new + 1]))  # once
cut = torchvision.ops.roi_align(features, [regions], output_size=7, spatial_scale=1 / 8)
print(tuple(features.shape), "for the scene,", tuple(cut.shape), "for its regions")

# %% [markdown]
# **Before you run it:** R-CNN would send each region through the network separately, say as 64 x 64 pixels. Compared with one pass over the scene, how many times as many multiplications do
# 2,000 regions need?
#
# <details><summary>Answer</summary>
#
# 500 times: a crop has a quarter of the pixels of the scene, and there are 2,000 crops.
#
# </details>

# %%
once = count_macs(model.fine, 1, 3, SIDE, SIDE)
crops = 2000 * count_macs(model.fine, 1, 3, 64, 64)
fact(
    "2,000 crops cost 500 passes over the scene",
    crops == 500 * once,
    f"{crops / 1e9:.1f} against {once / 1e9:.3f} billion multiply-accumulates",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# The seconds are from the papers: R-CNN and Fast R-CNN with VGG-16 from table 4 of the Fast R-CNN paper; Faster R-CNN 198 ms, R-FCN 170 ms, Mask R-CNN 5 pictures a second; YOLO 45, YOLOv2
# 67, SSD300 59 pictures a second; RetinaNet 122 to 198 ms;
# YOLOv3 22 ms (320 pixels) to 51 ms (608). After this tree came detectors without anchors (FCOS 2019) and without NMS (DETR, Carion et al. 2020), which treat the boxes as a set that a
# transformer predicts. The terms stay the same: backbone, head, IoU, NMS, mAP.

# %% [markdown]
# **Exercise 5** (3 min): R-CNN against Fast R-CNN, with the numbers of VGG-16. Its convolutions cost 15.3 billion multiplications for one region of 224 x 224, and 183 billion for a whole
# picture of 600 x 1000. Its
# dense layers cost 0.12 billion for one region. There are 2,000 regions. How many times as many multiplications does R-CNN need? (Leave out the search for regions.)

# %%
ratio = ...
exercises.speed_up.check(ratio)

# %% slideshow={"slide_type": "skip"}
# exercises.speed_up.hint()
# exercises.speed_up.solution()

# %% [markdown]
# ## 6. Is it the focal loss? (15 min, optional)
#
# The usual story goes like this: 99 % of the anchors are background, and their losses add up and drown the few animals. Two-stage detectors do not suffer, because the first stage discards
# most background. The focal loss closed the gap. But the same paper has a second idea, a **prior**: the bias of the last layer starts so that every score is 0.01, not 0.5. Which of the two
# ideas matters?
#
# **Before you run it:** we keep the network, the scenes and the steps, and take for each loss and start the learning rate that is best on the validation scenes. How much does the mAP fall
# without the focal loss? And without the prior?
#
# <details><summary>Answer</summary>
#
# With the prior, both losses give about the same mAP. Without it, both lose more than ten points on average. On one of four seeds the focal loss makes up for the bad start, on the others it
# does not. After three times as many steps, either loss has recovered most of this.
#
# </details>

# %%
rows = measured("detection_losses")
ways = {"focal, prior": (2, 0.01), "cross-entropy, prior": (0, 0.01),
        "focal, no prior": (2, 0.5), "cross-entropy, no prior": (0, 0.5)}  # fmt: skip


def tried(name, steps, **asked):
    """The rows of a way, all rates and seeds."""
    gamma, prior = ways[name]
    asked |= {"gamma": gamma, "prior": prior, "steps": steps}
    return [row for row in rows if asked.items() <= row.items()]


def at_best(name, steps):
    """Test mAP of each seed, at the rate that is best on its validation scenes."""
    seeds = sorted({row["seed"] for row in tried(name, steps)})
    by_seed = [tried(name, steps, seed=seed) for seed in seeds]
    return np.array([max(some, key=lambda row: row["val"])["test"] for some in by_seed])


best = {name: {steps: at_best(name, steps) for steps in (300, 900)} for name in ways}
for name, found in best.items():
    means = [f"{found[steps].mean():.1f} % after {steps} steps" for steps in found]
    print(f"{name:24} mAP on test scenes", *means, sep="  ")

# %%
# extra code: mAP against the learning rate, a line for each way
fig, ax = plt.subplots(figsize=(9, 4.6))
ax.set(xscale="log", ylim=(25, 70))
for k, name in enumerate(ways):
    look = {"color": f"C{k % 2}", "linestyle": "-" if "no prior" not in name else "--"}
    rates = sorted({row["lr"] for row in tried(name, 300)})
    means = [np.mean([row["test"] for row in tried(name, 300, lr=lr)]) for lr in rates]
    ax.plot(rates, means, marker="o", label=name, **look)
    ax.plot([row["lr"] for row in tried(name, 300)], [row["test"] for row in tried(name, 300)], "o", color=f"C{k % 2}", alpha=0.3)
ax.legend(loc="lower right", fontsize=12)
ax.set_xticks(rates, [f"{lr:g}" for lr in rates])
ax.minorticks_off()
ax.set(xlabel="learning rate", ylabel="mAP at 0.5 (%)", title="After 300 steps, the prior matters, not the loss")
num_seeds = len(best["focal, prior"][300])
show(fig, f"mAP on new scenes against the learning rate, after 300 steps, for both losses (colours) with the prior (full lines) and without (broken lines). Pale dots: {num_seeds} seeds, measured earlier; lines: their means.")

# %% [markdown]
# Live, on other scenes, we train two detectors that differ only in the prior, at a rate of 0.006:

# %%
some = mirrored(train_images[:500], train_truth[:500])
live = {}
for name in ("cross-entropy, prior", "cross-entropy, no prior"):
    gamma, prior = ways[name]
    torch.manual_seed(first_seed)
    short = Detector(prior)
    train(short, *some, steps=300, lr=6e-3, gamma=gamma)
    live[name] = 100 * mean_ap(detect(short, test_images), test_truth)
    print(f"{name:24} mAP {live[name]:.1f} %")

# %%
with_prior, without = "cross-entropy, prior", "cross-entropy, no prior"
lead, later = (best[with_prior][steps] - best[without][steps] for steps in (300, 900))
claim(
    "Without the prior, cross-entropy is far behind at first, later by less than half",
    live[with_prior] > live[without] + 2
    and lead.min() > 2 and abs(later.mean()) < lead.mean() / 2,
    f"{lead.mean():.0f} points of mAP after 300 steps, {later.mean():.0f} after 900;"
    f" live, after 300, {live[with_prior] - live[without]:.0f}",
    same="500 scenes and their mirror images; rate chosen on validation scenes;"
    f" {len(lead)} seeds, {len(later)} for the longer training",
)  # fmt: skip

# %% [markdown]
# So the prior saves steps: the network need not spend them on learning that nearly everything is background. After three times as many steps, the four ways are within five points of each
# other, and the best is cross-entropy with the prior. Two seeds cannot rank them, but nothing here shows that the focal loss is needed. Three limits: after 900 steps the larger of two rates
# was the better one in every run, so a still larger one might change the order. We used $\gamma = 2$ without the paper's second weight, $\alpha = 0.25$ for the objects. And these scenes are
# easy: RetinaNet has 100,000 anchors per picture, not 960, and its paper reports a gain of about three points of COCO's mAP over weighted cross-entropy.

# %% [markdown]
# ## 7. Torchvision's detectors (12 min, optional)
#
# Each takes one line to build, and their published weights know the 80 kinds of objects of COCO.

# %%
names = [
    "fasterrcnn_resnet50_fpn", "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn", "maskrcnn_resnet50_fpn",
    "retinanet_resnet50_fpn", "fcos_resnet50_fpn", "ssd300_vgg16",
    "ssdlite320_mobilenet_v3_large",
]  # fmt: skip
fresh = {"weights": None, "weights_backbone": None}
weights_of, counted = {}, {}
for name in names:
    weights_of[name] = torchvision.models.get_model_weights(name).DEFAULT
    with torch.device("meta"):  # shapes and no numbers: to count takes no memory
        counted[name] = num_parameters(torchvision.models.get_model(name, **fresh))
more = [counted[name] - weights_of[name].meta["num_params"] for name in names]
fact(
    "Each has the number of parameters that torchvision states, to within 60,000",
    0 <= min(more) and max(more) < 60_000,
    f"{min(counted.values()) / 1e6:.1f} to {max(counted.values()) / 1e6:.1f} million",
)

# %% [markdown]
# (The difference is the batch normalisation of a backbone: with trained weights torchvision freezes it, and does not count it.)

# %%
# extra code: published mAP against multiply-accumulates
PLACED = {names[0]: (True, -8), names[3]: (True, 8), names[1]: (False, 8), names[2]: (False, 8), names[7]: (False, -6), names[4]: (False, -4)}


def zoo_figure():
    fig, ax = plt.subplots(figsize=(11, 5.6))
    for name in names:
        meta = weights_of[name].meta
        colour = "C0" if "rcnn" in name else "C1"
        x, y = meta["_ops"], meta["_metrics"]["COCO-val2017"]["box_map"]
        ax.scatter(x, y, s=12 * counted[name] / 1e6, color=colour, alpha=0.7)
        left, up = PLACED.get(name, (False, 0))
        ax.annotate(name.replace("_", " "), (x, y), xytext=(-12 if left else 12, up), textcoords="offset points", ha="right" if left else "left", va="center", fontsize=12, color=colour)
    ax.set(xscale="log", xlim=(0.3, 5000), ylim=(18, 42), xlabel="billion multiply-accumulates for a picture", ylabel="COCO mAP (%)")
    ax.annotate("two stages", (0.02, 0.94), xycoords="axes fraction", color="C0", fontweight="bold")
    ax.annotate("one stage", (0.02, 0.87), xycoords="axes fraction", color="C1", fontweight="bold")
    ax.set_title("With the same backbone and recipe, both kinds do about equally well")
    return fig


show(zoo_figure(), "Torchvision's detectors: COCO mAP as torchvision publishes it, against multiply-accumulates for a picture, on a logarithmic axis; the area is the number of parameters.")

# %% [markdown]
# (These are torchvision's first recipes. The newer weights of the same ResNet-50 detectors, `..._v2`, have 46.7 % for Faster R-CNN and 41.5 % for RetinaNet.)
#
# All take the same input: a list of pictures, as floats from 0 to 1 and of any size, and, for training, a list of dicts with `boxes` and `labels` (0 is the background here, so our kinds
# begin at 1). In training mode they return **losses**, in evaluation mode **detections**. Here they run with random weights, on two scenes:

# %%
pictures = [train_images[k] / 255 for k in busy[:2]]
wanted = [train_truth[k] | {"labels": train_truth[k]["labels"] + 1} for k in busy[:2]]
for one in wanted:  # Mask R-CNN asks for masks, too: here everything
    one["masks"] = torch.ones(len(one["boxes"]), SIDE, SIDE, dtype=torch.uint8)

# %%
tried = {"Faster R-CNN": names[2], "Mask R-CNN": names[3],
         "RetinaNet": names[4], "SSDlite": names[7]}  # fmt: skip
losses, detections = {}, {}
torch.manual_seed(first_seed)
for family, name in tqdm(tried.items(), leave=False):
    small = {} if family == "SSDlite" else {"min_size": SIDE, "max_size": SIDE}
    network = torchvision.models.get_model(name, **fresh, num_classes=4, **small)
    losses[family] = network(pictures, wanted)
    with torch.no_grad():
        detections[family] = network.eval()(pictures)[0]
    print(f"{family}: {', '.join(losses[family])};",
          "gives", ", ".join(detections[family]))  # fmt: skip

# %%
fact(
    "Two stages have two pairs of losses, and only Mask R-CNN gives masks",
    [len(losses[family]) for family in tried] == [4, 5, 2, 2]
    and [family for family in tried if "masks" in detections[family]] == ["Mask R-CNN"],
    ", ".join(f"{family} {len(terms)} terms" for family, terms in losses.items()),
)

# %% [markdown]
# The two stages have these terms: "is something there, and roughly where", then "what is it, and where exactly".
#
# ### What a region costs
#
# We time two detectors with the same backbone (MobileNetV3) on pictures of 320 x 320. SSDlite has one stage. Faster R-CNN has two, and we give it 10, 100 or 1,000 regions. With random
# weights nothing reaches a score of 0.5, so we time only the networks, not the steps after them.
#
# **Before you run it:** does the time grow in proportion to the number of regions, as 1 : 10 : 100?
#
# <details><summary>Answer</summary>
#
# No: the backbone runs once, and with 10 regions it takes nearly all the time. With 1,000 regions the dense layers take nearly all the time.
#
# </details>


# %%
def faster(regions):
    options = {"rpn_pre_nms_top_n_test": 1000, "rpn_post_nms_top_n_test": regions}
    options |= {"rpn_nms_thresh": 1.0, "rpn_score_thresh": 0.0, "box_score_thresh": 0.5}
    return detection.fasterrcnn_mobilenet_v3_large_320_fpn(**fresh, **options).eval()


# %%
timed = {f"Faster R-CNN, {num} regions": faster(num) for num in (10, 100, 1000)}
ssdlite = detection.ssdlite320_mobilenet_v3_large(**fresh, score_thresh=0.5).eval()
timed["SSDlite"] = ssdlite
picture, seconds = [torch.rand(3, 320, 320)], dict.fromkeys(timed, math.inf)
with torch.inference_mode():
    for _ in range(6):  # by turns; the best of all counts
        for name, network in timed.items():
            start = time.perf_counter()
            network(picture)
            seconds[name] = min(seconds[name], time.perf_counter() - start)
for name, taken in seconds.items():
    print(f"{name}: {taken / seconds['SSDlite']:.1f} times the time of SSDlite")

# %%
ten, thousand = (seconds[f"Faster R-CNN, {n} regions"] for n in (10, 1000))
claim(
    "A thousand regions take over twice the time of ten, but far less than 100 times",
    2 < thousand / ten < 50,
    f"{thousand / ten:.1f} times; SSDlite's {thousand / seconds['SSDlite']:.1f} times",
    same="pictures of 320 x 320, MobileNetV3, this machine, best of six",
)

# %% [markdown]
# ### One that has learned
#
# This is SSDlite with its COCO weights, 13 MB. It runs if they are on this machine: in `weights/` beside your photos, or in torchvision's cache. To fetch them once (with internet), run
# `models.imagenet_state(weights)`.

# %%
weights = detection.SSDLite320_MobileNet_V3_Large_Weights.COCO_V1
file = Path(weights.url).name
places = datasets.data_dir() / "weights", Path(torch.hub.get_dir()) / "checkpoints"
present = any((place / file).exists() for place in places)
print(f"{file}:", "here" if present else "not on this machine, so this part is skipped")


# %%
# extra code: what it finds in three photos of cats and dogs
def photos_figure(num=3):
    photos = datasets.dogs_vs_cats(num_train=0, num_val=0, num_test=num, size=320).test
    network = detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
    network.load_state_dict(models.imagenet_state(weights))
    with torch.no_grad():
        found = network.eval()([image / 255 for image in photos.images])
    fig, axes = plt.subplots(1, num, figsize=(4 * num, 4.3))
    for ax, image, row in zip(axes, photos.images, found, strict=True):
        ax.imshow(to_picture(image))
        for (x1, y1, x2, y2), label, score in zip(row["boxes"].tolist(), row["labels"].tolist(), row["scores"].tolist(), strict=True):
            if score > 0.4:
                ax.add_patch(plt.Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor="C1", linewidth=3))
                ax.text(x1, y1, f"{weights.meta['categories'][label]} {score:.0%}", color="white", fontsize=12, bbox={"facecolor": "C1", "edgecolor": "C1", "pad": 1})
        ax.axis("off")
    return fig, photos.noun


if present:
    fig, noun = photos_figure()
    show(fig, f"Three {noun}s of cats and dogs, with the boxes that SSDlite gives with a score above 40 %, and its name for each.")

# %% [markdown]
# ## 8. Exercises (10 min)
#
# **Exercise 6**: write non-maximum suppression. Return the list of the indices of the boxes that stay, highest score first. A box is removed if it overlaps a box with a higher score *that
# stays* by **more** than `overlap`. You may use torchvision's `box_iou`, but not `nms`.


# %%
def suppress(boxes, scores, overlap):
    ...


exercises.suppress.check(suppress)

# %% slideshow={"slide_type": "skip"}
# exercises.suppress.hint()
# exercises.suppress.solution()

# %% [markdown]
# ## 9. Lab: a better detector (40 min and more)
#
# **Train a detector whose boxes fit better than those of section 3.** `make_detector` takes no arguments, trains, and returns a function `detect(scenes)`. Its input is scenes (N, 3, 128,
# 128), uint8; its output is a list with one dict for each scene, with `boxes` (K, 4) as corners, `labels` (K,) from 0 to 2 and `scores` (K,).
#
# You may use anything: more scenes (`draw_scenes` with your own seeds), other anchors, layers and losses, longer training, torchvision's detectors. Use your own scenes for your choices.
#
# The check draws 150 new scenes, and scores by COCO's mAP. The trivial entry, boxes everywhere, gets about zero; the detector of section 3 gets about 45 %. **50 % is good, 60 % is very good.**


# %%
def make_detector():
    ...


exercises.lab.check(make_detector)

# %% slideshow={"slide_type": "skip"}
# exercises.lab.hint()
# exercises.lab.solution()

# %% [markdown]
# ## Summary
#
# - **A detector is a classifier of anchors** with four more numbers, and a rule that keeps one box for each object.
# - **NMS guesses** in crowds: it cannot tell two objects from two answers for one object.
# - **State a result with its threshold**, chosen on validation pictures. Average precision covers all thresholds; COCO's mAP also averages over ten IoU thresholds.
# - **Two stages or one:** what is computed once is cheap. Over the years, detectors went from 2,000 computations per picture to one.
# - **Background is 98 % of the anchors.** Starting with small scores (the prior) saves many steps. Our runs do not show that the focal loss adds to this.

# %%
summary()

# %% [markdown]
# ### Lecture topics
#
# | topic | section | lectures |
# |---|---|---|
# | O1 from one box to many: anchors on a picture, IoU, NMS and what it costs, precision and recall, mAP | 1, 2, 4 | E |
# | O2 the family of detectors: what each computes once and what for each region; a one-stage detector, trained; focal loss; torchvision's detectors | 3, 5, 6, 7 | E |
#
# ### Further reading
# - J. R. R. Uijlings, K. E. A. van de Sande, T. Gevers, A. W. M. Smeulders. *Selective Search for Object Recognition*. International Journal of Computer Vision 104, 2013
# - R. Girshick, J. Donahue, T. Darrell, J. Malik. *Rich feature hierarchies for accurate object detection and semantic segmentation*. CVPR 2014. https://arxiv.org/abs/1311.2524 (R-CNN)
# - T.-Y. Lin et al. *Microsoft COCO: Common Objects in Context*. ECCV 2014. https://arxiv.org/abs/1405.0312
# - R. Girshick. *Fast R-CNN*. ICCV 2015. https://arxiv.org/abs/1504.08083
# - S. Ren, K. He, R. Girshick, J. Sun. *Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks*. NeurIPS 2015. https://arxiv.org/abs/1506.01497
# - J. Redmon, S. Divvala, R. Girshick, A. Farhadi. *You Only Look Once: Unified, Real-Time Object Detection*. CVPR 2016. https://arxiv.org/abs/1506.02640
# - W. Liu et al. *SSD: Single Shot MultiBox Detector*. ECCV 2016. https://arxiv.org/abs/1512.02325
# - J. Dai, Y. Li, K. He, J. Sun. *R-FCN: Object Detection via Region-based Fully Convolutional Networks*. NeurIPS 2016. https://arxiv.org/abs/1605.06409
# - J. Redmon, A. Farhadi. *YOLO9000: Better, Faster, Stronger*. CVPR 2017. https://arxiv.org/abs/1612.08242 (YOLOv2); *YOLOv3: An Incremental Improvement*. 2018. https://arxiv.org/abs/1804.02767
# - T.-Y. Lin, P. Dollár, R. Girshick, K. He, B. Hariharan, S. Belongie. *Feature Pyramid Networks for Object Detection*. CVPR 2017. https://arxiv.org/abs/1612.03144
# - K. He, G. Gkioxari, P. Dollár, R. Girshick. *Mask R-CNN*. ICCV 2017. https://arxiv.org/abs/1703.06870
# - T.-Y. Lin, P. Goyal, R. Girshick, K. He, P. Dollár. *Focal Loss for Dense Object Detection*. ICCV 2017. https://arxiv.org/abs/1708.02002 (RetinaNet)
# - N. Bodla, B. Singh, R. Chellappa, L. S. Davis. *Soft-NMS: Improving Object Detection With One Line of Code*. ICCV 2017. https://arxiv.org/abs/1704.04503
# - Y. Wu, A. Kirillov, F. Massa, W.-Y. Lo, R. Girshick. *Detectron2*. 2019. https://github.com/facebookresearch/detectron2
# - Z. Tian, C. Shen, H. Chen, T. He. *FCOS: Fully Convolutional One-Stage Object Detection*. ICCV 2019. https://arxiv.org/abs/1904.01355
# - N. Carion et al. *End-to-End Object Detection with Transformers*. ECCV 2020. https://arxiv.org/abs/2005.12872 (DETR)
#
# ### Next notebook
# 12 · Sequences, attention, and what comes next
