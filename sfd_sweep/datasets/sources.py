"""Where real images come from."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase

import torch

from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.errors import UserError


def _load_digits(_source: str) -> LabeledImages:
    """The 1,797 handwritten digits of 8×8 pixels that scikit-learn carries (E. Alpaydin and C. Kaynak, UCI, 1998).

    A pixel counts the dark ones, 0 to 16, in a 4×4 block of a bitmap: 17 levels.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    return LabeledImages(
        pixels=torch.tensor(digits.images, dtype=torch.uint8).unsqueeze(1),
        labels=torch.tensor(digits.target, dtype=torch.int64),
        class_names=tuple(str(name) for name in digits.target_names),
        levels=17,
    )


SOURCES: dict[str, Callable[[str], LabeledImages]] = {"builtin:digits": _load_digits}
"""What loads a source, by the pattern (of shell wildcards) that its name matches; the first match loads it."""


def load_images(source: str, *, class_names: tuple[str, ...] | None = None, size: int | None = None) -> LabeledImages:
    """The real images of a source.

    Raises:
        UserError: no such source is known.
    """
    for pattern, load in SOURCES.items():
        if fnmatchcase(source, pattern):
            return load(source)
    raise UserError(f"there are no images to load from {source!r}; give one of: {', '.join(SOURCES)}")
