"""An evaluator from what a search-space file says of the evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from sfd_sweep.config import Evaluation
from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.datasets.labels import class_index
from sfd_sweep.datasets.sources import load_images, load_unlabeled_images
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.base import Classifier
from sfd_sweep.evaluation.classifiers.clip import ClipScore
from sfd_sweep.evaluation.classifiers.loading import CLIP, load_classifier
from sfd_sweep.evaluation.conditions import Conditions
from sfd_sweep.evaluation.evaluator import Evaluator
from sfd_sweep.evaluation.inception import Inception
from sfd_sweep.evaluation.inception_weights import find_weights
from sfd_sweep.evaluation.reference_images import RealImages, ReferenceImages, TeacherImages
from sfd_sweep.evaluation.reference_statistics import cached
from sfd_sweep.metrics import ReferenceKind
from sfd_sweep.models.conditioning import CLASSES
from sfd_sweep.models.score_model import ScoreModel
from sfd_sweep.storage.folder import Folder

CHECKED_IMAGES = 100
"""Teacher's images of forgotten prompts by which it is checked that the classifier recognizes the concept."""
LEAST_RECOGNIZED = 0.1
Shape = tuple[int, int, int]
ClassesOf = Mapping[str, int | str | tuple[int | str, ...]]


def build_evaluator(
    evaluation: Evaluation,
    *,
    conditions: Conditions,
    image_shape: Shape,
    inception: bool,
    relative: bool = False,
    teacher: ScoreModel | None,
    device: torch.device | str = "cpu",
    cache: Folder | None = None,
) -> Evaluator:
    """Load the networks and the reference images of an evaluation.

    Args:
        evaluation: its settings.
        conditions: of the generators that will be evaluated; classes, unless there is a teacher of prompts.
        image_shape: (C, H, W) of their images.
        inception: whether Inception-V3 is needed.
        relative: whether reference images of what is forgotten are needed (see `Evaluator`).
        teacher: for its own samples as reference images.
        device: where images are made and scored.
        cache: of reference statistics; None keeps them in memory.

    Raises:
        UserError: something is missing or broken, does not fit those generators, or the classifier has no class for
            what is forgotten.
    """
    overrides, clip_score = None, None
    if teacher is None or teacher.kind is CLASSES:
        classifier = load_classifier(evaluation.classifier)
        classifier.check_images(conditions.names, image_shape)
        classifier = classifier.for_classes(conditions.names)
        reference = _class_images(evaluation, conditions, image_shape, teacher)
    else:
        classifier = load_classifier_for(evaluation.classifier, conditions, evaluation.concepts)
        classifier.check_shape(image_shape)
        called = called_classes(evaluation.class_of, conditions, classifier, key="evaluation.class_of")
        conditions = replace(conditions, called=called)
        reference = _prompt_images(evaluation, conditions, image_shape, teacher)
        samples = evaluation.teacher_samples.override_samples
        overrides = _teacher_images(evaluation, conditions, teacher, samples=samples, of=1)
        if evaluation.clip is not None:
            prompts = [conditions.names[index] for index in conditions.evaluated]
            clip_score = ClipScore(evaluation.clip, prompts).to(device)
    return Evaluator(
        classifier.to(device),
        reference,
        conditions,
        seed=evaluation.seed,
        device=device,
        overrides=overrides,
        inception=_inception(evaluation, device) if inception else None,
        relative=relative,
        clip_score=clip_score,
        cache=cache,
        batch_size=evaluation.batch_size,
    )


def _inception(evaluation: Evaluation, device: torch.device | str) -> Inception:
    return Inception(find_weights(evaluation.inception.weights), evaluation.inception.mode, device)


def load_classifier_for(source: str, conditions: Conditions, concepts: Sequence[str]) -> Classifier:
    """Return a classifier for prompts.

    CLIP's classes are what is forgotten, the subjects of other prompts, and further concepts; no override is one for
    being tried.

    Args:
        source: of the classifier.
        conditions: prompts.
        concepts: further classes, if it is CLIP.

    Raises:
        UserError: it is missing or broken, or cannot be fetched; or CLIP has only one class.
    """
    if not source.startswith(CLIP):
        return load_classifier(source)
    used = {*conditions.retain, *conditions.forget, *conditions.evaluated, *conditions.held_out}
    subjects = [subject for index, subject in enumerate(conditions.subjects) if index in used and subject]
    classes = tuple(dict.fromkeys([*subjects, *concepts]))
    if len(classes) == 1:
        raise UserError(
            f"{source} would have {classes[0]!r} as its only class; name in `concepts`, beside the classifier, what "
            "images without it show"
        )
    return load_classifier(source, concepts=classes)


def check_concept_recognized(
    evaluator: Evaluator, teacher: ScoreModel, evaluation: Evaluation, cache: Folder | None = None
) -> float:
    """Check that the classifier recognizes the concept in the teacher's images of it; or its metrics mean nothing.

    Args:
        cache: of the answer; None computes it each time.

    Returns:
        The share of the teacher's images of forgotten prompts that are called forgotten.

    Raises:
        UserError: it is next to nothing.
    """
    conditions = evaluator.conditions
    images = _teacher_images(evaluation, conditions, teacher, samples=CHECKED_IMAGES, of=1)
    called = sorted(conditions.forgotten_classes)
    what = f"recognized {evaluator.classifier.content_hash()} {called} {images.content_hash(conditions.forget)}"
    found = cached(cache, what, lambda: {"share": torch.tensor(evaluator.forgotten_share(images), dtype=torch.float64)})
    share = float(found["share"])
    if share < LEAST_RECOGNIZED:
        raise UserError(
            f"{evaluator.classifier.name} recognizes {conditions.subjects[conditions.forget[0]]!r} in {share:.0%} of "
            f"{images.count(conditions.forget)} images that the teacher makes of prompts about it, so it cannot tell "
            "whether it is forgotten; choose another classifier (evaluation.classifier), other prompts, or a higher "
            "evaluation.teacher_samples.guidance_scale"
        )
    return share


def called_classes(
    class_of: ClassesOf, conditions: Conditions, classifier: Classifier, *, key: str
) -> tuple[tuple[int, ...], ...]:
    """Return the classes that count as right for each prompt; none if the classifier has none for its subject.

    Args:
        class_of: classes by subject, where the names differ.
        conditions: prompts.
        classifier: that calls their images.
        key: of `class_of` in the search-space file, for messages.

    Raises:
        UserError: there is no such class, none for what is forgotten, or the same for what is retained.
    """
    forgotten = {conditions.subjects[index] for index in conditions.forget}
    known = {
        subject: _classes_of(class_of, subject, classifier, key, needed=subject in forgotten)
        for subject in dict.fromkeys(conditions.subjects)
    }
    for subject in set(known) - forgotten:
        if set(known[subject]) & {called for name in forgotten for called in known[name]}:
            raise UserError(f"{key}: {classifier.name} would call {subject!r} by the same class as what is forgotten")
    return tuple(known[subject] for subject in conditions.subjects)


def _classes_of(
    class_of: ClassesOf, subject: str, classifier: Classifier, key: str, *, needed: bool
) -> tuple[int, ...]:
    if subject in class_of:
        named = class_of[subject]
        words = named if isinstance(named, tuple) else (named,)
        try:
            return tuple(class_index(classifier.class_names, word) for word in words)
        except UserError as error:
            raise UserError(f"{key}.{subject}: {error}") from error
    lower = [name.casefold() for name in classifier.class_names]
    if subject.casefold() in lower:
        return (lower.index(subject.casefold()),)
    if needed:
        raise UserError(
            f"{classifier.name} has no class {subject!r}, which is to be forgotten; name its class or classes in "
            f"{key} (such as {', '.join(classifier.class_names[:3])}), or choose another classifier"
        )
    return ()


def _class_images(
    evaluation: Evaluation, conditions: Conditions, image_shape: Shape, teacher: ScoreModel | None
) -> ReferenceImages:
    if evaluation.reference_kind is ReferenceKind.REAL:
        return RealImages(_real_images(load_images, evaluation, image_shape, class_names=conditions.names))
    if teacher is None:
        raise UserError(
            "evaluation.reference: the teacher's own samples were the reference, and the teacher is not here; give "
            "real images"
        )
    samples = evaluation.teacher_samples.samples
    return _teacher_images(evaluation, conditions, teacher, samples=samples, of=len(conditions.names))


def _prompt_images(
    evaluation: Evaluation, conditions: Conditions, image_shape: Shape, teacher: ScoreModel
) -> ReferenceImages:
    evaluated = conditions.evaluated
    if evaluation.reference_kind is ReferenceKind.REAL:
        return RealImages.without_classes(_real_images(load_unlabeled_images, evaluation, image_shape), evaluated)
    samples = evaluation.teacher_samples.samples
    return _teacher_images(evaluation, conditions, teacher, samples=samples, of=len(evaluated))


def _teacher_images(
    evaluation: Evaluation, conditions: Conditions, teacher: ScoreModel, *, samples: int, of: int
) -> TeacherImages:
    recipe = evaluation.teacher_samples
    return TeacherImages(teacher, conditions.names, recipe, samples=samples, of=of, seed=evaluation.seed)


def _real_images(
    load: Callable[..., LabeledImages], evaluation: Evaluation, image_shape: Shape, **options: object
) -> LabeledImages:
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
