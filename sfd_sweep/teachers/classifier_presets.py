"""Networks and recipes of training that make good judges, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from pydantic import ValidationError

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.residual import ResidualConfig
from sfd_sweep.evaluation.classifiers.small_cnn import SmallCnnConfig
from sfd_sweep.evaluation.classifiers.trainable import ClassifierConfig
from sfd_sweep.teachers.classifier_training import TrainingRecipe

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A network for any images and classes, and how it is trained.

    Attributes:
        network: its config, given `image_size`, `channels` and `class_names`.
        recipe: for photographs, if it mirrors them: drawings and letters in grey are never mirrored.
        imagenet: whether it can start from ImageNet's weights.
    """

    network: Callable[..., ClassifierConfig]
    recipe: TrainingRecipe
    imagenet: bool = False

    def network_for(self, images: LabeledImages) -> ClassifierConfig:
        """The network for such images.

        Raises:
            UserError: it cannot be made for them.
        """
        channels, height, width = images.image_shape
        if height != width:
            raise UserError(f"the images are {height}×{width} pixels; a classifier is trained on square ones")
        try:
            return self.network(image_size=height, channels=channels, class_names=images.class_names)
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise UserError(
                f"this preset makes no network for images of {channels}×{height}×{width} of {len(images.class_names)} "
                f"classes ({reason}); choose another preset"
            ) from error

    def recipe_for(self, images: LabeledImages) -> TrainingRecipe:
        """The recipe for such images."""
        return replace(self.recipe, mirror=self.recipe.mirror and images.image_shape[0] > 1)


def _residual_for_small_images(*, channels: int, **shape: object) -> ResidualConfig:
    middle = (0.5,) * channels
    return ResidualConfig.model_validate({"channels": channels, "mean": middle, "std": middle, **shape})


def _resnet34(*, channels: int, class_names: tuple[str, ...], **_: object) -> ResidualConfig:
    """Whatever size the images have, the network sees them as large as ImageNet's."""
    colour = channels == len(IMAGENET_MEAN)
    return ResidualConfig(
        image_size=224,
        channels=channels,
        class_names=class_names,
        stem="imagenet",
        widths=(64, 128, 256, 512),
        blocks=(3, 4, 6, 3),
        mean=IMAGENET_MEAN if colour else (0.5,) * channels,
        std=IMAGENET_STD if colour else (0.5,) * channels,
    )


PHOTOGRAPHS = TrainingRecipe(
    epochs=20, batch_size=256, optimizer="sgd", peak_lr=0.2, weight_decay=5e-4, shift=1 / 8, mirror=True
)

PRESETS = {
    "digits": Preset(
        network=partial(SmallCnnConfig, widths=(32, 64, 64), features=64),
        recipe=TrainingRecipe(
            epochs=25,
            batch_size=64,
            optimizer="adamw",
            peak_lr=4e-3,
            weight_decay=1e-3,
            label_smoothing=0.05,
            noise=0.2,
            held_out=1 / 3,
        ),
    ),
    "cifar-resnet-small": Preset(
        network=partial(_residual_for_small_images, stem="halving", widths=(32, 64, 128), blocks=(1, 1, 1)),
        recipe=replace(PHOTOGRAPHS, epochs=6, batch_size=128, peak_lr=0.1),
    ),
    "cifar-resnet": Preset(
        network=partial(_residual_for_small_images, stem="small", widths=(64, 128, 256, 512), blocks=(2, 2, 2, 2)),
        recipe=PHOTOGRAPHS,
    ),
    "resnet34-224": Preset(
        network=_resnet34, recipe=replace(PHOTOGRAPHS, epochs=5, batch_size=128, peak_lr=0.02), imagenet=True
    ),
}


def default_preset(image_shape: tuple[int, int, int], *, gpu: bool) -> str:
    """The name of the preset for images of shape (C, H, W): by their size, and by what can train it in minutes."""
    size = image_shape[-1]
    if size <= 16:
        return "digits"
    if size > 64:
        return "resnet34-224"
    return "cifar-resnet" if gpu else "cifar-resnet-small"
