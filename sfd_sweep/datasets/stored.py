"""Real images as they lie on a disk, found but not read yet, and as numbers once they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MEGABYTE = 1e6


@dataclass(frozen=True)
class Pictures:
    """Images and their labels as a source has them.

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
        files: that would be read; none where a library carries them.
        read: reads and decodes them all, and makes each of size×size pixels where a size is given.
    """

    kind: str
    files: tuple[Path, ...]
    read: Callable[[int | None], Pictures]

    def describe(self) -> str:
        """What is there, how many files of how many megabytes, and the first file's path."""
        if not self.files:
            return self.kind
        megabytes = sum(file.stat().st_size for file in self.files) / MEGABYTE
        more = ", …" if len(self.files) > 1 else ""
        return f"{self.kind}, {len(self.files):,} file(s), {megabytes:,.1f} MB: {self.files[0]}{more}"
