"""Weight files of models: found, counted and read. Imports torch only where it is needed."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from sfd_sweep.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class WeightFiles:
    """Names of a library's weight files: in safetensors, and pickled as before (DiT-XL-2-256 has nothing else)."""

    safe: str
    old: str


WEIGHTS, OLD_WEIGHTS = "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"
DIFFUSERS = WeightFiles(WEIGHTS, OLD_WEIGHTS)
TRANSFORMERS = WeightFiles("model.safetensors", "pytorch_model.bin")


def find_weights(component: Path, files: WeightFiles = DIFFUSERS) -> Path:
    """Return the weight file in a component's folder.

    Raises:
        UserError: there is none.
    """
    for name in (files.safe, files.old):
        if (component / name).is_file():
            return component / name
    raise UserError(f"{component / files.safe} is missing; save the network with safe_serialization=True")


def count_weights(path: Path) -> int:
    """Return how many numbers a weight file holds; raises as `weight_shapes`."""
    return sum(map(prod, weight_shapes(path).values()))


def weight_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a file's tensors by name, from its header.

    Raises:
        UserError: it is cut short, of another format, or holds more than tensors.
    """
    from safetensors import SafetensorError, safe_open

    if path.suffix == ".bin":
        return {name: tuple(tensor.shape) for name, tensor in _unpickle(path, "meta").items()}
    try:
        with safe_open(path, framework="numpy") as tensors:
            return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"{path} is no whole safetensors file ({error}); fetch or export it again") from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file, by name, onto the CPU; its header must have been read before."""
    from safetensors.torch import load_file

    return _unpickle(path, "cpu") if path.suffix == ".bin" else load_file(path)


def _unpickle(path: Path, device: str) -> dict[str, Tensor]:
    from pickle import UnpicklingError

    import torch

    try:
        tensors = torch.load(path, map_location=device, weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise UserError(
            f"{path} is no whole file of tensors, and no code in it is run; fetch it again, or save the network with "
            "safe_serialization=True"
        ) from error
    return dict(tensors)
