"""Images with class labels, in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


def quantize(images: Tensor, levels: int) -> Tensor:
    """Move every value to the nearest of `levels` evenly spaced ones from -1 to 1.

    Images from files hold few values (256 for 8-bit ones), generated ones hold any. Without equal quantization a
    classifier tells them apart by their precision.
    """
    steps = (levels - 1) / 2
    return ((images.clamp(-1, 1) + 1) * steps).round() / steps - 1


@dataclass(frozen=True)
class LabeledImages:
    """Images and their classes.

    Attributes:
        pixels: (n, C, H, W), uint8 from 0 to `levels` - 1, a quarter of the memory of floats.
        labels: (n,), int64, indices into `class_names`.
        class_names: by index.
        levels: how many values a pixel can have (256 for 8-bit images).
    """

    pixels: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    levels: int = 256

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4 or self.labels.shape != self.pixels.shape[:1]:
            raise ValueError(f"{tuple(self.pixels.shape)} pixels do not go with {tuple(self.labels.shape)} labels")
        if self.pixels.dtype != torch.uint8 or self.labels.dtype != torch.int64:
            raise ValueError(f"pixels and labels are {self.pixels.dtype} and {self.labels.dtype}, not uint8 and int64")

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    @property
    def absent(self) -> tuple[int, ...]:
        """Indices of the classes without an image, ascending."""
        counts = self.labels.bincount(minlength=len(self.class_names)).tolist()
        return tuple(index for index, count in enumerate(counts) if count == 0)

    @property
    def images(self) -> Tensor:
        """All images, (n, C, H, W), float32 in [-1, 1]."""
        return self.at(slice(None))

    def at(self, rows: Tensor | slice) -> Tensor:
        """Return some of the images, float32 in [-1, 1]."""
        return self.pixels[rows].float() / ((self.levels - 1) / 2) - 1

    def batches(self, size: int) -> Iterator[Tensor]:
        """Yield all images in order, (at most `size`, C, H, W), float32 in [-1, 1]."""
        for start in range(0, len(self), size):
            yield self.at(slice(start, start + size))

    def take(self, which: Tensor) -> LabeledImages:
        """Return the images at the given indices (int64), or where a mask (bool, shape (n,)) is true."""
        return replace(self, pixels=self.pixels[which], labels=self.labels[which])

    def of_classes(self, classes: Sequence[int]) -> LabeledImages:
        """Return the images of the given classes, in their present order; the names of all classes are kept."""
        return self.take(torch.isin(self.labels, torch.tensor(classes, dtype=torch.int64)))

    def without(self, classes: Sequence[int]) -> LabeledImages:
        """Return the images of all other classes, in their present order; the names of all classes are kept."""
        return self.of_classes([index for index in range(len(self.class_names)) if index not in classes])

    def split(self, held_out: float, seed: int) -> tuple[LabeledImages, LabeledImages]:
        """Split the images at random into those to train on and those to measure on.

        Args:
            held_out: share of the images in the second part, in (0, 1).
            seed: equal seeds give equal parts.
        """
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        first = len(self) - round(held_out * len(self))
        return self.take(order[:first]), self.take(order[first:])
