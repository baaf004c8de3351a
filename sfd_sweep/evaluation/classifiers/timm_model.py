"""Image classifiers in the format of timm."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from sfd_sweep.errors import UserError
from sfd_sweep.evaluation.classifiers.pretrained import Pretrained

if TYPE_CHECKING:
    from types import ModuleType


def timm_parts(folder: Path) -> Pretrained:
    """The classifier of a folder.

    Raises:
        UserError: timm is not installed, or the folder holds no whole classifier that it knows, or names no classes.
    """
    timm = _timm(str(folder))
    try:
        network = timm.create_model(f"local-dir:{folder}", pretrained=True)
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{folder} holds no classifier that timm can load: {reason}") from error
    config = timm.data.resolve_model_data_config(network)
    return Pretrained(
        network=network,
        prepare=_Preparation(timm, config),
        recipe={"architecture": network.pretrained_cfg["architecture"], "data": config},
        class_names=_class_names(timm, network, folder),
        channels=config["input_size"][0],
    )


def timm_repository(name: str) -> str:
    """The hub id of a classifier that timm has weights for.

    Raises:
        UserError: timm is not installed, or has no such classifier.
    """
    timm = _timm(f"timm:{name}")
    known = timm.list_models(pretrained=True)  # ARCHITECTURE.TAG
    if name in known or name in {tagged.partition(".")[0] for tagged in known}:
        repository = timm.get_pretrained_cfg(name).hf_hub_id
        if repository:
            return str(repository)
    nearest = get_close_matches(name, known, n=1, cutoff=0)[0]
    raise UserError(f"timm has no weights of a classifier {name!r} on the hub; did you mean timm:{nearest}?")


def _timm(source: str) -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise UserError(
            f"{source} is a classifier of timm, which is not installed: pip install 'sfd-sweep[timm]'"
        ) from error
    module: ModuleType = timm
    return module


class _Preparation:
    """Resizing and cropping as timm evaluates the network, and its normalising."""

    def __init__(self, timm: ModuleType, config: dict[str, Any]) -> None:
        self._resize = timm.data.create_transform(**config, normalize=False)
        self._mean, self._std = (torch.tensor(config[name]).view(1, -1, 1, 1) for name in ("mean", "std"))

    def __call__(self, images: Tensor) -> Tensor:
        resized: Tensor = self._resize(images) / 255
        return (resized - self._mean.to(resized)) / self._std.to(resized)


def _class_names(timm: ModuleType, network: Any, folder: Path) -> tuple[str, ...]:
    names = network.pretrained_cfg.get("label_names")
    if names:
        return tuple(map(str, names))
    subset = timm.data.infer_imagenet_subset(network)
    if subset is None:
        raise UserError(f"{folder}/config.json names no classes; give it label_names, one for each class")
    return tuple(timm.data.ImageNetInfo(subset).label_descriptions())
