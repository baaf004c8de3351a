"""Diffusers folders on disk, looked at without loading a network: what is inside, and whether it is sound.

A label-conditional model is `model_index.json` (with `id2label`), `scheduler/` and a network: `unet/` or
`transformer/`. With a `vae/` beside it the network works on latents. This module imports no torch, so that a
search-space file can be checked against its teacher in a moment.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sfd_sweep.diffusion.hub import fetch_model
from sfd_sweep.diffusion.weights import count_weights, find_weights
from sfd_sweep.errors import UserError
from sfd_sweep.hub import is_hub_id

ASSETS = Path(__file__).parent.parent / "assets"
BUILTIN_MODELS = {
    "builtin:digits": ASSETS / "digits" / "teacher",
    "builtin:digits-distilled": ASSETS / "digits" / "generator",
}
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2", "laplace", "sigmoid")  # that DDPMScheduler knows
VAE = "vae"


@dataclass(frozen=True)
class Architecture:
    """A kind of label-conditional network.

    Attributes:
        class_name: in diffusers.
        component: its folder in a model's.
        classes_key: what its config.json calls the number of classes.
        spare_embeddings: how many it embeds beyond that number, the null label.
    """

    class_name: str
    component: str
    classes_key: str
    spare_embeddings: int


ARCHITECTURES = {
    architecture.class_name: architecture
    for architecture in (
        Architecture("UNet2DModel", "unet", "num_class_embeds", 0),
        Architecture("DiTTransformer2DModel", "transformer", "num_embeds_ada_norm", 1),
    )
}
"""By the class's name in diffusers. Each is called as network(x_t, t, class_labels=c) and sized by `in_channels`,
`out_channels` and `sample_size`."""
NETWORKS = tuple(architecture.component for architecture in ARCHITECTURES.values())


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
        return fetch_model(source, (*NETWORKS, VAE))
    raise UserError(f"no model folder at {source!r}; give a diffusers folder, a hub id (owner/name) or builtin:digits")


def decoded_shape(latent_shape: tuple[int, int, int], vae: Mapping[str, Any]) -> tuple[int, int, int]:
    """(C, H, W) of what an `AutoencoderKL` of such a config makes of a latent; every block but one doubles the size."""
    scale = 2 ** (len(vae["block_out_channels"]) - 1)
    return int(vae["out_channels"]), latent_shape[1] * scale, latent_shape[2] * scale


@dataclass(frozen=True)
class ModelFolder:
    """What the JSON files of a label-conditional diffusers folder say.

    Attributes:
        path: of the folder.
        index: `model_index.json`.
        architecture: of the network.
        network: its config.json.
        scheduler: `scheduler_config.json`.
        vae: the config.json of the autoencoder; None where the network works on pixels.
    """

    path: Path
    index: dict[str, Any]
    architecture: Architecture
    network: dict[str, Any]
    scheduler: dict[str, Any]
    vae: dict[str, Any] | None

    @classmethod
    def open(cls, source: str) -> ModelFolder:
        """Read and check a model's description; no weights are loaded.

        Raises:
            UserError: a file is missing or broken, or the model is not label-conditional.
        """
        path = find_model(source)
        index = _read_json(path / "model_index.json")
        components = _components(path, index)
        network_path = path / _network_component(path, components)
        network = _read_json(network_path / "config.json")
        folder = cls(
            path=path,
            index=index,
            architecture=_architecture(network_path, network),
            network=network,
            scheduler=_read_json(path / "scheduler" / "scheduler_config.json"),
            vae=_read_json(path / VAE / "config.json") if VAE in components else None,
        )
        folder._check_classes()
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
    def _class_embeddings(self) -> int:
        return int(self.network[self.architecture.classes_key]) + self.architecture.spare_embeddings

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, by index."""
        labels = self.index["id2label"]
        return tuple(str(labels[str(index)]) for index in range(len(labels)))

    @property
    def null_label(self) -> int | None:
        """The index of "no condition": the one after the last class, where the network embeds it."""
        classes = len(self.class_names)
        return classes if self._class_embeddings == classes + 1 else None

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
    def vae_parameter_count(self) -> int:
        """The number of the autoencoder's weights; 0 where there is none.

        Raises:
            UserError: they are missing, cut short or of another format.
        """
        return 0 if self.vae is None else count_weights(find_weights(self.path / VAE))


def _components(path: Path, index: dict[str, Any]) -> dict[str, str]:
    """The modules that model_index.json names, and the class of each.

    Raises:
        UserError: they are those of a model that is not label-conditional.
    """
    listed = {name: entry for name, entry in index.items() if not name.startswith("_") and isinstance(entry, list)}
    components = {name: str(entry[1]) for name, entry in listed.items() if len(entry) == 2 and entry[1] is not None}
    if any(name.startswith("text_encoder") for name in components) or "UNet2DConditionModel" in components.values():
        raise UserError(
            f"{path} is a text-to-image model ({index.get('_class_name')}), which is not supported; give a "
            f"label-conditional one, of a {' or '.join(ARCHITECTURES)}"
        )
    unknown = set(components) - {*NETWORKS, VAE, "scheduler"}
    if unknown:
        raise UserError(f"{path}/model_index.json names components that are not known: {', '.join(sorted(unknown))}")
    return components


def _network_component(path: Path, components: dict[str, str]) -> str:
    networks = [name for name in NETWORKS if name in components]
    if len(networks) != 1:
        found = " and ".join(networks) or "neither"
        raise UserError(f"{path}/model_index.json must name one network, {' or '.join(NETWORKS)}; it names {found}")
    return networks[0]


def _architecture(path: Path, config: dict[str, Any]) -> Architecture:
    """The architecture of the network in a folder.

    Raises:
        UserError: it is of no kind that is known, or has no classes.
    """
    kind = config.get("_class_name")
    if kind == "Transformer2DModel" and config.get("norm_type") == "ada_norm_zero":
        kind = "DiTTransformer2DModel"  # before diffusers 0.28 it was a case of that class
    architecture = ARCHITECTURES.get(str(kind))
    if architecture is None or architecture.component != path.name:
        raise UserError(
            f"{path} is no label-conditional {' or '.join(ARCHITECTURES)} (it is {kind} with norm_type "
            f"{config.get('norm_type')})"
        )
    classes = config.get(architecture.classes_key)
    if not isinstance(classes, int) or classes < 1:
        raise UserError(f"{path} is no label-conditional {kind} ({architecture.classes_key} is {classes})")
    return architecture


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"{path} is missing; a diffusers folder has model_index.json and a folder for each part that it names"
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object")
    return content
