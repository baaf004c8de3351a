"""A sweep's trials as a table with one row for each trial, ready for pandas, Parquet or CSV."""

import pandas as pd

from sfd_sweep.search.records import SweepRecord
from sfd_sweep.search.trial import Trial


def trials_table(record: SweepRecord) -> pd.DataFrame:
    """Return one row for each trial, in the order of their numbers.

    Columns: `trial`, `state`, `reason`, `pareto` (on the front), `counts_as_forgotten` (missing if
    the file does not say what does), `front_probability`, `knee_probability` and `as_good_as` (only if the file states
    errors; see `search.uncertainty`, and `SweepRecord.as_good_as`), `score`, `step`; the last figures under the
    metrics' names and the final ones under `final_<name>`; the numbers of samples behind them under `samples_retained`,
    `samples_forgotten` and the same with `final_`, of which a metric with `most_samples` uses no more than these; of an
    audited trial `audit_level`, `audit_excess` (or `audit_rate` without a control that never knew), `audit_low`,
    `audit_high`, `audit_attack` and `audit_broken`; `slot_seconds`; every setting under its name; `run_id`. What a
    trial lacks is missing.
    """
    front = {trial.number for trial in record.front}
    columns = ["trial", "state", "reason", "pareto", "counts_as_forgotten", "score", "step"]
    rows = [_row(record, trial, pareto=trial.number in front) for trial in record.trials]
    table = pd.DataFrame(rows, columns=None if rows else columns)
    return table.astype({"counts_as_forgotten": "boolean"})


def to_parquet(table: pd.DataFrame) -> bytes:
    """Return rows of such a table as a Parquet file."""
    mixed = table.select_dtypes("object").columns  # a setting may be a number in one trial and a word in another
    return table.astype(dict.fromkeys(mixed, "string")).to_parquet(index=False)


def _row(record: SweepRecord, trial: Trial, *, pareto: bool) -> dict[str, object]:
    is_known = record.space.selection.bounds and trial.report
    row: dict[str, object] = {
        "trial": trial.number,
        "state": str(trial.state),
        "reason": trial.reason,
        "pareto": pareto,
        "counts_as_forgotten": record.counts_as_forgotten(trial) if is_known else None,
        **_within_errors(record, trial, pareto=pareto),
        "score": trial.run.score,
        "step": trial.report.step if trial.report else None,
    }
    for prefix, report in (("", trial.report), ("final_", trial.final)):
        if report:
            row |= {prefix + name: value for name, value in report.metrics.items()}
            row |= {f"{prefix}samples_{name}": count for name, count in report.samples.items()}
    if audit := trial.run.audit:
        row |= {
            "audit_level": audit.level,
            "audit_excess" if audit.is_excess else "audit_rate": audit.value,
            "audit_low": audit.low,
            "audit_high": audit.high,
            "audit_attack": audit.attack,
            "audit_broken": audit.broken,
        }
    row["slot_seconds"] = trial.run.slot_hours * 3600
    return row | trial.settings.model_dump(mode="json") | {"run_id": trial.run.run_id}


def _within_errors(record: SweepRecord, trial: Trial, *, pareto: bool) -> dict[str, float | str | None]:
    if not record.has_errors:
        return {}
    return {
        "front_probability": record.front_probability.get(trial.number),
        "knee_probability": record.knee_probability.get(trial.number),
        "as_good_as": ", ".join(map(str, record.as_good_as(trial))) if pareto else None,
    }
