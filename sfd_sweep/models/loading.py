"""Score models from and to diffusers folders."""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, DDPMScheduler, ModelMixin

from sfd_sweep.errors import UserError
from sfd_sweep.models.components import ARCHITECTURES, INDEX, SCHEDULER, TEXT_ENCODER, TOKENIZER, VAE
from sfd_sweep.models.decoder import LatentDecoder
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.models.prompts import Prompts, TextEncoder
from sfd_sweep.models.score_model import ScoreModel
from sfd_sweep.models.weights import WEIGHTS, find_weights, read_weights

STABLE_DIFFUSION_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "safety_checker": [None, None],
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
}
"""Entries of `model_index.json` that make a text-to-image teacher one that stock diffusers loads."""


def load_score_model(
    folder: ModelFolder, device: torch.device | str = "cpu", *, prompts: Sequence[str] = ()
) -> ScoreModel:
    """The network of a folder with its schedule and, if it works on latents, their decoder; in float32.

    Args:
        folder: of a model.
        device: where the network will be, and all that it needs.
        prompts: what conditions are indices of, if the model reads text.

    Raises:
        UserError: weights are missing or broken, or do not fit their description; a prompt is too long; or the model
            reads text and transformers is not installed.
    """
    # Refuse a broken file in one line, not in many.
    _ = folder.parameter_count, folder.vae_parameter_count, folder.text_encoder_parameter_count
    architecture = folder.architecture
    network = _load(getattr(diffusers, architecture.class_name), folder.network, folder.path / architecture.component)
    decoder = None
    if folder.vae is not None:
        decoder = LatentDecoder(_load(AutoencoderKL, folder.vae, folder.path / VAE).to(device))
    # A one-step generator's output is used as it is: clipping belongs to samplers of many steps, and so does a variance
    # that the network has learned.
    scheduler = DDPMScheduler.from_config(folder.scheduler, clip_sample=False, variance_type="fixed_small")
    if not folder.reads_text:
        return ScoreModel(network, scheduler, folder.null_label, decoder).to(device)
    embedded = Prompts.of(TextEncoder.load(folder.path), prompts, device)
    return ScoreModel(network, scheduler, len(embedded), decoder, embedded).to(device)


def _load(kind: type[ModelMixin], config: dict[str, Any], path: Path) -> ModelMixin:
    # Not by from_pretrained, which fills weights that are missing in the file with random ones.
    network = kind.from_config(config)
    weights = read_weights(find_weights(path))
    network._fix_state_dict_keys_on_load(weights)  # old files have other names for an autoencoder's attention
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reason = textwrap.shorten(str(error).splitlines()[1], 200, placeholder=" …")
        raise UserError(f"{path}: the weights do not fit config.json ({reason})") from error
    return network


def save_score_model(
    model: ScoreModel,
    target: Path,
    class_names: Sequence[str],
    *,
    index: dict[str, Any],
    extra_files: Mapping[str, Path] = MappingProxyType({}),
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a diffusers folder, decoder and text encoder included: it appears whole, or not at all.

    Args:
        model: what is saved.
        target: the folder to create; one that is there is replaced.
        class_names: by index, for `id2label`, which a model of prompts does not have.
        index: further entries of `model_index.json` (`_class_name` at least).
        extra_files: files to lay beside `model_index.json`, by their name there.
        dtype: precision of the weights on disk.
    """
    architecture = ARCHITECTURES[type(model.network).__name__]
    networks = {architecture.component: model.network}
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
        content: dict[str, Any] = {
            **index,
            **{component: ["diffusers", type(network).__name__] for component, network in networks.items()},
            SCHEDULER: ["diffusers", "DDPMScheduler"],
        }
        if model.prompts is None:
            content["id2label"] = {str(label): name for label, name in enumerate(class_names)}
        else:
            model.prompts.encoder.save(folder, dtype)
            content |= {TEXT_ENCODER: ["transformers", "CLIPTextModel"], TOKENIZER: ["transformers", "CLIPTokenizer"]}
        (folder / INDEX).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        if target.exists():
            target.replace(Path(scratch) / "replaced")  # a folder cannot be renamed onto one with files in it
        folder.replace(target)


def _save(network: ModelMixin, folder: Path, dtype: torch.dtype) -> None:
    network = copy.deepcopy(network)
    torch.nn.Module.to(network, dtype)  # diffusers' own `to` warns of every cast
    network.register_to_config(_name_or_path="")  # where it was loaded from is nobody's business
    network.save_pretrained(folder, safe_serialization=True)
    (folder / WEIGHTS).chmod(0o644)  # safetensors writes for the owner alone
