"""Warm start: which trials of earlier sweeps can be compared with a new sweep's, and why others cannot."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from typing import Any

from sfd_sweep.config import CategoricalDistribution, Distribution, FloatDistribution, IntDistribution, SearchSpace
from sfd_sweep.config.parameters import same
from sfd_sweep.errors import UserError
from sfd_sweep.metrics import Need
from sfd_sweep.search.judging import in_words, judging
from sfd_sweep.search.records import SweepRecord
from sfd_sweep.search.trial import Trial
from sfd_sweep.trial.report import TrialState


@dataclass(frozen=True)
class EarlierTrial:
    """A complete trial of an earlier sweep that a new one takes over.

    Attributes:
        trial: the trial; `searched` has the values of the new sweep's searched parameters whose condition holds.
        sweep: name of the earlier sweep.
        same_seed: whether it had the seed of the new sweep's trials, so that one with its settings would be the same.
    """

    trial: Trial
    sweep: str
    same_seed: bool

    @property
    def source(self) -> str:
        """Number and sweep, in words."""
        return f"trial {self.trial.number} of {self.sweep}"


@dataclass(frozen=True)
class WarmStart:
    """The trials that a sweep takes over from earlier ones.

    Attributes:
        trials: those that are taken over.
        taken: their counts, by the sweep that they come from.
        left_out: counts of the others, by the reason.
    """

    trials: tuple[EarlierTrial, ...] = ()
    taken: tuple[tuple[str, int], ...] = ()
    left_out: tuple[tuple[str, int], ...] = ()

    def in_words(self) -> list[str]:
        """Return a line on what was taken over, and one on what was left out."""
        lines = [("taken over from earlier sweeps", self.taken), ("left out", self.left_out)]
        return [f"{what}: {', '.join(f'{count} {name}' for name, count in counts)}" for what, counts in lines if counts]


ReadFamily = Callable[[str | None, str], list[SweepRecord]]
"""Like `tracking.reader.read_family`: from a tracking URI and a name to recorded sweeps."""


def find_warm_start(space: SearchSpace, read_family: ReadFamily) -> WarmStart:
    """Return the trials that `search.warm_start` names, read from the sweep's tracking store.

    Raises:
        UserError: the store has no sweep or experiment of a name, or no sweep there can be compared with this one.
    """
    trials: dict[str, EarlierTrial] = {}
    taken, left_out = Counter[str](), Counter[str]()
    for name in space.search.warm_start:
        for record in _comparable_sweeps(space, name, read_family(space.tracking.uri, name), left_out):
            for trial in record.trials:
                if trial.run.run_id not in trials:
                    found = _translate(space, record, trial)
                    if isinstance(found, EarlierTrial):
                        trials[trial.run.run_id] = found
                        taken[f"of {record.summary.name}"] += 1
                    else:
                        left_out[found] += 1
            taken.setdefault(f"of {record.summary.name}", 0)
    return WarmStart(tuple(trials.values()), tuple(taken.items()), tuple(left_out.most_common()))


def _comparable_sweeps(
    space: SearchSpace, name: str, records: list[SweepRecord], left_out: Counter[str]
) -> list[SweepRecord]:
    """Return the sweeps of a name whose metrics can be compared, and count the trials of the others."""
    reasons = {record.summary.name: next(_differences(space, record.space), None) for record in records}
    comparable = [record for record in records if reasons[record.summary.name] is None]
    if not comparable:
        reason = reasons[records[0].summary.name]
        raise UserError(f"search.warm_start: {name}: {reason}, so its metrics cannot be compared; remove it")
    for record in records:
        if reason := reasons[record.summary.name]:
            left_out[f"of {record.summary.name} ({reason})"] += len(record.trials)
    return comparable


def _differences(space: SearchSpace, earlier: SearchSpace) -> Iterator[str]:
    """Yield what makes the metrics of two sweeps differ besides settings and seeds, in words."""
    here, there = (_comparison_key(each, space.asked_needs) for each in (space, earlier))
    for name, value in here.items():
        if value != there[name]:
            yield f"its {name} is {in_words(there[name])} and not {in_words(value)}"


def _comparison_key(space: SearchSpace, needs: Set[Need]) -> dict[str, Any]:
    task = {f"task.{name}": value for name, value in space.task}
    length = {f"trial.{name}": getattr(space.trial, name) for name in ("steps", "step_cost")}
    return {**task, **length, **judging(space, needs)}


def _translate(space: SearchSpace, record: SweepRecord, trial: Trial) -> EarlierTrial | str:
    """Return the trial with the new sweep's searched parameters, or why it is left out."""
    if trial.state is not TrialState.COMPLETE or trial.report is None:
        return "not complete"
    for metric in [part.metric for part in space.objectives] + [part.metric for part in space.constraints]:
        if not math.isfinite(trial.metrics.get(metric, math.nan)):
            return f"without a finite {metric}"
    drawn = _draw_again(space, dict(trial.settings))
    if isinstance(drawn, str):
        return f"with a {drawn} that this sweep does not try"
    same_seed = record.space.trial.seed == space.trial.seed
    return EarlierTrial(replace(trial, searched=drawn), record.summary.name, same_seed)


def _draw_again(space: SearchSpace, settings: Mapping[str, Any]) -> dict[str, Any] | str:
    """Return what the new sweep would have to draw for these settings, or the name of one that it never has."""
    drawn: dict[str, Any] = {}

    def suggest(name: str, distribution: Distribution) -> Any:
        drawn[name] = _as_drawn(distribution, settings[name])
        return drawn[name]

    space.parameters.draw(suggest)
    if outside := [name for name, value in drawn.items() if value is None]:
        return outside[0]
    resolved = space.parameters.settings(drawn)
    return next((name for name, value in resolved if not same(value, settings[name])), drawn)


def _as_drawn(distribution: Distribution, value: Any) -> Any:
    """Return the value that the distribution would draw for a setting; None if there is none."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return next((choice for choice in choices if same(choice, value)), None)
        case IntDistribution() if isinstance(value, float) and value.is_integer():
            value = int(value)
        case FloatDistribution() if isinstance(value, int):
            value = float(value)
    return value if distribution.contains(value) else None
