"""Tables of sweeps and trials."""

from __future__ import annotations

import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from shlex import quote
from typing import TYPE_CHECKING

from pydantic_core import to_json
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sfd_sweep.config import SearchSpace
from sfd_sweep.metrics import METRICS, samples_in_words
from sfd_sweep.storage.credentials import without_credentials

if TYPE_CHECKING:
    from sfd_sweep.execution.doctor import Finding
    from sfd_sweep.execution.events import Outcome
    from sfd_sweep.search.records import SweepRecord, SweepSummary
    from sfd_sweep.search.trial import AuditFigure, Trial
    from sfd_sweep.tracking.results import Selection
    from sfd_sweep.trial.report import Report

STYLES = {
    **{"complete": "green", "running": "cyan", "failed": "red"},
    **{"pruned": "yellow", "stopped": "yellow", "abandoned": "yellow"},
    **{"ok": "green", "warning": "yellow", "fault": "red"},
}
HEADER_WIDTH = 12
FORGOTTEN = "forgotten"
SWAP = "swap"
NOT_DRAWN = "-"
"""A searched parameter whose condition does not hold."""
AUDIT = "audit"
PROBABILITY = "on front"
"""Share of draws within the stated errors in which a trial is on the front."""
AS_GOOD_AS = "as good as"
"""Members that differ by no more than the stated errors."""
FILE_WIDTH = 200
"""Width of output to a file or a pipe."""

console = Console(
    highlight=False, markup=False, emoji=False, soft_wrap=False, width=None if sys.stdout.isatty() else FILE_WIDTH
)


def table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]], text: Iterable[str] = ()) -> Table:
    """Return a table. Columns named in `text` are aligned to the left, the others to the right."""
    made, left = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0)), set(text)
    for name in columns:
        lines = textwrap.wrap(name.replace("_", "_ "), HEADER_WIDTH, break_long_words=False)
        header = "\n".join(line.replace("_ ", "_") for line in lines)
        made.add_column(header, justify="left" if name in left else "right", vertical="bottom", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    return made


def pairs(values: Iterable[tuple[str, object]]) -> Table:
    """Return a table of names and values."""
    made = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in values:
        made.add_row(name, figure(value))
    return made


def watched_metrics(space: SearchSpace) -> list[str]:
    """Return the metrics of the objectives, then those of constraints and selection."""
    names = [part.metric for part in space.objectives]
    names += [bound.metric for bound in (*space.constraints, *space.selection.bounds)]
    return list(dict.fromkeys(names))


def figure(value: object) -> str:
    """Return a value, with four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def clock(seconds: float) -> str:
    """Return `1:05`, or `2:01:05`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def portion(done: int, total: int | None) -> str:
    """Return `3/16`, or `3` without a total. What users have added beyond the total raises it."""
    return str(done) if total is None else f"{done}/{max(done, total)}"


def state_text(state: str) -> Text:
    """Return a state in its color."""
    return Text(state, STYLES.get(state, ""))


def bounds(least: float | None, most: float | None) -> str:
    """Return the bounds of a constraint in words."""
    sides = ((f"at least {figure(least)}", least), (f"at most {figure(most)}", most))
    return " and ".join(text for text, side in sides if side is not None)


def print_json(value: object) -> None:
    """Print data classes, models, or plain data as JSON; numbers that are not finite are strings, such as "NaN"."""
    print(to_json(value, indent=2, inf_nan_mode="strings").decode())


def sweep_data(record: SweepRecord) -> dict[str, object]:
    """Return what the tables of a sweep show as plain data, its front by numbers of trials."""
    front = record.front
    return {
        "summary": record.summary,
        "changes": record.changes,
        "space": record.space,
        "trials": record.trials,
        "swap": record.swap,
        "front": [trial.number for trial in front],
        "knee": record.knee().number if front else None,
        "best_score": record.best(front).number if front else None,
        "hypervolume": record.hypervolume(),
    }


def print_sweeps(sweeps: Sequence[SweepSummary]) -> None:
    """Print one line for each sweep."""
    if not sweeps:
        console.print("No sweep is recorded yet: `sfd-sweep run FILE` runs one.")
        return
    columns = ("name", "state", "trials", "front", "hypervolume", "slot time", "started")
    rows = [
        (
            sweep.name,
            state_text(sweep.state),
            portion(sweep.finished, sweep.planned),
            str(sweep.front_size),
            "" if sweep.hypervolume is None else figure(sweep.hypervolume),
            clock(sweep.slot_hours * 3600),
            f"{sweep.started.astimezone():%Y-%m-%d %H:%M}",
        )
        for sweep in sweeps
    ]
    console.print(table(columns, rows, text=("name", "state", "started")))


def print_sweep(record: SweepRecord) -> None:
    """Print a sweep's settings and state, and all its trials."""
    summary, space = record.summary, record.space
    states = Counter(trial.state for trial in record.trials)
    counts = ", ".join(f"{count} {state}" for state, count in states.items()) or "none yet"
    fixed = space.parameters.model_dump(include=set(space.parameters.fixed()), exclude_defaults=True)
    size = len(record.front)
    values = [
        ("sweep", f"{summary.name}: {summary.state}{f', {summary.reason}' if summary.reason else ''}"),
        ("task", f"{space.task.teacher} forgets {', '.join(map(str, space.task.forget))}, from {space.task.start}"),
        ("trials", f"{counts}; budget {space.budget}, {space.trial.steps} steps a trial, {space.search.sampler}"),
        *((f"searched: {name}", drawn.in_words()) for name, drawn in space.parameters.searched().items()),
        *((f"fixed: {name}", value) for name, value in fixed.items()),
        *((part.metric, f"{part.goal}, reference point {part.reference_point:g}") for part in space.objectives),
        *((f"constraint: {part.metric}", bounds(part.min, part.max)) for part in space.constraints),
        *(("counts as forgotten", bound.in_words()) for bound in space.selection.bounds),
        ("front", f"{size} trial{'s' * (size != 1)}, hypervolume {_hypervolume(record)}"),
        *(((SWAP, _swap_in_words(record, record.swap)),) if record.swap else ()),
        ("slot time", clock(summary.slot_hours * 3600)),
        *(("changed", text) for text in record.changes),
        ("storage", summary.storage),
    ]
    console.print(pairs(values))
    if record.trials:
        console.print()
        console.print(_trials_table(record))
        console.print()
        console.print(_settings_table(record, record.trials))


def print_front(record: SweepRecord, selection: Selection | None = None) -> None:
    """Print the front, and the selection from it."""
    if not record.front:
        console.print("The front is empty: no complete trial satisfies the constraints.")
    else:
        samples = record.figures(record.front[0]).samples
        console.print(_front_table(record))
        console.print(f"\nHypervolume {_hypervolume(record)}; metrics on {samples_in_words(samples)}.")
        for line in _remarks(record):
            console.print(line)
        console.print()
        console.print(_settings_table(record, record.front))
    if selection:
        console.print(f"\n{selection.why}")


def print_trial(selection: Selection) -> None:
    """Print everything that is recorded of one trial."""
    trial = selection.trial
    console.print(f"{selection.why}\n")
    settings = trial.settings.model_dump(mode="json").items()
    console.print(
        pairs((name, f"{figure(value)}{'  (searched)' * (name in trial.searched)}") for name, value in settings)
    )
    for title, report in (("last evaluation", trial.report), ("final evaluation", trial.final)):
        if report:
            console.print(f"\n{title}, at step {report.step}, on {samples_in_words(report.samples)}:")
            console.print(pairs(_with_counts(report.metrics, report.samples)))
    rest = {
        "reason": trial.reason,
        "audit": trial.run.audit and _audit_in_full(trial.run.audit),
        "slot time": clock(trial.run.slot_hours * 3600),
        "model": trial.run.model_uri,
        "MLflow run": trial.run.run_id,
    }
    console.print()
    console.print(pairs((name, value) for name, value in rest.items() if value))


def print_metrics(metrics: Mapping[str, float], samples: Mapping[str, int]) -> None:
    """Print the metrics of one generator."""
    console.print(f"On {samples_in_words(samples)}:")
    console.print(pairs(_with_counts(metrics, samples)))


def print_outcome(outcome: Outcome, record: SweepRecord) -> None:
    """Print the outcome of a sweep: the use of its time, its front, and the next commands."""
    counts = ", ".join(f"{count} {state}" for state, count in outcome.counts.items())
    console.print(f"{outcome.name}: {counts} in {clock(outcome.wall_seconds)}")
    total = sum(outcome.slot_seconds.values())
    if total:
        used = sorted(outcome.slot_seconds.items(), key=lambda item: -item[1])
        shares = ", ".join(f"{what} {seconds / total:.1%}" for what, seconds in used if seconds)
        console.print(f"slot time ({clock(total)}): {shares}")
    console.print()
    print_front(record)
    uri = record.space.tracking.uri
    store = f" --uri {quote(without_credentials(uri))}" if uri else ""
    commands = [f"pareto {outcome.name}", "ui"]
    if any(map(record.counts_as_forgotten, record.front)):
        commands.insert(1, f"export {outcome.name} --knee --out {outcome.name}-knee")
    console.print("\nNext:")
    for command in commands:
        console.print(f"  sfd-sweep {command}{store}", soft_wrap=True)


def print_findings(findings: Sequence[Finding]) -> None:
    """Print one line for each finding of the doctor."""
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("check", "where", "", "finding"):
        made.add_column(column, overflow="fold")
    for finding in findings:
        made.add_row(finding.check, finding.place, state_text(finding.status), finding.text)
    console.print(made)


def _trials_table(record: SweepRecord) -> Table:
    metrics = watched_metrics(record.space)
    audited = _is_any_audited(record.trials)
    rows: list[Sequence[str | Text]] = [
        (
            str(trial.number),
            state_text(trial.state),
            str(trial.report.step) if trial.report else "",
            *_values(trial.report, metrics),
            "" if trial.run.score is None else figure(trial.run.score),
            *_forgotten(record, trial),
            *([_audit(trial)] if audited else []),
            *_probability(record, trial),
            _standing(record, trial),
        )
        for trial in record.trials
    ]
    columns = (
        *("trial", "state", "step", *metrics, "score", *_forgotten_column(record)),
        *([AUDIT] if audited else []),
        *_probability_column(record),
        "front",
    )
    return table(columns, rows, text=("state", FORGOTTEN, AUDIT, "front"))


def _front_table(record: SweepRecord) -> Table:
    metrics, equals = watched_metrics(record.space), _equals(record)
    audited = _is_any_audited(record.front)
    rows = [
        (
            str(trial.number),
            *_values(record.figures(trial), metrics),
            figure(record.front_score(trial)),
            *_forgotten(record, trial),
            *([_audit(trial)] if audited else []),
            *_probability(record, trial),
            _standing(record, trial),
            *([_listed(equals[trial.number])] if any(equals.values()) else []),
        )
        for trial in record.front
    ]
    columns = (
        *("trial", *metrics, "score", *_forgotten_column(record)),
        *([AUDIT] if audited else []),
        *(*_probability_column(record), "front"),
        *([AS_GOOD_AS] if any(equals.values()) else []),
    )
    return table(columns, rows, text=(FORGOTTEN, AUDIT, "front", AS_GOOD_AS))


def _equals(record: SweepRecord) -> dict[int, list[int]]:
    """Return which members of the front are as good as each other within the stated errors; none without errors."""
    return {trial.number: record.as_good_as(trial) if record.has_errors else [] for trial in record.front}


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _probability_column(record: SweepRecord) -> tuple[str, ...]:
    return (PROBABILITY,) if record.has_errors else ()


def _probability(record: SweepRecord, trial: Trial) -> tuple[str, ...]:
    """Return the cell of the column `on front`; none if the file states no errors."""
    if not record.has_errors:
        return ()
    share = record.front_probability.get(trial.number)
    return ("" if share is None else f"{share:.0%}",)


def _forgotten_column(record: SweepRecord) -> tuple[str, ...]:
    return (FORGOTTEN,) if record.space.selection.bounds else ()


def _forgotten(record: SweepRecord, trial: Trial) -> tuple[str, ...]:
    """Return the cell of the column `forgotten`; none if the file does not say what counts."""
    if not record.space.selection.bounds:
        return ()
    return ("" if trial.report is None else "yes" if record.counts_as_forgotten(trial) else "no",)


def _hypervolume(record: SweepRecord) -> str:
    """Return the hypervolume, with its interval if the file states errors."""
    observed = figure(record.hypervolume())
    if not record.has_errors or not record.front:
        return observed
    found = record.hypervolume_interval
    return (
        f"{observed} (by the stated errors {figure(found.low)} to {figure(found.high)}, median {figure(found.median)})"
    )


def _remarks(record: SweepRecord) -> Iterator[str]:
    """Yield what the errors mean, what counts as forgotten, and the figures of the null baseline."""
    if record.has_errors:
        yield f"{PROBABILITY}: share of draws within the stated errors in which a trial is on the front."
    if any(_equals(record).values()):
        yield f"{AS_GOOD_AS}: as good within the errors as these trials."
    selection = record.space.selection
    if selection.bounds:
        count = sum(map(record.counts_as_forgotten, record.front))
        if count:
            yield f"{count} of {len(record.front)} count as forgotten: {selection.in_words()}."
        else:
            yield (
                f"No trial on the front counts as forgotten, which takes {selection.in_words()}: `export` refuses them "
                "without --anyway."
            )
    if record.swap:
        yield f"{SWAP}, which forgets nothing: {_swap_in_words(record, record.swap)}."


def _swap_in_words(record: SweepRecord, swap: Report) -> str:
    values = [f"{name} {figure(swap.metrics[name])}" for name in watched_metrics(record.space)]
    return f"{', '.join(values)} on {samples_in_words(swap.samples)}"


def _is_any_audited(trials: Sequence[Trial]) -> bool:
    return any(trial.run.audit for trial in trials)


def _audit(trial: Trial) -> str:
    """Return the figure of a trial's audit with its interval, or "" without an audit."""
    found = trial.run.audit
    if found is None:
        return ""
    what = "excess" if found.is_excess else "rate"
    broken = ", broken" if found.broken else ""
    return f"{what} {found.value:.2f} ({found.low:.2f} to {found.high:.2f}), {found.level}{broken}"


def _audit_in_full(found: AuditFigure) -> str:
    what = "worst excess over a generator that never knew" if found.is_excess else "worst rate, excess unknown"
    broken = "; the generator is broken" if found.broken else ""
    return (
        f"{found.level}: {what}, {found.value:.2f} (95 % interval {found.low:.2f} to {found.high:.2f}), by "
        f"{found.attack}{broken}"
    )


def _settings_table(record: SweepRecord, trials: Sequence[Trial]) -> Table:
    searched = list(record.space.parameters.searched())
    rows = [
        (str(trial.number), *(figure(trial.searched.get(name, NOT_DRAWN)) for name in searched)) for trial in trials
    ]
    return table(("trial", *searched), rows)


def _values(report: Report | None, metrics: Sequence[str]) -> list[str]:
    return [figure(report.metrics[name]) if report else "" for name in metrics]


def _with_counts(metrics: Mapping[str, float], samples: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Yield metrics by name, with the number of samples where it is lower than that of the evaluation."""
    for name, value in metrics.items():
        most = METRICS[name].most_samples
        is_lower = most is not None and most < samples["retained"]
        yield name, f"{figure(value)}  (on {most:,})" if is_lower else figure(value)


def _standing(record: SweepRecord, trial: Trial) -> str:
    """Return the role of a trial on the front, or "" if it is not on the front."""
    if trial not in record.front:
        return ""
    named = {"knee": record.knee(), "best score": record.best(record.front)}
    return ", ".join(name for name, member in named.items() if member == trial) or "yes"
