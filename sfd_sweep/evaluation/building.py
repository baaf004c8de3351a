"""From what a search-space file says of the evaluation to an evaluator."""

from __future__ import annotations

import torch

from sfd_sweep.config import Evaluation, ReferenceKind
from sfd_sweep.datasets.sources import load_images
from sfd_sweep.diffusion.score_model import ScoreModel
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.loading import load_classifier
from sfd_sweep.evaluation.evaluator import Evaluator
from sfd_sweep.evaluation.inception import Inception
from sfd_sweep.evaluation.reference_images import RealImages, ReferenceImages, TeacherImages
from sfd_sweep.storage import Folder


def build_evaluator(
    evaluation: Evaluation,
    *,
    class_names: tuple[str, ...],
    image_shape: tuple[int, int, int],
    forget: tuple[int, ...],
    inception: bool,
    teacher: ScoreModel | None,
    device: torch.device | str = "cpu",
    cache: Folder | None = None,
) -> Evaluator:
    """Load the judge and its reference.

    Args:
        evaluation: what is asked for.
        class_names: of the generators that will be judged, by index.
        image_shape: (C, H, W) of their images.
        forget: indices of the forgotten classes.
        inception: whether Inception-V3 is needed.
        teacher: for a reference of its own samples.
        device: where images are made and judged.
        cache: where reference statistics are kept; None keeps them in memory.

    Raises:
        UserError: something is missing or broken, or does not fit those generators.
    """
    classifier, features = load_classifier(evaluation.classifier), evaluation.inception
    classifier.check_images(class_names, image_shape)
    return Evaluator(
        classifier.for_classes(class_names).to(device),
        _reference(evaluation, class_names, image_shape, teacher),
        forget=forget,
        seed=evaluation.seed,
        device=device,
        inception=Inception.load(features.weights, features.mode, device) if inception else None,
        cache=cache,
        batch_size=evaluation.batch_size,
    )


def _reference(
    evaluation: Evaluation, class_names: tuple[str, ...], image_shape: tuple[int, int, int], teacher: ScoreModel | None
) -> ReferenceImages:
    if evaluation.reference_kind is ReferenceKind.TEACHER:
        if teacher is None:
            raise UserError(
                "evaluation.reference: the teacher's own samples were the reference, and the teacher is not here; give "
                "real images"
            )
        return TeacherImages(teacher, classes=len(class_names), recipe=evaluation.teacher_samples, seed=evaluation.seed)
    try:
        images = load_images(evaluation.reference, class_names=class_names, size=image_shape[-1])
    except UserError as error:
        raise UserError(f"evaluation.reference: {error}") from error
    if images.image_shape != image_shape:
        raise UserError(
            f"evaluation.reference: {evaluation.reference} has images of shape {images.image_shape}, but generators "
            f"make them of {image_shape}"
        )
    return RealImages(images)
