"""A comparison as a table: for pandas, CSV and Parquet, as JSON, and for LaTeX."""

import json
from dataclasses import asdict
from itertools import combinations
from math import isfinite, nan
from typing import Any

import pandas as pd

from sfd_sweep.search.comparison import QUARTERS, Comparison, Quartiles
from sfd_sweep.search.grouping import Group


def comparison_table(comparison: Comparison) -> pd.DataFrame:
    """Return one row for each group.

    Columns: `group`, `sweeps` (their names), `seeds`, `trials`, `complete`, and the medians `hypervolume`,
    `best_<metric>` for each objective, `slot_seconds` and `steps` until the common hypervolume was reached. Each
    median has its quartiles beside it, as `<name>_low` and `<name>_high`. What too few seeds have is missing.
    """
    table = pd.DataFrame([_row(comparison, part) for part in comparison.groups])
    table.attrs["remarks"] = comparison.remarks()
    return table


def comparison_json(comparison: Comparison) -> str:
    """Return everything of a comparison as JSON: the table, each run with its front, and the attainment surfaces."""
    table = json.loads(comparison_table(comparison).to_json(orient="records"))
    groups = [row | _runs(comparison, part) for row, part in zip(table, comparison.groups, strict=True)]
    content = {
        "by": comparison.by,
        "sweeps": comparison.names,
        "figures": "final" if comparison.is_final else "search",
        "objectives": [part.model_dump(mode="json", include={*_OBJECTIVE}) for part in comparison.objectives],
        "bounds": [bound.model_dump(mode="json", include={"metric", "min", "max"}) for bound in comparison.bounds],
        "common_hypervolume": comparison.target,
        "differences": comparison.differences(),
        "remarks": comparison.remarks(),
        "groups": groups,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def comparison_tex(comparison: Comparison) -> str:
    """Return the table for a LaTeX document with the package booktabs: medians, with quartiles in parentheses."""
    body = text_table(comparison).map(_for_tex).rename(columns=_for_tex)
    columns = "l" + "r" * (len(body.columns) - 1)
    lines = [" & ".join(row) + r" \\" for row in [list(body.columns), *body.to_numpy().tolist()]]
    notes = [f"% {remark}" for remark in comparison.remarks()]
    ruled = [r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
    return "\n".join([*notes, rf"\begin{{tabular}}{{{columns}}}", *ruled, r"\end{tabular}", ""])


def text_table(comparison: Comparison) -> pd.DataFrame:
    """Return one row of texts for each group: medians, with quartiles in parentheses where there are several seeds."""
    return pd.DataFrame([_texts(comparison, part) for part in comparison.groups])


def in_words(found: Quartiles, seeds: int) -> str:
    """Return a median, and its quartiles where there are several seeds; `none` for what too few seeds have."""
    if seeds == 1 or not any(map(isfinite, asdict(found).values())):
        return _figure(found.median)
    return f"{_figure(found.median)} ({_figure(found.low)} to {_figure(found.high)})"


_OBJECTIVE = ("metric", "goal", "reference_point")
_SPECIAL = {"\\": r"\textbackslash{}", **{sign: f"\\{sign}" for sign in "&%$#_{}"}, "~": r"\textasciitilde{}"}


def _row(comparison: Comparison, part: Group) -> dict[str, Any]:
    row: dict[str, Any] = {
        "group": part.label,
        "sweeps": ", ".join(run.summary.name for run in part.runs),
        "seeds": len(part.runs),
        "trials": sum(len(run.trials) for run in part.runs),
        "complete": sum(len(run.complete) for run in part.runs),
    }
    for name, found in _measured(comparison, part).items():
        row |= {name + ("" if side == "median" else f"_{side}"): _known(value) for side, value in asdict(found).items()}
    return row


def _measured(comparison: Comparison, part: Group) -> dict[str, Quartiles]:
    """Return the quartiles of a group by the name of their column."""
    measured = {"hypervolume": Quartiles.of(comparison.hypervolumes(part))}
    measured |= {f"best_{each.metric}": comparison.best(part, each) for each in comparison.objectives}
    if comparison.target > 0:
        measured |= {
            "slot_seconds": comparison.seconds_to_target(part),
            "steps": comparison.steps_to_target(part),
        }
    return measured


def _texts(comparison: Comparison, part: Group) -> dict[str, str]:
    seeds = len(part.runs)
    titles = {"slot_seconds": "slot seconds to common hypervolume", "steps": "steps to common hypervolume"}
    row = {"group": part.label, "seeds": str(seeds), "trials": str(sum(len(run.trials) for run in part.runs))}
    for name, found in _measured(comparison, part).items():
        row[titles.get(name, name.replace("best_", "best "))] = in_words(found, seeds)
    return row


def _runs(comparison: Comparison, part: Group) -> dict[str, Any]:
    metrics = [objective.metric for objective in comparison.objectives]
    runs = [
        {
            "sweep": run.summary.name,
            "trial_seed": run.space.trial.seed,
            "search_seed": run.space.search.seed,
            "hypervolume": run.hypervolume(),
            "front": [
                {"trial": trial.number} | {name: run.figures(trial).metrics[name] for name in metrics}
                for trial in run.front
            ],
        }
        for run in part.runs
    ]
    surfaces = [
        {
            "objectives": [metrics[index] for index in pair],
            "share": share,
            "points": comparison.surface_values(part, pair, share).tolist(),
        }
        for pair in combinations(range(len(metrics)), 2)
        for share in QUARTERS
    ]
    return {"runs": runs, "attainment": surfaces}


def _known(value: float) -> float:
    return value if isfinite(value) else nan


def _figure(value: float) -> str:
    return f"{value:.4g}" if isfinite(value) else "none"


def _for_tex(text: str) -> str:
    return "".join(_SPECIAL.get(sign, sign) for sign in text)
