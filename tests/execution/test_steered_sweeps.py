"""What users tell a sweep: settings and stops are checked before the sweep gets them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stub_runtime import Notebook, StubBuild, figures, make_space

from sfd_sweep.config import Settings, dump_search_space
from sfd_sweep.errors import Interrupted, UserError
from sfd_sweep.execution import driver
from sfd_sweep.execution.events import SweepObserver
from sfd_sweep.execution.run import resume, run
from sfd_sweep.execution.steering import SteeredSweep
from sfd_sweep.search.requests import AddedTrial, SweepStop, TrialStop, pending
from sfd_sweep.search.study import SweepStudy
from sfd_sweep.storage.folder import Folder
from sfd_sweep.storage.lock import one_driver
from sfd_sweep.trial.files import CONFIG
from sfd_sweep.trial.logs import LogReader
from sfd_sweep.trial.report import Report, TrialState

CONDITION = "parameters.guidance_scale={type: float, low: 1, high: 2, when: {override: random}, otherwise: 1}"


@pytest.fixture
def study(tmp_path: Path) -> SweepStudy:
    """A sweep with a complete trial, a failed one, and a running one."""
    space = make_space(tmp_path, CONDITION, "search.first=[{override: random}]")
    folder = Folder.open(tmp_path / "stub")
    folder.write(CONFIG, dump_search_space(space).encode())
    study = SweepStudy(space, folder)
    complete, failed, _ = (study.ask() for _ in range(3))
    study.report(complete, Report(6, figures(study.trial(complete).settings, 6), {}, {}, {}))
    study.end(complete)
    study.fail(failed, "it diverged")
    return study


@pytest.fixture
def location(study: SweepStudy, tmp_path: Path) -> str:
    return str(tmp_path / "stub")


@pytest.fixture
def running(location: str) -> Iterator[None]:
    with one_driver(Folder.open(location)):
        yield


def requests(location: str) -> list[Any]:
    return [request for _, request in pending(Folder.open(location))]


def test_settings_are_requested_and_the_sampler_draws_what_is_missing(location: str) -> None:
    assert SteeredSweep(location).add(["override=random", "guidance_scale=1.5"]) == {
        "override": "random",
        "guidance_scale": 1.5,
    }
    assert requests(location) == [AddedTrial({"override": "random", "guidance_scale": 1.5})]


def test_a_trial_is_taken_with_some_values_changed_and_without_those_that_are_not_drawn_then(
    location: str, study: SweepStudy
) -> None:
    like = study.trial(0).searched
    assert like["override"] == "random"
    assert SteeredSweep(location).add(["guidance_scale=1.5"], like=0) == like | {"guidance_scale": 1.5}
    assert SteeredSweep(location).add(["override=1"], like=0) == {"override": 1, "generator_lr": like["generator_lr"]}


@pytest.mark.parametrize(
    ("assignments", "like", "message"),
    [
        (["guidance_scale=3", "override=random"], None, "guidance_scale: must be from 1 to 2 as in parameters.guid"),
        (["guidance_scale=1.5", "override=1"], None, "guidance_scale: is drawn only where override is random"),
        (["guidance_scale=1.5", "override=1"], 0, "guidance_scale: is drawn only where override is random"),
        (["alpha=1.5"], None, "alpha: alpha is not searched"),
        (["guidance=1.5"], None, "guidance: unknown parameter; did you mean guidance_scale?"),
        (["override"], None, "override: write NAME=VALUE"),
        (["override=[1"], None, "override=[1:1: not valid YAML"),
        ([], None, "name the settings to try"),
        ([], 0, "trial 0 has these settings (it is complete)"),
        ([], 1, "trial 1 has these settings (it is failed); `retry` runs it again"),
        ([], 7, "stub has no trial 7; its trials are 0 to 2"),
    ],
)
def test_settings_outside_of_the_space_and_repeated_ones_are_refused(location, assignments, like, message):
    with pytest.raises(UserError) as refusal:
        SteeredSweep(location).add(assignments, like)
    assert str(refusal.value).startswith(message)
    assert requests(location) == []


def test_settings_are_queued_once(location: str) -> None:
    SteeredSweep(location).add(["override=1", "generator_lr=1.0e-4"])
    with pytest.raises(UserError, match="these settings are queued already"):
        SteeredSweep(location).add(["generator_lr=0.0001", "override=1"])


def test_only_what_runs_can_be_stopped(location: str, running: None) -> None:
    sweep = SteeredSweep(location)
    with pytest.raises(UserError, match="trial 0 of stub is not running: it is complete"):
        sweep.stop(0)
    sweep.stop(2)
    sweep.stop()
    sweep.stop(now=True)
    assert requests(location) == [TrialStop(2), SweepStop(False), SweepStop(True)]


def test_a_sweep_without_a_driver_has_nothing_to_stop(location: str) -> None:
    with pytest.raises(UserError, match="stub is not running, so there is nothing to stop"):
        SteeredSweep(location).stop()


def test_failed_trials_are_retried_once(location: str, study: SweepStudy) -> None:
    with pytest.raises(UserError, match="trial 0 of stub has not failed: it is complete"):
        SteeredSweep(location).retry(0)
    assert SteeredSweep(location).retry() == [1]
    assert requests(location) == [AddedTrial(study.trial(1).searched, retry_of=1)]
    with pytest.raises(UserError, match="no failed trial of stub is left to try again"):
        SteeredSweep(location).retry()
    with pytest.raises(UserError, match="trial 1 of stub was tried again already"):
        SteeredSweep(location).retry(1)


class User(SweepObserver):
    """Tells a sweep something, once, when a trial starts."""

    def __init__(self, location: Path) -> None:
        self.location = str(location)
        self.wishes: dict[int, Callable[[SteeredSweep], object]] = {
            0: lambda sweep: sweep.add(["guidance_scale=1.5", "generator_lr=1.0e-4", "override=1"]),
            1: lambda sweep: sweep.stop(),
            2: lambda sweep: sweep.stop(2),
        }

    def trial_started(self, number: int, settings: Settings, searched: dict[str, Any]) -> None:
        if wish := self.wishes.pop(number, None):
            wish(SteeredSweep(self.location))


@pytest.mark.slow
def test_a_running_sweep_does_what_it_is_told_and_a_finished_one_goes_on(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "LOOK_SECONDS", 0.0)
    build, recorder, user = StubBuild(seconds=1.0, fails=frozenset({3})), Notebook(), User(tmp_path / "stub")
    space = make_space(tmp_path, "budget.trials=3")
    with pytest.raises(Interrupted, match="stub was stopped by `sfd-sweep stop`; `sfd-sweep resume stub` continues"):
        run(space, build=build, open_recorder=recorder.open, observer=user)
    study = SweepStudy(space, Folder.open(tmp_path / "stub"))
    assert study.running() == [1]
    assert study.trial(1).searched == {"guidance_scale": 1.5, "generator_lr": 1e-4, "override": 1}

    outcome = resume(tmp_path / "stub", build=build, open_recorder=recorder.open, observer=user)
    assert outcome.counts == {TrialState.COMPLETE: 2, TrialState.PRUNED: 1, TrialState.FAILED: 1}  # one was added
    assert recorder.of("trial_finished")[-2][:2] == (2, TrialState.PRUNED)

    said = dict(LogReader(Folder.open(tmp_path / "stub")).new())
    assert list(said) == [f"trial {number} worker 0" for number in range(4)]
    assert said["trial 0 worker 0"].count(" UTC training to step ") == 3
    assert "Traceback (most recent call last):" in said["trial 3 worker 0"]
    assert said["trial 3 worker 0"].endswith("sfd_sweep.errors.TrialFailed: trial 3 diverged\n")

    SteeredSweep(str(tmp_path / "stub")).retry()
    outcome = resume(tmp_path / "stub", build=StubBuild(), open_recorder=recorder.open)
    assert outcome.counts == {TrialState.COMPLETE: 3, TrialState.PRUNED: 1, TrialState.FAILED: 1}
