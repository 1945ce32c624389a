# %% [markdown]
# # 02 · Residual blocks
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/@SLUG@/blob/@REF@/notebooks/02_residual_blocks.ipynb)
# [![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://github.com/@SLUG@/blob/@REF@/notebooks/02_residual_blocks.ipynb)
#
# **To keep what you write:** on Colab choose *File > Save a copy in Drive*, on Kaggle *Copy & Edit*, before you begin.
#
# **Question:** A network with more layers can do all that a network with fewer can. Why does it fit its own training data *worse*, and how does one
# plus sign mend that?
#
# **You will be able to**
# - count any network, layers and parameters, without the memory for its weights,
# - explain the degradation problem, and show it,
# - write a residual block, its three shortcuts and a whole ResNet-18, equal to torchvision's to the last digit that counts.
#
# **Time:** it runs in @TIME@ on two CPU cores; with all sections, the exercises and the lab, about three hours and a half.
# **Before this:** notebook 01: gradient profiles, normalisation, the first skip connection.

# %% [markdown] slideshow={"slide_type": "notes"}
# **A plan for 75 minutes**
#
# - **Core:** sections 1, 3, 4, 5 and 8: the classic networks counted, degradation, the identity, the residual block, and ResNet-18 equal to
#   torchvision's.
# - **Optional:** 2 (LeNet-5), 6 (projection shortcuts), 7 (highway, DenseNet), 9 (gradient and loss landscape, the finest pictures: a good opening of
#   the next lecture).
# - **Where to stop:** after the claim of section 8 that ours and torchvision's give the same numbers. If you are late, stop at the ten seeds of section
#   5.
#
# Run the cells of sections 2 and 6 too, also where you do not show them: section 3 uses the digits that section 2 has prepared, section 8 the projection of section 6.

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
# What this notebook imports. Everything that is not PyTorch or torchvision is in the folder utils/.
import copy
import inspect

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
import torchvision.models as zoo
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm.auto import tqdm

from utils import datasets
from utils.exercises import residual_blocks as exercises
from utils.figures import curves, explore, show
from utils.lessons import claim, measured, summary
from utils.models import num_parameters
from utils.training import evaluate, fit, predict

# %% slideshow={"slide_type": "skip"}
torch.set_num_threads(1)  # layers this small run faster on one core than on two that wait for each other
course_seed = torch.initial_seed()  # as utils.start() has set it
seeds = [10 * course_seed + k for k in range(3)]  # for experiments on three seeds: runs of the notebook with other seeds share none

# %% [markdown]
# ## 1. Classic networks, counted (15 min)
#
# How large are the networks that everybody names? We count them ourselves. VGG-16 alone would take half a gigabyte, only to be counted and thrown
# away. PyTorch has a device for that: on `meta`, a tensor has a shape, and no numbers.

# %%
with torch.device("meta"):
    alexnet = zoo.alexnet()
alexnet.features[0].weight.shape, alexnet.features[0].weight.device

# %%
# NBVAL_CHECK_OUTPUT
print(f"AlexNet: {num_parameters(alexnet):,} parameters")

# %% [markdown]
# Depth can be counted too. It is the number of layers with weights on the **longest way** from the input to the output. `torch.fx` turns a network into a
# graph: which operation takes its input from which. Then each node is one deeper than the deepest of its inputs, if it has weights.


# %%
def depth_of(model):
    """Layers with weights on the longest way from input to output."""
    graph, depth = torch.fx.symbolic_trace(model.eval()), {}
    for node in graph.graph.nodes:
        layer = graph.get_submodule(node.target) if node.op == "call_module" else None
        depth[node] = isinstance(layer, (nn.Conv2d, nn.Linear)) + max((depth[n] for n in node.all_input_nodes), default=0)
    return max(depth.values())


depth_of(alexnet)

# %% [markdown]
# One network is missing in torchvision: the first one. We write it ourselves. LeNet-5 (LeCun et al. 1998) read digits, and a system around it read bank
# cheques: convolution and pooling by turns, then dense layers, with tanh between them.


# %%
class LeNet5(nn.Module):
    def __init__(self, activation=nn.Tanh, pooling=nn.AvgPool2d):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, kernel_size=5), activation(), pooling(2),
            nn.Conv2d(6, 16, kernel_size=5), activation(), pooling(2),
            nn.Conv2d(16, 120, kernel_size=5), activation(),
        )  # fmt: skip
        self.classifier = nn.Sequential(nn.Linear(120, 84), activation(), nn.Linear(84, 10))

    def forward(self, images):
        return self.classifier(self.features(images).flatten(1))


# %% [markdown]
# Now the others. (`init_weights=False` saves the time to draw weights that are not there. GoogLeNet and Inception v3 have **auxiliary heads**: small classifiers
# half-way, which help to train the early layers and are cut off afterwards. So they have two sizes.)

# %%
classics = {
    "LeNet-5": (1998, LeNet5),
    "AlexNet": (2012, zoo.alexnet),
    "VGG-16": (2014, lambda: zoo.vgg16(init_weights=False)),
    "VGG-19": (2014, lambda: zoo.vgg19(init_weights=False)),
    "GoogLeNet": (2014, lambda: zoo.googlenet(init_weights=False, aux_logits=False)),
    "GoogLeNet with heads": (2014, lambda: zoo.googlenet(init_weights=False)),
    "Inception v3": (2015, lambda: zoo.inception_v3(init_weights=False, aux_logits=False)),
    "Inception v3 with heads": (2015, lambda: zoo.inception_v3(init_weights=False)),
    "ResNet-18": (2015, zoo.resnet18),
    "ResNet-50": (2015, zoo.resnet50),
    "ResNet-152": (2015, zoo.resnet152),
    "DenseNet-121": (2016, zoo.densenet121),
    "MobileNet v2": (2018, zoo.mobilenet_v2),
}

# %% [markdown]
# **Before you run it:** which of them has the most parameters? Which is the deepest? Is it the same one?
#
# <details><summary>Answer</summary>
#
# No. VGG-19 has the most parameters, 144 million, in 19 layers. ResNet-152 has 8 times as many layers and less than half the parameters.
#
# </details>

# %%
# NBVAL_CHECK_OUTPUT
counted = {}
with torch.device("meta"):
    for name, (year, make) in classics.items():
        model = make()
        counted[name] = year, depth_of(model), num_parameters(model)
        print(f"{year}  {name:24}{counted[name][1]:4} layers  {counted[name][2]:12,} parameters")

# %%
# extra code: from top to bottom in time; depth to the left, parameters to the right
def timeline_figure():
    names = [name for name in counted if "heads" not in name]
    rows = [0] + [i + 1 for i in range(1, len(names))]  # a gap after 1998
    fig, axes = plt.subplots(1, 2, figsize=(13, 6.6), sharey=True)
    for ax, column, title in zip(axes, (1, 2), ("Depth: layers with weights", "Millions of parameters"), strict=True):
        values = [counted[name][column] / (1 if column == 1 else 1e6) for name in names]
        colours = ["C1" if name.startswith("ResNet") else "C0" for name in names]
        ax.barh(rows, values, color=colours, height=0.7)
        for row, name, value in zip(rows, names, values, strict=True):
            text = f"{value:.0f}" if column == 1 else f"{counted[name][2]:,}"
            ax.annotate(text, (value, row), xytext=(6, 0), textcoords="offset points", va="center", fontsize=13)
        ax.set(title=title, xlim=(0, max(values) * (1.1 if column == 1 else 1.38)))
        ax.grid(axis="y", visible=False)
    axes[0].set(yticks=rows, yticklabels=[f"{counted[name][0]}  {name}" for name in names])
    axes[0].invert_yaxis()
    axes[0].annotate(f"{counted['AlexNet'][0] - counted['LeNet-5'][0]} years later:", (2, 1), va="center", color="gray")
    axes[0].set_xlabel("layers")
    axes[1].set_xlabel("millions (exact number at the bar)")
    fig.suptitle("After 2014 networks grow deeper, and not larger", fontweight="bold", fontsize=17)
    return fig


# %%
show(timeline_figure(), "Classic networks from 1998 to 2018. Depth grows from 5 layers to 152; the parameters peak with VGG-19 in 2014, and the deepest network has less "
     "than half as many.")  # fmt: skip

# %%
named = {name: int(name.split("-")[-1]) for name in ("VGG-16", "VGG-19", "ResNet-18", "ResNet-50", "ResNet-152", "DenseNet-121")}
claim(
    "The number in a network's name is its depth, counted along the longest way",
    all(counted[name][1] == number for name, number in named.items()),
    ", ".join(f"{name}: {counted[name][1]}" for name in named),
)

# %%
claim(
    "ResNet-152 is eight times as deep as VGG-19 and has less than half of its parameters",
    counted["ResNet-152"][1] == 8 * counted["VGG-19"][1] and counted["ResNet-152"][2] < counted["VGG-19"][2] / 2,
    f"{counted['ResNet-152'][2]:,} against {counted['VGG-19'][2]:,}",
)

# %% [markdown]
# ### Do the counts agree with what others say?
#
# Torchvision stores with its trained weights how many there are. It is exact, so we ask for equality. (Its GoogLeNet is stored without the auxiliary heads, its
# Inception v3 with them.)

# %%
stored = {"AlexNet": "alexnet", "VGG-16": "vgg16", "VGG-19": "vgg19", "GoogLeNet": "googlenet", "Inception v3 with heads": "inception_v3",
          "ResNet-18": "resnet18", "ResNet-50": "resnet50", "ResNet-152": "resnet152", "DenseNet-121": "densenet121", "MobileNet v2": "mobilenet_v2"}  # fmt: skip
records = {name: zoo.get_model_weights(model).IMAGENET1K_V1.meta["num_params"] for name, model in stored.items()}
claim(
    "Our counts are those that torchvision stores with its weights, to the last parameter",
    all(counted[name][2] == number for name, number in records.items()),
    f"{sum(counted[name][2] == number for name, number in records.items())} of {len(records)} equal",
)

# %% [markdown]
# Papers and slides round. Here is what they say, in millions: LeNet-5 and AlexNet from their abstracts or texts, VGG from its table 2, GoogLeNet as the sum of the column
# *params* of its table 1, MobileNet v2 from its table 4; the 60 for ResNet-152 is from a lecture slide.

# %%
told = {"LeNet-5": 0.06, "AlexNet": 60, "VGG-16": 138, "VGG-19": 144, "GoogLeNet": 6.8, "ResNet-152": 60, "MobileNet v2": 3.4}
off = {name: counted[name][2] / 1e6 / number - 1 for name, number in told.items()}
claim(
    "The rounded figures of papers and slides are within 5 % of the exact ones",
    max(abs(gap) for gap in off.values()) < 0.05,
    ", ".join(f"{name} {gap:+.1%}" for name, gap in off.items()),
)

# %% [markdown]
# LeNet-5's 60,000 is not even rounded. The network of 1998 had exactly that many, and ours has 61,706. Three things differ: 1998's second convolution was not fully
# connected (each of its 16 maps saw only some of the 6, which saved 900 weights), its pooling layers had weights of their own (44), and its output was no linear layer
# (ours has 850).

# %%
# NBVAL_CHECK_OUTPUT
in_1998 = 156 + 12 + 1_516 + 32 + 48_120 + 10_164  # C1, S2, C3, S4, C5, F6: table by table in the paper
print(f"1998: {in_1998:,}    ours: {in_1998:,} + 900 - 44 + 850 = {in_1998 + 900 - 44 + 850:,}")

# %%
claim(
    "LeNet-5 as we write it today has 61,706 parameters: 1998's 60,000 and three known differences",
    counted["LeNet-5"][2] == 61_706 == in_1998 + 900 - 44 + 850,
    f"{counted['LeNet-5'][2]:,}",
)

# %% [markdown]
# **Where are VGG-16's 138 million?** Its convolutions stand in stages, from one pooling to the next, and the channels double from stage to stage, from 64 up to 512. They are not to blame:

# %%
with torch.device("meta"):
    vgg = zoo.vgg16(init_weights=False)
dense, first_dense = num_parameters(vgg.classifier), num_parameters(vgg.classifier[0])
claim(
    "Nearly nine tenths of VGG-16's parameters are in its three dense layers, three quarters in the first of them",
    dense / num_parameters(vgg) > 0.89 and first_dense / num_parameters(vgg) > 0.74,
    f"{dense:,} and {first_dense:,} of {num_parameters(vgg):,}",
)

# %% [markdown]
# GoogLeNet and the later ones average each channel to one number there: **global average pooling**. That freed the parameters for depth.
#
# ### Why not deeper, sooner?
#
# Three brakes, loosened one after the other:
#
# | brake | then | loosened by |
# |---|---|---|
# | data | LeNet-5: 60,000 digits | ImageNet (2009), and its yearly challenge from 2010 on: 1.2 million labelled photos |
# | compute | LeNet-5: two to three days on one processor of 200 MHz | AlexNet: five to six days on two GPUs of 3 GB; it was split in two halves, as one GPU could not hold it |
# | training | with sigmoid and tanh gradients vanish; VGG's deep versions began with layers of a trained network of 11 | ReLU, initialisation, batch normalisation (notebook 01) |
#
# By 2015 all three were off. Gradients no longer vanished. And still, deeper was not better. That is section 3.

# %% [markdown] slideshow={"slide_type": "notes"}
# Errata of the slides: one dates ResNet "K. He, 2005"; it is of December 2015. Another gives ResNet-152 "about 60 M" parameters: 60,192,808. AlexNet and VGG are rounded on
# others: 61,100,840 and 138,357,544. (Torchvision's AlexNet is the one-GPU version of Krizhevsky 2014, so it is a little larger than the "60 million" of 2012.)

# %% [markdown]
# ## 2. LeNet-5, then and now (12 min)
#
# It wants pictures of 32 x 32 pixels. Scikit-learn's digits, which you know from notebooks 00 and 01, have 8 x 8. We enlarge them.


# %% tags=["measure"]
def prepared(split):
    """Digits of mean 0 and standard deviation 1, with their labels."""
    pixels = splits.train.images.float()
    return TensorDataset((split.images.float() - pixels.mean()) / pixels.std(), split.targets["label"])


splits = datasets.digits()
train_data, test_data = prepared(splits.train), prepared(splits.test)


# %%
def enlarged(data):
    images, labels = data.tensors
    return TensorDataset(F.interpolate(images, size=(32, 32), mode="bilinear"), labels)


large_train, large_test = enlarged(train_data), enlarged(test_data)

# %% [markdown]
# A digit on its way through the network. Each convolution of 5 x 5 without padding takes 4 pixels away, each pooling halves. The last convolution sees all that is left.

# %%
# NBVAL_CHECK_OUTPUT
x = large_train.tensors[0][:1]
for layer in LeNet5().features:
    x = layer(x)
    print(f"{type(layer).__name__:10}", tuple(x.shape))

# %% [markdown]
# As in 1998: tanh, average pooling, stochastic gradient descent (LeCun and others gave each weight a step size of its own, which we leave out). Today one would write ReLU, max pooling and Adam. Same layers,
# same 61,706 parameters.


# %%
def train_lenet(seed, activation, pooling, make_optimizer):
    """Per cent of wrong answers on new digits after each of ten epochs."""
    torch.manual_seed(seed)
    model = LeNet5(activation, pooling).to(device)
    loaders = DataLoader(large_train, batch_size=64, shuffle=True), DataLoader(large_test, batch_size=400)
    history = fit(model, *loaders, num_epochs=10, optimizer=make_optimizer(model.parameters()), bf16=False, progress="LeNet-5")
    return [100 * (1 - value) for value in history["val_accuracy"]]


# %% [markdown]
# **Before you run it:** a network of 1998. How many of the new digits does it read, in either form?
#
# <details><summary>Answer</summary>
#
# Nearly all, in both. The design was right from the start. What is new gets there in fewer epochs.
#
# </details>

# %%
forms = {
    "1998": (nn.Tanh, nn.AvgPool2d, lambda weights: torch.optim.SGD(weights, lr=0.1)),
    "today": (nn.ReLU, nn.MaxPool2d, lambda weights: torch.optim.Adam(weights, lr=2e-3)),
}
lenet = {name: [train_lenet(seed, *form) for seed in seeds] for name, form in forms.items()}

# %%
fig, ax = plt.subplots()
ax.set(ylim=(0, 60), xlim=(0.7, 11.3), xticks=range(1, 11))
curves(ax, lenet, xlabel="epoch", ylabel="wrong on new digits (%)", title="LeNet-5 reads digits in either form; today's gets there sooner")
at_end = {name: np.mean([run[-1] for run in runs]) for name, runs in lenet.items()}
show(fig, "Error on new digits against epochs, the range of three seeds as a band: after ten epochs "
     + " and ".join(f"{value:.1f} % in the form of {name}" for name, value in at_end.items()) + ".")  # fmt: skip

# %%
worst = max(run[-1] for runs in lenet.values() for run in runs)
claim(
    "LeNet-5 reads more than nine in ten new digits, in the form of 1998 and in today's",
    worst < 10,
    f"worst of six runs {100 - worst:.1f} % right",
)

# %%
early = {name: np.mean([run[2] for run in runs]) for name, runs in lenet.items()}
claim(
    "ReLU, max pooling and Adam together need fewer epochs: after three, they are ahead",
    early["today"] < early["1998"] - 1,
    ", ".join(f"{name} {value:.1f} % wrong" for name, value in early.items()) + " (means of three seeds)",
)

# %% [markdown]
# All three changes were made at once, so this does not say which of them did it. Change one line of `forms` at a time and see.

# %% [markdown]
# ## 3. The degradation problem (15 min)
#
# Now the digits in their own size, 8 x 8, and networks of any depth. One skeleton: a first convolution, then **blocks** of two convolutions, then global average pooling and one
# linear layer. Everything has 16 channels and stays 8 x 8. All that notebook 01 taught is in: ReLU, He's initialisation, batch normalisation.


# %% tags=["measure"]
def conv3x3(in_channels, out_channels, stride=1):
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)


# %% tags=["measure"]
class Block(nn.Module):
    def __init__(self, channels, skip):
        super().__init__()
        self.conv1, self.bn1 = conv3x3(channels, channels), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = conv3x3(channels, channels), nn.BatchNorm2d(channels)
        self.skip = skip

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(x + out if self.skip else out)


# %% [markdown]
# There is one switch, `skip`. For now it stays off: **plain** blocks. (The convolutions have no bias: the batch normalisation behind each would subtract it again.)


# %% tags=["measure"]
def network(depth, skip, channels=16, block=Block):
    """`depth` layers with weights: the first convolution, two in each block, the linear layer."""
    first = [conv3x3(1, channels), nn.BatchNorm2d(channels), nn.ReLU()]
    blocks = [block(channels, skip) for _ in range((depth - 2) // 2)]
    model = nn.Sequential(*first, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))
    return he(model).to(device)


# %% tags=["measure"]
def he(model):
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return model


# %% [markdown]
# Every network gets the same **budget**: 12 epochs of SGD with momentum (each step also follows the steps before it, as a rolling ball does), a learning rate that climbs to 0.05 and falls again. (`weight_decay` makes
# every weight a little smaller in each step: notebook 06, section 11.)


# %% tags=["measure"]
def sgd(weights):
    return torch.optim.SGD(weights, lr=0.05, momentum=0.9, weight_decay=1e-4)


def train(model, num_epochs=12, make_optimizer=sgd, progress="training"):
    loader, optimizer = DataLoader(train_data, batch_size=64, shuffle=True), make_optimizer(model.parameters())
    max_lr, total_steps = optimizer.param_groups[0]["lr"], num_epochs * len(loader)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr, total_steps=total_steps)
    return fit(model, loader, num_epochs=num_epochs, optimizer=optimizer, scheduler=scheduler, bf16=False, progress=progress)


def error(model, data):
    """Per cent of wrong answers, in evaluation mode."""
    return 100 * (1 - evaluate(model, DataLoader(data, batch_size=400), bf16=False)["accuracy"])


# %%
depths, nets, histories = (8, 32, 56), {}, {}


def run(depth, skip):
    torch.manual_seed(course_seed)
    name = f"{'residual' if skip else 'plain'}, {depth} layers"
    nets[name] = network(depth, skip)
    histories[name] = [100 * (1 - value) for value in train(nets[name], progress=name)["train_accuracy"]]


# %% [markdown]
# **Before you run it:** plain networks of 8, 32 and 56 layers. We ask for the error on the digits that they are **trained on**. Overfitting, learning by heart as in notebook 00, cannot raise that one. Which depth
# has the lowest?
#
# <details><summary>Answer</summary>
#
# The shallowest. One would bet on the deepest: it can do everything that the others can, and more. It does worse, on its own training data.
#
# </details>

# %%
for depth in depths:
    run(depth, skip=False)


# %%
# extra code: training error against epochs, one line a depth; the errors at the end, measured after training, go into the labels
def training_curves(kinds):
    fig, axes = plt.subplots(1, len(kinds), figsize=(7 * len(kinds) if len(kinds) > 1 else 8.5, 4.8), sharey=True, squeeze=False)
    for ax, kind in zip(axes[0], kinds, strict=True):
        names = {f"{kind}, {depth} layers": f"{depth} layers: {errors[kind][depth]:.1f} %" for depth in depths}
        ax.set(ylim=(-4, 100), xlim=(0.5, 18.5), xticks=[1, 4, 8, 12])
        title = "Plain: the deeper, the worse" if kind == "plain" else "Residual: depth does no harm"
        curves(ax, {label: histories[name] for name, label in names.items()}, "epoch", "wrong on training digits (%)", title)
    return fig


# %%
errors = {"plain": {depth: error(nets[f"plain, {depth} layers"], train_data) for depth in depths}}
show(training_curves(["plain"]), "Training error of plain networks in each epoch. With 8 layers it falls to nearly zero at once, with 32 late, with 56 it stays high; "
     f"after training it is {', '.join(f'{value:.1f} %' for value in errors['plain'].values())}.")  # fmt: skip

# %%
plain = errors["plain"]
claim(
    "At the same budget the deeper plain network has the higher TRAINING error: 56 layers far more than 8",
    plain[8] < 2 and plain[56] > 25,
    ", ".join(f"{depth} layers {value:.1f} %" for depth, value in plain.items()),
)

# %% [markdown]
# (The 32 layers lie between the two, on this seed and on all others that we tried. But how far up differs so much that we do not claim a number.)
#
# He and others (2015) saw this on CIFAR-10 and on ImageNet, and named it **degradation**. It is not overfitting, as it is the training error. It is not the vanishing gradient of
# notebook 01 either: batch normalisation is there, and nothing vanishes. (Section 9 measures the gradients, and finds something else.)
#
# ### A better deep network exists
#
# Here is the scandal. Take the trained network of 8 layers. Put 24 plain blocks behind its own, each of which hands on what it gets: its kernels have a 1 in the middle
# and 0 elsewhere. That is a plain network of 56 layers.


# %%
def identity_block(channels=16):
    block = Block(channels, skip=False).to(device)
    nn.init.dirac_(block.conv1.weight)  # 1 in the middle, from each channel to itself
    nn.init.dirac_(block.conv2.weight)
    return block  # fresh batch normalisation in evaluation mode: mean 0, variance 1, so it does nothing


# %%
shallow = nets["plain, 8 layers"]
built = nn.Sequential(*shallow[:-3], *[identity_block() for _ in range(24)], *shallow[-3:])
outputs = {name: predict(model, DataLoader(train_data, 400), bf16=False)[0] for name, model in {"8": shallow, "56": built}.items()}
claim(
    "A plain network of 56 layers that is as good as the one of 8 exists: it gives the same outputs, and training does not find it",
    depth_of(built) == 56 and torch.allclose(outputs["8"], outputs["56"], rtol=1e-3, atol=1e-2) and error(built, train_data) + 5 < plain[56],
    f"training error {error(built, train_data):.1f} % built by hand, {plain[56]:.1f} % trained",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Stop here and let the class argue. The deep network CAN do it, all it needs is that most of its blocks do nothing. What would you change about a block so that "do nothing" is
# the easiest thing for it, and not a feat?

# %% [markdown]
# ## 4. The identity, easy and hard (8 min)
#
# So the trouble is with doing nothing. Suppose that a block should hand on its input: $y = x$. What must its weights be?
#
# $$\text{plain: } y = \mathrm{relu}(f(x)),\ f(x) = x \qquad\qquad \text{residual: } y = \mathrm{relu}(x + f(x)),\ f(x) = 0$$
#
# A plain block has to find kernels that hand on each channel as it is, twice, and scales that undo two normalisations. A residual block has to make $f$ zero: let the last scale $\gamma$ go to
# zero, 16 numbers.
#
# We put it to the test. One block, fresh. Its task: give back its input, which is what the first layers of a network make of digits.

# %%
with torch.no_grad():
    feature_maps = network(8, skip=False)[:3](train_data.tensors[0].to(device))
spread = feature_maps.var(dim=(0, 2, 3)).mean()  # how wrong the best constant answer is


# %%
def learn_identity(blocks, num_steps):
    """The mean squared error in each step, as a share of the spread of the data."""
    optimizer, shares = torch.optim.SGD(blocks.parameters(), lr=0.05, momentum=0.9), []
    for _ in tqdm(range(num_steps), desc="learning the identity", leave=False):
        x = feature_maps[torch.randint(len(feature_maps), (64,))]
        loss = F.mse_loss(blocks(x), x) / spread
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        shares.append(loss.item())
    return shares


# %% [markdown]
# **Before you run it:** who learns to do nothing?
#
# <details><summary>Answer</summary>
#
# The residual block gets there far sooner, and far more exactly. The plain one is still on its way when we stop.
#
# </details>

# %%
identity = {}
for name, skip in {"plain": False, "residual": True}.items():
    torch.manual_seed(course_seed)
    identity[name] = learn_identity(he(Block(16, skip)).to(device), num_steps=300)

# %%
fig, ax = plt.subplots()
ax.set_yscale("log")
curves(ax, identity, xlabel="step", ylabel="error (1 = constant answer)", title="Doing nothing: easy with a skip, hard without")
ax.set_xlim(right=360)
show(fig, f"Relative squared error of a block that is to reproduce its input, on a logarithmic axis, against training steps. The residual block ends at {identity['residual'][-1]:.0e}, "
     f"the plain one at {identity['plain'][-1]:.0e}.")  # fmt: skip

# %%
last = {name: np.mean(shares[-20:]) for name, shares in identity.items()}
claim(
    "In the same 300 steps, a residual block learns the identity to less than two in a thousand, a plain one not to one in a hundred",
    last["residual"] < 0.002 and last["plain"] > 0.01,
    f"remaining error {100 * last['residual']:.3f} % against {100 * last['plain']:.1f} %",
)

# %% [markdown]
# But this is about *one* block. Put several residual blocks in a row, and at first each of them adds something of its own size: the sum grows, and the advantage shrinks or goes.
# There is a cure, and torchvision has it as an option (`zero_init_residual`): **start with the last scale $\gamma$ at zero**. Then $f = 0$, and a residual block *is* the identity before
# any training, however many there are. (In exercise 5 of notebook 01 you did that with linear layers.) We try it with 27 blocks, those of a network of 56 layers.

# %%
torch.manual_seed(course_seed)
plain_blocks, residual_blocks = (he(nn.Sequential(*[Block(16, skip) for _ in range(27)])).to(device) for skip in (False, True))
for block in residual_blocks:
    nn.init.zeros_(block.bn2.weight)
x = feature_maps[:64]
untrained = F.mse_loss(residual_blocks(x), x).item()
after_60_steps = np.mean(learn_identity(plain_blocks, num_steps=60)[-10:])

# %%
claim(
    "With the last scale at zero, 27 residual blocks are the identity before any training; 27 plain blocks are far from it after 60 steps",
    untrained == 0 and after_60_steps > 0.3,
    f"error {untrained:g} against {after_60_steps:.2f} (1 is a constant answer)",
)

# %% [markdown]
# ## 5. The residual block (20 min)
#
# Line by line, with the shapes. The feature maps of four digits go in (a **feature map** is one channel of a layer's result).

# %%
# NBVAL_CHECK_OUTPUT
block = Block(channels=16, skip=True)
x = torch.rand(4, 16, 8, 8)
print("x               ", tuple(x.shape))
out = block.conv1(x)
print("conv1           ", tuple(out.shape), " 3 x 3, padding 1: the size stays")
out = F.relu(block.bn1(out))
print("bn1, relu       ", tuple(out.shape))
out = block.bn2(block.conv2(out))
print("conv2, bn2      ", tuple(out.shape), " no ReLU yet: f(x) may be negative")
y = F.relu(x + out)
print("x + f(x), relu  ", tuple(y.shape), " one plus sign: it needs equal shapes")

# %%
claim("These lines are the block: calling it gives the same", torch.allclose(y, block(x), atol=1e-6), f"largest difference {(y - block(x)).abs().max():.0e}")

# %% [markdown]
# Three details that are easily got wrong:
#
# - **No ReLU before the sum.** With one, $f(x) \ge 0$, and a block could only ever add.
# - **The sum comes before the last ReLU**, so the block after it again gets non-negative maps.
# - **The shortcut has no weights.** It costs no parameter and, beside two convolutions, no time to speak of.

# %%
by_kind = [num_parameters(network(56, skip)) for skip in (False, True)]
claim(
    "The skip connection has no parameters: plain and residual network of 56 layers have equally many",
    by_kind[0] == by_kind[1] and depth_of(network(56, skip=True)) == 56,
    f"{by_kind[0]:,} and {by_kind[1]:,}",
)

# %% [markdown]
# **Before you run it:** the experiment of section 3 again. `skip=True` is all that changes.
#
# <details><summary>Answer</summary>
#
# The deep networks train as well as the shallow one, all the way to (nearly) no training error.
#
# </details>

# %%
for depth in depths:
    run(depth, skip=True)

# %%
errors["residual"] = {depth: error(nets[f"residual, {depth} layers"], train_data) for depth in depths}
ends = {kind: ", ".join(f"{value:.1f} %" for value in errors[kind].values()) for kind in errors}
show(training_curves(["plain", "residual"]), f"Training error against epochs at 8, 32 and 56 layers. Plain networks end at {ends['plain']}; residual ones at {ends['residual']}.")

# %%
residual = errors["residual"]
claim(
    "At the same budget deeper residual networks have NO higher training error",
    max(residual.values()) < 1.5 and residual[56] < residual[8] + 1,
    ", ".join(f"{depth} layers {value:.1f} %" for depth, value in residual.items()),
)

# %%
on_new = {kind: error(nets[f"{kind}, 56 layers"], test_data) for kind in ("plain", "residual")}
claim(
    "At 56 layers one plus sign a block makes the difference, also on new digits",
    residual[56] + 20 < plain[56] and on_new["residual"] + 20 < on_new["plain"],
    f"training error {residual[56]:.1f} % instead of {plain[56]:.1f} %; on new digits {on_new['residual']:.1f} % instead of {on_new['plain']:.1f} %",
)

# %% [markdown]
# ### On ten seeds
#
# One run each is little. The same code was run on ten seeds, at five depths. That takes a quarter of an hour, so it was **measured earlier, by `make measure TABLE=degradation`**. Minimum, median and maximum of
# the training error:

# %%
rows = measured("degradation")


def measured_errors(kind, depth, epochs=12):
    return [row["training_error"] for row in rows if (row["kind"], row["depth"], row["epochs"]) == (kind, depth, epochs)]


all_depths = sorted({row["depth"] for row in rows})
for kind in ("plain", "residual"):
    ranges = [(min(found), np.median(found), max(found)) for found in (measured_errors(kind, depth) for depth in all_depths)]
    print(f"{kind:9}", "   ".join(f"{depth} layers: {low:.1f} / {mid:.1f} / {high:.1f} %" for depth, (low, mid, high) in zip(all_depths, ranges, strict=True)))


# %%
# extra code: the range of ten seeds as a band
def band_figure():
    fig, ax = plt.subplots(figsize=(9.5, 5))
    ax.set(ylim=(-4, 100), xlim=(6, 66), xticks=all_depths)
    lines = {kind: np.array([measured_errors(kind, depth) for depth in all_depths]).T for kind in ("plain", "residual")}
    title = "Plain networks degrade with depth, residual ones do not"
    curves(ax, lines, "layers", "wrong on training digits (%)", title, x=all_depths)
    ax.annotate("measured earlier, by make measure", (0.02, 0.94), xycoords="axes fraction", color="gray")
    return fig


# %%
show(band_figure(), "Training error against depth, the range of ten seeds as a band with the median inside. Medians of plain networks: "
     + ", ".join(f"{depth} layers {np.median(measured_errors('plain', depth)):.1f} %" for depth in all_depths)
     + f". Residual networks: {max(np.median(measured_errors('residual', depth)) for depth in all_depths):.1f} % at every depth.")  # fmt: skip

# %% [markdown]
# **At the same budget** is part of the claim. Give the plain network of 32 layers 40 epochs instead of 12:

# %%
for epochs in (12, 40):
    found = measured_errors("plain", 32, epochs)
    print(f"plain, 32 layers, {epochs} epochs: {min(found):.1f} to {max(found):.1f} % ({len(found)} seeds, measured earlier)")

# %% [markdown]
# So degradation is a matter of how hard a network is to train. It is not a wall.

# %% [markdown] slideshow={"slide_type": "notes"}
# Put the two training curves side by side on the wall and let the class describe them: same layers, same number of weights, same data, same budget. Only the training error is shown, so
# nobody can say "overfitting". In He's paper these are figure 1 (plain) and figure 6 (CIFAR-10: plain left, residual in the middle).

# %% [markdown]
# ### VGG and ResNet, side by side
#
# Both are stacks of 3 x 3 convolutions, in stages: when the picture gets half as wide, the channels double. We draw them from torchvision's code: **hooks**, functions that PyTorch calls whenever a layer has computed its result, note the output of each
# layer while a picture that has no numbers (it is on `meta`) passes.


# %%
def layers_of(model):
    """(kind, channels, side of the maps) of each layer on the main path, in order."""
    found = []
    for name, layer in model.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and "downsample" not in name:
            layer.register_forward_hook(lambda layer, _, out: found.append((layer, out.shape[1], out.shape[-1])))
    model(torch.empty(1, 3, 224, 224, device="meta"))
    return [("linear" if isinstance(layer, nn.Linear) else f"{layer.kernel_size[0]} x {layer.kernel_size[1]}", *rest) for layer, *rest in found]


with torch.device("meta"):
    models = {"VGG-16": zoo.vgg16(init_weights=False).eval(), "ResNet-18": zoo.resnet18().eval()}
drawn = {name: layers_of(model) for name, model in models.items()}
drawn["ResNet-18"][:3]


# %%
# extra code: one box a layer, coloured by the size of its maps; arcs are skip connections, dashed where the shape changes
def architecture_figure():
    fig, axes = plt.subplots(2, 1, figsize=(14, 7), height_ratios=[1, 1.35])
    for ax, (name, layers) in zip(axes, drawn.items(), strict=True):
        stages = {}
        for i, (kind, channels, side) in enumerate(layers):
            place = "linear" if kind == "linear" else f"{side} x {side}"
            shade = None if kind == "linear" else np.log2(224 / side) / 6  # 224, 112, 56 ... give 0, 1/6, 2/6 ...
            ax.add_patch(plt.Rectangle((i, 0), 0.8, 1, facecolor="lightgray" if shade is None else plt.cm.viridis_r(shade + 0.05), edgecolor="black"))
            colour = "black" if shade is None or shade < 0.3 else "white"
            ax.text(i + 0.4, 0.5, f"{channels}", ha="center", va="center", rotation=90, fontsize=16, color=colour, fontweight="bold")
            stages.setdefault(place, []).append(i)
        for place, boxes in stages.items():
            ax.text((boxes[0] + boxes[-1] + 0.8) / 2, -0.1, place, ha="center", va="top", fontsize=14)
        if name == "ResNet-18":
            draw_skips(ax, layers)
        ax.set(xlim=(-0.3, 18), ylim=(-0.35, 1.05 if name == "VGG-16" else 1.7))
        ax.set_title(f"{name}: {len(layers)} layers, {num_parameters(models[name]) / 1e6:.0f} million parameters", fontsize=17)
        ax.axis("off")
    return fig


def draw_skips(ax, layers):
    ax.text(0.4, 1.06, layers[0][0], ha="center", fontsize=14)
    look = {"arrowstyle": "-|>", "connectionstyle": "arc3,rad=-0.55", "linewidth": 3, "color": "C1", "mutation_scale": 18}
    for i in range(1, len(layers) - 1, 2):
        dashed = layers[i][1] != layers[i - 1][1]
        ax.annotate("", (i + 1.85, 1.02), (i - 0.05, 1.02), arrowprops=look | {"linestyle": "--" if dashed else "-"})


# %%
show(architecture_figure(), "VGG-16 above, ResNet-18 below, a box for each layer with its number of channels, coloured by the size of its maps. ResNet has an arc over every pair of convolutions; it "
     "is dashed where channels double and maps halve.")  # fmt: skip

# %% [markdown]
# Read off: VGG keeps large maps for longer (224, 112) and ends in three wide linear layers. ResNet shrinks to 56 x 56 at once, averages each channel at the end, and has one linear
# layer. The arcs are the plus signs. Three of them are dashed: there the shapes do not match.
# %% [markdown]
# ## 6. When shapes do not match (12 min)
#
# At the start of a stage the channels double and the maps halve. Then $x + f(x)$ fails:

# %%
x = torch.rand(4, 16, 8, 8)
f_x = conv3x3(16, 32, stride=2)(x)
print(f"x {tuple(x.shape)}, f(x) {tuple(f_x.shape)}")
try:
    x + f_x
except RuntimeError as message:
    print("RuntimeError:", message)

# %% [markdown]
# He and others tried three shortcuts for that.
#
# **A: the identity, cut and padded.** Every second pixel, and zeros for the new channels. No parameters.


# %% tags=["measure"]
class PaddedIdentity(nn.Module):
    def __init__(self, in_channels, out_channels, stride):
        super().__init__()
        self.stride, self.missing = stride, out_channels - in_channels

    def forward(self, x):
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.missing))  # width, height, channels


# %% [markdown]
# **B: a projection where it is needed.** A convolution of 1 x 1 mixes the channels of a pixel into new ones, $32 \times 16$ weights; its stride skips the same pixels.


# %% tags=["measure"]
def projection(in_channels, out_channels, stride):
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(out_channels))


# %%
# NBVAL_CHECK_OUTPUT
print("A: padded identity", tuple(PaddedIdentity(16, 32, stride=2)(x).shape))
print("B: projection     ", tuple(projection(16, 32, stride=2)(x).shape), f"{num_parameters(projection(16, 32, stride=2))} parameters")

# %% [markdown]
# **C: projections everywhere**, also where the shapes match and the identity would do.
#
# One network with each, of three stages: 16, 32, 64 channels on 8 x 8, 4 x 4, 2 x 2 pixels, three blocks a stage, 20 layers. The shortcut is all that changes.


# %% tags=["measure"]
class StageBlock(nn.Module):
    def __init__(self, in_channels, out_channels, stride, option):
        super().__init__()
        self.conv1, self.bn1 = conv3x3(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels)
        self.conv2, self.bn2 = conv3x3(out_channels, out_channels), nn.BatchNorm2d(out_channels)
        fits = in_channels == out_channels and stride == 1
        if option == "C" or (option == "B" and not fits):
            self.shortcut = projection(in_channels, out_channels, stride)
        else:
            self.shortcut = nn.Identity() if fits else PaddedIdentity(in_channels, out_channels, stride)

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.shortcut(x) + self.bn2(self.conv2(out)))


# %% tags=["measure"]
def staged_network(option):
    layers, channels = [conv3x3(1, 16), nn.BatchNorm2d(16), nn.ReLU()], 16
    for stage in range(3):
        for place in range(3):
            stride = 2 if stage > 0 and place == 0 else 1
            layers.append(StageBlock(channels, 16 * 2**stage, stride, option))
            channels = 16 * 2**stage
    return he(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))).to(device)


# %%
# NBVAL_CHECK_OUTPUT
for option in "ABC":
    print(f"{option}: {num_parameters(staged_network(option)):,} parameters")

# %% [markdown]
# **Before you run it:** C has the most parameters. Is it the best? (He and others, on ImageNet: B a little better than A, C a little better than B.)
#
# <details><summary>Answer</summary>
#
# Not on the digits. All three learn them, and the extra projections of C gain nothing. What the order is depends on the task, and differences are small: on ImageNet too, He and others found C not
# worth its price.
#
# </details>

# %%
by_option = {option: [] for option in "ABC"}
for option, seed in tqdm([(option, seed) for seed in seeds for option in "ABC"], desc="three shortcuts, three seeds", leave=False):
    torch.manual_seed(seed)
    model = staged_network(option)
    train(model, num_epochs=6, progress=None)
    by_option[option].append((error(model, train_data), error(model, test_data)))


# %%
# extra code: a row for each option, a dot for each seed
def options_figure():
    fig, ax = plt.subplots(figsize=(10, 3.8))
    names = {"A": "A: padded identity", "B": "B: projection where needed", "C": "C: projections everywhere"}
    for row, (option, pairs) in enumerate(by_option.items()):
        values = [100 - new for _, new in pairs]
        ax.plot(values, [row] * 3, "o", color=f"C{row}", markersize=13, alpha=0.8)
        count = num_parameters(staged_network(option))
        ax.annotate(f"{count:,} parameters", (max(values), row), xytext=(14, 0), textcoords="offset points", va="center")
    ax.set(yticks=range(3), yticklabels=names.values(), ylim=(2.5, -0.6), xlim=(90, 103), xticks=range(90, 101, 2), xlabel="right on new digits (%), a dot a seed")
    ax.set_title("Three shortcuts: all good, C dearest")
    return fig


# %%
show(options_figure(), "Accuracy on new digits of networks with the three shortcuts, three seeds each: the dots of all three lie close together.")

# %%
means = {option: 100 - sum(new for _, new in pairs) / 3 for option, pairs in by_option.items()}
worst_known, worst_new = (max(pair[k] for pairs in by_option.values() for pair in pairs) for k in (0, 1))
claim(
    "With each of the three shortcuts the network learns its digits, and projections everywhere gain nothing over padding",
    worst_known < 2 and worst_new < 10 and means["C"] < means["A"] + 1,
    ", ".join(f"{option} {mean:.1f} %" for option, mean in means.items()) + " of new digits right (means of three seeds)",
)

# %% [markdown]
# B became the standard. It is what torchvision calls `downsample`.

# %% [markdown]
# ## 7. Two relatives (15 min)
#
# ### The gated ancestor: highway networks
#
# Some months before ResNet, Srivastava, Greff and Schmidhuber (2015) trained networks of 100 layers with a **gate** $t$ between 0 and 1, for each number, computed from the
# input:
#
# $$y = t(x) \cdot f(x) + (1 - t(x)) \cdot x, \qquad t(x) = \sigma(w * x + b)$$
#
# With $t = 0$ the layer hands on its input, with $t = 1$ it is a plain layer. The bias $b$ starts negative, so that at first the gates are nearly shut and the network lets through.


# %%
class Highway(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv, self.bn = conv3x3(channels, channels), nn.BatchNorm2d(channels)
        self.gate = nn.Conv2d(channels, channels, kernel_size=3, padding=1)

    def forward(self, x):
        self.t = torch.sigmoid(self.gate(x))
        return self.t * F.relu(self.bn(self.conv(x))) + (1 - self.t) * x


# %% [markdown]
# Both ends, exactly: shut the gates with a bias of -30, open them with +30.

# %%
layer, x = Highway(16).eval(), torch.rand(4, 16, 8, 8)
ends = []
for bias in (-30, 30):
    nn.init.constant_(layer.gate.bias, bias)
    ends.append(layer(x))
claim(
    "With its gate shut a highway layer hands on its input, with its gate open it is a plain layer",
    torch.allclose(ends[0], x, atol=1e-5) and torch.allclose(ends[1], F.relu(layer.bn(layer.conv(x))), atol=1e-5),
    f"largest difference from the input {(ends[0] - x).abs().max():.0e}",
)


# %%
def highway_block(channels, skip):
    """Two highway layers in place of a block."""
    return nn.Sequential(Highway(channels), Highway(channels))


torch.manual_seed(course_seed)
highway = network(32, skip=None, block=highway_block)
gates = [layer for layer in highway.modules() if isinstance(layer, Highway)]
for layer in gates:
    nn.init.zeros_(layer.gate.weight)
    nn.init.constant_(layer.gate.bias, -3)  # sigmoid(-3) = 0.05: a twentieth open

# %% [markdown]
# **Before you run it:** 32 layers, 12 epochs. (The optimizer is Adam. With SGD at the rate of section 3 these gates hardly move, and the network does not get far.) Does the gate carry 32 layers? And what does
# it cost?
#
# <details><summary>Answer</summary>
#
# It carries, if the gates start nearly shut. (Try a bias of -1 instead of -3, on several seeds.) The price is a second convolution in every layer, for the gate: twice the parameters, and more time. ResNet's
# shortcut has no gate: both ways are always open, and it is free.
#
# </details>

# %%
def adam(weights):
    return torch.optim.Adam(weights, lr=5e-3)


history = train(highway, make_optimizer=adam, progress="highway, 32 layers")

# %%
with torch.no_grad():
    highway(train_data.tensors[0][:256].to(device))
opened = [layer.t.mean().item() for layer in gates]
print(f"gates at the start {torch.sigmoid(torch.tensor(-3.0)):.2f}; after training from {min(opened):.2f} to {max(opened):.2f}, the mean of a layer")

# %%
highway_error, sizes = error(highway, train_data), [num_parameters(model) for model in (highway, nets["residual, 32 layers"])]
claim(
    "Gates carry 32 layers too, at twice the parameters of a residual network",
    highway_error < 5 and 1.9 < sizes[0] / sizes[1] < 2.1,
    f"training error {highway_error:.1f} %; {sizes[0]:,} parameters against {sizes[1]:,}",
)

# %% [markdown]
# ### The collector: DenseNet
#
# Huang and others (2016) do not add, they **concatenate**: every layer gets the maps of *all* layers before it in the block, and adds $k$ new ones, the **growth rate**. After $l$
# layers there are $c_0 + k\,l$ channels.


# %%
class DenseLayer(nn.Module):
    def __init__(self, in_channels, growth):
        super().__init__()
        self.bn, self.conv = nn.BatchNorm2d(in_channels), conv3x3(in_channels, growth)

    def forward(self, x):
        return torch.cat([x, self.conv(F.relu(self.bn(x)))], dim=1)


# %%
# NBVAL_CHECK_OUTPUT
x, growth = torch.rand(4, 16, 8, 8), 12
for number in range(1, 5):
    x = DenseLayer(x.shape[1], growth)(x)
    print(f"after layer {number}: {x.shape[1]} channels = 16 + {number} · {growth}")

# %% [markdown]
# What is added stays: a sum can be undone by a later block, a concatenation cannot. And channels grow all the time. So DenseNet puts a **transition** between its blocks, which halves
# channels and pixels. Here is DenseNet-121: $c_0 = 64$, $k = 32$, blocks of 6, 12, 24 and 16 layers. Hooks note how many channels
# each of its layers puts out.

# %%
grown = []  # (kind of layer, channels of its output)
with torch.device("meta"):
    densenet = zoo.densenet121()
for layer in densenet.features.modules():
    if type(layer).__name__ in ("_DenseLayer", "_Transition"):
        layer.register_forward_hook(lambda layer, inputs, out: grown.append((type(layer).__name__, out.shape[1])))
densenet.eval()(torch.empty(1, 3, 224, 224, device="meta"))
[count for kind, count in grown if kind == "_Transition"]

# %%
channels, steps = 64, [64]  # the same by our formula
for num_layers in (6, 12, 24, 16):
    steps += [channels + 32 * number for number in range(1, num_layers + 1)]
    channels = steps[-1] // 2
    steps.append(channels)  # the transition
steps.pop()  # there is none after the last block
steps[-1]


# %%
fig, ax = plt.subplots(figsize=(11, 4.6))
ax.step(range(len(steps)), steps, where="mid")
for peak in (6, 19, 44, 61):
    ax.annotate(f"{steps[peak]}", (peak, steps[peak]), xytext=(0, 8), textcoords="offset points", ha="center", fontweight="bold", color="C0")
ax.set(xlabel="dense layers and transitions, in order", ylabel="channels", ylim=(0, 1180), title="DenseNet-121: 32 channels more with every layer, halved three times")
show(fig, f"Number of channels through DenseNet-121: it climbs by 32 with every layer, to {steps[6]}, {steps[19]}, {steps[44]} and {steps[61]}, and is halved by the three transitions between.")

# %%
new_maps = [count for kind, count in grown if kind == "_DenseLayer"]
halved = [count for kind, count in grown if kind == "_Transition"]
claim(
    "In DenseNet-121 each of 58 layers adds 32 channels, and three transitions halve them: our formula ends at its 1,024 features",
    len(new_maps) == 58 and set(new_maps) == {32} and halved == [128, 256, 512] and steps[-1] == densenet.classifier.in_features == 1024,
    f"{len(new_maps)} layers of {new_maps[0]} maps, transitions to {halved}, {steps[-1]:,} at the end",
)

# %% [markdown]
# ## 8. ResNet-18 in full view (15 min)
#
# Now the real one, for pictures of 224 x 224 and 1,000 classes. We keep torchvision's names for the parts. First the block: it is the one of section 5, with a shortcut of kind B.


# %%
class BasicBlock(nn.Module):
    def __init__(self, in_channels, channels, stride):
        super().__init__()
        self.conv1, self.bn1 = conv3x3(in_channels, channels, stride), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = conv3x3(channels, channels), nn.BatchNorm2d(channels)
        fits = stride == 1 and in_channels == channels
        self.downsample = None if fits else projection(in_channels, channels, stride)

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(shortcut + self.bn2(self.conv2(out)))


# %% [markdown]
# A stage is two blocks; the first of them changes the shape.


# %%
def stage(in_channels, channels, stride):
    return nn.Sequential(BasicBlock(in_channels, channels, stride), BasicBlock(channels, channels, 1))


# %% [markdown]
# The whole: a **stem** that makes the picture small (7 x 7 with stride 2, then pooling), four stages, average, one linear layer.


# %%
class ResNet18(nn.Module):
    def __init__(self, num_classes=1000):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1, self.layer2 = stage(64, 64, 1), stage(64, 128, 2)
        self.layer3, self.layer4 = stage(128, 256, 2), stage(256, 512, 2)
        self.fc = nn.Linear(512, num_classes)

    def forward(self, images):
        x = F.relu(self.bn1(self.conv1(images)))
        x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean(dim=(2, 3)))


# %%
written = [conv3x3, projection, BasicBlock.__init__, BasicBlock.forward, stage, ResNet18.__init__, ResNet18.forward]
print(sum(len(inspect.getsource(part).splitlines()) for part in written) + 2, "lines")  # and the two lines that begin a class

# %% [markdown]
# Is it really ResNet-18? Three proofs, each stronger than the one before.

# %%
ours, theirs = ResNet18().eval(), zoo.resnet18().eval()
claim(
    "Our ResNet-18 has as many parameters as torchvision's",
    num_parameters(ours) == num_parameters(theirs) == 11_689_512,
    f"{num_parameters(ours):,} and {num_parameters(theirs):,}",
)

# %%
shapes = [{name: tuple(value.shape) for name, value in model.state_dict().items()} for model in (ours, theirs)]
claim(
    "Every tensor has the same name and the same shape in both",
    shapes[0] == shapes[1],
    f"{len(shapes[0])} tensors, such as layer2.0.downsample.0.weight {shapes[0]['layer2.0.downsample.0.weight']}",
)

# %% [markdown]
# The last one: the same weights, the same pictures, the same outputs. (We draw the batch normalisation's averages at random. Fresh ones are 0 and 1, and would hide a mistake.)

# %%
for module in theirs.modules():
    if isinstance(module, nn.BatchNorm2d):
        module.running_mean.normal_(std=0.1)
        module.running_var.uniform_(0.5, 1.5)
ours.load_state_dict(theirs.state_dict())

# %%
images = torch.randn(2, 3, 224, 224)
with torch.no_grad():
    logits = ours(images), theirs(images)
gap, size = (logits[0] - logits[1]).abs().max().item(), logits[1].abs().max().item()
claim(
    "With the same weights our ResNet-18 gives torchvision's outputs, to a hundred-thousandth",
    gap < 1e-5 * max(1, size),
    f"largest difference {gap:.0e}, of outputs up to {size:.1f}",
)

# %% [markdown]
# This also means: whatever weights somebody has trained with torchvision's ResNet-18, `ours.load_state_dict(...)` takes them.
#
# ### Reading torchvision's source
#
# You have written it, so you can read it. Practical advice of the lectures: use open-source implementations, and look into them. `inspect.getsource` shows the code that runs here.

# %%
print(inspect.getsource(zoo.resnet.BasicBlock.forward))

# %% [markdown]
# Find, line by line:
#
# 1. `identity = x` keeps the input, before anything happens to it.
# 2. `self.relu` is one module, used twice. It has no weights, so it may be. It is `nn.ReLU(inplace=True)`: it overwrites its input, which saves memory, and `x` itself is never
#    overwritten.
# 3. No `relu` between `bn2` and the sum. This is the detail of section 5.
# 4. `if self.downsample is not None`: shortcut B, where the shapes do not match.
# 5. `out += identity`: the plus sign.
#
# The deep ones, from ResNet-50 on, have another block: 1 x 1 to a quarter of the channels, 3 x 3, and 1 x 1 back: the **bottleneck**.

# %%
print(inspect.getsource(zoo.resnet.Bottleneck.forward))

# %% [markdown]
# **Where do papers and code part?** In the paper, the stride of a bottleneck is in its first 1 x 1 convolution. Reading the code settles what torchvision does:

# %%
with torch.device("meta"):
    first = zoo.resnet50().layer2[0]
claim(
    "Torchvision's bottleneck has its stride in the 3 x 3 convolution, unlike the paper's",
    first.conv1.stride == (1, 1) and first.conv2.stride == (2, 2),
    f"conv1 (1 x 1) stride {first.conv1.stride}, conv2 (3 x 3) stride {first.conv2.stride}",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Errata of the slides: `BatchNorm2D` is `BatchNorm2d`; `resnet18(pretrained=True)` is `resnet18(weights=ResNet18_Weights.DEFAULT)` since torchvision 0.13; `torch.hub.load(...)`
# should not pin a version of 2019, as one slide does (v0.5.0), but take the installed torchvision. The stride in the 3 x 3 is known as "ResNet v1.5"; torchvision's source says so in a comment above Bottleneck.
# %% [markdown]
# ## 9. What a skip does to gradient and loss (15 min)
#
# ### The gradient, layer by layer
#
# Notebook 01's measuring device, for convolutions: the norm of each layer's gradient, in a fresh network. The controls compute anew what they show, so
# with 110 layers the figure takes a few seconds.

# %%
some_images, some_labels = (tensor[:256].to(device) for tensor in train_data.tensors)


def gradients(model):
    """The gradient of each convolution's weights, from the first to the last, for 256 digits."""
    model.zero_grad()
    F.cross_entropy(model.train()(some_images), some_labels).backward()
    return [module.weight.grad for module in model.modules() if isinstance(module, nn.Conv2d)]


# %%
# extra code: the profile of a fresh plain and a fresh residual network
def draw_profile(depth=56, channels=16):
    fig, ax = plt.subplots(figsize=(10, 4.8))
    lines, factor = {}, {}
    for name, skip in {"plain": False, "residual": True}.items():
        torch.manual_seed(course_seed)
        lines[name] = [gradient.norm().item() for gradient in gradients(network(depth, skip, channels))][1:]
        factor[name] = max(lines[name]) / min(lines[name])
    ax.set(yscale="log", xlim=(0, depth * 1.2))
    title = f"{depth} layers: norms differ by a factor of {factor['plain']:,.0f} (plain), {factor['residual']:,.0f} (residual)"
    curves(ax, lines, "layer (1 is the one next to the pixels)", "gradient norm", title, x=range(2, depth))
    ax.xaxis.set_major_locator(plt.MaxNLocator(integer=True))
    return fig, (f"Gradient norm of each layer of fresh networks of {depth} layers and {channels} channels, on a logarithmic axis. In the plain network the largest is "
                 f"{factor['plain']:,.0f} times the smallest, in the residual one {factor['residual']:,.0f} times.")  # fmt: skip


explore(draw_profile, depth=[56, 8, 20, 32, 110], channels=[16, 4, 32])

# %% [markdown]
# Nothing vanishes in the plain network: this is the explosion through batch normalisation of notebook 01. In the residual network the profile is nearly level.

# %%
spreads = {}
for name, skip in {"plain": False, "residual": True}.items():
    torch.manual_seed(course_seed)
    norms = [gradient.norm().item() for gradient in gradients(network(56, skip))][1:]
    spreads[name] = max(norms) / min(norms)
claim(
    "In a fresh residual network of 56 layers all gradients are within a factor of 50; in the plain one they are not",
    spreads["residual"] < 50 < 500 < spreads["plain"],
    f"largest over smallest {spreads['residual']:.0f} against {spreads['plain']:,.0f}",
)

# %% [markdown]
# ### How far can you trust a gradient?
#
# A gradient says where downhill is **here**. After a step it is another one. Training works if the two resemble each other. So: take a fresh network, move all its kernels a
# little in a random direction, and compare the gradients before and after, by the cosine of the angle between them. A step of 0.01 moves each kernel by a hundredth of its own length.


# %%
def random_step(weight):
    """A random direction, each kernel as long as that of the weight: Li and others (2018) call it filter-normalised."""
    step = torch.randn_like(weight)
    norms = [values.flatten(1).norm(dim=1) for values in (weight, step)]
    return step * (norms[0] / norms[1]).view(-1, *[1] * (weight.ndim - 1))


# %%
@torch.no_grad()
def move(model, size):
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.weight += size * random_step(module.weight)
    return model


def flat_gradient(model):
    return torch.cat([gradient.flatten() for gradient in gradients(model)])


# %% [markdown]
# **Before you run it:** the plain network of 56 layers, moved by a hundredth. How much of the old gradient is left?
#
# <details><summary>Answer</summary>
#
# Nothing: the new gradient stands at a right angle to the old one, as two random directions do. In the residual network of the same depth most of it is left. So the trouble of the deep plain
# network is not that its gradient is small. It is that the gradient says nothing about what comes after the smallest step. Balduzzi and others (2017) call such gradients *shattered*.
#
# </details>

# %%
sizes, trust = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1), {}
compared = {"plain, 56 layers": (56, False), "residual, 56 layers": (56, True), "plain, 8 layers": (8, False)}
for name, (depth, skip) in tqdm(compared.items(), desc="gradients before and after", leave=False):
    torch.manual_seed(course_seed)
    model = network(depth, skip)
    before = flat_gradient(model)
    moved = [[flat_gradient(move(copy.deepcopy(model), size)) for size in sizes] for _ in range(2)]
    trust[name] = [[F.cosine_similarity(before, after, dim=0).item() for after in row] for row in moved]

# %%
fig, ax = plt.subplots(figsize=(9.5, 4.8))
ax.set(xscale="log", xlim=(7e-7, 9), ylim=(-0.15, 1.05))
curves(ax, trust, "random step, as a share of each kernel's length", "cosine of old and new gradient", "A deep plain network forgets its gradient at once", x=sizes)
ax.set_xticks(sizes, ["a millionth", "", "", "a thousandth", "", "a tenth"])
ax.minorticks_off()
show(fig, "Similarity of the gradients before and after a random step, against the size of the step, for three fresh networks. At a hundredth: "
     + ", ".join(f"{name} {np.mean(rows, axis=0)[4]:.2f}" for name, rows in trust.items()) + ".")  # fmt: skip

# %%
left = {name: np.mean(rows, axis=0)[4] for name, rows in trust.items()}
claim(
    "After a step of a hundredth the gradient of 56 plain layers has nothing in common with the old one; with skips most of it is left",
    abs(left["plain, 56 layers"]) < 0.3 and left["residual, 56 layers"] > 0.7,
    ", ".join(f"{name}: cosine {value:.2f}" for name, value in left.items()),
)

# %% [markdown]
# ### The loss as a landscape
#
# A gradient that holds for no distance means that the loss is not smooth. We can see that. Stand at the weights $w$ of a fresh network and look around, in two random directions $u$
# and $v$, each kernel of them as long as that of $w$:
#
# $$L(a, b) = \text{loss at } w + a\,u + b\,v, \qquad -0.05 \le a, b \le 0.05$$
#
# Batch normalisation works with the averages of the batch, as in training: this is the ground that training walks on.


# %%
@torch.no_grad()
def landscape(model, axis):
    """The loss on 128 digits for all pairs of steps along two random directions: (len(axis), len(axis))."""
    kernels = [p for p in model.train().parameters() if p.ndim > 1]
    centre = [p.clone() for p in kernels]
    u, v = ([random_step(p) for p in centre] for _ in range(2))
    losses = np.empty((len(axis), len(axis)))
    for row, column in tqdm(list(np.ndindex(losses.shape)), desc="looking around", leave=False):
        for p, w, along_u, along_v in zip(kernels, centre, u, v, strict=True):
            p.copy_(w + axis[column] * along_u + axis[row] * along_v)
        losses[row, column] = F.cross_entropy(model(some_images[:128]), some_labels[:128]).item()
    return losses


# %% [markdown]
# **Before you run it:** 56 layers, without and with skips. What will the two landscapes look like?
#
# <details><summary>Answer</summary>
#
# Without skips like a rock field: whoever feels the slope under the feet knows nothing about the next step. With skips like a meadow on a hillside.
#
# </details>

# %%
axis, landscapes = np.linspace(-0.05, 0.05, 13), {}
for kind, skip in {"plain": False, "residual": True}.items():
    torch.manual_seed(course_seed)
    landscapes[kind] = landscape(network(56, skip), axis)


# %%
# extra code: the two surfaces; each has its own height scale
def landscape_figure():
    fig, axes = plt.subplots(1, 2, figsize=(13.5, 6), subplot_kw={"projection": "3d"})
    a, b = np.meshgrid(axis, axis)
    for ax, (kind, losses) in zip(axes, landscapes.items(), strict=True):
        ax.plot_surface(a, b, losses, cmap="viridis", rstride=1, cstride=1, edgecolor="black", linewidth=0.3)
        ax.set(xticks=[-0.05, 0, 0.05], yticks=[-0.05, 0, 0.05], xlabel="step along u", ylabel="step along v")
        ax.set_xlabel("step along u", labelpad=12)
        ax.set_ylabel("step along v", labelpad=12)
        ax.zaxis.set_major_locator(plt.MaxNLocator(4))
        ax.tick_params("z", pad=10)
        ax.set_title(f"56 layers, {kind}: {'smooth' if kind == 'residual' else 'rugged'}", loc="center")
        ax.view_init(elev=28, azim=-60)
        ax.set_box_aspect(None, zoom=0.88)
        ax.text2D(0.93, 0.78, "loss", transform=ax.transAxes, ha="center")
    return fig


# %%
show(landscape_figure(), "The loss around fresh networks of 56 layers, along two random directions. Without skips it goes up and down from point to point, without any order. With skips it is a smooth "
     "slope. The two have height scales of their own.")  # fmt: skip

# %% [markdown]
# As a number: walk along a row or a column. How much does the slope change from one step to the next, compared with the slope itself? On smooth ground next to nothing. Where every step is
# drawn by chance, $\sqrt 3$ times as much.


# %%
def roughness(losses):
    """Root mean square of the changes of slope, over that of the slopes, along rows and columns."""
    slopes = [np.diff(losses, axis=k) for k in (0, 1)]
    changes = [np.diff(slope, axis=k) for k, slope in enumerate(slopes)]
    squares = [np.mean([np.mean(part**2) for part in parts]) for parts in (changes, slopes)]
    return np.sqrt(squares[0] / squares[1])


# %%
rough = {kind: roughness(losses) for kind, losses in landscapes.items()}
claim(
    "Around a fresh network of 56 layers the loss is smooth with skips, and without them rugged: its slope is another one after every step",
    rough["residual"] < 0.6 and rough["plain"] > 1.1,
    ", ".join(f"{kind}: roughness {value:.2f}" for kind, value in rough.items()),
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Li and others (2018) made such pictures famous. Theirs show trained networks, on CIFAR-10, and on a wider range: without skips, 56 layers are chaotic there too, and shallow networks are smooth either way.
# These are two directions out of more than a hundred thousand; another seed shows other rocks, and the same meadow. This is R9 of the lectures: "the gradient of earlier parameters depends more directly on
# the output", seen from above.

# %% [markdown]
# ## 10. Exercises (45 min)
#
# Write your answer in place of the dots and run the cell: the check tells you what it expected and what came. Stuck? Take away the `#` in
# the cell below it.
#
# **Exercise 1: the residual block.** Return the output of a residual block for input `x`. The four layers are given; ReLU is `F.relu`. The shapes match.


# %%
def residual_forward(x, conv1, bn1, conv2, bn2):
    ...


exercises.residual_forward.check(residual_forward)

# %% slideshow={"slide_type": "skip"}
# exercises.residual_forward.hint()
# exercises.residual_forward.solution()

# %% [markdown]
# **Exercise 2: the highway gate.** `f` and `gate` are layers. The gate's output is a logit: it still has to become a number between 0 and 1. Return the highway layer's output
# for input `x`. Compute `f(x)` once.


# %%
def highway_forward(x, f, gate):
    ...


exercises.highway_forward.check(highway_forward)

# %% slideshow={"slide_type": "skip"}
# exercises.highway_forward.hint()
# exercises.highway_forward.solution()

# %% [markdown]
# **Exercise 3: count a bottleneck, without PyTorch.** Convolutions 1 x 1 from `in_channels` to `width`, 3 x 3 from `width` to `width`, 1 x 1 from `width` to `4 * width`, none with
# a bias; batch normalisation after each. Where `in_channels` is not `4 * width`, the shortcut is a projection with batch normalisation. Return the number of parameters.


# %%
def count_bottleneck(in_channels, width):
    ...


exercises.count_bottleneck.check(count_bottleneck)

# %% slideshow={"slide_type": "skip"}
# exercises.count_bottleneck.hint()
# exercises.count_bottleneck.solution()

# %% [markdown]
# **Exercise 4: the projection shortcut.** Return a residual block, a module, for any `in_channels`, `out_channels` and `stride`: two 3 x 3 convolutions without bias, each with batch
# normalisation, the stride in the first. The shortcut is a projection (1 x 1 convolution without bias, batch normalisation) where shapes differ, and the identity where they match.


# %%
def make_block(in_channels, out_channels, stride):
    ...


exercises.make_block.check(make_block)

# %% slideshow={"slide_type": "skip"}
# exercises.make_block.hint()
# exercises.make_block.solution()

# %% [markdown]
# **Exercise 5: a dense block.** Return a module of `num_layers` layers, each BN, ReLU, 3 x 3 convolution without bias, as in section 7. Each layer sees all channels before it and adds `growth` new
# ones behind them. The output has all channels, the input's first.


# %%
def make_dense_block(in_channels, growth, num_layers):
    ...


exercises.make_dense_block.check(make_dense_block)

# %% slideshow={"slide_type": "skip"}
# exercises.make_dense_block.hint()
# exercises.make_dense_block.solution()

# %% [markdown]
# ## 11. Lab: the deepest network that still trains in 60 seconds (30 min and more)
#
# **How deep can you go, in a minute on one core?** Write `train_deepest`, which takes nothing, and trains and returns a network for digits (N, 1, 8, 8), prepared as `train_data` is. The
# rules:
#
# - it learns from `train_data` only, in at most **60 seconds**;
# - it reads at least **90 %** of the held-out test digits;
# - its depth is the number of convolutions of 3 x 3 or larger that a digit passes one after the other; each of them must have a gradient, so dead blocks do not count.
#
# **50 convolutions are good, 100 are very good.** The check takes the time, counts, and scores it on the test digits.


# %%
def train_deepest():
    ...


exercises.lab.check(train_deepest)

# %% slideshow={"slide_type": "skip"}
# exercises.lab.hint()
# exercises.lab.solution()

# %% [markdown]
# ## Summary
#
# - Networks are counted on the `meta` device, without their weights. After 2014 they grew deeper, and not larger.
# - Degradation: at the same budget a deeper plain network has the higher **training** error, though a better one exists.
# - A residual block learns to do nothing with ease. That is why depth does it no harm.
# - The sum comes before the last ReLU, and nothing that bends stands between the last convolution and the sum.
# - Where shapes differ, a 1 x 1 projection takes the shortcut's place. Padding does as well.
# - Highway networks gate, DenseNet concatenates.
# - Our ResNet-18 gives torchvision's outputs. You can read its source, because you have written it.
# - With skips a gradient still holds after a step, and the loss around a deep network is smooth. Without them, neither.
#
# The claims of this run, with their figures:

# %%
summary()

# %% [markdown]
# ### Lecture topics
#
# | topic | section | lectures |
# |---|---|---|
# | R1 classic networks counted, why depth was held back | 1 | A, C, D, E |
# | R2 LeNet-5 built and trained | 2 | C, D |
# | R3 degradation: deeper plain networks train worse | 3 | A, C |
# | R4 the identity, easy for a residual block | 4 | A, D |
# | R5 the residual block step by step, VGG against ResNet | 5 | A, C, D |
# | R6 shapes that do not match: projection shortcuts | 6 | C |
# | R7 DenseNet block, highway gate | 7 | A, E |
# | R8 ResNet-18 equal to torchvision's, reading its source | 8 | C |
# | R9 what skips do to gradient and loss | 9 | A, beyond |
#
# ### Further reading
# - Y. LeCun, L. Bottou, Y. Bengio, P. Haffner. *Gradient-based learning applied to document recognition*. Proceedings of the IEEE 86(11), 1998 (LeNet-5)
# - A. Krizhevsky, I. Sutskever, G. E. Hinton. *ImageNet Classification with Deep Convolutional Neural Networks*. NeurIPS 2012 (AlexNet)
# - A. Krizhevsky. *One weird trick for parallelizing convolutional neural networks*. 2014. https://arxiv.org/abs/1404.5997 (torchvision's AlexNet)
# - K. Simonyan, A. Zisserman. *Very Deep Convolutional Networks for Large-Scale Image Recognition*. ICLR 2015. https://arxiv.org/abs/1409.1556 (VGG)
# - C. Szegedy et al. *Going Deeper with Convolutions*. CVPR 2015. https://arxiv.org/abs/1409.4842 (GoogLeNet)
# - R. K. Srivastava, K. Greff, J. Schmidhuber. *Training Very Deep Networks*. NeurIPS 2015. https://arxiv.org/abs/1507.06228 (highway networks)
# - C. Szegedy et al. *Rethinking the Inception Architecture for Computer Vision*. CVPR 2016. https://arxiv.org/abs/1512.00567 (Inception v3)
# - K. He, X. Zhang, S. Ren, J. Sun. *Deep Residual Learning for Image Recognition*. CVPR 2016. https://arxiv.org/abs/1512.03385
# - G. Huang, Z. Liu, L. van der Maaten, K. Q. Weinberger. *Densely Connected Convolutional Networks*. CVPR 2017. https://arxiv.org/abs/1608.06993
# - D. Balduzzi et al. *The Shattered Gradients Problem: If resnets are the answer, then what is the question?* ICML 2017. https://arxiv.org/abs/1702.08591
# - M. Sandler et al. *MobileNetV2: Inverted Residuals and Linear Bottlenecks*. CVPR 2018. https://arxiv.org/abs/1801.04381
# - H. Li, Z. Xu, G. Taylor, C. Studer, T. Goldstein. *Visualizing the Loss Landscape of Neural Nets*. NeurIPS 2018. https://arxiv.org/abs/1712.09913
#
# ### Next notebook
# 03 · Convolutions: 1x1, transposed and friends.
