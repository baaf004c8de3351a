"""Score identity Distillation: a one-step generator that has forgotten nothing, for sweeps to start from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sfd_sweep.config import Resources, Settings
from sfd_sweep.errors import UserError
from sfd_sweep.method.batch import ForgettingTask
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.method.trainer import DEFAULT_RESOURCES, Trainer
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.score_model import ScoreModel

OF_CLASSES = Settings(
    batch_size=32,
    generator_lr=2e-4,
    fake_score_lr_ratio=2.5,
    guidance_scale=1.25,
    alpha=1.2,
    ema_decay=0.99,
    fake_score_loss="velocity",
)
OF_PROMPTS = Settings(
    batch_size=32,
    generator_lr=1e-4,
    fake_score_lr_ratio=3,
    guidance_scale=1.5,
    alpha=1.0,
    ema_decay=0.98,
    t_min=20,
    t_init=625,
    t_max=980,
)
"""Settings that distil the shipped digits, and digits in words; the latter's diffusion steps are those of the public
release for Stable Diffusion."""


def check_teacher(folder: ModelFolder, settings: Settings) -> None:
    """Whether a model can be distilled with such settings, before it is loaded.

    Raises:
        UserError: it is a generator itself, has no null label for guidance, or has fewer diffusion steps.
    """
    scales = (
        settings.guidance_scale,
        settings.fake_score_guidance_scale,
        settings.fake_score_training_guidance_scale,
    )
    needs_null = settings.condition_dropout > 0 or any(scale != 1 for scale in scales)
    if folder.t_init is not None:
        raise UserError(f"{folder.path} is a one-step generator already; name the diffusion model it came from")
    if folder.null_label is None and needs_null:
        raise UserError(
            f"guidance and condition dropout need a null label, and {folder.path} was trained without one; set "
            "guidance_scale 1"
        )
    if settings.t_max > folder.diffusion_steps or settings.t_init >= folder.diffusion_steps:
        raise UserError(
            f"t_init {settings.t_init} and t_max {settings.t_max} do not fit the {folder.diffusion_steps} diffusion "
            f"steps of {folder.path}"
        )


def distill(
    teacher: ScoreModel,
    settings: Settings,
    *,
    class_names: Sequence[str],
    steps: int,
    seed: int = 0,
    resources: Resources = DEFAULT_RESOURCES,
    progress: Callable[[int], None] | None = None,
) -> OneStepGenerator:
    """Distil a teacher into a one-step generator of all its classes or prompts.

    Zhou et al., "Score identity Distillation" (ICML 2024); of prompts, with guidance, Zhou et al., "Long and Short
    Guidance in Score identity Distillation for One-Step Text-to-Image Generation" (2024).

    Args:
        teacher: a diffusion model.
        settings: of the method; what is about forgetting has no effect.
        class_names: the classes' names by index, or the prompts.
        steps: updates of generator and fake score.
        seed: of every random draw.
        resources: precision, micro-batches and checkpoints.
        progress: called after every step with the steps done.

    Returns:
        The generator with averaged weights.

    Raises:
        TrialFailed: it diverged.
    """
    task = ForgettingTask.nothing(len(class_names))
    trainer = Trainer(teacher, teacher, task, settings, class_names=class_names, seed=seed, resources=resources)
    while trainer.step < steps:
        trainer.update()
        if progress is not None:
            progress(trainer.step)
    return trainer.ema_generator
