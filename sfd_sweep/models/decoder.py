"""From latents to images: the frozen autoencoder of a latent diffusion model."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from sfd_sweep.models.folder import decoded_shape

PIXELS_AT_ONCE = 2**18
"""Four images of 256×256: about 4 kB of activations a pixel in the autoencoder of Stable Diffusion, so 1 GB."""


class LatentDecoder:
    """An autoencoder that turns latents into images. It is never trained, so all copies of a model share it.

    It is no module, so that a model that has it neither trains, nor averages, nor saves it in a training state.

    Args:
        vae: on the device of the models that have it.
    """

    def __init__(self, vae: AutoencoderKL) -> None:
        self.vae = vae.requires_grad_(False).eval()

    def __deepcopy__(self, memo: dict[int, Any]) -> LatentDecoder:
        return self

    def image_shape(self, latent_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """(C, H, W) of an image, from that of its latent."""
        return decoded_shape(latent_shape, self.vae.config)

    def __call__(self, latents: Tensor) -> Tensor:
        """Images of shape (n, C, H, W), about [-1, 1], from latents of shape (n, c, h, w); some at a time."""
        config = self.vae.config
        _, height, width = self.image_shape((latents.shape[1], latents.shape[2], latents.shape[3]))
        unscaled = latents / config.scaling_factor + (config.shift_factor or 0)
        parts = unscaled.split(max(1, PIXELS_AT_ONCE // (height * width)))
        return torch.cat([self.vae.decode(part).sample for part in parts])
