"""A sweep as it was recorded: plain data, and what follows from it without another look at the store.

Imports no MLflow.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfd_sweep.config import SearchSpace, Settings
from sfd_sweep.search import objectives
from sfd_sweep.trial.report import Report, TrialState


class SweepState(StrEnum):
    """What has become of a sweep. An abandoned one is recorded as running, but its driver has died."""

    RUNNING = "running"
    ABANDONED = "abandoned"
    COMPLETE = "complete"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True)
class ResourceUsage:
    """What a sweep has taken of the cluster, all its parts together.

    Attributes:
        hours: with slots at work: starting, training, judging or waiting.
        gpu_hours: the same times the GPUs that the slots held.
    """

    hours: float
    gpu_hours: float


@dataclass(frozen=True)
class SweepSummary:
    """One line about a sweep.

    Attributes:
        name: the sweep's name.
        state: what has become of it; as it is recorded, `running` too if its driver was killed.
        reason: why it failed or was stopped.
        started: when it was first opened.
        ended: when it was last closed; None while it runs.
        planned: most trials that the budget allows; None if it limits time alone.
        finished: trials that have ended in whatever way.
        front_size: trials on the front.
        hypervolume: of the front; None before the first trial has ended.
        slot_hours: hours that slots have spent on trials.
        storage: URI of the folder with checkpoints and study.
        experiment_id: MLflow experiment.
        run_id: MLflow run.
    """

    name: str
    state: SweepState
    reason: str | None
    started: datetime
    ended: datetime | None
    planned: int | None
    finished: int
    front_size: int
    hypervolume: float | None
    slot_hours: float
    storage: str
    experiment_id: str
    run_id: str


@dataclass(frozen=True)
class TrialRecord:
    """One trial as it was recorded.

    Attributes:
        number: of the trial in the study.
        state: what has become of it.
        reason: why it failed, or was pruned or stopped.
        settings: all of them, fixed or searched.
        searched: values of the parameters that the sweep searches, by name; without those whose condition did not hold.
        report: the last evaluation; None before the first.
        final: the evaluation at more samples at the end of the sweep; None if there was none.
        score: the combined score at the last evaluation; lower is better.
        pareto: whether it was on the front when last tagged.
        slot_hours: hours that slots have spent on it.
        started: when it was first handed to a slot.
        ended: None while it runs.
        model_uri: MLflow model of its generator, if one was logged.
        run_id: MLflow run.
    """

    number: int
    state: TrialState
    reason: str | None
    settings: Settings
    searched: dict[str, Any]
    report: Report | None
    final: Report | None
    score: float | None
    pareto: bool
    slot_hours: float
    started: datetime
    ended: datetime | None
    model_uri: str | None
    run_id: str

    @property
    def metrics(self) -> Mapping[str, float]:
        """The figures of the last evaluation; empty before the first."""
        return self.report.metrics if self.report else {}


@dataclass(frozen=True)
class SweepRecord:
    """A sweep with its trials, in the order of their numbers."""

    summary: SweepSummary
    space: SearchSpace
    trials: tuple[TrialRecord, ...]

    def in_state(self, *states: TrialState) -> list[TrialRecord]:
        """The trials in one of the states that have been evaluated at least once."""
        return [trial for trial in self.trials if trial.state in states and trial.report]

    @cached_property
    def complete(self) -> list[TrialRecord]:
        """The trials that were trained to the end, in the order of their numbers."""
        return self.in_state(TrialState.COMPLETE)

    @cached_property
    def front(self) -> list[TrialRecord]:
        """The complete, feasible, finite trials that no other such trial dominates, best first objective first.

        It is drawn on the figures of the search, which all trials have at the same number of samples.
        """
        members = self.front_of(self.complete)
        return sorted(members, key=lambda trial: (*self.losses([trial.metrics])[0], trial.number))

    def front_of(self, trials: Sequence[TrialRecord]) -> list[TrialRecord]:
        """The front that complete trials would make by themselves, in their order."""
        space = self.space
        chosen = objectives.front([trial.metrics for trial in trials], space.objectives, space.constraints)
        return [trials[index] for index in chosen]

    def is_feasible(self, trial: TrialRecord) -> bool:
        """Whether the trial keeps every constraint at its last evaluation."""
        return objectives.violation(trial.metrics, self.space.constraints) == 0

    @cached_property
    def front_figures(self) -> dict[int, Report]:
        """The reports by which members of the front are told apart, by number of the trial.

        The final ones if every member was judged once more, else the search's: figures at different numbers of
        samples are not compared.
        """
        finals = {trial.number: trial.final for trial in self.front if trial.final}
        searched = {trial.number: trial.report for trial in self.front if trial.report}
        return finals if len(finals) == len(self.front) else searched

    def knee(self) -> TrialRecord:
        """The front's member where giving way in one objective stops paying in the others; the front has members."""
        return self.front[objectives.knee(self.losses([self.front_figures[t.number].metrics for t in self.front]))]

    def best(self, members: Sequence[TrialRecord]) -> TrialRecord:
        """Of some members of the front, at least one, the one with the least combined score."""
        return min(members, key=self.front_score)

    def front_score(self, member: TrialRecord) -> float:
        """The combined score of a member of the front."""
        figures = self.front_figures[member.number].metrics
        return objectives.combined_score(figures, self.space.objectives, self.space.constraints)

    def hypervolume(self, trials: Sequence[TrialRecord] | None = None) -> float:
        """Of the front that the complete trials, or some of them, make against the declared reference point."""
        members = self.front if trials is None else self.front_of(trials)
        goals = [objective.goal for objective in self.space.objectives]
        reference = objectives.to_losses([objective.reference_point for objective in self.space.objectives], goals)[0]
        return objectives.hypervolume(self.losses([trial.metrics for trial in members]), reference)

    def losses(self, figures: Sequence[Mapping[str, float]]) -> NDArray[np.float64]:
        """The objectives of n evaluations as losses, shape (n, m): lower is better in every column."""
        declared = self.space.objectives
        values = [[metrics[objective.metric] for objective in declared] for metrics in figures]
        return objectives.to_losses(values, [objective.goal for objective in declared])
