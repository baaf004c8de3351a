"""The audit of a generator's folder, by the evaluation that it was exported with or by the defaults."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sfd_sweep.audit.building import AuditContext, Progress
from sfd_sweep.audit.levels import Level
from sfd_sweep.audit.report import AuditReport
from sfd_sweep.config import Audit, Override, SearchSpace
from sfd_sweep.export.folder_evaluation import AssetLocations, folder_evaluation
from sfd_sweep.storage.folder import Folder


def audit_folder(  # noqa: PLR0913 - most of them are optional
    folder: Path,
    level: Level,
    settings: Audit,
    *,
    start: str | None = None,
    forget: Sequence[int | str] = (),
    override: Override | None = None,
    assets: AssetLocations,
    space: SearchSpace | None = None,
    cache: Folder | None = None,
    progress: Progress = lambda _done, _total, _unit: None,
) -> AuditReport:
    """Audit the generator in a folder.

    Args:
        folder: an exported one, or any one-step generator's.
        level: of the audit.
        settings: judge and control.
        start: the generator's initial weights; None: as the folder says, if it does.
        forget: the forgotten classes, by index or name; an exported folder states them.
        override: what replaces them; an exported folder states it.
        assets: where the reference is on this machine.
        space: how a folder that was not exported is evaluated; generators of prompts need it, and it states what is
            forgotten.
        cache: of results that other audits, or an interrupted one, have left.
        progress: called after each attack on each subject.

    Raises:
        UserError: as `evaluate_folder`, or the judge or a control is missing or does not fit the generator.
    """
    evaluation = folder_evaluation(folder, forget=forget, override=override, assets=assets, space=space)
    context = AuditContext.build(
        evaluation.evaluator, settings, start=start or evaluation.start, override=evaluation.override, cache=cache
    )
    return context.audit(evaluation.generator, level, source=folder.name, cache=cache, progress=progress)
