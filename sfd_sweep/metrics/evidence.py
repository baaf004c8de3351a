"""What an evaluation finds out about a generator's samples, which metrics are computed from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from sfd_sweep.metrics.definition import MOST_COMPARED
from sfd_sweep.metrics.statistics import Statistics

Classes = Sequence[tuple[int, ...]]
"""The classifier's classes that count as right for a sample or a subject; none where it has no class for it."""


@dataclass(frozen=True)
class InceptionScores:
    """Outputs of Inception-V3 for n images.

    Attributes:
        statistics: of its features.
        features: (n, 2048); None except in a final evaluation.
        probabilities: (n, 1008) likewise.
    """

    statistics: Statistics
    features: Tensor | None = None
    probabilities: Tensor | None = None


@dataclass(frozen=True)
class ImageScores:
    """Outputs of all networks for n images.

    Attributes:
        statistics: of the classifier's features.
        probabilities: of its classes, (n, classes), float64 on the CPU.
        parts: whether the classifier found each of its `parts`, bool of shape (n,), by name.
        inception: of Inception-V3, if it was used.
        prompt_cosines: CLIP's cosine of each image and its prompt, (n,), if it was used.
    """

    statistics: Statistics
    probabilities: Tensor
    parts: dict[str, Tensor]
    inception: InceptionScores | None = None
    prompt_cosines: Tensor | None = None

    @property
    def called(self) -> list[int]:
        """The likeliest class of each image."""
        classes: list[int] = self.probabilities.argmax(1).tolist()
        return classes


@dataclass(frozen=True)
class Reference:
    """Features of the reference images of some conditions.

    Attributes:
        statistics: of all images' features.
        features: of at most 10,000 images in random order, for comparisons of images; float32, (n, d), on the CPU.
    """

    statistics: Statistics
    features: Tensor

    @cached_property
    def between_halves(self) -> float:
        """The Fréchet distance between two random halves of the images: what chance alone makes of equal images."""
        one, other = (Statistics.over([half]) for half in self.features.tensor_split(2))
        return one.frechet_distance(other)


@dataclass(frozen=True)
class AttackRates:
    """Rates of samples that show what is forgotten, by the name of the metric.

    Attributes:
        generator: `inversion_rate` and `relearning_rate` of the generator, as far as they are asked for.
        control: the same of a generator that never knew what is forgotten, and its `leak_rate`; empty without one.
    """

    generator: Mapping[str, float] = field(default_factory=dict)
    control: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What one evaluation of a generator has found out.

    Attributes:
        retained: scores of samples of the retained conditions.
        retained_classes: by retained sample, the classes that are its condition's own.
        forgotten: scores of samples of the forgotten conditions, by subject.
        forgotten_classes: the classes of what is forgotten.
        override_classes: by forgotten subject, the classes of what may replace it.
        held_out: scores of samples of held-out conditions, if there are any.
        reference: returns the classifier's features of the retained conditions' reference images.
        inception_reference: returns Inception-V3's features of them.
        override_references: returns the classifier's features of the overrides' reference images, by subject.
        forgotten_references: returns the classifier's features of reference images of what is forgotten, by subject.
        all_classes_reference: returns Inception-V3's features of the reference images of all classes.
        attacks: what attacks have reached.
    """

    retained: ImageScores
    retained_classes: Classes
    forgotten: Sequence[ImageScores]
    forgotten_classes: tuple[int, ...]
    override_classes: Classes
    held_out: ImageScores | None
    reference: Callable[[], Reference]
    inception_reference: Callable[[], Reference]
    override_references: Callable[[], list[Reference]]
    forgotten_references: Callable[[], list[Reference]]
    all_classes_reference: Callable[[], Reference]
    attacks: AttackRates = AttackRates()

    @cached_property
    def forgotten_probabilities(self) -> Tensor:
        """Probabilities of all samples of forgotten conditions, (n, classes)."""
        return torch.cat([scores.probabilities for scores in self.forgotten])

    @property
    def forgotten_called(self) -> list[int]:
        """The likeliest class of each sample of forgotten conditions."""
        return [called for scores in self.forgotten for called in scores.called]

    @cached_property
    def inception(self) -> InceptionScores:
        """Inception-V3's outputs for the retained samples; for metrics that need it."""
        assert self.retained.inception is not None
        return self.retained.inception

    @cached_property
    def compared(self) -> tuple[Tensor, Tensor]:
        """Inception-V3's features of samples and of real images, at most 10,000 of each, for pairwise comparisons."""
        assert self.inception.features is not None
        samples = evenly_drawn(self.inception.features)
        return samples, self.inception_reference().features.to(samples.device)


def evenly_drawn(features: Tensor) -> Tensor:
    """Return at most 10,000 of the features (n, d), each with the same chance, always the same ones."""
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(0))
    return features[order[:MOST_COMPARED].to(features.device)]
