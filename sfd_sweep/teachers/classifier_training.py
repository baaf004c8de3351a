"""Training of classifiers on real images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import ceil
from types import MappingProxyType
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, ValidationError, model_validator
from torch import Tensor

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.trainable import (
    ClassifierConfig,
    ResidualConfig,
    SmallCnnConfig,
    TrainableClassifier,
    imagenet_weights,
)
from sfd_sweep.teachers.recipes import Count, Recipe, preset_named

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGENET_NETWORK = "resnet34-224"


def _residual(*, channels: int, **shape: Any) -> ResidualConfig:
    middle = (0.5,) * channels
    return ResidualConfig(**{"channels": channels, "mean": middle, "std": middle, **shape})


def _resnet34(*, channels: int, class_names: tuple[str, ...], **_: object) -> ResidualConfig:
    """Return ResNet-34, which resizes images to the size of ImageNet's."""
    colors = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD} if channels == len(IMAGENET_MEAN) else {}
    return _residual(
        channels=channels,
        class_names=class_names,
        image_size=224,
        stem="imagenet",
        widths=(64, 128, 256, 512),
        blocks=(3, 4, 6, 3),
        **colors,
    )


NETWORKS: dict[str, Callable[..., ClassifierConfig]] = {
    "digits": partial(SmallCnnConfig, widths=(32, 64, 64), features=64),
    "cifar-resnet-small": partial(_residual, stem="halving", widths=(32, 64, 128), blocks=(1, 1, 1)),
    "cifar-resnet": partial(_residual, stem="small", widths=(64, 128, 256, 512), blocks=(2, 2, 2, 2)),
    IMAGENET_NETWORK: _resnet34,
}
"""Network configurations, given `image_size`, `channels` and `class_names`."""


class ClassifierTraining(Recipe):
    """A classifier's network and its training."""

    network: Literal["digits", "cifar-resnet-small", "cifar-resnet", "resnet34-224"] = Field(
        description="small CNN, small ResNet, ResNet-18, or ResNet-34 on images resized to 224×224 pixels"
    )
    pretrained: bool = Field(False, description="whether resnet34-224 starts from ImageNet's weights")
    epochs: Count = Field(description="passes over the training part")
    batch_size: int = Field(ge=2, description="images of an update")
    optimizer: Literal["adamw", "sgd"] = Field(description="AdamW, or SGD with Nesterov's momentum")
    lr: float = Field(gt=0, description="highest learning rate of the one-cycle schedule")
    weight_decay: float = Field(ge=0, description="the optimizer's")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="probability that is spread over all classes")
    noise: float = Field(0.0, ge=0, description="standard deviation of the noise that is added to images in [-1, 1]")
    shift: float = Field(0.0, ge=0, lt=1, description="farthest move along each side, as a share of the side")
    mirror: bool = Field(False, description="whether half of the images are mirrored, left to right")
    held_out: float = Field(0.1, gt=0, lt=1, description="share of the images that measures the accuracy")
    bf16: bool = Field(True, description="whether a GPU computes in bfloat16")
    seed: int = Field(0, ge=0, description="of the split, of the first weights and of every draw")

    @model_validator(mode="after")
    def _only_one_network_is_pretrained(self) -> ClassifierTraining:
        if self.pretrained and self.network != IMAGENET_NETWORK:
            raise ValueError(f"pretrained is for {IMAGENET_NETWORK}; {self.network} has no ImageNet weights")
        return self

    @classmethod
    def preset_for(
        cls, image_shape: tuple[int, int, int], *, name: str | None = None, gpu: bool = False
    ) -> ClassifierTraining:
        """Return a preset for images of shape (C, H, W); gray images, which may be letters, are never mirrored.

        Args:
            image_shape: of the images.
            name: of the preset; None: by the images' size, and by what trains it in minutes.
            gpu: whether a GPU trains it.

        Raises:
            UserError: the name is unknown.
        """
        preset = preset_named(PRESETS, name or _default_preset(image_shape[-1], gpu=gpu))
        return preset.model_copy(update={"mirror": preset.mirror and image_shape[0] > 1})

    def network_for(self, images: LabeledImages) -> ClassifierConfig:
        """Return the network's configuration for such images.

        Raises:
            UserError: the network does not fit them.
        """
        channels, height, width = images.image_shape
        if height != width:
            raise UserError(f"the images are {height}×{width} pixels; a classifier is trained on square ones")
        try:
            return NETWORKS[self.network](image_size=height, channels=channels, class_names=images.class_names)
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise UserError(
                f"{self.network} is no network for images of {channels}×{height}×{width} of {len(images.class_names)} "
                f"classes ({reason}); choose another preset"
            ) from error

    def first_weights(self) -> dict[str, Tensor]:
        """Return the weights that training starts from, by name; none where all are random.

        Raises:
            UserError: they cannot be fetched.
        """
        return imagenet_weights() if self.pretrained else {}


_PHOTOGRAPHS = ClassifierTraining(
    network="cifar-resnet",
    epochs=20,
    batch_size=256,
    optimizer="sgd",
    lr=0.2,
    weight_decay=5e-4,
    shift=1 / 8,
    mirror=True,
)

PRESETS = {
    "digits": ClassifierTraining(
        network="digits",
        epochs=25,
        batch_size=64,
        optimizer="adamw",
        lr=4e-3,
        weight_decay=1e-3,
        label_smoothing=0.05,
        noise=0.2,
        held_out=1 / 3,
    ),
    "cifar-resnet-small": _PHOTOGRAPHS.model_copy(
        update={"network": "cifar-resnet-small", "epochs": 6, "batch_size": 128, "lr": 0.1}
    ),
    "cifar-resnet": _PHOTOGRAPHS,
    "resnet34-224": _PHOTOGRAPHS.model_copy(
        update={"network": "resnet34-224", "epochs": 5, "batch_size": 128, "lr": 0.02}
    ),
}
"""By the name of their network."""


def _default_preset(size: int, *, gpu: bool) -> str:
    if size <= 16:
        return "digits"
    if size > 64:
        return "resnet34-224"
    return "cifar-resnet" if gpu else "cifar-resnet-small"


def train_classifier(
    images: LabeledImages,
    network: ClassifierConfig,
    recipe: ClassifierTraining,
    *,
    device: torch.device | str = "cpu",
    start: Mapping[str, Tensor] = MappingProxyType({}),
    progress: Callable[[int, float], None] | None = None,
) -> TrainableClassifier:
    """Train a classifier. On the CPU the same seed gives the same weights; the global random state stays as it was.

    Args:
        images: of the network's classes; a share is held out.
        network: what is trained, see `ClassifierTraining.network_for`.
        recipe: hyperparameters.
        device: where to train.
        start: first weights by their names, in place of random ones.
        progress: called after every epoch with the epochs done and their last mean loss.

    Returns:
        The classifier, frozen and in evaluation mode; its config has the accuracy on the held-out images.

    Raises:
        UserError: there are too few images to train on some and measure on others, or the training diverged.
    """
    training, held_out = images.split(recipe.held_out, recipe.seed)
    if len(training) < 2 or not len(held_out):
        raise UserError(f"{len(images)} images are too few to train on some and to measure on others; give more")
    device = torch.device(device)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        classifier = network.build()
        classifier.load_state_dict({**classifier.state_dict(), **start})
        classifier.to(device)
        _Training(classifier, recipe, device).fit(training, progress)
    classifier.round_to_half_precision()
    if not all(weight.isfinite().all() for weight in classifier.state_dict().values()):
        raise UserError("the training diverged: weights are not finite; try a lower learning rate")
    accuracy = _accuracy(classifier.eval().requires_grad_(False), held_out, device)
    classifier.config = classifier.config.model_copy(update={"held_out_accuracy": round(accuracy, 6)})
    return classifier


@dataclass(frozen=True)
class _Training:
    classifier: TrainableClassifier
    recipe: ClassifierTraining
    device: torch.device

    def fit(self, images: LabeledImages, progress: Callable[[int, float], None] | None) -> None:
        recipe = self.recipe
        optimizer = self._optimizer()
        updates = recipe.epochs * ceil(len(images) / recipe.batch_size)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=recipe.lr, total_steps=updates)
        for epoch in range(1, recipe.epochs + 1):
            losses = []
            for batch in torch.randperm(len(images)).split(recipe.batch_size):
                if len(batch) == 1:
                    continue  # batch normalization needs two
                loss = self._loss(images.take(batch))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                losses.append(loss.detach())
            if progress is not None:
                progress(epoch, float(torch.stack(losses).mean()))

    def _optimizer(self) -> torch.optim.Optimizer:
        weights, decay = self.classifier.parameters(), self.recipe.weight_decay
        if self.recipe.optimizer == "adamw":
            return torch.optim.AdamW(weights, weight_decay=decay)
        return torch.optim.SGD(weights, lr=self.recipe.lr, momentum=0.9, nesterov=True, weight_decay=decay)

    def _loss(self, batch: LabeledImages) -> Tensor:
        images = self._augmented(batch.images).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bf16 and self.device.type == "cuda"):
            logits = self.classifier(images)
        labels = batch.labels.to(self.device)
        return F.cross_entropy(logits.float(), labels, label_smoothing=self.recipe.label_smoothing)

    def _augmented(self, images: Tensor) -> Tensor:
        """Every draw is the CPU's, and so the same on every device."""
        recipe = self.recipe
        if recipe.shift:
            images = shifted(images, recipe.shift)
        if recipe.mirror:
            images = mirrored(images)
        return images + recipe.noise * torch.randn_like(images) if recipe.noise else images


def shifted(images: Tensor, share: float) -> Tensor:
    """Move every image of (n, C, H, W) by a random whole number of pixels along each side; edges are reflected.

    Args:
        images: the images.
        share: the farthest move, as a share of the longer side; at least a pixel.
    """
    height, width = images.shape[2:]
    farthest = max(1, round(share * max(height, width)))
    windows = F.pad(images, [farthest] * 4, mode="reflect").unfold(2, height, 1).unfold(3, width, 1)
    rows, columns = torch.randint(2 * farthest + 1, (2, len(images)), device=images.device)
    return windows[torch.arange(len(images), device=images.device), :, rows, columns]


def mirrored(images: Tensor) -> Tensor:
    """Mirror every image of (n, C, H, W), left to right, with a probability of 1/2."""
    chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(chosen, images.flip(3), images)


@torch.no_grad()
def _accuracy(classifier: TrainableClassifier, images: LabeledImages, device: torch.device) -> float:
    called = torch.cat([classifier(batch.to(device)).argmax(1).cpu() for batch in images.batches(1000)])
    return float((called == images.labels).double().mean())
