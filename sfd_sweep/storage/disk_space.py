"""A full disk: known as such, and in words."""

import errno

from sfd_sweep.errors import SweepFailed
from sfd_sweep.storage.folder import Folder

_FULL = (errno.ENOSPC, errno.EDQUOT)


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that caused it, says that there is no space left, or none for this user."""
    while error and not (isinstance(error, OSError) and error.errno in _FULL):
        error = error.__cause__
    return error is not None


def out_of_space(sweep: Folder) -> SweepFailed:
    """What a sweep ends with then.

    Args:
        sweep: its folder.
    """
    return SweepFailed(
        f"no space is left on the disk of {sweep.path}: free some, and `sfd-sweep resume {sweep.name}` goes on; "
        "nothing that was finished is lost"
    )
