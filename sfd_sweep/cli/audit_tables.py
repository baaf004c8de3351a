"""Tables of audits and of verified folders."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.table import Table

from sfd_sweep.audit.summary import (
    REVIVAL_HEADER,
    SUBJECT_NAMES,
    budget_in_words,
    cell,
    comparison,
    headline,
    judged_by,
    retained_in_words,
    revival_in_words,
)
from sfd_sweep.cli.tables import console, state_text

if TYPE_CHECKING:
    from sfd_sweep.audit.report import AttackReport, AuditReport
    from sfd_sweep.export.verifying import Finding


def print_audit(report: AuditReport) -> None:
    """Print what an audit has found: the headline, the attacks on each subject, and what was not tried."""
    for sentence in (*headline(report), comparison(report)):
        if sentence:
            console.print(sentence)
    console.print()
    console.print(_attacks_table(report))
    console.print(
        f"\nPercent of samples that show {' or '.join(report.forgotten)} with the whole budget (95 % interval); "
        f"{REVIVAL_HEADER}: least budget of the generator."
    )
    for sentence in (retained_in_words(report), judged_by(report)):
        if sentence:
            console.print(sentence)
    for reason in report.missing:
        console.print(f"Not tried: {reason}.")


def print_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Print what became of each claim of a folder as it arrives, and return all."""
    found = []
    for finding in findings:
        found.append(finding)
        status = state_text("fault" if finding.failure else "ok")
        console.print(status.append(f"  {finding.claim}: {finding.failure or finding.text}", style="default"))
    return found


def _attacks_table(report: AuditReport) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("attack", overflow="fold")
    table.add_column("budget", overflow="fold")
    for subject in report.subjects:
        table.add_column(f"{SUBJECT_NAMES[subject]}, %", justify="right")
    if report.has_control:
        table.add_column("excess", justify="right")
    table.add_column(REVIVAL_HEADER, justify="right")
    table.add_column("seconds", justify="right")
    for attack in report.attacks:
        table.add_row(*_cells(attack, report))
    return table


def _cells(attack: AttackReport, report: AuditReport) -> list[str]:
    excess = attack.excess()
    return [
        attack.name,
        budget_in_words(attack),
        *(cell(attack.rate(subject)) for subject in report.subjects),
        *([] if excess is None else [f"{excess.value:.2f} ({excess.low:.2f} to {excess.high:.2f})"]),
        revival_in_words(attack),
        f"{attack.seconds():.1f}",
    ]
