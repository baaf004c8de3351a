"""Comparison of sweeps, or of parts of one: hypervolume, best values, and cost, each as quartiles over seeds.

Imports no MLflow.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from math import inf, isfinite

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfd_sweep.config import Bound, Objective, SelectionBounds
from sfd_sweep.errors import UserError
from sfd_sweep.metrics import Goal, samples_in_words
from sfd_sweep.search import grouping
from sfd_sweep.search.attainment import attainment_surface
from sfd_sweep.search.comparable import (
    ClassNames,
    check_judged_alike,
    common_bounds,
    common_objectives,
    without_finals,
)
from sfd_sweep.search.grouping import Group, group
from sfd_sweep.search.pareto import Losses
from sfd_sweep.search.records import SweepRecord, SweepState
from sfd_sweep.search.scores import violation

QUARTERS = (0.25, 0.5, 0.75)
ROUNDING = 1e-9
"""Share by which a hypervolume may miss another one that it equals."""
LONGEST_VALUES = 60
"""Characters of the values of a key that remarks show."""
SET_ASIDE = "Final figures are set aside, as not every group's front has been evaluated finally."


@dataclass(frozen=True)
class Quartiles:
    """The median and both quartiles over the runs of a group; infinite where too few runs have a value."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: ArrayLike) -> "Quartiles":
        """Return the quartiles of at least one value, interpolated linearly between neighbors."""
        ordered = np.asarray(values, dtype=np.float64)
        below, above = (np.quantile(ordered, QUARTERS, method=side) for side in ("lower", "higher"))
        shares = np.array(QUARTERS) * (len(ordered) - 1) % 1
        with np.errstate(invalid="ignore"):  # inf - inf, where both neighbors are infinite
            between = below + (above - below) * shares
        return cls(*map(float, np.where(below == above, below, between)))


@dataclass(frozen=True)
class Progress:
    """The hypervolume of a run after each of its trials had ended, by the figures of its search.

    Attributes:
        seconds: of slots, summed over the trials so far.
        steps: summed likewise.
        hypervolume: of the complete trials so far.
    """

    seconds: NDArray[np.float64]
    steps: NDArray[np.float64]
    hypervolume: NDArray[np.float64]

    @property
    def last(self) -> float:
        """The hypervolume after all trials; 0 if none has ended."""
        return float(self.hypervolume[-1]) if len(self.hypervolume) else 0.0

    def cost(self, of: NDArray[np.float64], target: float) -> float:
        """Return seconds or steps until a hypervolume was reached; infinite if it was not."""
        (reached,) = np.nonzero(self.hypervolume >= target * (1 - ROUNDING))
        return float(of[reached[0]]) if len(reached) else inf


@dataclass(frozen=True)
class Comparison:
    """Groups of sweeps, or of their parts, that were judged alike.

    Attributes:
        by: what they are compared by; None: everything but seeds.
        groups: each with its repetitions; their search spaces have the common `objectives`.
        objectives: with the common reference point.
        bounds: within which best values are found.
        is_final: whether final figures are compared; else those of the search.
        sets_finals_aside: whether there are final figures that are not compared, as not all fronts have them.
    """

    by: str | None
    groups: tuple[Group, ...]
    objectives: tuple[Objective, ...]
    bounds: tuple[Bound, ...]
    is_final: bool
    sets_finals_aside: bool = False

    @property
    def names(self) -> list[str]:
        """Names of the sweeps, each once."""
        return list(dict.fromkeys(run.summary.name for part in self.groups for run in part.runs))

    def hypervolumes(self, part: Group) -> list[float]:
        """Return the hypervolume of each run of a group."""
        return [run.hypervolume() for run in part.runs]

    def fronts(self, part: Group) -> list[Losses]:
        """Return the losses of each run's front, within the reference point."""
        reference = self.reference
        found = [run.losses([run.figures(trial).metrics for trial in run.front]) for run in part.runs]
        return [losses[(losses < reference).all(axis=1)] for losses in found]

    def surface(self, part: Group, pair: tuple[int, int], share: float) -> Losses:
        """Return what a share of a group's runs attains in a pair of objectives, whatever the others are."""
        return attainment_surface([front[:, list(pair)] for front in self.fronts(part)], share)

    def surface_values(self, part: Group, pair: tuple[int, int], share: float) -> NDArray[np.float64]:
        """Return `surface` as values of the two metrics, in place of losses."""
        values: NDArray[np.float64] = self.surface(part, pair, share) * self.signs[list(pair)]
        return values

    @property
    def signs(self) -> NDArray[np.float64]:
        """What turns the losses of each objective into values of its metric: 1, or -1 where that is maximized."""
        return np.array([-1.0 if part.goal is Goal.MAXIMIZE else 1.0 for part in self.objectives])

    @property
    def reference(self) -> NDArray[np.float64]:
        """The common reference point as losses."""
        run = self.groups[0].runs[0]
        point: NDArray[np.float64] = run.losses([{part.metric: part.reference_point for part in self.objectives}])[0]
        return point

    def best(self, part: Group, objective: Objective) -> Quartiles:
        """Return the quartiles of a group's best values of an objective within the bounds of other metrics.

        A run without a trial within them counts as infinitely bad.
        """
        sign = -1.0 if objective.goal is Goal.MAXIMIZE else 1.0
        bounds = [bound for bound in self.bounds if bound.metric != objective.metric]
        found = Quartiles.of([self._best_loss(run, objective.metric, sign, bounds) for run in part.runs])
        return found if sign > 0 else Quartiles(-found.high, -found.median, -found.low)

    def _best_loss(self, run: SweepRecord, metric: str, sign: float, bounds: Sequence[Bound]) -> float:
        judged = run.searched_front if self.is_final else run.complete
        figures = [run.figures(trial).metrics for trial in judged if run.is_feasible(trial)]
        within = [each[metric] for each in figures if isfinite(each[metric]) and violation(each, bounds) == 0]
        return min((sign * value for value in within), default=inf)

    def progress(self, part: Group) -> list[Progress]:
        """Return the progress of each run of a group."""
        return [self._progress[id(run)] for run in part.runs]

    @cached_property
    def _progress(self) -> dict[int, Progress]:
        return {id(run): _progress(run) for part in self.groups for run in part.runs}

    @cached_property
    def target(self) -> float:
        """The highest hypervolume that more than half of the runs of every group have reached, by their searches."""
        ends = [[progress.last for progress in self.progress(part)] for part in self.groups]
        return min(float(np.quantile(values, 0.5, method="lower")) for values in ends)

    def seconds_to_target(self, part: Group) -> Quartiles:
        """Return the slot seconds of a group's runs until they had reached the target."""
        return Quartiles.of([found.cost(found.seconds, self.target) for found in self.progress(part)])

    def steps_to_target(self, part: Group) -> Quartiles:
        """Return the steps of a group's runs, summed over trials, until they had reached the target."""
        return Quartiles.of([found.cost(found.steps, self.target) for found in self.progress(part)])

    def differences(self) -> dict[str, list[str]]:
        """Return what else differs between the groups, by key, with a value for each group."""
        return grouping.differences(self.groups, self.by)

    def figures_in_words(self) -> str:
        """Return which figures are compared, and on how many samples."""
        kind = "final figures" if self.is_final else "figures of the search"
        runs = [run for part in self.groups for run in part.runs if run.searched_front]
        counts = [run.figures(run.searched_front[0]).samples for run in runs]
        return f"{kind} on {samples_in_words(counts[0])}" if counts else kind

    def remarks(self) -> list[str]:
        """Return what a reader of the figures must know, a sentence each."""
        point = ", ".join(f"{part.metric} {part.reference_point:g}" for part in self.objectives)
        bounds = " and ".join(bound.in_words() for bound in self.bounds)
        unfinished = {run.summary.name: run.summary.state for part in self.groups for run in part.runs}
        sentences = [
            f"By {self.figures_in_words()}; hypervolume against the reference point {point}.",
            f"Best values are those of trials with {bounds}; a metric's own bound does not count." if bounds else "",
            SET_ASIDE if self.sets_finals_aside else "",
            self._target_in_words(),
            self._differences_in_words(),
            *(f"{name} is {state}." for name, state in unfinished.items() if state is not SweepState.COMPLETE),
        ]
        return list(filter(None, sentences))

    def _target_in_words(self) -> str:
        if self.target <= 0:
            return "There is no cost to compare: half of the runs of a group have a hypervolume of 0."
        return (
            f"Cost is counted until a hypervolume of {self.target:.4g} by the search's own figures, the highest that "
            "more than half of the runs of every group have reached."
        )

    def _differences_in_words(self) -> str:
        told = [_with_values(key, values) for key, values in self.differences().items()]
        return f"The groups {'also ' if self.by else ''}differ in {', '.join(told)}." if told else ""


def compare_records(
    records: Sequence[SweepRecord],
    class_names: ClassNames,
    *,
    by: str | None = None,
    bounds: SelectionBounds | None = None,
) -> Comparison:
    """Return a comparison of recorded sweeps.

    Final figures are compared where sweeps have them. Groups are parts of sweeps where a parameter makes them; if the
    front of one of these was not evaluated finally as a whole, figures of the search are compared.

    Args:
        records: the sweeps, at least one.
        class_names: from a teacher's source to the names of its classes; asked only if teachers differ.
        by: a parameter, or a key of the search space as `section.key`; None: everything but seeds.
        bounds: within which best values are found; None: the files' `selection`.

    Raises:
        UserError: the sweeps were not judged alike, cannot be grouped so, or one has no complete trial.
    """
    for record in records:
        if not record.complete:
            raise UserError(f"{record.summary.name} has no complete trial yet, so there is nothing to compare")
    within = common_bounds(records, bounds)
    check_judged_alike(records, within, class_names, by=by)
    objectives = common_objectives(records)
    groups = [_with_objectives(part, objectives) for part in group(records, by)]
    judged = [run.is_judged for part in groups for run in part.runs if run.searched_front]
    is_final = bool(judged) and all(judged)
    sets_aside = not is_final and any(trial.final for record in records for trial in record.trials)
    if not is_final:
        groups = [replace(part, runs=tuple(map(without_finals, part.runs))) for part in groups]
    return Comparison(by, tuple(groups), objectives, within, is_final, sets_aside)


def _with_objectives(part: Group, objectives: tuple[Objective, ...]) -> Group:
    return replace(
        part,
        runs=tuple(replace(run, space=run.space.model_copy(update={"objectives": objectives})) for run in part.runs),
    )


def _progress(run: SweepRecord) -> Progress:
    ended = [trial for trial in run.trials if trial.run.ended]
    ended.sort(key=lambda trial: (trial.run.ended, trial.number))
    volumes = run.hypervolumes()
    reached = accumulate((volumes.get(trial.number, 0.0) for trial in ended), max)  # more trials never take from it
    return Progress(
        seconds=np.cumsum([trial.run.slot_hours * 3600 for trial in ended]),
        steps=np.cumsum([trial.report.step if trial.report else 0 for trial in ended]),
        hypervolume=np.array(list(reached)),
    )


def _with_values(key: str, values: Sequence[str]) -> str:
    told = " or ".join(dict.fromkeys(values))
    return f"{key} ({told})" if len(told) <= LONGEST_VALUES else key
