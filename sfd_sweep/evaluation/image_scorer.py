"""Scores of real and generated images by the classifier, Inception-V3 and CLIP."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sfd_sweep.datasets.images import quantize
from sfd_sweep.evaluation.classifiers.base import Classifier
from sfd_sweep.evaluation.inception import Inception
from sfd_sweep.metrics.evidence import ImageScores, InceptionScores
from sfd_sweep.metrics.statistics import Statistics

if TYPE_CHECKING:
    from sfd_sweep.evaluation.classifiers.clip import ClipScore


@dataclass(frozen=True)
class ImageScorer:
    """The networks that score images, all of which get images of the same number of levels.

    Attributes:
        classifier: on `device`, in evaluation mode.
        levels: of the reference images' pixels, which generated images are rounded to (see `quantize`).
        device: where the networks are.
        inception: on `device`, if it is needed.
        clip_score: on `device`, if it is needed.
    """

    classifier: Classifier
    levels: int
    device: torch.device
    inception: Inception | None = None
    clip_score: ClipScore | None = None

    def prepare(self, images: Tensor) -> Tensor:
        """Return images of any precision as the networks get them."""
        return quantize(images.to(self.device, torch.float32), self.levels)

    @torch.no_grad()
    def score(
        self,
        batches: Iterable[Tensor],
        *,
        inception: bool = False,
        final: bool = False,
        prompts: Tensor | None = None,
    ) -> ImageScores:
        """Return the scores of images of shape (n_i, C, H, W), each batch in one pass.

        Args:
            batches: the images.
            inception: whether Inception-V3 is used too, if it is there.
            final: whether its outputs for every image are kept, for a final evaluation.
            prompts: indices of the images' prompts, int64 of shape (n,), if CLIP is used too.

        Raises:
            ValueError: there are fewer than two images in all.
        """
        outputs: dict[str, list[Tensor]] = defaultdict(list)
        start = 0
        for batch in batches:
            images = self.prepare(batch)
            features = self.classifier.features(images)
            outputs["features"].append(features)
            outputs["probabilities"].append(self.classifier.logits_from_features(features).double().softmax(1).cpu())
            for name, found in self.classifier.parts_found(features).items():
                outputs[name].append(found.cpu())
            if inception and self.inception is not None:
                outputs["inception_features"].append(self.inception.features(images))
                if final:
                    outputs["inception_probabilities"].append(self.inception.probabilities(images))
            if prompts is not None and self.clip_score is not None:
                asked = prompts[start : start + len(images)].to(self.device)
                outputs["prompt_cosines"].append(self.clip_score.scores(images, asked).cpu())
            start += len(images)
        return ImageScores(
            Statistics.over(outputs["features"]),
            torch.cat(outputs["probabilities"]),
            {name: torch.cat(outputs[name]) for name in self.classifier.parts},
            _inception_scores(outputs["inception_features"], outputs["inception_probabilities"]),
            torch.cat(outputs["prompt_cosines"]) if outputs["prompt_cosines"] else None,
        )


def _inception_scores(features: list[Tensor], probabilities: list[Tensor]) -> InceptionScores | None:
    """Return what metrics need of Inception-V3's outputs; every image's is kept only if there are probabilities."""
    if not features:
        return None
    statistics = Statistics.over(features)
    if not probabilities:
        return InceptionScores(statistics)
    return InceptionScores(statistics, torch.cat(features), torch.cat(probabilities))
