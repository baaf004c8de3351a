"""Hyperparameter sweeps for Score Forgetting Distillation, for notebooks and scripts.

    import sfd_sweep

    space = sfd_sweep.load_search_space("search_spaces/digits.yaml", ["name=digits-in-python"])
    outcome = sfd_sweep.run(space)                    # sfd_sweep.resume(folder) resumes it
    results = sfd_sweep.open_sweep(outcome.name)
    results.trials()                                  # DataFrame with one row for each trial
    sfd_sweep.compare(outcome.name, by="override")    # DataFrame with one row for each value
    selection = results.select(knee=True)             # selection.trial, selection.why
    generator = sfd_sweep.load_generator("builtin:digits-distilled")
    images = generator.sample([0, 3, 7], seed=0)      # (3, C, H, W) in [-1, 1]
    report = sfd_sweep.audit_folder("zero-free")      # attacks that try to bring back what is forgotten
    findings = list(sfd_sweep.verify_folder("zero-free"))

Invalid input raises `UserError`. The first call that needs torch, Ray, or MLflow imports it.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfd_sweep.errors import UserError

if TYPE_CHECKING:
    from sfd_sweep.config.loading import load_search_space
    from sfd_sweep.execution.run import resume, run
    from sfd_sweep.export.folder_audit import audit_folder
    from sfd_sweep.export.verifying import verify_folder
    from sfd_sweep.method.generator import OneStepGenerator
    from sfd_sweep.tracking.comparisons import compare
    from sfd_sweep.tracking.results import Results

    __version__: str

__all__ = [
    "OneStepGenerator",
    "UserError",
    "__version__",
    "audit_folder",
    "compare",
    "load_generator",
    "load_search_space",
    "open_sweep",
    "resume",
    "run",
    "verify_folder",
]

_MODULES = {
    "OneStepGenerator": "sfd_sweep.method.generator",
    "audit_folder": "sfd_sweep.export.folder_audit",
    "compare": "sfd_sweep.tracking.comparisons",
    "load_search_space": "sfd_sweep.config.loading",
    "resume": "sfd_sweep.execution.run",
    "run": "sfd_sweep.execution.run",
    "verify_folder": "sfd_sweep.export.verifying",
}
"""Modules of the names that are imported on first use."""


def open_sweep(name: str, uri: str | None = None) -> Results:
    """Return the results of a finished or running sweep.

    Args:
        name: Name of the sweep.
        uri: MLflow tracking store; None: MLFLOW_TRACKING_URI, or else SQLite in the working folder.

    Raises:
        UserError: The store cannot be read, or has no sweep of that name.
    """
    from sfd_sweep.tracking.results import Results

    return Results.read(name, uri)


def load_generator(folder: str | Path) -> OneStepGenerator:
    """Load a one-step generator: an exported folder, one that `distill` made, or `builtin:digits-distilled`.

    Raises:
        UserError: The folder holds no one-step generator.
    """
    from sfd_sweep.method.generator import OneStepGenerator

    return OneStepGenerator.load(folder)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("sfd-sweep")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
