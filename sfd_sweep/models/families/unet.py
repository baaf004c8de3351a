"""Label-conditional U-Nets, on images or on an autoencoder's latents."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sfd_sweep.models.families.base import VAE, LabelConditional, Part

if TYPE_CHECKING:
    from diffusers import ModelMixin
    from torch import Tensor


class UNet(LabelConditional):
    """`UNet2DModel` with `num_class_embeds`; one embedding beyond the named classes is the null label."""

    network_class = "UNet2DModel"
    component = "unet"
    parts: ClassVar = {component: Part((network_class,)), VAE: Part(("AutoencoderKL",), required=False)}
    description = "label-conditional UNet2DModel folders"
    teacher_index: ClassVar = {"_class_name": "DDPMPipeline"}
    classes_key = "num_class_embeds"

    def label_embeddings(self, network: ModelMixin) -> list[Tensor]:
        return [network.class_embedding.weight]
