"""How far the figures of one generator lie apart when they are measured twice."""

from math import log, sqrt

from sfd_sweep.errors import UserError
from sfd_sweep.export.description import Figures
from sfd_sweep.metrics import METRICS, Scale

STANDARD_ERRORS = 3
INCEPTION_CLASSES = 1008


def check_figures(recorded: Figures, found: Figures, *, classes: int) -> None:
    """Hold figures that were measured anew against the recorded ones.

    With equal seeds on the same kind of device they agree to rounding. Another kind draws other noise from the same
    seed, so a difference is only one beyond the noise of an evaluation (see `tolerance`).

    Args:
        classes: how many the judge tells apart.

    Raises:
        UserError: a figure differs; the message gives both.
    """
    for name, value in recorded.metrics.items():
        allowed = tolerance(recorded, name, classes)
        if not abs(found.metrics[name] - value) <= allowed:
            raise UserError(
                f"{name} was recorded as {value:.4g}, but the exported generator has {found.metrics[name]:.4g} "
                f"(noise explains ±{allowed:.2g}), so nothing was exported: weights or judge are not those of the "
                "sweep; restore them, or export another trial"
            )


def tolerance(recorded: Figures, metric: str, classes: int) -> float:
    """How far another evaluation on as many samples may lie from the recorded one by chance.

    Both have a standard error, so three of their difference's are allowed.
    """
    value, n = recorded.metrics[metric], recorded.count(metric)
    return STANDARD_ERRORS * sqrt(2) * standard_error(METRICS[metric].scale, value, n, classes)


def standard_error(scale: Scale, value: float, n: int, classes: int) -> float:
    """The standard deviation of a figure over evaluation seeds, or a bound on it.

    - A share is binomial, √(p·(1 - p)/n), with two hits and two misses added so that 0 and 1 have an error too (Agresti
      & Coull, 1998). A mean of values from 0 to 1, a probability or a cosine, spreads less than that.
    - A Fréchet distance d on digits was measured at n = 2,000 over twelve seeds of each of seven generators: 0.04 for
      d ≤ 1, 0.04·√d for d to 5 (as the delta method has it), and up to 0.01·d for d of 70 to 200.
    - An entropy lies in [0, ln(classes)], so it spreads by half of that at most (Popoviciu); so does the logarithm of
      an Inception score, with the classes of Inception-V3.
    """
    match scale:
        case Scale.SHARE | Scale.COSINE:
            p = (value * n + 2) / (n + 4)
            return sqrt(p * (1 - p) / n)
        case Scale.DISTANCE:
            return 0.04 * max(1.0, sqrt(value), value / 4) * sqrt(2000 / n)
        case Scale.NATS:
            return log(classes) / 2 / sqrt(n)
        case Scale.SCORE:
            return value * log(INCEPTION_CLASSES) / 2 / sqrt(n)
