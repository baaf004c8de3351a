"""Asyncio actor that assigns trials to slots and returns each command's result.

It belongs to the driver's job, so it dies with the driver. This module does not import Ray.
"""

import asyncio
import itertools
import time
from dataclasses import dataclass, field

from sfd_sweep.errors import UserError
from sfd_sweep.execution.commands import Assignment, CloseSlot, Command, Failure, Result
from sfd_sweep.search.budget import HeldSeconds

MAX_ATTEMPTS = 3
"""How often a command, or the start of a slot, is tried."""

MOST_BLAMED = 2
"""A slot closes once so many trials have crashed in it and completed the same command in another slot."""

HEARTBEAT_SECONDS = 30.0
"""A poll without an assignment returns after this time: before Train warns of a slow broadcast."""


@dataclass
class _Work:
    """An assignment without a result.

    Attributes:
        result: awaited by the callers; None if the trial is to continue in another slot.
        delivered: whether the latest worker group has the assignment.
    """

    assignment: Assignment
    result: "asyncio.Future[Result | None]"
    delivered: bool = False


@dataclass
class _Slot:
    """The state of a slot.

    Attributes:
        index: of the slot.
        is_up: whether its workers have called this broker, and are not known to be lost. A restarted broker does not
            know which slots were closed before.
        lease: number of the trial that has the slot.
        failed_starts: consecutive worker groups without a runtime.
        ready_after: seconds from the broker's start to the first runtime.
        held_seconds: for which earlier worker groups have held CPUs and GPUs.
        held_since: when the present one began to, by `time.monotonic`.
        nodes: ids of those that the present worker group runs on.
        blamed_by: trials that have crashed in it and completed the same command elsewhere, since its own last result.
        news: set when there may be an assignment, or the slot has been closed.
    """

    index: int
    is_open: bool = True
    is_up: bool = False
    lease: int | None = None
    work: _Work | None = None
    failed_starts: int = 0
    ready_after: float | None = None
    held_seconds: float = 0.0
    held_since: float | None = None
    nodes: set[str] = field(default_factory=set)
    blamed_by: set[int] = field(default_factory=set)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_usable(self) -> bool:
        """Whether a trial could run in it."""
        return self.is_open and self.is_up

    def start_holding(self) -> None:
        """Count resources as held from now on."""
        if self.is_open and self.held_since is None:
            self.held_since = time.monotonic()

    def stop_holding(self) -> None:
        """Count resources as free from now on."""
        self.held_seconds, self.held_since = self.total_held_seconds(), None

    def total_held_seconds(self) -> float:
        """Return the seconds of all worker groups."""
        return self.held_seconds + (0.0 if self.held_since is None else time.monotonic() - self.held_since)


class Broker:
    """Leases slots to trials, passes commands to slots, and returns their results.

    Delivery is a peek: an assignment stays with its slot until it has a result, so a restarted worker group receives it
    again. Callers of the same command share one result. A restarted broker therefore needs no state of the one before:
    Ray repeats all calls without a result.

    A trial whose command kills a worker group continues in another slot, if there is one. If none is free, it changes
    places with the first trial that asks for its next command. So it shows whether the trial or the machine is to
    blame: a trial that kills several worker groups fails, and a slot in which several trials have failed alone closes.
    """

    def __init__(self, slots: int, attempts: int = MAX_ATTEMPTS) -> None:
        self._slots = [_Slot(index) for index in range(slots)]
        self._attempts = attempts
        self._tickets = itertools.count(time.time_ns())  # above those of an earlier broker
        self._leases: dict[int, _Slot] = {}  # by the numbers of the trials that have them
        self._asking: dict[int, asyncio.Future[_Slot | None]] = {}  # trials without a slot, the longest wait first
        self._crashes: dict[int, list[_Slot]] = {}  # where a trial's command has killed worker groups, by its number
        self._finishing = False
        self._failure: UserError | None = None
        self._notices: list[str] = []
        self._started = time.monotonic()
        self._any_held_seconds = 0.0
        self._any_held_since: float | None = None

    # Called by trials.

    async def call(self, command: Command) -> Result | None:
        """Have a command executed by its trial's slot, or by the next free one.

        Returns:
            The result; None if the sweep stops first.
        """
        while slot := await self._lease(command.number):
            if slot.lease != command.number:  # it was lost or closed just now
                continue
            work = slot.work
            if work is None or work.assignment.command != command:
                future = asyncio.get_running_loop().create_future()
                slot.work = work = _Work(Assignment(next(self._tickets), command), future)
                slot.news.set()
            result = await asyncio.shield(work.result)
            if result is not None:
                return result
        return None

    async def release(self, number: int, wanted: int) -> None:
        """Take back the slot of a trial that has ended, and close free slots beyond a wanted number."""
        if slot := self._leases.get(number):
            slot.work = None
            self._end_lease(slot)
            self._match()  # before the slot that a crashed trial waits for is closed
        for slot in sorted(self._slots, key=lambda slot: slot.is_up):
            if slot.is_open and slot.lease is None and self._open_slots() > wanted:
                self._close(slot)

    # Called by slots.

    async def worker_started(self, index: int, node: str) -> None:
        """Note that a worker of the slot runs on a node and is about to load its runtime."""
        self._start_holding(self._slots[index])
        self._slots[index].nodes.add(node)

    async def nodes_of(self, index: int) -> set[str]:
        """Return the ids of the nodes that the slot's worker group runs on, as far as this broker knows."""
        return self._slots[index].nodes

    async def slot_ready(self, index: int) -> None:
        """Note that a worker group of the slot has loaded its runtime."""
        slot = self._mark_up(index)
        slot.failed_starts = 0
        if slot.ready_after is None:
            slot.ready_after = time.monotonic() - self._started
        if slot.work:  # of the worker group before
            self._count_crash(slot, slot.work, "its worker process died")

    async def next_assignment(self, index: int, after: int) -> Assignment | CloseSlot | None:
        """Return the slot's next assignment after a ticket as soon as there is one; None means ask again."""
        slot = self._mark_up(index)
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                while slot.is_open and not (slot.work and slot.work.assignment.ticket > after):
                    slot.news.clear()
                    await slot.news.wait()
        except TimeoutError:
            return None
        if not slot.is_open or slot.work is None:
            return CloseSlot()
        slot.work.delivered = True
        return slot.work.assignment

    async def complete(self, index: int, ticket: int, result: Result) -> None:
        """Take an assignment's result; outdated ones are ignored."""
        slot = self._slots[index]
        if slot.work and slot.work.assignment.ticket == ticket:
            slot.blamed_by.clear()
            if not isinstance(result, Failure):
                self._blame(slot, slot.work.assignment.command.number)
            self._settle(slot, slot.work, result)

    async def worker_crashed(self, index: int, ticket: int, reason: str) -> None:
        """Note that an assignment raises an unexpected error, which ends the worker group; any rank may report it."""
        slot = self._slots[index]
        if slot.work and slot.work.assignment.ticket == ticket:
            self._count_crash(slot, slot.work, reason)

    async def workers_lost(self, index: int, *, node_lost: bool) -> None:
        """Pass the trial of a dead worker group to another slot, or to the same one where no other works.

        A new group may take long to start if its machine is gone.

        Args:
            node_lost: whether a lost node is the reason; then the trial is not to blame, however often it happens.
        """
        slot = self._slots[index]
        slot.is_up = False
        self._end_lease(slot)
        self._stop_holding(slot)
        if slot.work and not node_lost:
            self._count_crash(slot, slot.work, "its worker process died")
        if slot.work:
            self._settle(slot, slot.work, None)
        self._close_if_to_blame(slot)
        slot.nodes = set()
        self._match()

    async def start_failed(self, index: int, error: UserError, *, is_final: bool) -> bool:
        """Note that the slot's workers, or their runtime, did not start.

        Args:
            error: the sweep ends with it if no slot is left.
            is_final: whether a retry is pointless.

        Returns:
            Whether to retry; otherwise the slot is closed, and its trial passes to another.
        """
        slot = self._slots[index]
        slot.failed_starts += 1
        if slot.is_open and not is_final and slot.failed_starts < self._attempts:
            return True
        self._close(slot)
        if not self._finishing and self._open_slots() == 0:
            self._failure = error
        self._match()
        return False

    async def abort(self, _index: int, error: UserError) -> None:
        """Close all slots, since a slot has found that none can continue; no trial is to blame."""
        self._failure = self._failure or error
        self._close_all()

    # Called by the driver.

    async def failure(self) -> UserError | None:
        """Return why no slot works, if none does."""
        return self._failure

    async def take_notices(self) -> list[str]:
        """Return what the user should know of slots, once."""
        notices, self._notices = self._notices, []
        return notices

    async def starting_seconds(self) -> float:
        """Return the seconds until all slots together were ready for the first time."""
        return sum(slot.ready_after or 0.0 for slot in self._slots)

    async def held_seconds(self) -> HeldSeconds:
        """Return the seconds for which slots have held CPUs and GPUs, as far as this broker knows."""
        since = self._any_held_since
        any_held = self._any_held_seconds + (0.0 if since is None else time.monotonic() - since)
        return HeldSeconds(any_held, sum(slot.total_held_seconds() for slot in self._slots))

    async def finish(self) -> None:
        """Reject new commands. Delivered ones complete; other callers receive None. Slots stay open."""
        self._reject_calls()
        for slot in self._slots:
            if slot.work and not slot.work.delivered:
                self._settle(slot, slot.work, None)

    async def close(self) -> None:
        """Reject new commands, and close every slot after its present command; all callers receive None."""
        self._reject_calls()
        self._close_all()

    # Leases.

    async def _lease(self, number: int) -> _Slot | None:
        """Return the trial's slot, as soon as there is one; None if new commands are rejected."""
        if self._finishing:
            return None
        if slot := self._leases.get(number):
            return self._exchanged(slot)
        if number not in self._asking:
            self._asking[number] = asyncio.get_running_loop().create_future()
        waiting = self._asking[number]
        self._match()
        return await asyncio.shield(waiting)

    def _match(self) -> None:
        """Lease free slots to the trials that ask for one."""
        free = [slot for slot in self._slots if slot.is_usable and slot.lease is None]
        for number in list(self._asking):
            if not free:
                break
            if slot := self._suitable(number, free):
                free.remove(slot)
                self._start_lease(slot, number)

    def _suitable(self, number: int, free: list[_Slot]) -> _Slot | None:
        """Return a free slot in which the trial has not crashed, or any where it has crashed in all that work."""
        crashed_in = self._crashes.get(number, [])
        if not crashed_in:
            return free[0]
        fresh = next((slot for slot in free if slot not in crashed_in), None)
        could_wait = any(slot.is_usable and slot not in crashed_in for slot in self._slots)
        return fresh if fresh or could_wait else free[0]

    def _exchanged(self, slot: _Slot) -> _Slot:
        """Return the slot in which its trial continues: another one, if a trial that has crashed there waits for it."""
        number = slot.lease
        assert number is not None
        if slot.work is None and (waiting := self._would_change_to(slot)) is not None:
            place = next((free for free in self._crashes[waiting] if free.is_usable and free.lease is None), None)
            if place is not None and place not in self._crashes.get(number, []):
                self._end_lease(slot)
                self._start_lease(slot, waiting)
                place.lease, self._leases[number] = number, place
                return place
        return slot

    def _would_change_to(self, slot: _Slot) -> int | None:
        """Return the trial that has crashed elsewhere, and has waited longest for a slot like this one, if any."""
        waiting = (number for number in self._asking if self._crashes.get(number))
        return next((number for number in waiting if slot not in self._crashes[number]), None)

    def _start_lease(self, slot: _Slot, number: int) -> None:
        """Give a slot to a trial that asks for one."""
        slot.lease, self._leases[number] = number, slot
        self._asking.pop(number).set_result(slot)

    def _end_lease(self, slot: _Slot) -> None:
        if slot.lease is not None:
            del self._leases[slot.lease]
            slot.lease = None

    def _reject_calls(self) -> None:
        self._finishing = True
        for waiting in self._asking.values():
            waiting.set_result(None)
        self._asking.clear()

    # Slots.

    def _start_holding(self, slot: _Slot) -> None:
        slot.start_holding()
        if slot.held_since is not None and self._any_held_since is None:
            self._any_held_since = time.monotonic()

    def _stop_holding(self, slot: _Slot) -> None:
        slot.stop_holding()
        if self._any_held_since is not None and all(each.held_since is None for each in self._slots):
            self._any_held_seconds += time.monotonic() - self._any_held_since
            self._any_held_since = None

    def _mark_up(self, index: int) -> _Slot:
        slot = self._slots[index]
        self._start_holding(slot)
        if not slot.is_up:
            slot.is_up = True
            self._match()
        return slot

    def _open_slots(self) -> int:
        return sum(slot.is_open for slot in self._slots)

    def _close_all(self) -> None:
        for slot in self._slots:
            self._close(slot)

    def _close(self, slot: _Slot) -> None:
        slot.is_open = False
        self._end_lease(slot)
        self._stop_holding(slot)
        if slot.work:
            self._settle(slot, slot.work, None)
        slot.news.set()

    # Crashes.

    def _count_crash(self, slot: _Slot, work: _Work, reason: str) -> None:
        """Count a crash once for each worker group that had the assignment; the last attempt fails the trial."""
        if work.delivered:
            work.delivered = False
            crashed_in = self._crashes.setdefault(work.assignment.command.number, [])
            crashed_in.append(slot)
            if len(crashed_in) >= self._attempts:
                self._settle(slot, work, Failure(reason))

    def _blame(self, slot: _Slot, number: int) -> None:
        """Blame the slots where a trial's command has crashed that this slot has executed; close those to blame."""
        for other in self._crashes.get(number, []):
            if other is not slot and other.is_open:
                other.blamed_by.add(number)
                self._close_if_to_blame(other)

    def _close_if_to_blame(self, slot: _Slot) -> None:
        """Close a slot once enough trials blame it, and it is at none: two slots must never write one trial."""
        is_at_work = slot.work is not None and slot.work.delivered
        if not slot.is_open or len(slot.blamed_by) < MOST_BLAMED or is_at_work or self._open_slots() == 1:
            return
        trials = " and ".join(map(str, sorted(slot.blamed_by)))
        node = f" on node {', '.join(sorted(slot.nodes))}" if slot.nodes else ""
        self._notices.append(
            f"slot {slot.index}{node} is closed: trials {trials} crashed in it one after the other, and completed the "
            "same step in other slots"
        )
        self._close(slot)
        self._match()

    def _settle(self, slot: _Slot, work: _Work, result: Result | None) -> None:
        slot.work = None
        if result is not None:
            self._crashes.pop(work.assignment.command.number, None)
        work.result.set_result(result)
