"""Finding of real images: what a source is, and which files would be read. No image is read, and no torch imported."""

from __future__ import annotations

from pathlib import Path

from sfd_sweep.datasets import image_files, parquet
from sfd_sweep.datasets.named_datasets import digits, digits_in_words, find_cifar10, find_stl10
from sfd_sweep.datasets.stored import StoredImages, parse_source
from sfd_sweep.errors import UserError
from sfd_sweep.hub import fetch, is_hub_id

BUILTIN_IMAGES = {"builtin:digits": digits, "builtin:digits-in-words": digits_in_words}
FINDERS = (find_cifar10, find_stl10, parquet.find, image_files.find)
KNOWN = (
    "builtin:digits, Parquet files with images, the folder of CIFAR-10 or STL-10, a folder of CLASS/*.png, or a "
    "dataset's hub id (owner/name)"
)


def find_images(source: str) -> StoredImages:
    """Return the images of a source: `builtin:digits`, PATH[:SPLIT] or a hub dataset OWNER/NAME[:SPLIT].

    A path may be a Parquet file or a folder of them, `cifar-10-batches-bin`, `cifar-10-batches-py` or `stl10_binary`
    (or the folder around it), or a folder of image files with a folder for each class. SPLIT is train, validation, test
    or all; by default train where there are splits.

    Raises:
        UserError: the source is of no known kind, or the hub cannot be reached.
    """
    if source.startswith("builtin:"):
        if source not in BUILTIN_IMAGES:
            raise UserError(f"there are no images to load from {source!r}; give one of: {', '.join(BUILTIN_IMAGES)}")
        return BUILTIN_IMAGES[source]()
    name, split = parse_source(source)
    path = Path(name).expanduser()
    if not path.exists() and is_hub_id(name):
        path = fetch(name, kind="dataset", files=["*.parquet"])
    if not path.exists():
        raise UserError(f"there is nothing at {path}; give {KNOWN}")
    for find in FINDERS:
        found = find(path, split)
        if found is not None:
            return found
    raise UserError(f"there are no images at {path}, or not in a known form; give {KNOWN}")


def find_unlabeled_images(source: str) -> StoredImages:
    """Return the images of a Parquet file or a folder of them, or else all image files below a folder, as one class.

    Args:
        source: PATH; Parquet files have one column struct{bytes, path}.

    Raises:
        UserError: there are none.
    """
    path = Path(source).expanduser()
    found = parquet.find_unlabeled(path) or image_files.find_unlabeled(path)
    if found is None:
        raise UserError(f"there are no images at {path}; give a folder with image files, or Parquet files with images")
    return found
