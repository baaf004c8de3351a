"""Whole sweeps of the stub runtime on Ray: budget, early stopping, warm start, and what a resumed sweep is given."""

from pathlib import Path
from typing import Any

import pytest
from earlier_sweeps import POINT, record_sweep
from stub_runtime import Notebook, StubBuild, make_space, notes

from sfd_sweep.config import MultiObjectiveAshaScheduler, SearchSpace, changes_of
from sfd_sweep.errors import UserError
from sfd_sweep.execution.events import SweepObserver, SweepStart
from sfd_sweep.execution.run import resume, run
from sfd_sweep.search.halving import MultiObjectiveHalving
from sfd_sweep.search.study import SweepStudy
from sfd_sweep.search.trial import Trial
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.files import CONFIG, SWAP
from sfd_sweep.trial.report import TrialState

pytestmark = pytest.mark.usefixtures("cluster")


class SlotsKept(SweepObserver):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text.removeprefix("changed: "))

    def sweep_started(self, plan: SweepStart) -> None:
        self.slots = plan.slots


def trained(sweep: Path) -> list[tuple[int, int]]:
    """Trial and last step of every interval that was trained, in order."""
    return [(note["number"], note["to"]) for note in notes(sweep) if note["what"] == "trained"]


def test_a_sweep_keeps_to_its_budget_and_resumes_with_its_store_and_with_slots_for_what_is_left(tmp_path: Path) -> None:
    space = make_space(tmp_path, "budget={trials: 3, hours: 1}", "resources.slots=2")
    outcome = run(space, build=StubBuild(), open_recorder=Notebook().open)
    assert outcome.counts == {TrialState.COMPLETE: 3}  # whatever time is left

    stores = []

    def open_recorder(space: SearchSpace, *_: Any, resume: bool, **__: Any) -> Notebook:
        stores.append((space.tracking.uri, resume))
        return Notebook()

    for uri in (None, "sqlite:///elsewhere.db"):
        resume(tmp_path / "stub", uri=uri, build=StubBuild(), open_recorder=open_recorder)
    assert stores == [(space.tracking.uri, True), ("sqlite:///elsewhere.db", True)]

    kept, notebook = SlotsKept(), Notebook()
    outcome = resume(
        tmp_path / "stub",
        overrides=["budget.trials=5", "search.first=[{guidance_scale: 1.25}]"],
        build=StubBuild(),
        open_recorder=notebook.open,
        observer=kept,
    )
    assert kept.slots == 2
    assert outcome.counts == {TrialState.COMPLETE: 5}
    config = (tmp_path / "stub" / CONFIG).read_text()
    assert [text.partition(": ")[2] for text in changes_of(config)] == kept.notes
    assert kept.notes == ['search.first from [] to [{"guidance_scale": 1.25}]', "budget.trials from 3 to 5"]
    ((_, recorded, _),) = [call for call in notebook.calls if call[0] == "open"]
    assert recorded == config
    trials = SweepStudy(space, Folder.open(tmp_path / "stub")).trials()
    assert [trial.searched["guidance_scale"] == 1.25 for trial in trials] == [False] * 3 + [True, False]


@pytest.mark.slow
def test_a_change_that_is_refused_leaves_the_sweep_as_it_was(tmp_path: Path) -> None:
    run(make_space(tmp_path, "budget.trials=1"), build=StubBuild(), open_recorder=Notebook().open)
    config = (tmp_path / "stub" / CONFIG).read_bytes()
    for overrides in (["trial.steps=8"], ["budget.trials=0"], ["budget.trials=2", "resources.cpus_per_worker=1000"]):
        with pytest.raises(UserError):
            resume(tmp_path / "stub", overrides=overrides, build=StubBuild(), open_recorder=Notebook().open)
    assert (tmp_path / "stub" / CONFIG).read_bytes() == config
    assert trained(tmp_path / "stub") == [(0, 2), (0, 4), (0, 6)]


@pytest.mark.slow
def test_a_sweep_that_limits_hours_alone_ends_by_them_and_is_finished_then(tmp_path: Path) -> None:
    space = make_space(tmp_path, "budget={hours: 0.0006}")  # 2.2 seconds
    first = run(space, build=StubBuild(seconds=0.2), open_recorder=Notebook().open)
    ended = first.counts[TrialState.COMPLETE]
    assert ended >= 1
    assert first.counts == {TrialState.COMPLETE: ended}
    notebook = Notebook()
    again = resume(tmp_path / "stub", build=StubBuild(), open_recorder=notebook.open)
    assert again.counts == first.counts
    assert len(trained(tmp_path / "stub")) == 3 * ended
    *_, (_, _, finished, spent) = notebook.of("front_changed")
    assert (finished, spent.gpu_hours) == (ended, 0.0)
    assert spent.hours >= 0.0006


def expected_ends(space: SearchSpace, trials: list[Trial]) -> list[tuple[int, str | None]]:
    """Each trial's last step and why it was stopped, by the ranking alone, trial after trial as on one slot."""
    scheduler = space.search.scheduler
    assert isinstance(scheduler, MultiObjectiveAshaScheduler)
    halving, ends = MultiObjectiveHalving(space, scheduler), []
    for trial in trials:
        for report in trial.reports:
            reason = halving.decide(f"{trial.number}", report.step, report.metrics)
            if reason is not None:
                ends.append((report.step, f"mo_asha stopped it at step {report.step}: {reason}"))
                break
        else:
            ends.append((space.trial.steps, None))
    return ends


@pytest.mark.slow
def test_tune_stops_the_trials_that_the_ranking_stops_and_the_study_says_why(tmp_path: Path) -> None:
    chosen = "search.scheduler={type: mo_asha, grace_evaluations: 1, reduction_factor: 2}"
    space = make_space(tmp_path, chosen, "budget.trials=8")
    outcome = run(space, build=StubBuild(), open_recorder=Notebook().open)
    trials = SweepStudy(space, Folder.open(outcome.folder)).trials()
    ends = [(trial.reports[-1].step, trial.reason) for trial in trials]
    assert ends == expected_ends(space, trials)
    complete = [trial.number for trial in trials if trial.state is TrialState.COMPLETE]
    pruned = [trial.number for trial in trials if trial.state is TrialState.PRUNED]
    assert sorted(complete + pruned) == list(range(8))
    assert len(pruned) >= 2
    assert set(outcome.front) <= set(complete)
    intervals = [(number, step) for number, (end, _) in enumerate(ends) for step in range(2, end + 1, 2)]
    assert trained(Path(outcome.folder)) == intervals


def test_a_sweep_runs_from_earlier_ones_and_resumes_without_their_store(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    earlier = tmp_path_factory.mktemp("earlier")
    record_sweep(earlier, "name=old")
    store = f"tracking.uri=sqlite:///{earlier}/mlflow.db"
    space = make_space(tmp_path, store, "search.warm_start=[old]", POINT, "budget.trials=2")
    outcome = run(space, build=StubBuild(), open_recorder=Notebook().open)
    assert (outcome.counts, outcome.front) == ({TrialState.COMPLETE: 2}, (0, 1))
    assert {number for number, _ in trained(tmp_path / "stub")} == {0, 1}
    (earlier / "mlflow.db").unlink()
    again = resume(tmp_path / "stub", build=StubBuild(), open_recorder=Notebook().open)
    assert again.counts == {TrialState.COMPLETE: 2}
    assert SweepStudy(space, Folder.open(tmp_path / "stub")).earlier() == [
        "taken over from earlier sweeps: 2 of old",
        "left out: 1 with a guidance_scale that this sweep does not try, 1 not complete",
    ]


DISTILLED = ("task.start=builtin:digits-distilled", "parameters.t_init=440", "budget.trials=2")


def test_the_null_baseline_of_a_distilled_start_is_evaluated_once_and_is_no_trial(tmp_path: Path) -> None:
    space = make_space(tmp_path, *DISTILLED)
    first, again = Notebook(), Notebook()
    outcome = run(space, build=StubBuild(), open_recorder=first.open)
    assert (outcome.counts, len(outcome.front)) == ({TrialState.COMPLETE: 2}, 2)
    ((report,),) = first.of("swap_reported")
    assert (report.step, report.samples) == (0, {"retained": 100, "forgotten": 50})
    assert report.metrics["unlearning_accuracy"] == 1
    assert len(SweepStudy(space, Folder.open(outcome.folder)).trials()) == 2

    resumed = resume(tmp_path / "stub", build=StubBuild(), open_recorder=again.open)
    assert again.of("swap_reported") == first.of("swap_reported")  # told again, not evaluated again
    assert sum(note["what"] == "swap" for note in notes(tmp_path / "stub")) == 1
    assert (resumed.front, resumed.hypervolume) == (outcome.front, outcome.hypervolume)


@pytest.mark.slow
def test_a_resumed_sweep_evaluates_a_null_baseline_that_an_earlier_part_left_out(tmp_path: Path) -> None:
    run(make_space(tmp_path, *DISTILLED), build=StubBuild(), open_recorder=Notebook().open)
    (tmp_path / "stub" / SWAP).unlink()
    kept, notebook = SlotsKept(), Notebook()
    resume(tmp_path / "stub", build=StubBuild(), open_recorder=notebook.open, observer=kept)
    assert (kept.slots, len(notebook.of("swap_reported"))) == (1, 1)


@pytest.mark.slow
def test_a_sweep_that_starts_from_a_diffusion_model_has_no_null_baseline(tmp_path: Path) -> None:
    notebook = Notebook()
    run(make_space(tmp_path, "budget.trials=1"), build=StubBuild(), open_recorder=notebook.open)
    assert notebook.of("swap_reported") == []
    assert not (tmp_path / "stub" / SWAP).exists()


@pytest.mark.slow
def test_a_trial_that_hangs_is_restarted_after_the_time_that_the_file_allows(cluster: None, tmp_path: Path) -> None:
    space = make_space(tmp_path, "trial.interval_hours=0.0005", "budget.trials=2")
    outcome = run(space, build=StubBuild(hangs=frozenset({1})), open_recorder=Notebook().open)
    assert outcome.counts == {TrialState.COMPLETE: 2}
    assert [note["number"] for note in notes(tmp_path / "stub") if note["what"] == "hanging"] == [1]
