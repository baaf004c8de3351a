"""Where a sweep keeps what, below its folder `<storage>/<sweep>/`. Imports no torch."""

from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.report import Report

CONFIG = "config.yaml"  # of a sweep
REPORT = "report.json"
GRID = "grid.png"
GENERATOR = "generator"
TRAINING_STATE = "training.safetensors"
TRIALS = "trials"


def trial_folder(sweep: Folder, number: int) -> Folder:
    """`trials/0007`: everything of one trial."""
    return sweep / TRIALS / f"{number:04d}"


def step_folder(trial: Folder, step: int) -> Folder:
    """`step-000060`: one evaluation of a trial; complete once its report is there."""
    return trial / f"step-{step:06d}"


def reported_steps(trial: Folder) -> list[int]:
    """The steps that the trial has completely reported, in order."""
    steps = [int(name.removeprefix("step-")) for name in trial.names() if name.startswith("step-")]
    return [step for step in sorted(steps) if is_reported(trial, step)]


def is_reported(trial: Folder, step: int) -> bool:
    """Whether the trial has a report at that step; a broken one counts as none."""
    try:
        read_report(trial, step)
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return False
    return True


def read_report(trial: Folder, step: int) -> Report:
    """The report of one evaluation.

    Raises:
        FileNotFoundError: the trial has no report at that step.
        ValueError: it is broken.
        TypeError: it lacks something.
    """
    return Report.from_json(step_folder(trial, step).read(REPORT))


def trials_with_weights(sweep: Folder) -> set[int]:
    """The trials that have a generator or a training state, whole or not."""
    paths = [path.split("/") for path in (sweep / TRIALS).files()]
    return {int(trial) for trial, _step, name, *_ in paths if name in (GENERATOR, TRAINING_STATE)}


def drop_weights(trial: Folder, *, generators: bool) -> None:
    """Remove a trial's training states and, if asked to, its generators, half-written ones too; the rest stays."""
    dropped = (TRAINING_STATE, GENERATOR) if generators else (TRAINING_STATE,)
    for step, name in sorted({(path.split("/")[0], path.split("/")[1]) for path in trial.files()}):
        if name in dropped:
            (trial / step / name).delete()
