"""Steps of equal cost, whatever an update of the method costs."""

from __future__ import annotations

import torch
from torch import Tensor

from sfd_sweep.method.cost import updates_until
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.method.generator_training import Unlearning, UpdateLosses


class EqualCostSteps:
    """A method whose steps have a budget; each does the updates that it pays for, with what earlier steps have left.

    Args:
        method: does the updates.
        step_cost: budget of a step, in forward-equivalents.
        update_cost: of an update.
    """

    def __init__(self, method: Unlearning, step_cost: int, update_cost: int) -> None:
        self.step = 0
        self.method = method
        self._costs = step_cost, update_cost

    @property
    def ema_generator(self) -> OneStepGenerator:
        """The generator that is evaluated and saved."""
        return self.method.ema_generator

    def update(self) -> UpdateLosses:
        """Do the updates of one step, and return the means of their losses; see `Unlearning.update`."""
        self.step += 1
        losses: list[UpdateLosses] = []
        while self.method.step < updates_until(self.step, *self._costs):
            losses.append(self.method.update())
        names = list(losses[0].by_name) if losses else []
        means = {name: torch.stack([each.by_name[name] for each in losses]).mean() for name in names}
        return UpdateLosses(**means, dropped_samples=sum(each.dropped_samples for each in losses))

    def state(self) -> dict[str, Tensor]:
        """Return everything that the next step depends on; see `Unlearning.state`."""
        return {**self.method.state(), "steps": torch.tensor(self.step)}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Continue from a state; see `Unlearning.load_state`."""
        self.step = int(tensors["steps"])
        self.method.load_state({name: tensor for name, tensor in tensors.items() if name != "steps"})
