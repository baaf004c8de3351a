"""Reports as attributes of a trial in Optuna's study."""

from typing import Any

from optuna.trial import FrozenTrial

from sfd_sweep.errors import UserError
from sfd_sweep.trial.report import Report

_PREFIX = "report:"


def report_key(step: int) -> str:
    """Return the name of the attribute that holds the report of a step; names sort by step."""
    return f"{_PREFIX}{step:012d}"


def stored_reports(trial: FrozenTrial) -> tuple[Report, ...]:
    """Return all reports of a trial, by step.

    Raises:
        UserError: another version wrote them.
    """
    attributes = trial.user_attrs
    return tuple(read_report(attributes[key]) for key in sorted(attributes) if key.startswith(_PREFIX))


def read_report(fields: dict[str, Any]) -> Report:
    """Return the report of an attribute's value.

    Raises:
        UserError: another version wrote it.
    """
    try:
        return Report.from_dict(fields)
    except TypeError as error:
        raise UserError(
            "the study of this sweep was written by another version of sfd-sweep; resume it with that version, or run "
            "it anew under another name"
        ) from error
