"""Looking at sweeps through MLflow: which there are, and everything about one."""

import difflib
import tempfile
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

from mlflow.entities import Run

from sfd_sweep.config import Parameters, SearchSpace
from sfd_sweep.config.loading import parse_search_space
from sfd_sweep.errors import UserError
from sfd_sweep.search.records import SweepRecord, SweepState, SweepSummary, TrialRecord
from sfd_sweep.tracking.schema import (
    FINAL,
    FINISHED,
    SCORE,
    SEARCH_SPACE_FILE,
    SLOT_HOURS,
    Tag,
    below,
    metrics_to_report,
    parameters_to_settings,
    restore,
)
from sfd_sweep.tracking.store import Store, model_uri, refusals_of
from sfd_sweep.trial.report import Report, TrialState


def list_sweeps(uri: str | None = None) -> list[SweepSummary]:
    """Every sweep in the tracking store, the newest first.

    Args:
        uri: of the store; None: MLFLOW_TRACKING_URI, else SQLite in the working folder.

    Raises:
        UserError: the store cannot be reached or read.
    """
    store = Store.open(uri)
    with refusals_of(store.uri):
        return [_summary(run) for run in store.sweep_runs()]


def find_sweep(uri: str | None, name: str) -> SweepSummary:
    """One line about a sweep.

    Raises:
        UserError: the store cannot be reached or read, or has no sweep of that name (with the nearest names).
    """
    store = Store.open(uri)
    with refusals_of(store.uri):
        return _summary(_sweep_run(store, name))


def read_sweep(uri: str | None, name: str) -> SweepRecord:
    """A sweep, its search space and its trials with their last figures.

    Raises:
        UserError: the store cannot be reached or read, or has no sweep of that name (with the nearest names).
    """
    store = Store.open(uri)
    with refusals_of(store.uri):
        return read_run(store, _sweep_run(store, name))


def read_family(uri: str | None, name: str) -> list[SweepRecord]:
    """The sweep of that name, or else all in the MLflow experiment of that name, the newest first.

    Raises:
        UserError: the store cannot be reached or read, or has neither (with the nearest names).
    """
    store = Store.open(uri)
    with refusals_of(store.uri):
        experiment = store.client.get_experiment_by_name(name)
        runs = store.sweep_runs()
        members = [run for run in runs if run.data.tags[Tag.SWEEP] == name] or [
            run for run in runs if experiment and run.info.experiment_id == experiment.experiment_id
        ]
        return [read_run(store, run) for run in members or [_sweep_run(store, name)]]


def _sweep_run(store: Store, name: str) -> Run:
    runs = store.sweep_runs()
    for run in runs:
        if run.data.tags[Tag.SWEEP] == name:
            return run
    raise _unknown(name, [run.data.tags[Tag.SWEEP] for run in runs], store.place)


def read_run(store: Store, sweep: Run) -> SweepRecord:
    """The sweep of a parent run."""
    space = _search_space(store, sweep)
    # A run that is just being made has no parameters yet.
    trials = [_trial(run, space.parameters) for run in store.trial_runs(sweep) if run.data.params]
    return SweepRecord(_summary(sweep), space, tuple(sorted(trials, key=lambda trial: trial.number)))


def read_reports(uri: str | None, trial: TrialRecord) -> list[Report]:
    """Every evaluation of a trial, by step: one request a metric.

    Raises:
        UserError: the store cannot be reached or read.
    """
    store = Store.open(uri)
    by_step: dict[int, dict[str, float]] = defaultdict(dict)
    with refusals_of(store.uri):
        for name in store.client.get_run(trial.run_id).data.metrics:
            if not name.startswith(FINAL):
                for point in store.client.get_metric_history(trial.run_id, name):
                    by_step[point.step][name] = point.value
    reports = [metrics_to_report(restore(metrics)) for _, metrics in sorted(by_step.items())]
    return [report for report in reports if report]


def _unknown(name: str, names: list[str], place: str) -> UserError:
    if not names:
        return UserError(f"there is no sweep {name!r} at {place}, nor any other")
    nearest = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    if nearest:
        return UserError(f"there is no sweep {name!r} at {place}; did you mean {' or '.join(nearest)}?")
    return UserError(f"there is no sweep {name!r} at {place}; there are {', '.join(names[:10])}")


def _search_space(store: Store, sweep: Run) -> SearchSpace:
    with tempfile.TemporaryDirectory() as folder:
        path = store.client.download_artifacts(sweep.info.run_id, SEARCH_SPACE_FILE, folder)
        text = Path(path).read_text(encoding="utf-8")
    return parse_search_space(text, f"{SEARCH_SPACE_FILE} of {sweep.data.tags[Tag.SWEEP]}")


def _summary(run: Run) -> SweepSummary:
    tags, metrics = run.data.tags, restore(run.data.metrics)
    return SweepSummary(
        name=tags[Tag.SWEEP],
        state=SweepState(tags[Tag.STATE]),
        reason=tags.get(Tag.REASON) or None,
        started=_time(run.info.start_time),
        ended=_ended(run),
        planned=int(tags[Tag.TRIALS]) if tags[Tag.TRIALS] else None,
        finished=int(metrics.get(FINISHED, 0)),
        front_size=int(metrics.get("front_size", 0)),
        hypervolume=metrics.get("hypervolume"),
        slot_hours=metrics.get(SLOT_HOURS, 0.0),
        storage=tags[Tag.STORAGE],
        experiment_id=run.info.experiment_id,
        run_id=run.info.run_id,
    )


def _trial(run: Run, parameters: Parameters) -> TrialRecord:
    tags, metrics = run.data.tags, restore(run.data.metrics)
    settings = parameters_to_settings(run.data.params)
    return TrialRecord(
        number=int(tags[Tag.TRIAL]),
        state=TrialState(tags[Tag.STATE]),
        reason=tags.get(Tag.REASON) or None,
        settings=settings,
        searched=parameters.drawn(settings),
        report=metrics_to_report(metrics),
        final=metrics_to_report(below(metrics, FINAL)),
        score=metrics.get(SCORE),
        pareto=tags.get(Tag.PARETO) == "true",
        slot_hours=metrics.get(SLOT_HOURS, 0.0),
        started=_time(run.info.start_time),
        ended=_ended(run),
        model_uri=model_uri(run),
        run_id=run.info.run_id,
    )


def _ended(run: Run) -> datetime | None:
    return _time(run.info.end_time) if run.info.status != "RUNNING" and run.info.end_time else None


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
