"""How exactly a GPU multiplies float32 numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


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
