"""Asyncio actor that assigns trials to slots and returns each command's result.

It belongs to the driver's job, so it dies with the driver. This module does not import Ray.
"""

import asyncio
import itertools
import time
from collections import Counter
from dataclasses import dataclass, field

from sfd_sweep.errors import UserError
from sfd_sweep.execution.commands import Assignment, CloseSlot, Command, Failure, Result
from sfd_sweep.search.budget import HeldSeconds

MAX_ATTEMPTS = 3
"""How often a command, or the start of a slot, is tried."""

HEARTBEAT_SECONDS = 30.0
"""A poll without an assignment returns after this time: before Train warns of a slow broadcast."""


@dataclass
class _Work:
    """An assignment without a result.

    Attributes:
        result: awaited by the callers; None if the slot was closed or lost.
        delivered: whether the latest worker group has the assignment.
    """

    assignment: Assignment
    result: "asyncio.Future[Result | None]"
    delivered: bool = False


@dataclass
class _Slot:
    """The state of a slot.

    Attributes:
        is_up: whether its workers have called this broker, and are not known to be lost. A restarted broker does not
            know which slots were closed before.
        lease: number of the trial that has the slot.
        failed_starts: consecutive worker groups without a runtime.
        ready_after: seconds from the broker's start to the first runtime.
        held_seconds: for which earlier worker groups have held CPUs and GPUs.
        held_since: when the present one began to, by `time.monotonic`.
        nodes: ids of those that the present worker group runs on.
    """

    is_open: bool = True
    is_up: bool = False
    lease: int | None = None
    work: _Work | None = None
    failed_starts: int = 0
    ready_after: float | None = None
    held_seconds: float = 0.0
    held_since: float | None = None
    nodes: set[str] = field(default_factory=set)

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
    """

    def __init__(self, slots: int, attempts: int = MAX_ATTEMPTS) -> None:
        self._slots = [_Slot() for _ in range(slots)]
        self._attempts = attempts
        self._tickets = itertools.count(time.time_ns())  # above those of an earlier broker
        self._changed = asyncio.Condition()
        self._finishing = False
        self._crashes: Counter[int] = Counter()  # worker groups that a trial's command has killed, by its number
        self._failure: UserError | None = None
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
            work = slot.work
            if work is None or work.assignment.command != command:
                future = asyncio.get_running_loop().create_future()
                slot.work = work = _Work(Assignment(next(self._tickets), command), future)
                await self._notify()
            result = await asyncio.shield(work.result)
            if result is not None:
                return result
        return None

    async def release(self, number: int, wanted: int) -> None:
        """Take back the slot of a trial that has ended, and close free slots beyond a wanted number."""
        for slot in self._slots:
            if slot.lease == number:
                slot.lease = slot.work = None
        for slot in sorted(self._slots, key=lambda slot: slot.is_up):
            if slot.is_open and slot.lease is None and self._open_slots() > wanted:
                self._close(slot)
        await self._notify()

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
        slot = await self._mark_up(index)
        slot.failed_starts = 0
        if slot.ready_after is None:
            slot.ready_after = time.monotonic() - self._started
        if slot.work:  # of the worker group before
            self._count_crash(slot, slot.work, "its worker process died")

    async def next_assignment(self, index: int, after: int) -> Assignment | CloseSlot | None:
        """Return the slot's next assignment after a ticket as soon as there is one; None means ask again."""
        slot = await self._mark_up(index)
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS), self._changed:
                await self._changed.wait_for(
                    lambda: not slot.is_open or (slot.work is not None and slot.work.assignment.ticket > after)
                )
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
            self._settle(slot, slot.work, result)

    async def worker_crashed(self, index: int, ticket: int, reason: str) -> None:
        """Note that an assignment raises an unexpected error, which ends the worker group; any rank may report it."""
        slot = self._slots[index]
        if slot.work and slot.work.assignment.ticket == ticket:
            self._count_crash(slot, slot.work, reason)

    async def workers_lost(self, index: int, *, node_lost: bool) -> None:
        """Pass the trial of a dead worker group to the slot that is free first, usually the same one.

        A new group may take long to start if its machine is gone.

        Args:
            node_lost: whether a lost node is the reason; then the trial is not to blame, however often it happens.
        """
        slot = self._slots[index]
        slot.is_up = False
        slot.lease = None
        self._stop_holding(slot)
        slot.nodes = set()
        if slot.work and not node_lost:
            self._count_crash(slot, slot.work, "its worker process died")
        if slot.work:
            self._settle(slot, slot.work, None)
        await self._notify()

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
        await self._notify()
        return False

    async def abort(self, _index: int, error: UserError) -> None:
        """Close all slots, since a slot has found that none can continue; no trial is to blame."""
        self._failure = self._failure or error
        await self._close_all()

    # Called by the driver.

    async def failure(self) -> UserError | None:
        """Return why no slot works, if none does."""
        return self._failure

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
        self._finishing = True
        for slot in self._slots:
            if slot.work and not slot.work.delivered:
                self._settle(slot, slot.work, None)
        await self._notify()

    async def close(self) -> None:
        """Reject new commands, and close every slot after its present command; all callers receive None."""
        self._finishing = True
        await self._close_all()

    def _start_holding(self, slot: _Slot) -> None:
        slot.start_holding()
        if slot.held_since is not None and self._any_held_since is None:
            self._any_held_since = time.monotonic()

    def _stop_holding(self, slot: _Slot) -> None:
        slot.stop_holding()
        if self._any_held_since is not None and all(each.held_since is None for each in self._slots):
            self._any_held_seconds += time.monotonic() - self._any_held_since
            self._any_held_since = None

    async def _mark_up(self, index: int) -> _Slot:
        slot = self._slots[index]
        self._start_holding(slot)
        if not slot.is_up:
            slot.is_up = True
            await self._notify()
        return slot

    async def _lease(self, number: int) -> _Slot | None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._finishing or self._slot_for(number))
            slot = None if self._finishing else self._slot_for(number)
            if slot:
                slot.lease = number
            return slot

    def _slot_for(self, number: int) -> _Slot | None:
        """Return the slot that the trial has, or else a free one."""
        usable = [slot for slot in self._slots if slot.is_open and slot.is_up and slot.lease in (number, None)]
        return max(usable, key=lambda slot: slot.lease is not None, default=None)

    def _open_slots(self) -> int:
        return sum(slot.is_open for slot in self._slots)

    async def _close_all(self) -> None:
        for slot in self._slots:
            self._close(slot)
        await self._notify()

    def _close(self, slot: _Slot) -> None:
        slot.is_open = False
        slot.lease = None
        self._stop_holding(slot)
        if slot.work:
            self._settle(slot, slot.work, None)

    def _count_crash(self, slot: _Slot, work: _Work, reason: str) -> None:
        """Count a crash once for each worker group that had the assignment; the last attempt fails the trial."""
        if work.delivered:
            work.delivered = False
            number = work.assignment.command.number
            self._crashes[number] += 1
            if self._crashes[number] >= self._attempts:
                self._settle(slot, work, Failure(reason))

    def _settle(self, slot: _Slot, work: _Work, result: Result | None) -> None:
        slot.work = None
        if result is not None:
            del self._crashes[work.assignment.command.number]
        work.result.set_result(result)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()
