"""What users tell a sweep from another process, whether it runs or not: settings to try, and what to stop."""

from collections.abc import Mapping, Sequence
from typing import Any

from sfd_sweep.config import SearchSpace, parse_search_space
from sfd_sweep.config.document import Document
from sfd_sweep.config.search_space import point_errors, without_undrawn
from sfd_sweep.errors import UserError
from sfd_sweep.search.budget import used_up
from sfd_sweep.search.requests import AddedTrial, SweepStop, TrialStop, pending, put
from sfd_sweep.search.study import SweepStudy, is_begun
from sfd_sweep.search.trial import Trial
from sfd_sweep.storage.errors import storage_errors
from sfd_sweep.storage.folder import Folder
from sfd_sweep.storage.lock import is_held
from sfd_sweep.trial.files import CONFIG, read_config
from sfd_sweep.trial.report import TrialState


class SteeredSweep:
    """A sweep as another process than its driver sees it.

    Args:
        location: the sweep's folder, by its path or URI.

    Raises:
        UserError: there is no sweep, or its storage cannot be read.
    """

    def __init__(self, location: str) -> None:
        self.folder = Folder.open(location)
        self.space: SearchSpace = parse_search_space(read_config(self.folder), f"{self.folder}/{CONFIG}")
        with storage_errors(self.folder):
            self.runs = self.runs_now()
            # In this order: a driver writes a request into the study before it removes the file.
            self._requested = [request for _, request in pending(self.folder)]
            self._study = SweepStudy(self.space, self.folder, None) if is_begun(self.folder) else None

    def again(self) -> "SteeredSweep":
        """Return the sweep as it is now."""
        return SteeredSweep(self.folder.uri)

    def runs_now(self) -> bool:
        """Return whether a process runs the sweep at this moment."""
        with storage_errors(self.folder):
            return is_held(self.folder)

    @property
    def trials(self) -> list[Trial]:
        """Its trials so far."""
        return self._study.trials() if self._study else []

    @property
    def has_more(self) -> bool:
        """Whether trials are left to run, within the budget or because users have added them."""
        if self._study is None or self._study.running() or self._study.queued():
            return True
        return any(isinstance(request, AddedTrial) for request in self._requested) or not used_up(
            self.space.budget, self._study
        )

    def trial(self, number: int) -> Trial:
        """Return one trial.

        Raises:
            UserError: there is none of that number.
        """
        trials = self.trials
        if not 0 <= number < len(trials):
            known = f"0 to {len(trials) - 1}" if trials else "none yet"
            raise UserError(f"{self.space.name} has no trial {number}; its trials are {known}")
        return trials[number]

    @property
    def hours(self) -> float:
        """Wall-clock hours in which at least one slot has held its workers."""
        return self._study.usage().hours if self._study else 0.0

    def add(self, assignments: Sequence[str], like: int | None = None) -> dict[str, Any]:
        """Request a trial with some settings, and return these.

        Args:
            assignments: `name=value` for searched parameters, with values in YAML; the sampler draws those that are
                missing.
            like: number of a trial that all other values are taken from.

        Raises:
            UserError: a value is outside of the space, the trial is unknown, or the settings have been tried.
        """
        given = _parsed(assignments)
        if not given and like is None:
            raise UserError("name the settings to try, such as alpha=1.2, or a trial to change: --like N --change …")
        searched = self.space.parameters.searched()
        taken = {} if like is None else self.trial(like).searched
        settings = without_undrawn(taken | given, searched, keep=given)
        for name, problem in point_errors(settings, searched):
            raise UserError(f"{name}: {problem}")
        self._check_is_new(settings)
        with storage_errors(self.folder):
            put(self.folder, AddedTrial(settings))
        return settings

    def stop(self, trial: int | None = None, *, now: bool = False) -> None:
        """Request that the sweep stops, or one trial of it.

        Args:
            trial: its number; None: the whole sweep.
            now: whether running evaluations are abandoned too.

        Raises:
            UserError: it is not running.
        """
        name = self.space.name
        if not self.runs:
            raise UserError(f"{name} is not running, so there is nothing to stop; `sfd-sweep show {name}` shows it")
        if trial is not None and (state := self.trial(trial).state) is not TrialState.RUNNING:
            raise UserError(f"trial {trial} of {name} is not running: it is {state}")
        with storage_errors(self.folder):
            put(self.folder, SweepStop(now) if trial is None else TrialStop(trial))

    def retry(self, trial: int | None = None) -> list[int]:
        """Request that failed trials are tried again, and return their numbers.

        Args:
            trial: number of the one; None: all that have not been tried again.

        Raises:
            UserError: there is none, or the trial has not failed.
        """
        name = self.space.name
        if trial is not None and (state := self.trial(trial).state) is not TrialState.FAILED:
            raise UserError(f"trial {trial} of {name} has not failed: it is {state}")
        again = (self._study.retried() if self._study else set()) | {
            request.retry_of for request in self._requested if isinstance(request, AddedTrial)
        }
        failed = [each for each in self.trials if each.state is TrialState.FAILED and each.number not in again]
        chosen = [each for each in failed if trial in (None, each.number)]
        if not chosen and trial is None:
            raise UserError(f"no failed trial of {name} is left to try again")
        if not chosen:
            raise UserError(f"trial {trial} of {name} was tried again already")
        for each in chosen:
            with storage_errors(self.folder):
                put(self.folder, AddedTrial(each.searched, retry_of=each.number))
        return [each.number for each in chosen]

    def _check_is_new(self, settings: Mapping[str, Any]) -> None:
        queued = self._study.queued() if self._study else []
        queued += [request.settings for request in self._requested if isinstance(request, AddedTrial)]
        if settings in queued:
            raise UserError("these settings are queued already")
        for trial in self.trials:
            if trial.searched == settings:
                advice = "; `retry` runs it again" if trial.state is TrialState.FAILED else ""
                raise UserError(f"trial {trial.number} has these settings (it is {trial.state}){advice}")


def _parsed(assignments: Sequence[str]) -> dict[str, Any]:
    """Return the values of assignments, by name."""
    values = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not (equals and name.strip()):
            raise UserError(f"{text}: write NAME=VALUE, such as alpha=1.2")
        values[name.strip()] = Document.parse(value, text).data
    return values
