"""What is known of a running sweep, and the telling of it: the study first, then the recorder and the observer."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from sfd_sweep.config import SearchSpace
from sfd_sweep.errors import SweepFailed
from sfd_sweep.execution.checkpoint_retention import CheckpointRetention
from sfd_sweep.execution.events import SweepObserver, SweepRecorder
from sfd_sweep.execution.stopping import Stop
from sfd_sweep.search.budget import BudgetTracker
from sfd_sweep.search.front import Front, front_of
from sfd_sweep.search.study import StudyTrial, SweepStudy
from sfd_sweep.storage.folder import Folder
from sfd_sweep.trial.report import Report, TrialState

SLOT_SECONDS = ("starting", "training", "evaluating", "saving", "waiting", "judging")


class TrialEventDispatcher:
    """Takes what happens in a sweep, keeps it and tells of it. Hearing of the same thing twice changes nothing.

    Args:
        sweep: the sweep's folder.
        stop: asked to stop the sweep when its first trials all fail.
    """

    def __init__(
        self,
        space: SearchSpace,
        sweep: Folder,
        study: SweepStudy,
        recorder: SweepRecorder,
        observer: SweepObserver,
        stop: Stop,
    ) -> None:
        self.study = study
        self.spending = BudgetTracker(space, study)
        self.slot_seconds = dict.fromkeys(SLOT_SECONDS, 0.0)
        self._space = space
        self._recorder = recorder
        self._observer = observer
        self._stop = stop
        self._weights = CheckpointRetention(space, sweep)
        self._started: set[int] = set()
        self._front = Front((), 0.0)
        self._failures = 0

    def tell_again(self) -> None:
        """Tell all that the study knows from an earlier part of the sweep, whether or not it was told then.

        Weights that the front has no place for are removed, should the earlier part not have come to it.
        """
        trials = self.study.trials()
        for trial in trials:
            self._tell_started(trial)
            for reported in trial.reports:
                self._tell_report(trial.number, reported.report, reported.waiting_seconds)
            if trial.state is not TrialState.RUNNING:
                self._tell_ended(trial)
        self._front = front_of(self._space, trials)
        if self.study.ended():
            self._weights.find(trial.number for trial in trials if trial.state is not TrialState.RUNNING)
            self._weights.keep_only(self._tell_front().numbers)
        for number, report in self.study.finals().items():
            self._tell_judged(number, report)

    def started(self, number: int) -> None:
        """A trial is on its way to a slot."""
        if number not in self._started:
            self._tell_started(self.study.trial(number))

    def reported(self, number: int, report: Report, waiting_seconds: float) -> None:
        """A trial has been evaluated."""
        with self.study.at_once():
            is_new = self.study.report(number, report, waiting_seconds)
            self.spending.keep()
        if is_new:
            self.add_seconds(report.seconds | {"waiting": waiting_seconds})
            self._tell_report(number, report, waiting_seconds)

    def ended(self, number: int) -> None:
        """A trial has ended, as the study has heard. Weights that the front has no place for, or no longer, go."""
        self.spending.keep()
        trial = self.study.trial(number)
        self._tell_ended(trial)
        # What is dominated stays so: nobody else can have come to the front.
        self._front = front_of(self._space, [*map(self.study.trial, self._front.numbers), trial])
        self._weights.end(number)
        self._weights.keep_only(self._tell_front().numbers)
        if trial.state is TrialState.FAILED:
            self._failures += 1
            self._stop_if_hopeless()

    def judged(self, number: int, report: Report, waiting_seconds: float) -> None:
        """A trial of the front has been evaluated on the final number of samples."""
        self.study.judge(number, report)
        self.spending.keep()
        self.add_seconds({"judging": sum(report.seconds.values()), "waiting": waiting_seconds})
        self._tell_judged(number, report)

    def add_seconds(self, seconds: Mapping[str, float]) -> None:
        """Count what slots have spent, by what on."""
        for name, spent in seconds.items():
            self.slot_seconds[name] += spent

    def stopped(self, reason: str) -> None:
        """The sweep stops, and trials that have not ended with it; the recorder hears of it when it is closed."""
        for number in self.study.running():
            self._observer.trial_finished(number, TrialState.STOPPED, reason)

    def counts(self) -> dict[TrialState, int]:
        """How many trials there are in each state."""
        return dict(Counter(trial.state for trial in self.study.trials()))

    def front(self) -> Front:
        """The front so far."""
        return self._front

    def hopeless(self) -> str | None:
        """Why the sweep came to nothing, if no trial was completed."""
        trials = self.study.trials()
        if any(trial.state is TrialState.COMPLETE for trial in trials):
            return None
        reasons = [trial.reason for trial in trials if trial.reason]
        return reasons[-1] if reasons else "there was none"

    def _stop_if_hopeless(self) -> None:
        trials = self.study.trials()
        well = any(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)
        if not well and self._failures >= self._space.search.max_failures:
            self._stop.request(SweepFailed(_why_all_failed(trials)))

    def _tell_started(self, trial: StudyTrial) -> None:
        self._started.add(trial.number)
        self._recorder.trial_started(trial.number, trial.settings, trial.searched)
        self._observer.trial_started(trial.number, trial.settings, trial.searched)

    def _tell_report(self, number: int, report: Report, waiting_seconds: float) -> None:
        self._recorder.trial_reported(number, report, waiting_seconds)
        self._observer.trial_reported(number, report, waiting_seconds)

    def _tell_ended(self, trial: StudyTrial) -> None:
        self._recorder.trial_finished(trial.number, trial.state, trial.reason)
        self._observer.trial_finished(trial.number, trial.state, trial.reason)

    def _tell_front(self) -> Front:
        front = self._front
        self._recorder.front_changed(front.numbers, front.hypervolume, self.study.ended(), self.study.spent())
        self._observer.front_changed(front.numbers, front.hypervolume)
        return front

    def _tell_judged(self, number: int, report: Report) -> None:
        self._recorder.judged(number, report)
        self._observer.judged(number, report)


def _why_all_failed(trials: Sequence[StudyTrial]) -> str:
    """The one reason that all failed trials have, but for numbers such as that of a step; or else every reason."""
    failed = [trial for trial in trials if trial.state is TrialState.FAILED]
    kinds = {re.sub(r"\d[\d.e+-]*", "#", str(trial.reason)) for trial in failed}
    if len(failed) > 1 and len(kinds) == 1:
        return f"all of the first {len(failed)} trials failed, for the same reason: {failed[-1].reason}"
    return f"all trials failed: {'; '.join(f'trial {trial.number}: {trial.reason}' for trial in failed)}"
