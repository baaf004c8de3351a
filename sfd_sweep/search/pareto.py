"""The Pareto front: which trials are on it, its hypervolume and its knee, and the ranking of all others behind it.

Arrays of losses have a row for each point and a column for each objective; lower is better in every column.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import moocore  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfd_sweep.config import Constraint, Objective, SearchSpace
from sfd_sweep.metrics import Goal
from sfd_sweep.search.scores import normalized_loss, violation
from sfd_sweep.search.trial import Trial
from sfd_sweep.trial.report import Report, TrialState

Metrics = Mapping[str, float]
Losses = NDArray[np.float64]


@dataclass(frozen=True)
class Front:
    """The trials on the front, by number, and its hypervolume.

    Attributes:
        candidates: the trials on the front by their last reports, which are evaluated finally; by number.
    """

    numbers: tuple[int, ...]
    hypervolume: float
    candidates: tuple[int, ...] = ()


def front_of(space: SearchSpace, trials: Sequence[Trial]) -> Front:
    """Return the front of the complete trials: of their last reports, then among these `judged` figures decide."""
    candidates = searched_front(space, trials)
    reports = judged(candidates)
    members = front([report.metrics for report in reports], space.objectives, space.constraints)
    volume = hypervolume_of([reports[index].metrics for index in members], space.objectives)
    return Front(tuple(candidates[index].number for index in members), volume, tuple(t.number for t in candidates))


def searched_front(space: SearchSpace, trials: Sequence[Trial]) -> list[Trial]:
    """Return the front of the complete trials by their last reports, which rest on the same numbers of samples."""
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    members = front([trial.metrics for trial in complete], space.objectives, space.constraints)
    return [complete[index] for index in members]


def judged(candidates: Sequence[Trial]) -> list[Report]:
    """Return the reports that the members of the searched front are compared by: all final, or else all last ones.

    What search has selected is partly luck on the noise of its evaluations, so the final evaluation, on other noise,
    decides who stays on the front. Figures of different numbers of samples are not comparable.
    """
    finals = [trial.final for trial in candidates if trial.final]
    return finals if len(finals) == len(candidates) else [trial.reports[-1] for trial in candidates]


def front(
    candidates: Sequence[Metrics], objectives: Sequence[Objective], constraints: Sequence[Constraint] = ()
) -> list[int]:
    """Return the indices of the candidates on the front, in order.

    A candidate is on it if it is feasible, its objectives are finite, and no other such candidate dominates it. Equal
    candidates are on it together.

    Raises:
        KeyError: a candidate lacks a metric of an objective or a constraint.
    """
    losses = to_losses(candidates, objectives)
    feasible = np.array([violation(metrics, constraints) == 0 for metrics in candidates], dtype=np.bool_)
    (eligible,) = np.nonzero(feasible & np.isfinite(losses).all(axis=1))
    return [int(index) for index in eligible[non_dominated(losses[eligible])]]


def hypervolume_of(candidates: Sequence[Metrics], objectives: Sequence[Objective]) -> float:
    """Return the hypervolume of candidates against the objectives' reference point; higher is better."""
    (reference,) = to_losses([{part.metric: part.reference_point for part in objectives}], objectives)
    return hypervolume(to_losses(candidates, objectives), reference)


def ranking(
    candidates: Sequence[Metrics], objectives: Sequence[Objective], constraints: Sequence[Constraint] = ()
) -> list[int]:
    """Return the indices of the candidates, the best first.

    Candidates are ordered by their violation, those of equal violation by non-dominated fronts, and each front so that
    its beginning is spread over it (`farthest_first` of the normalized losses). This is the ranking of multi-objective
    successive halving (Schmucker et al., arXiv 2106.12639), with constraints before objectives (Deb, Comput. Methods
    Appl. Mech. Eng. 186, 2000).

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
        for indices in fronts(losses[equal]):
            members = equal[indices]
            order.extend(members[farthest_first(losses[members])].tolist())
    return order


def to_losses(candidates: Sequence[Metrics], objectives: Sequence[Objective]) -> Losses:
    """Return the objectives of n candidates as losses, shape (n, m): metrics to maximize change their sign.

    Raises:
        KeyError: a candidate lacks the metric of an objective.
    """
    signs: Losses = np.array([-1.0 if part.goal is Goal.MAXIMIZE else 1.0 for part in objectives])
    values = [[metrics[part.metric] for part in objectives] for metrics in candidates]
    return np.array(values, dtype=np.float64).reshape(-1, len(objectives)) * signs


def non_dominated(losses: Losses) -> NDArray[np.bool_]:
    """Return a mask of the points that no other point dominates: equal points are all marked or none.

    Infinite losses are ordered like any other; a point with a NaN neither dominates nor is marked.
    """
    mask: NDArray[np.bool_] = np.logical_not(np.isnan(losses).any(axis=1))
    mask[mask] = moocore.is_nondominated(_dense_ranks(losses[mask]), keep_weakly=True)
    return mask


def fronts(losses: Losses) -> list[NDArray[np.intp]]:
    """Return the indices of the points by non-dominated fronts, the best first (Deb et al., IEEE Trans. Evol. Comput.
    6(2), 2002).

    Raises:
        ValueError: a loss is NaN.
    """
    if np.isnan(losses).any():
        raise ValueError("a point with a NaN is on no front")
    ranks = moocore.pareto_rank(_dense_ranks(losses))
    return [np.flatnonzero(ranks == rank) for rank in np.unique(ranks)]


def hypervolume(losses: Losses, reference: ArrayLike) -> float:
    """Return the exact volume of what the points dominate and the reference point bounds (Zitzler & Thiele, 1998).

    A point that does not beat the reference in every objective adds nothing, nor does one with a NaN. A loss of -inf
    in a point that does makes the volume infinite.

    Args:
        losses: shape (n, m), any m; dominated points and duplicates are allowed.
        reference: shape (m,), finite: the worst loss that still counts, by objective.

    Raises:
        ValueError: the reference is not finite, or not of m numbers.
    """
    bound = np.asarray(reference, dtype=np.float64)
    if bound.shape != losses.shape[1:] or not np.isfinite(bound).all():
        raise ValueError(f"the reference must be {losses.shape[1]} finite numbers, not {bound.tolist()}")
    return float(moocore.hypervolume(losses[(losses < bound).all(axis=1)], ref=bound))


def knee(losses: Losses) -> int:
    """Return the index of the point that lies farthest below the hyperplane through the ends of the front.

    Every objective is scaled to 0 at the front's best value and 1 at its worst, z = (l - best) / (worst - best). The
    hyperplane is Σ_k z_k = 1, for two objectives the line between the two extreme points, and the distance below it
    (1 - Σ_k z_k) / √m: the knee of Das, "On characterizing the 'knee' of the Pareto curve based on normal-boundary
    intersection", Structural Optimization 18, 1999. An objective that is the same all over the front has no weight.

    Among equally far points the most even one (least largest z) is taken, then the one that is better in the first
    objective that differs. Hence a single point is its own knee, and of two points it is the one that is better in the
    first objective.

    Args:
        losses: shape (n, m), n ≥ 1, finite: the points of a front.

    Raises:
        ValueError: there is no point, or a loss is not finite.
    """
    if len(losses) == 0:
        raise ValueError("a front without points has no knee")
    scaled = np.round(_scaled(losses), 12)  # so that points on a straight line are equally far
    by_priority = (scaled.sum(axis=1), scaled.max(axis=1), *losses.T)
    return int(np.lexsort(by_priority[::-1])[0])


def farthest_first(losses: Losses) -> NDArray[np.intp]:
    """Return the indices of a front's points, each as far as possible from those before it (Gonzalez, Theor. Comput.
    Sci. 38, 1985).

    Every beginning of this order is an ε-net of the points, at an ε of at most twice the least that so many points
    allow; Schmucker et al. ("Multi-objective asynchronous successive halving", arXiv 2106.12639) break ties within a
    front by it. Distances are Euclidean, every objective being scaled to 0 at the best value and 1 at the worst. The
    first is the point that is best in the first objective, among equals in the second, and so on; of points that are
    equally far, the one given first comes first.

    Raises:
        ValueError: a loss is not finite.
    """
    if len(losses) == 0:
        return np.empty(0, dtype=np.intp)
    scaled = _scaled(losses)
    order = [int(np.lexsort(losses.T[::-1])[0])]
    distance = np.full(len(losses), np.inf)
    while len(order) < len(losses):
        distance = np.minimum(distance, np.linalg.norm(scaled - scaled[order[-1]], axis=1))
        distance[order] = -1  # behind those that are equal to one of them
        order.append(int(distance.argmax()))
    return np.array(order, dtype=np.intp)


def _dense_ranks(losses: Losses) -> Losses:
    """Return each column's ranks, which dominate alike: moocore's results are wrong where losses are infinite."""
    ranks = [np.unique(column, return_inverse=True)[1] for column in losses.T]
    return np.stack(ranks, axis=1).astype(np.float64)


def _scaled(losses: Losses) -> Losses:
    """Return every objective scaled to 0 at the best value and 1 at the worst; 0 if it is the same everywhere.

    Raises:
        ValueError: a loss is not finite.
    """
    if not np.isfinite(losses).all():
        raise ValueError("the losses of a front must be finite")
    best, worst = losses.min(axis=0), losses.max(axis=0)
    extent: Losses = np.where(worst > best, worst - best, 1.0)
    scaled: Losses = (losses - best) / extent
    return scaled
