"""Commands that show and export the results of recorded sweeps."""

from __future__ import annotations

import json
import os
import socket
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sfd_sweep.cli.options import (
    AtLeast,
    AtMost,
    BestScore,
    Force,
    Json,
    Knee,
    Name,
    Out,
    Trial,
    Uri,
    check_file,
    one_thread,
    select,
    write_file,
)
from sfd_sweep.cli.progress import progress_bar, stopped_by_ctrl_c
from sfd_sweep.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from sfd_sweep.tracking.results import Results, Selection

LOOPBACK = "127.0.0.1"


def list_sweeps(*, as_json: Json = False, uri: Uri = None) -> None:
    """List the recorded sweeps."""
    from sfd_sweep.cli.tables import print_json, print_sweeps
    from sfd_sweep.tracking.reader import list_sweeps as recorded_sweeps

    (print_json if as_json else print_sweeps)(recorded_sweeps(uri))


def show(
    name: Name,
    *,
    trial: Trial = None,
    knee: Knee = False,
    best_score: BestScore = False,
    at_most: AtMost = None,
    at_least: AtLeast = None,
    as_json: Json = False,
    uri: Uri = None,
) -> None:
    """Show the trials of a sweep, or one trial in full."""
    from sfd_sweep.cli.tables import print_json, print_sweep, print_trial, sweep_data
    from sfd_sweep.tracking.results import Results

    results = Results.read(name, uri)
    selection = select(results, trial=trial, knee=knee, best_score=best_score, at_most=at_most, at_least=at_least)
    if as_json:
        print_json(selection or sweep_data(results.record))
    elif selection:
        print_trial(selection)
    else:
        print_sweep(results.record)


def pareto(
    name: Name,
    *,
    layout: Annotated[
        Literal["table", "json", "csv", "parquet"], typer.Option("--format", help="Format of the front.")
    ] = "table",
    as_json: Json = False,
    out: Annotated[Path | None, typer.Option(help="Output file for json, csv, or parquet.", metavar="FILE")] = None,
    picture: Annotated[Path | None, typer.Option(help="Output file for a picture (PNG).", metavar="FILE")] = None,
    trial: Trial = None,
    knee: Knee = False,
    best_score: BestScore = False,
    at_most: AtMost = None,
    at_least: AtLeast = None,
    uri: Uri = None,
) -> None:
    """Show the front, and select a trial.

    With a selection, json, csv, and parquet contain the selected trial only.
    """
    from sfd_sweep.cli.tables import console, print_front
    from sfd_sweep.tracking.results import Results

    layout = "json" if as_json else layout
    if layout == "table" and out:
        raise UserError("--out is for --format json, csv, or parquet; a table is printed")
    if layout == "parquet" and not out:
        raise UserError("--format parquet is binary; name a file with --out")
    results = Results.read(name, uri)
    selection = select(results, trial=trial, knee=knee, best_score=best_score, at_most=at_most, at_least=at_least)
    if picture:
        from sfd_sweep.tracking.pictures import front_png

        write_file(picture, front_png(results.record))
    if layout == "table":
        print_front(results.record, selection)
        advice = f"`--picture FILE` writes it; MLflow has it as front.png of the run {results.record.summary.name}."
        console.print(f"\nPicture: {picture or advice}")
        return
    content = _encoded(_rows(results, selection), layout)
    if out:
        write_file(out, content)
    else:
        print(content.decode(), end="")


def report(
    name: Name,
    *,
    out: Annotated[Path, typer.Option(help="Page to write.", metavar="FILE")] = Path("report.html"),
    open_it: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    uri: Uri = None,
) -> None:
    """Write a page to choose a generator by eye.

    The page is one file and needs no network.
    """
    from sfd_sweep.cli.tables import console
    from sfd_sweep.storage.folder import Folder
    from sfd_sweep.tracking.reader import read_reports
    from sfd_sweep.tracking.report_page import report_html
    from sfd_sweep.tracking.results import Results
    from sfd_sweep.tracking.stored_samples import StoredSamples

    check_file(out)
    record = Results.read(name, uri).record
    reports = read_reports(uri, record.trials)
    samples = StoredSamples(Folder.open(record.summary.storage))
    content = report_html(record, reports, samples, uri or record.space.tracking.uri)
    write_file(out, content)
    without = [trial.number for trial in record.trials if trial.report and not samples.grid(trial)]
    if without:
        console.print(f"The storage {record.summary.storage} has no samples of trials {', '.join(map(str, without))}.")
    console.print(f"{out} has the {len(record.trials)} trials of {name} ({len(content) / 1e6:.1f} MB).")
    if open_it:
        webbrowser.open(out.expanduser().absolute().as_uri())


def export(
    name: Name,
    *,
    out: Out,
    trial: Trial = None,
    knee: Knee = False,
    best_score: BestScore = False,
    at_most: AtMost = None,
    at_least: AtLeast = None,
    alias: Annotated[str, typer.Option(help="Alias in MLflow's model registry.")] = "champion",
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Export a generator that does not count as forgotten; its card says so.")
    ] = False,
    audit: Annotated[
        Literal["none", "quick", "full"],
        typer.Option(help="Attacks that try to bring back what is forgotten before the folder appears."),
    ] = "quick",
    force: Force = False,
    uri: Uri = None,
) -> None:
    """Export the generator of a trial as a folder.

    The folder is evaluated again and audited before it gets its name, and registered in MLflow. A trial outside of the
    file's `selection` is refused.
    """
    from sfd_sweep.audit.summary import headline
    from sfd_sweep.cli.tables import console, print_metrics
    from sfd_sweep.export.exporting import export_trial
    from sfd_sweep.tracking.results import Results

    results = Results.read(name, uri)
    selection = select(results, trial=trial, knee=knee, best_score=best_score, at_most=at_most, at_least=at_least)
    if selection is None:
        raise UserError("select a trial: --trial N, --knee, --best-score, --max METRIC=VALUE, or --min METRIC=VALUE")
    one_thread()
    console.print(selection.why)
    message = f"the export was stopped, and {out} was not written; attacks that had ended are not made again"
    with stopped_by_ctrl_c(lambda: message), progress_bar("auditing", seconds=10.0) as advance:
        exported = export_trial(
            results,
            selection,
            out,
            force=force,
            anyway=anyway,
            alias=alias,
            uri=uri,
            audit=None if audit == "none" else audit,
            progress=lambda done, total, unit: advance(done, total=total, part=str(unit)),
        )
    console.print(f"\n{exported.folder} loads with diffusers alone and reproduces the recorded metrics.")
    print_metrics(exported.found.metrics, exported.found.samples)
    if exported.audit is not None:
        console.print("\n" + " ".join(headline(exported.audit)))
    console.print(f"\nMLflow registered it as {exported.registered} with the alias {alias}.")


def ui(
    name: Annotated[str | None, typer.Argument(help="Sweep whose trials to show; the newest by default.")] = None,
    *,
    uri: Uri = None,
    port: Annotated[int, typer.Option(help="Port on this machine.", min=1, max=65535)] = 5000,
) -> None:
    """Serve MLflow's pages on this machine until Ctrl-C."""
    from sfd_sweep.tracking.reader import find_sweep
    from sfd_sweep.tracking.schema import Tag
    from sfd_sweep.tracking.store import Store
    from sfd_sweep.tracking.sweep_page import page

    store = Store.open(uri)
    is_served = store.uri.startswith("http")
    server = store.place if is_served else f"http://{LOOPBACK}:{port}"
    sweep = find_sweep(store, name)
    if is_served:
        print(f"MLflow serves its pages at {server}")
    else:
        _check_free(port)
        print(f"MLflow serves {store.place} at {server} (Ctrl-C stops it)")
    if sweep is not None:
        print(f"Trials of {sweep.data.tags[Tag.SWEEP]}: {page(server, sweep)}", flush=True)
    if is_served:
        return
    os.environ["MLFLOW_BACKEND_STORE_URI"] = store.uri  # all users of the machine can read arguments
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # saves eight processes that sweeps do not use
    command = ["-m", "mlflow", "ui", "--host", LOOPBACK, "--port", str(port), "--workers", "1"]
    os.execv(sys.executable, [sys.executable, *command])


def _rows(results: Results, selection: Selection | None) -> pd.DataFrame:
    """Return the rows of the front in the table of trials, or the row of the selected trial."""
    members = [selection.trial] if selection else results.front()
    return results.trials().set_index("trial", drop=False).loc[[member.number for member in members]]


def _encoded(table: pd.DataFrame, layout: str) -> bytes:
    from sfd_sweep.tracking.tables import to_parquet

    match layout:
        case "csv":
            return table.to_csv(index=False).encode()
        case "parquet":
            return to_parquet(table)
    return (json.dumps(json.loads(table.to_json(orient="records")), indent=2, ensure_ascii=False) + "\n").encode()


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise UserError(f"port {port} is not available ({error.strerror}); choose another with --port") from error
