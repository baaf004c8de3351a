"""The driver: starts slots, lets Tune run the trials, evaluates the front, and reports the outcome."""

import functools
import logging
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import ray
from ray import tune

from sfd_sweep.config import SearchSpace
from sfd_sweep.errors import Interrupted, SweepFailed, UserError
from sfd_sweep.execution.commands import Failure, FinalEvaluation, Result, SwapEvaluation
from sfd_sweep.execution.event_dispatcher import TrialEventDispatcher
from sfd_sweep.execution.events import Outcome, SweepObserver, SweepStart
from sfd_sweep.execution.slots import SlotPool
from sfd_sweep.execution.stopping import Stop
from sfd_sweep.execution.trainable import RESOURCES, SlotTrainable
from sfd_sweep.execution.tune import (
    ACTOR_RESTARTS,
    StudySearch,
    SweepCallback,
    SweepStopper,
    make_scheduler,
    replay,
    why_stopped,
)
from sfd_sweep.execution.worker import RuntimeFactory, reason_of
from sfd_sweep.search.budget import HeldSeconds, used_up
from sfd_sweep.search.pareto import searched_front
from sfd_sweep.search.records import SweepState
from sfd_sweep.search.requests import SweepStop, carry_out
from sfd_sweep.search.study import SweepStudy
from sfd_sweep.storage.errors import disk_full
from sfd_sweep.storage.folder import Folder
from sfd_sweep.tracking.recorder import MlflowRecorder
from sfd_sweep.trial.files import read_swap
from sfd_sweep.trial.resolve import ResolvedSweep

log = logging.getLogger(__name__)

LOOK_SECONDS = 3.0
"""Between two looks for requests in the sweep's folder."""


@dataclass
class Driver:
    """Runs the remaining part of a sweep, once.

    Attributes:
        plan: the resolved sweep.
        sweep: the sweep's folder.
        study: opened from that folder.
        build: makes a worker's runtime.
    """

    plan: ResolvedSweep
    sweep: Folder
    study: SweepStudy
    recorder: MlflowRecorder
    observer: SweepObserver
    build: RuntimeFactory

    def __post_init__(self) -> None:
        self.space = self.plan.space
        self._stop = Stop()
        self._next_look = 0.0
        self._finishing = False
        self._dispatcher = TrialEventDispatcher(
            self.space, self.sweep, self.study, self.recorder, self.observer, self._stop
        )

    def run(self, slots: int, began: float) -> Outcome:
        """Run the sweep on a number of slots; Ray is initialized. Without slots, only replay its events.

        Args:
            began: start of this part of the sweep, by `time.monotonic`.

        Raises:
            SweepFailed: no trial was completed, no slot works, or the recorder has failed.
            Interrupted: Ctrl-C was pressed, or the process was told to terminate.
            UserError: the runtime cannot be built, for a reason that the user can act on.
        """
        name, study, weights = self.space.name, self.study, self.plan.weights_in_words(slots)
        self.observer.sweep_started(
            SweepStart(self.space, str(self.sweep), slots, study.ended(), weights, earlier=study.earlier())
        )
        message = f"{name} was stopped; `sfd-sweep resume {name}` continues it"
        with self._stop.on_signals(message), self._stop.on_error():
            self._dispatcher.replay()
            if slots and self._stop.error is None:
                self._work(slots)
        return self._close(began)

    def _work(self, slots: int) -> None:
        self.observer.phase("starting a slot" if slots == 1 else f"starting {slots} slots")
        scratch = self.sweep / "ray"
        scratch.delete()
        pool = SlotPool(self.space, self.sweep, self.build, slots, self._stop.request)
        self._dispatcher.budget.start(lambda: cast("HeldSeconds", ray.get(pool.broker.held_seconds.remote())))
        try:
            self._train_and_evaluate(pool, slots)
            self._dispatcher.add_seconds({"starting": ray.get(pool.broker.starting_seconds.remote())})
        finally:
            pool.close(now=self._stop.now)
        if not self._stop.now:  # else workers may still be writing there
            scratch.delete()

    def _train_and_evaluate(self, pool: SlotPool, slots: int) -> None:
        """Train and evaluate what is left, then what users have added meanwhile."""
        while True:
            if not is_trained(self.space, self.study):
                self._train(pool, slots)
            self._evaluate(pool)
            self._take_requests()
            if self._stop.error or not self.study.queued():
                return

    def _train(self, pool: SlotPool, slots: int) -> None:
        """Let Tune run the trials that have not ended."""
        scheduler = make_scheduler(self.space)
        replay(scheduler, self.space, self.study.trials())
        search = StudySearch(
            self.study,
            self._dispatcher.budget,
            self._stop,
            why_stopped=functools.partial(why_stopped, scheduler),
            say=self.observer.phase,
        )
        # Tune warns when it cannot save its own state, which nobody reads.
        logging.getLogger("ray.tune.execution.experiment_state").setLevel(logging.CRITICAL)
        tune.run(
            tune.with_parameters(SlotTrainable, broker=pool.broker, space=self.space),
            name="tune",
            storage_path=(self.sweep / "ray").path,
            storage_filesystem=self.sweep.filesystem,
            resources_per_trial=RESOURCES,
            num_samples=-1,  # until the searcher finishes
            max_concurrent_trials=slots,
            search_alg=search,
            scheduler=scheduler,
            callbacks=[SweepCallback(self._dispatcher, self._stop, pool.broker)],
            stop=SweepStopper(self._stop, search.is_stopping, functools.partial(self._look_around, pool)),
            reuse_actors=True,
            max_failures=ACTOR_RESTARTS,
            raise_on_failed_trial=False,
            verbose=0,
        )

    def _evaluate(self, pool: SlotPool) -> None:
        """Run the final evaluation of the trials on the front, and evaluate the null baseline."""
        commands = [] if self._stop.error else evaluations(self.plan, self.sweep, self.study)
        if finals := [command for command in commands if isinstance(command, FinalEvaluation)]:
            self.observer.phase(f"final evaluation of the front on {finals[0].samples} samples")
        elif commands:
            self.observer.phase("evaluation of the null baseline")
        waiting = deque(commands)
        calls: dict[Any, SwapEvaluation | FinalEvaluation] = {}
        while (waiting or calls) and not self._stop.now:
            while waiting and len(calls) < pool.slots:  # the broker has room for no more than some calls a slot
                command = waiting.popleft()
                calls[pool.broker.call.remote(command)] = command
            self._look_around(pool)
            done, _ = ray.wait(list(calls), timeout=0.2)
            for call in done:
                command, result = calls.pop(call), ray.get(call)
                pool.broker.release.remote(command.number, wanted=max(1, len(calls) + len(waiting)))
                if result is not None:
                    self._evaluated(command, result)

    def _evaluated(self, command: SwapEvaluation | FinalEvaluation, result: Result) -> None:
        """Take the result of an evaluation after training."""
        is_swap = isinstance(command, SwapEvaluation)
        if isinstance(result, Failure):
            what = "evaluation of the null baseline" if is_swap else f"final evaluation of trial {command.number}"
            self.observer.phase(f"{what} failed: {result.reason}")
        elif is_swap:
            self._dispatcher.swap_reported(result)
        else:
            self._dispatcher.final_reported(command.number, result)

    def _look_around(self, pool: SlotPool) -> None:
        """Show what the user should know of slots, take requests every few seconds, and pass a request to stop on."""
        while not pool.notices.empty():
            self.observer.note(pool.notices.get())
        if time.monotonic() >= self._next_look and not self._stop.now:
            with self._stop.on_error():
                self._take_requests()
            self._next_look = time.monotonic() + LOOK_SECONDS
        self._pass_on_stop(pool)

    def _take_requests(self) -> None:
        """Carry out what users have requested; while the storage does not answer, requests wait there."""
        with suppress(OSError):
            for request in carry_out(self.sweep, self.study):
                self.observer.phase(request.in_words())
                if isinstance(request, SweepStop):
                    name = self.space.name
                    message = f"{name} was stopped by `sfd-sweep stop`; `sfd-sweep resume {name}` continues it"
                    self._stop.request(Interrupted(message), now=request.now)

    def _pass_on_stop(self, pool: SlotPool) -> None:
        """Pass a request to stop on to the slots and the observer."""
        if self._stop.now:
            pool.broker.close.remote()
        elif self._stop.error:
            pool.broker.finish.remote()
            if not self._finishing:
                self.observer.phase("running trials continue to their next evaluation; Ctrl-C again stops now")
            self._finishing = True

    def _close(self, began: float) -> Outcome:
        """Record and show the end of the sweep, whatever it is."""
        name, dispatcher = self.space.name, self._dispatcher
        error = self._stop.error
        if error is None and (reason := dispatcher.why_none_completed()):
            error = SweepFailed(f"no trial of {name} was completed: {reason}")
        if error:
            self._fail(disk_full(error, path=self.sweep.path, sweep=self.sweep.name) or error)
        self.observer.phase("writing the record")
        self.recorder.close(SweepState.COMPLETE)
        outcome = Outcome(
            name=name,
            folder=str(self.sweep),
            counts=dispatcher.counts(),
            front=dispatcher.front.numbers,
            hypervolume=dispatcher.front.hypervolume,
            wall_seconds=time.monotonic() - began,
            slot_seconds=dispatcher.slot_seconds,
        )
        self.observer.sweep_finished(outcome)
        return outcome

    def _fail(self, error: Exception) -> NoReturn:
        reason = str(error) if isinstance(error, UserError) else reason_of(error)
        self._dispatcher.stopped(reason)
        try:
            self.recorder.close(SweepState.STOPPED if isinstance(error, Interrupted) else SweepState.FAILED, reason)
        except SweepFailed as another:
            log.warning("%s", another)
        raise error


def is_finished(plan: ResolvedSweep, sweep: Folder, study: SweepStudy) -> bool:
    """Return whether nothing is left to train or evaluate."""
    return is_trained(plan.space, study) and not evaluations(plan, sweep, study)


def is_trained(space: SearchSpace, study: SweepStudy) -> bool:
    """Return whether no trial is running, none is added by users, and the budget has no room for another."""
    return not study.running() and not study.queued() and used_up(space.budget, study) is not None


def evaluations(plan: ResolvedSweep, sweep: Folder, study: SweepStudy) -> list[SwapEvaluation | FinalEvaluation]:
    """Return the outstanding evaluations of a trained sweep: of the null baseline if there is one, and of the front."""
    counts = plan.space.evaluation
    has_swap = plan.has_swap and not read_swap(sweep)
    swap = [SwapEvaluation(counts.samples, counts.forget_samples)] if has_swap else []
    return [*swap, *final_evaluations(plan.space, study)]


def final_evaluations(space: SearchSpace, study: SweepStudy) -> list[FinalEvaluation]:
    """Return the outstanding final evaluations of trials on the searched front, if the file asks for any.

    The forgotten condition gets more samples in the same proportion.
    """
    evaluation = space.evaluation
    if evaluation.final_samples is None:
        return []
    forget_samples = max(2, round(evaluation.forget_samples * evaluation.final_samples / evaluation.samples))
    return [
        FinalEvaluation(trial.number, trial.settings, evaluation.final_samples, forget_samples)
        for trial in searched_front(space, study.trials())
        if not trial.final
    ]
