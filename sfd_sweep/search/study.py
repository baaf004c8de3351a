"""The sweep's study: Optuna's, in a journal, and the source of truth about every trial.

What a sweep has come to know is here before anyone is told of it, so the study alone suffices to resume. A trial that
has not ended is RUNNING in it, also when its driver is gone.

Optuna's study holds more than the sweep's own trials, which are numbered from 0: complete trials of earlier sweeps, and
proposals that repeat a trial. Samplers see all of them, and nobody else does.
"""

import json
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial, Trial
from optuna.trial import TrialState as OptunaState

from sfd_sweep.config import SearchSpace, Settings
from sfd_sweep.search.distributions import to_optuna
from sfd_sweep.search.objectives import violation
from sfd_sweep.search.records import ResourceUsage
from sfd_sweep.search.samplers import first_generation, make_sampler, suggest
from sfd_sweep.search.warm_start import WarmStart
from sfd_sweep.storage.folder import Folder
from sfd_sweep.storage.journal import Journal, has_lines
from sfd_sweep.trial.report import Report, TrialState

STUDY = "study"

STUBBORN = 10
"""After so many proposals in a row that repeat a trial, the next are drawn at random: a sampler that models the figures
may insist on its optimum."""

PROPOSALS = 100
"""After so many proposals in a row that repeat a trial, the space holds nothing new."""

_STATES = {
    OptunaState.RUNNING: TrialState.RUNNING,
    OptunaState.COMPLETE: TrialState.COMPLETE,
    OptunaState.PRUNED: TrialState.PRUNED,
    OptunaState.FAIL: TrialState.FAILED,
}
_NUMBER = "number"  # attribute of a trial of the sweep's own
_REPORT = "report:"  # attributes of a trial, one for each report
_REASON = "reason"  # attribute of a trial
_SOURCE = "source"  # attribute of an earlier sweep's trial
_SAME_SEED = "same seed"  # attribute of an earlier sweep's trial: whether it had the seed of this sweep's
_EARLIER = "earlier"  # attribute of the study: what was taken over, in words
_FINAL = "final:"  # attributes of the study, one for each trial that was judged once more
_SPENT = "spent:"  # attributes of the study, one for each part of the sweep


class NothingNew(Exception):
    """The sampler proposes nothing that has not been tried."""


@dataclass(frozen=True)
class Reported:
    """A report, and how long the slot had waited before the trial went on to it."""

    report: Report
    waiting_seconds: float


@dataclass(frozen=True)
class StudyTrial:
    """A trial as the study knows it.

    Attributes:
        searched: values of the searched parameters that were drawn, by name.
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


def is_begun(sweep: Folder) -> bool:
    """Whether a sweep has its study."""
    return has_lines(sweep / STUDY)


def begin_study(
    space: SearchSpace, sweep: Folder, warm_start: WarmStart, may_write: Callable[[], None] = lambda: None
) -> None:
    """Make the study of a new sweep, whole or not at all; one that is there stays as it is.

    It holds the trials of earlier sweeps, and has the first settings of the file queued.
    """
    if is_begun(sweep):
        return
    journal = Journal(sweep / STUDY, may_write)
    with journal.at_once():
        study = _open(space, journal)
        study.set_user_attr(_EARLIER, warm_start.in_words())
        study.add_trials(_earlier_trials(space, warm_start))
        for settings in space.search.first:
            study.enqueue_trial(settings)


class SweepStudy:
    """The study of one sweep, which is made if it is not there; only one process at a time may have it open.

    Args:
        space: the sweep.
        sweep: its folder, where the journal is or will be.
        may_write: raises if the sweep may be another process's by now; called before every write.

    Raises:
        UserError: the journal is damaged.
    """

    def __init__(self, space: SearchSpace, sweep: Folder, may_write: Callable[[], None] = lambda: None) -> None:
        begin_study(space, sweep, WarmStart(), may_write)
        self._space = space
        self._journal = Journal(sweep / STUDY, may_write)
        self._study = _open(space, self._journal)
        self._part = 0
        self._own: list[int] = []  # by the trials' own numbers, Optuna's
        self._running: dict[int, Trial] = {}
        self._tried: dict[str, int] = {}  # by settings, Optuna's number of the first trial that had them
        self._repeats: list[str] = []
        self._read_once: dict[int, StudyTrial] = {}  # trials that have ended, which never change again
        self._take_up()

    def trials(self) -> list[StudyTrial]:
        """Every trial that was ever begun, by number."""
        known = self._study.get_trials(deepcopy=False)
        return [self._read(known[number]) for number in self._own]

    def trial(self, number: int) -> StudyTrial:
        """One trial."""
        return self._read(self._study.get_trials(deepcopy=False)[self._own[number]])

    def running(self) -> list[int]:
        """The trials that have not ended, by number."""
        return sorted(self._running)

    def ended(self) -> int:
        """How many trials have ended, in whatever way."""
        return len(self._own) - len(self._running)

    def earlier(self) -> list[str]:
        """What was taken over from earlier sweeps, in words."""
        return list(self._study.user_attrs.get(_EARLIER, []))

    def ask(self) -> int:
        """Begin the next trial: the first settings in the file come first, then the sampler's.

        Settings that have been tried, here or in an earlier sweep with the same seed, would give the same figures. The
        sampler gets these at once, and is asked again; one that insists gives way to chance.

        Raises:
            NothingNew: that was done PROPOSALS times.
        """
        for _ in range(PROPOSALS):
            self._prepare_sampler()
            with self._journal.at_once():  # so no driver finds a trial with some of its parameters
                number = self._begin(self._study.ask())
            if number is not None:
                return number
        raise NothingNew

    def at_once(self) -> AbstractContextManager[None]:
        """Write what the block tells the study with one request to the storage, all of it or nothing."""
        return self._journal.at_once()

    def take_repeats(self) -> list[str]:
        """The proposals that turned out to be repeats since this was last called, in words."""
        repeats, self._repeats = self._repeats, []
        return repeats

    def report(self, number: int, report: Report, waiting_seconds: float) -> bool:
        """Keep a report.

        Returns:
            Whether it is new.
        """
        key = _report_key(report.step)
        trial = self._running[number]
        if key in trial.user_attrs:
            return False
        trial.set_user_attr(key, asdict(Reported(report, waiting_seconds)))
        return True

    def end(self, number: int, why_stopped: str | None = None) -> None:
        """End a trial that has been stopped or has nothing more to report.

        It is complete if it was trained to the end and its figures are finite; else it has failed, or was pruned.

        Args:
            why_stopped: what the scheduler says if it has stopped it.
        """
        trial, last = self._running[number], self.trial(number).last
        if last is None:
            self.fail(number, "it has reported nothing")
            return
        values = [last.metrics[objective.metric] for objective in self._space.objectives]
        excesses = _excesses(self._space, last.metrics)
        if not all(map(math.isfinite, [*values, *excesses.values()])):
            self.fail(number, f"its figures are not finite at step {last.step}")
            return
        for name, excess in excesses.items():
            trial.set_constraint(name, excess)
        if last.step == self._space.trial.steps:
            self._study.tell(trial, values)
        else:
            stopped = f"{self._space.search.scheduler.type} stopped it at step {last.step}"
            trial.set_user_attr(_REASON, f"{stopped}: {why_stopped}" if why_stopped else stopped)
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

    def begin_spending(self) -> None:
        """Another part of the sweep begins to spend."""
        self._part = len(self._parts())

    def spend(self, spent: ResourceUsage) -> None:
        """Keep what this part has spent so far."""
        self._study.set_user_attr(f"{_SPENT}{self._part}", asdict(spent))

    def spent(self) -> ResourceUsage:
        """What all parts together have spent."""
        parts = self._parts()
        return ResourceUsage(sum(part.hours for part in parts), sum(part.gpu_hours for part in parts))

    def _parts(self) -> list[ResourceUsage]:
        attributes = self._study.user_attrs
        return [ResourceUsage(**value) for key, value in attributes.items() if key.startswith(_SPENT)]

    def _take_up(self) -> None:
        """Learn what the journal holds, and go on with the trials that an earlier driver has left."""
        for known in self._study.get_trials(deepcopy=False):
            if _NUMBER in known.user_attrs:
                self._own.append(known.number)
            if _NUMBER in known.user_attrs or known.user_attrs.get(_SAME_SEED):
                self._tried.setdefault(self._settings_of(known.params), known.number)
        for known in self._study.get_trials(deepcopy=False, states=(OptunaState.RUNNING,)):
            self._running[known.user_attrs[_NUMBER]] = Trial(self._study, known._trial_id)

    def _begin(self, trial: Trial) -> int | None:
        """Draw a trial, and number it; None if it repeats another, and is ended."""
        self._space.parameters.draw(lambda name, distribution: suggest(trial, name, distribution))
        settings = self._settings_of(trial.params)
        if settings in self._tried:
            self._end_repeat(trial, self._study.get_trials(deepcopy=False)[self._tried[settings]])
            return None
        number = len(self._own)
        trial.set_user_attr(_NUMBER, number)
        self._own.append(trial.number)
        self._tried[settings] = trial.number
        self._running[number] = trial
        return number

    def _end_repeat(self, trial: Trial, known: FrozenTrial) -> None:
        """Tell the sampler what is known of the settings already: nothing, unless that trial is complete."""
        source = known.user_attrs.get(_SOURCE) or f"trial {known.user_attrs[_NUMBER]}"
        reason = f"{source} has the same settings"
        trial.set_user_attr(_REASON, reason)
        self._repeats.append(f"a proposal is not run again: {reason}")
        if known.state is not OptunaState.COMPLETE:
            self._study.tell(trial, state=OptunaState.FAIL)
            return
        for name, excess in known.constraints.items():
            trial.set_constraint(name, excess)
        self._study.tell(trial, known.values)

    def _prepare_sampler(self) -> None:
        """Give the study the sampler for the next proposal."""
        begun = self._study.get_trials(deepcopy=False, states=tuple(_STATES))
        asked = [trial for trial in begun if _SOURCE not in trial.user_attrs]
        repeats = list(takewhile(lambda trial: _NUMBER not in trial.user_attrs, reversed(asked)))
        self._study.sampler = make_sampler(self._space, len(asked), at_random=len(repeats) >= STUBBORN)

    def _settings_of(self, drawn: dict[str, Any]) -> str:
        """The settings of a trial as text."""
        return json.dumps(self._space.parameters.settings(drawn).model_dump(mode="json"), sort_keys=True)

    def _read(self, trial: FrozenTrial) -> StudyTrial:
        read = self._read_once.get(trial.number) or self._parse(trial)
        if read.state is not TrialState.RUNNING:
            self._read_once[trial.number] = read
        return read

    def _parse(self, trial: FrozenTrial) -> StudyTrial:
        attributes = trial.user_attrs
        steps = sorted(int(key.removeprefix(_REPORT)) for key in attributes if key.startswith(_REPORT))
        reports = [attributes[_report_key(step)] for step in steps]
        return StudyTrial(
            number=attributes[_NUMBER],
            state=_STATES[trial.state],
            searched=dict(trial.params),
            settings=self._space.parameters.settings(trial.params),
            reports=tuple(Reported(Report(**kept["report"]), kept["waiting_seconds"]) for kept in reports),
            reason=attributes.get(_REASON),
        )


def _report_key(step: int) -> str:
    return f"{_REPORT}{step:06d}"


def _open(space: SearchSpace, journal: Journal) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        study_name=space.name,
        storage=JournalStorage(journal),
        directions=[objective.goal.value for objective in space.objectives],
        load_if_exists=True,
    )


def _earlier_trials(space: SearchSpace, warm_start: WarmStart) -> Sequence[FrozenTrial]:
    distributions = {name: to_optuna(found) for name, found in space.parameters.searched().items()}
    return [
        optuna.trial.create_trial(
            params=trial.drawn,
            distributions={name: distributions[name] for name in trial.drawn},
            values=[trial.metrics[objective.metric] for objective in space.objectives],
            constraints=_excesses(space, trial.metrics),
            user_attrs={_SOURCE: trial.source, _SAME_SEED: trial.same_seed},
            system_attrs=first_generation(space.search),
        )
        for trial in warm_start.trials
    ]


def _excesses(space: SearchSpace, metrics: dict[str, float]) -> dict[str, float]:
    """How far figures break each constraint, by a name that tells it from others on the same metric."""
    return {
        f"{index} {constraint.metric}": violation(metrics, [constraint])
        for index, constraint in enumerate(space.constraints)
    }
