"""What the commands that make models have in common: names of classes, where a model may be written, and progress."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sfd_sweep.errors import UserError

CLASSES = {
    "cifar10": "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck",
    "stl10": "airplane,bird,car,cat,deer,dog,horse,monkey,ship,truck",
}
SECONDS_BETWEEN_LINES = 60.0  # of progress, where no terminal shows a bar
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


def parse_class_names(given: str) -> tuple[str, ...]:
    """The names of the classes, by index, that are meant by the name of a known dataset or by a list with commas.

    Raises:
        UserError: one is empty, or there twice.
    """
    names = tuple(name.strip() for name in CLASSES.get(given, given).split(","))
    if not all(names) or len(set(names)) < len(names):
        raise UserError(f"--class-names {given!r}: every class needs a name of its own, separated by commas")
    return names


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Callable[..., None]]:
    """A bar on the terminal, or a line a minute on stderr if there is none.

    The block says how much is done, and may say at what loss.
    """
    from sfd_sweep.cli.tables import console

    if not console.is_terminal:
        yield _progress_lines(what, total)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=total)

        def advance(done: int, loss: float | None = None) -> None:
            progress.update(task, completed=done, description=_at_loss(what, loss))

        yield advance


def _progress_lines(what: str, total: int) -> Callable[..., None]:
    said = time.monotonic()

    def advance(done: int, loss: float | None = None) -> None:
        nonlocal said
        if time.monotonic() - said >= SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            print(f"{_at_loss(what, loss)}: {done:,} of {total:,}", file=sys.stderr, flush=True)

    return advance


def _at_loss(what: str, loss: float | None) -> str:
    return what if loss is None else f"{what}, loss {loss:.4g}"
