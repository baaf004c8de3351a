"""Errors that a user can correct; every other exception is a defect and keeps its traceback."""


class UserError(Exception):
    """Invalid input, or a request that cannot be met.

    The message is one line: what is wrong, where, and what to do. The command line prints it and exits with
    `exit_code`.
    """

    exit_code = 2


class SweepFailed(UserError):
    """A valid sweep started and could not finish."""

    exit_code = 1


class ClaimFailed(UserError):
    """A generator's folder is not what it says that it is."""

    exit_code = 1


class Interrupted(UserError):
    """The user stopped a sweep; the message says how to resume it."""

    exit_code = 130


class TrialFailed(Exception):
    """A trial ended without a usable result, for example because it diverged; the sweep continues."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its type if it has no message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
