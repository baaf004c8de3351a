"""A comparison as a self-contained page that works offline and on narrow screens."""

import base64
from html import escape

from sfd_sweep.search.comparison import Comparison
from sfd_sweep.tracking.comparison_picture import panel_svg
from sfd_sweep.tracking.comparison_tables import text_table
from sfd_sweep.tracking.comparison_view import ComparisonView, Look, Panel
from sfd_sweep.tracking.front_view import INK, MUTED, RULE

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
.panels img {{ width: 100% }}
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
    panels = [_panel(panel, view.looks) for panel in view.panels]
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


def _panel(panel: Panel, looks: list[Look]) -> str:
    picture = base64.b64encode(panel_svg(panel, looks)).decode()
    words = escape(f"{panel.title}: {panel.up} over {panel.across}")
    return f'<img src="data:image/svg+xml;base64,{picture}" alt="{words}">'


def _legend_entry(look: Look) -> str:
    dashes = {"solid": "", "dash": "8 4", "dot": "2 3"}[look.dash]
    line = f'<line x2="28" y1="5" y2="5" stroke="{look.color}" stroke-width="3" stroke-dasharray="{dashes}"/>'
    return f'<li><svg width="28" height="10" aria-hidden="true">{line}</svg>{escape(look.label)}</li>'


def _table(comparison: Comparison) -> str:
    table = text_table(comparison)
    head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    rows = [
        f"<td>{escape(label)}</td>" + "".join(f"<td>{_cell(text)}</td>" for text in cells)
        for label, *cells in table.to_numpy().tolist()
    ]
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(f'<tr>{row}</tr>' for row in rows)}</tbody></table>"


def _cell(text: str) -> str:
    """Return a median above its quartiles, or any other text as it is."""
    median, _, rest = text.partition(" (")
    return f"{escape(median)}<br><small>{escape(rest[:-1])}</small>" if rest.endswith(")") else escape(text)
