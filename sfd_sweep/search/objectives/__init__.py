"""Pure functions on metrics: directions, constraints, dominance, hypervolume, ranking, the combined score, the knee."""

from sfd_sweep.search.objectives.dominance import fronts, non_dominated, to_losses
from sfd_sweep.search.objectives.front import front
from sfd_sweep.search.objectives.hypervolume import hypervolume
from sfd_sweep.search.objectives.knee import knee
from sfd_sweep.search.objectives.ranking import as_good_within_error, ranking
from sfd_sweep.search.objectives.score import combined_score, normalized_loss, violation
from sfd_sweep.search.objectives.spread import farthest_first

__all__ = [
    "as_good_within_error",
    "combined_score",
    "farthest_first",
    "front",
    "fronts",
    "hypervolume",
    "knee",
    "non_dominated",
    "normalized_loss",
    "ranking",
    "to_losses",
    "violation",
]
