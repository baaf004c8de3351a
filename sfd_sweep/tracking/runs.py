"""The MLflow runs of one sweep: a parent run, and one child run per trial. Every write can be repeated safely."""

import io
import logging
import re
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE, MLFLOW_USER
from PIL import Image
from sqlalchemy.exc import SQLAlchemyError

from sfd_sweep.config import SearchSpace, Settings, changes_of
from sfd_sweep.config.methods import METHODS
from sfd_sweep.errors import UserError
from sfd_sweep.search.records import ResourceUsage, SweepRecord, SweepState
from sfd_sweep.search.scores import combined_score, counts_as_forgotten
from sfd_sweep.storage.credentials import without_credentials
from sfd_sweep.storage.folder import Folder
from sfd_sweep.tracking.environment import package_lock, version_tags
from sfd_sweep.tracking.schema import (
    FINAL,
    FINISHED,
    FRONT_PROBABILITY,
    KNEE_PROBABILITY,
    SCORE,
    SEARCH_SPACE_FILE,
    SLOT_HOURS,
    STEP,
    SWAP,
    SWEEP_KIND,
    TRIAL_KIND,
    Tag,
    below,
    interval_metrics,
    report_to_metrics,
    restore,
    settings_to_parameters,
    space_to_parameters,
    sweep_metrics,
    to_text,
)
from sfd_sweep.tracking.store import Store, is_temporary, one_request
from sfd_sweep.tracking.sweep_page import describe, trials_view, view_tag
from sfd_sweep.trial.files import GRID, step_folder, trial_folder
from sfd_sweep.trial.report import Report, TrialState

log = logging.getLogger(__name__)

ENDED = {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED}
RUN_STATUS = {"running": "RUNNING", "complete": "FINISHED", "failed": "FAILED", "pruned": "KILLED", "stopped": "KILLED"}
CREATION_PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds before the store is asked again to create the sweep's run."""

MAX_TAG = 4000
"""Characters in a value of a tag that every store takes."""
GRID_KEY = "grid"
LOCK_FILE = "environment.txt"


@dataclass
class _StoredRun:
    """The state of a trial's run in the store.

    Attributes:
        found: whether an earlier process made the run.
    """

    run_id: str
    found: bool
    tags: dict[str, str]
    parameters: set[str]
    metrics: dict[str, float]

    @classmethod
    def of(cls, run: Run, *, found: bool) -> "_StoredRun":
        return cls(run.info.run_id, found, dict(run.data.tags), set(run.data.params), restore(run.data.metrics))


class SweepRuns:
    """Writer of a sweep's runs. It reads the store once and skips what is already recorded.

    Args:
        sweep_folder: the folder that contains the trials.
        sweep: the parent run.
        trials: the child runs.
    """

    def __init__(
        self, store: Store, space: SearchSpace, sweep_folder: Folder, sweep: Run, trials: Sequence[Run]
    ) -> None:
        self.sweep_id = sweep.info.run_id
        self._store = store
        self._client = store.client
        self._space = space
        self._folder = sweep_folder
        self._front: tuple[int, int, float] = (-1, 0, 0.0)
        self._swap: dict[str, float] = {}
        self._interval: dict[str, float] = {}
        self._load(sweep, trials)

    @classmethod
    def open(
        cls, store: Store, space: SearchSpace, sweep_folder: Folder, config_yaml: str, *, resume: bool
    ) -> "SweepRuns":
        """Find or create the sweep's experiment and parent run, and describe the sweep there.

        Args:
            sweep_folder: the folder that contains the trials.
            config_yaml: the resolved search-space file.
            resume: whether the store may already have a sweep of this name.

        Raises:
            UserError: the store has a sweep of this name, and `resume` is false.
        """
        sweep = _find_sweep_run(store, space)
        if sweep and not resume:
            raise UserError(
                f"a sweep named {space.name!r} is already in MLflow at {store.place}: `sfd-sweep resume {space.name}` "
                "resumes it; a new sweep needs another name (`--set name=…`)"
            )
        with ExitStack() as undo:
            if sweep:
                trials = store.trial_runs(sweep)
            else:
                sweep, trials = _make_sweep_run(store, space, sweep_folder.uri), []
                undo.callback(store.client.delete_run, sweep.info.run_id)
            runs = cls(store, space, sweep_folder, sweep, trials)
            runs._describe(config_yaml)
            undo.pop_all()
        return runs

    def look_again(self) -> None:
        """Read the store again, after a write that may or may not have succeeded."""
        sweep = self._client.get_run(self.sweep_id)
        self._load(sweep, self._store.trial_runs(sweep))

    def start_trial(self, number: int, settings: Settings, searched: dict[str, Any]) -> None:
        """Create the trial's run with its settings. A stopped run is set to running again."""
        trial = self._trials.get(number) or self._create_trial_run(number, settings, searched)
        if missing := _missing_parameters(settings_to_parameters(settings), trial.parameters):
            self._client.log_batch(trial.run_id, params=missing)
            trial.parameters.update(parameter.key for parameter in missing)
        if trial.tags[Tag.STATE] == TrialState.STOPPED:
            self._client.update_run(trial.run_id, status=RUN_STATUS[TrialState.RUNNING])
            self._log(trial, [], {Tag.STATE: TrialState.RUNNING, Tag.REASON: ""})

    def report_trial(self, number: int, reports: Sequence[Report]) -> None:
        """Write evaluations in the order of their steps: the sample grids first, then all metrics in one request."""
        trial = self._trials[number]
        known = trial.metrics.get(STEP, -1)
        new = [report for report in reports if report.step > known]
        self._log_grids(trial, number, [report.step for report in new])
        points: list[Metric] = []
        slot_hours = trial.metrics.get(SLOT_HOURS, 0.0)
        for report in new:
            slot_hours += report.busy_seconds / 3600
            metrics = report_to_metrics(report) | {SCORE: self._score(report), SLOT_HOURS: slot_hours}
            points += _points(metrics, report.step)
        last = reports[-1]
        tags = {Tag.SCORE: f"{self._score(last):.6g}"} | self._forgotten(last)
        self._log(trial, points, tags if last.step >= known else {})

    def end_trial(self, number: int, state: TrialState, reason: str | None) -> None:
        """Write the trial's final state."""
        trial = self._trials[number]
        if trial.tags[Tag.STATE] != state:
            self._client.set_terminated(trial.run_id, RUN_STATUS[state])
            self._log(trial, [], {Tag.STATE: state, Tag.REASON: _short(reason)})

    def mark_front(self, front: Sequence[int], hypervolume: float, finished: int, usage: ResourceUsage) -> None:
        """Tag the trials on the front, and write the sweep's metrics after `finished` trials."""
        members = set(front)
        for number, trial in self._trials.items():
            self._log(trial, [], {Tag.PARETO: "true" if number in members else "false"})
        if (finished, len(front), hypervolume) == self._front or finished < self._front[0]:
            return
        self._front = finished, len(front), hypervolume
        slot_hours = sum(
            trial.metrics.get(SLOT_HOURS, 0.0)
            for trial in self._trials.values()
            if trial.tags[Tag.STATE] != TrialState.RUNNING
        )
        metrics = sweep_metrics(len(front), hypervolume, finished, slot_hours, usage)
        note = RunTag(MLFLOW_RUN_NOTE, describe(self._space, self._figures(front), finished))
        self._client.log_batch(self.sweep_id, metrics=_points(metrics, finished), tags=[note])

    def _figures(self, front: Sequence[int]) -> dict[int, dict[str, float]]:
        """Return the metrics by which trials are on the front: final ones once all of them have these."""
        searched = {number: self._trials[number].metrics for number in front}
        final = {number: below(metrics, FINAL) for number, metrics in searched.items()}
        return final if all(final.values()) else searched

    def report_uncertainty(self, record: SweepRecord) -> None:
        """Write what the stated errors make of the front: probabilities, members that are as good, and an interval."""
        for complete in record.complete:
            assert complete.report is not None
            trial, number = self._trials[complete.number], complete.number
            metrics = {FRONT_PROBABILITY: record.front_probability[number]}
            if number in record.knee_probability:
                metrics[KNEE_PROBABILITY] = record.knee_probability[number]
            changed = {name: value for name, value in metrics.items() if trial.metrics.get(name) != value}
            equals = record.as_good_as(complete) if complete in record.front else []
            self._log(trial, _points(changed, complete.report.step), {Tag.AS_GOOD_AS: ", ".join(map(str, equals))})
        interval = interval_metrics(record.hypervolume_interval)
        if changed := {name: value for name, value in interval.items() if self._interval.get(name) != value}:
            self._client.log_batch(self.sweep_id, metrics=_points(changed, record.summary.finished))
            self._interval = interval

    def report_final(self, number: int, report: Report) -> None:
        """Write the metrics of the final evaluation; they replace earlier ones."""
        trial = self._trials[number]
        metrics = report_to_metrics(report)
        is_new = below(trial.metrics, FINAL) != metrics
        points = _points({FINAL + name: value for name, value in metrics.items()}, report.step) if is_new else []
        self._log(trial, points, self._forgotten(report))

    def report_swap(self, report: Report) -> None:
        """Write the metrics of the null baseline to the sweep's run; they replace earlier ones."""
        metrics = report_to_metrics(report)
        if self._swap != metrics:
            points = _points({SWAP + name: value for name, value in metrics.items()}, report.step)
            self._client.log_batch(self.sweep_id, metrics=points)
            self._swap = metrics

    def stop_open_trials(self, reason: str | None) -> None:
        """Mark every trial that has not ended as stopped."""
        for number, trial in self._trials.items():
            if trial.tags[Tag.STATE] not in ENDED:
                self.end_trial(number, TrialState.STOPPED, reason)

    def end(self, state: SweepState, reason: str | None) -> None:
        """Write the sweep's final state."""
        self._client.set_terminated(self.sweep_id, RUN_STATUS[state])
        self._tag_sweep({Tag.STATE: state, Tag.REASON: _short(reason)})

    def log_files(self, files: Mapping[str, bytes]) -> None:
        """Write files to the sweep's artifacts; they replace earlier ones."""
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                (Path(folder) / name).write_bytes(content)
            self._client.log_artifacts(self.sweep_id, folder)

    def _load(self, sweep: Run, trials: Sequence[Run]) -> None:
        """Remember the stored runs. If a repeated request made two runs for one trial, delete the emptier one."""
        self._sweep = sweep
        known = restore(sweep.data.metrics)
        self._front = int(known.get(FINISHED, -1)), int(known.get("front_size", 0)), known.get("hypervolume", 0.0)
        self._swap = below(restore(sweep.data.metrics), SWAP)
        self._interval = dict(sweep.data.metrics)
        self._trials: dict[int, _StoredRun] = {}
        for run in sorted(trials, key=lambda run: len(run.data.metrics) + len(run.data.params), reverse=True):
            number = int(run.data.tags[Tag.TRIAL])
            if number in self._trials:
                self._client.delete_run(run.info.run_id)
            else:
                self._trials[number] = _StoredRun.of(run, found=True)

    def _describe(self, config_yaml: str) -> None:
        """Write the sweep's configuration, environment and running state."""
        missing = _missing_parameters(space_to_parameters(self._space), self._sweep.data.params)
        self._client.log_batch(self.sweep_id, params=missing)
        config = without_credentials(config_yaml).encode()
        self.log_files({SEARCH_SPACE_FILE: config, LOCK_FILE: package_lock().encode()})
        if self._sweep.info.status != RUN_STATUS[SweepState.RUNNING]:
            self._client.update_run(self.sweep_id, status=RUN_STATUS[SweepState.RUNNING])
        tags = {
            Tag.STATE: SweepState.RUNNING,
            Tag.REASON: "",
            Tag.STORAGE: self._folder.uri,
            Tag.TRIALS: _planned(self._space),
            Tag.CHANGES: "\n".join(changes_of(config_yaml))[-MAX_TAG:],
            MLFLOW_RUN_NOTE: describe(self._space),
        }
        self._tag_sweep(tags | version_tags())
        self._client.set_experiment_tag(self._sweep.info.experiment_id, view_tag(self._sweep), trials_view(self._space))

    def _create_trial_run(self, number: int, settings: Settings, searched: Mapping[str, Any]) -> _StoredRun:
        tags = {
            Tag.KIND: TRIAL_KIND,
            Tag.SWEEP: self._space.name,
            Tag.TRIAL: str(number),
            Tag.STATE: TrialState.RUNNING,
            Tag.METHOD: str(METHODS[settings.method]),
            Tag.PARETO: "false",
            Tag.STORAGE: self._folder.uri,
            MLFLOW_PARENT_RUN_ID: self.sweep_id,
            MLFLOW_USER: self._sweep.data.tags[MLFLOW_USER],
            MLFLOW_RUN_NOTE: " · ".join(f"{name} {to_text(value)}" for name, value in searched.items()),
        }
        with one_request():
            run = self._client.create_run(self._sweep.info.experiment_id, tags=tags, run_name=f"trial {number}")
        self._trials[number] = _StoredRun.of(run, found=False)
        return self._trials[number]

    def _score(self, report: Report) -> float:
        return combined_score(report.metrics, self._space.objectives, self._space.constraints)

    def _forgotten(self, report: Report) -> dict[str, str]:
        """Return the tag that says whether a trial counts as forgotten; none if the file does not say what does."""
        selection = self._space.selection
        if not selection.bounds:
            return {}
        return {Tag.FORGOTTEN: "true" if counts_as_forgotten(report.metrics, selection) else "false"}

    def _log_grids(self, trial: _StoredRun, number: int, steps: Sequence[int]) -> None:
        """Log the sample grids, without those that an earlier driver logged before it was killed."""
        logged = self._steps_of_grids(trial.run_id) if trial.found and steps else set()
        for step in sorted(set(steps) - logged):
            folder = step_folder(trial_folder(self._folder, number), step)
            try:
                grid = Image.open(io.BytesIO(folder.read(GRID)))
            except FileNotFoundError:
                log.warning("%s holds no %s, so MLflow shows none for that step of trial %d", folder, GRID, number)
            else:
                self._client.log_image(trial.run_id, grid, key=GRID_KEY, step=step)

    def _steps_of_grids(self, run_id: str) -> set[int]:
        names = [file.path for file in self._client.list_artifacts(run_id, "images")]
        return {int(found[1]) for name in names if (found := re.search(rf"/{GRID_KEY}\Wstep\W(\d+)\W", name))}

    def _log(self, trial: _StoredRun, points: Sequence[Metric], tags: Mapping[str, str]) -> None:
        """Write metric points and changed tags in one request."""
        changed = {key: value for key, value in tags.items() if trial.tags.get(key, "") != value}
        if points or changed:
            self._client.log_batch(trial.run_id, metrics=points, tags=[RunTag(*item) for item in changed.items()])
            trial.metrics |= {point.key: point.value for point in points}
            trial.tags |= changed

    def _tag_sweep(self, tags: dict[str, str]) -> None:
        self._client.log_batch(self.sweep_id, tags=[RunTag(*item) for item in tags.items()])


def _find_sweep_run(store: Store, space: SearchSpace) -> Run | None:
    return next((run for run in store.sweep_runs() if run.data.tags[Tag.SWEEP] == space.name), None)


def _make_sweep_run(store: Store, space: SearchSpace, storage: str) -> Run:
    """Create the sweep's run once, also where the store answers with an error and has created it."""
    for pause in CREATION_PAUSES:
        try:
            return _create_sweep_run(store, space, storage)
        except (MlflowException, SQLAlchemyError, OSError) as error:
            if not is_temporary(error):
                raise
        time.sleep(pause)
        if run := _find_sweep_run(store, space):
            return run
    return _create_sweep_run(store, space, storage)


def _create_sweep_run(store: Store, space: SearchSpace, storage: str) -> Run:
    name = space.tracking.experiment or space.name
    if experiment := store.client.get_experiment_by_name(name):
        experiment_id = experiment.experiment_id
    else:
        kind = {"mlflow.experimentKind": "custom_model_development"}
        with one_request():
            experiment_id = store.client.create_experiment(name, tags=kind)
    tags = {
        Tag.KIND: SWEEP_KIND,
        Tag.SWEEP: space.name,
        Tag.STATE: SweepState.RUNNING,
        Tag.STORAGE: storage,
        Tag.TRIALS: _planned(space),
        MLFLOW_USER: resolve_tags()[MLFLOW_USER],
    }
    with one_request():
        return store.client.create_run(experiment_id, tags=tags, run_name=space.name)


def _planned(space: SearchSpace) -> str:
    return "" if space.budget.trials is None else str(space.budget.trials)


def _points(metrics: Mapping[str, float], step: int) -> list[Metric]:
    now = int(time.time() * 1000)
    return [Metric(name, value, now, step) for name, value in metrics.items()]


def _missing_parameters(texts: Mapping[str, str], stored: Collection[str]) -> list[Param]:
    """Return the parameters that are not stored yet, as MLflow refuses a second value for one."""
    return [Param(name, without_credentials(text)) for name, text in texts.items() if name not in stored]


def _short(reason: str | None) -> str:
    """Return a reason as the value of a tag: without credentials, and short enough for MLflow's pages."""
    return without_credentials(reason or "")[:500]
