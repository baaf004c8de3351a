"""Diffusers folders on disk, looked at without loading a network: what is inside, and whether it is sound.

A label-conditional model is `model_index.json` (with `id2label`), `scheduler/` and a network: `unet/` or
`transformer/`. With a `vae/` beside it the network works on latents. A text-to-image model has no `id2label`, and a
`tokenizer/` and a `text_encoder/`. This module imports no torch, so that a search-space file can be checked against its
teacher in a moment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

from sfd_sweep.errors import UserError
from sfd_sweep.hub import is_hub_id
from sfd_sweep.models.components import (
    ATTENTION_LAYERS,
    CARD,
    INDEX,
    SCHEDULER,
    TEXT_ENCODER,
    TOKENIZER,
    VAE,
    Architecture,
    architecture_of,
    network_component,
    read_components,
    read_json,
)
from sfd_sweep.models.hub import fetch_model
from sfd_sweep.models.weights import TRANSFORMERS, count_weights, find_weights, weight_shapes

ASSETS = Path(__file__).parent.parent / "assets"
BUILTIN_MODELS = {
    "builtin:digits": ASSETS / "digits" / "teacher",
    "builtin:digits-distilled": ASSETS / "digits" / "generator",
}
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2", "laplace", "sigmoid")  # that DDPMScheduler knows
BEYOND_PROMPTS = ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type", "num_class_embeds")
"""Entries of a network's config that say that it wants more than a prompt."""


def find_model(source: str) -> Path:
    """The local folder of a model: one that is shipped (`builtin:…`), a folder, or one downloaded from the hub.

    Raises:
        UserError: there is no such model, or the hub cannot be reached.
    """
    if source.startswith("builtin:"):
        if source not in BUILTIN_MODELS:
            raise UserError(f"no model {source!r} is shipped; there are {', '.join(BUILTIN_MODELS)}")
        return BUILTIN_MODELS[source]
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if is_hub_id(source):
        return fetch_model(source)
    raise UserError(f"no model folder at {source!r}; give a diffusers folder, a hub id (owner/name) or builtin:digits")


def decoded_shape(latent_shape: tuple[int, int, int], vae: Mapping[str, Any]) -> tuple[int, int, int]:
    """(C, H, W) of what an `AutoencoderKL` of such a config makes of a latent; every block but one doubles the size."""
    scale = 2 ** (len(vae["block_out_channels"]) - 1)
    return int(vae["out_channels"]), latent_shape[1] * scale, latent_shape[2] * scale


@dataclass(frozen=True)
class ModelFolder:
    """What the JSON files of a diffusers folder say.

    Attributes:
        path: of the folder.
        index: `model_index.json`.
        architecture: of the network.
        network: its config.json.
        scheduler: `scheduler_config.json`.
        vae: the config.json of the autoencoder; None where the network works on pixels.
        text_encoder: its config.json; None where the model is label-conditional.
    """

    path: Path
    index: dict[str, Any]
    architecture: Architecture
    network: dict[str, Any]
    scheduler: dict[str, Any]
    vae: dict[str, Any] | None
    text_encoder: dict[str, Any] | None

    @classmethod
    def open(cls, source: str) -> ModelFolder:
        """Read and check a model's description; no weights are loaded.

        Raises:
            UserError: a file is missing or broken, or the model is of a kind that is not supported.
        """
        path = find_model(source)
        index = read_json(path / INDEX)
        components = read_components(path, index)
        network_path = path / network_component(path, components)
        network = read_json(network_path / "config.json")
        reads_text = TEXT_ENCODER in components
        folder = cls(
            path=path,
            index=index,
            architecture=architecture_of(network_path, network, reads_text=reads_text),
            network=network,
            scheduler=read_json(path / SCHEDULER / "scheduler_config.json"),
            vae=read_json(path / VAE / "config.json") if VAE in components else None,
            text_encoder=read_json(path / TEXT_ENCODER / "config.json") if reads_text else None,
        )
        if folder.text_encoder is None:
            folder._check_classes()
        else:
            folder._check_text_encoder(folder.text_encoder)
        folder._check_shapes()
        folder._check_scheduler()
        return folder

    def _check_classes(self) -> None:
        embeds = self._class_embeddings
        labels = self.index.get("id2label")
        if not isinstance(labels, dict) or not labels or set(labels) != set(map(str, range(len(labels)))):
            raise UserError(
                f'{self.path}/model_index.json needs "id2label": {{"0": "first class", …}} with every index'
            )
        fitting = {len(labels) + self.architecture.spare_embeddings, len(labels) + 1}
        if embeds not in fitting:
            raise UserError(
                f"{self.path}: id2label names {len(labels)} classes, but the network embeds {embeds} "
                f"(it should be {' or '.join(map(str, sorted(fitting)))}, with one more for the null label)"
            )

    def _check_text_encoder(self, config: dict[str, Any]) -> None:
        where = self.path / self.architecture.component
        for entry in BEYOND_PROMPTS:
            if self.network.get(entry) is not None:
                raise UserError(
                    f"{where} wants more than a prompt ({entry} is {self.network[entry]}); give another model"
                )
        width, reads = config.get("hidden_size"), self.network.get("cross_attention_dim")
        if width != reads:
            raise UserError(
                f"{where} reads prompts of cross_attention_dim {reads}, and {self.path / TEXT_ENCODER} makes them of "
                f"hidden_size {width}"
            )
        if not (self.path / TOKENIZER / "tokenizer_config.json").is_file():
            raise UserError(f"{self.path / TOKENIZER / 'tokenizer_config.json'} is missing; fetch the model again")

    def _check_shapes(self) -> None:
        size, channels, out = (self.network.get(key) for key in ("sample_size", "in_channels", "out_channels"))
        where = self.path / self.architecture.component
        if not isinstance(size, int):
            raise UserError(f"{where}: sample_size must be one number, for square images, not {size}")
        if not isinstance(channels, int) or out not in (None, channels, 2 * channels):
            raise UserError(
                f"{where}: out_channels must be in_channels ({channels}), or twice that with a learned variance, "
                f"not {out}"
            )
        if self.vae is None:
            if channels not in (1, 3):
                raise UserError(
                    f"{where} works on {channels} channels, which are no image, and model_index.json names no vae to "
                    "decode them"
                )
            return
        kind, blocks, latent = (self.vae.get(key) for key in ("_class_name", "block_out_channels", "latent_channels"))
        if kind != "AutoencoderKL" or not isinstance(blocks, list) or latent != channels:
            raise UserError(
                f"{self.path}/{VAE} must be an AutoencoderKL of the {channels} latent channels that the network works "
                f"on (it is {kind} with latent_channels {latent})"
            )

    def _check_scheduler(self) -> None:
        if self.prediction_type not in PREDICTION_TYPES:
            known = ", ".join(PREDICTION_TYPES)
            raise UserError(f"{self.path}/scheduler: prediction_type {self.prediction_type!r} is none of {known}")
        betas = self.scheduler.get("beta_schedule")
        if betas not in BETA_SCHEDULES:
            raise UserError(
                f"{self.path}/scheduler: {self.scheduler.get('_class_name')} has beta_schedule {betas!r}; a model must "
                f"have been trained with one of {', '.join(BETA_SCHEDULES)}"
            )
        t_init, steps = self.index.get("t_init", 0), self.diffusion_steps
        if not isinstance(t_init, int) or not 0 <= t_init < steps:
            raise UserError(
                f"{self.path}/model_index.json: t_init must be a step of the schedule, 0 to {steps - 1}, not {t_init!r}"
            )

    @property
    def reads_text(self) -> bool:
        """Whether conditions are prompts, and no classes."""
        return self.architecture.reads_text

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, by index; none where conditions are prompts."""
        labels = {} if self.reads_text else self.index["id2label"]
        return tuple(str(labels[str(index)]) for index in range(len(labels)))

    @property
    def null_label(self) -> int | None:
        """The index of "no condition": the one after the last class, where the network embeds it.

        An empty prompt is always embedded, after however many others.
        """
        classes = len(self.class_names)
        return classes if self.reads_text or self._class_embeddings == classes + 1 else None

    @property
    def _class_embeddings(self) -> int:
        return int(self.network[str(self.architecture.classes_key)]) + self.architecture.spare_embeddings

    @property
    def prediction_type(self) -> str:
        """What the network puts out, in diffusers' words."""
        return str(self.scheduler.get("prediction_type", "epsilon"))

    @property
    def diffusion_steps(self) -> int:
        """T, the number of steps of the noise schedule."""
        return int(self.scheduler.get("num_train_timesteps", 1000))

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of what the network works on: an image, or its latent."""
        size = int(self.network["sample_size"])
        return int(self.network["in_channels"]), size, size

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self.sample_shape if self.vae is None else decoded_shape(self.sample_shape, self.vae)

    @property
    def t_init(self) -> int | None:
        """The step at which a one-step generator is evaluated; None for a teacher."""
        return self.index.get("t_init")

    @property
    def licence(self) -> str | None:
        """The licence of the weights, as the front matter of the model's card names it; None if it does not."""
        card = self.path / CARD
        if not card.is_file():
            return None
        _, *front_matter = card.read_text(encoding="utf-8", errors="replace").split("---\n")[:2]
        found = re.search(r"^license:[ \t]*(\S.*?)[ \t]*$", "".join(front_matter), re.MULTILINE)
        return found and found[1]

    @property
    def has_safety_checker(self) -> bool:
        """Whether a checker of images belongs to the model, which is not loaded here."""
        return any(self.index.get("safety_checker") or ())

    @property
    def prompt_size(self) -> int:
        """How many numbers a prompt is embedded in; 0 where there is no text encoder."""
        text = self.text_encoder or {}
        return int(text.get("max_position_embeddings", 0)) * int(text.get("hidden_size", 0))

    @property
    def weights(self) -> Path:
        """The file of the network's weights.

        Raises:
            UserError: it is missing.
        """
        return find_weights(self.path / self.architecture.component)

    @cached_property
    def parameter_count(self) -> int:
        """The number of the network's weights.

        Raises:
            UserError: they are missing, cut short or of another format.
        """
        return count_weights(self.weights)

    @cached_property
    def adapter_size(self) -> int:
        """How many numbers low-rank adapters of the network have for each rank: a row and a column of each layer.

        Raises:
            UserError: weights are missing, cut short or of another format.
        """
        layers = {
            name.removesuffix(".weight"): shape
            for name, shape in weight_shapes(self.weights).items()
            if name.endswith(".weight") and len(shape) in (2, 4) and not name.startswith("class_embedding")
        }
        adapted = [name for name in layers if name.endswith(ATTENTION_LAYERS)] or list(layers)
        return sum(layers[name][0] + prod(layers[name][1:]) for name in adapted)

    @cached_property
    def vae_parameter_count(self) -> int:
        """The number of the autoencoder's weights; 0 where there is none.

        Raises:
            UserError: they are missing, cut short or of another format.
        """
        return 0 if self.vae is None else count_weights(find_weights(self.path / VAE))

    @cached_property
    def text_encoder_parameter_count(self) -> int:
        """The number of the text encoder's weights; 0 where there is none.

        Raises:
            UserError: they are missing, cut short or of another format.
        """
        return 0 if self.text_encoder is None else count_weights(find_weights(self.path / TEXT_ENCODER, TRANSFORMERS))
