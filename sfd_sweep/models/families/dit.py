"""Diffusion transformers (Peebles & Xie, 2023), on images or on an autoencoder's latents."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sfd_sweep.errors import UserError
from sfd_sweep.models.families.base import VAE, FolderFiles, LabelConditional, Part

if TYPE_CHECKING:
    from diffusers import ModelMixin
    from torch import Tensor

FORMER_CLASS = "Transformer2DModel"
"""The class of a DiT before diffusers 0.28; it has other cases too."""


class DiT(LabelConditional):
    """`DiTTransformer2DModel`, which always embeds a null label."""

    network_class = "DiTTransformer2DModel"
    component = "transformer"
    parts: ClassVar = {
        component: Part((network_class, FORMER_CLASS)),
        VAE: Part(("AutoencoderKL",), required=False),
    }
    description = "label-conditional DiTTransformer2DModel folders"
    teacher_index: ClassVar = {"_class_name": "DiTPipeline"}
    classes_key = "num_embeds_ada_norm"
    spare_embeddings = 1

    def check(self, files: FolderFiles) -> None:
        config = files.configs[self.component]
        if config.get("_class_name") == FORMER_CLASS and config.get("norm_type") != "ada_norm_zero":
            raise UserError(
                f"{files.path / self.component} is no {self.network_class} (it is {FORMER_CLASS} with norm_type "
                f"{config.get('norm_type')})"
            )
        super().check(files)

    def label_embeddings(self, network: ModelMixin) -> list[Tensor]:
        return [block.norm1.emb.class_embedder.embedding_table.weight for block in network.transformer_blocks]
