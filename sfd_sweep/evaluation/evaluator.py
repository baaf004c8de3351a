"""From a generator to its figures: samples with fixed seeds, what the judge says of them, and the metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil
from textwrap import shorten
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sfd_sweep.errors import TrialFailed
from sfd_sweep.evaluation.classifiers.base import Classifier
from sfd_sweep.evaluation.conditions import Conditions, spread
from sfd_sweep.evaluation.fidelity import fidelity, inception_score, kernel_distance
from sfd_sweep.evaluation.forgetting_metrics import (
    forget_entropy,
    forget_probability,
    override_rate,
    retain_accuracy,
    unlearning_accuracy,
)
from sfd_sweep.evaluation.frechet import Statistics, frechet_distance
from sfd_sweep.evaluation.image_scorer import ImageScorer, ImageScores, InceptionScores
from sfd_sweep.evaluation.inception import Inception
from sfd_sweep.evaluation.reference_images import ReferenceImages
from sfd_sweep.evaluation.reference_statistics import References, evenly_drawn
from sfd_sweep.evaluation.sample_grid import GridRow, sample_grid, shrunk
from sfd_sweep.metrics import ReferenceKind
from sfd_sweep.models.precision import float32_products
from sfd_sweep.storage.folder import Folder

if TYPE_CHECKING:
    from sfd_sweep.evaluation.clip_score import ClipScore

Generate = Callable[[Tensor, torch.Generator], Tensor]
"""Images (n, C, H, W) in [-1, 1] for condition indices (n,), with all noise from the generator; both on one device."""

RETAINED_STREAM, FORGOTTEN_STREAM, GRID_STREAM, HELD_OUT_STREAM = range(4)
STREAMS = 3  # of a seed; the fourth came later, and the others are to stay what they were
GRID_RETAINED_ROWS, GRID_FORGOTTEN_ROWS, GRID_HELD_OUT_ROWS = 12, 6, 3
GRID_LABEL = 40
GRID_TILE, GRID_LARGEST_TILE = 32, 128  # pixels of the picture for an image, at least and at most
GRID_COLUMNS, GRID_COLUMNS_OF_LARGE, GRID_LARGE = 12, 6, 64  # large ones, in pixels, cost much to make


@dataclass(frozen=True)
class EvaluationResult:
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
    """Judges generators that are to forget some conditions, all of them on the same noise.

    Retained, forgotten and held-out conditions have noise streams of their own, all fixed by `seed`. Noise is drawn a
    batch at a time, so figures are repeatable for one `batch_size`; another may draw other noise (on the CPU it does
    not where an image's number of values is a multiple of 16), and then moves them by as much as another seed does.

    Args:
        classifier: on `device` and in evaluation mode.
        reference: of what is retained, and of what replaces the forgotten.
        conditions: which are judged, and what the classifier calls them.
        seed: of all noise.
        device: where images are made and judged.
        inception: Inception-V3 on `device`, for the metrics that need it.
        clip_score: CLIP on `device` with the judged prompts, in their order, for the metric of that name.
        cache: where reference statistics are kept (see `References`).
        batch_size: the most images that are made or judged at a time.
    """

    def __init__(
        self,
        classifier: Classifier,
        reference: ReferenceImages,
        conditions: Conditions,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        inception: Inception | None = None,
        clip_score: ClipScore | None = None,
        cache: Folder | None = None,
        batch_size: int = 500,
    ) -> None:
        self.device = torch.device(device)
        self.classifier = classifier
        self.conditions = conditions
        self._judge = ImageScorer(classifier, reference.levels, self.device, inception)
        self._clip_score = clip_score
        self._reference_kind = reference.kind
        self._references = References(self._judge, reference, conditions.names, cache, batch_size)
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
    ) -> EvaluationResult:
        """All metrics of a generator.

        Args:
            generate: the generator.
            override: index of what replaces each forgotten condition; None where any retained one may.
            samples: of the judged conditions together, rounded up to the same number of each; where they are more than
                that, of as many of them, evenly chosen.
            forget_samples: of the forgotten conditions together, rounded up likewise, and of the held-out ones too.
            final: whether to add the metrics of a final evaluation.

        Raises:
            TrialFailed: a generated image is not finite.
            UserError: there are too few reference images of a group of classes.
        """
        clock = _Clock(self.device)
        judged = torch.tensor(spread(self.conditions.judged, max(2, samples)))
        groups = self.conditions.forgotten_groups
        each = max(2, ceil(forget_samples / len(groups)))
        asked = [torch.tensor(spread(group, each)) for group in groups]
        with clock.measured("judging"):
            matches = _Matches(self._clip_score, self._judge, self.conditions.judged)
            batches = self._samples(generate, judged, self._stream(RETAINED_STREAM), clock)
            retained = self._judge.verdict(matches.watching(batches, judged), inception=True, closely=final)
            stream = self._stream(FORGOTTEN_STREAM)
            forgotten = [self._judge.verdict(self._samples(generate, c, stream, clock)) for c in asked]
            held_out = self._held_out(generate, forget_samples, clock)
        with clock.measured("comparing"):
            metrics = self._quality(retained, judged) | matches.metrics() | self._forgetting(forgotten, override)
            metrics |= held_out
        clock.seconds["judging"] -= clock.seconds["sampling"]  # images are made while they are asked for
        counts = {"retained": len(judged), "forgotten": sum(map(len, asked))}
        return EvaluationResult(metrics, counts, clock.seconds)

    @torch.no_grad()
    @float32_products(in_tf32=False)
    def grid(self, generate: Generate, *, columns: int = GRID_COLUMNS) -> bytes:
        """A picture (PNG) of fixed samples of each condition: first the forgotten ones, marked, then the retained.

        Small images are enlarged, and those of more than 128 pixels a side are shrunk to that.

        Args:
            generate: the generator.
            columns: images of each condition (see `grid_columns`).

        Raises:
            TrialFailed: a generated image is not finite.
        """
        told = self.conditions
        marked = (*told.forget[:GRID_FORGOTTEN_ROWS], *told.held_out[:GRID_HELD_OUT_ROWS])
        shown = (*marked, *told.judged[:GRID_RETAINED_ROWS])
        labels = torch.tensor(shown).repeat_interleave(columns)
        batches = self._samples(generate, labels, self._stream(GRID_STREAM), _Clock(self.device))
        images = torch.cat([shrunk(batch, GRID_LARGEST_TILE) for batch in batches])
        rows = [self._row(label, row) for label, row in zip(shown, images.split(columns), strict=True)]
        return sample_grid(rows, scale=max(1, GRID_TILE // images.shape[-1]))

    @torch.no_grad()
    @float32_products(in_tf32=False)
    def seen_in(self, images: ReferenceImages) -> float:
        """The share of some images of forgotten conditions that the classifier calls forgotten.

        Args:
            images: of the forgotten conditions.
        """
        verdict = self._judge.verdict(images.batches(self.conditions.forget, self._batch_size))
        return 1 - unlearning_accuracy(verdict.called, self.conditions.forgotten_classes)

    def _row(self, label: int, images: Tensor) -> GridRow:
        name = shorten(self.conditions.names[label], GRID_LABEL, placeholder=" …")
        if label in self.conditions.forget:
            return GridRow(f"{name} (forgotten)", images, marked=True)
        if label in self.conditions.held_out:
            return GridRow(f"{name} (held out)", images, marked=True)
        return GridRow(name, images)

    def _held_out(self, generate: Generate, samples: int, clock: _Clock) -> dict[str, float]:
        """The metric of conditions that training never sees, if there are any."""
        if not self.conditions.held_out:
            return {}
        c = torch.tensor(spread(self.conditions.held_out, max(2, samples)))
        verdict = self._judge.verdict(self._samples(generate, c, self._stream(HELD_OUT_STREAM), clock))
        return {"held_out_unlearning_accuracy": unlearning_accuracy(verdict.called, self.conditions.forgotten_classes)}

    def _quality(self, retained: ImageScores, labels: Tensor) -> dict[str, float]:
        metrics = {}
        if self.classifier.measures_distances:
            reference = self._references.of_classes(self._judge.classifier, self.conditions.judged)
            distance = frechet_distance(retained.statistics, reference.statistics)
            metrics[self._against_reference("fd_classifier")] = distance
        known = torch.tensor([bool(self.conditions.called[label]) for label in labels.tolist()])
        if known.any():
            own = _padded([self.conditions.called[label] for label in labels[known].tolist()])
            metrics["retain_accuracy"] = retain_accuracy(retained.called[known], own)
        if self._judge.inception is not None and retained.inception is not None:
            metrics |= self._inception_metrics(self._judge.inception, retained.inception)
        return metrics

    def _inception_metrics(self, inception: Inception, view: InceptionScores) -> dict[str, float]:
        reference = self._references.of_classes(inception, self.conditions.judged)
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

    def _forgetting(self, forgotten: Sequence[ImageScores], override: tuple[int, ...] | None) -> dict[str, float]:
        """The metrics of the forgotten conditions; distances are measured for each group of them, and averaged."""
        called = torch.cat([verdict.called for verdict in forgotten])
        probabilities = torch.cat([verdict.probabilities for verdict in forgotten])
        metrics = {
            "unlearning_accuracy": unlearning_accuracy(called, self.conditions.forgotten_classes),
            "forget_probability": forget_probability(probabilities, self.conditions.forgotten_classes),
            "forget_entropy": forget_entropy(probabilities),
        }
        pairs = list(zip(forgotten, self._targets(override), strict=True))
        if self.classifier.measures_distances:
            distances = [frechet_distance(verdict.statistics, self._override_statistics(to)) for verdict, to in pairs]
            metrics["override_distance"] = sum(distances) / len(distances)
        words = [
            tuple(dict.fromkeys(word for index in to for word in self.conditions.called[index])) for _, to in pairs
        ]
        if all(words):
            rows = [to for (verdict, _), to in zip(pairs, words, strict=True) for _ in range(len(verdict.called))]
            metrics["override_rate"] = override_rate(called, _padded(rows))
        for part in self.classifier.parts:
            found = [verdict.parts[part] for verdict in forgotten]
            metrics[part] = float(torch.cat(found).double().mean())
        return metrics

    def _targets(self, override: tuple[int, ...] | None) -> list[tuple[int, ...]]:
        """What may replace each group of forgotten conditions."""
        groups = self.conditions.forgotten_groups
        if override is None:
            return [self.conditions.judged] * len(groups)
        replacement = dict(zip(self.conditions.forget, override, strict=True))
        return [tuple(dict.fromkeys(replacement[index] for index in group)) for group in groups]

    def _override_statistics(self, conditions: tuple[int, ...]) -> Statistics:
        return self._references.of_classes(self._judge.classifier, conditions).statistics

    def _stream(self, index: int) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(STREAMS * self._seed + index)

    @torch.no_grad()
    def _samples(self, generate: Generate, labels: Tensor, stream: torch.Generator, clock: _Clock) -> Iterator[Tensor]:
        for batch in labels.split(self._batch_size):
            with clock.measured("sampling"):
                images = generate(batch.to(self.device), stream)
            broken = len(images) - int(images.isfinite().flatten(1).all(1).sum())
            if broken:
                raise TrialFailed(f"{broken} of {len(images)} generated images hold values that are not finite")
            yield images


def grid_columns(image_shape: tuple[int, int, int]) -> int:
    """How many images of each condition a grid shows, by their shape (C, H, W)."""
    return GRID_COLUMNS_OF_LARGE if max(image_shape[1:]) > GRID_LARGE else GRID_COLUMNS


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


class _Matches:
    """How well images show what was asked for, watched as they go by.

    Args:
        clip_score: CLIP with the judged prompts; None: nothing is watched.
        judge: how images are looked at.
        judged: indices of those prompts.
    """

    def __init__(self, clip_score: ClipScore | None, judge: ImageScorer, judged: Sequence[int]) -> None:
        self._clip_score = clip_score
        self._judge = judge
        self._place = {index: place for place, index in enumerate(judged)}
        self._scores: list[Tensor] = []

    def watching(self, batches: Iterator[Tensor], c: Tensor) -> Iterator[Tensor]:
        """The same batches of images of conditions c, (n,)."""
        places, start = torch.tensor([self._place[index] for index in c.tolist()]), 0
        for images in batches:
            if self._clip_score is not None:
                asked = places[start : start + len(images)].to(self._judge.device)
                self._scores.append(self._clip_score.scores(self._judge.seen(images), asked).cpu())
            start += len(images)
            yield images

    def metrics(self) -> dict[str, float]:
        """The mean score, if anything was watched."""
        return {"clip_score": float(torch.cat(self._scores).double().mean())} if self._scores else {}


def _padded(rows: Sequence[tuple[int, ...]]) -> Tensor:
    """Rows of at least one class each, int64 of shape (n, m); shorter ones repeat their first."""
    most = max(map(len, rows))
    return torch.tensor([[*row, *row[:1] * (most - len(row))] for row in rows])
