"""Diffusers folders on disk, read without loading a network: what is inside, and whether it is sound.

A label-conditional model is `model_index.json` (with `id2label`), `scheduler/` and a network: `unet/` or
`transformer/`. With a `vae/` beside it the network works on latents. A text-to-image model has a `tokenizer/` and a
`text_encoder/` instead of `id2label`. This module imports no torch, so a search-space file is checked against its
teacher at once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

from sfd_sweep.errors import UserError
from sfd_sweep.hub import fetch, is_hub_id
from sfd_sweep.models.conditioning import ConditionKind
from sfd_sweep.models.families import components_of, find_family
from sfd_sweep.models.families.base import (
    ATTENTION_LAYERS,
    INDEX,
    SCHEDULER,
    VAE,
    Family,
    FolderFiles,
    decoded_shape,
    read_json,
)
from sfd_sweep.models.forward_process import ForwardProcess, process_of
from sfd_sweep.models.weights import count_weights, find_weights, weight_shapes

ASSETS = Path(__file__).parent.parent / "assets"
BUILTIN_MODELS = {
    "builtin:digits": ASSETS / "digits" / "teacher",
    "builtin:digits-distilled": ASSETS / "digits" / "generator",
    "builtin:digits-without-0": ASSETS / "digits" / "generator-without-0",
}
CARD = "README.md"


def find_model(source: str) -> Path:
    """Return the local folder of a model: a shipped one (`builtin:…`), a folder, or one fetched from the hub.

    Raises:
        UserError: there is no such model, or the hub cannot be reached.
    """
    if source.startswith("builtin:"):
        if source not in BUILTIN_MODELS:
            raise UserError(f"unknown shipped model {source!r}; there are {', '.join(BUILTIN_MODELS)}")
        return BUILTIN_MODELS[source]
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if is_hub_id(source):
        return _fetch(source)
    raise UserError(f"no model folder at {source!r}; give a diffusers folder, a hub id (owner/name) or builtin:digits")


def is_model(source: str | None) -> bool:
    """Return whether a source is a model that can be opened on this machine."""
    try:
        return source is not None and bool(ModelFolder.open(source))
    except UserError:
        return False


def portable_source(source: str) -> str:
    """Return a source as it may be told to others: a local folder by its name, `builtin:…` and hub ids unchanged."""
    folder = Path(source).expanduser()
    is_local = folder.is_absolute() or folder.is_dir()
    return (folder.name or folder.resolve().name) if is_local else source


def _fetch(hub_id: str) -> Path:
    """Fetch a supported model's components; pickled weights only where there are no others."""
    folder = fetch(hub_id, kind="model", files=[INDEX])
    index = read_json(folder / INDEX)
    family, components = find_family(folder, index), components_of(index)
    parts = {name: part.weights for name, part in family.parts.items() if name in components}
    weights = {name: files for name, files in parts.items() if files is not None}
    wanted = [f"{name}/{file}" for name, files in weights.items() for file in ("config.json", files.safe)]
    wanted += [f"{name}/*" for name in parts.keys() - weights.keys()]
    folder = fetch(hub_id, kind="model", files=[*wanted, f"{SCHEDULER}/scheduler_config.json", CARD])
    pickled = [f"{name}/{files.old}" for name, files in weights.items() if not (folder / name / files.safe).is_file()]
    return fetch(hub_id, kind="model", files=pickled) if pickled else folder


@dataclass(frozen=True)
class ModelFolder(FolderFiles):
    """A diffusers folder of a supported family.

    Properties that count weights raise UserError if a file is missing, cut short or of another format.

    Attributes:
        family: which checks and loads it.
        scheduler: `scheduler_config.json`.
    """

    family: Family
    scheduler: dict[str, Any]

    @classmethod
    def open(cls, source: str) -> ModelFolder:
        """Read and check a model's configuration; no weights are loaded.

        Raises:
            UserError: a file is missing or broken, or the model is not supported.
        """
        path = find_model(source)
        index = read_json(path / INDEX)
        family, components = find_family(path, index), components_of(index)
        configured = [name for name, part in family.parts.items() if name in components and part.weights is not None]
        configs = {name: read_json(path / name / "config.json") for name in configured}
        folder = cls(path, index, configs, family, read_json(path / SCHEDULER / "scheduler_config.json"))
        family.check(folder)
        folder._check_scheduler()
        return folder

    def _check_scheduler(self) -> None:
        self.process.check(self.path / SCHEDULER, self.scheduler)
        t_init, steps = self.index.get("t_init", 0), self.diffusion_steps
        if not isinstance(t_init, int) or not 0 <= t_init < steps:
            raise UserError(
                f"{self.path / INDEX}: t_init must be a step of the schedule, 0 to {steps - 1}, not {t_init!r}"
            )

    @property
    def kind(self) -> ConditionKind:
        """What a condition is."""
        return self.family.kind

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes by index; none where conditions are prompts."""
        return self.family.class_names(self)

    @property
    def null_label(self) -> int | None:
        """Index of the null condition after the folder's classes; None if the network has none."""
        return len(self.class_names) if self.family.has_null(self) else None

    @property
    def absent_names(self) -> tuple[str, ...]:
        """The classes, or the concepts of prompts, that the model was never trained on."""
        return self.family.absent_names(self)

    def absent(self, names: Sequence[str]) -> tuple[int, ...]:
        """Return which conditions the model was never trained on, by index, ascending.

        Args:
            names: the folder's classes, or prompts.
        """
        return self.family.absent(self, names)

    def too_long(self, prompts: Sequence[str]) -> tuple[int, ...]:
        """Return the indices of the prompts that are longer than the model reads, so that their ends are cut.

        Raises:
            UserError: a library is not installed, or files are missing.
        """
        return self.family.too_long(self, prompts)

    @property
    def condition_size(self) -> int:
        """Numbers that a condition is embedded in before the network reads it; 0 for classes."""
        return self.family.condition_size(self)

    @property
    def network(self) -> dict[str, Any]:
        """The network's configuration."""
        return self.configs[self.family.component]

    @property
    def prediction_type(self) -> str:
        """What the network predicts, in diffusers' words."""
        return self.process.prediction_type(self.scheduler)

    @property
    def process(self) -> ForwardProcess:
        """How noise is mixed in."""
        return process_of(self.scheduler.get("_class_name"))

    @property
    def t_advice(self) -> str:
        """Which steps have the usual noise, to be appended to a message; empty if that is known."""
        usual = self.process.usual_steps(self.scheduler)
        listed = ", ".join(f"{name} {step}" for name, step in (usual or {}).items())
        return f"; steps of usual noise are {listed}" if listed else ""

    @property
    def diffusion_steps(self) -> int:
        """T, the number of steps of the noise schedule."""
        return int(self.scheduler.get("num_train_timesteps", 1000))

    @property
    def works_on_latents(self) -> bool:
        """Whether a decoder makes images of what the network works on."""
        return VAE in self.configs

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of what the network works on: an image, or its latent."""
        size = int(self.network["sample_size"])
        return int(self.network["in_channels"]), size, size

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return decoded_shape(self.sample_shape, self.configs[VAE]) if self.works_on_latents else self.sample_shape

    @property
    def t_init(self) -> int | None:
        """The diffusion step at which a one-step generator starts; None for a teacher."""
        return self.index.get("t_init")

    @property
    def license(self) -> str | None:
        """The license of the weights in the model card's front matter; None if it names none."""
        card = self.path / CARD
        if not card.is_file():
            return None
        _, *front_matter = card.read_text(encoding="utf-8", errors="replace").split("---\n")[:2]
        found = re.search(r"^license:[ \t]*(\S.*?)[ \t]*$", "".join(front_matter), re.MULTILINE)
        return found and found[1]

    @property
    def has_safety_checker(self) -> bool:
        """Whether the model comes with a safety checker, which is not loaded here."""
        return any(self.index.get("safety_checker") or ())

    @property
    def weights(self) -> Path:
        """The weight file of the network."""
        return find_weights(self.path / self.family.component)

    @cached_property
    def parameter_counts(self) -> dict[str, int]:
        """Number of weights of each component."""
        files = {name: self.family.parts[name].weights for name in self.configs}
        return {name: count_weights(find_weights(self.path / name, each)) for name, each in files.items() if each}

    @property
    def parameter_count(self) -> int:
        """Number of weights of the network."""
        return self.parameter_counts[self.family.component]

    @property
    def decoder_parameter_count(self) -> int:
        """Number of weights of the decoder; 0 where there is none."""
        return self.parameter_counts.get(VAE, 0)

    @cached_property
    def adapter_size(self) -> int:
        """Numbers that low-rank adapters of the network have for each rank: a row and a column of each layer."""
        layers = {
            name.removesuffix(".weight"): shape
            for name, shape in weight_shapes(self.weights).items()
            if name.endswith(".weight") and len(shape) in (2, 4) and not name.startswith("class_embedding")
        }
        adapted = [name for name in layers if name.endswith(ATTENTION_LAYERS)] or list(layers)
        return sum(layers[name][0] + prod(layers[name][1:]) for name in adapted)
