"""What a diffusers folder consists of, by its `model_index.json`, and which such models are known. Imports no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfd_sweep.errors import UserError

INDEX = "model_index.json"
SCHEDULER, VAE, TEXT_ENCODER, TOKENIZER = "scheduler", "vae", "text_encoder", "tokenizer"
UNUSED = ("safety_checker", "feature_extractor")
"""What Stable Diffusion has beside it and no network needs: a filter of finished images."""


@dataclass(frozen=True)
class Architecture:
    """A kind of conditional network.

    Attributes:
        class_name: in diffusers.
        component: its folder in a model's.
        classes_key: what its config.json calls the number of classes; None where the condition is text.
        spare_embeddings: how many classes it embeds beyond that number, the null label.
    """

    class_name: str
    component: str
    classes_key: str | None
    spare_embeddings: int = 0

    @property
    def reads_text(self) -> bool:
        """Whether the condition is a prompt, and no class."""
        return self.classes_key is None


ARCHITECTURES = {
    architecture.class_name: architecture
    for architecture in (
        Architecture("UNet2DModel", "unet", "num_class_embeds"),
        Architecture("DiTTransformer2DModel", "transformer", "num_embeds_ada_norm", spare_embeddings=1),
        Architecture("UNet2DConditionModel", "unet", None),
    )
}
"""By the class's name in diffusers. Each is called as network(x_t, t, class_labels=c), or with the embedded prompts as
encoder_hidden_states, and sized by `in_channels`, `out_channels` and `sample_size`."""
NETWORKS = tuple(dict.fromkeys(architecture.component for architecture in ARCHITECTURES.values()))
CARD = "README.md"
"""What a model says of itself to readers; model hubs have its licence from there."""
ATTENTION_LAYERS = (".to_q", ".to_k", ".to_v", ".to_out.0")
"""How diffusers ends the names of an attention's projections, in U-Nets and in transformers."""
LABEL_CONDITIONAL = " or ".join(name for name, architecture in ARCHITECTURES.items() if not architecture.reads_text)

STABLE_DIFFUSION = {
    TEXT_ENCODER: ("CLIPTextModel",),
    TOKENIZER: ("CLIPTokenizer", "CLIPTokenizerFast"),
    "unet": ("UNet2DConditionModel",),
    VAE: ("AutoencoderKL",),
}
"""The parts of the text-to-image models that are known, and the classes that each may be of."""


def read_components(path: Path, index: dict[str, Any]) -> dict[str, str]:
    """The modules that `model_index.json` names, and the class of each.

    Args:
        path: of the folder.
        index: what its `model_index.json` says.

    Raises:
        UserError: they are those of a model that is not known.
    """
    listed = {name: entry for name, entry in index.items() if not name.startswith("_") and isinstance(entry, list)}
    components = {name: str(entry[1]) for name, entry in listed.items() if len(entry) == 2 and entry[1] is not None}
    if _is_of_text(components):
        _check_stable_diffusion(path, index, components)
        return {name: kind for name, kind in components.items() if name not in UNUSED}
    unknown = set(components) - {*NETWORKS, VAE, SCHEDULER}
    if unknown:
        raise UserError(f"{path}/{INDEX} names components that are not known: {', '.join(sorted(unknown))}")
    return components


def _is_of_text(components: dict[str, str]) -> bool:
    named = any(name.startswith((TEXT_ENCODER, TOKENIZER)) for name in components)
    return named or "UNet2DConditionModel" in components.values()


def _check_stable_diffusion(path: Path, index: dict[str, Any], components: dict[str, str]) -> None:
    wrong = [
        f"its {name} is {components.get(name, 'missing')}"
        for name, kinds in STABLE_DIFFUSION.items()
        if components.get(name) not in kinds
    ]
    known = {*STABLE_DIFFUSION, SCHEDULER, *UNUSED}
    wrong += [f"it has a {name}" for name in components if name not in known]
    if wrong:
        raise UserError(
            f"{path} is a {index.get('_class_name')}, which is not supported ({wrong[0]}); of text-to-image models, "
            "StableDiffusionPipeline folders are (1.x and 2.x: one CLIPTextModel, a UNet2DConditionModel and an "
            f"AutoencoderKL), and of others label-conditional ones, of a {LABEL_CONDITIONAL}"
        )


def network_component(path: Path, components: dict[str, str]) -> str:
    """The one of a folder's components that is the network.

    Raises:
        UserError: it has none, or several.
    """
    networks = [name for name in NETWORKS if name in components]
    if len(networks) != 1:
        found = " and ".join(networks) or "neither"
        raise UserError(f"{path}/{INDEX} must name one network, {' or '.join(NETWORKS)}; it names {found}")
    return networks[0]


def architecture_of(path: Path, config: dict[str, Any], *, reads_text: bool) -> Architecture:
    """The architecture of a network.

    Args:
        path: its folder.
        config: its config.json.
        reads_text: whether there is a text encoder for it.

    Raises:
        UserError: it is of no kind that is known, or is conditioned on something else.
    """
    kind = config.get("_class_name")
    if kind == "Transformer2DModel" and config.get("norm_type") == "ada_norm_zero":
        kind = "DiTTransformer2DModel"  # before diffusers 0.28 it was a case of that class
    architecture = ARCHITECTURES.get(str(kind))
    if architecture is None or architecture.component != path.name or architecture.reads_text != reads_text:
        raise UserError(
            f"{path} is no {'UNet2DConditionModel' if reads_text else f'label-conditional {LABEL_CONDITIONAL}'} (it is "
            f"{kind} with norm_type {config.get('norm_type')})"
        )
    if architecture.classes_key is not None:
        classes = config.get(architecture.classes_key)
        if not isinstance(classes, int) or classes < 1:
            raise UserError(f"{path} is no label-conditional {kind} ({architecture.classes_key} is {classes})")
    return architecture


def read_json(path: Path) -> dict[str, Any]:
    """One of the folder's descriptions.

    Raises:
        UserError: it is missing, or no JSON object.
    """
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
