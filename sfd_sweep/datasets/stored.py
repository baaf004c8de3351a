"""Images found on disk, their splits, and their arrays once they are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sfd_sweep.errors import UserError

T = TypeVar("T")

MEGABYTE = 1e6
ALL = "all"
DEFAULT = "train"
SPLITS = ("train", "validation", "test")
_NAMES_OF_SPLITS = {name: name for name in SPLITS} | {"valid": "validation", "val": "validation"}


@dataclass(frozen=True)
class ImageArrays:
    """Images and labels as a source has them.

    Attributes:
        pixels: (n, C, H, W), from 0 to `levels` - 1.
        labels: (n,), none negative; below `len(class_names)` where there are names.
        class_names: by label; None where the source has none.
        levels: how many values a pixel can have.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...] | None
    levels: int = 256


@dataclass(frozen=True)
class StoredImages:
    """Images that were found and can be read.

    Attributes:
        kind: what they are, in words.
        files: those that `read` opens; none where a library has the images.
        read: decodes all images, each to size×size pixels where a size is given.
    """

    kind: str
    files: tuple[Path, ...]
    read: Callable[[int | None], ImageArrays]

    def describe(self) -> str:
        """Return a line with the kind, the number of files, their megabytes, and the first file's path."""
        if not self.files:
            return self.kind
        megabytes = sum(file.stat().st_size for file in self.files) / MEGABYTE
        more = ", …" if len(self.files) > 1 else ""
        return f"{self.kind}, {len(self.files):,} file(s), {megabytes:,.1f} MB: {self.files[0]}{more}"


def parse_source(source: str) -> tuple[str, str | None]:
    """Split a source into its path and the split that it names (`…:test`) or None."""
    name, _, split = source.rpartition(":")
    return (name, split) if name and split in (*SPLITS, ALL) else (source, None)


def split_called(name: str) -> str | None:
    """Return the split that a folder of such a name holds, or None."""
    return _NAMES_OF_SPLITS.get(name.lower())


def split_of_file(name: str) -> str | None:
    """Return the split that a file's name begins with (`train-00000-of-00001.parquet`), or None."""
    word = re.match(r"[A-Za-z]+", name)
    return split_called(word.group()) if word else None


def choose(parts: Sequence[tuple[str | None, T]], wanted: str | None, place: Path) -> tuple[T, ...]:
    """Return the parts that belong to a split.

    Args:
        parts: each with its split; one without a split belongs to all.
        wanted: a split, or "all"; None means "train" where there are splits.
        place: of the dataset, for the message.

    Raises:
        UserError: there is no such split.
    """
    there = sorted({split for split, _ in parts if split is not None}, key=SPLITS.index)
    if wanted is None:
        wanted = DEFAULT if there else ALL
    if there and wanted not in (*there, ALL):
        raise UserError(f"{place} has no split {wanted!r}; name one that it has, as in {place}:{there[0]}")
    return tuple(part for split, part in parts if wanted == ALL or split in (None, wanted))
