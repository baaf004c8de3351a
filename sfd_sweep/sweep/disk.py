"""A full disk: known as such, and in words."""

import errno

from sfd_sweep.errors import SweepFailed
from sfd_sweep.storage import Folder

_FULL = (errno.ENOSPC, errno.EDQUOT)


def is_full(error: BaseException) -> bool:
    """Whether an error says that there is no space left, or none for this user."""
    return isinstance(error, OSError) and error.errno in _FULL


def out_of_space(sweep: Folder) -> SweepFailed:
    """What a sweep ends with then.

    Args:
        sweep: its folder.
    """
    return SweepFailed(
        f"no space is left on the disk of {sweep.path}: free some, and `sfd-sweep resume {sweep.name}` goes on; "
        "nothing that was finished is lost"
    )
