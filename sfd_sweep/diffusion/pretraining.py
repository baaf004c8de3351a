"""Pretraining from beginning to end, on one worker or as one of several."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.diffusion.pretrainer import Pretrainer
from sfd_sweep.diffusion.pretraining_recipe import Pretraining
from sfd_sweep.diffusion.score_model import ScoreModel
from sfd_sweep.diffusion.workers import rank_and_size
from sfd_sweep.errors import TrialFailed, UserError
from sfd_sweep.storage import Folder

STATE = "training.safetensors"
STEPS_BETWEEN_NEWS = 10

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Checkpoints:
    """Where the state of a pretraining is kept, the last one alone, and how many steps lie between two of them."""

    folder: Folder
    every: int

    def save(self, pretrainer: Pretrainer) -> None:
        """Keep the state in place of an earlier one."""
        self.folder.write(STATE, save(pretrainer.state()))

    def restore(self, pretrainer: Pretrainer) -> None:
        """Bring a fresh pretrainer of the same images and recipe to the state that is kept, if one is.

        Raises:
            UserError: it is broken, or of another network.
        """
        if not self.folder.has(STATE):
            return
        try:
            pretrainer.load_state(load(self.folder.read(STATE)))
        except (SafetensorError, KeyError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"cannot go on from {self.folder.path}/{STATE} ({reason}); begin anew with --force"
            ) from error


def pretrain(
    images: LabeledImages,
    *,
    recipe: Pretraining,
    device: torch.device | str = "cpu",
    checkpoints: Checkpoints | None = None,
    progress: Progress | None = None,
) -> ScoreModel:
    """Train a teacher with a null label; see `Pretrainer` for the loss. Several workers call it alike.

    Args:
        images: square ones; the null label is the index after their last class.
        recipe: sizes and rates.
        device: where to train.
        checkpoints: where to go on from, and what to keep on the way and at the end; the first worker writes it.
        progress: called as progress(step, steps, loss) now and then.

    Returns:
        The teacher with averaged weights.

    Raises:
        UserError: the network cannot see such images, or what is kept of it is broken.
        TrialFailed: it diverged.
    """
    pretrainer = Pretrainer(images, recipe, device)
    if checkpoints is not None:
        checkpoints.restore(pretrainer)
    is_first = rank_and_size()[0] == 0
    while pretrainer.step < recipe.steps:
        loss = pretrainer.update()
        step, ended = pretrainer.step, pretrainer.step == recipe.steps
        if step % STEPS_BETWEEN_NEWS == 0 or ended:
            value = _finite(loss, step)
            if progress is not None:
                progress(step, recipe.steps, value)
        if checkpoints is not None and (step % checkpoints.every == 0 or ended):
            _finite(loss, step)
            if is_first:
                checkpoints.save(pretrainer)
    return pretrainer.ema_model


def _finite(loss: Tensor, step: int) -> float:
    """The loss as a number; every worker has the same.

    Raises:
        TrialFailed: it is not finite.
    """
    value = loss.item()
    if not torch.isfinite(loss):
        raise TrialFailed(f"diverged at step {step}: the loss is {value}")
    return value
