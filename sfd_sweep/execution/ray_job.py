"""A command on a cluster that is reached from outside, by Ray Client: handed over as a Ray job, and watched.

The driver belongs inside the cluster, and outlives the connection there: a job goes on when this process is gone.
"""

import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from sfd_sweep.config import SearchSpace
from sfd_sweep.errors import Interrupted, UserError
from sfd_sweep.execution.cluster import connected_from_outside, nodes, only_on
from sfd_sweep.execution.code_shipping import PACKAGE
from sfd_sweep.storage.credentials import without_credentials
from sfd_sweep.tracking.store import SQLITE

FILE = "sweep.yaml"
SECONDS_BETWEEN_LOOKS = 1.0
STOP_SECONDS = 120
"""How long a job may take to stop in order before Ray kills it."""


def for_elsewhere(space: SearchSpace) -> SearchSpace:
    """The search space with its places as they must be named elsewhere: a job's own folder is removed with the job.

    Its tracking server is this process's; credentials are left out, as the head has its own.

    Raises:
        UserError: storage or the tracking store would be lost; the message names the key.
    """
    if "://" not in space.storage and not Path(space.storage).is_absolute():
        raise UserError(
            f"storage: {space.storage} is relative, and there is no working folder on a cluster that is reached from "
            "outside; name a folder that all its machines mount, from the root on"
        )
    uri = space.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")
    if uri is None or uri.startswith(SQLITE):
        raise UserError(
            "tracking.uri: a database in a file would be lost on a cluster reached from outside; name a server, "
            "here or in MLFLOW_TRACKING_URI"
        )
    tracking = space.tracking.model_copy(update={"uri": without_credentials(uri)})
    return space.model_copy(update={"tracking": tracking})


@dataclass(frozen=True)
class Look:
    """What has become of a job.

    Attributes:
        said: what it has printed beyond what was known.
        exit_code: once it has ended; Ray's own failures count as 1.
    """

    said: str
    exit_code: int | None


def run_inside(address: str, arguments: Sequence[str], file: bytes, say: Callable[[str], None]) -> int:
    """Run a command of sfd-sweep as a job on the cluster's head, with this package's code.

    Args:
        address: of Ray Client, `ray://host:port`.
        arguments: of the command line; `FILE` stands for the file.
        file: its content.
        say: is given what the job prints.

    Returns:
        The job's exit code.

    Raises:
        UserError: there is no cluster at the address.
        Interrupted: Ctrl-C was pressed, and the job was asked to stop.
    """
    with connected_from_outside(address) as outside:
        if outside.sent:
            say(f"{outside.sent}\n")
        head = _Head(outside.dashboard)
        job = head.ask(submit, arguments, file, bool(outside.sent))
        said = 0
        try:
            while True:
                look: Look = head.ask(look_at, job, said)
                say(look.said)
                said += len(look.said)
                if look.exit_code is not None:
                    return look.exit_code
                time.sleep(SECONDS_BETWEEN_LOOKS)
        except KeyboardInterrupt as error:
            head.ask(stop, job)
            raise Interrupted(
                f"the job {job} was asked to stop; the same with `resume` goes on with the sweep"
            ) from error


class _Head:
    """The head's machine, where functions of this module are called.

    Args:
        dashboard: `host:port`, which only that machine may be able to reach.
    """

    def __init__(self, dashboard: str) -> None:
        self._dashboard = dashboard
        self._strategy = only_on(next(node for node in nodes() if node.is_head))

    def ask(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Call a function there, with the dashboard and these arguments."""
        remote = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=self._strategy)(function)
        return ray.get(remote.remote(self._dashboard, *arguments))


def submit(dashboard: str, arguments: Sequence[str], file: bytes, with_code: bool) -> str:
    """Start the job, in a folder of its own that holds the file; its id.

    Args:
        with_code: whether it is to have the code that is loaded here, and not what is installed.
    """
    folder = Path(tempfile.mkdtemp(prefix="sfd-sweep-"))
    (folder / FILE).write_bytes(file)
    command = shlex.join([sys.executable, "-m", "sfd_sweep", *arguments, "--address", "auto"])
    in_folder = f"cd {folder} && {command}; code=$?; rm -r {folder}; exit $code"
    environment: dict[str, Any] = {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}}
    if with_code:
        environment["py_modules"] = [str(PACKAGE)]
    return str(_jobs(dashboard).submit_job(entrypoint=in_folder, runtime_env=environment))


def look_at(dashboard: str, job: str, known: int) -> Look:
    """What the job has printed beyond so many characters, and its exit code if it has ended."""
    jobs = _jobs(dashboard)
    info = jobs.get_job_info(job)
    said = jobs.get_job_logs(job)[known:]
    if not info.status.is_terminal():
        return Look(said, None)
    return Look(said, 1 if info.driver_exit_code is None else info.driver_exit_code)


def stop(dashboard: str, job: str) -> None:
    """Ask the job to stop in order."""
    _jobs(dashboard).stop_job(job)


def _jobs(dashboard: str) -> Any:
    from ray.job_submission import JobSubmissionClient

    return JobSubmissionClient(f"http://{dashboard}")
