"""Attacks in the noise: the most telling of many, and gradient search.

Rusanovsky et al., "Memories of Forgotten Concepts" (CVPR 2025).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sfd_sweep.audit.attacks.base import Attack, AttackContext, Point, stream
from sfd_sweep.evaluation.conditions import spread
from sfd_sweep.method.generator import OneStepGenerator

MOST_CONDITIONS = 20
"""Conditions that are asked for at most, evenly chosen."""


@dataclass(frozen=True)
class Leak(Attack):
    """leak@N: of N noises under every forgotten and every retained condition, the image that the classifier prefers.

    A point is the share of groups of N noises whose chosen image the judge confirms.

    Attributes:
        budgets: N, increasing.
        groups: independent sets of noises.
    """

    unit = "noises of each condition"
    description = "The most telling of N noises over forgotten and retained conditions is chosen."

    budgets: tuple[int, ...] = (1, 10, 100)
    groups: int = 50

    @property
    def name(self) -> str:
        return f"leak@{self.budgets[-1]}"

    @torch.no_grad()
    def curve(self, generator: OneStepGenerator, context: AttackContext, seed: int) -> Iterator[Point]:
        random = stream(context, seed, "leak")
        chosen = [self._chosen(generator, context, random) for _ in range(self.groups)]
        for budget, images in zip(self.budgets, zip(*chosen, strict=True), strict=True):
            yield context.judged(budget, torch.stack(images))

    def _chosen(self, generator: OneStepGenerator, context: AttackContext, random: torch.Generator) -> list[Tensor]:
        """Return the most telling image of one group by each budget."""
        conditions = (*context.conditions.forget, *context.conditions.evaluated)
        asked = spread(conditions, min(len(conditions), MOST_CONDITIONS))
        c = torch.tensor(asked, device=context.device).repeat(self.budgets[-1])
        images = torch.cat([generator.generate(part, random).cpu() for part in c.split(context.batch_size)])
        telling = torch.cat([context.telling(part.to(context.device)) for part in images.split(context.batch_size)])
        telling = telling.nan_to_num(nan=-torch.inf)
        return [images[int(telling[: budget * len(asked)].argmax())] for budget in self.budgets]


@dataclass(frozen=True)
class NoiseSearch(Attack):
    """Adam on the noise of the forgotten condition, kept at the norm of normal noise.

    Attributes:
        noises: that are searched from.
        budgets: steps after which the judge looks, increasing.
        lr: of Adam.
    """

    unit = "updates of the noise"
    description = "The noise is optimized towards what the classifier calls forgotten."
    name = "noise search"

    noises: int = 100
    budgets: tuple[int, ...] = (0, 10, 20, 40)
    lr: float = 0.1

    def curve(self, generator: OneStepGenerator, context: AttackContext, seed: int) -> Iterator[Point]:
        random = stream(context, seed, "noise search")
        shape = generator.model.sample_shape
        z = torch.randn(self.noises, *shape, generator=random, device=random.device)
        norms = z.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        z.requires_grad_(True)
        c = context.forgotten(self.noises)
        adam = torch.optim.Adam([z], lr=self.lr)
        for step in range(self.budgets[-1] + 1):
            if step in self.budgets:
                yield context.judged(step, torch.cat(_images(generator, z.detach(), c, context)))
            if step < self.budgets[-1]:
                z.grad = _uphill(generator, z, c, context)
                adam.step()
                with torch.no_grad():
                    z.mul_(norms / z.flatten(1).norm(dim=1).view(-1, 1, 1, 1))


def _uphill(generator: OneStepGenerator, z: Tensor, c: Tensor, context: AttackContext) -> Tensor:
    """Return the gradient of the loss in the noise alone; the generator's weights get none."""
    gradients = []
    for part, asked in zip(z.detach().split(context.batch_size), c.split(context.batch_size), strict=True):
        free = part.requires_grad_(True)
        loss = -context.telling(generator.model.decode(generator(free, asked))).sum()
        gradients += torch.autograd.grad(loss, free)
    return torch.cat(gradients)


@torch.no_grad()
def _images(generator: OneStepGenerator, z: Tensor, c: Tensor, context: AttackContext) -> list[Tensor]:
    parts = zip(z.split(context.batch_size), c.split(context.batch_size), strict=True)
    return [generator.model.decode(generator(part, asked)).cpu() for part, asked in parts]
