"""Options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sfd_sweep.errors import UserError

if TYPE_CHECKING:
    from sfd_sweep.sweep.results import Choice, Results

Address = Annotated[
    str,
    typer.Option(
        help="Ray cluster: local (started for this sweep), auto (the one this machine is in), or its head's host:port"
    ),
]
Uri = Annotated[
    str | None, typer.Option(help="MLflow store; otherwise MLFLOW_TRACKING_URI, or sqlite:///mlflow.db", metavar="URI")
]
Number = Annotated[int | None, typer.Option("--trial", help="choose this trial", metavar="N")]
Knee = Annotated[bool, typer.Option("--knee", help="choose where giving way in one objective stops paying")]
BestScore = Annotated[bool, typer.Option("--best-score", help="choose the best combined score")]
Max = Annotated[list[str], typer.Option("--max", help="choose the best score with this metric at most", metavar="M=V")]
Min = Annotated[list[str], typer.Option("--min", help="choose the best score with this metric at least", metavar="M=V")]
Force = Annotated[bool, typer.Option("--force", help="replace what is there")]


def choose(
    results: Results, *, trial: int | None, knee: bool, best_score: bool, most: list[str], least: list[str]
) -> Choice | None:
    """The chosen trial; None if no choice was asked for.

    Raises:
        UserError: more than one way was asked for, or the choice cannot be made.
    """
    if trial is None and not (knee or best_score or most or least):
        return None
    return results.select(
        trial=trial, knee=knee, best_score=best_score, max=_bounds("--max", most), min=_bounds("--min", least)
    )


def _bounds(option: str, given: list[str]) -> dict[str, float]:
    bounds = {}
    for text in given:
        metric, _, value = text.partition("=")
        try:
            bounds[metric] = float(value)
        except ValueError as error:
            raise UserError(f"{option} {text}: write metric=number, such as fd_classifier=1.5") from error
    return bounds
