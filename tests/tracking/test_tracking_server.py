"""The same over HTTP, to a real MLflow server."""

import http.server
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import requests
from mlflow.entities import ViewType
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


@contextmanager
def failing_creations(server: str) -> Iterator[tuple[str, Counter[str]]]:
    """A proxy that passes every request on, and answers the first ones that create something with 500 nevertheless."""
    failed: Counter[str] = Counter()

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {"Content-Type": self.headers.get("Content-Type", "")}
            answer = requests.request(self.command, server + self.path, data=body, headers=headers, timeout=60)
            kind = self.path.rpartition("mlflow/")[2]
            status, content = answer.status_code, answer.content
            if kind in ("runs/create", "experiments/create") and failed[kind] < 3:
                failed[kind] += 1
                status, content = 500, b"{}"
            self.send_response(status)
            self.send_header("Content-Type", answer.headers.get("Content-Type", ""))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{proxy.server_port}", failed
        proxy.shutdown()


def test_a_creation_that_is_answered_with_an_error_makes_one_run(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "9")
    monkeypatch.setattr("sfd_sweep.tracking.runs.CREATION_PAUSES", (0.0,) * 4)
    monkeypatch.setattr("sfd_sweep.tracking.recorder.PAUSE_SECONDS", 0.0)
    with failing_creations(server.replace("me:hunter2@", "")) as (proxy, failed):
        space = search_space(proxy)
        recorder = open_recorder(space, tmp_path)
        for number in range(3):
            recorder.trial_started(number, settings(space, number), searched(number))
        recorder.close(SweepState.STOPPED)
    assert failed == {"experiments/create": 1, "runs/create": 3}
    client = mlflow.MlflowClient(server)
    (experiment,) = [found for found in client.search_experiments() if found.name == "small"]
    runs = client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL)
    assert Counter(run.info.run_name for run in runs) == dict.fromkeys(["small", "trial 0", "trial 1", "trial 2"], 1)
