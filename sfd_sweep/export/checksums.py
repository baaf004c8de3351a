"""Content hashes of a folder's files, in the format of `sha256sum`."""

import hashlib
from pathlib import Path

from sfd_sweep.errors import UserError

CHECKSUMS = "SHA256SUMS"


def write_checksums(folder: Path) -> None:
    """Note the hash of every file in the folder; `sha256sum --check SHA256SUMS` understands it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CHECKSUMS)
    lines = [f"{sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def check_checksums(folder: Path) -> None:
    """Hold every file that was noted against its hash.

    Raises:
        UserError: a file is missing or was changed, or the hashes are.
    """
    path = folder / CHECKSUMS
    if not path.is_file():
        raise UserError(f"{path} is missing, so nothing tells whether the folder is whole; export it again")
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        expected, separator, name = line.partition("  ")
        if not separator:
            raise UserError(f"{path} has a line that is no hash and file name ({line[:60]!r}); export the folder again")
        if not (folder / name).is_file():
            raise UserError(f"{folder / name} is missing; export the folder again")
        if sha256(folder / name) != expected:
            raise UserError(f"{folder / name} has changed since it was exported (SHA-256 differs); export it again")


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
