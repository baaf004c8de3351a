"""Figures of merit of one trial: its violation of the constraints, and one score for all objectives."""

import math
from collections.abc import Mapping, Sequence

from sfd_sweep.config import Bound, Constraint, Objective, SelectionBounds
from sfd_sweep.metrics import METRICS, Goal

AUGMENTATION = 0.05
"""Share of the weighted sum that is added to the largest term, so that a weakly dominated point never ties; the value
is that of ParEGO (Knowles, IEEE Trans. Evol. Comput. 10(1), 2006)."""


def violation(metrics: Mapping[str, float], constraints: Sequence[Bound]) -> float:
    """Return the sum of the excesses over all bounds: 0 if the metrics are feasible, inf if one is not finite.

    An excess is measured on its metric's even scale (`Scale.excess`).

    Raises:
        KeyError: a constrained metric is missing.
    """
    return sum((_excess(metrics[constraint.metric], constraint) for constraint in constraints), start=0.0)


def counts_as_forgotten(metrics: Mapping[str, float], selection: SelectionBounds) -> bool:
    """Return whether metrics are within what the search-space file counts as forgotten.

    Raises:
        KeyError: a bounded metric is missing.
    """
    return violation(metrics, selection.bounds) == 0


def why_not_forgotten(metrics: Mapping[str, float], selection: SelectionBounds) -> str:
    """Return what keeps metrics from counting as forgotten, in words; "" if nothing does.

    Raises:
        KeyError: a bounded metric is missing.
    """
    return ", and ".join(
        f"{bound.metric} is {metrics[bound.metric]:.6g} and must be {bound.range_in_words()}"
        for bound in selection.bounds
        if violation(metrics, [bound])
    )


def normalized_loss(value: float, objective: Objective) -> float:
    """Return a metric as a loss that is 0 at its best value and 1 at the objective's reference point.

    That is (d(v) - d(best)) / (d(reference) - d(best)) on the even scale d (`Scale.transform`). A Fréchet distance
    becomes log1p(v) / log1p(reference), a share to maximize (1 - v) / (1 - reference).
    """
    metric = METRICS[objective.metric]
    even = metric.scale.transform
    return (even(value) - even(metric.best)) / (even(objective.reference_point) - even(metric.best))


def combined_score(
    metrics: Mapping[str, float], objectives: Sequence[Objective], constraints: Sequence[Constraint] = ()
) -> float:
    """Return the augmented Chebyshev score max_i(w_i n_i) + 0.05 Σ_i w_i n_i of the normalized losses n; lower is
    better (Steuer & Choo, 1983).

    An infeasible trial scores worse than every feasible one, by its violation. A metric that is not finite makes the
    score inf.

    Raises:
        KeyError: a metric of an objective or a constraint is missing.
    """
    excess = violation(metrics, constraints)
    values = [metrics[objective.metric] for objective in objectives]
    if not math.isfinite(excess) or not all(map(math.isfinite, values)):
        return math.inf
    if excess > 0:
        values = [METRICS[objective.metric].worst for objective in objectives]
    terms = [
        objective.weight * normalized_loss(value, objective)
        for value, objective in zip(values, objectives, strict=True)
    ]
    return max(terms) + AUGMENTATION * sum(terms) + excess


def as_good_within_error(
    one: Mapping[str, float],
    other: Mapping[str, float],
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint] = (),
) -> bool:
    """Return whether one candidate is nowhere worse than another by more than the stated errors.

    Its violation must not exceed the other's, once metrics out of bounds are improved by the constraint's error. The
    objectives count only if the other is feasible; there this is additive ε-dominance (Laumanns et al., Evol. Comput.
    10(3), 2002). Without errors it holds for what is equal or better throughout.

    Raises:
        KeyError: a candidate lacks a metric of an objective or a constraint.
    """
    excess = violation(other, constraints)
    if sum(violation(_improved_by_error(one, part), [part]) for part in constraints) > excess:
        return False
    return excess > 0 or all(
        _shortfall(one[part.metric], other[part.metric], part.goal) <= part.error for part in objectives
    )


def _excess(value: float, constraint: Bound) -> float:
    if not math.isfinite(value):
        return math.inf
    scale = METRICS[constraint.metric].scale
    below = 0.0 if constraint.min is None else scale.excess(value, constraint.min)
    above = 0.0 if constraint.max is None else scale.excess(constraint.max, value)
    return max(below, above)


def _improved_by_error(metrics: Mapping[str, float], constraint: Constraint) -> dict[str, float]:
    value = metrics[constraint.metric]
    if constraint.min is not None and value < constraint.min:
        value = min(value + constraint.error, constraint.min)
    if constraint.max is not None and value > constraint.max:
        value = max(value - constraint.error, constraint.max)
    return {constraint.metric: value}


def _shortfall(value: float, other: float, goal: Goal) -> float:
    """Return by how much a metric is worse than another; negative if it is better."""
    return value - other if goal is Goal.MINIMIZE else other - value
