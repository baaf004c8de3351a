"""The knee: the point of a front where giving way in one objective stops paying in the others."""

import numpy as np
from numpy.typing import NDArray


def knee(losses: NDArray[np.float64]) -> int:
    """The index of the point that lies farthest below the hyperplane through the ends of the front.

    Every objective is scaled to 0 at the front's best value and 1 at its worst, z = (l - best) / (worst - best). The
    hyperplane is Σ_k z_k = 1, for two objectives the line between the two extreme points, and the distance below it
    (1 - Σ_k z_k) / √m: the knee of Das, "On characterizing the 'knee' of the Pareto curve based on normal-boundary
    intersection", Structural Optimization 18, 1999. An objective that is the same all over the front counts for
    nothing.

    Among equally far points the most even one (least largest z) is taken, then the one that is better in the first
    objective that tells them apart. Hence a single point is its own knee; of two, which bend nowhere, it is the one
    that is better in the first objective.

    Args:
        losses: shape (n, m), n ≥ 1, finite: the points of a front.

    Raises:
        ValueError: there is no point, or a loss is not finite.
    """
    if len(losses) == 0:
        raise ValueError("a front without points has no knee")
    if not np.isfinite(losses).all():
        raise ValueError("the losses of a front must be finite")
    best, worst = losses.min(axis=0), losses.max(axis=0)
    extent = np.where(worst > best, worst - best, 1.0)
    scaled = np.round((losses - best) / extent, 12)  # so that points on a straight line are equally far
    by_priority = (scaled.sum(axis=1), scaled.max(axis=1), *losses.T)
    return int(np.lexsort(by_priority[::-1])[0])
