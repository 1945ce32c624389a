# %% [markdown]
# # 07 · Multi-task learning
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/@SLUG@/blob/@REF@/notebooks/07_multi_task.ipynb)
# [![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://github.com/@SLUG@/blob/@REF@/notebooks/07_multi_task.ipynb)
#
# **To keep what you write:** on Colab choose *File > Save a copy in Drive*, on Kaggle *Copy & Edit*, before you begin.
#
# **Question:** You have few labels for the task that you care about, and many for others on the same pictures. Can one network learn them
# all, and does the scarce task gain?
#
# **You will be able to**
# - build one encoder with a head for each task, and train it on pictures of which each has only some of the labels,
# - see when one task takes over, say why from the gradients, and balance the tasks again,
# - say when multi-task learning helps, when it does not, and what it saves.
#
# **Time:** it runs in @TIME@ on two CPU cores; with all sections, the exercises and the lab, about four hours.
# **Before this:** notebooks 00 (a training loop, convolution and pooling) and 01 (batch normalisation). What a U-Net is (notebook 04) helps.

# %% [markdown] slideshow={"slide_type": "notes"}
# **A plan for 75 minutes**
#
# - **Core:** sections 1, 2, 3, 4, 5 and 6: three questions of one picture, the shared network, its losses, missing labels, the loop, and one task that
#   takes over.
# - **Optional:** 7 (balance: twenty-five minutes), 8 (how many labels), 9 (when it does not help), 10 (what it saves), 11 (benign or malignant).
# - **Where to stop:** after the gradients of section 6; the balance of section 7 opens the next lecture. If you are late, stop at the bars of section 6.

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
import time

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.colors import to_hex
from matplotlib.ticker import PercentFormatter
from torch import nn
from torchvision import tv_tensors
from torchvision.transforms import v2
from tqdm.auto import tqdm

from utils import datasets
from utils.exercises import multi_task as exercises
from utils.figures import curves, explore, show, to_picture
from utils.lessons import claim, measured, summary
from utils.models import UNet, count_macs, num_parameters

# %% slideshow={"slide_type": "skip"}
course_seed = torch.initial_seed()  # as utils.start() has set it

# %% [markdown]
# ## 1. One picture, three questions (5 min)
#
# About one picture many things can be asked. **What** is it, a cat or a dog? **Where** is its head? **Which pixels** are the animal? So far,
# a network answered one question. This one answers all three, and shares most of its work.
#
# Answers cost differently. An outline can be drawn by anybody with patience. A diagnosis takes a doctor. So it is common to have **many labels for one task and
# few for another, on the same pictures**. That is our case: 600 pictures with outlines and boxes, and the class is known for only 80 of them.


# %% tags=["measure"]
NUM_LABELS, NUM_PICTURES = 80, 600


def load_pets():
    return datasets.pets(num_train=1200, num_val=200, num_test=1000, size=64)


# %%
pool, val_set, test_set = load_pets()
noun, drawn = test_set.noun, test_set.source == "critters"
print(f"to draw from: {pool}\nvalidation:   {val_set}\ntest:         {test_set}")


# %%
# extra code: a picture with its box (dashed) and the outline of its mask, as far as they are known
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
fig, axes = plt.subplots(1, 5, figsize=(12, 2.9))
targets = pool.targets
for i, ax in enumerate(axes):
    name = pool.classes[targets["label"][i]] if i < 2 else "label unknown"
    draw_on(ax, pool.images[i], targets["box"][i], targets["mask"][i], title=name)
show(fig, f"Five {noun}s with the outline of the animal and a dashed box around its head. The class is known for the first two only.")

# %% [markdown] slideshow={"slide_type": "notes"}
# Ask the class for such cases of their own: a lesion outlined by a student and judged by a pathologist; a street scene with boxes from a cheap service
# and depth from an expensive sensor. The lecture's case, benign or malignant with an outline, is section 11.

# %% [markdown]
# ## 2. One encoder, three heads (15 min)
#
# Why should one task help another? Whoever can outline an animal knows where ears end and fur begins. Such features serve the class as well. So the network gets one
# **encoder** that all tasks share, and a small **head** for each task.
#
# The encoder has four stages. Each halves the side, the first by a stride of 2, the others by pooling. It returns the features of **every** stage, since a head may
# want more than the last.


# %% tags=["measure"]
def block(in_channels, out_channels, stride=1):
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


# %% tags=["measure"]
class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.stage1 = block(3, 16, stride=2)
        self.stage2 = nn.Sequential(block(16, 32), nn.MaxPool2d(2))
        self.stage3 = nn.Sequential(block(32, 64), nn.MaxPool2d(2))
        self.stage4 = nn.Sequential(block(64, 64), nn.MaxPool2d(2))

    def forward(self, images):
        features = [images]
        for stage in self.children():
            features.append(stage(features[-1]))
        return features[1:]


# %%
# NBVAL_CHECK_OUTPUT
for number, features in enumerate(Encoder()(torch.zeros(1, 3, 64, 64)), start=1):
    print(f"stage {number}: {features.shape[1]} channels, {features.shape[2]} x {features.shape[3]}")

# %% [markdown]
# **Class.** It does not matter where the animal is. So average over the places, and one linear layer:


# %% tags=["measure"]
class ClassHead(nn.Module):
    def __init__(self, num_classes=2):
        super().__init__()
        self.linear = nn.Linear(64, num_classes)

    def forward(self, features):
        return self.linear(features[-1].mean(dim=(2, 3)))


# %% [markdown]
# **Box.** Now the place is the answer, so nothing is averaged: the last features are unrolled (flattened, as notebook 05 says). Four numbers come out, $x_1, y_1, x_2, y_2$, and a sigmoid keeps each between 0 and 1, as a share of
# the picture's side.


# %% tags=["measure"]
class BoxHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64 * 4 * 4, 64), nn.ReLU(), nn.Linear(64, 4), nn.Sigmoid())

    def forward(self, features):
        return self.layers(features[-1])


# %% [markdown]
# **Mask.** One number a pixel. The way back up, as in a U-Net (notebook 04): enlarge, put the features of the encoder's stage beside, convolve.


# %% tags=["measure"]
class MaskHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.ups = nn.ModuleList([block(64 + 64, 32), block(32 + 32, 16), block(16 + 16, 16)])
        self.last = nn.Conv2d(16, 1, kernel_size=1)

    def forward(self, features):
        *skips, x = features
        for up, skip in zip(self.ups, reversed(skips), strict=True):
            x = up(torch.cat([F.interpolate(x, scale_factor=2.0), skip], dim=1))
        return F.interpolate(self.last(x), scale_factor=2.0, mode="bilinear")[:, 0]


# %% [markdown]
# The network: encode **once**, then ask every head. Its answer is a dict. With one task in the list it is an ordinary single-task network: the list is the only thing that
# we shall change.


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

# %% [markdown]
# To draw the network, ask its modules themselves: a hook on each part notes what the part gives.


# %%
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


# %%
# extra code: the architecture as a figure, from what the modules say
COLOURS = {"label": to_hex("C1"), "box": to_hex("C4"), "mask": to_hex("C2")}


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
    ax.set(xlim=(-0.1, 8.5), ylim=(-2.4, 2.4), title="One encoder (blue) feeds three heads; with each part stands its number of parameters")
    ax.axis("off")
    return fig


show(architecture(network), "The network, drawn from its modules: a picture of 3 x 64 x 64 passes four blue stages down to 64 x 4 x 4. From there arrows lead to the heads for label and box; the mask head "
     "gets the features of all stages.")  # fmt: skip


# %% [markdown]
# **Before you run it:** three single-task networks have three encoders. How many of their parameters does the shared network have: a third, half, nearly all?
#
# <details><summary>Answer</summary>
#
# In between: only the encoder is shared, and here the heads are about as large as it is. In large networks the encoder is nearly everything.
#
# </details>

# %%
singles = sum(num_parameters(Network([task])) for task in HEADS)
encoder_size = num_parameters(Network().encoder)
claim(
    "Three single-task networks have the shared network's parameters and two encoders more",
    singles == num_parameters(Network()) + 2 * encoder_size,
    f"{singles:,} = {num_parameters(Network()):,} + 2 x {encoder_size:,}",
)

# %% [markdown]
# ## 3. Three losses, three metrics (8 min)
#
# Each task has its own loss, to learn by, and its own metric, to be judged by:
#
# | task | loss | metric |
# |---|---|---|
# | label | cross-entropy | accuracy |
# | box | smooth L1 (Girshick 2015): squared for small errors, absolute for large ones | IoU: intersection over union of both boxes |
# | mask | binary cross-entropy, pixel by pixel | IoU of both masks |
#
# A box error has a **unit**, and somebody has to choose it. We count in twentieths of the side: an error of 1 is about three pixels of 64. (Another choice comes in section 6, and it matters.)


# %% tags=["measure"]
def box_loss(boxes, targets):
    return F.smooth_l1_loss(20 * boxes, 20 * targets)


LOSSES = {"label": F.cross_entropy, "box": box_loss, "mask": F.binary_cross_entropy_with_logits}

# %% [markdown]
# Pictures and answers as tensors, in memory. Of the labels we keep the first `num_labels`; the others become $-1$, which says *unknown*.

# %% tags=["measure"]
scale = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean=[0.5] * 3, std=[0.25] * 3)])


def tensors(dataset):
    """(images, targets) of a whole data set, ready for the network; boxes as shares of the side."""
    targets = {task: dataset.targets[task].to(device) for task in HEADS if task in dataset.targets}
    targets["mask"] = targets["mask"].float()
    if "box" in targets:
        targets["box"] = targets["box"] / dataset.images.shape[-1]
    return scale(dataset.images).to(device, memory_format=torch.channels_last), targets


# %% tags=["measure"]
def few_labels(pool, num_labels, num_pictures, seed):
    """The tensors of pictures drawn from the pool; only the first `num_labels` keep their label, in equal shares."""
    images, targets = tensors(pool.subset(min(num_pictures, len(pool)), seed=seed))
    targets["label"] = targets["label"].clone()
    targets["label"][num_labels:] = -1
    return images, targets


# %%
seed = 100 + 10 * course_seed  # so that runs with other seeds share none, nor with the tables (seeds 0 to 7)
data = few_labels(pool, NUM_LABELS, NUM_PICTURES, seed)
test = tensors(test_set)
if not drawn:  # few of the test photos have boxes, so we measure on the validation photos as well
    more = tensors(val_set)
    test = torch.cat([test[0], more[0]]), {task: torch.cat([test[1][task], more[1][task]]) for task in HEADS}
print({task: tuple(values.shape) for task, values in data[1].items()})
print("the first labels:", data[1]["label"][:6].tolist(), " the last:", data[1]["label"][-6:].tolist())

# %% [markdown]
# ## 4. Pictures that have only some of the labels (15 min)
#
# Most pictures have no label ($-1$). In real data, boxes and masks are missing too, and stand there as NaN, *not a number*. (Of the Oxford pets, only those for training come with boxes.) Let us take
# 12 pictures, and take the boxes from half of them:

# %%
images, targets = data[0][:12], {task: values[:12].clone() for task, values in data[1].items()}
targets["label"][4:] = -1
targets["box"][torch.arange(12) % 5 < 2] = torch.nan
print(*[f"{x1:.2f}" for x1 in targets["box"][:, 0]])

# %% [markdown]
# **Before you run it:** a mean over twelve pictures, six of which have no box. What is the loss?
#
# <details><summary>Answer</summary>
#
# NaN: one missing number is enough to spoil a mean. Backward, every weight would become NaN, and the training is over.
#
# </details>

# %%
network = Network().to(device)
outputs = network(images)
forgotten = box_loss(outputs["box"], targets["box"])
claim("A forgotten mask spoils everything: the mean over pictures of which some have no box is not a number", forgotten.isnan(), f"loss {forgotten.item()}")

# %% [markdown]
# The remedy is a **mask** (of pictures, not of pixels): a truth value that says whose answer is known. Then take the mean over those. With $m_i = 1$ where picture $i$ has an answer,
#
# $$L = \frac{\sum_i m_i \, \ell_i}{\max(1, \sum_i m_i)}$$
#
# (The $\max$ is there for the batch in which nobody has an answer.) A natural way to write it is `torch.where(m, l, 0)`. It has a trap:

# %%
known_box = targets["box"].isfinite().all(dim=1)
per_picture = F.smooth_l1_loss(20 * outputs["box"], 20 * targets["box"], reduction="none").mean(dim=1)
trap = torch.where(known_box, per_picture, 0).sum() / known_box.sum()
(gradient,) = torch.autograd.grad(trap, network.heads["box"].layers[1].weight, retain_graph=True)
print(f"loss {trap.item():.2f}: fine.   gradient: {gradient.isnan().float().mean():.0%} of it is NaN")

# %%
claim(
    "torch.where after the loss repairs the value and not the gradient: 0 x NaN is NaN",
    trap.isfinite() & gradient.isnan().any(),
    f"loss {trap.item():.2f}, {gradient.isnan().float().mean():.0%} of the gradient is NaN",
)

# %% [markdown]
# So take the rows **before** the loss. What was not used has no gradient. Missing numbers are $-1$ or NaN, and all others here are 0 or more, so one comparison serves all three tasks:


# %% tags=["measure"]
def known(targets):
    """Truth values (N,): whose target is there."""
    return (targets.reshape(len(targets), -1) >= 0).all(dim=1)


def masked_loss(loss_fn, outputs, targets):
    """The mean loss over pictures whose target is known; 0 where there is none."""
    rows = known(targets)
    return loss_fn(outputs[rows], targets[rows]) if rows.any() else 0 * outputs.sum()


# %%
losses = {task: masked_loss(LOSSES[task], outputs[task], targets[task]) for task in LOSSES}
for task, loss in losses.items():
    print(f"{task:5} known for {int(known(targets[task]).sum()):2} of 12, loss {loss.item():.2f}")

# %%
by_hand = {
    "label": F.cross_entropy(outputs["label"], targets["label"], ignore_index=-1),  # PyTorch's own way, for labels
    "box": torch.stack([box_loss(outputs["box"][i], targets["box"][i]) for i in range(12) if known_box[i]]).mean(),
}
furthest = max(abs(losses[task] - by_hand[task]).item() for task in by_hand)
claim("The masked loss is the loss on the annotated pictures alone", furthest < 1e-5, f"label and box, furthest {furthest:.0e} apart")

# %% [markdown]
# (`ignore_index=-1` has a trap of its own: in a batch **without any** label it divides 0 by 0. Ours gives 0.)
#
# **Before you run it:** a batch without any label. What gradient reaches the class head? And the encoder, which all tasks share?
#
# <details><summary>Answer</summary>
#
# The head: exactly zero, in every weight. The encoder: that of the other two tasks, untouched by the missing one.
#
# </details>

# %%
nobody = torch.full((12,), -1, device=device)
losses["label"] = masked_loss(F.cross_entropy, outputs["label"], nobody)
network.zero_grad()
sum(losses.values()).backward(retain_graph=True)
together = [parameter.grad.clone() for parameter in network.encoder.parameters()]
class_gradient = max(parameter.grad.abs().max().item() for parameter in network.heads["label"].parameters())
others = torch.autograd.grad(losses["box"] + losses["mask"], list(network.encoder.parameters()))

# %%
library = F.cross_entropy(outputs["label"], nobody, ignore_index=-1)
claim(
    "Without any label, the class head's gradient is exactly zero, and the encoder's is that of the other tasks",
    class_gradient == 0 and all(torch.allclose(a, b, atol=1e-6) for a, b in zip(together, others, strict=True)) and library.isnan(),
    f"largest in the class head {class_gradient}; ignore_index alone would have given {library.item()}",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# The trap with torch.where costs people days: the loss printed in the log is fine, and the weights are NaN after one step. Ask why: the derivative of the loss of a
# NaN target is NaN, and where() multiplies it by zero on its way back. Zero times NaN is NaN.

# %% [markdown]
# ## 5. The loop, and one task at a time (15 min)
#
# A flipped cat is still a cat; but its box and its mask must be flipped **with** it. A box needs care: what was right is left now, so $x_1' = 1 - x_2$ and $x_2' = 1 - x_1$.


# %% tags=["measure"]
def flip(images, targets):
    """Mirror a random half of the pictures, with their boxes and masks."""
    flipped = torch.rand(len(images), device=images.device) < 0.5
    images = torch.where(flipped[:, None, None, None], images.flip(3), images)
    mirrored = {"label": targets["label"], "mask": targets["mask"].flip(2)}
    if "box" in targets:
        x1, y1, x2, y2 = targets["box"].unbind(dim=1)
        mirrored["box"] = torch.stack([1 - x2, y1, 1 - x1, y2], dim=1)
    pick = {1: flipped, 2: flipped[:, None], 3: flipped[:, None, None]}  # by the number of axes
    return images, {task: torch.where(pick[old.ndim], mirrored[task], old) for task, old in targets.items()}


# %% [markdown]
# `transforms.v2` does the same for one picture, when the targets say what they are. Are the two the same?

# %%
torch.manual_seed(seed)
images, targets = flip(*[data[0][:12], {task: values[:12] for task, values in data[1].items()}])
row = next(i for i in range(12) if not images[i].equal(data[0][i]))
box = tv_tensors.BoundingBoxes(data[1]["box"][row][None] * 64, format="XYXY", canvas_size=(64, 64))
mask = tv_tensors.Mask(data[1]["mask"][row])
flipped = v2.RandomHorizontalFlip(p=1)(tv_tensors.Image(data[0][row]), {"box": box, "mask": mask})
same = [images[row].equal(flipped[0]), targets["mask"][row].equal(flipped[1]["mask"])]
apart = (64 * targets["box"][row] - flipped[1]["box"][0]).abs().max().item()
claim("Our flip is that of transforms.v2: picture, mask and box", all(same) and apart < 1e-3, f"boxes {apart:.0e} pixels apart")

# %% [markdown]
# Now the training loop. Each step takes 16 pictures that have a label, so that the scarce task is never without, and 32 others, drawn from all. A loss for each task; then a **weighting** turns the losses into terms, and their
# sum is what we minimise:
#
# $$L = \sum_t w_t \, L_t$$
#
# The weighting is the second thing that we shall change. It may have parameters of its own, with an optimizer of their own (section 7); `watch` may look on.


# %% tags=["measure"]
def train(network, data, weighting, losses=LOSSES, steps=300, num_others=32, lr=3e-3, watch=None):
    images, targets = data
    labelled = known(targets["label"]).nonzero().flatten()
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps)
    weight_optimizer = torch.optim.Adam(weighting.parameters(), lr=0.05)
    network.train()
    for step in tqdm(range(steps), desc="training", leave=False):
        picked = labelled[torch.randint(len(labelled), (16,))]
        rows = torch.cat([picked, torch.randint(len(images), (num_others,), device=device)])
        batch, truth = flip(images[rows], {task: values[rows] for task, values in targets.items()})
        outputs = network(batch)
        found = {task: masked_loss(losses[task], outputs[task], truth[task]) for task in outputs}
        terms = weighting(found, network)
        if watch and step % 20 == 0:
            watch(network, terms)
        optimizer.zero_grad(), weight_optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step(), weight_optimizer.step()
        scheduler.step()


# %% [markdown]
# The simplest weighting: fixed numbers, parameters that get no gradient. With one task, the number does not matter much.


# %% tags=["measure"]
class Fixed(nn.Module):
    def __init__(self, **weights):
        super().__init__()
        fixed = {task: nn.Parameter(torch.tensor(float(weight)), requires_grad=False) for task, weight in weights.items()}
        self.weights = nn.ParameterDict(fixed)

    def forward(self, losses, network):
        return {task: self.weights[task] * loss for task, loss in losses.items()}


# %% tags=["measure"]
def learn(tasks, data, weighting, seed, encoder=None, **options):
    """A new network for these tasks, trained; it starts from the weights of `encoder` where one is given."""
    torch.manual_seed(seed)
    network = Network(tasks).to(device, memory_format=torch.channels_last)
    if encoder:
        network.encoder.load_state_dict(encoder.state_dict())
    train(network, data, weighting.to(device), **options)
    return network


# %% [markdown]
# And the metrics, on pictures that no network has been trained on. They, too, ask only the pictures whose answer is known.


# %% tags=["measure"]
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


# %% tags=["measure"]
METRICS = {"label": is_right, "box": box_iou, "mask": mask_iou}
METRIC_NAMES = {"label": "class accuracy", "box": "box IoU", "mask": "mask IoU"}


@torch.no_grad()
def answers(network, images):
    """All outputs, in evaluation mode."""
    network.eval()
    batches = [network(part) for part in images.split(250)]
    return {task: torch.cat([batch[task] for batch in batches]) for task in batches[0]}


def scores(network, data):
    """{task: mean of its metric}."""
    images, targets = data
    outputs = answers(network, images)
    rows = {task: known(targets[task]) for task in outputs}
    return {task: METRICS[task](outputs[task][rows[task]], targets[task][rows[task]]).mean().item() for task in outputs}


# %% [markdown]
# First, one network a task, each for 300 steps. (For the class alone, the other 32 pictures of a step would be of no use: hardly any has a label. So it takes the 16 only.)

# %%
alone = {"label": learn(["label"], data, Fixed(label=1), seed, num_others=0)}
for task in ("box", "mask"):
    alone[task] = learn([task], data, Fixed(**{task: 1}), seed)
alone_scores = {task: scores(network, test)[task] for task, network in alone.items()}
for task, value in alone_scores.items():
    print(f"{METRIC_NAMES[task]:15} {value:.2f}")

# %% [markdown]
# **Question to the class:** 300 steps with 16 pictures each, and 80 labels. How often has the class network seen each label?
#
# <details><summary>Answer</summary>
#
# 60 times. It has learned them by heart:
#
# </details>

# %%
labelled = known(data[1]["label"])
by_heart = scores(alone["label"], (data[0][labelled], {"label": data[1]["label"][labelled]}))["label"]
claim(
    "With few labels, the class network learns them by heart and does far worse on new pictures",
    by_heart > alone_scores["label"] + 0.15,
    f"{by_heart:.0%} of its {int(labelled.sum())} pictures right, {alone_scores['label']:.0%} of {len(test[0])} new ones",
)

# %% [markdown]
# ## 6. One task takes over (15 min)
#
# Now all three tasks in one network. The simplest thing to do: add the losses up. And the box is in pixels, so why not measure its error in pixels, squared, as one always does?


# %% tags=["measure"]
def pixel_loss(boxes, targets):
    return F.mse_loss(64 * boxes, 64 * targets)


# %% [markdown]
# While it trains, we look at what each task sends to the encoder: the **length of its gradient**, over all the weights that are shared.


# %% tags=["measure"]
def gradient_length(loss, shared):
    """Length of a loss's gradient over all the shared parameters together."""
    gradients = torch.autograd.grad(loss, shared, retain_graph=True)
    return torch.cat([gradient.flatten() for gradient in gradients]).norm()


def gradient_norms(network, terms):
    """{task: length of the gradient that its term sends into the shared encoder}."""
    shared = list(network.encoder.parameters())
    return {task: gradient_length(terms[task], shared).item() for task in network.heads}


# %% [markdown]
# **Before you run it:** which of the three tasks will do well, and which will suffer?
#
# <details><summary>Answer</summary>
#
# The box does well: its loss starts in the hundreds, and the others' are below one. The mask holds out, since it is learned from hundreds of pictures and 4,096 pixels each. The class collapses. And nobody who
# looks at the boxes and outlines would notice.
#
# </details>

# %%
tasks, naive_norms = ["label", "box", "mask"], []
naive = learn(tasks, data, Fixed(label=1, box=1, mask=1), seed, losses=LOSSES | {"box": pixel_loss},
              watch=lambda network, terms: naive_norms.append(gradient_norms(network, terms)))  # fmt: skip
naive_scores = scores(naive, test)
for task in tasks:
    print(f"{METRIC_NAMES[task]:15} alone {alone_scores[task]:.2f}, sum of all losses {naive_scores[task]:.2f}")


# %%
# extra code: a panel for each metric, a bar for each network
def bars(results, title):
    fig, axes = plt.subplots(1, 3, figsize=(12, 1.5 + 0.55 * len(results)), sharey=True)
    for ax, task in zip(axes, tasks, strict=True):
        for row, values in enumerate(results.values()):
            if task in values:
                ax.barh(row, values[task], color=f"C{row}")
                ax.text(values[task] + 0.02, row, f"{values[task]:.2f}", va="center")
        ax.set(xlim=(0, 1.15), xlabel=METRIC_NAMES[task], yticks=range(len(results)), yticklabels=list(results))
        ax.grid(axis="y", visible=False)
    axes[0].axvline(0.5, color="black", ls=":", lw=2)
    axes[0].invert_yaxis()
    fig.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=15)
    return fig


show(bars({"one network a task": alone_scores, "sum of all, pixels": naive_scores}, "Box and mask look fine. The class is hardly better than guessing"),
     f"Three panels. Box IoU {naive_scores['box']:.2f} against {alone_scores['box']:.2f} of the network that does nothing else, mask IoU {naive_scores['mask']:.2f} against "
     f"{alone_scores['mask']:.2f}; class accuracy {naive_scores['label']:.0%}, where the dotted line marks guessing.")  # fmt: skip

# %%
suffered = {task: alone_scores[task] - naive_scores[task] for task in ("box", "mask")}
claim(
    "Box and mask hardly suffer: their IoU is within 0.1 of that of a network that does nothing else",
    max(suffered.values()) < 0.1,
    ", ".join(f"{METRIC_NAMES[task]} {naive_scores[task]:.3f} instead of {alone_scores[task]:.3f}" for task in suffered),
)

# %% [markdown]
# The gradients say why. All three go into the same weights, and there the longest decides in which direction they go. (Adam, the optimizer, divides by the gradient's size. That does not help: it divides the sum.)

# %%
# extra code: lengths of the gradients against the step
def norms_figure(runs, title):
    fig, axes = plt.subplots(1, len(runs), figsize=(2.5 + 4.8 * len(runs), 4.3), sharey=True, squeeze=False)
    for ax, (name, norms) in zip(axes.flat, runs.items(), strict=True):
        steps = 20 * np.arange(len(norms))
        ax.set(yscale="log", xlim=(0, 1.2 * steps[-1]))
        ax.set_prop_cycle(color=[COLOURS[task] for task in tasks])
        lines = {task: [record[task] for record in norms] for task in tasks}
        curves(ax, lines, x=steps, xlabel="step", ylabel="", title=name if len(runs) > 1 else "")
    axes.flat[0].set_ylabel("length of the gradient\nin the encoder")
    fig.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=15)
    return fig


ratios = [record["box"] / record["label"] for record in naive_norms]
show(norms_figure({"sum of all losses, box in pixels": naive_norms}, "The box's gradient drowns the others"),
     f"Lengths of the three tasks' gradients in the shared encoder, on a logarithmic axis: the box's is {np.median(ratios):.0f} times as long as the label's in the median.")  # fmt: skip

# %%
claim(
    "With the box in squared pixels, its gradient in the shared encoder is more than ten times as long as the class's, in the median over the training",
    np.median(ratios) > 10,
    f"{np.median(ratios):.0f} times in the median, {ratios[0]:.0f} times in the first step",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# "One task can take over": this is the lecture's sentence, measured. Let the class find out where the factor comes from: pixels instead of twentieths of the side is a factor of 3.2, squared it is about 10, and the square
# does not flatten where errors are large. Nobody has decided that boxes matter more. The unit has.

# %% [markdown]
# ## 7. Balance (25 min)
#
# ### Fixed weights
#
# Choose units in which all losses are about as large, and weights by hand: box in twentieths of the side; class 1, mask 3, box ½. Cheap, and it must be found by trial, once for every new set of tasks. Weights can be
# learned instead. Here are two ways.
#
# ### Uncertainty weighting (Kendall, Gal and Cipolla 2018)
#
# Suppose that each task's answers have noise of a variance $\sigma_t^2$. Then the likelihood says how to add up: with $s_t = \log \sigma_t^2$, a parameter like any other,
#
# $$L = \sum_t c_t \, e^{-s_t} L_t + \tfrac{1}{2} s_t , \qquad c_t = 1 \text{ for cross-entropies}, \tfrac{1}{2} \text{ for regression.}$$
#
# A large loss makes $s_t$ grow, which turns the weight $e^{-s_t}$ down; the second part keeps $s_t$ from growing for ever. At the best $s_t$ every weighted loss $c_t\, e^{-s_t} L_t$ is $\tfrac{1}{2}$, whatever its unit.


# %% tags=["measure"]
class Uncertainty(nn.Module):
    def __init__(self, tasks, from_first_loss=False):
        super().__init__()
        self.log_variance = nn.ParameterDict({task: nn.Parameter(torch.zeros(())) for task in tasks})
        self.unset = from_first_loss  # else they begin at 0, which suits losses of about 1

    def forward(self, losses, network):
        terms = {}
        for task, loss in losses.items():
            s, c = self.log_variance[task], 0.5 if task == "box" else 1.0
            if self.unset:
                s.data.copy_(loss.detach().log())
            terms[task] = c * torch.exp(-s) * loss + s / 2
        self.unset = False
        return terms


# %% [markdown]
# ### Gradient normalisation (GradNorm, Chen et al. 2018)
#
# We have just seen that the gradients' lengths tell what goes wrong. So make *them* alike: measure the length $G_t$ of each term's gradient in the shared encoder, and move the weights towards
# $G_t = \bar G \, r_t^\alpha$. $\bar G$ is the mean length; $r_t$ says how slowly a task learns (its loss, relative to its first, relative to the mean). $\alpha = 0$ makes all lengths equal; a larger $\alpha$ gives more to the
# slow ones. (Three differences to the paper. It measures at the last shared layer; the mask head uses every stage, so there is no last one, and we take the whole encoder. Ours begins with weights that make
# the first lengths equal, and learns their logarithms, which is steadier where weights differ a thousandfold. And it looks at the gradients in every second step only, to save time.)


# %% tags=["measure"]
class GradNorm(nn.Module):
    def __init__(self, tasks, alpha=0.0):
        super().__init__()
        self.log_weights, self.alpha = nn.Parameter(torch.zeros(len(tasks))), alpha
        self.calls, self.first = 0, None

    def forward(self, losses, network):
        values, self.calls = torch.stack(list(losses.values())), self.calls + 1
        if look := self.calls % 2 == 1:  # in every second step: it takes a way back for each task
            shared = list(network.encoder.parameters())
            lengths = torch.stack([gradient_length(loss, shared) for loss in values])
        if self.first is None:  # begin with equal lengths
            self.first = values.detach()
            self.log_weights.data.copy_(-lengths.log())
        weights = len(losses) * self.log_weights.softmax(dim=0)  # their sum stays the number of tasks
        terms = {task: weight.detach() * loss for weight, (task, loss) in zip(weights, losses.items(), strict=True)}
        return terms | {"balance": self.imbalance(weights * lengths, values.detach())} if look else terms

    def imbalance(self, G, losses):
        rates = (losses / self.first).clamp(min=1e-4)
        target = G.mean() * (rates / rates.mean()) ** self.alpha
        return (G.log() - target.detach().log()).abs().sum()


# %% [markdown]
# **Before you run it:** same network, same pictures, same 300 steps, box in twentieths, weights learned by uncertainty. What will the class accuracy be: as with the sum, as alone, or above?
#
# <details><summary>Answer</summary>
#
# Far above the sum. On drawings it is above the class alone too, in nearly every run. By how much, the table below says.
#
# </details>

# %%
weighting, balanced_norms, weights = Uncertainty(tasks), [], []


def watch(network, terms):
    balanced_norms.append(gradient_norms(network, terms))
    weights.append({task: torch.exp(-s).item() for task, s in weighting.log_variance.items()})


balanced = learn(tasks, data, weighting, seed, watch=watch)
balanced_scores = scores(balanced, test)

# %% [markdown]
# And gradient normalisation. It gets the hard case: box in squared pixels.

# %%
grad_norm = GradNorm(tasks)
normalised = learn(tasks, data, grad_norm, seed, losses=LOSSES | {"box": pixel_loss})
normalised_scores = scores(normalised, test)
print({task: f"{weight:.3f}" for task, weight in zip(tasks, 3 * grad_norm.log_weights.softmax(dim=0), strict=True)})

# %%
results = {"one network a task": alone_scores, "sum of all, pixels": naive_scores}
results |= {"uncertainty": balanced_scores, "GradNorm, pixels": normalised_scores}
gain = balanced_scores["label"] - naive_scores["label"]
show(bars(results, "With uncertainty weighting, the class comes back" if gain > 0.02 else "The class gains little from balance here"),
     f"Three panels, a bar for each of four ways. Class accuracy: {alone_scores['label']:.0%} alone, {naive_scores['label']:.0%} with the sum in pixels, {balanced_scores['label']:.0%} with "
     f"uncertainty weighting, {normalised_scores['label']:.0%} with GradNorm. Box and mask IoU differ less.")  # fmt: skip

# %%
show(norms_figure({"sum of all, pixels": naive_norms, "uncertainty": balanced_norms}, "Balanced, no gradient stays far above the others"),
     "Two panels with the lengths of the gradients against the step. With the sum in pixels the box's is far above the others all the time; with uncertainty weighting none stays far above the others.")  # fmt: skip

# %% [markdown]
# What are the learned weights $e^{-s_t}$?

# %%
fig, ax = plt.subplots(figsize=(8, 4.3))
ax.set(yscale="log", xlim=(0, 24 * len(weights)))
ax.set_prop_cycle(color=[COLOURS[task] for task in tasks])
lines = {task: [record[task] for record in weights] for task in tasks}
curves(ax, lines, x=20 * np.arange(len(weights)), xlabel="step", ylabel="weight $e^{-s}$", title="The smaller a training loss, the larger its weight")
show(fig, f"The three learned weights against the step, logarithmic. The class's grows to {weights[-1]['label']:.0f}, those of box and mask to {weights[-1]['box']:.1f} and {weights[-1]['mask']:.1f}.")

# %% [markdown]
# Do **not** read them as uncertainty. By this reading the network would be surest of the class, its worst task. What the weights follow is the **training** loss, and that of 80 labels goes to zero because they are
# learned by heart.

# %% [markdown] slideshow={"slide_type": "notes"}
# The name "uncertainty weighting" is the derivation, not the result. With a memorised task the weight only stops growing because the training ends.

# %% [markdown]
# ### Measured on many seeds
#
# One run is one run. Here are all the ways, on eight seeds (four for some of the single-task networks). Each dot is a network, trained on drawings (whichever pictures you see here).
#
# Uncertainty weighting comes twice: with the box in twentieths, as above, and with the box in squared pixels. There $s_t$ begins at the logarithm of the first loss. (From 0 it would be slow to reach the weights that pixels need.)

# %%
rows = measured("multi_task_balance")


def of(way, task="label"):
    return np.array([row[task] for row in rows if row["way"] == way])


def gains(way, other, task="label"):
    """How much better one way is than another, on each seed that both have."""
    best, rest = of(way, task), of(other, task)
    num = min(len(best), len(rest))  # seeds 0, 1, 2 ...
    return best[:num] - rest[:num]


ways = ["sum, pixels", "fixed weights", "uncertainty weights", "uncertainty weights, pixels", "GradNorm weights, pixels"]


# %%
# extra code: a row for each way, a dot for each seed; the dotted line is the mean of the single-task networks
def dots(ways, title):
    fig, axes = plt.subplots(1, 3, figsize=(12, 1.6 + 0.5 * len(ways)), sharey=True)
    for ax, task, alone in zip(axes, tasks, ["class only", "box only", "mask only"], strict=True):
        for row, way in enumerate([alone, *ways]):
            values, colour = of(way, task), f"C{row}" if row else "0.4"
            ax.plot(values, [row] * len(values), "o", color=colour, markersize=9, alpha=0.6)
            ax.plot([values.mean()] * 2, [row - 0.35, row + 0.35], color=colour, lw=4)
        ax.axvline(of(alone, task).mean(), color="0.4", ls=":", lw=2)
        ax.set(xlabel=METRIC_NAMES[task], yticks=range(len(ways) + 1), yticklabels=["this task alone", *ways])
        ax.locator_params(axis="x", nbins=4)
    axes[0].xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes[0].invert_yaxis()
    fig.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=15)
    return fig


# %%
helps = [way for way in ways if gains(way, "class only").mean() > 0.02]
show(dots(ways, f"Class accuracy is what the weighting decides; {len(helps)} of {len(ways)} ways lift it by two points or more"),
     "Dots for each way and seed, on drawings. In class accuracy the ways differ by far more than in box IoU and mask IoU, which are about the same for all.")  # fmt: skip

# %%
for way in ways:
    points = 100 * gains(way, "class only")
    print(f"{way:27} {points.mean():+5.1f} points against the class alone, worst {points.min():+5.1f}, better on {(points > 0).sum()} of {len(points)} seeds")

# %% [markdown]
# What do we read from it? The sum in pixels costs the class on every seed, on most of them dearly. All the remedies bring it back, and in the mean lift it above the class alone. Uncertainty weighting lifts it most, and takes a little from box and mask.
# Gradient normalisation lifts it less, and takes nothing from the box and little from the mask. Weights by hand lift it about as much as that, take a little from box and mask, and need no machinery. (And $\alpha = 1.5$? It gives more to the tasks that learn slowly. The class, with its 80 labels
# learned by heart, looks like the *quickest*. Try it.)

# %%
more = gains("uncertainty weights", "sum, pixels")
holds = balanced_scores["label"] > naive_scores["label"] + 0.03 and more.min() > 0.03
message = f"{balanced_scores['label']:.0%} against {naive_scores['label']:.0%} here; on {len(more)} measured seeds (drawings) {more.mean():+.0%} in the mean, {more.min():+.0%} at worst"
if drawn:
    claim("Balanced by uncertainty, the class is at least three points better than with the sum of all losses in pixels", holds, message)
else:
    print(message)

# %% [markdown]
# ### Explore
#
# Choose a test picture and a network. Dashed and outlined: what the network says.

# %%
networks = {"balanced": [balanced], "sum of all, pixels": [naive], "one network a task": list(alone.values())}


def draw_answers(picture=0, network="balanced"):
    outputs = {}
    for model in networks[network]:
        outputs |= answers(model, test[0][picture : picture + 1])
    chance = outputs["label"].softmax(dim=1)[0]
    said, right = pool.classes[chance.argmax()], pool.classes[test[1]["label"][picture]]
    fig, axes = plt.subplots(1, 2, figsize=(8, 4.2))
    targets = test_set.targets
    draw_on(axes[0], test_set.images[picture], targets["box"][picture], targets["mask"][picture], title=f"truth: {right}")
    box, mask = 64 * outputs["box"][0].cpu(), outputs["mask"][0] > 0
    draw_on(axes[1], test_set.images[picture], box, mask, colour="C0" if said == right else "C2", title=f"says: {said} ({chance.max():.0%})")
    return fig, f"A {right}, with its true box and outline on the left. On the right what the network says ({network}): {said}, with its box and outline."


explore(draw_answers, picture=range(8), network=list(networks))

# %% [markdown]
# ## 8. How many labels? (10 min)
#
# **Before you run it:** 600 pictures with masks and boxes. With 20 class labels, with 80, with 600: where do the masks and boxes help the class most?
#
# <details><summary>Answer</summary>
#
# Most people say: where labels are fewest. With 20 it is next to nothing: there is too little to attach the features to. From 80 on it is several points, and at this number of steps
# most with 600. Whether that is for the reason that you think, the cell below the figure asks.
#
# </details>
#
# As a control, the same with the masks and boxes of **other** pictures: as many pictures, as many steps, as many numbers to learn, and nothing true in them.


# %% tags=["measure"]
def shuffle(data, seed):
    """The same, with masks and boxes dealt out to other pictures."""
    images, targets = data
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return images, {task: values if task == "label" else values[order] for task, values in targets.items()}


# %%
curve = measured("multi_task_labels")
nums = sorted({row["num"] for row in curve})


def at(way, num):
    found = np.array([row["label"] for row in curve if row["way"] == way and row["num"] == num])
    return found if len(found) else of({"alone": "class only", "together": "uncertainty weights"}[way])[:3]  # 80: from section 7


# %%
fig, ax = plt.subplots(figsize=(9.5, 5))
ax.set(xscale="log", xlim=(17, 1100), xticks=nums)
ax.set_xticklabels(nums)
ax.minorticks_off()
lines = {"class only": np.stack([at("alone", num) for num in nums], axis=1), "with masks\nand boxes": np.stack([at("together", num) for num in nums], axis=1)}
best = max(nums, key=lambda num: (at("together", num) - at("alone", num)).mean())
curves(ax, lines, x=nums, xlabel=f"pictures with a class label, of {NUM_PICTURES} with box and mask", ylabel="class accuracy", title=f"At 300 steps, most is gained with {best} labels (drawings)")
ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
show(fig, f"Class accuracy against the number of labels, with a band over {len(at('alone', 80))} seeds. The line with masks and boxes lies above that of the class alone; the gap is widest at {best} labels.")

# %%
for num in nums:
    points = 100 * (at("together", num) - at("alone", num))
    print(f"{num:4} labels: {points.mean():+5.1f} points in the mean, from {points.min():+5.1f} to {points.max():+5.1f}")
points = 100 * (at("shuffled", 80) - at("alone", 80))
print(f"  80 labels, masks and boxes of other pictures: {points.mean():+5.1f} points in the mean, from {points.min():+5.1f} to {points.max():+5.1f}")

# %%
here = balanced_scores["label"] - alone_scores["label"]
more = gains("uncertainty weights", "class only")
message = f"{here:+.1%} here; {more.mean():+.1%} in the mean of {len(more)} measured seeds (drawings), from {more.min():+.1%} to {more.max():+.1%}"
if drawn:
    holds = more.mean() > 0.03 and here > -0.02  # one run alone is too noisy for more
    claim("At the same number of steps, masks and boxes beside 80 labels lift the class accuracy by three points or more in the mean of the measured runs, and cost less than two in this one", holds, message)
else:
    print(message)

# %% [markdown]
# **At the same number of steps**: the words matter. A multi-task step looks at three times as many pictures and has more heads to pay for. So give the class alone four times the steps, for about the same time:

# %%
for num in (80, 600):
    short, longer, together = (100 * at(way, num).mean() for way in ("alone", "alone, 1200 steps", "together"))
    print(f"{num:3} labels: alone {short:.1f} %, alone with 1,200 steps {longer:.1f} %, together with 300 steps {together:.1f} % (means of 3 seeds, drawings)")

# %% [markdown]
# With 600 labels the longer training does more than the masks and boxes: the class network was simply not done. With 80 it makes up for a part, and no more: it has learned its 80 pictures by heart. So this is the case for multi-task
# learning: **few labels, which more training cannot replace**.

# %% [markdown]
# ## 9. When it does not help (10 min)
#
# "Mediocre at both": is that so? So far we looked at the task with few labels. Look at the two with many.
#
# **Before you run it:** box and mask have 600 labels each. Does the shared network do them better than a network that does nothing else, equally well, or worse?
#
# <details><summary>Answer</summary>
#
# Slightly worse, nearly always. They have the labels that they need, and now they share an encoder of the same size with two other tasks. It is a bargain for the poor and a tax on the rich.
#
# </details>

# %%
for task in ("box", "mask"):
    lost = gains(f"{task} only", "uncertainty weights", task)
    print(f"{METRIC_NAMES[task]:9} alone {alone_scores[task]:.3f}, together {balanced_scores[task]:.3f};  measured seeds (drawings): {lost.mean():.3f} lost in the mean, at least {lost.min():+.3f}")

# %%
lost = {task: alone_scores[task] - balanced_scores[task] for task in ("box", "mask")}
message = ", ".join(f"{METRIC_NAMES[task]} {alone_scores[task]:.3f} alone, {balanced_scores[task]:.3f} together" for task in lost)
if drawn:
    claim("The tasks that have many labels gain nothing: over box and mask, the mean IoU is lower together than alone, at the same number of steps", sum(lost.values()) > 0, message)
else:
    print(message)

# %% [markdown]
# With the **weights** one chooses whom to tax: gradient normalisation spares the box, and lifts the class less (the figure in section 7). And with 600 labels for the class as well, the class does better alone, too, once it is trained for as long (section 8).

# %% [markdown]
# ## 10. What it saves, and what else one could do (15 min)
#
# ### One encoder against three
#
# Count what three answers for one picture cost: parameters, multiplications, and the numbers that training must keep for the way back (that is where its memory goes).


# %%
def kept_bytes(networks, images):
    """What one forward pass keeps for the backward pass, without the parameters."""
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


# %%
one, three = [Network(tasks)], [Network([task]) for task in tasks]
batch = torch.zeros(48, 3, 64, 64)
costs = {
    "parameters": lambda nets: sum(map(num_parameters, nets)),
    "multiplications": lambda nets: sum(count_macs(net, 1, 3, 64, 64) for net in nets),
    "bytes kept": lambda nets: kept_bytes(nets, batch),
}
table = {name: (count(one), count(three)) for name, count in costs.items()}
for name, (shared, separate) in table.items():
    print(f"{name:16} {shared:12,} shared, {separate:12,} in three networks: {separate / shared:.1f} times")


# %%
@torch.no_grad()
def seconds(networks, images):
    times = []
    for _ in range(5):
        start = time.perf_counter()
        for network in networks:
            {task: output.cpu() for task, output in network.eval()(images).items()}
        times.append(time.perf_counter() - start)
    return min(times)


shared, separate = seconds([balanced], test[0][:100]), seconds(list(alone.values()), test[0][:100])
print(f"by the clock: three networks take {separate / shared:.1f} times as long for the three answers")

# %%
claim(
    "For all three answers, one encoder needs fewer than two thirds of the parameters, of the multiplications and of the memory for the way back",
    all(shared / separate < 2 / 3 for shared, separate in table.values()),
    ", ".join(f"{name} {shared / separate:.0%}" for name, (shared, separate) in table.items()),
)

# %% [markdown]
# (Three networks can be trained one after the other, and then the memory is that of the largest. The multiplications stay.)
#
# ### First masks, then the class
#
# Multi-task learning has been called "like simultaneous transfer learning". So why not one after the other: learn the **masks**, then take that encoder and fine-tune it on the 80 labels? We have such an encoder already.
#
# **Question to the class:** same labels, same masks. Which is better for the class, both at once or one after the other?
#
# <details><summary>Answer</summary>
#
# Both at once, on drawings and at these budgets, in most runs. After masks alone the encoder knows outlines; the fine-tuning then has nothing but 80 labels to hold on to, and learns them by heart.
#
# </details>

# %%
tuned = learn(["label"], data, Fixed(label=1), seed, encoder=alone["mask"].encoder, num_others=0)
tuned_score = scores(tuned, test)["label"]
print(f"class alone {alone_scores['label']:.1%}, masks first {tuned_score:.1%}, all at once {balanced_scores['label']:.1%}")
order_gains = 100 * gains("uncertainty weights", "mask, then class")
first_gains = 100 * gains("mask, then class", "class only")
print(f"measured seeds (drawings): all at once against masks first {order_gains.mean():+.1f} points in the mean, from {order_gains.min():+.1f} to {order_gains.max():+.1f};")
print(f"masks first against the class alone {first_gains.mean():+.1f} points in the mean, from {first_gains.min():+.1f} to {first_gains.max():+.1f}")

# %% [markdown]
# ## 11. Benign or malignant (15 min)
#
# The lecture's example: ultrasound of the breast. Doctors want the outline of a lesion, and whether it is benign or malignant. A U-Net gives the outline. At its **bottleneck**, where the picture is smallest, everything
# that it knows passes through few numbers. **Unroll** them, and put a linear classifier behind.
#
# If you have the BUSI data set, you see its ultrasound images. If not, you see **drawings**: a blob with a smooth outline for *benign*, with spikes for *malignant*. A stand-in to learn the method, no more. Neither is for any medical use.

# %%
lesion_pool, _, lesion_test = datasets.lesions(num_train=200, num_val=20, num_test=400, size=64)
lesion_data, lesion_truth = tensors(lesion_pool), tensors(lesion_test)
print(f"to learn from: {lesion_pool}\ntest:          {lesion_test}")


# %%
class LesionNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.unet = UNet(num_classes=1, width=8, levels=4)
        self.classifier = nn.Linear(64 * 8 * 8, 2)  # the bottleneck: 64 channels of 8 x 8, for pictures of 64 x 64

    def forward(self, images):
        features = self.unet.encode(images)
        bottleneck = features[-1].flatten(start_dim=1)
        return {"label": self.classifier(bottleneck), "mask": self.unet.decode(features)[:, 0]}


# %%
# NBVAL_CHECK_OUTPUT
lesion_network = LesionNetwork()
for features in lesion_network.unet.encode(torch.zeros(1, 3, 64, 64)):
    print(f"{features.shape[1]:2} channels, {features.shape[2]} x {features.shape[3]}")
print(f"U-Net {num_parameters(lesion_network.unet):,} parameters, classifier {num_parameters(lesion_network.classifier):,}")

# %% [markdown]
# The loop, the losses and the metrics are those from above. Here every picture has both answers, and the losses are about as large.

# %%
torch.manual_seed(seed)
lesion_network = LesionNetwork().to(device, memory_format=torch.channels_last)
train(lesion_network, lesion_data, Fixed(label=1, mask=1), steps=100, num_others=8)
lesion_scores = scores(lesion_network, lesion_truth)
for task, value in lesion_scores.items():
    print(f"{METRIC_NAMES[task]:15} {value:.2f}")

# %%
# extra code: lesions with the true outline and the one found; the worst outlines come first
def lesion_figure(num=5):
    outputs = answers(lesion_network, lesion_truth[0])
    order = mask_iou(outputs["mask"], lesion_truth[1]["mask"]).argsort()[:: max(1, len(lesion_test) // num)][:num].tolist()
    fig, axes = plt.subplots(1, num, figsize=(13, 3.4))
    for ax, i in zip(axes, order, strict=True):
        said = lesion_test.classes[outputs["label"][i].argmax()]
        truth = lesion_test.classes[lesion_test.targets["label"][i]]
        draw_on(ax, lesion_test.images[i], mask=lesion_test.targets["mask"][i], colour="C1")
        draw_on(ax, lesion_test.images[i], mask=outputs["mask"][i] > 0, colour="C0", title=f"is {truth}\nsays {said}")
    fig.suptitle(f"{lesion_test.noun.capitalize()}s: true outline orange, found blue; from the worst outline to the best", x=0.01, ha="left", fontweight="bold", fontsize=15)
    return fig


show(lesion_figure(), f"Five {lesion_test.noun}s of lesions, from the worst found outline to the best, with the true outline in orange and the found one in blue, and above each what it is and what the network says.")

# %%
message = f"class accuracy {lesion_scores['label']:.0%}, mask IoU {lesion_scores['mask']:.2f}, {len(lesion_test)} {lesion_test.noun}s"
if lesion_test.source == "critters":
    claim("One U-Net outlines the drawn lesions and tells benign from malignant", lesion_scores["label"] > 0.75 and lesion_scores["mask"] > 0.6, message)
else:
    print(message)

# %% [markdown] slideshow={"slide_type": "notes"}
# Ask what "unrolled" costs: the classifier has a weight for every place of the bottleneck, so it may learn where in the picture a lesion lies, as the flatten head of notebook 05 could. Pooling the bottleneck would forbid
# that; try it. And: two labels a picture from one look is how such a system would spare a doctor's time, if it were tested on patients, which this one is not.

# %% [markdown]
# ## 12. Exercises (45 min)
#
# Write your answer in place of the dots and run the cell: the check tells you what it expected and what came. Stuck? Take away the `#` in the cell below it.
#
# **Exercise 1: mirror boxes.** `boxes` (N, 4) are $x_1, y_1, x_2, y_2$ in pixels, in pictures `width` pixels wide. Return the boxes in the mirrored pictures, left and right exchanged, (N, 4).


# %%
def mirror_boxes(boxes, width):
    ...


exercises.mirror_boxes.check(mirror_boxes)

# %% slideshow={"slide_type": "skip"}
# exercises.mirror_boxes.hint()
# exercises.mirror_boxes.solution()

# %% [markdown]
# **Exercise 2: a masked mean.** `losses` (N,) has a loss for each picture, and NaN where its answer is missing; `known` (N,) says where it is there. Return the mean over the known ones, and 0 where there is none.


# %%
def masked_mean(losses, known):
    ...


exercises.masked_mean.check(masked_mean)

# %% slideshow={"slide_type": "skip"}
# exercises.masked_mean.hint()
# exercises.masked_mean.solution()

# %% [markdown]
# **Exercise 3: uncertainty weights.** `losses` and `log_variances` are tensors with a number for each task. Return the total, $\sum_t e^{-s_t} L_t + \tfrac{1}{2} s_t$.


# %%
def uncertainty_loss(losses, log_variances):
    ...


exercises.uncertainty_loss.check(uncertainty_loss)

# %% slideshow={"slide_type": "skip"}
# exercises.uncertainty_loss.hint()
# exercises.uncertainty_loss.solution()

# %% [markdown]
# **Exercise 4: lengths of gradients.** `losses` is a list of losses, `shared` a list of parameters. Return the length of each loss's gradient over all of `shared` together, a tensor (T,). Leave `.grad` as it is.


# %%
def gradient_lengths(losses, shared):
    ...


exercises.gradient_lengths.check(gradient_lengths)

# %% slideshow={"slide_type": "skip"}
# exercises.gradient_lengths.hint()
# exercises.gradient_lengths.solution()

# %% [markdown]
# **Exercise 5: one encoder, many heads.** `heads` is a dict of modules, of any number and with any names. Return an `nn.Module` that gives a dict with the answer of each head for the features of `encoder`. The encoder runs once,
# and `parameters()` finds everything.


# %%
def shared_network(encoder, heads):
    ...


exercises.shared_network.check(shared_network)

# %% slideshow={"slide_type": "skip"}
# exercises.shared_network.hint()
# exercises.shared_network.solution()

# %% [markdown]
# ## 13. Lab: the best classifier from 60 labels and 600 masks (45 min and more)
#
# Here are the data: pictures and masks of 600 (all that there are, if photos are fewer), and the label of 60. No other pictures, and no pretrained network (notebook 05 shows what those do). Boxes may be used. Build the best
# classifier of cats and dogs that you can: other weights, a longer training, more flips and crops, masks first, a vote of several networks, another use of what masks and boxes say.

# %%
lab_data = few_labels(pool, 60, NUM_PICTURES, seed)
print(f"{len(lab_data[0])} pictures, {int(known(lab_data[1]['label']).sum())} labels, {int(known(lab_data[1]['mask']).sum())} masks")

# %% [markdown]
# `classify` gets pictures as bytes, a uint8 tensor (N, 3, 64, 64) on the CPU, and returns their labels, (N,), 0 for cat and 1 for dog. So the preparation (`scale`) belongs in it. Choose what you build by `val_set`; the check
# scores it on the test set. On drawings 75 % is good, on photos 60 %.


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
# - One encoder, a head for each task: the list of tasks is the only difference to a single-task network.
# - Missing answers are left out **before** the loss. Leaving them out after it repairs the value and not the gradient.
# - Add losses up in unlucky units, and one task takes over: the gradient with the greatest length decides. Box and mask look fine, and the class is lost.
# - Weights by hand, uncertainty weights and gradient normalisation bring it back, to different degrees. The learned weights are no statement about uncertainty.
# - At the same number of steps, on drawings, masks and boxes help the class, as soon as it has some labels to attach them to. While those are few, a longer training does not replace them. They do not help the tasks that have many labels.
# - One encoder saves parameters, multiplications and memory.
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
# | K2 a U-Net with a classifier on its unrolled bottleneck, benign or malignant | 11 | B |
# | K3 few labels for one task: the curve | 8 | B |
# | K4 masked losses | 4 | B |
# | K5 one task takes over, and three ways to balance | 6, 7 | B |
# | K6 when it does not help | 9 | B |
# | K7 one encoder against three, masks first and then the class | 10 | B, beyond |
#
# ### Further reading
# - R. Caruana. *Multitask Learning*. Machine Learning 28, 1997
# - A. Kendall, Y. Gal, R. Cipolla. *Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and Semantics*. CVPR 2018. https://arxiv.org/abs/1705.07115
# - Z. Chen, V. Badrinarayanan, C.-Y. Lee, A. Rabinovich. *GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask Networks*. ICML 2018. https://arxiv.org/abs/1711.02257
# - I. Misra, A. Shrivastava, A. Gupta, M. Hebert. *Cross-stitch Networks for Multi-task Learning*. CVPR 2016. https://arxiv.org/abs/1604.03539
# - T. Standley et al. *Which Tasks Should Be Learned Together in Multi-task Learning?* ICML 2020. https://arxiv.org/abs/1905.07553
# - S. Ruder. *An Overview of Multi-Task Learning in Deep Neural Networks*. 2017. https://arxiv.org/abs/1706.05098
# - O. Ronneberger, P. Fischer, T. Brox. *U-Net: Convolutional Networks for Biomedical Image Segmentation*. MICCAI 2015. https://arxiv.org/abs/1505.04597
# - R. Girshick. *Fast R-CNN*. ICCV 2015. https://arxiv.org/abs/1504.08083 (smooth L1; class and box trained together)
# - O. M. Parkhi, A. Vedaldi, A. Zisserman, C. V. Jawahar. *Cats and Dogs*. CVPR 2012 (the Oxford-IIIT pets)
# - W. Al-Dhabyani, M. Gomaa, H. Khaled, A. Fahmy. *Dataset of breast ultrasound images*. Data in Brief 28, 2020 (BUSI)
#
# ### Next notebook
# 09 · Generative adversarial networks
