"""What commands print: tables of sweeps and trials."""

from __future__ import annotations

import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sfd_sweep.config import SearchSpace
from sfd_sweep.metrics import METRICS

if TYPE_CHECKING:
    from sfd_sweep.execution.doctor import Finding
    from sfd_sweep.execution.events import Outcome
    from sfd_sweep.search.records import SweepRecord, SweepSummary, TrialRecord
    from sfd_sweep.tracking.results import Selection
    from sfd_sweep.trial.report import Report

STATE_STYLES = {
    **{"complete": "green", "running": "cyan", "failed": "red"},
    **{"pruned": "yellow", "stopped": "yellow", "abandoned": "yellow"},
}
VERDICT_STYLES = {"ok": "green", "warning": "yellow", "fault": "red"}
HEADER_WIDTH = 12
NOT_DRAWN = "-"  # a searched parameter whose condition does not hold in this trial
FILE_WIDTH = 200  # of what is written into a file or a pipe, where no line need be cut

console = Console(
    highlight=False, markup=False, emoji=False, soft_wrap=False, width=None if sys.stdout.isatty() else FILE_WIDTH
)


def watched_metrics(space: SearchSpace) -> list[str]:
    """The metrics that a sweep is about: those of its objectives, then those of its constraints."""
    axes = [objective.metric for objective in space.objectives]
    return list(dict.fromkeys(axes + [constraint.metric for constraint in space.constraints]))


def figure(value: object) -> str:
    """A setting or a figure, in four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def clock(seconds: float) -> str:
    """`1:05`, or `2:01:05`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def portion(done: int, whole: int | None) -> str:
    """`3/16`, or `3` where it is not known of how many."""
    return str(done) if whole is None else f"{done}/{whole}"


def styled(state: str) -> Text:
    """A state in its colour."""
    return Text(state, STATE_STYLES.get(state, ""))


def in_words(samples: Mapping[str, int]) -> str:
    """`2,007 retained and 1,000 forgotten samples`."""
    return " and ".join(f"{count:,} {name}" for name, count in samples.items()) + " samples"


def new_table(columns: Sequence[str], words: Iterable[str] = ()) -> Table:
    """An empty table. Columns of words are set to the left, the others, of numbers, to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    left = set(words)
    for name in columns:
        table.add_column(_folded(name), justify="left" if name in left else "right", vertical="bottom", no_wrap=True)
    return table


def pairs(values: Iterable[tuple[str, object]]) -> Table:
    """Names and values below one another."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in values:
        table.add_row(name, figure(value))
    return table


def print_sweeps(sweeps: Sequence[SweepSummary]) -> None:
    """One line a sweep."""
    if not sweeps:
        console.print("No sweep is recorded here yet: `sfd-sweep run FILE` runs one.")
        return
    columns = ("name", "state", "trials", "front", "hypervolume", "slot time", "started")
    table = new_table(columns, words=("name", "state", "started"))
    for sweep in sweeps:
        table.add_row(
            sweep.name,
            styled(sweep.state),
            portion(sweep.finished, sweep.planned),
            str(sweep.front_size),
            "" if sweep.hypervolume is None else figure(sweep.hypervolume),
            clock(sweep.slot_hours * 3600),
            f"{sweep.started.astimezone():%Y-%m-%d %H:%M}",
        )
    console.print(table)


def print_sweep(record: SweepRecord) -> None:
    """A sweep's settings and state, its front and all its trials."""
    summary, space = record.summary, record.space
    states = Counter(trial.state for trial in record.trials)
    counts = ", ".join(f"{count} {state}" for state, count in states.items()) or "none yet"
    fixed = space.parameters.model_dump(include=set(space.parameters.fixed()), exclude_defaults=True)
    values = [
        ("sweep", f"{summary.name}: {summary.state}{f', {summary.reason}' if summary.reason else ''}"),
        ("task", f"{space.task.teacher} forgets {', '.join(map(str, space.task.forget))}, from {space.task.start}"),
        ("trials", f"{counts}; budget {space.budget}, {space.trial.steps} steps a trial, {space.search.sampler}"),
        *((f"searched: {name}", drawn.in_words()) for name, drawn in space.parameters.searched().items()),
        *((f"fixed: {name}", value) for name, value in fixed.items()),
        *((part.metric, f"{part.goal}, reference {part.reference_point:g}") for part in space.objectives),
        *((f"constraint: {part.metric}", bounds(part.min, part.max)) for part in space.constraints),
        ("front", f"{_trials(len(record.front))}, hypervolume {figure(record.hypervolume())}"),
        ("slot time", clock(summary.slot_hours * 3600)),
        ("storage", summary.storage),
    ]
    console.print(pairs(values))
    if record.trials:
        console.print()
        console.print(_figures_table(record))
        console.print()
        console.print(_settings_table(record, record.trials))


def print_front(record: SweepRecord, choice: Selection | None = None) -> None:
    """The front, and what was chosen from it."""
    if not record.front:
        console.print("The front is empty: no trial that is complete keeps the constraints.")
    else:
        samples = record.front_figures[record.front[0].number].samples
        console.print(_front_table(record))
        console.print(f"\nHypervolume {figure(record.hypervolume())}; figures on {in_words(samples)}.\n")
        console.print(_settings_table(record, record.front))
    if choice:
        console.print(f"\n{choice.why}")


def print_trial(choice: Selection) -> None:
    """Everything that is known of one trial."""
    trial = choice.trial
    console.print(f"{choice.why}\n")
    settings = trial.settings.model_dump(mode="json").items()
    console.print(
        pairs((name, f"{figure(value)}{'  (searched)' * (name in trial.searched)}") for name, value in settings)
    )
    for title, report in (("last evaluation", trial.report), ("final evaluation", trial.final)):
        if report:
            console.print(f"\n{title}, at step {report.step}, on {in_words(report.samples)}:")
            console.print(pairs(_counted(report.metrics, report.samples)))
    places = [("reason", trial.reason), ("slot time", clock(trial.slot_hours * 3600)), ("model", trial.model_uri)]
    console.print()
    console.print(pairs((name, value) for name, value in [*places, ("MLflow run", trial.run_id)] if value))


def print_figures(metrics: Mapping[str, float], samples: Mapping[str, int]) -> None:
    """The figures of one generator."""
    console.print(f"On {in_words(samples)}:")
    console.print(pairs(_counted(metrics, samples)))


def print_outcome(outcome: Outcome, record: SweepRecord) -> None:
    """How a sweep has ended: where its time went, its front, and what to type next."""
    counts = ", ".join(f"{count} {state}" for state, count in outcome.counts.items())
    console.print(f"{outcome.name}: {counts} in {clock(outcome.wall_seconds)}")
    whole = sum(outcome.slot_seconds.values())
    if whole:
        spent = sorted(outcome.slot_seconds.items(), key=lambda item: -item[1])
        shares = ", ".join(f"{what} {seconds / whole:.1%}" for what, seconds in spent if seconds)
        console.print(f"where the slots' time ({clock(whole)}) went: {shares}")
    console.print()
    print_front(record)
    console.print("\nNext:")
    console.print(f"  sfd-sweep pareto {outcome.name}")
    if outcome.front:
        console.print(f"  sfd-sweep export {outcome.name} --knee --out {outcome.name}-knee")
    console.print("  sfd-sweep ui")


def print_findings(findings: Sequence[Finding]) -> None:
    """What the doctor has found, a line a finding."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("check", "where", "", "what"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        table.add_row(
            finding.check, finding.place, Text(finding.verdict, VERDICT_STYLES[finding.verdict]), finding.text
        )
    console.print(table)


def bounds(least: float | None, most: float | None) -> str:
    """What a constraint asks for."""
    sides = ((f"at least {figure(least)}", least), (f"at most {figure(most)}", most))
    return " and ".join(text for text, side in sides if side is not None)


def _figures_table(record: SweepRecord) -> Table:
    """Every trial with the figures that the search went by."""
    metrics = watched_metrics(record.space)
    table = new_table(("trial", "state", "step", *metrics, "score", "front"), words=("state", "front"))
    for trial in record.trials:
        table.add_row(
            str(trial.number),
            styled(trial.state),
            str(trial.report.step) if trial.report else "",
            *_metrics(trial.report, metrics),
            "" if trial.score is None else figure(trial.score),
            _standing(record, trial),
        )
    return table


def _front_table(record: SweepRecord) -> Table:
    """The front with the figures that its members are told apart by."""
    metrics = watched_metrics(record.space)
    table = new_table(("trial", *metrics, "score", "front"), words=("front",))
    for trial in record.front:
        figures = _metrics(record.front_figures[trial.number], metrics)
        table.add_row(str(trial.number), *figures, figure(record.front_score(trial)), _standing(record, trial))
    return table


def _settings_table(record: SweepRecord, trials: Sequence[TrialRecord]) -> Table:
    searched = list(record.space.parameters.searched())
    table = new_table(("trial", *searched))
    for trial in trials:
        table.add_row(str(trial.number), *(figure(trial.searched.get(name, NOT_DRAWN)) for name in searched))
    return table


def _metrics(report: Report | None, names: Sequence[str]) -> list[str]:
    return [figure(report.metrics[name]) if report else "" for name in names]


def _counted(metrics: Mapping[str, float], samples: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Figures by name; one that rests on fewer samples than there are says on how many."""
    for name, value in metrics.items():
        most = METRICS[name].most_samples
        fewer = most is not None and most < samples["retained"]
        yield name, f"{figure(value)}  (on {most:,})" if fewer else figure(value)


def _standing(record: SweepRecord, trial: TrialRecord) -> str:
    """What a trial is on the front, if it is on it."""
    if trial not in record.front:
        return ""
    named = {"knee": record.knee(), "best score": record.best(record.front)}
    return ", ".join(name for name, member in named.items() if member == trial) or "yes"


def _trials(count: int) -> str:
    return f"{count} trial{'s' * (count != 1)}"


def _folded(name: str) -> str:
    """The name over several lines, broken where it has underscores."""
    lines = textwrap.wrap(name.replace("_", "_ "), HEADER_WIDTH, break_long_words=False)
    return "\n".join(line.replace("_ ", "_") for line in lines)
