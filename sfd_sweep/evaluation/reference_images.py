"""Reference images: real ones, or the teacher's own samples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from math import ceil
from typing import Protocol

import torch
from torch import Tensor

from sfd_sweep.config import TeacherSamples
from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.evaluation.conditions import spread
from sfd_sweep.metrics import ReferenceKind
from sfd_sweep.models.forward_process import GRID
from sfd_sweep.models.samplers import denoise_ddim, draw_noise
from sfd_sweep.models.score_model import ScoreModel

NOISE_BLOCK = 500
"""Samples whose noise is drawn at once, however few of them are made at a time."""


class ReferenceImages(Protocol):
    """Images of conditions.

    Attributes:
        kind: real images or the teacher's samples.
        levels: how many values a pixel can have; generated images are rounded to them.
    """

    kind: ReferenceKind
    levels: int

    def count(self, conditions: Sequence[int]) -> int:
        """Return how many images there are of some conditions."""

    def content_hash(self, conditions: Sequence[int]) -> str:
        """Return the same for the same images, without making them."""

    def batches(self, conditions: Sequence[int], size: int) -> Iterator[Tensor]:
        """Yield all images of some conditions, (at most `size`, C, H, W), float32 in [-1, 1]."""

    def some(self, conditions: Sequence[int], most: int, size: int) -> tuple[Tensor, Tensor]:
        """Return some images of a group of conditions, always the same, and the condition of each.

        Args:
            conditions: the group.
            most: how many, if there are so many.
            size: the most that are made at a time.

        Returns:
            Images, (n, C, H, W), float32 in [-1, 1], and condition indices, int64 of shape (n,), on the CPU.
        """


class RealImages:
    """Real images as reference; their classes are the conditions."""

    kind = ReferenceKind.REAL

    def __init__(self, images: LabeledImages) -> None:
        self._images = images
        self.levels = images.levels

    @classmethod
    def without_classes(cls, images: LabeledImages, conditions: Sequence[int]) -> RealImages:
        """Return all images as those of a group of conditions."""
        label = min(conditions)
        return cls(replace(images, labels=torch.full_like(images.labels, label)))

    def count(self, conditions: Sequence[int]) -> int:
        """Return how many images there are of some conditions."""
        return int(torch.isin(self._images.labels, torch.tensor(conditions)).sum())

    def content_hash(self, conditions: Sequence[int]) -> str:
        """Return a hash of the pixels."""
        pixels = self._images.of_classes(conditions).pixels
        content = hashlib.sha256(f"{self.levels} {tuple(pixels.shape)}".encode())
        content.update(pixels.contiguous().numpy().tobytes())
        return content.hexdigest()

    def batches(self, conditions: Sequence[int], size: int) -> Iterator[Tensor]:
        """Yield the images in their order."""
        return self._images.of_classes(conditions).batches(size)

    def some(self, conditions: Sequence[int], most: int, size: int) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return images that are drawn at random."""
        found = self._images.of_classes(conditions)
        order = torch.randperm(len(found), generator=torch.Generator().manual_seed(0))[:most]
        return found.at(order), found.labels[order]


class TeacherImages:
    """The teacher's own samples as reference, generated on every request and always the same.

    Args:
        teacher: the diffusion model.
        names: its conditions, by index.
        recipe: how samples are made.
        samples: of `of` conditions together. A group has its share, equally many of each condition, but no more than
            `samples` in all.
        of: a number of conditions.
        seed: of the noise, of which each group of conditions has a stream of its own.
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
        """Return how many samples there are of some conditions."""
        return len(self._drawn(conditions))

    def content_hash(self, conditions: Sequence[int]) -> str:
        """Return a hash of the teacher's weights, decoder and schedule, the conditions, and the sampling."""
        content = hashlib.sha256(
            f"{self._recipe.model_dump_json()} {GRID} {self._teacher.prediction_type} {self._key(conditions)} "
            f"{self.count(conditions)} {self._weights_hash}".encode()
        )
        c = torch.tensor(sorted(conditions), device=self._teacher.device)
        for argument in self._teacher.conditioning.arguments(c).values():
            content.update(_bytes(argument))
        return content.hexdigest()

    @cached_property
    def _weights_hash(self) -> str:
        return self._teacher.weights_hash()

    def batches(self, conditions: Sequence[int], size: int) -> Iterator[Tensor]:
        """Yield the samples, the conditions in turn; the same, whatever the size."""
        device = self._teacher.device
        seed = hashlib.sha256(self._key(conditions).encode()).digest()[:7]
        stream = torch.Generator(device).manual_seed(int.from_bytes(seed))
        recipe = self._recipe
        for block in torch.tensor(self._drawn(conditions), device=device).split(NOISE_BLOCK):
            noise = draw_noise(self._teacher, len(block), stream)
            for c, x_t in zip(block.split(size), noise.split(size), strict=True):
                yield denoise_ddim(self._teacher, c, x_t, steps=recipe.steps, guidance_scale=recipe.guidance_scale)

    def some(self, conditions: Sequence[int], most: int, size: int) -> tuple[Tensor, Tensor]:
        """Return samples of the conditions in turn; no more of them are made."""
        fewer = self.of_one(most)
        images = torch.cat([batch.float().cpu() for batch in fewer.batches(conditions, size)])
        return images[:most], torch.tensor(fewer._drawn(conditions))[:most]

    def of_one(self, samples: int) -> TeacherImages:
        """Return another number of samples, for every group of conditions alike."""
        return TeacherImages(self._teacher, self._names, self._recipe, samples=samples, of=1, seed=self._seed)

    def _drawn(self, conditions: Sequence[int]) -> list[int]:
        share = max(2, ceil(self._samples / self._of)) * len(conditions)
        return spread(sorted(conditions), max(2, min(share, self._samples)))

    def _key(self, conditions: Sequence[int]) -> str:
        """What a group's noise is drawn from."""
        return f"{self._seed} {[self._names[index] for index in sorted(conditions)]}"


def _bytes(tensor: Tensor) -> bytes:
    return tensor.cpu().contiguous().numpy().tobytes()
