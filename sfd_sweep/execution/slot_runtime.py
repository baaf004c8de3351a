"""The seam between the sweep, which knows Ray, and the trial room, which does not."""

from collections.abc import Callable
from typing import Protocol

from sfd_sweep.config import SearchSpace, Settings
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.report import Report


class RunningTrial(Protocol):
    """A trial in a slot's memory."""

    def advance(self, to: int) -> Report:
        """Train up to a step, evaluate, and save under the trial's folder; at once if that step is reported already.

        Raises:
            TrialFailed: the trial cannot go on, however often it is tried.
        """


class SlotRuntime(Protocol):
    """What a slot loads once and runs its trials with. With several workers each has its own, and all are called
    alike."""

    def start(self, number: int, settings: Settings) -> RunningTrial:
        """A trial, from what its folder holds."""

    def judge(self, number: int, settings: Settings, *, samples: int, forget_samples: int) -> Report:
        """Evaluate a trial's last generator on so many samples."""


RuntimeFactory = Callable[[SearchSpace, Folder], SlotRuntime]
"""Makes a worker's runtime from the search space and the sweep's folder; it must be importable on the worker's node."""


def build_slot_runtime(space: SearchSpace, sweep: Folder) -> SlotRuntime:
    """The trial room itself.

    Raises:
        UserError: the teacher or the judge is broken.
    """
    from sfd_sweep.trial.trial_room import TrialRoom  # brings torch, which the driver need not pay for

    return TrialRoom.build(space, sweep)
