"""Pretraining a small label-conditional teacher from images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.diffusion.score_model import ScoreModel

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """How a teacher is pretrained. The defaults give a good teacher of 8×8 digits in about a minute on one CPU core.

    Attributes:
        channels: width of the U-Net at each resolution.
        layers_per_block: residual blocks at each resolution.
        norm_groups: groups of its group norms.
        steps: optimiser steps.
        batch_size: images a step.
        lr: peak learning rate of AdamW, under a one-cycle schedule.
        label_dropout: share of samples that are trained with the null label, which guidance needs.
        ema_decay: decay of the moving average of the weights, which is what is returned.
        seed: of weights and of every draw.
    """

    channels: tuple[int, ...] = (16, 32)
    layers_per_block: int = 1
    norm_groups: int = 8
    steps: int = 3000
    batch_size: int = 64
    lr: float = 3e-3
    label_dropout: float = 0.12
    ema_decay: float = 0.995
    seed: int = 0


def pretrain(images: LabeledImages, *, recipe: Pretraining, progress: Progress | None = None) -> ScoreModel:
    """Train a v-prediction teacher with a null label.

    The loss is the plain ‖v̂ - v‖², t uniform. On a variance-preserving schedule that is EDM's preconditioning and loss
    weight at σ_data = 1 (Karras et al., NeurIPS 2022), so that a plain diffusers folder holds the result.

    Args:
        images: square ones; the null label is the index after their last class.
        recipe: sizes and rates.
        progress: called as progress(step, steps, loss) now and then.
    """
    classes = len(images.class_names)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = _network(recipe, channels=images.image_shape[0], size=images.image_shape[1], classes=classes)
    scheduler = DDPMScheduler(
        num_train_timesteps=1000, beta_schedule="linear", beta_start=1e-4, beta_end=0.02, prediction_type="v_prediction"
    )
    model = ScoreModel(network, scheduler, null_label=classes)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay))
    optimizer = torch.optim.AdamW(model.parameters(), recipe.lr, fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, total_steps=recipe.steps)
    generator = torch.Generator().manual_seed(recipe.seed)
    for step in range(1, recipe.steps + 1):
        rows = torch.randint(len(images), (recipe.batch_size,), generator=generator)
        dropped = torch.rand(recipe.batch_size, generator=generator) < recipe.label_dropout
        c = images.labels[rows].masked_fill(dropped, classes)
        loss = _denoising_loss(model, images.at(rows), c, generator)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
        average.update_parameters(model)
        if progress is not None and (step % 100 == 0 or step == recipe.steps):
            progress(step, recipe.steps, loss.item())
    return cast(ScoreModel, average.module).requires_grad_(False)


def _network(recipe: Pretraining, *, channels: int, size: int, classes: int) -> UNet2DModel:
    return UNet2DModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=recipe.channels,
        layers_per_block=recipe.layers_per_block,
        down_block_types=["DownBlock2D"] * len(recipe.channels),
        up_block_types=["UpBlock2D"] * len(recipe.channels),
        norm_num_groups=recipe.norm_groups,
        add_attention=False,
        num_class_embeds=classes + 1,
    )


def _denoising_loss(model: ScoreModel, x_0: Tensor, c: Tensor, generator: torch.Generator) -> Tensor:
    t = torch.randint(len(model.schedule), (len(x_0),), generator=generator)
    epsilon = torch.randn(x_0.shape, generator=generator)
    prediction = model.forward(model.schedule.diffuse(x_0, t, epsilon), t, c)
    return prediction.denoising_error(x_0, epsilon, "velocity").square().mean()
