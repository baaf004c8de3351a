"""Changes to a sweep that has begun: which keys may change, and the record of them at the head of the kept file."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sfd_sweep.config.loading import dump_search_space, parse_search_space
from sfd_sweep.config.search_space import SearchSpace
from sfd_sweep.errors import UserError

_MARK = "# changed "

WHY_FIXED: dict[str, str | None] = {
    "name": "it names the sweep's folder and its runs",
    "task": "generators of another task are not comparable",
    "trial": "trials of another length, other evaluations, or another seed are not comparable",
    "trial.interval_hours": None,
    "parameters": "the sampler has drawn its trials from these, and models them",
    "search": None,
    "search.warm_start": "earlier sweeps are taken over when a sweep begins",
    "budget": None,
    "objectives": "the study and the front compare all trials by them",
    "constraints": "the study holds by how much each trial violates them",
    "selection": "trials have been marked as forgotten by it",
    "evaluation": "figures of another evaluation are not comparable",
    "audit": "figures against another judge or control are not comparable",
    "resources": None,
    "resources.precision": "trials in another arithmetic are not comparable",
    "tracking": "the record is there; --uri names another store",
    "storage": "the sweep is there; move its folder, and name the new storage by --storage",
    "keep_generators": None,
}
"""Why a key, or the section around it, stays as it is in a sweep that has begun; None: it may change."""


def change(space: SearchSpace, overrides: Sequence[str]) -> tuple[SearchSpace, list[str]]:
    """Return the search space of a sweep that has begun with some keys changed, and the changes in words.

    Args:
        space: of the sweep.
        overrides: `key.path=value` assignments, as in `load_search_space`.

    Raises:
        UserError: An assignment does not fit the file, or its key must stay as it is.
    """
    changed = parse_search_space(dump_search_space(space), f"{space.name} with --set", overrides)
    before, after = _keys(space), _keys(changed)
    keys = [key for key in before if before[key] != after[key]]
    for key in keys:
        if reason := WHY_FIXED.get(key, WHY_FIXED[key.partition(".")[0]]):
            raise UserError(f"--set {key}: cannot change in a sweep that has begun: {reason}; begin a new sweep for it")
    if (space.resources.gpus_per_worker > 0) != (changed.resources.gpus_per_worker > 0):
        raise UserError(
            "--set resources.gpus_per_worker: cannot change between CPU and GPU in a sweep that has begun: training "
            "states and random numbers are those of one of them; begin a new sweep for it"
        )
    count = len(space.search.first)
    if changed.search.first[:count] != space.search.first:
        raise UserError(
            f"--set search.first: settings can only be added after the {count} that the sweep has begun with; "
            f"`sfd-sweep add {space.name} KEY=VALUE …` adds some"
        )
    return changed, [f"{key} from {json.dumps(before[key])} to {json.dumps(after[key])}" for key in keys]


def with_changes(space: SearchSpace, earlier: str, changes: Sequence[str]) -> str:
    """Return a changed search space as the text of its kept file, whose first lines tell all changes.

    Args:
        space: changed.
        earlier: text of the kept file so far.
        changes: in words, as `change` returns them.
    """
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    lines = [*changes_of(earlier), *(f"{now}: {text}" for text in changes)]
    return "".join(f"{_MARK}{line}\n" for line in lines) + dump_search_space(space)


def changes_of(text: str) -> tuple[str, ...]:
    """Return the changes that the text of a kept file tells, the oldest first, each with its time."""
    return tuple(line.removeprefix(_MARK) for line in text.splitlines() if line.startswith(_MARK))


def _keys(space: SearchSpace) -> dict[str, Any]:
    """Return the values of a search space by `section.key`, or by `section` if it has no keys."""
    flat: dict[str, Any] = {}
    for section, content in space.model_dump(mode="json").items():
        inner = content.items() if isinstance(content, dict) else ()
        flat |= {f"{section}.{key}": value for key, value in inner} or {section: content}
    return flat
