"""What is trained of a network: all of its weights, or low-rank adapters on frozen weights (LoRA)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from sfd_sweep.errors import UserError
from sfd_sweep.models.families.base import ATTENTION_LAYERS
from sfd_sweep.models.score_model import ScoreModel


@dataclass(frozen=True)
class TrainableModel:
    """A score model and which of its weights are trained.

    Attributes:
        model: as it computes, adapters included.
        base: the plain model whose frozen weights it shares; None if all weights are trained.
    """

    model: ScoreModel
    base: ScoreModel | None = None

    @classmethod
    def of(cls, start: ScoreModel, lora_rank: int) -> TrainableModel:
        """Return a trainable model that computes what `start` does.

        Args:
            start: copied if all weights are trained; otherwise its weights are shared and frozen.
            lora_rank: of the adapters; 0 trains all weights. The adapters' first factors are drawn from the global
                random numbers; the second are zeros.

        Raises:
            UserError: peft is not installed, or the network has no layer for an adapter.
        """
        if lora_rank == 0:
            return cls(start.copy())
        start.requires_grad_(False)
        return cls(_adapted(start, lora_rank), start)

    @cached_property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The trained parameters, by their name in the model."""
        frozen = _by_identity(self.base)
        return {name: each for name, each in self.model.named_parameters() if id(each) not in frozen}

    def requires_grad_(self, wanted: bool) -> None:
        """Set whether trained parameters get gradients; frozen ones never do."""
        for parameter in self.parameters.values():
            parameter.requires_grad_(wanted)

    def copy(self) -> TrainableModel:
        """Return a copy with trained parameters of its own, and the same frozen ones."""
        return TrainableModel(_sharing(self.model, self.base), self.base)

    @torch.no_grad()
    def approach(self, other: TrainableModel, share: float) -> None:
        """Move trained parameters by a share of the way to another's."""
        torch._foreach_lerp_(list(self.parameters.values()), list(other.parameters.values()), share)

    def state(self) -> dict[str, Tensor]:
        """Return the trained parameters by name; no copies."""
        return {name: parameter.detach() for name, parameter in self.parameters.items()}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the state of an equal model.

        Raises:
            KeyError: it is incomplete.
            RuntimeError: it is of another network.
        """
        missing, unknown = self.model.load_state_dict(dict(tensors), strict=False)
        if lost := self.parameters.keys() & set(missing):
            raise KeyError(min(lost))
        if unknown:
            raise RuntimeError(f"{unknown[0]} is of another network")

    def plain(self) -> ScoreModel:
        """Return the model without adapters: itself, or a copy of the base with each W replaced by W + B·A."""
        return self.model if self.base is None else _merged(self.model, self.base)


def _adapted(base: ScoreModel, rank: int) -> ScoreModel:
    """Return a model on the base's own weights with adapters: W·x + B·(A·x), A of `rank` rows, and B = 0.

    Modules are not shared: with several adapters on one module, activation checkpointing would recompute with the one
    that is active during the backward pass.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UserError(
            f"lora_rank {rank} needs peft, which is not installed: pip install 'sfd-sweep[lora]'"
        ) from error
    model = _sharing(base, base)
    layers = adapted_layers(model.network)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=layers), model.network)
    return model.eval()


def adapted_layers(network: nn.Module) -> list[str]:
    """Return the names of the layers that get adapters: the projections of attention (Hu et al., 2021).

    In a network without attention, these are all convolutions and linear layers.

    Raises:
        UserError: it has none of these.
    """
    names = [name for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    if not names:
        raise UserError(
            f"lora_rank: a {type(network).__name__} has no layer that could be adapted; set lora_rank 0, to train all "
            "weights"
        )
    return [name for name in names if name.endswith(ATTENTION_LAYERS)] or names


@torch.no_grad()
def _merged(model: ScoreModel, base: ScoreModel) -> ScoreModel:
    from peft.tuners.lora import LoraLayer

    merged = base.copy()
    for name, layer in model.named_modules():
        if isinstance(layer, LoraLayer):
            (adapter,) = layer.active_adapters
            merged.get_parameter(f"{name}.weight").add_(layer.get_delta_weight(adapter))
    return merged


def _sharing(model: ScoreModel, base: ScoreModel | None) -> ScoreModel:
    """Return a copy that shares the base's parameters."""
    return copy.deepcopy(model, _by_identity(base))


def _by_identity(base: ScoreModel | None) -> dict[int, object]:
    return {} if base is None else {id(parameter): parameter for parameter in base.parameters()}
