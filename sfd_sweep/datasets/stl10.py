"""STL-10 as its authors packed it (A. Coates, A. Ng and H. Lee, AISTATS 2011): images of 96×96 pixels.

Its 100,000 unlabeled images are not used.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sfd_sweep.datasets.resizing import fit
from sfd_sweep.datasets.splits import choose
from sfd_sweep.datasets.stored import Pictures, StoredImages
from sfd_sweep.errors import UserError

PARTS = ("train", "test")
SHAPE = (3, 96, 96)
PIXELS = 3 * 96 * 96


def find(path: Path, split: str | None) -> StoredImages | None:
    """The images of `stl10_binary`, which the path is or holds; None where there are none.

    Raises:
        UserError: one of the files is missing, or there is no such split.
    """
    for folder in (path, path / "stl10_binary"):
        if not any((folder / f"{part}_X.bin").is_file() for part in PARTS):
            continue
        parts = choose([(part, part) for part in PARTS], split, path)
        files = tuple(folder / f"{part}_{letter}.bin" for part in parts for letter in "Xy")
        names = folder / "class_names.txt"
        for file in (*files, names):
            if not file.is_file():
                raise UserError(f"{file} is missing; unpack the archive of STL-10 again")
        return StoredImages("STL-10", files, partial(_read, names, files))
    return None


def _read(names_file: Path, files: Sequence[Path], size: int | None) -> Pictures:
    names = tuple(names_file.read_text(encoding="utf-8").split())
    pairs = zip(files[::2], files[1::2], strict=True)
    parts = [_read_part(images, labels, names) for images, labels in pairs]
    pixels = np.concatenate([fit(pixels, size) for pixels, _ in parts])
    return Pictures(pixels, np.concatenate([labels for _, labels in parts]), names)


def _read_part(images: Path, labels: Path, names: tuple[str, ...]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pixels, which are stored column by column, and labels, which are stored from 1."""
    content, numbers = np.fromfile(images, np.uint8), np.fromfile(labels, np.uint8)
    if not len(content) or len(content) != len(numbers) * PIXELS:
        raise UserError(
            f"{images} has {len(content):,} bytes, not the {PIXELS:,} an image of the {len(numbers):,} in {labels}; "
            "unpack the archive again"
        )
    wrong = np.flatnonzero((numbers < 1) | (numbers > len(names)))
    if len(wrong):
        raise UserError(
            f"{labels}: image {wrong[0]} (from 0) has label {numbers[wrong[0]]}, not one from 1 to {len(names)}; "
            f"{len(wrong):,} images have such labels, unpack the archive again"
        )
    return content.reshape(-1, *SHAPE).transpose(0, 1, 3, 2), numbers.astype(np.int64) - 1
