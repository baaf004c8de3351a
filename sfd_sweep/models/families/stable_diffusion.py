"""Stable Diffusion 1.x and 2.x: a U-Net on latents that reads prompts through CLIP's text model."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sfd_sweep.errors import UserError
from sfd_sweep.models.conditioning import PROMPTS, Conditioning
from sfd_sweep.models.families.base import VAE, Family, FolderFiles, Part
from sfd_sweep.models.weights import TRANSFORMERS, find_weights
from sfd_sweep.optional_transformers import from_transformers, model_from_transformers, quiet_transformers

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import CLIPTextModel, CLIPTokenizer

TEXT_ENCODER, TOKENIZER = "text_encoder", "tokenizer"
BEYOND_PROMPTS = ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type", "num_class_embeds")
"""Entries of a network's config with which it needs more than a prompt."""


class StableDiffusion(Family):
    """`StableDiffusionPipeline` folders: `UNet2DConditionModel`, `AutoencoderKL` and one `CLIPTextModel`."""

    network_class = "UNet2DConditionModel"
    component = "unet"
    parts: ClassVar = {
        TEXT_ENCODER: Part(("CLIPTextModel",), TRANSFORMERS),
        TOKENIZER: Part(("CLIPTokenizer", "CLIPTokenizerFast"), weights=None),
        component: Part((network_class,)),
        VAE: Part(("AutoencoderKL",)),
    }
    ignored = frozenset({"safety_checker", "feature_extractor"})  # they filter finished images
    kind = PROMPTS
    description = (
        "text-to-image StableDiffusionPipeline folders (1.x and 2.x: one CLIPTextModel, a UNet2DConditionModel and an "
        "AutoencoderKL)"
    )
    teacher_index: ClassVar = {
        "_class_name": "StableDiffusionPipeline",
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
    }

    def check_conditions(self, files: FolderFiles) -> None:
        config, where = files.configs[self.component], files.path / self.component
        for entry in BEYOND_PROMPTS:
            if config.get(entry) is not None:
                raise UserError(f"{where} wants more than a prompt ({entry} is {config[entry]}); give another model")
        width, reads = files.configs[TEXT_ENCODER].get("hidden_size"), config.get("cross_attention_dim")
        if width != reads:
            raise UserError(
                f"{where} reads prompts of cross_attention_dim {reads}, and {files.path / TEXT_ENCODER} makes them of "
                f"hidden_size {width}"
            )
        if not (files.path / TOKENIZER / "tokenizer_config.json").is_file():
            raise UserError(f"{files.path / TOKENIZER / 'tokenizer_config.json'} is missing; fetch the model again")

    def condition_size(self, files: FolderFiles) -> int:
        config = files.configs[TEXT_ENCODER]
        return int(config.get("max_position_embeddings", 0)) * int(config["hidden_size"])

    def load_conditioning(self, files: FolderFiles, prompts: Sequence[str], device: torch.device | str) -> Conditioning:
        return Prompts.of(TextEncoder.load(files.path), prompts, device)


class TextEncoder:
    """CLIP's tokenizer and frozen text model, which embeds prompts.

    It is on a GPU only while it works. It is no module, so no copy, average or training state of a model includes it.
    """

    def __init__(self, tokenizer: CLIPTokenizer, model: CLIPTextModel) -> None:
        self.tokenizer = tokenizer
        self.model = model.requires_grad_(False).eval()

    @classmethod
    def load(cls, folder: Path) -> TextEncoder:
        """Load the text encoder of a model folder in float32; no code of the folder is run.

        Raises:
            UserError: transformers is not installed, or the weights do not fit their configuration.
        """
        import torch

        where = folder / TEXT_ENCODER
        safe = find_weights(where, TRANSFORMERS).name == TRANSFORMERS.safe
        tokenizer = from_transformers(folder / TOKENIZER, "CLIPTokenizer", what="tokenizer")
        model = model_from_transformers(
            where, "CLIPTextModel", what="text encoder", use_safetensors=safe, dtype=torch.float32
        )
        return cls(tokenizer, model)

    def __call__(self, texts: Sequence[str], device: torch.device | str) -> Tensor:
        """Return embeddings, (n, tokens, width), on a device; each depends on its own prompt alone, bit for bit.

        Raises:
            UserError: a prompt is longer than the model reads.
        """
        import torch

        ids = self.tokenize(texts).to(device)
        self.model.to(device)
        with torch.no_grad():
            rows = [self.model(input_ids=row).last_hidden_state for row in ids.split(1)]
        self.model.to("cpu")
        return torch.cat(rows)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Return the tokens of prompts, int64 of shape (n, tokens).

        Raises:
            UserError: a prompt is longer than the model reads.
        """
        import torch

        most = self.tokenizer.model_max_length
        ids = [self.tokenizer(text, padding="max_length", max_length=most).input_ids for text in texts]
        for text, row in zip(texts, ids, strict=True):
            if len(row) > most:
                raise UserError(
                    f"a prompt may have {most} tokens, begin and end included, and this has {len(row)}: {text!r}"
                )
        return torch.tensor(ids)

    def save(self, folder: Path, dtype: torch.dtype) -> None:
        """Write both components into a model folder."""
        with quiet_transformers():
            self.tokenizer.save_pretrained(folder / TOKENIZER)
            copy.deepcopy(self.model).to(dtype).save_pretrained(folder / TEXT_ENCODER)
        (folder / TEXT_ENCODER / TRANSFORMERS.safe).chmod(0o644)  # safetensors writes for the owner alone


class Prompts(Conditioning):
    """Prompts as conditions; the index after the last prompt is the null prompt, "".

    Args:
        encoder: the text encoder that embedded them.
        texts: the prompts.
        embeddings: (len(texts) + 1, tokens, width), on the network's device.
    """

    kind = PROMPTS

    def __init__(self, encoder: TextEncoder, texts: Sequence[str], embeddings: Tensor) -> None:
        self.encoder = encoder
        self.names = tuple(texts)
        self.null = len(self.names)
        self.embeddings = embeddings

    @classmethod
    def of(cls, encoder: TextEncoder, texts: Sequence[str], device: torch.device | str) -> Prompts:
        """Embed prompts.

        Raises:
            UserError: one is longer than the encoder reads.
        """
        return cls(encoder, texts, encoder([*texts, ""], device))

    @property
    def width(self) -> int:
        """Return how many numbers a token is embedded in."""
        return self.embeddings.shape[-1]

    def arguments(self, c: Tensor) -> dict[str, Tensor]:
        return {"encoder_hidden_states": self.embeddings[c]}

    def select(self, wanted: Sequence[int | str], device: torch.device) -> tuple[Conditioning, list[int]]:
        prompts = list(dict.fromkeys(map(str, wanted)))
        return Prompts.of(self.encoder, prompts, device), [prompts.index(str(each)) for each in wanted]

    def save(self, folder: Path, dtype: torch.dtype) -> dict[str, Any]:
        self.encoder.save(folder, dtype)
        return {TEXT_ENCODER: ["transformers", "CLIPTextModel"], TOKENIZER: ["transformers", "CLIPTokenizer"]}
