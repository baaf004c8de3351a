"""Classifiers of other libraries: their network and their preparation of images, split before the last linear layer."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.base import Classifier

PROBES, PROBE_SIZE = 2, 48


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """What a library gives.

    Attributes:
        network: from what `prepare` returns to logits of shape (n, classes).
        prepare: the library's own resizing and normalising of uint8 images (n, C, H, W) of 256 levels.
        recipe: says in JSON's types what `prepare` and the network's shape depend on.
        class_names: by index.
        channels: colours of the images.
    """

    network: nn.Module
    prepare: Callable[[Tensor], Tensor]
    recipe: dict[str, Any]
    class_names: Sequence[str]
    channels: int


class PretrainedClassifier(Classifier):
    """A network whose last linear layer is taken off: what goes into it are the features.

    Images are rounded to 256 levels, as the libraries prepare images of 8 bits.

    Args:
        parts: network and preparation.
        name: what messages call it.

    Raises:
        UserError: the logits are not a linear layer of the features, or weights are not finite.
    """

    def __init__(self, parts: Pretrained, name: str) -> None:
        super().__init__(parts.class_names, channels=parts.channels)
        self.name = name
        self._recipe = parts.recipe
        self._prepare = parts.prepare
        network = parts.network.float().eval()
        for parameter, weight in network.state_dict().items():
            if not weight.isfinite().all():
                raise UserError(f"{name}: {parameter} holds values that are not finite; fetch it again")
        self.head = self._take_head(network, parts.channels)
        self.network = network
        self.requires_grad_(False)

    def features(self, images: Tensor) -> Tensor:
        """What goes into the last linear layer, (n, d), for images of shape (n, C, H, W) in [-1, 1]."""
        features: Tensor = self.network(self._prepared(images))
        return features

    def logits_from_features(self, features: Tensor) -> Tensor:
        """Logits of shape (n, classes) from features of shape (n, d)."""
        logits: Tensor = self.head(features)
        return logits

    def description(self) -> str:
        """The recipe, and the classes."""
        return json.dumps([self._recipe, self.class_names], sort_keys=True)

    def _prepared(self, images: Tensor) -> Tensor:
        return self._prepare(((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8))

    @torch.no_grad()
    def _take_head(self, network: nn.Module, channels: int) -> nn.Linear:
        """Take the last linear layer with an output for each class off the network, if its output are the logits."""
        probe = torch.linspace(-1, 1, PROBES * channels * PROBE_SIZE**2)
        prepared = self._prepared(probe.view(PROBES, channels, PROBE_SIZE, PROBE_SIZE))
        heads = [
            (name, module)
            for name, module in network.named_modules()
            if isinstance(module, nn.Linear) and module.out_features == len(self.class_names)
        ][-1:]
        entering: list[Tensor] = []
        hooks = [head.register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0])) for _, head in heads]
        logits = network(prepared)
        for hook in hooks:
            hook.remove()
        if logits.shape != (PROBES, len(self.class_names)):
            raise UserError(
                f"{self.name} names {len(self.class_names)} classes, but its network tells {logits.shape[-1]} apart; "
                "correct its config.json"
            )
        if not (entering and _is_output(heads[0][1], entering[-1], logits)):
            raise UserError(
                f"{self.name}: its logits are not those of one linear layer over pooled features, on which distances "
                "are measured; choose another architecture"
            )
        [(name, head)] = heads
        network.set_submodule(name, nn.Identity())
        return head


def _is_output(head: nn.Linear, features: Tensor, logits: Tensor) -> bool:
    """Whether logits, but for rounding, are what a layer makes of features of shape (n, d)."""
    return features.ndim == 2 and torch.allclose(
        head(features), logits, rtol=1e-4, atol=1e-4 * float(logits.abs().max())
    )
