"""A real MLflow server, which a test may kill and start again."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

from drivers import wait_until


class MlflowServer:
    """A server of the folder's database, on a port of its own.

    Args:
        folder: with `mlflow.db`; artifacts and the server's log come there too.
    """

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{port}"
        self._folder = folder
        self._command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
        self._command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
        self._command += ["--artifacts-destination", str(folder / "artifacts")]

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, start_new_session=True)
        wait_until(self._answers, "MLflow's server")

    def kill(self) -> None:
        """End it at once, with its children."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _answers(self) -> bool:
        try:
            urlopen(f"{self.uri}/health", timeout=5).close()
        except OSError:
            return False
        return True
