"""What the page of a sweep shows, as JSON-compatible data."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from shlex import quote
from typing import Any

from sfd_sweep.audit.report import GENERATOR, AuditReport
from sfd_sweep.audit.summary import SUBJECT_NAMES
from sfd_sweep.config import CategoricalDistribution, Distribution, Objective
from sfd_sweep.metrics import samples_in_words
from sfd_sweep.search.records import SweepRecord
from sfd_sweep.search.trial import Trial
from sfd_sweep.storage.credentials import without_credentials
from sfd_sweep.tracking.front_view import INK, Axis, FrontView, Group
from sfd_sweep.tracking.importance import FEWEST_TRIALS, basis_of, parameter_importance
from sfd_sweep.tracking.stored_samples import StoredSamples
from sfd_sweep.trial.report import Report

MOST_CHARACTERS = 12_000_000
"""Of all sample grids; trials off the front with the worst scores have none beyond it."""

Data = dict[str, Any]


def report_data(
    record: SweepRecord, reports: Mapping[int, Sequence[Report]], samples: StoredSamples, uri: str | None
) -> Data:
    """Return everything that the page shows; figures that are not finite are the texts `nan`, `inf`, and `-inf`.

    Args:
        record: the sweep.
        reports: of all evaluations, by the trial's number and in the order of steps.
        samples: of the trials.
        uri: of the tracking store, for commands; None: that of the environment.
    """
    record = _with_reports(record, reports)
    view = FrontView.page_of(record)
    found: Data = _finite_or_text({
        **_heading(record, view),
        **_front(view),
        "trials": _trials(record, view, samples, uri),
        "swap": record.swap and _report(record.swap),
        "start": samples.start,
        "parameters": [_parameter(record, *item) for item in record.space.parameters.searched().items()],
        "curves": [_curves(record, objective) for objective in record.space.objectives],
        "importance": _importance(record),
        "hypervolume": _hypervolume(record),
        "seconds": _seconds(record),
        "audits": _audits(record, samples),
    })  # fmt: skip
    return found


def _with_reports(record: SweepRecord, reports: Mapping[int, Sequence[Report]]) -> SweepRecord:
    """Return the record with all reports up to the last one that it has of each trial."""
    trials = [
        replace(trial, reports=(*(each for each in reports.get(trial.number, ()) if each.step < last.step), last))
        if (last := trial.report)
        else trial
        for trial in record.trials
    ]
    return replace(record, trials=tuple(trials))


def _heading(record: SweepRecord, view: FrontView) -> Data:
    space, summary = record.space, record.summary
    watched = [part.metric for part in space.objectives]
    watched += [bound.metric for bound in (*space.constraints, *space.selection.bounds)]
    return {
        "name": summary.name,
        "state": summary.state,
        "reason": summary.reason,
        "subtitle": view.subtitle,
        "task": f"{space.task.teacher} forgets {', '.join(map(str, space.task.forget))}",
        "objectives": [{"metric": part.metric, "goal": part.goal} for part in space.objectives],
        "constraints": [bound.in_words() for bound in space.constraints],
        "selection": space.selection.in_words() if space.selection.bounds else None,
        "watched": list(dict.fromkeys(watched)),
        "searched": list(space.parameters.searched()),
        "has_errors": record.has_errors,
        "judged": record.is_judged,
        "steps": space.trial.steps,
    }


def _front(view: FrontView) -> Data:
    return {
        "axes": [_axis(axis) for axis in view.axes],
        "border": view.border,
        "groups": [_group(view, group) for group in view.groups],
    }


def _group(view: FrontView, group: Group) -> Data:
    has_bars = group.is_front and view.record.has_errors
    return {
        "label": group.label,
        "color": "currentColor" if group.color == INK else group.color,
        "symbol": group.symbol,
        "size": group.size,
        "layer": group.layer,
        "front": group.is_front,
        "marks": [
            {"trial": mark.number, "place": view.place(mark), "reach": view.reach(mark) if has_bars else None}
            for mark in group.marks
        ],
    }


def _axis(axis: Axis) -> Data:
    return {
        "name": axis.name,
        "better": axis.better if axis.goal else 0,
        "limits": axis.limits,
        "ticks": [[place, label] for place, label in axis.ticks.items()],
    }


def _trials(record: SweepRecord, view: FrontView, samples: StoredSamples, uri: str | None) -> list[Data]:
    front = {trial.number: rank for rank, trial in enumerate(record.front)}
    groups = {mark.number: group.label for group in reversed(view.groups) for mark in group.marks if mark.trial}
    grids = _grids(record, samples)
    roles = {"knee": record.knee(), "best score": record.best(record.front)} if front else {}
    return [
        {
            "number": trial.number,
            "state": trial.state,
            "reason": trial.reason,
            "group": groups.get(trial.number),
            "rank": front.get(trial.number),
            "roles": [name for name, member in roles.items() if member.number == trial.number],
            "searched": {name: _text(value) for name, value in trial.searched.items()},
            "seconds": trial.run.slot_hours * 3600,
            "grid": grids.get(trial.number),
            "audit": trial.run.audit and asdict(trial.run.audit),
            "run": trial.run.run_id,
            **(_evaluated(record, trial, uri) if trial.report else {}),
        }
        for trial in record.trials
    ]


def _evaluated(record: SweepRecord, trial: Trial, uri: str | None) -> Data:
    """Return the figures of an evaluated trial, and the command to export it."""
    assert trial.report is not None
    figures, on_front = record.figures(trial), trial in record.front
    return {
        "figures": figures.metrics,
        "judged": figures is trial.final,
        "score": record.front_score(trial),
        "last": _report(trial.report),
        "final": trial.final and _report(trial.final),
        "feasible": bool(record.is_feasible(trial)),
        "forgotten": bool(record.counts_as_forgotten(trial)) if record.space.selection.bounds else None,
        "probability": record.front_probability.get(trial.number) if record.has_errors else None,
        "as_good_as": record.as_good_as(trial) if record.has_errors and on_front else [],
        "command": _command(record, trial, uri) if on_front or record.space.keep_generators == "all" else None,
    }


def _report(report: Report) -> Data:
    return {"step": report.step, "metrics": report.metrics, "samples": samples_in_words(report.samples)}


def _command(record: SweepRecord, trial: Trial, uri: str | None) -> str:
    name, number = record.summary.name, trial.number
    parts = ["sfd-sweep", "export", name, "--trial", str(number), "--out", f"{name}-{number}"]
    parts += [] if record.counts_as_forgotten(trial) else ["--anyway"]
    parts += ["--uri", without_credentials(uri)] if uri else []
    return " ".join(map(quote, parts))


def _grids(record: SweepRecord, samples: StoredSamples) -> dict[int, str]:
    """Return the sample grids by trial, those of the front and of the best scores first, as far as they fit."""
    evaluated = [trial for trial in record.trials if trial.report]
    numbers = {trial.number for trial in record.front}
    grids: dict[int, str] = {}
    used = 0
    for trial in sorted(evaluated, key=lambda each: (each.number not in numbers, record.front_score(each))):
        if used < MOST_CHARACTERS and (grid := samples.grid(trial)):
            grids[trial.number] = grid
            used += len(grid)
    return grids


def _parameter(record: SweepRecord, name: str, distribution: Distribution) -> Data:
    """Return the axis of a searched parameter, and each trial's place on it."""
    drawn = {trial.number: trial.searched[name] for trial in record.trials if name in trial.searched}
    if isinstance(distribution, CategoricalDistribution):
        choices = list(map(repr, distribution.choices))
        ticks = [[float(place), str(choice)] for place, choice in enumerate(distribution.choices)]
        places = {
            number: float(choices.index(repr(value))) for number, value in drawn.items() if repr(value) in choices
        }
        limits = (-0.5, len(choices) - 0.5)
    else:
        place = math.log10 if distribution.log else float
        ends = (distribution.low, distribution.high)
        ticks = [[place(value), f"{value:.4g}"] for value in ends]
        places = {number: place(value) for number, value in drawn.items()}
        limits = (place(ends[0]), place(ends[1]))
    return {"name": name, "limits": limits, "ticks": ticks, "better": 0, "places": places}


def _curves(record: SweepRecord, objective: Objective) -> Data:
    """Return an objective at each step of every trial, in coordinates of its axis."""
    metric = objective.metric
    lines = {trial.number: [(each.step, each.metrics[metric]) for each in trial.reports] for trial in record.trials}
    axis = Axis.of(objective, [value for line in lines.values() for _, value in line])
    drawn = {
        number: [(step, axis.place(value)) for step, value in line if math.isfinite(value)]
        for number, line in lines.items()
    }
    return {"axis": _axis(axis), "lines": {number: line for number, line in drawn.items() if line}}


def _importance(record: SweepRecord) -> Data:
    shares = {part.metric: parameter_importance(record, part) for part in record.space.objectives}
    return {"basis": basis_of(record), "fewest": FEWEST_TRIALS, "shares": shares}


def _hypervolume(record: SweepRecord) -> Data:
    """Return the hypervolume of the search's front over the slot time of the trials that had ended."""
    ended = sorted(
        (trial for trial in record.trials if trial.run.ended), key=lambda each: (each.run.ended, each.number)
    )
    volumes, points, hours, volume = record.hypervolumes(), [], 0.0, 0.0
    for trial in ended:
        hours += trial.run.slot_hours
        volume = volumes.get(trial.number, volume)
        points.append((hours * 3600, volume, trial.number))
    return {"points": points, "final": record.hypervolume() if record.is_judged else None}


def _seconds(record: SweepRecord) -> list[Data]:
    """Return the slot time of all trials by activity, with the parts of the evaluations."""
    whole, parts = defaultdict[str, float](float), defaultdict[str, float](float)
    for trial in record.trials:
        for report in trial.reports:
            _add(report.seconds, whole)
            _add(report.evaluation_seconds, parts)
    for final in (*(trial.final for trial in record.trials), record.swap):
        if final:
            whole["final evaluation"] += final.busy_seconds
            whole["waiting"] += final.seconds.get("waiting", 0.0)
    parts["other"] = max(0.0, whole["evaluating"] - sum(parts.values()))
    return [
        {"name": name, "seconds": spent, "parts": _longest_first(parts) if name == "evaluating" else {}}
        for name, spent in _longest_first(whole).items()
    ]


def _add(seconds: Mapping[str, float], sums: dict[str, float]) -> None:
    for name, spent in seconds.items():
        sums[name] += spent


def _longest_first(seconds: Mapping[str, float]) -> dict[str, float]:
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))


def _audits(record: SweepRecord, samples: StoredSamples) -> list[Data]:
    """Return a panel for each attack: the generators' rates over the budget, and those of the controls.

    The controls are those of the first audited trial.
    """
    levels = {trial.number: trial.run.audit.level for trial in record.trials if trial.run.audit}
    audits = samples.audits(levels)
    attacks = {attack.name: attack for report in audits.values() for attack in report.attacks}
    return [
        {"name": name, "unit": attack.unit, "lines": [*_audit_lines(name, audits)]} for name, attack in attacks.items()
    ]


def _audit_lines(attack_name: str, audits: Mapping[int, AuditReport]) -> Iterator[Data]:
    has_controls = False
    for number, report in audits.items():
        attack = next((each for each in report.attacks if each.name == attack_name), None)
        if attack is None:
            continue
        for subject in report.subjects:
            if subject == GENERATOR or not has_controls:
                curve = zip(attack.budgets, attack.curve(subject), strict=True)
                points = [(budget, rate.value, rate.low, rate.high) for budget, rate in curve]
                trial = number if subject == GENERATOR else None
                yield {"trial": trial, "subject": SUBJECT_NAMES[subject], "points": points}
        has_controls = True


def _finite_or_text(value: Any) -> Any:
    """Return data that JSON can hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _finite_or_text(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite_or_text(each) for each in value]
    return value


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
