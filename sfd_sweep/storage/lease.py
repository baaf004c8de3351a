"""Leases in a folder on an object store, which has no file locks.

pyarrow has no conditional put, so a driver puts its own lease and *then* lists all of them, which stores do
consistently: of two that start at once, at least the later sees the other and gives way. Both may give way; never do
both continue. A lease is renewed every few seconds. It is dead when it has not been renewed for two minutes by the
store's clock, or when its process is gone from this machine. A driver that could not renew its lease for a minute
writes nothing more to the study. One risk remains: a write that was in flight for another minute when its driver lost
the lease may still arrive beside those of the next driver.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sfd_sweep.errors import SweepFailed, UserError
from sfd_sweep.storage.folder import Folder

RENEWAL_SECONDS = 15.0
RETRY_SECONDS = 2.0
"""After a failed renewal."""

EXPIRY_SECONDS = 60.0
"""A driver whose lease is this old by its own clock stops writing."""

DEAD_SECONDS = 120.0
"""A lease that is this old by the store's clock is taken over."""

LeaseCheck = Callable[[], None]
"""Raises `SweepFailed` if another driver may hold the lease by now."""


@contextmanager
def leased(leases: Folder) -> Iterator[LeaseCheck]:
    """Hold the sweep whose leases are in this folder.

    Raises:
        UserError: another process holds it; the message names that process.
    """
    lease, ended = _Lease(leases), threading.Event()
    thread = threading.Thread(target=lease.renew_until, args=(ended,), daemon=True)
    try:
        lease.take()
        thread.start()
        yield lease.check
    finally:
        ended.set()
        if thread.is_alive():
            thread.join()
        with suppress(OSError):  # then it is dead in two minutes
            lease.release()


def is_leased(leases: Folder) -> bool:
    """Return whether a process holds the sweep whose leases are in this folder, by this machine's clock."""
    for name in leases.names():
        modified = leases.modified(name)
        if modified is not None and time.time() - modified / 1e9 < DEAD_SECONDS and _reads_alive(leases, name):
            return True
    return False


def _reads_alive(leases: Folder, name: str) -> bool:
    """Return whether the holder of a lease may live; one of this machine is known to be dead without its process."""
    try:
        holder = json.loads(leases.read(name))
    except OSError:  # it has just been released
        return False
    return not _is_dead_here(holder)


def _is_dead_here(holder: dict[str, Any]) -> bool:
    is_here = holder["machine"] is not None and holder["machine"] == _machine()
    return is_here and not Path(f"/proc/{holder['pid']}").exists()


class _Lease:
    """This process's lease."""

    def __init__(self, leases: Folder) -> None:
        self._leases = leases
        self._name = f"{uuid.uuid4().hex}.json"
        self._content = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "machine": _machine()}).encode()
        self._renewed = 0.0

    def take(self) -> None:
        """Put the lease, and remove those of dead drivers.

        Raises:
            UserError: another driver's lease is alive.
        """
        self._renew()
        others = [name for name in self._leases.names() if name != self._name]
        for other in others:
            if holder := self._live_holder(other):
                raise UserError(self._held(holder, other))
        for other in others:
            self._leases.remove(other)

    def renew_until(self, ended: threading.Event) -> None:
        """Renew the lease until the event, or until it has expired."""
        pause = RENEWAL_SECONDS
        while not ended.wait(pause) and not self._has_expired():
            try:
                self._renew()
                pause = RENEWAL_SECONDS
            except OSError:  # the next attempt may be in time
                pause = RETRY_SECONDS

    def check(self) -> None:
        """Raise `SweepFailed` if this process must not write any more."""
        if self._has_expired():
            name = self._leases.parent.name
            raise SweepFailed(
                f"the lease of {name} could not be renewed for {EXPIRY_SECONDS:g} s, so another driver may hold it by "
                f"now; `sfd-sweep resume {name}` continues the sweep"
            )

    def release(self) -> None:
        """Remove the lease."""
        self._leases.remove(self._name)

    def _renew(self) -> None:
        started = time.time()
        self._leases.write(self._name, self._content)
        self._renewed = started

    def _has_expired(self) -> bool:
        return time.time() - self._renewed > EXPIRY_SECONDS

    def _age(self, other: str) -> float | None:
        """Return the seconds between the last renewals of another lease and this one, by the store's clock."""
        here, there = self._leases.modified(self._name), self._leases.modified(other)
        return None if here is None or there is None else (here - there) / 1e9

    def _live_holder(self, other: str) -> dict[str, Any] | None:
        """Return who holds another lease, unless it is dead or has just been released."""
        age = self._age(other)
        if age is None or age > DEAD_SECONDS:
            return None
        try:
            holder: dict[str, Any] = json.loads(self._leases.read(other))
        except OSError:  # pyarrow also raises it for a file that vanishes while it is read
            if self._leases.has(other):
                raise
            return None
        return None if _is_dead_here(holder) else holder

    def _held(self, holder: dict[str, Any], other: str) -> str:
        age = max(0.0, self._age(other) or 0.0)
        return (
            f"{self._leases.parent.name} is being run by process {holder['pid']} on {holder['host']}, last renewed "
            f"{age:.0f} s ago; wait for it, or stop it there with Ctrl-C; if it is gone, its lease ends in "
            f"{max(1.0, DEAD_SECONDS - age):.0f} s"
        )


def _machine() -> str | None:
    """Return an id of this machine's boot and this container; None where the kernel does not tell."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None
