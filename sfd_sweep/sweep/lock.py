"""One driver a sweep: a lock on a file in its folder, which the kernel takes back when its process dies."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from sfd_sweep.errors import UserError

LOCK = "driver.lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a sweep's folder, which is made if it is not there.

    Raises:
        UserError: the folder cannot be written, or another process holds it; the message names it.
    """
    with _open(folder) as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            raise UserError(_held(folder, stream.read())) from error
        stream.truncate(0)
        json.dump({"pid": os.getpid(), "host": socket.gethostname()}, stream)
        stream.flush()
        yield


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
