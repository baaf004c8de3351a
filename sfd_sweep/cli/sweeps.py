"""Commands that run sweeps, and the one that says what their files may contain."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from sfd_sweep.cli.options import Address, Name, Uri

if TYPE_CHECKING:
    from sfd_sweep.config import SearchSpace
    from sfd_sweep.execution.events import Outcome, SweepObserver


def run(
    file: Annotated[Path, typer.Argument(help="The search-space file (YAML).", metavar="FILE")],
    *,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a key, such as budget.trials=4; repeatable.", metavar="KEY=VALUE"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved plan, and start nothing.")] = False,
    address: Address = "local",
) -> None:
    """Run the sweep that a file describes."""
    from sfd_sweep.config.loading import load_search_space

    space = load_search_space(file, overrides or ())
    if dry_run:
        from sfd_sweep.cli.plan import print_plan
        from sfd_sweep.trial.resolve import resolve_sweep

        plan = resolve_sweep(space)
        print_plan(plan, _earlier(space))
        return
    from sfd_sweep.execution.cluster import is_outside

    if is_outside(address):
        _run_inside(space, address)
    from sfd_sweep.execution.run import run as run_sweep

    _watch(lambda observer: run_sweep(space, address=address, observer=observer))


def resume(
    name: Name,
    *,
    storage: Annotated[
        str | None,
        typer.Option(help="Folder or URI that holds the sweep's folder; otherwise where MLflow says.", metavar="DIR"),
    ] = None,
    uri: Uri = None,
    address: Address = "local",
) -> None:
    """Go on with a sweep that was stopped.

    Trials that have ended stay as they are; the others continue from their last evaluation.
    """
    from sfd_sweep.execution.run import resume as resume_sweep
    from sfd_sweep.tracking.location import locate

    location = locate(name, storage=storage, uri=uri)
    _watch(lambda observer: resume_sweep(location, uri=uri, address=address, observer=observer))


def schema() -> None:
    """Print the search-space file's JSON schema."""
    from sfd_sweep.config.loading import json_schema

    print(json.dumps(json_schema(), indent=2, ensure_ascii=False))


def _earlier(space: SearchSpace) -> list[str]:
    """What the sweep would take over from earlier ones, in words."""
    if not space.search.warm_start:
        return []
    from sfd_sweep.search.warm_start import find_warm_start

    return find_warm_start(space).in_words()


def _run_inside(space: SearchSpace, address: str) -> NoReturn:
    """Hand the sweep over to the cluster, show what it says there, and leave with its exit code."""
    from sfd_sweep.config.loading import dump_search_space
    from sfd_sweep.execution.ray_job import FILE, for_elsewhere, run_inside

    file = dump_search_space(for_elsewhere(space)).encode()
    say = functools.partial(print, end="", flush=True)
    raise typer.Exit(run_inside(address, ["run", FILE], file, say))


def _watch(work: Callable[[SweepObserver], Outcome]) -> None:
    """Show a sweep while it runs, and then what came of it."""
    from sfd_sweep.cli.display import watching
    from sfd_sweep.cli.tables import print_outcome
    from sfd_sweep.tracking.results import Results

    with watching() as view:
        outcome = work(view)
    print_outcome(outcome, Results.read(outcome.name, view.space.tracking.uri).record)
