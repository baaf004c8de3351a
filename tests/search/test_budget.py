"""The budget of a sweep: what counts as spent, over all its parts, and when no trial begins any more."""

from pathlib import Path

import pytest
from ray.tune.search import Searcher
from stub_runtime import figures, make_space

from sfd_sweep.config import Budget
from sfd_sweep.execution.stopping import Stop
from sfd_sweep.execution.tune import StudySearch
from sfd_sweep.search.budget import BudgetTracker, HeldSeconds
from sfd_sweep.search.records import ResourceUsage
from sfd_sweep.search.study import SweepStudy
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.report import Report, TrialState

ON_GPUS = ("resources.gpus_per_worker=0.5", "resources.workers_per_slot=2")


def search(study: SweepStudy, spending: BudgetTracker) -> tuple[StudySearch, list[str]]:
    said: list[str] = []
    return StudySearch(study, spending, Stop(), why_stopped=lambda _: None, say=said.append), said


@pytest.mark.parametrize(
    ("limits", "reached"),
    [
        ({"trials": 4}, None),
        ({"trials": 3}, "3 trials"),
        ({"trials": 4, "hours": 2}, "2 hours"),
        ({"hours": 2.5, "gpu_hours": 16}, "16 GPU-hours"),
        ({"trials": 4, "hours": 2.5, "gpu_hours": 17}, None),
    ],
)
def test_the_limit_that_is_reached_first_counts(limits: dict[str, float], reached: str | None) -> None:
    assert Budget.model_validate(limits).used_up(trials=3, hours=2.0, gpu_hours=16.0) == reached


class Slots:
    """What one slot has held, in hours, which the test moves."""

    hours = 0.0

    def held(self) -> HeldSeconds:
        return HeldSeconds(self.hours * 3600, self.hours * 3600)


def test_hours_and_gpu_hours_are_those_for_which_slots_have_held_their_workers(tmp_path: Path) -> None:
    space = make_space(tmp_path, "budget={hours: 3, gpu_hours: 4}", *ON_GPUS)
    study = SweepStudy(space, Folder.open(tmp_path))
    spending = BudgetTracker(space, study)
    # Of three slots, one of which waits; then they are counted anew.
    held = iter([HeldSeconds(3600, 2.5 * 3600), HeldSeconds(1800, 1800), HeldSeconds(1800, 1.5 * 3600)])
    spending.start(lambda: next(held))
    assert spending.used_up() is None
    assert study.usage() == ResourceUsage(1.0, 2.5)
    assert spending.used_up() is None
    assert study.usage() == ResourceUsage(1.5, 3.0)
    assert spending.used_up() == "4 GPU-hours"


def test_what_earlier_parts_have_spent_counts(tmp_path: Path) -> None:
    space = make_space(tmp_path, "budget={hours: 3}")
    for _ in range(2):
        spending, slots = BudgetTracker(space, SweepStudy(space, Folder.open(tmp_path))), Slots()
        spending.start(slots.held)
        slots.hours += 1
        spending.record()
    study = SweepStudy(space, Folder.open(tmp_path))
    spending, slots = BudgetTracker(space, study), Slots()
    spending.start(slots.held)
    assert spending.used_up() is None
    assert study.usage() == ResourceUsage(2.0, 0.0)
    slots.hours += 1
    assert spending.used_up() == "3 hours"


def test_when_time_is_up_running_trials_are_still_handed_out_but_no_new_one(tmp_path: Path) -> None:
    space = make_space(tmp_path, "budget={hours: 1}")
    SweepStudy(space, Folder.open(tmp_path)).ask()
    study = SweepStudy(space, Folder.open(tmp_path))
    spending = BudgetTracker(space, study)
    spending.start(lambda: HeldSeconds(7200, 7200))
    searcher, said = search(study, spending)
    assert searcher.suggest("a")["number"] == 0
    assert (searcher.suggest("b"), spending.still_to_end()) == (None, 1)  # users may still add settings
    assert said == ["the budget of 1 hour is used up; running trials continue to their end"]
    study.report(0, Report(6, figures(study.trial(0).settings, 6), {}, {}, {}))
    study.end(0)
    assert (study.trial(0).state, spending.still_to_end()) == (TrialState.COMPLETE, 0)
    searcher.on_trial_complete("a", {"stopped": True})
    assert searcher.suggest("c") == Searcher.FINISHED
