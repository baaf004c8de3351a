"""Image files in a folder for each class: ROOT/CLASS/*.png, or ROOT/train/CLASS/*.png and ROOT/test/CLASS/*.png."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from sfd_sweep.datasets.decoding import decode, refuse_faults
from sfd_sweep.datasets.splits import ALL, choose, split_called
from sfd_sweep.datasets.stored import Pictures, StoredImages
from sfd_sweep.errors import UserError

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def find(path: Path, split: str | None) -> StoredImages | None:
    """The images in the folders of classes below a path; None where there are none.

    The classes are all that any split has, sorted by name.

    Raises:
        UserError: there is no such split.
    """
    if not path.is_dir():
        return None
    parts = [(split_called(part.name), part) for part in _folders(path) if split_called(part.name) and _classes(part)]
    parts = parts or [(None, path)]
    names = tuple(sorted({folder.name for _, part in parts for folder in _classes(part)}))
    if not names:
        return None
    if parts == [(None, path)] and split not in (None, ALL):
        raise UserError(f"{path} has no folders train and test, so no split {split!r}; leave out :{split}")
    folders = [folder for part in choose(parts, split, path) for folder in _classes(part)]
    images = [(file, names.index(folder.name)) for folder in folders for file in _images(folder)]
    files, labels = zip(*images, strict=True)
    return StoredImages(f"image files of {len(names)} classes", files, partial(_read, files, labels, names))


def _folders(folder: Path) -> list[Path]:
    return sorted(inner for inner in folder.iterdir() if inner.is_dir() and not inner.name.startswith("."))


def _classes(part: Path) -> list[Path]:
    """The folders with images; none if the part has images itself, as it is a class then."""
    return [] if _images(part) else [folder for folder in _folders(part) if _images(folder)]


def _images(folder: Path) -> list[Path]:
    files = (file for file in folder.iterdir() if file.suffix.lower() in ENDINGS)
    return sorted(file for file in files if not file.name.startswith(".") and file.is_file())


def _read(files: Sequence[Path], labels: Sequence[int], names: tuple[str, ...], size: int | None) -> Pictures:
    pixels, faults = decode(files, len(files), size=size)
    refuse_faults(faults, len(files), lambda row: str(files[row]))
    return Pictures(pixels, np.array(labels, np.int64), names)
