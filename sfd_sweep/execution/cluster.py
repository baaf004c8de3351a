"""The Ray cluster: start or join it quietly, send it this package, call functions on its nodes, and count slots."""

import hashlib
import logging
import math
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sfd_sweep.config import Resources
from sfd_sweep.errors import UserError

SWITCHES = {
    # How often Train polls a slot's workers, so how soon it sees that they are up, dead or done; 2 s by default.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    # Each costs a process or seconds at the start of a slot, and nobody reads what it makes.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_ENABLE_STATE_ACTOR_RECONCILIATION": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Relative paths in the search-space file start from the driver's working folder.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Tune prints nothing, keeps no logs and no state of its own, and leaves Ctrl-C to the sweep.
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}
"""Environment of the driver, read when a cluster, a Train run or a Tune run starts; the user's own values win."""

PACKAGE = Path(__file__).parent.parent
MEGABYTE = 1e6
MOST_MEGABYTES = 100.0
"""More is not sent to a cluster without the user's knowledge; the package with its models is about 2 MB."""

CLIENT = "ray://"
CONNECT_SECONDS = 5.0
PROBE_SECONDS = 120.0  # within which a node must answer


@contextmanager
def connected(address: str | None) -> Iterator[str | None]:
    """Connect to Ray for the block: to the cluster that this process has joined already, or else to another.

    Nodes of another cluster whose code of this package differs from this process's, or is missing, are sent this.

    Args:
        address: None or "local" starts a cluster on this machine, "auto" joins the one that it is part of, and
            `host:port` the one with that head.

    Yields:
        What was sent, in words; None if nothing was.

    Raises:
        UserError: there is no cluster at the address, or it refuses this process.
    """
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
    if ray.is_initialized():
        yield None
        return
    if address and is_outside(address):
        raise UserError(
            f"address {address}: Ray Client connects from outside the cluster, and this command runs inside; run it on "
            "a machine of the cluster with the address auto, or as a job: `ray job submit --address http://HEAD:8265 "
            "--working-dir . -- sfd-sweep … --address auto`"
        )
    join(address or "local")
    try:
        yield send_code(address) if address and is_shared(address) else None
    finally:
        ray.shutdown()


def is_outside(address: str) -> bool:
    """Return whether the address connects from outside the cluster, by Ray Client."""
    return address.startswith(CLIENT)


def is_shared(address: str | None) -> bool:
    """Return whether others started the cluster: it may have other code, and machines may join it."""
    return address not in (None, "local")


def join(address: str, **runtime_environment: object) -> Any:
    """Join a cluster, and return Ray's context.

    Raises:
        UserError: see `connected`.
    """
    logging.getLogger("ray").setLevel(logging.ERROR)
    if address not in ("local", "auto"):
        _check_reachable(address)
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


def _check_reachable(address: str) -> None:
    """Fail within seconds where Ray would retry for minutes."""
    host, _, port = address.removeprefix(CLIENT).rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: Exception) -> UserError:
    return UserError(
        f"no Ray cluster to join at {address!r} ({error}): start one with `ray start --head`, set RAY_AUTH_MODE=token "
        "if it asks for a token, or leave the address out"
    )


def send_code(address: str) -> str | None:
    """Join the cluster again with this package, if any node has other code; return what was sent, in words."""
    digest, cluster = code_digest(), nodes()
    others = sum(found != digest for _, found in on_every(cluster, code_probe()))
    if not others:
        return None
    size = _megabytes_to_send()
    ray.shutdown()
    join(address, py_modules=[str(PACKAGE)])
    return (
        f"sent {PACKAGE} ({size:.1f} MB, code {digest}) to the cluster: {others} of its {len(cluster)} machines had "
        "other code or none"
    )


def code_digest() -> str:
    """Return the first digits of the sources' hash: two checkouts of one version may differ."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(PACKAGE).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


def code_probe() -> Callable[[], str | None]:
    """Return a function that gives a node's `code_digest`, or None where the package is missing or older than it.

    The function is nested, so that it travels with its own code.
    """

    def digest() -> str | None:
        try:
            from sfd_sweep.execution.cluster import code_digest
        except ImportError:
            return None
        return code_digest()

    return digest


def _megabytes_to_send() -> float:
    """Return the package's size.

    Raises:
        UserError: it is unexpectedly large.
    """
    files = [path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    size = sum(path.stat().st_size for path in files) / MEGABYTE
    if size > MOST_MEGABYTES:
        raise UserError(
            f"{PACKAGE} holds {size:,.0f} MB, too much to send to the cluster; install the package there, or move "
            "other files out of it"
        )
    return size


@dataclass(frozen=True)
class Node:
    """The total resources of a machine of the cluster, in use or not.

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
        """What tables call it."""
        return f"{self.address} ({'head' if self.is_head else self.id[:6]})"

    def workers(self, resources: Resources) -> int:
        """Return how many of a sweep's workers fit."""
        fit = _times(self.cpus, resources.cpus_per_worker)
        return min(fit, _times(self.gpus, resources.gpus_per_worker)) if resources.gpus_per_worker else fit


def _times(whole: float, part: float) -> int:
    """Return how often the part fits, allowing for rounding (0.1 fits into 0.3 three times)."""
    return math.floor(whole / part + 1e-9)


def nodes() -> list[Node]:
    """Return the nodes of the cluster that are alive."""
    return [
        Node(
            cpus=found["Resources"].get("CPU", 0.0),
            gpus=found["Resources"].get("GPU", 0.0),
            id=found["NodeID"],
            address=found["NodeManagerAddress"],
            is_head="node:__internal_head__" in found["Resources"],
        )
        for found in ray.nodes()
        if found["Alive"]
    ]


def only_on(node: Node) -> NodeAffinitySchedulingStrategy:
    """Return the strategy that schedules on a node or not at all."""
    return NodeAffinitySchedulingStrategy(node_id=node.id, soft=False)


def on_every(cluster: Sequence[Node], task: Callable[..., Any], *arguments: object) -> list[tuple[Node, Any]]:
    """Call a function on all nodes at once, without taking a CPU that Ray counts.

    Args:
        task: a nested function travels with its code; any other must be importable there.

    Returns:
        Each node with what the function returned or raised; TimeoutError after `PROBE_SECONDS`.
    """
    remote = ray.remote(num_cpus=0, max_retries=0)(task)
    calls = [remote.options(scheduling_strategy=only_on(node)).remote(*arguments) for node in cluster]
    done, _ = ray.wait(calls, num_returns=len(calls), timeout=PROBE_SECONDS)
    late = TimeoutError(f"no answer within {PROBE_SECONDS:g} s")
    return [(node, _outcome(call) if call in done else late) for node, call in zip(cluster, calls, strict=True)]


def _outcome(call: Any) -> Any:
    try:
        return ray.get(call)
    except RayTaskError as error:
        return error.cause
    except RayError as error:
        return error


def slot_count(resources: Resources, trials: int | None, cluster: Sequence[Node], *, grows: bool = False) -> int:
    """Return how many slots the sweep gets: at most one for each trial that it may have.

    Args:
        grows: whether machines may join the cluster, as with an autoscaler. A number of slots in the file is then
            not checked: slots without room wait for machines. `auto` always means what there is room for now.

    Raises:
        UserError: a worker fits on no node, or the cluster has no room for the slots.
    """
    slots = resources.slots if grows and resources.slots != "auto" else _checked_slots(resources, cluster)
    return slots if trials is None else min(slots, trials)


def room_for(resources: Resources, cluster: Sequence[Node]) -> int:
    """Return how many slots the nodes have room for."""
    return sum(node.workers(resources) for node in cluster) // resources.workers_per_slot


def waits_for_machines(resources: Resources, slots: int, cluster: Sequence[Node]) -> str | None:
    """Return that slots wait for machines to join the cluster, in words; None if it has room for all of them now."""
    room = room_for(resources, cluster)
    if slots <= room:
        return None
    if not any(node.workers(resources) for node in cluster):
        return f"no slot can start before another machine joins the cluster. {_too_large(resources, cluster)}"
    return f"the cluster has room for {room} of {slots} slots now; the others wait for machines to join it"


def _checked_slots(resources: Resources, cluster: Sequence[Node]) -> int:
    room, workers = room_for(resources, cluster), sum(node.workers(resources) for node in cluster)
    if workers == 0:
        raise UserError(_too_large(resources, cluster))
    if room == 0:
        raise UserError(
            f"resources.workers_per_slot: a slot needs {resources.workers_per_slot} workers, but the cluster has room "
            f"for {workers}; lower it, or what a worker takes"
        )
    if resources.slots == "auto":
        return room
    if resources.slots > room:
        raise UserError(
            f"resources.slots: {resources.slots} slots, but the cluster has room for {room}; write auto or lower it"
        )
    return resources.slots


def _too_large(resources: Resources, cluster: Sequence[Node]) -> str:
    most_gpus = max((node.gpus for node in cluster), default=0.0)
    if resources.gpus_per_worker > most_gpus:
        return (
            f"resources.gpus_per_worker: a worker needs {resources.gpus_per_worker:g} GPUs, but no machine of the "
            f"cluster has more than {most_gpus:g}; lower it, or use another cluster"
        )
    most_cpus = max((node.cpus for node in cluster if node.gpus >= resources.gpus_per_worker), default=0.0)
    return (
        f"resources.cpus_per_worker: a worker needs {resources.cpus_per_worker:g} CPUs, but no machine of the cluster "
        f"has more than {most_cpus:g}{' beside its GPUs' if resources.gpus_per_worker else ''}; lower it"
    )
