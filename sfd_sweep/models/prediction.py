"""What a diffusion network predicts, in whichever of the three parameterisations the reader needs.

For x_t = a·x_0 + b·ε with a² + b² = 1 and v = a·ε - b·x_0 (Salimans & Ho, "Progressive Distillation", ICLR 2022):
x_0 = (x_t - b·ε)/a = a·x_t - b·v, and ε = (x_t - a·x_0)/b = b·x_t + a·v.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from torch import Tensor


class PredictionType(StrEnum):
    """The network's own output, in diffusers' words."""

    EPSILON = "epsilon"
    VELOCITY = "v_prediction"
    SAMPLE = "sample"


@dataclass(frozen=True)
class Prediction:
    """A network's output at x_t, readable as x̂_0, ε̂ or v̂. All tensors have the shape of x_t or broadcast to it."""

    x_t: Tensor
    a: Tensor
    b: Tensor
    output: Tensor
    type: PredictionType

    @property
    def x_0(self) -> Tensor:
        """The denoised image x̂_0."""
        match self.type:
            case PredictionType.SAMPLE:
                return self.output
            case PredictionType.EPSILON:
                return (self.x_t - self.b * self.output) / self.a
            case PredictionType.VELOCITY:
                return self.a * self.x_t - self.b * self.output

    @property
    def epsilon(self) -> Tensor:
        """The noise ε̂."""
        match self.type:
            case PredictionType.SAMPLE:
                return (self.x_t - self.a * self.output) / self.b
            case PredictionType.EPSILON:
                return self.output
            case PredictionType.VELOCITY:
                return self.b * self.x_t + self.a * self.output

    @property
    def velocity(self) -> Tensor:
        """The velocity v̂ = a·ε̂ - b·x̂_0."""
        match self.type:
            case PredictionType.SAMPLE:
                return (self.a * self.x_t - self.output) / self.b
            case PredictionType.EPSILON:
                return (self.output - self.b * self.x_t) / self.a
            case PredictionType.VELOCITY:
                return self.output

    def denoising_error(self, x_0: Tensor, epsilon: Tensor, of: Literal["epsilon", "velocity"]) -> Tensor:
        """ε̂ - ε, or v̂ - v, where x_t was made of x_0 and ε; all of one shape.

        Since ε̂ - ε = a·(v̂ - v), the square of the first is that of the second weighted by SNR/(SNR + 1) = a².
        """
        if of == "epsilon":
            return self.epsilon - epsilon
        return self.velocity - (self.a * epsilon - self.b * x_0)
