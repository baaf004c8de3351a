"""Search for the settings of Score Forgetting Distillation: what the command line does, for notebooks and scripts.

    import sfd_sweep

    space = sfd_sweep.load_search_space("search_spaces/digits.yaml", ["budget.trials=4"])
    outcome = sfd_sweep.run(space)                    # or sfd_sweep.resume(folder) after an interruption
    results = sfd_sweep.open_sweep(outcome.name)
    results.trials()                                  # a DataFrame, one row a trial
    choice = results.select(knee=True)                # choice.trial, choice.why
    generator = sfd_sweep.load_generator("builtin:digits-distilled")
    images = generator.sample([0, 3, 7], seed=0)      # (3, C, H, W), in [-1, 1]

Whatever the caller can do something about is raised as `UserError`. Importing this module is cheap: torch, Ray and
MLflow are imported by the first call that needs them.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfd_sweep.errors import UserError

if TYPE_CHECKING:
    from sfd_sweep.config.loading import load_search_space
    from sfd_sweep.execution.run import resume, run
    from sfd_sweep.method.generator import OneStepGenerator
    from sfd_sweep.tracking.results import Results

    __version__: str

__all__ = [
    "OneStepGenerator",
    "UserError",
    "__version__",
    "load_generator",
    "load_search_space",
    "open_sweep",
    "resume",
    "run",
]

_HOMES = {
    "OneStepGenerator": "sfd_sweep.method.generator",
    "load_search_space": "sfd_sweep.config.loading",
    "resume": "sfd_sweep.execution.run",
    "run": "sfd_sweep.execution.run",
}
"""Where a name that is imported on its first use is defined."""


def open_sweep(name: str, uri: str | None = None) -> Results:
    """What a finished or running sweep has found so far.

    Args:
        name: the sweep's name.
        uri: MLflow tracking store; None: MLFLOW_TRACKING_URI, else SQLite in the working folder.

    Raises:
        UserError: the store cannot be reached or read, or has no sweep of that name.
    """
    from sfd_sweep.tracking.results import Results

    return Results.read(name, uri)


def load_generator(folder: str | Path) -> OneStepGenerator:
    """The one-step generator in a folder: an exported one, one that `distill` made, or `builtin:digits-distilled`.

    Raises:
        UserError: there is none.
    """
    from sfd_sweep.method.generator import OneStepGenerator

    return OneStepGenerator.load(folder)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("sfd-sweep")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
