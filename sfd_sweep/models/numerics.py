"""Arithmetic and random numbers of training. Weights, gradients, moments and averages are float32 in any precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

import torch


class Precision(StrEnum):
    """Arithmetic of a network: exact float32, a GPU's TensorFloat-32, or 16 bits by autocast."""

    FLOAT32 = "float32"
    TF32 = "tf32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


_SHORT = {Precision.BFLOAT16: torch.bfloat16, Precision.FLOAT16: torch.float16}


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Run a network's forward in 16 bits if that is the precision; casts of weights are not kept between calls."""
    dtype = _SHORT.get(Precision(precision))
    return torch.autocast(device.type, dtype or torch.bfloat16, dtype is not None, cache_enabled=False)


@contextmanager
def float32_products(*, in_tf32: bool) -> Iterator[None]:
    """Compute float32 matrix products and convolutions in TensorFloat-32, or exactly.

    Torch's default mixes both: exact matrix products, convolutions in TensorFloat-32. The switches are the whole
    process's, and have no effect on a CPU.
    """
    switches = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]  # made on import
    before = [switch.fp32_precision for switch in switches]
    try:
        for switch in switches:
            switch.fp32_precision = "tf32" if in_tf32 else "ieee"
        yield
    finally:
        for switch, precision in zip(switches, before, strict=True):
            switch.fp32_precision = precision


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global random numbers for the block, and restore them afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
