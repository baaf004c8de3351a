"""Output of this process in a file of a folder, on a disk and on an object store alike."""

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from sfd_sweep.storage.folder import Folder

UPLOAD_SECONDS = 5.0
"""Between two uploads of a file that grows, to an object store."""

DESCRIPTORS = (1, 2)


@contextmanager
def output_to(folder: Folder, name: str) -> Iterator[None]:
    """Append what this process writes to stdout and stderr to a file, also what libraries and the interpreter write.

    A folder that cannot be written changes nothing: output is worth no failure.
    """
    with ExitStack() as stack:
        with suppress(OSError):
            target = stack.enter_context(_local_file(folder, name))
            stack.enter_context(_redirected(target))
        yield


@contextmanager
def _local_file(folder: Folder, name: str) -> Iterator[int]:
    """Yield the descriptor of a file to append to: the one in the folder, or a copy that is uploaded as it grows."""
    if folder.is_local:
        path = Path(folder.path)
        path.mkdir(parents=True, exist_ok=True)
        with (path / name).open("ab", buffering=0) as file:
            yield file.fileno()
        return
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / name
        copy.write_bytes(folder.read(name) if folder.has(name) else b"")
        with copy.open("ab", buffering=0) as file, _uploaded(copy, folder):
            yield file.fileno()


@contextmanager
def _uploaded(copy: Path, folder: Folder) -> Iterator[None]:
    """Upload a file every few seconds while it grows, and at the end of the block."""
    ended = threading.Event()

    def upload(size: int) -> None:
        is_last = False
        while not is_last:
            is_last = ended.wait(UPLOAD_SECONDS)
            if copy.stat().st_size != size:
                with suppress(OSError):
                    size = copy.stat().st_size
                    folder.write(copy.name, copy.read_bytes())

    thread = threading.Thread(target=upload, args=(copy.stat().st_size,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _redirected(target: int) -> Iterator[None]:
    _flush()
    before = {descriptor: os.dup(descriptor) for descriptor in DESCRIPTORS}
    try:
        for descriptor in DESCRIPTORS:
            os.dup2(target, descriptor)
        yield
    finally:
        with suppress(OSError):  # the disk is full
            _flush()
        for descriptor, copy in before.items():
            os.dup2(copy, descriptor)
            os.close(copy)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
