"""The methods of unlearning, by their names in a search-space file."""

from __future__ import annotations

from sfd_sweep.config import Resources, Settings
from sfd_sweep.config.methods import Method
from sfd_sweep.method.batch import FixedOverride, ForgettingTask
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.method.generator_training import Unlearning
from sfd_sweep.method.rivals.ascent import GradientAscent
from sfd_sweep.method.rivals.concept_editing import edited
from sfd_sweep.method.rivals.esd import ErasedDiffusion
from sfd_sweep.method.rivals.replay import Models, ReplayTrainer
from sfd_sweep.method.rivals.saliency_unlearning import SaliencyUnlearning
from sfd_sweep.method.rivals.selective_amnesia import SelectiveAmnesia
from sfd_sweep.method.rivals.swap import swapped
from sfd_sweep.method.rivals.untrained import Untrained
from sfd_sweep.method.trainer import Trainer

REPLAYING: dict[Method, type[ReplayTrainer]] = {
    "ascent": GradientAscent,
    "esd": ErasedDiffusion,
    "sa": SelectiveAmnesia,
    "salun": SaliencyUnlearning,
}


def unlearning(
    models: Models, task: ForgettingTask, settings: Settings, *, seed: int, resources: Resources
) -> Unlearning:
    """Return the method that the settings name, before its first update.

    Args:
        models: what it starts from.
        task: what is retained and forgotten.
        settings: the method and its hyperparameters.
        seed: of every random draw.
        resources: precision, micro-batches and activation checkpointing.

    Raises:
        UserError: see `TrainableModel.of`.
    """
    method, start = settings.method, OneStepGenerator(models.start, settings.t_init)
    if method in REPLAYING:
        return REPLAYING[method](models, task, settings, seed=seed, resources=resources)
    if method == "swap":
        return Untrained(swapped(start, _replaced(task)))
    if method == "uce":
        return Untrained(edited(start, _replaced(task), task.retained, settings))
    if method == "finetune":
        task = ForgettingTask.nothing(task.retained)
    return Trainer(models.teacher, models.start, task, settings, seed=seed, resources=resources)


def _replaced(task: ForgettingTask) -> dict[int, int]:
    """Return the override of each forgotten condition; where any retained one may be it, the first."""
    if isinstance(task.override, FixedOverride):
        return task.override.override_of
    return dict.fromkeys(task.forgotten, task.retained[0])
