"""Events of a running sweep for an observer, which shows them. The recorder receives the same events of trials."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sfd_sweep.config import SearchSpace, Settings
from sfd_sweep.trial.report import Report, TrialState


@dataclass(frozen=True)
class SweepStart:
    """What is about to run.

    Attributes:
        folder: path of the sweep's folder, or its URI.
        slots: trials at a time; 0 if nothing is left to train or evaluate.
        ended: trials that ended in an earlier part of the sweep.
        weights: the most disk space that they can take, in words.
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
    """The result of a sweep.

    Attributes:
        name: of the sweep.
        folder: path of its folder, or its URI.
        counts: trials by state, those of earlier parts of the sweep included.
        front: numbers of the trials on the front.
        hypervolume: of the front.
        wall_seconds: of this part of the sweep.
        slot_seconds: of all slots together in this part, by activity: `starting`, `training`, `evaluating`, `saving`,
            `waiting`, and `final evaluation`.
    """

    name: str
    folder: str
    counts: dict[TrialState, int]
    front: tuple[int, ...]
    hypervolume: float
    wall_seconds: float
    slot_seconds: dict[str, float]


class SweepObserver:
    """Shows a running sweep; subclasses override what they need. All calls come from the thread that runs it.

    A resumed sweep replays the events of its trials before the first phase.
    """

    def sweep_started(self, plan: SweepStart) -> None:
        """Handle the start: everything is checked, and the slots are about to start."""

    def note(self, text: str) -> None:
        """Handle a remark that stays in view."""

    def phase(self, text: str) -> None:
        """Handle a new activity of the sweep, in words."""

    def trial_started(self, number: int, settings: Settings, searched: dict[str, Any]) -> None:
        """Handle a trial that starts or resumes."""

    def trial_reported(self, number: int, report: Report) -> None:
        """Handle an evaluation."""

    def trial_finished(self, number: int, state: TrialState, reason: str | None) -> None:
        """Handle a trial that has ended."""

    def front_changed(self, front: Sequence[int], hypervolume: float) -> None:
        """Handle the front after another trial has ended."""

    def final_reported(self, number: int, report: Report) -> None:
        """Handle the final evaluation of a trial on the front."""

    def swap_reported(self, report: Report) -> None:
        """Handle the evaluation of the null baseline."""

    def sweep_finished(self, outcome: Outcome) -> None:
        """Handle the end: all trials have ended, and everything is recorded."""
