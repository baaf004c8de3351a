"""One number for a trial, for samplers and schedulers that want one; lower is better."""

import math
import sys
from collections.abc import Mapping, Sequence

from sfd_sweep.config import Bound, Constraint, Objective
from sfd_sweep.metrics import METRICS, Scale

AUGMENTATION = 0.05
"""Share of the weighted sum that is added to the largest term, so that a weakly dominated point never ties; the value
is that of ParEGO (Knowles, IEEE Trans. Evol. Comput. 10(1), 2006)."""


def violation(metrics: Mapping[str, float], constraints: Sequence[Bound]) -> float:
    """By how much the metrics break the constraints: 0 if they keep all of them, inf if one is not finite.

    The excess over every broken bound is measured on its metric's even scale (see `normalized_loss`) and added up.

    Raises:
        KeyError: a constrained metric is missing.
    """
    return sum((_excess(metrics[constraint.metric], constraint) for constraint in constraints), start=0.0)


def normalized_loss(value: float, objective: Objective) -> float:
    """A metric as a loss that is 0 at the best value it can have and 1 at the objective's reference.

    That is (d(v) - d(best)) / (d(reference) - d(best)) on an even scale d: d(v) = log1p(v) for a distance or nats,
    which are in [0, ∞) and differ by factors, and d(v) = v for a share. A Fréchet distance becomes
    log1p(v) / log1p(reference), a share to maximise (1 - v) / (1 - reference).
    """
    scale, best = METRICS[objective.metric].scale, METRICS[objective.metric].best
    return (_even(value, scale) - _even(best, scale)) / (_even(objective.reference_point, scale) - _even(best, scale))


def combined_score(
    metrics: Mapping[str, float], objectives: Sequence[Objective], constraints: Sequence[Constraint] = ()
) -> float:
    """The augmented Chebyshev score max_i(w_i n_i) + 0.05 Σ_i w_i n_i of the normalised losses n (Steuer & Choo, 1983).

    A trial that breaks a constraint scores worse than any that keeps them all, by its violation. A metric that is not
    finite makes the score inf.

    Raises:
        KeyError: a metric of an objective or a constraint is missing.
    """
    excess = violation(metrics, constraints)
    values = [metrics[objective.metric] for objective in objectives]
    if not math.isfinite(excess) or not all(map(math.isfinite, values)):
        return math.inf
    if excess > 0:
        return _chebyshev([_worst(objective) for objective in objectives], objectives) + excess
    return _chebyshev(values, objectives)


def _chebyshev(values: Sequence[float], objectives: Sequence[Objective]) -> float:
    terms = [
        objective.weight * normalized_loss(value, objective)
        for value, objective in zip(values, objectives, strict=True)
    ]
    return max(terms) + AUGMENTATION * sum(terms)


def _even(value: float, scale: Scale) -> float:
    return value if scale is Scale.SHARE else math.log1p(value)


def _worst(objective: Objective) -> float:
    """The worst finite value that the metric can have."""
    metric = METRICS[objective.metric]
    return 1.0 - metric.best if metric.scale is Scale.SHARE else sys.float_info.max


def _excess(value: float, constraint: Bound) -> float:
    if not math.isfinite(value):
        return math.inf
    scale = METRICS[constraint.metric].scale
    below = 0.0 if constraint.min is None else _rise(value, constraint.min, scale)
    above = 0.0 if constraint.max is None else _rise(constraint.max, value, scale)
    return max(below, above)


def _rise(low: float, high: float, scale: Scale) -> float:
    """d(high) - d(low) on the even scale, or 0 if high is not above low; written so that rounding never makes it 0."""
    if high <= low:
        return 0.0
    return high - low if scale is Scale.SHARE else math.log1p((high - low) / (1 + low))
