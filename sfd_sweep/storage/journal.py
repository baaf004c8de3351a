"""The study's journal: Optuna's lines in numbered segments, on a disk and on an object store alike.

Object stores know no appending, so what is appended becomes a file of its own, `00000042-00000044.jsonl` with the lines
42 to 44, which is there whole or not at all. Sixty-four small segments are merged into one, sixty-four of these into a
larger one, and so on: a line is written a handful of times, however long the sweep, and opening reads some dozen files.
The segments in order are what Optuna's own journal file would be.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from sfd_sweep.errors import SweepFailed, UserError
from sfd_sweep.storage.folder import Folder, why_refused

MERGED = 64
"""Lines of a segment that is no longer small; segments of the next size have so many times as many."""

REQUESTS = 8  # at a time


@dataclass(frozen=True)
class _Segment:
    """Some consecutive lines: from `first` to before `end`."""

    first: int
    end: int

    @classmethod
    def named(cls, name: str) -> "_Segment | None":
        """The segment of a file; None for what is none, such as a half-written file of a killed driver."""
        found = re.fullmatch(r"(\d{8})-(\d{8})\.jsonl", name)
        return cls(int(found[1]), int(found[2]) + 1) if found else None

    @property
    def name(self) -> str:
        return f"{self.first:08d}-{self.end - 1:08d}.jsonl"

    def __len__(self) -> int:
        return self.end - self.first


def has_lines(folder: Folder) -> bool:
    """Whether a folder holds a journal with any line; half-written files are none."""
    return any(_Segment.named(name) for name in folder.names())


class Journal(BaseJournalBackend):
    """The lines of one study. Only one process at a time may have them open, so they are read from storage once.

    Args:
        folder: where the segments are, or will be.
        may_write: called before every write; raises if this process has lost the sweep to another.

    Raises:
        UserError: lines are missing, or there are different ones of the same number.
    """

    def __init__(self, folder: Folder, may_write: Callable[[], None]) -> None:
        self._folder = folder
        self._may_write = may_write
        self._held_back = False
        found = [segment for name in folder.names() if (segment := _Segment.named(name))]
        self._segments = _consecutive(found, folder)
        self._lines = self._read()
        if len(found) > 1:
            self._merge(found)

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """The lines from a number on."""
        return [json.loads(line) for line in self._lines[log_number_from:]]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write lines down.

        Raises:
            SweepFailed: the storage refuses.
        """
        self._lines += [json.dumps(log, separators=(",", ":")).encode() for log in logs]
        if not self._held_back:
            self._write_new()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Write what is appended in the block when it ends, as one segment: all of it survives, or nothing.

        If the block raises, that waits for the next append.
        """
        self._held_back = True
        try:
            yield
        finally:
            self._held_back = False
        self._write_new()

    def _write_new(self) -> None:
        new = _Segment(self._segments[-1].end if self._segments else 0, len(self._lines))
        if not new:
            return
        self._put(new)
        self._segments.append(new)
        size = MERGED
        while small := self._last_below(size):
            self._merge(small)
            size *= MERGED

    def _last_below(self, size: int) -> list[_Segment]:
        """The last segments that are smaller than a size, if together they are not."""
        small = list(takewhile(lambda segment: len(segment) < size, reversed(self._segments)))
        return small[::-1] if sum(map(len, small)) >= size else []

    def _merge(self, segments: Sequence[_Segment]) -> None:
        """Put one segment in the place of several. A driver that is killed on the way leaves lines twice, not none."""
        merged = _Segment(min(each.first for each in segments), max(each.end for each in segments))
        if merged not in segments:
            self._put(merged)
        self._segments = [each for each in self._segments if each.end <= merged.first] + [merged]
        with ThreadPoolExecutor(REQUESTS) as pool:
            list(pool.map(self._folder.remove, [each.name for each in segments if each != merged]))

    def _put(self, segment: _Segment) -> None:
        self._may_write()
        lines = self._lines[segment.first : segment.end]
        try:
            self._folder.write(segment.name, b"".join(line + b"\n" for line in lines))
        except OSError as error:
            name = self._folder.parent.name
            raise SweepFailed(
                f"the study of {name} cannot be written to {self._folder} ({why_refused(error)}); then "
                f"`sfd-sweep resume {name}` goes on with it"
            ) from error

    def _read(self) -> list[bytes]:
        with ThreadPoolExecutor(REQUESTS) as pool:
            contents = list(pool.map(self._folder.read, [segment.name for segment in self._segments]))
        lines = [content.splitlines() for content in contents]
        for segment, found in zip(self._segments, lines, strict=True):
            if len(found) != len(segment):
                raise UserError(f"{self._folder}/{segment.name} has {len(found)} lines, not {len(segment)}; {_REMEDY}")
        return [line for found in lines for line in found]


_REMEDY = "bring the file back from a copy of the storage, or run the sweep anew under another name"


def _consecutive(found: Sequence[_Segment], folder: Folder) -> list[_Segment]:
    """The segments that together hold every line once, in order, without those that were merged into others.

    Raises:
        UserError: there is no such choice.
    """
    chosen: list[_Segment] = []
    for segment in sorted(found, key=lambda each: (each.first, -each.end)):
        end = chosen[-1].end if chosen else 0
        if segment.end <= end:
            continue
        if segment.first != end:
            raise UserError(f"{folder}: the study has no segment that goes on from line {end}; {_REMEDY}")
        chosen.append(segment)
    return chosen
