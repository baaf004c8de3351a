"""The forward process, and what a network predicts of it.

For x_t = a·x_0 + b·ε with a² + b² = 1 and v = a·ε - b·x_0 (Salimans & Ho, "Progressive Distillation", ICLR 2022):
x_0 = (x_t - b·ε)/a = a·x_t - b·v, and ε = (x_t - a·x_0)/b = b·x_t + a·v.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from torch import Tensor, nn


class NoiseSchedule(nn.Module):
    """Variance-preserving schedule x_t = a_t·x_0 + b_t·ε with a_t = √ᾱ_t and b_t = √(1 - ᾱ_t).

    Args:
        alphas_cumprod: ᾱ_t for t = 0 … T-1, shape (T,), each in (0, 1).
    """

    alphas: Tensor
    sigmas: Tensor

    def __init__(self, alphas_cumprod: Tensor) -> None:
        super().__init__()
        alphas_cumprod = alphas_cumprod.double()
        self.register_buffer("alphas", alphas_cumprod.sqrt().float(), persistent=False)
        self.register_buffer("sigmas", (1 - alphas_cumprod).sqrt().float(), persistent=False)

    def __len__(self) -> int:
        return len(self.alphas)

    def coefficients(self, t: Tensor, dimensions: int) -> tuple[Tensor, Tensor]:
        """Return a_t and b_t, (n, 1, …, 1), for steps t, (n,), and samples with so many dimensions."""
        shape = (-1, *[1] * (dimensions - 1))
        return self.alphas[t].view(shape), self.sigmas[t].view(shape)

    def diffuse(self, x_0: Tensor, t: Tensor, epsilon: Tensor) -> Tensor:
        """Return x_t, (n, …), from x_0 and ε of that shape, and t, (n,)."""
        a, b = self.coefficients(t, x_0.ndim)
        return a * x_0 + b * epsilon


class PredictionType(StrEnum):
    """The network's own output, in diffusers' words."""

    EPSILON = "epsilon"
    VELOCITY = "v_prediction"
    SAMPLE = "sample"


@dataclass(frozen=True)
class Prediction:
    """A network's output at x_t, read as x̂_0, ε̂ or v̂. All tensors have the shape of x_t or broadcast to it."""

    x_t: Tensor
    a: Tensor
    b: Tensor
    output: Tensor
    type: PredictionType

    @property
    def x_0(self) -> Tensor:
        """The denoised sample x̂_0."""
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
        """Return ε̂ - ε or v̂ - v, where x_t was made of x_0 and ε; ε̂ - ε is a·(v̂ - v)."""
        if of == "epsilon":
            return self.epsilon - epsilon
        return self.velocity - (self.a * epsilon - self.b * x_0)
