"""Checks of a cluster before a long run, made from inside it and on every node."""

import functools
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import ray

from sfd_sweep.config import SearchSpace
from sfd_sweep.errors import UserError
from sfd_sweep.execution import probes
from sfd_sweep.execution.cluster import Node, connected, is_shared, nodes, on_every, room_for, slot_count
from sfd_sweep.execution.worker import reason_of
from sfd_sweep.storage.credentials import without_credentials
from sfd_sweep.storage.folder import Folder
from sfd_sweep.tracking.store import SQLITE, Store, accepts_unauthenticated, resolve_uri
from sfd_sweep.trial.resolve import resolve_sweep

CLIENT_PORT = 10001
"""Where `ray start --head` serves Ray Client by default."""


class CheckStatus(StrEnum):
    """The result of a check: a fault would end the sweep or spoil it, a warning would not."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True)
class Finding:
    """What one check has found in one place.

    Attributes:
        place: a node's name, "cluster", or "here" for the driver's process.
        text: what was found and, unless it is ok, what to do.
    """

    status: CheckStatus
    check: str
    place: str
    text: str


ok = functools.partial(Finding, CheckStatus.OK)
warning = functools.partial(Finding, CheckStatus.WARNING)
fault = functools.partial(Finding, CheckStatus.FAULT)


def examine(space: SearchSpace | None, address: str | None) -> list[Finding]:
    """Check a cluster, and what a sweep would need of it.

    Args:
        space: the sweep's search space; None checks the cluster alone.
        address: see `cluster.connected`.

    Raises:
        UserError: there is no cluster at the address.
    """
    with connected(address) as sent:
        cluster = nodes()
        findings = [_size(cluster), *_code(sent), *_versions(cluster), *_gpus(cluster), *_ports(cluster)]
        if space is not None:
            findings += [_room(space, cluster, grows=is_shared(address)), *_models(space, cluster)]
            findings += [*_storage(space, cluster), _tracking(space)]
        return findings


def _size(cluster: Sequence[Node]) -> Finding:
    cpus, gpus = sum(node.cpus for node in cluster), sum(node.gpus for node in cluster)
    return ok("machines", "cluster", f"{len(cluster)} with {cpus:g} CPUs and {gpus:g} GPUs in all")


def _code(sent: str | None) -> Iterator[Finding]:
    if sent:
        yield warning("code", "cluster", f"{sent}, and a sweep does the same; install it there to avoid that")


def _versions(cluster: Sequence[Node]) -> Iterator[Finding]:
    """Compare every node's packages with the driver's."""
    here = probes.versions_probe()()
    for node, found in on_every(cluster, probes.versions_probe()):
        if isinstance(found, Exception):
            yield fault("versions", node.name, f"{reason_of(found)}; see Ray's log there")
            continue
        other = [f"{name} is {found[name]}, here {version}" for name, version in here.items() if found[name] != version]
        if other:
            text = f"{'; '.join(other)}; install the same there, from the same constraints"
            yield fault("versions", node.name, text)
        else:
            yield ok("versions", node.name, ", ".join(f"{name} {version}" for name, version in found.items()))


def _gpus(cluster: Sequence[Node]) -> Iterator[Finding]:
    """Check that torch computes on as many GPUs as Ray offers."""
    for node, found in on_every([node for node in cluster if node.gpus], probes.usable_gpus):
        if isinstance(found, Exception):
            text = f"torch cannot compute on them: {reason_of(found)}; check driver and CUDA version"
            yield fault("GPUs", node.name, text)
        elif len(found) < node.gpus:
            text = (
                f"Ray offers {node.gpus:g}, but torch finds {len(found)}; start Ray there with --num-gpus {len(found)}"
            )
            yield fault("GPUs", node.name, f"{text}, or repair the driver")
        else:
            yield ok("GPUs", node.name, ", ".join(found))


def _ports(cluster: Sequence[Node]) -> Iterator[Finding]:
    """Check, on the head, that the ports which run code ask for a token."""
    (head,) = [node for node in cluster if node.is_head]
    ((_, dashboard),) = on_every([head], probes.dashboard_is_open, ray._private.worker.get_dashboard_url())
    ((_, client),) = on_every([head], probes.client_port_is_open, CLIENT_PORT)
    remedy = "start Ray with RAY_AUTH_MODE=token on every machine (see cluster/README.md)"
    if isinstance(dashboard, Exception):
        text = f"{reason_of(dashboard)}; start it, as Ray cleans up after lost workers through it"
        yield fault("dashboard", head.name, text)
    elif dashboard:
        yield warning("dashboard", head.name, f"it accepts requests without a token; {remedy}")
    else:
        yield ok("dashboard", head.name, "asks for a token")
    if isinstance(client, Exception):
        text = f"it is unknown whether port {CLIENT_PORT} asks for a token: {reason_of(client)}; check it by hand"
        yield warning("Ray Client", head.name, text)
    elif client:
        yield warning("Ray Client", head.name, f"port {CLIENT_PORT} accepts requests without a token; {remedy}")
    else:
        yield ok("Ray Client", head.name, f"port {CLIENT_PORT} accepts no requests without a token")


def _room(space: SearchSpace, cluster: Sequence[Node], *, grows: bool) -> Finding:
    try:
        slots = slot_count(space.resources, space.budget.trials, cluster, grows=grows)
    except UserError as error:
        return fault("resources", "cluster", str(error))
    room = room_for(space.resources, cluster)
    if slots > room:
        text = f"room for {room} of {slots} slots now; the others would wait for machines to join"
        return warning("resources", "cluster", text)
    return ok("resources", "cluster", f"{slots} trial{'s' * (slots != 1)} at a time")


def _models(space: SearchSpace, cluster: Sequence[Node]) -> Iterator[Finding]:
    """Check that teacher, classifier and real images are found here and where slots may run."""
    try:
        resolve_sweep(space)
    except UserError as error:
        yield fault("models", "here", str(error))
        return
    fit = [node for node in cluster if node.workers(space.resources)]
    for node, found in on_every(fit, probes.find_models, space, Path.cwd()):
        if isinstance(found, UserError):
            yield fault("models", node.name, f"{found}; a path must be a folder that every machine mounts")
        elif found is not None:
            yield fault("models", node.name, reason_of(found))
        else:
            yield ok("models", node.name, "teacher, classifier and reference images are found")


def _storage(space: SearchSpace, cluster: Sequence[Node]) -> Iterator[Finding]:
    """Check that storage is the same place for the driver and all nodes."""
    try:
        with _shared_token(Folder.open(space.storage)) as (folder, token):
            for node, seen in on_every(cluster, probes.share, folder, token):
                if isinstance(seen, Exception):
                    yield fault("storage", node.name, f"{reason_of(seen)}; allow writing there")
                elif not seen or not folder.has(node.id) or folder.read(node.id) != token:
                    text = "it is another folder there than here; name one that all machines mount at the same path"
                    yield fault("storage", node.name, text)
                else:
                    yield ok("storage", node.name, "written, read and removed; the driver reads what is written there")
    except (OSError, UserError) as error:
        where = without_credentials(space.storage)
        yield fault("storage", "here", f"{where} cannot be written: {error}; name another")


@contextmanager
def _shared_token(storage: Folder) -> Iterator[tuple[Folder, bytes]]:
    """Yield a folder in the storage that holds a random token, and the token; remove all of it at the end."""
    folder, token = storage / f".doctor-{secrets.token_hex(8)}", secrets.token_bytes(16)
    is_new = storage.is_local and not Path(storage.path).exists()
    try:
        folder.write(probes.DRIVER_FILE, token)
        yield folder, token
    finally:
        folder.delete()
        if is_new:
            with suppress(OSError):
                Path(storage.path).rmdir()


def _tracking(space: SearchSpace) -> Finding:
    """Check that MLflow answers here: the driver alone writes to it."""
    uri = resolve_uri(space.tracking.uri)
    place = without_credentials(uri)
    if uri.startswith(SQLITE):
        return ok("tracking", "here", f"{place}; only commands on this machine can read it")
    try:
        Store.open(uri)
    except UserError as error:
        return fault("tracking", "here", str(error))
    if accepts_unauthenticated(uri):
        remedy = "start it with --app-name basic-auth (see cluster/README.md)"
        return warning("tracking", "here", f"{place} accepts requests without a password; {remedy}")
    return ok("tracking", "here", f"{place} answers")
