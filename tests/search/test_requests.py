"""Requests to a sweep: its driver, or the next one, carries each out once."""

from pathlib import Path

import pytest
from stub_runtime import figures, make_space

from sfd_sweep.config import SearchSpace
from sfd_sweep.search.budget import trials_left, used_up
from sfd_sweep.search.requests import AddedTrial, SweepStop, TrialStop, carry_out, pending, put
from sfd_sweep.search.study import NothingNew, SweepStudy
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.report import Report, TrialState

ADDED = {"guidance_scale": 1.25, "generator_lr": 1e-4, "override": "random"}


@pytest.fixture
def space(tmp_path: Path) -> SearchSpace:
    return make_space(tmp_path, "budget.trials=2", "search.first=[{guidance_scale: 1.5}, {guidance_scale: 1.75}]")


@pytest.fixture
def sweep(tmp_path: Path) -> Folder:
    return Folder.open(tmp_path)


@pytest.fixture
def study(space: SearchSpace, sweep: Folder) -> SweepStudy:
    return SweepStudy(space, sweep)


def report(study: SweepStudy, number: int, step: int) -> None:
    study.report(number, Report(step, figures(study.trial(number).settings, step), {}, {}, {}))


def run_trial(study: SweepStudy) -> int:
    number = study.ask()
    report(study, number, 6)
    study.end(number)
    return number


def test_added_settings_come_before_all_others_and_beyond_the_budget(
    space: SearchSpace, sweep: Folder, study: SweepStudy
) -> None:
    run_trial(study)
    put(sweep, AddedTrial(ADDED))
    assert list(carry_out(sweep, study)) == [AddedTrial(ADDED)]
    assert list(pending(sweep)) == []
    assert study.queued() == [ADDED]
    for _ in range(2):
        assert used_up(space.budget, study) is None
        run_trial(study)
    assert [trial.searched["guidance_scale"] for trial in study.trials()] == [1.5, 1.25, 1.75]
    assert study.trial(1).searched == ADDED
    assert used_up(space.budget, study) == "2 trials"
    assert (study.beyond_budget(), trials_left(2, study)) == (1, 0)


def test_a_driver_that_is_killed_in_the_middle_takes_a_request_once(
    space: SearchSpace, sweep: Folder, study: SweepStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(sweep, AddedTrial(ADDED))
    with monkeypatch.context() as killed:
        killed.setattr(Folder, "remove", lambda *_: (_ for _ in ()).throw(OSError("killed")))
        with pytest.raises(OSError, match="killed"):
            list(carry_out(sweep, study))
    again = SweepStudy(space, sweep)
    list(carry_out(sweep, again))
    assert again.queued() == [ADDED]
    first = run_trial(again)
    assert again.trial(first).searched == ADDED


def test_a_resumed_study_numbers_its_trials_as_the_one_before(
    space: SearchSpace, sweep: Folder, study: SweepStudy
) -> None:
    put(sweep, AddedTrial(ADDED))
    list(carry_out(sweep, study))
    for _ in range(3):
        run_trial(study)
    again = SweepStudy(space, sweep)
    assert again.trials() == study.trials()
    assert again.beyond_budget() == 1


def test_settings_that_were_tried_are_not_run_again_unless_a_failed_trial_is_retried(
    sweep: Folder, study: SweepStudy
) -> None:
    run_trial(study)
    failed = study.ask()
    study.fail(failed, "it diverged")
    put(sweep, AddedTrial(study.trial(0).searched))
    list(carry_out(sweep, study))
    with pytest.raises(NothingNew):
        study.ask(only_added=True)
    assert study.take_repeats() == ["a proposal is not run again: trial 0 has the same settings"]
    put(sweep, AddedTrial(study.trial(failed).searched, retry_of=failed))
    list(carry_out(sweep, study))
    assert study.retried() == {failed}
    again = study.ask(only_added=True)
    assert study.trial(again).settings == study.trial(failed).settings
    with pytest.raises(NothingNew):
        study.ask(only_added=True)


def test_a_trial_that_the_user_stops_is_pruned_at_its_next_report_and_says_so(
    space: SearchSpace, sweep: Folder, study: SweepStudy
) -> None:
    number = study.ask()
    put(sweep, TrialStop(number))
    list(carry_out(sweep, study))
    again = SweepStudy(space, sweep)  # of a resumed sweep
    assert again.is_stopping(number)
    report(again, number, 2)
    again.end(number)
    trial = again.trial(number)
    assert (trial.state, trial.reason) == (TrialState.PRUNED, "the user stopped it at step 2")
    put(sweep, TrialStop(number))
    list(carry_out(sweep, again))
    assert again.trial(number) == trial


def test_a_request_to_stop_the_sweep_is_returned_and_gone(sweep: Folder, study: SweepStudy) -> None:
    put(sweep, SweepStop(now=True))
    put(sweep, TrialStop(7))
    assert list(carry_out(sweep, study)) == [SweepStop(now=True), TrialStop(7)]
    assert list(carry_out(sweep, study)) == []


def test_another_process_reads_a_study_that_its_driver_writes_and_changes_nothing(
    space: SearchSpace, sweep: Folder, study: SweepStudy, tmp_path: Path
) -> None:
    run_trial(study)
    before = {path.name: path.read_bytes() for path in (tmp_path / "study").iterdir()}
    assert len(before) > 1  # segments that a driver would merge
    assert SweepStudy(space, sweep, None).trials() == study.trials()
    assert {path.name: path.read_bytes() for path in (tmp_path / "study").iterdir()} == before
    run_trial(study)
    assert SweepStudy(space, sweep, None).trials() == study.trials()
