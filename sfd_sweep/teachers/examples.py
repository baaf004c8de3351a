"""Training examples of teachers: images with labels, or latents of images with captions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.models.conditioning import ClassLabels, Conditioning
from sfd_sweep.models.families.base import LatentDecoder
from sfd_sweep.models.families.stable_diffusion import Prompts


@dataclass(frozen=True)
class LabeledExamples:
    """Images and their classes."""

    images: LabeledImages
    decoder: None = None

    @property
    def conditioning(self) -> Conditioning:
        """The classes; those without an image are absent."""
        return ClassLabels(self.images.class_names, absent=self.images.absent)

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        return self.images.image_shape

    def __len__(self) -> int:
        return len(self.images)

    def draw(self, rows: Tensor, share: slice, random: torch.Generator) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return images, which may be written to, and labels, see `CaptionedLatents.draw`; nothing is random."""
        return self.images.at(rows[share]), self.images.labels[rows[share]]


@dataclass(frozen=True)
class CaptionedLatents:
    """Latents of images, as distributions, and captions of their classes.

    Attributes:
        means: (n, c, h, w), scaled as the network reads them.
        deviations: standard deviations of the latents around them, likewise.
        labels: classes of the images, (n,).
        decoder: of the latents.
        conditioning: the captions, equally many of each class, by class.
        captions: how many of each class.
    """

    means: Tensor
    deviations: Tensor
    labels: Tensor
    decoder: LatentDecoder
    conditioning: Prompts
    captions: int

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of a latent."""
        channels, height, width = self.means.shape[1:]
        return channels, height, width

    def __len__(self) -> int:
        return len(self.means)

    def draw(self, rows: Tensor, share: slice, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the share of a batch: latents from their distributions, and a caption of each one's class.

        Args:
            rows: of the whole batch's latents, (n,).
            share: which of them are wanted.
            random: the source of captions and noise, which are drawn for the whole batch.
        """
        which = torch.randint(self.captions, (len(rows),), generator=random)
        noise = torch.randn(len(rows), *self.sample_shape, generator=random)
        mine = rows[share]
        c = self.labels[mine] * self.captions + which[share]
        return self.means[mine] + self.deviations[mine] * noise[share], c


Examples = LabeledExamples | CaptionedLatents
