"""What slots are asked and what they answer. Plain data: it travels between processes, and imports no torch.

A command says everything that is needed to carry it out, and carrying it out twice is the same as once: a worker group
or a Tune actor that was started again simply gets or gives it again.
"""

from dataclasses import dataclass

from sfd_sweep.config import Settings
from sfd_sweep.trial.report import Report


@dataclass(frozen=True)
class Advance:
    """Train a trial up to a step, evaluate and save it."""

    number: int
    settings: Settings
    to: int


@dataclass(frozen=True)
class FinalEvaluation:
    """Evaluate the generator that a trial saved last, on other numbers of samples than its own reports."""

    number: int
    settings: Settings
    samples: int
    forget_samples: int


Command = Advance | FinalEvaluation


@dataclass(frozen=True)
class Order:
    """A command on its way to a slot. Tickets grow, so that an answer to an earlier order is known as such."""

    ticket: int
    command: Command


@dataclass(frozen=True)
class Close:
    """There is nothing more for the slot to do, ever."""


@dataclass(frozen=True)
class Done:
    """The command was carried out.

    Attributes:
        waiting_seconds: how long the slot had nothing to do before the command came.
    """

    report: Report
    waiting_seconds: float


@dataclass(frozen=True)
class Failed:
    """The command cannot be carried out, and the trial is over."""

    reason: str


Answer = Done | Failed
