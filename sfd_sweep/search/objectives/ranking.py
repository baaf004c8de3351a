"""The order of trials under several objectives, and whether an evaluation's error leaves room for another."""

from collections.abc import Mapping, Sequence

import numpy as np

from sfd_sweep.config import Constraint, Objective
from sfd_sweep.metrics import Goal
from sfd_sweep.search.objectives.dominance import fronts
from sfd_sweep.search.objectives.score import normalized_loss, violation
from sfd_sweep.search.objectives.spread import farthest_first


def ranking(
    candidates: Sequence[Mapping[str, float]], objectives: Sequence[Objective], constraints: Sequence[Constraint] = ()
) -> list[int]:
    """The indices of the candidates, the best first.

    A lesser violation of the constraints comes first, so those that keep them all do. Equal violations are ordered by
    non-dominated fronts, and each front so that its beginning is spread over it (see `farthest_first`, here on the even
    scale of `normalized_loss`). This is the ranking of multi-objective successive halving (Schmucker et al., arXiv
    2106.12639), with constraints before objectives (Deb, Comput. Methods Appl. Mech. Eng. 186, 2000).

    Args:
        candidates: their metrics; those of objectives and constraints are finite.

    Raises:
        KeyError: a candidate lacks a metric of an objective or a constraint.
        ValueError: an objective is not finite.
    """
    excesses = np.array([violation(metrics, constraints) for metrics in candidates])
    losses = np.array([[normalized_loss(metrics[part.metric], part) for part in objectives] for metrics in candidates])
    order: list[int] = []
    for excess in np.unique(excesses):
        (equal,) = np.nonzero(excesses == excess)
        for front in fronts(losses[equal]):
            members = equal[front]
            order.extend(members[farthest_first(losses[members])].tolist())
    return order


def as_good_within_error(
    one: Mapping[str, float],
    other: Mapping[str, float],
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint] = (),
) -> bool:
    """Whether one candidate is nowhere worse than another by more than the stated errors.

    It must not break the constraints more than the other does, where figures out of bounds are taken as better by the
    constraint's error. In the objectives, which only count if the other is feasible, this is additive ε-dominance
    (Laumanns et al., Evol. Comput. 10(3), 2002). Without errors it is true of what is equal or better throughout.

    Raises:
        KeyError: a candidate lacks a metric of an objective or a constraint.
    """
    excess = violation(other, constraints)
    if sum(violation(_forgiven(one, part), [part]) for part in constraints) > excess:
        return False
    return excess > 0 or all(
        _shortfall(one[part.metric], other[part.metric], part.goal) <= part.error for part in objectives
    )


def _forgiven(metrics: Mapping[str, float], constraint: Constraint) -> dict[str, float]:
    """The constrained metric, moved towards the bounds by as much as the constraint's error."""
    value = metrics[constraint.metric]
    if constraint.min is not None and value < constraint.min:
        value = min(value + constraint.error, constraint.min)
    if constraint.max is not None and value > constraint.max:
        value = max(value - constraint.error, constraint.max)
    return {constraint.metric: value}


def _shortfall(value: float, other: float, goal: Goal) -> float:
    """By how much a metric is worse than another; negative if it is better."""
    return value - other if goal is Goal.MINIMIZE else other - value
