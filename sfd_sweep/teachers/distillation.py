"""Score identity Distillation: one-step generators that have forgotten nothing, for sweeps to start from."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import Field

from sfd_sweep.config import Resources, Settings
from sfd_sweep.errors import UserError
from sfd_sweep.method.batch import ForgettingTask
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.method.trainer import Trainer
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.score_model import ScoreModel
from sfd_sweep.teachers.recipes import Count, Recipe


class Distillation(Recipe):
    """How a teacher is distilled into a one-step generator. The defaults distill the shipped digits."""

    steps: Count = Field(200, description="updates of generator and fake score")
    seed: int = Field(0, ge=0, description="of every random draw")
    settings: Settings = Field(
        Settings(
            batch_size=32,
            generator_lr=2e-4,
            fake_score_lr_ratio=2.5,
            guidance_scale=1.25,
            alpha=1.2,
            ema_decay=0.99,
            fake_score_loss="velocity",
        ),
        description="the method's hyperparameters; those about forgetting have no effect",
    )
    resources: Resources = Field(Resources(), description="precision, micro-batches and activation checkpointing")

    def check_teacher(self, folder: ModelFolder) -> None:
        """Check that a model can be distilled so, before it is loaded.

        Raises:
            UserError: it is a generator itself, has no null label for guidance, or has fewer diffusion steps.
        """
        settings = self.settings
        if folder.t_init is not None:
            raise UserError(f"{folder.path} is a one-step generator already; name the diffusion model it came from")
        for name, neutral in Settings.needing_null_condition():
            value = getattr(settings, name)
            if folder.null_label is None and value != neutral:
                raise UserError(
                    f"{name} {value:g} needs a null label, and {folder.path} was trained without one; set it to "
                    f"{neutral:g}"
                )
        if settings.t_max > folder.diffusion_steps or settings.t_init >= folder.diffusion_steps:
            raise UserError(
                f"t_init {settings.t_init} and t_max {settings.t_max} do not fit the {folder.diffusion_steps} "
                f"{folder.process.steps_in_words} of {folder.path}{folder.t_advice}"
            )


PRESETS = {
    "classes": Distillation(),
    "prompts": Distillation(
        settings=Settings(
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
    ),
}
"""By a teacher's conditions (`ConditionKind.plural`): those of the shipped digits, and of digits in words, whose
diffusion steps are those of the public release for Stable Diffusion."""


def preset_for(folder: ModelFolder) -> Distillation:
    """Return the preset of a teacher's conditions; for flow matching, at the steps of equal noise."""
    preset = PRESETS[folder.kind.plural]
    steps = folder.process.usual_steps(folder.scheduler) or {}
    return preset.model_copy(update={"settings": preset.settings.model_copy(update=steps)})


def distill(
    teacher: ScoreModel,
    distillation: Distillation,
    *,
    progress: Callable[[int], None] | None = None,
) -> OneStepGenerator:
    """Distill a teacher into a one-step generator of all classes or prompts that it was trained on.

    Zhou et al., "Score identity Distillation" (ICML 2024); of prompts, with guidance, Zhou et al., "Long and Short
    Guidance in Score identity Distillation for One-Step Text-to-Image Generation" (2024).

    Args:
        teacher: a diffusion model.
        distillation: hyperparameters, steps and seed.
        progress: called with the steps done after every step.

    Returns:
        The generator with averaged weights.

    Raises:
        TrialFailed: it diverged.
    """
    trainer = Trainer(
        teacher,
        teacher,
        ForgettingTask.nothing(teacher.conditioning.present),
        distillation.settings,
        seed=distillation.seed,
        resources=distillation.resources,
    )
    while trainer.step < distillation.steps:
        trainer.update()
        if progress is not None:
            progress(trainer.step)
    return trainer.ema_generator
