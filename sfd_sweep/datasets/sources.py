"""Real images, loaded from where they are."""

from __future__ import annotations

import torch

from sfd_sweep.datasets.class_names import name_classes
from sfd_sweep.datasets.finding import find_images
from sfd_sweep.datasets.images import LabeledImages


def load_images(source: str, *, class_names: tuple[str, ...] | None = None, size: int | None = None) -> LabeledImages:
    """The real images of a source (see `find_images`).

    Args:
        source: `builtin:digits`, PATH[:SPLIT] or a hub dataset OWNER/NAME[:SPLIT].
        class_names: a model's, by index; the labels become indices into them.
        size: images of another size are made of size×size pixels: scaled (bicubic, antialiased) by their shorter side,
            and the middle taken. Without it all must be of one size.

    Raises:
        UserError: there are no images, some are broken, or they are not of these classes.
    """
    pictures = find_images(source).read(size)
    labels, names = name_classes(pictures.labels, pictures.class_names, class_names)
    return LabeledImages(torch.from_numpy(pictures.pixels), torch.from_numpy(labels), names, pictures.levels)
