"""Training state as tensors by name: prefixes of names, moments of optimizers, and files of both."""

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
    """Return the tensors with the prefix and a dot before each name."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names have the prefix, without it: the inverse of `named`."""
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def moments_of(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimizer's moments as `index.moment`, by the order of the parameters."""
    tensors: dict[str, Tensor] = {}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= named(str(index), moments)
    return tensors


def load_moments(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore `moments_of`; learning rates and other options stay as they are."""
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
    with folder.written_at(name) as path, _disk_errors():
        save_file(tensors, path)


def read_state(folder: Folder, name: str) -> dict[str, Tensor]:
    """Map the tensors of a file of a folder onto the CPU; they are read as they are used.

    Raises:
        FileNotFoundError: there is no such file.
        SafetensorError: it is broken.
    """
    with folder.read_at(name) as path:
        return load_file(path)


@contextmanager
def _disk_errors() -> Iterator[None]:
    """Raise OSError for a SafetensorError whose message has the number of one."""
    try:
        yield
    except SafetensorError as error:
        number = re.search(r"(?:os error|code:) (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
