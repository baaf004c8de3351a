"""Resource usage of a sweep against its budget."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

from sfd_sweep.config import Budget, SearchSpace
from sfd_sweep.search.records import ResourceUsage
from sfd_sweep.search.study import SweepStudy


@dataclass(frozen=True)
class HeldSeconds:
    """Seconds for which slots have held their CPUs and GPUs.

    Attributes:
        any: in which at least one slot did.
        total: of all slots together.
    """

    any: float = 0.0
    total: float = 0.0

    def __add__(self, other: "HeldSeconds") -> "HeldSeconds":
        return HeldSeconds(self.any + other.any, self.total + other.total)


class BudgetTracker:
    """Measures what this part of a sweep uses, and adds it to what the study holds of earlier parts."""

    def __init__(self, space: SearchSpace, study: SweepStudy) -> None:
        self._budget = space.budget
        self._resources = space.resources
        self._study = study
        self._ask: Callable[[], HeldSeconds] | None = None
        self._earlier = HeldSeconds()
        self._last = HeldSeconds()

    def start(self, held_seconds: Callable[[], HeldSeconds]) -> None:
        """Begin to measure: slots are starting.

        Args:
            held_seconds: returns what the slots have held so far; it may restart from 0.
        """
        self._ask = held_seconds
        self._study.begin_part()

    def record(self) -> None:
        """Write the usage so far into the study, so that it survives a killed driver."""
        if self._ask is None:
            return
        now = self._ask()
        if now.total < self._last.total:  # counted anew
            self._earlier += self._last
        self._last = now
        held = self._earlier + now
        gpus = self._resources.workers_per_slot * self._resources.gpus_per_worker
        self._study.record_usage(ResourceUsage(held.any / 3600, held.total / 3600 * gpus))

    def used_up(self) -> str | None:
        """Return the limit of the budget that is reached, in words; None if another trial may begin."""
        self.record()
        return used_up(self._budget, self._study)

    def still_to_end(self) -> int:
        """Return the most trials that can still end."""
        waiting = len(self._study.queued())
        if used_up(self._budget, self._study):
            return len(self._study.running()) + waiting
        return sys.maxsize if self._budget.trials is None else trials_left(self._budget.trials, self._study) + waiting


def trials_left(trials: int, study: SweepStudy) -> int:
    """Return how many trials are still to end within a budget of a number of them."""
    return trials + study.beyond_budget() - study.ended()


def used_up(budget: Budget, study: SweepStudy) -> str | None:
    """Return the limit of the budget that a sweep has reached, in words; None if another trial may begin."""
    usage = study.usage()
    trials = study.ended() + len(study.running()) - study.beyond_budget()
    return budget.used_up(trials=trials, hours=usage.hours, gpu_hours=usage.gpu_hours)
