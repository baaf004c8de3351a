"""Checkpoints as research code saves them: one file of torch, and the networks in it. Imports no torch.

The code bases of DDIM, Selective Amnesia, SalUn and SFD save lists whose meaning depends on their entries:

- `[model, optimizer, step, average]`, with the epoch before the step in the oldest, of one multi-step network;
- `[fake score, optimizer, generator, optimizer, step, average of the generator]` after distillation; all but the
  generator and its average may be None.

The average is left out where none was kept. A single state dict is read too, and a dict of state dicts named `teacher`,
`generator`, `fake_score`, `model` or `state_dict`, and `ema`.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfd_sweep.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

State = Mapping[str, "Tensor"]

PERSISTENCE, SEARCHED = b"torch_utils.persistence", 2**16
WRAPPER = "module."  # before every name, where a data-parallel wrapper was saved with the network in it


class Network(StrEnum):
    """Role of a network in a checkpoint."""

    TEACHER = "teacher"
    GENERATOR = "generator"
    FAKE_SCORE = "fake-score"


class Weights(StrEnum):
    """Weights of a network: their moving average, or those that the optimizer left."""

    EMA = "ema"
    RAW = "raw"


@dataclass(frozen=True, kw_only=True)
class NetworkWeights:
    """The weights of one network.

    Attributes:
        origin: the checkpoint, for messages.
        network: its role.
        weights: which of its weights.
        tensors: by the names of the research code.
    """

    origin: Path
    network: Network
    weights: Weights
    tensors: State


@dataclass(frozen=True)
class ResearchCheckpoint:
    """The networks in a checkpoint. A network without a role is there in every one."""

    path: Path
    states: Mapping[tuple[Network, Weights], State]

    @classmethod
    def read(cls, path: Path) -> ResearchCheckpoint:
        """Read a file of torch; code in it is never run.

        Raises:
            UserError: there is no such file, it is broken, holds more than data, or holds no network.
        """
        states = dict(_states(_load(path)))
        if not states:
            raise UserError(
                f"{path} holds no network where one is looked for; save a state dict, a dict with one as "
                '"model" or "ema", or a list [model, optimizer, step, ema]'
            )
        return cls(path, states)

    def choose(self, network: Network | None = None, weights: Weights | None = None) -> NetworkWeights:
        """Return the weights of one network.

        Args:
            network: its role; None: the first of teacher, generator and fake score that the checkpoint holds.
            weights: which of its weights; None: the average if the checkpoint holds it.

        Raises:
            UserError: the checkpoint does not hold them.
        """
        for (role, kind), state in self.states.items():
            if network in (None, role) and weights in (None, kind):
                wrapped = all(name.startswith(WRAPPER) for name in state)
                tensors = {name.removeprefix(WRAPPER) if wrapped else name: tensor for name, tensor in state.items()}
                return NetworkWeights(origin=self.path, network=role, weights=kind, tensors=tensors)
        wanted = " ".join(filter(None, (network, weights)))
        raise UserError(f"{self.path} holds no {wanted}; it holds {', '.join(map(' '.join, self.states))}")


def _load(path: Path) -> Any:
    import torch

    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}; give a file that torch.save has written")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other formats, which are refused below
            # Mapped, since most of a file are the states of optimizers, which are not read.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # a broken file raises errors of many types
        if _is_persistent(path):
            raise UserError(
                f"{path} is a pickle of networks with their code, as EDM, SiD and SiD-LSG write them; no code is run, "
                "and this layout is not read: the one that is read is ddpm, of Selective Amnesia, SalUn and SFD"
            ) from error
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        if code:
            raise UserError(
                f"{path} holds a Python object ({code[1]}), which may run code, so it is not read; "
                "save the tensors alone again where you trust it"
            ) from error
        raise UserError(f"{path} is no whole checkpoint of torch; fetch or save it again") from error


def _is_persistent(path: Path) -> bool:
    """Return whether a file is a pickle whose first objects are of `torch_utils.persistence` (Karras et al.)."""
    with path.open("rb") as file:
        start = file.read(SEARCHED)
    return start.startswith(pickle.PROTO) and PERSISTENCE in start


def _states(content: Any) -> Iterator[tuple[tuple[Network, Weights], State]]:
    named = {name: state for name, state in _named(content).items() if _is_state(state)}
    names = {network: network.replace("-", "_") for network in Network}
    anonymous = named.keys().isdisjoint(names.values())
    if anonymous:
        names = dict.fromkeys(Network, "model" if "model" in named else "state_dict")
    averaged = "generator" if "generator" in named else "teacher"
    for network, name in names.items():
        if "ema" in named and (anonymous or name == averaged):
            yield (network, Weights.EMA), named["ema"]
        if name in named:
            yield (network, Weights.RAW), named[name]


def _named(content: Any) -> Mapping[str, Any]:
    match content:
        case [fake_score, _, generator, *_, last] if _is_state(generator):
            return {"fake_score": fake_score, "generator": generator, "ema": last}
        case [model, *_, last]:
            return {"teacher": model, "ema": last}
        case [model]:
            return {"teacher": model}
        case dict():
            return {"model": content} if _is_state(content) else content
    return {}


def _is_state(content: Any) -> bool:
    from torch import Tensor

    if not isinstance(content, dict) or not content:
        return False
    return all(isinstance(name, str) and isinstance(entry, Tensor) for name, entry in content.items())
