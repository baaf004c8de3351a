"""Commands that run sweeps, check clusters, and print the schema of the search-space file."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from sfd_sweep.cli.options import Address, Json, Name, Overrides, Storage, Uri
from sfd_sweep.errors import UserError

if TYPE_CHECKING:
    from sfd_sweep.config import SearchSpace
    from sfd_sweep.execution.events import Outcome, SweepObserver


def init(
    teacher: Annotated[str, typer.Argument(help="Diffusion model: builtin:digits, a folder, or a hub id.")],
    *,
    forget: Annotated[
        str | None, typer.Option(help="Class or concept to forget; default: the first class.", metavar="NAME")
    ] = None,
    others: Annotated[
        str | None, typer.Option(help="Concepts that a text-to-image teacher retains.", metavar="NAME,NAME,…")
    ] = None,
    classifier: Annotated[
        str | None, typer.Option(help="Classifier that evaluates; default: one to be trained, or CLIP.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the sweep.", metavar="NAME")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; default: NAME.yaml.", metavar="FILE")] = None,
) -> None:
    """Write a search-space file for a teacher.

    The file has ranges that suit the teacher, and a comment for each key.
    """
    from sfd_sweep.cli.options import write_file
    from sfd_sweep.config import parse_search_space
    from sfd_sweep.trial.resolve import resolve_sweep
    from sfd_sweep.trial.starter_file import starter_file

    kept = [word.strip() for word in others.split(",")] if others else []
    text = starter_file(teacher, forget=forget, others=kept, classifier=classifier, name=name)
    space = parse_search_space(text, str(out or "the new file"))
    resolve_sweep(space)
    file = out or Path(f"{space.name}.yaml")
    if file.exists():
        raise UserError(f"{file} exists; name another with --out")
    write_file(file, text.encode())
    print(f"{file} is written; `sfd-sweep run {file} --dry-run` prints its plan")
    if space.evaluation.classifier.startswith("models/"):
        print(f"It needs a classifier of the teacher's classes in {space.evaluation.classifier}: train-classifier")


def run(
    file: Annotated[Path, typer.Argument(help="Search-space file (YAML).", metavar="FILE")],
    *,
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved plan and exit.")] = False,
    address: Address = "local",
) -> None:
    """Run the sweep of a search-space file."""
    from sfd_sweep.config import load_search_space

    space = load_search_space(file, overrides or ())
    if dry_run:
        _print_plan(space)
        return
    from sfd_sweep.execution.cluster import is_outside

    if is_outside(address):
        _submit(space, address)
    from sfd_sweep.execution.run import run as run_sweep

    _watch(lambda observer: run_sweep(space, address=address, observer=observer))


def resume(
    name: Name,
    *,
    overrides: Overrides = None,
    storage: Storage = None,
    uri: Uri = None,
    address: Address = "local",
) -> None:
    """Resume a sweep, or extend a finished one.

    Trials that have ended are kept; the others continue from their last evaluation. --set changes keys that leave
    figures comparable: budget, search (but for warm_start), resources (but for precision), and keep_generators.
    """
    from sfd_sweep.execution.run import resume as resume_sweep
    from sfd_sweep.tracking.reader import locate

    location = locate(name, storage=storage, uri=uri)
    _watch(
        lambda observer: resume_sweep(location, overrides=overrides or (), uri=uri, address=address, observer=observer)
    )


def doctor(
    file: Annotated[Path | None, typer.Argument(help="Search-space file (YAML).", metavar="[FILE]")] = None,
    *,
    overrides: Overrides = None,
    address: Address = "local",
    as_json: Json = False,
) -> None:
    """Check a cluster before a long run.

    The command checks versions, GPUs, and open ports; with FILE also storage, models, tracking, and resources. The exit
    code is 2 if a check fails.
    """
    from sfd_sweep.cli.tables import print_findings, print_json
    from sfd_sweep.config import load_search_space
    from sfd_sweep.execution.doctor import CheckStatus, examine

    if overrides and file is None:
        raise UserError("--set overrides keys of a search-space file; name the file too")
    findings = examine(load_search_space(file, overrides or ()) if file else None, address)
    (print_json if as_json else print_findings)(findings)
    faults = sum(finding.status is CheckStatus.FAULT for finding in findings)
    if faults:
        raise UserError(f"{faults} of {len(findings)} checks failed; fix what the table names, and check again")


def schema(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the reference in Markdown instead.")] = False,
) -> None:
    """Print the JSON schema of the search-space file."""
    if markdown:
        from sfd_sweep.config.reference import search_space_reference

        print(search_space_reference(), end="")
    else:
        from sfd_sweep.config import json_schema

        print(json.dumps(json_schema(), indent=2, ensure_ascii=False))


def _print_plan(space: SearchSpace) -> None:
    from sfd_sweep.cli.plan import print_plan
    from sfd_sweep.trial.resolve import resolve_sweep

    plan = resolve_sweep(space)
    warm_start: list[str] = []
    if space.search.warm_start:
        from sfd_sweep.search.warm_start import find_warm_start
        from sfd_sweep.tracking.reader import read_family

        warm_start = find_warm_start(space, read_family).in_words()
    print_plan(plan, warm_start)


def _submit(space: SearchSpace, address: str) -> NoReturn:
    """Submit the sweep as a job of the cluster, print its output, and exit with its exit code."""
    from sfd_sweep.execution.ray_job import run_as_job

    raise typer.Exit(run_as_job(space, address, functools.partial(print, end="", flush=True)))


def _watch(run_sweep: Callable[[SweepObserver], Outcome]) -> None:
    """Display a sweep while it runs, and then its outcome."""
    from sfd_sweep.cli.display import watching
    from sfd_sweep.cli.tables import print_outcome
    from sfd_sweep.tracking.results import Results

    with watching() as view:
        outcome = run_sweep(view)
    print_outcome(outcome, Results.read(outcome.name, view.space.tracking.uri).record)
