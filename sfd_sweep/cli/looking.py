"""Commands that read what sweeps have found."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfd_sweep.cli.options import BestScore, Knee, Max, Min, Number, Uri, choose
from sfd_sweep.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

Name = Annotated[str, typer.Argument(help="the sweep's name", metavar="NAME")]


class Format(StrEnum):
    """How a table is written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"


def list_(uri: Uri = None) -> None:
    """List the sweeps that MLflow has recorded."""
    from sfd_sweep.cli.tables import print_sweeps
    from sfd_sweep.tracking.reader import list_sweeps

    print_sweeps(list_sweeps(uri))


def show(
    name: Name,
    trial: Number = None,
    knee: Knee = False,
    best_score: BestScore = False,
    most: Max = [],  # noqa: B006 (never changed)
    least: Min = [],  # noqa: B006
    uri: Uri = None,
) -> None:
    """Show a sweep's state and trials, or one trial with all its settings and figures."""
    from sfd_sweep.cli.tables import print_sweep, print_trial
    from sfd_sweep.sweep.results import Results

    results = Results.read(name, uri)
    choice = choose(results, trial=trial, knee=knee, best_score=best_score, most=most, least=least)
    if choice:
        print_trial(choice)
    else:
        print_sweep(results.record)


def pareto(
    name: Name,
    format_: Annotated[Format, typer.Option("--format", help="how the front is written")] = Format.TABLE,
    out: Annotated[Path | None, typer.Option(help="file for it, instead of the terminal", metavar="FILE")] = None,
    picture: Annotated[Path | None, typer.Option(help="file for the picture (PNG)", metavar="FILE")] = None,
    trial: Number = None,
    knee: Knee = False,
    best_score: BestScore = False,
    most: Max = [],  # noqa: B006 (never changed)
    least: Min = [],  # noqa: B006
    uri: Uri = None,
) -> None:
    """Show the Pareto front, and say which trial a way of choosing takes and why."""
    from sfd_sweep.cli.tables import print_front
    from sfd_sweep.sweep.results import Results
    from sfd_sweep.tracking.plots import front_png

    results = Results.read(name, uri)
    choice = choose(results, trial=trial, knee=knee, best_score=best_score, most=most, least=least)
    if picture:
        _write(picture, front_png(results.record))
    if format_ is Format.TABLE:
        if out:
            raise UserError("--out needs --format json, csv or parquet")
        print_front(results.record, choice, picture)
        return
    table = results.trials()
    numbers = [choice.trial.number] if choice else [member.number for member in results.front()]
    content = _encoded(table[table["trial"].isin(numbers)], format_)
    if out:
        _write(out, content)
    else:
        sys.stdout.buffer.write(content)
        sys.stdout.flush()


def ui(
    uri: Uri = None,
    port: Annotated[int, typer.Option(help="port on this machine's loopback address")] = 5000,
) -> None:
    """Open MLflow's pages on the recorded sweeps (until Ctrl-C)."""
    import os

    from sfd_sweep.tracking.store import Store, resolve_uri

    place = resolve_uri(uri)
    if place.startswith("http"):
        print(f"The record is on a server already: {Store.open(place).place}")
        return
    Store.open(place)
    print(f"MLflow on http://127.0.0.1:{port} (Ctrl-C ends it)", flush=True)
    arguments = ["-m", "mlflow", "ui", "--backend-store-uri", place, "--host", "127.0.0.1", "--port", str(port)]
    os.execv(sys.executable, [sys.executable, *arguments, "--workers", "1"])


def _encoded(table: pd.DataFrame, format_: Format) -> bytes:
    if format_ is Format.CSV:
        return table.to_csv(index=False).encode()
    if format_ is Format.JSON:
        records = json.loads(table.to_json(orient="records"))
        return (json.dumps(records, indent=2) + "\n").encode()
    from sfd_sweep.tracking.tables import to_parquet

    return to_parquet(table)


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    from sfd_sweep.storage import Folder

    try:
        Folder.open(path.absolute().parent).write(path.name, content)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
