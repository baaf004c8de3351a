"""An order of a front's points whose beginning, wherever it is cut, is spread over all of the front."""

import numpy as np
from numpy.typing import NDArray


def farthest_first(losses: NDArray[np.float64]) -> NDArray[np.intp]:
    """The points, each as far as can be from those before it (Gonzalez, Theor. Comput. Sci. 38, 1985).

    Every beginning of this order is an ε-net of the points, at an ε of at most twice the least that so many points
    allow; Schmucker et al. ("Multi-objective asynchronous successive halving", arXiv 2106.12639) break ties within a
    front by it. Distances are Euclidean, every objective being scaled to 0 at the best value and 1 at the worst. The
    first is the point that is best in the first objective, among equals in the second, and so on; of points that are
    equally far, the one given first comes first.

    Args:
        losses: shape (n, m), finite: the points of a front.

    Returns:
        Their indices, in order.

    Raises:
        ValueError: a loss is not finite.
    """
    if not np.isfinite(losses).all():
        raise ValueError("the losses of a front must be finite")
    if len(losses) == 0:
        return np.empty(0, dtype=np.intp)
    best, worst = losses.min(axis=0), losses.max(axis=0)
    scaled = (losses - best) / np.where(worst > best, worst - best, 1.0)
    order = [int(np.lexsort(losses.T[::-1])[0])]
    distance = np.full(len(losses), np.inf)
    while len(order) < len(losses):
        distance = np.minimum(distance, np.linalg.norm(scaled - scaled[order[-1]], axis=1))
        distance[order] = -1  # behind those that are equal to one of them
        order.append(int(distance.argmax()))
    return np.array(order, dtype=np.intp)
