"""Settings as points: every searched parameter has a column, which models and candidates share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import TrialState

from sfd_sweep.config import CategoricalDistribution, Distribution, FloatDistribution, IntDistribution, SearchSpace
from sfd_sweep.config.parameters import drawing_order
from sfd_sweep.trial.report import Report

Points = NDArray[np.float64]

CENTER = 0.5
"""Where the number is that a trial does not draw."""


@dataclass(frozen=True)
class KnownTrial:
    """What a model knows of a trial.

    Attributes:
        point: its settings, shape (columns,).
        state: of the trial.
        reports: by step.
    """

    point: NDArray[np.float64]
    state: TrialState
    reports: tuple[Report, ...]

    def finite_reports(self, metrics: Iterable[str]) -> list[Report]:
        """Return the reports in which some metrics are finite."""
        names = list(metrics)
        return [report for report in self.reports if all(math.isfinite(report.metrics[name]) for name in names)]


class SettingsEncoding:
    """Maps what a trial draws to a point and back.

    A number has its place between the ends of its range, from 0 to 1, on the logarithm's scale if that is uniform. A
    choice has its index. What is not drawn, because its condition does not hold, is at the center, or is a further
    choice.

    Attributes:
        choices: number of values of each categorical column, by its index.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._searched = space.parameters.searched()
        columns = {name: column for column, name in enumerate(self._searched)}
        self._order = [(name, columns[name]) for name in drawing_order(self._searched)]
        self.choices = {
            column: len(part.choices) + 1
            for column, part in enumerate(self._searched.values())
            if isinstance(part, CategoricalDistribution)
        }

    @property
    def columns(self) -> int:
        """Number of columns."""
        return len(self._searched)

    def encode(self, drawn: Sequence[Mapping[str, Any]]) -> Points:
        """Return the points of some trials' parameters, shape (n, columns)."""
        rows = [[_place(values.get(name), part) for name, part in self._searched.items()] for values in drawn]
        return np.array(rows, dtype=np.float64).reshape(len(rows), self.columns)

    def decode(self, cube: Points) -> list[dict[str, Any]]:
        """Return what trials draw at points of the unit cube, which each choice has an equal share of."""
        return [self._drawn(row) for row in cube]

    def to_cube(self, points: Points) -> Points:
        """Return points of the unit cube that `decode` takes back to these points."""
        cube = points.copy()
        for column, count in self.choices.items():
            cube[:, column] = (np.minimum(points[:, column], count - 2) + 0.5) / (count - 1)
        return cube

    def _drawn(self, row: NDArray[np.float64]) -> dict[str, Any]:
        drawn: dict[str, Any] = {}
        values: dict[str, Any] = {}
        for name, column in self._order:
            part = self._searched[name]
            if part.applies(values):
                drawn[name] = _value(float(row[column]), part)
            values[name] = drawn.get(name, part.otherwise)
        return drawn


def _place(value: Any, part: Distribution) -> float:
    match part:
        case CategoricalDistribution(choices=choices):
            known = list(map(repr, choices))  # 1, 1.0 and true are different choices
            return float(known.index(repr(value)) if repr(value) in known else len(known))
        case FloatDistribution() | IntDistribution():
            if value is None or part.high == part.low:
                return CENTER
            low, high, here = (np.log(edge) if part.log else edge for edge in (part.low, part.high, value))
            return float((here - low) / (high - low))


def _value(place: float, part: Distribution) -> Any:
    place = min(max(place, 0.0), 1.0)
    match part:
        case CategoricalDistribution(choices=choices):
            return choices[min(int(place * len(choices)), len(choices) - 1)]
        case FloatDistribution(low=low, high=high, log=log, step=step):
            value = low * (high / low) ** place if log else low + place * (high - low)
            if step is not None:
                value = low + step * round((value - low) / step)
                value = value - step if value > high + step * 1e-8 else value
            return float(min(max(value, low), high))
        case IntDistribution(low=low, high=high, log=log, step=step):
            value = low * (high / low) ** place if log else low + place * (high - low)
            return low + step * min(round((value - low) / step), (high - low) // step)
