"""What a source of real images is, found without reading an image. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from sfd_sweep.datasets import cifar10, image_folder, parquet, stl10
from sfd_sweep.datasets.digits import digits, digits_in_words
from sfd_sweep.datasets.splits import parse
from sfd_sweep.datasets.stored import StoredImages
from sfd_sweep.errors import UserError
from sfd_sweep.hub import fetch, is_hub_id

BUILTIN_IMAGES = {"builtin:digits": digits, "builtin:digits-in-words": digits_in_words}
FINDERS = (cifar10.find, stl10.find, parquet.find, image_folder.find)
KNOWN = (
    "builtin:digits, Parquet files with images, the folder of CIFAR-10 or STL-10, a folder of CLASS/*.png, or a "
    "dataset's hub id (owner/name)"
)


def find_images(source: str) -> StoredImages:
    """The images of a source: `builtin:digits`, PATH[:SPLIT] or a hub dataset OWNER/NAME[:SPLIT].

    A path may be a Parquet file or a folder of them, `cifar-10-batches-bin`, `cifar-10-batches-py` or `stl10_binary`
    (or the folder around it), or a folder of image files with a folder for each class. SPLIT is train, validation, test
    or all; train is meant where there are splits and none is named.

    Raises:
        UserError: nothing of the kind is there, or the hub cannot be reached.
    """
    if source.startswith("builtin:"):
        if source not in BUILTIN_IMAGES:
            raise UserError(f"there are no images to load from {source!r}; give one of: {', '.join(BUILTIN_IMAGES)}")
        return BUILTIN_IMAGES[source]()
    name, split = parse(source)
    path = Path(name).expanduser()
    if not path.exists() and is_hub_id(name):
        path = fetch(name, kind="dataset", files=["*.parquet"])
    if not path.exists():
        raise UserError(f"there is nothing at {path}; give {KNOWN}")
    for find in FINDERS:
        found = find(path, split)
        if found is not None:
            return found
    raise UserError(f"there are no images at {path}, or not in a form that is known here; give {KNOWN}")


def find_unlabelled_images(source: str) -> tuple[Path, ...]:
    """The Parquet files or image files of a source (see `load_unlabelled_images`), none of which is opened.

    Raises:
        UserError: there are none.
    """
    path = Path(source).expanduser()
    tables = [path] if path.suffix.lower() == ".parquet" and path.is_file() else sorted(path.glob("*.parquet"))
    files = tables or [file for file in sorted(path.rglob("*")) if _is_image(file, path)]
    if not files:
        raise UserError(f"there are no images at {path}; give a folder with image files, or Parquet files with images")
    return tuple(files)


def describe(source: str) -> str:
    """A line on what a source is and which files would be read, for the plan of a run.

    Raises:
        UserError: see `find_images`.
    """
    return find_images(source).describe()


def describe_unlabelled(source: str) -> str:
    """The same line on a source of images without labels.

    Raises:
        UserError: see `find_unlabelled_images`.
    """
    files = find_unlabelled_images(source)
    return f"{len(files):,} file(s) without labels: {files[0]}{', …' if len(files) > 1 else ''}"


def _is_image(file: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
    return file.suffix.lower() in image_folder.ENDINGS and not hidden and file.is_file()
