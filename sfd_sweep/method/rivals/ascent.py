"""Gradient ascent on the loss of what is forgotten.

L = -λ_f·E‖G_θ(z, c_f) - x‖² + λ_r·E‖G_θ(z, c_r) - G*(z, c_r)‖², where x is a sample of the teacher under c_f. The
noise z is drawn independently of x, so G_θ(z, c_f) is led away from the mean of what is forgotten.

Golatkar, Achille & Soatto, "Eternal Sunshine of the Spotless Net" (CVPR 2020), compare with it as negative gradient.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from sfd_sweep.method.batch import UpdateBatch
from sfd_sweep.method.rivals.replay import Models, ReplayBatch, ReplayTrainer, drawn_from


class GradientAscent(ReplayTrainer):
    """Leads away from samples of the teacher under the forgotten conditions; see the module."""

    direction: ClassVar[int] = -1

    def __init__(self, models: Models, *arguments: Any, **options: Any) -> None:
        super().__init__(models, *arguments, **options)
        self._pool, _ = models.teacher_samples(self.task.forgotten, self.settings.teacher_samples, self.at_once)

    def draw_images(self, batch: UpdateBatch) -> Tensor:
        return drawn_from(self._pool, self.task.forgotten, batch.c, self.random)

    def targets(self, batch: ReplayBatch, x_0: Tensor) -> Tensor:  # noqa: ARG002
        return batch.image
