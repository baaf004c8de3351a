"""One trial of a sweep: the same class in the study, in MLflow's record and in every table."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sfd_sweep.config import Settings
from sfd_sweep.trial.report import Report, TrialState


@dataclass(frozen=True)
class AuditFigure:
    """What an audit of a trial has found.

    Attributes:
        level: of the audit.
        value: the worst excess over a generator that never knew, or the worst rate without such a control.
        low: lower limit of its 95 % interval.
        high: upper limit.
        is_excess: whether it is an excess.
        attack: the worst one.
        broken: whether the generator no longer shows a retained condition, so that the figure means nothing.
    """

    level: str
    value: float
    low: float
    high: float
    is_excess: bool
    attack: str
    broken: bool


@dataclass(frozen=True)
class TrialRun:
    """What only MLflow holds of a trial.

    Attributes:
        run_id: MLflow run.
        ended: None while it runs.
        slot_hours: hours that slots have worked on it.
        score: combined score at the last evaluation; lower is better.
        model_uri: MLflow model of its generator, if one was logged.
        audit: the last full audit, or else the last quick one; None if there was none.
    """

    run_id: str
    ended: datetime | None
    slot_hours: float
    score: float | None
    model_uri: str | None
    audit: AuditFigure | None = None


@dataclass(frozen=True)
class Trial:
    """A trial as it is known at one moment.

    Attributes:
        number: in the sweep, from 0.
        state: running, or how it has ended.
        settings: all of them, fixed or searched.
        searched: values of the searched parameters that were drawn, by name.
        reports: of its evaluations by step; of a trial that was read from MLflow, only the last.
        final: the report of the final evaluation at more samples; None if there was none.
        reason: why it failed, or was pruned or stopped.
        recorded: what only MLflow holds; None unless the trial was read from there.
    """

    number: int
    state: TrialState
    settings: Settings
    searched: dict[str, Any]
    reports: tuple[Report, ...] = ()
    final: Report | None = None
    reason: str | None = None
    recorded: TrialRun | None = None

    @property
    def report(self) -> Report | None:
        """The last report; None before the first."""
        return self.reports[-1] if self.reports else None

    @property
    def largest_report(self) -> Report | None:
        """The report on the most samples: the final one, or else the last."""
        return self.final or self.report

    @property
    def metrics(self) -> Mapping[str, float]:
        """The metrics of the last report; empty before the first."""
        return self.report.metrics if self.report else {}

    @property
    def run(self) -> TrialRun:
        """What only MLflow holds of a trial that was read from there."""
        assert self.recorded is not None
        return self.recorded
