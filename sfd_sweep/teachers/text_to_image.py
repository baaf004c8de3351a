"""What stands before a text-to-image network: an autoencoder of its images, and an encoder of its prompts.

Both are trained before the network, and are never changed again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.models.decoder import LatentDecoder
from sfd_sweep.models.prompts import Prompts, TextEncoder
from sfd_sweep.models.training_state import below, named
from sfd_sweep.teachers.autoencoder import Latents, encode_images, new_autoencoder, train_autoencoder
from sfd_sweep.teachers.examples import CaptionedLatents
from sfd_sweep.teachers.recipes import TextPretraining
from sfd_sweep.teachers.text_encoder import new_text_encoder, train_text_encoder


@dataclass(frozen=True)
class TextToImageComponents:
    """An autoencoder and a text encoder for some images and their captions.

    Attributes:
        images: square ones.
        recipe: sizes, captions and training.
        autoencoder: of the images.
        text_encoder: of the captions.
    """

    images: LabeledImages
    recipe: TextPretraining
    autoencoder: AutoencoderKL
    text_encoder: TextEncoder

    @classmethod
    def untrained(
        cls, images: LabeledImages, recipe: TextPretraining, *, norm_groups: int, seed: int
    ) -> TextToImageComponents:
        """With random weights.

        Raises:
            UserError: the autoencoder cannot see such images, a caption is too long, or transformers is not installed.
        """
        autoencoder = new_autoencoder(images.image_shape, recipe, norm_groups=norm_groups, seed=seed)
        return cls(images, recipe, autoencoder, new_text_encoder(recipe.prompts(images.class_names), recipe, seed=seed))

    def train(self, device: torch.device, *, seed: int) -> None:
        """Train first the one and then the other, on what the first has made.

        Raises:
            TrialFailed: one of them diverged.
        """
        train_autoencoder(self.autoencoder, self.images, self.recipe, device=device, seed=seed)
        latents = self._latents(device)
        train_text_encoder(self.text_encoder, latents.means, self.images, self.recipe, device=device, seed=seed)

    def examples(self, device: torch.device) -> CaptionedLatents:
        """What the network is trained on; its prompts are on the device."""
        latents = self._latents(device)
        self.autoencoder.register_to_config(scaling_factor=latents.scaling_factor)
        return CaptionedLatents(
            means=latents.means * latents.scaling_factor,
            deviations=latents.deviations * latents.scaling_factor,
            labels=self.images.labels,
            decoder=LatentDecoder(self.autoencoder),
            prompts=Prompts.of(self.text_encoder, self.recipe.prompts(self.images.class_names), device),
            captions=len(self.recipe.captions),
        )

    def state(self) -> dict[str, Tensor]:
        """All weights by name, for `load_state`."""
        return {
            **named("autoencoder", self.autoencoder.state_dict()),
            **named("text_encoder", self.text_encoder.model.state_dict()),
        }

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the weights of equal ones that were trained.

        Raises:
            RuntimeError: they are of others.
        """
        self.autoencoder.load_state_dict(below("autoencoder", tensors))
        self.text_encoder.model.load_state_dict(below("text_encoder", tensors))

    def _latents(self, device: torch.device) -> Latents:
        return encode_images(self.autoencoder, self.images, device)
