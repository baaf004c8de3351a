"""Sweeps whose processes are killed: nothing finished is lost or repeated, and the record is complete."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from drivers import Driver, StubSweep, actors, wait_until
from mlflow_process import MlflowServer
from stub_runtime import Notebook, StubBuild, make_space

from sfd_sweep.execution.run import run
from sfd_sweep.search.records import SweepState
from sfd_sweep.search.study import SweepStudy
from sfd_sweep.search.trial import Trial
from sfd_sweep.storage.folder import Folder
from sfd_sweep.tracking.store import Store
from sfd_sweep.trial.report import TrialState

pytestmark = pytest.mark.timeout(900)  # each starts a handful of programs, one after another

# The sampler starts up with ten trials; from then on its proposals depend on all earlier results.
LEARNING = (
    "search.sampler=tpe",
    "budget.trials=14",
    "search.scheduler={type: mo_asha, grace_evaluations: 1, reduction_factor: 2}",
)
Start = Callable[..., StubSweep]


@pytest.fixture(scope="module")
def tracking_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables and nothing in it."""
    path = tmp_path_factory.mktemp("migrated") / "mlflow.db"
    Store.open(f"sqlite:///{path}", create=True)
    return path


@pytest.fixture
def sweep(cluster: None, tracking_database: Path, tmp_path: Path) -> Start:
    """Makes a sweep in a working folder, with a tracking database in it."""
    shutil.copy(tracking_database, tmp_path / "mlflow.db")

    def make(*overrides: str, **stub: object) -> StubSweep:
        return StubSweep(tmp_path, overrides, stub)

    return make


@pytest.fixture(scope="module")
def undisturbed(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> list[Trial]:
    """The trials of the learning sweep without any disturbance."""
    storage = tmp_path_factory.mktemp("undisturbed")
    space = make_space(storage, *LEARNING)
    run(space, build=StubBuild(), open_recorder=Notebook().open)
    return SweepStudy(space, Folder.open(storage / "stub")).trials()


def timeless(trials: list[Trial]) -> list[Trial]:
    """Without the seconds that slots have waited."""
    return [
        replace(
            trial, reports=tuple(replace(report, seconds=report.seconds | {"waiting": 0.0}) for report in trial.reports)
        )
        for trial in trials
    ]


def assert_whole(sweep: StubSweep) -> None:
    """Everything was trained once and is recorded once, and nothing is recorded as running."""
    trials = sweep.study()
    steps = {(trial.number, found.step) for trial in trials for found in trial.reports}
    assert sweep.trained() == dict.fromkeys(steps, 1)
    record = sweep.record()
    assert record.summary.state is SweepState.COMPLETE
    assert [(trial.number, trial.state, trial.reason) for trial in record.trials] == [
        (trial.number, trial.state, trial.reason) for trial in trials
    ]
    assert {run.info.status for run in sweep.runs()} <= {"FINISHED", "KILLED", "FAILED"}
    points = sweep.points()
    assert set(points.values()) == {1}
    assert {(int(trial), step) for trial, metric, step in points if metric == "fd_classifier"} == steps


def assert_resumed_to_the_end(sweep: StubSweep) -> Driver:
    driver = sweep.resume()
    assert driver.end() == 0, driver.err
    assert_whole(sweep)
    return driver


@pytest.mark.slow
def test_a_driver_killed_twice_is_resumed_to_what_an_undisturbed_sweep_comes_to(
    sweep: Start, undisturbed: list[Trial]
) -> None:
    disturbed = sweep(*LEARNING, seconds=0.1)
    driver = disturbed.run()
    disturbed.wait_for(trial=2, step=2)  # the driver may or may not have received the report
    driver.kill()
    assert "abandoned" in disturbed.says("list")
    shown = disturbed.says("show", "stub")
    assert "stub: abandoned, its driver has died; `sfd-sweep resume stub` resumes it" in shown
    assert "running" not in shown
    driver = disturbed.resume()
    wait_until(lambda: any(note["number"] == 11 for note in disturbed.notes("training")), "trial 11")
    driver.kill()  # in the middle of an interval
    assert_resumed_to_the_end(disturbed)
    assert timeless(disturbed.study()) == timeless(undisturbed)
    assert {trial.state for trial in undisturbed} == {TrialState.COMPLETE, TrialState.PRUNED}


@pytest.mark.slow
def test_a_driver_may_be_killed_at_any_moment(sweep: Start, undisturbed: list[Trial]) -> None:
    disturbed = sweep(*LEARNING, seconds=0.1)
    moments = random.Random(0)
    driver = disturbed.run()
    for trial in (0, 2, 5, 8, 11):
        wait_until(lambda now=trial: any(note["number"] >= now for note in disturbed.notes("training")), f"{trial}")
        time.sleep(moments.uniform(0.0, 0.5))  # about as long as a trial takes
        driver.kill()
        driver = disturbed.resume()
    assert driver.end() == 0, driver.err
    assert_whole(disturbed)
    assert timeless(disturbed.study()) == timeless(undisturbed)


@pytest.mark.slow
def test_ctrl_c_lets_running_evaluations_finish_and_a_second_one_does_not(sweep: Start) -> None:
    stopped = sweep("budget.trials=3", seconds=1.0)
    driver = stopped.run()
    wait_until(lambda: len(stopped.notes("training")) == 2, "the second interval")
    driver.signal(signal.SIGINT)
    assert driver.end() == 130
    assert "running trials continue to their next evaluation; Ctrl-C again stops now" in driver.out
    assert driver.err.splitlines()[-1] == ("sfd-sweep: error: stub was stopped; `sfd-sweep resume stub` continues it")
    assert stopped.trained() == {(0, 2): 1, (0, 4): 1}
    assert_stopped(stopped)

    stopped.stub["seconds"] = 600.0
    driver = stopped.resume()
    wait_until(lambda: len(stopped.notes("training")) == 3, "the third interval")
    driver.signal(signal.SIGTERM)
    wait_until(lambda: "Ctrl-C again stops now" in driver.out, "the first signal")
    driver.signal(signal.SIGTERM)
    assert driver.end() == 130
    assert stopped.trained() == {(0, 2): 1, (0, 4): 1}
    assert_stopped(stopped)

    stopped.stub["seconds"] = 0.0
    assert_resumed_to_the_end(stopped)


def assert_stopped(sweep: StubSweep) -> None:
    """It is recorded as stopped, with all that was trained, and the study still has the trial running."""
    record = sweep.record()
    assert (record.summary.state, record.trials[0].state) == (SweepState.STOPPED, TrialState.STOPPED)
    assert record.trials[0].report is not None
    assert record.trials[0].report.step == 4
    assert {run.info.status for run in sweep.runs()} == {"KILLED"}
    assert [trial.state for trial in sweep.study()] == [TrialState.RUNNING]


def test_a_killed_worker_broker_or_trial_actor_costs_a_sweep_no_more_than_its_interval(sweep: Start) -> None:
    disturbed = sweep(seconds=0.5)
    driver = disturbed.run()
    kills = [
        lambda: [disturbed.notes("built")[-1]["pid"]],
        lambda: actors("Broker"),
        lambda: actors("_Inner"),  # as Tune names the actors of trials
    ]
    for victims in kills:
        intervals = len(disturbed.notes("training"))
        wait_until(lambda seen=intervals: len(disturbed.notes("training")) > seen, "the next interval")
        for pid in victims():
            os.kill(pid, signal.SIGKILL)
    assert driver.end() == 0, driver.err
    assert_whole(disturbed)
    assert len(disturbed.notes("built")) == 2


@pytest.fixture
def server(sweep: Start, tmp_path: Path) -> Iterator[MlflowServer]:
    """Running, on the test's tracking database."""
    started = MlflowServer(tmp_path)
    started.start()
    yield started
    started.kill()


@pytest.mark.slow
def test_events_while_mlflow_is_away_are_recorded_when_it_is_back(sweep: Start, server: MlflowServer) -> None:
    recorded = sweep("budget.trials=6", seconds=0.3, patience=300.0)  # however long the server takes to start
    recorded.uri = server.uri
    driver = recorded.run()
    recorded.wait_for(trial=0, step=4)
    server.kill()
    recorded.wait_for(trial=3, step=2)  # training continues
    wait_until(lambda: "cannot be reached" in driver.err, "the warning that MLflow cannot be reached")
    server.start()
    assert driver.end(300.0) == 0, driver.err
    assert driver.err.count("cannot be reached") == driver.err.count("MLflow answers again") == 1
    assert_whole(recorded)


@pytest.mark.slow
def test_a_sweep_that_ends_without_mlflow_says_so_and_is_recorded_by_resuming_it(
    sweep: Start, server: MlflowServer
) -> None:
    recorded = sweep("budget.trials=2", seconds=0.3, patience=3.0)
    recorded.uri = server.uri
    driver = recorded.run()
    recorded.wait_for(trial=0, step=4)
    server.kill()
    assert driver.end() == 1
    last = driver.err.splitlines()[-1]
    assert last.startswith(f"sfd-sweep: error: MLflow at {server.uri} failed: ")
    assert last.endswith(f"Everything is safe in {recorded.path.as_uri()}; `sfd-sweep resume stub` records it again")
    assert "Traceback" not in driver.err
    server.start()
    assert_resumed_to_the_end(recorded)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """The sweep's storage, on a disk of its own with 4 MiB."""
    storage = tmp_path / "runs"
    storage.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "none", storage], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"needs a small disk, and this user cannot mount one: {mounted.stderr.strip()}")
    yield storage
    subprocess.run(["umount", "--lazy", storage], check=True)


def fill(disk: Path) -> Path:
    """A file that leaves no space on a disk."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as stream:
        for size in (65536, 1):
            with suppress(OSError):
                while True:
                    stream.write(b"x" * size)
    return filler


@pytest.mark.slow
def test_a_full_disk_ends_a_sweep_in_one_line_and_nothing_is_lost(
    sweep: Start, small_disk: Path, tmp_path: Path
) -> None:
    disturbed = sweep("budget.trials=3", seconds=0.5, notes=str(tmp_path / "notes"))
    driver = disturbed.run()
    disturbed.wait_for(trial=0, step=4)
    filler = fill(small_disk)
    assert driver.end() == 1
    assert driver.err.splitlines()[-1] == (
        f"sfd-sweep: error: no space is left on the disk of {disturbed.path}: free some, then `sfd-sweep resume stub` "
        "continues; nothing that was finished is lost"
    )
    assert "Traceback" not in driver.err
    assert disturbed.record().summary.state is SweepState.FAILED
    assert {run.info.status for run in disturbed.runs()} <= {"FINISHED", "KILLED"}
    filler.unlink()
    assert_resumed_to_the_end(disturbed)
