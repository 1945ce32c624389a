# %% [markdown]
# # 03 · Convolutions: 1x1, transposed and friends
#
# @BADGES@
#
# **To keep what you write:** on Colab choose *File > Save a copy in Drive*, on Kaggle *Copy & Edit*, before you begin.
#
# **Question:** Which kinds of convolution are there, what does each cost, and what is each good for?
#
# **You will be able to**
# - compute the size of a layer's output, its receptive field and its cost, and check all three,
# - make a network cheaper with 1 x 1 convolutions, and say why fewer multiplications need not mean less time,
# - enlarge pictures with transposed convolutions, and say how much is gained by learning the enlargement.
#
# **Time:** it runs in @TIME@ on two CPU cores; with all sections, the exercises and the lab, about four hours.
# **Before this:** notebook 00 (convolution, padding, stride, channels). The network of section 4 uses batch normalisation (notebook 01) and a learning rate that rises and falls
# (notebook 02, section 3).

# %% [markdown] slideshow={"slide_type": "notes"}
# **A plan for 75 minutes** (the core takes 70, with its exercises)
#
# - **Core:** sections 1, 3, 4 and 7: the arithmetic, the 1 x 1 convolution, the two measures of cost, and the transposed convolution with its checkerboard.
# - **Optional:** 2 (receptive field) and 8 (any image size); 5 (Inception), 6 (depthwise separable) and 9 (one and three dimensions) are short tours, independent of each other.
# - **Where to stop:** after the figure of all up-samplers in section 7. If you are late, stop at the checkerboard.

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
import itertools
import math
import random

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.utils import benchmark
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.mobilenetv2 import InvertedResidual

from utils import critters, datasets
from utils.exercises import convolutions as exercises
from utils.figures import explore, image_grid, show, to_picture
from utils.lessons import claim, fact, measured, summary
from utils.models import num_parameters
from utils.training import evaluate, fit, predict

course_seed = torch.initial_seed()  # as utils.start() has set it

# %% [markdown]
# ## 1. The arithmetic of a convolution (13 min)
#
# Notebook 00 introduced kernel, padding and stride. One parameter is missing: **dilation** $d$ spreads the kernel out, so that its weights lie $d$ pixels apart. A $3 \times 3$
# kernel with $d = 2$ covers $5 \times 5$ pixels, still with nine weights. In general, $k$ weights span $d(k-1) + 1$ pixels. So an image of side $n$ becomes a result of side
#
# $$ \left\lfloor \frac{n + 2p - d(k-1) - 1}{s} \right\rfloor + 1 $$


# %%
def output_side(n, kernel, stride=1, padding=0, dilation=1):
    return (n + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


# %% [markdown]
# **Before you run it:** an image of $8 \times 8$ pixels, kernel 3, stride 2, padding 1. How large is the result? And with $7 \times 7$ pixels?
#
# <details><summary>Answer</summary>
#
# $4 \times 4$, both times: $\lfloor 7 / 2 \rfloor + 1$ and $\lfloor 6 / 2 \rfloor + 1$. With 8 pixels, the last column of the padding is never read. In section 7 we go back from 4
# pixels, and have to choose between 7 and 8.
#
# </details>

# %%
# NBVAL_CHECK_OUTPUT
for n in (8, 7):
    print(f"{n} -> {output_side(n, kernel=3, stride=2, padding=1)}")

# %% [markdown]
# Is the formula right? We try many combinations of values and compare with what PyTorch returns.


# %%
def side_by_pytorch(n, kernel, stride, padding, dilation):
    image, weight = torch.zeros(1, 1, n, n), torch.zeros(1, 1, kernel, kernel)
    return F.conv2d(image, weight, None, stride, padding, dilation).shape[-1]


values = (16, 31), (1, 2, 3, 5), (1, 2, 3), (0, 1, 2), (1, 2, 3)
cases = list(itertools.product(*values))
fact(
    "The formula gives the side of PyTorch's result",
    all(output_side(*case) == side_by_pytorch(*case) for case in cases),
    f"{len(cases)} combinations of side, kernel, stride, padding and dilation",
)

# %% [markdown]
# ### Explore
#
# There is one small picture for each step. Orange pixels are read, and padding is grey. The small pictures are arranged like the pixels of the result: the top left one computes
# its top left pixel. Choose a single `step` to see the result beside it, in blue. "Transposed" goes the other way, from one pixel to many: section 7 explains what that is good
# for.


# %%
# extra code: the steps of a convolution, or of a transposed one, as a picture
def draw_cells(ax, side, rim, marked, colour, corner=(0, 0)):
    """A grid of cells with its corner at (row, column); those outside 0..side-1 are grey: padding, or what is cut off."""
    before, after = rim
    faces = {(i, j): "0.8" for i in range(-before, side + after) for j in range(-before, side + after)}
    faces |= {(i, j): "white" for i in range(side) for j in range(side)} | dict.fromkeys(marked, colour)
    squares = [plt.Rectangle((corner[1] + j, corner[0] + i), 1, 1) for i, j in faces]
    pale = [plt.matplotlib.colors.to_rgb(face) + ((1.0,) if 0 <= min(cell) and max(cell) < side else (0.6,)) for cell, face in faces.items()]
    ax.add_collection(plt.matplotlib.collections.PatchCollection(squares, facecolor=pale, edgecolor="0.4", linewidth=0.8))


def draw_step(kind="convolution", kernel=3, stride=2, padding=1, dilation=1, output_padding=0, step="all"):
    transposed, reach = kind == "transposed", dilation * (kernel - 1) + 1
    small = 3 if transposed else output_side(5, kernel, stride, padding, dilation)
    large = (small - 1) * stride - 2 * padding + reach + output_padding if transposed else 5
    if min(small, large) < 1 or (transposed and output_padding >= max(stride, dilation)):
        fig, ax = plt.subplots(figsize=(8, 2))
        ax.text(0, 0.5, "These values do not fit together: the kernel is larger than the image,\nor the output padding is not smaller than stride or dilation.", fontsize=15)
        ax.axis("off")
        return fig, "No picture: these values do not fit together."
    taps = [a * dilation - padding for a in range(kernel)]
    rim = padding, (max(0, stride * (small - 1) + taps[-1] + 1 - large) if transposed else padding)
    windows = {(i, j): {(stride * i + a, stride * j + b) for a in taps for b in taps} for i in range(small) for j in range(small)}
    colours = ("C0", "C1") if transposed else ("C1", "C0")  # of the large grid, of the small one
    pitch = large + sum(rim) + 1.5
    fig, ax = plt.subplots(figsize=(7.2, 7.2) if step == "all" else (9, 4.8))
    if step == "all":
        for (i, j), window in windows.items():
            draw_cells(ax, large, rim, window, colours[0], (i * pitch, j * pitch))
        what = "each pixel of the input stamps the output" if transposed else "each pixel of the output reads a window"
        title = f"{small**2} steps: {what}"
    else:
        i, j = divmod((step - 1) % small**2, small)
        grids = [(large, rim, windows[i, j], colours[0]), (small, (0, 0), {(i, j)}, colours[1])]
        for number, grid in enumerate(grids[::-1] if transposed else grids):
            draw_cells(ax, *grid, (0 if grid[0] == large else (large - small) / 2, number * (pitch + 1)))
            ax.text(number * (pitch + 1) + grid[0] / 2, large + rim[1] + 1, f"{('input', 'output')[number]}, {grid[0]} x {grid[0]}", ha="center", va="top", fontweight="bold")
        title = f"{kind}, step {(step - 1) % small**2 + 1} of {small**2}"
    ax.set(aspect="equal", title=title)
    ax.autoscale_view()
    ax.invert_yaxis()
    ax.axis("off")
    sides = (small, large) if transposed else (large, small)
    which = f"all {small**2} steps" if step == "all" else f"step {(step - 1) % small**2 + 1} of {small**2}"
    return fig, (f"A {kind.replace('transposed', 'transposed convolution')} with kernel {kernel}, stride {stride}, padding {padding}, dilation {dilation}, {which}: a {sides[0]} x {sides[0]} input gives "
                 f"a {sides[1]} x {sides[1]} output. One pixel of the {'input writes to' if transposed else 'output is computed from'} {kernel**2} cells.")  # fmt: skip


explore(
    draw_step,
    kind=["convolution", "transposed"],
    kernel=[3, 1, 2, 4],
    stride=[2, 1, 3],
    padding=[1, 0, 2],
    dilation=[1, 2],
    output_padding=[0, 1, 2],
    step=["all", *range(1, 26)],
    site={"kernel": [2, 3, 4], "stride": [1, 2], "padding": [0, 1], "dilation": [1, 2], "output_padding": [0], "step": ["all", 1]},
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Set dilation to 2 and padding to 2: the size is the same as with dilation 1 and padding 1. Then set stride to 3: the last columns of the image are never read. This is the
# rounding down in the formula, and the reason why transposed convolutions need an "output padding" later.

# %% [markdown]
# **Exercise 1** (3 min): keep the size. With which padding does a convolution with stride 1 keep the size of the picture, for an odd kernel and any dilation? Return it as an
# integer.
#
# Write your answer in place of the dots and run the cell: the check says what it expected and what it got. Stuck? Remove a `#` in the cell below.


# %%
def same_padding(kernel, dilation):
    return ...


exercises.same_padding.check(same_padding)

# %% slideshow={"slide_type": "skip"}
# exercises.same_padding.hint()
# exercises.same_padding.solution()

# %% [markdown]
# ## 2. The receptive field: what one answer sees (10 min)
#
# One output of the first layer sees $k \times k$ pixels. The next layer reads these outputs, so it sees more of the picture. The **receptive field** $r$ of a stack of layers is
# computed layer by layer. $j$ is the distance, in pixels of the picture, between two neighbouring outputs. We begin with $r = j = 1$, and a layer with kernel $k$, stride $s$ and
# dilation $d$ changes them to
#
# $$ r \leftarrow r + d\,(k-1)\,j, \qquad j \leftarrow j \cdot s $$


# %%
def receptive_field(layers):
    """After each of the layers, which are given as (kernel, stride, dilation)."""
    r, j, fields = 1, 1, []
    for k, s, d in layers:
        r, j = r + d * (k - 1) * j, j * s
        fields.append(r)
    return fields


# %% [markdown]
# It can also be **measured**. Take one output in the middle and compute its gradient with respect to the picture. Where the gradient is not zero, changing the pixel would change
# the output. (All weights are positive here, so that nothing cancels.)


# %%
def measured_field(layers, side=129):
    """The side of the square in which a changed pixel changes one output."""
    image = torch.rand(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    y = image
    for k, s, d in layers:
        y = F.conv2d(y, torch.rand(1, 1, k, k).double(), stride=s, dilation=d)
    y[0, 0, y.shape[2] // 2, y.shape[3] // 2].backward()
    return (image.grad != 0).any(dim=2).sum().item()


# %%
stacks = {
    "three 3x3": [(3, 1, 1)] * 3,
    "one 7x7": [(7, 1, 1)],
    "3x3 with dilation 1, 2, 4, 8": [(3, 1, d) for d in (1, 2, 4, 8)],
    "four times 3x3, then pooling": [(3, 1, 1), (2, 2, 1)] * 4,
    "ResNet's first layers": [(7, 2, 1), (3, 2, 1), (3, 1, 1), (3, 1, 1)],
}
computed = [receptive_field(layers)[-1] for layers in stacks.values()]
fields = [measured_field(layers) for layers in stacks.values()]
for name, *sides in zip(stacks, computed, fields, strict=True):
    print(f"{name:<30} computed {sides[0]:>3}   measured {sides[1]:>3}")

# %%
fact(
    "The receptive field computed from the layers is the one that the gradient shows",
    computed == fields,
    ", ".join(f"{side} pixels" for side in fields),
)

# %% [markdown]
# Look at the first two lines. Three layers of $3 \times 3$ see as much as one of $7 \times 7$. With $C$ channels they have $3 \cdot 9\,C^2 = 27\,C^2$ weights instead of $49\,C^2$,
# and two more ReLUs. That was the idea of VGG (Simonyan and Zisserman 2015). The third line shows that dilation gives a large receptive field with few layers.
#
# **Before you run it:** four blocks of $3 \times 3$ convolution, ReLU and pooling. Does a pixel at the rim of the receptive field have as much influence as one in the middle?
#
# <details><summary>Answer</summary>
#
# No. Many paths lead from a pixel in the middle to the output, but only one from a corner. The influence falls off towards the rim, much like a bell curve. The *effective*
# receptive field, the part that matters in practice, is far smaller than the computed one (Luo et al. 2016).
#
# </details>
#
# Now we use ordinary networks: eight channels, PyTorch's default random weights of both signs, ReLU, max pooling. The picture is as large as the receptive field, so there is one
# output.


# %%
def random_blocks(width=8):
    layers = []
    for c_in in (1, width, width, width):
        layers += [nn.Conv2d(c_in, width, 3), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers)


blocks = receptive_field(stacks["four times 3x3, then pooling"])
image = torch.randn(8, 1, blocks[-1], blocks[-1], requires_grad=True)
for _ in range(200):
    random_blocks()(image).sum().backward()  # the gradients of 200 networks add up
field = image.grad.abs().mean(dim=(0, 1))

# %%
# extra code: the growing receptive field, and the influence of each of its pixels
def field_figure(picture):
    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4.8))
    left.imshow(to_picture(picture))
    for n, r in enumerate(blocks[1::2]):
        corner, colour = 31.5 - r / 2, ("C0", "C1", "C2", "C4")[n]
        left.add_patch(plt.Rectangle((corner, corner), r, r, fill=False, linewidth=6, edgecolor="white"))
        left.add_patch(plt.Rectangle((corner, corner), r, r, fill=False, linewidth=3, edgecolor=colour))
        look = {"color": colour, "fontweight": "bold", "va": "center", "annotation_clip": False}
        left.annotate(f"{r} x {r}", (corner + r, corner), xytext=(66, 28 - 7 * n), arrowprops={"arrowstyle": "-", "color": colour, "lw": 2}, **look)
    left.set(title="What one output sees, block 1 to 4", xticks=[], yticks=[])
    left.grid(False)
    image = right.imshow(field / field.max(), cmap="magma", extent=(0, len(field), len(field), 0))
    right.add_patch(plt.Rectangle((quarter, quarter), len(field) - 2 * quarter, len(field) - 2 * quarter, fill=False, linewidth=2, edgecolor="white"))
    right.set(title=f"Inside the frame: {inner:.0%}", xlabel="pixels", ylabel="pixels")
    right.grid(False)
    fig.colorbar(image, ax=right, label="influence (largest = 1)", shrink=0.8)
    return fig


quarter = len(field) // 4
inner = (field[quarter:-quarter, quarter:-quarter].sum() / field.sum()).item()
evenly = ((len(field) - 2 * quarter) / len(field)) ** 2
tiger = torch.from_numpy(critters.draw("tiger", 1, size=64).image).permute(2, 0, 1)
show(field_figure(tiger), f"Left: a drawn tiger with the squares that one output sees after each of four blocks, {', '.join(map(str, blocks[1::2]))} pixels. "
     f"Right: the influence of each pixel inside the largest square, bright in the middle; the frame around the inner quarter of the area holds {inner:.0%} of it.")  # fmt: skip

# %%
claim(
    "The inner quarter of the receptive field has far more than its share of influence",
    inner > 1.5 * evenly,
    f"{inner:.0%}; evenly spread it would be {evenly:.0%}",
)

# %% [markdown]
# ## 3. The 1 x 1 convolution (10 min)
#
# A kernel of one pixel does not look at any neighbour. What can it be good for? A picture has **channels**, and a $1 \times 1$ convolution mixes them, in the same way at every
# pixel:
#
# $$ y_{c}(i, j) = \sum_{c'} W_{c c'} \, x_{c'}(i, j) + b_c $$
#
# You know one already: a weighted sum of red, green and blue turns a colour picture grey.

# %%
fox = torch.from_numpy(critters.draw("fox", 1, size=64).image).permute(2, 0, 1)
mix = nn.Conv2d(3, 2, kernel_size=1, bias=False)
weights = torch.tensor([[0.30, 0.59, 0.11], [1.0, -1.0, 0.0]])
mix.load_state_dict({"weight": weights[:, :, None, None]})
grey, red = mix(fox[None] / 255).detach()[0]

# %%
# extra code: the fox and its two new channels
show(image_grid([fox, grey, red / 2 + 0.5], titles=["3 channels", "channel 1: grey", "channel 2: red minus green"], columns=3, size=2.6),
     "A drawn fox, orange on green, and two channels that a 1 x 1 convolution makes of its red, green and blue: the grey values, and red minus green, in which the fox is bright.")  # fmt: skip

# %% [markdown]
# Read the formula again: it is a **linear layer**, $W x + b$, where $x$ is the vector of channels at one pixel. The same small network is applied at every pixel. Lin et al. (2013)
# called this *network in network*.

# %%
features = torch.randn(2, 192, 28, 28)
conv = nn.Conv2d(192, 16, kernel_size=1)
linear = nn.Linear(192, 16)
linear.load_state_dict({"weight": conv.weight[:, :, 0, 0], "bias": conv.bias})

# %%
columns = features.permute(0, 2, 3, 1)  # channels last, as a linear layer wants them
at_every_pixel = linear(columns).permute(0, 3, 1, 2)
difference = (conv(features) - at_every_pixel).abs().max().item()
fact(
    "A 1 x 1 convolution is one linear layer, the same at every pixel",
    difference < 1e-5,
    f"largest difference {difference:.0e}, on {at_every_pixel.numel():,} numbers",
)

# %% [markdown]
# **Before you run it:** we shuffle all pixels of the picture, convolve, and put them back in order. Is the result the same as without shuffling? For $1 \times 1$? For
# $3 \times 3$?
#
# <details><summary>Answer</summary>
#
# For $1 \times 1$ yes: it never looks at neighbours. For $3 \times 3$ no. So a network cannot consist of $1 \times 1$ convolutions alone: other layers find the shapes, and the
# $1 \times 1$ convolution condenses what they found.
#
# </details>


# %%
def unshuffled(layer):
    """Shuffle the pixels, apply the layer, put the pixels back."""
    order = torch.randperm(28 * 28)
    shuffled = features.flatten(2)[:, :, order].unflatten(2, (28, 28))
    return layer(shuffled).flatten(2)[:, :, order.argsort()].unflatten(2, (28, 28))


changes = {}
for k in (1, 3):
    layer = nn.Conv2d(192, 16, k, padding=k // 2)
    changes[k] = (unshuffled(layer) - layer(features)).abs().max().item()
fact(
    "A 1 x 1 convolution does not notice that pixels are shuffled; a 3 x 3 one does",
    changes[1] < 1e-5 < 0.1 < changes[3],
    f"largest change {changes[1]:.0e} against {changes[3]:.2f}",
)

# %% [markdown]
# **Exercise 2** (3 min): write a 1 x 1 convolution yourself. `x` is (N, c_in, H, W), `weight` (c_out, c_in), `bias` (c_out,). Return (N, c_out, H, W), without PyTorch's
# convolutions (`conv2d`, `nn.Conv2d` and the like).


# %%
def pointwise(x, weight, bias):
    ...


exercises.pointwise.check(pointwise)

# %% slideshow={"slide_type": "skip"}
# exercises.pointwise.hint()
# exercises.pointwise.solution()

# %% [markdown]
# ## 4. What a convolution costs (19 min)
#
# Each of the $h \cdot w \cdot c_\text{out}$ results needs $k^2 \cdot c_\text{in}$ multiplications:
#
# $$ \text{multiplications} = h \, w \, c_\text{out} \cdot k^2 \, c_\text{in} $$
#
# This is the lecture's example: $28 \times 28$ pixels with 192 channels, and a $5 \times 5$ convolution to 32 channels. We compare it with a **bottleneck**: first a $1 \times 1$
# convolution down to 16 channels, then $5 \times 5$ from 16 to 32.


# %%
# NBVAL_CHECK_OUTPUT
def multiplications(side, c_in, c_out, kernel):
    return side**2 * c_out * kernel**2 * c_in


direct_cost = multiplications(28, 192, 32, kernel=5)
narrowing, widening = multiplications(28, 192, 16, 1), multiplications(28, 16, 32, 5)
print(f"direct      {direct_cost:>11,}")
print(f"bottleneck  {narrowing + widening:>11,} = {narrowing:,} + {widening:,}")

# %% [markdown]
# PyTorch has a counter for this. It watches every operation, and counts a multiplication and the addition that follows it as **two** operations (FLOPs). Papers often count the
# pair as one: a multiply-accumulate, **MAC**. Always ask which one is meant.
#
# Counting needs only shapes, not numbers. So we build the layers on the device `meta` (notebook 02, section 1), where tensors have a shape but no contents.


# %%
def count_macs(model, *shape):
    """Multiply-accumulates of one forward pass: half of what PyTorch's counter says."""
    place = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(shape, device=place))
    return counter.get_total_flops() // 2


# %%
def direct_layer():
    return nn.Conv2d(192, 32, 5, padding=2)


def bottleneck_layer():
    return nn.Sequential(nn.Conv2d(192, 16, 1), nn.Conv2d(16, 32, 5, padding=2))


makers = direct_layer, bottleneck_layer
with torch.device("meta"):
    counted = [count_macs(make(), 1, 192, 28, 28) for make in makers]
fact(
    "The direct layer needs 120,422,400 multiplications, the bottleneck 12,443,648",
    counted == [direct_cost, narrowing + widening] == [120_422_400, 12_443_648],
    f"by formula and by counter; a factor of {counted[0] / counted[1]:.2f}",
)

# %% [markdown]
# ### By the clock
#
# With a tenth of the multiplications, is it ten times as fast? Other programs may disturb a measurement, so the two take turns, and only the fastest of several rounds counts.
# `benchmark.Timer` also waits until a GPU has finished.


# %%
def best_times(models, images, rounds=5):
    """Seconds of the fastest forward pass of each model; the models take turns."""
    timers = [
        benchmark.Timer("model(images)", globals={"model": model, "images": images},
                        num_threads=torch.get_num_threads()) for model in models
    ]  # fmt: skip
    with torch.inference_mode():
        taken = [[timer.timeit(1).mean for timer in timers] for _ in range(rounds)]
    return np.min(taken, axis=0)


# %%
images = torch.randn(32, 192, 28, 28, device=device)
times = best_times([make().to(device).eval() for make in makers], images, rounds=10)
print(f"direct {1e3 * times[0]:.1f} ms, bottleneck {1e3 * times[1]:.1f} ms")
faster, fewer = times[0] / times[1], counted[0] / counted[1]
print(f"{faster:.1f} times as fast, with {fewer:.1f} times fewer multiplications")

# %% [markdown]
# Time is spent on more than multiplications. Two layers must be started instead of one, and the result in between is written to memory and read again. The ratio therefore depends
# on the machine: a large GPU spends most of the time starting the layers, and may show almost no difference. That is why this figure is only printed, not claimed.
#
# ### Does the bottleneck cost accuracy?
#
# The slide says that a bottleneck "does not impact performance". That is a claim about learning, so we train. The data are drawings of six animals, 32 x 32 pixels. The network
# stays the same except for its **middle layer**.

# %% tags=["measure"]
species = ["fox", "panda", "tiger", "owl", "rabbit", "frog"]
parts = datasets.critters(species, num_train=1200, num_val=300, num_test=900, size=32)
train_set, val_set, test_set = parts


def prepare(images):
    """Bytes to numbers around zero."""
    return (images.float() / 255 - 0.5) / 0.25


# %%
# extra code: twelve of the drawings
first_names = [species[i] for i in train_set.targets["label"][:12]]
show(image_grid(train_set.images[:12], titles=first_names, columns=6, size=1.6),
     f"Twelve of the {len(train_set):,} drawings to train on, of six species: {', '.join(species)}.")  # fmt: skip


# %% tags=["measure"]
def conv_block(c_in, c_out, kernel, stride=1):
    """Convolution, batch normalisation, ReLU. It keeps the side; stride 2 halves it."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU())


def network(middle):
    """From 32 x 32 pixels to six classes. `middle` takes 64 channels and gives 48."""
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 6)]
    stem = [conv_block(3, 16, 3, stride=2), conv_block(16, 64, 3, stride=2)]
    return nn.Sequential(*stem, middle, *head)


# %% tags=["measure"]
def direct():
    return conv_block(64, 48, 5)


def bottleneck(width):
    return nn.Sequential(conv_block(64, width, 1), conv_block(width, 48, 5))


# %% [markdown]
# Note that the bottleneck also adds a layer. To tell the two changes apart, a third network has the added $1 \times 1$ layer but **keeps** its 64 channels.
#
# All are trained alike. (The optimizer is AdamW, which is Adam with weight decay: notebook 08. Its learning rate rises and then falls, as in notebook 02.) All other
# options, such as `loss_fn`, `metrics` and `progress`, are handed on to `fit`.

# %% tags=["measure"]
def train(model, inputs, targets, lr, num_epochs, batch_size=32, **options):
    data = TensorDataset(inputs, targets)
    loader = DataLoader(data, batch_size=batch_size, shuffle=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, lr, total_steps=num_epochs * len(loader)
    )
    options |= {
        "num_epochs": num_epochs, "optimizer": optimizer, "scheduler": scheduler
    }  # fmt: skip
    return fit(model, loader, **options)


def accuracy(model, inputs, targets):
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=100)
    return evaluate(model, loader)["accuracy"]


# %% tags=["measure"]
def trained_accuracy(make_middle, seed, lr=1.6e-2, num_epochs=10, progress=None):
    """Train the network with this middle layer: its accuracy on validation and test."""
    torch.manual_seed(seed)
    model = network(make_middle()).to(device)
    inputs, targets = prepare(train_set.images), train_set.targets["label"]
    train(model, inputs, targets, lr, num_epochs, progress=progress)
    parts = val_set, test_set
    return [accuracy(model, prepare(x.images), x.targets["label"]) for x in parts]


# %%
with torch.device("meta"):
    middles = {"direct": direct()}
    middles |= {f"through {width}": bottleneck(width) for width in (64, 8)}
    middle_macs = {name: count_macs(m, 1, 64, 8, 8) for name, m in middles.items()}
    for name, count in middle_macs.items():
        print(f"{name:<10} {count:>9,} multiplications")
    baseline_macs = count_macs(network(direct()), 1, 3, 32, 32)

# %% [markdown]
# **Before you run it:** we train each network with three seeds. Which do you expect to be more accurate on new drawings: the direct one, the bottleneck, or neither?
#
# <details><summary>Answer</summary>
#
# With eight channels you will hardly see a difference: these drawings need no more, and the bottleneck has an extra layer and an extra ReLU. With one channel the network loses a
# lot of accuracy: everything that it has seen must pass through that channel.
#
# </details>

# %%
seeds = [10 * course_seed + k for k in range(3)]
makers = {
    "direct": direct,
    "through 64": lambda: bottleneck(64),
    "through 8": lambda: bottleneck(8),
    "through 1": lambda: bottleneck(1),
}
live = {}
for name, make in makers.items():
    results = [trained_accuracy(make, seed, progress=name) for seed in seeds]
    live[name] = np.array([test for _, test in results])
    print(f"{name:<10}", *[f"{share:.1%}" for share in live[name]])

# %%
claim(
    "A bottleneck of one channel is too narrow: it costs more than 15 points",
    (live["direct"] - live["through 1"]).min() > 0.15,
    "; ".join(f"{name} {shares.mean():.1%}" for name, shares in live.items()),
    same=f"{len(train_set):,} drawings, 10 epochs, one learning rate, three seeds",
)

# %% [markdown]
# Three seeds at one budget are too few to answer the finer question, whether eight channels cost anything. So we measured more beforehand: for 10 and for 40 epochs, each with the
# better of two learning rates, chosen on validation drawings. (Width 0 means the direct layer.)

# %%
rows = measured("bottleneck")


def by_width(width, epochs=10):
    """Accuracy on new drawings in per cent, one for each seed."""
    wanted = [row for row in rows if (row["width"], row["epochs"]) == (width, epochs)]
    return np.array([row["test"] for row in wanted])


# %%
# extra code: accuracy against the width of the bottleneck; the direct layer as a band
def width_figure():
    fig, ax = plt.subplots(figsize=(9, 5))
    widths = [1, 2, 4, 8, 16, 64]
    for epochs, colour, shown in ((10, "C0", widths), (40, "C1", [8, 64])):
        direct = by_width(0, epochs)
        ax.axhspan(direct.min(), direct.max(), color=colour, alpha=0.13, linewidth=0)
        ax.axhline(direct.mean(), color=colour, linestyle="--")
        for width in shown:
            ax.plot([width] * len(direct), by_width(width, epochs), "o", color=colour, alpha=0.45, markersize=9)
        ax.plot(shown, [by_width(width, epochs).mean() for width in shown], color=colour)
    ax.annotate("through a bottleneck, 10 epochs", (2.1, 60), color="C0", fontweight="bold")
    ax.annotate("40 epochs; dashed: direct, its mean and range", (1, by_width(0, 40).max()), xytext=(0, 6), textcoords="offset points", color="C1", fontweight="bold")
    ax.set_xscale("log", base=2)
    ax.set(xticks=widths, xticklabels=widths, xlabel="channels of the bottleneck", ylabel="correct on new drawings, %")
    ax.set_title("Below eight channels accuracy falls")
    ax.margins(y=0.12)
    ax.minorticks_off()
    return fig


show(width_figure(), "Accuracy against the width of the bottleneck, one dot per seed. Means after 10 epochs: " + ", ".join(f"{width} channels {by_width(width).mean():.0f} %" for width in (1, 2, 4, 8, 16, 64))
     + f"; direct {by_width(0).mean():.0f} %. After 40 epochs: " + ", ".join(f"{width} channels {by_width(width, 40).mean():.0f} %" for width in (8, 64)) + f", direct {by_width(0, 40).mean():.0f} %.")  # fmt: skip

# %%
for epochs in (10, 40):
    gains = {width: by_width(width, epochs) - by_width(0, epochs) for width in (8, 64)}
    means = [f"through {width} {gain.mean():+.1f}" for width, gain in gains.items()]
    print(f"{epochs} epochs, points against direct:", *means, sep="   ")

# %% [markdown]
# Compared with the direct layer, eight channels lose nothing at either budget. So the slide is right about what it compares. Compared with the network that has the same added
# layer and all 64 channels, they do lose something, at least after 40 epochs. The extra layer makes up for part of what the bottleneck costs.

# %% [markdown]
# **Exercise 3** (3 min): how wide may a bottleneck be? A convolution of `kernel` x `kernel` from `c_in` to `c_out` channels becomes a bottleneck: 1 x 1 to `b` channels, then
# `kernel` x `kernel` to `c_out`. Return the largest `b` for which both layers together need at most the fraction `share` of the direct multiplications.


# %%
def widest_bottleneck(c_in, c_out, kernel, share):
    return ...


exercises.widest_bottleneck.check(widest_bottleneck)

# %% slideshow={"slide_type": "skip"}
# exercises.widest_bottleneck.hint()
# exercises.widest_bottleneck.solution()

# %% [markdown]
# ## 5. A tour: the Inception module (8 min)
#
# Which is best, a kernel of $1 \times 1$, $3 \times 3$ or $5 \times 5$, or pooling? Szegedy et al. (2015) did not choose. They ran all four side by side and **concatenated** the
# channels. That is affordable only with the bottleneck of section 4 in front of the large kernels. This is **Inception module** 3a of their GoogLeNet, from 192 channels to 256:
#
# | branch | layers |
# |---|---|
# | 1x1 | 1x1 to 64 channels |
# | 3x3 | 1x1 to 96, then 3x3 to 128 |
# | 5x5 | 1x1 to 16, then 5x5 to 32 |
# | pool | 3x3 max pooling with stride 1, then 1x1 to 32 |


# %%
def conv_relu(c_in, c_out, kernel):
    conv = nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2)
    return nn.Sequential(conv, nn.ReLU())


class Inception(nn.Module):
    def __init__(self, c_in, c1, c3_reduced, c3, c5_reduced, c5, c_pool):
        super().__init__()
        three = conv_relu(c_in, c3_reduced, 1), conv_relu(c3_reduced, c3, 3)
        five = conv_relu(c_in, c5_reduced, 1), conv_relu(c5_reduced, c5, 5)
        pool = nn.MaxPool2d(3, stride=1, padding=1), conv_relu(c_in, c_pool, 1)
        self.branches = nn.ModuleDict({
            "1x1": conv_relu(c_in, c1, 1),
            "3x3": nn.Sequential(*three),
            "5x5": nn.Sequential(*five),
            "pool": nn.Sequential(*pool),
        })  # fmt: skip

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches.values()], dim=1)


# %% [markdown]
# All four branches keep height and width, so their outputs can be concatenated. These are their costs:

# %%
# NBVAL_CHECK_OUTPUT
with torch.device("meta"):
    inception_3a = Inception(192, 64, 96, 128, 16, 32, 32)
    x = torch.zeros(1, 192, 28, 28)
for name, module in [*inception_3a.branches.items(), ("all", inception_3a)]:
    channels, macs = module(x).shape[1], count_macs(module, *x.shape)
    print(f"{name:<5}{channels:>4} channels {num_parameters(module):>8,} weights"
          f" {macs:>12,} MACs")  # fmt: skip

# %% [markdown]
# Read the third line again: 12,443,648 multiplications. The lecture's example *is* this branch. What would the same three kernels cost if they read all 192 channels directly?

# %%
with torch.device("meta"):
    direct_branches = [conv_relu(192, c, k) for c, k in ((64, 1), (128, 3), (32, 5))]
    naive_macs = sum(count_macs(branch, *x.shape) for branch in direct_branches)
inception_macs = count_macs(inception_3a, *x.shape)
fact(
    "Without the 1 x 1 convolutions, Inception 3a costs more than twice as much",
    naive_macs > 2 * inception_macs,
    f"{naive_macs:,} multiplications instead of {inception_macs:,}",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# The paper's table gives 159K weights and 128M operations for this module. (Ours has 163,328 without the biases, which is 159.5 times 1,024; that seems to be how the authors
# counted.) The pooling branch needs its 1 x 1 convolution because it would otherwise keep all 192 channels, and the next module would read 416.
#
# Open torchvision's googlenet.py and look at branch3: it has a 3 x 3 kernel where the paper has 5 x 5. A comment there calls it a known bug. Published code and published papers
# are not always the same network.

# %% [markdown]
# ## 6. A tour: depthwise separable convolution (12 min)
#
# A convolution does two things at once: it looks at neighbours, and it mixes channels. A separable convolution does them one after the other:
#
# 1. **depthwise:** each channel is filtered separately, with its own kernel (`groups=channels`),
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
with torch.device("meta"):
    full = nn.Conv2d(192, 192, 3, padding=1, bias=False)
    full_macs = count_macs(full, *x.shape)
    apart_macs = count_macs(separable(192, 192), *x.shape)
fact(
    "A separable convolution needs only 1/c_out + 1/k² of the multiplications",
    math.isclose(apart_macs / full_macs, 1 / 192 + 1 / 9),
    f"{apart_macs:,} instead of {full_macs:,}: {apart_macs / full_macs:.1%}",
)

# %% [markdown]
# ### The inverted residual
#
# MobileNet (Howard et al. 2017) is made of these. MobileNetV2 (Sandler et al. 2018) turns the bottleneck inside out: **narrow outside, wide inside**. A $1 \times 1$ convolution
# multiplies the number of channels by $6$. The cheap depthwise convolution works on these many channels. Another $1 \times 1$ convolution, without ReLU, reduces them again. A skip
# connection (notebook 02) goes around the whole block.


# %%
class OurInvertedResidual(nn.Module):
    def __init__(self, c, expand=6):
        super().__init__()
        wide = expand * c
        filters = nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False)
        self.layers = nn.Sequential(
            nn.Conv2d(c, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(),
            filters, nn.BatchNorm2d(wide), nn.ReLU6(),
            nn.Conv2d(wide, c, 1, bias=False), nn.BatchNorm2d(c),
        )  # fmt: skip

    def forward(self, x):
        return x + self.layers(x)


# %% [markdown]
# Is that the same as torchvision's block? We copy their weights into ours, in order, and compare the outputs.

# %%
ours = OurInvertedResidual(24).eval()
theirs = InvertedResidual(24, 24, stride=1, expand_ratio=6).eval()
theirs_in_order = theirs.state_dict().values()
ours.load_state_dict(dict(zip(ours.state_dict(), theirs_in_order, strict=True)))
x = torch.randn(2, 24, 28, 28)
difference = (ours(x) - theirs(x)).abs().max().item()
fact(
    "Our inverted residual equals torchvision's: the same weights, the same outputs",
    difference < 1e-5 and num_parameters(ours) == num_parameters(theirs),
    f"{num_parameters(ours):,} weights, largest difference {difference:.0e}",
)

# %% [markdown]
# ### Whole networks, counted and timed
#
# On the device `meta` a network with 138 million weights takes no memory. So we can count the multiplications of well-known networks, for one picture of $224 \times 224$ pixels.
# Torchvision publishes its own counts with its weights, and the accuracy on ImageNet (*top-1*: the most probable class is the right one). We only read these accuracies; we do not
# measure them.

# %%
names = "vgg16 resnet50 resnet18 mobilenet_v2 mobilenet_v3_large mobilenet_v3_small"
names = names.split()
macs, gaps = {}, []
for name in names:
    with torch.device("meta"):
        model = torchvision.models.get_model(name).eval()
    macs[name] = count_macs(model, 1, 3, 224, 224)
    meta = next(iter(torchvision.models.get_model_weights(name))).meta
    gaps.append(abs(macs[name] / 1e9 / meta["_ops"] - 1))
    top1 = meta["_metrics"]["ImageNet-1K"]["acc@1"]
    print(f"{name:<19}{macs[name] / 1e6:>7,.0f} million MACs"
          f" {num_parameters(model):>12,} weights, top-1 {top1:.1f} %")  # fmt: skip
fact(
    "These counts agree with those that torchvision publishes, to within one per cent",
    max(gaps) < 0.01,
    f"largest gap {max(gaps):.1%}, over {len(gaps)} networks",
)

# %% [markdown]
# **Before you run it:** MobileNetV2 needs a sixth of ResNet-18's multiplications. Is it six times as fast?
#
# <details><summary>Answer</summary>
#
# Not even close. A depthwise convolution does little work for each number that it fetches from memory, so the processor waits for memory. A large $3 \times 3$ convolution keeps it
# busy. The number of multiplications depends only on the network. The time depends on the network *and* the machine.
#
# </details>


# %%
def random_network(name):
    """The network with some weights: enough for the clock."""
    with torch.device("meta"):
        model = torchvision.models.get_model(name)
    model = model.to_empty(device=device).eval().to(memory_format=torch.channels_last)
    for value in model.state_dict().values():
        value.fill_(0.01)
    return model


photos = torch.rand(4, 3, 224, 224, device=device)
photos = photos.to(memory_format=torch.channels_last)
taken = best_times([random_network(name) for name in names], photos, rounds=2)
seconds = dict(zip(names, taken / len(photos), strict=True))

# %%
fewer = {name: macs["resnet18"] / macs[name] for name in names}
faster = {name: seconds["resnet18"] / seconds[name] for name in names}
mobile = [name for name in names if name.startswith("mobilenet")]
claim(
    "Measured in time, MobileNets save less over ResNet-18 than their"
    " multiplications promise",
    all(faster[name] < 0.75 * fewer[name] for name in mobile),
    "; ".join(f"{n}: {fewer[n]:.0f} times fewer multiplications,"
              f" {faster[n]:.1f} times as fast" for n in mobile),
    same=f"{len(photos)} pictures of 224 x 224, best of two rounds",
)  # fmt: skip


# %%
# extra code: seconds against multiplications, and the line of ResNet-18's speed
def clock_figure():
    fig, ax = plt.subplots(figsize=(9, 5.4))
    line = np.array([0.6 * min(macs.values()), 1.6 * max(macs.values())])
    ax.plot(line / 1e9, 1e3 * seconds["resnet18"] * line / macs["resnet18"], color="0.6", linestyle="--", zorder=1)
    ax.annotate("as fast as ResNet-18\nfor each multiplication", (line[0] / 1e9, 1e3 * seconds["resnet18"] * line[0] / macs["resnet18"]), xytext=(75, -14), textcoords="offset points", color="0.4")
    places = {"mobilenet_v2": (14, -5, "left"), "mobilenet_v3_large": (-14, -5, "right"), "mobilenet_v3_small": (-14, -5, "right")}
    for name in names:
        colour, (dx, dy, side) = "C1" if name in mobile else "C0", places.get(name, (0, 14, "center"))
        ax.plot(macs[name] / 1e9, 1e3 * seconds[name], "o", color=colour, markersize=14)
        ax.annotate(name.removeprefix("mobilenet_"), (macs[name] / 1e9, 1e3 * seconds[name]), xytext=(dx, dy), textcoords="offset points", color=colour, ha=side, fontweight="bold")
    ax.set_xscale("log"), ax.set_yscale("log")
    ax.set(xlabel="billion multiply-accumulates per picture (log scale)", ylabel="ms per picture (log scale)", title="MobileNets (orange) lie above ResNet-18's line")
    ax.xaxis.set_major_formatter("{x:g}"), ax.yaxis.set_major_formatter("{x:g}")
    ax.margins(0.12, 0.2)
    return fig


show(clock_figure(), f"Milliseconds per picture against billions of multiply-accumulates, on this machine ({device.type.upper()}). Dashed: networks that would need as much time per multiplication as ResNet-18.")

# %% [markdown] slideshow={"slide_type": "notes"}
# Errata of the slides: 1,280 is the width of MobileNet's feature vector, not the number of ImageNet's classes (1,000). On a phone, with code optimised for these layers, more of
# the saving shows up in the time; on a large GPU, less.

# %% [markdown]
# ## 7. The way back up: transposed convolution (28 min)
#
# Stride makes pictures smaller. A network whose output is a picture (segmentation in notebook 04, generation in 09) has to make them larger again. A convolution reads $k \times k$
# pixels and writes one. A **transposed** convolution does the reverse: it reads one pixel and writes $k \times k$, the kernel times the pixel's value, like a stamp. Where stamps
# overlap, they are **added**.


# %%
def by_stamping(x, kernel, stride):
    """Each pixel stamps the kernel, times its value, onto the result."""
    k = len(kernel)
    height, width = ((side - 1) * stride + k for side in x.shape)
    result = torch.zeros(height, width)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            top, left = i * stride, j * stride
            result[top : top + k, left : left + k] += x[i, j] * kernel
    return result


# %% [markdown]
# **By hand:** take four pixels, 1 and 2 above 3 and 4, and a kernel of $3 \times 3$ with the rows (1, 2, 1), (2, 4, 2) and (1, 2, 1). With stride 2, which number stands in the
# middle of the result? Work it out on paper.
#
# <details><summary>Answer</summary>
#
# 10: all four stamps reach the middle, each with a corner of the kernel, which is 1. So it is 1 + 2 + 3 + 4.
#
# </details>

# %%
# NBVAL_CHECK_OUTPUT
four = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
kernel = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]])
stamped = by_stamping(four, kernel, stride=2)
stamped


# %%
# extra code: four pixels in four colours, the kernel, and the stamps that overlap
def stamps_by_hand():
    fig, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 5), width_ratios=[2, 3, 5])
    colours = [plt.matplotlib.colors.to_rgba(f"C{n}", 0.45) for n in (0, 1, 2, 4)]

    def cell(ax, i, j, faces, text, bold=False):
        rows = 2 if len(faces) == 4 or (len(faces) == 2 and i == 2) else 1  # one part above the other, or beside it
        across = len(faces) // rows
        for n, face in enumerate(faces):
            ax.add_patch(plt.Rectangle((j + n % across / across, i + n // across / rows), 1 / across, 1 / rows, facecolor=face, linewidth=0))
        ax.add_patch(plt.Rectangle((j, i), 1, 1, fill=False, edgecolor="black", linewidth=3.5 if bold else 0.8, zorder=3 if bold else 2))
        ax.text(j + 0.5, i + 0.5, text, ha="center", va="center", fontsize=15, fontweight="bold" if bold else None, zorder=4)

    for i, j in itertools.product(range(2), range(2)):
        cell(left, i, j, [colours[2 * i + j]], f"{four[i, j]:.0f}")
    for i, j in itertools.product(range(3), range(3)):
        cell(middle, i, j, ["0.92"], f"{kernel[i, j]:.0f}")
    for i, j in itertools.product(range(5), range(5)):
        on = [(a, b) for a in range(2) for b in range(2) if 0 <= i - 2 * a < 3 and 0 <= j - 2 * b < 3]
        terms = [f"{four[a, b] * kernel[i - 2 * a, j - 2 * b]:.0f}" for a, b in on]
        text = terms[0] if len(on) == 1 else "+".join(terms[:2]) + ("\n+" + "+".join(terms[2:]) if len(on) == 4 else "")
        cell(right, i, j, [colours[2 * a + b] for a, b in on], text, bold=len(on) > 1)
    for ax, side, title in ((left, 2, "input"), (middle, 3, "kernel"), (right, 5, "framed: written more than once")):
        ax.set(xlim=(-0.06, side + 0.06), ylim=(side + 0.06, -0.06), aspect="equal")
        ax.set_title(title, loc="center")
        ax.axis("off")
    return fig


show(stamps_by_hand(), "Four pixels with the values 1 to 4, each in its own colour; a kernel of 3 x 3; and the 5 x 5 pixels of the result, in the colours of the stamps that fall on them. Nine pixels form a framed cross: "
     "eight are the sum of two stamps, the middle one of four, 1 + 2 + 3 + 4.")  # fmt: skip

# %% [markdown]
# Divide this kernel by 4 and look at the inner $3 \times 3$ pixels: 1, 1.5, 2 in the first row. That is **bilinear interpolation**. So interpolation is a transposed convolution
# with a kernel that somebody chose. A network can *learn* the kernel instead. Whether that pays is the question at the end of this section.
#
# A second way gives the same numbers: put $s - 1$ **zeros between the pixels**, pad with $k - 1$ zeros, and convolve as usual, with the kernel rotated by 180 degrees.


# %%
def by_zeros(x, kernel, stride):
    """Insert zeros, then an ordinary convolution with the turned kernel."""
    height, width = ((side - 1) * stride + 1 for side in x.shape)
    spread = torch.zeros(height, width)
    spread[::stride, ::stride] = x
    turned = kernel.flip(0, 1)[None, None]
    return F.conv2d(spread[None, None], turned, padding=len(kernel) - 1)[0, 0]


# %%
small, layer = torch.rand(4, 5), nn.ConvTranspose2d(1, 1, 3, stride=2, bias=False)
weight = layer.weight[0, 0].detach()
by_layer = layer(small[None, None])[0, 0].detach()
others = by_stamping(small, weight, 2), by_zeros(small, weight, 2)
difference = max((by_layer - other).abs().max().item() for other in others)
fact(
    "Stamps, inserted zeros and nn.ConvTranspose2d give the same numbers",
    difference < 1e-5,
    f"{tuple(by_layer.shape)} pixels, largest difference {difference:.0e}",
)

# %% [markdown]
# ### Why "transposed"?
#
# A convolution is linear, so it is a matrix $A$: $y = A x$. With stride 2 this matrix has fewer rows than columns. The transposed convolution with the same kernel has the matrix
# $A^\top$. It is *not* the inverse: it restores the size, not the picture. The transposed matrix is defined by the **adjoint identity**: for all $x$ and $y$ (where
# $\langle a, b \rangle$ is the sum of the products of their numbers)
#
# $$ \langle A x,\; y \rangle = \langle x,\; A^\top y \rangle $$


# %%
def as_matrix(function, n):
    """The matrix of a linear function of n numbers: a column for each unit signal."""
    return function(torch.eye(n)[:, None])[:, 0].T


weights = torch.tensor([[[1.0, 2.0, 3.0]]])
A = as_matrix(lambda x: F.conv1d(x, weights, stride=2), 9)
A_transposed = as_matrix(lambda y: F.conv_transpose1d(y, weights, stride=2), 4)


# %%
# extra code: both matrices, their numbers written in
def matrices_figure():
    fig, axes = plt.subplots(1, 2, figsize=(10, 4.8), width_ratios=[9, 4])
    for ax, (name, M) in zip(axes, {"conv1d, stride 2: A": A, "conv_transpose1d": A_transposed}.items(), strict=True):
        ax.imshow(M, cmap="Oranges", vmin=0, vmax=5)
        for i, j in torch.cartesian_prod(torch.arange(M.shape[0]), torch.arange(M.shape[1])).tolist():
            ax.text(j, i, f"{M[i, j]:.0f}", ha="center", va="center", color="black" if M[i, j] else "0.6")
        ax.set(xticks=[], yticks=[])
        ax.set_title(name, loc="center")
        ax.grid(False)
    return fig


show(matrices_figure(), "The matrix of a 1-D convolution with kernel (1, 2, 3) and stride 2, 4 x 9: each row contains the kernel, two places further right than the row before. The matrix of the transposed convolution "
     "is the same one, mirrored in its diagonal, 9 x 4.")  # fmt: skip

# %% [markdown]
# You have been using it all along: the **backward pass** of a convolution is the transposed convolution. It carries the gradient from the small result back to the large picture.

# %%
x = torch.randn(2, 3, 31, 31, dtype=torch.float64, requires_grad=True)
y = torch.randn(2, 8, 16, 16, dtype=torch.float64)
weight = torch.randn(8, 3, 3, 3, dtype=torch.float64)
Ax = F.conv2d(x, weight, stride=2, padding=1)
Aty = F.conv_transpose2d(y, weight, stride=2, padding=1)
(gradient,) = torch.autograd.grad(Ax, x, y, retain_graph=True)

# %%
left, right = (Ax * y).sum().item(), (x * Aty).sum().item()
fact(
    "The transposed convolution is the adjoint of the convolution, and its gradient",
    math.isclose(left, right, abs_tol=1e-6) and torch.allclose(gradient, Aty),
    f"<Ax, y> = {left:.6f}, <x, A'y> = {right:.6f}",
)

# %% [markdown]
# ### How large is the result?
#
# Solve the formula of section 1 for $n$. There is a catch: 7 and 8 pixels both became 4. Which of the two do you want back? **Output padding** $o$ decides. (It does not pad with
# zeros; it only makes the result $o$ pixels larger.)
#
# $$ (n - 1)\,s - 2p + d\,(k - 1) + 1 + o $$

# %%
# NBVAL_CHECK_OUTPUT
for o in (0, 1):
    layer = nn.ConvTranspose2d(1, 1, 3, stride=2, padding=1, output_padding=o)
    print(f"4 -> {layer(torch.zeros(1, 1, 4, 4)).shape[-1]} with output padding {o}")

# %% [markdown]
# **Exercise 4** (2 min): output padding. A convolution (without dilation) makes an image of side `n` smaller. Which output padding does the transposed convolution with the same
# `kernel`, `stride` and `padding` need, so that it gives `n` back? Return an integer.


# %%
def output_padding(n, kernel, stride, padding):
    return ...


exercises.output_padding.check(output_padding)

# %% slideshow={"slide_type": "skip"}
# exercises.output_padding.hint()
# exercises.output_padding.solution()

# %% [markdown]
# ### The checkerboard
#
# How many stamps fall on each pixel of the result? We set all inputs and all weights to 1 and count.
#
# **Before you run it:** with kernel 3 and stride 2, do all pixels get the same number of stamps? And with kernel 4?
#
# <details><summary>Answer</summary>
#
# With kernel 3, no: 3 is not divisible by 2, so along each axis a pixel gets one stamp and its neighbour gets two. In two dimensions this gives 1, 2 and 4: a **checkerboard**.
# With kernel 4 each pixel gets four stamps.
#
# </details>


# %%
def stamp_counts(kernel, stride, n=12):
    ones = torch.ones(1, 1, n, n), torch.ones(1, 1, kernel, kernel)
    counts = F.conv_transpose2d(*ones, stride=stride)[0, 0]
    return counts[kernel:-kernel, kernel:-kernel]  # the rim has fewer


pairs = [(k, s) for s in (2, 3) for k in range(s, 7)]
even = [(k, s) for k, s in pairs if stamp_counts(k, s).unique().numel() == 1]
divisible = [(k, s) for k, s in pairs if k % s == 0]
fact(
    "The stamps are even exactly when the kernel size is divisible by the stride",
    even == divisible,
    "kernel and stride " + ", ".join(f"{k} and {s}" for k, s in even),
)


# %%
# extra code: the counts as grey squares with their numbers
def stamps_figure():
    fig, axes = plt.subplots(1, 2, figsize=(8, 4.3))
    for ax, kernel in zip(axes, (3, 4), strict=True):
        count = stamp_counts(kernel, 2)[:6, :6]
        ax.imshow(count, cmap="gray", vmin=0, vmax=1.3 * count.max())
        for i, j in torch.cartesian_prod(torch.arange(6), torch.arange(6)).tolist():
            ax.text(j, i, f"{count[i, j]:.0f}", ha="center", va="center", fontsize=15, color="white" if count[i, j] < 0.7 * count.max() else "black")
        ax.set(xticks=[], yticks=[])
        ax.set_title(f"kernel {kernel}, stride 2", loc="center")
        ax.grid(False)
    return fig


show(stamps_figure(), "How many stamps fall on each pixel of the result. Kernel 3 with stride 2: rows of 1, 2 and of 2, 4, a checkerboard. Kernel 4 with stride 2: 4 everywhere.")

# %% [markdown]
# In that count all weights were equal. The weights of a real layer start as random numbers. So what do real layers do?
#
# The task: enlarge drawings from 32 x 32 to 64 x 64 pixels. The network is always the same, two layers of $3 \times 3$ that correct the bilinear result; only the **up-sampler** at
# its end changes. One of the up-samplers, **resize-convolution** (Odena et al. 2016), enlarges by nearest neighbour and then convolves. In another, the enlargement itself is *not
# learned*: a convolution is followed by bilinear interpolation.

# %% tags=["measure"]
parts = datasets.critters(num_train=400, num_val=120, num_test=120, size=64)
large, large_val, large_new = (part.images.float() / 255 - 0.5 for part in parts)
halved, halved_val, halved_new = (
    F.avg_pool2d(x, 2) for x in (large, large_val, large_new)
)


# %% tags=["measure"]
def transposed(kernel, c_in=16, **options):
    """Twice the side, whatever the kernel."""
    padding = {"padding": (kernel - 1) // 2, "output_padding": kernel % 2}
    return nn.ConvTranspose2d(c_in, 3, kernel, stride=2, **padding, **options)


def conv(c_in, c_out):
    return nn.Conv2d(c_in, c_out, 3, padding=1)


up_samplers = {
    "transposed, kernel 3": lambda: transposed(3),
    "transposed, kernel 4": lambda: transposed(4),
    "resize-convolution": lambda: nn.Sequential(
        nn.Upsample(scale_factor=2), conv(16, 3)
    ),
    "fixed: bilinear": lambda: nn.Sequential(
        conv(16, 3), nn.Upsample(scale_factor=2, mode="bilinear")
    ),
}


# %% tags=["measure"]
class Enlarger(nn.Module):
    def __init__(self, up_sampler):
        super().__init__()
        layers = conv(3, 16), nn.ReLU(), conv(16, 16), nn.ReLU()
        self.correction = nn.Sequential(*layers, up_samplers[up_sampler]())

    def forward(self, x):
        bilinear = F.interpolate(x, scale_factor=2, mode="bilinear")
        return bilinear + self.correction(x)


# %% tags=["measure"]
def enlarged(model, pictures):
    loader = DataLoader(TensorDataset(pictures, pictures), batch_size=40)
    return predict(model, loader)[0]


def train_enlarger(model, num_epochs, lr=5e-3):
    train(model, halved, large, lr, num_epochs, batch_size=8,
          loss_fn=F.mse_loss, metrics={}, progress=None)  # fmt: skip


# %% [markdown]
# The test for a checkerboard is simple. A picture of **one colour** should still have one colour when it is enlarged. Any variation is a pattern that the layer has made. We
# measure it in grey levels (0 to 255), over 125 colours, and leave out the rim.

# %% tags=["measure"]
levels = [torch.linspace(-0.4, 0.4, 5)] * 3
one_colour = torch.cartesian_prod(*levels)[:, :, None, None].expand(-1, 3, 16, 16)


def pattern(model):
    """Standard deviation of one colour, enlarged: root mean square, in grey levels."""
    inside = enlarged(model, one_colour)[..., 8:-8, 8:-8]
    return 255 * inside.std(dim=(2, 3), correction=0).square().mean().sqrt().item()

# %% [markdown]
# **Before you run it:** which of the four up-samplers make a pattern before any training? And after one epoch?
#
# <details><summary>Answer</summary>
#
# Both transposed convolutions, even the one with kernel 4: four stamps fall on each pixel, but with different weights. Resize-convolution and the fixed up-sampler compute every
# pixel of a one-colour picture in the same way, whatever their weights are.
#
# </details>

# %%
at_start, after_one, models = {}, {}, {}
for name in up_samplers:
    at_start[name], after_one[name] = [], []
    for seed in seeds:
        torch.manual_seed(seed)
        models[name] = Enlarger(name).to(device)
        at_start[name].append(pattern(models[name]))
        train_enlarger(models[name], num_epochs=1)
        after_one[name].append(pattern(models[name]))
    print(f"{name:<21}", *[f"{level:.1f}" for level in at_start[name]],
          "-> one epoch", *[f"{level:.1f}" for level in after_one[name]])  # fmt: skip

# %%
stamping = [name for name in up_samplers if name.startswith("transposed")]
smooth = [name for name in up_samplers if name not in stamping]
worst = max(max(at_start[name] + after_one[name]) for name in smooth)
least_at_start = min(min(at_start[name]) for name in stamping)
claim(
    "Both transposed convolutions begin with a checkerboard",
    least_at_start > 0.5,
    f"{least_at_start:.1f} grey levels or more",
    same=f"the same two convolutions before it, {len(seeds)} seeds",
)
fact(
    "Resize-convolution and the fixed up-sampler make no pattern from one colour",
    worst < 0.01,
    f"at most {worst:.0e} grey levels, at the start and after one epoch",
)

# %%
# extra code: after one epoch, a drawing and a picture of one colour, enlarged
def checkerboard_figure():
    fig, axes = plt.subplots(2, 4, figsize=(10, 5.9))
    for (top, below), name in zip(axes.T, up_samplers, strict=True):
        model = models[name]  # of the last seed
        top.imshow(to_picture((enlarged(model, halved_new[2:3])[0] + 0.5).clamp(0, 1)))
        flat = enlarged(model, one_colour[62:63])[0, :, 8:24, 8:24]
        below.imshow(to_picture((0.5 + 30 * (flat - flat.mean(dim=(1, 2), keepdim=True))).clamp(0, 1)))
        top.set_title(name.replace(", ", ",\n").replace(": ", ":\n"), loc="center")
        for ax in (top, below):
            ax.set(xticks=[], yticks=[])
            ax.grid(False)
    axes[0, 0].set_ylabel("a drawing")
    axes[1, 0].set_ylabel("grey, contrast x 30")
    fig.suptitle("After one epoch: a pattern from both transposed convolutions", fontsize=15, fontweight="bold")
    return fig


show(checkerboard_figure(), "After one epoch. Above: the same drawing, enlarged by four networks. Below: a part of a grey picture, enlarged by each, its contrast raised 30 times. The two transposed convolutions make "
     "a regular pattern of 2 x 2 pixels; resize-convolution and the fixed up-sampler leave it grey.")  # fmt: skip

# %% [markdown]
# ### What is learning to enlarge worth?
#
# The score is the **PSNR**, $-10 \log_{10}(\text{mean squared error})$, in decibels: higher is better. Nearest neighbour, bilinear and bicubic interpolation learn nothing. They
# look at $1$, $2 \times 2$ and $4 \times 4$ pixels.


# %% tags=["measure"]
def psnr(result, target):
    return (-10 * (result - target).square().mean(dim=(1, 2, 3)).log10()).mean().item()


# %%
scores = {}
for mode in ("nearest", "bilinear", "bicubic"):
    scores[mode] = psnr(F.interpolate(halved_new, scale_factor=2, mode=mode), large_new)
    print(f"{mode}: {scores[mode]:.2f} dB")

# %% [markdown]
# Next comes **one transposed convolution alone**, with a learned kernel. Kernel 4 looks at $2 \times 2$ pixels, as bilinear interpolation does, and kernel 6 at $3 \times 3$. One
# layer is linear in its weights, so we need no training to find the best ones: they solve a system of equations (least squares). So too little training cannot be the reason for a
# low score. (You may skip the code: it sets up these equations and solves them.) Kernel 8 looks at $4 \times 4$ pixels, as bicubic interpolation does.


# %%
def solved(kernel):
    """The best transposed convolution of this kernel, over all training pixels."""
    layer = transposed(kernel, c_in=3, bias=False)
    one_each = torch.eye(kernel**2).reshape(1, -1, kernel, kernel).repeat(3, 1, 1, 1)
    moments = products = 0
    for x, y in zip(halved.split(25), large.split(25), strict=True):
        stamps = F.conv_transpose2d(x, one_each, None, 2, layer.padding, groups=3)
        stamps = stamps.movedim(1, 0).flatten(1)  # a row for each weight of the layer
        moments = moments + (stamps @ stamps.T).double()
        products = products + (stamps @ y.movedim(1, 0).flatten(1).T).double()
    weight = torch.linalg.solve(moments, products).float()
    weight = weight.reshape(3, kernel, kernel, 3).permute(0, 3, 1, 2)
    layer.load_state_dict({"weight": weight})
    return layer


for kernel in (4, 6, 8):
    layer = solved(kernel)
    scores[f"alone, kernel {kernel}"] = psnr(enlarged(layer, halved_new), large_new)
    print(f"kernel {kernel}: {scores[f'alone, kernel {kernel}']:.2f} dB")

# %%
learning = scores["alone, kernel 4"] - scores["bilinear"]
window = scores["alone, kernel 6"] - scores["alone, kernel 4"]
at_bicubic = scores["alone, kernel 8"] - scores["bicubic"]
claim(
    "For a single layer, learning the kernel gains less than a wider window does, and"
    " at bicubic's window next to nothing",
    0.1 < learning < window and abs(at_bicubic) < 0.05,
    f"2 x 2 pixels, learned instead of bilinear: {learning:+.2f} dB; 3 x 3 instead of"
    f" 2 x 2: {window:+.2f} dB; 4 x 4, learned instead of bicubic:"
    f" {at_bicubic:+.2f} dB",
    same=f"{len(large)} drawings to learn from, {len(large_new)} to test; no bias",
)

# %% [markdown]
# Now the whole networks, with the three up-samplers that learn and the one that does not. (Resize-convolution, too, enlarges by a fixed rule, but its convolution works on the large
# picture. All three have weights that act on the **fine grid**.)
#
# **Before you run it:** order these from worst to best: bicubic interpolation; two convolutions and a *fixed* up-sampler; two convolutions and a *learned* one.
#
# <details><summary>Answer</summary>
#
# They are already in the right order, and the second step is the larger one. The fixed up-sampler spreads one value over its neighbourhood. A learned one can write a different
# value into each of the four new pixels, so the convolutions before it can put edges where they belong.
#
# </details>

# %%
torch.manual_seed(seeds[0])
for name in up_samplers:
    model = Enlarger(name).to(device)
    train_enlarger(model, num_epochs=12)
    scores[name] = psnr(enlarged(model, halved_new), large_new)
    print(f"{name:<21} {scores[name]:.2f} dB, pattern {pattern(model):.2f} grey levels")

# %% [markdown]
# Twelve epochs and one seed prove little, and the learning rate was guessed. So we measured more beforehand, with several seeds, four times as many epochs, and a rate chosen on
# validation drawings:

# %%
upsampling_rows = measured("upsampling")


def table(way, epochs=48, column="test"):
    """One number for each seed."""
    wanted = [
        row for row in upsampling_rows if (row["way"], row["epochs"]) == (way, epochs)
    ]
    return np.array([row[column] for row in wanted])


# %%
# extra code: a row for each method, those that learn to enlarge in another colour
def psnr_figure():
    fig, ax = plt.subplots(figsize=(9, 5.6))
    learned = {"fixed: bilinear": "convolutions + fixed bilinear"} | {name: name for name in up_samplers if "fixed" not in name}
    ways = ["nearest", "bilinear", "bicubic", "alone, kernel 4", "alone, kernel 6", "alone, kernel 8", *learned]
    for row, name in enumerate(ways):
        colour = "C0" if name in up_samplers and "fixed" not in name else "C1" if "alone" in name else "0.4"
        values = table(name) if name in up_samplers else np.array([scores[name]])
        ax.plot([values.min(), values.max()], [row, row], color=colour, alpha=0.35, linewidth=9, solid_capstyle="round")
        ax.plot(values.mean(), row, "o", markersize=12, color=colour)
        ax.annotate(f"{values.mean():.1f}", (values.max(), row), xytext=(14, 0), textcoords="offset points", va="center", color=colour, fontweight="bold")
        if name in up_samplers:
            ax.plot(scores[name], row + 0.28, "o", markersize=8, color=colour, alpha=0.4)
    ax.set(yticks=range(len(ways)), yticklabels=[learned.get(name, name) for name in ways], ylim=(len(ways) - 0.4, -0.6), xlabel="PSNR on new drawings, dB")
    ax.margins(x=0.12)
    ax.set_title("In a network, weights on the fine grid pay (blue)", x=-0.45)
    return fig


show(psnr_figure(), "PSNR on new drawings. Grey: nothing learned in enlarging; orange: one transposed convolution alone, with its best kernel; blue: networks with weights on the fine grid. Dark dots of the networks: "
     f"means of {len(table('fixed: bilinear'))} seeds after 48 epochs, with their range; pale dots: this run, 12 epochs.")  # fmt: skip

# %%
fixed = table("fixed: bilinear")
least = np.minimum.reduce([table(name) for name in up_samplers if "fixed" not in name])
claim(
    "Two convolutions beat bicubic interpolation, and weights that act on the fine grid"
    " add more",
    (fixed - scores["bicubic"]).min() > 0.1 and (least - fixed).min() > 0.4
    and max(scores.values()) > scores["fixed: bilinear"] + 0.1,
    f"fixed up-sampler {fixed.mean() - scores['bicubic']:+.2f} dB over bicubic;"
    f" weakest of three learned ones {least.mean() - fixed.mean():+.2f} dB over that",
    same="48 epochs, two rates, chosen on validation; paired by seed",
)  # fmt: skip

# %% [markdown]
# So what made the difference? Each of these adds its own share: a wider window, convolutions before it, and the freedom to write each new pixel separately. A learned
# kernel alone adds something only where the window is small. Had we compared only the last row with the second, we would have credited the up-sampler with all of it.
#
# What about the checkerboard? For comparison: rounding a picture to bytes is an error of $1 / \sqrt{12} = 0.29$ grey levels, in the same measure (root mean square).

# %%
late = np.array([table(name, column="pattern") for name in stamping])
claim(
    "After long training their checkerboard is smaller than the error of rounding to"
    " bytes",
    late.max() < 12**-0.5 < least_at_start,
    f"at most {late.max():.2f} grey levels after 48 epochs;"
    f" {least_at_start:.1f} or more before training",
    same=f"the same networks and drawings, {late.shape[1]} seeds",
)

# %% [markdown]
# So a network unlearns the checkerboard if the task gives the right value of every pixel. A generator (notebook 09) has no such target, and there a pattern can remain. Kernel 4
# has no uneven stamps, and yet it begins with a pattern. Only the two up-samplers that compute all pixels in the same way are free of it at every moment.

# %% [markdown] slideshow={"slide_type": "notes"}
# Many slides call the layer "deconvolution". In signal processing that word means undoing a convolution, which this layer does not do. Zeiler et al. (2010) introduced the name;
# "transposed convolution" is accurate.
#
# Which of the three learned up-samplers is best? After 12 epochs it is resize-convolution, by a little; after 48 the transposed ones, on most seeds. As the order depends on the
# budget, we do not rank them. The gap to the fixed up-sampler is different: more training widens it, and as the transposed ones mostly chose the larger of
# the two rates, it is, if anything, too small here. (The table has both budgets. It also has the single kernels, trained: after 48
# epochs they are 0.02 dB below the solved ones.)

# %% [markdown]
# **Exercise 5** (2 min): count the stamps in one dimension. `n` pixels in a row each write a stamp of `kernel` pixels, `stride` apart. Return how many stamps fall on each pixel of
# the result: a list of integers, rims included.


# %%
def stamps_in_a_row(n, kernel, stride):
    ...


exercises.stamps_in_a_row.check(stamps_in_a_row)

# %% slideshow={"slide_type": "skip"}
# exercises.stamps_in_a_row.hint()
# exercises.stamps_in_a_row.solution()

# %% [markdown]
# ## 8. One network, any image size (20 min)
#
# A convolution accepts a picture of any size. A dense layer behind `Flatten` does not. **Adaptive pooling** goes between them: `AdaptiveAvgPool2d(1)` averages each channel,
# whatever its size, to one number (notebook 05 compares it with flatten).
#
# We train a small classifier on windows of 40 x 40 pixels. Each shows one of four animals in front of a plain wall, or only the wall ("nothing"). The convolutions have **no
# padding**. You will see why. `windows` gives the pictures, (N, 3, 40, 40), and for each the number of its name.

# %%
kinds = ["panda", "tiger", "frog", "fox"]
names = [*kinds, "nothing"]
sizes = {"num_train": 600, "num_val": 0, "num_test": 200}
known, _, unseen = datasets.critters(kinds, **sizes, size=40)


# %%
# extra code: a plain wall, an animal pasted on it, and windows with it near their middle
def wall(height, width):
    shade = 0.45 + 0.4 * torch.rand(1, 1, 1) + 0.04 * torch.randn(3, 1, 1)
    light = 0.1 * (torch.rand(()) - 0.5) * torch.linspace(-1, 1, width)
    return (shade + light + 0.02 * torch.randn(3, height, width)).clamp(0, 1)


def paste(scene, animals, i, top, left):
    side = animals.images.shape[-1]
    part, mask = scene[:, top : top + side, left : left + side], animals.targets["mask"][i]
    part[:, mask] = animals.images[i][:, mask] / 255


def windows(animals, num):
    """`num` windows as large as the animals' pictures, from -2 to 2, and their labels. In one of five there is only the wall."""
    side, pictures, labels = animals.images.shape[-1], [], torch.arange(num) % len(names)
    slack = 2 * side // 5
    for label in labels.tolist():
        scene = wall(side + slack, side + slack)
        if label < len(kinds):
            i = random.choice((animals.targets["label"] == label).nonzero().flatten().tolist())
            paste(scene, animals, i, slack // 2, slack // 2)
        top, left = torch.randint(slack + 1, (2,)).tolist()
        pictures.append(scene[:, top : top + side, left : left + side])
    return 4 * torch.stack(pictures) - 2, labels


# %%
train_windows, train_names = windows(known, 1200)
test_windows, test_names = windows(unseen, 500)


# %%
# extra code: ten of the windows
ten = [(picture + 2) / 4 for picture in test_windows[:10]]
show(image_grid(ten, titles=[names[i] for i in test_names[:10]], columns=5, size=1.5),
     "Ten windows of 40 x 40 pixels, each with a drawn panda, tiger, frog or fox in front of a plain wall, or with only the wall.")  # fmt: skip


# %%
def valid_block(c_in, c_out, kernel, stride=1):
    conv = nn.Conv2d(c_in, c_out, kernel, stride)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU())


torch.manual_seed(seeds[0])
classifier = nn.Sequential(
    valid_block(3, 16, 5, stride=2), valid_block(16, 32, 3), nn.MaxPool2d(2),
    valid_block(32, 64, 3),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, len(names)),
).to(device)  # fmt: skip
train(classifier, train_windows, train_names, lr=5e-3, num_epochs=12)
window_accuracy = accuracy(classifier, test_windows, test_names)
print(f"{window_accuracy:.0%} of new windows correct")

# %% [markdown]
# ### Other sizes
#
# **Before you run it:** does this network run on a picture of 64 x 64 pixels, or of 200 x 120? And is it right as often when the same animals are drawn two or three times as
# large?
#
# <details><summary>Answer</summary>
#
# It runs: adaptive pooling always leaves 64 numbers. But the larger the animals, the less often it is right. "Any size" only means that the shapes fit. The filters have learned
# animals of about 20 pixels, and the training never showed larger ones.
#
# </details>

# %%
classifier.eval()
with torch.no_grad():
    shapes = [tuple(classifier(torch.zeros(1, 3, h, w, device=device)).shape)
              for h, w in ((40, 40), (64, 64), (200, 120))]  # fmt: skip
fact("Three sizes of pictures give five numbers each", set(shapes) == {(1, 5)})

# %% [markdown]
# There are two ways to get larger windows: draw the same animals again with more pixels, or interpolate between the existing pixels. Only the second blurs.

# %%
right = {"as in training": window_accuracy}
for factor in (2, 3):
    *_, larger = datasets.critters(kinds, **sizes, size=40 * factor)
    right[f"drawn {factor} x"] = accuracy(classifier, *windows(larger, 500))
blurred = F.interpolate(test_windows, scale_factor=2, mode="bilinear")
right["interpolated 2 x"] = accuracy(classifier, blurred, test_names)
claim(
    "Animals three times as large are recognised less often",
    right["drawn 3 x"] < window_accuracy - 0.1,
    ", ".join(f"{name} {share:.0%}" for name, share in right.items()),
    same=f"the same {len(unseen)} animals, {len(test_windows)} windows",
)

# %% [markdown]
# On each seed that we tried, accuracy was lower on interpolated windows than on windows drawn at the same size. If you test other sizes by interpolation, you also measure the
# blur.
#
# ### From classifier to heat map
#
# Now take a whole scene of 160 x 320 pixels, with five animals. Which animal is where? We could slide the 40 x 40 window over the scene and ask the classifier at each place. That
# computes the same filters on the same pixels again and again. It is cheaper to make the classifier **fully convolutional**.
#
# - Global pooling becomes pooling over the 6 x 6 results that belong to one window, with stride 1.
# - The linear layer becomes a 1 x 1 convolution with the same weights (section 3).

# %%
linear = classifier[-1]
one_by_one = nn.Conv2d(64, len(names), 1).to(device)
weights = {"weight": linear.weight[:, :, None, None], "bias": linear.bias}
one_by_one.load_state_dict(weights)
layers = *classifier[:4], nn.AvgPool2d(6, stride=1), one_by_one
fully_convolutional = nn.Sequential(*layers).eval()


# %%
# extra code: a scene with animals that do not touch, and their places (top, left, kind)
def make_scene(num_animals=5, height=160, width=320):
    scene, places = wall(height, width), []
    while len(places) < num_animals:
        top, left = random.randrange(height - 40), random.randrange(width - 40)
        if all(abs(top - t) > 50 or abs(left - b) > 50 for t, b, _ in places):
            i = random.randrange(len(unseen))
            paste(scene, unseen, i, top, left)
            places.append((top, left, unseen.targets["label"][i].item()))
    return 4 * scene - 2, places


# %%
def heat_map(scene):
    with torch.no_grad():
        return fully_convolutional(scene[None].to(device))[0].cpu()


scenes = [make_scene() for _ in range(20)]
scene, places = scenes[0]
heat = heat_map(scene)
print(f"scene {tuple(scene.shape)} -> heat map {tuple(heat.shape)}")

# %% [markdown]
# Are these the answers that the sliding window would have given? We cut out every window and ask the classifier.

# %%
cut = scene.unfold(1, 40, 4).unfold(2, 40, 4)  # (3, rows, columns, 40, 40)
cut = cut.permute(1, 2, 0, 3, 4).flatten(0, 1)
with torch.no_grad():
    sliding = torch.cat([classifier(part.to(device)).cpu() for part in cut.split(200)])
difference = (heat.flatten(1).T - sliding).abs().max().item()
tolerance = 1e-4 if device.type == "cpu" else 0.05  # a GPU rounds more coarsely (TF32)

# %%
sliding_macs = len(cut) * count_macs(classifier, 1, 3, 40, 40)
scene_macs = count_macs(fully_convolutional, 1, *scene.shape)
fact(
    "The heat map holds the classifier's answer to every window, at less than a tenth"
    " of the cost",
    difference < tolerance and sliding_macs > 10 * scene_macs,
    f"{len(cut):,} windows, largest difference {difference:.0e};"
    f" {scene_macs / 1e6:,.0f} million multiplications, not {sliding_macs / 1e6:,.0f}",
)

# %% [markdown]
# This is why there is no padding. With padding, a window would have zeros around it, while the same pixels in the scene have neighbours: the answers would be close, but not equal.


# %%
# extra code: the scene, and at each place the kind that wins, stronger where it is surer
def heat_figure(scene, places, heat):
    shares, winner = heat.softmax(dim=0).max(dim=0)
    fig, axes = plt.subplots(2, 1, figsize=(8.6, 9.2))
    picture = to_picture((scene + 2) / 4)
    axes[0].imshow(picture)
    axes[1].imshow(picture.mean(axis=2), cmap="gray", vmin=-0.6, vmax=1.1)
    palette = ("C0", "C1", "C2", "C4")
    colours = np.array([plt.matplotlib.colors.to_rgb(colour) for colour in (*palette, "black")])
    overlay = np.concatenate([colours[winner], (0.7 * shares * (winner < 4))[..., None]], axis=2)
    rows, columns = winner.shape
    axes[1].imshow(overlay, extent=(18, 18 + 4 * columns, 18 + 4 * rows, 18), interpolation="nearest")
    for top, left, label in places:
        for ax in axes:
            ax.add_patch(plt.Rectangle((left, top), 40, 40, fill=False, edgecolor=palette[label], linewidth=2.5))
        axes[0].text(left + 20, top - 3 if top > 20 else top + 43, names[label], ha="center", va="bottom" if top > 20 else "top", fontweight="bold", color=palette[label])
    for ax in axes:
        ax.set(xlim=(0, scene.shape[2]), ylim=(scene.shape[1], 0), xticks=[], yticks=[])
        ax.grid(False)
    axes[0].set_title("A scene of 160 x 320 pixels, and where its animals are")
    axes[1].set_title("The animal that wins at each place, in its colour")
    return fig


show(heat_figure(scene, places, heat), f"Above: a scene with {len(places)} drawn animals in front of a plain wall, each framed in the colour of its kind. Below: the grey scene, and at each place the colour of the kind that the fully convolutional network "
     "sees in the window around it; no colour where its answer is 'nothing'. Each animal has a spot of its colour; some spots reach beyond the frame, and at a rim a wrong colour may win.")  # fmt: skip

# %% [markdown]
# Two tests: is the right kind named where an animal is, and is nothing reported where nothing is? Here a window is *empty* if it does not overlap any of the pasted animal pictures.
# Windows that contain only a part of an animal are in neither count. (A detector would also have to find the places.)

# %%
found, quiet = [], []
for scene, places in scenes:
    answers = heat_map(scene).argmax(dim=0)
    found += [answers[round(top / 4), round(left / 4)] == label
              for top, left, label in places]  # fmt: skip
    rows, columns = 4 * torch.arange(len(answers)), 4 * torch.arange(answers.shape[1])
    near = [((rows - top).abs() < 40)[:, None] & ((columns - left).abs() < 40)
            for top, left, _ in places]  # fmt: skip
    empty = ~torch.stack(near).any(dim=0)
    quiet += (answers[empty] == names.index("nothing")).tolist()
claim(
    "The heat map names at least nine in ten animals, and says nothing where there"
    " is nothing",
    np.mean(found) > 0.9 and np.mean(quiet) > 0.99,
    f"{np.mean(found):.0%} of {len(found)} animals; {np.mean(quiet):.2%} of"
    f" {len(quiet):,} empty windows are called nothing",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# From here to detection it is one step: find the peaks of the map, and look at several scales. Sermanet et al. (OverFeat, 2014) did just this, and Long et al. (2015) turned it
# into segmentation, which is notebook 04.
#
# At the edges of the spots a wrong kind may win: the training never showed half an animal.

# %% [markdown]
# ## 9. A tour: one dimension and three (15 min)
#
# A convolution does not need two dimensions. A signal has one; a volume or a video has three.
#
# | layer | input | kernel moves along |
# |---|---|---|
# | `Conv1d` | (N, C, L) | time |
# | `Conv2d` | (N, C, H, W) | height, width |
# | `Conv3d` | (N, C, D, H, W) | depth (or time), height, width |
#
# ### A signal: find the odd beat
#
# These signals are made up, to look a little like heartbeats. (They are not medical data, and the network is not a medical device.) Each has about six beats at an uneven pace,
# noise, and a drifting baseline. In half of them **one** beat is too wide. The labels do not say where.


# %%
# extra code: made-up heartbeats, label 1 where one beat is too wide, and where that is
def heartbeats(num, length=256):
    time_axis, labels = torch.arange(length), torch.arange(num) % 2
    signals, places = [], []
    for label in labels.tolist():
        start, period, drift = torch.rand(3).tolist()
        centres = torch.arange(32 * start, length, 32 + 12 * period)
        centres = (centres + 2 * torch.randn(len(centres)))[:, None]
        widths = torch.full_like(centres, 2.0)
        odd = torch.randint(1, len(centres) - 1, ()).item()
        if label:
            widths[odd] = 5.0
        beats = (-(((time_axis - centres) / widths) ** 2)).exp() + 0.25 * (-(((time_axis - centres - 12) / 4) ** 2)).exp()
        base = 0.15 * torch.sin(2 * torch.pi * (time_axis / (150 + 250 * drift) + start))
        signals.append(beats.sum(dim=0) + base + 0.15 * torch.randn(length))
        places.append(centres[odd].item())
    return torch.stack(signals)[:, None], labels, places


def signals_figure():
    fig, axes = plt.subplots(2, 1, figsize=(9, 4.6), sharex=True)
    for ax, label, title in zip(axes, (0, 1), ("All beats alike", "One beat is too wide: the shaded one"), strict=True):
        ax.plot(signals[label, 0], linewidth=2, color=f"C{label}")
        ax.set(title=title, ylim=(-0.8, 1.7), ylabel="signal")
    axes[1].axvspan(places[1] - 11, places[1] + 11, color="C2", alpha=0.3)
    axes[1].set_xlabel("time, samples")
    return fig


# %%
torch.manual_seed(seeds[0])
signals, odd, places = heartbeats(600)
new_signals, new_odd, _ = heartbeats(600)
print(f"{tuple(signals.shape)}: (N, C, L)")

# %%
# extra code: two of the signals
show(signals_figure(), "Two made-up signals with noise and a drifting baseline: above, all beats are alike; below, the shaded one is wider than the others.")

# %% [markdown]
# **Before you run it:** one network has two `Conv1d` layers and global **max** pooling, the other two dense layers on the 256 samples. Both are trained on 600 signals. Which finds
# the odd beat?
#
# <details><summary>Answer</summary>
#
# The convolution: its kernel moves along the signal, so it has to learn "wide" only once, and max pooling asks "anywhere?". The dense network would have to learn it for every
# place, from a handful of examples each. It memorises the training signals instead.
#
# </details>


# %%
def signal_network():
    return nn.Sequential(
        nn.Conv1d(1, 16, 9, stride=2), nn.ReLU(),
        nn.Conv1d(16, 16, 9, stride=2), nn.ReLU(),
        nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(16, 2),
    )  # fmt: skip


def dense_network():
    layers = nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 2)
    return nn.Sequential(*layers)


# %% [markdown]
# We add two rivals: the dense network with **ten times** as many signals, and no network at all, only the best threshold on one number: the largest mean of
# any 9 samples in a row, about as long as the odd beat is wide.

# %%
many_signals, many_odd, _ = heartbeats(6000)
runs = {
    "Conv1d": (signal_network(), signals, odd),
    "dense": (dense_network(), signals, odd),
    "dense, ten times the signals": (dense_network(), many_signals, many_odd),
}
shares = {}
for name, (model, x, y) in runs.items():
    train(model.to(device), x, y, lr=5e-3, num_epochs=15)
    shares[name] = accuracy(model, new_signals, new_odd)
    known_share = accuracy(model, x, y)
    print(f"{name}: {known_share:.0%} of its {len(x):,} training signals correct")

# %%
peak = F.avg_pool1d(signals, 9, stride=1).amax(dim=(1, 2))
new_peak = F.avg_pool1d(new_signals, 9, stride=1).amax(dim=(1, 2))
best = max(peak, key=lambda threshold: ((peak > threshold) == odd).sum())
shares["threshold"] = ((new_peak > best) == new_odd).float().mean().item()
claim(
    "A 1-D convolution finds the odd beat in new signals; its rivals do worse",
    shares["Conv1d"] > 0.97
    and max(share for name, share in shares.items() if name != "Conv1d") < 0.95,
    ", ".join(f"{name} {share:.0%}" for name, share in shares.items()),
    same=f"{len(new_signals)} new signals; 15 epochs, one learning rate",
)

# %% [markdown]
# ### A clip: which way does it go?
#
# A clip has seven frames of 32 x 32 pixels. A small drawn animal moves to the right or to the left, and what leaves on one side comes in on the other. Every animal starts from 16
# places, and from each it moves both ways.


# %%
# extra code: a small animal moves in front of a wall, from 16 places, both ways
def clips(animals, num, length=7, side=32):
    small = F.avg_pool2d(animals.images / 255, 2)
    masks = F.avg_pool2d(animals.targets["mask"][:, None].float(), 2)
    films = []
    for i in range(num):
        top = random.randrange(side - 15)
        animal = F.pad(torch.cat([small[i] * masks[i], masks[i]]), (0, side - 16, top, side - 16 - top))
        background = 0.1 + 0.8 * torch.rand(3, 1, 1) + 0.06 * torch.randn(3, side, side)
        moved = [animal.roll(2 * place, dims=2) for place in range(16)]
        frames = [background * (1 - part[3:]) + part[:3] for part in moved]
        for step in (1, -1):
            films += [torch.stack([frames[(start + step * k) % 16] for k in range(length)], dim=1) for start in range(16)]
    return 4 * torch.stack(films) - 2, torch.arange(2).repeat_interleave(16).repeat(num)


# %%
film_known, _, film_new = datasets.critters(num_train=240, num_val=0, size=32)
torch.manual_seed(seeds[0])
films, directions = clips(film_known, 12)
new_films, new_directions = clips(film_new, 12)
print(f"{tuple(films.shape)}: (N, C, L, H, W); label 0 to the right, 1 to the left")

# %%
# extra code: the frames of two clips
frames = [(films[n, :, k] / 4 + 0.5).clamp(0, 1) for n in (3, 19) for k in range(7)]
titles = [f"{way} {k + 1}" for way in ("right", "left") for k in range(7)]
show(image_grid(frames, titles=titles, columns=7, size=1.4),
     "Above: seven frames of a clip in which a small drawn animal moves to the right. Below: the same animal moves to the left, from the same first frame.")  # fmt: skip


# %%
def pictures_of(clips, frame):
    return {picture.numpy().tobytes() for picture in clips[:, :, frame]}


rightward, leftward = new_films[new_directions == 0], new_films[new_directions == 1]
fact(
    "In every frame, clips to the right show the same pictures as clips to the left",
    all(pictures_of(rightward, k) == pictures_of(leftward, k) for k in range(7)),
    f"{len(pictures_of(rightward, 0))} pictures in each of 7 frames",
)

# %% [markdown]
# So a network that sees only one frame can only guess. A 3-D kernel spans three frames: it can respond to "an edge that was here and is now two pixels further on". Its rival is a
# 2-D convolution that gets all seven frames at once, as $7 \cdot 3$ channels.


# %%
def block_3d(c_in, c_out, kernel):
    conv = nn.Conv3d(c_in, c_out, kernel, stride=(1, 2, 2), bias=False)
    return nn.Sequential(conv, nn.BatchNorm3d(c_out), nn.ReLU())


def network_3d(c_in):
    blocks = block_3d(c_in, 8, (3, 5, 5)), block_3d(8, 16, (3, 3, 3))
    head = nn.AdaptiveMaxPool3d(1), nn.Flatten(), nn.Linear(16, 2)
    return nn.Sequential(*blocks, *head)


def network_2d(c_in):
    blocks = conv_block(c_in, 8, 5, stride=2), conv_block(8, 16, 3, stride=2)
    head = nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(16, 2)
    return nn.Sequential(nn.Flatten(1, 2), *blocks, *head)


# %%
def both_ways(x, labels, new_x, new_labels):
    """Train a 3-D and a 2-D network; their accuracies on what is new."""
    found = {}
    models = {"3-D": network_3d(x.shape[1]), "2-D": network_2d(x.shape[1] * x.shape[2])}
    for name, model in models.items():
        train(model.to(device), x, labels, lr=4e-3, num_epochs=8, batch_size=16,
              channels_last=False)  # fmt: skip
        found[name] = accuracy(model, new_x, new_labels)
    return found


of_clips = both_ways(films, directions, new_films, new_directions)
claim(
    "A 3-D convolution and a 2-D one over all frames both see which way an animal goes",
    min(of_clips.values()) > 0.9,
    ", ".join(f"{name} {share:.1%}" for name, share in of_clips.items()),
    same=f"{len(films)} clips of 12 animals, 8 epochs; {len(new_films)} of others",
)

# %% [markdown]
# ### A volume: is it a vessel?
#
# A scanner produces a volume slice by slice. The lecture writes its shape as $C \times H \times W \times L$; PyTorch wants the third direction first, `(N, C, L, H, W)`, so we
# would use `permute`, as in notebook 00. In our made-up volumes a bright disc wanders from slice to slice, like a vessel in cross-section. For every such volume there is a second
# one with the **same slices in a random order**. Again, a single slice cannot tell the two apart.


# %%
# extra code: volumes through which a disc wanders, and the same ones with slices shuffled
def volumes(num, depth=16, side=24):
    place, vessels = torch.arange(side) - side / 2, []
    for _ in range(num):
        path = torch.randint(side, (2,)) + torch.randint(-2, 3, (depth, 2)).cumsum(dim=0)
        discs = [place.roll(i)[:, None] ** 2 + place.roll(j) ** 2 < 9 for i, j in path.tolist()]
        vessels.append(torch.stack(discs) + 0.3 * torch.randn(depth, side, side))
    shuffled = [vessel[torch.randperm(depth)] for vessel in vessels]
    return torch.stack(vessels + shuffled)[:, None], torch.arange(2).repeat_interleave(num)


# %%
volumes_known, volumes_new = volumes(300), volumes(300)
print(f"{tuple(volumes_known[0].shape)}: (N, C, L, H, W); label 1: shuffled")

# %%
# extra code: slices of two volumes
jumps = (volumes_known[0][300:, 0, 1:8] - volumes_known[0][300:, 0, :7]).abs().mean(dim=(1, 2, 3))
most = jumps.argmax().item()
slices = [(volumes_known[0][n, 0, k] + 1).clamp(0, 2) / 2 for n in (most, 300 + most) for k in range(8)]
titles = [f"{kind} {k + 1}" for kind in ("vessel", "shuffled") for k in range(8)]
show(image_grid(slices, titles=titles, columns=8, size=1.25),
     "Above: the first eight slices of a made-up volume; a bright disc moves by a pixel or two from one to the next. Below: slices of the same volume in a random order; the disc jumps. (Of the 300 volumes, the one that jumps most.)")  # fmt: skip

# %%
of_volumes = both_ways(*volumes_known, *volumes_new)
claim(
    "A 3-D convolution sees whether a vessel runs through the slices",
    of_volumes["3-D"] > 0.85,
    ", ".join(f"{name} {share:.1%}" for name, share in of_volumes.items()),
    same=f"{len(volumes_known[1])} volumes, 8 epochs; {len(volumes_new[1])} others",
)

# %% [markdown]
# The 2-D network over all slices comes close. It must learn for each pair of neighbouring slices what "near" means, and 600 volumes are nearly enough for that. The 3-D kernel
# learns it once, as the 1-D kernel did with the wide beat. The 3-D network was ahead on each seed that we tried, but only by a few points, too few for a claim.

# %% [markdown]
# ## 10. Exercises (40 min)
#
# **Exercise 6**: an Inception module without 5 x 5. Later the authors of GoogLeNet replaced the $5 \times 5$ convolution with two of $3 \times 3$, one after the other (Szegedy et
# al. 2016). Build that module: a class or a function that takes the same numbers as `Inception` in section 5 and returns an `nn.Module`. The third branch has $1 \times 1$ to
# `c5_reduced`, $3 \times 3$ to `c5`, and $3 \times 3$ from `c5` to `c5`. Put a ReLU after every convolution, use biases everywhere, and concatenate the branches in the same order.


# %%
def make_inception(c_in, c1, c3_reduced, c3, c5_reduced, c5, c_pool):
    ...


exercises.make_inception.check(make_inception)

# %% slideshow={"slide_type": "skip"}
# exercises.make_inception.hint()
# exercises.make_inception.solution()

# %% [markdown]
# **Exercise 7**: transposed convolution by hand, with channels and padding. `x` is (c_in, H, W), and `weight` is (c_in, c_out, k, k), as in `ConvTranspose2d`. Return (c_out, H',
# W'). Padding $p$ cuts $p$ pixels off each side of the result. Do not use `conv_transpose2d`.


# %%
def transposed_convolution(x, weight, stride, padding):
    ...


exercises.transposed_convolution.check(transposed_convolution)

# %% slideshow={"slide_type": "skip"}
# exercises.transposed_convolution.hint()
# exercises.transposed_convolution.solution()

# %% [markdown]
# **Exercise 8**: make a flatten head work at any size. A classifier ends in `Flatten` and `linear`, for `channels` maps of `side` x `side` pixels. Return an `nn.Conv2d` that gives
# the same numbers on such maps, and a heat map on larger ones. (VGG's dense layers became segmentation this way: Long et al. 2015.)


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
# You compete with the direct network of section 4. This is what it costs per picture:

# %%
# NBVAL_CHECK_OUTPUT
print(f"{baseline_macs:,} multiplications; a tenth of that is {baseline_macs // 10:,}")

# %% [markdown]
# Write `train_small()`: it builds a network, trains it on `train_set` (as bytes: uint8, (N, 3, 32, 32)) in any way you like, and returns it. The network must also take pictures as
# **bytes**, so the scaling belongs in its `forward`, and return six logits per picture.
#
# The check draws 900 new animals, exports your network with `torch.export`, and runs the exported graph. So it sees every operation: PyTorch's counter counts convolutions and
# matrix products, and products of tensors are counted by their size. Operations in which multiplications could hide (`fft`, `gather`, `cumsum` and the like) are refused.
#
# **Score:** the accuracy, with at most a tenth of the multiplications. **Good** is 78 %, what the direct network of section 4 reaches on such new drawings in ten epochs. Very good
# is 85 %. If you get there, try a thirtieth.


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
# - **Size, receptive field, cost.** A formula gives each of them, and each can be checked in a few lines: run the layer, compute a gradient, count the operations.
# - **Two measures of cost.** The number of multiplications depends only on the network. The time also depends on the machine, and it usually shrinks by less.
# - **A 1 x 1 convolution** mixes channels and sees no neighbours. In front of a large kernel it saves most of the cost; accuracy suffers if it is too narrow.
# - **Transposed** means adjoint, not inverse: each pixel writes a stamp, and overlapping stamps are added. Uneven stamps, or uneven weights, make a checkerboard.
# - **Ask what the learning was worth.** Before you praise a learned layer, try a fixed one in the same network.
# - **Any size** only means that the shapes fit. Whether a network recognises larger objects depends on its training.

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
# | C6 transposed convolution by hand, adjoint, checkerboard; learned against fixed up-sampling | 7 | A, C |
# | C7 adaptive pooling, fully convolutional networks, heat map | 8 | A |
# | C8 1-D and 3-D convolution: a signal, a clip, a volume | 9 | A |
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
