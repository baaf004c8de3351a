"""A small sweep that has really been trained, evaluated and recorded, one trial after another in a plain loop."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from sfd_sweep.config import SearchSpace
from sfd_sweep.config.loading import dump_search_space, parse_search_space
from sfd_sweep.models.folder import ASSETS
from sfd_sweep.search.records import SweepState
from sfd_sweep.storage.folder import Folder
from sfd_sweep.tracking.recorder import MlflowRecorder
from sfd_sweep.tracking.results import Results
from sfd_sweep.trial.files import trial_folder
from sfd_sweep.trial.report import TrialState
from sfd_sweep.trial.resolve import resolve_sweep
from sfd_sweep.trial.runner import TrialContext, TrialRunner

SEARCH_SPACE = """
name: small
task: {{teacher: "{folder}/teacher", start: "builtin:digits-distilled", forget: ["0"]}}
trial: {{steps: 4, evaluate_every: 2, seed: 5}}
parameters:
  forget_weight: {{type: float, low: 0.01, high: 3}}
  generator_lr: 1.0e-4
  override: 1
  batch_size: 8
  forget_batch_size: 4
  ema_decay: 0.5
budget: {{trials: 4}}
objectives:
  - {{metric: fd_classifier, goal: minimize, reference_point: 50}}
  - {{metric: unlearning_accuracy, goal: maximize, reference_point: 0}}
evaluation: {{samples: 90, forget_samples: 50, final_samples: 180, seed: 2, classifier: "{folder}/evaluator"}}
audit: {{control: "builtin:digits-without-0"}}
tracking: {{uri: "sqlite:///{folder}/mlflow.db"}}
storage: "{folder}/runs"
"""
FRONT, PRUNED, FAILED, LOST = range(4)
FORGET_WEIGHTS = {FRONT: 1.0, PRUNED: 0.5, LOST: 0.02}


@dataclass(frozen=True)
class Sweep:
    """A recorded sweep, and where everything of it is."""

    results: Results
    folder: Path

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder / 'mlflow.db'}"


def search_space(folder: Path, *overrides: str) -> SearchSpace:
    return parse_search_space(SEARCH_SPACE.format(folder=folder), "small.yaml", overrides)


def record_sweep(folder: Path, *overrides: str) -> Sweep:
    """Trial 0 is complete and has a final evaluation; 1 was pruned; 2 failed at once; 3 has lost its weights.

    With this seed of the evaluation, 3 is on the front beside 0.
    """
    shutil.copytree(ASSETS / "digits" / "teacher", folder / "teacher")
    shutil.copytree(ASSETS / "digits" / "classifier", folder / "evaluator")
    space = search_space(folder, *overrides)
    sweep = Folder.open(space.storage) / space.name
    context = TrialContext.build(resolve_sweep(space), None)
    recorder = MlflowRecorder.open(space, sweep, dump_search_space(space))
    for number, weight in FORGET_WEIGHTS.items():
        _run(context, recorder, sweep, number, weight, steps=(2,) if number == PRUNED else (2, 4))
    recorder.trial_started(FAILED, space.parameters.settings({"forget_weight": 3.0}), {"forget_weight": 3.0})
    recorder.trial_finished(FAILED, TrialState.FAILED, "it diverged")
    settings = space.parameters.settings({"forget_weight": FORGET_WEIGHTS[FRONT]})
    recorder.final_reported(
        FRONT, context.evaluate_final(settings, trial_folder(sweep, FRONT), samples=180, forget_samples=100)
    )
    recorder.close(SweepState.STOPPED)
    trial_folder(sweep, LOST).delete()
    return Sweep(Results.read(space.name, space.tracking.uri), folder)


def _run(
    context: TrialContext, recorder: MlflowRecorder, sweep: Folder, number: int, weight: float, steps: tuple[int, ...]
) -> None:
    searched = {"forget_weight": weight}
    settings = context.plan.space.parameters.settings(searched)
    folder = trial_folder(sweep, number)
    trial = TrialRunner(context, settings, folder)
    recorder.trial_started(number, settings, searched)
    for step in steps:
        report = trial.advance(step)
        recorder.trial_reported(number, report)
    state = TrialState.PRUNED if number == PRUNED else TrialState.COMPLETE
    recorder.trial_finished(number, state, None)
