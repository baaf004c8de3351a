"""The forward process: how noise is mixed into an image."""

from __future__ import annotations

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
        """a_t and b_t of shape (n, 1, …, 1) for steps t of shape (n,) and samples with so many dimensions."""
        shape = (-1, *[1] * (dimensions - 1))
        return self.alphas[t].view(shape), self.sigmas[t].view(shape)

    def diffuse(self, x_0: Tensor, t: Tensor, epsilon: Tensor) -> Tensor:
        """x_t of shape (n, …) from x_0 and ε of that shape and t of shape (n,)."""
        a, b = self.coefficients(t, x_0.ndim)
        return a * x_0 + b * epsilon
