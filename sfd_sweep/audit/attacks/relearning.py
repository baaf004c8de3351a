"""Relearning: a few images and a short fine-tuning of all weights.

Łucki et al., "An Adversarial Perspective on Machine Unlearning for AI Safety" (2024), for language models; Suriyakumar
et al., "Unstable Unlearning: The Hidden Risk of Concept Resurgence in Diffusion Models" (2024), for retained images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sfd_sweep.audit.attacks.base import Attack, AttackContext, Point, stream
from sfd_sweep.audit.images import ConditionImages
from sfd_sweep.errors import UserError
from sfd_sweep.method.generator import OneStepGenerator


@dataclass(frozen=True)
class Relearning(Attack):
    """Adam on all weights, on images of what is forgotten (targeted) or of what is retained (benign).

    Each image draws the nearest of some samples of its condition towards itself: implicit maximum likelihood estimation
    (Li & Malik, 2018), which needs no teacher, no critic and no noise that belongs to an image.

    Attributes:
        images: that the attacker has.
        on: whether they show what is forgotten, or what is retained.
        budgets: steps after which the judge looks, increasing.
        candidates: samples among which each image has its nearest.
        lr: of Adam.
    """

    unit = "updates"
    description = "All weights are fine-tuned on a few images."

    images: int = 25
    on: Literal["forgotten", "retained"] = "forgotten"
    budgets: tuple[int, ...] = (0, 10, 20, 40)
    candidates: int = 128
    lr: float = 1e-4

    @property
    def name(self) -> str:
        kind = "relearning" if self.on == "forgotten" else "benign relearning"
        return f"{kind}, {self.images} image{'s' * (self.images != 1)}"

    @property
    def cost(self) -> str:
        """What the whole budget takes, in words."""
        steps = self.budgets[-1]
        made, trained = steps * (self.candidates + self.images), steps * self.images
        return f"{steps} updates of a copy of the weights: {made:,} images through it, {trained:,} of them back"

    def needs(self, context: AttackContext) -> str | None:
        available = len(self._available(context))
        if available < self.images:
            return f"{self.name} needs {self.images} images of what is {self.on}, and there are {available}"
        return None

    def curve(self, generator: OneStepGenerator, context: AttackContext, seed: int) -> Iterator[Point]:
        if reason := self.needs(context):
            raise UserError(f"{reason}; give more reference images")
        attacked = OneStepGenerator(generator.model.copy(), generator.t_init)
        attacked.model.network.requires_grad_(True)
        random = stream(context, seed, "relearning")
        targets, conditions = self._drawn(attacked, context, random)
        adam = torch.optim.Adam(attacked.model.network.parameters(), lr=self.lr)
        for step in range(self.budgets[-1] + 1):
            if step in self.budgets:
                yield context.point(step, attacked)
            if step < self.budgets[-1]:
                loss = self._loss(attacked, targets, conditions, context, random)
                adam.zero_grad()
                loss.backward()
                adam.step()

    def _available(self, context: AttackContext) -> ConditionImages:
        return context.forgotten_images if self.on == "forgotten" else context.retained_images

    def _drawn(
        self, generator: OneStepGenerator, context: AttackContext, random: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return the attacker's images as the network makes them, and their conditions."""
        available = self._available(context)
        order = torch.randperm(len(available), generator=random, device=random.device)[: self.images].cpu()
        images = available.images[order].to(context.device)
        return generator.model.encode(images), available.conditions[order].to(context.device)

    def _loss(
        self,
        generator: OneStepGenerator,
        targets: Tensor,
        conditions: Tensor,
        context: AttackContext,
        random: torch.Generator,
    ) -> Tensor:
        shape = generator.model.sample_shape
        z = torch.randn(self.candidates, *shape, generator=random, device=random.device)
        # Candidates have the conditions of the images in turn, so that each image finds some of its own.
        c = conditions.repeat(-(-self.candidates // len(conditions)))[: self.candidates]
        with torch.no_grad():
            candidates = torch.cat([generator(*part) for part in _parts(z, c, context.batch_size)])
            distances = torch.cdist(targets.flatten(1), candidates.flatten(1))
            distances[conditions[:, None] != c[None, :]] = torch.inf
            nearest = distances.argmin(1)
        return (generator(z[nearest], conditions) - targets).square().mean()


def _parts(z: Tensor, c: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    yield from zip(z.split(size), c.split(size), strict=True)
