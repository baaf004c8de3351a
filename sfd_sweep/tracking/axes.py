"""How the values of an objective are laid out along an axis, for pictures and pages alike."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sfd_sweep.config import Objective
from sfd_sweep.metrics import METRICS, Goal, Scale

LOGARITHMIC_FROM = 3.0  # a distance whose values differ by this factor is drawn in its logarithm
NINES_FROM = 0.9  # a share to maximise that comes so close to 1 is drawn by its nines, so that 0.99 and 0.999 are apart
NINES_OFFSET = 0.002  # keeps 1 finite
NINES_TICKS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 1.0)
MARGIN = 0.08


@dataclass(frozen=True)
class Axis:
    """A layout of values along an axis.

    Attributes:
        title: the metric, and in which direction it is better.
        place: from a value to its coordinate.
        ticks: labels by coordinate; None where the library's own will do.
        limits: of the coordinates.
    """

    title: str
    place: Callable[[float], float]
    ticks: Mapping[float, str] | None
    limits: tuple[float, float]

    @classmethod
    def of(cls, objective: Objective, values: Sequence[float]) -> "Axis":
        """The layout that suits an objective's values: those that count, which are finite and no worse than the
        reference, fill it."""
        counting = within(values, objective)
        low, high = min(counting), max(counting)
        is_share = METRICS[objective.metric].scale is Scale.SHARE
        if is_share and objective.goal is Goal.MAXIMIZE and high >= NINES_FROM:
            return cls._with_ticks(objective, to_nines, low, high, NINES_TICKS)
        if not is_share and low > 0 and high > LOGARITHMIC_FROM * low:
            return cls._with_ticks(objective, math.log10, low, high, _logarithmic_marks(low, high))
        return cls(_title(objective), float, None, _padded(low, high))

    @classmethod
    def _with_ticks(
        cls, objective: Objective, place: Callable[[float], float], low: float, high: float, marks: Sequence[float]
    ) -> "Axis":
        start, end = _padded(place(low), place(high))
        ticks = {place(mark): f"{mark:g}" for mark in marks if start <= place(mark) <= end}
        return cls(_title(objective), place, ticks, (start, end))

    def holds(self, coordinate: float) -> bool:
        """Whether a coordinate is within the limits."""
        return self.limits[0] <= coordinate <= self.limits[1]

    @classmethod
    def of_numbers(cls, count: int) -> "Axis":
        """The numbers of so many trials."""
        return cls("trial", float, None, _padded(0, max(count - 1, 1)))


def within(values: Sequence[float], objective: Objective) -> list[float]:
    """The finite values that are no worse than the reference; all finite ones if there is none; never none at all."""
    finite = [value for value in values if math.isfinite(value)] or [objective.reference_point]
    sign = 1 if objective.goal is Goal.MINIMIZE else -1
    return [value for value in finite if sign * value <= sign * objective.reference_point] or finite


def to_nines(share: float) -> float:
    """About how many nines a share has: 0.9 is 1 and 0.99 is 2, and 1 is not infinite."""
    return -math.log10(max(1 - share, 0.0) + NINES_OFFSET)


def _title(objective: Objective) -> str:
    return f"{objective.metric}   ← better" if objective.goal is Goal.MINIMIZE else f"{objective.metric}   better →"


def _logarithmic_marks(low: float, high: float) -> list[float]:
    digits = (1, 1.5, 2, 3, 4, 5, 7) if high < 10 * low else (1, 2, 5)
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    return [digit * 10.0**decade for decade in decades for digit in digits]


def _padded(low: float, high: float) -> tuple[float, float]:
    margin = MARGIN * (high - low) or 0.05 * abs(high) or 0.05
    return low - margin, high + margin
