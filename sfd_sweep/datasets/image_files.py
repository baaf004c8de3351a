"""Image files: folders of them, and their decoding to one array on several threads.

A labeled folder is ROOT/CLASS/*.png, or ROOT/train/CLASS/*.png and ROOT/test/CLASS/*.png.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sfd_sweep.datasets.stored import ALL, ImageArrays, StoredImages, choose, split_called
from sfd_sweep.errors import UserError

T = TypeVar("T")

Encoded = bytes | Path | None
"""An image file's content, or its path; None stands for one that is missing."""
Fault = tuple[int, str]
"""The row of an image that cannot be used, and the reason."""

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
GRAYSCALE = ("1", "L", "LA", "La")
DEEP = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
"""What Pillow raises at a file that is cut short, damaged, or decompresses to an absurd size."""
THREADS = 8  # more gain nothing: Python's lock covers a large part of the work
TASK = 64  # images; one alone is too little work for a thread


def find(path: Path, split: str | None) -> StoredImages | None:
    """Return the images in the folders of classes below a path; None where there are none.

    The classes are those of all splits together, sorted by name.

    Raises:
        UserError: there is no such split.
    """
    if not path.is_dir():
        return None
    parts = [(split_called(folder.name), _classes(folder)) for folder in _folders(path)]
    parts = [(name, classes) for name, classes in parts if name and classes] or [(None, _classes(path))]
    names = tuple(sorted({folder.name for _, classes in parts for folder in classes}))
    if not names:
        return None
    if parts[0][0] is None and split not in (None, ALL):
        raise UserError(f"{path} has no folders train and test, so no split {split!r}; leave out :{split}")
    folders = [folder for classes in choose(parts, split, path) for folder in classes]
    images = [(file, names.index(folder.name)) for folder in folders for file in _images(folder)]
    files, labels = zip(*images, strict=True)
    return StoredImages(f"image files of {len(names)} classes", files, partial(_read, files, labels, names))


def find_unlabeled(path: Path) -> StoredImages | None:
    """Return the images below a folder, by path, as one class; None where there are none."""
    files = tuple(file for file in sorted(path.rglob("*")) if _is_image(file, path))
    read = partial(_read, files, (0,) * len(files), ("",))
    return StoredImages("image files without labels", files, read) if files else None


def _folders(folder: Path) -> list[Path]:
    return sorted(inner for inner in folder.iterdir() if inner.is_dir() and not inner.name.startswith("."))


def _classes(part: Path) -> list[Path]:
    """Return the folders with images; none if the part has images itself, as it is a class then."""
    return [] if _images(part) else [folder for folder in _folders(part) if _images(folder)]


def _images(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if _is_image(file, folder))


def _is_image(file: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
    return file.suffix.lower() in ENDINGS and not hidden and file.is_file()


def _read(files: Sequence[Path], labels: Sequence[int], names: tuple[str, ...], size: int | None) -> ImageArrays:
    pixels, faults = decode(files, len(files), size=size)
    raise_faults(faults, len(files), lambda row: str(files[row]))
    return ImageArrays(pixels, np.array(labels, np.int64), names)


def decode(
    images: Iterable[Encoded], count: int, *, size: int | None = None, threads: int | None = None
) -> tuple[NDArray[np.uint8], list[Fault]]:
    """Decode images into one array, and list those that are broken or are not of the first one's size.

    The array has one channel if all are grayscale, and is RGB otherwise. Transparency is dropped, and the orientation
    that a camera recorded is applied.

    Args:
        images: read one after another, a few hundred in memory at a time.
        count: n, how many there are.
        size: each is fitted to size×size pixels (see `fit_image`); None leaves them as they are.
        threads: None is one for each core, up to eight.

    Returns:
        (n, C, H, W), and the faults in the images' order. An image with a fault is black.
    """
    pixels, faults = _Pixels(count), []
    threads = threads or min(os.cpu_count() or 1, THREADS)
    with ThreadPoolExecutor(threads) as pool:
        row = 0
        for tasks in _in_lists(_in_lists(images, TASK), 2 * threads):  # two each: none waits for the slowest
            for done in pool.map(partial(_decode_some, size=size), tasks):
                for image in done:
                    fault = image if isinstance(image, str) else pixels.put(row, image)
                    if fault is not None:
                        faults.append((row, fault))
                    row += 1
    return pixels.array, faults


def raise_faults(faults: Sequence[Fault], count: int, place: Callable[[int], str]) -> None:
    """Report the first image that cannot be used, and how many there are.

    Args:
        faults: in any order; several may be of one image.
        count: of all images.
        place: returns the name of an image's place, given its row.

    Raises:
        UserError: there is any fault.
    """
    if faults:
        row, reason = min(faults)
        broken = len({row for row, _ in faults})
        raise UserError(f"{place(row)} {reason}; {broken:,} of {count:,} images cannot be used: mend or remove them")


class _Pixels:
    """The pixels of all images, in the first one's size, with one channel until a colored image comes."""

    def __init__(self, count: int) -> None:
        self.array: NDArray[np.uint8] = np.empty((count, 0, 0, 0), np.uint8)

    def put(self, row: int, image: NDArray[np.uint8]) -> str | None:
        """Store an image, (H, W) or (H, W, 3), or return what is wrong with it."""
        count, channels, height, width = self.array.shape
        if channels == 0:
            height, width = image.shape[:2]
            self.array = np.zeros((count, 1 if image.ndim == 2 else 3, height, width), np.uint8)
        if image.shape[:2] != (height, width):
            return f"is an image of {image.shape[1]}×{image.shape[0]} pixels, and the first has {width}×{height}"
        if image.ndim == 3 and channels == 1:
            self.array = self.array.repeat(3, axis=1)
        self.array[row] = image if image.ndim == 2 else image.transpose(2, 0, 1)
        return None


def _in_lists(items: Iterable[T], length: int) -> Iterator[list[T]]:
    rest = iter(items)
    while some := list(islice(rest, length)):
        yield some


def _decode_some(images: Sequence[Encoded], size: int | None) -> list[NDArray[np.uint8] | str]:
    return [_decode(image, size) for image in images]


def _decode(encoded: Encoded, size: int | None) -> NDArray[np.uint8] | str:
    """Return an image of shape (H, W) or (H, W, 3), or what is wrong with it."""
    if encoded is None:
        return "holds no image"
    try:
        with Image.open(BytesIO(encoded) if isinstance(encoded, bytes) else encoded, formats=FORMATS) as image:
            if image.mode in DEEP:
                return "has more than 8 bits a channel"
            if "exif" in image.info:
                ImageOps.exif_transpose(image, in_place=True)
            image.info.pop("transparency", None)
            mode = "L" if image.mode in GRAYSCALE else "RGB"
            plain = image if image.mode == mode else image.convert(mode)
            return np.asarray(plain if size is None else fit_image(plain, size))
    except BROKEN:
        return f"is no whole {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image"


def fit_image(image: Image.Image, size: int) -> Image.Image:
    """Crop an image to the largest square in its middle, and scale it to size×size pixels: bicubic, antialiased."""
    if image.size == (size, size):
        return image
    return ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)


def fit(pixels: NDArray[np.uint8], size: int | None) -> NDArray[np.uint8]:
    """Fit every image of (n, C, H, W) as `fit_image` does; None leaves them as they are."""
    if size is None or pixels.shape[2:] == (size, size):
        return pixels
    fitted = np.empty((*pixels.shape[:2], size, size), np.uint8)
    for row, image in enumerate(pixels):
        for channel, values in enumerate(image):  # Pillow too scales each channel by itself
            fitted[row, channel] = np.asarray(fit_image(Image.fromarray(values), size))
    return fitted
