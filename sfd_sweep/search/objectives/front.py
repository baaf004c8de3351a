"""The Pareto front of a sweep's trials."""

from collections.abc import Mapping, Sequence

import numpy as np

from sfd_sweep.config import Constraint, Objective
from sfd_sweep.search.objectives.dominance import non_dominated, to_losses
from sfd_sweep.search.objectives.score import violation


def front(
    candidates: Sequence[Mapping[str, float]], objectives: Sequence[Objective], constraints: Sequence[Constraint] = ()
) -> list[int]:
    """The indices of the candidates on the front, in order.

    A candidate is on it if it keeps every constraint, its objectives are finite, and no other such candidate dominates
    it. Equal candidates are on it together.

    Args:
        candidates: the metrics of trials that were trained to the end.

    Raises:
        KeyError: a candidate lacks a metric of an objective or a constraint.
    """
    values = [[metrics[objective.metric] for objective in objectives] for metrics in candidates]
    losses = to_losses(values, [objective.goal for objective in objectives])
    feasible = np.array([violation(metrics, constraints) == 0 for metrics in candidates], dtype=np.bool_)
    (eligible,) = np.nonzero(feasible & np.isfinite(losses).all(axis=1))
    return [int(index) for index in eligible[non_dominated(losses[eligible])]]
