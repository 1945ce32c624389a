# %% [markdown]
# # 04 · U-Net
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/@SLUG@/blob/@REF@/notebooks/04_unet.ipynb)
# [![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://github.com/@SLUG@/blob/@REF@/notebooks/04_unet.ipynb)
#
# **To keep what you write:** on Colab choose *File > Save a copy in Drive*, on Kaggle *Copy & Edit*, before you begin.
#
# **Question:** A classifier says *what* is in a picture. How does a network say *which pixels* it is, up to the tip of the tail?
#
# **You will be able to**
# - judge a mask by IoU, Dice and boundary IoU, and say when pixel accuracy deceives,
# - build a U-Net stage by stage, and show what its skips are good for,
# - train it on few masks and on small objects, and run it on pictures of any size.
#
# **Time:** it runs in @TIME@ on two CPU cores; with all sections, the exercises and the lab, about four hours.
# **Before this:** notebook 03, section 7 (transposed convolution).

# %% [markdown] slideshow={"slide_type": "notes"}
# **A plan for 75 minutes**
#
# - **Core:** sections 1, 2, 3 and 4: measures, the network in full view, the training, and what the skips are good for.
# - **Optional:** 5 (up-sampling), 6 (loss and imbalance), 7 (any size, tiles), 8 (few masks).
# - **Where to stop:** after the ten seeds of section 4. If you are late, stop at its figure of wrong pixels against the distance from the
#   outline.

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
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2
from torchvision.utils import make_grid

from utils import datasets, models
from utils.critters import draw_lesion
from utils.exercises import unet as exercises
from utils.figures import curves, explore, image_grid, show, to_picture
from utils.lessons import claim, measured, summary
from utils.models import num_parameters
from utils.training import fit, predict

# %% slideshow={"slide_type": "skip"}
course_seed = torch.initial_seed()  # as utils.start() has set it
seed = 10 * course_seed  # that of the experiments
plt.rcParams["image.interpolation"] = "nearest"  # small pictures are shown pixel by pixel

# %% [markdown]
# ## 1. From "is it there" to "where" (15 min)
#
# Up to now a network got a picture and gave one answer. Now it is to give one answer **for each pixel**: animal, or not? This is **segmentation**.
# What it learns from are **masks**: for every picture, somebody has marked the pixels of the animal.
#
# The pictures are cats and dogs, 64 x 64: **drawings** that this course makes by itself, or **photos** of the Oxford-IIIT Pet data set where they
# are at hand. The line that the set-up cell printed says which.

# %%
pool, val_set, test_set = datasets.pets(num_train=600, num_val=100, num_test=300, size=64)
train_set = pool.subset(min(400, len(pool)), seed=seed)
noun = pool.noun
print(f"training:   {train_set}\nvalidation: {val_set}\ntest:       {test_set}")

# %%
masks = test_set.targets["mask"]
print(tuple(test_set.images.shape), "pictures, bytes;", tuple(masks.shape), "masks,", masks.dtype)


# %%
# extra code: the pixels of a mask keep their colour, all others turn grey
def cut_out(images, masks):
    images = images.float() / 255
    grey = images.mean(dim=1, keepdim=True).expand_as(images)
    return torch.where(masks[:, None], images, 0.75 + 0.2 * grey)


examples = slice(0, 6)
pair = torch.cat([test_set.images[examples] / 255, cut_out(test_set.images, masks)[examples]])
show(image_grid(pair, columns=6, size=1.6), f"Six {noun}s above; below, what their masks say: the animal keeps its colour, all else is grey.")

# %% [markdown]
# **Question to the class.** Look at ears, legs and tails. Where exactly does the animal end? Would two people draw the same mask?
#
# <details><summary>Answer</summary>
#
# Not pixel by pixel. A photo's outline is blurred over a pixel or two, fur has no edge, and people get tired. So even a perfect answer
# disagrees with a mask somewhere, and a measure has to be read with that in mind. (Drawings have exact masks: the program knows what it drew.)
#
# </details>
#
# ### Three measures
#
# How good is an answer $A$, a set of pixels, if the true mask is $M$? The obvious measure is **pixel accuracy**: the share of pixels that are right.


# %% tags=["measure"]
def pixel_accuracy(answers, masks):
    """(N, H, W) bool, twice; one number a picture, (N,)."""
    return (answers == masks).float().mean(dim=(1, 2))


# %% [markdown]
# The usual one is **intersection over union**, $\mathrm{IoU} = |A \cap M| \,/\, |A \cup M|$. It ignores all that is neither.


# %% tags=["measure"]
def iou(answers, masks):
    intersection, union = (answers & masks).sum(dim=(1, 2)), (answers | masks).sum(dim=(1, 2))
    return torch.where(union > 0, intersection / union, 1.0)  # nothing there and nothing found: all is right


# %% [markdown]
# In medicine one meets **Dice** more often, $2 |A \cap M| \,/\, (|A| + |M|)$:


# %% tags=["measure"]
def dice(answers, masks):
    intersection, total = (answers & masks).sum(dim=(1, 2)), answers.sum(dim=(1, 2)) + masks.sum(dim=(1, 2))
    return torch.where(total > 0, 2 * intersection / total, 1.0)


# %% [markdown]
# **Before you run it:** take the picture with the smallest animal. A network that has learned nothing answers "no animal" at every pixel. What is its
# pixel accuracy? Its IoU? Its Dice?
#
# <details><summary>Answer</summary>
#
# Nearly every pixel is background, so nearly every pixel is right, and the accuracy is high. IoU and Dice are zero: it has found nothing. Pixel accuracy is a
# fair measure only where both classes have about equally many pixels.
#
# </details>

# %%
smallest = masks.float().mean(dim=(1, 2)).argmin().item()
image, mask = test_set.images[[smallest]], masks[[smallest]]
nothing = torch.zeros_like(mask)
for measure in (pixel_accuracy, iou, dice):
    print(f"{measure.__name__:15} {measure(nothing, mask).item():.3f}")

# %%
show(image_grid([image[0], mask[0], nothing[0]], titles=["picture", "mask", "answer: nothing"], columns=3, size=2.6),
     f"A small animal, its mask, and an answer that finds nothing: {pixel_accuracy(nothing, mask).item():.0%} of its pixels are right.")  # fmt: skip

# %%
claim(
    "On a small animal, an answer that finds nothing at all has a high pixel accuracy, and an IoU and a Dice of zero",
    pixel_accuracy(nothing, mask).item() > 0.8 and iou(nothing, mask).item() == dice(nothing, mask).item() == 0,
    f"{pixel_accuracy(nothing, mask).item():.1%} of the pixels are right; the animal has {mask.float().mean():.1%} of them",
)

# %% [markdown]
# IoU or Dice? On one picture it does not matter: $\mathrm{Dice} = 2\,\mathrm{IoU} / (1 + \mathrm{IoU})$, so the two rank any answers alike, and Dice is the friendlier
# number. When you compare with a paper, look which of the two it gives.

# %%
other_masks = masks.roll(1, dims=0)  # as answers: the masks of other pictures
u = iou(other_masks, masks)
claim(
    "On each picture Dice is 2 IoU / (1 + IoU)",
    torch.allclose(dice(other_masks, masks), 2 * u / (1 + u)) and bool((dice(other_masks, masks) >= u).all()),
    f"{len(u)} pairs of masks; mean IoU {u.mean():.3f}, mean Dice {dice(other_masks, masks).mean():.3f}",
)

# %% [markdown]
# ### The outline
#
# Most pixels of an animal are in its middle, and those are easy. Whether legs are told apart hardly shows in the IoU. **Boundary IoU** (Cheng et al. 2021) compares
# only the pixels of each mask that are close to its own outline, at most 2 % of the picture's diagonal away. For us that is 2 pixels.


# %% tags=["measure"]
def inner_band(masks, width=2, beyond=1.0):
    """The pixels of each mask that are at most `width` steps (also diagonal ones) from what is not the mask. Beyond the picture's edge nothing belongs to it."""
    others = F.pad((~masks).float()[:, None], [width] * 4, value=beyond)
    reached = F.max_pool2d(others, kernel_size=2 * width + 1, stride=1)[:, 0] > 0
    return masks & reached


def boundary_iou(answers, masks, width=2):
    return iou(inner_band(answers, width), inner_band(masks, width))


# %% [markdown]
# A test of the measures, without any network: the best answer that can be built from blocks of 8 x 8 pixels.
#
# **Before you run it:** what will IoU say to such blocks, and what boundary IoU?
#
# <details><summary>Answer</summary>
#
# IoU finds them good: most of the animal's pixels are right. Boundary IoU does not: nearly nothing of the outline is. So look at both.
#
# </details>


# %%
def in_blocks(masks, side=8):
    share = F.avg_pool2d(masks.float()[:, None], side)  # of each block, how much is animal
    return F.interpolate(share, scale_factor=side)[:, 0] > 0.5


blocks = in_blocks(masks)
block_iou, block_boundary = iou(blocks, masks).mean(), boundary_iou(blocks, masks).mean()

# %%
typical = boundary_iou(blocks, masks).argsort()[len(masks) // 2]
panels = [test_set.images[typical], masks[typical], inner_band(masks)[typical], blocks[typical], inner_band(blocks)[typical]]
titles = ["picture", "mask", "its band", "in blocks", "their band"]
show(image_grid(panels, titles=titles, columns=5, size=2),
     f"A mask and the same in blocks of 8 x 8 pixels, each with the band inside its outline that boundary IoU compares. Here IoU is "
     f"{iou(blocks, masks)[typical]:.2f}, boundary IoU {boundary_iou(blocks, masks)[typical]:.2f}.")  # fmt: skip

# %%
claim(
    "Blocks of 8 x 8 pixels are a good answer by IoU, and a poor one by boundary IoU",
    block_iou.item() > 0.65 and block_boundary.item() < 0.35,
    f"over {len(masks)} masks: IoU {block_iou:.2f}, boundary IoU {block_boundary:.2f}",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Keep the blocks in mind. At its narrowest place, the network that we are about to build knows a picture of 64 x 64 as 8 x 8 places. If nothing else reached
# its end, its answer would look like a smoothed version of these blocks. Section 4 shows that this is just what happens.

# %% [markdown]
# ## 2. The network in full view (20 min)
#
# What does a network need, to say what each pixel is? It has to *see the whole* (four legs, a head, so this is an animal), and it has to *know the place* to the pixel.
# The first wants small maps with many channels, as every classifier has them. The second wants the full size.
#
# The **U-Net** (Ronneberger, Fischer and Brox 2015) does both. On its way down, the **encoder**, it halves the maps and doubles the channels. On its way up, the **decoder**,
# it doubles the maps again. And at each size it hands the encoder's maps across, a **skip**.
#
# ### Down
#
# Every stage is two convolutions, each with batch normalisation and ReLU. (The paper has no batch normalisation, and its convolutions do not pad, so its answers are smaller than its
# pictures. Padding is what everybody does today.)


# %% tags=["measure"]
def two_convolutions(in_channels, out_channels):
    layers = []
    for channels in (in_channels, out_channels):
        layers.append(nn.Conv2d(channels, out_channels, kernel_size=3, padding=1, bias=False))
        layers += [nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


# %% [markdown]
# Between stages, max pooling keeps the largest of 2 x 2 numbers. Four stages, from 8 channels to 64; keep what each one gives:

# %%
# NBVAL_CHECK_OUTPUT
x, features = torch.zeros(1, 3, 64, 64), []
for in_channels, out_channels in pairwise([3, 8, 16, 32, 64]):
    x = x if not features else F.max_pool2d(x, 2)
    x = two_convolutions(in_channels, out_channels)(x)
    print(f"encoder stage {len(features)}: {tuple(x.shape)}")
    features.append(x)

# %% [markdown]
# The last of them is the **bottleneck**: 64 channels, and 8 x 8 places.
#
# ### Up
#
# A transposed convolution of 2 x 2 with stride 2 doubles the side (notebook 03, section 7). Then come the words of the lecture: **concatenate channels**. The encoder's maps of the same size and these
# are put one behind the other, and two convolutions work on both.

# %%
# NBVAL_CHECK_OUTPUT
for skip, (in_channels, out_channels) in zip(features[-2::-1], pairwise([64, 32, 16, 8]), strict=True):
    up = nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)(x)
    both = torch.cat([skip, up], dim=1)
    x = two_convolutions(2 * out_channels, out_channels)(both)
    print(f"up {tuple(up.shape)}  with its skip {tuple(both.shape)}  convolved {tuple(x.shape)}")

# %% [markdown]
# A convolution of 1 x 1 makes one number of the 8 channels of each pixel, its **logit**: above zero means "animal".

# %%
# NBVAL_CHECK_OUTPUT
logits = nn.Conv2d(8, 1, kernel_size=1)(x)
print(tuple(logits.shape))

# %% [markdown]
# ### The same as a class
#
# Two things can be chosen, because sections 4 and 5 will change them: what is done with the **skip** (`"concat"`, `"sum"`, or `"none"`), and how maps are made larger (**up**).


# %% tags=["measure"]
def up_sampler(up, in_channels, out_channels):
    if up == "transposed":
        return nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)
    smooth = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
    return nn.Sequential(smooth, nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1))


# %% tags=["measure"]
class UNet(nn.Module):
    def __init__(self, width=8, levels=4, skip="concat", up="transposed"):
        super().__init__()
        self.skip, channels = skip, [width * 2**level for level in range(levels)]
        upwards = list(pairwise(reversed(channels)))
        self.encoder = nn.ModuleList(two_convolutions(i, o) for i, o in pairwise([3, *channels]))
        self.ups = nn.ModuleList(up_sampler(up, i, o) for i, o in upwards)
        self.decoder = nn.ModuleList(two_convolutions(2 * o if skip == "concat" else o, o) for _, o in upwards)
        self.head = nn.Conv2d(width, 1, kernel_size=1)

    def forward(self, images):
        features = [self.encoder[0](images)]
        for stage in self.encoder[1:]:
            features.append(stage(F.max_pool2d(features[-1], 2)))
        *skips, x = features
        for up, stage, skip in zip(self.ups, self.decoder, reversed(skips), strict=True):
            x = stage(self.join(skip, fill_up(up(x), skip)))
        return self.head(x)

    def join(self, skip, x):
        if self.skip == "concat":
            return torch.cat([skip, x], dim=1)
        return skip + x if self.skip == "sum" else x


# %% [markdown]
# One line is new, `fill_up`. Half of 65 pixels is 32, and twice 32 is 64. Where a side is odd, the map coming up lacks a row, and gets one of zeros:


# %% tags=["measure"]
def fill_up(x, skip):
    """x with rows and columns of zeros at its end, until it is as large as `skip`."""
    return F.pad(x, (0, skip.shape[3] - x.shape[3], 0, skip.shape[2] - x.shape[2]))


# %% [markdown]
# **Hooks** (notebook 02, section 5) let you watch any network from outside. This one notes the shape of what each part gives:


# %%
def watch(model, size):
    """The shape (channels, height, width) of what each part of a U-Net gives, for a picture of this size."""
    shapes = {}
    parts = {f"{kind}.{k}": part for kind in ("encoder", "ups", "decoder") for k, part in enumerate(getattr(model, kind))}
    for name, part in (parts | {"head": model.head}).items():
        part.register_forward_hook(lambda part, inputs, output, name=name: shapes.update({name: tuple(output.shape[1:])}))
    model(torch.zeros(1, 3, size, size))
    return shapes


# %%
# NBVAL_CHECK_OUTPUT
shapes = watch(UNet(), size=64)
print("\n".join(f"{name:10} {shape}" for name, shape in shapes.items()))


# %%
# extra code: the network as a drawing, from the shapes that the hooks have noted
def diagram(shapes, image):
    fig, ax = plt.subplots(figsize=(12, 5.4))
    depth = sum(name.startswith("encoder") for name in shapes)
    place = {f"encoder.{k}": (k, -k) for k in range(depth)} | {f"decoder.{k}": (depth + k, k + 2 - depth) for k in range(depth - 1)}
    box = {name: (x, y, 0.06 + 0.004 * shapes[name][0], 0.06 + 0.32 * shapes[name][1] / shapes["encoder.0"][1]) for name, (x, y) in place.items()}
    for name, (x, y, w, h) in box.items():
        down = name.startswith("encoder")
        ax.add_patch(plt.Rectangle((x - w, y - h), 2 * w, 2 * h, color="C1" if down else "C0"))
        side = 0 if y == 1 - depth else -1 if down else 1  # where the text has room: below, left or right
        shift = 0.3 if side == 0 else 0.52 if y == 0 else 0.2
        ax.text(x + side * (0.1 if y == 0 else w + 0.07), y - shift, " x ".join(map(str, shapes[name])), ha=("center", "left", "right")[side])

    def arrow(start, end, colour, text="", **look):
        ax.annotate("", end, start, arrowprops=dict(arrowstyle="->", color=colour, linewidth=2.5, **look))
        ax.text((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + 0.06, text, color=colour, ha="center", fontweight="bold")

    for k in range(depth - 1):
        (x, y, w, _), (x2, y2, _, h2) = box[f"encoder.{k}"], box[f"encoder.{k + 1}"]
        arrow((x + w, y), (x2, y2 + h2), "C7")
        (x2, y2, w2, h2) = box[f"decoder.{depth - 2 - k}"]
        arrow((x + w, y), (x2 - w2, y2), "C3", "skip: concatenate" if k == 0 else "", linestyle="--")
        (x, y, w, _) = box[f"decoder.{depth - 3 - k}" if k < depth - 2 else f"encoder.{depth - 1}"]
        arrow((x + w, y), (x2, y2 - h2), "C2")
    for x, text, colour in ((0.75, "max-pooling", "C7"), (2 * depth - 2.75, "transposed convolution", "C2")):
        ax.text(x, -2.75, text, color=colour, fontweight="bold", ha="center")
    inset = ax.inset_axes((-1.6, -0.36, 0.72, 0.72), transform=ax.transData)
    inset.imshow(to_picture(image))
    inset.axis("off")
    arrow((-0.86, 0), (-0.1, 0), "black")
    arrow((2 * depth - 1.9, 0), (2 * depth - 1.2, 0), "black")
    ax.text(2 * depth - 1.15, 0, "1 x 64 x 64\nlogits", va="center")
    ax.set(xlim=(-1.7, 2 * depth - 0.2), ylim=(-depth + 0.5, 0.55))
    ax.axis("off")
    return fig


# %%
show(diagram(shapes, train_set.images[0]),
     "The U-Net drawn from its shapes: four encoder stages going down, 8 x 64 x 64, 16 x 32 x 32, 32 x 16 x 16 and the bottleneck 64 x 8 x 8; three decoder stages going up; "
     "from each encoder stage but the last a skip leads straight across to the decoder stage of the same size.")  # fmt: skip

# %% [markdown] slideshow={"slide_type": "notes"}
# Follow one pixel with the finger: down the left side it loses its place and gains a meaning; across the dashed arrows the place comes back. The height of a box is the side of its
# maps, its width the number of channels.

# %% [markdown]
# The course has this network in `utils.models`, for later notebooks. Is it really the same? Give it our weights, and compare.

# %%
mine, theirs = UNet().eval(), models.UNet().eval()
theirs.load_state_dict(mine.state_dict())  # raises an error unless every name and shape fits
images = torch.rand(2, 3, 65, 71)
gap = (mine(images) - theirs(images)).abs().max().item()
claim(
    "Our U-Net is utils.models.UNet: the same parameters, the same output, also for sides that are odd",
    num_parameters(theirs) == num_parameters(mine) == 121_177 and gap < 1e-6,
    f"121,177 parameters; largest difference {gap:.0e}; output {tuple(mine(images).shape)}",
)

# %% [markdown]
# ## 3. Train it (15 min)
#
# A mask moves with its picture. `transforms.v2` knows that: where the picture is flipped, so is the mask, as both come in together.

# %% tags=["measure"]
prepare = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean=[0.5] * 3, std=[0.25] * 3)])
flip_and_prepare = v2.Compose([v2.RandomHorizontalFlip(), prepare])

# %%
torch.manual_seed(seed)
image, mask = train_set.with_transform(flip_and_prepare, "mask")[0]
print(f"picture {tuple(image.shape)}, {image.dtype}; mask {tuple(mask.shape)}, {mask.dtype}, {mask.float().mean():.0%} animal")

# %% [markdown]
# The loss is the usual one, cross-entropy, for each pixel by itself: $-\log p_i$ where the pixel is animal and $-\log(1 - p_i)$ where it is not. With a single logit it
# is called *binary*.


# %% tags=["measure"]
def cross_entropy(outputs, masks):
    return F.binary_cross_entropy_with_logits(outputs[:, 0], masks.float())


def mean_iou(outputs, masks):
    return iou(outputs[:, 0] > 0, masks).mean()


# %% [markdown]
# Every network of this notebook gets the same training, and sees the same number of pictures (a picture counts each time that it is seen):


# %% tags=["measure"]
def train(model, dataset, val_set=None, loss_fn=cross_entropy, num_seen=2400, transform=flip_and_prepare, groups=None, lr=4e-3, progress="training"):
    loader = DataLoader(dataset.with_transform(transform, "mask"), batch_size=16, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set.with_transform(prepare, "mask"), batch_size=100) if val_set else None
    optimizer = torch.optim.AdamW(groups or model.parameters(), lr=lr)
    num_epochs = round(num_seen / (16 * len(loader)))
    rates = [group["lr"] for group in optimizer.param_groups]
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=num_epochs * len(loader), pct_start=0.2)
    how = dict(num_epochs=num_epochs, optimizer=optimizer, scheduler=scheduler, loss_fn=loss_fn, metrics={"iou": mean_iou})
    return fit(model, loader, val_loader, progress=progress, **how)


# %% [markdown]
# How good must it be, to be any good? A **baseline** that does not look at the picture: wherever at least a given share of the training masks has an animal, answer "animal". The best share is chosen for it.

# %%
share = train_set.targets["mask"].float().mean(dim=0)
baselines = {level: (share > level).expand_as(masks) for level in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)}
baseline = max(baselines.values(), key=lambda answers: iou(answers, masks).mean())
print(f"without looking: IoU {iou(baseline, masks).mean():.2f}, boundary IoU {boundary_iou(baseline, masks).mean():.2f}")

# %%
torch.manual_seed(seed)
unet = UNet().to(device)
history = train(unet, train_set, val_set)

# %%
fig, ax = plt.subplots()
ax.set_ylim(0, 1)
curves(ax, {"training": history["train_iou"], "validation": history["val_iou"]}, "epoch", "mean IoU", "It learns where the animal is")
ax.axhline(iou(baseline, masks).mean(), color="gray", linestyle="--")
last = len(history["val_iou"])
ax.set_xticks(range(1, last + 1))
ax.annotate("without looking (test set)", (last, iou(baseline, masks).mean()), xytext=(0, -18), textcoords="offset points", color="gray", ha="right")
show(fig, f"Mean IoU against epoch: on the validation set it ends at {history['val_iou'][-1]:.2f}. The dashed line is the baseline that does not look at the picture, {iou(baseline, masks).mean():.2f}.")

# %% [markdown]
# Now the test set. `predict` gives the logits, one a pixel:


# %% tags=["measure"]
def logits_of(model, dataset, transform=prepare, **how):
    outputs, _ = predict(model, DataLoader(dataset.with_transform(transform, "mask"), batch_size=100), **how)
    return outputs[:, 0]


# %%
unet_logits = logits_of(unet, test_set)
answers = unet_logits > 0
test_iou = iou(answers, masks)
claim(
    "The U-Net finds the animals: its IoU is clearly above that of the best answer that does not look",
    (test_iou.mean() - iou(baseline, masks).mean()).item() > 0.05,
    f"IoU {test_iou.mean():.2f} against {iou(baseline, masks).mean():.2f}, boundary IoU {boundary_iou(answers, masks).mean():.2f} against {boundary_iou(baseline, masks).mean():.2f}",
)

# %% [markdown]
# A mean hides the failures, so look at them: the **worst first**. In the last row, blue is animal that was missed, orange is what the network took for animal.


# %%
# extra code: where an answer is wrong: missed in blue, too much in orange, on the picture in grey
def error_map(images, answers, masks):
    grey = (0.6 + 0.4 * images.float() / 255).mean(dim=1, keepdim=True).expand(-1, 3, -1, -1).clone()
    for wrong, colour in ((masks & ~answers, (0.12, 0.35, 0.95)), (answers & ~masks, (0.95, 0.45, 0.05))):
        grey = torch.where(wrong[:, None], torch.tensor(colour)[:, None, None], grey)
    return grey


def gallery(images, logits, masks, chosen):
    images, answers, masks = images[chosen], logits[chosen] > 0, masks[chosen]
    rows = {"picture": images, "truth": masks, "answer": answers, "errors": error_map(images, answers, masks)}
    fig, axes = plt.subplots(4, len(chosen), figsize=(1.7 * len(chosen), 7))
    for (name, panels), line in zip(rows.items(), axes, strict=True):
        for ax, panel in zip(line, panels, strict=True):
            ax.imshow(to_picture(panel), cmap="gray", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
        line[0].set_ylabel(name)
    for ax, value in zip(axes[0], iou(answers, masks), strict=True):
        ax.set_title(f"IoU {value:.2f}", loc="center", fontsize=13)
    return fig


# %%
order = test_iou.argsort()
chosen = torch.cat([order[:4], order[[len(order) // 4, len(order) // 2, -1]]])
show(gallery(test_set.images, unet_logits, masks, chosen),
     f"Seven {noun}s with truth, answer and errors: the four worst of the test set (IoU {test_iou[order[0]]:.2f} to {test_iou[order[3]]:.2f}), then one at the lower quarter "
     f"({test_iou[chosen[4]]:.2f}), the median ({test_iou[chosen[5]]:.2f}) and the best ({test_iou[chosen[6]]:.2f}).")  # fmt: skip

# %% [markdown]
# The network does not say "animal", it says how sure it is: $p = \sigma(\text{logit})$. We have cut at $p = 0.5$. Try other thresholds, and other pictures.


# %%
def at_threshold(threshold, picture):
    probability = unet_logits[[picture]].sigmoid()
    answer = probability > threshold
    panels = [test_set.images[picture], probability.expand(3, -1, -1), answer.float().expand(3, -1, -1), error_map(test_set.images[[picture]], answer, masks[[picture]])[0]]
    value = iou(answer, masks[[picture]]).item()
    fig = image_grid(panels, titles=["picture", "probability", f"above {threshold}", f"errors: IoU {value:.2f}"], columns=4, size=2.6)
    return fig, f"Cut at {threshold}, the answer for picture {picture} of the test set has an IoU of {value:.2f}; missed pixels in blue, pixels too many in orange."


explore(at_threshold, threshold=[0.5, 0.05, 0.2, 0.8, 0.95], picture=[int(k) for k in order[[len(order) // 4, 0, 1, len(order) // 2, -1]]])

# %% [markdown]
# ## 4. What are the skips good for? (25 min)
#
# Everybody draws the arrows across. What if they were not there? Three networks, the same training:
# - **concat**: the U-Net;
# - **sum**: the skip is added instead of put behind, as in a residual block (notebook 02);
# - **none**: the decoder gets only what comes up from the bottleneck.
#
# Nobody shall say that the others lose because they are smaller. So they get 9 channels in place of 8, and have more parameters than the U-Net:

# %% tags=["measure"]
WIDTHS = {"concat": 8, "sum": 9, "none": 9}

# %%
# NBVAL_CHECK_OUTPUT
for skip, width in WIDTHS.items():
    print(f"{skip:7} {num_parameters(UNet(width, skip=skip)):,} parameters")

# %% [markdown]
# **Before you run it:** by which measure will the network without skips lose most: pixel accuracy, IoU, or boundary IoU? And where in the picture?
#
# <details><summary>Answer</summary>
#
# By boundary IoU. The bottleneck knows *what* is where, but only to 8 pixels. Middles stay right, so the IoU loses little. Outlines, legs and tails are lost.
#
# </details>


# %% tags=["measure"]
def trained_unet(seed, dataset, skip="concat", up="transposed", **how):
    torch.manual_seed(seed)
    model = UNet(WIDTHS[skip], skip=skip, up=up).to(device)
    train(model, dataset, **how)
    return model


# %% [markdown]
# The U-Net with `"concat"` is trained already. The other two:

# %%
nets = {"concat": unet}
nets["sum"] = trained_unet(seed, train_set, skip="sum")

# %%
nets["none"] = trained_unet(seed, train_set, skip="none")

# %% [markdown]
# One more measure, for what is **thin**: the pixels that vanish when the mask is first eaten away by 2 pixels and then grown back by 2 (an *opening*). Which share of them does an answer find? (In photos, some of these pixels are slits in masks that were drawn in haste.)


# %% tags=["measure"]
def thin_parts(masks, width=2):
    eaten = masks & ~inner_band(masks, width)
    grown = F.max_pool2d(eaten.float()[:, None], kernel_size=2 * width + 1, stride=1, padding=width)[:, 0] > 0
    return masks & ~grown


def scores(logits, masks):
    answers, thin = logits > 0, thin_parts(masks)
    means = {name: f(answers, masks).mean() for name, f in {"accuracy": pixel_accuracy, "IoU": iou, "Dice": dice, "boundary IoU": boundary_iou}.items()}
    return {name: value.item() for name, value in means.items()} | {"thin parts": ((answers & thin).sum() / thin.sum()).item()}


# %%
skip_logits = {skip: logits_of(model, test_set) for skip, model in nets.items()}
skip_scores = {skip: scores(logits, masks) for skip, logits in skip_logits.items()}
for skip, row in skip_scores.items():
    print(f"{skip:7}", "   ".join(f"{name} {value:.3f}" for name, value in row.items()))

# %%
# extra code: measures side by side, one bar a network
def bars(table, names, title):
    fig, ax = plt.subplots(figsize=(10, 4.6))
    for k, (label, row) in enumerate(table.items()):
        places = np.arange(len(names)) + 0.27 * (k - (len(table) - 1) / 2)
        drawn = ax.bar(places, [row[name] for name in names], width=0.25, label=label)
        ax.bar_label(drawn, fmt="%.2f", fontsize=12)
    ax.set(xticks=range(len(names)), xticklabels=names, ylim=(0, 1.22), yticks=[0, 0.2, 0.4, 0.6, 0.8, 1], ylabel="on the test set, 0 to 1", title=title)
    ax.grid(axis="x", visible=False)
    ax.legend(ncols=len(table), loc="upper right")
    return fig


# %%
show(bars(skip_scores, ["accuracy", "IoU", "boundary IoU", "thin parts"], "Without skips the outline is lost, not the animal"),
     "Four measures of the three networks. Accuracy and IoU fall a little without skips; boundary IoU falls from "
     f"{skip_scores['concat']['boundary IoU']:.2f} to {skip_scores['none']['boundary IoU']:.2f}.")  # fmt: skip

# %%
kept, lost = skip_scores["concat"], skip_scores["none"]
claim(
    "With skips the outline is clearly better, at the same budget and with fewer parameters",
    lost["boundary IoU"] < 0.95 * kept["boundary IoU"],
    f"boundary IoU {kept['boundary IoU']:.3f} with, {lost['boundary IoU']:.3f} without; IoU {kept['IoU']:.3f} and {lost['IoU']:.3f}",
)

# %%
claim(
    "Without skips, boundary IoU loses a larger share of itself than IoU does",
    lost["boundary IoU"] / kept["boundary IoU"] < lost["IoU"] / kept["IoU"] - 0.05,
    f"left over: {lost['boundary IoU'] / kept['boundary IoU']:.0%} of the boundary IoU, {lost['IoU'] / kept['IoU']:.0%} of the IoU",
)

# %% [markdown]
# Where does the difference lie? The pictures with most thin parts, answers with and without skips:

# %%
# extra code: some pictures, their masks, and the answers of all networks
def side_by_side(chosen, logits):
    rows = {"picture": test_set.images, "truth": masks} | {name: values > 0 for name, values in logits.items()}
    fig, axes = plt.subplots(len(rows), len(chosen), figsize=(1.7 * len(chosen), 1.7 * len(rows)))
    for (name, panels), line in zip(rows.items(), axes, strict=True):
        for ax, k in zip(line, chosen, strict=True):
            ax.imshow(to_picture(panels[k]), cmap="gray", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
        line[0].set_ylabel(name)
    return fig


# %%
thinnest = thin_parts(masks).sum(dim=(1, 2)).argsort(descending=True)[:7]
show(side_by_side(thinnest, skip_logits), "Seven pictures with many thin parts, their masks, and the answers of the three networks. Without skips legs and tails run "
     "together or vanish, and every outline is round.")  # fmt: skip

# %% [markdown]
# And for all test pictures: how often is a pixel wrong, by its distance from the outline?


# %% tags=["measure"]
def error_by_distance(answers, masks, most=8):
    """Share of wrong pixels at -most, ..., -1 (outside) and 1, ..., most (inside) steps from the outline; the last are all that are farther."""
    wrong, result = answers != masks, {}
    for side, sign in ((~masks, -1), (masks, 1)):
        bands = [inner_band(side, width, beyond=0.0) for width in range(1, most)] + [side]
        for steps, (inner, outer) in enumerate(pairwise([torch.zeros_like(side), *bands]), start=1):
            result[sign * steps] = wrong[outer & ~inner].float().mean().item()
    return dict(sorted(result.items()))


# %%
far = {skip: error_by_distance(logits > 0, masks) for skip, logits in skip_logits.items()}
fig, ax = plt.subplots()
for colour, skip in zip(("C0", "C2"), ("concat", "none"), strict=True):
    for side in (-1, 1):
        steps = [step for step in far[skip] if step * side > 0]
        ax.plot([s - 0.5 * side for s in steps], [100 * far[skip][s] for s in steps], color=colour, marker="o", label=skip if side == 1 else None)
ax.axvline(0, color="gray", linestyle="--")
ax.set(xlabel="steps from the outline: outside is left, inside right (pixels; the last: all that are farther)", ylabel="wrong pixels (%)", ylim=(0, None))
ax.set_title("Skips help most close to the outline")
ax.legend()
show(fig, f"Share of wrong pixels against the distance from the outline. Just inside it is {far['concat'][1]:.0%} with skips and {far['none'][1]:.0%} without; far outside it is "
     f"{far['concat'][-8]:.1%} and {far['none'][-8]:.1%}.")  # fmt: skip

# %%
near_gain = np.mean([far["none"][k] - far["concat"][k] for k in (-2, -1, 1, 2)])
far_gain = np.mean([far["none"][k] - far["concat"][k] for k in (-8, -7, 7, 8)])
claim(
    "What the skips gain, they gain close to the outline",
    near_gain > 0.02 and near_gain > far_gain + 0.02,
    f"wrong pixels that skips set right: {100 * near_gain:.1f} points within 2 pixels of the outline, {100 * far_gain:.1f} points beyond 6",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Ask what "none" reminds them of: the blocks of section 1, smoothed. It is an autoencoder's answer: all has to pass the bottleneck. (64 channels at each of 8 x 8 places could in principle
# carry 64 pixels each; a network does not find that by itself in so short a training.)

# %% [markdown]
# ### On ten seeds
#
# One run each is little. So the same code was run on ten seeds with drawings, and on three with photos: **measured earlier, by `make measure TABLE=unet_skips`**. Minimum, median and maximum:

# %%
rows = measured("unet_skips")


def found(source, skip, up, measure):
    return [row[measure] for row in rows if (row["source"], row["skip"], row["up"]) == (source, skip, up)]


for source in ("critters", "photos"):
    for skip in WIDTHS:
        values = {measure: sorted(found(source, skip, "transposed", measure)) for measure in ("IoU", "boundary IoU", "thin parts")}
        print(f"{source:9} {skip:7}", "   ".join(f"{name} {v[0]:.2f} / {np.median(v):.2f} / {v[-1]:.2f}" for name, v in values.items()))


# %%
# extra code: each seed is a dot, and the median a line
def dots_figure(settings, measures, title):
    fig, axes = plt.subplots(1, len(measures), figsize=(12, 4.4), sharey=True)
    sources = {"critters": "drawings", "photos": "photos"}
    lines = [(source, *setting) for source in sources for setting in settings]
    for ax, measure in zip(axes, measures, strict=True):
        for place, (source, _, skip, up) in enumerate(lines):
            values = found(source, skip, up, measure)
            ax.plot(values, [place] * len(values), "o", color=f"C{place % len(settings)}", alpha=0.6, markersize=9)
            ax.plot([np.median(values)] * 2, [place - 0.35, place + 0.35], color="black", linewidth=3)
        ax.set(xlabel=measure, yticks=range(len(lines)), yticklabels=[f"{sources[source]}: {name}" for source, name, *_ in lines])
    axes[0].invert_yaxis()
    fig.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=15)
    return fig


# %%
show(dots_figure([(skip, skip, "transposed") for skip in WIDTHS], ["IoU", "boundary IoU", "thin parts"], "Measured earlier: what the skips gain, they gain at the outline"),
     "IoU, boundary IoU and the share of thin parts found, for each network and seed, on drawings and on photos. Medians of boundary IoU on drawings: "
     + ", ".join(f"{skip} {np.median(found('critters', skip, 'transposed', 'boundary IoU')):.2f}" for skip in WIDTHS) + "; on photos: "
     + ", ".join(f"{skip} {np.median(found('photos', skip, 'transposed', 'boundary IoU')):.2f}" for skip in WIDTHS) + ".")  # fmt: skip

# %% [markdown]
# **Skips or none** is no close race. On drawings the worst seed with skips has a better outline than the best without. **Concatenated or summed** is a close one: what matters is that the place comes across, not how the
# two maps are joined. (The sum has a little more parameters here, by its 9 channels. At 8 it would have fewer than the U-Net: its decoder reads half as many channels.)

# %% [markdown]
# ## 5. How to make maps larger (15 min)
#
# The paper's U-Net goes up by **transposed convolutions**. Many of today's go up by **bilinear interpolation and a convolution**. Notebook 03 has shown what can go wrong with the first: where kernels overlap
# unevenly, a checkerboard appears. Does it here? Put ones in, with weights of one, and see by how many terms each pixel is made:


# %%
def coverage(kernel_size, stride=2):
    weight = torch.ones(1, 1, kernel_size, kernel_size)
    return F.conv_transpose2d(torch.ones(1, 1, 6, 6), weight, stride=stride)[0, 0, 2:10, 2:10]


for kernel_size in (2, 3):
    print(f"kernel {kernel_size}, stride 2: terms a pixel {coverage(kernel_size).unique().int().tolist()}")

# %% [markdown]
# With a kernel of 2 and a stride of 2 nothing overlaps: each pixel is made of exactly one. That is why the U-Net takes this size. Still, the four pixels of a 2 x 2 block each have **weights of their own**. Send a completely
# flat map through the last up-sampling of our trained network, and through a bilinear one:

# %%
flat = torch.ones(1, 16, 6, 6)
torch.manual_seed(seed)
layers = {"transposed, as trained": copy.deepcopy(unet.ups[-1]).float().cpu(), "bilinear + convolution": up_sampler("bilinear", 16, 8)}
with torch.no_grad():
    risen = {name: layer(flat)[0, :, 2:10, 2:10] for name, layer in layers.items()}

# %%
strongest = risen["transposed, as trained"].std(dim=(1, 2)).argmax()
low, high = (float(f(risen["transposed, as trained"][strongest])) for f in (torch.min, torch.max))
fig, axes = plt.subplots(1, 2, figsize=(8, 4))
for ax, (name, maps) in zip(axes, risen.items(), strict=True):
    k = strongest if "trained" in name else 0
    ax.imshow(maps[k] - maps[k].mean(), cmap="gray", vmin=(low - high) / 2, vmax=(high - low) / 2)
    ax.set(xticks=[], yticks=[], title=name)
show(fig, "What comes out where a flat map goes in: a transposed convolution repeats a pattern of 2 x 2 pixels, bilinear interpolation with a convolution stays flat.")

# %%
spread = {name: maps.std(dim=(1, 2)).max().item() for name, maps in risen.items()}
claim(
    "A transposed convolution of 2 x 2 with stride 2 covers every pixel once (3 x 3 does not), and yet makes a pattern from a flat map; bilinear + convolution makes none",
    len(coverage(2).unique()) == 1 < len(coverage(3).unique()) and spread["transposed, as trained"] > 0.01 > 1e-5 > spread["bilinear + convolution"],
    f"largest deviation within a channel {spread['transposed, as trained']:.2f} against {spread['bilinear + convolution']:.0e}",
)

# %% [markdown]
# The convolutions behind it can repair such a pattern, or use it: four different pixels from one is just what a fine outline needs.
#
# **Before you run it:** which of the two gives the better masks?
#
# <details><summary>Answer</summary>
#
# In our runs the transposed convolutions are a little ahead, more often than not. But the fine detail comes across with the skips, so it matters far less how the coarse map is made larger than whether there are skips at all.
#
# </details>

# %%
bilinear = trained_unet(seed, train_set, up="bilinear")
up_scores = {"transposed": skip_scores["concat"], "bilinear": scores(logits_of(bilinear, test_set), masks)}
for up, row in up_scores.items():
    print(f"{up:11}", "   ".join(f"{name} {value:.3f}" for name, value in row.items()))

# %% [markdown]
# One run says little about so small a difference. The seeds again, with the network without skips for comparison:

# %%
ways = [("transposed", "concat", "transposed"), ("bilinear", "concat", "bilinear"), ("no skips", "none", "transposed")]
show(dots_figure(ways, ["IoU", "boundary IoU", "thin parts"], "Measured earlier: how maps grow matters less than the skips"),
     "IoU, boundary IoU and thin parts by seed, with transposed convolutions, with bilinear interpolation and a convolution, and without skips. Medians of boundary IoU on drawings: "
     + ", ".join(f"{name} {np.median(found('critters', skip, up, 'boundary IoU')):.2f}" for name, skip, up in ways) + ".")  # fmt: skip

# %%
between_ups = up_scores["transposed"]["IoU"] - up_scores["bilinear"]["IoU"]
claim(
    "With either, the animals are found: transposed and bilinear differ by less than 0.1 in IoU",
    abs(between_ups) < 0.1,
    f"transposed {up_scores['transposed']['IoU']:.3f}, bilinear {up_scores['bilinear']['IoU']:.3f}",
)

# %% [markdown]
# ## 6. Small things, and the loss (25 min)
#
# A cat fills a good part of its picture. A lesion in an ultrasound image often does not. Where the images of BUSI (breast ultrasound) are not at hand, the course draws a **stand-in**, and the line
# below says so: "drawings" are dark blobs in grey speckle. (Neither is for any medical use.)


# %% tags=["measure"]
# extra code: lesions to train on and others to test on, 64 x 64
def lesion_sets(seed, num_train=100):
    try:
        splits = datasets.lesions(num_train=400, num_val=100, num_test=200, size=64)
    except FileNotFoundError:  # photos are asked for, and those of lesions cannot be fetched: drawings stand in
        drawn = [draw_lesion(malignant=i % 2 == 1, seed=i, size=64) for i in range(700)]
        images = torch.stack([torch.from_numpy(image) for image, _ in drawn])[:, None].repeat(1, 3, 1, 1)
        targets = {"label": torch.arange(700) % 2, "mask": torch.stack([torch.from_numpy(mask) for _, mask in drawn])}
        everything = datasets.ImageDataset(images, targets, ["benign", "malignant"], "drawing", "critters")
    else:
        targets = {name: torch.cat([split.targets[name] for split in splits]) for name in ("label", "mask")}
        first = splits.train
        everything = datasets.ImageDataset(torch.cat([s.images for s in splits]), targets, first.classes, first.noun, first.source)
    train_set = everything.subset(num_train, seed=seed)
    others = torch.ones(len(everything), dtype=torch.bool).index_fill(0, train_set.indices, False)
    return train_set, everything.subset(others)


# %%
lesions, other_lesions = lesion_sets(seed)
lesion_masks = other_lesions.targets["mask"]
print(f"training: {lesions}\ntest:     {other_lesions}")
print(f"of a picture's pixels, lesion: median {lesion_masks.float().mean(dim=(1, 2)).median():.1%}, smallest {lesion_masks.float().mean(dim=(1, 2)).min():.1%}")

# %%
twice = torch.cat([other_lesions.images[examples] / 255, cut_out(other_lesions.images, lesion_masks)[examples] * 0.5 + 0.5 * (~lesion_masks[examples])[:, None]])
show(image_grid(twice, columns=6, size=1.6), f"Six {other_lesions.noun}s of lesions above; below, only the lesions as their masks mark them.")

# %% [markdown]
# Cross-entropy adds up pixels. If only a few are lesion, then most of what it says is "background!". The **Dice loss** (Milletari et al. 2016, there with squares in the denominator) takes the measure itself, with probabilities $p_i$ in place of answers and
# $g_i \in \{0, 1\}$ for the true mask:
#
# $$L_\text{Dice} = 1 - \frac{2 \sum_i p_i\, g_i}{\sum_i p_i + \sum_i g_i}$$


# %% tags=["measure"]
def dice_loss(outputs, masks):
    p, g = outputs[:, 0].sigmoid(), masks.float()
    overlap, total = (p * g).sum(dim=(1, 2)), p.sum(dim=(1, 2)) + g.sum(dim=(1, 2))
    return 1 - ((2 * overlap + 1) / (total + 1)).mean()  # the ones: no division by zero where nothing is there


def both_losses(outputs, masks):
    return cross_entropy(outputs, masks) + dice_loss(outputs, masks)


# %% [markdown] slideshow={"slide_type": "notes"}
# Cross-entropy can be weighted by class, which comes to the same idea: let the few pixels speak louder. The Dice loss needs no weight to be chosen, because it divides by what is there.

# %% [markdown]
# Look at the very beginning: the network knows nothing, $p = 1/2$ everywhere. Each lesion pixel pulls its logit up, each other pixel pulls down. A share $f$ of the pixels is lesion.
#
# **Before you run it:** which side pulls harder, with cross-entropy? And with Dice?
#
# <details><summary>Answer</summary>
#
# With cross-entropy every pixel pulls equally hard. So the ratio, all lesion pixels against all others, is $f / (1 - f)$: for a lesion of 2 %, one to forty-nine. With Dice it is
# $(1 + f) / (1 - f)$: both sides pull about equally hard, however small the lesion is.
#
# </details>


# %%
def pull(loss_fn, mask):
    """How hard the lesion's pixels together pull up, as a multiple of how hard all others together pull down, where p = 1/2."""
    logits = torch.zeros(1, 1, *mask.shape, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss_fn(logits, mask[None]), logits)
    return -(gradient[0, 0][mask].sum() / gradient[0, 0][~mask].sum()).item()


small_lesion = lesion_masks[lesion_masks.float().mean(dim=(1, 2)).argmin()]
f = small_lesion.float().mean().item()
pulls = {"cross-entropy": pull(cross_entropy, small_lesion), "Dice": pull(dice_loss, small_lesion)}
print(f"lesion: {f:.2%} of the pixels;", ", ".join(f"{name} {value:.4f}" for name, value in pulls.items()))

# %%
claim(
    "Before training, a small lesion hardly counts for cross-entropy, f / (1 - f); for the Dice loss it counts as much as all the rest, (1 + f) / (1 - f)",
    abs(pulls["cross-entropy"] - f / (1 - f)) < 1e-3 and abs(pulls["Dice"] - (1 + f) / (1 - f)) < 0.1,
    f"f = {f:.2%}; pull of the lesion against all the rest: {pulls['cross-entropy']:.3f} and {pulls['Dice']:.3f}",
)

# %% [markdown]
# **Before you run it:** three trainings, short ones, that differ in the loss only. Which network calls more pixels a lesion, the one of cross-entropy or the one of Dice?
#
# <details><summary>Answer</summary>
#
# Dice: early in a training, and where the task is hard. On drawn lesions, which are easy, a longer training brings both to nearly the same answers.
#
# </details>

# %% tags=["measure"]
LOSSES = {"cross-entropy": cross_entropy, "Dice": dice_loss, "both": both_losses}


def recall_and_precision(logits, masks):
    answers = logits > 0
    right = (answers & masks).sum().item()
    return {"recall": right / masks.sum().item(), "precision": right / max(1, answers.sum().item())}


# %%
loss_logits = {}
for name, loss_fn in LOSSES.items():
    loss_logits[name] = logits_of(trained_unet(seed, lesions, loss_fn=loss_fn, num_seen=1600), other_lesions)

# %%
loss_scores = {name: scores(logits, lesion_masks) | recall_and_precision(logits, lesion_masks) for name, logits in loss_logits.items()}
for name, row in loss_scores.items():
    print(f"{name:13}", "   ".join(f"{key} {row[key]:.3f}" for key in ("accuracy", "IoU", "boundary IoU", "recall", "precision")))

# %% [markdown]
# **Recall** is the share of all lesion pixels that is found, **precision** the share of what was called lesion that is lesion.

# %%
show(bars(loss_scores, ["accuracy", "IoU", "recall", "precision"], "The Dice loss finds more of the lesions, and calls more a lesion that is none"),
     f"Pixel accuracy, IoU, recall and precision of networks trained with cross-entropy, with the Dice loss and with the sum of both, on {other_lesions.noun}s of lesions. Recall: "
     + ", ".join(f"{name} {row['recall']:.2f}" for name, row in loss_scores.items()) + "; precision: "
     + ", ".join(f"{name} {row['precision']:.2f}" for name, row in loss_scores.items()) + ".")  # fmt: skip

# %%
ce, soft = loss_scores["cross-entropy"], loss_scores["Dice"]
claim(
    "In a training as short as this, the Dice loss finds more of the lesions than cross-entropy does, and is less often right where it says lesion",
    soft["recall"] > ce["recall"] and soft["precision"] < ce["precision"],
    f"recall {soft['recall']:.2f} against {ce['recall']:.2f}, precision {soft['precision']:.2f} against {ce['precision']:.2f}",
)

# %% [markdown]
# Why? Cross-entropy wants $p$ to be the probability that a pixel is lesion, and we cut it at one half. But the answer with the best Dice to be expected takes every pixel whose probability is above **half that Dice** (Lipton et al. 2014):
# above 0.4 where the Dice is 0.8, above 0.25 where the task is so hard that it is 0.5. So a network that is after Dice takes pixels of which it is less than half sure. And early in a training it takes too many of them.
#
# Which of the two you want depends on what a missed pixel costs. The usual choice is **both**, summed (nnU-Net, Isensee et al. 2021, does so). And the threshold moves recall and precision too, and can be chosen after training:

# %%
levels = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
by_level = {name: [iou(logits.sigmoid() > level, lesion_masks).mean().item() for level in levels] for name, logits in loss_logits.items()}
fig, ax = plt.subplots()
ax.set(ylim=(0, 1), xlim=(0.08, 0.92))
curves(ax, by_level, "threshold on p", "mean IoU on the test set", "Each loss has its own best threshold", x=levels)
show(fig, "Mean IoU against the threshold for each loss. Best: " + ", ".join(f"{name} {levels[int(np.argmax(values))]} (IoU {max(values):.2f})" for name, values in by_level.items()) + ".")

# %% [markdown]
# (Choosing it on the test set, as this figure does, is cheating; in earnest it is chosen on validation pictures.) On several seeds and with shorter and longer trainings, **measured earlier**:

# %%
loss_rows = measured("unet_losses")
for source, seen in (("critters", 800), ("critters", 1600), ("critters", 3200), ("photos", 1600)):
    for name in LOSSES:
        runs = [row for row in loss_rows if (row["source"], row["seen"], row["loss"]) == (source, seen, name)]
        of = {key: sorted(row[key] for row in runs) for key in ("IoU", "recall", "precision")}
        print(f"{source:9} {seen:5} pictures seen, {name:13}", "   ".join(f"{key} {v[0]:.2f} / {np.median(v):.2f} / {v[-1]:.2f}" for key, v in of.items()))

# %% [markdown]
# On drawings the losses differ after 800 pictures, and hardly after 3,200. On ultrasound images, which are harder, they differ more. A hard task, a short training, few pixels: that is where the choice of the loss shows. (Look at the
# lowest numbers for 1,600 pictures, too: one of the ten draws of a hundred lesions goes wrong with every loss. A single run would not have told.)

# %% [markdown]
# ## 7. Any size, and tiles (20 min)
#
# Nothing in the network depends on the size of the picture: it is all convolutions. So it runs on any, square or not, odd or even:

# %%
# NBVAL_CHECK_OUTPUT
any_size = UNet().eval()
for height, width in ((64, 64), (96, 96), (65, 71), (40, 200)):
    print((height, width), "->", tuple(any_size(torch.zeros(1, 3, height, width)).shape[2:]))

# %% [markdown]
# **Before you run it:** our network was trained on pictures of 64 x 64. The test pictures are made larger and smaller, and their masks with them. It runs. Does it work?
#
# <details><summary>Answer</summary>
#
# On drawings only near the size that it knows. It runs on any size, but it has learned what animals look like that are a few dozen pixels high. Twice as large, an ear looks like nothing it has ever seen. What it needs is not the same
# number of pixels, but the same *scale*. (Photos of pets are taken from near and from far. A network trained on them has met several scales, and minds less.)
#
# </details>


# %%
def resized(dataset, size):
    images = v2.functional.resize(dataset.images, [size, size])
    masks = F.interpolate(dataset.targets["mask"].float()[:, None], (size, size))[:, 0] > 0.5
    return datasets.ImageDataset(images, {"label": dataset.targets["label"], "mask": masks}, dataset.classes, dataset.noun, dataset.source)


# %%
sizes, some_tests = [32, 48, 64, 96, 128, 160], test_set.subset(100)
at_size = {}
for size in sizes:
    larger = resized(some_tests, size)
    at_size[size] = iou(logits_of(unet, larger, bf16=False) > 0, larger.targets["mask"]).mean().item()

# %%
fig, ax = plt.subplots()
ax.set(ylim=(0, 1), xticks=sizes)
curves(ax, {"mean IoU": list(at_size.values())}, "side of the test pictures (pixels); trained at 64", "mean IoU", "It runs at any size; does it work?", x=sizes)
show(fig, "Mean IoU against the size to which the test pictures are scaled: " + ", ".join(f"{size}: {value:.2f}" for size, value in at_size.items()) + ".")

# %%
if pool.source == "critters":
    claim(
        "A network trained at 64 x 64 runs on drawings scaled to 160 x 160, and is far worse there",
        at_size[64] > at_size[160] + 0.2,
        f"IoU {at_size[64]:.2f} at 64, {at_size[160]:.2f} at 160",
    )
else:  # pets are photographed from near and from far, so the network has learned several scales: no claim
    print(f"IoU {at_size[64]:.2f} at 64, {at_size[160]:.2f} at 160")

# %% [markdown]
# ### A large picture
#
# What if the *scene* is larger: an aerial photo, a microscope slide? Then the scale is right, but the memory may not suffice. Here is one: 24 test pictures side by side.

# %%
parts = test_set.images[:24]
large = prepare(make_grid(parts, nrow=6, padding=0))
print(tuple(large.shape))

# %% [markdown]
# It is cut into **tiles** that overlap, and of each tile's answer only the middle is kept, the `core`. How wide must the `margin` around it be? As wide as the network **reaches** (half of a receptive field, notebook 03, section 2). Count: a 3 x 3 convolution reaches 1 pixel of its map.
# In stage $k$ that is $2^k$ pixels of the picture. There are two of them in each stage, going down and going up, and pooling reads whole blocks of 8:
#
# $$\underbrace{2\,(1 + 2 + 4)}_{\text{down}} + \underbrace{2 \cdot 8}_{\text{bottleneck}} + \underbrace{2\,(4 + 2 + 1)}_{\text{up}} + \underbrace{7}_{\text{blocks}} = 51$$
#
# Test it: change **everything** that is farther than 51 pixels from one pixel. Nothing must happen there.

# %%
reach = 2 * (1 + 2 + 4) + 2 * 8 + 2 * (4 + 2 + 1) + 7
model = copy.deepcopy(unet).float().cpu().eval()  # here the comparison is exact, and the batch norm at rest
y, x = 128, 189
near = torch.zeros(large.shape[1:], dtype=torch.bool)
near[y - reach : y + reach + 1, x - reach : x + reach + 1] = True

# %%
with torch.no_grad():
    whole = model(large[None])[0, 0]
    changes = {name: (model(torch.where(area, large, -large)[None])[0, 0, y, x] - whole[y, x]).abs().item() for name, area in (("far", near), ("near", ~near))}
claim(
    f"A pixel's answer depends on nothing that is more than {reach} pixels away",
    changes["far"] < 1e-4 < 1e-3 < changes["near"],
    f"its logit changes by {changes['far']:.0e} when all that is farther is changed, by {changes['near']:.2f} when all that is nearer is",
)


# %% [markdown]
# The tiles. `margin` is 56: at least 51, and a multiple of 8. Why a multiple? The pooling has a grid: it takes pixels 0 to 7 together, then 8 to 15. A tile that starts elsewhere shifts the grid.


# %%
@torch.no_grad()
def in_tiles(model, image, core, margin):
    """The logits of a large picture (3, H, W) from tiles that overlap; of each tile only the core is kept."""
    height, width = image.shape[1:]
    logits = torch.empty(height, width)
    for top in range(0, height, core):
        for left in range(0, width, core):
            y, x = max(0, top - margin), max(0, left - margin)
            tile = image[:, y : top + core + margin, x : left + core + margin]
            answer = model(tile[None])[0, 0]
            logits[top : top + core, left : left + core] = answer[top - y :, left - x :][:core, :core]
    return logits


# %% [markdown]
# **Before you run it:** three ways to cut the picture: cores of 128 with a margin of 56; the same without a margin; cores of 125, so that tiles start anywhere. Which equals the answer for the whole picture?
#
# <details><summary>Answer</summary>
#
# Only the first. Without a margin, pixels at a tile's edge see zeros in place of the neighbour. With cores of 125 the margin is wide enough, but the grid of the pooling is shifted, and the network pools other pixels together.
#
# </details>

# %%
cuts = {"margin 56": (128, 56), "no margin": (128, 0), "off the grid": (125, 56)}
pieced = {name: in_tiles(model, large, *cut) for name, cut in cuts.items()}
gaps = {name: (logits - whole).abs() for name, logits in pieced.items()}
for name, logits in pieced.items():
    print(f"{name:13} largest difference of a logit {gaps[name].max():.1e}; another answer at {((logits > 0) != (whole > 0)).float().mean():.2%} of the pixels")

# %%
fig, axes = plt.subplots(2, 2, figsize=(9, 6))
axes[0, 0].imshow(to_picture(make_grid(parts, nrow=6, padding=0)))
axes[0, 1].imshow(whole > 0, cmap="gray")
axes[1, 0].imshow(gaps["no margin"], cmap="magma", vmin=0, vmax=1)
drawn = axes[1, 1].imshow(gaps["off the grid"], cmap="magma", vmin=0, vmax=1)
titles = ("a large picture", "the answer for the whole", "difference: no margin", "difference: off the grid")
for ax, title in zip(axes.flat, titles, strict=True):
    ax.set(xticks=[], yticks=[], title=title)
fig.colorbar(drawn, ax=axes[1], label="logit, difference")
show(fig, "A large picture, the answer for the whole of it, and by how much the logits differ when it is cut without a margin (bright seams along the cuts) or off the pooling's grid (here and there, along outlines). "
     f"With a margin of 56 on the grid the largest difference is {gaps['margin 56'].max():.0e}.")  # fmt: skip

# %%
claim(
    "Tiles that overlap by the network's reach and lie on its grid give the answer for the whole picture; without margin, or off the grid, they do not",
    gaps["margin 56"].max().item() < 1e-3 and min(gaps["no margin"].max().item(), gaps["off the grid"].max().item()) > 0.3,
    "largest difference of a logit: " + ", ".join(f"{name} {gap.max():.1e}" for name, gap in gaps.items()),
)

# %% [markdown]
# Two notes. The batch norm must be in evaluation mode: in training mode each tile would be normalised by itself. And the paper's U-Net is less free in its size than ours: its convolutions do not pad, so its
# input is 572 x 572 and its output 388 x 388, and overlapping tiles ("overlap-tile strategy") are how it covers a whole picture.

# %% [markdown]
# ## 8. Few masks, and a pretrained encoder (25 min)
#
# A mask takes a person minutes, sometimes half an hour. So masks are few. Take only **40**. The encoder of a U-Net is what every classifier begins with. So put one there that has learned to see elsewhere
# (notebook 05): on drawings our small ResNet, trained on drawn animals that are neither cats nor dogs; on photos MobileNetV2, trained on ImageNet.

# %%
few = pool.subset(40, seed=seed)
encoder, prepare_for_encoder = models.pretrained(pool.source)
print(type(encoder).__name__, f"{num_parameters(encoder.features):,} parameters in", len(encoder.features), "layers")

# %% [markdown]
# Its `features` halve the picture several times. What it gives just before each halving is a skip. This finds the places by running it once:


# %% tags=["measure"]
def stages_of(features):
    """The layers of an encoder, cut where the map is halved: a list of networks, and the channels that each gives."""
    stages, channels, x = [], [], torch.zeros(1, 3, 64, 64)
    with torch.no_grad():
        for layer in features:
            before, x = x.shape[-1], layer(x)
            if x.shape[-1] < before:
                stages.append([])
                channels.append(0)
            stages[-1].append(layer)
            channels[-1] = x.shape[1]
    return nn.ModuleList(nn.Sequential(*layers) for layers in stages), channels


# %%
for stage, channels in zip(*stages_of(encoder.features), strict=True):
    print(f"{len(stage)} layers, {channels} channels")

# %% [markdown]
# (MobileNetV2's very last layer only widens 320 channels to 1,280, for the classifier. The decoder does without it.)
#
# The decoder is ours, as before. One thing is added: the encoder halves the picture at once, so the skip of full size is made by two convolutions of our own.


# %% tags=["measure"]
class PretrainedUNet(nn.Module):
    def __init__(self, features, width=8):
        super().__init__()
        self.first = two_convolutions(3, width)
        self.stages, channels = stages_of(features)
        channels = [width, *channels]
        widths = [width * 2**k for k in range(len(channels) - 1)]
        inputs = [channels[-1], *widths[:0:-1]]  # what comes up to each decoder stage, from the deepest
        self.ups = nn.ModuleList(up_sampler("transposed", i, o) for i, o in zip(inputs, widths[::-1], strict=True))
        self.decoder = nn.ModuleList(two_convolutions(s + o, o) for s, o in zip(channels[-2::-1], widths[::-1], strict=True))
        self.head = nn.Conv2d(width, 1, kernel_size=1)

    def forward(self, images):
        features, x = [self.first(images)], images
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        *skips, x = features
        for up, stage, skip in zip(self.ups, self.decoder, reversed(skips), strict=True):
            x = stage(torch.cat([skip, fill_up(up(x), skip)], dim=1))
        return self.head(x)


# %% [markdown]
# With 40 masks the encoder stays **frozen** (its weights do not change), its batch norm too; only the decoder is trained. To be fair to the other side, there are two rivals from scratch: the U-Net of this notebook, and the very same network with all its
# weights **random**, all of them trained.


# %% tags=["measure"]
FEW_SEEN = 1200  # pictures, each counted as often as it is seen


def trained_pretrained(seed, dataset, frozen=True, **how):
    """A PretrainedUNet, trained; `frozen`: on pretrained features that stay as they are, else from random weights."""
    encoder, prepare_images = models.pretrained(dataset.source)
    torch.manual_seed(seed)
    if not frozen:
        encoder.apply(lambda layer: layer.reset_parameters() if hasattr(layer, "reset_parameters") else None)
    features = encoder.features[:-1] if dataset.source != "critters" else encoder.features  # MobileNetV2's last layer only widens
    model = PretrainedUNet(features).to(device)
    if frozen:
        models.hold_batch_norm(model.stages)
        model.stages.requires_grad_(False)
    train(model, dataset, transform=v2.Compose([v2.RandomHorizontalFlip(), prepare_images]), **how)
    return model


# %% [markdown]
# **Before you run it:** forty masks. Who wins, and by how much?
#
# <details><summary>Answer</summary>
#
# The pretrained encoder, by a wide margin. What an animal looks like it need not learn from 40 masks; only to draw it.
#
# </details>

# %%
few_logits = {"U-Net from scratch": logits_of(trained_unet(seed, few, num_seen=FEW_SEEN), test_set)}
few_logits["random encoder"] = logits_of(trained_pretrained(seed, few, frozen=False, num_seen=FEW_SEEN), test_set, prepare_for_encoder)

# %%
few_logits["pretrained encoder"] = logits_of(trained_pretrained(seed, few, num_seen=FEW_SEEN), test_set, prepare_for_encoder)
few_scores = {name: scores(logits, masks) for name, logits in few_logits.items()}
for name, row in few_scores.items():
    print(f"{name:19}", "   ".join(f"{key} {value:.3f}" for key, value in row.items()))

# %%
best_rival = max(few_scores["U-Net from scratch"]["IoU"], few_scores["random encoder"]["IoU"])
claim(
    "With 40 masks, a pretrained encoder under the decoder beats both networks from scratch",
    few_scores["pretrained encoder"]["IoU"] > best_rival + 0.02,
    f"IoU {few_scores['pretrained encoder']['IoU']:.2f} against {best_rival:.2f} for the better of the others",
)

# %%
order = iou(few_logits["pretrained encoder"] > 0, masks).argsort()
chosen = torch.cat([order[:4], order[[len(order) // 4, len(order) // 2, -1]]])
show(gallery(test_set.images, few_logits["pretrained encoder"], masks, chosen),
     f"The pretrained encoder with 40 masks, the four worst {noun}s first, then one at the lower quarter, the median and the best: picture, truth, answer, and errors "
     "(missed in blue, too much in orange).")  # fmt: skip

# %% [markdown]
# How many masks is the pretraining worth? **Measured earlier, by `make measure TABLE=unet_few`**, three seeds of drawings and two of photos, as a band. Every run sees 1,200 pictures, or each of its pictures six times where that is more:

# %%
few_rows = measured("unet_few")


def few_table(source, approach):
    nums = sorted({row["num"] for row in few_rows if row["source"] == source})
    runs = [[row["IoU"] for row in few_rows if (row["source"], row["approach"], row["num"]) == (source, approach, num)] for num in nums]
    return nums, np.array(runs).T


# %%
fig, axes = plt.subplots(1, 2, figsize=(12, 4.8), sharey=True)
for ax, (source, label) in zip(axes, {"critters": "drawings", "photos": "photos"}.items(), strict=True):
    nums, _ = few_table(source, "frozen")
    ax.set(xscale="log", xlim=(nums[0] * 0.9, nums[-1] * 4), ylim=(0.35, 0.95), xticks=nums, xticklabels=nums)
    ax.minorticks_off()
    lines = {"pretrained": few_table(source, "frozen")[1], "scratch": few_table(source, "scratch")[1]}
    curves(ax, lines, "masks to train on", "mean IoU" if source == "critters" else "", f"On {label}", x=nums)
fig.suptitle("Measured earlier: the pretrained encoder is worth many masks", x=0.01, ha="left", fontweight="bold", fontsize=15)
show(fig, "Mean IoU against the number of masks, the range of the seeds as a band, on drawings and on photos. With the fewest masks: "
     + "; ".join(f"{label}, pretrained {np.median(few_table(s, 'frozen')[1][:, 0]):.2f}, from scratch {np.median(few_table(s, 'scratch')[1][:, 0]):.2f}" for s, label in (("critters", "drawings"), ("photos", "photos"))) + ".")  # fmt: skip

# %% [markdown]
# The fewer masks, the more the pretraining is worth. On drawings 20 masks with it do nearly as much as 400 without; on photos they do more than 180 without. In numbers, medians again:

# %%
for source in ("critters", "photos"):
    nums, frozen = few_table(source, "frozen")
    _, scratch = few_table(source, "scratch")
    print(f"{source:9} pretrained, {nums[0]} masks: IoU {np.median(frozen[:, 0]):.2f};  from scratch:", ", ".join(f"{num} masks {value:.2f}" for num, value in zip(nums, np.median(scratch, axis=0), strict=True)))

# %% [markdown] slideshow={"slide_type": "notes"}
# TernausNet (Iglovikov and Shvets 2018) put a pretrained VGG under a U-Net in just this way; today's libraries offer dozens of encoders. The frozen encoder is the cautious choice for 40 masks. With more, unfreeze it with a small
# learning rate, as in notebook 05: that is a good beginning for the lab.

# %% [markdown]
# ## 9. Exercises (45 min)
#
# Write your answer in place of the dots and run the cell: the check tells you what it expected and what came. Stuck? Take away the `#` in the cell below it.
#
# **Exercise 1: the way up.** One stage of the decoder. `up` makes `x` twice as large, `skip` comes from the encoder, `convolutions` come last. Sides may be odd: then what comes up is filled up with zeros, right and below, to the size of `skip`. The skip stands first among the channels.


# %%
def way_up(x, skip, up, convolutions):
    ...


exercises.way_up.check(way_up)

# %% slideshow={"slide_type": "skip"}
# exercises.way_up.hint()
# exercises.way_up.solution()

# %% [markdown]
# **Exercise 2: Dice for several classes.** `answers` and `labels` are class numbers (N, H, W). Return Dice of each class, a tensor (num_classes,), over all pictures together. A class that is nowhere counts as 1.


# %%
def dice_by_class(answers, labels, num_classes):
    ...


exercises.dice_by_class.check(dice_by_class)

# %% slideshow={"slide_type": "skip"}
# exercises.dice_by_class.hint()
# exercises.dice_by_class.solution()

# %% [markdown]
# **Exercise 3: choose the threshold.** `probabilities` (N, H, W) and `masks` (N, H, W), bool, are of validation pictures. Return the one of `levels` above which the answers have the highest mean IoU.


# %%
def best_threshold(probabilities, masks, levels):
    ...


exercises.best_threshold.check(best_threshold)

# %% slideshow={"slide_type": "skip"}
# exercises.best_threshold.hint()
# exercises.best_threshold.solution()

# %% [markdown]
# **Exercise 4: how wide a margin.** Section 7 counted for 4 stages and came to a margin of 56. Count for a U-Net of any number of stages: the smallest multiple of its grid that is not less than its reach, an integer.


# %%
def tile_margin(levels):
    ...


exercises.tile_margin.check(tile_margin)

# %% slideshow={"slide_type": "skip"}
# exercises.tile_margin.hint()
# exercises.tile_margin.solution()

# %% [markdown]
# **Exercise 5: build it yourself.** Write a U-Net of two stages for grey pictures and three classes: `width` channels, then twice as many at half the size, then up by a transposed convolution (2 x 2, stride 2), the skip concatenated, and a head. Convolutions as in section 2. Return the network. Try without looking.


# %%
def two_stage_unet(width):
    ...


exercises.two_stage_unet.check(two_stage_unet)

# %% slideshow={"slide_type": "skip"}
# exercises.two_stage_unet.hint()
# exercises.two_stage_unet.solution()

# %% [markdown]
# ## 10. Lab: the best boundary IoU with 50 masks (45 min and more)
#
# You have **50** pictures with masks, and no more; on your honour, draw no others and take none from `pool`. Write `train_on_50(few)`: `few` holds the 50, a data set like `train_set` (`few.images`, `few.targets["mask"]`,
# `few.source`). Train on it in any way: pretrained encoders, mirrored copies, other losses, a vote of several networks. Return a function `segment(images)` that gets pictures as bytes, a uint8 tensor (N, 3, 64, 64) on the CPU, and returns their masks,
# a bool tensor (N, 64, 64) on the CPU.
#
# The check calls `train_on_50` and scores the answers on pictures that you have not seen: 200 new drawings of which nobody knows the seed, or the test photos, mirrored by chance. To judge your work along the way you have `val_set`.
#
# **Score:** the mean boundary IoU (width 2). **Good** is 0.48 on drawings and 0.27 on photos: what the network of section 8 reaches, or a little more. **Very good** is 0.56 on drawings, 0.33 on photos.


# %%
def train_on_50(few):
    ...


exercises.lab.check(train_on_50)

# %% slideshow={"slide_type": "skip"}
# exercises.lab.hint()
# exercises.lab.solution()

# %% [markdown]
# ## Summary
#
# - Pixel accuracy deceives where the object is small. IoU and Dice do not, and rank answers alike; boundary IoU looks at the outline, where they hardly look.
# - A U-Net goes down to know *what*, up to say *where*, and its skips carry the place across. Ours has 121,177 parameters, and is `utils.models.UNet`.
# - Without skips the animal is still found, and its outline is lost: the errors that skips set right lie within a few pixels of it.
# - How maps are made larger matters less. A transposed convolution of 2 x 2 with stride 2 covers pixels evenly, and still has four sets of weights.
# - On small objects cross-entropy at first hears mostly background, and the Dice loss hears both sides. In a short training it finds more, and raises more false alarms.
# - The network runs on any size, but works at the scale that it knows. Large pictures go in tiles that overlap by its reach and lie on its grid: exactly the same answer.
# - With few masks, put an encoder there that has learned to see elsewhere.
#
# The claims of this run, with their figures:

# %%
summary()

# %% [markdown]
# ### Lecture topics
#
# | topic | section | lectures |
# |---|---|---|
# | U1 segmentation, IoU, Dice, boundary IoU, why pixel accuracy misleads | 1 | C |
# | U2 encoder, decoder, "concatenate channels", shapes stage by stage | 2 | A, C |
# | U3 skips concatenated, summed and none | 4 | A, beyond |
# | U4 transposed convolution against bilinear + convolution | 5 | A, C |
# | U5 cross-entropy, Dice loss, class imbalance | 6 | beyond |
# | U6 any input size, tiles | 7 | A |
# | U7 a pretrained encoder under the U-Net, few labels | 8 | beyond |
#
# ### Further reading
# - O. Ronneberger, P. Fischer, T. Brox. *U-Net: Convolutional Networks for Biomedical Image Segmentation*. MICCAI 2015. https://arxiv.org/abs/1505.04597
# - J. Long, E. Shelhamer, T. Darrell. *Fully Convolutional Networks for Semantic Segmentation*. CVPR 2015. https://arxiv.org/abs/1411.4038
# - B. Cheng, R. Girshick, P. Dollár, A. C. Berg, A. Kirillov. *Boundary IoU: Improving Object-Centric Image Segmentation Evaluation*. CVPR 2021. https://arxiv.org/abs/2103.16562
# - F. Milletari, N. Navab, S.-A. Ahmadi. *V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image Segmentation*. 3DV 2016. https://arxiv.org/abs/1606.04797 (the Dice loss)
# - Z. C. Lipton, C. Elkan, B. Naryanaswamy. *Optimal Thresholding of Classifiers to Maximize F1 Measure*. ECML PKDD 2014. https://arxiv.org/abs/1402.1892
# - F. Isensee, P. F. Jaeger, S. A. A. Kohl, J. Petersen, K. H. Maier-Hein. *nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation*. Nature Methods 2021. https://arxiv.org/abs/1904.08128
# - A. Odena, V. Dumoulin, C. Olah. *Deconvolution and Checkerboard Artifacts*. Distill 2016. https://distill.pub/2016/deconv-checkerboard
# - V. Iglovikov, A. Shvets. *TernausNet: U-Net with VGG11 Encoder Pre-Trained on ImageNet for Image Segmentation*. 2018. https://arxiv.org/abs/1801.05746
# - O. M. Parkhi, A. Vedaldi, A. Zisserman, C. V. Jawahar. *Cats and Dogs*. CVPR 2012 (Oxford-IIIT Pet)
# - W. Al-Dhabyani et al. *Dataset of breast ultrasound images*. Data in Brief 2020 (BUSI)
#
# ### Next notebook
# 05 · Transfer learning on dogs-vs-cats: what else a network is good for that has learned to see elsewhere.
