"""The same over HTTP, to a real MLflow server."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import mlflow
import pandas as pd
import pytest
from test_tracking_models import put_generators
from tracked_sweep import grid, open_recorder, report, search_space, searched, settings, tell_sweep

from sfd_sweep.storage import Folder
from sfd_sweep.tracking.models import register
from sfd_sweep.tracking.reader import list_sweeps, read_reports, read_sweep
from sfd_sweep.tracking.records import SweepState
from sfd_sweep.tracking.store import Store
from sfd_sweep.trial.report import TrialState


@pytest.fixture
def server(tracking_uri: str, tmp_path: Path) -> Iterator[str]:
    """Its URI; with a password, which this server does not ask for."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", tracking_uri, "--artifacts-destination", str(tmp_path / "artifacts")]
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process)
            yield f"http://me:hunter2@127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=20)


def _wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(240):
        assert process.poll() is None
        try:
            urlopen(url, timeout=5).close()
        except (URLError, TimeoutError):  # not up yet, or up but busy starting
            time.sleep(0.25)
        else:
            return
    raise TimeoutError(url)


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
        recorder.trial_reported(4, report(20, float("nan"), float("inf")), 0.0, grid())
        recorder.trial_finished(4, TrialState.COMPLETE, None)
        recorder.close(SweepState.COMPLETE)
    sweep = read_sweep(server, "small")
    assert [trial.state for trial in sweep.trials[:4]] == [TrialState.COMPLETE] * 3 + [TrialState.PRUNED]
    assert [trial.pareto for trial in sweep.trials] == [True, True, False, False, False]
    assert str(sweep.trials[4].metrics) == str(report(20, float("nan"), float("inf")).metrics)
    assert [found.step for found in read_reports(server, sweep.trials[0])] == [10, 20]
    assert [found.name for found in list_sweeps(server)] == ["small"]

    register(Store.open(server), "small", sweep.trials[1].run_id)
    model = mlflow.pyfunc.load_model("models:/small@champion")
    assert model.predict(pd.DataFrame({"label": [3], "seed": [0]})).shape == (1, 8, 8, 1)

    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(b"hunter2" in content for content in kept)
    out, err = capfd.readouterr()
    assert "View run" not in out + err
