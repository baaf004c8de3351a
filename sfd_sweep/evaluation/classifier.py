"""A small convolutional classifier: what calls an image by its class, and whose features distances are measured on."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from sfd_sweep.errors import UserError
from sfd_sweep.storage import Folder

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
BUILTIN_CLASSIFIERS = {"builtin:digits": Path(__file__).parent.parent / "assets" / "digits" / "classifier"}

Size = Annotated[int, Field(gt=0)]


class ClassifierConfig(BaseModel):
    """The shape of a classifier, and how good it was found to be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: Size = Field(description="height and width of an image, in pixels")
    channels: Size = Field(description="colours of an image")
    widths: tuple[Size, ...] = Field(
        min_length=1, description="channels after each convolution; every one but the first halves the image"
    )
    features: Size = Field(description="d, the number of features")
    class_names: tuple[str, ...] = Field(min_length=2, description="by index")
    dropout: float = Field(0.2, ge=0, lt=1, description="share of the last convolution's values dropped in training")
    held_out_accuracy: float | None = Field(None, ge=0, le=1, description="accuracy on images that it never saw")

    @model_validator(mode="after")
    def _can_be_halved(self) -> ClassifierConfig:
        if self.image_size % self.reduction:
            raise ValueError(f"image_size ({self.image_size}) cannot be halved {len(self.widths) - 1} times")
        return self

    @property
    def reduction(self) -> int:
        """How many times smaller than the image the last convolution's output is, along each side."""
        return int(2 ** (len(self.widths) - 1))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self.channels, self.image_size, self.image_size


class Classifier(nn.Module):
    """3×3 convolutions with max-pooling, a layer of features, and a linear layer of logits on top."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        inputs = (config.channels, *config.widths)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, kernel_size=3, padding=1)
            for before, after in zip(inputs, config.widths, strict=False)
        )
        side = config.image_size // config.reduction
        self.projection = nn.Linear(config.widths[-1] * side * side, config.features)
        self.head = nn.Linear(config.features, len(config.class_names))

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, by index."""
        return self.config.class_names

    def features(self, images: Tensor) -> Tensor:
        """Features of shape (n, d), not negative, of images of shape (n, C, H, W) in [-1, 1]."""
        hidden = images
        for index, convolution in enumerate(self.convolutions):
            hidden = F.relu(convolution(hidden))
            if index > 0:
                hidden = F.max_pool2d(hidden, kernel_size=2)
        hidden = F.dropout(hidden.flatten(1), self.config.dropout, self.training)
        return F.relu(self.projection(hidden))

    def logits_from_features(self, features: Tensor) -> Tensor:
        """Logits of shape (n, classes) from features of shape (n, d)."""
        logits: Tensor = self.head(features)
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Logits of shape (n, classes) of images of shape (n, C, H, W) in [-1, 1]."""
        return self.logits_from_features(self.features(images))

    def content_hash(self) -> str:
        """A hash of the shape and the weights: the same for classifiers that judge alike."""
        content = hashlib.sha256(self.config.model_dump_json(exclude={"held_out_accuracy"}).encode())
        for name, weight in self.state_dict().items():
            content.update(name.encode() + weight.cpu().numpy().tobytes())
        return content.hexdigest()

    @torch.no_grad()
    def round_to_half_precision(self) -> None:
        """Round the weights to what `save` keeps of them, so that what is measured is what is saved."""
        for parameter in self.parameters():
            parameter.copy_(parameter.half())

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` (in half precision) and then `config.json`, each of them whole or not at all."""
        target = Folder.open(folder)
        weights = {name: weight.detach().cpu().half().contiguous() for name, weight in self.state_dict().items()}
        target.write(WEIGHTS, save(weights))
        target.write(CONFIG, (self.config.model_dump_json(indent=2) + "\n").encode())

    @classmethod
    def load(cls, source: str | os.PathLike[str]) -> Classifier:
        """The classifier of a folder (or `builtin:digits`), in float32, in evaluation mode and frozen.

        Raises:
            UserError: there is none, or its files are broken or do not fit each other.
        """
        folder = Folder.open(_locate(os.fspath(source)))
        classifier = cls(_read_config(folder))
        classifier.load_state_dict(_read_weights(folder, classifier))
        return classifier.eval().requires_grad_(False)


def _locate(source: str) -> str:
    if not source.startswith("builtin:"):
        return source
    if source not in BUILTIN_CLASSIFIERS:
        raise UserError(f"no classifier {source!r} is shipped; there are: {', '.join(BUILTIN_CLASSIFIERS)}")
    return str(BUILTIN_CLASSIFIERS[source])


def _read(folder: Folder, name: str) -> bytes:
    try:
        return folder.read(name)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            f"{folder.path}: there is no classifier, {name} is missing; give builtin:digits or a folder that "
            "`sfd-sweep train-classifier` wrote"
        ) from error


def _read_config(folder: Folder) -> ClassifierConfig:
    try:
        return ClassifierConfig.model_validate_json(_read(folder, CONFIG))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(f"{folder.path}/{CONFIG} describes no classifier: {where}: {first['msg']}") from error


def _read_weights(folder: Folder, classifier: Classifier) -> dict[str, Tensor]:
    content = _read(folder, WEIGHTS)
    try:
        weights = load(content)
    except SafetensorError as error:
        raise UserError(f"{folder.path}/{WEIGHTS} is no whole safetensors file ({error}); train it again") from error
    expected = {name: tuple(weight.shape) for name, weight in classifier.state_dict().items()}
    found = {name: tuple(weight.shape) for name, weight in weights.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise UserError(
                f"{folder.path}/{WEIGHTS} does not fit {CONFIG}: {name} is of shape {found.get(name, 'missing')}, "
                f"not {expected.get(name, 'wanted')}; train it again"
            )
        if not weights[name].isfinite().all():
            raise UserError(f"{folder.path}/{WEIGHTS}: {name} holds values that are not finite; train it again")
    return weights
