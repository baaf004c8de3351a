"""Reading of sweeps from MLflow: summaries, and full records."""

import difflib
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from mlflow.entities import Run

from sfd_sweep.config import Parameters, changes_of, parse_search_space
from sfd_sweep.errors import UserError
from sfd_sweep.search.records import SweepRecord, SweepState, SweepSummary
from sfd_sweep.search.trial import Trial, TrialRun
from sfd_sweep.storage.folder import Folder
from sfd_sweep.storage.folder import below as folder_below
from sfd_sweep.storage.lock import is_abandoned
from sfd_sweep.tracking.schema import (
    AUDIT_PREFIX,
    FINAL,
    FINISHED,
    SCORE,
    SEARCH_SPACE_FILE,
    SLOT_HOURS,
    SWAP,
    Tag,
    below,
    metrics_to_report,
    parameters_to_settings,
    restore,
    text_to_audit,
)
from sfd_sweep.tracking.store import Store, mlflow_errors, model_uri
from sfd_sweep.trial.files import CONFIG
from sfd_sweep.trial.report import Report, TrialState

DEFAULT_STORAGE = Path("runs")
REQUESTS = 8  # at a time


def list_sweeps(uri: str | None = None) -> list[SweepSummary]:
    """Return a summary of every sweep in the tracking store (see `resolve_uri`), the newest first.

    Raises:
        UserError: the store is unreachable or unreadable.
    """
    store = Store.open(uri)
    with mlflow_errors(store.uri):
        return [as_it_is(_summary(run)) for run in store.sweep_runs()]


def locate(name: str, *, storage: str | None = None, uri: str | None = None) -> str:
    """Return a sweep's folder: in the given storage, else as recorded in MLflow, else in `runs`.

    Args:
        storage: a path or a URI.
        uri: of the tracking store; None: MLFLOW_TRACKING_URI, else SQLite in the working folder.

    Raises:
        UserError: MLflow has no record of the sweep, and it is not in `runs` either.
    """
    if storage is not None:
        return folder_below(storage, name)
    try:
        store = Store.open(uri)
        with mlflow_errors(store.uri):
            return _summary(_sweep_run(store, name)).storage
    except UserError as error:
        folder = DEFAULT_STORAGE / name
        if not (folder / CONFIG).is_file():
            raise UserError(f"{error} (it is not in {folder} either; name another storage by --storage)") from error
        return str(folder)


def as_it_is(recorded: SweepSummary) -> SweepSummary:
    """Return the summary, with state `abandoned` if the driver ran on this machine and was killed."""
    if recorded.state is not SweepState.RUNNING or not recorded.storage.startswith("file:"):
        return recorded
    if not is_abandoned(Path(Folder.open(recorded.storage).path)):
        return recorded
    reason = f"its driver has died; `sfd-sweep resume {recorded.name}` resumes it"
    return replace(recorded, state=SweepState.ABANDONED, reason=reason)


def record_as_it_is(recorded: SweepRecord) -> SweepRecord:
    """Return the record with the summary of `as_it_is`. Running trials of an abandoned sweep become stopped."""
    summary = as_it_is(recorded.summary)
    if summary.state is not SweepState.ABANDONED:
        return recorded
    trials = [
        replace(trial, state=TrialState.STOPPED) if trial.state is TrialState.RUNNING else trial
        for trial in recorded.trials
    ]
    return replace(recorded, summary=summary, trials=tuple(trials))


def read_sweep(uri: str | None, name: str) -> SweepRecord:
    """Return a sweep, its search space and its trials with their last reports.

    Raises:
        UserError: the store is unreachable or unreadable, or the sweep is unknown.
    """
    store = Store.open(uri)
    with mlflow_errors(store.uri):
        return read_run(store, _sweep_run(store, name))


def read_family(uri: str | None, name: str) -> list[SweepRecord]:
    """Return the sweep of that name, else all sweeps of the MLflow experiment of that name, the newest first.

    Raises:
        UserError: the store is unreachable or unreadable, or the name is unknown.
    """
    store = Store.open(uri)
    with mlflow_errors(store.uri):
        experiment = store.client.get_experiment_by_name(name)
        runs = store.sweep_runs()
        members = [run for run in runs if run.data.tags[Tag.SWEEP] == name] or [
            run for run in runs if experiment and run.info.experiment_id == experiment.experiment_id
        ]
        return [read_run(store, run) for run in members or [_sweep_run(store, name)]]


def read_reports(uri: str | None, trials: Sequence[Trial]) -> dict[int, list[Report]]:
    """Return the reports of all evaluations of some trials in the order of steps, by the trial's number.

    MLflow is asked once for each metric of a trial.

    Raises:
        UserError: the store is unreachable or unreadable.
    """
    store = Store.open(uri)
    with mlflow_errors(store.uri), ThreadPoolExecutor(REQUESTS) as pool:
        reports = pool.map(lambda trial: _reports(store, trial.run.run_id), trials)
        return {trial.number: found for trial, found in zip(trials, reports, strict=True)}


def _reports(store: Store, run_id: str) -> list[Report]:
    by_step: dict[int, dict[str, float]] = defaultdict(dict)
    for name in store.client.get_run(run_id).data.metrics:
        if not name.startswith((FINAL, AUDIT_PREFIX)):
            for point in store.client.get_metric_history(run_id, name):
                by_step[point.step][name] = point.value
    found = [metrics_to_report(restore(metrics)) for _, metrics in sorted(by_step.items())]
    return [report for report in found if report]


def find_sweep(store: Store, name: str | None) -> Run | None:
    """Return the parent run of a sweep, or of the newest one; None if there is none.

    Raises:
        UserError: the sweep is unknown.
    """
    with mlflow_errors(store.uri):
        return next(iter(store.sweep_runs()), None) if name is None else _sweep_run(store, name)


def _sweep_run(store: Store, name: str) -> Run:
    runs = store.sweep_runs()
    names = [run.data.tags[Tag.SWEEP] for run in runs]
    if name in names:
        return runs[names.index(name)]
    hint = f"it holds {', '.join(names[:10]) or 'no sweeps'}"
    if nearest := difflib.get_close_matches(name, names, n=3, cutoff=0.4):
        hint = f"did you mean {' or '.join(nearest)}?"
    raise UserError(f"unknown sweep {name!r} at {store.place}; {hint}")


def read_run(store: Store, sweep: Run) -> SweepRecord:
    """Return the sweep of a parent run."""
    text = _search_space_file(store, sweep)
    space = parse_search_space(text, f"{SEARCH_SPACE_FILE} of {sweep.data.tags[Tag.SWEEP]}")
    # A run under creation has no parameters yet.
    trials = [_trial(run, space.parameters) for run in store.trial_runs(sweep) if run.data.params]
    swap = metrics_to_report(below(restore(sweep.data.metrics), SWAP))
    return SweepRecord(
        _summary(sweep), space, tuple(sorted(trials, key=lambda trial: trial.number)), swap, changes_of(text)
    )


def _search_space_file(store: Store, sweep: Run) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = store.client.download_artifacts(sweep.info.run_id, SEARCH_SPACE_FILE, folder)
        return Path(path).read_text(encoding="utf-8")


def _summary(run: Run) -> SweepSummary:
    tags, metrics = run.data.tags, restore(run.data.metrics)
    return SweepSummary(
        name=tags[Tag.SWEEP],
        state=SweepState(tags[Tag.STATE]),
        reason=tags.get(Tag.REASON) or None,
        started=_time(run.info.start_time),
        planned=int(tags[Tag.TRIALS]) if tags[Tag.TRIALS] else None,
        finished=int(metrics.get(FINISHED, 0)),
        front_size=int(metrics.get("front_size", 0)),
        hypervolume=metrics.get("hypervolume"),
        slot_hours=metrics.get(SLOT_HOURS, 0.0),
        storage=tags[Tag.STORAGE],
        run_id=run.info.run_id,
    )


def _trial(run: Run, parameters: Parameters) -> Trial:
    tags, metrics = run.data.tags, restore(run.data.metrics)
    settings = parameters_to_settings(run.data.params)
    last = metrics_to_report(metrics)
    return Trial(
        number=int(tags[Tag.TRIAL]),
        state=TrialState(tags[Tag.STATE]),
        settings=settings,
        searched=parameters.drawn(settings),
        reports=(last,) if last else (),
        final=metrics_to_report(below(metrics, FINAL)),
        reason=tags.get(Tag.REASON) or None,
        recorded=TrialRun(
            run_id=run.info.run_id,
            ended=_ended(run),
            slot_hours=metrics.get(SLOT_HOURS, 0.0),
            score=metrics.get(SCORE),
            model_uri=model_uri(run),
            audit=text_to_audit(tags.get(Tag.AUDIT)),
        ),
    )


def _ended(run: Run) -> datetime | None:
    return _time(run.info.end_time) if run.info.status != "RUNNING" and run.info.end_time else None


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
