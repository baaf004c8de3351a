"""Who is told of a running sweep: the recorder, who writes it down for good, and an observer, who shows it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sfd_sweep.config import SearchSpace, Settings
from sfd_sweep.search.records import ResourceUsage, SweepState
from sfd_sweep.trial.report import Report, TrialState


@dataclass(frozen=True)
class SweepStart:
    """What is about to be run.

    Attributes:
        folder: path of the sweep's folder, or its URI.
        slots: trials at a time; 0 if there is nothing left to train or judge.
        ended: trials that have ended already, in an earlier part of the sweep.
        weights: most that they can take in the folder, in words.
        earlier: what was taken over from earlier sweeps, in words.
    """

    space: SearchSpace
    folder: str
    slots: int
    ended: int
    weights: str
    earlier: Sequence[str] = ()


@dataclass(frozen=True)
class Outcome:
    """What has become of a sweep.

    Attributes:
        name: of the sweep.
        folder: path of its folder, or its URI.
        counts: trials by state, those of earlier parts of the sweep included.
        front: numbers of the trials on the front.
        hypervolume: of the front.
        wall_seconds: from the call to its end, of this part of the sweep.
        slot_seconds: of all slots together in this part, by what they did: `starting`, `training`, `evaluating`,
            `saving`, `waiting`, and `judging` the front at the end.
    """

    name: str
    folder: str
    counts: dict[TrialState, int]
    front: tuple[int, ...]
    hypervolume: float
    wall_seconds: float
    slot_seconds: dict[str, float]


class SweepObserver:
    """Shows a running sweep: a subclass overrides what it wants to hear of. All calls come from the thread that runs
    the sweep."""

    def sweep_started(self, plan: SweepStart) -> None:
        """All is checked; the slots are about to be started."""

    def note(self, text: str) -> None:
        """Something worth knowing before the sweep starts."""

    def phase(self, text: str) -> None:
        """What the sweep does from now on, in words."""

    def trial_started(self, number: int, settings: Settings, searched: dict[str, Any]) -> None:
        """A trial has begun, or goes on."""

    def trial_reported(self, number: int, report: Report, waiting_seconds: float) -> None:
        """A trial has been evaluated; earlier reports of a resumed sweep come again."""

    def trial_finished(self, number: int, state: TrialState, reason: str | None) -> None:
        """A trial has ended."""

    def front_changed(self, front: Sequence[int], hypervolume: float) -> None:
        """The front after another trial has ended."""

    def judged(self, number: int, report: Report) -> None:
        """A trial of the front has been evaluated on the final number of samples."""

    def sweep_finished(self, outcome: Outcome) -> None:
        """All trials have ended, and everything is written down."""


class SweepRecorder(Protocol):
    """Writes a sweep down. Telling it something twice changes nothing."""

    def trial_started(self, number: int, settings: Settings, searched: dict[str, Any]) -> None:
        """A trial has begun, or goes on."""

    def trial_reported(self, number: int, report: Report, waiting_seconds: float) -> None:
        """A trial has been evaluated; what it has left of that is in its folder."""

    def trial_finished(self, number: int, state: TrialState, reason: str | None) -> None:
        """A trial has ended."""

    def front_changed(self, front: Sequence[int], hypervolume: float, finished: int, spent: ResourceUsage) -> None:
        """The front after so many trials have ended and so much was spent."""

    def judged(self, number: int, report: Report) -> None:
        """A trial of the front has been evaluated on the final number of samples."""

    def close(self, state: SweepState, reason: str | None = None) -> None:
        """The sweep has ended in this state; trials that have not are stopped."""
