"""A running sweep on the screen: a live table on a terminal, and one line for each event elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sfd_sweep.cli.tables import clock, console, figure, portion, state_text, table, watched_metrics
from sfd_sweep.config import SearchSpace, Settings
from sfd_sweep.execution.events import SweepObserver, SweepStart
from sfd_sweep.metrics import samples_in_words
from sfd_sweep.search.pareto import front_of
from sfd_sweep.search.scores import combined_score
from sfd_sweep.trial.report import Report, TrialState

if TYPE_CHECKING:
    from sfd_sweep.execution.steering import SteeredSweep
    from sfd_sweep.search.trial import Trial

MAX_ROWS = 16
LINES_BESIDE_ROWS = 7


@contextmanager
def watching() -> Iterator[View]:
    """Display a sweep while the block runs it."""
    if not console.is_terminal:
        yield Lines()
        return
    live = LiveTable()
    with Live(get_renderable=live.render, console=console, refresh_per_second=4):
        yield live


class View(SweepObserver):
    """Display of a sweep.

    A resumed sweep repeats the events of its earlier parts before its first phase; until then it is `in_retrospect`.
    """

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.in_retrospect = True
        self._plan: SweepStart | None = None

    @property
    def plan(self) -> SweepStart:
        """The plan of the sweep, once it has started."""
        if self._plan is None:
            raise RuntimeError("the sweep has not started yet")
        return self._plan

    @property
    def space(self) -> SearchSpace:
        """The search space of the sweep, once it has started."""
        return self.plan.space

    def sweep_started(self, plan: SweepStart) -> None:
        """Store the plan."""
        self._plan = plan

    def note(self, text: str) -> None:
        """Print the note."""
        console.print(text)

    def phase(self, text: str) -> None:  # noqa: ARG002
        """End the repetition of earlier events."""
        self.in_retrospect = False


class Lines(View):
    """One line for each event, for logs."""

    def sweep_started(self, plan: SweepStart) -> None:
        """Print the plan."""
        super().sweep_started(plan)
        budget, steps = plan.space.budget, plan.space.trial.steps
        self._print(f"{plan.space.name}: {budget}, {steps} steps a trial, {plan.slots} at a time, in {plan.folder}")
        for line in ([plan.weights] if plan.slots else []) + list(plan.earlier):
            self._print(line)
        if plan.ended:
            self._print(f"{plan.ended} trials have ended earlier")

    def phase(self, text: str) -> None:
        """Print the phase."""
        super().phase(text)
        self._print(text)

    def trial_started(self, number: int, settings: Settings, searched: dict[str, Any]) -> None:  # noqa: ARG002
        """Print the searched values."""
        self._print_event(f"trial {number} starts: {_listed(searched)}")

    def trial_reported(self, number: int, report: Report) -> None:
        """Print the metrics."""
        self._print_event(f"trial {number} at step {report.step}: {self._metrics(report)}")

    def trial_finished(self, number: int, state: TrialState, reason: str | None) -> None:
        """Print the state."""
        self._print_event(f"trial {number} is {state}{f': {reason}' if reason else ''}")

    def front_changed(self, front: Sequence[int], hypervolume: float) -> None:
        """Print the front."""
        members = ", ".join(map(str, front)) or "empty"
        self._print_event(f"front: {members}; hypervolume {figure(hypervolume)}")

    def final_reported(self, number: int, report: Report) -> None:
        """Print the metrics of the final evaluation."""
        self._print_event(f"trial {number} on {samples_in_words(report.samples)}: {self._metrics(report)}")

    def swap_reported(self, report: Report) -> None:
        """Print the metrics of the null baseline."""
        counts = samples_in_words(report.samples)
        self._print_event(f"swap, which forgets nothing, on {counts}: {self._metrics(report)}")

    def _metrics(self, report: Report) -> str:
        return _listed({name: report.metrics[name] for name in watched_metrics(self.space)})

    def _print_event(self, text: str) -> None:
        if not self.in_retrospect:
            self._print(text)

    def _print(self, text: str) -> None:
        print(f"{time.monotonic() - self.began:8.1f} s  {text}", flush=True)


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {figure(value)}" for name, value in values.items())


@dataclass
class Row:
    """A trial in the live table."""

    state: TrialState = TrialState.RUNNING
    report: Report | None = None
    reason: str | None = None


class LiveTable(View):
    """A table of running and recent trials, and the progress of the sweep."""

    def __init__(self) -> None:
        super().__init__()
        self._phase = "starting"
        self._rows: dict[int, Row] = {}
        self._front: Sequence[int] = ()
        self._first_trial_began: float | None = None

    def phase(self, text: str) -> None:
        """Show the phase."""
        super().phase(text)
        self._phase = text

    def trial_started(self, number: int, settings: Settings, searched: dict[str, Any]) -> None:  # noqa: ARG002
        """Add a row."""
        self._rows.setdefault(number, Row())
        if not self.in_retrospect:
            self._phase = "training"
            self._first_trial_began = self._first_trial_began or time.monotonic()

    def trial_reported(self, number: int, report: Report) -> None:
        """Show the metrics."""
        self._rows[number].report = report

    def trial_finished(self, number: int, state: TrialState, reason: str | None) -> None:
        """Show the state."""
        row = self._rows.setdefault(number, Row())  # a trial that stops with the sweep may not have started
        row.state, row.reason = state, reason

    def front_changed(self, front: Sequence[int], hypervolume: float) -> None:  # noqa: ARG002
        """Show the front."""
        self._front = front

    def render(self) -> Group:
        """Return the current screen."""
        if self._plan is None:
            return Group(Text(f"{self._phase} · {clock(time.monotonic() - self.began)}"))
        notes = map(Text, (*([self.plan.weights] if self.plan.slots else []), *self.plan.earlier))
        return Group(Text(f"{self.space.name}: {self._phase}"), *notes, self._table(), Text(self._status()))

    def _table(self) -> Table:
        metrics = watched_metrics(self.space)
        rows = [self._cells(trial, row, metrics) for trial, row in sorted(self._shown().items())]
        return table(("trial", "step", *metrics, "front", "state"), rows, text=("front", "state"))

    def _cells(self, trial: int, row: Row, metrics: Sequence[str]) -> list[str | Text]:
        state = state_text(row.state).append(f": {row.reason}" if row.reason else "", style="default")
        step = f"{row.report.step if row.report else 0}/{self.space.trial.steps}"
        values = [figure(row.report.metrics[name]) if row.report else "" for name in metrics]
        return [str(trial), step, *values, "yes" if trial in self._front else "", state]

    def _shown(self) -> Mapping[int, Row]:
        """Return the trials that fit on the screen: running ones first, then the latest."""
        room = max(1, min(MAX_ROWS, console.height - LINES_BESIDE_ROWS - len(self.plan.earlier)))
        by_urgency = sorted(self._rows, key=lambda trial: (self._rows[trial].state is TrialState.RUNNING, trial))
        return {trial: self._rows[trial] for trial in by_urgency[-room:]}

    def _status(self) -> str:
        ended = sum(row.state is not TrialState.RUNNING for row in self._rows.values())
        parts = [
            f"{portion(ended, self.space.budget.trials)} trials",
            self._best_score(),
            f"{len(self._front)} on the front",
            self._elapsed(),
            self._time_left(ended),
        ]
        return " · ".join(filter(None, parts))

    def _best_score(self) -> str:
        scores = [
            combined_score(row.report.metrics, self.space.objectives, self.space.constraints)
            for row in self._rows.values()
            if row.state is TrialState.COMPLETE and row.report
        ]
        return f"best score {figure(min(scores))}" if scores else ""

    def _elapsed(self) -> str:
        return f"{clock(time.monotonic() - self.began)} elapsed"

    def _time_left(self, ended: int) -> str:
        """Return the time of the remaining trials at the pace of this part of the sweep."""
        ended_here, left = ended - self.plan.ended, (self.space.budget.trials or 0) - ended
        if self._first_trial_began is None or ended_here <= 0 or left <= 0:
            return ""
        return f"about {clock((time.monotonic() - self._first_trial_began) / ended_here * left)} left"


class Snapshot(LiveTable):
    """The table of a sweep that another process runs, as its study is now."""

    def __init__(self, sweep: SteeredSweep) -> None:
        super().__init__()
        self._sweep = sweep
        trials = sweep.trials
        ended = sum(trial.state is not TrialState.RUNNING for trial in trials)
        self.sweep_started(SweepStart(sweep.space, str(sweep.folder), 0, ended, ""))
        for trial in trials:
            self.trial_started(trial.number, trial.settings, trial.searched)
            self._rows[trial.number] = Row(trial.state, trial.report, trial.reason)
        self._trials = trials
        front = front_of(sweep.space, trials)
        self.front_changed(front.numbers, front.hypervolume)
        stopped = (
            f"not running; `sfd-sweep resume {sweep.space.name}` continues" if sweep.has_more else "all trials ended"
        )
        self.phase("running" if sweep.runs else stopped)

    def data(self) -> dict[str, object]:
        """Return what the table shows as plain data."""
        return {
            "name": self.space.name,
            "running": self._sweep.runs,
            "trials": self._trials,
            "front": self._front,
            "hours": self._sweep.hours,
            "seconds_left": self._seconds_left(),
        }

    def _elapsed(self) -> str:
        return f"{clock(self._sweep.hours * 3600)} in all"

    def _time_left(self, ended: int) -> str:  # noqa: ARG002
        left = self._seconds_left()
        return "" if left is None else f"about {clock(left)} left"

    def _seconds_left(self) -> float | None:
        """Return the time of the remaining trials by what the ended ones have cost, on as many slots as are busy."""
        running = [trial for trial in self._trials if trial.state is TrialState.RUNNING]
        costs = [_busy_seconds(trial) for trial in self._trials if trial.state is not TrialState.RUNNING]
        if not costs or not running:
            return None
        each = sum(costs) / len(costs)
        begun = sum(min(each, _busy_seconds(trial)) for trial in running)
        left = each * max(len(running), (self.space.budget.trials or 0) - len(costs)) - begun
        return left / len(running)


def _busy_seconds(trial: Trial) -> float:
    return sum(report.busy_seconds for report in trial.reports)
