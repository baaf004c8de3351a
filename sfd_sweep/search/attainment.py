"""Attainment surfaces: what at least a share of repeated searches has reached, in two objectives."""

from collections.abc import Sequence
from math import ceil

import moocore  # type: ignore[import-untyped]
import numpy as np

from sfd_sweep.search.pareto import Losses


def attainment_surface(fronts: Sequence[Losses], share: float) -> Losses:
    """Return the points that at least a share of the runs attains and that no other such point dominates.

    A run attains a point if one of its own is nowhere worse. The surface of half of the runs is the median of the
    empirical attainment function (Grunert da Fonseca, Fonseca & Hall, "Inferential performance assessment of stochastic
    optimisers and the attainment function", EMO 2001), which `moocore` computes. A run without points attains nothing.

    Args:
        fronts: of each run, shape (n, 2); dominated points are allowed.
        share: of the runs, above 0 and at most 1; rounded up to a whole number of them.

    Returns:
        The points in the order of the first loss; none if too few runs have any.
    """
    needed = ceil(share * len(fronts) - 1e-9)
    filled = [front for front in fronts if len(front)]
    if needed > len(filled):
        return np.empty((0, 2))
    runs = np.repeat(np.arange(len(filled)), [len(front) for front in filled])
    attained = moocore.eaf(np.concatenate(filled), runs)
    surface: Losses = attained[np.rint(attained[:, 2] * len(filled) / 100) == needed, :2]
    return surface[np.argsort(surface[:, 0])]
