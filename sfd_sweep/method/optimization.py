"""Optimizer steps on the weighted losses of one network: micro-batches, workers, non-finite samples, float16."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from sfd_sweep.config import Resources, Settings
from sfd_sweep.errors import TrialFailed
from sfd_sweep.method.batch import UpdateBatch
from sfd_sweep.method.trainable_model import TrainableModel
from sfd_sweep.models.data_parallel import rank_and_size, sum_gradients, sum_over_workers
from sfd_sweep.models.numerics import autocast
from sfd_sweep.models.training_state import below, load_moments, moments_of, named

Batch = TypeVar("Batch", bound=UpdateBatch)
LossFunction = Callable[[Batch], Tensor]
"""Returns one loss for each sample, (n,)."""


GradientRule = Callable[[Sequence[nn.Parameter]], None]
"""Changes gradients in place, after they are summed over the batch and before they are clipped."""


LEAST_LOSS_SCALE = 2.0**-16


class NetworkOptimizer:
    """Adam on the weighted losses of one network.

    The result does not depend on the number of workers (beyond the order of summation) or the size of micro-batches.
    In float16, an update whose gradients overflow is computed again with a smaller loss scale (Micikevicius et al.,
    2018), where torch's scaler alone would skip it. Gradients are summed over workers, so all find the same scale.
    """

    def __init__(self, name: str, trained: TrainableModel, lr: float, settings: Settings, resources: Resources) -> None:
        self._name = name
        self._parameters = list(trained.parameters.values())
        self._settings = settings
        self._resources = resources
        device = self._parameters[0].device
        betas, epsilon = (settings.beta1, settings.beta2), settings.adam_epsilon
        self.adam = torch.optim.Adam(self._parameters, lr=lr, betas=betas, eps=epsilon, fused=True)
        self.scaler = torch.amp.GradScaler(device.type, enabled=resources.precision == "float16")
        self.scaler.scale(torch.ones((), device=device))  # initializes it on workers whose share is empty, too

    def step(
        self,
        losses_of: LossFunction[Batch],
        batch: Batch,
        forget_weight: float,
        change_gradients: GradientRule = lambda _parameters: None,
    ) -> tuple[Tensor, int]:
        """Minimize λ_r·mean(retained losses) + forget_weight·mean(forgotten losses) by one step.

        Args:
            losses_of: the losses of a part of the batch.
            batch: the whole batch, equal on all workers.
            forget_weight: λ_f or μ_f.
            change_gradients: what the method does to the gradients; they are equal on all workers.

        Returns:
            The weighted loss, and the number of samples that were dropped because their loss is not finite.

        Raises:
            TrialFailed: no sample has a finite loss, or gradients overflow at any loss scale.
        """
        while True:
            loss, dropped = self._backward(losses_of, batch, forget_weight)
            self.scaler.unscale_(self.adam)
            change_gradients(self._parameters)
            nn.utils.clip_grad_value_(self._parameters, self._settings.gradient_clip)
            self.scaler.step(self.adam)  # does nothing after an overflow
            scale = self.scaler.get_scale()
            self.scaler.update()
            if self.scaler.get_scale() >= scale:
                return loss, dropped
            if self.scaler.get_scale() < LEAST_LOSS_SCALE:
                raise TrialFailed("gradients overflow, however the loss is scaled")

    def state(self) -> dict[str, Tensor]:
        """Return what the next step depends on, by name; no copies."""
        tensors = named(f"{self._name}_optimizer", moments_of(self.adam))
        if self.scaler.is_enabled():
            scale = self.scaler.state_dict()
            tensors[f"{self._name}_loss_scale.value"] = torch.tensor(scale["scale"], dtype=torch.float64)
            tensors[f"{self._name}_loss_scale.updates"] = torch.tensor(scale["_growth_tracker"])
        return tensors

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore `state` from a mapping that includes it; raises KeyError if it is incomplete."""
        load_moments(self.adam, below(f"{self._name}_optimizer", tensors))
        if self.scaler.is_enabled():
            value = float(tensors[f"{self._name}_loss_scale.value"])
            updates = int(tensors[f"{self._name}_loss_scale.updates"])
            self.scaler.load_state_dict({**self.scaler.state_dict(), "scale": value, "_growth_tracker": updates})

    def _backward(self, losses_of: LossFunction[Batch], batch: Batch, forget_weight: float) -> tuple[Tensor, int]:
        """Set the gradients of the batch's scaled loss, summed over workers."""
        rank, size = rank_and_size()
        share, counts, left = batch[rank::size], _counts(batch), len(batch)
        while True:
            self.adam.zero_grad()
            loss, finite = self._accumulate(losses_of, share, counts, forget_weight)
            loss, broken = sum_over_workers(torch.stack([loss, (~finite).sum()]))
            if not broken:
                break
            # Masking a loss that is not finite is not enough, since its gradient is not finite either: what has been
            # accumulated is worthless, on every worker. Samples do not influence one another, so others stay finite.
            left -= int(broken)
            if left == 0:
                raise TrialFailed("no sample has a finite loss")
            share = share[finite]
            counts = sum_over_workers(_counts(share))
        sum_gradients(self._parameters)
        return loss, len(batch) - left

    def _accumulate(
        self, losses_of: LossFunction[Batch], share: Batch, counts: Tensor, forget_weight: float
    ) -> tuple[Tensor, Tensor]:
        """Accumulate the scaled loss's gradients over this worker's micro-batches.

        Args:
            losses_of: the losses of a micro-batch.
            share: the worker's share of the batch; may be empty.
            counts: numbers of retained and forgotten samples over all workers, (2,).
            forget_weight: λ_f or μ_f.

        Returns:
            The share's part of the unscaled loss, and which samples' losses are finite, (n,).
        """
        retained, forgotten = counts.clamp_min(1)
        weights = torch.where(share.forgotten, forget_weight / forgotten, self._settings.retain_weight / retained)
        loss, finite = weights.new_zeros(()), torch.ones_like(share.forgotten)
        size = self._resources.micro_batch_size or max(1, len(share))
        for rows in (slice(start, start + size) for start in range(0, len(share), size)):
            with autocast(self._resources.precision, share.z.device):
                losses = losses_of(share[rows])
            part = (weights[rows] * losses).sum()
            self.scaler.scale(part).backward()
            loss += part.detach()
            finite[rows] = losses.detach().isfinite()
        return loss, finite


def _counts(batch: UpdateBatch) -> Tensor:
    """Return the numbers of retained and of forgotten samples, int64 of shape (2,)."""
    return torch.stack([(~batch.forgotten).sum(), batch.forgotten.sum()])
