"""The broker, without Ray: leases, orders that stand until they are answered, and slots that die."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from sfd_sweep.config import Settings
from sfd_sweep.errors import SweepFailed, UserError
from sfd_sweep.execution.broker import ATTEMPTS, Broker
from sfd_sweep.execution.commands import Advance, Close, Done, Failed, Order
from sfd_sweep.trial.report import Report

SETTINGS = Settings()


def advance(number: int, to: int = 2) -> Advance:
    return Advance(number, SETTINGS, to)


def done(step: int) -> Done:
    return Done(Report(step, {}, {}, {}, {}), 0.0)


def in_loop(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Run a test in an event loop of its own, for ten seconds at most."""

    def run() -> None:
        asyncio.run(asyncio.wait_for(test(), 10))

    run.__name__ = test.__name__
    return run


async def call(broker: Broker, command: Advance) -> "asyncio.Task[object]":
    """A call that is under way."""
    task = asyncio.ensure_future(broker.call(command))
    await asyncio.sleep(0)
    return task


async def take(broker: Broker, slot: int = 0, after: int = 0) -> Order:
    order = await asyncio.wait_for(broker.next_order(slot, after), 2)
    assert isinstance(order, Order)
    return order


async def crash(broker: Broker, reason: str | None) -> None:
    """The slot's worker group takes the order and dies of it, saying why or not; the next one comes up."""
    order = await take(broker)
    if reason:
        await broker.crashed(0, order.ticket, reason)
    await broker.ready(0)


@in_loop
async def test_a_command_is_answered_by_the_slot_that_carried_it_out() -> None:
    broker = Broker(1)
    asked = await call(broker, advance(7))
    order = await take(broker)
    assert order.command == advance(7)
    await broker.answer(0, order.ticket, done(2))
    assert await asked == done(2)


@in_loop
async def test_a_trial_keeps_its_slot_until_it_is_released() -> None:
    broker = Broker(1)
    first = await call(broker, advance(0))
    order = await take(broker)
    await broker.answer(0, order.ticket, done(2))
    await first
    other = await call(broker, advance(1))
    await call(broker, advance(0, to=4))
    order = await take(broker, after=order.ticket)
    assert order.command == advance(0, to=4)
    await broker.answer(0, order.ticket, done(4))
    await broker.release(0, wanted=1)
    order = await take(broker, after=order.ticket)
    assert order.command == advance(1)
    await broker.answer(0, order.ticket, done(2))
    assert await other == done(2)


@in_loop
async def test_an_order_is_delivered_again_until_it_is_answered() -> None:
    broker = Broker(1)
    await call(broker, advance(0))
    assert await take(broker) == await take(broker)


@in_loop
async def test_the_same_command_given_twice_is_carried_out_once() -> None:
    broker = Broker(1)
    asked = [await call(broker, advance(0)), await call(broker, advance(0))]
    order = await take(broker)
    await broker.answer(0, order.ticket, done(2))
    assert await asyncio.gather(*asked) == [done(2), done(2)]


@in_loop
async def test_an_answer_to_an_order_that_stands_no_longer_is_ignored() -> None:
    broker = Broker(1)
    await call(broker, advance(0, to=4))
    stale = await take(broker)
    asked = await call(broker, advance(0, to=2))  # the trial's actor was started again, and begins from the first
    await broker.answer(0, stale.ticket, done(4))
    order = await take(broker, after=stale.ticket)
    await broker.answer(0, order.ticket, done(2))
    assert await asked == done(2)


@pytest.mark.parametrize(("reason", "told"), [("ValueError: x", "ValueError: x"), (None, "its worker process died")])
def test_a_command_that_kills_every_worker_group_fails_its_trial_and_not_the_slot(
    reason: str | None, told: str
) -> None:
    @in_loop
    async def scenario() -> None:
        broker = Broker(1)
        asked = await call(broker, advance(0))
        for _ in range(ATTEMPTS):
            assert not asked.done()
            await crash(broker, reason)
        assert await asked == Failed(told)
        await broker.release(0, wanted=1)
        await call(broker, advance(1))
        assert (await take(broker)).command == advance(1)

    scenario()


@in_loop
async def test_ranks_that_die_together_count_as_one_crash() -> None:
    broker = Broker(1, attempts=2)
    asked = await call(broker, advance(0))
    order = await take(broker)
    for rank in range(4):
        await broker.crashed(0, order.ticket, f"rank {rank}")
    assert not asked.done()


@in_loop
async def test_surplus_slots_close_and_no_others() -> None:
    broker = Broker(3)
    busy = await call(broker, advance(0))
    await take(broker, slot=0)
    await broker.release(5, wanted=2)
    closed = [slot for slot in (1, 2) if await _is_closed(broker, slot)]
    assert len(closed) == 1
    assert not busy.done()


async def _is_closed(broker: Broker, slot: int) -> bool:
    try:
        return isinstance(await asyncio.wait_for(broker.next_order(slot, 0), 0.05), Close)
    except TimeoutError:
        return False


@in_loop
async def test_whoever_waits_when_the_broker_closes_hears_that_there_is_no_answer() -> None:
    broker = Broker(1)
    running, waiting = await call(broker, advance(0)), await call(broker, advance(1))
    await take(broker)
    await broker.close()
    assert await asyncio.gather(running, waiting) == [None, None]
    assert await broker.next_order(0, 0) == Close()


@in_loop
async def test_the_trial_of_a_slot_that_is_given_up_goes_to_another() -> None:
    broker = Broker(2)
    asked = await call(broker, advance(0))
    assert (await take(broker, slot=0)).command == advance(0)
    assert not await broker.cannot_start(0, SweepFailed("broken"), for_good=True)
    order = await take(broker, slot=1)
    await broker.answer(1, order.ticket, done(2))
    assert await asked == done(2)
    assert await broker.fault() is None


@in_loop
async def test_a_start_is_tried_again_and_the_count_begins_anew_when_it_succeeds() -> None:
    broker = Broker(1)
    for _ in range(3):
        for _ in range(ATTEMPTS - 1):
            assert await broker.cannot_start(0, SweepFailed("no memory"), for_good=False)
        await broker.ready(0)
    assert await broker.fault() is None


@in_loop
async def test_the_broker_names_the_fault_when_its_last_slot_is_given_up() -> None:
    broker = Broker(2)
    fault = UserError("the teacher is broken")
    assert not await broker.cannot_start(0, fault, for_good=True)
    assert await broker.fault() is None
    assert not await broker.cannot_start(1, fault, for_good=True)
    assert await broker.fault() is fault


@in_loop
async def test_a_slot_that_has_not_come_up_is_given_no_trial() -> None:
    broker = Broker(2)
    await broker.ready(1)
    asked = await call(broker, advance(0))
    waiting = await call(broker, advance(1))
    order = await take(broker, slot=1)
    assert order.command == advance(0)
    await broker.answer(1, order.ticket, done(2))
    assert await asked == done(2)
    await broker.release(0, wanted=1)
    assert (await take(broker, slot=1, after=order.ticket)).command == advance(1)
    assert not waiting.done()


@in_loop
async def test_the_trial_of_a_lost_slot_goes_to_the_one_that_is_free_first() -> None:
    broker = Broker(2)
    for slot in (0, 1):
        await broker.ready(slot)
    first, second = await call(broker, advance(0)), await call(broker, advance(1))
    await take(broker, slot=0)
    order = await take(broker, slot=1)
    await broker.lost(0, machine_lost=False)
    assert not first.done()
    await broker.answer(1, order.ticket, done(2))
    assert await second == done(2)
    await broker.release(1, wanted=1)  # one slot is surplus: the lost one
    again = await take(broker, slot=1, after=order.ticket)
    assert again.command == advance(0)
    await broker.answer(1, again.ticket, done(2))
    assert await first == done(2)
    assert await _is_closed(broker, 0)


@in_loop
async def test_a_trial_that_kills_one_slot_after_another_fails() -> None:
    broker = Broker(ATTEMPTS)
    asked = await call(broker, advance(0))
    for slot in range(ATTEMPTS):
        await take(broker, slot=slot)
        await broker.lost(slot, machine_lost=False)
    assert await asked == Failed("its worker process died")


@in_loop
async def test_a_broker_that_is_to_finish_has_what_is_under_way_answered_and_nothing_else_begun() -> None:
    broker = Broker(2)
    running = await call(broker, advance(0))
    order = await take(broker)
    waiting = await call(broker, advance(1))  # its slot is not up yet
    await broker.finish()
    assert await waiting is None
    assert await broker.call(advance(0, to=4)) is None
    assert not running.done()
    await broker.answer(0, order.ticket, done(2))
    assert await running == done(2)


@in_loop
async def test_a_broker_that_was_started_again_goes_on_with_the_slots_that_still_ask() -> None:
    before = Broker(2)
    await call(before, advance(0))
    ticket = (await take(before, slot=1)).ticket
    broker = Broker(2)  # and slot 0 had been closed
    asked = [await call(broker, advance(0)), await call(broker, advance(0))]  # one is Ray's repetition
    await broker.answer(1, ticket, done(2))  # to an order that this broker has not given
    order = await take(broker, slot=1, after=ticket)
    assert order.command == advance(0)
    await broker.answer(1, order.ticket, done(2))
    assert await asyncio.gather(*asked) == [done(2), done(2)]
    await broker.release(0, wanted=1)
    await call(broker, advance(1))
    assert (await take(broker, slot=1, after=order.ticket)).command == advance(1)


@in_loop
async def test_a_slot_that_gives_up_for_all_closes_all_and_says_why() -> None:
    broker = Broker(2)
    fault = SweepFailed("the disk is full")
    asked = await call(broker, advance(0))
    await take(broker)
    await broker.give_up(0, fault)
    assert [await broker.next_order(slot, 0) for slot in (0, 1)] == [Close(), Close()]
    assert await broker.fault() is fault
    assert not asked.done()  # the driver is to hear of the fault before any trial ends


@in_loop
async def test_slots_hold_their_gpus_while_their_workers_are_up() -> None:
    broker = Broker(3)
    hours = [0.0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sfd_sweep.execution.broker.time.monotonic", lambda: hours[0])
        await broker.begun(0, "a")  # slot 1 comes later, and slot 2 never, as no machine has room
        hours[0] += 10
        await broker.ready(0)
        await broker.begun(1, "b")
        hours[0] += 10
        assert await broker.held_seconds() == 30
        await broker.lost(1, machine_lost=False)
        hours[0] += 5
        assert await broker.held_seconds() == 35
        await broker.begun(1, "b")
        await broker.release(0, wanted=1)  # closes slots 2 and 1, which have not been heard of
        hours[0] += 5
        assert await broker.held_seconds() == 40


@in_loop
async def test_a_trial_is_not_to_blame_for_the_machines_that_are_lost_under_it() -> None:
    broker = Broker(1)
    asked = await call(broker, advance(7))
    for time in range(2 * ATTEMPTS):
        await broker.begun(0, f"machine {time}")
        await take(broker)
        assert await broker.machines_of(0) == {f"machine {time}"}
        await broker.lost(0, machine_lost=True)
    order = await take(broker)
    await broker.answer(0, order.ticket, done(2))
    assert await asked == done(2)
