"""Images of conditions that an attacker or a judge has."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sfd_sweep.evaluation.reference_images import ReferenceImages


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
        images, labels = [], []
        for condition in conditions:
            if not reference.count([condition]):
                continue
            found = torch.cat(list(reference.batches([condition], most)))
            order = torch.randperm(len(found), generator=torch.Generator().manual_seed(0))[:most]
            images.append(found[order.to(found.device)].float().cpu())
            labels.append(torch.full((len(images[-1]),), condition))
        if not images:
            return cls(torch.empty(0, 1, 1, 1), torch.empty(0, dtype=torch.int64), reference.levels)
        return cls(torch.cat(images), torch.cat(labels), reference.levels)

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
