"""Saliency Unlearning, SalUn.

L = λ_f·E‖G_θ(z, c_f) - sg G_θ(z, c_o)‖² + λ_r·E‖G_θ(z, c_r) - G*(z, c_r)‖², where sg stops the gradient and c_o is the
override (the paper's is another class at random). Only salient weights are trained: the share `salient_share` of them
whose gradients of E‖G*(z, c_f) - x‖² are largest by absolute value, where x is a sample of the teacher under c_f.

The paper's program averages the first term over pixels and sums the second over them; here both are sums, so its
weight α of the second term is α·3072 for images of 3×32×32.

Fan et al., "SalUn: Empowering Machine Unlearning via Gradient-based Weight Saliency in Both Image Classification and
Generation" (ICLR 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sfd_sweep.method.rivals.replay import Models, ReplayBatch, ReplayTrainer
from sfd_sweep.models.numerics import random_stream


class SaliencyUnlearning(ReplayTrainer):
    """Leads to the generator's own images of the override, by salient weights alone; see the module."""

    def __init__(self, models: Models, *arguments: Any, **options: Any) -> None:
        super().__init__(models, *arguments, **options)
        parameters, settings = self._theta.parameters, self.settings
        forgotten, count = self.task.forgotten, settings.teacher_samples

        pool, of_pool = models.teacher_samples(forgotten, count, self.at_once)
        found = models.prepared(
            f"saliency {self.generator.content_hash()} {sorted(parameters)} {self.at_once} {of_pool}",
            lambda: dict(zip(parameters, self._saliency(pool), strict=True)),
        )
        self._mask = salient([found[name] for name in parameters], settings.salient_share)

    def _saliency(self, pool: Tensor) -> list[Tensor]:
        """Return |∂/∂θ E‖G*(z, c_f) - x‖²| of every weight, for x from a pool, (conditions, count, C, H, W)."""
        weights, device = list(self._theta.parameters.values()), pool.device
        random = random_stream(0, "saliency", device)
        images = pool.flatten(0, 1)
        c = torch.tensor(self.task.forgotten, device=device).repeat_interleave(pool.shape[1])
        total = [torch.zeros_like(weight) for weight in weights]
        for rows in torch.arange(len(c), device=device).split(self.at_once):
            z = torch.randn(len(rows), *images.shape[1:], generator=random, device=device)
            loss = (self.generator(z, c[rows]) - images[rows]).square().sum()
            for part, gradient in zip(total, torch.autograd.grad(loss, weights, allow_unused=True), strict=True):
                if gradient is not None:
                    part.add_(gradient)
        return [part.abs() for part in total]

    def targets(self, batch: ReplayBatch, x_0: Tensor) -> Tensor:
        return self.generator(batch.z, self.task.override(batch.c, batch.alternative, x_0))

    def change_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        for parameter, mask in zip(parameters, self._mask, strict=True):
            if parameter.grad is not None:
                parameter.grad.mul_(mask)


def salient(saliency: Sequence[Tensor], share: float) -> list[Tensor]:
    """Return masks, 1 for the share of all weights that has the largest saliency, and 0 for the others."""
    values = torch.cat([part.flatten() for part in saliency])
    kept = max(1, round(share * len(values)))
    mask = torch.zeros_like(values)
    mask[values.argsort(descending=True, stable=True)[:kept]] = 1
    parts = mask.split([part.numel() for part in saliency])
    return [part.view_as(like) for part, like in zip(parts, saliency, strict=True)]
