"""What a sweep leaves in MLflow, whatever happens to its driver and to the store."""

import math
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Sequence
from importlib import reload
from pathlib import Path
from statistics import median

import pandas as pd
import pytest
from mlflow import MlflowClient
from recorded_reports import read_reports
from tracked_sweep import (
    grid,
    open_recorder,
    report,
    search_space,
    searched,
    settings,
    tell_report,
    tell_sweep,
    tell_trial,
)

from sfd_sweep import tracking
from sfd_sweep.config import SearchSpace
from sfd_sweep.errors import SweepFailed, UserError
from sfd_sweep.search.records import ResourceUsage, SweepState
from sfd_sweep.tracking import recorder as recorder_module
from sfd_sweep.tracking.reader import list_sweeps, read_sweep
from sfd_sweep.tracking.reader import read_reports as all_reports
from sfd_sweep.tracking.tables import trials_table
from sfd_sweep.trial.files import GRID, step_folder, trial_folder
from sfd_sweep.trial.report import Report, TrialState


@pytest.fixture
def recorded(space: SearchSpace, tmp_path: Path) -> SearchSpace:
    recorder = open_recorder(space, tmp_path)
    tell_sweep(recorder, space)
    recorder.close(SweepState.COMPLETE)
    return space


def runs_of(uri: str) -> tuple[MlflowClient, dict[str, object]]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("small")
    return client, {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def everything(uri: str) -> Counter:
    """How often each run has each point, image and artifact."""
    client, runs = runs_of(uri)
    found: Counter = Counter()
    for name, run in runs.items():
        for metric in run.data.metrics:
            found.update((name, metric, point.step) for point in client.get_metric_history(run.info.run_id, metric))
        for folder in ("", "images"):
            found.update(
                (name, file.path.split("+timestamp")[0]) for file in client.list_artifacts(run.info.run_id, folder)
            )
    return found


def test_a_recorded_sweep_is_read_back_as_it_was_told(recorded: SearchSpace, tracking_uri: str, tmp_path: Path) -> None:
    sweep = read_sweep(tracking_uri, "small")
    assert sweep.space == recorded
    assert sweep.summary.state is SweepState.COMPLETE
    assert (sweep.summary.planned, sweep.summary.finished, sweep.summary.front_size) == (4, 4, 2)
    assert sweep.summary.hypervolume == 8.82
    assert sweep.summary.storage == (tmp_path / "small").as_uri()
    assert [trial.number for trial in sweep.trials] == [0, 1, 2, 3]
    trial = sweep.trials[1]
    assert trial.settings == settings(recorded, 1)
    assert trial.searched == searched(1)
    assert trial.state is TrialState.COMPLETE
    assert trial.report is not None
    assert trial.report.metrics == report(20, 2.0, 0.99).metrics
    assert trial.report.samples == {"retained": 2000, "forgotten": 1000}
    assert trial.report.seconds == {"training": 6.0, "evaluating": 2.5, "saving": 0.5, "waiting": 0.25}
    assert trial.report.dropped_samples == 1
    assert trial.run.slot_hours == pytest.approx(2 * 9 / 3600)
    assert (sweep.trials[3].state, sweep.trials[3].reason) == (TrialState.PRUNED, "below the median")
    assert [found.step for found in read_reports(tracking_uri, trial)] == [10, 20]


def test_mlflow_shows_trials_below_their_sweep_with_matching_states(recorded: SearchSpace, tracking_uri: str) -> None:
    _, runs = runs_of(tracking_uri)
    sweep = runs.pop("small")
    assert sorted(runs) == ["trial 0", "trial 1", "trial 2", "trial 3"]
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {sweep.info.run_id}
    assert [run.info.status for _, run in sorted(runs.items())] == ["FINISHED", "FINISHED", "FINISHED", "KILLED"]
    assert sweep.info.status == "FINISHED"
    assert sweep.data.params["budget.trials"] == "4"
    assert sweep.data.metrics["slot_hours"] == pytest.approx((3 * 18 + 9) / 3600)
    assert sweep.data.metrics["seconds_per_trial"] == pytest.approx((3 * 18 + 9) / 4)
    assert (sweep.data.metrics["hours"], sweep.data.metrics["gpu_hours"]) == (0.04, 0.02)  # as the driver told
    assert sweep.data.metrics["hypervolume_per_gpu_hour"] == pytest.approx(8.82 / 0.02)
    assert "hypervolume_per_slot_hour" not in sweep.data.metrics
    assert runs["trial 0"].data.params["batch_size"] == "32"
    assert runs["trial 0"].data.tags["sfd.score"] == f"{runs['trial 0'].data.metrics['score']:.6g}"


def test_a_closed_sweep_leaves_pictures_a_table_and_its_environment(recorded: SearchSpace, tracking_uri: str) -> None:
    client, runs = runs_of(tracking_uri)
    run_id = runs["small"].info.run_id
    names = {file.path for file in client.list_artifacts(run_id)}
    assert names >= {"front.png", "report.html", "hypervolume.png", "importance.png", "environment.txt"}
    table = pd.read_parquet(client.download_artifacts(run_id, "trials.parquet"))
    assert table["trial"].tolist() == [0, 1, 2, 3]
    assert table["samples_retained"].tolist() == [2000] * 4
    assert f"pandas=={pd.__version__}\n" in Path(client.download_artifacts(run_id, "environment.txt")).read_text()


def test_an_evaluation_adds_its_grid_as_an_image_of_its_step(recorded: SearchSpace, tracking_uri: str) -> None:
    client, runs = runs_of(tracking_uri)
    names = [file.path for file in client.list_artifacts(runs["trial 0"].info.run_id, "images")]
    pictures = sorted(name.split("+timestamp")[0] for name in names if name.endswith(".png"))
    assert pictures == ["images/grid+step+10", "images/grid+step+20"]
    assert runs["trial 0"].data.tags["mlflow.loggedImages"] == "True"


def test_telling_a_resumed_sweep_everything_again_changes_nothing(
    recorded: SearchSpace, tracking_uri: str, tmp_path: Path
) -> None:
    before, sweep = everything(tracking_uri), read_sweep(tracking_uri, "small")
    recorder = open_recorder(recorded, tmp_path, resume=True)
    tell_sweep(recorder, recorded)
    tell_sweep(recorder, recorded)
    recorder.close(SweepState.COMPLETE)
    assert everything(tracking_uri) == before
    assert max(before.values()) == 2  # an image is kept in two sizes
    assert read_sweep(tracking_uri, "small").trials == sweep.trials


def test_the_null_baseline_is_recorded_with_the_sweep_once_and_read_back(
    recorded: SearchSpace, tracking_uri: str, tmp_path: Path
) -> None:
    before = read_sweep(tracking_uri, "small")
    assert before.swap is None
    swap = report(0, 0.6, 1.0, override_distance=1.07)
    for _ in range(2):  # a resumed sweep tells everything again
        recorder = open_recorder(recorded, tmp_path, resume=True)
        recorder.swap_reported(swap)
        recorder.swap_reported(swap)
        recorder.close(SweepState.COMPLETE)
    sweep = read_sweep(tracking_uri, "small")
    assert sweep.swap == swap
    assert (sweep.trials, sweep.front) == (before.trials, before.front)
    assert sweep.summary.hypervolume == before.summary.hypervolume
    assert "swap: forgets nothing" in page_of(tracking_uri)
    assert everything(tracking_uri)["small", "swap/unlearning_accuracy", 0] == 1


def page_of(tracking_uri: str) -> str:
    client, runs = runs_of(tracking_uri)
    return Path(client.download_artifacts(runs["small"].info.run_id, "report.html")).read_text()


def test_trials_are_tagged_by_whether_they_count_as_forgotten_on_the_most_samples(
    tracking_uri: str, tmp_path: Path
) -> None:
    space = search_space(tracking_uri, "selection={min: {unlearning_accuracy: 0.95}}")
    recorder = open_recorder(space, tmp_path)
    tell_sweep(recorder, space)
    recorder.final_reported(1, report(20, 2.0, 0.94, samples=10000))
    tell_trial(recorder, space, 1)  # as a resumed sweep does
    recorder.final_reported(1, report(20, 2.0, 0.94, samples=10000))
    recorder.close(SweepState.COMPLETE)
    _, runs = runs_of(tracking_uri)
    assert {name: run.data.tags.get("sfd.forgotten") for name, run in runs.items()} == {
        **{"small": None, "trial 0": "false", "trial 1": "false", "trial 2": "false", "trial 3": "true"},
    }


def test_the_final_evaluation_changes_the_front_without_another_trial(
    recorded: SearchSpace, tracking_uri: str, tmp_path: Path
) -> None:
    for _ in range(2):  # a resumed sweep tells everything again
        recorder = open_recorder(recorded, tmp_path, resume=True)
        recorder.final_reported(0, report(20, 2.5, 0.9, samples=10000))
        recorder.final_reported(1, report(20, 2.0, 0.99, samples=10000))
        for _ in range(2):
            recorder.front_changed([1], 7.92, 4, ResourceUsage(0.05, 0.02))
        recorder.close(SweepState.COMPLETE)
    sweep = read_sweep(tracking_uri, "small")
    assert [member.number for member in sweep.front] == [1]
    assert (sweep.summary.front_size, sweep.summary.hypervolume) == (1, 7.92)
    assert sweep.hypervolume() == pytest.approx(7.92)
    assert everything(tracking_uri)["small", "hypervolume", 4] == 2  # by the search's figures, and by the final ones
    _, runs = runs_of(tracking_uri)
    assert {name: run.data.tags.get("sfd.pareto") for name, run in runs.items() if "trial" in name} == {
        **{"trial 0": "false", "trial 1": "true", "trial 2": "false", "trial 3": "false"},
    }


def test_no_trial_is_tagged_where_the_file_does_not_say_what_counts(recorded: SearchSpace, tracking_uri: str) -> None:
    assert not [run for run in runs_of(tracking_uri)[1].values() if "sfd.forgotten" in run.data.tags]


def test_a_resumed_sweep_continues_the_runs_that_a_killed_driver_left(
    space: SearchSpace, tracking_uri: str, tmp_path: Path
) -> None:
    killed = open_recorder(space, tmp_path)
    killed.trial_started(0, settings(space, 0), searched(0))
    tell_report(killed, 0, report(10, 11.0, 0.9))
    killed._thread.shutdown(wait=True)  # and nothing is ever closed
    recorder = open_recorder(space, tmp_path, resume=True)
    tell_trial(recorder, space, 0)
    recorder.close(SweepState.COMPLETE)
    counted = everything(tracking_uri)
    assert counted["trial 0", "fd_classifier", 10] == counted["trial 0", "fd_classifier", 20] == 1
    assert counted["trial 0", "images/grid+step+10"] == 2
    (trial,) = read_sweep(tracking_uri, "small").trials
    assert trial.run.slot_hours == pytest.approx(18 / 3600)


def test_an_image_without_its_figures_is_not_repeated_after_a_crash_between_them(
    space: SearchSpace, tracking_uri: str, tmp_path: Path
) -> None:
    killed = open_recorder(space, tmp_path)
    killed.trial_started(0, settings(space, 0), searched(0))
    killed._thread.shutdown(wait=True)
    step_folder(trial_folder(killed._folder, 0), 10).write(GRID, grid())
    killed._runs._log_grids(killed._runs._trials[0], 0, [10])
    recorder = open_recorder(space, tmp_path, resume=True)
    tell_trial(recorder, space, 0)
    recorder.close(SweepState.COMPLETE)
    assert everything(tracking_uri)["trial 0", "images/grid+step+10"] == 2


def test_trials_that_have_not_ended_are_stopped_with_the_sweep_and_run_again_with_it(
    space: SearchSpace, tracking_uri: str, tmp_path: Path
) -> None:
    recorder = open_recorder(space, tmp_path)
    tell_trial(recorder, space, 0)
    recorder.trial_started(1, settings(space, 1), searched(1))
    recorder.close(SweepState.STOPPED, "interrupted")
    sweep = read_sweep(tracking_uri, "small")
    assert (sweep.summary.state, sweep.summary.reason) == (SweepState.STOPPED, "interrupted")
    assert [trial.state for trial in sweep.trials] == [TrialState.COMPLETE, TrialState.STOPPED]
    assert runs_of(tracking_uri)[1]["trial 1"].info.status == "KILLED"

    recorder = open_recorder(space, tmp_path, resume=True)
    recorder.trial_started(1, settings(space, 1), searched(1))
    recorder._thread.shutdown(wait=True)
    sweep = read_sweep(tracking_uri, "small")
    assert (sweep.summary.state, sweep.summary.reason) == (SweepState.RUNNING, None)
    assert (sweep.trials[1].state, sweep.trials[1].reason, sweep.trials[1].run.ended) == (
        TrialState.RUNNING,
        None,
        None,
    )
    assert runs_of(tracking_uri)[1]["trial 1"].info.status == "RUNNING"


def test_tags_tell_the_front_while_the_sweep_runs(space: SearchSpace, tracking_uri: str, tmp_path: Path) -> None:
    recorder = open_recorder(space, tmp_path)
    for number in (0, 1):
        tell_trial(recorder, space, number)
    recorder.front_changed([0], 8.1, 1, ResourceUsage(0.1, 0.1))
    recorder.front_changed([1], 8.2, 2, ResourceUsage(0.2, 0.2))
    recorder._thread.shutdown(wait=True)
    client, runs = runs_of(tracking_uri)
    assert [runs[name].data.tags["sfd.pareto"] for name in ("trial 0", "trial 1")] == ["false", "true"]
    points = client.get_metric_history(runs["small"].info.run_id, "hypervolume")
    assert [(point.step, point.value) for point in points] == [(1, 8.1), (2, 8.2)]
    assert runs["small"].info.status == "RUNNING"


def test_final_figures_stand_beside_those_of_the_search(space: SearchSpace, tracking_uri: str, tmp_path: Path) -> None:
    recorder = open_recorder(space, tmp_path)
    tell_trial(recorder, space, 0)
    recorder.final_reported(0, report(20, 0.9, 0.91, samples=10000))
    recorder.final_reported(0, report(20, 0.9, 0.91, samples=10000))
    recorder.close(SweepState.COMPLETE)
    (trial,) = read_sweep(tracking_uri, "small").trials
    assert trial.final == report(20, 0.9, 0.91, samples=10000)
    assert trial.report is not None
    assert trial.report.metrics["fd_classifier"] == 1.0
    assert everything(tracking_uri)["trial 0", "final/fd_classifier", 20] == 1


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_figures_that_are_not_finite_are_recorded_and_never_on_the_front(
    space: SearchSpace, tracking_uri: str, tmp_path: Path, value: float
) -> None:
    recorder = open_recorder(space, tmp_path)
    tell_trial(recorder, space, 0)
    recorder.trial_started(1, settings(space, 1), searched(1))
    tell_report(recorder, 1, report(20, value, 1.0))
    recorder.trial_finished(1, TrialState.COMPLETE, None)
    recorder.close(SweepState.COMPLETE)
    sweep = read_sweep(tracking_uri, "small")
    assert str(sweep.trials[1].metrics["fd_classifier"]) == str(value)
    assert [trial.number for trial in sweep.front] == [0]


def test_a_new_sweep_of_a_recorded_name_is_refused_with_both_ways_out(recorded: SearchSpace, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"named 'small' is already.*sfd-sweep resume small.*another name"):
        open_recorder(recorded, tmp_path)


def test_a_resumed_sweep_that_the_store_does_not_know_is_recorded_anew(
    space: SearchSpace, tracking_uri: str, tmp_path: Path
) -> None:
    recorder = open_recorder(space, tmp_path, resume=True)
    tell_sweep(recorder, space)
    recorder.close(SweepState.COMPLETE)
    assert [sweep.name for sweep in list_sweeps(tracking_uri)] == ["small"]


def test_sweeps_of_one_experiment_are_kept_apart(tracking_uri: str, tmp_path: Path) -> None:
    for name, number in (("first", 0), ("second", 1)):
        space = search_space(tracking_uri, f"name={name}", "tracking.experiment=family")
        recorder = open_recorder(space, tmp_path)
        tell_trial(recorder, space, number)
        recorder.close(SweepState.COMPLETE)
    assert [sweep.name for sweep in list_sweeps(tracking_uri)] == ["second", "first"]
    assert [trial.number for trial in read_sweep(tracking_uri, "second").trials] == [1]


def test_a_refused_write_is_raised_when_the_sweep_is_closed(
    space: SearchSpace, tracking_uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = open_recorder(space, tmp_path)
    recorder.trial_started(0, settings(space, 0), searched(0))
    while not read_sweep(tracking_uri, "small").trials:
        time.sleep(0.05)
    MlflowClient(tracking_uri).delete_run(read_sweep(tracking_uri, "small").trials[0].run.run_id)
    tell_report(recorder, 0, report(10, 1.0, 1.0))
    recorder.front_changed([], 1.0, 1, ResourceUsage(0.1, 0.1))
    with pytest.raises(
        SweepFailed, match=r"safe in file://.*/small; `sfd-sweep resume small` records it again"
    ) as failure:
        recorder.close(SweepState.COMPLETE)
    assert "\n" not in str(failure.value)
    assert "recording in MLflow has stopped" in caplog.text
    assert "hypervolume" not in runs_of(tracking_uri)[1]["small"].data.metrics  # nothing is written after a gap


def test_a_driver_that_lost_its_lease_writes_nothing_more(
    space: SearchSpace, tracking_uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lost = threading.Event()

    def check() -> None:
        if lost.is_set():
            raise SweepFailed("the lease of small could not be renewed")

    recorder = open_recorder(space, tmp_path, may_write=check)
    tell_trial(recorder, space, 0)
    recorder.front_changed([0], 8.1, 1, ResourceUsage(0.1, 0.1))
    recorder._thread.submit(lost.set).result()  # while it is suspended, another driver resumes the sweep
    winner = open_recorder(space, tmp_path, resume=True)
    tell_sweep(winner, space)
    winner.close(SweepState.COMPLETE)
    before = everything(tracking_uri)
    tell_trial(recorder, space, 3)
    with pytest.raises(SweepFailed, match="^the lease of small could not be renewed$"):
        recorder.close(SweepState.FAILED, "it was suspended")
    assert everything(tracking_uri) == before
    assert read_sweep(tracking_uri, "small").summary.state is SweepState.COMPLETE
    assert "the sweep itself continues" not in caplog.text


def test_a_report_costs_the_caller_less_than_a_millisecond(space: SearchSpace, tmp_path: Path) -> None:
    recorder = open_recorder(space, tmp_path)
    recorder.trial_started(0, settings(space, 0), searched(0))
    seconds = []
    for step in range(1, 21):
        began = time.perf_counter()
        recorder.trial_reported(0, report(step, 1.0, 1.0))
        seconds.append(time.perf_counter() - began)
    recorder.close(SweepState.STOPPED)
    assert median(seconds) < 1e-3


def test_reports_that_come_in_faster_than_they_are_written_are_written_together(
    space: SearchSpace, tracking_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = open_recorder(space, tmp_path)
    written: list[tuple[int, list[int]]] = []
    report_trial, go = recorder._runs.report_trial, threading.Event()

    def noted(number: int, reports: Sequence[Report]) -> None:
        written.append((number, [told.step for told in reports]))
        report_trial(number, reports)

    monkeypatch.setattr(recorder._runs, "report_trial", noted)
    for number in (0, 1):
        recorder.trial_started(number, settings(space, number), searched(number))
    recorder._thread.submit(go.wait)
    for step in range(1, 31):
        for number in (0, 1):
            tell_report(recorder, number, report(step, 1.0 / step, 1.0))
    go.set()
    recorder.close(SweepState.COMPLETE)
    early, late = list(range(1, 21)), list(range(21, 31))
    assert written == [(0, early), (1, early), (0, late), (1, late)]
    for trial in read_sweep(tracking_uri, "small").trials:
        reports = read_reports(tracking_uri, trial)
        assert [(told.step, told.metrics["fd_classifier"]) for told in reports] == [(n, 1 / n) for n in range(1, 31)]
        assert trial.run.slot_hours == pytest.approx(30 * 9 / 3600)
    counted = everything(tracking_uri)
    assert {counted["trial 1", f"images/grid+step+{step}"] for step in range(1, 31)} == {2}


def test_a_picture_that_is_gone_costs_no_figures(
    space: SearchSpace, tracking_uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = open_recorder(space, tmp_path)
    recorder.trial_started(0, settings(space, 0), searched(0))
    recorder.trial_reported(0, report(10, 1.0, 1.0))
    recorder.close(SweepState.COMPLETE)
    assert "step-000010 holds no grid.png, so MLflow shows none for that step of trial 0" in caplog.text
    (trial,) = read_sweep(tracking_uri, "small").trials
    assert [told.step for told in read_reports(tracking_uri, trial)] == [10]


def test_two_sweeps_write_into_one_database_at_once(tracking_uri: str, tmp_path: Path) -> None:
    spaces = [search_space(tracking_uri, f"name={name}") for name in ("one", "two")]
    recorders = [open_recorder(space, tmp_path) for space in spaces]
    for space, recorder in zip(spaces, recorders, strict=True):
        tell_sweep(recorder, space)
    for recorder in recorders:
        recorder.close(SweepState.COMPLETE)
    assert {sweep.finished for sweep in list_sweeps(tracking_uri)} == {4}


def test_passwords_are_nowhere_in_the_store(tracking_uri: str, tmp_path: Path) -> None:
    space = search_space(tracking_uri, "storage=s3://user:hunter2@bucket/runs")
    recorder = open_recorder(space, tmp_path)
    recorder.trial_started(0, settings(space, 0), searched(0))
    recorder.trial_finished(0, TrialState.FAILED, "cannot read s3://user:hunter2@bucket/x?token=hunter2")
    recorder.close(SweepState.FAILED, "lost postgresql://user:hunter2@host/db")
    assert "s3://bucket/runs" in (read_sweep(tracking_uri, "small").space.storage)
    with sqlite3.connect(tracking_uri.removeprefix("sqlite:///")) as database:
        assert "hunter2" not in "\n".join(database.iterdump())
    texts = [path.read_bytes() for path in (tmp_path / "mlruns").rglob("*") if path.is_file()]
    assert len(texts) > 5
    assert not any(b"hunter2" in text for text in texts)


def test_nothing_is_left_of_a_sweep_whose_record_cannot_be_begun(
    space: SearchSpace, tracking_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no access to the artifacts")

    with monkeypatch.context() as patch:
        patch.setattr("sfd_sweep.tracking.runs.SweepRuns.log_files", refuse)
        with pytest.raises(UserError, match="no access to the artifacts"):
            open_recorder(space, tmp_path)
    assert list_sweeps(tracking_uri) == []
    open_recorder(space, tmp_path).close(SweepState.COMPLETE)
    assert [sweep.name for sweep in list_sweeps(tracking_uri)] == ["small"]


RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"


@pytest.mark.parametrize(("users", "meanwhile", "otherwise"), [(None, "1", "4"), ("9", "9", "9")])
def test_mlflow_retries_little_while_the_recorder_repeats_its_writes(
    space: SearchSpace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    users: str | None,
    meanwhile: str,
    otherwise: str,
) -> None:
    monkeypatch.delenv(RETRIES, raising=False)
    if users is not None:
        monkeypatch.setenv(RETRIES, users)
    monkeypatch.setattr(recorder_module, "DEFAULTED", reload(tracking).DEFAULTED)
    assert os.environ[RETRIES] == otherwise
    recorder = open_recorder(space, tmp_path)
    assert os.environ[RETRIES] == meanwhile
    recorder.close(SweepState.STOPPED)
    assert os.environ[RETRIES] == otherwise


def test_what_errors_make_of_the_front_is_written_once(tracking_uri: str, tmp_path: Path) -> None:
    space = search_space(tracking_uri, "objectives.0.error=1.1", "objectives.1.error=0.1")
    for resume in (False, True):
        recorder = open_recorder(space, tmp_path, resume=resume)
        tell_sweep(recorder, space)
        recorder.close(SweepState.COMPLETE)
        _, runs = runs_of(tracking_uri)
        written = everything(tracking_uri)
        metrics = {name: run.data.metrics for name, run in runs.items()}
        record = read_sweep(tracking_uri, "small")
        assert metrics["trial 0"]["front_probability"] == record.front_probability[0]
        assert metrics["trial 0"]["knee_probability"] == record.knee_probability[0]
        assert "front_probability" not in metrics["trial 3"]  # it was pruned
        assert metrics["small"]["hypervolume_low"] == pytest.approx(record.hypervolume_interval.low)
        assert "front_probability" not in record.trials[0].metrics
        equals = [runs[f"trial {number}"].data.tags.get("sfd.as_good_as") for number in range(3)]
        assert equals == ["1", "0", None]  # 2 is not on the front
        assert trials_table(record)["as_good_as"].fillna("").tolist() == ["1", "0", "", ""]
        assert {count for point, count in written.items() if "probability" in point[1]} == {1}
        assert {count for point, count in written.items() if point[1].startswith("hypervolume_")} == {1}


def test_a_running_sweep_has_its_page_with_what_is_known_so_far(
    tracking_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "PAGE_SECONDS", 0.0)
    space = search_space(tracking_uri)
    recorder = open_recorder(space, tmp_path)
    tell_trial(recorder, space, 0)
    recorder.front_changed([0], 8.1, 1, ResourceUsage(0.01, 0.005))
    recorder._thread.submit(lambda: None).result()  # the writer has written all that it was told
    page = page_of(tracking_uri)
    assert '"state": "running"' in page.partition('"trials"')[0]
    assert '"lines": {"0": [[10, ' in page  # the curve, of which MLflow's runs give the last point only
    recorder._page_due = math.inf
    tell_trial(recorder, space, 1)
    recorder.front_changed([0, 1], 8.8, 2, ResourceUsage(0.01, 0.005))
    recorder._thread.submit(lambda: None).result()
    assert page_of(tracking_uri) == page
    recorder.close(SweepState.STOPPED, "it was told to")
    assert '"state": "stopped", "reason": "it was told to"' in page_of(tracking_uri)


def test_reports_of_all_evaluations_are_read_back(recorded: SearchSpace, tracking_uri: str) -> None:
    trials = read_sweep(tracking_uri, "small").trials
    found = all_reports(tracking_uri, trials)
    assert found[1] == [report(10, 12.0, 0.99), report(20, 2.0, 0.99)]
    assert found[3] == [report(10, 10.5, 0.95)]
    assert set(found) == {0, 1, 2, 3}
