"""Methods that change a generator at once, and train nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.method.generator_training import UpdateLosses


class Untrained:
    """A finished generator that is evaluated like one in training; its updates do nothing.

    Args:
        generator: that is evaluated and saved.
    """

    def __init__(self, generator: OneStepGenerator) -> None:
        self.step = 0
        self.ema_generator = generator

    def update(self) -> UpdateLosses:
        """Count a step."""
        self.step += 1
        return UpdateLosses()

    def state(self) -> dict[str, Tensor]:
        """Return the number of steps, which is all that another start of the trial cannot make again."""
        return {"step": torch.tensor(self.step)}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Continue from a state; see `Unlearning.load_state`."""
        self.step = int(tensors["step"])
