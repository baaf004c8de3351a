"""Results of a sweep: its trials, its front, and the selection of one trial with the reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import ValidationError

from sfd_sweep.config import Bound
from sfd_sweep.config.config_errors import advice
from sfd_sweep.errors import UserError
from sfd_sweep.metrics import samples_in_words
from sfd_sweep.search.records import SweepRecord
from sfd_sweep.search.scores import violation, why_not_forgotten
from sfd_sweep.search.trial import Trial
from sfd_sweep.tracking.reader import read_sweep, record_as_it_is
from sfd_sweep.tracking.tables import trials_table
from sfd_sweep.trial.report import Report

if TYPE_CHECKING:
    import pandas as pd

WAYS = "a trial, the knee, the best score, or bounds (max, min)"
THROUGH_THE_ENDS = {1: "line between the ends", 2: "line between the ends", 3: "plane through the ends"}
"""What the knee lies farthest below, by the number of objectives."""


@dataclass(frozen=True)
class Selection:
    """A trial, and one sentence that gives the reason for its selection."""

    trial: Trial
    why: str


@dataclass(frozen=True)
class Results:
    """A snapshot of a finished or running sweep."""

    record: SweepRecord

    @classmethod
    def read(cls, name: str, uri: str | None = None) -> "Results":
        """Return the results of a sweep in the tracking store (see `resolve_uri`).

        Raises:
            UserError: the store is unreachable or unreadable, or the sweep is unknown.
        """
        return cls(record_as_it_is(read_sweep(uri, name)))

    def trials(self) -> "pd.DataFrame":
        """Return one row per trial: state, metrics with their sample counts, settings (see `trials_table`)."""
        return trials_table(self.record)

    def front(self) -> list[Trial]:
        """Return the front, ordered by the first objective (see `SweepRecord.front`)."""
        return self.record.front

    def hypervolume(self) -> float:
        """Return the hypervolume of the front against the declared reference point; higher is better."""
        return self.record.hypervolume()

    def select(
        self,
        *,
        trial: int | None = None,
        knee: bool = False,
        best_score: bool = False,
        max: Mapping[str, float] | None = None,  # noqa: A002 (the words of the command line)
        min: Mapping[str, float] | None = None,  # noqa: A002
    ) -> Selection:
        """Return one trial, chosen in exactly one way.

        Members of the front are compared by their final reports if all have one, else by their last reports. All ways
        but the first choose among those that count as forgotten, by the file's `selection`, if there are any.

        Args:
            trial: the number of a trial, on the front or not.
            knee: choose the knee of the front.
            best_score: choose the member of the front with the lowest combined score.
            max: upper bounds by metric: choose the best score among the members within all bounds.
            min: lower bounds by metric; may be combined with `max`.

        Raises:
            UserError: not exactly one way is given, a trial or metric is unknown, a trial has no report, the front is
                empty, a bound is not a number, or no member is within the bounds.
        """
        asked = [trial is not None, knee, best_score, bool(max or min)]
        if sum(asked) != 1:
            raise UserError(f"choose exactly one of: {WAYS}")
        if trial is not None:
            return self._by_number(trial)
        if not self.record.front:
            raise UserError(f"the front of {self._name} is empty: no feasible trial is complete; wait, or name a trial")
        if knee:
            return self._by_knee()
        if best_score:
            return self._by_score(self.record.front)
        bounds = [self._bound(name, "max", value) for name, value in (max or {}).items()]
        bounds += [self._bound(name, "min", value) for name, value in (min or {}).items()]
        return self._by_bounds(bounds)

    @property
    def _name(self) -> str:
        return self.record.summary.name

    def _by_number(self, number: int) -> Selection:
        found = next((trial for trial in self.record.trials if trial.number == number), None)
        if found is None:
            last = len(self.record.trials) - 1
            reason = f"no trial {number}; its trials are 0 to {last}" if last >= 0 else "no trials yet"
            raise UserError(f"{self._name} has {reason}")
        if found.report is None:
            raise UserError(f"trial {number} of {self._name} is {found.state} and was never evaluated; choose another")
        why = f"Trial {number} was requested; {self._standing(found)} ({self._figures(found)})."
        return Selection(found, why + self._verdict(found))

    def _standing(self, trial: Trial) -> str:
        """Return why a trial is or is not on the front."""
        record = self.record
        if trial in record.front:
            return "it is on the front"
        if trial not in record.complete:
            return f"it is {trial.state}, so it is not on the front"
        was = trial in record.searched_front
        when = " in the final evaluation" if was else ""
        if not record.is_feasible(trial):
            return f"it violates a constraint{when}, so it is not on the front"
        own = record.losses([record.figures(trial).metrics])[0]
        if not np.isfinite(own).all():
            return f"its metrics are not finite{when}, so it is not on the front"
        others = record.front if was else record.searched_front
        losses = record.losses([record.figures(other).metrics if was else other.metrics for other in others])
        better = next(other for other, row in zip(others, losses, strict=True) if (row <= own).all())
        if was:
            return f"the final evaluation took it off the front, where trial {better.number} is better"
        return f"it is not on the front, where trial {better.number} is better"

    def _by_knee(self) -> Selection:
        chosen, objectives = self.record.knee(), self.record.space.objectives
        members = self.record.candidates(self.record.front)
        scope, through = self._scope(members), THROUGH_THE_ENDS.get(len(objectives), "hyperplane through the ends")
        reasons = {
            1: f"it is the only trial on the front{scope}",
            2: f"the two trials on the front{scope} have no bend, and this one is better in {objectives[0].metric}",
        }
        reason = reasons.get(
            len(members), f"of the {len(members)} trials on the front{scope} it lies farthest below the {through}"
        )
        if self.record.has_errors and len(members) > 1:
            share = f"{self.record.knee_probability[chosen.number]:.0%} of draws within the errors"
            reason = f"of the {len(members)} trials on the front{scope} it is the knee most often, in {share}"
        why = f"Trial {chosen.number} is the knee: {reason} ({self._figures(chosen)})."
        return Selection(chosen, why + self._verdict(chosen))

    def _by_score(self, members: Sequence[Trial], words: str = "") -> Selection:
        chosen, candidates = self.record.best(members), self.record.candidates(members)
        score = f"{self.record.front_score(chosen):.3f}"
        why = (
            f"Trial {chosen.number} has the best combined score, {score}, of the {len(candidates)} on the front{words}"
            f"{self._scope(candidates)} ({self._figures(chosen)})."
        )
        return Selection(chosen, why + self._verdict(chosen))

    def _scope(self, members: Sequence[Trial]) -> str:
        """Return what some members have in common, if the file says what counts as forgotten and they do."""
        selection = self.record.space.selection
        if not selection.bounds or not self.record.counts_as_forgotten(members[0]):
            return ""
        return f" that count{'s' * (len(members) == 1)} as forgotten ({selection.in_words()})"

    def _verdict(self, trial: Trial) -> str:
        """Return a sentence on a trial that does not count as forgotten, and on the front if no member does."""
        report = trial.largest_report
        assert report is not None
        if not (reason := why_not_forgotten(report.metrics, self.record.space.selection)):
            return ""
        others = any(map(self.record.counts_as_forgotten, self.record.front))
        return f" It does not count as forgotten ({reason}){'' if others else ', and no trial on the front does'}."

    def _by_bounds(self, bounds: Sequence[Bound]) -> Selection:
        front, words = self.record.front, " and ".join(bound.in_words() for bound in bounds)
        excess = [violation(self._report(trial).metrics, bounds) for trial in front]
        within = [trial for trial, beyond in zip(front, excess, strict=True) if beyond == 0]
        if not within:
            nearest = front[int(np.argmin(excess))]
            figures = self._figures(nearest, [bound.metric for bound in bounds])
            raise UserError(
                f"no trial on the front of {self._name} has {words}; the nearest is trial {nearest.number} ({figures})"
            )
        return self._by_score(within, f" with {words}")

    def _bound(self, metric: str, side: Literal["max", "min"], value: float) -> Bound:
        known = sorted(self._report(self.record.front[0]).metrics)
        if metric not in known:
            raise UserError(f"{self._name} has no metric {metric!r}{advice(metric, known)}")
        try:
            return Bound.model_validate({"metric": metric, side: value})
        except ValidationError as error:
            raise UserError(f"{side} of {metric}: {error.errors()[0]['msg']}") from error

    def _report(self, trial: Trial) -> Report:
        """Return the report that represents an evaluated trial."""
        return self.record.figures(trial)

    def _figures(self, trial: Trial, names: Sequence[str] = ()) -> str:
        """Return the named metrics, or else the objectives, with their sample counts."""
        report = self._report(trial)
        names = names or [objective.metric for objective in self.record.space.objectives]
        values = ", ".join(f"{name} {report.metrics[name]:.4g}" for name in dict.fromkeys(names))
        return f"{values} on {samples_in_words(report.samples)}"
