"""Schedulers and searcher as Tune calls them, without Tune and without a cluster."""

import errno
from pathlib import Path

import numpy as np
import pytest
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from stub_runtime import figures, make_space

from sfd_sweep.config import SearchSpace
from sfd_sweep.errors import Interrupted, SweepFailed
from sfd_sweep.execution.stopping import Stop
from sfd_sweep.execution.trainable import tune_result
from sfd_sweep.execution.tune import PastTrial, StudySearch, make_scheduler, replay, why_stopped
from sfd_sweep.search.budget import BudgetTracker
from sfd_sweep.search.scores import combined_score
from sfd_sweep.search.study import SweepStudy
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.report import Report, TrialState

ASHA = "search.scheduler={type: asha, grace_evaluations: 1, reduction_factor: 3}"
MO_ASHA = ASHA.replace("asha", "mo_asha")


def report(step: int, distance: float) -> Report:
    metrics = {"fd_classifier": distance, "unlearning_accuracy": 0.9, "override_distance": 5.0}
    return Report(step, metrics, {}, {}, {})


def decide(scheduler: TrialScheduler, space: SearchSpace, name: str, distance: float, step: int = 2) -> str:
    trial = PastTrial(name)
    scheduler.on_trial_add(None, trial)
    return str(scheduler.on_trial_result(None, trial, tune_result(report(step, distance), space)))


def test_without_a_scheduler_every_trial_continues(tmp_path: Path) -> None:
    space = make_space(tmp_path)
    scheduler = make_scheduler(space)
    assert type(scheduler) is FIFOScheduler
    assert [decide(scheduler, space, str(distance), distance) for distance in (1, 2, 1e9)] == ["CONTINUE"] * 3


def test_asha_lets_the_best_third_continue(tmp_path: Path) -> None:
    space = make_space(tmp_path, ASHA)
    scheduler = make_scheduler(space)
    distances = np.random.default_rng(0).permutation(30) + 1.0
    for distance in distances:
        decide(scheduler, space, f"{distance}", distance)
    assert decide(scheduler, space, "best", 0.5) == "CONTINUE"
    assert decide(scheduler, space, "inside", 9.0) == "CONTINUE"
    assert decide(scheduler, space, "outside", 12.0) == "STOP"


def test_asha_stops_no_trial_within_the_grace(tmp_path: Path) -> None:
    space = make_space(tmp_path, ASHA.replace("grace_evaluations: 1", "grace_evaluations: 2"))
    scheduler = make_scheduler(space)
    assert [decide(scheduler, space, str(distance), distance, step=2) for distance in (1, 2, 3, 99)] == ["CONTINUE"] * 4
    assert decide(scheduler, space, "good", 1, step=4) == "CONTINUE"
    assert decide(scheduler, space, "bad", 99, step=4) == "STOP"


def test_a_grace_beyond_the_budget_is_the_budget(tmp_path: Path) -> None:
    scheduler = make_scheduler(make_space(tmp_path, ASHA.replace("grace_evaluations: 1", "grace_evaluations: 99")))
    assert isinstance(scheduler, ASHAScheduler)


def test_asha_accepts_metrics_that_are_not_finite(tmp_path: Path) -> None:
    space = make_space(tmp_path, ASHA)
    scheduler = make_scheduler(space)
    for distance in (float("nan"), float("inf"), float("nan"), 1.0, 2.0, 3.0):
        decide(scheduler, space, str(distance), distance)
    assert decide(scheduler, space, "good", 1.0) == "CONTINUE"
    assert decide(scheduler, space, "diverged", float("nan")) == "STOP"


def test_mo_asha_ranks_by_fronts_and_not_by_the_score(tmp_path: Path) -> None:
    space = make_space(tmp_path, MO_ASHA)
    scheduler = make_scheduler(space)
    for number in range(9):
        decide(scheduler, space, str(number), 2.0 + number)
    assert decide(scheduler, space, "outside", 9.5) == "STOP"
    best_in_one = Report(2, report(2, 9.5).metrics | {"unlearning_accuracy": 1.0}, {}, {}, {})
    assert best_in_one.metrics["fd_classifier"] == 9.5
    trial = PastTrial("best in one objective")
    scheduler.on_trial_add(None, trial)
    assert scheduler.on_trial_result(None, trial, tune_result(best_in_one, space)) == "CONTINUE"


def test_mo_asha_gives_the_reason_for_stopping_a_trial(tmp_path: Path) -> None:
    space = make_space(tmp_path, MO_ASHA)
    scheduler = make_scheduler(space)
    assert [decide(scheduler, space, name, figure) for name, figure in (("a", 1.0), ("b", 2.0))] == ["CONTINUE", "STOP"]
    assert why_stopped(scheduler, "a") is None
    assert why_stopped(scheduler, "b") == "rank 2 of 2 at the rung of step 2, where 1 go on"


@pytest.mark.parametrize("kind", [ASHA, MO_ASHA])
def test_any_scheduler_may_give_reasons(kind: str, tmp_path: Path) -> None:
    scheduler = make_scheduler(make_space(tmp_path, kind))
    scheduler.reasons["a"] = "worse than the median"
    assert why_stopped(scheduler, "a") == "worse than the median"


@pytest.mark.parametrize("other", ["search.scheduler={type: none}", ASHA])
def test_other_schedulers_give_no_reason(other: str, tmp_path: Path) -> None:
    assert why_stopped(make_scheduler(make_space(tmp_path, other)), "a") is None


def test_schedulers_see_the_combined_score_at_the_step_and_the_report(tmp_path: Path) -> None:
    space = make_space(tmp_path)
    metrics = report(4, 3.0).metrics
    score = combined_score(metrics, space.objectives, space.constraints)
    seen = tune_result(report(4, 3.0), space)
    assert (seen["step"], seen["score"]) == (4, score)
    assert Report.from_json(seen["report"]) == report(4, 3.0)


@pytest.mark.parametrize("scheduler", [ASHA, MO_ASHA])
def test_a_resumed_sweep_decides_as_if_it_had_never_stopped(scheduler: str, tmp_path: Path) -> None:
    space = make_space(tmp_path, scheduler)
    study, uninterrupted = SweepStudy(space, Folder.open(tmp_path)), make_scheduler(space)
    for distance in (1.0, 2.0, 3.0, 4.0):
        number = study.ask()
        study.report(number, report(2, distance))
        study.end(number)
        decide(uninterrupted, space, str(number), distance)
    resumed = make_scheduler(space)
    replay(resumed, space, study.trials())
    for distance in (0.5, 1.4, 1.6, 3.5):
        decisions = [decide(scheduler, space, f"new {distance}", distance) for scheduler in (resumed, uninterrupted)]
        assert decisions[0] == decisions[1]


@pytest.mark.parametrize("scheduler", [ASHA, MO_ASHA])
def test_a_resumed_trial_is_not_stopped_at_a_rung_that_it_has_passed(scheduler: str, tmp_path: Path) -> None:
    space = make_space(tmp_path, scheduler)
    study = SweepStudy(space, Folder.open(tmp_path))
    first = study.ask()
    for step in (2, 4):
        study.report(first, report(step, 3.0))
    for distance in (1.0, 2.0, 1.5, 2.5):
        number = study.ask()
        study.report(number, report(2, distance))
        study.end(number)
    resumed = make_scheduler(space)
    replay(resumed, space, study.trials())
    again = PastTrial("as Tune calls it now", {"number": first})
    resumed.on_trial_add(None, again)
    decisions = [resumed.on_trial_result(None, again, tune_result(report(step, 3.0), space)) for step in (2, 4)]
    assert decisions == ["CONTINUE", "CONTINUE"]
    assert decide(resumed, space, "worse", 9.0) == "STOP"  # the first is still ranked with


@pytest.fixture
def study(tmp_path: Path) -> SweepStudy:
    return SweepStudy(make_space(tmp_path), Folder.open(tmp_path))


def searcher_of(study: SweepStudy, why_stopped: str | None = None, stop: Stop | None = None) -> StudySearch:
    budget = BudgetTracker(make_space(Path()), study)
    return StudySearch(study, budget, stop or Stop(), why_stopped=lambda _: why_stopped, say=pytest.fail)


def record(study: SweepStudy, number: int, step: int) -> None:
    study.report(number, Report(step, figures(study.trial(number).settings, step), {}, {}, {}))


def test_the_searcher_suggests_number_and_settings(study: SweepStudy) -> None:
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


def test_how_a_trial_has_ended_follows_from_its_reports_and_not_from_tunes_result(study: SweepStudy) -> None:
    searcher = searcher_of(study)
    for tune_id, step in (("full", 6), ("stopped", 4)):
        record(study, searcher.suggest(tune_id)["number"], step)
        searcher.on_trial_complete(tune_id, {"step": step, "done": True})
    assert [trial.state for trial in study.trials()] == [TrialState.COMPLETE, TrialState.PRUNED]


def test_the_study_stores_why_the_scheduler_stopped_a_trial(study: SweepStudy) -> None:
    searcher = searcher_of(study, "rank 5 of 9")
    for tune_id, step in (("full", 6), ("stopped", 4)):
        record(study, searcher.suggest(tune_id)["number"], step)
        searcher.on_trial_complete(tune_id, {"step": step})
    assert [trial.reason for trial in study.trials()] == [None, "none stopped it at step 4: rank 5 of 9"]


def test_a_failure_is_stored_with_its_reason(study: SweepStudy) -> None:
    searcher = searcher_of(study)
    searcher.suggest("a")
    searcher.on_trial_complete("a", {"failure": "it diverged", "done": True})
    searcher.suggest("b")
    searcher.on_trial_complete("b", error=True)
    assert [(trial.state, trial.reason) for trial in study.trials()] == [
        (TrialState.FAILED, "it diverged"),
        (TrialState.FAILED, "its Tune actor died more than 3 times; see Ray's logs on the driver's machine"),
    ]


def test_a_trial_without_an_end_stays_running(study: SweepStudy, tmp_path: Path) -> None:
    searcher_of(study).suggest("a")
    assert SweepStudy(make_space(tmp_path), Folder.open(tmp_path)).running() == [0]


def test_a_stopping_sweep_starts_no_trial_and_leaves_stopped_ones_running(study: SweepStudy) -> None:
    stop = Stop()
    searcher = searcher_of(study, stop=stop)
    searcher.suggest("a")
    stop.request(Interrupted("Ctrl-C"), now=False)
    assert searcher.suggest("b") == Searcher.FINISHED
    searcher.on_trial_complete("a", {"stopped": True, "done": True})
    assert study.running() == [0]


def test_a_study_that_cannot_be_written_stops_the_sweep_and_leaves_its_trials_running(
    study: SweepStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = Stop()
    searcher = searcher_of(study, stop=stop)
    for tune_id, step in (("ends", 6), ("fails", 2)):
        record(study, searcher.suggest(tune_id)["number"], step)
    with monkeypatch.context() as full_disk:
        full_disk.setattr(Folder, "write", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
        searcher.on_trial_complete("ends", {"step": 6, "done": True})
        assert isinstance(stop.error, SweepFailed)
        assert stop.now
        searcher.on_trial_complete("fails", error=True)
        assert searcher.suggest("next") == Searcher.FINISHED
    assert study.running() == [0, 1]
    again = SweepStudy(make_space(tmp_path), Folder.open(tmp_path))
    assert again.running() == [0, 1]
    assert [trial.state for trial in again.trials()] == [TrialState.RUNNING] * 2
