"""The command that makes a one-step generator of a teacher."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from sfd_sweep.cli.making import check_target, progress_bar
from sfd_sweep.cli.options import Device, Devices, Force, Out, Seed, chosen_device, one_thread
from sfd_sweep.errors import TrialFailed, UserError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from sfd_sweep.config import Resources, Settings
    from sfd_sweep.models.folder import ModelFolder
    from sfd_sweep.teachers.quality import QualityJudge

    Model = TypeVar("Model", bound=BaseModel)


class FakeScoreLoss(StrEnum):
    """What the fake score's error is measured of."""

    EPSILON = "epsilon"
    VELOCITY = "velocity"


class Precision(StrEnum):
    """How networks multiply."""

    FLOAT32 = "float32"
    TF32 = "tf32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


Teacher = Annotated[str, typer.Argument(help="builtin:digits, a diffusers folder or a hub id.", metavar="TEACHER")]
Prompts = Annotated[
    str | None,
    typer.Option(
        help="What a text-to-image teacher is distilled on: a file with a prompt a line, or PATH[:COLUMN] of a CSV or "
        "Parquet file.",
        metavar="FILE",
    ),
]
Steps = Annotated[int, typer.Option(help="Updates of generator and fake score.", min=1)]
BatchSize = Annotated[int | None, typer.Option(help="Conditions an update.")]
Rate = Annotated[float | None, typer.Option(help="Learning rate of the generator.")]
Ratio = Annotated[float | None, typer.Option(help="The fake score's, over the generator's.")]
Guidance = Annotated[float | None, typer.Option(help="Guidance of the teacher (κ4); 1 is none.")]
FakeGuidance = Annotated[float | None, typer.Option(help="The fake score's in the generator's loss (κ2 = κ3).")]
TrainingGuidance = Annotated[float | None, typer.Option(help="The fake score's while it is trained (κ1).")]
Dropout = Annotated[
    float | None, typer.Option(help="Share of samples whose condition the fake score is not told; 0.1 is usual.")
]
Alpha = Annotated[float | None, typer.Option(help="α of the generator's loss.")]
EmaDecay = Annotated[float | None, typer.Option(help="Decay of the generator's moving average.")]
LoraRank = Annotated[
    int | None, typer.Option(help="Rank of adapters that are trained in place of all weights, which saves memory.")
]
Error = Annotated[FakeScoreLoss | None, typer.Option(help="Error of the fake score that is squared.")]
FirstStep = Annotated[int | None, typer.Option(help="Diffusion step at which the generator is evaluated.")]
Products = Annotated[Precision, typer.Option(help="Arithmetic of the networks.")]
MicroBatchSize = Annotated[int | None, typer.Option(help="Samples at a time at most, which saves memory.")]
Checkpointing = Annotated[
    bool, typer.Option("--activation-checkpointing", help="Compute activations twice, which saves memory.")
]
Judged = Annotated[
    bool, typer.Option("--judge/--no-judge", help="Whether to measure one of classes by the judge of builtin:digits.")
]


def distill(
    teacher: Teacher,
    *,
    out: Out,
    prompts: Prompts = None,
    steps: Steps = 200,
    batch_size: BatchSize = None,
    generator_lr: Rate = None,
    fake_score_lr_ratio: Ratio = None,
    guidance_scale: Guidance = None,
    fake_score_guidance_scale: FakeGuidance = None,
    fake_score_training_guidance_scale: TrainingGuidance = None,
    condition_dropout: Dropout = None,
    alpha: Alpha = None,
    ema_decay: EmaDecay = None,
    lora_rank: LoraRank = None,
    fake_score_loss: Error = None,
    t_init: FirstStep = None,
    device: Device = Devices.AUTO,
    precision: Products = Precision.FLOAT32,
    micro_batch_size: MicroBatchSize = None,
    activation_checkpointing: Checkpointing = False,
    judged: Judged = True,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Distil a teacher into a one-step generator.

    It has forgotten nothing: sweeps can start from it (task.start). Settings that are not given are those for digits,
    the shipped ones or a text-to-image teacher's.
    """
    check_target(out, force)
    one_thread()
    from sfd_sweep.config import Resources
    from sfd_sweep.models.folder import ModelFolder
    from sfd_sweep.teachers.distillation import OF_CLASSES, OF_PROMPTS, check_teacher

    folder = ModelFolder.open(teacher)
    settings = _changed(
        OF_PROMPTS if folder.reads_text else OF_CLASSES,
        batch_size=batch_size,
        generator_lr=generator_lr,
        fake_score_lr_ratio=fake_score_lr_ratio,
        guidance_scale=guidance_scale,
        fake_score_guidance_scale=fake_score_guidance_scale,
        fake_score_training_guidance_scale=fake_score_training_guidance_scale,
        condition_dropout=condition_dropout,
        alpha=alpha,
        ema_decay=ema_decay,
        lora_rank=lora_rank,
        fake_score_loss=None if fake_score_loss is None else fake_score_loss.value,
        t_init=t_init,
    )
    place = chosen_device(device)
    resources = _changed(
        Resources(),
        gpus_per_worker=1 if place == "cuda" else 0,
        precision=precision.value,
        micro_batch_size=micro_batch_size,
        activation_checkpointing=activation_checkpointing,
    )
    check_teacher(folder, settings)
    conditions = _conditions(folder, prompts)
    judge = _judge_of(folder) if judged and not folder.reads_text else None
    _train(folder, conditions, settings, out, steps=steps, device=place, resources=resources, seed=seed)
    print(f"{out}: a one-step generator of {len(conditions)} {'prompts' if folder.reads_text else 'classes'}")
    if judge is not None:
        from sfd_sweep.method.generator import OneStepGenerator

        distance = judge.distance(OneStepGenerator.load(out).generate)
        print(f"fd_classifier {distance:.4g} on 2,000 samples")


def _train(
    folder: ModelFolder,
    conditions: Sequence[str],
    settings: Settings,
    out: Path,
    *,
    steps: int,
    device: str,
    resources: Resources,
    seed: int,
) -> None:
    """Distil a teacher, and store what has become of it.

    Raises:
        UserError: it diverged.
    """
    import torch

    from sfd_sweep.models.loading import load_score_model
    from sfd_sweep.teachers.distillation import distill as distill_teacher

    model = load_score_model(folder, device, prompts=conditions if folder.reads_text else ())
    try:
        with progress_bar("distilling", steps) as advance:
            generator = distill_teacher(
                model, settings, class_names=conditions, steps=steps, seed=seed, resources=resources, progress=advance
            )
    except TrialFailed as error:
        raise UserError(f"{error}; try a lower --generator-lr") from error
    generator.save(out, dtype=torch.float16)


def _conditions(folder: ModelFolder, prompts: str | None) -> tuple[str, ...]:
    """The classes or prompts that a teacher is distilled on.

    Raises:
        UserError: there is no file of prompts, or it is not wanted.
    """
    if not folder.reads_text:
        if prompts is not None:
            raise UserError(f"--prompts are for text-to-image teachers, and {folder.path} is one of classes")
        return folder.class_names
    if prompts is None:
        raise UserError(f"{folder.path} makes images of prompts: say of which (--prompts FILE)")
    from sfd_sweep.datasets.prompts import read_prompts

    return read_prompts(prompts)


def _judge_of(teacher: ModelFolder) -> QualityJudge:
    """A judge for what the teacher's generators make.

    Raises:
        UserError: there is none for images of such classes.
    """
    from sfd_sweep.teachers.quality import QualityJudge

    judge = QualityJudge.load()
    judge.check_fit(teacher.class_names, teacher.image_shape)
    return judge


def _changed(model: Model, **options: object) -> Model:
    """The model with those of the options that are not None.

    Raises:
        UserError: an option is out of its range.
    """
    from pydantic import ValidationError

    given = {name: value for name, value in options.items() if value is not None}
    try:
        return type(model).model_validate({**model.model_dump(), **given})
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + "-".join(map(str, first["loc"])).replace("_", "-")
        message = first["msg"].removeprefix("Input ")
        instead = "" if first["input"] is None else f", not {first['input']}"
        raise UserError(f"{option} {message}{instead}") from error
