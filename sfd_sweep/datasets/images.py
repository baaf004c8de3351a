"""Images with class labels, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


def quantize(images: Tensor, levels: int) -> Tensor:
    """The images with every value moved to the nearest of `levels` evenly spaced ones from -1 to 1.

    Images from files hold few values (256 for 8-bit ones), what a generator puts out holds any. A judge has to see both
    through the same quantisation, or it tells them apart by their precision.
    """
    steps = (levels - 1) / 2
    return ((images.clamp(-1, 1) + 1) * steps).round() / steps - 1


@dataclass(frozen=True)
class LabeledImages:
    """Images and their classes.

    Attributes:
        images: (n, C, H, W), float32 in [-1, 1].
        labels: (n,), int64, indices into `class_names`.
        class_names: by index.
        levels: how many evenly spaced values a pixel can have, from -1 to 1 (256 for 8-bit images).
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    levels: int = 256

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(f"{tuple(self.images.shape)} images do not go with {tuple(self.labels.shape)} labels")
        if self.images.dtype != torch.float32 or self.labels.dtype != torch.int64:
            raise ValueError(
                f"images and labels are {self.images.dtype} and {self.labels.dtype}, not float32 and int64"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def take(self, which: Tensor) -> LabeledImages:
        """Some of the images: those at the given indices (int64), or where a mask (bool, shape (n,)) is true."""
        return replace(self, images=self.images[which], labels=self.labels[which])

    def of_classes(self, classes: Sequence[int]) -> LabeledImages:
        """The images of the given classes, in their present order; the names of all classes are kept."""
        return self.take(torch.isin(self.labels, torch.tensor(classes, dtype=torch.int64)))

    def split(self, held_out: float, seed: int) -> tuple[LabeledImages, LabeledImages]:
        """Two random parts with no image in common: one to train on, and one to measure on.

        Args:
            held_out: share of the images in the second part, in (0, 1).
            seed: the same seed makes the same parts.
        """
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        first = len(self) - round(held_out * len(self))
        return self.take(order[:first]), self.take(order[first:])
