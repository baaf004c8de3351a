"""The front as a page that shows the figures and settings of the trial under the pointer."""

from collections.abc import Mapping
from html import escape
from typing import Any

import plotly.graph_objects as go

from sfd_sweep.search.records import SweepRecord
from sfd_sweep.search.trial import Trial
from sfd_sweep.tracking.front_view import FRONT_COLOR, INK, RULE, Axis, FrontView


def front_html(record: SweepRecord) -> str:
    """Return a self-contained page with one mark for each trial, in the plane of the first two objectives."""
    view = FrontView.all_of(record)[0]
    figure = go.Figure()
    if view.border:
        x, y = zip(*view.border, strict=True)
        line = {"shape": "hv", "color": FRONT_COLOR, "width": 2}
        figure.add_scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False)
    for group in view.groups:
        x, y = zip(*map(view.place, group.trials), strict=True)
        figure.add_scatter(
            x=x,
            y=y,
            name=group.label,
            mode="markers",
            marker={"color": group.color, "symbol": group.symbol, "size": group.size + 4, "line": {"width": 1.5}},
            zorder=group.layer,
            hovertext=[_hover(trial) for trial in group.trials],
            hoverinfo="text",
        )
    figure.update_layout(
        title={"text": f"<b>{escape(record.space.name)}</b><br><sup>{escape(view.subtitle)}</sup>", "x": 0.03},
        template="plotly_white",
        font={"color": INK},
        hoverlabel={"bgcolor": "white", "font": {"family": "monospace", "size": 12}, "align": "left"},
        legend={"orientation": "h", "y": -0.15},
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


def _hover(trial: Trial) -> str:
    """The figures and settings of a trial, as lines of a table."""
    blocks: list[Mapping[str, Any]] = [{"score": trial.run.score}, trial.searched]
    if trial.report:
        samples = {f"{name} samples": count for name, count in trial.report.samples.items()}
        blocks[:0] = [{"step": trial.report.step}, trial.report.metrics, samples]
    lines = [f"<b>trial {trial.number}</b> ({trial.state})"]
    for block in blocks:
        lines += ["", *(f"{name:<26} {_format(value)}".replace(" ", "&nbsp;") for name, value in block.items())]
    return "<br>".join(lines)


def _format(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))
