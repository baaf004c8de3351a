"""The picture of a comparison: attainment surfaces over seeds, and the hypervolume over slot time."""

import io
from math import ceil

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sfd_sweep.search.comparison import Comparison
from sfd_sweep.tracking.comparison_view import Band, ComparisonView, Look, Panel
from sfd_sweep.tracking.drawing import dress, titled_figure, to_png, write_message
from sfd_sweep.tracking.front_view import INK, MUTED

COLUMNS = 2
PANEL_SIZE = (5.0, 4.3)
BESIDE_PANELS = 1.3
"""Inches of title and legend."""
LINES = {"solid": "-", "dash": "--", "dot": ":"}
AREA_ALPHA, POINT_ALPHA = 0.16, 0.55
MOST_COLUMNS = 4


def comparison_png(comparison: Comparison) -> bytes:
    """Return a panel for each pair of objectives, and one of the hypervolume over slot time.

    A line is what half of a group's runs attain; the area around it is from a quarter to three quarters of them.
    """
    view = ComparisonView(comparison)
    panels, looks = view.panels, view.looks
    columns, rows = min(COLUMNS, len(panels)), ceil(len(panels) / COLUMNS)
    size = (PANEL_SIZE[0] * max(columns, 1.5), PANEL_SIZE[1] * rows + BESIDE_PANELS)
    figure = titled_figure(view.title, view.subtitle, size)
    cells = figure.subplots(rows, columns, squeeze=False).ravel()
    for cell, panel in zip(cells, panels, strict=False):
        dress(cell)
        _draw_panel(cell, panel, looks)
    for cell in cells[len(panels) :]:
        cell.set_axis_off()
    handles = [Line2D([], [], color=look.color, linestyle=LINES[look.dash], label=look.label) for look in looks]
    style = {"frameon": False, "fontsize": 9, "labelcolor": INK, "handlelength": 2.2}
    figure.legend(handles=handles, loc="outside lower center", ncol=min(len(handles), MOST_COLUMNS), **style)
    return to_png(figure)


def panel_svg(panel: Panel, looks: list[Look]) -> bytes:
    """Return one panel as an SVG file, the same bytes for the same panel."""
    figure, stream = Figure(figsize=PANEL_SIZE, layout="constrained"), io.BytesIO()
    cell = figure.subplots()
    dress(cell)
    _draw_panel(cell, panel, looks)
    with rc_context({"svg.hashsalt": panel.title}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def _draw_panel(cell: Axes, panel: Panel, looks: list[Look]) -> None:
    if panel.is_empty:
        write_message(cell, "nothing is within\nthe reference point")
        return
    cell.set_title(panel.title, fontsize=9, color=MUTED, loc="left")
    cell.set(xlabel=panel.across, ylabel=panel.up, xlim=panel.limits[0], ylim=panel.limits[1])
    for axis, ticks in zip((cell.xaxis, cell.yaxis), panel.ticks, strict=True):
        if ticks:
            axis.set_ticks(list(ticks), list(ticks.values()))
    if panel.level:
        height, label = panel.level
        cell.axhline(height, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)))
        cell.annotate(label, (0, height), (4, 2), xycoords=("axes fraction", "data"), textcoords="offset points",
                      fontsize=8, color=MUTED)  # fmt: skip
    for band, look in zip(panel.bands, looks, strict=True):
        _draw_band(cell, band, look)


def _draw_band(cell: Axes, band: Band, look: Look) -> None:
    if band.area:
        cell.fill(*zip(*band.area, strict=True), color=look.color, alpha=AREA_ALPHA, linewidth=0, zorder=2)
    if band.points:
        x, y = zip(*band.points, strict=True)
        cell.plot(x, y, "o", color=look.color, alpha=POINT_ALPHA, markersize=4, markeredgewidth=0, zorder=4)
    if band.line:
        cell.plot(*zip(*band.line, strict=True), color=look.color, linestyle=LINES[look.dash], linewidth=1.8, zorder=3)
