"""What an exported folder holds beside the generator's weights: code, judge, pictures, card and description."""

from __future__ import annotations

import shutil
from fnmatch import fnmatchcase
from pathlib import Path

from sfd_sweep.config import Evaluation
from sfd_sweep.diffusion.model_folder import ModelFolder
from sfd_sweep.distillation.generator import PIPELINE
from sfd_sweep.evaluation.classifiers.loading import FILES, is_portable, load_classifier
from sfd_sweep.export.card import BEFORE, CARD, FRONT, GRID, model_card
from sfd_sweep.export.description import Description, Figures, FrontMember, Lineage
from sfd_sweep.export.origins import Origins, portable
from sfd_sweep.export.verification import Judging
from sfd_sweep.storage import Folder
from sfd_sweep.sweep.results import Choice
from sfd_sweep.tracking.plots import front_png
from sfd_sweep.tracking.records import SweepRecord, TrialRecord
from sfd_sweep.trial.plan import resolved

CLASSIFIER = "classifier"
PIPELINE_FILE = "pipeline.py"


def describe(
    record: SweepRecord, choice: Choice, folder: Path, origins: Origins, versions: dict[str, str]
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
    conditions, override = resolved(space.task, ModelFolder.open(str(folder)), trial.settings.override)
    lineage = _lineage(record, trial, origins, versions)
    sources = {"teacher": lineage.teacher.source, "start": lineage.start.source}
    return Description(
        conditions=conditions,
        task=space.task.model_copy(update=sources),
        override=override,
        settings=trial.settings,
        search=Figures.of(trial.report),
        final=None if trial.final is None else Figures.of(trial.final),
        evaluation=_with_judge(folder, space.evaluation),
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
    folder: Path, name: str, record: SweepRecord, description: Description, judging: Judging, origins: Origins
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
    evaluator = judging.evaluator
    (folder / GRID).write_bytes(evaluator.grid(judging.generator.generate))
    before = origins.before(evaluator.device, description.conditions.names if description.reads_text else ())
    if before is not None:
        (folder / BEFORE).write_bytes(evaluator.grid(before))
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


def _with_judge(folder: Path, evaluation: Evaluation) -> Evaluation:
    """The same evaluation without a path of this machine: a classifier's folder goes wherever the generator's goes."""
    load_classifier(evaluation.classifier)  # says in one line what is wrong with it
    portable_judge = is_portable(evaluation.classifier)
    if not portable_judge:
        source, here = Folder.open(evaluation.classifier), Folder.open(folder / CLASSIFIER)
        for name in source.names():
            if any(fnmatchcase(name, pattern) for pattern in FILES):
                here.write(name, source.read(name))
    return evaluation.model_copy(
        update={
            "classifier": evaluation.classifier if portable_judge else CLASSIFIER,
            "reference": portable(evaluation.reference),
            "inception": evaluation.inception.model_copy(update={"weights": None}),
        }
    )
