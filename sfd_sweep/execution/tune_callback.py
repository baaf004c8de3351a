"""Tune's events on their way to the progress, and slots on their way back to the broker."""

from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from sfd_sweep.execution.event_dispatcher import TrialEventDispatcher
from sfd_sweep.execution.stopping import Stop, StopOnError
from sfd_sweep.trial.report import Report


class SweepCallback(Callback):
    """Tells the progress what Tune hears from trials, and frees the slot of a trial that has ended.

    At a trial's end Tune calls the searcher first, so the study knows by then how it has ended.

    Args:
        broker: handle of the broker's actor.
    """

    def __init__(self, progress: TrialEventDispatcher, stop: Stop, broker: Any) -> None:
        self._progress = progress
        self._stop = stop
        self._broker = broker

    def on_trial_start(self, *, trial: Trial, **_: Any) -> None:
        """The trial's actor is up."""
        with StopOnError(self._stop):
            self._progress.started(trial.config["number"])

    def on_trial_result(self, *, trial: Trial, result: dict[str, Any], **_: Any) -> None:
        """The trial was evaluated, or has failed."""
        if "report" in result:
            with StopOnError(self._stop):
                report = Report.from_json(result["report"])
                self._progress.reported(trial.config["number"], report, result["waiting_seconds"])

    def on_trial_complete(self, *, trial: Trial, **_: Any) -> None:
        """The trial has ended, or stops with the sweep; then the study has it running still."""
        number = trial.config["number"]
        if number in self._progress.study.running():
            return
        with StopOnError(self._stop):
            self._progress.ended(number)
            # One slot stays open to judge the front.
            self._broker.release.remote(number, wanted=max(1, self._progress.spending.still_to_end()))

    def on_trial_error(self, *, trial: Trial, **_: Any) -> None:
        """The trial's actor died too often."""
        self.on_trial_complete(trial=trial)
