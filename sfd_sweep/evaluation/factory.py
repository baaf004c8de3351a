"""From what a search-space file says of the evaluation to an evaluator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from sfd_sweep.config import Evaluation
from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.datasets.labels import class_index
from sfd_sweep.datasets.sources import load_images
from sfd_sweep.datasets.unlabelled import load_unlabelled_images
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.base import Classifier
from sfd_sweep.evaluation.classifiers.loading import CLIP, load_classifier
from sfd_sweep.evaluation.clip_score import ClipScore
from sfd_sweep.evaluation.conditions import Conditions
from sfd_sweep.evaluation.evaluator import Evaluator
from sfd_sweep.evaluation.inception import Inception
from sfd_sweep.evaluation.reference_images import PromptReference, RealImages, ReferenceImages, TeacherImages
from sfd_sweep.evaluation.reference_statistics import remembered
from sfd_sweep.metrics import ReferenceKind
from sfd_sweep.models.score_model import ScoreModel
from sfd_sweep.storage.folder import Folder

LOOKED_AT = 100
"""Teacher's images of forgotten prompts that tell whether the judge sees the concept at all."""
LEAST_SEEN = 0.1


def build_evaluator(
    evaluation: Evaluation,
    *,
    conditions: Conditions,
    image_shape: tuple[int, int, int],
    inception: bool,
    teacher: ScoreModel | None,
    device: torch.device | str = "cpu",
    cache: Folder | None = None,
) -> Evaluator:
    """Load the judge and its reference.

    Args:
        evaluation: what is asked for.
        conditions: of the generators that will be judged.
        image_shape: (C, H, W) of their images.
        inception: whether Inception-V3 is needed.
        teacher: for a reference of its own samples. If it reads text, conditions are prompts, and its samples of
            override prompts stand for what replaces the forgotten; without one they are classes.
        device: where images are made and judged.
        cache: where reference statistics are kept; None keeps them in memory.

    Raises:
        UserError: something is missing or broken, does not fit those generators, or the judge does not know what is
            to be forgotten.
    """
    of_prompts = teacher is not None and teacher.prompts is not None
    prepare = _judge_of_prompts if of_prompts else _judge_of_classes
    classifier, conditions = prepare(evaluation, conditions, image_shape)
    return Evaluator(
        classifier.to(device),
        _reference(evaluation, conditions, image_shape, teacher),
        conditions,
        seed=evaluation.seed,
        device=device,
        inception=_inception(evaluation, device) if inception else None,
        clip_score=_clip_score(evaluation, conditions, device) if of_prompts else None,
        cache=cache,
        batch_size=evaluation.batch_size,
    )


def _judge_of_classes(
    evaluation: Evaluation, conditions: Conditions, image_shape: tuple[int, int, int]
) -> tuple[Classifier, Conditions]:
    """A classifier whose classes are the conditions."""
    classifier = load_classifier(evaluation.classifier)
    classifier.check_images(conditions.names, image_shape)
    return classifier.for_classes(conditions.names), conditions


def _judge_of_prompts(
    evaluation: Evaluation, conditions: Conditions, image_shape: tuple[int, int, int]
) -> tuple[Classifier, Conditions]:
    """A classifier, and the conditions with what it calls their images."""
    classifier = load_judge(evaluation, conditions)
    classifier.check_shape(image_shape)
    return classifier, replace(conditions, called=_called(evaluation, conditions, classifier))


def load_judge(evaluation: Evaluation, conditions: Conditions) -> Classifier:
    """The classifier of an evaluation; CLIP is told what the conditions are about.

    Raises:
        UserError: it is missing or broken, or cannot be fetched.
    """
    subjects = tuple(dict.fromkeys(filter(None, conditions.subjects)))
    told = subjects if evaluation.classifier.startswith(CLIP) else ()
    return load_classifier(evaluation.classifier, concepts=told)


def check_concept_is_seen(
    evaluator: Evaluator, teacher: ScoreModel, evaluation: Evaluation, cache: Folder | None = None
) -> float:
    """Whether the judge sees the concept in what the teacher makes of it; if it does not, its figures say nothing.

    Args:
        cache: where the answer is kept; None asks again each time.

    Returns:
        The share of the teacher's images of forgotten prompts that are called forgotten.

    Raises:
        UserError: it is next to nothing.
    """
    conditions = evaluator.conditions
    recipe = evaluation.teacher_samples
    images = TeacherImages(teacher, conditions.names, recipe, samples=LOOKED_AT, of=1, seed=evaluation.seed)
    called = sorted(evaluator.conditions.forgotten_classes)
    what = f"seen {evaluator.classifier.content_hash()} {called} {images.content_hash(conditions.forget)}"
    seen = remembered(cache, what, lambda: evaluator.seen_in(images))
    if seen < LEAST_SEEN:
        raise UserError(
            f"{evaluator.classifier.name} sees {conditions.subjects[conditions.forget[0]]!r} in {seen:.0%} of "
            f"{images.count(conditions.forget)} images that the teacher makes of prompts about it, so it cannot tell "
            "whether it is forgotten; choose another judge (evaluation.classifier), other prompts, or a higher "
            "evaluation.teacher_samples.guidance_scale"
        )
    return seen


def _called(evaluation: Evaluation, conditions: Conditions, classifier: Classifier) -> tuple[tuple[int, ...], ...]:
    """The classes of the classifier for each condition; none for a subject that it has no word for."""
    forgotten = {conditions.subjects[index] for index in conditions.forget}
    known = {
        subject: _classes_called(evaluation, subject, classifier, needed=subject in forgotten)
        for subject in dict.fromkeys(conditions.subjects)
    }
    for subject in set(known) - forgotten:
        if set(known[subject]) & {called for name in forgotten for called in known[name]}:
            raise UserError(
                f"evaluation.class_of: {classifier.name} would call {subject!r} by the same class as what is forgotten"
            )
    return tuple(known[subject] for subject in conditions.subjects)


def _classes_called(evaluation: Evaluation, subject: str, classifier: Classifier, *, needed: bool) -> tuple[int, ...]:
    if subject in evaluation.class_of:
        named = evaluation.class_of[subject]
        words = named if isinstance(named, tuple) else (named,)
        try:
            return tuple(class_index(classifier.class_names, word) for word in words)
        except UserError as error:
            raise UserError(f"evaluation.class_of.{subject}: {error}") from error
    lower = [name.casefold() for name in classifier.class_names]
    if subject.casefold() in lower:
        return (lower.index(subject.casefold()),)
    if needed:
        raise UserError(
            f"{classifier.name} has no class {subject!r}, which is to be forgotten; say in evaluation.class_of which "
            f"of its classes that is (such as {', '.join(classifier.class_names[:3])}), or choose another judge"
        )
    return ()


def _clip_score(evaluation: Evaluation, conditions: Conditions, device: torch.device | str) -> ClipScore | None:
    if evaluation.clip is None:
        return None
    prompts = [conditions.names[index] for index in conditions.judged]
    return ClipScore(evaluation.clip, prompts).to(device)


def _inception(evaluation: Evaluation, device: torch.device | str) -> Inception:
    return Inception.load(evaluation.inception.weights, evaluation.inception.mode, device)


def _reference(
    evaluation: Evaluation, conditions: Conditions, image_shape: tuple[int, int, int], teacher: ScoreModel | None
) -> ReferenceImages:
    """Images of what is kept, and of what replaces the forgotten."""
    if teacher is None or teacher.prompts is None:
        if evaluation.reference_kind is ReferenceKind.TEACHER:
            return _teacher_images(evaluation, conditions, teacher, of=len(conditions.names))
        names = conditions.names
        return RealImages(_fitting(load_images, evaluation, image_shape, class_names=names))
    kept: ReferenceImages
    if evaluation.reference_kind is ReferenceKind.TEACHER:
        kept = _teacher_images(evaluation, conditions, teacher, of=len(conditions.judged))
    else:
        images = _fitting(load_unlabelled_images, evaluation, image_shape)
        kept = RealImages.without_classes(images, conditions.judged)
    recipe = evaluation.teacher_samples
    overrides = TeacherImages(
        teacher, conditions.names, recipe, samples=recipe.override_samples, of=1, seed=evaluation.seed
    )
    return PromptReference(conditions.judged, kept, overrides)


def _teacher_images(
    evaluation: Evaluation, conditions: Conditions, teacher: ScoreModel | None, *, of: int
) -> TeacherImages:
    """The teacher's own samples; `of` is the number of conditions that they are of together."""
    if teacher is None:
        raise UserError(
            "evaluation.reference: the teacher's own samples were the reference, and the teacher is not here; give "
            "real images"
        )
    recipe = evaluation.teacher_samples
    return TeacherImages(teacher, conditions.names, recipe, samples=recipe.samples, of=of, seed=evaluation.seed)


def _fitting(
    load: Callable[..., LabeledImages], evaluation: Evaluation, image_shape: tuple[int, int, int], **options: object
) -> LabeledImages:
    """Real images of the shape that generators make."""
    try:
        images = load(evaluation.reference, size=image_shape[-1], **options)
    except UserError as error:
        raise UserError(f"evaluation.reference: {error}") from error
    if images.image_shape != image_shape:
        raise UserError(
            f"evaluation.reference: {evaluation.reference} has images of shape {images.image_shape}, but generators "
            f"make them of {image_shape}"
        )
    return images
