"""Parts of a dataset: those to train on and to test on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from sfd_sweep.errors import UserError

T = TypeVar("T")

ALL = "all"
DEFAULT = "train"
SPLITS = ("train", "validation", "test")
_WORDS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}
_FIRST_WORD = re.compile(r"[a-z]+", re.IGNORECASE)


def parse(source: str) -> tuple[str, str | None]:
    """A source without its split, and the split that it names (`…:test`) or None."""
    name, _, split = source.rpartition(":")
    return (name, split) if name and split in (*SPLITS, ALL) else (source, None)


def split_called(name: str) -> str | None:
    """The split that a folder of such a name holds, or None."""
    return _WORDS.get(name.lower())


def split_of_file(name: str) -> str | None:
    """The split that a file's name begins with (`train-00000-of-00001.parquet`), or None."""
    word = _FIRST_WORD.match(name)
    return split_called(word.group()) if word else None


def choose(parts: Sequence[tuple[str | None, T]], wanted: str | None, place: Path) -> tuple[T, ...]:
    """What belongs to a split.

    Args:
        parts: each with its split; what has none belongs to all of them.
        wanted: a split, or "all"; None means "train" where there are splits.
        place: of it all, for the message.

    Raises:
        UserError: there is no such split.
    """
    there = sorted({split for split, _ in parts if split is not None}, key=SPLITS.index)
    if wanted is None:
        wanted = DEFAULT if there else ALL
    if there and wanted not in (*there, ALL):
        raise UserError(f"{place} has no split {wanted!r}; name one that it has, as in {place}:{there[0]}")
    return tuple(part for split, part in parts if wanted == ALL or split in (None, wanted))
