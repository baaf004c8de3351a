"""Diffusers folders on disk, looked at without loading a network: what is inside, and whether it is sound.

A label-conditional model is `model_index.json` (with `id2label`), `unet/` and `scheduler/`, safetensors inside. This
module imports no torch, so that a search-space file can be checked against its teacher in a moment.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

from sfd_sweep.errors import UserError
from sfd_sweep.hub import fetch, is_hub_id

ASSETS = Path(__file__).parent.parent / "assets"
BUILTIN_MODELS = {
    "builtin:digits": ASSETS / "digits" / "teacher",
    "builtin:digits-distilled": ASSETS / "digits" / "generator",
}
WEIGHTS = "diffusion_pytorch_model.safetensors"
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


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
        return fetch(
            source,
            kind="model",
            files=["model_index.json", "unet/*", "scheduler/*"],
            but=["*.bin", "*.ckpt"],
        )
    raise UserError(f"no model folder at {source!r}; give a diffusers folder, a hub id (owner/name) or builtin:digits")


@dataclass(frozen=True)
class ModelFolder:
    """What the JSON files of a label-conditional diffusers folder say."""

    path: Path
    index: dict[str, Any]
    unet: dict[str, Any]
    scheduler: dict[str, Any]

    @classmethod
    def open(cls, source: str) -> ModelFolder:
        """Read and check a model's description; no weights are loaded.

        Raises:
            UserError: a file is missing or broken, or the model is not label-conditional.
        """
        path = find_model(source)
        folder = cls(
            path=path,
            index=_read_json(path / "model_index.json"),
            unet=_read_json(path / "unet" / "config.json"),
            scheduler=_read_json(path / "scheduler" / "scheduler_config.json"),
        )
        folder._check()
        return folder

    def _check(self) -> None:
        kind, embeds, size = (self.unet.get(key) for key in ("_class_name", "num_class_embeds", "sample_size"))
        if kind != "UNet2DModel" or not embeds:
            raise UserError(
                f"{self.path}/unet is no label-conditional UNet2DModel (it is {kind} with num_class_embeds {embeds})"
            )
        if not isinstance(size, int):
            raise UserError(f"{self.path}/unet: sample_size must be one number, for square images, not {size}")
        labels = self.index.get("id2label")
        if not isinstance(labels, dict) or not labels or set(labels) != set(map(str, range(len(labels)))):
            raise UserError(
                f'{self.path}/model_index.json needs "id2label": {{"0": "first class", …}} with every index'
            )
        if embeds not in (len(labels), len(labels) + 1):
            raise UserError(
                f"{self.path}: id2label names {len(labels)} classes, but the network embeds {embeds} "
                "(it should be as many, or one more for the null label)"
            )
        if self.prediction_type not in PREDICTION_TYPES:
            known = ", ".join(PREDICTION_TYPES)
            raise UserError(f"{self.path}/scheduler: prediction_type {self.prediction_type!r} is none of {known}")
        t_init, steps = self.index.get("t_init", 0), self.diffusion_steps
        if not isinstance(t_init, int) or not 0 <= t_init < steps:
            raise UserError(
                f"{self.path}/model_index.json: t_init must be a step of the schedule, 0 to {steps - 1}, not {t_init!r}"
            )

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, by index."""
        labels = self.index["id2label"]
        return tuple(str(labels[str(index)]) for index in range(len(labels)))

    @property
    def null_label(self) -> int | None:
        """The index of "no condition": the one after the last class, where the network embeds it."""
        classes = len(self.class_names)
        return classes if self.unet["num_class_embeds"] == classes + 1 else None

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
        """(C, H, W) of one image."""
        size = int(self.unet["sample_size"])
        return int(self.unet["in_channels"]), size, size

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self.sample_shape

    @property
    def t_init(self) -> int | None:
        """The step at which a one-step generator is evaluated; None for a teacher."""
        return self.index.get("t_init")

    @cached_property
    def parameter_count(self) -> int:
        """The number of weights, from the safetensors header.

        Raises:
            UserError: the weights are missing, cut short or no safetensors.
        """
        from safetensors import SafetensorError, safe_open

        path = self.path / "unet" / WEIGHTS
        if not path.is_file():
            raise UserError(f"{path} is missing; save the network with safe_serialization=True")
        try:
            with safe_open(path, framework="numpy") as tensors:
                return sum(prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
        except SafetensorError as error:
            raise UserError(f"{path} is no whole safetensors file ({error}); fetch or export it again") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; a diffusers folder has model_index.json, unet/ and scheduler/") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object")
    return content
