"""The losses of Score Forgetting Distillation, one value a sample.

φ is the teacher, ψ the fake score, θ the generator; x̂ are their predictions of x_0 at x_t = a·x_0 + b·ε.
Sources: Chen, Zhang & Zhou, "Score Forgetting Distillation" (ICLR 2025); Zhou et al., "Score identity Distillation"
(ICML 2024); Luo et al., "Diff-Instruct" (NeurIPS 2023).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from sfd_sweep.models.prediction import Prediction

NORMALIZER_FLOOR = 1e-5


def fake_score_loss(
    prediction: Prediction, x_0: Tensor, epsilon: Tensor, error: Literal["epsilon", "velocity"]
) -> Tensor:
    """‖ε̂_ψ - ε‖² or ‖v̂_ψ - v‖²: plain denoising of the generator's own samples, summed over pixels.

    Args:
        prediction: of ψ at x_t, all (n, …).
        x_0: the generator's samples that x_t was made of, (n, …).
        epsilon: the noise that x_t was made of, (n, …).
        error: whose error is squared.

    Returns:
        Shape (n,).
    """
    return prediction.denoising_error(x_0, epsilon, error).square().flatten(1).sum(1)


def score_identity_loss(x_phi: Tensor, x_psi: Tensor, x_0: Tensor, alpha: float) -> Tensor:
    """ℓ = Σ (x̂_φ - x̂_ψ)·[(x̂_φ - x_0) - α·(x̂_φ - x̂_ψ)] / ω.

    The gradient flows into x_0 directly and through both networks. For α = 1 it is Σ (x̂_φ - x̂_ψ)·(x̂_ψ - x_0) / ω.

    Args:
        x_phi: x̂_φ(x_t, t, c_φ), (n, …).
        x_psi: x̂_ψ(x_t, t, c_ψ), (n, …).
        x_0: the generator's samples, (n, …).
        alpha: α.

    Returns:
        Shape (n,).
    """
    difference = x_phi - x_psi
    loss = difference * ((x_phi - x_0) - alpha * difference) / normalizer(x_phi, x_0)
    return loss.flatten(1).sum(1)


def diff_instruct_loss(x_phi: Tensor, x_psi: Tensor, x_0: Tensor) -> Tensor:
    """A loss whose gradient in x_0 is (x̂_ψ - x̂_φ)/ω: Diff-Instruct's, with no gradient through φ and ψ.

    The score difference s_ψ - s_φ is a/b²·(x̂_ψ - x̂_φ); its weight over t is chosen so that ω normalises it, as it
    does in `score_identity_loss`. Arguments and shape as there.
    """
    direction = ((x_psi - x_phi) / normalizer(x_phi, x_0)).detach()
    return (direction * x_0).flatten(1).sum(1)


def normalizer(x_phi: Tensor, x_0: Tensor) -> Tensor:
    """ω = mean over pixels of |x̂_φ - x_0|, one a sample, without gradient and at least 1e-5; shape (n, 1, …, 1)."""
    omega = (x_phi - x_0).abs().flatten(1).mean(1).detach().clamp_min(NORMALIZER_FLOOR)
    return omega.view(-1, *[1] * (x_0.ndim - 1))
