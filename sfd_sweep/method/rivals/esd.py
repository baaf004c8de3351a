"""Erased Stable Diffusion, ESD.

L = λ_f·E‖G_θ(z, c_f) - [G*(z, c_f) - η·(G*(z, c_f) - G*(z, ∅))]‖²: the generator is led to where the start would be led
by guidance away from what is forgotten, with a scale of η. There is no loss of retained conditions. All weights are
trained, as the paper does where forgetting is not to depend on the prompt (ESD-u trains all but the cross-attention).

Gandikota et al., "Erasing Concepts from Diffusion Models" (ICCV 2023).
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from sfd_sweep.method.rivals.replay import ReplayBatch, ReplayTrainer


class ErasedDiffusion(ReplayTrainer):
    """Leads to the start's images with negative guidance; see the module."""

    replays: ClassVar[bool] = False

    def targets(self, batch: ReplayBatch, x_0: Tensor) -> Tensor:  # noqa: ARG002
        asked = self.start(batch.z, batch.c)
        unasked = self.start(batch.z, self.start.model.null_conditions(batch.c))
        return asked - self.settings.negative_guidance_scale * (asked - unasked)
