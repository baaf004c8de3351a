"""Storage errors in words: what the file system refused, and what the user can do about it."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from sfd_sweep.errors import SweepFailed, UserError, first_line

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

S3_ERRORS = {
    "NO_SUCH_BUCKET": "there is no such bucket; create it, or use another",
    "NETWORK_CONNECTION": "it does not answer; check the endpoint (endpoint_override, or AWS_ENDPOINT_URL) and the "
    "network",
    "INVALID_ACCESS_KEY_ID": "the access key is unknown; check AWS_ACCESS_KEY_ID, the profile or the role",
    "SIGNATURE_DOES_NOT_MATCH": "the secret key does not match the access key; check AWS_SECRET_ACCESS_KEY",
    "ACCESS_DENIED": "access is denied; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role that may "
    "list, read, write and delete there",
}
"""By the names that pyarrow puts into its messages."""


LASTING = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError)


def is_temporary(error: OSError) -> bool:
    """Return whether a file system may accept the same request a little later; a full disk rarely does."""
    refused = any(f"AWS Error {name}" in str(error) for name in S3_ERRORS if name != "NETWORK_CONNECTION")
    return not (refused or isinstance(error, LASTING) or error.errno in (*DISK_FULL, errno.EROFS))


@contextmanager
def storage_errors(folder: object) -> Iterator[None]:
    """Turn errors of a folder's file system into a `UserError` that says what to do."""
    try:
        yield
    except OSError as error:
        raise UserError(f"storage: {folder} cannot be used: {describe(error)}") from error


def describe(error: Exception) -> str:
    """Return one line: why a file system refused, and what to do."""
    text = str(error)
    for name, meaning in S3_ERRORS.items():
        if f"AWS Error {name}" in text:
            return meaning
    return first_line(error)


def disk_full(error: BaseException | None, *, path: str, sweep: str) -> SweepFailed | None:
    """Return what the sweep ends with if the error, or one of its causes, reports a full disk or an exceeded quota."""
    while error and not (isinstance(error, OSError) and error.errno in DISK_FULL):
        error = error.__cause__
    if error is None:
        return None
    return SweepFailed(
        f"no space is left on the disk of {path}: free some, then `sfd-sweep resume {sweep}` continues; "
        "nothing that was finished is lost"
    )
