"""What a user calls a class, and its index."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from sfd_sweep.errors import UserError

LISTED = 12
"""A message lists all classes up to so many."""


def class_index(names: Sequence[str], wanted: int | str) -> int:
    """The index of a class, given its name or the index itself.

    A name may list several, as those of ImageNet do: of "tench, Tinca tinca", one will do if no other class has it.
    A name wins over an index written as text: of the names ("7", "3"), "7" is the class of index 0, and 7 is none.

    Args:
        names: the classes' names, by index.
        wanted: an index, a name, or an index written as text.

    Raises:
        UserError: there is no such class, and the message names the nearest; or several classes have that name.
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
