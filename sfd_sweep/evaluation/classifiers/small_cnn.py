"""A small convolutional network, for images as small as the 8×8 digits."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from sfd_sweep.evaluation.classifiers.trainable import ClassifierConfig, Size, TrainableClassifier


class SmallCnnConfig(ClassifierConfig):
    """The shape of a small convolutional network."""

    architecture: Literal["cnn"] = "cnn"
    widths: tuple[Size, ...] = Field(
        min_length=1, description="channels after each convolution; every one but the first halves the image"
    )
    features: Size = Field(description="d, the number of features")
    dropout: float = Field(0.2, ge=0, lt=1, description="share of the last convolution's values dropped in training")

    @model_validator(mode="after")
    def _can_be_halved(self) -> SmallCnnConfig:
        if self.image_size % self.reduction:
            raise ValueError(f"image_size ({self.image_size}) cannot be halved {len(self.widths) - 1} times")
        return self

    @property
    def reduction(self) -> int:
        """How many times smaller than the image the last convolution's output is, along each side."""
        return int(2 ** (len(self.widths) - 1))

    def build(self) -> SmallCnn:
        """The network, with random weights."""
        return SmallCnn(self)


class SmallCnn(TrainableClassifier):
    """3×3 convolutions with max-pooling, a layer of features, and a linear layer of logits on top."""

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
        """Features of shape (n, d), not negative, of images of shape (n, C, H, W) in [-1, 1]."""
        hidden = images
        for index, convolution in enumerate(self.convolutions):
            hidden = F.relu(convolution(hidden))
            if index > 0:
                hidden = F.max_pool2d(hidden, kernel_size=2)
        hidden = F.dropout(hidden.flatten(1), self.config.dropout, self.training)
        return F.relu(self.projection(hidden))
