"""Adapters between Ray Tune and the sweep: the study as a searcher, the file's scheduler, callback and stopper.

Tune's own OptunaSearch is wrong under several objectives: it records a trial that was stopped early as complete, with
half-trained values, and leaves one with a missing metric running for ever.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ray.tune import Callback, Stopper
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from sfd_sweep.config import AshaScheduler, MultiObjectiveAshaScheduler, NoScheduler, SearchSpace
from sfd_sweep.execution.event_dispatcher import TrialEventDispatcher
from sfd_sweep.execution.stopping import Stop
from sfd_sweep.execution.trainable import tune_result
from sfd_sweep.search.budget import BudgetTracker
from sfd_sweep.search.halving import MultiObjectiveHalving
from sfd_sweep.search.study import NothingNew, SweepStudy
from sfd_sweep.search.trial import Trial
from sfd_sweep.trial.report import Report, TrialState

ACTOR_RESTARTS = 3
"""How often Tune restarts a trial's actor; its death costs the trial nothing."""


class StudySearch(Searcher):
    """Suggests the study's running trials, then new ones, and records in the study how each has ended.

    There are no new trials once the budget is used up or the sweep stops. Running trials continue in the former case;
    in the latter they stay running in the study.

    Args:
        why_stopped: returns why the scheduler stopped a trial, by Tune's id; None if unknown.
        say: called with a text when there are no more trials, or with a repeated proposal.
    """

    def __init__(
        self,
        study: SweepStudy,
        budget: BudgetTracker,
        stop: Stop,
        *,
        why_stopped: Callable[[str], str | None],
        say: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._study = study
        self._budget = budget
        self._stop = stop
        self._why_stopped = why_stopped
        self._say = say
        self._unfinished = study.running()
        self._has_ended = False
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next trial's number and settings; None while users may still add some; or `FINISHED`."""
        number = None
        if self._stop.error is None:
            with self._stop.on_error():
                number = self._next()
        if number is None:
            return None if self._numbers and self._stop.error is None else str(self.FINISHED)
        self._numbers[trial_id] = number
        return {"number": number, "settings": self._study.trial(number).settings.model_dump()}

    def _next(self) -> int | None:
        if self._unfinished:
            return self._unfinished.pop(0)
        try:
            return self._study.ask(only_added=self._is_over())
        except NothingNew:
            if not self._has_ended:
                self._end_search("no new trial: the sampler proposes nothing that has not been tried")
            return None
        finally:
            for repeat in self._study.take_repeats():
                self._say(repeat)

    def _is_over(self) -> bool:
        """Return whether only settings that users add are still to be tried."""
        if not self._has_ended and (limit := self._budget.used_up()):
            self._end_search(f"the budget of {limit} is used up; running trials continue to their end")
        return self._has_ended

    def _end_search(self, reason: str) -> None:
        self._has_ended = True
        self._say(reason)

    def is_stopping(self, trial_id: str) -> bool:
        """Return whether the user has stopped a trial, by Tune's id."""
        number = self._numbers.get(trial_id)
        return number in self._study.running() and self._study.is_stopping(number)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Record a trial's end in the study."""
        number = self._numbers.pop(trial_id)
        with self._stop.on_error():
            self._end(number, trial_id, result if not error else None)

    def _end(self, number: int, trial_id: str, result: dict[str, Any] | None) -> None:
        if result is None:
            self._study.fail(
                number, f"its Tune actor died more than {ACTOR_RESTARTS} times; see Ray's logs on the driver's machine"
            )
        elif "failure" in result:
            self._study.fail(number, result["failure"])
        elif "stopped" not in result:
            self._study.end(number, self._why_stopped(trial_id))

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the study is in storage already."""


class _Resumable(TrialScheduler):
    """A scheduler that records the earlier results of a resumed trial without deciding on them again: the trial passed
    those rungs, whatever other trials have reported since."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.earlier: dict[int, list[dict[str, Any]]] = {}
        """Results of trials that will be resumed, by number."""
        self.reasons: dict[str, str] = {}
        """Why trials were stopped, by Tune's ids, if the scheduler gives reasons."""

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Add a trial, with its earlier results."""
        super().on_trial_add(tune_controller, trial)
        for result in self.earlier.pop(trial.config.get("number"), []):
            self.on_trial_result(tune_controller, trial, result)


class _CombinedScoreAsha(_Resumable, ASHAScheduler):
    """Tune's ASHA on the combined score."""


class MultiObjectiveAsha(_Resumable, FIFOScheduler):
    """Multi-objective successive halving as a scheduler of Tune's."""

    def __init__(self, halving: MultiObjectiveHalving) -> None:
        super().__init__()
        self._halving = halving

    def on_trial_result(self, _tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide whether the trial continues."""
        report = Report.from_json(result["report"])
        reason = self._halving.decide(trial.trial_id, report.step, report.metrics)
        if reason is None:
            return str(TrialScheduler.CONTINUE)
        self.reasons[trial.trial_id] = reason
        return str(TrialScheduler.STOP)


def make_scheduler(space: SearchSpace) -> TrialScheduler:
    """Return the file's scheduler, which decides on `tune_result`."""
    match space.search.scheduler:
        case AshaScheduler() as chosen:
            grace, *_ = *chosen.rungs(space.trial.milestones()), space.trial.steps
            return _CombinedScoreAsha(
                time_attr="step",
                metric="score",
                mode="min",
                max_t=space.trial.steps,
                grace_period=grace,
                reduction_factor=chosen.reduction_factor,
            )
        case MultiObjectiveAshaScheduler() as chosen:
            return MultiObjectiveAsha(MultiObjectiveHalving(space, chosen))
        case NoScheduler():
            return FIFOScheduler()


def why_stopped(scheduler: TrialScheduler, trial_id: str) -> str | None:
    """Return why the scheduler stopped a trial, by Tune's id, if it gives reasons."""
    return scheduler.reasons.get(trial_id) if isinstance(scheduler, _Resumable) else None


@dataclass(frozen=True)
class PastTrial:
    """A trial of an earlier part of the sweep, with the attributes that schedulers use."""

    trial_id: str
    config: Mapping[str, Any] = field(default_factory=dict)


def replay(scheduler: TrialScheduler, space: SearchSpace, trials: Sequence[Trial]) -> None:
    """Pass earlier reports to a new scheduler, so that it ranks new ones against them."""
    for trial in trials:
        results = [tune_result(report, space) for report in trial.reports]
        if trial.state is TrialState.RUNNING:
            if isinstance(scheduler, _Resumable):
                scheduler.earlier[trial.number] = results
        elif results:
            past = PastTrial(f"past-{trial.number}")
            scheduler.on_trial_add(None, past)
            for result in results:
                scheduler.on_trial_result(None, past, result)
            scheduler.on_trial_complete(None, past, results[-1])


class SweepCallback(Callback):
    """Passes Tune's events to the dispatcher, and releases the slot of a trial that has ended.

    At a trial's end Tune calls the searcher first, so the study already has its state.

    Args:
        broker: handle of the broker's actor.
    """

    def __init__(self, dispatcher: TrialEventDispatcher, stop: Stop, broker: Any) -> None:
        self._dispatcher = dispatcher
        self._stop = stop
        self._broker = broker

    def on_trial_start(self, *, trial: TuneTrial, **_: Any) -> None:
        """Handle a trial whose actor has started."""
        with self._stop.on_error():
            self._dispatcher.started(trial.config["number"])

    def on_trial_result(self, *, trial: TuneTrial, result: dict[str, Any], **_: Any) -> None:
        """Handle an evaluation."""
        if "report" in result:
            with self._stop.on_error():
                self._dispatcher.reported(trial.config["number"], Report.from_json(result["report"]))

    def on_trial_complete(self, *, trial: TuneTrial, **_: Any) -> None:
        """Handle a trial that has ended, unless it stops with the sweep: then the study still has it running."""
        number = trial.config["number"]
        if number in self._dispatcher.study.running():
            return
        with self._stop.on_error():
            self._dispatcher.ended(number)
            # One slot stays open for the final evaluation.
            self._broker.release.remote(number, wanted=max(1, self._dispatcher.budget.still_to_end()))

    def on_trial_error(self, *, trial: TuneTrial, **_: Any) -> None:
        """Handle a trial whose actor died too often."""
        self.on_trial_complete(trial=trial)


class SweepStopper(Stopper):
    """Ends Tune's run when a stop at once is requested, and the trials that the user stops.

    Args:
        is_stopping: returns whether the user has stopped a trial, by Tune's id.
        poll: called again and again, to pass requests on to the slots.
    """

    def __init__(self, stop: Stop, is_stopping: Callable[[str], bool], poll: Callable[[], None]) -> None:
        self._stop = stop
        self._is_stopping = is_stopping
        self._poll = poll

    def __getstate__(self) -> dict[str, object]:
        """Return nothing: Tune writes its state to disk, where nobody reads it."""
        return {}

    def __call__(self, trial_id: str, _result: dict[str, object]) -> bool:
        """Return whether a trial that has reported ends here."""
        return self._is_stopping(trial_id)

    def stop_all(self) -> bool:
        """Return whether to stop the run."""
        self._poll()
        return self._stop.now
