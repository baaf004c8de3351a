"""Export of a trial's generator: choose it, write its folder, verify the folder, register it in MLflow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sfd_sweep.audit.building import AuditContext, Progress
from sfd_sweep.audit.report import AuditReport, Level
from sfd_sweep.config import AUDITS, REFERENCES
from sfd_sweep.errors import UserError
from sfd_sweep.export.appearing import appearing_complete
from sfd_sweep.export.contents import audit_origin, describe, write_contents
from sfd_sweep.export.description import Figures, is_exported
from sfd_sweep.export.folder_evaluation import AssetLocations, FolderEvaluation
from sfd_sweep.export.verification import check_checksums, check_figures, check_pipeline
from sfd_sweep.models.folder import is_model
from sfd_sweep.search.records import SweepRecord
from sfd_sweep.search.scores import violation, why_not_forgotten
from sfd_sweep.search.trial import Trial
from sfd_sweep.storage.errors import storage_errors
from sfd_sweep.storage.folder import Folder
from sfd_sweep.tracking.model_registry import log_generator, register
from sfd_sweep.tracking.results import Results, Selection
from sfd_sweep.tracking.store import Store, mlflow_errors
from sfd_sweep.trial.files import GENERATOR, step_folder, trial_folder
from sfd_sweep.trial.resolve import start_source

VERSION = "version."
COMMIT = "mlflow.source.git.commit"


@dataclass(frozen=True)
class Exported:
    """An exported generator.

    Attributes:
        folder: of the generator.
        recorded: the figures that the sweep recorded.
        found: those that were measured on the exported folder.
        registered: URI of its version in MLflow's model registry; None if it was not to be registered.
        audit: None if it was not to be audited.
    """

    folder: Path
    recorded: Figures
    found: Figures
    registered: str | None
    audit: AuditReport | None


def export_trial(
    results: Results,
    choice: Selection,
    target: Path,
    *,
    force: bool = False,
    anyway: bool = False,
    alias: str | None = "champion",
    uri: str | None = None,
    audit: Level | None = "quick",
    progress: Progress = lambda _done, _total, _unit: None,
) -> Exported:
    """Write a trial's generator as a diffusers folder, verify it, audit it, and register it.

    Args:
        results: of the trial's sweep.
        choice: the trial.
        target: the folder to create, in an existing one. It appears complete and verified, or not at all.
        force: whether to replace a folder that was exported before, once the new one is verified.
        anyway: whether to export a generator that does not count as forgotten by the sweep's `selection`.
        alias: of the generator among the versions of the sweep's registered model; None: it is not registered.
        uri: of the tracking store that the results were read from (see `Results.read`).
        audit: its level; None: the generator is not audited.
        progress: of the audit, called after each attack on each subject.

    Raises:
        UserError: the target is in the way, the trial does not count as forgotten, it has no weights in storage, their
            figures are not the recorded ones, or it cannot be audited as the search-space file says; or only the
            registration failed, which the message says.
    """
    target = target.expanduser().absolute()
    _check_target(target, force)
    if not anyway:
        _check_forgotten(results.record, choice.trial)
    generator = _stored_generator(results, choice.trial)
    store = Store.open(uri)
    versions = _versions(store, results.record.summary.run_id)
    with appearing_complete(target) as folder:
        generator.download(folder)
        description = describe(results.record, choice, folder, versions)
        evaluation = FolderEvaluation.of_exported(folder, description, _assets(results))
        found = evaluation.figures()
        check_figures(description.figures, found, classes=len(evaluation.evaluator.classifier.class_names))
        report = None
        if audit is not None:
            report = _audited(results, evaluation, audit, target.name, progress)
        origin = audit_origin(results.record.space.audit, audit, folder)
        description = description.model_copy(update={"audit": origin})
        write_contents(folder, target.name, results.record, description, evaluation, report)
        check_checksums(folder)
        check_pipeline(folder, description.conditions.names)
    registered = None if alias is None else _register(store, results, choice.trial, target, alias)
    return Exported(target, description.figures, found, registered, report)


def _audited(
    results: Results, evaluation: FolderEvaluation, level: Level, name: str, progress: Progress
) -> AuditReport:
    space, cache = results.record.space, Folder.open(results.record.summary.storage).parent / AUDITS
    start = start_source(space.task) if is_model(start_source(space.task)) else None
    try:
        context = AuditContext.build(
            evaluation.evaluator, space.audit, start=start, override=evaluation.override, cache=cache
        )
        return context.audit(evaluation.generator, level, source=name, cache=cache, progress=progress)
    except UserError as error:
        raise UserError(f"{error}; or export without an audit: --audit none") from error


def _check_target(target: Path, force: bool) -> None:
    if not target.parent.is_dir():
        raise UserError(f"there is no folder {target.parent} to export into; create it first")
    if not target.exists():
        return
    if not force:
        raise UserError(f"{target} exists already; choose another folder, or replace it with --force")
    if not is_exported(target):
        raise UserError(f"{target} is no exported generator, so it is not replaced; choose another folder")


def _check_forgotten(record: SweepRecord, trial: Trial) -> None:
    """Refuse a trial outside of what the search-space file counts as forgotten, and name the nearest one within it."""
    report, selection = trial.largest_report, record.space.selection
    if report is None or not (reason := why_not_forgotten(report.metrics, selection)):
        return
    if nearest := record.nearest_forgotten(trial):
        remedy = f"the nearest on the front that does is trial {nearest.number} (--trial {nearest.number})"
    else:
        remedy = f"no trial on the front does{_least_beyond(record)}; search on, for example with more trials"
    raise UserError(
        f"trial {trial.number} of {record.space.name} does not count as forgotten: {reason}; {remedy}. --anyway "
        "exports this one, and its card says that it does not count as forgotten"
    )


def _least_beyond(record: SweepRecord) -> str:
    """Return the member of the front that comes nearest to counting as forgotten, in words; "" for an empty front."""
    if not record.front:
        return ""
    bounds = record.space.selection.bounds
    nearest = min(record.front, key=lambda trial: violation(record.figures(trial).metrics, bounds))
    metrics = record.figures(nearest).metrics
    figures = ", ".join(f"{bound.metric} {metrics[bound.metric]:.6g}" for bound in bounds)
    return f" (trial {nearest.number} comes nearest: {figures})"


def _stored_generator(results: Results, trial: Trial) -> Folder:
    """The folder of the trial's last generator in the sweep's storage."""
    name, report = results.record.space.name, trial.report
    if report is None:
        raise UserError(f"trial {trial.number} of {name} is {trial.state} and has no weights; choose another trial")
    sweep = Folder.open(results.record.summary.storage)
    folder = step_folder(trial_folder(sweep, trial.number), report.step) / GENERATOR
    with storage_errors(sweep):
        is_stored = folder.has("model_index.json")
    if not is_stored:
        reason = _why_without_weights(results, trial, folder)
        raise UserError(f"trial {trial.number} of {name} is {trial.state} {reason}")
    return folder


def _why_without_weights(results: Results, trial: Trial, folder: Folder) -> str:
    front = results.front()
    if results.record.space.keep_generators == "all" or trial in front or not front:
        return f"and has no weights in {folder}; choose another trial, or restore the sweep's storage"
    members = ", ".join(str(member.number) for member in front)
    return (
        f"and not on the front, so its generator was not kept: choose a member of the front ({members}), or run a "
        "sweep with `keep_generators: all`"
    )


def _assets(results: Results) -> AssetLocations:
    """Where the assets of the sweep's evaluation are."""
    space = results.record.space
    return AssetLocations(
        reference=space.evaluation.reference,
        inception=space.evaluation.inception.weights,
        teacher=space.task.teacher,
        references=Folder.open(results.record.summary.storage).parent / REFERENCES,
    )


def _versions(store: Store, run_id: str) -> dict[str, str]:
    """What the sweep ran on, by the tags of its run."""
    with mlflow_errors(store.uri):
        tags: dict[str, str] = store.client.get_run(run_id).data.tags
    versions = {tag.removeprefix(VERSION): value for tag, value in tags.items() if tag.startswith(VERSION)}
    if COMMIT in tags:
        versions["commit"] = tags[COMMIT] + (" with changes" if versions.pop("changed") == "true" else "")
    return versions


def _register(store: Store, results: Results, trial: Trial, folder: Path, alias: str) -> str:
    try:
        log_generator(store, trial.run.run_id, folder)
        version = register(store, results.record.space.name, trial.run.run_id, alias)
    except UserError as error:
        raise UserError(f"{folder} is written and verified, but it is not registered: {error}") from error
    return f"models:/{version.name}/{version.version}"
