"""Real images without labels, such as COCO's, for references of quality."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from sfd_sweep.datasets import image_folder, parquet
from sfd_sweep.datasets.decoding import decode, refuse_faults
from sfd_sweep.errors import UserError


@dataclass(frozen=True)
class UnlabelledImages:
    """Images alone.

    Attributes:
        pixels: (n, C, H, W), uint8 from 0 to `levels` - 1.
        levels: how many values a pixel can have.
    """

    pixels: Tensor
    levels: int = 256

    @property
    def count(self) -> int:
        """n."""
        return len(self.pixels)

    def batches(self, size: int) -> Iterator[Tensor]:
        """All images in order, (at most `size`, C, H, W), float32 in [-1, 1]."""
        for pixels in self.pixels.split(size):
            yield pixels.float() / ((self.levels - 1) / 2) - 1

    def content_hash(self) -> str:
        """The same for the same images in the same order."""
        content = hashlib.sha256(repr((tuple(self.pixels.shape), self.levels)).encode())
        for image in self.pixels:
            content.update(image.numpy().tobytes())
        return content.hexdigest()


def load_unlabelled_images(source: str, *, size: int, limit: int | None = None) -> UnlabelledImages:
    """The images of a Parquet file or a folder of them, or else all image files below a folder, by path.

    Args:
        source: PATH; Parquet files have one column struct{bytes, path}, and need no labels.
        size: the largest square in the middle of each is made of size×size pixels (bicubic, antialiased).
        limit: how many to read at most, the first ones.

    Raises:
        UserError: there are no images, or some are broken.
    """
    path = Path(source).expanduser()
    tables = [path] if path.suffix.lower() == ".parquet" and path.is_file() else sorted(path.glob("*.parquet"))
    if tables:
        return _of_tables(tables, size, limit)
    files = [file for file in sorted(path.rglob("*")) if _is_image(file, path)][:limit]
    if not files:
        raise UserError(f"there are no images at {path}; give a folder with image files, or Parquet files with images")
    pixels, faults = decode(files, len(files), size=size)
    refuse_faults(faults, len(files), lambda row: str(files[row]))
    return UnlabelledImages(torch.from_numpy(pixels))


def _is_image(file: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
    return file.suffix.lower() in image_folder.ENDINGS and not hidden and file.is_file()


def _of_tables(files: Sequence[Path], size: int, limit: int | None) -> UnlabelledImages:
    places = [(file, row) for file in files for row in range(parquet.count_rows(file))][:limit]
    if not places:
        raise UserError(f"{files[0]} and what belongs to it hold no row; give files with images")
    images = (image for file in files for image in parquet.read_images(file))
    pixels, faults = decode(islice(images, len(places)), len(places), size=size)
    refuse_faults(faults, len(places), lambda row: f"{places[row][0]}: row {places[row][1]} (from 0)")
    return UnlabelledImages(torch.from_numpy(pixels))
