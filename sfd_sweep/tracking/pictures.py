"""Everything that a sweep leaves to look at: pictures of its front, hypervolume and importance, a page and a table."""

import io
from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from sfd_sweep.search.records import SweepRecord
from sfd_sweep.tracking.front_view import BAR_COLOR, FRONT_COLOR, INK, MUTED, RULE, FrontView, Group
from sfd_sweep.tracking.importance import FEWEST_TRIALS, always_drawn, basis_of, parameter_importance
from sfd_sweep.tracking.interactive import front_html
from sfd_sweep.tracking.tables import to_parquet, trials_table

MARKERS = {"circle": "o", "circle-open": "o", "diamond-open": "D", "x-thin-open": "x"}
LABEL_OFFSETS = ((6, 6), (6, -13), (-6, 8))  # in turn, so that the numbers of neighbors stay apart


def sweep_files(record: SweepRecord) -> dict[str, bytes]:
    """Return the pictures, the page and the table of a sweep, by file name."""
    return {
        "front.png": front_png(record),
        "front.html": front_html(record).encode(),
        "hypervolume.png": hypervolume_png(record),
        "importance.png": importance_png(record),
        "trials.parquet": to_parquet(trials_table(record)),
    }


def front_png(record: SweepRecord) -> bytes:
    """Return the trials in the plane of the objectives, with the front as a step line, its knee and its best score.

    More than two objectives make a panel for each pair with the first; a single one is drawn over the trials.
    """
    views = FrontView.all_of(record)
    figure, panels = _new_figure(record.space.name, views[0].subtitle, len(views))
    for panel, view in zip(panels, views, strict=True):
        if view.groups:
            _draw_front(panel, view)
        else:
            _write(panel, view.subtitle)
    spacing = {"handlelength": 1.5, "handletextpad": 0.4, "columnspacing": 1.2}
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncol=7, frameon=False, fontsize=9, labelcolor=INK, **spacing)
    return _to_png(figure)


def hypervolume_png(record: SweepRecord) -> bytes:
    """Return the hypervolume of the front over the number of complete trials."""
    figure, (panel,) = _new_figure(record.space.name, "hypervolume of the front as trials were completed")
    ended = sorted(
        (trial for trial in record.complete if trial.run.ended), key=lambda trial: (trial.run.ended, trial.number)
    )
    if not ended:
        _write(panel, "no trial is complete yet")
        return _to_png(figure)
    counts = np.arange(1, len(ended) + 1)
    volumes = np.array([record.hypervolume(ended[:count]) for count in counts])
    better = np.diff(volumes, prepend=0.0) > 0
    panel.step(counts, volumes, where="post", color=FRONT_COLOR, linewidth=1.8)
    panel.plot(counts[better], volumes[better], "o", color=FRONT_COLOR, markersize=5)
    panel.set(xlabel="complete trials", ylabel="hypervolume   better →")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _to_png(figure)


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
            _write(panel, f"{objective.metric}:\nneeds {FEWEST_TRIALS} complete trials\nthat differ")
    return _to_png(figure)


def _draw_front(panel: Axes, view: FrontView) -> None:
    panel.set(xlabel=view.x.title, ylabel=view.y.title, xlim=view.x.limits, ylim=view.y.limits)
    for axis, drawn in ((view.x, panel.xaxis), (view.y, panel.yaxis)):
        if axis.ticks:
            drawn.set_ticks(list(axis.ticks), list(axis.ticks.values()))
    if view.border:
        x, y = zip(*view.border, strict=True)
        panel.step(x, y, where="post", color=FRONT_COLOR, linewidth=1.6, zorder=2)
        panel.fill_between(x, y, y[0], step="post", color=FRONT_COLOR, alpha=0.07, linewidth=0, zorder=1)
    for group in view.groups:
        _draw_group(panel, view, group)
    for trial, offset in zip(view.record.front, cycle(LABEL_OFFSETS), strict=False):
        place, number = view.place(trial), str(trial.number)
        panel.annotate(number, place, offset, textcoords="offset points", fontsize=8, color=INK, zorder=7)


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
        zorder=group.layer,
    )


def _draw_bars(panel: Axes, metric: str, names: Sequence[str], shares: Mapping[str, float]) -> None:
    bars = panel.barh(names, [shares[name] for name in names], color=BAR_COLOR, height=0.62)
    panel.bar_label(bars, fmt="{:.0%}", padding=4, fontsize=8, color=INK)
    panel.set_title(metric, fontsize=10, color=INK, loc="left")
    panel.set(xlim=(0, max(shares.values()) * 1.15), xticks=[])
    panel.spines["bottom"].set_visible(False)
    panel.tick_params(axis="y", length=0)
    panel.grid(visible=False)


def _new_figure(title: str, subtitle: str, panels: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(7.4 if panels == 1 else 4.6 * panels + 0.6, 5.2), dpi=160)
    FigureCanvasAgg(figure)
    figure.set_layout_engine(ConstrainedLayoutEngine(rect=(0, 0.06, 1, 0.8), w_pad=0.12, h_pad=0.06))
    figure.text(0.02, 0.965, title, fontsize=13, fontweight="bold", color=INK, va="top")
    figure.text(0.02, 0.905, subtitle, fontsize=9, color=MUTED, va="top", wrap=True)
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


def _write(panel: Axes, message: str) -> None:
    """Show a message in place of a picture that has no data."""
    panel.set_axis_off()
    panel.text(0.5, 0.5, message, ha="center", va="center", color=MUTED, fontsize=11, transform=panel.transAxes)


def _to_png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", facecolor="white")
    return stream.getvalue()
