"""A running sweep on the screen: a live table on a terminal, a line an event elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sfd_sweep.cli.tables import console, figure, new_table, print_outcome, styled, watched_metrics
from sfd_sweep.config import SearchSpace, Settings
from sfd_sweep.sweep.observer import Observer, Outcome, SweepPlan
from sfd_sweep.trial.report import Report, TrialState

ROWS = 12


@contextmanager
def display() -> Iterator[Observer]:
    """What shows a sweep here, for as long as it runs."""
    if not console.is_terminal:
        yield Lines()
        return
    table = LiveTable()
    with Live(get_renderable=table.render, console=console, refresh_per_second=2, transient=True):
        yield table
    if table.outcome:
        print_outcome(table.outcome)


class Lines(Observer):
    """A line an event, for logs."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._space: SearchSpace | None = None

    def sweep_started(self, plan: SweepPlan) -> None:
        """Say what is run."""
        self._space = plan.space
        space = plan.space
        self._say(f"{space.name}: {space.search.trials} trials of {space.trial.steps} steps, {plan.slots} at a time")
        if plan.ended:
            self._say(f"{plan.ended} trials have ended earlier")

    def phase(self, text: str) -> None:
        """Say what is done now."""
        self._say(text)

    def trial_started(self, number: int, settings: Settings, searched: dict[str, Any]) -> None:  # noqa: ARG002
        """Say with which values."""
        self._say(f"trial {number} starts: {_pairs(searched)}")

    def trial_reported(self, number: int, report: Report, waiting_seconds: float) -> None:  # noqa: ARG002
        """Say how good it is."""
        self._say(f"trial {number} at step {report.step}: {self._metrics(report)}")

    def trial_finished(self, number: int, state: TrialState, reason: str | None) -> None:
        """Say how it ended."""
        self._say(f"trial {number} is {state}{f': {reason}' if reason else ''}")

    def front_changed(self, front: Sequence[int], hypervolume: float) -> None:
        """Say who is on it."""
        members = ", ".join(map(str, front)) or "nobody"
        self._say(f"on the front: {members}; hypervolume {figure(hypervolume)}")

    def judged(self, number: int, report: Report) -> None:
        """Say the final figures."""
        self._say(f"trial {number} on {report.samples['retained']:,} retained samples: {self._metrics(report)}")

    def sweep_finished(self, outcome: Outcome) -> None:
        """Say the end."""
        print_outcome(outcome)

    def _metrics(self, report: Report) -> str:
        names = watched_metrics(self._space) if self._space else list(report.metrics)
        return _pairs({name: report.metrics[name] for name in names})

    def _say(self, text: str) -> None:
        print(f"{time.monotonic() - self._started:7.1f} s  {text}", flush=True)


@dataclass
class _Row:
    number: int
    state: TrialState = TrialState.RUNNING
    report: Report | None = None
    reason: str | None = None


@dataclass
class LiveTable(Observer):
    """The running and the last trials, and how far the sweep is."""

    started: float = field(default_factory=time.monotonic)
    space: SearchSpace | None = None
    ended_before: int = 0
    doing: str = "starting"
    rows: dict[int, _Row] = field(default_factory=dict)
    front: Sequence[int] = ()
    hypervolume: float = 0.0
    first_trial: float | None = None
    outcome: Outcome | None = None

    def sweep_started(self, plan: SweepPlan) -> None:
        """Take down what is run."""
        self.space = plan.space
        self.ended_before = plan.ended

    def phase(self, text: str) -> None:
        """Take down what is done now."""
        self.doing = text

    def trial_started(self, number: int, settings: Settings, searched: dict[str, Any]) -> None:  # noqa: ARG002
        """Add a row."""
        self.first_trial = self.first_trial or time.monotonic()
        self.doing = "training"
        self.rows.setdefault(number, _Row(number))

    def trial_reported(self, number: int, report: Report, waiting_seconds: float) -> None:  # noqa: ARG002
        """Fill it."""
        self.rows.setdefault(number, _Row(number)).report = report

    def trial_finished(self, number: int, state: TrialState, reason: str | None) -> None:
        """Close it."""
        row = self.rows.setdefault(number, _Row(number))
        row.state, row.reason = state, reason

    def front_changed(self, front: Sequence[int], hypervolume: float) -> None:
        """Take down the front."""
        self.front, self.hypervolume = front, hypervolume

    def sweep_finished(self, outcome: Outcome) -> None:
        """Keep the outcome for the end."""
        self.outcome = outcome

    def render(self) -> Group:
        """The screen as it is now."""
        if self.space is None:
            return Group(Text(f"{self.doing} …"))
        return Group(self._table(self.space), Text(self._status(self.space)))

    def _table(self, space: SearchSpace) -> Table:
        metrics = watched_metrics(space)
        table = new_table("trial", "", "step", *metrics, "state", numeric=("trial", "step", *metrics))
        for row in sorted(self.rows.values(), key=lambda row: row.number)[-ROWS:]:
            figures = [figure(row.report.metrics[name]) if row.report else "" for name in metrics]
            step = f"{row.report.step if row.report else 0}/{space.trial.steps}"
            mark = "·" if row.number in self.front else ""
            state = styled(row.state) + (f": {row.reason}" if row.reason else "")
            table.add_row(str(row.number), mark, step, *figures, state)
        return table

    def _status(self, space: SearchSpace) -> str:
        ended = sum(row.state is not TrialState.RUNNING for row in self.rows.values())
        parts = [
            f"{ended}/{space.search.trials} trials",
            f"{len(self.front)} on the front",
            f"hypervolume {figure(self.hypervolume)}",
            f"{_clock(time.monotonic() - self.started)} passed",
            self._left(space, ended),
            self.doing,
        ]
        return "  ·  ".join(part for part in parts if part)

    def _left(self, space: SearchSpace, ended: int) -> str:
        """The time that the remaining trials take at the pace of those that have ended here."""
        here = ended - self.ended_before
        if here <= 0 or self.first_trial is None:
            return ""
        pace = (time.monotonic() - self.first_trial) / here
        return f"about {_clock(pace * (space.search.trials - ended))} left"


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {figure(value)}" for name, value in values.items())


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
