"""Score models from and to diffusers folders."""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from diffusers import ModelMixin

from sfd_sweep.models.families.base import INDEX, SCHEDULER, VAE
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.score_model import ScoreModel
from sfd_sweep.models.weights import WEIGHTS


def load_score_model(
    folder: ModelFolder, device: torch.device | str = "cpu", *, prompts: Sequence[str] = ()
) -> ScoreModel:
    """Load the network of a folder in float32, with its schedule, conditions and decoder.

    Args:
        folder: of a model.
        device: where the network will be.
        prompts: the conditions by index; ignored if the model's conditions are classes.

    Raises:
        UserError: weights are missing or broken, or do not fit their configuration; a prompt is too long; or a library
            is not installed.
    """
    _ = folder.parameter_counts  # a broken file is refused in one line
    family = folder.family
    network = family.load_network(folder)
    decoder = family.load_decoder(folder, device)
    scheduler = folder.process.load_scheduler(folder.scheduler)
    return ScoreModel(network, scheduler, family.load_conditioning(folder, prompts, device), decoder).to(device)


def save_score_model(
    model: ScoreModel,
    target: Path,
    *,
    index: Mapping[str, Any] | None = None,
    extra_files: Mapping[str, Path] = MappingProxyType({}),
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a diffusers folder with all components; it appears whole, or not at all.

    Args:
        model: what is saved.
        target: the folder to create; an existing one is replaced.
        index: further entries of `model_index.json`; None: those of a teacher of the model's family.
        extra_files: files to put beside `model_index.json`, by their name there.
        dtype: precision of the weights on disk.
    """
    networks = {model.family.component: model.network}
    if model.decoder is not None:
        networks[VAE] = model.decoder.vae
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        folder = Path(scratch) / target.name
        for component, network in networks.items():
            _save(network, folder / component, dtype)
        model.scheduler.save_pretrained(folder / SCHEDULER)
        for name, path in extra_files.items():
            shutil.copyfile(path, folder / name)
        content = {
            **(model.family.teacher_index if index is None else index),
            **{component: ["diffusers", type(network).__name__] for component, network in networks.items()},
            SCHEDULER: ["diffusers", type(model.scheduler).__name__],
            **model.conditioning.save(folder, dtype),
        }
        (folder / INDEX).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        if target.exists():
            target.replace(Path(scratch) / "replaced")  # a folder cannot be renamed onto one with files in it
        folder.replace(target)


def _save(network: ModelMixin, folder: Path, dtype: torch.dtype) -> None:
    network = copy.deepcopy(network)
    torch.nn.Module.to(network, dtype)  # diffusers' own `to` warns of every cast
    network.register_to_config(_name_or_path="")  # the path that it was loaded from stays private
    network.save_pretrained(folder, safe_serialization=True)
    (folder / WEIGHTS).chmod(0o644)  # safetensors writes for the owner alone
