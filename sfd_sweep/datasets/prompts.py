"""Prompts in files: one a line, a column of a table, or COCO's captions. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ValidationError

from sfd_sweep.config.config_errors import advice
from sfd_sweep.errors import UserError, first_line

COLUMNS = ("prompt", "caption", "text", "sentence")
TABLES = (".csv", ".parquet")


def names_concept(concept: str) -> re.Pattern[str]:
    """Return a pattern of a concept's name as whole words, in any case."""
    return re.compile(rf"(?<!\w){re.escape(concept)}(?!\w)", re.IGNORECASE)


def read_prompts(source: str) -> tuple[str, ...]:
    """Read the prompts of a file, each once, in order.

    Args:
        source: PATH of a text file with a prompt a line; or PATH[:COLUMN] of a CSV or Parquet file, by default the
            first column called prompt, caption, text or sentence; or PATH of a JSON file of captions as COCO's, of
            which the first of each image is taken.

    Raises:
        UserError: there is no such file or column, it cannot be read, or there is no prompt in it.
    """
    name, colon, column = source.rpartition(":")
    names_column = colon and Path(name).suffix.lower() in TABLES
    path = Path(name if names_column else source).expanduser()
    if not path.is_file():
        raise UserError(f"there is no file {path}; give one with a prompt a line, or a CSV or Parquet file")
    if path.suffix.lower() in TABLES:
        texts = _read_table(path, column if names_column else None)
    else:
        texts = _read_captions(path) if path.suffix.lower() == ".json" else _read_lines(path)
    prompts = tuple(dict.fromkeys(prompt for text in texts if (prompt := text.strip())))
    if not prompts:
        raise UserError(f"there is no prompt in {path}")
    return prompts


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text ({error})") from error


def _read_table(path: Path, column: str | None) -> list[str]:
    from pyarrow import ArrowInvalid, dataset, types

    form = path.suffix[1:].lower()
    try:
        table = dataset.dataset(path, format=form)
        name = _column(path, table.schema.names, column)
        kind = table.schema.field(name).type
        if not (types.is_null(kind) or types.is_string(kind) or types.is_large_string(kind)):
            raise UserError(f"{path}: the column {name} holds {kind}, and no text")
        return [text for text in table.to_table(columns=[name]).column(name).to_pylist() if text is not None]
    except (OSError, ArrowInvalid) as error:
        reason = first_line(error)
        raise UserError(f"{path} cannot be read as {form} ({reason})") from error


def _column(path: Path, names: Sequence[str], wanted: str | None) -> str:
    if wanted is not None:
        if wanted not in names:
            raise UserError(f"{path} has no column {wanted!r}{advice(wanted, names)}")
        return wanted
    found = [name for name in COLUMNS if name in names]
    if not found:
        raise UserError(
            f"{path} has no column {' or '.join(COLUMNS)}; name the one with prompts after a colon, one of "
            f"{', '.join(names)}"
        )
    return found[0]


class _Image(BaseModel):
    id: int


class _Annotation(BaseModel):
    id: int
    image_id: int
    caption: str


class _Captions(BaseModel):
    images: list[_Image]
    annotations: list[_Annotation]


def _read_captions(path: Path) -> list[str]:
    """Read one caption of each image, the first by the annotations' ids, in the file's order of images."""
    try:
        captions = _Captions.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error})") from error
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "the file"
        raise UserError(f"{path} holds no captions as COCO's: {where}: {fault['msg']}") from error
    first: dict[int, str] = {}
    for annotation in sorted(captions.annotations, key=lambda annotation: annotation.id):
        first.setdefault(annotation.image_id, annotation.caption)
    for image in captions.images:
        if image.id not in first:
            raise UserError(f"{path}: the image {image.id} has no caption among the annotations; fetch the file again")
    return [first[image.id] for image in captions.images]
