"""The components before a text-to-image network: an autoencoder of images, and an encoder of prompts.

Both are trained before the network, and stay fixed afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.errors import TrialFailed, UserError
from sfd_sweep.models.families.base import LatentDecoder
from sfd_sweep.models.families.stable_diffusion import Prompts, TextEncoder
from sfd_sweep.models.numerics import seeded
from sfd_sweep.teachers.examples import CaptionedLatents
from sfd_sweep.teachers.recipes import TextPretraining
from sfd_sweep.teachers.text_encoder import new_text_encoder, train_text_encoder

BATCH_SIZE = 64
ENCODED_AT_ONCE = 500


@dataclass(frozen=True)
class TextToImageComponents:
    """An autoencoder of square images, and a text encoder of their captions."""

    images: LabeledImages
    recipe: TextPretraining
    autoencoder: AutoencoderKL
    text_encoder: TextEncoder

    @classmethod
    def untrained(
        cls, images: LabeledImages, recipe: TextPretraining, *, norm_groups: int, seed: int
    ) -> TextToImageComponents:
        """Return components with random weights.

        Raises:
            UserError: the autoencoder does not fit such images, a caption is too long, or transformers is missing.
        """
        autoencoder = new_autoencoder(images.image_shape, recipe, norm_groups=norm_groups, seed=seed)
        return cls(images, recipe, autoencoder, new_text_encoder(recipe.prompts(images.class_names), recipe, seed=seed))

    def train(self, device: torch.device, *, seed: int) -> None:
        """Train the autoencoder, and then the text encoder on its latents.

        Raises:
            TrialFailed: one of them diverged.
        """
        train_autoencoder(self.autoencoder, self.images, self.recipe, device=device, seed=seed)
        means, _ = encode_images(self.autoencoder, self.images, device)
        train_text_encoder(self.text_encoder, means, self.images, self.recipe, device=device, seed=seed)

    def examples(self, device: torch.device) -> CaptionedLatents:
        """Return the network's examples, latents of a standard deviation of 1; their prompts are on the device."""
        means, deviations = encode_images(self.autoencoder, self.images, device)
        scaling_factor = 1 / float(means.std())
        self.autoencoder.register_to_config(scaling_factor=scaling_factor)
        names = self.images.class_names
        absent = [names[index] for index in self.images.absent]
        return CaptionedLatents(
            means=means * scaling_factor,
            deviations=deviations * scaling_factor,
            labels=self.images.labels,
            decoder=LatentDecoder(self.autoencoder),
            conditioning=Prompts.of(self.text_encoder, self.recipe.prompts(names), device, absent),
            captions=len(self.recipe.captions),
        )

    @property
    def networks(self) -> nn.ModuleDict:
        """Both networks by name."""
        return nn.ModuleDict({"autoencoder": self.autoencoder, "text_encoder": self.text_encoder.model})


def latent_shape(image_shape: tuple[int, int, int], recipe: TextPretraining) -> tuple[int, int, int]:
    """Return (c, h, w) of the latents of images of shape (C, H, W).

    Raises:
        UserError: the autoencoder does not fit such images.
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
    """Return an untrained autoencoder of images of shape (C, H, W), see `latent_shape`."""
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
    """Train on ‖x̂ - x‖² and the divergence of the latents from a normal distribution, both per value of an image.

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
def encode_images(autoencoder: AutoencoderKL, images: LabeledImages, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return means and standard deviations of the latents of all images, each (n, c, h, w), on the CPU."""
    autoencoder.to(device)
    latents = [autoencoder.encode(batch.to(device)).latent_dist for batch in images.batches(ENCODED_AT_ONCE)]
    return torch.cat([each.mean.cpu() for each in latents]), torch.cat([each.std.cpu() for each in latents])
