"""What the stated errors of an evaluation make of a front: who is on it, its hypervolume, and its knee.

All figures are drawn anew around the observed values: independent normal noise, whose standard deviation is half the
`error` that the search-space file states, kept within the range of the metric. Front, hypervolume, and knee of each
draw are those of `search.pareto`. A probability is the share of draws.

That share is the posterior probability under independent errors and a flat prior for the true values. It is no
measured frequency: observed values contain the noise of one evaluation already, and the trials on a front are in part
those whose evaluation was lucky (Smith & Winkler, Management Science 52(3), 2006). A draw adds noise once more, to all
candidates, so a member has luckier rivals there than in truth. Against known fronts (`benchmarks/front_noise.py`) the
shares of members are therefore too low, by up to 0.3 where many trials are almost equal.

For the same reason drawn hypervolumes lie above the observed one, as that lies above the true one. The interval is
reflected at the observed hypervolume, which corrects for one such bias (the basic bootstrap of Davison & Hinkley,
"Bootstrap Methods and their Application", 1997). On the known fronts it contains the truth in 0.75 to 0.9 of all
cases of 20 trials; of 100 trials in 0.6 to 0.85 where errors are 0.05 of the front's extent, and in 0.3 to 0.6 where
they are 0.2 or more. Nothing here says what another training seed gives.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfd_sweep.config import Constraint, Objective
from sfd_sweep.metrics import METRICS, Goal
from sfd_sweep.search.pareto import Losses, Metrics, front, hypervolume, hypervolume_of, knee, non_dominated

DRAWS = 1000
SEED = 0
PERCENTILES = (5, 50, 95)
"""Percentiles of draws: the ends of an interval, and the median."""

Errors = Mapping[str, float]
"""Error of one evaluation by metric: about twice the standard deviation over evaluation seeds."""
Shares = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """The 5th, 50th, and 95th percentile of draws. Its coverage of the truth is not 90 % (see above)."""

    low: float
    median: float
    high: float


@dataclass(frozen=True)
class FrontUncertainty:
    """A front under the errors of its figures.

    Attributes:
        probability: share of draws in which each candidate is on the front, shape (n,).
        hypervolume: corrected for the bias of the observed one, so that its median is usually below that.
    """

    probability: Shares
    hypervolume: Interval


def stated_errors(objectives: Sequence[Objective], constraints: Sequence[Constraint] = ()) -> dict[str, float]:
    """Return the error of each metric of the objectives and constraints, the larger one if both state it."""
    errors: dict[str, float] = {}
    parts: list[Objective | Constraint] = [*objectives, *constraints]
    for part in parts:
        errors[part.metric] = max(part.error, errors.get(part.metric, 0.0))
    return errors


def front_uncertainty(
    candidates: Sequence[Metrics],
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
    errors: Errors,
    *,
    draws: int = DRAWS,
    seed: int = SEED,
) -> FrontUncertainty:
    """Return how often each candidate is on the front, and the interval of the hypervolume.

    Without errors the shares are 1 on the front and 0 elsewhere, and the interval is the hypervolume.

    Raises:
        KeyError: a candidate or the errors lack a metric of an objective or a constraint.
    """
    signs = np.array([_sign(part) for part in objectives])
    reference = signs * [part.reference_point for part in objectives]
    masks, volumes = [], []
    for losses, feasible in _draws(candidates, objectives, constraints, errors, draws, seed):
        members = _on_front(losses, feasible)
        masks.append(members)
        volumes.append(hypervolume(losses[members], reference))
    observed = hypervolume_of([candidates[index] for index in front(candidates, objectives, constraints)], objectives)
    reflected = np.maximum(2 * observed - np.array(volumes), 0.0)
    low, median, high = np.percentile(reflected, PERCENTILES)
    return FrontUncertainty(np.mean(masks, axis=0), Interval(float(low), float(median), float(high)))


def knee_probability(
    members: Sequence[Metrics],
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
    errors: Errors,
    *,
    draws: int = DRAWS,
    seed: int = SEED,
) -> Shares:
    """Return how often each member of a front is the knee of what is left of the front in a draw, shape (n,).

    The shares add up to less than 1 if in some draws no member is feasible.

    Raises:
        KeyError: a member or the errors lack a metric of an objective or a constraint.
    """
    counts, made = np.zeros(len(members)), 0
    for losses, feasible in _draws(members, objectives, constraints, errors, draws, seed):
        (left,) = np.nonzero(_on_front(losses, feasible))
        if len(left):
            counts[left[knee(losses[left])]] += 1
        made += 1
    return counts / made


def most_probable_knee(losses: Losses, shares: Shares) -> int:
    """Return the index of the member that is the knee most often, of equal ones the knee of the observed losses.

    Raises:
        ValueError: there is no point, or a loss is not finite.
    """
    (most,) = np.nonzero(shares == shares.max(initial=0.0))
    return int(most[knee(losses[most])])


def _draws(
    candidates: Sequence[Metrics],
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
    errors: Errors,
    draws: int,
    seed: int,
) -> Iterator[tuple[Losses, NDArray[np.bool_]]]:
    """Yield losses and feasibility of all candidates, draw by draw; one draw says all where there are no errors."""
    names = list(stated_errors(objectives, constraints))
    observed = np.array([[metrics[name] for name in names] for metrics in candidates], dtype=np.float64)
    observed = observed.reshape(-1, len(names))
    deviation = np.array([errors[name] for name in names]) / 2
    least = np.minimum([METRICS[name].scale.least for name in names], observed)
    greatest = np.maximum([METRICS[name].scale.greatest for name in names], observed)
    columns = [names.index(part.metric) for part in objectives]
    signs = np.array([_sign(part) for part in objectives])
    random = np.random.default_rng(seed)
    for _ in range(draws if deviation.any() else 1):
        figures = np.clip(observed + deviation * random.standard_normal(observed.shape), least, greatest)
        feasible = np.ones(len(figures), dtype=np.bool_)
        for part in constraints:
            feasible &= _within(figures[:, names.index(part.metric)], part)
        yield figures[:, columns] * signs, feasible


def _within(values: NDArray[np.float64], bound: Constraint) -> NDArray[np.bool_]:
    low = -np.inf if bound.min is None else bound.min
    high = np.inf if bound.max is None else bound.max
    within: NDArray[np.bool_] = np.isfinite(values) & (values >= low) & (values <= high)
    return within


def _on_front(losses: Losses, feasible: NDArray[np.bool_]) -> NDArray[np.bool_]:
    mask = feasible & np.isfinite(losses).all(axis=1)
    mask[mask] = non_dominated(losses[mask])
    return mask


def _sign(objective: Objective) -> float:
    return -1.0 if objective.goal is Goal.MAXIMIZE else 1.0
