"""The models that a generator comes from, as far as they can still be found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sfd_sweep.config import Task
from sfd_sweep.errors import UserError
from sfd_sweep.export.checksums import sha256
from sfd_sweep.export.description import Origin
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.loading import load_score_model
from sfd_sweep.models.samplers import sample_ddim

Generate = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class Origins:
    """Teacher and start of a task; None where a folder has gone since, or has been broken.

    A generator can be exported without them: its own weights are whole.
    """

    task: Task
    teacher: ModelFolder | None
    start: ModelFolder | None

    @classmethod
    def find(cls, task: Task) -> Origins:
        """Look for them where the search-space file says."""
        teacher = _open(task.teacher)
        return cls(task, teacher, teacher if task.start == "teacher" else _open(task.start))

    def named(self) -> tuple[Origin, Origin]:
        """Teacher and start by name and hash."""
        return _origin(self.task.teacher, self.teacher), _origin(self.task.start, self.start)

    def before(self, device: torch.device, prompts: Sequence[str] = ()) -> Generate | None:
        """What the generator started from, as a generator: in one step, or by DDIM if it is a teacher.

        Args:
            device: where it will be.
            prompts: its conditions, if it reads some.

        Raises:
            UserError: its weights are broken.
        """
        if self.start is None:
            return None
        if self.start.t_init is not None:
            return OneStepGenerator.load(self.start.path, device, prompts=prompts).generate
        model = load_score_model(self.start, device, prompts=prompts)
        return lambda c, noise: sample_ddim(model, c, noise)


def portable(source: str) -> str:
    """A source without its place on this machine: a local folder by its name, `builtin:…` and hub ids as they are."""
    folder = Path(source).expanduser()
    return folder.name if folder.is_absolute() or folder.is_dir() else source


def _open(source: str) -> ModelFolder | None:
    try:
        folder = ModelFolder.open(source)
        _ = folder.parameter_count
    except UserError:
        return None
    return folder


def _origin(source: str, folder: ModelFolder | None) -> Origin:
    if folder is None:
        return Origin(source=portable(source), sha256=None)
    return Origin(
        source=portable(source),
        sha256=sha256(folder.weights),
        licence=folder.licence,
        safety_checker=folder.has_safety_checker,
    )
