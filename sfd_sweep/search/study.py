"""The sweep's study: Optuna's, in a journal, and the source of truth about every trial.

Every event is written here before anyone is notified of it, so the study alone suffices to resume. A trial that has not
ended is RUNNING in it, also when its driver is gone.

Optuna's study holds more than the sweep's own trials, which are numbered from 0: complete trials of earlier sweeps, and
proposals that repeat a trial. Samplers see all of them; nothing else does.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from itertools import takewhile
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial
from optuna.trial import Trial as OptunaTrial
from optuna.trial import TrialState as OptunaState

from sfd_sweep.config import SearchSpace
from sfd_sweep.search.distributions import suggest, to_optuna
from sfd_sweep.search.records import ResourceUsage
from sfd_sweep.search.samplers import first_generation, make_sampler
from sfd_sweep.search.scores import violation
from sfd_sweep.search.stored_reports import read_report, report_key, stored_reports
from sfd_sweep.search.trial import Trial
from sfd_sweep.search.warm_start import WarmStart
from sfd_sweep.storage.folder import Folder
from sfd_sweep.storage.journal import Journal, has_lines
from sfd_sweep.trial.report import Report, TrialState

STUDY = "study"

REPEATS_BEFORE_RANDOM = 10
"""After so many proposals in a row that repeat a trial, the next are drawn at random: a sampler that models the metrics
may insist on its optimum."""

MAX_REPEATS = 100
"""After so many proposals in a row that repeat a trial, the space holds nothing new."""

_STATES = {
    OptunaState.RUNNING: TrialState.RUNNING,
    OptunaState.COMPLETE: TrialState.COMPLETE,
    OptunaState.PRUNED: TrialState.PRUNED,
    OptunaState.FAIL: TrialState.FAILED,
}
# Attributes of a trial:
_NUMBER = "number"  # only of the sweep's own
_REASON = "reason"
_SOURCE = "source"  # only of earlier sweeps' trials
_SAME_SEED = "same seed"  # only of earlier sweeps' trials: whether it had the seed of this sweep's
_ADDED = "added"  # only of settings that the user added: the name of the request
_RETRY_OF = "retry of"  # only of trials that try a failed one again: its number
_STOPPED = "stopped by the user"
_QUEUED = "fixed_params"  # Optuna's own: the settings of a trial that was queued
# Attributes of the study:
_EARLIER = "earlier"  # lines on the warm start
_FINAL = "final:"  # one for each final evaluation
_SPENT = "spent:"  # one for each part of the sweep


class NothingNew(Exception):
    """The sampler proposes nothing that has not been tried."""


def is_begun(sweep: Folder) -> bool:
    """Return whether a sweep has its study."""
    return has_lines(sweep / STUDY)


def begin_study(
    space: SearchSpace, sweep: Folder, warm_start: WarmStart, may_write: Callable[[], None] = lambda: None
) -> None:
    """Create the study of a new sweep, whole or not at all; an existing one stays as it is.

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
    """The study of one sweep, which is created if needed; only one process at a time may have it open to write.

    Args:
        space: the sweep.
        sweep: its folder, where the journal is or will be.
        may_write: raises if another process may have taken over the sweep; called before every write. None: the study
            exists, and is read as it is now, whatever a driver does with it.

    Raises:
        UserError: the journal is damaged.
    """

    def __init__(self, space: SearchSpace, sweep: Folder, may_write: Callable[[], None] | None = lambda: None) -> None:
        if may_write:
            begin_study(space, sweep, WarmStart(), may_write)
        self._space = space
        self._journal = Journal(sweep / STUDY, may_write)
        self._study = _open(space, self._journal) if may_write else _load(space, self._journal)
        self._part = 0
        self._own: list[int] = []  # by the trials' own numbers, Optuna's
        self._added: set[int] = set()  # of the own ones those that users added, by Optuna's numbers
        self._running: dict[int, OptunaTrial] = {}
        self._tried: dict[str, int] = {}  # by settings, Optuna's number of the first trial that had them
        self._repeats: list[str] = []
        self._ended: dict[int, Trial] = {}  # parsed once; only their final report can still come
        self._load()

    def trials(self) -> list[Trial]:
        """Return every trial that was ever begun, by number."""
        known = self._study.get_trials(deepcopy=False)
        return [self._parse(known[number]) for number in self._own]

    def trial(self, number: int) -> Trial:
        """Return one trial."""
        return self._parse(self._study.get_trials(deepcopy=False)[self._own[number]])

    def running(self) -> list[int]:
        """Return the trials that have not ended, by number."""
        return sorted(self._running)

    def ended(self) -> int:
        """Return how many trials have ended, in whatever state."""
        return len(self._own) - len(self._running)

    def earlier(self) -> list[str]:
        """Return lines on what was taken over from earlier sweeps."""
        return list(self._study.user_attrs.get(_EARLIER, []))

    def ask(self, *, only_added: bool = False) -> int:
        """Begin the next trial: settings that users have added come first, then the file's first, then the sampler's.

        Settings that have been tried, here or in an earlier sweep with the same seed, would give the same metrics. The
        sampler gets these at once and is asked again; after `REPEATS_BEFORE_RANDOM` repeats the next proposals are
        random.

        Args:
            only_added: whether to begin nothing but what users have added.

        Raises:
            NothingNew: `MAX_REPEATS` proposals in a row were repeats, or nothing is left of what users have added.
        """
        for _ in range(MAX_REPEATS):
            if only_added and not self._queued():
                break
            self._prepare_sampler()
            with self._journal.at_once():  # so no driver finds a trial with some of its parameters
                number = self._begin(self._ask())
            if number is not None:
                return number
        raise NothingNew

    def enqueue_first(self, points: Sequence[dict[str, Any]]) -> None:
        """Queue the first settings of the file that were added to it after the sweep had begun."""
        known = [trial.system_attrs.get(_QUEUED) for trial in self._study.get_trials(deepcopy=False)]
        with self._journal.at_once():
            for point in points:
                if point in known:
                    known.remove(point)
                else:
                    self._study.enqueue_trial(point)

    def add(self, request: str, settings: dict[str, Any], retry_of: int | None = None) -> None:
        """Queue settings that a user adds. They come next, beyond the budget; a repeated request changes nothing.

        Args:
            request: its name.
            settings: values of searched parameters; the sampler draws the others.
            retry_of: number of the failed trial that has them; else settings that were tried are not run again.
        """
        if any(trial.user_attrs.get(_ADDED) == request for trial in self._study.get_trials(deepcopy=False)):
            return
        attributes = {_ADDED: request} | ({} if retry_of is None else {_RETRY_OF: retry_of})
        self._study.enqueue_trial(settings, user_attrs=attributes)

    def queued(self) -> list[dict[str, Any]]:
        """Return the settings that users have added and that are not begun, in order."""
        return [trial.system_attrs[_QUEUED] for trial in self._queued()]

    def beyond_budget(self) -> int:
        """Return the number of begun trials that users have added, which do not count in the budget."""
        return len(self._added)

    def retried(self) -> set[int]:
        """Return the failed trials that were or will be tried again, by number."""
        trials = self._study.get_trials(deepcopy=False)
        return {trial.user_attrs[_RETRY_OF] for trial in trials if _RETRY_OF in trial.user_attrs}

    def stop_at_next_report(self, number: int) -> None:
        """Have a running trial end at its next report; one that has ended stays as it is."""
        if number in self._running:
            self._running[number].set_user_attr(_STOPPED, True)

    def is_stopping(self, number: int) -> bool:
        """Return whether a running trial ends at its next report."""
        return _STOPPED in self._running[number].user_attrs

    def at_once(self) -> AbstractContextManager[None]:
        """Write everything that the block records with one request to the storage, all of it or nothing."""
        return self._journal.at_once()

    def take_repeats(self) -> list[str]:
        """Return lines on the proposals since the last call that were repeats."""
        repeats, self._repeats = self._repeats, []
        return repeats

    def report(self, number: int, report: Report) -> bool:
        """Store a report; return whether it is new."""
        key = report_key(report.step)
        trial = self._running[number]
        if key in trial.user_attrs:
            return False
        trial.set_user_attr(key, report.to_dict())
        return True

    def report_final(self, number: int, report: Report) -> None:
        """Store the report of a trial's final evaluation, in place of an earlier one."""
        self._study.set_user_attr(f"{_FINAL}{number}", report.to_dict())
        self._ended.pop(number, None)

    def end(self, number: int, why_stopped: str | None = None) -> None:
        """End a trial that was stopped or has nothing more to report.

        It is complete if it was trained to the end and its metrics are finite; else it failed, or was pruned.

        Args:
            why_stopped: the scheduler's reason, if it stopped the trial.
        """
        trial, last = self._running[number], self.trial(number).report
        if last is None:
            self.fail(number, "it has reported nothing")
            return
        values = [last.metrics[objective.metric] for objective in self._space.objectives]
        excesses = _excesses(self._space, last.metrics)
        if not all(map(math.isfinite, [*values, *excesses.values()])):
            self.fail(number, f"its metrics are not finite at step {last.step}")
            return
        for name, excess in excesses.items():
            trial.set_constraint(name, excess)
        if last.step == self._space.trial.steps:
            self._study.tell(trial, values)
        else:
            who = "the user" if self.is_stopping(number) else self._space.search.scheduler.type
            stopped = f"{who} stopped it at step {last.step}"
            trial.set_user_attr(_REASON, f"{stopped}: {why_stopped}" if why_stopped else stopped)
            self._study.tell(trial, state=OptunaState.PRUNED)
        del self._running[number]

    def fail(self, number: int, reason: str) -> None:
        """End a trial as failed."""
        trial = self._running[number]
        trial.set_user_attr(_REASON, reason)
        self._study.tell(trial, state=OptunaState.FAIL)
        del self._running[number]

    def begin_part(self) -> None:
        """Begin another part of the sweep, whose resource usage is added to the earlier ones'."""
        self._part = len(self._parts())

    def record_usage(self, usage: ResourceUsage) -> None:
        """Store what this part has used so far."""
        self._study.set_user_attr(f"{_SPENT}{self._part}", asdict(usage))

    def usage(self) -> ResourceUsage:
        """Return what all parts together have used."""
        parts = self._parts()
        return ResourceUsage(sum(part.hours for part in parts), sum(part.gpu_hours for part in parts))

    def _parts(self) -> list[ResourceUsage]:
        attributes = self._study.user_attrs
        return [ResourceUsage(**value) for key, value in attributes.items() if key.startswith(_SPENT)]

    def _load(self) -> None:
        """Read the journal, and continue the trials that an earlier driver has left."""
        numbers: dict[int, int] = {}
        for known in self._study.get_trials(deepcopy=False):
            if _NUMBER in known.user_attrs:
                numbers[known.user_attrs[_NUMBER]] = known.number
                if _ADDED in known.user_attrs:
                    self._added.add(known.number)
            if _NUMBER in known.user_attrs or known.user_attrs.get(_SAME_SEED):
                key = self._settings_key(known.params)
                self._tried[key] = known.number if _RETRY_OF in known.user_attrs else self._tried.get(key, known.number)
        self._own = [numbers[number] for number in sorted(numbers)]
        for known in self._study.get_trials(deepcopy=False, states=(OptunaState.RUNNING,)):
            if _NUMBER in known.user_attrs:  # else its proposal has failed
                self._running[known.user_attrs[_NUMBER]] = OptunaTrial(self._study, known._trial_id)

    def _queued(self) -> list[FrozenTrial]:
        waiting = self._study.get_trials(deepcopy=False, states=(OptunaState.WAITING,))
        return [trial for trial in waiting if _ADDED in trial.user_attrs]

    def _ask(self) -> OptunaTrial:
        """Take the next settings that users have added, or else what Optuna has queued or proposes."""
        if not (queued := self._queued()):
            return self._study.ask()
        self._study._storage.set_trial_state_values(queued[0]._trial_id, OptunaState.RUNNING)
        return OptunaTrial(self._study, queued[0]._trial_id)

    def _begin(self, trial: OptunaTrial) -> int | None:
        """Draw and number a trial; one that repeats another is ended, and None returned."""
        self._space.parameters.draw(lambda name, distribution: suggest(trial, name, distribution))
        settings = self._settings_key(trial.params)
        if settings in self._tried and _RETRY_OF not in trial.user_attrs:
            self._end_repeat(trial, self._study.get_trials(deepcopy=False)[self._tried[settings]])
            return None
        number = len(self._own)
        trial.set_user_attr(_NUMBER, number)
        self._own.append(trial.number)
        if _ADDED in trial.user_attrs:
            self._added.add(trial.number)
        self._tried[settings] = trial.number
        self._running[number] = trial
        return number

    def _end_repeat(self, trial: OptunaTrial, known: FrozenTrial) -> None:
        """Give the sampler the outcome of the earlier trial with these settings, if that is complete."""
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
        self._study.sampler = make_sampler(self._space, len(asked), at_random=len(repeats) >= REPEATS_BEFORE_RANDOM)

    def _settings_key(self, drawn: dict[str, Any]) -> str:
        settings = self._space.parameters.settings(drawn)
        return json.dumps(settings.model_dump(mode="json", include=set(settings.of_method())), sort_keys=True)

    def _parse(self, optuna_trial: FrozenTrial) -> Trial:
        attributes = optuna_trial.user_attrs
        number = attributes[_NUMBER]
        if number in self._ended:
            return self._ended[number]
        final = self._study.user_attrs.get(f"{_FINAL}{number}")
        trial = Trial(
            number=number,
            state=_STATES[optuna_trial.state],
            settings=self._space.parameters.settings(optuna_trial.params),
            searched=dict(optuna_trial.params),
            reports=stored_reports(optuna_trial),
            final=read_report(final) if final else None,
            reason=attributes.get(_REASON),
        )
        if trial.state is not TrialState.RUNNING:
            self._ended[number] = trial
        return trial


def _open(space: SearchSpace, journal: Journal) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        study_name=space.name,
        storage=JournalStorage(journal),
        directions=[objective.goal.value for objective in space.objectives],
        load_if_exists=True,
    )


def _load(space: SearchSpace, journal: Journal) -> optuna.Study:
    return optuna.load_study(study_name=space.name, storage=JournalStorage(journal))


def _earlier_trials(space: SearchSpace, warm_start: WarmStart) -> Sequence[FrozenTrial]:
    distributions = {name: to_optuna(found) for name, found in space.parameters.searched().items()}
    return [
        optuna.trial.create_trial(
            params=earlier.trial.searched,
            distributions={name: distributions[name] for name in earlier.trial.searched},
            values=[earlier.trial.metrics[objective.metric] for objective in space.objectives],
            constraints=_excesses(space, earlier.trial.metrics),
            user_attrs={
                _SOURCE: earlier.source,
                _SAME_SEED: earlier.same_seed,
                **{report_key(report.step): report.to_dict() for report in earlier.trial.reports},
            },
            system_attrs=first_generation(space.search),
        )
        for earlier in warm_start.trials
    ]


def _excesses(space: SearchSpace, metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the violation of each constraint, by a name that is unique if several are on one metric."""
    return {
        f"{index} {constraint.metric}": violation(metrics, [constraint])
        for index, constraint in enumerate(space.constraints)
    }
