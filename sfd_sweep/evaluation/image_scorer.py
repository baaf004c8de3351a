"""The one way in which images are looked at, be they real or generated."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sfd_sweep.datasets.images import quantize
from sfd_sweep.evaluation.classifiers.base import Classifier
from sfd_sweep.evaluation.frechet import Statistics
from sfd_sweep.evaluation.inception import Inception


class FeatureExtractor(Protocol):
    """A network whose features distances are measured on: a classifier, or Inception-V3."""

    def features(self, images: Tensor) -> Tensor:
        """Features of shape (n, d) of images of shape (n, C, H, W) in [-1, 1]."""

    def content_hash(self) -> str:
        """The same for networks with the same features."""


@dataclass(frozen=True)
class InceptionScores:
    """What Inception-V3 saw in n images.

    Attributes:
        statistics: of its features.
        features: (n, 2048) on the judge's device, if it was a close look.
        probabilities: (n, 1008) likewise.
    """

    statistics: Statistics
    features: Tensor | None
    probabilities: Tensor | None


@dataclass(frozen=True)
class ImageScores:
    """What the judge found in n images.

    Attributes:
        statistics: of their features.
        probabilities: (n, classes), float64 on the CPU.
        parts: whether the classifier found each of its `parts`, bool of shape (n,), by name.
        inception: what Inception-V3 saw, if it was asked.
    """

    statistics: Statistics
    probabilities: Tensor
    parts: dict[str, Tensor]
    inception: InceptionScores | None

    @property
    def called(self) -> Tensor:
        """The likeliest class of each image, int64 of shape (n,)."""
        return self.probabilities.argmax(1)


@dataclass(frozen=True)
class ImageScorer:
    """A classifier, and Inception-V3 if there is one, that see every image at the same number of levels.

    Attributes:
        classifier: on `device`, in evaluation mode.
        levels: of the real images' pixels; generated ones are rounded to them (see `quantize`).
        device: where the networks are.
        inception: on `device`.
    """

    classifier: Classifier
    levels: int
    device: torch.device
    inception: Inception | None = None

    def seen(self, images: Tensor) -> Tensor:
        """Images of any precision as the networks get them."""
        return quantize(images.to(self.device, torch.float32), self.levels)

    @torch.no_grad()
    def verdict(self, batches: Iterable[Tensor], *, inception: bool = False, closely: bool = False) -> ImageScores:
        """Look at images of shape (n_i, C, H, W), each batch in one pass.

        Args:
            batches: the images.
            inception: whether Inception-V3 is asked too, if there is one.
            closely: whether it keeps what the metrics of a final evaluation need.

        Raises:
            ValueError: there are fewer than two images in all.
        """
        features, probabilities, parts = [], [], {name: list[Tensor]() for name in self.classifier.parts}
        looks = _Looks(self.inception if inception else None, closely)
        for batch in batches:
            images = self.seen(batch)
            features.append(self.classifier.features(images))
            probabilities.append(self.classifier.logits_from_features(features[-1]).double().softmax(1).cpu())
            for name, found in self.classifier.parts_found(features[-1]).items():
                parts[name].append(found.cpu())
            looks.add(images)
        return ImageScores(
            Statistics.over(features),
            torch.cat(probabilities),
            {name: torch.cat(found) for name, found in parts.items()},
            looks.view(),
        )


class _Looks:
    """Inception-V3's looks at one batch after another."""

    def __init__(self, inception: Inception | None, closely: bool) -> None:
        self._inception = inception
        self._closely = closely
        self._features: list[Tensor] = []
        self._probabilities: list[Tensor] = []

    def add(self, images: Tensor) -> None:
        """Look at a batch."""
        if self._inception is not None:
            self._features.append(self._inception.features(images))
            if self._closely:
                self._probabilities.append(self._inception.probabilities(images))

    def view(self) -> InceptionScores | None:
        """What was seen in all of them; None if nobody looked."""
        if self._inception is None:
            return None
        statistics = Statistics.over(self._features)
        if not self._closely:
            return InceptionScores(statistics, None, None)
        return InceptionScores(statistics, torch.cat(self._features), torch.cat(self._probabilities))
