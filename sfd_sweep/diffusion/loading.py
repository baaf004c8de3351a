"""Score models from and to diffusers folders."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DModel
from safetensors.torch import load_file

from sfd_sweep.diffusion.model_folder import WEIGHTS, ModelFolder
from sfd_sweep.diffusion.score_model import ScoreModel
from sfd_sweep.errors import UserError


def load_score_model(folder: ModelFolder, device: torch.device | str = "cpu") -> ScoreModel:
    """The network of a folder with its schedule, in float32.

    Raises:
        UserError: the weights are missing or broken, or do not fit the network's description.
    """
    _ = folder.parameter_count  # refuses a broken file in one line, before diffusers does in many
    # Not by from_pretrained, which fills weights that are missing in the file with random ones.
    network = UNet2DModel.from_config(folder.unet)
    try:
        network.load_state_dict(load_file(folder.path / "unet" / WEIGHTS))
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise UserError(f"{folder.path}/unet: the weights do not fit config.json ({reason})") from error
    # A one-step generator's output is used as it is; clipping belongs to samplers of many steps.
    scheduler = DDPMScheduler.from_config(folder.scheduler, clip_sample=False)
    return ScoreModel(network, scheduler, folder.null_label).to(device)


def save_score_model(
    model: ScoreModel,
    target: Path,
    class_names: Sequence[str],
    *,
    index: dict[str, Any],
    extra_files: Mapping[str, Path] = MappingProxyType({}),
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a diffusers folder: it appears whole, or not at all.

    Args:
        model: what is saved.
        target: the folder to create; one that is there is replaced.
        class_names: by index, for `id2label`.
        index: further entries of `model_index.json` (`_class_name` at least).
        extra_files: files to lay beside `model_index.json`, by their name there.
        dtype: precision of the weights on disk.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        folder = Path(scratch) / target.name
        network = model.copy().network
        torch.nn.Module.to(network, dtype)  # diffusers' own `to` warns of every cast
        network.register_to_config(_name_or_path="")  # where it was loaded from is nobody's business
        network.save_pretrained(folder / "unet", safe_serialization=True)
        model.scheduler.save_pretrained(folder / "scheduler")
        for name, path in extra_files.items():
            shutil.copyfile(path, folder / name)
        content = {
            **index,
            "unet": ["diffusers", "UNet2DModel"],
            "scheduler": ["diffusers", "DDPMScheduler"],
            "id2label": {str(label): name for label, name in enumerate(class_names)},
        }
        (folder / "model_index.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        (folder / "unet" / WEIGHTS).chmod(0o644)  # safetensors writes for the owner alone
        if target.exists():
            target.replace(Path(scratch) / "replaced")  # a folder cannot be renamed onto one with files in it
        folder.replace(target)
