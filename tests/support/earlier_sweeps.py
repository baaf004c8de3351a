"""Sweeps that another sweep may start from, in a tracking store."""

from pathlib import Path

from stub_runtime import figures, make_space, picture

from sfd_sweep.config.loading import dump_search_space
from sfd_sweep.search.records import SweepState
from sfd_sweep.storage.folder import Folder
from sfd_sweep.tracking.recorder import MlflowRecorder
from sfd_sweep.trial.files import GRID, step_folder, trial_folder
from sfd_sweep.trial.report import Report, TrialState

DRAWN = [
    {"guidance_scale": 1.5, "generator_lr": 1e-4, "override": 1},
    {"guidance_scale": 1.25, "generator_lr": 2e-4, "override": "random"},
    {"guidance_scale": 2.5, "generator_lr": 1e-4, "override": 1},
]
POINT = "search.first=[{guidance_scale: 1.5, generator_lr: 1.0e-4, override: 1}]"


def record_sweep(folder: Path, *overrides: str) -> None:
    """Record three complete trials with the settings `DRAWN`, and one that was pruned, in the folder's database."""
    space = make_space(
        folder, f"tracking.uri=sqlite:///{folder}/mlflow.db", "parameters.guidance_scale.high=3", *overrides
    )
    sweep = Folder.open(folder) / space.name
    recorder = MlflowRecorder.open(space, sweep, dump_search_space(space))
    for number, drawn in enumerate([*DRAWN, DRAWN[0]]):
        settings, complete = space.parameters.settings(drawn), number < 3
        step = space.trial.steps if complete else 2
        recorder.trial_started(number, settings, drawn)
        report = Report(step, figures(settings, step), {"retained": 100}, {}, {"training": 1.0, "waiting": 0.0})
        step_folder(trial_folder(sweep, number), step).write(GRID, picture())
        recorder.trial_reported(number, report)
        recorder.trial_finished(number, TrialState.COMPLETE if complete else TrialState.PRUNED, None)
    recorder.close(SweepState.STOPPED)
