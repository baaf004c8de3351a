"""Replacing a folder at once: two folders trade their names in one step of the file system."""

import ctypes
import errno
import os
import sys
from pathlib import Path

AT_FDCWD = -100
RENAME_EXCHANGE = 2
"""Flag of Linux's renameat2 (man 2 renameat2)."""
UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


def replace_folder(new: Path, target: Path, old: Path) -> None:
    """Give a new folder the name of an existing one, which gets the name `old`.

    On Linux's own file systems the names are exchanged in one step, so that a process which is killed at any moment
    leaves the old or the new folder at `target`. Elsewhere (network file systems, other systems) it takes two renames,
    and a process that is killed between them leaves the old folder at `old`.

    Args:
        new: complete, on the same file system as the target.
        target: exists.
        old: does not exist.
    """
    if _exchanged(new, target):
        new.rename(old)
        return
    target.rename(old)
    try:
        new.rename(target)
    except OSError:
        old.rename(target)
        raise


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange the names of two folders; return False where the system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    if rename is None:
        return False
    if rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), str(other))
