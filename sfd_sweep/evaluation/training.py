"""Training of the judge on real images."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.evaluation.classifier import Classifier, ClassifierConfig


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """How large a classifier is, and how it is trained. The defaults are for the 8×8 digits.

    Attributes:
        widths: channels after each convolution.
        features: d, the number of features.
        epochs: passes over the training part.
        batch_size: images an update.
        peak_lr: highest learning rate of the one-cycle schedule.
        weight_decay: AdamW's.
        noise: standard deviation of the noise that is added to the images.
        label_smoothing: probability that is spread over all classes.
        held_out: share of the images that are left out to measure the accuracy.
    """

    widths: tuple[int, ...] = (32, 64, 64)
    features: int = 64
    epochs: int = 25
    batch_size: int = 64
    peak_lr: float = 4e-3
    weight_decay: float = 1e-3
    noise: float = 0.2
    label_smoothing: float = 0.05
    held_out: float = 1 / 3


@dataclass(frozen=True)
class TrainedClassifier:
    """A classifier (in evaluation mode, frozen), its accuracy on the held-out images, and how long it took to train."""

    classifier: Classifier
    held_out_accuracy: float
    seconds: float


def train_classifier(
    images: LabeledImages,
    *,
    seed: int,
    recipe: TrainingRecipe = TrainingRecipe(),
    device: torch.device | str = "cpu",
    progress: Callable[[int, float], None] | None = None,
) -> TrainedClassifier:
    """Train a classifier. On the CPU the same seed gives the same weights; the global random state stays as it was.

    Args:
        images: square ones, with at least two classes; a share is held out.
        seed: of the split, of the first weights and of every draw of the training.
        recipe: size and hyperparameters.
        device: where to train.
        progress: called after every epoch with the epochs done and their last mean loss.
    """
    started = time.perf_counter()
    training, held_out = images.split(recipe.held_out, seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        classifier = Classifier(_config(images, recipe)).to(device)
        _fit(classifier, training, recipe, progress)
    classifier.round_to_half_precision()
    accuracy = _accuracy(classifier.eval().requires_grad_(False), held_out)
    classifier.config = classifier.config.model_copy(update={"held_out_accuracy": round(accuracy, 6)})
    return TrainedClassifier(classifier, accuracy, time.perf_counter() - started)


def _config(images: LabeledImages, recipe: TrainingRecipe) -> ClassifierConfig:
    channels, size, _ = images.image_shape
    return ClassifierConfig(
        image_size=size,
        channels=channels,
        widths=recipe.widths,
        features=recipe.features,
        class_names=images.class_names,
    )


def _fit(
    classifier: Classifier,
    images: LabeledImages,
    recipe: TrainingRecipe,
    progress: Callable[[int, float], None] | None,
) -> None:
    optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=recipe.weight_decay)
    updates = recipe.epochs * ceil(len(images) / recipe.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=recipe.peak_lr, total_steps=updates)
    for epoch in range(1, recipe.epochs + 1):
        losses = []
        for batch in torch.randperm(len(images)).split(recipe.batch_size):
            loss = _loss(classifier, images.take(batch), recipe)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        if progress is not None:
            progress(epoch, sum(losses) / len(losses))


def _loss(classifier: Classifier, batch: LabeledImages, recipe: TrainingRecipe) -> Tensor:
    device = classifier.head.weight.device
    images = batch.images
    noisy = images + recipe.noise * torch.randn_like(images)
    logits = classifier(noisy.to(device))
    return F.cross_entropy(logits, batch.labels.to(device), label_smoothing=recipe.label_smoothing)


@torch.no_grad()
def _accuracy(classifier: Classifier, images: LabeledImages) -> float:
    device = classifier.head.weight.device
    called = torch.cat([classifier(batch.to(device)).argmax(1).cpu() for batch in images.batches(1000)])
    return float((called == images.labels).double().mean())
