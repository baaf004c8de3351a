"""What a picture of the front shows, whatever draws it: groups of trials, places, and the front's border."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from sfd_sweep.config import Objective
from sfd_sweep.search.records import SweepRecord, TrialRecord
from sfd_sweep.tracking.axes import Axis
from sfd_sweep.trial.report import TrialState

INK, MUTED, RULE = "#1f2933", "#6b7280", "#e5e7eb"
FRONT_COLOR = "#c8553d"
Place = tuple[float, float]


@dataclass(frozen=True)
class Group:
    """Trials that are drawn alike.

    Attributes:
        label: in the legend.
        color: of the mark.
        symbol: plotly's name of the mark; `plots` has matplotlib's.
        size: of the mark, in points.
        trials: the group's members.
    """

    label: str
    color: str
    symbol: str
    size: float
    trials: list[TrialRecord]


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
        """A view for each pair of the first objective with another; a single objective goes over the trials."""
        first, *others = record.space.objectives
        return [cls(record, first, other) for other in others] or [cls(record, None, first)]

    @cached_property
    def groups(self) -> list[Group]:
        """The trials with figures, from the front to the least important group; empty groups are left out."""
        record = self.record
        front = {trial.number for trial in record.front}
        others = [trial for trial in record.complete if trial.number not in front]
        feasible = [trial for trial in others if record.is_feasible(trial)]
        infeasible = [trial for trial in others if not record.is_feasible(trial)]
        early = record.in_state(TrialState.PRUNED, TrialState.STOPPED)
        found = [
            Group("front", FRONT_COLOR, "circle", 9, record.front),
            Group("dominated", "#3d6b99", "circle", 6, feasible),
            Group("infeasible", "#8d6b94", "x-thin-open", 6, infeasible),
            Group("pruned or stopped", "#9ca3af", "circle-open", 5, early),
            Group("running", "#8ab17d", "circle-open", 5, record.in_state(TrialState.RUNNING)),
        ]
        return [group for group in found if group.trials]

    @cached_property
    def x(self) -> Axis:
        """The horizontal axis."""
        return self._axis(self.across) if self.across else Axis.of_numbers(len(self.record.trials))

    @cached_property
    def y(self) -> Axis:
        """The vertical axis."""
        return self._axis(self.up)

    def place(self, trial: TrialRecord) -> Place:
        """Where a trial is, in the coordinates of the axes."""
        across = trial.metrics[self.across.metric] if self.across else trial.number
        return self.x.place(across), self.y.place(trial.metrics[self.up.metric])

    @cached_property
    def border(self) -> list[Place]:
        """Corners of the border of what the front dominates, out to the reference point: each holds its y until the
        next x. Only the front of two objectives has one."""
        if not self.across or len(self.record.space.objectives) > 2 or not self.record.front:
            return []
        members = [self.place(trial) for trial in self.record.front]
        first = (members[0][0], self.y.place(self.up.reference_point))
        last = (self.x.place(self.across.reference_point), members[-1][1])
        return [first, *members, last]

    @property
    def subtitle(self) -> str:
        """How many trials there are, what has become of them, and how many samples the figures rest on."""
        trials = self.record.trials
        states = Counter(trial.state for trial in trials)
        counts = ", ".join(f"{states[state]} {state}" for state in TrialState if states[state])
        reports = [trial.report for trial in trials if trial.report]
        if not reports:
            return "no trial has been evaluated yet"
        samples = " and ".join(f"{count:,} {name}" for name, count in reports[0].samples.items())
        unseen = f", {self._outside} outside the picture" if self._outside else ""
        return f"{len(trials)} trials: {counts}{unseen}  ·  figures on {samples} samples"

    @property
    def _outside(self) -> int:
        """How many trials with figures are beyond the axes: worse than the reference, or not finite."""
        places = [self.place(trial) for group in self.groups for trial in group.trials]
        return sum(not (self.x.holds(x) and self.y.holds(y)) for x, y in places)

    def _axis(self, objective: Objective) -> Axis:
        return Axis.of(objective, [trial.metrics[objective.metric] for group in self.groups for trial in group.trials])
