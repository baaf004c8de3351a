"""One driver per sweep: a file lock on a local disk, a lease on an object store."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from sfd_sweep.errors import UserError
from sfd_sweep.storage.folder import Folder
from sfd_sweep.storage.lease import LeaseCheck, is_leased, leased

LOCK = "driver.lock"
PROBE_SECONDS = 0.1  # within which `is_abandoned` gets a lock that nobody holds for long


@contextmanager
def one_driver(sweep: Folder) -> Iterator[LeaseCheck]:
    """Hold a sweep, wherever its folder is.

    Yields:
        A function that raises `SweepFailed` once another driver may have taken the sweep over.

    Raises:
        UserError: the folder cannot be written, or another process holds it; the message names that process.
    """
    if sweep.is_local:
        with locked(Path(sweep.path), option="storage"):
            yield lambda: None
    else:
        with leased(sweep / LOCK) as check:
            yield check


@contextmanager
def locked(folder: Path, *, option: str) -> Iterator[None]:
    """Hold a local folder, and create it if needed. The kernel frees the lock when the process dies.

    Args:
        folder: need not exist.
        option: by which the user has named it, for messages.

    Raises:
        UserError: the folder cannot be written, or another process holds it; the message names that process.
    """
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = FileLock(path).acquire(timeout=2 * PROBE_SECONDS)
    except Timeout as error:
        raise UserError(_held(folder, path.read_text())) from error
    except OSError as error:
        raise UserError(f"{option}: {folder} cannot be written ({error.strerror}); use another folder") from error
    with held:
        path.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        yield


def is_abandoned(folder: Path) -> bool:
    """Return whether a driver of this machine has held the folder and nobody does now.

    What a process of another machine does cannot be told from here.
    """
    path = folder / LOCK
    try:
        holder = json.loads(path.read_text() or "{}")
        with FileLock(path, timeout=PROBE_SECONDS):
            return bool(holder.get("host") == socket.gethostname())
    except OSError:  # filelock's Timeout included
        return False


def is_held(sweep: Folder) -> bool:
    """Return whether a process runs a sweep, wherever its folder is."""
    if not sweep.is_local:
        return is_leased(sweep / LOCK)
    path = Path(sweep.path) / LOCK
    try:
        if path.exists():
            with FileLock(path, timeout=PROBE_SECONDS):
                pass
    except Timeout:
        return True
    return False


def _held(folder: Path, content: str) -> str:
    holder = json.loads(content or "{}")  # empty until the holder has written it
    who = f"process {holder['pid']} on {holder['host']}" if holder else "another process"
    return f"{folder.name} is being run by {who}; wait for it, or stop it there with Ctrl-C"
