"""The forward process, and what a network predicts of it.

Noise is mixed in along a path, x_t = a·x_0 + b·ε, and the velocity is the path's derivative, v = ȧ·x_0 + ḃ·ε. Both
kinds of path here have a·ḃ - b·ȧ = 1, so x_0 = ḃ·x_t - b·v and ε = a·v - ȧ·x_t:

- variance-preserving: a = cos φ and b = sin φ, so v = a·ε - b·x_0 (Salimans & Ho, "Progressive Distillation", ICLR
  2022);
- flow matching: a = 1 - σ and b = σ, so v = ε - x_0 (Lipman et al., "Flow Matching for Generative Modeling", ICLR
  2023).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class PathPoint:
    """a, b, and their derivatives ȧ, ḃ along the path, at the steps of samples; of shape (n, 1, …, 1)."""

    a: Tensor
    b: Tensor
    a_dot: Tensor
    b_dot: Tensor

    def mix(self, x_0: Tensor, epsilon: Tensor) -> Tensor:
        """Return x_t, of the shape of x_0 and ε."""
        return self.a * x_0 + self.b * epsilon

    def velocity(self, x_0: Tensor, epsilon: Tensor) -> Tensor:
        """Return v, of the shape of x_0 and ε."""
        return self.b_dot * epsilon + self.a_dot * x_0


class NoiseSchedule(nn.Module):
    """Points of the path x_t = a_t·x_0 + b_t·ε at steps t = 0 … T-1.

    Args:
        alphas: a_t, shape (T,).
        sigmas: b_t, of that shape, increasing.
        alpha_rates: ȧ_t, of that shape.
        sigma_rates: ḃ_t, of that shape.
        times: what the network is told at step t, of that shape.
    """

    alphas: Tensor
    sigmas: Tensor
    alpha_rates: Tensor
    sigma_rates: Tensor
    times: Tensor

    def __init__(
        self, *, alphas: Tensor, sigmas: Tensor, alpha_rates: Tensor, sigma_rates: Tensor, times: Tensor
    ) -> None:
        super().__init__()
        self.register_buffer("alphas", alphas, persistent=False)
        self.register_buffer("sigmas", sigmas, persistent=False)
        self.register_buffer("alpha_rates", alpha_rates, persistent=False)
        self.register_buffer("sigma_rates", sigma_rates, persistent=False)
        self.register_buffer("times", times, persistent=False)

    @classmethod
    def variance_preserving(cls, alphas_cumprod: Tensor) -> NoiseSchedule:
        """Return the schedule a_t = √ᾱ_t and b_t = √(1 - ᾱ_t), whose network is told t.

        Args:
            alphas_cumprod: ᾱ_t, shape (T,), each in (0, 1).
        """
        alphas_cumprod = alphas_cumprod.double()
        a, b = alphas_cumprod.sqrt().float(), (1 - alphas_cumprod).sqrt().float()
        return cls(alphas=a, sigmas=b, alpha_rates=-b, sigma_rates=a, times=torch.arange(len(a)))

    @classmethod
    def flow_matching(cls, sigmas: Tensor, times: Tensor) -> NoiseSchedule:
        """Return the schedule a_t = 1 - σ_t and b_t = σ_t.

        Args:
            sigmas: σ_t, shape (T,), increasing in (0, 1].
            times: what the network is told, of that shape.
        """
        ones = torch.ones_like(sigmas)
        return cls(alphas=1 - sigmas, sigmas=sigmas, alpha_rates=-ones, sigma_rates=ones, times=times)

    def __len__(self) -> int:
        return len(self.alphas)

    def at(self, t: Tensor, dimensions: int) -> PathPoint:
        """Return the points at steps t, (n,), for samples with so many dimensions."""
        shape = (-1, *[1] * (dimensions - 1))
        tables = (self.alphas, self.sigmas, self.alpha_rates, self.sigma_rates)
        return PathPoint(*(table[t].view(shape) for table in tables))

    def diffuse(self, x_0: Tensor, t: Tensor, epsilon: Tensor) -> Tensor:
        """Return x_t, (n, …), from x_0 and ε of that shape, and t, (n,)."""
        return self.at(t, x_0.ndim).mix(x_0, epsilon)


class PredictionType(StrEnum):
    """The network's own output, in diffusers' words."""

    EPSILON = "epsilon"
    VELOCITY = "v_prediction"
    SAMPLE = "sample"


@dataclass(frozen=True)
class Prediction:
    """A network's output at x_t, read as x̂_0, ε̂ or v̂. All have the shape of x_t."""

    x_t: Tensor
    point: PathPoint
    output: Tensor
    type: PredictionType

    @property
    def x_0(self) -> Tensor:
        """The denoised sample x̂_0."""
        match self.type:
            case PredictionType.SAMPLE:
                return self.output
            case PredictionType.EPSILON:
                return (self.x_t - self.point.b * self.output) / self.point.a
            case PredictionType.VELOCITY:
                return self.point.b_dot * self.x_t - self.point.b * self.output

    @property
    def epsilon(self) -> Tensor:
        """The noise ε̂."""
        match self.type:
            case PredictionType.SAMPLE:
                return (self.x_t - self.point.a * self.output) / self.point.b
            case PredictionType.EPSILON:
                return self.output
            case PredictionType.VELOCITY:
                return self.point.a * self.output - self.point.a_dot * self.x_t

    @property
    def velocity(self) -> Tensor:
        """The velocity v̂ = ȧ·x̂_0 + ḃ·ε̂."""
        match self.type:
            case PredictionType.SAMPLE:
                return (self.point.b_dot * self.x_t - self.output) / self.point.b
            case PredictionType.EPSILON:
                return (self.output + self.point.a_dot * self.x_t) / self.point.a
            case PredictionType.VELOCITY:
                return self.output

    def denoising_error(self, x_0: Tensor, epsilon: Tensor, of: Literal["epsilon", "velocity"]) -> Tensor:
        """Return ε̂ - ε or v̂ - v, where x_t was made of x_0 and ε; ε̂ - ε is a·(v̂ - v)."""
        if of == "epsilon":
            return self.epsilon - epsilon
        return self.velocity - self.point.velocity(x_0, epsilon)
