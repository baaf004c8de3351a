"""A sweep's trials as a table: one row a trial, ready for pandas, Parquet or CSV."""

import io

import pandas as pd

from sfd_sweep.search.records import SweepRecord, TrialRecord


def trials_table(record: SweepRecord) -> pd.DataFrame:
    """One row a trial, in the order of their numbers.

    Columns: `trial`, `state`, `reason`, `pareto` (on the front, by the figures here), `score`, `step`; the last
    figures under the metrics' names and the final ones under `final_<name>`; the numbers of samples behind them under
    `samples_retained`, `samples_forgotten` and the same with `final_`, of which a metric with `most_samples` uses no
    more than these; `slot_seconds`; every setting under its name; `run_id`. What a trial does not have is missing.
    """
    front = {trial.number for trial in record.front}
    columns = ["trial", "state", "reason", "pareto", "score", "step"]
    rows = [_row(trial, trial.number in front) for trial in record.trials]
    return pd.DataFrame(rows, columns=None if rows else columns)


def trials_parquet(record: SweepRecord) -> bytes:
    """The table as a Parquet file."""
    return to_parquet(trials_table(record))


def to_parquet(table: pd.DataFrame) -> bytes:
    """Rows of such a table as a Parquet file."""
    mixed = table.select_dtypes("object").columns  # a setting may be a number in one trial and a word in another
    stream = io.BytesIO()
    table.astype(dict.fromkeys(mixed, "string")).to_parquet(stream, index=False)
    return stream.getvalue()


def _row(trial: TrialRecord, pareto: bool) -> dict[str, object]:
    row: dict[str, object] = {
        "trial": trial.number,
        "state": str(trial.state),
        "reason": trial.reason,
        "pareto": pareto,
        "score": trial.score,
        "step": trial.report.step if trial.report else None,
    }
    for prefix, report in (("", trial.report), ("final_", trial.final)):
        if report:
            row |= {prefix + name: value for name, value in report.metrics.items()}
            row |= {f"{prefix}samples_{name}": count for name, count in report.samples.items()}
    row["slot_seconds"] = trial.slot_hours * 3600
    return row | trial.settings.model_dump(mode="json") | {"run_id": trial.run_id}
