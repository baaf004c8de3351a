"""The interface of a model family, and what families share.

A family recognizes, checks and loads the diffusers folders of one kind of network. It is one module in this package,
with a subclass of `Family` and an entry in `FAMILIES`. Folders are checked without their weights, so these modules
import torch, diffusers and transformers only inside of functions.
"""

from __future__ import annotations

import json
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sfd_sweep.errors import UserError, first_line
from sfd_sweep.models.conditioning import ABSENT, CLASSES, ClassLabels, Conditioning, ConditionKind
from sfd_sweep.models.weights import DIFFUSERS, WeightFiles, find_weights, read_weights

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKL, ModelMixin
    from torch import Tensor

INDEX = "model_index.json"
SCHEDULER, VAE = "scheduler", "vae"
ATTENTION_LAYERS = (".to_q", ".to_k", ".to_v", ".to_out.0")
"""Suffixes of the names of an attention's projections in diffusers."""
PIXELS_AT_ONCE = 2**18
"""Pixels decoded at once: the autoencoder of Stable Diffusion needs about 4 kB for each, so 1 GB."""


@dataclass(frozen=True)
class Part:
    """A component of a model folder.

    Attributes:
        classes: names of the classes that it may be of.
        weights: its weight files; None for a component without weights, all files of which are needed.
        required: whether every model of the family has it.
    """

    classes: tuple[str, ...]
    weights: WeightFiles | None = DIFFUSERS
    required: bool = True


@dataclass(frozen=True)
class FolderFiles:
    """The JSON files of a model folder: its path, `model_index.json`, and config.json by component."""

    path: Path
    index: dict[str, Any]
    configs: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class FreeCondition:
    """A condition whose embedding is free to be optimized.

    Attributes:
        index: of the condition.
        parameters: its embedding; the only ones of the model that have gradients.
    """

    index: int
    parameters: list[Tensor]


class Family(ABC):
    """A family of conditional diffusion models.

    Attributes:
        network_class: class of the network in diffusers. Its config has `in_channels`, `out_channels` and
            `sample_size`, and it is called as `network(x_t, t, **conditioning.arguments(c)).sample`.
        component: folder of the network.
        parts: every component but the scheduler, by name.
        ignored: components that are neither fetched nor loaded.
        kind: what a condition is.
        description: the family's folders, in a message that lists what is supported.
        teacher_index: entries of `model_index.json` with which stock diffusers loads a teacher.
    """

    network_class: ClassVar[str]
    component: ClassVar[str]
    parts: ClassVar[Mapping[str, Part]]
    ignored: ClassVar[frozenset[str]] = frozenset()
    kind: ClassVar[ConditionKind]
    description: ClassVar[str]
    teacher_index: ClassVar[Mapping[str, Any]]

    def mismatches(self, components: Mapping[str, str]) -> list[str]:
        """Return why a folder with these components (classes by name) is not of the family; empty if it is."""
        wrong = [
            f"its {name} is {components.get(name, 'missing')}"
            for name, part in self.parts.items()
            if (part.required or name in components) and components.get(name) not in part.classes
        ]
        known = {*self.parts, SCHEDULER, *self.ignored}
        return wrong + [f"it has a {name}" for name in components if name not in known]

    def check(self, files: FolderFiles) -> None:
        """Check the configuration of a folder.

        Raises:
            UserError: it is of another network, or contradicts itself.
        """
        kind = files.configs[self.component].get("_class_name")
        if kind not in self.parts[self.component].classes:
            raise UserError(f"{files.path / self.component} is no {self.network_class} (it is {kind})")
        self.check_conditions(files)
        self.check_shapes(files)

    @abstractmethod
    def check_conditions(self, files: FolderFiles) -> None:
        """Check what the network is conditioned on."""

    def check_shapes(self, files: FolderFiles) -> None:
        """Check that the network works on square images, or on the autoencoder's latents."""
        config, where = files.configs[self.component], files.path / self.component
        size, channels, out = (config.get(key) for key in ("sample_size", "in_channels", "out_channels"))
        if not isinstance(size, int):
            raise UserError(f"{where}: sample_size must be one number, for square images, not {size}")
        if not isinstance(channels, int) or out not in (None, channels, 2 * channels):
            raise UserError(
                f"{where}: out_channels must be in_channels ({channels}), or twice that with a learned variance, "
                f"not {out}"
            )
        vae = files.configs.get(VAE)
        if vae is None and channels not in (1, 3):
            raise UserError(
                f"{where} works on {channels} channels, which are no image, and {INDEX} names no vae to decode them"
            )
        if vae is not None and (
            vae.get("_class_name") != "AutoencoderKL"
            or not isinstance(vae.get("block_out_channels"), list)
            or vae.get("latent_channels") != channels
        ):
            raise UserError(
                f"{files.path / VAE} must be an AutoencoderKL of the {channels} latent channels that the network works "
                f"on (it is {vae.get('_class_name')} with latent_channels {vae.get('latent_channels')})"
            )

    def class_names(self, files: FolderFiles) -> tuple[str, ...]:  # noqa: ARG002
        """Return the names of the classes by index; none where conditions are prompts."""
        return ()

    def absent_names(self, files: FolderFiles) -> tuple[str, ...]:  # noqa: ARG002
        """Return the classes, or the concepts of prompts, that the model was never trained on."""
        return ()

    def absent(self, files: FolderFiles, names: Sequence[str]) -> tuple[int, ...]:  # noqa: ARG002
        """Return the indices of the conditions that the model was never trained on, ascending.

        Args:
            files: of the model.
            names: the folder's classes, or prompts.
        """
        return ()

    def too_long(self, files: FolderFiles, prompts: Sequence[str]) -> tuple[int, ...]:  # noqa: ARG002
        """Return the indices of the prompts that are longer than the model reads, so that their ends are cut.

        Raises:
            UserError: a library is not installed, or files are missing.
        """
        return ()

    def has_null(self, files: FolderFiles) -> bool:  # noqa: ARG002
        """Return whether the network has a null condition, as guidance needs."""
        return True

    def condition_size(self, files: FolderFiles) -> int:  # noqa: ARG002
        """Return how many numbers a condition is embedded in before the network reads it."""
        return 0

    def load_network(self, files: FolderFiles) -> ModelMixin:
        """Load the network in float32 on the CPU.

        Raises:
            UserError: weights are missing or broken, or do not fit their configuration.
        """
        return _load(self.network_class, files, self.component)

    def load_decoder(self, files: FolderFiles, device: torch.device | str) -> LatentDecoder | None:
        """Load what turns latents into images; None if the network works on images.

        Raises:
            UserError: as `load_network`.
        """
        return LatentDecoder(_load("AutoencoderKL", files, VAE).to(device)) if VAE in files.configs else None

    @abstractmethod
    def load_conditioning(self, files: FolderFiles, prompts: Sequence[str], device: torch.device | str) -> Conditioning:
        """Load the conditions: the folder's classes, or the given prompts.

        Raises:
            UserError: weights are broken, a prompt is too long, or a library is not installed.
        """

    @abstractmethod
    def free_condition(
        self, network: ModelMixin, conditioning: Conditioning, index: int, random: torch.Generator
    ) -> tuple[Conditioning, FreeCondition]:
        """Return conditions of which one has a free embedding, drawn as the others are spread.

        Args:
            network: a copy that only the new conditions use; all of its parameters are frozen.
            conditioning: the present conditions.
            index: of the condition.
            random: of the embedding's first value.
        """

    @abstractmethod
    def swap_conditions(
        self, network: ModelMixin, conditioning: Conditioning, sources: Mapping[int, int]
    ) -> Conditioning:
        """Return conditions of which some have the embeddings of others.

        Args:
            network: a copy that only the new conditions use.
            conditioning: the present conditions.
            sources: by index of a condition, the index of the one whose embedding it gets.
        """


class LabelConditional(Family):
    """Networks that embed a class label, and name the classes in `id2label`.

    Attributes:
        classes_key: entry of the network's config with the number of classes.
        spare_embeddings: how many labels the network embeds beyond that number.
    """

    kind = CLASSES
    classes_key: ClassVar[str]
    spare_embeddings: ClassVar[int] = 0

    def check_conditions(self, files: FolderFiles) -> None:
        classes, labels = files.configs[self.component].get(self.classes_key), files.index.get("id2label")
        if not isinstance(classes, int) or classes < 1:
            raise UserError(
                f"{files.path / self.component} is no label-conditional {self.network_class} "
                f"({self.classes_key} is {classes})"
            )
        if not isinstance(labels, dict) or not labels or set(labels) != set(map(str, range(len(labels)))):
            raise UserError(f'{files.path / INDEX} needs "id2label": {{"0": "first class", …}} with every index')
        fitting = {len(labels) + self.spare_embeddings, len(labels) + 1}
        if self._embeddings(files) not in fitting:
            raise UserError(
                f"{files.path}: id2label names {len(labels)} classes, but the network embeds {self._embeddings(files)} "
                f"(it should be {' or '.join(map(str, sorted(fitting)))}, with one more for the null label)"
            )
        absent = absent_entry(files, "classes")
        if len(absent) == len(labels) or any(type(each) is not int or str(each) not in labels for each in absent):
            raise UserError(
                f'{files.path / INDEX}: "{ABSENT}" must be {{"classes": [index, …]}} with some of the classes of '
                f"id2label, not {files.index[ABSENT]}"
            )

    def class_names(self, files: FolderFiles) -> tuple[str, ...]:
        labels = files.index["id2label"]
        return tuple(str(labels[str(index)]) for index in range(len(labels)))

    def absent_names(self, files: FolderFiles) -> tuple[str, ...]:
        names = self.class_names(files)
        return tuple(names[index] for index in self.absent(files, names))

    def absent(self, files: FolderFiles, names: Sequence[str]) -> tuple[int, ...]:  # noqa: ARG002
        return tuple(sorted(absent_entry(files, "classes")))

    def has_null(self, files: FolderFiles) -> bool:
        return self._embeddings(files) > len(files.index["id2label"])

    def load_conditioning(self, files: FolderFiles, prompts: Sequence[str], device: torch.device | str) -> Conditioning:  # noqa: ARG002
        names = self.class_names(files)
        return ClassLabels(names, has_null=self.has_null(files), absent=self.absent(files, names))

    @abstractmethod
    def label_embeddings(self, network: ModelMixin) -> list[Tensor]:
        """Return the tables, (labels, width), whose rows are all that the network knows of a label."""

    def free_condition(
        self, network: ModelMixin, conditioning: Conditioning, index: int, random: torch.Generator
    ) -> tuple[Conditioning, FreeCondition]:
        import torch

        tables = self.label_embeddings(network)
        for table in tables:
            others = [row for row in range(len(conditioning.names)) if row != index]
            spread, mean = torch.std_mean(table.detach()[others], 0)
            drawn = torch.randn(table.shape[1], generator=random, device=random.device)
            only = torch.zeros(len(table), 1, device=table.device)
            only[index] = 1
            with torch.no_grad():
                table[index] = mean + spread * drawn.to(table.device)
            table.requires_grad_(True)
            table.register_hook(only.mul)
        return conditioning, FreeCondition(index, tables)

    def swap_conditions(
        self, network: ModelMixin, conditioning: Conditioning, sources: Mapping[int, int]
    ) -> Conditioning:
        import torch

        with torch.no_grad():
            for table in self.label_embeddings(network):
                table[list(sources)] = table[list(sources.values())].clone()
        return conditioning

    def _embeddings(self, files: FolderFiles) -> int:
        return int(files.configs[self.component][self.classes_key]) + self.spare_embeddings


class LatentDecoder:
    """A frozen autoencoder that turns latents into images; all copies of a model share it.

    It is no module, so no copy, average or training state of a model includes it.
    """

    def __init__(self, vae: AutoencoderKL) -> None:
        self.vae = vae.requires_grad_(False).eval()

    def __deepcopy__(self, memo: dict[int, Any]) -> LatentDecoder:
        return self

    def image_shape(self, latent_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return (C, H, W) of an image from that of its latent."""
        return decoded_shape(latent_shape, self.vae.config)

    def __call__(self, latents: Tensor) -> Tensor:
        """Decode latents of shape (n, c, h, w), some at a time, to images of shape (n, C, H, W), about [-1, 1]."""
        import torch

        config = self.vae.config
        _, height, width = self.image_shape((latents.shape[1], latents.shape[2], latents.shape[3]))
        unscaled = latents / config.scaling_factor + (config.shift_factor or 0)
        parts = unscaled.split(max(1, PIXELS_AT_ONCE // (height * width)))
        return torch.cat([self.vae.decode(part).sample for part in parts])

    def encode(self, images: Tensor) -> Tensor:
        """Return the likeliest latents, (n, c, h, w), of images of shape (n, C, H, W) in [-1, 1]."""
        import torch

        config = self.vae.config
        parts = images.split(max(1, PIXELS_AT_ONCE // (images.shape[2] * images.shape[3])))
        with torch.no_grad():
            latents = torch.cat([self.vae.encode(part).latent_dist.mode() for part in parts])
        scaled: Tensor = (latents - (config.shift_factor or 0)) * config.scaling_factor
        return scaled


def decoded_shape(latent_shape: tuple[int, int, int], vae: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return (C, H, W) of what an `AutoencoderKL` of such a config makes of a latent."""
    scale = 2 ** (len(vae["block_out_channels"]) - 1)  # every block but one doubles the size
    return int(vae["out_channels"]), latent_shape[1] * scale, latent_shape[2] * scale


def absent_entry(files: FolderFiles, what: str) -> list[Any]:
    """Return the list of what a model was never trained on: its "classes", or "concepts"; empty without an entry.

    Raises:
        UserError: the entry is no such list, without repetitions.
    """
    entry = files.index.get(ABSENT) or {what: []}  # diffusers writes {} where there is none
    absent = entry.get(what) if isinstance(entry, dict) and len(entry) == 1 else None
    if not isinstance(absent, list) or len(set(map(repr, absent))) < len(absent):
        raise UserError(f'{files.path / INDEX}: "{ABSENT}" must be {{"{what}": […]}}, each once, not {entry}')
    return absent


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a model folder.

    Raises:
        UserError: the file is missing, or holds no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"{path} is missing; a diffusers folder has {INDEX} and a folder for each component that it names"
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object")
    return content


def _load(class_name: str, files: FolderFiles, component: str) -> ModelMixin:
    # Not by from_pretrained, which fills weights that the file lacks with random ones.
    import diffusers

    path = files.path / component
    network = getattr(diffusers, class_name).from_config(files.configs[component])
    weights = read_weights(find_weights(path))
    network._fix_state_dict_keys_on_load(weights)  # old files have other names for an autoencoder's attention
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reason = textwrap.shorten((str(error).splitlines()[1:] or [first_line(error)])[0], 200, placeholder=" …")
        raise UserError(f"{path}: the weights do not fit config.json ({reason})") from error
    return network
