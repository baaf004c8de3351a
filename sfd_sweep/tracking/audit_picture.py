"""The picture of an audit: a panel for each attack, and in it the rate of each subject over the attack's budget."""

import io
import math

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, PercentFormatter

from sfd_sweep.audit.report import GENERATOR, NEVER_KNEW, REVIVED, START, SWAP, AttackReport, AuditReport
from sfd_sweep.audit.summary import SUBJECT_NAMES
from sfd_sweep.tracking.front_view import FRONT_COLOR, INK, MUTED, RULE

AUDIT_PICTURE = "audit.png"
LINES = {
    GENERATOR: (FRONT_COLOR, "-", "o"),
    NEVER_KNEW: ("#3d6b99", "--", "s"),
    SWAP: ("#8a6d3b", ":", "^"),
    START: (MUTED, "-.", "v"),
}
"""Color, line and marker of each subject; those with the same curve are told apart by their line."""
MOST_COLUMNS = 4
PANEL_WIDTH, PANEL_HEIGHT = 3.3, 2.7  # inches
HEADER, FOOTER = 0.75, 0.45  # inches above and below the panels


def audit_png(report: AuditReport) -> bytes:
    """Return the curves of an audit with their 95 % intervals (PNG)."""
    figure, panels = _figure(len(report.attacks))
    forgotten = " or ".join(report.forgotten)
    figure.text(
        0.02, 0.985, f"{report.level} audit of forgetting {forgotten}", color=INK, va="top", size=13, weight="bold"
    )
    height = figure.get_size_inches()[1]
    subtitle = "share of samples that show it, by the judge, over the attacker's budget, with 95 % intervals"
    figure.text(0.02, 1 - 0.45 / height, subtitle, color=MUTED, va="top", size=9)
    for panel, attack in zip(panels, report.attacks, strict=False):
        _draw(panel, attack, report.subjects)
    for panel in panels[len(report.attacks) :]:
        panel.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles[::-1], labels[::-1], loc="lower center", ncol=len(LINES), frameon=False, fontsize=9, labelcolor=INK
    )
    stream = io.BytesIO()
    figure.savefig(stream, format="png", facecolor="white")
    return stream.getvalue()


def _figure(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(count, MOST_COLUMNS)
    rows = math.ceil(count / columns)
    width, height = max(2, columns) * PANEL_WIDTH, rows * PANEL_HEIGHT + HEADER + FOOTER
    figure = Figure(figsize=(width, height), dpi=160)
    FigureCanvasAgg(figure)
    inside = (0, FOOTER / height, 1, rows * PANEL_HEIGHT / height)
    figure.set_layout_engine(ConstrainedLayoutEngine(rect=inside, w_pad=0.1, h_pad=0.08))
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _draw(panel: Axes, attack: AttackReport, subjects: tuple[str, ...]) -> None:
    budgets = attack.budgets
    for subject in reversed(subjects):  # the generator on top
        color, line, marker = LINES[subject]
        curve = attack.curve(subject)
        low, high = [each.low for each in curve], [each.high for each in curve]
        values = [each.value for each in curve]
        if len(budgets) > 1:
            panel.fill_between(budgets, low, high, color=color, alpha=0.15, linewidth=0)
        else:
            panel.vlines(budgets, low, high, color=color, alpha=0.5)
        label = SUBJECT_NAMES[subject]
        panel.plot(budgets, values, color=color, linestyle=line, marker=marker, markersize=4, label=label)
    panel.axhline(REVIVED, color=RULE, linewidth=1.2, zorder=0)
    panel.set_title(attack.name, fontsize=10, color=INK, loc="left")
    panel.set_xlabel(attack.unit, fontsize=9, color=INK)
    panel.set_ylim(-0.03, 1.03)
    panel.yaxis.set_major_formatter(PercentFormatter(1.0))
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color(MUTED)
    panel.tick_params(colors=MUTED, labelsize=8)
