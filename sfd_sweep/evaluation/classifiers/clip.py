"""CLIP (Radford et al., 2021) in transformers' format: a zero-shot classifier, and scores of images by prompts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.base import Classifier
from sfd_sweep.evaluation.classifiers.pretrained import (
    Preparation,
    check_finite,
    to_pixels,
    transformers_recipe,
)
from sfd_sweep.hub import fetch, is_hub_id
from sfd_sweep.optional_transformers import from_transformers, model_from_transformers, transformers_for

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
"""Files of a folder with CLIP, as patterns of shell wildcards."""

CAPTION = "a photo of {}"
"""A concept's text: CLIP was trained on captions, not on single words (Radford et al., 2021, section 3.1.4). Their "a
photo of a {label}." has an article, which a concept such as "Van Gogh" lacks."""


class ImageEncoder(nn.Module):
    """The image half of a `CLIPModel`, after its processor's preparation of uint8 images (n, 3, H, W)."""

    def __init__(self, model: Any, prepare: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.vision_model = model.vision_model
        self.projection = model.visual_projection
        self._prepare = prepare

    def forward(self, images: Tensor) -> Tensor:
        """Return embeddings (n, d) of length 1 of images (n, C, H, W) in [-1, 1], gray or RGB."""
        prepared = self._prepare(to_pixels(images).expand(-1, 3, -1, -1))
        return normalize(self.projection(self.vision_model(pixel_values=prepared).pooler_output), dim=-1)


@dataclass(frozen=True)
class ClipNetwork:
    """CLIP on the CPU, in float32, in evaluation mode and frozen.

    `recipe` holds, in JSON's types, what the embeddings of images depend on beside the weights.
    """

    encoder: ImageEncoder
    model: Any
    tokenizer: Any
    recipe: dict[str, Any]

    @property
    def scale(self) -> Tensor:
        """The factor from cosines to logits, ()."""
        scale: Tensor = self.model.logit_scale.exp()
        return scale

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Return embeddings (n, d) of length 1.

        Texts are cut to the model's longest (77 tokens in CLIP's releases) and keep their end mark, as
        `clip.tokenize(…, truncate=True)` does in CLIP's own code.
        """
        longest = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt")
        encoded = self.model.text_model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        return normalize(self.model.text_projection(encoded.pooler_output), dim=-1)


def load_clip(source: str) -> ClipNetwork:
    """Return the `CLIPModel` of a FOLDER or a repository OWNER/NAME of the hub; no code from it is run.

    Raises:
        UserError: transformers is not installed, CLIP is missing or broken, or cannot be fetched.
    """
    transformers_for(f"clip:{source} is a model of transformers")
    folder = Path(source).expanduser()
    if not folder.exists() and is_hub_id(source):
        folder = fetch(source, kind="model", files=FILES)
    if not (folder / "config.json").is_file():
        raise UserError(
            f"{folder}: there is no CLIP, config.json is missing; give clip:FOLDER of a CLIPModel or clip:OWNER/NAME"
        )
    if not any((folder / name).is_file() for name in TOKENIZERS):  # transformers makes up an empty one
        raise UserError(f"{folder}: CLIP's tokenizer is missing; add {' or '.join(TOKENIZERS)}")
    model = model_from_transformers(folder, "CLIPModel", what="CLIPModel", use_safetensors=True)
    processor = from_transformers(folder, "AutoImageProcessor", what="CLIPModel")
    tokenizer = from_transformers(folder, "AutoTokenizer", what="CLIPModel")
    check_finite(model, str(folder))
    model = model.float().eval().requires_grad_(False)
    recipe = transformers_recipe(model.config.vision_config, processor)
    return ClipNetwork(ImageEncoder(model, Preparation(processor)), model, tokenizer, recipe)


class ClipClassifier(Classifier):
    """A zero-shot classifier: an image's class is the concept whose caption is nearest. Takes images of any size.

    Its features are CLIP's embeddings of images, of length 1; its logits are their cosines with the embeddings of the
    concepts' captions, times CLIP's scale.

    Args:
        source: of CLIP (see `load_clip`).
        concepts: at least two different texts; the class names.
    """

    text_embeddings: Tensor
    scale: Tensor

    def __init__(self, source: str, concepts: Sequence[str]) -> None:
        _check_concepts(source, concepts)
        super().__init__(concepts, channels=None)
        network = load_clip(source)
        self.encoder = network.encoder
        self._recipe = network.recipe
        self.register_buffer("text_embeddings", network.embed_texts([CAPTION.format(text) for text in concepts]))
        self.register_buffer("scale", network.scale)

    def features(self, images: Tensor) -> Tensor:
        """Return embeddings of length 1."""
        embeddings: Tensor = self.encoder(images)
        return embeddings

    def logits_from_features(self, features: Tensor) -> Tensor:
        """Return scaled cosines with the captions."""
        return self.scale * features @ self.text_embeddings.T

    def description(self) -> str:
        """Return the recipe, the caption and the concepts."""
        return json.dumps([self._recipe, CAPTION, self.class_names], sort_keys=True)


def _check_concepts(source: str, concepts: Sequence[str]) -> None:
    if not concepts:
        raise UserError(f"clip:{source} classifies images by concepts, and none is given; name the concepts")
    for concept in concepts:
        if not concept.strip():
            raise UserError(f"clip:{source}: a concept is an empty text; write what images of it show")
        if list(concepts).count(concept) > 1:
            raise UserError(f"clip:{source}: the concept {concept!r} is there twice; name each once")
    if len(concepts) == 1:
        raise UserError(
            f"clip:{source} calls every image by one of its concepts, and {concepts[0]!r} is the only one; name "
            "another that images without it show"
        )


class ClipScore(nn.Module):
    """CLIPScore (Hessel et al., 2021) without its factor 2.5: max(cosine of image and prompt, 0), in [0, 1].

    Args:
        source: of CLIP (see `load_clip`), with or without `clip:` before it.
        prompts: at least one; cut if they are longer than CLIP reads.
    """

    text_embeddings: Tensor

    def __init__(self, source: str, prompts: Sequence[str]) -> None:
        super().__init__()
        if not prompts:
            raise UserError("a CLIP score compares images with their prompts, and there is no prompt; give some")
        network = load_clip(source.removeprefix("clip:"))
        self.encoder = network.encoder
        self.register_buffer("text_embeddings", network.embed_texts(prompts))
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def scores(self, images: Tensor, c: Tensor) -> Tensor:
        """Return the score (n,) of each image (n, C, H, W) in [-1, 1] by the prompt of index c (n,)."""
        embeddings: Tensor = self.encoder(images)
        return (embeddings * self.text_embeddings[c]).sum(1).clamp(0, 1)
