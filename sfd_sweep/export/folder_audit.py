"""The audit of a generator's folder, by the evaluation that it was exported with or by the defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sfd_sweep.audit.building import AuditContext, Progress
from sfd_sweep.audit.report import AUDIT, AuditReport, Level
from sfd_sweep.config import Audit, Override, SearchSpace
from sfd_sweep.errors import UserError
from sfd_sweep.export.appearing import changed_at_once
from sfd_sweep.export.card import model_card
from sfd_sweep.export.contents import audit_origin, write_audit
from sfd_sweep.export.description import DESCRIPTION, Description, is_exported
from sfd_sweep.export.folder_evaluation import AS_DESCRIBED, AssetLocations, beside, folder_evaluation
from sfd_sweep.export.verification import CHECKSUMS, write_checksums
from sfd_sweep.models.folder import CARD, is_model
from sfd_sweep.storage.folder import Folder


@dataclass(frozen=True)
class AuditSources:
    """Judge and controls of an audit.

    Attributes:
        judge: a source as in `audit.judge`; None: as the folder says, or else a support vector machine.
        control: a generator that never knew what is forgotten; None: as the folder says, or else none.
        start: the generator's initial weights; None: as the folder says, if it does.
    """

    judge: str | None = None
    control: str | None = None
    start: str | None = None


def audit_folder(  # noqa: PLR0913 - most of them are optional
    folder: str | Path,
    level: Level = "quick",
    *,
    given: AuditSources = AuditSources(),
    forget: Sequence[int | str] = (),
    override: Override | None = None,
    assets: AssetLocations = AS_DESCRIBED,
    device: str | None = None,
    space: SearchSpace | None = None,
    cache: Folder | None = None,
    progress: Progress = lambda _done, _total, _unit: None,
) -> AuditReport:
    """Audit the generator in a folder.

    Args:
        folder: an exported one, or any one-step generator's.
        level: of the audit.
        given: judge and controls, where they are not those that the folder states.
        forget: the forgotten classes, by index or name; an exported folder states them.
        override: what replaces them; an exported folder states it.
        assets: where the reference is on this machine.
        device: of the attacks; None: a GPU if there is one and the folder was not exported on a CPU.
        space: how a folder that was not exported is evaluated; generators of prompts need it, and it states what is
            forgotten.
        cache: of results that other audits, or an interrupted one, have left.
        progress: called after each attack on each subject.

    Raises:
        UserError: as `evaluate_folder`, or the judge or a control is missing or does not fit the generator.
    """
    folder = Path(folder)
    settings = audit_settings(folder, given, space)
    evaluation = folder_evaluation(folder, forget=forget, override=override, assets=assets, device=device, space=space)
    start = given.start or (evaluation.start if is_model(evaluation.start) else None)
    context = AuditContext.build(evaluation.evaluator, settings, start=start, override=evaluation.override, cache=cache)
    return context.audit(evaluation.generator, level, source=folder.name, cache=cache, progress=progress)


def audit_settings(folder: Path, given: AuditSources, space: SearchSpace | None = None) -> Audit:
    """Return the settings of a folder's audit: what is given, and otherwise what a folder or its search space says.

    Raises:
        UserError: the folder names a control that is not on this machine.
    """
    recorded = Description.read(folder).audit if is_exported(folder) else None
    if recorded is None:
        stated = Audit() if space is None else space.audit
        return stated.model_copy(
            update={"judge": given.judge or stated.judge, "control": given.control or stated.control}
        )
    control = given.control
    if control is None and recorded.control is not None:
        control = recorded.control.source
        if not is_model(control):
            raise UserError(
                f"{folder / DESCRIPTION}: the audit's control {control!r} is not on this machine; say where it is "
                "(--control)"
            )
    judge = given.judge or beside(folder, recorded.judge)
    return Audit(judge=judge, concepts=recorded.concepts, class_of=recorded.class_of, control=control)


def keep_audit(folder: Path, report: AuditReport, settings: Audit) -> None:
    """Write an audit into an exported folder: `audit.json`, `audit.png`, the card's section, and the checksums.

    The folder changes as a whole: a process that is killed leaves it as it was or as it will be.

    Args:
        folder: an exported one.
        report: of its generator.
        settings: by which it was audited.

    Raises:
        UserError: the folder cannot be written.
    """
    with changed_at_once(folder) as new:
        origin = audit_origin(settings, report.level, new)
        description = Description.read(new).model_copy(update={"audit": origin})
        for name in (AUDIT, DESCRIPTION, CARD, CHECKSUMS):  # they are linked, and so must not be written into
            (new / name).unlink(missing_ok=True)
        write_audit(new, report)
        description.write(new)
        has_before = (new / "before.png").is_file()
        card = model_card(description, folder.resolve().name, has_before=has_before, audit=report)
        (new / CARD).write_text(card, encoding="utf-8")
        write_checksums(new)
