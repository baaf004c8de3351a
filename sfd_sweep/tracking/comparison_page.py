"""A comparison as a self-contained page that works offline and on narrow screens."""

from html import escape

import plotly.graph_objects as go

from sfd_sweep.search.comparison import Comparison
from sfd_sweep.tracking.comparison_tables import text_table
from sfd_sweep.tracking.comparison_view import Band, ComparisonView, Look, Panel
from sfd_sweep.tracking.front_view import INK, MUTED, RULE

AREA_ALPHA, POINT_ALPHA = 0.16, 0.55
HEIGHT = 420
CONFIG = {"displayModeBar": False, "responsive": True}
STYLE = f"""
:root {{ color-scheme: light }}
body {{ margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 78rem; color: {INK}; background: white;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif }}
h1 {{ margin: 0; font-size: 1.5rem; overflow-wrap: anywhere }}
p {{ margin: .3rem 0; max-width: 75ch; overflow-wrap: anywhere }}
.muted {{ color: {MUTED} }}
.legend {{ display: flex; flex-wrap: wrap; gap: .3rem 1.5rem; margin: 1rem 0 .5rem; padding: 0; list-style: none }}
.legend svg {{ margin-right: .5rem; vertical-align: middle }}
.panels {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); gap: 1rem }}
.panels > div {{ min-width: 0 }}
.panels h2 {{ margin: .5rem 0 0; font-size: .9rem; font-weight: normal; color: {MUTED} }}
.table {{ overflow-x: auto; margin: 1.5rem 0 1rem }}
table {{ border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }}
th, td {{ padding: .4rem .8rem; text-align: right; white-space: nowrap; border-bottom: 1px solid {RULE} }}
th {{ font-weight: 600; vertical-align: bottom; white-space: normal }}
td small {{ color: {MUTED} }}
th:first-child, td:first-child {{ text-align: left; padding-left: 0; white-space: normal }}
"""


def comparison_html(comparison: Comparison) -> str:
    """Return a page with the panels of a comparison, its table, and its remarks; it loads nothing."""
    view = ComparisonView(comparison)
    panels = [_panel(panel, view.looks, with_library=index == 0) for index, panel in enumerate(view.panels)]
    remarks = "".join(f"<p>{escape(remark)}</p>" for remark in comparison.remarks())
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(view.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<h1>{escape(view.title)}</h1>\n<p class="muted">{escape(view.subtitle)}</p>\n'
        f'<ul class="legend">{"".join(map(_legend_entry, view.looks))}</ul>\n'
        f'<div class="panels">{"".join(panels)}</div>\n'
        f'<div class="table">{_table(comparison)}</div>\n{remarks}\n</body>\n</html>\n'
    )


def _panel(panel: Panel, looks: list[Look], *, with_library: bool) -> str:
    figure = go.Figure()
    for band, look in zip(panel.bands, looks, strict=True):
        _draw_band(figure, band, look)
    if panel.level:
        height, label = panel.level
        figure.add_hline(
            height,
            line={"color": MUTED, "dash": "dot", "width": 1},
            annotation={"text": label, "font": {"color": MUTED}},
            annotation_position="top left",
        )
    axes = {
        name: {"title": {"text": title}, "range": limits, "gridcolor": RULE, "zeroline": False, **_ticks(ticks)}
        for name, title, limits, ticks in zip(
            ("xaxis", "yaxis"), (panel.across, panel.up), panel.limits, panel.ticks, strict=True
        )
    }
    figure.update_layout(
        template="plotly_white",
        font={"color": INK, "size": 12},
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        height=HEIGHT,
        showlegend=False,
        hoverlabel={"bgcolor": "white"},
        **axes,
    )
    drawn = figure.to_html(include_plotlyjs=with_library, full_html=False, config=CONFIG, default_height=HEIGHT)
    return f"<div><h2>{escape(panel.title)}</h2>{drawn}</div>"


def _draw_band(figure: go.Figure, band: Band, look: Look) -> None:
    if band.area:
        x, y = zip(*band.area, strict=True)
        fill = _transparent(look.color, AREA_ALPHA)
        figure.add_scatter(x=x, y=y, fill="toself", mode="none", fillcolor=fill, hoverinfo="skip")
    if band.line:
        x, y = zip(*band.line, strict=True)
        line = {"color": look.color, "dash": look.dash, "width": 2}
        figure.add_scatter(x=x, y=y, mode="lines", line=line, hoverinfo="name", name=look.label)
    if band.points:
        x, y = zip(*band.points, strict=True)
        marker = {"color": _transparent(look.color, POINT_ALPHA), "size": 6}
        figure.add_scatter(x=x, y=y, mode="markers", marker=marker, hoverinfo="name", name=look.label)


def _transparent(color: str, alpha: float) -> str:
    red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {alpha})"


def _ticks(ticks: dict[float, str]) -> dict[str, list[float] | list[str]]:
    return {"tickvals": list(ticks), "ticktext": list(ticks.values())} if ticks else {}


def _legend_entry(look: Look) -> str:
    dashes = {"solid": "", "dash": "8 4", "dot": "2 3"}[look.dash]
    line = f'<line x2="28" y1="5" y2="5" stroke="{look.color}" stroke-width="3" stroke-dasharray="{dashes}"/>'
    return f'<li><svg width="28" height="10" aria-hidden="true">{line}</svg>{escape(look.label)}</li>'


def _table(comparison: Comparison) -> str:
    table = text_table(comparison)
    head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    rows = ["".join(f"<td>{_cell(text)}</td>" for text in row) for row in table.to_numpy().tolist()]
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(f'<tr>{row}</tr>' for row in rows)}</tbody></table>"


def _cell(text: str) -> str:
    """Return a median above its quartiles, or any other text as it is."""
    median, _, rest = text.partition(" (")
    return f"{escape(median)}<br><small>{escape(rest[:-1])}</small>" if rest.endswith(")") else escape(text)
