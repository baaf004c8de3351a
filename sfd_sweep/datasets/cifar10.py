"""CIFAR-10 as its authors packed it (A. Krizhevsky, 2009): six files of 10,000 images of 32×32 pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfd_sweep.datasets.resizing import fit
from sfd_sweep.datasets.splits import choose
from sfd_sweep.datasets.stored import Pictures, StoredImages
from sfd_sweep.datasets.unpickling import unpickle_arrays
from sfd_sweep.errors import UserError

PARTS = (*(("train", f"data_batch_{number}") for number in range(1, 6)), ("test", "test_batch"))
SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32

_Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Pixels (n, 3072), all of one channel after those of another, and labels (n,)."""


def find(path: Path, split: str | None) -> StoredImages | None:
    """The images of `cifar-10-batches-bin` or `-py`, which the path is or holds; None where there are none.

    Raises:
        UserError: one of the files is missing, or there is no such split.
    """
    for form, ending, names_file, read_names, read_batch in (
        ("binary", ".bin", "batches.meta.txt", _text_names, _binary_batch),
        ("Python", "", "batches.meta", _pickled_names, _pickled_batch),
    ):
        for folder in (path, path / f"cifar-10-batches-{'bin' if ending else 'py'}"):
            parts = [(part, folder / f"{name}{ending}") for part, name in PARTS]
            if not any(file.is_file() for _, file in parts):
                continue
            names, batches = folder / names_file, choose(parts, split, path)
            for file in (names, *batches):
                if not file.is_file():
                    raise UserError(f"{file} is missing; unpack the archive of CIFAR-10 again")
            return StoredImages(
                f"CIFAR-10, {form} version", batches, partial(_read, names, batches, read_names, read_batch)
            )
    return None


def _read(
    names_file: Path,
    files: Sequence[Path],
    read_names: Callable[[Path], tuple[str, ...]],
    read_batch: Callable[[Path], _Batch],
    size: int | None,
) -> Pictures:
    names = read_names(names_file)
    batches = [read_batch(file) for file in files]
    for file, (_, labels) in zip(files, batches, strict=True):
        wrong = np.flatnonzero((labels < 0) | (labels >= len(names)))
        if len(wrong):
            raise UserError(
                f"{file}: image {wrong[0]} (from 0) has label {labels[wrong[0]]}, and {names_file} names "
                f"{len(names)} classes; {len(wrong):,} images have such labels, unpack the archive again"
            )
    pixels = np.concatenate([pixels for pixels, _ in batches]).reshape(-1, *SHAPE)
    return Pictures(fit(pixels, size), np.concatenate([labels for _, labels in batches]), names)


def _text_names(file: Path) -> tuple[str, ...]:
    return tuple(file.read_text(encoding="utf-8").split())


def _binary_batch(file: Path) -> _Batch:
    """Records of a label's byte and the pixels'."""
    content = np.fromfile(file, np.uint8)
    if not len(content) or len(content) % (1 + PIXELS):
        raise UserError(f"{file} has {len(content):,} bytes, no multiple of {1 + PIXELS}; unpack the archive again")
    records = content.reshape(-1, 1 + PIXELS)
    return records[:, 1:], records[:, 0].astype(np.int64)


def _pickled_names(file: Path) -> tuple[str, ...]:
    (names,) = _entries(file, label_names=list)
    return tuple(map(_text, names))


def _pickled_batch(file: Path) -> _Batch:
    pixels, numbers = _entries(file, data=np.ndarray, labels=list)
    labels = np.asarray(numbers)
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), PIXELS) or labels.dtype.kind not in "iu":
        raise UserError(
            f"{file} holds {pixels.dtype} pixels {pixels.shape} and {len(labels)} labels, not uint8 pixels "
            f"(n, {PIXELS}) and n integers; unpack the archive again"
        )
    return pixels, labels.astype(np.int64)


def _entries(file: Path, **kinds: type) -> list[Any]:
    """Values of a pickled dictionary, by their keys and types."""
    content = unpickle_arrays(file)
    entries = {_text(key): value for key, value in content.items()} if isinstance(content, dict) else {}
    for name, kind in kinds.items():
        if not isinstance(entries.get(name), kind):
            raise UserError(f"{file} has no {kind.__name__} {name!r}; unpack the archive of CIFAR-10 again")
    return [entries[name] for name in kinds]


def _text(value: object) -> str:
    """A string, which Python 3 may have pickled as bytes."""
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
