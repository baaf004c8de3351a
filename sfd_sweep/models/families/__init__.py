"""The supported model families. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sfd_sweep.errors import UserError
from sfd_sweep.models.families.base import INDEX, Family
from sfd_sweep.models.families.dit import DiT
from sfd_sweep.models.families.stable_diffusion import StableDiffusion
from sfd_sweep.models.families.unet import UNet

FAMILIES: tuple[Family, ...] = (UNet(), DiT(), StableDiffusion())


def components_of(index: Mapping[str, Any]) -> dict[str, str]:
    """Return the components that `model_index.json` names, and the class of each."""
    listed = {name: entry for name, entry in index.items() if not name.startswith("_") and isinstance(entry, list)}
    return {name: str(entry[1]) for name, entry in listed.items() if len(entry) == 2 and entry[1] is not None}


def find_family(path: Path, index: Mapping[str, Any]) -> Family:
    """Find the family of a folder by its `model_index.json`.

    Raises:
        UserError: no family has such components; the message says what the nearest one lacks.
    """
    components = components_of(index)
    mismatches = {family: family.mismatches(components) for family in FAMILIES}
    family, wrong = min(mismatches.items(), key=lambda item: len(item[1]))
    if wrong:
        raise UserError(
            f"{path / INDEX}: this is a {index.get('_class_name')}, which is not supported ({wrong[0]}); supported are "
            f"{'; '.join(each.description for each in FAMILIES)}"
        )
    return family


def family_of(network: object) -> Family:
    """Return the family of a loaded network."""
    return next(family for family in FAMILIES if family.network_class == type(network).__name__)
