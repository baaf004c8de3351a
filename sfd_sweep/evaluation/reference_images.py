"""What generated images are compared with: real images, or the teacher's own samples where there are none."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import ceil
from typing import Protocol

import torch
from torch import Tensor

from sfd_sweep.config import TeacherSamples
from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.evaluation.conditions import spread
from sfd_sweep.metrics import ReferenceKind
from sfd_sweep.models.samplers import GRID, denoise_ddim, draw_noise
from sfd_sweep.models.score_model import ScoreModel


class ReferenceImages(Protocol):
    """Images of classes, in as many levels as generated ones are rounded to."""

    @property
    def kind(self) -> ReferenceKind:
        """What they are."""

    @property
    def levels(self) -> int:
        """How many values a pixel can have."""

    def count(self, classes: Sequence[int]) -> int:
        """How many there are of some classes."""

    def content_hash(self, classes: Sequence[int]) -> str:
        """The same for the same images; it does not make them."""

    def batches(self, classes: Sequence[int], size: int) -> Iterator[Tensor]:
        """All images of some classes, (at most `size`, C, H, W), float32 in [-1, 1]."""


class RealImages:
    """Real images as reference."""

    kind = ReferenceKind.REAL

    def __init__(self, images: LabeledImages) -> None:
        self._images = images

    @classmethod
    def without_classes(cls, images: LabeledImages, conditions: Sequence[int]) -> RealImages:
        """The same images, all of them, for a group of conditions that are not their classes."""
        label = min(conditions)
        return cls(replace(images, labels=torch.full_like(images.labels, label)))

    @property
    def levels(self) -> int:
        """How many values a pixel can have."""
        return self._images.levels

    def count(self, classes: Sequence[int]) -> int:
        """How many there are of some classes."""
        return int(torch.isin(self._images.labels, torch.tensor(classes)).sum())

    def content_hash(self, classes: Sequence[int]) -> str:
        """A hash of the pixels."""
        pixels = self._images.of_classes(classes).pixels
        content = hashlib.sha256(f"{self.levels} {tuple(pixels.shape)}".encode())
        content.update(pixels.contiguous().numpy().tobytes())
        return content.hexdigest()

    def batches(self, classes: Sequence[int], size: int) -> Iterator[Tensor]:
        """The images in their order."""
        return self._images.of_classes(classes).batches(size)


NOISE_BLOCK = 500
"""Samples whose noise is drawn at once, however few of them are made at a time."""


class TeacherImages:
    """The teacher's own samples as reference. They are made anew whenever they are asked for, always the same.

    Args:
        teacher: the diffusion model.
        names: its conditions, by index.
        recipe: how samples are made.
        samples: how many there are of all of `of` conditions together; a group has its share, the same number of each
            of its conditions, or as many in all where its conditions are more than that.
        of: a number of conditions.
        seed: of their noise, of which each group of conditions has a stream of its own.
    """

    kind = ReferenceKind.TEACHER
    levels = 256

    def __init__(
        self, teacher: ScoreModel, names: Sequence[str], recipe: TeacherSamples, *, samples: int, of: int, seed: int
    ) -> None:
        self._teacher = teacher
        self._names = names
        self._recipe = recipe
        self._samples = samples
        self._of = of
        self._seed = seed

    def count(self, conditions: Sequence[int]) -> int:
        """How many there are of some conditions."""
        return len(self._drawn(conditions))

    def content_hash(self, conditions: Sequence[int]) -> str:
        """A hash of the teacher's weights, of its schedule, of what it is asked for, and of how it is sampled."""
        content = hashlib.sha256(
            f"{self._recipe.model_dump_json()} {GRID} {self._teacher.prediction_type} {self._key(conditions)} "
            f"{self.count(conditions)}".encode()
        )
        weights = [*self._teacher.state_dict().values(), self._teacher.schedule.alphas]
        if self._teacher.prompts is not None:
            weights.append(self._teacher.prompts[torch.tensor(sorted(conditions), device=self._teacher.device)])
        for tensor in weights:
            content.update(tensor.cpu().contiguous().numpy().tobytes())
        return content.hexdigest()

    def batches(self, conditions: Sequence[int], size: int) -> Iterator[Tensor]:
        """The samples, the conditions in turn; the same, whatever the size."""
        device = self._teacher.device
        seed = hashlib.sha256(self._key(conditions).encode()).digest()[:7]
        stream = torch.Generator(device).manual_seed(int.from_bytes(seed))
        recipe = self._recipe
        for block in torch.tensor(self._drawn(conditions), device=device).split(NOISE_BLOCK):
            noise = draw_noise(self._teacher, len(block), stream)
            for c, x_t in zip(block.split(size), noise.split(size), strict=True):
                yield denoise_ddim(self._teacher, c, x_t, steps=recipe.steps, guidance_scale=recipe.guidance_scale)

    def _drawn(self, conditions: Sequence[int]) -> list[int]:
        share = max(2, ceil(self._samples / self._of)) * len(conditions)
        return spread(sorted(conditions), max(2, min(share, self._samples)))

    def _key(self, conditions: Sequence[int]) -> str:
        """What the noise of a group of conditions is drawn from."""
        return f"{self._seed} {[self._names[index] for index in sorted(conditions)]}"


class PromptReference:
    """What generators of prompts are compared with: one reference for what is kept, another for what replaces.

    Args:
        judged: the conditions that quality is measured on.
        kept: images of these; real ones are taken whole, as they have no prompts.
        overrides: the teacher's images of other conditions.
    """

    def __init__(self, judged: Sequence[int], kept: ReferenceImages, overrides: TeacherImages) -> None:
        self.kind = kept.kind
        self.levels = kept.levels
        self._judged = sorted(judged)
        self._kept = kept
        self._overrides = overrides

    def count(self, conditions: Sequence[int]) -> int:
        """How many there are of some conditions."""
        return self._of(conditions).count(conditions)

    def content_hash(self, conditions: Sequence[int]) -> str:
        """The same for the same images."""
        return self._of(conditions).content_hash(conditions)

    def batches(self, conditions: Sequence[int], size: int) -> Iterator[Tensor]:
        """All images of some conditions."""
        return self._of(conditions).batches(conditions, size)

    def _of(self, conditions: Sequence[int]) -> ReferenceImages:
        return self._kept if sorted(conditions) == self._judged else self._overrides
