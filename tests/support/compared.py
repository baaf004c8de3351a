"""Recorded sweeps to compare, made without a store."""

from dataclasses import replace

from recorded import sweep, trial
from tracked_sweep import report, search_space

from sfd_sweep.search.records import SweepRecord
from sfd_sweep.search.trial import Trial

CLASSES = tuple(map(str, range(10)))
POINTS = {0: [(1.0, 0.5), (3.0, 0.9)], 1: [(2.0, 0.6), (4.0, 0.95)], 2: [(5.0, 0.2)]}
"""Distances and unlearning accuracies of the trials of each seed."""


def named(name: str, *trials: Trial, overrides: tuple[str, ...] = ()) -> SweepRecord:
    record = sweep(*trials, space=search_space("sqlite:///unused.db", f"name={name}", *overrides))
    return replace(record, summary=replace(record.summary, name=name))


def seeded(seed: int, *overrides: str, worse: float = 0.0, name: str = "small") -> SweepRecord:
    """The sweep of a seed; all its distances are worse by a number."""
    trials = [trial(number, distance + worse, share) for number, (distance, share) in enumerate(POINTS[seed])]
    return named(f"{name}-{seed}", *trials, overrides=(f"trial.seed={seed}", f"search.seed={seed}", *overrides))


def with_finals(record: SweepRecord, worse: float = 0.0) -> SweepRecord:
    """The sweep with a final report of every trial."""
    trials = [
        replace(
            each,
            final=report(20, each.metrics["fd_classifier"] + worse, each.metrics["unlearning_accuracy"], samples=9000),
        )
        for each in record.trials
    ]
    return replace(record, trials=tuple(trials))


def class_names(source: str) -> tuple[str, ...]:
    return CLASSES if source != "other" else (*CLASSES, "ten")
