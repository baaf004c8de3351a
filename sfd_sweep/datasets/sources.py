"""Loading of real images into memory."""

from __future__ import annotations

import torch

from sfd_sweep.datasets.finding import find_images, find_unlabeled_images
from sfd_sweep.datasets.images import LabeledImages
from sfd_sweep.datasets.labels import name_classes


def load_images(source: str, *, class_names: tuple[str, ...] | None = None, size: int | None = None) -> LabeledImages:
    """Load the real images of a source (see `find_images`).

    Args:
        source: of images with labels.
        class_names: a model's, by index; the labels become indices into them.
        size: images of another size are cropped to their middle square and scaled (bicubic, antialiased) to size×size
            pixels. Without it all must be of one size.

    Raises:
        UserError: there are no images, some are broken, or they are not of these classes.
    """
    arrays = find_images(source).read(size)
    labels, names = name_classes(arrays.labels, arrays.class_names, class_names)
    return LabeledImages(torch.from_numpy(arrays.pixels), torch.from_numpy(labels), names, arrays.levels)


def load_unlabeled_images(source: str, *, size: int) -> LabeledImages:
    """Load real images without labels, such as COCO's, as one class (see `find_unlabeled_images`).

    Raises:
        UserError: there are no images, or some are broken.
    """
    arrays = find_unlabeled_images(source).read(size)
    return LabeledImages(torch.from_numpy(arrays.pixels), torch.from_numpy(arrays.labels), ("",))
