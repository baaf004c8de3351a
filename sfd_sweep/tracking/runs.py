"""The runs of one sweep in MLflow: a parent, and a child a trial. Every write may be repeated."""

import io
import logging
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_USER
from PIL import Image

from sfd_sweep.config import SearchSpace, Settings
from sfd_sweep.errors import UserError
from sfd_sweep.search.objectives import combined_score
from sfd_sweep.search.records import ResourceUsage, SweepState
from sfd_sweep.storage.credentials import without_credentials
from sfd_sweep.storage.folder import Folder
from sfd_sweep.tracking.environment import package_lock, version_tags
from sfd_sweep.tracking.schema import (
    FINAL,
    FINISHED,
    SCORE,
    SEARCH_SPACE_FILE,
    SLOT_HOURS,
    STEP,
    SWEEP_KIND,
    TRIAL_KIND,
    Tag,
    below,
    report_to_metrics,
    restore,
    settings_to_parameters,
    space_to_parameters,
    sweep_metrics,
    to_text,
)
from sfd_sweep.tracking.store import Store
from sfd_sweep.trial.files import GRID, step_folder, trial_folder
from sfd_sweep.trial.report import Report, TrialState

log = logging.getLogger(__name__)

ENDED = {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED}
RUN_STATUS = {"running": "RUNNING", "complete": "FINISHED", "failed": "FAILED", "pruned": "KILLED", "stopped": "KILLED"}
GRID_KEY = "grid"
LOCK_FILE = "environment.txt"


@dataclass
class _TrialRun:
    """What the store holds of a trial."""

    run_id: str
    found: bool
    tags: dict[str, str]
    parameters: dict[str, str]
    metrics: dict[str, float]

    @classmethod
    def of(cls, run: Run, *, found: bool) -> "_TrialRun":
        return cls(run.info.run_id, found, dict(run.data.tags), dict(run.data.params), restore(run.data.metrics))


class SweepRuns:
    """Writes a sweep's runs. What the store holds is known from one look at it, so that nothing is written twice.

    Args:
        store: the tracking store.
        space: the sweep.
        sweep_folder: where the sweep keeps its trials.
        sweep: its parent run.
        trials: its child runs.
    """

    def __init__(
        self, store: Store, space: SearchSpace, sweep_folder: Folder, sweep: Run, trials: Sequence[Run]
    ) -> None:
        self.sweep_id = sweep.info.run_id
        self._store = store
        self._client = store.client
        self._space = space
        self._folder = sweep_folder
        self._trials: dict[int, _TrialRun] = {}
        self._finished = -1
        self._know(sweep, trials)

    @classmethod
    def open(
        cls, store: Store, space: SearchSpace, sweep_folder: Folder, config_yaml: str, *, resume: bool
    ) -> "SweepRuns":
        """Make the sweep's experiment and parent run, or find them.

        Args:
            sweep_folder: where the sweep keeps its trials.
            config_yaml: the resolved search-space file.
            resume: whether a sweep of that name may be there already.

        Raises:
            UserError: a sweep of that name is there, and this is none of its resumption.
        """
        sweep = next((run for run in store.sweep_runs() if run.data.tags[Tag.SWEEP] == space.name), None)
        if sweep and not resume:
            raise UserError(
                f"a sweep named {space.name!r} is already in MLflow at {store.place}: `sfd-sweep resume {space.name}` "
                "goes on with it; a new one needs another name (`--set name=…`)"
            )
        if sweep:
            runs = cls(store, space, sweep_folder, sweep, store.trial_runs(sweep))
            runs._describe(config_yaml)
            return runs
        runs = cls(store, space, sweep_folder, _create_sweep_run(store, space, sweep_folder.uri), ())
        with ExitStack() as undo:
            undo.callback(store.client.delete_run, runs.sweep_id)
            runs._describe(config_yaml)
            undo.pop_all()
        return runs

    def look_again(self) -> None:
        """Learn what the store holds, after a write of which nobody knows whether it was made."""
        sweep = self._client.get_run(self.sweep_id)
        self._know(sweep, self._store.trial_runs(sweep))

    def start_trial(self, number: int, settings: Settings, searched: dict[str, Any]) -> None:
        """Make the trial's run with its settings; one that had been stopped is running again."""
        trial = self._trials.get(number) or self._create_trial_run(number, searched)
        parameters = settings_to_parameters(settings)
        missing = {name: text for name, text in parameters.items() if name not in trial.parameters}
        if missing:
            self._client.log_batch(trial.run_id, params=_parameters(missing))
            trial.parameters |= missing
        if trial.tags[Tag.STATE] == TrialState.STOPPED:
            self._client.update_run(trial.run_id, status=RUN_STATUS[TrialState.RUNNING])
            self._log(trial, [], {Tag.STATE: TrialState.RUNNING, Tag.REASON: ""})

    def report_trial(self, number: int, reports: Sequence[tuple[Report, float]]) -> None:
        """Write evaluations, in the order of their steps: their grids as images, then all figures at once.

        Args:
            reports: each with the seconds that the trial has waited for a slot before it.
        """
        trial = self._trials[number]
        known = trial.metrics.get(STEP, -1)
        new = [(report, waiting) for report, waiting in reports if report.step > known]
        self._log_grids(trial, number, [report.step for report, _ in new])
        points: list[Metric] = []
        slot_hours = trial.metrics.get(SLOT_HOURS, 0.0)
        for report, waiting in new:
            slot_hours += sum(report.seconds.values()) / 3600
            figures = {"seconds/waiting": waiting, SCORE: self._score(report), SLOT_HOURS: slot_hours}
            points += _points(report_to_metrics(report) | figures, report.step)
        last = reports[-1][0]
        self._log(trial, points, {Tag.SCORE: f"{self._score(last):.6g}"} if last.step >= known else {})

    def end_trial(self, number: int, state: TrialState, reason: str | None) -> None:
        """Write what has become of the trial."""
        trial = self._trials[number]
        if trial.tags[Tag.STATE] != state:
            self._client.set_terminated(trial.run_id, RUN_STATUS[state])
            self._log(trial, [], {Tag.STATE: state, Tag.REASON: _short(reason)})

    def mark_front(self, front: Sequence[int], hypervolume: float, finished: int, spent: ResourceUsage) -> None:
        """Tag the trials of the front, and write the sweep's figures after so many finished trials."""
        members = set(front)
        for number, trial in self._trials.items():
            self._log(trial, [], {Tag.PARETO: "true" if number in members else "false"})
        if finished <= self._finished:
            return
        self._finished = finished
        slot_hours = sum(
            trial.metrics.get(SLOT_HOURS, 0.0)
            for trial in self._trials.values()
            if trial.tags[Tag.STATE] != TrialState.RUNNING
        )
        metrics = sweep_metrics(len(front), hypervolume, finished, slot_hours, spent)
        self._client.log_batch(self.sweep_id, metrics=_points(metrics, finished))

    def judge_trial(self, number: int, report: Report) -> None:
        """Write the figures of the judgement at more samples, in place of earlier ones."""
        trial = self._trials[number]
        metrics = report_to_metrics(report)
        if below(trial.metrics, FINAL) != metrics:
            self._log(trial, _points({FINAL + name: value for name, value in metrics.items()}, report.step), {})

    def stop_open_trials(self, reason: str | None) -> None:
        """Mark the trials that have not ended as stopped."""
        for number, trial in self._trials.items():
            if trial.tags[Tag.STATE] not in ENDED:
                self.end_trial(number, TrialState.STOPPED, reason)

    def end(self, state: SweepState, reason: str | None) -> None:
        """Write what has become of the sweep."""
        self._client.set_terminated(self.sweep_id, RUN_STATUS[state])
        self._tag_sweep({Tag.STATE: state, Tag.REASON: _short(reason)})

    def log_files(self, files: Mapping[str, bytes]) -> None:
        """Put files among the sweep's artifacts, in place of earlier ones."""
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                (Path(folder) / name).write_bytes(content)
            self._client.log_artifacts(self.sweep_id, folder)

    def _know(self, sweep: Run, trials: Sequence[Run]) -> None:
        """Take down what the store holds. Of two runs for a trial, made by a request that was made twice, the one that
        holds less is deleted."""
        self._sweep = sweep
        self._finished = int(sweep.data.metrics.get(FINISHED, -1))
        self._trials = {}
        for run in sorted(trials, key=lambda run: len(run.data.metrics) + len(run.data.params), reverse=True):
            number = int(run.data.tags[Tag.TRIAL])
            if number in self._trials:
                self._client.delete_run(run.info.run_id)
            else:
                self._trials[number] = _TrialRun.of(run, found=True)

    def _describe(self, config_yaml: str) -> None:
        """Say that the sweep runs, what it is and what it runs on. MLflow's parameters keep their first value."""
        settled = self._sweep.data.params
        parameters = {name: text for name, text in space_to_parameters(self._space).items() if name not in settled}
        self._client.log_batch(self.sweep_id, params=_parameters(parameters))
        config = without_credentials(config_yaml)
        self.log_files({SEARCH_SPACE_FILE: config.encode(), LOCK_FILE: package_lock().encode()})
        if self._sweep.info.status != RUN_STATUS[SweepState.RUNNING]:
            self._client.update_run(self.sweep_id, status=RUN_STATUS[SweepState.RUNNING])
        tags = {
            Tag.STATE: SweepState.RUNNING,
            Tag.REASON: "",
            Tag.STORAGE: self._folder.uri,
            Tag.TRIALS: _planned(self._space),
            "mlflow.note.content": _in_words(self._space),
        }
        self._tag_sweep(tags | version_tags())

    def _create_trial_run(self, number: int, searched: Mapping[str, Any]) -> _TrialRun:
        tags = {
            Tag.KIND: TRIAL_KIND,
            Tag.SWEEP: self._space.name,
            Tag.TRIAL: str(number),
            Tag.STATE: TrialState.RUNNING,
            Tag.PARETO: "false",
            Tag.STORAGE: self._folder.uri,
            MLFLOW_PARENT_RUN_ID: self.sweep_id,
            MLFLOW_USER: self._sweep.data.tags[MLFLOW_USER],
            "mlflow.note.content": " · ".join(f"{name} {to_text(value)}" for name, value in searched.items()),
        }
        run = self._client.create_run(self._sweep.info.experiment_id, tags=tags, run_name=f"trial {number}")
        self._trials[number] = _TrialRun.of(run, found=False)
        return self._trials[number]

    def _score(self, report: Report) -> float:
        return combined_score(report.metrics, self._space.objectives, self._space.constraints)

    def _log_grids(self, trial: _TrialRun, number: int, steps: Sequence[int]) -> None:
        """MLflow's page shows the images of a name by step. One that was left by a killed driver is not repeated."""
        logged = self._steps_of_grids(trial.run_id) if trial.found and steps else set()
        for step in steps:
            if step not in logged:
                folder = step_folder(trial_folder(self._folder, number), step)
                try:
                    grid = folder.read(GRID)
                except FileNotFoundError:
                    log.warning("%s holds no %s, so MLflow shows none for that step of trial %d", folder, GRID, number)
                else:
                    self._client.log_image(trial.run_id, Image.open(io.BytesIO(grid)), key=GRID_KEY, step=step)

    def _steps_of_grids(self, run_id: str) -> set[int]:
        names = [file.path for file in self._client.list_artifacts(run_id, "images")]
        return {int(found[1]) for name in names if (found := re.search(rf"/{GRID_KEY}\Wstep\W(\d+)\W", name))}

    def _log(self, trial: _TrialRun, points: Sequence[Metric], tags: Mapping[str, str]) -> None:
        """Write points, and those of the tags that are not as they should be, at once."""
        changed = {key: value for key, value in tags.items() if trial.tags.get(key, "") != value}
        if points or changed:
            self._client.log_batch(trial.run_id, metrics=points, tags=[RunTag(*item) for item in changed.items()])
            trial.metrics |= {point.key: point.value for point in points}
            trial.tags |= changed

    def _tag_sweep(self, tags: dict[str, str]) -> None:
        self._client.log_batch(self.sweep_id, tags=[RunTag(*item) for item in tags.items()])


def _create_sweep_run(store: Store, space: SearchSpace, storage: str) -> Run:
    family = space.tracking.experiment or space.name
    experiment = store.client.get_experiment_by_name(family)
    experiment_id = (
        experiment.experiment_id
        if experiment
        else store.client.create_experiment(family, tags={"mlflow.experimentKind": "custom_model_development"})
    )
    tags = {
        Tag.KIND: SWEEP_KIND,
        Tag.SWEEP: space.name,
        Tag.STATE: SweepState.RUNNING,
        Tag.STORAGE: storage,
        Tag.TRIALS: _planned(space),
        MLFLOW_USER: resolve_tags()[MLFLOW_USER],
    }
    return store.client.create_run(experiment_id, tags=tags, run_name=space.name)


def _in_words(space: SearchSpace) -> str:
    aims = [f"{objective.goal} {objective.metric}" for objective in space.objectives]
    bounds = [f"{bound.metric} in [{_end(bound.min)}, {_end(bound.max)}]" for bound in space.constraints]
    forgotten = ", ".join(map(str, space.task.forget))
    return (
        f"Forget **{forgotten}** of `{space.task.teacher}`: {', '.join(aims)}"
        f"{', with ' + ', '.join(bounds) if bounds else ''}. "
        f"{space.budget}, a trial of {space.trial.steps} steps, {space.search.sampler} sampler."
    )


def _planned(space: SearchSpace) -> str:
    return "" if space.budget.trials is None else str(space.budget.trials)


def _end(bound: float | None) -> str:
    return "…" if bound is None else f"{bound:g}"


def _points(metrics: Mapping[str, float], step: int) -> list[Metric]:
    now = int(time.time() * 1000)
    return [Metric(name, value, now, step) for name, value in metrics.items()]


def _parameters(texts: Mapping[str, str]) -> list[Param]:
    return [Param(name, without_credentials(text)) for name, text in texts.items()]


def _short(reason: str | None) -> str:
    """A reason as a tag: without credentials, and no longer than a page of MLflow's shows well."""
    return without_credentials(reason or "")[:500]
