"""Slots: Ray Train runs that live as long as the sweep and carry out one command after another.

A slot's workers load the lab once, so between two trials there is neither a process to start nor a model to load.
"""

import functools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.train import ControllerError, FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sfd_sweep.config import SearchSpace
from sfd_sweep.errors import UserError
from sfd_sweep.storage import Folder
from sfd_sweep.sweep.broker import Broker
from sfd_sweep.sweep.lab import Build
from sfd_sweep.sweep.worker import Post, no_slot, work

CLOSING_SECONDS = 30.0  # more than it takes idle workers to leave
IMPATIENCE_SECONDS = 3.0  # for workers that are still training, whose work since the last report is lost


class SlotPool:
    """The slots of a sweep, and their broker.

    Train starts a slot's workers again when one of them dies or raises; a run whose controller died is started again
    by the thread that waits for it.

    Args:
        sweep: the sweep's folder.
        build: makes a worker's lab.
        slots: how many.
        on_fault: told, from another thread, why no slot is left.
    """

    def __init__(
        self, space: SearchSpace, sweep: Folder, build: Build, slots: int, on_fault: Callable[[UserError], None]
    ) -> None:
        # Any other machine may be lost without loss to the sweep; with this one the driver would be gone too.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.broker = ray.remote(num_cpus=0, scheduling_strategy=here)(Broker).remote(slots)
        self._space = space
        self._sweep = sweep
        self._build = build
        self._on_fault = on_fault
        self._closing = threading.Event()
        self._threads = [threading.Thread(target=self._keep, args=(slot,), daemon=True) for slot in range(slots)]
        for thread in self._threads:
            thread.start()

    def close(self, *, patiently: bool) -> None:
        """Close all slots, and wait for their ends, but not for what may be hours of training."""
        self._closing.set()
        self.broker.close.remote()
        end = time.monotonic() + (CLOSING_SECONDS if patiently else IMPATIENCE_SECONDS)
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _keep(self, slot: int) -> None:
        """Keep a slot's Train run going until it ends by itself, which it does when the broker has closed the slot."""
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
        if not self._closing.is_set() and (fault := ray.get(self.broker.fault.remote())):
            self._on_fault(fault)

    def _goes_on(self, slot: int, error: Exception, *, for_good: bool) -> bool:
        if self._closing.is_set():
            return False
        return bool(ray.get(self.broker.cannot_start.remote(slot, no_slot(error), for_good=for_good)))

    def _trainer(self, slot: int) -> Any:
        resources = self._space.resources
        post = Post(self.broker, slot, self._space, self._sweep, self._build, Path.cwd())
        return _trainer_class(resources.workers_per_slot)(
            functools.partial(work, post),
            scaling_config=ScalingConfig(
                num_workers=resources.workers_per_slot,
                use_gpu=resources.gpus_per_worker > 0,
                resources_per_worker={"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker},
            ),
            run_config=RunConfig(
                name=f"slot-{slot}",
                storage_path=(self._sweep / "ray").path,
                failure_config=FailureConfig(max_failures=-1),
                callbacks=[TellOfLoss(self.broker, slot)],
            ),
        )


class TellOfLoss(UserCallback):
    """Tells the broker that a slot's workers have died; the run's controller calls it.

    Args:
        broker: handle of the broker's actor.
        slot: index of the slot.
    """

    def __init__(self, broker: Any, slot: int) -> None:
        self._broker = broker
        self._slot = slot

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:  # noqa: ARG002
        """Workers have raised, or died, and the whole group will be started anew."""
        ray.get(self._broker.lost.remote(self._slot))


def _trainer_class(workers: int) -> Any:
    """A process group needs torch in the run's controller too, which takes seconds to import: only where there is one
    to make."""
    if workers == 1:
        return DataParallelTrainer
    from ray.train.torch import TorchTrainer

    return TorchTrainer
