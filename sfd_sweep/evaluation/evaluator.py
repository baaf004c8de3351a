"""Evaluation of a generator: samples from fixed seeds, their scores, and the metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil
from textwrap import shorten
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from sfd_sweep.errors import TrialFailed
from sfd_sweep.evaluation.classifiers.base import Classifier
from sfd_sweep.evaluation.conditions import Conditions, spread
from sfd_sweep.evaluation.image_scorer import ImageScorer
from sfd_sweep.evaluation.inception import Inception
from sfd_sweep.evaluation.reference_images import ReferenceImages, TeacherImages
from sfd_sweep.evaluation.reference_statistics import References
from sfd_sweep.evaluation.sample_grid import GridRow, sample_grid, shrunk
from sfd_sweep.metrics import Need, reported
from sfd_sweep.metrics.evidence import AttackRates, Evidence, ImageScores, Reference
from sfd_sweep.metrics.registry import share_called
from sfd_sweep.models.numerics import float32_products, random_stream
from sfd_sweep.storage.folder import Folder

if TYPE_CHECKING:
    from sfd_sweep.evaluation.classifiers.clip import ClipScore

Generate = Callable[[Tensor, torch.Generator], Tensor]
"""Images (n, C, H, W) in [-1, 1] for condition indices (n,), with all noise from the generator; both on one device."""

GRID_RETAINED_ROWS, GRID_FORGOTTEN_ROWS, GRID_HELD_OUT_ROWS = 12, 6, 3
GRID_LABEL = 40
GRID_TILE, GRID_LARGEST_TILE = 32, 128  # pixels of the picture for an image, at least and at most
GRID_COLUMNS, GRID_COLUMNS_OF_LARGE, GRID_LARGE = 12, 6, 64  # images larger than 64 pixels are expensive


class Attacks(Protocol):
    """Cheap attacks on the generator that is evaluated.

    Attributes:
        met: what metrics may need of them.
        samples: that are judged after each attack; 0 without one.
    """

    @property
    def met(self) -> frozenset[Need]: ...

    @property
    def samples(self) -> int: ...

    def rates(self, retained: int, *, final: bool) -> AttackRates:
        """Make the attacks.

        Args:
            retained: samples of the retained conditions.
            final: whether it is a final evaluation, which has noise of its own.
        """


@dataclass(frozen=True)
class EvaluationResult:
    """The figures of a generator.

    Attributes:
        metrics: by name, all those whose needs are met (see `sfd_sweep.metrics.reported`).
        samples: how many images they are computed from: `retained`, `forgotten` and, if there are any, `held_out` and
            `attacked`.
        seconds: by activity: `sampling`, `scoring` (the networks' outputs), `comparing` (metrics, and references that
            were not cached), and `attacking` if there are attacks.
    """

    metrics: dict[str, float]
    samples: dict[str, int]
    seconds: dict[str, float] = field(compare=False)


class Evaluator:
    """Evaluates generators that should have forgotten some conditions, all of them on the same noise.

    Retained, forgotten and held-out conditions have noise streams of their own, fixed by `seed`, and other ones in a
    final evaluation, so that what a search selects is judged on other noise. Noise is drawn a batch at a time, so
    figures are repeatable for one `batch_size`. Another may draw other noise, which changes figures as much as another
    seed does (not on the CPU where an image's number of values is a multiple of 16).

    Args:
        classifier: on `device`, in evaluation mode.
        reference: images of the evaluated conditions.
        conditions: to be evaluated, with the classifier's classes for them.
        seed: of all noise.
        device: where images are made and scored.
        overrides: images of any condition, as of what replaces the forgotten ones, if conditions are prompts; None:
            conditions are classes, and `reference` has them.
        inception: Inception-V3 on `device`, for the metrics that need it.
        relative: whether distances to overrides are related to that of images of what is forgotten; these have to be
            made where they are the teacher's samples.
        clip_score: CLIP on `device` with the evaluated prompts in their order, for the metric of that name.
        cache: of reference statistics (see `References`).
        batch_size: the most images that are made or scored at a time.
    """

    def __init__(  # noqa: PLR0913 - most of them are optional
        self,
        classifier: Classifier,
        reference: ReferenceImages,
        conditions: Conditions,
        *,
        seed: int,
        device: torch.device | str = "cpu",
        overrides: TeacherImages | None = None,
        inception: Inception | None = None,
        relative: bool = False,
        clip_score: ClipScore | None = None,
        cache: Folder | None = None,
        batch_size: int = 500,
    ) -> None:
        self.device = torch.device(device)
        self.classifier = classifier
        self.reference = reference
        self.overrides = overrides
        self.conditions = conditions
        self.batch_size = batch_size
        self._scorer = ImageScorer(classifier, reference.levels, self.device, inception, clip_score)
        self._references, self._override_references = (
            References(self._scorer, images, conditions.names, cache, batch_size)
            for images in (reference, overrides or reference)
        )
        self._seed = seed
        possible = {
            reference.kind.need: True,
            Need.FEATURES: classifier.measures_distances,
            Need.INCEPTION: inception is not None,
            Need.ALL_CLASSES: overrides is None and reference.count(conditions.forget) > 0,
            Need.FORGOTTEN_IMAGES: relative,
            Need.CLIP: clip_score is not None,
            Need.HELD_OUT: bool(conditions.held_out),
            Need.NUDENET: bool(classifier.parts),
        }
        self._met = {need for need, is_met in possible.items() if is_met}

    @float32_products(in_tf32=False)
    def evaluate(
        self,
        generate: Generate,
        *,
        override: tuple[int, ...] | None,
        samples: int,
        forget_samples: int,
        final: bool = False,
        attacks: Attacks | None = None,
    ) -> EvaluationResult:
        """Return all metrics of a generator.

        Args:
            generate: the generator.
            override: index of what replaces each forgotten condition; None where any retained one may.
            samples: of the evaluated conditions together, rounded up to the same number of each; evenly chosen
                conditions have one sample each if there are more conditions than samples.
            forget_samples: of the forgotten conditions together, rounded up likewise; as many of the held-out ones.
            final: whether it is a final evaluation, which has noise and metrics of its own.
            attacks: on the same generator, for the metrics that need them.

        Raises:
            TrialFailed: a generated image is not finite.
            UserError: there are too few reference images of a group of conditions.
        """
        clock = _Clock(self.device)
        asked = spread(self.conditions.evaluated, max(2, samples))
        with clock.measured("scoring"):
            retained = self._retained_scores(generate, asked, clock, final=final)
            forgotten = self._forgotten_scores(generate, forget_samples, clock, final=final)
            held_out = self._held_out_scores(generate, forget_samples, clock, final=final)
        clock.seconds["scoring"] -= clock.seconds["sampling"]  # images are made while they are scored
        rates, attacked = AttackRates(), 0
        if attacks is not None:
            with clock.measured("attacking"):
                rates, attacked = attacks.rates(len(asked), final=final), attacks.samples
        with clock.measured("comparing"):
            targets = self._override_targets(override)
            evidence = Evidence(
                retained=retained,
                retained_classes=[self.conditions.called[index] for index in asked],
                forgotten=forgotten,
                forgotten_classes=self.conditions.forgotten_classes,
                override_classes=[self.conditions.classes_of(target) for target in targets],
                held_out=held_out,
                reference=lambda: self._references.of(self.classifier, self.conditions.evaluated),
                inception_reference=lambda: self._inception_reference(self.conditions.evaluated),
                override_references=lambda: [self._override_reference(target) for target in targets],
                forgotten_references=self._forgotten_references,
                all_classes_reference=self._all_classes_reference,
                attacks=rates,
            )
            met = self._met | ({Need.FINAL} if final else set()) | (attacks.met if attacks is not None else set())
            computed = {metric.name: metric.compute(evidence) for metric in reported(met)}
        metrics = {name: value for name, value in computed.items() if value is not None}
        counts = {"retained": len(asked), "forgotten": len(evidence.forgotten_probabilities)}
        if held_out is not None:
            counts["held_out"] = len(held_out.called)
        counts |= {"attacked": attacked} if attacked else {}
        return EvaluationResult(metrics, counts, clock.seconds)

    @float32_products(in_tf32=False)
    def leak_rate(self, generate: Generate, samples: int, *, final: bool) -> float:
        """Return the metric of that name alone, of any generator of the same conditions.

        Args:
            generate: the generator.
            samples: of the evaluated conditions, as in `evaluate`.
            final: whether on the noise of a final evaluation.

        Raises:
            TrialFailed: a generated image is not finite.
        """
        asked = spread(self.conditions.evaluated, max(2, samples))
        stream = self._stream("retained", final=final)
        scores = self._scorer.score(self._samples(generate, asked, stream, _Clock(self.device)))
        return share_called(scores.called, self.conditions.forgotten_classes)

    @torch.no_grad()
    @float32_products(in_tf32=False)
    def grid(self, generate: Generate, *, columns: int = GRID_COLUMNS) -> bytes:
        """Return a picture (PNG) of fixed samples of each condition: the forgotten ones, marked, then the retained.

        Small images are enlarged, and those of more than 128 pixels a side are shrunk to that.

        Args:
            generate: the generator.
            columns: images of each condition (see `grid_columns`).

        Raises:
            TrialFailed: a generated image is not finite.
        """
        conditions = self.conditions
        marked = (*conditions.forget[:GRID_FORGOTTEN_ROWS], *conditions.held_out[:GRID_HELD_OUT_ROWS])
        shown = (*marked, *conditions.evaluated[:GRID_RETAINED_ROWS])
        asked = [index for index in shown for _ in range(columns)]
        batches = self._samples(generate, asked, self._stream("grid"), _Clock(self.device))
        images = torch.cat([shrunk(batch, GRID_LARGEST_TILE) for batch in batches])
        rows = [self._row(label, row) for label, row in zip(shown, images.split(columns), strict=True)]
        return sample_grid(rows, scale=max(1, GRID_TILE // images.shape[-1]))

    @float32_products(in_tf32=False)
    def forgotten_share(self, images: ReferenceImages) -> float:
        """Return the share of some images of forgotten conditions that the classifier calls forgotten."""
        scores = self._scorer.score(images.batches(self.conditions.forget, self.batch_size))
        return share_called(scores.called, self.conditions.forgotten_classes)

    def _retained_scores(self, generate: Generate, asked: Sequence[int], clock: _Clock, *, final: bool) -> ImageScores:
        places = {index: place for place, index in enumerate(self.conditions.evaluated)}
        prompts = torch.tensor([places[index] for index in asked])
        images = self._samples(generate, asked, self._stream("retained", final=final), clock)
        return self._scorer.score(images, inception=True, final=final, prompts=prompts)

    def _forgotten_scores(self, generate: Generate, samples: int, clock: _Clock, *, final: bool) -> list[ImageScores]:
        groups, stream = self.conditions.forgotten_groups, self._stream("forgotten", final=final)
        each, inception = max(2, ceil(samples / len(groups))), final and Need.ALL_CLASSES in self._met
        return [
            self._scorer.score(self._samples(generate, spread(group, each), stream, clock), inception=inception)
            for group in groups
        ]

    def _held_out_scores(self, generate: Generate, samples: int, clock: _Clock, *, final: bool) -> ImageScores | None:
        if not self.conditions.held_out:
            return None
        asked = spread(self.conditions.held_out, max(2, samples))
        return self._scorer.score(self._samples(generate, asked, self._stream("held out", final=final), clock))

    def _inception_reference(self, conditions: Sequence[int]) -> Reference:
        assert self._scorer.inception is not None
        return self._references.of(self._scorer.inception, conditions)

    def _all_classes_reference(self) -> Reference:
        return self._inception_reference((*self.conditions.evaluated, *self.conditions.forget))

    def _forgotten_references(self) -> list[Reference]:
        return [self._override_references.of(self.classifier, group) for group in self.conditions.forgotten_groups]

    def _override_reference(self, target: tuple[int, ...]) -> Reference:
        is_any_retained = set(target) == set(self.conditions.evaluated)
        references = self._references if is_any_retained else self._override_references
        return references.of(self.classifier, target)

    def _override_targets(self, override: tuple[int, ...] | None) -> list[tuple[int, ...]]:
        """Return the conditions that may replace each group of forgotten conditions."""
        groups = self.conditions.forgotten_groups
        if override is None:
            return [self.conditions.evaluated] * len(groups)
        target = dict(zip(self.conditions.forget, override, strict=True))
        return [tuple(dict.fromkeys(target[index] for index in group)) for group in groups]

    def _row(self, label: int, images: Tensor) -> GridRow:
        name = shorten(self.conditions.names[label], GRID_LABEL, placeholder=" …")
        if label in self.conditions.forget:
            return GridRow(f"{name} (forgotten)", images, marked=True)
        if label in self.conditions.held_out:
            return GridRow(f"{name} (held out)", images, marked=True)
        return GridRow(name, images)

    def _stream(self, samples: str, *, final: bool = False) -> torch.Generator:
        evaluation = "final evaluation" if final else "evaluation"
        return random_stream(self._seed, f"{evaluation}: {samples}", self.device)

    @torch.no_grad()
    def _samples(
        self, generate: Generate, asked: Sequence[int], stream: torch.Generator, clock: _Clock
    ) -> Iterator[Tensor]:
        for batch in torch.tensor(asked).split(self.batch_size):
            with clock.measured("sampling"):
                images = generate(batch.to(self.device), stream)
            broken = len(images) - int(images.isfinite().flatten(1).all(1).sum())
            if broken:
                raise TrialFailed(f"{broken} of {len(images)} generated images hold values that are not finite")
            yield images


def grid_columns(image_shape: tuple[int, int, int]) -> int:
    """Return how many images of each condition a grid shows, by their shape (C, H, W)."""
    return GRID_COLUMNS_OF_LARGE if max(image_shape[1:]) > GRID_LARGE else GRID_COLUMNS


class _Clock:
    """Seconds by activity; waits for a GPU's work."""

    def __init__(self, device: torch.device) -> None:
        self.seconds = {"sampling": 0.0, "scoring": 0.0, "comparing": 0.0}
        self._device = device

    @contextmanager
    def measured(self, what: str) -> Iterator[None]:
        started = self._now()
        yield
        self.seconds[what] = self.seconds.get(what, 0.0) + self._now() - started

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
