"""The driver: from checked settings to an outcome. Starts slots, lets Tune run the trials, judges the front."""

import functools
import logging
import time
from typing import NoReturn

import ray
from ray import tune

from sfd_sweep.config import SearchSpace
from sfd_sweep.errors import Interrupted, SweepFailed, UserError
from sfd_sweep.execution.commands import Done, Failed, FinalEvaluation
from sfd_sweep.execution.event_dispatcher import TrialEventDispatcher
from sfd_sweep.execution.events import Outcome, SweepObserver, SweepRecorder, SweepStart
from sfd_sweep.execution.slot_runtime import RuntimeFactory
from sfd_sweep.execution.slots import SlotPool
from sfd_sweep.execution.stopping import Stop, StopOnError, StopWhenAsked, signals_stop
from sfd_sweep.execution.trainable import RESOURCES, SlotTrainable
from sfd_sweep.execution.tune_callback import SweepCallback
from sfd_sweep.execution.tune_scheduler import make_scheduler, recall, why_stopped
from sfd_sweep.execution.tune_searcher import StudySearch
from sfd_sweep.execution.worker import reason_of
from sfd_sweep.search.budget import used_up
from sfd_sweep.search.front import front_of
from sfd_sweep.search.records import SweepState
from sfd_sweep.search.study import SweepStudy
from sfd_sweep.storage.disk_space import is_full, out_of_space
from sfd_sweep.storage.folder import Folder

log = logging.getLogger(__name__)

ACTOR_DEATHS = 3
"""How often Tune starts a trial's actor again; the trial itself loses nothing by its death."""


class Driver:
    """Runs what is left of a sweep, once.

    Args:
        sweep: its folder.
        study: opened from that folder.
        build: makes a worker's runtime.
    """

    def __init__(
        self,
        space: SearchSpace,
        sweep: Folder,
        study: SweepStudy,
        recorder: SweepRecorder,
        observer: SweepObserver,
        build: RuntimeFactory,
    ) -> None:
        self._space = space
        self._sweep = sweep
        self._study = study
        self._recorder = recorder
        self._observer = observer
        self._build = build
        self._stop = Stop()
        self._finishing = False
        self._progress = TrialEventDispatcher(space, sweep, study, recorder, observer, self._stop)

    def run(self, slots: int, began: float, weights: str) -> Outcome:
        """Run it on so many slots; Ray is there. Without slots, only tell of it.

        Args:
            began: when this part of the sweep began, by `time.monotonic`.
            weights: most that they can take in the sweep's folder, in words.

        Raises:
            SweepFailed: no trial was completed, no slot works, or the recorder has failed.
            Interrupted: Ctrl-C was pressed, or the process was told to terminate.
            UserError: the runtime cannot be built, for a reason that the user can do something about.
        """
        study = self._study
        self._observer.sweep_started(
            SweepStart(self._space, str(self._sweep), slots, study.ended(), weights, earlier=study.earlier())
        )
        message = f"{self._space.name} was stopped; `sfd-sweep resume {self._space.name}` goes on with it"
        with signals_stop(self._stop, message), StopOnError(self._stop):
            self._progress.tell_again()
            if slots and self._stop.error is None:
                self._work(slots)
        return self._close(began)

    def _work(self, slots: int) -> None:
        """Train and judge what is left."""
        self._observer.phase("starting a slot" if slots == 1 else f"starting {slots} slots")
        scratch = self._sweep / "ray"
        scratch.delete()
        pool = SlotPool(self._space, self._sweep, self._build, slots, self._stop.request)
        self._progress.spending.start(lambda: float(ray.get(pool.broker.held_seconds.remote())))
        try:
            self._train(pool, slots)
            self._judge(pool)
            self._progress.add_seconds({"starting": ray.get(pool.broker.starting_seconds.remote())})
        finally:
            pool.close(patiently=not self._stop.now)
        if not self._stop.now:  # else workers may still be writing there
            scratch.delete()

    def _train(self, pool: SlotPool, slots: int) -> None:
        """Let Tune run the trials that have not ended."""
        if is_trained(self._space, self._study):
            return
        scheduler = make_scheduler(self._space)
        recall(scheduler, self._space, self._study.trials())
        # Nobody reads the state that Tune keeps of itself, so nobody minds if it cannot.
        logging.getLogger("ray.tune.execution.experiment_state").setLevel(logging.CRITICAL)
        tune.run(
            tune.with_parameters(SlotTrainable, broker=pool.broker, space=self._space),
            name="tune",
            storage_path=(self._sweep / "ray").path,
            storage_filesystem=self._sweep.filesystem,
            resources_per_trial=RESOURCES,
            num_samples=-1,  # the searcher says when there are no more
            max_concurrent_trials=slots,
            search_alg=StudySearch(
                self._study,
                self._progress.spending,
                self._stop,
                why_stopped=functools.partial(why_stopped, scheduler),
                say=self._observer.phase,
            ),
            scheduler=scheduler,
            callbacks=[SweepCallback(self._progress, self._stop, pool.broker)],
            stop=StopWhenAsked(self._stop, functools.partial(self._obey, pool)),
            reuse_actors=True,
            max_failures=ACTOR_DEATHS,
            raise_on_failed_trial=False,
            verbose=0,
        )

    def _judge(self, pool: SlotPool) -> None:
        """Have the trials of the front judged once more, on the final number of samples."""
        commands = [] if self._stop.error else judgements(self._space, self._study)
        if commands:
            self._observer.phase(f"judging the front on {commands[0].samples} samples")
        waiting = {pool.broker.call.remote(command): command for command in commands}
        while waiting and not self._stop.now:
            self._obey(pool)
            answered, _ = ray.wait(list(waiting), timeout=0.2)
            for reference in answered:
                number = waiting.pop(reference).number
                pool.broker.release.remote(number, wanted=max(1, len(waiting)))
                match ray.get(reference):
                    case Done(report=report, waiting_seconds=seconds):
                        self._progress.judged(number, report, seconds)
                    case Failed(reason=reason):
                        self._observer.phase(f"trial {number} could not be judged: {reason}")

    def _obey(self, pool: SlotPool) -> None:
        """Let slots and observer know of a request to stop."""
        if self._stop.now:
            pool.broker.close.remote()
        elif self._stop.error:
            pool.broker.finish.remote()
            if not self._finishing:
                self._observer.phase("finishing the evaluations that are running; Ctrl-C again stops now")
            self._finishing = True

    def _close(self, began: float) -> Outcome:
        """Tell the end."""
        error = self._stop.error
        if error is None and (reason := self._progress.hopeless()):
            error = SweepFailed(f"no trial of {self._space.name} was completed; the last ended because {reason}")
        if error:
            self._fail(out_of_space(self._sweep) if is_full(error) else error)
        self._observer.phase("writing the record")
        self._recorder.close(SweepState.COMPLETE)
        front = self._progress.front()
        outcome = Outcome(
            name=self._space.name,
            folder=str(self._sweep),
            counts=self._progress.counts(),
            front=front.numbers,
            hypervolume=front.hypervolume,
            wall_seconds=time.monotonic() - began,
            slot_seconds=self._progress.slot_seconds,
        )
        self._observer.sweep_finished(outcome)
        return outcome

    def _fail(self, error: Exception) -> NoReturn:
        """Tell that the sweep ends with an error, and raise it."""
        reason = str(error) if isinstance(error, UserError) else reason_of(error)
        self._progress.stopped(reason)
        try:
            self._recorder.close(SweepState.STOPPED if isinstance(error, Interrupted) else SweepState.FAILED, reason)
        except SweepFailed as another:
            log.warning("%s", another)
        raise error


def is_finished(space: SearchSpace, study: SweepStudy) -> bool:
    """Whether there is nothing left to train or judge."""
    return is_trained(space, study) and not judgements(space, study)


def is_trained(space: SearchSpace, study: SweepStudy) -> bool:
    """Whether there is nothing left to train: no trial runs, and the budget has no room for another."""
    return not study.running() and used_up(space.budget, study) is not None


def judgements(space: SearchSpace, study: SweepStudy) -> list[FinalEvaluation]:
    """The trials of the front that are still to be judged on the final number of samples, if the file asks for it.

    The forgotten condition gets more samples in the same proportion.
    """
    evaluation = space.evaluation
    if evaluation.final_samples is None:
        return []
    forget_samples = max(2, round(evaluation.forget_samples * evaluation.final_samples / evaluation.samples))
    judged = study.finals()
    return [
        FinalEvaluation(number, study.trial(number).settings, evaluation.final_samples, forget_samples)
        for number in front_of(space, study.trials()).numbers
        if number not in judged
    ]
