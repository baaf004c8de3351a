"""The sweep's study: Optuna's, in a journal, and the source of truth about every trial.

What a sweep has come to know is here before anyone is told of it, so the study alone suffices to resume. A trial that
has not ended is RUNNING in it, also when its driver is gone.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial, Trial
from optuna.trial import TrialState as OptunaState

from sfd_sweep.config import SearchSpace, Settings
from sfd_sweep.objectives import violation
from sfd_sweep.storage import Folder
from sfd_sweep.sweep.journal import Journal
from sfd_sweep.sweep.samplers import make_sampler, suggest
from sfd_sweep.trial.report import Report, TrialState

STUDY = "study"

_STATES = {
    OptunaState.RUNNING: TrialState.RUNNING,
    OptunaState.COMPLETE: TrialState.COMPLETE,
    OptunaState.PRUNED: TrialState.PRUNED,
    OptunaState.FAIL: TrialState.FAILED,
}
_REPORT = "report:"  # attributes of a trial, one for each report
_REASON = "reason"  # attribute of a trial
_FINAL = "final:"  # attributes of the study, one for each trial that was judged once more


@dataclass(frozen=True)
class Reported:
    """A report, and how long the slot had waited before the trial went on to it."""

    report: Report
    waiting_seconds: float


@dataclass(frozen=True)
class StudyTrial:
    """A trial as the study knows it.

    Attributes:
        searched: values of the searched parameters, by name.
        reports: in the order of their steps.
        reason: why it failed or was pruned.
    """

    number: int
    state: TrialState
    searched: dict[str, Any]
    settings: Settings
    reports: tuple[Reported, ...]
    reason: str | None

    @property
    def last(self) -> Report | None:
        """The last report, if there is any."""
        return self.reports[-1].report if self.reports else None


class SweepStudy:
    """The study of one sweep; only one process at a time may have it open.

    Args:
        space: the sweep.
        sweep: its folder, where the journal is or will be.
        may_write: raises if the sweep may be another process's by now; called before every write.

    Raises:
        UserError: the journal is damaged.
    """

    def __init__(self, space: SearchSpace, sweep: Folder, may_write: Callable[[], None] = lambda: None) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = space
        self._journal = Journal(sweep / STUDY, may_write)
        self._storage = JournalStorage(self._journal)
        self._study = optuna.create_study(
            study_name=space.name,
            storage=self._storage,
            directions=[objective.goal.value for objective in space.objectives],
            load_if_exists=True,
        )
        for settings in space.search.first:
            self._study.enqueue_trial(settings, skip_if_exists=True)
        self._running: dict[int, Trial] = {}
        for number in self._numbers(OptunaState.RUNNING):
            self._take_up(number)

    def trials(self) -> list[StudyTrial]:
        """Every trial that was ever begun, by number."""
        return [self._read(trial) for trial in self._study.get_trials(deepcopy=False, states=tuple(_STATES))]

    def trial(self, number: int) -> StudyTrial:
        """One trial."""
        return self._read(self._study.get_trials(deepcopy=False)[number])

    def running(self) -> list[int]:
        """The trials that have not ended, by number."""
        return sorted(self._running)

    def ended(self) -> int:
        """How many trials have ended, in whatever way."""
        return len(self._numbers(*_STATES)) - len(self._running)

    def ask(self) -> int:
        """Begin the next trial: the first settings in the file come first, then the sampler's."""
        number = len(self._numbers(*_STATES))
        self._study.sampler = make_sampler(self._space.search, number)
        with self._journal.at_once():
            self._draw(self._study.ask())
        return number

    def report(self, number: int, report: Report, waiting_seconds: float) -> bool:
        """Keep a report.

        Returns:
            Whether it is new.
        """
        key = f"{_REPORT}{report.step:06d}"
        trial = self._running[number]
        if key in trial.user_attrs:
            return False
        trial.set_user_attr(key, asdict(Reported(report, waiting_seconds)))
        return True

    def end(self, number: int) -> None:
        """End a trial that has been stopped or has nothing more to report.

        It is complete if it was trained to the end and its figures are finite; else it has failed, or was pruned.
        """
        trial, last = self._running[number], self.trial(number).last
        if last is None:
            self.fail(number, "it has reported nothing")
            return
        values = [last.metrics[objective.metric] for objective in self._space.objectives]
        excesses = [violation(last.metrics, [constraint]) for constraint in self._space.constraints]
        if not all(map(math.isfinite, values + excesses)):
            self.fail(number, f"its figures are not finite at step {last.step}")
            return
        for index, excess in enumerate(excesses):
            trial.set_constraint(f"{index} {self._space.constraints[index].metric}", excess)
        if last.step == self._space.trial.steps:
            self._study.tell(trial, values)
        else:
            trial.set_user_attr(_REASON, f"{self._space.search.scheduler.type} stopped it at step {last.step}")
            self._study.tell(trial, state=OptunaState.PRUNED)
        del self._running[number]

    def fail(self, number: int, reason: str) -> None:
        """End a trial that has come to nothing."""
        trial = self._running.pop(number)
        trial.set_user_attr(_REASON, reason)
        self._study.tell(trial, state=OptunaState.FAIL)

    def judge(self, number: int, report: Report) -> None:
        """Keep the report of a trial that was judged once more, in place of an earlier one."""
        self._study.set_user_attr(f"{_FINAL}{number}", asdict(report))

    def finals(self) -> dict[int, Report]:
        """The trials that were judged once more, by number."""
        attributes = self._study.user_attrs
        return {
            int(key.removeprefix(_FINAL)): Report(**value)
            for key, value in attributes.items()
            if key.startswith(_FINAL)
        }

    def _take_up(self, number: int) -> None:
        """Go on with a trial that an earlier driver has left, perhaps with not all of its parameters drawn."""
        self._study.sampler = make_sampler(self._space.search, number)
        study_id = self._storage.get_study_id_from_name(self._space.name)
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, number)
        self._draw(Trial(self._study, trial_id))

    def _draw(self, trial: Trial) -> None:
        for name, distribution in self._space.parameters.searched().items():
            suggest(trial, name, distribution)
        self._running[trial.number] = trial

    def _numbers(self, *states: OptunaState) -> list[int]:
        return [trial.number for trial in self._study.get_trials(deepcopy=False, states=states)]

    def _read(self, trial: FrozenTrial) -> StudyTrial:
        attributes = trial.user_attrs
        reports = [attributes[key] for key in sorted(attributes) if key.startswith(_REPORT)]
        return StudyTrial(
            number=trial.number,
            state=_STATES[trial.state],
            searched=dict(trial.params),
            settings=self._space.parameters.settings(trial.params),
            reports=tuple(Reported(Report(**kept["report"]), kept["waiting_seconds"]) for kept in reports),
            reason=attributes.get(_REASON),
        )
