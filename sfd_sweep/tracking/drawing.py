"""The look that all of matplotlib's pictures share."""

import io

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from sfd_sweep.tracking.front_view import INK, MUTED, RULE


def titled_figure(title: str, subtitle: str, size: tuple[float, float]) -> Figure:
    """Return an empty figure of a size in inches, with a title and a subtitle above its panels."""
    width, height = size
    figure = Figure(figsize=size, dpi=160)
    FigureCanvasAgg(figure)
    top, bottom = 0.73 / height, 0.08 / height
    figure.set_layout_engine(ConstrainedLayoutEngine(rect=(0, bottom, 1, 1 - bottom - top), w_pad=0.12, h_pad=0.06))
    figure.text(0.15 / width, 1 - 0.18 / height, title, fontsize=13, fontweight="bold", color=INK, va="top")
    figure.text(0.15 / width, 1 - 0.49 / height, subtitle, fontsize=9, color=MUTED, va="top", wrap=True)
    return figure


def dress(panel: Axes) -> None:
    """Give a panel its colors, grid, and open sides."""
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color(MUTED)
    panel.tick_params(colors=MUTED, labelsize=9)
    panel.xaxis.label.set(color=INK, fontsize=10)
    panel.yaxis.label.set(color=INK, fontsize=10)
    panel.grid(color=RULE, linewidth=0.8)
    panel.set_axisbelow(True)


def write_message(panel: Axes, message: str) -> None:
    """Show a message in place of a picture that has no data."""
    panel.set_axis_off()
    panel.text(0.5, 0.5, message, ha="center", va="center", color=MUTED, fontsize=11, transform=panel.transAxes)


def to_png(figure: Figure) -> bytes:
    """Return a figure as a PNG file."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", facecolor="white")
    return stream.getvalue()
