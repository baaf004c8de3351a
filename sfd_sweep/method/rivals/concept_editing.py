"""Unified Concept Editing, UCE.

Every projection W of a prompt's tokens to keys or values of cross-attention is replaced in closed form:
W = (λ·W₀ + λ_f·Σ W₀·c_o·c_fᵀ + λ_r·Σ W₀·c_r·c_rᵀ)·(λ·1 + λ_f·Σ c_f·c_fᵀ + λ_r·Σ c_r·c_rᵀ)⁻¹, which minimizes
λ·‖W - W₀‖² + λ_f·Σ‖W·c_f - W₀·c_o‖² + λ_r·Σ‖W·c_r - W₀·c_r‖². The sums run over prompts and tokens: a token of a
forgotten prompt gets the key and the value of the override's token at its place. A bias stays as it is.

Gandikota et al., "Unified Concept Editing in Diffusion Models" (WACV 2024).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sfd_sweep.config import Settings
from sfd_sweep.method.generator import OneStepGenerator

CROSS_ATTENTION = (".attn2.to_k", ".attn2.to_v")
"""Suffixes of the names of the projections of prompts in diffusers."""
PROMPTS_AT_ONCE = 256
"""Retained prompts whose tokens are in memory at a time."""


def edited(
    start: OneStepGenerator, overrides: Mapping[int, int], retained: Sequence[int], settings: Settings
) -> OneStepGenerator:
    """Return the start with edited projections of prompts; see the module.

    Args:
        start: stays as it is.
        overrides: index of the override by index of the forgotten prompt.
        retained: indices of the retained prompts.
        settings: λ_f, λ_r and λ.
    """
    model = start.model.copy()

    def tokens(prompts: Sequence[int]) -> Tensor:
        c = torch.tensor(prompts, device=model.device)
        return model.conditioning.arguments(c)["encoder_hidden_states"].flatten(0, 1).double()

    forgotten, replacing = tokens(list(overrides)), tokens(list(overrides.values()))
    parts = (tokens(retained[first : first + PROMPTS_AT_ONCE]) for first in range(0, len(retained), PROMPTS_AT_ONCE))
    kept = sum((part.T @ part for part in parts), forgotten.new_zeros(forgotten.shape[1], forgotten.shape[1]))
    for layer in projections(model.network):
        weight = edited_projection(layer.weight.detach().double(), forgotten, replacing, kept, settings)
        layer.weight.data.copy_(weight)
    return OneStepGenerator(model, start.t_init)


def projections(network: nn.Module) -> list[nn.Linear]:
    """Return the projections of prompts to keys and values of cross-attention."""
    layers = [layer for name, layer in network.named_modules() if name.endswith(CROSS_ATTENTION)]
    return [layer for layer in layers if isinstance(layer, nn.Linear)]


def edited_projection(
    weight: Tensor, forgotten: Tensor, replacing: Tensor, retained: Tensor, settings: Settings
) -> Tensor:
    """Return W, (outputs, width).

    Args:
        weight: W₀, of that shape.
        forgotten: tokens c_f, (n, width).
        replacing: tokens c_o, of that shape.
        retained: Σ c_r·c_rᵀ over all tokens of retained prompts, (width, width).
        settings: λ_f, λ_r and λ.
    """
    near, forget, retain = settings.edit_regularization, settings.forget_weight, settings.retain_weight
    held = near * torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)
    held = held + retain * retained
    wanted = weight @ (held + forget * replacing.T @ forgotten)
    solution: Tensor = torch.linalg.solve(held + forget * forgotten.T @ forgotten, wanted, left=False)
    return solution
