"""Reaching the tracking store, or saying in one line and within seconds why not."""

import http.server
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from sfd_sweep.errors import UserError
from sfd_sweep.storage.credentials import without_credentials
from sfd_sweep.tracking import store
from sfd_sweep.tracking.reader import list_sweeps
from sfd_sweep.tracking.store import Store, resolve_uri


def refusal(uri: str, *, create: bool = True) -> str:
    began = time.monotonic()
    with pytest.raises(UserError) as caught:
        Store.open(uri, create=create)
    assert time.monotonic() - began < 5
    message = str(caught.value)
    assert "\n" not in message
    return message


@contextmanager
def listening() -> Iterator[int]:
    """A port that takes connections and never says anything."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


def free_port() -> int:
    with listening() as port:
        return port


class Failing(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(503)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.mark.parametrize("scheme", ["http", "https", "postgresql", "mysql+pymysql"])
def test_a_server_that_is_away_is_named_without_its_password(scheme: str) -> None:
    message = refusal(f"{scheme}://user:hunter2@127.0.0.1:{free_port()}/db")
    assert f"the tracking server {scheme}://127.0.0.1:" in message
    assert "is unreachable" in message
    assert "hunter2" not in message


def test_a_password_with_a_slash_is_not_shown_either() -> None:
    message = refusal(f"postgresql://user:hunter/2@127.0.0.1:{free_port()}/db")
    assert "the tracking server postgresql://127.0.0.1:" in message
    assert "hunter" not in message


def test_a_server_that_does_not_answer_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "ANSWER_SECONDS", 0.3)
    with listening() as port:
        assert "is unreachable" in refusal(f"http://127.0.0.1:{port}")


def test_a_server_that_fails_is_away() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), Failing) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        assert "HTTP Error 503" in refusal(f"http://127.0.0.1:{server.server_port}")


def test_a_broken_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 1000)
    assert "file is not a database" in refusal(f"sqlite:///{tmp_path}/mlflow.db")


def test_a_database_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    assert "unable to open database file" in refusal(f"sqlite:///{tmp_path}/missing/mlflow.db")
    assert not (tmp_path / "missing").exists()


def test_a_database_whose_first_run_was_killed_is_made_anew_by_several_first_runs_at_once(tmp_path: Path) -> None:
    uri, part = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "mlflow.db.part"
    code = f"from sfd_sweep.tracking.store import Store; Store.open({uri!r}, create=True)"
    killed = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    while not (part.exists() and part.stat().st_size):
        assert killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    assert not (tmp_path / "mlflow.db").exists()
    (tmp_path / "mlflow.db").touch()  # as SQLite leaves one that it has only opened

    with ThreadPoolExecutor(3) as pool:
        stores = list(pool.map(lambda _: Store.open(uri, create=True), range(3)))
    assert [[found.name for found in store.client.search_experiments()] for store in stores] == [["Default"]] * 3
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("mlflow")] == ["mlflow.db"]


def test_a_folder_of_files_is_no_longer_a_store(tmp_path: Path) -> None:
    assert "tracking.uri" in refusal(str(tmp_path / "mlruns"))


def test_an_unknown_kind_of_store_is_refused() -> None:
    assert "foo://" in refusal("foo://bar")


def test_looking_creates_no_database(tmp_path: Path) -> None:
    message = refusal(f"sqlite:///{tmp_path}/mlflow.db", create=False)
    assert "no tracking database" in message
    assert list(tmp_path.iterdir()) == []


def test_a_store_without_sweeps_lists_none(tracking_uri: str) -> None:
    assert list_sweeps(tracking_uri) == []


def test_the_file_rules_over_the_environment_and_that_over_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    assert resolve_uri("sqlite:///own.db") == f"sqlite:///{tmp_path}/own.db"
    assert resolve_uri(None) == "http://elsewhere"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert resolve_uri(None) == f"sqlite:///{tmp_path}/mlflow.db"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://user:word@host:5000/x", "http://host:5000/x"),
        ("uri: s3://key:se:cr@et@bucket/runs # a@b", "uri: s3://bucket/runs # a@b"),
        ("'postgresql://me:pa/ss@word@db:5432/mlflow'", "'postgresql://db:5432/mlflow'"),
        ("http://host:5000/a@b and s3://host:9000", "http://host:5000/a@b and s3://host:9000"),
        ("postgresql://host/db?user=me&password=word&x=1", "postgresql://host/db?user=me&password=…&x=1"),
        ("https://host/x?sig=abc", "https://host/x?sig=…"),
        ("someone@example.org and http://host/a@b", "someone@example.org and http://host/a@b"),
    ],
)
def test_credentials_are_taken_out_of_uris_and_nothing_else(text: str, expected: str) -> None:
    assert without_credentials(text) == expected
