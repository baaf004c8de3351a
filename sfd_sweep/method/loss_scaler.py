"""A factor on the loss that keeps float16's gradients above its least number and below its greatest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class LossScaler:
    """The rule of `torch.amp.GradScaler`, for updates that are done again, not left out (Micikevicius et al., 2018).

    Gradients that overflow halve the scale, and so many updates in a row without one double it. It stays a power of
    two, so that dividing by it rounds nothing.

    Args:
        adapts: whether it changes; one that does not is 1.
        growth_interval: updates without an overflow after which it is doubled.
    """

    FIRST = 2.0**16
    LEAST = 2.0**-16

    def __init__(self, *, adapts: bool, growth_interval: int = 2000) -> None:
        self.adapts = adapts
        self.value = self.FIRST if adapts else 1.0
        self.growth_interval = growth_interval
        self._updates = 0

    def unscale(self, parameters: Sequence[nn.Parameter]) -> bool:
        """Divide gradients by the scale; whether they are finite, so that the update can be made.

        On several workers gradients have been summed, so that all of them find the same. One that does not adapt looks
        at nothing.
        """
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if not self.adapts or not gradients:
            return True
        torch._foreach_mul_(gradients, 1 / self.value)
        return bool(nn.utils.get_total_norm(gradients, math.inf).isfinite())

    def overflowed(self) -> bool:
        """Halve it after gradients that were not finite; whether it makes sense to try again."""
        self.value, self._updates = self.value / 2, 0
        return self.value >= self.LEAST

    def updated(self) -> None:
        """Count an update that was made."""
        self._updates += self.adapts
        if self._updates == self.growth_interval:
            self.value, self._updates = self.value * 2, 0

    def state(self) -> dict[str, Tensor]:
        """What the next update depends on, for `load_state`; nothing if it does not adapt."""
        if not self.adapts:
            return {}
        return {"value": torch.tensor(self.value, dtype=torch.float64), "updates": torch.tensor(self._updates)}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from there.

        Raises:
            KeyError: the state is not complete.
        """
        if self.adapts:
            self.value, self._updates = float(tensors["value"]), int(tensors["updates"])
