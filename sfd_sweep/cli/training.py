"""The command that makes a judge of images."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Any

import typer

from sfd_sweep.cli.making import check_target, parse_class_names, progress_bar
from sfd_sweep.cli.options import (
    Device,
    Devices,
    Force,
    ImageClassNames,
    Images,
    Out,
    Seed,
    chosen_device,
    one_thread,
)
from sfd_sweep.errors import UserError


class ClassifierPreset(StrEnum):
    """Networks and recipes of classifiers: the names of `sfd_sweep.teachers.classifier_presets.PRESETS`."""

    DIGITS = "digits"
    CIFAR_RESNET_SMALL = "cifar-resnet-small"
    CIFAR_RESNET = "cifar-resnet"
    RESNET34 = "resnet34-224"


def train_classifier(
    source: Images,
    *,
    out: Out,
    preset: Annotated[
        ClassifierPreset | None,
        typer.Option(
            help="Network and recipe; otherwise by the images: digits up to 16 pixels, cifar-resnet up to 64 (on a CPU "
            "cifar-resnet-small), resnet34-224 above."
        ),
    ] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Start resnet34-224 from ImageNet's weights.")
    ] = False,
    class_names: ImageClassNames = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the images; otherwise the preset's.", min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images an update; otherwise the preset's.", min=2)] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate; otherwise the preset's.", min=1e-12)] = None,
    device: Device = Devices.AUTO,
    bf16: Annotated[bool, typer.Option("--bf16/--no-bf16", help="Whether a GPU computes in bfloat16.")] = True,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Train the classifier that judges generators."""
    check_target(out, force)
    names = None if class_names is None else parse_class_names(class_names)
    from sfd_sweep.datasets.sources import load_images
    from sfd_sweep.evaluation.classifiers.residual import imagenet_weights
    from sfd_sweep.teachers.classifier_presets import PRESETS, default_preset
    from sfd_sweep.teachers.classifier_training import train_classifier as train

    place = chosen_device(device)
    images = load_images(source, class_names=names)
    name = default_preset(images.image_shape, gpu=place == "cuda") if preset is None else preset.value
    chosen = PRESETS[name]
    if pretrained and not chosen.imagenet:
        raise UserError(f"--pretrained is for --preset resnet34-224; {name} has no ImageNet weights to start from")
    if name == "digits":
        one_thread()
    given: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "peak_lr": lr}
    recipe = replace(chosen.recipe_for(images), **{field: value for field, value in given.items() if value is not None})
    network = chosen.network_for(images)
    start = imagenet_weights() if pretrained else {}
    with progress_bar(f"training {name}", recipe.epochs) as advance:
        trained = train(
            images,
            network,
            recipe,
            seed=seed,
            device=place,
            bf16=bf16 and place == "cuda",
            start=start,
            progress=lambda epoch, _loss: advance(epoch),
        )
    trained.classifier.save(out)
    print(f"{out}: {trained.held_out_accuracy:.2%} of the held-out images are called by their class ({name})")
