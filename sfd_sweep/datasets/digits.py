"""The handwritten digits that come with scikit-learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sfd_sweep.datasets.resizing import fit
from sfd_sweep.datasets.stored import Pictures, StoredImages

LEVELS = 17
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def digits() -> StoredImages:
    """The 1,797 handwritten digits of 8×8 pixels (E. Alpaydin and C. Kaynak, UCI, 1998).

    A pixel counts the dark ones, 0 to 16, in a 4×4 block of a bitmap: 17 levels.
    """
    return StoredImages("1,797 handwritten digits of 8×8 pixels, from scikit-learn", (), _read)


def digits_in_words() -> StoredImages:
    """The same, their classes called zero to nine, as in captions."""
    return StoredImages(
        "1,797 handwritten digits of 8×8 pixels, called zero to nine, from scikit-learn",
        (),
        lambda size: replace(_read(size), class_names=WORDS),
    )


def _read(size: int | None) -> Pictures:
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels = fit(data.images.astype(np.uint8)[:, None], size)
    return Pictures(
        pixels=np.minimum(pixels, LEVELS - 1),  # a bicubic curve overshoots at an edge
        labels=data.target.astype(np.int64),
        class_names=tuple(str(name) for name in data.target_names),
        levels=LEVELS,
    )
