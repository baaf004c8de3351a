"""Slots: Ray Train runs that live as long as the sweep and carry out one command after another.

A slot's workers load the runtime once, so between two trials there is neither a process to start nor a model to load.
"""

import functools
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayError
from ray.train import ControllerError, FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from ray.util.state import list_actors

from sfd_sweep.config import SearchSpace
from sfd_sweep.errors import UserError
from sfd_sweep.execution.broker import Broker
from sfd_sweep.execution.slot_runtime import RuntimeFactory
from sfd_sweep.execution.worker import WorkerContext, no_slot, work
from sfd_sweep.storage.disk_space import is_full, out_of_space
from sfd_sweep.storage.folder import Folder

CLOSING_SECONDS = 30.0  # more than it takes idle workers to leave
IMPATIENCE_SECONDS = 1.0  # for workers that are still training, whose work since the last report is lost
EVALUATION_SECONDS = 24 * 3600  # for which the other workers may have to wait for the first, which evaluates
LOSS_SECONDS = 30.0  # within which Ray notices that a machine out of reach is gone; eight were seen
MOST_SLOTS = 10_000  # that Ray lists at once


class SlotPool:
    """The slots of a sweep, and their broker.

    Train starts a slot's workers again when one of them dies or raises; a run whose controller died is started again
    by the thread that waits for it.

    Args:
        sweep: the sweep's folder.
        build: makes a worker's runtime.
        slots: how many.
        on_fault: told, from another thread, why no slot works any more.
    """

    def __init__(
        self,
        space: SearchSpace,
        sweep: Folder,
        build: RuntimeFactory,
        slots: int,
        on_fault: Callable[[UserError], None],
    ) -> None:
        # A broker that dies is started again, and the calls that it had not answered are made again. It is on this
        # machine, with which the driver would be gone too; any other may be lost without loss to the sweep.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        broker = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)(Broker)
        self.broker = broker.remote(slots)
        self._space = space
        self._sweep = sweep
        self._build = build
        self._on_fault = on_fault
        self._closing = threading.Event()
        self._threads = [threading.Thread(target=self._keep, args=(slot,), daemon=True) for slot in range(slots)]
        for thread in self._threads:
            thread.start()

    def close(self, *, patiently: bool) -> None:
        """Close all slots, and wait for their ends; if not patiently, end what may be hours of training."""
        self._closing.set()
        self.broker.close.remote()
        if not patiently and not self._have_ended_within(IMPATIENCE_SECONDS):
            _kill_controllers()
        self._have_ended_within(CLOSING_SECONDS)

    def _have_ended_within(self, seconds: float) -> bool:
        """Wait for all slots, so long at most. A thread that is left when Ray shuts down takes the process with it."""
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _keep(self, slot: int) -> None:
        """Keep a slot's Train run going until it ends by itself, which it does when the broker has closed the slot."""
        try:
            self._run(slot)
        except Exception as error:  # in this thread nobody else would hear of it
            self._goes_on(slot, error, for_good=True)
        if not self._closing.is_set() and (fault := ray.get(self.broker.fault.remote())):
            self._on_fault(fault)

    def _run(self, slot: int) -> None:
        while not self._closing.is_set():
            try:
                self._trainer(slot).fit()
                break
            except RayError as error:  # the run's controller died
                if not self._goes_on(slot, error, for_good=False):
                    break
            except ControllerError as error:  # no worker can run at all; a second run would wait for the first's CPUs
                self._goes_on(slot, error.controller_failure, for_good=True)
                break

    def _goes_on(self, slot: int, error: Exception, *, for_good: bool) -> bool:
        if self._closing.is_set():
            return False
        fault = out_of_space(self._sweep) if is_full(error) else no_slot(error)
        return bool(ray.get(self.broker.cannot_start.remote(slot, fault, for_good=for_good)))

    def _trainer(self, slot: int) -> Any:
        resources = self._space.resources
        context = WorkerContext(self.broker, slot, self._space, self._sweep, self._build, Path.cwd())
        return _trainer_for(resources.workers_per_slot)(
            functools.partial(work, context),
            scaling_config=ScalingConfig(
                num_workers=resources.workers_per_slot,
                use_gpu=resources.gpus_per_worker > 0,
                resources_per_worker={"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker},
            ),
            run_config=RunConfig(
                name=f"slot-{slot}",
                storage_path=(self._sweep / "ray").path,
                storage_filesystem=self._sweep.filesystem,
                failure_config=FailureConfig(max_failures=-1),
                callbacks=[WorkerFailureCallback(self.broker, slot)],
            ),
        )


class WorkerFailureCallback(UserCallback):
    """Tells the broker that a slot's workers have died, and whether a machine has died under them; the run's controller
    calls it.

    Args:
        broker: handle of the broker's actor.
        slot: index of the slot.
    """

    def __init__(self, broker: Any, slot: int) -> None:
        self._broker = broker
        self._slot = slot

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:  # noqa: ARG002
        """Workers have raised, or died, and the whole group will be started anew."""
        failures = [getattr(error, "health_check_failure", None) for error in worker_exceptions.values()]
        out_of_reach = any(isinstance(failure, ActorUnavailableError) for failure in failures)
        machines = ray.get(self._broker.machines_of.remote(self._slot))
        machine_lost = _is_any_lost(machines, LOSS_SECONDS if out_of_reach else 0.0)
        ray.get(self._broker.lost.remote(self._slot, machine_lost=machine_lost))


def _is_any_lost(machines: set[str], seconds: float) -> bool:
    """Whether one of these machines is gone, by their ids, or is found to be within so many seconds."""
    end = time.monotonic() + seconds
    while not (lost := any(node["NodeID"] in machines and not node["Alive"] for node in ray.nodes())):
        if time.monotonic() > end:
            break
        time.sleep(0.2)
    return lost


def _kill_controllers() -> None:
    """End this driver's Train runs, for which Train has no call: their controllers are on this machine, and their
    workers die with them."""
    here = ray.get_runtime_context()
    mine = [("class_name", "=", "TrainController"), ("job_id", "=", here.get_job_id()), ("state", "=", "ALIVE")]
    for controller in list_actors(here.gcs_address, filters=mine, limit=MOST_SLOTS):
        with suppress(ProcessLookupError):
            os.kill(controller.pid, signal.SIGKILL)


def _trainer_for(workers: int) -> Any:
    """What makes the Train run of a slot. A process group needs torch in the run's controller too, which takes seconds
    to import: only where there is one to make."""
    if workers == 1:
        return DataParallelTrainer
    from ray.train.torch import TorchConfig, TorchTrainer

    return functools.partial(TorchTrainer, torch_config=TorchConfig(timeout_s=EVALUATION_SECONDS))
