"""In which arithmetic networks are trained. Weights, gradients, optimisers and averages are float32 in all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

import torch


class Precision(StrEnum):
    """How a network multiplies: exactly in float32, on a GPU's TF32 units, or in bfloat16 by autocast."""

    FLOAT32 = "float32"
    TF32 = "tf32"
    BFLOAT16 = "bfloat16"


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Around a network's forward alone: losses and backwards follow from the types of what it puts out."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision is Precision.BFLOAT16)


@contextmanager
def float32_products(precision: Precision) -> Iterator[None]:
    """Around an update: whether GPUs may shorten float32 numbers to TF32 in products, which PyTorch keeps globally.

    By PyTorch's own default convolutions may and matrix products may not.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = precision is not Precision.FLOAT32
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
