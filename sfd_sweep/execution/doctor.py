"""Whether a cluster is ready for a long run, looked at from inside it, on every machine."""

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
from sfd_sweep.tracking.store import SQLITE, Store, answers_strangers, resolve_uri
from sfd_sweep.trial.resolve import resolve_sweep

CLIENT_PORT = 10001
"""Where `ray start --head` serves Ray Client, unless it is told otherwise."""


class CheckStatus(StrEnum):
    """What a check has come to."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True)
class Finding:
    """What one check has found in one place.

    Attributes:
        check: what was looked at.
        place: a machine's name, or "cluster", or "here" for the driver's process.
        verdict: a fault would end the sweep or spoil it; a warning would not.
        text: what was found and, unless it is ok, what to do.
    """

    check: str
    place: str
    verdict: CheckStatus
    text: str


def examine(space: SearchSpace | None, address: str | None) -> list[Finding]:
    """Look at a cluster, and at what a sweep would need of it.

    Args:
        space: the sweep's search space; None looks at the cluster alone.
        address: see `cluster.connected`.

    Returns:
        The findings of every check, in order.

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
    return Finding("machines", "cluster", CheckStatus.OK, f"{len(cluster)} with {cpus:g} CPUs and {gpus:g} GPUs in all")


def _code(sent: str | None) -> Iterator[Finding]:
    if sent:
        text = f"{sent}, and a sweep does the same; install it there to spare the sending"
        yield Finding("code", "cluster", CheckStatus.WARNING, text)


def _versions(cluster: Sequence[Node]) -> Iterator[Finding]:
    """Whether every machine has what the driver has."""
    here = probes.versions_probe()()
    for node, found in zip(cluster, on_every(cluster, probes.versions_probe()), strict=True):
        if isinstance(found, Exception):
            yield _fault("versions", node, f"{reason_of(found)}; look at Ray's log there")
            continue
        other = [f"{name} is {found[name]}, here {version}" for name, version in here.items() if found[name] != version]
        if other:
            yield _fault("versions", node, f"{'; '.join(other)}; install the same there, from the same constraints")
        else:
            yield _ok("versions", node, ", ".join(f"{name} {version}" for name, version in found.items()))


def _gpus(cluster: Sequence[Node]) -> Iterator[Finding]:
    """Whether torch computes on as many GPUs as Ray gives out."""
    having = [node for node in cluster if node.gpus]
    for node, found in zip(having, on_every(having, probes.usable_gpus), strict=True):
        if isinstance(found, Exception):
            yield _fault(
                "GPUs", node, f"torch cannot compute on them: {reason_of(found)}; mind driver and CUDA version"
            )
        elif len(found) < node.gpus:
            yield _fault(
                "GPUs",
                node,
                f"Ray gives out {node.gpus:g}, but torch finds {len(found)}; start Ray there with --num-gpus "
                f"{len(found)}, or mend the driver",
            )
        else:
            yield _ok("GPUs", node, ", ".join(found))


def _ports(cluster: Sequence[Node]) -> Iterator[Finding]:
    """Whether strangers are kept out of what would let them run code; asked on the head, where the ports are."""
    head = [node for node in cluster if node.is_head]
    (dashboard,) = on_every(head, probes.dashboard_answers, ray._private.worker.get_dashboard_url())
    (client,) = on_every(head, probes.client_port_answers, CLIENT_PORT)
    remedy = "start Ray with RAY_AUTH_MODE=token on every machine (see cluster/README.md)"
    if isinstance(dashboard, Exception):
        yield _fault(
            "dashboard", head[0], f"{reason_of(dashboard)}; Ray cleans up after lost workers through it, let it run"
        )
    elif dashboard:
        yield _warning("dashboard", head[0], f"it obeys whoever reaches it, without a token; {remedy}")
    else:
        yield _ok("dashboard", head[0], "asks for a token")
    if client is True:
        yield _warning("Ray Client", head[0], f"port {CLIENT_PORT} obeys without a token; {remedy}")
    else:
        yield _ok("Ray Client", head[0], f"port {CLIENT_PORT} does not obey without a token")


def _room(space: SearchSpace, cluster: Sequence[Node], *, grows: bool) -> Finding:
    try:
        slots = slot_count(space.resources, space.budget.trials, cluster, grows=grows)
    except UserError as error:
        return Finding("resources", "cluster", CheckStatus.FAULT, str(error))
    room = room_for(space.resources, cluster)
    if slots > room:
        text = f"room for {room} of {slots} slots now; the others would wait for machines to join"
        return Finding("resources", "cluster", CheckStatus.WARNING, text)
    return Finding("resources", "cluster", CheckStatus.OK, f"{slots} trial{'s' * (slots != 1)} at a time")


def _models(space: SearchSpace, cluster: Sequence[Node]) -> Iterator[Finding]:
    """Whether teacher, judge and real images are found here and where slots may run."""
    try:
        resolve_sweep(space)
    except UserError as error:
        yield Finding("models", "here", CheckStatus.FAULT, str(error))
        return
    fit = [node for node in cluster if node.room_for(space.resources)]
    for node, found in zip(fit, on_every(fit, probes.find_models, space, Path.cwd()), strict=True):
        if isinstance(found, UserError):
            yield _fault("models", node, f"{found}; a path must be a folder that every machine mounts")
        elif found is not None:
            yield _fault("models", node, reason_of(found))
        else:
            yield _ok("models", node, "teacher, judge and reference are found")


def _storage(space: SearchSpace, cluster: Sequence[Node]) -> Iterator[Finding]:
    """Whether storage is one and the same place for the driver and all machines."""
    try:
        with _word_in(Folder.open(space.storage)) as (folder, word):
            yield from _shared(folder, word, cluster)
    except (OSError, UserError) as error:
        where = without_credentials(space.storage)
        yield Finding("storage", "here", CheckStatus.FAULT, f"{where} cannot be written: {error}; name another")


@contextmanager
def _word_in(storage: Folder) -> Iterator[tuple[Folder, bytes]]:
    """A folder in the storage with a random word of the driver's; nothing is left of it."""
    folder, word = storage / f".doctor-{secrets.token_hex(8)}", secrets.token_bytes(16)
    is_new = storage.is_local and not Path(storage.path).exists()
    try:
        folder.write(probes.DRIVERS_WORD, word)
        yield folder, word
    finally:
        folder.delete()
        if is_new:
            with suppress(OSError):
                Path(storage.path).rmdir()


def _shared(folder: Folder, word: bytes, cluster: Sequence[Node]) -> Iterator[Finding]:
    for node, seen in zip(cluster, on_every(cluster, probes.share, folder, word), strict=True):
        if isinstance(seen, Exception):
            yield _fault("storage", node, f"{reason_of(seen)}; let it be written there")
        elif not seen or not folder.has(node.id) or folder.read(node.id) != word:
            yield _fault(
                "storage",
                node,
                "it is another folder there than here; name one that all machines mount at the same path",
            )
        else:
            yield _ok("storage", node, "written, read and removed; the driver reads what is written there")


def _tracking(space: SearchSpace) -> Finding:
    """Whether MLflow answers here: the driver alone writes it."""
    uri = resolve_uri(space.tracking.uri)
    place = without_credentials(uri)
    if uri.startswith(SQLITE):
        return Finding("tracking", "here", CheckStatus.OK, f"{place}; only commands on this machine can read it")
    try:
        Store.open(uri)
    except UserError as error:
        return Finding("tracking", "here", CheckStatus.FAULT, str(error))
    if answers_strangers(uri):
        remedy = "start it with --app-name basic-auth (see cluster/README.md)"
        return Finding("tracking", "here", CheckStatus.WARNING, f"{place} obeys without a password; {remedy}")
    return Finding("tracking", "here", CheckStatus.OK, f"{place} answers")


def _ok(check: str, node: Node, text: str) -> Finding:
    return Finding(check, node.name, CheckStatus.OK, text)


def _warning(check: str, node: Node, text: str) -> Finding:
    return Finding(check, node.name, CheckStatus.WARNING, text)


def _fault(check: str, node: Node, text: str) -> Finding:
    return Finding(check, node.name, CheckStatus.FAULT, text)
