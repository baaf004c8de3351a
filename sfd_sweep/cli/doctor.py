"""The command that looks at a cluster before a long run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sfd_sweep.cli.options import Address
from sfd_sweep.errors import UserError


def doctor(
    file: Annotated[
        Path | None, typer.Argument(help="The search-space file (YAML) of what is to be run.", metavar="[FILE]")
    ] = None,
    *,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a key, such as storage=/mnt/runs; repeatable.", metavar="KEY=VALUE"),
    ] = None,
    address: Address = "local",
) -> None:
    """Look at a cluster, from inside, before a long run.

    Versions, GPUs and open ports; with FILE also storage, models, tracking and room for the trials. It leaves with 2 if
    anything is at fault.
    """
    from sfd_sweep.cli.tables import print_findings
    from sfd_sweep.config.loading import load_search_space
    from sfd_sweep.execution.doctor import CheckStatus, examine

    if overrides and file is None:
        raise UserError("--set is of a search-space file; name the file too")
    findings = examine(load_search_space(file, overrides or ()) if file else None, address)
    print_findings(findings)
    faults = sum(finding.verdict is CheckStatus.FAULT for finding in findings)
    if faults:
        raise UserError(f"{faults} of {len(findings)} checks found a fault; mend what the table names, and look again")
