"""Untrained teachers: networks of the sizes that a recipe gives."""

from __future__ import annotations

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel, UNet2DModel

from sfd_sweep.errors import UserError
from sfd_sweep.models.randomness import seeded
from sfd_sweep.models.score_model import ScoreModel
from sfd_sweep.teachers.autoencoder import latent_shape
from sfd_sweep.teachers.examples import Examples
from sfd_sweep.teachers.recipes import Pretraining

DDPM = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}
STABLE_DIFFUSION = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": False,
    "steps_offset": 1,
}


def new_teacher(examples: Examples, recipe: Pretraining) -> ScoreModel:
    """An untrained teacher, with a null condition, on the 1,000 steps of DDPM's schedule or of Stable Diffusion's.

    Raises:
        UserError: the network cannot see such images.
    """
    _check_samples(examples.sample_shape, recipe)
    prompts = examples.prompts
    with seeded(recipe.seed, torch.device("cpu")):
        if prompts is None:
            network = _network_of_classes(recipe, examples.sample_shape, labels=examples.conditions + 1)
        else:
            network = _network_of_text(recipe, examples.sample_shape, width=prompts.width)
    schedule = DDPM if prompts is None else STABLE_DIFFUSION
    scheduler = DDPMScheduler(num_train_timesteps=1000, prediction_type=recipe.prediction_type, **schedule)
    return ScoreModel(network, scheduler, examples.conditions, examples.decoder, prompts)


def check_images(image_shape: tuple[int, int, int], recipe: Pretraining) -> None:
    """Whether the recipe's network can see images of shape (C, H, W), or the latents of them.

    Raises:
        UserError: it cannot.
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
    _check_heads(recipe, height)
    sizes = _feature_sizes(recipe, height)
    if missing := set(recipe.attention_sizes) - set(sizes):
        raise UserError(
            f"attention_sizes: {height}×{width} images have feature maps of {', '.join(map(str, sizes))}, and none of "
            f"{', '.join(map(str, sorted(missing)))}; change it (--set attention_sizes=[…])"
        )


def _check_heads(recipe: Pretraining, image_size: int) -> None:
    """Whether every feature map that attends to itself falls into whole heads.

    Raises:
        UserError: one does not.
    """
    sizes = zip(_feature_sizes(recipe, image_size), recipe.channels, strict=True)
    widths = [width for size, width in sizes if size in recipe.attention_sizes]
    widths += recipe.channels[-1:] if recipe.middle_attention else ()
    if odd := [width for width in widths if recipe.attention_head_dim and width % recipe.attention_head_dim]:
        raise UserError(
            f"attention_head_dim: {odd[0]} channels do not fall into heads of {recipe.attention_head_dim}; change it "
            "(--set attention_head_dim=…), or leave it to one head (null)"
        )


def _network_of_classes(recipe: Pretraining, sample_shape: tuple[int, int, int], *, labels: int) -> UNet2DModel:
    channels, size, _ = sample_shape
    attends = _attends(recipe, size)
    return UNet2DModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=recipe.channels,
        layers_per_block=recipe.layers_per_block,
        down_block_types=["AttnDownBlock2D" if attention else "DownBlock2D" for attention in attends],
        up_block_types=["AttnUpBlock2D" if attention else "UpBlock2D" for attention in reversed(attends)],
        norm_num_groups=recipe.norm_groups,
        add_attention=recipe.middle_attention,
        attention_head_dim=recipe.attention_head_dim,
        dropout=recipe.dropout,
        num_class_embeds=labels,
    )


def _network_of_text(recipe: Pretraining, sample_shape: tuple[int, int, int], *, width: int) -> UNet2DConditionModel:
    """Whatever attends to itself attends to the prompt as well, whose tokens are embedded in so many numbers."""
    channels, size, _ = sample_shape
    attends = _attends(recipe, size)
    return UNet2DConditionModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=recipe.channels,
        layers_per_block=recipe.layers_per_block,
        down_block_types=["CrossAttnDownBlock2D" if attention else "DownBlock2D" for attention in attends],
        up_block_types=["CrossAttnUpBlock2D" if attention else "UpBlock2D" for attention in reversed(attends)],
        norm_num_groups=recipe.norm_groups,
        # The number of heads at each resolution: diffusers' name for it is wrong, and cannot be changed any more.
        attention_head_dim=[max(1, each // (recipe.attention_head_dim or each)) for each in recipe.channels],
        dropout=recipe.dropout,
        cross_attention_dim=width,
    )


def _attends(recipe: Pretraining, size: int) -> list[bool]:
    """Whether the feature maps of each resolution attend to themselves."""
    return [each in recipe.attention_sizes for each in _feature_sizes(recipe, size)]


def _feature_sizes(recipe: Pretraining, image_size: int) -> list[int]:
    """The height of the feature maps at each resolution."""
    return [image_size // 2**level for level in range(len(recipe.channels))]
