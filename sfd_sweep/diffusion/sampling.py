"""Sampling a teacher in many steps, to look at it and to judge it."""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from sfd_sweep.diffusion.score_model import ScoreModel


@torch.no_grad()
def sample_ddim(
    model: ScoreModel, c: Tensor, generator: torch.Generator, *, steps: int = 20, guidance_scale: float = 1.0
) -> Tensor:
    """Images of shape (n, C, H, W), in [-1, 1], by deterministic DDIM (Song et al., 2021).

    Args:
        model: the teacher.
        c: class indices, (n,).
        generator: the source of the initial noise.
        steps: forwards of the network (twice as many with guidance).
        guidance_scale: w in x̂(∅) + w·(x̂(c) - x̂(∅)).
    """
    sampler = DDIMScheduler.from_config(
        model.scheduler.config,
        clip_sample=model.decoder is None,  # images lie in [-1, 1], latents anywhere
        timestep_spacing="linspace",
    )
    sampler.set_timesteps(steps)
    x_t = torch.randn(len(c), *model.sample_shape, generator=generator, device=generator.device).to(c.device)
    for t in sampler.timesteps:
        prediction = model.guided(x_t, t.to(c.device).expand(len(c)), c, guidance_scale)
        x_t = sampler.step(prediction.output, t, x_t).prev_sample
    return model.decode(x_t).clamp(-1, 1)
