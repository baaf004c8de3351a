"""A small sweep in an MLflow store, as a driver would have recorded it; its figures are made up."""

import io
from pathlib import Path

from PIL import Image

from sfd_sweep.config import SearchSpace
from sfd_sweep.config.loading import dump_search_space, parse_search_space
from sfd_sweep.search.records import ResourceUsage, SweepState
from sfd_sweep.storage.folder import Folder
from sfd_sweep.tracking.recorder import MlflowRecorder
from sfd_sweep.trial.files import GRID, step_folder, trial_folder
from sfd_sweep.trial.report import Report, TrialState

NAME = "recorded"
SEARCH_SPACE = f"""
name: {NAME}
task: {{teacher: "builtin:digits", forget: [0]}}
trial: {{steps: 20, evaluate_every: 10}}
parameters:
  generator_lr: {{type: float, low: 1.0e-5, high: 1.0e-3, log: true}}
  fake_score_forget_weight: {{type: float, low: 0.01, high: 1}}
  override: {{type: categorical, choices: [1, random]}}
  batch_size: 32
budget: {{trials: 5}}
objectives:
  - {{metric: fd_classifier, goal: minimize, reference_point: 10}}
  - {{metric: unlearning_accuracy, goal: maximize, reference_point: 0}}
constraints: [{{metric: override_distance, max: 40}}]
"""

# By number: distance and unlearning accuracy at the last step, and what became of the trial. 0, 1 and 2 make the front.
TRIALS = {
    0: (1.0, 0.50, TrialState.COMPLETE),
    1: (1.5, 0.95, TrialState.COMPLETE),
    2: (6.0, 0.99, TrialState.COMPLETE),
    3: (7.0, 0.40, TrialState.COMPLETE),
    4: (0.5, 0.99, TrialState.FAILED),
}
KNEE = BEST_SCORE = 1


def space(folder: Path, *overrides: str) -> SearchSpace:
    return parse_search_space(SEARCH_SPACE, "recorded.yaml", [f"storage={folder / 'runs'}", *overrides])


def report(step: int, distance: float, accuracy: float) -> Report:
    return Report(
        step=step,
        metrics={"fd_classifier": distance, "unlearning_accuracy": accuracy, "override_distance": 4.0},
        samples={"retained": 2007, "forgotten": 1000},
        losses={"generator": 0.5, "fake_score": 0.25},
        seconds={"training": 60.0, "evaluating": 2.5, "saving": 0.5, "waiting": 0.25},
    )


def record_sweep(folder: Path, *overrides: str, swap: Report | None = None) -> None:
    """Record it in `mlflow.db` of the folder, which is the working folder."""
    recorded = space(folder, *overrides)
    sweep = Folder.open(folder / "runs") / NAME
    sweep.write("config.yaml", dump_search_space(recorded).encode())
    recorder = MlflowRecorder.open(recorded, sweep, dump_search_space(recorded))
    picture = io.BytesIO()
    Image.new("L", (8, 8)).save(picture, "PNG")
    for number, (distance, accuracy, state) in TRIALS.items():
        searched = {
            "generator_lr": 1e-4 * (number + 1),
            "fake_score_forget_weight": 0.125,
            "override": (1, "random")[number % 2],
        }
        recorder.trial_started(number, recorded.parameters.settings(searched), searched)
        reports = [report(10, distance + 2, accuracy / 2), report(20, distance, accuracy)]
        for told in reports if state is TrialState.COMPLETE else reports[:1]:
            step_folder(trial_folder(sweep, number), told.step).write(GRID, picture.getvalue())
            recorder.trial_reported(number, told)
        recorder.trial_finished(number, state, "diverged at step 13" if state is TrialState.FAILED else None)
    recorder.front_changed([0, 1, 2], 8.0, len(TRIALS), ResourceUsage(0.5, 0.0))
    if swap:
        recorder.swap_reported(swap)
    recorder.close(SweepState.COMPLETE)
