"""Images in Parquet files, in the manner of the Hugging Face hub.

A row has an image, struct{bytes, path}, and an integer label; the schema's metadata may name the classes.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sfd_sweep.datasets.image_files import Fault, decode, raise_faults
from sfd_sweep.datasets.stored import ImageArrays, StoredImages, choose, split_of_file
from sfd_sweep.errors import UserError, first_line

if TYPE_CHECKING:
    from pyarrow import DataType, Schema
    from pyarrow.parquet import ParquetFile

LABEL_COLUMNS = ("label", "labels", "fine_label", "class")
ROWS = 1024  # that are read at a time


def find(path: Path, split: str | None) -> StoredImages | None:
    """Return the images of a Parquet file, of a folder's, or of those in its one subfolder; None where there is none.

    A file belongs to the split that its name begins with, or to every one.

    Raises:
        UserError: there is no such split, or several subfolders have Parquet files.
    """
    if path.is_file():
        files = [path] if path.suffix.lower() == ".parquet" else []
        split = split or split_of_file(path.name)
    else:
        files = _files(path) or _files_of_subfolder(path)
    if not files:
        return None
    chosen = choose([(split_of_file(file.name), file) for file in files], split, path)
    return StoredImages("Parquet", chosen, partial(_read, chosen))


def find_unlabeled(path: Path) -> StoredImages | None:
    """Return the images of a Parquet file, or of a folder's, as one class; None where there is none.

    Labels are not needed, nor read.
    """
    files = tuple([path] if path.suffix.lower() == ".parquet" and path.is_file() else _files(path))
    read = partial(_read, files, labeled=False)
    return StoredImages("Parquet without labels", files, read) if files else None


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.parquet") if file.is_file())


def _files_of_subfolder(folder: Path) -> list[Path]:
    subsets = [subset for subset in sorted(folder.iterdir()) if subset.is_dir() and _files(subset)]
    if len(subsets) > 1:
        raise UserError(
            f"{folder} has Parquet files in {', '.join(subset.name for subset in subsets)}; name one, as {subsets[0]}"
        )
    return _files(subsets[0]) if subsets else []


@dataclass(frozen=True)
class _Table:
    """A Parquet file with one column of images, and one of labels if they are read."""

    file: Path
    rows: int
    image: str
    label: str | None
    class_names: tuple[str, ...] | None

    @classmethod
    def open(cls, file: Path, *, labeled: bool) -> _Table:
        with _opened(file) as content:
            schema, rows = content.schema_arrow, content.metadata.num_rows
        listed = ", ".join(f"{field.name} ({field.type})" for field in schema)
        images = [field.name for field in schema if _is_image(field.type)]
        if len(images) != 1:
            raise UserError(
                f"{file} has {len(images)} columns of images, struct<bytes, path>, and should have one; it has {listed}"
            )
        if not labeled:
            return cls(file, rows, images[0], None, ("",))
        labels = [field.name for field in schema if field.name in LABEL_COLUMNS]
        if len(labels) != 1:
            raise UserError(
                f"{file} should have one column of labels, named {', '.join(LABEL_COLUMNS)}; it has {listed}"
            )
        return cls(file, rows, images[0], labels[0], _class_names(schema, labels[0], file))

    def images(self, labels: list[NDArray[np.int64]]) -> Iterator[bytes | None]:
        """Yield the images' bytes by row, None for a missing one, and append their labels, -1 for a missing one."""
        from pyarrow import compute, int64

        columns = [f"{self.image}.bytes"] + ([self.label] if self.label else [])
        with _opened(self.file) as content:
            for batch in content.iter_batches(ROWS, columns=columns):
                if self.label:
                    numbers = compute.fill_null(batch.column(self.label).cast(int64()), -1)
                    labels.append(numbers.to_numpy(zero_copy_only=False))
                else:
                    labels.append(np.zeros(len(batch), np.int64))
                yield from compute.struct_field(batch.column(self.image), "bytes").to_pylist()


def _is_image(kind: DataType) -> bool:
    from pyarrow import types

    if not types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        return False
    content = kind.field("bytes").type
    return bool(types.is_binary(content) or types.is_large_binary(content))


def _class_names(schema: Schema, label: str, file: Path) -> tuple[str, ...] | None:
    """Return the names that the `datasets` library keeps in the metadata; None where it keeps none.

    Raises:
        UserError: the labels are no integers, or the metadata are broken.
    """
    from pyarrow import types

    kind = schema.field(label).type
    if not types.is_integer(kind):
        raise UserError(
            f"{file}: the labels in column {label!r} are {kind}, not integers; number the classes, for instance with "
            "class_encode_column of the `datasets` library"
        )
    written = (schema.metadata or {}).get(b"huggingface")
    if written is None:
        return None
    try:
        feature = json.loads(written)["info"]["features"][label]
        return tuple(map(str, feature["names"])) if feature["_type"] == "ClassLabel" else None
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"{file}: the schema's `huggingface` metadata does not describe column {label!r}; write the file again"
        ) from error


def _read(files: Sequence[Path], size: int | None, *, labeled: bool = True) -> ImageArrays:
    tables = [_Table.open(file, labeled=labeled) for file in files]
    for table in tables:
        if table.class_names != tables[0].class_names:
            raise UserError(f"{table.file} names other classes than {files[0]}; read files of one dataset alone")
    ends = list(accumulate(table.rows for table in tables))
    count = ends[-1]
    if not count:
        raise UserError(f"{files[0]} and what belongs to it hold no row; give files with images")
    batches: list[NDArray[np.int64]] = []
    rows = (image for table in tables for image in table.images(batches))
    pixels, faults = decode(rows, count, size=size)
    labels, names = np.concatenate(batches), tables[0].class_names

    def place(row: int) -> str:
        index = bisect_right(ends, row)
        return f"{files[index]}: row {row - ends[index] + tables[index].rows} (from 0)"

    raise_faults([*faults, *_label_faults(labels, names)], count, place)
    return ImageArrays(pixels, labels, names)


def _label_faults(labels: NDArray[np.int64], names: tuple[str, ...] | None) -> list[Fault]:
    faults = [(int(row), "has a label that is missing or negative") for row in np.flatnonzero(labels < 0)]
    if names is not None:
        beyond = np.flatnonzero(labels >= len(names))
        faults += [(int(row), f"has label {labels[row]}, and {len(names)} classes have a name") for row in beyond]
    return faults


@contextmanager
def _opened(file: Path) -> Iterator[ParquetFile]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(file) as content:
            yield content
    except (ArrowException, OSError) as error:
        reason = first_line(error)
        raise UserError(f"{file} cannot be read as Parquet ({reason}); fetch it again") from error
