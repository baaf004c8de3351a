"""Sampling a teacher in many steps, for pictures, reference images, and evaluations of teachers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from sfd_sweep.models.conditioning import ConditionKind
from sfd_sweep.models.score_model import ScoreModel


def sample_ddim(
    model: ScoreModel, c: Tensor, generator: torch.Generator, *, steps: int = 20, guidance_scale: float = 1.0
) -> Tensor:
    """Sample images of shape (n, C, H, W), in [-1, 1], by deterministic DDIM (Song et al., 2021).

    A step moves x_t to a_s·x̂_0 + b_s·ε̂. For flow matching, that is Euler's method, x_t + (σ_s - σ_t)·v̂.

    Args:
        model: the teacher.
        c: condition indices, (n,).
        generator: the source of the initial noise.
        steps: forwards of the network (twice as many with guidance).
        guidance_scale: w in x̂(∅) + w·(x̂(c) - x̂(∅)).
    """
    return denoise_ddim(model, c, draw_noise(model, len(c), generator), steps=steps, guidance_scale=guidance_scale)


def draw_noise(model: ScoreModel, count: int, generator: torch.Generator) -> Tensor:
    """Draw noise of shape (count, C, H, W) for the network, on the generator's device."""
    return torch.randn(count, *model.sample_shape, generator=generator, device=generator.device)


@torch.no_grad()
def denoise_ddim(model: ScoreModel, c: Tensor, noise: Tensor, *, steps: int, guidance_scale: float) -> Tensor:
    """Make images of given noise; see `sample_ddim`."""
    in_bounds = model.decoder is None  # images lie in [-1, 1], latents anywhere
    sampler = model.process.many_steps(model.scheduler, steps=steps, clip=in_bounds)
    x_t = noise.to(c.device)
    for time in sampler.timesteps:
        output = model.guided_output(x_t, time.to(c.device).expand(len(c)), c, guidance_scale)
        x_t = sampler.step(output, time, x_t).prev_sample
    return model.decode(x_t).clamp(-1, 1)


class ImageSampler(ABC):
    """What makes images of conditions.

    Attributes:
        model: the network behind it.
    """

    model: ScoreModel

    @property
    def kind(self) -> ConditionKind:
        """What a condition is."""
        return self.model.kind

    @property
    def condition_names(self) -> tuple[str, ...]:
        """Names of the classes, or the prompts, by index."""
        return self.model.conditioning.names

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        return self.model.image_shape

    @abstractmethod
    def generate(self, c: Tensor, generator: torch.Generator) -> Tensor:
        """Return images, (n, C, H, W), about [-1, 1], for condition indices (n,), with noise from `generator`."""


@dataclass(frozen=True)
class DdimSampler(ImageSampler):
    """A diffusion model with its sampler of many steps.

    Attributes:
        model: the diffusion model.
        steps: of DDIM (see `sample_ddim`).
        guidance_scale: of its guidance; 1 is none.
    """

    model: ScoreModel
    steps: int
    guidance_scale: float = 1.0

    def generate(self, c: Tensor, generator: torch.Generator) -> Tensor:
        """Return images in [-1, 1]; see `ImageSampler.generate`."""
        c = c.to(self.model.device)
        return sample_ddim(self.model, c, generator, steps=self.steps, guidance_scale=self.guidance_scale)
