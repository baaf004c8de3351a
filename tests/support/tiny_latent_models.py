"""Latent diffusion transformers small enough to be trained in a test, written as diffusers writes them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline, DiTTransformer2DModel
from tiny_models import CLASSES, NAMES, scheduler

from sfd_sweep.models.conditioning import ClassLabels
from sfd_sweep.models.families.base import LatentDecoder
from sfd_sweep.models.score_model import ScoreModel

LATENT_SHAPE, IMAGE_SHAPE = (4, 4, 4), (3, 8, 8)


def tiny_transformer(classes: int = CLASSES, *, seed: int = 0, **options: Any) -> DiTTransformer2DModel:
    """A random one on latents of 4×4×4 that puts out a variance too."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return DiTTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=8,
            in_channels=4,
            out_channels=8,
            num_layers=2,
            sample_size=4,
            patch_size=2,
            num_embeds_ada_norm=classes,
            **options,
        )


def tiny_vae(*, channels: int = 3, blocks: int = 2, seed: int = 0, **options: Any) -> AutoencoderKL:
    """A random one: latents of 4×4×4 become images twice as large with two blocks, and as large with one."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoencoderKL(
            in_channels=channels,
            out_channels=channels,
            down_block_types=["DownEncoderBlock2D"] * blocks,
            up_block_types=["UpDecoderBlock2D"] * blocks,
            block_out_channels=[8] * blocks,
            norm_num_groups=4,
            latent_channels=4,
            **{"scaling_factor": 0.6, **options},
        )


def tiny_latent_model() -> ScoreModel:
    """A score model on latents of 4×4×4 of images of 3×8×8, of three classes."""
    return ScoreModel(tiny_transformer(), scheduler("epsilon"), ClassLabels(NAMES), LatentDecoder(tiny_vae()))


def save_dit(folder: Path, names: Sequence[str] = NAMES, *, vae: AutoencoderKL | None = None) -> Path:
    """A folder as `DiTPipeline` writes it, with the classes' names as the published ones have them."""
    transformer = tiny_transformer(len(names))
    DiTPipeline(transformer, vae or tiny_vae(), DDIMScheduler(clip_sample=False)).save_pretrained(folder)
    index = json.loads((folder / "model_index.json").read_text())
    index["id2label"] = {str(label): name for label, name in enumerate(names)}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder
