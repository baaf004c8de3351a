"""Pretraining from beginning to end, on one worker or as one of several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.errors import TrialFailed
from sfd_sweep.models.data_parallel import on_first_worker
from sfd_sweep.models.score_model import ScoreModel
from sfd_sweep.models.training_state import write_state
from sfd_sweep.teachers.examples import Examples, LabeledExamples
from sfd_sweep.teachers.pretrainer import Pretrainer
from sfd_sweep.teachers.recipes import Pretraining
from sfd_sweep.teachers.text_to_image import TextToImageComponents
from sfd_sweep.teachers.training_job import STEPS_BETWEEN_REPORTS, Checkpoints, Progress, TrainingJob

COMPONENTS = "components.safetensors"


@dataclass(frozen=True)
class PretrainingJob(TrainingJob[ScoreModel]):
    """The pretraining of a teacher.

    Attributes:
        source: name of the images.
    """

    kind: ClassVar[str] = "pretraining"
    source: str
    images: LabeledImages
    recipe: Pretraining

    def request(self) -> dict[str, object]:
        classes = {"class_names": list(self.images.class_names), "absent": list(self.images.absent)}
        return {"source": self.source, **classes, **self.recipe.model_dump(mode="json")}

    def run(
        self,
        device: torch.device | str = "cpu",
        checkpoints: Checkpoints | None = None,
        progress: Progress | None = None,
    ) -> ScoreModel:
        return pretrain(self.images, recipe=self.recipe, device=device, checkpoints=checkpoints, progress=progress)


def pretrain(
    images: LabeledImages,
    *,
    recipe: Pretraining,
    device: torch.device | str = "cpu",
    checkpoints: Checkpoints | None = None,
    progress: Progress | None = None,
) -> ScoreModel:
    """Train a teacher with a null condition; see `Pretrainer` for the loss. Several workers call it alike.

    Args:
        images: square ones; the null condition is the index after their last class, or after the last caption.
        recipe: sizes and rates.
        device: where to train.
        checkpoints: where to resume from, and to save on the way and at the end; the first worker writes.
        progress: called as progress(step, steps, loss) every few steps.

    Returns:
        The teacher with averaged weights.

    Raises:
        UserError: the network does not fit the images, or the training state is broken.
        TrialFailed: it diverged.
    """
    pretrainer = Pretrainer(_examples(images, recipe, torch.device(device), checkpoints), recipe, device)
    if checkpoints is not None:
        checkpoints.resume(pretrainer.load_state)
    while pretrainer.step < recipe.steps:
        loss = pretrainer.update()
        step = pretrainer.step
        if step % STEPS_BETWEEN_REPORTS == 0 or step == recipe.steps:
            value = _finite(loss, step)
            if progress is not None:
                progress(step, recipe.steps, value)
        if checkpoints is not None and checkpoints.is_due(step, recipe.steps):
            _finite(loss, step)
            checkpoints.save(pretrainer.state())
    return pretrainer.ema_model


def _examples(
    images: LabeledImages, recipe: Pretraining, device: torch.device, checkpoints: Checkpoints | None
) -> Examples:
    """Return the network's examples; components before it are trained first, or read from the checkpoints."""
    if recipe.text is None:
        return LabeledExamples(images)
    components = TextToImageComponents.untrained(images, recipe.text, norm_groups=recipe.norm_groups, seed=recipe.seed)
    if checkpoints is None:
        components.train(device, seed=recipe.seed)
        return components.examples(device)
    folder = checkpoints.folder

    def train_once() -> None:
        if not folder.has(COMPONENTS):
            components.train(device, seed=recipe.seed)
            write_state(folder, COMPONENTS, components.networks.state_dict())

    on_first_worker(train_once)
    checkpoints.load(COMPONENTS, components.networks.load_state_dict)
    return components.examples(device)


def _finite(loss: Tensor, step: int) -> float:
    """Return the loss, of which every worker has the same, or raise TrialFailed."""
    value = loss.item()
    if not torch.isfinite(loss):
        raise TrialFailed(f"diverged at step {step}: the loss is {value}")
    return value
