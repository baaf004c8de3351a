"""Commands that try to bring back what generators have forgotten, and that verify exported folders."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sfd_sweep.cli.options import BestScore, Json, Knee, Trial, Uri, chosen_device, one_thread, override_of, write_file
from sfd_sweep.cli.progress import progress_bar, stopped_by_ctrl_c
from sfd_sweep.errors import UserError

if TYPE_CHECKING:
    from sfd_sweep.audit.report import AuditReport
    from sfd_sweep.export.folder_audit import AuditSources
    from sfd_sweep.export.folder_evaluation import AssetLocations
    from sfd_sweep.storage.folder import Folder
    from sfd_sweep.tracking.results import Results

SECONDS_BETWEEN_LINES = 10.0

Level = Annotated[
    Literal["quick", "full"],
    typer.Option(help="Attacks to make: quick (seconds on digits), or full (every attack with three seeds)."),
]
Reference = Annotated[str | None, typer.Option(help="Reference images; default: as recorded.", metavar="SOURCE")]
Teacher = Annotated[
    str | None, typer.Option(help="Teacher, if its samples are the reference; default: as recorded.", metavar="DIR")
]
Device = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option(help="Device of the attacks; auto: that of the recorded figures, or else a GPU if there is one."),
]


Target = Annotated[
    str,
    typer.Argument(
        help="Folder of a one-step generator (or builtin:digits-distilled); with --trial, --knee, --best-score, or "
        "--front the name of a sweep.",
        metavar="DIR|NAME",
    ),
]
Control = Annotated[
    str | None, typer.Option(help="Generator that never knew what is forgotten; default: as recorded.", metavar="DIR")
]
Judge = Annotated[
    str | None,
    typer.Option(
        help="Classifier that decides; svm fits a support vector machine to the reference images; default: as "
        "recorded, or svm.",
        metavar="SOURCE",
    ),
]
Start = Annotated[
    str | None, typer.Option(help="What the generator was trained from; default: as recorded.", metavar="DIR")
]
AttackedClassifier = Annotated[
    str | None,
    typer.Option(help="Classifier that attacks optimize against; default: as recorded.", metavar="SOURCE"),
]
Forget = Annotated[
    list[str] | None, typer.Option(help="Forgotten class of a folder that was not exported; repeatable.")
]
Override = Annotated[
    list[str] | None,
    typer.Option(help="Override of such a class (a class, random, or classifier); one for all, or one for each."),
]
Space = Annotated[
    Path | None,
    typer.Option(
        help="Search-space file that states how a folder that was not exported is evaluated and what is forgotten; "
        "generators of prompts need it.",
        metavar="FILE",
    ),
]
Front = Annotated[bool, typer.Option("--front", help="Audit every trial on the front.")]
AuditAddress = Annotated[
    str | None,
    typer.Option(
        help="Audit trials on a Ray cluster (local, auto, or HOST:PORT); default: in this process.", metavar="ADDRESS"
    ),
]
Layout = Annotated[Literal["table", "json"], typer.Option("--format", help="Format of the audit.")]
AuditOut = Annotated[
    Path | None,
    typer.Option(
        help="Folder for audit.json and audit.png; default: an exported folder itself, else none.", metavar="DIR"
    ),
]
Cache = Annotated[
    str | None,
    typer.Option(
        help="Folder for results of attacks, which other audits use; default: runs/audits, or audits in a sweep's "
        "storage.",
        metavar="DIR",
    ),
]


def audit(
    target: Target,
    *,
    level: Level = "quick",
    control: Control = None,
    judge: Judge = None,
    start: Start = None,
    classifier: AttackedClassifier = None,
    reference: Reference = None,
    teacher: Teacher = None,
    forget: Forget = None,
    override: Override = None,
    space: Space = None,
    trial: Trial = None,
    knee: Knee = False,
    best_score: BestScore = False,
    front: Front = False,
    address: AuditAddress = None,
    device: Device = "auto",
    layout: Layout = "table",
    as_json: Json = False,
    out: AuditOut = None,
    cache: Cache = None,
    uri: Uri = None,
) -> None:
    """Try to bring back what a generator has forgotten.

    Attacks are made on a generator and on controls, and a judge that no attack optimizes against decides. The headline
    is the excess over a generator that never knew. An exported folder gets the audit, its picture, and a section of its
    card; an audited trial gets them in the storage and in MLflow. An interrupted audit continues where it ended.
    """
    one_thread()
    layout = "json" if as_json else layout
    of_sweep = trial is not None or knee or best_score or front
    only_folders: dict[str, object] = {
        "--start": start,
        "--classifier": classifier,
        "--reference": reference,
        "--teacher": teacher,
        "--forget": forget,
        "--override": override,
        "--space": space,
        "--out": out,
    }
    _refuse(only_folders if of_sweep else {"--address": address, "--uri": uri}, of_sweep=of_sweep)
    if of_sweep:
        results = _results(target, uri, front=front, selected=trial is not None or knee or best_score)
        chosen = results.front() if front else [results.select(trial=trial, knee=knee, best_score=best_score).trial]
        _audit_trials(
            results,
            [each.number for each in chosen],
            level=level,
            judge=judge,
            control=control,
            address=address,
            device=device,
            layout=layout,
            cache=cache,
            uri=uri,
        )
        return
    from sfd_sweep.export.folder_audit import AuditSources
    from sfd_sweep.export.folder_evaluation import AssetLocations

    folder = Path(target)
    assets = AssetLocations(reference=reference, teacher=teacher, classifier=classifier)
    _audit_folder(
        folder,
        level=level,
        given=AuditSources(judge=judge, control=control, start=start),
        forget=forget or (),
        override=override,
        assets=assets,
        space=space,
        device=device,
        layout=layout,
        out=out,
        cache=cache,
    )


def verify(
    folder: Annotated[Path, typer.Argument(help="Folder that `sfd-sweep export` wrote.", metavar="DIR")],
    *,
    level: Level = "quick",
    reference: Reference = None,
    inception: Annotated[str | None, typer.Option(help="Weights of Inception-V3.", metavar="FILE")] = None,
    teacher: Teacher = None,
    device: Device = "auto",
) -> None:
    """Check an exported folder against its own claims.

    Checksums, pipeline, metrics, and the attacks of the recorded audit are checked. The exit code is 1 if a claim does
    not hold: a generator that was changed so that it shows again what it had forgotten fails. The command runs the
    folder's pipeline.py.
    """
    from sfd_sweep.cli.audit_tables import print_findings
    from sfd_sweep.export.folder_evaluation import AssetLocations
    from sfd_sweep.export.verifying import check_claims, verify_folder

    one_thread()
    place = None if device == "auto" else chosen_device(device)
    assets = AssetLocations(reference=reference, inception=inception, teacher=teacher)
    stopped = stopped_by_ctrl_c(lambda: "the verification was stopped; nothing was changed")
    with stopped, progress_bar("auditing", seconds=SECONDS_BETWEEN_LINES) as advance:
        findings = verify_folder(
            folder,
            level=level,
            assets=assets,
            device=place,
            progress=lambda done, total, unit: advance(done, total=total, part=str(unit)),
        )
        found = print_findings(findings)
    check_claims(found, folder)


def _refuse(options: dict[str, object], *, of_sweep: bool) -> None:
    """Refuse options that are for the other kind of target."""
    given = [name for name, value in options.items() if value]
    if given and of_sweep:
        raise UserError(f"{given[0]} is for the audit of a folder; a sweep states it itself")
    if given:
        raise UserError(
            f"{given[0]} is for the audit of a sweep; select trials: --trial N, --knee, --best-score, --front"
        )


def _results(name: str, uri: str | None, *, front: bool, selected: bool) -> Results:
    from sfd_sweep.tracking.results import Results

    if front and selected:
        raise UserError("--front audits every trial on the front; leave --trial, --knee, and --best-score out")
    results = Results.read(name, uri)
    if front and not results.front():
        raise UserError(f"the front of {name} is empty: no feasible trial is complete; wait, or name a trial (--trial)")
    return results


def _audit_folder(
    folder: Path,
    *,
    level: Literal["quick", "full"],
    given: AuditSources,
    forget: Sequence[str],
    override: list[str] | None,
    assets: AssetLocations,
    space: Path | None,
    device: str,
    layout: str,
    out: Path | None,
    cache: str | None,
) -> None:
    from sfd_sweep.config import AUDITS, load_search_space
    from sfd_sweep.export.description import is_exported
    from sfd_sweep.export.folder_audit import audit_folder, audit_settings, keep_audit
    from sfd_sweep.storage.folder import Folder

    _check_folder(folder)
    kept = Folder.open(cache or Path("runs") / AUDITS)
    with _interruptible(kept) as advance:
        report = audit_folder(
            folder,
            level,
            given=given,
            forget=forget,
            override=override_of(override),
            assets=assets,
            space=None if space is None else load_search_space(space),
            device=None if device == "auto" else chosen_device(device),
            cache=kept,
            progress=lambda done, total, unit: advance(done, total, str(unit)),
        )
    place = None
    if out is not None:
        place = _write(report, out)
    elif is_exported(folder):
        keep_audit(folder, report, audit_settings(folder, given))
        place = folder
    _show([(None, report)], layout, None if place is None else f"{place} has audit.json and audit.png")


def _audit_trials(
    results: Results,
    numbers: Sequence[int],
    *,
    level: Literal["quick", "full"],
    judge: str | None,
    control: str | None,
    address: str | None,
    device: str,
    layout: str,
    cache: str | None,
    uri: str | None,
) -> None:
    from sfd_sweep.config import AUDITS
    from sfd_sweep.execution.auditing import SweepAudit, audit_trials
    from sfd_sweep.storage.folder import Folder
    from sfd_sweep.tracking.audits import record_audit
    from sfd_sweep.tracking.store import Store
    from sfd_sweep.trial.trial_audit import AuditedTrial

    space, sweep = results.record.space, Folder.open(results.record.summary.storage)
    trials = {trial.number: trial for trial in results.record.trials}
    given = {name: value for name, value in (("judge", judge), ("control", control)) if value is not None}
    kept = Folder.open(cache) if cache else sweep.parent / AUDITS
    request = SweepAudit(
        space=space,
        sweep=sweep,
        trials=tuple(AuditedTrial(number, trials[number].settings) for number in numbers),
        settings=space.audit.model_copy(update=given),
        level=level,
        cache=kept,
    )
    store, reports, folders = Store.open(uri), [], []
    with _interruptible(kept) as advance:
        place = None if device == "auto" else chosen_device(device)
        for trial, report in audit_trials(request, address=address, device=place, progress=advance):
            folders.append(record_audit(store, sweep, trials[trial.number], report))
            reports.append((trial.number, report))
    _show(reports, layout, f"{', '.join(map(str, folders))} and MLflow have the audit and its picture")


@contextmanager
def _interruptible(kept: Folder) -> Iterator[Callable[[int, int, str], None]]:
    """Show the progress of an audit, and say on Ctrl-C what is kept; yield a function of done, total, and part."""
    from sfd_sweep.storage.errors import storage_errors

    reached = "nothing was finished"
    with progress_bar("auditing", seconds=SECONDS_BETWEEN_LINES) as advance:

        def noted(done: int, total: int, part: str) -> None:
            nonlocal reached
            reached = f"{done} of {total} parts are kept in {kept.path}"
            advance(done, total=total, part=part)

        stopped = stopped_by_ctrl_c(lambda: f"the audit was stopped; {reached}, and the same command continues")
        with stopped, storage_errors(kept):
            yield noted


def _check_folder(folder: Path) -> None:
    """Say how to name a sweep, if a folder is missing."""
    if not folder.is_dir() and not str(folder).startswith("builtin:"):
        raise UserError(
            f"there is no folder {folder}; give one of a one-step generator, or select trials of a sweep of that name "
            "(--trial N, --knee, --best-score, --front)"
        )


def _write(report: AuditReport, out: Path) -> Path:
    from sfd_sweep.audit.report import AUDIT
    from sfd_sweep.tracking.audit_picture import AUDIT_PICTURE, audit_png

    out = out.expanduser()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out} cannot be created ({error.strerror}); choose another folder") from error
    write_file(out / AUDIT, report.to_json().encode())
    write_file(out / AUDIT_PICTURE, audit_png(report))
    return out


def _show(reports: Sequence[tuple[int | None, AuditReport]], layout: str, written: str | None) -> None:
    from sfd_sweep.cli.audit_tables import print_audit
    from sfd_sweep.cli.tables import console

    if layout == "json":
        bare = [json.loads(report.to_json()) for _, report in reports]
        of_trials = [{"trial": number, "audit": each} for (number, _), each in zip(reports, bare, strict=True)]
        print(json.dumps(bare[0] if reports[0][0] is None else of_trials, indent=1))
        return
    for number, report in reports:
        if number is not None:
            console.print(f"Trial {number}\n")
        print_audit(report)
        console.print()
    if written:
        console.print(f"{written}.")
