# %% [markdown]
# # 03 · Convolutions: 1x1, transposed and friends
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/@SLUG@/blob/@REF@/notebooks/03_convolutions.ipynb)
# [![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://github.com/@SLUG@/blob/@REF@/notebooks/03_convolutions.ipynb)
#
# **To keep what you write:** on Colab choose *File > Save a copy in Drive*, on Kaggle *Copy & Edit*, before you begin.
#
# **Question:** Which kinds of convolution are there, what does each cost, and what is each good for?
#
# **You will be able to**
# - compute the size of a result, what a network sees, and what a layer costs, and check all three,
# - make a network cheaper with 1x1 and depthwise convolutions, and tell multiplications from seconds,
# - make pictures larger with transposed convolutions, use one network on any image size, and convolve signals and clips.
#
# **Time:** it runs in @TIME@ on two CPU cores; with all sections, the exercises and the lab, about four hours.
# **Before this:** notebook 00, section 3 (convolution, padding, stride, channels).

# %% [markdown] slideshow={"slide_type": "notes"}
# **A plan for 75 minutes**
#
# - **Core:** sections 1, 3, 4 and 7: the arithmetic, the 1 x 1 convolution, the two numbers of its cost, and the transposed convolution with
#   its checkerboard.
# - **Optional:** 2 (receptive field), 5 (Inception), 6 (depthwise separable), 8 (any image size), 9 (one and three dimensions).
# - **Where to stop:** after the comparison with nearest and bilinear in section 7. If you are late, stop at the checkerboard.
#
# Run the cells of section 2 too, also where you do not show them: section 3 uses its drawing.

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
import random
import time

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.mobilenetv2 import InvertedResidual

from utils import critters, datasets
from utils.exercises import convolutions as exercises
from utils.figures import explore, image_grid, show, to_picture
from utils.lessons import claim, measured, summary
from utils.models import num_parameters
from utils.training import evaluate, fit, predict

course_seed = torch.initial_seed()  # as utils.start() has set it

# %% [markdown]
# ## 1. The arithmetic of a convolution (15 min)
#
# Notebook 00 had kernel, padding and stride. One number is missing: **dilation** $d$ pulls the kernel apart, so that its numbers lie $d$ pixels from each other.
# A $3 \times 3$ kernel with $d = 2$ covers $5 \times 5$ pixels, with nine weights as before. In general $k$ numbers reach over $d(k-1) + 1$ pixels. So an image of side
# $n$ becomes a result of side
#
# $$ \left\lfloor \frac{n + 2p - d(k-1) - 1}{s} \right\rfloor + 1 $$


# %%
def output_side(n, kernel, stride=1, padding=0, dilation=1):
    return (n + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


# %% [markdown]
# Is that so? We try every combination of some values, and look at what PyTorch returns.

# %%
grid = [(n, k, s, p, d) for n in (16, 31) for k in (1, 2, 3, 5) for s in (1, 2, 3) for p in (0, 1, 2) for d in (1, 2, 3)]
sides = [F.conv2d(torch.zeros(1, 1, n, n), torch.zeros(1, 1, k, k), None, s, p, d).shape[-1] for n, k, s, p, d in grid]
claim(
    "The formula gives the side of the result, for every kernel, stride, padding and dilation tried",
    all(output_side(*case) == side for case, side in zip(grid, sides, strict=True)),
    f"{len(grid)} combinations",
)

# %% [markdown]
# ### Explore
#
# One step at a time: orange is what is read, blue is what is written. Padding is grey. Move `step`, and see the window walk. Then choose "transposed": it goes the other way, from
# one pixel to many. Section 7 tells what that is good for.


# %%
# extra code: a grid of cells; those of `marked` are coloured, those outside 0..side-1 are grey (padding, or what is cut off)
def draw_grid(ax, side, rim, marked, extent, colour, title):
    before, after = rim
    for i in range(-before, side + after):
        for j in range(-before, side + after):
            inside = 0 <= i < side and 0 <= j < side
            face = colour if (i, j) in marked else "white" if inside else "0.85"
            ax.add_patch(plt.Rectangle((j, i), 1, 1, facecolor=face, alpha=1 if inside else 0.55, edgecolor="0.4"))
    spare = (extent - side - before - after) / 2  # the same scale for both grids
    low, high = -before - spare - 0.1, side + after + spare + 0.1
    ax.set(xlim=(low, high), ylim=(high, low), aspect="equal")
    ax.set_title(title, loc="center")
    ax.axis("off")


# %%
# extra code: one step of a convolution (many cells -> one) or of a transposed one (one cell -> many)
def draw_step(kind="convolution", kernel=3, stride=2, padding=1, dilation=1, output_padding=0, step=4):
    transposed, reach = kind == "transposed", dilation * (kernel - 1) + 1
    small = 3 if transposed else (6 + 2 * padding - reach) // stride + 1
    large = (small - 1) * stride - 2 * padding + reach + output_padding if transposed else 6
    fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4.8))
    if min(small, large) < 1 or (transposed and output_padding >= max(stride, dilation)):
        left.text(0, 0.5, "This does not go together: the kernel finds no room,\nor output padding is not below stride or dilation.", fontsize=16)
        left.axis("off"), right.axis("off")
        return fig, "No picture: these values do not go together."
    i, j = divmod(step % small**2, small)
    taps = [a * dilation - padding for a in range(kernel)]
    window = {(stride * i + a, stride * j + b) for a in taps for b in taps}
    end = stride * (small - 1) + taps[-1] + 1  # where the last window ends
    sides = {"small": (small, (0, 0), {(i, j)}), "large": (large, (padding, padding if not transposed else max(0, end - large)), window)}
    names = ["small", "large"] if transposed else ["large", "small"]
    extent = max(side + sum(rim) for side, rim, _ in sides.values())
    for ax, name, colour, word in zip((left, right), names, ("C1", "C0"), ("input", "output"), strict=True):
        draw_grid(ax, *sides[name], extent, colour, f"{word}, {sides[name][0]} x {sides[name][0]}")
    verb = "writes to" if transposed else "is computed from"
    fig.suptitle(f"{kind}, step {step % small**2 + 1} of {small**2}", fontsize=15, fontweight="bold")
    return fig, (f"A {kind.replace('transposed', 'transposed convolution')} with kernel {kernel}, stride {stride}, padding {padding}, dilation {dilation}: a {sides[names[0]][0]} x {sides[names[0]][0]} input gives "
                 f"a {sides[names[1]][0]} x {sides[names[1]][0]} output. One pixel of the {'input' if transposed else 'output'} {verb} {kernel**2} cells.")  # fmt: skip


# %%
explore(draw_step, kind=["convolution", "transposed"], kernel=[3, 1, 2, 4], stride=[2, 1, 3], padding=[1, 0, 2], dilation=[1, 2],
        output_padding=[0, 1, 2], step=[4, *range(4), *range(5, 36)])  # fmt: skip

# %% [markdown] slideshow={"slide_type": "notes"}
# Set dilation to 2 and padding to 2: the size stays that of dilation 1 and padding 1. Then stride 3: the last column of the image is never read. That is the rounding down in the
# formula, and the reason why transposed convolutions need an "output padding" later.

# %% [markdown]
# ## 2. The receptive field: what one answer sees (10 min)
#
# One result of one layer sees $k \times k$ pixels. The next layer sees results, so it sees more of the picture. The **receptive field** $r$ of a stack follows from its layers, one after
# the other. $j$ is how many pixels one step is worth by then; it begins with $r = j = 1$, and each layer with kernel $k$, stride $s$, dilation $d$ does
#
# $$ r \leftarrow r + d\,(k-1)\,j, \qquad j \leftarrow j \cdot s $$


# %%
def receptive_field(layers):
    """The receptive field after each of the layers, which are given as (kernel, stride, dilation)."""
    r, j, fields = 1, 1, []
    for k, s, d in layers:
        r, j = r + d * (k - 1) * j, j * s
        fields.append(r)
    return fields


# %% [markdown]
# It can be **measured**, too. Take one output in the middle and compute its gradient with respect to the picture. Where the gradient is not zero, a changed pixel would change the output.


# %%
def measured_field(layers, side=129):
    """Side of the square in which the picture influences one output, and the strength of that influence at each pixel."""
    x = torch.rand(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    y = x
    for k, s, d in layers:
        y = F.conv2d(y, torch.rand(1, 1, k, k, dtype=torch.float64), stride=s, dilation=d)
    y[0, 0, y.shape[2] // 2, y.shape[3] // 2].backward()
    seen = x.grad[0, 0] != 0
    return seen.any(dim=0).sum().item(), x.grad[0, 0]


# %%
stacks = {
    "three 3x3": [(3, 1, 1)] * 3,
    "one 7x7": [(7, 1, 1)],
    "3x3 with dilation 1, 2, 4, 8": [(3, 1, d) for d in (1, 2, 4, 8)],
    "four times 3x3, then pooling": [(3, 1, 1), (2, 2, 1)] * 4,
    "ResNet's stem and first block": [(7, 2, 1), (3, 2, 1), (3, 1, 1), (3, 1, 1)],
}
for name, layers in stacks.items():
    print(f"{name:<30} computed {receptive_field(layers)[-1]:>3}   measured {measured_field(layers)[0]:>3}")

# %%
pairs = [(receptive_field(layers)[-1], measured_field(layers)[0]) for layers in stacks.values()]
claim(
    "The receptive field computed from the layers is the one measured by the gradient",
    all(computed == seen for computed, seen in pairs),
    ", ".join(f"{seen} pixels" for _, seen in pairs),
)

# %% [markdown]
# Look at the first two lines. Three layers of $3 \times 3$ see as much as one of $7 \times 7$. With $C$ channels they have $3 \cdot 9\,C^2 = 27\,C^2$ weights instead of $49\,C^2$, and two ReLUs
# more. That was the idea of VGG (Simonyan and Zisserman 2015). The third line: dilation sees far with few layers.
#
# **Before you run it:** four blocks of $3 \times 3$ and pooling, such as the network of notebook 05 has. Has the pixel at the rim of the receptive field as much influence as the one in the middle?
#
# <details><summary>Answer</summary>
#
# No. From the middle many paths lead to the output, from the corner only one. The influence falls off towards the rim, much like a bell. What counts in practice, the *effective* receptive
# field, is far smaller than the computed one (Luo et al. 2016).
#
# </details>

# %%
blocks = stacks["four times 3x3, then pooling"]
influence = torch.stack([measured_field(blocks)[1] for _ in range(20)]).mean(0)  # a mean over 20 random stacks
rows = influence.any(dim=1).nonzero().flatten()
field = influence[rows[0] : rows[-1] + 1, rows[0] : rows[-1] + 1]
quarter = len(field) // 4
inner = (field[quarter:-quarter, quarter:-quarter].sum() / field.sum()).item()


# %%
# extra code: the growing receptive field over a drawing, and the influence of each of its pixels
def field_figure(picture):
    fig, (left, right) = plt.subplots(1, 2, figsize=(12, 5))
    left.imshow(to_picture(picture))
    for n, r in enumerate(receptive_field(blocks)[1::2]):
        corner, colour = 31.5 - r / 2, ("C0", "C1", "C2", "C4")[n]
        left.add_patch(plt.Rectangle((corner, corner), r, r, fill=False, linewidth=6, edgecolor="white"))
        left.add_patch(plt.Rectangle((corner, corner), r, r, fill=False, linewidth=3, edgecolor=colour))
        look = {"color": colour, "fontweight": "bold", "va": "center", "annotation_clip": False}
        left.annotate(f"{r} x {r}", (corner + r, corner), xytext=(66, 28 - 7 * n), arrowprops={"arrowstyle": "-", "color": colour, "lw": 2}, **look)
    left.set(title="What one output sees, block 1 to 4", xticks=[], yticks=[])
    left.grid(False)
    image = right.imshow(field / field.max(), cmap="magma", extent=(0, len(field), len(field), 0))
    right.add_patch(plt.Rectangle((quarter, quarter), len(field) - 2 * quarter, len(field) - 2 * quarter, fill=False, linewidth=2, edgecolor="white"))
    right.set(title=f"Inner quarter: {inner:.0%} of the influence", xlabel="pixels", ylabel="pixels")
    right.grid(False)
    fig.colorbar(image, ax=right, label="influence (largest = 1)", shrink=0.8)
    return fig


# %%
tiger = torch.from_numpy(critters.draw("tiger", course_seed, size=64).image).permute(2, 0, 1)
show(field_figure(tiger), f"Left: a drawn tiger with the squares that one output sees after each of four blocks, {', '.join(map(str, receptive_field(blocks)[1::2]))} pixels. "
     f"Right: the influence of each pixel inside the largest square, bright in the middle; the inner quarter of the area holds {inner:.0%} of it.")  # fmt: skip

# %%
claim(
    "The influence sits in the middle: the inner quarter of the receptive field holds more than half of it",
    inner > 0.5,
    f"{inner:.0%}; evenly spread it would be {((len(field) - 2 * quarter) / len(field)) ** 2:.0%}",
)

# %% [markdown]
# ## 3. The 1 x 1 convolution (10 min)
#
# A kernel of one pixel: it looks at no neighbour. What can it be good for? A picture has **channels**. A $1 \times 1$ convolution mixes them, at every pixel in the same way:
#
# $$ y_{c}(i, j) = \sum_{c'} W_{c c'} \, x_{c'}(i, j) + b_c $$
#
# You have used one already: a colour picture becomes grey by weights for red, green and blue.

# %%
mix = nn.Conv2d(3, 2, kernel_size=1, bias=False)
mix.weight.data = torch.tensor([[0.30, 0.59, 0.11], [1.0, 0.0, -1.0]])[:, :, None, None]
grey, warmth = mix(tiger[None] / 255).detach()[0]
show(image_grid([tiger, grey, warmth / 2 + 0.5], titles=["3 channels", "channel 1: grey", "channel 2: red minus blue"], columns=3, size=3),
     "A drawn tiger, and two channels that a 1 x 1 convolution makes of its red, green and blue: the grey values, and red minus blue, bright where the colour is warm and dark where it is cold.")  # fmt: skip

# %% [markdown]
# Read the formula again: it is a **linear layer**, $W x + b$, and $x$ is the column of channels at one pixel. The same layer at every pixel, a small network that walks over the image.
# Lin et al. (2013) called this *network in network*.

# %%
features = torch.randn(2, 192, 28, 28)
conv = nn.Conv2d(192, 16, kernel_size=1)
linear = nn.Linear(192, 16)
linear.load_state_dict({"weight": conv.weight[:, :, 0, 0], "bias": conv.bias})
at_every_pixel = linear(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # channels last for the linear layer, then back

# %%
difference = (conv(features) - at_every_pixel).abs().max().item()
claim(
    "A 1 x 1 convolution is one linear layer, the same at every pixel",
    difference < 1e-5,
    f"largest difference {difference:.0e}, on {at_every_pixel.numel():,} numbers",
)

# %% [markdown]
# **Before you run it:** we shuffle all pixels of the picture, convolve, and put them back in order. Is the result that of the picture that nobody shuffled? For $1 \times 1$? For $3 \times 3$?
#
# <details><summary>Answer</summary>
#
# For $1 \times 1$ yes: it does not know who its neighbours are. For $3 \times 3$ no. So a $1 \times 1$ convolution is never alone: others look at shapes, it condenses what they found.
#
# </details>


# %%
def unshuffled(layer):
    order = torch.randperm(28 * 28)
    shuffled = features.flatten(2)[:, :, order].unflatten(2, (28, 28))
    return layer(shuffled).flatten(2)[:, :, order.argsort()].unflatten(2, (28, 28))


changes = {k: (unshuffled(layer) - layer(features)).abs().max().item() for k in (1, 3) for layer in [nn.Conv2d(192, 16, k, padding=k // 2)]}
claim(
    "A 1 x 1 convolution does not notice when pixels are shuffled, a 3 x 3 convolution does",
    changes[1] < 1e-5 < 0.1 < changes[3],
    f"largest change {changes[1]:.0e} against {changes[3]:.2f}",
)

# %% [markdown]
# ## 4. What a convolution costs (20 min)
#
# Each of the $h \cdot w \cdot c_\text{out}$ results needs $k^2 \cdot c_\text{in}$ multiplications:
#
# $$ \text{multiplications} = h \, w \, c_\text{out} \cdot k^2 \, c_\text{in} $$
#
# The lecture's example: $28 \times 28$ pixels with 192 channels, and a $5 \times 5$ convolution to 32 channels. Then the same with a **bottleneck**: first a $1 \times 1$ convolution down to 16 channels,
# then $5 \times 5$ from 16 to 32.


# %%
# NBVAL_CHECK_OUTPUT
def multiplications(side, c_in, c_out, kernel):
    return side**2 * c_out * kernel**2 * c_in


direct_cost = multiplications(28, 192, 32, kernel=5)
bottleneck_cost = multiplications(28, 192, 16, kernel=1) + multiplications(28, 16, 32, kernel=5)
print(f"direct {direct_cost:,}\nbottleneck {bottleneck_cost:,}")

# %% [markdown]
# PyTorch has a counter for this. It watches every operation, and counts a multiplication and the addition that follows it as **two** operations (FLOPs). Papers often count the pair as one: a
# multiply-accumulate, **MAC**. Always ask which one is meant.
#
# Counting needs no numbers, only shapes. So we build the layers on the device `meta` (notebook 02, section 1), where tensors have a shape and no contents.


# %% tags=["measure"]
def count_macs(model, *shape):
    """Multiply-accumulates of one forward pass, half of what PyTorch's counter says."""
    place = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(shape, device=place))
    return counter.get_total_flops() // 2


# %%
def direct_layer():
    return nn.Conv2d(192, 32, 5, padding=2)


def bottleneck_layer():
    return nn.Sequential(nn.Conv2d(192, 16, 1), nn.Conv2d(16, 32, 5, padding=2))


with torch.device("meta"):
    counted = [count_macs(make(), 1, 192, 28, 28) for make in (direct_layer, bottleneck_layer)]

# %%
claim(
    "120,422,400 multiplications directly, 12,443,648 through the bottleneck: formula and counter agree",
    counted == [direct_cost, bottleneck_cost] == [120_422_400, 12_443_648],
    f"{counted[0]:,} and {counted[1]:,}: a factor of {counted[0] / counted[1]:.2f}",
)

# %% [markdown]
# **Before you run it:** a tenth of the multiplications. Is it ten times as fast?
#
# <details><summary>Answer</summary>
#
# Faster, and by much, but less than the count says. Two layers must be started instead of one, and the result in between is written to memory and read again. The clock counts all of that.
#
# </details>


# %%
def seconds(model, images, repeats=5):
    """The fastest of some forward passes, timed as in notebook 00: the first does not count, and a GPU is waited for."""
    wait = torch.cuda.synchronize if images.is_cuda else lambda: None
    times = []
    with torch.inference_mode():
        for _ in range(repeats + 1):
            start = time.perf_counter()
            model(images)
            wait()
            times.append(time.perf_counter() - start)
    return min(times[1:])


# %%
images = torch.randn(32, 192, 28, 28, device=device)
clock = [seconds(make().to(device).eval(), images) for make in (direct_layer, bottleneck_layer)]
print(f"direct {1e3 * clock[0]:.1f} ms, bottleneck {1e3 * clock[1]:.1f} ms for 32 pictures: {clock[0] / clock[1]:.1f} times as fast, "
      f"where the multiplications say {counted[0] / counted[1]:.1f}")  # fmt: skip

# %%
claim(
    "The bottleneck is faster by the clock too",
    clock[0] > 1.5 * clock[1],
    f"{clock[0] / clock[1]:.1f} times as fast with {counted[0] / counted[1]:.1f} times fewer multiplications",
)

# %% [markdown]
# ### Does the bottleneck cost accuracy?
#
# The slide says that a bottleneck "does not impact performance". That is a claim about learning, so we train. Drawings of six animals, 32 x 32 pixels, and one network whose **middle layer** is
# exchanged. (The optimizer is AdamW, which is Adam with weight decay: notebook 06, section 11. Its learning rate climbs and falls, as in notebook 02, section 3.)

# %% tags=["measure"]
species = ["fox", "panda", "tiger", "owl", "rabbit", "frog"]
train_set, _, test_set = datasets.critters(species, num_train=1200, num_val=0, num_test=900, size=32)

# %%
show(image_grid(train_set.images[:12], titles=[species[i] for i in train_set.targets["label"][:12]], columns=6, size=1.6),
     f"Twelve of the {len(train_set):,} drawings to train on, of six species: {', '.join(species)}.")  # fmt: skip


# %% tags=["measure"]
def conv_block(c_in, c_out, kernel, stride=1, groups=1):
    """Convolution, batch normalisation, ReLU; it keeps the picture's side, or halves it with stride 2."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU())


def network(middle):
    """From 32 x 32 pixels to six classes. `middle` takes 64 channels and gives 48."""
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 6)]
    return nn.Sequential(conv_block(3, 16, 3, stride=2), conv_block(16, 64, 3, stride=2), middle, *head)


# %% tags=["measure"]
def direct():
    return conv_block(64, 48, 5)


def bottleneck(width):
    return nn.Sequential(conv_block(64, width, 1), conv_block(width, 48, 5))


# %% tags=["measure"]
def scale(images):
    """Bytes to numbers around zero."""
    return (images.float() / 255 - 0.5) / 0.25


def train(model, inputs, targets, lr, num_epochs, batch_size=32, **options):
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=batch_size, shuffle=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=num_epochs * len(loader))
    return fit(model, loader, num_epochs=num_epochs, optimizer=optimizer, scheduler=scheduler, bf16=False, **options)


def accuracy(model, inputs, targets):
    return evaluate(model, DataLoader(TensorDataset(inputs, targets), batch_size=100), bf16=False)["accuracy"]


# %% tags=["measure"]
def trained_accuracy(make_middle, seed, progress=None):
    """Train the network with this middle layer; its accuracy on the test set."""
    torch.manual_seed(seed)
    model = network(make_middle()).to(device)
    train(model, scale(train_set.images), train_set.targets["label"], lr=4e-3, num_epochs=10, progress=progress)
    return accuracy(model, scale(test_set.images), test_set.targets["label"])


# %%
with torch.device("meta"):
    middle_macs = [count_macs(middle, 1, 64, 8, 8) for middle in (direct(), bottleneck(8))]
    baseline_macs = count_macs(network(direct()), 1, 3, 32, 32)
print(f"middle layer: {middle_macs[0]:,} directly, {middle_macs[1]:,} through 8 channels; the whole direct network {baseline_macs:,}")

# %% [markdown]
# **Before you run it:** three seeds of each. What do you expect of the accuracy on new drawings: direct better, bottleneck better, or equal?
#
# <details><summary>Answer</summary>
#
# The bottleneck is not worse. On these few drawings it is usually even a little better, perhaps because it has fewer weights to learn by heart, and one more ReLU. That is this task and this size of data;
# a bottleneck that is too narrow does lose, as the figure below shows.
#
# </details>

# %%
seeds = [10 * course_seed + k for k in range(3)]  # so that runs of the notebook with other seeds share none
direct_accuracies = [trained_accuracy(direct, seed, f"direct, seed {seed}") for seed in seeds]

# %%
bottleneck_accuracies = [trained_accuracy(lambda: bottleneck(8), seed, f"bottleneck, seed {seed}") for seed in seeds]
for name, values in {"direct": direct_accuracies, "bottleneck of 8": bottleneck_accuracies}.items():
    print(f"{name:<16}", *[f"{value:.1%}" for value in values])

# %%
direct_mean, bottleneck_mean = np.mean(direct_accuracies), np.mean(bottleneck_accuracies)
claim(
    "On this task the bottleneck does not cost accuracy: it loses less than 3 points",
    bottleneck_mean > direct_mean - 0.03,
    f"{bottleneck_mean:.1%} against {direct_mean:.1%} directly, means of three seeds, with {middle_macs[0] / middle_macs[1]:.1f} times fewer multiplications in that layer",
)

# %% [markdown]
# How narrow may it be? Ten seeds of each width take too long for a lesson, so they were measured earlier, by `make measure TABLE=bottleneck`. Width 0 stands for the direct layer.

# %%
rows = measured("bottleneck")
by_width = {width: 100 * np.array([row["accuracy"] for row in rows if row["width"] == width]) for width in sorted({row["width"] for row in rows})}


# %%
# extra code: each seed a dot, the mean a line; the direct layer as a band
def width_figure():
    fig, ax = plt.subplots(figsize=(9.5, 4.8))
    widths = [width for width in by_width if width]
    for width in widths:
        ax.plot([width] * len(by_width[width]), by_width[width], "o", color="C0", alpha=0.45, markersize=9)
    ax.plot(widths, [by_width[width].mean() for width in widths], color="C0")
    ax.axhspan(by_width[0].min(), by_width[0].max(), color="C1", alpha=0.18)
    ax.axhline(by_width[0].mean(), color="C1")
    ax.annotate("direct 5 x 5: mean and range", (widths[0], by_width[0].max()), xytext=(0, 6), textcoords="offset points", color="C1", fontweight="bold")
    ax.annotate("through a bottleneck", (widths[1], by_width[widths[1]].mean()), xytext=(20, -14), textcoords="offset points", color="C0", fontweight="bold")
    ax.set_xscale("log", base=2)
    ax.set(xticks=widths, xticklabels=widths, xlabel="channels of the bottleneck", ylabel="test accuracy, %")
    ax.set_title(f"Measured earlier, {len(by_width[0])} seeds: a narrow bottleneck costs accuracy")
    ax.margins(y=0.12)
    ax.minorticks_off()
    return fig


# %%
show(width_figure(), "Measured earlier, by make measure: test accuracy against the width of the bottleneck, a dot a seed. Means: "
     + ", ".join(f"{width} channels {values.mean():.0f} %" for width, values in by_width.items() if width) + f"; without a bottleneck {by_width[0].mean():.0f} %.")  # fmt: skip

# %% [markdown]
# The left end of that curve, live: all that the network has seen must pass through **one** channel.

# %%
narrow_accuracy = trained_accuracy(lambda: bottleneck(1), seeds[0], "bottleneck of 1")
claim(
    "A bottleneck that is too narrow does cost accuracy: through a single channel it loses more than 10 points",
    narrow_accuracy < direct_accuracies[0] - 0.1,
    f"{narrow_accuracy:.1%} against {direct_accuracies[0]:.1%} directly",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# The sentence of the slide is true within limits: it depends on the width. Szegedy et al. (2015) chose 16 of 192 in GoogLeNet's first module, a twelfth; ours is 8 of 64, an eighth.

# %% [markdown]
# ## 5. Do not choose, use all: the Inception module (10 min)
#
# Which kernel is right, $1 \times 1$, $3 \times 3$, $5 \times 5$, or a pooling? Szegedy et al. (2015) did not choose. They ran all four side by side and **concatenated** the channels. That is affordable only with
# the bottleneck of section 4 in front of the large kernels. This is module 3a of their GoogLeNet, from 192 channels to 256:
#
# | branch | layers |
# |---|---|
# | 1x1 | 1x1 to 64 channels |
# | 3x3 | 1x1 to 96, then 3x3 to 128 |
# | 5x5 | 1x1 to 16, then 5x5 to 32 |
# | pool | 3x3 max pooling with stride 1, then 1x1 to 32 |


# %%
def conv_relu(c_in, c_out, kernel):
    return nn.Sequential(nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2), nn.ReLU())


class Inception(nn.Module):
    def __init__(self, c_in, c1, c3_reduced, c3, c5_reduced, c5, c_pool):
        super().__init__()
        self.branches = nn.ModuleDict({
            "1x1": conv_relu(c_in, c1, 1),
            "3x3": nn.Sequential(conv_relu(c_in, c3_reduced, 1), conv_relu(c3_reduced, c3, 3)),
            "5x5": nn.Sequential(conv_relu(c_in, c5_reduced, 1), conv_relu(c5_reduced, c5, 5)),
            "pool": nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), conv_relu(c_in, c_pool, 1)),
        })  # fmt: skip

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches.values()], dim=1)


# %% [markdown]
# Why can the four be concatenated? All keep the height and width: the padding is half the kernel. Branch by branch:


# %%
# NBVAL_CHECK_OUTPUT
with torch.device("meta"):
    inception_3a = Inception(192, 64, 96, 128, 16, 32, 32)
    x = torch.zeros(1, 192, 28, 28)
for name, module in [*inception_3a.branches.items(), ("all", inception_3a)]:
    print(f"{name:<5} {str(tuple(module(x).shape)):<18} {num_parameters(module):>8,} weights {count_macs(module, *x.shape):>12,} MACs")

# %% [markdown]
# Read the third line again: 12,443,648 multiplications. The lecture's example *is* this branch.
#
# The paper's table gives 159K weights and 128M operations for this module. (Ours without the biases are 163,328, which is 159.5 times 1,024: so it seems to have been counted.) Without the $1 \times 1$ convolutions it would cost this:

# %%
with torch.device("meta"):
    naive = nn.ModuleList([conv_relu(192, c_out, k) for c_out, k in ((64, 1), (128, 3), (32, 5))])
    naive_macs = sum(count_macs(branch, *x.shape) for branch in naive)
    naive_channels = sum(branch(x).shape[1] for branch in naive) + 192  # the pooling branch keeps all of its 192
inception_macs = count_macs(inception_3a, *x.shape)
claim(
    "Inception 3a gives 256 channels for 128 million multiplications; without the 1 x 1 convolutions it would be more than twice as many",
    inception_3a(x).shape[1] == 256 and round(inception_macs / 1e6) == 128 and naive_macs > 2 * inception_macs,
    f"{inception_macs:,} against {naive_macs:,}, and {naive_channels} channels for the next module to read",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Open torchvision's googlenet.py and look at branch3: there is a 3 x 3 where the paper has 5 x 5. A comment there calls it a known bug. Published code and published papers are not always
# the same network. The naive module's channels grow from 192 to 416, module after module: that is the second reason for the 1 x 1 behind the pooling.

# %% [markdown]
# ## 6. Cheaper still: depthwise separable convolution (15 min)
#
# A convolution does two things at once: it looks at neighbours, and it mixes channels. Take them apart:
#
# 1. **depthwise:** each channel has a kernel of its own and is filtered alone (`groups=channels`),
# 2. **pointwise:** a $1 \times 1$ convolution mixes the channels.
#
# $$ \underbrace{h w\, c_\text{out}\, k^2 c_\text{in}}_{\text{together}} \quad\text{becomes}\quad \underbrace{h w\, k^2 c_\text{in}}_{\text{depthwise}} + \underbrace{h w\, c_\text{in} c_\text{out}}_{\text{pointwise}},
# \qquad\text{a share of}\quad \frac{1}{c_\text{out}} + \frac{1}{k^2} $$


# %%
def separable(c_in, c_out, kernel=3):
    return nn.Sequential(
        nn.Conv2d(c_in, c_in, kernel, padding=kernel // 2, groups=c_in, bias=False),
        nn.Conv2d(c_in, c_out, 1, bias=False),
    )


# %%
depthwise = separable(192, 192)[0]
one_by_one = [F.conv2d(features[:, c : c + 1], depthwise.weight[c : c + 1], padding=1) for c in range(192)]
difference = (depthwise(features) - torch.cat(one_by_one, dim=1)).abs().max().item()
claim("A depthwise convolution is a filter for each channel alone", difference < 1e-5, f"largest difference {difference:.0e}, 192 channels")

# %%
with torch.device("meta"):
    full_macs, separable_macs = (count_macs(m, 1, 192, 28, 28) for m in (nn.Conv2d(192, 192, 3, padding=1, bias=False), separable(192, 192)))
claim(
    "A separable 3 x 3 convolution needs the share 1/c_out + 1/k² of the multiplications",
    abs(separable_macs / full_macs - (1 / 192 + 1 / 9)) < 1e-12,
    f"{separable_macs:,} instead of {full_macs:,}: {separable_macs / full_macs:.1%}",
)

# %% [markdown]
# ### The inverted residual
#
# MobileNet (Howard et al. 2017) is made of these. MobileNetV2 (Sandler et al. 2018) turns the bottleneck round: **narrow outside, wide inside**. A $1 \times 1$ convolution expands the channels by $6$, the depthwise
# convolution works where there are many channels and costs little, another $1 \times 1$ goes back, without ReLU. Around it all, a skip connection (notebook 02).


# %%
class OurInvertedResidual(nn.Module):
    def __init__(self, channels, expand=6):
        super().__init__()
        wide = expand * channels
        self.layers = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(),
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(),
            nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels),
        )  # fmt: skip

    def forward(self, x):
        return x + self.layers(x)


# %% [markdown]
# Is that torchvision's block? We give ours the weights of theirs, in order, and compare the outputs.

# %%
ours, theirs = OurInvertedResidual(24).eval(), InvertedResidual(24, 24, stride=1, expand_ratio=6).eval()
ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
x = torch.randn(2, 24, 28, 28)
difference = (ours(x) - theirs(x)).abs().max().item()
claim(
    "Our inverted residual is torchvision's: the same weights give the same outputs",
    difference < 1e-5 and num_parameters(ours) == num_parameters(theirs),
    f"{num_parameters(ours):,} weights, largest difference {difference:.0e}",
)

# %% [markdown]
# ### Whole networks, counted
#
# On the device `meta` a network with 138 million weights takes no memory. So we count the classic ones, for one picture of $224 \times 224$. Torchvision publishes counts of its own with its weights, and the accuracy on
# ImageNet (*top-1*: the most probable class is the right one); these we read, and do not measure.

# %%
names = ["vgg16", "resnet50", "resnet18", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"]
published = {name: next(iter(torchvision.models.get_model_weights(name))).meta for name in names}
macs = {}
for name in names:
    with torch.device("meta"):
        macs[name] = count_macs(torchvision.models.get_model(name).eval(), 1, 3, 224, 224)
    top1 = published[name]["_metrics"]["ImageNet-1K"]["acc@1"]
    print(f"{name:<20} {macs[name] / 1e6:>8,.0f} million MACs, {published[name]['num_params']:>11,} weights, published top-1 {top1:.1f} %")

# %%
gaps = {name: abs(macs[name] / 1e9 / published[name]["_ops"] - 1) for name in names}
claim(
    "Our counts are those that torchvision publishes with the weights, to two per cent",
    max(gaps.values()) < 0.02,
    f"largest gap {max(gaps.values()):.1%}, over {len(gaps)} networks",
)

# %% [markdown]
# **Before you run it:** MobileNetV2 needs a sixth of ResNet-18's multiplications. Is it six times as fast?
#
# <details><summary>Answer</summary>
#
# No, by far not. A depthwise convolution does little work for each number that it fetches from memory, so the processor waits for memory; a large $3 \times 3$ convolution keeps it busy. Multiplications are a fact about
# the network. Seconds are a fact about the network *and* the machine.
#
# </details>


# %%
def random_network(name):
    """The network with some weights: enough for the clock, and quicker than a proper initialisation."""
    with torch.device("meta"):
        model = torchvision.models.get_model(name)
    model = model.to_empty(device=device).eval().to(memory_format=torch.channels_last)
    for value in model.state_dict().values():
        value.fill_(0.01)
    return model


# %%
photo_sized = torch.rand(4, 3, 224, 224, device=device).to(memory_format=torch.channels_last)
times = {name: seconds(random_network(name), photo_sized, repeats=2) / 4 for name in names}
fewer = {name: macs["resnet18"] / macs[name] for name in names}
faster = {name: times["resnet18"] / times[name] for name in names}


# %%
# extra code: seconds against multiplications, and the line on which all would lie that work as fast as ResNet-18
def clock_figure():
    fig, ax = plt.subplots(figsize=(10, 5.4))
    line = np.array([0.6 * min(macs.values()), 1.6 * max(macs.values())])
    ax.plot(line / 1e9, 1e3 * times["resnet18"] * line / macs["resnet18"], color="0.6", linestyle="--", zorder=1)
    ax.annotate("as fast as ResNet-18\nfor each multiplication", (line[0] / 1e9, 1e3 * times["resnet18"] * line[0] / macs["resnet18"]), xytext=(75, -14), textcoords="offset points", color="0.4")
    places = {"mobilenet_v2": (14, -5, "left"), "mobilenet_v3_large": (-14, -5, "right"), "mobilenet_v3_small": (-14, -5, "right")}
    for name in names:
        colour, (dx, dy, side) = "C1" if name.startswith("mobilenet") else "C0", places.get(name, (0, 14, "center"))
        ax.plot(macs[name] / 1e9, 1e3 * times[name], "o", color=colour, markersize=14)
        ax.annotate(name.removeprefix("mobilenet_"), (macs[name] / 1e9, 1e3 * times[name]), xytext=(dx, dy), textcoords="offset points", color=colour, ha=side, fontweight="bold")
    ax.set_xscale("log"), ax.set_yscale("log")
    ax.set(xlabel="billion multiply-accumulates a picture (log scale)", ylabel="ms a picture (log scale)", title="MobileNets (orange) take more time than their count promises")
    ax.xaxis.set_major_formatter("{x:g}"), ax.yaxis.set_major_formatter("{x:g}")
    ax.margins(0.12, 0.2)
    return fig


# %%
show(clock_figure(), f"Milliseconds a picture against billion multiply-accumulates, on this machine ({device.type.upper()}). The MobileNets lie above the line of ResNet-18's speed. Compared with ResNet-18: "
     + "; ".join(f"{name} {fewer[name]:.2g} times fewer multiplications, {faster[name]:.2g} times as fast" for name in names if name.startswith("mobilenet")) + ".")  # fmt: skip

# %%
mobile = [name for name in names if name.startswith("mobilenet")]
claim(
    "The clock gives back only a part of MobileNet's saving: compared with ResNet-18 they are faster by less than the multiplications promise",
    all(faster[name] < 0.75 * fewer[name] for name in mobile),
    ", ".join(f"{name}: {faster[name]:.1f} times as fast with {fewer[name]:.0f} times fewer" for name in mobile),
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Errata of the slides: 1,280 is the width of MobileNet's feature vector, not the number of ImageNet's classes (1,000). On a phone, with kernels made for it, the clock gives back more; on a large GPU less.

# %% [markdown]
# ## 7. The way back up: transposed convolution (25 min)
#
# Stride makes pictures smaller. A network that draws (segmentation in notebook 04, generation in 09) has to make them larger again, and would like to *learn* how. Take the sum of section 1 and read it backwards: a convolution
# reads $k \times k$ pixels and writes one. A **transposed** convolution reads one pixel and writes $k \times k$: the kernel, times the pixel. Where the squares overlap, they are **added**.


# %%
def by_scattering(x, kernel, stride):
    """Each pixel stamps the kernel, times its value, onto the result."""
    k = len(kernel)
    result = torch.zeros((x.shape[0] - 1) * stride + k, (x.shape[1] - 1) * stride + k)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            result[i * stride : i * stride + k, j * stride : j * stride + k] += x[i, j] * kernel
    return result


# %% [markdown]
# A second way gives the same: put $s - 1$ **zeros between the pixels**, pad with $k - 1$ zeros, and convolve as always, with the kernel turned by 180 degrees.


# %%
def by_zeros(x, kernel, stride):
    """Insert zeros, then an ordinary convolution with the turned kernel."""
    k = len(kernel)
    spread = torch.zeros((x.shape[0] - 1) * stride + 1, (x.shape[1] - 1) * stride + 1)
    spread[::stride, ::stride] = x
    return F.conv2d(spread[None, None], kernel.flip(0, 1)[None, None], padding=k - 1)[0, 0]


# %% [markdown]
# The third way is PyTorch's own layer.

# %%
small = torch.rand(4, 5)
layer = nn.ConvTranspose2d(1, 1, kernel_size=3, stride=2, bias=False)
kernel = layer.weight[0, 0].detach()
ways = {"scatter and add": by_scattering(small, kernel, 2), "zeros, convolve": by_zeros(small, kernel, 2), "ConvTranspose2d": layer(small[None, None])[0, 0].detach()}


# %%
# extra code: the small picture, and what three ways make of it
def ways_figure():
    pictures = {"input": small} | ways
    fig, axes = plt.subplots(1, 4, figsize=(12, 3.4), width_ratios=[x.shape[1] for x in pictures.values()])
    for ax, (name, x) in zip(axes, pictures.items(), strict=True):
        ax.imshow(x, cmap="PuOr", vmin=-0.5 if name != "input" else -1, vmax=0.5 if name != "input" else 1)
        ax.set(xticks=[], yticks=[])
        ax.set_title(f"{name}\n{x.shape[0]} x {x.shape[1]}", loc="center")
        ax.grid(False)
    return fig


# %%
show(ways_figure(), "A picture of 4 x 5 pixels, and three ways to the same 9 x 11 pixels: scatter and add, insert zeros and convolve, and ConvTranspose2d. (Orange and purple: the two signs.)")

# %%
difference = max((ways["ConvTranspose2d"] - ways[name]).abs().max().item() for name in list(ways)[:2])
claim("Three ways to a transposed convolution give the same numbers", difference < 1e-5, f"largest difference {difference:.0e}")

# %% [markdown]
# ### Why "transposed"?
#
# A convolution is linear, so it is a matrix $A$: $y = A x$. With stride 2 it has fewer rows than columns. The transposed convolution with the same kernel is the matrix $A^\top$. It is *not* the inverse: it brings back the
# size, not the picture. What defines the transposed matrix is the **adjoint identity**: for all $x$ and $y$
#
# $$ \langle A x,\; y \rangle = \langle x,\; A^\top y \rangle $$


# %%
def as_matrix(function, n):
    """The matrix of a linear function of signals of length n: a column for each unit signal."""
    return function(torch.eye(n)[:, None])[:, 0].T


weights = torch.tensor([[[1.0, 2.0, 3.0]]])
A = as_matrix(lambda x: F.conv1d(x, weights, stride=2), 9)
A_transposed = as_matrix(lambda y: F.conv_transpose1d(y, weights, stride=2), 4)


# %%
# extra code: both matrices, their numbers written in
def matrices_figure():
    fig, axes = plt.subplots(1, 2, figsize=(11, 4.6), width_ratios=[9, 4])
    for ax, (name, M) in zip(axes, {"A: conv1d, stride 2": A, "conv_transpose1d": A_transposed}.items(), strict=True):
        ax.imshow(M, cmap="Oranges", vmin=0, vmax=5)
        for i, j in torch.cartesian_prod(torch.arange(M.shape[0]), torch.arange(M.shape[1])).tolist():
            ax.text(j, i, f"{M[i, j]:.0f}", ha="center", va="center", color="black" if M[i, j] else "0.7")
        ax.set(xticks=[], yticks=[], title=f"{name}, {M.shape[0]} x {M.shape[1]}")
        ax.grid(False)
    return fig


# %%
show(matrices_figure(), "The matrix of a 1-D convolution with kernel (1, 2, 3) and stride 2, 4 x 9: the kernel stands in each row, two places further right. The matrix of the transposed convolution "
     "is the same one, mirrored at its diagonal, 9 x 4.")  # fmt: skip

# %%
x, y = torch.randn(2, 3, 31, 31, dtype=torch.float64), torch.randn(2, 8, 16, 16, dtype=torch.float64)
weight = torch.randn(8, 3, 3, 3, dtype=torch.float64)
left = (F.conv2d(x, weight, stride=2, padding=1) * y).sum().item()
right = (x * F.conv_transpose2d(y, weight, stride=2, padding=1)).sum().item()
claim(
    "The transposed convolution is the adjoint of the convolution: <Ax, y> = <x, A'y>",
    abs(left - right) < 1e-5 and torch.equal(A_transposed, A.T),
    f"{left:.6f} and {right:.6f}",
)

# %% [markdown]
# You have used it all along without knowing: the **backward pass** of a convolution is the transposed convolution. It brings the gradient from the small result back to the large picture.

# %%
x.requires_grad_()
(gradient,) = torch.autograd.grad(F.conv2d(x, weight, stride=2, padding=1), x, y)
difference = (gradient - F.conv_transpose2d(y, weight, stride=2, padding=1)).abs().max().item()
claim("The gradient of a convolution is a transposed convolution", difference < 1e-10, f"largest difference {difference:.0e}")

# %% [markdown]
# ### How large is the result?
#
# Solve the formula of section 1 for $n$. There is a catch: with kernel 3, padding 1 and stride 2, images of 7 and of 8 pixels both become 4, as the formula rounds down. Which one do you want back? **Output padding** $o$ says it. (It pads nothing
# with zeros; it lets the result be $o$ pixels larger.)
#
# $$ (n - 1)\,s - 2p + d\,(k - 1) + 1 + o $$

# %%
# NBVAL_CHECK_OUTPUT
for n in (7, 8):
    small_side = output_side(n, kernel=3, stride=2, padding=1)
    sides = [F.conv_transpose2d(torch.zeros(1, 1, small_side, small_side), torch.zeros(1, 1, 3, 3), None, 2, 1, o).shape[-1] for o in (0, 1)]
    print(f"{n} -> {small_side} -> {sides[0]} with output padding 0, {sides[1]} with output padding 1")


# %%
def transposed_side(n, kernel, stride=1, padding=0, output_padding=0, dilation=1):
    return (n - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1 + output_padding


cases = [(n, k, s, p, o, d) for n in (4, 7) for k in (2, 3, 4) for s in (1, 2, 3) for p in (0, 1) for o in (0, 1, 2) for d in (1, 2) if o < max(s, d)]
sides = [F.conv_transpose2d(torch.zeros(1, 1, n, n), torch.zeros(1, 1, k, k), None, s, p, o, 1, d).shape[-1] for n, k, s, p, o, d in cases]
claim(
    "The formula gives the side of the transposed convolution's result",
    all(transposed_side(*case) == side for case, side in zip(cases, sides, strict=True)),
    f"{len(cases)} combinations",
)

# %% [markdown]
# ### The checkerboard
#
# How many stamps fall on each pixel of the result? We set all inputs and all weights to 1 and count.
#
# **Before you run it:** kernel 3, stride 2. Do all pixels get equally many? And with kernel 4?
#
# <details><summary>Answer</summary>
#
# With kernel 3 no: 3 is not divisible by 2, so along each axis a pixel gets one stamp, its neighbour two. In two dimensions that makes 1, 2 and 4: a checkerboard. With kernel 4 each pixel gets four stamps.
#
# </details>


# %%
def stamps(kernel, stride, n=6):
    counts = F.conv_transpose2d(torch.ones(1, 1, n, n), torch.ones(1, 1, kernel, kernel), stride=stride)[0, 0]
    return counts[kernel:-kernel, kernel:-kernel]  # without the rim, where stamps are missing


resized = F.conv2d(F.interpolate(torch.ones(1, 1, 6, 6), scale_factor=2), torch.ones(1, 1, 3, 3))[0, 0]
counts = {"kernel 3, stride 2": stamps(3, 2), "kernel 4, stride 2": stamps(4, 2), "enlarge, then 3 x 3": resized[1:-1, 1:-1]}


# %%
# extra code: the counts as grey squares with their numbers
def stamps_figure():
    fig, axes = plt.subplots(1, 3, figsize=(11, 4.1))
    for ax, (name, count) in zip(axes, counts.items(), strict=True):
        count = count[:6, :6]
        ax.imshow(count, cmap="gray", vmin=0, vmax=1.3 * count.max())
        for i, j in torch.cartesian_prod(torch.arange(len(count)), torch.arange(len(count))).tolist():
            ax.text(j, i, f"{count[i, j]:.0f}", ha="center", va="center", fontsize=15, color="white" if count[i, j] < 0.7 * count.max() else "black")
        ax.set(xticks=[], yticks=[])
        ax.set_title(name, loc="center")
        ax.grid(False)
    return fig


# %%
show(stamps_figure(), "How many stamps fall on each pixel of the result. Kernel 3 with stride 2: rows of 1, 2 and of 2, 4, a checkerboard. Kernel 4 with stride 2: 4 everywhere. Enlarged by nearest "
     "neighbour and then convolved with 3 x 3: 9 everywhere.")  # fmt: skip

# %%
even = {(k, s): (stamps(k, s, n=12) == stamps(k, s, n=12)[0, 0]).all().item() for k in range(2, 7) for s in (2, 3) if k >= s}
claim(
    "The stamps are even exactly where the kernel is divisible by the stride",
    all(is_even == (k % s == 0) for (k, s), is_even in even.items()),
    f"{sum(even.values())} of {len(even)} pairs of kernel and stride are even: {', '.join(f'{k} and {s}' for (k, s), ok in even.items() if ok)}",
)

# %% [markdown]
# That was a count, with all weights equal. What happens in learning? The task: enlarge drawings from 32 x 32 to 64 x 64 pixels. Two layers of $3 \times 3$, and as the last layer one of three up-samplers. **Resize-convolution**
# (Odena et al. 2016) enlarges by nearest neighbour, then convolves: every pixel is made in the same way.

# %%
large_train, _, large_test = datasets.critters(num_train=400, num_val=0, num_test=120, size=64)
large, large_new = (data.images.float() / 255 - 0.5 for data in (large_train, large_test))
halved, halved_new = F.avg_pool2d(large, 2), F.avg_pool2d(large_new, 2)

# %%
last_layers = {
    "transposed, kernel 3": lambda: nn.ConvTranspose2d(16, 3, 3, stride=2, padding=1, output_padding=1),
    "transposed, kernel 4": lambda: nn.ConvTranspose2d(16, 3, 4, stride=2, padding=1),
    "resize-convolution": lambda: nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(16, 3, 3, padding=1)),
}


def enlarger(last_layer):
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), last_layer())


def enlarged(model, num_epochs, lr=1e-2):
    """Train a network to enlarge; what it makes of the test set."""
    train(model.to(device), halved, large, lr=lr, num_epochs=num_epochs, batch_size=8, loss_fn=F.mse_loss, metrics={})
    return predict(model, DataLoader(TensorDataset(halved_new, large_new), batch_size=40), bf16=False)[0]


# %% [markdown]
# To measure a checkerboard: cut the result into squares of $2 \times 2$ pixels and take the **average square** of each picture. Of a picture without a pattern it is flat. We report how far it is from flat, in grey levels
# of 255 (root mean square).


# %%
def pattern(result):
    """How far the average 2 x 2 square of a picture is from flat: mean over the pictures and channels, in grey levels."""
    inside = result[..., 4:-4, 4:-4]
    square = torch.stack([inside[..., i::2, j::2].mean(dim=(2, 3)) for i in (0, 1) for j in (0, 1)])
    return 255 * (square - square.mean(0)).square().mean().sqrt().item()


early = {name: [] for name in last_layers}
for name, last_layer in last_layers.items():
    for seed in seeds:
        torch.manual_seed(seed)
        early[name].append(enlarged(enlarger(last_layer), num_epochs=1, lr=3e-3))
levels = {name: [pattern(result) for result in results] for name, results in early.items()}

# %%
zoom = (slice(None), slice(20, 44), slice(20, 44))
titles = ["original"] + [f"{name}\npattern: {values[0]:.1f} levels" for name, values in levels.items()]
pictures = [large_new[2]] + [results[0][2] for results in early.values()]
show(image_grid([(picture[zoom] + 0.5).clamp(0, 1) for picture in pictures], titles=titles, columns=4, size=3),
     "A part of a drawing, and what three networks make of it after one epoch of training. With the transposed convolutions a fine regular pattern lies over the picture; with the resize-convolution there is none. "
     "Its strength in grey levels: " + ", ".join(f"{name} {values[0]:.1f}" for name, values in levels.items()) + f"; in the originals {pattern(large_new):.1f}.")  # fmt: skip

# %%
print(*[f"{name:<22}" + "  ".join(f"{value:.1f}" for value in values) for name, values in levels.items()], sep="\n")
claim(
    "Early in training a transposed convolution with kernel 3 and stride 2 makes a checkerboard, and resize-convolution does not",
    min(levels["transposed, kernel 3"]) > 2 * max(levels["resize-convolution"]),
    f"at least {min(levels['transposed, kernel 3']):.1f} grey levels against at most {max(levels['resize-convolution']):.1f}, three seeds each",
)

# %% [markdown]
# Kernel 4 makes the *number* of stamps even, not their weights. Those still begin at random, so early in training it has its pattern too. It only has no built-in reason to keep it. And training longer?
#
# ### Against nearest and bilinear
#
# Nearest neighbour and bilinear interpolation learn nothing. Do they lose? We let each network correct the bilinear result, $y = \text{bilinear}(x) + f(x)$ (a skip connection again), and train for longer. The score is the
# **PSNR**, $-10 \log_{10}(\text{mean squared error})$, in decibel: more is better.


# %%
class Correct(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        return F.interpolate(x, scale_factor=2, mode="bilinear") + self.f(x)


def psnr(result):
    return (-10 * ((result - large_new) ** 2).mean(dim=(1, 2, 3)).log10()).mean().item()


# %%
results = {mode: F.interpolate(halved_new, scale_factor=2, mode=mode) for mode in ("nearest", "bilinear", "bicubic")}
for name, last_layer in last_layers.items():
    torch.manual_seed(seeds[0])
    results[name] = enlarged(Correct(enlarger(last_layer)), num_epochs=12)
scores = {name: psnr(result) for name, result in results.items()}


# %%
# extra code: a row for each method, learned ones in another colour
def psnr_figure():
    fig, ax = plt.subplots(figsize=(9.5, 4.3))
    for row, (name, value) in enumerate(scores.items()):
        colour = "C0" if name in last_layers else "0.45"
        ax.plot(value, row, "o", markersize=15, color=colour)
        ax.annotate(f"{value:.1f}", (value, row), xytext=(14, 0), textcoords="offset points", va="center", color=colour, fontweight="bold")
    ax.set(yticks=range(len(scores)), yticklabels=scores, ylim=(len(scores) - 0.5, -0.5), xlabel="PSNR on new drawings, dB (more is better)")
    ax.margins(x=0.15)
    ax.set_title("Learned up-sampling (blue) beats bilinear interpolation")
    return fig


# %%
show(psnr_figure(), "PSNR on drawings that were not trained on: " + ", ".join(f"{name} {value:.1f} dB" for name, value in scores.items()) + ".")

# %%
learned = [scores[name] for name in last_layers]
claim(
    "Learned up-sampling beats nearest neighbour and bilinear interpolation, whichever of the three last layers it has",
    min(learned) > max(scores["nearest"], scores["bilinear"]) + 0.5,
    f"at least {min(learned):.1f} dB, nearest {scores['nearest']:.1f}, bilinear {scores['bilinear']:.1f}",
)

# %%
late = {name: pattern(results[name]) for name in last_layers}
claim(
    "Trained for longer, and with the skip connection, the checkerboard of kernel 3 is gone but for a trace",
    late["transposed, kernel 3"] < 0.5 * min(levels["transposed, kernel 3"]),
    f"{late['transposed, kernel 3']:.1f} grey levels, after one epoch {min(levels['transposed, kernel 3']):.1f} or more",
)

# %% [markdown]
# So a network *can* learn to hide its checkerboard, where the task shows the right answer at every pixel. A generator (notebook 09) is not shown one, and there the pattern can stay. Resize-convolution, or a kernel divisible by the
# stride, is the safe choice. Which of the three is best on this task? The differences are small and change with the seed: we do not claim any.

# %% [markdown] slideshow={"slide_type": "notes"}
# "Deconvolution" is what many slides call the layer. In signal processing that word means undoing a convolution, which this does not do. Zeiler et al. (2010) brought the name in; "transposed" is the accurate one.

# %% [markdown]
# ## 8. One network, any image size (20 min)
#
# A convolution does not care how large the picture is. A dense layer behind `Flatten` does. **Adaptive pooling** stands between them: `AdaptiveAvgPool2d(1)` averages whatever comes, so that one number a channel is left
# (notebook 05 compares it with flatten).
#
# We train a small classifier on windows of 40 x 40 pixels: one of four animals on a speckled ground, or only ground, "nothing". Its convolutions have **no padding**. You will see why.

# %%
kinds = ["panda", "tiger", "frog", "fox"]
names = [*kinds, "nothing"]
known, _, unseen = datasets.critters(kinds, num_train=600, num_val=0, num_test=200, size=40)


# %%
# extra code: a speckled ground, an animal pasted on it, and windows that show it somewhere near their middle
def ground(height, width):
    coarse = F.interpolate(torch.rand(1, 3, height // 8 + 1, width // 8 + 1), size=(height, width), mode="bilinear")[0]
    colour = 0.2 + 0.6 * torch.rand(3, 1, 1)
    return (colour + 0.35 * (coarse - 0.5) + 0.1 * (torch.rand(3, height, width) - 0.5)).clamp(0, 1)


def paste(scene, animals, i, top, left):
    part, mask = scene[:, top : top + 40, left : left + 40], animals.targets["mask"][i]
    part[:, mask] = animals.images[i][:, mask] / 255


def windows(animals, num, side=40):
    pictures, labels = [], torch.arange(num) % len(names)
    for label in labels.tolist():
        scene = ground(side + 16, side + 16)
        if label < len(kinds):
            i = random.choice((animals.targets["label"] == label).nonzero().flatten().tolist())
            paste(scene, animals, i, top=(side - 24) // 2, left=(side - 24) // 2)
        top, left = torch.randint(17, (2,)).tolist()
        pictures.append(scene[:, top : top + side, left : left + side])
    return 4 * torch.stack(pictures) - 2, labels


# %%
train_windows, train_names = windows(known, 1200)
test_windows, test_names = windows(unseen, 500)
show(image_grid([(picture + 2) / 4 for picture in test_windows[:10]], titles=[names[i] for i in test_names[:10]], columns=10, size=1.2),
     "Ten windows of 40 x 40 pixels, each with a drawn panda, tiger, frog or fox on a speckled ground, or with the ground alone.")  # fmt: skip


# %%
def valid_block(c_in, c_out, kernel, stride=1):
    return nn.Sequential(nn.Conv2d(c_in, c_out, kernel, stride), nn.BatchNorm2d(c_out), nn.ReLU())


torch.manual_seed(seeds[0])
classifier = nn.Sequential(
    valid_block(3, 16, 5, stride=2), valid_block(16, 32, 3), nn.MaxPool2d(2), valid_block(32, 64, 3),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, len(names)),
).to(device)  # fmt: skip
train(classifier, train_windows, train_names, lr=5e-3, num_epochs=12)
window_accuracy = accuracy(classifier, test_windows, test_names)
print(f"right on {window_accuracy:.0%} of new windows")

# %% [markdown]
# ### Other sizes
#
# **Before you run it:** what does this network say to a picture of 64 x 64, or of 200 x 120? Does it run? Is it as often right, when the same windows come enlarged to twice their side?
#
# <details><summary>Answer</summary>
#
# It runs: adaptive pooling always leaves 64 numbers. It is far less often right. "Any size" is a matter of shapes. The filters have learned animals of about 30 pixels, and twice as large they look different.
# Nothing in its training has asked for animals of that size.
#
# </details>

# %%
classifier.eval()
with torch.no_grad():
    shapes = {(h, w): tuple(classifier(torch.zeros(1, 3, h, w, device=device)).shape) for h, w in ((40, 40), (64, 64), (200, 120))}
claim("With adaptive pooling one network takes pictures of any size", set(shapes.values()) == {(1, 5)}, f"{list(shapes)} give {set(shapes.values())}")

# %%
doubled = F.interpolate(test_windows, scale_factor=2, mode="bilinear")
doubled_accuracy = accuracy(classifier, doubled, test_names)
claim(
    "It takes them, and is less often right: enlarged to twice the side, it does not know the animals so well",
    doubled_accuracy < window_accuracy - 0.1,
    f"{window_accuracy:.0%} on windows as in training, {doubled_accuracy:.0%} on the same ones enlarged",
)

# %% [markdown]
# ### From classifier to heat map
#
# Now a whole scene, 160 x 320 pixels, with six animals. Where is what? One way is to slide the 40 x 40 window over the scene and ask the classifier at each place. That computes the same filters on the same pixels again and
# again. The other way: make the classifier **fully convolutional**.
#
# - Pooling over everything becomes pooling over the 6 x 6 results that belong to one window, with stride 1.
# - The linear layer becomes a 1 x 1 convolution with the same weights (section 3).

# %%
pool, linear = nn.AvgPool2d(6, stride=1), classifier[-1]
one_by_one = nn.Conv2d(64, len(names), 1).to(device)
one_by_one.load_state_dict({"weight": linear.weight[:, :, None, None], "bias": linear.bias})
fully_convolutional = nn.Sequential(*classifier[:4], pool, one_by_one).eval()


# %%
# extra code: a scene with animals that do not overlap, and where each of them is: (top, left, kind)
def make_scene(num_animals=6, height=160, width=320):
    scene, places = ground(height, width), []
    while len(places) < num_animals:
        top, left = random.randrange(height - 40), random.randrange(width - 40)
        if all(abs(top - t) > 40 or abs(left - b) > 40 for t, b, _ in places):
            i = random.randrange(len(unseen))
            paste(scene, unseen, i, top, left)
            places.append((top, left, unseen.targets["label"][i].item()))
    return 4 * scene - 2, places


# %%
scenes = [make_scene() for _ in range(20)]
scene, places = scenes[0]
with torch.no_grad():
    heat = fully_convolutional(scene[None].to(device))[0].cpu()
print(f"scene {tuple(scene.shape)} -> heat map {tuple(heat.shape)}: {len(names)} answers at each place, a place every 4 pixels")

# %% [markdown]
# Are these the answers that the sliding window would have given? We cut out every window and ask.

# %%
patches = scene.unfold(1, 40, 4).unfold(2, 40, 4)  # (3, rows, columns, 40, 40): every window, 4 pixels apart
patches = patches.permute(1, 2, 0, 3, 4).flatten(0, 1)
with torch.no_grad():
    one_at_a_time = torch.cat([classifier(part.to(device)).cpu() for part in patches.split(200)])
difference = (heat.flatten(1).T - one_at_a_time).abs().max().item()
tolerance = 1e-4 if device.type == "cpu" else 0.05  # a GPU rounds convolutions to fewer digits (TF32)

# %%
window_macs = len(patches) * count_macs(classifier, 1, 3, 40, 40)
scene_macs = count_macs(fully_convolutional, 1, *scene.shape)
claim(
    "The heat map holds the answers of the classifier at every window, for less than a tenth of the multiplications",
    difference < tolerance and window_macs > 10 * scene_macs,
    f"{len(patches):,} windows, largest difference {difference:.0e}; {window_macs / 1e6:,.0f} million multiplications against {scene_macs / 1e6:,.0f}",
)

# %% [markdown]
# Here the missing padding pays. With padding, a window has zeros around it and the same pixels in the scene have neighbours: the answers would be close, not equal.


# %%
# extra code: the scene, and over its grey version the kind that wins at each place, stronger where it is surer
def heat_figure(scene, places, heat):
    shares, winner = heat.softmax(dim=0).max(dim=0)
    fig, axes = plt.subplots(2, 1, figsize=(8.6, 8.8))
    picture = to_picture((scene + 2) / 4)
    axes[0].imshow(picture)
    axes[1].imshow(picture.mean(axis=2), cmap="gray", vmin=-0.6, vmax=1.3)
    palette = ("C0", "C1", "C2", "C4")
    colours = np.array([plt.matplotlib.colors.to_rgb(colour) for colour in (*palette, "black")])
    overlay = np.concatenate([colours[winner], (0.85 * shares * (winner < 4))[..., None]], axis=2)
    rows, columns = winner.shape
    axes[1].imshow(overlay, extent=(18, 18 + 4 * columns, 18 + 4 * rows, 18), interpolation="nearest")
    for top, left, label in places:
        axes[1].text(left + 20, top + 20, names[label], ha="center", va="center", fontweight="bold", color="white", fontsize=15,
                     bbox={"facecolor": palette[label], "edgecolor": "white", "boxstyle": "round"})  # fmt: skip
    for ax in axes:
        ax.set(xlim=(0, scene.shape[2]), ylim=(scene.shape[1], 0), xticks=[], yticks=[])
        ax.grid(False)
    axes[0].set_title("A scene of 160 x 320 pixels, seen by a network trained on 40 x 40")
    axes[1].set_title("Its heat map (colour: the animal that wins; label: the truth)")
    return fig


# %%
show(heat_figure(scene, places, heat), f"Above: a scene with {len(places)} drawn animals on a speckled ground. Below: at each place the animal that the fully convolutional network sees there, in colour, with "
     "the true names. The coloured regions lie where the animals are.")  # fmt: skip

# %%
right = []
for scene, places in scenes:
    with torch.no_grad():
        answers = fully_convolutional(scene[None].to(device))[0].argmax(dim=0).cpu()
    right += [answers[round(top / 4), round(left / 4)].item() == label for top, left, label in places]
claim(
    "At the places of the animals the heat map names the right one nine times in ten, or more",
    np.mean(right) > 0.9,
    f"{np.mean(right):.0%} of {len(right)} animals in {len(scenes)} scenes; guessing among five gives 20 %",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# The step from here to detection: find the peaks of the map, look at several scales. Sermanet et al. (OverFeat, 2014) did just this, and Long et al. (2015) turned it into segmentation, which is notebook 04.

# %% [markdown]
# ## 9. One dimension and three (20 min)
#
# Nothing in a convolution asks for two dimensions. A signal has one, a volume or a film has three.
#
# | layer | input | kernel moves along |
# |---|---|---|
# | `Conv1d` | (N, C, L) | time |
# | `Conv2d` | (N, C, H, W) | height, width |
# | `Conv3d` | (N, C, D, H, W) | depth (or time), height, width |
#
# The lecture writes a volume as $C \times H \times W \times L$. PyTorch wants the third direction first, `(N, C, L, H, W)`: `permute`, as in notebook 00.
#
# ### A signal: find the odd beat
#
# These signals are made up, to look a little like a heart's. (They are no medical data, and the network is no medical device.) Each has about six beats at an uneven pace, noise, and a drifting base line. In
# half of them **one** beat is too wide. Where, nobody says.


# %%
# extra code: made-up heartbeats; label 1 where one beat is too wide
def heartbeats(num, length=256):
    time_axis, labels, signals = torch.arange(length), torch.arange(num) % 2, []
    for label in labels.tolist():
        start, period, drift = torch.rand(3).tolist()
        centres = torch.arange(32 * start, length, 32 + 12 * period)
        centres = (centres + 2 * torch.randn(len(centres)))[:, None]
        widths = torch.full_like(centres, 2.0)
        if label:
            widths[torch.randint(1, len(centres) - 1, ())] = 5.0
        beats = (-(((time_axis - centres) / widths) ** 2)).exp() + 0.25 * (-(((time_axis - centres - 12) / 4) ** 2)).exp()
        base = 0.15 * torch.sin(2 * torch.pi * (time_axis / (150 + 250 * drift) + start))
        signals.append(beats.sum(dim=0) + base + 0.15 * torch.randn(length))
    return torch.stack(signals)[:, None], labels


# %%
torch.manual_seed(seeds[0])
signals, odd = heartbeats(600)
new_signals, new_odd = heartbeats(600)
print(f"{tuple(signals.shape)}: (N, C, L)")


# %%
# extra code: two signals, one below the other
def signals_figure():
    fig, axes = plt.subplots(2, 1, figsize=(10, 4.6), sharex=True)
    for ax, label, title in zip(axes, (0, 1), ("all beats alike", "one beat too wide"), strict=True):
        ax.plot(signals[odd == label][0, 0], linewidth=2, color=f"C{label}")
        ax.set(title=title, ylim=(-0.8, 1.7), ylabel="signal")
    axes[1].set_xlabel("time, samples")
    return fig


# %%
show(signals_figure(), "Two made-up signals with noise and a drifting base line: above all beats are alike, below one of them is wider than the others.")

# %% [markdown]
# **Before you run it:** two networks. One with two `Conv1d` layers and global **max** pooling, one with two dense layers on the 256 samples. Both get 600 signals. Which finds the odd beat?
#
# <details><summary>Answer</summary>
#
# The convolution: its kernel moves along the signal, so it needs to learn "wide" once, and max pooling asks "anywhere?". The dense network would have to learn it for every place, from a handful of examples each. It learns the
# training signals by heart.
#
# </details>


# %%
def signal_network():
    return nn.Sequential(
        nn.Conv1d(1, 16, 9, stride=2), nn.ReLU(), nn.Conv1d(16, 16, 9, stride=2), nn.ReLU(),
        nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(16, 2),
    )  # fmt: skip


def dense_network():
    return nn.Sequential(nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 2))


# %%
shares = {}
for name, make in {"Conv1d": signal_network, "dense": dense_network}.items():
    model = make().to(device)
    train(model, signals, odd, lr=5e-3, num_epochs=15)
    shares[name] = accuracy(model, signals, odd), accuracy(model, new_signals, new_odd)
    print(f"{name:<7} {num_parameters(model):>6,} weights: {shares[name][0]:.0%} of known signals, {shares[name][1]:.0%} of new ones")

# %%
claim(
    "A 1-D convolution finds the odd beat in new signals, a dense network of six times the weights hardly does",
    shares["Conv1d"][1] > 0.9 and shares["dense"][1] < 0.75,
    f"{shares['Conv1d'][1]:.0%} against {shares['dense'][1]:.0%} on {len(new_signals)} new signals",
)

# %% [markdown]
# ### A clip: which way does it go?
#
# Seven frames of 32 x 32 pixels: a small drawn animal moves to the right or to the left. For every clip its **reversal** is in the data too, with the other label. So no single frame can tell, whatever the animal looks at: the
# middle frame of a clip and of its reversal are the same picture.


# %%
# extra code: an animal of 16 x 16 pixels moves over a speckled ground; (num, 3, 7, 32, 32), then all of them backwards
def clips(animals, num, length=7):
    small = F.avg_pool2d(animals.images / 255, 2)
    masks = F.avg_pool2d(animals.targets["mask"][:, None].float(), 2)
    result = torch.empty(num, 3, length, 32, 32)
    for clip in result:
        i, step, top = random.randrange(len(small)), random.choice((1, 2)), random.randrange(17)
        start = random.randrange(17 - step * (length - 1))
        clip[:] = (0.1 + 0.8 * torch.rand(3, 1, 1) + 0.06 * torch.randn(3, 32, 32))[:, None]
        for frame in range(length):
            spot = clip[:, frame, top : top + 16, start + step * frame : start + step * frame + 16]
            spot[:] = spot * (1 - masks[i]) + small[i] * masks[i]
    return 4 * torch.cat([result, result.flip(2)]) - 2, torch.arange(2).repeat_interleave(num)


# %%
film_known, _, film_new = datasets.critters(num_train=240, num_val=0, num_test=120, size=32)
torch.manual_seed(seeds[0])
films, directions = clips(film_known, 200)
new_films, new_directions = clips(film_new, 200)
print(f"{tuple(films.shape)}: (N, C, L, H, W); label 0 to the right, 1 to the left")

# %%
frames = [(films[n, :, frame] / 4 + 0.5).clamp(0, 1) for n in (0, 200) for frame in range(7)]
show(image_grid(frames, titles=[f"frame {n % 7 + 1}" for n in range(14)], columns=7, size=1.5),
     "Above: seven frames of a clip in which a small drawn animal moves to the right. Below: the same frames in reverse order, so it moves to the left. The fourth frames are the same picture.")  # fmt: skip

# %% [markdown]
# A 3-D kernel reaches over three frames, so it can answer to "an edge that was here and is now one pixel further".


# %%
def block_3d(c_in, c_out, kernel):
    conv = nn.Conv3d(c_in, c_out, kernel, stride=(1, 2, 2), bias=False)
    return nn.Sequential(conv, nn.BatchNorm3d(c_out), nn.ReLU())


torch.manual_seed(seeds[0])
film_network = nn.Sequential(
    block_3d(3, 8, (3, 5, 5)), block_3d(8, 16, (3, 3, 3)), nn.AdaptiveMaxPool3d(1), nn.Flatten(), nn.Linear(16, 2)
).to(device)
train(film_network, films, directions, lr=4e-3, num_epochs=8, batch_size=16, channels_last=False)
film_accuracy = accuracy(film_network, new_films, new_directions)

# %% [markdown]
# And a network of the same kind that gets the middle frame only:

# %%
frame_network = nn.Sequential(
    conv_block(3, 8, 5, stride=2), conv_block(8, 16, 3, stride=2), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(16, 2)
).to(device)
train(frame_network, films[:, :, 3], directions, lr=4e-3, num_epochs=2, batch_size=16)
frame_accuracy = accuracy(frame_network, new_films[:, :, 3], new_directions)

# %%
claim(
    "A 3-D convolution sees which way the animal goes; a network that sees one frame guesses",
    film_accuracy > 0.9 and abs(frame_accuracy - 0.5) < 0.01,
    f"{film_accuracy:.1%} of {len(new_films)} new clips, {frame_accuracy:.1%} from the middle frame",
)

# %% [markdown]
# ## 10. Exercises (45 min)
#
# Write your answer in place of the dots and run the cell: the check tells you what it expected and what came. Stuck? Take away the `#` in
# the cell below it.
#
# **Exercise 1: keep the size.** Which padding lets a convolution with stride 1 keep the side of the picture, for an odd kernel and any dilation? Return it, an integer. (Solve the formula of section 1.)


# %%
def same_padding(kernel, dilation):
    return ...


exercises.same_padding.check(same_padding)

# %% slideshow={"slide_type": "skip"}
# exercises.same_padding.hint()
# exercises.same_padding.solution()

# %% [markdown]
# **Exercise 2: an Inception module without 5 x 5.** Later the authors of GoogLeNet replaced the $5 \times 5$ convolution by two of $3 \times 3$, one after the other (Szegedy et al. 2016). Build that module: a class or a function
# that takes the same numbers as `Inception` in section 5 and gives an `nn.Module`. In the third branch: $1 \times 1$ to `c5_reduced`, $3 \times 3$ to `c5`, $3 \times 3$ from `c5` to `c5`. A ReLU after every convolution, biases in all, the
# branches concatenated in the same order.


# %%
def make_inception(c_in, c1, c3_reduced, c3, c5_reduced, c5, c_pool):
    ...


exercises.make_inception.check(make_inception)

# %% slideshow={"slide_type": "skip"}
# exercises.make_inception.hint()
# exercises.make_inception.solution()

# %% [markdown]
# **Exercise 3: transposed convolution by hand, with channels and padding.** `x` is (c_in, H, W), `weight` is (c_in, c_out, k, k), as `ConvTranspose2d` keeps it. Return (c_out, H', W'). Padding $p$ cuts $p$ pixels off each
# rim of the result. Without `conv_transpose2d`.


# %%
def transposed_convolution(x, weight, stride, padding):
    ...


exercises.transposed_convolution.check(transposed_convolution)

# %% slideshow={"slide_type": "skip"}
# exercises.transposed_convolution.hint()
# exercises.transposed_convolution.solution()

# %% [markdown]
# **Exercise 4: a flatten head for any size.** A classifier ends in `Flatten` and `linear`, for `channels` maps of `side` x `side` pixels. Return an `nn.Conv2d` that gives the same numbers on such maps, and a heat map on larger
# ones. (VGG's dense layers became segmentation this way: Long et al. 2015.)


# %%
def dense_to_convolution(linear, channels, side):
    ...


exercises.dense_to_convolution.check(dense_to_convolution)

# %% slideshow={"slide_type": "skip"}
# exercises.dense_to_convolution.hint()
# exercises.dense_to_convolution.solution()

# %% [markdown]
# ## 11. Lab: as accurate with a tenth of the multiplications (45 min and more)
#
# The direct network of section 4 is the one to beat. This is what it costs for one picture:

# %%
# NBVAL_CHECK_OUTPUT
with torch.device("meta"):
    print(f"{count_macs(network(direct()), 1, 3, 32, 32):,} multiplications; a tenth of that is {count_macs(network(direct()), 1, 3, 32, 32) // 10:,}")

# %% [markdown]
# Write `train_small()`: it builds a network, trains it on `train_set` (as bytes: uint8, (N, 3, 32, 32)) in any way you like, and returns it. The network must take pictures as **bytes** too, so the scaling belongs in its `forward`,
# and return six logits a picture.
#
# The check draws 900 new animals that nobody has seen, exports your network with `torch.export`, and runs the exported graph. So it sees every operation: convolutions and matrix products are counted by PyTorch's counter, products of tensors
# by their size. Operations in which multiplications could hide (`fft`, `gather`, `cumsum` and the like) are refused.
#
# **Score:** the accuracy, with at most a tenth of the multiplications. **Good** is 70 %, about what the direct network of section 4 reaches. Very good is 85 %. Then go on: a thirtieth?


# %%
def train_small():
    ...


exercises.lab.check(train_small)

# %% slideshow={"slide_type": "skip"}
# exercises.lab.hint()
# exercises.lab.solution()

# %% [markdown]
# ## Summary
#
# - Size, receptive field and cost of a convolution follow from a few formulas, and all three can be measured.
# - A 1 x 1 convolution is a linear layer at every pixel. As a bottleneck it saves nine tenths of the multiplications of the lecture's example, and on our task it did not cost accuracy.
# - Inception runs several kernels side by side. Depthwise separable convolutions take filtering and mixing apart. The clock gives back only a part of what the count promises.
# - A transposed convolution is the adjoint: it stamps and adds. Where the kernel is not divisible by the stride, the stamps are uneven, and a checkerboard shows early in training.
# - Adaptive pooling takes any size. The same weights, made fully convolutional, give a heat map that equals the sliding window.
# - 1-D and 3-D convolutions are the same idea, for signals, volumes and films.
#
# The claims of this run, with their figures:

# %%
summary()

# %% [markdown]
# ### Lecture topics
#
# | topic | section | lectures |
# |---|---|---|
# | C1 convolution arithmetic and the receptive field | 1, 2 | D |
# | C2 the 1 x 1 convolution | 3 | A, C |
# | C3 120,422,400 against 12,443,648 multiplications | 4 | C |
# | C4 the Inception module | 5 | A, C |
# | C5 depthwise separable convolution, inverted residual, MobileNet counted and timed | 6 | E |
# | C6 transposed convolution, adjoint, checkerboard | 7 | A, C |
# | C7 adaptive pooling, fully convolutional networks, heat map | 8 | A |
# | C8 1-D and 3-D convolution | 9 | A |
#
# ### Further reading
# - V. Dumoulin, F. Visin. *A guide to convolution arithmetic for deep learning*. 2016. https://arxiv.org/abs/1603.07285
# - W. Luo, Y. Li, R. Urtasun, R. Zemel. *Understanding the Effective Receptive Field in Deep Convolutional Neural Networks*. NeurIPS 2016. https://arxiv.org/abs/1701.04128
# - K. Simonyan, A. Zisserman. *Very Deep Convolutional Networks for Large-Scale Image Recognition*. ICLR 2015. https://arxiv.org/abs/1409.1556
# - M. Lin, Q. Chen, S. Yan. *Network in Network*. 2013. https://arxiv.org/abs/1312.4400
# - C. Szegedy et al. *Going Deeper with Convolutions*. CVPR 2015. https://arxiv.org/abs/1409.4842 (Inception, GoogLeNet)
# - C. Szegedy et al. *Rethinking the Inception Architecture for Computer Vision*. CVPR 2016. https://arxiv.org/abs/1512.00567
# - A. G. Howard et al. *MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications*. 2017. https://arxiv.org/abs/1704.04861
# - M. Sandler et al. *MobileNetV2: Inverted Residuals and Linear Bottlenecks*. CVPR 2018. https://arxiv.org/abs/1801.04381
# - A. Howard et al. *Searching for MobileNetV3*. ICCV 2019. https://arxiv.org/abs/1905.02244
# - A. Odena, V. Dumoulin, C. Olah. *Deconvolution and Checkerboard Artifacts*. Distill, 2016. https://distill.pub/2016/deconv-checkerboard/
# - M. D. Zeiler, D. Krishnan, G. W. Taylor, R. Fergus. *Deconvolutional Networks*. CVPR 2010.
# - P. Sermanet et al. *OverFeat: Integrated Recognition, Localization and Detection using Convolutional Networks*. ICLR 2014. https://arxiv.org/abs/1312.6229
# - J. Long, E. Shelhamer, T. Darrell. *Fully Convolutional Networks for Semantic Segmentation*. CVPR 2015. https://arxiv.org/abs/1411.4038
# - D. Tran et al. *Learning Spatiotemporal Features with 3D Convolutional Networks*. ICCV 2015. https://arxiv.org/abs/1412.0767
#
# ### Next notebook
# 04 · U-Net: from "what is it" to "which pixels are it".
