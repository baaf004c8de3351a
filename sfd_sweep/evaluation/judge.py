"""The one way in which images are looked at, be they real or generated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sfd_sweep.datasets.images import quantize
from sfd_sweep.evaluation.classifier import Classifier
from sfd_sweep.evaluation.frechet import Statistics


@dataclass(frozen=True)
class Verdict:
    """What the judge found in n images.

    Attributes:
        statistics: of their features.
        probabilities: (n, classes), float64 on the CPU.
    """

    statistics: Statistics
    probabilities: Tensor

    @property
    def called(self) -> Tensor:
        """The likeliest class of each image, int64 of shape (n,)."""
        return self.probabilities.argmax(1)


@dataclass(frozen=True)
class Judge:
    """A classifier that sees every image at the same number of levels.

    Attributes:
        classifier: on `device`, in evaluation mode.
        levels: of the real images' pixels; generated ones are rounded to them (see `quantize`).
        device: where the classifier is.
    """

    classifier: Classifier
    levels: int
    device: torch.device

    @torch.no_grad()
    def verdict(self, batches: Iterable[Tensor]) -> Verdict:
        """Look at images of shape (n_i, C, H, W), each batch in one pass.

        Raises:
            ValueError: there are fewer than two images in all.
        """
        probabilities: list[Tensor] = []

        def look() -> Iterator[Tensor]:
            for batch in batches:
                features = self.classifier.features(quantize(batch.to(self.device, torch.float32), self.levels))
                probabilities.append(self.classifier.logits_from_features(features).double().softmax(1).cpu())
                yield features

        statistics = Statistics.over(look())
        return Verdict(statistics, torch.cat(probabilities))
