"""What the commands print."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from sfd_sweep.config import SearchSpace

if TYPE_CHECKING:
    from sfd_sweep.sweep.observer import Outcome
    from sfd_sweep.sweep.results import Choice
    from sfd_sweep.tracking.records import SweepRecord, SweepSummary, TrialRecord
    from sfd_sweep.trial.plan import Plan

STATE_STYLES = {"complete": "green", "running": "cyan", "failed": "red", "pruned": "yellow", "stopped": "yellow"}

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 140)


def watched_metrics(space: SearchSpace) -> list[str]:
    """The metrics that a sweep is about: those of its objectives, then those of its constraints."""
    names = [each.metric for each in space.objectives] + [each.metric for each in space.constraints]
    return list(dict.fromkeys(names))


def figure(value: object) -> str:
    """A setting or a metric in four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def styled(state: str) -> str:
    """A state in its colour."""
    style = STATE_STYLES.get(state)
    return f"[{style}]{state}[/]" if style else state


def new_table(*columns: str, numeric: Iterable[str] = ()) -> Table:
    """An empty table; numeric columns are set to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    right = set(numeric)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", no_wrap=True)
    return table


def print_pairs(pairs: Iterable[tuple[str, object]]) -> None:
    """Names and values below one another."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(name, figure(value))
    console.print(table)


def print_sweeps(sweeps: Sequence[SweepSummary]) -> None:
    """One line a sweep."""
    if not sweeps:
        console.print("No sweep is recorded here.")
        return
    table = new_table("sweep", "state", "trials", "front", "hypervolume", "slot hours", "started")
    for sweep in sweeps:
        volume = "" if sweep.hypervolume is None else figure(sweep.hypervolume)
        trials = f"{sweep.finished}/{sweep.planned}"
        started = f"{sweep.started:%Y-%m-%d %H:%M}"
        state = styled(sweep.state)
        table.add_row(sweep.name, state, trials, str(sweep.front_size), volume, figure(sweep.slot_hours), started)
    console.print(table)


def print_sweep(record: SweepRecord) -> None:
    """A sweep's state, and its trials."""
    summary, space = record.summary, record.space
    counts: dict[str, int] = {}
    for trial in record.trials:
        counts[trial.state] = counts.get(trial.state, 0) + 1
    states = ", ".join(f"{count} {state}" for state, count in counts.items()) or "none yet"
    print_pairs(
        [
            ("sweep", f"{summary.name} ({summary.state}{f': {summary.reason}' if summary.reason else ''})"),
            ("task", f"{space.task.teacher}, forget {', '.join(map(str, space.task.forget))}"),
            ("trials", f"{states}; {space.search.trials} planned, {space.trial.steps} steps each"),
            ("searched", ", ".join(space.parameters.searched())),
            ("front", f"{len(record.front)} trials, hypervolume {figure(record.hypervolume())}"),
            ("slot hours", summary.slot_hours),
            ("storage", summary.storage),
        ]
    )
    console.print()
    console.print(_trials_table(record, record.trials))


def print_front(record: SweepRecord, choice: Choice | None, picture: Path | None) -> None:
    """The front, what was chosen, and where to look."""
    if not record.front:
        console.print("The front is empty: no trial is complete and keeps the constraints yet.")
        return
    console.print(_trials_table(record, record.front))
    samples = " and ".join(f"{count:,} {name}" for name, count in _samples(record.front[0]).items())
    console.print(f"\nfigures on {samples} samples; ◆ knee, ● best score; `show NAME --trial N` has the settings")
    if choice:
        console.print(choice.why)
    if picture:
        console.print(f"picture: {picture}")
    else:
        console.print("picture: `--picture front.png` writes it; in MLflow it is among the sweep's artifacts")


def print_trial(choice: Choice) -> None:
    """One trial with everything that is known of it."""
    trial = choice.trial
    console.print(choice.why)
    console.print()
    searched = {name: f"{figure(value)}  (searched)" for name, value in trial.searched.items()}
    print_pairs(list((trial.settings.model_dump() | searched).items()))
    for title, report in (("last evaluation", trial.report), ("final evaluation", trial.final)):
        if report:
            counts = ", ".join(f"{count:,} {name}" for name, count in report.samples.items())
            console.print(f"\n[bold]{title}[/] at step {report.step} on {counts} samples")
            print_pairs(list(report.metrics.items()))


def print_figures(metrics: dict[str, float], samples: dict[str, int]) -> None:
    """The figures of one generator."""
    counts = ", ".join(f"{count:,} {name}" for name, count in samples.items())
    console.print(f"on {counts} samples")
    print_pairs(list(metrics.items()))


def print_plan(plan: Plan) -> None:
    """What a sweep would do."""
    from sfd_sweep.tracking.store import resolve_uri, without_credentials

    space, evaluation = plan.space, plan.space.evaluation
    names = plan.class_names
    milestones = space.trial.milestones()
    megabyte = 1e6
    slots = space.resources.slots
    print_pairs(
        [
            ("sweep", space.name),
            ("teacher", f"{space.task.teacher} ({plan.teacher.path}), {plan.teacher.parameter_count:,} parameters"),
            ("prediction", f"{plan.teacher.prediction_type}, {plan.teacher.diffusion_steps} diffusion steps"),
            ("start", f"{space.task.start} ({plan.start.path})"),
            ("forget", ", ".join(names[index] for index in plan.forget)),
            ("retain", ", ".join(names[index] for index in plan.retain)),
            ("trials", f"{space.search.trials}, sampler {space.search.sampler}, seed {space.search.seed}"),
            ("a trial", f"{space.trial.steps} updates, evaluated after {', '.join(map(str, milestones))}"),
            ("in all", f"at most {space.search.trials * space.trial.steps:,} updates"),
            ("evaluation", f"{evaluation.samples:,} retained and {evaluation.forget_samples:,} forgotten samples"),
            ("final", f"{evaluation.final_samples:,} samples" if evaluation.final_samples else "not judged again"),
            ("judge", f"{evaluation.classifier} against {evaluation.reference}"),
            ("slots", f"{slots}, {space.resources.workers_per_slot} workers each"),
            ("memory", f"{plan.model_bytes / megabyte:,.0f} MB a worker for weights, gradients and optimisers"),
            (
                "disk",
                f"{plan.checkpoint_bytes / megabyte:,.0f} MB a running trial, {_generator(plan):,.1f} MB an ended one",
            ),
            ("storage", f"{without_credentials(space.storage)}/{space.name}"),
            ("tracking", without_credentials(resolve_uri(space.tracking.uri))),
        ]
    )
    console.print("\n[bold]searched[/]")
    print_pairs([(name, str(each)) for name, each in space.parameters.searched().items()])
    console.print("\n[bold]fixed[/]")
    print_pairs(list(space.parameters.fixed().items()))
    console.print("\n[bold]objectives and constraints[/]")
    print_pairs([(each.metric, f"{each.goal}, reference {figure(each.reference)}") for each in space.objectives])
    print_pairs([(each.metric, _bounds(each.min, each.max)) for each in space.constraints])


def print_outcome(outcome: Outcome) -> None:
    """How a sweep has ended: where its time went, and what to do next."""
    total = sum(outcome.slot_seconds.values()) or 1.0
    shares = ", ".join(
        f"{what} {seconds:.0f} s ({seconds / total:.0%})"
        for what, seconds in sorted(outcome.slot_seconds.items(), key=lambda item: -item[1])
        if seconds >= 0.5
    )
    counts = ", ".join(f"{count} {state}" for state, count in outcome.counts.items() if count)
    print_pairs(
        [
            ("done", f"{counts} in {outcome.wall_seconds:.0f} s; hypervolume {figure(outcome.hypervolume)}"),
            ("slots' time", shares),
            ("front", ", ".join(f"trial {number}" for number in outcome.front) or "empty"),
        ]
    )
    if outcome.front:
        console.print(
            f"\nnext: sfd-sweep pareto {outcome.name}\n"
            f"      sfd-sweep export {outcome.name} --knee --out DIR\n"
            "      sfd-sweep ui"
        )


def _trials_table(record: SweepRecord, trials: Sequence[TrialRecord]) -> Table:
    metrics = watched_metrics(record.space)
    table = new_table("trial", "", "state", "step", *metrics, "score", numeric=("trial", "step", *metrics, "score"))
    for trial in trials:
        metric_cells = [_metric(trial, name) for name in metrics]
        step = str(trial.report.step) if trial.report else ""
        score = "" if trial.score is None else figure(trial.score)
        table.add_row(str(trial.number), _mark(record, trial), styled(trial.state), step, *metric_cells, score)
    return table


def _mark(record: SweepRecord, trial: TrialRecord) -> str:
    if trial not in record.front:
        return ""
    marks = ("◆" if trial == record.knee() else "") + ("●" if trial == record.best(record.front) else "")
    return marks or "·"


def _metric(trial: TrialRecord, name: str) -> str:
    return figure(trial.metrics[name]) if name in trial.metrics else ""


def _samples(trial: TrialRecord) -> dict[str, int]:
    return trial.report.samples if trial.report else {}


def _generator(plan: Plan) -> float:
    return plan.teacher.parameter_count * 4 / 1e6


def _bounds(least: float | None, most: float | None) -> str:
    parts: list[Any] = [
        f"at least {figure(least)}" if least is not None else None,
        f"at most {figure(most)}" if most is not None else None,
    ]
    return " and ".join(part for part in parts if part)
