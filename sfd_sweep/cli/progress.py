"""The progress of long work: a bar on a terminal, and lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sfd_sweep.errors import Interrupted

SECONDS_BETWEEN_LINES = 60.0
"""Interval of progress lines without a terminal."""


@contextmanager
def stopped_by_ctrl_c(message: Callable[[], str]) -> Iterator[None]:
    """Turn Ctrl-C in the block into `Interrupted` with a message."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(message()) from error


@contextmanager
def progress_bar(what: str, total: int | None = None, *, seconds: float | None = None) -> Iterator[Callable[..., None]]:
    """Show a bar on a terminal, or print a line now and then to stderr.

    Args:
        what: is done.
        total: amount of work; None: unknown until the first call.
        seconds: between two lines; None: a minute.

    Yields:
        A function `advance(done, loss=None, *, total=None, part="")` of the work done and, optionally, the loss, the
        amount of work, and the part that was done last.
    """
    from sfd_sweep.cli.tables import console

    if not console.is_terminal:
        yield _progress_lines(what, total, SECONDS_BETWEEN_LINES if seconds is None else seconds)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    known = total
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=known)

        def advance(done: int, loss: float | None = None, *, total: int | None = None, part: str = "") -> None:
            described = _described(what, loss, part)
            progress.update(task, completed=done, total=known if total is None else total, description=described)

        yield advance


def _progress_lines(what: str, known: int | None, seconds: float) -> Callable[..., None]:
    printed = time.monotonic()

    def advance(done: int, loss: float | None = None, *, total: int | None = None, part: str = "") -> None:
        nonlocal printed
        if time.monotonic() - printed >= seconds:
            printed = time.monotonic()
            total = known if total is None else total
            amount = f"{done:,}" if total is None else f"{done:,} of {total:,}"
            print(f"{_described(what, loss, part)}: {amount}", file=sys.stderr, flush=True)

    return advance


def _described(what: str, loss: float | None, part: str) -> str:
    return what + (f" ({part})" if part else "") + ("" if loss is None else f", loss {loss:.4g}")
