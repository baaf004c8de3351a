"""What an exported folder holds beside the generator's weights: code, judge, pictures, card and description."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from sfd_sweep.config import Evaluation
from sfd_sweep.evaluation import clip_network
from sfd_sweep.evaluation.classifiers.loading import CLIP, FILES, is_portable
from sfd_sweep.evaluation.conditions import Conditions
from sfd_sweep.evaluation.evaluator import grid_columns
from sfd_sweep.evaluation.factory import load_judge
from sfd_sweep.export.card import BEFORE, CARD, FRONT, GRID, model_card
from sfd_sweep.export.description import Description, Figures, FrontMember, Lineage
from sfd_sweep.export.origins import Origins, portable
from sfd_sweep.export.verification import FolderEvaluation
from sfd_sweep.method.generator import PIPELINE
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.search.records import SweepRecord, TrialRecord
from sfd_sweep.storage.folder import Folder
from sfd_sweep.tracking.plots import front_png
from sfd_sweep.tracking.results import Selection
from sfd_sweep.trial.resolve import resolved

CLASSIFIER = "classifier"
CLIP_OF_SCORE = "clip"
PIPELINE_FILE = "pipeline.py"


def describe(
    record: SweepRecord, choice: Selection, folder: Path, origins: Origins, versions: dict[str, str]
) -> Description:
    """Everything that is known of a trial's generator, without a path of this machine; a judge that is not shipped is
    laid into the folder.

    Args:
        record: the sweep.
        choice: the trial, which has been evaluated.
        folder: the generator.
        origins: what it comes from.
        versions: what the sweep ran on.

    Raises:
        UserError: generator or judge are missing or broken.
    """
    space, trial = record.space, choice.trial
    assert trial.report is not None
    conditions, override = resolved(space, ModelFolder.open(str(folder)), trial.settings.override)
    lineage = _lineage(record, trial, origins, versions)
    sources = {"teacher": lineage.teacher.source, "start": lineage.start.source}
    return Description(
        conditions=conditions,
        task=space.task.model_copy(update=sources),
        override=override,
        settings=trial.settings,
        search=Figures.of(trial.report),
        final=None if trial.final is None else Figures.of(trial.final),
        evaluation=_with_judge(folder, space.evaluation, conditions),
        device="cuda" if space.resources.gpus_per_worker else "cpu",
        objectives=space.objectives,
        constraints=space.constraints,
        front=tuple(
            FrontMember(trial=number, metrics=report.metrics, samples=report.samples)
            for number, report in record.front_figures.items()
        ),
        why=choice.why,
        lineage=lineage,
    )


def lay_beside(
    folder: Path, name: str, record: SweepRecord, description: Description, judging: FolderEvaluation, origins: Origins
) -> None:
    """Lay code, pictures, description and card beside a generator.

    The pipeline is that of this version, not of the one that ran the sweep: no code out of a storage is run.

    Args:
        folder: the generator.
        name: what the folder will be called.
        record: the sweep.
        description: of the generator.
        judging: its judge, which draws the pictures: before and after on the same noise where the start is one-step.
        origins: what it comes from.

    Raises:
        UserError: the start's weights are broken.
    """
    shutil.copyfile(PIPELINE, folder / PIPELINE_FILE)
    evaluator, columns = judging.evaluator, grid_columns(judging.generator.image_shape)
    (folder / GRID).write_bytes(evaluator.grid(judging.generator.generate, columns=columns))
    before = origins.before(evaluator.device, description.conditions.names if description.reads_text else ())
    if before is not None:
        (folder / BEFORE).write_bytes(evaluator.grid(before, columns=columns))
    (folder / FRONT).write_bytes(front_png(record))
    description.write(folder)
    (folder / CARD).write_text(model_card(description, name, has_before=before is not None), encoding="utf-8")


def _lineage(record: SweepRecord, trial: TrialRecord, origins: Origins, versions: dict[str, str]) -> Lineage:
    assert trial.report is not None
    teacher, start = origins.named()
    return Lineage(
        teacher=teacher,
        start=start,
        sweep=record.space.name,
        trial=trial.number,
        state=trial.state,
        step=trial.report.step,
        seed=record.space.trial.seed,
        mlflow_run=trial.run_id,
        versions=versions,
    )


def _with_judge(folder: Path, evaluation: Evaluation, conditions: Conditions) -> Evaluation:
    """The same evaluation without a path of this machine: the folders of a classifier and of CLIP go wherever the
    generator's goes."""
    load_judge(evaluation, conditions)  # says in one line what is wrong with it
    return evaluation.model_copy(
        update={
            **_with_networks(folder, evaluation.classifier, evaluation.clip),
            "reference": portable(evaluation.reference),
            "inception": evaluation.inception.model_copy(update={"weights": None}),
        }
    )


def _with_networks(folder: Path, classifier: str, clip: str | None) -> dict[str, str | None]:
    """What classifier and CLIP are called there; one CLIP that is both is laid into the folder once."""
    if not classifier.startswith(CLIP):
        judge = _laid(classifier, folder, CLASSIFIER, FILES)
    else:
        judge = CLIP + _laid(classifier, folder, CLASSIFIER, clip_network.FILES)
    if clip is None:
        return {"classifier": judge, "clip": None}
    score = CLIP + clip.removeprefix(CLIP)
    if classifier.startswith(CLIP) and _place(score) == _place(classifier):
        return {"classifier": judge, "clip": judge.removeprefix(CLIP)}
    clip_network.load_clip(score.removeprefix(CLIP))  # says what is wrong with it
    return {"classifier": judge, "clip": _laid(score, folder, CLIP_OF_SCORE, clip_network.FILES)}


def _laid(source: str, folder: Path, name: str, files: Sequence[str]) -> str:
    """Lay a network's files into a folder of that name; the name, or the source without `clip:` if it is portable."""
    place = source.removeprefix(CLIP)
    if is_portable(source):
        return place
    origin, here = Folder.open(place), Folder.open(folder / name)
    for file in origin.names():
        if any(fnmatchcase(file, pattern) for pattern in files):
            here.write(file, origin.read(file))
    return name


def _place(source: str) -> Path:
    return Path(source.removeprefix(CLIP)).expanduser().resolve()
