"""Sweeps whose driver was killed: MLflow has them as running, but they are not."""

from dataclasses import replace
from pathlib import Path

from sfd_sweep.search.records import SweepRecord, SweepState, SweepSummary
from sfd_sweep.storage.folder import Folder
from sfd_sweep.storage.lock import is_abandoned
from sfd_sweep.trial.report import TrialState


def as_it_is(recorded: SweepSummary) -> SweepSummary:
    """One line about a sweep, abandoned if its driver, on this machine, has died without a word."""
    if recorded.state is not SweepState.RUNNING or not recorded.storage.startswith("file:"):
        return recorded
    if not is_abandoned(Path(Folder.open(recorded.storage).path)):
        return recorded
    reason = f"its driver has died; `sfd-sweep resume {recorded.name}` goes on with it"
    return replace(recorded, state=SweepState.ABANDONED, reason=reason)


def record_as_it_is(recorded: SweepRecord) -> SweepRecord:
    """A sweep and its trials likewise: those of an abandoned sweep that have not ended are stopped."""
    summary = as_it_is(recorded.summary)
    if summary.state is not SweepState.ABANDONED:
        return recorded
    trials = [
        replace(trial, state=TrialState.STOPPED) if trial.state is TrialState.RUNNING else trial
        for trial in recorded.trials
    ]
    return replace(recorded, summary=summary, trials=tuple(trials))
