"""Commands to slots and their results. They are plain data that travels between processes; nothing here imports torch.

A command holds everything needed to execute it, and executing it twice has the same effect as once: a restarted worker
group receives it again, and a restarted Tune actor sends it again.
"""

from dataclasses import dataclass

from sfd_sweep.config import Settings
from sfd_sweep.trial.report import Report


@dataclass(frozen=True)
class Advance:
    """Train a trial up to a step, evaluate it and save it."""

    number: int
    settings: Settings
    to: int


@dataclass(frozen=True)
class FinalEvaluation:
    """Evaluate a trial's last generator on other numbers of samples than its own reports."""

    number: int
    settings: Settings
    samples: int
    forget_samples: int


@dataclass(frozen=True)
class SwapEvaluation:
    """Evaluate the null baseline, which belongs to no trial, on the numbers of samples of a trial's reports."""

    samples: int
    forget_samples: int
    number: int = -1


Command = Advance | FinalEvaluation | SwapEvaluation


@dataclass(frozen=True)
class Assignment:
    """A command for a slot. Tickets grow, so that a result of an earlier assignment is recognized."""

    ticket: int
    command: Command


@dataclass(frozen=True)
class CloseSlot:
    """The slot receives no more assignments."""


@dataclass(frozen=True)
class Failure:
    """The command cannot be executed, and the trial has failed."""

    reason: str


Result = Report | Failure
