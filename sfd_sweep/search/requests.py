"""Requests to a sweep: files in its folder, which its driver or the next one carries out.

Only one process at a time may write a study, so others leave requests beside it. A request takes effect once, also if
the driver is killed meanwhile: settings that it adds to the study bear its name.
"""

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from sfd_sweep.search.study import SweepStudy
from sfd_sweep.storage.folder import Folder

REQUESTS = "requests"


@dataclass(frozen=True)
class AddedTrial:
    """Settings to try next, beyond the budget.

    Attributes:
        settings: values of searched parameters; the sampler draws those that are missing.
        retry_of: number of the failed trial that is tried again; None for new settings.
    """

    settings: dict[str, Any]
    retry_of: int | None = None

    def in_words(self) -> str:
        """Return what was requested."""
        values = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        return f"added: {values}" if self.retry_of is None else f"trial {self.retry_of} is tried again: {values}"


@dataclass(frozen=True)
class TrialStop:
    """A trial to end at its next evaluation."""

    number: int

    def in_words(self) -> str:
        """Return what was requested."""
        return f"trial {self.number} stops at its next evaluation"


@dataclass(frozen=True)
class SweepStop:
    """The sweep is to stop: running trials at their next evaluations, or at once."""

    now: bool

    def in_words(self) -> str:
        """Return what was requested."""
        return "the sweep stops"


Request = AddedTrial | TrialStop | SweepStop
_KINDS: dict[str, type[Request]] = {kind.__name__: kind for kind in (AddedTrial, TrialStop, SweepStop)}


def put(sweep: Folder, request: Request) -> None:
    """Leave a request in a sweep's folder."""
    name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.json"
    content = {"kind": type(request).__name__, **asdict(request)}
    (sweep / REQUESTS).write(name, json.dumps(content).encode())


def pending(sweep: Folder) -> Iterator[tuple[str, Request]]:
    """Yield the requests that no driver has carried out yet with their names, the oldest first."""
    folder = sweep / REQUESTS
    for name in folder.names():
        if name.endswith(".json"):
            try:
                content = json.loads(folder.read(name))
            except OSError:
                if folder.has(name):
                    raise
                continue  # a driver has just carried it out
            yield name, _KINDS[content.pop("kind")](**content)


def carry_out(sweep: Folder, study: SweepStudy) -> Iterator[Request]:
    """Carry out what is requested of the study, and yield all requests; stopping the sweep is left to the driver."""
    for name, request in pending(sweep):
        match request:
            case AddedTrial(settings=settings, retry_of=retry_of):
                study.add(name, settings, retry_of)
            case TrialStop(number=number):
                study.stop_at_next_report(number)
        (sweep / REQUESTS).remove(name)
        yield request
