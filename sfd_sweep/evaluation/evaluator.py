"""From a generator to its figures: samples with fixed seeds, what the judge says of them, and the metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil

import torch
from torch import Tensor

from sfd_sweep.config import ReferenceKind
from sfd_sweep.diffusion.precision import float32_products
from sfd_sweep.errors import TrialFailed
from sfd_sweep.evaluation.classifier import Classifier
from sfd_sweep.evaluation.fidelity import fidelity, inception_score, kernel_distance
from sfd_sweep.evaluation.frechet import Statistics, frechet_distance
from sfd_sweep.evaluation.grid import GridRow, sample_grid
from sfd_sweep.evaluation.inception import Inception
from sfd_sweep.evaluation.judge import InceptionView, Judge, Verdict
from sfd_sweep.evaluation.metrics import (
    forget_entropy,
    forget_probability,
    override_rate,
    retain_accuracy,
    unlearning_accuracy,
)
from sfd_sweep.evaluation.reference_images import ReferenceImages
from sfd_sweep.evaluation.references import References, evenly_drawn
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
        metrics: by the names of `sfd_sweep.config.METRICS`, all those that `sfd_sweep.config.reported` names.
        samples: how many images they rest on: `retained` and `forgotten`.
        seconds: where the time went: `sampling`, `judging` (the networks' features), `comparing` (distances, and
            references that were not known yet).
    """

    metrics: dict[str, float]
    samples: dict[str, int]
    seconds: dict[str, float] = field(compare=False)


class Evaluator:
    """Judges generators that are to forget some classes, all of them on the same noise.

    Retained and forgotten conditions have noise streams of their own, both fixed by `seed`. Noise is drawn a batch at a
    time, so figures are repeatable for one `batch_size`; another may draw other noise (on the CPU it does not where an
    image's number of values is a multiple of 16), and then moves them by as much as another seed does.

    Args:
        classifier: for the classes in their order, on `device` and in evaluation mode.
        reference: images of all classes.
        forget: indices of the forgotten classes; every other class is retained.
        seed: of all noise.
        device: where images are made and judged.
        inception: Inception-V3 on `device`, for the metrics that need it.
        cache: where reference statistics are kept (see `References`).
        batch_size: the most images that are made or judged at a time.
    """

    def __init__(
        self,
        classifier: Classifier,
        reference: ReferenceImages,
        *,
        forget: tuple[int, ...],
        seed: int,
        device: torch.device | str = "cpu",
        inception: Inception | None = None,
        cache: Folder | None = None,
        batch_size: int = 500,
    ) -> None:
        self.device = torch.device(device)
        self.classifier = classifier
        self.class_names = classifier.class_names
        self.forget = forget
        self.retain = tuple(index for index in range(len(self.class_names)) if index not in forget)
        self._judge = Judge(classifier, reference.levels, self.device, inception)
        self._reference_kind = reference.kind
        self._references = References(self._judge, reference, self.class_names, cache)
        self._seed = seed
        self._batch_size = batch_size

    @float32_products(in_tf32=False)
    def evaluate(
        self,
        generate: Generate,
        *,
        override: tuple[int, ...] | None,
        samples: int,
        forget_samples: int,
        final: bool = False,
    ) -> Judgement:
        """All metrics of a generator.

        Args:
            generate: the generator.
            override: index of the override of each forgotten class; None where any retained class may replace it.
            samples: of the retained classes together, rounded up to the same number of each.
            forget_samples: of the forgotten classes together, rounded up likewise.
            final: whether to add the metrics of a final evaluation.

        Raises:
            TrialFailed: a generated image is not finite.
            UserError: there are too few reference images of a group of classes.
        """
        clock = _Clock(self.device)
        retained_labels = torch.tensor(self.retain).repeat(_share(samples, len(self.retain)))
        each = _share(forget_samples, len(self.forget))
        with clock.measured("judging"):
            batches = self._samples(generate, retained_labels, self._stream(RETAINED_STREAM), clock)
            retained = self._judge.verdict(batches, inception=True, closely=final)
            stream = self._stream(FORGOTTEN_STREAM)
            forgotten = [
                self._judge.verdict(self._samples(generate, torch.full((each,), label), stream, clock))
                for label in self.forget
            ]
        with clock.measured("comparing"):
            metrics = self._quality(retained, retained_labels) | self._forgetting(forgotten, override)
        clock.seconds["judging"] -= clock.seconds["sampling"]  # images are made while they are asked for
        counts = {"retained": len(retained_labels), "forgotten": each * len(self.forget)}
        return Judgement(metrics, counts, clock.seconds)

    @torch.no_grad()
    @float32_products(in_tf32=False)
    def grid(self, generate: Generate, *, columns: int = 12) -> bytes:
        """A picture (PNG) of fixed samples of each condition: first the forgotten ones, marked, then the retained.

        Raises:
            TrialFailed: a generated image is not finite.
        """
        stream = self._stream(GRID_STREAM)
        conditions = (*self.forget, *self.retain[:GRID_RETAINED_ROWS])
        labels = torch.tensor(conditions).repeat_interleave(columns)
        images = torch.cat(list(self._samples(generate, labels, stream, _Clock(self.device))))
        rows = [self._row(label, row) for label, row in zip(conditions, images.split(columns), strict=True)]
        return sample_grid(rows, scale=max(1, GRID_TILE // images.shape[-1]))

    def _row(self, label: int, images: Tensor) -> GridRow:
        name = self.class_names[label]
        return GridRow(f"{name} (forgotten)", images, marked=True) if label in self.forget else GridRow(name, images)

    def _quality(self, retained: Verdict, labels: Tensor) -> dict[str, float]:
        reference = self._references.of_classes(self._judge.classifier, self.retain)
        metrics = {
            self._against_reference("fd_classifier"): frechet_distance(retained.statistics, reference.statistics),
            "retain_accuracy": retain_accuracy(retained.called, labels),
        }
        if self._judge.inception is not None and retained.inception is not None:
            metrics |= self._inception_metrics(self._judge.inception, retained.inception)
        return metrics

    def _inception_metrics(self, inception: Inception, view: InceptionView) -> dict[str, float]:
        reference = self._references.of_classes(inception, self.retain)
        metrics = {self._against_reference("fid"): frechet_distance(view.statistics, reference.statistics)}
        if view.probabilities is not None:
            metrics["inception_score"] = inception_score(view.probabilities)
        if view.features is not None and self._reference_kind is ReferenceKind.REAL:
            samples, real = evenly_drawn(view.features), reference.features.to(self.device)
            found = fidelity(samples, real)
            metrics |= {
                "kid": kernel_distance(samples, real),
                "precision": found.precision,
                "recall": found.recall,
            }
        return metrics

    def _against_reference(self, metric: str) -> str:
        """The name of a metric that has another one where the teacher is the reference."""
        return metric if self._reference_kind is ReferenceKind.REAL else f"{metric}_{self._reference_kind}"

    def _forgetting(self, forgotten: Sequence[Verdict], override: tuple[int, ...] | None) -> dict[str, float]:
        """The metrics of the forgotten conditions; distances are measured for each of them, and averaged."""
        targets = [self.retain] * len(self.forget) if override is None else [(index,) for index in override]
        pairs = list(zip(forgotten, targets, strict=True))
        distances = [frechet_distance(verdict.statistics, self._override_statistics(to)) for verdict, to in pairs]
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

    def _override_statistics(self, classes: tuple[int, ...]) -> Statistics:
        return self._references.of_classes(self._judge.classifier, classes).statistics

    def _stream(self, index: int) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(3 * self._seed + index)

    @torch.no_grad()
    def _samples(self, generate: Generate, labels: Tensor, stream: torch.Generator, clock: _Clock) -> Iterator[Tensor]:
        for batch in labels.split(self._batch_size):
            with clock.measured("sampling"):
                images = generate(batch.to(self.device), stream)
            broken = len(images) - int(images.isfinite().flatten(1).all(1).sum())
            if broken:
                raise TrialFailed(f"{broken} of {len(images)} generated images hold values that are not finite")
            yield images


class _Clock:
    """Seconds by what they were spent on; a GPU's work is waited for."""

    def __init__(self, device: torch.device) -> None:
        self.seconds = {"sampling": 0.0, "judging": 0.0, "comparing": 0.0}
        self._device = device

    @contextmanager
    def measured(self, what: str) -> Iterator[None]:
        """Count the seconds of the block."""
        started = self._now()
        yield
        self.seconds[what] += self._now() - started

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


def _share(samples: int, classes: int) -> int:
    """Samples of each class that make at least so many in all, and are enough for a covariance."""
    return max(2, ceil(samples / classes))
