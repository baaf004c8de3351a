"""In which arithmetic networks are trained. Weights, gradients, optimisers and averages are float32 in all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

import torch


class Precision(StrEnum):
    """How a network multiplies: exactly in float32, on a GPU's TensorFloat-32 units, or in 16 bits by autocast."""

    FLOAT32 = "float32"
    TF32 = "tf32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


_SHORT = {Precision.BFLOAT16: torch.bfloat16, Precision.FLOAT16: torch.float16}


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Around a network's forward: in 16 bits if that is the precision. Casts of weights are not kept between calls."""
    dtype = _SHORT.get(Precision(precision))
    return torch.autocast(device.type, dtype or torch.bfloat16, dtype is not None, cache_enabled=False)


@contextmanager
def float32_products(*, in_tf32: bool) -> Iterator[None]:
    """Within the block, matrix products and convolutions of float32 are computed in TensorFloat-32, or are not.

    Torch's own default is neither the one nor the other: matrices exactly, convolutions in TensorFloat-32. The switches
    are the whole process's, and have no effect on a CPU.
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
