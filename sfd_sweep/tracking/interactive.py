"""The front as a page that shows the figures and settings of the trial under the pointer."""

from collections.abc import Mapping
from html import escape
from typing import Any

import plotly.graph_objects as go

from sfd_sweep.search.records import SweepRecord
from sfd_sweep.search.trial import Trial
from sfd_sweep.tracking.front_view import FRONT_COLOR, INK, RULE, Axis, FrontView, Group, Mark

SYMBOLS_IN_SPACE = {"x-thin-open": "x"}
"""Plotly has fewer symbols in space."""
SHARE_IN_SPACE = 0.7
"""Size of marks in space, relative to the plane."""
STEM = "#c9cdd3"
BAR_INK = "rgba(31, 41, 51, 0.6)"
"""Error bars."""


def front_html(record: SweepRecord) -> str:
    """Return a self-contained page with one mark for each trial.

    It shows the plane of two objectives, or a space of the first three that can be turned.
    """
    view = FrontView.page_of(record)
    figure = go.Figure()
    figure.update_layout(
        title={"text": f"<b>{escape(record.space.name)}</b><br><sup>{escape(view.subtitle)}</sup>", "x": 0.03},
        template="plotly_white",
        font={"color": INK},
        hoverlabel={"bgcolor": "white", "font": {"family": "monospace", "size": 12}, "align": "left"},
    )
    if len(view.axes) == 2:
        _draw_plane(figure, view)
    else:
        _draw_space(figure, view)
    page: str = figure.to_html(include_plotlyjs=True, full_html=True, config={"displaylogo": False})
    return page


def _draw_plane(figure: go.Figure, view: FrontView) -> None:
    across, up = view.axes
    if view.border:
        x, y = zip(*view.border, strict=True)
        line = {"shape": "hv", "color": FRONT_COLOR, "width": 2}
        figure.add_scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False)
    for group in view.groups:
        x, y = zip(*map(view.place, group.marks), strict=True)
        marker = {"color": group.color, "symbol": group.symbol, "size": group.size + 4, "line": {"width": 1.5}}
        figure.add_scatter(x=x, y=y, marker=marker, zorder=group.layer, **_bars(view, group), **_texts(view, group))
    figure.update_layout(
        legend={"orientation": "h", "y": -0.15},
        xaxis={"title": across.title, "zeroline": False, **_layout(across)},
        yaxis={"title": up.title, "zeroline": False, **_layout(up)},
    )


def _draw_space(figure: go.Figure, view: FrontView) -> None:
    """Draw three objectives; a stem joins each member of the front to the floor, so that its place can be read."""
    for group in view.groups:
        x, y, z = zip(*map(view.place, group.marks), strict=True)
        symbol = SYMBOLS_IN_SPACE.get(group.symbol, group.symbol)
        marker = {"symbol": symbol, "size": SHARE_IN_SPACE * group.size, **_colors(view, group)}
        figure.add_scatter3d(x=x, y=y, z=z, marker=marker, **_bars(view, group), **_texts(view, group))
        if group.is_front:
            _draw_stems(figure, view, group)
    axes = {
        name: {"title": {"text": axis.title_in_words, "font": {"size": 12}}, "showspikes": False, **_layout(axis)}
        for name, axis in zip(("xaxis", "yaxis", "zaxis"), view.axes, strict=True)
    }
    across, deep, _ = view.axes
    eye = {"x": 1.35 * across.better, "y": 1.35 * deep.better, "z": 0.75}  # beside the ideal point
    figure.update_layout(
        legend={"orientation": "h", "y": -0.02, "itemsizing": "constant"},
        margin={"l": 0, "r": 0, "b": 0},
        scene={**axes, "camera": {"eye": eye, "center": {"x": 0, "y": 0, "z": -0.12}}, "aspectmode": "cube"},
    )
    if view.shades:
        figure.update_layout(coloraxis=_color_axis(view.shades))


def _draw_stems(figure: go.Figure, view: FrontView, group: Group) -> None:
    places = [view.place(mark) for mark in group.marks]
    inside = [place for place in places if all(map(Axis.holds, view.axes, place))]
    floor = view.axes[2].limits[0]
    ends = [end for place in inside for end in (place, (*place[:2], floor), (None, None, None))]
    x, y, z = zip(*ends, strict=True) if ends else ((), (), ())
    line = {"color": STEM, "width": 2}
    figure.add_scatter3d(x=x, y=y, z=z, mode="lines", line=line, hoverinfo="skip", showlegend=False)


def _bars(view: FrontView, group: Group) -> dict[str, Any]:
    """Return error bars of the stated errors along each axis, for groups that have them."""
    if not (group.is_front and view.record.has_errors):
        return {}
    look = {"type": "data", "symmetric": False, "color": BAR_INK, "thickness": 1, "width": 0}
    return {
        f"error_{name}": {**look, "arrayminus": [low for low, _ in sides], "array": [high for _, high in sides]}
        for name, sides in zip("xyz", zip(*map(view.reach, group.marks), strict=True), strict=False)
    }


def _texts(view: FrontView, group: Group) -> dict[str, Any]:
    hover = [_hover(view, mark) for mark in group.marks]
    return {"name": group.label, "mode": "markers", "hovertext": hover, "hoverinfo": "text"}


def _colors(view: FrontView, group: Group) -> dict[str, Any]:
    """Return the colors of a group in space: its own, or those of a fourth objective."""
    if not group.is_shaded:
        return {"color": group.color, "line": {"width": 1, "color": "white" if group.is_filled else group.color}}
    shades = [view.shade_of(mark) for mark in group.marks]
    return {"color": shades, "coloraxis": "coloraxis", "line": {"width": 1, "color": INK}}


def _color_axis(scale: Axis) -> dict[str, Any]:
    bar: dict[str, Any] = {"title": f"color: {scale.title_in_words}", "len": 0.6}
    if scale.ticks:
        bar |= {"tickvals": list(scale.ticks), "ticktext": list(scale.ticks.values())}
    return {"colorscale": scale.color_map, "cmin": scale.limits[0], "cmax": scale.limits[1], "colorbar": bar}


def _layout(axis: Axis) -> dict[str, Any]:
    layout: dict[str, Any] = {"range": axis.limits, "gridcolor": RULE}
    if axis.ticks:
        layout |= {"tickvals": list(axis.ticks), "ticktext": list(axis.ticks.values())}
    return layout


def _hover(view: FrontView, mark: Mark) -> str:
    """The figures and settings of a trial, or the figures of the null baseline, as lines of a table."""
    report, trial = mark.report, mark.trial
    samples = {f"{name} samples": count for name, count in report.samples.items()}
    blocks: list[Mapping[str, Any]] = [{"step": report.step}, report.metrics, samples]
    lines = ["<b>swap</b>: the start with the override's embedding, which forgets nothing"]
    if trial is not None:
        lines = [f"<b>trial {trial.number}</b> ({trial.state})"]
        blocks += [{"score": trial.run.score, **_probability(view, trial)}, trial.searched]
    for block in blocks:
        lines += ["", *(f"{name:<26} {_format(value)}".replace(" ", "&nbsp;") for name, value in block.items())]
    return "<br>".join(lines)


def _probability(view: FrontView, trial: Trial) -> dict[str, str]:
    """Return how often a complete trial is on the front within the stated errors, and which members of the front are as
    good; nothing without errors."""
    record = view.record
    if not record.has_errors or trial.number not in record.front_probability:
        return {}
    equals = record.as_good_as(trial) if trial in record.front else []
    listed = {"as good as": ", ".join(map(str, equals))} if equals else {}
    return {"on front": f"{record.front_probability[trial.number]:.0%}", **listed}


def _format(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))
