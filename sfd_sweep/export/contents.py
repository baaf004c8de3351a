"""An exported folder beside its weights: description, evaluation networks, code, pictures, card and checksums."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import torch

from sfd_sweep.audit.judges import SVM
from sfd_sweep.audit.report import AUDIT, AuditReport, Level
from sfd_sweep.config import Audit, Evaluation, Task
from sfd_sweep.datasets.stored import parse_source
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers import clip as clip_network
from sfd_sweep.evaluation.classifiers.loading import CLIP, FILES, is_portable
from sfd_sweep.evaluation.evaluator import Generate, grid_columns
from sfd_sweep.evaluation.factory import load_classifier_for
from sfd_sweep.export.card import model_card
from sfd_sweep.export.description import AuditOrigin, Description, Figures, FrontMember, Lineage, Origin
from sfd_sweep.export.folder_evaluation import FolderEvaluation
from sfd_sweep.export.verification import sha256, write_checksums
from sfd_sweep.method.generator import PIPELINE, OneStepGenerator
from sfd_sweep.models.folder import CARD, ModelFolder, portable_source
from sfd_sweep.models.loading import load_score_model
from sfd_sweep.models.samplers import sample_ddim
from sfd_sweep.search.records import SweepRecord
from sfd_sweep.search.trial import Trial
from sfd_sweep.storage.folder import Folder
from sfd_sweep.tracking.audit_picture import AUDIT_PICTURE, audit_png
from sfd_sweep.tracking.pictures import front_png
from sfd_sweep.tracking.results import Selection
from sfd_sweep.trial.resolve import resolved, start_source


def describe(record: SweepRecord, choice: Selection, folder: Path, versions: dict[str, str]) -> Description:
    """Return the description of a trial's generator, and copy local networks of the evaluation into its folder.

    The description holds no path of this machine.

    Raises:
        UserError: the generator or a network of the evaluation is missing or broken.
    """
    space, trial = record.space, choice.trial
    assert trial.report is not None
    conditions, override = resolved(space, ModelFolder.open(str(folder)), trial.settings.override)
    load_classifier_for(
        space.evaluation.classifier, conditions, space.evaluation.concepts
    )  # names the source in its error message
    lineage = _lineage(record, trial, versions)
    return Description(
        conditions=conditions,
        task=space.task.model_copy(update={"teacher": lineage.teacher.source, "start": lineage.start.source}),
        override=override,
        settings=trial.settings,
        search=Figures.of(trial.report),
        final=None if trial.final is None else Figures.of(trial.final),
        evaluation=_portable_evaluation(space.evaluation, folder),
        device="cuda" if space.resources.gpus_per_worker else "cpu",
        objectives=space.objectives,
        constraints=space.constraints,
        selection=space.selection,
        counts_as_forgotten=record.counts_as_forgotten(trial) if space.selection.bounds else None,
        front=tuple(
            FrontMember(
                trial=member.number,
                metrics=record.figures(member).metrics,
                samples=record.figures(member).samples,
                as_good_as=tuple(record.as_good_as(member)) if record.has_errors else (),
            )
            for member in record.front
        ),
        front_probability=record.front_probability.get(trial.number) if record.has_errors else None,
        why=choice.why,
        lineage=lineage,
    )


def audit_origin(settings: Audit, level: Level | None, folder: Path) -> AuditOrigin:
    """Return by what an audit is made (level None: it is not made yet), and copy a local judge into the folder.

    Raises:
        UserError: the judge is missing.
    """
    judge = SVM
    if settings.judge != SVM:
        is_clip = settings.judge.startswith(CLIP)
        judge = _ship(settings.judge, folder / "judge", clip_network.FILES if is_clip else FILES)
    control = None if settings.control is None else _origin(settings.control, settings.control)
    return AuditOrigin(
        level=level, judge=judge, control=control, concepts=settings.concepts, class_of=settings.class_of
    )


def write_audit(folder: Path, report: AuditReport) -> None:
    """Write `audit.json` and `audit.png`, each atomically."""
    place = Folder.open(folder)
    place.write(AUDIT, report.to_json().encode())
    place.write(AUDIT_PICTURE, audit_png(report))


def write_contents(
    folder: Path,
    name: str,
    record: SweepRecord,
    description: Description,
    evaluation: FolderEvaluation,
    audit: AuditReport | None,
) -> None:
    """Write code, pictures, description, audit, card and checksums beside a generator.

    The pipeline is that of this version, not of the one that ran the sweep: no code from a storage is run.

    Args:
        folder: of the generator.
        name: of the folder in its final place.
        record: of the sweep.
        description: of the generator.
        evaluation: of the generator; it draws the pictures before and after on the same noise.
        audit: of the generator, if it was audited.

    Raises:
        UserError: the weights of the start are broken.
    """
    shutil.copyfile(PIPELINE, folder / "pipeline.py")
    evaluator, columns = evaluation.evaluator, grid_columns(evaluation.generator.image_shape)
    (folder / "grid.png").write_bytes(evaluator.grid(evaluation.generator.generate, columns=columns))
    start = _start_samples(record.space.task, evaluator.device, description.conditions.names)
    if start is not None:
        (folder / "before.png").write_bytes(evaluator.grid(start, columns=columns))
    (folder / "front.png").write_bytes(front_png(record))
    description.write(folder)
    if audit is not None:
        write_audit(folder, audit)
    card = model_card(description, name, has_before=start is not None, audit=audit)
    (folder / CARD).write_text(card, encoding="utf-8")
    write_checksums(folder)


def _lineage(record: SweepRecord, trial: Trial, versions: dict[str, str]) -> Lineage:
    task = record.space.task
    assert trial.report is not None
    return Lineage(
        teacher=_origin(task.teacher, task.teacher),
        start=_origin(task.start, start_source(task)),
        sweep=record.space.name,
        trial=trial.number,
        state=trial.state,
        step=trial.report.step,
        seed=record.space.trial.seed,
        mlflow_run=trial.run.run_id,
        versions=versions,
    )


def _origin(name: str, source: str) -> Origin:
    folder = _open(source)
    if folder is None:
        return Origin(source=portable_source(name), sha256=None)
    return Origin(
        source=portable_source(name),
        sha256=sha256(folder.weights),
        license=folder.license,
        safety_checker=folder.has_safety_checker,
    )


def _open(source: str) -> ModelFolder | None:
    """A model that the generator comes from; None if it is missing or broken: the export does without it."""
    try:
        folder = ModelFolder.open(source)
        _ = folder.parameter_count
    except UserError:
        return None
    return folder


def _start_samples(task: Task, device: torch.device, prompts: Sequence[str]) -> Generate | None:
    """What training started from: a one-step generator, or a teacher sampled by DDIM."""
    folder = _open(start_source(task))
    if folder is None:
        return None
    if folder.t_init is not None:
        return OneStepGenerator.load(folder.path, device, prompts=prompts).generate
    model = load_score_model(folder, device, prompts=prompts)
    return lambda c, noise: sample_ddim(model, c, noise)


def _portable_images(source: str) -> str:
    """A local folder or file by its name, with its split; `builtin:…` and hub ids unchanged."""
    name, split = parse_source(source)
    path = Path(name).expanduser()
    portable = path.name if path.is_absolute() or path.exists() else name
    return portable if split is None else f"{portable}:{split}"


def _portable_evaluation(evaluation: Evaluation, folder: Path) -> Evaluation:
    """The same evaluation without a path of this machine; local networks are copied into the folder."""
    is_clip, clip = evaluation.classifier.startswith(CLIP), evaluation.clip
    classifier = _ship(evaluation.classifier, folder / "classifier", clip_network.FILES if is_clip else FILES)
    if clip is not None and is_clip and _path(clip) == _path(evaluation.classifier):
        clip = classifier.removeprefix(CLIP)
    elif clip is not None:
        clip = clip.removeprefix(CLIP)
        clip_network.load_clip(clip)  # names the source in its error message
        clip = _ship(clip, folder / "clip", clip_network.FILES)
    return evaluation.model_copy(
        update={
            "classifier": classifier,
            "clip": clip,
            "reference": portable_source(evaluation.reference),
            "inception": evaluation.inception.model_copy(update={"weights": None}),
        }
    )


def _ship(source: str, target: Path, patterns: Sequence[str]) -> str:
    """Copy a network's files into the target folder, unless the source is portable; return the network's new source."""
    if is_portable(source):
        return source
    origin, copy = Folder.open(source.removeprefix(CLIP)), Folder.open(target)
    for file in origin.names():
        if any(fnmatchcase(file, pattern) for pattern in patterns):
            copy.write(file, origin.read(file))
    return f"{CLIP if source.startswith(CLIP) else ''}{target.name}"


def _path(source: str) -> Path:
    return Path(source.removeprefix(CLIP)).expanduser().resolve()
