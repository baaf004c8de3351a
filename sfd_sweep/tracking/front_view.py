"""What a picture of the front shows, whichever library draws it: axes, groups of trials and the front's border."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from sys import float_info

from sfd_sweep.config import Objective
from sfd_sweep.metrics import METRICS, Goal, Scale, samples_in_words
from sfd_sweep.search.records import SweepRecord
from sfd_sweep.search.trial import Trial
from sfd_sweep.trial.report import TrialState

INK, MUTED, RULE = "#1f2933", "#6b7280", "#e5e7eb"
FRONT_COLOR, BAR_COLOR = "#c8553d", "#3d6b99"

LOGARITHMIC_FROM = 3.0  # distances whose extremes differ by this factor are drawn on a logarithmic axis
NINES_FROM = 0.9  # shares to maximize that come this close to 1 are drawn by their nines, to tell 0.99 from 0.999
NINES_OFFSET = 0.002  # keeps the place of 1 finite
NINES_TICKS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 1.0)
MARGIN = 0.08
MOST_NUMBERS = 10

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """The layout of values along an axis.

    Attributes:
        title: the metric, and the direction in which it improves.
        place: from a value to its coordinate.
        ticks: labels by coordinate; empty where the library's own ticks fit.
        limits: of the coordinates.
    """

    title: str
    place: Callable[[float], float]
    ticks: Mapping[float, str]
    limits: Point

    @classmethod
    def of(cls, objective: Objective, values: Sequence[float]) -> "Axis":
        """Return the axis of an objective, filled by the values that are no worse than the reference point."""
        shown = within(values, objective)
        place, marks = _scale(objective, min(shown), max(shown))
        limits = _padded(place(min(shown)), place(max(shown)))
        ticks = {place(mark): f"{mark:g}" for mark in marks if limits[0] <= place(mark) <= limits[1]}
        direction = "← better" if objective.goal is Goal.MINIMIZE else "better →"
        return cls(f"{objective.metric}   {direction}", place, ticks, limits)

    @classmethod
    def of_numbers(cls, count: int) -> "Axis":
        """Return the axis of the numbers of that many trials."""
        numbers = range(0, max(count, 1), math.ceil(max(count, 1) / MOST_NUMBERS))
        return cls("trial", float, {number: str(number) for number in numbers}, _padded(0, max(count - 1, 1)))

    def holds(self, coordinate: float) -> bool:
        """Return whether a coordinate is within the limits."""
        return self.limits[0] <= coordinate <= self.limits[1]


@dataclass(frozen=True)
class Group:
    """Trials that are drawn alike.

    Attributes:
        label: in the legend.
        trials: the group's members.
        color: of the mark.
        symbol: of the mark, by plotly's name.
        size: of the mark, in points.
        layer: groups of a higher layer are drawn above the others.
    """

    label: str
    trials: Sequence[Trial]
    color: str
    symbol: str
    size: float
    layer: int


@dataclass(frozen=True)
class FrontView:
    """The trials of a sweep in the plane of two objectives.

    Attributes:
        record: the sweep.
        across: objective along the horizontal axis; None for the trials' numbers.
        up: objective along the vertical axis.
    """

    record: SweepRecord
    across: Objective | None
    up: Objective

    @classmethod
    def all_of(cls, record: SweepRecord) -> "list[FrontView]":
        """Return a view for each pair of the first objective with another; a single one goes over the trials."""
        first, *others = record.space.objectives
        return [cls(record, first, other) for other in others] or [cls(record, None, first)]

    @cached_property
    def groups(self) -> list[Group]:
        """The evaluated trials, and the front's knee and best score once more; empty groups are left out."""
        record, front = self.record, self.record.front
        feasible = [trial for trial in record.complete if record.is_feasible(trial)]
        infeasible = [trial for trial in record.complete if not record.is_feasible(trial)]
        numbers = {trial.number for trial in front}
        dominated = [trial for trial in feasible if trial.number not in numbers]
        early = record.in_state(TrialState.PRUNED, TrialState.STOPPED)
        groups = [
            Group("front", front, FRONT_COLOR, "circle", 9, 5),
            Group("dominated", dominated, BAR_COLOR, "circle", 6, 4),
            Group("infeasible", infeasible, "#8d6b94", "x-thin-open", 6, 4),
            Group("pruned or stopped", early, "#9ca3af", "circle-open", 5, 3),
            Group("running", record.in_state(TrialState.RUNNING), "#8ab17d", "circle-open", 5, 3),
            Group("knee", [record.knee()] if front else [], INK, "diamond-open", 11, 6),
            Group("best score", [record.best(front)] if front else [], INK, "circle-open", 15, 6),
        ]
        return [group for group in groups if group.trials]

    @cached_property
    def x(self) -> Axis:
        """The horizontal axis."""
        return self._axis(self.across) if self.across else Axis.of_numbers(len(self.record.trials))

    @cached_property
    def y(self) -> Axis:
        """The vertical axis."""
        return self._axis(self.up)

    def place(self, trial: Trial) -> Point:
        """Return the coordinates of a trial."""
        across = trial.metrics[self.across.metric] if self.across else trial.number
        return self.x.place(across), self.y.place(trial.metrics[self.up.metric])

    @cached_property
    def border(self) -> list[Point]:
        """Corners of the border of what the front dominates, out to the reference point.

        Each holds its y until the next x. Only the front of two objectives has a border.
        """
        if not self.across or len(self.record.space.objectives) > 2 or not self.record.front:
            return []
        members = [self.place(trial) for trial in self.record.front]
        first = (members[0][0], self.y.place(self.up.reference_point))
        last = (self.x.place(self.across.reference_point), members[-1][1])
        return [first, *members, last]

    @property
    def subtitle(self) -> str:
        """How many trials there are, their states, and the number of samples behind the figures."""
        trials = self.record.trials
        report = next((trial.report for trial in trials if trial.report), None)
        if report is None:
            return "no trial has been evaluated yet"
        states = Counter(trial.state for trial in trials)
        counts = ", ".join(f"{states[state]} {state}" for state in TrialState if states[state])
        outside = sum(not (self.x.holds(x) and self.y.holds(y)) for x, y in map(self.place, self._drawn))
        unseen = f", {outside} outside the picture" if outside else ""
        return f"{len(trials)} trials: {counts}{unseen}  ·  metrics on {samples_in_words(report.samples)}"

    @property
    def _drawn(self) -> list[Trial]:
        return [trial for trial in self.record.trials if trial.report and trial.state is not TrialState.FAILED]

    def _axis(self, objective: Objective) -> Axis:
        return Axis.of(objective, [trial.metrics[objective.metric] for trial in self._drawn])


def within(values: Sequence[float], objective: Objective) -> list[float]:
    """Return the finite values that are no worse than the reference point.

    Without any, all finite ones; without those, the reference point.
    """
    finite = [value for value in values if math.isfinite(value)] or [objective.reference_point]
    sign = 1 if objective.goal is Goal.MINIMIZE else -1
    return [value for value in finite if sign * value <= sign * objective.reference_point] or finite


def to_nines(share: float) -> float:
    """Return about how many nines a share has: 1 for 0.9 and 2 for 0.99; finite for 1."""
    return -math.log10(max(1 - share, 0.0) + NINES_OFFSET)


def to_decades(value: float) -> float:
    """Return the decimal logarithm; finite for 0, which a trial beyond the reference point may have."""
    return math.log10(max(value, float_info.min))


def _scale(objective: Objective, low: float, high: float) -> tuple[Callable[[float], float], Sequence[float]]:
    """The function from values to coordinates, and values to mark."""
    is_share = METRICS[objective.metric].scale is Scale.SHARE
    if is_share and objective.goal is Goal.MAXIMIZE and high >= NINES_FROM:
        return to_nines, NINES_TICKS
    if is_share or low <= 0 or high <= LOGARITHMIC_FROM * low:
        return float, ()
    digits = (1, 1.5, 2, 3, 4, 5, 7) if high < 10 * low else (1, 2, 5)
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    return to_decades, [digit * 10.0**decade for decade in decades for digit in digits]


def _padded(low: float, high: float) -> Point:
    margin = MARGIN * (high - low) or 0.05 * abs(high) or 0.05
    return low - margin, high + margin
