"""Comparisons of recorded sweeps: from their names to tables, pictures, and a run in MLflow."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE, MLFLOW_USER
from pydantic import ValidationError

from sfd_sweep.config import SelectionBounds
from sfd_sweep.errors import UserError
from sfd_sweep.models.folder import ModelFolder
from sfd_sweep.search.comparison import Comparison, Quartiles, compare_records
from sfd_sweep.tracking.comparison_page import comparison_html
from sfd_sweep.tracking.comparison_picture import comparison_png
from sfd_sweep.tracking.comparison_tables import comparison_json, comparison_table, comparison_tex, text_table
from sfd_sweep.tracking.comparison_view import ComparisonView
from sfd_sweep.tracking.reader import read_sweep, record_as_it_is
from sfd_sweep.tracking.schema import COMPARISON_KIND, Tag, plain, to_text
from sfd_sweep.tracking.store import Store, mlflow_errors, one_request
from sfd_sweep.tracking.tables import to_parquet

if TYPE_CHECKING:
    import pandas as pd

EXPERIMENT = "comparisons"
"""MLflow experiment of all comparisons."""
LONGEST_NAME = 200


def read_comparison(
    names: Sequence[str], *, by: str | None = None, bounds: SelectionBounds | None = None, uri: str | None = None
) -> Comparison:
    """Return a comparison of sweeps in the tracking store (see `search.comparison.compare_records`).

    Args:
        names: of the sweeps.
        by: a parameter, or a key of the search space as `section.key`; None: everything but seeds.
        bounds: within which best values are found; None: the files' `selection`.
        uri: MLflow tracking store (see `resolve_uri`).

    Raises:
        UserError: the store cannot be read, a sweep is unknown or named twice, or the sweeps cannot be compared.
    """
    twice = [name for index, name in enumerate(names) if name in names[:index]]
    if twice:
        raise UserError(f"{twice[0]} is named twice; name each sweep once")
    if not names:
        raise UserError("name the sweeps to compare")
    records = [record_as_it_is(read_sweep(uri, name)) for name in names]
    return compare_records(records, lambda source: ModelFolder.open(source).class_names, by=by, bounds=bounds)


def compare(
    *names: str,
    by: str | None = None,
    max: Mapping[str, float] | None = None,  # noqa: A002 (the words of the command line)
    min: Mapping[str, float] | None = None,  # noqa: A002
    uri: str | None = None,
) -> "pd.DataFrame":
    """Return a table that compares sweeps, with one row for each group (see `comparison_table`).

    The column `hypervolume` and those after it are medians over seeds, each with its quartiles as `_low` and `_high`.
    `table.attrs["remarks"]` says what they rest on.

    Args:
        names: of the sweeps; those that differ in seeds alone are one group.
        by: a parameter, such as `override`, or a key of the search space, such as `search.sampler`, whose values make
            the groups; None: everything but seeds.
        max: upper bounds by metric, within which best values are found; None, and no `min`: the files' `selection`.
        min: lower bounds by metric.
        uri: MLflow tracking store; None: MLFLOW_TRACKING_URI, or else SQLite in the working folder.

    Raises:
        UserError: the store cannot be read, a sweep is unknown, or the sweeps cannot be compared.
    """
    return comparison_table(read_comparison(names, by=by, bounds=bounds_of(max, min), uri=uri))


def bounds_of(most: Mapping[str, float] | None, least: Mapping[str, float] | None) -> SelectionBounds | None:
    """Return bounds by metric; None without any.

    Raises:
        UserError: a metric is unknown, or cannot have the value.
    """
    if not (most or least):
        return None
    try:
        return SelectionBounds(max=dict(most or {}), min=dict(least or {}))
    except ValidationError as error:
        found = error.errors()[0]
        raise UserError(f"{' of '.join(map(str, found['loc'][:2]))}: {found['msg']}") from error


def comparison_files(comparison: Comparison) -> dict[str, bytes]:
    """Return the table in four formats, the picture, and the page of a comparison, by file name."""
    table = comparison_table(comparison)
    return {
        "comparison.csv": table.to_csv(index=False).encode(),
        "comparison.json": comparison_json(comparison).encode(),
        "comparison.parquet": to_parquet(table),
        "comparison.tex": comparison_tex(comparison).encode(),
        "comparison.png": comparison_png(comparison),
        "comparison.html": comparison_html(comparison).encode(),
    }


def record_comparison(comparison: Comparison, files: Mapping[str, bytes], uri: str | None = None) -> str:
    """Write a comparison as a run of the experiment `comparisons`, with its files, and return the run's id.

    Raises:
        UserError: the store cannot be written.
    """
    store = Store.open(uri)
    with mlflow_errors(store.uri):
        experiment = store.client.get_experiment_by_name(EXPERIMENT)
        experiment_id = experiment.experiment_id if experiment else store.client.create_experiment(EXPERIMENT)
        tags = {Tag.KIND: COMPARISON_KIND, MLFLOW_RUN_NOTE: _note(comparison), MLFLOW_USER: resolve_tags()[MLFLOW_USER]}
        title = ComparisonView(comparison).title
        with one_request():
            run = store.client.create_run(experiment_id, tags=tags, run_name=title[:LONGEST_NAME])
        run_id: str = run.info.run_id
        for name, text in _parameters(comparison).items():
            store.client.log_param(run_id, name, text)
        for name, value in _metrics(comparison).items():
            store.client.log_metric(run_id, name, value)
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                (Path(folder) / name).write_bytes(content)
            store.client.log_artifacts(run_id, folder)
        store.client.set_terminated(run_id)
    return run_id


def _parameters(comparison: Comparison) -> dict[str, str]:
    return {
        "sweeps": ", ".join(comparison.names),
        "by": comparison.by or "everything but seeds",
        "figures": comparison.figures_in_words(),
        "bounds": " and ".join(bound.in_words() for bound in comparison.bounds) or "none",
        **{f"reference_point.{part.metric}": to_text(part.reference_point) for part in comparison.objectives},
        **{f"groups.{index}": part.label for index, part in enumerate(comparison.groups)},
    }


def _metrics(comparison: Comparison) -> dict[str, float]:
    return {
        f"hypervolume/{plain(part.label) or index}": Quartiles.of(comparison.hypervolumes(part)).median
        for index, part in enumerate(comparison.groups)
    }


def _note(comparison: Comparison) -> str:
    """Return what was compared and the table, as Markdown."""
    table = text_table(comparison)
    rows = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    lines = ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows]
    remarks = "\n".join(f"- {remark}" for remark in comparison.remarks())
    return f"Compared: {', '.join(comparison.names)}.\n\n" + "\n".join(lines) + f"\n\n{remarks}"
