"""Condition inversion: a free embedding in place of the forgotten condition's, with all other weights frozen.

Gal et al., "An Image is Worth One Word" (ICLR 2023), turned against unlearning by Pham et al., "Circumventing Concept
Erasure Methods for Text-to-Image Generative Models" (ICLR 2024).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from sfd_sweep.audit.attacks.base import Attack, AttackContext, Point, stream
from sfd_sweep.method.generator import OneStepGenerator


@dataclass(frozen=True)
class ConditionInversion(Attack):
    """Adam on a free embedding, from several random starts, towards what the attacker's classifier calls forgotten.

    A point is that of the restart which the judge finds the most telling: an attacker looks at all of them.

    Attributes:
        restarts: random embeddings to start from.
        budgets: steps after which the judge looks, increasing.
        batch_size: samples of a step.
        lr: of Adam.
    """

    unit = "updates of the embedding"
    description = "A free embedding replaces the condition's; the weights are frozen."
    name = "condition inversion"

    restarts: int = 4
    budgets: tuple[int, ...] = (0, 10, 20, 40, 60)
    batch_size: int = 32
    lr: float = 0.05

    @property
    def cost(self) -> str:
        """What the whole budget takes, in words."""
        steps = self.restarts * self.budgets[-1]
        return f"{steps} updates of an embedding: {steps * self.batch_size:,} images through the generator, and back"

    def curve(self, generator: OneStepGenerator, context: AttackContext, seed: int) -> Iterator[Point]:
        random = stream(context, seed, "inversion")
        runs = [list(self._restart(generator, context, random)) for _ in range(self.restarts)]
        for points in zip(*runs, strict=True):
            yield max(points, key=lambda point: point.shown)

    def _restart(self, generator: OneStepGenerator, context: AttackContext, random: torch.Generator) -> Iterator[Point]:
        model, free = generator.model.with_free_condition(context.conditions.forget[0], random)
        attacked = OneStepGenerator(model, generator.t_init)
        asked = torch.full((context.samples,), free.index, device=context.device)
        adam = torch.optim.Adam(free.parameters, lr=self.lr)
        for step in range(self.budgets[-1] + 1):
            if step in self.budgets:
                yield context.point(step, attacked, asked)
            if step < self.budgets[-1]:
                z = torch.randn(self.batch_size, *model.sample_shape, generator=random, device=random.device)
                c = torch.full((self.batch_size,), free.index, device=context.device)
                loss = -context.telling(model.decode(attacked(z, c))).mean()
                adam.zero_grad()
                loss.backward()
                adam.step()
