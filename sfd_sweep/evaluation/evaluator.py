"""From a generator to its figures: samples with fixed seeds, what the judge says of them, and the metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.errors import TrialFailed
from sfd_sweep.evaluation.classifier import Classifier
from sfd_sweep.evaluation.frechet import frechet_distance
from sfd_sweep.evaluation.grid import GridRow, sample_grid
from sfd_sweep.evaluation.judge import Judge, Verdict
from sfd_sweep.evaluation.metrics import (
    forget_entropy,
    forget_probability,
    override_rate,
    retain_accuracy,
    unlearning_accuracy,
)
from sfd_sweep.evaluation.references import References
from sfd_sweep.storage import Folder

Generate = Callable[[Tensor, torch.Generator], Tensor]
"""Images (n, C, H, W) in [-1, 1] for class indices (n,), with all noise from the generator; both on one device."""

RETAINED_STREAM, FORGOTTEN_STREAM, GRID_STREAM = range(3)
GRID_RETAINED_ROWS = 12
GRID_TILE = 32


@dataclass(frozen=True)
class Judgement:
    """The figures of a generator.

    Attributes:
        metrics: by the names of `sfd_sweep.config.METRICS`, all of them.
        samples: how many images they rest on: `retained` and `forgotten`.
    """

    metrics: dict[str, float]
    samples: dict[str, int]


class Evaluator:
    """Judges generators that are to forget some classes, all of them on the same noise.

    Retained and forgotten conditions have noise streams of their own, both fixed by `seed`. Noise is drawn a batch at a
    time, so figures are repeatable for one `batch_size`; another may draw other noise (on the CPU it does not where an
    image's number of values is a multiple of 16), and then moves them by as much as another seed does.

    Args:
        classifier: moved to `device` and put into evaluation mode.
        images: real ones of all classes, for reference.
        forget: indices of the forgotten classes; every other class is retained.
        seed: of all noise.
        device: where images are made and judged.
        cache: where reference statistics are kept (see `References`).
        batch_size: the most images that are made or judged at a time.

    Raises:
        UserError: the images are not what the classifier was made for.
    """

    def __init__(
        self,
        classifier: Classifier,
        images: LabeledImages,
        *,
        forget: tuple[int, ...],
        seed: int,
        device: torch.device | str = "cpu",
        cache: Folder | None = None,
        batch_size: int = 500,
    ) -> None:
        classifier.check_images(images.class_names, images.image_shape)
        classifier = classifier.for_classes(images.class_names)
        self.device = torch.device(device)
        self.class_names = classifier.class_names
        self.forget = forget
        self.retain = tuple(index for index in range(len(self.class_names)) if index not in forget)
        self._judge = Judge(classifier.to(self.device).eval(), images.levels, self.device)
        self._references = References(self._judge, images, cache)
        self._seed = seed
        self._batch_size = batch_size

    def evaluate(
        self, generate: Generate, *, override: tuple[int, ...] | None, samples: int, forget_samples: int
    ) -> Judgement:
        """All metrics of a generator.

        Args:
            generate: the generator.
            override: index of the override of each forgotten class; None where any retained class may replace it.
            samples: of the retained classes together, rounded up to the same number of each.
            forget_samples: of the forgotten classes together, rounded up likewise.

        Raises:
            TrialFailed: a generated image is not finite.
            UserError: a group of classes has fewer than two real images.
        """
        retained_labels = torch.tensor(self.retain).repeat(_share(samples, len(self.retain)))
        retained = self._verdict(generate, retained_labels, self._stream(RETAINED_STREAM))
        stream = self._stream(FORGOTTEN_STREAM)
        each = _share(forget_samples, len(self.forget))
        forgotten = [self._verdict(generate, torch.full((each,), label), stream) for label in self.forget]

        metrics = self._quality(retained, retained_labels) | self._forgetting(forgotten, override)
        return Judgement(metrics, {"retained": len(retained_labels), "forgotten": each * len(self.forget)})

    @torch.no_grad()
    def grid(self, generate: Generate, *, columns: int = 12) -> bytes:
        """A picture (PNG) of fixed samples of each condition: first the forgotten ones, marked, then the retained.

        Raises:
            TrialFailed: a generated image is not finite.
        """
        stream = self._stream(GRID_STREAM)
        conditions = (*self.forget, *self.retain[:GRID_RETAINED_ROWS])
        labels = torch.tensor(conditions).repeat_interleave(columns)
        images = torch.cat(list(self._samples(generate, labels, stream)))
        rows = [self._row(label, row) for label, row in zip(conditions, images.split(columns), strict=True)]
        return sample_grid(rows, scale=max(1, GRID_TILE // images.shape[-1]))

    def _row(self, label: int, images: Tensor) -> GridRow:
        name = self.class_names[label]
        return GridRow(f"{name} (forgotten)", images, marked=True) if label in self.forget else GridRow(name, images)

    def _quality(self, retained: Verdict, labels: Tensor) -> dict[str, float]:
        return {
            "fd_classifier": frechet_distance(retained.statistics, self._references.of_classes(self.retain)),
            "retain_accuracy": retain_accuracy(retained.called, labels),
        }

    def _forgetting(self, forgotten: Sequence[Verdict], override: tuple[int, ...] | None) -> dict[str, float]:
        """The metrics of the forgotten conditions; distances are measured for each of them, and averaged."""
        targets = [self.retain] * len(self.forget) if override is None else [(index,) for index in override]
        pairs = list(zip(forgotten, targets, strict=True))
        distances = [frechet_distance(verdict.statistics, self._references.of_classes(to)) for verdict, to in pairs]
        called = torch.cat([verdict.called for verdict in forgotten])
        probabilities = torch.cat([verdict.probabilities for verdict in forgotten])
        overrides = torch.cat([torch.tensor(to).expand(len(verdict.called), -1) for verdict, to in pairs])
        return {
            "unlearning_accuracy": unlearning_accuracy(called, self.forget),
            "override_distance": sum(distances) / len(distances),
            "override_rate": override_rate(called, overrides),
            "forget_probability": forget_probability(probabilities, self.forget),
            "forget_entropy": forget_entropy(probabilities),
        }

    def _stream(self, index: int) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(3 * self._seed + index)

    @torch.no_grad()
    def _verdict(self, generate: Generate, labels: Tensor, stream: torch.Generator) -> Verdict:
        return self._judge.verdict(self._samples(generate, labels, stream))

    def _samples(self, generate: Generate, labels: Tensor, stream: torch.Generator) -> Iterator[Tensor]:
        for batch in labels.split(self._batch_size):
            images = generate(batch.to(self.device), stream)
            broken = len(images) - int(images.isfinite().flatten(1).all(1).sum())
            if broken:
                raise TrialFailed(f"{broken} of {len(images)} generated images hold values that are not finite")
            yield images


def _share(samples: int, classes: int) -> int:
    """Samples of each class that make at least so many in all, and are enough for a covariance."""
    return max(2, ceil(samples / classes))
