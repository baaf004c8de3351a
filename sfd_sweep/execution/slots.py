"""Slots: Ray Train runs that live as long as the sweep and execute one command after another.

A slot's workers load the runtime once, so no process starts and no model loads between two trials.
"""

import functools
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
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
from sfd_sweep.execution.worker import RuntimeFactory, WorkerContext, no_slot, work
from sfd_sweep.storage.errors import disk_full
from sfd_sweep.storage.folder import Folder

EXIT_SECONDS = 10.0  # more than idle workers need to exit; a slot that still waits for a machine never does
EXIT_NOW_SECONDS = 1.0  # for workers that are training; their work since the last report is lost
KILLED_SECONDS = 30.0  # more than a killed slot needs to end
EVALUATION_SECONDS = 24 * 3600  # for which other workers may have to wait for the first, which evaluates
NODE_LOSS_SECONDS = 30.0  # within which Ray marks an unreachable node as dead; eight were observed
MOST_CONTROLLERS = 10_000  # that Ray lists at once
CALLS, CALLS_OF_A_SLOT = 100, 10  # pending calls that the broker takes: of the driver, and of a slot and its trial


@dataclass
class SlotPool:
    """The slots of a sweep, and their broker.

    Train restarts a slot's workers when one of them dies or raises. A thread per slot waits for its run, and starts
    another when the run's controller dies.

    Attributes:
        sweep: the sweep's folder.
        build: makes a worker's runtime.
        slots: how many.
        on_failure: called, in another thread, with the reason why no slot works.
        notices: what the user should know of slots, in words.
    """

    space: SearchSpace
    sweep: Folder
    build: RuntimeFactory
    slots: int
    on_failure: Callable[[UserError], None]

    def __post_init__(self) -> None:
        # Ray restarts a dead broker and repeats the calls without a result. It runs on this machine, whose loss ends
        # the driver too; the loss of any other leaves the sweep whole.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        broker = ray.remote(
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=-1,
            scheduling_strategy=here,
            max_concurrency=CALLS + CALLS_OF_A_SLOT * self.slots,
        )(Broker)
        self.broker: Any = broker.remote(self.slots)
        self.notices: SimpleQueue[str] = SimpleQueue()
        self._closing = threading.Event()
        self._threads = [threading.Thread(target=self._keep, args=(slot,), daemon=True) for slot in range(self.slots)]
        for thread in self._threads:
            thread.start()

    def close(self, *, now: bool) -> None:
        """Close all slots, wait for their ends, and kill those that do not end.

        Args:
            now: whether workers may still be training, which may take hours.
        """
        self._closing.set()
        self.broker.close.remote()
        if not self._end_within(EXIT_NOW_SECONDS if now else EXIT_SECONDS):
            _kill_controllers()
            self._end_within(KILLED_SECONDS)

    def _end_within(self, seconds: float) -> bool:
        """Wait for the slots' threads; one that still runs when Ray shuts down would end this process with it."""
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _keep(self, slot: int) -> None:
        try:
            self._run(slot)
        except Exception as error:  # nobody else would see it in this thread
            self._should_retry(slot, error, is_final=True)
        if not self._closing.is_set():
            for notice in ray.get(self.broker.take_notices.remote()):
                self.notices.put(notice)
            if failure := ray.get(self.broker.failure.remote()):
                self.on_failure(failure)

    def _run(self, slot: int) -> None:
        """Run a slot's Train run until it ends by itself, because the broker has closed the slot."""
        while not self._closing.is_set():
            try:
                self._trainer(slot).fit()
                break
            except RayError as error:  # the run's controller died
                if not self._should_retry(slot, error, is_final=False):
                    break
            except ControllerError as error:  # no worker can run; another run would wait for the CPUs of this one
                self._should_retry(slot, error.controller_failure, is_final=True)
                break

    def _should_retry(self, slot: int, error: Exception, *, is_final: bool) -> bool:
        if self._closing.is_set():
            return False
        failure = disk_full(error, path=self.sweep.path, sweep=self.sweep.name) or no_slot(error)
        return bool(ray.get(self.broker.start_failed.remote(slot, failure, is_final=is_final)))

    def _trainer(self, slot: int) -> Any:
        resources = self.space.resources
        trainer: Any = DataParallelTrainer
        if resources.workers_per_slot > 1:  # the process group needs torch in the controller, which takes seconds
            from ray.train.torch import TorchConfig, TorchTrainer

            trainer = functools.partial(TorchTrainer, torch_config=TorchConfig(timeout_s=EVALUATION_SECONDS))
        return trainer(
            functools.partial(work, WorkerContext(self.broker, slot, self.space, self.sweep, self.build, Path.cwd())),
            scaling_config=ScalingConfig(
                num_workers=resources.workers_per_slot,
                use_gpu=resources.gpus_per_worker > 0,
                resources_per_worker={"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker},
            ),
            run_config=RunConfig(
                name=f"slot-{slot}",
                storage_path=(self.sweep / "ray").path,
                storage_filesystem=self.sweep.filesystem,
                failure_config=FailureConfig(max_failures=-1),
                callbacks=[WorkerFailureCallback(self.broker, slot)],
            ),
        )


class WorkerFailureCallback(UserCallback):
    """Reports dead workers to the broker, and whether a lost node is the reason. The run's controller calls it."""

    def __init__(self, broker: Any, slot: int) -> None:
        self._broker = broker
        self._slot = slot

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:  # noqa: ARG002
        """Handle workers that have raised or died, before the whole group is restarted."""
        failures = [getattr(error, "health_check_failure", None) for error in worker_exceptions.values()]
        unreachable = any(isinstance(failure, ActorUnavailableError) for failure in failures)
        nodes = ray.get(self._broker.nodes_of.remote(self._slot))
        node_lost = _is_any_lost(nodes, NODE_LOSS_SECONDS if unreachable else 0.0)
        ray.get(self._broker.workers_lost.remote(self._slot, node_lost=node_lost))


def _is_any_lost(nodes: set[str], seconds: float) -> bool:
    """Return whether one of the nodes, by id, is dead or is found dead within some seconds."""
    end = time.monotonic() + seconds
    while not (lost := any(node["NodeID"] in nodes and not node["Alive"] for node in ray.nodes())):
        if time.monotonic() > end:
            break
        time.sleep(0.2)
    return lost


def _kill_controllers() -> None:
    """Kill the controllers of this driver's Train runs, for which Train has no call; their workers die with them."""
    here = ray.get_runtime_context()
    mine = [("class_name", "=", "TrainController"), ("job_id", "=", here.get_job_id()), ("state", "=", "ALIVE")]
    for controller in list_actors(here.gcs_address, filters=mine, limit=MOST_CONTROLLERS):
        with suppress(ProcessLookupError):  # Train starts controllers on the driver's machine
            os.kill(controller.pid, signal.SIGKILL)
