# %% [markdown]
# # 07 · Multi-task learning
#
# @BADGES@
#
# **To keep what you write:** on Colab choose *File > Save a copy in Drive*, on Kaggle *Copy & Edit*, before you begin.
#
# **Question:** You have few labels for the task that you care about, and many for other tasks on the same pictures. Can one network learn them
# all, and does the task with few labels gain?
#
# **You will be able to**
# - build one encoder with a head for each task, and train it on pictures that each have only some of the answers,
# - see when one task takes over, find the reason, and balance the tasks again,
# - find out, in a fair comparison, whether the task with few labels gains, and why.
#
# **Time:** it runs in @TIME@ on two CPU cores; with all sections, the exercises and the lab, about three and a half hours.
# **Before this:** notebooks 00 (a training loop, convolution and pooling) and 01 (batch normalisation). What a U-Net is (notebook 04) helps.

# %% [markdown] slideshow={"slide_type": "notes"}
# **A plan for 75 minutes** (the core takes 70, with its exercises)
#
# - **Core:** sections 1, 2, 3, 4, 5 and 6: three questions about one picture, the shared network, missing answers, the loop, one task that takes over, and
#   whether the task with few labels gains.
# - **Optional:** 7 (how many labels, and how long), 8 (learned weights), 9 (cost and savings), 10 (benign or malignant, and a shortcut).
# - **Where to stop:** after section 6's figure of which task helps. If you are late, stop at its first claim.

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
# What this notebook imports. What is not PyTorch is in the folder utils/.
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.colors import to_hex
from matplotlib.ticker import PercentFormatter
from torch import nn
from torch.utils.benchmark import Timer
from torchvision import tv_tensors
from torchvision.transforms import v2
from tqdm.auto import tqdm

from utils import datasets
from utils.exercises import multi_task as exercises
from utils.figures import curves, explore, show, to_picture
from utils.lessons import claim, fact, measured, summary
from utils.models import UNet, count_macs, num_parameters

# %% [markdown]
# ## 1. One picture, three questions (9 min)
#
# We can ask many things about one picture. **What** is it, a cat or a dog? **Where** is its head? **Which pixels** are the animal? So far,
# a network answered one question. This one answers all three, and the tasks share most of the work.
#
# Answers differ in cost. Anybody with patience can draw an outline. A diagnosis takes a doctor. So it is common to have **many answers for one task and
# few for another, on the same pictures**. That is our case: all pictures have an outline, and only some have a label.


# %% tags=["measure"]
NUM_LABELS, NUM_PICTURES = 200, 600


def load_pets():
    return datasets.pets(num_train=1200, num_val=200, num_test=1000, size=64)


# %%
course_seed = torch.initial_seed()  # as utils.start() has set it
pool, val_set, test_set = load_pets()
noun, drawn = test_set.noun, test_set.source == "critters"
num_pictures = min(NUM_PICTURES, len(pool))
num_labels = NUM_LABELS if drawn else len(pool) // 2  # of photos there are few
print(f"{num_pictures} {noun}s to learn from, {num_labels} of them with a label;")
print(f"{len(val_set)} to choose by, {len(test_set)} to test on")


# %%
# extra code: a picture with its box, dashed, and the outline of its mask
def draw_on(ax, image, box=None, mask=None, colour="C1", title=""):
    ax.imshow(to_picture(image), interpolation="nearest" if drawn else "antialiased")
    if mask is not None and mask.any():
        ax.contour(mask.cpu().float(), levels=[0.5], colors=[colour], linewidths=2.5)
    if box is not None and box.isfinite().all():
        x1, y1, x2, y2 = box.tolist()
        ax.add_patch(plt.Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, ls="--", lw=2.5, ec=colour))
    ax.set_title(title, loc="center", fontsize=14)
    ax.axis("off")


# %%
# extra code: five pictures with their box and outline
targets = pool.targets
fig, axes = plt.subplots(1, 5, figsize=(12, 2.9))
for i, ax in enumerate(axes):
    name = pool.classes[targets["label"][i]] if i < 2 else "label unknown"
    draw_on(ax, pool.images[i], targets["box"][i], targets["mask"][i], title=name)
show(fig, f"Five {noun}s, each with the outline of the animal, and a dashed box around its head where it is known. The first two have a label.")

# %% [markdown] slideshow={"slide_type": "notes"}
# Ask the class for cases of their own: a lesion outlined by a student and judged by a pathologist; a street scene with boxes from a cheap service
# and depth from an expensive sensor. The lecture's case, benign or malignant with an outline, is section 10.

# %% [markdown]
# A mirrored cat is still a cat, but its box and its mask must be mirrored **with** it. `transforms.v2` does that, if the answers say what they are:

# %%
image, row = pool.images[0], {name: value[0] for name, value in targets.items()}
box = tv_tensors.BoundingBoxes(row["box"][None], format="XYXY", canvas_size=(64, 64))
answers = {"box": box, "mask": tv_tensors.Mask(row["mask"])}
mirror = v2.RandomHorizontalFlip(p=1)
image_mirrored, answers_mirrored = mirror(tv_tensors.Image(image), answers)
print("box", row["box"].tolist(), "->", answers_mirrored["box"][0].tolist())

# %%
# extra code: the picture and its mirror image, both with box and outline
fig, axes = plt.subplots(1, 2, figsize=(6, 3))
draw_on(axes[0], image, row["box"], row["mask"])
draw_on(axes[1], image_mirrored, answers_mirrored["box"][0], answers_mirrored["mask"])
show(fig, f"A {noun} and its mirror image: box and outline have moved with the animal.")

# %% [markdown]
# **Exercise 1** (3 min): mirror boxes. `boxes` (N, 4) are $x_1, y_1, x_2, y_2$ in pixels, in pictures that are `width` pixels wide. Return the boxes in the mirrored pictures, (N, 4),
# without `transforms`. Careful: $x_1$ must stay smaller than $x_2$.
#
# Write your answer in place of the dots and run the cell: the check says what it expected and what it got. Stuck? Take away the `#` in the cell below it.


# %%
def mirror_boxes(boxes, width):
    ...


exercises.mirror_boxes.check(mirror_boxes)

# %% slideshow={"slide_type": "skip"}
# exercises.mirror_boxes.hint()
# exercises.mirror_boxes.solution()

# %% [markdown]
# ## 2. One encoder, three heads (14 min)
#
# Why should one task help another? To outline an animal, a network has to know where ears end and fur begins. Such features may help with the class as well. So the network gets one
# **encoder** that all tasks share, and a small **head** for each task. This is **multi-task learning**.
#
# The encoder has four stages. Each halves the side, the first by a stride of 2, the others by pooling. It returns the features of **every** stage, since a head may
# want more than the last.


# %% tags=["measure"]
def block(in_channels, out_channels, stride=1):
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


# %% tags=["measure"]
class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.stage1 = block(3, 16, stride=2)
        self.stage2 = nn.Sequential(nn.MaxPool2d(2), block(16, 32))
        self.stage3 = nn.Sequential(nn.MaxPool2d(2), block(32, 64))
        self.stage4 = nn.Sequential(nn.MaxPool2d(2), block(64, 64))

    def forward(self, images):
        features = [images]
        for stage in self.children():
            features.append(stage(features[-1]))
        return features[1:]


# %%
# NBVAL_CHECK_OUTPUT
for number, x in enumerate(Encoder()(torch.zeros(1, 3, 64, 64)), start=1):
    print(f"stage {number}: {x.shape[1]} channels, {x.shape[2]} x {x.shape[3]}")

# %% [markdown]
# **Class.** It does not matter where the animal is. So we average over all positions, and add one linear layer:


# %% tags=["measure"]
class ClassHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 2)

    def forward(self, features):
        return self.linear(features[-1].mean(dim=(2, 3)))


# %% [markdown]
# **Box.** Now the position is the answer, so nothing is averaged: the last features are unrolled (flattened, as notebook 05 says). The output is four numbers, $x_1, y_1, x_2, y_2$. A
# sigmoid keeps each between 0 and 1, as a share of the picture's side.


# %% tags=["measure"]
class BoxHead(nn.Module):
    def __init__(self):
        super().__init__()
        unrolled = nn.Sequential(nn.Flatten(), nn.Linear(64 * 4 * 4, 64), nn.ReLU())
        self.layers = nn.Sequential(unrolled, nn.Linear(64, 4), nn.Sigmoid())

    def forward(self, features):
        return self.layers(features[-1])


# %% [markdown]
# **Mask.** One number for each pixel. We go back up, as in a U-Net (notebook 04): enlarge, append the features of the encoder's stage, convolve.


# %% tags=["measure"]
class MaskHead(nn.Module):
    def __init__(self):
        super().__init__()
        ups = [block(64 + 64, 32), block(32 + 32, 16), block(16 + 16, 16)]
        self.ups = nn.ModuleList(ups)
        self.last = nn.Conv2d(16, 1, kernel_size=1)

    def forward(self, features):
        *skips, x = features
        for up, skip in zip(self.ups, reversed(skips), strict=True):
            x = up(torch.cat([F.interpolate(x, scale_factor=2.0), skip], dim=1))
        return F.interpolate(self.last(x), scale_factor=2.0, mode="bilinear")[:, 0]


# %% [markdown]
# The network encodes **once**, then asks every head. Its answer is a dict. With one task in the list it is an ordinary single-task network: only the list
# changes.


# %% tags=["measure"]
HEADS = {"label": ClassHead, "box": BoxHead, "mask": MaskHead}


class Network(nn.Module):
    def __init__(self, tasks=("label", "box", "mask")):
        super().__init__()
        self.encoder = Encoder()
        self.heads = nn.ModuleDict({task: HEADS[task]() for task in tasks})

    def forward(self, images):
        features = self.encoder(images)
        return {task: head(features) for task, head in self.heads.items()}


# %%
# NBVAL_CHECK_OUTPUT
network = Network()
for task, output in network(torch.zeros(2, 3, 64, 64)).items():
    print(f"{task:5} {tuple(output.shape)}")

# %%
# extra code: the architecture as a figure, from what hooks on its parts note
COLOURS = {"label": to_hex("C1"), "box": to_hex("C4"), "mask": to_hex("C2")}


def parts(network):
    """{name: (shape of the output for one picture, number of parameters)} of the encoder's stages and of the heads."""
    found, hooks = {}, []
    for name, module in [*network.encoder.named_children(), *network.heads.named_children()]:

        def note(module, inputs, output, name=name):
            found[name] = tuple(output.shape[1:]), num_parameters(module)

        hooks.append(module.register_forward_hook(note))
    network(torch.zeros(2, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    return found


def architecture(network):
    found = {"picture": ((3, 64, 64), 0)} | parts(network)
    fig, ax = plt.subplots(figsize=(12, 5.2))
    stages = [name for name in found if name not in network.heads]
    for x, name in enumerate(stages):
        (channels, side, _), size = found[name]
        height = 0.45 + 1.9 * side / 64
        ax.add_patch(plt.Rectangle((x, -height / 2), 0.62, height, color="C0" if x else "0.6"))
        detail = f"{channels} x {side} x {side}\n" + (f"{size:,}" if size else "")
        ax.text(x + 0.31, -1.32, f"{name}\n{detail}", ha="center", va="top", fontsize=12)
        if x:
            ax.annotate("", (x, 0), (x - 0.38, 0), arrowprops=dict(arrowstyle="->", lw=2))
    for y, task in zip((1.75, 0, -1.75), ("mask", "label", "box"), strict=True):
        shape, size = found[task]
        ax.add_patch(plt.Rectangle((5.9, y - 0.38), 1.15, 0.76, color=COLOURS[task]))
        ax.text(6.475, y, task, ha="center", va="center", fontweight="bold", color="black" if task == "label" else "white")
        ax.text(7.15, y, f"gives {' x '.join(map(str, shape))}\n{size:,}", va="center", fontsize=12)
        ax.annotate("", (5.9, y - 0.3 * (task == "mask")), (4.64, 0), arrowprops=dict(arrowstyle="->", lw=2, color=COLOURS[task]))
    for x in range(1, 4):  # from each stage up, and into the mask head
        top = 0.225 + 0.95 * found[stages[x]][0][1] / 64
        bend = dict(arrowstyle="->", lw=2, color=COLOURS["mask"], connectionstyle="angle,angleA=90,angleB=0,rad=8")
        ax.annotate("", (5.9, 2.15 - 0.17 * x), (x + 0.31, top), arrowprops=bend)
    ax.set(xlim=(-0.1, 8.5), ylim=(-2.4, 2.4), title="One encoder (blue) feeds three heads (numbers below: parameters)")
    ax.axis("off")
    return fig


show(architecture(network), "The network, drawn from its modules: a picture of 3 x 64 x 64 passes four blue stages down to 64 x 4 x 4. From there arrows lead to the heads for label and box; the mask head "
     "gets the features of all stages.")  # fmt: skip


# %% [markdown]
# **Before you run it:** three single-task networks have three encoders. How many of their parameters does the shared network have: a third, half, nearly all?
#
# <details><summary>Answer</summary>
#
# About half: only the encoder is shared, and here the heads are larger than it is. In large networks the encoder is nearly everything.
#
# </details>

# %%
singles = sum(num_parameters(Network([task])) for task in HEADS)
shared_size, encoder_size = num_parameters(network), num_parameters(network.encoder)
fact(
    "Three single-task networks have as many parameters as the shared network"
    " and two more encoders",
    singles == shared_size + 2 * encoder_size,
    f"{singles:,} = {shared_size:,} + 2 x {encoder_size:,}",
)

# %% [markdown]
# **Exercise 2** (3 min): only what is asked. In use we often want only some of the answers, and the mask head is expensive. `network` has an `encoder` and `heads`, a
# dict of modules; `tasks` is a list of names. Return a dict with the answers to these tasks. Run the encoder once, and only the heads that are asked for.


# %%
def ask(network, images, tasks):
    ...


exercises.ask.check(ask)

# %% slideshow={"slide_type": "skip"}
# exercises.ask.hint()
# exercises.ask.solution()

# %% [markdown]
# ## 3. Losses, and answers that are missing (14 min)
#
# Each task has its own loss, which it learns from, and its own metric, by which we judge it:
#
# | task | loss | metric |
# |---|---|---|
# | label | cross-entropy | accuracy |
# | box | smooth L1 (Girshick 2015): squared for small errors, absolute for large ones | IoU: intersection over union of both boxes |
# | mask | binary cross-entropy, pixel by pixel | IoU of both masks |
#
# A box error has a **unit**, and we have to choose it. Boxes come as shares of the side, and we count in twentieths of it (`20 * boxes`): an error of 1 is about three of the 64 pixels. (Section 5 makes another choice.)


# %% tags=["measure"]
def box_loss(boxes, targets):
    return F.smooth_l1_loss(20 * boxes, 20 * targets)


mask_loss = F.binary_cross_entropy_with_logits
LOSSES = {"label": F.cross_entropy, "box": box_loss, "mask": mask_loss}

# %% [markdown]
# We hold pictures and answers as tensors in memory. Only `num_labels` pictures keep their label; for the others it becomes $-1$, which means *unknown*.

# %% tags=["measure"]
as_floats = v2.ToDtype(torch.float32, scale=True)
prepare = v2.Compose([as_floats, v2.Normalize(mean=[0.5] * 3, std=[0.25] * 3)])


def tensors(dataset):
    """(images, targets), ready for the network; boxes as shares of the side."""
    targets = {t: dataset.targets[t].to(device) for t in HEADS if t in dataset.targets}
    targets["mask"] = targets["mask"].float()
    if "box" in targets:
        targets["box"] = targets["box"] / dataset.images.shape[-1]
    images = prepare(dataset.images).to(device, memory_format=torch.channels_last)
    return images, targets


# %% tags=["measure"]
def few_labels(pool, num_labels, num_pictures, seed):
    """Pictures drawn from the pool; the first keep their label, in equal shares."""
    images, targets = tensors(pool.subset(min(num_pictures, len(pool)), seed=seed))
    targets["label"] = targets["label"].clone()
    targets["label"][num_labels:] = -1
    return images, targets


# %%
seeds = [100 + 10 * course_seed + k for k in range(3)]  # not those of the tables
data = few_labels(pool, num_labels, num_pictures, seeds[0])
print({task: tuple(values.shape) for task, values in data[1].items()})
print(data[1]["label"][num_labels - 4 : num_labels + 4].tolist())

# %% [markdown]
# In real data, boxes and masks are missing too, and appear as NaN, *not a number*. (Of the Oxford pets, only those for training come with boxes.) Here are
# 12 pictures, and we remove the boxes of some:

# %%
known_box = data[1]["box"].isfinite().all(dim=1)
chosen = known_box.nonzero()[:12, 0]
images, boxes = data[0][chosen], data[1]["box"][chosen].clone()
boxes[torch.arange(12) % 5 < 2] = torch.nan
print(*[f"{x1:.2f}" for x1 in boxes[:, 0]])

# %% [markdown]
# **Before you run it:** the loss is a mean over twelve pictures, six of which have no box. What is the loss?
#
# <details><summary>Answer</summary>
#
# NaN: one missing number is enough to spoil a mean. After one backward pass and step, every weight would be NaN, and the training would be over.
#
# </details>

# %%
network = Network(["box"]).to(device)
outputs = network(images)["box"]
forgotten = box_loss(outputs, boxes)
fact(
    "A mean over pictures of which some have no box is not a number",
    forgotten.isnan(),
    f"loss {forgotten.item()}",
)

# %% [markdown]
# So we leave out the pictures whose answer is not known. With $m_i = 1$ if picture $i$ has an answer, and 0 if it has none, this **masked loss** is
#
# $$L = \frac{\sum_i m_i \, \ell_i}{\max(1, \sum_i m_i)}$$
#
# (This mask selects pictures, not pixels. The $\max$ is there for a batch in which no picture has an answer.) A natural way to write it computes the losses of all pictures, and then keeps
# those that are known, with `torch.where(m, l, 0)`. There is a trap:

# %%
known_box = boxes.isfinite().all(dim=1)
per_picture = F.smooth_l1_loss(20 * outputs, 20 * boxes, reduction="none").mean(dim=1)
trap = torch.where(known_box, per_picture, 0).sum() / known_box.sum()
weight = network.heads["box"].layers[1].weight
(gradient,) = torch.autograd.grad(trap, weight, retain_graph=True)
print(f"loss {trap.item():.2f}, gradient {gradient[0, :4].tolist()}")

# %%
fact(
    "torch.where after the loss repairs the value but not the gradient: 0 x NaN is NaN",
    trap.isfinite() & gradient.isnan().all(),
    f"loss {trap.item():.2f}; {gradient.isnan().float().mean():.0%} of gradient NaN",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# This costs people days: the loss in the log is fine, and the weights are NaN after one step. Ask why: the derivative of the loss at a
# NaN target is NaN, and in the backward pass where() multiplies it by zero, which is NaN again.

# %% [markdown]
# **Exercise 3** (3 min): a masked loss. `loss_fn(outputs, targets)` gives the mean loss over the rows that it gets. A row of `targets` (N, ...) with NaN in it is not known. Return the mean
# loss over the known rows. If there is none, return a 0 that `backward` can still use: a multiple of the outputs. The gradient of every weight must be right, too. So where must you remove
# the unknown rows?


# %%
def masked_loss(loss_fn, outputs, targets):
    ...


exercises.masked_loss.check(masked_loss)

# %% slideshow={"slide_type": "skip"}
# exercises.masked_loss.hint()
# exercises.masked_loss.solution()

# %% [markdown]
# ## 4. The loop, and the class alone (11 min)
#
# The masked loss that the notebook uses takes the known rows **before** the loss, so that what is not known has no gradient at all. Missing answers are
# $-1$ or NaN and all others are 0 or more, so one comparison serves all three tasks.

# %% tags=["measure"]
# extra code: the masked loss of exercise 3, for labels, boxes and masks
def known(targets):
    """Truth values (N,): whose answer is there."""
    return (targets.reshape(len(targets), -1) >= 0).all(dim=1)


def masked_mean_loss(loss_fn, outputs, targets):
    """The mean loss over the pictures whose answer is known; 0 where there is none."""
    rows = known(targets)
    return loss_fn(outputs[rows], targets[rows]) if rows.any() else 0 * outputs.sum()


# %%
loss = masked_mean_loss(box_loss, outputs, boxes)
one_by_one = [box_loss(outputs[[i]], boxes[[i]]) for i in range(12) if known_box[i]]
(gradient,) = torch.autograd.grad(loss, weight, retain_graph=True)
fact(
    "The masked loss is the mean over the pictures that have a box,"
    " and its gradient is finite",
    abs(loss - sum(one_by_one) / len(one_by_one)).item() < 1e-5
    and gradient.isfinite().all().item(),
    f"loss {loss.item():.4f}, {len(one_by_one)} of 12 known",
)


# %% tags=["measure"]
# extra code: mirror a random half of a batch, with its boxes and masks
def flip(images, targets):
    flipped = torch.rand(len(images), device=images.device) < 0.5
    images = torch.where(flipped[:, None, None, None], images.flip(3), images)
    mirrored = {"label": targets["label"], "mask": targets["mask"].flip(2)}
    if "box" in targets:
        x1, y1, x2, y2 = targets["box"].unbind(dim=1)
        mirrored["box"] = torch.stack([1 - x2, y1, 1 - x1, y2], dim=1)
    pick = {1: flipped, 2: flipped[:, None], 3: flipped[:, None, None]}  # by the number of axes
    return images, {task: torch.where(pick[old.ndim], mirrored[task], old) for task, old in targets.items()}


# %% [markdown]
# Now the training loop. Each step takes 16 pictures that have a label. Only these teach the class. So however many tasks there are, **the class learns from the same number of
# labelled pictures in each step**. If there are other tasks, 16 more pictures join, drawn from all; if one of them has a label, the label is not used.
#
# `known(values)` says which pictures have an answer; `flip` mirrors a random half of a batch, with its answers.
#
# There is a loss for each task. A **weighting** turns the losses into terms, and we minimise their sum:
#
# $$L = \sum_t w_t \, L_t$$
#
# The weighting may have parameters of its own (section 8). `watch` is called every 20 steps.


# %% tags=["measure"]
NUM_LABELLED, NUM_OTHERS = 16, 16  # pictures of one step
STEPS, LR = 300, 1e-2  # of one training


def next_batch(images, targets, num_others):
    labelled = known(targets["label"]).nonzero()[:, 0]
    picked = labelled[torch.randint(len(labelled), (NUM_LABELLED,))]
    others = torch.randint(len(images), (num_others,), device=device)
    rows = torch.cat([picked, others])
    of_rows = {task: values[rows] for task, values in targets.items()}
    batch, truth = flip(images[rows], of_rows)
    truth["label"][NUM_LABELLED:] = -1  # equally many labelled pictures for all
    return batch, truth


# %% tags=["measure"]
def train(network, data, weighting, losses=LOSSES, steps=STEPS, lr=LR,
          num_others=NUM_OTHERS, watch=None):  # fmt: skip
    groups = [{"params": part.parameters()} for part in (network, weighting)]
    optimizer = torch.optim.AdamW(groups, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    network.train()
    for step in tqdm(range(steps), desc="training", leave=False):
        batch, truth = next_batch(*data, num_others)
        outputs = network(batch)
        terms = weighting({
            task: masked_mean_loss(losses[task], outputs[task], truth[task])
            for task in outputs
        }, network)  # fmt: skip
        if watch is not None and step % 20 == 0:
            watch(network, terms)
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
        scheduler.step()


# %% [markdown]
# The simplest weighting is fixed numbers. If all are 1, it is the **plain sum**.


# %% tags=["measure"]
class Fixed(nn.Module):
    def __init__(self, **weights):
        super().__init__()
        self.weights = weights

    def forward(self, losses, network):
        return {task: self.weights[task] * loss for task, loss in losses.items()}


PLAIN_SUM = Fixed(label=1, box=1, mask=1)


# %% tags=["measure"]
def learn(tasks, data, seed, weighting=PLAIN_SUM, encoder=None, **how):
    """A new network for these tasks, trained; from the weights of `encoder`, if any."""
    torch.manual_seed(seed)
    network = Network(tasks).to(device, memory_format=torch.channels_last)
    if encoder:
        network.encoder.load_state_dict(encoder.state_dict())
    if tasks == ["label"]:  # nothing can be learned from the others
        how = {"num_others": 0} | how
    train(network, data, weighting.to(device), **how)
    return network


# %% tags=["measure"]
# extra code: the metrics, over the pictures whose answer is known
def box_iou(boxes, targets):
    low, high = torch.maximum(boxes[:, :2], targets[:, :2]), torch.minimum(boxes[:, 2:], targets[:, 2:])
    both = (high - low).clamp(min=0).prod(dim=1)
    first, second = [(b[:, 2:] - b[:, :2]).clamp(min=0).prod(dim=1) for b in (boxes, targets)]
    return both / (first + second - both)


def mask_iou(logits, targets):
    found, target = logits > 0, targets > 0.5
    return (found & target).sum(dim=(1, 2)) / (found | target).sum(dim=(1, 2)).clamp(min=1)


def is_right(logits, targets):
    return (logits.argmax(dim=1) == targets).float()


METRICS = {"label": is_right, "box": box_iou, "mask": mask_iou}
METRIC_NAMES = {"label": "class accuracy", "box": "box IoU", "mask": "mask IoU"}


@torch.no_grad()
def answers_of(network, images):
    """All outputs, in evaluation mode."""
    network.eval()
    batches = [network(part) for part in images.split(250)]
    return {task: torch.cat([batch[task] for batch in batches]) for task in batches[0]}


def scores(network, data):
    """{task: mean of its metric}."""
    images, targets = data
    outputs = answers_of(network, images)
    rows = {task: known(targets[task]) for task in outputs}
    return {task: METRICS[task](outputs[task][rows[task]], targets[task][rows[task]]).mean().item() for task in outputs}


# %% [markdown]
# `scores(network, data)` gives the three metrics. The learning rate is the better of two or three that we tried on drawings, for the class alone and for all three tasks. The number of steps is what a lecture has time for; section 7 shows
# what more steps change.

# %%
test = tensors(test_set)
if not drawn:  # few of the test photos have boxes: add the validation photos
    more = tensors(val_set)
    targets = {task: torch.cat([test[1][task], more[1][task]]) for task in HEADS}
    test = torch.cat([test[0], more[0]]), targets

# %%
alone = [learn(["label"], data, seeds[0])]
alone_accuracy = [scores(alone[0], test)["label"]]
print(f"class alone: {alone_accuracy[0]:.1%} of {len(test[0])} new {noun}s are right")

# %% [markdown]
# **Before you run it:** in 300 steps of 16 pictures, how often has this network seen each of its labelled pictures? How many of *them* does it get right?
#
# <details><summary>Answer</summary>
#
# Each 24 times on drawings, and 49 times on photos, where there are fewer. It has learned nearly all of them by heart.
#
# </details>

# %%
labelled = known(data[1]["label"])
seen = data[0][labelled], {"label": data[1]["label"][labelled]}
by_heart = scores(alone[0], seen)["label"]
claim(
    "With few labels, the class network memorises its pictures:"
    " it is far worse on new ones",
    by_heart > alone_accuracy[0] + 0.1,
    f"{by_heart:.0%} of its {num_labels} pictures right,"
    f" {alone_accuracy[0]:.0%} of {len(test[0])} new ones",
)

# %% [markdown]
# **Exercise 4** (3 min): ask twice. To a network, a mirror image is another picture, so we can ask about both and take the mean. Return a dict: `"label"`, the mean of the logits of `images` and of
# their mirror images; `"mask"`, the same for the mask's logits (N, H, W). What must you do to the second mask first? (`network(images)` gives both.)


# %%
def ask_twice(network, images):
    ...


exercises.ask_twice.check(ask_twice)

# %% slideshow={"slide_type": "skip"}
# exercises.ask_twice.hint()
# exercises.ask_twice.solution()

# %% [markdown]
# ## 5. One task takes over (12 min)
#
# Now one network learns all three tasks. The simplest thing is to add up the losses. The box is in pixels, so why not measure its error in squared pixels, as is often done?


# %% tags=["measure"]
def pixel_loss(boxes, targets):
    return F.mse_loss(64 * boxes, 64 * targets)


IN_PIXELS = LOSSES | {"box": pixel_loss}

# %% [markdown]
# While it trains, we look at what each task sends to the encoder: the **length of its gradient**, over all the weights that are shared.


# %% tags=["measure"]
def gradient_length(loss, shared):
    """Length of a loss's gradient over all the shared parameters together."""
    gradients = torch.autograd.grad(loss, shared, retain_graph=True)
    return torch.cat([gradient.flatten() for gradient in gradients]).norm()


class Lengths(list):
    """Keeps {task: length of its gradient in the encoder} of each step that it sees."""

    def __call__(self, network, terms):
        shared = list(network.encoder.parameters())
        found = {task: gradient_length(terms[task], shared) for task in network.heads}
        self.append({task: length.item() for task, length in found.items()})


# %% [markdown]
# We train the same network on the same pictures twice. One line differs: the unit of the box.
#
# **Before you run it:** which of the three tasks will do well with the box in pixels, and which will suffer?
#
# <details><summary>Answer</summary>
#
# The box does well: its loss starts in the hundreds, and the other losses are below one. The mask survives: every picture has one, with 4,096 pixels. The class collapses, and if you look only at
# boxes and outlines, you will not notice.
#
# </details>

# %%
tasks, units = ["label", "box", "mask"], {"pixels": IN_PIXELS, "twentieths": LOSSES}
lengths = {unit: Lengths() for unit in units}
summed = {
    unit: learn(tasks, data, seeds[0], losses=losses, watch=lengths[unit])
    for unit, losses in units.items()
}

# %%
results = {unit: scores(network, test) for unit, network in summed.items()}
for task in tasks:
    found = [f"{unit} {results[unit][task]:.3f}" for unit in units]
    print(f"{METRIC_NAMES[task]:15}", *found, sep="   ")
print(f"class alone     {alone_accuracy[0]:.3f}")


# %%
# extra code: a panel for each metric, a bar for each unit of the box
def bars(title):
    fig, axes = plt.subplots(1, 3, figsize=(12, 3), sharey=True)
    for ax, task in zip(axes, tasks, strict=True):
        for row, unit in enumerate(units):
            ax.barh(row, results[unit][task], color=f"C{row}")
            ax.text(results[unit][task] + 0.02, row, f"{results[unit][task]:.2f}", va="center")
        ax.set(xlim=(0, 1.15), xlabel=METRIC_NAMES[task], yticks=range(2), yticklabels=[f"box in {unit}" for unit in units])
        ax.grid(axis="y", visible=False)
    axes[0].axvline(0.5, color="black", ls=":", lw=2)
    axes[0].invert_yaxis()
    fig.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=15)
    return fig


drop = {task: results["twentieths"][task] - results["pixels"][task] for task in tasks}
show(bars("The unit of the box decides whether the class is learned" if drop["label"] > 0.05 else "The unit of the box, and three tasks"),
     f"Three panels, two bars each, for the plain sum with the box in pixels and in twentieths of the side. Class accuracy {results['pixels']['label']:.0%} and {results['twentieths']['label']:.0%} (dotted: guessing), "
     f"box IoU {results['pixels']['box']:.2f} and {results['twentieths']['box']:.2f}, mask IoU {results['pixels']['mask']:.2f} and {results['twentieths']['mask']:.2f}.")  # fmt: skip

# %%
message = ", ".join(
    f"{METRIC_NAMES[task]} {results['pixels'][task]:.2f} in pixels,"
    f" {results['twentieths'][task]:.2f} in twentieths"
    for task in tasks
)
if drawn:
    claim(
        "With the box in squared pixels, the class collapses in 300 steps,"
        " and nothing else does",
        drop["label"] > 0.08 and max(drop["box"], drop["mask"]) < 0.05,
        message,
        same=f"network, {num_pictures} pictures, {STEPS} steps; one training each",
    )
else:
    print(message)

# %% [markdown]
# All three gradients change the same weights. How long are they? (The optimizer, AdamW, divides by the size of the gradient. That does not help, because it divides the sum.)

# %%
# extra code: lengths of the gradients against the step, a panel for each run
def lengths_figure(runs, title):
    fig, axes = plt.subplots(1, len(runs), figsize=(12, 4.3), sharey=True)
    for ax, (name, found) in zip(axes, runs.items(), strict=True):
        steps = 20 * np.arange(len(found))
        ax.set(yscale="log", xlim=(0, 1.25 * steps[-1]))
        ax.set_prop_cycle(color=[COLOURS[task] for task in tasks])
        curves(ax, {task: [record[task] for record in found] for task in tasks}, "step", "", name, x=steps)
    axes[0].set_ylabel("length of the gradient\nin the encoder")
    fig.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=15)
    return fig


def middle(unit, task):
    return np.median([record[task] for record in lengths[unit]])


ratio = {unit: middle(unit, "box") / middle(unit, "label") for unit in units}
show(lengths_figure({f"box in {unit}": lengths[unit] for unit in units}, "In pixels, the box's gradient drowns the others"),
     f"Lengths of the three tasks' gradients in the shared encoder, on a logarithmic axis, twice. Medians, box against class: {ratio['pixels']:.0f} times as long in pixels, {ratio['twentieths']:.1f} times in twentieths.")  # fmt: skip

# %%
claim(
    "With the box in squared pixels, its gradient in the encoder is more than ten times"
    " as long as that of the class; in twentieths it is not",
    ratio["pixels"] > 10 > ratio["twentieths"],
    f"in the median {ratio['pixels']:.0f} and {ratio['twentieths']:.1f} times",
    same="network, pictures, steps",
)

# %% [markdown]
# And the mask? In both runs its gradient is no longer than the class's, and yet the mask is learned. So length alone does not decide which task is lost.
#
# Nobody decided that boxes matter more. The unit did. So the first remedy costs nothing: **choose units in which all losses are about equally large**. Section 8 shows weights that are learned.

# %% [markdown] slideshow={"slide_type": "notes"}
# The lecture says "one task can take over"; here it is measured. Let the class find out where the factor comes from: pixels instead of twentieths of the side give a factor of 3.2, squared
# about 10; smooth L1 halves its square, which makes 20; and the square does not flatten for large errors.

# %% [markdown]
# ### Explore
#
# Choose a test picture and a network. On the right, the dashed box and the outline are the network's answer.


# %%
# extra code: the truth on the left, what a network says on the right
def draw_answers(picture=0, box_in="twentieths"):
    outputs = answers_of(summed[box_in], test[0][[picture]])
    chance = outputs["label"].softmax(dim=1)[0]
    said, right = pool.classes[chance.argmax()], pool.classes[test[1]["label"][picture]]
    fig, axes = plt.subplots(1, 2, figsize=(8, 4.2))
    truth = test_set.targets
    draw_on(axes[0], test_set.images[picture], truth["box"][picture], truth["mask"][picture], title=f"truth: {right}")
    box, mask = 64 * outputs["box"][0].cpu(), outputs["mask"][0] > 0
    draw_on(axes[1], test_set.images[picture], box, mask, colour="C0" if said == right else "C2", title=f"says: {said} ({chance.max():.0%})")
    return fig, f"A {right}, with its outline and, where known, its box. On the right the answer of the network that learned the box in {box_in}: {said}, with its box and outline."


explore(draw_answers, picture=range(8), box_in=["twentieths", "pixels"])

# %% [markdown]
# **Exercise 5** (3 min): equal pull. Return the number $w$ that makes the gradient of $w \cdot$ `loss_b` in the parameters `shared` (a list) as long as that of `loss_a`. Do not change any `.grad`.
# (You may use `gradient_length`.)


# %%
def equal_pull(loss_a, loss_b, shared):
    ...


exercises.equal_pull.check(equal_pull)

# %% slideshow={"slide_type": "skip"}
# exercises.equal_pull.hint()
# exercises.equal_pull.solution()

# %% [markdown]
# ## 6. Does the scarce task gain? (10 min)
#
# One network does three tasks at once. Is its class any better than that of a network that learned nothing else? Other things could explain a difference, so we control for them:
#
# | other explanation | what we do |
# |---|---|
# | more labelled pictures in a step | 16 in every step, whatever other tasks there are |
# | more pictures for batch normalisation | a control: the 16 others pass through, and nothing is asked about them |
# | more to learn, true or not | a control: boxes and masks of **other** pictures |
# | a lucky seed | all ways use the same seeds, and are compared seed by seed |
# | too short a training for the class alone | a control: four times the steps |
#
# And we make labels truly scarce: of the same pictures, only **50** keep theirs.
#
# **Before you run it:** by how many points will boxes and masks raise the class accuracy?
#
# <details><summary>Answer</summary>
#
# Several points on drawings. The class alone reaches about 60 %, and guessing gives 50 %, so this is a lot. Boxes and masks of other
# pictures do not help; they cost some points.
#
# </details>


# %% tags=["measure"]
def shuffle(data, seed):
    """The same, with boxes and masks dealt out to other pictures."""
    images, targets = data
    order = torch.randperm(
        len(images), generator=torch.Generator().manual_seed(seed)
    )
    dealt = {t: v if t == "label" else v[order] for t, v in targets.items()}
    return images, dealt


# %%
WHAT = {"class alone": ["label"], "+ box": ["label", "box"], "+ box and mask": tasks}
live = {way: [] for way in [*WHAT, "box and mask of others"]}
for seed in seeds:
    scarce = few_labels(pool, 50, num_pictures, seed)
    for way, learned in WHAT.items():
        live[way].append(scores(learn(learned, scarce, seed), test)["label"])
    dealt = learn(tasks, shuffle(scarce, seed), seed)
    live["box and mask of others"].append(scores(dealt, test)["label"])

# %%
for way, values in live.items():
    print(f"{way:23}", *[f"{value:.1%}" for value in values])


# %%
# extra code: live runs, a row for each way, lines join runs with the same seed
def live_figure(title):
    fig, ax = plt.subplots(figsize=(9.5, 3.8))
    for k in range(len(seeds)):
        ax.plot([values[k] for values in live.values()], range(len(live)), "-o", color=f"C{k}", markersize=11)
    ax.set(yticks=range(len(live)), yticklabels=live, ylim=(len(live) - 0.6, -0.4), xlabel="class accuracy on the test set (one line per seed)", title=title)
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return fig


means = {way: sum(values) / len(seeds) for way, values in live.items()}
gained = 100 * (means["+ box and mask"] - means["class alone"])
show(live_figure(f"50 labels: box and mask add {gained:+.1f} points on average"),
     f"Class accuracy of three seeds with 50 labels, for four ways; lines join runs with the same seed. Means: {', '.join(f'{way} {value:.1%}' for way, value in means.items())}.")  # fmt: skip

# %%
rival = max(means["class alone"], means["box and mask of others"])
message = ", ".join(f"{way} {value:.1%}" for way, value in means.items())
if drawn:
    claim(
        "With 50 labels, learning box and mask as well helps the class:"
        " it beats the class alone, and boxes and masks of other pictures",
        means["+ box and mask"] > rival + 0.02,
        f"means: {message}",
        same=f"seeds, {STEPS} steps, {NUM_LABELLED} labelled pictures a step",
    )
else:
    print(message)

# %% [markdown]
# ### Which task helps?
#
# Three seeds are few. Here are five others, on drawings, with 50 labels and with 200: each task by itself, the controls, and one task after the other. "Box, then class" first learns the box
# from all pictures. Then it learns the class from the labelled ones, starting from that encoder (fine-tuning, notebook 05). All have 300 steps with labels. (We chose 50 labels after a first
# look at two of the five seeds, so those two test the choice less strictly than the others.)

# %%
help_rows = measured("multi_task_labels")


def of(way, task="label", num=NUM_LABELS, steps=STEPS):
    """This metric of each seed, in their order."""
    asked = {"way": way, "num": num, "steps": steps}
    return np.array([row[task] for row in help_rows if asked.items() <= row.items()])


LONGER = "alone, 4 times the steps"
WAYS = [*dict.fromkeys(row["way"] for row in help_rows)][1:]
gains = {}
for num in (50, 200):
    base = of("class alone", num=num)
    gains[num] = {way: 100 * (of(way, num=num) - base) for way in WAYS}
    gains[num][LONGER] = 100 * (of("class alone", num=num, steps=4 * STEPS) - base)


# %%
# extra code: the gain of each seed over the class alone, a row for each way
CONTROLS = ["others pass through", "+ box and mask of others", LONGER]


def gains_figure(title):
    fig, axes = plt.subplots(1, 2, figsize=(12, 4.8), sharey=True)
    for ax, (num, of_num) in zip(axes, gains.items(), strict=True):
        for row, (way, gain) in enumerate(of_num.items()):
            colour = "0.4" if way in CONTROLS else "C1" if "then" in way else "C0"
            ax.plot(gain, [row] * len(gain), "o", color=colour, markersize=10, alpha=0.7)
            ax.plot([gain.mean()] * 2, [row - 0.35, row + 0.35], color="black", lw=3)
        ax.axvline(0, color="0.4", ls=":", lw=2)
        ax.set(yticks=range(len(of_num)), yticklabels=of_num, xlabel="points gained (one dot per seed)")
        ax.set_title(f"{num} labels", fontsize=14)
    axes[0].invert_yaxis()
    fig.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=15)
    return fig


told = "; ".join(f"{way} {gains[50][way].mean():+.1f} and {gains[200][way].mean():+.1f}" for way in gains[50])
show(gains_figure("Measured earlier: the other tasks help most where labels are scarce"),
     f"Points of class accuracy gained over the class alone, on drawings, one dot for each of five seeds, black: means. Blue: at the same time; orange: one after the other; grey: controls. Means with 50 and with 200 labels: {told}.")  # fmt: skip

# %%
for way in gains[50]:
    pair = [gains[num][way] for num in (50, 200)]
    told = [f"{gain.mean():+5.1f} (deviation {gain.std(ddof=1):.1f})" for gain in pair]
    print(f"{way:26}", *told)

# %% [markdown]
# **With 50 labels**, box and mask raise the class accuracy on each of the five seeds, and so does the box by itself. For the mask by itself, five seeds are not enough to tell. (Why the box?
# Perhaps because cats and dogs differ most in their heads, and the box says where the head is. We have not tested this, for instance by cropping each picture to its box.) The answers must be true ones. Four times the steps for the
# class alone gain less.
#
# **With 200 labels**, learning other tasks at the same time gives no gain that we could tell from 0: the deviations are larger than the means. The class alone, trained for longer, gains on every seed.
#
# **One after the other** gains on each of the five seeds. It took 300 more steps, without labels, so this does not say that the order is better: with 50 labels the box at once, trained for
# 1,200 steps, has 70 %, and one after the other 67 %. With 200 labels it gains what a longer training of the class alone gains, too.

# %% [markdown]
# **Exercise 6** (3 min): a gain, seed by seed. `ours` and `theirs` are NumPy arrays, the accuracies of two ways on the same seeds in the same order. Return the mean gain of ours, and its
# standard deviation over the seeds (divided by $n - 1$). You can believe a gain whose mean is several standard deviations from 0. Standard deviations of what?


# %%
def paired_gain(ours, theirs):
    ...


exercises.paired_gain.check(paired_gain)

# %% slideshow={"slide_type": "skip"}
# exercises.paired_gain.hint()
# exercises.paired_gain.solution()

# %% [markdown]
# ## 7. How many labels, and how long? (10 min)
#
# So far training was short. Perhaps the class alone just needs more time? Measured earlier on drawings, with the box, the cheapest of the tasks, as the other task; always with 16 labelled
# pictures in each step (three seeds):

# %%
# extra code: class accuracy against the number of labels, at two lengths of training
def curves_figure(title):
    fig, axes = plt.subplots(1, 2, figsize=(12, 4.4), sharey=True)
    for ax, steps in zip(axes, LENGTHS, strict=True):
        ax.set(xscale="log", xlim=(40, 2200), xticks=NUMS)
        ax.set_xticklabels(NUMS)
        ax.minorticks_off()
        lines = {way: np.stack([of(way, num=num, steps=steps)[:3] for num in NUMS], axis=1) for way in ("class alone", "+ box")}
        curves(ax, lines, "pictures with a label, of 600", "class accuracy" if ax is axes[0] else "", f"{steps:,} steps", x=NUMS)
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    fig.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=15)
    return fig


NUMS, LENGTHS = (50, 200, 600), (300, 1200)
show(curves_figure("With many labels a longer training replaces the box, with few it does not"),
     "Class accuracy against the number of labels, two bands over three seeds, after 300 steps and after 1,200: the class alone, and with the box beside. "
     + "; ".join(f"{steps:,} steps, {num} labels: {of('class alone', num=num, steps=steps)[:3].mean():.0%} and {of('+ box', num=num, steps=steps)[:3].mean():.0%}" for steps in LENGTHS for num in NUMS) + ".")  # fmt: skip

# %%
for steps in LENGTHS:
    for num in NUMS:
        ours, theirs = (of(w, num=num, steps=steps) for w in ("+ box", "class alone"))
        gain = 100 * (ours[:3] - theirs[:3])
        print(f"{steps:5,} steps, {num:3} labels: {gain.mean():+5.1f} points,", end=" ")
        print(f"from {gain.min():+.1f} to {gain.max():+.1f}")

# %% [markdown]
# With 600 labels the box is worth some points after 300 steps, and about one point after 1,200: the class network had simply not finished learning. The left panel alone would give the other
# task credit for that. With 50 labels the box still helps when the training is four times as long. So this is the case for multi-task learning: **few labels, which more training cannot
# replace**.


# %% [markdown]
# ## 8. Learned weights (18 min)
#
# A sensible unit was enough here. With five tasks, we would rather let the training find the weights $w_t$. Here are two ways, on the hard case: the box in squared pixels.
#
# ### Uncertainty weighting (Kendall, Gal and Cipolla 2018)
#
# Suppose that the answers of each task have noise with variance $\sigma_t^2$. Then the likelihood says how to add up the losses. With $s_t = \log \sigma_t^2$, a parameter like any other,
#
# $$L = \sum_t c_t \, e^{-s_t} L_t + \tfrac{1}{2} s_t , \qquad c_t = 1 \text{ for cross-entropies}, \tfrac{1}{2} \text{ for regression.}$$
#
# A large loss makes $s_t$ grow, which lowers the weight $e^{-s_t}$; the second part keeps $s_t$ from growing for ever. At the best $s_t$, every weighted loss $c_t\, e^{-s_t} L_t$ is
# $\tfrac{1}{2}$, whatever its unit.
# Each $s_t$ begins near the logarithm of the first loss: 0 for losses of about 1, and 5 for the box, whose first loss is about $e^5 = 150$. That is a choice by hand, too. So we also try $s_t = 0$
# for all, and the fixed weight $e^{-5}$ for the box, with nothing learned.


# %% tags=["measure"]
START = {"label": 0.0, "box": 5.0, "mask": 0.0}


class Uncertainty(nn.Module):
    def __init__(self, start=START):
        super().__init__()
        start = {task: nn.Parameter(torch.tensor(s)) for task, s in start.items()}
        self.log_variance = nn.ParameterDict(start)

    def forward(self, losses, network):
        terms = {}
        for task, loss in losses.items():
            s, c = self.log_variance[task], 0.5 if task == "box" else 1.0
            terms[task] = c * torch.exp(-s) * loss + s / 2
        return terms


# %% [markdown]
# ### Gradient normalisation
#
# We have seen the lengths of the gradients. So we make *them* equal: we divide each loss by a running mean of the length of its gradient in the encoder. (**GradNorm**, Chen et al. 2018,
# learns such weights by gradient descent, measures at the last shared
# layer, and lets tasks that learn slowly pull harder. Ours sets them directly, over the whole encoder.)


# %% tags=["measure"]
class EqualLengths(nn.Module):
    def __init__(self, keep=0.9):
        super().__init__()
        self.keep, self.length, self.step = keep, {}, 0

    def forward(self, losses, network):
        if self.step % 4 == 0:  # each look takes a way back through the encoder
            shared = list(network.encoder.parameters())
            for task, loss in losses.items():
                now = gradient_length(loss, shared).item()
                before = self.length.get(task, now)
                self.length[task] = self.keep * before + (1 - self.keep) * now
        self.step += 1
        mean = sum(self.length.values()) / len(losses)
        return {t: loss * mean / self.length[t] for t, loss in losses.items()}


# %% [markdown]
# **Before you run it:** box in squared pixels, weights learned by uncertainty. What will the class accuracy be: as with the plain sum in pixels, as in twentieths, or far above both?
#
# <details><summary>Answer</summary>
#
# About as with the plain sum in twentieths. But the start does it, not the learning: with the fixed weight it is about as good, and from 0 for all, the class is lost. In 300 steps, AdamW cannot move
# $s_t$ that far.
#
# </details>

# %%
weighting, weights = Uncertainty(), []


def note_weights(network, terms):
    s = weighting.log_variance
    weights.append({task: torch.exp(-s[task]).item() for task in tasks})


weighed = learn(
    tasks, data, seeds[0], weighting, losses=IN_PIXELS, watch=note_weights
)
weighed_scores = scores(weighed, test)
for task in tasks:
    print(f"{METRIC_NAMES[task]:15} {weighed_scores[task]:.3f}")

# %%
others = {
    "learned from 0 for all": Uncertainty(dict.fromkeys(tasks, 0.0)),
    "fixed at 1/150 for the box": Fixed(label=1, box=1 / 150, mask=1),
}
right = {"learned from 1/150 for the box": weighed_scores["label"]}
for way, other in others.items():
    rival = learn(tasks, data, seeds[0], other, losses=IN_PIXELS)
    right[way] = scores(rival, test)["label"]

# %%
message = "class accuracy: "
message += ", ".join(f"{way} {share:.1%}" for way, share in right.items())
sums = {unit: found["label"] for unit, found in results.items()}
message += f"; plain sum {sums['pixels']:.1%}, in twentieths {sums['twentieths']:.1%}"
from_start, from_zero, fixed = right.values()
if drawn:
    claim(
        "In squared pixels, uncertainty weighting saves the class"
        " if the box begins with a small weight, and so does that weight, fixed;"
        " from equal weights it does not",
        min(from_start, fixed) > max(sums["pixels"], from_zero) + 0.08
        and min(from_start, fixed) > sums["twentieths"] - 0.05,
        message,
        same=f"network, {num_pictures} pictures, {STEPS} steps; one training each",
    )
else:
    print(message)

# %%
# extra code: the learned weights against the step
fig, ax = plt.subplots(figsize=(8, 4.3))
ax.set(yscale="log", xlim=(0, 24 * len(weights)))
ax.set_prop_cycle(color=[COLOURS[task] for task in tasks])
lines = {task: [record[task] for record in weights] for task in tasks}
curves(ax, lines, "step", "weight $e^{-s}$", "The smaller a training loss, the larger its weight", x=20 * np.arange(len(weights)))
show(fig, f"The three learned weights against the step, logarithmic. At the end the class has {weights[-1]['label']:.1f}, the mask {weights[-1]['mask']:.1f}, the box in squared pixels {weights[-1]['box']:.3f}.")

# %% [markdown]
# Do **not** read these weights as uncertainty. By that reading, the network would be about as sure of the class, which it often gets wrong, as of the mask. The weights follow the **training**
# loss, and that of the class becomes small because its pictures are learned by heart.
#
# Here are three other seeds, on drawings, beside the plain sum in both units:

# %%
weighting_rows = measured("multi_task_balance")
hard = ["plain sum, pixels", "uncertainty, pixels", "equal lengths, pixels"]


def of_weighting(way, task):
    return np.array([row[task] for row in weighting_rows if row["way"] == way])


dots_of = {"plain sum": {task: of("+ box and mask", task)[:3] for task in tasks}}
for way in [*hard, "uncertainty"]:
    dots_of[way] = {task: of_weighting(way, task) for task in tasks}


# %%
# extra code: a row for each way, one dot per seed, a panel for each metric
def weightings_figure(title):
    fig, axes = plt.subplots(1, 3, figsize=(12, 3.8), sharey=True)
    for ax, task in zip(axes, tasks, strict=True):
        for row, values in enumerate(dots_of.values()):
            ax.plot(values[task], [row] * len(values[task]), "o", color=f"C{row}", markersize=9, alpha=0.6)
            ax.plot([values[task].mean()] * 2, [row - 0.35, row + 0.35], color="black", lw=3)
        ax.set(xlabel=METRIC_NAMES[task], yticks=range(len(dots_of)), yticklabels=dots_of)
        ax.locator_params(axis="x", nbins=4)
    axes[0].xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes[0].invert_yaxis()
    fig.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=15)
    return fig


told = "; ".join(f"{way} {values['label'].mean():.0%}" for way, values in dots_of.items())
show(weightings_figure("Measured earlier: learned weights recover what the sum in pixels loses"),
     f"Class accuracy, box IoU and mask IoU of each seed, on drawings, for five ways to add up the losses; black: means. Class accuracy: {told}. (Without 'pixels', the box is in twentieths; with pixels, uncertainty begins at 1/150 for the box.)")  # fmt: skip

# %%
for way in [*hard, "uncertainty"]:
    gain = 100 * (dots_of[way]["label"] - dots_of["plain sum"]["label"])
    print(f"{way:22} against the plain sum: {gain.mean():+5.1f} points, from"
          f" {gain.min():+.1f} to {gain.max():+.1f}")  # fmt: skip

# %% [markdown]
# Uncertainty weighting makes the unit harmless if the weights begin near the right size: with the box in squared pixels it is as good for the class as the plain sum in twentieths, and costs the box a little. Equal lengths recover
# most of the class accuracy: four to six points are missing. With the box in twentieths, three seeds show no gain of uncertainty weighting over the plain sum. Xin et al. (2022) found the same
# on large data sets: well-chosen fixed weights do as well as the learned ones.

# %% [markdown]
# **Exercise 7** (3 min): uncertainty weights. `losses` and `log_variances` are tensors with a number for each task. Return the total, without the $c_t$: $\sum_t e^{-s_t} L_t + \tfrac{1}{2} s_t$.


# %%
def uncertainty_loss(losses, log_variances):
    ...


exercises.uncertainty_loss.check(uncertainty_loss)

# %% slideshow={"slide_type": "skip"}
# exercises.uncertainty_loss.hint()
# exercises.uncertainty_loss.solution()

# %% [markdown]
# ## 9. What it costs, and what it saves (15 min)
#
# ### The tasks with many answers
#
# So far we looked at the task with few labels. Now we look at the two that have an answer for every picture. Is the shared network mediocre at both? (Three seeds, on drawings, 300 steps.)

# %%
for task, way in {"box": "box only", "mask": "mask only"}.items():
    single, shared = of_weighting(way, task), of("+ box and mask", task)[:3]
    gain = shared - single
    print(f"{task:4} only {single.mean():.3f}, all three {shared.mean():.3f}")
    print(f"    gain from {gain.min():+.3f} to {gain.max():+.3f}")

# %% [markdown]
# Both are better by themselves, on each seed: in the mean, the box by a point, the mask by several. They have all the answers that they need, and in the shared network three tasks share an encoder of
# the same size and the same number of steps.
#
#
# ### One encoder against three
#
# What do three answers for one picture cost? We count parameters, multiplications, and the numbers that training must keep for the backward pass (they take most of its memory).


# %%
# extra code: what one forward pass keeps for the backward pass, without the parameters
def kept_bytes(networks, images):
    own = {parameter.data_ptr() for network in networks for parameter in network.parameters()}
    storages = {}

    def note(tensor):
        if tensor.data_ptr() not in own:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        for network in networks:
            network(images)
    return sum(storage.nbytes() for storage in storages.values())


# %% [markdown]
# **Before you run it:** three networks give three answers. What share of their multiplications does the shared network need?
#
# <details><summary>Answer</summary>
#
# About two thirds of the multiplications, half of the parameters. The mask head works on large maps, and it is not shared.
#
# </details>

# %%
one, three = [Network(tasks)], [Network([task]) for task in tasks]
batch = torch.zeros(32, 3, 64, 64)
count = {
    "parameters": lambda nets: sum(num_parameters(net) for net in nets),
    "multiplications": lambda nets: sum(count_macs(net, 1, 3, 64, 64) for net in nets),
    "bytes kept": lambda nets: kept_bytes(nets, batch),
}
costs = {name: (of_nets(one), of_nets(three)) for name, of_nets in count.items()}
for name, (shared, separate) in costs.items():
    print(f"{name:16} {shared:12,} shared, {separate:12,} in three networks")

# %%
fact(
    "Three networks cost more than one with three heads, by each of the three counts",
    all(separate > 1.2 * shared for shared, separate in costs.values()),
    ", ".join(f"{name}: {m / s:.1f} times" for name, (s, m) in costs.items()),
)


# %%
seconds = {}
for name, nets in {"one": one, "three": three}.items():
    for net in nets:
        net.eval()
    known_names = {"nets": nets, "batch": batch}
    timer = Timer("[net(batch) for net in nets]", globals=known_names)
    with torch.no_grad():
        seconds[name] = min(timer.timeit(3).mean for _ in range(3))
times = seconds["three"] / seconds["one"]
print(f"by the clock, three networks take {times:.1f} times as long")

# %% [markdown]
# That is in use, not in training. (Three networks can be trained one after the other. Then the memory is that of the largest, but the multiplications stay.)


# %% [markdown]
# ## 10. Benign or malignant, and a shortcut (20 min)
#
# The lecture's example is ultrasound of the breast. Doctors want the outline of a lesion, and want to know whether it is benign or malignant. A U-Net gives the outline. At its **bottleneck**,
# the picture is smallest and described by few numbers. **Unroll** them, and append a linear classifier.
#
# If you have the BUSI data set, you see its ultrasound images. If not, you see **drawings**: benign lesions have a smooth outline, malignant ones spicules, lobes or corners, and nothing
# else tells them apart. They are a stand-in to learn the method, no more. Neither is for any medical use.

# %%
lesion_set, _, lesion_test = datasets.lesions(
    num_train=400, num_val=20, num_test=400, size=64
)
lesion_noun = lesion_set.noun
print(f"{len(lesion_set)} {lesion_noun}s to learn from, {len(lesion_test)} to test on")

# %% [markdown]
# A lesion covers about a tenth of its picture. A new network says about ½ for every pixel, and after a short training some runs still mark far too many pixels as lesion. So we start the
# last bias of the mask at the logarithm of the odds: then the network begins with the right share. (The way down and the way up of the course's `UNet` are also functions of their own, `encode`
# and `decode`.)


# %%
lesion_share = lesion_set.targets["mask"].float().mean()


class LesionNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.unet = UNet(num_classes=1, width=8, levels=4)
        nn.init.constant_(self.unet.head.bias, lesion_share.logit().item())
        self.classifier = nn.Linear(64 * 8 * 8, 2)  # for pictures of 64 x 64

    def forward(self, images):
        features = self.unet.encode(images)
        label = self.classifier(features[-1].flatten(start_dim=1))
        return {"label": label, "mask": self.unet.decode(features)[:, 0]}


# %%
# NBVAL_CHECK_OUTPUT
for x in LesionNetwork().unet.encode(torch.zeros(1, 3, 64, 64)):
    print(f"{x.shape[1]:2} channels, {x.shape[2]} x {x.shape[3]}")

# %% [markdown]
# The loop, the losses and the metrics are those from above. Here every picture has both answers.


# %%
def learn_lesions(dataset, seed=seeds[0]):
    torch.manual_seed(seed)
    network = LesionNetwork().to(device, memory_format=torch.channels_last)
    train(network, tensors(dataset), PLAIN_SUM, steps=150, lr=3e-3, num_others=0)
    return network


lesion_network = learn_lesions(lesion_set)
lesion_scores = scores(lesion_network, tensors(lesion_test))
for task, value in lesion_scores.items():
    print(f"{METRIC_NAMES[task]:15} {value:.2f}")

# %%
# extra code: lesions with the true outline and the one found; the worst outlines come first
def lesion_figure(num=5):
    images, truth = tensors(lesion_test)
    outputs = answers_of(lesion_network, images)
    order = mask_iou(outputs["mask"], truth["mask"]).argsort()[:: max(1, len(lesion_test) // num)][:num].tolist()
    fig, axes = plt.subplots(1, num, figsize=(13, 3.4))
    for ax, i in zip(axes, order, strict=True):
        said = lesion_test.classes[outputs["label"][i].argmax()]
        is_ = lesion_test.classes[lesion_test.targets["label"][i]]
        draw_on(ax, lesion_test.images[i], mask=lesion_test.targets["mask"][i], colour="C1")
        draw_on(ax, lesion_test.images[i], mask=outputs["mask"][i] > 0, colour="C0", title=f"is {is_}\nsays {said}")
    fig.suptitle("True outline orange, found blue; from the worst outline to the best", x=0.01, ha="left", fontweight="bold", fontsize=15)
    return fig


show(lesion_figure(), f"Five {lesion_noun}s of lesions, from the worst found outline to the best, with the true outline in orange and the found one in blue, and above each what it is and what the network says.")

# %% [markdown]
# Could a single number do it? For three numbers of the true outline, we put a threshold half-way between the means of the two classes.


# %%
def one_number(values, test_values):
    """Accuracy of a threshold on one number, half-way between the classes."""
    labels = lesion_set.targets["label"]
    benign, malignant = values[labels == 0].mean(), values[labels == 1].mean()
    above = test_values > (benign + malignant) / 2
    said = above if malignant > benign else ~above
    return (said == lesion_test.targets["label"]).float().mean().item()


def outline_numbers(dataset):
    masks = dataset.targets["mask"]
    width, height = (masks.any(dim=d).sum(dim=1).clamp(min=1) for d in (1, 2))
    area = masks.sum(dim=(1, 2)).float()
    filled = area / (width * height)
    return {"area": area, "width / height": width / height, "share of box": filled}


# %%
learned_from, new = outline_numbers(lesion_set), outline_numbers(lesion_test)
by_one = {name: one_number(learned_from[name], new[name]) for name in new}
print(", ".join(f"{name} {share:.0%}" for name, share in by_one.items()))

# %%
always = max(lesion_test.counts().values()) / len(lesion_test)
message = (
    f"class accuracy {lesion_scores['label']:.0%} (always the same: {always:.0%}),"
    f" mask IoU {lesion_scores['mask']:.2f}; one number: "
    + ", ".join(f"{name} {share:.0%}" for name, share in by_one.items())
)
if lesion_test.source == "critters":
    claim(
        "One U-Net outlines the drawn lesions and tells benign from malignant",
        lesion_scores["label"] > 0.8
        and lesion_scores["label"] > max(by_one["area"], by_one["width / height"]) + 0.1
        and lesion_scores["mask"] > 0.6,
        message,
    )
else:
    print(message)

# %% [markdown] slideshow={"slide_type": "notes"}
# Ask what "unrolled" costs: the classifier has a weight for every position of the bottleneck, so it may learn where in the picture a lesion lies, as the flatten head of notebook 05 could.
# Two answers from one look are how such a system could save a doctor's time, if it were tested on patients. This one is not.

# %% [markdown]
# Area and proportions say little. The share of its box that a lesion fills says much, as it should: spicules and lobes leave gaps.
#
# ### A shortcut
#
# An earlier version of these drawings had a shadow below every malignant lesion, and a bright band below every benign one. Ultrasound has both, and shadows are more frequent under malignant
# lesions; but the drawings had them **always**. One number, the brightness below the lesion, classified 99.75 % of the test set correctly. Let us put such bands in again:


# %%
def below(masks):
    """The pixels below each lesion, in its columns."""
    passed = masks.cumsum(dim=1) == masks.sum(dim=1, keepdim=True)
    return passed & ~masks & masks.any(dim=1, keepdim=True)


def with_bands(dataset, strength=0.6):
    """A shadow below each malignant lesion, a bright band below each benign one."""
    masks, labels = dataset.targets["mask"], dataset.targets["label"]
    factor = torch.where(labels == 1, 1 - strength, 1 + strength)[:, None, None]
    bands = torch.where(below(masks), factor, torch.ones(()))[:, None]
    images = (dataset.images * bands).clamp(max=255).byte()
    about = dataset.classes, dataset.noun, dataset.source
    return datasets.ImageDataset(images, dataset.targets, *about)


# %%
banded, banded_test = with_bands(lesion_set), with_bands(lesion_test)
swapped_test = with_bands(lesion_test, strength=-0.6)  # the other class's band

# %%
# extra code: a benign and a malignant lesion as they are, with bands, and with swapped bands
fig, axes = plt.subplots(1, 6, figsize=(13, 2.6))
rows = [int((lesion_test.targets["label"] == label).nonzero()[0]) for label in (0, 1)]
kinds = {"as it is": lesion_test, "with band": banded_test, "band swapped": swapped_test}
for k, row in enumerate(rows):
    for ax, (name, kind) in zip(axes[3 * k : 3 * k + 3], kinds.items(), strict=True):
        draw_on(ax, kind.images[row], title=f"{lesion_test.classes[k]}\n{name}")
show(fig, f"A benign lesion and a malignant one, as the {lesion_noun} is, with the band of its class below (bright if benign, dark if malignant), and with the other class's.")

# %% [markdown]
# First we try without any network: the brightness below the lesion, relative to that of the picture, with a threshold as above.


# %%
def brightness_below(dataset):
    grey, where = dataset.images.float().mean(dim=1), below(dataset.targets["mask"])
    there = (grey * where).sum(dim=(1, 2)) / where.sum(dim=(1, 2)).clamp(min=1)
    return there / grey.mean(dim=(1, 2))


as_is = one_number(brightness_below(lesion_set), brightness_below(lesion_test))
with_band = one_number(brightness_below(banded), brightness_below(banded_test))
print(f"one number: {as_is:.1%} as they are, {with_band:.1%} with bands")

# %% [markdown]
# **Before you run it:** the same network is trained on lesions with bands. How good is it on lesions with bands, without bands, and with swapped bands?
#
# <details><summary>Answer</summary>
#
# With bands it is nearly perfect. Without bands, it is worse than the network that never saw a band, though it was shown the same outlines. With swapped bands it says the opposite. It has
# learned the shortcut, because that was easier than the outline; a test set with the same shortcut would not have shown this.
#
# </details>

# %%
fooled = learn_lesions(banded)
trials = {name: scores(fooled, tensors(kind)) for name, kind in kinds.items()}
for name, found in trials.items():
    print(f"{name:13} class {found['label']:.0%}, mask IoU {found['mask']:.2f}")

# %%
message = ", ".join(f"{name} {found['label']:.0%}" for name, found in trials.items())
message += f"; trained without bands {lesion_scores['label']:.0%} as it is"
if lesion_test.source == "critters":
    claim(
        "If a band gives the class away, the network learns the band:"
        " swapped bands reverse its answers",
        trials["with band"]["label"] > 0.95
        and trials["band swapped"]["label"] < 0.3
        and trials["as it is"]["label"] < lesion_scores["label"] - 0.03,
        message,
        same=f"network, {len(lesion_set)} {lesion_noun}s, outlines, steps, seed",
    )
else:
    print(message)

# %% [markdown]
# So before you believe a good result, ask what *one number* could do: mean brightness, the size of the object, its position, the border of the picture. Networks for medical images have
# relied on rulers, markers and the name of the hospital.

# %% [markdown]
# ## 11. Exercises (15 min)
#
# **Exercise 8**: one encoder, many heads. `heads` is a dict with any number of modules and any names. Return an `nn.Module` that returns a dict with the answer of each head to the features
# of `encoder`. The encoder must run once, and `parameters()` must find everything.


# %%
def shared_network(encoder, heads):
    ...


exercises.shared_network.check(shared_network)

# %% slideshow={"slide_type": "skip"}
# exercises.shared_network.hint()
# exercises.shared_network.solution()

# %% [markdown]
# ## 12. Lab: the best classifier from 60 labels and 600 masks (45 min and more)
#
# You have 600 pictures with masks and boxes (with photos, all there are if they are fewer), and labels for 60 of them. Use no other pictures, and no pretrained network (notebook 05 shows
# what those do). Build the best classifier of cats and dogs that you can: other weights, a longer training, more flips and crops, masks first, a vote of several networks, another use of
# masks and boxes. The cell removes all other labels.

# %%
lab_data = few_labels(load_pets().train, 60, NUM_PICTURES, seeds[0])
pool = data = here = lab_data  # what had more labels is gone
for task, values in lab_data[1].items():
    print(f"{task}: known for {known(values).sum()} of {len(values)}")

# %% [markdown]
# `classify` gets pictures as bytes, a uint8 tensor (N, 3, 64, 64) on the CPU, and returns their labels, (N,), 0 for cat and 1 for dog. So call `prepare` in it. Use `val_set` to choose; the check
# scores your choice on pictures that nobody has seen: new drawings, or the test photos, cut and mirrored by chance. On drawings 75 % is good, on photos 60 %; the check also says what you would get by always giving the same answer.


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
# - The network has one encoder and a head for each task: the list of tasks is the only difference from a single-task network.
# - Leave missing answers out **before** the loss. Leaving them out after it repairs the loss but not the gradient.
# - If losses are added up in an unlucky unit, one task takes over. Box and mask look fine, and the class is lost. A sensible unit is the first remedy; learned weights
#   do, too, if they begin near the right size.
# - Do the other tasks help the one with few labels? On drawings with 50 labels yes, by several points. With 200 labels we could not tell, and a longer training does at least as much. Compare with the
#   same number of labelled pictures in a step, and after enough steps.
# - The tasks with many answers are better alone, with the same number of steps. One encoder saves parameters, multiplications and memory.
# - If one number gives the label away, a network learns that number.
#
# The claims of this run, with their figures:

# %%
summary()

# %% [markdown]
# ### Lecture topics
#
# | topic | section | lectures |
# |---|---|---|
# | K1 class, box and mask with a shared encoder | 2 | B |
# | K2 a U-Net with a classifier on its unrolled bottleneck, benign or malignant | 10 | B |
# | K3 few labels for one task: the curve | 6, 7 | B |
# | K4 masked losses | 3 | B |
# | K5 one task takes over, and three ways to balance | 5, 8 | B |
# | K6 when it does not help | 6, 7, 9 | B |
# | K7 one encoder against three; first other tasks, then the class | 6, 9 | B, beyond |
# | K8 which task helps | 6 | B, beyond |
#
# ### Further reading
# - R. Caruana. *Multitask Learning*. Machine Learning 28, 1997
# - A. Kendall, Y. Gal, R. Cipolla. *Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and Semantics*. CVPR 2018. https://arxiv.org/abs/1705.07115
# - Z. Chen, V. Badrinarayanan, C.-Y. Lee, A. Rabinovich. *GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask Networks*. ICML 2018. https://arxiv.org/abs/1711.02257
# - T. Standley et al. *Which Tasks Should Be Learned Together in Multi-task Learning?* ICML 2020. https://arxiv.org/abs/1905.07553
# - D. Xin et al. *Do Current Multi-Task Optimization Methods in Deep Learning Even Help?* NeurIPS 2022. https://arxiv.org/abs/2209.11379
# - S. Ruder. *An Overview of Multi-Task Learning in Deep Neural Networks*. 2017. https://arxiv.org/abs/1706.05098
# - R. Geirhos et al. *Shortcut Learning in Deep Neural Networks*. Nature Machine Intelligence 2, 2020. https://arxiv.org/abs/2004.07780
# - O. Ronneberger, P. Fischer, T. Brox. *U-Net: Convolutional Networks for Biomedical Image Segmentation*. MICCAI 2015. https://arxiv.org/abs/1505.04597
# - R. Girshick. *Fast R-CNN*. ICCV 2015. https://arxiv.org/abs/1504.08083 (smooth L1; class and box trained together)
# - O. M. Parkhi, A. Vedaldi, A. Zisserman, C. V. Jawahar. *Cats and Dogs*. CVPR 2012 (the Oxford-IIIT pets)
# - W. Al-Dhabyani, M. Gomaa, H. Khaled, A. Fahmy. *Dataset of breast ultrasound images*. Data in Brief 28, 2020 (BUSI)
#
# ### Next notebook
# 08 · Regularisation
