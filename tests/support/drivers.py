"""Sweeps of the stub runtime in separate driver processes, which tests kill."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import ray
from mlflow import MlflowClient
from mlflow.entities import Run
from stub_runtime import SEARCH_SPACE, notes

from sfd_sweep.config.loading import parse_search_space
from sfd_sweep.search.records import SweepRecord
from sfd_sweep.search.study import SweepStudy
from sfd_sweep.search.trial import Trial
from sfd_sweep.storage.folder import Folder
from sfd_sweep.tracking.reader import read_sweep
from sfd_sweep.tracking.store import Store

HERE = Path(__file__).parent
PATIENCE = 300.0  # on a machine that others use too


def wait_until(happened: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"timeout: {what}"
        time.sleep(0.02)


def actors(kind: str) -> list[int]:
    """Processes of the test's cluster that run an actor of a class."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if "".join(process.cmdline()).startswith(f"ray::{kind}"):
                found.append(process.pid)
    return found


@dataclass
class StubSweep:
    """A sweep named `stub` in a working folder, and the program that runs it.

    Attributes:
        folder: the working folder, with the tracking database.
        overrides: of the search space.
        stub: the stub runtime's attributes.
        uri: of the tracking store.
    """

    folder: Path
    overrides: tuple[str, ...] = ()
    stub: dict[str, Any] = field(default_factory=dict)
    uri: str | None = None

    def __post_init__(self) -> None:
        (self.folder / "stub.yaml").write_text(SEARCH_SPACE)

    @property
    def path(self) -> Path:
        return self.folder / "runs" / "stub"

    def run(self) -> "Driver":
        settings = [word for override in self.overrides for word in ("--set", override)]
        return self.driver("run", "stub.yaml", *settings)

    def resume(self) -> "Driver":
        return self.driver("resume", "stub")

    def driver(self, *arguments: str) -> "Driver":
        """Start the program, on the test's cluster."""
        return Driver(self, (*arguments, "--address", ray.get_runtime_context().gcs_address))

    def says(self, *arguments: str) -> str:
        """Return what a command that only reads prints."""
        command = [sys.executable, "-m", "sfd_sweep", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
        return os.environ | {
            "PYTHONPATH": path,
            "STUB": json.dumps(self.stub),
            "MLFLOW_TRACKING_URI": self.uri or f"sqlite:///{self.folder / 'mlflow.db'}",
        }

    def notes(self, what: str) -> list[dict[str, Any]]:
        """Return the stub runtime's log entries of that kind."""
        return [note for note in notes(Path(self.stub.get("notes", self.path))) if note["what"] == what]

    def trained(self) -> Counter[tuple[int, int]]:
        """Count how often each interval was trained to its end, by trial and last step."""
        return Counter((note["number"], note["to"]) for note in self.notes("trained"))

    def wait_for(self, trial: int, step: int) -> None:
        """Wait until the trial has been trained up to a step."""
        wait_until(lambda: (trial, step) in self.trained(), f"trial {trial} at step {step}")

    def study(self) -> list[Trial]:
        """Return the trials of the study; no driver may be running."""
        space = parse_search_space((self.path / "config.yaml").read_text(), "config.yaml")
        return SweepStudy(space, Folder.open(self.path)).trials()

    def record(self) -> SweepRecord:
        """Return the sweep from MLflow."""
        return read_sweep(self.environment()["MLFLOW_TRACKING_URI"], "stub")

    def runs(self) -> list[Run]:
        """Return the runs of its trials in MLflow, in any state."""
        store = Store.open(self.environment()["MLFLOW_TRACKING_URI"])
        (sweep,) = store.sweep_runs()
        return store.trial_runs(sweep)

    def points(self) -> Counter[tuple[str, str, int]]:
        """Count how often MLflow has each metric of each trial at each step."""
        client = MlflowClient(self.environment()["MLFLOW_TRACKING_URI"])
        return Counter(
            (run.data.tags["sfd.trial"], metric, point.step)
            for run in self.runs()
            for metric in run.data.metrics
            for point in client.get_metric_history(run.info.run_id, metric)
        )


class Driver:
    """A process of the program. Its output goes to files, so that it never waits for a reader."""

    def __init__(self, sweep: StubSweep, arguments: tuple[str, ...]) -> None:
        self._files = [sweep.folder / f"{arguments[0]}-{time.monotonic_ns()}.{stream}" for stream in ("out", "err")]
        with self._files[0].open("w") as out, self._files[1].open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "stub_program.py"), *arguments],
                cwd=sweep.folder,
                env=sweep.environment(),
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
            )

    @property
    def out(self) -> str:
        return self._files[0].read_text()

    @property
    def err(self) -> str:
        return self._files[1].read_text()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill it as a power failure would."""
        self.process.kill()
        self.process.wait()

    def end(self, seconds: float = PATIENCE) -> int:
        """Wait for its end, and return its exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the driver does not end:\n{self.out}\n{self.err}") from None
