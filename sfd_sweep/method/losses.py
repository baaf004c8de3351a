"""The losses of Score Forgetting Distillation, one value for each sample.

φ is the teacher, ψ the fake score, θ the generator; x̂ is a prediction of x_0 at x_t = a·x_0 + b·ε. Samples and
predictions have shape (n, …), losses (n,).

Sources: Chen, Zhang & Zhou, "Score Forgetting Distillation" (ICLR 2025); Zhou et al., "Score identity Distillation"
(ICML 2024); Luo et al., "Diff-Instruct" (NeurIPS 2023).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from sfd_sweep.models.diffusion import Prediction

LEAST_OMEGA = 1e-5


def fake_score_loss(psi: Prediction, x_0: Tensor, epsilon: Tensor, error: Literal["epsilon", "velocity"]) -> Tensor:
    """Return ‖ε̂_ψ - ε‖² or ‖v̂_ψ - v‖², summed over pixels, where ψ's prediction is at x_t = a·x_0 + b·ε."""
    return psi.denoising_error(x_0, epsilon, error).square().flatten(1).sum(1)


def score_identity_loss(x_phi: Tensor, x_psi: Tensor, x_0: Tensor, alpha: float) -> Tensor:
    """Return ℓ = Σ (x̂_φ - x̂_ψ)·[(x̂_φ - x_0) - α·(x̂_φ - x̂_ψ)] / ω.

    The gradient flows into x_0 directly and through both networks. For α = 1 it is Σ (x̂_φ - x̂_ψ)·(x̂_ψ - x_0) / ω.
    """
    difference = x_phi - x_psi
    omega = normalizer(x_phi, x_0)
    return (difference * ((x_phi - x_0) - alpha * difference) / omega).flatten(1).sum(1)


def diff_instruct_loss(x_phi: Tensor, x_psi: Tensor, x_0: Tensor) -> Tensor:
    """Return Diff-Instruct's loss, whose gradient in x_0 is (x̂_ψ - x̂_φ)/ω, with none through φ and ψ.

    The score difference s_ψ - s_φ is a/b²·(x̂_ψ - x̂_φ); its weight over t is chosen so that ω normalizes it.
    """
    direction = ((x_psi - x_phi) / normalizer(x_phi, x_0)).detach()
    return (direction * x_0).flatten(1).sum(1)


def normalizer(x_phi: Tensor, x_0: Tensor) -> Tensor:
    """Return ω = mean over pixels of |x̂_φ - x_0|, detached and at least 1e-5, of shape (n, 1, …, 1)."""
    omega = (x_phi - x_0).abs().flatten(1).mean(1).detach().clamp_min(LEAST_OMEGA)
    return omega.view(-1, *[1] * (x_0.ndim - 1))
