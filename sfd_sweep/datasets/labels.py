"""Class labels: the index of a class that a user names, and the labels of a dataset in a model's order. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from sfd_sweep.errors import UserError

LISTED = 12
"""A message lists at most so many classes."""


def class_index(names: Sequence[str], wanted: int | str) -> int:
    """Return the index of a class, given its name or the index itself.

    A name may list several, as those of ImageNet do: of "tench, Tinca tinca", one is enough if no other class has it.
    A name takes precedence over an index written as text: of the names ("7", "3"), "7" is the class of index 0.

    Args:
        names: the classes' names, by index.
        wanted: an index, a name, or an index written as text.

    Raises:
        UserError: the class is unknown (the message names the nearest), or several classes have that name.
    """
    named = [index for index, name in enumerate(names) if name == wanted]
    named = named or [index for index, name in enumerate(names) if wanted in _synonyms(name)]
    if len(named) > 1:
        several = ", ".join(f"{index} ({names[index]})" for index in named)
        raise UserError(f"several classes are called {wanted!r}: {several}; give the index of one")
    if named:
        return named[0]
    index = wanted if isinstance(wanted, int) else int(wanted) if wanted.isdecimal() else -1
    if 0 <= index < len(names):
        return index
    raise UserError(f"there is no class {wanted!r}; {_advice(names, wanted)}")


def _synonyms(name: str) -> list[str]:
    return [part.strip() for part in name.split(",")]


def _advice(names: Sequence[str], wanted: int | str) -> str:
    by_lower_case = {called.lower(): called for name in names for called in (*_synonyms(name), name)}
    nearest = get_close_matches(str(wanted).lower(), by_lower_case, n=1)
    if nearest:
        return f"did you mean {by_lower_case[nearest[0]]!r}?"
    if len(names) <= LISTED:
        return f"the classes are {', '.join(f'{index} ({name})' for index, name in enumerate(names))}"
    return f"give an index from 0 to {len(names) - 1} or a name, such as {names[0]!r}"


def name_classes(
    labels: NDArray[np.int64], own: tuple[str, ...] | None, given: tuple[str, ...] | None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the labels as indices into the given names if there are any, else into their own, and these names.

    Labels that have names of their own are renumbered by name; others are taken as indices into the given names.
    Without any names the classes are called "0", "1", … up to the largest label.

    Args:
        labels: (n,), none negative, at least one.
        own: the names that the data has, by label.
        given: a model's names, by index.

    Raises:
        UserError: the given names are of other classes.
    """
    if given is None:
        return labels, own or tuple(map(str, range(int(labels.max()) + 1)))
    if own is None:
        beyond = int((labels >= len(given)).sum())
        if beyond:
            raise UserError(
                f"{beyond:,} of {len(labels):,} labels name no class: there are {len(given)} classes, and labels up "
                f"to {labels.max()}; give images of the model's classes"
            )
        return labels, given
    if own == given:
        return labels, given
    for names, others, whose in ((given, own, "the images have"), (own, given, "the model has")):
        missing = [name for name in names if name not in others]
        if missing:
            raise UserError(f"{whose} no class {missing[0]!r}; give images whose classes have the model's names")
    if len(set(own)) < len(own) or len(own) != len(given):
        raise UserError("two classes of the images have the same name, so their order is ambiguous; rename one")
    return np.array([given.index(name) for name in own], np.int64)[labels], given
