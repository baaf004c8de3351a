"""One process a folder: a lock on a file in it, which the kernel takes back when its process dies.

Object stores have no such locks; there a sweep's driver takes a lease.
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from sfd_sweep.errors import UserError
from sfd_sweep.storage.folder import Folder
from sfd_sweep.storage.lease import Check, leased

LOCK = "driver.lock"


@contextmanager
def one_driver(sweep: Folder) -> Iterator[Check]:
    """Hold a sweep, wherever its folder is.

    Yields:
        What raises SweepFailed if the sweep may be another driver's by now.

    Raises:
        UserError: the folder cannot be written, or another process holds it; the message names it.
    """
    if sweep.is_local:
        with locked(Path(sweep.path)):
            yield lambda: None
    else:
        with leased(sweep / LOCK) as check:
            yield check


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a local folder, which is made if it is not there.

    Raises:
        UserError: the folder cannot be written, or another process holds it; the message names it.
    """
    with _open(folder) as stream:
        try:
            _take(stream)
        except BlockingIOError as error:
            stream.seek(0)
            raise UserError(_held(folder, stream.read())) from error
        stream.truncate(0)
        json.dump({"pid": os.getpid(), "host": socket.gethostname()}, stream)
        stream.flush()
        yield


def is_abandoned(folder: Path) -> bool:
    """Whether a driver of this machine has had a sweep's folder, and nobody has it now.

    What another machine's process does cannot be told for sure from here.
    """
    try:
        with (folder / LOCK).open(encoding="utf-8") as stream:
            content = stream.read()
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)  # for the moment that it takes to close it
    except OSError:
        return False
    return bool(content) and bool(json.loads(content)["host"] == socket.gethostname())


def _take(stream: TextIO) -> None:
    """Take the lock, also if somebody looks just now whether it is free."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(0.1)
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _open(folder: Path) -> TextIO:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise UserError(f"storage: {folder} cannot be written ({error.strerror}); name another folder") from error


def _held(folder: Path, content: str) -> str:
    if not content:  # the other has it, but has not yet said who it is
        return f"{folder.name} is being run by another process; wait for it, or stop it with Ctrl-C"
    holder = json.loads(content)
    return (
        f"{folder.name} is being run by process {holder['pid']} on {holder['host']}; wait for it, or stop it there "
        "with Ctrl-C"
    )
