"""What the workers of a slot run: build the runtime once, then carry out one order after another.

Every rank does the same; rank 0 speaks with the broker, and the others hear from it through Train's own broadcast.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import train
from ray.exceptions import RayTaskError
from ray.train.collective import broadcast_from_rank_zero

from sfd_sweep.config import SearchSpace
from sfd_sweep.errors import SweepFailed, TrialFailed, UserError
from sfd_sweep.execution.commands import Advance, Close, Command, Done, Failed, Order
from sfd_sweep.execution.slot_runtime import RunningTrial, RuntimeFactory, SlotRuntime
from sfd_sweep.storage.disk_space import is_full, out_of_space
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.report import Report


@dataclass(frozen=True)
class WorkerContext:
    """Where a worker stands: all that it is told when it starts.

    Attributes:
        broker: handle of the broker's actor.
        slot: index of the slot.
        sweep: the sweep's folder.
        build: makes the runtime.
        working_folder: the driver's, which relative paths in the search-space file start from.
    """

    broker: Any
    slot: int
    space: SearchSpace
    sweep: Folder
    build: RuntimeFactory
    working_folder: Path

    def tell(self, method: str, *arguments: object, **options: object) -> Any:
        """Call the broker about this slot, and wait for what it says."""
        return ray.get(getattr(self.broker, method).remote(self.slot, *arguments, **options))


def work(context: WorkerContext) -> None:
    """The Train loop of every rank; it ends when the slot is closed."""
    if context.working_folder.is_dir():  # else what the file names must not be relative to it
        os.chdir(context.working_folder)
    context.tell("begun", ray.get_runtime_context().get_node_id())
    runtime = _build(context)
    if runtime is None:
        return
    if _is_first():
        context.tell("ready")
    executor = CommandExecutor(runtime)
    idle_since = time.perf_counter()
    ticket = 0
    while isinstance(order := _next_order(context, ticket), Order):
        waiting = time.perf_counter() - idle_since
        _carry_out(order, waiting, executor, context)
        idle_since = time.perf_counter()
        ticket = order.ticket


class CommandExecutor:
    """A runtime, and the trial that lies on it from one command to the next."""

    def __init__(self, runtime: SlotRuntime) -> None:
        self._runtime = runtime
        self._number: int | None = None
        self._trial: RunningTrial | None = None

    def execute(self, command: Command) -> Report:
        """Do what the command says.

        Raises:
            TrialFailed: the trial is over.
        """
        if isinstance(command, Advance):
            return self._trial_of(command).advance(command.to)
        self.clear()
        return self._runtime.judge(
            command.number, command.settings, samples=command.samples, forget_samples=command.forget_samples
        )

    def clear(self) -> None:
        """Take the trial off the executor, so that its memory is free for the next."""
        self._number = self._trial = None

    def _trial_of(self, command: Advance) -> RunningTrial:
        if self._trial is None or self._number != command.number:
            self.clear()
            self._trial = self._runtime.start(command.number, command.settings)
            self._number = command.number
        return self._trial


def _build(context: WorkerContext) -> SlotRuntime | None:
    """The runtime; None if it cannot be built and the broker has given the slot up.

    Raises:
        Exception: whatever the building raised, if it is to be tried again by a new worker group.
    """
    try:
        return context.build(context.space, context.sweep)
    except UserError as error:
        context.tell("cannot_start", UserError(str(error)), for_good=True)
    except Exception as error:
        if is_full(error):
            context.tell("give_up", out_of_space(context.sweep))
        elif context.tell("cannot_start", no_slot(error), for_good=False):
            raise
    return None


def _next_order(context: WorkerContext, ticket: int) -> Order | Close:
    while True:
        order: Order | Close | None = context.tell("next_order", ticket) if _is_first() else None
        if _size() > 1:
            order = broadcast_from_rank_zero(order)
        if order is not None:
            return order


def _carry_out(order: Order, waiting_seconds: float, executor: CommandExecutor, context: WorkerContext) -> None:
    """Do what is ordered and answer.

    Raises:
        Exception: whatever the runtime raised; a new worker group tries again. If the trial has failed or the disk is
            full, only where there are other ranks, which may be waiting for this one in the middle of the trial.
    """
    try:
        report = executor.execute(order.command)
    except Exception as error:
        executor.clear()
        if not _is_settled(error, order, context) or _size() > 1:
            raise
        return
    if _is_first():
        context.tell("answer", order.ticket, Done(report, waiting_seconds))


def _is_settled(error: Exception, order: Order, context: WorkerContext) -> bool:
    """Tell the broker of an error; whether it is one that trying again is of no use against."""
    if isinstance(error, TrialFailed):
        context.tell("answer", order.ticket, Failed(str(error)))
    elif is_full(error):
        context.tell("give_up", out_of_space(context.sweep))
    else:
        context.tell("crashed", order.ticket, reason_of(error))
        return False
    return True


def no_slot(error: Exception) -> SweepFailed:
    """What a sweep ends with when its last slot could not be started."""
    return SweepFailed(f"no slot could be started: {reason_of(error)}")


def reason_of(error: Exception) -> str:
    """The error's type and the first line of its message; where Ray wraps another's error, that one's."""
    if isinstance(error, RayTaskError):
        error = error.cause
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _is_first() -> bool:
    return bool(train.get_context().get_world_rank() == 0)


def _size() -> int:
    return int(train.get_context().get_world_size())
