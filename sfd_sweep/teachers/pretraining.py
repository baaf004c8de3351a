"""Pretraining from beginning to end, on one worker or as one of several."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from torch import Tensor

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.errors import TrialFailed, UserError
from sfd_sweep.models.data_parallel import on_first_worker, rank_and_size
from sfd_sweep.models.score_model import ScoreModel
from sfd_sweep.models.training_state import read_state, write_state
from sfd_sweep.storage.folder import Folder
from sfd_sweep.teachers.examples import Examples, LabeledExamples
from sfd_sweep.teachers.pretrainer import Pretrainer
from sfd_sweep.teachers.recipes import Pretraining
from sfd_sweep.teachers.text_to_image import TextToImageComponents

STATE = "training.safetensors"
FRONT_ENDS = "front-ends.safetensors"
STEPS_BETWEEN_NEWS = 10

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Checkpoints:
    """Where the state of a pretraining is kept, the last one alone, and how many steps lie between two of them."""

    folder: Folder
    every: int

    def save(self, pretrainer: Pretrainer) -> None:
        """Keep the state in place of an earlier one."""
        write_state(self.folder, STATE, pretrainer.state())

    def restore(self, pretrainer: Pretrainer) -> None:
        """Bring a fresh pretrainer of the same images and recipe to the state that is kept, if one is.

        Raises:
            UserError: it is broken, or of another network.
        """
        if self.folder.has(STATE):
            self._load(STATE, pretrainer.load_state)

    def provide(self, ends: TextToImageComponents, device: torch.device, *, seed: int) -> None:
        """Train what stands before the network and keep it, unless that was done before.

        Raises:
            TrialFailed: it diverged.
        """
        if not self.folder.has(FRONT_ENDS):
            ends.train(device, seed=seed)
            write_state(self.folder, FRONT_ENDS, ends.state())

    def restore_front_ends(self, ends: TextToImageComponents) -> None:
        """Bring them to the state that is kept.

        Raises:
            UserError: it is broken, or of others.
        """
        self._load(FRONT_ENDS, ends.load_state)

    def _load(self, name: str, load_state: Callable[[dict[str, Tensor]], None]) -> None:
        try:
            load_state(read_state(self.folder, name))
        except (SafetensorError, KeyError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"cannot go on from {self.folder.path}/{name} ({reason}); begin anew with --force"
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
        checkpoints: where to go on from, and what to keep on the way and at the end; the first worker writes it.
        progress: called as progress(step, steps, loss) now and then.

    Returns:
        The teacher with averaged weights.

    Raises:
        UserError: the network cannot see such images, or what is kept of it is broken.
        TrialFailed: it diverged.
    """
    pretrainer = Pretrainer(_examples(images, recipe, torch.device(device), checkpoints), recipe, device)
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


def _examples(
    images: LabeledImages, recipe: Pretraining, device: torch.device, checkpoints: Checkpoints | None
) -> Examples:
    """What the teacher's network is trained on; what has to be trained first, is, or is read from the checkpoints."""
    if recipe.text is None:
        return LabeledExamples(images)
    ends = TextToImageComponents.untrained(images, recipe.text, norm_groups=recipe.norm_groups, seed=recipe.seed)
    if checkpoints is None:
        ends.train(device, seed=recipe.seed)
    else:
        on_first_worker(lambda: checkpoints.provide(ends, device, seed=recipe.seed))
        checkpoints.restore_front_ends(ends)
    return ends.examples(device)


def _finite(loss: Tensor, step: int) -> float:
    """The loss as a number; every worker has the same.

    Raises:
        TrialFailed: it is not finite.
    """
    value = loss.item()
    if not torch.isfinite(loss):
        raise TrialFailed(f"diverged at step {step}: the loss is {value}")
    return value
