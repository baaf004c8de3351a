"""Multi-objective successive halving: metrics in, decision out, without Ray or files."""

import math
from collections.abc import Mapping

from sfd_sweep.config import MultiObjectiveAshaScheduler, SearchSpace
from sfd_sweep.search.pareto import ranking
from sfd_sweep.search.scores import as_good_within_error


class MultiObjectiveHalving:
    """Asynchronous successive halving under several objectives (Schmucker et al., arXiv 2106.12639).

    A trial that reaches a rung is ranked at once (`pareto.ranking`) among all that have reached it so far, itself
    included. It continues if it is among the best `1 / reduction_factor` of them, rounded up, or as good as one of
    these within the stated errors (`scores.as_good_within_error`). So differences within the errors never stop a trial.
    A violated constraint counts only if the file says so (`Constraint.at_rungs`): most are satisfied later.
    """

    def __init__(self, space: SearchSpace, scheduler: MultiObjectiveAshaScheduler) -> None:
        self._share = 1 / scheduler.reduction_factor
        self._objectives = space.objectives
        self._constraints = [part for part in space.constraints if part.at_rungs]
        self._names = [part.metric for part in space.objectives] + [part.metric for part in space.constraints]
        self._rungs: dict[int, dict[str, Mapping[str, float]]] = {
            step: {} for step in scheduler.rungs(space.trial.milestones())
        }

    def decide(self, trial: str, step: int, metrics: Mapping[str, float]) -> str | None:
        """Return why a trial that was evaluated stops; None if it continues.

        It continues between rungs, and at a rung that it has reached before. A trial with a metric that is missing or
        not finite stops, and others are not ranked with it.
        """
        reached = self._rungs.get(step)
        if reached is None or trial in reached:
            return None
        if not all(math.isfinite(metrics.get(name, math.nan)) for name in self._names):
            return f"metrics of step {step} are missing or not finite"
        reached[trial] = metrics
        return self._rank_last(list(reached.values()), step)

    def _rank_last(self, reached: list[Mapping[str, float]], step: int) -> str | None:
        """Return why the last of those that have reached a rung stops; None if it continues."""
        order = ranking(reached, self._objectives, self._constraints)
        best = order[: math.ceil(len(reached) * self._share)]
        if any(
            as_good_within_error(reached[-1], reached[index], self._objectives, self._constraints) for index in best
        ):
            return None
        place = order.index(len(reached) - 1) + 1
        return f"rank {place} of {len(reached)} at the rung of step {step}, where {len(best)} go on"
