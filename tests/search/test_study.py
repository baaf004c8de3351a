"""The study: it tells the truth about every trial, and a driver that dies takes nothing of it along."""

import math
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from stub_runtime import figures, make_space

from sfd_sweep.config import SearchSpace
from sfd_sweep.errors import SweepFailed, UserError
from sfd_sweep.search.samplers import make_sampler
from sfd_sweep.search.study import STUDY, SweepStudy, is_begun
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.report import Report, TrialState

SAMPLERS = ("tpe", "mfgp", "nsga2", "nsga3", "gp", "qmc", "random")


def report_at(study: SweepStudy, number: int, step: int, **changed: float) -> Report:
    """A report as the stub runtime would make it."""
    metrics = figures(study.trial(number).settings, step) | changed
    return Report(step, metrics, {"retained": 100}, {}, {"training": 1.0})


def run_trial(study: SweepStudy) -> int:
    """One trial from asking to its end."""
    number = study.ask()
    study.report(number, report_at(study, number, 6))
    study.end(number)
    return number


def searched(study: SweepStudy) -> list[dict[str, object]]:
    return [trial.searched for trial in study.trials()]


def optuna_study(folder: Path) -> optuna.Study:
    """What Optuna's own journal reads from the segments, one after another."""
    whole = folder / "whole.journal"
    whole.write_bytes(b"".join(segment.read_bytes() for segment in sorted((folder / STUDY).iterdir())))
    return optuna.load_study(study_name="stub", storage=JournalStorage(JournalFileBackend(str(whole))))


@pytest.fixture
def space(tmp_path: Path) -> SearchSpace:
    return make_space(tmp_path)


@pytest.fixture
def study(space: SearchSpace, tmp_path: Path) -> SweepStudy:
    return SweepStudy(space, Folder.open(tmp_path))


def test_a_trial_at_its_full_budget_is_complete_with_the_figures_of_its_last_report(
    study: SweepStudy, tmp_path: Path
) -> None:
    number = run_trial(study)
    expected = report_at(study, number, 6).metrics
    (trial,) = optuna_study(tmp_path).trials
    assert trial.state == optuna.trial.TrialState.COMPLETE
    assert trial.values == [expected["fd_classifier"], expected["unlearning_accuracy"]]


def test_optuna_knows_the_directions_and_which_trials_are_feasible(study: SweepStudy, tmp_path: Path) -> None:
    run_trial(study)
    broken = study.ask()
    study.report(broken, report_at(study, broken, 6, override_distance=126.0))
    study.end(broken)
    known = optuna_study(tmp_path)
    assert [direction.name for direction in known.directions] == ["MINIMIZE", "MAXIMIZE"]
    assert [trial.number for trial in known.best_trials] == [0]


def test_a_trial_that_was_stopped_early_is_pruned_and_says_when(study: SweepStudy, tmp_path: Path) -> None:
    number = study.ask()
    study.report(number, report_at(study, number, 4))
    study.end(number)
    (trial,) = optuna_study(tmp_path).trials
    assert trial.state == optuna.trial.TrialState.PRUNED
    assert trial.values is None
    assert study.trial(number).state is TrialState.PRUNED
    assert "step 4" in str(study.trial(number).reason)


@pytest.mark.parametrize("metric", ["fd_classifier", "unlearning_accuracy", "override_distance"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_trial_whose_figures_are_not_finite_has_failed(study: SweepStudy, metric: str, value: float) -> None:
    number = study.ask()
    study.report(number, report_at(study, number, 6, **{metric: value}))
    study.end(number)
    assert study.trial(number).state is TrialState.FAILED
    assert "not finite" in str(study.trial(number).reason)


def test_a_failed_trial_keeps_its_reason(study: SweepStudy, space: SearchSpace, tmp_path: Path) -> None:
    study.fail(study.ask(), "the loss diverged")
    again = SweepStudy(space, Folder.open(tmp_path))
    assert (again.trial(0).state, again.trial(0).reason) == (TrialState.FAILED, "the loss diverged")


def test_another_driver_finds_running_trials_with_their_parameters_and_reports(
    study: SweepStudy, space: SearchSpace, tmp_path: Path
) -> None:
    run_trial(study)
    number = study.ask()
    study.report(number, report_at(study, number, 2))
    again = SweepStudy(space, Folder.open(tmp_path))
    assert again.running() == [number]
    assert again.ended() == 1
    assert again.trials() == study.trials()
    again.report(number, report_at(study, number, 6))
    again.end(number)
    assert again.trial(number).state is TrialState.COMPLETE


def test_a_report_is_kept_once_and_comes_back_as_it_was(study: SweepStudy) -> None:
    number = study.ask()
    report = replace(report_at(study, number, 2), seconds={"training": 2.0, "waiting": 0.25})
    assert study.report(number, report)
    assert not study.report(number, replace(report, metrics={}))
    (kept,) = study.trial(number).reports
    assert kept == report


def test_final_reports_are_kept_beside_those_of_the_search(
    study: SweepStudy, space: SearchSpace, tmp_path: Path
) -> None:
    number = run_trial(study)
    final = replace(report_at(study, number, 6), samples={"retained": 10_000})
    study.report_final(number, final)
    for known in (study, SweepStudy(space, Folder.open(tmp_path))):
        assert known.trial(number).final == final
        assert known.trial(number).report != final


def test_the_first_settings_of_the_file_are_tried_first_and_completed_by_the_sampler(tmp_path: Path) -> None:
    space = make_space(tmp_path, "search.first=[{guidance_scale: 1.5, generator_lr: 1.0e-4}, {guidance_scale: 1.25}]")
    study = SweepStudy(space, Folder.open(tmp_path))
    drawn = [study.trial(study.ask()).searched for _ in range(3)]
    assert (drawn[0]["guidance_scale"], drawn[0]["generator_lr"]) == (1.5, 1e-4)
    assert drawn[1]["guidance_scale"] == 1.25
    assert 1e-5 <= float(drawn[1]["generator_lr"]) <= 1e-3
    again = SweepStudy(space, Folder.open(tmp_path))
    assert again.trial(again.ask()).searched["guidance_scale"] not in (1.5, 1.25)


def test_what_is_drawn_lies_in_the_distributions_and_keeps_its_type(tmp_path: Path) -> None:
    space = make_space(
        tmp_path,
        "parameters.override={type: categorical, choices: [1, random, classifier]}",
        "parameters.guidance_scale={type: float, low: 1, high: 2, step: 0.25}",
        "parameters.batch_size={type: int, low: 2, high: 64, log: true}",
    )
    study = SweepStudy(space, Folder.open(tmp_path))
    drawn = [study.trial(study.ask()).settings for _ in range(30)]
    assert {settings.override for settings in drawn} == {1, "random", "classifier"}
    assert {settings.guidance_scale for settings in drawn} == {1.0, 1.25, 1.5, 1.75, 2.0}
    assert all(type(settings.batch_size) is int and 2 <= settings.batch_size <= 64 for settings in drawn)
    assert SweepStudy(space, Folder.open(tmp_path)).trial(3).settings == drawn[3]


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.filterwarnings("error")
class TestEverySampler:
    def sweep(self, folder: Path, sampler: str, *more: str) -> tuple[SearchSpace, Folder]:
        return make_space(folder, f"search.sampler={sampler}", "budget.trials=20", *more), Folder.open(folder)

    def test_draws_another_sequence_from_another_seed(self, sampler: str, tmp_path: Path) -> None:
        seeds = ("search.seed=0", "search.seed=1")
        studies = [SweepStudy(*self.sweep(tmp_path / seed, sampler, seed)) for seed in seeds]
        for study in studies:
            for _ in range(3):
                run_trial(study)
        assert searched(studies[0]) != searched(studies[1])

    def test_draws_the_same_from_the_same_seed_resumed_or_not(self, sampler: str, tmp_path: Path) -> None:
        whole = SweepStudy(*self.sweep(tmp_path / "whole", sampler))
        for _ in range(12):
            run_trial(whole)
        parts = self.sweep(tmp_path / "parts", sampler)
        for trials in (4, 7, 1):
            study = SweepStudy(*parts)
            for _ in range(trials):
                run_trial(study)
        assert searched(study) == searched(whole)
        if not sampler.startswith("nsga"):  # children of a genetic algorithm may be copies of their parents
            assert len({str(values) for values in searched(study)}) == 12

    def test_bears_trials_that_failed_were_pruned_or_are_running(self, sampler: str, tmp_path: Path) -> None:
        study = SweepStudy(*self.sweep(tmp_path / "sweep", sampler))
        study.ask()
        for number in range(1, 12):
            assert study.ask() == number
            if number % 3 == 0:
                study.fail(number, "it diverged")
                continue
            study.report(number, report_at(study, number, 4 if number % 3 == 1 else 6))
            study.end(number)
        states = {trial.state for trial in study.trials()}
        assert states == {TrialState.RUNNING, TrialState.FAILED, TrialState.PRUNED, TrialState.COMPLETE}


def test_a_trial_is_begun_with_all_of_its_parameters_or_not_at_all(space: SearchSpace, tmp_path: Path) -> None:
    study = SweepStudy(space, Folder.open(tmp_path))
    before = set((tmp_path / STUDY).iterdir())
    study.ask()
    (begun,) = set((tmp_path / STUDY).iterdir()) - before
    begun.unlink()  # as if the driver had died before it was there
    again = SweepStudy(space, Folder.open(tmp_path))
    assert again.running() == []
    assert again.ask() == 0
    assert again.trial(0) == study.trial(0)


def test_nothing_is_written_for_a_sweep_that_is_lost(space: SearchSpace, tmp_path: Path) -> None:
    lost: list[SweepFailed] = []

    def may_write() -> None:
        if lost:
            raise lost[0]

    study = SweepStudy(space, Folder.open(tmp_path), may_write)
    number = run_trial(study)
    lost.append(SweepFailed("another driver has it"))
    with pytest.raises(SweepFailed, match="another driver"):
        study.report_final(number, report_at(study, number, 6))
    assert SweepStudy(space, Folder.open(tmp_path)).trial(number).final is None


def test_reports_are_in_the_order_of_their_steps_however_many_digits_these_have(tmp_path: Path) -> None:
    space = make_space(tmp_path, "trial.steps=1000000", "trial.evaluate_every=500000")
    study = SweepStudy(space, Folder.open(tmp_path))
    number = study.ask()
    for step in (500_000, 1_000_000):
        study.report(number, Report(step, figures(study.trial(number).settings, 6), {}, {}, {}))
    assert [report.step for report in study.trial(number).reports] == [500_000, 1_000_000]
    study.end(number)
    assert study.trial(number).state is TrialState.COMPLETE


def test_a_study_whose_first_file_was_left_half_written_is_begun_anew(tmp_path: Path) -> None:
    space = make_space(tmp_path, "search.first=[{generator_lr: 1.0e-4}]")
    sweep = Folder.open(tmp_path)
    (sweep / STUDY).write("00000000-00000003.jsonl.1a2b.part", b"{")
    assert not is_begun(sweep)
    study = SweepStudy(space, sweep)
    assert study.trial(study.ask()).searched["generator_lr"] == 1e-4


def test_a_study_with_reports_of_another_form_is_refused_in_words(
    study: SweepStudy, space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = study.ask()
    with monkeypatch.context() as earlier:
        earlier.setattr(Report, "to_dict", lambda report: {"report": {"step": report.step}, "waiting_seconds": 0.0})
        study.report(number, report_at(study, number, 2))
    with pytest.raises(UserError, match="written by another version of sfd-sweep"):
        SweepStudy(space, Folder.open(tmp_path)).trials()


def test_a_sampler_that_nothing_makes_is_not_random_search(space: SearchSpace) -> None:
    unknown = space.model_copy(update={"search": space.search.model_copy(update={"sampler": "cmaes"})})
    with pytest.raises(AssertionError, match="cmaes"):
        make_sampler(unknown, 0)
