"""A trial's generator as a folder to take home: written beside its place, verified there, then moved and registered."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sfd_sweep.config import REFERENCES
from sfd_sweep.errors import UserError
from sfd_sweep.export.checksums import write_checksums
from sfd_sweep.export.contents import describe, lay_beside
from sfd_sweep.export.description import Figures, is_exported
from sfd_sweep.export.origins import Origins
from sfd_sweep.export.verification import AssetLocations, FolderEvaluation, verify
from sfd_sweep.search.records import TrialRecord
from sfd_sweep.storage.folder import Folder, reaching
from sfd_sweep.tracking.model_registry import log_generator, register
from sfd_sweep.tracking.results import Results, Selection
from sfd_sweep.tracking.store import Store, refusals_of
from sfd_sweep.trial.files import GENERATOR, step_folder, trial_folder

VERSION = "version."
COMMIT = "mlflow.source.git.commit"


@dataclass(frozen=True)
class Exported:
    """A generator that has been exported.

    Attributes:
        folder: where it is.
        recorded: the figures that the sweep recorded of it.
        found: those that were measured on the exported folder.
        registered: URI of its version in MLflow's model registry; None if it was not to be registered.
    """

    folder: Path
    recorded: Figures
    found: Figures
    registered: str | None


def export_trial(
    results: Results,
    choice: Selection,
    target: Path,
    *,
    force: bool = False,
    alias: str | None = "champion",
    uri: str | None = None,
) -> Exported:
    """Write a trial's generator as a diffusers folder, verify it, and register it.

    Args:
        results: of the trial's sweep.
        choice: the trial.
        target: the folder to make, in one that is there. It appears whole and verified, or not at all.
        force: whether a folder that was exported before is replaced; it stays as it is until the new one is verified.
        alias: of the generator among the versions of the sweep's registered model; None leaves the registry alone.
        uri: of the tracking store that the results were read from (see `Results.read`).

    Raises:
        UserError: the target is in the way, the trial has no weights in storage, or their figures are not the recorded
            ones; or all went well but the registry, which the message says.
    """
    target = target.expanduser().absolute()
    _check_target(target, force)
    generator = _stored_generator(results, choice.trial)
    store = Store.open(uri)
    versions = _versions(store, results)
    with _appearing_whole(target) as folder:
        generator.download(folder)
        origins = Origins.find(results.record.space.task)
        description = describe(results.record, choice, folder, origins, versions)
        judging = FolderEvaluation.of_exported(folder, description, _places(results))
        lay_beside(folder, target.name, results.record, description, judging, origins)
        write_checksums(folder)
        found = verify(folder, description, judging)
    registered = None if alias is None else _register(store, results, choice.trial, target, alias)
    return Exported(target, description.figures, found, registered)


def _places(results: Results) -> AssetLocations:
    """Where the sweep had what its judge needs."""
    space = results.record.space
    evaluation = space.evaluation
    return AssetLocations(
        evaluation.reference,
        evaluation.inception.weights,
        space.task.teacher,
        Folder.open(results.record.summary.storage).parent / REFERENCES,
    )


def _check_target(target: Path, force: bool) -> None:
    if not target.parent.is_dir():
        raise UserError(f"there is no folder {target.parent} to export into; make it first")
    if not target.exists():
        return
    if not force:
        raise UserError(f"{target} is there already; choose another folder, or replace it with --force")
    if not is_exported(target):
        raise UserError(f"{target} is no exported generator, so it is not replaced; choose another folder")


def _stored_generator(results: Results, trial: TrialRecord) -> Folder:
    """The folder of the trial's last generator in the sweep's storage."""
    name, report = results.record.space.name, trial.report
    if report is None:
        raise UserError(f"trial {trial.number} of {name} is {trial.state} and has no weights; choose another trial")
    sweep = Folder.open(results.record.summary.storage)
    folder = step_folder(trial_folder(sweep, trial.number), report.step) / GENERATOR
    with reaching(sweep):
        is_there = folder.has("model_index.json")
    if not is_there:
        why = _why_without_weights(results, trial, folder)
        raise UserError(f"trial {trial.number} of {name} is {trial.state} {why}")
    return folder


def _why_without_weights(results: Results, trial: TrialRecord, folder: Folder) -> str:
    front = results.front()
    if results.record.space.keep_generators == "all" or trial in front or not front:
        return f"and has no weights in {folder}; choose another trial, or bring the sweep's storage back"
    members = ", ".join(str(member.number) for member in front)
    return (
        f"and not on the front, so its generator was not kept: choose a member of the front ({members}), or run a "
        "sweep with `keep_generators: all`"
    )


def _versions(store: Store, results: Results) -> dict[str, str]:
    """What the sweep ran on, by the tags of its run."""
    with refusals_of(store.uri):
        tags: dict[str, str] = store.client.get_run(results.record.summary.run_id).data.tags
    versions = {tag.removeprefix(VERSION): value for tag, value in tags.items() if tag.startswith(VERSION)}
    if COMMIT in tags:
        versions["commit"] = tags[COMMIT] + (" with changes" if versions.pop("changed") == "true" else "")
    return versions


@contextmanager
def _appearing_whole(target: Path) -> Iterator[Path]:
    """A folder beside the target that takes its place when the block ends well, and is gone when it does not."""
    try:
        scratch = tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-")
    except OSError as error:
        raise UserError(f"cannot write into {target.parent} ({error.strerror}); choose another folder") from error
    with scratch:
        folder = Path(scratch.name) / "new"
        folder.mkdir()
        yield folder
        _replace(target, folder, Path(scratch.name) / "old")


def _replace(target: Path, new: Path, old: Path) -> None:
    """Move `new` to the target; what was there, if anything was, goes to `old`, or stays if the move fails."""
    if target.exists():
        target.rename(old)
    try:
        new.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise


def _register(store: Store, results: Results, trial: TrialRecord, folder: Path, alias: str) -> str:
    try:
        log_generator(store, trial.run_id, folder)
        version = register(store, results.record.space.name, trial.run_id, alias)
    except UserError as error:
        raise UserError(f"{folder} is written and verified, but it is not registered: {error}") from error
    return f"models:/{version.name}/{version.version}"
