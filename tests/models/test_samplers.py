"""Sampling in many steps."""

import pytest
import torch
from diffusers import DDIMScheduler
from tiny_models import tiny_model

from sfd_sweep.models.forward_process import GRID
from sfd_sweep.models.samplers import sample_ddim


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_ddim_is_that_of_diffusers(scale):
    model = tiny_model("epsilon")
    c = torch.tensor([0, 2])
    images = sample_ddim(model, c, torch.Generator().manual_seed(0), steps=5, guidance_scale=scale)

    sampler = DDIMScheduler(clip_sample=True, timestep_spacing="trailing", prediction_type="epsilon")
    sampler.set_timesteps(5)
    x_t = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    for t in sampler.timesteps:
        with torch.no_grad():
            conditional, unconditional = (
                model.network(x_t, t.expand(2), class_labels=labels).sample for labels in (c, torch.tensor([3, 3]))
            )
        x_t = sampler.step(unconditional + scale * (conditional - unconditional), t, x_t).prev_sample
    torch.testing.assert_close(images, x_t.clamp(-1, 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [10, 20, 50])
def test_the_network_is_told_the_noise_level_that_a_sample_has(steps):
    sampler = DDIMScheduler(timestep_spacing=GRID)
    sampler.set_timesteps(steps)
    taken = sampler.timesteps - sampler.config.num_train_timesteps // steps  # as its `step` has it
    assert taken[:-1].tolist() == sampler.timesteps[1:].tolist()
