"""The autoencoder of a latent teacher: made, trained on images, and asked for their latents."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.errors import TrialFailed, UserError
from sfd_sweep.models.randomness import seeded
from sfd_sweep.teachers.recipes import TextPretraining

BATCH_SIZE = 64
ENCODED_AT_ONCE = 500


@dataclass(frozen=True)
class Latents:
    """What an autoencoder makes of images: normal distributions, by mean and deviation (n, c, h, w), on the CPU."""

    means: Tensor
    deviations: Tensor

    @property
    def scaling_factor(self) -> float:
        """What brings the means to a standard deviation of 1."""
        return 1 / float(self.means.std())


def latent_shape(image_shape: tuple[int, int, int], recipe: TextPretraining) -> tuple[int, int, int]:
    """(c, h, w) of what the recipe's autoencoder makes of images of shape (C, H, W).

    Raises:
        UserError: it cannot see such images.
    """
    _, height, width = image_shape
    halvings = len(recipe.autoencoder_channels) - 1
    if height != width or height % 2**halvings:
        raise UserError(
            f"the autoencoder halves square images {halvings} times, which {height}×{width} ones cannot be; crop them, "
            "or give it fewer channels (--set text.autoencoder_channels=[…])"
        )
    return recipe.latent_channels, height // 2**halvings, width // 2**halvings


def new_autoencoder(
    image_shape: tuple[int, int, int], recipe: TextPretraining, *, norm_groups: int, seed: int
) -> AutoencoderKL:
    """An untrained autoencoder of images of shape (C, H, W).

    Raises:
        UserError: it cannot see such images.
    """
    latent_channels, _, _ = latent_shape(image_shape, recipe)
    channels, size, _ = image_shape
    levels = len(recipe.autoencoder_channels)
    with seeded(seed, torch.device("cpu")):
        return AutoencoderKL(
            in_channels=channels,
            out_channels=channels,
            sample_size=size,
            down_block_types=["DownEncoderBlock2D"] * levels,
            up_block_types=["UpDecoderBlock2D"] * levels,
            block_out_channels=list(recipe.autoencoder_channels),
            norm_num_groups=norm_groups,
            latent_channels=latent_channels,
            mid_block_add_attention=False,
        )


def train_autoencoder(
    autoencoder: AutoencoderKL, images: LabeledImages, recipe: TextPretraining, *, device: torch.device, seed: int
) -> None:
    """Train it on ‖x̂ - x‖² and the divergence of its latents from a normal distribution, both per value of an image.

    Kingma & Welling, "Auto-Encoding Variational Bayes" (ICLR 2014).

    Raises:
        TrialFailed: it diverged.
    """
    random = torch.Generator().manual_seed(seed)
    autoencoder.to(device).train().requires_grad_(True)
    optimizer = torch.optim.AdamW(autoencoder.parameters(), recipe.autoencoder_lr, weight_decay=0, fused=True)
    rate = OneCycleLR(optimizer, recipe.autoencoder_lr, total_steps=recipe.autoencoder_steps)
    for _ in range(recipe.autoencoder_steps):
        x = images.at(torch.randint(len(images), (BATCH_SIZE,), generator=random)).to(device)
        latents = autoencoder.encode(x).latent_dist
        noise = torch.randn(latents.mean.shape, generator=random).to(device)
        decoded = autoencoder.decode(latents.mean + latents.std * noise).sample
        loss = nn.functional.mse_loss(decoded, x) + recipe.kl_weight * latents.kl().mean() / x[0].numel()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
    autoencoder.to("cpu").eval().requires_grad_(False)
    if not torch.isfinite(loss):
        raise TrialFailed(f"the autoencoder diverged: its loss is {loss.item()}")


@torch.no_grad()
def encode_images(autoencoder: AutoencoderKL, images: LabeledImages, device: torch.device) -> Latents:
    """The latents of all images, in order."""
    autoencoder.to(device)
    found = [autoencoder.encode(batch.to(device)).latent_dist for batch in images.batches(ENCODED_AT_ONCE)]
    return Latents(
        means=torch.cat([latents.mean.cpu() for latents in found]),
        deviations=torch.cat([latents.std.cpu() for latents in found]),
    )
