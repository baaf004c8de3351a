"""This package's code: what it is known by, and what is sent of it to machines that have another or none."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from sfd_sweep.errors import UserError

PACKAGE = Path(__file__).parent.parent
MEGABYTE = 1e6
MOST_MEGABYTES = 100.0
"""More is not sent, as it would go unseen; the package with the models that it ships is about 2 MB."""


def code_digest() -> str:
    """The first digits of the sources' hash: two checkouts of one version may differ."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(PACKAGE).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


def code_probe() -> Callable[[], str | None]:
    """A function that gives a machine's `code_digest`, or None where the package is missing or too old to know it; it
    travels with its own code."""

    def digest() -> str | None:
        try:
            from sfd_sweep.execution.code_shipping import code_digest
        except ImportError:
            return None
        return code_digest()

    return digest


def megabytes_to_send() -> float:
    """Size of the package.

    Raises:
        UserError: it is more than anyone would expect.
    """
    files = [path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    size = sum(path.stat().st_size for path in files) / MEGABYTE
    if size > MOST_MEGABYTES:
        raise UserError(
            f"{PACKAGE} holds {size:,.0f} MB, too much to send to the cluster; install the package there, or move what "
            "is no code elsewhere"
        )
    return size
