# %% [markdown]
# # 02 · Residual blocks
#
# @BADGES@
#
# **To keep what you write:** on Colab choose *File > Save a copy in Drive*, on Kaggle *Copy & Edit*, before you begin.
#
# **Question:** A network with more layers can do everything that one with fewer layers can. Why does it fit its own training data *worse*, and how does one plus sign fix that?
#
# **You will be able to**
# - count the layers and parameters of any network, without memory for its weights,
# - explain the degradation problem, and say how much it depends on the recipe and on the budget,
# - draw a residual block, and write one, its three shortcuts and a whole ResNet-18 that gives the same outputs as torchvision's.
#
# **Time:** it runs in @TIME@ on two CPU cores; with all sections, the exercises and the lab, about three hours and a half.
# **Before this:** notebook 01: gradient profiles, normalisation, the first skip connection.

# %% [markdown] slideshow={"slide_type": "notes"}
# **A plan for 75 minutes** (the core takes 70, with its exercises)
#
# - **Core:** sections 1, 3, 4, 5 and 8: the classic networks counted, degradation, the identity, the residual block, and ResNet-18 equal to
#   torchvision's.
# - **Optional:** 2 (LeNet-5), 6 (projection shortcuts), 7 (pre-activation, highway, DenseNet), 9 (gradient and loss landscape, with the most striking pictures: a good opening for
#   the next lecture).
# - **Where to stop:** after the fact of section 8 that ours and torchvision's give the same numbers. If you are late, stop at the ten seeds of section
#   5.
#
# Run the cells of sections 2 and 6 even if you do not show them: section 3 uses the digits prepared in section 2, and section 8 uses the projection of section 6.

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
# What this notebook imports. All but PyTorch and torchvision is in the folder utils/.
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
from utils.lessons import claim, fact, measured, summary
from utils.models import num_parameters
from utils.training import evaluate, fit, predict

# %% slideshow={"slide_type": "skip"}
torch.set_num_threads(1)  # layers this small are no faster on two cores
course_seed = torch.initial_seed()  # as utils.start() has set it

# %% [markdown]
# ## 1. Classic networks, counted (14 min)
#
# How large are the well-known networks? We count them ourselves. VGG-16 alone would take half a gigabyte, only to be counted and thrown away. PyTorch has a device for this: on
# `meta`, a tensor has a shape but no numbers.

# %%
with torch.device("meta"):
    alexnet = zoo.alexnet()
alexnet.features[0].weight.shape, alexnet.features[0].weight.device

# %%
# NBVAL_CHECK_OUTPUT
print(f"AlexNet: {num_parameters(alexnet):,} parameters")

# %% [markdown]
# Depth can be counted too. It is the number of layers with weights on the **longest way** from the input to the output. `torch.fx` turns a network into a graph that shows which
# operation takes its input from which. Each node is as deep as the deepest of its inputs, and one deeper if it has weights. (You need not be able to write this cell: exercise 1 asks
# for its idea, with a dictionary.)


# %%
def depth_of(model):
    """Layers with weights on the longest way from input to output."""
    traced, depth = torch.fx.symbolic_trace(model), {}
    for node in traced.graph.nodes:
        depth[node] = max((depth[n] for n in node.all_input_nodes), default=0)
        if node.op == "call_module":
            layer = traced.get_submodule(node.target)
            depth[node] += isinstance(layer, (nn.Conv2d, nn.Linear))
    return max(depth.values())


depth_of(alexnet)

# %% [markdown]
# The oldest of these networks is not in torchvision, so we write it ourselves. LeNet-5 (LeCun et al. 1998) read digits, and was part of a system that read bank cheques. It
# alternates convolution and pooling, then come dense layers, with tanh between them.


# %%
class LeNet5(nn.Module):
    def __init__(self, activation=nn.Tanh, pooling=nn.AvgPool2d):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, kernel_size=5), activation(), pooling(2),
            nn.Conv2d(6, 16, kernel_size=5), activation(), pooling(2),
            nn.Conv2d(16, 120, kernel_size=5), activation(),
        )  # fmt: skip
        dense = nn.Linear(120, 84), activation(), nn.Linear(84, 10)
        self.classifier = nn.Sequential(*dense)

    def forward(self, images):
        return self.classifier(self.features(images).flatten(1))


# %% [markdown]
# Now the others. GoogLeNet and Inception v3 have **auxiliary heads**: small classifiers in the middle of the network, which help to train the early layers and are removed
# afterwards. So each of the two has two sizes.


# %%
def googlenet(heads):  # init_weights: whether to draw weights that are not there
    return zoo.googlenet(init_weights=False, aux_logits=heads)


def inception(heads):
    return zoo.inception_v3(init_weights=False, aux_logits=heads)


# %%
classics = {
    "LeNet-5": (1998, LeNet5),
    "AlexNet": (2012, zoo.alexnet),
    "VGG-16": (2014, zoo.vgg16),
    "VGG-19": (2014, zoo.vgg19),
    "GoogLeNet": (2014, lambda: googlenet(heads=False)),
    "GoogLeNet with heads": (2014, lambda: googlenet(heads=True)),
    "Inception v3": (2015, lambda: inception(heads=False)),
    "Inception v3 with heads": (2015, lambda: inception(heads=True)),
    "ResNet-18": (2015, zoo.resnet18),
    "ResNet-50": (2015, zoo.resnet50),
    "ResNet-152": (2015, zoo.resnet152),
    "DenseNet-121": (2016, zoo.densenet121),
    "Wide ResNet-101": (2016, zoo.wide_resnet101_2),
    "MobileNet v2": (2018, zoo.mobilenet_v2),
}

# %% [markdown]
# **Before you run it:** which of these networks has the most parameters? Which is the deepest? Are they the same?
#
# <details><summary>Answer</summary>
#
# No. VGG-19 has the most parameters, 144 million, in 19 layers. ResNet-152 is the deepest, with less than half of them.
#
# </details>

# %%
# NBVAL_CHECK_OUTPUT
counted = {}
with torch.device("meta"):
    for name, (year, make) in classics.items():
        model = make()
        counted[name] = year, depth_of(model), num_parameters(model)
        _, depth, size = counted[name]
        print(f"{year}  {name:24}{depth:4} layers {size:12,} parameters")


# %%
# extra code: depth against parameters, an arrow from VGG to ResNet
def sizes_figure():
    fig, ax = plt.subplots(figsize=(9, 6))
    left = {"ResNet-50", "ResNet-152", "DenseNet-121", "Inception v3", "MobileNet v2"}
    for name, (year, depth, size) in counted.items():
        if "heads" in name:
            continue
        colour = "C1" if name.startswith("ResNet") else "C0" if year <= 2015 else "gray"
        ax.plot(size, depth, "o", color=colour, markersize=10)
        shift = {"VGG-16": -6, "Inception v3": -12, "MobileNet v2": 10}.get(name, 4)
        place = {"xytext": (-10 if name in left else 10, shift), "ha": "right" if name in left else "left"}
        ax.annotate(f"{name}, {year}", (size, depth), textcoords="offset points", va="center", color=colour, fontsize=13, **place)
    start, end = ((counted[name][2], counted[name][1]) for name in ("VGG-19", "ResNet-152"))
    look = {"arrowstyle": "-|>", "color": "C1", "linewidth": 2, "connectionstyle": "arc3,rad=0.2", "shrinkA": 8, "shrinkB": 8}
    ax.annotate("", end, start, arrowprops=look)
    ax.set(xscale="log", yscale="log", xlim=(4e4, 3e9), ylim=(4, 230), xlabel="parameters", ylabel="layers with weights")
    ax.set_xticks([1e5, 1e6, 1e7, 1e8, 1e9], ["100,000", "1 million", "10 million", "100 million", "1 billion"])
    ax.set_yticks([5, 10, 20, 50, 100, 150], ["5", "10", "20", "50", "100", "150"])
    ax.minorticks_off()
    ax.set_title("From VGG to ResNet: eight times deeper, less than half as large")
    return fig


show(sizes_figure(), "Twelve networks from 1998 to 2018, one dot each: layers against parameters, both axes logarithmic. The arrow leads from VGG-19 to ResNet-152. Later networks are grey.")

# %%
depths = {name: depth for name, (_, depth, _) in counted.items()}
sizes = {name: size for name, (_, _, size) in counted.items()}
fact(
    "ResNet-152 is eight times as deep as VGG-19, with less than half its parameters",
    depths["ResNet-152"] == 8 * depths["VGG-19"]
    and sizes["ResNet-152"] < sizes["VGG-19"] / 2,
    f"{sizes['ResNet-152']:,} against {sizes['VGG-19']:,}",
)

# %%
numbered = [name for name in counted if name.split("-")[-1].isdigit()]
numbered.remove("LeNet-5")  # LeCun's fifth version
fact(
    "The number in a network's name is its depth, counted along the longest way",
    all(depths[name] == int(name.split("-")[-1]) for name in numbered),
    ", ".join(f"{name}: {depths[name]}" for name in numbered),
)

# %% [markdown]
# ### Do the counts agree with others?
#
# Torchvision publishes the number of parameters with its trained weights. (For GoogLeNet it is the number without the auxiliary heads, for Inception v3 with them.
# Torchvision's GoogLeNet has 3 x 3 kernels where the paper has 5 x 5: notebook 03.)


# %%
def stored_size(model_name):
    return next(iter(zoo.get_model_weights(model_name))).meta["num_params"]


records = {
    "AlexNet": "alexnet", "VGG-16": "vgg16", "VGG-19": "vgg19",
    "GoogLeNet": "googlenet", "Inception v3 with heads": "inception_v3",
    "ResNet-18": "resnet18", "ResNet-50": "resnet50", "ResNet-152": "resnet152",
    "DenseNet-121": "densenet121", "Wide ResNet-101": "wide_resnet101_2",
    "MobileNet v2": "mobilenet_v2",
}  # fmt: skip
equal = [sizes[name] == stored_size(model) for name, model in records.items()]
fact(
    "Our counts equal those that torchvision publishes, to the last parameter",
    all(equal),
    f"{sum(equal)} of {len(equal)} equal",
)

# %% [markdown]
# LeNet-5 is often said to have 60,000 parameters. This is not a rounded number: the network of 1998 had exactly that many. Its second convolution was not fully connected, which
# saved 900 weights; its pooling layers had 44 weights of their own; its output was not a linear layer, while ours has one with 850. That explains the 61,706 above.
#
# ### And afterwards?
#
# From VGG to ResNet, networks became deeper but not larger. That was one step, not a rule. Here are torchvision's numbers for some later networks.

# %%
# NBVAL_CHECK_OUTPUT
later = {
    "ResNet-152 (2015)": "resnet152",
    "DenseNet-201 (2016)": "densenet201",
    "wide ResNet-101 (2016)": "wide_resnet101_2",
    "ResNeXt-101 (2016)": "resnext101_64x4d",
    "RegNet Y, 128 GF (2020)": "regnet_y_128gf",
    "ViT-H (2020)": "vit_h_14",
}
for name, model_name in later.items():
    print(f"{name:24}{stored_size(model_name):12,} parameters")

# %% [markdown]
# Some became deeper (DenseNet-201), some wider (wide ResNet), some got more parallel paths (ResNeXt); RegNet and the vision transformer ViT are ten times as large. The skip
# connection stayed: all six have one, DenseNet in its own form (section 7).
#
# **Where are VGG-16's 138 million?** Its convolutions are grouped into stages, from one pooling to the next, and the channels double from stage to stage, from 64 up to 512. But
# most of the parameters are elsewhere:

# %%
with torch.device("meta"):
    vgg = zoo.vgg16()
dense, first = num_parameters(vgg.classifier), num_parameters(vgg.classifier[0])
fact(
    "Nearly nine tenths of VGG-16's parameters are in its three dense layers",
    dense / num_parameters(vgg) > 0.89,
    f"{dense:,} of {num_parameters(vgg):,}; {first:,} in the first of them",
)

# %% [markdown]
# In their place, GoogLeNet and later networks average each channel to one number: **global average pooling**. That left more parameters for depth.
#
# ### Why not deeper, sooner?
#
# | what held depth back | then | what changed |
# |---|---|---|
# | data | LeNet-5: 60,000 digits | ImageNet (2009), and its yearly challenge from 2010 on: 1.2 million labelled photos |
# | compute | LeNet-5: two to three days on one processor of 200 MHz | AlexNet: five to six days on two GPUs of 3 GB; it was split in two, as one GPU could not hold it |
# | training | with sigmoid and tanh, gradients vanish; VGG's deep versions began with layers of a trained network of 11 | ReLU, initialisation, batch normalisation (notebook 01) |
#
# By 2015 all three problems had been eased, and gradients no longer vanished. And still, deeper was not better. Section 3 shows this.

# %% [markdown] slideshow={"slide_type": "notes"}
# Errata of the slides: one dates ResNet "K. He, 2005"; it appeared in December 2015. Another gives ResNet-152 "about 60 M" parameters; it has 60,192,808. Others round AlexNet and
# VGG: they have 61,100,840 and 138,357,544. (Torchvision's AlexNet is the one-GPU version of Krizhevsky 2014, so it is a little larger than the "60 million" of 2012.)

# %% [markdown]
# **Exercise 1** (3 min): the longest way. `inputs` is a dict in the order of computing, such as `{"conv1": [], "conv2": ["conv1"], "sum": ["conv1", "conv2"]}`: it names for each
# layer those whose outputs it takes (`[]` means the picture). `weighted` is the set of layers with weights, such as `{"conv1", "conv2"}`. Return the depth of the network.
#
# Write your answer in place of the dots and run the cell: the check says what it expected and what it got. Stuck? Remove a `#` in the cell below.


# %%
def longest_way(inputs, weighted):
    ...


exercises.longest_way.check(longest_way)

# %% slideshow={"slide_type": "skip"}
# exercises.longest_way.hint()
# exercises.longest_way.solution()

# %% [markdown]
# ## 2. LeNet-5, then and now (10 min)
#
# LeNet-5 takes pictures of 32 x 32 pixels. Scikit-learn's digits, which you know from notebooks 00 and 01, have 8 x 8. We enlarge them.


# %% tags=["measure"]
splits = datasets.digits()
pixels = splits.train.images.float()


def prepare(images):
    """Digits of mean 0 and standard deviation 1."""
    return (images.float() - pixels.mean()) / pixels.std()


# %% tags=["measure"]
train_data, val_data, test_data = (
    TensorDataset(prepare(split.images), split.targets["label"])
    for split in (splits.train, splits.val, splits.test)
)


# %%
def enlarged(data):
    images, labels = data.tensors
    return TensorDataset(F.interpolate(images, size=(32, 32), mode="bilinear"), labels)


large_train, large_val, large_test = map(enlarged, (train_data, val_data, test_data))

# %% [markdown]
# We follow a digit on its way through the network. Each 5 x 5 convolution without padding removes 4 pixels from the side, and each pooling halves the side. The last convolution
# covers everything that is left.

# %%
# NBVAL_CHECK_OUTPUT
x = large_train.tensors[0][:1]
for layer in LeNet5().features:
    x = layer(x)
    print(f"{type(layer).__name__:10}", tuple(x.shape))

# %% [markdown]
# We train it in two forms. The form of 1998 has tanh, average pooling and stochastic gradient descent (LeCun and others gave each weight its own step size, which we leave out).
# Today we would use ReLU, max pooling and Adam. The layers are the same, with the same 61,706 parameters.


# %%
def train_lenet(activation, pooling, make_optimizer):
    """The network, and its error on validation digits (%) after each epoch."""
    model = LeNet5(activation, pooling).to(device)
    train_loader = DataLoader(large_train, batch_size=64, shuffle=True)
    val_loader = DataLoader(large_val, batch_size=400)
    optimizer = make_optimizer(model.parameters())
    history = fit(
        model, train_loader, val_loader, num_epochs=8, optimizer=optimizer, bf16=False,
        progress="LeNet-5",
    )  # fmt: skip
    return model, [100 * (1 - right) for right in history["val_accuracy"]]


# %%
def sgd_of_1998(weights):
    return torch.optim.SGD(weights, lr=0.1)


def adam_of_today(weights):
    return torch.optim.Adam(weights, lr=2e-3)


forms = {
    "1998": (nn.Tanh, nn.AvgPool2d, sgd_of_1998),
    "today": (nn.ReLU, nn.MaxPool2d, adam_of_today),
}

# %% [markdown]
# **Before you run it:** what share of new digits does a network of 1998 read correctly, in either form?
#
# <details><summary>Answer</summary>
#
# More than nine in ten, in both. The design was right from the start.
#
# </details>

# %%
lenet = {name: [] for name in forms}
for seed in range(3 * course_seed, 3 * course_seed + 3):
    torch.manual_seed(seed)
    for name, form in forms.items():
        lenet[name].append(train_lenet(*form))

# %%
# extra code: the curves on validation digits
fig, ax = plt.subplots()
ax.set(ylim=(0, 60), xlim=(0.7, 9.3), xticks=range(1, 9))
by_epoch = {name: [errors for _, errors in runs] for name, runs in lenet.items()}
curves(ax, by_epoch, xlabel="epoch", ylabel="error on validation digits (%)", title="LeNet-5 reads digits in either form")
show(fig, f"Error on {len(large_val)} validation digits against epochs, with the range of three seeds as a band and the median as a line.")


# %% tags=["measure"]
def error(model, data):
    """Per cent of wrong answers, in evaluation mode."""
    loader = DataLoader(data, batch_size=400)
    return 100 * (1 - evaluate(model, loader, bf16=False)["accuracy"])


# %%
wrong = {
    name: [error(model, large_test) for model, _ in runs]
    for name, runs in lenet.items()
}
claim(
    "LeNet-5 reads over nine in ten test digits, in the form of 1998 and in today's",
    max(map(max, wrong.values())) < 10,
    ", ".join(f"{name} {np.mean(part):.1f} % wrong" for name, part in wrong.items()),
    same=f"{len(large_train):,} digits, 8 epochs, 3 seeds, the same layers",
)

# %% [markdown]
# Today's curve drops sooner. But three things changed at once, and the two learning rates were not chosen with equal care. So the figure does not say which change helps. To find
# out, change one thing in `forms` at a time, and choose the rate on the validation digits.

# %% [markdown]
# ## 3. The degradation problem (17 min)
#
# (This section needs the digits of section 2: run that section's cells.)
#
# Now we use the digits in their original size, 8 x 8, and networks of any depth. They all have the same structure: a first convolution, then **blocks** of two convolutions, then
# global average pooling and one linear layer. All feature maps have 16 channels of 8 x 8. The networks use everything from notebook 01: ReLU, He's initialisation, batch
# normalisation.


# %% tags=["measure"]
def conv3x3(in_channels, out_channels, stride=1):
    return nn.Conv2d(
        in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False
    )


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
# There is one switch, `skip`. For now it stays off, so the blocks are **plain**. (The convolutions have no bias: the batch normalisation after each would subtract it again.)


# %% tags=["measure"]
def network(depth, skip, channels=16, block=Block):
    """`depth` layers with weights: a first one, two in each block, the linear one."""
    first = [conv3x3(1, channels), nn.BatchNorm2d(channels), nn.ReLU()]
    blocks = [block(channels, skip) for _ in range((depth - 2) // 2)]
    last = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]
    return he(nn.Sequential(*first, *blocks, *last)).to(device)


# %% tags=["measure"]
def he(model):
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return model


# %% [markdown]
# Every network gets the same **budget**: 12 epochs. The learning rate rises to its highest value and falls again. The optimizer is SGD with momentum (each step also follows the
# steps before it, as a rolling ball does), and later Adam. (`weight_decay` makes every weight a little smaller in each step: notebook 08, section 4.)


# %% tags=["measure"]
def sgd(model, lr=0.05):
    weights = model.parameters()
    return torch.optim.SGD(weights, lr=lr, momentum=0.9, weight_decay=1e-4)


def adam(model, lr=5e-3):
    return torch.optim.Adam(model.parameters(), lr=lr)


# %% tags=["measure"]
def train(model, num_epochs=12, optimizer=None, progress="training"):
    train_loader = DataLoader(train_data, batch_size=64, shuffle=True)
    optimizer = optimizer or sgd(model)
    steps = num_epochs * len(train_loader)
    max_lr = optimizer.defaults["lr"]
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr, steps)
    return fit(
        model, train_loader, num_epochs=num_epochs, optimizer=optimizer,
        scheduler=scheduler, bf16=False, progress=progress,
    )  # fmt: skip


# %%
nets, histories, errors = {}, {}, {}


def run(depth, skip):
    torch.manual_seed(course_seed)
    key = ("residual" if skip else "plain"), depth
    nets[key] = network(depth, skip)
    history = train(nets[key], progress=f"{key[0]}, {depth} layers")
    histories[key] = [100 * (1 - right) for right in history["train_accuracy"]]
    errors[key] = error(nets[key], train_data)


# %% [markdown]
# **Before you run it:** we train plain networks of 8 and 56 layers and compare their errors on the digits that they are **trained on**. Overfitting (memorising the training data,
# as in notebook 00) cannot raise this error. Which depth has the lower one?
#
# <details><summary>Answer</summary>
#
# The shallow one. This is surprising: the deep network can do everything that the shallow one can, and more.
#
# </details>

# %%
for depth in (8, 56):
    run(depth, skip=False)


# %%
# extra code: training error against epochs, one line a depth
def training_curves(kinds):
    fig, axes = plt.subplots(1, len(kinds), figsize=(9, 4.8), sharey=True, squeeze=False)
    titles = {"plain": "Plain: more layers, more error", "residual": "Residual: depth does no harm"}
    for ax, kind in zip(axes[0], kinds, strict=True):
        ax.set(ylim=(-4, 100), xlim=(0.5, 16 if len(kinds) == 1 else 21), xticks=[1, 4, 8, 12])
        lines = {f"{depth} layers: {errors[kind, depth]:.1f} %": histories[kind, depth] for depth in (8, 56)}
        curves(ax, lines, "epoch", "error on training digits (%)" if kind == kinds[0] else "", titles[kind])
    return fig


show(training_curves(["plain"]), "Training error of plain networks of 8 and 56 layers in each epoch; beside the depth, the error after training, in evaluation mode.")

# %% [markdown]
# He and others (2015) saw this on CIFAR-10 and on ImageNet, and named it **degradation**. It is not overfitting, because the training error itself is high. It is not the vanishing
# gradient of notebook 01 either: batch normalisation prevents that. (Section 9 measures the gradients, and finds something else.)
#
# ### A better deep network exists
#
# Take the trained network of 8 layers. Behind its blocks add 24 plain blocks that pass their input on unchanged: their kernels have a 1 in the middle and 0 elsewhere. The result
# is a plain network of 56 layers.


# %%
def identity_block(channels=16):
    block = Block(channels, skip=False).to(device)
    nn.init.dirac_(block.conv1.weight)  # 1 in the middle, from each channel to itself
    nn.init.dirac_(block.conv2.weight)
    return block  # in evaluation mode fresh batch normalisation does nothing


# %%
shallow = nets["plain", 8]
more = [identity_block() for _ in range(24)]
built = nn.Sequential(*shallow[:-3], *more, *shallow[-3:])
loader = DataLoader(train_data, batch_size=400)
outputs = [predict(model, loader, bf16=False)[0] for model in (shallow, built)]
fact(
    "There is a plain network of 56 layers that is as good as the one of 8",
    depth_of(built) == 56 and torch.allclose(*outputs, rtol=1e-3, atol=1e-2),
    f"built by hand {error(built, train_data):.1f} % training error,"
    f" trained {errors['plain', 56]:.1f} %",
)

# %% [markdown]
# So the deep networks *contain* the shallow ones. (Zhang and others, *Dive into Deep Learning* 8.6, draw this as **nested function classes**: if the larger class contains the
# smaller, its best member cannot be worse.) But it is not enough that a good network exists. Training must also find it, and it does not.
#
# ### Is it the recipe?
#
# So far we used one learning rate, one optimizer and 12 epochs. Perhaps another recipe suits deep networks better? Trying this takes too long for a lesson, so it was measured
# beforehand, with the same code: five recipes, and for the best of them also three and nine times the budget.

# %%
rows = measured("degradation")


def training_errors(kind="plain", depth=56, optimizer="SGD", lr=0.05, epochs=12):
    """The training error of each seed of the table."""
    wanted = (kind, depth, optimizer, lr, epochs)
    names = ("kind", "depth", "optimizer", "lr", "epochs")
    same = [row for row in rows if tuple(row[name] for name in names) == wanted]
    return np.array([row["training_error"] for row in same])


# %%
recipes = [("SGD", 0.01), ("SGD", 0.05), ("SGD", 0.2), ("Adam", 0.001), ("Adam", 0.005)]
budgets = (12, 36, 108)


# %% [markdown]
# **Before you run it:** does another recipe close the gap? Does more training?
#
# <details><summary>Answer</summary>
#
# None of the other four does. Three times the budget narrows the gap. With nine times the budget it is gone (two seeds).
#
# </details>

# %%
# extra code: a row for each recipe and each budget, a dot for each seed
def recipes_figure():
    settings = [(f"{name} {lr:g}, 12 epochs", {"optimizer": name, "lr": lr}) for name, lr in recipes]
    settings += [(f"SGD 0.05, {epochs} epochs", {"epochs": epochs}) for epochs in budgets[1:]]
    fig, ax = plt.subplots(figsize=(9, 5.4))
    for row, (_, setting) in enumerate(settings):
        for depth, colour in ((56, "C1"), (8, "C0")):
            found = training_errors(depth=depth, **setting)
            ax.plot(found, [row] * len(found), "o", color=colour, alpha=0.6, markersize=10)
    ax.axhline(len(recipes) - 0.5, color="gray", linewidth=1)
    ax.annotate("8 layers", (-3, -0.75), color="C0", fontweight="bold")
    ax.annotate("56 layers", (70, -0.75), color="C1", fontweight="bold", ha="center")
    ax.set(yticks=range(len(settings)), yticklabels=[name for name, _ in settings], xlim=(-6, 92), ylim=(len(settings) - 0.5, -1))
    ax.set_xlabel("error on training digits (%), one dot per seed")
    ax.set_title("No rate closes the gap; nine times the budget does", x=-0.3)
    return fig


show(recipes_figure(), "Training error of plain networks of 8 and of 56 layers, a row for each recipe, a dot for each seed; the two lowest rows have three and nine times the budget.")

# %%
found = {r: [training_errors("plain", d, *r) for d in (8, 56)] for r in recipes}
gaps = [deep.min() - shallow.max() for shallow, deep in found.values()]
claim(
    "After 12 epochs, all 5 recipes leave 56 plain layers the higher training error",
    errors["plain", 56] > errors["plain", 8] + 25 and min(gaps) > 15,
    f"this run {errors['plain', 56]:.0f} % against {errors['plain', 8]:.1f} %;"
    f" worst of 8 layers and best of 56 are at least {min(gaps):.0f} points apart",
    same=f"{len(train_data):,} digits, 12 epochs, for each of {len(recipes)} recipes",
)

# %% [markdown]
# None of these recipes changes where the network *starts*: section 5 does. And with more training?

# %%
by_budget = {epochs: training_errors(epochs=epochs) for epochs in budgets}
claim(
    "Three times the budget narrows the gap, and nine times closes it (two seeds)",
    by_budget[36].min() > training_errors(depth=8).max() + 2
    and by_budget[36].max() + 10 < min(by_budget[12].min(), errors["plain", 56])
    and by_budget[108].max() < 1,
    "; ".join(
        f"{epochs} epochs: {e.min():.1f} to {e.max():.1f} % ({len(e)} seeds)"
        for epochs, e in by_budget.items()
    ),
    same="56 plain layers, SGD at 0.05",
)

# %% [markdown]
# He and others also asked this, on ImageNet (section 4.1 of their paper, third footnote). With three times the iterations they still observed degradation, and concluded that more
# iterations are not a feasible solution. They conjecture that deep plain networks converge exponentially slowly. Our measurements fit this: with enough training the deep network
# gets there, but the network of 8 layers is done after 12 epochs.

# %% [markdown] slideshow={"slide_type": "notes"}
# Stop here and let the class argue. The deep network CAN do it: most of its blocks only have to do nothing. How would you change a block so that doing nothing becomes easy? (In
# He's paper the curves are figure 1, plain, and figure 6, CIFAR-10: plain left, residual in the middle.)

# %% [markdown]
# **Exercise 2** (3 min): kernels that do nothing. Return the weights (channels, channels, 3, 3) of a convolution with padding 1 that passes every channel on unchanged. Do not use
# `dirac_`.


# %%
def identity_kernel(channels):
    ...


exercises.identity_kernel.check(identity_kernel)

# %% slideshow={"slide_type": "skip"}
# exercises.identity_kernel.hint()
# exercises.identity_kernel.solution()

# %% [markdown]
# ## 4. The identity, easy and hard (9 min)
#
# So doing nothing seems to be difficult. Suppose that a block should pass its input on unchanged: $y = x$. What must its weights be?
#
# $$\text{plain: } y = \mathrm{relu}(f(x)),\ f(x) = x \qquad\qquad \text{residual: } y = \mathrm{relu}(x + f(x)),\ f(x) = 0$$
#
# A plain block has to find, twice, kernels that pass each channel on unchanged, and scales that undo the two normalisations. A residual block only has to make $f$ zero: the last
# scale $\gamma$, 16 numbers, must go to zero.
#
# We test this with one untrained block. Its task is to return its input, feature maps that the first layers of a network compute from digits. We try three learning rates for each
# kind of block, with SGD.

# %%
with torch.no_grad():
    feature_maps = network(8, skip=False)[:3](train_data.tensors[0].to(device))
spread = feature_maps.var(dim=(0, 2, 3)).mean()  # the error of the best constant


# %%
def learn_identity(block, optimizer, num_steps=300):
    """The squared error in each step, as a share of the spread of the data."""
    shares = []
    for _ in range(num_steps):
        x = feature_maps[torch.randint(len(feature_maps), (64,))]
        loss = F.mse_loss(block(x), x) / spread
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        shares.append(loss.item())
    return shares


# %% [markdown]
# **Before you run it:** which block learns to do nothing?
#
# <details><summary>Answer</summary>
#
# Both get closer as they train. But at each rate the residual block is far ahead.
#
# </details>

# %%
def untrained(kind):
    torch.manual_seed(course_seed)
    return he(Block(16, skip=kind == "residual")).to(device)


identity = {"plain": {}, "residual": {}}
for kind, curves_by_rate in identity.items():
    for lr in tqdm((0.05, 0.2, 0.5), desc=f"{kind} block", leave=False):
        block = untrained(kind)
        optimizer = torch.optim.SGD(block.parameters(), lr, momentum=0.9)
        curves_by_rate[lr] = learn_identity(block, optimizer)

# %%
last = {
    kind: {lr: np.mean(shares[-20:]) for lr, shares in curves_by_rate.items()}
    for kind, curves_by_rate in identity.items()
}
best_lr = {kind: min(found, key=found.get) for kind, found in last.items()}

# %%
# extra code: each block at its best rate
fig, ax = plt.subplots()
ax.set_yscale("log")
lines = {f"{kind}, rate {best_lr[kind]:g}": by_rate[best_lr[kind]] for kind, by_rate in identity.items()}
curves(ax, lines, xlabel="step", ylabel="error (1 = a constant answer)", title="Doing nothing, with SGD: easy with a skip, hard without")
ax.set(xlim=(-10, 430), xticks=[0, 100, 200, 300])
show(fig, "Relative squared error of a block that should return its input, on a logarithmic axis, against training steps, each kind at the best of three rates.")

# %% [markdown]
# Is it the optimizer? With Adam, every weight has a step size of its own. It gets five times as many steps.

# %%
with_adam = {}
for kind in tqdm(identity, desc="with Adam", leave=False):
    block = untrained(kind)
    optimizer = torch.optim.Adam(block.parameters(), lr=0.01)
    shares = learn_identity(block, optimizer, num_steps=1500)
    with_adam[kind] = [np.mean(shares[step - 20 : step]) for step in (300, 1500)]
    early, late = (f"{100 * error:.2f} %" for error in with_adam[kind])
    print(f"{kind}: {early} after 300 steps of Adam, {late} after 1,500")

# %%
plain_best, residual_worst = min(last["plain"].values()), max(last["residual"].values())
plain_late, residual_late = with_adam["plain"][1], with_adam["residual"][1]
claim(
    "A residual block learns the identity several times better than a plain one",
    plain_best > 5 * residual_worst and plain_late > 5 * residual_late,
    f"remaining error: SGD, residual {100 * residual_worst:.3f} % at its worst rate,"
    f" plain {100 * plain_best:.2f} % at its best;"
    f" Adam, {100 * residual_late:.3f} % and {100 * plain_late:.2f} %",
    same="one block, the same maps; SGD: 300 steps, three rates; Adam: 1,500 steps",
)

# %% [markdown]
# With Adam the lead comes late: after 300 steps the two blocks are close.
#
# A plain block *could* do it. We can set its weights by hand: kernels with a 1 in the middle, and scales and shifts that undo what batch normalisation does to these maps.


# %% tags=["measure"]
@torch.no_grad()
def identity_start(model):
    """Plain blocks that hand on the feature maps of the training digits."""
    maps = model[:3](train_data.tensors[0].to(device))
    for block in model[3:-3]:
        for conv, bn in ((block.conv1, block.bn1), (block.conv2, block.bn2)):
            nn.init.dirac_(conv.weight)
            bn.weight.copy_(maps.std(dim=(0, 2, 3)))
            bn.bias.copy_(maps.mean(dim=(0, 2, 3)))
    return model


# %%
torch.manual_seed(course_seed)
model = identity_start(network(4, skip=False))  # one block
with torch.no_grad():
    x = model[:3](train_data.tensors[0][:64].to(device))
    by_hand = (F.mse_loss(model[3](x), x) / spread).item()
claim(
    "Set by hand, a plain block is far closer to the identity than a trained one",
    by_hand < 0.2 * min(plain_best, plain_late),
    f"remaining error {100 * by_hand:.2f} %, trained"
    f" {100 * min(plain_best, plain_late):.2f} % at best",
    same="one block, digits of one batch",
)

# %% [markdown]
# All this is about *one* block. In a deep network, the changes of many blocks add up. There is a remedy, and torchvision offers it as an option (`zero_init_residual`): **start
# with the last scale $\gamma$ at zero**. Then every residual block *is* the identity before training, and so is any number of them in a row.

# %%
blocks = nn.Sequential(*[Block(16, skip=True) for _ in range(27)]).to(device)
for block in blocks:
    nn.init.zeros_(block.bn2.weight)
x = feature_maps[:64]
fact(
    "With the last scales at zero, 27 residual blocks pass their input on unchanged",
    torch.equal(blocks(x), x),
    f"{len(blocks)} blocks, {num_parameters(blocks):,} parameters",
)

# %% [markdown]
# **Exercise 3** (3 min): begin as the identity. In a `Block` with a skip, set to zero what is needed so that the block begins as the identity and *can still learn*. Return the
# block. Its parts are called `conv1`, `bn1`, `conv2`, `bn2`.


# %%
def begin_as_identity(block):
    ...


exercises.begin_as_identity.check(begin_as_identity)

# %% slideshow={"slide_type": "skip"}
# exercises.begin_as_identity.hint()
# exercises.begin_as_identity.solution()

# %% [markdown]
# ## 5. The residual block (17 min)

# %%
# extra code: three blocks, drawn from top to bottom
BLOCKS = {
    "VGG's": ["conv 3 x 3", "BN", "ReLU", "conv 3 x 3", "BN", "ReLU"],
    "residual": ["conv 3 x 3", "BN", "ReLU", "conv 3 x 3", "BN", "+", "ReLU"],
    "pre-activation": ["BN", "ReLU", "conv 3 x 3", "BN", "ReLU", "conv 3 x 3", "+"],
}
FILL = {"conv 3 x 3": "#cfe3f5", "BN": "#eeeeee", "ReLU": "#fde0c5"}


def draw_block(ax, name, steps):
    arrow = {"arrowstyle": "-|>", "color": "black", "linewidth": 2, "shrinkA": 0, "shrinkB": 0}
    look = {"ha": "center", "va": "center", "fontsize": 15}
    ax.text(0, 0, "x", fontweight="bold", **look)
    for number, step in enumerate(steps, start=1):
        y = -number
        ax.annotate("", (0, y + 0.3), (0, y + 0.7 if number > 1 else y + 0.78), arrowprops=arrow)
        if step == "+":
            ax.add_patch(plt.Circle((0, y), 0.29, facecolor="C1", edgecolor="black", zorder=3))
            ax.text(0, y - 0.02, "+", color="white", fontweight="bold", zorder=4, **look | {"fontsize": 22})
            ax.plot([0.22, 1.35, 1.35], [0, 0, y], color="C1", linewidth=4, solid_joinstyle="round")
            ax.annotate("", (0.3, y), (1.37, y), arrowprops=arrow | {"color": "C1", "linewidth": 4, "mutation_scale": 20})
            ax.text(1.45, y / 2, "shortcut: x", color="C1", rotation=90, fontweight="bold", **look | {"ha": "left"})
        else:
            ax.add_patch(plt.Rectangle((-0.95, y - 0.3), 1.9, 0.6, facecolor=FILL[step], edgecolor="black"))
            ax.text(0, y, step, **look)
    end = -len(steps) - 0.95
    ax.annotate("", (0, end + 0.22), (0, end + 0.65), arrowprops=arrow)
    ax.text(0, end, "y", fontweight="bold", **look)
    ax.set(xlim=(-1.1, 2.1), ylim=(-8.2, 0.4))
    ax.set_title(name, loc="center")
    ax.axis("off")


def blocks_figure():
    fig, axes = plt.subplots(1, 3, figsize=(9, 7.4))
    for ax, (name, steps) in zip(axes, BLOCKS.items(), strict=True):
        draw_block(ax, name, steps)
    fig.suptitle("One plus sign, and where it stands", fontweight="bold", fontsize=16)
    return fig


show(blocks_figure(), "Three blocks, from x above to y below. VGG's (with batch normalisation): two convolutions in a row, each with BN and ReLU. Residual: a line leads from x past both and is added before the last "
     "ReLU. Pre-activation: BN and ReLU come before each convolution, and there is nothing on the shortcut from x to y.")  # fmt: skip

# %% [markdown]
# The left one is our plain block. (The VGG of 2014 had no batch normalisation, BN; that came a year later.) The middle one is our block with `skip=True`. Here it is line by line,
# with the shapes. Its input is the feature maps of four digits (a **feature map** is one channel of a layer's result).

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
fact(
    "These lines are the block: calling it gives the same result",
    torch.allclose(y, block(x), atol=1e-6),
    f"largest difference {(y - block(x)).abs().max():.0e}",
)

# %% [markdown]
# Three details that are easy to get wrong:
#
# - **There is no ReLU before the sum.** With one, $f(x) \ge 0$, and a block could never make a number smaller.
# - **The sum comes before the last ReLU**, so the next block again gets non-negative maps.
# - **The shortcut has no weights.** It adds no parameters and, compared with two convolutions, takes almost no time.

# %%
plain, residual = (network(56, skip) for skip in (False, True))
fact(
    "A plain and a residual network of 56 layers have the same number of parameters",
    num_parameters(plain) == num_parameters(residual) and depth_of(residual) == 56,
    f"{num_parameters(plain):,} and {num_parameters(residual):,}",
)

# %% [markdown]
# **Before you run it:** we repeat the experiment of section 3 and change only `skip=True`. What do you expect?
#
# <details><summary>Answer</summary>
#
# The deep network trains as well as the shallow one, down to almost no training error.
#
# </details>

# %%
for depth in (8, 56):
    run(depth, skip=True)

# %%
# extra code: plain and residual side by side
show(training_curves(["plain", "residual"]), "Training error against epochs at 8 and 56 layers, plain left, residual right; beside the depth, the error after training.")

# %%
new = {kind: error(nets[kind, 56], test_data) for kind in ("plain", "residual")}
gain = errors["plain", 56] - errors["residual", 56]
claim(
    "At 56 layers, one plus sign per block makes the difference, on test digits too",
    errors["residual", 56] < errors["residual", 8] + 1
    and gain > 20 and new["plain"] > new["residual"] + 20,
    f"training error {errors['residual', 56]:.1f} % instead of"
    f" {errors['plain', 56]:.1f} %;"
    f" test {new['residual']:.1f} % instead of {new['plain']:.1f} %",
    same=f"{num_parameters(plain):,} parameters, {len(train_data):,} digits, 12 epochs",
)

# %% [markdown]
# ### On ten seeds
#
# A single run of each network proves little. The table of section 3 has this experiment on ten seeds and at five depths.


# %%
# extra code: the range of ten seeds as a band
def band_figure(all_depths=(8, 20, 32, 44, 56)):
    fig, ax = plt.subplots(figsize=(9, 5))
    ax.set(ylim=(-4, 100), xlim=(6, 68), xticks=all_depths)
    lines = {kind: np.array([training_errors(kind, depth) for depth in all_depths]).T for kind in ("plain", "residual")}
    curves(ax, lines, "layers", "error on training digits (%)", "Plain networks degrade with depth, residual ones do not", x=all_depths)
    return fig


show(band_figure(), "Training error against depth, measured earlier: the range of ten seeds as a band, the median as a line.")

# %%
gaps = {
    depth: training_errors("plain", depth) - training_errors("residual", depth)
    for depth in (20, 32, 44, 56)
}
claim(
    "From 44 layers on, the plus sign lowers the training error on each of ten seeds",
    min(gaps[44].min(), gaps[56].min()) > 10 and gain > 20,
    ", ".join(f"{depth} layers: {gap.mean():.0f} points" for depth, gap in gaps.items())
    + f"; this run, 56 layers: {gain:.0f}",
    same="digits, 12 epochs of SGD at 0.05, parameters; compared seed by seed",
)

# %%
worst = {r: training_errors("residual", 56, *r).max() for r in recipes}
claim(
    "With the plus sign, 56 layers train well with every recipe of section 3",
    max(worst.values()) < 2 and errors["residual", 56] < 2,
    "training error of the worst seed: "
    + ", ".join(f"{name} {lr:g}: {e:.1f} %" for (name, lr), e in worst.items()),
    same="56 layers, 12 epochs",
)

# %% [markdown]
# With the slowest of these recipes, SGD at 0.01, not even the 8 plain layers were fully trained (the first row of the figure in section 3).
#
# ### The plus sign, or the start?
#
# In a residual network, $x$ can pass through all blocks from the start. Perhaps that is all that matters? To find out, we start a *plain* network with `identity_start` of section
# 4, and train it as before.

# %%
begun = training_errors("plain, begun as the identity")
random = np.append(training_errors("plain"), errors["plain", 56])
with_skip = np.append(training_errors("residual"), errors["residual", 56])
claim(
    "Starting at the identity removes most of the training error, the plus sign more",
    begun.max() < 0.5 * random.min() and with_skip.max() < begun.min(),
    f"training error {begun.min():.1f} to {begun.max():.1f} % ({len(begun)} seeds),"
    f" from a random start {random.min():.0f} to {random.max():.0f} %,"
    f" with the plus sign {with_skip.max():.1f} % at most",
    same="56 layers, 12 epochs of SGD at 0.05",
)

# %% [markdown]
# So the starting point explains most of the degradation here. The plus sign gives a good start for free, and needs no data to set it. At this budget it is better still: the worst
# network with the plus sign has a lower error than the best of these. Longer training from this start was not tried.

# %% [markdown]
# ### VGG and ResNet, whole
#
# Both are stacks of 3 x 3 convolutions, in stages: when the picture becomes half as wide, the channels double. We read the shapes from torchvision's networks with **hooks**,
# functions that PyTorch calls whenever a layer has computed its result. Ours record the result and are then removed.


# %%
def outputs_of(model, kinds, images):
    """(layer, output) for each layer of these kinds, in the order of computing."""
    found = []
    hooks = [
        layer.register_forward_hook(lambda layer, _, out: found.append((layer, out)))
        for layer in model.modules() if isinstance(layer, kinds)
    ]  # fmt: skip
    model(images)
    for hook in hooks:
        hook.remove()
    return found


# %%
with torch.device("meta"):
    models = {"VGG-16": zoo.vgg16(), "ResNet-18": zoo.resnet18()}
    picture = torch.empty(1, 3, 224, 224)
drawn = {}
for name, model in models.items():
    found = outputs_of(model, (nn.Conv2d, nn.Linear), picture)
    main = [pair for pair in found if getattr(pair[0], "kernel_size", 0) != (1, 1)]
    drawn[name] = [(layer, out.shape) for layer, out in main]
[tuple(shape) for _, shape in drawn["ResNet-18"][:3]]


# %%
# extra code: one box a layer, coloured by the size of its maps, arcs for skips
def architecture_figure():
    fig, axes = plt.subplots(2, 1, figsize=(9, 6.4), height_ratios=[1, 1.35])
    for ax, (name, layers) in zip(axes, drawn.items(), strict=True):
        places = {}
        for i, (layer, shape) in enumerate(layers):
            place = "dense" if isinstance(layer, nn.Linear) else f"{shape[-1]}"
            shade = 0 if place == "dense" else 0.05 + np.log2(224 / shape[-1]) / 6
            ax.add_patch(plt.Rectangle((i, 0), 0.84, 1, facecolor="lightgray" if place == "dense" else plt.cm.viridis_r(shade), edgecolor="black"))
            ax.text(i + 0.42, 0.5, f"{shape[1]}", ha="center", va="center", rotation=90, fontsize=16, color="black" if shade < 0.35 else "white", fontweight="bold")
            places.setdefault(place, []).append(i)
        for place, boxes in places.items():
            ax.text((boxes[0] + boxes[-1] + 0.84) / 2, -0.08, place, ha="center", va="top", fontsize=15)
        if name == "ResNet-18":
            draw_skips(ax, [shape for _, shape in layers])
        ax.set(xlim=(-0.1, 18), ylim=(-0.35, 1.05 if name == "VGG-16" else 1.6))
        ax.set_title(f"{name}: {len(layers)} layers, {num_parameters(models[name]) / 1e6:.0f} million parameters")
        ax.axis("off")
    return fig


def draw_skips(ax, shapes):
    look = {"arrowstyle": "-|>", "connectionstyle": "arc3,rad=-0.55", "linewidth": 3, "color": "C1", "mutation_scale": 16}
    for i in range(1, len(shapes) - 1, 2):
        dashed = shapes[i][1] != shapes[i - 1][1]
        ax.annotate("", (i + 1.9, 1.02), (i - 0.05, 1.02), arrowprops=look | {"linestyle": "--" if dashed else "-"})


show(architecture_figure(), "VGG-16 above, ResNet-18 below, a box for each layer: in it the number of channels, below it the side of the maps, which also gives the colour. ResNet has an arc over every pair of convolutions, "
     "dashed where channels double and maps halve.")  # fmt: skip

# %% [markdown]
# VGG keeps large maps for longer (224, 112) and ends in three wide dense layers. ResNet quickly shrinks the maps to 56 x 56, averages each channel at the end, and has one dense
# layer. Each arc is a plus sign. Three of them are dashed: there the shapes do not match (section 6).

# %% [markdown] slideshow={"slide_type": "notes"}
# Show the two training curves side by side and let the class describe them: same layers, same number of weights, same data, same budget. Only the training error is shown, so
# nobody can say "overfitting".

# %% [markdown]
# **Exercise 4** (3 min): from the drawing to the code. Write the right-hand block of the drawing, **pre-activation**. The layers are given; ReLU is `F.relu`. The shapes match.


# %%
def preactivation_forward(x, bn1, conv1, bn2, conv2):
    ...


exercises.preactivation_forward.check(preactivation_forward)

# %% slideshow={"slide_type": "skip"}
# exercises.preactivation_forward.hint()
# exercises.preactivation_forward.solution()

# %% [markdown]
# ## 6. When shapes do not match (22 min)
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
# **A: the identity, subsampled and padded.** It takes every second pixel, and zeros for the new channels. It has no parameters. (`F.pad` takes its
# pairs from the last axis on.)


# %% tags=["measure"]
class PaddedIdentity(nn.Module):
    def __init__(self, in_channels, out_channels, stride):
        super().__init__()
        self.stride, self.missing = stride, out_channels - in_channels

    def forward(self, x):
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, 0, self.missing))  # width, height, channels


# %% [markdown]
# **B: a projection where it is needed.** A 1 x 1 convolution with $32 \times 16$ weights mixes the channels of a pixel into new ones; its stride skips the same pixels.


# %% tags=["measure"]
def projection(in_channels, out_channels, stride):
    conv1x1 = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
    return nn.Sequential(conv1x1, nn.BatchNorm2d(out_channels))


# %%
# NBVAL_CHECK_OUTPUT
padded, projected = PaddedIdentity(16, 32, stride=2), projection(16, 32, stride=2)
print("A: padded identity", tuple(padded(x).shape))
print("B: projection     ", tuple(projected(x).shape))
print(f"   with {num_parameters(projected)} parameters")

# %% [markdown]
# **C: projections everywhere**, even where the shapes match and the identity would do.
#
# We train one network with each shortcut. It has 20 layers in three stages of three blocks: 16, 32, 64 channels on 8 x 8, 4 x 4, 2 x 2 pixels. Only the shortcut changes. As a
# control, we train the same network without shortcuts.


# %% tags=["measure"]
class NoShortcut(nn.Module):
    def forward(self, x):
        return 0


def make_shortcut(in_channels, out_channels, stride, option):
    fits = in_channels == out_channels and stride == 1
    if option == "none":
        return NoShortcut()
    if option == "C" or (option == "B" and not fits):
        return projection(in_channels, out_channels, stride)
    return nn.Identity() if fits else PaddedIdentity(in_channels, out_channels, stride)


# %% tags=["measure"]
class StageBlock(nn.Module):
    def __init__(self, in_channels, channels, stride, option):
        super().__init__()
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.conv2 = conv3x3(channels, channels)
        self.bn1, self.bn2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.shortcut = make_shortcut(in_channels, channels, stride, option)

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
    last = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]
    return he(nn.Sequential(*layers, *last)).to(device)


# %%
# NBVAL_CHECK_OUTPUT
for option in ("none", "A", "B", "C"):
    print(f"{option}: {num_parameters(staged_network(option)):,} parameters")

# %% [markdown]
# **Before you run it:** C has the most parameters. Is it the best? (On ImageNet, 34 layers, He and others report 28.5 % error without shortcuts, 25.0 with A, 24.5 with B, 24.2 with C.)
#
# <details><summary>Answer</summary>
#
# Not on the digits after six epochs: C makes more mistakes than A, which has no weights, and about as many as no shortcut at all. Longer training was not tried; with normalised
# projections in every shortcut, C may only be slower. He and others finally left C out: the small gain was not worth its size.
#
# </details>

# %%
shortcut_rows = measured("shortcuts")
by_option = {
    option: np.array([r["test_error"] for r in shortcut_rows if r["option"] == option])
    for option in ("none", "A", "B", "C")
}

# %%
now = {}
for option in tqdm(("none", "A", "B", "C"), desc="four networks", leave=False):
    torch.manual_seed(course_seed)
    model = staged_network(option)
    train(model, num_epochs=6, progress=None)
    now[option] = error(model, test_data)


# %%
# extra code: a row for each option, a dot for each seed
def options_figure():
    fig, ax = plt.subplots(figsize=(9, 4.2))
    names = {"none": "no shortcut", "A": "A: padded identity", "B": "B: projection\nwhere needed", "C": "C: projections\neverywhere"}
    for row, (option, values) in enumerate(by_option.items()):
        colour = f"C{row}"
        ax.plot(values, [row] * len(values), "o", color=colour, markersize=10, alpha=0.6)
        ax.plot(now[option], row + 0.25, "o", color=colour, markersize=8, alpha=0.3)
        ax.annotate(f"{values.mean():.1f} %", (1.02, row), xycoords=("axes fraction", "data"), va="center", fontweight="bold")
    ax.set(yticks=range(4), yticklabels=names.values(), ylim=(3.5, -0.6), xlabel="error on test digits (%), one dot per seed; small: this run")
    ax.set_xlim(left=0)
    ax.set_title("On digits, after six epochs, C has gained nothing", x=-0.25)
    return fig


show(options_figure(), "Test error of networks of 20 layers with each kind of shortcut after six epochs, ten seeds measured earlier, at the right their means; small dots: this run.")

# %%
lead = by_option["C"] - by_option["A"]  # seed by seed
width = 2.26 * lead.std(ddof=1) / len(lead) ** 0.5  # half of the 95 % interval
claim(
    "After 6 epochs all three shortcuts read digits, and C makes more errors than A",
    max(now[option] for option in "ABC") < 8 and lead.mean() - width > 0,
    f"C makes {lead.mean():.1f} ± {width:.1f} points more errors than A; this run "
    + ", ".join(f"{option} {wrong:.1f} %" for option, wrong in now.items()),
    same=f"20 layers, 6 epochs of SGD at 0.05; {len(lead)} seeds",
)

# %% [markdown]
# B became the standard. It is what torchvision calls `downsample`.

# %% [markdown]
# **Exercise 5** (10 min): the projection shortcut. Return a residual block, as a module, for any `in_channels`, `out_channels` and `stride`. It has two 3 x 3 convolutions without bias,
# each with batch normalisation, a ReLU between them and one after the sum, as in section 5. The stride is in the first. The shortcut is a projection (1 x 1 convolution without bias,
# batch normalisation) where shapes differ, and the identity where they match.


# %%
def make_block(in_channels, out_channels, stride):
    ...


exercises.make_block.check(make_block)

# %% slideshow={"slide_type": "skip"}
# exercises.make_block.hint()
# exercises.make_block.solution()

# %% [markdown]
# ## 7. Three relatives (34 min)
#
# ### Pre-activation
#
# A year later, He and others (2016) moved BN and ReLU before each convolution: the block of exercise 4.


# %% tags=["measure"]
class PreBlock(Block):
    def forward(self, x):
        out = self.conv1(F.relu(self.bn1(x)))
        return x + self.conv2(F.relu(self.bn2(out)))


# %% tags=["measure"]
def preactivation_network(depth, channels=16):
    model = network(depth, skip=True, block=PreBlock)
    end = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU()).to(device)
    return model.insert(-3, end)  # the last sum has no ReLU behind it


# %% [markdown]
# Now there is nothing on the shortcut from the first sum to the last. The output of the last block *is* the output of the first layer, plus what each block has added.

# %%
model = preactivation_network(56)
with torch.no_grad():
    start = model[:3](train_data.tensors[0][:64].to(device))
    blocks = outputs_of(model, PreBlock, train_data.tensors[0][:64].to(device))
    added, x = 0, start
    for _, out in blocks:
        added, x = added + (out - x), out
fact(
    "The last block's output is the first block's input plus what all blocks add",
    torch.allclose(x, start + added, rtol=1e-3, atol=1e-3),
    f"{len(blocks)} blocks; numbers up to {x.abs().max():.0f}, largest difference"
    f" {(x - start - added).abs().max():.0e}",
)

# %% [markdown]
# Does it train better? At 56 layers there is nothing left to improve:

# %%
pre = training_errors("pre-activation")
print(f"pre-activation, 56 layers: {pre.min():.1f} to {pre.max():.1f} % training error")

# %% [markdown]
# The difference shows in much deeper networks. For CIFAR-10, He and others report 6.6 % test error for the residual block and 6.4 % for pre-activation with 110 layers; with 1,001
# layers it is 7.6 % and 4.9 %.
#
# ### The gated ancestor: highway networks
#
# Some months before ResNet, Srivastava, Greff and Schmidhuber (2015) trained networks of 100 layers in which every number has a **gate** $t$ between 0 and 1, computed from the
# input:
#
# $$y = t(x) \cdot f(x) + (1 - t(x)) \cdot x, \qquad t(x) = \sigma(w * x + b)$$
#
# With $t = 0$ the layer passes its input on unchanged, with $t = 1$ it is a plain layer. The bias $b$ starts negative, so that at first the gates are nearly shut and the input
# passes through the network almost unchanged.


# %% tags=["measure"]
class Highway(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv, self.bn = conv3x3(channels, channels), nn.BatchNorm2d(channels)
        logit = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.gate = nn.Sequential(logit, nn.Sigmoid())

    def forward(self, x):
        t = self.gate(x)
        return t * F.relu(self.bn(self.conv(x))) + (1 - t) * x


# %% [markdown]
# We test both extremes: a bias of -30 shuts the gates, +30 opens them.

# %%
layer, x = Highway(16).eval(), torch.rand(4, 16, 8, 8)
ends = []
for bias in (-30, 30):
    nn.init.constant_(layer.gate[0].bias, bias)
    ends.append(layer(x))
plain_layer = F.relu(layer.bn(layer.conv(x)))
fact(
    "With its gate shut, a highway layer returns its input; with it open, it is plain",
    torch.allclose(ends[0], x, atol=1e-5)
    and torch.allclose(ends[1], plain_layer, atol=1e-5),
    f"largest difference from the input {(ends[0] - x).abs().max():.0e}",
)


# %% tags=["measure"]
def highway_network(depth, bias=-3):
    """Two highway layers in place of a block; sigmoid(-3) = 0.05: a twentieth open."""

    def two_layers(channels, skip):
        return nn.Sequential(Highway(channels), Highway(channels))

    model = network(depth, skip=None, block=two_layers)
    for layer in model.modules():
        if isinstance(layer, Highway):
            nn.init.zeros_(layer.gate[0].weight)
            nn.init.constant_(layer.gate[0].bias, bias)
    return model


# %% [markdown]
# **Before you run it:** we train 32 layers for 12 epochs with Adam (with SGD at the rate of section 3 the gates hardly move). Does the gate make 32 layers trainable? And what does
# it cost?
#
# <details><summary>Answer</summary>
#
# It does, if the gates begin nearly shut. The gate needs a second convolution in every layer: twice the parameters, and more time. ResNet's shortcut has no gate: both paths are
# always open, and it is free.
#
# </details>

# %%
torch.manual_seed(course_seed)
highway = highway_network(32)
train(highway, optimizer=adam(highway), progress="highway, 32 layers")
highway_error = error(highway, train_data)

# %%
with torch.no_grad():
    gates = outputs_of(highway, nn.Sigmoid, train_data.tensors[0][:256].to(device))
opened = [t.mean().item() for _, t in gates]
print(f"mean gate of a layer: 0.05 at first, now {min(opened):.2f}–{max(opened):.2f}")

# %%
kinds = ("highway", "highway, half open", "plain")
trained = {
    kind: training_errors(kind, 32, "Adam", 0.005, 12) < 2 for kind in kinds
}
shut, half_open, plain = trained.values()
times = num_parameters(highway) / num_parameters(network(32, skip=True))
claim(
    "If gates begin nearly shut, 32 layers train every time; if half open, they do not",
    highway_error < 2 and shut.all() and half_open.mean() <= 0.5 and not plain.any(),
    f"training error {highway_error:.1f} %; below 2 % on {shut.sum()} of {len(shut)}"
    f" seeds, half open {half_open.sum()}, plain {plain.sum()};"
    f" {times:.1f} times the parameters of a residual network",
    same="32 layers, 12 epochs of Adam at 0.005; the seeds measured earlier",
)

# %% [markdown]
# **Exercise 6** (4 min): the highway gate. `f` and `gate` are layers. The gate's output is a logit: it still has to become a number between 0 and 1. Return the highway layer's output for
# input `x`. Compute `f(x)` only once.


# %%
def highway_forward(x, f, gate):
    ...


exercises.highway_forward.check(highway_forward)

# %% slideshow={"slide_type": "skip"}
# exercises.highway_forward.hint()
# exercises.highway_forward.solution()

# %% [markdown]
# ### The collector: DenseNet
#
# Huang and others (2016) do not add, they **concatenate**: every layer gets the maps of *all* layers before it in the block, and appends $k$ new ones; $k$ is the **growth rate**.
# After $l$ layers there are $c_0 + k\,l$ channels.


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
# **Exercise 7** (10 min): a dense block. Return a module of `num_layers` layers. Each is BN, ReLU and a 3 x 3 convolution without bias, like `DenseLayer`. Each layer gets all
# channels before it and appends `growth` new ones. The output has all channels, those of the input first.


# %%
def make_dense_block(in_channels, growth, num_layers):
    ...


exercises.make_dense_block.check(make_dense_block)

# %% slideshow={"slide_type": "skip"}
# exercises.make_dense_block.hint()
# exercises.make_dense_block.solution()

# %% [markdown]
# A later block can undo a sum, but not a concatenation: appended maps stay. So the number of channels keeps growing, and DenseNet does two more things. Before each 3 x 3
# convolution there is a 1 x 1 convolution, a **bottleneck** that always gives 128 channels. And between its blocks there is a **transition**, which halves the channels and the
# side of the maps. Here is DenseNet-121: $c_0 = 64$, $k = 32$, blocks of 6, 12, 24 and 16 such layers.

# %%
with torch.device("meta"):
    densenet = zoo.densenet121()
parts = zoo.densenet._DenseLayer, zoo.densenet._Transition
found = outputs_of(densenet, parts, picture)
grown = [(type(layer).__name__, out.shape[1]) for layer, out in found]
[channels for kind, channels in grown if kind == "_Transition"]

# %%
channels, steps = 64, [64]  # the same by our formula
for num_layers in (6, 12, 24, 16):
    steps += [channels + 32 * number for number in range(1, num_layers + 1)]
    channels = steps[-1] // 2
    steps.append(channels)  # the transition
steps.pop()  # there is none after the last block
steps[-1]

# %%
# extra code: channels through the network
fig, ax = plt.subplots(figsize=(9, 4.6))
ax.step(range(len(steps)), steps, where="mid")
for peak in (6, 19, 44, 61):
    ax.annotate(f"{steps[peak]}", (peak, steps[peak]), xytext=(0, 8), textcoords="offset points", ha="center", fontweight="bold", color="C0")
ax.set(xlabel="dense layers and transitions, in order", ylabel="channels", ylim=(0, 1180), title="DenseNet-121: 32 more channels with each layer, halved three times")
show(fig, f"Number of channels through DenseNet-121: it climbs by 32 with every dense layer, to {steps[6]}, {steps[19]}, {steps[44]} and {steps[61]}, and is halved by the three transitions between the blocks.")

# %%
convs = [m for m in densenet.modules() if isinstance(m, nn.Conv2d)]
side = {s: sum(conv.kernel_size == (s, s) for conv in convs) for s in (1, 3, 7)}
dense_layers = sum(kind == "_DenseLayer" for kind, _ in grown)
transitions = len(grown) - dense_layers
fact(
    "DenseNet-121: 58 layers of two convolutions, 3 transitions, a layer at each end",
    1 + 2 * dense_layers + transitions + 1 == 121 == depth_of(densenet)
    and side == {7: 1, 3: dense_layers, 1: dense_layers + transitions}
    and steps[-1] == densenet.classifier.in_features,
    f"1 + 2 · {dense_layers} + {transitions} + 1 = 121;"
    f" {steps[-1]:,} channels at the end",
)

# %% [markdown]
# ## 8. ResNet-18 in full view (13 min)
#
# Now we write the real ResNet-18, for pictures of 224 x 224 and 1,000 classes. We keep torchvision's names for the parts. First the block: it is the one of section 5, with
# shortcut B (section 6).


# %%
class BasicBlock(nn.Module):
    def __init__(self, in_channels, channels, stride):
        super().__init__()
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.conv2 = conv3x3(channels, channels)
        self.bn1, self.bn2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.downsample = None
        if stride != 1 or in_channels != channels:
            self.downsample = projection(in_channels, channels, stride)

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(shortcut + self.bn2(self.conv2(out)))


# %% [markdown]
# A stage is two blocks; the first of them changes the shape.


# %%
def stage(in_channels, channels, stride):
    first = BasicBlock(in_channels, channels, stride)
    return nn.Sequential(first, BasicBlock(channels, channels, stride=1))


# %% [markdown]
# The whole network has a **stem** that makes the picture small (7 x 7 with stride 2, then pooling), four stages, global average pooling, and one linear layer.


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


# %% [markdown]
# **Before you run it:** what would convince you that this *is* ResNet-18? The same number of parameters? The same names and shapes?
#
# <details><summary>Answer</summary>
#
# Neither is enough: a ReLU in the wrong place changes no parameter and no shape. The same weights and the same pictures must give the same outputs.
#
# </details>

# %%
ours, theirs = ResNet18().eval(), zoo.resnet18().eval()
fact(
    "Our ResNet-18 has as many parameters as torchvision's",
    num_parameters(ours) == num_parameters(theirs) == 11_689_512,
    f"{num_parameters(ours):,} and {num_parameters(theirs):,}",
)

# %%
shapes = [
    {name: tuple(value.shape) for name, value in model.state_dict().items()}
    for model in (ours, theirs)
]
example = "layer2.0.downsample.0.weight"
fact(
    "Every tensor has the same name and the same shape in both",
    shapes[0] == shapes[1],
    f"{len(shapes[0])} tensors, such as {example} {shapes[0][example]}",
)

# %% [markdown]
# Now the outputs. (We draw the means and variances of batch normalisation at random. In a new network they are 0 and 1, and could hide a mistake.)

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
fact(
    "With the same weights our ResNet-18 gives the same outputs as torchvision's",
    gap < 1e-5 * max(1, size),
    f"largest difference {gap:.0e}, of outputs up to {size:.1f}",
)

# %% [markdown]
# So `ours.load_state_dict(...)` accepts any weights that were trained with torchvision's ResNet-18.
#
# ### Reading torchvision's source
#
# You have written ResNet-18, so you can read it. The lectures advise you to use open-source implementations, and to look into them. `inspect.getsource` shows the code that runs
# here.

# %%
print(inspect.getsource(zoo.resnet.BasicBlock.forward))

# %% [markdown]
# Find, line by line:
#
# 1. `identity = x` keeps the input, before anything happens to it.
# 2. `self.relu` is one module, used twice. This is allowed because it has no weights. It is `nn.ReLU(inplace=True)`: it overwrites its input, which saves memory, but `x` itself is
#    never overwritten.
# 3. There is no `relu` between `bn2` and the sum.
# 4. `if self.downsample is not None` is shortcut B, where the shapes do not match.
# 5. `out += identity` is the plus sign.
#
# The deeper ResNets, from ResNet-50 on, have another block, the **bottleneck**: a 1 x 1 convolution to a quarter of the channels, a 3 x 3 convolution, and a 1 x 1 convolution
# back. In the paper, the stride is in the first 1 x 1 convolution. What does torchvision do?

# %%
with torch.device("meta"):
    first = zoo.resnet50().layer2[0]
fact(
    "Torchvision's bottleneck, unlike the paper's, has its stride in the 3 x 3",
    first.conv1.stride == (1, 1) and first.conv2.stride == (2, 2),
    f"conv1 (1 x 1) has {first.conv1.stride}, conv2 (3 x 3) {first.conv2.stride}",
)

# %% [markdown] slideshow={"slide_type": "notes"}
# Errata of the slides: `BatchNorm2D` is `BatchNorm2d`; `resnet18(pretrained=True)` is `resnet18(weights=ResNet18_Weights.DEFAULT)` since torchvision 0.13; `torch.hub.load(...)`
# should not pin a version of 2019 (v0.5.0), as one slide does, but use the installed torchvision. The stride in the 3 x 3 is known as "ResNet v1.5"; torchvision's source says so
# in a comment above Bottleneck.

# %% [markdown]
# **Exercise 8** (3 min): the number in the name. A ResNet has a stem of one convolution, four stages, and a linear layer. `blocks` says how many blocks each stage has, such as
# `[2, 2, 2, 2]`, and `convolutions` says how many convolutions each block has in a row. Return the depth. Which ResNet is `[3, 4, 6, 3]` with 2 convolutions, and which with 3?


# %%
def resnet_depth(blocks, convolutions):
    ...


exercises.resnet_depth.check(resnet_depth)

# %% slideshow={"slide_type": "skip"}
# exercises.resnet_depth.hint()
# exercises.resnet_depth.solution()

# %% [markdown]
# ## 9. What a skip does to gradient and loss (15 min)
#
# ### The gradient, layer by layer
#
# As in notebook 01, we measure the norm of each layer's gradient in an untrained network, now for convolutions. The controls recompute what they show, so with 110 layers the
# figure takes a few seconds.

# %%
some_images, some_labels = (tensor[:256].to(device) for tensor in train_data.tensors)


def gradients(model):
    """The gradient of each convolution, from the first to the last, for 256 digits."""
    model.zero_grad()
    F.cross_entropy(model.train()(some_images), some_labels).backward()
    return [m.weight.grad for m in model.modules() if isinstance(m, nn.Conv2d)]


# %%
def fresh(depth, skip, channels=16):
    torch.manual_seed(course_seed)
    return network(depth, skip, channels)


def profile(depth, skip, channels=16):
    """Gradient norms in the blocks of a fresh network, and largest : smallest."""
    found = gradients(fresh(depth, skip, channels))[1:]
    norms = [gradient.norm().item() for gradient in found]
    return norms, max(norms) / min(norms)


# %%
# extra code: the profile of a fresh plain and a fresh residual network
def draw_profile(depth=56, channels=16):
    fig, ax = plt.subplots(figsize=(9, 4.8))
    (plain, wide), (residual, narrow) = (profile(depth, skip, channels) for skip in (False, True))
    ax.set(yscale="log", xlim=(0, depth * 1.22))
    title = f"{depth} layers: norms within a factor of {wide:,.0f} (plain), {narrow:,.0f} (residual)"
    curves(ax, {"plain": plain, "residual": residual}, "layer (1 is the one next to the pixels)", "gradient norm", title, x=range(2, depth))
    ax.xaxis.set_major_locator(plt.MaxNLocator(integer=True))
    return fig, f"Gradient norm of each layer of a fresh plain and a fresh residual network of {depth} layers and {channels} channels, on a logarithmic axis."


explore(draw_profile, depth=[56, 8, 20, 32, 110], channels=[16, 4, 32])

# %% [markdown]
# Nothing vanishes in the plain network: this is the explosion caused by batch normalisation, which notebook 01 showed. In the residual network the profile is nearly level.

# %%
(_, wide), (_, narrow) = profile(56, skip=False), profile(56, skip=True)
claim(
    "Fresh residual networks have gradients within a factor of 50; plain ones do not",
    narrow < 50 and wide > 500,
    f"largest over smallest {narrow:.0f} against {wide:,.0f}",
    same="56 layers before training, He's initialisation, batch norm, 256 digits",
)

# %% [markdown]
# ### How far can you trust a gradient?
#
# A gradient says which way is downhill **here**. After a step the gradient is different. Training works if the two are similar. So we take an untrained network, move all its
# kernels a little in a random direction, and compare the gradients before and after, by the cosine of the angle between them. A step of 0.01 moves each kernel by a hundredth of
# its own length.


# %%
def random_step(weight):
    """A random direction, each kernel as long as the weight's (Li et al. 2018)."""
    step = torch.randn_like(weight)
    old, new = (values.flatten(1).norm(dim=1) for values in (weight, step))
    return step * (old / new).view(-1, *[1] * (weight.ndim - 1))


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
# **Before you run it:** we move the plain network of 56 layers by a hundredth. How similar is the new gradient to the old one?
#
# <details><summary>Answer</summary>
#
# Hardly at all: the new gradient is nearly at a right angle to the old one, like two random directions. In the residual network of the same depth the two remain similar. So the
# problem of the deep plain network is not a small gradient. The problem is that its gradient says nothing about the loss even a small step away. Balduzzi and others (2017) found the
# same between neighbouring *inputs*, and call such gradients *shattered*.
#
# </details>

# %%
step_sizes, trust = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1), {}
compared = {"plain, 56 layers": (56, False), "residual, 56 layers": (56, True)}
compared["plain, 8 layers"] = (8, False)
for name, (depth, skip) in tqdm(compared.items(), desc="gradients", leave=False):
    model = fresh(depth, skip)
    before = flat_gradient(model)
    after = [flat_gradient(move(copy.deepcopy(model), size)) for size in step_sizes]
    trust[name] = [F.cosine_similarity(before, new, dim=0).item() for new in after]

# %%
# extra code: the cosine against the size of the step
fig, ax = plt.subplots(figsize=(9, 4.8))
ax.set(xscale="log", xlim=(7e-6, 9), ylim=(-0.3, 1.05))
curves(ax, trust, "random step, as a share of each kernel's length", "cosine of old and new gradient", "Deep and plain: a small step changes the gradient completely", x=step_sizes)
ax.set_xticks(step_sizes, ["1/100,000", "", "1/1,000", "", "1/10"])
ax.minorticks_off()
show(fig, "Similarity of the gradients before and after a random step, against the size of the step, for three fresh networks.")

# %%
left = {name: values[3] for name, values in trust.items()}
rivals = left["residual, 56 layers"], left["plain, 8 layers"]
claim(
    "A step of a hundredth turns the gradient of 56 plain layers by nearly 90 degrees",
    abs(left["plain, 56 layers"]) < 0.3 and min(rivals) > 0.7,
    ", ".join(f"{name}: cosine {value:.2f}" for name, value in left.items()),
    same="networks before training, 256 digits, one random direction",
)

# %% [markdown]
# ### The loss as a landscape
#
# If the gradient changes completely over a small distance, the loss is not smooth. We can make this visible. We start at the weights $w$ of an untrained network and go in two
# random directions $u$ and $v$, in which each kernel is as long as in $w$:
#
# $$L(a, b) = \text{loss at } w + a\,u + b\,v, \qquad -0.05 \le a, b \le 0.05$$
#
# Batch normalisation uses the averages of the batch, as in training: this is the surface on which training moves.


# %%
@torch.no_grad()
def landscape(model, axis):
    """The loss on 128 digits, steps along two random directions: (len(axis),) * 2."""
    kernels = [p for p in model.train().parameters() if p.ndim > 1]
    centre = [p.clone() for p in kernels]
    u, v = ([random_step(p) for p in centre] for _ in range(2))
    losses = np.empty((len(axis), len(axis)))
    for row, column in tqdm(list(np.ndindex(losses.shape)), leave=False):
        for p, w, along_u, along_v in zip(kernels, centre, u, v, strict=True):
            p.copy_(w + axis[column] * along_u + axis[row] * along_v)
        outputs = model(some_images[:128])
        losses[row, column] = F.cross_entropy(outputs, some_labels[:128]).item()
    return losses


# %% [markdown]
# **Before you run it:** what will the landscapes of 56 layers look like, without and with skips, drawn at the same scale?
#
# <details><summary>Answer</summary>
#
# Without skips it is flat: whatever the weights, the loss is that of guessing, $\ln 10 = 2.3$, plus a little noise. No slope stays the same for two steps. With skips there is a
# smooth slope, at a higher loss: an untrained residual network gives larger outputs, because every block adds to them. It is the slope that counts.
#
# </details>

# %%
axis = np.linspace(-0.05, 0.05, 11)
landscapes = {
    kind: landscape(fresh(56, skip), axis)
    for kind, skip in {"plain": False, "residual": True}.items()
}


# %%
# extra code: the two surfaces, both with the same height of the box
def landscape_figure():
    fig, axes = plt.subplots(1, 2, figsize=(9, 4.8), subplot_kw={"projection": "3d"})
    a, b = np.meshgrid(axis, axis)
    half = 0.55 * max(np.ptp(losses) for losses in landscapes.values())
    for ax, (kind, losses) in zip(axes, landscapes.items(), strict=True):
        middle = (losses.max() + losses.min()) / 2
        ax.plot_surface(a, b, losses, cmap="viridis", vmin=middle - half, vmax=middle + half, edgecolor="black", linewidth=0.3)
        ax.set(xticks=[], yticks=[], zlim=(middle - half, middle + half), xlabel="u, ±0.05", ylabel="v, ±0.05")
        ax.zaxis.set_major_locator(plt.MaxNLocator(3))
        ax.tick_params("z", pad=8)
        ax.set_title(f"{kind}: loss {losses.min():.2f} to {losses.max():.2f}", loc="center")
        ax.view_init(elev=24, azim=-60)
        ax.set_box_aspect((1, 1, 0.75), zoom=1.05)
    fig.suptitle("56 layers at one scale: flat with noise, and a smooth slope", fontweight="bold", fontsize=16)
    return fig


show(landscape_figure(), "The loss around fresh networks of 56 layers, along two random directions, both boxes equally high. Left, without skips, a nearly flat sheet with small bumps; right, with skips, a smooth slope.")

# %% [markdown]
# We can put this into a number. Along a row or a column, how much does the slope change from one step to the next, compared with the slope itself? On a smooth surface it hardly
# changes. If all heights are random and independent, the changes are $\sqrt 3$ times as large as the slopes ($h_3 - 2 h_2 + h_1$ has 6 times the variance of a height, $h_2 - h_1$
# twice).


# %%
def roughness(losses):
    """Root mean square of the changes of slope, over that of the slopes."""
    slopes = [np.diff(losses, axis=k) for k in (0, 1)]
    changes = [np.diff(slope, axis=k) for k, slope in enumerate(slopes)]
    square = [np.mean([np.mean(part**2) for part in p]) for p in (changes, slopes)]
    return np.sqrt(square[0] / square[1])


# %%
rough = {kind: roughness(losses) for kind, losses in landscapes.items()}
claim(
    "Around 56 untrained layers the loss is smooth with skips, flat and noisy without",
    rough["residual"] < 0.6 and rough["plain"] > 1.1
    and np.ptp(landscapes["plain"]) < np.ptp(landscapes["residual"]),
    ", ".join(f"{kind}: roughness {value:.2f}, from lowest to highest"
              f" {np.ptp(landscapes[kind]):.3f}" for kind, value in rough.items()),
    same=f"{len(axis)} x {len(axis)} points, 128 digits, steps up to 0.05 of a kernel",
)  # fmt: skip

# %% [markdown] slideshow={"slide_type": "notes"}
# Li and others (2018) made such pictures famous. Theirs show trained networks on CIFAR-10, over a wider range: without skips, 56 layers are chaotic there too, and shallow networks
# are smooth either way. These are two directions out of more than a hundred thousand; another seed shows other bumps, and the same slope. This is topic R9 of the lectures: "the
# gradient of earlier parameters depends more directly on the output".

# %% [markdown]
# ## 10. Exercises (11 min)
#
# **Exercise 9**: count a bottleneck, without PyTorch. It has convolutions 1 x 1 from `in_channels` to `width`, 3 x 3 from `width` to `width`, and 1 x 1 from `width` to
# `4 * width`, without bias, and batch normalisation after each. If `in_channels` is not `4 * width`, the shortcut is a projection with batch normalisation. Return the number of
# parameters.


# %%
def count_bottleneck(in_channels, width):
    ...


exercises.count_bottleneck.check(count_bottleneck)

# %% slideshow={"slide_type": "skip"}
# exercises.count_bottleneck.hint()
# exercises.count_bottleneck.solution()

# %% [markdown]
# ## 11. Lab: the deepest network that still trains in 60 seconds (30 min and more)
#
# **How deep can you go, in a minute on one core?** Write `train_deepest`, without arguments: it trains a network for digits (N, 1, 8, 8), prepared like `train_data`, and returns
# it. The rules:
#
# - it learns from `train_data` only (choose settings by `val_data`), in at most **60 seconds**;
# - it reads at least **90 %** of the held-out test digits;
# - its depth is the number of convolutions of 3 x 3 or larger on the **longest way** from the picture to the outputs: parallel ones count once;
# - each of them must have a gradient, so dead blocks do not count.
#
# **50 convolutions are good, 100 are very good.** The check measures the time, counts the convolutions, and tests the network on the test digits.


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
# - **Depth is the longest way**, not the number of layers. The number of parameters says little about it.
# - **Look at the training error first.** If a larger network fits its own training data worse, no regularisation will help: the problem is in the training.
# - **Make doing nothing easy:** add a shortcut past each block, and start with the block's last scale at zero. Where a network starts matters a great deal.
# - **Keep the shortcut free.** Use a projection only where shapes differ, and in pre-activation blocks not even a ReLU.
# - **Read the source** of the networks that you use. You can: you have written one.

# %%
summary()

# %% [markdown]
# ### Lecture topics
#
# | topic | section | lectures |
# |---|---|---|
# | R1 classic networks counted, why depth was held back | 1 | A, C, D, E |
# | R2 LeNet-5 built and trained | 2 | C, D |
# | R3 degradation: deeper plain networks train worse | 3, 5 | A, C |
# | R4 the identity, easy for a residual block | 4 | A, D |
# | R5 the residual block step by step and drawn, VGG against ResNet, pre-activation | 5, 7 | A, C, D |
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
# - K. He, X. Zhang, S. Ren, J. Sun. *Deep Residual Learning for Image Recognition*. CVPR 2016. https://arxiv.org/abs/1512.03385 (section 4.1: degradation; its third footnote: three times the iterations)
# - K. He, X. Zhang, S. Ren, J. Sun. *Identity Mappings in Deep Residual Networks*. ECCV 2016. https://arxiv.org/abs/1603.05027 (pre-activation)
# - S. Zagoruyko, N. Komodakis. *Wide Residual Networks*. BMVC 2016. https://arxiv.org/abs/1605.07146
# - G. Huang, Z. Liu, L. van der Maaten, K. Q. Weinberger. *Densely Connected Convolutional Networks*. CVPR 2017. https://arxiv.org/abs/1608.06993
# - S. Xie, R. Girshick, P. Dollár, Z. Tu, K. He. *Aggregated Residual Transformations for Deep Neural Networks*. CVPR 2017. https://arxiv.org/abs/1611.05431 (ResNeXt)
# - D. Balduzzi et al. *The Shattered Gradients Problem: If resnets are the answer, then what is the question?* ICML 2017. https://arxiv.org/abs/1702.08591
# - M. Sandler et al. *MobileNetV2: Inverted Residuals and Linear Bottlenecks*. CVPR 2018. https://arxiv.org/abs/1801.04381
# - H. Li, Z. Xu, G. Taylor, C. Studer, T. Goldstein. *Visualizing the Loss Landscape of Neural Nets*. NeurIPS 2018. https://arxiv.org/abs/1712.09913
# - I. Radosavovic et al. *Designing Network Design Spaces*. CVPR 2020. https://arxiv.org/abs/2003.13678 (RegNet)
# - A. Dosovitskiy et al. *An Image is Worth 16x16 Words*. ICLR 2021. https://arxiv.org/abs/2010.11929 (ViT)
# - A. Zhang, Z. C. Lipton, M. Li, A. J. Smola. *Dive into Deep Learning*, section 8.6. https://d2l.ai (nested function classes)
#
# ### Next notebook
# 03 · Convolutions: 1x1, transposed and friends.
