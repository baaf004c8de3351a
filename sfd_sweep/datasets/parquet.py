"""Images in Parquet files, in the manner of the Hugging Face hub.

A row has an image, struct{bytes, path}, and an integer label; the schema's metadata may name the classes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sfd_sweep.datasets.decoding import Fault, decode, refuse_faults
from sfd_sweep.datasets.splits import choose, split_of_file
from sfd_sweep.datasets.stored import Pictures, StoredImages
from sfd_sweep.errors import UserError

if TYPE_CHECKING:
    from pyarrow import Schema

LABEL_COLUMNS = ("label", "labels", "fine_label", "class")
ROWS = 1024  # that are read at a time


def find(path: Path, split: str | None) -> StoredImages | None:
    """The images of a Parquet file, of a folder's, or of those in its one subfolder; None where there is none.

    A file belongs to the split that its name begins with, or to every one.

    Raises:
        UserError: there is no such split, or several subfolders have Parquet files.
    """
    if path.is_file():
        files = [path] if path.suffix.lower() == ".parquet" else []
        split = split or split_of_file(path.name)
    else:
        files = _files(path) or _files_below(path)
    if not files:
        return None
    chosen = choose([(split_of_file(file.name), file) for file in files], split, path)
    return StoredImages("Parquet", chosen, partial(_read, chosen))


def count_rows(file: Path) -> int:
    """How many rows a file has.

    Raises:
        UserError: it is no whole Parquet file.
    """
    from pyarrow.parquet import ParquetFile

    with _readable(file), ParquetFile(file) as table:
        return int(table.metadata.num_rows)


def read_images(file: Path) -> Iterator[bytes | None]:
    """The images' bytes, row by row; None for a missing one. Labels are not needed, nor read.

    Raises:
        UserError: it is no whole Parquet file, or has no column of images or several.
    """
    from pyarrow import compute
    from pyarrow.parquet import ParquetFile

    with _readable(file), ParquetFile(file) as table:
        image = _image_column(table.schema_arrow, file)
        for batch in table.iter_batches(ROWS, columns=[f"{image}.bytes"]):
            yield from compute.struct_field(batch.column(image), "bytes").to_pylist()


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.parquet") if file.is_file())


def _files_below(folder: Path) -> list[Path]:
    """The files of `data/`, or of the subset that the one subfolder is."""
    subsets = [subset for subset in sorted(folder.iterdir()) if subset.is_dir() and _files(subset)]
    if len(subsets) > 1:
        raise UserError(
            f"{folder} has Parquet files in {', '.join(subset.name for subset in subsets)}; name one, as {subsets[0]}"
        )
    return _files(subsets[0]) if subsets else []


@dataclass(frozen=True)
class _Columns:
    """What a file's schema says."""

    image: str
    label: str
    class_names: tuple[str, ...] | None

    @classmethod
    def of(cls, schema: Schema, file: Path) -> _Columns:
        from pyarrow import types

        listed = ", ".join(f"{field.name} ({field.type})" for field in schema)
        image = _image_column(schema, file)
        labels = [field for field in schema if field.name in LABEL_COLUMNS]
        if len(labels) != 1:
            raise UserError(
                f"{file} should have one column of labels, named {', '.join(LABEL_COLUMNS)}; it has {listed}"
            )
        if not types.is_integer(labels[0].type):
            raise UserError(
                f"{file}: the labels in column {labels[0].name!r} are {labels[0].type}, not integers; number the "
                "classes, for instance with class_encode_column of the `datasets` library"
            )
        return cls(image, labels[0].name, _class_names(schema, labels[0].name, file))


def _image_column(schema: Schema, file: Path) -> str:
    images = [str(field.name) for field in schema if _is_image(field.type)]
    if len(images) != 1:
        listed = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise UserError(
            f"{file} has {len(images)} columns of images, struct<bytes, path>, and should have one; it has {listed}"
        )
    return images[0]


def _is_image(kind: Any) -> bool:
    from pyarrow import types

    if not types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        return False
    content = kind.field("bytes").type
    return bool(types.is_binary(content) or types.is_large_binary(content))


def _class_names(schema: Schema, label: str, file: Path) -> tuple[str, ...] | None:
    """The names that the `datasets` library keeps in the metadata; None where it keeps none."""
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


def _read(files: Sequence[Path], size: int | None) -> Pictures:
    from pyarrow.parquet import ParquetFile

    columns, counts = [], []
    for file in files:
        with _readable(file), ParquetFile(file) as table:
            columns.append(_Columns.of(table.schema_arrow, file))
            counts.append(table.metadata.num_rows)
        if columns[-1].class_names != columns[0].class_names:
            raise UserError(f"{file} names other classes than {files[0]}; read files of one dataset alone")
    count = sum(counts)
    if not count:
        raise UserError(f"{files[0]} and what belongs to it hold no row; give files with images")
    labels: list[NDArray[np.int64]] = []
    rows = (image for file, own in zip(files, columns, strict=True) for image in _rows(file, own, labels))
    pixels, faults = decode(rows, count, size=size)
    names, together = columns[0].class_names, np.concatenate(labels)
    ends = list(accumulate(counts))

    def place(row: int) -> str:
        index = next(index for index, end in enumerate(ends) if row < end)
        return f"{files[index]}: row {row - ends[index] + counts[index]} (from 0)"

    refuse_faults([*faults, *_label_faults(together, names)], count, place)
    return Pictures(pixels, together, names)


def _rows(file: Path, columns: _Columns, labels: list[NDArray[np.int64]]) -> Iterator[bytes | None]:
    """The images' bytes, row by row. Their labels are appended as they come; -1 stands for a missing one."""
    from pyarrow import compute, int64
    from pyarrow.parquet import ParquetFile

    with _readable(file), ParquetFile(file) as table:
        for batch in table.iter_batches(ROWS, columns=[f"{columns.image}.bytes", columns.label]):
            numbers = compute.fill_null(batch.column(columns.label).cast(int64()), -1)
            labels.append(numbers.to_numpy(zero_copy_only=False))
            yield from compute.struct_field(batch.column(columns.image), "bytes").to_pylist()


def _label_faults(labels: NDArray[np.int64], names: tuple[str, ...] | None) -> list[Fault]:
    faults = [(int(row), "has a label that is missing or negative") for row in np.flatnonzero(labels < 0)]
    if names is not None:
        beyond = np.flatnonzero(labels >= len(names))
        faults += [(int(row), f"has label {labels[row]}, and {len(names)} classes have a name") for row in beyond]
    return faults


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    from pyarrow import ArrowException

    try:
        yield
    except (ArrowException, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{file} cannot be read as Parquet ({reason}); fetch it again") from error
