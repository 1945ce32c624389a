"""Networks that two or more notebooks use."""
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock


class SmallResNet(nn.Module):
    """A residual network (He et al., Deep Residual Learning for Image Recognition, CVPR 2016), one BasicBlock a stage.

    It has the two parts of torchvision's MobileNetV2, `features` and `classifier`, so the same code fine-tunes both.
    Input: images, float (N, 3, H, W), normalised; H and W of 32 or more. Output: logits (N, num_classes).
    width: channels after the stem; the stages have width, 2, 4 and 8 times that.
    stem_kernel: 3, or 7 as in the paper, whose filters are large enough to be looked at.
    """

    def __init__(self, num_classes: int, width: int = 24, stem_kernel: int = 7):
        super().__init__()
        stages, channels = [], width
        for stage in range(4):
            stages.append(_stage(channels, width * 2 ** stage, stride=1 if stage == 0 else 2))
            channels = width * 2 ** stage
        self.features = nn.Sequential(
            nn.Conv2d(3, width, stem_kernel, stride=2, padding=stem_kernel // 2, bias=False),
            nn.BatchNorm2d(width), nn.ReLU(inplace=True), *stages)
        self.classifier = nn.Sequential(nn.Dropout(p=0.2), nn.Linear(channels, num_classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = nn.functional.adaptive_avg_pool2d(self.features(images), 1)
        return self.classifier(features.flatten(1))


def _stage(in_channels: int, out_channels: int, stride: int) -> BasicBlock:
    """torchvision's block; where the shape changes, the shortcut is a 1x1 convolution."""
    shortcut = None
    if stride != 1 or in_channels != out_channels:
        shortcut = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                                 nn.BatchNorm2d(out_channels))
    return BasicBlock(in_channels, out_channels, stride, shortcut)
