"""The evaluation of a generator's folder: as the sweep evaluated it, or by the defaults of a search-space file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from sfd_sweep.config import Evaluation, Override
from sfd_sweep.datasets.labels import class_index
from sfd_sweep.errors import TrialFailed, UserError
from sfd_sweep.evaluation.classifiers.loading import CLIP
from sfd_sweep.evaluation.conditions import Conditions
from sfd_sweep.evaluation.evaluator import Evaluator
from sfd_sweep.evaluation.factory import build_evaluator
from sfd_sweep.export.description import Description, Figures, is_exported
from sfd_sweep.export.verification import check_checksums
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.metrics import METRICS, ReferenceKind
from sfd_sweep.models.conditioning import CLASSES
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.loading import load_score_model
from sfd_sweep.models.score_model import ScoreModel
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.resolve import class_overrides


@dataclass(frozen=True)
class AssetLocations:
    """Where assets are on this machine that a description only names; None: as the description says.

    Attributes:
        inception: Inception-V3's weights.
        references: folder with reference statistics that are known already.
    """

    reference: str | None = None
    inception: str | None = None
    teacher: str | None = None
    references: Folder | None = None


@dataclass(frozen=True)
class FolderEvaluation:
    """A generator with its evaluator and the numbers of samples.

    Attributes:
        generator: on the evaluator's device.
        evaluator: with the generator's conditions.
        override: index of what replaces each forgotten condition; None where any retained one may.
        samples: numbers of `retained` and `forgotten` samples.
        final: whether the metrics of a final evaluation are measured too.
    """

    generator: OneStepGenerator
    evaluator: Evaluator
    override: tuple[int, ...] | None
    samples: dict[str, int]
    final: bool = False

    @classmethod
    def of_exported(cls, folder: Path, description: Description, assets: AssetLocations) -> FolderEvaluation:
        """Return the sweep's evaluation: the same evaluator, seed and samples, and the same kind of device if present.

        Raises:
            UserError: the generator, a network or the reference is missing or broken.
        """
        device = description.device if torch.cuda.is_available() else "cpu"
        generator = OneStepGenerator.load(folder, device, prompts=description.conditions.names)
        evaluation = _localized(description.evaluation, folder, assets)
        needs_teacher = generator.kind is not CLASSES or evaluation.reference_kind is ReferenceKind.TEACHER
        source = assets.teacher or description.task.teacher
        metrics = [METRICS[name] for name in description.figures.metrics]
        evaluator = build_evaluator(
            evaluation,
            conditions=description.conditions,
            image_shape=generator.image_shape,
            inception=any(metric.inception for metric in metrics),
            teacher=_load_teacher(source, device, description.conditions.names) if needs_teacher else None,
            device=device,
            cache=assets.references,
        )
        final = any(metric.final for metric in metrics)
        return cls(generator, evaluator, description.override, description.figures.samples, final)

    @classmethod
    def of_plain(
        cls, folder: Path, forget: Sequence[int | str], override: Override, assets: AssetLocations
    ) -> FolderEvaluation:
        """Return an evaluation by the defaults of a search-space file.

        Raises:
            UserError: there is no generator, it has no such classes, or the classifier does not fit it.
        """
        device = "cuda" if torch.cuda.is_available() else "cpu"
        generator = OneStepGenerator.load(folder, device)
        if generator.kind is not CLASSES:
            raise UserError(
                f"{folder} makes images of {generator.kind.plural}; only generators of classes are evaluated"
            )
        names = generator.condition_names
        indices = tuple(class_index(names, name) for name in forget)
        if len(set(indices)) < len(indices) or len(indices) == len(names):
            raise UserError("forget: names a class twice, or every class; at least one is retained")
        evaluation = _localized(Evaluation(), folder, assets)
        evaluator = build_evaluator(
            evaluation,
            conditions=Conditions.of_classes(names, indices),
            image_shape=generator.image_shape,
            inception=False,
            teacher=None,
            device=device,
        )
        samples = {"retained": evaluation.samples, "forgotten": evaluation.forget_samples}
        return cls(generator, evaluator, class_overrides(override, indices, names), samples)

    def figures(self, samples: int | None = None, forget_samples: int | None = None) -> Figures:
        """Evaluate the generator, on other numbers of retained and forgotten samples if they are given.

        Raises:
            UserError: the generator makes images that are not finite.
        """
        started = time.perf_counter()
        try:
            result = self.evaluator.evaluate(
                self.generator.generate,
                override=self.override,
                samples=samples or self.samples["retained"],
                forget_samples=forget_samples or self.samples["forgotten"],
                final=self.final,
            )
        except TrialFailed as error:
            raise UserError(f"the generator cannot be evaluated: {error}; export another trial") from error
        return Figures(metrics=result.metrics, samples=result.samples, seconds=time.perf_counter() - started)


def evaluate_folder(
    folder: Path,
    *,
    samples: int | None = None,
    forget_samples: int | None = None,
    forget: Sequence[int | str] = (),
    override: Override | None = None,
    assets: AssetLocations = AssetLocations(),
) -> Figures:
    """Evaluate the generator in a folder.

    Args:
        folder: an exported one, or any one-step generator's.
        samples: of the retained conditions; None: the number behind the exported figures, or the default of a
            search-space file.
        forget_samples: of the forgotten conditions, likewise.
        forget: the forgotten classes, by index or name; an exported folder states them.
        override: what replaces them: a class, one for each, `random` or `classifier`; an exported folder states it.
        assets: where the reference is on this machine.

    Raises:
        UserError: there is no generator, it was changed since it was exported, the forgotten classes are unknown (or
            known already), or the classifier does not fit it.
    """
    if is_exported(folder):
        if forget or override is not None:
            raise UserError(f"{folder} states itself what was forgotten and what replaces it; leave both out")
        check_checksums(folder)
        evaluation = FolderEvaluation.of_exported(folder, Description.read(folder), assets)
    elif forget and override is not None:
        evaluation = FolderEvaluation.of_plain(folder, forget, override, assets)
    elif not folder.is_dir():
        raise UserError(f"there is no folder {folder}; give one that `sfd-sweep export` wrote")
    else:
        raise UserError(
            f"{folder} was not exported from a sweep (no sfd_sweep.json), so say what was forgotten and what replaces "
            "it: --forget and --override"
        )
    return evaluation.figures(samples, forget_samples)


def _localized(evaluation: Evaluation, folder: Path, assets: AssetLocations) -> Evaluation:
    """The evaluation with the places of its assets on this machine."""
    weights = assets.inception or evaluation.inception.weights
    return evaluation.model_copy(
        update={
            "classifier": _beside(folder, evaluation.classifier),
            "clip": evaluation.clip and _beside(folder, evaluation.clip),
            "reference": assets.reference or evaluation.reference,
            "inception": evaluation.inception.model_copy(update={"weights": weights}),
        }
    )


def _beside(folder: Path, source: str) -> str:
    """The path of a network that was exported with the generator; any other source unchanged."""
    path = folder / source.removeprefix(CLIP)
    if not path.is_dir():
        return source
    return f"{CLIP if source.startswith(CLIP) else ''}{path}"


def _load_teacher(source: str, device: str, prompts: Sequence[str]) -> ScoreModel:
    try:
        return load_score_model(ModelFolder.open(source), device, prompts=prompts)
    except UserError as error:
        raise UserError(
            f"the teacher, whose samples are the reference, is not where it was: {error}; say where it is (--teacher)"
        ) from error
