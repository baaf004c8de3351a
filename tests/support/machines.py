"""A Ray cluster of several machines on this host: each is what `ray start` makes of a machine, and can be killed."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from mlflow_server import free_port

ROOT = Path(__file__).parents[2]
STUBS = ROOT / "tests" / "support"
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a-token-that-only-this-test-knows-0123"}
NO_TOKEN = {"RAY_AUTH_MODE": "disabled"}
START_SECONDS = 240  # where ten tests share two cores
QUICK = {
    # Ray notices a killed machine within seconds; by default it takes a quarter of a minute.
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "4",
}
WORKER_PORTS = iter(range(12000, 60000, 200))  # of raylets that share a host


@dataclass
class Machines:
    """The cluster's machines, the head first.

    Attributes:
        address: of the head.
        client: of its Ray Client server.
        environment: of all processes, the driver's included.
        folder: for logs and Ray's own files.
    """

    address: str
    client: str
    environment: Mapping[str, str]
    folder: Path
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def join(self, *options: str, wrapped: Sequence[str] = (), **variables: str) -> None:
        """Start another machine, and wait until it is up."""
        process = self.start(f"--address={self.address}", *options, wrapped=wrapped, **variables)
        log, end = self.folder / f"machine-{len(self.processes) - 1}.log", time.monotonic() + START_SECONDS
        while "Ray runtime started" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)

    def start(self, *options: str, wrapped: Sequence[str] = (), **variables: str) -> "subprocess.Popen[bytes]":
        ports = next(WORKER_PORTS)
        command = [*wrapped, sys.executable, "-m", "ray.scripts.scripts", "start", *options, "--block"]
        command += [f"--min-worker-port={ports}", f"--max-worker-port={ports + 199}"]
        command += [
            f"--node-ip-address={self.address.partition(':')[0]}",  # Ray may find another of this host's
            f"--dashboard-agent-listen-port={free_port()}",
            "--disable-usage-stats",
            "--include-log-monitor=false",
        ]
        with (self.folder / f"machine-{len(self.processes)}.log").open("wb") as log:
            environment = {**self.environment, **variables}
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        self.processes.append(process)
        return process

    def run(self, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """A driver, on the head's machine."""
        return subprocess.run(
            [sys.executable, *command], cwd=cwd, env=self.environment, capture_output=True, text=True, check=False
        )

    @contextmanager
    def running(self, *command: str, cwd: Path) -> Iterator["subprocess.Popen[str]"]:
        """The same, while the block runs."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        with subprocess.Popen([sys.executable, *command], cwd=cwd, env=self.environment, text=True, **pipes) as program:
            try:
                yield program
            finally:
                program.kill()


@contextmanager
def head(folder: Path, *options: str, **variables: str) -> Iterator[Machines]:
    """A head for the block, and whatever joins it.

    Args:
        folder: with a short path, as Ray's sockets are in it.
        options: of `ray start --head`.
        variables: of the environment.
    """
    port, dashboard, client = free_port(), free_port(), free_port()
    host = socket.gethostbyname(socket.gethostname())
    machines = Machines(
        f"{host}:{port}",
        f"ray://{host}:{client}",
        {**os.environ, **QUICK, "PYTHONPATH": str(ROOT), **variables},
        folder,
    )
    try:
        machines.start(
            *("--head", f"--port={port}", f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1"),
            *(f"--ray-client-server-port={client}", f"--temp-dir={folder / 'r'}", *options),
        )
        _wait_for(f"http://127.0.0.1:{dashboard}/api/version", machines.processes[0])
        yield machines
    finally:
        for process in reversed(machines.processes):
            kill(process)


def kill(process: "subprocess.Popen[bytes]") -> None:
    """End a machine at once: its raylet, and with it all that runs there."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)


def _wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        assert process.poll() is None, "the head did not start"
        try:
            urlopen(url, timeout=5).close()
        except HTTPError:  # it asks for a token
            return
        except OSError:
            time.sleep(0.25)
        else:
            return
    raise TimeoutError(url)
