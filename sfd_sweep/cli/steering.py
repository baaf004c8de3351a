"""Commands for a sweep that runs in another process: what to try, what to stop, what it does and says."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from sfd_sweep.cli.options import Json, Name, Storage, Trial, Uri
from sfd_sweep.errors import UserError

if TYPE_CHECKING:
    from sfd_sweep.execution.steering import SteeredSweep
    from sfd_sweep.trial.logs import LogReader

FOLLOW_SECONDS = 1.0
WATCH_SECONDS = 2.0
"""Between two looks at a sweep's storage."""


def add(
    name: Name,
    settings: Annotated[
        list[str] | None, typer.Argument(help="Values of searched parameters.", metavar="KEY=VALUE…")
    ] = None,
    *,
    like: Annotated[int | None, typer.Option(help="Take all other values from this trial.", metavar="N")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--change", help="Change a value of the trial of --like; repeatable.", metavar="KEY=VALUE"),
    ] = None,
    storage: Storage = None,
    uri: Uri = None,
) -> None:
    """Add a trial with some settings to a sweep.

    It is the next trial, beyond the budget. The sampler draws what is not given. A running sweep takes it within
    seconds, and `resume` continues one that is not running.
    """
    if changes and like is None:
        raise UserError("--change changes a trial; name it with --like N, or write KEY=VALUE without --change")
    sweep = _steered(name, storage, uri)
    chosen = sweep.add([*(settings or ()), *(changes or ())], like)
    print(f"added: {', '.join(f'{key} {value}' for key, value in chosen.items())}")
    print(_when(sweep))


def stop(
    name: Name,
    *,
    trial: Trial = None,
    now: Annotated[bool, typer.Option("--now", help="Abandon running evaluations.")] = False,
    storage: Storage = None,
    uri: Uri = None,
) -> None:
    """Stop a running sweep, or one trial of it.

    Trials that run train to their next evaluation. `resume` continues a stopped sweep. A stopped trial has ended, and
    is recorded as pruned.
    """
    if now and trial is not None:
        raise UserError("--now stops the whole sweep; leave it out, or --trial")
    _steered(name, storage, uri).stop(trial, now=now)
    what = f"trial {trial} of {name} ends" if trial is not None else f"{name} stops"
    print(f"{what} {'within seconds' if now else 'at its next evaluation'}")


def retry(
    name: Name,
    *,
    failed: Annotated[bool, typer.Option("--failed", help="All failed trials.")] = False,
    trial: Trial = None,
    storage: Storage = None,
    uri: Uri = None,
) -> None:
    """Try failed trials again.

    They are new trials with the same settings, beyond the budget.
    """
    if failed == (trial is not None):
        raise UserError("say what to try again: --failed, or --trial N")
    sweep = _steered(name, storage, uri)
    print(f"tried again: {', '.join(f'trial {number}' for number in sweep.retry(trial))}")
    print(_when(sweep))


def logs(
    name: Name,
    *,
    trial: Trial = None,
    follow: Annotated[bool, typer.Option("--follow", help="Print what comes, until the sweep or Ctrl-C ends.")] = False,
    storage: Storage = None,
    uri: Uri = None,
) -> None:
    """Print the output of a sweep's workers.

    It has the full traceback of each failure.
    """
    from sfd_sweep.trial.logs import LogReader

    sweep = _steered(name, storage, uri)
    if trial is not None:
        sweep.trial(trial)
    reader, last = LogReader(sweep.folder, trial), ""
    with suppress(KeyboardInterrupt):
        while True:
            goes_on = follow and sweep.runs_now()
            last = _print_new(reader, last)
            if not goes_on:
                break
            time.sleep(FOLLOW_SECONDS)
    if not last:
        what = name if trial is None else f"trial {trial} of {name}"
        print(f"no output of {what} is there")


def watch(name: Name, *, as_json: Json = False, storage: Storage = None, uri: Uri = None) -> None:
    """Watch a sweep that another process runs.

    The table stays until the sweep or Ctrl-C ends. Without a terminal, it is printed once.
    """
    from rich.live import Live

    from sfd_sweep.cli.display import Snapshot
    from sfd_sweep.cli.tables import console, print_json

    sweep = _steered(name, storage, uri)
    if as_json:
        print_json(Snapshot(sweep).data())
        return
    if not console.is_terminal:
        console.print(Snapshot(sweep).render())
        return
    with suppress(KeyboardInterrupt), Live(Snapshot(sweep).render(), console=console, auto_refresh=False) as live:
        while sweep.runs:
            time.sleep(WATCH_SECONDS)
            sweep = sweep.again()
            live.update(Snapshot(sweep).render(), refresh=True)


def delete(
    name: Name,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    storage: Storage = None,
    uri: Uri = None,
) -> None:
    """Delete a sweep: its storage, runs, and models.

    A sweep that runs is refused. Exported folders stay. MLflow keeps deleted runs until `mlflow gc`.
    """
    from sfd_sweep.execution.deletion import delete_sweep
    from sfd_sweep.tracking.reader import locate

    if not (yes or sys.stdin.isatty()):
        raise UserError("without a terminal nobody can be asked; --yes deletes without asking")

    def confirm(what: str) -> bool:
        try:
            return yes or input(f"Delete {what}? [y/N] ").strip().lower() in {"y", "yes"}
        except EOFError:
            return False

    delete_sweep(name, locate(name, storage=storage, uri=uri), uri=uri, confirm=confirm)
    print(f"{name} is deleted")


def _print_new(reader: LogReader, last: str) -> str:
    """Print new output, each file under its title; return the last title."""
    for title, text in reader.new():
        if title != last:
            print(f"==> {title} <==")
        print(text, end="", flush=True)
        last = title
    return last


def _steered(name: str, storage: str | None, uri: str | None) -> SteeredSweep:
    from sfd_sweep.execution.steering import SteeredSweep
    from sfd_sweep.tracking.reader import locate

    return SteeredSweep(locate(name, storage=storage, uri=uri))


def _when(sweep: SteeredSweep) -> str:
    name = sweep.space.name
    return f"{name} runs, and takes it next" if sweep.runs else f"`sfd-sweep resume {name}` runs it"
