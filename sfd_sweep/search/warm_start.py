"""Trials of earlier sweeps that a new one starts from: which can be compared with its own, and why others cannot."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sfd_sweep.config import CategoricalDistribution, Distribution, FloatDistribution, IntDistribution, SearchSpace
from sfd_sweep.config.parameters import same
from sfd_sweep.errors import UserError
from sfd_sweep.metrics import ReferenceKind
from sfd_sweep.search.records import SweepRecord, TrialRecord
from sfd_sweep.tracking.reader import read_family
from sfd_sweep.trial.report import TrialState


@dataclass(frozen=True)
class WarmStartTrial:
    """A complete trial of an earlier sweep, in the words of the new one.

    Attributes:
        source: the sweep's name and the trial's number.
        drawn: values of the new sweep's searched parameters whose condition holds, by name.
        metrics: its last figures.
        same_seed: whether it had the seed of the new sweep's trials, so that one with its settings would be the same.
    """

    source: str
    drawn: dict[str, Any]
    metrics: dict[str, float]
    same_seed: bool


@dataclass(frozen=True)
class WarmStart:
    """What a sweep takes over from earlier ones.

    Attributes:
        taken: numbers of trials, by the sweep that they come from.
        left_out: numbers of trials, by the reason.
    """

    trials: tuple[WarmStartTrial, ...] = ()
    taken: tuple[tuple[str, int], ...] = ()
    left_out: tuple[tuple[str, int], ...] = ()

    def in_words(self) -> list[str]:
        """A line on what was taken over, and one on what was left out."""
        lines = [("taken over from earlier sweeps", self.taken), ("left out", self.left_out)]
        return [f"{what}: {', '.join(f'{count} {name}' for name, count in counts)}" for what, counts in lines if counts]


def find_warm_start(space: SearchSpace) -> WarmStart:
    """The trials that `search.warm_start` names, looked up in the sweep's tracking store.

    Raises:
        UserError: the store has no sweep or experiment of a name, or no sweep there can be compared with this one.
    """
    trials: dict[str, WarmStartTrial] = {}
    taken, left_out = Counter[str](), Counter[str]()
    for name in space.search.warm_start:
        for record in _comparable_sweeps(space, name, left_out):
            for trial in record.trials:
                if trial.run_id not in trials:
                    found = _translate(space, record, trial)
                    if isinstance(found, WarmStartTrial):
                        trials[trial.run_id] = found
                        taken[f"of {record.summary.name}"] += 1
                    else:
                        left_out[found] += 1
            taken.setdefault(f"of {record.summary.name}", 0)
    return WarmStart(tuple(trials.values()), tuple(taken.items()), tuple(left_out.most_common()))


def _comparable_sweeps(space: SearchSpace, name: str, left_out: Counter[str]) -> list[SweepRecord]:
    """The sweeps of that name, or in the experiment of that name, whose figures mean what this sweep's do."""
    records = read_family(space.tracking.uri, name)
    reasons = {record.summary.name: next(_differences(space, record.space), None) for record in records}
    comparable = [record for record in records if reasons[record.summary.name] is None]
    if not comparable:
        reason = reasons[records[0].summary.name]
        raise UserError(f"search.warm_start: {name}: {reason}, so its figures cannot be compared; remove it")
    for record in records:
        if reason := reasons[record.summary.name]:
            left_out[f"of {record.summary.name} ({reason})"] += len(record.trials)
    return comparable


def _differences(space: SearchSpace, earlier: SearchSpace) -> Iterator[str]:
    """What makes the figures of two sweeps differ besides settings and chance, in words."""
    here, there = _what_figures_rest_on(space), _what_figures_rest_on(earlier)
    for name, value in here.items():
        if value != there[name]:
            yield f"its {name} is {_shown(there[name])} and not {_shown(value)}"


def _what_figures_rest_on(space: SearchSpace) -> dict[str, Any]:
    task, evaluation = space.task, space.evaluation
    of_teacher = evaluation.reference_kind is ReferenceKind.TEACHER
    return {
        **{f"task.{name}": value for name, value in task},
        "trial.steps": space.trial.steps,
        **{
            f"evaluation.{name}": getattr(evaluation, name)
            for name in ("samples", "forget_samples", "classifier", "reference")
        },
        "evaluation.teacher_samples": evaluation.teacher_samples if of_teacher else None,
        "evaluation.inception.mode": evaluation.inception.mode if space.wants_inception else None,
    }


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _translate(space: SearchSpace, record: SweepRecord, trial: TrialRecord) -> WarmStartTrial | str:
    """The trial in the new sweep's words, or why it is left out."""
    wanted = [objective.metric for objective in space.objectives] + [bound.metric for bound in space.constraints]
    if trial.state is not TrialState.COMPLETE or trial.report is None:
        return "not complete"
    for metric in wanted:
        if not math.isfinite(trial.metrics.get(metric, math.nan)):
            return f"without a finite {metric}"
    drawn = _draw_again(space, dict(trial.settings))
    if isinstance(drawn, str):
        return f"with a {drawn} that this sweep does not try"
    return WarmStartTrial(
        source=f"trial {trial.number} of {record.summary.name}",
        drawn=drawn,
        metrics={metric: trial.metrics[metric] for metric in wanted},
        same_seed=record.space.trial.seed == space.trial.seed,
    )


def _draw_again(space: SearchSpace, settings: Mapping[str, Any]) -> dict[str, Any] | str:
    """What the new sweep would have to draw for these settings, or the name of one that it never has."""
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
    """The value that the distribution draws for a setting's; None if there is none."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return next((choice for choice in choices if same(choice, value)), None)
        case IntDistribution() if isinstance(value, float) and value.is_integer():
            value = int(value)
        case FloatDistribution() if isinstance(value, int):
            value = float(value)
    return value if distribution.contains(value) else None
