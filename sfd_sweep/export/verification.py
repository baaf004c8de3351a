"""Measuring a generator's folder anew: is it whole, does it load elsewhere, and is it as good as it was?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging

from sfd_sweep.config import Evaluation, Override
from sfd_sweep.datasets.labels import class_index
from sfd_sweep.errors import TrialFailed, UserError
from sfd_sweep.evaluation.classifiers.loading import CLIP
from sfd_sweep.evaluation.conditions import Conditions
from sfd_sweep.evaluation.evaluator import Evaluator
from sfd_sweep.evaluation.factory import build_evaluator
from sfd_sweep.export.agreement import check_figures
from sfd_sweep.export.checksums import check_checksums
from sfd_sweep.export.description import Description, Figures, is_exported
from sfd_sweep.extras import quiet_transformers
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.metrics import METRICS, ReferenceKind
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.loading import load_score_model
from sfd_sweep.models.score_model import ScoreModel
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.resolve import replacements

COMPARED_IMAGES = 16
COMPARED_PIXELS = 2**17
"""Two images of 256×256: a CPU decodes one in a minute."""
SAME_IMAGE = 1e-4
"""Of a pixel in [0, 1]: the pipeline orders its arithmetic otherwise, which rounding shows; a grey level is 4e-3."""


@dataclass(frozen=True)
class AssetLocations:
    """Where things are on this machine that a description knows by name alone; None: where it says.

    Attributes:
        reference: the reference images.
        inception: Inception-V3's weights.
        teacher: the teacher, if its samples are the reference.
        references: folder with statistics of references that have been computed already.
    """

    reference: str | None = None
    inception: str | None = None
    teacher: str | None = None
    references: Folder | None = None

    def applied_to(self, evaluation: Evaluation) -> Evaluation:
        """The evaluation with these places."""
        weights = self.inception or evaluation.inception.weights
        return evaluation.model_copy(
            update={
                "reference": self.reference or evaluation.reference,
                "inception": evaluation.inception.model_copy(update={"weights": weights}),
            }
        )


@dataclass(frozen=True)
class FolderEvaluation:
    """A generator with its judge, and on how many samples it is to be judged.

    Attributes:
        generator: on the judge's device.
        evaluator: the judge.
        override: index of what replaces each forgotten class; None where any retained class may.
        samples: numbers of `retained` and `forgotten` samples.
        final: whether the metrics of a final evaluation are measured too.
    """

    generator: OneStepGenerator
    evaluator: Evaluator
    override: tuple[int, ...] | None
    samples: dict[str, int]
    final: bool = False

    @classmethod
    def of_exported(cls, folder: Path, description: Description, places: AssetLocations) -> FolderEvaluation:
        """As the sweep judged it: same judge, seed and numbers of samples, and the same kind of device if there is one.

        Raises:
            UserError: generator, judge or reference are missing or broken.
        """
        device = description.device if torch.cuda.is_available() else "cpu"
        conditions, metrics = description.conditions, description.figures.metrics
        generator = OneStepGenerator.load(folder, device, prompts=conditions.names if description.reads_text else ())
        evaluator = _evaluator(
            generator,
            places.applied_to(description.evaluation),
            conditions,
            folder,
            inception=any(METRICS[name].inception for name in metrics),
            teacher=places.teacher or description.task.teacher,
            references=places.references,
        )
        final = any(METRICS[name].final for name in metrics)
        return cls(generator, evaluator, description.override, description.figures.samples, final)

    @classmethod
    def of_plain(
        cls, folder: Path, forget: Sequence[int | str], override: Override, places: AssetLocations
    ) -> FolderEvaluation:
        """By the defaults of a search-space file.

        Raises:
            UserError: there is no generator, or it has no such classes, or the judge does not fit it.
        """
        generator = OneStepGenerator.load(folder, "cuda" if torch.cuda.is_available() else "cpu")
        if generator.reads_text:
            raise UserError(f"{folder} makes images of prompts, and only generators of classes can be judged")
        names = generator.class_names
        indices = tuple(class_index(names, name) for name in forget)
        if len(set(indices)) < len(indices) or len(indices) == len(names):
            raise UserError("forget: names a class twice, or every class; at least one is retained")
        evaluation = places.applied_to(Evaluation())
        samples = {"retained": evaluation.samples, "forgotten": evaluation.forget_samples}
        evaluator = _evaluator(generator, evaluation, Conditions.of_classes(names, indices), folder)
        return cls(generator, evaluator, replacements(override, indices, names), samples)

    def figures(self, samples: int | None = None, forget_samples: int | None = None) -> Figures:
        """Judge it.

        Args:
            samples: of the retained classes; None: as many as it is to be judged on.
            forget_samples: of the forgotten classes, likewise.

        Raises:
            UserError: the generator makes images that are not finite.
        """
        started = time.perf_counter()
        try:
            judgement = self.evaluator.evaluate(
                self.generator.generate,
                override=self.override,
                samples=samples or self.samples["retained"],
                forget_samples=forget_samples or self.samples["forgotten"],
                final=self.final,
            )
        except TrialFailed as error:
            raise UserError(f"the generator cannot be judged: {error}; export another trial") from error
        return Figures(metrics=judgement.metrics, samples=judgement.samples, seconds=time.perf_counter() - started)


def evaluate_folder(
    folder: Path,
    *,
    samples: int | None = None,
    forget_samples: int | None = None,
    forget: Sequence[int | str] = (),
    override: Override | None = None,
    places: AssetLocations = AssetLocations(),
) -> Figures:
    """Measure the generator in a folder.

    Args:
        folder: an exported one, or any one-step generator's.
        samples: of the retained classes; None: as many as the exported figures rest on, or the default of a
            search-space file.
        forget_samples: of the forgotten classes, likewise.
        forget: the forgotten classes, by index or name. An exported folder knows them.
        override: what replaces them: a class, one for each, `random` or `classifier`. An exported folder knows it.
        places: where the reference is on this machine.

    Raises:
        UserError: there is no generator, it was changed since it was exported, it is not known (or known already) what
            was forgotten, or the judge does not fit it.
    """
    if is_exported(folder):
        if forget or override is not None:
            raise UserError(f"{folder} says itself what was forgotten and what replaces it; leave both out")
        check_checksums(folder)
        judging = FolderEvaluation.of_exported(folder, Description.read(folder), places)
    elif forget and override is not None:
        judging = FolderEvaluation.of_plain(folder, forget, override, places)
    elif not folder.is_dir():
        raise UserError(f"there is no folder {folder}; give one that `sfd-sweep export` wrote")
    else:
        raise UserError(
            f"{folder} was not exported from a sweep (no sfd_sweep.json), so say what was forgotten and what replaces "
            "it: --forget and --override"
        )
    return judging.figures(samples, forget_samples)


def verify(folder: Path, description: Description, judging: FolderEvaluation) -> Figures:
    """Hold an exported folder against what it says of itself, and return its figures.

    Raises:
        UserError: its pipeline does not load or makes other images, or its figures are not the recorded ones.
    """
    check_checksums(folder)
    _check_pipeline(folder, description.conditions.names)
    found = judging.figures()
    check_figures(description.figures, found, classes=len(judging.evaluator.classifier.class_names))
    return found


def _evaluator(
    generator: OneStepGenerator,
    evaluation: Evaluation,
    conditions: Conditions,
    folder: Path,
    *,
    inception: bool = False,
    teacher: str = "",
    references: Folder | None = None,
) -> Evaluator:
    """The judge of a generator; the teacher is loaded if its samples are a reference."""
    device = generator.model.device
    judge, clip = _beside(folder, evaluation.classifier), evaluation.clip and _beside(folder, evaluation.clip)
    evaluation = evaluation.model_copy(update={"classifier": judge, "clip": clip})
    prompts = conditions.names if generator.reads_text else ()
    needs_teacher = generator.reads_text or evaluation.reference_kind is ReferenceKind.TEACHER
    return build_evaluator(
        evaluation,
        conditions=conditions,
        image_shape=generator.image_shape,
        inception=inception,
        teacher=_teacher(teacher, device, prompts) if needs_teacher else None,
        device=device,
        cache=references,
    )


def _beside(folder: Path, source: str) -> str:
    """A network that was exported with the generator, by its path; any other as it is."""
    place = folder / source.removeprefix(CLIP)
    if not place.is_dir():
        return source
    return f"{CLIP if source.startswith(CLIP) else ''}{place}"


def _teacher(source: str, device: torch.device, prompts: Sequence[str] = ()) -> ScoreModel:
    try:
        return load_score_model(ModelFolder.open(source), device, prompts=prompts)
    except UserError as error:
        raise UserError(
            f"the teacher, whose samples are the reference, is not where it was: {error}; say where it is (--teacher)"
        ) from error


def _check_pipeline(folder: Path, names: Sequence[str]) -> None:
    """Load the folder as anyone does who has diffusers alone, and compare its images with the generator's.

    On the CPU: a GPU's convolutions round so coarsely that the order of the arithmetic would show.
    """
    generator = OneStepGenerator.load(folder)
    _, height, width = generator.model.image_shape
    most = min(COMPARED_IMAGES, max(2, COMPARED_PIXELS // (height * width)))
    wanted: list[int | str] = [*(names if generator.reads_text else range(len(names)))][:most]
    asked = {"prompt" if generator.reads_text else "labels": wanted}
    diffusers_logging.disable_progress_bar()
    try:
        with quiet_transformers() if generator.reads_text else nullcontext():
            pipeline = DiffusionPipeline.from_pretrained(
                folder, custom_pipeline=str(folder), trust_remote_code=True, low_cpu_mem_usage=False
            )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"diffusers cannot load what was exported ({reason}); export another trial") from error
    finally:
        diffusers_logging.enable_progress_bar()
    images = pipeline(**asked, seeds=list(range(len(wanted))), output_type="pt").images
    expected = generator.sample(wanted, seed=0) / 2 + 0.5
    difference = float((images - expected).abs().max())
    if not difference <= SAME_IMAGE:
        raise UserError(
            f"the exported pipeline makes other images than the generator (they differ by {difference:.2g} of 1); its "
            "scheduler is not one that it was trained with: export another trial"
        )
