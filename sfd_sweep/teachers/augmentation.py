"""Random changes of images that leave their class as it is, of each image another."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def shifted(images: Tensor, share: float) -> Tensor:
    """Every image of (n, C, H, W) moved by a random whole number of pixels along each side.

    What moves in is what lies at the edge, reflected.

    Args:
        images: the images.
        share: the farthest move, as a share of the longer side; at least a pixel.
    """
    height, width = images.shape[2:]
    farthest = max(1, round(share * max(height, width)))
    windows = F.pad(images, [farthest] * 4, mode="reflect").unfold(2, height, 1).unfold(3, width, 1)
    rows, columns = torch.randint(2 * farthest + 1, (2, len(images)), device=images.device)
    return windows[torch.arange(len(images), device=images.device), :, rows, columns]


def mirrored(images: Tensor) -> Tensor:
    """Every image of (n, C, H, W) mirrored, left to right, or not, as a coin falls."""
    chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(chosen, images.flip(3), images)
