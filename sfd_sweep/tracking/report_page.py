"""The page of a sweep, `report.html`: one file without a network, to choose a generator by eye."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

from sfd_sweep.search.records import SweepRecord
from sfd_sweep.tracking.report_data import report_data
from sfd_sweep.tracking.stored_samples import StoredSamples
from sfd_sweep.trial.report import Report

REPORT_PAGE = "report.html"
PARTS = Path(__file__).parent / "page"
SCRIPTS = ("base.js", "front.js", "charts.js", "trials.js", "page.js")


def report_html(
    record: SweepRecord, reports: Mapping[int, Sequence[Report]], samples: StoredSamples, uri: str | None
) -> bytes:
    """Return the page; the arguments are those of `report_data`."""
    data = json.dumps(report_data(record, reports, samples, uri), ensure_ascii=False, allow_nan=False)
    page = Template(_part("page.html")).substitute(
        title=escape(record.summary.name),
        style=_part("page.css"),
        script="\n".join(map(_part, SCRIPTS)),
        data=data.replace("<", "\\u003c"),  # so that no text of the data ends the element
    )
    return page.encode()


def _part(name: str) -> str:
    return (PARTS / name).read_text(encoding="utf-8")
