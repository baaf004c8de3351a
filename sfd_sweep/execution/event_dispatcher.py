"""The state of a running sweep: events go to the study first, then to the recorder and the observer."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sfd_sweep.config import SearchSpace
from sfd_sweep.errors import SweepFailed
from sfd_sweep.execution.checkpoint_retention import CheckpointRetention
from sfd_sweep.execution.events import SweepObserver
from sfd_sweep.execution.stopping import Stop
from sfd_sweep.search.budget import BudgetTracker
from sfd_sweep.search.pareto import Front, front_of
from sfd_sweep.search.study import SweepStudy
from sfd_sweep.search.trial import Trial
from sfd_sweep.storage.folder import Folder
from sfd_sweep.tracking.recorder import MlflowRecorder
from sfd_sweep.trial.files import read_swap, write_swap
from sfd_sweep.trial.report import Report, TrialState

SLOT_SECONDS = ("starting", "training", "evaluating", "saving", "waiting", "final evaluation")


@dataclass
class TrialEventDispatcher:
    """Receives the events of a sweep, keeps its state and passes the events on. Repeated events change nothing.

    Attributes:
        sweep: the sweep's folder.
        stop: requested when the first trials all fail.
    """

    space: SearchSpace
    sweep: Folder
    study: SweepStudy
    recorder: MlflowRecorder
    observer: SweepObserver
    stop: Stop

    def __post_init__(self) -> None:
        self.budget = BudgetTracker(self.space, self.study)
        self.front = Front((), 0.0)
        self.slot_seconds = dict.fromkeys(SLOT_SECONDS, 0.0)  # of all slots together in this part of the sweep
        self._listeners = (self.recorder, self.observer)
        self._checkpoints = CheckpointRetention(self.space, self.sweep)
        self._started: set[int] = set()
        self._failures = 0

    def replay(self) -> None:
        """Send the events of earlier parts of the sweep, and remove weights that those parts should have removed."""
        trials = self.study.trials()
        ended = [trial for trial in trials if trial.state is not TrialState.RUNNING]
        for trial in trials:
            self._notify_started(trial)
            for report in trial.reports:
                self._notify_reported(trial.number, report)
            if trial.state is not TrialState.RUNNING:
                self._notify_finished(trial)
        self.front = front_of(self.space, trials)
        if ended:
            self._checkpoints.find(trial.number for trial in ended)
            self._front_changed()
        for trial in trials:
            if trial.final:
                self._notify_final(trial.number, trial.final)
        if swap := read_swap(self.sweep):
            self._notify_swap(swap)

    def started(self, number: int) -> None:
        """Handle a trial that starts or resumes."""
        if number not in self._started:
            self._notify_started(self.study.trial(number))

    def reported(self, number: int, report: Report) -> None:
        """Handle an evaluation."""
        with self.study.at_once():
            is_new = self.study.report(number, report)
            self.budget.record()
        if is_new:
            self.add_seconds(report.seconds)
            self._notify_reported(number, report)

    def ended(self, number: int) -> None:
        """Handle a trial that has ended in the study; remove weights that are no longer on the front."""
        self.budget.record()
        trial = self.study.trial(number)
        self._notify_finished(trial)
        # Dominance is transitive, so a removed trial never returns to the searched front.
        self.front = front_of(self.space, [*map(self.study.trial, self.front.candidates), trial])
        self._checkpoints.end(number)
        self._front_changed()
        if trial.state is TrialState.FAILED:
            self._failures += 1
            self._stop_if_all_failed()

    def final_reported(self, number: int, report: Report) -> None:
        """Handle the final evaluation of a trial on the front; the last one decides who stays there."""
        self.study.report_final(number, report)
        self.budget.record()
        self.add_seconds({"final evaluation": report.busy_seconds, "waiting": report.seconds["waiting"]})
        self._notify_final(number, report)
        before, self.front = self.front, front_of(self.space, list(map(self.study.trial, self.front.candidates)))
        if self.front != before:
            self._front_changed()

    def swap_reported(self, report: Report) -> None:
        """Handle the evaluation of the null baseline, which is no trial: it is stored beside the study."""
        write_swap(self.sweep, report)
        self.budget.record()
        self.add_seconds({"final evaluation": report.busy_seconds, "waiting": report.seconds["waiting"]})
        self._notify_swap(report)

    def stopped(self, reason: str) -> None:
        """Show trials that stop with the sweep; the recorder learns of them when it is closed."""
        for number in self.study.running():
            self.observer.trial_finished(number, TrialState.STOPPED, reason)

    def add_seconds(self, seconds: Mapping[str, float]) -> None:
        """Count the seconds of slots, by activity."""
        for name, spent in seconds.items():
            self.slot_seconds[name] += spent

    def counts(self) -> dict[TrialState, int]:
        """Return the number of trials in each state."""
        return dict(Counter(trial.state for trial in self.study.trials()))

    def why_none_completed(self) -> str | None:
        """Return why no trial was completed; None if one was."""
        trials = self.study.trials()
        if any(trial.state is TrialState.COMPLETE for trial in trials):
            return None
        reasons = [trial.reason for trial in trials if trial.reason]
        if not reasons:
            return "none was started within the budget; raise budget.hours or budget.gpu_hours"
        return f"the last ended because {reasons[-1]}"

    def _stop_if_all_failed(self) -> None:
        trials = self.study.trials()
        worked = any(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)
        if not worked and self._failures >= self.space.search.max_failures:
            self.stop.request(SweepFailed(_why_all_failed(trials)))

    def _notify_started(self, trial: Trial) -> None:
        self._started.add(trial.number)
        for listener in self._listeners:
            listener.trial_started(trial.number, trial.settings, trial.searched)

    def _notify_reported(self, number: int, report: Report) -> None:
        for listener in self._listeners:
            listener.trial_reported(number, report)

    def _notify_finished(self, trial: Trial) -> None:
        for listener in self._listeners:
            listener.trial_finished(trial.number, trial.state, trial.reason)

    def _notify_final(self, number: int, report: Report) -> None:
        for listener in self._listeners:
            listener.final_reported(number, report)

    def _notify_swap(self, report: Report) -> None:
        for listener in self._listeners:
            listener.swap_reported(report)

    def _front_changed(self) -> None:
        """Send the front, then remove other trials' weights: a driver killed between leaves too many, never too few."""
        numbers, hypervolume = self.front.numbers, self.front.hypervolume
        self.recorder.front_changed(numbers, hypervolume, self.study.ended(), self.study.usage())
        self.observer.front_changed(numbers, hypervolume)
        self._checkpoints.keep_only(self.front.candidates)


def _why_all_failed(trials: Sequence[Trial]) -> str:
    """Return the common reason of all failed trials, equal but for numbers such as a step; else every reason."""
    failed = [trial for trial in trials if trial.state is TrialState.FAILED]
    kinds = {re.sub(r"\d[\d.e+-]*", "#", str(trial.reason)) for trial in failed}
    if len(failed) > 1 and len(kinds) == 1:
        return f"all of the first {len(failed)} trials failed, for the same reason: {failed[-1].reason}"
    return f"all trials failed: {'; '.join(f'trial {trial.number}: {trial.reason}' for trial in failed)}"
