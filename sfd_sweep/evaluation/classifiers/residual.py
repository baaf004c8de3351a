"""Residual networks (He et al., arXiv 1512.03385) of torchvision's blocks, from ResNet-34 down to what a CPU trains."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet34_Weights, conv1x1
from torchvision.transforms.v2 import functional as transforms

from sfd_sweep.evaluation.classifiers.torchvision_model import fetch_weights
from sfd_sweep.evaluation.classifiers.trainable import ClassifierConfig, Size, TrainableClassifier

STEMS = {"small": (3, 1), "halving": (3, 2), "imagenet": (7, 2)}
"""Kernel and stride of the first convolution."""


class ResidualConfig(ClassifierConfig):
    """The shape of a residual network, and how it sees an image.

    Images of any size are resized to `image_size`, and normalised by `mean` and `std`, which are of pixels from 0 to 1.
    """

    architecture: Literal["resnet"] = "resnet"
    stem: Literal["small", "halving", "imagenet"] = Field(
        description="first convolution: 3×3; 3×3 that halves the image; or 7×7 and pooling, each of which does"
    )
    widths: tuple[Size, ...] = Field(
        min_length=1, description="channels of each stage; every one but the first halves the image"
    )
    blocks: tuple[Size, ...] = Field(min_length=1, description="blocks of each stage")
    mean: tuple[float, ...] = Field(description="of each colour")
    std: tuple[Annotated[float, Field(gt=0)], ...] = Field(description="of each colour")

    @model_validator(mode="after")
    def _lengths_agree(self) -> ResidualConfig:
        if len(self.blocks) != len(self.widths):
            raise ValueError(f"widths are of {len(self.widths)} stages, but blocks of {len(self.blocks)}")
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"mean and std must be of as many colours as channels ({self.channels})")
        return self

    def build(self) -> ResidualNetwork:
        """The network, with random weights."""
        return ResidualNetwork(self)


class ResidualNetwork(TrainableClassifier):
    """Stages of residual blocks, averaged over the image to features, and a linear layer of logits on top."""

    config: ResidualConfig

    def __init__(self, config: ResidualConfig) -> None:
        super().__init__(config, image_size=None)
        widths = (config.widths[0], *config.widths)
        self.stem = _stem(config)
        self.stages = nn.Sequential(
            *(
                _stage(before, after, blocks, stride=1 if index == 0 else 2)
                for index, (before, after, blocks) in enumerate(zip(widths, config.widths, config.blocks, strict=False))
            )
        )
        self.head = nn.Linear(config.widths[-1], len(config.class_names))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, images: Tensor) -> Tensor:
        """Features of shape (n, d), not negative, of images of shape (n, C, H, W) in [-1, 1]."""
        size = self.config.image_size
        pixels = transforms.resize(images / 2 + 0.5, [size, size], antialias=True)
        hidden = self.stem(transforms.normalize(pixels, list(self.config.mean), list(self.config.std)))
        averaged: Tensor = self.stages(hidden).mean((2, 3))
        return averaged


def imagenet_weights() -> dict[str, Tensor]:
    """torchvision's weights of ResNet-34 under the names of `ResidualNetwork`, without those of the head.

    Raises:
        UserError: they cannot be fetched.
    """
    names = {"conv1": "stem.0", "bn1": "stem.1"} | {f"layer{index + 1}": f"stages.{index}" for index in range(4)}
    weights = {}
    for name, weight in fetch_weights(ResNet34_Weights.IMAGENET1K_V1).items():
        part, _, rest = name.partition(".")
        if part in names:
            weights[f"{names[part]}.{rest}"] = weight
    return weights


def _stem(config: ResidualConfig) -> nn.Sequential:
    kernel, stride = STEMS[config.stem]
    width = config.widths[0]
    convolution = nn.Conv2d(config.channels, width, kernel, stride, padding=kernel // 2, bias=False)
    layers = [convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, *([nn.MaxPool2d(3, stride=2, padding=1)] if config.stem == "imagenet" else []))


def _stage(before: int, after: int, blocks: int, *, stride: int) -> nn.Sequential:
    """Residual blocks, the first of which halves the image if the stride is 2."""
    shortcut = None
    if stride != 1 or before != after:
        shortcut = nn.Sequential(conv1x1(before, after, stride), nn.BatchNorm2d(after))
    first = BasicBlock(before, after, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(after, after) for _ in range(blocks - 1)))
