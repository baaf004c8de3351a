"""Datasets that are known by name: scikit-learn's digits, and CIFAR-10 and STL-10 as their authors pack them."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfd_sweep.datasets.image_files import fit
from sfd_sweep.datasets.stored import ImageArrays, StoredImages, choose
from sfd_sweep.errors import UserError

DIGITS_LEVELS = 17
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

_Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images (n, C, H, W) and labels (n,), from 0, of one file."""


def digits() -> StoredImages:
    """Return the 1,797 handwritten digits of 8×8 pixels (E. Alpaydin and C. Kaynak, UCI, 1998).

    A pixel counts the dark ones, 0 to 16, in a 4×4 block of a bitmap: 17 levels.
    """
    return StoredImages("1,797 handwritten digits of 8×8 pixels, from scikit-learn", (), _read_digits)


def digits_in_words() -> StoredImages:
    """Return the same digits with the classes zero to nine, as captions name them."""
    kind = "1,797 handwritten digits of 8×8 pixels, called zero to nine, from scikit-learn"
    return StoredImages(kind, (), partial(_read_digits, names=WORDS))


def _read_digits(size: int | None, names: tuple[str, ...] | None = None) -> ImageArrays:
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels = fit(data.images.astype(np.uint8)[:, None], size)
    return ImageArrays(
        pixels=np.minimum(pixels, DIGITS_LEVELS - 1),  # a bicubic curve overshoots at an edge
        labels=data.target.astype(np.int64),
        class_names=names or tuple(map(str, data.target_names)),
        levels=DIGITS_LEVELS,
    )


CIFAR10_SHAPE = (3, 32, 32)
CIFAR10_PIXELS = 3 * 32 * 32
CIFAR10_PARTS = (*(("train", f"data_batch_{number}") for number in range(1, 6)), ("test", "test_batch"))
CIFAR10_FORMS = (
    ("binary", "cifar-10-batches-bin", ".bin", "batches.meta.txt"),
    ("Python", "cifar-10-batches-py", "", "batches.meta"),
)
"""What the forms are called, their folder, how a batch's name ends, and the file with the names of the classes."""


def find_cifar10(path: Path, split: str | None) -> StoredImages | None:
    """Return CIFAR-10 (A. Krizhevsky, 2009) if the path is, or holds, one of its folders, else None.

    Raises:
        UserError: one of the files is missing, or there is no such split.
    """
    for form, inner, ending, names in CIFAR10_FORMS:
        for folder in (path, path / inner):
            parts = [(part, folder / f"{name}{ending}") for part, name in CIFAR10_PARTS]
            if any(file.is_file() for _, file in parts):
                batches = choose(parts, split, path)
                _check_files((folder / names, *batches), "CIFAR-10")
                return StoredImages(
                    f"CIFAR-10, {form} version", batches, partial(_read_cifar10, folder / names, batches)
                )
    return None


def _read_cifar10(names_file: Path, files: Sequence[Path], size: int | None) -> ImageArrays:
    is_binary = names_file.suffix == ".txt"
    names = _text_names(names_file) if is_binary else _pickled_names(names_file)
    batches = [_binary_batch(file) if is_binary else _pickled_batch(file) for file in files]
    for file, (_, labels) in zip(files, batches, strict=True):
        _check_labels(file, labels, first=0, classes=len(names))
    pixels = np.concatenate([pixels for pixels, _ in batches])
    return ImageArrays(fit(pixels, size), np.concatenate([labels for _, labels in batches]), names)


def _text_names(file: Path) -> tuple[str, ...]:
    return tuple(file.read_text(encoding="utf-8").split())


def _binary_batch(file: Path) -> _Batch:
    """Read records of a label's byte and the pixels'."""
    content = np.fromfile(file, np.uint8)
    if not len(content) or len(content) % (1 + CIFAR10_PIXELS):
        raise UserError(
            f"{file} has {len(content):,} bytes, no multiple of {1 + CIFAR10_PIXELS}; unpack the archive again"
        )
    records = content.reshape(-1, 1 + CIFAR10_PIXELS)
    return records[:, 1:].reshape(-1, *CIFAR10_SHAPE), records[:, 0].astype(np.int64)


def _pickled_names(file: Path) -> tuple[str, ...]:
    names = _pickled_dictionary(file).get("label_names")
    if not isinstance(names, list):
        raise UserError(f"{file} has no list label_names; unpack the archive of CIFAR-10 again")
    return tuple(map(_text, names))


def _pickled_batch(file: Path) -> _Batch:
    content = _pickled_dictionary(file)
    pixels, labels = content.get("data"), content.get("labels")
    if not isinstance(labels, list) or not all(isinstance(label, int | np.integer) for label in labels):
        raise UserError(f"{file} has no list of integers, labels; unpack the archive of CIFAR-10 again")
    shape = len(labels), CIFAR10_PIXELS
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape != shape:
        raise UserError(f"{file} has no uint8 array of {shape} pixels, data; unpack the archive of CIFAR-10 again")
    return pixels.reshape(-1, *CIFAR10_SHAPE), np.array(labels, np.int64)


def _pickled_dictionary(file: Path) -> dict[str, Any]:
    content = unpickle_arrays(file)
    return {_text(key): value for key, value in content.items()} if isinstance(content, dict) else {}


def _text(value: object) -> str:
    """Return a string, which Python 3 may have pickled as bytes."""
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


_ARRAYS = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("_codecs", "encode"),  # Python 3 writes bytes for Python 2 by it
}
_MALFORMED = (pickle.UnpicklingError, EOFError, AttributeError, ImportError, LookupError, TypeError, ValueError)


def unpickle_arrays(file: Path) -> Any:
    """Read a pickle file of arrays, numbers, strings, and lists and dictionaries of these; no code in it is run.

    Text of Python 2 is read as Latin-1, as torchvision does.

    Raises:
        UserError: the file asks for anything else, or is no pickle file.
    """
    try:
        with file.open("rb") as stream:
            return _ArraysUnpickler(stream, encoding="latin1").load()
    except _ForbiddenGlobal as error:
        raise UserError(
            f"{file} asks for {error}, where only arrays belong: it was not read, as that may run foreign code; fetch "
            "it from a place that you trust"
        ) from error
    except _MALFORMED as error:
        raise UserError(f"{file} is no whole pickle file; fetch it again") from error


class _ArraysUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        module = module_name.replace("numpy.core", "numpy._core")  # NumPy 1's name
        if (module, global_name) not in _ARRAYS:
            raise _ForbiddenGlobal(f"{module_name}.{global_name}")
        return super().find_class(module, global_name)


class _ForbiddenGlobal(Exception):
    """A pickle asks for something other than arrays."""


STL10_SHAPE = (3, 96, 96)
STL10_PIXELS = 3 * 96 * 96
STL10_PARTS = ("train", "test")


def find_stl10(path: Path, split: str | None) -> StoredImages | None:
    """Return STL-10 (A. Coates, A. Ng and H. Lee, AISTATS 2011) if the path is, or holds, `stl10_binary`, else None.

    Its 100,000 unlabeled images are not used.

    Raises:
        UserError: one of the files is missing, or there is no such split.
    """
    for folder in (path, path / "stl10_binary"):
        if any((folder / f"{part}_X.bin").is_file() for part in STL10_PARTS):
            parts = choose([(part, part) for part in STL10_PARTS], split, path)
            files = tuple(folder / f"{part}_{letter}.bin" for part in parts for letter in "Xy")
            names = folder / "class_names.txt"
            _check_files((*files, names), "STL-10")
            return StoredImages("STL-10", files, partial(_read_stl10, names, files))
    return None


def _read_stl10(names_file: Path, files: Sequence[Path], size: int | None) -> ImageArrays:
    names = _text_names(names_file)
    batches = [_stl10_batch(*pair, len(names)) for pair in zip(files[::2], files[1::2], strict=True)]
    pixels = np.concatenate([fit(pixels, size) for pixels, _ in batches])
    return ImageArrays(pixels, np.concatenate([labels for _, labels in batches]), names)


def _stl10_batch(images: Path, labels: Path, classes: int) -> _Batch:
    """Read pixels, which are stored column by column, and labels, which are stored from 1."""
    content, numbers = np.fromfile(images, np.uint8), np.fromfile(labels, np.uint8)
    if not len(content) or len(content) != len(numbers) * STL10_PIXELS:
        raise UserError(
            f"{images} has {len(content):,} bytes, not the {STL10_PIXELS:,} an image of the {len(numbers):,} in "
            f"{labels}; unpack the archive again"
        )
    _check_labels(labels, numbers, first=1, classes=classes)
    return content.reshape(-1, *STL10_SHAPE).transpose(0, 1, 3, 2), numbers.astype(np.int64) - 1


def _check_files(files: Sequence[Path], dataset: str) -> None:
    for file in files:
        if not file.is_file():
            raise UserError(f"{file} is missing; unpack the archive of {dataset} again")


def _check_labels(file: Path, labels: NDArray[Any], *, first: int, classes: int) -> None:
    wrong = np.flatnonzero((labels < first) | (labels >= first + classes))
    if len(wrong):
        raise UserError(
            f"{file}: image {wrong[0]} (from 0) has label {labels[wrong[0]]}, not one from {first} to "
            f"{first + classes - 1}, of {classes} classes; {len(wrong):,} images have such labels, unpack the archive "
            "again"
        )
