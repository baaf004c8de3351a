"""Who goes on: the search-space file's scheduler as one of Tune's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from sfd_sweep.config import AshaScheduler, MultiObjectiveAshaScheduler, NoScheduler, SearchSpace
from sfd_sweep.sweep.halving import MultiObjectiveHalving
from sfd_sweep.sweep.study import StudyTrial
from sfd_sweep.sweep.trainable import standing
from sfd_sweep.trial.report import Report, TrialState


class MultiObjectiveAsha(FIFOScheduler):
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


def _combined_score_asha(space: SearchSpace, chosen: AshaScheduler) -> ASHAScheduler:
    """Tune's own, on the combined score."""
    grace, *_ = *chosen.rungs(space.trial.milestones()), space.trial.steps
    return ASHAScheduler(
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


def recall(scheduler: TrialScheduler, space: SearchSpace, trials: Sequence[StudyTrial]) -> None:
    """Let a new scheduler see the trials that have ended already, so that it knows how good others were.

    A trial that is still running shows its reports itself when it goes on.
    """
    for trial in trials:
        if trial.state is not TrialState.RUNNING and trial.reports:
            past = PastTrial(f"past-{trial.number}")
            standings = [standing(reported.report, space) for reported in trial.reports]
            scheduler.on_trial_add(None, past)
            for result in standings:
                scheduler.on_trial_result(None, past, result)
            scheduler.on_trial_complete(None, past, standings[-1])
