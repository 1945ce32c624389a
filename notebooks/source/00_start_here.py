# %% [markdown]
# # 00 · Start here: the machine and the loop
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/@SLUG@/blob/@REF@/notebooks/00_start_here.ipynb)
# [![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://github.com/@SLUG@/blob/@REF@/notebooks/00_start_here.ipynb)
#
# **To keep what you write:** on Colab choose *File > Save a copy in Drive*, on Kaggle *Copy & Edit*, before you begin.
#
# **Question:** What happens, step by step, when a machine learns from pictures, and what do you need to know before you let one run?
#
# **You will be able to**
# - see what machine you are on, take one GPU and give it back,
# - read an image as a tensor, and a convolution as a filter,
# - write a training loop, tell learning from memorising, and resume a training that was interrupted.
#
# **Time:** it runs in @TIME@ on two CPU cores; with the exercises and the lab, about three hours.
# **Before this:** Python with functions and classes, what a derivative is, what a matrix product is. This is the first notebook of the course.
# All together take about 40 hours with the exercises and labs; the core of one fills a lecture of 75 minutes.

# %% [markdown] slideshow={"slide_type": "notes"}
# **A plan for 75 minutes**
#
# - **Core:** sections 1, 2, 3, 6 and 7: the machine and honest timing, a picture as a tensor, convolution by hand, the loop in full view, stop and
#   resume.
# - **Optional:** 4 and 5 together: a lesson of its own on risk, and on the function that knows everything.
# - **Where to stop:** after the claim of section 7 that the resumed run equals the unbroken one. If you are late, leave out who uses which GPU in
#   section 1 and "Why now?" in section 3.
#
# Run the cells of sections 4 and 5 too, also where you do not show them: section 6 uses the digits that section 5 has prepared.

# %% slideshow={"slide_type": "skip"}
# Set-up: finds the course's files here, on Kaggle or on the net. Just run it.
import os, shutil, subprocess, sys
from pathlib import Path

repo = "@REPO@"
clone = Path("deep-learning-for-images-@REF@").absolute()
book = globals().get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME", "")
near = [*clone.parents, *Path(book).absolute().parents]
near += [f for n in (1, 2, 3, 4) for f in Path("/kaggle/input").glob("*/" * n)]
course = next((f for f in [*near, clone] if os.path.isfile(f / "utils/lessons.py")), 0)
if not course:
    git = shutil.which("git") or sys.exit("Install git: it fetches the course.")
    get = [git, "clone", "-q", "--depth=1", "--branch=@REF@", repo, course := clone]
    if (got := subprocess.run(get, stderr=-1, errors="replace")).returncode:
        sys.exit(f"No network (Kaggle: Settings)? Or a private address?\n{got.stderr}")
sys.path.insert(0, str(course))
if getattr(sys.modules.get("utils"), "__path__", 0) != [str(course / "utils")]:
    [sys.modules.pop(n) for n in [*sys.modules] if n.split(".")[0] == "utils"]
import utils

device = utils.start()

# %% slideshow={"slide_type": "skip"}
# What this notebook imports. Everything that is not PyTorch is in the folder utils/.
import os
import random
import signal
import time

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from utils import critters, datasets
from utils.device import free_memory, report
from utils.exercises import start_here as exercises
from utils.figures import curves, explore, image_grid, show
from utils.lessons import claim, summary
from utils.training import evaluate, fit

seed = torch.initial_seed()

# %% [markdown]
# It works. To prove it, here are six animals. They are **drawings**: the course makes them itself, on your machine, just now. No download
# and no network is needed.

# %%
species = ["cat", "owl", "panda", "tiger", "rabbit", "fox"]
animals = [torch.from_numpy(critters.draw(name, seed + i, size=96).image).permute(2, 0, 1) for i, name in enumerate(species)]
show(image_grid(animals, titles=species, columns=6, size=1.9), f"Six drawn animals: {', '.join(species)}.")

# %% [markdown]
# ## 1. The machine (15 min)
#
# The first line that this notebook printed says where you are: a GPU or the CPU, with the reason. Everything in this course runs on both.
#
# ### Where can you run?
#
# | place | what you get | what limits you | so |
# |---|---|---|---|
# | Google Colab, free | a CPU, often a T4 GPU | at most 12 hours, less when idle; a GPU is not promised; the disk is wiped at the end | save to your Drive, or download |
# | Kaggle | a CPU, two T4 GPUs or a P100 | sessions of 12 hours; a weekly GPU quota; the internet is off until you switch it on; only `/kaggle/working` is kept | choose the **T4**: today's PyTorch no longer runs on a P100 |
# | a shared GPU box | strong GPUs, and other people | whoever comes first; the lecture's box ends a notebook that is idle for 20 minutes | look, take one, save often, give it back |
# | your laptop | it is yours | often no NVIDIA GPU | fine for all of this course |
# | a Mac | a GPU of Apple's, which PyTorch calls `mps` | the course is tested on CPUs, so `utils.start()` takes the CPU | fine too; to try its GPU, run `%env COURSE_DEVICE=mps` before the set-up cell |
#
# Limits change. The pages of [Colab](https://research.google.com/colaboratory/faq.html) and [Kaggle](https://www.kaggle.com/docs/notebooks)
# say what holds today.

# %% [markdown]
# ### Who is using what?
#
# Before you take a GPU, look. On a shared machine there is no queue and no guard. Whoever fills a GPU on which a colleague's training has been
# running for two days ends that training. This is the live report for your machine:

# %%
print(report())

# %% [markdown]
# ### Take one, and only one
#
# `utils.start()` has done this for you: it took the idlest GPU, **one**, after proving with a tiny computation that it works. Where there is
# none, it took the CPU. `device` is what it took. (`COURSE_DEVICE=cpu`, set before it, leaves the GPU to others.) On the GPU nothing of yours is
# held until you put the first tensor there.
#
# A GPU has its own memory. So in PyTorch, two things have to be brought there: the model once, and every batch of data.
# `model.to(device)` and `images.to(device)`. If one of them stays behind, PyTorch says so: *Expected all tensors to be on the same device*.

# %%
weights = torch.randn(3, 3).to(device)
weights.device

# %%
if device.type == "cuda":
    taken = sum(torch.cuda.memory_reserved(i) > 0 for i in range(torch.cuda.device_count()))
    claim("This notebook holds memory on one GPU and on no other", taken == 1, f"{taken} of {torch.cuda.device_count()}")
else:
    print("No GPU was taken, so none has to be shared. With one, a claim would check here that we hold memory on no other.")

# %% [markdown]
# ### GPU against CPU
#
# The work of deep learning is matrix products. A product of two $n \times n$ matrices takes about $2 n^3$ operations: $n$ multiplications and
# $n$ additions for each of the $n^2$ results.
#
# Timing a GPU has a trap. PyTorch only *asks* the GPU to compute, and goes on at once. Whoever stops the clock at that moment has measured how long
# it takes to ask. `torch.cuda.synchronize()` waits until the work is done.


# %%
def seconds_of_product(n, place, repeats=10):
    wait = torch.cuda.synchronize if place == "cuda" else lambda: None
    a = torch.randn(n, n, device=place)
    a @ a  # the first time sets things up: not counted
    wait()
    start = time.perf_counter()
    for _ in range(repeats):
        a @ a
    wait()
    return (time.perf_counter() - start) / repeats


# %% [markdown]
# **Before you run it:** the product of two $1024 \times 1024$ matrices is about two million times the work of two $8 \times 8$ ones. Does it take
# two million times as long?
#
# <details><summary>Answer</summary>
#
# Far from it. Starting any operation costs some microseconds, on a GPU some more than on a CPU. In a small product that is nearly all the
# time. This is why batches are large, and why a GPU gains nothing on tiny networks.
#
# </details>

# %%
sizes = [8, 16, 32, 64, 128, 256, 512, 1024]
places = ["cpu", "cuda"] if device.type == "cuda" else ["cpu"]
times = {place: [min(seconds_of_product(n, place) for _ in range(3)) for n in sizes] for place in places}
rates = {place: [2 * n**3 / t / 1e9 for n, t in zip(sizes, times[place], strict=True)] for place in places}


# %%
# extra code: both axes logarithmic, one line a device
def timing_figure():
    fig, ax = plt.subplots()
    for place, values in rates.items():
        ax.plot(sizes, values, "o-")
        ax.annotate(place.upper(), (sizes[-1], values[-1]), xytext=(10, 0), textcoords="offset points", va="center", fontweight="bold")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set(xticks=sizes, xticklabels=sizes, xlabel="n: side of the matrices", ylabel="billion operations a second")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set_title("Small jobs waste the machine")
    ax.minorticks_off()
    return fig


# %%
reached = "; ".join(f"{place.upper()}: {rates[place][0]:.2g} at n = {sizes[0]}, {rates[place][-1]:.3g} at n = {sizes[-1]}" for place in places)
show(timing_figure(), f"Billion operations a second in a product of two n x n matrices, against n. {reached}.")

# %%
claim(
    "A large matrix product does more than ten times the work per second of a small one",
    all(values[-1] > 10 * values[0] for values in rates.values()),
    f"billion operations a second, {reached}",
)

# %%
if device.type == "cuda":
    print(f"At n = {sizes[-1]} the GPU takes 1/{times['cpu'][-1] / times['cuda'][-1]:.0f} of the CPU's time.")
else:
    print("No GPU here, so there is one line only. With a GPU a second line stands beside it. Expect it below the CPU's line on the left,\n"
          "where starting costs most, and above it on the right. How far above depends on the GPU: run this on Colab and see.")  # fmt: skip

# %% [markdown]
# Is it true that the clock lies without `synchronize`? A GPU can show it:

# %%
if device.type == "cuda":
    big = torch.randn(4096, 4096, device=device)
    big @ big
    torch.cuda.synchronize()
    start = time.perf_counter()
    result = big @ big
    asked = time.perf_counter() - start
    torch.cuda.synchronize()
    done = time.perf_counter() - start
    claim("Without synchronize the clock stops before the work is done", asked < done / 2, f"{asked * 1e3:.2f} ms against {done * 1e3:.2f} ms")
else:
    print("A CPU finishes an operation before the next line runs, so here the clock is right either way.")

# %% [markdown]
# ### Give it back
#
# PyTorch keeps GPU memory that it once had, to be faster the next time. Others cannot use it meanwhile. To give it back: delete what you no
# longer need, then `free_memory()`. When you are done, **shut the kernel down**: that gives back everything.

# %%
if device.type == "cuda":
    before = torch.cuda.memory_reserved()
    ballast = torch.zeros(2**28, device=device)  # 1 GiB
    during = torch.cuda.memory_reserved()
    ballast = big = result = None
    free_memory()
    after = torch.cuda.memory_reserved()
    claim("Deleted and freed, the memory goes back", after <= before < during, f"{before / 2**20:.0f}, {during / 2**20:.0f}, {after / 2**20:.0f} MiB")
else:
    free_memory()
    print("On a CPU deleted tensors go back to the system by themselves. On a GPU you would see the memory here before, during and after.")

# %% [markdown] slideshow={"slide_type": "notes"}
# If the hall has a shared box: open a terminal beside the notebook and run nvidia-smi while a student takes a GPU. Etiquette in one breath: look, take one,
# save, give back. On Kaggle a P100 says "available" and then fails at the first operation, which is why the set-up tries a tiny one first.

# %% [markdown]
# ## 2. An image is a tensor (10 min)
#
# A tensor is a box of numbers with a shape and a type. The smallest image of this course is a handwritten digit of 8 x 8 pixels (Alpaydin and
# Kaynak 1998; scikit-learn brings it along):

# %%
digits_train, digits_val, digits_test = datasets.digits()
digit = digits_train.images[0]
print(tuple(digit.shape), digit.dtype, "label", digits_train.targets["label"][0].item())

# %% [markdown]
# The shape is `(channels, height, width)`. A grey image has one channel. The type is `uint8`, a byte: whole numbers from 0 (black)
# to 255 (white).
#
# (In this course an *image* and a *picture* are the same thing. A **drawing** is a picture that a program of the course has made, a **photo** is one from a camera.)


# %%
# extra code: the digit with its numbers written in, beside the same digit enlarged
def digit_figure(small, large):
    fig, axes = plt.subplots(1, 2, figsize=(10, 5))
    for ax, image in zip(axes, (small, large), strict=True):
        ax.imshow(image[0], cmap="gray", vmin=0, vmax=255)
        ax.set(xticks=[], yticks=[], title=" x ".join(map(str, image.shape[1:])) + f" = {image.numel()} numbers")
        ax.grid(False)
    for (row, column), value in zip(torch.cartesian_prod(torch.arange(8), torch.arange(8)).tolist(), small.flatten().tolist(), strict=True):
        axes[0].text(column, row, value, ha="center", va="center", fontsize=13, color="black" if value > 120 else "white")
    return fig


# %%
enlarged = F.interpolate(digit[None].float(), size=(28, 28), mode="bilinear")[0]
show(digit_figure(digit, enlarged), f"A handwritten {digits_train.targets['label'][0]}: left its {digit.numel()} numbers, right the same digit enlarged to {enlarged.numel()}.")

# %% [markdown]
# On the right the same digit, enlarged to $28 \times 28 = 784$ pixels: the size of the famous MNIST digits, and the 784 of so many slides. Enlarging has
# added pixels, not information.
#
# A network without convolutions wants one long vector. `flatten` writes the rows one behind the other:

# %%
# NBVAL_CHECK_OUTPUT
vector = enlarged.flatten()
print(tuple(enlarged.shape), "->", tuple(vector.shape))

# %%
claim(
    "28 x 28 pixels are a vector of 784 numbers, and nothing is lost: the vector folds back into the image",
    len(vector) == 784 and torch.equal(vector.reshape(1, 28, 28), enlarged),
    f"{len(vector)} numbers",
)

# %% [markdown]
# ### Two layouts
#
# PyTorch has the channels first, `(C, H, W)`. Files, cameras and Matplotlib have them last, `(H, W, C)`. So pictures come as (96, 96, 3) and must
# become (3, 96, 96).
#
# **Before you run it:** `reshape(3, 96, 96)` gives that shape too. Is it the same as `permute(2, 0, 1)`?
#
# <details><summary>Answer</summary>
#
# No. `permute` exchanges the axes: pixel (y, x) of channel c stays that pixel. `reshape` takes the numbers in the order in which they lie in
# memory, and cuts them up anew. The shape is right, the picture is ruined, and no error tells you.
#
# </details>

# %%
from_file = torch.from_numpy(critters.draw("cat", seed, size=96).image)  # (H, W, C)
right = from_file.permute(2, 0, 1)
wrong = from_file.reshape(3, 96, 96)
show(image_grid([right, wrong], titles=["permute(2, 0, 1)", "reshape(3, 96, 96)"], columns=2, size=3.2),
     "The same numbers twice, in the same shape: with permute the drawn cat, with reshape a coloured jumble of stripes.")  # fmt: skip

# %%
claim(
    "Permute keeps each pixel where it belongs; reshape to the same shape gives another picture",
    torch.equal(right[:, 40, 60], from_file[40, 60]) and not torch.equal(right, wrong),
    f"{(right != wrong).float().mean():.0%} of the numbers stand elsewhere",
)

# %% [markdown]
# ### Bytes and floats
#
# Bytes are small, which is why pictures are stored so. They are not made for computing: they cannot go above 255, and wrap around without a word.

# %%
bright, brighter = torch.tensor(200, dtype=torch.uint8), torch.tensor(100, dtype=torch.uint8)
claim(
    "Bytes wrap around: 200 + 100 is 44",
    (bright + brighter).item() == 300 - 256,
    f"{(bright + brighter).item()}, no error and no warning",
)

# %% [markdown]
# So the first thing every pipeline does: to `float32`, scaled to small numbers around zero. Mean and spread come from the **training** images, and from
# no others.

# %%
scaled = digits_train.images.float() / 255
mean, std = scaled.mean(), scaled.std()


def prepare(images):
    return (images.float() / 255 - mean) / std


print(f"bytes 0 to 255 -> floats {prepare(digits_train.images).min():.2f} to {prepare(digits_train.images).max():.2f}")

# %% [markdown]
# ## 3. Convolution is filtering (20 min)
#
# A filter looks at a small window of the image and computes one number from it: it multiplies window and **kernel** $K$ number by number, and adds up.
# Then the window moves on.
#
# $$ y_{ij} = \sum_{a} \sum_{b} K_{ab} \, x_{i+a,\; j+b} $$
#
# Photo programs have done this for decades, with kernels that somebody thought of:

# %%
kernels = {
    "blur": torch.full((3, 3), 1 / 9),
    "sharpen": torch.tensor([[0.0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
    "upright edges": torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]),
    "level edges": torch.tensor([[-1.0, -2, -1], [0, 0, 0], [1, 2, 1]]),
}

# %% [markdown]
# The formula as code, word for word:


# %%
def convolve(image, kernel):
    size = len(kernel)
    height, width = image.shape[0] - size + 1, image.shape[1] - size + 1
    result = torch.zeros(height, width)
    for i in range(height):
        for j in range(width):
            result[i, j] = (image[i : i + size, j : j + size] * kernel).sum()
    return result


# %%
grey = animals[0].float().mean(dim=0) / 255  # (96, 96), 0 to 1
by_hand = {name: convolve(grey, kernel) for name, kernel in kernels.items()}


# %%
# extra code: the picture and its filtered versions, edges with zero as middle grey
def filter_figure(images, white=1.0):
    fig, axes = plt.subplots(1, len(images), figsize=(2.5 * len(images), 2.9))
    for ax, (name, image) in zip(axes, images.items(), strict=True):
        low, high = (-1.5, 1.5) if "edges" in name else (0, white)
        ax.imshow(image, cmap="gray", vmin=low, vmax=high)
        ax.set(xticks=[], yticks=[], title=name)
    return fig


# %%
show(filter_figure({"the drawing": grey} | by_hand), "A drawn cat and four filters: blur makes it soft, sharpen hard; one edge filter answers where "
     "brightness changes from left to right, the other where it changes from top to bottom. Middle grey is zero.")  # fmt: skip

# %%
by_torch = F.conv2d(grey[None, None], kernels["blur"][None, None])[0, 0]
claim(
    "The formula and PyTorch's conv2d give the same numbers",
    torch.allclose(by_hand["blur"], by_torch, atol=1e-5),
    f"largest difference {(by_hand['blur'] - by_torch).abs().max():.0e}",
)

# %% [markdown]
# A **convolutional layer** is this filter, with one change that began it all: nobody thinks of the kernel. Its numbers are weights, and they are learned.
#
# ### Why filters suit pictures
#
# The same kernel looks everywhere. So if the picture moves, the answer moves with it. This is called **equivariance**.

# %%
edges = kernels["upright edges"][None, None]
image = grey[None, None]
shift_then_filter = F.conv2d(image.roll(5, dims=-1), edges)[..., 5:]
filter_then_shift = F.conv2d(image, edges)[..., :-5]
claim(
    "Shift and filter, or filter and shift: the same answer",
    torch.allclose(shift_then_filter, filter_then_shift, atol=1e-5),
    f"largest difference {(shift_then_filter - filter_then_shift).abs().max():.0e}, on pixels that did not leave the picture",
)

# %% [markdown]
# ### Padding and stride
#
# A 3 x 3 window has no room at the rim, so the result is smaller than the image. **Padding** puts $p$ zeros around it. **Stride** $s$ moves the window $s$
# pixels at a time, and the result shrinks to about $1/s$. With image side $n$ and kernel side $k$, the result has the side
#
# $$ \left\lfloor \frac{n + 2p - k}{s} \right\rfloor + 1 $$

# %%
cases = [(n, k, p, s) for n in (8, 28, 95) for k in (1, 3, 5) for p in (0, 1, 2) for s in (1, 2, 3)]
sides = {(n, k, p, s): F.conv2d(torch.zeros(1, 1, n, n), torch.zeros(1, 1, k, k), padding=p, stride=s).shape[-1] for n, k, p, s in cases}
claim(
    "The formula gives the side of the result for every padding and stride that we tried",
    all(side == (n + 2 * p - k) // s + 1 for (n, k, p, s), side in sides.items()),
    f"{len(sides)} combinations",
)

# %% [markdown]
# ### Explore
#
# Choose an animal, a filter, a stride and a padding. What happens to the size? And at the rim?


# %%
def draw_filter(animal="cat", filter="level edges", stride=1, padding=0):
    picture = animals[species.index(animal)].float().mean(dim=0) / 255
    result = F.conv2d(picture[None, None], kernels[filter][None, None], stride=stride, padding=padding)[0, 0]
    size = " x ".join(map(str, result.shape))
    fig = filter_figure({f"the drawing, {picture.shape[0]} x {picture.shape[1]}": picture, f"{filter}, {size}": result})
    fig.set_size_inches(10, 5)
    return fig, f"A drawn {animal}, and after the filter '{filter}' with stride {stride} and padding {padding}: {size} pixels."


explore(draw_filter, animal=species, filter=list(kernels)[::-1], stride=[1, 2, 4, 8], padding=[0, 1, 4, 16])

# %% [markdown]
# ### Pooling
#
# A classifier should say "cat" wherever the cat sits. **Max pooling** takes the largest answer of each small square: *there is an edge somewhere here*. It forgets
# exactly where.

# %%
answers = F.conv2d(image, kernels["level edges"][None, None]).relu()
pooled = {f"{k} x {k} pooled": F.max_pool2d(answers, k)[0, 0] for k in (2, 4, 8)}
show(filter_figure({"filter's answers": answers[0, 0]} | pooled, white=2.5), "The answers of the edge filter, and after max pooling over squares of 2, 4 and 8 pixels: "
     "coarser and coarser, and the strong edges are still there.")  # fmt: skip

# %% [markdown]
# **Before you run it:** we move the pictures by one pixel. By how much do the answers of the filter change? And the pooled ones?
#
# <details><summary>Answer</summary>
#
# The filter's answers change a lot: an edge is a thin line, and moved by a pixel it lies beside itself. After pooling over 4 x 4 pixels most of it falls
# into the same square as before.
#
# </details>


# %%
def change(a, b):
    """Mean over the pictures of how much b differs from a, as a share of a."""
    return ((a - b).flatten(1).norm(dim=1) / a.flatten(1).norm(dim=1)).mean().item()


greys = torch.stack(animals).float().mean(dim=1, keepdim=True) / 255
answers = F.conv2d(greys, edges).relu()
moved = F.conv2d(greys.roll(1, dims=-1), edges).relu()

# %%
unpooled, after_pooling = change(answers, moved), change(F.max_pool2d(answers, 4), F.max_pool2d(moved, 4))
claim(
    "After max pooling, moving the picture by a pixel changes the answers far less",
    after_pooling < 0.75 * unpooled,
    f"changed by {after_pooling:.0%} of their size, without pooling by {unpooled:.0%}",
)

# %% [markdown]
# ### Channels
#
# A colour image has three channels. A kernel of a layer then has three slices, one for each channel, and the answers of the three slices are added up. And a layer has
# many kernels, each with its own answer: these answers are the channels that the next layer gets.

# %%
channels = [animals[3]] + [channel[None] for channel in animals[3]]
show(image_grid(channels, titles=["the drawing", "red", "green", "blue"], columns=4, size=2.5),
     "A drawn tiger, and its red, green and blue channel as grey images: orange fur is bright in red and dark in blue.")  # fmt: skip

# %%
# NBVAL_CHECK_OUTPUT
layer = nn.Conv2d(in_channels=3, out_channels=16, kernel_size=3, padding=1)
print("weights", tuple(layer.weight.shape), "biases", tuple(layer.bias.shape))
print("answers", tuple(layer(animals[0][None].float()).shape))

# %% [markdown]
# **Before you run it:** how many weights does this layer have? And a dense layer, in which each of 16 outputs looks at all pixels of a 96 x 96 picture?
#
# <details><summary>Answer</summary>
#
# The convolution: 16 kernels of $3 \cdot 3 \cdot 3$ numbers and 16 biases (a bias is a number that is added to every answer of a kernel), 448, however large the picture is. The dense layer: $3 \cdot 96 \cdot 96$
# weights for **each** output, and those are for this size of picture only.
#
# </details>


# %%
def num_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


dense = nn.Linear(3 * 96 * 96, 16)
claim(
    "The convolution has less than a five-hundredth of the dense layer's weights",
    num_parameters(layer) * 500 < num_parameters(dense),
    f"{num_parameters(layer)} against {num_parameters(dense):,}",
)

# %% [markdown]
# ### A first small CNN
#
# Filter, ReLU, pool; filter, ReLU, pool; then one dense layer that reads the answers. ReLU, $\max(0, x)$, stands between the filters, because two filters in a row
# without it would only be another filter. For digits of 8 x 8 pixels:


# %%
def small_cnn():
    return nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, kernel_size=3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 2 * 2, 10),
    )  # fmt: skip


# %%
# NBVAL_CHECK_OUTPUT
x = torch.zeros(1, 1, 8, 8)
for module in small_cnn():
    x = module(x)
    print(f"{type(module).__name__:<10} -> {str(tuple(x.shape)):<15} {num_parameters(module):>5,} weights")

# %% [markdown]
# It knows nothing yet: its weights are random. Before we train it, we ask what training means.
#
# ### Why now?
#
# None of this is new. LeCun trained networks like ours on digits in 1989. Four things had to come together:
#
# | ingredient | what changed |
# |---|---|
# | research | ReLU, dropout, better initialisation, residual connections: deep networks can be trained at all (notebooks 01, 02 and 06) |
# | computers | GPUs: AlexNet (2012) was trained on two gaming cards, in five to six days |
# | data | ImageNet: 1.2 million labelled photos of 1,000 classes in its yearly competition |
# | open libraries | Torch, Theano, Caffe, then TensorFlow (2015) and PyTorch (2016): what took months takes an afternoon |
#
# The figure shows the **top-5 error**: the share of photos whose right class is not among the five most probable.


# %%
# extra code: published results, not run here. Russakovsky et al. 2015 (2010 to 2014; the person too), He et al. 2016 (2015)
def imagenet_figure():
    published = {"2010\n": 28.2, "2011\n": 25.8, "2012\nAlexNet": 16.4, "2013\n": 11.7, "2014\nGoogLeNet": 6.7, "2015\nResNet": 3.57}
    published["a trained\nperson"] = 5.1
    fig, ax = plt.subplots(figsize=(10, 4.5))
    bars = ax.bar(list(published), list(published.values()), color=["tab:gray"] * 2 + ["C0"] * 4 + ["C1"])
    ax.bar_label(bars, fmt="%g %%", padding=3)
    ax.set(ylabel="published top-5 error, %", ylim=(0, 32), title="From 2012 on, the winners are deep networks (blue)")
    ax.grid(axis="x", visible=False)
    return fig


# %%
show(imagenet_figure(), "Published results, not run here: the top-5 error of the winner of the ImageNet competition by year. With the first deep network in 2012 "
     "it falls steeply, and in 2015 it is below that of a trained person.")  # fmt: skip

# %% [markdown]
# ## 4. Observations, a model, a cost (10 min)
#
# All supervised learning has three parts.
#
# - **Observations**: pairs $(x_i, y_i)$, $i = 1 \dots n$. Here $x_i$ is a digit as a vector, and $y_i$ is 1 for a zero, 0 for any other digit.
# - A **model**: a function with parameters, $f_w(x)$. The simplest is linear, $f_w(x) = w \cdot x + b$.
# - A **cost**, or **loss**: how wrong the model is, on average. Squared error: $J(w, b) = \frac{1}{n} \sum_i (f_w(x_i) - y_i)^2$.
#
# This is **regression**. To learn is to find the parameters with the lowest cost.

# %%
observations = digits_train.images.flatten(1).float() / 255  # (n, 64)
is_zero = (digits_train.targets["label"] == 0).float()


def cost(w, b):
    return ((observations @ w + b - is_zero) ** 2).mean()


# %% [markdown]
# **Gradient descent** goes downhill: the gradient says in which direction the cost rises, so step the other way, $w \leftarrow w - \eta \, \nabla_w J$. PyTorch computes the
# gradient. $\eta$ is the learning rate, `lr`.

# %%
w, b, lr = torch.zeros(64, requires_grad=True), torch.zeros(1, requires_grad=True), 0.08
costs = []
for _ in range(1000):
    costs.append(cost(w, b).item())
    gradients = torch.autograd.grad(cost(w, b), [w, b])
    with torch.no_grad():
        w -= lr * gradients[0]
        b -= lr * gradients[1]

# %% [markdown]
# For this model, and for hardly any other, the lowest cost can also be computed directly (least squares). **Before you run it:** does gradient
# descent get there?
#
# <details><summary>Answer</summary>
#
# Nearly, and never below. The cost of a linear model is a bowl with one lowest point. Networks have no such luck: their cost is a
# mountain range. That descending works there too is not proved, but seen daily.
#
# </details>

# %%
with_ones = torch.cat([observations, torch.ones(len(observations), 1)], dim=1).double()
best = torch.linalg.lstsq(with_ones, is_zero[:, None].double(), driver="gelsd").solution
lowest = ((with_ones @ best - is_zero[:, None]) ** 2).mean().item()
reached = cost(w, b).item()
claim(
    "Gradient descent comes within a twentieth of the lowest possible cost, and not below it",
    lowest <= reached < 1.05 * lowest,
    f"{reached:.5f}, the lowest is {lowest:.5f}",
)


# %%
# extra code: the way down, and the weights as an image
def regression_figure():
    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), width_ratios=[1.5, 1])
    left.plot(range(1, len(costs) + 1), costs)
    left.axhline(lowest, color="black", linestyle=":")
    left.annotate("lowest possible", (1, lowest), xytext=(0, 6), textcoords="offset points")
    left.set(xlabel="step", ylabel="cost J", xscale="log", yscale="log", title="Downhill, step by step")
    left.minorticks_off()
    ticks = [0.02, 0.05, 0.1]
    left.set(yticks=ticks, yticklabels=ticks)
    left.xaxis.set_major_formatter("{x:g}")
    picture = right.imshow(w.detach().reshape(8, 8), cmap="PuOr", vmin=-0.25, vmax=0.25)
    right.set(xticks=[], yticks=[], title="The weights as an image")
    right.grid(False)
    fig.colorbar(picture, label="against 0          for 0")
    return fig


# %%
show(regression_figure(), f"Left: the cost falls to {reached:.4f}, near the lowest possible. Right: the weights as an 8 x 8 image: purple pixels, on "
     "the ring of a zero, speak for it, orange ones, in its middle and outside, against it.")  # fmt: skip

# %% [markdown]
# ## 5. A function that knows everything (15 min)
#
# What do we really want? A low cost on data that we have **not** seen. In symbols: observations come from some distribution $P$, and the **risk** of $f$ is its
# expected loss there. We do not know $P$. We have $n$ examples, and their mean loss, the **empirical risk**.
#
# $$ R(f) = \mathbb{E}_{(x, y) \sim P}\,[\,\ell(f(x), y)\,] \qquad\qquad R_n(f) = \frac{1}{n} \sum_{i=1}^{n} \ell(f(x_i), y_i) $$
#
# Here $\ell$, the loss of a single answer, is 0 where it is right and 1 where it is wrong. Learning minimises $R_n$ and hopes for $R$. There is a function that is perfect at the first:
#
# $$ f(x) = \begin{cases} y_i & \text{if } x = x_i \text{ for some } i \\ 0 & \text{else} \end{cases} $$

# %%
train_images, train_labels = digits_train.images, digits_train.targets["label"]
test_images, test_labels = digits_test.images, digits_test.targets["label"]
memory = {image.numpy().tobytes(): label.item() for image, label in zip(train_images, train_labels, strict=True)}


def memoriser(images):
    return torch.tensor([memory.get(image.numpy().tobytes(), 0) for image in images])


def risk(answers, labels):
    return (answers != labels).float().mean().item()


# %% [markdown]
# **Before you run it:** its risk on the training digits? On new ones?
#
# <details><summary>Answer</summary>
#
# Zero on the training digits: it has looked them up. On a new digit it says "0", whatever comes. One digit in ten is a zero, so nine in ten answers are
# wrong: chance.
#
# </details>

# %%
known, new = risk(memoriser(train_images), train_labels), risk(memoriser(test_images), test_labels)
claim(
    "The memoriser has zero empirical risk, and is no better than chance on new digits",
    known == 0 and new > 0.85,
    f"risk {known:.0%} on {len(train_labels)} known digits, {new:.0%} on {len(test_labels)} new ones",
)

# %% [markdown]
# So a low training error alone means nothing. This is why every data set is divided: a part to learn from (**training**), one to watch and to choose by
# (**validation**), one to measure with at the end (**test**). And this is why the test part is not touched. Pictures that a network was not
# trained on are called *new*, *unseen* or *held-out*; where we measure at the end, they are the test pictures.
#
# ### Can a network memorise?
#
# Take 800 digits and a network of dense layers. Once with their labels; once with the labels **shuffled**, so that a picture's label has nothing to do with what
# it shows. What a digit looks like then says nothing about its label, and there is nothing to learn.


# %%
def dense_network():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))


some = digits_train.subset(800, seed=seed)
labels = {"true labels": some.targets["label"]}
labels["shuffled labels"] = labels["true labels"][torch.randperm(len(some))]
print(f"{len(some)} digits, and a network of {num_parameters(dense_network()):,} weights")

# %% [markdown]
# **Before you run it:** can it fit the shuffled labels? What will it score on new digits?
#
# <details><summary>Answer</summary>
#
# It fits them all. It has hundreds of weights for each digit, and so it can be a memoriser. On new digits it guesses: there was nothing that could have
# carried over. (Zhang et al. 2017 did this with ImageNet.)
#
# </details>

# %%
test_loader = DataLoader(TensorDataset(prepare(test_images), test_labels), batch_size=400)
memorised = {}
for name, given in labels.items():
    torch.manual_seed(seed)
    network = dense_network().to(device)
    loader = DataLoader(TensorDataset(prepare(some.images), given), batch_size=200, shuffle=True)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    memorised[name] = fit(network, loader, test_loader, num_epochs=60, optimizer=optimizer, progress=name)

# %%
fig, axes = plt.subplots(1, 2, figsize=(12, 4.3))
titles = ["True labels: learned", "Shuffled labels: fitted, not learned"]
for ax, title, history in zip(axes, titles, memorised.values(), strict=True):
    ax.set_ylim(0, 1.05)
    curves(ax, {"known": history["train_accuracy"], "new": history["val_accuracy"]}, "epoch", "accuracy", title)
fitted, learned = ({name: history[key][-1] for name, history in memorised.items()} for key in ("train_accuracy", "val_accuracy"))
show(fig, f"Accuracy against epoch. With true labels {learned['true labels']:.0%} of new digits are right at the end. With shuffled labels the network also "
     f"fits {fitted['shuffled labels']:.0%} of what it was given, and stays at chance on new digits: {learned['shuffled labels']:.0%}.")  # fmt: skip

# %%
claim(
    "Shuffled labels can be fitted, but nothing is learned",
    fitted["shuffled labels"] > 0.95 and learned["shuffled labels"] < 0.2,
    f"{fitted['shuffled labels']:.1%} of the known, {learned['shuffled labels']:.1%} of new digits; chance is 10 %",
)

# %%
claim(
    "The same network with the true labels does learn",
    fitted["true labels"] > 0.95 and learned["true labels"] > 0.9,
    f"{fitted['true labels']:.1%} of the known, {learned['true labels']:.1%} of new digits",
)

# %% [markdown]
# The training curves look alike. Only data that the network has not seen tell the two apart. **No free lunch** (Wolpert 1996) says it in general:
# averaged over all ways in which labels could belong to pictures, no method beats guessing on pictures that it has not seen. Learning works because the world is not like that: pictures that look alike
# mostly mean the same.

# %% [markdown] slideshow={"slide_type": "notes"}
# Ask who would have trusted the line "known" of the right-hand panel, if it were the only one. Many will say that "few weights generalise, many memorise": the same network, with the same
# many weights, does both here. What decides is whether there is anything in the data.

# %% [markdown]
# ## 6. The training loop, in full view (15 min)
#
# Now the network of section 3. A classifier gives ten numbers $a_c$, one for each class $c$: **logits**. Softmax makes probabilities of them, $p_c = e^{a_c} / \sum_k e^{a_k}$, and the cost is the
# **cross-entropy**, $-\log p_{\text{right}}$, on average. Going through all data for each step would be slow, so each step takes a random **batch**. Once through
# all batches is an **epoch**.

# %%
train_set = TensorDataset(prepare(train_images), train_labels)


def fresh(seed):
    """A new network, its optimizer and its data: all that a training begins with."""
    torch.manual_seed(seed)
    model = small_cnn().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    return model, optimizer, DataLoader(train_set, batch_size=64, shuffle=True)


# %% [markdown]
# This is the loop. You will meet it in every notebook. Five lines do the work. (The optimizer is Adam: gradient descent with a step length of its own for each weight;
# notebook 01, section 3, says how.)

# %%
num_epochs = 6
model, optimizer, train_loader = fresh(seed)
for _ in range(num_epochs):
    model.train()
    for images, labels in train_loader:
        images, labels = images.to(device), labels.to(device)  # the data go where the model is
        outputs = model(images)  # 1. forward: what does the model say?
        loss = F.cross_entropy(outputs, labels)  # 2. how wrong is that?
        optimizer.zero_grad()  # 3. forget the old gradients: backward() adds to them
        loss.backward()  # 4. backward: the gradient for every weight
        optimizer.step()  # 5. a small step downhill

# %% [markdown]
# And this is how it is tested: evaluation mode (it makes a difference from notebook 01, section 7, on), no gradients, count the right answers.

# %%
model.eval()
with torch.no_grad():
    answers = model(prepare(test_images).to(device)).argmax(dim=1).cpu()
accuracy = (answers == test_labels).float().mean().item()
claim(
    "The small CNN, trained by hand, reads new digits",
    accuracy > 0.9,
    f"{accuracy:.1%} of {len(test_labels)} digits right, the memoriser {1 - new:.1%}",
)

# %% [markdown]
# ### The same, as one line
#
# From now on the loop is `fit`, and the test is `evaluate`. They add a progress bar, a history and checkpoints. (`fit` also changes the order in which weights lie in memory,
# because that is often faster. It changes last digits, so we switch it off here.)
#
# **Before you run it:** the same seed, the same data. Are the weights at the end *nearly* the same, or the same?
#
# <details><summary>Answer</summary>
#
# On a CPU the same, to the last bit: the same computations in the same order. On a GPU, sums may be taken in another order, so there the claim allows a
# small difference.
#
# </details>

# %%
fitted_model, optimizer, train_loader = fresh(seed)
history = fit(fitted_model, train_loader, num_epochs=num_epochs, optimizer=optimizer, channels_last=False)


# %%
def difference(model, other):
    """The largest difference of any two weights."""
    return max((a - b).abs().max().item() for a, b in zip(model.parameters(), other.parameters(), strict=True))


tolerance = 0 if device.type == "cpu" else 1e-3
claim(
    "The loop in full view and fit end with the same weights",
    difference(model, fitted_model) <= tolerance,
    f"largest difference {difference(model, fitted_model):g}, allowed {tolerance:g}",
)

# %%
claim(
    "evaluate counts the same right answers",
    abs(evaluate(fitted_model, test_loader)["accuracy"] - accuracy) < 1e-6 + tolerance,
    f"{evaluate(fitted_model, test_loader)['accuracy']:.1%}",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# A trap for those who try it: give fit a val_loader here, and the weights differ. Every DataLoader draws a random number when it begins, also one that does not
# shuffle, so testing between the epochs changes the order of the batches that follow. It learns as well, but other weights.

# %% [markdown]
# ### What has it learned?
#
# Section 3 had kernels that somebody thought of. These are the network's own: sixteen kernels, and what each answers to one digit.


# %%
# extra code: the kernels of the first layer above, their answers below
def kernels_figure(picture):
    kernels = fitted_model[0].weight.detach()
    with torch.no_grad():
        answers = fitted_model[0](prepare(picture)[None].to(device)).relu()[0].cpu()
    fig, axes = plt.subplots(4, 8, figsize=(11, 6))
    for i in range(16):
        upper, lower = axes[2 * (i // 8), i % 8], axes[2 * (i // 8) + 1, i % 8]
        upper.imshow(kernels[i, 0].cpu(), cmap="PuOr", vmin=-0.8, vmax=0.8)
        lower.imshow(answers[i], cmap="gray", vmin=0)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
    for row, name in enumerate(["kernel", "answer"] * 2):
        axes[row, 0].set_ylabel(name)
    fig.suptitle("Learned, not thought of: each kernel answers to something else", fontsize=15, fontweight="bold")
    return fig


# %%
show(kernels_figure(test_images[0]), f"The 16 learned kernels of the first layer (orange and purple: the two signs), and below each its answer to a handwritten "
     f"{test_labels[0]}.")  # fmt: skip

# %% [markdown]
# ## 7. Save and resume (15 min)
#
# Sessions end. Colab's after hours, the shared box's after 20 idle minutes, a laptop's when its lid closes. A training that lives only in memory is then lost. So: write a
# **checkpoint** after every epoch, and go on from it.
#
# What does a checkpoint have to hold? We shall see. First, the run that nobody disturbs:

# %%
unbroken, optimizer, train_loader = fresh(seed)
whole = fit(unbroken, train_loader, num_epochs=num_epochs, optimizer=optimizer)

# %% [markdown]
# Now the same again, with a checkpoint, and somebody presses the stop button at a step that we draw at random. `StopAt` does it for us:
# it hands out batches like any loader, and at that step it sends the signal that Jupyter's stop button sends.


# %%
class StopAt:
    def __init__(self, loader, step):
        self.loader, self.left = loader, step

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        for batch in self.loader:
            self.left -= 1
            if self.left == 0:
                signal.raise_signal(signal.SIGINT)
            yield batch


# %%
checkpoint = Path(f"checkpoints/start_here_{os.getpid()}.pt")  # a name of its own for each run of this notebook
steps = len(train_loader)  # in an epoch
stop_at = random.Random(seed).randrange(steps + 1, (num_epochs - 1) * steps)
print(f"The stop button will be pressed at step {stop_at} of {num_epochs * steps}.")

# %%
model, optimizer, train_loader = fresh(seed)
first_part = fit(model, StopAt(train_loader, stop_at), num_epochs=num_epochs, optimizer=optimizer, checkpoint=checkpoint)

# %% [markdown]
# All is lost: we throw model, optimizer and data loader away. What is left is a file. This is what it holds:

# %%
model = optimizer = train_loader = None
saved = torch.load(checkpoint, weights_only=True)
print(f"{checkpoint.stat().st_size / 1e3:.0f} kB, {saved['epoch']} whole epochs, and in it: {', '.join(sorted(saved))}")

# %% [markdown]
# **Before you run it:** a new network with other random weights, a new optimizer, another seed. Then `resume=True`. How close do its final weights come to those of the
# undisturbed run?
#
# <details><summary>Answer</summary>
#
# They are equal; on a CPU to the last bit. The checkpoint holds the weights, but also the optimizer's memory (Adam's running means), and the
# state of the random numbers, which decides the order of the batches. The broken epoch is run again from its start.
#
# </details>

# %%
resumed, optimizer, train_loader = fresh(seed + 1)
second_part = fit(resumed, train_loader, num_epochs=num_epochs, optimizer=optimizer, checkpoint=checkpoint, resume=True)

# %%
claim(
    "Interrupted, thrown away and resumed: the final weights equal those of the unbroken run",
    difference(resumed, unbroken) <= tolerance,
    f"stopped at step {stop_at} of {num_epochs * steps}; largest difference {difference(resumed, unbroken):g}, allowed {tolerance:g}",
)


# %%
# extra code: the unbroken run as a line, the two parts of the other as dots on it
def resume_figure():
    fig, ax = plt.subplots()
    epochs, done = range(1, num_epochs + 1), saved["epoch"]
    ax.plot(epochs, whole["train_loss"], color="lightgray", linewidth=9, solid_capstyle="round")
    ax.plot(epochs[:done], second_part["train_loss"][:done], "o", markersize=13, color="C0")
    ax.plot(epochs[done:], second_part["train_loss"][done:], "s", markersize=12, color="C1")
    ax.axvline(stop_at / steps, color="black", linestyle=":")
    top = max(whole["train_loss"])
    ax.annotate("stopped here", (stop_at / steps, top), xytext=(8, -4), textcoords="offset points")
    ax.annotate("line: never stopped", (num_epochs, top), xytext=(0, -26), textcoords="offset points", color="gray", ha="right")
    ax.annotate("circles: before the stop", (num_epochs, top), xytext=(0, -48), textcoords="offset points", color="C0", ha="right", fontweight="bold")
    ax.annotate("squares: resumed", (num_epochs, top), xytext=(0, -70), textcoords="offset points", color="C1", ha="right", fontweight="bold")
    ax.set(xlabel="epoch", ylabel="training loss", xticks=epochs, title="The resumed run goes on as if nothing had happened")
    return fig


# %%
show(resume_figure(), f"Training loss against epoch: the run that was stopped in epoch {saved['epoch'] + 1} and resumed lies on the line of the run that was never stopped.")

# %% [markdown]
# ### Are the weights not enough?
#
# Many programs save `model.state_dict()` and nothing else. **Before you run it:** we load only the weights, and train the remaining epochs. The same end?
#
# <details><summary>Answer</summary>
#
# No. Adam has forgotten its running means and the batches come in another order. The result need not be *worse*. But it is another one, and you can no longer
# tell whether a change of yours or the interruption made a difference.
#
# </details>

# %%
weights_only, optimizer, train_loader = fresh(seed + 1)
weights_only.load_state_dict(saved["model"])
fit(weights_only, train_loader, num_epochs=num_epochs - saved["epoch"], optimizer=optimizer)
claim(
    "Resumed from the weights alone, the training ends elsewhere",
    difference(weights_only, unbroken) > 0.01,
    f"largest difference of two weights {difference(weights_only, unbroken):.2f}",
)

# %% [markdown]
# To keep a *finished* network, for use and not for more training, the weights are enough: `torch.save(model.state_dict(), "digits.pt")`. Load files from others with
# `weights_only=True` (the default today): an old-style file can run any program when it is opened.

# %%
checkpoint.unlink(missing_ok=True)  # tidy up
unbroken = resumed = weights_only = None
free_memory()

# %% [markdown] slideshow={"slide_type": "notes"}
# Live: in the cell with `first_part`, give fit num_epochs=600 and train_loader itself in place of StopAt(...), press the real stop button, and call fit again with resume=True. Then run
# the cell as it was: the cells below expect it so. The question that comes: why replay the broken epoch instead of going
# on in the middle? Because a checkpoint after every step would cost more time than it saves; the epoch is the usual compromise. The lab asks for it.

# %% [markdown]
# ### Save your notebook, come back to it, hand it in
#
# A checkpoint keeps a training. What you write yourself is kept by the notebook:
#
# | | save | come back |
# |---|---|---|
# | Colab | *File > Save a copy in Drive*, once, before you begin. From then on Colab saves into your copy. | Open the copy from your Drive. The machine is a new one: run the cells from the top. |
# | Kaggle | *Copy & Edit*, once, before you begin. *Save Version* keeps what you have. | Open it from *Your Work*. The machine is a new one here, too. |
# | your own machine | *File > Duplicate* gives you a copy that no update of the course touches; Ctrl+S saves. | Open the copy, and run the cells from the top. |
#
# **To hand it in:** restart the kernel and run all cells, so that what you see is what the code gives. The summary says how many exercises are done. Then
# *File > Download*, and send the `.ipynb`.

# %% [markdown]
# ## 8. Exercises (35 min)
#
# Write your answer in place of the dots and run the cell: the check tells you what it expected and what came. Stuck? Take away the `#` in
# the cell below it.
#
# **Exercise 1: from picture to tensor.** `picture` comes from a file: (H, W, 3), `uint8`. Return it as PyTorch wants it: (3, H, W), `float32`, from 0 to 1.


# %%
def picture_to_tensor(picture):
    return ...


exercises.picture_to_tensor.check(picture_to_tensor)

# %% slideshow={"slide_type": "skip"}
# exercises.picture_to_tensor.hint()
# exercises.picture_to_tensor.solution()

# %% [markdown]
# **Exercise 2: the training step.** The five lines of section 6, from memory. Return the loss as a plain number.


# %%
def training_step(model, optimizer, images, labels):
    ...


exercises.training_step.check(training_step)

# %% slideshow={"slide_type": "skip"}
# exercises.training_step.hint()
# exercises.training_step.solution()

# %% [markdown]
# **Exercise 3: convolution with stride and padding.** Extend `convolve` of section 3. `image` is (H, W), `kernel` (k, k). Without `F.conv2d`.


# %%
def convolve_more(image, kernel, stride, padding):
    ...


exercises.convolve_more.check(convolve_more)

# %% slideshow={"slide_type": "skip"}
# exercises.convolve_more.hint()
# exercises.convolve_more.solution()

# %% [markdown]
# **Exercise 4: zero empirical risk, and not useless.** The memoriser says 0 to everything new. Build a better one. `learn(images, labels)` gets `uint8` images (n, 1, 8, 8) and
# labels (n,). It returns a **function** that takes images and returns their labels. On the images that it was given it must make no mistake; on new ones it should be right
# nine times in ten. No network is needed.


# %%
def learn(images, labels):
    ...


exercises.learn.check(learn)

# %% slideshow={"slide_type": "skip"}
# exercises.learn.hint()
# exercises.learn.solution()

# %% [markdown]
# ## 9. Lab: resume from a kill at a random step (40 min and more)
#
# A stop button is polite. A power cut is not: the program is gone, at whatever step it was. Write a training that survives it, **without** `fit`.
#
# `train(model, optimizer, loader, num_epochs, checkpoint)` trains with cross-entropy and returns the model. `checkpoint` is a `Path`. If that file is there, a run before this one was
# killed, and yours must go on where it left off, though `model` and `optimizer` are new and the random numbers others.
#
# The check kills your training at random steps, at the very first one and at the last one, again and again, and calls `train` anew until it is through. Then it
# compares your final weights with those of a run that nobody disturbed. **Score:** how many of the killed runs end with *equal* weights. Good is all of them.
#
# Done? Two questions more. How many steps did your runs do twice, and what would it cost to save after every step? And what if the power cut comes *while* the checkpoint is
# being written? (Look at `_save` in `utils/training.py`.)


# %%
def train(model, optimizer, loader, num_epochs, checkpoint):
    ...


exercises.lab.check(train)

# %% slideshow={"slide_type": "skip"}
# exercises.lab.hint()
# exercises.lab.solution()

# %% [markdown]
# ## Summary
#
# - Look before you take a GPU, take one, give it back. Small jobs gain nothing from it, and a clock without `synchronize` lies.
# - An image is a tensor, `(C, H, W)`. Bytes for storing, floats for computing. `permute`, never `reshape`, to exchange axes.
# - A convolution is a filter whose kernel is learned. It has few weights, and moves with the picture. Pooling forgets small shifts.
# - Zero error on known data means nothing: a table can do that, and a network can do it with shuffled labels.
# - The loop: forward, loss, zero the gradients, backward, step. `fit` is that loop.
# - A checkpoint holds weights, optimizer and random state. Then a resumed run equals an unbroken one.
#
# The claims of this run, with their figures:

# %%
summary()

# %% [markdown]
# ### Lecture topics
#
# | topic | section | lectures |
# |---|---|---|
# | G1 where to run | 1 | A |
# | G2 GPU etiquette: look, take one, give it back | 1 | A |
# | G3 model and data on a GPU, honest timing | 1 | A |
# | G4 save and resume | 7 | A |
# | G5 an image as a tensor, 784 pixels; observations, model, cost | 2, 4 | D |
# | G6 risk, the memoriser, no free lunch | 5 | D |
# | G7 why now; convolution as filtering, pooling, stride, channels, a first small CNN | 3 | D |
# | G8 the training loop and fit | 6 | E |
#
# ### Further reading
# - A. Paszke et al. *PyTorch: An Imperative Style, High-Performance Deep Learning Library*. NeurIPS 2019. https://arxiv.org/abs/1912.01703
# - PyTorch documentation. *CUDA semantics* (asynchronous execution) and *Reproducibility*. https://docs.pytorch.org/docs/stable/notes/cuda.html,
#   https://docs.pytorch.org/docs/stable/notes/randomness.html
# - Google. *Colaboratory: frequently asked questions*. https://research.google.com/colaboratory/faq.html. Kaggle. *Notebooks documentation*. https://www.kaggle.com/docs/notebooks
# - V. Dumoulin, F. Visin. *A guide to convolution arithmetic for deep learning*. 2016. https://arxiv.org/abs/1603.07285
# - Y. LeCun et al. *Backpropagation Applied to Handwritten Zip Code Recognition*. Neural Computation 1, 1989.
# - A. Krizhevsky, I. Sutskever, G. E. Hinton. *ImageNet Classification with Deep Convolutional Neural Networks*. NeurIPS 2012. (two GTX 580, five to six days)
# - O. Russakovsky et al. *ImageNet Large Scale Visual Recognition Challenge*. IJCV 2015. https://arxiv.org/abs/1409.0575
# - K. He, X. Zhang, S. Ren, J. Sun. *Deep Residual Learning for Image Recognition*. CVPR 2016. https://arxiv.org/abs/1512.03385
# - V. Vapnik. *Principles of Risk Minimization for Learning Theory*. NeurIPS 1991. (risk and empirical risk)
# - C. Zhang, S. Bengio, M. Hardt, B. Recht, O. Vinyals. *Understanding deep learning requires rethinking generalization*. ICLR 2017. https://arxiv.org/abs/1611.03530
# - D. H. Wolpert. *The Lack of A Priori Distinctions Between Learning Algorithms*. Neural Computation 8, 1996. (no free lunch)
# - E. Alpaydin, C. Kaynak. *Optical Recognition of Handwritten Digits*. UCI Machine Learning Repository, 1998.
#
# ### Next notebook
# 01 · Vanishing gradients: what happens when the network gets deep.
