"""How good a model is that has forgotten nothing: its distance to the real images of all classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.datasets.sources import load_images
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.base import Classifier
from sfd_sweep.evaluation.classifiers.loading import load_classifier
from sfd_sweep.evaluation.evaluator import Generate
from sfd_sweep.evaluation.frechet import frechet_distance
from sfd_sweep.evaluation.image_scorer import ImageScorer

BATCH_SIZE = 500


@dataclass(frozen=True)
class QualityJudge:
    """A classifier and real images to measure models by.

    Attributes:
        classifier: in evaluation mode, on the CPU.
        images: real ones.
    """

    classifier: Classifier
    images: LabeledImages

    @classmethod
    def load(cls, *, classifier: str = "builtin:digits", reference: str = "builtin:digits") -> QualityJudge:
        """The judge of a classifier's and of real images' source.

        The images are brought to the classifier's size, and their labels to its order of the classes.

        Raises:
            UserError: one of them is missing or broken, or they do not fit each other.
        """
        network = load_classifier(classifier)
        try:
            images = load_images(reference, class_names=network.class_names, size=network.image_size)
        except UserError as error:
            raise UserError(f"the judge {classifier}: {error}, or go without it (--no-judge)") from error
        judge = cls(network, images)
        judge.check_fit(judge.images.class_names, judge.images.image_shape)
        return judge

    def check_fit(self, class_names: tuple[str, ...], image_shape: tuple[int, int, int]) -> None:
        """Whether a model of such classes, and of images of shape (C, H, W), can be judged.

        Raises:
            UserError: it cannot.
        """
        try:
            self.classifier.check_images(class_names, image_shape)
        except UserError as error:
            raise UserError(f"{error}, or go without it (--no-judge)") from error

    def distance(self, generate: Generate, *, samples: int = 2000, seed: int = 0) -> float:
        """The Fréchet distance, on the classifier's features, of samples of all classes to all real images.

        Args:
            generate: makes images for class indices.
            samples: how many are made; every class in turn.
            seed: of their noise.
        """
        return classifier_distance(generate, self.classifier, self.images, samples=samples, seed=seed)


@torch.no_grad()
def classifier_distance(
    generate: Generate, classifier: Classifier, images: LabeledImages, *, samples: int = 2000, seed: int = 0
) -> float:
    """The Fréchet distance, on the classifier's features, of samples of all classes to all real images.

    Args:
        generate: makes images for class indices.
        classifier: in evaluation mode, on the CPU.
        images: real ones.
        samples: how many are made; every class in turn.
        seed: of their noise.
    """
    judge = ImageScorer(classifier, images.levels, torch.device("cpu"))
    labels = torch.arange(samples) % len(images.class_names)
    noise = torch.Generator().manual_seed(seed)
    made = judge.verdict(generate(batch, noise) for batch in labels.split(BATCH_SIZE))
    real = judge.verdict(images.batches(BATCH_SIZE))
    return frechet_distance(made.statistics, real.statistics)
