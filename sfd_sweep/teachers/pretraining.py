"""Pretraining from beginning to end, on one worker or as one of several."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from torch import Tensor

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.errors import TrialFailed, UserError, first_line
from sfd_sweep.models.data_parallel import on_first_worker, rank_and_size
from sfd_sweep.models.score_model import ScoreModel
from sfd_sweep.models.training_state import read_state, write_state
from sfd_sweep.storage.folder import Folder
from sfd_sweep.teachers.examples import Examples, LabeledExamples
from sfd_sweep.teachers.pretrainer import Pretrainer
from sfd_sweep.teachers.recipes import Pretraining
from sfd_sweep.teachers.text_to_image import TextToImageComponents

STATE = "training.safetensors"
COMPONENTS = "components.safetensors"
STEPS_BETWEEN_REPORTS = 10

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Checkpoints:
    """Where the last training state is kept, and how many steps lie between two of them."""

    folder: Folder
    every: int

    def load(self, name: str, load_state: Callable[[dict[str, Tensor]], object]) -> None:
        """Pass the tensors of a file to what loads them.

        Raises:
            UserError: the file is broken, or of another network.
        """
        try:
            load_state(read_state(self.folder, name))
        except (SafetensorError, KeyError, RuntimeError) as error:
            reason = first_line(error)
            raise UserError(
                f"cannot resume from {self.folder.path}/{name} ({reason}); begin anew with --force"
            ) from error


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
    if checkpoints is not None and checkpoints.folder.has(STATE):
        checkpoints.load(STATE, pretrainer.load_state)
    is_first = rank_and_size()[0] == 0
    while pretrainer.step < recipe.steps:
        loss = pretrainer.update()
        step, ended = pretrainer.step, pretrainer.step == recipe.steps
        if step % STEPS_BETWEEN_REPORTS == 0 or ended:
            value = _finite(loss, step)
            if progress is not None:
                progress(step, recipe.steps, value)
        if checkpoints is not None and (step % checkpoints.every == 0 or ended):
            _finite(loss, step)
            if is_first:
                write_state(checkpoints.folder, STATE, pretrainer.state())
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
