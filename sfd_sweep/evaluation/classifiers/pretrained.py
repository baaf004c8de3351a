"""Classifiers of transformers, timm and torchvision, each with its library's weights and preparation of images.

Loading raises UserError if the library is not installed, or a classifier is missing, broken or of another kind.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from pickle import UnpicklingError
from types import ModuleType
from typing import Any
from urllib.parse import urlparse

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torchvision import models
from torchvision.models import WeightsEnum
from torchvision.transforms import v2 as transforms

from sfd_sweep.errors import UserError, first_line
from sfd_sweep.evaluation.classifiers.base import Classifier
from sfd_sweep.hub import answers
from sfd_sweep.optional_transformers import from_transformers, model_from_transformers

PROBES, PROBE_SIZE = 2, 48
PASSING = ("_name_or_path", "transformers_version", "dtype")
"""Entries of a config that do not change the outputs."""


class PretrainedClassifier(Classifier):
    """A network whose last linear layer is taken off: its inputs are the features.

    Args:
        network: from what `prepare` returns to logits of shape (n, classes).
        prepare: the library's own resizing and normalizing of uint8 images (n, C, H, W).
        recipe: in JSON's types, what `prepare` and the network's architecture depend on.
        class_names: by index.
        channels: of the images.
        name: for messages.

    Raises:
        UserError: the logits are not a linear layer of the features, or weights are not finite.
    """

    def __init__(
        self,
        network: nn.Module,
        prepare: Callable[[Tensor], Tensor],
        recipe: dict[str, Any],
        class_names: Sequence[str],
        *,
        channels: int,
        name: str,
    ) -> None:
        super().__init__(class_names, channels=channels)
        self.name = name
        self._recipe = recipe
        self._prepare = prepare
        check_finite(network, name)
        self.network = network.float().eval()
        self.head = self._take_head(torch.linspace(-1, 1, PROBES * channels * PROBE_SIZE**2))
        self.requires_grad_(False)

    def features(self, images: Tensor) -> Tensor:
        """Return the inputs of the last linear layer."""
        features: Tensor = self.network(self._prepare(to_pixels(images)))
        return features

    def logits_from_features(self, features: Tensor) -> Tensor:
        """Return the outputs of the last linear layer."""
        logits: Tensor = self.head(features)
        return logits

    def description(self) -> str:
        """Return the recipe, and the classes."""
        return json.dumps([self._recipe, self.class_names], sort_keys=True)

    @torch.no_grad()
    def _take_head(self, probe: Tensor) -> nn.Linear:
        """Take the last linear layer with an output for each class off the network, if its outputs are the logits."""
        heads = [
            (name, module)
            for name, module in self.network.named_modules()
            if isinstance(module, nn.Linear) and module.out_features == len(self.class_names)
        ][-1:]
        entering: list[Tensor] = []
        hooks = [head.register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0])) for _, head in heads]
        logits = self.features(probe.view(PROBES, -1, PROBE_SIZE, PROBE_SIZE))
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
        self.network.set_submodule(name, nn.Identity())
        return head


def _is_output(head: nn.Linear, features: Tensor, logits: Tensor) -> bool:
    """Return whether logits, but for rounding, are a layer's outputs for features of shape (n, d)."""
    return features.ndim == 2 and torch.allclose(
        head(features), logits, rtol=1e-4, atol=1e-4 * float(logits.abs().max())
    )


def to_pixels(images: Tensor) -> Tensor:
    """Return images in [-1, 1] as uint8, for what prepares images of 8 bits."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def check_finite(network: nn.Module, name: str) -> None:
    """Raise a UserError if a weight is not finite."""
    for parameter, weight in network.state_dict().items():
        if not weight.isfinite().all():
            raise UserError(f"{name}: {parameter} holds values that are not finite; replace the file")


# --- transformers ---


def load_transformers(folder: Path) -> PretrainedClassifier:
    """Return the classifier of a folder of transformers; no code from it is run."""
    what = "image classifier"
    model = model_from_transformers(folder, "AutoModelForImageClassification", what=what, use_safetensors=True)
    processor = from_transformers(folder, "AutoImageProcessor", what=what)
    config = model.config
    return PretrainedClassifier(
        _Logits(model),
        Preparation(processor),
        transformers_recipe(config, processor),
        tuple(str(config.id2label[index]) for index in range(config.num_labels)),
        channels=int(getattr(config, "num_channels", 3)),
        name=str(folder),
    )


def transformers_recipe(config: Any, processor: Any) -> dict[str, Any]:
    """Return what a model's outputs depend on beside its weights."""
    model = {name: value for name, value in config.to_dict().items() if name not in PASSING}
    return {"model": model, "processor": processor.to_dict()}


class _Logits(nn.Module):
    """A model of transformers that returns the logits alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        logits: Tensor = self.model(pixel_values=pixel_values).logits
        return logits


class Preparation:
    """An image processor for batches; on the CPU if it works with PIL."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor

    def __call__(self, images: Tensor) -> Tensor:
        given = images if self._processor.backend == "torchvision" else images.cpu()
        prepared = self._processor(images=given, return_tensors="pt", input_data_format="channels_first")
        pixel_values: Tensor = prepared["pixel_values"]
        return pixel_values.to(images.device)


# --- timm ---


def load_timm(folder: Path) -> PretrainedClassifier:
    """Return the classifier of a folder of timm."""
    timm = _timm(str(folder))
    try:
        network = timm.create_model(f"local-dir:{folder}", pretrained=True)
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder} holds no classifier that timm can load: {_one_line(error)}") from error
    config = timm.data.resolve_model_data_config(network)
    resize = timm.data.create_transform(**config, normalize=False)
    normalize = transforms.Normalize(config["mean"], config["std"])
    return PretrainedClassifier(
        network,
        transforms.Compose([resize, transforms.ToDtype(torch.float32, scale=True), normalize]),
        {"architecture": network.pretrained_cfg["architecture"], "data": config},
        _timm_class_names(timm, network, folder),
        channels=config["input_size"][0],
        name=str(folder),
    )


def timm_repository(name: str) -> str:
    """Return the hub id of a classifier that timm has weights for."""
    timm = _timm(f"timm:{name}")
    known = timm.list_models(pretrained=True)  # ARCHITECTURE.TAG
    if name in known or name in {tagged.partition(".")[0] for tagged in known}:
        repository = timm.get_pretrained_cfg(name).hf_hub_id
        if repository:
            return str(repository)
    raise UserError(f"timm has no weights of a classifier {name!r} on the hub; {_did_you_mean('timm', name, known)}")


def _timm(source: str) -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise UserError(
            f"{source} is a classifier of timm, which is not installed: pip install 'sfd-sweep[timm]'"
        ) from error
    module: ModuleType = timm
    return module


def _timm_class_names(timm: ModuleType, network: Any, folder: Path) -> tuple[str, ...]:
    names = network.pretrained_cfg.get("label_names")
    if names:
        return tuple(map(str, names))
    subset = timm.data.infer_imagenet_subset(network)
    if subset is None:
        raise UserError(f"{folder}/config.json names no classes; give it label_names, one for each class")
    return tuple(timm.data.ImageNetInfo(subset).label_descriptions())


# --- torchvision ---


def load_torchvision(name: str) -> PretrainedClassifier:
    """Return a classifier of torchvision with its best ImageNet weights."""
    known = models.list_models(module=models)
    if name not in known:
        raise UserError(f"torchvision has no classifier {name!r}; {_did_you_mean('torchvision', name, known)}")
    weights = models.get_model_weights(name).DEFAULT
    network = models.get_model(name)
    network.load_state_dict(fetch_weights(weights))
    recipe = {"torchvision": str(weights), "transforms": repr(weights.transforms())}
    names = weights.meta["categories"]
    return PretrainedClassifier(network, weights.transforms(), recipe, names, channels=3, name=f"torchvision:{name}")


def fetch_weights(weights: WeightsEnum) -> Mapping[str, Tensor]:
    """Return the tensors of torchvision's weights: downloaded, or kept from an earlier download."""
    kept = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(weights.url).path).name
    try:
        if not kept.is_file() and not answers(weights.url):
            raise TimeoutError("the server does not answer")
        state: Mapping[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
        return state
    except (OSError, RuntimeError, UnpicklingError) as error:  # the last two: an incomplete file
        reason = first_line(error)
        raise UserError(
            f"{weights} could not be fetched from {weights.url} ({reason}); check the network, or put it at {kept}"
        ) from error


def _did_you_mean(library: str, name: str, known: Sequence[str]) -> str:
    return f"did you mean {library}:{get_close_matches(name, known, n=1, cutoff=0)[0]}?"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
