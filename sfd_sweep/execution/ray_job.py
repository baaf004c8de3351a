"""Sweeps on a cluster that is reached from outside, by Ray Client: submitted as a Ray job, and watched.

The job's driver runs on the head, so the sweep continues when this process or its connection ends. Ray's job client is
used on the head too, since only that machine may be able to reach the dashboard.
"""

import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from sfd_sweep.config import SearchSpace
from sfd_sweep.config.loading import dump_search_space
from sfd_sweep.errors import Interrupted, UserError
from sfd_sweep.execution.cluster import PACKAGE, join, nodes, only_on, send_code
from sfd_sweep.storage.credentials import without_credentials
from sfd_sweep.tracking.store import SQLITE

POLL_SECONDS = 1.0
STOP_SECONDS = 120
"""How long a job may take to stop in order before Ray kills it."""


def run_as_job(space: SearchSpace, address: str, say: Callable[[str], None]) -> int:
    """Run a sweep as a job on the cluster's head, with this package's code.

    Args:
        address: of Ray Client, `ray://host:port`.
        say: receives what the job prints.

    Returns:
        The job's exit code.

    Raises:
        UserError: there is no cluster at the address, or storage or tracking cannot be used from there.
        Interrupted: Ctrl-C was pressed, and the job was asked to stop.
    """
    file = dump_search_space(_for_job(space)).encode()
    dashboard = join(address).dashboard_url
    try:
        sent = send_code(address)
        say(f"{sent}\n" if sent else "")
        (head,) = [node for node in nodes() if node.is_head]
        jobs = ray.remote(num_cpus=0, scheduling_strategy=only_on(head))(_Jobs).remote(dashboard)
        job = ray.get(jobs.submit.remote(file, with_code=bool(sent)))
        try:
            return _watch(jobs, job, say)
        except KeyboardInterrupt as error:
            ray.get(jobs.stop.remote(job))
            raise Interrupted(f"the job {job} was asked to stop; `resume` continues the sweep") from error
    finally:
        ray.shutdown()


def _watch(jobs: Any, job: str, say: Callable[[str], None]) -> int:
    """Pass on what a job prints until it ends; return its exit code."""
    printed = 0
    while True:
        text, exit_code = ray.get(jobs.poll.remote(job, printed))
        say(text)
        printed += len(text)
        if exit_code is not None:
            return int(exit_code)
        time.sleep(POLL_SECONDS)


class _Jobs:
    """Ray's job client, as an actor on the head.

    Args:
        dashboard: `host:port`.
    """

    def __init__(self, dashboard: str) -> None:
        from ray.job_submission import JobSubmissionClient

        self._client = JobSubmissionClient(f"http://{dashboard}")

    def submit(self, file: bytes, *, with_code: bool) -> str:
        """Start a sweep from a search-space file, in a temporary folder; return the job's id.

        Args:
            with_code: whether the job gets the code that is loaded here instead of what is installed.
        """
        folder = Path(tempfile.mkdtemp(prefix="sfd-sweep-"))
        (folder / "sweep.yaml").write_bytes(file)
        command = shlex.join([sys.executable, "-m", "sfd_sweep", "run", "sweep.yaml", "--address", "auto"])
        environment: dict[str, Any] = {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}}
        if with_code:
            environment["py_modules"] = [str(PACKAGE)]
        entrypoint = f"cd {folder} && {command}; code=$?; rm -r {folder}; exit $code"
        return str(self._client.submit_job(entrypoint=entrypoint, runtime_env=environment))

    def poll(self, job: str, known: int) -> tuple[str, int | None]:
        """Return what the job has printed beyond so many characters, and its exit code once it has ended."""
        info = self._client.get_job_info(job)
        text = self._client.get_job_logs(job)[known:]
        if not info.status.is_terminal():
            return text, None
        return text, 1 if info.driver_exit_code is None else info.driver_exit_code  # None: Ray itself failed

    def stop(self, job: str) -> None:
        """Ask the job to stop in order."""
        self._client.stop_job(job)


def _for_job(space: SearchSpace) -> SearchSpace:
    """Return the search space as a job needs it: with the tracking server of this process, and without credentials,
    as the head has its own.

    Raises:
        UserError: storage or the tracking store would be lost with the job's folder; the message names the key.
    """
    if "://" not in space.storage and not Path(space.storage).is_absolute():
        raise UserError(
            f"storage: {space.storage} is relative, and a job has no lasting working folder on the cluster; give the "
            "absolute path of a folder that all its machines mount"
        )
    uri = space.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")
    if uri is None or uri.startswith(SQLITE):
        raise UserError(
            "tracking.uri: a database in a file would be lost on a cluster reached from outside; name a server, "
            "here or in MLFLOW_TRACKING_URI"
        )
    tracking = space.tracking.model_copy(update={"uri": without_credentials(uri)})
    return space.model_copy(update={"tracking": tracking})
