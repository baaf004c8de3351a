"""The evaluation of a model's folder: as the sweep evaluated it, by a search-space file, or by a file's defaults."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from sfd_sweep.config import Evaluation, Override, SearchSpace
from sfd_sweep.datasets.labels import class_index
from sfd_sweep.errors import TrialFailed, UserError
from sfd_sweep.evaluation.classifiers.loading import CLIP
from sfd_sweep.evaluation.conditions import Conditions
from sfd_sweep.evaluation.evaluator import Evaluator
from sfd_sweep.evaluation.factory import build_evaluator, check_concept_recognized
from sfd_sweep.export.description import Description, Figures, is_exported
from sfd_sweep.export.sampling import AS_STATED, Sampling
from sfd_sweep.export.verification import check_checksums
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.metrics import METRICS, Need, ReferenceKind
from sfd_sweep.models.conditioning import CLASSES
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.loading import load_score_model
from sfd_sweep.models.samplers import ImageSampler
from sfd_sweep.models.score_model import ScoreModel
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.resolve import class_overrides, resolved


@dataclass(frozen=True)
class AssetLocations:
    """Assets in place of those that an evaluation names; None: as it says.

    Attributes:
        reference: real images, or `teacher`.
        inception: Inception-V3's weights.
        teacher: whose samples are the reference.
        classifier: that scores images.
        references: folder with reference statistics that are known already.
    """

    reference: str | None = None
    inception: str | None = None
    teacher: str | None = None
    classifier: str | None = None
    references: Folder | None = None


AS_DESCRIBED = AssetLocations()
"""All assets are where the description says."""


@dataclass(frozen=True)
class FolderEvaluation:
    """A model with its evaluator and the numbers of samples.

    Attributes:
        model: a one-step generator, or a diffusion model with its sampler; on the evaluator's device.
        evaluator: with the generator's conditions.
        override: index of what replaces each forgotten condition; None where any retained one may.
        samples: numbers of `retained` and `forgotten` samples.
        final: whether the metrics of a final evaluation are measured too.
        start: source of the generator's initial weights; None if it is unknown.
    """

    model: ImageSampler
    evaluator: Evaluator
    override: tuple[int, ...] | None
    samples: dict[str, int]
    final: bool = False
    start: str | None = None

    @property
    def generator(self) -> OneStepGenerator:
        """The model, where only a one-step generator is evaluated."""
        assert isinstance(self.model, OneStepGenerator), "only evaluations have other samplers"
        return self.model

    @classmethod
    def of_exported(
        cls,
        folder: Path,
        description: Description,
        assets: AssetLocations,
        device: str | None = None,
        *,
        final: bool = False,
    ) -> FolderEvaluation:
        """Return the sweep's evaluation: the same evaluator, seed and samples, and the same kind of device if present.

        Args:
            folder: of the generator.
            description: of the generator.
            assets: where its evaluation's assets are.
            device: of networks and samples; None: of the kind that the description names, if there is one.
            final: whether the metrics of a final evaluation are measured in any case.

        Raises:
            UserError: the generator, a network or the reference is missing or broken.
        """
        device = device or (description.device if torch.cuda.is_available() else "cpu")
        generator = OneStepGenerator.load(folder, device, prompts=description.conditions.names)
        evaluation = _localized(description.evaluation, folder, assets)
        needs_teacher = _needs_teacher(generator, evaluation)
        source = assets.teacher or description.task.teacher
        metrics = [METRICS[name] for name in description.figures.metrics]
        evaluator = build_evaluator(
            evaluation,
            conditions=description.conditions,
            image_shape=generator.image_shape,
            inception=final or any(metric.inception for metric in metrics),
            relative=any(Need.FORGOTTEN_IMAGES in metric.needs for metric in metrics),
            teacher=_load_teacher(source, device, description.conditions.names) if needs_teacher else None,
            device=device,
            cache=assets.references,
        )
        final = final or description.final is not None
        start = description.task.start
        start = source if start == "teacher" else start
        return cls(generator, evaluator, description.override, description.figures.samples, final, start)

    @classmethod
    def of_plain(
        cls,
        folder: Path,
        forget: Sequence[int | str],
        override: Override,
        assets: AssetLocations,
        device: str | None = None,
        *,
        sampling: Sampling = AS_STATED,
        final: bool = False,
    ) -> FolderEvaluation:
        """Return an evaluation by the defaults of a search-space file.

        Raises:
            UserError: there is no such model, it has no such classes, or the classifier does not fit it.
        """
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        model = sampling.load(folder, device)
        if model.kind is not CLASSES:
            raise UserError(
                f"{folder} makes images of {model.kind.plural}; only generators of classes are evaluated without a "
                "search-space file (--space)"
            )
        names = model.condition_names
        indices = tuple(class_index(names, name) for name in forget)
        if len(set(indices)) < len(indices) or len(indices) == len(names):
            raise UserError("forget: names a class twice, or every class; at least one is retained")
        evaluation = _localized(Evaluation(), folder, assets)
        evaluator = build_evaluator(
            evaluation,
            conditions=Conditions.of_classes(names, indices).without(model.model.conditioning.absent),
            image_shape=model.image_shape,
            inception=final,
            teacher=_load_teacher(assets.teacher, device, names) if assets.teacher else None,
            device=device,
            cache=assets.references,
        )
        samples = {"retained": evaluation.samples, "forgotten": evaluation.forget_samples}
        return cls(model, evaluator, class_overrides(override, indices, names), samples, final)

    @classmethod
    def of_space(
        cls,
        folder: Path,
        space: SearchSpace,
        override: Override | None,
        assets: AssetLocations,
        device: str | None = None,
        *,
        sampling: Sampling = AS_STATED,
        final: bool = False,
    ) -> FolderEvaluation:
        """Return the evaluation of a search-space file: its conditions, classifier and reference.

        Raises:
            UserError: there is no such model, it has other conditions, the classifier does not recognize the concept,
                or a network or the reference is missing or broken.
        """
        override = _chosen_override(space) if override is None else override
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        conditions, replacing = resolved(space, ModelFolder.open(str(folder)), override)
        model = sampling.load(folder, device, prompts=conditions.names)
        evaluation = _localized(space.evaluation, folder, assets)
        source = assets.teacher or space.task.teacher
        teacher = _load_teacher(source, device, conditions.names) if _needs_teacher(model, evaluation) else None
        evaluator = build_evaluator(
            evaluation,
            conditions=conditions,
            image_shape=model.image_shape,
            inception=final or space.wants_inception,
            relative=Need.FORGOTTEN_IMAGES in space.asked_needs,
            teacher=teacher,
            device=device,
            cache=assets.references,
        )
        if teacher is not None and model.kind is not CLASSES:
            check_concept_recognized(evaluator, teacher, evaluation, assets.references)
        samples = {"retained": evaluation.samples, "forgotten": evaluation.forget_samples}
        start = source if space.task.start == "teacher" else space.task.start
        return cls(model, evaluator, replacing, samples, final, start)

    def figures(self, samples: int | None = None, forget_samples: int | None = None) -> Figures:
        """Evaluate the model, on other numbers of retained and forgotten samples if they are given.

        Raises:
            UserError: the model makes images that are not finite.
        """
        started = time.perf_counter()
        try:
            result = self.evaluator.evaluate(
                self.model.generate,
                override=self.override,
                samples=samples or self.samples["retained"],
                forget_samples=forget_samples or self.samples["forgotten"],
                final=self.final,
            )
        except TrialFailed as error:
            raise UserError(f"the model cannot be evaluated: {error}; choose another one") from error
        return Figures(metrics=result.metrics, samples=result.samples, seconds=time.perf_counter() - started)


def evaluate_folder(
    folder: Path,
    *,
    samples: int | None = None,
    forget_samples: int | None = None,
    forget: Sequence[int | str] = (),
    override: Override | None = None,
    assets: AssetLocations = AS_DESCRIBED,
    space: SearchSpace | None = None,
    sampling: Sampling = AS_STATED,
    final: bool = False,
) -> Figures:
    """Evaluate the model in a folder.

    Args:
        folder: an exported one, or that of any one-step generator or diffusion model.
        samples: of the retained conditions; None: the number behind the exported figures, or the default of a
            search-space file.
        forget_samples: of the forgotten conditions, likewise.
        forget: the forgotten classes, by index or name; an exported folder states them.
        override: what replaces them: a class, one for each, `random` or `classifier`; an exported folder states it.
        assets: in place of those that the folder, the search-space file, or its defaults name.
        space: what says how a folder that was not exported is evaluated, as models of prompts need; it states what is
            forgotten.
        sampling: how images are made of a model that was not exported.
        final: whether the metrics of a final evaluation are measured in any case.

    Raises:
        UserError: there is no such model, it was changed since it was exported, the forgotten classes are unknown (or
            known already), or the classifier does not fit it.
    """
    evaluation = folder_evaluation(
        folder, forget=forget, override=override, assets=assets, space=space, sampling=sampling, final=final
    )
    return evaluation.figures(samples, forget_samples)


def folder_evaluation(
    folder: Path,
    *,
    forget: Sequence[int | str],
    override: Override | None,
    assets: AssetLocations,
    device: str | None = None,
    space: SearchSpace | None = None,
    sampling: Sampling = AS_STATED,
    final: bool = False,
) -> FolderEvaluation:
    """Return the model in a folder with its evaluator; arguments and errors are those of `evaluate_folder`."""
    if is_exported(folder):
        if forget or override is not None or space is not None:
            raise UserError(f"{folder} states itself what was forgotten and what replaces it; leave both out")
        if sampling != AS_STATED:
            raise UserError(f"{folder} states itself how it makes images; leave out --sampler and --t-init")
        check_checksums(folder)
        return FolderEvaluation.of_exported(folder, Description.read(folder), assets, device, final=final)
    if space is not None:
        if forget:
            raise UserError(f"{space.name} states itself what is forgotten; leave it out")
        return FolderEvaluation.of_space(folder, space, override, assets, device, sampling=sampling, final=final)
    if forget and override is not None:
        return FolderEvaluation.of_plain(folder, forget, override, assets, device, sampling=sampling, final=final)
    if not (folder.is_dir() or str(folder).startswith("builtin:")):
        raise UserError(f"there is no folder {folder}; give one that `sfd-sweep export` wrote")
    raise UserError(
        f"{folder} was not exported from a sweep (no sfd_sweep.json), so say what was forgotten and what replaces "
        "it (--forget and --override), or give a search-space file (--space)"
    )


def _needs_teacher(model: ImageSampler, evaluation: Evaluation) -> bool:
    return model.kind is not CLASSES or evaluation.reference_kind is ReferenceKind.TEACHER


def _chosen_override(space: SearchSpace) -> Override:
    """Return the override of a search-space file that has only one."""
    fixed = space.parameters.fixed()
    if "override" not in fixed:
        raise UserError(f"{space.name} searches for the override; say which one the generator was trained with")
    override: Override = fixed["override"]
    return override


def _localized(evaluation: Evaluation, folder: Path, assets: AssetLocations) -> Evaluation:
    """The evaluation with the places of its assets on this machine."""
    weights = assets.inception or evaluation.inception.weights
    return evaluation.model_copy(
        update={
            "classifier": assets.classifier or beside(folder, evaluation.classifier),
            "clip": evaluation.clip and beside(folder, evaluation.clip),
            "reference": assets.reference or evaluation.reference,
            "inception": evaluation.inception.model_copy(update={"weights": weights}),
        }
    )


def beside(folder: Path, source: str) -> str:
    """Return the path of a network that was exported with the generator; any other source unchanged."""
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
