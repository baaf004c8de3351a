"""Pictures of a sweep: its front, and its hypervolume as trials were completed."""

import io
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from sfd_sweep.search.records import SweepRecord
from sfd_sweep.tracking.front_view import FRONT_COLOR, INK, MUTED, RULE, FrontView, Group

MARKERS = {"circle": "o", "circle-open": "o", "x-thin-open": "x"}
LABEL_OFFSETS = ((6, 6), (6, -13), (-6, 8))  # in turn, so that the numbers of neighbours stay apart


def front_png(record: SweepRecord) -> bytes:
    """The trials in the space of the objectives, with the front as a step line, its knee and its best score.

    More than two objectives make a panel for each pair with the first; a single one is drawn over the trials.
    """
    views = FrontView.all_of(record)
    figure, panels = new_figure(record.space.name, views[0].subtitle, len(views))
    for panel, view in zip(panels, views, strict=True):
        _draw(panel, view)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncol=7, frameon=False, fontsize=9, labelcolor=INK)
    return to_png(figure)


def hypervolume_png(record: SweepRecord) -> bytes:
    """The hypervolume of the front, over the number of complete trials."""
    figure, (panel,) = new_figure(record.space.name, "hypervolume of the front as trials were completed")
    ended = sorted((trial for trial in record.complete if trial.ended), key=lambda trial: (trial.ended, trial.number))
    if not ended:
        say(panel, "no trial is complete yet")
        return to_png(figure)
    counts = np.arange(1, len(ended) + 1)
    volumes = np.array([record.hypervolume(ended[:count]) for count in counts])
    better = np.diff(volumes, prepend=0.0) > 0
    panel.step(counts, volumes, where="post", color=FRONT_COLOR, linewidth=1.8)
    panel.plot(counts[better], volumes[better], "o", color=FRONT_COLOR, markersize=5)
    panel.set(xlabel="complete trials", ylabel="hypervolume   better →")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    return to_png(figure)


def new_figure(title: str, below: str, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """An empty figure with panels side by side, a title and a line below it."""
    figure = Figure(figsize=(7.4 if panels == 1 else 4.6 * panels + 0.6, 5.2), dpi=160)
    FigureCanvasAgg(figure)
    figure.set_layout_engine(ConstrainedLayoutEngine(rect=(0, 0.06, 1, 0.8), w_pad=0.12, h_pad=0.06))
    figure.text(0.02, 0.965, title, fontsize=13, fontweight="bold", color=INK, va="top")
    figure.text(0.02, 0.905, below, fontsize=9, color=MUTED, va="top")
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
        panel.spines[["left", "bottom"]].set_color(MUTED)
        panel.tick_params(colors=MUTED, labelsize=9)
        panel.xaxis.label.set(color=INK, fontsize=10)
        panel.yaxis.label.set(color=INK, fontsize=10)
        panel.grid(color=RULE, linewidth=0.8)
        panel.set_axisbelow(True)
    return figure, axes


def say(panel: Axes, message: str) -> None:
    """Words in place of a picture that there is nothing for."""
    panel.set_axis_off()
    panel.text(0.5, 0.5, message, ha="center", va="center", color=MUTED, fontsize=11, transform=panel.transAxes)


def to_png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", facecolor="white")
    return stream.getvalue()


def _draw(panel: Axes, view: FrontView) -> None:
    if not view.groups:
        say(panel, view.subtitle)
        return
    panel.set(xlabel=view.x.title, ylabel=view.y.title, xlim=view.x.limits, ylim=view.y.limits)
    _set_ticks(panel, view)
    if view.border:
        x, y = zip(*view.border, strict=True)
        panel.step(x, y, where="post", color=FRONT_COLOR, linewidth=1.6, zorder=2)
        panel.fill_between(x, y, y[0], step="post", color=FRONT_COLOR, alpha=0.07, linewidth=0, zorder=1)
    for group in view.groups:
        _draw_group(panel, view, group)
    if view.record.front:
        _mark_chosen(panel, view)


def _set_ticks(panel: Axes, view: FrontView) -> None:
    if view.x.ticks:
        panel.set_xticks(list(view.x.ticks), list(view.x.ticks.values()))
    if view.y.ticks:
        panel.set_yticks(list(view.y.ticks), list(view.y.ticks.values()))
    if view.across is None:
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_group(panel: Axes, view: FrontView, group: Group) -> None:
    x, y = zip(*map(view.place, group.trials), strict=True)
    filled = group.symbol == "circle"
    panel.plot(
        x,
        y,
        linestyle="none",
        marker=MARKERS[group.symbol],
        markersize=group.size,
        markerfacecolor=group.color if filled else "none",
        markeredgecolor="white" if filled else group.color,
        markeredgewidth=0.8 if filled else 1.3,
        label=group.label,
        zorder=4 if group.label == "front" else 3,
    )


def _mark_chosen(panel: Axes, view: FrontView) -> None:
    """The numbers of the front's members, and rings around the knee and the best score."""
    front = view.record.front
    for trial, offset in zip(front, cycle(LABEL_OFFSETS), strict=False):
        x, y = view.place(trial)
        panel.annotate(str(trial.number), (x, y), offset, textcoords="offset points", fontsize=8, color=INK, zorder=5)
    for label, trial, marker, size in (
        ("knee", view.record.knee(), "D", 11),
        ("best score", view.record.best(front), "o", 15),
    ):
        x, y = view.place(trial)
        (ring,) = panel.plot(x, y, marker, markersize=size, label=label, zorder=5)
        ring.set(markerfacecolor="none", markeredgecolor=INK)
