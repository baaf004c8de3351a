"""Evaluation of models that have forgotten nothing: their distance to real images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.datasets.sources import load_images
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.base import Classifier
from sfd_sweep.evaluation.classifiers.loading import load_classifier
from sfd_sweep.evaluation.evaluator import Generate
from sfd_sweep.evaluation.image_scorer import ImageScorer
from sfd_sweep.models.numerics import random_stream

BATCH_SIZE = 500


@dataclass(frozen=True)
class TeacherEvaluator:
    """Measures teachers, and generators distilled from them, by a classifier and real images.

    Attributes:
        classifier: in evaluation mode, on the CPU.
        images: real ones.
    """

    classifier: Classifier
    images: LabeledImages

    @classmethod
    def load(cls, *, classifier: str = "builtin:digits", reference: str = "builtin:digits") -> TeacherEvaluator:
        """Load a classifier, and real images in its size and its order of the classes.

        Raises:
            UserError: one of them is missing or broken, or they do not fit each other.
        """
        network = load_classifier(classifier)
        try:
            images = load_images(reference, class_names=network.class_names, size=network.image_size)
        except UserError as error:
            raise UserError(f"the classifier {classifier}: {error}, or go without it (--no-evaluate)") from error
        evaluator = cls(network, images)
        evaluator.check_fit(images.class_names, images.image_shape)
        return evaluator

    def of_model(self, class_names: tuple[str, ...], absent: Sequence[int]) -> TeacherEvaluator:
        """Return the evaluator of a model that was trained on some of the classes.

        Args:
            class_names: the evaluator's classes in the model's order.
            absent: indices of those that the model was never trained on.
        """
        order = torch.tensor([class_names.index(name) for name in self.images.class_names])
        images = replace(self.images, labels=order[self.images.labels], class_names=class_names)
        return replace(self, images=images.without(absent))

    def check_fit(self, class_names: tuple[str, ...], image_shape: tuple[int, int, int]) -> None:
        """Check that the classifier knows these classes and takes images of shape (C, H, W).

        Raises:
            UserError: it does not.
        """
        try:
            self.classifier.check_images(class_names, image_shape)
        except UserError as error:
            raise UserError(f"{error}, or go without it (--no-evaluate)") from error

    @torch.no_grad()
    def distance(self, generate: Generate, *, samples: int = 2000, seed: int = 0) -> float:
        """Return the Fréchet distance, on the classifier's features, of samples to all real images.

        The samples are of the classes that there are real images of.

        Args:
            generate: makes images for class indices.
            samples: how many are made; every such class in turn.
            seed: of their noise.
        """
        scorer = ImageScorer(self.classifier, self.images.levels, torch.device("cpu"))
        present = self.images.labels.unique()
        labels = present[torch.arange(samples) % len(present)]
        noise = random_stream(seed, "evaluation of a teacher")
        made = scorer.score(generate(batch, noise) for batch in labels.split(BATCH_SIZE))
        real = scorer.score(self.images.batches(BATCH_SIZE))
        return made.statistics.frechet_distance(real.statistics)
