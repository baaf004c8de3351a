"""What a sweep has spent, and whether it may begin another trial."""

import sys
import time
from collections.abc import Callable

from sfd_sweep.config import Budget, SearchSpace
from sfd_sweep.search.records import ResourceUsage
from sfd_sweep.search.study import SweepStudy


class BudgetTracker:
    """A stopwatch for this part of a sweep, on top of what the study knows of earlier parts."""

    def __init__(self, space: SearchSpace, study: SweepStudy) -> None:
        self._budget = space.budget
        self._resources = space.resources
        self._study = study
        self._began: float | None = None
        self._held_seconds = 0.0
        self._held_last = 0.0

    def start(self, held_seconds: Callable[[], float]) -> None:
        """From now on slots are at work, or starting.

        Args:
            held_seconds: for how long they have held their GPUs so far, together; it may begin anew from 0.
        """
        self._ask_held_seconds = held_seconds
        self._began = time.monotonic()
        self._study.begin_spending()

    def keep(self) -> None:
        """Write into the study what has been spent so far, so that it is known after a driver that was killed."""
        if self._began is not None:
            hours = (time.monotonic() - self._began) / 3600
            gpus = self._resources.workers_per_slot * self._resources.gpus_per_worker
            self._study.spend(ResourceUsage(hours, self._held_hours() * gpus if gpus else 0.0))

    def _held_hours(self) -> float:
        now = self._ask_held_seconds()
        self._held_seconds += now - self._held_last if now >= self._held_last else now
        self._held_last = now
        return self._held_seconds / 3600

    def used_up(self) -> str | None:
        """The limit of the budget that is reached, in words; None if another trial may begin."""
        self.keep()
        return used_up(self._budget, self._study)

    def still_to_end(self) -> int:
        """The most trials that can still end."""
        if used_up(self._budget, self._study):
            return len(self._study.running())
        return sys.maxsize if self._budget.trials is None else self._budget.trials - self._study.ended()


def used_up(budget: Budget, study: SweepStudy) -> str | None:
    """The limit of the budget that a sweep has reached, in words; None if another trial may begin."""
    spent = study.spent()
    trials = study.ended() + len(study.running())
    return budget.used_up(trials=trials, hours=spent.hours, gpu_hours=spent.gpu_hours)
