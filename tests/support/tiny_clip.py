"""CLIP small enough for a test, written as transformers writes it."""

from pathlib import Path
from typing import Any

import torch
import transformers
from tiny_text_models import TOKENS, tiny_tokenizer

from sfd_sweep.optional_transformers import quiet_transformers

WIDTH, EMBEDDING, SIZE = 16, 12, 16


def save_clip(folder: Path, *, seed: int = 0, **processor: Any) -> Path:
    """Random weights, a tokenizer that reads letter by letter, and a processor that resizes and crops to SIZE."""
    tokenizer = tiny_tokenizer()
    part = {"hidden_size": WIDTH, "intermediate_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": TOKENS, **part}
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        text[name] = getattr(tokenizer, name)
    config = transformers.CLIPConfig(
        text_config=text,
        vision_config={"image_size": SIZE, "patch_size": 8, **part},
        projection_dim=EMBEDDING,
        initializer_factor=4.0,  # so that images and texts are told apart
    )
    sizes = {"size": {"shortest_edge": SIZE}, "crop_size": {"height": SIZE, "width": SIZE}, **processor}
    with quiet_transformers(), torch.random.fork_rng():
        torch.manual_seed(seed)
        transformers.CLIPModel(config).save_pretrained(folder)
        transformers.CLIPProcessor(transformers.CLIPImageProcessor(**sizes), tokenizer).save_pretrained(folder)
    return folder
