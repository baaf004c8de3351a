"""What teachers are trained on: images with labels, or latents of images with captions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.models.decoder import LatentDecoder
from sfd_sweep.models.prompts import Prompts


class Examples(Protocol):
    """Samples of what a network works on, and conditions of each."""

    @property
    def decoder(self) -> LatentDecoder | None:
        """What makes images of the samples; None if they are images."""

    @property
    def prompts(self) -> Prompts | None:
        """What conditions are indices of; None if they are classes."""

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one sample."""

    @property
    def conditions(self) -> int:
        """How many conditions there are; the null one comes after them."""

    def __len__(self) -> int:
        """How many samples there are."""

    def draw(self, rows: Tensor, share: slice, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Some of a batch: its samples, which may be written to, and a condition of each.

        Args:
            rows: which samples the whole batch consists of, (n,).
            share: which of them are wanted.
            random: the source of whatever is drawn, which is drawn for the whole batch.
        """


@dataclass(frozen=True)
class LabeledExamples:
    """Images and their classes."""

    images: LabeledImages
    decoder: None = None
    prompts: None = None

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        return self.images.image_shape

    @property
    def conditions(self) -> int:
        """The number of classes."""
        return len(self.images.class_names)

    def __len__(self) -> int:
        return len(self.images)

    def draw(self, rows: Tensor, share: slice, random: torch.Generator) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Images and their labels; nothing is drawn."""
        return self.images.at(rows[share]), self.images.labels[rows[share]]


@dataclass(frozen=True)
class CaptionedLatents:
    """Latents of images, as distributions, and captions of their classes.

    Attributes:
        means: (n, c, h, w), scaled as the network sees them.
        deviations: standard deviations of the latents around them, likewise.
        labels: classes of the images, (n,).
        decoder: makes images of latents.
        prompts: the captions, equally many of each class, by class.
        captions: how many of each class.
    """

    means: Tensor
    deviations: Tensor
    labels: Tensor
    decoder: LatentDecoder
    prompts: Prompts
    captions: int

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of a latent."""
        channels, height, width = self.means.shape[1:]
        return channels, height, width

    @property
    def conditions(self) -> int:
        """The number of captions."""
        return len(self.prompts)

    def __len__(self) -> int:
        return len(self.means)

    def draw(self, rows: Tensor, share: slice, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Latents from their distributions, and a caption of each one's class."""
        which = torch.randint(self.captions, (len(rows),), generator=random)
        noise = torch.randn(len(rows), *self.sample_shape, generator=random)
        mine = rows[share]
        c = self.labels[mine] * self.captions + which[share]
        return self.means[mine] + self.deviations[mine] * noise[share], c
