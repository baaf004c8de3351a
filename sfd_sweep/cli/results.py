"""Commands that look at what sweeps have found."""

from __future__ import annotations

import json
import os
import socket
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfd_sweep.cli.options import AtLeast, AtMost, BestScore, Knee, Name, Trial, Uri, choose, write_file
from sfd_sweep.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from sfd_sweep.tracking.results import Results, Selection

LOOPBACK = "127.0.0.1"


class Format(StrEnum):
    """How a table is written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"


def list_sweeps(uri: Uri = None) -> None:
    """List the sweeps that MLflow knows."""
    from sfd_sweep.cli.tables import print_sweeps
    from sfd_sweep.tracking.results import list_sweeps as known_sweeps

    print_sweeps(known_sweeps(uri))


def show(
    name: Name,
    *,
    trial: Trial = None,
    knee: Knee = False,
    best_score: BestScore = False,
    at_most: AtMost = None,
    at_least: AtLeast = None,
    uri: Uri = None,
) -> None:
    """Show a sweep's trials, or one trial in full."""
    from sfd_sweep.cli.tables import print_sweep, print_trial
    from sfd_sweep.tracking.results import Results

    results = Results.read(name, uri)
    choice = choose(results, trial=trial, knee=knee, best_score=best_score, at_most=at_most, at_least=at_least)
    if choice:
        print_trial(choice)
    else:
        print_sweep(results.record)


def pareto(
    name: Name,
    *,
    layout: Annotated[Format, typer.Option("--format", help="How the front is written.")] = Format.TABLE,
    out: Annotated[Path | None, typer.Option(help="File for it, but for a table.", metavar="FILE")] = None,
    picture: Annotated[Path | None, typer.Option(help="File for the picture (PNG).", metavar="FILE")] = None,
    trial: Trial = None,
    knee: Knee = False,
    best_score: BestScore = False,
    at_most: AtMost = None,
    at_least: AtLeast = None,
    uri: Uri = None,
) -> None:
    """Show the front, and which trial to choose.

    With a way of choosing, json, csv and parquet hold that trial alone.
    """
    from sfd_sweep.tracking.results import Results

    _check_output(layout, out)
    results = Results.read(name, uri)
    choice = choose(results, trial=trial, knee=knee, best_score=best_score, at_most=at_most, at_least=at_least)
    if picture:
        from sfd_sweep.tracking.plots import front_png

        write_file(picture, front_png(results.record))
    if layout is Format.TABLE:
        _print_front(results, choice, picture)
        return
    content = _encoded(_rows(results, choice), layout)
    if out:
        write_file(out, content)
    else:
        print(content.decode(), end="")


def ui(
    uri: Uri = None,
    port: Annotated[int, typer.Option(help="Port on this machine alone.", min=1, max=65535)] = 5000,
) -> None:
    """Open MLflow's pages on the recorded sweeps.

    They are served on this machine until Ctrl-C.
    """
    from sfd_sweep.tracking.store import Store

    store = Store.open(uri)
    if store.uri.startswith("http"):
        print(f"MLflow's pages are at {store.place}")
        return
    _check_free(port)
    print(f"MLflow's pages of {store.place} are at http://{LOOPBACK}:{port} (Ctrl-C ends them)", flush=True)
    os.environ["MLFLOW_BACKEND_STORE_URI"] = store.uri  # not as an argument, which everyone on the machine can read
    server = ["-m", "mlflow", "ui", "--host", LOOPBACK, "--port", str(port), "--workers", "1"]
    os.execv(sys.executable, [sys.executable, *server])


def _check_output(layout: Format, out: Path | None) -> None:
    if layout is Format.TABLE and out:
        raise UserError("--out is for --format json, csv or parquet; a table goes to the terminal")
    if layout is Format.PARQUET and not out:
        raise UserError("--format parquet is nothing for a terminal; name a file with --out")


def _print_front(results: Results, choice: Selection | None, picture: Path | None) -> None:
    from sfd_sweep.cli.tables import console, print_front

    print_front(results.record, choice)
    if picture:
        console.print(f"\nPicture: {picture}")
    else:
        run = results.record.summary.name
        console.print(f"\nPicture: `--picture FILE` writes it; MLflow has it as front.png of the run {run}.")


def _rows(results: Results, choice: Selection | None) -> pd.DataFrame:
    """The front's rows of the table of trials, in its order, or the row of the chosen trial."""
    members = [choice.trial] if choice else results.front()
    return results.trials().set_index("trial", drop=False).loc[[member.number for member in members]]


def _encoded(table: pd.DataFrame, layout: Format) -> bytes:
    from sfd_sweep.tracking.tables import to_parquet

    match layout:
        case Format.CSV:
            return table.to_csv(index=False).encode()
        case Format.PARQUET:
            return to_parquet(table)
    return (json.dumps(json.loads(table.to_json(orient="records")), indent=2, ensure_ascii=False) + "\n").encode()


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise UserError(f"port {port} is not to be had ({error.strerror}); choose another with --port") from error
