"""Dominance between points whose coordinates are losses: lower is better in every column."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfd_sweep.metrics import Goal


def to_losses(values: ArrayLike, goals: Sequence[Goal]) -> NDArray[np.float64]:
    """Metrics as losses: the columns to maximise change their sign.

    Args:
        values: shape (n, m), a row for each point; an empty sequence is no point.
        goals: one for each of the m columns.
    """
    signs: NDArray[np.float64] = np.array([-1.0 if goal is Goal.MAXIMIZE else 1.0 for goal in goals])
    return np.asarray(values, dtype=np.float64).reshape(-1, len(goals)) * signs


def non_dominated(losses: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points no other point dominates.

    A point dominates another if it is nowhere worse and somewhere better, so equal points do not dominate each other:
    either all of them are marked or none. Infinite losses are ordered like any other; a point with a NaN neither
    dominates nor is marked.

    Args:
        losses: shape (n, m).

    Returns:
        A mask of shape (n,).
    """
    comparable = ~np.isnan(losses).any(axis=1)
    return comparable & np.array([not _is_dominated(point, losses) for point in losses], dtype=np.bool_)


def fronts(losses: NDArray[np.float64]) -> list[NDArray[np.intp]]:
    """The points by non-dominated fronts, the best first (Deb et al., IEEE Trans. Evol. Comput. 6(2), 2002).

    The first front is what no point dominates, and each of the others what none outside the fronts before dominates.

    Args:
        losses: shape (n, m), no NaN.

    Returns:
        The indices of each front's points, in order.

    Raises:
        ValueError: a loss is NaN.
    """
    if np.isnan(losses).any():
        raise ValueError("a point with a NaN is on no front")
    before, after = losses[:, None], losses[None]
    dominates: NDArray[np.bool_] = np.logical_and((before <= after).all(axis=2), (before < after).any(axis=2))
    dominators, left, found = dominates.sum(axis=0), np.ones(len(losses), dtype=np.bool_), []
    while left.any():
        front = left & (dominators == 0)
        dominators = dominators - dominates[front].sum(axis=0)
        left &= ~front
        found.append(np.flatnonzero(front))
    return found


def _is_dominated(point: NDArray[np.float64], losses: NDArray[np.float64]) -> bool:
    return bool(((losses <= point).all(axis=1) & (losses < point).any(axis=1)).any())
