"""What training depends on, as tensors by name: prefixes of names, the moments of optimisers, and files of both."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sfd_sweep.storage.folder import Folder


def named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, with the prefix and a dot before each name."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `named`: the tensors whose names have the prefix, without it."""
    return {
        name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")
    }


def moments_of(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What an optimiser remembers of its parameters: `index.moment`, by the order of the parameters."""
    tensors: dict[str, Tensor] = {}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= named(str(index), moments)
    return tensors


def load_moments(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `moments_of`; rates and other options of the optimiser stay as they are."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, moment = name.partition(".")
        state.setdefault(int(index), {})[moment] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def write_state(folder: Folder, name: str, tensors: dict[str, Tensor]) -> None:
    """Write tensors into a file of a folder, whole or not at all, without a copy of the file in memory.

    Raises:
        OSError: there is no space for it.
    """
    with folder.written_at(name) as path, _refusals_of_the_disk():
        save_file(tensors, path)


def read_state(folder: Folder, name: str) -> dict[str, Tensor]:
    """The tensors in a file of a folder, on the CPU; they are mapped from it, and read as they are used.

    Raises:
        FileNotFoundError: there is no such file.
        SafetensorError: it is broken.
    """
    with folder.read_at(name) as path:
        return load_file(path)


@contextmanager
def _refusals_of_the_disk() -> Iterator[None]:
    """A block in which safetensors puts an error of the operating system into words; its number is in them."""
    try:
        yield
    except SafetensorError as error:
        number = re.search(r"(?:os error|code:) (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
