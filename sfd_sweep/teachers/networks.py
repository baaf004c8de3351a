"""Untrained teachers: networks of the sizes that a recipe gives."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    ModelMixin,
    SchedulerMixin,
    UNet2DConditionModel,
    UNet2DModel,
)

from sfd_sweep.errors import UserError
from sfd_sweep.models.conditioning import CLASSES, PROMPTS, ConditionKind
from sfd_sweep.models.families.stable_diffusion import Prompts
from sfd_sweep.models.numerics import seeded
from sfd_sweep.models.score_model import ScoreModel
from sfd_sweep.teachers.examples import Examples
from sfd_sweep.teachers.recipes import Pretraining
from sfd_sweep.teachers.text_to_image import latent_shape

STEPS = 1000
SCHEDULES: dict[ConditionKind, dict[str, Any]] = {
    CLASSES: {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
    PROMPTS: {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "clip_sample": False,
        "steps_offset": 1,
    },
}
"""DDPM's, and Stable Diffusion's."""


def new_teacher(examples: Examples, recipe: Pretraining) -> ScoreModel:
    """Return an untrained teacher with a null condition, on a schedule of 1,000 steps.

    Raises:
        UserError: the network does not fit the examples.
    """
    _check_samples(examples.sample_shape, recipe)
    with seeded(recipe.seed, torch.device("cpu")):
        network = _network(examples, recipe)
    scheduler = _scheduler(examples.conditioning.kind, recipe)
    return ScoreModel(network, scheduler, examples.conditioning, examples.decoder)


def _scheduler(kind: ConditionKind, recipe: Pretraining) -> SchedulerMixin:
    """Return that of flow matching, or of DDPM and Stable Diffusion."""
    if recipe.process == "flow_matching":
        return FlowMatchEulerDiscreteScheduler(num_train_timesteps=STEPS)
    return DDPMScheduler(num_train_timesteps=STEPS, prediction_type=recipe.prediction_type, **SCHEDULES[kind])


def check_images(image_shape: tuple[int, int, int], recipe: Pretraining) -> None:
    """Check that the recipe's network fits images of shape (C, H, W), or their latents.

    Raises:
        UserError: it does not.
    """
    _check_samples(image_shape if recipe.text is None else latent_shape(image_shape, recipe.text), recipe)


def _check_samples(sample_shape: tuple[int, int, int], recipe: Pretraining) -> None:
    _, height, width = sample_shape
    halvings = len(recipe.channels) - 1
    if height != width:
        raise UserError(f"teachers are of square images, and these are {height}×{width}; crop them")
    if height % 2**halvings:
        raise UserError(
            f"the network halves its images {halvings} times, which {height}×{width} ones cannot be; "
            "give it fewer channels (--set channels=[…])"
        )
    sizes = _feature_sizes(recipe, height)
    widths = [width for size, width in zip(sizes, recipe.channels, strict=True) if size in recipe.attention_sizes]
    widths += recipe.channels[-1:] if recipe.middle_attention else ()
    if odd := [width for width in widths if recipe.attention_head_dim and width % recipe.attention_head_dim]:
        raise UserError(
            f"attention_head_dim: {odd[0]} channels do not fall into heads of {recipe.attention_head_dim}; change it "
            "(--set attention_head_dim=…), or leave it to one head (null)"
        )
    if missing := set(recipe.attention_sizes) - set(sizes):
        raise UserError(
            f"attention_sizes: {height}×{width} images have feature maps of {', '.join(map(str, sizes))}, and none of "
            f"{', '.join(map(str, sorted(missing)))}; change it (--set attention_sizes=[…])"
        )


def _network(examples: Examples, recipe: Pretraining) -> ModelMixin:
    """Return a U-Net. One of text attends to the prompt wherever it attends to itself."""
    channels, size, _ = examples.sample_shape
    attends = [each in recipe.attention_sizes for each in _feature_sizes(recipe, size)]
    conditioning = examples.conditioning
    attention = "CrossAttn" if isinstance(conditioning, Prompts) else "Attn"
    shape: dict[str, Any] = {
        "sample_size": size,
        "in_channels": channels,
        "out_channels": channels,
        "block_out_channels": recipe.channels,
        "layers_per_block": recipe.layers_per_block,
        "down_block_types": [f"{attention if here else ''}DownBlock2D" for here in attends],
        "up_block_types": [f"{attention if here else ''}UpBlock2D" for here in reversed(attends)],
        "norm_num_groups": recipe.norm_groups,
        "dropout": recipe.dropout,
    }
    if isinstance(conditioning, Prompts):
        # In this class, diffusers gives the number of heads the name attention_head_dim.
        heads = [max(1, width // (recipe.attention_head_dim or width)) for width in recipe.channels]
        return UNet2DConditionModel(**shape, attention_head_dim=heads, cross_attention_dim=conditioning.encoder.width)
    return UNet2DModel(
        **shape,
        add_attention=recipe.middle_attention,
        attention_head_dim=recipe.attention_head_dim,
        num_class_embeds=len(conditioning.names) + 1,
    )


def _feature_sizes(recipe: Pretraining, image_size: int) -> list[int]:
    """Return the height of the feature maps at each resolution."""
    return [image_size // 2**level for level in range(len(recipe.channels))]
