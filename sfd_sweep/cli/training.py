"""Commands that make models of others or of images: one-step generators that have forgotten nothing, and judges."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

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
from sfd_sweep.errors import TrialFailed, UserError

if TYPE_CHECKING:
    from sfd_sweep.config import Settings
    from sfd_sweep.diffusion.model_folder import ModelFolder
    from sfd_sweep.evaluation.quality import QualityJudge


class ClassifierPreset(StrEnum):
    """Networks and recipes of classifiers: the names of `sfd_sweep.evaluation.presets.PRESETS`."""

    DIGITS = "digits"
    CIFAR_RESNET_SMALL = "cifar-resnet-small"
    CIFAR_RESNET = "cifar-resnet"
    RESNET34 = "resnet34-224"


class FakeScoreLoss(StrEnum):
    """What the fake score's error is measured of."""

    EPSILON = "epsilon"
    VELOCITY = "velocity"


def distill(
    teacher: Annotated[str, typer.Argument(help="builtin:digits, a diffusers folder or a hub id.", metavar="TEACHER")],
    *,
    out: Out,
    steps: Annotated[int, typer.Option(help="Updates of generator and fake score.", min=1)] = 200,
    batch_size: Annotated[int, typer.Option(help="Conditions an update.")] = 32,
    generator_lr: Annotated[float, typer.Option(help="Learning rate of the generator.")] = 2e-4,
    fake_score_lr_ratio: Annotated[float, typer.Option(help="The fake score's, over the generator's.")] = 2.5,
    guidance_scale: Annotated[float, typer.Option(help="Guidance of the teacher; 1 is none.")] = 1.25,
    alpha: Annotated[float, typer.Option(help="α of the generator's loss.")] = 1.2,
    ema_decay: Annotated[float, typer.Option(help="Decay of the generator's moving average.")] = 0.99,
    fake_score_loss: Annotated[
        FakeScoreLoss, typer.Option(help="Error of the fake score that is squared.")
    ] = FakeScoreLoss.VELOCITY,
    t_init: Annotated[int, typer.Option(help="Diffusion step at which the generator is evaluated.")] = 440,
    judged: Annotated[
        bool, typer.Option("--judge/--no-judge", help="Whether to measure it by the judge of builtin:digits.")
    ] = True,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Distil a teacher into a one-step generator.

    It has forgotten nothing: sweeps can start from it (task.start). The defaults are for the shipped digits.
    """
    check_target(out, force)
    settings = _settings(
        batch_size=batch_size,
        generator_lr=generator_lr,
        fake_score_lr_ratio=fake_score_lr_ratio,
        guidance_scale=guidance_scale,
        alpha=alpha,
        ema_decay=ema_decay,
        fake_score_loss=fake_score_loss.value,
        t_init=t_init,
    )
    import torch

    from sfd_sweep.diffusion.loading import load_score_model
    from sfd_sweep.diffusion.model_folder import ModelFolder
    from sfd_sweep.distillation.distill import check_teacher
    from sfd_sweep.distillation.distill import distill as distill_teacher
    from sfd_sweep.distillation.generator import OneStepGenerator

    one_thread()
    folder = ModelFolder.open(teacher)
    check_teacher(folder, settings)
    judge = _judge_of(folder) if judged else None
    model = load_score_model(folder)
    try:
        with progress_bar("distilling", steps) as advance:
            generator = distill_teacher(
                model, settings, class_names=folder.class_names, steps=steps, seed=seed, progress=advance
            )
    except TrialFailed as error:
        raise UserError(f"{error}; try a lower --generator-lr") from error
    generator.save(out, dtype=torch.float16)
    print(f"{out}: a one-step generator of {len(folder.class_names)} classes")
    if judge:
        distance = judge.distance(OneStepGenerator.load(out).generate)
        print(f"fd_classifier {distance:.4g} on 2,000 samples")


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
    from sfd_sweep.evaluation.presets import PRESETS, default_preset
    from sfd_sweep.evaluation.training import train_classifier as train

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


def _judge_of(teacher: ModelFolder) -> QualityJudge:
    """A judge for what the teacher's generators make.

    Raises:
        UserError: there is none for images of such classes.
    """
    from sfd_sweep.evaluation.quality import QualityJudge

    judge = QualityJudge.load()
    judge.check_fit(teacher.class_names, teacher.image_shape)
    return judge


def _settings(**options: object) -> Settings:
    """The settings of the method that the options ask for.

    Raises:
        UserError: an option is out of its range.
    """
    from pydantic import ValidationError

    from sfd_sweep.config import Settings

    try:
        return Settings.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + "-".join(map(str, first["loc"])).replace("_", "-")
        message = first["msg"].removeprefix("Input ")
        raise UserError(f"{option} {message}, not {first['input']}") from error
