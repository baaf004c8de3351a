"""Prompts in files: one a line, a column of a table, or COCO's captions. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sfd_sweep.config.config_errors import advice
from sfd_sweep.datasets.captions import read_captions
from sfd_sweep.errors import UserError

COLUMNS = ("prompt", "caption", "text", "sentence")
TABLES = (".csv", ".parquet")
CAPTIONS = ".json"


def read_prompts(source: str) -> tuple[str, ...]:
    """The prompts of a file, each once, in order.

    Args:
        source: PATH of a text file with a prompt a line; or PATH[:COLUMN] of a CSV or Parquet file. Without a name, the
            column is the first that is called prompt, caption, text or sentence. Or PATH of a JSON file of captions as
            COCO's, of which the first of each image is taken.

    Raises:
        UserError: there is no such file or column, it cannot be read, or there is no prompt in it.
    """
    path, column = _parse(source)
    if not path.is_file():
        raise UserError(f"there is no file {path}; give one with a prompt a line, or a CSV or Parquet file")
    prompts = tuple(dict.fromkeys(prompt for text in _texts(path, column) if (prompt := text.strip())))
    if not prompts:
        raise UserError(f"there is no prompt in {path}")
    return prompts


def _texts(path: Path, column: str | None) -> list[str]:
    if path.suffix.lower() in TABLES:
        return _of_table(path, column)
    return read_captions(path) if path.suffix.lower() == CAPTIONS else _lines(path)


def _parse(source: str) -> tuple[Path, str | None]:
    """The path and the column that a source names; a file whose own name has a colon needs none."""
    name, colon, column = source.rpartition(":")
    if colon and Path(name).suffix.lower() in TABLES:
        return Path(name).expanduser(), column
    return Path(source).expanduser(), None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text ({error})") from error


def _of_table(path: Path, column: str | None) -> list[str]:
    from pyarrow import ArrowInvalid, dataset, types

    kind = path.suffix[1:].lower()
    try:
        table = dataset.dataset(path, format=kind)
        name = _column(path, table.schema.names, column)
        held = table.schema.field(name).type
        if not (types.is_null(held) or types.is_string(held) or types.is_large_string(held)):
            raise UserError(f"{path}: the column {name} holds {held}, and no text")
        return [text for text in table.to_table(columns=[name]).column(name).to_pylist() if text is not None]
    except (OSError, ArrowInvalid) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} cannot be read as {kind} ({reason})") from error


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
