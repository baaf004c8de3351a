"""Multi-objective successive halving as plain data in, decision out: no Ray, no files."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sfd_sweep.config import MultiObjectiveAshaScheduler, SearchSpace
from sfd_sweep.search.objectives import as_good_within_error, ranking


@dataclass(frozen=True)
class RungDecision:
    """What becomes of a trial at a rung.

    Attributes:
        goes_on: whether it is trained further.
        reason: why, in words that follow a colon.
    """

    goes_on: bool
    reason: str


class MultiObjectiveHalving:
    """Asynchronous successive halving under several objectives (Schmucker et al., arXiv 2106.12639).

    A trial that reaches a rung is ranked at once (see `objectives.ranking`) among all that have reached it so far,
    itself included, and goes on if it belongs to the best `1 / reduction_factor` of them, rounded up; or if, as far as
    the stated errors can tell, it is as good as one that does (see `objectives.as_good_within_error`). So figures that
    differ by no more than the errors never stop a trial, on whatever rung.
    """

    def __init__(self, space: SearchSpace, scheduler: MultiObjectiveAshaScheduler) -> None:
        self._share = 1 / scheduler.reduction_factor
        self._objectives = space.objectives
        self._constraints = space.constraints
        self._rungs: dict[int, dict[str, Mapping[str, float]]] = {
            step: {} for step in scheduler.rungs(space.trial.milestones())
        }

    def judge(self, trial: str, step: int, metrics: Mapping[str, float]) -> RungDecision | None:
        """What becomes of a trial that was evaluated; None between rungs, and at a rung that it has reached before.

        A trial with a figure that is missing or not finite does not go on, and others are not ranked with it.
        """
        reached = self._rungs.get(step)
        if reached is None or trial in reached:
            return None
        if not self._is_comparable(metrics):
            return RungDecision(False, f"figures of step {step} are missing or not finite")
        reached[trial] = metrics
        return self._rank(metrics, list(reached.values()), step)

    def _is_comparable(self, metrics: Mapping[str, float]) -> bool:
        names = [part.metric for part in self._objectives] + [part.metric for part in self._constraints]
        return all(math.isfinite(metrics.get(name, math.nan)) for name in names)

    def _rank(self, metrics: Mapping[str, float], reached: list[Mapping[str, float]], step: int) -> RungDecision:
        """The verdict on the last of those that have reached a rung."""
        order = ranking(reached, self._objectives, self._constraints)
        best = order[: math.ceil(len(reached) * self._share)]
        goes_on = any(
            as_good_within_error(metrics, reached[index], self._objectives, self._constraints) for index in best
        )
        place = order.index(len(reached) - 1) + 1
        return RungDecision(
            goes_on, f"rank {place} of {len(reached)} at the rung of step {step}, where {len(best)} go on"
        )
