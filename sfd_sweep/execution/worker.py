"""Code of a slot's workers: build the runtime once, then execute one command after another.

All ranks do the same; rank 0 calls the broker, and the others receive assignments through Train's broadcast.
"""

import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import ray
from ray import train
from ray.exceptions import RayTaskError
from ray.train.collective import broadcast_from_rank_zero

from sfd_sweep.config import REFERENCES, SearchSpace, Settings
from sfd_sweep.errors import SweepFailed, TrialFailed, UserError
from sfd_sweep.execution.commands import Advance, Assignment, CloseSlot, Command, Failure, SwapEvaluation
from sfd_sweep.storage.errors import disk_full
from sfd_sweep.storage.folder import Folder
from sfd_sweep.storage.output import output_to
from sfd_sweep.trial.files import trial_folder
from sfd_sweep.trial.logs import trial_logs
from sfd_sweep.trial.report import Report


class RunningTrial(Protocol):
    """A trial in a worker's memory."""

    def advance(self, to: int) -> Report:
        """Train up to a step, evaluate and save; return at once if that step has a report.

        Raises:
            TrialFailed: the trial has failed, and would fail again.
        """


class SlotRuntime(Protocol):
    """What a worker loads once and runs trials with. It knows no Ray; all workers of a slot make the same calls."""

    def start_trial(self, settings: Settings, folder: Folder) -> RunningTrial:
        """Return a trial in the state that its folder holds."""

    def evaluate_final(self, settings: Settings, folder: Folder, *, samples: int, forget_samples: int) -> Report:
        """Evaluate a trial's last generator."""

    def evaluate_swap(self, *, samples: int, forget_samples: int) -> Report:
        """Evaluate the null baseline; only where the start is a one-step generator."""


RuntimeFactory = Callable[[SearchSpace, Folder], SlotRuntime]
"""Makes a worker's runtime from the search space and the sweep's folder; it must be importable on the worker's node."""


def build_runtime(space: SearchSpace, sweep: Folder) -> SlotRuntime:
    """Load teacher, start and evaluator, and draw the start's samples for the sweep's page.

    Raises:
        UserError: a model is broken.
    """
    from sfd_sweep.trial.runner import TrialContext  # imports torch, which the driver does not need

    context = TrialContext.of_worker(space, sweep.parent / REFERENCES)
    context.draw_start(sweep)
    return context


@dataclass(frozen=True)
class WorkerContext:
    """Context passed to every worker at start-up.

    Attributes:
        broker: handle of the broker's actor.
        slot: index of the slot.
        sweep: the sweep's folder.
        build: makes the runtime.
        working_folder: the driver's, where relative paths in the search-space file start.
    """

    broker: Any
    slot: int
    space: SearchSpace
    sweep: Folder
    build: RuntimeFactory
    working_folder: Path

    def call(self, method: str, *arguments: object, **options: object) -> Any:
        """Call a method of the broker for this slot, and return its result."""
        return ray.get(getattr(self.broker, method).remote(self.slot, *arguments, **options))


def work(context: WorkerContext) -> None:
    """Run the Train loop of a rank until the slot is closed."""
    if context.working_folder.is_dir():  # else the file must not contain relative paths
        os.chdir(context.working_folder)
    context.call("worker_started", ray.get_runtime_context().get_node_id())
    runtime = _build(context)
    if runtime is None:
        return
    if _is_first():
        context.call("slot_ready")
    executor = CommandExecutor(runtime, context.sweep)
    ticket = 0
    idle_since = time.perf_counter()
    while isinstance(assignment := _next_assignment(context, ticket), Assignment):
        waiting = time.perf_counter() - idle_since
        _execute(assignment, waiting, executor, context)
        idle_since = time.perf_counter()
        ticket = assignment.ticket


class CommandExecutor:
    """Executes commands with a runtime, and keeps the present trial in memory between them."""

    def __init__(self, runtime: SlotRuntime, sweep: Folder) -> None:
        self._runtime = runtime
        self._sweep = sweep
        self._number: int | None = None
        self._trial: RunningTrial | None = None

    def execute(self, command: Command) -> Report:
        """Execute a command; see `RunningTrial.advance` for the errors."""
        if isinstance(command, SwapEvaluation):
            self.clear()
            return self._runtime.evaluate_swap(samples=command.samples, forget_samples=command.forget_samples)
        folder = trial_folder(self._sweep, command.number)
        if isinstance(command, Advance):
            if self._trial is None or self._number != command.number:
                self.clear()
                self._trial = self._runtime.start_trial(command.settings, folder)
                self._number = command.number
            return self._trial.advance(command.to)
        self.clear()
        return self._runtime.evaluate_final(
            command.settings, folder, samples=command.samples, forget_samples=command.forget_samples
        )

    def clear(self) -> None:
        """Free the trial's memory."""
        self._number = self._trial = None


def _build(context: WorkerContext) -> SlotRuntime | None:
    """Return the runtime; None if it cannot be built and the broker has closed the slot.

    Raises:
        Exception: building has failed, and a new worker group is to try again.
    """
    try:
        return _built(context)
    except UserError as error:
        context.call("start_failed", UserError(str(error)), is_final=True)
    except Exception as error:
        if full := disk_full(error, path=context.sweep.path, sweep=context.sweep.name):
            context.call("abort", full)
        elif context.call("start_failed", no_slot(error), is_final=False):
            raise
    return None


def _built(context: WorkerContext) -> SlotRuntime:
    """Build the runtime, with the output of that in a file."""
    with output_to(trial_logs(context.sweep, -1), f"slot-{context.slot}-worker-{_rank()}.log"), _printed_errors():
        return context.build(context.space, context.sweep)


def _executed(assignment: Assignment, executor: CommandExecutor, context: WorkerContext) -> Report:
    """Execute an assignment, with the output of that in a file of its trial."""
    command = assignment.command
    what = f"training to step {command.to}" if isinstance(command, Advance) else "evaluation"
    name = f"{'null-baseline-' if command.number < 0 else ''}worker-{_rank()}.log"
    with output_to(trial_logs(context.sweep, command.number), name), _printed_errors():
        print(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC {what}", flush=True)
        return executor.execute(command)


@contextmanager
def _printed_errors() -> Iterator[None]:
    try:
        yield
    except Exception:
        traceback.print_exc()
        raise


def _next_assignment(context: WorkerContext, ticket: int) -> Assignment | CloseSlot:
    while True:
        found: Assignment | CloseSlot | None = context.call("next_assignment", ticket) if _is_first() else None
        if _size() > 1:
            found = broadcast_from_rank_zero(found)
        if found is not None:
            return found


def _execute(assignment: Assignment, waiting: float, executor: CommandExecutor, context: WorkerContext) -> None:
    """Execute an assignment and return its result to the broker.

    Raises:
        Exception: an unexpected error; a new worker group tries again. Where there are other ranks, a failed trial or a
            full disk raises too, since they may be waiting for this rank in the middle of the trial.
    """
    try:
        with _limited(context, assignment):
            report = _executed(assignment, executor, context)
    except Exception as error:
        executor.clear()
        if not _report_error(error, assignment, context) or _size() > 1:
            raise
        return
    if _is_first():
        report = replace(report, seconds=report.seconds | {"waiting": waiting})
        context.call("complete", assignment.ticket, report)


@contextmanager
def _limited(context: WorkerContext, assignment: Assignment) -> Iterator[None]:
    """End this process if the block takes longer than the search space allows; another worker group tries again."""
    hours = context.space.trial.interval_hours
    if hours is None:
        yield
        return

    def end() -> None:
        context.call("worker_crashed", assignment.ticket, f"it took longer than trial.interval_hours ({hours:g})")
        os._exit(1)

    timer = threading.Timer(hours * 3600, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _report_error(error: Exception, assignment: Assignment, context: WorkerContext) -> bool:
    """Report an error to the broker; return whether a retry is pointless."""
    if isinstance(error, TrialFailed):
        context.call("complete", assignment.ticket, Failure(str(error)))
    elif full := disk_full(error, path=context.sweep.path, sweep=context.sweep.name):
        context.call("abort", full)
    else:
        context.call("worker_crashed", assignment.ticket, reason_of(error))
        return False
    return True


def no_slot(error: Exception) -> SweepFailed:
    """Return what a sweep ends with when its last slot could not be started."""
    return SweepFailed(
        f"no slot could be started: {reason_of(error)}; `sfd-sweep doctor FILE` with the same --address checks the "
        "cluster"
    )


def reason_of(error: Exception) -> str:
    """Return an error's type and the first line of its message; of the cause, where Ray wraps it."""
    if isinstance(error, RayTaskError):
        error = error.cause
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _rank() -> int:
    return int(train.get_context().get_world_rank())


def _is_first() -> bool:
    return _rank() == 0


def _size() -> int:
    return int(train.get_context().get_world_size())
