"""The front as a page that tells the figures and settings of the trial under the pointer."""

from collections.abc import Mapping
from html import escape
from typing import Any

import plotly.graph_objects as go

from sfd_sweep.search.records import SweepRecord, TrialRecord
from sfd_sweep.tracking.axes import Axis
from sfd_sweep.tracking.front_view import FRONT_COLOR, INK, RULE, FrontView, Group


def front_html(record: SweepRecord) -> str:
    """A self-contained page with a mark a trial, in the first two objectives; a single one goes over the trials."""
    view = FrontView.all_of(record)[0]
    figure = go.Figure()
    if view.border:
        x, y = zip(*view.border, strict=True)
        line = {"shape": "hv", "color": FRONT_COLOR, "width": 2}
        figure.add_trace(go.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False))
    for group in reversed(view.groups):
        figure.add_trace(_marks(view, group))
    figure.update_layout(
        title={"text": f"<b>{escape(record.space.name)}</b><br><sup>{escape(view.subtitle)}</sup>", "x": 0.03},
        template="plotly_white",
        font={"color": INK},
        hoverlabel={"bgcolor": "white", "font": {"family": "monospace", "size": 12}, "align": "left"},
        legend={"orientation": "h", "y": -0.15, "traceorder": "reversed"},
        xaxis=_layout(view.x),
        yaxis=_layout(view.y),
    )
    page: str = figure.to_html(include_plotlyjs=True, full_html=True, config={"displaylogo": False})
    return page


def _layout(axis: Axis) -> dict[str, Any]:
    layout = {"title": axis.title, "range": axis.limits, "gridcolor": RULE, "zeroline": False}
    if axis.ticks:
        layout |= {"tickvals": list(axis.ticks), "ticktext": list(axis.ticks.values())}
    return layout


def _marks(view: FrontView, group: Group) -> go.Scatter:
    x, y = zip(*map(view.place, group.trials), strict=True)
    return go.Scatter(
        x=x,
        y=y,
        name=group.label,
        mode="markers",
        marker={"color": group.color, "symbol": group.symbol, "size": group.size + 4, "line": {"width": 1.5}},
        hovertext=[_hover(trial) for trial in group.trials],
        hoverinfo="text",
    )


def _hover(trial: TrialRecord) -> str:
    """What is known of a trial, as lines of a table."""
    blocks: list[Mapping[str, Any]] = [{"score": trial.score}, trial.searched]
    if trial.report:
        samples = {f"{name} samples": count for name, count in trial.report.samples.items()}
        blocks[:0] = [{"step": trial.report.step}, trial.report.metrics, samples]
    lines = [f"<b>trial {trial.number}</b> ({trial.state})"]
    for block in blocks:
        lines += ["", *(f"{name:<26} {_shown(value)}".replace(" ", "&nbsp;") for name, value in block.items())]
    return "<br>".join(lines)


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))
