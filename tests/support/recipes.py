"""Recipes with some fields changed."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from sfd_sweep.config import with_overrides
from sfd_sweep.teachers.recipes import Recipe

RecipeT = TypeVar("RecipeT", bound=Recipe)


def changed(recipe: RecipeT, changes: Mapping[str, Any]) -> RecipeT:
    """Return the recipe with some fields changed, or fields of its sections, as `--set FIELD=VALUE` does."""
    return with_overrides(recipe, list(_assignments(changes)))


def _assignments(changes: Mapping[str, Any], section: str = "") -> Iterator[str]:
    for name, value in changes.items():
        if isinstance(value, Mapping):
            yield from _assignments(value, f"{section}{name}.")
        else:
            yield f"{section}{name}={json.dumps(value)}"
