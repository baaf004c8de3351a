"""The study's journal: Optuna's log lines in numbered segments, on a disk and on an object store alike.

Object stores cannot append, so each append becomes a file of its own: `00000042-00000044.jsonl` holds lines 42 to 44,
all or none of them. Sixty-four small segments are merged into one, sixty-four of these into a larger one, and so on:
a line is written a few times, however long the sweep, and opening reads a few dozen files. Concatenated in order, the
segments are what Optuna's own journal file would be.
"""

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from sfd_sweep.errors import SweepFailed, UserError
from sfd_sweep.storage.errors import describe, is_temporary
from sfd_sweep.storage.folder import Folder

MERGED = 64
"""Lines from which a segment is no longer small; each larger size has this many times as many."""

PATIENCE_SECONDS = 60.0
"""How long a write is repeated that the storage does not take; then the sweep stops."""

PAUSE_SECONDS = 2.0

REQUESTS = 8  # at a time

READS = 5
READ_PAUSE_SECONDS = 0.5
"""How often, and after which pauses, lines are read that a driver may be merging."""

REMEDY = "restore the file from a backup of the storage, or run the sweep again under another name"

Segment = range
"""Numbers of consecutive lines that are in one file."""


def has_lines(folder: Folder) -> bool:
    """Return whether a folder holds a journal with at least one line."""
    return bool(_segments(folder))


class Journal(BaseJournalBackend):
    """The lines of one study. Only one process at a time may open them to write, so they are read from storage once.

    Args:
        folder: holds the segments.
        may_write: called before every write; raises if another process may have taken the sweep over. None: the lines
            are read as they are now, and never written.

    Raises:
        UserError: lines are missing, or a file is damaged.
    """

    def __init__(self, folder: Folder, may_write: Callable[[], None] | None) -> None:
        self._folder = folder
        self._may_write = may_write
        self._batching = False
        self._failing_since: float | None = None
        found = self._find()
        if may_write and len(found) > 1:
            self._merge(found)

    def _find(self) -> list[Segment]:
        """Read the lines, once more while a driver merges segments meanwhile; return all segments."""
        for attempt in range(READS):
            found = _segments(self._folder)
            try:
                self._segments = _consecutive(found, self._folder)
                self._lines = self._read()
            except (FileNotFoundError, UserError):
                if self._may_write or attempt == READS - 1:
                    raise
                time.sleep(READ_PAUSE_SECONDS)
            else:
                return found
        raise AssertionError

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """Return the lines from a number on."""
        return [json.loads(line) for line in self._lines[log_number_from:]]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append lines.

        Raises:
            SweepFailed: the storage refuses them, or does not take them for `PATIENCE_SECONDS`.
        """
        self._lines += [json.dumps(log, separators=(",", ":")).encode() for log in logs]
        if not self._batching:
            self._write_new()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Write what the block appends as one segment when it ends, so that all of it survives or nothing.

        If the block raises, the lines are written with the next append.
        """
        self._batching = True
        try:
            yield
        finally:
            self._batching = False
        self._write_new()

    def _write_new(self) -> None:
        new = Segment(self._segments[-1].stop if self._segments else 0, len(self._lines))
        if not new:
            return
        self._put(new)
        self._segments.append(new)
        size = MERGED
        while small := self._last_smaller_than(size):
            self._merge(small)
            size *= MERGED

    def _last_smaller_than(self, size: int) -> list[Segment]:
        """Return the last segments smaller than a size, if together they are not."""
        small = list(takewhile(lambda segment: len(segment) < size, reversed(self._segments)))
        return small[::-1] if sum(map(len, small)) >= size else []

    def _merge(self, segments: Sequence[Segment]) -> None:
        """Replace several segments by one. A driver killed before the end leaves lines twice, never none."""
        merged = Segment(min(each.start for each in segments), max(each.stop for each in segments))
        if merged not in segments:
            self._put(merged)
        self._segments = [each for each in self._segments if each.stop <= merged.start] + [merged]
        with ThreadPoolExecutor(REQUESTS) as pool:
            list(pool.map(self._folder.remove, [_name(each) for each in segments if each != merged]))

    def _put(self, segment: Segment) -> None:
        content = b"".join(line + b"\n" for line in self._lines[segment.start : segment.stop])
        assert self._may_write is not None
        while True:
            self._may_write()
            try:
                self._folder.write(_name(segment), content)
            except OSError as error:
                self._pause_or_give_up(error)
            else:
                self._failing_since = None
                return

    def _pause_or_give_up(self, error: OSError) -> None:
        """Wait a little after a failed write, unless it is useless or the storage has failed for too long."""
        now = time.monotonic()
        self._failing_since = self._failing_since or now
        if is_temporary(error) and now - self._failing_since < PATIENCE_SECONDS:
            time.sleep(PAUSE_SECONDS)
            return
        name = self._folder.parent.name
        raise SweepFailed(
            f"the study of {name} cannot be written to {self._folder} ({describe(error)}); then "
            f"`sfd-sweep resume {name}` continues it"
        ) from error

    def _read(self) -> list[bytes]:
        names = [_name(segment) for segment in self._segments]
        with ThreadPoolExecutor(REQUESTS) as pool:
            contents = [content.splitlines() for content in pool.map(self._folder.read, names)]
        for segment, name, lines in zip(self._segments, names, contents, strict=True):
            if len(lines) != len(segment):
                raise UserError(f"{self._folder}/{name} has {len(lines)} lines, not {len(segment)}; {REMEDY}")
        return [line for lines in contents for line in lines]


def _name(segment: Segment) -> str:
    return f"{segment.start:08d}-{segment.stop - 1:08d}.jsonl"


def _segments(folder: Folder) -> list[Segment]:
    """Return the segments in a folder; half-written files of a killed driver are none."""
    matches = [re.fullmatch(r"(\d{8})-(\d{8})\.jsonl", name) for name in folder.names()]
    return [Segment(int(match[1]), int(match[2]) + 1) for match in matches if match]


def _consecutive(found: Sequence[Segment], folder: Folder) -> list[Segment]:
    """Return the segments that together hold every line once, in order, without those that were merged into others.

    Raises:
        UserError: lines are missing.
    """
    chosen: list[Segment] = []
    for segment in sorted(found, key=lambda each: (each.start, -each.stop)):
        end = chosen[-1].stop if chosen else 0
        if segment.stop <= end:
            continue
        if segment.start != end:
            raise UserError(f"{folder}: the study has no segment that continues at line {end}; {REMEDY}")
        chosen.append(segment)
    return chosen
