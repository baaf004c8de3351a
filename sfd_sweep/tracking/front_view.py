"""What a drawing of the front shows, in a picture or on the page: axes, groups of marks and the front's border."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from sys import float_info

from sfd_sweep.config import Objective
from sfd_sweep.metrics import METRICS, Goal, Scale, samples_in_words
from sfd_sweep.search.records import SweepRecord
from sfd_sweep.search.trial import Trial
from sfd_sweep.trial.report import Report, TrialState

INK, MUTED, RULE = "#1f2933", "#6b7280", "#e5e7eb"
FRONT_COLOR, BAR_COLOR = "#c8553d", "#3d6b99"
NOT_FORGOTTEN_COLOR, SWAP_COLOR = "#e3a799", "#0b7a75"

LOGARITHMIC_FROM = 3.0  # distances whose extremes differ by this factor are drawn on a logarithmic axis
NINES_FROM = 0.9  # shares to maximize that come this close to 1 are drawn by their nines, to tell 0.99 from 0.999
NINES_OFFSET = 0.002  # keeps the place of 1 finite
NINES_TICKS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 1.0)
MARGIN = 0.08
MOST_NUMBERS = 10

Limits = tuple[float, float]
Place = tuple[float, ...]
"""Coordinates along the axes of a view."""


@dataclass(frozen=True)
class Axis:
    """The layout of values along an axis, or along a scale of colors.

    Attributes:
        name: the metric, or `trial`.
        goal: the direction in which the metric improves; None for the numbers of trials.
        place: from a value to its coordinate.
        ticks: labels by coordinate; empty where the library's own ticks fit.
        limits: of the coordinates.
    """

    name: str
    goal: Goal | None
    place: Callable[[float], float]
    ticks: Mapping[float, str]
    limits: Limits

    @classmethod
    def of(cls, objective: Objective, values: Sequence[float]) -> "Axis":
        """Return the axis of an objective, filled by the values that are no worse than the reference point."""
        shown = within(values, objective)
        place, marks = _scale(objective, min(shown), max(shown))
        limits = _padded(place(min(shown)), place(max(shown)))
        ticks = {place(mark): f"{mark:g}" for mark in marks if limits[0] <= place(mark) <= limits[1]}
        return cls(objective.metric, objective.goal, place, ticks, limits)

    @classmethod
    def of_numbers(cls, first: int, count: int) -> "Axis":
        """Return the axis of the numbers of that many trials, from a first number on."""
        numbers = range(0, max(count, 1), math.ceil(max(count, 1) / MOST_NUMBERS))
        ticks = {float(number): str(number) for number in numbers}
        return cls("trial", None, float, ticks, _padded(first, max(count - 1, 1)))

    @property
    def title(self) -> str:
        """The name, with an arrow to where it is better."""
        arrow = {Goal.MINIMIZE: "   ← better", Goal.MAXIMIZE: "   better →", None: ""}[self.goal]
        return f"{self.name}{arrow}"

    @property
    def better(self) -> int:
        """The sign of the direction in which it is better; -1 for the numbers of trials."""
        return 1 if self.goal is Goal.MAXIMIZE else -1

    @property
    def color_map(self) -> str:
        """The colors of the scale by their name in matplotlib: the darker, the better."""
        return "viridis_r" if self.goal is Goal.MAXIMIZE else "viridis"

    def holds(self, coordinate: float) -> bool:
        """Return whether a coordinate is within the limits."""
        return self.limits[0] <= coordinate <= self.limits[1]


@dataclass(frozen=True)
class Mark:
    """A point of a picture: a trial, or the null baseline.

    Attributes:
        number: of the trial; -1 for the null baseline.
        report: that the trial is compared by (see `SweepRecord.figures`).
        trial: None for the null baseline.
    """

    number: int
    report: Report
    trial: Trial | None = None


@dataclass(frozen=True)
class Group:
    """Marks that are drawn alike.

    Attributes:
        label: in the legend.
        marks: the group's members.
        color: of the mark.
        symbol: of the mark: `circle`, `square`, `circle-open`, `square-open`, `diamond-open`, or `x-thin-open`.
        size: of the mark, in points.
        layer: groups of a higher layer are drawn above the others.
        is_shaded: whether the colors of a view's `shade` replace the group's own.
    """

    label: str
    marks: Sequence[Mark]
    color: str
    symbol: str
    size: float
    layer: int
    is_shaded: bool = False

    @property
    def is_front(self) -> bool:
        """Whether the marks are members of the front, which have error bars and, in space, stems."""
        return self.label.startswith("front")

    @property
    def is_filled(self) -> bool:
        """Whether the symbol is an area."""
        return self.symbol in ("circle", "square")


@dataclass(frozen=True)
class FrontView:
    """The trials of a sweep along some of its objectives.

    Attributes:
        record: the sweep.
        shown: objectives along the axes; a single one is drawn over the trials' numbers.
        shade: objective that the colors of complete trials show; None: colors tell groups apart.
    """

    record: SweepRecord
    shown: tuple[Objective, ...]
    shade: Objective | None = None

    @classmethod
    def panels_of(cls, record: SweepRecord) -> "list[FrontView]":
        """Return a view in the plane for each pair of objectives; a single objective goes over the trials.

        With three or more objectives, colors show the first one that is on no axis of the panel.
        """
        objectives = record.space.objectives
        pairs: list[tuple[Objective, ...]] = [*combinations(objectives, 2)] or [objectives]
        return [cls(record, pair, next((part for part in objectives if part not in pair), None)) for pair in pairs]

    @classmethod
    def page_of(cls, record: SweepRecord) -> "FrontView":
        """Return the view of all objectives, each along an axis of its own."""
        return cls(record, record.space.objectives)

    @cached_property
    def groups(self) -> list[Group]:
        """The evaluated trials, the front's knee and best score once more, and the null baseline; no group is empty."""
        record, front = self.record, self.record.front
        feasible = [trial for trial in record.complete if record.is_feasible(trial)]
        infeasible = [trial for trial in record.complete if not record.is_feasible(trial)]
        numbers = {trial.number for trial in front}
        dominated = [trial for trial in feasible if trial.number not in numbers]
        early = record.in_state(TrialState.PRUNED, TrialState.STOPPED)
        running = record.in_state(TrialState.RUNNING)
        shaded = self.shade is not None
        groups = [
            *self._groups_of_front(),
            Group("dominated", self.marks(dominated), BAR_COLOR, "circle", 6, 4, shaded),
            Group("infeasible", self.marks(infeasible), "#8d6b94", "x-thin-open", 6, 4),
            Group("pruned or stopped", self.marks(early), "#9ca3af", "circle-open", 5, 3),
            Group("running", self.marks(running), "#8ab17d", "circle-open", 5, 3),
            Group("knee", self.marks([record.knee()] if front else []), INK, "diamond-open", 13, 7),
            Group("best score", self.marks([record.best(front)] if front else []), INK, "circle-open", 15, 7),
            Group("swap: forgets nothing", self._swap, SWAP_COLOR, "square-open", 9, 6),
        ]
        return [group for group in groups if group.marks]

    def _groups_of_front(self) -> list[Group]:
        """The front, in two groups where the file says what counts as forgotten."""
        front, shaded = self.record.front, self.shade is not None
        if not self.record.space.selection.bounds:
            return [Group("front", self.marks(front), FRONT_COLOR, "circle", 9, 5, shaded)]
        forgotten = [trial for trial in front if self.record.counts_as_forgotten(trial)]
        others = [trial for trial in front if not self.record.counts_as_forgotten(trial)]
        return [
            Group("front, forgotten", self.marks(forgotten), FRONT_COLOR, "circle", 9, 5, shaded),
            Group("front, not forgotten", self.marks(others), NOT_FORGOTTEN_COLOR, "square", 8, 5, shaded),
        ]

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """The axes, two at least."""
        objectives = tuple(self._axis(part) for part in self.shown)
        if len(objectives) > 1:
            return objectives
        first = -1 if self._swap else 0
        return (Axis.of_numbers(first, len(self.record.trials)), *objectives)

    @cached_property
    def shades(self) -> Axis | None:
        """The scale of the colors that complete trials have; None if colors tell groups apart."""
        return self._axis(self.shade) if self.shade else None

    def marks(self, trials: Sequence[Trial]) -> list[Mark]:
        """Return the marks of evaluated trials."""
        return [Mark(trial.number, self.record.figures(trial), trial) for trial in trials]

    def place(self, mark: Mark) -> Place:
        """Return the coordinates of a mark."""
        values = [mark.report.metrics[part.metric] for part in self.shown]
        if len(values) == 1:
            values.insert(0, mark.number)
        return tuple(axis.place(value) for axis, value in zip(self.axes, values, strict=True))

    def reach(self, mark: Mark) -> list[Limits]:
        """Return how far the stated error of each shown objective reaches below and above a mark, in coordinates."""
        if len(self.shown) == 1:
            return [(0.0, 0.0), self._reach(mark, self.shown[0], self.axes[1])]
        return [self._reach(mark, part, axis) for part, axis in zip(self.shown, self.axes, strict=True)]

    def _reach(self, mark: Mark, objective: Objective, axis: Axis) -> Limits:
        value, scale = mark.report.metrics[objective.metric], METRICS[objective.metric].scale
        assert mark.trial is not None, "the null baseline has no error bars"
        error = self.record.errors_of(mark.trial)[objective.metric]
        low, high = max(value - error, min(scale.least, value)), min(value + error, max(scale.greatest, value))
        return axis.place(value) - axis.place(low), axis.place(high) - axis.place(value)

    def shade_of(self, mark: Mark) -> float:
        """Return the coordinate of a mark on the scale of the colors."""
        assert self.shade is not None
        assert self.shades is not None
        return self.shades.place(mark.report.metrics[self.shade.metric])

    @cached_property
    def border(self) -> list[Place]:
        """Corners of the border of what the front dominates, out to the reference point.

        Each holds its y until the next x. Only the front of two objectives has a border.
        """
        if len(self.record.space.objectives) != 2 or not self.record.front:
            return []
        across, up = self.shown
        members = [self.place(mark) for mark in self.marks(self.record.front)]
        first = (members[0][0], self.axes[1].place(up.reference_point))
        last = (self.axes[0].place(across.reference_point), members[-1][1])
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
        words = f"metrics on {samples_in_words(report.samples)}"
        if self.record.is_judged:
            final = self.record.figures(self.record.searched_front[0])
            words += f", the front on {samples_in_words(final.samples)}"
        return f"{len(trials)} trials: {counts}{self._unseen()}  ·  {words}"

    def _unseen(self) -> str:
        """Return how many marks are outside of a panel, in words."""
        axes = [(part.metric, self._axis(part)) for part in self.record.space.objectives]
        outside = [
            mark
            for mark in self._drawn
            if not all(axis.holds(axis.place(mark.report.metrics[metric])) for metric, axis in axes)
        ]
        trials = sum(mark.trial is not None for mark in outside)
        words = [f"{trials} outside the picture"] if trials else []
        words += ["swap outside the picture"] if trials < len(outside) else []
        return "".join(f", {text}" for text in words)

    @property
    def _swap(self) -> list[Mark]:
        return [Mark(-1, self.record.swap)] if self.record.swap else []

    @property
    def _drawn(self) -> list[Mark]:
        trials = [trial for trial in self.record.trials if trial.report and trial.state is not TrialState.FAILED]
        return [*self.marks(trials), *self._swap]

    def _axis(self, objective: Objective) -> Axis:
        return Axis.of(objective, [mark.report.metrics[objective.metric] for mark in self._drawn])


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
    if is_share and objective.goal is Goal.MAXIMIZE and high >= NINES_FROM and low <= NINES_TICKS[-2]:
        return to_nines, NINES_TICKS
    if is_share or low <= 0 or high <= LOGARITHMIC_FROM * low:
        return float, ()
    digits = (1, 1.5, 2, 3, 4, 5, 7) if high < 10 * low else (1, 2, 5)
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    return to_decades, [digit * 10.0**decade for decade in decades for digit in digits]


def _padded(low: float, high: float) -> Limits:
    margin = MARGIN * (high - low) or 0.05 * abs(high) or 0.05
    return low - margin, high + margin
