"""Layout of the sweep folder `<storage>/<sweep>/`. Imports no torch."""

from sfd_sweep.errors import UserError
from sfd_sweep.storage.errors import storage_errors
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.report import Report

CONFIG = "config.yaml"
REPORT = "report.json"
GRID = "grid.png"
GENERATOR = "generator"
START_GRID = "start.png"
"""Sample grid of the start, in the sweep's folder."""
TRAINING_STATE = "training.safetensors"
TRIALS = "trials"
SWAP = "swap.json"
"""Report of the null baseline."""


def read_config(sweep: Folder) -> str:
    """Return the text of a sweep's kept search-space file.

    Raises:
        UserError: there is no sweep.
    """
    with storage_errors(sweep):
        if not sweep.has(CONFIG):
            raise UserError(f"{sweep}: no sweep is there ({CONFIG} is missing); `sfd-sweep list` shows the sweeps")
        return sweep.read(CONFIG).decode()


def trial_folder(sweep: Folder, number: int) -> Folder:
    """Return `trials/0007`, the folder of one trial."""
    return sweep / TRIALS / f"{number:04d}"


def step_folder(trial: Folder, step: int) -> Folder:
    """Return `step-000060`, the folder of one evaluation, which is complete once it has a report."""
    return trial / f"step-{step:06d}"


def reported_steps(trial: Folder) -> list[int]:
    """Return the steps at which the trial has a report, in order."""
    steps = [int(name.removeprefix("step-")) for name in trial.names() if name.startswith("step-")]
    return [step for step in sorted(steps) if is_reported(trial, step)]


def is_reported(trial: Folder, step: int) -> bool:
    """Return whether the trial has a valid report at that step."""
    try:
        read_report(trial, step)
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return False
    return True


def read_report(trial: Folder, step: int) -> Report:
    """Return the report of one evaluation.

    Raises:
        FileNotFoundError: the trial has no report at that step.
        ValueError: the report is not JSON.
        TypeError: a field is missing or unknown.
    """
    return Report.from_json(step_folder(trial, step).read(REPORT))


def read_swap(sweep: Folder) -> Report | None:
    """Return the report of the null baseline; None before it is evaluated."""
    try:
        return Report.from_json(sweep.read(SWAP))
    except FileNotFoundError:
        return None


def write_swap(sweep: Folder, report: Report) -> None:
    """Store the report of the null baseline."""
    sweep.write(SWAP, report.to_json().encode())


def trials_with_weights(sweep: Folder) -> set[int]:
    """Return the trials that have a generator or a training state, complete or partial."""
    paths = [path.split("/") for path in (sweep / TRIALS).files()]
    return {int(trial) for trial, _step, name, *_ in paths if name.startswith((GENERATOR, TRAINING_STATE))}


def drop_weights(trial: Folder, *, generators: bool) -> None:
    """Remove a trial's training states and optionally its generators, including partial ones."""
    dropped = (TRAINING_STATE, GENERATOR) if generators else (TRAINING_STATE,)
    for step, name in sorted({tuple(path.split("/")[:2]) for path in trial.files()}):
        if name.startswith(dropped):  # a killed worker leaves `training.safetensors.….part`
            (trial / step / name).delete()
