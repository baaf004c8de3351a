"""Pure functions on metrics: directions, constraints, dominance, hypervolume, the combined score and the knee."""

from sfd_sweep.objectives.dominance import non_dominated, to_losses
from sfd_sweep.objectives.front import front
from sfd_sweep.objectives.hypervolume import hypervolume
from sfd_sweep.objectives.knee import knee
from sfd_sweep.objectives.score import combined_score, normalized_loss, violation

__all__ = [
    "combined_score",
    "front",
    "hypervolume",
    "knee",
    "non_dominated",
    "normalized_loss",
    "to_losses",
    "violation",
]
