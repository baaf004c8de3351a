"""Commands that make models of others or of images: one-step generators that have forgotten nothing, and judges."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from sfd_sweep.cli.making import check_target, progress_bar
from sfd_sweep.cli.options import Force, Images, Out, Seed, one_thread
from sfd_sweep.errors import TrialFailed, UserError

if TYPE_CHECKING:
    from sfd_sweep.config import Settings
    from sfd_sweep.diffusion.model_folder import ModelFolder
    from sfd_sweep.evaluation.quality import QualityJudge


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
    epochs: Annotated[int, typer.Option(help="Passes over the images.", min=1)] = 25,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Train the classifier that judges generators."""
    check_target(out, force)
    from sfd_sweep.datasets.sources import load_images
    from sfd_sweep.evaluation.training import TrainingRecipe
    from sfd_sweep.evaluation.training import train_classifier as train

    one_thread()
    images = load_images(source)
    with progress_bar("training", epochs) as advance:
        trained = train(
            images, seed=seed, recipe=TrainingRecipe(epochs=epochs), progress=lambda epoch, _loss: advance(epoch)
        )
    trained.classifier.save(out)
    print(f"{out}: {trained.held_out_accuracy:.2%} of the held-out images are called by their class")


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
