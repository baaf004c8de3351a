"""The Ray cluster: started or joined quietly, and how many slots it has room for."""

import logging
import math
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sfd_sweep.config import Resources
from sfd_sweep.errors import UserError
from sfd_sweep.execution.code_shipping import PACKAGE, code_digest, code_probe, megabytes_to_send

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

CLIENT = "ray://"
ANSWER_SECONDS = 5.0
PATIENCE_SECONDS = 120.0  # with a machine that is asked something


@contextmanager
def connected(address: str | None) -> Iterator[str | None]:
    """Ray for the block: the cluster that this process has joined already, or else another, which is left at the end.

    Machines of another cluster that have other code of this package than this process, or none, are sent this.

    Args:
        address: None or "local" for a cluster of this machine's own, "auto" for the one that it is part of, or the
            head's `host:port`.

    Yields:
        What was sent, in words; None if nothing was.

    Raises:
        UserError: there is no cluster at the address, or it does not let this process in.
    """
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
    if ray.is_initialized():
        yield None
        return
    if address and is_outside(address):
        raise UserError(
            f"address {address}: Ray Client is outside of the cluster, and this belongs inside; run it on a machine of "
            "the cluster with the address auto, or hand it over as a job: `ray job submit --address http://HEAD:8265 "
            "--working-dir . -- sfd-sweep … --address auto`"
        )
    try:
        _join(address or "local")
        yield _send_code(address) if address and is_shared(address) else None
    finally:
        ray.shutdown()


@dataclass(frozen=True)
class Outside:
    """A connection by Ray Client.

    Attributes:
        dashboard: its `host:port`, as the head's machine sees it.
        sent: what was sent to the cluster, in words; None if nothing was.
    """

    dashboard: str
    sent: str | None


@contextmanager
def connected_from_outside(address: str) -> Iterator[Outside]:
    """Ray Client for the block, so that tasks may be sent into the cluster; they have this package's code there.

    Args:
        address: `ray://host:port`.

    Raises:
        UserError: there is no cluster at the address, or it does not let this process in.
    """
    try:
        context = _join(address)
        yield Outside(str(context.dashboard_url), _send_code(address))
    finally:
        ray.shutdown()


def is_outside(address: str) -> bool:
    """Whether the address is one at which a cluster is reached from outside."""
    return address.startswith(CLIENT)


def is_shared(address: str | None) -> bool:
    """Whether there is a cluster of others at the address: it may have other code, and machines may join it."""
    return address not in (None, "local")


def _join(address: str, **runtime_environment: object) -> Any:
    """Join a cluster; Ray's context."""
    logging.getLogger("ray").setLevel(logging.ERROR)
    if address not in ("local", "auto"):
        _check_answers(address)
    try:
        return ray.init(
            address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=runtime_environment or None
        )
    except (ConnectionError, ValueError) as error:
        raise _no_cluster(address, error) from error
    except RuntimeError as error:
        if "version" not in str(error).lower():
            raise
        raise UserError(
            f"the Ray cluster at {address!r} runs other versions than this process: {' '.join(str(error).split())} "
            "Install the same Ray and Python on both."
        ) from error


def _send_code(address: str) -> str | None:
    """Join the cluster once more, with this package, if it is not the same everywhere."""
    digest, cluster = code_digest(), nodes()
    others = sum(found != digest for found in on_every(cluster, code_probe()))
    if not others:
        return None
    size = megabytes_to_send()
    ray.shutdown()
    _join(address, py_modules=[str(PACKAGE)])
    return (
        f"sent {PACKAGE} ({size:.1f} MB, code {digest}) to the cluster: {others} of its {len(cluster)} machines had "
        "other code or none"
    )


def _check_answers(address: str) -> None:
    """Fail within seconds where Ray would try again for minutes."""
    host, _, port = address.removeprefix(CLIENT).rpartition(":")
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
    """What a machine of the cluster has in all, whether or not it is in use.

    Attributes:
        id: Ray's, in hexadecimal digits.
        address: of its raylet; several on one host share it.
        is_head: whether the cluster's head runs there.
    """

    cpus: float
    gpus: float
    id: str = ""
    address: str = ""
    is_head: bool = False

    @property
    def name(self) -> str:
        """What it is called in words."""
        return f"{self.address} ({'head' if self.is_head else self.id[:6]})"

    def room_for(self, resources: Resources) -> int:
        """How many of a sweep's workers it can hold."""
        room = [_quotient(self.cpus, resources.cpus_per_worker)]
        if resources.gpus_per_worker:
            room.append(_quotient(self.gpus, resources.gpus_per_worker))
        return min(room)


def nodes() -> list[Node]:
    """The machines of the cluster that are up."""
    return [_node(found["Resources"], found) for found in ray.nodes() if found["Alive"]]


def _node(resources: dict[str, float], found: dict[str, Any]) -> Node:
    return Node(
        cpus=resources.get("CPU", 0.0),
        gpus=resources.get("GPU", 0.0),
        id=found["NodeID"],
        address=found["NodeManagerAddress"],
        is_head="node:__internal_head__" in resources,
    )


def on_every(cluster: Sequence[Node], task: Callable[..., Any], *arguments: object) -> list[Any]:
    """Call a function once on each machine, on all at the same time, and on no CPU that Ray counts.

    Args:
        task: a nested function travels with its code; any other must be importable there.

    Returns:
        For each machine what the function returned, or the exception that it raised; a TimeoutError, if there was no
        answer within `PATIENCE_SECONDS`.
    """
    remote = ray.remote(num_cpus=0, max_retries=0)(task)
    asked = [remote.options(scheduling_strategy=only_on(node)).remote(*arguments) for node in cluster]
    answered, _ = ray.wait(asked, num_returns=len(asked), timeout=PATIENCE_SECONDS)
    return [_outcome(reference) if reference in answered else _silent() for reference in asked]


def only_on(node: Node) -> NodeAffinitySchedulingStrategy:
    """Have something run on a machine, or not at all."""
    return NodeAffinitySchedulingStrategy(node_id=node.id, soft=False)


def _outcome(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except RayTaskError as error:
        return error.cause
    except RayError as error:
        return error


def _silent() -> TimeoutError:
    return TimeoutError(f"no answer within {PATIENCE_SECONDS:g} s")


def slot_count(resources: Resources, trials: int | None, cluster: Sequence[Node], *, grows: bool = False) -> int:
    """How many slots the sweep gets: no more than it may have trials, if that is limited.

    Args:
        cluster: its machines.
        grows: whether machines may join it, as with an autoscaler: a number of slots in the file is then taken at its
            word, and slots without room wait for it. `auto` is always what there is room for now.

    Raises:
        UserError: a worker fits on no machine, or the cluster has no room for the slots.
    """
    if grows and resources.slots != "auto":
        return _at_most(trials, resources.slots)
    workers = _workers_in(resources, cluster)
    if workers == 0:
        raise UserError(_too_large(resources, cluster))
    most = room_for(resources, cluster)
    if most == 0:
        raise UserError(
            f"resources.workers_per_slot: a slot needs {resources.workers_per_slot} workers, but the cluster has room "
            f"for {workers}; lower it, or what a worker takes"
        )
    if resources.slots != "auto" and resources.slots > most:
        raise UserError(
            f"resources.slots: {resources.slots} slots, but the cluster has room for {most}; write auto or lower it"
        )
    return _at_most(trials, most if resources.slots == "auto" else resources.slots)


def _at_most(trials: int | None, slots: int) -> int:
    return slots if trials is None else min(slots, trials)


def room_for(resources: Resources, cluster: Sequence[Node]) -> int:
    """How many slots the machines have room for."""
    return _workers_in(resources, cluster) // resources.workers_per_slot


def _workers_in(resources: Resources, cluster: Sequence[Node]) -> int:
    return sum(node.room_for(resources) for node in cluster)


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
