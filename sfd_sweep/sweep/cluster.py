"""The Ray cluster: started or joined quietly, and how many slots it has room for."""

import logging
import math
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import ray

from sfd_sweep.config import Resources
from sfd_sweep.errors import UserError

SWITCHES = {
    # How often Train looks at a slot's workers, so how soon it sees that they are up, dead or done; 2 s by default.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    # Each costs a process or seconds at the start of a slot, and nobody reads what it makes.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_ENABLE_STATE_ACTOR_RECONCILIATION": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Relative paths in the search-space file mean the driver's working folder.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Tune prints nothing, keeps no logs and no state of its own, and leaves Ctrl-C to the sweep.
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}
"""The driver's environment, read when a cluster, a Train run or a Tune run starts; what the user has set stays."""

ANSWER_SECONDS = 5.0


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Ray for the block: the cluster that this process has joined already, or else another, which is left at the end.

    Args:
        address: None or "local" for a cluster of this machine's own, "auto" for the one that it is part of, or the
            head's `host:port`.

    Raises:
        UserError: there is no cluster at the address, or it does not let this process in.
    """
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
    if ray.is_initialized():
        yield
        return
    logging.getLogger("ray").setLevel(logging.ERROR)
    if address not in (None, "local", "auto"):
        _check_answers(address)
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError) as error:
        raise _no_cluster(address, error) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Fail within seconds where Ray would try again for minutes."""
    if address.startswith("ray://"):
        raise UserError(
            f"address {address}: through Ray Client, Tune would run somewhere in the cluster and not here; run this "
            "command on a machine of the cluster with the address auto"
        )
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
    except (OSError, ValueError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str | None, error: Exception) -> UserError:
    return UserError(
        f"no Ray cluster to join at {address!r} ({error}): start one with `ray start --head`, set RAY_AUTH_MODE=token "
        "if it asks for a token, or leave the address out"
    )


@dataclass(frozen=True)
class Node:
    """What a machine of the cluster has in all, whether or not it is in use."""

    cpus: float
    gpus: float

    def room_for(self, resources: Resources) -> int:
        """How many of a sweep's workers it can hold."""
        room = [_quotient(self.cpus, resources.cpus_per_worker)]
        if resources.gpus_per_worker:
            room.append(_quotient(self.gpus, resources.gpus_per_worker))
        return min(room)


def nodes() -> list[Node]:
    """The machines of the cluster that are up."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Node(cpus=resources.get("CPU", 0.0), gpus=resources.get("GPU", 0.0)) for resources in alive]


def slot_count(resources: Resources, trials: int | None, cluster: Sequence[Node]) -> int:
    """How many slots the sweep gets: no more than it may have trials, if that is limited.

    Raises:
        UserError: a worker fits on no machine, or the cluster has no room for the slots.
    """
    room = sum(node.room_for(resources) for node in cluster)
    if room == 0:
        raise UserError(_too_large(resources, cluster))
    most = room // resources.workers_per_slot
    if most == 0:
        raise UserError(
            f"resources.workers_per_slot: a slot needs {resources.workers_per_slot} workers, but the cluster has room "
            f"for {room}; lower it, or what a worker takes"
        )
    if resources.slots != "auto" and resources.slots > most:
        raise UserError(
            f"resources.slots: {resources.slots} slots, but the cluster has room for {most}; write auto or lower it"
        )
    slots = most if resources.slots == "auto" else resources.slots
    return slots if trials is None else min(slots, trials)


def _too_large(resources: Resources, cluster: Sequence[Node]) -> str:
    most_gpus = max((node.gpus for node in cluster), default=0.0)
    if resources.gpus_per_worker > most_gpus:
        return (
            f"resources.gpus_per_worker: a worker needs {resources.gpus_per_worker:g} GPUs, but no machine of the "
            f"cluster has more than {most_gpus:g}; lower it, or go to another cluster"
        )
    most_cpus = max((node.cpus for node in cluster if node.gpus >= resources.gpus_per_worker), default=0.0)
    return (
        f"resources.cpus_per_worker: a worker needs {resources.cpus_per_worker:g} CPUs, but no machine of the cluster "
        f"has more than {most_cpus:g}{' beside its GPUs' if resources.gpus_per_worker else ''}; lower it"
    )


def _quotient(whole: float, part: float) -> int:
    """How often the part fits, with room for what binary fractions lack (0.1 fits into 0.3 three times)."""
    return math.floor(whole / part + 1e-9)
