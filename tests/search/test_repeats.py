"""What is known is not trained again: settings that repeat a trial go back to the sampler with what it has found."""

from pathlib import Path

import pytest
from stub_runtime import figures, make_space
from test_study import optuna_study, run_trial

from sfd_sweep.execution.stopping import Stop
from sfd_sweep.execution.tune import StudySearch
from sfd_sweep.search.budget import BudgetTracker
from sfd_sweep.search.study import STUDY, NothingNew, SweepStudy
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.report import Report, TrialState

TWO_SETTINGS = ("parameters.guidance_scale=1", "parameters.generator_lr=1.0e-4")  # only the override is searched
POINT = "{guidance_scale: 1.5, generator_lr: 1.0e-4, override: 1}"


def test_a_first_point_that_is_there_twice_is_run_once(tmp_path: Path) -> None:
    study = SweepStudy(make_space(tmp_path, f"search.first=[{POINT}, {POINT}]"), Folder.open(tmp_path))
    run_trial(study)
    run_trial(study)
    first, second = study.trials()
    assert first.searched != second.searched
    assert [trial.number for trial in study.trials()] == [0, 1]
    assert study.take_repeats() == ["a proposal is not run again: trial 0 has the same settings"]
    assert study.take_repeats() == []


def test_the_sampler_hears_what_the_repeated_trial_has_found(tmp_path: Path) -> None:
    study = SweepStudy(make_space(tmp_path, f"search.first=[{POINT}, {POINT}]"), Folder.open(tmp_path))
    run_trial(study)
    run_trial(study)
    original, repeat, _ = optuna_study(tmp_path).trials
    assert (repeat.params, repeat.values, repeat.constraints) == (
        original.params,
        original.values,
        original.constraints,
    )
    assert repeat.user_attrs == {"reason": "trial 0 has the same settings"}


@pytest.mark.parametrize("state", [TrialState.RUNNING, TrialState.FAILED, TrialState.PRUNED])
def test_a_trial_that_is_not_complete_is_not_repeated_either(tmp_path: Path, state: TrialState) -> None:
    study = SweepStudy(make_space(tmp_path, f"search.first=[{POINT}, {POINT}]"), Folder.open(tmp_path))
    number = study.ask()
    if state is TrialState.FAILED:
        study.fail(number, "it diverged")
    if state is TrialState.PRUNED:
        study.report(number, Report(4, figures(study.trial(0).settings, 4), {}, {}, {}))
        study.end(number)
    assert study.ask() == 1
    assert [trial.state for trial in study.trials()] == [state, TrialState.RUNNING]
    assert optuna_study(tmp_path).trials[1].state.name == "FAIL"


@pytest.mark.parametrize("sampler", ["tpe", "mfgp", "nsga2", "nsga3", "gp", "qmc", "random"])
@pytest.mark.filterwarnings("error")
def test_a_space_of_two_settings_gives_two_trials_and_then_nothing_new(tmp_path: Path, sampler: str) -> None:
    study = SweepStudy(make_space(tmp_path, f"search.sampler={sampler}", *TWO_SETTINGS), Folder.open(tmp_path))
    run_trial(study)
    run_trial(study)
    with pytest.raises(NothingNew):
        study.ask()
    assert {trial.settings.override for trial in study.trials()} == {1, "random"}
    again = SweepStudy(make_space(tmp_path, f"search.sampler={sampler}", *TWO_SETTINGS), Folder.open(tmp_path))
    assert again.trials() == study.trials()


def test_the_sweep_ends_when_there_is_nothing_new(tmp_path: Path) -> None:
    space = make_space(tmp_path, *TWO_SETTINGS)
    study = SweepStudy(space, Folder.open(tmp_path))
    said: list[str] = []
    searcher = StudySearch(study, BudgetTracker(space, study), Stop(), why_stopped=lambda _: None, say=said.append)
    suggested = [searcher.suggest(tune_id) for tune_id in "abc"]
    assert [found and found["number"] for found in suggested] == [0, 1, None]  # users may still add settings
    assert said[-1].startswith("a proposal is not run again")
    assert "no new trial: the sampler proposes nothing that has not been tried" in said


def test_a_repeat_that_was_being_drawn_when_the_driver_died_is_still_one(tmp_path: Path) -> None:
    space = make_space(tmp_path, f"search.first=[{POINT}, {POINT}]")
    study = SweepStudy(space, Folder.open(tmp_path))
    run_trial(study)
    before = set((tmp_path / STUDY).iterdir())
    study.ask()
    whole = study.trials()
    repeat, _ = sorted(set((tmp_path / STUDY).iterdir()) - before)
    assert "has the same settings" in repeat.read_text()
    for segment in set((tmp_path / STUDY).iterdir()) - before:
        segment.unlink()
    again = SweepStudy(space, Folder.open(tmp_path))
    assert (again.running(), again.ended()) == ([], 1)
    again.ask()
    assert again.trials() == whole
