"""Commands that run sweeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sfd_sweep.cli.options import Address, Uri
from sfd_sweep.errors import UserError


def run(
    file: Annotated[Path, typer.Argument(help="search-space file (YAML)", metavar="FILE")],
    overrides: Annotated[
        list[str], typer.Option("--set", help="override a key, such as search.trials=4", metavar="KEY=VALUE")
    ] = [],  # noqa: B006 (never changed)
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the resolved plan, and start nothing")] = False,
    address: Address = "local",
) -> None:
    """Run a sweep."""
    from sfd_sweep.config import load_search_space

    space = load_search_space(file, overrides)
    if dry_run:
        from sfd_sweep.cli.tables import print_plan
        from sfd_sweep.trial.plan import make_plan

        print_plan(make_plan(space))
        return
    from sfd_sweep.cli.display import display
    from sfd_sweep.sweep.run import run as run_sweep

    with display() as observer:
        run_sweep(space, address=address, observer=observer)


def resume(
    name: Annotated[str, typer.Argument(help="the sweep's name", metavar="NAME")],
    storage: Annotated[
        Path | None, typer.Option(help="the folder that holds the sweep's own; otherwise as recorded", metavar="DIR")
    ] = None,
    uri: Uri = None,
    address: Address = "local",
) -> None:
    """Go on with a sweep that was stopped or killed. Finished trials stay."""
    from sfd_sweep.cli.display import display
    from sfd_sweep.sweep.run import resume as resume_sweep

    location = str(storage / name) if storage else _recorded_folder(name, uri)
    with display() as observer:
        resume_sweep(location, address=address, observer=observer)


def schema() -> None:
    """Print the JSON schema of the search-space file."""
    from sfd_sweep.config import json_schema

    print(json.dumps(json_schema(), indent=2))


def _recorded_folder(name: str, uri: str | None) -> str:
    """Where the record, or else the default storage, has the sweep."""
    default = Path("runs") / name
    if default.is_dir():
        return str(default)
    from sfd_sweep.tracking.reader import read_sweep

    try:
        return read_sweep(uri, name).summary.storage
    except UserError as error:
        raise UserError(f"{error}; if the record is lost, name the storage: `--storage DIR`") from error
