"""A real MLflow server, for the tests that speak to one."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

START_SECONDS = 240


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def mlflow_server(store: str, folder: Path) -> Iterator[str]:
    """A server on the loopback address that asks nobody for a password; its URI.

    Args:
        store: where it keeps runs.
        folder: for artifacts and its log.
    """
    uri = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", uri.rpartition(":")[2]]
    command += ["--workers", "1", "--backend-store-uri", store, "--artifacts-destination", str(folder / "artifacts")]
    with serving(command, uri, folder, {}):
        yield uri


@contextmanager
def serving(command: Sequence[str], uri: str, folder: Path, variables: Mapping[str, str]) -> Iterator[None]:
    """A server's process for the block.

    Args:
        uri: where it will answer.
        folder: for its log.
        variables: of its environment, besides this process's.
    """
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, env={**os.environ, **variables}
        )
        try:
            _wait_for(f"{uri}/health", process)
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=20)


def _wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        assert process.poll() is None
        try:
            urlopen(url, timeout=5).close()
        except (URLError, TimeoutError):  # not up yet, or up but busy starting
            time.sleep(0.25)
        else:
            return
    raise TimeoutError(url)
