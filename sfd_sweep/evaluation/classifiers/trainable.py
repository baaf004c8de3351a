"""Classifiers that are described by a few numbers, trained here, and saved as a folder of our own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import save
from torch import Tensor, nn

from sfd_sweep.evaluation.classifiers.base import Classifier
from sfd_sweep.storage.folder import Folder

CONFIG = "config.json"
WEIGHTS = "model.safetensors"

Size = Annotated[int, Field(gt=0)]


class ClassifierConfig(BaseModel, ABC):
    """What a network judges, and how good it was found to be; each kind adds its shape."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: Size = Field(description="height and width of an image inside the network, in pixels")
    channels: Size = Field(description="colours of an image")
    class_names: tuple[str, ...] = Field(min_length=2, description="by index")
    held_out_accuracy: float | None = Field(None, ge=0, le=1, description="accuracy on images that it never saw")

    @abstractmethod
    def build(self) -> TrainableClassifier:
        """The network, with random weights."""


class TrainableClassifier(Classifier):
    """A network of a config, with a linear layer of logits (`head`) on top of its features."""

    head: nn.Linear

    def __init__(self, config: ClassifierConfig, *, image_size: int | None) -> None:
        super().__init__(config.class_names, channels=config.channels, image_size=image_size)
        self.config = config

    def logits_from_features(self, features: Tensor) -> Tensor:
        """Logits of shape (n, classes) from features of shape (n, d)."""
        logits: Tensor = self.head(features)
        return logits

    def description(self) -> str:
        """Everything of the config but the accuracy."""
        return self.config.model_dump_json(exclude={"held_out_accuracy"})

    @torch.no_grad()
    def round_to_half_precision(self) -> None:
        """Round the weights to what `save` keeps of them, so that what is measured is what is saved."""
        for parameter in self.parameters():
            parameter.copy_(parameter.half())

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` and then `config.json`, each of them whole or not at all.

        Weights are in half precision; batch-norm statistics, whose range that does not hold, stay as they are.
        """
        target = Folder.open(folder)
        halved = {name for name, _ in self.named_parameters()}
        tensors = {
            name: (tensor.half() if name in halved else tensor).detach().cpu().contiguous()
            for name, tensor in self.state_dict().items()
        }
        target.write(WEIGHTS, save(tensors))
        target.write(CONFIG, (self.config.model_dump_json(indent=2) + "\n").encode())
