"""A sweep that stops trials early, on Ray: Tune does what the pure ranking decides, and the study says why."""

from pathlib import Path

import pytest
from stub_runtime import Notebook, StubBuild, make_space, notes

from sfd_sweep.config import MultiObjectiveAshaScheduler, SearchSpace
from sfd_sweep.execution.run import run
from sfd_sweep.search.halving import MultiObjectiveHalving
from sfd_sweep.search.study import StudyTrial, SweepStudy
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.report import TrialState

pytestmark = pytest.mark.usefixtures("cluster")


def expected(space: SearchSpace, trials: list[StudyTrial]) -> list[tuple[int, str | None]]:
    """Each trial's last step and why it was stopped, by the ranking alone, trial after trial as on one slot."""
    scheduler = space.search.scheduler
    assert isinstance(scheduler, MultiObjectiveAshaScheduler)
    halving, ends = MultiObjectiveHalving(space, scheduler), []
    for trial in trials:
        for reported in trial.reports:
            step = reported.report.step
            verdict = halving.judge(f"{trial.number}", step, reported.report.metrics)
            if verdict and not verdict.goes_on:
                ends.append((step, f"mo_asha stopped it at step {step}: {verdict.reason}"))
                break
        else:
            ends.append((space.trial.steps, None))
    return ends


def test_tune_stops_the_trials_that_the_ranking_stops_and_the_study_says_why(tmp_path: Path) -> None:
    chosen = "search.scheduler={type: mo_asha, grace_evaluations: 1, reduction_factor: 2}"
    space = make_space(tmp_path, chosen, "budget.trials=8")
    outcome = run(space, build=StubBuild(), open_recorder=Notebook().open)
    trials = SweepStudy(space, Folder.open(outcome.folder)).trials()
    ends = [(trial.reports[-1].report.step, trial.reason) for trial in trials]
    assert ends == expected(space, trials)
    complete = [trial.number for trial in trials if trial.state is TrialState.COMPLETE]
    pruned = [trial.number for trial in trials if trial.state is TrialState.PRUNED]
    assert sorted(complete + pruned) == list(range(8))
    assert len(pruned) >= 2
    assert set(outcome.front) <= set(complete)
    trained = [(note["number"], note["to"]) for note in notes(Path(outcome.folder)) if note["what"] == "trained"]
    assert trained == [(number, step) for number, (end, _) in enumerate(ends) for step in range(2, end + 1, 2)]
