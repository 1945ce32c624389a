# %% [markdown]
# # 12 · Sequences, attention, and what comes next
#
# @BADGES@
#
# **To keep what you write:** on Colab choose *File > Save a copy in Drive*, on Kaggle *Copy & Edit*, before you begin.
#
# **Question:** A convolution looks through a small window and needs a grid. How does a network read something of any length, and how does one part of a
# picture look at every other part?
#
# **You will be able to**
# - feed sequences of different lengths to a recurrent network, and let it answer with a sequence,
# - write attention in three lines, say what it knows about positions, and build a small vision transformer from it,
# - say when a transformer beats a convolutional network, what capsules were, and where to read on.
#
# **Time:** it runs in @TIME@ on two CPU cores, and takes no GPU; with all sections, the exercises and the lab, about three hours.
# **Before this:** notebooks 01 (skip connections, layer normalisation), 03 (stride) and 05 (pretrained networks).

# %% [markdown] slideshow={"slide_type": "notes"}
# **A plan for 75 minutes** (the core takes 70, with its exercises)
#
# - **Core:** sections 1, 2, 3 and 4: recurrent networks in and out, attention written out, a vision transformer against a convolutional network, capsules.
# - **Optional:** 5 (what comes next: self-supervision, CLIP, segment anything, diffusion, one figure for each).
# - **Where to stop:** after the explorer of section 4. If you are late, leave section 4 out and show the diffusion figure of section 5 as the last slide.

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


# %% tags=["measure"] slideshow={"slide_type": "skip"}
# What this notebook imports. All that is not PyTorch or torchvision is in utils/.
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.patches import Rectangle
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torchvision.models import ViT_B_16_Weights, vit_b_16
from tqdm.auto import tqdm

from utils import critters, datasets
from utils.exercises import sequences_and_attention as exercises
from utils.figures import curves, explore, image_grid, show, to_picture
from utils.lessons import claim, fact, measured, summary
from utils.models import imagenet_state, num_parameters

# %% slideshow={"slide_type": "skip"}
# extra code: the seeds of this run; one thread, as two would wait for each other
seeds = [10 * torch.initial_seed() + k for k in range(3)]
torch.set_num_threads(1)

# %% [markdown]
# ## 1. Sequences in, sequences out (22 min)
#
# Films differ in their number of frames, sentences in their number of words. A **recurrent network** reads such a **sequence** step by step. After each step it updates
# its memory, the state $h_t$:
#
# $$h_t = f(x_t, h_{t-1})$$
#
# It uses the same $f$ at every step, so a sequence may have any length. We use a **GRU** (Cho et al. 2014). Its gate $z_t$, between 0 and 1,
# decides what stays in the memory, as in the highway layer of notebook 02:
#
# $$h_t = (1 - z_t) \odot \text{new}(x_t, h_{t-1}) + z_t \odot h_{t-1}$$
#
# (A second gate, inside $\text{new}$, says how much of the old state it may use.) `nn.GRUCell` is one such step: input and state in, new state out. `nn.GRU` takes a whole sequence, and
# returns the states after every step and the last state.
#
# ### Different lengths in
#
# Our sequences are digits, read row by row from the top. Each is stretched to a different height.


# %% tags=["measure"]
def stretch(image, height):
    """A digit (1, 8, 8) of bytes as `height` rows of 8 numbers from -1 to 1."""
    size = height, 8
    rows = F.interpolate(image[None] / 255, size, mode="bilinear", antialias=True)
    return 2 * rows[0, 0] - 1


def stretched(part, low, high, seed):
    """All digits of a part: rows (N, high, 8), padded with zeros, and heights (N,)."""
    generator = torch.Generator().manual_seed(seed)
    heights = torch.randint(low, high + 1, (len(part),), generator=generator)
    pairs = zip(part.images, heights.tolist(), strict=True)
    return pad_sequence([stretch(*pair) for pair in pairs], batch_first=True), heights


# %% tags=["measure"]
train_set, val_set, test_set = datasets.digits()
y_train, y_val, y_test = (part.targets["label"] for part in datasets.digits())

# %%
rows, lengths = stretched(train_set, low=6, high=12, seed=seeds[0])
test_rows, test_lengths = stretched(test_set, low=6, high=12, seed=seeds[1])
print(f"rows {tuple(rows.shape)}, lengths {lengths[:8].tolist()} ...")


# %%
# extra code: a padded batch, the padding hatched
def padded_figure():
    fig, axes = plt.subplots(1, 8, figsize=(10, 3.2), sharey=True)
    for ax, picture, length in zip(axes, rows, lengths.tolist(), strict=False):
        ax.imshow(picture, cmap="gray", vmin=-1, vmax=1)
        ax.add_patch(Rectangle((-0.5, length - 0.5), 8, 12 - length, facecolor="lightgray", edgecolor="C1", hatch="///", linewidth=0))
        ax.set_title(f"{length}", loc="center")
        ax.grid(False)
        ax.set(xticks=[])
    axes[0].set_ylabel("step")
    fig.suptitle("Eight sequences of 6 to 12 steps, padded to one tensor", fontweight="bold")
    return fig


show(padded_figure(), "Eight digits of different heights; the number above each is its height. Hatched: the padding, rows that are not there.")

# %% [markdown]
# A batch is one tensor, so the short ones are **padded** with zeros. The network must not read those. `pack_padded_sequence` tells the GRU where each
# sequence ends.


# %%
class RowReader(nn.Module):
    def __init__(self, memory=48):
        super().__init__()
        self.gru = nn.GRU(8, memory, batch_first=True)
        self.answer = nn.Linear(memory, 10)

    def forward(self, rows, lengths):
        packed = pack_padded_sequence(
            rows, lengths, batch_first=True, enforce_sorted=False
        )
        _, last = self.gru(packed)  # (1, N, memory): after the last real row
        return self.answer(last[0])


# %%
torch.manual_seed(seeds[0])
reader = RowReader()
one = [
    reader(rows[i : i + 1, :length], lengths[i : i + 1])
    for i, length in enumerate(lengths[:50])
]
alone, packed = torch.cat(one), reader(rows[:50], lengths[:50])
unpacked = reader(rows[:50], torch.full((50,), 12))
short = lengths[:50] < 12
fact(
    "Packed, a sequence gets the same answer as on its own; with padding, another one",
    torch.allclose(packed, alone, atol=1e-5)
    and (unpacked - alone)[short].abs().amax(dim=1).min() > 1e-4,
    f"largest difference {(packed - alone).abs().max():.0e} packed,"
    f" {(unpacked - alone).abs().max():.2f} without",
)

# %% [markdown]
# **Exercise 1** (3 min): the last real state. `states` (N, T, D) are a GRU's states for a padded batch, and `lengths` (N,) says how many of them are real. Return the last
# real state of each sequence, (N, D).
#
# Write your answer in place of the dots and run the cell: the check says what it expected and what it got. Stuck? Take away the `#` in the cell below it.


# %%
def last_real(states, lengths):
    ...


exercises.last_real.check(last_real)

# %% slideshow={"slide_type": "skip"}
# exercises.last_real.hint()
# exercises.last_real.solution()

# %% [markdown]
# The training loop serves the whole notebook. It takes any network and any loss:


# %% tags=["measure"]
def class_loss(model, *batch):
    *inputs, labels = batch
    return F.cross_entropy(model(*inputs), labels)


def train(model, data, num_epochs, lr, loss_fn=class_loss, batch_size=50):
    """AdamW; the rate rises to `lr` and falls. data: tensors, a row an example."""
    optimizer = torch.optim.AdamW(model.parameters(), lr, weight_decay=0.05)
    steps = num_epochs * -(-len(data[0]) // batch_size)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps)
    model.train()
    for _ in range(num_epochs):
        for rows in torch.randperm(len(data[0])).split(batch_size):
            loss = loss_fn(model, *(part[rows] for part in data))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
    return model.eval()


@torch.no_grad()
def accuracy(model, *data):
    parts = zip(*(part.split(200) for part in data), strict=False)
    right = [model(*inputs).argmax(dim=1) == labels for *inputs, labels in parts]
    return torch.cat(right).float().mean().item()

# %% [markdown]
# What does the memory add? We compare it with two networks that have none. A **bag of rows** sends each row through the same two layers and takes the mean: it knows which rows there
# are, but not their order. A second bag is told the position of each row, from -1 at the top to 1 at the bottom.


# %%
class BagOfRows(nn.Module):
    def __init__(self, place, hidden=128, width=48):
        super().__init__()
        self.place = place
        self.row = nn.Sequential(
            nn.Linear(8 + place, hidden), nn.ReLU(), nn.Linear(hidden, width), nn.ReLU()
        )
        self.answer = nn.Linear(width, 10)

    def forward(self, rows, lengths):
        step = torch.arange(rows.shape[1]).expand(len(rows), -1)
        if self.place:
            down = 2 * step / (lengths[:, None] - 1) - 1
            rows = torch.cat([rows, down[..., None]], dim=2)
        real = (step < lengths[:, None])[..., None]
        return self.answer((self.row(rows) * real).sum(dim=1) / lengths[:, None])


# %% [markdown]
# **Before you run it:** all three have 8,000 to 9,000 parameters. Which is ahead on new digits of 6 to 12 rows? And which on digits of 20 rows, a height that none of them has seen?
#
# <details><summary>Answer</summary>
#
# The order is worth over seven points: the same rows in another order are another digit. The memory learns the order, and one number for the position does as well. On 20 rows the recurrent
# network falls behind the bag that is told the positions. It *runs* on any length, but it has only been trained to remember over a dozen steps.
#
# </details>

# %%
ways = {  # the network and its epochs: until more change little
    "recurrent": (RowReader, 15),
    "bag, told the positions": (lambda: BagOfRows(place=True), 30),
    "bag of rows": (lambda: BagOfRows(place=False), 30),
}
val_rows = stretched(val_set, low=6, high=12, seed=seeds[2])
readers = {}
for name, (make, epochs) in tqdm(ways.items(), desc="three readers", leave=False):
    found = []
    for lr in (1e-2, 3e-2):
        torch.manual_seed(seeds[0])
        model = train(make(), [rows, lengths, y_train], epochs, lr)
        found.append((accuracy(model, *val_rows, y_val), model))
    readers[name] = max(found, key=lambda pair: pair[0])[1]

# %%
heights = range(4, 21, 2)
by_height = {name: [] for name in readers}
for height in heights:
    digits = stretched(test_set, height, height, seed=0)
    for name, model in readers.items():
        by_height[name].append(accuracy(model, *digits, y_test))


# %%
# extra code: accuracy against the height of the digit
def heights_figure():
    fig, ax = plt.subplots()
    ax.axvspan(6, 12, color="lightgray", alpha=0.5, zorder=0)
    ax.annotate("heights of the training", (9, 0.03), xycoords=("data", "axes fraction"), ha="center", color="dimgray")
    curves(ax, {name: [100 * value for value in values] for name, values in by_height.items()}, "rows of the digit",
           "right on new digits (%)", "A memory works for the lengths that it was trained on", x=heights)  # fmt: skip
    return fig


show(heights_figure(), "Accuracy on test digits of 4 to 20 rows, for the recurrent network and two bags of rows; grey: the heights that they were trained on.")

# %%
test_digits = test_rows, test_lengths, y_test
seen = {name: accuracy(model, *test_digits) for name, model in readers.items()}
long = {name: values[-1] for name, values in by_height.items()}
placed, bag = "bag, told the positions", "bag of rows"
counts = sorted(map(num_parameters, readers.values()))
claim(
    "The order of the rows is worth over 7 points: a memory or a number supplies it",
    min(seen["recurrent"], seen[placed]) > seen[bag] + 0.07,
    ", ".join(f"{name} {share:.0%}" for name, share in seen.items()),
    same=f"{len(y_train):,} digits, the better of two rates, chosen on {len(y_val)}"
    f" others; {counts[0]:,} to {counts[-1]:,} parameters",
)
claim(
    "On 20 rows, the recurrent network falls behind the bag that knows the positions",
    long["recurrent"] < min(seen["recurrent"], long[placed]) - 0.05
    and abs(long[placed] - seen[placed]) < 0.04,
    f"recurrent {long['recurrent']:.0%}, {placed} {long[placed]:.0%}",
    same="the networks of the claim above",
)

# %% [markdown]
# Is it the length? A stretched digit also changes more slowly from row to row. Here is the rival: digits of 12 rows, with eight blank rows in front or behind. They are as long, and change as
# fast as those in training.

# %%
digits, _ = stretched(test_set, 12, 12, seed=0)
twenty = torch.full_like(test_lengths, 20)
reads = {}
for name, around in {"in front": (8, 0), "behind": (0, 8)}.items():
    longer = F.pad(digits, (0, 0, *around), value=-1.0)
    reads[name] = accuracy(readers["recurrent"], longer, twenty, y_test)
claim(
    "Eight blank rows behind a digit make the network forget it, in front they do not",
    reads["behind"] < 0.5 < 0.7 < reads["in front"],
    ", ".join(f"{name}: {share:.0%} right" for name, share in reads.items()),
    same="the recurrent network of the claims above; digits of 12 rows",
)

# %% [markdown]
# So the length alone is not the reason. What counts is for how many steps the network has to remember. (Blank rows are new to it, too: it might learn to pass over them.)

# %% [markdown]
# ### One picture in, a word out
#
# Now the output has its own length. The network sees a digit and writes its name, letter by letter: *one to many*, as in describing a picture. The
# picture fills the memory. The network reads each letter that it wrote at the next step, and a full stop ends the word.

# %%
names = "zero one two three four five six seven eight nine".split()
letters = ".>" + "".join(sorted(set("".join(names))))  # the end, the start, the others
spelled = torch.tensor([[letters.index(c) for c in f"{n:.<6}"] for n in names])
print(letters, spelled[7].tolist())


# %%
class Speller(nn.Module):
    """A digit in, six letters out, as logits (N, letters, 6)."""

    def __init__(self, memory, width=64):
        super().__init__()
        self.see = nn.Sequential(
            nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width)
        )
        self.letter, self.memory = nn.Embedding(len(letters), width), memory
        self.cell = nn.GRUCell(width, width) if memory else NoMemory(width)
        self.say = nn.Linear(width, len(letters))

    def forward(self, images, words=None):
        state, last, logits = self.see(images), torch.ones(len(images)).long(), []
        for step in range(6):
            out = self.cell(self.letter(last), state)
            state = out if self.memory else state  # without: always the picture
            logits.append(self.say(out))
            last = logits[-1].argmax(dim=1) if words is None else words[:, step]
        return torch.stack(logits, dim=2)


class NoMemory(nn.Module):
    """In place of the GRU: two layers on the last letter and the picture."""

    def __init__(self, width):
        super().__init__()
        self.first = nn.Linear(2 * width, 3 * width)
        self.second = nn.Linear(3 * width, width)

    def forward(self, letter, picture):
        hidden = self.first(torch.cat([letter, picture], dim=1)).relu()
        return self.second(hidden).relu()


# %% [markdown]
# During training it reads the right letters, whatever it wrote itself; afterwards it reads its own. So `train` gets the words twice: once to be read, once as what is asked for. Letter 1, `>`,
# stands for the start. (`cross_entropy` takes the classes along axis 1.)
#
# **Before you run it:** the rival has no memory. At every step it gets the picture and the last letter, and it has more parameters. Which names can it not spell?
#
# <details><summary>Answer</summary>
#
# Those in which one letter is followed by two different ones. In *seven*, e is followed by v and later by n; in *nine*, n by i and by e; in *three*, e by e and by the end. To a network that knows
# only the picture and the last letter, both positions look alike.
#
# </details>

# %%
x_train, x_test = (part.images / 127.5 - 1 for part in (train_set, test_set))
by_word = {}
for memory in (True, False):
    torch.manual_seed(seeds[0])
    speller, words = Speller(memory), spelled[y_train]
    train(speller, [x_train, words, words], num_epochs=15, lr=5e-3)
    written = speller(x_test).argmax(dim=1)
    by_word[memory] = ["".join(letters[i] for i in w).split(".")[0] for w in written]


# %%
# extra code: the share of each name that is spelled right, and what else is written
def spelled_right(memory, name):
    rows = (y_test == names.index(name)).nonzero()[:, 0]
    return np.mean([by_word[memory][row] == name for row in rows])


def most_written(name):
    written = [by_word[False][row] for row in (y_test == names.index(name)).nonzero()[:, 0]]
    return max(set(written), key=written.count)


def names_figure():
    fig, ax = plt.subplots(figsize=(9, 4.6))
    for place, name in enumerate(names):
        with_, without = (100 * spelled_right(memory, name) for memory in (True, False))
        ax.plot(place, with_, "o", color="C0", markersize=11)
        ax.plot(place, without, "s", color="C1", markersize=9)
        if without < 50:
            ax.annotate(most_written(name), (place, without), xytext=(0, 12), textcoords="offset points", ha="center", color="C1", fontweight="bold")
    ax.annotate("with memory", (5.5, 70), color="C0", fontweight="bold", ha="center")
    ax.annotate("without", (5.5, 58), color="C1", fontweight="bold", ha="center")
    ax.set_xticks(range(10), names, rotation=30)
    ax.set(ylim=(-5, 105), ylabel="spelled right (%)", title="Three names need a memory")
    return fig


show(names_figure(), "For each digit the share of test pictures whose name is spelled right, with memory (circles) and without (squares). Above the squares at the bottom: the most frequent spelling.")

# %%
def mean_right(memory, some):
    return np.mean([spelled_right(memory, name) for name in some])


pairs = {name: set(zip(name, name[1:] + ".", strict=True)) for name in names}
needy = [name for name in names if len(pairs[name]) > len(set(name))]
others = [name for name in names if name not in needy]
claim(
    "Without memory, names in which one letter has two successors cannot be spelled",
    max(spelled_right(False, name) for name in needy) < 0.02
    and min(mean_right(False, others), mean_right(True, needy)) > 0.85,
    f"{', '.join(needy)}: with memory {mean_right(True, needy):.0%}, without"
    f" {mean_right(False, needy):.0%}; the others {mean_right(True, others):.0%}"
    f" and {mean_right(False, others):.0%}",
    same=f"{len(y_train):,} digits, 15 epochs; picture and last letter at every step",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# First ask how long the words are: three to five letters, and the network decides when to stop. Translation (Sutskever et al. 2014) is both halves of this section together: a sequence in, the
# last state as the "picture", a sequence out. There, one state has to hold the whole sentence. Attention was invented to remove this limit (Bahdanau et al. 2015), which leads to section 2.

# %% [markdown]
# **Exercise 2** (3 min): how sure is it of a whole word? A word's probability is the product of its letters' probabilities, each given the letters before. From `logits` (N, letters, 6) and
# `words` (N, 6), the numbers of the letters, return the logarithm of each word's probability, (N,).


# %%
def log_probability(logits, words):
    ...


exercises.log_probability.check(log_probability)

# %% slideshow={"slide_type": "skip"}
# exercises.log_probability.hint()
# exercises.log_probability.solution()

# %% [markdown]
# ## 2. Attention, written out (16 min)
#
# A recurrent network passes everything through one memory, step by step. **Attention** lets every part of the input look at every other part at once. The parts are vectors, called **tokens**,
# and there may be any number of them. Each token asks a question, its **query** $q$. Each also offers a **key** $k$, which says what it has, and a **value** $v$, which is what it gives:
#
# $$\text{attention}(Q, K, V) = \text{softmax}\!\left(\frac{Q K^\top}{\sqrt{d}}\right) V$$
#
# Here are five tokens of eight numbers, and three matrices that a network would learn:

# %%
torch.manual_seed(seeds[0])
tokens = torch.randn(5, 8)
W_q, W_k, W_v = (torch.randn(8, 8) / math.sqrt(8) for _ in range(3))
q, k, v = tokens @ W_q, tokens @ W_k, tokens @ W_v

# %%
scores = q @ k.T / math.sqrt(8)  # (5, 5): how well each query fits each key
weights = scores.softmax(dim=1)  # each row adds up to 1
mixed = weights @ v  # for each token, the mean of all values, so weighted
print(weights.round(decimals=2))

# %% [markdown]
# That is all. (Dividing by the root keeps the scores near 1 in size, whatever the dimension $d$. Large scores would saturate the softmax: it gets flat, as the sigmoids of notebook 01.) PyTorch has attention as a
# function and as a layer, and we put our matrices into both.

# %%
by_function = F.scaled_dot_product_attention(q[None], k[None], v[None])[0]
layer = nn.MultiheadAttention(embed_dim=8, num_heads=1, bias=False)
with torch.no_grad():
    layer.in_proj_weight.copy_(torch.cat([W_q.T, W_k.T, W_v.T]))
    layer.out_proj.weight.copy_(torch.eye(8))
by_layer, layer_weights = layer(tokens, tokens, tokens)
fact(
    "Our three lines give the same result as PyTorch's function and layer",
    torch.allclose(mixed, by_function, atol=1e-5)
    and torch.allclose(mixed, by_layer, atol=1e-5)
    and torch.allclose(weights, layer_weights, atol=1e-5),
    f"largest differences {(mixed - by_function).abs().max():.0e}"
    f" and {(mixed - by_layer).abs().max():.0e}",
)

# %% [markdown]
# ### On a picture
#
# To turn a picture into tokens, we cut it into **patches**.


# %% tags=["measure"]
def to_patches(images, size):
    """(N, C, H, W) -> (N, patches, C * size * size), row by row."""
    return F.unfold(images, size, stride=size).transpose(1, 2)


# %%
foxes, *_ = datasets.critters(["fox"], num_train=7, num_val=0, num_test=0, size=64)
animal = foxes.images[6] / 255
patches = to_patches(animal[None], size=4)[0]  # (256, 48): 16 x 16 patches
colours = patches.unflatten(1, (3, 16)).mean(dim=2)  # (256, 3)
print(tuple(patches.shape), tuple(colours.shape))

# %% [markdown]
# Nothing is learned yet. As query and key of a patch we simply take its colour, so that each patch asks for patches of its own colour.

# %%
directions = F.normalize(colours - colours.mean(dim=0), dim=1)
likes = (12 * directions @ directions.T).softmax(dim=1)  # (256, 256)


# %%
# extra code: three patches and where they look
def show_attention(ax, picture, weights, place, side):
    """The picture, darkened where the patch at `place` (row, column) of side x side patches does not look."""
    size = picture.shape[-1] // side
    heat = weights.reshape(side, side) / weights.max()
    light = F.interpolate(heat[None, None], scale_factor=size)[0]
    ax.imshow(to_picture(picture * (0.15 + 0.85 * light)))
    ax.axis("off")
    if place:
        row, column = place
        frame = {"fill": False, "edgecolor": "C1", "linewidth": 3}
        ax.add_patch(Rectangle((column * size - 0.5, row * size - 0.5), size, size, **frame))


def colour_figure(places=((6, 8), (3, 4), (14, 2))):
    fig, axes = plt.subplots(1, 4, figsize=(11, 3.1))
    axes[0].imshow(to_picture(animal))
    axes[0].axis("off")
    for ax, place in zip(axes[1:], places, strict=False):
        show_attention(ax, animal, likes[place[0] * 16 + place[1]], place, 16)
    fig.suptitle("A patch that asks for its own colour finds it everywhere", fontweight="bold")
    return fig


show(colour_figure(), "A drawn fox, and three pictures of where one framed patch looks: the more weight a patch gets, the brighter it is.")

# %% [markdown]
# It finds them at any distance, in one step. With 3 x 3 convolutions and neither stride nor pooling, it takes 32 layers before one unit sees two opposite corners of this picture.
#
# ### It knows no places
#
# **Before you run it:** we shuffle the patches of a picture, so that hardly anything can be recognised. We apply attention (as a whole layer, which section 3 builds) and take the mean of its outputs. How does the result change?
#
# <details><summary>Answer</summary>
#
# It does not change at all. Each token asks all others, and positions are not part of the question. So transformers *add* a vector to each token that depends on its position, and is learned with the
# rest: the **position embedding**.
#
# </details>

# %%
torch.manual_seed(seeds[0])
attend = nn.TransformerEncoderLayer(48, nhead=4, batch_first=True).eval()
order = torch.randperm(256)
places = torch.randn(256, 48)
with torch.no_grad():
    plain, shuffled = (attend(p[None]).mean(dim=1) for p in (patches, patches[order]))
    placed, moved = (
        attend((p + places)[None]).mean(dim=1) for p in (patches, patches[order])
    )
fact(
    "Without positions a shuffled picture gives the same answer; with them, another",
    torch.allclose(plain, shuffled, atol=1e-4) and (placed - moved).abs().max() > 1e-3,
    f"largest difference {(plain - shuffled).abs().max():.0e} without,"
    f" {(placed - moved).abs().max():.0e} with",
)


# %%
# extra code: the picture and its shuffled patches
def shuffled_figure():
    together = F.fold(patches[order].T[None], 64, 4, stride=4)[0]
    return image_grid([animal, together], columns=2, size=2.6, titles=["the fox", "its 256 patches, shuffled"])


show(shuffled_figure(), "Left the fox, right its patches in another order: to attention without positions they are one picture.")

# %% [markdown]
# **Exercise 3** (3 min): only what came before. A network that writes must not look at letters that are still to come. From `scores` (..., T, T), with a row for each query, make attention
# weights in which position $i$ sees only positions 0 to $i$.


# %%
def causal_weights(scores):
    ...


exercises.causal_weights.check(causal_weights)

# %% slideshow={"slide_type": "skip"}
# exercises.causal_weights.hint()
# exercises.causal_weights.solution()

# %% [markdown]
# ## 3. A picture as a sequence: the vision transformer (18 min)
#
# Dosovitskiy et al. (2021) cut a picture into patches, make a token of each, add positions, and send them through a stack of attention blocks: the **vision transformer**
# (ViT). They add one more token, the **class token**. It stands for no patch; the answer is computed from what it has gathered at the end.


# %% tags=["measure"]
class Block(nn.Module):
    """Tokens look at each other, then each is processed alone: twice `x + f(x)`."""

    def __init__(self, width, heads):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x):
        y = self.norm1(x)
        y, self.looks = self.attention(y, y, y)  # looks: (N, tokens, tokens)
        x = x + y
        return x + self.mlp(self.norm2(x))


# %% tags=["measure"]
class SmallViT(nn.Module):
    """For pictures of 32 x 32."""

    def __init__(self, width=48, depth=3, heads=4, size=8):
        super().__init__()
        self.size, num_patches = size, (32 // size) ** 2
        self.embed = nn.Linear(3 * size * size, width)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(0.02 * torch.randn(1, num_patches, width))
        self.blocks = nn.Sequential(*[Block(width, heads) for _ in range(depth)])
        self.answer = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 6))

    def forward(self, images):
        x = self.embed(to_patches(images, self.size)) + self.positions
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1)
        return self.answer(self.blocks(x)[:, 0])


# %% [markdown]
# (The **heads** are several attentions side by side, each on its share of the 48 numbers: one may ask for colours, another for positions. Exercise 6 builds them.)
#
# The rival is a convolutional network with as many parameters and about as much work.


# %% tags=["measure"]
def convolve(c_in, c_out, stride=1):
    conv = nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU())


def small_cnn(a=18, b=36, c=58):
    return nn.Sequential(
        convolve(3, a, 2), convolve(a, b), convolve(b, b, 2),
        convolve(b, c), convolve(c, c, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, 6),
    )  # fmt: skip


networks = {"transformer": SmallViT, "convolutional": small_cnn}

# %% tags=["measure"]
species = ["fox", "panda", "tiger", "owl", "rabbit", "frog"]


def animals_for_learning(num):
    """(x, y) to learn from, to choose by, to test on: `num`, 400, 1,000 drawings."""
    parts = datasets.critters(species, num, num_val=400, num_test=1000, size=32)
    return [(prepare(part.images), part.targets["label"]) for part in parts]


def prepare(images):
    """Bytes to numbers around zero."""
    return (images.float() / 255 - 0.5) / 0.25


# %%
(x_few, y_few), (x_choose, y_choose), (x_new, y_new) = animals_for_learning(200)
sizes = {name: num_parameters(make()) for name, make in networks.items()}
fact(
    "Both networks have about the same number of parameters",
    max(sizes.values()) < 1.02 * min(sizes.values()),
    ", ".join(f"{name} {number:,}" for name, number in sizes.items()),
)


# %%
# extra code: twelve drawings, one of them cut into its patches
def patches_figure():
    fig, axes = plt.subplots(2, 6, figsize=(10, 3.9))
    for ax, picture, label in zip(axes.flat, x_few, y_few.tolist(), strict=False):
        ax.imshow(to_picture(picture * 0.25 + 0.5))
        ax.set_title(species[label], loc="center", fontsize=12, fontweight="normal")
        ax.axis("off")
    for line in range(9, 32, 8):
        axes[0, 0].axhline(line - 1.5, color="white", linewidth=2)
        axes[0, 0].axvline(line - 1.5, color="white", linewidth=2)
    return fig


show(patches_figure(), "Twelve drawings of 32 x 32 pixels, of six species. Lines on the first: its 16 patches, the transformer's tokens.")

# %% [markdown]
# **Before you run it:** both learn from the same drawings, each at the better of two learning rates. Which is ahead with 200? And with 3,200?
#
# <details><summary>Answer</summary>
#
# The convolutional network, both times. It is built on the assumption that near pixels belong together and that an ear is an ear everywhere. The transformer has to learn
# both from examples. It gains, but at 3,200 it is still far behind, and training for twice as long does not close the gap. With millions of pictures the handicap goes, see *Pretrained* below.
#
# </details>

# %%
runs = measured("vision_transformer")


def of_table(column, network, num, epochs):
    """A column of the table, one value a seed."""
    return np.array([
        run[column] for run in runs
        if (run["network"], run["num"], run["epochs"]) == (network, num, epochs)
    ])  # fmt: skip


# %%
live = {}
for name, make in tqdm(networks.items(), desc="200 drawings", leave=False):
    lr = np.median(of_table("lr", name, 200, 50))
    torch.manual_seed(seeds[0])
    model = train(make(), [x_few, y_few], num_epochs=50, lr=lr)
    live[name] = accuracy(model, x_new, y_new)
print({name: f"{share:.1%}" for name, share in live.items()})


# %%
# extra code: accuracy with 200 and with 3,200 drawings, one dot per seed
def numbers_figure():
    fig, ax = plt.subplots()
    sides = {"few": (200, 50), "many": (3200, 10), "long": (3200, 20)}
    for i, name in enumerate(networks):
        dots = [of_table("test", name, *side) for side in sides.values()]
        ax.plot(range(3), [values.mean() for values in dots], color=f"C{i}")
        for place, values in enumerate(dots):
            ax.plot([place] * len(values), values, "o", color=f"C{i}", alpha=0.6)
        ax.plot(-0.06, 100 * live[name], "o", color=f"C{i}", fillstyle="none", markersize=9)
        ax.annotate(name, (2, dots[-1].mean()), xytext=(12, 0), textcoords="offset points", color=f"C{i}", fontweight="bold", va="center")
    ax.axhline(100 / 6, color="gray", linestyle=":")
    ax.annotate("guessing", (1, 100 / 6), xytext=(0, -16), textcoords="offset points", color="gray", ha="center")
    ax.set_ylim(bottom=8)
    ax.set_xticks(range(3), ["200 drawings", "3,200 drawings", "3,200, twice as long"])
    ax.set(ylabel="right on new drawings (%)", title="From scratch, the transformer stays behind")
    return fig


show(numbers_figure(), "Accuracy on 1,000 new drawings of six species for both networks, one dot per seed, the rate chosen on validation drawings; open circles: this run.")

# %%
def interval(values):
    """The mean, and half the width of its 95 % interval, for three or five seeds."""
    t = {3: 4.30, 5: 2.78}[len(values)]
    return values.mean(), t * values.std(ddof=1) / math.sqrt(len(values))


def lead(num, epochs):
    """By how many points the convolutional network is ahead, for each seed."""
    ours = of_table("test", "convolutional", num, epochs)
    return ours - of_table("test", "transformer", num, epochs)


# %%
(few, few_width), (many, many_width) = interval(lead(200, 50)), interval(lead(3200, 10))
longer = lead(3200, 20).mean()
claim(
    "From scratch the convolutional network is ahead, with 200 drawings and with 3,200",
    few - few_width > 0 and many - many_width > 0 and longer > 0
    and live["convolutional"] > live["transformer"],
    f"by {few:.0f} ± {few_width:.0f} points and by {many:.0f} ± {many_width:.0f};"
    f" trained for twice as long by {longer:.0f}",
    same=f"steps, about {sizes['transformer']:,} parameters, the better of two rates by"
    f" {len(y_choose)} drawings; {len(lead(200, 50))} seeds, {len(lead(3200, 20))} for"
    " the longer training",
)

# %% [markdown]
# A larger rate for the transformer (0.004) was no better on two seeds. We did not try finer patches (four times the work), augmentation, or a convolution in place of the first layer. Each is known to narrow the gap, and each adds some of what the
# convolutional network has from the start.
#
# ### Where it looks
#
# We train a transformer on 3,200 drawings. Then we look at the weights of the class token in the last block: from which patches does it take the answer?

# %%
(x_many, y_many), _, _ = animals_for_learning(3200)
torch.manual_seed(seeds[0])
lr = np.median(of_table("lr", "transformer", 3200, 10))
vit = train(SmallViT(), [x_many, y_many], num_epochs=10, lr=lr)
with torch.no_grad():
    answers = vit(x_new).argmax(dim=1)
looks = vit.blocks[-1].looks[:, 0, 1:]  # (1000, 16): the class token on each patch
looks = looks / looks.sum(dim=1, keepdim=True)


# %%
# extra code: six drawings that it names right, and the weights of their patches
def looks_figure():
    chosen = [((y_new == label) & (answers == label)).float().argmax() for label in range(6)]
    fig, axes = plt.subplots(2, 6, figsize=(10, 3.9))
    for (above, below), row in zip(axes.T, chosen, strict=True):
        picture = x_new[row] * 0.25 + 0.5
        above.imshow(to_picture(picture))
        show_attention(below, picture, looks[row], None, 4)
        above.set_title(species[y_new[row]], loc="center", fontsize=12, fontweight="normal")
        above.axis("off")
    return fig


show(looks_figure(), "Six new drawings that the transformer classifies correctly. Below each, the same drawing: the brighter a patch, the more the class token looks at it in the last block.")

# %% [markdown]
# Does it look at the animal? We compare with three weightings that know nothing of animals: even weights, which give the animal its share of the area; the *mean* weights of all pictures, as
# animals are in the middle; and the mean weights times each patch's **contrast**, the spread of its pixels, as animals have outlines and eyes.

# %%
drawings = datasets.critters(species, 200, 400, 1000, size=32).test
masks = drawings.targets["mask"]
# how much of each patch is animal: (1000, 16)
part = F.avg_pool2d(masks[:, None].float(), 8).flatten(1)
contrast = to_patches(x_new, 8).unflatten(2, (3, 64)).std(dim=3).mean(dim=2)
usual = looks.mean(dim=0)
gazes = {"own weights": looks, "mean weights": usual.expand_as(looks),
         "mean weights times contrast": usual * contrast,
         "even weights": torch.ones_like(looks)}  # fmt: skip
shares = {name: ((w / w.sum(dim=1, keepdim=True)) * part).sum(dim=1).mean().item()
          for name, w in gazes.items()}  # fmt: skip

# %%
own, mean, by_contrast, even = shares.values()
claim(
    "The class token looks at the animal more than its mean weights would; but so"
    " would contrast alone",
    min(own, by_contrast) > mean + 0.02 and mean > even,
    ", ".join(f"{share:.0%} of the {name}" for name, share in shares.items())
    + " lie on the animal",
    same=f"one transformer and {len(looks):,} new drawings,"
    f" of which it names {(answers == y_new).float().mean():.0%} right",
)

# %% [markdown]
# So these maps do not show that the transformer has found the animal. It may only prefer patches with much detail.

# %% [markdown] slideshow={"slide_type": "notes"}
# Warn against reading too much into such pictures: a weight says what was looked at, not what it was used for, and different weights can give the same answer (Jain and Wallace 2019). In
# large pretrained transformers the maps outline the object (DINO, Caron et al. 2021).

# %% [markdown]
# ### Pretrained
#
# So why does everyone use transformers? Because the handicap goes with more data. In the paper, the largest ViT lost to a ResNet when both were pretrained on the 1.3 million pictures
# of ImageNet, and was ahead with 300 million. Torchvision publishes these accuracies with its weights:

# %%
from torchvision.models import get_weight  # noqa: E402

zoo = {
    "ResNet-152, first recipe": "ResNet152_Weights.IMAGENET1K_V1",
    "ResNet-152, new recipe": "ResNet152_Weights.IMAGENET1K_V2",
    "ConvNeXt-B": "ConvNeXt_Base_Weights.IMAGENET1K_V1",
    "ViT-B/16": "ViT_B_16_Weights.IMAGENET1K_V1",
    "ViT-B/16, billions first": "ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1",
    "RegNetY, billions first": "RegNet_Y_16GF_Weights.IMAGENET1K_SWAG_E2E_V1",
}
for name, weights in zip(zoo, map(get_weight, zoo.values()), strict=True):
    top1 = weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    side = weights.transforms.keywords["crop_size"]
    millions = weights.meta["num_params"] / 1e6
    print(f"{name:24} {millions:5.1f} M parameters, {side} pixels: {top1:.1f} %")

# %% [markdown]
# The last two saw billions of pictures first, and then larger ones than the others. RegNetY is a convolutional network. So much data takes the transformer's handicap away; by itself it does
# not put the transformer ahead.
#
# If the weights of ViT-B/16 or MobileNetV2 (a convolutional network) are on this machine, the next cell uses them, frozen, on our drawings, as notebook 05 does. It downloads nothing: the
# files have 346 and 14 MB. With 40 new drawings, a difference of less than 20 points may be chance.


# %%
def frozen(weights, model, head, num=40):
    """Accuracy on `num` new drawings of a linear classifier on frozen features."""
    model.load_state_dict(imagenet_state(weights))
    setattr(model.eval(), head, nn.Identity())
    as_learned = weights.transforms(resize_size=224)  # its size, its normalisation
    large = [as_learned(x[:num] * 0.25 + 0.5).split(20) for x in (x_few, x_new)]
    with torch.no_grad():
        points, new = (torch.cat([*map(model, parts)]) for parts in large)
    linear = nn.Linear(points.shape[1], 6)
    train(linear, [points, y_few[:num]], num_epochs=100, lr=1e-3)
    return accuracy(linear, new, y_new[:num])


# %%
from torchvision.models import MobileNet_V2_Weights, mobilenet_v2  # noqa: E402

rivals = {
    "ViT-B/16": (ViT_B_16_Weights.IMAGENET1K_V1, vit_b_16, "heads"),
    "MobileNetV2": (MobileNet_V2_Weights.IMAGENET1K_V1, mobilenet_v2, "classifier"),
}
folders = datasets.data_dir() / "weights", Path(torch.hub.get_dir()) / "checkpoints"
for name, (weights, make, head) in rivals.items():
    file = Path(weights.url).name
    if any((folder / file).exists() for folder in folders):
        right = frozen(weights, make(), head)
        print(f"{name}, frozen, 40 drawings: {right:.0%} of 40 new ones are right")
    else:
        print(f"{file} is not on this machine, so it is not run.")

# %% [markdown]
# **Exercise 4** (3 min): what a larger picture costs. Return how many attention weights one head of a ViT has for a picture of `side` x `side` pixels and patches of `patch` x `patch`, class token
# included. By how much does it grow from 224 to 448 pixels?


# %%
def attention_size(side, patch):
    ...


exercises.attention_size.check(attention_size)

# %% slideshow={"slide_type": "skip"}
# exercises.attention_size.hint()
# exercises.attention_size.solution()

# %% [markdown]
# ## 4. Capsules: inverse graphics (14 min)
#
# Computer graphics goes from a few numbers (what, where, how large, how slanted) to a picture. Sabour, Frosst and Hinton (2017) wanted a network that goes the other way: **inverse
# graphics**. A channel says *how strongly* something is there. A **capsule** is a vector: its length says whether something is there, its direction says in which pose.
#
# A length that represents a probability must be below 1. So each capsule is **squashed**: it keeps its direction and gets a length between 0 and 1,
#
# $$\text{squash}(s) = \frac{\lVert s \rVert^2}{1 + \lVert s \rVert^2} \; \frac{s}{\lVert s \rVert}.$$


# %% tags=["measure"]
def squash(s):
    squared = (s**2).sum(dim=-1, keepdim=True)
    return squared / (1 + squared) * s / (squared + 1e-9).sqrt()


# %%
s = torch.randn(1000, 8) * torch.logspace(-2, 2, 1000)[:, None]
length, same_way = squash(s).norm(dim=1), F.cosine_similarity(squash(s), s)
fact(
    "Squashing keeps the direction and brings every length below 1",
    (length < 1).all() and same_way.min() > 0.999,
    f"lengths from {s.norm(dim=1).min():.2f} to {s.norm(dim=1).max():.0f}"
    f" become {length.min():.4f} to {length.max():.4f}",
)

# %% [markdown]
# **Routing by agreement.** Each small capsule $i$ predicts each digit capsule $j$ with its own matrix: its **vote** $\hat u_{ij} = W_{ij} u_i$. It has one unit of trust to give away, in
# shares $c_{ij}$ that are equal at first ($b_{ij} = 0$). Then, three times:
#
# $$c_i = \text{softmax}(b_i), \qquad v_j = \text{squash}\Big(\sum_i c_{ij} \hat u_{ij}\Big), \qquad b_{ij} \leftarrow b_{ij} + \hat u_{ij} \cdot v_j$$
#
# Votes that agree with the result get more trust. As in section 2, the weights are a softmax of products.


# %% tags=["measure"]
def route(votes, rounds):
    """votes (N, capsules, digits, D) -> digit capsules (N, digits, D)."""
    b = torch.zeros_like(votes[..., 0])
    for _ in range(rounds):
        c = b.softmax(dim=2)
        v = squash((c[..., None] * votes).sum(dim=1))
        b = b + (votes * v[:, None]).sum(dim=3)
    return v


# %% [markdown]
# The digit capsules have eight numbers each. To make these describe the digit, **three dense layers** draw it again from the capsule of its class alone. The error of the drawing
# is part of the loss.


# %% tags=["measure"]
def convolutions():
    return nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3))


def drawing_layers():
    return nn.Sequential(
        nn.Linear(80, 128), nn.ReLU(), nn.Linear(128, 256), nn.ReLU(),
        nn.Linear(256, 64), nn.Sigmoid(),
    )  # fmt: skip


def draw_from(layers, numbers, digits):
    """numbers (N, 8), put at the place of their digit, and zeros for the other nine."""
    chosen = F.one_hot(digits, 10)[..., None]
    return layers((chosen * numbers[:, None]).flatten(1))


# %% tags=["measure"]
class CapsuleNet(nn.Module):
    """64 capsules of 8 numbers (4 kinds at 4 x 4 places), routed to ten digits."""

    def __init__(self, rounds=3):
        super().__init__()
        self.see, self.draw = convolutions(), drawing_layers()
        self.W = nn.Parameter(0.1 * torch.randn(64, 10, 8, 8))
        self.rounds = rounds

    def capsules(self, images):
        small = self.see(images).unflatten(1, (4, 8)).permute(0, 1, 3, 4, 2)
        votes = torch.einsum("nid,ijde->nije", squash(small.flatten(1, 3)), self.W)
        return route(votes, self.rounds)

    def forward(self, images, digits):
        """Ten lengths, and the picture drawn from the capsule of `digits`."""
        v = self.capsules(images)
        own = v[torch.arange(len(v)), digits]
        return v.norm(dim=2), draw_from(self.draw, own, digits)


# %% [markdown]
# The **margin loss** wants the right capsule longer than 0.9 and the others shorter than 0.1. We let the error of the drawing count ten times, so that the margin does not drown it.


# %% tags=["measure"]
def capsule_loss(model, images, digits):
    lengths, drawn = model(images, digits)
    right = F.one_hot(digits, 10)
    short, long = F.relu(0.9 - lengths) ** 2, F.relu(lengths - 0.1) ** 2
    margin = (right * short + 0.5 * (1 - right) * long).sum(dim=1).mean()
    return margin + 10 * F.mse_loss(drawn, images.flatten(1))


# %% [markdown]
# We compare with two rivals. For the accuracy, a **convolutional network** of the same size. For the drawing, a plain **autoencoder**: the same convolutions, eight numbers without squashing
# or routing, and the same three dense layers. It is told the digit, as the drawing layers of the capsules are during training.


# %% tags=["measure"]
class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        to_numbers = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(512, 8))
        self.see = nn.Sequential(convolutions(), to_numbers)
        self.draw = drawing_layers()

    def forward(self, images, digits):
        return draw_from(self.draw, self.see(images), digits)


def drawing_loss(model, images, digits):
    return F.mse_loss(model(images, digits), images.flatten(1))


def plain_cnn():
    dense = nn.Linear(512, 80), nn.ReLU(), nn.Linear(80, 10)
    return nn.Sequential(convolutions(), nn.ReLU(), nn.Flatten(), *dense)


# %% tags=["measure"]
def own_numbers(model, images, digits):
    """The eight numbers that draw each digit: of its capsule, or of the autoencoder."""
    with torch.no_grad():
        if isinstance(model, Autoencoder):
            return model.see(images)
        return model.capsules(images)[torch.arange(len(images)), digits]


def read_digits(model):
    """A capsule network as a classifier: the longest capsule."""
    return lambda images: model.capsules(images).norm(dim=2)


# %%
ink = {"train": train_set.images / 255, "test": test_set.images / 255}
makers = {"capsules": (CapsuleNet, capsule_loss),
          "autoencoder": (Autoencoder, drawing_loss)}  # fmt: skip
by_epochs = {}
for num_epochs in (4, 12):
    for name, (make, loss_fn) in makers.items():
        torch.manual_seed(seeds[0])
        model = train(make(), [ink["train"], y_train], num_epochs, 1e-2, loss_fn)
        by_epochs[name, num_epochs] = model
both = {name: by_epochs[name, 12] for name in makers}
right = accuracy(read_digits(both["capsules"]), ink["test"], y_test)
print(f"capsules: {right:.1%} of the test digits are right")


# %%
# extra code: eight digits, and as each network draws them again
def redrawn_figure():
    x, y = ink["test"][:8], y_test[:8]
    rows = {"given": x} | {name: draw_from(model.draw, own_numbers(model, x, y), y).detach().reshape(-1, 1, 8, 8) for name, model in both.items()}
    fig, axes = plt.subplots(3, 8, figsize=(10, 4.2))
    for line, (name, pictures) in zip(axes, rows.items(), strict=True):
        for ax, picture in zip(line, pictures, strict=True):
            ax.imshow(picture[0], cmap="gray", vmin=0, vmax=1)
            ax.grid(False)
            ax.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, fontsize=12)
    fig.suptitle("Eight numbers and the class are enough to draw a digit again", fontweight="bold")
    return fig


show(redrawn_figure(), "Top: eight test digits. Middle: as the three dense layers draw them from the capsule's eight numbers. Bottom: from the autoencoder's.")

# %% [markdown]
# ### Turn one number
#
# Take the eight numbers of a digit, change one of them, and draw. If this is inverse graphics, each number should be a knob: one for the slant, one for the width.
#
# **Before you run it:** will the capsule's knobs be cleaner than those of the plain autoencoder?
#
# <details><summary>Answer</summary>
#
# They change slant and width, as the paper shows. But the autoencoder's knobs do so too. A few numbers become knobs because they must draw the digit: the better a network draws, the more
# one of its numbers tells. Nothing here shows that squashing and routing are needed for that.
#
# </details>


# %% tags=["measure"]
def pose(images):
    """Slant, width, and place (down) of the ink in (N, 1, 8, 8): (N, 3)."""
    p, g = images[:, 0], torch.arange(8.0)
    columns, rows = p.sum(dim=1), p.sum(dim=2)
    ink = rows.sum(dim=1, keepdim=True)
    x, y = g - columns @ g[:, None] / ink, g - rows @ g[:, None] / ink
    slant = torch.einsum("nij,ni,nj->n", p, y, x) / (rows * y**2).sum(dim=1)
    width = ((columns * x**2).sum(dim=1) / ink[:, 0]).sqrt()
    return torch.stack([slant, width, (rows @ g) / ink[:, 0]], dim=1)


def told_by_one(numbers, poses, digits):
    """The share of a pose's variance that the best single number tells (r squared):
    1, it can be read off that number; 0, off none. The mean over poses and digits."""
    best = []
    for digit in range(10):
        table = torch.cat([numbers, poses], dim=1)[digits == digit]
        r = torch.corrcoef(table.T)[:8, 8:].nan_to_num()
        best.append((r**2).amax(dim=0).mean())
    return torch.stack(best).mean().item()


# %%
# extra code: a digit drawn nine times, while one of its numbers changes
def turned(network, digit, number):
    """(9, 1, 8, 8): the median digit, one number changed from -2 to 2 deviations; number 1 varies most, 8 least."""
    model, mine = both[network], y_test == digit
    numbers = own_numbers(model, ink["test"][mine], y_test[mine])
    place = numbers.std(dim=0).argsort(descending=True)[number - 1]
    knob = numbers.median(dim=0).values.repeat(9, 1)
    knob[:, place] += torch.linspace(-2, 2, 9) * numbers[:, place].std()
    return draw_from(model.draw, knob, torch.full((9,), digit)).detach().reshape(-1, 1, 8, 8)


def draw_turned(network="capsules", digit=4, number=1):
    pictures = turned(network, digit, number)
    spread = pose(ink["test"][y_test == digit]).std(dim=0)
    change = ((pose(pictures)[-1] - pose(pictures)[0]) / spread).abs()
    what = ["slant", "width", "place, up or down,"][change.argmax()]
    fig, axes = plt.subplots(1, 9, figsize=(10, 2))
    for ax, picture, turn in zip(axes, pictures, np.linspace(-2, 2, 9), strict=True):
        ax.imshow(picture[0], cmap="gray", vmin=0, vmax=1)
        ax.axis("off")
        ax.set_title(f"{turn:+.1f}", loc="center", fontsize=12, fontweight="normal")
    fig.suptitle(f"{network.capitalize()}: number {number} of a {digit} changes its {what} most, by {change.max():.1f} deviations", fontweight="bold")
    return fig, (f"A {digit}, drawn by the {network}, while one of its eight numbers goes from -2 to 2 standard deviations and the others stay. "
                 f"Number {number} of 8, where 1 varies most.")  # fmt: skip


explore(draw_turned, network=list(both), digit=[4, *(d for d in range(10) if d != 4)], number=range(1, 9), site={"digit": [4, 7, 0]})

# %%
runs = measured("capsules")
table = {name: np.array([run[name] for run in runs]) for name in runs[0]}
short = table["epochs"] == 12  # the others: three times as long

# %%
test = ink["test"], y_test
error, told = {}, {}
for key, model in by_epochs.items():
    numbers = own_numbers(model, *test)
    told[key] = told_by_one(numbers, pose(test[0]), y_test)
    drawn = draw_from(model.draw, numbers, y_test)
    error[key] = F.mse_loss(drawn, test[0].flatten(1)).item()

# %%
# extra code: accuracy; and the pose that one number tells, against the drawing's error
def capsules_figure():
    fig, axes = plt.subplots(1, 2, figsize=(11, 4.2))
    for row, column in enumerate(("capsules", "one_round", "cnn")):
        values = table[column][short]
        axes[0].plot(values, [row] * len(values), "o", color=f"C{[0, 2, 3][row]}", markersize=10, alpha=0.7)
        axes[0].plot(values.mean(), row, "|", color="black", markersize=26)
    axes[0].set_yticks(range(3), ["capsules", "one round", "convolutional"])
    axes[0].set(xlabel="right on new digits (%)", ylim=(2.5, -0.5), title="Capsules read a little better")
    for k, name in enumerate(makers):
        x, y = table[f"error_{name}"], table[f"pose_{name}"]
        axes[1].plot(error[name, 4], told[name, 4], "x", color=f"C{k}", markersize=10, markeredgewidth=3)
        axes[1].plot(x[short], y[short], "o", color=f"C{k}", markersize=10, alpha=0.7, label=name)
        axes[1].plot(x[~short], y[~short], "s", color=f"C{k}", markersize=11, alpha=0.7)
    axes[1].legend()
    axes[1].set(xlabel="error of the drawing", ylabel="share that one number tells", title="Who draws better has clearer knobs")
    return fig


show(capsules_figure(), "Left: accuracy on test digits of capsules with three rounds of routing, with one, and of a convolutional network of the same size; one dot per seed, lines at the means. Right: how much of slant, width and place "
     "the best single number tells, against the error of the drawing. Crosses: 4 epochs, this run; dots: 12; squares: 36.")  # fmt: skip

# %%
claim(
    "Training longer, a network draws better, and one number tells more of the pose",
    all(told[name, 12] > told[name, 4] + 0.03 for name in makers)
    and all(error[name, 12] < error[name, 4] for name in makers),
    "; ".join(f"{name} {told[name, 4]:.0%}, then {told[name, 12]:.0%}"
              for name in makers),
    same=f"eight numbers, three dense layers, {len(y_train):,} digits; 4 and 12 epochs",
)  # fmt: skip

# %%
for rival in ("cnn", "one_round"):
    ahead, width = interval((table["capsules"] - table[rival])[short])
    print(f"capsules ahead of {rival}: {ahead:.1f} ± {width:.1f} points")
lead_in_pose = table["pose_autoencoder"] - table["pose_capsules"]
ahead, width = interval(100 * lead_in_pose[short])
print(f"one number of the autoencoder tells {ahead:.0f} ± {width:.0f} points more")

# %% [markdown]
# So capsules read these digits about a point better than a convolutional network of the same size. Some of that may be due to the drawing, which the rival does not learn. Three rounds of routing
# read about half a point more than one: two digits of 397, at the edge of what five seeds can show.
#
# Whose knobs are clearer is not shown. After 12 epochs the autoencoder draws better, and still the interval includes zero. After 36 (the squares) both draw well, and each is ahead on one of two
# seeds. (When the drawing counted only once in the loss, the capsules drew worse, and their numbers told far less. So such a comparison depends on the weight that one chooses.)
#
# **What became of them.** Capsules have not prevailed. Routing is slow on today's machines (Barham and Isard 2019) and adds little over equal trust on other data, too (Paik et al. 2019). On
# larger pictures, plain networks with augmentation stayed ahead. The idea was that parts find out which whole they belong to by weighting each other. Attention does this at scale.

# %% [markdown]
# **Exercise 5** (3 min): one capsule draws. In `capsules` (N, 10, D) keep the capsule of each of `digits` (N,), put zeros in place of the other nine, and return (N, 10 · D).


# %%
def keep_one(capsules, digits):
    ...


exercises.keep_one.check(keep_one)

# %% slideshow={"slide_type": "skip"}
# exercises.keep_one.hint()
# exercises.keep_one.solution()

# %% [markdown]
# ## 5. What comes next (20 min)
#
# Today's vision models have two things in common: attention, and a task that needs no labels. Here are four ideas, with one figure each. Nothing is trained here; the figures are made
# from our animals and from what we know about them.
#
# ### Self-supervision: the picture is its own label
#
# Hide a part, and let the network say what was there. A **masked autoencoder** (He et al. 2022) hides three patches of four, and draws them. Other methods want two views of one picture to give the same
# numbers: DINO (Caron et al. 2021), and SimCLR (Chen et al. 2020), which also wants different pictures to give different numbers. The network is then fine-tuned, as in notebook 05.

# %%
torch.manual_seed(seeds[0])
hidden = torch.rand(64).argsort() < 48  # three patches of four
parts = to_patches(animal[None], size=8).clone()
parts[0, hidden] = 0.5
masked = F.fold(parts.transpose(1, 2), 64, 8, stride=8)[0]


# %%
# extra code: the masked picture, what is asked, and two views of one picture
def self_supervision_figure():
    views = [F.interpolate(crop[None], 64)[0] for crop in (animal[:, 2:42, 12:52], animal[:, 14:62, 10:58].flip(2) * 0.8)]
    titles = ["given", "to be drawn", "one view", "another: same numbers"]
    return image_grid([masked, animal, *views], titles=titles, columns=4, size=2.4)


show(self_supervision_figure(), "Left, a masked autoencoder: a fox of which three patches of four are hidden, and the answer. Right, two views of one picture: crops, one of them mirrored and darker.")

# %% [markdown]
# ### CLIP: pictures and words in one space
#
# Two networks, one for pictures and one for texts, give vectors with the same number of entries. They learn from 400 million pictures with captions: products of a picture and its own text
# should be large (Radford et al. 2021). A new class then needs no picture, only its name: the classifier is the text "a photo of a ...". The loss is a cross-entropy, once along the rows and
# once along the columns. (CLIP learns the temperature, too.)

# %%
def clip_loss(pictures, texts, temperature=0.07):
    """Vectors (N, D) of N pictures and of their N texts."""
    fits = F.normalize(pictures, dim=1) @ F.normalize(texts, dim=1).T / temperature
    right = torch.arange(len(fits))
    return (F.cross_entropy(fits, right) + F.cross_entropy(fits.T, right)) / 2


# %%
torch.manual_seed(seeds[0])
vectors = torch.randn(4, 64)
own = clip_loss(vectors, vectors)
others = clip_loss(vectors, vectors.roll(1, dims=0))
fact(
    "The loss is small if pictures fit their own texts, and large if they fit others",
    own < 0.1 < 5 < others,
    f"{own:.4f} and {others:.1f}",
)


# %%
# extra code: four pictures, four texts, and which products should be large
def clip_figure():
    kinds = ["fox", "panda", "tiger", "frog"]
    drawn = [to_picture(x_few[(y_few == species.index(kind)).nonzero()[1, 0]] * 0.25 + 0.5) for kind in kinds]
    fig, ax = plt.subplots(figsize=(7.4, 5))
    ax.imshow(np.eye(4), cmap="Blues", vmin=0, vmax=1.4, extent=(0, 4, 4, 0))
    for i, picture in enumerate(drawn):
        ax.imshow(picture, extent=(-1.1, -0.15, i + 0.95, i + 0.05))
        ax.text(i + 0.5, -0.15, f"“a {kinds[i]}”", ha="center", va="bottom", fontsize=13)
        for j in range(4):
            ax.text(j + 0.5, i + 0.5, "large" if i == j else "small", ha="center", va="center", color="white" if i == j else "dimgray", fontsize=12)
    ax.set(xlim=(-1.2, 4), ylim=(4, -0.9))
    ax.axis("off")
    fig.suptitle("What CLIP learns: each picture fits its own text", fontweight="bold")
    return fig


show(clip_figure(), "A table of four drawings and four texts. On its diagonal the products should be large, elsewhere small. A sketch: no network computed it.")

# %% [markdown]
# ### Segment anything: point, and get a mask
#
# Kirillov et al. (2023) let a network draw masks for eleven million pictures, corrected them at first, and trained it on the result: a billion masks. You click on a point, and get the mask
# of the object there. A click is ambiguous: this fur, the head, or the fox? So the network gives three masks, each with an estimate of how good it is. (Notebook 04 learns one mask of one
# kind.)

# %%
# extra code: a click and three masks that fit it, from the drawing's own parts
def segment_figure(x=36, y=20):
    parts, whole = (foxes.targets[name][6].numpy() for name in ("parts", "mask"))
    head = parts == critters.PARTS.index("head")
    fur = head & ((animal - animal[:, y, x][:, None, None]).abs().amax(dim=0) < 0.15).numpy()
    fig, axes = plt.subplots(1, 4, figsize=(10, 3))
    answers = {"a click": None, "this fur": fur, "the head": head, "the fox": whole.astype(bool)}
    for ax, (title, mask) in zip(axes, answers.items(), strict=True):
        picture = to_picture(animal).copy()
        if mask is not None:
            picture[~mask] = 0.2 * picture[~mask] + 0.8
        ax.imshow(picture)
        ax.plot(x, y, "*", color="C0", markersize=18, markeredgecolor="white")
        ax.set_title(title, loc="center")
        ax.axis("off")
    return fig


show(segment_figure(), "A star on the fox's forehead, and three answers that fit it: the fur of this colour, the head, the fox. They come from the drawing itself, not from a network.")

# %% [markdown]
# ### Diffusion: learn to remove noise
#
# Most of today's models that draw pictures are relatives of one idea: learn to remove a little noise from a picture. *Forwards*, noise is added in a thousand small steps, and nothing is learned. *Backwards*, the
# network starts with noise alone and removes it step by step (Ho et al. 2020). Each forward step keeps a share of the picture and adds fresh noise, so that the spread stays the same:
#
# $$x_t = \sqrt{1 - \beta_t}\; x_{t-1} + \sqrt{\beta_t}\; \varepsilon, \qquad x_t = \sqrt{\bar\alpha_t}\; x_0 + \sqrt{1 - \bar\alpha_t}\; \varepsilon, \qquad \bar\alpha_t = \prod_{s \le t} (1 - \beta_s)$$
#
# The second form jumps to any step at once. Learning is then simple: take a picture, a random step and some noise, and let the network predict the noise.
#
# **Before you run it:** after how many of the thousand steps can you no longer see the fox?
#
# <details><summary>Answer</summary>
#
# Between 300 and 500. Half-way the picture still has a weight of 0.28, but the noise one of 0.96. So on the way back, the first half decides what the picture shows, and the second half adds detail.
#
# </details>

# %%
beta = torch.linspace(1e-4, 0.02, 1000)
alpha_bar = (1 - beta).cumprod(dim=0)
x0 = 2 * animal - 1
steps = [0, 100, 200, 350, 500, 999]
noise = torch.randn(len(steps), *x0.shape)
share = alpha_bar[steps][:, None, None, None]
noisy = share.sqrt() * x0 + (1 - share).sqrt() * noise

# %%
kept = spread = torch.ones(())
for b in beta:  # the picture's share, and the spread of what was 1 at the start
    kept, spread = kept * (1 - b).sqrt(), spread * (1 - b) + b
fact(
    "A thousand steps and one jump leave the same share of the picture: almost nothing",
    torch.isclose(kept, alpha_bar[-1].sqrt(), rtol=1e-3) and kept < 0.01
    and torch.isclose(spread, torch.ones(()), atol=1e-3),
    f"{kept:.4f} of the picture, and {alpha_bar[500].sqrt():.2f} half-way;"
    f" a spread of 1 stays {spread:.3f}",
)


# %%
# extra code: the fox on its way into the noise
def diffusion_figure():
    pictures = [(picture.clamp(-2, 2) / 4 + 0.5) for picture in noisy]
    return image_grid(pictures, titles=[f"step {t + 1}" for t in steps], columns=6, size=1.7)


show(diffusion_figure(), "The drawn fox after 1, 101, 201, 351, 501 and 1,000 steps of the forward process: less and less of it is left, and at the end noise alone.")

# %% [markdown]
# **Where to read on.** The papers are below; each has code. ConvNeXt (Liu et al. 2022) is a convolutional network that adopts the recipe of the transformers and keeps up with them: training
# matters as much as architecture. To *use* these models, see the libraries timm, transformers and diffusers. To *build* one, see the courses of Johnson (Michigan, EECS 498) and of the
# University of Amsterdam (UvA deep learning tutorials 15 and 17).

# %% [markdown]
# ## 6. Exercises (25 min)
#
# **Exercise 6**: several heads. `x` (N, T, D) are tokens; `W_q`, `W_k`, `W_v` and `W_o` are matrices (D, D), and the queries are `x @ W_q`. Cut queries, keys and values into `heads` pieces of D / heads numbers each, let
# every head attend by itself, join the results, and multiply by `W_o`. Use neither `F.scaled_dot_product_attention` nor `nn.MultiheadAttention`.


# %%
def multi_head(x, W_q, W_k, W_v, W_o, heads):
    ...


exercises.multi_head.check(multi_head)

# %% slideshow={"slide_type": "skip"}
# exercises.multi_head.hint()
# exercises.multi_head.solution()

# %% [markdown]
# ## 7. Lab: read a number of any length (45 min and more)
#
# **A strip of ink in, a number out, both of any length.** `exercises.make_strips(train_set, 100)` draws strips (8, W) with values from 0 to 1. Each has one to five digits, moved up or down
# by a pixel, with gaps of 0 to 3 columns. It also returns their answers, lists of digits. Nothing says where a digit begins.
#
# `train_reader` takes no arguments and returns a function `read`: a list of strips in, a list of lists of digits out. Learn from `train_set`, choose on `val_set`, and leave `test_set`
# alone: the check makes 500 strips from its digits. A strip counts if all of its digits are right. **80 % is good, 92 % is very good.** The trivial entry, below, cuts the strip into equal
# pieces and finds the nearest training digit for each.


# %%
def cut_and_compare(strips):
    known = (train_set.images / 255).flatten(1)
    answers = []
    for strip in strips:
        num = max(1, round(strip.shape[1] / 11))
        pieces = F.interpolate(strip[None, None], (8, 8 * num))[0, 0].split(8, dim=1)
        pieces = torch.stack(pieces).flatten(1)
        answers.append(y_train[torch.cdist(pieces, known).argmin(dim=1)].tolist())
    return answers


strips, answers = exercises.make_strips(val_set, 300, seed=seeds[0])
right = sum(map(list.__eq__, cut_and_compare(strips), answers))
print(f"cut into equal pieces: {right / 300:.0%} of 300 strips are right")


# %%
# extra code: six strips and their answers
def strips_figure():
    fig, axes = plt.subplots(2, 3, figsize=(10, 2.6))
    for ax, strip, answer in zip(axes.flat, strips, answers, strict=False):
        ax.imshow(strip, cmap="gray")
        ax.set_title("".join(map(str, answer)), loc="center")
        ax.axis("off")
    return fig


show(strips_figure(), "Six strips of one to five digits, with the number that they show above each.")


# %%
def train_reader():
    ...


exercises.lab.check(train_reader)

# %% slideshow={"slide_type": "skip"}
# exercises.lab.hint()
# exercises.lab.solution()

# %% [markdown]
# ## Summary
#
# - **A recurrent network takes any length**, because it repeats one step: pad, pack, and stop when the network says stop. That it runs on a length does not mean that it has learned that length.
# - **Attention** is a mean of values, weighted by how well query and key agree. It reaches everywhere in one step, and knows no positions unless they are added.
# - **A transformer starts with fewer assumptions** than a convolution. With few pictures that costs accuracy; with very many it catches up.
# - **Compare an idea with its plain rival, on equal terms:** a small autoencoder learns the knobs that capsules promise, too.

# %%
summary()

# %% [markdown]
# ### Lecture topics
#
# | topic | section | lectures |
# |---|---|---|
# | O3 capsules: inverse graphics, squashing, routing, three dense layers that draw the digit | 4 | E |
# | O4 recurrent networks: sequences of different lengths in and out | 1 | E |
# | O5 attention, a vision transformer against a convolutional network | 2, 3 | beyond |
# | O6 self-supervision, CLIP, segment anything, diffusion | 5 | beyond |
#
# ### Further reading
# - K. Cho et al. *Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation*. EMNLP 2014. https://arxiv.org/abs/1406.1078 (the GRU)
# - I. Sutskever, O. Vinyals, Q. V. Le. *Sequence to Sequence Learning with Neural Networks*. NeurIPS 2014. https://arxiv.org/abs/1409.3215
# - O. Vinyals, A. Toshev, S. Bengio, D. Erhan. *Show and Tell: A Neural Image Caption Generator*. CVPR 2015. https://arxiv.org/abs/1411.4555
# - A. Graves, S. Fernández, F. Gomez, J. Schmidhuber. *Connectionist Temporal Classification*. ICML 2006. (the lab's loss)
# - D. Bahdanau, K. Cho, Y. Bengio. *Neural Machine Translation by Jointly Learning to Align and Translate*. ICLR 2015. https://arxiv.org/abs/1409.0473
# - A. Vaswani et al. *Attention Is All You Need*. NeurIPS 2017. https://arxiv.org/abs/1706.03762
# - A. Dosovitskiy et al. *An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale*. ICLR 2021. https://arxiv.org/abs/2010.11929
# - S. Jain, B. C. Wallace. *Attention is not Explanation*. NAACL 2019. https://arxiv.org/abs/1902.10186
# - Z. Liu et al. *A ConvNet for the 2020s*. CVPR 2022. https://arxiv.org/abs/2201.03545 (ConvNeXt)
# - S. Sabour, N. Frosst, G. E. Hinton. *Dynamic Routing Between Capsules*. NeurIPS 2017. https://arxiv.org/abs/1710.09829
# - P. Barham, M. Isard. *Machine Learning Systems are Stuck in a Rut*. HotOS 2019. https://doi.org/10.1145/3317550.3321441
# - I. Paik, T. Kwak, I. Kim. *Capsule Networks Need an Improved Routing Algorithm*. ACML 2019. https://arxiv.org/abs/1907.13327
# - T. Chen, S. Kornblith, M. Norouzi, G. Hinton. *A Simple Framework for Contrastive Learning of Visual Representations*. ICML 2020. https://arxiv.org/abs/2002.05709 (SimCLR)
# - M. Caron et al. *Emerging Properties in Self-Supervised Vision Transformers*. ICCV 2021. https://arxiv.org/abs/2104.14294 (DINO)
# - K. He et al. *Masked Autoencoders Are Scalable Vision Learners*. CVPR 2022. https://arxiv.org/abs/2111.06377
# - A. Radford et al. *Learning Transferable Visual Models From Natural Language Supervision*. ICML 2021. https://arxiv.org/abs/2103.00020 (CLIP)
# - A. Kirillov et al. *Segment Anything*. ICCV 2023. https://arxiv.org/abs/2304.02643
# - J. Ho, A. Jain, P. Abbeel. *Denoising Diffusion Probabilistic Models*. NeurIPS 2020. https://arxiv.org/abs/2006.11239
# - R. Rombach et al. *High-Resolution Image Synthesis with Latent Diffusion Models*. CVPR 2022. https://arxiv.org/abs/2112.10752
#
# ### Next notebook
# This was the last notebook. Go back to notebook 05 with a data set of your own. You now know enough to read the papers above.
