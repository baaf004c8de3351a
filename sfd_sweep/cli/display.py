"""A running sweep on the screen: a live table on a terminal, a line an event elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sfd_sweep.cli.tables import clock, console, figure, in_words, new_table, portion, styled, watched_metrics
from sfd_sweep.config import SearchSpace, Settings
from sfd_sweep.execution.events import SweepObserver, SweepStart
from sfd_sweep.search import objectives
from sfd_sweep.trial.report import Report, TrialState

MOST_ROWS = 16
LINES_BESIDE_ROWS = 7


@contextmanager
def watching() -> Iterator[View]:
    """What shows a sweep here, for as long as it runs."""
    if not console.is_terminal:
        yield Lines()
        return
    table = LiveTable()
    with Live(get_renderable=table.render, console=console, refresh_per_second=4):
        yield table


class View(SweepObserver):
    """What a sweep that is shown has said about itself.

    Before its first phase a resumed sweep tells once more what an earlier part of it has told: it is `in_retrospect`.
    """

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.in_retrospect = True
        self._plan: SweepStart | None = None

    @property
    def plan(self) -> SweepStart:
        """What is run; known once the sweep has started."""
        if self._plan is None:
            raise RuntimeError("the sweep has not started yet")
        return self._plan

    @property
    def space(self) -> SearchSpace:
        """The sweep's search space; known likewise."""
        return self.plan.space

    def sweep_started(self, plan: SweepStart) -> None:
        """Take down what is run."""
        self._plan = plan

    def note(self, text: str) -> None:
        """Say it."""
        console.print(text)

    def phase(self, text: str) -> None:  # noqa: ARG002
        """Take down that the past is told."""
        self.in_retrospect = False


class Lines(View):
    """A line an event, for logs."""

    def sweep_started(self, plan: SweepStart) -> None:
        """Say what is run, and where."""
        super().sweep_started(plan)
        budget, steps = plan.space.budget, plan.space.trial.steps
        self._say(f"{plan.space.name}: {budget}, {steps} steps a trial, {plan.slots} at a time, in {plan.folder}")
        if plan.slots:
            self._say(plan.weights)
        for line in plan.earlier:
            self._say(line)
        if plan.ended:
            self._say(f"{plan.ended} of the trials have ended earlier")

    def phase(self, text: str) -> None:
        """Say what is done now."""
        super().phase(text)
        self._say(text)

    def trial_started(self, number: int, settings: Settings, searched: dict[str, Any]) -> None:  # noqa: ARG002
        """Say with which values."""
        self._event(f"trial {number} starts: {_listed(searched)}")

    def trial_reported(self, number: int, report: Report, waiting_seconds: float) -> None:  # noqa: ARG002
        """Say how good it is."""
        self._event(f"trial {number} at step {report.step}: {self._figures(report)}")

    def trial_finished(self, number: int, state: TrialState, reason: str | None) -> None:
        """Say how it has ended."""
        self._event(f"trial {number} is {state}{f': {reason}' if reason else ''}")

    def front_changed(self, front: Sequence[int], hypervolume: float) -> None:
        """Say who is on it."""
        members = ", ".join(map(str, front)) or "empty"
        self._event(f"front: {members}; hypervolume {figure(hypervolume)}")

    def judged(self, number: int, report: Report) -> None:
        """Say the final figures."""
        self._event(f"trial {number} on {in_words(report.samples)}: {self._figures(report)}")

    def _figures(self, report: Report) -> str:
        return _listed({name: report.metrics[name] for name in watched_metrics(self.space)})

    def _event(self, text: str) -> None:
        if not self.in_retrospect:
            self._say(text)

    def _say(self, text: str) -> None:
        print(f"{time.monotonic() - self.began:8.1f} s  {text}", flush=True)


@dataclass
class Row:
    """A trial as the live table has it."""

    state: TrialState = TrialState.RUNNING
    report: Report | None = None
    reason: str | None = None


class LiveTable(View):
    """The running and the latest trials, and how far the sweep is."""

    def __init__(self) -> None:
        super().__init__()
        self._doing = "starting"
        self._rows: dict[int, Row] = {}
        self._front: Sequence[int] = ()
        self._first_trial_began: float | None = None

    def phase(self, text: str) -> None:
        """Take down what is done now."""
        super().phase(text)
        self._doing = text

    def trial_started(self, number: int, settings: Settings, searched: dict[str, Any]) -> None:  # noqa: ARG002
        """Add a row."""
        self._rows.setdefault(number, Row())
        if not self.in_retrospect:
            self._doing = "training"
            self._first_trial_began = self._first_trial_began or time.monotonic()

    def trial_reported(self, number: int, report: Report, waiting_seconds: float) -> None:  # noqa: ARG002
        """Fill it."""
        self._rows[number].report = report

    def trial_finished(self, number: int, state: TrialState, reason: str | None) -> None:
        """Close it."""
        self._rows[number].state, self._rows[number].reason = state, reason

    def front_changed(self, front: Sequence[int], hypervolume: float) -> None:  # noqa: ARG002
        """Take down the front."""
        self._front = front

    def render(self) -> Group:
        """The screen as it is now."""
        if self._plan is None:
            return Group(Text(f"{self._doing} · {clock(time.monotonic() - self.began)}"))
        notes = map(Text, (*([self.plan.weights] if self.plan.slots else []), *self.plan.earlier))
        return Group(Text(f"{self.space.name}: {self._doing}"), *notes, self._table(), Text(self._status()))

    def _table(self) -> Table:
        metrics, steps = watched_metrics(self.space), self.space.trial.steps
        table = new_table(("trial", "step", *metrics, "front", "state"), words=("front", "state"))
        for trial, row in sorted(self._shown().items()):
            figures = [figure(row.report.metrics[name]) if row.report else "" for name in metrics]
            state = styled(row.state).append(f": {row.reason}" if row.reason else "", style="default")
            step = f"{row.report.step if row.report else 0}/{steps}"
            table.add_row(str(trial), step, *figures, "yes" if trial in self._front else "", state)
        return table

    def _shown(self) -> Mapping[int, Row]:
        """The latest trials that the screen has room for, those that still run before all."""
        room = max(1, min(MOST_ROWS, console.height - LINES_BESIDE_ROWS - len(self.plan.earlier)))
        by_urgency = sorted(self._rows, key=lambda trial: (self._rows[trial].state is TrialState.RUNNING, trial))
        return {trial: self._rows[trial] for trial in by_urgency[-room:]}

    def _status(self) -> str:
        ended = sum(row.state is not TrialState.RUNNING for row in self._rows.values())
        parts = [
            f"{portion(ended, self.space.budget.trials)} trials",
            self._best_score(),
            f"{len(self._front)} on the front",
            f"{clock(time.monotonic() - self.began)} elapsed",
            self._time_left(ended),
        ]
        return " · ".join(filter(None, parts))

    def _best_score(self) -> str:
        scores = [
            objectives.combined_score(row.report.metrics, self.space.objectives, self.space.constraints)
            for row in self._rows.values()
            if row.state is TrialState.COMPLETE and row.report
        ]
        return f"best score {figure(min(scores))}" if scores else ""

    def _time_left(self, ended: int) -> str:
        """What the remaining trials take at the pace of those that have ended in this part of the sweep."""
        ended_here, left = ended - self.plan.ended, (self.space.budget.trials or 0) - ended
        if self._first_trial_began is None or ended_here <= 0 or left <= 0:
            return ""
        return f"about {clock((time.monotonic() - self._first_trial_began) / ended_here * left)} left"


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {figure(value)}" for name, value in values.items())
