"""Data-parallel workers as training sees them: sums over all of them, and work for the first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sfd_sweep.errors import TrialFailed

Result = TypeVar("Result")


def rank_and_size() -> tuple[int, int]:
    """Return this worker's rank and the number of workers; (0, 1) outside a process group."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def sum_over_workers(value: Tensor) -> Tensor:
    """Return the sum of every worker's `value`."""
    if rank_and_size()[1] > 1:
        value = value.clone()
        dist.all_reduce(value)
    return value


def sum_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace every gradient with its sum over the workers, in one message; a missing one counts as zeros."""
    if rank_and_size()[1] == 1:
        return
    gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in parameters]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    totals = flat.split([gradient.numel() for gradient in gradients])
    for parameter, gradient, total in zip(parameters, gradients, totals, strict=True):
        parameter.grad = total.view_as(gradient)


def on_first_worker(work: Callable[[], Result]) -> Result:
    """Do work on the first worker while the others wait, and return its result on all of them.

    Raises:
        TrialFailed: on every worker, if it is raised on the first.
    """
    rank, size = rank_and_size()
    outcome: list[Any] = [None, None]  # a result and a failure
    if rank == 0:
        try:
            outcome[0] = work()
        except TrialFailed as error:
            outcome[1] = error
    if size > 1:
        dist.broadcast_object_list(outcome)
    result, failure = outcome
    if failure is not None:
        raise failure
    return cast("Result", result)
