"""Who goes on: the search-space file's scheduler as one of Tune's."""

from collections.abc import Sequence
from dataclasses import dataclass

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from sfd_sweep.config import AshaScheduler, SearchSpace
from sfd_sweep.sweep.study import StudyTrial
from sfd_sweep.sweep.trainable import standing
from sfd_sweep.trial.report import TrialState


def make_scheduler(space: SearchSpace) -> TrialScheduler:
    """A scheduler that decides on the combined score (`score`, lower is better) by training step (`step`)."""
    chosen = space.search.scheduler
    if not isinstance(chosen, AshaScheduler):
        return FIFOScheduler()
    milestones = space.trial.milestones()
    grace = milestones[min(chosen.grace_evaluations, len(milestones)) - 1]
    return ASHAScheduler(
        time_attr="step",
        metric="score",
        mode="min",
        max_t=space.trial.steps,
        grace_period=grace,
        reduction_factor=chosen.reduction_factor,
    )


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
