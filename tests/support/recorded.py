"""Sweeps as records, made without a store."""

from datetime import UTC, datetime, timedelta

from tracked_sweep import report, search_space

from sfd_sweep.config import SearchSpace
from sfd_sweep.search.records import SweepRecord, SweepState, SweepSummary
from sfd_sweep.search.trial import Trial, TrialRun
from sfd_sweep.trial.report import Report, TrialState

START = datetime(2025, 1, 1, tzinfo=UTC)


def trial(
    number: int,
    distance: float,
    accuracy: float,
    state: TrialState = TrialState.COMPLETE,
    *,
    override_distance: float = 4.0,
    final: Report | None = None,
    generator_lr: float = 1e-4,
    forget_weight: float = 0.1,
) -> Trial:
    searched = {"generator_lr": generator_lr, "forget_weight": forget_weight, "override": (1, "random")[number % 2]}
    return Trial(
        number=number,
        state=state,
        settings=search_space("sqlite:///unused.db").parameters.settings(searched),
        searched=searched,
        reports=(report(20, distance, accuracy, override_distance),),
        final=final,
        recorded=TrialRun(
            run_id=f"run{number}",
            ended=START + timedelta(minutes=number),
            slot_hours=0.01,
            score=0.5,
            model_uri=None,
        ),
    )


def sweep(*trials: Trial, space: SearchSpace | None = None) -> SweepRecord:
    summary = SweepSummary(
        name="small",
        state=SweepState.COMPLETE,
        reason=None,
        started=START,
        planned=len(trials),
        finished=len(trials),
        front_size=0,
        hypervolume=None,
        slot_hours=0.0,
        storage="file:///runs/small",
        run_id="parent",
    )
    return SweepRecord(summary, space or search_space("sqlite:///unused.db"), trials)
