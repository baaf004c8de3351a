"""The command that compares sweeps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfd_sweep.cli.options import Uri, parse_bounds, write_file
from sfd_sweep.errors import UserError

if TYPE_CHECKING:
    from sfd_sweep.search.comparison import Comparison

Names = Annotated[list[str], typer.Argument(help="Names of the sweeps; those that differ in seeds alone are a group.",
                                            metavar="NAME...")]  # fmt: skip
By = Annotated[
    str | None,
    typer.Option(help="Group by a parameter, such as override, or by a key, such as search.sampler or task.forget; "
                 "default: everything but seeds.", metavar="KEY"),
]  # fmt: skip
AtMost = Annotated[
    list[str] | None,
    typer.Option("--max", help="Best values among trials with at most this value; repeatable; default: the selection "
                 "of the files.", metavar="METRIC=VALUE"),
]  # fmt: skip
AtLeast = Annotated[
    list[str] | None,
    typer.Option("--min", help="Best values among trials with at least this value; repeatable.",
                 metavar="METRIC=VALUE"),
]  # fmt: skip
OutFolder = Annotated[
    Path | None,
    typer.Option(help="Folder for the table, the picture, and the page, which MLflow gets, too.", metavar="FOLDER"),
]


def compare(
    names: Names, *, by: By = None, at_most: AtMost = None, at_least: AtLeast = None, out: OutFolder = None,
    uri: Uri = None,
) -> None:  # fmt: skip
    """Compare sweeps over seeds, or by a parameter.

    Sweeps that were not judged alike are refused.
    """
    from sfd_sweep.tracking.comparisons import bounds_of, comparison_files, read_comparison, record_comparison

    bounds = bounds_of(parse_bounds("--max", at_most), parse_bounds("--min", at_least))
    comparison = read_comparison(names, by=by, bounds=bounds, uri=uri)
    print_comparison(comparison)
    if out is None:
        return
    files = comparison_files(comparison)
    write_files(out, files)
    run = record_comparison(comparison, files, uri)
    print(f"\n{out} has {', '.join(files)}; MLflow has them in the run {run} of the experiment comparisons.")


def print_comparison(comparison: Comparison) -> None:
    """Print the table of a comparison in two parts, and its remarks."""
    from sfd_sweep.cli.tables import console, table
    from sfd_sweep.tracking.comparison_tables import text_table

    texts = text_table(comparison)
    best = [name for name in texts.columns if name.startswith("best ")]
    general = [name for name in texts.columns if name not in best]
    for columns in (general, [texts.columns[0], *best]):
        rows = [[f"{label}\n", *map(_on_two_lines, cells)] for label, *cells in texts[columns].to_numpy().tolist()]
        console.print(table(columns, rows, text=("group",)))
        console.print()
    for remark in comparison.remarks():
        console.print(remark)


def _on_two_lines(cell: str) -> str:
    """Return a median above its quartiles, and anything else above nothing, so that medians are on one line."""
    median, _, rest = cell.partition(" (")
    return f"{median}\n({rest}" if rest.endswith(")") else f"{cell}\n"


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    """Write files into a folder, which is created; they replace earlier ones, each atomically.

    Raises:
        UserError: The folder cannot be created, or a file cannot be written.
    """
    folder = folder.expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot create {folder}: {error.strerror or error}") from error
    for name, content in files.items():
        write_file(folder / name, content)
