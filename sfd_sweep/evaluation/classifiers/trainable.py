"""Classifiers that are trained here, and their folders of `config.json` and `model.safetensors`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet34_Weights, conv1x1
from torchvision.transforms.v2 import functional as transforms

from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.base import Classifier
from sfd_sweep.evaluation.classifiers.pretrained import check_finite, fetch_weights
from sfd_sweep.storage.folder import Folder

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
LONGEST_ERROR = 300  # characters of an error that lists weights

STEMS = {"small": (3, 1), "halving": (3, 2), "imagenet": (7, 2)}
"""Kernel and stride of a residual network's first convolution."""


class ClassifierConfig(BaseModel, ABC):
    """Images, classes and accuracy of a network; each kind adds its architecture.

    Attributes:
        image_size: height and width of an image inside the network, in pixels.
        channels: of an image.
        class_names: by index.
        held_out_accuracy: accuracy on images that it was not trained on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: PositiveInt
    channels: PositiveInt
    class_names: Annotated[tuple[str, ...], Field(min_length=2)]
    held_out_accuracy: Annotated[float, Field(ge=0, le=1)] | None = None

    @abstractmethod
    def build(self) -> TrainableClassifier:
        """Return the network with random weights."""


class TrainableClassifier(Classifier):
    """A network of a config, with a linear layer (`head`) from features to logits."""

    head: nn.Linear

    def __init__(self, config: ClassifierConfig, *, image_size: int | None) -> None:
        super().__init__(config.class_names, channels=config.channels, image_size=image_size)
        self.config = config

    def logits_from_features(self, features: Tensor) -> Tensor:
        """Return the outputs of the head."""
        logits: Tensor = self.head(features)
        return logits

    def description(self) -> str:
        """Return the config without the accuracy."""
        return self.config.model_dump_json(exclude={"held_out_accuracy"})

    @torch.no_grad()
    def round_to_half_precision(self) -> None:
        """Round the weights to what `save` writes, so that what is measured is what is saved."""
        for parameter in self.parameters():
            parameter.copy_(parameter.half())

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` and then `config.json`, each atomically.

        Weights are in half precision; batch-norm statistics, which may exceed its range, are not.
        """
        target = Folder.open(folder)
        halved = {name for name, _ in self.named_parameters()}
        tensors = {
            name: (tensor.half() if name in halved else tensor).detach().cpu().contiguous()
            for name, tensor in self.state_dict().items()
        }
        target.write(WEIGHTS, save(tensors))
        target.write(CONFIG, (self.config.model_dump_json(indent=2) + "\n").encode())


# --- A small convolutional network, for images as small as the 8×8 digits ---


class SmallCnnConfig(ClassifierConfig):
    """The architecture of a small convolutional network.

    Attributes:
        widths: channels after each convolution; every one but the first halves the image.
        features: d, the number of features.
        dropout: share of the last convolution's values that training drops.
    """

    architecture: Literal["cnn"] = "cnn"
    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    features: PositiveInt
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2

    @model_validator(mode="after")
    def _can_be_halved(self) -> SmallCnnConfig:
        if self.image_size % self.reduction:
            raise ValueError(f"image_size ({self.image_size}) cannot be halved {len(self.widths) - 1} times")
        return self

    @property
    def reduction(self) -> int:
        """The factor by which the last convolution's output is smaller than the image, along each side."""
        return int(2 ** (len(self.widths) - 1))

    def build(self) -> SmallCnn:
        """Return the network with random weights."""
        return SmallCnn(self)


class SmallCnn(TrainableClassifier):
    """3×3 convolutions with max-pooling, a layer of features, and a linear layer of logits."""

    config: SmallCnnConfig

    def __init__(self, config: SmallCnnConfig) -> None:
        super().__init__(config, image_size=config.image_size)
        inputs = (config.channels, *config.widths)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, kernel_size=3, padding=1)
            for before, after in zip(inputs, config.widths, strict=False)
        )
        side = config.image_size // config.reduction
        self.projection = nn.Linear(config.widths[-1] * side * side, config.features)
        self.head = nn.Linear(config.features, len(config.class_names))

    def features(self, images: Tensor) -> Tensor:
        """Return features that are not negative."""
        hidden = images
        for index, convolution in enumerate(self.convolutions):
            hidden = F.relu(convolution(hidden))
            if index > 0:
                hidden = F.max_pool2d(hidden, kernel_size=2)
        hidden = F.dropout(hidden.flatten(1), self.config.dropout, self.training)
        return F.relu(self.projection(hidden))


# --- Residual networks (He et al., arXiv 1512.03385), from ResNet-34 down to what a CPU trains ---


class ResidualConfig(ClassifierConfig):
    """The architecture of a residual network of torchvision's blocks, and its preparation of images.

    Images of any size are resized to `image_size`, and normalized by `mean` and `std` of pixels from 0 to 1.

    Attributes:
        stem: first convolution: 3×3; 3×3 that halves the image; or 7×7 and pooling, each of which does.
        widths: channels of each stage; every one but the first halves the image.
        blocks: number of blocks of each stage.
        mean: by channel.
        std: by channel.
    """

    architecture: Literal["resnet"] = "resnet"
    stem: Literal["small", "halving", "imagenet"]
    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    blocks: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    mean: tuple[float, ...]
    std: tuple[PositiveFloat, ...]

    @model_validator(mode="after")
    def _lengths_agree(self) -> ResidualConfig:
        if len(self.blocks) != len(self.widths):
            raise ValueError(f"widths are of {len(self.widths)} stages, but blocks of {len(self.blocks)}")
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"mean and std must be of as many colors as channels ({self.channels})")
        return self

    def build(self) -> ResidualNetwork:
        """Return the network with random weights."""
        return ResidualNetwork(self)


class ResidualNetwork(TrainableClassifier):
    """Stages of residual blocks, averaged over the image to features, and a linear layer of logits."""

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
        """Return features that are not negative."""
        size = self.config.image_size
        pixels = transforms.resize(images / 2 + 0.5, [size, size], antialias=True)
        hidden = self.stem(transforms.normalize(pixels, list(self.config.mean), list(self.config.std)))
        averaged: Tensor = self.stages(hidden).mean((2, 3))
        return averaged


def _stem(config: ResidualConfig) -> nn.Sequential:
    kernel, stride = STEMS[config.stem]
    width = config.widths[0]
    convolution = nn.Conv2d(config.channels, width, kernel, stride, padding=kernel // 2, bias=False)
    layers = [convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, *([nn.MaxPool2d(3, stride=2, padding=1)] if config.stem == "imagenet" else []))


def _stage(before: int, after: int, blocks: int, *, stride: int) -> nn.Sequential:
    shortcut = None
    if stride != 1 or before != after:
        shortcut = nn.Sequential(conv1x1(before, after, stride), nn.BatchNorm2d(after))
    first = BasicBlock(before, after, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(after, after) for _ in range(blocks - 1)))


def imagenet_weights() -> dict[str, Tensor]:
    """Return torchvision's weights of ResNet-34 under the names of `ResidualNetwork`, without those of the head.

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


_ANY_CONFIG = TypeAdapter[SmallCnnConfig | ResidualConfig](
    Annotated[SmallCnnConfig | ResidualConfig, Field(discriminator="architecture")]
)


def read_classifier(folder: Folder) -> TrainableClassifier:
    """Return the classifier that `save` wrote into a folder, in float32.

    Raises:
        UserError: its files are broken or do not fit each other.
    """
    where = f"{folder.path}/{WEIGHTS}"
    try:
        classifier = _ANY_CONFIG.validate_json(folder.read(CONFIG)).build()
        classifier.load_state_dict(load(folder.read(WEIGHTS)))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(f"{folder.path}/{CONFIG} describes no classifier: {key}: {first['msg']}") from error
    except FileNotFoundError as error:
        raise UserError(f"{where} is missing; train the classifier again") from error
    except SafetensorError as error:
        raise UserError(f"{where} is no complete safetensors file ({error}); train it again") from error
    except RuntimeError as error:  # of load_state_dict
        raise UserError(
            f"{where} does not fit {CONFIG}: {shorten(str(error), LONGEST_ERROR)}; train it again"
        ) from error
    check_finite(classifier, where)
    return classifier
