"""The broker between trials and slots: it leases slots, carries orders to them and answers back.

It runs as one asynchronous Ray actor of the driver's job, so it dies with the driver. There is no Ray in it.
"""

import asyncio
import itertools
import time
from collections import Counter
from dataclasses import dataclass, field

from sfd_sweep.errors import UserError
from sfd_sweep.execution.commands import Answer, Close, Command, Failed, Order

ATTEMPTS = 3
"""How often a command, or the start of a slot, is tried before it is given up."""

HEARTBEAT_SECONDS = 30.0
"""A slot that asks for an order hears after so long that there is none: sooner than Train warns of a slow broadcast."""


@dataclass
class _Work:
    """An order that a slot has not answered.

    Attributes:
        answer: what those who gave the command wait for; None in it if the slot was closed under them.
        delivered: whether the worker group that runs now, or ran last, has the order.
    """

    order: Order
    answer: "asyncio.Future[Answer | None]"
    delivered: bool = False


@dataclass
class _Slot:
    """What the broker knows of a slot.

    Attributes:
        lease: number of the trial that has the slot.
        is_heard_of: whether its workers have come up since the broker has, and are not known to be lost. A broker that
            was started again knows of no slot that had been closed before.
        failed_starts: worker groups since the last with a runtime.
        ready_after: seconds from the broker's start to the first runtime.
        held_seconds: that worker groups before this one have held their CPUs and GPUs.
        held_since: when this one began to, by `time.monotonic`.
        machines: ids of those that this worker group is on.
    """

    is_open: bool = True
    is_heard_of: bool = False
    lease: int | None = None
    work: _Work | None = None
    failed_starts: int = 0
    ready_after: float | None = None
    held_seconds: float = 0.0
    held_since: float | None = None
    machines: set[str] = field(default_factory=set)

    def hold(self) -> None:
        """A worker group of it is up."""
        if self.is_open and self.held_since is None:
            self.held_since = time.monotonic()

    def let_go(self) -> None:
        """Its worker group has ended, or is about to."""
        self.held_seconds, self.held_since = self.held_so_far(), None

    def held_so_far(self) -> float:
        """Seconds, of all its worker groups."""
        return self.held_seconds + (0.0 if self.held_since is None else time.monotonic() - self.held_since)


class Broker:
    """Leases slots to trials, carries commands to slots and answers back.

    Delivery is a peek: an order stays with its slot until it is answered, so a worker group that was started again gets
    it again. Who gives the same command twice waits for the same answer. So a broker that was started again, with all
    calls that it had not answered made again, needs to know nothing of the one before.
    """

    def __init__(self, slots: int, attempts: int = ATTEMPTS) -> None:
        self._slots = [_Slot() for _ in range(slots)]
        self._attempts = attempts
        self._tickets = itertools.count(time.time_ns())  # beyond those of a broker that died
        self._changed = asyncio.Condition()
        self._closed = False
        self._crashes: Counter[int] = Counter()  # worker groups that died of a trial's command, by its number
        self._fault: UserError | None = None
        self._started = time.monotonic()

    # Trials.

    async def call(self, command: Command) -> Answer | None:
        """Have a command carried out by the slot that its trial has, or else by the next free one.

        Returns:
            The answer; None if the sweep stops first.
        """
        while slot := await self._lease(command.number):
            work = slot.work
            if work is None or work.order.command != command:
                future = asyncio.get_running_loop().create_future()
                slot.work = work = _Work(Order(next(self._tickets), command), future)
                await self._announce()
            answer = await asyncio.shield(work.answer)
            if answer is not None:
                return answer
        return None

    async def release(self, number: int, wanted: int) -> None:
        """Take back the slot of a trial that has ended, and close free slots beyond those that are still wanted."""
        for slot in self._slots:
            if slot.lease == number:
                slot.lease = slot.work = None
        for slot in sorted(self._slots, key=lambda slot: slot.is_heard_of):
            if slot.is_open and slot.lease is None and self._open_slots() > wanted:
                self._close(slot)
        await self._announce()

    # Slots.

    async def begun(self, index: int, machine: str) -> None:
        """A worker of the slot is up, and about to load its runtime.

        Args:
            machine: id of where it is.
        """
        self._slots[index].hold()
        self._slots[index].machines.add(machine)

    async def machines_of(self, index: int) -> set[str]:
        """Ids of the machines that the slot's worker group is on, as far as this broker knows."""
        return self._slots[index].machines

    async def ready(self, index: int) -> None:
        """A worker group of the slot has its runtime, for the first time or after the group before it died."""
        slot = await self._hear_of(index)
        slot.failed_starts = 0
        if slot.ready_after is None:
            slot.ready_after = time.monotonic() - self._started
        if slot.work:
            self._count_crash(slot, slot.work, "its worker process died")

    async def next_order(self, index: int, after: int) -> Order | Close | None:
        """The slot's next order beyond a ticket, as soon as there is one; None to ask again."""
        slot = await self._hear_of(index)
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS), self._changed:
                await self._changed.wait_for(lambda: not slot.is_open or _is_due(slot.work, after))
        except TimeoutError:
            return None
        if not slot.is_open or slot.work is None:
            return Close()
        slot.work.delivered = True
        return slot.work.order

    async def answer(self, index: int, ticket: int, answer: Answer) -> None:
        """The slot's answer to an order; without effect if the order stands no longer."""
        slot = self._slots[index]
        if slot.work and slot.work.order.ticket == ticket:
            self._settle(slot, slot.work, answer)

    async def crashed(self, index: int, ticket: int, reason: str) -> None:
        """The slot's worker group is about to die of an order; any rank may say so."""
        slot = self._slots[index]
        if slot.work and slot.work.order.ticket == ticket:
            self._count_crash(slot, slot.work, reason)

    async def lost(self, index: int, *, machine_lost: bool) -> None:
        """The slot's worker group has died. Others may take years to come up, if their machine is gone: the trial goes
        to the slot that is free first, which mostly is this one again.

        Args:
            machine_lost: whether that is why; then the trial is not to blame, however often it happens.
        """
        slot = self._slots[index]
        slot.is_heard_of = False
        slot.lease = None
        slot.let_go()
        slot.machines = set()
        if slot.work and not machine_lost:
            self._count_crash(slot, slot.work, "its worker process died")
        if slot.work:
            self._settle(slot, slot.work, None)
        await self._announce()

    async def cannot_start(self, index: int, error: UserError, *, for_good: bool) -> bool:
        """The slot's workers, or their runtime, did not come up.

        Args:
            error: what the sweep ends with if no slot is left.
            for_good: whether trying again is of no use.

        Returns:
            Whether the slot is to try again; otherwise it is closed, and its trial goes to another slot.
        """
        slot = self._slots[index]
        slot.failed_starts += 1
        if slot.is_open and not for_good and slot.failed_starts < self._attempts:
            return True
        self._close(slot)
        if not self._closed and self._open_slots() == 0:
            self._fault = error
        await self._announce()
        return False

    async def give_up(self, _index: int, error: UserError) -> None:
        """A slot has found that no slot can go on; its trial is not to blame."""
        self._fault = self._fault or error
        for slot in self._slots:
            self._close(slot)
        await self._announce()

    # The driver.

    async def fault(self) -> UserError | None:
        """Why no slot works any more, if none does."""
        return self._fault

    async def starting_seconds(self) -> float:
        """Seconds that the slots together have taken to be ready for the first time."""
        return sum(slot.ready_after or 0.0 for slot in self._slots)

    async def held_seconds(self) -> float:
        """Seconds for which the slots together have held their CPUs and GPUs, as far as this broker knows."""
        return sum(slot.held_so_far() for slot in self._slots)

    async def finish(self) -> None:
        """Take no more commands. Slots do what they are at, and stay; who waits for anything else gets None."""
        self._closed = True
        for slot in self._slots:
            if slot.work and not slot.work.delivered:
                self._settle(slot, slot.work, None)
        await self._announce()

    async def close(self) -> None:
        """Close all slots once they have done what they are at; who waits for an answer gets None."""
        self._closed = True
        for slot in self._slots:
            self._close(slot)
        await self._announce()

    async def _hear_of(self, index: int) -> _Slot:
        slot = self._slots[index]
        slot.hold()
        if not slot.is_heard_of:
            slot.is_heard_of = True
            await self._announce()
        return slot

    async def _lease(self, number: int) -> _Slot | None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or self._slot_for(number))
            slot = None if self._closed else self._slot_for(number)
            if slot:
                slot.lease = number
            return slot

    def _slot_for(self, number: int) -> _Slot | None:
        """The slot that the trial has, or else a free one."""
        usable = [slot for slot in self._slots if slot.is_open and slot.is_heard_of and slot.lease in (number, None)]
        return max(usable, key=lambda slot: slot.lease is not None, default=None)

    def _open_slots(self) -> int:
        return sum(slot.is_open for slot in self._slots)

    def _close(self, slot: _Slot) -> None:
        slot.is_open = False
        slot.lease = None
        slot.let_go()
        if slot.work:
            self._settle(slot, slot.work, None)

    def _count_crash(self, slot: _Slot, work: _Work, reason: str) -> None:
        """Note that the worker group which has the order died of it, once for each group."""
        if work.delivered:
            work.delivered = False
            number = work.order.command.number
            self._crashes[number] += 1
            if self._crashes[number] >= self._attempts:
                self._settle(slot, work, Failed(reason))

    def _settle(self, slot: _Slot, work: _Work, answer: Answer | None) -> None:
        slot.work = None
        if answer is not None:
            del self._crashes[work.order.command.number]
        work.answer.set_result(answer)

    async def _announce(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def _is_due(work: _Work | None, after: int) -> bool:
    return work is not None and work.order.ticket > after
