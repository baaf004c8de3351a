"""Gaussian processes of a sweep's figures over settings and training steps, and the improvement that they expect.

The expected hypervolume improvement is that of Daulton et al. (NeurIPS 2020), its logarithm that of Ament et al.
(NeurIPS 2023); both are BoTorch's.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from botorch.acquisition.multi_objective.logei import qLogExpectedHypervolumeImprovement
from botorch.acquisition.multi_objective.objective import GenericMCMultiOutputObjective
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.kernels.categorical import CategoricalKernel
from botorch.sampling import SobolQMCNormalSampler
from botorch.utils.multi_objective.box_decompositions import FastNondominatedPartitioning
from gpytorch.constraints import GreaterThan
from gpytorch.kernels import Kernel, MaternKernel, ProductKernel, RBFKernel, ScaleKernel
from gpytorch.likelihoods import GaussianLikelihood
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.priors import LogNormalPrior
from numpy.typing import NDArray
from optuna.trial import TrialState
from torch import Tensor

from sfd_sweep.config import Bound, SearchSpace
from sfd_sweep.metrics import METRICS, Goal
from sfd_sweep.search.encoding import KnownTrial, Points
from sfd_sweep.search.pareto import front, ranking, to_losses
from sfd_sweep.trial.report import Report

Array = NDArray[np.float64]

DRAWS = 64
"""Draws of the outcome of a candidate."""
ITERATIONS = 40
"""Iterations of L-BFGS in fitting the model, at most."""
LEAST_NOISE, USUAL_NOISE = 1e-4, 1e-2
"""Variance of the noise of figures with a variance of 1: the least, and what is usual where the error is not stated."""
MOST_TRIALS = 200
"""Trials that the model is fitted to at most."""
RUNGS = 3
"""Reports of a trial that the model is fitted to at most."""
CHUNK = 256
"""Candidates whose improvement is computed at a time."""


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
        deviation = float(even.std()) or 1.0
        middle = float(np.median(values))
        high, low = _even(name, np.array([middle + error, middle]))
        return cls(name, float(even.mean()), deviation, float(high - low) / deviation)

    def modeled(self, values: Array) -> Array:
        """Return values of the metric as the model sees them."""
        result: Array = (_even(self.name, values) - self.mean) / self.deviation
        return result

    def original(self, modeled: Tensor) -> Tensor:
        """Invert `modeled`."""
        even = modeled * self.deviation + self.mean
        return even if METRICS[self.name].scale.is_bounded else even.expm1()


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
        errors: dict[str, float] = {}
        for name, error in [
            *((part.metric, part.error) for part in space.objectives),
            *((part.metric, part.error) for part in space.constraints),
        ]:
            errors[name] = max(errors.get(name, 0.0), error)
        rows = _rows(space, trials, tuple(errors))
        values = np.array([row.values for row in rows])
        self._figures = [
            Figure.of(name, values[:, column], error) for column, (name, error) in enumerate(errors.items())
        ]
        points = np.array([[*row.point, self._place(row.step)] for row in rows])
        self._model = self._fitted(points, self._modeled(values))
        self._expect_running()

    def expected(self, points: Points) -> list[dict[str, float]]:
        """Return the expected figures at the full number of steps, shape (n, columns) of points."""
        with torch.no_grad(), _quiet():
            mean = self._model.posterior(self._at_the_end(points)).mean
        columns = [figure.original(mean[:, column]).tolist() for column, figure in enumerate(self._figures)]
        names = [figure.name for figure in self._figures]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

    def best_trials(self, count: int) -> list[int]:
        """Return the indices of the trials whose settings promise the most at the full number of steps."""
        expected = self.expected(np.array([trial.point for trial in self._trials]))
        return ranking(expected, self._space.objectives, self._space.constraints)[:count]

    def log_improvement(self, points: Points) -> Array:
        """Return the logarithm of the expected hypervolume improvement of trials with these settings, shape (n,)."""
        at_the_end = self._at_the_end(points)
        with torch.no_grad(), _quiet():
            parts = [self._acquisition(part.unsqueeze(1)) for part in at_the_end.split(CHUNK)]
        return torch.cat(parts).double().numpy().copy()

    def _place(self, step: int) -> float:
        """Return the place of a step between the first evaluation and the last, from 0 to 1, in the logarithm."""
        first, last = self._space.trial.milestones()[0], self._space.trial.steps
        return 1.0 if first == last else math.log(step / first) / math.log(last / first)

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
        if len(self._space.trial.milestones()) > 1:
            parts.append(RBFKernel(active_dims=[columns], batch_shape=batch))
        return ScaleKernel(ProductKernel(*parts), batch_shape=batch)

    def _expect_running(self) -> None:
        """Add the expected ends of running trials to the data, and to the front."""
        complete = [trial.reports[-1].metrics for trial in self._trials if trial.state is TrialState.COMPLETE]
        running = [trial.point for trial in self._trials if trial.state is TrialState.RUNNING]
        if running:
            points = np.array(running)
            expected = self.expected(points)
            complete.extend(expected)
            values = np.array([[each[figure.name] for figure in self._figures] for each in expected])
            (x,), y = self._model.train_inputs, self._model.train_targets
            added = torch.from_numpy(self._modeled(values)).T
            more = (
                self._at_the_end(points).expand(len(self._figures), -1, -1)
                if x.dim() == 3
                else self._at_the_end(points)
            )
            self._model.set_train_data(torch.cat([x, more], dim=-2), torch.cat([y, added], dim=-1), strict=False)
        self._acquisition = self._improvement(complete)

    def _improvement(self, ended: Sequence[Mapping[str, float]]) -> qLogExpectedHypervolumeImprovement:
        objectives = self._space.objectives
        members = [ended[index] for index in front(ended, objectives, self._space.constraints)]
        (reference,) = -to_losses([{part.metric: part.reference_point for part in objectives}], objectives)
        outcomes = torch.from_numpy(-to_losses(members, objectives))
        return qLogExpectedHypervolumeImprovement(
            self._model,
            ref_point=torch.from_numpy(reference.copy()),
            partitioning=FastNondominatedPartitioning(torch.from_numpy(reference.copy()), outcomes),
            sampler=SobolQMCNormalSampler(torch.Size([DRAWS]), seed=self._seed),
            objective=GenericMCMultiOutputObjective(self._outcomes),
            constraints=[each for part in self._space.constraints for each in self._bounds(part)] or None,
        )

    def _outcomes(self, draws: Tensor, X: Tensor | None = None) -> Tensor:  # noqa: ARG002, N803
        """Return the objectives of draws from the model, of which higher is better."""
        by_name = {figure.name: (column, figure) for column, figure in enumerate(self._figures)}
        outcomes = []
        for part in self._space.objectives:
            column, figure = by_name[part.metric]
            value = figure.original(draws[..., column])
            outcomes.append(-value if part.goal is Goal.MINIMIZE else value)
        return torch.stack(outcomes, dim=-1)

    def _bounds(self, bound: Bound) -> list[Callable[[Tensor], Tensor]]:
        """Return what is at most 0 for draws from the model within a bound."""
        (column,) = (column for column, figure in enumerate(self._figures) if figure.name == bound.metric)
        figure = self._figures[column]
        found: list[Callable[[Tensor], Tensor]] = []
        if bound.max is not None:
            (highest,) = figure.modeled(np.array([bound.max])).tolist()
            found.append(lambda draws: draws[..., column] - highest)
        if bound.min is not None:
            (lowest,) = figure.modeled(np.array([bound.min])).tolist()
            found.append(lambda draws: lowest - draws[..., column])
        return found


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
