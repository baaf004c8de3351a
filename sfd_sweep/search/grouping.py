"""Groups of a comparison: repetitions of a search that differ in seeds alone."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sfd_sweep.config import Settings
from sfd_sweep.config.config_errors import nearest, one_of
from sfd_sweep.errors import UserError
from sfd_sweep.search.records import SweepRecord
from sfd_sweep.search.trial import Trial

SEEDS = frozenset({"trial.seed", "search.seed", "evaluation.seed"})
INCIDENTAL = frozenset({"name", "storage", "keep_generators", "tracking"})
"""Sections that have no effect on figures."""
MOST_VALUES = 8
"""Values of a number that have groups of their own; more are grouped by thirds of the trials."""
PARAMETERS = "parameters."
MOST_IN_LABEL = 2


@dataclass(frozen=True)
class Group:
    """Repetitions of one search, or of the part of it with one value of a parameter.

    Attributes:
        label: what tells the group from the others.
        runs: one for each sweep, with its trials in the group alone.
    """

    label: str
    runs: tuple[SweepRecord, ...]


def group(records: Sequence[SweepRecord], by: str | None) -> list[Group]:
    """Return the groups of some sweeps.

    Args:
        records: the sweeps.
        by: a parameter, whose values in the trials make the groups, or a key of the search space as `section.key`;
            None: everything but seeds.

    Raises:
        UserError: `by` is unknown or the same everywhere, there is one sweep and nothing to group by, or sweeps in a
            group differ in more than seeds.
    """
    if by is None:
        return _by_everything(records)
    key, parts = _parts(records, by)
    values = {_text(value): value for _, value in parts}
    if len(values) < 2:
        raise UserError(
            f"--by {by}: it is {_in_words(*values.values())} throughout; name {_alternatives(records, without=key)}"
        )
    groups = []
    for text in sorted(values, key=lambda text: _order(values[text])):
        made = Group(_in_words(values[text]), tuple(record for record, value in parts if _text(value) == text))
        _check_repetitions(made, by, key)
        groups.append(made)
    return groups


def differences(groups: Sequence[Group], by: str | None) -> dict[str, list[str]]:
    """Return what differs between the first sweeps of groups, besides seeds and what they are compared by.

    Returns:
        A value for each group, in words, by key of the search space.
    """
    return _differences([part.runs[0] for part in groups], None if by is None else _full_key(by))


def _by_everything(records: Sequence[SweepRecord]) -> list[Group]:
    if len(records) == 1:
        raise UserError(f"one sweep has nothing to be compared with; name another one, or {_alternatives(records)}")
    members: dict[str, list[SweepRecord]] = {}
    for record in records:
        members.setdefault(_text(_identity(record)), []).append(record)
    groups = [Group(runs[0].summary.name, tuple(runs)) for runs in members.values()]
    if all(len(part.runs) == 1 for part in groups):
        return groups
    told = differences(groups, None)
    return [replace(part, label=_label(part, index, told)) for index, part in enumerate(groups)]


def _label(part: Group, index: int, told: Mapping[str, Sequence[str]]) -> str:
    """Return what tells a group from the others if that is short, or else the names of its sweeps."""
    if 0 < len(told) <= MOST_IN_LABEL:
        return ", ".join(f"{key.rpartition('.')[2]} {values[index]}" for key, values in told.items())
    more = len(part.runs) - 1
    return f"{part.runs[0].summary.name}{f' and {more} more' if more else ''}"


def _full_key(by: str) -> str:
    name = by.removeprefix(PARAMETERS)
    return PARAMETERS + name if name in Settings.model_fields else by


def _parts(records: Sequence[SweepRecord], by: str) -> tuple[str, list[tuple[SweepRecord, Any]]]:
    """Return the full key of what sweeps are compared by, and their parts with the value of each."""
    key = _full_key(by)
    if key.startswith(PARAMETERS):
        return key, _by_parameter(records, key.removeprefix(PARAMETERS))
    return key, [(record, _at(record, key)) for record in records]


def _by_parameter(records: Sequence[SweepRecord], name: str) -> list[tuple[SweepRecord, Any]]:
    """Return the part of each sweep with each value, or with each third of many numbers.

    Trials of methods that do not read the parameter are in no part.
    """
    drawn = [getattr(trial.settings, name) for record in records for trial in record.trials if _reads(trial, name)]
    thirds = _thirds_of(drawn) if all(map(_is_number, drawn)) and len(set(drawn)) > MOST_VALUES else ()
    parts: list[tuple[SweepRecord, Any]] = []
    for record in records:
        members: dict[str, tuple[Any, list[Trial]]] = {}
        for trial in record.trials:
            if not _reads(trial, name):
                continue
            value = getattr(trial.settings, name)
            value = _third_of(value, thirds) if thirds else value
            members.setdefault(_text(value), (value, []))[1].append(trial)
        parts += [(replace(record, trials=tuple(trials)), value) for value, trials in members.values()]
    return parts


def _reads(trial: Trial, name: str) -> bool:
    return name in trial.settings.of_method()


@dataclass(frozen=True)
class _Third:
    """One of three ranges that hold equally many of the values that trials have drawn for a number."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.3g} to {self.high:.3g}"


def _thirds_of(drawn: Sequence[float]) -> tuple[_Third, ...]:
    return tuple(_Third(float(part[0]), float(part[-1])) for part in np.array_split(np.unique(drawn), 3))


def _third_of(value: float, thirds: Sequence[_Third]) -> _Third:
    return next(third for third in thirds if value <= third.high)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _at(record: SweepRecord, key: str) -> Any:
    """Return the value of a key of the search space."""
    value: Any = record.space.model_dump(mode="json")
    for name in key.split("."):
        if not isinstance(value, dict) or name not in value:
            raise UserError(f"--by {key}: {_unknown(record, key)}")
        value = value[name]
    return value


def _unknown(record: SweepRecord, key: str) -> str:
    known = [*Settings.model_fields, *_leaves(record.space.model_dump(mode="json"))]
    hint = nearest(key, known) or f"; name {_alternatives([record])}, or a key such as search.sampler"
    return f"neither a parameter nor a key of the search space of {record.summary.name}{hint}"


def _check_repetitions(made: Group, by: str, key: str) -> None:
    for other in made.runs[1:]:
        if told := _differences([made.runs[0], other], key):
            raise UserError(
                f"--by {by}: {made.runs[0].summary.name} and {other.summary.name} both have {made.label} and differ in "
                f"{', '.join(told)}, so they are no repetitions of each other; compare fewer sweeps"
            )


def _alternatives(records: Sequence[SweepRecord], *, without: str = "") -> str:
    searched = dict.fromkeys(name for record in records for name in record.space.parameters.searched())
    names = [name for name in searched if PARAMETERS + name != without]
    return f"a searched parameter by --by: {one_of(names)}" if names else "other sweeps"


def _differences(records: Sequence[SweepRecord], without: str | None) -> dict[str, list[str]]:
    own = [_identity(record) for record in records]
    keys = sorted({key for identity in own for key in identity})
    found = {
        key: [_in_words(identity.get(key)) for identity in own]
        for key in keys
        if without is None or not f"{key}.".startswith(f"{without}.")
    }
    return {key: values for key, values in found.items() if len(set(values)) > 1}


def _identity(record: SweepRecord) -> dict[str, Any]:
    """Return what makes a search what it is, by key: everything in its file but seeds, names, and places."""
    leaves = _leaves(record.space.model_dump(mode="json")).items()
    return {key: value for key, value in leaves if key not in SEEDS and key.partition(".")[0] not in INCIDENTAL}


def _leaves(section: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the keys below a section with their values; a distribution is one value."""
    found: dict[str, Any] = {}
    for name, value in section.items():
        is_section = isinstance(value, dict) and prefix != PARAMETERS
        found |= _leaves(value, f"{prefix}{name}.") if is_section else {f"{prefix}{name}": value}
    return found


def _text(value: Any) -> str:
    return str(value) if isinstance(value, _Third) else json.dumps(value, sort_keys=True)


def _order(value: Any) -> tuple[int, float, str]:
    if isinstance(value, _Third):
        return 0, value.low, ""
    return (0, float(value), "") if _is_number(value) else (1, 0.0, _in_words(value))


def _in_words(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else json.dumps(value) if isinstance(value, dict) else str(value)
