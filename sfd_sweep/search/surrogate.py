"""Gaussian processes of a sweep's figures over settings and training steps, and the improvement that they expect.

The improvement is exact: the space that the front leaves is divided into boxes, and the expectation over each box is a
product over independent objectives (Yang et al., J. Glob. Optim. 75, 2019).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
import torch
from botorch.exceptions import ModelFittingError
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.kernels.categorical import CategoricalKernel
from botorch.utils.multi_objective.box_decompositions import FastNondominatedPartitioning
from gpytorch.constraints import GreaterThan
from gpytorch.kernels import Kernel, MaternKernel, ProductKernel, RBFKernel, ScaleKernel
from gpytorch.likelihoods import GaussianLikelihood
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.priors import LogNormalPrior
from numpy.typing import NDArray
from optuna.trial import TrialState
from scipy.stats import norm
from torch import Tensor

from sfd_sweep.config import Bound, SearchSpace
from sfd_sweep.metrics import METRICS, Goal
from sfd_sweep.metrics.definition import Scale
from sfd_sweep.search.encoding import KnownTrial, Points
from sfd_sweep.search.pareto import front, ranking, to_losses
from sfd_sweep.search.uncertainty import stated_errors
from sfd_sweep.trial.report import Report

Array = NDArray[np.float64]

ITERATIONS = 30
"""Iterations of L-BFGS in fitting the model, at most."""
LEAST_NOISE, USUAL_NOISE = 1e-4, 1e-2
"""Variance of the noise of figures with a variance of 1: the least, and what is usual where the error is not stated."""
MOST_TRIALS = 200
"""Trials that the model is fitted to at most."""
RUNGS = 3
"""Reports of a trial that the model is fitted to at most."""
MOST_FITTED = 128
"""Evaluations that lengths and noise are fitted to at most."""
CHUNK = 512
"""Points whose outcome is computed at a time."""
LEAST_VARIANCE = 1e-10
"""Least variance of a predicted figure, of figures with a variance of 1."""
LEAST_DEVIATION = 1e-9
"""Standard deviation of a figure on its even scale below which it counts as constant."""
LEAST_LOSS = -1 + 1e-9
"""Least end of a box on the scale of log1p, below which no loss is."""


@dataclass(frozen=True)
class Figure:
    """A metric of the sweep as the model sees it: on its even scale (`Scale.transform`), with mean 0 and variance 1.

    Attributes:
        name: of the metric.
        mean: on the even scale.
        deviation: on the even scale.
        error: stated error of one evaluation, as the model sees it.
    """

    name: str
    mean: float
    deviation: float
    error: float

    @classmethod
    def of(cls, name: str, values: Array, error: float) -> Figure:
        """Return the figure of a metric with some finite values and a stated error."""
        even = _even(name, values)
        deviation = float(even.std())
        if deviation < LEAST_DEVIATION:  # the same everywhere, but for rounding
            deviation = 1.0
        middle = float(np.median(values))
        high, low = _even(name, np.array([middle + error, middle]))
        return cls(name, float(even.mean()), deviation, float(high - low) / deviation)

    def modeled(self, values: Array) -> Array:
        """Return values of the metric as the model sees them."""
        result: Array = (_even(self.name, values) - self.mean) / self.deviation
        return result

    def original(self, modeled: Array) -> Array:
        """Invert `modeled`."""
        even: Array = modeled * self.deviation + self.mean
        return even if METRICS[self.name].scale.is_bounded else np.expm1(even)


def _even(name: str, values: Array) -> Array:
    """Return values on the even scale of their metric (`Scale.transform`)."""
    return values if METRICS[name].scale.is_bounded else np.log1p(values)


class Surrogate:
    """Independent Gaussian processes of all figures that the search depends on.

    The covariance of two evaluations is a Matérn kernel (ν = 5/2) of their settings, with a length for each parameter,
    times a kernel of their numbers of steps. Failed trials count as evaluations with the worst known figures.

    Args:
        space: the sweep.
        choices: number of values of each categorical column of points.
        trials: at least one of which has a finite report.
        seed: of random draws.
    """

    def __init__(self, space: SearchSpace, choices: Mapping[int, int], trials: Sequence[KnownTrial], seed: int) -> None:
        self._space = space
        self._choices = choices
        self._trials = trials
        self._seed = seed
        errors = stated_errors(space.objectives, space.constraints)
        rows = _rows(space, trials, tuple(errors))
        values = np.array([row.values for row in rows])
        self._figures = [
            Figure.of(name, values[:, column], error) for column, (name, error) in enumerate(errors.items())
        ]
        self._first = min(space.trial.milestones()[0], *(row.step for row in rows))
        points = np.array([[*row.point, self._place(row.step)] for row in rows])
        modeled, fitted = self._modeled(values), self._to_fit(len(rows))
        self._model = self._fitted(points[fitted], modeled[fitted])
        others = np.setdiff1d(np.arange(len(rows)), fitted)
        self._condition(torch.from_numpy(points[others]), modeled[others])
        self._expect_running()

    def expected(self, points: Points) -> list[dict[str, float]]:
        """Return the expected figures at the full number of steps, shape (n, columns) of points."""
        mean, _ = self._marginals(points)
        columns = [figure.original(mean[:, column]).tolist() for column, figure in enumerate(self._figures)]
        names = [figure.name for figure in self._figures]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

    def best_trials(self, count: int) -> list[int]:
        """Return the indices of the trials whose settings promise the most at the full number of steps."""
        expected = self.expected(np.array([trial.point for trial in self._trials]))
        return ranking(expected, self._space.objectives, self._space.constraints)[:count]

    def improvement(self, points: Points) -> Array:
        """Return the expected hypervolume improvement of trials with these settings at the full number of steps.

        Improvements count where the constraints hold. Figures are taken to be independent.

        Args:
            points: shape (n, columns).

        Returns:
            Shape (n,).
        """
        marginals = [self._marginals(part) for part in np.array_split(points, math.ceil(len(points) / CHUNK))]
        mean, deviation = (np.concatenate(parts) for parts in zip(*marginals, strict=True))
        chance = np.ones(len(points))
        for bound in self._space.constraints:
            chance *= self._outcome(bound.metric, mean, deviation).within(bound)
        outcomes = [self._outcome(part.metric, mean, deviation) for part in self._space.objectives]
        signs = [1.0 if part.goal is Goal.MINIMIZE else -1.0 for part in self._space.objectives]
        gained = np.ones((len(points), len(self._cells)))
        for column, (outcome, sign) in enumerate(zip(outcomes, signs, strict=True)):
            ends = self._cells[:, column]
            gained *= outcome.mean_below(ends[:, 1], sign) - outcome.mean_below(ends[:, 0], sign)
        result: Array = np.maximum(gained.sum(axis=1), 0) * chance
        return result

    def _to_fit(self, rows: int) -> NDArray[np.intp]:
        """Return the rows that lengths and noise are fitted to; all rows count in the posterior."""
        if rows <= MOST_FITTED:
            return np.arange(rows)
        return np.sort(np.random.default_rng(self._seed).choice(rows, MOST_FITTED, replace=False))

    def _place(self, step: int) -> float:
        """Return the place of a step between the first evaluation and the last, from 0 to 1, in the logarithm."""
        last = self._space.trial.steps
        return 1.0 if self._first == last else math.log(step / self._first) / math.log(last / self._first)

    def _modeled(self, values: Array) -> Array:
        columns = [figure.modeled(values[:, column]) for column, figure in enumerate(self._figures)]
        return np.stack(columns, axis=1)

    def _at_the_end(self, points: Points) -> Tensor:
        return torch.from_numpy(np.hstack([points, np.ones((len(points), 1))]))

    def _fitted(self, points: Array, values: Array) -> SingleTaskGP:
        x, y = torch.from_numpy(points), torch.from_numpy(values)
        stated = torch.tensor([[max(USUAL_NOISE, (figure.error / 2) ** 2)] for figure in self._figures])
        likelihood = GaussianLikelihood(
            noise_prior=LogNormalPrior(stated.double().log(), 1.0),
            noise_constraint=GreaterThan(LEAST_NOISE, initial_value=USUAL_NOISE),
            batch_shape=torch.Size([len(self._figures)]),
        )
        with _quiet():
            model = SingleTaskGP(x, y, likelihood=likelihood, covar_module=self._kernel(), outcome_transform=None)
            with suppress(ModelFittingError):  # the lengths and the noise then stay those of the priors
                fit_gpytorch_mll(
                    ExactMarginalLogLikelihood(model.likelihood, model),
                    optimizer_kwargs={"options": {"maxiter": ITERATIONS}},
                )
        return model.eval()

    def _kernel(self) -> Kernel:
        columns, batch = len(self._trials[0].point), torch.Size([len(self._figures)])
        numbers = [column for column in range(columns) if column not in self._choices]
        parts: list[Kernel] = []
        if numbers:
            prior = LogNormalPrior(math.sqrt(2) + math.log(len(numbers)) / 2, math.sqrt(3))
            parts.append(
                MaternKernel(
                    2.5, ard_num_dims=len(numbers), active_dims=numbers, batch_shape=batch, lengthscale_prior=prior
                )
            )
        if self._choices:
            dims = list(self._choices)
            parts.append(CategoricalKernel(ard_num_dims=len(dims), active_dims=dims, batch_shape=batch))
        if self._first < self._space.trial.steps:
            parts.append(RBFKernel(active_dims=[columns], batch_shape=batch))
        return ScaleKernel(ProductKernel(*parts), batch_shape=batch)

    def _expect_running(self) -> None:
        """Add the expected ends of running trials to the data, and to the front."""
        complete = [trial.reports[-1].metrics for trial in self._trials if trial.state is TrialState.COMPLETE]
        running = [trial.point for trial in self._trials if trial.state is TrialState.RUNNING]
        if running:
            expected = self.expected(np.array(running))
            values = np.array([[each[figure.name] for figure in self._figures] for each in expected])
            self._condition(self._at_the_end(np.array(running)), self._modeled(values))
            complete.extend(expected)
        self._cells = self._front_cells(complete)

    def _condition(self, points: Tensor, values: Array) -> None:
        """Add evaluations to the data, without fitting the model anew."""
        (x,), y = self._model.train_inputs, self._model.train_targets
        more = points.expand(*x.shape[:-2], -1, -1)
        added = torch.from_numpy(values).T.reshape(*y.shape[:-1], -1)
        self._model.set_train_data(torch.cat([x, more], dim=-2), torch.cat([y, added], dim=-1), strict=False)

    def _front_cells(self, ended: Sequence[Mapping[str, float]]) -> Array:
        """Return boxes of losses that together are what the front leaves below the reference point.

        Returns:
            Lower and upper ends, shape (cells, objectives, 2); lower ends may be -inf.
        """
        objectives = self._space.objectives
        members = [ended[index] for index in front(ended, objectives, self._space.constraints)]
        reference = to_losses([{part.metric: part.reference_point for part in objectives}], objectives)
        losses = to_losses(members, objectives)
        partitioning = FastNondominatedPartitioning(torch.from_numpy(-reference[0]), torch.from_numpy(-losses))
        lower, upper = partitioning.get_hypercell_bounds().numpy()
        return np.stack([-upper, -lower], axis=2)

    def _marginals(self, points: Points) -> tuple[Array, Array]:
        """Return mean and standard deviation of each modeled figure at the full number of steps, shape (n, figures)."""
        with torch.no_grad(), _quiet():
            posterior = self._model.posterior(self._at_the_end(points))
            deviation = posterior.variance.clamp_min(LEAST_VARIANCE).sqrt()
        shape = (len(points), len(self._figures))
        return posterior.mean.reshape(shape).numpy(), deviation.reshape(shape).numpy()

    def _outcome(self, name: str, mean: Array, deviation: Array) -> _Outcome:
        """Return the distribution of a metric on its even scale."""
        (column,) = (column for column, figure in enumerate(self._figures) if figure.name == name)
        figure = self._figures[column]
        even_mean = mean[:, column] * figure.deviation + figure.mean
        return _Outcome(even_mean, deviation[:, column] * figure.deviation, METRICS[name].scale)


@dataclass(frozen=True)
class _Outcome:
    """Normal distributions of a metric on its even scale, shape (n,) each."""

    mean: Array
    deviation: Array
    scale: Scale

    def within(self, bound: Bound) -> Array:
        """Return the probabilities to be within a bound."""
        chance = np.ones_like(self.mean)
        if bound.max is not None:
            chance = norm.cdf((self.scale.transform(bound.max) - self.mean) / self.deviation)
        if bound.min is not None:
            chance = chance - norm.cdf((self.scale.transform(bound.min) - self.mean) / self.deviation)
        result: Array = np.maximum(chance, 0)
        return result

    def mean_below(self, ends: Array, sign: float) -> Array:
        """Return E[max(0, end - loss)], where the loss is the metric times the sign; shape (n, ends).

        For a normal loss this is the improvement of Jones et al. (J. Glob. Optim. 13, 1998), for a log-normal one the
        formula of Black and Scholes.
        """
        mean, deviation = self.mean[:, None], self.deviation[:, None]
        end = np.where(np.isfinite(ends), ends, 0.0)
        if self.scale.is_bounded:
            z = (end - sign * mean) / deviation
            found = deviation * (z * norm.cdf(z) + norm.pdf(z))
        else:
            z = (np.log1p(np.maximum(end, LEAST_LOSS)) - mean) / deviation
            found = (end + 1) * norm.cdf(z) - np.exp(mean + deviation**2 / 2) * norm.cdf(z - deviation)
        return np.where(np.isfinite(ends), found, 0.0)


@dataclass(frozen=True)
class _Row:
    """An evaluation that the model is fitted to."""

    point: Array
    step: int
    values: tuple[float, ...]


def _rows(space: SearchSpace, trials: Sequence[KnownTrial], names: Sequence[str]) -> list[_Row]:
    """Return the evaluations that the model is fitted to: some of the most informative trials', and failed trials."""
    reported = [(trial, reports) for trial in trials if (reports := trial.finite_reports(names))]
    last = [reports[-1].metrics for _, reports in reported]
    chosen = _informative(ranking(last, space.objectives, space.constraints))
    rows = [
        _Row(trial.point, report.step, tuple(report.metrics[name] for name in names))
        for trial, reports in (reported[index] for index in chosen)
        for report in _rungs(reports)
    ]
    worst = tuple(_worst(space, name, [row.values[column] for row in rows]) for column, name in enumerate(names))
    failed = [trial for trial in trials if trial.state is TrialState.FAIL][-MOST_TRIALS:]
    return rows + [_Row(trial.point, space.trial.steps, worst) for trial in failed]


def _informative(order: Sequence[int]) -> list[int]:
    """Return the indices of the best trials and of the latest ones, `MOST_TRIALS` at most."""
    if len(order) <= MOST_TRIALS:
        return sorted(order)
    best = set(order[: MOST_TRIALS // 2])
    latest = [index for index in sorted(order) if index not in best][-MOST_TRIALS // 2 :]
    return sorted([*best, *latest])


def _rungs(reports: Sequence[Report]) -> list[Report]:
    """Return the last report, and earlier ones at half the steps each, `RUNGS` at most."""
    found: list[Report] = []
    for report in reversed(reports):
        if not found or report.step <= found[-1].step / 2:
            found.append(report)
    return found[:RUNGS]


def _worst(space: SearchSpace, name: str, values: Sequence[float]) -> float:
    """Return the worst of some values of a metric for the search."""
    highest = [part.goal is Goal.MINIMIZE for part in space.objectives if part.metric == name]
    highest += [part.max is not None for part in space.constraints if part.metric == name]
    return max(values) if highest[0] else min(values)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what BoTorch and GPyTorch warn of and handle themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
