"""A folder that appears complete under its name, or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sfd_sweep.errors import UserError
from sfd_sweep.storage.exchange import replace_folder


@contextmanager
def appearing_complete(target: Path) -> Iterator[Path]:
    """Yield a new folder beside the target that replaces it when the block succeeds, and is deleted when it fails.

    Raises:
        UserError: nothing can be written beside the target.
    """
    try:
        scratch = tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-")
    except OSError as error:
        raise UserError(f"cannot write into {target.parent} ({error.strerror}); choose another folder") from error
    with scratch:
        new, old = Path(scratch.name) / "new", Path(scratch.name) / "old"
        new.mkdir()
        yield new
        if target.exists():
            replace_folder(new, target, old)
        else:
            new.rename(target)


@contextmanager
def changed_at_once(folder: Path) -> Iterator[Path]:
    """Yield a copy of a folder in which files may be added, removed or replaced; it replaces the folder as a whole.

    Unchanged files are shared by hard links where the file system has them, so weights are not copied. A file must be
    replaced, not written into.

    Raises:
        UserError: nothing can be written beside the folder.
    """
    folder = folder.resolve()
    with appearing_complete(folder) as new:
        shutil.copytree(folder, new, copy_function=_link, dirs_exist_ok=True)
        yield new


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
