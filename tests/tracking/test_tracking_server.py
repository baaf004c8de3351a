"""The same over HTTP, to a real MLflow server."""

from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow_server import mlflow_server
from recorded_reports import read_reports
from test_tracking_models import put_generators
from tracked_sweep import open_recorder, report, search_space, searched, settings, tell_report, tell_sweep

from sfd_sweep.search.records import SweepState
from sfd_sweep.storage.folder import Folder
from sfd_sweep.tracking.model_registry import register
from sfd_sweep.tracking.reader import list_sweeps, read_sweep
from sfd_sweep.tracking.store import Store
from sfd_sweep.trial.report import TrialState


@pytest.fixture
def server(tracking_uri: str, tmp_path: Path) -> Iterator[str]:
    """Its URI; with a password, which this server does not ask for."""
    with mlflow_server(tracking_uri, tmp_path) as uri:
        yield uri.replace("://", "://me:hunter2@")


def test_a_sweep_is_recorded_resumed_and_read_through_a_server(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    space = search_space("null")
    put_generators(Folder.open(tmp_path) / space.name)
    for resume in (False, True):
        recorder = open_recorder(space, tmp_path, resume=resume)
        tell_sweep(recorder, space)
        recorder.trial_started(4, settings(space, 4), searched(4))
        tell_report(recorder, 4, report(20, float("nan"), float("inf")))
        recorder.trial_finished(4, TrialState.COMPLETE, None)
        recorder.close(SweepState.COMPLETE)
    sweep = read_sweep(server, "small")
    assert [trial.state for trial in sweep.trials[:4]] == [TrialState.COMPLETE] * 3 + [TrialState.PRUNED]
    assert str(sweep.trials[4].metrics) == str(report(20, float("nan"), float("inf")).metrics)
    assert [found.step for found in read_reports(server, sweep.trials[0])] == [10, 20]
    assert [found.name for found in list_sweeps(server)] == ["small"]

    register(Store.open(server), "small", sweep.trials[1].run.run_id)
    model = mlflow.pyfunc.load_model("models:/small@champion")
    assert model.predict(pd.DataFrame({"label": [3], "seed": [0]})).shape == (1, 8, 8, 1)

    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(b"hunter2" in content for content in kept)
    out, err = capfd.readouterr()
    assert "View run" not in out + err
