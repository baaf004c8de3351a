"""Real images without labels, such as COCO's, for references of quality."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sfd_sweep.datasets import parquet
from sfd_sweep.datasets.decoding import decode, refuse_faults
from sfd_sweep.datasets.finding import find_unlabelled_images
from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.errors import UserError


def load_unlabelled_images(source: str, *, size: int, limit: int | None = None) -> LabeledImages:
    """The images of a Parquet file or a folder of them, or else all image files below a folder, by path: as one class.

    Args:
        source: PATH; Parquet files have one column struct{bytes, path}, and need no labels.
        size: the largest square in the middle of each is made of size×size pixels (bicubic, antialiased).
        limit: how many to read at most, the first ones.

    Raises:
        UserError: there are no images, or some are broken.
    """
    files = find_unlabelled_images(source)
    if files[0].suffix.lower() == ".parquet":
        return _of_tables(files, size, limit)
    pictures = files[:limit]
    pixels, faults = decode(pictures, len(pictures), size=size)
    refuse_faults(faults, len(pictures), lambda row: str(pictures[row]))
    return _of_one_class(pixels)


def _of_tables(files: Sequence[Path], size: int, limit: int | None) -> LabeledImages:
    places = [(file, row) for file in files for row in range(parquet.count_rows(file))][:limit]
    if not places:
        raise UserError(f"{files[0]} and what belongs to it hold no row; give files with images")
    images = (image for file in files for image in parquet.read_images(file))
    pixels, faults = decode(islice(images, len(places)), len(places), size=size)
    refuse_faults(faults, len(places), lambda row: f"{places[row][0]}: row {places[row][1]} (from 0)")
    return _of_one_class(pixels)


def _of_one_class(pixels: NDArray[np.uint8]) -> LabeledImages:
    return LabeledImages(torch.from_numpy(pixels), torch.zeros(len(pixels), dtype=torch.int64), ("",))
