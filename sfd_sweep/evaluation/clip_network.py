"""CLIP (Radford et al., 2021) in the format of transformers: images and texts as unit vectors of one space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.functional import normalize

from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.hugging_face import PASSING, Preparation, check_complete
from sfd_sweep.extras import quiet_transformers, transformers_for
from sfd_sweep.hub import fetch, is_hub_id

TOKENIZERS = ("tokenizer.json", "vocab.json")
FILES = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    *TOKENIZERS,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "merges.txt",
    "model.safetensors",
    "model-*.safetensors",
    "model.safetensors.index.json",
)
"""What a folder with CLIP consists of, as patterns of shell wildcards."""


class ImageEncoder(nn.Module):
    """From images to unit vectors.

    Args:
        model: a `CLIPModel`, of whose parts only those that see images are kept.
        prepare: its processor's resizing, cropping and normalising of uint8 images (n, 3, H, W).
    """

    def __init__(self, model: Any, prepare: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.vision_model = model.vision_model
        self.projection = model.visual_projection
        self._prepare = prepare

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings (n, d) of length 1, of images (n, C, H, W) in [-1, 1], grey or RGB.

        They are rounded to 256 levels, as the processor prepares images of 8 bits.
        """
        pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        prepared = self._prepare(pixels.expand(-1, 3, -1, -1))
        return normalize(self.projection(self.vision_model(pixel_values=prepared).pooler_output), dim=-1)


@dataclass(frozen=True)
class ClipNetwork:
    """CLIP on the CPU, in float32, in evaluation mode and frozen.

    Attributes:
        encoder: of images.
        model: the whole `CLIPModel`.
        tokenizer: of its texts.
        recipe: says in JSON's types what the embeddings of images depend on beside the weights.
    """

    encoder: ImageEncoder
    model: Any
    tokenizer: Any
    recipe: dict[str, Any]

    @property
    def scale(self) -> Tensor:
        """What cosines are multiplied by to become logits, ()."""
        scale: Tensor = self.model.logit_scale.exp()
        return scale

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Embeddings (n, d) of length 1.

        A text that is longer than the model reads (77 tokens in CLIP's releases, the marks of its start and end among
        them) is cut there and keeps its end mark, as `clip.tokenize(…, truncate=True)` does in CLIP's own code.
        """
        longest = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt")
        seen = self.model.text_model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        return normalize(self.model.text_projection(seen.pooler_output), dim=-1)


def load_clip(source: str) -> ClipNetwork:
    """The CLIP of a folder, or of a repository of the hub; no code out of it is run.

    Args:
        source: FOLDER or OWNER/NAME of a `CLIPModel` with its image processor and tokenizer.

    Raises:
        UserError: transformers is not installed, there is no whole CLIP, or it cannot be fetched.
    """
    transformers = transformers_for(f"clip:{source} is a model of transformers")
    folder = Path(source).expanduser()
    if not folder.exists() and is_hub_id(source):
        folder = fetch(source, kind="model", files=FILES)
    if not (folder / "config.json").is_file():
        raise UserError(
            f"{folder}: there is no CLIP, config.json is missing; give clip:FOLDER of a CLIPModel or clip:OWNER/NAME"
        )
    if not any((folder / name).is_file() for name in TOKENIZERS):  # transformers makes up an empty one
        raise UserError(
            f"{folder}: CLIP's tokenizer is missing, neither of {' and '.join(TOKENIZERS)} is there; add one"
        )
    here: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        with quiet_transformers():
            processor = transformers.AutoImageProcessor.from_pretrained(folder, **here)
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **here)
            model, loaded = transformers.CLIPModel.from_pretrained(
                folder, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True, **here
            )
    except (OSError, ValueError, SafetensorError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{folder} holds no CLIP that transformers can load: {reason}") from error
    check_complete(folder, loaded, what="CLIPModel")
    _check_finite(folder, model)
    model = model.float().eval().requires_grad_(False)
    return ClipNetwork(ImageEncoder(model, Preparation(processor)), model, tokenizer, _recipe(model, processor))


def _check_finite(folder: Path, model: nn.Module) -> None:
    for name, weight in model.state_dict().items():
        if not weight.isfinite().all():
            raise UserError(f"{folder}: {name} holds values that are not finite; fetch it again")


def _recipe(model: Any, processor: Any) -> dict[str, Any]:
    vision = model.config.vision_config.to_dict()
    return {
        "model": {name: value for name, value in vision.items() if name not in PASSING},
        "processor": processor.to_dict(),
    }
