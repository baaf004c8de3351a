"""Score identity Distillation: one-step generators that have forgotten nothing, for sweeps to start from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from sfd_sweep.config import Resources, Settings
from sfd_sweep.errors import UserError
from sfd_sweep.method.batch import ForgettingTask
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.method.trainer import Trainer
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.loading import load_score_model
from sfd_sweep.models.score_model import ScoreModel
from sfd_sweep.teachers.recipes import Count, Recipe
from sfd_sweep.teachers.training_job import STEPS_BETWEEN_REPORTS, Checkpoints, Progress, TrainingJob


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


@dataclass(frozen=True)
class DistillationJob(TrainingJob[OneStepGenerator]):
    """The distillation of a teacher, which every worker loads.

    Attributes:
        teacher: a diffusers folder that every machine has, a hub id, or `builtin:digits`.
        prompts: of a text-to-image teacher; else empty.
    """

    kind: ClassVar[str] = "distillation"
    teacher: str
    prompts: tuple[str, ...]
    distillation: Distillation

    def request(self) -> dict[str, object]:
        return {
            "teacher": self.teacher,
            "prompts": list(self.prompts),
            **self.distillation.model_dump(mode="json", exclude={"resources"}),
        }

    def run(
        self,
        device: torch.device | str = "cpu",
        checkpoints: Checkpoints | None = None,
        progress: Progress | None = None,
    ) -> OneStepGenerator:
        teacher = load_score_model(ModelFolder.open(self.teacher), device, prompts=self.prompts)
        return distill(teacher, self.distillation, checkpoints=checkpoints, progress=progress)


def distill(
    teacher: ScoreModel,
    distillation: Distillation,
    *,
    checkpoints: Checkpoints | None = None,
    progress: Progress | None = None,
) -> OneStepGenerator:
    """Distill a teacher into a one-step generator of all classes or prompts that it was trained on.

    Zhou et al., "Score identity Distillation" (ICML 2024); of prompts, with guidance, Zhou et al., "Long and Short
    Guidance in Score identity Distillation for One-Step Text-to-Image Generation" (2024). Several workers call
    it alike.

    Args:
        teacher: a diffusion model.
        distillation: hyperparameters, steps and seed.
        checkpoints: where to resume from, and to save on the way and at the end; the first worker writes.
        progress: of the distillation, with the generator's loss.

    Returns:
        The generator with averaged weights.

    Raises:
        UserError: the training state is broken.
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

    def load(tensors: dict[str, Tensor]) -> None:
        has_ended = int(tensors["step"]) == distillation.steps
        (trainer.load_average if has_ended else trainer.load_state)(tensors)

    if checkpoints is not None:
        checkpoints.resume(load)
    while trainer.step < distillation.steps:
        losses = trainer.update()
        step = trainer.step
        if progress is not None and (step % STEPS_BETWEEN_REPORTS == 0 or step == distillation.steps):
            progress(step, distillation.steps, losses.by_name["generator"].item())
        if checkpoints is not None and checkpoints.is_due(step, distillation.steps):
            checkpoints.save(trainer.state())
    return trainer.ema_generator
