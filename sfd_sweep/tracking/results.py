"""What a sweep has found: its trials, its front, and the choice of one trial with the reason for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import ValidationError

from sfd_sweep.config import Bound
from sfd_sweep.config.config_errors import advice
from sfd_sweep.errors import UserError
from sfd_sweep.search import objectives
from sfd_sweep.search.records import SweepRecord, SweepSummary, TrialRecord
from sfd_sweep.tracking.liveness import as_it_is, record_as_it_is
from sfd_sweep.tracking.reader import list_sweeps as recorded_sweeps
from sfd_sweep.tracking.reader import read_sweep
from sfd_sweep.tracking.tables import trials_table
from sfd_sweep.trial.report import Report

if TYPE_CHECKING:
    import pandas as pd

WAYS = "a trial, the knee, the best score, or bounds (max, min)"


def list_sweeps(uri: str | None = None) -> list[SweepSummary]:
    """Every sweep in the tracking store, the newest first.

    Args:
        uri: of the store; None: MLFLOW_TRACKING_URI, else SQLite in the working folder.

    Raises:
        UserError: the store cannot be reached or read.
    """
    return [as_it_is(summary) for summary in recorded_sweeps(uri)]


@dataclass(frozen=True)
class Selection:
    """A trial, and one sentence that says why that one."""

    trial: TrialRecord
    why: str


@dataclass(frozen=True)
class Results:
    """A finished or running sweep, as it was when it was read."""

    record: SweepRecord

    @classmethod
    def read(cls, name: str, uri: str | None = None) -> "Results":
        """The results of a sweep.

        Args:
            uri: of the tracking store; None: MLFLOW_TRACKING_URI, else SQLite in the working folder.

        Raises:
            UserError: the store cannot be reached or read, or has no sweep of that name.
        """
        return cls(record_as_it_is(read_sweep(uri, name)))

    def trials(self) -> "pd.DataFrame":
        """One row a trial: state, figures with the numbers of samples behind them, settings (see `trials_table`)."""
        return trials_table(self.record)

    def front(self) -> list[TrialRecord]:
        """The complete, feasible, finite trials that no other such trial dominates, best first objective first."""
        return self.record.front

    def hypervolume(self) -> float:
        """Of the front, against the declared reference point; higher is better."""
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
        """Choose one trial, in exactly one way.

        Members of the front are compared by their final figures where all of them have some, else by the search's.

        Args:
            trial: this one, whether it is on the front or not.
            knee: the front's member where giving way in one objective stops paying in the others.
            best_score: the front's member with the least combined score.
            max: upper bounds by name of the metric: the best score among the members that keep them.
            min: lower bounds likewise; both may be given.

        Raises:
            UserError: none or several ways were asked for; there is no such trial, no figure of it or no front; a
                bound is on no metric, or is no number; no member of the front keeps the bounds.
        """
        asked = [trial is not None, knee, best_score, bool(max or min)]
        if sum(asked) != 1:
            raise UserError(f"choose by exactly one of: {WAYS}")
        if trial is not None:
            return self._by_number(trial)
        if not self.record.front:
            raise UserError(
                f"the front of {self._name} is empty: no feasible trial is complete; wait, or choose a trial"
            )
        if knee:
            return self._by_knee()
        if best_score:
            return self._by_score()
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
            there_are = f"no trial {number}; its trials are 0 to {last}" if last >= 0 else "no trials yet"
            raise UserError(f"{self._name} has {there_are}")
        if found.report is None:
            raise UserError(f"trial {number} of {self._name} is {found.state} and was never evaluated; choose another")
        return Selection(found, f"Trial {number} was asked for; {self._standing(found)} ({self._figures(found)}).")

    def _standing(self, trial: TrialRecord) -> str:
        """Where a trial is in respect of the front."""
        if trial in self.record.front:
            return "it is on the front"
        if trial not in self.record.complete:
            return f"it is {trial.state}, so it is not on the front"
        if not self.record.is_feasible(trial):
            return "it breaks a constraint, so it is not on the front"
        if not np.isfinite(self.record.losses([trial.metrics])).all():
            return "its figures are not finite, so it is not on the front"
        return f"it is not on the front, where trial {self._dominating(trial)} is better"

    def _dominating(self, trial: TrialRecord) -> int:
        losses = self.record.losses([trial.metrics, *(member.metrics for member in self.record.front)])
        better = [bool((row <= losses[0]).all()) for row in losses[1:]]
        return self.record.front[better.index(True)].number

    def _by_knee(self) -> Selection:
        chosen, count = self.record.knee(), len(self.record.front)
        first = self.record.space.objectives[0].metric
        reasons = {
            1: "it alone is on the front",
            2: f"the front has two ends and no bend, and this is better in {first}",
        }
        reason = reasons.get(count, f"of the {count} on the front it lies farthest below the line between the ends")
        return Selection(chosen, f"Trial {chosen.number} is the knee: {reason} ({self._figures(chosen)}).")

    def _by_score(self) -> Selection:
        front = self.record.front
        chosen = self.record.best(front)
        score = self.record.front_score(chosen)
        return Selection(
            chosen,
            f"Trial {chosen.number} has the best combined score, {score:.3f}, of the {len(front)} on the front "
            f"({self._figures(chosen)}).",
        )

    def _by_bounds(self, bounds: Sequence[Bound]) -> Selection:
        front, words = self.record.front, " and ".join(map(_in_words, bounds))
        excess = [objectives.violation(self._report(trial).metrics, bounds) for trial in front]
        kept = [trial for trial, beyond in zip(front, excess, strict=True) if beyond == 0]
        if not kept:
            nearest = front[int(np.argmin(excess))]
            figures = self._figures(nearest, [bound.metric for bound in bounds])
            raise UserError(
                f"no trial on the front of {self._name} has {words}; the nearest is trial {nearest.number} ({figures})"
            )
        chosen = self.record.best(kept)
        return Selection(
            chosen,
            f"Trial {chosen.number} has the best combined score, {self.record.front_score(chosen):.3f}, of the "
            f"{len(kept)} on the front with {words} ({self._figures(chosen)}).",
        )

    def _bound(self, metric: str, side: Literal["max", "min"], value: float) -> Bound:
        known = sorted(self._report(self.record.front[0]).metrics)
        if metric not in known:
            raise UserError(f"{self._name} has no metric {metric!r}{advice(metric, known)}")
        try:
            return Bound.model_validate({"metric": metric, side: value})
        except ValidationError as error:
            raise UserError(f"{side} of {metric}: {error.errors()[0]['msg']}") from error

    def _report(self, trial: TrialRecord) -> Report:
        """The figures by which an evaluated trial is spoken of."""
        figures = self.record.front_figures.get(trial.number, trial.report)
        assert figures is not None
        return figures

    def _figures(self, trial: TrialRecord, names: Sequence[str] = ()) -> str:
        """Some metrics (the objectives, if none are named) and the numbers of samples behind them."""
        report = self._report(trial)
        names = names or [objective.metric for objective in self.record.space.objectives]
        values = ", ".join(f"{name} {report.metrics[name]:.4g}" for name in dict.fromkeys(names))
        samples = " and ".join(f"{count:,} {name}" for name, count in report.samples.items())
        return f"{values} on {samples} samples"


def _in_words(bound: Bound) -> str:
    return (
        f"{bound.metric} at most {bound.max:g}" if bound.max is not None else f"{bound.metric} at least {bound.min:g}"
    )
