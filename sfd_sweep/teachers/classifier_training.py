"""Training of the judge on real images."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from types import MappingProxyType
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.trainable import ClassifierConfig, TrainableClassifier
from sfd_sweep.teachers.augmentation import mirrored, shifted


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """How a classifier is trained.

    Attributes:
        epochs: passes over the training part.
        batch_size: images an update.
        optimizer: SGD is with Nesterov's momentum.
        peak_lr: highest learning rate of the one-cycle schedule.
        weight_decay: the optimizer's.
        label_smoothing: probability that is spread over all classes.
        noise: standard deviation of the noise that is added to the images.
        shift: the farthest that an image is moved along each side, as a share of the side.
        mirror: whether half of the images are mirrored, left to right.
        held_out: share of the images that are left out to measure the accuracy.
    """

    epochs: int
    batch_size: int
    optimizer: Literal["adamw", "sgd"]
    peak_lr: float
    weight_decay: float
    label_smoothing: float = 0.0
    noise: float = 0.0
    shift: float = 0.0
    mirror: bool = False
    held_out: float = 0.1


@dataclass(frozen=True)
class TrainedClassifier:
    """A classifier (in evaluation mode, frozen), its accuracy on the held-out images, and how long it took to train."""

    classifier: TrainableClassifier
    held_out_accuracy: float
    seconds: float


def train_classifier(
    images: LabeledImages,
    network: ClassifierConfig,
    recipe: TrainingRecipe,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    bf16: bool = False,
    start: Mapping[str, Tensor] = MappingProxyType({}),
    progress: Callable[[int, float], None] | None = None,
) -> TrainedClassifier:
    """Train a classifier. On the CPU the same seed gives the same weights; the global random state stays as it was.

    Args:
        images: of the network's classes; a share is held out.
        network: what is trained.
        recipe: hyperparameters.
        seed: of the split, of the first weights and of every draw of the training.
        device: where to train.
        bf16: whether the network computes in bfloat16 while it is trained.
        start: first weights by their names, in place of random ones.
        progress: called after every epoch with the epochs done and their last mean loss.

    Raises:
        UserError: there are too few images to train on some and measure on others, or the training diverged.
    """
    started = time.perf_counter()
    training, held_out = images.split(recipe.held_out, seed)
    if len(training) < 2 or not len(held_out):
        raise UserError(f"{len(images)} images are too few to train on some and to measure on others; give more")
    device = torch.device(device)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        classifier = network.build()
        classifier.load_state_dict({**classifier.state_dict(), **start})
        classifier.to(device)
        _Training(classifier, recipe, device, bf16).fit(training, progress)
    classifier.round_to_half_precision()
    if not all(weight.isfinite().all() for weight in classifier.state_dict().values()):
        raise UserError("the training diverged: weights are not finite; try a lower learning rate")
    accuracy = _accuracy(classifier.eval().requires_grad_(False), held_out, device)
    classifier.config = classifier.config.model_copy(update={"held_out_accuracy": round(accuracy, 6)})
    return TrainedClassifier(classifier, accuracy, time.perf_counter() - started)


@dataclass(frozen=True)
class _Training:
    """What stays the same from update to update."""

    classifier: TrainableClassifier
    recipe: TrainingRecipe
    device: torch.device
    bf16: bool

    def fit(self, images: LabeledImages, progress: Callable[[int, float], None] | None) -> None:
        recipe = self.recipe
        optimizer = self._optimizer()
        updates = recipe.epochs * ceil(len(images) / recipe.batch_size)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=recipe.peak_lr, total_steps=updates)
        for epoch in range(1, recipe.epochs + 1):
            losses = []
            for batch in torch.randperm(len(images)).split(recipe.batch_size):
                if len(batch) == 1:
                    continue  # batch normalisation needs two
                loss = self._loss(images.take(batch))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                losses.append(loss.detach())
            if progress is not None:
                progress(epoch, float(torch.stack(losses).mean()))

    def _optimizer(self) -> torch.optim.Optimizer:
        weights, decay = self.classifier.parameters(), self.recipe.weight_decay
        if self.recipe.optimizer == "adamw":
            return torch.optim.AdamW(weights, weight_decay=decay)
        return torch.optim.SGD(weights, lr=self.recipe.peak_lr, momentum=0.9, nesterov=True, weight_decay=decay)

    def _loss(self, batch: LabeledImages) -> Tensor:
        images = self._varied(batch.images).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            logits = self.classifier(images)
        labels = batch.labels.to(self.device)
        return F.cross_entropy(logits.float(), labels, label_smoothing=self.recipe.label_smoothing)

    def _varied(self, images: Tensor) -> Tensor:
        """The images as the network may see them in training; every draw is the CPU's."""
        recipe = self.recipe
        if recipe.shift:
            images = shifted(images, recipe.shift)
        if recipe.mirror:
            images = mirrored(images)
        return images + recipe.noise * torch.randn_like(images) if recipe.noise else images


@torch.no_grad()
def _accuracy(classifier: TrainableClassifier, images: LabeledImages, device: torch.device) -> float:
    called = torch.cat([classifier(batch.to(device)).argmax(1).cpu() for batch in images.batches(1000)])
    return float((called == images.labels).double().mean())
