"""Images of conditions that an attacker or a judge has."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sfd_sweep.audit.kept import Kept
from sfd_sweep.evaluation.reference_images import ReferenceImages
from sfd_sweep.metrics import ReferenceKind


@dataclass(frozen=True)
class ConditionImages:
    """Images and their conditions.

    Attributes:
        images: (n, C, H, W), float32 in [-1, 1], on the CPU.
        conditions: their condition indices, int64 of shape (n,).
        levels: how many values a pixel can have.
    """

    images: Tensor
    conditions: Tensor
    levels: int

    def __len__(self) -> int:
        return len(self.images)

    @classmethod
    def of(cls, reference: ReferenceImages, conditions: Sequence[int], most: int) -> ConditionImages:
        """Return reference images of some conditions, at most so many of each, drawn evenly and always the same."""
        return cls.of_groups(reference, [[condition] for condition in conditions], most)

    @classmethod
    def of_groups(
        cls,
        reference: ReferenceImages,
        groups: Iterable[Sequence[int]],
        most: int,
        *,
        batch_size: int = 500,
        kept: Kept | None = None,
    ) -> ConditionImages:
        """Return reference images of groups of conditions, always the same.

        Args:
            reference: images of all of them.
            groups: such as the prompts about one concept.
            most: images of each group.
            batch_size: the most images that are made at a time.
            kept: has the samples of a teacher if they were made before.
        """
        kept = kept or Kept()
        parts = [_some(reference, group, most, batch_size, kept) for group in groups if reference.count(group)]
        if not parts:
            return cls(torch.empty(0, 1, 1, 1), torch.empty(0, dtype=torch.int64), reference.levels)
        return cls(torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts]), reference.levels)

    def __add__(self, other: ConditionImages) -> ConditionImages:
        return ConditionImages(
            torch.cat([self.images, other.images]), torch.cat([self.conditions, other.conditions]), self.levels
        )

    def take(self, rows: Tensor) -> ConditionImages:
        """Return the images at the given indices."""
        return ConditionImages(self.images[rows], self.conditions[rows], self.levels)

    @cached_property
    def content_hash(self) -> str:
        """A hash of images and conditions."""
        content = hashlib.sha256(f"{self.levels} {tuple(self.images.shape)}".encode())
        content.update(self.images.contiguous().numpy().tobytes() + self.conditions.numpy().tobytes())
        return content.hexdigest()


def _some(
    reference: ReferenceImages, group: Sequence[int], most: int, batch_size: int, kept: Kept
) -> tuple[Tensor, Tensor]:
    if reference.kind is ReferenceKind.REAL:
        return reference.some(group, most, batch_size)

    def sampled() -> dict[str, Tensor]:
        images, conditions = reference.some(group, most, batch_size)
        return {"images": images, "conditions": conditions}

    found = kept.get(f"audited {most} {reference.content_hash(group)} {list(group)}", sampled)
    return found["images"], found["conditions"]
