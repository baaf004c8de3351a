"""The errors that a user can do something about.

Every other exception is a defect and keeps its traceback.
"""


class UserError(Exception):
    """Something the user asked for cannot be done.

    The message is one line that says what is wrong, where, and what to do. The command line prints it alone and
    leaves with `exit_code`.
    """

    exit_code = 2


class SweepFailed(UserError):
    """The request was valid and was started, but the sweep could not finish (exit code 1)."""

    exit_code = 1


class Interrupted(UserError):
    """The user stopped a running sweep; what is finished is kept, and the message says how to go on."""

    exit_code = 130


class TrialFailed(Exception):
    """A trial ended without a usable result (it diverged, say); the sweep goes on. The message is its reason."""
