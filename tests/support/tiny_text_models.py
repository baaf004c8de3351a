"""Stable Diffusion small enough for a test, written as diffusers writes it."""

from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tiny_latent_models import tiny_vae
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from sfd_sweep.optional_transformers import quiet_transformers

TOKENS, WIDTH = 16, 8
PROMPTS = ("an ant", "a bee on a flower", "cow")


def letters() -> list[str]:
    """The characters that stand for the 256 bytes in CLIP's vocabulary: printable ones for themselves."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [*map(chr, printable), *(chr(256 + index) for index, _ in enumerate(others))]


def tiny_tokenizer() -> CLIPTokenizer:
    """One that reads letter by letter."""
    tokens = [*letters(), *(f"{letter}</w>" for letter in letters()), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=[], model_max_length=TOKENS)


def tiny_text_encoder(tokenizer: CLIPTokenizer, *, seed: int = 0, width: int = WIDTH) -> CLIPTextModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=width,
                intermediate_size=2 * width,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=TOKENS,
                projection_dim=width,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        ).eval()


def tiny_text_unet(*, seed: int = 0, **options: Any) -> UNet2DConditionModel:
    """A random one on latents of 4×4×4 that reads prompts at both sizes."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return UNet2DConditionModel(
            sample_size=4,
            in_channels=4,
            out_channels=4,
            block_out_channels=[8, 8],
            layers_per_block=1,
            down_block_types=["CrossAttnDownBlock2D", "DownBlock2D"],
            up_block_types=["UpBlock2D", "CrossAttnUpBlock2D"],
            cross_attention_dim=WIDTH,
            norm_num_groups=4,
            **{"attention_head_dim": 2, **options},
        )


def stable_diffusion(prediction_type: str = "epsilon", *, channels: int = 3, **options: Any) -> StableDiffusionPipeline:
    """Random weights in the layout of Stable Diffusion 1.x; with `v_prediction`, of 2.x."""
    tokenizer = tiny_tokenizer()
    if prediction_type == "v_prediction":
        options = {"use_linear_projection": True, "attention_head_dim": [2, 4], **options}
    return StableDiffusionPipeline(
        vae=tiny_vae(channels=channels),
        text_encoder=tiny_text_encoder(tokenizer),
        tokenizer=tokenizer,
        unet=tiny_text_unet(**options),
        scheduler=DDIMScheduler(
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            clip_sample=False,
            steps_offset=1,
            prediction_type=prediction_type,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def save_stable_diffusion(folder: Path, prediction_type: str = "epsilon", *, channels: int = 3) -> Path:
    with quiet_transformers():
        stable_diffusion(prediction_type, channels=channels).save_pretrained(folder)
    return folder
