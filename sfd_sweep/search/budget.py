"""Resource usage of a sweep against its budget."""

import sys
import time
from collections.abc import Callable

from sfd_sweep.config import Budget, SearchSpace
from sfd_sweep.search.records import ResourceUsage
from sfd_sweep.search.study import SweepStudy


class BudgetTracker:
    """Measures what this part of a sweep uses, and adds it to what the study holds of earlier parts."""

    def __init__(self, space: SearchSpace, study: SweepStudy) -> None:
        self._budget = space.budget
        self._resources = space.resources
        self._study = study
        self._began: float | None = None
        self._held_seconds = 0.0
        self._held_last = 0.0

    def start(self, held_seconds: Callable[[], float]) -> None:
        """Begin to measure: slots are starting.

        Args:
            held_seconds: returns for how long the slots have held their GPUs so far, in all; it may restart from 0.
        """
        self._ask_held_seconds = held_seconds
        self._began = time.monotonic()
        self._study.begin_part()

    def record(self) -> None:
        """Write the usage so far into the study, so that it survives a killed driver."""
        if self._began is not None:
            hours = (time.monotonic() - self._began) / 3600
            gpus = self._resources.workers_per_slot * self._resources.gpus_per_worker
            self._study.record_usage(ResourceUsage(hours, self._held_hours() * gpus if gpus else 0.0))

    def _held_hours(self) -> float:
        now = self._ask_held_seconds()
        self._held_seconds += now - self._held_last if now >= self._held_last else now
        self._held_last = now
        return self._held_seconds / 3600

    def used_up(self) -> str | None:
        """Return the limit of the budget that is reached, in words; None if another trial may begin."""
        self.record()
        return used_up(self._budget, self._study)

    def still_to_end(self) -> int:
        """Return the most trials that can still end."""
        if used_up(self._budget, self._study):
            return len(self._study.running())
        return sys.maxsize if self._budget.trials is None else self._budget.trials - self._study.ended()


def used_up(budget: Budget, study: SweepStudy) -> str | None:
    """Return the limit of the budget that a sweep has reached, in words; None if another trial may begin."""
    usage = study.usage()
    trials = study.ended() + len(study.running())
    return budget.used_up(trials=trials, hours=usage.hours, gpu_hours=usage.gpu_hours)
