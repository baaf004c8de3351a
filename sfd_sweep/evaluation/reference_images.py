"""What generated images are compared with: real images, or the teacher's own samples where there are none."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from math import ceil
from typing import Protocol

import torch
from torch import Tensor

from sfd_sweep.config import ReferenceKind, TeacherSamples
from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.diffusion.sampling import sample_ddim
from sfd_sweep.diffusion.score_model import ScoreModel


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


class TeacherImages:
    """The teacher's own samples as reference. They are made anew whenever they are asked for, always the same.

    Args:
        teacher: the diffusion model.
        classes: how many it has.
        recipe: how many samples, and how they are made.
        seed: of their noise; class c has the stream `seed · classes + c`.
    """

    kind = ReferenceKind.TEACHER
    levels = 256

    def __init__(self, teacher: ScoreModel, *, classes: int, recipe: TeacherSamples, seed: int) -> None:
        self._teacher = teacher
        self._classes = classes
        self._recipe = recipe
        self._seed = seed
        self._each = max(2, ceil(recipe.samples / classes))

    def count(self, classes: Sequence[int]) -> int:
        """How many there are of some classes."""
        return self._each * len(classes)

    def content_hash(self, classes: Sequence[int]) -> str:
        """A hash of the teacher's weights, of its schedule, and of how it is sampled."""
        recipe = self._recipe.model_dump_json()
        prediction = self._teacher.prediction_type
        content = hashlib.sha256(f"{recipe} {self._seed} {self._classes} {sorted(classes)} {prediction}".encode())
        for tensor in (*self._teacher.state_dict().values(), self._teacher.schedule.alphas):
            content.update(tensor.cpu().contiguous().numpy().tobytes())
        return content.hexdigest()

    def batches(self, classes: Sequence[int], size: int) -> Iterator[Tensor]:
        """The samples of one class after another."""
        device = next(self._teacher.parameters()).device
        for label in sorted(classes):
            stream = torch.Generator(device).manual_seed(self._seed * self._classes + label)
            for labels in torch.full((self._each,), label, device=device).split(size):
                yield sample_ddim(
                    self._teacher,
                    labels,
                    stream,
                    steps=self._recipe.steps,
                    guidance_scale=self._recipe.guidance_scale,
                )
