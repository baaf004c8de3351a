"""What the commands that make models have in common: where a model may be written, and how much of it is done."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sfd_sweep.errors import UserError

DESCRIPTIONS = ("model_index.json", "config.json")  # a folder with one of them holds a model


def check_target(out: Path, force: bool) -> None:
    """Whether a model may be written there; better found out before it is trained.

    Raises:
        UserError: something is there already that is not to be replaced, or the place cannot be written.
    """
    out = out.expanduser().absolute()
    if out.exists():
        if not force:
            raise UserError(f"{out} is there already; choose another folder, or --force to replace it")
        if not any((out / name).is_file() for name in DESCRIPTIONS):
            raise UserError(f"{out} holds no model, so it is not replaced; choose another folder")
    above = next(folder for folder in out.parents if folder.exists())
    if not (above.is_dir() and os.access(above, os.W_OK)):
        raise UserError(f"{out} cannot be made, as {above} is no folder that can be written; choose another")


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Callable[..., None]]:
    """A bar on the terminal; the block says how much is done, and may say at what loss."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from sfd_sweep.cli.tables import console

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)

        def advance(done: int, loss: float | None = None) -> None:
            words = what if loss is None else f"{what}, loss {loss:.4g}"
            progress.update(task, completed=done, description=words)

        yield advance
