"""The searcher, as Tune calls it, without Tune: what it hands out and what it makes of a trial's end."""

from pathlib import Path

import pytest
from ray.tune.search import Searcher
from stub_runtime import figures, make_space

from sfd_sweep.errors import Interrupted
from sfd_sweep.execution.stopping import Stop
from sfd_sweep.execution.tune_searcher import StudySearch
from sfd_sweep.search.budget import BudgetTracker
from sfd_sweep.search.study import SweepStudy
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.report import Report, TrialState


@pytest.fixture
def study(tmp_path: Path) -> SweepStudy:
    return SweepStudy(make_space(tmp_path), Folder.open(tmp_path))


def searcher_of(study: SweepStudy, why_stopped: str | None = None, stop: Stop | None = None) -> StudySearch:
    spending = BudgetTracker(make_space(Path()), study)
    return StudySearch(study, spending, stop or Stop(), why_stopped=lambda _: why_stopped, say=pytest.fail)


def report(study: SweepStudy, number: int, step: int) -> None:
    study.report(number, Report(step, figures(study.trial(number).settings, step), {}, {}, {}), 0.0)


def test_it_hands_out_number_and_settings(study: SweepStudy) -> None:
    searcher = searcher_of(study)
    suggested = [searcher.suggest("a"), searcher.suggest("b")]
    assert suggested == [{"number": number, "settings": study.trial(number).settings.model_dump()} for number in (0, 1)]


def test_trials_that_an_earlier_driver_left_running_come_first(tmp_path: Path) -> None:
    space = make_space(tmp_path)
    earlier = SweepStudy(space, Folder.open(tmp_path))
    for _ in range(3):
        earlier.ask()
    earlier.fail(1, "it diverged")
    searcher = searcher_of(SweepStudy(space, Folder.open(tmp_path)))
    assert [searcher.suggest(tune_id)["number"] for tune_id in "abc"] == [0, 2, 3]


def test_how_a_trial_has_ended_follows_from_its_reports_and_not_from_tunes_word(study: SweepStudy) -> None:
    searcher = searcher_of(study)
    for tune_id, step in (("full", 6), ("stopped", 4)):
        report(study, searcher.suggest(tune_id)["number"], step)
        searcher.on_trial_complete(tune_id, {"step": step, "done": True})
    assert [trial.state for trial in study.trials()] == [TrialState.COMPLETE, TrialState.PRUNED]


def test_the_study_hears_why_the_scheduler_stopped_a_trial(study: SweepStudy) -> None:
    searcher = searcher_of(study, "rank 5 of 9")
    for tune_id, step in (("full", 6), ("stopped", 4)):
        report(study, searcher.suggest(tune_id)["number"], step)
        searcher.on_trial_complete(tune_id, {"step": step})
    assert [trial.reason for trial in study.trials()] == [None, "none stopped it at step 4: rank 5 of 9"]


def test_a_failure_is_told_with_its_reason(study: SweepStudy) -> None:
    searcher = searcher_of(study)
    searcher.suggest("a")
    searcher.on_trial_complete("a", {"failure": "it diverged", "done": True})
    searcher.suggest("b")
    searcher.on_trial_complete("b", error=True)
    assert [(trial.state, trial.reason) for trial in study.trials()] == [
        (TrialState.FAILED, "it diverged"),
        (TrialState.FAILED, "its Tune actor died again and again"),
    ]


def test_a_trial_that_tune_says_nothing_of_stays_running(study: SweepStudy, tmp_path: Path) -> None:
    searcher_of(study).suggest("a")
    assert SweepStudy(make_space(tmp_path), Folder.open(tmp_path)).running() == [0]


def test_a_sweep_that_stops_begins_no_trial_and_leaves_those_that_stop_with_it_running(study: SweepStudy) -> None:
    stop = Stop()
    searcher = searcher_of(study, stop=stop)
    searcher.suggest("a")
    stop.request(Interrupted("Ctrl-C"), now=False)
    assert searcher.suggest("b") == Searcher.FINISHED
    searcher.on_trial_complete("a", {"stopped": True, "done": True})
    assert study.running() == [0]
