"""The output of a sweep's workers: a file for each worker of a trial, and one for each worker that starts a slot."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.files import TRIALS, trial_folder

LOGS = "logs"
"""Folder of the files in that of a trial, or of the sweep."""


def trial_logs(sweep: Folder, number: int) -> Folder:
    """Return the folder of the output of a trial; a negative number means work for no trial."""
    return (sweep if number < 0 else trial_folder(sweep, number)) / LOGS


@dataclass
class LogReader:
    """Reads output as it grows.

    Attributes:
        sweep: the sweep's folder.
        trial: number of the only trial to read; None: everything.
    """

    sweep: Folder
    trial: int | None = None
    _seen: dict[str, tuple[tuple[int, int] | None, int]] = field(default_factory=dict)

    def new(self) -> Iterator[tuple[str, str]]:
        """Yield what was written since the last call: titles of files, and text."""
        for folder, name, title in self._files():
            modified = folder.version(name)
            before, size = self._seen.get(title, (None, 0))
            if modified == before:
                continue
            with suppress(FileNotFoundError):
                content = folder.read(name)
                self._seen[title] = modified, len(content)
                if len(content) > size:
                    yield title, content[size:].decode(errors="replace")

    def _files(self) -> Iterator[tuple[Folder, str, str]]:
        """Yield folders, names of files in them, and titles."""
        if self.trial is None:
            for name in (self.sweep / LOGS).names():
                yield self.sweep / LOGS, name, name.removesuffix(".log").replace("-", " ")
        for number in self._trials():
            folder = trial_logs(self.sweep, number)
            for name in folder.names():
                yield folder, name, f"trial {number} {name.removesuffix('.log').replace('-', ' ')}"

    def _trials(self) -> list[int]:
        if self.trial is not None:
            return [self.trial]
        return [int(name) for name in (self.sweep / TRIALS).names() if name.isdecimal()]
