"""How good a model is that has forgotten nothing: its distance to the real images of all classes."""

from __future__ import annotations

import torch

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.evaluation.classifier import Classifier
from sfd_sweep.evaluation.evaluator import Generate
from sfd_sweep.evaluation.frechet import frechet_distance
from sfd_sweep.evaluation.judge import Judge

BATCH_SIZE = 500


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
    judge = Judge(classifier, images.levels, torch.device("cpu"))
    labels = torch.arange(samples) % len(images.class_names)
    noise = torch.Generator().manual_seed(seed)
    made = judge.verdict(generate(batch, noise) for batch in labels.split(BATCH_SIZE))
    real = judge.verdict(images.images.split(BATCH_SIZE))
    return frechet_distance(made.statistics, real.statistics)
