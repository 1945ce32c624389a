"""Networks that two or more notebooks use, and the pretrained ones that suit the data."""

import hashlib
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import MobileNet_V2_Weights, WeightsEnum, get_model_weights, list_models, mobilenet_v2
from torchvision.models.resnet import BasicBlock
from torchvision.ops import Conv2dNormActivation
from torchvision.transforms import v2

from utils.datasets import cache, data_dir
from utils.datasets.download import patience

__all__ = ["SmallResNet", "UNet", "count_macs", "hold_batch_norm", "imagenet_state", "num_parameters", "pretrained"]

_BACKBONE = cache.CHECKOUT / "data/backbone.pt"


class SmallResNet(nn.Module):
    """A residual network (He et al., Deep Residual Learning for Image Recognition, CVPR 2016), one BasicBlock a stage.

    It has the two parts of torchvision's MobileNetV2, `features` and `classifier`, so the same code fine-tunes both.
    Input: images, float (N, 3, H, W), normalised; H and W of 32 or more. Output: logits (N, num_classes).
    width: channels after the stem; the stages have width, 2, 4 and 8 times that.
    stem_kernel: 3, or 7 as in the paper, whose filters are large enough to be looked at.
    """

    def __init__(self, num_classes: int, width: int = 24, stem_kernel: int = 7):
        super().__init__()
        channels = [width, *(width * 2**stage for stage in range(4))]
        stages = [_stage(i, o) for i, o in pairwise(channels)]
        self.features = nn.Sequential(*Conv2dNormActivation(3, width, stem_kernel, stride=2), *stages)
        self.classifier = nn.Sequential(nn.Dropout(p=0.2), nn.Linear(channels[-1], num_classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = F.adaptive_avg_pool2d(self.features(images), 1)
        return self.classifier(features.flatten(1))


def _stage(in_channels: int, out_channels: int) -> BasicBlock:
    """torchvision's block; with more channels it halves the picture, and its shortcut is a 1x1 convolution."""
    if in_channels == out_channels:
        return BasicBlock(in_channels, out_channels)
    shortcut = Conv2dNormActivation(in_channels, out_channels, 1, stride=2, activation_layer=None)
    return BasicBlock(in_channels, out_channels, 2, shortcut)


class UNet(nn.Module):
    """A U-Net (Ronneberger, Fischer, Brox, U-Net: Convolutional Networks for Biomedical Image Segmentation, 2015).

    Unlike the paper's it pads and normalises batches, so that the output is as large as the picture.
    Input: images, float (N, in_channels, H, W), of any size from 2**(levels - 1). Output: (N, num_classes, H, W).
    width: channels of the first stage; stage k, from 0, has width * 2**k. levels: stages down to the bottleneck.
    """

    def __init__(self, num_classes: int = 1, width: int = 8, levels: int = 4, in_channels: int = 3):
        super().__init__()
        channels = [width * 2**level for level in range(levels)]
        upwards = list(pairwise(reversed(channels)))
        self.encoder = nn.ModuleList(_two_convolutions(i, o) for i, o in pairwise([in_channels, *channels]))
        self.ups = nn.ModuleList(nn.ConvTranspose2d(i, o, kernel_size=2, stride=2) for i, o in upwards)
        self.decoder = nn.ModuleList(_two_convolutions(2 * o, o) for _, o in upwards)
        self.head = nn.Conv2d(width, num_classes, kernel_size=1)

    def encode(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The features of each stage, from shallow to deep, the k-th (N, width * 2**k, H // 2**k, W // 2**k)."""
        features = [self.encoder[0](images)]
        for stage in self.encoder[1:]:
            features.append(stage(F.max_pool2d(features[-1], 2)))
        return features

    def decode(self, features: list[torch.Tensor]) -> torch.Tensor:
        """The logits (N, num_classes, H, W) from the features that `encode` gives."""
        *skips, x = features
        for up, stage, skip in zip(self.ups, self.decoder, reversed(skips), strict=True):
            x = up(x)
            rows, columns = (skip.shape[k] - x.shape[k] for k in (2, 3))  # 1 where a side is odd, else 0
            x = F.pad(x, (0, columns, 0, rows))
            x = stage(torch.cat([skip, x], dim=1))
        return self.head(x)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.decode(self.encode(images))


def _two_convolutions(in_channels: int, out_channels: int) -> nn.Sequential:
    first, second = (Conv2dNormActivation(channels, out_channels) for channels in (in_channels, out_channels))
    return nn.Sequential(*first, *second)


def pretrained(source: str) -> tuple[nn.Module, v2.Compose]:
    """(model, prepare): the pretrained network that suits a data set, in evaluation mode, and the preparation of
    pictures that belongs to it (uint8 (N, 3, H, W) in, float32 normalised out).

    source: an ImageDataset's `source`. "critters": our SmallResNet, trained by tools/pretrain.py on drawn animals that
    are neither cats nor dogs. "photos", "folder": MobileNetV2 with torchvision's ImageNet weights (Sandler et al.
    2018). Both have `features` and `classifier`. Raises ValueError for another source, RuntimeError where weights can
    be neither found nor fetched.
    """
    if source == "critters":
        saved = torch.load(_BACKBONE, weights_only=True)
        model = SmallResNet(len(saved["classes"]), saved["width"], saved["stem_kernel"])
        model.load_state_dict(saved["state_dict"])
        mean, std = saved["mean"], saved["std"]
    elif source in ("photos", "folder"):
        weights = MobileNet_V2_Weights.IMAGENET1K_V1
        model = mobilenet_v2()
        model.load_state_dict(imagenet_state(weights))
        mean, std = weights.transforms().mean, weights.transforms().std
    else:
        raise ValueError(f"No pretrained network suits {source!r}: expected 'critters', 'photos' or 'folder'.")
    return model.eval(), v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])


def imagenet_state(weights: WeightsEnum) -> dict[str, torch.Tensor]:
    """The state dict of torchvision's weights: from COURSE_DATA_DIR/weights/MODEL-HASH.pth where there is one (a
    lecture hall without network), else from torchvision's cache or its server.

    HASH are the first eight digits of the file's own SHA-256. A file that is not named after it, or is another version
    of torchvision's, is left alone. Raises RuntimeError, which names such files, where nothing can be fetched.
    """
    name, wanted = Path(weights.url).stem.rsplit("-", 1)
    versions = {Path(other.url).stem[-8:]: other for model in list_models() for other in get_model_weights(model)}
    folder, left = data_dir() / "weights", ""
    for path in sorted(folder.glob(f"{name}*.pth"), key=lambda path: (wanted not in path.stem, path)):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        if path.stem.startswith(f"{name}-{digest}") and (digest == wanted or digest not in versions):
            if digest != wanted:
                print(f"{path} is taken, though it is not torchvision's {Path(weights.url).name}.")
            return torch.load(path, weights_only=True)
        left += f" {path} was not taken: it is {versions.get(digest, f'not named after its SHA-256, {digest}')}."
    try:
        with patience():
            return weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except OSError as error:  # no network, a refusal, a time-out, a full disk
        raise RuntimeError(
            f"The weights {Path(weights.url).name} are not on this machine and could not be fetched ({error}).{left} "
            f"Connect to the internet (on Kaggle: Settings > Internet), put the file into {folder}, or take "
            "COURSE_DATA=critters."
        ) from error


class HeldBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that stays in evaluation mode: it uses its running averages and leaves them as they are."""

    def train(self, mode: bool = True):
        return super().train(False)


def hold_batch_norm(model: nn.Module) -> None:
    """Leave every BatchNorm2d of a model in evaluation mode, whatever `model.train()` says: for fine-tuning on few
    pictures, which would blur averages that come from many. Its scale and shift are still trained."""
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = HeldBatchNorm2d  # the same parameters and buffers; only train() differs
            module.eval()


def num_parameters(module: nn.Module) -> int:
    """The number of parameters of a module, all weights and biases, as notebook 00 counts them."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_macs(model: nn.Module, *shape: int) -> int:
    """Multiply-accumulates of one forward pass of an input of this shape, as notebook 03 counts them.

    PyTorch's counter has two operations for each. The input is made where the model is; one on "meta" costs no memory.
    """
    place = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(shape, device=place))
    return counter.get_total_flops() // 2
