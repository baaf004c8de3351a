"""Commands that make models: teachers, one-step generators that have forgotten nothing, and judges."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from sfd_sweep.cli.options import Force, Out, Seed, check_target, one_thread
from sfd_sweep.errors import TrialFailed, UserError

if TYPE_CHECKING:
    from sfd_sweep.config import Settings
    from sfd_sweep.diffusion.model_folder import ModelFolder
    from sfd_sweep.evaluation.quality import QualityJudge

GUIDANCE = 1.25

Images = Annotated[
    str,
    typer.Argument(
        help="Real images: builtin:digits, or PATH[:SPLIT] of Parquet files, CIFAR-10, STL-10 or CLASS/*.png, or a "
        "dataset's hub id OWNER/NAME[:SPLIT]; SPLIT is train, validation, test or all.",
        metavar="SOURCE",
    ),
]
Judged = Annotated[
    bool, typer.Option("--judge/--no-judge", help="Whether to measure it by the judge of builtin:digits.")
]


class FakeScoreLoss(StrEnum):
    """What the fake score's error is measured of."""

    EPSILON = "epsilon"
    VELOCITY = "velocity"


def pretrain(
    source: Images,
    *,
    out: Out,
    steps: Annotated[int, typer.Option(help="Updates.", min=1)] = 3000,
    batch_size: Annotated[int, typer.Option(help="Images an update.", min=1)] = 64,
    lr: Annotated[float, typer.Option(help="Peak learning rate.", min=1e-12)] = 3e-3,
    label_dropout: Annotated[float, typer.Option(help="Share of images without label.", min=0, max=1)] = 0.12,
    judged: Judged = True,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Pretrain a small teacher."""
    check_target(out, force)
    import torch

    from sfd_sweep.datasets.sources import load_images
    from sfd_sweep.diffusion.loading import load_score_model, save_score_model
    from sfd_sweep.diffusion.model_folder import ModelFolder
    from sfd_sweep.diffusion.pretraining import Pretraining
    from sfd_sweep.diffusion.pretraining import pretrain as pretrain_teacher
    from sfd_sweep.diffusion.sampling import sample_ddim
    from sfd_sweep.evaluation.classifier import Classifier
    from sfd_sweep.evaluation.quality import QualityJudge

    one_thread()
    images = load_images(source)
    judge = QualityJudge(Classifier.load("builtin:digits"), images) if judged else None
    if judge:
        judge.check_fit(images.class_names, images.image_shape)
    recipe = Pretraining(steps=steps, batch_size=batch_size, lr=lr, label_dropout=label_dropout, seed=seed)
    with _progress("pretraining", steps) as advance:
        model = pretrain_teacher(
            images,
            recipe=recipe,
            progress=lambda step, _steps, _loss: advance(step),
        )
    save_score_model(model, out, images.class_names, index={"_class_name": "DDPMPipeline"}, dtype=torch.float16)
    print(f"{out}: a teacher of {len(images.class_names)} classes")
    if judge:
        saved = load_score_model(ModelFolder.open(str(out)))
        distance = judge.distance(lambda c, noise: sample_ddim(saved, c, noise, guidance_scale=GUIDANCE))
        print(f"fd_classifier {distance:.4g} on 2,000 samples (20 steps of DDIM, guidance {GUIDANCE})")


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
    judged: Judged = True,
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
        with _progress("distilling", steps) as advance:
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
    with _progress("training", epochs) as advance:
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


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on the terminal; the block says how much is done."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from sfd_sweep.cli.tables import console

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)
