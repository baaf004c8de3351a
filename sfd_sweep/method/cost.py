"""What an update costs, in forward-equivalents: passes of one sample forward through one network. Imports no torch.

A pass backward costs as much as two forward where it gives the gradients of weights, and as much as one where it only
passes through frozen weights.
"""

from __future__ import annotations

from sfd_sweep.config import Settings

TRAINED = 3
"""A pass forward and one backward to the weights."""
PASSED = 2
"""A pass forward and one backward through frozen weights."""

COST_SETTINGS = (
    "batch_size",
    "forget_batch_size",
    "loss",
    "guidance_scale",
    "fake_score_guidance_scale",
    "fake_score_training_guidance_scale",
)
"""Settings that a cost depends on, beside the method."""


def updates_until(step: int, step_cost: int, cost: int) -> int:
    """Return how many updates the budget of so many steps pays for.

    Args:
        step: number of steps.
        step_cost: budget of a step, in forward-equivalents.
        cost: of an update; 0 for methods that train nothing, which count one update a step.
    """
    return step * step_cost // cost if cost else step


def update_cost(settings: Settings) -> int:
    """Return the cost of one update in forward-equivalents; 0 for methods that train nothing."""
    retained, forgotten = settings.batch_size, settings.forget_batch_size
    match settings.method:
        case "sfd":
            return _distillation(settings, retained + forgotten)
        case "finetune":
            return _distillation(settings, retained)
        case "ascent" | "sa":  # the start makes what is replayed
            return TRAINED * (retained + forgotten) + retained
        case "salun":  # the generator makes the override, too
            return TRAINED * (retained + forgotten) + retained + forgotten
        case "esd":  # the start makes two images for the target
            return (TRAINED + 2) * forgotten
        case "uce" | "swap":
            return 0


def _distillation(settings: Settings, samples: int) -> int:
    """Return the cost of an update of ψ on samples of θ, and of one of θ against φ and ψ."""
    judged = PASSED if settings.loss == "score_identity" else 1
    fake_score = 1 + TRAINED * _passes(settings.fake_score_training_guidance_scale)
    judges = _passes(settings.fake_score_guidance_scale) + _passes(settings.guidance_scale)
    return samples * (fake_score + TRAINED + judged * judges)


def _passes(guidance_scale: float) -> int:
    return 1 if guidance_scale == 1 else 2
