"""Trainings of hours: what they are made of, and the state from which they continue after an interruption."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

import torch
from safetensors import SafetensorError
from torch import Tensor

from sfd_sweep.errors import UserError, first_line
from sfd_sweep.models.data_parallel import rank_and_size
from sfd_sweep.models.training_state import read_state, write_state
from sfd_sweep.storage.folder import Folder

STATE = "training.safetensors"
STEPS_BETWEEN_REPORTS = 10

ModelT = TypeVar("ModelT")
Progress = Callable[[int, int, float], None]
"""Called as progress(step, steps, loss) every few steps."""


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

    def resume(self, load_state: Callable[[dict[str, Tensor]], object]) -> None:
        """Continue from the last training state, if there is one.

        Raises:
            UserError: as `load`.
        """
        if self.folder.has(STATE):
            self.load(STATE, load_state)

    def is_due(self, step: int, steps: int) -> bool:
        """Return whether the state after a step is saved: at intervals, and the last one."""
        return step % self.every == 0 or step == steps

    def save(self, state: Mapping[str, Tensor]) -> None:
        """Save a training state in place of the one before; of several workers, the first one does."""
        if rank_and_size()[0] == 0:
            write_state(self.folder, STATE, dict(state))


class TrainingJob(ABC, Generic[ModelT]):
    """A training as plain data, which travels to the workers that run it.

    Attributes:
        kind: what it is called.
    """

    kind: ClassVar[str]

    @abstractmethod
    def request(self) -> dict[str, object]:
        """Return, as JSON, what must be the same where the training is resumed."""

    @abstractmethod
    def run(
        self,
        device: torch.device | str = "cpu",
        checkpoints: Checkpoints | None = None,
        progress: Progress | None = None,
    ) -> ModelT:
        """Train to the end; several workers call it alike.

        Args:
            device: where to train.
            checkpoints: where to resume from, and to save on the way and at the end; the first worker writes.
            progress: of the training.

        Returns:
            The model with averaged weights.

        Raises:
            UserError: a model does not fit, or the training state is broken.
            TrialFailed: it diverged.
        """
