"""Dominance between points whose coordinates are losses: lower is better in every column."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfd_sweep.config import Goal


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


def _is_dominated(point: NDArray[np.float64], losses: NDArray[np.float64]) -> bool:
    return bool(((losses <= point).all(axis=1) & (losses < point).any(axis=1)).any())
