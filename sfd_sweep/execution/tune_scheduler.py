"""Who goes on: the search-space file's scheduler as one of Tune's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from sfd_sweep.config import AshaScheduler, MultiObjectiveAshaScheduler, NoScheduler, SearchSpace
from sfd_sweep.execution.trainable import standing
from sfd_sweep.search.halving import MultiObjectiveHalving
from sfd_sweep.search.study import StudyTrial
from sfd_sweep.trial.report import Report, TrialState


class _GoesOn(TrialScheduler):
    """What a trial has reported in an earlier part of the sweep is entered where it belongs, and not decided on again:
    it has been let through, whoever has come since."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.earlier: dict[int, list[dict[str, Any]]] = {}
        """Results of trials that are still to go on, by number."""

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """A trial is there; it may have been there in an earlier part of the sweep."""
        super().on_trial_add(tune_controller, trial)
        for result in self.earlier.pop(trial.config.get("number"), []):
            self.on_trial_result(tune_controller, trial, result)


class _CombinedScoreAsha(_GoesOn, ASHAScheduler):
    """Tune's own, on the combined score."""


class MultiObjectiveAsha(_GoesOn, FIFOScheduler):
    """Tune's side of multi-objective successive halving, which decides on a trial's `report`."""

    def __init__(self, halving: MultiObjectiveHalving) -> None:
        super().__init__()
        self._halving = halving
        self.reasons: dict[str, str] = {}
        """Why trials were stopped, by Tune's ids."""

    def on_trial_result(self, _tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Whether the trial goes on."""
        report = Report.from_json(result["report"])
        verdict = self._halving.judge(trial.trial_id, report.step, report.metrics)
        if verdict is None or verdict.goes_on:
            return str(TrialScheduler.CONTINUE)
        self.reasons[trial.trial_id] = verdict.reason
        return str(TrialScheduler.STOP)


def make_scheduler(space: SearchSpace) -> TrialScheduler:
    """A scheduler that decides on what `standing` tells of a report."""
    match space.search.scheduler:
        case AshaScheduler() as chosen:
            return _combined_score_asha(space, chosen)
        case MultiObjectiveAshaScheduler() as chosen:
            return MultiObjectiveAsha(MultiObjectiveHalving(space, chosen))
        case NoScheduler():
            return FIFOScheduler()


def _combined_score_asha(space: SearchSpace, chosen: AshaScheduler) -> _CombinedScoreAsha:
    grace, *_ = *chosen.rungs(space.trial.milestones()), space.trial.steps
    return _CombinedScoreAsha(
        time_attr="step",
        metric="score",
        mode="min",
        max_t=space.trial.steps,
        grace_period=grace,
        reduction_factor=chosen.reduction_factor,
    )


def why_stopped(scheduler: TrialScheduler, trial_id: str) -> str | None:
    """Why the scheduler stopped a trial, as far as it tells.

    Args:
        trial_id: Tune's.
    """
    return scheduler.reasons.get(trial_id) if isinstance(scheduler, MultiObjectiveAsha) else None


@dataclass(frozen=True)
class PastTrial:
    """A trial of an earlier part of the sweep, as far as a scheduler looks at it."""

    trial_id: str
    config: Mapping[str, Any] = field(default_factory=dict)


def recall(scheduler: TrialScheduler, space: SearchSpace, trials: Sequence[StudyTrial]) -> None:
    """Let a new scheduler see what trials have reported already, so that it knows how good others were."""
    for trial in trials:
        standings = [standing(reported.report, space) for reported in trial.reports]
        if trial.state is TrialState.RUNNING:
            if isinstance(scheduler, _GoesOn):
                scheduler.earlier[trial.number] = standings
        elif standings:
            past = PastTrial(f"past-{trial.number}")
            scheduler.on_trial_add(None, past)
            for result in standings:
                scheduler.on_trial_result(None, past, result)
            scheduler.on_trial_complete(None, past, standings[-1])
