"""A small sweep to record: its search space, its trials' figures, and what a driver tells the recorder."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sfd_sweep.config import SearchSpace, Settings
from sfd_sweep.config.loading import dump_search_space, parse_search_space
from sfd_sweep.search.records import ResourceUsage
from sfd_sweep.storage.folder import Folder
from sfd_sweep.tracking.recorder import MlflowRecorder
from sfd_sweep.trial.files import GRID, step_folder, trial_folder
from sfd_sweep.trial.report import Report, TrialState

SEARCH_SPACE = """
name: small
task: {teacher: "builtin:digits", forget: [0]}
trial: {steps: 20, evaluate_every: 10}
parameters:
  generator_lr: {type: float, low: 1.0e-5, high: 1.0e-3, log: true}
  forget_weight: {type: float, low: 0.01, high: 1}
  override: {type: categorical, choices: [1, random]}
  batch_size: 32
budget: {trials: 4}
objectives:
  - {metric: fd_classifier, goal: minimize, reference_point: 10}
  - {metric: unlearning_accuracy, goal: maximize, reference_point: 0}
constraints:
  - {metric: override_distance, max: 40}
resources: {workers_per_slot: 2, gpus_per_worker: 0.5}
"""

# By number: distance and unlearning accuracy at step 20, and what became of the trial. 0 and 1 make the front.
TRIALS = {
    0: (1.0, 0.90, TrialState.COMPLETE),
    1: (2.0, 0.99, TrialState.COMPLETE),
    2: (2.5, 0.80, TrialState.COMPLETE),
    3: (0.5, 0.95, TrialState.PRUNED),
}


def search_space(tracking_uri: str, *overrides: str) -> SearchSpace:
    return parse_search_space(SEARCH_SPACE, "small.yaml", [f"tracking.uri={tracking_uri}", *overrides])


def searched(number: int) -> dict[str, float | int | str]:
    return {"generator_lr": 1e-4 * (number + 1), "forget_weight": 0.1, "override": (1, "random")[number % 2]}


def settings(space: SearchSpace, number: int) -> Settings:
    return space.parameters.settings(searched(number))


def report(step: int, distance: float, accuracy: float, override_distance: float = 4.0, samples: int = 2000) -> Report:
    return Report(
        step=step,
        metrics={
            "fd_classifier": distance,
            "unlearning_accuracy": accuracy,
            "override_distance": override_distance,
        },
        samples={"retained": samples, "forgotten": 1000},
        losses={"generator": 0.5, "fake_score": 0.25},
        seconds={"training": 6.0, "evaluating": 2.5, "saving": 0.5, "waiting": 0.25},
        dropped_samples=1,
    )


def grid(shade: int = 128) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((16, 16), shade, dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def open_recorder(space: SearchSpace, folder: Path, **options: Any) -> MlflowRecorder:
    return MlflowRecorder.open(space, Folder.open(folder) / space.name, dump_search_space(space), **options)


def tell_report(recorder: MlflowRecorder, number: int, told: Report) -> None:
    """A report, with the picture that the trial has left in its folder."""
    step_folder(trial_folder(recorder._folder, number), told.step).write(GRID, grid())
    recorder.trial_reported(number, told)


def tell_trial(recorder: MlflowRecorder, space: SearchSpace, number: int) -> None:
    distance, accuracy, state = TRIALS[number]
    recorder.trial_started(number, settings(space, number), searched(number))
    for step in (10, 20) if state is TrialState.COMPLETE else (10,):
        tell_report(recorder, number, report(step, distance + 20 - step, accuracy))
    recorder.trial_finished(number, state, "below the median" if state is TrialState.PRUNED else None)


def tell_sweep(recorder: MlflowRecorder, space: SearchSpace) -> None:
    """Every trial, with the front after each."""
    fronts = {0: [0], 1: [0, 1], 2: [0, 1], 3: [0, 1]}
    volumes = {0: 8.1, 1: 8.82, 2: 8.82, 3: 8.82}
    for number in TRIALS:
        tell_trial(recorder, space, number)
        recorder.front_changed(
            fronts[number], volumes[number], number + 1, ResourceUsage(0.01 * (number + 1), 0.005 * (number + 1))
        )
