"""The front of a study's trials."""

from collections.abc import Sequence
from dataclasses import dataclass

from sfd_sweep.config import SearchSpace
from sfd_sweep.search import objectives
from sfd_sweep.search.study import StudyTrial
from sfd_sweep.trial.report import TrialState


@dataclass(frozen=True)
class Front:
    """The complete, feasible trials that no other such trial dominates, by number, and their hypervolume."""

    numbers: tuple[int, ...]
    hypervolume: float


def front_of(space: SearchSpace, trials: Sequence[StudyTrial]) -> Front:
    """The front on the figures of the search, which all trials have at the same numbers of samples."""
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    figures = [trial.reports[-1].report.metrics for trial in complete]
    members = objectives.front(figures, space.objectives, space.constraints)
    goals = [objective.goal for objective in space.objectives]
    values = [[figures[index][objective.metric] for objective in space.objectives] for index in members]
    (reference,) = objectives.to_losses([[objective.reference_point for objective in space.objectives]], goals)
    return Front(
        numbers=tuple(complete[index].number for index in members),
        hypervolume=objectives.hypervolume(objectives.to_losses(values, goals), reference),
    )
