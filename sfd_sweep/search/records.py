"""A recorded sweep as plain data, and its front, scores and hypervolume. Imports no MLflow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from math import dist

import numpy as np
from numpy.typing import NDArray

from sfd_sweep.config import SearchSpace
from sfd_sweep.metrics import METRICS
from sfd_sweep.search import pareto
from sfd_sweep.search.scores import (
    as_good_within_error,
    combined_score,
    counts_as_forgotten,
    normalized_loss,
    violation,
)
from sfd_sweep.search.trial import Trial
from sfd_sweep.search.uncertainty import (
    Interval,
    front_uncertainty,
    knee_probability,
    most_probable_knee,
    stated_errors,
)
from sfd_sweep.trial.report import Report, TrialState


class SweepState(StrEnum):
    """The state of a sweep. An abandoned sweep is recorded as running, but its driver has died."""

    RUNNING = "running"
    ABANDONED = "abandoned"
    COMPLETE = "complete"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True)
class ResourceUsage:
    """Resource usage of a sweep, summed over all its runs.

    Attributes:
        hours: wall-clock hours in which at least one slot has held its workers.
        gpu_hours: GPU-hours for which slots have held their workers.
    """

    hours: float
    gpu_hours: float


@dataclass(frozen=True)
class SweepSummary:
    """The summary of a sweep.

    Attributes:
        state: the recorded one, which stays `running` if the driver was killed (see `tracking.reader`).
        reason: why the sweep failed or was stopped.
        planned: the budget's limit of trials; None if it limits only time.
        finished: number of trials that have ended, in any state.
        hypervolume: of the front; None before the first trial has ended.
        slot_hours: hours that slots have worked on trials.
        storage: URI of the folder with checkpoints and study.
    """

    name: str
    state: SweepState
    reason: str | None
    started: datetime
    planned: int | None
    finished: int
    front_size: int
    hypervolume: float | None
    slot_hours: float
    storage: str
    run_id: str


@dataclass(frozen=True)
class SweepRecord:
    """A sweep with its trials, in the order of their numbers.

    Attributes:
        swap: report of the null baseline, the start with the override's embedding in place of what is forgotten; None
            before it is evaluated, or where the start is no one-step generator.
        changes: keys of the file that have changed since the sweep began, in words, each with its time.
    """

    summary: SweepSummary
    space: SearchSpace
    trials: tuple[Trial, ...]
    swap: Report | None = None
    changes: tuple[str, ...] = ()

    def in_state(self, *states: TrialState) -> list[Trial]:
        """Return the evaluated trials in one of the states."""
        return [trial for trial in self.trials if trial.state in states and trial.report]

    @cached_property
    def complete(self) -> list[Trial]:
        """The complete trials, in the order of their numbers."""
        return self.in_state(TrialState.COMPLETE)

    @cached_property
    def front(self) -> list[Trial]:
        """The non-dominated among the complete, feasible, finite trials, ordered by the first objective.

        The last reports decide, which all rest on the same numbers of samples; once all trials on their front have
        final reports, these decide who of them stays (see `pareto.front_of`).
        """
        numbers = pareto.front_of(self.space, self.complete).numbers
        members = [trial for trial in self.complete if trial.number in numbers]
        return sorted(members, key=lambda trial: (*self.losses([self.figures(trial).metrics])[0], trial.number))

    @cached_property
    def searched_front(self) -> list[Trial]:
        """The front by the last reports, in the order of the trials' numbers."""
        return pareto.searched_front(self.space, self.complete)

    @property
    def is_judged(self) -> bool:
        """Whether final figures have decided who is on the front."""
        return bool(self.searched_front) and all(trial.final for trial in self.searched_front)

    def figures(self, trial: Trial) -> Report:
        """Return the report that an evaluated trial is compared by: the final one if it was judged, or else the last.

        The members of the front are all compared by reports of the same kind.
        """
        return self._figures.get(trial.number, trial.reports[-1])

    @cached_property
    def _figures(self) -> dict[int, Report]:
        reports = pareto.judged(self.searched_front)
        return {trial.number: report for trial, report in zip(self.searched_front, reports, strict=True)}

    def is_feasible(self, trial: Trial) -> bool:
        """Return whether the figures of an evaluated trial satisfy every constraint."""
        return violation(self.figures(trial).metrics, self.space.constraints) == 0

    def counts_as_forgotten(self, trial: Trial) -> bool:
        """Return whether an evaluated trial is within the file's `selection`, by its figures on the most samples."""
        report = trial.largest_report
        assert report is not None
        return counts_as_forgotten(report.metrics, self.space.selection)

    def candidates(self, members: Sequence[Trial]) -> list[Trial]:
        """Return the members of the front that count as forgotten; all of them if none does."""
        return [trial for trial in members if self.counts_as_forgotten(trial)] or list(members)

    def nearest_forgotten(self, trial: Trial) -> Trial | None:
        """Return the member of the front that counts as forgotten and is nearest to a trial; None if none counts.

        Distances are Euclidean between the normalized losses of the last reports.
        """
        here, members = self._place(trial), filter(self.counts_as_forgotten, self.front)
        return min(members, key=lambda member: dist(here, self._place(member)), default=None)

    def knee(self) -> Trial:
        """Return the knee of the non-empty front, among its `candidates`; with errors the one that is it most often.

        See `pareto.knee` and `uncertainty.most_probable_knee`.
        """
        members = self.candidates(self.front)
        losses = self.losses([self.figures(trial).metrics for trial in members])
        return members[most_probable_knee(losses, np.array([self.knee_probability[trial.number] for trial in members]))]

    @cached_property
    def knee_probability(self) -> dict[int, float]:
        """The share of draws in which each of the front's `candidates` is the knee, by trial number.

        Where these are compared by final figures, their errors are those of more samples (see `errors_of`).
        """
        members = self.candidates(self.front) if self.front else []
        if not members:
            return {}
        reports = [self.figures(trial) for trial in members]
        errors = self.errors_of(members[0])
        figures = [report.metrics for report in reports]
        shares = knee_probability(figures, self.space.objectives, self.space.constraints, errors)
        return {trial.number: float(share) for trial, share in zip(members, shares, strict=True)}

    @property
    def has_errors(self) -> bool:
        """Whether the file states the error of an objective or a constraint."""
        return any(self.errors.values())

    @cached_property
    def errors(self) -> dict[str, float]:
        """The stated error of each metric of the objectives and constraints."""
        return stated_errors(self.space.objectives, self.space.constraints)

    @property
    def front_probability(self) -> dict[int, float]:
        """The share of draws in which each complete trial is on the front, by trial number (see `uncertainty`).

        Once final figures decide, these are drawn anew, and it is 0 for trials that have none.
        """
        return self._uncertainty[0]

    @property
    def hypervolume_interval(self) -> Interval:
        """Median and range of the hypervolume within the stated errors (see `uncertainty`)."""
        return self._uncertainty[1]

    @cached_property
    def _uncertainty(self) -> tuple[dict[int, float], Interval]:
        drawn = self.searched_front if self.is_judged else self.complete
        reports = [self.figures(trial) for trial in drawn]
        errors = self.errors_of(drawn[0]) if drawn else self.errors
        figures = [report.metrics for report in reports]
        found = front_uncertainty(figures, self.space.objectives, self.space.constraints, errors)
        shares = {trial.number: float(share) for trial, share in zip(drawn, found.probability, strict=True)}
        return {trial.number: shares.get(trial.number, 0.0) for trial in self.complete}, found.hypervolume

    def as_good_as(self, member: Trial) -> list[int]:
        """Return the other members, by number, whose objectives differ from a member's by at most the errors."""
        own = self.figures(member).metrics
        objectives = [
            part.model_copy(update={"error": self.errors_of(member)[part.metric]}) for part in self.space.objectives
        ]
        others = [(trial.number, self.figures(trial).metrics) for trial in self.front if trial != member]
        return [
            number
            for number, figures in others
            if as_good_within_error(own, figures, objectives) and as_good_within_error(figures, own, objectives)
        ]

    def errors_of(self, trial: Trial) -> dict[str, float]:
        """Return the errors of an evaluated trial's figures, as a standard error falls with the root of their count.

        The file states the errors of a last report.
        """
        counted, figures = trial.reports[-1].samples, self.figures(trial)
        if figures.samples == counted:
            return self.errors
        return {
            name: error * (METRICS[name].count(counted) / METRICS[name].count(figures.samples)) ** 0.5
            for name, error in self.errors.items()
        }

    def best(self, members: Sequence[Trial]) -> Trial:
        """Return the candidate with the lowest combined score among some members of the front."""
        return min(self.candidates(members), key=self.front_score)

    def front_score(self, member: Trial) -> float:
        """Return the combined score of a member of the front."""
        figures = self.figures(member).metrics
        return combined_score(figures, self.space.objectives, self.space.constraints)

    def hypervolume(self) -> float:
        """Return the hypervolume of the front."""
        return pareto.hypervolume_of([self.figures(trial).metrics for trial in self.front], self.space.objectives)

    def hypervolumes(self) -> dict[int, float]:
        """Return the hypervolume of the front by last reports after each complete trial, by number, as they ended.

        A trial that another dominates by then changes nothing, so that only members of fronts cost anything.
        """
        objectives, constraints = self.space.objectives, self.space.constraints
        front: list[Mapping[str, float]] = []
        volumes: dict[int, float] = {}
        volume = 0.0
        ended = [(trial.run.ended, trial.number, trial.metrics) for trial in self.complete if trial.run.ended]
        for _, number, metrics in sorted(ended, key=lambda each: each[:2]):
            members = pareto.front([*front, metrics], objectives, constraints)
            if len(front) in members:
                front = [[*front, metrics][index] for index in members]
                volume = pareto.hypervolume_of(front, objectives)
            volumes[number] = volume
        return volumes

    def _place(self, trial: Trial) -> list[float]:
        return [normalized_loss(trial.metrics[part.metric], part) for part in self.space.objectives]

    def losses(self, figures: Sequence[Mapping[str, float]]) -> NDArray[np.float64]:
        """Return the objectives of n evaluations as losses, shape (n, m): lower is better in every column."""
        return pareto.to_losses(figures, self.space.objectives)
