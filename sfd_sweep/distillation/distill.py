"""Score identity Distillation: a one-step generator that has forgotten nothing, for sweeps to start from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sfd_sweep.config import Settings
from sfd_sweep.diffusion.model_folder import ModelFolder
from sfd_sweep.diffusion.score_model import ScoreModel
from sfd_sweep.distillation.conditions import ForgettingTask
from sfd_sweep.distillation.generator import OneStepGenerator
from sfd_sweep.distillation.trainer import Trainer
from sfd_sweep.errors import UserError


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
    if folder.t_init is not None:
        raise UserError(f"{folder.path} is a one-step generator already; name the diffusion model it came from")
    if folder.reads_text:
        raise UserError(f"{folder.path} makes images of prompts, and only models of classes can be distilled")
    if folder.null_label is None and any(scale != 1 for scale in scales):
        raise UserError(f"guidance needs a null label, and {folder.path} was trained without one; set guidance_scale 1")
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
    progress: Callable[[int], None] | None = None,
) -> OneStepGenerator:
    """Distil a teacher into a one-step generator of all its classes (Zhou et al., ICML 2024).

    Args:
        teacher: a diffusion model.
        settings: of the method; what is about forgetting has no effect.
        class_names: the classes' names by index.
        steps: updates of generator and fake score.
        seed: of every random draw.
        progress: called after every step with the steps done.

    Returns:
        The generator with averaged weights.

    Raises:
        TrialFailed: it diverged.
    """
    task = ForgettingTask.nothing(len(class_names))
    trainer = Trainer(teacher, teacher, task, settings, class_names=class_names, seed=seed)
    while trainer.step < steps:
        trainer.update()
        if progress is not None:
            progress(trainer.step)
    return trainer.ema_generator
