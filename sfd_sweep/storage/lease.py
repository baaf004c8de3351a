"""One driver a sweep where no kernel keeps a lock: leases in the sweep's folder on an object store.

pyarrow has no conditional put, so a driver puts a lease of its own and *then* lists them all, which stores do
consistently: of two that begin at once at least the later one sees the other, and gives way. Both may, but never both
go on. A lease is renewed every few seconds; one that has not been for two minutes, by the store's clock, is dead, and
so is one whose process is gone from this machine. A driver that could not renew its own for a minute writes nothing
more to the study. What remains: a write that was under way for another minute when its driver lost the lease may still
arrive, beside those of the driver that has taken over.
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

from sfd_sweep.errors import SweepFailed, UserError
from sfd_sweep.storage.folder import Folder

RENEWAL_SECONDS = 15.0
GIVING_UP_SECONDS = 60.0
"""A driver whose lease is as old as that, by its own clock, does not write any more."""

DEAD_SECONDS = 120.0
"""A lease as old as that, by the store's clock, is taken over."""

Check = Callable[[], None]
"""Raises SweepFailed if the lease may be another driver's by now."""


@contextmanager
def leased(leases: Folder) -> Iterator[Check]:
    """Hold a sweep, whose leases are in this folder.

    Raises:
        UserError: another process holds it; the message names it.
    """
    lease = _Lease(leases)
    ended = threading.Event()
    thread = threading.Thread(target=lease.keep, args=(ended,), daemon=True)
    try:
        lease.take()
        thread.start()
        yield lease.check
    finally:
        ended.set()
        if thread.is_alive():
            thread.join()
        with suppress(OSError):  # then it is dead in two minutes
            lease.give_back()


class _Lease:
    """This process's lease."""

    def __init__(self, leases: Folder) -> None:
        self._leases = leases
        self._name = f"{uuid.uuid4().hex}.json"
        self._content = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "machine": _machine()}).encode()
        self._renewed = 0.0

    def take(self) -> None:
        """Put the lease, and see whether another one lives; if none does, remove the dead.

        Raises:
            UserError: one does.
        """
        self._renew()
        others = [name for name in self._leases.names() if name != self._name]
        for other in others:
            if holder := self._living(other):
                raise UserError(self._held(holder, other))
        for other in others:
            self._leases.remove(other)

    def keep(self, ended: threading.Event) -> None:
        """Renew the lease until the end, or until it may be another driver's."""
        while not ended.wait(RENEWAL_SECONDS) and not self._is_lost():
            with suppress(OSError):  # the next time may be in time
                self._renew()

    def check(self) -> None:
        """Whether this process may still write.

        Raises:
            SweepFailed: it may not.
        """
        if self._is_lost():
            name = self._leases.parent.name
            raise SweepFailed(
                f"the lease of {name} could not be renewed for {GIVING_UP_SECONDS:g} s, so another driver may have it "
                f"by now; `sfd-sweep resume {name}` goes on with it"
            )

    def give_back(self) -> None:
        """Remove it."""
        self._leases.remove(self._name)

    def _renew(self) -> None:
        before = time.time()
        self._leases.write(self._name, self._content)
        self._renewed = before

    def _is_lost(self) -> bool:
        return time.time() - self._renewed > GIVING_UP_SECONDS

    def _age(self, other: str) -> float | None:
        """Seconds between the last renewals of another lease and of this one, by the store's clock."""
        here, there = self._leases.modified(self._name), self._leases.modified(other)
        return None if here is None or there is None else (here - there) / 1e9

    def _living(self, other: str) -> dict[str, object] | None:
        """Who holds another lease, if it is not dead and has not just been given back."""
        age = self._age(other)
        if age is None or age > DEAD_SECONDS:
            return None
        try:
            holder: dict[str, object] = json.loads(self._leases.read(other))
        except OSError:  # which also comes of a file that vanishes while it is read
            if self._leases.has(other):
                raise
            return None
        is_here = holder["machine"] is not None and holder["machine"] == _machine()
        return None if is_here and not Path(f"/proc/{holder['pid']}").exists() else holder

    def _held(self, holder: dict[str, object], other: str) -> str:
        age = max(0.0, self._age(other) or 0.0)
        return (
            f"{self._leases.parent.name} is being run by process {holder['pid']} on {holder['host']}, heard of "
            f"{age:.0f} s ago; wait for it, or stop it there with Ctrl-C; if it is gone, its lease ends in "
            f"{max(1.0, DEAD_SECONDS - age):.0f} s"
        )


def _machine() -> str | None:
    """This machine since it was started, and this container on it; None where the kernel does not tell."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None
