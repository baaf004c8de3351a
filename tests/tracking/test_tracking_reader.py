"""Finding sweeps by name."""

from pathlib import Path

import pytest
from mlflow import MlflowClient
from tracked_sweep import open_recorder, search_space, tell_trial

from sfd_sweep.config import SearchSpace, Settings
from sfd_sweep.errors import UserError
from sfd_sweep.search.records import SweepState
from sfd_sweep.tracking.reader import list_sweeps, read_sweep


@pytest.fixture
def three_sweeps(tracking_uri: str, tmp_path: Path) -> str:
    for name in ("digits-forget-0", "digits-forget-1", "cifar"):
        open_recorder(search_space(tracking_uri, f"name={name}"), tmp_path)
    return tracking_uri


def test_sweeps_are_listed_newest_first(three_sweeps: str) -> None:
    assert [sweep.name for sweep in list_sweeps(three_sweeps)] == ["cifar", "digits-forget-1", "digits-forget-0"]


def test_a_sweep_without_trials_yet_is_running(three_sweeps: str) -> None:
    sweep = read_sweep(three_sweeps, "cifar")
    assert (sweep.summary.state, sweep.summary.hypervolume) == (SweepState.RUNNING, None)
    assert (sweep.trials, sweep.front, sweep.hypervolume()) == ((), [], 0.0)


def test_an_unknown_name_brings_the_nearest(three_sweeps: str) -> None:
    with pytest.raises(
        UserError, match=r"unknown sweep 'digits-forget0'.*did you mean digits-forget-0 or digits-forget-1"
    ):
        read_sweep(three_sweeps, "digits-forget0")


def test_a_name_like_no_other_brings_all(three_sweeps: str) -> None:
    with pytest.raises(UserError, match=r'unknown sweep "o.brien".*it holds cifar, digits-forget-1, digits-forget-0'):
        read_sweep(three_sweeps, "o'brien")


def test_an_empty_store_has_no_sweep_of_any_name(tracking_uri: str) -> None:
    with pytest.raises(UserError, match=r"unknown sweep 'small'.*holds no sweeps"):
        read_sweep(tracking_uri, "small")


def test_a_trial_whose_run_is_being_made_is_left_out(space: SearchSpace, tracking_uri: str, tmp_path: Path) -> None:
    recorder = open_recorder(space, tmp_path)
    tell_trial(recorder, space, 0)
    recorder._thread.shutdown(wait=True)
    recorder._runs._create_trial_run(1, Settings(), {})
    assert [trial.number for trial in read_sweep(tracking_uri, "small").trials] == [0]


def test_runs_of_others_in_the_same_store_are_left_alone(space: SearchSpace, tracking_uri: str, tmp_path: Path) -> None:
    client = MlflowClient(tracking_uri)
    recorder = open_recorder(space, tmp_path)
    client.create_run(client.get_experiment_by_name("small").experiment_id)
    recorder.close(SweepState.COMPLETE)
    assert [sweep.name for sweep in list_sweeps(tracking_uri)] == ["small"]
    assert read_sweep(tracking_uri, "small").trials == ()
