"""Arithmetic and random numbers of training. Weights, gradients, moments and averages are float32 in any precision."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_SHORT = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Run a network's forward in 16 bits if that is the precision; casts of weights are not kept between calls.

    Args:
        precision: one of `Resources.precision`.
        device: of the network.
    """
    dtype = _SHORT.get(precision)
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


def named_seed(seed: int, name: str) -> int:
    """Return the seed of a stream of random numbers of its own, by the name of what draws from it.

    Parts that are given equal seeds, such as training and evaluation, thus never draw equal numbers.
    """
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:7])


def random_stream(seed: int, name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return the stream of random numbers that has this name (see `named_seed`)."""
    return torch.Generator(device).manual_seed(named_seed(seed, name))


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global random numbers for the block, and restore them afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
