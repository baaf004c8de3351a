"""Images brought to a model's size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps


def fit_image(image: Image.Image, size: int) -> Image.Image:
    """The largest square in the middle of an image, as size×size pixels: bicubic, antialiased where it shrinks."""
    if image.size == (size, size):
        return image
    return ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)


def fit(pixels: NDArray[np.uint8], size: int | None) -> NDArray[np.uint8]:
    """Every image (n, C, H, W) as `fit_image` makes it, (n, C, size, size); as it is if `size` is None."""
    if size is None or pixels.shape[2:] == (size, size):
        return pixels
    fitted = np.empty((*pixels.shape[:2], size, size), np.uint8)
    for row, image in enumerate(pixels):
        for channel, values in enumerate(image):  # each channel by itself is what Pillow does too
            fitted[row, channel] = np.asarray(fit_image(Image.fromarray(values), size))
    return fitted
