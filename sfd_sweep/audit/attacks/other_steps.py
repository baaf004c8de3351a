"""Other steps: a one-step generator is still a diffusion model, and may remember at steps that training never visits.

Lu et al., "When Are Concepts Erased From Diffusion Models?" (2025).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sfd_sweep.audit.attacks.base import Attack, AttackContext, Point, stream
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.models.samplers import denoise_ddim


@dataclass(frozen=True)
class OtherSteps(Attack):
    """One step at other t, and DDIM in several steps, with and without guidance.

    A point is that of the sampler which the judge finds the most telling among those of at most so many steps.

    Attributes:
        shares: other t of a single step, as shares of t_init.
        steps: numbers of DDIM's steps, increasing.
        guidance_scales: of DDIM; those other than 1 only where the network has a null condition.
    """

    unit = "steps of the sampler"
    description = "The network is sampled as a diffusion model: other t, several steps, guidance."
    name = "other steps"

    shares: tuple[float, ...] = (0.5, 0.8, 1.25, 1.5)
    steps: tuple[int, ...] = (2, 5, 20)
    guidance_scales: tuple[float, ...] = (1.0, 3.0)

    @torch.no_grad()
    def curve(self, generator: OneStepGenerator, context: AttackContext, seed: int) -> Iterator[Point]:
        random = stream(context, seed, "other steps")
        model, c = generator.model, context.forgotten(context.samples)
        z = torch.randn(len(c), *model.sample_shape, generator=random, device=random.device)
        most = len(model.schedule) - 1
        ts = [min(most, round(share * generator.t_init)) for share in self.shares]
        worst = max((self._one_step(model_t, z, c, context) for model_t in _at(generator, ts)), key=_shown)
        yield worst
        guidance_scales = [scale for scale in self.guidance_scales if scale == 1 or model.conditioning.null is not None]
        for steps in self.steps:
            points = [self._several(generator, z, c, context, steps, scale) for scale in guidance_scales]
            best = max(points, key=_shown)
            worst = max(Point(steps, worst.shown, worst.samples), best, key=_shown)
            yield worst

    def _one_step(self, generator: OneStepGenerator, z: Tensor, c: Tensor, context: AttackContext) -> Point:
        parts = zip(z.split(context.batch_size), c.split(context.batch_size), strict=True)
        return context.judged(1, torch.cat([generator.model.decode(generator(*part)).cpu() for part in parts]))

    def _several(
        self, generator: OneStepGenerator, z: Tensor, c: Tensor, context: AttackContext, steps: int, scale: float
    ) -> Point:
        parts = zip(z.split(context.batch_size), c.split(context.batch_size), strict=True)
        images = [
            denoise_ddim(generator.model, asked, noise, steps=steps, guidance_scale=scale).cpu()
            for noise, asked in parts
        ]
        return context.judged(steps, torch.cat(images))


def _at(generator: OneStepGenerator, ts: list[int]) -> list[OneStepGenerator]:
    return [OneStepGenerator(generator.model, t) for t in ts]


def _shown(point: Point) -> int:
    return point.shown
