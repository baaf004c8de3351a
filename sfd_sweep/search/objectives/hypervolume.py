"""The hypervolume: how much of the objective space a set of points dominates."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfd_sweep.search.objectives.dominance import non_dominated


def hypervolume(losses: NDArray[np.float64], reference: ArrayLike) -> float:
    """The volume of what the points dominate and the reference point bounds (Zitzler & Thiele, 1998); exact.

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
    inside = losses[(losses < bound).all(axis=1)]
    if len(inside) == 0:
        return 0.0
    if np.isneginf(inside).any():
        return float("inf")
    return _volume(np.unique(inside[non_dominated(inside)], axis=0), bound)


def _volume(points: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Sum over slices along the last objective: thickness times the volume of the cross-section, one dimension less.

    This is hypervolume by slicing objectives (While et al., IEEE Trans. Evol. Comput. 10(1), 2006), with the
    cross-sections of the two-dimensional case, which are lengths, taken all at once.
    """
    dimensions = len(reference)
    if dimensions == 1:
        return float(reference[0] - points.min())
    points = points[np.argsort(points[:, -1])]
    thickness = np.diff(points[:, -1], append=reference[-1])
    if dimensions == 2:
        sections = reference[0] - np.minimum.accumulate(points[:, 0])
    else:
        sections = np.array([_volume(points[:count, :-1], reference[:-1]) for count in range(1, len(points) + 1)])
    return float(thickness @ sections)
