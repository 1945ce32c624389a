# %% [markdown]
# # 00 · Start here: a network that reads digits
#
# @BADGES@
#
# **To keep what you write:** on Colab choose *File > Save a copy in Drive*, on Kaggle *Copy & Edit*, before you begin. Section 7 explains how to come back to your work, and how to
# hand it in.
#
# **Question:** What happens, step by step, when a machine learns from pictures?
#
# **You will be able to**
# - read an image as a tensor, and a convolution as a filter,
# - write a training loop, and tell learning from memorising,
# - resume a training that was stopped, and share a GPU with others.
#
# **Time:** it runs in @TIME@ on two CPU cores; with all sections, the exercises and the lab, about three hours.
# **Before this:** you need Python with functions and classes, derivatives, and matrix products. This is the first notebook of the course. All notebooks together take about 40
# hours with the exercises and labs; the core of each fills a lecture of 75 minutes.
#
# **How to read it:** run the cells from the top, each with Shift+Enter. A closed cell that shows only a title ("Set-up", "Extra code") contains code that you need not read: for
# example, it draws a figure. Run it like any other; a click opens it. If you cannot find where a name comes from, it was made in a closed cell above.

# %% [markdown] slideshow={"slide_type": "notes"}
# **A plan for 75 minutes** (the core takes 68, with its exercises)
#
# - **Core:** sections 1, 2, 3, 6 and 7: a network that reads digits, a picture as a tensor, convolution by hand, the loop in full view, stop and
#   resume.
# - **Optional:** 4 and 5 together make a separate lesson on risk, and on the function that knows everything. 8: the machine and its GPUs; take it first if the class shares one.
# - **Where to stop:** after the card of section 7 which says that the resumed run equals the unbroken one. If you are late, leave out "Why now?" in section 3.

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
# %% slideshow={"slide_type": "skip"}
# What this notebook imports. Everything that is not PyTorch is in the folder utils/.
import io
import itertools
import random
import shutil
import signal
import tempfile
import time
from contextlib import contextmanager, redirect_stdout

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm.auto import tqdm

from utils import critters, datasets
from utils.device import free_memory, report
from utils.exercises import start_here as exercises
from utils.figures import curves, explore, image_grid, show
from utils.lessons import claim, fact, summary
from utils.training import evaluate, fit

seed, cores = torch.initial_seed(), torch.get_num_threads()

# %% [markdown]
# ## 1. A network that reads digits (10 min)
#
# Here are handwritten digits. Above each is the digit that it is meant to be: its **label**. (Alpaydin and Kaynak 1998; they come with scikit-learn.)

# %%
digits_train, digits_val, digits_test = datasets.digits()
print(len(digits_train), len(digits_val), len(digits_test))

# %%
some_labels = digits_train.targets["label"][:16].tolist()
fig = image_grid(digits_train.images[:16], titles=some_labels, columns=8, size=1.1)
show(fig, f"Sixteen handwritten digits of 8 x 8 pixels: {some_labels}.")

# %% [markdown]
# They come in three parts. The network learns from the first, the **training set**. The second, the **validation set**, shows us how well it does while we work. The third, the
# **test set**, is not used until section 6.
#
# A computer stores a pixel as a whole number from 0 (black) to 255 (white). Networks work better with small numbers, so we divide:


# %%
def prepare(images):
    return images.float() / 255


train_set = TensorDataset(prepare(digits_train.images), digits_train.targets["label"])
val_set = TensorDataset(prepare(digits_val.images), digits_val.targets["label"])

# %% [markdown]
# A **network** is a function that contains many numbers, its **weights**. At first they are random. This network takes a picture and returns ten numbers, one for each digit; the
# digit with the largest number is its answer. Section 3 explains its parts.


# %%
def small_cnn():
    return nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, kernel_size=3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 2 * 2, 10),
    )  # fmt: skip


# %% [markdown]
# In training, the network sees neither one digit at a time nor all 1,200 at once, but a **batch** of 50, drawn at random. After each batch the weights change a little: this is one
# **step**. One pass through all digits is an **epoch**. Then they are shuffled again.

# %%
# NBVAL_CHECK_OUTPUT
train_loader = DataLoader(train_set, batch_size=50, shuffle=True)
images, labels = next(iter(train_loader))
print(tuple(images.shape), tuple(labels.shape))

# %% [markdown]
# **Exercise 1** (1 min): we will train for 12 epochs. How many steps is that?
#
# Write your answer in place of the dots and run the cell: the check says what it expected and what it got. Stuck? Remove a `#` in the cell below and run it.

# %%
steps_in_all = ...
exercises.steps_in_all.check(steps_in_all)

# %% slideshow={"slide_type": "skip"}
# exercises.steps_in_all.hint()
# exercises.steps_in_all.solution()

# %% [markdown]
# **Before you run it:** here is a new network, which has never seen a digit. What share of the validation digits does it read correctly? And after the training?
#
# <details><summary>Answer</summary>
#
# Before training, about one in ten, as if it were guessing. After training, you will see. Write your guess down.
#
# </details>


# %%
def share_right(model, images, labels):
    with torch.no_grad():  # only looking: nothing is to be learned here
        answers = model(images).argmax(dim=1)  # the place of the largest of ten numbers
    return (answers == labels).float().mean().item()


torch.set_num_threads(1)  # for a network this small, more cores only mean more waiting
torch.manual_seed(seed)
model = small_cnn()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
before = share_right(model, *val_set.tensors)

# %% [markdown]
# Now the network learns. Five lines do the work. The `optimizer` is what changes the weights, and `lr`, the learning rate, says how far each step goes (section 6).

# %%
num_epochs = 12
for _ in range(num_epochs):
    for images, labels in train_loader:
        outputs = model(images)  # what does it say?
        loss = F.cross_entropy(outputs, labels)  # how wrong is that?
        optimizer.zero_grad()
        loss.backward()  # how does each weight change that?
        optimizer.step()  # change the weights, to be less wrong

# %%
after = share_right(model, *val_set.tensors)
claim(
    "Five lines, repeated many times,"
    " teach a network with random weights to read digits",
    before < 0.4 and after > 0.85,
    f"{before:.0%} right before the training, {after:.0%} after it",
    same=f"the network, and {len(val_set)} digits that it was not trained on",
)

# %% [markdown]
# That is deep learning on one screen; the course is about what happens in these lines. First we look at what the network gets **wrong**, which teaches us more than the score.
# These are the eight validation digits with the largest loss.

# %%
images, labels = val_set.tensors
with torch.no_grad():
    outputs = model(images)
answers = outputs.argmax(dim=1)
worst = F.cross_entropy(outputs, labels, reduction="none").argsort(descending=True)[:8]

# %%
# extra code: the eight digits, a red frame where the answer is wrong
pairs = list(zip(labels[worst].tolist(), answers[worst].tolist(), strict=True))
colours = ["#cf222e" if label != answer else "#57606a" for label, answer in pairs]
fig = image_grid(images[worst], [f"a {a}, read as {b}" for a, b in pairs], columns=4, size=1.9, colours=colours)
show(fig, f"The eight digits with the largest loss. In red frames, {sum(a != b for a, b in pairs)} wrong answers: "
     + ", ".join(f"a {a} read as {b}" for a, b in pairs if a != b) + ".")  # fmt: skip

# %% [markdown] slideshow={"slide_type": "notes"}
# Ask the class what they would have answered. Some of these digits are hard for people, too, at 8 x 8 pixels; others are clearly the network's fault. A score does not say which.

# %% [markdown]
# **Exercise 2** (3 min): find the mistakes. `outputs` is (N, 10), `labels` is (N,). Return the positions of the pictures with a wrong answer, such as 3 and 17.


# %%
def find_mistakes(outputs, labels):
    ...


exercises.find_mistakes.check(find_mistakes)

# %% slideshow={"slide_type": "skip"}
# exercises.find_mistakes.hint()
# exercises.find_mistakes.solution()

# %% [markdown]
# ## 2. An image is a tensor (12 min)
#
# A **tensor** is a box of numbers with a shape. Depending on its number of axes, it has an older name:

# %%
# NBVAL_CHECK_OUTPUT
scalar = torch.tensor(7)
vector = torch.tensor([7, 1, 4])
matrix = torch.tensor([[7, 1, 4], [2, 8, 5]])
block = torch.stack([matrix, matrix + 1, matrix - 1, matrix])
for tensor in (scalar, vector, matrix, block):
    print(tensor.ndim, "axes:", tuple(tensor.shape))


# %%
# extra code: four tensors as boxes of numbers, the first axis of the last one into the depth
def tensor_figure(tensors):
    fig, axes = plt.subplots(2, 2, figsize=(7.5, 4.8), height_ratios=[1, 2.6])
    for ax, (name, tensor) in zip(axes.flat, tensors.items(), strict=True):
        for depth, matrix in reversed(list(enumerate(tensor.reshape(-1, *(1,) * (2 - tensor.ndim), *tensor.shape[-2:])))):
            for row, numbers in enumerate(matrix.tolist()):
                for column, number in enumerate(numbers):
                    x, y = column + 0.42 * depth, -row + 0.42 * depth
                    ax.add_patch(plt.Rectangle((x, y), 1, 1, facecolor=plt.cm.Blues(0.12 + 0.15 * depth), edgecolor="black", zorder=9 - 2 * depth))
                    ax.text(x + 0.5, y + 0.5, number, ha="center", va="center", zorder=10 - 2 * depth)
        shape = ", ".join(map(str, tensor.shape)) or "none"
        ax.set(xlim=(-0.1, 4.6), ylim=(-0.05, 1.05) if tensor.ndim < 2 else (-1.05, 2.3), title=f"{name}\n(shape: {shape})")
        ax.set_aspect("equal", anchor="SW")
        ax.axis("off")
    return fig


names = ["0 axes: a scalar", "1 axis: a vector", "2 axes: a matrix", "3 axes: a block"]
show(tensor_figure(dict(zip(names, (scalar, vector, matrix, block), strict=True))), "A single number, a row of three, two rows of three, and four such sheets one behind the other.")

# %% [markdown]
# A grey digit could be a matrix. A colour image needs a block: one sheet for red, one for green, one for blue. These sheets are its **channels**. So that all images can be treated
# alike, a grey image is also a block, with one channel: `(channels, height, width)`. A batch has a fourth axis in front: `(50, 1, 8, 8)` above.

# %%
# NBVAL_CHECK_OUTPUT
digit = digits_train.images[0]
print(tuple(digit.shape), digit.dtype)

# %% [markdown]
# The type is `uint8`, a byte: the whole numbers from 0 to 255.
#
# (In this course an *image* and a *picture* are the same thing. A **drawing** is a picture made by a program of the course, a **photo** is one from a camera.)


# %%
# extra code: the digit with its numbers written in, beside the same digit enlarged
def digit_figure(small, large):
    fig, axes = plt.subplots(1, 2, figsize=(9, 4.6))
    for ax, image in zip(axes, (small, large), strict=True):
        ax.imshow(image[0], cmap="gray", vmin=0, vmax=255)
        ax.set(xticks=[], yticks=[], title=" x ".join(map(str, image.shape[1:])) + f" = {image.numel()} numbers")
        ax.grid(False)
    for (row, column), value in zip(torch.cartesian_prod(torch.arange(8), torch.arange(8)).tolist(), small.flatten().tolist(), strict=True):
        axes[0].text(column, row, value, ha="center", va="center", fontsize=12, color="black" if value > 120 else "white")
    return fig


# %%
enlarged = F.interpolate(digit[None].float(), size=(28, 28), mode="bilinear")[0]
show(
    digit_figure(digit, enlarged),
    f"The same {some_labels[0]} twice: left with its numbers written in.",
)

# %% [markdown]
# On the right the digit is enlarged to $28 \times 28 = 784$ pixels. This is the size of the famous MNIST digits, and the 784 that you see on many slides. Enlarging has added
# pixels, but no information.
#
# A network without convolutions needs one long vector. `flatten` joins the rows one after another:

# %%
flat = enlarged.flatten()
fact(
    "28 x 28 pixels are a vector of 784 numbers, and fold back into the same image",
    len(flat) == 784 and torch.equal(flat.reshape(1, 28, 28), enlarged),
    f"{tuple(enlarged.shape)} -> {tuple(flat.shape)}",
)

# %% [markdown]
# ### Two layouts
#
# PyTorch puts the channels first, `(C, H, W)`. Files, cameras and Matplotlib put them last, `(H, W, C)`. So pictures come as (96, 96, 3) and must become (3, 96, 96).
#
# **Before you run it:** `reshape(3, 96, 96)` gives that shape too. Is it the same as `permute(2, 0, 1)`?
#
# <details><summary>Answer</summary>
#
# No. `permute` reorders the axes: pixel (y, x) of channel c stays that pixel. `reshape` takes the numbers in the order in which they lie in memory, and divides them up
# differently. The shape is right, the picture is ruined, and there is no error message.
#
# </details>

# %%
from_file = torch.from_numpy(critters.draw("cat", seed, size=96).image)  # (H, W, C)
right = from_file.permute(2, 0, 1)
wrong = from_file.reshape(3, 96, 96)
titles = ["permute(2, 0, 1)", "reshape(3, 96, 96)"]
show(
    image_grid([right, wrong], titles, columns=2, size=3),
    "The same numbers in the same shape: a drawn cat, and a jumble of stripes.",
)

# %%
fact(
    "Permute leaves every pixel in its place; reshape to the same shape does not",
    torch.equal(right[:, 40, 60], from_file[40, 60]) and not torch.equal(right, wrong),
    f"{(right != wrong).float().mean():.0%} of the numbers differ",
)

# %% [markdown]
# ### Bytes and floats
#
# Bytes need little memory, so pictures are stored as bytes. But they are not suited to computing: beyond 255 they start again at 0, without a warning.

# %%
bright, brighter = torch.tensor([200, 100], dtype=torch.uint8)
total = (bright + brighter).item()
fact("Bytes wrap around: 200 + 100 is 44", total == 300 - 256, f"{total}, no error")

# %% [markdown]
# So the first step of every pipeline, our `prepare`, converts them to `float32`. Many pipelines also subtract the mean of the **training** images and divide by their standard
# deviation, so that the numbers lie around 0 (as in notebook 01). Here 0 stays black.
#
# **Exercise 3** (3 min): from picture to tensor. `picture` comes from a file: (H, W, 3), `uint8`. Return it as PyTorch needs it: (3, H, W), `float32`, where 1 stands for the
# brightest byte.


# %%
def picture_to_tensor(picture):
    return ...


exercises.picture_to_tensor.check(picture_to_tensor)

# %% slideshow={"slide_type": "skip"}
# exercises.picture_to_tensor.hint()
# exercises.picture_to_tensor.solution()

# %% [markdown]
# ## 3. Convolution is filtering (20 min)
#
# A filter looks at a small window of the image and computes one number from it: it multiplies window and **kernel** $K$ number by number, and adds up the products. Then the window
# moves on.
#
# $$ y_{ij} = \sum_{a} \sum_{b} K_{ab} \, x_{i+a,\; j+b} $$
#
# Photo programs have done this for decades, with kernels that somebody designed:

# %%
kernels = {
    "blur": torch.full((3, 3), 1 / 9),
    "sharpen": torch.tensor([[0.0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
    "vertical edges": torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]),
    "horizontal edges": torch.tensor([[-1.0, -2, -1], [0, 0, 0], [1, 2, 1]]),
}

# %% [markdown]
# Here is the same formula as code:


# %%
def convolve(image, kernel):
    size = len(kernel)
    height, width = image.shape[0] - size + 1, image.shape[1] - size + 1
    result = torch.zeros(height, width)
    for i in range(height):
        for j in range(width):
            result[i, j] = (image[i : i + size, j : j + size] * kernel).sum()
    return result


# %% [markdown]
# To try it, we take a larger picture: a **drawing**. The course draws such animals on your machine; nothing is downloaded.

# %%
species = ["cat", "tiger", "rabbit", "owl", "panda", "fox"]
drawn = [critters.draw(name, seed + i, size=96) for i, name in enumerate(species)]
animals = [torch.from_numpy(drawing.image).permute(2, 0, 1) for drawing in drawn]
greys = torch.stack(animals).float().mean(dim=1, keepdim=True) / 255  # (6, 1, 96, 96)
by_hand = {name: convolve(greys[0, 0], kernel) for name, kernel in kernels.items()}


# %%
# extra code: the picture and its filtered versions, edges with zero as middle grey
def filter_figure(images, columns=3, white=1.0):
    rows = -(-len(images) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(8, 2.95 * rows * 3 / columns), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, (name, image) in zip(axes.flat, images.items(), strict=False):
        low, high = (-1.5, 1.5) if "edges" in name else (0, white)
        ax.imshow(image, cmap="gray", vmin=low, vmax=high)
        ax.set_title(name, loc="center", fontsize=14)
    return fig


show(filter_figure({"the drawing": greys[0, 0]} | by_hand), "A drawn cat and four filters. One edge filter answers where brightness changes from left to right, the other where it changes "
     "from top to bottom; middle grey is zero.")  # fmt: skip

# %%
blur = kernels["blur"][None, None]
by_torch = F.conv2d(greys[:1], blur)[0, 0]
fact(
    "The formula and PyTorch's conv2d give the same numbers, up to rounding",
    torch.allclose(by_hand["blur"], by_torch, atol=1e-5),
    f"largest difference {(by_hand['blur'] - by_torch).abs().max():.0e}",
)

# %% [markdown]
# A **convolutional layer** is this filter, with one decisive change: nobody designs the kernel. Its numbers are weights, and they are learned.
#
# (In mathematics, a convolution first rotates the kernel by 180 degrees. Without the rotation, as here, it is a **cross-correlation**. For a network it makes no difference, as it
# learns its kernels anyway; so the field says convolution.)
#
# ### Padding and stride
#
# A 3 x 3 window does not fit at the rim, so the result is smaller than the image. **Padding** puts $p$ zeros, which are black here, on each side of the image. **Stride** $s$ moves
# the window $s$ pixels at a time, and the side of the result shrinks to about $1/s$. With image side $n$ and kernel side $k$, the result has the side
#
# $$ \left\lfloor \frac{n + 2p - k}{s} \right\rfloor + 1 $$

# %%
agrees = []
for n, k, p, s in itertools.product([8, 28, 95], [1, 3, 5], [0, 1, 2], [1, 2, 3]):
    image, kernel = torch.zeros(1, 1, n, n), torch.zeros(1, 1, k, k)
    side = F.conv2d(image, kernel, padding=p, stride=s).shape[-1]
    agrees.append(side == (n + 2 * p - k) // s + 1)
fact("The formula gives the side of the result", all(agrees), f"{len(agrees)} cases")

# %% [markdown]
# ### Explore
#
# Choose an animal, a filter, a stride and a padding. What happens to the size? And at the rim?


# %%
# extra code: a drawing beside its filtered version
def draw_filter(animal="cat", filter="horizontal edges", stride=1, padding=0):
    picture = greys[species.index(animal)]
    result = F.conv2d(picture[None], kernels[filter][None, None], stride=stride, padding=padding)[0, 0]
    size = " x ".join(map(str, result.shape))
    fig = filter_figure({f"the drawing, {picture.shape[1]} x {picture.shape[2]}": picture[0], f"{filter}, {size}": result}, columns=2)
    return fig, f"A drawn {animal}, and after the filter '{filter}' with stride {stride} and padding {padding}: {size} pixels."


# %%
explore(
    draw_filter,
    animal=species[:3],
    filter=list(kernels)[::-1],
    stride=[1, 2, 4],
    padding=[0, 1, 8],
)

# %% [markdown]
# ### Why filters suit pictures
#
# The same kernel is used everywhere. So if the picture moves, the answer moves with it. This is called **equivariance**.

# %%
edges = kernels["vertical edges"][None, None]
shift_then_filter = F.conv2d(greys.roll(5, dims=-1), edges)[..., 5:]
filter_then_shift = F.conv2d(greys, edges)[..., :-5]
fact(
    "Shift and filter, or filter and shift: the same answer, up to rounding",
    torch.allclose(shift_then_filter, filter_then_shift, atol=1e-5),
    "on pixels that have not left the picture",
)

# %% [markdown]
# ### Pooling
#
# A classifier should say "cat" wherever the cat is. **Max pooling** takes the largest answer in each small square: *there is an edge somewhere here*. It forgets where exactly.

# %%
answers = F.conv2d(greys, kernels["horizontal edges"][None, None]).relu()
pooled = {f"{k} x {k} pooled": F.max_pool2d(answers, k)[0, 0] for k in (2, 4, 8)}

# %%
# extra code: the filter's answers, and after max pooling over squares of three sizes
show(filter_figure({"filter's answers": answers[0, 0]} | pooled, columns=4, white=2.5), "The answers of the edge filter, and after max pooling over squares of 2, 4 and 8 pixels: "
     "coarser and coarser, and the strong edges are still there.")  # fmt: skip

# %% [markdown]
# **Before you run it:** we move the pictures by one pixel. How much do the answers of the filter change? And the pooled answers? And what if we keep every fourth answer, instead
# of the largest of four by four?
#
# <details><summary>Answer</summary>
#
# The filter's answers change a lot: an edge is a thin line, and moved by a pixel it lies beside its old place. After pooling over 4 x 4 pixels most of it falls into the same
# square as before. Keeping every fourth answer is equally coarse, but does not help: it may hit the line before the move, and miss it afterwards.
#
# </details>


# %%
def change(a, b):
    """Mean over the pictures of how much b differs from a, as a share of a."""
    return ((a - b).flatten(1).norm(dim=1) / a.flatten(1).norm(dim=1)).mean().item()


still = F.conv2d(greys, edges).relu()
moved = F.conv2d(greys.roll(1, dims=-1), edges).relu()
unpooled = change(still, moved)
every_fourth = change(still[..., ::4, ::4], moved[..., ::4, ::4])
after_pooling = change(F.max_pool2d(still, 4), F.max_pool2d(moved, 4))

# %%
claim(
    "After max pooling, moving the picture by a pixel changes the answers far less",
    after_pooling < 0.75 * min(unpooled, every_fourth),
    f"by {after_pooling:.0%} of their size; without pooling by {unpooled:.0%},"
    f" with every fourth answer by {every_fourth:.0%}",
    same=f"{len(greys)} drawings, one filter",
)

# %% [markdown]
# ### Channels
#
# A colour image has three channels. A kernel then has three slices, one for each channel, and the answers of the three slices are added up. A layer has many kernels, each with its
# own answer: these answers, called **maps**, are the channels that the next layer gets.

# %%
# NBVAL_CHECK_OUTPUT
layer = nn.Conv2d(in_channels=3, out_channels=16, kernel_size=3, padding=1)
print("weights", tuple(layer.weight.shape), "biases", tuple(layer.bias.shape))
print("answers", tuple(layer(animals[0][None].float()).shape))

# %% [markdown]
# **Before you run it:** how many weights does this layer have? And how many would a **dense layer** have that makes 16 maps of the same size, where every number may depend on
# every pixel of every channel?
#
# <details><summary>Answer</summary>
#
# The convolution: 16 kernels of $3 \cdot 3 \cdot 3$ numbers and 16 biases (a **bias** is a number that is added to every answer of a kernel), 448, however large the picture is.
# The dense layer: $3 \cdot 96 \cdot 96 = 27{,}648$ inputs times $16 \cdot 96 \cdot 96 = 147{,}456$ outputs, four billion, and only for this size of picture. (PyTorch can make this
# layer on the device `meta`, where tensors have shapes but use no memory.)
#
# </details>


# %%
def num_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


dense = nn.Linear(3 * 96 * 96, 16 * 96 * 96, device="meta")
gigabytes = 4 * num_parameters(dense) / 1e9  # a float32 has four bytes
fact(
    "A convolution has 448 weights where a dense layer has four billion",
    num_parameters(layer) == 448
    and num_parameters(dense) == 27_648 * 147_456 + 147_456,
    f"{num_parameters(dense):,}: {gigabytes:.0f} GB of them",
)

# %% [markdown]
# A convolution can do nothing that this dense layer could not do. It is a dense layer with an **assumption** built in: pixels that belong together are near each other, and a
# pattern that matters in one place matters everywhere. Section 5 shows what happens when this is false.
#
# ### The small CNN again
#
# A **CNN** is a network of convolutions. Ours has filter, ReLU, pool; filter, ReLU, pool; then one dense layer that reads the answers. **ReLU** is $\max(0, x)$. It is needed
# between the filters, because two filters in a row without it would only be another filter.

# %%
# NBVAL_CHECK_OUTPUT
x = torch.zeros(1, 1, 8, 8)
for module in small_cnn():
    x = module(x)
    name, shape = type(module).__name__, str(tuple(x.shape))
    print(f"{name:<10} -> {shape:<15} {num_parameters(module):>5,} weights")

# %% [markdown]
# ### Why now?
#
# None of this is new. LeCun trained networks much like ours on digits in 1989. Four things were still missing:
#
# | ingredient | what changed |
# |---|---|
# | research | ReLU, dropout, better initialisation, residual connections: deep networks can be trained at all (notebooks 01, 02 and 08) |
# | computers | GPUs: AlexNet (2012) was trained on two gaming cards, in five to six days |
# | data | ImageNet: 1.2 million labelled photos of 1,000 classes in its yearly competition |
# | open libraries | Torch, Theano, Caffe, then TensorFlow (2015) and PyTorch (2016): what took months takes an afternoon |
#
# The figure shows the **top-5 error**: the share of photos whose correct class is not among the five most probable ones.


# %%
# extra code: a bar for each year's published result
def imagenet_figure():
    # Russakovsky et al. 2015 (2010 to 2014, and the person), He et al. 2016 (2015)
    published = {"2010\n": 28.2, "2011\n": 25.8, "2012\nAlexNet": 16.4, "2013\n": 11.7, "2014\nGoogLeNet": 6.7, "2015\nResNet": 3.57}
    published["a trained\nperson"] = 5.1
    fig, ax = plt.subplots(figsize=(9, 4.3))
    bars = ax.bar(list(published), list(published.values()), color=["tab:gray"] * 2 + ["C0"] * 4 + ["C1"])
    ax.bar_label(bars, fmt="%g %%", padding=3)
    ax.set(ylabel="top-5 error, %", ylim=(0, 32), title="From 2012 on, the winners are deep networks (blue)")
    ax.tick_params(axis="x", labelsize=13)
    ax.grid(axis="x", visible=False)
    return fig


show(imagenet_figure(), "Published results, not run here: the winners of the ImageNet competition by year, and a trained person. (Russakovsky et al. 2015; He et al. 2016)")

# %% [markdown]
# **Exercise 4** (3 min): design a kernel. With your 3 x 3 kernel, `F.conv2d(image, kernel, padding=1)` should move the picture **one pixel to the right**, and change nothing else.
# Which single number of the window must be kept?

# %%
move_right = ...  # such as [[0, 0, 0], [0, 1, 0], [0, 0, 0]], which changes nothing
exercises.move_right.check(move_right)

# %% slideshow={"slide_type": "skip"}
# exercises.move_right.hint()
# exercises.move_right.solution()

# %% [markdown]
# ## 4. Observations, a model, a cost (10 min)
#
# All supervised learning has three parts.
#
# - **Observations**: pairs $(x_i, y_i)$, $i = 1 \dots n$. Here $x_i$ is a digit as a vector, and $y_i$ is 1 for a zero, 0 for any other digit.
# - A **model**: a function with parameters, $f_w(x)$. The simplest is linear, $f_w(x) = w \cdot x + b$.
# - A **cost**, or **loss**: how wrong the model is, on average. Squared error: $J(w, b) = \frac{1}{n} \sum_i (f_w(x_i) - y_i)^2$.
#
# This is **regression**. Learning means finding the parameters with the lowest cost.

# %%
observations = digits_train.images.flatten(1).float() / 255  # (n, 64)
is_zero = (digits_train.targets["label"] == 0).float()


def cost(w, b):
    return ((observations @ w + b - is_zero) ** 2).mean()


# %% [markdown]
# **Gradient descent** goes downhill: the gradient points in the direction in which the cost rises, so we step the other way, $w \leftarrow w - \eta \, \nabla_w J$. PyTorch
# computes the gradient. $\eta$ is the learning rate, `lr`.

# %%
lr = 0.08
w, b = torch.zeros(64, requires_grad=True), torch.zeros(1, requires_grad=True)
costs = []
for _ in range(1000):
    J = cost(w, b)
    costs.append(J.item())
    gradients = torch.autograd.grad(J, [w, b])
    with torch.no_grad():
        w -= lr * gradients[0]
        b -= lr * gradients[1]

# %% [markdown]
# For this model, unlike most others, the lowest cost can also be computed directly (least squares). **Before you run it:** does gradient descent get there?
#
# <details><summary>Answer</summary>
#
# Nearly, and never below. The cost of a linear model has the shape of a bowl with one lowest point. The cost of a network is more like a mountain range. For special cases, such as
# very wide networks, it has been proved that gradient descent works there too (Du et al. 2019). For networks as we use them it is mostly something that people observe every day.
#
# </details>

# %%
with_ones = torch.cat([observations, torch.ones(len(observations), 1)], dim=1).double()
target = is_zero[:, None].double()
best = torch.linalg.lstsq(with_ones, target, driver="gelsd").solution
lowest = ((with_ones @ best - target) ** 2).mean().item()
reached = cost(w, b).item()
claim(
    "Gradient descent comes within a twentieth of the lowest cost",
    reached < 1.05 * lowest,
    f"{reached:.5f} after {len(costs)} steps; the lowest is {lowest:.5f}",
    same=f"{len(observations)} digits, a linear model",
)


# %%
# extra code: the way down, and the weights as an image
def regression_figure():
    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 4), width_ratios=[1.4, 1])
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


show(regression_figure(), "Left: the cost against the step, both axes logarithmic. Right: the weights as an 8 x 8 image: purple pixels, on the ring of a zero, "
     "speak for it, orange ones, in its middle and outside, against it.")  # fmt: skip

# %% [markdown]
# ## 5. A function that knows everything (20 min)
#
# What do we really want? We want a low cost on data that we have **not** seen. In symbols: observations come from some distribution $P$, and the **risk** of $f$ is its expected
# loss under $P$. We do not know $P$. We only have $n$ examples, and their mean loss is the **empirical risk**.
#
# $$ R(f) = \mathbb{E}_{(x, y) \sim P}\,[\,\ell(f(x), y)\,] \qquad\qquad R_n(f) = \frac{1}{n} \sum_{i=1}^{n} \ell(f(x_i), y_i) $$
#
# Here $\ell$, the loss of a single answer, is 0 if the answer is right and 1 if it is wrong. Learning minimises $R_n$ and hopes that $R$ becomes small, too. There is a function
# with a perfect $R_n$:
#
# $$ f(x) = \begin{cases} y_i & \text{if } x = x_i \text{ for some } i \\ 0 & \text{else} \end{cases} $$


# %%
def key(image):
    return image.numpy().tobytes()


known_images, known_labels = train_set.tensors
new_images, new_labels = val_set.tensors
memory = {key(x): y.item() for x, y in zip(known_images, known_labels, strict=True)}


def memoriser(images):
    return torch.tensor([memory.get(key(image), 0) for image in images])


# %% [markdown]
# **Before you run it:** what is the error of this **memoriser** on the digits that it knows? And on new ones?
#
# <details><summary>Answer</summary>
#
# Zero on those that it knows: it looks them up. For any new digit it says "0". One digit in ten is a zero, so nine in ten answers are wrong, as with guessing.
#
# </details>


# %%
def risk(answers, labels):
    return (answers != labels).float().mean().item()


known = risk(memoriser(known_images), known_labels)
new = risk(memoriser(new_images), new_labels)
fact(
    "The memoriser has zero empirical risk;"
    " on new digits it is as bad as always saying 0",
    known == 0 and new == risk(torch.zeros(len(val_set)), new_labels),
    f"wrong: {known:.0%} of {len(train_set)} known, {new:.0%} of {len(val_set)} new",
)

# %% [markdown]
# **Exercise 5** (5 min): zero empirical risk, and still useful. The memoriser says 0 to everything new. Build a better one. `learn(images, labels)` gets `uint8` images (n, 1, 8, 8)
# and labels (n,). It returns a **function** that takes images and returns their labels, a tensor (n,). This function must make no mistake on the given images, and should be right
# on nine in ten new ones. No network is needed. (The images are bytes: compute with floats.)


# %%
def learn(images, labels):
    ...


exercises.learn.check(learn)

# %% slideshow={"slide_type": "skip"}
# exercises.learn.hint()
# exercises.learn.solution()

# %% [markdown]
# So a low training error alone means nothing. This is why data are divided into three parts: one to learn from (**training**), one to watch and to choose by (**validation**), and
# one for the final measurement (**test**). If you look at the test set while you make choices, you choose by it, and its score becomes too good. Pictures that a network was not
# trained on are called *new*, *unseen* or *held-out*.
#
# ### Can a network memorise?
#
# We train a network of dense layers on 800 digits: once with their labels, and once with the labels **shuffled**, so that a picture's label has nothing to do with what it shows.
# Then there is nothing to learn.


# %%
def dense_network():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 512), nn.ReLU(),
        nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10),
    )  # fmt: skip


some = digits_train.subset(800, seed=seed)
labels = {"true labels": some.targets["label"]}
labels["shuffled labels"] = labels["true labels"][torch.randperm(len(some))]
print(f"{len(some)} digits, a network of {num_parameters(dense_network()):,} weights")

# %% [markdown]
# **Before you run it:** can the network fit the shuffled labels? What will its accuracy on new digits be?
#
# <details><summary>Answer</summary>
#
# It fits nearly all of them. It has hundreds of weights for each digit, so it can memorise them. On new digits it guesses: it has learned nothing that applies to them. (Zhang et
# al. 2017 did this with ImageNet.)
#
# </details>


# %% [markdown]
# From here on we let `fit(model, loader, val_loader)` run the five lines of section 1, epoch after epoch. It returns a dict of lists, such as `history["val_accuracy"]`. Section 6
# shows what is inside.

# %%
val_loader = DataLoader(val_set, batch_size=200)


def trained(model, images, labels, batch_size, watch=None, progress=None):
    """Train for 60 epochs; returns the history."""
    model, data = model.to(device), TensorDataset(images, labels)
    loader = DataLoader(data, batch_size=batch_size, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    settings = {"num_epochs": 60, "optimizer": optimizer, "progress": progress}
    return fit(model, loader, watch, **settings)


# %%
memorised = {}
for name, given in labels.items():
    torch.manual_seed(seed)
    network, images = dense_network(), prepare(some.images)
    memorised[name] = trained(network, images, given, 200, val_loader, progress=name)
fitted = {name: run["train_accuracy"][-1] for name, run in memorised.items()}
learned = {name: run["val_accuracy"][-1] for name, run in memorised.items()}

# %%
# extra code: accuracy on known and new digits, with true and with shuffled labels
fig, axes = plt.subplots(1, 2, figsize=(10, 4.2))
titles = ["True labels: learned", "Shuffled: fitted, not learned"]
for ax, title, history in zip(axes, titles, memorised.values(), strict=True):
    ax.set_ylim(0, 1.05)
    curves(ax, {"known": history["train_accuracy"], "new": history["val_accuracy"]}, "epoch", "accuracy", title)
show(fig, "Accuracy of the same network against epoch, on the digits that it was given and on validation digits, which have their true labels in both panels.")

# %%
claim(
    "The network fits shuffled labels but learns nothing;"
    " true labels it fits and learns",
    min(fitted.values()) > 0.95
    and learned["shuffled labels"] < 0.25
    and learned["true labels"] > 0.9,
    f"shuffled: {fitted['shuffled labels']:.1%} of the known digits, "
    f"{learned['shuffled labels']:.1%} of new ones; true: {fitted['true labels']:.1%}, "
    f"{learned['true labels']:.1%}; chance is 10 %",
    same=f"{len(some)} digits, {num_parameters(network):,} weights, 60 epochs",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Ask who would have trusted the line "known" of the right-hand panel, if it were the only one. Many will say that "few weights generalise, many memorise". But here the same
# network, with the same number of weights, does both. It depends on whether there is anything to learn in the data.

# %% [markdown]
# ### No free lunch
#
# Why does learning from examples work at all? **No free lunch** (Wolpert 1996) says: averaged over all ways in which labels could belong to pictures, no method beats guessing on
# pictures that it has not seen. So every method must assume something: a **class of functions** that, we hope, contains the right one. A linear model assumes that the answer is a
# weighted sum. A convolution assumes that near pixels belong together, and that the same patterns matter everywhere.
#
# We can make this assumption false. We scramble the 64 pixels, in the same way in all digits. To a person they now look like noise, but no number is lost.


# %%
def scramble(images, order):
    return images.flatten(1)[:, order].reshape(images.shape)


few, first_labels = prepare(digits_train.images[:100]), known_labels[:100]
others, other_labels = prepare(digits_train.images[100:]), known_labels[100:]

# %% [markdown]
# **Before you run it:** the small CNN and the dense network learn from 100 digits, as they are and scrambled. Which of the two gets worse?
#
# <details><summary>Answer</summary>
#
# The CNN gets worse: its assumption is now false. The dense network does not notice: to it, pixels have no positions, and any order is equally good.
#
# </details>

# %%
def small_dense():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 80), nn.ReLU(), nn.Linear(80, 10))


networks = {"CNN": small_cnn, "dense": dense_network, "small dense": small_dense}
print({name: num_parameters(make()) for name, make in networks.items()})
scores = {}
for run in tqdm(range(3), desc="three runs", leave=False):
    torch.manual_seed(seed + run)
    orders = {"as they are": torch.arange(64), "scrambled": torch.randperm(64)}
    for name, make in networks.items():
        for way, order in orders.items():
            torch.manual_seed(seed + run)
            network = make()
            trained(network, scramble(few, order), first_labels, 50)
            right = share_right(network.cpu(), scramble(others, order), other_labels)
            scores[name, way] = scores.get((name, way), 0) + right / 3

# %%
# extra code: four digits as they are and scrambled, and the four scores
fig = plt.figure(figsize=(8, 5.4))
for half, (way, order) in zip(fig.subfigures(2, 1), orders.items(), strict=True):
    title = f"{way}: " + ", ".join(f"{name} {scores[name, way]:.0%}" for name in networks)
    half.suptitle(title, fontsize=15, fontweight="bold")
    for ax, image in zip(half.subplots(1, 4), scramble(few[:4], order), strict=True):
        ax.imshow(image[0], cmap="gray")
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
show(fig, "Four digits, and the same with their pixels scrambled, all in the same way. Above them, the share of new digits that each network reads.")

# %%
cnn, plain, small = (
    scores[name, "as they are"] - scores[name, "scrambled"] for name in networks
)
claim(
    "Scrambled pixels break the CNN's assumption and cost it;"
    " dense networks lose nothing",
    cnn > 0.02 + max(abs(plain), abs(small)) and max(abs(plain), abs(small)) < 0.015,
    f"points lost: CNN {100 * cnn:.1f}, dense {100 * plain:.1f},"
    f" small {100 * small:.1f}",
    same=f"{len(few)} training digits, {len(others)} new ones, mean of three runs",
)

# %% [markdown]
# %% [markdown]
# On unscrambled digits the CNN is hardly ahead of a dense network with as many weights: 64 pixels are few. Its advantage comes with larger pictures. For 96 x 96 pixels, a dense
# layer in place of a convolution would need 16 GB (section 3).

# %% [markdown]
# ## 6. The training loop, in full view (14 min)
#
# Section 1 showed the loop. Now we add what belongs around it, and explain what each line does. The ten numbers $a_c$ that the network returns, one for each class $c$, are called
# **logits**. **Softmax** turns them into probabilities, $p_c = e^{a_c} / \sum_k e^{a_k}$, and the loss is the **cross-entropy**, $-\log p_{\text{right}}$, averaged over the batch.
# (`F.cross_entropy` does both. If you put a softmax before it, you apply softmax twice.)

# %%
val_loader = DataLoader(val_set, batch_size=200)


def fresh(seed):
    """A new network, its optimizer and its data: all that a training begins with."""
    torch.manual_seed(seed)
    model = small_cnn().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    return model, optimizer, DataLoader(train_set, batch_size=50, shuffle=True)


# %% [markdown]
# The **seed** is the number from which all random numbers are generated: the same seed gives the same weights and the same order of batches. The **optimizer** is Adam: gradient
# descent with a separate step length for each weight (notebook 01, section 3). `.to(device)` moves weights and batches to the GPU, if the first line of this notebook names one
# (section 8).

# %%
model, optimizer, train_loader = fresh(seed)
val_accuracy = []
for _ in range(num_epochs):
    model.train()
    for images, labels in train_loader:
        images, labels = images.to(device), labels.to(device)
        outputs = model(images)  # 1. forward: what does the model say?
        loss = F.cross_entropy(outputs, labels)  # 2. how wrong is that?
        optimizer.zero_grad()  # 3. forget the old gradients: backward() adds to them
        loss.backward()  # 4. backward: the gradient for every weight
        optimizer.step()  # 5. a small step downhill
    model.eval()
    with torch.no_grad():  # validation: digits that it does not learn from
        for images, labels in val_loader:
            answers = model(images.to(device)).argmax(dim=1)
            val_accuracy.append((answers.cpu() == labels).float().mean().item())

# %% [markdown]
# `train()` and `eval()` switch between two modes, in which some layers behave differently. Notebook 01, section 7 has the first such layer.
#
# ### The same, as one line
#
# From now on we call `fit` for this loop, and `evaluate` for its last part. They add a progress bar, a history and checkpoints. (`fit` also changes the order in which weights lie
# in memory, because that is often faster. This can change the last digits of results, so we switch it off here.)
#
# **Before you run it:** with the same seed and the same data, are the weights at the end *nearly* the same, or exactly the same?
#
# <details><summary>Answer</summary>
#
# On a CPU they are exactly the same, to the last bit: the same computations happen in the same order. On a GPU, numbers may be added in a different order, so there the check
# allows a small difference.
#
# </details>

# %%
fitted_model, optimizer, train_loader = fresh(seed)
settings = {"num_epochs": num_epochs, "optimizer": optimizer, "channels_last": False}
history = fit(fitted_model, train_loader, val_loader, **settings)


# %%
def difference(model, other):
    """The largest difference of any two weights."""
    pairs = zip(model.parameters(), other.parameters(), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


tolerance = 0 if device.type == "cpu" else 1e-3
fact(
    "The loop in full view and fit end with the same weights",
    difference(model, fitted_model) <= tolerance,
    f"largest difference {difference(model, fitted_model):g}, allowed {tolerance:g}",
)

# %%
pairs = zip(val_accuracy, history["val_accuracy"], strict=True)
apart = max(abs(ours - theirs) for ours, theirs in pairs)
fact(
    "fit has counted the same right answers after every epoch",
    apart < 1e-6 + 10 * tolerance,
    ", ".join(f"{value:.1%}" for value in val_accuracy),
)

# %% [markdown] slideshow={"slide_type": "notes"}
# A trap for those who try it: if you leave out val_loader in one of the two, the weights differ. Every DataLoader draws a random number when it starts, even one that does not
# shuffle, so validation between the epochs changes the order of the following batches. The network learns just as well, but ends with different weights.

# %%
# extra code: the curves that one watches
fig, ax = plt.subplots(figsize=(8, 4))
curves(ax, {"training": history["train_accuracy"], "validation": history["val_accuracy"]}, "epoch", "accuracy", "Most is learned in the first epochs")
show(fig, "Accuracy against epoch. (The training figure is a mean over the epoch, while the network still gets better; so validation may lie above it.)")

# %% [markdown]
# ### The test set, opened once
#
# We have made all our choices: the network, the learning rate, the number of epochs. Only now do we use the test set.

# %%
test_set = TensorDataset(prepare(digits_test.images), digits_test.targets["label"])
test_loader = DataLoader(test_set, batch_size=400)
accuracy = evaluate(model, test_loader)["accuracy"]
claim(
    "The small CNN, trained with our own loop, reads the digits of the test set",
    accuracy > 0.9,
    f"{accuracy:.1%} of {len(test_set)} test digits are right; chance is 10 %",
    same=f"{len(train_set)} training digits, {num_epochs} epochs",
)

# %% [markdown]
# ### What has it learned?
#
# In section 3 somebody had designed the kernels. These sixteen the network has learned, and below each is its answer to the digit on the left.


# %%
# extra code: a digit; the kernels of the first layer, and below each its answer to the digit
def kernels_figure(picture):
    kernels = fitted_model[0].weight.detach().cpu()
    with torch.no_grad():
        answers = fitted_model[0](picture[None].to(device)).relu()[0].cpu()
    fig = plt.figure(figsize=(10, 5.2))
    left, right = fig.subfigures(1, 2, width_ratios=[1, 3.6])
    left.subplots().imshow(picture[0], cmap="gray")
    left.axes[0].set_title("the digit", loc="center")
    for i, ax in enumerate(right.subplots(4, 8).flat):
        row, column = divmod(i, 8)
        number = 8 * (row // 2) + column
        ax.imshow(*[[kernels[number, 0]], [answers[number]]][row % 2], **[{"cmap": "PuOr", "vmin": -0.8, "vmax": 0.8}, {"cmap": "gray", "vmin": 0, "vmax": answers.max()}][row % 2])
        if column == 0:
            ax.set_ylabel(["kernel", "answer"][row % 2])
    for ax in [*left.axes, *right.axes]:
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
    right.suptitle("Learned, not designed", fontsize=15, fontweight="bold")
    return fig


show(kernels_figure(val_set.tensors[0][0]), f"A handwritten {val_set.tensors[1][0]}, the 16 learned kernels of the first layer (orange and purple: the two signs), and their answers. The layer pads with "
     "zeros, which are black, so the rim is no edge.")  # fmt: skip

# %% [markdown]
# **Exercise 6** (3 min): the training step. Write the five lines from memory. Return the loss as a plain number.


# %%
def training_step(model, optimizer, images, labels):
    ...


exercises.training_step.check(training_step)

# %% slideshow={"slide_type": "skip"}
# exercises.training_step.hint()
# exercises.training_step.solution()

# %% [markdown]
# ## 7. Save and resume (12 min)
#
# Sessions end: on Colab after some hours, on the lecture's shared machine after 20 idle minutes, on a laptop when you close it. A training run that exists only in memory is then
# lost. So we write a **checkpoint** after every epoch, and continue from it.
#
# What must a checkpoint contain? We will see. First, a run that nobody interrupts:

# %%
unbroken, optimizer, train_loader = fresh(seed)
whole = fit(unbroken, train_loader, num_epochs=num_epochs, optimizer=optimizer)

# %% [markdown]
# Now we do the same with a checkpoint, and simulate somebody who presses the stop button at a random step. `StopAt` returns batches like any loader, and at that step it sends the
# same signal as Jupyter's stop button. `without_folder` only shortens a path that is printed. (Here the file goes to a temporary folder, because this notebook tidies up after itself. Put yours where it survives the session: in your
# Drive, or in `/kaggle/working`.)


# %%
# extra code: a loader that presses the stop button; a path is printed without its folder
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


@contextmanager
def without_folder(path):
    """What is printed meanwhile, with the path's name in place of the whole path."""
    with redirect_stdout(io.StringIO()) as said:
        yield
    print(said.getvalue().replace(str(path), path.name), end="")


# %%
checkpoint = Path(tempfile.mkdtemp()) / "digits.pt"
steps = len(train_loader)  # in an epoch
stop_at = random.Random(seed).randrange(steps + 1, (num_epochs - 1) * steps)
print(f"The stop button will be pressed at step {stop_at} of {num_epochs * steps}.")

# %%
stopped, optimizer, loader = fresh(seed)
settings = {"num_epochs": num_epochs, "optimizer": optimizer, "checkpoint": checkpoint}
with without_folder(checkpoint):
    first_part = fit(stopped, StopAt(loader, stop_at), **settings)

# %% [markdown]
# Now we throw away network, optimizer and data loader. Only a file is left. This is what it contains:

# %%
stopped = optimizer = loader = None
saved = torch.load(checkpoint, weights_only=True)
print(f"{checkpoint.stat().st_size / 1e3:.0f} kB, {saved['epoch']} whole epochs")
print("in it:", ", ".join(sorted(saved)))

# %% [markdown]
# **Before you run it:** we make a new network with other random weights, a new optimizer and another seed. Then we train with `resume=True`. How close do the final weights come to
# those of the uninterrupted run?
#
# <details><summary>Answer</summary>
#
# They are equal; on a CPU to the last bit. The checkpoint contains the weights, but also the optimizer's memory (Adam's running means), and the state of the random number
# generators, which decides the order of the batches. The interrupted epoch is run again from its start.
#
# </details>

# %%
resumed, optimizer, train_loader = fresh(seed + 1)
settings = {"num_epochs": num_epochs, "optimizer": optimizer, "checkpoint": checkpoint}
with without_folder(checkpoint):
    second_part = fit(resumed, train_loader, resume=True, **settings)

# %%
fact(
    "Interrupted, thrown away and resumed: the weights equal those of the unbroken run",
    difference(resumed, unbroken) <= tolerance,
    f"stopped at step {stop_at} of {num_epochs * steps};"
    f" largest difference {difference(resumed, unbroken):g}, allowed {tolerance:g}",
)


# %%
# extra code: the unbroken run as a line, the two parts of the other as dots on it
def resume_figure():
    fig, ax = plt.subplots(figsize=(8, 4.2))
    epochs, done = range(1, num_epochs + 1), saved["epoch"]
    ax.plot(epochs, whole["train_loss"], color="lightgray", linewidth=9, solid_capstyle="round")
    ax.plot(epochs[:done], second_part["train_loss"][:done], "o", markersize=13, color="C0")
    ax.plot(epochs[done:], second_part["train_loss"][done:], "s", markersize=12, color="C1")
    ax.axvline(stop_at / steps, color="black", linestyle=":")
    top, box = max(whole["train_loss"]), {"bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1}}
    names = {"grey line: never stopped": "dimgray", "circles: before the stop": "C0", "squares: resumed": "C1"}
    for i, (name, colour) in enumerate(names.items()):
        ax.annotate(name, (num_epochs, top), xytext=(0, -8 - 22 * i), textcoords="offset points", color=colour, ha="right", fontweight="bold", **box)
    ax.annotate("stopped", (stop_at / steps, 0.4 * top), xytext=(6, 0), textcoords="offset points", **box)
    ax.set(xlabel="epoch", ylabel="training loss", ylim=(0, None), xticks=epochs, title="The resumed run goes on as if nothing had happened")
    return fig


show(resume_figure(), f"Training loss against epoch. The other run was stopped in epoch {saved['epoch'] + 1}; all its points lie on the line.")

# %% [markdown]
# ### Are the weights not enough?
#
# Many programs save `model.state_dict()`, the weights, and nothing else. **Before you run it:** we load only the weights, and train for the remaining epochs. Do we get the same
# result?
#
# <details><summary>Answer</summary>
#
# No. Adam has forgotten its running means, and the batches come in another order. The result need not be *worse*. But it is different, and you can no longer tell whether the
# interruption or a change that you made is the reason.
#
# </details>
#
# Which of the two matters? We leave out one at a time.

# %%
away = {}
for left_out in ("the random state", "Adam's memory"):
    model, optimizer, train_loader = fresh(seed + 1)
    model.load_state_dict(saved["model"])
    if left_out == "the random state":
        optimizer.load_state_dict(saved["optimizer"])
    else:
        torch.set_rng_state(saved["random"]["torch"])
    left = num_epochs - saved["epoch"]
    fit(model, train_loader, num_epochs=left, optimizer=optimizer)
    away[left_out] = difference(model, unbroken)
claim(
    "Without the random state, or without Adam's memory, the weights end elsewhere",
    min(away.values()) > 0.01,
    "; ".join(f"without {name}: {far:.2f} apart" for name, far in away.items()),
    same=f"the weights after epoch {saved['epoch']}, and {left} epochs more",
)

# %%
shutil.rmtree(checkpoint.parent, ignore_errors=True)  # tidy up

# %% [markdown] slideshow={"slide_type": "notes"}
# Live: in the cell with `first_part`, call fit with num_epochs=600, and with loader in place of StopAt(...), press the real stop button, and call fit again with resume=True. Then
# run the cell as it was: the cells below need that. Students will ask: why repeat the interrupted epoch instead of continuing in the middle? Because a checkpoint after every step
# would cost more time than it saves; once per epoch is the usual compromise. The lab asks about this.

# %% [markdown]
# ### Save your notebook, come back to it, hand it in
#
# A checkpoint saves a training run. What you write yourself is saved in the notebook:
#
# | | save | come back |
# |---|---|---|
# | Colab | *File > Save a copy in Drive*, once, before you begin. From then on Colab saves into your copy. | Open the copy from your Drive. The machine is a new one: run the cells from the top. |
# | Kaggle | *Copy & Edit*, once, before you begin. *Save Version* keeps what you have. | Open it from *Your Work*. The machine is a new one here, too. |
# | your own machine | *File > Duplicate* gives you a copy that no update of the course touches; Ctrl+S saves. | Open the copy, and run the cells from the top. |
#
# **To hand it in:** restart the kernel and run all cells, so that the outputs really come from your code. The summary says how many exercises are done. Then choose *File >
# Download*, and send the `.ipynb`.

# %% [markdown]
# ### To keep a finished network
#
# To use a network without further training, the weights are enough: `torch.save(model.state_dict(), "digits.pt")`. To use them later, make the same network and load the weights
# into it. (Load other people's files with `weights_only=True`, the default today: an old-style file can run any program when it is opened.)
#
# **Exercise 7** (3 min): `file` contains the weights of a trained network, saved by the line above. `make_model()` makes the same kind of network, with random weights. Return a
# network with the weights of the file, ready to **read** digits, not to train.


# %%
def load_network(make_model, file):
    ...


exercises.load_network.check(load_network)

# %% slideshow={"slide_type": "skip"}
# exercises.load_network.hint()
# exercises.load_network.solution()

# %% [markdown]
# ## 8. The machine and its GPUs (12 min)
#
# The first line that this notebook printed says whether it uses a GPU or the CPU, and why. Everything in this course runs on both. Where can you run it?
#
# | place | what you get | what limits you | so |
# |---|---|---|---|
# | Google Colab, free | a CPU, often a T4 GPU | at most 12 hours, less when idle; a GPU is not promised; the disk is wiped at the end | save to your Drive, or download |
# | Kaggle | a CPU, two T4 GPUs or a P100 | sessions of 12 hours; a weekly GPU quota; the internet is off until you switch it on; only `/kaggle/working` is kept | choose the **T4**: today's PyTorch no longer runs on a P100 |
# | a shared GPU box | strong GPUs, and other people | whoever comes first; the lecture's box ends a notebook that is idle for 20 minutes | look, take one, save often, give it back |
# | your laptop | it is yours | often no NVIDIA GPU | fine for all of this course |
# | a Mac | a GPU of Apple's, which PyTorch calls `mps` | the course is tested on CPUs, so `utils.start()` takes the CPU | fine too; to try its GPU, run `%env COURSE_DEVICE=mps` before the set-up cell |
#
# Limits change. The pages of [Colab](https://research.google.com/colaboratory/faq.html) and [Kaggle](https://www.kaggle.com/docs/notebooks) give the current ones.

# %% [markdown]
# ### Look, take one, give it back
#
# - **Look.** On a shared machine there is no queue and no guard. If you fill a GPU on which a colleague's training has been running for two days, you end that training. The cell
#   below shows who is using what.
# - **Take one, and only one.** `utils.start()` has done this for you: it took the least busy GPU, after a tiny computation to make sure that it works; if there is none, it took
#   the CPU. (Set `COURSE_DEVICE=cpu` beforehand to leave the GPU to others.) You use none of its memory until you put the first tensor there: `model.to(device)` once,
#   `images.to(device)` for every batch. If you forget one of them, PyTorch says *Expected all tensors to be on the same device*.
# - **Give it back.** PyTorch keeps GPU memory after use, to be faster the next time. Others cannot use it meanwhile. Delete what you no longer need, then call `free_memory()`.
#   When you are done, **shut down the kernel**: that gives back everything.

# %%
print(report())

# %% [markdown]
# ### How fast is it? Honest timing
#
# Most of the work in deep learning is matrix products. A product of two $n \times n$ matrices takes about $2 n^3$ operations: $n$ multiplications and $n$ additions for each of the
# $n^2$ results.
#
# There is a trap in timing a GPU. PyTorch only *asks* the GPU to compute, and continues at once. If you stop the clock at that moment, you have only measured how long it takes to
# ask. `torch.cuda.synchronize()` waits until the work is done.


# %%
def seconds_of_product(n, place, repeats=30):
    wait = torch.cuda.synchronize if place == "cuda" else lambda: None
    a = torch.randn(n, n, device=place)
    a @ a  # the first time sets things up: not counted
    wait()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        a @ a
        wait()
        times.append(time.perf_counter() - start)
    return min(times)  # in the others, something else ran too


# %% [markdown]
# **Before you run it:** the product of two $1024 \times 1024$ matrices is about two million times the work of two $8 \times 8$ ones. Does it take
# two million times as long?
#
# <details><summary>Answer</summary>
#
# Far from it. Starting any operation takes some microseconds, on a GPU more than on a CPU. For a small product that is nearly all the time. This is why batches are large, and why
# a GPU does not help with tiny networks.
#
# </details>

# %%
sizes = [8, 16, 32, 64, 128, 256, 512, 1024]
torch.set_num_threads(cores)
rates = {}  # billion operations a second
for place in ["cpu", "cuda"] if device.type == "cuda" else ["cpu"]:
    rates[place] = [2 * n**3 / seconds_of_product(n, place) / 1e9 for n in sizes]
torch.set_num_threads(1)
small, large = rates["cpu"][0], rates["cpu"][-1]
claim(
    "A large product does over ten times the work per second of a small one",
    large > 10 * small,
    f"billion operations a second: {small:.2g} at n = 8, {large:.3g} at n = 1024",
    same=f"this CPU, the best of 30 tries; threads: {cores}",
)


# %%
# extra code: both axes logarithmic, one line a device
def timing_figure():
    fig, ax = plt.subplots(figsize=(8, 4.2))
    ax.set(xscale="log", yscale="log")
    ax.set_xscale("log", base=2)
    curves(ax, {place.upper(): values for place, values in rates.items()}, "n: side of the matrices", "billion operations a second", "Small jobs waste the machine", x=sizes)
    ax.set(xticks=sizes, xticklabels=sizes)
    ax.yaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()
    return fig


show(timing_figure(), "Speed of the product of two n x n matrices, both axes logarithmic.")

# %% [markdown]
# With a GPU, the figure has a second line: below the CPU's on the left, where starting costs most, and above it on the right. How far above depends on the GPU. The last cell needs
# a GPU: is the clock wrong without `synchronize`, and is the memory given back?

# %%
if device.type == "cuda":
    held = [torch.cuda.memory_reserved(i) > 0 for i in range(torch.cuda.device_count())]
    fact("This notebook holds memory on at most one GPU", sum(held) < 2, f"{sum(held)}")
    big = torch.randn(4096, 4096, device=device)
    big @ big
    torch.cuda.synchronize()
    start = time.perf_counter()
    product = big @ big
    asked = time.perf_counter() - start
    torch.cuda.synchronize()
    done = time.perf_counter() - start
    claim(
        "Without synchronize the clock stops before the work is done",
        asked < done / 2,
        f"{asked * 1e3:.2f} ms against {done * 1e3:.2f} ms",
        same="one product of 4096 x 4096 matrices",
    )
    before = torch.cuda.memory_reserved()
    big = product = None
    free_memory()
    after = torch.cuda.memory_reserved()
    fact("Deleted and freed, the memory goes back", after < before)
else:
    print("No NVIDIA GPU is in use: a CPU finishes before the next line runs.")

# %% [markdown] slideshow={"slide_type": "notes"}
# If the class shares a GPU machine: open a terminal beside the notebook and run nvidia-smi while a student takes a GPU. The etiquette in short: look, take one, save, give it back.
# On Kaggle a P100 is reported as "available" and then fails at the first operation, which is why the set-up tries a tiny one first.

# %% [markdown]
# ## 9. Exercises (15 min)
#
# **Exercise 8: convolution with stride and padding.** Extend `convolve` of section 3. `image` is (H, W), `kernel` (k, k). Write the loops yourself: PyTorch's own convolutions (`F.conv2d` and its like) are not allowed.


# %%
def convolve_more(image, kernel, stride, padding):
    ...


exercises.convolve_more.check(convolve_more)

# %% slideshow={"slide_type": "skip"}
# exercises.convolve_more.hint()
# exercises.convolve_more.solution()

# %% [markdown]
# ## 10. Lab: resume from a kill at a random step (40 min and more)
#
# A stop button lets the program finish cleanly. A power cut does not: the program is gone, at whatever step it was. Write a training function that survives this, **without**
# `fit`.
#
# `train(model, optimizer, loader, num_epochs, checkpoint)` trains with cross-entropy and returns the model. `checkpoint` is a `Path`. If that file exists, an earlier run was
# killed, and yours must continue where it left off, although `model` and `optimizer` are new and the random numbers are different. (How you get the random numbers right is up to
# you: save their state, or set a new seed in every epoch.)
#
# The check repeatedly kills your training, at random steps, at the very first and at the last one, and calls `train` again until it finishes. Then it compares your final weights
# with those of an uninterrupted run of your code. **Score:** how many of the killed runs end with *equal* weights. Good is all of them.
#
# Done? Here are two more questions. How many steps did your runs repeat, and what would it cost to save after every step? And what if the power cut comes *while* the checkpoint is
# being written? (Look at `save_whole` in `utils/files.py`.)


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
# - The loop: forward, loss, zero the gradients, backward, step. `fit` is that loop.
# - An image is a tensor, `(C, H, W)`. Use bytes for storing and floats for computing. Reorder axes with `permute`, never with `reshape`.
# - A convolution is a filter with a learned kernel. It makes an assumption about pictures, so it needs few weights.
# - Zero error on known data means nothing: a table can do that, and a network can do it with shuffled labels. Watch the validation set; use the test set once.
# - A checkpoint contains weights, optimizer and random state. Then a resumed run equals an uninterrupted one.
# - Look before you take a GPU, take only one, and give it back. Small jobs do not gain from a GPU, and without `synchronize` its times are wrong.
#
# The claims of this run, with their figures:

# %%
summary()

# %% [markdown]
# ### Lecture topics
#
# | topic | section | lectures |
# |---|---|---|
# | G1 where to run | 8 | A |
# | G2 GPU etiquette: look, take one, give it back | 8 | A |
# | G3 model and data on a GPU, honest timing | 6, 8 | A |
# | G4 save and resume | 7 | A |
# | G5 tensors, an image as a tensor, 784 pixels; observations, model, cost | 2, 4 | D |
# | G6 risk, the memoriser, no free lunch | 5 | D |
# | G7 why now; convolution as filtering, pooling, stride, channels, a first small CNN | 1, 3 | D |
# | G8 the training loop and fit | 1, 6 | E |
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
# - S. S. Du, J. D. Lee, H. Li, L. Wang, X. Zhai. *Gradient Descent Finds Global Minima of Deep Neural Networks*. ICML 2019. https://arxiv.org/abs/1811.03804
# - C. Zhang, S. Bengio, M. Hardt, B. Recht, O. Vinyals. *Understanding deep learning requires rethinking generalization*. ICLR 2017. https://arxiv.org/abs/1611.03530
# - D. H. Wolpert. *The Lack of A Priori Distinctions Between Learning Algorithms*. Neural Computation 8, 1996. (no free lunch)
# - E. Alpaydin, C. Kaynak. *Optical Recognition of Handwritten Digits*. UCI Machine Learning Repository, 1998.
#
# ### Next notebook
# 01 · Vanishing gradients: what happens when the network gets deep.
