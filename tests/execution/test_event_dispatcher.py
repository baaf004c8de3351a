"""A sweep whose first trials all fail stops and names the reason; failed trials are recorded as failed."""

from pathlib import Path

import pytest
from stub_runtime import Notebook, figures, make_space

from sfd_sweep.errors import SweepFailed
from sfd_sweep.execution.event_dispatcher import TrialEventDispatcher
from sfd_sweep.execution.events import SweepObserver
from sfd_sweep.execution.stopping import Stop
from sfd_sweep.search.study import SweepStudy
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.report import Report, TrialState


class Sweep:
    """A sweep whose trials end as the test says."""

    def __init__(self, folder: Path, *overrides: str) -> None:
        space = make_space(folder, *overrides)
        self.study, self.stop, self.notebook = SweepStudy(space, Folder.open(folder)), Stop(), Notebook()
        self.dispatcher = TrialEventDispatcher(
            space, Folder.open(folder), self.study, self.notebook, SweepObserver(), self.stop
        )

    def fail(self, reason: str) -> None:
        number = self.study.ask()
        self.study.fail(number, reason)
        self.dispatcher.ended(number)

    def end(self, step: int, **changed: float) -> None:
        number = self.study.ask()
        report = Report(step, figures(self.study.trial(number).settings, step) | changed, {}, {}, {})
        self.study.report(number, report)
        self.study.end(number)
        self.dispatcher.ended(number)

    @property
    def error(self) -> str | None:
        assert isinstance(self.stop.error, SweepFailed | None)
        return str(self.stop.error) if self.stop.error else None


def test_when_the_first_trials_all_fail_alike_the_sweep_stops_and_names_the_common_reason(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    sweep.fail("it diverged at step 3")
    sweep.fail("it diverged at step 12")
    assert sweep.error is None
    sweep.fail("it diverged at step 1.5e+03")
    assert sweep.error == ("all of the first 3 trials failed, for the same reason: it diverged at step 1.5e+03")


def test_different_reasons_are_all_named(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, "search.max_failures=2")
    sweep.fail("it diverged at step 3")
    sweep.fail("out of memory")
    assert sweep.error == "all trials failed: trial 0: it diverged at step 3; trial 1: out of memory"


@pytest.mark.parametrize("step", [4, 6])
def test_a_trial_that_came_to_its_end_or_was_stopped_early_shows_that_trials_can_work(
    tmp_path: Path, step: int
) -> None:
    sweep = Sweep(tmp_path, "search.max_failures=1")
    sweep.end(step)
    sweep.fail("it diverged")
    assert sweep.error is None


def test_the_front_is_drawn_anew_when_all_of_its_members_have_final_figures(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    sweep.end(6, fd_classifier=1.0, unlearning_accuracy=0.5, override_distance=1.0)
    sweep.end(6, fd_classifier=2.0, unlearning_accuracy=0.9, override_distance=1.0)
    assert sweep.dispatcher.front.numbers == (0, 1)
    for number in (0, 1):
        metrics = {"fd_classifier": 1.8 - 0.1 * number, "unlearning_accuracy": 0.9, "override_distance": 1.0}
        sweep.dispatcher.final_reported(number, Report(6, metrics, {}, {}, {"waiting": 0.0}))
    assert [front for front, *_ in sweep.notebook.of("front_changed")] == [(0,), (0, 1), (1,)]
    assert sweep.dispatcher.front.hypervolume == pytest.approx((20 - 1.7) * 0.9)
    resumed = Sweep(tmp_path)
    resumed.dispatcher.replay()
    assert resumed.dispatcher.front == sweep.dispatcher.front
    assert [front for front, *_ in resumed.notebook.of("front_changed")] == [(1,)]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_trial_with_a_metric_that_is_not_finite_is_recorded_as_failed(tmp_path: Path, value: float) -> None:
    sweep = Sweep(tmp_path)
    sweep.end(6)
    sweep.end(6, fd_classifier=value)
    assert sweep.notebook.of("trial_finished") == [
        (0, TrialState.COMPLETE, None),
        (1, TrialState.FAILED, "its metrics are not finite at step 6"),
    ]
    *_, (front, _, finished, _) = sweep.notebook.of("front_changed")
    assert (front, finished) == ((0,), 2)


def test_a_new_part_of_the_sweep_counts_its_failures_from_zero(tmp_path: Path) -> None:
    first = Sweep(tmp_path, "search.max_failures=2")
    first.fail("it diverged")
    again = Sweep(tmp_path, "search.max_failures=2")
    again.fail("it diverged")
    assert again.error is None


def test_a_sweep_without_a_complete_trial_says_why(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    why = sweep.dispatcher.why_none_completed
    assert why() == "none was started within the budget; raise budget.hours or budget.gpu_hours"
    sweep.end(4)
    assert why() == "the last ended because none stopped it at step 4"
    sweep.fail("it diverged")
    assert why() == "the last ended because it diverged"
    sweep.end(6)
    assert why() is None
