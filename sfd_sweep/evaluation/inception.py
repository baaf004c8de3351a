"""Inception-V3 as FID is defined on it: the weights of 2015-12-05, through clean-fid's loader."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from cleanfid.inception_torchscript import InceptionV3W
from torch import Tensor

from sfd_sweep.evaluation import inception_weights

SIZE = 299
CHUNK = 100
"""Images that go through the network at a time: the first layers hold 11 MB for each of them."""

Mode = Literal["clean", "legacy_tensorflow"]


class Inception:
    """Features and class probabilities of images (n, 1 or 3, H, W) in [-1, 1], which are rounded to 8 bits.

    Args:
        weights: the folder that holds the weights (`inception_weights.find_weights`).
        mode: `clean` resizes with antialiasing, as Pillow does in floating point (Parmar, Zhang & Zhu, "On Aliased
            Resizing and Surprising Subtleties in GAN Evaluation", CVPR 2022); `legacy_tensorflow` resizes inside the
            network, without antialiasing, as the figures of older papers were measured.
        device: where it runs.
    """

    def __init__(self, weights: Path, mode: Mode, device: torch.device | str = "cpu") -> None:
        self._network = InceptionV3W(str(weights), download=False, resize_inside=mode == "legacy_tensorflow")
        self._network.to(device).requires_grad_(False)
        self._mode = mode

    def content_hash(self) -> str:
        """Return the same for networks with the same features."""
        return f"{inception_weights.SHA256} {self._mode}"

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Return features of shape (n, 2048)."""
        return torch.cat([self._network(self._resized(chunk)) for chunk in _pixels(images).split(CHUNK)])

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """Return probabilities of shape (n, 1008) for the Inception score.

        As in the original score, the logits have no bias, and the network resizes by itself.
        """
        return torch.cat([self._network.base(chunk, no_output_bias=True) for chunk in _pixels(images).split(CHUNK)])

    def _resized(self, pixels: Tensor) -> Tensor:
        if self._mode == "legacy_tensorflow":
            return pixels
        return F.interpolate(pixels, (SIZE, SIZE), mode="bicubic", antialias=True).clamp(0, 255)


def _pixels(images: Tensor) -> Tensor:
    """Return three channels of whole numbers from 0 to 255, float32."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().expand(-1, 3, -1, -1)
