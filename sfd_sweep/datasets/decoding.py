"""Images in the formats of the web, decoded to one array on several threads."""

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

from sfd_sweep.datasets.resizing import fit_image
from sfd_sweep.errors import UserError

T = TypeVar("T")

Encoded = bytes | Path | None
"""An image file's content, or its path; None stands for one that is missing."""
Fault = tuple[int, str]
"""The row of an image that cannot be used, and what is wrong with it."""

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
GREYSCALE = ("1", "L", "LA", "La")
DEEP = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
"""What Pillow raises at a file that is cut short, damaged, or too large to be honest."""
THREADS = 8  # more gain nothing: a good part of the work holds Python's lock
TASK = 64  # images; one alone is too little work to hand to a thread


def decode(
    images: Iterable[Encoded], count: int, *, size: int | None = None, threads: int | None = None
) -> tuple[NDArray[np.uint8], list[Fault]]:
    """All images as one array, and those that could not be decoded or are not of the same size as the first.

    They have one channel if all are greyscale, and are RGB otherwise; transparency is dropped, and a photograph that
    was taken sideways is turned upright.

    Args:
        images: read one after another, a few hundred in memory at a time.
        count: n, how many there are.
        size: each is made of size×size pixels (see `fit_image`); None leaves them as they are.
        threads: that decode; None is one for each core, up to eight.

    Returns:
        (n, C, H, W), and the faults in the images' order. What has a fault is black.
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


def refuse_faults(faults: Sequence[Fault], count: int, place: Callable[[int], str]) -> None:
    """Tell the first of the images that cannot be used, and how many there are.

    Args:
        faults: in any order; several may be of one image.
        count: of all images.
        place: names the place of an image, given its row.

    Raises:
        UserError: there is any fault.
    """
    if faults:
        row, what = min(faults)
        broken = len({row for row, _ in faults})
        raise UserError(f"{place(row)} {what}; {broken:,} of {count:,} images cannot be used: mend or remove them")


class _Pixels:
    """The pixels of all images. They have the first one's size, and one channel until an image with colours comes."""

    def __init__(self, count: int) -> None:
        self.array: NDArray[np.uint8] = np.empty((count, 0, 0, 0), np.uint8)

    def put(self, row: int, image: NDArray[np.uint8]) -> str | None:
        """Keep an image, (H, W) or (H, W, 3). Says what is wrong with it, if anything."""
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
    """An image of shape (H, W) or (H, W, 3), or what is wrong with it."""
    if encoded is None:
        return "holds no image"
    try:
        with Image.open(BytesIO(encoded) if isinstance(encoded, bytes) else encoded, formats=FORMATS) as image:
            if image.mode in DEEP:
                return "has more than 8 bits a channel"
            if "exif" in image.info:
                ImageOps.exif_transpose(image, in_place=True)
            image.info.pop("transparency", None)
            mode = "L" if image.mode in GREYSCALE else "RGB"
            plain = image if image.mode == mode else image.convert(mode)
            return np.asarray(plain if size is None else fit_image(plain, size))
    except BROKEN:
        return f"is no whole {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image"
