"""Selective Amnesia, SA.

L = λ_f·E‖G_θ(z, c_f) - x‖² + λ_r·E‖G_θ(z, c_r) - G*(z, c_r)‖² + λ·Σ_i F_i·(θ_i - θ*_i)², x ~ U[-1, 1] in every pixel:
the generator learns noise in place of what is forgotten, replays what is retained (the paper's γ is λ_r), and changes
those weights least on which its images depend most (elastic weight consolidation).

F is the Fisher information of the model p(x|z, c) = N(x; G*(z, c), 1), over all conditions:
F_i = E_{z,c} E_{n~N(0,1)} (∂/∂θ_i Σ_pixels n·G_θ(z, c))², since ∇log p = n·∂G/∂θ for x = G* + n. As the n of different
samples are independent, the squared gradient of a sum over samples estimates the sum of their squared gradients, so
that one pass serves all conditions.

Heng & Soh, "Selective Amnesia: A Continual Learning Approach to Forgetting in Deep Generative Models" (NeurIPS 2023);
Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks" (PNAS 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sfd_sweep.method.batch import UpdateBatch
from sfd_sweep.method.generator import OneStepGenerator
from sfd_sweep.method.rivals.replay import Models, ReplayBatch, ReplayTrainer
from sfd_sweep.models.numerics import random_stream


class SelectiveAmnesia(ReplayTrainer):
    """Leads to uniform noise, and holds important weights; see the module."""

    def __init__(self, models: Models, *arguments: Any, **options: Any) -> None:
        super().__init__(models, *arguments, **options)
        parameters, count = self._theta.parameters, self.settings.fisher_samples
        conditions = sorted({*self.task.retained, *self.task.forgotten})
        of_fisher = f"{sorted(parameters)} {conditions} {count} {self.at_once}"
        fisher = models.prepared(
            f"Fisher information {self.generator.content_hash()} {of_fisher}",
            lambda: fisher_information(self.generator, parameters, conditions, count, self.at_once),
        )
        self._fisher = [fisher[name] for name in parameters]
        self._start = [parameter.detach().clone() for parameter in parameters.values()]

    def draw_images(self, batch: UpdateBatch) -> Tensor:
        return 2 * torch.rand(batch.z.shape, generator=self.random, device=self.random.device) - 1

    def targets(self, batch: ReplayBatch, x_0: Tensor) -> Tensor:  # noqa: ARG002
        return batch.image

    def change_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        for parameter, fisher, start in zip(parameters, self._fisher, self._start, strict=True):
            pull = 2 * self.settings.fisher_weight * fisher * (parameter.detach() - start)
            parameter.grad = pull if parameter.grad is None else parameter.grad.add_(pull)

    def penalty(self) -> Tensor | None:
        parameters = self._theta.parameters.values()
        terms = zip(parameters, self._fisher, self._start, strict=True)
        parts = [(fisher * (parameter.detach() - start).square()).sum() for parameter, fisher, start in terms]
        return self.settings.fisher_weight * torch.stack(parts).sum()


def fisher_information(
    generator: OneStepGenerator,
    parameters: dict[str, nn.Parameter],
    conditions: Sequence[int],
    count: int,
    at_once: int,
) -> dict[str, Tensor]:
    """Return the diagonal of the Fisher information of a generator, by the name of the parameter; see the module.

    Args:
        generator: has gradients of the parameters.
        parameters: by name.
        conditions: to average over.
        count: samples of each condition.
        at_once: samples in one pass, on which the random draws depend.
    """
    model, weights = generator.model, list(parameters.values())
    random = random_stream(0, "Fisher information", model.device)
    total = [torch.zeros_like(weight) for weight in weights]
    for _ in range(count):
        for c in torch.tensor(conditions, device=model.device).split(at_once):
            z, n = (torch.randn(len(c), *model.sample_shape, generator=random, device=model.device) for _ in range(2))
            gradients = torch.autograd.grad((n * generator(z, c)).sum(), weights, allow_unused=True)
            for sum_of_squares, gradient in zip(total, gradients, strict=True):
                if gradient is not None:
                    sum_of_squares.add_(gradient.square())
    samples = count * len(conditions)
    return {name: sum_of_squares / samples for name, sum_of_squares in zip(parameters, total, strict=True)}
