"""What a sweep leaves to look at: pictures of its front, hypervolume and importance, and a table."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from sfd_sweep.search.records import SweepRecord
from sfd_sweep.tracking.drawing import dress, titled_figure, to_png, write_message
from sfd_sweep.tracking.front_view import (
    BAR_COLOR,
    FRONT_COLOR,
    INK,
    MUTED,
    Axis,
    FrontView,
    Group,
    Mark,
)
from sfd_sweep.tracking.importance import FEWEST_TRIALS, always_drawn, basis_of, parameter_importance
from sfd_sweep.tracking.labels import Obstacle, write_labels
from sfd_sweep.tracking.tables import to_parquet, trials_table

MARKERS = {
    **{"circle": "o", "circle-open": "o", "diamond-open": "D", "x-thin-open": "x"},
    **{"square": "s", "square-open": "s"},
}
NEUTRAL = "#c3c8cf"
"""Marks in a legend whose colors show an objective."""
DOMINATED_LAYER = 4
BAR_ALPHA = 0.6
"""Opacity of error bars."""
MOST_COLUMNS = 6
LARGEST_HANDLE = 10


def sweep_files(record: SweepRecord) -> dict[str, bytes]:
    """Return the pictures and the table of a sweep, by file name."""
    return {
        "front.png": front_png(record),
        "hypervolume.png": hypervolume_png(record),
        "importance.png": importance_png(record),
        "trials.parquet": to_parquet(trials_table(record)),
    }


def front_png(record: SweepRecord) -> bytes:
    """Return the trials in the plane of the objectives, with the front as a step line, its knee and its best score.

    Bars at members of the front are the errors that the file states.

    More than two objectives make a panel for each pair, whose colors show another one; a single one is drawn over the
    trials.
    """
    views = FrontView.panels_of(record)
    rows = max(1, len(record.space.objectives) - 1)
    figure, panels, empty = _triangle(record.space.name, views[0].subtitle, rows)
    shown = [(panel, view) for panel, view in zip(panels, views, strict=True) if view.groups]
    for panel, view in zip(panels, views, strict=True):
        if view.groups:
            _draw_front(figure, panel, view)
        else:
            write_message(panel, view.subtitle)
    if shown:
        _draw_legend(figure, empty, views[0])
        figure.draw_without_rendering()  # lays the panels out, so that labels know their places
    for panel, view in shown:
        _label_front(panel, view)
    return to_png(figure)


def hypervolume_png(record: SweepRecord) -> bytes:
    """Return the hypervolume of the front by the search's figures over the number of complete trials.

    A mark at the end is that by the final figures, once these decide who is on the front.
    """
    figure, (panel,) = _new_figure(record.space.name, "hypervolume of the front as trials were completed")
    volumes = np.array(list(record.hypervolumes().values()))
    if not len(volumes):
        write_message(panel, "no trial is complete yet")
        return to_png(figure)
    counts = np.arange(1, len(volumes) + 1)
    better = np.diff(volumes, prepend=0.0) > 0
    panel.step(counts, volumes, where="post", color=FRONT_COLOR, linewidth=1.8)
    panel.plot(counts[better], volumes[better], "o", color=FRONT_COLOR, markersize=5)
    if record.is_judged:
        panel.plot(counts[-1], record.hypervolume(), "D", color=INK, markersize=6, label="by the final figures")
        panel.legend(frameon=False, fontsize=9, labelcolor=INK, loc="lower right")
    panel.set(xlabel="complete trials", ylabel="hypervolume   better →")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    return to_png(figure)


def importance_png(record: SweepRecord) -> bytes:
    """Return a panel for each objective with a bar for each searched parameter, or a message if trials are too few."""
    objectives = record.space.objectives
    figure, panels = _new_figure(record.space.name, basis_of(record), len(objectives))
    found = [parameter_importance(record, objective) for objective in objectives]
    names = sorted(always_drawn(record), key=lambda name: sum(shares.get(name, 0.0) for shares in found))
    for panel, objective, shares in zip(panels, objectives, found, strict=True):
        if shares:
            _draw_bars(panel, objective.metric, names, shares)
        else:
            write_message(panel, f"{objective.metric}:\nneeds {FEWEST_TRIALS} complete trials\nthat differ")
    return to_png(figure)


def _draw_front(figure: Figure, panel: Axes, view: FrontView) -> None:
    across, up = view.axes
    panel.set(xlabel=across.title, ylabel=up.title, xlim=across.limits, ylim=up.limits)
    for axis, drawn in ((across, panel.xaxis), (up, panel.yaxis)):
        if axis.ticks:
            drawn.set_ticks(list(axis.ticks), list(axis.ticks.values()))
    if view.border:
        x, y = zip(*view.border, strict=True)
        panel.step(x, y, where="post", color=FRONT_COLOR, linewidth=1.6, zorder=2)
        panel.fill_between(x, y, y[0], step="post", color=FRONT_COLOR, alpha=0.07, linewidth=0, zorder=1)
    for group in view.groups:
        _draw_group(panel, view, group)
    if view.shades:
        _draw_color_bar(figure, panel, view.shades)


def _draw_group(panel: Axes, view: FrontView, group: Group) -> None:
    x, y = zip(*map(view.place, group.marks), strict=True)
    if group.is_front and view.record.has_errors:
        across, up = (np.array(sides).T for sides in zip(*map(view.reach, group.marks), strict=True))
        look: dict[str, Any] = {"fmt": "none", "ecolor": INK, "elinewidth": 0.8, "alpha": BAR_ALPHA}
        panel.errorbar(x, y, yerr=up, xerr=across, zorder=group.layer - 0.5, **look)
    if not (group.is_shaded and view.shades):
        panel.plot(x, y, linestyle="none", zorder=group.layer, **_style(group, group.color))
        return
    style, colors = _style(group, group.color), _color_map(view.shades)
    panel.scatter(
        x,
        y,
        c=colors.to_rgba(np.array([view.shade_of(mark) for mark in group.marks])),
        marker=style["marker"],
        s=group.size**2,
        edgecolors=style["markeredgecolor"],
        linewidths=style["markeredgewidth"],
        zorder=group.layer,
    )


def _style(group: Group, color: str) -> dict[str, Any]:
    """Return the style of a group's marks; members of a front in colors have a dark edge."""
    edge = color
    if group.is_filled:
        edge = INK if group.is_shaded and group.layer > DOMINATED_LAYER else "white"
    return {
        "marker": MARKERS[group.symbol],
        "markersize": group.size,
        "markerfacecolor": color if group.is_filled else "none",
        "markeredgecolor": edge,
        "markeredgewidth": 0.8 if group.is_filled else 1.5,
    }


def _draw_legend(figure: Figure, empty: Axes | None, view: FrontView) -> None:
    """Draw the legend into an empty cell, or below the panels; marks whose colors show an objective are gray there."""
    handles = [_handle(group) for group in view.groups]
    style = {"frameon": False, "fontsize": 9, "labelcolor": INK, "handlelength": 1.5, "handletextpad": 0.4}
    if empty is None:
        columns = len(handles) if len(handles) <= MOST_COLUMNS else math.ceil(len(handles) / 2)
        figure.legend(handles=handles, loc="outside lower center", ncol=columns, columnspacing=1.5, **style)
    else:
        note = "The darker a color, the better.\nNumbers are those of trials."
        legend = empty.legend(handles=handles, loc="center", title=note, title_fontsize=9, labelspacing=0.9, **style)
        legend.get_title().set_color(MUTED)


def _handle(group: Group) -> Line2D:
    style = _style(group, NEUTRAL if group.is_shaded else group.color)
    style["markersize"] = min(group.size, LARGEST_HANDLE)
    return Line2D([], [], linestyle="none", label=group.label, **style)


def _draw_color_bar(figure: Figure, panel: Axes, scale: Axis) -> None:
    bar = figure.colorbar(_color_map(scale), ax=panel, fraction=0.05, pad=0.03)
    if scale.ticks:
        bar.set_ticks(list(scale.ticks), labels=list(scale.ticks.values()))
    bar.minorticks_off()
    bar.set_label(f"color: {scale.title}", color=INK, fontsize=9)
    bar.ax.tick_params(colors=MUTED, labelsize=8)
    bar.outline.set_visible(False)


def _color_map(scale: Axis) -> ScalarMappable:
    return ScalarMappable(Normalize(*scale.limits), scale.color_map)


def _on_panel(view: FrontView, mark: Mark) -> tuple[float, float]:
    x, y = view.place(mark)
    return x, y


def _radius(group: Group) -> float:
    """Return how far a mark reaches to its sides, in points; a diamond is a square on its corner."""
    return group.size / 2 * (math.sqrt(2) if group.symbol.startswith("diamond") else 1) + 1


def _label_front(panel: Axes, view: FrontView) -> None:
    """Write the numbers of the front's members beside their marks."""
    obstacles = [Obstacle(_on_panel(view, mark), _radius(group)) for group in view.groups for mark in group.marks]
    labels = [(str(mark.number), _on_panel(view, mark)) for mark in view.marks(view.record.front)]
    write_labels(panel, labels, obstacles, toward=(view.axes[0].better, view.axes[1].better))


def _draw_bars(panel: Axes, metric: str, names: Sequence[str], shares: Mapping[str, float]) -> None:
    bars = panel.barh(names, [shares[name] for name in names], color=BAR_COLOR, height=0.62)
    panel.bar_label(bars, fmt="{:.0%}", padding=4, fontsize=8, color=INK)
    panel.set_title(metric, fontsize=10, color=INK, loc="left")
    panel.set(xlim=(0, max(shares.values()) * 1.15), xticks=[])
    panel.spines["bottom"].set_visible(False)
    panel.tick_params(axis="y", length=0)
    panel.grid(visible=False)


def _new_figure(title: str, subtitle: str, panels: int = 1) -> tuple[Figure, list[Axes]]:
    figure = titled_figure(title, subtitle, (7.4 if panels == 1 else 4.6 * panels + 0.6, 5.2))
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    for panel in axes:
        dress(panel)
    return figure, axes


def _triangle(title: str, subtitle: str, rows: int) -> tuple[Figure, list[Axes], Axes | None]:
    """Return a figure with a panel for each pair of rows + 1 objectives, in the order of the pairs.

    The first objective runs across the first column and the last one up the last row, so that panels below each other
    have one axis in common. The cell in the upper right corner is empty; a single panel leaves none.
    """
    size = (7.4, 5.2) if rows == 1 else (4.9 * rows + 0.4, 4.1 * rows + 1)
    figure = titled_figure(title, subtitle, size)
    cells = figure.subplots(rows, rows, squeeze=False)
    for row, line in enumerate(cells):
        for column, panel in enumerate(line):
            dress(panel) if column <= row else panel.set_axis_off()
    panels = [cells[row][column] for column in range(rows) for row in range(column, rows)]
    return figure, panels, cells[0][-1] if rows > 1 else None
