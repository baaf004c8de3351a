"""The broker, without Ray: leases, assignments that stay until they have a result, and slots that die."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from sfd_sweep.config import Settings
from sfd_sweep.errors import SweepFailed, UserError
from sfd_sweep.execution.broker import MAX_ATTEMPTS, Broker
from sfd_sweep.execution.commands import Advance, Assignment, CloseSlot, Failure
from sfd_sweep.search.budget import HeldSeconds
from sfd_sweep.trial.report import Report

SETTINGS = Settings()


def advance(number: int, to: int = 2) -> Advance:
    return Advance(number, SETTINGS, to)


def done(step: int) -> Report:
    return Report(step, {}, {}, {}, {})


def in_loop(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Run a test in an event loop of its own, for ten seconds at most."""

    def run() -> None:
        asyncio.run(asyncio.wait_for(test(), 10))

    run.__name__ = test.__name__
    return run


async def call(broker: Broker, command: Advance) -> "asyncio.Task[object]":
    """Start a call."""
    task = asyncio.ensure_future(broker.call(command))
    await asyncio.sleep(0)
    return task


async def take(broker: Broker, slot: int = 0, after: int = 0) -> Assignment:
    assignment = await asyncio.wait_for(broker.next_assignment(slot, after), 2)
    assert isinstance(assignment, Assignment)
    return assignment


async def crash(broker: Broker, reason: str | None) -> None:
    """The worker group takes the assignment and dies of it, with or without a reason; the next one starts."""
    assignment = await take(broker)
    if reason:
        await broker.worker_crashed(0, assignment.ticket, reason)
    await broker.slot_ready(0)


@in_loop
async def test_a_command_returns_the_result_of_the_slot_that_executed_it() -> None:
    broker = Broker(1)
    asked = await call(broker, advance(7))
    assignment = await take(broker)
    assert assignment.command == advance(7)
    await broker.complete(0, assignment.ticket, done(2))
    assert await asked == done(2)


@in_loop
async def test_a_trial_keeps_its_slot_until_it_is_released() -> None:
    broker = Broker(1)
    first = await call(broker, advance(0))
    assignment = await take(broker)
    await broker.complete(0, assignment.ticket, done(2))
    await first
    other = await call(broker, advance(1))
    await call(broker, advance(0, to=4))
    assignment = await take(broker, after=assignment.ticket)
    assert assignment.command == advance(0, to=4)
    await broker.complete(0, assignment.ticket, done(4))
    await broker.release(0, wanted=1)
    assignment = await take(broker, after=assignment.ticket)
    assert assignment.command == advance(1)
    await broker.complete(0, assignment.ticket, done(2))
    assert await other == done(2)


@in_loop
async def test_an_assignment_is_delivered_again_until_it_has_a_result() -> None:
    broker = Broker(1)
    await call(broker, advance(0))
    assert await take(broker) == await take(broker)


@in_loop
async def test_the_same_command_sent_twice_is_executed_once() -> None:
    broker = Broker(1)
    asked = [await call(broker, advance(0)), await call(broker, advance(0))]
    assignment = await take(broker)
    await broker.complete(0, assignment.ticket, done(2))
    assert await asyncio.gather(*asked) == [done(2), done(2)]


@in_loop
async def test_a_result_of_an_outdated_assignment_is_ignored() -> None:
    broker = Broker(1)
    await call(broker, advance(0, to=4))
    stale = await take(broker)
    asked = await call(broker, advance(0, to=2))  # the trial's actor was restarted and begins with the first step
    await broker.complete(0, stale.ticket, done(4))
    assignment = await take(broker, after=stale.ticket)
    await broker.complete(0, assignment.ticket, done(2))
    assert await asked == done(2)


@pytest.mark.parametrize(
    ("reason", "expected"), [("ValueError: x", "ValueError: x"), (None, "its worker process died")]
)
def test_a_command_that_kills_every_worker_group_fails_its_trial_and_not_the_slot(
    reason: str | None, expected: str
) -> None:
    @in_loop
    async def scenario() -> None:
        broker = Broker(1)
        asked = await call(broker, advance(0))
        for _ in range(MAX_ATTEMPTS):
            assert not asked.done()
            await crash(broker, reason)
        assert await asked == Failure(expected)
        await broker.release(0, wanted=1)
        await call(broker, advance(1))
        assert (await take(broker)).command == advance(1)

    scenario()


@in_loop
async def test_ranks_that_die_together_count_as_one_crash() -> None:
    broker = Broker(1, attempts=2)
    asked = await call(broker, advance(0))
    assignment = await take(broker)
    for rank in range(4):
        await broker.worker_crashed(0, assignment.ticket, f"rank {rank}")
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
        return isinstance(await asyncio.wait_for(broker.next_assignment(slot, 0), 0.05), CloseSlot)
    except TimeoutError:
        return False


@in_loop
async def test_callers_receive_no_result_when_the_broker_closes() -> None:
    broker = Broker(1)
    running, waiting = await call(broker, advance(0)), await call(broker, advance(1))
    await take(broker)
    await broker.close()
    assert await asyncio.gather(running, waiting) == [None, None]
    assert await broker.next_assignment(0, 0) == CloseSlot()


@in_loop
async def test_the_trial_of_a_closed_slot_passes_to_another() -> None:
    broker = Broker(2)
    asked = await call(broker, advance(0))
    assert (await take(broker, slot=0)).command == advance(0)
    assert not await broker.start_failed(0, SweepFailed("broken"), is_final=True)
    assignment = await take(broker, slot=1)
    await broker.complete(1, assignment.ticket, done(2))
    assert await asked == done(2)
    assert await broker.failure() is None


@in_loop
async def test_a_failed_start_is_retried_and_a_successful_one_resets_the_count() -> None:
    broker = Broker(1)
    for _ in range(3):
        for _ in range(MAX_ATTEMPTS - 1):
            assert await broker.start_failed(0, SweepFailed("no memory"), is_final=False)
        await broker.slot_ready(0)
    assert await broker.failure() is None


@in_loop
async def test_the_broker_names_the_failure_when_its_last_slot_is_closed() -> None:
    broker = Broker(2)
    failure = UserError("the teacher is broken")
    assert not await broker.start_failed(0, failure, is_final=True)
    assert await broker.failure() is None
    assert not await broker.start_failed(1, failure, is_final=True)
    assert await broker.failure() is failure


@in_loop
async def test_a_slot_that_has_not_started_gets_no_trial() -> None:
    broker = Broker(2)
    await broker.slot_ready(1)
    asked = await call(broker, advance(0))
    waiting = await call(broker, advance(1))
    assignment = await take(broker, slot=1)
    assert assignment.command == advance(0)
    await broker.complete(1, assignment.ticket, done(2))
    assert await asked == done(2)
    await broker.release(0, wanted=1)
    assert (await take(broker, slot=1, after=assignment.ticket)).command == advance(1)
    assert not waiting.done()


@in_loop
async def test_the_trial_of_a_lost_slot_passes_to_the_slot_that_is_free_first() -> None:
    broker = Broker(2)
    for slot in (0, 1):
        await broker.slot_ready(slot)
    first, second = await call(broker, advance(0)), await call(broker, advance(1))
    await take(broker, slot=0)
    assignment = await take(broker, slot=1)
    await broker.workers_lost(0, node_lost=False)
    assert not first.done()
    await broker.complete(1, assignment.ticket, done(2))
    assert await second == done(2)
    await broker.release(1, wanted=1)  # one slot is surplus: the lost one
    again = await take(broker, slot=1, after=assignment.ticket)
    assert again.command == advance(0)
    await broker.complete(1, again.ticket, done(2))
    assert await first == done(2)
    assert await _is_closed(broker, 0)


@in_loop
async def test_a_trial_that_kills_one_slot_after_another_fails() -> None:
    broker = Broker(MAX_ATTEMPTS)
    asked = await call(broker, advance(0))
    for slot in range(MAX_ATTEMPTS):
        await take(broker, slot=slot)
        await broker.workers_lost(slot, node_lost=False)
    assert await asked == Failure("its worker process died")


@in_loop
async def test_finish_completes_delivered_commands_and_starts_no_others() -> None:
    broker = Broker(2)
    running = await call(broker, advance(0))
    assignment = await take(broker)
    waiting = await call(broker, advance(1))  # its slot is not up yet
    await broker.finish()
    assert await waiting is None
    assert await broker.call(advance(0, to=4)) is None
    assert not running.done()
    await broker.complete(0, assignment.ticket, done(2))
    assert await running == done(2)


@in_loop
async def test_a_restarted_broker_continues_with_the_slots_that_still_poll() -> None:
    before = Broker(2)
    await call(before, advance(0))
    ticket = (await take(before, slot=1)).ticket
    broker = Broker(2)  # and slot 0 had been closed
    asked = [await call(broker, advance(0)), await call(broker, advance(0))]  # one repeated by Ray
    await broker.complete(1, ticket, done(2))  # of an assignment that this broker does not know
    assignment = await take(broker, slot=1, after=ticket)
    assert assignment.command == advance(0)
    await broker.complete(1, assignment.ticket, done(2))
    assert await asyncio.gather(*asked) == [done(2), done(2)]
    await broker.release(0, wanted=1)
    await call(broker, advance(1))
    assert (await take(broker, slot=1, after=assignment.ticket)).command == advance(1)


@in_loop
async def test_abort_closes_all_slots_and_keeps_the_reason() -> None:
    broker = Broker(2)
    failure = SweepFailed("the disk is full")
    asked = await call(broker, advance(0))
    await take(broker)
    await broker.abort(0, failure)
    assert [await broker.next_assignment(slot, 0) for slot in (0, 1)] == [CloseSlot(), CloseSlot()]
    assert await broker.failure() is failure
    assert not asked.done()  # the driver must see the failure before any trial ends


@in_loop
async def test_slots_hold_their_gpus_while_their_workers_run() -> None:
    broker = Broker(3)
    hours = [0.0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sfd_sweep.execution.broker.time.monotonic", lambda: hours[0])
        await broker.worker_started(0, "a")  # slot 1 starts later, and slot 2 never, as no node has room
        hours[0] += 10
        await broker.slot_ready(0)
        await broker.worker_started(1, "b")
        hours[0] += 10
        assert await broker.held_seconds() == HeldSeconds(20, 30)
        await broker.workers_lost(1, node_lost=False)
        hours[0] += 5
        assert await broker.held_seconds() == HeldSeconds(25, 35)
        await broker.worker_started(1, "b")
        await broker.release(0, wanted=1)  # closes slots 2 and 1, which are not up
        hours[0] += 5
        assert await broker.held_seconds() == HeldSeconds(30, 40)
        await broker.workers_lost(0, node_lost=True)  # then all wait for machines
        hours[0] += 100
        assert await broker.held_seconds() == HeldSeconds(30, 40)
        await broker.worker_started(0, "c")
        hours[0] += 1
        assert await broker.held_seconds() == HeldSeconds(31, 41)


@in_loop
async def test_a_trial_does_not_fail_by_lost_nodes_however_many() -> None:
    broker = Broker(1)
    asked = await call(broker, advance(7))
    for time in range(2 * MAX_ATTEMPTS):
        await broker.worker_started(0, f"node {time}")
        await take(broker)
        assert await broker.nodes_of(0) == {f"node {time}"}
        await broker.workers_lost(0, node_lost=True)
    assignment = await take(broker)
    await broker.complete(0, assignment.ticket, done(2))
    assert await asked == done(2)


async def up(slots: int) -> Broker:
    """Return a broker whose slots are ready."""
    broker = Broker(slots)
    for slot in range(slots):
        await broker.slot_ready(slot)
    return broker


async def die(broker: Broker, slot: int) -> int:
    """The slot takes its assignment and dies of it; the next worker group starts. Return the trial's number."""
    assignment = await take(broker, slot)
    await broker.workers_lost(slot, node_lost=False)
    await broker.slot_ready(slot)
    await asyncio.sleep(0)
    return assignment.command.number


async def succeed(broker: Broker, slot: int) -> int:
    """The slot executes its assignment. Return the trial's number."""
    assignment = await take(broker, slot)
    await broker.complete(slot, assignment.ticket, done(2))
    await asyncio.sleep(0)
    return assignment.command.number


@in_loop
async def test_a_trial_that_crashed_continues_in_a_free_slot_where_it_has_not() -> None:
    broker = await up(2)
    asked = await call(broker, advance(7))
    assert await die(broker, 0) == 7
    assert await succeed(broker, 1) == 7
    assert await asked == done(2)


@in_loop
async def test_a_trial_that_crashed_changes_places_with_the_next_that_asks_for_a_command() -> None:
    broker = await up(2)
    first, second = await call(broker, advance(1)), await call(broker, advance(2))
    assert await die(broker, 0) == 1
    assert not await _is_closed(broker, 0)  # it is free, and the trial does not return to it
    assert await succeed(broker, 1) == 2
    assert await second == done(2)
    again = await call(broker, advance(2, to=4))
    assert await succeed(broker, 1) == 1
    assert await first == done(2)
    assert await succeed(broker, 0) == 2
    assert await again == done(2)


@in_loop
async def test_a_trial_that_crashed_takes_the_slot_of_one_that_ends() -> None:
    broker = await up(2)
    await call(broker, advance(1))
    await call(broker, advance(2))
    assert await die(broker, 0) == 1
    assert await succeed(broker, 1) == 2
    await broker.release(2, wanted=2)
    assert await succeed(broker, 1) == 1


@in_loop
async def test_a_slot_that_only_crashes_closes_once_two_trials_have_shown_that_it_is_to_blame() -> None:
    broker = await up(3)
    trials = [await call(broker, advance(number)) for number in (1, 2, 3)]
    assert await die(broker, 0) == 1
    assert await succeed(broker, 1) == 2
    await trials[1]
    await call(broker, advance(2, to=4))  # changes places with trial 1
    assert await succeed(broker, 1) == 1
    assert await trials[0] == done(2)
    assert await die(broker, 0) == 2
    assert not await broker.take_notices()
    assert await succeed(broker, 2) == 3
    await call(broker, advance(3, to=4))  # changes places with trial 2
    assert await succeed(broker, 2) == 2
    assert await broker.take_notices() == [
        "slot 0 is closed: trials 1 and 2 crashed in it one after the other, and completed the same step in other slots"
    ]
    assert not await broker.take_notices()
    assert await _is_closed(broker, 0)
    await call(broker, advance(1, to=4))
    assert await succeed(broker, 1) == 1  # and trial 3 continues where one ends
    await broker.release(1, wanted=2)
    assert await succeed(broker, 1) == 3


@in_loop
async def test_trials_that_crash_everywhere_close_no_slot() -> None:
    broker = await up(2)
    for number in range(4):
        asked = await call(broker, advance(number))
        for slot in (0, 1, 0):
            assert await die(broker, slot) == number
        assert await asked == Failure("its worker process died")
        await broker.release(number, wanted=2)
    assert not any([await _is_closed(broker, slot) for slot in (0, 1)])
    assert not await broker.take_notices()


@in_loop
async def test_a_slot_that_has_a_result_of_its_own_is_no_longer_to_blame() -> None:
    broker = await up(2)
    for number in range(4):
        await call(broker, advance(number))
        assert await die(broker, 0) == number
        assert await succeed(broker, 1) == number
        await broker.release(number, wanted=2)
        await call(broker, advance(10 + number))
        assert await succeed(broker, 0) == 10 + number
        await broker.release(10 + number, wanted=2)
    assert not await broker.take_notices()


@in_loop
async def test_a_trial_that_crashed_waits_for_no_slot_that_is_not_up() -> None:
    broker = Broker(2)
    await broker.slot_ready(0)
    asked = await call(broker, advance(0))
    for _ in range(MAX_ATTEMPTS):
        assert await die(broker, 0) == 0
    assert await asked == Failure("its worker process died")


@pytest.mark.parametrize("dies", [True, False])
def test_a_slot_that_is_to_blame_ends_what_it_is_at_before_it_closes(dies: bool) -> None:
    """Else two slots would write the same trial."""

    @in_loop
    async def scenario() -> None:
        broker = await up(3)
        for number in (1, 2):
            await call(broker, advance(number))
            assert await die(broker, 0) == number  # and it continues in the slot of its number
        third = await call(broker, advance(3))
        assert (await take(broker, 0)).command == advance(3)
        assert [await succeed(broker, slot) for slot in (1, 2)] == [1, 2]
        assert not await broker.take_notices()
        if dies:
            await broker.workers_lost(0, node_lost=False)
            assert len(await broker.take_notices()) == 1
            await broker.release(1, wanted=3)
            assert await succeed(broker, 1) == 3
        else:
            assert await succeed(broker, 0) == 3
        assert await third == done(2)
        assert await _is_closed(broker, 0) == dies

    scenario()


@in_loop
async def test_the_slot_that_a_crashed_trial_waits_for_is_not_the_one_that_closes() -> None:
    broker = await up(2)
    await call(broker, advance(1))
    crashed = await call(broker, advance(2))
    assert await die(broker, 1) == 2
    assert await succeed(broker, 0) == 1
    await broker.release(1, wanted=1)
    assert await succeed(broker, 0) == 2
    assert await crashed == done(2)
    assert await _is_closed(broker, 1)
